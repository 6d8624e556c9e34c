//! What the service itself costs: memory, start, an idle resync, a repair.

use super::BINARY;
use super::figure::{Figure, Goal};
use super::lab::{Agent, DEADLINE, Kind, Lab, Namespace, Probe, Running, parse};
use ip_masq_agent::host::nfnetlink::{Nfnetlink, RuleEvents};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// Resident memory with the default policy, after the first resync.
pub fn memory() -> Vec<Figure> {
    let rss = |_| {
        let lab = Lab::build().expect("a lab");
        let agent = Agent::new(&lab.gateway, BINARY, "backend: iptables-nft\nresyncInterval: 1s\n");
        let service = agent.start();
        std::thread::sleep(Duration::from_millis(2500));
        kilobytes(&service, "VmRSS:") / 1024.0
    };
    vec![Figure::new("resident, default policy", "MB", (0..5).map(rss).collect()).goal(Goal::AtMost(5.0))]
}

fn kilobytes(service: &Running<'_>, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// From starting the process to READY=1: where nothing was, over the same rules, and over others.
pub fn start() -> Vec<Figure> {
    let before = [
        ("nothing there", None, Some(Goal::AtMost(15.0))),
        ("the same rules there", Some("onStop: keep\n"), None),
        ("other rules there", Some("onStop: keep\nnonMasqueradeCIDRs: [198.18.0.0/15]\n"), Some(Goal::AtMost(40.0))),
    ];
    let mut figures = Vec::new();
    for backend in ["iptables-nft", "iptables-legacy"] {
        for (what, earlier, goal) in before {
            let samples = (0..ROUNDS).map(|_| time_to_ready(backend, earlier)).collect();
            let figure = Figure::new(format!("{backend}, {what}"), "ms", samples);
            figures.push(match goal {
                Some(goal) if backend == "iptables-nft" => figure.goal(goal),
                _ => figure,
            });
        }
    }
    figures
}

fn time_to_ready(backend: &str, earlier: Option<&str>) -> f64 {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, "");
    if let Some(keys) = earlier {
        agent.configure(&format!("backend: {backend}\n{keys}"));
        agent.start().stop();
    }
    agent.configure(&format!("backend: {backend}\n"));
    let start = Instant::now();
    let _service = agent.start();
    start.elapsed().as_secs_f64() * 1e3
}

/// A resync each second for a while: processor time of the service and its children, and kernel writes.
pub fn resync() -> Vec<Figure> {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, "backend: iptables-nft\nresyncInterval: 1s\n");
    let service = agent.start();
    let mut cpu = Vec::new();
    let mut children = Vec::new();
    let mut writes = Vec::new();
    for _ in 0..5 {
        let before = (Spent::read(&service), generation(&lab.gateway));
        std::thread::sleep(Duration::from_secs(2));
        let after = (Spent::read(&service), generation(&lab.gateway));
        cpu.push((after.0.own_ms - before.0.own_ms) / 2.0);
        children.push(after.0.children_faults - before.0.children_faults);
        writes.push(f64::from(after.1 - before.1));
    }
    vec![
        Figure::new("processor time of one resync", "ms", cpu).goal(Goal::AtMost(1.0)),
        Figure::new("page faults of children (0: no child process)", "", children).goal(Goal::AtMost(0.0)),
        Figure::new("kernel writes", "", writes).goal(Goal::AtMost(0.0)),
    ]
}

/// What a process has used so far.
struct Spent {
    own_ms: f64,
    /// Minor page faults of children that were waited for: no process starts without any.
    children_faults: f64,
}

impl Spent {
    fn read(service: &Running<'_>) -> Self {
        let file = |name: &str| {
            std::fs::read_to_string(format!("/proc/{}/{name}", service.pid())).expect("a process that runs")
        };
        // proc(5): the first field of schedstat is nanoseconds; the eleventh of stat is cminflt, two before it is ours.
        let nanoseconds: f64 = first_number(&file("schedstat"), 0);
        let stat = file("stat");
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        Spent { own_ms: nanoseconds / 1e6, children_faults: first_number(behind_name, 8) }
    }
}

fn first_number(text: &str, index: usize) -> f64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).expect("a number")
}

fn generation(node: &Namespace) -> u32 {
    node.enter(|| Nfnetlink::open().and_then(|mut netlink| netlink.generation())).expect("a generation")
}

/// From somebody's flush to our rules being back.
pub fn repair() -> Vec<Figure> {
    let samples = |measure: fn() -> f64| (0..ROUNDS).map(|_| measure()).collect();
    vec![
        Figure::new("iptables-nft, by event (commit to commit)", "ms", samples(by_event)).goal(Goal::AtMost(60.0)),
        Figure::new("iptables-nft, polling (to the first good flow)", "ms", samples(|| by_flow("iptables-nft")))
            .goal(Goal::AtMost(1500.0)),
        Figure::new("iptables-legacy (to the first good flow)", "ms", samples(|| by_flow("iptables-legacy")))
            .goal(Goal::AtMost(1500.0)),
    ]
}

/// Milliseconds between the commit that flushed and the next one, as the kernel announces them.
fn by_event() -> f64 {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, "backend: iptables-nft\n");
    let _service = agent.start();
    let mut events = lab.gateway.enter(RuleEvents::open).expect("a listener");
    let flushed = lab.gateway.enter(|| {
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| two_commits(&mut events));
            lab.gateway.must("iptables-nft", &["-t", "nat", "-F"]);
            seen.join()
        })
    });
    flushed.expect("two commits").as_secs_f64() * 1e3
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
fn by_flow(backend: &str) -> f64 {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {backend}\nruleWatch: poll\n"));
    let _service = agent.start();
    let seen = || Probe::new(Kind::Udp, parse("203.0.113.200")).source_seen(&lab.lan, &lab.observer);
    assert_eq!(seen(), Some(parse("203.0.113.1")), "{backend}: it works before the flush");
    lab.gateway.must(backend, &["-t", "nat", "-F"]);
    let start = Instant::now();
    while seen() != Some(parse("203.0.113.1")) {
        assert!(start.elapsed() < DEADLINE, "{backend}: no repair within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed().as_secs_f64() * 1e3
}
