//! Address intervals, as interval sets hold them.

pub use crate::policy::address::{number, of_number as address};
use crate::policy::{Family, Prefix};
use std::cmp::Ordering;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses from `first` to `last`, both included, as numbers. The family is the set's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The first address.
    pub first: u128,
    /// The last address, at least `first`.
    pub last: u128,
}

impl Interval {
    /// The addresses of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        Interval { first: number(prefix.address()), last: number(prefix.last()) }
    }

    /// Writes it as nft does: an address, a prefix, or two addresses with a dash.
    pub fn write(self, family: Family, text: &mut String) {
        write_address(self.first, family, text);
        if self.first == self.last {
            return;
        }
        match self.prefix_length(family) {
            Some(length) => {
                text.push('/');
                write_decimal(length, text);
            }
            None => {
                text.push('-');
                write_address(self.last, family, text);
            }
        }
    }

    fn prefix_length(self, family: Family) -> Option<u8> {
        let host = (self.first ^ self.last).trailing_ones();
        let mask = 1_u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1);
        (self.first & mask == 0 && self.first | mask == self.last).then(|| width(family) as u8 * 8 - host as u8)
    }
}

/// Bytes of an address.
pub fn width(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// The largest address of a family.
pub fn largest(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

/// The bits of an address that a prefix of a length has.
pub fn mask(length: u8, family: Family) -> u128 {
    let rest = largest(family).checked_shr(length.into()).unwrap_or(0);
    largest(family) & !rest
}

/// The address that bytes in network byte order stand for; `None` when they are not of the family's width.
pub fn from_bytes(bytes: &[u8], family: Family) -> Option<u128> {
    (bytes.len() == width(family)).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

/// Lists of 100,000 are written several times per change: the general formatter would take most of that time.
fn write_address(address: u128, family: Family, text: &mut String) {
    match family {
        Family::V4 => {
            for (index, byte) in Ipv4Addr::from_bits(address as u32).octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                write_decimal(byte, text);
            }
        }
        Family::V6 => {
            // Writing to a String can't fail.
            let _ = write!(text, "{}", Ipv6Addr::from_bits(address));
        }
    }
}

fn write_decimal(number: u8, text: &mut String) {
    if number >= 100 {
        text.push(char::from(b'0' + number / 100));
    }
    if number >= 10 {
        text.push(char::from(b'0' + number / 10 % 10));
    }
    text.push(char::from(b'0' + number % 10));
}

/// What must go and what must come to make one sorted list another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<T> {
    /// In the first list only.
    pub removed: Vec<T>,
    /// In the second list only.
    pub added: Vec<T>,
}

impl<T: Ord + Copy> Difference<T> {
    /// Compares two sorted lists.
    pub fn between(from: &[T], to: &[T]) -> Self {
        let mut difference = Difference { removed: Vec::new(), added: Vec::new() };
        let (mut from, mut to) = (from.iter().peekable(), to.iter().peekable());
        loop {
            match (from.peek(), to.peek()) {
                (Some(old), Some(new)) => match old.cmp(new) {
                    Ordering::Equal => {
                        from.next();
                        to.next();
                    }
                    Ordering::Less => difference.removed.extend(from.next()),
                    Ordering::Greater => difference.added.extend(to.next()),
                },
                (Some(_), None) => difference.removed.extend(from.next()),
                (None, Some(_)) => difference.added.extend(to.next()),
                (None, None) => return difference,
            }
        }
    }
}

/// The two kinds of elements that the kernel keeps for an interval: where one begins, and the address behind its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// The address behind the last one of an interval. Sorts before the beginning of a neighbour.
    End,
    /// The first address of an interval.
    Start,
}

/// Puts the elements of an interval set together, in whatever order they were dumped; `None` when they are no row of
/// intervals.
///
/// nft puts an end at address zero in front of the first interval, and an interval up to the largest address has
/// no end.
pub fn assemble(mut bounds: Vec<(u128, Bound)>, family: Family) -> Option<Vec<Interval>> {
    bounds.sort_unstable();
    let mut intervals = Vec::with_capacity(bounds.len().div_ceil(2));
    let mut open = None;
    for (address, bound) in bounds {
        match (bound, open) {
            (Bound::Start, None) => open = Some(address),
            (Bound::End, Some(first)) => {
                intervals.push(Interval { first, last: address.checked_sub(1).filter(|last| *last >= first)? });
                open = None;
            }
            (Bound::End, None) if address == 0 => {}
            _ => return None,
        }
    }
    intervals.extend(open.map(|first| Interval { first, last: largest(family) }));
    Some(intervals)
}

/// The same of a set without intervals.
pub fn singles(mut bounds: Vec<(u128, Bound)>) -> Option<Vec<Interval>> {
    bounds.sort_unstable();
    let single = |(first, bound)| (bound == Bound::Start).then_some(Interval { first, last: first });
    bounds.into_iter().map(single).collect()
}

/// The elements of an interval: its beginning, and its end unless that would lie behind the largest address.
pub fn bounds(interval: Interval, family: Family) -> impl Iterator<Item = (u128, Bound)> {
    let end = (interval.last < largest(family)).then(|| (interval.last + 1, Bound::End));
    [(interval.first, Bound::Start)].into_iter().chain(end)
}

/// nft's word for the family in front of an address.
pub fn ip_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// nft's word for an address.
pub fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(prefix: &str) -> String {
        let prefix: Prefix = prefix.parse().unwrap();
        let mut text = String::new();
        Interval::of(prefix).write(prefix.family(), &mut text);
        text
    }

    #[test]
    fn an_interval_is_written_as_nft_writes_it() {
        for prefix in ["0.0.0.0/0", "10.0.0.0/8", "128.0.0.0/1", "192.0.2.128/25", "::/0", "2001:db8::/32"] {
            assert_eq!(text(prefix), prefix);
        }
        assert_eq!(text("255.255.255.255/32"), "255.255.255.255");
        assert_eq!(text("2001:db8::1/128"), "2001:db8::1");
        let mut range = String::new();
        Interval { first: 1, last: 2 }.write(Family::V4, &mut range);
        assert_eq!(range, "0.0.0.1-0.0.0.2");
    }

    #[test]
    fn elements_that_are_no_row_of_intervals_are_refused() {
        use Bound::{End, Start};
        let cases = [vec![(5, End)], vec![(1, Start), (2, Start)], vec![(1, Start), (3, End), (4, End)]];
        for case in cases {
            assert_eq!(assemble(case.clone(), Family::V4), None, "{case:?}");
        }
        let dummy = vec![(0, End), (0, Start), (8, End), (8, Start), (9, End)];
        let intervals = [Interval { first: 0, last: 7 }, Interval { first: 8, last: 8 }];
        assert_eq!(assemble(dummy, Family::V4).unwrap(), intervals);
    }

    proptest! {
        #[test]
        fn intervals_survive_their_elements(
            starts in proptest::collection::btree_set(0_u128..1000, 0..20),
            to_the_end: bool,
        ) {
            let mut intervals: Vec<_> =
                starts.iter().map(|start| Interval { first: start * 10, last: start * 10 + 9 }).collect();
            if to_the_end {
                intervals.push(Interval { first: largest(Family::V4) - 3, last: largest(Family::V4) });
            }
            let mut elements: Vec<_> =
                intervals.iter().flat_map(|interval| bounds(*interval, Family::V4)).collect();
            elements.reverse();
            prop_assert_eq!(assemble(elements, Family::V4).unwrap(), intervals);
        }

        #[test]
        fn a_difference_applied_gives_the_second_list(
            old in proptest::collection::btree_set(0_u128..50, 0..30),
            new in proptest::collection::btree_set(0_u128..50, 0..30),
        ) {
            let list = |set: &std::collections::BTreeSet<u128>| -> Vec<_> {
                set.iter().map(|first| Interval { first: *first, last: *first }).collect()
            };
            let difference = Difference::between(&list(&old), &list(&new));
            let mut result = old.clone();
            for gone in &difference.removed {
                prop_assert!(result.remove(&gone.first));
            }
            for come in &difference.added {
                prop_assert!(result.insert(come.first));
            }
            prop_assert_eq!(result, new);
        }
    }
}
