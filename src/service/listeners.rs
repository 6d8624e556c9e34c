//! The sockets of local processes that wait for others, and whose they are. Nothing is asked but procfs.

use crate::agent::forward_advice::Listener;
use crate::policy::Protocol;
use crate::policy::address::of_octets;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// An address, a port, and the inode of the socket that waits there.
type Socket = (IpAddr, u16, u64);

/// A listening socket of TCP or SCTP, a UDP socket without a peer (net/tcp_states.h).
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;

/// A file, and the sockets of one of its lines.
type Table = (&'static str, Protocol, fn(&str) -> Vec<Socket>);

/// That of SCTP is there while the kernel has sockets for it.
const FILES: [Table; 5] = [
    ("tcp", Protocol::Tcp, |line| socket(line, LISTEN).into_iter().collect()),
    ("tcp6", Protocol::Tcp, |line| socket(line, LISTEN).into_iter().collect()),
    ("udp", Protocol::Udp, |line| socket(line, CLOSE).into_iter().collect()),
    ("udp6", Protocol::Udp, |line| socket(line, CLOSE).into_iter().collect()),
    ("sctp/eps", Protocol::Sctp, |line| endpoint(line).unwrap_or_default()),
];

/// The listening sockets of this network namespace on ports that are wanted. Whose they are is known as far as we may
/// look into other processes.
pub fn listeners(is_wanted: impl Fn(Protocol, u16) -> bool) -> Vec<Listener> {
    let mut found = Vec::new();
    for (file, protocol, read) in FILES {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let sockets = text.lines().skip(1).flat_map(read).filter(|(_, port, _)| is_wanted(protocol, *port));
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
pub fn read_any(text: &str) -> Vec<(Protocol, IpAddr, u16)> {
    let of_file = |(_, protocol, read): Table| {
        let sockets = text.lines().skip(1).flat_map(read);
        sockets.map(move |(address, port, _)| (protocol, address, port))
    };
    FILES.into_iter().flat_map(of_file).collect()
}

/// Address, port and inode of a line of proc_net_tcp(5) whose socket is in a state.
fn socket(line: &str, state: u8) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if u8::from_str_radix(fields.get(3)?, 16).ok()? != state {
        return None;
    }
    Some((address_of(address)?, u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

/// The addresses of a line of SCTP's endpoints whose socket listens (`ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`,
/// net/sctp/proc.c): numbers are decimal, and an endpoint may have several addresses.
fn endpoint(line: &str) -> Option<Vec<Socket>> {
    let mut fields = line.split_whitespace().skip(3);
    if fields.next()?.parse() != Ok(LISTEN) {
        return None;
    }
    let port = fields.nth(1)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(fields.filter_map(|address| Some((address.parse().ok()?, port, inode))).collect())
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
        assert_eq!(socket(line, LISTEN), Some(("0.0.0.0".parse().unwrap(), 22, 21)));
        assert_eq!(socket(line, CLOSE), None);
        for line in ["", "x", "0: 0:0 0 0A", "0: 00000000:FFFFF 0 0A 0 0 0 0 0 1", "0: é0000000:0016 0 0A 0 0 0 0 0 1"]
        {
            assert_eq!(socket(line, LISTEN), None, "{line}");
        }
    }

    #[test]
    fn endpoints_of_sctp_are_read_with_each_of_their_addresses() {
        let text = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n\
            0000000000000000 0000000000000000 2   10  29   36412     0 299689 192.0.2.1 198.51.100.1 \n\
            \x20      0        0 0   10  17   2905   1000 30101 0000:0000:0000:0000:0000:0000:0000:0000 \n\
            \x20      0        0 2   7   16   54321     0 232851 192.0.2.1 \n\
            \x20      0        0 2   10  16   70000     0 232852 192.0.2.1 \n\
            \x20      0        0 2   10\n";
        let (_, protocol, read) = FILES[4];
        let found: Vec<Socket> = text.lines().skip(1).flat_map(read).collect();
        let expected = [("192.0.2.1", 36412, 299_689), ("198.51.100.1", 36412, 299_689), ("::", 2905, 30101)];
        assert_eq!(found, expected.map(|(address, port, inode)| (address.parse().unwrap(), port, inode)));
        assert_eq!(protocol, Protocol::Sctp);
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
