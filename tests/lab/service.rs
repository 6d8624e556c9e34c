//! The service as a process: what it tells systemd, what it writes, how it ends.

use super::{DEADLINE, Namespace};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

const NOTIFY: &str = "/run/notify";

/// The running service. Dropping it kills it.
pub struct Service {
    pub child: Child,
    /// Where systemd would listen.
    pub notify: UnixDatagram,
    lines: Receiver<String>,
    /// What it wrote on standard error, as far as a test has read it.
    pub log: Vec<String>,
}

impl Service {
    /// Starts a program as the service of a node, with a socket to notify; it may or may not become ready.
    pub fn start(node: &Namespace, mut command: Command) -> Self {
        let (notify, mut child) = node.enter(|| {
            let _ = fs::remove_file(NOTIFY);
            let notify = UnixDatagram::bind(NOTIFY).unwrap();
            notify.set_read_timeout(Some(DEADLINE)).unwrap();
            command.env("NOTIFY_SOCKET", NOTIFY).stdin(Stdio::null()).stdout(Stdio::null());
            (notify, command.stderr(Stdio::piped()).spawn().unwrap())
        });
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Service { child, notify, lines, log: Vec::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next notification.
    pub fn notification(&self) -> Option<String> {
        let mut buffer = [0; 8192];
        let length = loop {
            match self.notify.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.ok()?,
            }
        };
        Some(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }

    /// Reads notifications up to the first that begins like this; returns all of them but WATCHDOG=1.
    pub fn wait_for(&mut self, start: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(notification) = self.notification() {
            if notification == "WATCHDOG=1" && start != "WATCHDOG=1" {
                continue;
            }
            seen.push(notification);
            if seen.last().is_some_and(|last| last.starts_with(start)) {
                return seen;
            }
        }
        panic!("no '{start}', but {seen:?}; the log: {:#?}", self.whole_log());
    }

    /// Reads the log up to the first line with this in it, and returns it.
    pub fn wait_for_log(&mut self, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.log.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("no '{part}' in the log: {:#?}", self.log);
    }

    /// True once there is a line with this in the log.
    pub fn log_has(&mut self, part: &str) -> bool {
        self.whole_log().iter().any(|line| line.contains(part))
    }

    /// Everything it wrote on standard error so far.
    pub fn whole_log(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; the rest of its log is in `log` then.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        // The pipe closes when the process ends.
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.log.push(line);
        }
        assert!(Instant::now() < end, "it does not end: {:#?}", self.log);
        self.child.wait().unwrap()
    }

    /// Stops it as systemd does.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Every notification that is still unread.
    pub fn unread(&self) -> Vec<String> {
        self.notify.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.notification()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both do nothing after `wait`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
