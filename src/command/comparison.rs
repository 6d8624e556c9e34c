//! The rules of the configuration beside what the kernel holds: shared by `explain`, `diff` and `check --host`.

use crate::agent;
use crate::backend::{BackendName, Error, Plan};
use crate::config::{BackendChoice, Config, Settings};
use crate::host::control::{self, Request};
use crate::host::directories;
use crate::host::kernel::Kernel;
use crate::host::nat_hooks::{self, Neighbours};
use crate::host::nfnetlink::Nfnetlink;
use crate::policy::Family;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How long a running service may take to say which backend it uses.
const PATIENCE: Duration = Duration::from_secs(5);

/// A kernel that was asked which backend it takes; nothing is written through it.
#[derive(Debug)]
pub struct Comparison<'a> {
    kernel: Kernel,
    backend: BackendName,
    config: &'a Config,
}

impl<'a> Comparison<'a> {
    /// Takes the backend that the running service uses, or the one that it would choose.
    ///
    /// # Errors
    /// When the host has none.
    pub fn new(config: &'a Config) -> Result<Self, Error> {
        let mut kernel = Kernel::default();
        let backend = running_backend().map_or(config.settings.backend, BackendChoice::from);
        let chosen = kernel.choose(&Settings { backend, ..config.settings.clone() })?;
        Ok(Comparison { kernel, backend: chosen.name, config })
    }

    /// The backend that was chosen.
    pub fn backend(&self) -> BackendName {
        self.backend
    }

    /// Compares one family.
    ///
    /// # Errors
    /// When the kernel can't be read, or what it holds under our name is not ours.
    pub fn plan(&mut self, family: Family) -> Result<Plan, Error> {
        self.kernel.plan(family, self.config)
    }
}

/// The backend of the running service; `None` when none runs, or none that answers us.
fn running_backend() -> Option<BackendName> {
    let answer = control::ask(&directories::runtime(), Request::Status, PATIENCE).ok()??;
    let report: agent::Report = serde_json::from_slice(&answer).ok()?;
    let name = report.backend?.name;
    BackendName::ALL.into_iter().find(|backend| backend.to_string() == name)
}

/// Foreign nat rules around ours.
///
/// # Errors
/// When the kernel can't be asked.
pub fn neighbours(family: Family) -> std::io::Result<Neighbours> {
    nat_hooks::read(&mut Nfnetlink::open()?, family)
}

/// What the kernel says about the rules of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The backend that was asked.
    pub backend: Option<String>,
    /// Whether it holds exactly the rules of the configuration; unset when it can't be told.
    pub agrees: Option<bool>,
    /// Why it can't be told.
    pub problem: Option<String>,
    /// Foreign nat rules that are asked before ours.
    pub before: Vec<String>,
    /// Foreign nat rules that are asked after ours.
    pub after: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.backend.as_deref().unwrap_or("no backend");
        match (self.agrees, &self.problem) {
            (Some(true), _) => write!(f, "holds exactly these rules ({backend})"),
            (Some(false), _) => write!(f, "holds other rules ({backend}); 'ip-masq-agent diff' shows the difference"),
            (None, problem) => write!(f, "can't tell: {}", problem.as_deref().unwrap_or("it was not asked")),
        }
    }
}

/// Asks the kernel about one family; `None` for who may not ask.
pub fn report(config: &Config, family: Family) -> Option<Report> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let Neighbours { before, after, .. } = neighbours(family).unwrap_or_default();
    let mut report = Report { before, after, ..Report::default() };
    let planned = Comparison::new(config).and_then(|mut comparison| {
        report.backend = Some(comparison.backend().to_string());
        comparison.plan(family)
    });
    match planned {
        Ok(plan) => report.agrees = Some(plan.is_in_sync()),
        Err(error) => report.problem = Some(error.to_string()),
    }
    Some(report)
}
