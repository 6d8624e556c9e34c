//! What our objects are called.

use crate::policy::Family;
use crate::ruleset::{ChainId, Hook, ListId, ListKey, Place, Section};
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
}

impl ChainName {
    /// The base chain that is there today.
    pub const POSTROUTING: ChainName = ChainName::Base(Hook::Postrouting);

    /// The chain of a family that the base chain leads to.
    pub const fn first(family: Family) -> Self {
        ChainName::Of(family, ChainId { section: Section::Top, place: Place::Part(1) })
    }

    /// The family that it belongs to; `None` for the base chain.
    pub fn family(self) -> Option<Family> {
        match self {
            ChainName::Base(_) => None,
            ChainName::Of(family, _) => Some(family),
        }
    }

    /// The chain of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == ChainName::POSTROUTING.to_string() {
            return Some(ChainName::POSTROUTING);
        }
        let (section, name_there) = Section::of_name(name);
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

    /// What the chain is for, as its comment says it.
    pub fn comment(self) -> &'static str {
        match self {
            ChainName::Base(Hook::RawPrerouting) => "what is kept away from loopback addresses",
            ChainName::Base(Hook::Prerouting) => "destination address translation for flows that arrive",
            ChainName::Base(Hook::Output) => "destination address translation for flows of the host itself",
            ChainName::Base(Hook::Postrouting) => "source address translation for flows that leave the host",
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

/// The word for a family in names.
pub fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// The names of our sets: the list, `4` or `6` for the family, and `-2` where the first name was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// The list whose prefixes it holds.
    pub list: ListId,
    /// The family of its addresses.
    pub family: Family,
    /// A set that can't be changed at once is followed by one of the other name.
    pub second: bool,
}

impl SetName {
    /// The name that a list has unless it is taken.
    pub const fn new(list: ListId, family: Family) -> Self {
        SetName { list, family, second: false }
    }

    /// Both names of a list, the usual one first.
    pub fn both(self) -> [Self; 2] {
        [SetName { second: false, ..self }, SetName { second: true, ..self }]
    }

    /// The set of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let (first, second) = match name.strip_suffix("-2") {
            Some(first) => (first, true),
            None => (name, false),
        };
        let (section, first) = Section::of_name(first);
        let (key, family) = match (first.strip_suffix('4'), first.strip_suffix('6')) {
            (Some(key), _) => (key, Family::V4),
            (_, Some(key)) => (key, Family::V6),
            _ => return None,
        };
        let key = ListKey::ALL.into_iter().find(|known| known.name() == key)?;
        Some(SetName { list: ListId { section, key }, family, second })
    }

    /// The configuration key whose list it holds, as its comment says it.
    pub fn comment(self) -> &'static str {
        self.list.key.key()
    }

    /// The type of its elements, in nft's words.
    pub fn key_type(self) -> &'static str {
        match self.family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.family == Family::V4 { 4 } else { 6 };
        let ListId { section, key } = self.list;
        write!(f, "{}{}{family}{}", section.prefix(), key.name(), if self.second { "-2" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_read_back_and_no_others() {
        assert_eq!(ChainName::parse("postrouting"), Some(ChainName::POSTROUTING));
        for section in [Section::Top, Section::Egress(1), Section::Egress(64)] {
            for family in Family::ALL {
                for place in [Place::Part(1), Place::Part(12), Place::Masquerade, Place::Branch(256)] {
                    let name = ChainName::Of(family, ChainId { section, place });
                    assert_eq!(ChainName::parse(&name.to_string()), Some(name));
                }
                for key in ListKey::ALL {
                    for name in SetName::new(ListId { section, key }, family).both() {
                        assert_eq!(SetName::parse(&name.to_string()), Some(name));
                    }
                }
            }
        }
        for name in [
            "",
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
        {
            assert_eq!(SetName::parse(name), None, "{name}");
        }
    }
}
