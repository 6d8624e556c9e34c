//! Which maps and sets with keys of several fields there are, and how the keys are made.

use super::interval::{address_type, ip_word};
use crate::policy::{FORWARD_PROTOCOLS, Family, Protocol};
use std::fmt;
use std::net::IpAddr;

/// What such a set or map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSet {
    /// Ports of one address of the host, and where each goes.
    HostPorts,
    /// The same of ranges that keep their ports.
    HostRanges,
    /// The same of ports that have gates.
    HostGates,
    /// Ports of every address of the host, and where each goes.
    Ports,
    /// The same of ranges that keep their ports.
    Ranges,
    /// The same of ports that have gates.
    Gates,
    /// Those ports of every address that loopback addresses have, too.
    Localhost,
    /// Where forwards lead.
    Targets,
    /// The same of ranges.
    TargetRanges,
    /// Which clients of them are masqueraded.
    Hairpin,
    /// The same of targets whose ports all have the same clients: these,
    HairpinClients,
    /// and the ports.
    HairpinPorts,
    /// Ports that become others behind a gate.
    Shifted,
    /// Which clients of ports of one address of the host are marked.
    HostMarks,
    /// The same of ports of every address of the host.
    Marks,
    /// The sources that routes prefer: nothing of port forwards.
    RouteSources,
}

/// A field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The source address.
    Saddr,
    /// The destination address.
    Daddr,
    /// The transport protocol.
    Protocol,
    /// The destination port.
    Port,
    /// The name of the outgoing interface.
    OutInterface,
    /// The destination address, of which an element may have several.
    Daddrs,
}

/// What the keys of a map lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is a set.
    Nothing,
    /// An address; the port stays.
    Address,
    /// An address and a port.
    AddressAndPort,
    /// A chain.
    Chain,
}

impl PortSet {
    /// Every one of port forwards that there is once.
    pub const ALL: [PortSet; 14] = [
        PortSet::HostPorts,
        PortSet::HostRanges,
        PortSet::HostGates,
        PortSet::Ports,
        PortSet::Ranges,
        PortSet::Gates,
        PortSet::Localhost,
        PortSet::Targets,
        PortSet::TargetRanges,
        PortSet::Hairpin,
        PortSet::HairpinClients,
        PortSet::HairpinPorts,
        PortSet::HostMarks,
        PortSet::Marks,
    ];

    /// The word for it in names.
    pub fn name(self) -> &'static str {
        match self {
            PortSet::HostPorts => "forwards-host-ports",
            PortSet::HostRanges => "forwards-host-port-ranges",
            PortSet::HostGates => "forwards-host-gated",
            PortSet::Ports => "forwards-ports",
            PortSet::Ranges => "forwards-port-ranges",
            PortSet::Gates => "forwards-gated",
            PortSet::Localhost => "forwards-local",
            PortSet::Targets => "forwards-target-ports",
            PortSet::TargetRanges => "forwards-target-ranges",
            PortSet::Hairpin => "forwards-hairpin",
            PortSet::HairpinClients => "forwards-hairpin-clients",
            PortSet::HairpinPorts => "forwards-hairpin-ports",
            PortSet::Shifted => "ports",
            PortSet::HostMarks => "forwards-host-marks",
            PortSet::Marks => "forwards-marks",
            PortSet::RouteSources => "sources-by-route",
        }
    }

    /// What it holds, as its comment says it.
    pub fn comment(self) -> &'static str {
        match self {
            PortSet::HostPorts => "portForwards with hostIP",
            PortSet::HostRanges => "portForwards with hostIP, port ranges",
            PortSet::HostGates => "portForwards with hostIP, and who may",
            PortSet::Ports => "portForwards",
            PortSet::Ranges => "portForwards, port ranges",
            PortSet::Gates => "portForwards, and who may",
            PortSet::Localhost => "portForwards with localhost",
            PortSet::Targets => "where portForwards lead",
            PortSet::TargetRanges => "where portForwards lead, port ranges",
            PortSet::Hairpin => "who is masqueraded on the way there",
            PortSet::HairpinClients => "who is masqueraded on the way to these",
            PortSet::HairpinPorts => "and to which ports",
            PortSet::Shifted => "a forward of portForwards, port by port",
            PortSet::HostMarks => "who is marked, portForwards with hostIP",
            PortSet::Marks => "who is marked",
            PortSet::RouteSources => "the sources that routes prefer",
        }
    }

    /// The fields of its keys, in order.
    ///
    /// Where there are ranges, the kernel goes field by field, and through every element that the first ones leave
    /// (Linux 6.18, `nft_set_pipapo.c`): first comes what tells the most elements apart.
    pub fn key(self) -> &'static [Field] {
        use Field::{Daddr, Daddrs, OutInterface, Port, Protocol, Saddr};
        match self {
            PortSet::HostPorts | PortSet::Targets | PortSet::HairpinPorts => &[Daddr, Protocol, Port],
            PortSet::Ports | PortSet::Shifted => &[Protocol, Port],
            PortSet::HostRanges | PortSet::HostGates | PortSet::TargetRanges => &[Port, Daddr, Protocol],
            PortSet::Ranges | PortSet::Gates | PortSet::Localhost => &[Port, Protocol],
            PortSet::Hairpin | PortSet::HostMarks => &[Saddr, Daddr, Protocol, Port],
            PortSet::HairpinClients => &[Daddr, Saddr],
            PortSet::Marks => &[Saddr, Protocol, Port],
            PortSet::RouteSources => &[Daddrs, OutInterface],
        }
    }

    /// What its keys lead to.
    pub fn data(self) -> Data {
        match self {
            PortSet::HostPorts | PortSet::Ports | PortSet::Shifted => Data::AddressAndPort,
            PortSet::HostRanges | PortSet::Ranges | PortSet::RouteSources => Data::Address,
            PortSet::HostGates | PortSet::Gates => Data::Chain,
            PortSet::Localhost
            | PortSet::Targets
            | PortSet::TargetRanges
            | PortSet::Hairpin
            | PortSet::HairpinClients
            | PortSet::HairpinPorts
            | PortSet::HostMarks
            | PortSet::Marks => Data::Nothing,
        }
    }

    /// True for a map.
    pub fn is_map(self) -> bool {
        self.data() != Data::Nothing
    }

    /// True of those of one address of the host each.
    pub fn is_by_host(self) -> bool {
        matches!(self, PortSet::HostPorts | PortSet::HostRanges | PortSet::HostGates | PortSet::HostMarks)
    }

    /// True where an element may have more than one port or address. The others are found by their hash.
    pub fn has_ranges(self) -> bool {
        let single = [PortSet::HostPorts, PortSet::Ports, PortSet::Shifted, PortSet::Targets, PortSet::HairpinPorts];
        !single.contains(&self)
    }

    /// True where each element counts the flows that it decides.
    pub fn counts(self) -> bool {
        matches!(self.data(), Data::Address | Data::AddressAndPort)
    }

    /// True where flows that are forwarded are known by it: it holds more rather than less while others change.
    pub fn recognizes(self) -> bool {
        self.data() == Data::Nothing && self != PortSet::Localhost
    }

    /// The fields of a rule that looks into it, in nft's words.
    pub fn selector(self, family: Family) -> String {
        let address = ip_word(family);
        let word = |field: &Field| match field {
            Field::Saddr => format!("{address} saddr"),
            Field::Daddr | Field::Daddrs => format!("{address} daddr"),
            Field::Protocol => "meta l4proto".to_owned(),
            Field::Port => "th dport".to_owned(),
            Field::OutInterface => "oifname".to_owned(),
        };
        self.key().iter().map(word).collect::<Vec<_>>().join(" . ")
    }

    /// See [`super::name::SetName::declaration`].
    pub fn declaration(self, family: Family, separator: &str) -> String {
        let word = |field: &Field| match field {
            Field::Saddr | Field::Daddr | Field::Daddrs => address_type(family),
            Field::Protocol => "inet_proto",
            Field::Port => "inet_service",
            Field::OutInterface => "ifname",
        };
        let mut text = format!("type {}", self.key().iter().map(word).collect::<Vec<_>>().join(" . "));
        match self.data() {
            Data::Nothing => {}
            Data::Address => text += &format!(" : {}", address_type(family)),
            Data::AddressAndPort => text += &format!(" : {} . inet_service", address_type(family)),
            Data::Chain => text += " : verdict",
        }
        text += separator;
        if self.has_ranges() {
            text += &format!("flags interval{separator}");
        }
        if self.counts() {
            text += &format!("counter{separator}");
        }
        text
    }
}

/// The number of a protocol.
pub fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
        Protocol::Sctp => libc::IPPROTO_SCTP as u8,
        Protocol::Icmp => libc::IPPROTO_ICMP as u8,
        Protocol::Other(number) => number,
    }
}

/// The protocol of a number.
pub fn protocol(number: u8) -> Protocol {
    let known = FORWARD_PROTOCOLS.into_iter().find(|known| self::number(*known) == number);
    known.unwrap_or(Protocol::Other(number))
}

/// Ports that have gates: from the first one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatedPorts {
    /// The address of the host.
    pub host: Option<IpAddr>,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The first port.
    pub first: u16,
}

impl GatedPorts {
    /// The gate of a name; what [`fmt::Display`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        let (front, first) = name.rsplit_once('-')?;
        let (host, protocol) = match front.rsplit_once('-') {
            Some((host, protocol)) => (Some(read_host(host)?), protocol),
            None => (None, front),
        };
        let protocol = (0..=u8::MAX).find(|number| self::protocol(*number).to_string() == protocol)?;
        Some(GatedPorts { host, protocol, first: first.parse().ok()? })
    }
}

/// A name has no colon.
fn read_host(text: &str) -> Option<IpAddr> {
    let v6 = || (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    text.parse().ok().or_else(|| v6().map(|bits| IpAddr::V6(bits.into())))
}

impl fmt::Display for GatedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}-")?,
            Some(IpAddr::V6(address)) => write!(f, "{:032x}-", address.to_bits())?,
        }
        write!(f, "{}-{}", protocol(self.protocol), self.first)
    }
}
