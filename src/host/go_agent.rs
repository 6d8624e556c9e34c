//! Go agents that are alive: two agents at one chain would rewrite each other's rules every minute.
//!
//! The unit has no CAP_SYS_PTRACE, and without it neither the executable nor the namespaces of another root process can be
//! read (ptrace(2), "Ptrace access mode checking"). What anybody may read of it, proc(5), has to do.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A Go agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAgent {
    /// Its process.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// Go agents in our network namespace: processes of root and of the agent's name that have several threads, as every Go
/// program has from its first moment. Ours, whatever its version, has one.
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
    // The kernel cuts the name at 15 bytes: `ip-masq-agent-v2` is `ip-masq-agent-v`.
    let name = fs::read_to_string(process.join("comm")).ok()?;
    if !name.starts_with("ip-masq-agent") || network_namespace(&process)? != namespace {
        return None;
    }
    let status = fs::read_to_string(process.join("status")).ok()?;
    let number = |field: &str, column| -> Option<u32> {
        status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().nth(column)?.parse().ok())
    };
    let effective_user = number("Uid:", 1)?;
    (effective_user == 0 && number("Threads:", 0)? > 1).then(|| GoAgent { pid, command: command(&process, &name) })
}

/// The command line on one line, or the name of a process that has overwritten it.
fn command(process: &Path, name: &str) -> String {
    let bytes = fs::read(process.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace(char::is_control, " ");
    let text = if text.trim().is_empty() { name } else { &text };
    text.trim().to_owned()
}
