//! The real service in a node: its binary, its configuration file, its notifications.

use super::namespace::text;
use super::{Namespace, Service};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The files of one service, all under `/run/lab` of its node, which nobody else sees.
pub struct Agent<'lab> {
    node: &'lab Namespace,
    binary: String,
}

const CONFIG: &str = "/run/lab/config.yaml";
const CONFIG_D: &str = "/run/lab/config.d";
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

    /// Removes it again.
    pub fn remove_file(&self, name: &str) {
        self.node
            .enter(|| fs::remove_file(format!("{CONFIG_D}/{name}")))
            .unwrap_or_else(|error| panic!("{}: {CONFIG_D}/{name}: {error}", self.node.name));
    }

    /// The path of the configuration file, inside the node.
    pub fn config_path(&self) -> &'static str {
        CONFIG
    }

    /// Its runtime directory, inside the node.
    pub fn runtime(&self) -> &'static Path {
        Path::new(RUNTIME)
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
    pub fn start(&self) -> Service {
        let mut service = Service::start(self.node, self.prepare("run", &[]));
        service.wait_for("READY=1");
        service
    }

    /// A command of the program, with the environment of the service and nothing else.
    pub fn prepare(&self, command: &str, arguments: &[&str]) -> Command {
        // To these the running service answers, who has been told.
        let asks = ["reload", "status", "try", "confirm"].contains(&command);
        let places: &[&str] = if asks { &[] } else { &["--config", CONFIG, "--config-dir", CONFIG_D] };
        let mut prepared = Command::new(&self.binary);
        prepared
            .arg(command)
            .args(places)
            .args(arguments)
            .env_clear()
            .env("PATH", ip_masq_agent::sys::child::PATH)
            .env("RUNTIME_DIRECTORY", RUNTIME)
            .env("STATE_DIRECTORY", STATE);
        prepared
    }
}
