//! Connections as the kernel tracks them.

use crate::policy::{Family, Protocol};
use std::net::IpAddr;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Source and destination port, of protocols that have ports.
    pub ports: Option<(u16, u16)>,
}

/// IPS_* of linux/netfilter/nf_conntrack_common.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(pub u32);

impl Status {
    /// The source was rewritten.
    pub const SRC_NAT: u32 = 1 << 4;
    /// The destination was rewritten.
    pub const DST_NAT: u32 = 1 << 5;
    /// Nat rules were asked for the source, whatever they said.
    pub const SRC_NAT_DONE: u32 = 1 << 7;

    /// A flowtable carries it, Linux 4.16.
    pub const OFFLOAD: u32 = 1 << 14;

    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The first packet as it came in: before anything was rewritten.
    pub original: Tuple,
    /// What answers look like when they come in: from what the destination became to what the source became.
    pub reply: Tuple,
    pub status: Status,
    /// Tells it from another one with the same addresses and ports.
    pub id: u32,
    /// The connection mark; the packets' own marks are not kept.
    pub mark: u32,
    pub zone: u16,
    /// How many seconds it lives without a packet.
    pub timeout: Option<u32>,
}

impl Connection {
    pub fn family(&self) -> Family {
        Family::of(self.original.source)
    }

    /// Where its packets go when they leave the host.
    pub fn target(&self) -> IpAddr {
        self.reply.source
    }

    /// The source that the far end sees.
    pub fn seen_source(&self) -> IpAddr {
        self.reply.destination
    }

    pub fn is_source_translated(&self) -> bool {
        self.status.has(Status::SRC_NAT)
    }

    /// True when a socket of this host is at one of its ends. Deleting such a TCP connection cuts it: what follows is
    /// taken for a new one, in whichever direction it goes.
    pub fn is_of_a_local_socket(&self, owns: impl Fn(IpAddr) -> bool) -> bool {
        owns(self.original.source) || owns(self.target())
    }
}
