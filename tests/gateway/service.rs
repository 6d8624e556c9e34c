//! The real service in a node of its own, with everything it says in reach of the test.

pub use crate::lab::Service;

use crate::lab::{DEADLINE, Namespace};
use ip_masq_agent::sys::nfnetlink::Nfnetlink;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

pub const CONFIG: &str = "/run/test/config.yaml";
pub const RUNTIME: &str = "/run/test/runtime";
pub const STATE: &str = "/run/test/state";
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

/// False of commands that the running service answers, who has been told.
pub fn takes_files(arguments: &[&str]) -> bool {
    !arguments.first().is_some_and(|command| ["reload", "status", "try", "confirm"].contains(command))
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
        command.args(arguments);
        if takes_files(arguments) {
            command.args(["--config", CONFIG]);
        }
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
    pub fn start_as(&self, command: Command) -> Service {
        Service::start(&self.node, command)
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

    /// Waits until something is so.
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is_so() {
            assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
            std::thread::yield_now();
        }
    }

    /// How often the nf_tables rule set was committed to.
    pub fn generation(&self) -> u32 {
        self.node.enter(|| Nfnetlink::open().and_then(|mut socket| socket.generation())).unwrap()
    }
}

pub fn environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", ip_masq_agent::sys::child::PATH)
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
