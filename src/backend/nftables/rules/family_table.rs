//! What one family has in our table.

use super::name::{ChainName, SetName};
use super::planned::PlannedChain;
use super::rule::Rule;
use super::table::{Chain, HookSpec, Set, Table, TableFlags};
use crate::policy::Family;
use crate::ruleset::{Effect, Hook, Match, Test};

/// The objects of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyTable {
    /// The family.
    pub family: Family,
    /// Where base chains lead to it, and their priorities.
    pub hooks: Vec<(Hook, i32)>,
    /// The chains, without base chains.
    pub chains: Vec<PlannedChain>,
    /// The sets.
    pub sets: Vec<Set>,
}

impl FamilyTable {
    /// A table that holds this and nothing else.
    pub fn standalone(self, flags: TableFlags) -> Table {
        let base = |(hook, priority): &(Hook, i32)| Chain {
            name: ChainName::Base(*hook),
            hook: Some(HookSpec { priority: *priority, accepts: true }),
            rules: vec![dispatch(*hook, self.family)],
        };
        let chains = self.hooks.iter().map(base).chain(self.chains.iter().map(PlannedChain::chain)).collect();
        Table { chains, sets: self.sets, ..Table::empty(flags) }
    }

    /// Gives a set another name, in the rules as well.
    pub fn rename(&mut self, from: SetName, to: SetName) {
        self.sets.iter_mut().filter(|set| set.name == from).for_each(|set| set.name = to);
        self.chains.iter_mut().for_each(|chain| chain.rename(from, to));
    }
}

/// The rule of a base chain that sends a family to its own chain.
pub fn dispatch(hook: Hook, family: Family) -> Rule {
    let matches = std::iter::once(Match::Is(Test::Family(family))).chain(hook.when());
    let reason = match hook {
        Hook::RawPrerouting => "that arrives",
        Hook::Prerouting => "that arrives for this host",
        Hook::Output => "of this host for itself",
        Hook::Postrouting => "that leaves the host",
    };
    Rule::new(matches.collect(), Effect::Goto(ChainName::first(hook, family)), &format!("{family} {reason}"))
}
