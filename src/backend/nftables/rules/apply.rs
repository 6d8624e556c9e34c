//! What a transaction makes of what there is. Pure: by this a plan is proved before it is sent, and what another
//! program left of it is known half-way.

use super::change::{Change, GUARD, Transaction};
use super::content::Content;
use super::name::{ChainName, SetName};
use super::stranger::Stranger;
use super::table::{Chain, Set, Slot, Table, Tables};
use std::collections::HashMap;

impl Tables {
    /// Makes the changes of a transaction.
    pub fn apply(&mut self, transaction: &Transaction) {
        let slot = self.slot_mut(transaction.table);
        let mut places = slot.table().map(Table::places).unwrap_or_default();
        for change in &transaction.changes {
            match (change, &mut *slot) {
                (Change::DeleteTable, _) => {
                    *slot = Slot::Absent;
                    places.clear();
                }
                (Change::AddTable(flags), Slot::Ours(table)) => table.flags = *flags,
                (Change::AddTable(flags), Slot::Absent | Slot::Blank) => *slot = Slot::Ours(Table::empty(*flags)),
                (change, Slot::Ours(table)) => table.apply(change, &mut places),
                (_, Slot::Absent | Slot::Blank) => {}
            }
        }
    }
}

impl Table {
    fn apply(&mut self, change: &Change, places: &mut HashMap<ChainName, usize>) {
        let place = |name: &ChainName| places.get(name).copied();
        match change {
            Change::AddSet(name) => self.sets.push(Set { name: *name, elements: Some(Content::empty(*name)) }),
            Change::DeleteSet(name) => self.sets.retain(|set| set.name != *name),
            Change::FlushSet(name) | Change::AddElements(name, _) | Change::DeleteElements(name, _) => {
                if let Some(set) = self.sets.iter_mut().find(|set| set.name == *name) {
                    set.elements = Some(changed(set.name, set.elements.as_ref(), change));
                }
            }
            Change::AddChain(name, hook) => match self.chain_at(place(name)) {
                Some(chain) => chain.hook = *hook,
                None => {
                    places.insert(*name, self.chains.len());
                    self.chains.push(Chain { name: *name, hook: *hook, rules: Vec::new() });
                }
            },
            Change::FlushChain(name) => {
                self.chain_at(place(name)).into_iter().for_each(|chain| chain.rules.clear());
            }
            Change::DeleteChain(name) => {
                self.chains.retain(|chain| chain.name != *name);
                *places = self.places();
            }
            Change::AddRule(name, rule) => {
                self.chain_at(place(name)).into_iter().for_each(|chain| chain.rules.push(rule.clone()));
            }
            Change::DeleteStranger(gone) => self.strangers.retain(|one| one != gone),
            Change::PutGuard => self.strangers.extend(guard()),
            Change::DeleteGuard => self.strangers.retain(|one| guard().all(|chain| chain != *one)),
            Change::AddTable(_) | Change::DeleteTable | Change::FlushStranger(_) => {}
        }
    }

    fn chain_at(&mut self, place: Option<usize>) -> Option<&mut Chain> {
        self.chains.get_mut(place?)
    }
}

/// No table has a guard for longer than a plan takes.
fn guard() -> impl Iterator<Item = Stranger> {
    GUARD.iter().map(|(name, ..)| Stranger::Chain((*name).to_owned()))
}

/// Elements after a change of them.
fn changed(name: SetName, elements: Option<&Content>, change: &Change) -> Content {
    let nothing = Content::empty(name);
    let elements = elements.unwrap_or(&nothing);
    match change {
        Change::AddElements(_, more) => elements.joined(more),
        Change::DeleteElements(_, fewer) => {
            let [_, left] = fewer.difference(elements);
            left
        }
        _ => nothing,
    }
}
