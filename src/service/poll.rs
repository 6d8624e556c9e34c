//! The loop: one thread, one poll set. What happens becomes an event; what the agent decides is done here.

use super::connections::{self, HostNetwork};
use super::control::{self, Control, Request, TryRequest};
use super::enforcer::{Enforcer, cpu_time};
use super::host::{self, HostReader};
use super::journal::Journal;
use super::notify::Notifier;
use super::state::{Kept, StateError};
use super::{state, unit, view};
use crate::agent::{self, Action, Agent, AtStop, Attempt, Cause, Client, Clock, CommandLine, Entry, Event, Kind};
use crate::agent::{Notification, Performer, Reconciliation, Report, Setup};
use crate::config::{self, Flags, Locations, RuleWatch, SourceText};
use crate::policy::Family;
use crate::sys::child;
use crate::sys::clock::second_of_day;
use crate::sys::inotify::{FileChange, Watcher};
use crate::sys::pages;
use crate::sys::signals::{Signal, Signals};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long the programs that one action runs may take together. After each the watchdog is fed, and whoever can't wait
/// is served: that bounds how long the loop is silent, whatever the programs do.
const ACTION: Duration = Duration::from_secs(14);
/// How long counting for a status may take; all who ask at once share it.
const COUNTING: Duration = Duration::from_secs(3);
/// From SIGTERM until nothing more is tried: TimeoutStopSec of the unit less what the end itself takes.
const STOP: Duration = Duration::from_secs(25);
/// How old the status may be that ordinary users get, unless its first line has changed: all who ask meanwhile get the
/// same. Making it takes no more than a twentieth of the time, however long it takes.
const SHARED: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
/// Work that took less is no reason to look around before it is done.
const SHORT: Duration = Duration::from_millis(100);

/// What the service is made of.
#[derive(Debug)]
pub struct Service {
    agent: Agent,
    locations: Locations,
    flags: Flags,
    state_directory: PathBuf,
    enforcer: Enforcer,
    host: HostReader,
    control: Control,
    signals: Signals,
    watcher: Option<Watcher>,
    /// The sysctls that shape the rules; without inotify, and where another mount of procfs was used, a change is noticed
    /// at the next resync.
    sysctls: Option<Watcher>,
    network: HostNetwork,
    journal: Journal,
    notifier: Notifier,
    /// What came while something else was being done, and can wait until that is done.
    later: VecDeque<Event>,
    /// When signals and clients were last read.
    urgent_read: Instant,
    /// When a status must be counted by.
    counted_by: Instant,
    /// The status for ordinary users, and until when it is theirs.
    shared: Option<(Instant, Arc<[u8]>)>,
    /// Those who wait for a new one, of whom one has asked for all.
    guests: Vec<Client>,
    /// The processor time that the reconciliation took that goes on.
    spent: Duration,
    /// The start, or a reload, came to its end since the last wait.
    became_ready: bool,
    /// When the stop that was asked for has to be over.
    stop_by: Option<Instant>,
    exit: Option<u8>,
}

impl Service {
    /// A service that has not begun. The signals were installed before: one that comes now is not lost.
    pub fn new(
        setup: Setup,
        locations: Locations,
        state_directory: PathBuf,
        signals: Signals,
        control: Control,
    ) -> Self {
        let main = locations.main_directory().to_owned();
        let watched = std::iter::once(main).chain(locations.fragment_directory()).collect();
        let now = Instant::now();
        Service {
            flags: setup.flags.clone(),
            agent: Agent::new(setup, now),
            // Without inotify an edit is noticed at the next resync.
            watcher: Watcher::new(watched).ok(),
            sysctls: Watcher::new(view::directories_of_facts()).ok(),
            locations,
            state_directory,
            enforcer: Enforcer::of_the_service(),
            host: HostReader::of_the_service(),
            control,
            signals,
            network: HostNetwork::default(),
            journal: Journal::open(),
            notifier: Notifier::open(),
            later: VecDeque::new(),
            urgent_read: now,
            counted_by: now,
            shared: None,
            guests: Vec::new(),
            spent: Duration::ZERO,
            became_ready: false,
            stop_by: None,
            exit: None,
        }
    }

    /// Runs until there is an exit status.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn run(mut self) -> io::Result<u8> {
        self.dispatch(Event::Started);
        loop {
            if let Some(status) = self.exit {
                self.enforcer.abandon();
                return Ok(status);
            }
            self.wait()?;
            self.read_sources();
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let next = self.agent.deadline().into_iter().chain(self.control.deadline());
        let next = next.chain((self.enforcer.has_lost_events() || !self.later.is_empty()).then_some(now)).min();
        let timeout = next.map(|at| child::timespec(at.saturating_duration_since(now)));
        let events = self.enforcer.events_fd().filter(|_| !self.agent.defers_events(now));
        let watched = [&self.watcher, &self.sysctls].map(|watcher| watcher.as_ref().map(AsFd::as_fd));
        let network = self.network.fd().filter(|_| !self.agent.defers_network(now));
        let fixed = [Some(self.signals.as_fd()), events, network].into_iter().chain(watched);
        let fixed = fixed.flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let unsent = self.notifier.pending_fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        let mut fds: Vec<PollFd<'_>> = fixed.chain(unsent).chain(self.control.poll_fds()).collect();
        if std::mem::take(&mut self.became_ready) {
            pages::unmap_code();
        }
        let result = poll(&mut fds, timeout.as_ref());
        // A signal that came before would have ended the wait.
        self.urgent_read = Instant::now();
        match result {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing here waits: every source is asked, whoever woke us.
    fn read_sources(&mut self) {
        for event in self.read_urgent() {
            self.dispatch(event);
        }
        // A loss is told at once: it keeps the loop awake until then.
        if self.enforcer.has_lost_events() || !self.agent.defers_events(Instant::now()) {
            match self.enforcer.read_events() {
                Ok(None) => {}
                Ok(Some(commits)) => self.dispatch(Event::RulesMoved(commits)),
                Err(why) => self.dispatch(Event::Watching(Err(Arc::new(why)))),
            }
        }
        if !self.agent.defers_network(Instant::now()) && self.network.has_changed() {
            self.dispatch(Event::NetworkMoved);
        }
        if self.sysctls.as_mut().and_then(Watcher::take) == Some(FileChange::Done) {
            self.dispatch(Event::HostChanged);
        }
        if let Some(change) = self.watcher.as_mut().and_then(Watcher::take) {
            self.dispatch(match change {
                FileChange::Done => Event::FilesChanged,
                FileChange::Writing => Event::FilesBeingWritten,
            });
        }
        if let Some(entry) = self.control.note() {
            self.journal.write(&entry);
        }
        // What comes while these are dealt with is for the next pass.
        for event in std::mem::take(&mut self.later) {
            self.dispatch(event);
        }
        self.dispatch(Event::Tick);
    }

    /// A stop, and clients that only want to know how things are. What else came is kept.
    fn read_urgent(&mut self) -> Vec<Event> {
        self.notifier.flush();
        let now = Instant::now();
        let before = std::mem::replace(&mut self.urgent_read, now);
        let mut urgent = Vec::new();
        for signal in self.signals.take() {
            match signal {
                // It may have come right after the last time, or after more time was asked for.
                Signal::Sigterm => {
                    let asked = self.enforcer.told_of_progress().map_or(before, |told| before.max(told));
                    let until = *self.stop_by.get_or_insert(asked + STOP);
                    urgent.push(Event::Sigterm(until));
                }
                Signal::Sighup => self.later.push_back(Event::Sighup),
            }
        }
        self.counted_by = now + COUNTING;
        for (client, request) in self.control.serve(now) {
            match request {
                Request::Status if self.control.is_guest(client) => {
                    if self.asks_for_all(client, now) {
                        urgent.extend(self.question(client));
                    }
                }
                Request::Status => urgent.extend(self.question(client)),
                Request::CommandLine => {
                    self.control.answer(client, &CommandLine::new(&self.locations, &self.flags), now);
                }
                // Between two families what is in force is neither the one nor the other.
                Request::Policy(question) => self.later.push_back(Event::PolicyRequested(client, question)),
                Request::Reload => self.later.push_back(Event::ReloadRequested(client)),
                Request::Try(TryRequest { timeout, by, file }) => {
                    let clock = Clock { at: now, second: second_of_day() };
                    self.later.push_back(Event::TryRequested(Attempt { client, file, timeout, by, clock }));
                }
                Request::Trial => self.later.push_back(Event::TrialAsked(client)),
                Request::Await(number) => self.later.push_back(Event::TrialAwaited(client, number)),
                Request::Confirm(number) => self.later.push_back(Event::ConfirmRequested(client, number)),
                Request::Back(number) => self.later.push_back(Event::BackRequested(client, number)),
            }
        }
        urgent
    }

    /// How things are depends on the host as it is now.
    fn question(&mut self, client: Client) -> impl Iterator<Item = Event> {
        let seen = self.host.read_again().map(Event::HostSeen);
        let sysctls = Event::SysctlsSeen(self.enforcer.sysctls_off());
        seen.into_iter().chain([sysctls, Event::StatusRequested(client)])
    }

    /// Answers an ordinary user. False where that has to be made: the first of those who wait asks for all.
    fn asks_for_all(&mut self, client: Client, now: Instant) -> bool {
        if let Some((_, shared)) = self.shared.as_ref().filter(|(until, _)| now < *until) {
            self.control.answer_text(client, shared.clone(), now);
            return false;
        }
        self.guests.push(client);
        self.guests.len() == 1
    }

    fn answer_status(&mut self, client: Client, report: Report) {
        let begun = Instant::now();
        let report = self.counted(report);
        let now = Instant::now();
        if !self.guests.contains(&client) {
            return self.control.answer(client, &report, now);
        }
        let shared = control::text(&report.for_everybody());
        for guest in std::mem::take(&mut self.guests) {
            self.control.answer_text(guest, shared.clone(), now);
        }
        self.shared = Some((now + SHARED.max(SHARE * (now - begun)), shared));
    }

    fn dispatch(&mut self, event: Event) {
        if self.exit.is_none() {
            self.exit = agent::drive(self, event);
        }
    }

    fn counted(&mut self, mut report: Report) -> Report {
        report.pid = std::process::id();
        report.date(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        report.sysctls = self.enforcer.set_sysctls();
        report.conntrack = host::conntrack_report();
        report.fast_path = self.enforcer.fast_interfaces().map(connections::offloaded);
        self.enforcer.end_by(self.stop_by.map_or(self.counted_by, |stop| stop.min(self.counted_by)));
        for entry in &mut report.families {
            entry.counters = self.enforcer.counters(entry.family);
        }
        if report.at_stop.is_none() {
            let families: Vec<_> = report.families.iter().map(|entry| entry.family).collect();
            report.at_stop = self.enforcer.after_stop(&families).as_ref().map(AtStop::removing);
        }
        report
    }
}

impl Service {
    fn save_trial(&self, before: Option<&[SourceText]>, tried: &[SourceText]) -> Result<(), StateError> {
        if let Some(before) = before {
            state::write(&self.state_directory, Kept::LastGood, before)?;
        }
        state::write(&self.state_directory, Kept::Unconfirmed, tried)
    }

    fn reconcile(&mut self, family: Family, reconciliation: Reconciliation) -> Event {
        let (config, network) = (&reconciliation.config, &reconciliation.network);
        let (result, spent) = timed(|| self.enforcer.reconcile(family, config, network));
        self.spent += spent;
        match result.transpose() {
            None => Event::Reconciling(family, reconciliation),
            Some(result) => Event::Reconciled(family, reconciliation, result, std::mem::take(&mut self.spent)),
        }
    }
}

impl Performer for Service {
    fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn urgent(&mut self) -> Vec<Event> {
        if self.urgent_read.elapsed() <= SHORT {
            return Vec::new();
        }
        std::iter::once(Event::Working).chain(self.read_urgent()).collect()
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        self.enforcer.end_by(self.stop_by.unwrap_or_else(|| Instant::now() + ACTION));
        match action {
            Action::ReadLastGood => {
                return Some(Event::LastGoodRead(told(state::read(&self.state_directory, Kept::LastGood))));
            }
            Action::ReadUnconfirmed => {
                return Some(Event::UnconfirmedRead(told(state::read(&self.state_directory, Kept::Unconfirmed))));
            }
            Action::SaveTrial { before, tried, candidate } => {
                let saved = self.save_trial(before.as_deref(), &tried.files);
                return Some(Event::TrialSaved(tried, candidate, told(saved)));
            }
            Action::ForgetUnconfirmed => {
                if let Err(error) = state::remove(&self.state_directory, Kept::Unconfirmed) {
                    self.journal.write(&Entry::new(Kind::StateNotSaved, error.to_string()));
                }
            }
            Action::ReadConfig(why) => {
                return Some(Event::ConfigRead(why, config::read(&self.locations, &self.flags)));
            }
            Action::ReadHost => return Some(Event::HostRead(self.host.read())),
            Action::ChooseBackend(candidate, unusable) => {
                let chosen = self.enforcer.choose(&candidate.config.settings, unusable.as_ref());
                return Some(Event::BackendChosen(candidate, chosen));
            }
            Action::Watch(watch) => {
                let result = self.enforcer.watch(watch == RuleWatch::Events);
                return (watch == RuleWatch::Events).then(|| Event::Watching(told(result)));
            }
            Action::Reconcile(family, reconciliation) => return Some(self.reconcile(family, reconciliation)),
            Action::Check(depth, config) => return Some(Event::Checked(depth, self.enforcer.check(depth, &config))),
            Action::SaveLastGood(sources) => {
                let result = state::write(&self.state_directory, Kept::LastGood, &sources);
                return Some(Event::LastGoodSaved(sources, told(result)));
            }
            Action::ReadJob => return Some(Event::JobRead(unit::job(&mut child::Children))),
            Action::RemoveStrays(config, search, by) => {
                let (removals, spent) = timed(|| self.enforcer.remove_strays(&config, search));
                return Some(Event::StraysRemoved(by, removals, spent));
            }
            Action::ReadNetwork(addresses, waiting) => {
                let (result, spent) = timed(|| self.network.read(&addresses));
                return Some(Event::NetworkRead(waiting, told(result), spent));
            }
            Action::IgnoreNetwork => self.network.ignore(),
            Action::Forget(doubt, so_far) => {
                let (result, spent) = timed(|| connections::forget(&doubt, &so_far));
                return Some(Event::Forgotten(doubt, so_far, told(result), spent));
            }
            Action::ReadAfterStop(families) => {
                return Some(Event::AfterStopRead(self.enforcer.after_stop(&families).unwrap_or_default()));
            }
            Action::Flush => return Some(Event::Flushed(self.enforcer.flush())),
            Action::Notify(notification) => {
                if matches!(notification, Notification::Status(_)) {
                    self.shared = None;
                }
                self.became_ready |= notification == Notification::Ready;
                self.notifier.send(&notification);
            }
            Action::Log(entry) => self.journal.write(&entry),
            Action::AnswerReload(client, answer) => self.control.answer(client, &answer, Instant::now()),
            Action::AnswerStatus(client, report) => self.answer_status(client, *report),
            Action::AnswerPolicy(client, in_force) => {
                let in_force = in_force.filter(|it| self.enforcer.stands(&it.config, &it.destinations));
                self.control.answer(client, &in_force.map(|it| it.told), Instant::now());
            }
            Action::AnswerTrial(client, details) => self.control.answer(client, &details, Instant::now()),
            // The last that there is; nothing is to be done for it.
            Action::Exit(_) => {}
        }
        None
    }
}

/// What a task returns, and the processor time that it took.
fn timed<T>(task: impl FnOnce() -> T) -> (T, Duration) {
    let begun = cpu_time();
    let result = task();
    (result, cpu_time().saturating_sub(begun))
}

/// An error of this room as the agent takes it.
fn told<T, E: Error + Send + Sync + 'static>(result: Result<T, E>) -> Result<T, Cause> {
    result.map_err(|error| Arc::new(error) as Cause)
}
