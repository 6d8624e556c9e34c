//! No flow leaves with the wrong source because of what we do ourselves.

use super::owner::let_go;
use super::stream::{Flows, Kind, Street};
use super::{apply, apply_policy, backend, default_policy, prefixes, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::backend::Backend;
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::config::{self, Flags, SourceText, TableOwner};
use ip_masq_agent::policy::{Family, Origin, Policy, Prefix, PrefixSet};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition, Ruleset};
use std::net::Ipv4Addr;
use std::path::Path;

/// 11.0.0.0/24, 11.0.2.0/24 and so on, which the stream sends to, then others far away.
pub fn list(count: u32, far_away: u32) -> PrefixSet {
    let network = |number: u32| if number < 128 { 0x0b00_0000 + number * 512 } else { far_away + number * 512 };
    let prefix = |number: u32| Prefix::containing(Ipv4Addr::from_bits(network(number)).into(), 24).unwrap();
    PrefixSet::from_prefixes((0..count).map(prefix), &Origin::Default)
}

/// A list and some more.
fn with(list: &PrefixSet, more: &[&str]) -> PrefixSet {
    PrefixSet::new([list.entries(), prefixes(more).entries()].concat())
}

pub fn policy(count: u32) -> Policy {
    Policy { exempt: list(count, 0x2000_0000), ..default_policy() }
}

/// Nothing was wrong from the first packet to the last.
pub fn assert_right(flows: &Flows) {
    assert!(flows.count(Kind::Exempt) > 100 && flows.count(Kind::Other) > 100, "too few flows");
    assert_eq!(flows.masqueraded(Kind::Exempt), 0, "masqueraded of {} exempt flows", flows.count(Kind::Exempt));
    assert_eq!(flows.kept_again(), 0, "not masqueraded of {} other flows", flows.count(Kind::Other));
    assert!(!flows.lasting_is_masqueraded(Kind::Exempt));
}

/// The rules of a policy are in and stay right while `work` changes them.
fn right_all_the_while(before: &Policy, work: impl FnOnce(&mut Nftables)) {
    namespace::enter!();
    let street = Street::new();
    let mut backend = backend();
    apply_policy(&mut backend, before);
    let flows = street.under_flows(|| work(&mut backend));
    assert_right(&flows);
    assert!(flows.lasting_is_masqueraded(Kind::Other));
}

#[test]
fn a_start_on_an_empty_kernel_masquerades_no_exempt_flow_and_every_other_one() {
    for count in [5000, 100_000] {
        namespace::enter!();
        let street = Street::new();
        let desired = ruleset(&policy(count), Family::V4);
        let flows = street.under_flows(|| {
            apply(&mut backend(), Family::V4, desired.as_ref());
        });
        assert_right(&flows);
        assert!(flows.lasting_is_masqueraded(Kind::Other), "it keeps its source for as long as it lives");
    }
}

#[test]
fn a_repair_after_our_table_was_deleted_masquerades_no_exempt_flow() {
    namespace::enter!();
    let street = Street::new();
    let desired = ruleset(&policy(20_000), Family::V4);
    let mut backend = backend();
    apply(&mut backend, Family::V4, desired.as_ref());
    let flows = street.under_flows(|| {
        for _ in 0..2 {
            nft("delete table inet ip-masq-agent\n");
            apply(&mut backend, Family::V4, desired.as_ref());
        }
    });
    // Other flows kept their source while the table was away.
    assert_eq!(flows.masqueraded(Kind::Exempt), 0, "masqueraded of {} exempt flows", flows.count(Kind::Exempt));
    assert!(!flows.lasting_is_masqueraded(Kind::Exempt));
}

#[test]
fn sources_in_scope_for_the_first_time_stay_masqueraded() {
    for count in [5000, 100_000] {
        let before = policy(1000);
        let sources = with(&list(count, 0x2000_0000), &["10.7.0.0/24"]);
        let after = Policy { sources, ..before.clone() };
        right_all_the_while(&before, |backend| {
            for policy in [&after, &before, &after] {
                apply_policy(backend, policy);
            }
        });
    }
}

#[test]
fn entries_of_egress_come_change_and_go_without_a_gap() {
    let before = policy(5000);
    let with = |entries: &str| {
        let source = SourceText { path: Path::new("egress.yaml").into(), text: format!("egress: [{entries}]") };
        let egress =
            config::parse(&[source], &Flags::default()).unwrap_or_else(|error| panic!("{error}")).policy.egress;
        Policy { egress, ..before.clone() }
    };
    let one = with("{sourceCIDRs: [10.7.0.0/24], snat: masquerade}");
    // What is not in the scope of an entry any more has to be the top level's at the same moment.
    let other = with("{outInterfaces: [elsewhere], snat: none}, {excludeSourceCIDRs: [192.0.2.0/24]}");
    let none = with("{outInterfaces: [elsewhere], sourceCIDRs: [10.7.0.0/24], snat: none}");
    right_all_the_while(&before, |backend| {
        for policy in [&one, &other, &none, &before, &other, &one] {
            apply_policy(backend, policy);
        }
    });
}

#[test]
fn a_long_list_is_followed_by_another_one_without_a_gap() {
    let before = policy(20_000);
    let after = Policy { exempt: list(20_000, 0x4000_0000), ..before.clone() };
    right_all_the_while(&before, |backend| {
        for policy in [&after, &before] {
            apply_policy(backend, policy);
        }
    });
}

#[test]
fn a_table_gets_an_owner_and_loses_it_without_a_gap() {
    let policy = policy(5000);
    right_all_the_while(&policy.clone(), |_| {
        for owner in [TableOwner::Persist, TableOwner::Never, TableOwner::Persist] {
            let mut next = Nftables::new(owner).unwrap();
            apply_policy(&mut next, &policy);
            let_go(next);
        }
    });
}

/// What is read of a table says that it is owned, and a moment later nobody is there.
#[test]
fn an_owner_that_goes_between_plan_and_commit_leaves_no_gap() {
    let policy = policy(5000);
    let desired = ruleset(&policy, Family::V4);
    right_all_the_while(&policy.clone(), |_| {
        let mut owner = Nftables::new(TableOwner::Persist).unwrap();
        apply(&mut owner, Family::V4, desired.as_ref());
        let mut next = Nftables::new(TableOwner::Never).unwrap();
        let plan = next.plan(Family::V4, desired.as_ref()).unwrap();
        let_go(owner);
        next.commit(plan).unwrap();
    });
}

#[test]
fn another_priority_and_another_family_come_without_a_gap() {
    let before = policy(5000);
    let after = Policy { enable_ipv6: true, exempt: with(&before.exempt, &["fd00::/8"]), ..before.clone() };
    right_all_the_while(&before, |backend| {
        apply_policy(backend, &after);
        for position in [JumpPosition::First, JumpPosition::Last] {
            for family in Family::ALL {
                let desired = Ruleset::new(&after, family, position, &HostFacts::default());
                apply(backend, family, desired.as_ref());
            }
        }
        apply_policy(backend, &before);
    });
}

/// Flows to 11.200.0.0/16 are out of scope before and exempt after; what is not the one must be the other.
#[test]
fn rules_and_elements_that_change_together_count_from_the_same_moment_on() {
    namespace::enter!();
    let street = Street::new();
    let before = Policy { sources: prefixes(&["10.99.0.0/16"]), ..policy(5000) };
    let after = Policy { exempt: with(&before.exempt, &["11.200.0.0/16"]), ..policy(5000) };
    let mut backend = backend();
    apply_policy(&mut backend, &before);
    let flows = street.under_flows(|| {
        for policy in [&after, &before].into_iter().cycle().take(20) {
            apply_policy(&mut backend, policy);
        }
    });
    for kind in [Kind::Exempt, Kind::Other] {
        assert!(flows.count(kind) > 100, "too few flows");
        assert_eq!(flows.masqueraded(kind), 0, "{kind:?}");
    }
}
