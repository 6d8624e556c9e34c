//! One instance per network namespace, however its files fare: a socket with an abstract name (unix(7)).
//!
//! Anybody may bind an abstract name, so it is not the name that counts but whose the socket is, which the kernel says
//! (sock_diag(7)): docs/decisions/one-instance.md.

use crate::sys::nfnetlink::message::{Attributes, Malformed, Messages};
use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What every name begins with; the process and a number that nobody can guess follow.
const PREFIX: &str = "ip-masq-agent/instance/";

/// A child between fork and exec holds the sockets of a service that was just killed, for as long as that takes.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Nobody tells when a socket is closed.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Held until dropped; the kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Instance {
    /// Bound and not listening: nobody can connect to it or send to it.
    _socket: Option<OwnedFd>,
    doubt: Option<io::Error>,
}

/// Another instance runs in this network namespace: its process, as it is numbered where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Another(pub Option<u32>);

impl Instance {
    /// Makes ours and looks for another one, in this order: of two that begin at once at least one sees the other.
    ///
    /// # Errors
    /// When there is another one.
    pub fn claim() -> Result<Self, Another> {
        let (socket, name) = match bound() {
            Ok(bound) => bound,
            Err(error) => return Ok(Instance { _socket: None, doubt: Some(error) }),
        };
        let end = Instant::now() + RELEASE_TIMEOUT;
        loop {
            match others(&name).map(|others| others.first().copied()) {
                Ok(None) => return Ok(Instance { _socket: Some(socket), doubt: None }),
                Ok(Some(another)) if Instant::now() >= end => return Err(another),
                Ok(Some(_)) => _ = poll(&mut [], Some(&PAUSE)),
                Err(error) => return Ok(Instance { _socket: Some(socket), doubt: Some(error) }),
            }
        }
    }

    /// Why it can't be told whether there is another one: the kernel has no unix_diag, or lacks memory.
    pub fn doubt(&self) -> Option<String> {
        let error = self.doubt.as_ref()?;
        Some(format!("whether another instance runs in this network namespace can't be told: {error}"))
    }
}

fn bound() -> io::Result<(OwnedFd, String)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let name = format!("{PREFIX}{}/{:016x}", std::process::id(), RandomState::new().build_hasher().finish());
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok((socket, name))
}

/// The processes of root's, or of our own user's, sockets with such a name.
fn others(ours: &str) -> io::Result<Vec<Another>> {
    let us = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    dump(|name, owner| {
        let Some(rest) = name.strip_prefix(PREFIX) else { return };
        if name != ours && owner.is_some_and(|owner| owner == 0 || owner == us) {
            found.push(Another(rest.split('/').next().and_then(|process| process.parse().ok())));
        }
    })?;
    Ok(found)
}

/// `SOCK_DIAG_BY_FAMILY`, and TCP_CLOSE: the state of a socket that is bound and not listening.
const BY_FAMILY: u16 = 20;
const CLOSED: u32 = 1 << 7;
/// UDIAG_SHOW_NAME and UDIAG_SHOW_UID (linux/unix_diag.h, Linux 5.3), and the attributes that they ask for.
const SHOW: u32 = 1 << 0 | 1 << 6;
const NAME: u16 = 0;
const OWNER: u16 = 7;
/// `struct unix_diag_msg`.
const HEAD: usize = 16;

/// Calls `each` with the abstract name and the owner of every such socket of this network namespace.
fn dump(mut each: impl FnMut(&str, Option<u32>)) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; 65536];
    loop {
        // The kernel makes the next piece of a dump as the last one is read: there is nothing to wait for.
        let (length, _) = rustix::io::retry_on_intr(|| recv(&socket, &mut buffer[..], RecvFlags::empty()))?;
        for message in Messages(&buffer[..length]) {
            let message = message?;
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return Err(refusal(message.payload)),
                _ => {
                    if let Some((name, owner)) = named(message.payload)? {
                        each(&name, owner);
                    }
                }
            }
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request() -> Vec<u8> {
    let length = 40u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    bytes.extend(CLOSED.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(SHOW.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn refusal(payload: &[u8]) -> io::Error {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    Errno::from_raw_os_error(code.checked_neg().unwrap_or(0)).into()
}

/// The abstract name of a socket and its owner.
fn named(payload: &[u8]) -> Result<Option<(String, Option<u32>)>, Malformed> {
    let attributes = payload.get(HEAD..).map(Attributes).ok_or(Malformed("no room for a unix socket"))?;
    let (mut name, mut owner) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            NAME => name = attribute.value.strip_prefix(b"\0").map(|name| String::from_utf8_lossy(name).into_owned()),
            OWNER => owner = attribute.value.try_into().ok().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    Ok(name.map(|name| (name, owner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Not through `claim`: elsewhere in this network namespace a service may run.
    #[test]
    fn an_instance_is_seen_by_others_with_its_process_for_as_long_as_it_lives() {
        let (socket, name) = bound().unwrap();
        let own = Another(Some(std::process::id()));
        assert!(!others(&name).unwrap().contains(&own), "oneself is no other");
        assert!(others("").unwrap().contains(&own));
        drop(socket);
        assert!(!others("").unwrap().contains(&own));
    }
}
