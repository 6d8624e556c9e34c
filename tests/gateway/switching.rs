//! Restarts without a gap, and from one backend to another: nothing of the old one is left, and no flow leaves with
//! the wrong source meanwhile.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Probe, foreign, parse};
use ip_masq_agent::backend::BackendName;
use rustix::process::Signal;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a backend holds of ours in a gateway, as the host's own tools list it.
fn held(lab: &Lab, backend: BackendName) -> String {
    let (program, arguments): (&str, &[&str]) = match backend {
        BackendName::IptablesNft => ("iptables-nft-save", &["-t", "nat"]),
        BackendName::IptablesLegacy => ("iptables-legacy-save", &["-t", "nat"]),
        BackendName::Nftables => ("nft", &["list", "tables", "inet"]),
    };
    let listing = lab.gateway.must(program, arguments);
    listing.lines().filter(|line| line.to_lowercase().contains("ip-masq-agent")).collect()
}

/// Sends new flows while `work` is done. Each of them must be masqueraded; returns how many there were.
fn under_flows(lab: &Lab, what: &str, work: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flows = scope.spawn(|| stream(lab, &done));
        let end_of_stream = Done(&done);
        work();
        drop(end_of_stream);
        let (wrong, count) = flows.join().expect("the stream of flows");
        assert!(wrong.is_empty(), "{what}: {} of {count} flows: {wrong:?}", wrong.len());
        count
    })
}

/// Ends the stream also when an assertion fails meanwhile.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends new flows until `done`; returns what was wrong with each that was not masqueraded, and how many there were.
fn stream(lab: &Lab, done: &AtomicBool) -> (Vec<String>, usize) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    let expected: IpAddr = parse("203.0.113.1");
    while !done.load(Ordering::Relaxed) {
        let probe = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        count += 1;
        match probe.source_seen(&lab.lan, &lab.observer) {
            Some(source) if source == expected => {}
            other => wrong.push(format!("flow {count}: {other:?}")),
        }
    }
    (wrong, count)
}

fn config(backend: BackendName) -> String {
    format!("backend: {backend}\nenableIPv6: true\n")
}

#[test]
fn another_backend_takes_over_without_a_gap_and_the_old_one_is_left_empty() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    gateway.agent.configure(&config(BACKENDS[0]));
    foreign::add(&lab.gateway);
    let foreign = foreign::listing(&lab.gateway);
    let mut running = gateway.agent.start();
    let count = under_flows(&lab, "switching", || {
        for backend in BACKENDS.iter().cycle().skip(1).take(2 * BACKENDS.len()) {
            running.signal(Signal::KILL);
            drop(running);
            gateway.agent.configure(&config(*backend));
            running = gateway.agent.start();
            for other in BACKENDS.iter().filter(|other| *other != backend) {
                let end = Instant::now() + DEADLINE;
                while !held(&lab, *other).is_empty() {
                    assert!(Instant::now() < end, "{other} still holds {}", held(&lab, *other));
                    std::thread::yield_now();
                }
            }
            assert!(!held(&lab, *backend).is_empty(), "{backend} holds nothing");
            assert_eq!(foreign::listing(&lab.gateway), foreign, "on the way to {backend}");
        }
    });
    assert!(count > 50, "only {count} flows");
}

#[test]
fn a_crash_and_the_next_start_leave_no_flow_with_the_wrong_source() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&config(*backend));
        let mut running = gateway.agent.start();
        under_flows(&lab, &backend.to_string(), || {
            for _ in 0..5 {
                running.signal(Signal::KILL);
                drop(running);
                running = gateway.agent.start();
            }
        });
    }
}

/// Goes to and fro between keys by reloads under a stream of flows.
fn reloads_without_a_gap(backend: BackendName, keys: [&str; 2]) {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), backend);
    gateway.agent.configure(&format!("{}{}", config(backend), keys[1]));
    foreign::add(&lab.gateway);
    let foreign = foreign::listing(&lab.gateway);
    let mut running = gateway.agent.start();
    let count = under_flows(&lab, &format!("{backend} {keys:?}"), || {
        for keys in keys.iter().cycle().take(20) {
            gateway.agent.configure(&format!("{}{keys}", config(backend)));
            gateway.agent.must("reload", &[]);
            gateway.agent.must("diff", &[]);
        }
    });
    assert!(count > 20, "only {count} flows");
    assert_eq!(foreign::listing(&lab.gateway), foreign);
    let log = running.whole_log().join("\n");
    assert!(!log.contains("changed by"), "our own change was taken for somebody's: {log}");
}

/// The priority of a chain can't be changed in place: nftables makes a new chain in the batch that takes the old one away.
#[test]
fn another_jump_position_is_taken_without_a_gap() {
    for backend in BACKENDS {
        reloads_without_a_gap(*backend, ["jumpPosition: first\n", "jumpPosition: last\n"]);
    }
}

/// Whether a table outlives its owner can't be changed in place either.
#[test]
fn an_owner_comes_and_goes_without_a_gap() {
    reloads_without_a_gap(BackendName::Nftables, ["tableOwner: persist\n", "tableOwner: never\n"]);
}
