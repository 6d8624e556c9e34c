//! What happens to a flow, and who said so. Pure: no IO, no clock, nothing else of ours.
//!
//! A [`Policy`] is the one value that `explain`, the renderers and the tests share.

#![forbid(unsafe_code)]

mod about;
pub mod address;
mod address_range;
mod address_set;
mod arrival;
mod egress;
mod flow;
mod forward;
mod forward_mark;
mod interface;
mod interface_class;
mod longest_prefix;
mod mark;
mod ports;
mod prefix;
mod provenance;
mod route_source;
mod snat;
mod summary;
mod verdict;

pub use address_range::{AddressRange, AddressRangeError};
pub use address_set::AddressSet;
pub use arrival::{Arrival, ForwardVerdict, Gate};
pub use egress::{Egress, MAX_ENTRIES, MAX_INTERFACES, Section};
pub use flow::{Flow, Protocol};
pub use forward::{FORWARD_PROTOCOLS, Forward, Hairpin, HostAddress};
pub use forward_mark::ForwardMark;
pub use interface::{InterfacePattern, InterfacePatternError};
pub use interface_class::InterfaceClass;
pub use longest_prefix::{LongestPrefix, most_specific};
pub use mark::{MaskedMark, MaskedMarkError};
pub use ports::{PortRange, PortRanges, PortRangesError};
pub use prefix::{
    LINK_LOCAL_V6, LOOPBACK_V4, LOOPBACK_V6, PRIVATE_RANGES, Prefix, PrefixError, PrefixSet, RESERVED_RANGES,
};
pub use provenance::{Provenance, Step};
pub use route_source::{PreferredSource, RouteSources};
pub use snat::{Snat, SnatAddresses, Verdict};
pub use summary::RangeCounts;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// An address family. Everything that reaches the kernel is per family, so that one can fail without the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Family {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// Both, in the order in which they are served.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Every address of the family.
    pub fn whole(self) -> Prefix {
        match self {
            Family::V4 => prefix::WHOLE_V4,
            Family::V6 => prefix::WHOLE_V6,
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Origin {
    #[default]
    Default,
    /// A command-line flag, without the dashes: `non-masquerade-cidrs`. Told to nobody: who asks for a policy has none.
    #[serde(skip)]
    Flag(#[serde(skip)] &'static str),
    /// A place in a configuration file.
    File {
        /// The file, as it was opened.
        path: Arc<Path>,
        /// The line, from 1.
        line: u32,
        /// The column, from 1 and in characters.
        column: u32,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("built-in default"),
            Origin::Flag(name) => write!(f, "flag --{name}"),
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
        }
    }
}

/// A value with the place it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct WithOrigin<T> {
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
}

/// How the ranges of a policy are asked (`evaluation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Evaluation {
    /// Exceptions, then exemptions.
    #[default]
    Ordered,
    /// The longest prefix of both lists decides.
    LongestPrefix,
}

/// Which flows are masqueraded. See [`Policy::verdict`] for the order in which the fields are asked.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    /// Outgoing interfaces in scope; empty means all (`outInterfaces`).
    pub out_interfaces: Vec<WithOrigin<InterfacePattern>>,
    /// Sources in scope; unset means all (`sourceCIDRs`).
    pub sources: PrefixSet,
    /// Sources out of scope (`excludeSourceCIDRs`).
    pub excluded_sources: PrefixSet,
    /// Destinations masqueraded whatever the ranges say (`masqueradeExceptionCIDRs`).
    pub exceptions: PrefixSet,
    /// Destinations that keep their source (`nonMasqueradeCIDRs`).
    pub exempt: PrefixSet,
    /// Masquerade 169.254.0.0/16 too (`masqLinkLocal`).
    pub masq_link_local: bool,
    /// Masquerade fe80::/10 too (`masqLinkLocalIPv6`).
    pub masq_link_local_ipv6: bool,
    /// Masquerade multicast and limited broadcast too (`masqMulticast`).
    pub masq_multicast: bool,
    /// Drop the guards for local sources and bridged frames (`masqLocalSource`).
    pub masq_local_source: bool,
    /// Act on IPv6 at all (`enableIPv6`).
    pub enable_ipv6: bool,
    /// Let the kernel choose source ports at random (`randomFully`).
    pub random_fully: bool,
    /// Source ports to use for TCP, UDP and SCTP (`toPorts`).
    pub to_ports: Option<PortRanges>,
    /// What sources become that nothing exempts (`snat`).
    pub snat: WithOrigin<Snat>,
    /// Packets with these marks keep their source (`exemptMarks`).
    pub exempt_marks: Vec<WithOrigin<MaskedMark>>,
    /// What an IPsec policy will encrypt keeps its source (`exemptIpsec`).
    pub exempt_ipsec: WithOrigin<bool>,
    /// How exceptions and exemptions are asked (`evaluation`).
    pub evaluation: Evaluation,
    /// Scopes with a treatment of their own, asked before the top level (`egress`).
    pub egress: Vec<Egress>,
    /// Interfaces between which a flowtable carries open connections (`fastPath`); each is one name.
    pub fast_path: Vec<WithOrigin<InterfacePattern>>,
    /// What comes to the host and goes on to another one (`portForwards`).
    pub forwards: Vec<Forward>,
    /// How those are marked whose source is to be translated (`markMasqBit`, `externalSetMarkChain`).
    pub forward_mark: Option<WithOrigin<ForwardMark>>,
}

impl Policy {
    /// True when anything is asked of the family at all.
    pub fn enables(&self, family: Family) -> bool {
        family == Family::V4 || self.enable_ipv6
    }
}
