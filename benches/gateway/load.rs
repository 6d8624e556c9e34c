//! Time and memory from a file to the kernel, where nothing was before.

use super::BINARY;
use super::figure::Figure;
use super::lab::Namespace;
use super::lists::{List, SIZES};
use super::process::{self, Cost};
use ip_masq_agent::sys::nfnetlink::RuleEvents;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ROUNDS: usize = 5;
const CONFIG: &str = "/run/bench.yaml";
const RULES: &str = "/run/bench.rules";
const EMPTY: &str = "/run/bench.d";

/// A way of loading a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The service on a backend.
    Ours(&'static str),
    /// `nft -f` with the text that the service renders.
    Nft,
    /// An `iptables-restore` with the rules of the Go agent.
    Restore(&'static str),
}

const WAYS: [Way; 6] = [
    Way::Ours("nftables"),
    Way::Ours("iptables-nft"),
    Way::Ours("iptables-legacy"),
    Way::Nft,
    Way::Restore("iptables-nft-restore"),
    Way::Restore("iptables-legacy-restore"),
];

impl Way {
    fn name(self) -> String {
        match self {
            Way::Ours(backend) => format!("{backend}, ours"),
            Way::Nft => "nft -f".to_owned(),
            Way::Restore(program) => format!("{program}, linear rules"),
        }
    }

    fn run(self, node: &Namespace, list: List) -> Cost {
        match self {
            Way::Ours(backend) => {
                write(node, CONFIG, &format!("backend: {backend}\n{}", list.config()));
                process::run(node, "/dev/null", &ours(&["run", "--once"]))
            }
            Way::Nft => {
                write(node, CONFIG, &format!("backend: nftables\n{}", list.config()));
                let text = node.must(BINARY, &ours(&["render"])[1..]);
                write(node, RULES, &text);
                process::run(node, "/dev/null", &["nft", "-f", RULES])
            }
            Way::Restore(program) => {
                write(node, RULES, &list.go_agent());
                process::run(node, RULES, &[program, "--noflush", "-w"])
            }
        }
    }
}

fn ours<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [&[BINARY], command, &["--config", CONFIG, "--config-dir", EMPTY]].concat()
}

fn write(node: &Namespace, path: &str, text: &str) {
    node.enter(|| fs::write(path, text)).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Every way at every size.
pub fn measure() -> Vec<Figure> {
    SIZES.into_iter().flat_map(at_size).collect()
}

fn at_size(count: u32) -> Vec<Figure> {
    let list = List::of(count);
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); WAYS.len()];
    // Kept until the end: the kernel takes a namespace with many rules apart in the background.
    let mut nodes = Vec::new();
    for _ in 0..ROUNDS {
        for (way, costs) in WAYS.into_iter().zip(&mut costs) {
            let node = Namespace::new("gateway").expect("a namespace");
            node.enter(|| fs::create_dir(EMPTY)).expect(EMPTY);
            costs.push(way.run(&node, list));
            nodes.push(node);
        }
    }
    let figures = |unit, value: fn(&Cost) -> f64| -> Vec<Figure> {
        let name = |way: Way| format!("{}, {list}, {}", way.name(), if unit == "ms" { "time" } else { "memory" });
        let figure = |(way, costs): (Way, &Vec<Cost>)| Figure::new(name(way), unit, costs.iter().map(value).collect());
        compare(count, &WAYS.into_iter().zip(&costs).map(figure).collect::<Vec<_>>())
    };
    [figures("ms", |cost| cost.ms), figures("MB", |cost| cost.peak_mb)].concat()
}

/// Ours beside what loads the same with the tools, and the goals of the largest list.
fn compare(count: u32, figures: &[Figure]) -> Vec<Figure> {
    let find = |way| WAYS.iter().position(|&other| other == way).map(|index| &figures[index]);
    let compared = |(way, figure): (Way, &Figure)| {
        let twin = match way {
            Way::Ours("nftables") => Way::Nft,
            Way::Ours("iptables-nft") => Way::Restore("iptables-nft-restore"),
            Way::Ours(_) => Way::Restore("iptables-legacy-restore"),
            Way::Nft | Way::Restore(_) => return figure.clone(),
        };
        let goals = way == Way::Ours("nftables") && count == 100_000;
        let is_time = figure.unit() == "ms";
        let least = (goals && is_time).then_some(1.8);
        let figure = match find(twin) {
            Some(other) => figure.clone().less_than(other, &twin.name(), least),
            None => figure.clone(),
        };
        match (goals, is_time) {
            (false, _) => figure,
            (true, true) => figure.at_most(350.0),
            (true, false) => figure.at_most(40.0),
        }
    };
    WAYS.into_iter().zip(figures).map(compared).collect()
}

/// The kernel's own memory in KiB (proc(5)).
fn slab() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).expect("a line for Slab");
    line.trim().strip_suffix(" kB").and_then(|number| number.parse().ok()).expect("a number")
}

/// By how many MB (10⁶ bytes) the kernel's memory rose at most while `work` was done. Others take some of it, too.
fn rise<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (before, done) = (slab(), AtomicBool::new(false));
    let (result, most) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(slab());
            }
            most
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, sampler.join().expect("samples"))
    });
    (result, most.saturating_sub(before) as f64 * 1024.0 / 1e6)
}

/// One load of ours on nftables, where nothing was before.
struct Load {
    node: Namespace,
    cost: Cost,
    slab_mb: f64,
}

impl Load {
    fn new(count: u32) -> Self {
        let node = Namespace::new("gateway").expect("a namespace");
        node.enter(|| fs::create_dir(EMPTY)).expect(EMPTY);
        let (cost, slab_mb) = rise(|| Way::Ours("nftables").run(&node, List::of(count)));
        Load { node, cost, slab_mb }
    }
}

/// Time, and memory of the kernel, for 100,000 and a million; the listener is a thread of this program.
pub fn beside_a_listener() -> Vec<Figure> {
    let elsewhere = Namespace::new("elsewhere").expect("a namespace");
    let [mut alone, mut listened, mut million] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        alone.push(Load::new(100_000));
        let listener = elsewhere.enter(|| RuleEvents::open().expect("a listener"));
        listened.push(Load::new(100_000));
        drop(listener);
        million.push(Load::new(1_000_000));
    }
    let again = |load: &Load| Way::Ours("nftables").run(&load.node, List::of(1_000_000));
    let adopted = million.iter().map(|load| again(load).ms).collect();
    let doubted = |load: &Load| {
        load.node.must("nft", &["add table ip other"]);
        again(load).ms
    };
    let doubted = million.iter().map(doubted).collect();
    let figure = |what: &str, unit, samples| Figure::new(format!("nftables, ours, {what}"), unit, samples);
    let time = |what, loads: &[Load]| figure(what, "ms", loads.iter().map(|load| load.cost.ms).collect());
    let slab = |what, loads: &[Load]| figure(what, "MB", loads.iter().map(|load| load.slab_mb).collect());
    let peak = million.iter().map(|load| load.cost.peak_mb).collect();
    let time_alone = time("100,000, nobody listens, time", &alone);
    vec![
        time("100,000, somebody listens, time", &listened).times(&time_alone, "alone", Some(2.5)),
        slab("100,000, nobody listens, the kernel's memory", &alone),
        slab("100,000, somebody listens, the kernel's memory", &listened).at_most(200.0),
        time("1,000,000, nobody listens, time", &million).times(&time_alone, "100,000", Some(12.0)),
        figure("1,000,000, memory", "MB", peak).at_most(250.0),
        figure("1,000,000 there already, time", "ms", adopted).at_most(1000.0),
        figure("1,000,000 there already and another program committed since, time", "ms", doubted).at_most(5000.0),
        time_alone,
    ]
}
