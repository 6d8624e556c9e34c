//! The nftables backend on the real kernel, in network namespaces of its own.

mod namespace;

use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, ErrorKind, Plan};
use ip_masq_agent::config::TableOwner;
use ip_masq_agent::policy::{Family, Listed, Origin, PRIVATE_RANGES, Policy, PrefixSet};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition, Ruleset};
use namespace::{nft, run};

fn prefixes(texts: &[&str]) -> PrefixSet {
    PrefixSet::from_prefixes(texts.iter().map(|text| text.parse().unwrap()), &Origin::Default)
}

fn default_policy() -> Policy {
    Policy {
        exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default),
        random_fully: true,
        ..Policy::default()
    }
}

/// A policy that uses every word of the configuration.
fn full_policy() -> Policy {
    let interfaces = ["eth0", "ppp+", "!wg0", "!docker+"];
    Policy {
        out_interfaces: interfaces
            .iter()
            .map(|text| Listed { value: text.parse().unwrap(), origin: Origin::Default })
            .collect(),
        sources: prefixes(&["10.0.0.0/8", "fd00::/8"]),
        excluded_sources: prefixes(&["10.9.0.0/16", "fd00:9::/32"]),
        exceptions: prefixes(&["10.1.2.0/24", "fd00:1::/32"]),
        exempt: prefixes(&["10.0.0.0/8", "192.0.2.0/24", "192.0.3.0/24", "fc00::/7", "2001:db8::1/128"]),
        enable_ipv6: true,
        random_fully: true,
        to_ports: Some("1024-2047,4000,60000-65535".parse().unwrap()),
        ..Policy::default()
    }
}

fn ruleset(policy: &Policy, family: Family) -> Option<Ruleset> {
    Ruleset::new(policy, family, JumpPosition::Last, HostFacts { bridged_ipv4: true, bridged_ipv6: false })
}

/// Plans and commits, and sees that the kernel then holds what was wanted.
fn apply(backend: &mut Nftables, family: Family, desired: Option<&Ruleset>) -> Plan {
    let plan = backend.plan(family, desired).unwrap();
    backend.commit(&plan).unwrap();
    let after = backend.plan(family, desired).unwrap();
    assert_eq!(after.transaction, "", "after {}", plan.transaction);
    assert_eq!(after.desired, after.observed);
    assert!(after.drift.is_empty());
    plan
}

fn apply_policy(backend: &mut Nftables, policy: &Policy) {
    for family in [Family::V4, Family::V6] {
        apply(backend, family, ruleset(policy, family).as_ref());
    }
}

fn backend() -> Nftables {
    Nftables::new(TableOwner::Never).unwrap()
}

fn listing() -> String {
    run("nft", &["--stateless", "list", "ruleset"], "")
}

#[test]
fn a_second_look_changes_nothing() {
    namespace::enter!();
    for policy in [default_policy(), full_policy()] {
        let mut first = backend();
        apply_policy(&mut first, &policy);
        let listed = listing();
        for family in [Family::V4, Family::V6] {
            let desired = ruleset(&policy, family);
            let plan = backend().plan(family, desired.as_ref()).unwrap();
            assert!(plan.is_in_sync(), "{}", plan.transaction);
            assert_eq!(plan.desired, plan.observed);
        }
        assert_eq!(listing(), listed);
    }
}

#[test]
fn nft_makes_of_our_text_what_we_make_ourselves() {
    namespace::enter!();
    for policy in [default_policy(), full_policy()] {
        let mut ours = backend();
        apply_policy(&mut ours, &policy);
        let written_by_us = listing();
        let rulesets: Vec<_> = [Family::V4, Family::V6].iter().filter_map(|family| ruleset(&policy, *family)).collect();
        let text: String = rulesets.iter().map(|ruleset| ours.render(ruleset)).collect();
        nft("flush ruleset\n");
        nft(&text);
        assert_eq!(listing(), written_by_us);
        for ruleset in &rulesets {
            let plan = backend().plan(ruleset.family, Some(ruleset)).unwrap();
            assert!(plan.is_in_sync(), "{}", plan.transaction);
        }
    }
}
