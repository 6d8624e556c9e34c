//! What can happen to the agent, and what it can ask for. Every action that has a result comes back as an event.

use super::advice::HostView;
use super::after_stop::AfterStop;
use super::attempt::{Attempt, Tried};
use super::cause::Cause;
use super::client::Client;
use super::entry::Entry;
use super::question::{ChangedBy, Doubt, InForce, Loaded, Outcome, PolicyQuestion, Reconciliation, Why};
use super::report::{ReloadAnswer, Report, TrialDetails};
use crate::backend::{BackendName, Error, ErrorKind, Removal};
use crate::config::{BackendChoice, Config, Diagnostics, Reading, RuleWatch, SourceText};
use crate::network::Network;
use crate::policy::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The service has its lock and its sockets and begins.
    Started,
    /// Nothing but time went by; deadlines may be due.
    Tick,
    /// An action took its time, and others are still to be done: the watchdog may be due. With this one,
    /// [`Event::StatusRequested`] and [`Event::Sigterm`] may come between two actions.
    Working,
    /// SIGHUP
    Sighup,
    /// SIGTERM or SIGINT; until when a stop may keep trying to remove the rules.
    Sigterm(Instant),
    /// What [`Action::ReadLastGood`] found; an error says why that can't be used.
    LastGoodRead(Result<Option<Vec<SourceText>>, Cause>),
    /// What [`Action::ReadUnconfirmed`] found; an error says why that can't be used.
    UnconfirmedRead(Result<Option<Vec<SourceText>>, Cause>),
    /// What [`Action::SaveTrial`] came to.
    TrialSaved(Box<Tried>, Loaded, Result<(), Cause>),
    /// What [`Action::ReadConfig`] found.
    ConfigRead(Why, Result<Reading, Diagnostics>),
    /// What [`Action::ReadHost`] saw.
    HostRead(HostView),
    /// The host as it is now, for somebody who is about to ask how things are.
    HostSeen(HostView),
    /// What [`Action::ChooseBackend`] chose.
    BackendChosen(Loaded, Result<Chosen, Error>),
    /// What [`Action::Watch`] came to; an error means that events are unavailable, and why.
    Watching(Result<(), Cause>),
    /// [`Action::Reconcile`] is not at its end: others were served, and it is to go on.
    Reconciling(Family, Reconciliation),
    /// What [`Action::Reconcile`] did, and the processor time that it took, that of child processes included.
    Reconciled(Family, Reconciliation, Result<Outcome, Error>, Duration),
    /// What [`Action::Check`] saw.
    Checked(Depth, Checked),
    /// What [`Action::SaveLastGood`] came to.
    LastGoodSaved(Arc<[SourceText]>, Result<(), Cause>),
    /// What [`Action::ReadJob`] learned.
    JobRead(Job),
    /// What [`Action::ReadAfterStop`] found.
    AfterStopRead(AfterStop),
    /// What [`Action::Flush`] did.
    Flushed(Vec<Removal>),
    /// What [`Action::RemoveStrays`] did, and the processor time that it took.
    StraysRemoved(Option<Vec<ChangedBy>>, Vec<Removal>, Duration),
    /// Commits to the host's rules, and who made them as far as the kernel says; the last one first.
    RulesMoved(Vec<ChangedBy>),
    /// A sysctl that shapes the rules was written.
    HostChanged,
    /// What the service has set and somebody switched off, in words, for somebody who is about to ask how things are.
    SysctlsSeen(Vec<String>),
    /// An interface, an address or a route changed.
    NetworkMoved,
    /// What [`Action::ReadNetwork`] read, and the processor time that it took.
    NetworkRead(Option<Box<Reconciliation>>, Result<Arc<Network>, Cause>, Duration),
    /// What one more walk of [`Action::Forget`] came to after those before, and the processor time that it took.
    Forgotten(Doubt, Forgotten, Result<Forgotten, Cause>, Duration),
    /// Something changed in a directory of the configuration.
    FilesChanged,
    /// A file beside the configuration, or of it, is being written.
    FilesBeingWritten,
    /// Somebody asks for a reload over the control socket.
    ReloadRequested(Client),
    /// Somebody wants a candidate to be tried.
    TryRequested(Attempt),
    /// Somebody wants to know what is being tried.
    TrialAsked(Client),
    /// Somebody waits for the end of the trial of this number.
    TrialAwaited(Client, u64),
    /// Somebody confirms it.
    ConfirmRequested(Client, u64),
    /// Somebody takes it back.
    BackRequested(Client, u64),
    /// Somebody asks how things are.
    StatusRequested(Client),
    /// Somebody asks for the policy as far as it concerns some destinations.
    PolicyRequested(Client, PolicyQuestion),
}

impl Event {
    /// True for what still means something once the service is being stopped. Whatever else comes would begin work that
    /// a stop has to undo, or set a time for it that nobody waits for any more.
    pub(super) fn concerns_a_stop(&self) -> bool {
        use Event::{
            AfterStopRead, Flushed, JobRead, LastGoodSaved, PolicyRequested, ReloadRequested, StatusRequested, Tick,
            TryRequested, Working,
        };
        matches!(
            self,
            Tick | Working
                | JobRead(_)
                | AfterStopRead(_)
                | Flushed(_)
                | LastGoodSaved(..)
                | ReloadRequested(_)
                | TryRequested(_)
                | StatusRequested(_)
                | PolicyRequested(..)
        )
    }
}

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// Read the last good configuration.
    ReadLastGood,
    /// Read the configuration files.
    ReadConfig(Why),
    /// Look at the host as far as advice needs it.
    ReadHost,
    /// Choose a backend for this configuration; with an error another one than `auto` has chosen, because of that.
    ChooseBackend(Loaded, Option<Error>),
    /// Listen to rule events, or stop listening.
    Watch(RuleWatch),
    /// Make one family of the kernel what the configuration says, and see that it is.
    Reconcile(Family, Reconciliation),
    /// See whether the kernel is still as it was when it was last made right.
    Check(Depth, Arc<Config>),
    /// Keep the texts as the last good configuration.
    SaveLastGood(Arc<[SourceText]>),
    /// Keep the texts that what is in force is to be read from again, where they are not kept yet, and what the files are
    /// once the candidate is confirmed.
    SaveTrial { before: Option<Arc<[SourceText]>>, tried: Box<Tried>, candidate: Loaded },
    /// Read what was tried and not confirmed.
    ReadUnconfirmed,
    /// Nothing is unconfirmed any more.
    ForgetUnconfirmed,
    /// Ask systemd whether we are being stopped or restarted.
    ReadJob,
    /// Take away rules that carry our mark where this configuration wants none. At the start every family that is not
    /// wanted is searched; later only those in which rules show. With those who may have put them there; `None` when they
    /// may be of an earlier run.
    RemoveStrays(Arc<Config>, Search, Option<Vec<ChangedBy>>),
    /// Read the host's interfaces, addresses and routes, and tell of changes from then on; with how these addresses
    /// are reached. With what waits for it.
    ReadNetwork(BTreeSet<IpAddr>, Option<Box<Reconciliation>>),
    /// Tell of changes of the network no more.
    IgnoreNetwork,
    /// Look for connections that are not as they should be, and delete them where that is wanted. With what came of it so
    /// far.
    Forget(Doubt, Forgotten),
    /// Ask what becomes of the masqueraded connections of these families when our rules go.
    ReadAfterStop(Vec<Family>),
    /// Take everything of ours out of the kernel.
    Flush,
    /// Tell the service manager.
    Notify(Notification),
    /// Tell the journal.
    Log(Entry),
    /// Answer who asks for a reload, or has to do with a trial.
    AnswerReload(Client, ReloadAnswer),
    /// Answer who wants to know what is being tried.
    AnswerTrial(Client, Option<Box<TrialDetails>>),
    /// Answer a status request; the counters are still to be read.
    AnswerStatus(Client, Box<Report>),
    /// Answer with the policy that is in force; `None` where it is not to be told.
    AnswerPolicy(Client, Option<InForce>),
    /// End with this exit status.
    Exit(u8),
}

impl Action {
    /// True for what is done although a stop came first: what others are told, and what the next start needs.
    pub fn survives_a_stop(&self) -> bool {
        use Action::{AnswerPolicy, AnswerReload, AnswerStatus, Exit, ForgetUnconfirmed, Log, Notify, SaveLastGood};
        matches!(
            self,
            Notify(_)
                | Log(_)
                | AnswerReload(..)
                | AnswerStatus(..)
                | AnswerPolicy(..)
                | SaveLastGood(_)
                | ForgetUnconfirmed
                | Exit(_)
        )
    }
}

/// The backend that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which one.
    pub name: BackendName,
    /// The value of the key `backend` by which it was chosen.
    pub setting: BackendChoice,
    /// Why.
    pub reason: String,
}

impl Chosen {
    /// True when `auto` has chosen iptables, and the kernel lacks what its rules need: only the first transaction tells.
    pub fn is_of_no_use(&self, failure: &Error) -> bool {
        let is_iptables = match self.name {
            BackendName::IptablesNft | BackendName::IptablesLegacy => true,
            BackendName::Nftables => false,
        };
        self.setting == BackendChoice::Auto && is_iptables && failure.kind == ErrorKind::Unsupported
    }
}

/// How thoroughly the kernel is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At what moves when rules are changed, or facts of the host that shape them: microseconds.
    Rules,
    /// Also at what that is blind to: members of sets, rules of iptables-legacy that were replaced by others of the same
    /// size.
    Contents,
}

/// Where rules that nobody wants are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Where rules of ours show in the kernel: no program is run where none do.
    Shown,
    /// Also in what shows no rule: empty chains and sets of a family that is not enabled.
    Thorough,
}

/// What a look at the kernel came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Our rules, or what shapes them, are not as when they were last seen to, or the kernel can't be asked.
    pub moved: bool,
    /// Rules that carry our mark show where this configuration wants none.
    pub strays: bool,
    /// Who committed, of those whom nobody was told of yet: a look that somebody else's timer began may come between a
    /// commit and its event.
    pub by: Vec<ChangedBy>,
    /// When sets whose elements were only counted are to be read.
    pub doubted_until: Option<Instant>,
    /// The processor time that it took.
    pub cost: Duration,
}

/// What looking for connections in doubt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// How many are not as they should be.
    pub found: usize,
    /// How many of them were deleted.
    pub deleted: usize,
    /// There may be more: so many, or so long, is the most that is done at once.
    pub stopped: bool,
    /// How often the kernel's table was gone through.
    pub walks: u8,
}

impl Forgotten {
    /// What this one and one more walk came to together.
    pub fn and(self, walk: Forgotten) -> Self {
        Forgotten {
            found: self.found + walk.found,
            deleted: self.deleted + walk.deleted,
            stopped: walk.stopped,
            walks: self.walks.saturating_add(walk.walks),
        }
    }
}

/// What systemd is doing with our unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// No systemd above us.
    NoSystemd,
    /// It stops us for good.
    Stop,
    /// It stops us to start us again.
    Restart,
    /// It has no job for us, or did not answer in time.
    Unknown,
}

/// sd_notify(3) states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// READY=1
    Ready,
    /// RELOADING=1 with MONOTONIC_USEC
    Reloading,
    /// STOPPING=1
    Stopping,
    /// STATUS=
    Status(String),
    /// WATCHDOG=1
    Watchdog,
    /// EXTEND_TIMEOUT_USEC=
    ExtendTimeout(Duration),
}
