//! From what there is to what there should be, in transactions of which each leaves every flow the right source. Pure.
//!
//! The kernel lets a new rule count before the elements that a set got in the same transaction, by milliseconds and up
//! to a second (seen on Linux 6.18): a set is filled before any rule that masquerades looks into it, in transactions of
//! its own.
//!
//! And where nothing else on the host needs connection tracking, the first rule that masquerades turns it on while its
//! transaction is still being made: a flow that sends a packet before the transaction counts is not asked again, and
//! keeps its source for as long as it lives. So whatever is not in force yet gets everything else before, and the rules
//! from the first that masquerades on in a transaction that is as short as can be: until then its chains keep every
//! source, as if they were not there. Where no flow is tracked that this could hurt, a guard keeps connection tracking
//! away from all packets until those rules count.

use super::change::{Change, Transaction};
use super::content::Content;
use super::name::{ChainName, NftForwardChain, SetName, TableName};
use super::port_set::Data;
use super::rule::Rule;
use super::stranger::Stranger;
use super::table::{Chain, Set, Slot, Table, TableFlags, Tables};
use super::target::{PIECE, Target};
use std::collections::HashMap;

/// The transactions that make `observed` what `target` is; with a guard where it may be had and something comes into
/// force.
pub fn transactions(observed: &Tables, target: &Target, guarded: bool) -> Vec<Transaction> {
    let stand_in = observed.stand_in.table().is_some();
    let is_at_work = observed.stand_in_at_work().is_some();
    // Connection tracking is on where one is there.
    let guarded = guarded && !stand_in;
    let remove = || only(TableName::StandIn, Change::DeleteTable);
    let mut plan = Vec::new();
    // What is left over says what our table says or has said, and does no work.
    plan.extend((stand_in && !is_at_work).then(remove));
    match (&observed.main, &target.table) {
        (Slot::Ours(_), None) => plan.push(only(TableName::Main, Change::DeleteTable)),
        (Slot::Absent | Slot::Blank, None) => {}
        (Slot::Ours(there), Some(table)) if !is_at_work && target.anew => plan.extend(replace(there, table)),
        (Slot::Ours(there), Some(table)) if !is_at_work => {
            let between = target.via.as_ref().unwrap_or(there);
            plan.extend(target.via.iter().flat_map(|via| amend(there, via, guarded)));
            plan.extend(amend(between, table, guarded));
        }
        (Slot::Absent, Some(table)) => plan.extend(build(TableName::Main, table, Vec::new(), guarded)),
        (Slot::Blank | Slot::Ours(_), Some(table)) => {
            plan.extend(build(TableName::Main, table, vec![Change::DeleteTable], guarded));
        }
    }
    plan.extend(is_at_work.then(remove));
    plan
}

/// What takes back what the first transactions of a plan made when the next one was refused: sets that no rule looks
/// into, and a table that is not in force yet. Nothing goes when the rules are in.
pub fn undo(observed: &Tables, done: &[Transaction], rest: &[Transaction]) -> Vec<Transaction> {
    let has = |transactions: &[Transaction], table: TableName, wanted: fn(&Change) -> bool| {
        transactions.iter().filter(|one| one.table == table).flat_map(|one| &one.changes).any(wanted)
    };
    let judges = |change: &Change| matches!(change, Change::AddChain(..) | Change::FlushChain(_) | Change::AddRule(..));
    let puts = |change: &Change| matches!(change, Change::AddTable(_));
    let guards = |change: &Change| *change == Change::PutGuard;
    let unguard = || only(TableName::Main, Change::DeleteGuard);
    if !has(rest, TableName::Main, judges) {
        return has(done, TableName::Main, guards).then(unguard).into_iter().collect();
    }
    let is_deleted = has(done, TableName::Main, |change| *change == Change::DeleteTable);
    let mut undo = Vec::new();
    match (&observed.main, is_deleted) {
        // The stand-in holds the rules; the next plan goes on from there.
        (Slot::Ours(_), true) => {}
        (Slot::Ours(_), false) => {
            undo.extend(has(done, TableName::StandIn, puts).then(|| only(TableName::StandIn, Change::DeleteTable)));
            let main = done.iter().filter(|one| one.table == TableName::Main).flat_map(|one| &one.changes);
            let mut now = observed.clone();
            done.iter().for_each(|transaction| now.apply(transaction));
            let made = main.filter_map(|change| match change {
                Change::AddSet(name) if !now.table().is_some_and(|table| table.uses(*name)) => {
                    Some(Change::DeleteSet(*name))
                }
                _ => None,
            });
            let mut changes: Vec<_> = made.collect();
            let main = done.iter().filter(|one| one.table == TableName::Main).flat_map(|one| &one.changes);
            changes.extend(main.filter_map(|change| match change {
                Change::AddChain(name, None) => Some(Change::DeleteChain(*name)),
                _ => None,
            }));
            undo.extend(has(done, TableName::Main, guards).then(unguard));
            undo.extend((!changes.is_empty()).then_some(Transaction { table: TableName::Main, changes }));
        }
        (Slot::Absent | Slot::Blank, _) => {
            undo.extend(has(done, TableName::Main, puts).then(|| only(TableName::Main, Change::DeleteTable)));
        }
    }
    undo
}

fn only(table: TableName, change: Change) -> Transaction {
    Transaction { table, changes: vec![change] }
}

/// A table from nothing; `first` is what has to go in the same moment.
fn build(table: TableName, target: &Table, first: Vec<Change>, guarded: bool) -> Vec<Transaction> {
    let mut filling = Filling::new(table, first);
    filling.push(Change::AddTable(target.flags));
    let nothing = Table::empty(target.flags);
    new_gates(&nothing, target).for_each(|gate| filling.push(gate));
    target.sets.iter().for_each(|set| filling.set(None, set));
    filling.come_into_force(rules_and_chains(&nothing, target), guarded)
}

/// Another table of the same name, whose work a stand-in does meanwhile.
fn replace(there: &Table, target: &Table) -> Vec<Transaction> {
    // Also where another process owns it, and the kernel will refuse to delete it: that one may be gone until then.
    let needed = there.is_in_force();
    let mut plan = Vec::new();
    if needed {
        let target = Table { flags: TableFlags::default(), ..target.clone() };
        plan.extend(build(TableName::StandIn, &target, Vec::new(), false));
    }
    plan.extend(build(TableName::Main, target, vec![Change::DeleteTable], false));
    if needed {
        plan.push(only(TableName::StandIn, Change::DeleteTable));
    }
    plan
}

/// The same table with other things in it.
pub fn amend(there: &Table, target: &Table, guarded: bool) -> Vec<Transaction> {
    let sleeps = there.flags.has(TableFlags::DORMANT);
    let awake = |flags: TableFlags| TableFlags(flags.0 & !TableFlags::DORMANT);
    let mut plan = Vec::new();
    if awake(there.flags) != awake(target.flags) {
        let flags = TableFlags(target.flags.0 | there.flags.0 & TableFlags::DORMANT);
        plan.push(only(TableName::Main, Change::AddTable(flags)));
    }
    let mut filling = Filling::new(TableName::Main, Vec::new());
    let mut in_use = Filling::new(TableName::Main, Vec::new());
    let mut afterwards = Filling::new(TableName::Main, Vec::new());
    let live = |set: &&Set| there.is_in_force() && there.uses(set.name);
    let leads_to_gates = |set: &&Set| set.name.ports().is_some_and(|ports| ports.data() == Data::Chain);
    let gates_first =
        if target.sets.iter().filter(leads_to_gates).all(|set| live(&set)) { &mut in_use } else { &mut filling };
    new_gates(there, target).for_each(|gate| gates_first.push(gate));
    for set in &target.sets {
        match Widening::of(there.set(set.name), set).filter(|_| live(&set)) {
            Some(Widening { removed, added }) => {
                filling.elements(&added, |piece| Change::AddElements(set.name, piece));
                afterwards.elements(&removed, |piece| Change::DeleteElements(set.name, piece));
            }
            None if live(&set) => in_use.set(there.set(set.name), set),
            None => filling.set(there.set(set.name), set),
        }
    }
    if !there.is_in_force() {
        plan.extend(filling.come_into_force(rules_and_chains(there, target), guarded && !sleeps));
        plan.extend(sleeps.then(|| only(TableName::Main, Change::AddTable(target.flags))));
        return plan;
    }
    plan.extend(filling.finish());
    // A set in use changes by so few elements that one transaction holds them, together with the rules.
    let mut last: Vec<_> = in_use.finish().into_iter().flat_map(|transaction| transaction.changes).collect();
    last.extend(rules_and_chains(there, target));
    if !last.is_empty() {
        plan.push(Transaction { table: TableName::Main, changes: last });
    }
    plan.extend(afterwards.finish());
    plan
}

/// Elements name chains: these are there before, without rules as yet.
fn new_gates<'a>(there: &Table, target: &'a Table) -> impl Iterator<Item = Change> + use<'a> {
    let known = index(there);
    let is_new = move |chain: &&Chain| is_gate(chain.name) && !known.contains_key(&chain.name);
    let names: Vec<_> = target.chains.iter().filter(is_new).map(|chain| chain.name).collect();
    names.into_iter().map(|name| Change::AddChain(name, None))
}

fn is_gate(name: ChainName) -> bool {
    matches!(name, ChainName::Forwards(_, NftForwardChain::Gate(_)))
}

/// The chains of a table by their names.
fn index(table: &Table) -> HashMap<ChainName, &Chain> {
    table.chains.iter().map(|chain| (chain.name, chain)).collect()
}

/// How a set changes that may hold too much for a while: by which flows are known that are forwarded, or where the
/// ranges are that keep the source. It gets more before the first of them can come, and less behind the last one.
struct Widening {
    removed: Content,
    added: Content,
}

impl Widening {
    /// So many pairs are compared at most.
    const PAIRS: usize = 1_000_000;

    /// `None` for other sets, and where a new element overlaps an old one: they can't be there together.
    fn of(there: Option<&Set>, target: &Set) -> Option<Self> {
        target.name.may_be_wider().then_some(())?;
        let [removed, added] = there?.elements.as_ref()?.difference(target.elements.as_ref()?);
        if let (Content::Ports(removed), Content::Ports(added)) = (&removed, &added)
            && (removed.len() * added.len() > Self::PAIRS
                || removed.iter().any(|old| added.iter().any(|new| old.overlaps(new))))
        {
            return None;
        }
        Some(Widening { removed, added })
    }
}

/// Everything but the elements. What is referred to is made before and taken away after what refers to it. Chains are
/// emptied and filled again and not made anew, so that the base chain keeps its place among chains of equal priority.
fn rules_and_chains(there: &Table, target: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut rules = Vec::new();
    let (mut emptied, mut deleted, mut put) = (Vec::new(), Vec::new(), Vec::new());
    let (known, wanted) = (index(there), index(target));
    for chain in &target.chains {
        let old = known.get(&chain.name).copied();
        match old {
            Some(old) if needs_new_chain(old, chain) => {
                deleted.push(Change::DeleteChain(chain.name));
                put.push(Change::AddChain(chain.name, chain.hook));
            }
            Some(old) if old.hook == chain.hook => {}
            None if is_gate(chain.name) => {}
            _ => put.push(Change::AddChain(chain.name, chain.hook)),
        }
        let kept = old.filter(|old| !needs_new_chain(old, chain)).map_or(&[][..], |old| &old.rules);
        let missing = chain.rules.strip_prefix(kept).unwrap_or_else(|| {
            emptied.push(Change::FlushChain(chain.name));
            &chain.rules
        });
        // A rule that we never write can't be written again either; the plan of its own family throws it out.
        let known = missing.iter().filter(|rule| rule.is_known());
        rules.extend(known.map(|rule| Change::AddRule(chain.name, Rule::clone(rule))));
    }
    for chain in there.chains.iter().filter(|chain| !wanted.contains_key(&chain.name)) {
        emptied.push(Change::FlushChain(chain.name));
        deleted.push(Change::DeleteChain(chain.name));
    }
    let gone: Vec<_> = there.strangers.iter().filter(|one| !target.strangers.contains(one)).collect();
    let is_chain = |one: &&&Stranger| matches!(one, Stranger::Chain(_));
    emptied.extend(gone.iter().filter(is_chain).map(|one| Change::FlushStranger(one.name().to_owned())));
    changes.extend(emptied);
    let unused = there.sets.iter().filter(|set| target.set(set.name).is_none()).map(|set| set.name);
    let leads_to_gates = |name: &SetName| name.ports().is_some_and(|ports| ports.data() == Data::Chain);
    let (leading, unused): (Vec<_>, Vec<_>) = unused.partition(leads_to_gates);
    changes.extend(leading.into_iter().map(Change::DeleteSet));
    // The elements of a map may name chains and objects.
    changes.extend(gone.iter().filter(|one| matches!(one, Stranger::Set(..))).map(|one| delete(one)));
    changes.extend(gone.iter().filter(is_chain).map(|one| delete(one)));
    changes.extend(deleted);
    changes.extend(put);
    changes.extend(rules);
    changes.extend(
        gone.iter().filter(|one| matches!(one, Stranger::Object(..) | Stranger::Flowtable(_))).map(|one| delete(one)),
    );
    changes.extend(unused.into_iter().map(Change::DeleteSet));
    changes
}

fn delete(stranger: &Stranger) -> Change {
    Change::DeleteStranger(stranger.clone())
}

/// A chain can't change its priority.
fn needs_new_chain(observed: &Chain, target: &Chain) -> bool {
    observed.hook.map(|hook| hook.priority) != target.hook.map(|hook| hook.priority)
}

/// Transactions in the making, none with more elements than [`PIECE`].
struct Filling {
    table: TableName,
    transactions: Vec<Transaction>,
    changes: Vec<Change>,
    room: usize,
}

impl Filling {
    fn new(table: TableName, changes: Vec<Change>) -> Self {
        Filling { table, transactions: Vec::new(), changes, room: PIECE }
    }

    fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Makes a set what it should be.
    fn set(&mut self, there: Option<&Set>, target: &Set) {
        let name = target.name;
        let nothing = Content::empty(name);
        let wanted = target.elements.as_ref().unwrap_or(&nothing);
        let old = match there.map(|set| &set.elements) {
            Some(Some(elements)) if elements.is(wanted) => return,
            Some(Some(elements)) => elements,
            Some(None) if target.elements.is_none() => return,
            Some(None) => {
                self.push(Change::FlushSet(name));
                &nothing
            }
            None => {
                self.push(Change::AddSet(name));
                &nothing
            }
        };
        if old.is_empty() {
            return self.elements(wanted, |piece| Change::AddElements(name, piece));
        }
        let [removed, added] = old.difference(wanted);
        self.elements(&removed, |piece| Change::DeleteElements(name, piece));
        self.elements(&added, |piece| Change::AddElements(name, piece));
    }

    fn elements(&mut self, elements: &Content, change: impl Fn(Content) -> Change) {
        let mut left = elements.clone();
        while !left.is_empty() {
            if self.room == 0 {
                self.close();
            }
            let [piece, rest] = left.split_at(self.room.min(left.len()));
            self.room -= piece.len();
            self.push(change(piece));
            left = rest;
        }
    }

    fn close(&mut self) {
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            self.transactions.push(Transaction { table: self.table, changes });
        }
        self.room = PIECE;
    }

    /// What translates comes alone, behind a guard if that may be had.
    fn come_into_force(mut self, changes: Vec<Change>, guarded: bool) -> Vec<Transaction> {
        if guarded {
            self.push(Change::PutGuard);
        }
        let mut late: Vec<Change> = Vec::new();
        for change in changes {
            let follows =
                |chain: ChainName| late.iter().any(|one| matches!(one, Change::AddRule(other, _) if *other == chain));
            match &change {
                Change::AddRule(chain, rule) if rule.translates() || follows(*chain) => late.push(change),
                _ => self.push(change),
            }
        }
        let table = self.table;
        let mut transactions = self.finish();
        if !late.is_empty() {
            transactions.push(Transaction { table, changes: late });
        }
        transactions.extend(guarded.then(|| only(table, Change::DeleteGuard)));
        transactions
    }

    fn finish(mut self) -> Vec<Transaction> {
        self.close();
        self.transactions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nftables::rules::change::Script;
    use crate::backend::nftables::rules::compile::{CompileCache, compile};
    use crate::backend::nftables::rules::drift;
    use crate::backend::nftables::rules::name::SetName;
    use crate::backend::nftables::rules::rule::Body;
    use crate::backend::nftables::rules::target::target;
    use crate::policy::{Family, Origin, Policy, Prefix, PrefixSet, WithOrigin};
    use crate::ruleset::{HostFacts, JumpPosition, Match, Ruleset, Test};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    const PLAIN: TableFlags = TableFlags(0);

    fn list(texts: &[&str]) -> PrefixSet {
        PrefixSet::from_prefixes(texts.iter().map(|text| text.parse().unwrap()), &Origin::Default)
    }

    /// So many networks, none next to another, from a number on.
    fn networks(from: u32, count: u32) -> PrefixSet {
        let prefix = |number: u32| Prefix::containing(Ipv4Addr::from_bits(number * 512).into(), 24).unwrap();
        PrefixSet::from_prefixes((from..from + count).map(prefix), &Origin::Default)
    }

    fn exempt(exempt: PrefixSet) -> Policy {
        Policy { exempt, ..Policy::default() }
    }

    fn wanted(policy: &Policy, there: &Tables, flags: TableFlags) -> Target {
        wanted_of(Family::V4, policy, there, flags)
    }

    fn wanted_of(family: Family, policy: &Policy, there: &Tables, flags: TableFlags) -> Target {
        let ruleset = Ruleset::new(policy, family, JumpPosition::Last, &HostFacts::default());
        let part = ruleset.map(|ruleset| compile(&ruleset, &mut CompileCache::default()));
        target(there, family, part, flags)
    }

    fn after(there: &Tables, plan: &[Transaction]) -> Tables {
        let mut tables = there.clone();
        plan.iter().for_each(|transaction| tables.apply(transaction));
        tables
    }

    /// What there is once a policy is in.
    fn with(policy: &Policy) -> Tables {
        let nothing = Tables::default();
        after(&nothing, &transactions(&nothing, &wanted(policy, &nothing, PLAIN), false))
    }

    fn ours(tables: &mut Tables) -> &mut Table {
        match &mut tables.main {
            Slot::Ours(table) => table,
            Slot::Absent | Slot::Blank => panic!("no table"),
        }
    }

    /// The plan from what is there to a policy, and the words for it.
    fn plan(there: &Tables, policy: &Policy) -> (Vec<Transaction>, Vec<String>) {
        let target = wanted(policy, there, PLAIN);
        let plan = transactions(there, &target, false);
        let words = drift::words(&plan, there, &target).iter().map(ToString::to_string).collect();
        assert_eq!(after(there, &plan).table().is_some(), target.table.is_some());
        (plan, words)
    }

    /// The commands of a plan in short, transactions parted by a bar.
    fn kinds(plan: &[Transaction]) -> String {
        let kinds = |transaction: &Transaction| {
            let text = transaction.to_string();
            let lines = text.lines().filter(|line| !line.starts_with(['\t', '}']));
            let mut kinds: Vec<_> = lines.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
            kinds.dedup();
            kinds.join(", ")
        };
        plan.iter().map(kinds).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn what_is_as_it_should_be_needs_no_transaction() {
        let policy = exempt(list(&["10.0.0.0/8"]));
        assert_eq!(plan(&with(&policy), &policy), (Vec::new(), Vec::new()));
    }

    #[test]
    fn one_more_prefix_is_one_more_element_in_one_transaction() {
        let (old, new) = (exempt(list(&["10.0.0.0/8"])), exempt(list(&["10.0.0.0/8", "192.0.2.0/24"])));
        let added = "add element inet ip-masq-agent exempt4 {\n\t192.0.2.0/24,\n}\n";
        let (forth, words) = plan(&with(&old), &new);
        assert_eq!(Script(&forth).to_string(), added);
        assert_eq!(words, ["set exempt4 lacks 1 element"]);
        assert_eq!(Script(&plan(&with(&new), &old).0).to_string(), added.replace("add", "delete"));
    }

    #[test]
    fn a_start_makes_everything_before_the_rule_that_masquerades() {
        let (start, words) = plan(&Tables::default(), &exempt(list(&["10.0.0.0/8"])));
        assert_eq!(kinds(&start), "add table, add set, add element, add chain, add rule | add rule");
        assert!(Script(&start).to_string().starts_with("# transaction 1 of 2\nadd table inet ip-masq-agent {"));
        assert_eq!(start[1].changes.len(), 1);
        assert_eq!(words, ["table inet ip-masq-agent is missing"]);
        // Nothing that an exception behind it could be masqueraded by comes before it.
        let exceptions = Policy { exceptions: list(&["10.1.0.0/16"]), ..exempt(list(&["10.0.0.0/8"])) };
        let (start, _) = plan(&Tables::default(), &exceptions);
        assert!(start[1].changes.len() > 1);
    }

    #[test]
    fn what_comes_into_force_does_so_behind_a_guard_where_that_may_be_had() {
        let policy = exempt(list(&["10.0.0.0/8"]));
        let plan = |there: &Tables| kinds(&transactions(there, &wanted(&policy, there, PLAIN), true));
        let nothing = Tables::default();
        let rules_and_guard = "add chain, add rule, add chain, add rule, add chain, add rule";
        assert_eq!(
            plan(&nothing),
            format!("add table, add set, add element, {rules_and_guard} | add rule | delete chain")
        );
        // A crash before its end.
        let steps = transactions(&nothing, &wanted(&policy, &nothing, PLAIN), true);
        assert_eq!(plan(&after(&nothing, &steps[..1])), "flush chain, delete chain, add rule");
        assert_eq!(plan(&after(&nothing, &steps[..2])), "flush chain, delete chain");
        assert_eq!(plan(&with(&policy)), "");
    }

    #[test]
    fn a_set_is_filled_before_a_rule_looks_into_it_and_goes_with_the_last_one() {
        let old = exempt(list(&["10.0.0.0/8"]));
        let new = Policy { sources: list(&["192.0.2.0/24"]), ..old.clone() };
        let (forth, words) = plan(&with(&old), &new);
        assert_eq!(kinds(&forth), "add set, add element | flush chain, add rule");
        assert_eq!(words[0], "set sources4 is missing");
        assert_eq!(kinds(&plan(&with(&new), &old).0), "flush chain, add rule, delete set");
    }

    #[test]
    fn a_long_list_comes_in_pieces() {
        let (start, _) = plan(&Tables::default(), &exempt(networks(1 << 16, 25_000)));
        let elements = |transaction: &Transaction| -> usize {
            let count = |change: &Change| match change {
                Change::AddElements(_, elements) => elements.len(),
                _ => 0,
            };
            transaction.changes.iter().map(count).sum()
        };
        // With the blocks of 196 /16s of the list, and of 4,098 other ones.
        assert_eq!(start.iter().map(elements).collect::<Vec<_>>(), [10_000, 10_000, 5000 + 4294, 0]);
    }

    #[test]
    fn what_others_took_out_of_sets_is_told_and_no_rule_is_blamed_that_was_right() {
        let policy = Policy { sources: list(&["192.0.2.0/24"]), ..exempt(list(&["10.0.0.0/8", "172.16.0.0/12"])) };
        let long = Policy { sources: list(&["192.0.2.0/24"]), ..exempt(networks(1 << 16, 12_000)) };
        for (policy, elements) in [(policy, "2 elements"), (long, "12000 elements")] {
            let mut there = with(&policy);
            let emptied = ["exempt4", "sources4"].map(|name| SetName::parse(name).unwrap());
            for set in ours(&mut there).sets.iter_mut().filter(|set| emptied.contains(&set.name)) {
                set.elements = Some(Content::empty(set.name));
            }
            let (_, mut words) = plan(&there, &policy);
            words.sort();
            let of_exempt = format!("set exempt4 differs by {elements}");
            assert_eq!(words, [&of_exempt, "set sources4 differs by 1 element"]);
        }
    }

    #[test]
    fn a_large_change_is_a_set_of_another_name_and_the_next_one_goes_back() {
        let (old, new) = (exempt(networks(1 << 16, 12_000)), exempt(networks(1 << 17, 12_000)));
        let there = with(&old);
        let (forth, words) = plan(&there, &new);
        let last = "flush chain, add rule, delete set | delete element";
        assert_eq!(kinds(&forth), format!("add set, add element | add element | {last}"));
        assert_eq!(words[0], "set exempt4 differs by 24000 elements");
        let moved = after(&there, &forth);
        assert!(moved.table().unwrap().uses(SetName::parse("exempt4-2").unwrap()));
        assert_eq!(plan(&moved, &new).0, []);
        // Of two names the one that is in use stays as long as it can.
        let (one_more, _) = plan(&moved, &exempt(networks(1 << 17, 12_001)));
        assert_eq!(kinds(&one_more), "add element");
        let back = after(&moved, &plan(&moved, &old).0);
        assert!(back.agrees(&there));
    }

    #[test]
    fn rules_and_elements_and_the_elements_of_two_sets_change_at_once() {
        let old = Policy { sources: list(&["192.0.2.0/24"]), ..exempt(list(&["10.0.0.0/8"])) };
        let ungated = exempt(list(&["10.0.0.0/8", "172.16.0.0/12"]));
        let both = Policy { sources: list(&["198.51.100.0/24"]), ..ungated.clone() };
        for (new, first) in [
            (ungated, "add set, add element | flush chain, add rule, delete set"),
            (both, "add set, add element, add set, add element | flush chain, add rule, delete set"),
        ] {
            let there = with(&old);
            let (forth, words) = plan(&there, &new);
            let back = "add set, add element | flush chain, add rule, delete set";
            assert!(
                kinds(&forth).starts_with(&format!("{first} | ")) && kinds(&forth).ends_with(back),
                "{}",
                kinds(&forth)
            );
            assert!(words.contains(&"set exempt4 differs by 1 element".to_owned()), "{words:?}");
            let is_of_names = |word: &String| word.contains(" 0 elements") || word.contains("not as they should be");
            assert_eq!(words.iter().find(|word| is_of_names(word)), None);
            assert!(after(&there, &forth).agrees(&with(&new)), "back under the usual names");
        }
        let long = Policy { sources: list(&["192.0.2.0/24"]), ..exempt(networks(1 << 16, 12_000)) };
        let (forth, _) = plan(&with(&long), &exempt(networks(1 << 16, 12_001)));
        assert_eq!(kinds(&forth), "add set, add element | add element | flush chain, add rule, delete set");
    }

    /// A destination that is thought to be far from everything is translated.
    #[test]
    fn the_blocks_of_a_long_list_are_there_before_its_elements_and_as_long() {
        let there = with(&exempt(networks(1 << 16, 2_000)));
        let (more, words) = plan(&there, &exempt(networks(1 << 16, 2_200)));
        assert_eq!(kinds(&more), "add element | add element");
        assert_eq!(words, ["set near4 lacks 2 elements", "set exempt4 lacks 200 elements"]);
        let (fewer, words) = plan(&after(&there, &more), &exempt(networks(1 << 16, 2_000)));
        assert_eq!(kinds(&fewer), "delete element | delete element");
        assert_eq!(words, ["set exempt4 has 200 elements too many", "set near4 has 2 elements too many"]);
        let (short, _) = plan(&there, &exempt(networks(1 << 16, 999)));
        assert!(after(&there, &short).agrees(&with(&exempt(networks(1 << 16, 999)))), "no blocks of a short list");
    }

    #[test]
    fn missing_rules_at_the_end_are_added_without_emptying_the_chain() {
        let policy = exempt(PrefixSet::default());
        let mut there = with(&policy);
        ours(&mut there).chains[1].rules.pop();
        let (plan, words) = plan(&there, &policy);
        assert!(matches!(plan[0].changes.as_slice(), [Change::AddRule(_, _)]), "{plan:?}");
        assert_eq!(words, ["chain ipv4 lacks 1 rule"]);
    }

    #[test]
    fn a_table_whose_owner_died_is_adopted_and_one_with_other_flags_has_a_stand_in() {
        let policy = exempt(list(&["10.0.0.0/8"]));
        let mut there = with(&policy);
        ours(&mut there).flags = TableFlags(TableFlags::PERSIST);
        let adopted = transactions(&there, &wanted(&policy, &there, TableFlags::PERSISTENT), true);
        assert_eq!(adopted, [only(TableName::Main, Change::AddTable(TableFlags::PERSISTENT))]);
        let anew = transactions(&there, &wanted(&policy, &there, PLAIN), true);
        let tables: Vec<_> = anew.iter().map(|transaction| transaction.table).collect();
        let (main, stand_in) = (TableName::Main, TableName::StandIn);
        assert_eq!(tables, [stand_in, stand_in, main, main, stand_in]);
        assert_eq!(anew[2].changes[0], Change::DeleteTable);
        assert_eq!(anew[4].changes, [Change::DeleteTable]);
        // Another process owned it when it was read.
        ours(&mut there).flags = TableFlags::PERSISTENT;
        assert_eq!(transactions(&there, &wanted(&policy, &there, PLAIN), true), anew);
    }

    #[test]
    fn what_was_made_is_taken_back_and_what_is_in_force_stays() {
        let old = exempt(list(&["10.0.0.0/8"]));
        let new = Policy { sources: networks(1 << 16, 12_000), ..old.clone() };
        let cases = [
            (Tables::default(), new.clone(), PLAIN),
            (with(&old), new, PLAIN),
            (with(&old), old, TableFlags::PERSISTENT),
        ];
        for (there, policy, flags) in cases {
            let plan = transactions(&there, &wanted(&policy, &there, flags), true);
            for number in 0..plan.len() {
                let (done, rest) = plan.split_at(number);
                let so_far = after(&there, done);
                let undone = after(&so_far, &undo(&there, done, rest));
                let is_whole = [&there, &after(&there, &plan)].iter().any(|whole| undone.agrees(whole))
                    || undone.stand_in.table().is_some();
                assert!(is_whole, "{number} of {plan:?}");
            }
        }
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let lists = proptest::collection::vec(proptest::option::of((0_u32..6, 1_u32..6)), 4);
        (lists, any::<[bool; 3]>()).prop_map(|(lists, [local, long, gated])| {
            let list =
                |index: usize| lists[index].map_or_else(PrefixSet::default, |(from, count)| networks(from + 1, count));
            let exempt = match lists[3].filter(|_| long) {
                Some((from, count)) => networks(from * 300 + 1, count * 300 + 900),
                None => list(3),
            };
            let wan = || WithOrigin { value: "wan0".parse().unwrap(), origin: Origin::Default };
            Policy {
                out_interfaces: gated.then(wan).into_iter().collect(),
                sources: list(0),
                excluded_sources: list(1),
                exceptions: list(2),
                exempt,
                masq_local_source: local,
                enable_ipv6: true,
                ..Policy::default()
            }
        })
    }

    /// The rules of a table that decide anything.
    fn in_force(tables: &Tables) -> Vec<&Rule> {
        let table = tables.table().filter(|table| table.is_in_force());
        let rules: Vec<_> = table.into_iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules).collect();
        if rules.iter().any(|rule| rule.translates()) { rules } else { Vec::new() }
    }

    /// Whether each block that holds an element of a list is there for the rule that asks for it.
    fn knows_its_blocks(tables: &Tables) -> bool {
        let elements = |table: &Table, name: SetName| match &table.set(name).unwrap().elements {
            Some(Content::Intervals(list)) => list.to_vec(),
            other => panic!("{other:?}"),
        };
        let looked_into = |table: &Table, blocks: bool| {
            let sets = table.sets.iter().map(|set| set.name).filter(|name| table.uses(*name));
            let of_exempt = |name: &SetName| name.to_string().starts_with(if blocks { "near" } else { "exempt" });
            sets.filter(of_exempt).collect::<Vec<_>>()
        };
        tables.table().filter(|table| table.is_in_force()).is_none_or(|table| {
            looked_into(table, true).into_iter().all(|near| {
                let blocks: BTreeSet<_> = elements(table, near).iter().map(|one| one.first >> 16).collect();
                let lists = looked_into(table, false).into_iter().flat_map(|name| elements(table, name));
                let mut ranges = lists.flat_map(|one| one.first >> 16..=one.last >> 16);
                ranges.all(|block| blocks.contains(&block))
            })
        })
    }

    /// The sets whose elements come or go, and must do it with their rules.
    fn changed(transaction: &Transaction) -> BTreeSet<SetName> {
        let name = |change: &Change| match change {
            Change::AddElements(name, _) | Change::DeleteElements(name, _) => Some(*name),
            _ => None,
        };
        transaction.changes.iter().filter_map(name).filter(|name| !name.has_blocks()).collect()
    }

    /// Whether flows of a family come to a rule that translates.
    fn is_translated(tables: &Tables, family: Family) -> bool {
        let has = |table: &Table, of: &dyn Fn(&Chain) -> bool| table.chains.iter().any(of);
        let dispatches = |chain: &Chain| {
            let known = |rule: &Rule| matches!(&rule.body, Body::Known(when, _) if when.contains(&Match::Is(Test::Family(family))));
            chain.hook.is_some() && chain.rules.iter().any(known)
        };
        let translates =
            |chain: &Chain| chain.name.family() == Some(family) && chain.rules.iter().any(Rule::translates);
        tables.both().any(|table| has(table, &dispatches) && has(table, &translates))
    }

    proptest! {
        /// Another program was faster, or the process was killed.
        #[test]
        fn a_replacement_that_was_cut_short_is_gone_on_with_and_no_family_is_without_rules(
            old in any_policy(), new in any_policy(), cut in 0_usize..6,
        ) {
            let mut there = with(&old);
            let mut run = |family, policy, flags, cut: usize| {
                let target = wanted_of(family, policy, &there, flags);
                for transaction in transactions(&there, &target, false).iter().take(cut) {
                    let translated = Family::ALL.map(|family| is_translated(&there, family));
                    there.apply(transaction);
                    for (family, before) in Family::ALL.into_iter().zip(translated) {
                        prop_assert!(!before || is_translated(&there, family), "{family}: {transaction:?}");
                    }
                }
                Ok(())
            };
            run(Family::V6, &old, PLAIN, usize::MAX)?;
            run(Family::V4, &new, TableFlags(TableFlags::PERSIST), cut)?;
            for family in [Family::V4, Family::V6] {
                run(family, &new, TableFlags(TableFlags::PERSIST), usize::MAX)?;
            }
            let mut anew = Tables::default();
            for family in [Family::V4, Family::V6] {
                let target = wanted_of(family, &new, &anew, TableFlags(TableFlags::PERSIST));
                transactions(&anew, &target, false).iter().for_each(|transaction| anew.apply(transaction));
            }
            prop_assert!(there.agrees(&anew), "{there:?}\n{anew:?}");
        }

        #[test]
        fn every_plan_ends_where_it_should_and_rules_and_elements_never_change_in_one_transaction(
            policies in proptest::collection::vec(any_policy(), 1..4),
            guarded: bool,
            flags in proptest::collection::vec(prop_oneof![Just(PLAIN), Just(TableFlags(TableFlags::PERSIST))], 4),
        ) {
            let mut there = Tables::default();
            for (policy, flags) in policies.iter().zip(flags) {
                let target = wanted(policy, &there, flags);
                for transaction in transactions(&there, &target, guarded) {
                    let before = there.clone();
                    there.apply(&transaction);
                    prop_assert!(knows_its_blocks(&there));
                    // While there is a stand-in, our table decides nothing that it does not.
                    let helped = before.stand_in.table().is_some();
                    if helped || in_force(&before).is_empty() {
                        prop_assert!(helped || in_force(&there).is_empty() || changed(&transaction).is_empty());
                        continue;
                    }
                    prop_assert!(!in_force(&there).is_empty());
                    let looks = |tables: &Tables, name: &SetName| in_force(tables).iter().any(|rule| rule.looks_into(*name));
                    let live = changed(&transaction).into_iter().filter(|name| looks(&before, name) || looks(&there, name));
                    let same_rules = in_force(&before) == in_force(&there);
                    prop_assert!(transaction.table == TableName::StandIn || live.count() <= usize::from(same_rules));
                }
                let expected = Tables { main: target.table.map_or(Slot::Absent, Slot::Ours), stand_in: Slot::Absent };
                prop_assert!(there.agrees(&expected));
            }
        }
    }
}
