//! From somebody's flush to our rules being back.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, DEADLINE, Kind, Lab, Probe, parse};
use ip_masq_agent::sys::nfnetlink::RuleEvents;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// Who empties what of a backend.
#[derive(Clone, Copy)]
pub struct Flush {
    pub backend: &'static str,
    command: (&'static str, &'static [&'static str]),
}

pub const FLUSHES: [Flush; 3] = [
    Flush { backend: "nftables", command: ("nft", &["flush", "ruleset"]) },
    Flush { backend: "iptables-nft", command: ("iptables-nft", &["-t", "nat", "-F"]) },
    Flush { backend: "iptables-legacy", command: ("iptables-legacy", &["-t", "nat", "-F"]) },
];

/// Every backend in every way of noticing.
pub fn measure() -> Vec<Figure> {
    let samples = |measure: fn(Flush) -> f64, flush| (0..ROUNDS).map(|_| measure(flush)).collect();
    let by_event = FLUSHES.into_iter().filter(|flush| flush.backend != "iptables-legacy").map(|flush| {
        let name = format!("{}, by event (commit to commit)", flush.backend);
        Figure::new(name, "ms", samples(by_event, flush)).at_most(50.0)
    });
    let by_poll = FLUSHES.into_iter().map(|flush| {
        let name = format!("{}, polling (to the first good flow)", flush.backend);
        Figure::new(name, "ms", samples(by_flow, flush)).at_most(1500.0)
    });
    by_event.chain(by_poll).collect()
}

/// Milliseconds between the commit that flushed and the next one, as the kernel announces them.
fn by_event(flush: Flush) -> f64 {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {}\n", flush.backend));
    let _service = agent.start();
    commit_to_commit(&lab, flush)
}

/// The same in a lab in which the service runs.
pub fn commit_to_commit(lab: &Lab, flush: Flush) -> f64 {
    let mut events = lab.gateway.enter(RuleEvents::open).expect("a listener");
    let commits = lab.gateway.enter(|| {
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| two_commits(&mut events));
            lab.gateway.must(flush.command.0, flush.command.1);
            seen.join()
        })
    });
    commits.expect("two commits").as_secs_f64() * 1e3
}

fn two_commits(events: &mut RuleEvents) -> Duration {
    let mut commits = Vec::new();
    while commits.len() < 2 {
        let timeout = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&timeout)).expect("poll");
        assert!(ready > 0, "no repair within {DEADLINE:?}");
        let now = Instant::now();
        commits.extend(events.read().expect("events").iter().map(|_| now));
    }
    commits[1] - commits[0]
}

/// Milliseconds from the end of the flush to the first new flow that leaves with the right source.
fn by_flow(flush: Flush) -> f64 {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {}\nruleWatch: poll\n", flush.backend));
    let _service = agent.start();
    let seen = || Probe::new(Kind::Udp, parse("203.0.113.200")).source_seen(&lab.lan, &lab.observer);
    assert_eq!(seen(), Some(parse("203.0.113.1")), "{}: it works before the flush", flush.backend);
    lab.gateway.must(flush.command.0, flush.command.1);
    let start = Instant::now();
    while seen() != Some(parse("203.0.113.1")) {
        assert!(start.elapsed() < DEADLINE, "{}: no repair within {DEADLINE:?}", flush.backend);
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed().as_secs_f64() * 1e3
}
