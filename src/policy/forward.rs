//! Port forwards: what comes to the host itself and goes on to another one (`portForwards`).

use super::{Family, InterfacePattern, Listed, Origin, PortRange, PrefixSet, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The transport protocols that have ports to forward.
pub const FORWARD_PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Ports of the host that lead to another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Its number, from 1.
    pub number: u32,
    /// Where it was written.
    pub origin: Origin,
    /// The ports of the host (`hostPort`).
    pub host_ports: PortRange,
    /// Of which protocols, each once (`protocol`).
    pub protocols: Vec<Protocol>,
    /// Which addresses of the host (`hostIP`).
    pub host: HostAddress,
    /// Where IPv4 goes; at least one of both families is set (`address`).
    pub v4: Option<Ipv4Addr>,
    /// Where IPv6 goes.
    pub v6: Option<Ipv6Addr>,
    /// What the first of `host_ports` becomes; the others follow it (`port`).
    pub port: u16,
    /// Incoming interfaces that may; empty means all, and the host itself (`inInterfaces`).
    pub in_interfaces: Vec<Listed<InterfacePattern>>,
    /// Clients that may; empty means all (`sourceCIDRs`).
    pub sources: PrefixSet,
    /// Clients that may not (`excludeSourceCIDRs`).
    pub excluded_sources: PrefixSet,
    /// Which clients the target sees as the host (`hairpin`).
    pub hairpin: Hairpin,
    /// Local processes reach it through 127.0.0.0/8 (`localhost`).
    pub localhost: bool,
}

/// The addresses of the host at which a forward begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// Every one of the families that it has targets for.
    Any,
    /// Every one of a family.
    AnyOf(Family),
    /// This one, which need not be there yet; of 127.0.0.0/8 only with `localhost`.
    One(IpAddr),
}

/// Which clients of a forward are masqueraded, so that answers come back through the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Hairpin {
    /// Those in the connected network through which the target is reached.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
    /// Those in these ranges.
    From(PrefixSet),
}

impl Forward {
    /// Where a family goes.
    pub fn target(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether a family is forwarded at all.
    pub fn serves(&self, family: Family) -> bool {
        let host = match self.host {
            HostAddress::Any => true,
            HostAddress::AnyOf(of) => of == family,
            HostAddress::One(address) => Family::of(address) == family,
        };
        host && self.target(family).is_some()
    }

    /// The ports that the target sees.
    pub fn target_ports(&self) -> PortRange {
        let width = self.host_ports.last - self.host_ports.first;
        PortRange { first: self.port, last: self.port.saturating_add(width) }
    }

    /// True when a port stays what it is.
    pub fn keeps_ports(&self) -> bool {
        self.port == self.host_ports.first
    }
}
