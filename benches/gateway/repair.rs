//! From somebody's flush to our rules being back.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, DEADLINE, Kind, Lab, Probe, Service, parse};
use super::lists::List;
use super::service::Spent;
use ip_masq_agent::sys::nfnetlink::message::Writer;
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink, RuleEvents};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
/// Between two commits of the program beside: ten a second.
const SELDOM: Duration = Duration::from_millis(100);
/// NFTA_TABLE_NAME
const TABLE_NAME: u16 = 1;

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
        thread::scope(|scope| {
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
        commits.extend(programs(events).map(|(_, at)| at));
    }
    commits[1] - commits[0]
}

/// Those that committed, and when that was heard.
fn programs(events: &mut RuleEvents) -> impl Iterator<Item = (String, Instant)> + use<> {
    let timeout = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&timeout)).expect("poll");
    assert!(ready > 0, "no repair within {DEADLINE:?}");
    let now = Instant::now();
    events.read().expect("events").into_iter().map(move |event| (event.program.unwrap_or_default(), now))
}

/// By event, where another program commits to a table of its own all the time.
pub fn beside_commits() -> Vec<Figure> {
    let chain: &[&str] = &["flush", "chain", "inet", "ip-masq-agent", "ipv4"];
    let of_chain = Flush { backend: "nftables", command: ("nft", chain) };
    let rows = [(of_chain, None), (of_chain, Some(5_000)), (of_chain, Some(100_000)), (FLUSHES[1], None)];
    let mut figures: Vec<Figure> = rows
        .into_iter()
        .map(|(flush, count)| {
            let name = count.map_or("default policy".to_owned(), |count| List::of(count).to_string());
            let samples = Beside::of(flush, count, SELDOM).repairs();
            Figure::new(format!("{}, {name} (commit to commit)", flush.backend), "ms", samples).at_most(50.0)
        })
        .collect();
    let storm = Beside::of(of_chain, None, Duration::ZERO);
    let (rates, shares) = storm.commits_and_shares();
    figures.push(Figure::new("nftables, commits without pause, each second", "", rates));
    figures.push(Figure::new("nftables, commits without pause, share of a core", "%", shares));
    figures.push(Figure::new("nftables, commits without pause (commit to commit)", "ms", storm.repairs()));
    figures
}

/// A service, and a program that commits beside it.
struct Beside {
    lab: Lab,
    flush: Flush,
    config: String,
    between: Duration,
}

impl Beside {
    fn of(flush: Flush, count: Option<u32>, between: Duration) -> Self {
        let list = count.map_or(String::new(), |count| List::of(count).config());
        let config = format!("backend: {}\n{list}", flush.backend);
        Beside { lab: Lab::build().expect("a lab"), flush, config, between }
    }

    /// Does something while the other program commits, of which it is told how often so far.
    fn run<T>(&self, work: impl FnOnce(&Service, &AtomicU64) -> T) -> T {
        let agent = Agent::new(&self.lab.gateway, BINARY, &self.config);
        let service = agent.start();
        let (done, commits) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| self.lab.gateway.enter(|| commit_until(&done, &commits, self.between)));
            let result = work(&service, &commits);
            done.store(true, Ordering::Relaxed);
            result
        })
    }

    fn repairs(&self) -> Vec<f64> {
        let (flusher, arguments) = self.flush.command;
        let repair = || {
            // So that it is no fight, whose repairs are put off.
            thread::sleep(Duration::from_secs(1));
            let mut events = self.lab.gateway.enter(RuleEvents::open).expect("a listener");
            self.lab.gateway.enter(|| {
                thread::scope(|scope| {
                    let seen = scope.spawn(|| flush_to_repair(&mut events, flusher));
                    self.lab.gateway.must(flusher, arguments);
                    seen.join().expect("a repair").as_secs_f64() * 1e3
                })
            })
        };
        self.run(|_, _| (0..ROUNDS).map(|_| repair()).collect())
    }

    fn commits_and_shares(&self) -> (Vec<f64>, Vec<f64>) {
        let sample = |service: &Service, commits: &AtomicU64| {
            let (before, first, start) = (Spent::read(service).own_ms, commits.load(Ordering::Relaxed), Instant::now());
            thread::sleep(Duration::from_secs(2));
            let seconds = start.elapsed().as_secs_f64();
            let (spent, made) = (Spent::read(service).own_ms - before, commits.load(Ordering::Relaxed) - first);
            (made as f64 / seconds, spent / seconds / 10.0)
        };
        self.run(|service, commits| (0..5).map(|_| sample(service, commits)).unzip())
    }
}

fn flush_to_repair(events: &mut RuleEvents, flusher: &str) -> Duration {
    let mut flushed = None;
    loop {
        for (program, at) in programs(events) {
            let is_ours = program.starts_with("ip-masq-agent") || program.starts_with("iptables-nft-re");
            match flushed {
                None if program == flusher => flushed = Some(at),
                Some(flushed) if is_ours => return at - flushed,
                _ => {}
            }
        }
    }
}

fn commit_until(done: &AtomicBool, commits: &AtomicU64, between: Duration) {
    let mut netlink = Nfnetlink::open().expect("netlink");
    let mut is_there = false;
    while !done.load(Ordering::Relaxed) {
        let message = if is_there { libc::NFT_MSG_DELTABLE } else { libc::NFT_MSG_NEWTABLE };
        let mut batch = Batch::new(netlink.generation().expect("the generation"));
        batch.push(message, libc::NLM_F_CREATE, libc::NFPROTO_INET as u8, |writer: &mut Writer| {
            writer.text(TABLE_NAME, "beside");
        });
        // Late where the service was faster.
        if netlink.commit(batch).is_ok() {
            is_there = !is_there;
            commits.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(between);
    }
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
        thread::sleep(Duration::from_millis(1));
    }
    start.elapsed().as_secs_f64() * 1e3
}
