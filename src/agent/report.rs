//! What `status` and `reload` are told: the agent's answers, as they travel over the control socket.

use super::addresses::InUse;
use super::after_stop::AtStop;
use crate::backend::{BackendName, Counters};
use crate::policy::{Family, RangeCounts};
pub use crate::text::one_line;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The answer to a reload request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// What to tell the administrator: why not, or what is in force now.
    pub message: String,
}

impl ReloadAnswer {
    /// An answer. Only what is wrong with the configuration has lines: diagnostics, which show what they quote.
    pub fn new(outcome: ReloadOutcome, message: &str) -> Self {
        let message = match outcome {
            ReloadOutcome::Configuration => message.to_owned(),
            ReloadOutcome::Applied | ReloadOutcome::Refused => one_line(message),
        };
        ReloadAnswer { outcome, message }
    }
}

/// How a reload ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// The configuration is in the kernel.
    Applied,
    /// The kernel or its tool refused it.
    Refused,
    /// It is wrong.
    Configuration,
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One line of truth.
    pub summary: String,
    /// `starting`, `ready`, `degraded` or `stopping`.
    pub state: State,
    /// The process of the service.
    pub pid: u32,
    /// The version of the service.
    pub version: String,
    /// What is enforced.
    pub configuration: Configuration,
    /// The candidate that is in force until it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialReport>,
    /// What the policy is, in a line.
    #[serde(default)]
    pub policy: Option<String>,
    /// How many ranges the policy has.
    #[serde(default)]
    pub ranges: RangeCounts,
    /// The addresses of the host that sources become where no entry of `egress` decides, as far as that is known.
    #[serde(default)]
    pub addresses: Vec<InUse>,
    /// The entries of `egress`, in their order.
    #[serde(default)]
    pub egress: Vec<EgressReport>,
    /// The entries of `portForwards`, in their order.
    #[serde(default)]
    pub forwards: Vec<ForwardReport>,
    /// Which backend, once one is chosen.
    pub backend: Option<BackendReport>,
    /// When a configuration was last put into the kernel.
    pub last_apply: Option<EventRecord>,
    /// When somebody's change was last repaired.
    pub last_repair: Option<EventRecord>,
    /// When the configuration in force was saved as the last good one; unknown where an earlier run of the service did.
    #[serde(default)]
    pub last_saved: Option<Moment>,
    /// How often the files were read anew since the service began.
    #[serde(default)]
    pub reloads: Reloads,
    /// Per family.
    pub families: Vec<FamilyReport>,
    /// The kernel's table of connections, where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<ConntrackReport>,
    /// What the flowtable of `fastPath` has, while it is in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_path: Option<FastPathReport>,
    /// The sysctls that the service has set, as `NAME=VALUE (was VALUE)`.
    #[serde(default)]
    pub sysctls: Vec<String>,
    /// What a stop would do to rules and connections, where that is known.
    #[serde(default)]
    pub at_stop: Option<AtStop>,
    /// Tracked connections that did not fit the policy.
    #[serde(default)]
    pub connections: ConnectionsReport,
    /// What is wrong, in words; empty when nothing is.
    pub degraded: Vec<String>,
    /// What the administrator should know although nothing is wrong.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How often the files were read anew since the service began, because somebody asked for it or they had changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// All of them.
    pub total: u64,
    /// Those that were refused, by us or by the kernel.
    pub failed: u64,
}

/// The states that a service can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The rules are not in the kernel yet.
    Starting,
    /// All is as it should be.
    Ready,
    /// It works, but not as the configuration asks.
    Degraded,
    /// It is going away.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Stopping => "stopping",
        })
    }
}

/// What is enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// `files`, `last-good`, `trial` or `defaults`.
    pub origin: ConfigOrigin,
    /// The files, in the order in which they were merged.
    pub files: Vec<String>,
    /// The options that beat the files, as they were given to the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// How many configurations were put into the kernel since the service began.
    pub generation: u64,
    /// That the files hold something else, and why that is not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
}

/// A candidate that is being tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// Which one it is of those of this service.
    pub number: u64,
    /// What is tried.
    pub what: String,
    /// Who asked for it.
    pub by: String,
    /// The time of day at which the service goes back.
    pub goes_back_at: String,
    /// How long that is.
    pub seconds_left: f64,
}

/// What a client needs that wants to confirm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialDetails {
    pub report: TrialReport,
    /// The file that is to be written before.
    pub install: Option<Install>,
}

/// A file, and the text that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    pub path: PathBuf,
    pub text: String,
}

/// Where the enforced configuration came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigOrigin {
    /// The configuration files, as they are.
    Files,
    /// The state directory.
    LastGood,
    /// What `try` was given, until it is confirmed.
    Trial,
    /// There are no files.
    #[default]
    Defaults,
}

/// The backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// Its name.
    pub name: BackendName,
    /// Why it was chosen.
    pub reason: String,
}

/// An entry of `egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressReport {
    /// Its name, or its number.
    pub name: String,
    /// What sources become, as `snat` says it.
    pub snat: String,
    /// The addresses of the host that these are now, where that is known.
    #[serde(default)]
    pub addresses: Vec<InUse>,
}

/// Tracked connections that did not fit the policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsReport {
    /// How many were deleted since the service began.
    pub forgotten: u64,
    /// The last ones that were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Forgot>,
    /// How many did not fit after the last repair, and stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfit: Option<usize>,
    /// True when there may be more of them.
    #[serde(default)]
    pub unfit_is_minimum: bool,
}

/// Connections that were deleted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forgot {
    /// How many seconds ago.
    pub seconds_ago: f64,
    /// How many.
    pub count: usize,
    /// Why.
    pub why: String,
}

/// The kernel's table of connections, and what it has had to refuse (`/proc/net/stat/nf_conntrack`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackReport {
    /// So many are tracked.
    pub connections: u64,
    /// So many can be.
    pub max: u64,
    /// New ones that could not be entered, because another one had their place: no port was left, or two raced.
    pub insert_failed: u64,
    /// Packets that were dropped because the table was full, or memory was short.
    pub drop: u64,
    /// Connections that made room for others before their time.
    pub early_drop: u64,
}

impl fmt::Display for ConntrackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConntrackReport { connections, max, insert_failed, drop, early_drop } = self;
        write!(f, "{connections} of {max} connections; so far insert_failed {insert_failed}, drop {drop}, ")?;
        write!(f, "early_drop {early_drop}")
    }
}

/// What a flowtable carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPathReport {
    /// The interfaces that it has: those of `fastPath` that exist.
    pub interfaces: Vec<String>,
    /// The connections that it carries now, where they could be counted.
    pub connections: Option<usize>,
    /// There may be more of them.
    #[serde(default)]
    pub connections_is_minimum: bool,
}

impl fmt::Display for FastPathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interfaces.join(", "))?;
        let more = if self.connections_is_minimum { " or more" } else { "" };
        self.connections.iter().try_for_each(|count| write!(f, "; offloaded connections: {count}{more}"))
    }
}

/// An entry of `portForwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardReport {
    /// Its number, from 1; the counters of the families are by this number.
    pub number: u32,
    /// What it leads from and to.
    pub what: String,
}

/// So many of the busiest forwards are shown.
const BUSIEST: usize = 5;

impl Report {
    /// Puts a date to what is known by its age; `now` is the time since the epoch.
    pub fn date(&mut self, now: Duration) {
        let now = now.as_secs_f64();
        let events = [&mut self.last_apply, &mut self.last_repair].into_iter().flatten().map(|event| &mut event.when);
        for moment in events.chain(&mut self.last_saved) {
            // To the millisecond, so that the same moment is the same number each time.
            moment.at = ((now - moment.seconds_ago) * 1000.0).round() / 1000.0;
        }
    }

    /// For those who may not read the files: of what is wrong with a line of a file the line itself is left out.
    pub fn for_everybody(mut self) -> Self {
        for said in self.degraded.iter_mut().chain(&mut self.warnings) {
            said.truncate(said.find('\n').unwrap_or(said.len()));
        }
        self
    }

    /// How many forwards there are, and the busiest of them.
    fn write_forwards(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forwards.is_empty() {
            return Ok(());
        }
        writeln!(f, "{:>14}: {}", "port forwards", self.forwards.len())?;
        let counters = || self.families.iter().filter_map(|family| family.counters.as_ref());
        let flows = |forward: &ForwardReport| -> u64 {
            counters().filter_map(|counters| counters.forwards.get(&forward.number)).sum()
        };
        let mut busy: Vec<_> = self.forwards.iter().map(|forward| (flows(forward), forward)).collect();
        busy.retain(|(flows, _)| *flows > 0);
        busy.sort_by_key(|(flows, forward)| (u64::MAX - flows, forward.number));
        for (flows, forward) in busy.into_iter().take(BUSIEST) {
            writeln!(f, "{:>14}: {}; new flows: {flows}", "forward", forward.what)?;
        }
        Ok(())
    }
}

/// When something was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// How many seconds ago.
    pub seconds_ago: f64,
    /// In seconds since the epoch, by the clock as it is now.
    #[serde(default)]
    pub at: f64,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    #[serde(flatten)]
    pub when: Moment,
    /// How many milliseconds it took.
    pub milliseconds: f64,
    /// Who made it necessary, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyReport {
    /// `IPv4` or `IPv6`.
    pub family: Family,
    /// True when our rules were in the kernel as they should be when they were last looked at.
    pub in_sync: bool,
    /// How often other programs' changes of our rules were repaired since the service began.
    #[serde(default)]
    pub repairs: u64,
    /// True when other programs commit so often that the next look at the rules has to wait, a second at most.
    #[serde(default)]
    pub held: bool,
    /// New flows as our rules counted them, where they could be read.
    pub counters: Option<Counters>,
}

fn join(addresses: &[InUse]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "{:>14}: {} (pid {}, version {})", "state", self.state, self.pid, self.version)?;
        writeln!(f, "{:>14}: {}", "configuration", self.configuration)?;
        if !self.configuration.options.is_empty() {
            writeln!(f, "{:>14}: {}", "options", one_line(&self.configuration.options.join(" ")))?;
        }
        if let Some(TrialReport { by, goes_back_at, .. }) = &self.trial {
            let keeps = "'ip-masq-agent confirm' keeps it";
            writeln!(f, "{:>14}: goes back at {goes_back_at}; {keeps} (tried by {by})", "trial")?;
        }
        if let Some(differs) = &self.configuration.differs {
            writeln!(f, "{:>14}: {differs}", "files")?;
        }
        if let Some(policy) = &self.policy {
            writeln!(f, "{:>14}: {policy}", "policy")?;
        }
        if !self.addresses.is_empty() {
            writeln!(f, "{:>14}: {}", "in use", join(&self.addresses))?;
        }
        if let Some(backend) = &self.backend {
            writeln!(f, "{:>14}: {} ({})", "backend", backend.name, backend.reason)?;
            if backend.name == BackendName::IptablesLegacy {
                // The service would have to run a program for it, again and again.
                let unread = "rules of other programs in iptables-legacy are judged by";
                writeln!(f, "{:>14}: {unread} 'ip-masq-agent check --host' only", "host")?;
            }
        }
        for (label, done) in [("last apply", &self.last_apply), ("last repair", &self.last_repair)] {
            if let Some(done) = done {
                writeln!(f, "{label:>14}: {done}")?;
            }
        }
        for family in &self.families {
            writeln!(f, "{:>14}: {family}", family.family.to_string())?;
        }
        for (number, entry) in (1..).zip(&self.egress) {
            let flows = |family: &FamilyReport| {
                let counters = family.counters.as_ref()?;
                Some(format!("; {} new flows: {}", family.family, counters.egress.get(&number).unwrap_or(&0)))
            };
            let flows: String = self.families.iter().filter_map(flows).collect();
            let addresses = match join(&entry.addresses) {
                addresses if addresses.is_empty() => addresses,
                addresses => format!("; in use: {addresses}"),
            };
            writeln!(f, "{:>14}: {}: {}{addresses}{flows}", "egress", entry.name, entry.snat)?;
        }
        if let Some(last) = &self.connections.last {
            writeln!(f, "{:>14}: {} forgotten since the start; {last}", "connections", self.connections.forgotten)?;
        }
        if let Some(unfit @ 1..) = self.connections.unfit {
            let more = if self.connections.unfit_is_minimum { " or more" } else { "" };
            writeln!(f, "{:>14}: {unfit}{more} began while rules were missing and are not translated", "connections")?;
        }
        self.write_forwards(f)?;
        if let Some(conntrack) = &self.conntrack {
            writeln!(f, "{:>14}: {conntrack}", "conntrack")?;
        }
        if let Some(fast_path) = &self.fast_path {
            writeln!(f, "{:>14}: {fast_path}", "fast path")?;
        }
        for sysctl in &self.sysctls {
            writeln!(f, "{:>14}: {sysctl}", "sysctl")?;
        }
        if let Some(at_stop) = &self.at_stop {
            writeln!(f, "{:>14}: {at_stop}", "at stop")?;
        }
        for (label, texts) in [("degraded", &self.degraded), ("warning", &self.warnings)] {
            for text in texts {
                writeln!(f, "{label:>14}: {}", text.trim_end().replace('\n', "\n                "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Forgot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = humantime::format_duration(Duration::from_secs(self.seconds_ago.max(0.0) as u64));
        write!(f, "the last {} {ago} ago: {}", self.count, self.why)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            ConfigOrigin::Files => f.write_str(&self.files.join(", "))?,
            ConfigOrigin::Trial => write!(f, "trying {}", self.files.join(", "))?,
            ConfigOrigin::LastGood => write!(f, "the last good version of {}", self.files.join(", "))?,
            ConfigOrigin::Defaults => f.write_str("built-in defaults, no file found")?,
        }
        write!(f, " (generation {})", self.generation)
    }
}

impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = Duration::from_secs(self.when.seconds_ago.max(0.0) as u64);
        write!(f, "{} ago, took {:.1} ms", humantime::format_duration(ago), self.milliseconds)?;
        self.by.iter().try_for_each(|by| write!(f, ", changed by {by}"))
    }
}

impl fmt::Display for FamilyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.in_sync, self.held) {
            (true, false) => "in the kernel",
            (true, true) => "in the kernel at the last check; next check within 1 s",
            (false, _) => "not in sync with the configuration",
        })?;
        match &self.counters {
            Some(counters) => {
                write!(f, "; new flows: {} kept their source, {} masqueraded", counters.kept, counters.masqueraded)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_addresses_in_use_conntrack_and_of_many_forwards_the_busiest() {
        let forwards = (1..=1000).map(|number| ForwardReport { number, what: format!("tcp {number} to 10.0.0.5:80") });
        let family = |family, forwards: &[(u32, u64)]| FamilyReport {
            family,
            in_sync: true,
            repairs: 0,
            held: false,
            counters: Some(Counters { forwards: forwards.iter().copied().collect(), ..Counters::default() }),
        };
        let report = Report {
            summary: String::new(),
            state: State::Ready,
            pid: 1,
            version: String::new(),
            configuration: Configuration::default(),
            trial: None,
            policy: None,
            ranges: RangeCounts::default(),
            addresses: vec![InUse { address: [203, 0, 113, 1].into(), interface: "wan0".to_owned() }],
            egress: Vec::new(),
            forwards: forwards.collect(),
            backend: None,
            last_apply: None,
            last_repair: None,
            last_saved: None,
            reloads: Reloads::default(),
            families: vec![family(Family::V4, &[(7, 3), (8, 0), (9, 4)]), family(Family::V6, &[(7, 2)])],
            conntrack: Some(ConntrackReport { connections: 3, max: 9, insert_failed: 1, drop: 2, early_drop: 0 }),
            fast_path: None,
            sysctls: Vec::new(),
            at_stop: None,
            connections: ConnectionsReport::default(),
            degraded: Vec::new(),
            warnings: Vec::new(),
        };
        let text = report.to_string();
        let rows: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("forward")).collect();
        let expected = [
            "port forwards: 1000",
            "forward: tcp 7 to 10.0.0.5:80; new flows: 5",
            "forward: tcp 9 to 10.0.0.5:80; new flows: 4",
        ];
        assert_eq!(rows, expected);
        assert!(text.contains("        in use: 203.0.113.1 (wan0)\n"), "{text}");
        let conntrack = "conntrack: 3 of 9 connections; so far insert_failed 1, drop 2, early_drop 0\n";
        assert!(text.contains(conntrack), "{text}");
    }

    #[test]
    fn times_are_for_people() {
        let when = Moment { seconds_ago: 125.7, at: 0.0 };
        let done = EventRecord { when, milliseconds: 3.04, by: Some("firewalld[812]".into()) };
        assert_eq!(done.to_string(), "2m 5s ago, took 3.0 ms, changed by firewalld[812]");
    }
}
