//! The gateway under test: its service, its files, the flows that cross it, and what is expected of all of them.

use crate::background::{Background, Worker};
use crate::config::Config;
use crate::finding::{Finding, finding};
use crate::lab::{Agent, Lab, Namespace, foreign, text};
use crate::life::Life;
use crate::listing::Listing;
use crate::report::Record;
use crate::stream::{Epoch, Excused, Hole, Stream};
use rustix::process::Signal;
use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");
/// The only directory whose presence tells a service that systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// TimeoutStartSec and TimeoutStopSec of the unit.
const START: Duration = Duration::from_secs(90);
pub const STOP: Duration = Duration::from_secs(30);
/// What the service does for flows that went on while it started it has done by then.
const LASTING: Duration = Duration::from_secs(5);
/// Where the configuration that should be in force is kept for `diff`.
const IN_FORCE: &str = "/run/judge/config.yaml";

/// What the campaign works on.
pub struct CampaignGateway<'lab> {
    pub lab: &'lab Lab,
    /// The gateway as the service sees it: its tools and disks are tampered with here, and nowhere else.
    pub view: &'lab Namespace,
    pub agent: Agent<'lab>,
    pub life: Option<Life>,
    pub stream: Stream,
    /// What should be in force.
    pub config: Arc<Config>,
    /// What should have been before.
    pub before: Arc<Config>,
    /// The files say that, too.
    pub files_good: bool,
    /// How much longer than promised everything may take: the machine is busy.
    pub patience: Duration,
    /// What goes on all the while.
    pub background: Background,
    /// Our rules as they were last listed, and for which configuration.
    listed: Option<(Arc<Config>, String)>,
    pub records: Vec<Record>,
    pub repairs: Vec<Instant>,
    foreign: String,
    epoch: Epoch,
    /// The least descriptors that a service was seen to hold, by what it watches.
    pub descriptors: HashMap<String, usize>,
    /// The process and the generation that `status` told when it was last well, and whether it has to be beyond that.
    pub generation: (u64, u64),
    pub unread: bool,
    pub longest_silence: Duration,
    pub longest_list: u32,
    pub logged: usize,
}

impl<'lab> CampaignGateway<'lab> {
    /// A gateway with a service that is ready and rules of other programs beside it.
    pub fn new(lab: &'lab Lab, view: &'lab Namespace, setup: Setup) -> Result<Self, Finding> {
        let agent = Agent::new(view, BINARY, &setup.config.yaml());
        if setup.foreign {
            foreign::add(&lab.gateway);
        }
        view.shadow_programs();
        let mut gateway = CampaignGateway {
            lab,
            view,
            agent,
            life: None,
            stream: Stream::start(lab, setup.flows_per_second),
            before: Arc::new(setup.config.clone()),
            config: Arc::new(setup.config),
            files_good: true,
            patience: setup.patience,
            background: Background::default(),
            listed: None,
            records: Vec::new(),
            repairs: Vec::new(),
            foreign: if setup.foreign { foreign::listing(&lab.gateway) } else { String::new() },
            epoch: Epoch::default(),
            descriptors: HashMap::new(),
            generation: (0, 0),
            unread: false,
            longest_silence: Duration::ZERO,
            longest_list: 0,
            logged: 0,
        };
        gateway.may("the first start", &[None]);
        gateway.start()?;
        gateway.settle(Duration::ZERO)?;
        Ok(gateway)
    }

    // What may happen to flows.

    /// From now on, until it is settled, flows may also be treated as these configurations say; `None` is a gateway
    /// without our rules.
    pub fn may(&mut self, why: &str, also: &[Option<&Arc<Config>>]) {
        self.epoch.name = why.to_owned();
        self.may_also(also);
    }

    /// The same as a part of what is being done.
    pub fn may_also(&mut self, also: &[Option<&Arc<Config>>]) {
        if self.epoch.right.is_empty() {
            self.epoch.right.push(Some(self.config.clone()));
        }
        self.epoch.right.extend(also.iter().map(|config| config.cloned()));
        self.stream.begin(self.epoch.clone());
    }

    /// From now on, until it is settled, another program's change excuses flows with a wrong source.
    pub fn excuse(&mut self, why: &str, excused: Excused) {
        self.may(why, &[]);
        if excused == Excused::Anything || self.epoch.excused == Excused::Nothing {
            self.epoch.excused = excused;
        }
        self.repairs.push(Instant::now());
        self.stream.begin(self.epoch.clone());
    }

    // The life of the service.

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) -> Result<(), Finding> {
        self.start_as(self.agent.prepare("run", &[]))
    }

    pub fn start_as(&mut self, command: Command) -> Result<(), Finding> {
        self.begin_start(command);
        self.life().wait_ready(1, START)
    }

    /// Starts it and does not wait.
    pub fn begin_start(&mut self, command: Command) {
        self.end_life();
        self.life = Some(Life::start(self.view, command));
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Result<(), Finding> {
        let life = self.life();
        life.signal(Signal::KILL);
        life.wait_end(STOP).map(|_| self.end_life())
    }

    /// Stops it as `systemctl stop` does.
    pub fn stop(&mut self) -> Result<(), Finding> {
        let life = self.life();
        life.signal(Signal::TERM);
        let begun = Instant::now();
        let status = life.wait_end(STOP)?;
        let said = life.tail();
        self.end_life();
        match status.code() {
            Some(0) => Ok(()),
            _ => Err(finding("stop", format!("{status} after {:?}\n{said}", begun.elapsed()))),
        }
    }

    /// Ends it as the first half of `systemctl restart` does. No systemd answers here, and then the rules have to stay.
    pub fn stop_for_restart(&mut self) -> Result<(), Finding> {
        self.view.enter(|| std::fs::create_dir_all(SYSTEMD)).expect(SYSTEMD);
        let stopped = self.stop();
        self.view.enter(|| std::fs::remove_dir(SYSTEMD)).expect(SYSTEMD);
        stopped
    }

    /// What all programs list.
    pub fn listing(&self) -> Listing {
        let _rest = self.rest();
        Listing::take(&self.lab.gateway)
    }

    /// What nft lists; nothing where it is not there.
    pub fn nft_lists(&self, arguments: &[&str]) -> String {
        let _rest = self.rest();
        text(&self.lab.gateway.run("nft", arguments).stdout)
    }

    /// Until it is dropped nobody commits in the background: nft begins a list again after each commit, and may never
    /// come to the end of a long one.
    fn rest(&self) -> Option<MutexGuard<'_, ()>> {
        self.background.commits.as_ref().map(Worker::rest)
    }

    /// After a stop.
    pub fn nothing_is_left(&self) -> Result<(), Finding> {
        match self.listing().problems(None).first() {
            None => Ok(()),
            Some(problem) => Err(finding("stop", problem.clone())),
        }
    }

    /// The service that runs.
    pub fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("a service that runs")
    }

    pub fn end_life(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.read_log();
            self.logged += life.logged;
            self.longest_silence = self.longest_silence.max(life.longest_silence());
        }
    }

    // Its configuration.

    /// This is what should be in force from now on: the files are about to say so.
    pub fn expect(&mut self, why: &str, config: Config) -> Arc<Config> {
        let config = Arc::new(config);
        self.may(why, &[Some(&config)]);
        self.unread |= config != self.config;
        self.before = std::mem::replace(&mut self.config, config.clone());
        self.files_good = true;
        config
    }

    /// Changes the configuration in the plainest way and waits until that is in force.
    pub fn change(&mut self, why: &str, change: impl FnOnce(&mut Config)) -> Result<(), Finding> {
        let mut config = (*self.config).clone();
        change(&mut config);
        let config = self.expect(why, config);
        self.write(&config.yaml());
        self.settle(crate::promise::EDIT).map(drop)
    }

    /// Rules that no event tells of are looked at when the resync interval is over: it has to be short.
    pub fn need_short_resync(&mut self) -> Result<(), Finding> {
        match self.config.resync {
            ..=2 => Ok(()),
            _ => self.change("a short resyncInterval", |config| config.resync = 1),
        }
    }

    /// `ip-masq-agent reload`: its exit status and what it said.
    pub fn reload(&self) -> (Option<i32>, String) {
        let output = self.agent.command("reload", &[]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// A reload that has to succeed. Where others commit without end a transaction may be refused again and again; what
    /// was asked for is in force soon all the same.
    pub fn must_reload(&self) -> Result<(), Finding> {
        let stormy = self.background.commits.as_ref().is_some_and(|commits| commits.rate > 100.0);
        match self.reload() {
            (Some(0), _) => Ok(()),
            (Some(1), _) if stormy => Ok(()),
            (code, said) => Err(finding("reload", format!("exit status {code:?}: {said}"))),
        }
    }

    // Whether all is as it should be.

    /// Waits until kernel, service and status are as they should be; from then on nothing is excused any more.
    pub fn settle(&mut self, promise: Duration) -> Result<Settled, Finding> {
        let begun = Instant::now();
        let text = self.config.yaml();
        let written = || {
            std::fs::create_dir_all("/run/judge/none")?;
            std::fs::write(IN_FORCE, &text)
        };
        self.lab.gateway.enter(written).expect(IN_FORCE);
        let listing = loop {
            // To look at a long list takes seconds itself: what counts is what is seen after the time is over.
            let looked = begun.elapsed();
            match self.untrue() {
                Ok(listing) => break listing,
                Err(problem) if looked > promise + self.patience => {
                    let status = self.life.as_ref().map(Life::status).unwrap_or_default();
                    let text = format!("not within {promise:?} and {:?} more: {}", self.patience, problem.text);
                    let text = format!("{text}\n    STATUS={status}");
                    let tail = self.life.as_mut().map(Life::tail).unwrap_or_default();
                    return Err(finding(problem.check, format!("{text}\n{tail}")));
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
            }
        };
        let took = begun.elapsed();
        // A flow that others' rules made the kernel track while ours were away keeps its source for as long as it lives.
        let stuck = if self.foreign.is_empty() { self.stream.stuck(LASTING) } else { 0 };
        if self.epoch.excused != Excused::Nothing || self.epoch.right.contains(&None) {
            self.stream.renew(self.lab);
        }
        self.epoch = Epoch { name: "settled".to_owned(), right: vec![Some(self.config.clone())], ..Epoch::default() };
        self.stream.begin(self.epoch.clone());
        self.longest_list = self.longest_list.max(self.config.ladder.count + self.config.ladder_v6.count);
        self.same_as_before(listing.ours())?;
        let astray = self.stream.astray(&self.config);
        let tail = self.life.as_mut().map(Life::tail).unwrap_or_default();
        if !astray.is_empty() {
            return Err(finding("astray", format!("lasting flows:\n    {}\n{tail}", astray.join("\n    "))));
        }
        Ok(Settled { took, promise, hole: self.stream.take_hole(), stuck })
    }

    /// For the same configuration the rules are the same, whatever happened to them meanwhile.
    fn same_as_before(&mut self, ours: String) -> Result<(), Finding> {
        match self.listed.replace((self.config.clone(), ours.clone())) {
            Some((config, before)) if config == self.config && before != ours => {
                let lost = before
                    .lines()
                    .filter(|line| !ours.lines().any(|now| now == *line))
                    .map(|line| format!("- {line}\n"));
                let new = ours
                    .lines()
                    .filter(|now| !before.lines().any(|line| line == *now))
                    .map(|line| format!("+ {line}\n"));
                Err(finding(
                    "changed",
                    format!("the same configuration, other rules:\n{}", lost.chain(new).collect::<String>()),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What is not as it should be; else the listing that shows it.
    fn untrue(&mut self) -> Result<Listing, Finding> {
        let arguments = ["diff", "--config", IN_FORCE, "--config-dir", "/run/judge/none"];
        let diff = self.lab.gateway.run(BINARY, &arguments);
        if !diff.status.success() {
            let text = String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()).into_owned();
            return Err(finding("kernel", format!("diff: {}: {text:.600}", diff.status)));
        }
        let listing = self.listing();
        if let Some(problem) = listing.problems(Some(&self.config)).first() {
            return Err(finding("listing", problem.clone()));
        }
        self.generation = crate::checks::status(self)?;
        self.unread = false;
        Ok(listing)
    }

    /// Rules of other programs are byte for byte what they were.
    pub fn foreign_is_untouched(&self) -> Result<(), Finding> {
        if self.foreign.is_empty() {
            return Ok(());
        }
        let now = foreign::listing(&self.lab.gateway);
        match now == self.foreign {
            true => Ok(()),
            false => Err(finding("foreign", format!("they were\n{}and are\n{now}", self.foreign))),
        }
    }
}

/// What a gateway begins with.
pub struct Setup {
    pub config: Config,
    pub flows_per_second: u32,
    pub patience: Duration,
    /// With rules of other programs, which keep connection tracking on.
    pub foreign: bool,
}

/// How something was put right.
#[derive(Debug)]
pub struct Settled {
    pub took: Duration,
    pub promise: Duration,
    pub hole: Option<Hole>,
    /// So many flows that went on all the while keep a source that they should not keep.
    pub stuck: usize,
}

impl Drop for CampaignGateway<'_> {
    fn drop(&mut self) {
        // A process that was stopped does not even die.
        if let Some(life) = &self.life {
            life.signal(Signal::CONT);
        }
    }
}
