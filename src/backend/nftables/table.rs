//! Our table as a value: what the kernel holds, or what it should hold.

use super::interval::Interval;
use super::rule::Rule;
use crate::policy::Family;
use crate::ruleset::GroupKind;
use std::fmt;
use std::sync::Arc;

/// The name of our table, in the inet family.
pub const TABLE: &str = "ip-masq-agent";
/// The comment by which the table is known as ours. It survives `nft list ruleset` and `nft -f`.
pub const TABLE_COMMENT: &str = "managed by ip-masq-agent";

/// Our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What NFTA_TABLE_FLAGS says.
    pub flags: TableFlags,
    /// The chains; the base chain first.
    pub chains: Vec<Chain>,
    /// The sets.
    pub sets: Vec<Set>,
}

impl Table {
    /// A table with nothing in it.
    pub fn empty(flags: TableFlags) -> Self {
        Table { flags, chains: Vec::new(), sets: Vec::new() }
    }

    /// The chain of a name.
    pub fn chain(&self, name: ChainName) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// The set of a name.
    pub fn set(&self, name: SetName) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// The flags of a table that we know (`enum nft_table_flags`; libc has none of them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableFlags(pub u32);

impl TableFlags {
    /// Its chains are not in the packet path.
    pub const DORMANT: u32 = 1;
    /// Only the socket that made it may change it (Linux 5.12).
    pub const OWNER: u32 = 2;
    /// It outlives its owner (Linux 6.9).
    pub const PERSIST: u32 = 4;

    /// Owned while its owner lives, then there for the next one.
    pub const PERSISTENT: TableFlags = TableFlags(Self::OWNER | Self::PERSIST);

    /// True when a flag is set.
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

impl fmt::Display for TableFlags {
    /// As nft writes them behind the word `flags`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::DORMANT, "dormant"), (Self::OWNER, "owner"), (Self::PERSIST, "persist")];
        let set: Vec<_> = names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name).collect();
        f.write_str(&set.join(", "))
    }
}

/// A chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// Its place in the packet path; base chains have one.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The place of the base chain: type nat, hook postrouting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Lower runs first.
    pub priority: i32,
    /// The policy is accept, not drop.
    pub accepts: bool,
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

/// An interval set and its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: SetName,
    /// Its elements, sorted; `None` when they are no row of intervals, which we never write.
    pub elements: Option<Arc<[Interval]>>,
}

/// The names of our sets: the list, and `4` or `6` for the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// The list whose prefixes it holds.
    pub kind: GroupKind,
    /// The family of its addresses.
    pub family: Family,
}

impl SetName {
    /// The set of a name; `None` when we have none of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, family) = match (name.strip_suffix('4'), name.strip_suffix('6')) {
            (Some(kind), _) => (kind, Family::V4),
            (_, Some(kind)) => (kind, Family::V6),
            _ => return None,
        };
        let kind = GroupKind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(SetName { kind, family })
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
        write!(f, "{}{}", self.kind.name(), if self.family == Family::V4 { 4 } else { 6 })
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
                let name = SetName { kind, family };
                assert_eq!(SetName::parse(&name.to_string()), Some(name));
            }
        }
        for name in ["", "ipv", "ipv4-", "ipv4-1", "ipv4-02", "ipv6-300", "ipv4masquerade", "Postrouting"] {
            assert_eq!(ChainName::parse(name), None, "{name}");
        }
        for name in ["", "4", "exempt", "exempt5", "exempts4"] {
            assert_eq!(SetName::parse(name), None, "{name}");
        }
    }
}
