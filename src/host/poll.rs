//! The loop: one thread, one poll set. What happens becomes an event; what the agent decides is done here.

use super::control::{Control, Request};
use super::inotify::Watcher;
use super::journal::Journal;
use super::kernel::Kernel;
use super::notify::Notifier;
use super::signals::{Signal, Signals};
use super::{child, state, unit, view};
use crate::agent::{Action, Agent, Event, Report, Setup};
use crate::config::{self, Locations, RuleWatch};
use crate::policy::Family;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

/// What the service is made of.
#[derive(Debug)]
pub struct Service {
    agent: Agent,
    locations: Locations,
    state_directory: PathBuf,
    kernel: Kernel,
    control: Control,
    signals: Signals,
    watcher: Option<Watcher>,
    journal: Journal,
    notifier: Notifier,
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
        Service {
            agent: Agent::new(setup, Instant::now()),
            // Without inotify an edit is noticed at the next resync.
            watcher: Watcher::new(watched).ok(),
            locations,
            state_directory,
            kernel: Kernel::default(),
            control,
            signals,
            journal: Journal::open(),
            notifier: Notifier::open(),
            exit: None,
        }
    }

    /// Runs until there is an exit status.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn run(mut self) -> io::Result<u8> {
        self.happen(Event::Started);
        loop {
            if let Some(status) = self.exit {
                return Ok(status);
            }
            self.wait()?;
            self.look();
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let next = self.agent.deadline().into_iter().chain(self.control.deadline());
        let next = next.chain(self.kernel.has_lost_events().then_some(now)).min();
        let timeout = next.map(|at| child::timespec(at.saturating_duration_since(now)));
        let fixed = [Some(self.signals.as_fd()), self.watcher.as_ref().map(AsFd::as_fd), self.kernel.events_fd()];
        let fixed = fixed.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let unsent = self.notifier.pending_fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        let mut fds: Vec<PollFd<'_>> = fixed.chain(unsent).chain(self.control.poll_fds()).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing here waits: every source is asked, whoever woke us.
    fn look(&mut self) {
        self.notifier.flush();
        for signal in self.signals.take() {
            self.happen(match signal {
                Signal::Hangup => Event::Hangup,
                Signal::Terminate => Event::Terminate,
            });
        }
        match self.kernel.moved() {
            Ok(None) => {}
            Ok(Some(culprit)) => self.happen(Event::RulesMoved(culprit)),
            Err(why) => self.happen(Event::Watching(Err(why))),
        }
        if self.watcher.as_mut().is_some_and(Watcher::take) {
            self.happen(Event::FilesChanged);
        }
        for (client, request) in self.control.serve(Instant::now()) {
            self.happen(match request {
                Request::Reload => Event::ReloadRequested(client),
                Request::Status => Event::StatusRequested(client),
            });
        }
        self.happen(Event::Tick);
    }

    /// Tells the agent, does what it says, and tells it the result of each before the next is done.
    fn happen(&mut self, event: Event) {
        let mut actions: VecDeque<Action> = self.agent.handle(event, Instant::now()).into();
        while let Some(action) = actions.pop_front() {
            if self.exit.is_some() {
                return;
            }
            if let Some(result) = self.act(action) {
                let follow = self.agent.handle(result, Instant::now());
                follow.into_iter().rev().for_each(|action| actions.push_front(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::ReadLastGood => return Some(Event::LastGoodRead(state::read(&self.state_directory))),
            Action::ReadConfig => return Some(Event::ConfigRead(config::read(&self.locations))),
            Action::ReadHost => return Some(Event::HostRead(view::view())),
            Action::ChooseBackend(config) => return Some(Event::BackendChosen(self.kernel.choose(&config.settings))),
            Action::Watch(watch) => {
                let result = self.kernel.watch(watch == RuleWatch::Events);
                return (watch == RuleWatch::Events).then_some(Event::Watching(result));
            }
            Action::Reconcile(family, config) => {
                return Some(Event::Reconciled(family, self.kernel.reconcile(family, &config)));
            }
            Action::ReadFingerprint => return Some(Event::FingerprintRead(self.kernel.fingerprint())),
            Action::ReadContents => return Some(Event::ContentsRead(self.kernel.contents())),
            Action::SaveLastGood(sources) => {
                return Some(Event::LastGoodSaved(state::write(&self.state_directory, &sources)));
            }
            Action::ReadJob => return Some(Event::JobRead(unit::job(&mut child::Children))),
            Action::ClearOthers => return Some(Event::OthersCleared(self.kernel.clear_others())),
            Action::Flush => return Some(Event::Flushed(self.kernel.flush())),
            Action::Notify(notification) => self.notifier.send(&notification),
            Action::Log(entry) => self.journal.write(&entry),
            Action::AnswerReload(client, answer) => self.control.answer(client, &answer, Instant::now()),
            Action::AnswerStatus(client, report) => {
                let report = self.counted(*report);
                self.control.answer(client, &report, Instant::now());
            }
            Action::Exit(status) => self.exit = Some(status),
        }
        None
    }

    fn counted(&mut self, mut report: Report) -> Report {
        report.pid = std::process::id();
        for (family, entry) in Family::ALL.into_iter().zip(&mut report.families) {
            entry.counters = self.kernel.counters(family);
        }
        report
    }
}
