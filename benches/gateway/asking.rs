//! What it costs to ask: `status` and `explain`, and a service that is asked all the time.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, Lab, Namespace};
use super::lists::List;
use super::repair::{FLUSHES, commit_to_commit};
use super::service::Spent;
use ip_masq_agent::service::control::STATUS_NAME;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const COUNT: u32 = 100_000;
/// So many ask each second.
const CLIENTS: u32 = 100;

/// The commands, beside a service with a long list.
pub fn commands() -> Vec<Figure> {
    let mut figures = Vec::new();
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let lab = Lab::build().expect("a lab");
        let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {backend}\n{}", List::of(COUNT).config()));
        let _service = agent.start();
        let time = |command: &str, arguments: &[&str]| -> Vec<f64> {
            let once = || {
                let start = Instant::now();
                agent.must(command, arguments);
                start.elapsed().as_secs_f64() * 1e3
            };
            (0..ROUNDS).map(|_| once()).collect()
        };
        figures.push(Figure::new(format!("{backend}, 'status'"), "ms", time("status", &[])).at_most(10.0));
        let question = ["203.0.113.200", "--from", "192.168.77.2"];
        figures.push(Figure::new(format!("{backend}, 'explain'"), "ms", time("explain", &question)).at_most(30.0));
    }
    figures
}

/// A hundred ordinary users a second, each with a connection of its own to everybody's socket: what that costs the
/// service, and a repair beside it.
pub fn crowd() -> Vec<Figure> {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: nftables\n{}", List::of(COUNT).config()));
    let service = agent.start();
    let socket = agent.runtime().join(STATUS_NAME);
    let share = |_| {
        let (before, start) = (Spent::read(&service).own_ms, Instant::now());
        besieged(&lab.gateway, &socket, || std::thread::sleep(Duration::from_secs(2)));
        (Spent::read(&service).own_ms - before) / start.elapsed().as_secs_f64() / 10.0
    };
    let share = (0..5).map(share).collect();
    drop(service);
    let alone: Vec<f64> = (0..ROUNDS).map(|_| repair(false)).collect();
    let beside: Vec<f64> = (0..ROUNDS).map(|_| repair(true)).collect();
    let added = beside.iter().zip(&alone).map(|(beside, alone)| beside - alone).collect();
    vec![
        Figure::new("nftables, 100,000, share of a core", "%", share).at_most(5.0),
        Figure::new("nftables, a repair when nobody asks", "ms", alone),
        Figure::new("nftables, a repair meanwhile", "ms", beside),
        Figure::new("nftables, what a repair takes longer", "ms", added).at_most(50.0),
    ]
}

/// Milliseconds between the commit that flushed and the next one.
fn repair(is_asked: bool) -> f64 {
    let flush = FLUSHES[0];
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {}\n", flush.backend));
    let _service = agent.start();
    match is_asked {
        true => besieged(&lab.gateway, &agent.runtime().join(STATUS_NAME), || commit_to_commit(&lab, flush)),
        false => commit_to_commit(&lab, flush),
    }
}

/// Does something while others ask.
fn besieged<T>(node: &Namespace, socket: &Path, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| node.enter(|| ask(socket, &over)));
        let result = work();
        over.store(true, Ordering::Relaxed);
        asking.join().expect("somebody who asks");
        result
    })
}

fn ask(socket: &Path, over: &AtomicBool) {
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let mut client = UnixStream::connect(socket).expect("a service");
        client.write_all(b"status\n").expect("a question");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\"summary\""), "{answer}");
        next += Duration::from_secs(1) / CLIENTS;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
