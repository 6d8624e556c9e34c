//! What systemd is told (sd_notify(3)), without ever waiting for it.

use crate::agent::Notification;
use crate::text::one_line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// More than can be on their way while systemd reads at all.
const MOST_PENDING: usize = 64;
/// How much time is asked for while a long piece of work goes on: TimeoutStopSec of the unit.
const EXTENSION: Duration = Duration::from_secs(30);
/// How long the last words may take.
const SEND_TIMEOUT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How often systemd wants to hear WATCHDOG=1; `None` when it does not, or when WATCHDOG_PID is another process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Feeds the watchdog while one piece of work goes on that takes long, and gets on; a start, a reload or a stop that waits
/// for it may take longer.
pub fn still_working() {
    let mut notifier = Notifier::open();
    if watchdog().is_some() {
        notifier.send(&Notification::Watchdog);
    }
    notifier.send(&Notification::ExtendTimeout(EXTENSION));
}

/// The notification socket. What it does not take at once waits here, in its order.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    pending: VecDeque<String>,
}

impl Notifier {
    /// The socket that NOTIFY_SOCKET names; one that takes nothing when it names none. The variable stays in our
    /// environment, which no child inherits.
    pub fn open() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        Notifier { socket, pending: VecDeque::new() }
    }

    /// Sends a notification, or keeps it until the socket takes it.
    pub fn send(&mut self, notification: &Notification) {
        let text = datagram(notification);
        let is_old_news = *notification == Notification::Watchdog && self.pending.contains(&text);
        if self.socket.is_none() || is_old_news {
            return;
        }
        // Whoever has not read so many will not miss the first ones.
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(text);
        self.flush();
    }

    /// Sends what is kept, as far as the socket takes it.
    pub fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        while let Some(text) = self.pending.front() {
            match socket.send(text.as_bytes()) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => return,
                // Sent, or gone for good: nobody is there any more.
                _ => _ = self.pending.pop_front(),
            }
        }
    }

    /// What to poll for being writable, while something is kept.
    pub fn pending_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }
}

impl Drop for Notifier {
    /// The last words get a moment, since nobody will send them later.
    fn drop(&mut self) {
        while let Some(fd) = self.pending_fd() {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
            if !matches!(poll(&mut fds, Some(&SEND_TIMEOUT)), Ok(1..)) {
                return;
            }
            self.flush();
        }
    }
}

/// A path, or with a leading `@` a name in the abstract namespace (unix(7)).
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// A newline in a status would begin a state of its own.
fn datagram(notification: &Notification) -> String {
    let status = match notification {
        Notification::Status(line) => one_line(line),
        _ => String::new(),
    };
    let states: &[NotifyState<'_>] = match notification {
        Notification::Ready => &[NotifyState::Ready],
        // One datagram: systemd 253 and later want both together.
        Notification::Reloading => &[NotifyState::Reloading, NotifyState::MonotonicUsec(monotonic_usec())],
        Notification::Stopping => &[NotifyState::Stopping],
        Notification::Status(_) => &[NotifyState::Status(&status)],
        Notification::Watchdog => &[NotifyState::Watchdog],
        Notification::ExtendTimeout(time) => {
            &[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]
        }
    };
    states.iter().map(|state| format!("{state}\n")).collect()
}

/// The crate's own function multiplies the seconds in a `time_t`: where that has 32 bits, it overflows after 36 minutes.
fn monotonic_usec() -> i128 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    i128::from(tv_sec) * 1_000_000 + i128::from(tv_nsec) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Notifier, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Notifier { socket: Some(ours), pending: VecDeque::new() }, theirs)
    }

    fn read(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut read = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            read.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        read
    }

    #[test]
    fn each_notification_is_one_datagram() {
        let (mut notifier, theirs) = pair();
        notifier.send(&Notification::Reloading);
        notifier.send(&Notification::Status("well\nREADY=1".to_owned()));
        notifier.send(&Notification::ExtendTimeout(Duration::from_secs(30)));
        let read = read(&theirs);
        assert!(read[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{read:?}");
        assert_eq!(read[1..], ["STATUS=well READY=1\n", "EXTEND_TIMEOUT_USEC=30000000\n"]);
    }

    #[test]
    fn a_socket_that_is_not_read_is_not_waited_for_and_misses_nothing_that_matters() {
        let (mut notifier, theirs) = pair();
        while notifier.pending.is_empty() {
            notifier.send(&Notification::Watchdog);
        }
        notifier.send(&Notification::Ready);
        assert!(notifier.pending_fd().is_some());
        read(&theirs);
        notifier.flush();
        assert_eq!(read(&theirs), ["WATCHDOG=1\n", "READY=1\n"]);
        assert!(notifier.pending_fd().is_none());
    }

    #[test]
    fn a_socket_that_is_gone_keeps_nothing() {
        let (mut notifier, theirs) = pair();
        drop(theirs);
        notifier.send(&Notification::Ready);
        assert!(notifier.pending.is_empty());
    }
}
