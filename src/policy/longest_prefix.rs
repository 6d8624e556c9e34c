//! Two lists of prefixes of which the longest one decides, as lists that have no address in common.

use super::{Family, Prefix, PrefixSet};

/// What is left of two lists of a family when of all their prefixes that hold an address the longest one counts; the
/// exception where both are of one length. Both are sorted, in as few prefixes as possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LongestPrefix {
    /// Where an exception decides.
    pub exceptions: Vec<Prefix>,
    /// Where an exemption decides.
    pub exempt: Vec<Prefix>,
}

/// Addresses of one kind, from and to a number.
struct Span {
    first: u128,
    last: u128,
    is_exempt: bool,
}

impl LongestPrefix {
    /// Resolves two lists.
    pub fn of(exceptions: &PrefixSet, exempt: &PrefixSet, family: Family) -> Self {
        let listed = |set: &PrefixSet, is_exempt| -> Vec<(Prefix, bool)> {
            let prefixes = set.entries().iter().map(|entry| entry.value).filter(|prefix| prefix.family() == family);
            prefixes.map(|prefix| (prefix, is_exempt)).collect()
        };
        let mut all = listed(exceptions, false);
        all.extend(listed(exempt, true));
        // A prefix is in front of those inside of it, and an exemption in front of the same exception.
        all.sort_unstable_by_key(|(prefix, is_exempt)| (prefix.address(), prefix.length(), !*is_exempt));
        let (exempt, exceptions): (Vec<Span>, Vec<Span>) = spans(&all).into_iter().partition(|span| span.is_exempt);
        let prefixes = |spans: Vec<Span>| joined(spans).flat_map(|(first, last)| Prefix::between(first, last, family));
        LongestPrefix { exceptions: prefixes(exceptions).collect(), exempt: prefixes(exempt).collect() }
    }
}

/// The stretches in which one prefix decides, ascending.
fn spans(sorted: &[(Prefix, bool)]) -> Vec<Span> {
    let mut sweep = Sweep::default();
    for (prefix, is_exempt) in sorted {
        let (first, last) = prefix.numbers();
        sweep.go_to(Some(first));
        sweep.next = Some(first);
        sweep.open.push((last, *is_exempt));
    }
    sweep.go_to(None);
    sweep.done
}

/// A walk over all addresses in their order.
#[derive(Default)]
struct Sweep {
    /// The prefixes that hold the address reached, by their last address; the innermost is on top.
    open: Vec<(u128, bool)>,
    /// The first address of which nothing was said; none is left behind the largest.
    next: Option<u128>,
    done: Vec<Span>,
}

impl Sweep {
    /// Says who decides up to an address, or to the end, and closes what ends before it.
    fn go_to(&mut self, address: Option<u128>) {
        while let Some((last, is_exempt)) = self.open.last().copied() {
            let goes_on = address.filter(|address| *address <= last);
            let end = goes_on.map_or(Some(last), |address| address.checked_sub(1));
            if let (Some(first), Some(last)) = (self.next, end)
                && first <= last
            {
                self.done.push(Span { first, last, is_exempt });
                self.next = last.checked_add(1);
            }
            if goes_on.is_some() {
                return;
            }
            self.open.pop();
        }
    }
}

/// Stretches that touch become one.
fn joined(spans: Vec<Span>) -> impl Iterator<Item = (u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(span.first) => *last = span.last,
            _ => joined.push((span.first, span.last)),
        }
    }
    joined.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn resolved(exceptions: &[&str], exempt: &[&str], family: Family) -> [Vec<String>; 2] {
        let set =
            |list: &[&str]| PrefixSet::from_prefixes(list.iter().map(|text| text.parse().unwrap()), &Origin::Default);
        let LongestPrefix { exceptions, exempt } = LongestPrefix::of(&set(exceptions), &set(exempt), family);
        [exceptions, exempt].map(|list| list.iter().map(Prefix::to_string).collect())
    }

    #[test]
    fn the_most_specific_prefix_decides_at_any_depth() {
        let [exceptions, exempt] = resolved(
            &["10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0"],
            &["10.0.0.0/8", "10.1.2.0/24", "255.255.255.255/32"],
            Family::V4,
        );
        assert!(exceptions.contains(&"10.1.2.3/32".to_owned()) && exceptions.contains(&"11.0.0.0/8".to_owned()));
        assert!(!exceptions.contains(&"10.1.0.0/16".to_owned()) && exceptions.contains(&"10.1.0.0/23".to_owned()));
        assert!(exempt.contains(&"10.1.2.0/31".to_owned()) && exempt.contains(&"10.128.0.0/9".to_owned()));
        assert_eq!(exempt.last().unwrap(), "255.255.255.255/32");
        let whole = ["::/0".to_owned()];
        assert_eq!(resolved(&[], &["::/0", "2001:db8::/32"], Family::V6), [vec![], whole.to_vec()]);
        assert_eq!(resolved(&["::/0"], &["::/0"], Family::V6), [whole.to_vec(), vec![]]);
    }
}
