//! What our objects are called.

use crate::policy::Family;
use crate::ruleset::GroupKind;
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
    /// The base chain; sends each family to its own.
    Postrouting,
    /// The statements of a family: part 1, and the part that follows each gate.
    Part(Family, u8),
    /// The ways to masquerade of a family, when there are several (`toPorts`).
    Masquerade(Family),
}

impl ChainName {
    /// The family that it belongs to; `None` for the base chain.
    pub fn family(self) -> Option<Family> {
        match self {
            ChainName::Postrouting => None,
            ChainName::Part(family, _) | ChainName::Masquerade(family) => Some(family),
        }
    }

    /// The chain of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "postrouting" {
            return Some(ChainName::Postrouting);
        }
        let (family, rest) = match (name.strip_prefix("ipv4"), name.strip_prefix("ipv6")) {
            (Some(rest), _) => (Family::V4, rest),
            (_, Some(rest)) => (Family::V6, rest),
            _ => return None,
        };
        let found = match rest {
            "" => ChainName::Part(family, 1),
            "-masquerade" => ChainName::Masquerade(family),
            part => ChainName::Part(family, part.strip_prefix('-')?.parse().ok()?),
        };
        (found.to_string() == name).then_some(found)
    }

    /// What the chain is for, as its comment says it.
    pub fn comment(self) -> &'static str {
        match self {
            ChainName::Postrouting => "source address translation for flows that leave the host",
            ChainName::Part(Family::V4, 1) => "which IPv4 flows are masqueraded",
            ChainName::Part(Family::V6, 1) => "which IPv6 flows are masqueraded",
            ChainName::Part(_, _) => "what follows for flows in scope",
            ChainName::Masquerade(_) => "masquerade with the source ports of toPorts",
        }
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Postrouting => f.write_str("postrouting"),
            ChainName::Part(family, part) if *part <= 1 => f.write_str(family_word(*family)),
            ChainName::Part(family, part) => write!(f, "{}-{part}", family_word(*family)),
            ChainName::Masquerade(family) => write!(f, "{}-masquerade", family_word(*family)),
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
    pub kind: GroupKind,
    /// The family of its addresses.
    pub family: Family,
    /// A set that can't be changed at once is followed by one of the other name.
    pub second: bool,
}

impl SetName {
    /// The name that a list has unless it is taken.
    pub const fn new(kind: GroupKind, family: Family) -> Self {
        SetName { kind, family, second: false }
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
        let (kind, family) = match (first.strip_suffix('4'), first.strip_suffix('6')) {
            (Some(kind), _) => (kind, Family::V4),
            (_, Some(kind)) => (kind, Family::V6),
            _ => return None,
        };
        let kind = GroupKind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(SetName { kind, family, second })
    }

    /// The configuration key whose list it holds, as its comment says it.
    pub fn comment(self) -> &'static str {
        match self.kind {
            GroupKind::Sources => "sourceCIDRs",
            GroupKind::ExcludedSources => "excludeSourceCIDRs",
            GroupKind::Exceptions => "masqueradeExceptionCIDRs",
            GroupKind::Exempt => "nonMasqueradeCIDRs",
        }
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
        write!(f, "{}{family}{}", self.kind.name(), if self.second { "-2" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_read_back_and_no_others() {
        for family in Family::ALL {
            for name in [ChainName::Postrouting, ChainName::Part(family, 1), ChainName::Part(family, 12)] {
                assert_eq!(ChainName::parse(&name.to_string()), Some(name));
            }
            for kind in GroupKind::ALL {
                for name in SetName::new(kind, family).both() {
                    assert_eq!(SetName::parse(&name.to_string()), Some(name));
                }
            }
        }
        for name in ["", "ipv", "ipv4-", "ipv4-1", "ipv4-02", "ipv6-300", "ipv4masquerade", "Postrouting"] {
            assert_eq!(ChainName::parse(name), None, "{name}");
        }
        for name in ["", "4", "exempt", "exempt5", "exempts4", "exempt-2", "exempt4-1", "exempt4-2-2"] {
            assert_eq!(SetName::parse(name), None, "{name}");
        }
    }
}
