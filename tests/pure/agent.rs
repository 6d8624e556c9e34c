//! The agent in a world that is made of values: no kernel, no files, and a clock that is moved by hand.

use ip_masq_agent::agent::advice::HostView;
use ip_masq_agent::agent::{
    Action, AfterStop, Agent, Attempt, ChangedBy, Checked, Chosen, Client, Clock, ConfigOrigin, Depth, Event, Job,
    Outcome, Performer, PolicyInForce, PolicyQuestion, Report, Setup, State, TrialDetails, digest, drive,
};
use ip_masq_agent::backend::{BackendName, Error, ErrorKind, Removal};
use ip_masq_agent::config::{Diagnostics, Flags, Key, Reading, RuleWatch, SourceText};
use ip_masq_agent::policy::{Family, Flow, Verdict};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONFIG: &str = "/etc/ip-masq-agent/config.yaml";
const GOOD: &str = "nonMasqueradeCIDRs: [10.0.0.0/8]";
const OTHER: &str = "nonMasqueradeCIDRs: [192.168.0.0/16]";
const BAD: &str = "nonMasqueradeCIDRs: [10.0.0.0/33]";
const BOTH: &str = "enableIPv6: true";

/// After this another look at the kernel is made at once.
const MOMENT: Duration = Duration::from_millis(20);

struct World {
    agent: Agent,
    now: Instant,
    /// The text of the configuration file; `None` when there is none.
    file: Option<&'static str>,
    last_good: Option<Vec<SourceText>>,
    unconfirmed: Option<Vec<SourceText>>,
    /// What the next reconciliations of a family come to; in sync when nothing is said.
    answers: Vec<(Family, Result<bool, ErrorKind>)>,
    /// Our rules, or what shapes them, were changed since they were last seen to.
    moved: bool,
    /// Only a thorough look sees that.
    contents_moved: bool,
    /// Rules show where none are wanted.
    strays: bool,
    /// As a look saw it last; nobody has committed since.
    known_strays: bool,
    /// What a stop comes to; removed when nothing is said.
    flushes: Vec<ErrorKind>,
    /// The processor time of a repair.
    cost: Duration,
    doubted_until: Option<Instant>,
    checks: usize,
    job: Job,
    watchable: bool,
    saveable: bool,
    bridged: bool,
    /// Rules of an earlier run can't be removed.
    leftover: bool,
    /// Why.
    in_the_way: ErrorKind,
    /// Nothing is there any more to be removed.
    nothing_left: bool,
    /// The family of what is removed, or is not.
    cleared: Family,
    /// What the backend says of what it left.
    left: &'static [&'static str],
    /// What happens after the next family was made right, and cannot wait until all are.
    between: Option<Event>,
    /// What comes while rules are looked for where none are wanted.
    between_strays: Option<Event>,
    /// That family was made right.
    urgent: Vec<Event>,
    report: Option<Report>,
    trial: Option<TrialDetails>,
    /// What the last who asked for the policy was told.
    told: Option<Option<PolicyInForce>>,
    /// What the last client was told.
    answer: String,
    /// What was seen, in words.
    seen: Vec<String>,
    reconciled: usize,
    writes: usize,
    saved: usize,
    exit: Option<u8>,
}

impl World {
    fn new(file: Option<&'static str>) -> Self {
        let now = Instant::now();
        World {
            agent: Agent::new(Setup { watchdog: Some(Duration::from_secs(60)), ..Setup::default() }, now),
            now,
            file,
            last_good: None,
            unconfirmed: None,
            answers: Vec::new(),
            moved: false,
            contents_moved: false,
            strays: false,
            known_strays: false,
            flushes: Vec::new(),
            cost: Duration::ZERO,
            doubted_until: None,
            checks: 0,
            job: Job::Stop,
            watchable: true,
            saveable: true,
            bridged: false,
            leftover: false,
            in_the_way: ErrorKind::MissingTool,
            nothing_left: false,
            cleared: Family::V4,
            left: &[],
            between: None,
            between_strays: None,
            urgent: Vec::new(),
            report: None,
            trial: None,
            told: None,
            answer: String::new(),
            seen: Vec::new(),
            reconciled: 0,
            writes: 0,
            saved: 0,
            exit: None,
        }
    }

    fn running(file: &'static str) -> Self {
        let mut world = World::new(Some(file));
        world.happen(Event::Started);
        world.pass(MOMENT);
        world.seen.clear();
        world
    }

    fn happen(&mut self, event: Event) {
        self.known_strays &= !matches!(event, Event::RulesMoved(_));
        if self.exit.is_none() {
            self.exit = drive(self, event);
        }
    }

    fn note(&mut self, action: Action) {
        match action {
            Action::Notify(notification) => self.seen.push(format!("{notification:?}")),
            Action::Log(entry) => self.seen.push(format!("{:?}: {}", entry.kind, entry.message)),
            Action::AnswerReload(_, answer) => {
                self.seen.push(format!("answer {:?}", answer.outcome));
                self.answer = answer.message;
            }
            Action::ForgetUnconfirmed => self.unconfirmed = None,
            Action::AnswerTrial(_, details) => self.trial = details.map(|details| *details),
            Action::AnswerStatus(_, report) => self.report = Some(*report),
            Action::AnswerPolicy(_, told) => self.told = Some(told.map(|in_force| *in_force.told)),
            _ => {}
        }
    }

    fn check(&mut self, depth: Depth) -> Checked {
        self.checks += 1;
        let thorough = depth == Depth::Contents;
        let known = std::mem::replace(&mut self.known_strays, self.strays);
        Checked {
            moved: self.moved || (thorough && self.contents_moved),
            strays: self.strays && (thorough || !known),
            by: Vec::new(),
            doubted_until: self.doubted_until,
            cost: Duration::from_micros(200),
        }
    }

    fn clear(&mut self) -> Removal {
        self.seen.push("clear".to_owned());
        self.strays = self.leftover;
        self.known_strays = self.leftover;
        let removed = if self.nothing_left { Vec::new() } else { vec!["it".to_owned()] };
        let result = if self.leftover { Err(Error::new(self.in_the_way, "held")) } else { Ok(removed) };
        Removal { backend: BackendName::Nftables, family: self.cleared, result, notes: self.notes() }
    }

    fn notes(&self) -> Vec<String> {
        self.left.iter().map(|note| (*note).to_owned()).collect()
    }

    fn read(&self) -> Result<Reading, Diagnostics> {
        let path: Arc<Path> = Path::new(CONFIG).into();
        let source = |text: &str| SourceText { path: path.clone(), text: text.to_owned() };
        Ok(Reading { sources: self.file.map(source).into_iter().collect(), warnings: Vec::new() })
    }

    fn reconcile(&mut self, family: Family) -> Result<Outcome, Error> {
        (self.moved, self.contents_moved) = (false, false);
        self.doubted_until.take_if(|until| *until <= self.now);
        let answer = self.answers.iter().position(|(of, _)| *of == family).map(|place| self.answers.remove(place).1);
        let written = answer.unwrap_or(Ok(false)).map_err(|kind| Error::new(kind, format!("{kind:?}")))?;
        self.writes += usize::from(written);
        Ok(Outcome {
            written: written.then(|| vec!["the chain is missing".to_owned().into()]),
            bridged: self.bridged,
            took: Duration::from_millis(3),
            ..Outcome::nothing()
        })
    }

    /// Somebody else changes our rules, and the kernel says so.
    fn meddle(&mut self, program: &str) {
        self.moved = true;
        self.answers.push((Family::V4, Ok(true)));
        self.happen(commit(program));
        self.pass(MOMENT);
    }

    fn stop(&mut self) {
        self.happen(Event::Sigterm(self.now + Duration::from_secs(20)));
    }

    /// Lets time pass, with a tick at each deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.agent.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.happen(Event::Tick);
        }
        self.now = end;
    }

    fn count(&self, start: &str) -> usize {
        self.seen.iter().filter(|line| line.starts_with(start)).count()
    }

    #[track_caller]
    fn assert_seen(&mut self, starts: &[&str]) {
        let mut seen = self.seen.iter();
        for start in starts {
            assert!(seen.any(|line| line.starts_with(start)), "no '{start}' in its place in {:#?}", self.seen);
        }
        self.seen.clear();
    }

    fn report(&mut self) -> Report {
        self.happen(Event::StatusRequested(Client(0)));
        self.report.take().unwrap()
    }

    fn state(&mut self) -> State {
        self.report().state
    }

    fn warnings(&mut self) -> Vec<String> {
        self.report().warnings
    }
}

impl Performer for World {
    fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn urgent(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.urgent)
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::ReadLastGood => Some(Event::LastGoodRead(Ok(self.last_good.clone()))),
            Action::ReadConfig(why) => Some(Event::ConfigRead(why, self.read())),
            Action::ReadHost => Some(Event::HostRead(HostView::default())),
            Action::ChooseBackend(candidate, unusable) => {
                let setting = candidate.config.settings.backend;
                let (name, reason) = match unusable {
                    None => (BackendName::IptablesNft, "it works".to_owned()),
                    Some(error) => (BackendName::Nftables, error.message),
                };
                Some(Event::BackendChosen(candidate, Ok(Chosen { name, setting, reason })))
            }
            Action::Watch(RuleWatch::Events) => {
                Some(Event::Watching(if self.watchable { Ok(()) } else { Err(Arc::new(io::Error::other("no"))) }))
            }
            Action::Reconcile(family, reconciliation) => {
                self.reconciled += 1;
                self.urgent.extend(self.between.take());
                Some(Event::Reconciled(family, reconciliation, self.reconcile(family), self.cost))
            }
            Action::Check(depth, _) => Some(Event::Checked(depth, self.check(depth))),
            Action::SaveLastGood(sources) => {
                self.saved += 1;
                self.last_good = Some(sources.to_vec());
                Some(Event::LastGoodSaved(
                    sources,
                    if self.saveable { Ok(()) } else { Err(Arc::new(io::Error::other("full"))) },
                ))
            }
            Action::ReadUnconfirmed => Some(Event::UnconfirmedRead(Ok(self.unconfirmed.clone()))),
            Action::SaveTrial { before, tried, candidate } if self.saveable => {
                self.last_good = before.map(|before| before.to_vec()).or(self.last_good.take());
                self.unconfirmed = Some(tried.files.to_vec());
                Some(Event::TrialSaved(tried, candidate, Ok(())))
            }
            Action::SaveTrial { tried, candidate, .. } => {
                Some(Event::TrialSaved(tried, candidate, Err(Arc::new(io::Error::other("full")))))
            }
            Action::ReadJob => Some(Event::JobRead(self.job)),
            Action::ReadAfterStop(families) => {
                self.seen.push(format!("read after stop {families:?}"));
                Some(Event::AfterStopRead(AfterStop(Vec::new())))
            }
            Action::Flush => {
                self.seen.push("flush".to_owned());
                let failure = (!self.flushes.is_empty()).then(|| self.flushes.remove(0));
                let result = failure.map_or(Ok(Vec::new()), |kind| Err(Error::new(kind, "held")));
                let (backend, family) = (BackendName::IptablesNft, self.cleared);
                Some(Event::Flushed(vec![Removal { backend, family, result, notes: self.notes() }]))
            }
            Action::RemoveStrays(_, _, by) => {
                self.urgent.extend(self.between_strays.take());
                Some(Event::StraysRemoved(by, vec![self.clear()], self.cost))
            }
            other => {
                self.note(other);
                None
            }
        }
    }
}

fn commit(program: &str) -> Event {
    Event::RulesMoved(vec![ChangedBy { program: program.to_owned(), pid: Some(812), caller: None, origin: None }])
}

#[test]
fn a_start_says_ready_after_the_kernel_agreed_and_saves_what_it_agreed_to() {
    let mut world = World::new(Some(GOOD));
    world.happen(Event::Started);
    world.assert_seen(&["Status(\"starting", "BackendChosen", "Status(\"masquerading", "Applied", "Ready"]);
    assert_eq!((world.reconciled, world.saved, world.state()), (1, 1, State::Ready));
}

#[test]
fn auto_takes_another_backend_at_its_start_where_the_kernel_lacks_something_and_for_no_other_reason() {
    for (config, kind, chosen) in [
        (GOOD, ErrorKind::Unsupported, 2),
        (GOOD, ErrorKind::Refused, 1),
        (GOOD, ErrorKind::Permission, 1),
        ("backend: iptables-nft\n", ErrorKind::Unsupported, 1),
    ] {
        let mut world = World::new(Some(config));
        world.answers.push((Family::V4, Err(kind)));
        world.happen(Event::Started);
        assert_eq!((world.count("BackendChosen"), world.count("Ready")), (chosen, chosen - 1), "{config} {kind:?}");
    }
    let mut world = World::running(GOOD);
    world.answers.push((Family::V4, Err(ErrorKind::Unsupported)));
    world.happen(Event::ReloadRequested(Client(1)));
    world.assert_seen(&["Reloading", "Degraded", "Ready", "answer Refused"]);
}

#[test]
fn a_stop_between_the_families_of_the_start_removes_what_is_in() {
    let mut world = World::new(Some(BOTH));
    world.between = Some(Event::Sigterm(world.now + Duration::from_secs(20)));
    world.happen(Event::Started);
    world.assert_seen(&["Stopping", "flush", "Stopped: stopped; the rules are removed"]);
    assert_eq!((world.exit, world.reconciled), (Some(0), 1));
}

#[test]
fn a_stop_right_after_the_start_loses_no_last_good_configuration() {
    let mut world = World::new(Some(GOOD));
    world.between_strays = Some(Event::Sigterm(world.now + Duration::from_secs(20)));
    world.happen(Event::Started);
    assert_eq!((world.saved, world.exit), (1, Some(0)));
}

#[test]
fn a_stop_between_the_families_of_a_reload_answers_who_waits_for_that() {
    let mut world = World::running(BOTH);
    world.between = Some(Event::Sigterm(world.now + Duration::from_secs(20)));
    world.happen(Event::ReloadRequested(Client(7)));
    world.assert_seen(&["Reloading", "Stopping", "answer Refused", "flush"]);
    assert_eq!((world.exit, world.count("Ready")), (Some(0), 0));
}

#[test]
fn long_work_feeds_the_watchdog_when_that_is_due_and_does_nothing_else() {
    let mut world = World::running(BOTH);
    world.happen(Event::Tick);
    world.seen.clear();
    for (second, fed) in [(29, 0), (31, 1), (40, 1), (62, 2)] {
        let begun = world.now;
        world.now += Duration::from_secs(second);
        world.happen(Event::Working);
        world.now = begun;
        assert_eq!((world.count("Watchdog"), world.seen.len()), (fed, fed), "after {second} s");
    }
}

#[test]
fn no_file_means_the_defaults_and_says_so() {
    let mut world = World::new(None);
    world.happen(Event::Started);
    world.assert_seen(&["Applied", "Ready", "Defaults"]);
    assert_eq!(world.saved, 0);
}

#[test]
fn a_bad_file_without_a_last_good_one_ends_with_78() {
    let mut world = World::new(Some(BAD));
    world.happen(Event::Started);
    assert_eq!((world.exit, world.reconciled), (Some(78), 0));
}

#[test]
fn a_start_that_ends_says_of_no_configuration_that_it_is_in_force_and_blames_no_file_for_a_flag() {
    let mut before = World::running(GOOD);
    let saved = before.last_good.take();
    let mut flags = Flags::default();
    flags.add(Key::named("cidrLimit").unwrap(), ["0".to_owned()]);
    let mut world = World::new(Some(GOOD));
    (world.agent, world.last_good) = (Agent::new(Setup { flags, ..Setup::default() }, world.now), saved.clone());
    world.happen(Event::Started);
    assert_eq!((world.exit, world.count("ConfigRefused")), (Some(78), 1), "{:#?}", world.seen);
    world.assert_seen(&["ConfigRefused: the configuration is refused:\n--cidr-limit: "]);
    // What only the saved one has wrong is its own.
    let mut world = World::new(Some(BAD));
    world.last_good = saved;
    world.last_good.as_mut().unwrap()[0].text = "nonMasqueradeCIDRs: [10.0.0.0/34]".to_owned();
    world.happen(Event::Started);
    world.assert_seen(&[
        &format!("ConfigRefused: the configuration is refused:\n{CONFIG}:1:22"),
        &format!("ConfigRefused: the last good configuration is not usable either:\n{CONFIG}:1:22"),
    ]);
    assert_eq!(world.exit, Some(78));
}

#[test]
fn a_bad_file_with_a_last_good_one_is_degraded_until_it_is_edited() {
    let mut world = World::running(GOOD);
    let mut next = World::new(Some(BAD));
    next.last_good = world.last_good.take();
    next.happen(Event::Started);
    next.assert_seen(&["ConfigRefused", "Status(\"degraded", "Applied", "Ready"]);
    assert_eq!((next.state(), next.saved), (State::Degraded, 0));
    next.file = Some(GOOD);
    next.happen(Event::FilesChanged);
    next.pass(Duration::from_millis(200));
    next.assert_seen(&["Recovered"]);
    assert_eq!((next.state(), next.saved), (State::Ready, 0));
}

#[test]
fn an_edit_that_begins_while_another_one_is_about_to_be_read_is_read_when_it_is_written() {
    let mut world = World::running(GOOD);
    let saved = world.saved;
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_millis(150));
    // It was emptied to be written anew.
    world.file = Some("");
    world.happen(Event::FilesBeingWritten);
    world.pass(Duration::from_millis(100));
    world.file = Some(OTHER);
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.saved, saved + 1, "it was never in force empty");
    assert_eq!(world.last_good.unwrap()[0].text, OTHER);
}

#[test]
fn a_file_that_vanished_is_no_reason_to_fall_back_on_the_defaults() {
    let mut world = World::running(GOOD);
    world.file = None;
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["ConfigMissing"]);
    assert_eq!(world.state(), State::Degraded);
    let mut next = World::new(None);
    next.last_good = world.last_good.take();
    next.happen(Event::Started);
    next.assert_seen(&["ConfigMissing", "Ready"]);
    assert_eq!((next.state(), next.report().configuration.origin), (State::Degraded, ConfigOrigin::LastGood));
}

#[test]
fn a_reload_is_answered_once_it_is_decided() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    world.happen(Event::ReloadRequested(Client(1)));
    world.assert_seen(&["Reloading", "Reloaded", "Ready", "answer Applied"]);
    world.file = Some(BAD);
    world.happen(Event::ReloadRequested(Client(2)));
    world.assert_seen(&["Reloading", "ConfigRefused", "Ready", "answer Configuration"]);
    world.file = Some(GOOD);
    world.answers.push((Family::V4, Err(ErrorKind::Refused)));
    world.happen(Event::ReloadRequested(Client(3)));
    world.assert_seen(&["Reloading", "Degraded", "Ready", "answer Refused"]);
    assert_eq!(world.report().configuration.generation, 2);
}

#[test]
fn a_reload_without_the_tool_for_ipv4_is_no_success() {
    let mut world = World::running(GOOD);
    world.answers.push((Family::V4, Err(ErrorKind::MissingTool)));
    world.happen(Event::ReloadRequested(Client(1)));
    world.assert_seen(&["Reloading", "Degraded", "Ready", "answer Refused"]);
}

#[test]
fn what_the_kernel_refused_is_tried_again_and_said_once() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    // What is in force is looked at after each refusal.
    world.answers = [(Family::V4, Err(ErrorKind::Refused)), (Family::V4, Ok(false))].repeat(3);
    world.pass(Duration::from_secs(190));
    assert_eq!((world.count("Degraded"), world.state()), (1, State::Degraded));
    world.pass(Duration::from_secs(60));
    world.assert_seen(&["Recovered", "Reloaded"]);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn a_lock_that_was_held_at_a_reload_is_not_waited_for_until_the_next_resync() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)), (Family::V4, Ok(false)), (Family::V4, Ok(true))];
    world.happen(Event::Sighup);
    assert_eq!(world.state(), State::Degraded);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.count("Reloaded"), world.state()), (1, State::Ready));
}

#[test]
fn a_configuration_for_which_the_kernel_stays_too_busy_is_tried_less_and_less_often() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    // What is in force can be verified all the while.
    world.answers = [(Family::V4, Err(ErrorKind::Busy)), (Family::V4, Ok(false))].repeat(1000);
    world.happen(Event::Sighup);
    let reconciled = world.reconciled;
    world.pass(Duration::from_secs(50));
    let tries = (world.reconciled - reconciled) / 2;
    assert!((10..=20).contains(&tries), "{tries}");
}

#[test]
fn a_backend_that_has_to_wait_is_warned_of_and_the_way_back_is_not() {
    let mut world = World::running("backend: auto");
    for (file, warnings) in [("backend: nftables", 1), ("backend: iptables-nft", 1), ("backend: iptables-legacy", 2)] {
        world.file = Some(file);
        world.happen(Event::Sighup);
        let said = world.seen.iter().filter(|line| line.ends_with("this takes effect at the next restart"));
        assert_eq!(said.count(), warnings, "{file}");
        let waits = world.warnings().iter().any(|line| line.ends_with("this takes effect at the next restart"));
        assert_eq!(waits, file != "backend: iptables-nft", "{file}");
    }
}

#[test]
fn what_is_in_force_is_repaired_while_a_newer_configuration_is_refused() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    world.answers = vec![(Family::V4, Err(ErrorKind::Refused)), (Family::V4, Ok(true))];
    world.contents_moved = true;
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Degraded", "Repaired"]);
    assert_eq!(world.state(), State::Degraded);
}

#[test]
fn an_edit_during_a_start_that_waits_is_not_undone_by_the_older_text() {
    let mut world = World::new(Some(GOOD));
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 2];
    world.happen(Event::Started);
    world.file = Some(OTHER);
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_secs(10));
    assert_eq!((world.count("Ready"), world.count("Reloaded"), world.saved), (1, 0, 1));
    assert_eq!(world.last_good.unwrap()[0].text, OTHER);
}

#[test]
fn a_reload_while_the_start_waits_reads_the_files_again_once_it_is_done() {
    for (event, answers) in [(Event::Sighup, 0), (Event::ReloadRequested(Client(4)), 1)] {
        let mut world = World::new(Some(GOOD));
        world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 2];
        world.happen(Event::Started);
        // Nobody tells of the edit: the file is the target of a link.
        world.file = Some(OTHER);
        world.happen(event);
        assert_eq!(world.count("answer"), 0);
        world.pass(Duration::from_secs(10));
        assert_eq!(world.count("answer Applied"), answers);
        world.assert_seen(&["Applied", "Ready", "Reloading", "Reloaded", "Ready"]);
        assert_eq!(world.last_good.unwrap()[0].text, OTHER);
    }
}

#[test]
fn who_waits_for_a_reload_while_the_start_fails_is_told() {
    let mut world = World::new(Some(GOOD));
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 1000];
    world.happen(Event::Started);
    world.happen(Event::ReloadRequested(Client(4)));
    world.pass(Duration::from_secs(61));
    assert_eq!((world.count("answer Refused"), world.exit), (1, Some(1)));
}

#[test]
fn a_tool_that_is_missing_for_a_moment_is_not_missed_until_the_next_resync() {
    let mut world = World::running("resyncInterval: 24h");
    world.answers = vec![(Family::V4, Err(ErrorKind::MissingTool)); 3];
    world.moved = true;
    world.happen(commit("nft"));
    assert_eq!(world.state(), State::Degraded);
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_secs(2));
    world.assert_seen(&["Degraded", "Recovered: the IPv4 rules are in sync with the configuration again"]);
    assert_eq!((world.state(), world.writes), (State::Ready, 1));
}

#[test]
fn a_tool_that_never_was_there_is_looked_for_at_each_resync_and_no_oftener() {
    let mut world = World::running(GOOD);
    world.file = Some(BOTH);
    world.answers = vec![(Family::V6, Err(ErrorKind::MissingTool)); 1000];
    world.happen(Event::Sighup);
    let reconciled = world.reconciled;
    world.pass(Duration::from_secs(59));
    assert_eq!((world.reconciled - reconciled, world.state()), (0, State::Degraded));
}

#[test]
fn an_unchanged_resync_looks_at_the_kernel_and_does_nothing_else() {
    let mut world = World::running(GOOD);
    let (reconciled, checks) = (world.reconciled, world.checks);
    world.pass(Duration::from_secs(600));
    world.seen.retain(|line| line != "Watchdog");
    assert_eq!((world.reconciled, world.checks, &world.seen), (reconciled, checks + 10, &Vec::new()));
}

#[test]
fn what_a_quick_look_is_blind_to_is_repaired_at_the_resync() {
    let mut world = World::running(GOOD);
    world.contents_moved = true;
    world.happen(Event::RulesMoved(Vec::new()));
    assert_eq!(world.count("Repaired"), 0);
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Repaired: IPv4 rules changed by another program"]);
}

#[test]
fn elements_that_were_only_counted_are_read_when_their_time_is_up_however_far_the_resync_is() {
    let mut world = World::running("resyncInterval: 1h");
    world.contents_moved = true;
    world.doubted_until = Some(world.now + Duration::from_secs(30));
    world.happen(commit("ipset"));
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_secs(29));
    assert_eq!(world.count("Repaired"), 0);
    let reconciled = world.reconciled;
    world.pass(Duration::from_secs(2));
    assert_eq!((world.count("Repaired"), world.reconciled - reconciled), (1, 1));
}

#[test]
fn elements_that_cannot_be_read_when_their_time_is_up_keep_nobody_busy() {
    let mut world = World::running("resyncInterval: 1h");
    world.doubted_until = Some(world.now);
    world.happen(commit("ipset"));
    world.happen(Event::Tick);
    assert!(world.agent.deadline() > Some(world.now));
}

#[test]
fn a_resync_and_an_edit_come_in_time_while_others_commit_and_files_change_all_the_while() {
    let mut world = World::running("resyncInterval: 2s");
    world.file = Some(OTHER);
    // Nobody tells of the edit: the file is the target of a link.
    for _ in 0..3 {
        world.moved = true;
        world.happen(commit("other"));
        world.pass(Duration::from_millis(700));
    }
    assert_eq!(world.count("Reloaded"), 1, "{:?}", world.seen);

    let mut world = World::running("resyncInterval: 1h");
    world.file = Some(OTHER);
    for _ in 0..21 {
        world.happen(Event::FilesChanged);
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.count("Reloaded"), 1, "two seconds after the first change");
}

#[test]
fn drift_is_repaired_and_the_program_named() {
    let mut world = World::running(GOOD);
    world.meddle("firewalld");
    world.assert_seen(&["Repaired: IPv4 rules changed by firewalld[812]; repaired in 3.0 ms: the chain is missing"]);
    world.happen(commit("other"));
    assert_eq!(world.seen, Vec::<String>::new(), "rules of their own");
    world.meddle("iptables");
    world.assert_seen(&["Repaired: IPv4 rules changed by iptables[812]; "]);
}

#[test]
fn each_program_that_may_have_done_it_is_named() {
    let mut world = World::running(GOOD);
    world.moved = true;
    world.answers.push((Family::V4, Ok(true)));
    let program = |name: &str| ChangedBy { program: name.into(), pid: None, caller: None, origin: None };
    world.happen(Event::RulesMoved(vec![program("nft"), program("iptables"), program("nft")]));
    world.pass(MOMENT);
    world.assert_seen(&["Repaired: IPv4 rules changed by nft or iptables; "]);
    world.moved = true;
    world.answers.push((Family::V4, Ok(true)));
    let process = |pid| ChangedBy { program: "nft".into(), pid: Some(pid), caller: Some("sh[7]".into()), origin: None };
    world.happen(Event::RulesMoved(vec![process(8), program("iptables"), process(9)]));
    world.assert_seen(&["Repaired: IPv4 rules changed by nft or iptables; "]);
}

#[test]
fn rules_that_follow_a_sysctl_are_nobodys_change() {
    let mut world = World::running(GOOD);
    world.bridged = true;
    world.moved = true;
    world.answers.push((Family::V4, Ok(true)));
    world.happen(Event::HostChanged);
    world.pass(MOMENT);
    world.assert_seen(&["Adapted: IPv4 rules follow net.bridge.bridge-nf-call-iptables, which is 1 now; written in"]);
    assert_eq!(world.report().last_repair, None);
    world.meddle("firewalld");
    world.assert_seen(&["Repaired: IPv4 rules changed by firewalld[812]"]);
}

#[test]
fn a_program_that_changes_its_own_rules_delays_no_repair_and_costs_a_fiftieth_of_the_time() {
    let mut world = World::running(GOOD);
    let (checks, reconciled) = (world.checks, world.reconciled);
    // Ten a second: each is looked at.
    for _ in 0..1000 {
        world.happen(commit("other"));
        world.pass(Duration::from_millis(100));
    }
    // And a resync each minute.
    assert_eq!((world.checks - checks, world.reconciled - reconciled, world.count("Repaired")), (1001, 0, 0));
    // A thousand a second, for ten seconds: 200 ms of work at most, and 100 ms at once.
    let checks = world.checks;
    for _ in 0..10_000 {
        if !world.agent.defers_events(world.now) {
            world.happen(commit("other"));
        }
        world.pass(Duration::from_millis(1));
    }
    let cost = Duration::from_micros(200) * (world.checks - checks) as u32;
    assert!((90..=310).contains(&cost.as_millis()), "{cost:?}");
    world.meddle("firewalld");
    world.pass(Duration::from_millis(20));
    assert_eq!(world.count("Repaired"), 1, "in time all the same");
}

#[test]
fn a_sysctl_that_is_written_all_the_while_costs_no_more_than_commits_do() {
    let mut world = World::running(GOOD);
    let checks = world.checks;
    for _ in 0..10_000 {
        world.happen(Event::HostChanged);
        world.pass(Duration::from_millis(1));
    }
    let cost = Duration::from_micros(200) * (world.checks - checks) as u32;
    assert!((90..=310).contains(&cost.as_millis()), "{cost:?}");
}

#[test]
fn a_fight_is_reported_once_repaired_each_time_and_over_after_a_quiet_minute() {
    let mut world = World::running(GOOD);
    for _ in 0..300 {
        world.meddle("firewalld");
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.count("Repaired"), world.count("Fight:"), world.writes), (4, 1, 300));
    let report = world.report();
    assert_eq!(
        (report.state, report.degraded.as_slice()),
        (State::Degraded, &["another program keeps changing the IPv4 rules".to_owned()][..],)
    );
    assert!(!report.summary.contains("masquerading"), "{}", report.summary);
    assert_eq!(report.last_repair.unwrap().by.as_deref(), Some("firewalld[812]"));
    world.pass(Duration::from_secs(120));
    assert_eq!(
        (
            world.count("FightOver: no program has changed the IPv4 rules for a minute; repairs until then: 300"),
            world.state()
        ),
        (1, State::Ready)
    );
}

#[test]
fn a_fight_that_costs_too_much_still_brings_a_repair_each_second() {
    let mut world = World::running(GOOD);
    world.cost = Duration::from_millis(500);
    for _ in 0..1000 {
        world.moved = true;
        if !world.agent.defers_events(world.now) {
            world.meddle("firewalld");
        }
        world.pass(Duration::from_millis(10));
    }
    assert!((10..=13).contains(&world.writes), "{} in ten seconds", world.writes);
}

#[test]
fn rules_that_are_put_where_none_are_wanted_are_removed_and_the_program_is_named() {
    let mut world = World::running(GOOD);
    world.strays = true;
    world.happen(commit("nft"));
    world.assert_seen(&["clear", "OthersRemoved: IPv4 rules added by nft[812] were removed from nftables: it"]);
    world.strays = true;
    world.happen(Event::Sighup);
    world.assert_seen(&["clear", "OthersRemoved: IPv4 rules of an earlier run were removed", "Ready"]);
    world.strays = true;
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["clear", "OthersRemoved: IPv4 rules added by another program were removed"]);
}

#[test]
fn a_stop_waits_for_what_is_in_the_way_and_no_longer_than_systemd_does() {
    let mut world = World::running(GOOD);
    world.flushes = vec![ErrorKind::Busy, ErrorKind::Timeout];
    world.stop();
    assert_eq!(world.exit, None);
    assert_eq!(world.report().summary, "stopping, waiting: held");
    world.pass(Duration::from_secs(1));
    assert_eq!((world.count("flush"), world.exit), (3, Some(0)));
    world.assert_seen(&["Stopped: stopped; the rules are removed"]);

    let mut world = World::running(GOOD);
    world.flushes = vec![ErrorKind::Busy; 100];
    let begun = world.now;
    world.stop();
    while world.exit.is_none() {
        world.pass(Duration::from_millis(100));
    }
    assert!((15..25).contains(&(world.now - begun).as_secs()), "{:?}", world.now - begun);
    world
        .assert_seen(&["Failed: the IPv4 rules could not be removed: held", "Stopped: stopped; the rules are not all"]);
    assert_eq!(world.exit, Some(1));

    let mut world = World::running(GOOD);
    world.flushes = vec![ErrorKind::Permission];
    world.stop();
    assert_eq!(world.exit, Some(1), "waiting would not help");
}

#[test]
fn a_stop_says_what_it_could_not_remove_whether_that_was_wanted_or_not_and_names_flush_where_that_helps() {
    let all_said = |kind: ErrorKind, hint: &str| {
        let mut world = World::running(GOOD);
        (world.cleared, world.flushes) = (Family::V6, vec![kind]);
        world.stop();
        assert_eq!(world.seen.last().unwrap(), &format!("Stopped: stopped; the rules are not all removed{hint}"));
        world.assert_seen(&["Failed: the IPv6 rules could not be removed: held"]);
        assert_eq!(world.exit, Some(1));
    };
    all_said(ErrorKind::MissingTool, "");
    all_said(ErrorKind::Foreign, "");
    all_said(ErrorKind::Refused, "; 'ip-masq-agent flush' removes what is left");
}

#[test]
fn a_stop_says_what_stays_and_why() {
    let mut world = World::running(GOOD);
    world.left = &["set 'b' stays", "set 'a' stays"];
    world.stop();
    world.assert_seen(&[
        "Warning: set 'a' stays",
        "Warning: set 'b' stays",
        "Stopped: stopped; the rules are removed, but: set 'a' stays; set 'b' stays",
    ]);
    assert_eq!(world.exit, Some(0));
    // What could not be looked at where nothing was wanted.
    let mut world = World::running(GOOD);
    (world.cleared, world.left) = (Family::V6, &["whether IPv6 holds leftovers is not known"]);
    world.stop();
    assert_eq!(
        (world.count("Warning"), world.seen.last().unwrap().as_str()),
        (0, "Stopped: stopped; the rules are removed")
    );
}

#[test]
fn a_stop_that_has_to_wait_does_and_begins_nothing_else() {
    let mut world = World::new(Some(BOTH));
    world.flushes = vec![ErrorKind::Busy; 3];
    world.between = Some(Event::Sigterm(world.now + Duration::from_secs(20)));
    world.happen(Event::Started);
    let told: [Event; 5] = [
        Event::FilesChanged,
        Event::HostChanged,
        Event::Sighup,
        commit("nft"),
        Event::Watching(Err(Arc::new(io::Error::other("reading rule events failed")))),
    ];
    told.into_iter().for_each(|event| world.happen(event));
    assert_eq!((world.state(), world.reconciled, world.count("Ready")), (State::Stopping, 1, 0));
    world.now += Duration::from_millis(1500);
    world.happen(Event::Tick);
    assert!(world.agent.deadline() > Some(world.now), "nothing that is due and never done");
    world.pass(Duration::from_secs(5));
    assert_eq!((world.exit, world.reconciled, world.writes), (Some(0), 1, 0));
}

#[test]
fn a_stop_waits_as_little_as_the_first_failure_however_long_something_failed_before() {
    let mut world = World::running(GOOD);
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 100];
    world.moved = true;
    world.happen(commit("nft"));
    world.pass(Duration::from_secs(40));
    world.flushes = vec![ErrorKind::Busy];
    world.stop();
    world.pass(Duration::from_millis(200));
    assert_eq!(world.exit, Some(0));
}

#[test]
fn ipv6_that_fails_is_degraded_visible_and_tried_again() {
    let mut world = World::new(Some(BOTH));
    world.answers.push((Family::V6, Err(ErrorKind::Unsupported)));
    world.happen(Event::Started);
    world.assert_seen(&["Degraded: the IPv6 rules", "Ready"]);
    assert_eq!(world.state(), State::Degraded);
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Recovered"]);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn what_is_said_of_a_configuration_is_not_said_of_a_family_that_fails() {
    let mut world = World::running(GOOD);
    world.file = Some(BOTH);
    world.answers.push((Family::V6, Err(ErrorKind::MissingTool)));
    world.happen(Event::ReloadRequested(Client(1)));
    let said = format!(
        "configuration 2 is in the kernel: IPv4 through iptables-nft, from {CONFIG}, 3.0 ms; IPv6 is not: MissingTool"
    );
    assert_eq!(world.answer, said);
    world.assert_seen(&[&format!("Reloaded: {said}"), "answer Applied"]);
    world.answers.push((Family::V6, Err(ErrorKind::MissingTool)));
    world.happen(Event::ReloadRequested(Client(2)));
    assert_eq!(world.answer, "nothing has changed; the rules are in the kernel; IPv6 is not: MissingTool");
    world.assert_seen(&["answer Applied"]);
    world.happen(Event::ReloadRequested(Client(3)));
    assert_eq!(world.answer, "nothing has changed; the rules are in the kernel");
}

#[test]
fn a_reload_names_each_family_that_fails() {
    let mut world = World::running(BOTH);
    world.answers = vec![(Family::V4, Err(ErrorKind::Foreign)), (Family::V6, Err(ErrorKind::Refused))];
    world.happen(Event::ReloadRequested(Client(1)));
    let said = "the IPv4 rules are not in sync with the configuration: Foreign; \
                the IPv6 rules are not in sync with the configuration: Refused";
    assert_eq!(world.answer, said);
    world.assert_seen(&["answer Refused"]);
}

#[test]
fn ipv6_that_is_turned_off_and_stays_is_no_success() {
    let mut world = World::running(BOTH);
    world.file = Some(GOOD);
    world.answers.push((Family::V6, Err(ErrorKind::MissingTool)));
    world.happen(Event::ReloadRequested(Client(1)));
    world.assert_seen(&["Degraded: the IPv6 rules", "Reloaded", "answer Refused"]);
    assert_eq!(world.state(), State::Degraded);
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Recovered: the IPv6 rules are in sync"]);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn what_an_earlier_run_left_in_a_family_that_is_off_and_what_stays_of_it_is_said() {
    let mut world = World::new(Some(GOOD));
    (world.leftover, world.cleared) = (true, Family::V6);
    world.happen(Event::Started);
    world.assert_seen(&["Ready", "Warning: IPv6 rules of an earlier run"]);
    assert_eq!(world.state(), State::Degraded);
    (world.leftover, world.left) = (false, &["set 'a' stays"]);
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["OthersRemoved", "Warning: set 'a' stays", "Recovered"]);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn what_an_earlier_run_left_goes_after_ready() {
    let mut world = World::new(Some(GOOD));
    world.happen(Event::Started);
    world.assert_seen(&[
        "Ready",
        "clear",
        "OthersRemoved: IPv4 rules of an earlier run were removed from nftables: it",
    ]);
    assert_eq!(world.report().last_repair, None);
}

#[test]
fn what_fails_on_the_same_rules_is_not_tried_every_second() {
    let mut world = World::running("ruleWatch: poll");
    world.moved = true;
    world.answers = vec![(Family::V4, Err(ErrorKind::Foreign)); 100];
    let before = world.reconciled;
    world.pass(Duration::from_secs(120));
    assert!(world.reconciled - before <= 4, "{}", world.reconciled - before);
    assert_eq!((world.count("ForeignRefused"), world.state()), (1, State::Degraded));
}

#[test]
fn a_kernel_without_ipv6_is_no_fault_where_nobody_asked_for_it() {
    let mut world = World::new(Some(GOOD));
    world.answers.push((Family::V6, Err(ErrorKind::Unsupported)));
    world.happen(Event::Started);
    assert_eq!((world.state(), world.count("Degraded")), (State::Ready, 0));
}

#[test]
fn a_start_against_a_held_lock_asks_for_time_and_gives_up_after_a_minute() {
    let mut world = World::new(Some(GOOD));
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 3];
    world.happen(Event::Started);
    world.pass(Duration::from_secs(2));
    world.assert_seen(&["ExtendTimeout", "ExtendTimeout", "ExtendTimeout", "Ready"]);

    let mut world = World::new(Some(GOOD));
    world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 1000];
    world.happen(Event::Started);
    world.pass(Duration::from_secs(61));
    assert_eq!((world.exit, world.count("Ready")), (Some(1), 0));
}

#[test]
fn a_start_that_can_not_work_does_not_wait() {
    let mut world = World::new(Some(GOOD));
    world.answers.push((Family::V4, Err(ErrorKind::Permission)));
    world.happen(Event::Started);
    assert_eq!((world.exit, world.count("Ready")), (Some(1), 0));
}

#[test]
fn a_stop_cleans_and_half_a_restart_does_not() {
    for (job, flushes) in [(Job::Stop, 1), (Job::NoSystemd, 1), (Job::Restart, 0), (Job::Unknown, 0)] {
        let mut world = World::running(GOOD);
        world.job = job;
        world.stop();
        assert_eq!((world.count("flush"), world.count("Stopping"), world.exit), (flushes, 1, Some(0)), "{job:?}");
        assert_eq!((world.count("Stopped"), world.count("Removing")), (1, flushes));
        if flushes > 0 {
            world.assert_seen(&[
                "read after stop [V4]",
                "Removing: stopping: the rules are removed",
                "flush",
                "Stopped",
            ]);
        }
    }
    let mut world = World::running("onStop: keep");
    world.stop();
    assert_eq!((world.count("flush"), world.exit), (0, Some(0)));
}

#[test]
fn a_stop_before_the_rules_are_in_place_does_not_say_that_they_stay() {
    for (text, job, why) in
        [("onStop: keep", Job::Stop, "onStop is 'keep'"), (GOOD, Job::Restart, "the unit is being restarted")]
    {
        let mut world = World::new(Some(text));
        world.job = job;
        world.answers = vec![(Family::V4, Err(ErrorKind::Busy)); 100];
        world.happen(Event::Started);
        assert_eq!((world.state(), world.exit), (State::Starting, None));
        world.stop();
        assert_eq!((world.count("flush"), world.count("Ready"), world.exit), (0, 0, Some(0)));
        let said = format!("Stopped: stopped before the rules were in place; those that are in the kernel stay: {why}");
        assert_eq!(world.seen.last(), Some(&said));

        let mut world = World::running(text);
        world.job = job;
        world.stop();
        assert_eq!(world.seen.last(), Some(&format!("Stopped: stopped; the rules stay: {why}")));
    }
}

#[test]
fn what_happens_before_we_listen_or_while_we_write_is_not_missed() {
    let mut world = World::new(Some(BOTH));
    world.answers = vec![(Family::V4, Ok(true)), (Family::V6, Ok(true))];
    world.happen(Event::Started);
    // IPv4 was verified, then IPv6 was written: only another look tells whether that was all that moved.
    // And after what an earlier run left was looked for, as that is done unheard, too.
    assert_eq!((world.reconciled, world.writes, world.checks), (2, 2, 2));
}

#[test]
fn without_events_the_kernel_is_asked_once_a_second() {
    let mut world = World::new(Some(GOOD));
    world.watchable = false;
    world.happen(Event::Started);
    world.assert_seen(&["WatchLost", "Ready"]);
    world.moved = true;
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_millis(1100));
    world.assert_seen(&["Repaired: IPv4 rules changed by another program"]);
    assert_eq!(world.count("WatchLost"), 0, "said once");
}

#[test]
fn a_configuration_that_could_not_be_saved_is_mentioned_once_and_saved_when_that_can_be_done() {
    let mut world = World::new(Some(GOOD));
    world.saveable = false;
    world.happen(Event::Started);
    world.file = Some(OTHER);
    world.happen(Event::Sighup);
    world.pass(Duration::from_secs(90));
    assert_eq!((world.saved, world.count("StateNotSaved"), world.state()), (3, 1, State::Ready));
    assert_eq!(world.warnings(), ["the last good configuration could not be saved: full"]);
    world.saveable = true;
    world.pass(Duration::from_secs(180));
    assert_eq!((world.saved, world.count("StateNotSaved")), (4, 1), "once is enough");
    world.assert_seen(&["Recovered: the last good configuration is saved again"]);
    assert!(world.warnings().is_empty());
}

#[test]
fn rules_of_an_earlier_run_that_stay_are_said_once_and_tried_again_at_each_resync() {
    let mut world = World::new(Some(GOOD));
    world.leftover = true;
    world.happen(Event::Started);
    world.pass(Duration::from_secs(190));
    let warning = "IPv4 rules of an earlier run or of Kubernetes' ip-masq-agent are still in nftables and act in addition to the configured ones: held";
    assert_eq!((world.count("clear"), world.count(&format!("Warning: {warning}"))), (4, 1));
    assert_eq!((world.report().degraded, world.state()), (vec![warning.to_owned()], State::Degraded));
    world.leftover = false;
    world.pass(Duration::from_secs(600));
    assert_eq!((world.count("clear"), world.count("OthersRemoved")), (5, 1));
    assert_eq!(world.report().degraded, Vec::<String>::new());
}

#[test]
fn new_rules_where_none_are_wanted_are_seen_with_their_event_although_others_could_not_be_removed() {
    let mut world = World::running("resyncInterval: 24h");
    (world.strays, world.leftover, world.in_the_way) = (true, true, ErrorKind::MissingTool);
    world.happen(commit("restorer"));
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("clear"), world.count("Warning"), world.state()), (1, 1, State::Degraded));
    world.leftover = false;
    world.happen(commit("nft"));
    world.pass(MOMENT);
    assert_eq!((world.count("clear"), world.state()), (2, State::Ready), "{:?}", world.seen);
    world.assert_seen(&["OthersRemoved", "Recovered"]);
}

#[test]
fn rules_where_none_are_wanted_wait_for_a_lock_and_not_for_the_next_resync() {
    let mut world = World::running("resyncInterval: 24h");
    (world.strays, world.leftover, world.in_the_way) = (true, true, ErrorKind::Busy);
    world.happen(commit("nft"));
    world.pass(Duration::from_secs(1));
    assert_eq!((world.count("Warning"), world.state()), (1, State::Degraded));
    world.leftover = false;
    world.pass(Duration::from_secs(5));
    world.assert_seen(&["OthersRemoved", "Recovered"]);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn rules_that_could_not_be_removed_and_that_somebody_else_removes_are_forgotten() {
    let mut world = World::new(Some(GOOD));
    world.leftover = true;
    world.happen(Event::Started);
    assert_eq!(world.state(), State::Degraded);
    (world.leftover, world.strays) = (false, false);
    world.nothing_left = true;
    world.pass(Duration::from_secs(61));
    assert_eq!((world.state(), world.count("Recovered")), (State::Ready, 1), "{:?}", world.seen);
}

#[test]
fn rules_that_come_back_again_and_again_where_none_are_wanted_are_a_fight_and_said_once() {
    let mut world = World::running(GOOD);
    for _ in 0..100 {
        world.strays = true;
        world.happen(commit("restorer"));
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.count("clear"), world.count("OthersRemoved"), world.count("Fight:")), (100, 4, 1));
    assert_eq!(world.state(), State::Degraded);
    world.pass(Duration::from_secs(120));
    assert_eq!((world.count("FightOver"), world.state()), (1, State::Ready));
}

/// What somebody is told who has read a text, of some destinations.
fn told(world: &mut World, text: &str, destinations: &[&str]) -> Option<PolicyInForce> {
    let texts = [SourceText { path: Path::new(CONFIG).into(), text: text.to_owned() }];
    let destinations = destinations.iter().map(|one| one.parse().unwrap()).collect();
    world.happen(Event::PolicyRequested(Client(3), PolicyQuestion { digest: digest(&texts), destinations }));
    world.told.take().expect("an answer")
}

#[test]
fn who_has_read_the_same_texts_is_told_what_they_come_to_while_nothing_is_wrong() {
    const LISTS: &str = "nonMasqueradeCIDRs: [10.0.0.0/8, 10.1.0.0/16, 192.168.0.0/16]";
    const TO: &[&str] = &["10.1.2.3"];
    let mut world = World::running(LISTS);
    let answer = told(&mut world, LISTS, TO).unwrap();
    assert_eq!((answer.backend, answer.policy.exempt.entries().len()), (BackendName::IptablesNft, 2));
    let (verdict, provenance) = answer.policy.verdict(&Flow::forwarded_to(TO[0].parse().unwrap()));
    assert_eq!((verdict, provenance.origin.unwrap().to_string()), (Verdict::Return, format!("{CONFIG}:1:34")));
    assert_eq!(told(&mut world, OTHER, TO), None);
    world.file = Some(BAD);
    world.happen(Event::ReloadRequested(Client(4)));
    assert_eq!(world.state(), State::Degraded);
    assert_eq!(told(&mut world, LISTS, TO), None);
    world.file = Some(LISTS);
    world.happen(Event::ReloadRequested(Client(5)));
    assert!(told(&mut world, LISTS, TO).is_some());
    world.flushes = vec![ErrorKind::Busy; 2];
    world.stop();
    assert_eq!(told(&mut world, LISTS, TO), None);
}

#[test]
fn what_would_be_long_or_may_be_another_in_a_moment_is_told_to_nobody() {
    const TO: &[&str] = &["203.0.113.9"];
    let ranges =
        |count: u32| (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect::<Vec<_>>().join(", ");
    let texts = [
        (format!("nonMasqueradeCIDRs: [{}]", ranges(5000)), true),
        // Side by side they are one range, and yet so many are told.
        (format!("sourceCIDRs: [{}]", ranges(5000)), false),
        (format!("portForwards: [{{hostPort: 80, address: 10.9.9.9, hairpin: [{}]}}]", ranges(5000)), false),
        ("snat: route-source".to_owned(), false),
        ("portForwards: [{hostPort: 80, address: 10.9.9.9}]".to_owned(), false),
        ("portForwards: [{hostPort: 80, address: 10.9.9.9, hairpin: never}]".to_owned(), true),
    ];
    for (text, is_told) in texts {
        let text: &'static str = text.leak();
        let mut world = World::running(text);
        assert_eq!(told(&mut world, text, TO).is_some(), is_told, "{}", &text[..40.min(text.len())]);
    }
    let mut world = World::running(GOOD);
    let many = vec![TO[0]; 65];
    assert!(told(&mut world, GOOD, &many[1..]).is_some());
    assert_eq!(told(&mut world, GOOD, &many), None);
    let mut flags = Flags::default();
    flags.add(Key::named("enableIPv6").unwrap(), ["true".to_owned()]);
    let mut flagged = World::new(Some(GOOD));
    flagged.agent = Agent::new(Setup { flags, ..Setup::default() }, flagged.now);
    flagged.happen(Event::Started);
    let report = flagged.report();
    assert_eq!((report.state, report.configuration.options), (State::Ready, vec!["--enable-ipv6=true".to_owned()]));
    assert_eq!(told(&mut flagged, GOOD, TO), None);
}

#[test]
fn the_watchdog_hears_of_us_twice_in_its_time() {
    let mut world = World::running(GOOD);
    world.pass(Duration::from_secs(300));
    assert!((10..=11).contains(&world.count("Watchdog")), "{}", world.count("Watchdog"));
}

#[test]
fn the_line_of_truth_says_what_becomes_of_sources() {
    let cases = [
        ("snat: masquerade", "masquerading IPv4"),
        ("snat: none", "keeping sources of IPv4"),
        ("snat: 203.0.113.9", "translating IPv4"),
        ("snat: none\negress: [{outInterfaces: [wan0], snat: masquerade}]", "translating IPv4"),
    ];
    for (file, expected) in cases {
        let mut world = World::new(Some(file));
        world.happen(Event::Started);
        world.pass(MOMENT);
        assert!(world.seen.iter().any(|line| line.starts_with(&format!("Status(\"{expected} "))), "{:?}", world.seen);
    }
}

/// Asks for a candidate to be tried for ten seconds; `None` means the files as they are.
fn try_out(world: &mut World, candidate: Option<&str>) {
    let path = Path::new("/root/candidate.yaml");
    let file = candidate.map(|text| SourceText { path: path.into(), text: text.to_owned() });
    let clock = Clock { at: world.now, second: 12 * 3600 };
    let (client, timeout) = (Client(7), Duration::from_secs(10));
    world.happen(Event::TryRequested(Attempt { client, file, timeout, by: "root on /dev/pts/0".to_owned(), clock }));
}

/// The text of the configuration that is in force, as the summary names it, and that which a start would go back to.
fn in_force(world: &mut World) -> (String, Vec<String>) {
    let kept = world.last_good.iter().flatten().map(|source| source.text.clone()).collect();
    (world.report().policy.unwrap_or_default(), kept)
}

/// What the policy of a file is called, and that file as it is kept.
fn as_of(text: &'static str) -> (String, Vec<String>) {
    in_force(&mut World::running(text))
}

#[test]
fn what_is_tried_while_the_files_are_broken_is_said_to_come_from_the_candidate() {
    let mut world = World::running(GOOD);
    world.file = Some(BAD);
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_secs(2));
    assert!(world.report().summary.ends_with("from the last good configuration"), "{}", world.report().summary);
    try_out(&mut world, Some("nonMasqueradeCIDRs: [192.0.2.0/24, 10.0.0.0/8]"));
    let said = world.seen.iter().rfind(|line| line.starts_with("Trying: ")).expect("it is tried");
    assert!(said.contains("from /root/candidate.yaml, "), "{said}");
}

#[test]
fn a_candidate_is_in_force_for_its_time_and_the_earlier_configuration_after_it() {
    let mut world = World::running(GOOD);
    try_out(&mut world, Some("nonMasqueradeCIDRs: [192.0.2.0/24, 10.0.0.0/8]"));
    world.assert_seen(&[
        "Trying: trying /root/candidate.yaml, goes back at 12:00:10 unless confirmed",
        "answer Applied",
    ]);
    let report = world.report();
    assert!(
        report.summary.starts_with("trying /root/candidate.yaml, goes back at 12:00:10 unless confirmed; masquerading")
    );
    assert_eq!((report.configuration.origin, report.state), (ConfigOrigin::Trial, State::Ready));
    assert_ne!(in_force(&mut world).0, as_of(GOOD).0);
    assert_eq!(in_force(&mut world).1, as_of(GOOD).1, "a restart would go back");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count("WentBack"), 0);
    world.pass(Duration::from_secs(1));
    world.assert_seen(&[
        // Until the kernel has it.
        "Status(\"degraded: the rules are not as they were written",
        "Status(\"masquerading",
        "WentBack: /root/candidate.yaml was not confirmed in time; the earlier configuration is in force",
    ]);
    assert_eq!(in_force(&mut world), as_of(GOOD));
    let report = world.report();
    assert_eq!(
        (report.configuration.origin, report.trial, report.configuration.differs),
        (ConfigOrigin::Files, None, None)
    );
    assert_eq!(world.unconfirmed, None, "the files are what is in force");
}

#[test]
fn a_confirmed_candidate_stays_and_is_what_a_start_goes_back_to() {
    let mut world = World::running(GOOD);
    try_out(&mut world, Some(OTHER));
    world.happen(Event::TrialAsked(Client(8)));
    let details = world.trial.take().unwrap();
    let install = details.install.unwrap();
    assert_eq!((install.path.to_str(), &*install.text), (Some("/etc/ip-masq-agent/config.yaml"), OTHER));
    // As the client does before it confirms.
    world.file = Some(OTHER);
    world.happen(Event::TrialAwaited(Client(7), details.report.number));
    world.happen(Event::ConfirmRequested(Client(8), details.report.number));
    assert_eq!(world.count("answer Applied"), 3, "who tried it, who waited and who confirmed it: {:#?}", world.seen);
    world.pass(Duration::from_secs(3600));
    assert_eq!((world.count("WentBack"), world.count("Reloaded")), (0, 0), "{:#?}", world.seen);
    assert_eq!((in_force(&mut world), world.unconfirmed.clone()), (as_of(OTHER), None));
    assert_eq!(world.report().configuration.origin, ConfigOrigin::Files);
}

#[test]
fn who_answers_late_is_told_how_the_trial_ended() {
    let number = |world: &mut World| {
        try_out(world, Some(OTHER));
        world.happen(Event::TrialAsked(Client(8)));
        world.trial.take().unwrap().report.number
    };
    let late: [fn(Client, u64) -> Event; 3] = [Event::ConfirmRequested, Event::BackRequested, Event::TrialAwaited];
    let mut world = World::running(GOOD);
    let confirmed = number(&mut world);
    world.file = Some(OTHER);
    world.happen(Event::ConfirmRequested(Client(8), confirmed));
    for (event, outcome) in late.into_iter().zip(["Applied", "Refused", "Applied"]) {
        world.seen.clear();
        world.happen(event(Client(7), confirmed));
        assert_eq!(
            world.answer,
            "/root/candidate.yaml is confirmed and stays in force; it is now /etc/ip-masq-agent/config.yaml"
        );
        assert_eq!(world.seen, [format!("answer {outcome}")]);
    }
    let mut world = World::running(GOOD);
    let over = number(&mut world);
    world.pass(Duration::from_secs(10));
    for (event, outcome) in late.into_iter().zip(["Refused", "Applied", "Refused"]) {
        world.seen.clear();
        world.happen(event(Client(7), over));
        let said = "/root/candidate.yaml was not confirmed in time; the earlier configuration is in force again";
        assert_eq!((&*world.answer, &*world.seen), (said, &[format!("answer {outcome}")][..]));
    }
    for event in late {
        world.happen(event(Client(7), 99));
        assert_eq!(world.answer, "that trial is over; 'ip-masq-agent status' says what is in force");
    }
}

#[test]
fn files_that_were_tried_and_not_confirmed_are_held_back_until_a_reload_or_an_edit() {
    const OFF: &str = "configWatch: off\nnonMasqueradeCIDRs: [10.0.0.0/8]";
    const EDIT: &str = "configWatch: events\nnonMasqueradeCIDRs: [192.0.2.0/24, 198.51.100.0/24]";
    for (ends, applies) in [(None, Some(Event::Sighup)), (Some(EDIT), None)] {
        let mut world = World::running(OFF);
        world.file = Some("nonMasqueradeCIDRs: [192.168.0.0/16, 192.0.2.0/24, 198.51.100.0/24]");
        try_out(&mut world, None);
        world.pass(Duration::from_secs(10));
        let held = "FilesDiffer: /etc/ip-masq-agent/config.yaml was tried and not confirmed";
        world.assert_seen(&["WentBack: the edited configuration was not confirmed in time", held]);
        // A restart as well.
        let (last_good, unconfirmed) = (world.last_good.clone(), world.unconfirmed.clone());
        let mut again = World::new(world.file);
        (again.last_good, again.unconfirmed) = (last_good, unconfirmed);
        again.happen(Event::Started);
        again.assert_seen(&[held, "Ready"]);
        assert_eq!(in_force(&mut again).0, as_of(OFF).0);
        again.pass(Duration::from_secs(3600));
        assert_eq!(in_force(&mut again).0, as_of(OFF).0, "at each resync, too");
        assert!(
            again.report().configuration.differs.is_some_and(|differs| differs.contains("tried and not confirmed"))
        );
        if let Some(edit) = ends {
            // With another start: in force is 'off', and nobody asks.
            let mut edited = World::new(Some(edit));
            (edited.last_good, edited.unconfirmed) = (again.last_good.clone(), again.unconfirmed.clone());
            edited.happen(Event::Started);
            edited.assert_seen(&["WentBack: a configuration that was being tried was not confirmed", "Ready"]);
            assert_eq!((edited.report().configuration.differs, edited.unconfirmed), (None, None));
        }
        if let Some(event) = applies {
            again.happen(event);
            assert_eq!((again.report().configuration.differs, again.unconfirmed.clone()), (None, None));
            assert_ne!(in_force(&mut again).0, as_of(OFF).0);
        }
    }
}

#[test]
fn an_edit_while_a_candidate_is_tried_confirms_nothing_and_counts_when_that_is_over() {
    let mut world = World::running(GOOD);
    try_out(&mut world, Some(OTHER));
    world.file = Some("nonMasqueradeCIDRs: [192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24]");
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.report().configuration.origin, ConfigOrigin::Trial);
    world.happen(Event::ReloadRequested(Client(9)));
    world.assert_seen(&[
        "Warning: the reload is refused: /root/candidate.yaml is being tried (by root on /dev/pts/0, 5 s left)",
    ]);
    assert!(world.answer.contains("'ip-masq-agent confirm' keeps it"), "{}", world.answer);
    world.pass(Duration::from_secs(5));
    world.assert_seen(&["WentBack", "Reloaded"]);
    assert_ne!(in_force(&mut world).0, as_of(GOOD).0);
}

#[test]
fn what_can_not_be_tried_changes_nothing_and_says_why() {
    let mut world = World::running(GOOD);
    let cases: [(Option<&str>, &str, &str); 3] = [
        (Some(BAD), "answer Configuration", "/root/candidate.yaml:1:22: nonMasqueradeCIDRs"),
        (Some(GOOD), "answer Refused", "nothing to try: this configuration is in force already"),
        (None, "answer Refused", "nothing to try: this configuration is in force already"),
    ];
    for (candidate, outcome, message) in cases {
        try_out(&mut world, candidate);
        assert_eq!(world.seen, [outcome], "{candidate:?}");
        assert!(world.answer.starts_with(message), "{}", world.answer);
        world.seen.clear();
    }
    world.saveable = false;
    try_out(&mut world, Some(OTHER));
    assert_eq!(
        (&*world.seen, &*world.answer),
        (&["answer Refused".to_owned()][..], "nothing is tried: after a restart there would be no way back: full")
    );
    world.saveable = true;
    world.answers = vec![(Family::V4, Err(ErrorKind::Refused))];
    try_out(&mut world, Some(OTHER));
    assert!(world.answer.starts_with("/root/candidate.yaml could not be applied: "), "{}", world.answer);
    assert_eq!((in_force(&mut world), world.unconfirmed.clone()), (as_of(GOOD), None));
    try_out(&mut world, Some(OTHER));
    try_out(&mut world, Some(BOTH));
    assert!(world.answer.starts_with("/root/candidate.yaml is being tried (by root on /dev/pts/0, 10 s left)"));
    world.happen(Event::ConfirmRequested(Client(1), 99));
    assert!(world.answer.starts_with("that trial is over"), "{}", world.answer);
    assert_eq!(world.report().configuration.origin, ConfigOrigin::Trial);
}

#[test]
fn who_does_not_want_to_wait_is_taken_back_at_once() {
    let mut world = World::running(GOOD);
    try_out(&mut world, Some(BOTH));
    world.happen(Event::TrialAsked(Client(7)));
    let number = world.trial.take().unwrap().report.number;
    world.happen(Event::BackRequested(Client(7), number));
    world.assert_seen(&["WentBack: /root/candidate.yaml was taken back", "answer Applied"]);
    assert_eq!(in_force(&mut world), as_of(GOOD));
    world.happen(Event::ConfirmRequested(Client(7), number));
    assert!(world.answer.starts_with("/root/candidate.yaml was taken back"), "{}", world.answer);
}

#[test]
fn with_the_watch_off_an_edit_is_shown_and_applied_by_a_reload_only() {
    const OFF: &str = "configWatch: off\nresyncInterval: 2s";
    let mut world = World::running(OFF);
    for text in ["configWatch: off\nresyncInterval: 2s\nmasqMulticast: true", BAD] {
        world.file = Some(text);
        world.happen(Event::FilesChanged);
        world.pass(Duration::from_secs(10));
        let report = world.report();
        let differs =
            "/etc/ip-masq-agent/config.yaml differs from what is applied; 'systemctl reload ip-masq-agent' applies it";
        assert_eq!(report.configuration.differs.as_deref(), Some(differs));
        assert!(report.state == State::Ready && report.summary.ends_with(differs), "{}", report.summary);
        assert_eq!(world.count("FilesDiffer"), 1, "said once: {:#?}", world.seen);
    }
    assert_eq!(world.count("Reloaded"), 0);
    world.meddle("nft");
    world.assert_seen(&["Repaired"]);
    world.file = Some(OFF);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.report().configuration.differs, None, "put back");
    world.file = Some(OTHER);
    world.happen(Event::ReloadRequested(Client(1)));
    world.assert_seen(&["Reloaded", "answer Applied"]);
    assert_eq!(in_force(&mut world), as_of(OTHER));
}

#[test]
fn with_the_watch_at_resyncs_an_edit_waits_for_one() {
    let mut world = World::running("configWatch: resync");
    world.file = Some(OTHER);
    world.happen(Event::FilesChanged);
    world.pass(Duration::from_secs(59));
    assert_eq!(world.count("Reloaded"), 0);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.count("Reloaded"), 1);
}

#[test]
fn while_rules_are_known_to_be_wrong_the_status_line_does_not_say_masquerading() {
    let mut world = World::running(GOOD);
    world.moved = true;
    world.answers.push((Family::V4, Ok(true)));
    world.happen(commit("nft"));
    let said: Vec<&String> = world.seen.iter().filter(|line| line.starts_with("Status")).collect();
    let [broken, right] = &said[..] else { panic!("{:#?}", world.seen) };
    assert!(broken.contains("degraded: the rules are not as they were written") && !broken.contains("masquerading"));
    assert!(right.starts_with("Status(\"masquerading"), "{right}");
}

#[test]
fn a_status_is_of_the_host_as_it_is_when_somebody_asks_and_the_journal_hears_of_it_at_a_resync() {
    let off = || HostView { forwarding_ipv4: Some(false), ..HostView::default() };
    let mut world = World::running(GOOD);
    world.happen(Event::HostSeen(off()));
    assert!(world.warnings()[0].starts_with("IPv4 forwarding is off"));
    world.happen(Event::HostSeen(HostView::default()));
    assert_eq!(world.warnings(), [""; 0]);
    assert_eq!(world.seen, [""; 0]);
    world.happen(Event::HostSeen(off()));
    world.happen(Event::HostRead(off()));
    world.assert_seen(&["Warning: IPv4 forwarding is off"]);
}
