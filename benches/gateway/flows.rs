//! What a flow costs besides the length of its list: where it goes, what else is in the policy, and the packets behind
//! its first one. Measured as in [`super::first_packet`]: all ways of a group by turns, in labs of their own; but by the processor
//! time of the thread that sends.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, Lab, Namespace, parse};
use super::lists::{self, LONE_NFT, List};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(8);
const FLOWS: (u16, u16) = (8, 500);
/// Outside, of the range for benchmarks (RFC 2544); nobody has it, so nobody answers.
const OUTSIDE: &str = "198.18.0.1";
const OUTSIDE_V6: &str = "2001:db8:198::1";
/// In a /16 of every list (IPv6: a /32), the first one between its networks, the second one in one of them.
const INSIDE: &str = "10.0.1.1";
const INSIDE_V6: &str = "fd00:0:1::1";
const EXEMPT: &str = "10.0.0.1";
const EXEMPT_V6: &str = "fd00::1";
/// Who sends.
const LAN: &str = "192.168.77.2";
const LAN_V6: &str = "fd00:77::2";
/// The gateway's own address in the LAN.
const HOST: &str = "192.168.77.1";
/// So many forwards, from this port on.
const FORWARDS: u16 = 10_000;
const FIRST_PORT: u16 = 10_000;

/// A stateful firewall, as most gateways have one.
const FIREWALL: &str = "table inet firewall {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		ct state invalid drop
		iifname \"lan0\" accept
	}
}
";

/// Whatever a host sends is tracked.
const TRACKED: &str = "table inet tracked {
	chain output {
		type filter hook output priority 0; policy accept;
		ct state new accept
	}
}
";

/// Which packets are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packets {
    /// The first one of each flow, to ports all over those that are forwarded.
    First,
    /// The same to ports next to each other.
    FirstNear,
    /// Those of one flow behind its first one.
    Later,
}

/// One way, and what it is set beside.
struct Way {
    name: String,
    /// Of the service; without one it does not run.
    config: Option<String>,
    /// What nft loads before.
    rules: &'static str,
    to: &'static str,
    packets: Packets,
    /// Another way of its group, what that is called, and how many times its cost this one may have, if that is a goal.
    beside: Option<(usize, &'static str, Option<f64>)>,
}

impl Way {
    fn ours(name: impl Into<String>, config: String, to: &'static str) -> Self {
        Way { name: name.into(), config: Some(config), rules: "", to, packets: Packets::First, beside: None }
    }

    fn lone() -> Self {
        let name = "nftables, a lone masquerade rule".to_owned();
        Way { name, config: None, rules: LONE_NFT, to: OUTSIDE, packets: Packets::First, beside: None }
    }

    fn beside(self, other: usize, name: &'static str, limit: impl Into<Option<f64>>) -> Self {
        Way { beside: Some((other, name, limit.into())), ..self }
    }
}

/// A way, set up.
struct Lane {
    way: Way,
    lan: Namespace,
    gateway: Namespace,
    // Only kept alive.
    _outside: Namespace,
    flows: u16,
    rounds: Vec<f64>,
}

impl Lane {
    fn new(way: Way) -> Self {
        let Lab { lan, gateway, outside, .. } = Lab::build().expect("a lab");
        if !way.rules.is_empty() {
            let output = gateway.run_with_input("nft", &["-f", "-"], way.rules);
            assert!(output.status.success(), "{}: {output:?}", way.name);
        }
        if let Some(config) = &way.config {
            Agent::new(&gateway, BINARY, "").apply(config);
        }
        let mut lane = Lane { way, lan, gateway, _outside: outside, flows: FLOWS.0, rounds: Vec::new() };
        let flows = ROUND.as_secs_f64() * 1e6 / lane.send();
        lane.flows = (flows as u16).clamp(FLOWS.0, FLOWS.1);
        lane
    }

    fn round(&mut self) {
        let micros = self.send();
        self.rounds.push(micros);
    }

    /// Microseconds for each packet.
    fn send(&self) -> f64 {
        self.gateway.run("conntrack", &["-F"]);
        let to: IpAddr = parse(self.way.to);
        let (from, family) = if to.is_ipv4() { (LAN, "ipv4") } else { (LAN_V6, "ipv6") };
        let micros = self.lan.enter(|| {
            let socket = UdpSocket::bind((parse(from), 0)).expect("a socket");
            let send = |number: u16| {
                let port = match self.way.packets {
                    Packets::First => FIRST_PORT + number * 19 % FORWARDS,
                    Packets::FirstNear => FIRST_PORT + number,
                    Packets::Later => FIRST_PORT,
                };
                socket.send_to(b"x", SocketAddr::new(to, port)).expect("it is sent");
            };
            (FLOWS.1..FLOWS.1 + 8).for_each(send);
            let start = processor_time();
            (0..self.flows).for_each(send);
            (processor_time() - start) * 1e6 / f64::from(self.flows)
        });
        let tracked = self.gateway.must("conntrack", &["-L", "-f", family, "-p", "udp"]);
        let there = tracked.lines().filter(|line| line.contains(&format!("src={from}"))).count();
        let expected = if self.way.packets == Packets::Later { 1 } else { usize::from(self.flows) };
        assert!(there >= expected, "{}: {there} flows of {expected} were tracked", self.way.name);
        if self.way.to == HOST {
            let forwarded = tracked.lines().filter(|line| line.contains(&format!("src={OUTSIDE}"))).count();
            assert!(forwarded >= expected, "{}: {forwarded} flows of {expected} were forwarded", self.way.name);
        }
        micros
    }
}

/// Of this thread, in seconds: the whole way of a packet is within its system call, and what other programs take is not.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn measured(ways: Vec<Way>) -> Vec<Figure> {
    let mut lanes: Vec<Lane> = ways.into_iter().map(Lane::new).collect();
    for _ in 0..ROUNDS {
        lanes.iter_mut().for_each(Lane::round);
    }
    let figures: Vec<_> =
        lanes.iter().map(|lane| Figure::new(lane.way.name.clone(), "µs", lane.rounds.clone())).collect();
    let beside = |(lane, figure): (&Lane, &Figure)| match lane.way.beside {
        Some((other, name, limit)) => figure.clone().times(&figures[other], name, limit),
        None => figure.clone(),
    };
    lanes.iter().zip(&figures).map(beside).collect()
}

/// Where a flow goes, and the longest list.
pub fn destinations() -> Vec<Figure> {
    let with = |count| format!("backend: nftables\n{}", List::of(count).config());
    let beside_lone = |name, config, to, limit| Way::ours(name, config, to).beside(0, "a lone rule", limit);
    measured(vec![
        Way::lone(),
        beside_lone("nftables, default policy", "backend: nftables\n".to_owned(), OUTSIDE, 1.10),
        beside_lone("nftables, 100,000, far from all of them", with(100_000), OUTSIDE, 1.08),
        beside_lone("nftables, 100,000, in a /16 with some of them", with(100_000), INSIDE, 1.17),
        beside_lone("nftables, 100,000, in one of them", with(100_000), EXEMPT, 1.10),
        beside_lone("nftables, 1,000,000, far from all of them", with(1_000_000), OUTSIDE, 1.25),
        beside_lone("nftables, 1,000,000, in a /16 with some of them", with(1_000_000), INSIDE, 1.25),
    ])
}

/// The same in IPv6, with a list of /48.
pub fn destinations_v6() -> Vec<Figure> {
    let with = |list: String| format!("backend: nftables\nenableIPv6: true\n{list}");
    let list = || with(lists::config_v6(100_000));
    let ours = |name, config, to| Way::ours(name, config, to).beside(0, "a lone rule", None);
    measured(vec![
        Way { to: OUTSIDE_V6, ..Way::lone() },
        ours("nftables, default policy", with(String::new()), OUTSIDE_V6),
        ours("nftables, 100,000, far from all of them", list(), OUTSIDE_V6),
        ours("nftables, 100,000, in a /32 with some of them", list(), INSIDE_V6),
        ours("nftables, 100,000, in one of them", list(), EXEMPT_V6),
    ])
}

/// Entries of `egress` that flows of the LAN are not of, and one that takes them.
pub fn entries() -> Vec<Figure> {
    let with = |backend: &str, count: u8| {
        let others = (1..count).map(|number| format!("- {{sourceCIDRs: [10.9.{number}.0/24], snat: none}}\n"));
        let last = "- {sourceCIDRs: [192.168.77.0/24]}\n".to_owned();
        format!("backend: {backend}\negress:\n{}", others.chain([last]).collect::<String>())
    };
    let ways = |backend| {
        let name = |count: u8| format!("{backend}, {count} of egress, the last one decides");
        let one = Way::ours(name(1), with(backend, 1), OUTSIDE);
        [one, Way::ours(name(16), with(backend, 16), OUTSIDE)]
    };
    let [one, sixteen] = ways("nftables");
    let [one_iptables, sixteen_iptables] = ways("iptables-nft");
    measured(vec![
        one,
        sixteen.beside(0, "one entry", 1.25),
        one_iptables,
        sixteen_iptables.beside(2, "one entry", 1.25),
    ])
}

/// Port forwards: flows that they take, those that are masqueraded on their way, and flows that only pass by.
pub fn forwards() -> Vec<Figure> {
    let config = |backend: &str, forwards: &str| format!("backend: {backend}\n{forwards}");
    let last = FIRST_PORT + FORWARDS - 1;
    let to = |ports: String, hairpin: &str| {
        format!("- {{hostPort: {ports}, protocol: udp, address: {OUTSIDE}, hairpin: {hairpin}}}\n")
    };
    let one = |hairpin| format!("portForwards:\n{}", to(format!("{FIRST_PORT}-{last}"), hairpin));
    let many = |hairpin| {
        let each = (FIRST_PORT..=last).map(|port| to(port.to_string(), hairpin));
        format!("portForwards:\n{}", each.collect::<String>())
    };
    ["nftables", "iptables-nft", "iptables-legacy"]
        .into_iter()
        .flat_map(|backend| {
            let way =
                |what: &str, forwards: &str, to| Way::ours(format!("{backend}, {what}"), config(backend, forwards), to);
            measured(vec![
                way("one forward, hit", &one("never"), HOST),
                way("10,000 forwards, hit", &many("never"), HOST).beside(0, "one forward", 1.25),
                Way {
                    packets: Packets::FirstNear,
                    ..way("10,000 forwards, hits of ports next to each other", &many("never"), HOST)
                }
                .beside(0, "one forward", 1.25),
                way("one forward, hit and hairpin", &one("always"), HOST),
                way("10,000 forwards, hit and hairpin", &many("always"), HOST).beside(3, "one forward", 1.25),
                way("no forward, passing by", "", OUTSIDE),
                way("10,000 forwards, passing by", &many("never"), OUTSIDE).beside(5, "without forwards", 1.05),
            ])
        })
        .collect()
}

/// The packets behind the first one, beside a stateful firewall.
pub fn open() -> Vec<Figure> {
    let beside_firewall = |name, count: u32| {
        let list = if count > 0 { List::of(count).config() } else { "nonMasqueradeCIDRs: []\n".to_owned() };
        let ours = Way::ours(name, format!("backend: nftables\n{list}"), OUTSIDE);
        Way { rules: FIREWALL, packets: Packets::Later, ..ours }
    };
    measured(vec![
        beside_firewall("firewall, nftables, no list", 0),
        beside_firewall("firewall, nftables, 100,000", 100_000).beside(0, "without a list", 1.02),
    ])
}

/// So many more connections in the table of connection tracking as it has buckets, of other namespaces: they share it.
pub fn tracked() -> Vec<Figure> {
    let buckets = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_buckets").expect("connection tracking");
    let buckets: u32 = buckets.trim().parse().expect("a number");
    let mut fillers = Vec::new();
    let mut lane = Lane::new(Way::ours("", "backend: nftables\n".to_owned(), OUTSIDE));
    let figures = [0, 1, 4].map(|times| {
        // A namespace has room for as many as the table has buckets.
        fillers.extend((fillers.len()..times).map(|_| filled(buckets / 100 * 99)));
        lane.rounds.clear();
        (0..ROUNDS).for_each(|_| lane.round());
        let name = match times {
            0 => "nftables, default policy, an empty table".to_owned(),
            _ => format!("nftables, default policy, {times} × as many connections as buckets"),
        };
        Figure::new(name, "µs", lane.rounds.clone())
    });
    let [empty, ..] = figures.clone();
    figures.into_iter().enumerate().map(|(at, it)| if at == 0 { it } else { it.times(&empty, "empty", None) }).collect()
}

/// A namespace that tracks so many connections.
fn filled(connections: u32) -> Namespace {
    let node = Namespace::new("elsewhere").expect("a namespace");
    node.ip("link add out0 type veth peer name in0\nlink set in0 up\nlink set out0 arp off up\n\
         address add 192.168.78.1/24 dev out0\nroute add default dev out0");
    let output = node.run_with_input("nft", &["-f", "-"], TRACKED);
    assert!(output.status.success(), "{output:?}");
    node.sysctl("net/netfilter/nf_conntrack_udp_timeout", "3600");
    node.enter(|| {
        let socket = UdpSocket::bind("192.168.78.1:0").expect("a socket");
        for number in 0..connections {
            let to = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number / 50_000);
            socket.send_to(b"x", (to, 1 + (number % 50_000) as u16)).expect("it is sent");
        }
    });
    let count = node.enter(|| fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")).expect("a count");
    assert_eq!(count.trim(), connections.to_string());
    node
}
