//! Who moved the rule set: the NEWGEN messages of the nf_tables group.

use super::message::{Malformed, Message, Messages};
use super::socket::Socket;
use super::{GEN_ID, GEN_PROC_NAME, GEN_PROC_PID, NEWGEN, is_loss};
use socket2::SockFilter;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A commit to the nf_tables rule set, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleEvent {
    /// The generation after the commit; `None` when notifications were lost.
    pub generation: Option<u32>,
    /// The process that committed, where the kernel says it.
    pub pid: Option<u32>,
    /// The name of its program (at most 15 bytes), where the kernel says it.
    pub program: Option<String>,
}

impl RuleEvent {
    /// Somebody moved something, and the notification was lost.
    const UNKNOWN: RuleEvent = RuleEvent { generation: None, pid: None, program: None };

    /// The commits that a datagram tells of; what is malformed is an event with nothing known.
    pub fn of_datagram(datagram: &[u8]) -> impl Iterator<Item = RuleEvent> {
        Messages(datagram).filter_map(|message| match message {
            Ok(message) if message.kind == NEWGEN => Some(parse(&message).unwrap_or(RuleEvent::UNKNOWN)),
            Ok(_) => None,
            Err(_) => Some(RuleEvent::UNKNOWN),
        })
    }
}

/// A listener to commits by anybody in this network namespace, ourselves included.
///
/// While there is one anywhere on the machine, large transactions cost the kernel 16 KiB for each interval, and time:
/// `docs/decisions/rule-events.md` has the figures, and why we listen all the same.
#[derive(Debug)]
pub struct RuleEvents {
    socket: Socket,
}

impl RuleEvents {
    /// Joins the nf_tables group, with a filter that lets only NFT_MSG_NEWGEN through: without it every element
    /// of every set that anybody loads would pass through the queue.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or refuses.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.attach_filter(&newgen_only())?;
        let mut events = RuleEvents { socket };
        events.join()?;
        Ok(events)
    }

    /// Leaves the group, so that a large commit of our own does not fill the queue. What is queued stays readable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&mut self) -> io::Result<()> {
        self.socket.set(libc::NETLINK_DROP_MEMBERSHIP, libc::NFNLGRP_NFTABLES)
    }

    /// Joins the group again. What happened in between is not told: compare the generation.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&mut self) -> io::Result<()> {
        self.socket.set(libc::NETLINK_ADD_MEMBERSHIP, libc::NFNLGRP_NFTABLES)
    }

    /// Asks for a queue of so many bytes; the kernel doubles the number and keeps to its own limits (socket(7)).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_queue(&mut self, bytes: usize) -> io::Result<()> {
        self.socket.set_receive_buffer(bytes)
    }

    /// What is queued, without waiting; an overrun is an event with nothing known.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn read(&mut self) -> io::Result<Vec<RuleEvent>> {
        let mut events = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(None) => return Ok(events),
                Ok(Some(datagram)) => events.extend(RuleEvent::of_datagram(datagram)),
                Err(error) if is_loss(&error) => events.push(RuleEvent::UNKNOWN),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for RuleEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn parse(message: &Message<'_>) -> Result<RuleEvent, Malformed> {
    let mut event = RuleEvent::UNKNOWN;
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            GEN_ID => event.generation = Some(attribute.be32()?),
            GEN_PROC_PID => event.pid = Some(attribute.be32()?),
            GEN_PROC_NAME => event.program = Some(attribute.text()),
            _ => {}
        }
    }
    Ok(event)
}

/// `nlmsg_type == NEWGEN ? accept : drop`. BPF loads in network byte order, the header is in the host's.
fn newgen_only() -> [SockFilter; 4] {
    const NLMSG_TYPE_OFFSET: u32 = 4;
    let load = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(load, 0, 0, NLMSG_TYPE_OFFSET),
        SockFilter::new(equal, 0, 1, u32::from(NEWGEN.to_be())),
        SockFilter::new(ret, 0, 0, u32::MAX),
        SockFilter::new(ret, 0, 0, 0),
    ]
}
