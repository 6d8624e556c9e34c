//! The parts of a very long list, each a set of its own: what the kernel does at a commit, and to read a set, takes
//! longer with each element that is there already. Pure.

use super::interval::{self, Interval};
use super::shared::Shared;
use crate::policy::{Family, Prefix};

/// A longer list is several sets.
pub const LONGEST: usize = 131_072;
/// A part has at most so many intervals.
const MOST: usize = 65_536;

/// What a list has in one block of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The block. An edit elsewhere leaves it what it is.
    pub block: Prefix,
    /// Sorted.
    pub intervals: Shared<Interval>,
}

/// The parts of a sorted list whose intervals are prefixes, in order; none of a list that stays one set.
pub fn parts(list: &Shared<Interval>, family: Family) -> Vec<Part> {
    if list.len() <= LONGEST {
        return Vec::new();
    }
    let mut parts = Vec::new();
    halve(list, (0, 0), family, MOST, &mut parts);
    parts
}

/// The halves of a block until each has few enough intervals. No prefix is cut: one that fills a half is alone there.
fn halve(list: &Shared<Interval>, (first, length): (u128, u8), family: Family, most: usize, parts: &mut Vec<Part>) {
    if list.len() <= most {
        let block = Prefix::containing(interval::address(first, family), length);
        parts.extend(block.filter(|_| !list.is_empty()).map(|block| Part { block, intervals: list.clone() }));
        return;
    }
    let second = first | (interval::mask(length + 1, family) & !interval::mask(length, family));
    let halves = list.cut(list.partition_point(|one| one.first < second));
    for (half, first) in halves.iter().zip([first, second]) {
        halve(half, (first, length + 1), family, most, parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Origin, PrefixSet};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    proptest! {
        #[test]
        fn every_interval_is_in_the_part_of_its_block_and_no_part_is_too_long(
            ranges in proptest::collection::vec((any::<u128>(), 0_u8..=128, 0_u8..=126), 0..60),
            most in 1_usize..9,
            is_v6: bool,
        ) {
            let family = if is_v6 { Family::V6 } else { Family::V4 };
            let prefix = |(bits, length, near): (u128, u8, u8)| match family {
                Family::V4 => Prefix::containing(Ipv4Addr::from_bits(bits as u32 >> (near % 30)).into(), length % 33),
                Family::V6 => Prefix::containing(Ipv6Addr::from_bits(bits >> near).into(), length),
            };
            let set = PrefixSet::from_prefixes(ranges.into_iter().filter_map(prefix), &Origin::Default);
            let list: Shared<_> = set.sorted(family).into_iter().map(Interval::of).collect::<Vec<_>>().into();
            let mut parts = Vec::new();
            halve(&list, (0, 0), family, most, &mut parts);
            let together: Vec<_> = parts.iter().flat_map(|part| part.intervals.iter().copied()).collect();
            prop_assert_eq!(&together[..], &list[..]);
            for (number, Part { block, intervals }) in parts.iter().enumerate() {
                let (first, last) = block.numbers();
                prop_assert!((1..=most).contains(&intervals.len()));
                prop_assert!(intervals.iter().all(|one| first <= one.first && one.last <= last));
                prop_assert!(parts[..number].iter().all(|other| !other.block.touches(*block)));
            }
        }
    }

    #[test]
    fn an_edit_changes_the_part_that_it_is_in_and_no_other_one() {
        let networks = |count: u128| -> Vec<_> {
            (0..count).map(|number| Interval { first: number * 512, last: number * 512 + 255 }).collect()
        };
        assert_eq!(parts(&networks(131_072).into(), Family::V4), []);
        let before = parts(&networks(140_000).into(), Family::V4);
        assert_eq!(
            before.iter().map(|part| part.block.to_string()).collect::<Vec<_>>(),
            ["0.0.0.0/7", "2.0.0.0/7", "4.0.0.0/6"]
        );
        let mut edited = networks(140_000);
        edited.remove(70_000);
        let after = parts(&edited.into(), Family::V4);
        assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
        assert_eq!((before[1].block, before[1].intervals.len() - 1), (after[1].block, after[1].intervals.len()));
    }
}
