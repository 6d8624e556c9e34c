//! Port forwards as maps: what nft says of them, what others do to them, and how much a change costs.

use super::{apply, backend, default_policy, listing, ruleset};
use crate::namespace::{self, nft, run};
use ip_masq_agent::backend::Backend;
use ip_masq_agent::backend::nftables::render;
use ip_masq_agent::config::TableOwner;
use ip_masq_agent::policy::{
    Family, Forward, Hairpin, HostAddress, Origin, Policy, PortRange, PrefixSet, Protocol, WithOrigin,
};
use std::net::Ipv4Addr;

fn forward(number: u32, ports: (u16, u16), port: u16) -> Forward {
    Forward {
        number,
        origin: Origin::Default,
        host_ports: PortRange { first: ports.0, last: ports.1 },
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        host: HostAddress::Any,
        v4: Some(Ipv4Addr::new(10, 88, 0, 5)),
        v6: Some("fd88::5".parse().unwrap()),
        port,
        in_interfaces: Vec::new(),
        sources: PrefixSet::default(),
        excluded_sources: PrefixSet::default(),
        hairpin: Hairpin::Always,
        localhost: false,
    }
}

fn gated(forward: Forward, sources: &[&str]) -> Forward {
    let interface = |text: &str| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default };
    let in_interfaces = vec![interface("eth0"), interface("ppp+"), interface("!ppp9")];
    Forward { in_interfaces, sources: super::prefixes(sources), ..forward }
}

/// One of each kind.
fn every_kind() -> Policy {
    let at = |host: &str, forward: Forward| Forward { host: HostAddress::One(host.parse().unwrap()), ..forward };
    let v4_only = |forward: Forward| Forward { v6: None, localhost: true, ..forward };
    let forwards = vec![
        v4_only(forward(1, (8080, 8080), 80)),
        forward(2, (7000, 7010), 7000),
        forward(3, (8100, 8102), 7001),
        gated(forward(4, (9000, 9010), 9000), &["192.0.2.0/24", "2001:db8::/32"]),
        gated(forward(5, (9443, 9443), 443), &["192.0.2.0/24", "2001:db8::/32"]),
        at("198.51.100.7", forward(6, (8080, 8080), 81)),
        at("198.51.100.7", forward(7, (7000, 7010), 7000)),
        gated(at("198.51.100.7", forward(8, (9443, 9444), 9443)), &["192.0.2.0/24"]),
        at("2001:db8::7", forward(9, (8080, 8080), 81)),
        gated(at("2001:db8::7", forward(10, (9443, 9444), 9443)), &["2001:db8::/32"]),
    ];
    Policy { forwards, enable_ipv6: true, ..default_policy() }
}

/// A range behind a gate whose ports become others, and clients that are too many for rules.
fn of_lists_and_maps() -> Vec<Forward> {
    let clients: Vec<String> = (0..400).map(|n| format!("10.{}.{}.0/24", n / 100, 2 * (n % 100))).collect();
    let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    let wide = Forward { v6: None, ..forward(11, (20_000, 49_999), 10_000) };
    vec![
        gated(wide.clone(), &["192.0.2.0/24"]),
        Forward { number: 12, host_ports: PortRange { first: 700, last: 700 }, port: 700, ..gated(wide, &clients) },
    ]
}

#[test]
fn a_gate_of_a_range_whose_ports_become_others_is_a_chain_and_a_map_and_so_is_one_of_many_clients() {
    namespace::enter!();
    let policy = Policy { forwards: of_lists_and_maps(), ..default_policy() };
    let desired = ruleset(&policy, Family::V4);
    let mut agent = backend();
    apply(&mut agent, Family::V4, desired.as_ref());
    let listed = listing();
    let chains: Vec<&str> =
        listed.lines().filter_map(|line| line.trim().strip_prefix("chain forwards-ipv4-")).collect();
    assert_eq!(chains, ["tcp-700 {", "tcp-20000 {", "udp-700 {", "udp-20000 {"]);
    let rules = |words: &str| listed.lines().filter(|line| line.contains(words)).count();
    assert_eq!(rules("dnat ip to meta l4proto . th dport map @forward11-ports4"), 4, "one for each interface");
    assert_eq!(rules("ip saddr @forward12-sources4"), 4);
    // A second service finds it as it should be; a port that is taken out of the map is put back.
    assert!(backend().plan(Family::V4, desired.as_ref()).unwrap().is_in_sync());
    nft("delete element inet ip-masq-agent forward11-ports4 { tcp . 20005 }\n");
    let repaired = apply(&mut agent, Family::V4, desired.as_ref());
    assert_eq!(repaired.drift, ["map forward11-ports4 lacks 1 element"]);
    let fewer = Policy { forwards: vec![policy.forwards[1].clone()], ..policy };
    apply(&mut agent, Family::V4, ruleset(&fewer, Family::V4).as_ref());
    assert!(!listing().contains("forward11"));
}

#[test]
fn nft_reads_our_text_and_lists_what_we_wrote_with_the_same_words() {
    namespace::enter!();
    let mut policy = every_kind();
    policy.forwards.extend(of_lists_and_maps());
    let mut agent = backend();
    for family in Family::ALL {
        let desired = ruleset(&policy, family).unwrap();
        let text = render(&desired, TableOwner::Never);
        run("nft", &["-c", "-f", "-"], &text);
        let first = agent.plan(family, Some(&desired)).unwrap().transaction();
        run("nft", &["-c", "-f", "-"], &first);
        apply(&mut agent, family, Some(&desired));
        let listed = listing();
        let squeezed = |text: &str| {
            let whole = |word: &str| word.trim_end_matches("/32").trim_end_matches("/128").to_owned();
            text.split_whitespace().map(whole).collect::<Vec<_>>().join(" ")
        };
        let lines = |text: &str| -> Vec<String> {
            let wanted = |line: &&str| {
                ["dnat", "goto", "vmap", "masquerade", "return", "drop"].iter().any(|word| line.contains(word))
            };
            // How nft says those flags is its version's business.
            let flags = |line: &&str| line.contains("tcp flags");
            text.lines().filter(wanted).filter(|line| !flags(line)).map(squeezed).collect()
        };
        let listed = lines(&listed);
        for line in lines(&text).iter().filter(|line| !line.ends_with(',')) {
            let line = line.replace(" counter ", " ").replace("counter ", "");
            assert!(
                listed.iter().any(|there| there.replace(" counter ", " ").replace("counter ", "") == line),
                "{line}\nis not in\n{}",
                listed.join("\n")
            );
        }
    }
}

#[test]
fn a_table_that_nft_loaded_from_our_text_is_as_it_should_be_after_one_plan() {
    namespace::enter!();
    let policy = every_kind();
    let desired = ruleset(&policy, Family::V4).unwrap();
    nft(&render(&desired, TableOwner::Never));
    apply(&mut backend(), Family::V4, Some(&desired));
}

#[test]
fn what_others_do_to_forwards_is_seen_named_and_repaired() {
    namespace::enter!();
    let policy = every_kind();
    let mut agent = backend();
    for family in Family::ALL {
        apply(&mut agent, family, ruleset(&policy, family).as_ref());
    }
    let table = "inet ip-masq-agent";
    let cases = [
        (format!("delete element {table} forwards-ports4 {{ tcp . 8080 }}"), "map forwards-ports4 lacks 1 element"),
        (
            format!("add element {table} forwards-ports6 {{ tcp . 22 : fd00::1 . 22 }}"),
            "map forwards-ports6 has 1 element too many",
        ),
        (format!("flush map {table} forwards-host-port-ranges4"), "map forwards-host-port-ranges4 lacks 2 elements"),
        (format!("flush map {table} forwards-gated4"), "map forwards-gated4 lacks 4 elements"),
        (format!("flush set {table} forwards-target-ports6"), "set forwards-target-ports6 lacks 6 elements"),
        (format!("flush set {table} forwards-target-ranges6"), "set forwards-target-ranges6 lacks 8 elements"),
        (format!("flush chain {table} prerouting; delete chain {table} prerouting"), "chain prerouting is missing"),
        (format!("flush chain {table} output; delete chain {table} output"), "chain output is missing"),
        (
            format!("flush chain {table} raw-prerouting; delete chain {table} raw-prerouting"),
            "chain raw-prerouting is missing",
        ),
        (
            format!("insert rule {table} forwards-ipv4 tcp dport 8080 accept"),
            "chain 'forwards-ipv4' holds a rule that is not ip-masq-agent's: 'tcp dport 8080 accept'",
        ),
        (
            format!("insert rule {table} prerouting tcp dport 8080 accept"),
            "chain 'prerouting' holds a rule that is not ip-masq-agent's: 'tcp dport 8080 accept'",
        ),
        (format!("flush chain {table} forwards-ipv4-tcp-9443"), "chain forwards-ipv4-tcp-9443 lacks 3 rules"),
    ];
    for (command, word) in cases {
        nft(&format!("{command}\n"));
        let mut words = Vec::new();
        for family in Family::ALL {
            words.extend(apply(&mut agent, family, ruleset(&policy, family).as_ref()).drift);
        }
        assert!(words.iter().any(|said| said == word), "{command}: {words:?}");
    }
}

#[test]
fn a_change_of_forwards_is_what_differs_and_leaves_nothing_behind() {
    namespace::enter!();
    let whole = every_kind();
    let mut agent = backend();
    let without = Policy { forwards: Vec::new(), ..whole.clone() };
    apply(&mut agent, Family::V4, ruleset(&without, Family::V4).as_ref());
    let plain = listing();
    for gone in 0..whole.forwards.len() {
        let mut policy = whole.clone();
        policy.forwards.remove(gone);
        for policy in [&whole, &policy, &without, &policy, &whole] {
            apply(&mut agent, Family::V4, ruleset(policy, Family::V4).as_ref());
        }
    }
    apply(&mut agent, Family::V4, ruleset(&without, Family::V4).as_ref());
    assert_eq!(listing(), plain);
}

/// So many forwards of two protocols each.
fn many(count: u16, is_gated: bool) -> Policy {
    let of = |number: u16| {
        let forward = Forward { v6: None, ..forward(u32::from(number), (number, number), number / 2 + 1) };
        if is_gated { gated(forward, &["192.0.2.0/24"]) } else { forward }
    };
    Policy { forwards: (1..=count).map(of).collect(), ..default_policy() }
}

#[test]
fn one_forward_of_thousands_is_a_few_lines() {
    namespace::enter!();
    for (is_gated, count) in [(false, 5_000), (true, 1_000)] {
        let mut policy = many(count, is_gated);
        let mut agent = backend();
        apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref());
        policy.forwards[500].port = 60_000;
        let changed = ruleset(&policy, Family::V4);
        let plan = agent.plan(Family::V4, changed.as_ref()).unwrap();
        let lines = plan.transaction().lines().count();
        agent.commit(plan).unwrap();
        assert!(lines < 40, "{lines}");
        assert!(agent.plan(Family::V4, changed.as_ref()).unwrap().is_in_sync());
        policy.forwards.pop();
        let fewer = apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref());
        assert!(fewer.transaction().lines().count() < 40, "{}", fewer.transaction());
        apply(&mut agent, Family::V4, None);
    }
}

#[test]
fn every_port_of_each_protocol_that_becomes_another_one_is_read_again() {
    namespace::enter!();
    let protocols = vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let all = Forward { protocols, ..forward(1, (1, 65_534), 2) };
    let policy = Policy { forwards: vec![all], ..default_policy() };
    let desired = ruleset(&policy, Family::V4);
    apply(&mut backend(), Family::V4, desired.as_ref());
    // One that knows nothing of what was written.
    let plan = backend().plan(Family::V4, desired.as_ref()).unwrap();
    assert!(plan.is_in_sync(), "{:?}", plan.drift);
}
