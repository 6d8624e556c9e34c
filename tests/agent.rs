//! The agent in a world that is made of values: no kernel, no files, and a clock that is moved by hand.

use ip_masq_agent::agent::advice::HostView;
use ip_masq_agent::agent::{Action, Agent, Chosen, Client, Culprit, Event, Job, Origin, Outcome, Report, Setup, State};
use ip_masq_agent::backend::{BackendName, Cleared, Error, ErrorKind, Fingerprint};
use ip_masq_agent::config::{Diagnostics, Reading, RuleWatch, SourceText};
use ip_masq_agent::policy::Family;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const GOOD: &str = "nonMasqueradeCIDRs: [10.0.0.0/8]";
const OTHER: &str = "nonMasqueradeCIDRs: [192.168.0.0/16]";
const BAD: &str = "nonMasqueradeCIDRs: [10.0.0.0/33]";
const BOTH: &str = "enableIPv6: true";

struct World {
    agent: Agent,
    now: Instant,
    /// The text of the configuration file; `None` when there is none.
    file: Option<&'static str>,
    last_good: Option<Vec<SourceText>>,
    /// What the next reconciliations of a family come to; in sync when nothing is said.
    answers: Vec<(Family, Result<bool, ErrorKind>)>,
    /// Moves with every write and with everything that somebody else does.
    generation: u64,
    /// What the generation is blind to.
    contents: u64,
    job: Job,
    watchable: bool,
    saveable: bool,
    bridged: bool,
    /// Rules of an earlier run can't be removed.
    leftover: bool,
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
            answers: Vec::new(),
            generation: 1,
            contents: 1,
            job: Job::Stop,
            watchable: true,
            saveable: true,
            bridged: false,
            leftover: false,
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
        world.seen.clear();
        world
    }

    fn happen(&mut self, event: Event) {
        let mut actions: VecDeque<Action> = self.agent.handle(event, self.now).into();
        while let Some(action) = actions.pop_front() {
            if self.exit.is_some() {
                return;
            }
            if let Some(result) = self.act(action) {
                self.agent.handle(result, self.now).into_iter().rev().for_each(|action| actions.push_front(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::ReadLastGood => Some(Event::LastGoodRead(self.last_good.clone())),
            Action::ReadConfig => Some(Event::ConfigRead(self.read())),
            Action::ReadHost => Some(Event::HostRead(HostView::default())),
            Action::ChooseBackend(_) => {
                Some(Event::BackendChosen(Ok(Chosen { name: BackendName::IptablesNft, reason: "it works".to_owned() })))
            }
            Action::Watch(RuleWatch::Events) => {
                Some(Event::Watching(if self.watchable { Ok(()) } else { Err("no".to_owned()) }))
            }
            Action::Reconcile(family, _) => {
                self.reconciled += 1;
                Some(Event::Reconciled(family, self.reconcile(family)))
            }
            Action::ReadFingerprint => Some(Event::FingerprintRead(Some(Fingerprint(vec![self.generation])))),
            Action::ReadContents => Some(Event::ContentsRead(Some(Fingerprint(vec![self.generation, self.contents])))),
            Action::SaveLastGood(sources) => {
                self.saved += 1;
                self.last_good = Some(sources.to_vec());
                Some(Event::LastGoodSaved(if self.saveable { Ok(()) } else { Err("full".to_owned()) }))
            }
            Action::ReadJob => Some(Event::JobRead(self.job)),
            Action::Flush => {
                self.seen.push("flush".to_owned());
                Some(Event::Flushed(Vec::new()))
            }
            Action::ClearOthers => Some(Event::OthersCleared(vec![self.clear()])),
            other => {
                self.note(other);
                None
            }
        }
    }

    fn note(&mut self, action: Action) {
        match action {
            Action::Notify(notification) => self.seen.push(format!("{notification:?}")),
            Action::Log(entry) => self.seen.push(format!("{:?}: {}", entry.kind, entry.message)),
            Action::AnswerReload(_, answer) => self.seen.push(format!("answer {:?}", answer.outcome)),
            Action::Exit(status) => self.exit = Some(status),
            _ => {}
        }
    }

    fn clear(&mut self) -> Cleared {
        self.seen.push("clear".to_owned());
        let result = if self.leftover { Err(Error::new(ErrorKind::Busy, "held")) } else { Ok(vec!["it".to_owned()]) };
        Cleared { backend: BackendName::Nftables, family: Family::V4, result, notes: Vec::new() }
    }

    fn read(&self) -> Result<Reading, Diagnostics> {
        let path: Arc<Path> = Path::new("/etc/ip-masq-agent/config.yaml").into();
        let source = |text: &str| SourceText { path: path.clone(), text: text.to_owned() };
        Ok(Reading { sources: self.file.map(source).into_iter().collect(), warnings: Vec::new() })
    }

    fn reconcile(&mut self, family: Family) -> Result<Outcome, Error> {
        let answer = self.answers.iter().position(|(of, _)| *of == family).map(|place| self.answers.remove(place).1);
        let written = answer.unwrap_or(Ok(false)).map_err(|kind| Error::new(kind, format!("{kind:?}")))?;
        self.generation += u64::from(written);
        self.writes += usize::from(written);
        Ok(Outcome {
            written: written.then(|| vec!["the chain is missing".to_owned()]),
            fingerprint: Some(Fingerprint(vec![self.generation])),
            contents: Some(Fingerprint(vec![self.generation, self.contents])),
            notes: Vec::new(),
            bridged: self.bridged,
            took: Duration::from_millis(3),
        })
    }

    /// Somebody else changes our rules, and the kernel says so.
    fn meddle(&mut self, program: &str) {
        self.generation += 1;
        self.answers.push((Family::V4, Ok(true)));
        self.happen(Event::RulesMoved(Some(Culprit { program: program.to_owned(), pid: Some(812), caller: None })));
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
        let actions = self.agent.handle(Event::StatusRequested(Client(0)), self.now);
        let report = actions.into_iter().find_map(|action| match action {
            Action::AnswerStatus(_, report) => Some(*report),
            _ => None,
        });
        report.unwrap()
    }

    fn state(&mut self) -> State {
        self.report().state
    }

    fn warnings(&mut self) -> Vec<String> {
        self.report().warnings
    }
}

#[test]
fn a_start_says_ready_after_the_kernel_agreed_and_saves_what_it_agreed_to() {
    let mut world = World::new(Some(GOOD));
    world.happen(Event::Started);
    world.assert_seen(&["Status(\"starting", "BackendChosen", "Status(\"masquerading", "Applied", "Ready"]);
    assert_eq!((world.reconciled, world.saved, world.state()), (2, 1, State::Ready));
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
    assert_eq!((next.state(), next.report().configuration.origin), (State::Degraded, Origin::LastGood));
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
    world.happen(Event::Hangup);
    assert_eq!(world.state(), State::Degraded);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.count("Reloaded"), world.state()), (1, State::Ready));
}

#[test]
fn a_backend_that_has_to_wait_is_warned_of_and_the_way_back_is_not() {
    let mut world = World::running("backend: auto");
    for (file, warnings) in [("backend: nftables", 1), ("backend: iptables-nft", 1), ("backend: iptables-legacy", 2)] {
        world.file = Some(file);
        world.happen(Event::Hangup);
        let said = world.seen.iter().filter(|line| line.ends_with("which takes effect at the next restart"));
        assert_eq!(said.count(), warnings, "{file}");
        let waits = world.warnings().iter().any(|line| line.ends_with("which takes effect at the next restart"));
        assert_eq!(waits, file != "backend: iptables-nft", "{file}");
    }
}

#[test]
fn what_is_in_force_is_repaired_while_a_newer_configuration_is_refused() {
    let mut world = World::running(GOOD);
    world.file = Some(OTHER);
    world.answers = vec![(Family::V4, Err(ErrorKind::Refused)), (Family::V4, Ok(true))];
    world.contents += 1;
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
fn an_unchanged_resync_asks_for_the_fingerprint_and_nothing_else() {
    let mut world = World::running(GOOD);
    let reconciled = world.reconciled;
    world.pass(Duration::from_secs(600));
    world.seen.retain(|line| line != "Watchdog");
    assert_eq!((world.reconciled, &world.seen), (reconciled, &Vec::new()));
}

#[test]
fn what_the_fingerprint_is_blind_to_is_repaired_at_the_resync() {
    let mut world = World::running(GOOD);
    world.contents += 1;
    world.happen(Event::RulesMoved(None));
    assert_eq!(world.count("Repaired"), 0);
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Repaired: IPv4 rules changed by somebody"]);
}

#[test]
fn drift_is_repaired_and_the_culprit_named() {
    let mut world = World::running(GOOD);
    world.meddle("firewalld");
    world.assert_seen(&["Repaired: IPv4 rules changed by firewalld[812]; repaired in 3.0 ms: the chain is missing"]);
    world.happen(Event::RulesMoved(Some(Culprit { program: "iptables-nft-re".into(), pid: Some(1), caller: None })));
    assert_eq!(world.seen, Vec::<String>::new(), "our own commit");
}

#[test]
fn rules_that_follow_a_sysctl_are_nobodys_change() {
    let mut world = World::running(GOOD);
    world.bridged = true;
    world.contents += 1;
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_secs(61));
    world.assert_seen(&["Adapted: IPv4 rules follow net.bridge.bridge-nf-call-iptables, which is 1 now; written in"]);
    assert_eq!(world.report().last_repair, None);
    world.meddle("firewalld");
    world.assert_seen(&["Repaired: IPv4 rules changed by firewalld[812]"]);
}

#[test]
fn a_program_that_changes_its_own_rules_costs_a_look_a_second() {
    let mut world = World::running(GOOD);
    let before = world.reconciled;
    for _ in 0..1000 {
        world.generation += 1;
        world.happen(Event::RulesMoved(None));
        world.pass(Duration::from_millis(10));
    }
    let looks = world.reconciled - before;
    assert!((10..=21).contains(&looks), "{looks}");
    assert_eq!(world.count("Repaired"), 0);
}

#[test]
fn a_fight_is_reported_once_held_back_and_over_after_a_quiet_minute() {
    let mut world = World::running(GOOD);
    for _ in 0..300 {
        world.meddle("firewalld");
        world.answers.clear();
        world.answers.push((Family::V4, Ok(true)));
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.count("Repaired"), world.count("Fight:")), (4, 1));
    assert_eq!(world.state(), State::Degraded);
    assert!((12..=20).contains(&world.writes), "{} repairs in five minutes", world.writes);
    let report = world.report();
    assert_eq!(report.last_repair.unwrap().by.as_deref(), Some("firewalld[812]"));
    assert!(!report.families[0].in_sync, "nobody has looked at the rules since they were moved");
    assert_eq!(report.families[0].to_string(), "stirred by others, looked at again within 30 s");
    world.answers.clear();
    world.pass(Duration::from_secs(120));
    assert_eq!((world.count("FightOver"), world.state()), (1, State::Ready));
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
fn what_an_earlier_run_left_of_ipv6_goes_after_ready() {
    let mut world = World::new(Some(GOOD));
    world.answers.push((Family::V6, Ok(true)));
    world.happen(Event::Started);
    world.assert_seen(&["Ready", "LeftoversRemoved: IPv6 is not enabled"]);
    assert_eq!(world.report().last_repair, None);
}

#[test]
fn what_fails_on_the_same_rules_is_not_tried_every_second() {
    let mut world = World::running("ruleWatch: poll");
    world.generation += 1;
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
        world.happen(Event::Terminate);
        assert_eq!((world.count("flush"), world.count("Stopping"), world.exit), (flushes, 1, Some(0)), "{job:?}");
        assert_eq!(world.count("Stopped"), 1);
    }
    let mut world = World::running("onStop: keep");
    world.happen(Event::Terminate);
    assert_eq!((world.count("flush"), world.exit), (0, Some(0)));
}

#[test]
fn what_happens_before_we_listen_or_while_we_write_is_not_missed() {
    let mut world = World::new(Some(BOTH));
    world.answers = vec![(Family::V4, Ok(true)), (Family::V6, Ok(true))];
    world.happen(Event::Started);
    // IPv4 was verified, then IPv6 was written: only another look tells whether that was all that moved.
    assert_eq!((world.reconciled, world.writes, world.count("Repaired")), (4, 2, 0));
    let settled = world.reconciled;
    world.happen(Event::RulesMoved(None));
    assert_eq!(world.reconciled, settled);
}

#[test]
fn without_events_the_kernel_is_asked_once_a_second() {
    let mut world = World::new(Some(GOOD));
    world.watchable = false;
    world.happen(Event::Started);
    world.assert_seen(&["WatchLost", "Ready"]);
    world.generation += 1;
    world.answers.push((Family::V4, Ok(true)));
    world.pass(Duration::from_millis(1100));
    world.assert_seen(&["Repaired: IPv4 rules changed by somebody"]);
    assert_eq!(world.count("WatchLost"), 0, "said once");
}

#[test]
fn a_configuration_that_could_not_be_saved_is_mentioned_once_and_saved_when_that_can_be_done() {
    let mut world = World::new(Some(GOOD));
    world.saveable = false;
    world.happen(Event::Started);
    world.file = Some(OTHER);
    world.happen(Event::Hangup);
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
    let warning = "IPv4 rules of an earlier run or of a Go agent are still in nftables and act beside ours: held";
    assert_eq!((world.count("clear"), world.count(&format!("Warning: {warning}"))), (4, 1));
    assert_eq!((world.report().warnings, world.state()), (vec![warning.to_owned()], State::Ready));
    world.leftover = false;
    world.pass(Duration::from_secs(600));
    assert_eq!((world.count("clear"), world.count("OthersRemoved")), (5, 1));
    assert_eq!(world.report().warnings, Vec::<String>::new());
}

#[test]
fn the_watchdog_hears_of_us_twice_in_its_time() {
    let mut world = World::running(GOOD);
    world.pass(Duration::from_secs(300));
    assert!((10..=11).contains(&world.count("Watchdog")), "{}", world.count("Watchdog"));
}
