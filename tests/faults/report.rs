//! What a campaign tried and how it went, as tables.

use crate::gateway::Settled;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// A step that went well.
#[derive(Debug, Clone)]
pub struct Record {
    pub step: &'static str,
    pub took: Duration,
    pub promise: Duration,
    pub hole: Option<(Duration, u64)>,
}

impl Record {
    pub fn new(step: &'static str, settled: &Settled) -> Self {
        let hole = settled.hole.map(|hole| (hole.lasted(), hole.flows));
        Record { step, took: settled.took, promise: settled.promise, hole }
    }
}

/// What all episodes of a backend came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub records: Vec<Record>,
    pub episodes: usize,
    pub flows: u64,
    pub inbound: u64,
    pub answers: u64,
    pub wrong: u64,
    pub missing: u64,
    pub in_holes: u64,
    pub seconds: f64,
    pub longest_silence: Duration,
    pub logged: usize,
}

impl Tally {
    /// A line for each kind of step, and the sum of it.
    pub fn print(&self) {
        let mut by_step: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            by_step.entry(record.step).or_default().push(record);
        }
        say(&format!(
            "  {:<20} {:>5} {:>12} {:>19} {:>12}",
            "step", "times", "promised", "well after, median", "longest"
        ));
        for (step, records) in by_step {
            let mut took: Vec<Duration> = records.iter().map(|record| record.took).collect();
            took.sort();
            let hole = records.iter().filter_map(|record| record.hole).max();
            let hole = hole.map_or(String::new(), |(lasted, flows)| {
                format!("; hole {} ms at most, {flows} flows", lasted.as_millis())
            });
            let promise = records.iter().map(|record| record.promise).max().unwrap_or_default().as_millis();
            let (median, longest) = (took[took.len() / 2].as_millis(), took[took.len() - 1].as_millis());
            say(&format!("  {step:<20} {:>5} {promise:>9} ms {median:>16} ms {longest:>9} ms{hole}", records.len()));
        }
        say(&format!(
            "  {} steps in {} episodes, {:.0} s; {} flows, {:.0} a second, and {} inbound with {} answers: {} with a wrong source, {} missing, {} in holes that \
             other programs made; longest silence of the watchdog {:.1} s; {} KiB of log",
            self.records.len(),
            self.episodes,
            self.seconds,
            self.flows,
            self.flows as f64 / self.seconds.max(0.001),
            self.inbound,
            self.answers,
            self.wrong,
            self.missing,
            self.in_holes,
            self.longest_silence.as_secs_f64(),
            self.logged >> 10,
        ));
    }
}

/// Prints a line at once, also while the test harness keeps what tests print to itself.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
