//! What is desired against what the kernel holds: what differs, and the text that ends the difference. Pure.

use super::ownership::{Ownership, Refusal, StaleRules};
use super::parse::{ListedChain, ListedRule, ListedTable};
use super::render::{Rendered, RenderedChain, Table, built_in, jump_command};
use super::sets::{DesiredSet, ObservedSet, is_our_name};
use crate::backend::drift::Drift;
use crate::policy::Family;
use crate::ruleset::{ChainName, Hook, JumpPosition};
use crate::sys::nfnetlink::ipset::SetHeader;
use std::fmt::Write;

/// So many rules of others are named in a chain of ours.
const MOST_NAMED: usize = 8;

/// What the kernel holds.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The nat table.
    pub table: ListedTable<'a>,
    /// The raw table; empty unless something of ours is there, or is to be.
    pub raw: ListedTable<'a>,
    /// The sets under our kind of name; members only of those that are desired.
    pub sets: Vec<ObservedSet>,
}

/// The texts to send, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// For `ipset restore`: makes and fills sets.
    pub fill: String,
    /// The sets that `fill` makes; they go again when the restore is refused.
    pub created: Vec<String>,
    /// For `iptables-restore --noflush`: chains and jumps in one text, with one transaction for each table.
    pub restore: String,
    /// Sets that nothing refers to once the restore is through.
    pub discarded: Vec<String>,
}

/// What came of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs, in words, as [`crate::backend::Plan::drift`].
    pub drift: Vec<Drift>,
    /// What to send; all empty when nothing differs.
    pub steps: Steps,
    /// What was left alone although it carries our name, and why.
    pub notes: Vec<String>,
    /// Chains that are a Go agent's if one lives that keeps them; none where nothing is to be sent.
    pub go_shaped: Vec<String>,
}

/// Compares. `own` is the configured name of our chain, `kept` the chains of Go agents that live; without `desired`
/// nothing of ours should be there.
///
/// # Errors
/// [`Refusal`] when a desired chain is there and not ours to write.
pub fn compare(
    own: &ChainName,
    family: Family,
    desired: Option<&Rendered>,
    observed: &Observed<'_>,
    kept: &[String],
) -> Result<Comparison, Refusal> {
    let chains = desired.map_or(&[][..], |desired| &desired.chains);
    let table = &observed.table;
    let ownership = Ownership::new(own, chains, table, kept);
    let stale = StaleRules::find(&ownership, chains, table);
    let mut draft = Draft { surplus: if desired.is_some() { "left-over " } else { "" }, ..Draft::default() };
    draft.jumps(desired, observed, &ownership);
    draft.chains(chains, table);
    draft.stale(&stale, table);
    let desired_sets = desired.map_or(&[][..], |desired| &desired.sets);
    draft.sets(desired_sets, observed);
    draft.unwanted_sets(family, desired_sets, observed, |chain| {
        chains.iter().any(|ours| ours.name == chain) || stale.hold(chain)
    });
    draft.notes.extend_from_slice(&stale.notes);
    let steps = draft.steps();
    match ownership.refuse(chains, table) {
        // Where nothing would be written nobody is in the way.
        Err(Refusal::Kept(_)) if steps == Steps::default() => {}
        refused => refused?,
    }
    Ok(Comparison {
        go_shaped: if steps == Steps::default() { Vec::new() } else { ownership.go_shaped() },
        steps,
        drift: draft.drift,
        notes: draft.notes,
    })
}

/// The lines of the transaction as they are found, by the place that they will have in it.
#[derive(Debug, Default)]
struct Draft {
    drift: Vec<Drift>,
    /// What is said before the name of what should go.
    surplus: &'static str,
    declared: String,
    deleted: String,
    filled: String,
    jump: String,
    removed: String,
    /// Of the raw table, in which there are no chains of ours.
    raw_deleted: String,
    raw_jump: String,
    set_lines: String,
    created: Vec<String>,
    discarded: Vec<String>,
    notes: Vec<String>,
}

impl Draft {
    fn say(&mut self, words: String) {
        self.drift.push(Drift::Own(words));
    }

    fn jumps(&mut self, desired: Option<&Rendered>, observed: &Observed<'_>, ownership: &Ownership<'_>) {
        Hook::ALL.into_iter().for_each(|hook| self.jumps_at(hook, desired, observed.at(hook), ownership));
    }

    fn jumps_at(&mut self, hook: Hook, desired: Option<&Rendered>, table: &ListedTable<'_>, ownership: &Ownership<'_>) {
        let chain = built_in(hook);
        let desired = desired.and_then(|desired| desired.jumps.iter().find(|jump| jump.hook == hook));
        let listed = table.chain(chain).map_or(&[][..], |chain| &chain.rules);
        let ours: Vec<_> = listed.iter().enumerate().filter(|(_, rule)| ownership.has_jump(rule)).collect();
        let is_right = |rule: &ListedRule<'_>| desired.is_some_and(|jump| rule.rule.as_ref() == Some(&jump.rule));
        let right: Vec<_> = ours.iter().filter(|(_, rule)| is_right(rule)).collect();
        for (_, rule) in ours.iter().filter(|(_, rule)| !is_right(rule)) {
            self.say(match (desired, hook) {
                (Some(_), Hook::Postrouting) => format!("left-over jump '{}'", rule.spec),
                (None, Hook::Postrouting) => format!("jump to '{}'", rule.target.as_deref().unwrap_or_default()),
                _ => format!("{}{} '{}'", self.surplus, in_words(hook), rule.spec),
            });
            self.delete(hook, rule.spec);
        }
        let Some(desired) = desired else { return };
        let jump = match hook {
            Hook::Postrouting => "the jump".to_owned(),
            _ => format!("the {}", in_words(hook)),
        };
        let misplaced = desired.position == JumpPosition::First && right.first().is_some_and(|(place, _)| *place > 0);
        match right.len() {
            0 if hook == Hook::RawPrerouting => self.say(format!("{jump} is missing")),
            0 => self.say(format!("{jump} to '{}' is missing", desired.to)),
            1 if misplaced => self.say(format!("{jump} is not the first rule of {chain}")),
            1 => return,
            count => self.say(format!("{jump} is there {count} times")),
        }
        // `-D` takes the first of equal rules: the copy that stays is the last one, which is no place for a jump
        // that belongs in front of all others.
        let stays = desired.position == JumpPosition::Last && !right.is_empty();
        for (_, rule) in right.iter().skip(usize::from(stays)) {
            self.delete(hook, rule.spec);
        }
        if !stays {
            let jumps = if Table::of(hook) == Table::Raw { &mut self.raw_jump } else { &mut self.jump };
            let _ = writeln!(jumps, "{} {}", jump_command(hook, desired.position, true), desired.rule);
        }
    }

    fn delete(&mut self, hook: Hook, spec: &str) {
        let deleted = if Table::of(hook) == Table::Raw { &mut self.raw_deleted } else { &mut self.deleted };
        let _ = writeln!(deleted, "-D {} {spec}", built_in(hook));
    }

    fn chains(&mut self, desired: &[RenderedChain], table: &ListedTable<'_>) {
        for chain in desired {
            let observed = table.chain(&chain.name);
            let foreign = observed.map(|observed| self.foreign_rules(observed)).unwrap_or_default();
            let difference = difference(chain, observed);
            if foreign == 0 && difference.is_none() {
                continue;
            }
            self.drift.extend(difference.map(Drift::Own));
            let _ = writeln!(self.declared, ":{} - [0:0]", chain.name);
            self.filled.push_str(&chain.rule_lines());
        }
    }

    /// Says which rules of others a chain of ours holds, and returns how many they are.
    fn foreign_rules(&mut self, chain: &ListedChain<'_>) -> usize {
        let foreign = chain.rules.iter().filter(|rule| !rule.has_our_comment());
        let count = foreign.clone().count();
        let is_flush = self.surplus.is_empty();
        let say = |rule: &ListedRule<'_>| match is_flush {
            true => Drift::removed_foreign_rule(chain.name, rule.spec),
            false => Drift::foreign_rule(chain.name, rule.spec),
        };
        self.drift.extend(foreign.take(MOST_NAMED).map(say));
        if count > MOST_NAMED {
            self.say(format!("{} more of them", count - MOST_NAMED));
        }
        count
    }

    fn stale(&mut self, stale: &StaleRules, table: &ListedTable<'_>) {
        for name in &stale.whole {
            table.chain(name).iter().for_each(|chain| _ = self.foreign_rules(chain));
            self.say(format!("{}chain '{name}'", self.surplus));
            if table.chain(name).is_some_and(|chain| !chain.rules.is_empty()) {
                let _ = writeln!(self.deleted, "-F {name}");
            }
            let _ = writeln!(self.removed, "-X {name}");
        }
        for name in &stale.emptied {
            table.chain(name).iter().for_each(|chain| _ = self.foreign_rules(chain));
            self.say(format!("{}rules of chain '{name}'", self.surplus));
            let _ = writeln!(self.deleted, "-F {name}");
        }
        for (name, specs) in &stale.mixed {
            self.say(format!("{} {}rules of chain '{name}'", specs.len(), self.surplus));
            for spec in specs {
                let _ = writeln!(self.deleted, "-D {name} {spec}");
            }
        }
    }

    fn sets(&mut self, desired: &[DesiredSet], observed: &Observed<'_>) {
        for set in desired {
            let found = observed.sets.iter().find(|found| found.header.name == set.name);
            let lines = set.member_lines(found.map_or(&[], |found| &found.members));
            if found.is_none() {
                self.say(format!("set '{}' is missing", set.name));
                let _ = writeln!(self.set_lines, "{}", set.create_line());
                self.created.push(set.name.clone());
            } else if !lines.is_empty() {
                self.say(format!("set '{}' has {} wrong or missing members", set.name, lines.lines().count()));
            }
            self.set_lines.push_str(&lines);
        }
    }

    fn unwanted_sets(
        &mut self,
        family: Family,
        desired: &[DesiredSet],
        observed: &Observed<'_>,
        is_our_chain: impl Fn(&str) -> bool,
    ) {
        for set in observed.sets.iter().map(|set| &set.header) {
            let name = &set.name;
            if !is_our_name(name, family) || desired.iter().any(|wanted| wanted.name == *name) {
                continue;
            }
            let is_our_reference =
                |(chain, rule): &(&str, &ListedRule<'_>)| refers_to(rule, name) && is_our_chain(chain);
            let ours = observed.table.rules().filter(is_our_reference).count();
            // More references than rules of ours: the other variant's table, or somebody else's rule, needs it.
            if set.references as usize > ours {
                self.notes.push(format!("set '{name}' stays: rules that are not ours refer to it"));
            } else {
                self.say(format!("{}set '{name}'", self.surplus));
                self.discarded.push(name.clone());
            }
        }
    }

    fn steps(&mut self) -> Steps {
        let nat = [&self.declared, &self.deleted, &self.filled, &self.jump, &self.removed].map(String::as_str).concat();
        let nat = transaction(Table::Nat, &nat);
        let raw = transaction(Table::Raw, &format!("{}{}", self.raw_deleted, self.raw_jump));
        // The guard is there before and as long as what it guards against.
        let restore = if self.raw_jump.is_empty() { nat + &raw } else { raw + &nat };
        Steps {
            fill: std::mem::take(&mut self.set_lines),
            created: std::mem::take(&mut self.created),
            restore,
            discarded: std::mem::take(&mut self.discarded),
        }
    }
}

impl<'a> Observed<'a> {
    /// The table whose built-in chain is at a hook.
    fn at(&self, hook: Hook) -> &ListedTable<'a> {
        match Table::of(hook) {
            Table::Nat => &self.table,
            Table::Raw => &self.raw,
        }
    }
}

/// What a rule of ours in the built-in chain of a hook is called.
fn in_words(hook: Hook) -> String {
    match Table::of(hook) {
        Table::Raw => "guard of loopback addresses in raw PREROUTING".to_owned(),
        Table::Nat => format!("jump in {}", built_in(hook)),
    }
}

fn transaction(table: Table, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("*{}\n{body}COMMIT\n", table.name()) }
}

fn refers_to(rule: &ListedRule<'_>, set: &str) -> bool {
    rule.rule.iter().flat_map(|rule| &rule.when).any(|one| one.list().is_some_and(|found| found == set))
}

/// The first way in which a chain is not what it should be, rules of others left out.
fn difference(desired: &RenderedChain, observed: Option<&ListedChain<'_>>) -> Option<String> {
    let name = &desired.name;
    let Some(observed) = observed else { return Some(format!("chain '{name}' is missing")) };
    if observed.rules.is_empty() {
        return Some(format!("chain '{name}' is empty"));
    }
    let found: Vec<_> = observed.rules.iter().filter(|rule| rule.has_our_comment()).collect();
    let pairs = desired.rules.iter().zip(&found);
    match pairs.enumerate().find(|(_, ((_, wanted), found))| found.rule.as_ref() != Some(wanted)) {
        Some((place, (_, found))) => {
            Some(format!("rule {} of chain '{name}' is not what it should be: '{}'", place + 1, found.spec))
        }
        None if desired.rules.len() == found.len() => None,
        None => Some(format!("chain '{name}' has {} rules instead of {}", found.len(), desired.rules.len())),
    }
}

/// What is there of ours, in the form of [`Rendered`]'s text: with the arguments of [`compare`], and the sets that it
/// discarded.
pub fn describe(
    own: &ChainName,
    desired: Option<&Rendered>,
    observed: &Observed<'_>,
    kept: &[String],
    discarded: &[String],
) -> String {
    let sets = desired.map_or(&[][..], |desired| &desired.sets);
    describe_sets(sets, discarded, &observed.sets) + &describe_rules(own, desired, observed, kept)
}

fn describe_rules(own: &ChainName, desired: Option<&Rendered>, observed: &Observed<'_>, kept: &[String]) -> String {
    let table = &observed.table;
    let chains = desired.map_or(&[][..], |desired| &desired.chains);
    let ownership = Ownership::new(own, chains, table, kept);
    let stale = StaleRules::find(&ownership, chains, table);
    let wanted = chains.iter().filter_map(|chain| table.chain(&chain.name));
    let others = table.chains.iter().filter(|chain| stale.hold(chain.name));
    let listed: Vec<&ListedChain<'_>> = wanted.chain(others).collect();
    let (mut rules, mut raw) = (String::new(), String::new());
    for chain in &listed {
        let _ = writeln!(rules, ":{} - [0:0]", chain.name);
    }
    for hook in Hook::ALL {
        let rules = if Table::of(hook) == Table::Raw { &mut raw } else { &mut rules };
        let listed = observed.at(hook).chain(built_in(hook)).map_or(&[][..], |chain| &chain.rules);
        let wanted = desired.and_then(|desired| desired.jumps.iter().find(|jump| jump.hook == hook));
        let position = wanted.map(|jump| jump.position).unwrap_or_default();
        for (place, rule) in listed.iter().enumerate().filter(|(_, rule)| ownership.has_jump(rule)) {
            let _ = writeln!(rules, "{} {}", jump_command(hook, position, place == 0), canonical(rule));
        }
    }
    for chain in &listed {
        for rule in &chain.rules {
            let _ = writeln!(rules, "-A {} {}", chain.name, canonical(rule));
        }
    }
    transaction(Table::Raw, &raw) + &transaction(Table::Nat, &rules)
}

/// The desired sets that are there, in their order, then those that will be destroyed.
fn describe_sets(desired: &[DesiredSet], discarded: &[String], observed: &[ObservedSet]) -> String {
    let mut text = String::new();
    for wanted in desired {
        let Some(found) = observed.iter().find(|found| found.header.name == wanted.name) else { continue };
        let _ = writeln!(text, "{}", wanted.create_line());
        let mut members = found.members.clone();
        members.sort_unstable_by_key(|member| member.prefix);
        for member in members {
            let exception = if member.is_exception { " nomatch" } else { "" };
            let _ = writeln!(text, "add {} {}{exception}", wanted.name, member.prefix);
        }
    }
    for SetHeader { name, type_name, elements, .. } in observed.iter().map(|set| &set.header) {
        if discarded.contains(name) {
            let _ = writeln!(text, "create {name} {type_name} # {elements} members");
        }
    }
    text
}

fn canonical(rule: &ListedRule<'_>) -> String {
    rule.rule.as_ref().map_or_else(|| rule.spec.to_owned(), ToString::to_string)
}
