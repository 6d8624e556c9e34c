//! Lists that are several sets, or too long to be read from the kernel.

use super::gaps::{list, policy};
use super::{apply, backend, default_policy, listing, ruleset};
use crate::interpreter::nftables::Table;
use crate::namespace::{self, nft, run};
use ip_masq_agent::backend::{Backend, Plan};
use ip_masq_agent::policy::{Family, Flow, Origin, Policy, PrefixSet};
use ip_masq_agent::ruleset::Ruleset;
use std::net::Ipv4Addr;

const COUNT: u32 = 140_000;

fn remembering(memory: &str, desired: Option<&Ruleset>) -> Plan {
    let mut next = backend();
    next.remember(memory);
    next.plan(Family::V4, desired).unwrap()
}

/// A note that says that it was written now.
fn dated_now(memory: &str) -> String {
    let now = backend().fingerprint().unwrap().0[0].to_string();
    let line = |(number, line): (usize, &str)| if number == 2 { now.clone() } else { line.to_owned() } + "\n";
    memory.lines().enumerate().map(line).collect()
}

#[test]
fn a_very_long_list_is_several_sets_and_says_what_the_policy_says() {
    namespace::enter!();
    let policy = policy(COUNT);
    let mut agent = backend();
    apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref());
    let table = Table::read(&run("nft", &["-j", "list", "table", "inet", "ip-masq-agent"], "")).unwrap();
    let sets = listing().lines().filter(|line| line.starts_with("\tset exempt4-")).count();
    assert_eq!(sets, 4, "{}", listing());
    let edges = (0..COUNT).step_by(5003).map(|number| 0x2000_0000 + number * 512);
    let near = edges.chain([0x0b00_0000, 0x0b00_fe00, 0x2000_0000 + (COUNT - 1) * 512]);
    for address in near.flat_map(|first| [first - 1, first, first + 255, first + 256]) {
        let source = Some([192, 168, 10, 2].into());
        let flow = Flow { source, ..Flow::forwarded_to(Ipv4Addr::from_bits(address).into()) };
        assert_eq!(table.verdict(&flow), Ok(policy.verdict(&flow).0), "{flow:?}");
    }
}

#[test]
fn an_edit_of_a_very_long_list_is_one_transaction_of_what_differs_whichever_parts_it_is_in() {
    namespace::enter!();
    let mut agent = backend();
    apply(&mut agent, Family::V4, ruleset(&policy(COUNT), Family::V4).as_ref());
    let more = ["11.0.1.0/24", "33.0.1.0/24", "36.60.1.0/24"].map(|text| text.parse().unwrap());
    let all = list(COUNT, 0x2000_0000).entries().iter().map(|entry| entry.value).chain(more).collect::<Vec<_>>();
    let edited = Policy { exempt: PrefixSet::from_prefixes(all, &Origin::Default), ..default_policy() };
    let written = apply(&mut agent, Family::V4, ruleset(&edited, Family::V4).as_ref());
    assert!(written.transaction().lines().count() < 40, "{}", written.transaction());
    assert!(!listing().contains("-2 {"), "{}", listing());
}

#[test]
fn a_note_is_believed_while_nobody_committed_and_nothing_is_read() {
    namespace::enter!();
    let desired = ruleset(&policy(COUNT), Family::V4);
    let mut first = backend();
    apply(&mut first, Family::V4, desired.as_ref());
    let memory = first.memory().unwrap();
    assert!(remembering(&memory, desired.as_ref()).is_in_sync());
    // A short part would be read all the same.
    let set = "inet ip-masq-agent exempt4-7-20000000";
    nft(&format!("delete element {set} {{ 33.0.0.0/24 }}\nadd element {set} {{ 33.0.1.0/24 }}\n"));
    assert!(remembering(&dated_now(&memory), desired.as_ref()).is_in_sync(), "it was read");
    let drift = remembering(&memory, desired.as_ref()).drift;
    assert!(drift.iter().any(|word| word.to_string().ends_with("lacks 1 element")), "{drift:?}");
    let other = Policy { exempt: list(COUNT, 0x2000_0200), ..default_policy() };
    let other = ruleset(&other, Family::V4);
    assert!(!remembering(&dated_now(&memory), other.as_ref()).is_in_sync());
}

/// As `sourceCIDRs` are: what is in none of them is left alone.
#[test]
fn a_set_that_is_too_long_to_be_read_is_taken_over_while_nobody_committed_and_else_written_anew() {
    namespace::enter!();
    let desired = ruleset(&Policy { sources: list(COUNT, 0x2000_0000), ..default_policy() }, Family::V4);
    let mut first = backend();
    apply(&mut first, Family::V4, desired.as_ref());
    let memory = first.memory().unwrap();
    let adopted = remembering(&memory, desired.as_ref());
    assert!(adopted.is_in_sync(), "{:?}", adopted.drift);
    let unknown = "the elements of set sources4 are not known";
    let is_unknown = |plan: Plan| plan.drift.iter().any(|word| word.to_string() == unknown);
    assert!(is_unknown(remembering(&memory.replace("sources4", "sources6"), desired.as_ref())));
    nft("add table ip other\n");
    assert!(is_unknown(remembering(&memory, desired.as_ref())));
    let mut next = backend();
    apply(&mut next, Family::V4, desired.as_ref());
    assert!(listing().contains("set sources4-2 {") && !listing().contains("set sources4 {"));
    assert!(remembering(&next.memory().unwrap(), desired.as_ref()).is_in_sync());
}

#[test]
fn what_others_commit_makes_nobody_read_a_very_long_list() {
    namespace::enter!();
    let desired = ruleset(&policy(COUNT), Family::V4);
    let mut agent = backend();
    apply(&mut agent, Family::V4, desired.as_ref());
    nft("add table ip other\n");
    assert!(agent.plan(Family::V4, desired.as_ref()).unwrap().is_in_sync());
    assert_eq!(agent.memory(), None, "nothing is known for sure");
    assert!(agent.doubted_until().is_some());
}
