//! No flow leaves with the wrong source through anything that we do ourselves: starts, restarts, deaths, reloads,
//! switches, repairs.
//!
//! No other program has rules here, so nobody else keeps connection tracking on: a flow that goes on all the while could
//! stick to what it got while our rules came in, and must not.

use crate::config::{Config, Ladder};
use crate::finding::Finding;
use crate::gateway::{CampaignGateway, Setup};
use crate::lab::Lab;
use crate::random::Random;
use crate::report::say;
use crate::steps::{breaks, lives};
use ip_masq_agent::backend::BackendName;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

const FLOWS_PER_SECOND: u32 = 6000;
/// A list of 100,000 needs its time, on a busy machine above all. Whether it is short is measured elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many ranges of one family.
#[derive(Debug, Clone, Copy)]
pub struct List {
    pub count: u32,
    pub v6: bool,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, if self.v6 { " IPv6" } else { "" })
    }
}

/// What came of it on one backend with one list.
#[derive(Debug)]
pub struct Proof {
    pub backend: BackendName,
    pub list: List,
    pub flows: u64,
    pub seconds: f64,
    /// How often each thing was done, and how many flows had the wrong source meanwhile.
    pub done: BTreeMap<&'static str, (u32, u64)>,
    pub wrong: u64,
    /// So many flows that had gone on all the while kept their source.
    pub stuck: usize,
    /// The longest hole that another program's deletion made.
    pub hole: Duration,
}

type Do = fn(&mut CampaignGateway<'_>, &mut Random) -> Result<(), Finding>;

const OPERATIONS: &[(&str, Do)] = &[
    ("start", |gateway, _| {
        gateway.may("a stop", &[None]);
        gateway.stop()?;
        gateway.may("a start", &[None]);
        gateway.start()
    }),
    ("reload", |gateway, _| change(gateway, "a reload", |config| shift(config, 1))),
    ("restart", |gateway, random| lives::restart(gateway, random).map(drop)),
    ("repair", |gateway, random| breaks::delete_ours(gateway, random).map(drop)),
    ("reload", |gateway, _| change(gateway, "a new list", |config| toggle(&mut config.sources, "192.168.77.0/24"))),
    ("kill", |gateway, random| lives::kill(gateway, random).map(drop)),
    ("reload", |gateway, _| change(gateway, "another list", |config| toggle(&mut config.exceptions, "10.20.99.0/24"))),
    ("switch", |gateway, _| {
        let here = gateway.config.backend;
        let other = crate::lab::BACKENDS.iter().copied().find(|other| *other != here);
        lives::switch_to(gateway, other.unwrap_or(here))?;
        gateway.settle(PATIENCE)?;
        lives::switch_to(gateway, here)
    }),
    ("reload", |gateway, _| {
        change(gateway, "tableOwner", |config| config.owner = !config.owner && config.backend == BackendName::Nftables)
    }),
    ("reload", |gateway, _| change(gateway, "jumpPosition", |config| config.first = !config.first)),
    ("restart", |gateway, _| {
        let mut config = (*gateway.config).clone();
        shift(&mut config, 2);
        let text = gateway.expect("a restart with another list", config).yaml();
        gateway.stop_for_restart()?;
        gateway.write(&text);
        gateway.start()
    }),
];

fn change(gateway: &mut CampaignGateway<'_>, why: &str, change: fn(&mut Config)) -> Result<(), Finding> {
    let mut config = (*gateway.config).clone();
    change(&mut config);
    let text = gateway.expect(why, config).yaml();
    gateway.write(&text);
    gateway.must_reload()
}

/// Other networks, as many.
fn shift(config: &mut Config, by: u32) {
    [&mut config.ladder, &mut config.ladder_v6].into_iter().for_each(|ladder| ladder.from ^= by);
}

fn toggle(list: &mut Vec<crate::config::Cidr>, cidr: &str) {
    match list.pop() {
        Some(_) => {}
        None => list.push(crate::config::Cidr::of(cidr)),
    }
}

/// Does all of it again and again until there were so many flows and operations.
pub fn prove(backend: BackendName, list: List, flows: u64, operations: u32) -> Result<Option<Proof>, Finding> {
    let Some(lab) = Lab::build() else { return Ok(None) };
    let view = lab.gateway.with_mounts_of_its_own("service").expect("a mount namespace");
    let ladder = Ladder { from: 0, count: list.count };
    let mut config = Config::plain(backend);
    if list.v6 {
        config.ladder_v6 = ladder;
    } else {
        config = Config { ladder, ipv6: false, exempt: config.exempt[..1].to_vec(), ..config };
    }
    let setup = Setup { config, flows_per_second: FLOWS_PER_SECOND, patience: PATIENCE, foreign: false };
    let begun = Instant::now();
    let mut gateway = CampaignGateway::new(&lab, &view, setup)?;
    let mut proof = Proof {
        backend,
        list,
        flows: 0,
        seconds: 0.0,
        done: BTreeMap::new(),
        wrong: 0,
        stuck: 0,
        hole: Duration::ZERO,
    };
    proof.count("start", 0, &gateway);
    let mut random = Random::new(1);
    for (count, (name, operate)) in (1..).zip(OPERATIONS.iter().cycle()) {
        let before = gateway.stream.totals();
        if before.flows >= flows && count >= operations {
            break;
        }
        operate(&mut gateway, &mut random)?;
        let settled = gateway.settle(PATIENCE)?;
        proof.count(name, before.wrong, &gateway);
        if settled.stuck > 0 {
            let said = gateway.life().tail();
            say(&format!(
                "{backend}, {list}: {} lasting flows keep their source after a {name}: {said}",
                settled.stuck
            ));
        }
        proof.stuck += settled.stuck;
        proof.hole = proof.hole.max(settled.hole.map_or(Duration::ZERO, |hole| hole.lasted()));
    }
    let totals = gateway.stream.totals();
    proof.flows = totals.flows;
    proof.wrong = totals.wrong;
    proof.seconds = begun.elapsed().as_secs_f64();
    Ok(Some(proof))
}

/// The head of the table.
pub fn head() -> String {
    "| backend | list | flows | a second | done | wrong source | lasting flows stuck | longest hole that another program made |\n\
     |---|---|---|---|---|---|---|---|"
        .to_owned()
}

impl Proof {
    /// Counts something that was done, and the flows that it cost.
    fn count(&mut self, name: &'static str, wrong_before: u64, gateway: &CampaignGateway<'_>) {
        let wrong = gateway.stream.totals().wrong - wrong_before;
        if let Some(samples) = gateway.stream.take_wrong() {
            say(&format!("{}, {}: {wrong} with the wrong source at a {name}: {samples}", self.backend, self.list));
        }
        let entry = self.done.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1 + wrong);
    }

    /// A line of the table.
    pub fn row(&self) -> String {
        let done: Vec<String> = self
            .done
            .iter()
            .map(|(name, (times, wrong))| match wrong {
                0 => format!("{times} × {name}"),
                wrong => format!("{times} × {name} ({wrong} wrong)"),
            })
            .collect();
        format!(
            "| {} | {} | {} | {:.0} | {} | {} | {} | {} ms |",
            self.backend,
            self.list,
            self.flows,
            self.flows as f64 / self.seconds,
            done.join(", "),
            self.wrong,
            self.stuck,
            self.hole.as_millis(),
        )
    }
}
