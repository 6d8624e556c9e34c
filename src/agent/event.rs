//! What can happen to the agent, and what it can ask for. Every action that has a result comes back as an event.

use super::advice::HostView;
use super::entry::Entry;
use super::report::{ReloadAnswer, Report};
use crate::backend::{BackendName, Cleared, Error, Fingerprint};
use crate::config::{Config, Diagnostics, Reading, RuleWatch, SourceText};
use crate::policy::Family;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The service has its lock and its sockets and begins.
    Started,
    /// Nothing but time went by; deadlines may be due.
    Tick,
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT.
    Terminate,
    /// What [`Action::ReadLastGood`] found.
    LastGoodRead(Option<Vec<SourceText>>),
    /// What [`Action::ReadConfig`] found.
    ConfigRead(Result<Reading, Diagnostics>),
    /// What [`Action::ReadHost`] saw.
    HostRead(HostView),
    /// What [`Action::ChooseBackend`] chose.
    BackendChosen(Result<Chosen, Error>),
    /// What [`Action::Watch`] came to; an error means that events are not to be had, and why.
    Watching(Result<(), String>),
    /// What [`Action::Reconcile`] did.
    Reconciled(Family, Result<Outcome, Error>),
    /// What [`Action::ReadFingerprint`] read; `None` when the kernel could not be asked.
    FingerprintRead(Option<Fingerprint>),
    /// What [`Action::ReadContents`] read; `None` when the kernel could not be asked.
    ContentsRead(Option<Fingerprint>),
    /// What [`Action::SaveLastGood`] came to.
    LastGoodSaved(Result<(), String>),
    /// What [`Action::ReadJob`] learned.
    JobRead(Job),
    /// What [`Action::Flush`] did.
    Flushed(Vec<Cleared>),
    /// What [`Action::ClearOthers`] did.
    OthersCleared(Vec<Cleared>),
    /// A commit to the host's rules by somebody, or by us.
    RulesMoved(Option<Culprit>),
    /// Something stirred where the configuration lies.
    FilesChanged,
    /// Somebody asks for a reload over the control socket.
    ReloadRequested(Client),
    /// Somebody asks how things are.
    StatusRequested(Client),
}

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// Read the last good configuration.
    ReadLastGood,
    /// Read the configuration files.
    ReadConfig,
    /// Look at the host as far as advice needs it.
    ReadHost,
    /// Choose a backend for these settings.
    ChooseBackend(Arc<Config>),
    /// Listen to rule events, or stop listening.
    Watch(RuleWatch),
    /// Make one family of the kernel what the configuration says, and see that it is.
    Reconcile(Family, Arc<Config>),
    /// Read what moves when rules move.
    ReadFingerprint,
    /// Read that, and what it is blind to.
    ReadContents,
    /// Keep the texts as the last good configuration.
    SaveLastGood(Arc<[SourceText]>),
    /// Ask systemd whether we are being stopped or restarted.
    ReadJob,
    /// Take everything of ours out of the backends that are not the chosen one.
    ClearOthers,
    /// Take everything of ours out of the kernel.
    Flush,
    /// Tell the service manager.
    Notify(Notification),
    /// Tell the journal.
    Log(Entry),
    /// Answer a reload request.
    AnswerReload(Client, ReloadAnswer),
    /// Answer a status request; the counters are still to be read.
    AnswerStatus(Client, Box<Report>),
    /// End with this exit status.
    Exit(u8),
}

/// A client of the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(pub u64);

/// The backend that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which one.
    pub name: BackendName,
    /// Why.
    pub reason: String,
}

/// What making a family right came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What differed, in words, before it was written; `None` when nothing was written.
    pub written: Option<Vec<String>>,
    /// The fingerprint as it was before the family was last read; equal later means: still as it was read.
    pub fingerprint: Option<Fingerprint>,
    /// The same with what the fingerprint is blind to.
    pub contents: Option<Fingerprint>,
    /// What the administrator should know although nothing failed.
    pub notes: Vec<String>,
    /// Whether bridged frames reach the rules, as [`crate::ruleset::HostFacts::bridged`]; the rules follow it.
    pub bridged: bool,
    /// How long it took.
    pub took: Duration,
}

/// Who committed to the host's rules, as far as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// The program.
    pub program: String,
    /// Its process, where the number is one that this host's `/proc` knows.
    pub pid: Option<u32>,
    /// For a tool like iptables: who called it, as `NAME[PID]`.
    pub caller: Option<String>,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.pid.iter().try_for_each(|pid| write!(f, "[{pid}]"))?;
        self.caller.iter().try_for_each(|caller| write!(f, ", called by {caller}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_culprit_is_named_with_its_own_process_and_its_callers() {
        let mut culprit = Culprit { program: "firewalld".into(), pid: Some(812), caller: None };
        assert_eq!(culprit.to_string(), "firewalld[812]");
        culprit = Culprit { program: "iptables-nft".into(), pid: Some(4412), caller: Some("bash[3092]".into()) };
        assert_eq!(culprit.to_string(), "iptables-nft[4412], called by bash[3092]");
        culprit = Culprit { program: "nft".into(), pid: None, caller: None };
        assert_eq!(culprit.to_string(), "nft");
    }
}
