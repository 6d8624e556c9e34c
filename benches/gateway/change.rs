//! What it takes to change one prefix among 100,000, or one forward among 10,000.

use super::BINARY;
use super::figure::Figure;
use super::lab::{Agent, Lab, Namespace};
use super::lists::List;
use ip_masq_agent::backend::Backend;
use ip_masq_agent::backend::select::choose;
use ip_masq_agent::config::{Config, Flags, SourceText, parse};
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::{HostFacts, Ruleset};
use ip_masq_agent::sys::child::Children;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 6;
const COUNT: u32 = 100_000;

/// In process from the parsed configuration on, and as `reload` of a running service.
pub fn measure() -> Vec<Figure> {
    let backends = ["nftables", "iptables-nft", "iptables-legacy"];
    let without = backends.map(|backend| {
        let figure = Figure::new(format!("{backend}, from the parsed file on"), "ms", in_process(&texts(backend)));
        // With ipset a change makes a set of a new name, so that chain and set change at once.
        if backend == "nftables" { figure.at_most(20.0) } else { figure }
    });
    let forwards = backends.map(|backend| {
        let name = format!("{backend}, one of 10,000 forwards, from the parsed file on");
        let figure = Figure::new(name, "ms", in_process(&forwards(backend)));
        if backend == "nftables" { figure.at_most(20.0) } else { figure }
    });
    let with = backends
        .map(|backend| Figure::new(format!("{backend}, 'reload' of the running service"), "ms", reload(backend)));
    let parsed = Figure::new("parsing the file", "ms", (0..ROUNDS).map(|_| time_to_parse()).collect());
    [parsed].into_iter().chain(without).chain(forwards).chain(with).collect()
}

/// Two lists that differ in one prefix, by turns.
fn texts(backend: &str) -> [String; 2] {
    let list = List::of(COUNT);
    [list.config(), list.changed_config()].map(|text| format!("backend: {backend}\n{text}"))
}

/// Two configurations with as many forwards, of which one leads elsewhere.
fn forwards(backend: &str) -> [String; 2] {
    [80, 81].map(|port| {
        let one = |n: u16| {
            let port = if n == 5_000 { port } else { 80 };
            let address = format!("10.20.{}.{}", n / 250, n % 250 + 1);
            format!("- {{hostPort: {}, address: {address}, port: {port}, hairpin: never}}\n", 10_000 + n)
        };
        format!("backend: {backend}\nportForwards:\n{}", (0..10_000).map(one).collect::<String>())
    })
}

fn in_process(texts: &[String; 2]) -> Vec<f64> {
    let [first, second] = [&texts[0], &texts[1]].map(|text| config(text));
    let node = Namespace::new("gateway").expect("a namespace");
    node.enter(|| {
        let mut backend = choose(&first.settings, Children).expect("a backend").backend;
        put(backend.as_mut(), &first);
        let turns = (0..ROUNDS).map(|round| if round % 2 == 0 { &second } else { &first });
        let time = |config| {
            let start = Instant::now();
            put(backend.as_mut(), config);
            start.elapsed().as_secs_f64() * 1e3
        };
        turns.map(time).collect()
    })
}

fn time_to_parse() -> f64 {
    let [text, _] = texts("nftables");
    let start = Instant::now();
    config(&text);
    start.elapsed().as_secs_f64() * 1e3
}

fn config(text: &str) -> Config {
    let source = SourceText { path: Path::new("bench.yaml").into(), text: text.to_owned() };
    parse(&[source], &Flags::default()).expect("a good configuration")
}

/// Plan, commit, and plan again to see that it is there.
fn put(backend: &mut dyn Backend, config: &Config) {
    let position = config.settings.jump_position;
    let ruleset = Ruleset::new(&config.policy, Family::V4, position, &HostFacts::default()).expect("IPv4 rules");
    let plan = backend.plan(Family::V4, Some(&ruleset)).expect("a plan");
    assert!(!plan.is_in_sync(), "there is something to change");
    backend.commit(plan).expect("a commit");
    assert!(backend.plan(Family::V4, Some(&ruleset)).expect("a plan").is_in_sync(), "it is in the kernel");
}

/// From asking the service to its answer that the new file is applied.
fn reload(backend: &str) -> Vec<f64> {
    let texts = texts(backend);
    let lab = Lab::build().expect("a lab");
    let agent = Agent::new(&lab.gateway, BINARY, &texts[0]);
    let _service = agent.start();
    let time = |round: usize| {
        agent.configure(&texts[(round + 1) % 2]);
        let start = Instant::now();
        agent.must("reload", &[]);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        // The service has seen the edit too and reads the file once more; the next round is not to wait for that.
        std::thread::sleep(Duration::from_millis(1500));
        ms
    };
    (0..ROUNDS).map(time).collect()
}
