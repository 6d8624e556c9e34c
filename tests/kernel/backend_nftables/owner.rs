//! `tableOwner: persist`: what it keeps others from, what it costs them, and how it comes and goes.

use super::{apply, apply_policy, backend, base_chain_handle, default_policy, full_policy, listing, ruleset};
use crate::namespace::{self, nft, run};
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, Drift, ErrorKind};
use ip_masq_agent::config::TableOwner;
use ip_masq_agent::policy::Family;
use std::thread;
use std::time::Duration;

fn persistent() -> Nftables {
    Nftables::new(TableOwner::Persist).unwrap()
}

/// An owner ends. A child that another test starts has its socket, too, until it runs its program.
pub fn let_go(owner: Nftables) {
    drop(owner);
    let is_owned = || listing().contains("flags owner");
    for _ in 0..1000 {
        if !is_owned() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{}", listing());
}

/// `nft -f` of a script that the kernel must refuse.
fn nft_refused(script: &str) -> String {
    namespace::fail("nft", &["-f", "-"], script)
}

#[test]
fn an_owned_table_is_passed_by_and_survives_its_owner() {
    namespace::enter!();
    let policy = full_policy();
    let mut first = persistent();
    apply_policy(&mut first, &policy);
    let handle = base_chain_handle();
    nft("flush ruleset\n");
    assert_eq!(base_chain_handle(), handle);
    let refusal = nft_refused("delete table inet ip-masq-agent\n");
    assert!(refusal.contains("Operation not permitted"), "{refusal}");
    let_go(first);
    assert_eq!(base_chain_handle(), handle, "the table outlives its owner");

    let mut second = persistent();
    let desired = ruleset(&policy, Family::V4);
    let plan = apply(&mut second, Family::V4, desired.as_ref());
    assert_eq!(plan.drift, ["table inet ip-masq-agent has no owner"]);
    assert_eq!(base_chain_handle(), handle, "the next one adopts it as it is");
    nft("flush ruleset\n");
    assert_eq!(base_chain_handle(), handle);
    for family in Family::ALL {
        apply(&mut second, family, None);
    }
    assert_eq!(listing(), "");
}

/// Whether a table outlives its owner is said when it is made: another one does its work meanwhile.
#[test]
fn the_owner_flag_comes_and_goes_with_everything_in_the_table() {
    namespace::enter!();
    let policy = full_policy();
    let mut plain = backend();
    apply_policy(&mut plain, &policy);
    let without_flags = listing();
    for family in Family::ALL {
        let mut owner = persistent();
        let plan = owner.plan(family, ruleset(&policy, family).as_ref()).unwrap();
        assert_eq!(
            Drift::join(&plan.drift),
            "table inet ip-masq-agent has no flags and should have flags owner, persist"
        );
        owner.commit(plan).unwrap();
        // Both families are in although one was planned.
        assert!(owner.plan(Family::V4, ruleset(&policy, Family::V4).as_ref()).unwrap().is_in_sync());
        assert!(owner.plan(Family::V6, ruleset(&policy, Family::V6).as_ref()).unwrap().is_in_sync());
        assert_eq!(listing().matches("table ").count(), 1, "{}", listing());
        let_go(owner);

        let plan = plain.plan(family, ruleset(&policy, family).as_ref()).unwrap();
        plain.commit(plan).unwrap();
        apply_policy(&mut plain, &policy);
        assert_eq!(sorted_lines(&listing()), sorted_lines(&without_flags));
    }
}

#[test]
fn a_table_that_lives_in_other_hands_is_read_and_not_touched() {
    namespace::enter!();
    let mut owner = persistent();
    apply_policy(&mut owner, &default_policy());
    let before = listing();
    let desired = ruleset(&default_policy(), Family::V4);
    assert!(persistent().plan(Family::V4, desired.as_ref()).unwrap().is_in_sync());
    let full = ruleset(&full_policy(), Family::V4);
    for mut other in [persistent(), backend()] {
        let plan = other.plan(Family::V4, full.as_ref()).unwrap();
        let error = other.commit(plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains("owned by another live process"), "{error}");
        assert_eq!(listing(), before);
    }
}

#[test]
fn a_saved_ruleset_that_names_an_owned_table_is_refused_whole() {
    namespace::enter!();
    nft("add table ip other\n");
    let mut owner = persistent();
    apply_policy(&mut owner, &default_policy());
    let before = listing();
    nft_refused("flush ruleset\nadd table ip third\nadd chain inet ip-masq-agent ipv4\n");
    assert_eq!(listing(), before);
}

/// The other half of the price: nft 1.0.6 can't load what it lists of a table that has lost its owner.
#[test]
fn a_listing_made_after_a_crash_can_not_be_loaded_by_an_nft_that_does_not_know_persist() {
    namespace::enter!();
    nft("add table ip other\n");
    let mut owner = persistent();
    apply_policy(&mut owner, &default_policy());
    let while_it_lives = run("nft", &["list", "ruleset"], "");
    let_go(owner);
    let after = run("nft", &["list", "ruleset"], "");
    nft("flush ruleset\n");
    if after.contains("persist") {
        // An nft that knows it.
        return;
    }
    let refusal = nft_refused(&after);
    assert!(refusal.contains("syntax error"), "{refusal}");
    assert_eq!(listing(), "", "refused whole");
    // Owned by the nft that loads it, and gone with it.
    nft(&while_it_lives);
    assert_eq!(listing(), "table ip other {\n}\n");
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
