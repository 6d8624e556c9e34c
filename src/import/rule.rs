//! A nat rule as every source of rules has it: which packets, and what becomes of them.

use crate::policy::{AddressRange, AddressSet, Family, InterfacePattern, MaskedMark, PortRange, Protocol};

/// Where a rule was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// From 1; of JSON, the number of the rule.
    pub number: usize,
    pub text: String,
}

/// A line that no configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub line: Line,
    pub reason: String,
}

/// What was made of a line, or the reason of its [`Refusal`].
pub type Taken<T> = Result<T, String>;

/// Where in the packet path a rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Prerouting,
    Output,
    Postrouting,
}

/// Which packets a rule is for; what is unset holds for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Any of them; one with `!` stands alone.
    pub out: Vec<InterfacePattern>,
    pub incoming: Vec<InterfacePattern>,
    pub sources: Option<AddressSet>,
    pub destinations: Option<AddressSet>,
    /// Not those with these marks.
    pub without_marks: Vec<MaskedMark>,
    pub mark: Option<MaskedMark>,
    /// An IPsec policy will encrypt it, or will not.
    pub ipsec: Option<bool>,
    pub to_local: Option<bool>,
    pub protocols: Vec<Protocol>,
    /// Destination ports.
    pub ports: Vec<PortRange>,
    /// Its destination was rewritten before.
    pub dnated: bool,
    /// The first part that no key says.
    pub unsaid: Option<String>,
}

/// Source addresses and how their ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Of one address or more; without any, that of the outgoing interface.
    pub to: Option<AddressRange>,
    pub random_fully: bool,
}

/// The destination that a rule gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    pub address: Option<AddressRange>,
    pub ports: Option<PortRange>,
    /// `--to-destination A:9000-9010/8000`: the port that becomes the first one.
    pub base: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// RETURN and ACCEPT.
    Keep,
    Translate(Translation),
    Forward(Destination),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// One or more: neighbours that differ in an address only are one rule.
    pub lines: Vec<Line>,
    pub hook: Hook,
    pub family: Family,
    pub condition: Condition,
    pub action: Action,
}

/// All that a text has of nat.
#[derive(Debug, Default)]
pub struct Rules {
    pub rules: Vec<Rule>,
    pub refused: Vec<Refusal>,
    /// What is to be known and is no fault.
    pub notes: Vec<String>,
    /// The key that says how forwards are marked, and its value.
    pub forward_mark: Option<(&'static str, String)>,
}

impl Rules {
    pub fn refuse(&mut self, line: Line, reason: impl Into<String>) {
        if !self.refused.iter().rev().take(64).any(|one| one.line == line) {
            self.refused.push(Refusal { line, reason: reason.into() });
        }
    }

    pub fn refuse_rule(&mut self, rule: Rule, reason: &str) {
        rule.lines.into_iter().for_each(|line| self.refuse(line, reason));
    }

    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// The addresses that are in both.
pub fn both(one: &AddressSet, other: &AddressSet) -> AddressSet {
    one.without(&one.without(other))
}

/// The addresses that are in one of them.
pub fn either(one: &AddressSet, other: &AddressSet) -> AddressSet {
    AddressSet::of(one.prefixes().into_iter().chain(other.prefixes()))
}

/// Every address of a family.
pub fn whole(family: Family) -> AddressSet {
    AddressSet::of([family.whole()])
}

/// The addresses of a family that a set leaves.
pub fn but(family: Family, set: &AddressSet) -> AddressSet {
    whole(family).without(set)
}

impl Condition {
    /// Both at once: what a jump asks, and a rule of the chain that it leads to.
    pub fn and(&self, other: &Condition) -> Condition {
        let mut joined = self.clone();
        joined.unsaid = self.unsaid.clone().or_else(|| other.unsaid.clone());
        let mut clash = |what: &str| {
            joined.unsaid.get_or_insert_with(|| format!("two conditions on {what}"));
        };
        let list = |one: &[InterfacePattern], other: &[InterfacePattern]| match (one, other) {
            ([], list) | (list, []) => Some(list.to_vec()),
            (one, other) if one == other => Some(one.to_vec()),
            _ => None,
        };
        match list(&self.out, &other.out) {
            Some(out) => joined.out = out,
            None => clash("the outgoing interface"),
        }
        match list(&self.incoming, &other.incoming) {
            Some(incoming) => joined.incoming = incoming,
            None => clash("the incoming interface"),
        }
        let meet = |one: &Option<AddressSet>, other: &Option<AddressSet>| match (one, other) {
            (Some(one), Some(other)) => Some(both(one, other)),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        joined.sources = meet(&self.sources, &other.sources);
        joined.destinations = meet(&self.destinations, &other.destinations);
        joined.without_marks.extend(&other.without_marks);
        if joined.mark.is_some() && other.mark.is_some() && joined.mark != other.mark {
            joined.unsaid.get_or_insert_with(|| "two conditions on the mark".to_owned());
        }
        joined.mark = joined.mark.or(other.mark);
        for (ours, theirs) in [(&mut joined.ipsec, other.ipsec), (&mut joined.to_local, other.to_local)] {
            if ours.is_some() && theirs.is_some() && *ours != theirs {
                joined.unsaid.get_or_insert_with(|| "two conditions that exclude each other".to_owned());
            }
            *ours = ours.or(theirs);
        }
        if !joined.ports.is_empty() && !other.ports.is_empty() && joined.ports != other.ports {
            joined.unsaid.get_or_insert_with(|| "two conditions on the port".to_owned());
        }
        if joined.ports.is_empty() {
            joined.ports.clone_from(&other.ports);
        }
        if !joined.protocols.is_empty() && !other.protocols.is_empty() && joined.protocols != other.protocols {
            joined.unsaid.get_or_insert_with(|| "two conditions on the protocol".to_owned());
        }
        if joined.protocols.is_empty() {
            joined.protocols.clone_from(&other.protocols);
        }
        joined.dnated |= other.dnated;
        joined
    }
}
