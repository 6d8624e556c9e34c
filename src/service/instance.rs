//! One instance per network namespace, however its files fare: a socket with an abstract name (unix(7)).
//!
//! Anybody may bind an abstract name, so it is not the name that counts but whose the socket is, which the kernel says
//! (sock_diag(7)): docs/decisions/one-instance.md.

use crate::sys::nfnetlink::message::{Attributes, Malformed, Message};
use crate::sys::nfnetlink::socket::Socket;
use crate::sys::rtnetlink::dump;
use rustix::event::{Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
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
    // `struct unix_diag_req`.
    let mut request = [0; 24];
    request[0] = libc::AF_UNIX as u8;
    request[4..8].copy_from_slice(&CLOSED.to_ne_bytes());
    request[12..16].copy_from_slice(&SHOW.to_ne_bytes());
    let sockets = dump(&Socket::open(libc::NETLINK_SOCK_DIAG)?, BY_FAMILY, &request, named)?.into_iter();
    let trusted = sockets.filter(|(name, owner)| name != ours && owner.is_some_and(|owner| owner == 0 || owner == us));
    let another = |(name, _): (String, _)| Some(Another(name.strip_prefix(PREFIX)?.split('/').next()?.parse().ok()));
    Ok(trusted.filter_map(another).collect())
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

/// Reads a message as a socket, for `tests/fuzz`.
#[cfg(fuzzing)]
pub fn read_any(message: &Message<'_>) {
    let _ = named(message);
}

/// The abstract name of a socket and its owner.
fn named(message: &Message<'_>) -> Result<Option<(String, Option<u32>)>, Malformed> {
    let attributes = message.payload.get(HEAD..).map(Attributes).ok_or(Malformed("no room for a unix socket"))?;
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
