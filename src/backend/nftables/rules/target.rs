//! What our table should be, given what it is: the part of one family as desired, that of the other one as it is. Pure.

use super::content::Content;
use super::family_table::{FamilyTable, dispatch};
use super::name::{ChainName, SetName};
use super::planned::PlannedChain;
use super::rule::Rule;
use super::stranger::Stranger;
use super::table::{Chain, FORMAT, HookSpec, Set, Table, TableFlags, Tables};
use crate::policy::Family;
use crate::ruleset::Hook;
use std::collections::HashSet;

/// With more changed elements than this a set that rules look into is not changed but followed by another one. So many
/// go into one transaction: for each element the kernel holds a notification of a page and more until the commit ends,
/// if anybody on the machine listens to nf_tables, in whichever network namespace.
pub const PIECE: usize = 10_000;

/// The table that we want; none at all where nothing is desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// It.
    pub table: Option<Table>,
    /// The same with other names for sets, on the way to it.
    pub via: Option<Table>,
    /// What is there can't be changed into it.
    pub anew: bool,
}

/// The target of a plan for one family, for which nothing is desired where there is no `part`.
pub fn target(tables: &Tables, family: Family, part: Option<FamilyTable>, flags: TableFlags) -> Target {
    let nothing = Table::empty(flags);
    // What the other family should be, a stand-in says while our table is not made.
    let stand_in = tables.stand_in_at_work();
    let observed = stand_in.or_else(|| tables.table());
    let there = observed.unwrap_or(&nothing);
    let mut kept = Kept::of(there, family);
    let bases: Vec<_> =
        Hook::ALL.into_iter().filter_map(|hook| base_chain(hook, there, part.as_ref(), &kept)).collect();
    if bases.is_empty() || part.is_none() && kept.chains.is_empty() {
        return Target { table: None, via: None, anew: false };
    }
    // What is going to be taken away need not have other flags first.
    let flags = if part.is_some() { flags } else { there.flags };
    let mut format = there.format;
    let mut anew = stand_in.is_some() || observed.is_some() && needs_new_table(there.flags, flags);
    let wanted = part.is_some();
    let mut remains = Remains::default();
    let part = match part {
        Some(part) => {
            let unseen = !kept.is_ours();
            let part = named(part, there).unwrap_or_else(|part| {
                anew = true;
                part
            });
            if unseen {
                remains = Remains::of(there, &part);
            } else {
                anew |= there.format != FORMAT;
            }
            part
        }
        None => {
            kept.drop_foreign_rules();
            FamilyTable { family, hooks: Vec::new(), chains: Vec::new(), sets: Vec::new() }
        }
    };
    let other = bases.iter().chain(&kept.chains).map(|chain| chain.name);
    let needed = other.chain(part.chains.iter().map(|chain| chain.name));
    anew |= needed.map(|name| name.to_string()).any(|name| there.strangers.contains(&Stranger::Chain(name)));
    anew |= wanted && remains.strangers.is_empty() && there.strangers.iter().any(Stranger::is_nameless);
    if anew {
        kept.drop_what_we_never_write();
        format = FORMAT;
        remains = Remains::default();
    }
    let planned = part.chains.iter().map(PlannedChain::chain);
    let chains = bases.into_iter().chain(kept.chains).chain(planned).chain(remains.chains).collect();
    let sets = kept.sets.into_iter().chain(part.sets).chain(remains.sets).collect();
    let table = Table { flags, format, chains, sets, strangers: remains.strangers };
    match at_once(there, &table) {
        _ if anew => Target { table: Some(table), via: None, anew },
        None => Target { table: Some(table), via: None, anew },
        Some((moved, true)) => Target { table: Some(table), via: Some(moved), anew },
        Some((moved, false)) => Target { table: Some(moved), via: None, anew },
    }
}

/// Elements count a moment after the rules of their transaction, and those of one set after those of another: what
/// changes more than one of these together goes by sets of the other names, which rules take up all at once. Says, too,
/// whether they are short enough to come back to their names.
fn at_once(there: &Table, table: &Table) -> Option<(Table, bool)> {
    if !there.is_in_force() || !there.is_understood() {
        return None;
    }
    let changed = |set: &&Set| {
        // Those of port forwards and of blocks have an order of their own.
        set.name.ports().is_none()
            && !set.name.has_blocks()
            && there.uses(set.name)
            && there.set(set.name).is_some_and(|old| changes(old, &wanted(set)) > 0)
    };
    let changed: Vec<&Set> = table.sets.iter().filter(changed).collect();
    // No flow asks two parts of one list.
    let lists: HashSet<_> = changed.iter().map(|set| (set.name.list(), set.name.family)).collect();
    let has_same_rules = || {
        table.chains.len() == there.chains.len()
            && table.chains.iter().all(|chain| there.chain(chain.name) == Some(chain))
    };
    if changed.is_empty() || lists.len() == 1 && has_same_rules() {
        return None;
    }
    let mut moved = table.clone();
    for set in &changed {
        let other = SetName { second: !set.name.second, ..set.name };
        if there.set(other).is_some() {
            return None;
        }
        moved.rename(set.name, other);
    }
    let count: usize = changed.iter().filter_map(|set| set.elements.as_ref()).map(Content::len).sum();
    Some((moved, count <= PIECE))
}

/// The kernel lets a table go to sleep and wake up, and be adopted when its owner has died, which took the owner flag
/// away with it. Whether it outlives its owner is said once, when it is made.
pub fn needs_new_table(observed: TableFlags, target: TableFlags) -> bool {
    observed.has(TableFlags::PERSIST) != target.has(TableFlags::PERSIST)
        || observed.has(TableFlags::OWNER) && !target.has(TableFlags::OWNER)
}

/// The base chain of a hook, where one is needed. The dispatches that are there stay in their order: no flow sees both.
fn base_chain(hook: Hook, there: &Table, part: Option<&FamilyTable>, kept: &Kept) -> Option<Chain> {
    let name = ChainName::Base(hook);
    let observed = there.chain(name);
    let asked = part.and_then(|part| part.hooks.iter().find(|(one, _)| *one == hook));
    let priority = asked.map(|(_, priority)| *priority).or_else(|| Some(observed?.hook?.priority))?;
    let is_there = |family: &Family| {
        let planned = part.into_iter().flat_map(|part| &part.chains).map(|chain| chain.name);
        planned.chain(kept.chains.iter().map(|chain| chain.name)).any(|name| name == ChainName::first(hook, *family))
    };
    let dispatch = |family| dispatch(hook, family);
    let wanted: Vec<_> = Family::ALL.into_iter().filter(is_there).map(dispatch).collect();
    if wanted.is_empty() && hook != Hook::Postrouting {
        return None;
    }
    let mut rules: Vec<Rule> = Vec::new();
    for rule in observed.iter().flat_map(|base| &base.rules).chain(&wanted) {
        if wanted.contains(rule) && !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(Chain { name, hook: Some(HookSpec { priority, accepts: true }), rules })
}

/// What there is of the family that is not planned for.
struct Kept {
    chains: Vec<Chain>,
    sets: Vec<Set>,
    /// Sets with names of ours that are of another shape.
    strange: Vec<SetName>,
}

impl Kept {
    fn of(there: &Table, family: Family) -> Self {
        let other = |found: Option<Family>| found.is_some_and(|found| found != family);
        let strange = |stranger: &Stranger| match stranger {
            Stranger::Set(name, _) => SetName::parse(name),
            Stranger::Chain(_) | Stranger::Object(..) | Stranger::Flowtable(_) => None,
        };
        Kept {
            chains: there.chains.iter().filter(|chain| other(chain.name.family())).cloned().collect(),
            sets: there.sets.iter().filter(|set| other(Some(set.name.family))).cloned().collect(),
            strange: there.strangers.iter().filter_map(strange).collect(),
        }
    }

    fn is_ours(&self) -> bool {
        self.chains.iter().all(|chain| chain.rules.iter().all(|rule| is_ours(rule, &self.strange)))
    }

    fn drop_foreign_rules(&mut self) {
        let Kept { chains, strange, .. } = self;
        chains.iter_mut().for_each(|chain| chain.rules.retain(|rule| is_ours(rule, strange)));
    }

    fn drop_what_we_never_write(&mut self) {
        let (written, unwritten): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sets).into_iter().partition(|set| set.elements.is_some());
        self.sets = written;
        self.strange.extend(unwritten.iter().map(|set| set.name));
        self.drop_foreign_rules();
    }
}

/// True of a rule as we write it that looks into no set that we would not have written.
fn is_ours(rule: &Rule, strange: &[SetName]) -> bool {
    rule.is_ours() && !strange.iter().any(|set| rule.looks_into(*set))
}

/// What a plan has to leave because rules of the other family may refer to it that we don't understand. The plan of
/// that family throws them out, and the next one of this family the rest.
#[derive(Default)]
struct Remains {
    chains: Vec<Chain>,
    sets: Vec<Set>,
    strangers: Vec<Stranger>,
}

impl Remains {
    fn of(there: &Table, part: &FamilyTable) -> Self {
        let gone =
            |name: ChainName| name.family() == Some(part.family) && part.chains.iter().all(|chain| chain.name != name);
        let unused = |name: SetName| name.family == part.family && part.sets.iter().all(|set| set.name != name);
        let emptied = |chain: &Chain| Chain { rules: Vec::new(), ..chain.clone() };
        Remains {
            chains: there.chains.iter().filter(|chain| gone(chain.name)).map(emptied).collect(),
            sets: there.sets.iter().filter(|set| unused(set.name)).cloned().collect(),
            strangers: there.strangers.clone(),
        }
    }
}

/// The same part with names for its sets under which they can be had.
///
/// # Errors
/// The part as it is, when a set has none.
fn named(mut part: FamilyTable, there: &Table) -> Result<FamilyTable, FamilyTable> {
    let mut names = Vec::with_capacity(part.sets.len());
    let mut room = PIECE;
    for set in &part.sets {
        let elements = wanted(set);
        let Some(name) = name(set.name, &elements, there, room) else { return Err(part) };
        if there.is_in_force() && there.uses(name) {
            room -= there.set(name).map_or(0, |there| changes(there, &elements)).min(room);
        }
        names.push((set.name, name));
    }
    for (usual, name) in names.into_iter().filter(|(usual, name)| usual != name) {
        part.rename(usual, name);
    }
    Ok(part)
}

/// The name of a set: that of one which is right or can be changed at once, else one that nobody looks into.
fn name(usual: SetName, wanted: &Content, there: &Table, room: usize) -> Option<SetName> {
    let taken = |name: &SetName| {
        let name = name.to_string();
        there.strangers.iter().any(|stranger| matches!(stranger, Stranger::Set(set, _) if *set == name))
    };
    let names: Vec<_> = usual.both().into_iter().filter(|name| !taken(name)).collect();
    let live = there.is_in_force();
    let changes = |name: SetName| there.set(name).map(|set| changes(set, wanted));
    let is_right = |name: &&SetName| changes(**name) == Some(0);
    let is_near = |name: &&SetName| there.uses(**name) && changes(**name).is_some_and(|count| count <= room);
    let is_free =
        |name: &&SetName| there.set(**name).is_none() || !live || there.is_understood() && !there.uses(**name);
    let found = names.iter().find(is_right).or_else(|| names.iter().find(is_near));
    found.or_else(|| names.iter().find(is_free)).copied()
}

fn wanted(set: &Set) -> Content {
    set.elements.clone().unwrap_or_else(|| Content::empty(set.name))
}

/// How many elements have to come or go.
fn changes(set: &Set, wanted: &Content) -> usize {
    match &set.elements {
        Some(elements) if elements.is(wanted) || elements == wanted => 0,
        Some(elements) => elements.difference(wanted).iter().map(Content::len).sum(),
        // Something besides them at least.
        None => wanted.len() + 1,
    }
}
