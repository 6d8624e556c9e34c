//! A sequence of steps on a fresh gateway, and the campaign that is made of such.

use crate::config::Config;
use crate::finding::{Finding, WRONG_SOURCE, finding};
use crate::gateway::{CampaignGateway, Setup};
use crate::lab::Lab;
use crate::random::Random;
use crate::report::{Record, Tally, say};
use crate::shrink::shrink;
use crate::steps::Step;
use crate::{checks, settings};
use ip_masq_agent::backend::BackendName;
use std::time::{Duration, Instant};

/// Steps of an episode. A gateway and a service live as long as that.
const LENGTH: usize = 15;
/// How many times the same steps are tried again before a finding is called one that can't be repeated.
const REPEATS: usize = 3;
/// How many times a shorter sequence is tried.
const TRIES: usize = 40;
/// And for how long.
const LONGEST_SHRINK: Duration = Duration::from_secs(180);
const FLOWS_PER_SECOND: u32 = 3000;
const MOST_MISSING: u64 = 50;

/// How long a campaign goes on.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Steps(usize),
    Time(Duration),
}

/// Where a finding was made.
#[derive(Debug)]
struct Found {
    /// The number of the step, and of all steps when it was at the end.
    index: usize,
    finding: Finding,
}

/// Runs episodes on a backend. The first one's seed is the given one. Returns a line for each finding.
pub fn campaign(backend: BackendName, seed: u64, until: Until) -> Vec<String> {
    let mut seed = seed;
    let mut tally = Tally::default();
    let mut findings = Vec::new();
    let (begun, mut done) = (Instant::now(), 0);
    loop {
        let length = match until {
            Until::Steps(steps) if done >= steps => break,
            Until::Steps(steps) => LENGTH.min(steps - done),
            Until::Time(time) if begun.elapsed() >= time => break,
            Until::Time(_) => LENGTH,
        };
        let mut random = Random::new(seed);
        let steps: Vec<Step> = (0..length).map(|_| Step::draw(&mut random, backend, settings::wanted)).collect();
        say(&format!("SEED={seed} STEPS={length} BACKEND={backend}: {}", words(&steps)));
        let deadline = match until {
            Until::Time(time) => Some(begun + time),
            Until::Steps(_) => None,
        };
        done += length;
        if let Some(found) = run(backend, &steps, deadline, &mut tally) {
            findings.extend(explain(backend, seed, &steps, &found));
        }
        seed = random.next() >> 32;
    }
    tally.print();
    findings
}

/// Runs exactly these steps; a line when something was found.
pub fn replay(backend: BackendName, steps: &[Step], tally: &mut Tally) -> Option<String> {
    run(backend, steps, None, tally).map(|found| format!("{backend}: {}", found.finding))
}

/// The same of steps that always found something once: what they find by chance is said, and does not count. A flow with
/// a wrong source counts although it is not seen again.
pub fn replay_again(backend: BackendName, steps: &[Step]) -> Option<String> {
    let found = run(backend, steps, None, &mut Tally::default())?;
    let text = format!("{backend}: {}", found.finding);
    if found.finding.is_no_chance(|| is_seen_again(backend, steps, &found)) {
        return Some(text);
    }
    say(&format!("{text}\n  not seen again in {REPEATS} runs of {}", words(steps)));
    None
}

fn is_seen_again(backend: BackendName, steps: &[Step], found: &Found) -> bool {
    (0..REPEATS).any(|_| {
        run(backend, steps, None, &mut Tally::default()).is_some_and(|again| again.finding.check == found.finding.check)
    })
}

/// Makes a finding as short as it can be made. With `REPEATABLE` it counts only when the same steps find it again, except
/// for a flow with a wrong source: not one may have that, and what else the machine does gives no flow another source.
fn explain(backend: BackendName, seed: u64, steps: &[Step], found: &Found) -> Option<String> {
    say(&format!("{backend}: FOUND {}", found.finding));
    let failing = &steps[..(found.index + 1).min(steps.len())];
    let is_again = || is_seen_again(backend, failing, found);
    if settings::read::<u32>("REPEATABLE").is_some() && !found.finding.is_no_chance(is_again) {
        say(&format!("{backend}: SEED={seed}: not seen again in {REPEATS} runs of these steps: {}", words(failing)));
        return None;
    }
    let mut last = found.finding.clone();
    let tries = settings::read("TRIES").unwrap_or(TRIES);
    let begun = Instant::now();
    let shortest = shrink(failing, tries, |candidate| {
        if begun.elapsed() > LONGEST_SHRINK {
            return false;
        }
        match run(backend, candidate, None, &mut Tally::default()) {
            Some(again) if again.finding.check == found.finding.check => {
                last = again.finding;
                true
            }
            _ => false,
        }
    });
    let shortest = words(&shortest);
    let line = format!("{backend}: SEED={seed}: {last}\n  again: make soak BACKEND={backend} REPLAY='{shortest}'");
    say(&format!("{backend}: SHORTEST {line}"));
    Some(line)
}

/// Steps as `REPLAY` takes them.
fn words(steps: &[Step]) -> String {
    steps.iter().map(Step::to_string).collect::<Vec<_>>().join(" ")
}

/// Runs the steps on a gateway of their own until one of them finds something.
fn run(backend: BackendName, steps: &[Step], deadline: Option<Instant>, tally: &mut Tally) -> Option<Found> {
    let lab = Lab::build()?;
    let view = lab.gateway.with_mounts_of_its_own("service").expect("a mount namespace");
    let setup = Setup {
        config: Config::plain(backend),
        flows_per_second: FLOWS_PER_SECOND,
        patience: settings::patience(),
        foreign: true,
    };
    let begun = Instant::now();
    let mut gateway = match CampaignGateway::new(&lab, &view, setup) {
        Ok(gateway) => gateway,
        Err(finding) => return Some(Found { index: 0, finding }),
    };
    let mut found = None;
    for (index, step) in steps.iter().enumerate() {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            break;
        }
        if let Err(finding) = perform(&mut gateway, *step) {
            let finding = Finding { text: format!("{}: {}", step.kind.name, finding.text), ..finding };
            found = Some(Found { index, finding });
            break;
        }
    }
    if found.is_none() {
        found = end(&mut gateway).err().map(|finding| Found { index: steps.len(), finding });
    }
    count(tally, &mut gateway, begun.elapsed());
    found
}

fn perform(gateway: &mut CampaignGateway<'_>, step: Step) -> Result<(), Finding> {
    let begun = Instant::now();
    let verbose = settings::read::<u32>("VERBOSE").is_some();
    if verbose {
        say(&format!("    {step}"));
    }
    let promise = step.perform(gateway)?;
    let settled = gateway.settle(promise)?;
    checks::after_step(gateway)?;
    let record = Record::new(step.kind.name, &settled);
    if verbose {
        say(&format!("        {:.0?}, {record:?}", begun.elapsed()));
    }
    gateway.records.push(record);
    Ok(())
}

/// Whatever was done to it, the service stops as it should, and every flow has arrived.
fn end(gateway: &mut CampaignGateway<'_>) -> Result<(), Finding> {
    gateway.may("the last stop", &[None]);
    gateway.stop()?;
    gateway.nothing_is_left()?;
    gateway.foreign_is_untouched()?;
    if let Some(wrong) = gateway.stream.take_wrong() {
        return Err(finding(WRONG_SOURCE, wrong));
    }
    match gateway.stream.missing() {
        missing if missing > MOST_MISSING => {
            Err(finding("missing", format!("{missing} of {} flows", gateway.stream.totals().sent)))
        }
        _ => Ok(()),
    }
}

fn count(tally: &mut Tally, gateway: &mut CampaignGateway<'_>, took: Duration) {
    gateway.end_life();
    let totals = gateway.stream.totals();
    tally.records.append(&mut gateway.records);
    tally.episodes += 1;
    tally.flows += totals.flows;
    tally.inbound += totals.inbound;
    tally.answers += totals.answers;
    tally.wrong += totals.wrong;
    tally.missing += gateway.stream.missing();
    tally.in_holes += totals.in_holes;
    tally.seconds += took.as_secs_f64();
    tally.longest_silence = tally.longest_silence.max(gateway.longest_silence);
    tally.logged += gateway.logged;
}
