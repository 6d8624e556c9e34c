//! A network namespace of a test's own. A test thread enters it, and the programs it starts inherit it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

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
    let (_, output) = spawn(program, arguments, input);
    succeeded(program, arguments, &output);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program that must fail; returns its complaint.
pub fn fail(program: &str, arguments: &[&str], input: &str) -> String {
    let (_, output) = spawn(program, arguments, input);
    assert_eq!(output.status.code(), Some(1), "{program} {arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Loads a script with `nft -f -`; returns the process id it had.
pub fn nft(script: &str) -> u32 {
    let arguments = ["-f", "-"];
    let (pid, output) = spawn("nft", &arguments, script);
    succeeded("nft", &arguments, &output);
    pid
}

fn succeeded(program: &str, arguments: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {stderr}", output.status);
}

fn spawn(program: &str, arguments: &[&str], input: &str) -> (u32, Output) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let pid = child.id();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    (pid, child.wait_with_output().unwrap())
}
