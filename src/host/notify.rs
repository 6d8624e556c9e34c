//! What systemd is told (sd_notify(3)).

use crate::agent::Notification;
use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// How often systemd wants to hear WATCHDOG=1; `None` when it does not, or when WATCHDOG_PID is another process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Sends one notification; does nothing when nobody listens. NOTIFY_SOCKET stays in our environment, which no child
/// inherits.
///
/// # Errors
/// When the socket can't be written to.
pub fn send(notification: &Notification) -> io::Result<()> {
    match notification {
        Notification::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // One datagram: systemd 253 and later want both together.
        Notification::Reloading => sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        Notification::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Notification::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
        Notification::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        Notification::ExtendTimeout(time) => {
            let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)])
        }
    }
}
