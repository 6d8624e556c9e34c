//! From somebody's flush to our rules being back.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, DEADLINE, Kind, Lab, Probe, parse};
use super::lists::List;
use ip_masq_agent::sys::nfnetlink::message::Writer;
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink, RuleEvents};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
/// Between two commits of the program beside.
const BETWEEN: Duration = Duration::from_millis(100);
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
    let figure = |count: Option<u32>| {
        let name = count.map_or("default policy".to_owned(), |count| List::of(count).to_string());
        Figure::new(format!("nftables, {name} (commit to commit)"), "ms", repairs_beside_commits(count)).at_most(50.0)
    };
    [None, Some(5_000), Some(100_000)].into_iter().map(figure).collect()
}

fn repairs_beside_commits(count: Option<u32>) -> Vec<f64> {
    let lab = Lab::build().expect("a lab");
    let list = count.map_or(String::new(), |count| List::of(count).config());
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: nftables\n{list}"));
    let _service = agent.start();
    let mut events = lab.gateway.enter(RuleEvents::open).expect("a listener");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| lab.gateway.enter(|| commit_until(&done)));
        let repair = |_| {
            lab.gateway.must("nft", &["flush", "chain", "inet", "ip-masq-agent", "ipv4"]);
            let mut flushed = None;
            loop {
                for (program, at) in programs(&mut events) {
                    match (program.as_str(), flushed) {
                        ("nft", _) => flushed = Some(at),
                        ("ip-masq-agent", Some(flushed)) => return (at - flushed).as_secs_f64() * 1e3,
                        _ => {}
                    }
                }
            }
        };
        let samples = (0..ROUNDS).map(repair).collect();
        done.store(true, Ordering::Relaxed);
        samples
    })
}

fn commit_until(done: &AtomicBool) {
    let mut netlink = Nfnetlink::open().expect("netlink");
    let mut is_there = false;
    while !done.load(Ordering::Relaxed) {
        let message = if is_there { libc::NFT_MSG_DELTABLE } else { libc::NFT_MSG_NEWTABLE };
        let mut batch = Batch::new(netlink.generation().expect("the generation"));
        batch.push(message, libc::NLM_F_CREATE, libc::NFPROTO_INET as u8, |writer: &mut Writer| {
            writer.text(TABLE_NAME, "beside");
        });
        // Late where the service was faster.
        is_there ^= netlink.commit(batch).is_ok();
        thread::sleep(BETWEEN);
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
