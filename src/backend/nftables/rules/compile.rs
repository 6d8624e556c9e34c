//! A ruleset in the words of our table. Pure.

use super::interval::Interval;
use super::name::{ChainName, SetName};
use super::rule::{Action, FibAddress, Match, Rule, Side};
use super::table::{Chain, Hook, Set, Table, TableFlags};
use crate::policy::{Family, Prefix, Protocol, Verdict};
use crate::ruleset::{Condition, Group, JumpPosition, Masquerade, Outcome, Ruleset, Statement};
use std::collections::HashMap;
use std::sync::Arc;

/// The objects of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The family.
    pub family: Family,
    /// The priority of the base chain.
    pub priority: i32,
    /// The chains, without the base chain.
    pub chains: Vec<Chain>,
    /// The sets.
    pub sets: Vec<Set>,
}

impl Part {
    /// A table that holds this part and nothing else.
    pub fn alone(self, flags: TableFlags) -> Table {
        let hook = Hook { priority: self.priority, accepts: true };
        let base = Chain { name: ChainName::Postrouting, hook: Some(hook), rules: vec![dispatch(self.family)] };
        Table { chains: std::iter::once(base).chain(self.chains).collect(), sets: self.sets, ..Table::empty(flags) }
    }
}

/// Groups as sorted intervals. A group that was seen before is not sorted again.
#[derive(Debug, Default)]
pub struct Elements(HashMap<SetName, Sorted>);

/// A group as it was seen, and its intervals.
#[derive(Debug)]
struct Sorted {
    prefixes: Arc<[Prefix]>,
    intervals: Arc<[Interval]>,
}

impl Elements {
    fn of(&mut self, name: SetName, group: &Group) -> Arc<[Interval]> {
        if let Some(known) = self.0.get(&name)
            && Arc::ptr_eq(&known.prefixes, &group.prefixes)
        {
            return known.intervals.clone();
        }
        let mut intervals: Vec<_> = group.prefixes.iter().map(|prefix| Interval::of(*prefix)).collect();
        intervals.sort_unstable();
        let intervals: Arc<[Interval]> = intervals.into();
        self.0.insert(name, Sorted { prefixes: group.prefixes.clone(), intervals: intervals.clone() });
        intervals
    }
}

/// The rule of the base chain that sends a family to its own chain.
pub fn dispatch(family: Family) -> Rule {
    let matches = vec![Match::Family(family), Match::Local(FibAddress::Destination, false)];
    Rule::new(matches, Action::Goto(ChainName::Part(family, 1)), &format!("{family} that leaves the host"))
}

/// The priority of the base chain: srcnat is 100 (nft(8)); most other nat chains of a host are there.
fn priority(position: JumpPosition) -> i32 {
    match position {
        JumpPosition::First => 50,
        JumpPosition::Last => 150,
    }
}

/// The objects that a ruleset asks for.
pub fn compile(ruleset: &Ruleset, elements: &mut Elements) -> Part {
    let family = ruleset.family;
    let mut sets: Vec<Set> = Vec::new();
    for group in ruleset.groups() {
        let name = SetName::new(group.kind, family);
        if sets.iter().all(|set| set.name != name) {
            sets.push(Set { name, elements: Some(elements.of(name, group)) });
        }
    }
    let mut chains = vec![part(family, 1)];
    for statement in &ruleset.statements {
        write_statement(statement, ruleset, &mut chains);
    }
    chains.extend(masquerade_chain(family, &ruleset.masquerade));
    Part { family, priority: priority(ruleset.position), chains, sets }
}

fn part(family: Family, number: u8) -> Chain {
    Chain { name: ChainName::Part(family, number), hook: None, rules: Vec::new() }
}

/// Adds the rules of a statement behind those of the last chain; a gate that one rule can't be begins a chain.
fn write_statement(statement: &Statement, ruleset: &Ruleset, chains: &mut Vec<Chain>) {
    let family = ruleset.family;
    let next = ChainName::Part(family, chains.len() as u8 + 1);
    let Some(chain) = chains.last_mut() else { return };
    let reason = statement.step.reason();
    let alternatives = alternatives(&statement.condition, family);
    match statement.outcome {
        Outcome::When(verdict) => {
            let action = action(verdict, family, &ruleset.masquerade);
            let rules = alternatives.into_iter().map(|matches| Rule::new(matches, action.clone(), reason));
            chain.rules.extend(rules);
        }
        Outcome::KeepUnless => match alternatives.as_slice() {
            [matches] if matches.len() == 1 && negated(&matches[0]).is_some() => {
                chain.rules.push(Rule::new(matches.iter().filter_map(negated).collect(), Action::Return, reason));
            }
            _ => {
                let go_on = |matches| Rule::new(matches, Action::Goto(next), "in scope");
                chain.rules.extend(alternatives.into_iter().map(go_on));
                chain.rules.push(Rule::new(Vec::new(), Action::Return, reason));
                chains.push(Chain { name: next, hook: None, rules: Vec::new() });
            }
        },
    }
}

/// The ways in which a condition can hold; each is a row of matches that must hold together.
fn alternatives(condition: &Condition, family: Family) -> Vec<Vec<Match>> {
    let set = |group: &Group| SetName::new(group.kind, family);
    match condition {
        Condition::OutInterface(patterns) => patterns
            .iter()
            .map(|pattern| {
                vec![Match::OutInterface { name: pattern.name.clone(), prefix: pattern.prefix, negated: false }]
            })
            .collect(),
        Condition::Source(group) => vec![vec![Match::InSet(Side::Source, set(group), true)]],
        Condition::Destination(group) => vec![vec![Match::InSet(Side::Destination, set(group), true)]],
        Condition::Range(prefix) => vec![vec![Match::InPrefix(Side::Destination, *prefix)]],
        Condition::LocalSourceOnOutInterface => vec![vec![Match::Local(FibAddress::SourceOnOutInterface, true)]],
        Condition::LocalSourceNotOpening => {
            vec![vec![Match::NotOpening, Match::Local(FibAddress::Source, true)]]
        }
        // A packet of the host's own that left through a tunnel has had the header of a frame, too; its source is local.
        Condition::Bridged => vec![vec![Match::ToBridge, Match::InFrame, Match::Local(FibAddress::Source, false)]],
        Condition::Always => vec![Vec::new()],
    }
}

/// The opposite of a match, where one match can say it.
fn negated(one: &Match) -> Option<Match> {
    match one {
        Match::OutInterface { name, prefix, negated } => {
            Some(Match::OutInterface { name: name.clone(), prefix: *prefix, negated: !negated })
        }
        Match::InSet(side, set, inside) => Some(Match::InSet(*side, *set, !inside)),
        Match::Local(address, local) => Some(Match::Local(*address, !local)),
        _ => None,
    }
}

fn action(verdict: Verdict, family: Family, masquerade: &Masquerade) -> Action {
    match verdict {
        Verdict::KeepSource => Action::Return,
        Verdict::Masquerade if masquerade.to_ports.is_some() => Action::Goto(ChainName::Masquerade(family)),
        Verdict::Masquerade => Action::Masquerade { random_fully: masquerade.random_fully, ports: None },
    }
}

/// One rule per protocol with ports and range; a range is chosen so that every port is equally likely.
fn masquerade_chain(family: Family, masquerade: &Masquerade) -> Option<Chain> {
    let ranges = masquerade.to_ports.as_ref()?.with_remaining();
    let random_fully = masquerade.random_fully;
    let mut rules = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for (range, left) in &ranges {
            let mut matches = vec![Match::Protocol(protocol)];
            if range.size() < *left {
                matches.push(Match::Chance { of: *left, below: range.size() });
            }
            let action = Action::Masquerade { random_fully, ports: Some(*range) };
            rules.push(Rule::new(matches, action, "a source port of toPorts"));
        }
    }
    let rest = Action::Masquerade { random_fully, ports: None };
    rules.push(Rule::new(Vec::new(), rest, "a protocol without ports"));
    Some(Chain { name: ChainName::Masquerade(family), hook: None, rules })
}
