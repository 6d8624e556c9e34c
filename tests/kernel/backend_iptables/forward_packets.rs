//! What clients of port forwards reach, and which source the target sees: real conversations.

use super::forwards::{forward, sources};
use super::gateway::{Gateway, both_variants};
use crate::lab::Namespace;
use crate::policies::default_policy;
use ip_masq_agent::policy::{Family, Forward, Hairpin, HostAddress, Policy, Protocol};
use ip_masq_agent::ruleset::{HostFacts, Reached};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// An answer has to be there by then.
const DEADLINE: Duration = Duration::from_secs(10);

/// The client, the protocol, where it sends to, the address that it binds to; who answers, the source seen there, and the
/// address where it was reached.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const FLOWS: [Row; 37] = [
    ("wan", "tcp", "198.51.100.1:8080", "", "c1", "198.51.100.2", "10.88.0.5:80"),
    ("wan", "tcp", "198.51.100.7:8080", "", "c2", "198.51.100.2", "10.88.0.6:80"),
    ("wan", "udp", "198.51.100.1:5353", "", "c1", "198.51.100.2", "10.88.0.5:53"),
    ("lan", "tcp", "192.168.50.1:8080", "", "c1", "192.168.50.2", "10.88.0.5:80"),
    ("lan", "tcp", "198.51.100.1:8080", "", "c1", "192.168.50.2", "10.88.0.5:80"),
    ("host", "tcp", "127.0.0.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("host", "tcp", "127.0.0.2:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("host", "tcp", "127.0.0.1:8080", "127.0.0.2", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("host", "udp", "127.0.0.1:5353", "", "c1", "10.88.0.1", "10.88.0.5:53"),
    ("host", "tcp", "198.51.100.1:8080", "", "c1", "198.51.100.1", "10.88.0.5:80"),
    ("host", "tcp", "10.88.0.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("host", "tcp", "198.51.100.1:8080", "192.168.50.1", "c1", "192.168.50.1", "10.88.0.5:80"),
    ("c1", "tcp", "198.51.100.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("c1", "tcp", "10.88.0.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("c1", "udp", "198.51.100.1:5353", "", "c1", "10.88.0.1", "10.88.0.5:53"),
    ("c2", "tcp", "198.51.100.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("c2", "tcp", "10.88.0.1:8080", "", "c1", "10.88.0.1", "10.88.0.5:80"),
    ("c2", "udp", "198.51.100.1:5353", "", "c1", "10.88.0.1", "10.88.0.5:53"),
    ("wan", "tcp", "192.168.50.2:8080", "", "lan", "198.51.100.2", "192.168.50.2:8080"),
    ("host", "tcp", "192.168.50.2:8080", "", "lan", "192.168.50.1", "192.168.50.2:8080"),
    ("c2", "tcp", "192.168.50.2:8080", "", "lan", "10.88.0.6", "192.168.50.2:8080"),
    ("wan", "tcp", "198.51.100.1:9090", "", "host", "198.51.100.2", "198.51.100.1:9090"),
    ("wan", "tcp", "[2001:db8:100::1]:8080", "", "c1", "2001:db8:100::2", "[fd88::5]:80"),
    ("wan", "udp", "[2001:db8:100::1]:5353", "", "c1", "2001:db8:100::2", "[fd88::5]:53"),
    ("host", "tcp", "[::1]:8080", "", "host", "::1", "[::1]:8080"),
    ("host", "tcp", "[2001:db8:100::1]:8080", "", "c1", "2001:db8:100::1", "[fd88::5]:80"),
    ("c1", "tcp", "[2001:db8:100::1]:8080", "", "c1", "fd88::1", "[fd88::5]:80"),
    ("c2", "tcp", "[2001:db8:100::1]:8080", "", "c1", "fd88::1", "[fd88::5]:80"),
    ("wan", "tcp", "[fd50::2]:8080", "", "lan", "2001:db8:100::2", "[fd50::2]:8080"),
    ("c1", "tcp", "198.51.100.7:8080", "", "c2", "10.88.0.1", "10.88.0.6:80"),
    ("c2", "tcp", "198.51.100.7:8080", "", "c2", "10.88.0.1", "10.88.0.6:80"),
    ("wan", "tcp", "198.51.100.1:7005", "", "c1", "198.51.100.2", "10.88.0.5:7005"),
    ("wan", "tcp", "198.51.100.1:8101", "", "c1", "198.51.100.2", "10.88.0.5:7002"),
    ("wan", "tcp", "198.51.100.1:9443", "", "c1", "198.51.100.2", "10.88.0.5:9443"),
    ("lan", "tcp", "198.51.100.1:9443", "", "host", "192.168.50.2", "198.51.100.1:9443"),
    ("host", "tcp", "198.51.100.1:7005", "", "c1", "198.51.100.1", "10.88.0.5:7005"),
    ("host", "tcp", "127.0.0.1:8101", "", "c1", "10.88.0.1", "10.88.0.5:7002"),
];

/// What holds with a policy for the rest of the world that is none of these flows' business.
fn policy() -> Policy {
    let localhost = |forward| Forward { localhost: true, hairpin: Hairpin::Auto, ..forward };
    let both =
        |number, ports, port| Forward { v6: "fd88::5".parse().ok(), ..forward(number, ports, "10.88.0.5", port) };
    let forwards = vec![
        localhost(both(1, (8080, 8080), 80)),
        localhost(Forward { protocols: vec![Protocol::Udp], ..both(2, (5353, 5353), 53) }),
        Forward {
            host: HostAddress::One("198.51.100.7".parse().unwrap()),
            hairpin: Hairpin::Auto,
            ..forward(3, (8080, 8080), "10.88.0.6", 80)
        },
        localhost(forward(4, (7000, 7010), "10.88.0.5", 7000)),
        localhost(forward(5, (8100, 8102), "10.88.0.5", 7001)),
        localhost(Forward { sources: sources(&["198.51.100.0/24"]), ..forward(6, (9443, 9443), "10.88.0.5", 9443) }),
    ];
    let exempt = sources(&["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]);
    Policy { forwards, exempt, enable_ipv6: true, ..default_policy() }
}

/// Others around those, so that there are trees.
fn in_a_crowd() -> Policy {
    let mut policy = policy();
    for number in 7..400 {
        let port = 10_000 + (number * 97 % 50_000) as u16;
        let own = HostAddress::One(format!("198.51.100.{}", number % 30 + 1).parse().unwrap());
        let mut other = forward(number, (port, port), "10.88.0.6", 81);
        other.localhost = number % 5 == 0;
        other.host = if number % 3 == 0 && !other.localhost { own } else { HostAddress::Any };
        policy.forwards.push(other);
    }
    policy
}

fn facts() -> HostFacts {
    let reached =
        |network: &str| Reached { interface: "cni0".into(), networks: vec![network.parse().expect("a network")] };
    let targets = [("10.88.0.5", "10.88.0.0/16"), ("10.88.0.6", "10.88.0.0/16"), ("fd88::5", "fd88::/64")];
    let targets = targets.map(|(target, network)| (target.parse().unwrap(), reached(network)));
    HostFacts { targets: Arc::new(targets.into_iter().collect()), ..HostFacts::default() }
}

/// The hosts around the gateway.
struct Around {
    wan: Namespace,
    lan: Namespace,
    c1: Namespace,
    c2: Namespace,
}

impl Around {
    fn new(gateway: &Namespace) -> Self {
        let node = |name| Namespace::new(name).unwrap();
        let around = Around { wan: node("wan"), lan: node("lan"), c1: node("c1"), c2: node("c2") };
        gateway.sysctl("net/ipv4/ip_forward", "1");
        gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
        // Else a frame that goes back out of its own port is lost, whatever the rules say.
        for sysctl in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
            if gateway.enter(|| std::fs::exists(format!("/proc/sys/{sysctl}"))).is_ok_and(|there| there) {
                gateway.sysctl(sysctl, "0");
            }
        }
        gateway.ip("link add cni0 type bridge\nlink set cni0 up\naddress add 10.88.0.1/16 dev cni0\n\
            address add fd88::1/64 dev cni0 nodad\n");
        for (peer, interface, node) in [
            ("up0", "wan", &around.wan),
            ("lan0", "lan", &around.lan),
            ("v1", "c1", &around.c1),
            ("v2", "c2", &around.c2),
        ] {
            let path = node.path();
            gateway.must("ip", &["link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", &path]);
            gateway.ip(&format!("link set {peer} up\n"));
            node.ip("link set eth0 up\n");
            if interface.starts_with('c') {
                gateway.ip(&format!("link set {peer} master cni0\n"));
            }
        }
        gateway.ip("address add 198.51.100.1/24 dev up0\naddress add 198.51.100.7/24 dev up0\n\
            address add 2001:db8:100::1/64 dev up0 nodad\naddress add 2001:db8:100::7/64 dev up0 nodad\n\
            address add 192.168.50.1/24 dev lan0\naddress add fd50::1/64 dev lan0 nodad\n");
        around.wan.ip("address add 198.51.100.2/24 dev eth0\naddress add 2001:db8:100::2/64 dev eth0 nodad\n\
            route add default via 198.51.100.1\nroute add default via 2001:db8:100::1\n");
        around.lan.ip("address add 192.168.50.2/24 dev eth0\naddress add fd50::2/64 dev eth0 nodad\n\
            route add default via 192.168.50.1\nroute add default via fd50::1\n");
        for (node, last) in [(&around.c1, 5), (&around.c2, 6)] {
            node.ip(&format!(
                "address add 10.88.0.{last}/16 dev eth0\naddress add fd88::{last}/64 dev eth0 nodad\n\
                route add default via 10.88.0.1\nroute add default via fd88::1\n"
            ));
        }
        // What the agent will do for `localhost`.
        gateway.sysctl("net/ipv4/conf/cni0/route_localnet", "1");
        answer_tcp(gateway, "host", &[8080, 9090, 9443, 8101, 7005]);
        answer_tcp(&around.lan, "lan", &[8080, 9090, 80]);
        answer_tcp(&around.c1, "c1", &[80, 8080, 7001, 7002, 7003, 7005, 9443]);
        answer_tcp(&around.c2, "c2", &[80, 81, 8080]);
        answer_udp(gateway, "host", "198.51.100.1:5353");
        answer_udp(&around.c1, "c1", "10.88.0.5:53");
        answer_udp(&around.c1, "c1", "[fd88::5]:53");
        around
    }
}

/// Says who answers, whom, and where, until the test's process ends.
fn answer_tcp(node: &Namespace, name: &'static str, ports: &[u16]) {
    for port in ports {
        let listener = node.enter(|| TcpListener::bind(("::", *port))).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (Ok(from), Ok(at)) = (stream.peer_addr(), stream.local_addr()) else { continue };
                let _ = stream.write_all(line(name, from, at).as_bytes());
            }
        });
    }
}

fn answer_udp(node: &Namespace, name: &'static str, at: &'static str) {
    let at: SocketAddr = at.parse().unwrap();
    let socket = node.enter(|| UdpSocket::bind(at)).unwrap();
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
            let _ = socket.send_to(line(name, from, at).as_bytes(), from);
        }
    });
}

fn line(name: &str, from: SocketAddr, at: SocketAddr) -> String {
    let canonical = |address: IpAddr| address.to_canonical();
    format!("{name} {} {}", canonical(from.ip()), SocketAddr::new(canonical(at.ip()), at.port()))
}

/// What comes back.
fn ask(node: &Namespace, protocol: &str, to: &str, bound: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let kind = if protocol == "tcp" { Type::STREAM } else { Type::DGRAM };
    let talk = || -> std::io::Result<String> {
        let mut socket = Socket::new(Domain::for_address(to), kind, None)?;
        if let Ok(address) = bound.parse::<IpAddr>() {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        socket.connect_timeout(&to.into(), DEADLINE)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        let mut answer = String::new();
        if kind == Type::STREAM {
            socket.read_to_string(&mut answer)?;
        } else {
            socket.send(b"?")?;
            let mut bytes = [0; 128];
            let length = socket.read(&mut bytes)?;
            answer.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        Ok(answer)
    };
    node.enter(|| talk().unwrap_or_else(|error| error.to_string()))
}

fn check(mut host: Gateway, policy: Policy) {
    let around = Around::new(&host.namespace);
    host.policy = policy;
    host.facts = facts();
    for family in Family::ALL {
        host.apply_to(family);
    }
    let mut wrong = Vec::new();
    for (client, protocol, to, bound, who, source, at) in FLOWS {
        let node = match client {
            "host" => &host.namespace,
            "wan" => &around.wan,
            "lan" => &around.lan,
            "c1" => &around.c1,
            _ => &around.c2,
        };
        let answer = ask(node, protocol, to, bound);
        if answer != format!("{who} {source} {at}") {
            wrong.push(format!("{client} {protocol} -> {to} {bound}: {answer}, not {who} {source} {at}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), host.save(Family::V4));
    let counted = host.counters().forwards;
    assert_eq!(counted.get(&3), Some(&3), "{counted:?}");
    assert_eq!(counted.get(&4), Some(&2), "{counted:?}");
    // A neighbour sends to a loopback address of the host: it gets nothing, neither from a forward nor from the host.
    around.c2.ip("route add 127.0.0.1/32 via 10.88.0.1 table 7\nrule add to 127.0.0.1 pref 0 lookup 7\n");
    around.c2.sysctl("net/ipv4/conf/all/route_localnet", "1");
    around.c2.ip("route del local 127.0.0.0/8 dev lo table local\nroute del local 127.0.0.1 dev lo table local\n");
    let before = dropped(&host);
    let socket = around.c2.enter(|| UdpSocket::bind("10.88.0.6:0")).unwrap();
    socket.send_to(b"?", "127.0.0.1:5353").unwrap();
    let deadline = std::time::Instant::now() + DEADLINE;
    while dropped(&host) == before {
        assert!(std::time::Instant::now() < deadline, "the guard saw nothing");
        std::thread::yield_now();
    }
}

/// What the guard dropped.
fn dropped(host: &Gateway) -> String {
    let program = format!("iptables-{}", if host.variant.to_string().ends_with("nft") { "nft" } else { "legacy" });
    let listing = host.namespace.must(&program, &["-t", "raw", "-nvxL", "PREROUTING"]);
    let rule = listing.lines().find(|line| line.contains("DROP")).unwrap_or_default();
    rule.split_whitespace().next().unwrap_or_default().to_owned()
}

both_variants! {
    fn every_flow_of_a_few_forwards_gets_where_it_should(host: Gateway) {
        check(host, policy());
    }

    fn every_flow_of_forwards_in_a_crowd_gets_where_it_should(host: Gateway) {
        check(host, in_a_crowd());
    }
}
