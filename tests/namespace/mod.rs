//! A network namespace of a test's own. A test thread enters it, and the programs it starts inherit it.

use std::io::Write;
use std::process::{Command, Stdio};

/// Puts the calling thread into a fresh network namespace, or returns from the test with a SKIP that fails under CI.
macro_rules! enter {
    () => {
        if !crate::namespace::entered() {
            return;
        }
    };
}
pub(crate) use enter;

pub fn entered() -> bool {
    // SAFETY: a network namespace has no part in memory safety; descriptors stay shared between the threads.
    match unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) } {
        Ok(()) => true,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "a network namespace of our own: {error}");
            eprintln!("SKIP: a network namespace of our own: {error}");
            false
        }
    }
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> String {
    spawn(program, arguments, input).1
}

/// Loads a script with `nft -f -`; returns the process id it had.
pub fn nft(script: &str) -> u32 {
    spawn("nft", &["-f", "-"], script).0
}

fn spawn(program: &str, arguments: &[&str], input: &str) -> (u32, String) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let pid = child.id();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {stderr}", output.status);
    (pid, String::from_utf8(output.stdout).unwrap())
}
