//! What to do when something happens, and when to do the next thing. Pure: every answer comes in as an [`Event`],
//! every wish goes out as an [`Action`], and the time is an argument. [`drive()`] takes one to the other.
//!
//! ```text
//! LastGoodRead, ConfigRead ─▶ assess ─▶ BackendChosen ─▶ Reconciled: IPv4, then IPv6 ─▶ activate or keep
//! RulesMoved, poll, resync ─▶ Checked ─▶ moved? ─▶ Reconciled ─▶ verified ─▶ repaired or adapted: Log
//!                                     └▶ strays? ─▶ StraysRemoved ─▶ Log
//! ```

#![forbid(unsafe_code)]

mod addresses;
pub mod advice;
mod after_stop;
mod attempt;
mod cause;
mod client;
mod command_line;
mod configuration;
mod connections;
mod drive;
mod entry;
mod event;
mod fight;
mod firewall;
mod foreign_forwards;
mod foreign_rule;
mod foreign_sources;
pub mod forward_advice;
mod host_view;
mod in_force;
mod question;
mod reach;
mod reconcile;
mod report;
mod schedule;
mod standing;
mod state;
mod status;
mod stop;
mod strays;
mod trial;
mod watch;

pub use addresses::InUse;
pub use after_stop::{AfterStop, AtStop, ConnectionsAtStop, FamilyAtStop, Keepers, RulesAtStop};
pub use attempt::{Attempt, Clock, Tried};
pub use cause::Cause;
pub use client::Client;
pub use command_line::{CommandLine, option};
pub use drive::{Performer, drive};
pub use entry::{Entry, Kind, Priority};
pub use event::{Action, Checked, Chosen, Depth, Event, Forgotten, Job, Notification, Search};
pub use in_force::{MOST_DESTINATIONS, digest};
pub use question::{ChangedBy, Doubt, InForce, Loaded, Outcome, PolicyInForce, PolicyQuestion, Reconciliation, Why};
pub use report::{
    BackendReport, ConfigOrigin, Configuration, ConnectionsReport, ConntrackReport, EgressReport, EventRecord,
    FamilyReport, FastPathReport, Forgot, ForwardReport, Install, Moment, ReloadAnswer, ReloadOutcome, Reloads, Report,
    State, TrialDetails, TrialReport, one_line,
};

use crate::backend::BackendName;
use crate::config::{ConfigWatch, Flags};
use crate::policy::Family;
use advice::{Advice, HostView};
use reach::Reach;
use schedule::{Budget, Fight};
use standing::{Changes, Standing};
use state::{
    Connections as ConnectionsState, Desired, FamilyState, History, HostState, Phase, Reported, Start, Timers, Watch,
};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a start keeps trying against a held lock.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What never changes while the service lives.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The keys given as flags.
    pub flags: Flags,
    /// The directory of the configuration's fragments.
    pub fragments: Option<PathBuf>,
    /// The main file that is made where there is none.
    pub main: PathBuf,
    /// How often the service manager wants to hear of us.
    pub watchdog: Option<Duration>,
}

/// The one who decides.
#[derive(Debug)]
pub struct Agent {
    setup: Setup,
    phase: Phase,
    desired: Desired,
    backend: Option<Chosen>,
    families: [FamilyState; 2],
    watch: Watch,
    connections: ConnectionsState,
    timers: Timers,
    reported: Reported,
    host: HostState,
    history: History,
    /// Those who wait for a reload.
    clients: Vec<Client>,
    actions: Vec<Action>,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let until = now + START_TIMEOUT;
        Agent {
            setup,
            phase: Phase::Starting(Start { until, candidate: None, waiting_for: None, reload: false }),
            desired: Desired {
                last_good: Ok(None),
                active: None,
                refusal: Standing::default(),
                trial: None,
                ended: None,
                unconfirmed: None,
            },
            backend: None,
            families: Family::ALL.map(FamilyState::new),
            watch: Watch {
                listening: false,
                changed_by: Vec::new(),
                budget: Budget::new(now),
                strays: Budget::new(now),
                moved: false,
                sysctls_off: Vec::new(),
                sysctl_fight: Fight::default(),
            },
            connections: ConnectionsState::new(now),
            timers: Timers::default(),
            reported: Reported::default(),
            host: HostState::default(),
            history: History::default(),
            clients: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// When to come back with [`Event::Tick`] if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        let fights = self.families.iter().map(|family| &family.fight).chain([&self.watch.sysctl_fight]);
        let fights = fights.filter_map(Fight::over_at);
        let trial = self.desired.trial.as_ref().map(|trial| trial.until).filter(|_| !self.is_ending());
        self.timers.all().into_iter().flatten().chain(fights).chain(trial).min()
    }

    /// Decides what follows from an event; [`drive()`] knows in what order that is done.
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        if self.is_ending() && !event.concerns_a_stop() {
            return Vec::new();
        }
        match event {
            Event::Started => self.start(now),
            Event::Tick => self.tick(now),
            Event::Working => self.feed_watchdog(now),
            Event::Sighup => self.reload(None, now),
            Event::ReloadRequested(client) => self.reload(Some(client), now),
            Event::TryRequested(attempt) => self.try_requested(attempt, now),
            Event::TrialAsked(client) => self.trial_asked(client, now),
            Event::TrialAwaited(client, number) => self.trial_awaited(client, number),
            Event::ConfirmRequested(client, number) => self.confirm(client, number),
            Event::BackRequested(client, number) => self.back_requested(client, number, now),
            Event::UnconfirmedRead(result) => self.unconfirmed_read(result),
            Event::TrialSaved(tried, candidate, result) => self.trial_saved(tried, candidate, result),
            Event::StatusRequested(client) => {
                let report = Box::new(self.report(now));
                self.act(Action::AnswerStatus(client, report));
            }
            Event::PolicyRequested(client, question) => self.policy_requested(client, &question),
            Event::Sigterm(until) => self.stop(until),
            Event::JobRead(job) => self.job_read(job),
            Event::AfterStopRead(after) => self.after_stop_read(&after),
            Event::Flushed(removals) => self.flushed(removals, now),
            Event::StraysRemoved(by, removals, cost) => self.strays_removed(by, removals, cost, now),
            Event::LastGoodRead(result) => self.last_good_read(result),
            Event::ConfigRead(why, result) => self.config_read(why, result),
            Event::LastGoodSaved(sources, result) => self.last_good_saved(sources, result, now),
            Event::HostRead(view) => self.advise(&view),
            Event::HostSeen(view) => self.host = self.host_state(&view).unwrap_or_default(),
            Event::BackendChosen(candidate, result) => self.backend_chosen(candidate, result, now),
            Event::Watching(result) => self.watch_answered(result, now),
            Event::Reconciling(family, reconciliation) => self.act(Action::Reconcile(family, reconciliation)),
            Event::Reconciled(family, reconciliation, result, cost) => {
                self.reconciled(family, reconciliation, result, cost, now);
            }
            Event::FilesChanged => self.timers.edit.changed(now),
            Event::FilesBeingWritten => self.timers.edit.being_written(now),
            Event::RulesMoved(commits) => self.rules_moved(commits, now),
            Event::HostChanged => self.rules_moved(Vec::new(), now),
            Event::SysctlsSeen(off) => self.watch.sysctls_off = off,
            Event::Checked(depth, checked) => self.checked(depth, checked, now),
            Event::NetworkMoved => self.network_moved(now),
            Event::NetworkRead(waiting, result, cost) => self.network_read(waiting, result, cost, now),
            Event::Forgotten(doubt, so_far, result, cost) => self.forgotten(doubt, so_far, result, cost, now),
        }
        self.tell_status();
        std::mem::take(&mut self.actions)
    }

    /// True once nothing is begun any more.
    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. } | Phase::Ended(_))
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn log(&mut self, entry: Entry) {
        self.act(Action::Log(entry));
    }

    /// Logs what of this was not so before. True when some of it was and nothing is any more.
    fn log_standing(
        &mut self,
        subject: fn(&mut Reported) -> &mut Standing<Entry>,
        now: impl IntoIterator<Item = Entry>,
    ) -> bool {
        let standing = subject(&mut self.reported);
        let Changes { begun, ended } = standing.update(now);
        let is_over = standing.is_empty() && !ended.is_empty();
        begun.into_iter().for_each(|entry| self.log(entry));
        is_over
    }

    fn backend_name(&self) -> Option<BackendName> {
        self.backend.as_ref().map(|chosen| chosen.name)
    }

    fn start(&mut self, now: Instant) {
        self.timers.watchdog = self.setup.watchdog.map(|_| now);
        self.act(Action::ReadLastGood);
        self.act(Action::ReadUnconfirmed);
        self.act(Action::ReadConfig(Why::Start));
    }

    /// Says that the service can't begin or go on, and ends it.
    fn give_up(&mut self, message: String, status: u8) {
        let refused = self.desired.refusal.first().map(|refusal| format!("{}; ", refusal.line())).unwrap_or_default();
        self.phase = Phase::Ended(format!("failed: {refused}{message}"));
        self.answer(ReloadOutcome::Refused, &message);
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
        let retry = self.timers.retry.take(now);
        if self.is_ending() {
            if retry {
                self.act(Action::Flush);
            }
            return;
        }
        self.end_fights(now);
        if retry {
            self.try_again();
        }
        if self.desired.trial.as_ref().is_some_and(|trial| trial.until <= now) {
            self.go_back("was not confirmed in time", now);
        }
        let (edited, reread) = (self.timers.edit.take(now), self.timers.reread.take(now));
        // What is edited while a candidate is tried is read when that is over.
        let (is_tried, watch) = (self.desired.trial.is_some(), self.config_watch());
        if due(&mut self.timers.resync) {
            match watch {
                _ if is_tried => self.check(Depth::Contents),
                ConfigWatch::Off => {
                    self.act(Action::ReadConfig(Why::Look));
                    self.check(Depth::Contents);
                }
                ConfigWatch::Events | ConfigWatch::Resync => self.act(Action::ReadConfig(Why::Periodic)),
            }
            // From now on, whatever else happens: nothing else moves it.
            self.timers.resync = self.resync_at(now);
            // What could not be saved before.
            self.save();
            // At boot the interfaces get their addresses after us.
            self.act(Action::ReadHost);
            self.count_unfit();
        } else if !is_tried && (reread || (edited && watch == ConfigWatch::Events)) {
            self.act(Action::ReadConfig(Why::Edit));
        } else if !is_tried && edited && watch == ConfigWatch::Off {
            self.act(Action::ReadConfig(Why::Look));
        }
        if due(&mut self.timers.network) {
            self.read_network(None);
        }
        if due(&mut self.timers.sweep) {
            self.sweep();
        }
        if due(&mut self.timers.walk) {
            self.walk_on(now);
        }
        if self.timers.strays.take(now) {
            self.remove_strays(Search::Shown, None);
        }
        if due(&mut self.timers.new_strays) {
            self.remove_strays(Search::Shown, Some(Vec::new()));
        }
        if due(&mut self.timers.doubt) {
            self.check(Depth::Contents);
        } else if due(&mut self.timers.check) {
            self.check(Depth::Rules);
        }
    }

    fn reload(&mut self, client: Option<Client>, now: Instant) {
        self.clients.extend(client);
        if let Some(trial) = self.desired.trial.as_ref().filter(|_| matches!(self.phase, Phase::Running)) {
            let message = format!("the reload is refused: {}", trial.refusal(now));
            self.log(Entry::new(Kind::Warning, &message));
            return self.answer(ReloadOutcome::Refused, &message);
        }
        match &mut self.phase {
            // Once it is done: what was read before may be older than the edit that is meant.
            Phase::Starting(start) => start.reload = true,
            Phase::Running => {
                self.act(Action::Notify(Notification::Reloading));
                self.act(Action::ReadConfig(Why::Reload));
            }
            Phase::Stopping { .. } | Phase::Ended(_) => self.answer(ReloadOutcome::Refused, "the service is stopping"),
        }
    }

    /// Answers everybody who waits for a reload.
    fn answer(&mut self, outcome: ReloadOutcome, message: &str) {
        for client in std::mem::take(&mut self.clients) {
            self.act(Action::AnswerReload(client, ReloadAnswer::new(outcome, message)));
        }
    }

    /// Whatever a reload came to, the service is up again.
    fn reload_done(&mut self, outcome: ReloadOutcome, message: &str) {
        self.act(Action::Notify(Notification::Ready));
        self.answer(outcome, message);
    }

    /// Warns of what about the host makes the policy harmful, once for as long as it does.
    fn advise(&mut self, view: &HostView) {
        let Some(host) = self.host_state(view) else { return };
        // Once, and no warning of `status`: it is so on purpose as often as not.
        let note = self.desired.active.as_ref().and_then(|active| advice::unique_local(&active.config.policy));
        let said = host.advice.iter().filter(|advice| host.is_known || advice.is_settled());
        let log: Vec<Entry> = said.chain(&note).map(entry_of).collect();
        self.host = HostState { is_known: true, ..host };
        self.log_standing(|reported| &mut reported.host, log);
    }

    /// What the host is for the policy in force. Of what passes again before the next resync the journal is not told.
    fn host_state(&self, view: &HostView) -> Option<HostState> {
        let active = self.desired.active.as_ref()?;
        let reach = Reach::of(&active.config.policy, view);
        let advice = advice::service_advice(&active.config, view, &reach, self.backend_name());
        let nothing_translated = advice::nothing_translated(&advice).as_deref().map(one_line);
        let untranslated = reach.untranslated;
        let in_use = addresses::in_use(&active.config.policy, view);
        Some(HostState { is_known: self.host.is_known, nothing_translated, untranslated, advice, in_use })
    }
}

fn entry_of(advice: &Advice) -> Entry {
    let kind = if matches!(advice, Advice::PublicNetwork { .. }) { Kind::Unscoped } else { Kind::Warning };
    Entry::new(kind, advice.to_string())
}
