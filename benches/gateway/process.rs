//! What a program takes, its children included: time and memory.
//!
//! The kernel hands the peak memory of a process on to the next program that it becomes (`ru_maxrss`, getrusage(2)), so
//! a program started from here would begin with the memory of this benchmark. This executable is therefore
//! started again as a small process that starts the program and measures it.

use super::lab::Namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

/// The first argument of this executable when it is to measure a program.
pub const FLAG: &str = "--measure-process";

/// How often memory is looked at.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// What one run of a program took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// From its start to its end, milliseconds.
    pub ms: f64,
    /// The most memory at once, in MB (10⁶ bytes): the larger of what the kernel says of the largest process, and of
    /// the sum of all its processes as seen every other millisecond.
    pub peak_mb: f64,
}

/// Runs a program in a node with a file as its standard input; it must succeed.
pub fn run(node: &Namespace, input: &str, command: &[&str]) -> Cost {
    let output = node.enter(|| {
        let this = std::env::current_exe()?;
        Command::new(this).arg(FLAG).arg(input).args(command).env("PATH", ip_masq_agent::sys::child::PATH).output()
    });
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [ms, peak_mb] = numbers[..] else { panic!("{command:?}: '{text}' is no measurement") };
    Cost { ms, peak_mb }
}

/// The other side of [`run`]: the arguments are the input and the command.
pub fn measure(arguments: &[String]) -> ExitCode {
    let [input, program, rest @ ..] = arguments else { return ExitCode::FAILURE };
    match watch(input, program, rest) {
        Ok(Cost { ms, peak_mb }) => {
            println!("{ms} {peak_mb}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn watch(input: &str, program: &str, arguments: &[String]) -> io::Result<Cost> {
    let start = Instant::now();
    let child = Command::new(program).args(arguments).stdin(File::open(input)?).stdout(Stdio::null()).spawn()?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let mut seen = 0;
    while poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&INTERVAL))? == 0 {
        seen = seen.max(resident(child.id(), None));
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let largest = reap(&child)?;
    Ok(Cost { ms, peak_mb: seen.max(largest) as f64 / 1e6 })
}

/// Bytes that a process and its children have in memory; 0 for one that has ended.
///
/// A child that still is the same program as its parent has only been forked, and shares its parent's memory.
fn resident(process: u32, parent: Option<&Path>) -> u64 {
    let program = fs::read_link(format!("/proc/{process}/exe")).ok();
    if program.is_none() || program.as_deref() == parent {
        return 0;
    }
    // proc(5): the second field counts pages.
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: u64 = pages.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|word| word.parse().ok());
    let of_children: u64 = children.map(|child| resident(child, program.as_deref())).sum();
    pages * rustix::param::page_size() as u64 + of_children
}

/// Waits for the child; the bytes of the largest process among it and its children.
fn reap(child: &Child) -> io::Result<u64> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type; nobody else waits for this child.
    let reaped = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    if reaped < 0 {
        return Err(io::Error::last_os_error());
    }
    if status != 0 {
        return Err(io::Error::other(format!("it failed, wait status {status}")));
    }
    Ok(usage.ru_maxrss as u64 * 1024)
}
