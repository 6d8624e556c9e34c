//! What to do when something happens, and when to do the next thing. Pure: every answer comes in as an [`Event`],
//! every wish goes out as an [`Action`], and the time is an argument.
//!
//! ```text
//! LastGoodRead, ConfigRead ─▶ judge ─▶ BackendChosen ─▶ round: Reconcile IPv4, then IPv6 ─▶ adopt or keep
//! RulesMoved, poll, resync ─▶ Checked ─▶ moved? ─▶ round
//!                                     └▶ strays? ─▶ RemoveStrays
//! ```

#![forbid(unsafe_code)]

pub mod advice;
mod after_stop;
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

pub use after_stop::{AfterStop, AtStop, Connections, FamilyAtStop, Keepers, Rules};
pub use entry::{Entry, Kind, Priority};
pub use event::{Action, ChangedBy, Checked, Chosen, Client, Depth, Event, Job, Notification, Outcome, Search};
pub use report::{
    Backend, Configuration, Done, FamilyReport, Origin, ReloadAnswer, ReloadOutcome, Report, State, one_line,
};

use crate::backend::{BackendName, Removal};
use crate::config::{BackendChoice, Diagnostic, Flags, SourceText};
use crate::policy::Family;
use advice::{Advice, HostView, harm};
use judge::{Candidate, Refusal};
use round::Round;
use schedule::{Budget, Retry};
use state::{Active, FamilyState, Past, Timers};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    Stopping { until: Instant },
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
    /// What was last said about rules where none are wanted that could not be removed.
    strays_left: Vec<String>,
    /// For those of them that are in the way only for a moment.
    strays_retry: Retry,
    /// Who may have put the rules there that are about to be removed; `None` when they may be of an earlier run.
    strays_by: Option<Vec<ChangedBy>>,
    backend: Option<Chosen>,
    watching: bool,
    /// Why events are not to be had, as it was last said.
    deaf: Option<String>,
    round: Option<Round>,
    families: [FamilyState; 2],
    /// Who committed since our rules were last seen unchanged.
    changed_by: Vec<ChangedBy>,
    /// For looking at the kernel and repairing because of others.
    budget: Budget,
    retry: Retry,
    /// Of a configuration that the kernel was too busy to take.
    reread: Retry,
    timers: Timers,
    past: Past,
    /// Why the start has not succeeded yet.
    waiting_for: Option<String>,
    /// Why the service ends: the last that the service manager hears.
    ended: Option<String>,
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
            strays_left: Vec::new(),
            strays_retry: Retry::default(),
            strays_by: None,
            backend: None,
            choice: BackendChoice::default(),
            watching: false,
            deaf: None,
            round: None,
            families: [FamilyState::new(Family::V4), FamilyState::new(Family::V6)],
            changed_by: Vec::new(),
            budget: Budget::new(now),
            retry: Retry::default(),
            reread: Retry::default(),
            timers: Timers::default(),
            past: Past::default(),
            waiting_for: None,
            ended: None,
            status: String::new(),
            actions: Vec::new(),
        }
    }

    /// When to come back with [`Event::Tick`] if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let fights = self.families.iter().filter_map(|family| family.fight.over_at());
        self.timers.all().into_iter().flatten().chain(fights).min()
    }

    /// Decides what follows from an event. The actions are to be done in their order, and the event that each one
    /// results in is to be handled before anything else that happens; [`Event::Working`] names the exceptions.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        if matches!(self.phase, Phase::Stopping { .. }) && !event.concerns_a_stop() {
            return Vec::new();
        }
        match event {
            Event::Started => self.start(now),
            Event::Tick => self.tick(now),
            Event::Working => self.feed_watchdog(now),
            Event::Hangup => self.reload(None),
            Event::ReloadRequested(client) => self.reload(Some(client)),
            Event::StatusRequested(client) => {
                let report = Box::new(self.report(now));
                self.act(Action::AnswerStatus(client, report));
            }
            Event::Terminate(until) => self.stop(until),
            Event::JobRead(job) => self.job_read(job),
            Event::AfterStopRead(after) => self.after_stop_read(&after),
            Event::Flushed(cleared) => self.flushed(cleared, now),
            Event::StraysRemoved(cleared, cost) => self.strays_removed(cleared, cost, now),
            Event::LastGoodRead(sources) => self.last_good = sources.map(Arc::from),
            Event::LastGoodUnusable(why) => self.last_good_unusable(why),
            Event::ConfigRead(result) => self.config_read(result),
            Event::LastGoodSaved(result) => self.last_good_saved(result),
            Event::HostRead(view) => self.advise(&view),
            Event::BackendChosen(result) => self.backend_chosen(result, now),
            Event::Watching(result) => self.watch_answered(result, now),
            Event::Reconciled(family, result, cost) => self.reconciled(family, result, cost, now),
            Event::FilesChanged => self.timers.edit.changed(now),
            Event::RulesMoved(commits) => self.rules_moved(commits, now),
            Event::HostChanged => self.check(Depth::Rules),
            Event::Checked(depth, checked) => self.checked(depth, checked, now),
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
        let refused = self.refusal.as_ref().map(|refusal| format!("{}; ", refusal.line)).unwrap_or_default();
        self.ended = Some(format!("failed: {refused}{message}"));
        let entry = Entry::new(Kind::Failed, message).by(self.backend_name());
        self.log(entry);
        self.act(Action::Exit(status));
    }

    fn feed_watchdog(&mut self, now: Instant) {
        if self.timers.watchdog.take_if(|at| *at <= now).is_some() {
            self.act(Action::Notify(Notification::Watchdog));
            self.timers.watchdog = self.setup.watchdog.map(|interval| now + interval / 2);
        }
    }

    fn tick(&mut self, now: Instant) {
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        self.feed_watchdog(now);
        if matches!(self.phase, Phase::Stopping { .. }) {
            if due(&mut self.timers.retry) {
                self.act(Action::Flush);
            }
            return;
        }
        self.end_fights(now);
        if due(&mut self.timers.retry) {
            self.try_again();
        }
        let (edited, reread) = (self.timers.edit.take(now), due(&mut self.timers.reread));
        let resync = due(&mut self.timers.resync);
        if edited || reread || resync {
            self.reading = Reading::Look { resync };
            self.act(Action::ReadConfig);
        }
        if resync {
            // From now on, whatever else happens: nothing else moves it.
            self.timers.resync = self.resync_at(now);
            if self.past.unsaved.is_some() {
                self.save();
            }
            // At boot the interfaces get their addresses after us.
            self.act(Action::ReadHost);
        }
        if due(&mut self.timers.strays) {
            self.remove_strays(Search::Shown);
        }
        if due(&mut self.timers.doubt) {
            self.check(Depth::Contents);
        } else if due(&mut self.timers.check) {
            self.check(Depth::Rules);
        }
    }

    /// Ends the fights that nobody continues.
    fn end_fights(&mut self, now: Instant) {
        for index in 0..self.families.len() {
            if let Some(repairs) = self.families[index].fight.settle(now) {
                let family = self.families[index].family;
                let message =
                    format!("no program has changed the {family} rules for a minute; repairs until then: {repairs}");
                self.log(Entry::new(Kind::FightOver, message).of(family).with("REPAIRS", repairs));
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
            Phase::Starting { .. } | Phase::Stopping { .. } => {
                let message = match self.phase {
                    Phase::Stopping { .. } => "the service is stopping",
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
            self.act(Action::AnswerReload(client, ReloadAnswer::new(outcome, &message)));
        }
    }

    /// Whatever a reload came to, the service is up again.
    fn reload_done(&mut self, outcome: ReloadOutcome, message: String) {
        self.act(Action::Notify(Notification::Ready));
        self.answer(outcome, message);
    }

    /// Rules that carry our mark where this configuration wants none, of an earlier run or put there by somebody since,
    /// act beside ours and follow no configuration. Those that could not be removed are tried again at each resync.
    fn strays_removed(&mut self, cleared: Vec<Removal>, cost: Duration, now: Instant) {
        self.budget.spend(cost, now);
        let by = std::mem::take(&mut self.strays_by);
        let before = std::mem::take(&mut self.strays_left);
        let passing = |one: &Removal| matches!(&one.result, Err(error) if error.is_transient());
        self.timers.strays = cleared.iter().any(passing).then(|| now + self.strays_retry.failed());
        if self.timers.strays.is_none() {
            self.strays_retry.succeeded();
        }
        for Removal { backend, family, result, .. } in cleared {
            match result {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    let who = by.as_ref().map(|by| names(by).unwrap_or_else(|| "another program".to_owned()));
                    let entry = self.stray_entry(backend, family, &removed, who.as_deref()).by(Some(backend));
                    match who {
                        Some(who) => self.log_undone(entry, family, &who, now),
                        None => self.log(entry.of(family)),
                    }
                }
                Err(error) if error.is_the_hosts() && !self.wants(family) => {}
                Err(error) => {
                    let message = format!("{}: {error}", Advice::Leftover(backend, family));
                    if !before.contains(&message) {
                        self.log(Entry::new(Kind::Warning, &message).of(family).by(Some(backend)));
                    }
                    self.strays_left.push(message);
                }
            }
        }
        if !before.is_empty() && self.strays_left.is_empty() {
            self.log(Entry::new(Kind::Recovered, "no other rules act in addition to the configured ones any more"));
        }
        // The listener was left meanwhile.
        if self.watching {
            self.check(Depth::Rules);
        }
    }

    fn stray_entry(&self, backend: BackendName, family: Family, removed: &[String], who: Option<&str>) -> Entry {
        let removed = removed.join(", ");
        let whose = who.map_or("of an earlier run".to_owned(), |who| format!("added by {who}"));
        if self.backend_name() == Some(backend) {
            let message = format!("{family} is not enabled; rules {whose} were removed: {removed}");
            Entry::new(Kind::LeftoversRemoved, message)
        } else {
            let message = format!("{family} rules {whose} were removed from {backend}: {removed}");
            Entry::new(Kind::OthersRemoved, message)
        }
    }

    /// Logs that another program's change was undone: each time, unless it is a fight, which is said once.
    fn log_undone(&mut self, entry: Entry, family: Family, who: &str, now: Instant) {
        let Some(state) = self.families.iter_mut().find(|state| state.family == family) else { return };
        let begins = state.fight.repaired(now);
        let entry = if begins {
            let message = format!(
                "{who} keeps changing the {family} rules; they are repaired each time, which is not logged again until \
                 they were left alone for a minute"
            );
            Entry::new(Kind::Fight, message).by(self.backend_name())
        } else if state.fight.is_on() {
            return;
        } else {
            entry
        };
        self.log(entry.of(family).with("CHANGED_BY", who));
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

    fn last_good_unusable(&mut self, why: String) {
        self.log(Entry::new(Kind::Warning, format!("the saved last good configuration is not used: {why}")));
        self.past.unusable = Some(why);
    }

    fn last_good_saved(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.past.unusable = None;
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

/// Those who may have made a change, in words; `None` when nothing is known.
fn names(programs: &[ChangedBy]) -> Option<String> {
    let names: Vec<String> = programs.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}
