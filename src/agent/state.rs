//! What the agent remembers, by what it is about.

use super::advice::Advice;
use super::cause::Cause;
use super::question::{ChangedBy, Loaded};
use super::report::{Reloads, TrialReport, one_line};
use super::schedule::{Budget, Debounce, Fight, Retry};
use super::standing::Standing;
use super::{Client, Doubt, Entry, Forgotten, InUse, Kind};
use crate::backend::{Error, ErrorKind};
use crate::config::{Config, Diagnostics, SourceText};
use crate::network::Network;
use crate::policy::Family;
use crate::ruleset::NetworkFacts;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of so many programs that committed before a change of our rules was seen, each is named.
const MOST_NAMED: usize = 4;

#[derive(Debug)]
pub enum Phase {
    Starting(Start),
    Running,
    Stopping {
        until: Instant,
        /// The rules were once in and verified.
        was_ready: bool,
        /// Why the rules are still there.
        waiting_for: Option<String>,
    },
    /// Nothing but the exit is left; the last that the service manager hears.
    Ended(String),
}

/// A start that has not succeeded yet.
#[derive(Debug)]
pub struct Start {
    pub until: Instant,
    /// What is tried again when it fails.
    pub candidate: Option<Loaded>,
    /// Why it has not succeeded.
    pub waiting_for: Option<String>,
    /// Somebody asked for the files to be read again.
    pub reload: bool,
}

/// What is to be in the kernel.
#[derive(Debug)]
pub struct Desired {
    /// What the state directory holds; an error says why that is not used.
    pub last_good: Result<Option<Arc<[SourceText]>>, Cause>,
    /// What is enforced.
    pub active: Option<Loaded>,
    /// Why the configuration files are not what is enforced.
    pub refusal: Standing<Refusal>,
    /// What is enforced is a candidate.
    pub trial: Option<Trial>,
    /// How the last trial ended.
    pub ended: Option<Ended>,
    /// What was tried and not confirmed: not to be applied while the files hold it.
    pub unconfirmed: Option<Arc<[SourceText]>>,
}

impl Desired {
    pub fn last_good(&self) -> Option<&Arc<[SourceText]>> {
        self.last_good.as_ref().ok()?.as_ref()
    }

    /// True when the configuration that is enforced, or the default, asks something of the family.
    pub fn wants(&self, family: Family) -> bool {
        self.active.as_ref().map_or(family == Family::V4, |active| active.config.policy.enables(family))
    }
}

/// The candidate that is in force.
#[derive(Debug)]
pub struct Trial {
    pub number: u64,
    pub until: Instant,
    pub goes_back_at: String,
    pub what: String,
    pub by: String,
    /// What was in force.
    pub before: Loaded,
    pub files: Arc<[SourceText]>,
    /// The file that is to be written first, where it is not the files themselves that are tried.
    pub install: Option<SourceText>,
    /// Those who wait for the end.
    pub waiting: Vec<Client>,
}

/// A trial that is over, for those who come late.
#[derive(Debug)]
pub struct Ended {
    pub number: u64,
    pub confirmed: bool,
    pub message: String,
}

impl Trial {
    /// For the line of truth.
    pub fn summary(&self) -> String {
        format!("trying {}, goes back at {} unless confirmed", self.what, self.goes_back_at)
    }

    pub fn report(&self, now: Instant) -> TrialReport {
        TrialReport {
            number: self.number,
            what: self.what.clone(),
            by: self.by.clone(),
            goes_back_at: self.goes_back_at.clone(),
            seconds_left: self.until.saturating_duration_since(now).as_secs_f64(),
        }
    }

    /// For those who want something that must not happen meanwhile.
    pub fn refusal(&self, now: Instant) -> String {
        let left = self.until.saturating_duration_since(now).as_secs();
        format!(
            "{} is being tried (by {}, {left} s left); 'ip-masq-agent confirm' keeps it, and it goes back at {}",
            self.what, self.by, self.goes_back_at
        )
    }
}

/// Why the configuration files are not what is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// They are wrong.
    Wrong(Diagnostics),
    /// The main one was there when all was well.
    Gone(Arc<Path>),
    /// The kernel or its tool did not take what they say.
    Kernel(Error),
}

impl Refusal {
    /// How the journal calls it.
    pub fn kind(&self) -> Kind {
        match self {
            Refusal::Wrong(_) => Kind::ConfigRefused,
            Refusal::Gone(_) => Kind::ConfigMissing,
            Refusal::Kernel(error) => kind(error),
        }
    }

    /// The first of it, for one line.
    pub fn line(&self) -> String {
        one_line(&match self {
            Refusal::Wrong(Diagnostics(all)) => match all.as_slice() {
                [] => "the configuration is invalid".to_owned(),
                [first] => first.headline(),
                [first, rest @ ..] => format!("{} (and {} more)", first.headline(), rest.len()),
            },
            Refusal::Gone(_) | Refusal::Kernel(_) => self.to_string(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Wrong(diagnostics) => diagnostics.fmt(f),
            Refusal::Gone(path) => write!(f, "configuration file '{}' is gone", path.display()),
            Refusal::Kernel(error) => {
                write!(f, "the new configuration could not be applied: {}", error.message)
            }
        }
    }
}

/// How the journal calls a failure of the kernel or its tool.
pub fn kind(failure: &Error) -> Kind {
    if failure.kind == ErrorKind::Foreign { Kind::ForeignRefused } else { Kind::Degraded }
}

/// One family.
#[derive(Debug)]
pub struct FamilyState {
    pub family: Family,
    /// Why it is not as it should be.
    pub failure: Standing<Error>,
    pub fight: Fight,
    /// How often other programs' changes were repaired.
    pub repairs: u64,
    /// [`super::Outcome::bridged`] of the last success; `None` while nothing is wanted.
    pub bridged: Option<bool>,
}

impl FamilyState {
    pub fn new(family: Family) -> Self {
        FamilyState { family, failure: Standing::default(), fight: Fight::default(), repairs: 0, bridged: None }
    }

    /// True when trying again soon may well work: an upgrade takes a tool away for a moment only.
    pub fn may_pass(&self, failure: &Error) -> bool {
        let was_there = self.bridged.is_some();
        failure.is_transient() || (failure.kind == ErrorKind::MissingTool && was_there)
    }
}

/// How the kernel is watched.
#[derive(Debug)]
pub struct Watch {
    /// Rule events tell of changes; else the kernel is asked again and again.
    pub listening: bool,
    /// Who committed since our rules were last seen unchanged.
    pub changed_by: Vec<ChangedBy>,
    /// For looking at the kernel and repairing because of others.
    pub budget: Budget,
    /// Our rules were seen not to be as they were written, and have not been seen to be right since.
    pub moved: bool,
    /// For removing rules that nobody wants: what can't be removed must not delay a repair.
    pub strays: Budget,
    /// The sysctls that we have set and that were off when they were last looked at, in words.
    pub sysctls_off: Vec<String>,
    /// About those.
    pub sysctl_fight: Fight,
}

/// Adds to those who may have made a change. Of several processes of one name no number is told: it could be any of them.
pub fn suspect(known: &mut Vec<ChangedBy>, programs: impl IntoIterator<Item = ChangedBy>) {
    for program in programs {
        let room = known.len() < MOST_NAMED;
        match known.iter_mut().find(|known| known.program == program.program) {
            Some(known) if *known == program => {}
            Some(known) => (known.pid, known.caller, known.origin) = (None, None, None),
            None if room => known.push(program),
            None => {}
        }
    }
}

/// Open connections, and the host's network on which it depends what they should be.
#[derive(Debug)]
pub struct Connections {
    /// The network is read, and its changes are told.
    pub follows: bool,
    /// As it was read last.
    pub network: Option<Arc<Network>>,
    /// What it means for the rules of the configuration that is enforced.
    pub facts: Arc<NetworkFacts>,
    /// When it is read again after that failed.
    pub reread: Retry,
    /// The host's addresses that the policy gave to sources then.
    pub owned: BTreeSet<IpAddr>,
    /// Those that have left the host since they were.
    pub departed: BTreeSet<IpAddr>,
    /// For reading the network, and looking through connections.
    pub budget: Budget,
    /// How many were deleted so far.
    pub forgotten: u64,
    /// When the last ones were deleted, how many and why.
    pub last: Option<(Instant, usize, &'static str)>,
    /// How many did not fit the policy after the last repair, and whether there may be more.
    pub unfit: Option<(usize, bool)>,
    /// What is in doubt and was not gone through to its end, with what came of it so far.
    pub unfinished: VecDeque<(Doubt, Forgotten)>,
    /// What was in force until a trial ended, while the rules of before are not in the kernel again.
    pub tried: Option<Arc<Config>>,
}

impl Connections {
    pub fn new(now: Instant) -> Self {
        Connections {
            follows: false,
            network: None,
            facts: Arc::default(),
            reread: Retry::default(),
            owned: BTreeSet::new(),
            departed: BTreeSet::new(),
            unfinished: VecDeque::new(),
            tried: None,
            budget: Budget::new(now),
            forgotten: 0,
            last: None,
            unfit: None,
        }
    }
}

/// What about the host stops the policy from working, as it was seen last.
#[derive(Debug, Default)]
pub struct HostState {
    /// It was looked at before: what may still come at the start of a host would have come.
    pub is_known: bool,
    pub advice: Vec<Advice>,
    /// Why nothing at all is translated.
    pub nothing_translated: Option<String>,
    /// The families of which nothing is, where something of the other one is.
    pub untranslated: BTreeSet<Family>,
    /// The addresses that sources become: of each entry of `egress`, and of the top level behind them.
    pub in_use: Vec<Vec<InUse>>,
}

/// What is said once while it lasts, by what it is about.
#[derive(Debug, Default)]
pub struct Reported {
    /// What is suspicious about the files.
    pub files: Standing<Entry>,
    /// The files hold something else than what is enforced, and wait for somebody to ask for it.
    pub differing: Standing<Entry>,
    /// What about the host makes the policy harmful.
    pub host: Standing<Entry>,
    /// What the backend noted.
    pub notes: Standing<Entry>,
    /// The last good configuration could not be saved.
    pub unsaved: Standing<Entry>,
    /// Rules where none are wanted could not be removed.
    pub strays: Standing<Entry>,
    /// Rule events are unavailable.
    pub events_unavailable: Standing<Entry>,
    /// The host's network can't be read.
    pub network: Standing<Entry>,
    /// Connections can't be looked through.
    pub connections: Standing<Entry>,
    /// The line that the service manager was told last.
    pub status: Standing<String>,
}

/// The next deadlines.
#[derive(Debug, Default)]
pub struct Timers {
    pub watchdog: Option<Instant>,
    pub resync: Option<Instant>,
    /// The files were edited.
    pub edit: Debounce,
    /// The files are to be read again although nobody edited them: the kernel was busy when they were last.
    pub reread: Retry,
    /// The kernel is to be looked at.
    pub check: Option<Instant>,
    /// Elements that were only counted are to be read.
    pub doubt: Option<Instant>,
    /// What failed is to be tried again.
    pub retry: Retry,
    /// Rules that could not be removed where none are wanted are to be tried again.
    pub strays: Retry,
    /// Others may have been added to those; it was too early to look.
    pub new_strays: Option<Instant>,
    /// The host's network is to be read.
    pub network: Option<Instant>,
    /// Connections are to be looked through that began while our rules were away.
    pub sweep: Option<Instant>,
    /// A walk over connections is to be gone on with.
    pub walk: Option<Instant>,
}

impl Timers {
    /// All of them: one that is not named here does not compile.
    pub fn all(&self) -> [Option<Instant>; 12] {
        let Timers { watchdog, resync, edit, reread, check, doubt, retry, strays, new_strays, network, sweep, walk } =
            self;
        [
            *watchdog,
            *resync,
            edit.due_at(),
            reread.due_at(),
            *check,
            *doubt,
            retry.due_at(),
            strays.due_at(),
            *new_strays,
            *network,
            *sweep,
            *walk,
        ]
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct History {
    /// How many configurations were put into the kernel.
    pub generation: u64,
    pub apply: Option<(Instant, Duration)>,
    pub repair: Option<(Instant, Duration, Option<String>)>,
    /// The last good configuration was saved.
    pub saved: Option<Instant>,
    pub reloads: Reloads,
}
