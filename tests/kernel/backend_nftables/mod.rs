//! The nftables backend on the real kernel, in network namespaces of its own.

mod blocks;
mod failure;
mod forwards;
mod gaps;
mod memory;
mod owner;
mod races;
mod strangers;
mod stream;
mod upgrade;
mod verdicts;
mod very_long;

use crate::namespace::{self, Host, nft, run};
use crate::policies::{default_policy, full_policy, prefixes};
use crate::written::write as apply;
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, Drift, ErrorKind};
use ip_masq_agent::config::TableOwner;
use ip_masq_agent::policy::{Family, Origin, Policy, Prefix, PrefixSet};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition, Ruleset};
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

fn facts() -> HostFacts {
    HostFacts { bridged_ipv4: true, ..HostFacts::default() }
}

fn ruleset(policy: &Policy, family: Family) -> Option<Ruleset> {
    Ruleset::new(policy, family, JumpPosition::Last, &facts())
}

fn apply_policy(backend: &mut Nftables, policy: &Policy) {
    for family in Family::ALL {
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
fn what_only_nft_can_do_to_our_table_is_seen_named_and_repaired() {
    namespace::enter!();
    let cases = [
        ("delete element inet ip-masq-agent exempt4 { 192.0.2.0/23 }", "set exempt4 lacks 1 element"),
        ("add element inet ip-masq-agent exempt4 { 0.0.0.0/7, 11.0.0.0/8 }", "set exempt4 has 2 elements too many"),
        ("flush set inet ip-masq-agent exempt6", "set exempt6 lacks 2 elements"),
        (
            "insert rule inet ip-masq-agent postrouting ip protocol tcp log accept comment \"keep source: logged\"",
            "accept comment \"keep source: logged\"'",
        ),
        ("add table inet ip-masq-agent { flags dormant; }", "table inet ip-masq-agent is dormant"),
        ("add chain inet ip-masq-agent postrouting { policy drop; }", "chain postrouting drops what no rule decides"),
        ("flush ruleset", "table inet ip-masq-agent is missing"),
    ];
    let policy = full_policy();
    let mut backend = backend();
    apply_policy(&mut backend, &policy);
    let whole = listing();
    for (command, word) in cases {
        nft(&format!("{command}\n"));
        assert_ne!(listing(), whole, "{command}");
        let mut words = Vec::new();
        for family in Family::ALL {
            words.extend(apply(&mut backend, family, ruleset(&policy, family).as_ref()).drift);
        }
        assert!(words.iter().any(|said| said.ends_with(word)), "{command}: {words:?}");
        assert_eq!(listing(), whole, "{command}");
    }
}

#[test]
fn a_rule_that_was_deleted_comes_back_in_its_place() {
    namespace::enter!();
    let policy = full_policy();
    let mut backend = backend();
    apply_policy(&mut backend, &policy);
    let whole = listing();
    let with_handles = run("nft", &["-a", "list", "chain", "inet", "ip-masq-agent", "ipv4-2"], "");
    let line = with_handles.lines().find(|line| line.contains("169.254.0.0/16")).unwrap();
    let handle = line.rsplit(' ').next().unwrap();
    nft(&format!("delete rule inet ip-masq-agent ipv4-2 handle {handle}\n"));
    let plan = apply(&mut backend, Family::V4, ruleset(&policy, Family::V4).as_ref());
    assert_eq!(plan.drift, ["the rules of chain ipv4-2 are not as they should be"]);
    assert_eq!(listing(), whole);
}

/// nft 1.0.6 crashes when it is asked for this, so it is asked of the kernel.
#[test]
fn an_element_that_catches_all_is_thrown_out() {
    namespace::enter!();
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    const LIST: u16 = 3;
    const ELEMENT: u16 = 1;
    const FLAGS: u16 = 3;
    const CATCHALL: u32 = 2;
    let desired = ruleset(&default_policy(), Family::V4);
    let mut backend = backend();
    apply(&mut backend, Family::V4, desired.as_ref());
    let whole = listing();
    let mut netlink = Nfnetlink::open().unwrap();
    let mut batch = Batch::new(netlink.generation().unwrap());
    batch.push(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, libc::NFPROTO_INET as u8, |writer| {
        writer.text(TABLE, "ip-masq-agent");
        writer.text(SET, "exempt4");
        writer.nest(LIST, |writer| writer.nest(ELEMENT, |writer| writer.be32(FLAGS, CATCHALL)));
    });
    netlink.commit(batch).unwrap();
    assert_ne!(listing(), whole);
    let plan = apply(&mut backend, Family::V4, desired.as_ref());
    assert_eq!(plan.drift, ["set exempt4 holds elements that are no row of intervals"]);
    assert_eq!(listing(), whole);
}

/// The handle of the base chain: as long as it stays, so does the place among chains of equal priority.
fn base_chain_handle() -> String {
    let listing = run("nft", &["-a", "list", "chain", "inet", "ip-masq-agent", "postrouting"], "");
    listing.lines().find(|line| line.contains("chain postrouting")).unwrap().to_owned()
}

#[test]
fn changes_and_repairs_keep_the_place_among_equals() {
    namespace::enter!();
    let mut backend = backend();
    apply_policy(&mut backend, &default_policy());
    let handle = base_chain_handle();
    nft("add table ip other\nadd chain ip other later { type nat hook postrouting priority 150; }\n");
    for policy in [full_policy(), default_policy(), full_policy()] {
        apply_policy(&mut backend, &policy);
        nft("flush chain inet ip-masq-agent postrouting\nflush chain inet ip-masq-agent ipv4\n");
        apply_policy(&mut backend, &policy);
        assert_eq!(base_chain_handle(), handle);
    }
}

#[test]
fn the_priority_follows_the_position() {
    namespace::enter!();
    let mut backend = backend();
    apply_policy(&mut backend, &full_policy());
    let before = generation();
    for family in Family::ALL {
        let first = Ruleset::new(&full_policy(), family, JumpPosition::First, &facts());
        let plan = apply(&mut backend, family, first.as_ref());
        let expected: &[&str] = match family {
            Family::V4 => &["chain postrouting has priority 150 and should have 50"],
            Family::V6 => &[],
        };
        assert_eq!(plan.drift, expected);
        assert_eq!(generation(), before + 1, "both families move in one batch, with all their rules");
    }
    // nft's word for 50.
    assert!(listing().contains("hook postrouting priority security;"), "{}", listing());
    assert_eq!(listing().matches("goto ipv4 comment").count(), 1);
    assert_eq!(listing().matches("goto ipv6 comment").count(), 1);
}

#[test]
fn a_commit_behind_somebody_elses_back_is_refused_and_changes_nothing() {
    namespace::enter!();
    let mut backend = backend();
    apply_policy(&mut backend, &default_policy());
    let full = ruleset(&full_policy(), Family::V4);
    let plan = backend.plan(Family::V4, full.as_ref()).unwrap();
    nft("flush ruleset\nadd table ip other\n");
    let before = listing();
    let error = backend.commit(plan).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    assert_eq!(listing(), before);
    apply_policy(&mut backend, &full_policy());
}

#[test]
fn the_largest_and_the_smallest_ranges_fit() {
    namespace::enter!();
    let lists: [&[&str]; 4] = [
        &["0.0.0.0/0", "::/0"],
        &["0.0.0.0/1", "128.0.0.0/2", "255.255.255.255/32", "::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"],
        &["0.0.0.0/32", "0.0.0.1/32", "0.0.0.2/31", "0.0.0.4/32", "2001:db8::/33", "2001:db8:8000::/34"],
        &["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"],
    ];
    let mut backend = backend();
    for list in lists.iter().chain(lists.iter().rev()) {
        let policy =
            Policy { exempt: prefixes(list), exceptions: prefixes(list), enable_ipv6: true, ..default_policy() };
        apply_policy(&mut backend, &policy);
        let listing: String = listing().lines().filter(|line| !line.contains(" daddr ")).collect();
        for prefix in policy.exempt.sorted(Family::V4).iter().chain(&policy.exempt.sorted(Family::V6)) {
            let text = prefix.to_string();
            let shown = text.strip_suffix("/32").or(text.strip_suffix("/128")).unwrap_or(&text);
            assert_eq!(listing.matches(shown).count(), 2, "{shown} in {listing}");
        }
    }
}

fn generation() -> u32 {
    Nfnetlink::open().unwrap().generation().unwrap()
}

/// Runs a command line in the namespace of the test.
fn sh(line: &str) {
    let mut words = line.split(' ');
    run(words.next().unwrap(), &words.collect::<Vec<_>>(), "");
}

/// A link from this namespace to a host; the near end is named, the far end is `eth0`.
fn link(near: &str, host: &Host, far_address: &str) {
    sh(&format!("ip link add {near} type veth peer name eth0 netns {}", host.id()));
    sh(&format!("ip link set {near} up"));
    host.run("ip link set eth0 up");
    host.run(&format!("ip address add {far_address} dev eth0"));
}

/// How many packets the rule with such a comment counted.
fn counted(comment: &str) -> u64 {
    let listing = run("nft", &["list", "table", "inet", "ip-masq-agent"], "");
    let line = listing.lines().find(|line| line.contains(comment)).unwrap_or_else(|| panic!("{comment}: {listing}"));
    line.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// A gateway with the bridge `br0` (10.7.0.1/24) to two hosts, and `wan` (198.51.100.1/24) to a third one.
struct BridgedGateway {
    left: Host,
    /// Answers as long as it lives.
    _right: Host,
    outside: Host,
}

impl BridgedGateway {
    fn new() -> Self {
        let (left, right, outside) = (Host::new(), Host::new(), Host::new());
        sh("ip link set lo up");
        sh("ip link add br0 type bridge");
        sh("ip address add 10.7.0.1/24 dev br0");
        sh("ip link set br0 up");
        for (near, host, address) in [("left", &left, "10.7.0.2/24"), ("right", &right, "10.7.0.3/24")] {
            link(near, host, address);
            sh(&format!("ip link set {near} master br0"));
            host.run("ip route add default via 10.7.0.1");
        }
        link("wan", &outside, "198.51.100.2/24");
        sh("ip address add 198.51.100.1/24 dev wan");
        outside.run("ip route add 10.7.0.3/32 via 198.51.100.1");
        sh("sysctl -qw net.ipv4.ip_forward=1");
        BridgedGateway { left, _right: right, outside }
    }
}

#[test]
fn flows_are_masqueraded_kept_and_counted_as_the_policy_says() {
    namespace::enter!();
    let gateway = BridgedGateway::new();
    let mut backend = backend();
    apply_policy(&mut backend, &default_policy());
    let ping = "ping -c1 -w5 198.51.100.2";
    // The outside has no route back to .2: only a masqueraded echo is answered.
    gateway.left.run(ping);
    assert_eq!(counted("masquerade: no exemption applies"), 1);
    run("ping", &["-c1", "-w5", "198.51.100.2"], "");
    // An IGMP report of the host's own, sent at a random moment after an interface comes up (RFC 3376), counts as well.
    let own = || counted("keep source: the source is an address of the outgoing interface itself");
    assert!(own() >= 1);
    run("ping", &["-c1", "-w5", "-I", "10.7.0.1", "198.51.100.2"], "");
    assert_eq!(counted("masquerade: no exemption applies"), 2);
    let counters = backend.counters(Family::V4).unwrap();
    assert_eq!(counters.masqueraded, 2);
    let multicast = counted("keep source: the destination is multicast or limited broadcast");
    assert!((1..=own() + multicast).contains(&counters.kept), "{counters:?}");
    assert_eq!(counters.rules["otherwise"], 2, "{counters:?}");
    let kept = counters.rules["local-source-on-out-interface"] + counters.rules["multicast"];
    assert_eq!(kept, counters.kept, "{counters:?}");

    let exempt = Policy { exempt: prefixes(&["198.51.100.0/24"]), ..default_policy() };
    apply_policy(&mut backend, &exempt);
    assert!(!gateway.left.try_run("ping -c1 -w1 198.51.100.2"), "an exempt destination sees the real source");
    assert_eq!(counted("keep source: the destination is in nonMasqueradeCIDRs"), 1);
    let exception = Policy { exceptions: prefixes(&["198.51.100.2/32"]), ..exempt };
    apply_policy(&mut backend, &exception);
    gateway.left.run(ping);
}

#[test]
fn a_bridged_frame_keeps_its_source_and_a_routed_packet_through_the_bridge_does_not_match() {
    namespace::enter!();
    let gateway = BridgedGateway::new();
    let call = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !std::path::Path::new(call).exists() {
        return crate::lab::skip("no br_netfilter in this kernel");
    }
    sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    let mut backend = backend();
    let policy = Policy { exempt: PrefixSet::default(), ..default_policy() };
    apply_policy(&mut backend, &policy);
    gateway.left.run("ping -c1 -w5 10.7.0.3");
    assert_eq!(counted("keep source: a bridged frame"), 1);
    assert_eq!(counted("masquerade: no exemption applies"), 0);
    gateway.outside.run("ping -c1 -w5 10.7.0.3");
    assert_eq!(counted("masquerade: no exemption applies"), 1);
    run("ping", &["-c1", "-w5", "10.7.0.3"], "");
    assert_eq!(counted("keep source: a bridged frame"), 1);
}

/// A list long enough that its set is not read whole after every commit.
fn long_list(without: u32) -> Policy {
    let networks = (0..6000).filter(|number| *number != without);
    let prefix = |number: u32| Prefix::containing(Ipv4Addr::from_bits(0x0b00_0000 + number * 512).into(), 24).unwrap();
    Policy { exempt: PrefixSet::from_prefixes(networks.map(prefix), &Origin::Default), ..default_policy() }
}

#[test]
fn a_long_list_is_loaded_changed_and_repaired() {
    namespace::enter!();
    let (all, fewer) = (long_list(u32::MAX), long_list(777));
    let mut backend = backend();
    let first = generation();
    apply_policy(&mut backend, &all);
    assert_eq!(
        generation(),
        first + 4,
        "two pieces, the second one with all but the rules behind a guard, those rules, and the guard goes"
    );
    let one = "element inet ip-masq-agent exempt4 {\n\t11.6.18.0/24,\n}\n";
    let plan = apply(&mut backend, Family::V4, ruleset(&fewer, Family::V4).as_ref());
    assert_eq!(plan.transaction(), format!("delete {one}"));
    let plan = apply(&mut backend, Family::V4, ruleset(&all, Family::V4).as_ref());
    assert_eq!(plan.transaction(), format!("add {one}"));

    nft("add table ip other\n");
    let desired = ruleset(&all, Family::V4);
    assert!(backend.plan(Family::V4, desired.as_ref()).unwrap().is_in_sync());
    nft(&format!("delete {one}"));
    let plan = apply(&mut backend, Family::V4, desired.as_ref());
    assert_eq!(plan.drift, ["set exempt4 lacks 1 element"]);
    let fresh = Nftables::new(TableOwner::Never).unwrap().plan(Family::V4, desired.as_ref()).unwrap();
    assert!(fresh.is_in_sync(), "{}", fresh.transaction());
}

/// Elements of a long set are counted after another program's commit. What that can't see is read when the doubt ends.
#[test]
fn elements_that_were_only_counted_are_doubted_until_they_are_read() {
    namespace::enter!();
    let desired = ruleset(&long_list(777), Family::V4);
    let mut backend = backend();
    apply(&mut backend, Family::V4, desired.as_ref());
    assert_eq!(backend.doubted_until(), None);
    let set = "element inet ip-masq-agent exempt4";
    nft(&format!("delete {set} {{ 11.0.0.0/24 }}\nadd {set} {{ 11.6.18.0/24 }}\n"));
    let begun = Instant::now();
    let plan = backend.plan(Family::V4, desired.as_ref()).unwrap();
    let until = backend.doubted_until().unwrap();
    assert!(until > begun && until <= Instant::now() + Duration::from_secs(30));
    nft("add table ip other\n");
    backend.plan(Family::V4, desired.as_ref()).unwrap();
    assert_eq!(backend.doubted_until(), Some(until), "another commit does not put it off");
    // Before Linux 6.17 the kernel does not count, and they are read at once.
    assert!(
        plan.is_in_sync()
            || Drift::join(&plan.drift) == "set exempt4 has 1 element too many, set exempt4 lacks 1 element"
    );
    let fresh = Nftables::new(TableOwner::Never).unwrap().plan(Family::V4, desired.as_ref()).unwrap();
    assert!(!fresh.is_in_sync());
}

#[test]
fn others_who_commit_all_the_time_cost_attempts_and_nothing_else() {
    namespace::enter!();
    let mut backend = backend();
    let (small, full) = (ruleset(&default_policy(), Family::V4), ruleset(&full_policy(), Family::V4));
    apply(&mut backend, Family::V4, small.as_ref());
    // Another agent that goes from one policy to the other and back, so that chains and sets come and go.
    let mut script = String::new();
    for (from, to) in [(&small, &full), (&full, &small)] {
        let mut other = Nftables::new(TableOwner::Never).unwrap();
        apply(&mut other, Family::V4, from.as_ref());
        script.push_str(&other.plan(Family::V4, to.as_ref()).unwrap().transaction());
        apply(&mut other, Family::V4, to.as_ref());
    }
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), script).unwrap();
    let command = format!("for i in $(seq 100); do nft -f {} || exit 1; done", text.path().display());
    let mut neighbour = std::process::Command::new("sh").args(["-c", &command]).spawn().unwrap();
    let mut looks = 0;
    while neighbour.try_wait().unwrap().is_none() {
        match Nftables::new(TableOwner::Never).unwrap().plan(Family::V4, small.as_ref()) {
            Ok(_) => looks += 1,
            Err(error) => assert_eq!(error.kind, ErrorKind::Busy, "{error}"),
        }
    }
    assert!(neighbour.wait().unwrap().success());
    assert!(looks > 0);
}
