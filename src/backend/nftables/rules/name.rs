//! What our objects are called.

use super::interval::{address, address_type, largest, width};
use super::port_set::{GatedPorts, PortSet};
use crate::policy::{Family, Prefix};
use crate::ruleset::{ChainId, Hook, ListId, ListKey, Place, SectionId};
use std::fmt;

/// The name of our table, in the inet family.
pub const TABLE: &str = "ip-masq-agent";
/// The name of the table that does the work while ours is replaced.
pub const STAND_IN: &str = "ip-masq-agent-standin";

/// The tables that can be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableName {
    /// The table that is there to stay.
    Main,
    /// What can't be changed about a table needs another one of the same name: until that is complete, this one holds
    /// the rules.
    StandIn,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableName::Main => TABLE,
            TableName::StandIn => STAND_IN,
        })
    }
}

/// The names of our chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainName {
    /// The base chain of a hook; sends each family to its own.
    Base(Hook),
    /// A chain of a family.
    Of(Family, ChainId),
    /// A chain of a family's port forwards.
    Forwards(Family, NftForwardChain),
}

/// The chains of port forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NftForwardChain {
    /// Looks for the forward of a flow.
    LookUp,
    /// Keeps others away from loopback addresses.
    Guard,
    /// What is asked behind the look-up, where not every flow may.
    Gate(GatedPorts),
}

impl ChainName {
    /// The base chain that is always there.
    pub const POSTROUTING: ChainName = ChainName::Base(Hook::Postrouting);

    /// The chain of a family that the base chain of a hook leads to.
    pub const fn first(hook: Hook, family: Family) -> Self {
        match hook {
            Hook::Postrouting => ChainName::Of(family, ChainId { section: SectionId::Top, place: Place::Part(1) }),
            Hook::Prerouting | Hook::Output => ChainName::Forwards(family, NftForwardChain::LookUp),
            Hook::RawPrerouting => ChainName::Forwards(family, NftForwardChain::Guard),
        }
    }

    /// The family that it belongs to; `None` for a base chain.
    pub fn family(self) -> Option<Family> {
        match self {
            ChainName::Base(_) => None,
            ChainName::Of(family, _) | ChainName::Forwards(family, _) => Some(family),
        }
    }

    /// The chain of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(base) = Hook::ALL.map(ChainName::Base).into_iter().find(|base| base.to_string() == name) {
            return Some(base);
        }
        if let Some(rest) = name.strip_prefix("forwards-") {
            return parse_forwards(rest).filter(|found| found.to_string() == name);
        }
        let (section, name_there) = SectionId::of_name(name);
        let (family, rest) = match (name_there.strip_prefix("ipv4"), name_there.strip_prefix("ipv6")) {
            (Some(rest), _) => (Family::V4, rest),
            (_, Some(rest)) => (Family::V6, rest),
            _ => return None,
        };
        let place = match rest {
            "" => Place::Part(1),
            "-masquerade" => Place::Masquerade,
            branch if branch.starts_with("-out-") => Place::Branch(branch.strip_prefix("-out-")?.parse().ok()?),
            part => Place::Part(part.strip_prefix('-')?.parse().ok()?),
        };
        let found = ChainName::Of(family, ChainId { section, place });
        (found.to_string() == name).then_some(found)
    }

    /// The type and the hook of a base chain, in nft's words; each ends with a space.
    pub fn place(self) -> &'static str {
        match self {
            ChainName::Base(Hook::RawPrerouting) => "type filter hook prerouting ",
            ChainName::Base(Hook::Prerouting) => "type nat hook prerouting ",
            ChainName::Base(Hook::Output) => "type nat hook output ",
            ChainName::Base(Hook::Postrouting) => "type nat hook postrouting ",
            ChainName::Of(..) | ChainName::Forwards(..) => "",
        }
    }

    /// What the chain is for, as its comment says it.
    pub fn comment(self) -> &'static str {
        match self {
            ChainName::Base(Hook::RawPrerouting) => "what is kept away from loopback addresses",
            ChainName::Base(Hook::Prerouting) => "destination address translation for flows that arrive",
            ChainName::Base(Hook::Output) => "destination address translation for flows of the host itself",
            ChainName::Base(Hook::Postrouting) => "source address translation for flows that leave the host",
            ChainName::Forwards(_, NftForwardChain::LookUp) => "which flows to this host are forwarded, and where to",
            ChainName::Forwards(_, NftForwardChain::Guard) => "what is kept away from loopback addresses",
            ChainName::Forwards(_, NftForwardChain::Gate(_)) => "which flows to these ports are forwarded",
            ChainName::Of(family, ChainId { place, .. }) => match (place, family) {
                (Place::Part(1), Family::V4) => "which IPv4 flows are masqueraded",
                (Place::Part(1), Family::V6) => "which IPv6 flows are masqueraded",
                (Place::Part(_), _) => "what follows for flows in scope",
                (Place::Branch(_), _) => "which entry of egress a flow belongs to, by its source",
                (Place::Masquerade, _) => "masquerade with the source ports of toPorts",
                (Place::Forward(_), _) => "which forward of portForwards a flow takes",
            },
        }
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, ChainId { section, place }) = match self {
            ChainName::Base(Hook::RawPrerouting) => return f.write_str("raw-prerouting"),
            ChainName::Base(Hook::Prerouting) => return f.write_str("prerouting"),
            ChainName::Base(Hook::Output) => return f.write_str("output"),
            ChainName::Base(Hook::Postrouting) => return f.write_str("postrouting"),
            ChainName::Forwards(family, chain) => {
                write!(f, "forwards-{}", family_word(*family))?;
                return match chain {
                    NftForwardChain::LookUp => Ok(()),
                    NftForwardChain::Guard => f.write_str("-guard"),
                    NftForwardChain::Gate(gate) => write!(f, "-{gate}"),
                };
            }
            ChainName::Of(family, id) => (family_word(*family), *id),
        };
        let section = section.prefix();
        match place {
            Place::Part(0 | 1) => write!(f, "{section}{family}"),
            Place::Part(part) => write!(f, "{section}{family}-{part}"),
            Place::Masquerade => write!(f, "{section}{family}-masquerade"),
            Place::Branch(number) => write!(f, "{section}{family}-out-{number}"),
            Place::Forward(chain) => write!(f, "{section}{family}-{chain}"),
        }
    }
}

/// The chain of port forwards that a name may stand for; the caller compares.
fn parse_forwards(name: &str) -> Option<ChainName> {
    let family = Family::ALL.into_iter().find(|family| name.starts_with(family_word(*family)))?;
    let chain = match name.strip_prefix(family_word(family))?.strip_prefix('-') {
        None => NftForwardChain::LookUp,
        Some("guard") => NftForwardChain::Guard,
        Some(gate) => NftForwardChain::Gate(GatedPorts::parse(gate)?),
    };
    Some(ChainName::Forwards(family, chain))
}

/// The word for a family in names, and nft's after `meta nfproto`.
pub fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// The names of our sets and maps: what is in it, `4` or `6` for the family, and `-2` where the first name was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// What it holds.
    pub of: SetOf,
    /// The family of its addresses.
    pub family: Family,
    /// A set that can't be changed at once is followed by one of the other name.
    pub second: bool,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetOf {
    /// The prefixes of a list.
    List(ListId),
    /// Those of a block of addresses.
    Part(ListId, Prefix),
    /// A part of the port forwards.
    Ports(PortSet),
    /// The sources that routes prefer, as a section gives them.
    RouteSources(SectionId),
    /// What the ports of a forward become behind its gates; by its number.
    Shifted(u32),
}

impl SetName {
    /// The name that a list has unless it is taken.
    pub const fn new(list: ListId, family: Family) -> Self {
        SetName { of: SetOf::List(list), family, second: false }
    }

    /// The same of a part of a list.
    pub fn of_part(list: ListId, block: Prefix) -> Self {
        SetName { of: SetOf::Part(list, block), family: block.family(), second: false }
    }

    /// The list that it is, or is a part of.
    pub fn list(self) -> Option<ListId> {
        match self.of {
            SetOf::List(list) | SetOf::Part(list, _) => Some(list),
            SetOf::Ports(_) | SetOf::RouteSources(_) | SetOf::Shifted(_) => None,
        }
    }

    /// The same of a part of the port forwards.
    pub const fn of_ports(ports: PortSet, family: Family) -> Self {
        SetName { of: SetOf::Ports(ports), family, second: false }
    }

    /// The same of the sources that routes prefer, as a section gives them.
    pub const fn of_route_sources(section: SectionId, family: Family) -> Self {
        SetName { of: SetOf::RouteSources(section), family, second: false }
    }

    /// The same of what the ports of a forward become behind its gates.
    pub const fn of_shifted(forward: u32, family: Family) -> Self {
        SetName { of: SetOf::Shifted(forward), family, second: false }
    }

    /// The section that gives flows what is in it, where it is the sources that routes prefer.
    pub fn gives_route_sources(self) -> Option<SectionId> {
        match self.of {
            SetOf::RouteSources(section) => Some(section),
            SetOf::List(_) | SetOf::Part(..) | SetOf::Ports(_) | SetOf::Shifted(_) => None,
        }
    }

    /// The first of its two names.
    pub fn usual(self) -> Self {
        SetName { second: false, ..self }
    }

    /// Both names of a set, the usual one first.
    pub fn both(self) -> [Self; 2] {
        [self.usual(), SetName { second: true, ..self }]
    }

    /// What it holds where its keys have several fields.
    pub fn ports(self) -> Option<PortSet> {
        match self.of {
            SetOf::List(_) | SetOf::Part(..) => None,
            SetOf::Ports(ports) => Some(ports),
            SetOf::RouteSources(_) => Some(PortSet::RouteSources),
            SetOf::Shifted(_) => Some(PortSet::Shifted),
        }
    }

    /// True of a set of blocks of addresses, which are found by their hash and not in a row of intervals.
    pub fn has_blocks(self) -> bool {
        matches!(self.of, SetOf::List(ListId { key: ListKey::Near, .. }))
    }

    /// True where more elements than needed do no harm for a while, and fewer would.
    pub fn may_be_wider(self) -> bool {
        self.has_blocks() || self.ports().is_some_and(PortSet::recognizes)
    }

    /// The set of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let (first, second) = match name.strip_suffix("-2") {
            Some(first) => (first, true),
            None => (name, false),
        };
        if let Some((list, block)) = block_of_name(first) {
            let SetOf::List(list) = SetName::parse(list).filter(|whole| !whole.second)?.of else { return None };
            return Some(SetName { second, ..SetName::of_part(list, block) }).filter(|found| found.to_string() == name);
        }
        let (key, family) = match (first.strip_suffix('4'), first.strip_suffix('6')) {
            (Some(key), _) => (key, Family::V4),
            (_, Some(key)) => (key, Family::V6),
            _ => return None,
        };
        if let Some(ports) = PortSet::ALL.into_iter().find(|known| known.name() == key) {
            return Some(SetName { of: SetOf::Ports(ports), family, second });
        }
        let (section, key) = SectionId::of_name(key);
        if key == PortSet::RouteSources.name() {
            return Some(SetName { of: SetOf::RouteSources(section), family, second });
        }
        if let (SectionId::Forward(forward), true) = (section, key == PortSet::Shifted.name()) {
            return Some(SetName { of: SetOf::Shifted(forward), family, second });
        }
        let key = ListKey::ALL.into_iter().find(|known| known.name() == key)?;
        Some(SetName { of: SetOf::List(ListId { section, key }), family, second })
    }

    /// What is in it, as its comment says it: the configuration key of a list.
    pub fn comment(self) -> &'static str {
        match self.of {
            SetOf::List(list) | SetOf::Part(list, _) => list.key.key(),
            SetOf::Ports(ports) => ports.comment(),
            SetOf::RouteSources(_) => PortSet::RouteSources.comment(),
            SetOf::Shifted(_) => PortSet::Shifted.comment(),
        }
    }

    /// What it is, in nft's words.
    pub fn kind(self) -> &'static str {
        if self.ports().is_some_and(PortSet::is_map) { "map" } else { "set" }
    }

    /// The type of its elements and what else is said of all of them, in nft's words; each ends with a separator.
    pub fn declaration(self, separator: &str) -> String {
        match self.of {
            SetOf::RouteSources(_) => PortSet::RouteSources.declaration(self.family, separator),
            SetOf::Shifted(_) => PortSet::Shifted.declaration(self.family, separator),
            SetOf::List(_) if self.has_blocks() => format!("type {}{separator}", address_type(self.family)),
            SetOf::List(_) | SetOf::Part(..) => {
                format!("type {}{separator}flags interval{separator}", address_type(self.family))
            }
            SetOf::Ports(ports) => ports.declaration(self.family, separator),
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.family == Family::V4 { 4 } else { 6 };
        let (section, name) = match self.of {
            SetOf::List(ListId { section, key }) | SetOf::Part(ListId { section, key }, _) => {
                (section.prefix(), key.name())
            }
            SetOf::Ports(ports) => (String::new(), ports.name()),
            SetOf::RouteSources(section) => (section.prefix(), PortSet::RouteSources.name()),
            SetOf::Shifted(forward) => (SectionId::Forward(forward).prefix(), PortSet::Shifted.name()),
        };
        write!(f, "{section}{name}{family}")?;
        if let SetOf::Part(_, block) = self.of {
            let digits = 2 * width(self.family);
            write!(f, "-{}-{:0digits$x}", block.length(), block.numbers().0)?;
        }
        f.write_str(if self.second { "-2" } else { "" })
    }
}

/// The name of a list, and the block that the name of a part has behind it; the caller compares.
fn block_of_name(name: &str) -> Option<(&str, Prefix)> {
    let (rest, first) = name.rsplit_once('-')?;
    let (list, length) = rest.rsplit_once('-')?;
    let family = if list.ends_with('4') { Family::V4 } else { Family::V6 };
    let first = u128::from_str_radix(first, 16).ok().filter(|first| *first <= largest(family))?;
    Some((list, Prefix::containing(address(first, family), length.parse().ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_read_back_and_no_others() {
        assert_eq!(ChainName::parse("postrouting"), Some(ChainName::POSTROUTING));
        for section in [SectionId::Top, SectionId::Egress(1), SectionId::Egress(64)] {
            for family in Family::ALL {
                for place in [Place::Part(1), Place::Part(12), Place::Masquerade, Place::Branch(256)] {
                    let name = ChainName::Of(family, ChainId { section, place });
                    assert_eq!(ChainName::parse(&name.to_string()), Some(name));
                }
                for name in SetName::of_route_sources(section, family).both() {
                    assert_eq!(SetName::parse(&name.to_string()), Some(name));
                }
                for key in ListKey::ALL {
                    let list = ListId { section, key };
                    let block = |length| Prefix::containing(address(u128::MAX, family), length).unwrap();
                    let parts = [1, 2, 13, 32].map(|length| SetName::of_part(list, block(length)));
                    for name in [SetName::new(list, family)].into_iter().chain(parts).flat_map(SetName::both) {
                        assert_eq!(SetName::parse(&name.to_string()), Some(name));
                    }
                }
            }
        }
        for family in Family::ALL {
            let host = if family == Family::V4 { "198.51.100.7" } else { "2001:db8::7" };
            let gate = |host: Option<&str>| {
                NftForwardChain::Gate(GatedPorts {
                    host: host.map(|host| host.parse().unwrap()),
                    protocol: 17,
                    first: 80,
                })
            };
            for chain in [NftForwardChain::LookUp, NftForwardChain::Guard, gate(None), gate(Some(host))] {
                let name = ChainName::Forwards(family, chain);
                assert_eq!(ChainName::parse(&name.to_string()), Some(name));
            }
            for name in SetName::of_shifted(10_000, family).both() {
                assert_eq!(SetName::parse(&name.to_string()), Some(name));
            }
            for key in [ListKey::Sources, ListKey::ExcludedSources] {
                for name in SetName::new(ListId { section: SectionId::Forward(7), key }, family).both() {
                    assert_eq!(SetName::parse(&name.to_string()), Some(name));
                }
            }
            for ports in PortSet::ALL {
                for name in SetName::of_ports(ports, family).both() {
                    assert_eq!(SetName::parse(&name.to_string()), Some(name));
                }
            }
        }
        for hook in Hook::ALL {
            assert_eq!(ChainName::parse(&ChainName::Base(hook).to_string()), Some(ChainName::Base(hook)));
        }
        for name in [
            "",
            "forwards-",
            "forwards-ipv4-",
            "forwards-ipv4-tcp",
            "forwards-ipv4-tcp-080",
            "forwards-ipv6-2001:db8::7-tcp-80",
            "ipv",
            "ipv4-",
            "ipv4-1",
            "ipv4-02",
            "ipv6-300",
            "ipv4masquerade",
            "Postrouting",
            "egress-ipv4",
            "egress01-ipv4",
        ] {
            assert_eq!(ChainName::parse(name), None, "{name}");
        }
        for name in
            ["", "4", "exempt", "exempt5", "exempts4", "exempt-2", "exempt4-1", "exempt4-2-2", "egress300-exempt4"]
                .into_iter()
                .chain(["exempt4-8-0a000001", "exempt4-8-a000000", "exempt4-33-0a000000", "exempt6-8-0a000000"])
                .chain([
                    "ports4",
                    "forward01-ports4",
                    "forward-ports4",
                    "egress1-ports4",
                    "forwards4-8-0a000000",
                    "exempt4-2-8-0a000000",
                ])
        {
            assert_eq!(SetName::parse(name), None, "{name}");
        }
    }
}
