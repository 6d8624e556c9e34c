//! The first packet of a flow, as far as the policy looks at it.

use super::Prefix;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    /// ICMP or ICMPv6, whichever belongs to the address.
    Icmp,
    /// Any other protocol, by its IANA number.
    Other(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp => f.write_str("tcp"),
            Protocol::Udp => f.write_str("udp"),
            Protocol::Sctp => f.write_str("sctp"),
            Protocol::Icmp => f.write_str("icmp"),
            Protocol::Other(number) => write!(f, "{number}"),
        }
    }
}

/// A text that is not a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(String);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a valid protocol; use tcp, udp, sctp, icmp or a number from 0 to 255", self.0)
    }
}

impl std::error::Error for ProtocolError {}

impl FromStr for Protocol {
    type Err = ProtocolError;

    /// Reads `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or an IANA number.
    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        match text {
            "tcp" | "6" => Ok(Protocol::Tcp),
            "udp" | "17" => Ok(Protocol::Udp),
            "sctp" | "132" => Ok(Protocol::Sctp),
            "icmp" | "icmpv6" | "1" | "58" => Ok(Protocol::Icmp),
            _ => text.parse().map(Protocol::Other).map_err(|_| ProtocolError(text.to_owned())),
        }
    }
}

/// The first packet of a flow that leaves the host to a destination that is not local to it.
///
/// `None` stands for "not known": the scope step that would need it is passed, but for the sources of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The source address before any rewriting.
    pub source: Option<IpAddr>,
    /// The source is one of the host's own addresses.
    pub source_is_local: bool,
    /// The source is an address of the outgoing interface itself.
    pub source_on_out_interface: bool,
    /// The name of the outgoing interface.
    pub out_interface: Option<String>,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// For TCP: of SYN, RST, ACK and FIN only SYN is set. Meaningless for other protocols.
    pub opens_connection: bool,
    /// The frame was bridged, not routed, and reached us through br_netfilter.
    pub bridged: bool,
    /// The packet mark behind routing.
    pub mark: u32,
    /// An IPsec policy will encrypt it.
    pub ipsec: bool,
    /// Its destination was rewritten; `destination` is what it became.
    pub dnated: bool,
    /// The destination port, as it is now.
    pub destination_port: Option<u16>,
    /// The connected network through which the destination is reached.
    pub network: Option<Prefix>,
    /// The source that the route to it through the outgoing interface prefers.
    pub preferred_source: Option<IpAddr>,
}

impl Flow {
    /// A forwarded connection to a destination, nothing else known of it.
    pub fn forwarded_to(destination: IpAddr) -> Self {
        Flow {
            source: None,
            source_is_local: false,
            source_on_out_interface: false,
            out_interface: None,
            destination,
            protocol: Protocol::Tcp,
            opens_connection: true,
            bridged: false,
            mark: 0,
            ipsec: false,
            dnated: false,
            destination_port: None,
            network: None,
            preferred_source: None,
        }
    }
}
