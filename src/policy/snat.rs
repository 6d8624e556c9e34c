//! What the sources of flows become (`snat`).

use super::{AddressRange, Family};
use std::fmt;
use std::net::IpAddr;

/// What happens to the source address of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Our rules leave it alone; later rules of the host may still act.
    Return,
    /// It becomes the address of the outgoing interface.
    Masquerade,
    /// It becomes an address of these; of several, always the same one for one source.
    Snat(AddressRange),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Return => f.write_str("keep source"),
            Verdict::Masquerade => f.write_str("masquerade"),
            Verdict::Snat(range) => write!(f, "snat to {range}"),
        }
    }
}

/// What the sources become of flows that nothing exempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Snat {
    /// The address of the outgoing interface.
    #[default]
    Masquerade,
    /// They stay.
    Nothing,
    /// The address that the route prefers; without one, that of the outgoing interface.
    RouteSource,
    /// Addresses of one family or both; sources of a family without any are masqueraded.
    To(SnatAddresses),
}

/// Addresses of one family or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SnatAddresses {
    /// What IPv4 sources become.
    pub v4: Option<AddressRange>,
    /// What IPv6 sources become.
    pub v6: Option<AddressRange>,
}

impl SnatAddresses {
    /// What sources of a family become.
    pub fn of(self, family: Family) -> Option<AddressRange> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Adds a range; false when there is one of its family.
    pub fn add(&mut self, range: AddressRange) -> bool {
        let slot = match range.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let free = slot.is_none();
        slot.get_or_insert(range);
        free
    }
}

impl Snat {
    /// What happens to a flow of the family that nothing exempts; `preferred` is the source that its route prefers.
    pub fn verdict(self, family: Family, preferred: Option<IpAddr>) -> Verdict {
        match self {
            Snat::Nothing => Verdict::Return,
            Snat::Masquerade => Verdict::Masquerade,
            Snat::RouteSource => preferred.map_or(Verdict::Masquerade, |source| Verdict::Snat(source.into())),
            Snat::To(addresses) => addresses.of(family).map_or(Verdict::Masquerade, Verdict::Snat),
        }
    }
}

impl fmt::Display for Snat {
    /// As it is written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Snat::Masquerade => f.write_str("masquerade"),
            Snat::Nothing => f.write_str("none"),
            Snat::RouteSource => f.write_str("route-source"),
            Snat::To(addresses) => {
                let ranges = Family::ALL.into_iter().filter_map(|family| addresses.of(family));
                f.write_str(&ranges.map(|range| range.to_string()).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
