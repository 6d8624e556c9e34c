use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `DESTINATION [via GATEWAY] dev INDEX [src SOURCE] [metric METRIC]`, or `TYPE DESTINATION`.
fn route(line: &str) -> Route {
    let words: Vec<&str> = line.split(' ').collect();
    let after = |word: &str| words.iter().position(|w| *w == word).map(|at| words[at + 1]);
    let kind = match words[0] {
        "unreachable" => RouteKind::Refusing,
        "throw" => RouteKind::Throw,
        _ => RouteKind::Unicast,
    };
    let destination = words[usize::from(kind != RouteKind::Unicast)].parse().unwrap();
    let gateway = after("via").map(ip);
    let hops = after("dev").map(|index| Hop { interface: index.parse().unwrap(), gateway });
    Route {
        destination,
        kind,
        hops: hops.into_iter().collect(),
        source: after("src").map(ip),
        metric: after("metric").map_or(0, |metric| metric.parse().unwrap()),
    }
}

fn network(addresses: &[(u32, &str)], routes: &[&str]) -> Network {
    let names = [(1, "lo"), (2, "lan0"), (3, "wan0"), (4, "wan1")];
    let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned(), is_up: true };
    let address = |(interface, text): &(u32, &str)| {
        let (address, length) = text.split_once('/').unwrap();
        let network = Prefix::containing(ip(address), length.parse().unwrap()).unwrap();
        Address { interface: *interface, address: ip(address), network, is_secondary: false }
    };
    Network::new(
        names.map(interface).to_vec(),
        addresses.iter().map(address).collect(),
        routes.iter().map(|line| route(line)).collect(),
    )
}

#[test]
fn the_longest_prefix_leads_and_of_equals_the_smallest_metric() {
    let network = network(
        &[],
        &[
            "0.0.0.0/0 via 203.0.113.9 dev 3 metric 100",
            "0.0.0.0/0 via 198.51.100.9 dev 4 metric 50",
            "10.0.0.0/8 dev 2",
            "unreachable 10.9.0.0/16",
            "throw 10.8.0.0/16",
            "::/0 via fe80::1 dev 3",
        ],
    );
    let cases = [
        ("192.0.2.1", Some("wan1")),
        ("10.1.2.3", Some("lan0")),
        ("10.9.1.1", None),
        ("10.8.1.1", Some("lan0")),
        ("2001:db8::1", Some("wan0")),
    ];
    for (address, name) in cases {
        assert_eq!(network.interface_to(ip(address)), name, "{address}");
    }
    assert_eq!(network.hops_to(ip("192.0.2.1")), [("wan1", Some(ip("198.51.100.9")))]);
    assert_eq!(Network::default().interface_to(ip("192.0.2.1")), None);
}

#[test]
fn a_hop_that_does_not_work_leaves_the_next_route() {
    let dead = Route { hops: Vec::new(), ..route("0.0.0.0/0 dev 3") };
    let alive = route("0.0.0.0/0 dev 4 metric 9");
    let interfaces = vec![Interface { index: 4, name: "wan1".into(), is_up: true }];
    let network = Network::new(interfaces, Vec::new(), vec![dead, alive]);
    assert_eq!(network.interface_to(ip("192.0.2.1")), Some("wan1"));
}

#[test]
fn the_connected_network_is_that_of_the_target_or_of_its_next_hop() {
    let network = network(
        &[],
        &[
            "192.168.50.0/24 dev 2",
            "10.88.0.0/16 via 192.168.50.7 dev 2",
            "192.168.50.9/32 dev 2",
            "0.0.0.0/0 dev 3",
            "2001:db8:50::/64 dev 2",
            "fe80::/64 dev 2",
            "fd88::/16 via fe80::7 dev 2",
        ],
    );
    let cases: &[(&str, &[&str])] = &[
        ("192.168.50.2", &["lan0 192.168.50.0/24"]),
        ("192.168.50.9", &["lan0 192.168.50.9/32"]),
        ("10.88.0.5", &["lan0 192.168.50.0/24"]),
        // A point-to-point uplink makes nobody a neighbour.
        ("203.0.113.5", &[]),
        ("2001:db8:50::2", &["lan0 2001:db8:50::/64"]),
        ("fd88::5", &["lan0 2001:db8:50::/64"]),
        ("2001:db8::1", &[]),
    ];
    for (address, expected) in cases {
        let found = network.connected_networks_to(ip(address));
        let found: Vec<String> = found.iter().map(|(name, prefix)| format!("{name} {prefix}")).collect();
        assert_eq!(&found, expected, "{address}");
    }
}

#[test]
fn who_owns_an_address() {
    let network = network(&[(3, "203.0.113.1/24"), (3, "203.0.113.77/32"), (4, "203.0.113.77/32")], &[]);
    assert!(network.owns(ip("203.0.113.77")) && network.owns(ip("127.0.0.5")) && !network.owns(ip("203.0.113.2")));
    assert_eq!(network.interfaces_with(ip("203.0.113.77")), ["wan0", "wan1"].into());
    assert_eq!(network.owned("203.0.113.1-203.0.113.9".parse().unwrap()), [ip("203.0.113.1")].into());
    assert!(network.has("wan1", ip("203.0.113.77")) && !network.has("lan0", ip("203.0.113.77")));
}

#[test]
fn the_source_of_the_longest_route_through_an_interface_is_preferred_and_one_without_is_a_hole() {
    let network = network(
        &[],
        &[
            "0.0.0.0/0 via 203.0.113.9 dev 3 src 203.0.113.1",
            "0.0.0.0/0 via 198.51.100.9 dev 4 src 198.51.100.1 metric 10",
            "192.0.2.0/24 via 203.0.113.9 dev 3",
            "192.0.2.128/25 via 203.0.113.9 dev 3 src 203.0.113.77",
            "192.0.2.128/25 via 203.0.113.8 dev 3 src 203.0.113.78 metric 7",
            "10.0.0.0/8 dev 2",
        ],
    );
    let sources = network.route_sources();
    let at = |interface: &str, address: &str| {
        sources.find(interface, ip(address)).and_then(|row| row.source).map(|source| source.to_string())
    };
    assert_eq!(at("wan0", "192.0.2.1"), None);
    assert_eq!(at("wan0", "192.0.2.200").as_deref(), Some("203.0.113.77"));
    assert_eq!(at("wan0", "8.8.8.8").as_deref(), Some("203.0.113.1"));
    assert_eq!(at("wan1", "8.8.8.8").as_deref(), Some("198.51.100.1"));
    assert_eq!(at("lan0", "10.1.1.1"), None);
    assert_eq!(sources.rows(Family::V6).count(), 0);
}

#[test]
fn the_same_host_is_the_same_value_in_whatever_order_it_was_read() {
    let one = network(&[(2, "192.168.50.1/24"), (3, "203.0.113.1/24")], &["10.0.0.0/8 dev 2", "0.0.0.0/0 dev 3"]);
    let other = network(&[(3, "203.0.113.1/24"), (2, "192.168.50.1/24")], &["0.0.0.0/0 dev 3", "10.0.0.0/8 dev 2"]);
    assert_eq!(one, other);
}
