//! Which way to other parts of the policy is the first one that is open to a source, prefix by prefix.

use super::build::Way;
use super::cidr_list::CidrList;
use super::id::SectionId;
use crate::policy::{Origin, Prefix, PrefixSet};
use std::cmp::Reverse;

/// Where the sources of each prefix of any list go that are in no longer one of them, the longest first; last, as `None`,
/// those in no prefix. The first way that is open is the same for all of them: no list ends in between. `None` goes
/// nowhere.
pub fn by_prefix(ways: &[Way]) -> Vec<(Option<Prefix>, Option<SectionId>)> {
    let mut prefixes: Vec<Prefix> =
        ways.iter().flat_map(Way::lists).flat_map(|list| list.prefixes.iter().copied()).collect();
    prefixes.sort_unstable_by_key(|prefix| (Reverse(prefix.length()), *prefix));
    prefixes.dedup();
    let set = |list: &CidrList| PrefixSet::from_prefixes(list.prefixes.iter().copied(), &Origin::Default);
    let sets: Vec<_> =
        ways.iter().map(|way| (way.sources.as_ref().map(set), way.excluded.as_ref().map(set), way.to)).collect();
    let first_open = |prefix: Option<Prefix>| {
        let holds = |set: &PrefixSet| prefix.is_some_and(|prefix| set.covers(prefix));
        let is_open = |(sources, excluded): (&Option<PrefixSet>, &Option<PrefixSet>)| {
            sources.as_ref().is_none_or(holds) && !excluded.as_ref().is_some_and(holds)
        };
        sets.iter().find(|(sources, excluded, _)| is_open((sources, excluded))).map(|(.., to)| *to)
    };
    prefixes.into_iter().map(Some).chain([None]).map(|prefix| (prefix, first_open(prefix))).collect()
}
