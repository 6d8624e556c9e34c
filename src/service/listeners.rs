//! The sockets of local processes that wait for others, and whose they are. Nothing is asked but procfs.

use crate::agent::forward_advice::Listener;
use crate::policy::Protocol;
use crate::policy::address::of_octets;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// A listening TCP socket, a UDP socket without a peer (net/tcp_states.h).
const FILES: [(&str, Protocol, &str); 4] = [
    ("tcp", Protocol::Tcp, "0A"),
    ("tcp6", Protocol::Tcp, "0A"),
    ("udp", Protocol::Udp, "07"),
    ("udp6", Protocol::Udp, "07"),
];

/// The listening sockets of this network namespace on ports that are wanted. Whose they are is known as far as we may
/// look into other processes.
pub fn listeners(is_wanted: impl Fn(Protocol, u16) -> bool) -> Vec<Listener> {
    let mut found = Vec::new();
    for (file, protocol, state) in FILES {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let sockets = sockets(&text, state).filter(|(_, port, _)| is_wanted(protocol, *port));
        found.extend(sockets.map(|one| (protocol, one)));
    }
    let inodes: BTreeSet<u64> = found.iter().map(|(_, (_, _, inode))| *inode).collect();
    let owners = if inodes.is_empty() { BTreeMap::new() } else { owners(&inodes) };
    let mut listeners: Vec<Listener> = Vec::new();
    for (protocol, (address, port, inode)) in found {
        let listener = Listener { protocol, address, port, program: owners.get(&inode).cloned() };
        if !listeners.contains(&listener) {
            listeners.push(listener);
        }
    }
    listeners
}

/// Reads a text as each of the files, for `tests/fuzz`: addresses and ports.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> Vec<(IpAddr, u16)> {
    let read = |state| sockets(text, state).map(|(address, port, _)| (address, port));
    ["0A", "07"].into_iter().flat_map(read).collect()
}

/// The sockets of a file that are in a state.
fn sockets<'t>(text: &'t str, state: &'t str) -> impl Iterator<Item = (IpAddr, u16, u64)> {
    text.lines().skip(1).filter_map(move |line| socket(line, state))
}

/// Address, port and inode of a line of proc_net_tcp(5) whose socket is in a state.
fn socket(line: &str, state: &str) -> Option<(IpAddr, u16, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != state {
        return None;
    }
    Some((address_of(address)?, u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

/// Words of 32 bits in the byte order of the host.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |number: usize| {
        let digits = text.get(8 * number..8 * number + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let words: Option<Vec<_>> = (0..text.len().div_ceil(8)).map(word).collect();
    of_octets(&words?.concat())
}

/// The programs that have the sockets open.
fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Some(inode) = inode(&file.path()).filter(|inode| inodes.contains(inode)) else { continue };
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            owners.entry(inode).or_insert_with(|| format!("{}[{pid}]", program.trim_end()));
        }
    }
    owners
}

/// The socket that a descriptor is, as proc_pid_fd(5) names it.
fn inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn lines_of_sockets_in_other_states_are_passed_over() {
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21 1 0";
        assert_eq!(socket(line, "0A"), Some(("0.0.0.0".parse().unwrap(), 22, 21)));
        assert_eq!(socket(line, "07"), None);
        for line in ["", "x", "0: 0:0 0 0A", "0: 00000000:FFFFF 0 0A 0 0 0 0 0 1", "0: é0000000:0016 0 0A 0 0 0 0 0 1"]
        {
            assert_eq!(socket(line, "0A"), None, "{line}");
        }
    }

    #[test]
    fn our_own_sockets_are_found_with_our_name() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port();
        let wanted = [(Protocol::Tcp, port(tcp.local_addr())), (Protocol::Udp, port(udp.local_addr()))];
        let found = listeners(|protocol, port| wanted.contains(&(protocol, port)));
        let pid = format!("[{}]", std::process::id());
        for (protocol, port) in wanted {
            let one = found.iter().find(|one| one.protocol == protocol && one.port == port);
            let program = one.and_then(|one| one.program.clone()).unwrap_or_default();
            assert!(program.ends_with(&pid), "{found:?}");
        }
    }
}
