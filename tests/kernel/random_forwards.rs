//! Random port forwards, random flows: who answers, at which port and what source it sees is what [`Policy::forward`] and
//! [`Policy::verdict`] say, on every backend; and while one configuration follows the other, no flow that both treat alike
//! gets anything else.

use crate::forwards::{Net, TARGETS, ask, udp};
use crate::lab;
use crate::random;
use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::policy::{Arrival, Flow, ForwardVerdict, Policy, Protocol, Verdict};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Configurations for each backend, and flows for each of them.
const CONFIGURATIONS: usize = 8;
const FLOWS: usize = 40;
/// What answers, besides what is there in every test.
const SERVED: [u16; 4] = [81, 53, 9443, 8443];
/// What the host answers itself.
const HOST_PORTS: [u16; 6] = [8080, 9090, 5353, 8081, 8443, 9443];
/// In no random forward.
const ALWAYS_FORWARDED: u16 = 6000;
const NEVER_FORWARDED: u16 = 9090;

/// Who sends: the node, the interface that it comes in through, and its addresses.
const SENDERS: [(&str, &str, [&str; 2]); 5] = [
    ("wan", "up0", ["198.51.100.2", "2001:db8:100::2"]),
    ("lan", "lan0", ["192.168.50.2", "fd50::2"]),
    ("c1", "cni0", ["10.88.0.5", "fd88::5"]),
    ("c2", "cni0", ["10.88.0.6", "fd88::6"]),
    ("host", "", ["", ""]),
];
const OWN_ADDRESSES: [&str; 8] = [
    "198.51.100.1",
    "198.51.100.7",
    "192.168.50.1",
    "10.88.0.1",
    "2001:db8:100::1",
    "2001:db8:100::7",
    "fd50::1",
    "fd88::1",
];
const LOOPBACK: [&str; 3] = ["127.0.0.1", "127.0.0.5", "::1"];

#[derive(Debug, Clone)]
struct Sent {
    node: &'static str,
    interface: &'static str,
    source: IpAddr,
    to: SocketAddr,
    protocol: &'static str,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let to = prop_oneof![5 => select(OWN_ADDRESSES.to_vec()), 1 => select(LOOPBACK.to_vec())];
    let port = prop_oneof![4 => select(HOST_PORTS.to_vec()), 3 => 7000_u16..7012, 1 => 8079_u16..8084];
    (select(SENDERS.to_vec()), to, port, select(vec!["tcp", "udp"])).prop_map(
        |((node, interface, sources), to, port, protocol)| {
            let to: IpAddr = to.parse().unwrap();
            // Only the host reaches its loopback addresses.
            let (node, interface) = if to.is_loopback() { ("host", "") } else { (node, interface) };
            let source = if node == "host" { to } else { sources[usize::from(to.is_ipv6())].parse().unwrap() };
            Sent { node, interface, source, to: SocketAddr::new(to, port), protocol }
        },
    )
}

impl Sent {
    fn protocol(&self) -> Protocol {
        if self.protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp }
    }

    fn arrival(&self) -> Arrival {
        Arrival {
            source: Some(self.source),
            in_interface: Some(self.interface.to_owned()),
            from_host: self.node == "host",
            destination: self.to.ip(),
            destination_is_local: true,
            protocol: self.protocol(),
            port: self.to.port(),
        }
    }

    /// What it should be answered; `None` where the answer would go past the host.
    fn expected(&self, policy: &Policy) -> Option<String> {
        let ForwardVerdict::To { address, port, .. } = policy.forward(&self.arrival()) else {
            let (own, port) = (self.to.ip(), self.to.port());
            let is_served = HOST_PORTS.contains(&port);
            let refused = || "Connection refused (os error 111)".to_owned();
            return Some(if is_served { format!("host {} {own}:{port}", self.source) } else { refused() });
        };
        let (interface, network, _) = TARGETS.into_iter().find(|(.., target)| *target == address.to_string()).unwrap();
        let network = network.parse().unwrap();
        let flow = Flow {
            source: Some(self.source),
            source_is_local: self.node == "host",
            out_interface: Some(interface.to_owned()),
            protocol: self.protocol(),
            dnated: true,
            destination_port: Some(port),
            network: Some(network),
            ..Flow::forwarded_to(address)
        };
        let of_family = |addresses: [&str; 2]| addresses[usize::from(address.is_ipv6())].parse().unwrap();
        let source: IpAddr = match policy.verdict(&flow).0 {
            Verdict::Masquerade if interface == "cni0" => of_family(["10.88.0.1", "fd88::1"]),
            Verdict::Masquerade => of_family(["192.168.50.1", "fd50::1"]),
            Verdict::Return if self.node != "host" && network.contains(self.source) => return None,
            Verdict::Return => self.source,
            Verdict::Snat(to) => panic!("a forward to {to}"),
        };
        let node = match address.to_string().as_str() {
            "10.88.0.5" | "fd88::5" => "c1",
            "10.88.0.6" | "fd88::6" => "c2",
            _ => "lan",
        };
        Some(format!("{node} {source} {address}:{port}"))
    }
}

/// Clients by the addresses of the nodes, sometimes more than a rule for each is.
fn any_clients() -> impl Strategy<Value = String> {
    let near = vec![
        "198.51.100.0/24",
        "198.51.100.2/32",
        "192.168.50.0/24",
        "10.88.0.0/16",
        "10.88.0.4/31",
        "127.0.0.0/8",
        "'2001:db8:100::/64'",
        "'fd50::/64'",
        "'fd88::5/128'",
    ];
    (subsequence(near, 1..5), prop_oneof![2 => Just(0_u16), 1 => Just(90)]).prop_map(|(near, more)| {
        let far = (0..more).flat_map(|n| [format!("203.0.{}.0/24", 2 * n), format!("'2001:db9:{:x}::/48'", 2 * n)]);
        let all: Vec<_> = near.into_iter().map(str::to_owned).chain(far).collect();
        format!("[{}]", all.join(", "))
    })
}

/// One forward; many of them say what can't be said.
fn any_forward() -> impl Strategy<Value = String> {
    let ports =
        select(vec!["8080", "8081", "8443", "9443", "5353", "8080-8082", "7000-7010", "7003-7005", "7000-7001"]);
    let addresses = select(vec![
        "10.88.0.5",
        "'fd88::5'",
        "[10.88.0.5, 'fd88::5']",
        "[10.88.0.6, 'fd88::6']",
        "[192.168.50.2, 'fd50::2']",
        "192.168.50.2",
    ]);
    let host = select(vec!["", "198.51.100.7", "198.51.100.1", "0.0.0.0", "'::'", "'2001:db8:100::7'", "127.0.0.5"]);
    let interfaces = vec!["up0", "up+", "lan0", "cni0", "'!up0'", "'!lan0'", "'!absent0'"];
    let gate = |clients: BoxedStrategy<String>| prop_oneof![2 => Just(String::new()), 1 => clients];
    let gates = (
        prop_oneof![2 => Just(Vec::new()), 1 => subsequence(interfaces, 1..3)],
        gate(any_clients().boxed()),
        gate(any_clients().boxed()),
    );
    let hairpin = prop_oneof![3 => select(vec!["auto", "always", "never"]).prop_map(str::to_owned), 1 => any_clients()];
    let protocol = select(vec!["tcp", "udp", "[tcp, udp]"]);
    (ports, addresses, host, gates, hairpin, protocol, any::<[bool; 3]>()).prop_map(
        |(ports, address, host, (interfaces, sources, excluded), hairpin, protocol, [shifted, any_host, localhost])| {
            let mut text = format!("hostPort: {ports}, address: {address}, protocol: {protocol}, hairpin: {hairpin}");
            let mut key = |key: &str, value: &str| text += &format!(", {key}: {value}");
            let is_single = !ports.contains('-');
            match (is_single, shifted) {
                (true, true) => key("port", "80"),
                (true, false) if ports == "8081" || ports == "5353" => key("port", "81"),
                (true, false) => {}
                // Only these are answered.
                (false, _) if ports.starts_with('8') => key("port", "7004"),
                (false, true) => key("port", "7009"),
                (false, false) => {}
            }
            if !host.is_empty() && !any_host {
                key("hostIP", host);
            }
            if !interfaces.is_empty() {
                key("inInterfaces", &format!("[{}]", interfaces.join(", ")));
            }
            for (name, clients) in [("sourceCIDRs", sources), ("excludeSourceCIDRs", excluded)] {
                if !clients.is_empty() {
                    key(name, &clients);
                }
            }
            if localhost {
                key("localhost", "true");
            }
            format!("  - {{{text}}}\n")
        },
    )
}

fn policy(forwards: &[String]) -> Option<Policy> {
    let text = format!("enableIPv6: true\nportForwards:\n{}", forwards.concat());
    let path = Path::new("random.yaml").into();
    config::parse(&[SourceText { path, text }], &Flags::default()).ok().map(|config| config.policy)
}

/// As many of some random forwards as can be there together, and sometimes many others.
fn draw(runner: &mut TestRunner) -> (Vec<String>, Policy) {
    let drawn = prop::collection::vec(any_forward(), 1..25);
    let drawn = (drawn, any::<bool>()).new_tree(runner).unwrap().current();
    // To a port where no other one leads: all that lead to one agree on who is masqueraded.
    let always = format!("  - {{hostPort: {ALWAYS_FORWARDED}, address: 10.88.0.5, port: 6001}}\n");
    let mut all = vec![always];
    if drawn.1 {
        let other = |n: u16| format!("  - {{hostPort: {}, address: 10.88.0.6, port: 81}}\n", 10_000 + n * 97);
        all.extend((0..300).map(other));
    }
    for forward in drawn.0 {
        all.push(forward);
        if policy(&all).is_none() {
            all.pop();
        }
    }
    let policy = policy(&all).expect("what is left of them");
    all.retain(|forward| !forward.contains("hostPort: 1"));
    (all, policy)
}

fn net(backend: ip_masq_agent::backend::BackendName) -> Net {
    let net = Net::new(backend);
    net.host.namespace.sysctl("net/ipv4/conf/lan0/route_localnet", "1");
    let ports: Vec<u16> = SERVED.into_iter().chain([8080]).chain(7000..7020).collect();
    net.serve(&net.c2, "c2", &ports, &["10.88.0.6", "fd88::6"]);
    let ports: Vec<u16> = SERVED.into_iter().chain(7000..7020).collect();
    net.serve(&net.lan, "lan", &ports, &["192.168.50.2", "fd50::2"]);
    net.serve(&net.c1, "c1", &[8443, 6001], &["10.88.0.5", "fd88::5"]);
    for (address, port) in OWN_ADDRESSES.iter().chain(&LOOPBACK).flat_map(|own| HOST_PORTS.map(|port| (*own, port))) {
        let at = SocketAddr::new(address.parse().unwrap(), port);
        let socket = net.host.namespace.enter(|| udp(at));
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(format!("host {} {}:{port}", from.ip(), at.ip()).as_bytes(), from);
            }
        });
    }
    net
}

#[test]
fn every_flow_gets_what_the_policy_says() {
    let (seed, mut runner) = random::runner();
    for backend in lab::BACKENDS.iter().copied().filter(|_| lab::possible()) {
        let mut net = net(backend);
        for number in 0..CONFIGURATIONS {
            let (text, policy) = draw(&mut runner);
            net.apply(policy.forwards.clone());
            for _ in 0..FLOWS {
                let sent = any_sent().new_tree(&mut runner).unwrap().current();
                let Some(expected) = sent.expected(&net.host.policy) else { continue };
                let answer = ask(net.node(sent.node), sent.protocol, sent.to, Some(sent.source));
                let said = net.host.policy.forward(&sent.arrival());
                assert_eq!(
                    answer,
                    expected,
                    "SEED={seed}, {backend}, configuration {number}, {sent:?}: {said:?}\n{}\n{}",
                    text.concat(),
                    net.host.listing()
                );
            }
        }
    }
}

#[test]
fn no_flow_is_wrong_while_one_configuration_follows_the_other() {
    let (seed, mut runner) = random::runner();
    for backend in lab::BACKENDS.iter().copied().filter(|_| lab::possible()) {
        let mut net = net(backend);
        let (_, policy) = draw(&mut runner);
        net.apply(policy.forwards);
        let steps: Vec<_> = (0..CONFIGURATIONS).map(|_| draw(&mut runner)).collect();
        let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        let Net { host, wan, .. } = &mut net;
        let wrong = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let to = |port| SocketAddr::new("198.51.100.1".parse().unwrap(), port);
                let flows = [
                    ("tcp", ALWAYS_FORWARDED, "c1 198.51.100.2 10.88.0.5:6001"),
                    ("tcp", NEVER_FORWARDED, "host 198.51.100.2 198.51.100.1:9090"),
                ];
                let mut wrong = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    for (protocol, port, expected) in flows {
                        let answer = ask(wan, protocol, to(port), None);
                        asked.fetch_add(1, Ordering::Relaxed);
                        wrong.extend((answer != expected).then_some((port, answer)));
                    }
                }
                wrong
            });
            for (_, policy) in steps {
                host.policy.forwards = policy.forwards;
                host.apply_all();
                // Some flows between two steps.
                let before = asked.load(Ordering::Relaxed);
                while asked.load(Ordering::Relaxed) < before + 10 && !asking.is_finished() {
                    std::thread::yield_now();
                }
            }
            over.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        });
        assert!(wrong.is_empty(), "SEED={seed}, {backend}: {wrong:?}");
    }
}
