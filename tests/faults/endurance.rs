//! Ten thousand reloads and ten thousand repairs: memory, descriptors and the log stay what they were.

use crate::config::{Config, Ladder};
use crate::finding::{Finding, finding};
use crate::gateway::{CampaignGateway, Setup};
use crate::lab::Lab;
use crate::random::Random;
use crate::report::say;
use crate::steps::breaks;
use ip_masq_agent::backend::BackendName;
use std::time::{Duration, Instant};

/// How much resident memory may grow, in KiB.
const GROWTH: i64 = 256;
/// What a reload may write, in bytes; it says what is in force.
const LOG_OF_A_RELOAD: usize = 1024;
/// What a repair may write on average once the fight has been reported, and the report itself.
const LOG_OF_A_REPAIR: usize = 64;
const LOG_OF_A_FIGHT: usize = 16 << 10;
/// So many repairs between two lines.
const REPORT: usize = 1000;
/// How long the test waits before it looks at the rules again.
const LOOK: Duration = Duration::from_millis(200);
/// Before the first measurement.
const WARM_UP: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a service holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident: i64,
    descriptors: usize,
    logged: usize,
}

/// Reloads and repairs so often, with rules for both families or for IPv4 alone; a line for each, or what was found.
pub fn endure(backend: BackendName, ipv6: bool, reloads: usize, repairs: usize) -> Result<(), Finding> {
    let Some(lab) = Lab::build() else { return Ok(()) };
    let view = lab.gateway.with_mounts_of_its_own("service").expect("a mount namespace");
    let mut config = Config { ladder: Ladder { from: 0, count: 200 }, ipv6, ..Config::plain(backend) };
    config.exempt.retain(|cidr| ipv6 || !cidr.v6);
    // A stream would only take the processor away.
    let setup = Setup { config, flows_per_second: 0, patience: PATIENCE, foreign: true };
    let mut gateway = CampaignGateway::new(&lab, &view, setup)?;
    for warm_up in [true, false] {
        let (reloads, repairs) = if warm_up { (WARM_UP, 5) } else { (reloads, repairs) };
        let (before, begun) = (held(&mut gateway), Instant::now());
        (0..reloads).try_for_each(|_| reload(&mut gateway))?;
        let after = held(&mut gateway);
        if !warm_up {
            judge(backend, "reloads", reloads, begun.elapsed(), before, after, reloads * LOG_OF_A_RELOAD)?;
        }
        let (before, begun, mut done) = (after, Instant::now(), 0);
        while done < repairs {
            // What others make of the rules is repaired once a second at the least, and not much more often: it takes
            // hours, and a line now and then tells that it goes on.
            let some = REPORT.min(repairs - done);
            // Nothing tells of a change of iptables-legacy, and the look once a second would take three hours: after the
            // first lot a reload is what finds the rules gone.
            let by_reload = backend == BackendName::IptablesLegacy && done > 0;
            (0..some).try_for_each(|_| repair(&mut gateway, by_reload))?;
            done += some;
            let after = held(&mut gateway);
            if !warm_up {
                let log = LOG_OF_A_FIGHT + done * (LOG_OF_A_REPAIR + if by_reload { LOG_OF_A_RELOAD } else { 0 });
                judge(backend, "repairs", done, begun.elapsed(), before, after, log)?;
            }
        }
    }
    gateway.settle(PATIENCE).map(drop)
}

fn reload(gateway: &mut CampaignGateway<'_>) -> Result<(), Finding> {
    let mut config = (*gateway.config).clone();
    config.ladder.from ^= 1;
    gateway.config = config.into();
    gateway.agent.configure(&gateway.config.yaml());
    gateway.must_reload()
}

fn repair(gateway: &mut CampaignGateway<'_>, by_reload: bool) -> Result<(), Finding> {
    breaks::delete_ours(gateway, &mut Random::new(1))?;
    let begun = Instant::now();
    if by_reload {
        gateway.must_reload()?;
    }
    let is_repaired = |gateway: &CampaignGateway<'_>| {
        breaks::has_rules(gateway) && gateway.listing().problems(Some(&gateway.config)).is_empty()
    };
    while !is_repaired(gateway) {
        if begun.elapsed() > PATIENCE {
            return Err(finding("kernel", format!("not repaired within {PATIENCE:?}\n{}", gateway.life().tail())));
        }
        std::thread::park_timeout(LOOK);
    }
    Ok(())
}

fn held(gateway: &mut CampaignGateway<'_>) -> Held {
    let life = gateway.life();
    life.read_log();
    // The connection of the last client may not be closed yet.
    let end = Instant::now() + Duration::from_secs(1);
    let mut descriptors = life.descriptors();
    while Instant::now() < end {
        descriptors = descriptors.min(life.descriptors());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Held { resident: life.resident() as i64, descriptors, logged: life.logged }
}

fn judge(
    backend: BackendName,
    what: &str,
    times: usize,
    took: Duration,
    before: Held,
    after: Held,
    log: usize,
) -> Result<(), Finding> {
    let growth = after.resident - before.resident;
    let logged = after.logged - before.logged;
    let line = format!(
        "| {backend} | {times} {what} | {:.0} s | {:+} KiB, {} KiB now | {} → {} | {:.1} |",
        took.as_secs_f64(),
        growth,
        after.resident,
        before.descriptors,
        after.descriptors,
        logged as f64 / times.max(1) as f64,
    );
    say(&line);
    match (growth > GROWTH, after.descriptors != before.descriptors, logged > log) {
        (true, _, _) => Err(finding("memory", line)),
        (_, true, _) => Err(finding("descriptors", line)),
        (_, _, true) => Err(finding("log", line)),
        _ => Ok(()),
    }
}
