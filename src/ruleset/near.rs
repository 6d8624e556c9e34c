//! What stands in front of a long list: which blocks of addresses hold a piece of any range that keeps the source. The
//! rest is far from all of them, and that is found by one look at a hash instead of a search among the ranges.

use super::cidr_list::CidrList;
use super::id::{ListId, ListKey};
use crate::policy::{Family, Prefix, address};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A shorter list is searched as fast as the hash is asked.
const SHORTEST: usize = 1_000;
/// With more blocks than this almost every destination is near to something.
const MOST_BLOCKS: usize = 16_384;
/// A range of more blocks is asked for itself: 224.0.0.0/4 has so many, fc00::/7 would have millions.
const MOST_OF_ONE: u32 = 4_096;
/// So many ranges are asked for themselves.
const MOST_WIDE: usize = 8;

/// Where the ranges are whose destinations keep their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The first address of each block that holds a piece of a range.
    pub blocks: CidrList,
    /// Ranges of too many blocks.
    pub wide: Vec<Prefix>,
}

/// How many bits the addresses of a block have in common.
pub fn block_length(family: Family) -> u8 {
    match family {
        Family::V4 => 16,
        Family::V6 => 32,
    }
}

impl Near {
    /// That of a list and the ranges that are kept besides; `None` where it would not help.
    pub fn of(list: &CidrList, besides: impl Iterator<Item = Prefix>) -> Option<Self> {
        if list.prefixes.len() < SHORTEST {
            return None;
        }
        let family = list.prefixes.first()?.family();
        let (mut blocks, mut wide) = (BTreeSet::new(), Vec::new());
        for prefix in list.prefixes.iter().copied().chain(besides) {
            let (first, count) = blocks_of(prefix);
            match count {
                Some(count) => blocks.extend(first..=first + (count - 1)),
                None => wide.push(prefix),
            }
            if blocks.len() > MOST_BLOCKS || wide.len() > MOST_WIDE {
                return None;
            }
        }
        let prefixes = blocks.into_iter().map(|block| Prefix::of(address(block, family)));
        let id = ListId { key: ListKey::Near, ..list.id };
        Some(Near { blocks: CidrList { id, prefixes: prefixes.collect() }, wide })
    }
}

/// The number of the first block with a piece of a prefix, and how many there are; `None` of too many.
fn blocks_of(prefix: Prefix) -> (u32, Option<u32>) {
    let length = block_length(prefix.family());
    let first = (address::number(prefix.address()) >> rest(prefix.family())) as u32;
    let count = 1_u32.checked_shl(length.saturating_sub(prefix.length()).into());
    (first, count.filter(|count| *count <= MOST_OF_ONE))
}

fn address(block: u32, family: Family) -> IpAddr {
    address::of_number(u128::from(block) << rest(family), family)
}

/// How many bits of an address are not of its block.
fn rest(family: Family) -> u8 {
    match family {
        Family::V4 => 16,
        Family::V6 => 96,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::SectionId;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn list(prefixes: Vec<Prefix>) -> CidrList {
        CidrList { id: ListId { section: SectionId::Egress(2), key: ListKey::Exempt }, prefixes: prefixes.into() }
    }

    /// So many networks of one size, each in a block of its own.
    fn networks(family: Family, count: u32) -> Vec<Prefix> {
        (0..count)
            .map(|number| Prefix::containing(address(number, family), 24 + family_bits(family)).unwrap())
            .collect()
    }

    fn family_bits(family: Family) -> u8 {
        if family == Family::V4 { 0 } else { 24 }
    }

    fn near(list: &CidrList, besides: &[&str]) -> Option<Near> {
        Near::of(list, besides.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn only_long_lists_in_few_blocks_have_them() {
        for family in Family::ALL {
            assert_eq!(near(&list(networks(family, 999)), &[]), None);
            let found = near(&list(networks(family, 1000)), &[]).unwrap();
            assert_eq!(found.blocks.id, ListId { section: SectionId::Egress(2), key: ListKey::Near });
            assert_eq!((found.blocks.prefixes.len(), found.wide.len()), (1000, 0));
            assert_eq!(near(&list(networks(family, 16_384)), &[]).unwrap().blocks.prefixes.len(), 16_384);
            assert_eq!(near(&list(networks(family, 16_385)), &[]), None);
        }
    }

    #[test]
    fn a_range_of_very_many_blocks_is_asked_for_itself() {
        let v4 = near(&list(networks(Family::V4, 1000)), &["169.254.0.0/16", "224.0.0.0/4", "64.0.0.0/3"]).unwrap();
        assert_eq!((v4.blocks.prefixes.len(), v4.wide), (1000 + 1 + 4096, vec!["64.0.0.0/3".parse().unwrap()]));
        let v6 = near(&list(networks(Family::V6, 1000)), &["fe80::/10", "ff00::/8", "fc00::/7"]).unwrap();
        assert_eq!((v6.blocks.prefixes.len(), v6.wide.len()), (1000, 3));
        let many = (0..9).map(|number| Prefix::containing(address(number << 29, Family::V6), 4).unwrap());
        assert_eq!(Near::of(&list(networks(Family::V6, 1000)), many), None);
    }

    proptest! {
        #[test]
        fn every_address_of_every_range_is_near(
            ranges in proptest::collection::vec((any::<u128>(), 6_u8..=128), 1..6),
            at in proptest::collection::vec(any::<u128>(), 6),
            is_v6: bool,
        ) {
            let family = if is_v6 { Family::V6 } else { Family::V4 };
            let prefix = |(bits, length): (u128, u8)| match family {
                Family::V4 => Prefix::containing(Ipv4Addr::from_bits(bits as u32).into(), 6 + length % 27),
                Family::V6 => Prefix::containing(Ipv6Addr::from_bits(bits).into(), length),
            };
            let ranges: Vec<_> = ranges.into_iter().map(|range| prefix(range).unwrap()).collect();
            let Some(near) = Near::of(&list(networks(family, 1000)), ranges.iter().copied()) else { return Ok(()) };
            for (range, at) in ranges.iter().zip(at) {
                let (first, last) = range.numbers();
                let inside = (last - first).checked_add(1).map_or(at, |size| first + at % size);
                let block = if is_v6 { (inside >> 96) as u32 } else { (inside >> 16) as u32 };
                let is_block = near.blocks.prefixes.contains(&Prefix::of(address(block, family)));
                prop_assert!(is_block || near.wide.contains(range));
            }
        }
    }
}
