//! One life of the service, from its start to its end: what it told systemd and when, what it wrote, what it holds.

use crate::finding::{Finding, finding};
use crate::lab::{Namespace, Service};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::fs;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often systemd wants to hear WATCHDOG=1 here. Much less than in the unit, so that a silent moment shows whatever
/// the rhythm was: see [`Life::longest_silence`].
const WATCHDOG: Duration = Duration::from_secs(2);
/// Lines of the log that are kept for a message.
const TAIL: usize = 30;

/// What the notification socket heard.
#[derive(Debug)]
struct Heard {
    ready: u32,
    status: String,
    last_ping: Instant,
    longest: Duration,
}

/// A service that runs, or that has just ended.
pub struct Life {
    service: Service,
    heard: Arc<Mutex<Heard>>,
    done: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    /// Bytes on standard error so far.
    pub logged: usize,
    tail: VecDeque<String>,
    /// What it held when it was first found well.
    pub memory_then: Option<u64>,
}

impl Life {
    /// Starts a command in a node.
    pub fn start(node: &Namespace, mut command: Command) -> Self {
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        let service = Service::start(node, command);
        let now = Instant::now();
        let heard = Heard { ready: 0, status: String::new(), last_ping: now, longest: Duration::ZERO };
        let heard = Arc::new(Mutex::new(heard));
        let done = Arc::new(AtomicBool::new(false));
        let socket = service.notify.try_clone().expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let (for_thread, end) = (heard.clone(), done.clone());
        let listener = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while !end.load(Ordering::SeqCst) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    lock(&for_thread).hear(&String::from_utf8_lossy(&buffer[..length]));
                }
            }
        });
        let tail = VecDeque::new();
        Life { service, heard, done, listener: Some(listener), logged: 0, tail, memory_then: None }
    }

    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Sends it a signal; one that is dead already does not mind.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.service.child), signal);
    }

    /// How often it has said READY=1.
    pub fn ready(&self) -> u32 {
        lock(&self.heard).ready
    }

    /// The last STATUS.
    pub fn status(&self) -> String {
        lock(&self.heard).status.clone()
    }

    /// Waits until it has said READY=1 so often.
    pub fn wait_ready(&mut self, times: u32, patience: Duration) -> Result<(), Finding> {
        let end = Instant::now() + patience;
        while self.ready() < times {
            if let Some(status) = self.ended() {
                return Err(finding("ended", format!("{status} before READY=1\n{}", self.tail())));
            }
            if Instant::now() > end {
                return Err(finding("ready", format!("no READY=1 within {patience:?}\n{}", self.tail())));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.service.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, patience: Duration) -> Result<ExitStatus, Finding> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(finding("stop", format!("it has not ended within {patience:?}\n{}", self.tail())));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// The longest time without WATCHDOG=1 beyond the rhythm of the pings, the present one included.
    pub fn longest_silence(&self) -> Duration {
        let heard = lock(&self.heard);
        heard.longest.max(heard.last_ping.elapsed()).saturating_sub(WATCHDOG / 2)
    }

    /// The time until now was none of its own: it was stopped.
    pub fn excuse_silence(&self) {
        lock(&self.heard).last_ping = Instant::now();
    }

    /// Counts what it has written since.
    pub fn read_log(&mut self) {
        for line in std::mem::take({
            self.service.whole_log();
            &mut self.service.log
        }) {
            self.logged += line.len() + 1;
            self.tail.push_back(line);
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
        }
    }

    /// The end of its log, for a message.
    pub fn tail(&mut self) -> String {
        self.read_log();
        self.tail.iter().map(|line| format!("    | {line}\n")).collect()
    }

    /// Its open descriptors: how many.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Memory of its own, in KiB: what is neither shared nor a file (RssAnon of proc_pid_status(5)).
    pub fn memory(&self) -> u64 {
        self.status_field("RssAnon:")
    }

    /// All that is resident, in KiB.
    pub fn resident(&self) -> u64 {
        self.status_field("VmRSS:")
    }

    fn status_field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Processor time that it has used itself.
    pub fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).unwrap_or_default();
        Duration::from_nanos(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0))
    }

    /// Its children: name and state of each.
    pub fn children(&self) -> Vec<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let stat = |child: &str| fs::read_to_string(format!("/proc/{child}/stat")).ok();
        children.split_whitespace().filter_map(stat).map(|stat| stat.chars().take(40).collect()).collect()
    }
}

impl Heard {
    fn hear(&mut self, notification: &str) {
        for line in notification.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => self.ready += 1,
                Some(("STATUS", status)) => self.status = status.to_owned(),
                Some(("WATCHDOG", "1")) => {
                    self.longest = self.longest.max(self.last_ping.elapsed());
                    self.last_ping = Instant::now();
                }
                _ => {}
            }
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
