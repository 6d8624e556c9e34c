//! Who is reached through a port of the host, and as whom: what `portForwards` promises, told by the policy alone.

use ip_masq_agent::config::{Flags, SourceText, parse};
use ip_masq_agent::policy::{Arrival, Flow, ForwardVerdict, Policy, Prefix, Protocol, Step, Verdict};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const FORWARDS: &str = "
enableIPv6: true
nonMasqueradeCIDRs: [10.0.0.0/8, 192.168.0.0/16, 'fc00::/7']
portForwards:
- {hostPort: 8080, address: [10.88.0.5, 'fd88::5'], port: 80, localhost: true}
- {hostPort: 5353, protocol: udp, address: [10.88.0.5, 'fd88::5'], port: 53, localhost: true}
- {hostPort: 8080, hostIP: 198.51.100.7, address: 10.88.0.6, port: 80}
- {hostPort: 7000-7010, address: 10.88.0.5, localhost: true}
- {hostPort: 8100-8102, address: 10.88.0.5, port: 7001, localhost: true}
- {hostPort: 9443, address: 10.88.0.5, sourceCIDRs: [198.51.100.0/24]}
";

/// A name and an address.
type Neighbour = (&'static str, &'static str);

/// The networks of the gateway: where it is in them itself, and who else is there.
const NETWORKS: &[(&str, &[&str], &[Neighbour])] = &[
    ("198.51.100.0/24", &["198.51.100.1", "198.51.100.7"], &[("wan", "198.51.100.2")]),
    ("192.168.50.0/24", &["192.168.50.1"], &[("lan", "192.168.50.2")]),
    ("10.88.0.0/16", &["10.88.0.1"], &[("c1", "10.88.0.5"), ("c2", "10.88.0.6")]),
    ("2001:db8:100::/64", &["2001:db8:100::1", "2001:db8:100::7"], &[("wan", "2001:db8:100::2")]),
    ("fd50::/64", &["fd50::1"], &[("lan", "fd50::2")]),
    ("fd88::/64", &["fd88::1"], &[("c1", "fd88::5"), ("c2", "fd88::6")]),
];

/// Who sends what where, who answers, where and to whom.
const FLOWS: &[(&str, &str, &str)] = &[
    ("wan tcp -> 198.51.100.1:8080", "c1", "10.88.0.5:80 198.51.100.2"),
    ("wan tcp -> 198.51.100.7:8080", "c2", "10.88.0.6:80 198.51.100.2"),
    ("wan udp -> 198.51.100.1:5353", "c1", "10.88.0.5:53 198.51.100.2"),
    ("lan tcp -> 192.168.50.1:8080", "c1", "10.88.0.5:80 192.168.50.2"),
    ("lan tcp -> 198.51.100.1:8080", "c1", "10.88.0.5:80 192.168.50.2"),
    ("host tcp -> 127.0.0.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("host tcp -> 127.0.0.2:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("host tcp -> 127.0.0.1:8080 (bound to 127.0.0.2)", "c1", "10.88.0.5:80 10.88.0.1"),
    ("host udp -> 127.0.0.1:5353", "c1", "10.88.0.5:53 10.88.0.1"),
    ("host tcp -> 198.51.100.1:8080", "c1", "10.88.0.5:80 198.51.100.1"),
    ("host tcp -> 10.88.0.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("host tcp -> 198.51.100.1:8080 (bound to 192.168.50.1)", "c1", "10.88.0.5:80 192.168.50.1"),
    ("c1 tcp -> 198.51.100.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("c1 tcp -> 10.88.0.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("c1 udp -> 198.51.100.1:5353", "c1", "10.88.0.5:53 10.88.0.1"),
    ("c2 tcp -> 198.51.100.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("c2 tcp -> 10.88.0.1:8080", "c1", "10.88.0.5:80 10.88.0.1"),
    ("c2 udp -> 198.51.100.1:5353", "c1", "10.88.0.5:53 10.88.0.1"),
    ("wan tcp -> 192.168.50.2:8080", "lan", "192.168.50.2:8080 198.51.100.2"),
    ("host tcp -> 192.168.50.2:8080", "lan", "192.168.50.2:8080 192.168.50.1"),
    ("c2 tcp -> 192.168.50.2:8080", "lan", "192.168.50.2:8080 10.88.0.6"),
    ("wan tcp -> 198.51.100.1:9090", "host", "198.51.100.1:9090 198.51.100.2"),
    ("wan tcp -> 2001:db8:100::1:8080", "c1", "fd88::5:80 2001:db8:100::2"),
    ("wan udp -> 2001:db8:100::1:5353", "c1", "fd88::5:53 2001:db8:100::2"),
    ("host tcp -> ::1:8080", "host", "::1:8080 ::1"),
    ("host tcp -> 2001:db8:100::1:8080", "c1", "fd88::5:80 2001:db8:100::1"),
    ("c1 tcp -> 2001:db8:100::1:8080", "c1", "fd88::5:80 fd88::1"),
    ("c2 tcp -> 2001:db8:100::1:8080", "c1", "fd88::5:80 fd88::1"),
    ("wan tcp -> fd50::2:8080", "lan", "fd50::2:8080 2001:db8:100::2"),
    ("c1 tcp -> 198.51.100.7:8080", "c2", "10.88.0.6:80 10.88.0.1"),
    ("c2 tcp -> 198.51.100.7:8080", "c2", "10.88.0.6:80 10.88.0.1"),
    ("wan tcp -> 198.51.100.1:7005", "c1", "10.88.0.5:7005 198.51.100.2"),
    ("wan tcp -> 198.51.100.1:8101", "c1", "10.88.0.5:7002 198.51.100.2"),
    ("wan tcp -> 198.51.100.1:9443", "c1", "10.88.0.5:9443 198.51.100.2"),
    ("lan tcp -> 198.51.100.1:9443", "host", "198.51.100.1:9443 192.168.50.2"),
    ("host tcp -> 198.51.100.1:7005", "c1", "10.88.0.5:7005 198.51.100.1"),
    ("host tcp -> 127.0.0.1:8101", "c1", "10.88.0.5:7002 10.88.0.1"),
];

fn policy(text: &str) -> Policy {
    let source = SourceText { path: Path::new("f.yaml").into(), text: text.to_owned() };
    parse(&[source], &Flags::default()).unwrap_or_else(|error| panic!("{error}")).policy
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || NETWORKS.iter().any(|(_, own, _)| own.iter().any(|own| ip(own) == address))
}

/// The network that holds an address, and the gateway's first address there.
fn network_of(address: IpAddr) -> Option<(Prefix, IpAddr)> {
    let networks = NETWORKS.iter().map(|(prefix, own, _)| (prefix.parse::<Prefix>().unwrap(), ip(own[0])));
    networks.into_iter().find(|(prefix, _)| prefix.contains(address))
}

fn neighbour(name: &str, family: IpAddr) -> IpAddr {
    let all = NETWORKS.iter().flat_map(|(_, _, others)| others.iter());
    let addresses = all.filter(|(other, _)| *other == name).map(|(_, address)| ip(address));
    addresses.into_iter().find(|address| address.is_ipv4() == family.is_ipv4()).unwrap()
}

fn name_of(address: IpAddr) -> &'static str {
    let all = NETWORKS.iter().flat_map(|(_, _, others)| others.iter());
    all.into_iter().find(|(_, other)| ip(other) == address).map_or("host", |(name, _)| name)
}

/// `FROM PROTOCOL -> ADDRESS:PORT (bound to ADDRESS)`.
fn arrival(flow: &str) -> Arrival {
    let words: Vec<&str> = flow.split([' ', ')']).collect();
    let (address, port) = words[3].rsplit_once(':').unwrap();
    let destination = ip(address);
    let from_host = words[0] == "host";
    let source = match words.get(6) {
        Some(bound) => ip(bound),
        None if !from_host => neighbour(words[0], destination),
        None if is_own(destination) => destination,
        None => network_of(destination).unwrap().1,
    };
    Arrival {
        source: Some(source),
        in_interface: None,
        from_host,
        destination,
        destination_is_local: is_own(destination),
        protocol: words[1].parse().unwrap(),
        port: port.parse().unwrap(),
    }
}

/// Who answers, where and to whom.
fn answered(policy: &Policy, arrival: &Arrival) -> (&'static str, String) {
    let (destination, port, dnated) = match policy.forward(arrival) {
        ForwardVerdict::To { address, port, .. } => (address, port, true),
        ForwardVerdict::Keep | ForwardVerdict::Refused(_) => (arrival.destination, arrival.port, false),
    };
    let at = SocketAddr::new(destination, port).to_string().replace(['[', ']'], "");
    let source = arrival.source.unwrap();
    if is_own(destination) {
        return ("host", format!("{at} {source}"));
    }
    let (network, own) = network_of(destination).unwrap();
    let flow = Flow {
        source: Some(source),
        source_is_local: is_own(source),
        source_on_out_interface: network_of(source).is_some_and(|(of, _)| of == network) && is_own(source),
        protocol: arrival.protocol,
        dnated,
        destination_port: Some(port),
        network: Some(network),
        ..Flow::forwarded_to(destination)
    };
    let seen = if policy.verdict(&flow).0 == Verdict::Masquerade { own } else { source };
    (name_of(destination), format!("{at} {seen}"))
}

#[test]
fn every_flow_reaches_who_it_should_as_whom_it_should() {
    let policy = policy(FORWARDS);
    for (flow, who, at) in FLOWS {
        assert_eq!(answered(&policy, &arrival(flow)), (*who, (*at).to_owned()), "{flow}");
    }
}

#[test]
fn loopback_is_never_forwarded_for_others_and_link_local_for_nobody() {
    let policy = policy(FORWARDS);
    let own = |flow: &str| Arrival { destination_is_local: true, ..arrival(flow) };
    let crafted = Arrival { from_host: false, source: None, ..own("host tcp -> 127.0.0.1:8080") };
    assert_eq!(policy.forward(&crafted), ForwardVerdict::Keep);
    for from_host in [true, false] {
        let to = Arrival { destination: ip("fe80::1"), from_host, ..own("wan tcp -> 2001:db8:100::1:8080") };
        assert_eq!(policy.forward(&to), ForwardVerdict::Keep);
    }
    assert_eq!(
        policy.forward(&Arrival { protocol: Protocol::Sctp, ..own("wan tcp -> 198.51.100.1:8080") }),
        ForwardVerdict::Keep
    );
}

#[test]
fn a_forward_of_an_address_is_asked_alone_and_what_its_gates_refuse_is_left_to_the_host() {
    let policy = policy(
        "portForwards:\n- {hostPort: 80, address: 10.88.0.5}\n\
         - {hostPort: 80, address: 10.88.0.6, hostIP: 198.51.100.7, inInterfaces: [wan0, '!wan1'], \
         sourceCIDRs: [198.51.100.0/24], excludeSourceCIDRs: [198.51.100.2/32]}\n",
    );
    let at = |flow: &str, interface: &str| Arrival { in_interface: Some(interface.to_owned()), ..arrival(flow) };
    let refused = |arrival: Arrival| match policy.forward(&arrival) {
        ForwardVerdict::Refused(all) => all.iter().map(|(by, gate)| (by.number, gate.reason())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let wan = "wan tcp -> 198.51.100.7:80";
    assert_eq!(refused(at(wan, "lan0")), [(2, "the incoming interface is not in its inInterfaces")]);
    assert_eq!(refused(at(wan, "wan1")), [(2, "its inInterfaces excludes the incoming interface")]);
    assert_eq!(refused(at(wan, "wan0")), [(2, "the source is in its excludeSourceCIDRs")]);
    assert_eq!(refused(at("lan tcp -> 198.51.100.7:80", "wan0")), [(2, "the source is not in its sourceCIDRs")]);
    assert_eq!(
        refused(arrival("host tcp -> 198.51.100.7:80")),
        [(2, "it has inInterfaces, and the host's own packets come in through none")]
    );
    let other = Arrival { source: Some(ip("198.51.100.3")), ..at(wan, "wan0") };
    assert!(matches!(policy.forward(&other), ForwardVerdict::To { port: 80, .. }));
}

#[test]
fn only_what_was_sent_to_a_target_is_treated_as_a_forward() {
    let policy = policy(FORWARDS);
    let step = |flow: &Flow| policy.verdict(flow).1.step;
    let to_target = Flow {
        source: Some(ip("203.0.113.9")),
        dnated: true,
        destination_port: Some(80),
        network: Some("10.88.0.0/16".parse().unwrap()),
        ..Flow::forwarded_to(ip("10.88.0.5"))
    };
    assert_eq!(step(&to_target), Step::Forwarded);
    assert_eq!(step(&Flow { source: Some(ip("10.88.0.6")), ..to_target.clone() }), Step::ForwardHairpin);
    assert_eq!(step(&Flow { source: Some(ip("127.0.0.1")), ..to_target.clone() }), Step::ForwardLocalhost);
    // Another program's forward to another port of it, and a connection that was not forwarded.
    assert_eq!(step(&Flow { destination_port: Some(443), ..to_target.clone() }), Step::Exempt);
    assert_eq!(step(&Flow { dnated: false, ..to_target }), Step::Exempt);
}

#[test]
fn hairpin_is_what_the_forward_says() {
    for (hairpin, translated) in
        [("auto", "10.88.0.6"), ("always", "10.88.0.6 203.0.113.9"), ("never", ""), ("[203.0.113.0/24]", "203.0.113.9")]
    {
        let policy = policy(&format!("portForwards: [{{hostPort: 80, address: 10.88.0.5, hairpin: {hairpin}}}]"));
        let is_translated = |source: &&str| {
            let flow = Flow {
                source: Some(ip(source)),
                dnated: true,
                destination_port: Some(80),
                network: Some("10.88.0.0/16".parse().unwrap()),
                ..Flow::forwarded_to(ip("10.88.0.5"))
            };
            policy.verdict(&flow).0 == Verdict::Masquerade
        };
        let found: Vec<&str> = ["10.88.0.6", "203.0.113.9"].into_iter().filter(is_translated).collect();
        assert_eq!(found.join(" "), translated, "{hairpin}");
    }
}

#[test]
fn a_target_of_two_forwards_gets_what_either_asks_for() {
    let policy = policy(
        "portForwards:\n- {hostPort: 80, address: 10.88.0.5, hairpin: never}\n\
         - {hostPort: 81, address: 10.88.0.5, port: 80, localhost: true}\n",
    );
    let flow = |source| Flow {
        source: Some(ip(source)),
        dnated: true,
        destination_port: Some(80),
        network: Some("10.88.0.0/16".parse().unwrap()),
        ..Flow::forwarded_to(ip("10.88.0.5"))
    };
    assert_eq!(policy.verdict(&flow("10.88.0.6")).1.step, Step::ForwardHairpin);
    assert_eq!(policy.verdict(&flow("127.0.0.1")).1.step, Step::ForwardLocalhost);
}

#[test]
fn with_a_mark_the_mark_decides_and_the_forward_that_took_the_flow_sets_it() {
    let policy = policy(
        "markMasqBit: 13\nportForwards:\n- {hostPort: 80, address: 10.88.0.5, hairpin: never}\n\
         - {hostPort: 81, address: 10.88.0.5, port: 80, localhost: true}\n",
    );
    let flow = |source| Flow {
        source: Some(ip(source)),
        mark: 0x41,
        dnated: true,
        destination_port: Some(80),
        network: Some("10.88.0.0/16".parse().unwrap()),
        ..Flow::forwarded_to(ip("10.88.0.5"))
    };
    let neighbour = flow("10.88.0.6");
    let marks = [0, 1].map(|number: usize| policy.mark_behind(&policy.forwards[number], &neighbour));
    assert_eq!(marks, [0x41, 0x2041]);
    assert_eq!(policy.mark_behind_forwards(&neighbour), 0x2041, "either may have been it");
    assert_eq!(policy.mark_behind(&policy.forwards[1], &flow("127.0.0.1")), 0x2041);
    assert_eq!(policy.mark_behind(&policy.forwards[1], &flow("203.0.113.9")), 0x41);
    let said = |flow: &Flow| {
        let (verdict, by) = policy.verdict(flow);
        (verdict, by.step)
    };
    assert_eq!(said(&neighbour), (Verdict::Return, Step::Forwarded));
    let marked = Flow { mark: 0x2041, ..neighbour };
    assert_eq!(said(&marked), (Verdict::Masquerade, Step::ForwardMark));
    let elsewhere = Flow { dnated: false, ..Flow { mark: 0x2000, ..Flow::forwarded_to(ip("10.1.2.3")) } };
    assert_eq!(said(&elsewhere), (Verdict::Masquerade, Step::ForwardMark), "whoever set it");
    let v6 = Flow { mark: 0x2000, ..Flow::forwarded_to(ip("2001:db8::1")) };
    assert_ne!(said(&v6).1, Step::ForwardMark, "no forward is of that family");
    assert_eq!(policy.verdict(&marked).1.origin.unwrap().to_string(), "f.yaml:1:14");
}

#[test]
fn with_another_programs_chain_that_marks_the_rules_keep_every_source() {
    let policy = policy("externalSetMarkChain: KUBE-MARK-MASQ\nportForwards: [{hostPort: 80, address: 10.88.0.5}]\n");
    let said = |source| {
        let flow = Flow {
            source: Some(ip(source)),
            mark: u32::MAX,
            dnated: true,
            destination_port: Some(80),
            network: Some("10.88.0.0/16".parse().unwrap()),
            ..Flow::forwarded_to(ip("10.88.0.5"))
        };
        let (verdict, by) = policy.verdict(&flow);
        (verdict, by.step)
    };
    assert_eq!(said("10.88.0.6"), (Verdict::Return, Step::ForwardExternalMark));
    assert_eq!(said("203.0.113.9"), (Verdict::Return, Step::Forwarded));
}
