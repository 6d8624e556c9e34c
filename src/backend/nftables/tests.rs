//! Plan and commit on tables that can be refused.

use super::Nftables;
use super::fake::{FakeTables, Fate};
use super::rules::text;
use crate::backend::{Change, Error, ErrorKind, Plan};
use crate::config::TableOwner;
use crate::policy::{Family, Origin, Policy, Prefix, PrefixSet};
use crate::ruleset::{HostFacts, JumpPosition, Ruleset};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Instant;

fn backend(held: &FakeTables, owner: TableOwner) -> Nftables<FakeTables> {
    Nftables::on(held.clone(), owner)
}

/// So many networks from a number on, none next to another, are exempt.
fn exempting(from: u32, count: u32, position: JumpPosition) -> Ruleset {
    let prefix = |number: u32| Prefix::containing(Ipv4Addr::from_bits(number * 512).into(), 24).unwrap();
    let exempt = PrefixSet::from_prefixes((from..from + count).map(prefix), &Origin::Default);
    Ruleset::new(&Policy { exempt, ..Policy::default() }, Family::V4, position, &HostFacts::default()).unwrap()
}

fn list(from: u32) -> Ruleset {
    exempting(from, 3, JumpPosition::Last)
}

fn plan(backend: &mut Nftables<FakeTables>, desired: Option<&Ruleset>) -> Plan {
    backend.plan_for(Family::V4, desired).unwrap()
}

fn apply(backend: &mut Nftables<FakeTables>, desired: Option<&Ruleset>) -> Result<(), Error> {
    let plan = plan(backend, desired);
    backend.commit_plan(plan, None).map(|_| ())
}

#[test]
fn an_answer_that_is_lost_is_busy_and_the_next_plan_looks() {
    let held = FakeTables::default();
    let mut agent = backend(&held, TableOwner::Never);
    apply(&mut agent, Some(&list(0))).unwrap();
    held.0.borrow_mut().fates.push_back(Fate::Silent);
    let error = apply(&mut agent, Some(&list(9))).unwrap_err();
    assert!(error.is_transient() && error.message.contains("the next check shows"), "{error}");
    assert!(plan(&mut agent, Some(&list(9))).is_in_sync());
}

#[test]
fn a_guard_that_is_refused_is_done_without_from_then_on() {
    let held = FakeTables::default();
    let mut agent = backend(&held, TableOwner::Never);
    let guards = |plan: &Plan| plan.transaction().contains("notrack");
    let wanted = plan(&mut agent, Some(&list(0)));
    assert!(guards(&wanted), "{}", wanted.transaction());
    held.0.borrow_mut().fates.push_back(Fate::NoGuard);
    let error = agent.commit_plan(wanted, None).unwrap_err();
    assert!(error.is_transient() && error.message.contains("to pass connection tracking by"), "{error}");
    assert!(!guards(&plan(&mut agent, Some(&list(0)))));
    apply(&mut agent, Some(&list(0))).unwrap();
    assert!(plan(&mut agent, Some(&list(0))).is_in_sync());

    // Where flows are tracked it would do harm.
    apply(&mut agent, None).unwrap();
    held.0.borrow_mut().tracks = true;
    assert!(!guards(&plan(&mut backend(&held, TableOwner::Never), Some(&list(0)))));
}

#[test]
fn a_plan_that_others_disturb_is_sent_again() {
    let held = FakeTables::default();
    let mut agent = backend(&held, TableOwner::Never);
    held.0.borrow_mut().fates.extend([Fate::Late, Fate::Late, Fate::Made, Fate::Late]);
    apply(&mut agent, Some(&list(0))).unwrap();
    assert!(plan(&mut agent, Some(&list(0))).is_in_sync());
    held.0.borrow_mut().fates.extend([Fate::Late; 100]);
    let before = held.0.borrow().tables.clone();
    assert_eq!(apply(&mut agent, Some(&list(9))).unwrap_err().kind, ErrorKind::Busy);
    assert_eq!(held.0.borrow().tables, before);
}

fn long() -> Ruleset {
    exempting(9, 45_000, JumpPosition::Last)
}

#[test]
fn a_plan_of_many_transactions_is_sent_in_steps_and_others_may_commit_between_them() {
    let held = FakeTables::default();
    let mut agent = backend(&held, TableOwner::Never);
    apply(&mut agent, Some(&list(0))).unwrap();
    let mut rest = Some(plan(&mut agent, Some(&long())));
    let mut steps = 0;
    while let Some(plan) = rest {
        held.0.borrow_mut().generation += 1;
        rest = agent.commit_plan(plan, Some(Instant::now())).unwrap();
        steps += 1;
    }
    assert_eq!(steps, 5);
    assert!(plan(&mut agent, Some(&long())).is_in_sync());
}

#[test]
fn what_was_sent_of_a_plan_that_is_given_up_goes_again() {
    for before in [Some(list(0)), None] {
        let held = FakeTables::default();
        let mut agent = backend(&held, TableOwner::Never);
        apply(&mut agent, before.as_ref()).unwrap();
        let there = held.0.borrow().tables.clone();
        let plan = plan(&mut agent, Some(&long()));
        let rest = agent.commit_plan(plan, Some(Instant::now())).unwrap();
        assert_ne!(held.0.borrow().tables, there);
        let Some(Change::Nftables(rest)) = rest.unwrap().change else { panic!("another backend's") };
        agent.take_back(rest);
        assert_eq!(held.0.borrow().tables, there);
        apply(&mut agent, Some(&long())).unwrap();
    }
}

/// A rendered table without the elements of its set of blocks.
fn without_blocks(text: &str) -> String {
    let Some((front, rest)) = text.split_once("\tset near4 {") else { return text.to_owned() };
    let (_, rest) = rest.split_once("\t}\n").unwrap();
    format!("{front}{rest}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever a change of several transactions is refused, the rules are the old ones or the new ones, nothing half-made
    /// is left, and one more plan brings the new ones.
    #[test]
    fn a_refusal_anywhere_leaves_the_old_rules_or_the_new_ones(
        from in 0_u32..3, counts in [0_u32..4, 0..4], long in any::<bool>(), persist in any::<bool>(), first in any::<bool>(),
        refused in 0_usize..6
    ) {
        let held = FakeTables::default();
        let size = |count: u32| if long { count * 4_000 } else { count };
        let old = exempting(0, size(counts[0]), JumpPosition::Last);
        let new = exempting(from, size(counts[1]), if first { JumpPosition::First } else { JumpPosition::Last });
        apply(&mut backend(&held, TableOwner::Never), Some(&old)).unwrap();
        let before = held.0.borrow().tables.clone();
        let mut agent = backend(&held, if persist { TableOwner::Persist } else { TableOwner::Never });
        let fates = std::iter::repeat_n(Fate::Made, refused).chain([Fate::Refused(libc::ENOMEM)]);
        held.0.borrow_mut().fates = fates.collect();
        let result = apply(&mut agent, Some(&new));
        held.0.borrow_mut().fates.clear();
        let there = held.0.borrow().tables.clone();
        if let Err(error) = &result {
            prop_assert_eq!(error.message.ends_with("nothing was changed"), there.agrees(&before), "{}", error);
        }
        // While a table is made anew the stand-in has the rules.
        if result.is_err() && there.stand_in_at_work().is_none() {
            // A set has two names, and either is right. The blocks of a list may be more than it needs.
            let there = there.table().map(|table| text::table(table, Family::V4)).unwrap_or_default();
            let there = there.replace("exempt4-2", "exempt4").replace("\tflags owner, persist;\n", "");
            let states = [&old, &new].map(|ruleset| without_blocks(&super::render(ruleset, TableOwner::Never)));
            let there = without_blocks(&there);
            prop_assert!(states.contains(&there), "{}\nis neither\n{}\nnor\n{}", there, states[0], states[1]);
        }
        apply(&mut agent, Some(&new)).unwrap();
        prop_assert!(plan(&mut agent, Some(&new)).is_in_sync());
        apply(&mut agent, None).unwrap();
        prop_assert!(held.0.borrow().tables.table().is_none());
    }
}
