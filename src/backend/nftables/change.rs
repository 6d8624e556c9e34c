//! The difference between what our table is and what it should be, as changes in the order of a batch. Pure.

use super::interval::{Difference, Interval};
use super::rule::Rule;
use super::table::{Chain, ChainName, Hook, Set, SetName, TABLE, TABLE_COMMENT, Table, TableFlags};
use super::text;
use std::fmt;
use std::sync::Arc;

/// One step of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the table, or takes an existing one over: sets its flags and its owner.
    PutTable(TableFlags),
    /// Takes the table and all that is in it away.
    DeleteTable,
    /// Makes an empty set.
    AddSet(SetName),
    /// Takes all elements out of a set.
    FlushSet(SetName),
    /// Takes a set away.
    DeleteSet(SetName),
    /// Puts elements into a set.
    AddElements(SetName, Arc<[Interval]>),
    /// Takes elements out of a set.
    DeleteElements(SetName, Arc<[Interval]>),
    /// Makes an empty chain, or gives an existing one back its policy.
    PutChain(ChainName, Option<Hook>),
    /// Takes all rules out of a chain.
    FlushChain(ChainName),
    /// Takes a chain away.
    DeleteChain(ChainName),
    /// Puts a rule at the end of a chain.
    AddRule(ChainName, Rule),
}

/// The changes that make `observed` what `target` is.
pub fn between(observed: Option<&Table>, target: Option<&Table>) -> Vec<Change> {
    let mut changes = Vec::new();
    match (observed, target) {
        (None, None) => {}
        (Some(_), None) => changes.push(Change::DeleteTable),
        (None, Some(target)) => {
            changes.push(Change::PutTable(target.flags));
            contents(&Table::empty(target.flags), target, &mut changes);
        }
        (Some(observed), Some(target)) if needs_new_table(observed.flags, target.flags) => {
            changes.extend([Change::DeleteTable, Change::PutTable(target.flags)]);
            contents(&Table::empty(target.flags), target, &mut changes);
        }
        (Some(observed), Some(target)) => {
            if observed.flags != target.flags {
                changes.push(Change::PutTable(target.flags));
            }
            contents(observed, target, &mut changes);
        }
    }
    changes
}

/// The kernel lets a table go to sleep and wake up, and be adopted when its owner has died, which took the owner flag
/// away with it. Whether it outlives its owner is said once, when it is made.
fn needs_new_table(observed: TableFlags, target: TableFlags) -> bool {
    observed.has(TableFlags::PERSIST) != target.has(TableFlags::PERSIST)
        || observed.has(TableFlags::OWNER) && !target.has(TableFlags::OWNER)
}

/// What is referred to is made before and taken away after what refers to it. Chains are emptied and filled again and
/// not made anew, so that the base chain keeps its place among chains of equal priority.
fn contents(observed: &Table, target: &Table, changes: &mut Vec<Change>) {
    for set in &target.sets {
        set_contents(observed.set(set.name), set, changes);
    }
    for chain in &target.chains {
        put_chain(observed.chain(chain.name), chain, changes);
    }
    let gone: Vec<_> = observed.chains.iter().filter(|chain| target.chain(chain.name).is_none()).collect();
    changes.extend(gone.iter().map(|chain| Change::FlushChain(chain.name)));
    for chain in &target.chains {
        let kept = observed.chain(chain.name).filter(|old| !needs_new_chain(old, chain));
        rules(kept.map_or(&[], |old| &old.rules), chain, changes);
    }
    changes.extend(gone.iter().map(|chain| Change::DeleteChain(chain.name)));
    let gone = observed.sets.iter().filter(|set| target.set(set.name).is_none());
    changes.extend(gone.map(|set| Change::DeleteSet(set.name)));
}

fn set_contents(observed: Option<&Set>, target: &Set, changes: &mut Vec<Change>) {
    let name = target.name;
    let wanted = target.elements.clone().unwrap_or_default();
    let difference = match observed.map(|set| &set.elements) {
        Some(Some(elements)) if Arc::ptr_eq(elements, &wanted) => return,
        Some(Some(elements)) => Difference::between(elements, &wanted),
        Some(None) if target.elements.is_none() => return,
        Some(None) => {
            changes.push(Change::FlushSet(name));
            Difference { removed: Vec::new(), added: wanted.to_vec() }
        }
        None => {
            changes.push(Change::AddSet(name));
            Difference { removed: Vec::new(), added: wanted.to_vec() }
        }
    };
    if !difference.removed.is_empty() {
        changes.push(Change::DeleteElements(name, difference.removed.into()));
    }
    if !difference.added.is_empty() {
        changes.push(Change::AddElements(name, difference.added.into()));
    }
}

/// A chain can't change its priority.
fn needs_new_chain(observed: &Chain, target: &Chain) -> bool {
    observed.hook.map(|hook| hook.priority) != target.hook.map(|hook| hook.priority)
}

fn put_chain(observed: Option<&Chain>, target: &Chain, changes: &mut Vec<Change>) {
    match observed {
        Some(old) if needs_new_chain(old, target) => {
            changes.extend([Change::DeleteChain(old.name), Change::PutChain(target.name, target.hook)]);
        }
        Some(old) if old.hook == target.hook => {}
        _ => changes.push(Change::PutChain(target.name, target.hook)),
    }
}

fn rules(observed: &[Rule], target: &Chain, changes: &mut Vec<Change>) {
    let missing = match target.rules.strip_prefix(observed) {
        Some(missing) => missing,
        None => {
            changes.push(Change::FlushChain(target.name));
            &target.rules
        }
    };
    // A rule that we never write can't be written again either; the plan of its own family throws it out.
    let known = missing.iter().filter(|rule| rule.action().is_some());
    changes.extend(known.map(|rule| Change::AddRule(target.name, rule.clone())));
}

/// What of a table is not in another one, by name.
pub fn surplus(observed: &Table, target: Option<&Table>) -> Vec<String> {
    let Some(target) = target else { return vec![format!("table inet {TABLE}")] };
    let chains = observed.chains.iter().map(|chain| chain.name).filter(|name| target.chain(*name).is_none());
    let sets = observed.sets.iter().map(|set| set.name).filter(|name| target.set(*name).is_none());
    chains.map(|name| format!("chain {name}")).chain(sets.map(|name| format!("set {name}"))).collect()
}

/// What differs, in words for the journal, as the changes tell it.
pub fn words(changes: &[Change], observed: Option<&Table>, target: Option<&Table>) -> Vec<String> {
    let (observed, target) = match (observed, target) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![format!("table inet {TABLE} is missing")],
        (Some(_), None) => return vec![format!("table inet {TABLE} is still there")],
        (Some(observed), Some(target)) if needs_new_table(observed.flags, target.flags) => {
            let word = |flags: TableFlags| if flags.0 == 0 { "no flags".to_owned() } else { format!("flags {flags}") };
            return vec![format!(
                "table inet {TABLE} has {} and should have {}",
                word(observed.flags),
                word(target.flags)
            )];
        }
        (Some(observed), Some(target)) => (observed, target),
    };
    let mut words: Vec<String> = Vec::new();
    for change in changes {
        let word = word(change, changes, observed, target);
        words.extend(word.filter(|word| words.last() != Some(word)));
    }
    words
}

/// What was wrong, so that this change is needed; `None` when another change tells it.
fn word(change: &Change, changes: &[Change], observed: &Table, target: &Table) -> Option<String> {
    Some(match change {
        Change::PutTable(flags) if flags.has(TableFlags::OWNER) && !observed.flags.has(TableFlags::OWNER) => {
            format!("table inet {TABLE} has no owner")
        }
        Change::PutTable(_) => format!("table inet {TABLE} is dormant"),
        Change::DeleteTable => return None,
        Change::AddSet(name) => format!("set {name} is missing"),
        Change::FlushSet(name) => format!("set {name} holds elements that are no row of intervals"),
        Change::DeleteSet(name) => format!("set {name} should not be there"),
        Change::DeleteElements(name, elements) => format!("set {name} has {} too many", count(elements, "element")),
        Change::AddElements(name, elements) => {
            observed.set(*name)?.elements.as_ref()?;
            format!("set {name} lacks {}", count(elements, "element"))
        }
        Change::PutChain(name, hook) => match (observed.chain(*name).and_then(|chain| chain.hook), hook) {
            (Some(old), Some(new)) if old.priority != new.priority => {
                format!("chain {name} has priority {} and should have {}", old.priority, new.priority)
            }
            (Some(_), _) => format!("chain {name} drops what no rule decides"),
            (None, _) => format!("chain {name} is missing"),
        },
        Change::DeleteChain(name) if target.chain(*name).is_some() => return None,
        Change::DeleteChain(name) => format!("chain {name} should not be there"),
        Change::FlushChain(name) => {
            target.chain(*name)?;
            format!("the rules of chain {name} are not ours")
        }
        Change::AddRule(name, _) => {
            let told = |change: &Change| match change {
                Change::FlushChain(other) | Change::PutChain(other, _) => other == name,
                _ => false,
            };
            if changes.iter().any(told) {
                return None;
            }
            let missing: Vec<_> =
                changes.iter().filter(|change| matches!(change, Change::AddRule(other, _) if other == name)).collect();
            format!("chain {name} lacks {}", count(&missing, "rule"))
        }
    })
}

fn count<T>(things: &[T], word: &str) -> String {
    format!("{} {word}{}", things.len(), if things.len() == 1 { "" } else { "s" })
}

impl fmt::Display for Change {
    /// As a command of nft, with a newline at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements = |f: &mut fmt::Formatter<'_>, verb: &str, name: &SetName, elements: &[Interval]| {
            let mut lines = String::new();
            text::write_elements(elements, name.family, "\t", &mut lines);
            writeln!(f, "{verb} element inet {TABLE} {name} {{\n{lines}}}")
        };
        match self {
            Change::PutTable(flags) => {
                let flags = if flags.0 == 0 { String::new() } else { format!("flags {flags}; ") };
                writeln!(f, "add table inet {TABLE} {{ {flags}comment \"{TABLE_COMMENT}\"; }}")
            }
            Change::DeleteTable => writeln!(f, "delete table inet {TABLE}"),
            Change::AddSet(name) => writeln!(
                f,
                "add set inet {TABLE} {name} {{ type {}; flags interval; comment \"{}\"; }}",
                name.key_type(),
                name.comment()
            ),
            Change::FlushSet(name) => writeln!(f, "flush set inet {TABLE} {name}"),
            Change::DeleteSet(name) => writeln!(f, "delete set inet {TABLE} {name}"),
            Change::AddElements(name, list) => elements(f, "add", name, list),
            Change::DeleteElements(name, list) => elements(f, "delete", name, list),
            Change::PutChain(name, hook) => {
                let hook = hook.map_or(String::new(), |hook| {
                    format!("type nat hook postrouting priority {}; policy accept; ", hook.priority)
                });
                writeln!(f, "add chain inet {TABLE} {name} {{ {hook}comment \"{}\"; }}", name.comment())
            }
            Change::FlushChain(name) => writeln!(f, "flush chain inet {TABLE} {name}"),
            Change::DeleteChain(name) => writeln!(f, "delete chain inet {TABLE} {name}"),
            Change::AddRule(chain, rule) => writeln!(f, "add rule inet {TABLE} {chain} {rule}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nftables::compile::{Elements, compile};
    use crate::policy::{Family, Origin, Policy, PrefixSet};
    use crate::ruleset::{HostFacts, JumpPosition, Ruleset};

    fn table(exempt: &[&str], exceptions: &[&str]) -> Table {
        let list =
            |texts: &[&str]| PrefixSet::from_prefixes(texts.iter().map(|text| text.parse().unwrap()), &Origin::Default);
        let policy = Policy { exempt: list(exempt), exceptions: list(exceptions), ..Policy::default() };
        let ruleset = Ruleset::new(&policy, Family::V4, JumpPosition::Last, HostFacts::default()).unwrap();
        compile(&ruleset, &mut Elements::default()).alone(TableFlags::default())
    }

    fn transaction(observed: Option<&Table>, target: Option<&Table>) -> String {
        between(observed, target).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_tables_need_no_change() {
        let table = table(&["10.0.0.0/8"], &[]);
        assert_eq!(between(Some(&table), Some(&table.clone())), []);
        assert_eq!(between(None, None), []);
    }

    #[test]
    fn one_more_prefix_is_one_more_element() {
        let (old, new) = (table(&["10.0.0.0/8"], &[]), table(&["10.0.0.0/8", "192.0.2.0/24"], &[]));
        let added = "add element inet ip-masq-agent exempt4 {\n\t192.0.2.0/24,\n}\n";
        assert_eq!(transaction(Some(&old), Some(&new)), added);
        let back = transaction(Some(&new), Some(&old));
        assert_eq!(back, added.replace("add", "delete"));
        let words = words(&between(Some(&old), Some(&new)), Some(&old), Some(&new));
        assert_eq!(words, ["set exempt4 lacks 1 element"]);
    }

    #[test]
    fn a_set_is_made_before_the_rule_that_looks_into_it_and_goes_after_it() {
        let (old, new) = (table(&["10.0.0.0/8"], &[]), table(&["10.0.0.0/8"], &["192.0.2.0/24"]));
        let kinds = |changes: Vec<Change>| -> Vec<String> {
            let text = |change: &Change| change.to_string().split(' ').take(2).collect::<Vec<_>>().join(" ");
            let mut kinds: Vec<_> = changes.iter().map(text).collect();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(between(Some(&old), Some(&new))), ["add set", "add element", "flush chain", "add rule"]);
        assert_eq!(kinds(between(Some(&new), Some(&old))), ["flush chain", "add rule", "delete set"]);
    }

    #[test]
    fn missing_rules_at_the_end_are_added_without_emptying_the_chain() {
        let new = table(&[], &[]);
        let mut old = new.clone();
        old.chains[1].rules.pop();
        let changes = between(Some(&old), Some(&new));
        assert!(matches!(changes.as_slice(), [Change::AddRule(_, _)]), "{changes:?}");
        assert_eq!(words(&changes, Some(&old), Some(&new)), ["chain ipv4 lacks 1 rule"]);
    }

    #[test]
    fn a_table_whose_owner_died_is_adopted_and_not_made_anew() {
        let mut old = table(&[], &[]);
        let new = Table { flags: TableFlags::PERSISTENT, ..old.clone() };
        old.flags = TableFlags(TableFlags::PERSIST);
        assert_eq!(between(Some(&old), Some(&new)), [Change::PutTable(TableFlags::PERSISTENT)]);
        let plain = table(&[], &[]);
        assert_eq!(between(Some(&old), Some(&plain))[0], Change::DeleteTable);
    }
}
