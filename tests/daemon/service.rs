//! The real service in a node of its own, with everything it says in reach of the test.

#![allow(dead_code, reason = "each test uses its own part of it")]

use crate::lab::{DEADLINE, Namespace};
use ip_masq_agent::host::nfnetlink::Nfnetlink;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

pub const CONFIG: &str = "/run/test/config.yaml";
pub const RUNTIME: &str = "/run/test/runtime";
pub const STATE: &str = "/run/test/state";
const NOTIFY: &str = "/run/test/notify";
pub const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");

/// The host of a test, or the end of it where none can be made; that has been said then.
macro_rules! host {
    ($config:expr) => {
        match Host::new($config) {
            Some(host) => host,
            None => return,
        }
    };
}
pub(crate) use host;

/// A host with nothing on it but a configuration.
pub struct Host {
    pub node: Namespace,
}

impl Host {
    /// `None` where no namespace can be made; that has been said then.
    pub fn new(config: &str) -> Option<Self> {
        if !crate::lab::possible() {
            return None;
        }
        let host = Host { node: Namespace::new("host").unwrap() };
        host.node.enter(|| fs::create_dir_all(STATE)).unwrap();
        host.configure(config);
        Some(host)
    }

    pub fn configure(&self, config: &str) {
        self.node.enter(|| fs::write(CONFIG, config)).unwrap();
    }

    /// A command of the program, with the environment of the service and nothing else.
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--config", CONFIG]);
        environment(&mut command);
        command
    }

    /// Runs a command of the program to its end.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        let output = self.node.enter(|| self.prepare(arguments).stdin(Stdio::null()).output()).unwrap();
        output.into()
    }

    /// Starts the service; it may or may not become ready.
    pub fn start(&self) -> Service {
        self.start_as(self.prepare(&["run"]))
    }

    /// Starts a program as the service.
    pub fn start_as(&self, mut command: Command) -> Service {
        let (notify, mut child) = self.node.enter(|| {
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

    /// Starts the service and waits until it is ready.
    pub fn ready(&self) -> Service {
        let mut service = self.start();
        service.wait_for("READY=1");
        service
    }

    /// The nat table as iptables prints it, without counters.
    pub fn rules(&self) -> String {
        self.node.must("iptables-nft", &["-t", "nat", "-S"])
    }

    /// How often the nf_tables rule set was committed to.
    pub fn generation(&self) -> u32 {
        self.node.enter(|| Nfnetlink::open().and_then(|mut socket| socket.generation())).unwrap()
    }
}

pub fn environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", ip_masq_agent::host::child::PATH)
        .env("RUNTIME_DIRECTORY", RUNTIME)
        .env("STATE_DIRECTORY", STATE);
}

/// What a command that ended left.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// The running service. Dropping it kills it.
pub struct Service {
    pub child: Child,
    pub notify: UnixDatagram,
    lines: Receiver<String>,
    pub log: Vec<String>,
}

impl Service {
    /// The next notification.
    pub fn notification(&self) -> Option<String> {
        let mut buffer = [0; 8192];
        let length = self.notify.recv(&mut buffer).ok()?;
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

    fn whole_log(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

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
