//! Go agents that are alive: two agents at one chain would rewrite each other's rules every minute.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A Go agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAgent {
    /// Its process.
    pub pid: u32,
    /// Its executable, as the kernel names it.
    pub executable: PathBuf,
}

/// What the Go linker writes in front of a binary's build information (debug/buildinfo), backwards: written forwards
/// it would be found in another build of our own program.
const GO_BUILD_INFO_BACKWARDS: &[u8] = b":fnidliub oG \xff";

/// Go agents in our network namespace: processes of the agent's name whose executable is a Go program and not ours.
/// A process that can't be looked at is not reported.
pub fn running() -> Vec<GoAgent> {
    let Ok(own) = fs::metadata("/proc/self/exe") else { return Vec::new() };
    let Ok(namespace) = fs::read_link("/proc/thread-self/ns/net") else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| examine(pid, &own, &namespace))
        .collect()
}

fn examine(pid: u32, own: &fs::Metadata, namespace: &Path) -> Option<GoAgent> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // The kernel cuts the name at 15 bytes: `ip-masq-agent-v2` is `ip-masq-agent-v`.
    let name = fs::read(process.join("comm")).ok()?;
    if !name.starts_with(b"ip-masq-agent") || fs::read_link(process.join("ns/net")).ok()? != namespace {
        return None;
    }
    let link = process.join("exe");
    let executable = fs::metadata(&link).ok()?;
    let is_own = executable.st_dev() == own.st_dev() && executable.st_ino() == own.st_ino();
    let is_go = !is_own && is_go_program(&mut File::open(&link).ok()?).unwrap_or(false);
    is_go.then(|| GoAgent { pid, executable: fs::read_link(&link).unwrap_or(link) })
}

/// Reads to the build information or to the end, a piece at a time.
fn is_go_program(reader: &mut impl Read) -> io::Result<bool> {
    let length = GO_BUILD_INFO_BACKWARDS.len();
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    loop {
        let read = reader.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        if buffer[..filled].windows(length).any(|window| window.iter().rev().eq(GO_BUILD_INFO_BACKWARDS)) {
            return Ok(true);
        }
        // It may be cut in two by the end of a piece.
        kept = filled.min(length - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time where it is asked for more.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn build_information_is_found_wherever_the_pieces_end() {
        let build_info: Vec<u8> = GO_BUILD_INFO_BACKWARDS.iter().rev().copied().collect();
        let text = [b"\x7fELF...", build_info.as_slice(), b"\x08\x02"].concat();
        assert!(is_go_program(&mut Drops(&text)).unwrap());
        assert!(is_go_program(&mut text.as_slice()).unwrap());
        let long = [vec![b'x'; (1 << 16) - 5], build_info].concat();
        assert!(is_go_program(&mut long.as_slice()).unwrap());
    }

    #[test]
    fn our_own_program_is_no_go_program() {
        assert!(!is_go_program(&mut File::open("/proc/self/exe").unwrap()).unwrap());
    }
}
