//! What `explain` says is what happens to real packets: random configurations, on every backend.

use crate::lab::{BACKENDS, Gateway, Kind, Lab, Probe, Uplink, parse};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::fmt::Write;

/// How many configurations per backend, and how many packets through each.
const CONFIGURATIONS: usize = 12;
const PACKETS: usize = 16;

/// Prefixes around the addresses of the lab, nested and adjacent.
const PREFIXES: [&str; 22] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.20.0.0/16",
    "10.20.0.5/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "192.168.77.0/24",
    "192.168.77.2/32",
    "192.168.78.0/24",
    "203.0.113.0/24",
    "203.0.113.77/32",
    "224.0.0.0/4",
    "::/0",
    "2001:db8::/32",
    "2001:db8:2::/48",
    "fd00:77::/64",
    "fd00:78::2/128",
    "fd20::/16",
    "ff00::/8",
];
const INTERFACES: [&str; 7] = ["wan0", "wan1", "wan+", "ppp+", "!wan0", "!wan1", "!lan+"];
const SWITCHES: [&str; 4] = ["masqLinkLocal", "masqLinkLocalIPv6", "masqMulticast", "masqLocalSource"];

/// Sender and source.
const FROM: [(&str, &str); 12] = [
    ("lan", "192.168.77.2"),
    ("lan", "192.168.78.2"),
    ("lan", "fd00:77::2"),
    ("lan", "fd00:78::2"),
    ("gateway", "192.168.77.1"),
    ("gateway", "203.0.113.1"),
    ("gateway", "203.0.113.77"),
    ("gateway", "198.51.100.1"),
    ("gateway", "fd00:77::1"),
    ("gateway", "2001:db8:113::1"),
    ("gateway", "2001:db8:113::77"),
    ("gateway", "2001:db8:100::1"),
];
const TO: [&str; 12] = [
    "203.0.113.200",
    "10.20.0.5",
    "10.21.0.5",
    "172.16.0.5",
    "192.0.2.5",
    "169.254.7.7",
    "100.64.0.1",
    "192.168.255.1",
    "2001:db8:5::5",
    "2001:db8:2::5",
    "fd20::5",
    "2002::5",
];
/// Those whose probes are flows of their own; a second one of a protocol without ports would be of the first's flow.
const PROTOCOLS: [(&str, Kind); 4] =
    [("tcp", Kind::Tcp), ("udp", Kind::Udp), ("sctp", Kind::Sctp), ("icmp", Kind::Ping)];

fn configuration() -> impl Strategy<Value = String> {
    let list = |name: &'static str, items: &'static [&'static str], most: usize| {
        let line = subsequence(items, 0..=most).prop_map(move |items| format!("{name}: {items:?}\n"));
        proptest::option::of(line).prop_map(Option::unwrap_or_default)
    };
    (
        list("nonMasqueradeCIDRs", &PREFIXES, 6),
        list("masqueradeExceptionCIDRs", &PREFIXES, 3),
        list("sourceCIDRs", &PREFIXES, 4),
        list("excludeSourceCIDRs", &PREFIXES, 2),
        list("outInterfaces", &INTERFACES, 3),
        subsequence(&SWITCHES[..], 0..=4),
        proptest::option::of(Just("toPorts: 61000-61001,62000-62003\n")),
    )
        .prop_map(|(exempt, exceptions, sources, excluded, out, switches, ports)| {
            let mut text = [exempt, exceptions, sources, excluded, out].concat();
            switches.iter().for_each(|switch| writeln!(text, "{switch}: true").unwrap());
            text + ports.unwrap_or_default()
        })
}

/// What `explain` says of one packet and what the far end saw of it, where they differ.
fn difference(gateway: &Gateway<'_>, from: (&str, &str), to: &str, protocol: (&str, Kind)) -> Option<String> {
    let (sender, source) = from;
    let (destination, uplink) = (parse(to), Uplink::towards(parse(to)));
    let arguments = [to, "--from", source, "--out", uplink.name(), "--proto", protocol.0];
    let said = gateway.agent.must("explain", &[&arguments[..], &["--json"]].concat());
    let answer = serde_json::from_str::<serde_json::Value>(&said).unwrap()[0].clone();
    let expected = match answer["verdict"].as_str() {
        Some("masquerade") => uplink.masquerade_address(destination),
        Some("keep source") => parse(source),
        other => panic!("{arguments:?}: {other:?}"),
    };
    let node = if sender == "lan" { &gateway.lab.lan } else { &gateway.lab.gateway };
    let seen = Probe::new(protocol.1, destination).from(parse(source)).source_seen(node, &gateway.lab.observer);
    let agrees = answer["kernel"]["agrees"] == true;
    (seen != Some(expected) || !agrees).then(|| format!("{arguments:?}: the far end saw {seen:?}, explain said {said}"))
}

#[test]
fn explain_says_what_happens_to_real_packets() {
    let mut runner = TestRunner::deterministic();
    let drawn = |_| configuration().new_tree(&mut runner).unwrap().current();
    let configurations: Vec<String> = (0..CONFIGURATIONS).map(drawn).collect();
    let same_family = |from: &&(&str, &str), to: &str| parse(from.1).is_ipv4() == parse(to).is_ipv4();
    let flow = (select(&FROM[..]), select(&TO[..]), select(&PROTOCOLS[..]));
    let flow = flow.prop_filter("one family", move |(from, to, _)| same_family(&from, to));
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let mut wrong = Vec::new();
        for text in &configurations {
            gateway.apply(text);
            for _ in 0..PACKETS {
                let (from, to, protocol) = flow.new_tree(&mut runner).unwrap().current();
                wrong.extend(difference(&gateway, from, to, protocol).map(|line| format!("{text}{line}")));
            }
        }
        assert!(wrong.is_empty(), "{backend}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn addresses_that_a_route_makes_the_hosts_own_are_taken_for_that() {
    // Local routes for whole networks ("AnyIP"). The kernel asks at which interface an IPv4 route is, and which
    // interface has an IPv6 address.
    let routes = "route add local 198.18.0.0/24 dev lo\nroute add local 198.18.1.0/24 dev wan0\n\
                  route add local 2001:db8:18::/64 dev lo\nroute add local 2001:db8:19::/64 dev wan0\n";
    let sources = ["198.18.0.5", "198.18.1.5", "2001:db8:18::5", "2001:db8:19::5"];
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        lab.gateway.ip(routes);
        lab.gateway.sysctl("net/ipv6/ip_nonlocal_bind", "1");
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.apply("");
        for source in sources {
            let to = if source.contains(':') { "2001:db8:5::5" } else { "203.0.113.200" };
            assert_eq!(difference(&gateway, ("gateway", source), to, ("udp", Kind::Udp)), None, "{backend}");
        }
        for destination in sources {
            let said = gateway.agent.must("explain", &[destination]);
            assert!(said.contains("an address of this host"), "{backend}: {said}");
        }
    }
}
