//! The iptables backend, for both variants.
//!
//! One `iptables-save` observes a family, one `iptables-restore --noflush` changes chain and jump together. What to
//! send is decided by pure code: [`render`] says a ruleset in rules, [`parse`] reads a listing, [`plan`] compares.

pub mod kernel;
pub mod parse;
pub mod plan;
pub mod render;
pub mod rule;
pub mod sets;
pub mod tools;

use super::{Backend, BackendName, Counters, Error, ErrorKind, Fingerprint, Plan};
use crate::host::child::{Exec, Invocation};
use crate::policy::Family;
use crate::ruleset::{ChainName, Ruleset};
use kernel::{Kernel, LiveKernel};
use parse::Table;
use plan::{Comparison, Observed, Steps};
use render::{Context, Rendered, render};
use rule::Target;
use sets::{ObservedSet, SetHeader, is_our_name};
use std::time::Duration;
use tools::{Tools, Variant, run};

/// Keeps a ruleset in the nat table of one iptables variant.
#[derive(Debug)]
pub struct Iptables<E, K = LiveKernel> {
    exec: E,
    kernel: K,
    tools: Tools,
    chain: ChainName,
    /// What the last plan of a family would send, by the text that it was shown as.
    planned: Vec<(Family, String, Steps)>,
    /// Whether the `ipset` program was there when it was last looked for.
    has_ipset: bool,
    notes: Vec<String>,
}

/// A full replacement of a very long list takes a few seconds (docs/performance.md), and the lock may take five.
const COMMIT_DEADLINE: Duration = Duration::from_secs(25);

impl<E: Exec> Iptables<E> {
    /// A backend for programs that were probed or are assumed.
    pub fn new(exec: E, tools: Tools, chain: ChainName) -> Self {
        Iptables::with_kernel(exec, LiveKernel::default(), tools, chain)
    }
}

impl<E: Exec, K: Kernel> Iptables<E, K> {
    /// The same on a kernel of the caller's choice.
    pub fn with_kernel(exec: E, kernel: K, tools: Tools, chain: ChainName) -> Self {
        Iptables { exec, kernel, tools, chain, planned: Vec::new(), has_ipset: true, notes: Vec::new() }
    }

    fn context<'a>(&'a self, sets: Option<&'a [SetHeader]>) -> Context<'a> {
        Context { chain: &self.chain, random_fully: self.tools.random_fully, sets }
    }

    fn save(&mut self, family: Family, counters: bool) -> Result<String, Error> {
        let output = run(&mut self.exec, &self.tools.save(family, counters))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The listing of a family, empty where looking would make a table that nobody asked for.
    fn listing(&mut self, family: Family, is_desired: bool) -> Result<String, Error> {
        if self.tools.variant == Variant::Legacy && !is_desired && !self.kernel.has_legacy_nat(family) {
            return Ok(String::new());
        }
        self.save(family, false)
    }

    fn headers(&mut self) -> Result<Vec<SetHeader>, Error> {
        self.kernel.sets().map_err(|error| Error::new(ErrorKind::Other, format!("cannot list ip sets: {error}")))
    }

    fn observe_sets(
        &mut self,
        family: Family,
        headers: Vec<SetHeader>,
        desired: Option<&Rendered>,
    ) -> Result<Vec<ObservedSet>, Error> {
        let mut observed = Vec::new();
        for header in headers.into_iter().filter(|header| is_our_name(&header.name, family)) {
            let is_desired = desired.is_some_and(|desired| desired.sets.iter().any(|set| set.name == header.name));
            let members = if is_desired { self.kernel.members(&header.name) } else { Ok(Vec::new()) };
            let members = members.map_err(|error| {
                Error::new(ErrorKind::Other, format!("cannot read ip set '{}': {error}", header.name))
            })?;
            observed.push(ObservedSet { header, members });
        }
        Ok(observed)
    }

    fn compare(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Comparison, Error> {
        let listing = self.listing(family, desired.is_some())?;
        let headers = self.headers()?;
        let rendered = desired.map(|ruleset| render(ruleset, self.context(self.has_ipset.then_some(&headers))));
        let sets = self.observe_sets(family, headers, rendered.as_ref())?;
        let observed = Observed { table: Table::parse(&listing), sets };
        plan::compare(&self.chain, family, rendered.as_ref(), &observed)
            .map_err(|foreign| Error::new(ErrorKind::Foreign, foreign.0))
    }
}

impl<E: Exec, K: Kernel> Backend for Iptables<E, K> {
    fn name(&self) -> BackendName {
        self.tools.variant.backend()
    }

    fn render(&self, desired: &Ruleset) -> String {
        render(desired, self.context(self.has_ipset.then_some(&[]))).to_string()
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        let comparison = self.compare(family, desired)?;
        let transaction = self.shown(family, &comparison.steps);
        self.notes = comparison.notes;
        self.planned.retain(|(planned, ..)| *planned != family);
        self.planned.push((family, transaction.clone(), comparison.steps));
        Ok(Plan {
            family,
            desired: comparison.desired,
            observed: comparison.observed,
            drift: comparison.drift,
            transaction,
        })
    }

    fn commit(&mut self, plan: &Plan) -> Result<(), Error> {
        let place =
            self.planned.iter().position(|(family, shown, _)| *family == plan.family && *shown == plan.transaction);
        let Some(place) = place else {
            return Err(Error::new(ErrorKind::Other, format!("the plan for {} is not the last one", plan.family)));
        };
        let (family, _, steps) = self.planned.swap_remove(place);
        self.send(family, &steps)
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        Err(Error::new(ErrorKind::Unsupported, "no fingerprint yet"))
    }

    fn counters(&mut self, family: Family) -> Result<Counters, Error> {
        let listing = self.save(family, true)?;
        let mut counters = Counters::default();
        let table = Table::parse(&listing);
        for (_, listed) in table.rules().filter(|(chain, _)| self.is_ours(chain)) {
            match listed.rule.as_ref().map(|rule| &rule.target) {
                Some(Target::Return) => counters.kept += listed.packets,
                Some(Target::Masquerade { .. }) => counters.masqueraded += listed.packets,
                _ => {}
            }
        }
        Ok(counters)
    }
}

impl<E: Exec, K: Kernel> Iptables<E, K> {
    fn is_ours(&self, chain: &str) -> bool {
        (1..=4).any(|part| self.chain.part(part) == chain)
    }

    /// The steps as a person would type them.
    fn shown(&self, family: Family, steps: &Steps) -> String {
        let mut text = String::new();
        if !steps.fill.is_empty() {
            text += &format!("# ipset restore -exist\n{}", steps.fill);
        }
        if !steps.restore.is_empty() {
            text += &format!("# {}\n{}", self.tools.restore(family, ""), steps.restore);
        }
        for set in &steps.discarded {
            text += &format!("# ipset destroy {set}\n");
        }
        text
    }

    fn send(&mut self, family: Family, steps: &Steps) -> Result<(), Error> {
        let sent = self.fill(steps).and_then(|()| self.restore(family, steps));
        if sent.is_err() {
            steps.created.iter().for_each(|set| self.destroy(set));
        } else {
            steps.discarded.iter().for_each(|set| self.destroy(set));
        }
        sent
    }

    fn fill(&mut self, steps: &Steps) -> Result<(), Error> {
        if steps.fill.is_empty() {
            return Ok(());
        }
        let mut invocation = Invocation::new("ipset", &["restore", "-exist"]).with_input(steps.fill.as_str());
        invocation.deadline = COMMIT_DEADLINE;
        run(&mut self.exec, &invocation).map(|_| ())
    }

    fn restore(&mut self, family: Family, steps: &Steps) -> Result<(), Error> {
        if steps.restore.is_empty() {
            return Ok(());
        }
        let mut invocation = self.tools.restore(family, &steps.restore);
        invocation.deadline = COMMIT_DEADLINE;
        run(&mut self.exec, &invocation).map(|_| ())
    }

    /// A set that can't go now is found and destroyed by the next plan.
    fn destroy(&mut self, set: &str) {
        let _ = run(&mut self.exec, &Invocation::new("ipset", &["destroy", set]));
    }
}
