//! The port forwards of a family as chains, maps and sets of our table. Pure.
//!
//! However many there are, a flow is looked up in the same few maps: first those of the one address of the host that it
//! goes to, then those of every address. What is found there decides: an element sends the flow to its target, or to
//! the chain of a gate, behind which nothing else is asked.

use super::content::Content;
use super::family_table::FamilyTable;
use super::interval::{self, Interval};
use super::name::{ChainName, NftForwardChain, SetName};
use super::planned::{self, Planned, PlannedChain, planned};
use super::port_set::{GatedPorts, PortSet, number, protocol};
use super::ports::{ANY_SOURCE, PortElement, Then};
use super::rule::Rule;
use super::table::Set;
use crate::policy::{Family, ForwardMark, LOOPBACK_V4, PortRange, Prefix, Step};
use crate::ruleset::{
    Effect, Fact, ForwardRule, ForwardRules, GateRule, Hook, JumpPosition, Match, NotForwarded, RuleId, RuleStep,
    SectionId, ShiftedPort, Side, Test, guarded, not_forwarded,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What port forwards add to the table of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTable {
    /// What is asked before all else of flows that leave the host.
    pub first: Vec<Planned>,
    /// Their own chains.
    pub chains: Vec<PlannedChain>,
    /// Their sets and maps.
    pub sets: Vec<Set>,
}

impl ForwardTable {
    /// Adds it to what else there is of the family.
    pub fn add_to(self, table: &mut FamilyTable, position: JumpPosition) {
        let hooks = [Hook::RawPrerouting, Hook::Prerouting, Hook::Output];
        let has = |hook: &Hook| self.chains.iter().any(|chain| chain.name == ChainName::first(*hook, table.family));
        table.hooks.extend(hooks.into_iter().filter(has).map(|hook| (hook, priority(hook, position))));
        if let Some(chain) = table.chains.first_mut() {
            Arc::make_mut(&mut chain.rules).splice(0..0, self.first);
        }
        table.chains.extend(self.chains);
        table.sets.extend(self.sets);
    }
}

/// dstnat is -100 (nft(8)); most other nat chains of a host are there. The guard is where the raw table of iptables is.
fn priority(hook: Hook, position: JumpPosition) -> i32 {
    match (hook, position) {
        (Hook::RawPrerouting, _) => super::change::RAW,
        (_, JumpPosition::First) => -150,
        (_, JumpPosition::Last) => -50,
    }
}

/// The chains, maps and sets of forwards; `None` without any.
pub fn compile(forwards: &ForwardRules, family: Family, random_fully: bool) -> Option<ForwardTable> {
    if forwards.rules.is_empty() {
        return None;
    }
    let mut build = Build::new(forwards, family);
    build.look_up(&forwards.rules);
    build.targets(&forwards.rules);
    Some(build.finish(forwards, random_fully))
}

/// The forward of an element of a map that sends flows to its target.
pub fn owner(forwards: &ForwardRules, map: PortSet, element: &PortElement, family: Family) -> Option<u32> {
    let host = map.is_by_host().then(|| interval::address(element.host, family));
    let forward = forwards.open(host, protocol(element.protocol), element.first)?;
    Some(forward.number)
}

struct Build<'a> {
    family: Family,
    /// The mark of those whose source is to be translated.
    mark: Option<&'a ForwardMark>,
    sets: BTreeMap<PortSet, Vec<PortElement>>,
    /// What the ports of forwards with gates become, by their numbers.
    shifted: BTreeMap<u32, Vec<PortElement>>,
    gates: Vec<PlannedChain>,
}

impl<'a> Build<'a> {
    fn new(forwards: &'a ForwardRules, family: Family) -> Self {
        // Of another program's chain only iptables knows.
        let mark = forwards.mark().filter(|mark| mark.bit().is_some());
        let (sets, shifted) = Default::default();
        Build { family, mark, sets, shifted, gates: Vec::new() }
    }

    /// Those of one address and protocol are together, and what has gates there overlaps nothing that has none.
    fn look_up(&mut self, rules: &[ForwardRule]) {
        let same = |one: &ForwardRule, other: &ForwardRule| (one.host, one.protocol) == (other.host, other.protocol);
        for group in rules.chunk_by(same) {
            let (open, gated): (Vec<_>, Vec<_>) = group.iter().partition(|rule| rule.is_open());
            open.into_iter().for_each(|rule| self.open(rule));
            for (ports, rules) in pieces(gated.iter().map(|rule| (rule.ports, *rule)).collect()) {
                self.gate(ports, &rules);
            }
        }
        let local = rules.iter().filter(|rule| rule.localhost && rule.host.is_none());
        self.ports_of(|_| PortSet::Localhost, local.map(|rule| ((0, number(rule.protocol)), rule.ports)));
    }

    /// What needs to pass nothing.
    fn open(&mut self, rule: &ForwardRule) {
        let by_host = |one, any| if rule.host.is_some() { one } else { any };
        if self.mark.is_some() {
            for from in rule.hidden_behind(&[]) {
                let marked = element(rule, rule.ports, Then::Nothing);
                let set = by_host(PortSet::HostMarks, PortSet::Marks);
                self.put(set, PortElement { sources: Interval::of(from), ..marked });
            }
        }
        if rule.keeps_ports() && rule.ports.first < rule.ports.last {
            let set = by_host(PortSet::HostRanges, PortSet::Ranges);
            let then = Then::To(interval::number(rule.to), None);
            return self.put(set, element(rule, rule.ports, then));
        }
        for port in single(rule.ports) {
            self.put(by_host(PortSet::HostPorts, PortSet::Ports), shifted(rule, port));
        }
    }

    /// A chain of its own, that some ports lead to.
    fn gate(&mut self, ports: PortRange, rules: &[&ForwardRule]) {
        let Some(first) = rules.first() else { return };
        let gate = GatedPorts { host: first.host, protocol: number(first.protocol), first: ports.first };
        let name = ChainName::Forwards(self.family, NftForwardChain::Gate(gate));
        let set = if first.host.is_some() { PortSet::HostGates } else { PortSet::Gates };
        self.put(set, element(first, ports, Then::Goto(name)));
        let for_loopback = rules.iter().any(|rule| rule.localhost && rule.host.is_none());
        let mut chain = Vec::new();
        for rule in rules {
            if is_shifted(rule, ports) {
                self.shifted
                    .entry(rule.number)
                    .or_default()
                    .extend(single(ports).map(|port| PortElement { host: 0, ..shifted(rule, port) }));
            }
            chain.extend(gate_rules(rule, ports, for_loopback && !rule.localhost, self.mark));
        }
        chain.push(left_to_host(NotForwarded::Refused, Vec::new()));
        self.gates.push(PlannedChain::new(name, chain));
    }

    /// Where forwards lead, and from where they are masqueraded.
    fn targets(&mut self, rules: &[ForwardRule]) {
        let target = |rule: &ForwardRule| (interval::number(rule.to), number(rule.protocol));
        let led_to = rules.iter().map(|rule| (target(rule), rule.target_ports()));
        self.ports_of(|ports| if ports.first < ports.last { PortSet::TargetRanges } else { PortSet::Targets }, led_to);
        let mut hairpins: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for rule in rules.iter().filter(|_| self.mark.is_none()) {
            let sources: Vec<_> = rule.hidden().map(|(_, from)| Interval::of(from)).collect();
            if !sources.is_empty() {
                hairpins.entry(target(rule)).or_default().push((rule.target_ports(), sources));
            }
        }
        let mut by_host: BTreeMap<u128, Vec<_>> = BTreeMap::new();
        for ((host, protocol), ranges) in hairpins {
            let hidden = pieces(ranges).into_iter();
            let hidden =
                hidden.map(|(ports, sources)| (protocol, ports, union(sources.into_iter().flatten().collect())));
            by_host.entry(host).or_default().extend(hidden);
        }
        by_host.into_iter().for_each(|(host, hidden)| self.hairpin(host, hidden));
    }

    /// The clients of a target that are masqueraded, by its ports. Where all single ports have the same clients, these are
    /// asked by the target and the ports by their hash: one network of clients often is in front of every target.
    fn hairpin(&mut self, host: u128, hidden: Vec<(u8, PortRange, Vec<Interval>)>) {
        let then = Then::Nothing;
        let element = |protocol, PortRange { first, last }: PortRange, sources| PortElement {
            host,
            protocol,
            first,
            last,
            sources,
            then,
        };
        let (single, mut others): (Vec<_>, Vec<_>) =
            hidden.into_iter().partition(|(_, ports, _)| ports.first == ports.last);
        if single.windows(2).all(|two| two[0].2 == two[1].2) {
            for sources in single.first().into_iter().flat_map(|(.., sources)| sources) {
                self.put(PortSet::HairpinClients, element(0, PortRange { first: 0, last: 0 }, *sources));
            }
            for (protocol, ports, _) in single {
                self.put(PortSet::HairpinPorts, element(protocol, ports, ANY_SOURCE));
            }
        } else {
            others.extend(single);
        }
        for (protocol, ports, sources) in others {
            sources.into_iter().for_each(|sources| self.put(PortSet::Hairpin, element(protocol, ports, sources)));
        }
    }

    /// Ports of an address and a protocol, each once.
    fn ports_of(&mut self, set: fn(PortRange) -> PortSet, ranges: impl Iterator<Item = ((u128, u8), PortRange)>) {
        let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
        ranges.for_each(|(key, ports)| by_key.entry(key).or_default().push((ports, ())));
        for ((host, protocol), ranges) in by_key {
            for (ports @ PortRange { first, last }, _) in pieces(ranges) {
                let (sources, then) = (ANY_SOURCE, Then::Nothing);
                self.put(set(ports), PortElement { host, protocol, first, last, sources, then });
            }
        }
    }

    fn put(&mut self, set: PortSet, element: PortElement) {
        self.sets.entry(set).or_default().push(element);
    }

    fn finish(self, forwards: &ForwardRules, random_fully: bool) -> ForwardTable {
        let family = self.family;
        let has = |set: &PortSet| self.sets.contains_key(set);
        let name = |set| SetName::of_ports(set, family);
        let chain = |chain, rules| PlannedChain::new(ChainName::Forwards(family, chain), rules);
        let localhost = forwards.has_localhost();
        let look_up_in = |set| (of_forwards(RuleStep::Enter), Rule::look_up(name(set)));
        let maps = |sets: [PortSet; 3]| sets.into_iter().filter(has).map(look_up_in);
        let mark = |set| {
            let then = Effect::Mark(self.mark.filter(|_| has(&set))?.clone());
            Some(planned(of_forwards(RuleStep::Mark), vec![Match::Is(Test::InList(Side::Daddr, name(set)))], then))
        };
        let mut look_up: Vec<_> = left(family, localhost).collect();
        look_up.extend(mark(PortSet::HostMarks));
        look_up.extend(maps([PortSet::HostPorts, PortSet::HostRanges, PortSet::HostGates]));
        if localhost {
            let listed =
                has(&PortSet::Localhost).then_some(Match::IsNot(Test::InList(Side::Daddr, name(PortSet::Localhost))));
            let when = std::iter::once(to(LOOPBACK_V4)).chain(listed).collect();
            look_up.push(left_to_host(NotForwarded::NoLocalhost, when));
        }
        look_up.extend(mark(PortSet::Marks));
        look_up.extend(maps([PortSet::Ports, PortSet::Ranges, PortSet::Gates]));
        let mut chains = vec![chain(NftForwardChain::LookUp, look_up)];
        if localhost {
            let guard = planned(of_forwards(RuleStep::Guard), guarded(), Effect::Drop);
            chains.push(chain(NftForwardChain::Guard, vec![guard]));
        }
        chains.extend(self.gates);
        let decide = |step| RuleId { section: SectionId::Top, step: RuleStep::Decide(step) };
        let known = |sets: &[PortSet], then, step| {
            let in_set = |set: &PortSet| Match::Is(Test::InList(Side::Daddr, name(*set)));
            let when = std::iter::once(Match::Holds(Fact::Dnated)).chain(sets.iter().map(in_set));
            sets.iter().all(has).then(|| planned(decide(step), when.collect(), then))
        };
        let masquerade = Effect::Masquerade { random_fully, ports: None };
        let hairpin = [&[PortSet::HairpinClients, PortSet::HairpinPorts][..], &[PortSet::Hairpin]];
        let hairpin = hairpin.map(|sets| known(sets, masquerade.clone(), Step::ForwardHairpin));
        let forwarded = [PortSet::Targets, PortSet::TargetRanges];
        let forwarded = forwarded.map(|set| known(&[set], Effect::Return, Step::Forwarded));
        let marked = forwards.is_marked().map(|mark| planned(decide(Step::ForwardMark), vec![mark], masquerade));
        let first = marked.into_iter().chain(hairpin.into_iter().chain(forwarded).flatten()).collect();
        let shifted = self.shifted.into_iter().map(|(number, ports)| (SetName::of_shifted(number, family), ports));
        let set = |(name, mut elements): (SetName, Vec<PortElement>)| {
            elements.sort_unstable();
            Set { name, elements: Some(Content::Ports(elements.into())) }
        };
        let sets = self.sets.into_iter().map(|(set, elements)| (name(set), elements)).chain(shifted).map(set);
        ForwardTable { first, chains, sets: sets.collect() }
    }
}

/// The destinations that are asked no forward. Local processes have no incoming interface, and may be let through.
fn left(family: Family, localhost: bool) -> impl Iterator<Item = Planned> {
    let arrived = (localhost && family == Family::V4).then_some(Match::Is(arrived()));
    let leave = move |(range, why)| left_to_host(why, arrived.iter().cloned().chain([to(range)]).collect());
    not_forwarded(family).into_iter().map(leave)
}

fn of_forwards(step: RuleStep) -> RuleId {
    RuleId { section: SectionId::Forwards, step }
}

fn left_to_host(why: NotForwarded, when: Vec<Match<SetName>>) -> Planned {
    planned(of_forwards(RuleStep::LeftToHost(why)), when, Effect::Return)
}

fn to(range: Prefix) -> Match<SetName> {
    Match::Is(Test::In(Side::Daddr, range))
}

/// An incoming interface, whatever its name is.
fn arrived() -> Test<SetName> {
    Test::InInterface { name: String::new(), prefix: true }
}

/// The rules of a forward's gates, for some of its ports.
fn gate_rules(
    rule: &ForwardRule,
    ports: PortRange,
    not_for_loopback: bool,
    mark: Option<&ForwardMark>,
) -> Vec<Planned> {
    let keeps = rule.keeps_ports();
    // Of one port that becomes another one the kernel is told the other one.
    let one = |port| ShiftedPort { from: PortRange { first: port, last: port }, to: port };
    let port = (!keeps).then(|| one(rule.port + (ports.first - rule.ports.first)));
    let family = Family::of(rule.to);
    let translate = |gate: GateRule<'_>| {
        let id = of_forwards(gate.step());
        let arrives = gate.only_arriving.then_some(Match::Is(arrived()));
        let own = gate.when.into_iter().map(|one| one.rename(|list| SetName::new(list, family)));
        let far = not_for_loopback.then_some(Match::IsNot(Test::In(Side::Daddr, LOOPBACK_V4)));
        let mut when: Vec<_> = arrives.into_iter().chain(own).chain(far).collect();
        match gate.mark {
            Some(mark) => planned(id, when, Effect::Mark(mark.clone())),
            None if is_shifted(rule, ports) => planned::shifted(id, when, SetName::of_shifted(rule.number, family)),
            None => {
                // nft wants to know of which protocol a port is.
                when.extend((!keeps).then_some(Match::Is(Test::Protocol(rule.protocol))));
                planned(id, when, Effect::Dnat { to: rule.to, port })
            }
        }
    };
    rule.gate_rules(mark).map(translate).collect()
}

/// Nothing shifts a range: what each of several ports becomes, a map says.
fn is_shifted(rule: &ForwardRule, ports: PortRange) -> bool {
    !rule.keeps_ports() && ports.first < ports.last
}

/// A port of a rule, and what it becomes.
fn shifted(rule: &ForwardRule, port: PortRange) -> PortElement {
    let becomes = rule.port + (port.first - rule.ports.first);
    element(rule, port, Then::To(interval::number(rule.to), Some(becomes)))
}

fn element(rule: &ForwardRule, ports: PortRange, then: Then) -> PortElement {
    PortElement {
        host: rule.host.map_or(0, interval::number),
        protocol: number(rule.protocol),
        first: ports.first,
        last: ports.last,
        sources: ANY_SOURCE,
        then,
    }
}

/// The ports of a range, one by one.
fn single(ports: PortRange) -> impl Iterator<Item = PortRange> {
    (ports.first..=ports.last).map(|port| PortRange { first: port, last: port })
}

/// Cuts ranges where one begins or ends, so that none overlaps another; with what belongs to each piece.
fn pieces<T: Clone>(mut ranges: Vec<(PortRange, T)>) -> Vec<(PortRange, Vec<T>)> {
    ranges.sort_by_key(|(ports, _)| ports.first);
    let ends = |(ports, _): &(PortRange, T)| [u32::from(ports.first), u32::from(ports.last) + 1];
    let cuts: BTreeSet<u32> = ranges.iter().flat_map(ends).collect();
    let mut coming = ranges.into_iter().peekable();
    let mut open: Vec<(PortRange, T)> = Vec::new();
    let mut found = Vec::new();
    for (cut, next) in cuts.iter().zip(cuts.iter().skip(1)) {
        open.retain(|(ports, _)| u32::from(ports.last) >= *cut);
        while let Some(one) = coming.next_if(|(ports, _)| u32::from(ports.first) <= *cut) {
            open.push(one);
        }
        if !open.is_empty() {
            // Both are ports, for one range at least goes from here to the next cut.
            let ports = PortRange { first: *cut as u16, last: (*next - 1) as u16 };
            found.push((ports, open.iter().map(|(_, what)| what.clone()).collect()));
        }
    }
    found
}

/// The same addresses in as few intervals as can be.
fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut found: Vec<Interval> = Vec::new();
    for one in intervals {
        match found.last_mut() {
            Some(last) if one.first <= last.last.saturating_add(1) => last.last = last.last.max(one.last),
            _ => found.push(one),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_ranges() -> impl Strategy<Value = Vec<(PortRange, usize)>> {
        let range = (1_u16..60, 0_u16..20).prop_map(|(first, more)| PortRange { first, last: first + more });
        proptest::collection::vec(range, 0..12).prop_map(|ranges| ranges.into_iter().zip(0..).collect())
    }

    proptest! {
        #[test]
        fn pieces_overlap_nothing_and_hold_what_each_port_had(ranges in any_ranges()) {
            let found = pieces(ranges.clone());
            prop_assert!(found.windows(2).all(|two| two[0].0.last < two[1].0.first));
            for port in 1_u16..90 {
                let holds = |ports: &PortRange| (ports.first..=ports.last).contains(&port);
                let mut wanted: Vec<_> = ranges.iter().filter(|(ports, _)| holds(ports)).map(|(_, what)| *what).collect();
                let piece = found.iter().find(|(ports, _)| holds(ports));
                let mut there = piece.map_or(Vec::new(), |(_, what)| what.clone());
                wanted.sort_unstable();
                there.sort_unstable();
                prop_assert_eq!(there, wanted, "{}", port);
            }
        }
    }

    #[test]
    fn the_last_port_is_one_too() {
        let all = PortRange { first: 1, last: u16::MAX };
        let last = PortRange { first: u16::MAX, last: u16::MAX };
        let ranges: Vec<_> = pieces(vec![(all, 'a'), (last, 'b')]).into_iter().map(|(ports, _)| ports).collect();
        assert_eq!(ranges, [PortRange { first: 1, last: u16::MAX - 1 }, last]);
    }

    #[test]
    fn clients_that_overlap_are_one_interval() {
        let intervals = ["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "127.0.0.0/8"];
        let intervals = intervals.map(|text| Interval::of(text.parse().unwrap())).to_vec();
        let expected = ["10.0.0.0/8", "127.0.0.0/8"].map(|text| Interval::of(text.parse().unwrap()));
        assert_eq!(union(intervals), expected);
    }
}
