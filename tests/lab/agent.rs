//! The real service in a node: its binary, its configuration file, its notifications.

use super::namespace::text;
use super::{DEADLINE, Namespace};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

/// The files of one service, all under `/run/lab` of its node, which nobody else sees.
pub struct Agent<'lab> {
    node: &'lab Namespace,
    binary: String,
}

const CONFIG: &str = "/run/lab/config.yaml";
const CONFIG_D: &str = "/run/lab/config.d";
const LOG: &str = "/run/lab/log";
const NOTIFY: &str = "/run/lab/notify";
const RUNTIME: &str = "/run/lab/runtime";
const STATE: &str = "/run/lab/state";

impl<'lab> Agent<'lab> {
    /// A service in a node with a configuration; not started. `binary` is an absolute path.
    pub fn new(node: &'lab Namespace, binary: &str, config: &str) -> Self {
        let make = || [CONFIG_D, RUNTIME, STATE].iter().try_for_each(fs::create_dir_all);
        node.enter(make).unwrap_or_else(|error| panic!("{}: directories of the service: {error}", node.name));
        let agent = Agent { node, binary: binary.to_owned() };
        agent.configure(config);
        agent
    }

    /// Writes the configuration file.
    pub fn configure(&self, config: &str) {
        self.node
            .enter(|| fs::write(CONFIG, config))
            .unwrap_or_else(|error| panic!("{}: {CONFIG}: {error}", self.node.name));
    }

    /// Writes a file into `config.d`.
    pub fn add_file(&self, name: &str, text: &str) {
        self.node
            .enter(|| fs::write(format!("{CONFIG_D}/{name}"), text))
            .unwrap_or_else(|error| panic!("{}: {CONFIG_D}/{name}: {error}", self.node.name));
    }

    /// The path of the configuration file, inside the node.
    pub fn config_path(&self) -> &'static str {
        CONFIG
    }

    /// Runs one of its commands to the end: `agent.command("explain", &["192.0.2.1"])`.
    pub fn command(&self, command: &str, arguments: &[&str]) -> Output {
        self.node
            .enter(|| self.prepare(command, arguments).stdin(Stdio::null()).output())
            .unwrap_or_else(|error| panic!("{}: {} {command}: {error}", self.node.name, self.binary))
    }

    /// The same when it must succeed; returns its standard output.
    pub fn must(&self, command: &str, arguments: &[&str]) -> String {
        self.attempt(command, arguments).unwrap_or_else(|failure| panic!("{}: {failure}", self.node.name))
    }

    /// The same when it should succeed: its standard output, or what it said instead.
    pub fn attempt(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(command, arguments);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() {
            return Ok(out);
        }
        Err(format!("{command} {arguments:?}: {}: {out}{said}", output.status))
    }

    /// Writes the configuration, applies it once and leaves the rules in.
    pub fn apply(&self, config: &str) {
        self.configure(config);
        self.must("run", &["--once"]);
    }

    /// Starts the service and waits until it is ready.
    pub fn start(&self) -> Running<'_> {
        let open = || -> io::Result<(UnixDatagram, Child)> {
            let _ = fs::remove_file(NOTIFY);
            let notify = UnixDatagram::bind(NOTIFY)?;
            notify.set_read_timeout(Some(DEADLINE))?;
            let child = self
                .prepare("run", &[])
                .env("NOTIFY_SOCKET", NOTIFY)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(LOG)?)
                .spawn()?;
            Ok((notify, child))
        };
        let (notify, child) = self.node.enter(open).unwrap_or_else(|error| panic!("{}: {error}", self.binary));
        let mut running = Running { agent: self, notify, child };
        running.wait_for("READY=1");
        running
    }

    fn prepare(&self, command: &str, arguments: &[&str]) -> Command {
        let mut prepared = Command::new(&self.binary);
        prepared
            .arg(command)
            .args(["--config", CONFIG, "--config-dir", CONFIG_D])
            .args(arguments)
            .env_clear()
            .env("PATH", ip_masq_agent::host::child::PATH)
            .env("RUNTIME_DIRECTORY", RUNTIME)
            .env("STATE_DIRECTORY", STATE);
        prepared
    }
}

/// A service that runs. Dropping it stops it.
pub struct Running<'agent> {
    agent: &'agent Agent<'agent>,
    notify: UnixDatagram,
    child: Child,
}

impl Running<'_> {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a notification that has this line, and returns the whole notification.
    pub fn wait_for(&mut self, line: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            let Ok(length) = self.notify.recv(&mut buffer) else { break };
            let notification = text(&buffer[..length]);
            if notification.lines().any(|found| found == line) {
                return notification;
            }
        }
        panic!("{}: no {line} within {DEADLINE:?}; it says:\n{}", self.agent.binary, self.log());
    }

    /// Everything it wrote on standard error so far.
    pub fn log(&self) -> String {
        self.agent.node.enter(|| fs::read_to_string(LOG)).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {signal:?} to {pid:?}: {error}"));
    }

    /// Stops it as systemd does, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for("STOPPING=1");
        self.child.wait().expect("a child that can be waited for")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Already waited for by `stop`: then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
