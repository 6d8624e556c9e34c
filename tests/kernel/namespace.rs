//! A network namespace of a test's own. A test thread enters it, and the programs it starts inherit it.

use crate::lab;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

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
            lab::skip(&format!("a network namespace of our own: {error}"));
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

/// Another host: a thread in a network namespace of its own that runs programs until it is dropped.
pub struct Host {
    id: u32,
    commands: Option<mpsc::Sender<(String, mpsc::Sender<bool>)>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Host {
    /// Call it from a thread that has entered a namespace.
    pub fn new() -> Self {
        let (commands, inbox) = mpsc::channel::<(String, mpsc::Sender<bool>)>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            assert!(entered());
            tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
            for (line, answer) in inbox {
                let mut words = line.split(' ');
                let status = Command::new(words.next().unwrap()).args(words).stdout(Stdio::null()).status();
                answer.send(status.unwrap().success()).unwrap();
            }
        });
        Host { id: told.recv().unwrap(), commands: Some(commands), thread: Some(thread) }
    }

    /// A thread id by which `ip link set netns` finds it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Runs a command line; true when it succeeded.
    pub fn try_run(&self, line: &str) -> bool {
        let (answer, answered) = mpsc::channel();
        self.commands.as_ref().unwrap().send((line.to_owned(), answer)).unwrap();
        answered.recv().unwrap()
    }

    /// Runs a command line that must succeed.
    pub fn run(&self, line: &str) {
        assert!(self.try_run(line), "{line}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
