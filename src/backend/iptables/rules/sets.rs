//! Lists that are too long for rules: `ipset hash:net` sets, their names, and what makes an existing one right.
//!
//! A set is named after what is in it: `ima4-exempt-1a2b3c4d` is the `nonMasqueradeCIDRs` of IPv4, and the digits are
//! a digest of the chain's name, the list and its prefixes. Another list is another name, so a set that a rule
//! refers to never changes its meaning: the new one is filled, one restore refers to it, the old one is destroyed.

use crate::policy::{Family, Prefix};
use crate::ruleset::{ChainName, CidrList, ListKey};
use crate::sys::nfnetlink::ipset::{Member, SetHeader};
use std::fmt::Write;
use std::sync::Arc;

/// Lists with more prefixes than this, per family, become sets.
pub const THRESHOLD: usize = 64;

/// The kernel's default; a set never has room for less, so that a short list may grow by hand.
const LEAST_ROOM: u32 = 65536;

/// A set of ours that was made with other options under the same name is stepped around by another name.
const ATTEMPTS: u32 = 4;

/// A set as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredSet {
    /// Its name in the kernel.
    pub name: String,
    /// The family of its members.
    pub family: Family,
    /// Its members. None has length 0, which `hash:net` would refuse: aggregated, such a prefix is a whole list.
    pub members: Arc<[Prefix]>,
}

/// A set as it is; members only where somebody asked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSet {
    /// Name, type and sizes.
    pub header: SetHeader,
    /// What is in it.
    pub members: Vec<Member>,
}

impl DesiredSet {
    /// The set for a list: the one that is there already under one of its names, or else under the first name that
    /// nothing in the kernel has.
    pub fn new(chain: &ChainName, list: &CidrList, family: Family, existing: &[SetHeader]) -> Self {
        let mut set = DesiredSet { name: String::new(), family, members: list.prefixes.clone() };
        let holder = |name: &String| existing.iter().find(|header| header.name == *name);
        let there = names(chain, list, family).find(|name| holder(name).is_some_and(|header| set.can_live_in(header)));
        let free = || names(chain, list, family).find(|name| holder(name).is_none());
        // With every name taken by something unusable the first is as bad as any: the kernel refuses it by name.
        set.name = there.or_else(free).or_else(|| names(chain, list, family).next()).unwrap_or_default();
        set
    }

    /// The set for a list among those that the rules refer to.
    pub fn among(there: &[String], chain: &ChainName, list: &CidrList, family: Family) -> Option<Self> {
        let name = names(chain, list, family).find(|name| there.contains(name))?;
        Some(DesiredSet { name, family, members: list.prefixes.clone() })
    }

    /// How many members the set is made for.
    pub fn room(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX).max(LEAST_ROOM)
    }

    /// True when only the members of an existing set can be wrong, not what it is.
    fn can_live_in(&self, header: &SetHeader) -> bool {
        header.type_name == "hash:net"
            && header.family == Some(self.family)
            && header.max_elements >= self.room()
            && !header.has_timeout
    }

    /// True when it is among the observed sets and nothing of it has to be written.
    pub fn is_whole_in(&self, observed: &[ObservedSet]) -> bool {
        let found = observed.iter().find(|found| found.header.name == self.name);
        found.is_some_and(|found| self.can_live_in(&found.header) && self.member_lines(&found.members).is_empty())
    }

    /// The line of `ipset restore` that makes it.
    pub fn create_line(&self) -> String {
        let family = match self.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        format!("create {} hash:net family {family} maxelem {}", self.name, self.room())
    }

    /// The lines of `ipset restore` that give it its members; empty when they are all there and no others.
    pub fn member_lines(&self, observed: &[Member]) -> String {
        let wanted = sorted(self.members.iter().copied());
        let present = sorted(observed.iter().filter(|member| !member.is_exception).map(|member| member.prefix));
        let is_stale = |member: &&Member| member.is_exception || wanted.binary_search(&member.prefix).is_err();
        let mut lines = String::new();
        for member in observed.iter().filter(is_stale) {
            let _ = writeln!(lines, "del {} {}", self.name, member.prefix);
        }
        for prefix in self.members.iter().filter(|prefix| present.binary_search(prefix).is_err()) {
            let _ = writeln!(lines, "add {} {prefix}", self.name);
        }
        lines
    }
}

fn sorted(prefixes: impl Iterator<Item = Prefix>) -> Vec<Prefix> {
    let mut prefixes: Vec<Prefix> = prefixes.collect();
    prefixes.sort_unstable();
    prefixes
}

/// True for the name of a set that an agent made for a family.
pub fn is_our_name(name: &str, family: Family) -> bool {
    let Some(rest) = name.strip_prefix(prefix_of(family)) else { return false };
    let Some((kind, digest)) = rest.rsplit_once('-') else { return false };
    ListKey::ALL.iter().any(|known| known.name() == kind)
        && digest.len() == 8
        && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn prefix_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "ima4-",
        Family::V6 => "ima6-",
    }
}

/// The names that the set for a list can have, each a walk over all of the list.
fn names(chain: &ChainName, list: &CidrList, family: Family) -> impl Iterator<Item = String> {
    (0..ATTEMPTS).map(move |attempt| name(chain, list.id.key, family, &list.prefixes, attempt))
}

/// At most 30 characters; the kernel takes 31 (IPSET_MAXNAMELEN, linux/netfilter/ipset/ip_set.h).
fn name(chain: &ChainName, key: ListKey, family: Family, members: &[Prefix], attempt: u32) -> String {
    let mut digest = Digest::new();
    digest.add(chain.as_str().as_bytes());
    digest.add(&attempt.to_be_bytes());
    for member in members {
        match member.address() {
            std::net::IpAddr::V4(address) => digest.add(&address.octets()),
            std::net::IpAddr::V6(address) => digest.add(&address.octets()),
        }
        digest.add(&[member.length()]);
    }
    format!("{}{}-{:08x}", prefix_of(family), key.name(), digest.folded())
}

/// FNV-1a, 64 bits: the same in every build, because a later build must recognise the sets of this one.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn folded(&self) -> u32 {
        (self.0 >> 32) as u32 ^ self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{ListId, SectionId};

    fn list(key: ListKey, prefixes: &[&str]) -> CidrList {
        let id = ListId { section: SectionId::Top, key };
        CidrList { id, prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn header(set: &DesiredSet) -> SetHeader {
        SetHeader {
            name: set.name.clone(),
            type_name: "hash:net".into(),
            family: Some(set.family),
            max_elements: LEAST_ROOM,
            elements: 0,
            references: 0,
            has_timeout: false,
        }
    }

    #[test]
    fn a_name_says_which_list_it_is_and_changes_with_chain_and_content() {
        let chain = ChainName::default();
        let other: ChainName = "OTHER".parse().unwrap();
        let one = DesiredSet::new(&chain, &list(ListKey::Exempt, &["10.0.0.0/8"]), Family::V4, &[]);
        assert!(one.name.starts_with("ima4-exempt-") && is_our_name(&one.name, Family::V4), "{}", one.name);
        assert!(!is_our_name(&one.name, Family::V6));
        for different in [
            DesiredSet::new(&other, &list(ListKey::Exempt, &["10.0.0.0/8"]), Family::V4, &[]),
            DesiredSet::new(&chain, &list(ListKey::Exempt, &["10.0.0.0/9"]), Family::V4, &[]),
            DesiredSet::new(&chain, &list(ListKey::Sources, &["10.0.0.0/8"]), Family::V4, &[]),
        ] {
            assert_ne!(one.name, different.name);
        }
        let longest = DesiredSet::new(&chain, &list(ListKey::ExcludedSources, &["fc00::/7"]), Family::V6, &[]);
        assert!(longest.name.len() <= 31, "{}", longest.name);
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for name in ["ima4-exempt", "ima4-exempt-xyz", "ima4-exempt-1A2B3C4D", "ima4-other-1a2b3c4d", "f2b-sshd"] {
            assert!(!is_our_name(name, Family::V4), "{name}");
        }
    }

    #[test]
    fn a_set_of_the_wrong_kind_under_our_name_is_stepped_around() {
        let chain = ChainName::default();
        let list = list(ListKey::Exempt, &["10.0.0.0/8"]);
        let first = DesiredSet::new(&chain, &list, Family::V4, &[]);
        let right = header(&first);
        let wrong = SetHeader { type_name: "hash:ip".into(), ..right.clone() };
        assert_eq!(DesiredSet::new(&chain, &list, Family::V4, &[right]), first);
        assert_ne!(DesiredSet::new(&chain, &list, Family::V4, &[wrong]).name, first.name);
    }

    #[test]
    fn only_what_differs_is_written() {
        let set = DesiredSet::new(
            &ChainName::default(),
            &list(ListKey::Exempt, &["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"]),
            Family::V4,
            &[],
        );
        let member = |text: &str, is_exception| Member { prefix: text.parse().unwrap(), is_exception };
        let observed = [member("10.0.0.0/8", false), member("192.168.0.0/16", true), member("203.0.113.0/24", false)];
        let name = &set.name;
        let expected = format!(
            "del {name} 192.168.0.0/16\ndel {name} 203.0.113.0/24\nadd {name} 192.168.0.0/16\nadd {name} 172.16.0.0/12\n"
        );
        assert_eq!(set.member_lines(&observed), expected);
    }
}
