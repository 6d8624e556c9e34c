//! What differs, in words for the journal. Pure.

use super::change::{Change, Transaction};
use super::content::Content;
use super::name::{SetName, TABLE, TableName};
use super::plan;
use super::rule::Rule;
use super::table::{Chain, FORMAT, Slot, Table, TableFlags, Tables};
use super::target::{Target, needs_new_table};
use crate::backend::drift::Drift;

/// So many rules of others are named with their text; of more only the number is said.
const NAMED: usize = 5;

/// What of a table is not in another one, by name.
pub fn surplus(observed: &Table, target: Option<&Table>) -> Vec<Drift> {
    let table = format!("table inet {TABLE}");
    let foreign = foreign_rules(observed, target).take(NAMED);
    let Some(target) = target else { return foreign.chain([table.into()]).collect() };
    let chains = observed.chains.iter().map(|chain| chain.name).filter(|name| target.chain(*name).is_none());
    let sets = observed.sets.iter().map(|set| set.name).filter(|name| target.set(*name).is_none());
    let strangers = observed.strangers.iter().filter(|one| !target.strangers.contains(one));
    let ours = chains.map(|name| format!("chain {name}")).chain(sets.map(named));
    foreign.chain(ours.chain(strangers.map(ToString::to_string)).map(Drift::Own)).collect()
}

/// The rules of others that go with chains of ours. What another version wrote is no other program's.
fn foreign_rules<'a>(observed: &'a Table, target: Option<&'a Table>) -> impl Iterator<Item = Drift> + 'a {
    let kept = move |chain: &Chain, rule: &Rule| {
        target.and_then(|target| target.chain(chain.name)).is_some_and(|chain| chain.rules.contains(rule))
    };
    let gone = move |chain: &'a Chain| chain.rules.iter().filter(move |rule| !rule.is_ours() && !kept(chain, rule));
    let chains = observed.chains.iter().filter(|_| observed.format == FORMAT);
    chains.flat_map(move |chain| {
        gone(chain).map(|rule| Drift::removed_foreign_rule(&chain.name.to_string(), &rule.words()))
    })
}

/// What differs, as the transactions tell it.
pub fn words(transactions: &[Transaction], observed: &Tables, target: &Target) -> Vec<Drift> {
    let mut words = match (&observed.main, &target.table) {
        (Slot::Absent | Slot::Blank, None) => Vec::new(),
        (Slot::Absent | Slot::Blank, Some(_)) => vec![format!("table inet {TABLE} is missing").into()],
        (Slot::Ours(_), None) => vec![format!("table inet {TABLE} is still there").into()],
        (Slot::Ours(there), Some(table)) if target.anew => anew(there, table).into_iter().map(Drift::Own).collect(),
        (Slot::Ours(there), Some(table)) => match &target.via {
            // What comes behind it only gives sets their names again.
            Some(via) => amended(&plan::amend(there, via, false), there, via),
            None => amended(transactions, there, table),
        },
    };
    if observed.stand_in.table().is_some() {
        words.push(format!("table inet {} is still there", TableName::StandIn).into());
    }
    words
}

/// Why a table has to be made again.
fn anew(there: &Table, target: &Table) -> Vec<String> {
    if needs_new_table(there.flags, target.flags) {
        let word = |flags: TableFlags| if flags.0 == 0 { "no flags".to_owned() } else { format!("flags {flags}") };
        return vec![format!("table inet {TABLE} has {} and should have {}", word(there.flags), word(target.flags))];
    }
    if there.format != target.format {
        return vec![format!("table inet {TABLE} has format {} of another version", there.format)];
    }
    there.strangers.iter().map(|one| format!("{one} is not as this version makes it")).collect()
}

fn amended(transactions: &[Transaction], there: &Table, target: &Table) -> Vec<Drift> {
    let main = transactions.iter().filter(|transaction| transaction.table == TableName::Main);
    let changes: Vec<_> = main.flat_map(|transaction| &transaction.changes).collect();
    let mut words: Vec<Drift> = Vec::new();
    for change in &changes {
        let found = match change {
            Change::FlushChain(name) => {
                let both = there.chain(*name).zip(target.chain(*name));
                both.map_or(Vec::new(), |(old, new)| emptied(old, new, there.format))
            }
            _ => word(change, &changes, there, target).map(Drift::Own).into_iter().collect(),
        };
        words.extend(found.into_iter().filter(|word| !words.contains(word)).collect::<Vec<_>>());
    }
    if words.is_empty() && !changes.is_empty() {
        words.push(format!("table inet {TABLE} is not as it should be").into());
    }
    words
}

/// Why the rules of a chain have to be written again: those that have to go by their text. Nothing was wrong with rules
/// that only have to look into a set of another name.
fn emptied(there: &Chain, target: &Chain, format: u32) -> Vec<Drift> {
    let name = there.name;
    let usual = |rules: &[Rule]| rules.iter().cloned().map(Rule::with_usual_names).collect::<Vec<_>>();
    let (found, wanted) = (usual(&there.rules), usual(&target.rules));
    if found == wanted {
        return Vec::new();
    }
    let gone = there.rules.iter().zip(found).filter(|(_, found)| !wanted.contains(found));
    let gone: Vec<&Rule> = gone.map(|(rule, _)| rule).collect();
    if gone.is_empty() {
        return vec![format!("the rules of chain {name} are not as they should be").into()];
    }
    let word = |rule: &&Rule| match rule.words() {
        words if format != FORMAT => format!("chain {name} holds a rule of another version: '{words}'").into(),
        words if rule.is_ours() => format!("chain {name} holds a rule too many: '{words}'").into(),
        words => Drift::foreign_rule(&name.to_string(), &words),
    };
    let more = gone.len().saturating_sub(NAMED);
    let named = gone.iter().take(NAMED).map(word);
    named.chain((more > 0).then(|| format!("and {more} more").into())).collect()
}

/// What was wrong, so that this change is needed; `None` when another change tells it.
fn word(change: &Change, changes: &[&Change], there: &Table, target: &Table) -> Option<String> {
    Some(match change {
        Change::AddTable(flags) if flags.has(TableFlags::OWNER) && !there.flags.has(TableFlags::OWNER) => {
            format!("table inet {TABLE} has no owner")
        }
        Change::AddTable(_) => format!("table inet {TABLE} is dormant"),
        Change::AddSet(name) => {
            match name.both().into_iter().find(|name| there.uses(*name) && there.set(*name).is_some()) {
                Some(old) if there.set(old).is_some_and(|set| set.elements.is_none()) => {
                    format!("the elements of {} are not known", named(old))
                }
                Some(old) => {
                    let elements = |table: &Table, name| {
                        table.set(name).and_then(|set| set.elements.clone()).unwrap_or_else(|| Content::empty(name))
                    };
                    let changes = elements(there, old).difference(&elements(target, *name)).map(|some| some.len());
                    format!("{} differs by {}", named(old), count(changes.iter().sum(), "element"))
                }
                None => format!("{} is missing", named(*name)),
            }
        }
        Change::FlushSet(name) if name.ports().is_some() => format!("{} holds elements of others", named(*name)),
        Change::FlushSet(name) => format!("set {name} holds elements that are no row of intervals"),
        Change::DeleteSet(name) if name.both().iter().any(|name| target.set(*name).is_some()) => return None,
        Change::DeleteSet(name) => format!("{} should not be there", named(*name)),
        Change::DeleteElements(name, elements) => {
            format!("{} has {} too many", named(*name), count(elements.len(), "element"))
        }
        Change::AddElements(name, elements) => {
            there.set(*name)?.elements.as_ref()?;
            format!("{} lacks {}", named(*name), count(elements.len(), "element"))
        }
        Change::AddChain(name, hook) => match (there.chain(*name).and_then(|chain| chain.hook), hook) {
            (Some(old), Some(new)) if old.priority != new.priority => {
                format!("chain {name} has priority {} and should have {}", old.priority, new.priority)
            }
            (Some(_), _) => format!("chain {name} drops what no rule decides"),
            (None, _) => format!("chain {name} is missing"),
        },
        Change::DeleteChain(name) if target.chain(*name).is_some() => return None,
        Change::DeleteChain(name) => format!("chain {name} should not be there"),
        Change::DeleteStranger(one) => format!("{one} is not of this version"),
        Change::AddRule(name, _) => {
            let told = |change: &&Change| match change {
                Change::FlushChain(other) | Change::AddChain(other, _) => other == name,
                _ => false,
            };
            if changes.iter().any(told) {
                return None;
            }
            let missing = changes.iter().filter(|change| matches!(change, Change::AddRule(other, _) if other == name));
            format!("chain {name} lacks {}", count(missing.count(), "rule"))
        }
        Change::DeleteTable
        | Change::FlushChain(_)
        | Change::FlushStranger(_)
        | Change::PutGuard
        | Change::DeleteGuard => return None,
    })
}

fn named(set: SetName) -> String {
    format!("{} {set}", set.kind())
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}
