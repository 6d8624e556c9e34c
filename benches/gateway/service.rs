//! What the service itself costs: an idle resync, memory and time at rest, a start.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, Lab, Namespace, Service};
use super::lists::List;
use ip_masq_agent::sys::nfnetlink::Nfnetlink;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const BACKENDS: [&str; 3] = ["nftables", "iptables-nft", "iptables-legacy"];

/// A resync each second for a while: processor time of the service and its children, and kernel writes.
pub fn resync() -> Vec<Figure> {
    let long = List::of(100_000);
    let default = BACKENDS.iter().flat_map(|backend| resync_of(backend, "", ""));
    default.chain(resync_of("nftables", &long.config(), ", 100,000")).collect()
}

/// Processor time, page faults of children, writes.
fn resync_of(backend: &str, list: &str, size: &str) -> Vec<Figure> {
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: {backend}\nresyncInterval: 1s\n{list}"));
    let service = agent.start();
    // What follows a start is over after the first resync.
    std::thread::sleep(Duration::from_millis(1500));
    let [mut cpu, mut children, mut writes] = [const { Vec::new() }; 3];
    for _ in 0..5 {
        let before = (Spent::read(&service), generation(&lab.gateway));
        std::thread::sleep(Duration::from_secs(2));
        let after = (Spent::read(&service), generation(&lab.gateway));
        cpu.push((after.0.own_ms - before.0.own_ms) / 2.0);
        children.push(after.0.children_faults - before.0.children_faults);
        writes.push(f64::from(after.1 - before.1));
    }
    let cpu = Figure::new(format!("{backend}{size}, processor time"), "ms", cpu);
    let children = Figure::new(format!("{backend}{size}, page faults of children"), "", children);
    let writes = Figure::new(format!("{backend}{size}, kernel writes (generations)"), "", writes);
    match (backend, size) {
        // Which writes without moving the generation.
        ("iptables-legacy", _) => vec![cpu, children],
        (_, "") => vec![cpu.at_most(1.0), children.at_most(0.0), writes.at_most(0.0)],
        _ => vec![cpu, children.at_most(0.0), writes.at_most(0.0)],
    }
}

/// What a process has used so far.
pub struct Spent {
    pub own_ms: f64,
    /// Minor page faults of children that were waited for: no process starts without any.
    children_faults: f64,
}

impl Spent {
    pub fn read(service: &Service) -> Self {
        let file = |name: &str| {
            std::fs::read_to_string(format!("/proc/{}/{name}", service.pid())).expect("a process that runs")
        };
        // proc(5): the first field of schedstat is nanoseconds; the eleventh of stat is cminflt, two before it is ours.
        let nanoseconds: f64 = number(&file("schedstat"), 0);
        let stat = file("stat");
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        Spent { own_ms: nanoseconds / 1e6, children_faults: number(behind_name, 8) }
    }
}

fn number(text: &str, index: usize) -> f64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).expect("a number")
}

fn generation(node: &Namespace) -> u32 {
    node.enter(|| Nfnetlink::open().and_then(|mut netlink| netlink.generation())).expect("a generation")
}

/// What a service waits for, and the keys that say so.
const WAITING: [(&str, &str); 3] = [
    ("events", "ruleWatch: events\n"),
    ("poll", "ruleWatch: poll\n"),
    ("a resync each second", "resyncInterval: 1s\n"),
];

/// Resident memory and processor time of services that have nothing to do.
pub fn idle() -> Vec<Figure> {
    let labs: Vec<(Lab, String)> = BACKENDS
        .iter()
        .flat_map(|backend| WAITING.map(|(_, keys)| format!("backend: {backend}\n{keys}")))
        .map(|config| (Lab::build().expect("a lab"), config))
        .collect();
    let agents: Vec<Agent<'_>> = labs.iter().map(|(lab, config)| Agent::new(&lab.gateway, BINARY, config)).collect();
    let services: Vec<Service> = agents.iter().map(Agent::start).collect();
    std::thread::sleep(Duration::from_secs(2));
    let mut cpu = vec![Vec::new(); services.len()];
    let mut memory = vec![Vec::new(); services.len()];
    for _ in 0..5 {
        let before: Vec<f64> = services.iter().map(|service| Spent::read(service).own_ms).collect();
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        for (index, service) in services.iter().enumerate() {
            let micros = (Spent::read(service).own_ms - before[index]) * 1e3;
            cpu[index].push(micros / start.elapsed().as_secs_f64());
            memory[index].push(resident(service));
        }
    }
    let name = |index: usize| format!("{}, {}", BACKENDS[index / WAITING.len()], WAITING[index % WAITING.len()].0);
    let memory = memory.into_iter().enumerate();
    let memory =
        memory.map(|(index, samples)| Figure::new(format!("{}, resident", name(index)), "MB", samples).at_most(5.0));
    let cpu = cpu.into_iter().enumerate();
    let cpu =
        cpu.map(|(index, samples)| Figure::new(format!("{}, processor time each second", name(index)), "µs", samples));
    memory.chain(cpu).collect()
}

/// MB, that is 10⁶ bytes.
fn resident(service: &Service) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says it");
    number(line, 0) * 1024.0 / 1e6
}

/// From starting the process to READY=1: where nothing was, over the same rules, and over others.
pub fn start() -> Vec<Figure> {
    let before = [
        ("nothing there", None),
        ("the same rules there", Some("onStop: keep\n")),
        ("other rules there", Some("onStop: keep\nnonMasqueradeCIDRs: [198.18.0.0/15]\n")),
    ];
    let mut figures = Vec::new();
    for backend in BACKENDS {
        for (what, earlier) in before {
            let samples = (0..ROUNDS).map(|_| time_to_ready(backend, earlier)).collect();
            let figure = Figure::new(format!("{backend}, {what}"), "ms", samples);
            figures.push(match (backend, what) {
                ("nftables", "nothing there") => figure.at_most(10.0),
                ("nftables", "other rules there") => figure.at_most(30.0),
                ("iptables-nft", "nothing there") => figure.at_most(15.0),
                ("iptables-nft", "other rules there") => figure.at_most(40.0),
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
