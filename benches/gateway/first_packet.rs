//! What the first packet of a new flow costs on its way through the gateway.
//!
//! A datagram sent into a veth pair is carried to the far end within the system call that sent it, so the time of
//! many sends, each to a port of its own, is the time of as many first packets: socket, two hops, conntrack, rules.
//! Rounds of all variants are interleaved, so that a busy moment of the machine hits them alike.

use super::BINARY;
use super::figure::{Figure, Goal};
use super::lab::{Agent, Kind, Lab, Namespace, Probe, parse};
use super::lists::{LONE_MASQUERADE, List};
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

const ROUNDS: usize = 9;
const FLOWS: u16 = 2000;
/// Outside, of the range for benchmarks (RFC 2544); nobody has it, so nobody answers.
const DESTINATION: &str = "198.18.0.1";

/// One way of doing it, set up in a lab of its own.
struct Variant {
    name: String,
    lan: Namespace,
    gateway: Namespace,
    // Only kept alive.
    _outside: Namespace,
    rounds: Vec<f64>,
}

impl Variant {
    fn new(name: impl Into<String>, masquerades: bool, set_up: impl FnOnce(&Lab)) -> Self {
        let name = name.into();
        let lab = Lab::build().expect("a lab");
        set_up(&lab);
        let seen = Probe::new(Kind::Udp, parse(DESTINATION)).source_seen(&lab.lan, &lab.observer);
        let expected = parse(if masquerades { "203.0.113.1" } else { "192.168.77.2" });
        assert_eq!(seen, Some(expected), "{name}: the far end sees what it should");
        // The packet sockets of the observer would cost a copy of every packet: only the nodes are kept.
        let Lab { lan, gateway, outside, .. } = lab;
        Variant { name, lan, gateway, _outside: outside, rounds: Vec::new() }
    }

    fn service(backend: &str, list: List) -> Self {
        Variant::new(format!("{backend}, ours, {list}"), true, |lab| {
            let config = format!("backend: {backend}\n{}", list.config());
            Agent::new(&lab.gateway, BINARY, "").apply(&config);
        })
    }

    fn linear(backend: &str, list: List) -> Self {
        Variant::new(format!("{backend}, linear rules, {list}"), true, |lab| {
            restore(&lab.gateway, backend, &list.go_agent());
        })
    }

    /// Microseconds per flow.
    fn round(&mut self) {
        self.gateway.run("conntrack", &["-F"]);
        let micros = self.lan.enter(|| {
            let socket = UdpSocket::bind("192.168.77.2:0").expect("a socket");
            let send = |port| {
                socket.send_to(b"x", SocketAddr::new(parse(DESTINATION), port)).expect("it is sent");
            };
            // Neighbours are resolved before the clock starts.
            send(9);
            let start = Instant::now();
            (10_000..10_000 + FLOWS).for_each(send);
            start.elapsed().as_secs_f64() * 1e6 / f64::from(FLOWS)
        });
        self.rounds.push(micros);
    }

    fn figure(self) -> Figure {
        Figure::new(self.name, "µs", self.rounds)
    }
}

fn restore(gateway: &Namespace, backend: &str, text: &str) {
    let output = gateway.run_with_input(&format!("{backend}-restore"), &["--noflush", "-w"], text);
    assert!(output.status.success(), "{backend}: {output:?}");
}

/// What is compared: the Go agent's rules with ours, on the same backend with the same list. The first has the goal.
const PAIRS: [(&str, List); 5] = [
    ("iptables-nft", List { count: 10_000, length: 24 }),
    ("iptables-nft", List { count: 10_000, length: 28 }),
    ("iptables-nft", List { count: 10, length: 24 }),
    ("iptables-legacy", List { count: 10_000, length: 24 }),
    ("iptables-legacy", List { count: 10, length: 24 }),
];

/// Ours and the Go agent's, beside no nat and the least nat.
pub fn measure() -> Vec<Figure> {
    let mut variants = vec![
        Variant::new("no nat at all", false, |_| ()),
        Variant::new("iptables-nft, a lone masquerade rule", true, |lab| {
            restore(&lab.gateway, "iptables-nft", LONE_MASQUERADE);
        }),
    ];
    for (backend, list) in PAIRS {
        variants.push(Variant::linear(backend, list));
        variants.push(Variant::service(backend, list));
    }
    for _ in 0..ROUNDS {
        variants.iter_mut().for_each(Variant::round);
    }
    compare(variants.into_iter().map(Variant::figure).collect())
}

/// Puts each of ours beside its linear twin, and the others beside the lone rule.
fn compare(figures: Vec<Figure>) -> Vec<Figure> {
    let lone = figures[1].clone();
    let mut compared = vec![figures[0].clone().times(&lone), lone.clone()];
    for pair in figures[2..].chunks(2) {
        let ours = pair[1].clone().cheaper_than(&pair[0]);
        let is_first = compared.len() == 2;
        compared.push(pair[0].clone().times(&lone));
        compared.push(if is_first { ours.goal(Goal::RatioAtLeast(40.0)) } else { ours });
    }
    compared
}
