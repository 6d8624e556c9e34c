//! Plan and commit on a host that can refuse.

use super::fake::FakeHost;
use super::tools::{Tools, Variant};
use super::{Iptables, THRESHOLD};
use crate::backend::{Backend, Error, ErrorKind};
use crate::policy::{Family, Origin, Policy, Prefix, PrefixSet, WithOrigin};
use crate::ruleset::{HostFacts, JumpPosition, Ruleset};
use proptest::prelude::*;
use std::time::Duration;

type FakeBackend = Iptables<FakeHost, FakeHost>;

fn backend(host: &FakeHost, chain: &str) -> FakeBackend {
    Iptables::with_host_state(host.clone(), host.clone(), Tools::assumed(Variant::Nft), chain.parse().unwrap())
}

fn prefixes(first: u8, count: usize) -> PrefixSet {
    let prefix = |n: usize| format!("{first}.{}.{}.0/24", n / 100, n % 100 * 2).parse::<Prefix>().unwrap();
    PrefixSet::from_prefixes((0..count).map(prefix), &Origin::Default)
}

fn ruleset(policy: &Policy, position: JumpPosition) -> Ruleset {
    Ruleset::new(policy, Family::V4, position, &HostFacts::default()).unwrap()
}

fn exempting(count: usize) -> Ruleset {
    ruleset(&Policy { exempt: prefixes(11, count), random_fully: true, ..Policy::default() }, JumpPosition::Last)
}

fn apply(backend: &mut FakeBackend, desired: Option<&Ruleset>) -> Result<(), Error> {
    let plan = backend.plan(Family::V4, desired)?;
    backend.commit(plan)
}

fn programs(host: &FakeHost) -> Vec<String> {
    let log = host.log.take();
    log.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn sets_are_filled_before_and_destroyed_after_one_restore() {
    let host = FakeHost::new();
    let mut backend = backend(&host, "M");
    apply(&mut backend, Some(&exempting(THRESHOLD + 1))).unwrap();
    host.log.take();
    apply(&mut backend, Some(&exempting(THRESHOLD + 2))).unwrap();
    let expected = ["iptables-nft-save -t", "ipset restore", "iptables-nft-restore --noflush", "ipset destroy"];
    assert_eq!(programs(&host), expected);
}

#[test]
fn a_refused_restore_leaves_the_rules_and_takes_the_new_sets_back() {
    let host = FakeHost::new();
    let mut backend = backend(&host, "M");
    apply(&mut backend, Some(&exempting(100))).unwrap();
    let before = host.state.borrow().clone();
    *host.broken.borrow_mut() = Some(("iptables-nft-restore", "iptables-nft-restore: line 2 failed"));
    let error = apply(&mut backend, Some(&exempting(101))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.ends_with("at ':M - [0:0]'"), "{error}");
    assert_eq!(*host.state.borrow(), before);
}

#[test]
fn a_refused_set_leaves_everything() {
    let host = FakeHost::new();
    let mut backend = backend(&host, "M");
    apply(&mut backend, Some(&exempting(3))).unwrap();
    let before = host.state.borrow().clone();
    *host.broken.borrow_mut() = Some(("ipset", "ipset v7.17: Kernel error received: Operation not permitted"));
    let error = apply(&mut backend, Some(&exempting(101))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    assert_eq!(*host.state.borrow(), before);
}

#[test]
fn a_very_long_set_may_take_its_time() {
    let host = FakeHost::new();
    let mut backend = backend(&host, "M");
    let mut allowance = |count| {
        apply(&mut backend, Some(&exempting(count))).unwrap();
        host.allowance.take()
    };
    assert!(allowance(500).is_zero());
    assert!(allowance(20_000) > Duration::from_millis(500));
}

#[test]
fn without_ipset_the_list_is_rules_and_it_is_said_once() {
    let host = FakeHost::new();
    host.missing.borrow_mut().push("ipset");
    let mut backend = backend(&host, "M");
    for _ in 0..2 {
        apply(&mut backend, Some(&exempting(100))).unwrap();
        assert_eq!(backend.notes(Family::V4).len(), 1);
    }
    assert!(host.state.borrow().sets.is_empty());
    assert!(backend.plan(Family::V4, Some(&exempting(100))).unwrap().is_in_sync());
}

#[test]
fn without_ipset_a_list_that_would_be_too_many_rules_is_refused_and_what_is_there_stays() {
    let host = FakeHost::new();
    host.missing.borrow_mut().push("ipset");
    let mut backend = backend(&host, "M");
    apply(&mut backend, Some(&exempting(10_000))).unwrap();
    let before = host.state.borrow().clone();
    let error = apply(&mut backend, Some(&exempting(10_001))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(
        error.message,
        "no ipset on this host: the IPv4 lists would be 10001 rules, more than 10000, which new flows are compared with \
         one after the other; install ipset, or set backend: nftables"
    );
    assert_eq!(*host.state.borrow(), before);
    host.missing.borrow_mut().clear();
    apply(&mut backend, Some(&exempting(10_001))).unwrap();
}

/// What happens to a host.
#[derive(Debug, Clone)]
enum Event {
    Desire {
        interfaces: usize,
        sources: usize,
        exceptions: usize,
        exempt: usize,
        ports: bool,
        first: bool,
        chain: bool,
    },
    DeleteRule {
        chain: usize,
        rule: usize,
    },
    DoubleRule {
        chain: usize,
        rule: usize,
    },
    ForeignRule {
        front: bool,
    },
    LoseMember,
    RefuseOnce,
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let count = || prop_oneof![Just(0_usize), Just(1), Just(3), Just(70)];
    prop_oneof![
        3 => (0_usize..3, count(), count(), count(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(interfaces, sources, exceptions, exempt, ports, first, chain)| Event::Desire {
                interfaces, sources, exceptions, exempt, ports, first, chain
            }
        ),
        2 => (0_usize..4, 0_usize..80).prop_map(|(chain, rule)| Event::DeleteRule { chain, rule }),
        2 => (0_usize..4, 0_usize..80).prop_map(|(chain, rule)| Event::DoubleRule { chain, rule }),
        1 => any::<bool>().prop_map(|front| Event::ForeignRule { front }),
        1 => Just(Event::LoseMember),
        1 => Just(Event::RefuseOnce),
        1 => Just(Event::Restart),
    ]
}

fn is_ours(rule: &str) -> bool {
    rule.contains("ip-masq-agent: ")
}

/// Rules of others, in order.
fn foreign(host: &FakeHost) -> Vec<String> {
    let state = host.state.borrow();
    state.chains.iter().flat_map(|(_, rules)| rules).filter(|rule| !is_ours(rule)).cloned().collect()
}

fn damage(host: &FakeHost, event: &Event) {
    let mut state = host.state.borrow_mut();
    let chains = state.chains.len();
    match event {
        Event::DeleteRule { chain, rule } => {
            let rules = &mut state.chains[chain % chains].1;
            let place = rule % rules.len().max(1);
            if rules.get(place).is_some_and(|rule| is_ours(rule)) {
                rules.remove(place);
            }
        }
        Event::DoubleRule { chain, rule } => {
            let rules = &mut state.chains[chain % chains].1;
            let place = rule % rules.len().max(1);
            if let Some(rule) = rules.get(place).filter(|rule| is_ours(rule)).cloned() {
                rules.push(rule);
            }
        }
        Event::ForeignRule { front } => {
            let rules = &mut state.chains[0].1;
            let place = if *front { 0 } else { rules.len() };
            rules.insert(place, format!("-s 198.51.100.{}/32 -j RETURN", place));
        }
        Event::LoseMember => {
            if let Some(members) = state.sets.values_mut().next() {
                members.pop();
            }
        }
        Event::Desire { .. } | Event::RefuseOnce | Event::Restart => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, one plan and one commit make the host what is desired; what is refused changes nothing;
    /// rules of others are never touched.
    #[test]
    fn one_commit_is_always_enough(events in proptest::collection::vec(event(), 1..24)) {
        let host = FakeHost::new();
        let mut name = "M";
        let mut backend = backend(&host, name);
        let mut desired = exempting(3);
        for event in events {
            damage(&host, &event);
            if let Event::Desire { interfaces, sources, exceptions, exempt, ports, first, chain } = &event {
                let interface = |n: usize| WithOrigin { value: format!("eth{n}").parse().unwrap(), origin: Origin::Default };
                let policy = Policy {
                    out_interfaces: (0..*interfaces).map(interface).collect(),
                    sources: prefixes(10, *sources),
                    exceptions: prefixes(12, *exceptions),
                    exempt: prefixes(11, *exempt),
                    to_ports: ports.then(|| "1-9,20-29".parse().unwrap()),
                    ..Policy::default()
                };
                desired = ruleset(&policy, if *first { JumpPosition::First } else { JumpPosition::Last });
                if *chain {
                    name = if name == "M" { "N" } else { "M" };
                    backend = self::backend(&host, name);
                }
            }
            if let Event::Restart = event {
                backend = self::backend(&host, name);
            }
            let others = foreign(&host);
            if let Event::RefuseOnce = event {
                let before = host.state.borrow().clone();
                *host.broken.borrow_mut() = Some(("iptables-nft-restore", "iptables-nft-restore: line 2 failed"));
                let refused = apply(&mut backend, Some(&exempting(77)));
                *host.broken.borrow_mut() = None;
                prop_assert!(refused.is_err());
                prop_assert_eq!(&*host.state.borrow(), &before);
            }
            apply(&mut backend, Some(&desired)).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let again = backend.plan(Family::V4, Some(&desired)).unwrap();
            prop_assert!(again.is_in_sync(), "still {}", again.transaction());
            prop_assert_eq!(&*again.observed, &*again.desired);
            prop_assert_eq!(foreign(&host), others);
        }
        apply(&mut backend, None).unwrap();
        let state = host.state.borrow();
        prop_assert!(state.sets.is_empty() && state.chains.len() == 1, "{:?}", state);
    }
}
