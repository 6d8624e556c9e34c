//! Which addresses lists of prefixes leave to each other.

use super::{Family, Prefix};

/// Addresses of both families, as ranges in ascending order of which none touches another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet(Vec<Range>);

/// Addresses of one family from one number to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    family: Family,
    first: u128,
    last: u128,
}

impl AddressSet {
    /// The addresses of some prefixes.
    pub fn of(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let range = |prefix: Prefix| {
            let (first, last) = prefix.numbers();
            Range { family: prefix.family(), first, last }
        };
        let mut all: Vec<Range> = prefixes.into_iter().map(range).collect();
        all.sort_unstable();
        let mut joined: Vec<Range> = Vec::with_capacity(all.len());
        for range in all {
            match joined.last_mut() {
                Some(before) if before.family == range.family && before.last.saturating_add(1) >= range.first => {
                    before.last = before.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        AddressSet(joined)
    }

    /// The fewest prefixes that hold the same addresses.
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.0.iter().flat_map(|range| Prefix::between(range.first, range.last, range.family)).collect()
    }

    /// True when it holds no address.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when some address is in both.
    pub fn touches(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.as_slice(), other.0.as_slice());
        while let ([one, behind @ ..], [other, behind_other @ ..]) = (ours, theirs) {
            if one.family == other.family && one.first <= other.last && other.first <= one.last {
                return true;
            }
            match (one.family, one.last) < (other.family, other.last) {
                true => ours = behind,
                false => theirs = behind_other,
            }
        }
        false
    }

    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// What is left of it without those of another one, in one walk over both.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.as_slice();
        for range in &self.0 {
            while let [hole, behind @ ..] = holes
                && (hole.family, hole.last) < (range.family, range.first)
            {
                holes = behind;
            }
            let mut next = Some(range.first);
            for hole in holes.iter().take_while(|hole| (hole.family, hole.first) <= (range.family, range.last)) {
                if let Some(first) = next.filter(|first| *first < hole.first) {
                    left.push(Range { first, last: hole.first - 1, ..*range });
                }
                next = hole.last.checked_add(1);
            }
            left.extend(next.filter(|first| *first <= range.last).map(|first| Range { first, ..*range }));
        }
        AddressSet(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> AddressSet {
        AddressSet::of(prefixes.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn what_is_left_of_a_set_is_what_the_other_one_does_not_hold() {
        let without = |from: &[&str], holes: &[&str]| set(from).without(&set(holes));
        assert_eq!(
            without(&["10.0.0.0/8"], &["10.0.0.0/10", "11.0.0.0/8", "fd00::/8"]),
            set(&["10.64.0.0/10", "10.128.0.0/9"])
        );
        assert_eq!(without(&["10.0.0.0/8", "12.0.0.0/8"], &["8.0.0.0/5"]), set(&[]));
        assert_eq!(without(&["10.1.2.3/32"], &["::/0"]), set(&["10.1.2.3/32"]));
        assert_eq!(without(&["0.0.0.0/0", "::/0"], &["0.0.0.0/1", "128.0.0.0/1"]), set(&["::/0"]));
        assert_eq!(without(&["0.0.0.0/0", "::/0"], &["255.255.255.255/32", "::/1"]).0.len(), 2);
        assert_eq!(without(&["::/0"], &["::1/128", "ffff::/16"]).0.len(), 2);
        assert!(without(&["::/0"], &["8000::/1", "::/1"]).is_empty());
        assert_eq!(
            set(&["10.0.0.0/8", "::/0"]).common(&set(&["8.0.0.0/5", "fd00::/8"])),
            set(&["10.0.0.0/8", "fd00::/8"])
        );
    }

    #[test]
    fn sets_touch_where_they_have_an_address_in_common() {
        let touches = |one: &[&str], other: &[&str]| {
            let (one, other) = (set(one), set(other));
            assert_eq!(one.touches(&other), other.touches(&one));
            assert_eq!(one.touches(&other), one.without(&other) != one);
            one.touches(&other)
        };
        assert!(touches(&["10.0.0.0/8", "192.0.2.0/24"], &["9.0.0.0/8", "192.0.2.255/32"]));
        assert!(touches(&["10.0.0.0/8", "::/0"], &["0.0.0.0/5", "fd00::/8"]));
        assert!(!touches(&["10.0.0.0/8", "12.0.0.0/8"], &["11.0.0.0/8", "13.0.0.0/8"]));
        assert!(!touches(&["0.0.0.0/0"], &["::/0"]));
        assert!(!touches(&[], &["::/0"]));
    }

    #[test]
    fn what_is_left_is_said_in_prefixes() {
        let left = set(&["10.0.0.0/8"]).without(&set(&["10.0.0.0/9", "10.128.0.0/10"]));
        assert_eq!(left.prefixes(), ["10.192.0.0/10".parse().unwrap()]);
        assert_eq!(set(&["0.0.0.0/0", "::/0"]).prefixes(), Family::ALL.map(Family::whole));
    }

    #[test]
    fn ranges_that_touch_or_hold_each_other_are_one() {
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/10", "10.192.0.0/10", "10.5.0.0/16"]), set(&["10.0.0.0/8"]));
        assert_eq!(set(&["0.0.0.0/0", "::/128"]).0.len(), 2);
    }
}
