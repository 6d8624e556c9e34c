//! What to do when something happens, and when to do the next thing. Pure: every answer comes in as an [`Event`],
//! every wish goes out as an [`Action`], and the time is an argument.
//!
//! ```text
//! LastGoodRead, ConfigRead ─▶ judge ─▶ BackendChosen ─▶ round: Reconcile IPv4, then IPv6 ─▶ adopt or keep
//! RulesMoved, poll, resync ─▶ FingerprintRead ─▶ moved? ─▶ round
//! ```

pub mod advice;
mod entry;
mod event;
mod judge;
mod report;
mod round;
mod schedule;
mod state;
mod status;
mod stop;
mod watch;

pub use entry::{Entry, Kind, Priority};
pub use event::{Action, Chosen, Client, Culprit, Event, Job, Notification, Outcome};
pub use report::{
    Backend, Configuration, Done, FamilyReport, Origin, ReloadAnswer, ReloadOutcome, Report, State, one_line,
};

use crate::backend::{BackendName, Cleared, Fingerprint};
use crate::config::{BackendChoice, Diagnostic, Flags, SourceText};
use crate::policy::Family;
use advice::{Advice, HostView, harm};
use judge::{Candidate, Refusal};
use round::Round;
use schedule::{Pace, Retry};
use state::{Active, FamilyState, Past, Timers};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An edit is read this long after the last stir, so that a file in the middle of being written is left alone.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a start keeps trying against a held lock.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much time each such try is given by the service manager.
const EXTENSION: Duration = Duration::from_secs(30);

/// What never changes while the service lives.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The keys given as flags.
    pub flags: Flags,
    /// The directory of the configuration's fragments.
    pub fragments: Option<PathBuf>,
    /// How often the service manager wants to hear of us.
    pub watchdog: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting { until: Instant },
    Running,
    Stopping,
}

/// Why the configuration is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Start,
    /// SIGHUP or a client's request.
    Reload,
    /// The resync interval or a stir in the directory.
    Look {
        resync: bool,
    },
}

/// The one who decides.
#[derive(Debug)]
pub struct Agent {
    setup: Setup,
    phase: Phase,
    reading: Reading,
    clients: Vec<Client>,
    /// What the state directory holds.
    last_good: Option<Arc<[SourceText]>>,
    /// What is enforced.
    active: Option<Active>,
    /// What waits for its first success.
    pending: Option<Candidate>,
    /// Why the configuration files are not what is enforced.
    refusal: Option<Refusal>,
    /// What was last said to be suspicious about the files.
    warned: Vec<Diagnostic>,
    /// What the backend was last said to have noted.
    noted: BTreeSet<String>,
    /// The value of the key `backend` by which the backend was chosen.
    choice: BackendChoice,
    /// What was last said about the host.
    advised: Vec<Advice>,
    /// What was last said about rules of an earlier run that could not be removed.
    leftovers: Vec<String>,
    backend: Option<Chosen>,
    watching: bool,
    /// Why events are not to be had, as it was last said.
    deaf: Option<String>,
    round: Option<Round>,
    families: [FamilyState; 2],
    /// The fingerprint of a kernel that was as it should be.
    settled: Option<Fingerprint>,
    /// The same with what the fingerprint is blind to.
    settled_contents: Option<Fingerprint>,
    /// The fingerprint that last made us read the rules.
    looked_at: Option<Fingerprint>,
    culprit: Option<Culprit>,
    pace: Pace,
    retry: Retry,
    timers: Timers,
    past: Past,
    /// Why the start has not succeeded yet.
    waiting_for: Option<String>,
    status: String,
    actions: Vec<Action>,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(setup: Setup, now: Instant) -> Self {
        Agent {
            setup,
            phase: Phase::Starting { until: now + PATIENCE },
            reading: Reading::Start,
            clients: Vec::new(),
            last_good: None,
            active: None,
            pending: None,
            refusal: None,
            warned: Vec::new(),
            noted: BTreeSet::new(),
            advised: Vec::new(),
            leftovers: Vec::new(),
            backend: None,
            choice: BackendChoice::default(),
            watching: false,
            deaf: None,
            round: None,
            families: [FamilyState::new(Family::V4), FamilyState::new(Family::V6)],
            settled: None,
            settled_contents: None,
            looked_at: None,
            culprit: None,
            pace: Pace::new(now),
            retry: Retry::default(),
            timers: Timers::default(),
            past: Past::default(),
            waiting_for: None,
            status: String::new(),
            actions: Vec::new(),
        }
    }

    /// When to come back with [`Event::Tick`] if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let calm = self.families.iter().filter_map(|family| family.limit.calm_at());
        self.timers.all().into_iter().flatten().chain(calm).min()
    }

    /// Decides what follows from an event. The actions are to be done in their order, and the event that each one
    /// results in is to be handled before anything else that happens.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Started => self.start(now),
            Event::Tick => self.tick(now),
            Event::Hangup => self.reload(None),
            Event::ReloadRequested(client) => self.reload(Some(client)),
            Event::StatusRequested(client) => {
                let report = Box::new(self.report(now));
                self.act(Action::AnswerStatus(client, report));
            }
            Event::Terminate => self.stop(),
            Event::JobRead(job) => self.job_read(job),
            Event::Flushed(cleared) => self.flushed(cleared),
            Event::OthersCleared(cleared) => self.others_cleared(cleared),
            Event::LastGoodRead(sources) => self.last_good = sources.map(Arc::from),
            Event::ConfigRead(result) => self.config_read(result, now),
            Event::LastGoodSaved(result) => self.last_good_saved(result),
            Event::HostRead(view) => self.advise(&view),
            Event::BackendChosen(result) => self.backend_chosen(result, now),
            Event::Watching(result) => self.watch_answered(result, now),
            Event::Reconciled(family, result) => self.reconciled(family, result, now),
            Event::FilesChanged => self.timers.settle = Some(now + SETTLE),
            Event::RulesMoved(culprit) => self.rules_moved(culprit),
            Event::ContentsRead(contents) => self.contents_read(contents, now),
            Event::FingerprintRead(fingerprint) => self.fingerprint_read(fingerprint, now),
        }
        self.tell_status();
        std::mem::take(&mut self.actions)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn log(&mut self, entry: Entry) {
        self.act(Action::Log(entry));
    }

    fn backend_name(&self) -> Option<BackendName> {
        self.backend.as_ref().map(|chosen| chosen.name)
    }

    /// True when the configuration that is enforced, or the default, asks something of the family.
    fn wants(&self, family: Family) -> bool {
        self.active.as_ref().map_or(family == Family::V4, |active| active.wants(family))
    }

    fn start(&mut self, now: Instant) {
        self.timers.watchdog = self.setup.watchdog.map(|_| now);
        self.reading = Reading::Start;
        self.act(Action::ReadLastGood);
        self.act(Action::ReadConfig);
    }

    /// Says that the service can't begin or go on, and ends it.
    fn give_up(&mut self, message: String, status: u8) {
        let entry = Entry::new(Kind::Failed, message).by(self.backend_name());
        self.log(entry);
        self.act(Action::Exit(status));
    }

    fn tick(&mut self, now: Instant) {
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.watchdog) {
            self.act(Action::Notify(Notification::Watchdog));
            self.timers.watchdog = self.setup.watchdog.map(|interval| now + interval / 2);
        }
        if self.phase == Phase::Stopping {
            return;
        }
        self.calm(now);
        if due(&mut self.timers.retry) {
            self.try_again(now);
        }
        let settled = due(&mut self.timers.settle);
        let resync = due(&mut self.timers.resync);
        if settled || resync {
            self.reading = Reading::Look { resync };
            self.act(Action::ReadConfig);
        }
        if resync {
            if self.past.unsaved.is_some() {
                self.save();
            }
            if !self.leftovers.is_empty() {
                self.act(Action::ClearOthers);
            }
            // At boot the interfaces get their addresses after us.
            self.act(Action::ReadHost);
        }
        if due(&mut self.timers.look) {
            self.act(Action::ReadFingerprint);
        }
    }

    /// Ends the fights that nobody continues.
    fn calm(&mut self, now: Instant) {
        for index in 0..self.families.len() {
            if self.families[index].limit.calm(now) {
                let family = self.families[index].family;
                let message = format!("nobody has changed the {family} rules for a minute");
                self.log(Entry::new(Kind::FightOver, message).of(family));
            }
        }
    }

    fn reload(&mut self, client: Option<Client>) {
        match self.phase {
            Phase::Running => {
                self.clients.extend(client);
                self.reading = Reading::Reload;
                self.act(Action::Notify(Notification::Reloading));
                self.act(Action::ReadConfig);
            }
            Phase::Starting { .. } | Phase::Stopping => {
                let message = match self.phase {
                    Phase::Stopping => "the service is stopping",
                    _ => "the service is still starting",
                };
                self.clients.extend(client);
                self.answer(ReloadOutcome::Refused, message.to_owned());
            }
        }
    }

    /// Answers everybody who waits for a reload.
    fn answer(&mut self, outcome: ReloadOutcome, message: String) {
        for client in std::mem::take(&mut self.clients) {
            self.act(Action::AnswerReload(client, ReloadAnswer { outcome, message: message.clone() }));
        }
    }

    /// Whatever a reload came to, the service is up again.
    fn reload_done(&mut self, outcome: ReloadOutcome, message: String) {
        self.act(Action::Notify(Notification::Ready));
        self.answer(outcome, message);
    }

    /// Rules of an earlier run that used another backend act beside ours and follow no configuration any more. Those
    /// that could not be removed are tried again at each resync.
    fn others_cleared(&mut self, cleared: Vec<Cleared>) {
        let before = std::mem::take(&mut self.leftovers);
        for Cleared { backend, family, result, .. } in cleared {
            let entry = match result {
                Ok(removed) if removed.is_empty() => continue,
                Ok(_) => {
                    let message = format!("the {family} rules of an earlier run were removed from {backend}");
                    Entry::new(Kind::OthersRemoved, message)
                }
                Err(error) => {
                    let message = format!("{}: {error}", Advice::Leftover(backend, family));
                    self.leftovers.push(message.clone());
                    if before.contains(&message) {
                        continue;
                    }
                    Entry::new(Kind::Warning, message)
                }
            };
            self.log(entry.of(family).by(Some(backend)));
        }
    }

    /// Warns of what about the host makes the policy harmful, once for as long as it does.
    fn advise(&mut self, view: &HostView) {
        let Some(active) = &self.active else { return };
        let advice = harm(&active.config.policy, view, self.backend_name());
        let before = std::mem::replace(&mut self.advised, advice.clone());
        for one in advice.iter().filter(|one| !before.contains(one)) {
            let kind = if matches!(one, Advice::PublicNetwork { .. }) { Kind::Unscoped } else { Kind::Warning };
            self.log(Entry::new(kind, one.to_string()));
        }
    }

    fn last_good_saved(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                if self.past.unsaved.take().is_some() {
                    self.log(Entry::new(Kind::Recovered, "the last good configuration is saved again"));
                }
            }
            Err(why) => {
                let message = format!("the last good configuration could not be saved: {why}");
                if self.past.unsaved.replace(message.clone()).is_none() {
                    self.log(Entry::new(Kind::StateNotSaved, message));
                }
            }
        }
    }
}
