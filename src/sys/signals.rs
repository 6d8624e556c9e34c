//! Signals as something to poll.

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals that mean something to us, with handlers and not with a blocked mask: children would inherit the mask
/// and ignore SIGTERM. A handler is forgotten at exec. SIGPIPE is ignored by Rust's runtime, which resets it in children.
#[derive(Debug)]
pub struct Signals {
    readable: OwnedFd,
    hangup: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP
    Sighup,
    /// SIGTERM or SIGINT
    Sigterm,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> io::Result<Self> {
        let (readable, writable) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let signals = Signals { readable, hangup: Arc::default(), terminate: Arc::default() };
        flag::register(SIGHUP, Arc::clone(&signals.hangup))?;
        flag::register(SIGTERM, Arc::clone(&signals.terminate))?;
        flag::register(SIGINT, Arc::clone(&signals.terminate))?;
        for signal in [SIGHUP, SIGTERM, SIGINT, SIGCHLD] {
            pipe::register_raw(signal, writable.try_clone()?)?;
        }
        Ok(signals)
    }

    /// What came since the last time; a stop goes before a reload.
    pub fn take(&self) -> Vec<Signal> {
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(&self.readable, &mut buffer), Ok(1..)) {}
        let mut signals = Vec::new();
        if self.terminate.swap(false, Ordering::SeqCst) {
            signals.push(Signal::Sigterm);
        }
        if self.hangup.swap(false, Ordering::SeqCst) {
            signals.push(Signal::Sighup);
        }
        signals
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}
