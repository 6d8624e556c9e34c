//! ctnetlink: the connections that the kernel tracks, read and deleted one by one.
//!
//! Layouts: `linux/netfilter/nfnetlink_conntrack.h`. Filters are asked of the kernel, and never relied on: an older one
//! passes over what it does not know (deletion by filter is not used for that reason, it would flush the family).

mod read;
mod sweep;

pub use read::{Entry, read_any};
pub use sweep::{Bounds, Swept, sweep};

use super::nfnetlink::message::{Message, MessageHead, Messages, Writer};
use super::nfnetlink::socket::Socket;
use super::nfnetlink::{Answer, lost, nfproto, read_error, socket};
use crate::policy::address::octets;
use crate::policy::{Family, Protocol};
use read::attribute;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;

const GET: u16 = ((libc::NFNL_SUBSYS_CTNETLINK << 8) | 1) as u16;
const DELETE: u16 = ((libc::NFNL_SUBSYS_CTNETLINK << 8) | 2) as u16;
/// CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS, and the flags for the destination and the protocol
/// (net/netfilter/nf_internals.h).
const ORIGINAL_FLAGS: u16 = 1;
const REPLY_FLAGS: u16 = 2;
const IP_DESTINATION: u32 = 1 << 1;
const PROTOCOL: u32 = 1 << 3;
/// A dump comes in datagrams of at most 32 KiB.
const BUFFER: usize = 1 << 16;
/// So many deletions go to the kernel at once.
const BATCH: usize = 64;

/// Which connections are wanted; `default()` is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// All of these bits of the status are set.
    pub with: u32,
    /// None of these is.
    pub without: u32,
    /// The source that the far end sees (IPv4: Linux 5.8).
    pub seen_source: Option<IpAddr>,
    /// Where the first packet was sent to (IPv4: Linux 5.8).
    pub destination: Option<IpAddr>,
    /// Of UDP alone (Linux 5.8).
    pub udp: bool,
}

impl Filter {
    fn accepts(&self, entry: &Entry) -> bool {
        let connection = &entry.connection;
        connection.status.has(self.with)
            && connection.status.0 & self.without == 0
            && self.seen_source.is_none_or(|address| connection.seen_source() == address)
            && self.destination.is_none_or(|address| connection.original.destination == address)
            && (!self.udp || connection.original.protocol == Protocol::Udp)
    }

    fn write(&self, writer: &mut Writer) {
        if self.with | self.without != 0 {
            writer.be32(attribute::STATUS, self.with);
            writer.be32(attribute::STATUS_MASK, self.with | self.without);
        }
        // Asked for an IPv6 address, the kernel tells all connections but those (seen on Linux 6.18).
        let asked = |address: Option<IpAddr>| address.filter(IpAddr::is_ipv4);
        let (destination, seen_source) = (asked(self.destination), asked(self.seen_source));
        // The kernel is asked for one thing of the first packet: for the address, which is less.
        let udp = self.udp && destination.is_none();
        if udp {
            writer.nest(attribute::TUPLE_ORIG, |writer| {
                let udp = [libc::IPPROTO_UDP as u8];
                writer.nest(attribute::TUPLE_PROTO, |writer| writer.raw(attribute::PROTO_NUM, &udp));
            });
        }
        let wanted =
            [(destination, attribute::TUPLE_ORIG, ORIGINAL_FLAGS), (seen_source, attribute::TUPLE_REPLY, REPLY_FLAGS)];
        for (address, tuple, _) in wanted {
            let Some(address) = address else { continue };
            let kind = attribute::V4_DESTINATION;
            writer.nest(tuple, |writer| writer.nest(attribute::TUPLE_IP, |writer| writer.raw(kind, &octets(address))));
        }
        let asked = wanted.iter().filter(|(address, ..)| address.is_some());
        let mut flags: Vec<(u16, u32)> = asked.map(|(_, _, flags)| (*flags, IP_DESTINATION)).collect();
        flags.extend(udp.then_some((ORIGINAL_FLAGS, PROTOCOL)));
        if !flags.is_empty() {
            writer.nest(attribute::FILTER, |writer| {
                flags.iter().for_each(|(direction, flag)| writer.raw(*direction, &flag.to_ne_bytes()));
            });
        }
    }
}

/// A socket that asks.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Conntrack {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> io::Result<Self> {
        Ok(Conntrack { socket: socket()?, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Reads the connections of a family until `each` breaks off, who gets as many at a time as the kernel tells at a time;
    /// none where none of those are wanted.
    ///
    /// # Errors
    /// Why the kernel did not answer, in words; what makes no sense in an answer.
    pub fn dump(
        &mut self,
        family: Family,
        filter: &Filter,
        mut each: impl FnMut(Vec<Entry>) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let head = self.head(GET, libc::NLM_F_DUMP, family);
        let mut request = Writer::new();
        request.message(head, |writer| filter.write(writer));
        self.socket.send(request.bytes())?;
        let mut answer = Answer::with_end(self.sequence);
        loop {
            let mut entries = Vec::new();
            let mut read = |message: &Message<'_>| {
                entries.extend(read_any(message)?.filter(|entry| filter.accepts(entry)));
                Ok(())
            };
            if !answer.receive_next(&self.socket, &mut self.buffer, &mut read)? {
                return answer.end().map(drop).map_err(in_words);
            }
            if each(entries)?.is_break() {
                // What is left unread would be in the way of the next question.
                self.socket = socket()?;
                return Ok(());
            }
        }
    }

    /// Deletes connections, each by its exact tuple and its number: another one that has taken its place stays. Returns how
    /// many there were.
    ///
    /// # Errors
    /// What the kernel says of the first one that it does not delete although it is there.
    pub fn delete(&mut self, entries: &[Entry]) -> io::Result<usize> {
        let mut deleted = 0;
        for batch in entries.chunks(BATCH) {
            deleted += self.delete_batch(batch)?;
        }
        Ok(deleted)
    }

    fn delete_batch(&mut self, batch: &[Entry]) -> io::Result<usize> {
        let first = self.sequence.wrapping_add(1);
        let mut request = Writer::new();
        for entry in batch {
            self.sequence = self.sequence.wrapping_add(1);
            let head = self.head(DELETE, libc::NLM_F_ACK, entry.connection.family());
            request.message(head, |writer| entry.write(writer));
        }
        self.socket.send(request.bytes())?;
        let (mut answered, mut deleted, mut failure) = (0, 0, None);
        while answered < batch.len() {
            let datagram = self.socket.receive(&mut self.buffer)?.ok_or_else(|| lost("to a deletion"))?;
            for message in Messages(datagram) {
                let message = message?;
                let is_ours = message.sequence.wrapping_sub(first) < batch.len() as u32;
                if !is_ours || i32::from(message.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                answered += 1;
                match read_error(&message)? {
                    None => deleted += 1,
                    // It ended by itself.
                    Some(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Some(error) => failure = failure.or(Some(error)),
                }
            }
        }
        failure.map_or(Ok(deleted), |error| Err(in_words(error)))
    }

    fn head(&self, kind: u16, flags: i32, family: Family) -> MessageHead {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        MessageHead { kind, flags, sequence: self.sequence, family: nfproto(family), resource: 0 }
    }
}

/// True when the kernel tracks nothing in this network namespace: nobody needs it, or nothing has been sent yet. A dump would
/// go through all buckets of its table to find that out, which takes milliseconds.
pub fn is_empty() -> bool {
    match fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count") {
        Ok(count) => count.trim() == "0",
        // The kernel has not loaded it, where it shows what it has at all.
        Err(error) => error.kind() == io::ErrorKind::NotFound && Path::new("/proc/sys/net/core").exists(),
    }
}

fn in_words(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => io::Error::new(io::ErrorKind::PermissionDenied, Unanswered::NotPermitted(error)),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            io::Error::new(io::ErrorKind::Unsupported, Unanswered::Unsupported(error))
        }
        _ => error,
    }
}

/// What the kernel means by an error.
#[derive(Debug)]
enum Unanswered {
    NotPermitted(io::Error),
    Unsupported(io::Error),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::NotPermitted(_) => f.write_str("connection tracking can't be read without CAP_NET_ADMIN"),
            Unanswered::Unsupported(error) => {
                write!(f, "the kernel has no nf_conntrack_netlink, or can't load it: {error}")
            }
        }
    }
}

impl Error for Unanswered {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Unanswered::NotPermitted(error) | Unanswered::Unsupported(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_said_is_behind_what_it_means() {
        let cases = [
            (libc::EPERM, "connection tracking can't be read without CAP_NET_ADMIN"),
            (
                libc::EOPNOTSUPP,
                "the kernel has no nf_conntrack_netlink, or can't load it: Operation not supported (os error 95)",
            ),
        ];
        for (number, words) in cases {
            let error = in_words(io::Error::from_raw_os_error(number));
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!((error.to_string().as_str(), source.and_then(io::Error::raw_os_error)), (words, Some(number)));
        }
    }
}
