//! What the first packet of a new flow costs on its way through the gateway.
//!
//! A datagram sent into a veth pair is carried to the far end within the system call that sent it, so the time of
//! many sends, each to a port of its own, is the time of as many first packets: socket, two hops, conntrack, rules.
//! The destination is in no list, so every packet ends at the masquerade rule. Rounds of all ways are short and
//! interleaved, so that a busy moment of the machine hits them alike.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, Kind, Lab, Namespace, Probe, parse};
use super::lists::{LONE_IPTABLES, LONE_NFT, List, SIZES};
use super::plot::{Line, Look, Plot};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const ROUNDS: usize = 21;
/// About how long a round of one way lasts, apart from the least and the most number of flows.
const ROUND: Duration = Duration::from_millis(8);
const FLOWS: (u16, u16) = (8, 500);
/// Outside, of the range for benchmarks (RFC 2544); nobody has it, so nobody answers.
const DESTINATION: &str = "198.18.0.1";

/// A way of doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// No rules, and so no connection tracking either.
    NoNat,
    /// One masquerade rule, made by this program.
    Lone(&'static str),
    /// The service on a backend.
    Ours(&'static str),
    /// The Go agent's rules on an iptables, for prefixes of a length.
    Linear(&'static str, u8),
}

/// Every way that has a list.
const WITH_LIST: [Way; 6] = [
    Way::Ours("nftables"),
    Way::Ours("iptables-nft"),
    Way::Ours("iptables-legacy"),
    Way::Linear("iptables-nft", 24),
    Way::Linear("iptables-nft", 28),
    Way::Linear("iptables-legacy", 24),
];

impl Way {
    fn name(self) -> String {
        match self {
            Way::NoNat => "no NAT, no connection tracking".to_owned(),
            Way::Lone(tool) => format!("{tool}, a lone masquerade rule"),
            Way::Ours(backend) => format!("{backend}, ours"),
            Way::Linear(tool, length) => format!("{tool}, linear rules, /{length}"),
        }
    }

    fn set_up(self, lab: &Lab, count: u32) {
        let gateway = &lab.gateway;
        match self {
            Way::NoNat => {}
            Way::Lone("nftables") => restore(gateway, "nft", &["-f", "-"], LONE_NFT),
            Way::Lone(tool) => restore(gateway, &format!("{tool}-restore"), &["-w"], LONE_IPTABLES),
            Way::Ours(backend) => {
                let config = format!("backend: {backend}\n{}", List::of(count).config());
                Agent::new(gateway, BINARY, "").apply(&config);
            }
            Way::Linear(tool, length) => {
                let text = List { count, length }.go_agent();
                restore(gateway, &format!("{tool}-restore"), &["--noflush", "-w"], &text);
            }
        }
    }
}

fn restore(gateway: &Namespace, program: &str, arguments: &[&str], text: &str) {
    let output = gateway.run_with_input(program, arguments, text);
    assert!(output.status.success(), "{program}: {output:?}");
}

/// A way with a list of a size, set up in a lab of its own.
struct Variant {
    way: Way,
    count: u32,
    lan: Namespace,
    gateway: Namespace,
    // Only kept alive.
    _outside: Namespace,
    flows: u16,
    rounds: Vec<f64>,
}

impl Variant {
    fn new(way: Way, count: u32) -> Self {
        let lab = Lab::build().expect("a lab");
        way.set_up(&lab, count);
        let seen = Probe::new(Kind::Udp, parse(DESTINATION)).source_seen(&lab.lan, &lab.observer);
        let expected = parse(if way == Way::NoNat { "192.168.77.2" } else { "203.0.113.1" });
        assert_eq!(seen, Some(expected), "{}: the far end sees what it should", way.name());
        // The packet sockets of the observer would cost a copy of every packet: only the nodes are kept.
        let Lab { lan, gateway, outside, .. } = lab;
        let mut variant = Variant { way, count, lan, gateway, _outside: outside, flows: FLOWS.0, rounds: Vec::new() };
        let flows = ROUND.as_secs_f64() * 1e6 / variant.send();
        variant.flows = (flows as u16).clamp(FLOWS.0, FLOWS.1);
        variant
    }

    fn round(&mut self) {
        let micros = self.send();
        self.rounds.push(micros);
    }

    /// Opens the flows; microseconds for each.
    fn send(&self) -> f64 {
        self.gateway.run("conntrack", &["-F"]);
        let micros = self.lan.enter(|| {
            let socket = UdpSocket::bind("192.168.77.2:0").expect("a socket");
            let send = |port| {
                socket.send_to(b"x", SocketAddr::new(parse(DESTINATION), port)).expect("it is sent");
            };
            // ForeignRules are resolved and caches filled before the clock starts.
            (1000..1008).for_each(send);
            let start = Instant::now();
            (10_000..10_000 + self.flows).for_each(send);
            start.elapsed().as_secs_f64() * 1e6 / f64::from(self.flows)
        });
        if self.way != Way::NoNat {
            let path = "/proc/sys/net/netfilter/nf_conntrack_count";
            let count = self.gateway.enter(|| std::fs::read_to_string(path)).expect(path);
            let count: u16 = count.trim().parse().expect("a number");
            assert!(count >= self.flows, "{}: {count} flows of {} were tracked", self.way.name(), self.flows);
        }
        micros
    }

    fn figure(&self) -> Figure {
        let size = if self.has_list() { format!(", {}", super::lists::grouped(self.count)) } else { String::new() };
        Figure::new(format!("{}{size}", self.way.name()), "µs", self.rounds.clone())
    }

    fn has_list(&self) -> bool {
        WITH_LIST.contains(&self.way)
    }
}

/// Every way at every size, and the picture of it.
pub fn measure() -> (Vec<Figure>, Plot) {
    let without = [Way::NoNat, Way::Lone("nftables"), Way::Lone("iptables-nft"), Way::Lone("iptables-legacy")];
    let with = SIZES.into_iter().flat_map(|count| WITH_LIST.into_iter().map(move |way| (way, count)));
    let ways = without.into_iter().map(|way| (way, 0)).chain(with);
    let mut variants: Vec<Variant> = ways.map(|(way, count)| Variant::new(way, count)).collect();
    for _ in 0..ROUNDS {
        variants.iter_mut().for_each(Variant::round);
    }
    let figures = variants.iter().map(|variant| beside(variant, &variants)).collect();
    (figures, plot(&variants))
}

/// The figure of a variant beside the lone rule of its own tool, and ours beside the linear rules.
fn beside(variant: &Variant, all: &[Variant]) -> Figure {
    let figure = variant.figure();
    let find = |way, count| all.iter().find(|other| other.way == way && other.count == count).map(Variant::figure);
    let at_100k = variant.count == 100_000;
    let (tool, limit) = match variant.way {
        Way::NoNat | Way::Lone(_) => return figure,
        Way::Ours("nftables") => ("nftables", at_100k.then_some(1.08)),
        Way::Ours(tool) => (tool, at_100k.then_some(1.15)),
        Way::Linear(tool, _) => (tool, None),
    };
    let Some(lone) = find(Way::Lone(tool), 0) else { return figure };
    let figure = figure.times(&lone, "a lone rule", limit);
    let (Way::Ours(_), Some(linear)) = (variant.way, find(Way::Linear("iptables-nft", 24), variant.count)) else {
        return figure;
    };
    let least = (variant.way == Way::Ours("iptables-nft") && variant.count == 10_000).then_some(40.0);
    let figure = figure.less_than(&linear, "linear iptables-nft", least);
    match (variant.way, find(Way::Linear("iptables-legacy", 24), variant.count)) {
        (Way::Ours("iptables-legacy"), Some(linear)) => figure.less_than(&linear, "linear iptables-legacy", None),
        _ => figure,
    }
}

fn plot(variants: &[Variant]) -> Plot {
    let line = |way: Way, look| {
        let points = |variant: &Variant| -> Vec<(f64, f64)> {
            let median = variant.figure().median();
            let sizes: &[u32] = if variant.has_list() { &[variant.count] } else { &[SIZES[0], SIZES[3]] };
            sizes.iter().map(|&size| (f64::from(size), median)).collect()
        };
        let points = variants.iter().filter(|variant| variant.way == way).flat_map(points).collect();
        Line { name: way.name(), look, points }
    };
    Plot {
        title: "First packet of a new flow through the gateway",
        x: "exempt CIDRs",
        y: "µs per flow",
        lines: vec![
            line(Way::Linear("iptables-nft", 24), Look::Theirs(0)),
            line(Way::Linear("iptables-nft", 28), Look::Theirs(1)),
            line(Way::Linear("iptables-legacy", 24), Look::Theirs(2)),
            line(Way::Ours("iptables-nft"), Look::Ours(0)),
            line(Way::Ours("iptables-legacy"), Look::Ours(1)),
            line(Way::Ours("nftables"), Look::Ours(2)),
            line(Way::Lone("nftables"), Look::Floor(0)),
            line(Way::NoNat, Look::Floor(1)),
        ],
    }
}
