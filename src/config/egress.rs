//! Entries of `egress`: what only all of them together can tell, and what they are in the policy.

use super::diagnostic::{Lines, Place, Problems};
use super::document::Language;
use super::keys::EgressKeys;
use super::value::Located;
use crate::policy::{
    AddressSet, Egress, Family, InterfaceClass, MAX_ENTRIES, MAX_INTERFACES, Prefix, PrefixSet, WithOrigin,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many entries are named that leave nothing to another one.
const NAMED: usize = 3;

/// What messages call an entry, by its number from 0.
pub fn label(number: usize) -> String {
    format!("egress[{}]", number + 1)
}

/// The first IPv6 prefix of a list and how many more there are: one line for all of them, as one key mends them all.
pub fn first_ipv6(list: &[Located<Prefix>]) -> Option<(Place, String)> {
    let mut items = list.iter().filter(|item| item.value.family() == Family::V6);
    let first = items.next()?;
    let more = match items.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some((first.place, format!("'{}'{more}", first.value)))
}

/// What is said of IPv6 that is not enabled, with the switch as it is written where the IPv6 is.
pub fn not_enabled(what: &str, place: Place, sources: &[Lines<'_>]) -> String {
    let language = match place {
        Place::File { source, .. } => {
            let lines = &sources[source as usize];
            Some(Language::of(lines.path(), lines.text()))
        }
        Place::Flag(..) | Place::Default => None,
    };
    let switch = match language {
        Some(Language::Yaml) => "set enableIPv6: true",
        Some(Language::Json) => "set \"enableIPv6\": true",
        Some(Language::Toml) => "set enableIPv6 = true",
        None => "add --enable-ipv6",
    };
    format!("{what} is IPv6, which is not enabled; {switch}")
}

/// Reports entries that can't be, beside others or at all.
pub fn validate(entries: &[Located<EgressKeys>], enables_ipv6: bool, sources: &[Lines<'_>], problems: &mut Problems) {
    if let Some(first) = entries.get(MAX_ENTRIES) {
        let message = format!("{} entries, more than {MAX_ENTRIES}; this is the first one too many", entries.len());
        return problems.report(first.place, "egress", message);
    }
    let any_wrong = problems.concern_entries_of("egress");
    same_names(entries, sources, problems);
    if any_wrong {
        // A scope that could not be read is not to be checked.
        return;
    }
    let patterns = entries.iter().flat_map(|entry| &entry.value.out_interfaces);
    let classes = InterfaceClass::all(patterns.clone().map(|pattern| &pattern.value));
    if let (true, Some(last)) = (classes.len() > MAX_INTERFACES, patterns.last()) {
        let message = format!("more than {MAX_INTERFACES} interface names in all entries");
        return problems.report(last.place, "egress", message);
    }
    let scopes: Vec<Scope<'_>> = entries.iter().map(|entry| Scope::of(entry, enables_ipv6)).collect();
    for (number, scope) in scopes.iter().enumerate() {
        let name = |(number, place): (usize, Place)| format!("{} ({})", label(number), place.origin(sources));
        let message = if scope.is_unset() {
            let next = entries.get(number + 1).map(|next| name((number + 1, next.place)));
            let next = next.map_or("the top level".to_owned(), |next| format!("{next} and the top level"));
            format!("has no scope, so {next} would never be asked; set outInterfaces or sourceCIDRs")
        } else if let Some(takers) = scope.takers(&scopes[..number], &classes) {
            let named = takers.iter().take(NAMED).map(|before| name((*before, entries[*before].place)));
            let more = takers.len().saturating_sub(NAMED);
            let named: Vec<_> = named.chain((more > 0).then(|| format!("{more} more"))).collect();
            match named.as_slice() {
                [] => "can never match: its own lists leave nothing in its scope".to_owned(),
                named => format!("can never match: all of its scope is taken by {}", named.join(" and ")),
            }
        } else {
            continue;
        };
        problems.report(scope.place, &label(number), message);
    }
}

fn same_names(entries: &[Located<EgressKeys>], sources: &[Lines<'_>], problems: &mut Problems) {
    let mut first: BTreeMap<&str, Place> = BTreeMap::new();
    for (number, name) in entries.iter().map(|entry| &entry.value.name).enumerate() {
        let Some(name) = name else { continue };
        if let Some(place) = first.get(&*name.value) {
            let message = format!("'{}' is the name of another entry, too ({})", name.value, place.origin(sources));
            problems.report(name.place, &format!("{}.name", label(number)), message);
        }
        first.entry(&name.value).or_insert(name.place);
    }
}

/// Which flows an entry is for.
struct Scope<'k> {
    place: Place,
    keys: &'k EgressKeys,
    /// The sources of the families that are enabled.
    sources: AddressSet,
}

impl<'k> Scope<'k> {
    fn of(entry: &'k Located<EgressKeys>, enables_ipv6: bool) -> Self {
        let keys = &entry.value;
        let is_enabled = |prefix: &Prefix| enables_ipv6 || prefix.family() == Family::V4;
        let set = |list: &[Located<Prefix>]| AddressSet::of(list.iter().map(|item| item.value).filter(is_enabled));
        let sources = match keys.source_cidrs.as_slice() {
            [] => AddressSet::of(Family::ALL.map(Family::whole).into_iter().filter(is_enabled)),
            list => set(list),
        };
        Scope { place: entry.place, keys, sources: sources.without(&set(&keys.exclude_source_cidrs)) }
    }

    fn is_unset(&self) -> bool {
        let EgressKeys { out_interfaces, source_cidrs, exclude_source_cidrs, .. } = self.keys;
        out_interfaces.is_empty() && source_cidrs.is_empty() && exclude_source_cidrs.is_empty()
    }

    /// An entry that can't be, because it has no scope, takes nothing from others.
    fn is_in(&self, class: InterfaceClass<'k>) -> bool {
        !self.is_unset() && class.is_in(self.keys.out_interfaces.iter().map(|pattern| &pattern.value))
    }

    /// Those of the entries before it that leave nothing of it; `None` when something is left.
    fn takers(&self, before: &[Self], classes: &[InterfaceClass<'k>]) -> Option<BTreeSet<usize>> {
        // Of many classes the same ones of them hold all interfaces: those are asked once.
        let in_class = |class| (0..before.len()).filter(|number| before[*number].is_in(class)).collect();
        let classes = classes.iter().copied().filter(|class| self.is_in(*class));
        let asked: BTreeSet<Vec<usize>> = classes.map(in_class).collect();
        let mut takers = BTreeSet::new();
        for others in asked {
            let mut left = self.sources.clone();
            for number in others {
                if left.is_empty() {
                    break;
                }
                let rest = left.without(&before[number].sources);
                if rest != left {
                    takers.insert(number);
                }
                left = rest;
            }
            if !left.is_empty() {
                return None;
            }
        }
        Some(takers)
    }
}

/// Reports ranges that are in both lists of one part of the policy.
pub fn validate_both(lists: Lists<'_>, path: &str, sources: &[Lines<'_>], problems: &mut Problems) {
    let exempt: BTreeMap<Prefix, Place> = lists.exempt.iter().rev().map(|item| (item.value, item.place)).collect();
    for item in lists.exceptions {
        if let Some(place) = exempt.get(&item.value) {
            let message = format!(
                "'{}' is in nonMasqueradeCIDRs, too ({}); with evaluation: longest-prefix it can be in one of them",
                item.value,
                place.origin(sources)
            );
            problems.report(item.place, &format!("{path}masqueradeExceptionCIDRs"), message);
        }
    }
}

/// The ranges of one part of the policy.
#[derive(Clone, Copy)]
pub struct Lists<'d> {
    /// `masqueradeExceptionCIDRs`.
    pub exceptions: &'d [Located<Prefix>],
    /// `nonMasqueradeCIDRs`.
    pub exempt: &'d [Located<Prefix>],
}

/// The entries as the policy has them.
pub fn entries(list: Vec<Located<EgressKeys>>, sources: &[Lines<'_>]) -> Vec<Egress> {
    let entry = |(number, Located { value: keys, place }): (u8, Located<EgressKeys>)| Egress {
        number,
        name: keys.name.map_or_else(|| number.to_string(), |name| name.value),
        origin: place.origin(sources),
        out_interfaces: listed(keys.out_interfaces, sources),
        sources: prefixes(keys.source_cidrs, sources),
        excluded_sources: prefixes(keys.exclude_source_cidrs, sources),
        snat: keys.snat.map(|snat| listed_one(snat, sources)),
        exceptions: keys.masquerade_exception_cidrs.map(|list| prefixes(list, sources)),
        exempt: keys.non_masquerade_cidrs.map(|list| prefixes(list, sources)),
        random_fully: keys.random_fully,
        to_ports: keys.to_ports,
    };
    (1..).zip(list).map(entry).collect()
}

/// A list as the policy has it.
pub fn prefixes(list: Vec<Located<Prefix>>, sources: &[Lines<'_>]) -> PrefixSet {
    PrefixSet::new(listed(list, sources))
}

/// A list with the places in words.
pub fn listed<T>(list: Vec<Located<T>>, sources: &[Lines<'_>]) -> Vec<WithOrigin<T>> {
    list.into_iter().map(|item| listed_one(item, sources)).collect()
}

/// A value with its place in words.
pub fn listed_one<T>(item: Located<T>, sources: &[Lines<'_>]) -> WithOrigin<T> {
    WithOrigin { value: item.value, origin: item.place.origin(sources) }
}
