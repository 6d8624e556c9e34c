//! A campaign against the contract: a gateway with the real service and the host's real tools, everything that may
//! happen to such a thing, in an order that follows from a seed, and a stream of new flows all the while.
//!
//! ```text
//!  random ─▶ steps ─▶ gateway ─▶ settle ─▶ checks         stream: lan ══▶ gateway ══▶ outside
//!    seed     what      files,     kernel    foreign rules,         every flow is judged
//!             happens   service,   = policy  children, memory,      by the source that arrives
//!                       rules      = status  descriptors, log
//! ```
//!
//! `config` is what a file says and what that means for a flow, by the plainest reading of the manual; `listing` is what
//! `iptables-save`, `ipset` and `nft` print, read by `tests/interpreter`. Neither asks the product.
//! A sequence that found something is made as short as it can be (`shrink`). docs/testing.md says how to run it.

#[path = "../interpreter/mod.rs"]
mod interpreter;
#[path = "../lab/mod.rs"]
mod lab;

mod background;
mod checks;
mod config;
mod endurance;
mod episode;
mod files;
mod finding;
mod forwards;
mod gateway;
mod inbound;
mod life;
mod listing;
mod no_gap;
mod promise;
mod random;
mod report;
mod settings;
mod shrink;
mod steps;
mod stream;
mod tools;

use episode::Until;
use ip_masq_agent::backend::BackendName;
use report::Tally;
use std::thread;
use std::time::Duration;

#[test]
#[ignore = "takes as long as it is given: make soak"]
fn a_campaign_of_faults_finds_nothing() {
    if !lab::possible() {
        return;
    }
    let backends = settings::backends();
    let mut findings = Vec::new();
    if let Some(steps) = settings::replay() {
        let mut tally = Tally::default();
        findings.extend(backends.iter().filter_map(|backend| episode::replay(*backend, &steps, &mut tally)));
        tally.print();
    } else {
        let seed = settings::seed();
        let share = backends.len() as f64;
        let until = match (settings::read("STEPS"), settings::read::<f64>("SECONDS")) {
            (Some(steps), _) => Until::Steps(steps),
            (None, seconds) => Until::Time(Duration::from_secs_f64(seconds.unwrap_or(60.0) / share)),
        };
        report::say(&format!("SEED={seed}"));
        findings.extend(backends.iter().flat_map(|backend| episode::campaign(*backend, seed, until)));
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn sequences_that_once_found_something_find_nothing() {
    if !lab::possible() {
        return;
    }
    let seeds = settings::seeds();
    let of = |backend: BackendName| {
        let own = seeds.iter().filter(move |(name, _)| *name == backend);
        let found = own.filter_map(move |(_, steps)| {
            let names: Vec<String> = steps.iter().map(ToString::to_string).collect();
            episode::replay_again(backend, steps).map(|found| format!("REPLAY='{}' {found}", names.join(" ")))
        });
        found.collect::<Vec<String>>()
    };
    // Backends at the same time: each has a gateway of its own.
    let found: Vec<String> = thread::scope(|scope| {
        let backends: Vec<_> =
            settings::backends().into_iter().map(|backend| scope.spawn(move || of(backend))).collect();
        backends.into_iter().flat_map(|backend| backend.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "{} of them do:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_flow_has_a_wrong_source_while_the_service_starts_reloads_switches_and_repairs() {
    prove_no_gap(&[5_000], &[false], 15_000, 11);
}

#[test]
#[ignore = "takes half an hour: make no-gap"]
fn of_a_million_flows_none_has_a_wrong_source() {
    let lists = settings::read("LIST").map_or(vec![5_000, 100_000], |list| vec![list]);
    let families = settings::read::<u32>("FAMILY").map_or(vec![false, true], |family| vec![family == 6]);
    let flows = settings::read("FLOWS").unwrap_or(500_000);
    prove_no_gap(&lists, &families, flows, settings::read("OPERATIONS").unwrap_or(55));
}

fn prove_no_gap(lists: &[u32], families: &[bool], flows: u64, operations: u32) {
    let mut proofs = Vec::new();
    for backend in settings::backends() {
        for (list, v6) in lists.iter().flat_map(|list| families.iter().map(move |v6| (list, v6))) {
            let list = no_gap::List { count: *list, v6: *v6 };
            let proof = no_gap::prove(backend, list, flows, operations);
            proofs.extend(proof.unwrap_or_else(|finding| panic!("{backend}, {list}: {finding}")));
        }
    }
    report::say(&no_gap::head());
    proofs.iter().for_each(|proof| report::say(&proof.row()));
    let wrong: u64 = proofs.iter().map(|proof| proof.wrong).sum();
    assert_eq!(wrong, 0, "flows with a wrong source");
    let stuck: usize = proofs.iter().map(|proof| proof.stuck).sum();
    assert_eq!(stuck, 0, "lasting flows that keep a wrong source");
}

#[test]
#[ignore = "takes hours: make endurance"]
fn ten_thousand_reloads_and_repairs_leave_the_service_as_it_was() {
    if !lab::possible() {
        return;
    }
    let (reloads, repairs) = (settings::read("RELOADS").unwrap_or(10_000), settings::read("REPAIRS").unwrap_or(10_000));
    let ipv6 = settings::read::<u32>("FAMILY") != Some(4);
    let found: Vec<String> = settings::backends()
        .into_iter()
        .filter_map(|backend| {
            endurance::endure(backend, ipv6, reloads, repairs).err().map(|found| format!("{backend}: {found}"))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
