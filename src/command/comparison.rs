//! The rules of the configuration beside what the kernel holds: shared by `explain`, `diff` and `check --host`.

use super::About;
use super::ask::ask;
use crate::agent::advice::{Advice, HostView};
use crate::agent::{self, CommandLine, PolicyInForce};
use crate::backend::{BackendName, Error, ErrorKind, Plan};
use crate::config::{BackendChoice, Config, Flags, Settings};
use crate::network::hook::{self, Hook};
use crate::policy::Family;
use crate::ruleset::NetworkFacts;
use crate::service::control::Request;
use crate::service::enforcer::Enforcer;
use crate::service::view;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a running service may take to say which backend it uses.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// A kernel that was asked which backend it takes; nothing is written through it.
#[derive(Debug)]
pub struct Comparison<'a> {
    enforcer: Enforcer,
    backend: BackendName,
    /// The service that runs here; `None` where none does.
    running: Option<Running>,
    config: &'a Config,
    network: Arc<NetworkFacts>,
}

impl<'a> Comparison<'a> {
    /// Takes the backend that the running service uses, or the one that it would choose.
    ///
    /// # Errors
    /// When the host has none, or can't be read as far as the rules depend on it.
    pub fn new(config: &'a Config) -> Result<Self, Error> {
        let network = view::network_facts(&config.policy)
            .map_err(|why| Error::new(ErrorKind::Other, why.to_string()).with_source(why))?;
        let mut enforcer = Enforcer::default();
        let running = running();
        let backend = running.as_ref().map_or(config.settings.backend, |running| BackendChoice::from(running.backend));
        let chosen = enforcer.choose(&Settings { backend, ..config.settings.clone() }, None)?;
        Ok(Comparison { enforcer, backend: chosen.name, running, config, network })
    }

    /// The backend that was chosen.
    pub fn backend(&self) -> BackendName {
        self.backend
    }

    /// True when there is a service that keeps what is compared.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// True when it was started with these flags and tries no candidate.
    pub fn runs_with(&self, flags: &Flags) -> bool {
        let is_trying = self.running.as_ref().is_none_or(|running| running.is_trying);
        let has_flags = |service: CommandLine| service.flags() == *flags;
        !is_trying && ask(&Request::CommandLine, STATUS_TIMEOUT).is_ok_and(has_flags)
    }

    /// Compares one family.
    ///
    /// # Errors
    /// When the kernel can't be read, or what it holds under our name is not ours.
    pub fn plan(&mut self, family: Family) -> Result<Plan, Error> {
        self.enforcer.plan(family, self.config, &self.network)
    }

    /// Sysctls that are not what the configuration wants, which the service sets.
    pub fn wrong_sysctls(&mut self) -> Vec<String> {
        self.enforcer.wrong_sysctls(self.config, &self.network)
    }

    /// What of the fast path is not as the configuration wants it.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn wrong_fast_path(&mut self) -> Result<Vec<String>, Error> {
        self.enforcer.wrong_fast_path(self.config, &self.network)
    }

    /// Why the kernel would not take the fast path.
    pub fn no_fast_path(&mut self) -> Option<Error> {
        self.enforcer.no_fast_path(self.config, &self.network)
    }

    /// Rules that act although the configuration wants none there. The service takes them out when it can.
    pub fn strays(&mut self) -> Vec<Advice> {
        let strays = self.enforcer.strays(self.config).into_iter();
        let is_served =
            |backend, family| backend == self.backend && self.running.iter().any(|one| one.families.contains(&family));
        let advice = |(backend, family)| match is_served(backend, family) {
            true => Advice::RulesOfTheService(backend, family),
            false => Advice::StrayRules(backend, family),
        };
        strays.map(advice).collect()
    }
}

/// What the running service says of itself.
#[derive(Debug)]
struct Running {
    backend: BackendName,
    families: Vec<Family>,
    is_trying: bool,
}

/// `None` when none runs, or none that answers us.
fn running() -> Option<Running> {
    let report: agent::Report = ask(&Request::Status, STATUS_TIMEOUT).ok()?;
    let families = report.families.iter().map(|entry| entry.family).collect();
    Some(Running { backend: report.backend?.name, families, is_trying: report.trial.is_some() })
}

/// What the kernel says about the rules of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelReport {
    /// The backend that was asked.
    pub backend: Option<String>,
    /// Whether it holds exactly the rules of the configuration; unset when it can't be told.
    pub agrees: Option<bool>,
    /// What could not be told, and why.
    pub problem: Option<String>,
    /// Whether any rules of ours are asked at all.
    pub present: bool,
    /// Nat rules of other programs that the flow can meet before ours.
    pub before: Vec<String>,
    /// Those that it can meet after ours; all of them while none of ours are there.
    pub after: Vec<String>,
}

impl fmt::Display for KernelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.backend.as_deref().unwrap_or("no backend");
        let problem = self.problem.as_deref();
        match self.agrees {
            Some(true) => write!(f, "holds exactly these rules ({backend})")?,
            Some(false) if !self.present => write!(f, "has none of ip-masq-agent's rules in force ({backend})")?,
            Some(false) => write!(f, "holds other rules ({backend}); 'ip-masq-agent diff' shows the difference")?,
            None => return write!(f, "can't tell: {}", problem.unwrap_or("it was not asked")),
        }
        problem.map_or(Ok(()), |problem| write!(f, "; {problem}"))
    }
}

/// Asks the kernel about some families where the service has not said that it holds all; about none for who may not ask.
pub fn reports(about: &About, families: BTreeSet<Family>, view: &HostView) -> BTreeMap<Family, KernelReport> {
    if families.is_empty() || !rustix::process::geteuid().is_root() {
        return BTreeMap::new();
    }
    let families = families.into_iter();
    let in_force = match about {
        About::All(in_force) => in_force,
        About::Told(PolicyInForce { backend, .. }) => {
            let told = |family| (family, report(Some(*backend), Ok((true, Vec::new())), family, view));
            return families.map(told).collect();
        }
    };
    let mut comparison = Comparison::new(&in_force.config);
    let compared = |family| {
        let backend = comparison.as_ref().ok().map(Comparison::backend);
        let planned = match &mut comparison {
            Ok(comparison) => comparison.plan(family).map(|plan| (plan.is_in_sync(), comparison.strays())),
            Err(error) => Err(error.clone()),
        };
        (family, report(backend, planned, family, view))
    };
    families.map(compared).collect()
}

/// From whether the kernel is in sync, and what else of ours it has.
fn report(
    backend: Option<BackendName>,
    compared: Result<(bool, Vec<Advice>), Error>,
    family: Family,
    view: &HostView,
) -> KernelReport {
    let unseen = view.unread.as_ref().map(|why| Advice::Unread(why.clone()).to_string());
    // Nobody is told that nothing is there.
    let present = unseen.is_some() || hook::has_ours(view.chains(family), Hook::Postrouting);
    let backend = backend.as_ref().map(ToString::to_string);
    let (agrees, problem) = match compared {
        Ok((is_in_sync, strays)) => {
            let is_of_family = |stray: &&Advice| matches!(stray, Advice::StrayRules(_, of) | Advice::RulesOfTheService(_, of) if *of == family);
            let of_family = strays.iter().filter(is_of_family);
            let mut problems: Vec<String> = of_family.map(ToString::to_string).collect();
            let agrees = is_in_sync && problems.is_empty();
            problems.extend(unseen);
            (Some(agrees), (!problems.is_empty()).then(|| problems.join("; ")))
        }
        Err(error) => (None, Some(error.to_string())),
    };
    KernelReport { backend, agrees, problem, present, before: Vec::new(), after: Vec::new() }
}
