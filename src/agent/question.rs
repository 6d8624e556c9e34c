//! What a question carries and what comes back with its answer: nobody has to remember why it was asked.

use super::attempt::{Attempt, Tried};
use super::report::ConfigOrigin;
use crate::backend::{BackendName, Drift, Error};
use crate::config::{Config, SourceText};
use crate::policy::{Family, Forward, Policy};
use crate::ruleset::NetworkFacts;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why the files are read, or the rules made right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The service begins.
    Start,
    /// SIGHUP or a client's request: somebody waits for it.
    Reload,
    /// The files changed, or the kernel was too busy to take them.
    Edit,
    /// To tell what they are, and not to apply it.
    Look,
    /// Somebody wants to try them, or another file in the place of the main one.
    Candidate(Attempt),
    /// That is in order, and to be put in force.
    Try(Box<Tried>),
    /// What was tried was not confirmed.
    GoBack,
    /// The resync interval is over, or what failed is tried again.
    Periodic,
    /// The host's addresses or routes changed, and rules depend on them.
    Network,
    /// The rules moved; who may have done it.
    Drift(Vec<ChangedBy>),
}

/// Which policy is wanted, and what for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PolicyQuestion {
    /// The [`digest`](super::digest) of the texts that it is made of, without any flags.
    pub digest: u64,
    /// Where the flows go.
    pub destinations: Vec<IpAddr>,
}

/// The policy that is in force, as far as the question goes. The kernel has it, in all families, and nothing else of ours.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PolicyInForce {
    pub policy: Policy,
    /// The backend that holds it.
    pub backend: BackendName,
}

/// The same, to be told if the kernel still has the rules of the configuration that it is a part of.
#[derive(Debug)]
pub struct InForce {
    pub told: Box<PolicyInForce>,
    pub config: Arc<Config>,
    /// Where the flows go that it is asked for.
    pub destinations: Vec<IpAddr>,
}

/// Which open connections are in doubt.
#[derive(Debug, Clone)]
pub enum Doubt {
    /// Those whose source became an address of the policy's: it may have left the host, or they leave elsewhere now.
    Source {
        config: Arc<Config>,
        /// Addresses that the host had and has no more.
        departed: BTreeSet<IpAddr>,
    },
    /// Those that another configuration treats in another way.
    Policy { before: Arc<Config>, now: Arc<Config> },
    /// Those that were tracked from when our rules made the kernel begin to, and before they counted.
    Start { config: Arc<Config>, families: Vec<Family> },
    /// Those that began while our rules were not what they should be.
    Repair { config: Arc<Config> },
    /// UDP flows of these forwards, which are new, changed or gone, that are not as the configuration says now.
    Forwards { forwards: Vec<Forward>, now: Arc<Config> },
    /// UDP flows that began before the service did, and with it its forwards.
    Unforwarded { config: Arc<Config> },
}

/// A configuration with the texts that it was read from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the texts say.
    pub config: Arc<Config>,
    /// The texts, in the order in which they were merged.
    pub sources: Arc<[SourceText]>,
    /// Where the texts were.
    pub origin: ConfigOrigin,
}

/// Making the families right, one after the other; the consequences are drawn once all have answered.
#[derive(Debug)]
pub struct Reconciliation {
    /// What the kernel is to hold.
    pub config: Arc<Config>,
    /// What the network means for it.
    pub network: Arc<NetworkFacts>,
    pub(super) why: Why,
    /// The configuration that becomes the active one when the kernel takes it; `None` when that is the active one.
    pub(super) candidate: Option<Loaded>,
    /// The family after this one.
    pub(super) then: Option<Family>,
    pub(super) results: Results,
}

/// What the families came to so far.
pub(super) type Results = Vec<(Family, Result<Outcome, Error>)>;

/// What making a family right came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What differed, in words, before it was written; `None` when nothing was written.
    pub written: Option<Vec<Drift>>,
    /// What the administrator should know although nothing failed.
    pub notes: Vec<String>,
    /// Who committed since the last that is known, and before it was seen what differs.
    pub by: Vec<ChangedBy>,
    /// What of this host changed what is wanted although nobody changed our rules, in words.
    pub follows: Option<&'static str>,
    /// The sysctls that somebody had switched off, by name; they are on again.
    pub sysctls: Vec<String>,
    /// Whether bridged frames reach the rules, as [`crate::ruleset::HostFacts::bridged`]; the rules follow it.
    pub bridged: bool,
    /// With what was written the kernel began to track the family's connections: no other rule makes it.
    pub began_tracking: bool,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// There was nothing to be made right.
    pub fn nothing() -> Self {
        Outcome {
            written: None,
            notes: Vec::new(),
            by: Vec::new(),
            follows: None,
            sysctls: Vec::new(),
            bridged: false,
            began_tracking: false,
            took: Duration::ZERO,
        }
    }
}

/// Who committed to the host's rules, as far as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBy {
    /// The program.
    pub program: String,
    /// Its process, where the number is one that this host's `/proc` knows.
    pub pid: Option<u32>,
    /// For a tool like iptables: who called it, as `NAME[PID]`.
    pub caller: Option<String>,
    /// In which unit it is, and who logged in to start it, where that is known.
    pub origin: Option<String>,
}

impl ChangedBy {
    /// Those who may have made a change, in words; `None` when nothing is known.
    pub(super) fn names(programs: &[ChangedBy]) -> Option<String> {
        let names: Vec<String> = programs.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }
}

impl fmt::Display for ChangedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.pid.iter().try_for_each(|pid| write!(f, "[{pid}]"))?;
        self.caller.iter().try_for_each(|caller| write!(f, ", called by {caller}"))?;
        self.origin.iter().try_for_each(|origin| write!(f, " ({origin})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_with_its_own_process_and_its_callers() {
        let mut program = ChangedBy { program: "firewalld".into(), pid: Some(812), caller: None, origin: None };
        assert_eq!(program.to_string(), "firewalld[812]");
        program = ChangedBy {
            program: "iptables-nft".into(),
            pid: Some(4412),
            caller: Some("bash[3092]".into()),
            origin: None,
        };
        assert_eq!(program.to_string(), "iptables-nft[4412], called by bash[3092]");
        program.origin = Some("cron.service".to_owned());
        assert_eq!(program.to_string(), "iptables-nft[4412], called by bash[3092] (cron.service)");
        program = ChangedBy { program: "nft".into(), pid: None, caller: None, origin: None };
        assert_eq!(program.to_string(), "nft");
    }
}
