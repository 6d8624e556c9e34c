//! The bare name: on a terminal it is a question, without one it is the service.

use crate::lab::{DEADLINE, Namespace, Service, possible, text};
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");

#[test]
fn the_bare_name_on_a_terminal_prints_help_and_changes_nothing() {
    if !possible() {
        return;
    }
    let node = Namespace::new("terminal").unwrap();
    let seconds = DEADLINE.as_secs().to_string();
    let output = node.run("timeout", &[&seconds, "script", "--quiet", "--return", "--command", BINARY, "/dev/null"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("Usage: ip-masq-agent"), "{said}");
    assert_eq!(node.must("nft", &["list", "ruleset"]), "");
}

#[test]
fn the_bare_name_without_a_terminal_is_the_service() {
    if !possible() {
        return;
    }
    let node = Namespace::new("service").unwrap();
    let mut command = Command::new(BINARY);
    command
        .env_clear()
        .env("PATH", ip_masq_agent::sys::child::PATH)
        .env("RUNTIME_DIRECTORY", "/run/runtime")
        .env("STATE_DIRECTORY", "/run/state");
    node.must("mkdir", &["/run/runtime", "/run/state"]);
    let mut service = Service::start(&node, command);
    service.wait_for("READY=1");
    assert!(service.stop().success());
}
