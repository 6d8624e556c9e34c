//! A ruleset in the words of our table. Pure.

use super::content::Content;
use super::family_table::FamilyTable;
use super::forwards::{self, ForwardTable};
use super::interval::{self, Interval};
use super::name::{ChainName, SetName};
use super::part::{self, Part};
use super::planned::{Planned, PlannedChain, planned, snat_by_route};
use super::ports::{PortElement, Then, interface_number};
use super::rule::LookUp;
use super::shared::Shared;
use super::table::Set;
use crate::policy::{Family, Prefix};
use crate::ruleset::{
    ByRoute, Chains, CidrList, Dialect, ForwardRules, JumpPosition, ListId, LoweredChain, LoweredRule, Match,
    NewSource, Ruleset, SectionRules, Test, lower,
};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A list of any length is a set, which changes without its rules.
const DIALECT: Dialect<ByRoute> = Dialect { inline: None, random_fully: true, maps: Some(|map| map) };

/// What was compiled before, and is not compiled again for as long as it is the same value.
#[derive(Debug, Default)]
pub struct CompileCache {
    lists: HashMap<SetName, Sorted>,
    forwards: HashMap<Family, Forwards>,
}

/// A list as it was seen, and its intervals.
#[derive(Debug)]
struct Sorted {
    prefixes: Arc<[Prefix]>,
    intervals: Arc<[Interval]>,
}

/// Port forwards as they were seen, and what they are.
#[derive(Debug)]
struct Forwards {
    rules: ForwardRules,
    random_fully: bool,
    table: Option<ForwardTable>,
}

impl CompileCache {
    fn forwards(&mut self, rules: &ForwardRules, family: Family, random_fully: bool) -> Option<ForwardTable> {
        let is_same = |known: &Forwards| {
            Arc::ptr_eq(&known.rules.rules, &rules.rules)
                && Arc::ptr_eq(&known.rules.lists, &rules.lists)
                && (&known.rules.mark, known.random_fully) == (&rules.mark, random_fully)
        };
        if let Some(known) = self.forwards.get(&family).filter(|known| is_same(known)) {
            return known.table.clone();
        }
        let table = forwards::compile(rules, family, random_fully);
        self.forwards.insert(family, Forwards { rules: rules.clone(), random_fully, table: table.clone() });
        table
    }

    fn intervals(&mut self, name: SetName, list: &CidrList) -> Shared<Interval> {
        if let Some(known) = self.lists.get(&name)
            && Arc::ptr_eq(&known.prefixes, &list.prefixes)
        {
            return known.intervals.clone().into();
        }
        let mut intervals: Vec<_> = list.prefixes.iter().map(|prefix| Interval::of(*prefix)).collect();
        intervals.sort_unstable();
        let intervals: Arc<[Interval]> = intervals.into();
        self.lists.insert(name, Sorted { prefixes: list.prefixes.clone(), intervals: intervals.clone() });
        intervals.into()
    }
}

/// The lists of a family as the sets that they are, and of those that are several sets the parts.
struct Lists {
    sets: Vec<Set>,
    apart: HashMap<ListId, Vec<Part>>,
}

impl Lists {
    fn of(lists: &[CidrList], chains: &[LoweredChain<ByRoute>], family: Family, cache: &mut CompileCache) -> Self {
        let mut all = Lists { sets: Vec::new(), apart: HashMap::new() };
        for list in lists {
            let name = SetName::new(list.id, family);
            let intervals = cache.intervals(name, list);
            let parts = if is_denied(list.id, chains) { Vec::new() } else { part::parts(&intervals, family) };
            if parts.is_empty() {
                all.sets.push(Set { name, elements: Some(Content::Intervals(intervals)) });
                continue;
            }
            all.sets.extend(parts.iter().map(|part| Set {
                name: SetName::of_part(list.id, part.block),
                elements: Some(Content::Intervals(part.intervals.clone())),
            }));
            all.apart.insert(list.id, parts);
        }
        all
    }

    /// A rule that asks for a list in parts is one for each: only that of the destination's block looks into a set.
    fn apart(&self, rule: LoweredRule<ByRoute>) -> Vec<(LoweredRule<ByRoute>, Option<Prefix>)> {
        let asked = rule.when.iter().enumerate().find_map(|(place, one)| match one {
            Match::Is(Test::InList(side, list)) => Some((place, *side, self.apart.get(list)?)),
            // Of such a list there are no parts ([`is_denied`]).
            Match::IsNot(_) | Match::Is(_) | Match::Holds(_) => None,
        });
        let Some((place, side, parts)) = asked else { return vec![(rule, None)] };
        let one = |part: &Part| {
            let mut rule = rule.clone();
            rule.when.insert(place, Match::Is(Test::In(side, part.block)));
            (rule, Some(part.block))
        };
        parts.iter().map(one).collect()
    }
}

/// True when a rule asks whether an address is in none of the list.
fn is_denied(list: ListId, chains: &[LoweredChain<ByRoute>]) -> bool {
    let asked = chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.when);
    asked.into_iter().any(|one| matches!(one, Match::IsNot(Test::InList(_, asked)) if *asked == list))
}

/// The priority of the base chain: srcnat is 100 (nft(8)); most other nat chains of a host are there.
fn priority(position: JumpPosition) -> i32 {
    match position {
        JumpPosition::First => 50,
        JumpPosition::Last => 150,
    }
}

/// The objects that a ruleset asks for.
pub fn compile(ruleset: &Ruleset, cache: &mut CompileCache) -> FamilyTable {
    let Chains { family, entries, chains, lists } = lower(ruleset, DIALECT);
    let mut lists = Lists::of(&lists, &chains, family, cache);
    let mut sets = std::mem::take(&mut lists.sets);
    let chain = |chain: LoweredChain<ByRoute>| {
        let rules = chain.rules.into_iter().flat_map(|rule| lists.apart(rule)).map(|rule| translate(rule, family));
        PlannedChain::new(ChainName::Of(family, chain.id), rules.collect())
    };
    let clients = |list: &CidrList| {
        let name = SetName::new(list.id, family);
        Set { name, elements: Some(Content::Intervals(cache.intervals(name, list))) }
    };
    sets.extend(ruleset.forwards.lists.iter().map(clients));
    sets.extend(ruleset.hooks.iter().flat_map(|hook| &hook.sections).filter_map(|section| sources(section, family)));
    let mut table = FamilyTable {
        family,
        hooks: entries.iter().map(|entry| (entry.hook, priority(entry.position))).collect(),
        chains: chains.into_iter().map(chain).collect(),
        sets,
    };
    let section = ruleset.hooks.iter().find_map(|hook| Some((hook.position, hook.sections.first()?)));
    if let Some((position, top)) = section
        && let Some(forwards) = cache.forwards(&ruleset.forwards, family, top.translation.random_fully)
    {
        forwards.add_to(&mut table, position);
    }
    table
}

/// The map of the sources that routes prefer, where a section gives them and there are any.
fn sources(section: &SectionRules, family: Family) -> Option<Set> {
    let NewSource::Route(sources) = &section.translation.to else { return None };
    let element = |(interface, destination, source): (&str, Prefix, IpAddr)| PortElement {
        host: interface_number(interface),
        protocol: 0,
        first: 0,
        last: 0,
        sources: Interval::of(destination),
        then: Then::To(interval::number(source), None),
    };
    let mut elements: Vec<PortElement> = sources.disjoint(family).into_iter().map(element).collect();
    elements.sort_unstable();
    // Neighbours that lead to one address are one.
    elements.dedup_by(|next, before| {
        let is_next = before.sources.last.checked_add(1) == Some(next.sources.first);
        let joined = (before.host, before.then) == (next.host, next.then) && is_next;
        if joined {
            before.sources.last = next.sources.last;
        }
        joined
    });
    let name = SetName::of_route_sources(section.section, family);
    (!elements.is_empty()).then(|| Set { name, elements: Some(Content::Ports(elements.into())) })
}

/// The set that a rule asks is that of a block, where there is one.
fn translate((rule, block): (LoweredRule<ByRoute>, Option<Prefix>), family: Family) -> Planned {
    let set = |list| block.map_or(SetName::new(list, family), |block| SetName::of_part(list, block));
    let when = rule.when.into_iter().map(|one| one.rename(set)).collect();
    match rule.then.without_map() {
        Ok(then) => planned(rule.id, when, then.rename(|chain| ChainName::Of(family, chain))),
        Err(ByRoute { random_fully, ports }) => {
            let map = SetName::of_route_sources(rule.id.section, family);
            snat_by_route(rule.id, LookUp { when, map, random_fully, ports })
        }
    }
}
