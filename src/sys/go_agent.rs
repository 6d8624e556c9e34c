//! Go agents that are alive: two agents at one chain would rewrite each other's rules every minute.
//!
//! The unit has no CAP_SYS_PTRACE, and without it neither the executable nor the namespaces of another root process can be
//! read (ptrace(2), "Ptrace access mode checking"). What anybody may read of it, proc(5), has to do; so a process alone
//! stops nobody: the chain that it would keep has to hold what a Go agent writes as well.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A Go agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAgent {
    pub pid: u32,
    pub command: String,
    /// The chain that it keeps.
    pub chain: String,
}

/// `ip-masq-agent` and `ip-masq-agent-v2`, as the kernel cuts names at 15 bytes.
const NAMES: [&str; 2] = ["ip-masq-agent", "ip-masq-agent-v"];
/// The chain of a Go agent that is not told another.
const CHAIN: &str = "IP-MASQ-AGENT";
/// So much of a command line is shown.
const LONGEST_COMMAND: usize = 200;

/// Go agents in our network namespace: processes of root and of the agent's name that have several threads, as every Go
/// program has from its first moment. Ours, whatever its version, has one. Root is what runs it and not only what it runs
/// as: anybody may call a setuid program by any name.
pub fn running() -> Vec<GoAgent> {
    let Some(namespace) = network_namespace(Path::new("/proc/thread-self")) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| examine(pid, namespace))
        .collect()
}

/// A number that no other network namespace has: that of a file which each has for itself.
fn network_namespace(process: &Path) -> Option<u64> {
    fs::metadata(process.join("net/dev")).ok().map(|metadata| metadata.st_ino())
}

fn examine(pid: u32, namespace: u64) -> Option<GoAgent> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(process.join("comm")).ok()?;
    let name = name.strip_suffix('\n')?;
    if !NAMES.contains(&name) || network_namespace(&process)? != namespace {
        return None;
    }
    let status = fs::read_to_string(process.join("status")).ok()?;
    if !is_of_root_with_threads(&status) {
        return None;
    }
    let arguments = arguments(&fs::read(process.join("cmdline")).unwrap_or_default());
    Some(GoAgent { pid, command: command(&arguments, name), chain: chain(&arguments) })
}

/// Reads a text as `status` and as `cmdline` of a process, for `tests/fuzz`.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> (bool, GoAgent) {
    let arguments = arguments(text.as_bytes());
    let agent = GoAgent { pid: 0, command: command(&arguments, NAMES[0]), chain: chain(&arguments) };
    (is_of_root_with_threads(text), agent)
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    cmdline.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Reads `status` of proc(5): the real, effective, saved and file system user, and the number of threads.
fn is_of_root_with_threads(status: &str) -> bool {
    let numbers = |field: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    numbers("Uid:") == [0; 4] && numbers("Threads:").first().is_some_and(|threads| *threads > 1)
}

/// The command line on one line, or the name of a process that has overwritten it.
fn command(arguments: &[String], name: &str) -> String {
    let text = arguments.join(" ").replace(char::is_control, " ");
    let text = if text.trim().is_empty() { name } else { text.trim() };
    text.chars().take(LONGEST_COMMAND).collect()
}

/// What the flag says, in the spellings of Go's package flag: `-masq-chain X`, `--masq-chain=X`.
fn chain(arguments: &[String]) -> String {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else { continue };
        match flag.strip_prefix("masq-chain") {
            Some("") => return arguments.next().cloned().unwrap_or_default(),
            Some(rest) if rest.starts_with('=') => return rest[1..].to_owned(),
            _ => {}
        }
    }
    CHAIN.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_root_through_and_through_and_has_threads_is_one() {
        let status = |uid: &str, threads: u32| format!("Name:\tip-masq-agent\nUid:\t{uid}\nThreads:\t{threads}\n");
        assert!(is_of_root_with_threads(&status("0\t0\t0\t0", 5)));
        for (uid, threads) in [("0\t0\t0\t0", 1), ("1000\t0\t0\t0", 5), ("0\t0\t1000\t0", 5), ("0\t0", 5), ("", 5)] {
            assert!(!is_of_root_with_threads(&status(uid, threads)), "{uid} {threads}");
        }
    }

    #[test]
    fn the_chain_is_the_one_of_the_flag() {
        let chain_of = |line: &str| chain(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(chain_of("/ip-masq-agent --masq-chain=IP-MASQ --nomasq-all-reserved-ranges"), "IP-MASQ");
        assert_eq!(chain_of("/ip-masq-agent -v 2 -masq-chain IP-MASQ"), "IP-MASQ");
        assert_eq!(chain_of("/ip-masq-agent --masq-chain"), "");
        for line in ["/ip-masq-agent", "/ip-masq-agent --masq-chains=X", "--masq-chain=X", ""] {
            assert_eq!(chain_of(line), "IP-MASQ-AGENT", "{line}");
        }
    }

    #[test]
    fn a_command_is_one_short_line() {
        let shown = command(&["a\nb".to_owned(), "x".repeat(1000)], "comm");
        assert!(shown.starts_with("a b xxx") && shown.chars().count() == LONGEST_COMMAND, "{shown}");
        assert_eq!(command(&[String::new()], "comm"), "comm");
    }
}
