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

impl LongestPrefix {
    /// Resolves two lists.
    pub fn of(exceptions: &PrefixSet, exempt: &PrefixSet, family: Family) -> Self {
        let listed = |set: &PrefixSet, is_exempt| -> Vec<(Prefix, bool)> {
            set.entries().iter().map(|entry| (entry.value, is_exempt)).collect()
        };
        // Of equals the exception is the last.
        let mut all = listed(exempt, true);
        all.extend(listed(exceptions, false));
        let (exempt, exceptions): (Vec<_>, Vec<_>) =
            most_specific(all, family).into_iter().partition(|(_, is_exempt)| *is_exempt);
        let prefixes = |decided: Vec<(Prefix, bool)>| decided.into_iter().map(|(prefix, _)| prefix).collect();
        LongestPrefix { exceptions: prefixes(exceptions), exempt: prefixes(exempt) }
    }
}

/// What prefixes of a family say of each address when the longest one that holds it counts, and of equal ones the last:
/// sorted, no two with an address in common, as few as possible.
pub fn most_specific<T: Copy + PartialEq>(mut listed: Vec<(Prefix, T)>, family: Family) -> Vec<(Prefix, T)> {
    listed.retain(|(prefix, _)| prefix.family() == family);
    // A prefix is in front of those inside of it.
    listed.sort_by_key(|(prefix, _)| (prefix.address(), prefix.length()));
    let mut sweep = Sweep { open: Vec::new(), next: None, done: Vec::new() };
    for (prefix, value) in listed {
        let (first, last) = prefix.numbers();
        sweep.go_to(Some(first));
        sweep.next = Some(first);
        sweep.open.push((last, value));
    }
    sweep.go_to(None);
    let prefixes = |span: Span<T>| {
        Prefix::between(span.first, span.last, family).into_iter().map(move |prefix| (prefix, span.value))
    };
    sweep.done.into_iter().flat_map(prefixes).collect()
}

/// Addresses of which one value holds, from and to a number.
struct Span<T> {
    first: u128,
    last: u128,
    value: T,
}

/// A walk over all addresses in their order.
struct Sweep<T> {
    /// The prefixes that hold the address reached, by their last address; the innermost is on top.
    open: Vec<(u128, T)>,
    /// The first address of which nothing was said; none is left behind the largest.
    next: Option<u128>,
    /// The stretches in which one value holds, ascending.
    done: Vec<Span<T>>,
}

impl<T: Copy + PartialEq> Sweep<T> {
    /// Says who decides up to an address, or to the end, and closes what ends before it.
    fn go_to(&mut self, address: Option<u128>) {
        while let Some((last, value)) = self.open.last().copied() {
            let goes_on = address.filter(|address| *address <= last);
            let end = goes_on.map_or(Some(last), |address| address.checked_sub(1));
            if let (Some(first), Some(last)) = (self.next, end)
                && first <= last
            {
                self.say(Span { first, last, value });
                self.next = last.checked_add(1);
            }
            if goes_on.is_some() {
                return;
            }
            self.open.pop();
        }
    }

    /// Stretches of one value that touch become one.
    fn say(&mut self, span: Span<T>) {
        match self.done.last_mut() {
            Some(before) if before.value == span.value && before.last.checked_add(1) == Some(span.first) => {
                before.last = span.last;
            }
            _ => self.done.push(span),
        }
    }
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
