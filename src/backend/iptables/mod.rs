//! The iptables backend, for both variants.
//!
//! One `iptables-save` observes a family, one `iptables-restore --noflush` changes chain and jump together. What to
//! send is decided by pure code: [`render`](mod@render) says a ruleset in rules, [`parse`] reads a listing, [`plan`] compares.

#[cfg(test)]
mod fake;
mod fingerprint;
pub mod kernel;
pub mod parse;
pub mod plan;
pub mod render;
pub mod rule;
pub mod sets;
#[cfg(test)]
mod tests;
pub mod tools;

use super::{Backend, BackendName, Counters, Error, ErrorKind, Fingerprint, Plan};
use crate::host::child::{Exec, Invocation};
use crate::host::nfnetlink::is_passing;
use crate::policy::Family;
use crate::ruleset::{ChainName, Ruleset};
use kernel::{Kernel, LiveKernel};
use parse::Table;
use plan::{Comparison, Foreign, Observed, Steps};
use render::{Context, Rendered, render};
use rule::Target;
use sets::{ObservedSet, SetHeader, THRESHOLD, is_our_name};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tools::{Tools, Variant, list, run};

/// Keeps a ruleset in the nat table of one iptables variant.
#[derive(Debug)]
pub struct Iptables<E, K = LiveKernel> {
    exec: E,
    kernel: K,
    tools: Tools,
    chain: ChainName,
    /// What was seen and decided last, per family.
    last: BTreeMap<Family, Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// What the plan would send, and the text that it was shown as.
    planned: Option<(String, Steps)>,
    /// The sets that the desired rules refer to.
    sets: Vec<String>,
    notes: Vec<String>,
}

/// For each of the two programs of a commit. The lock may take five seconds, a very long list two; both together stay
/// below a watchdog of 30 s.
const COMMIT_DEADLINE: Duration = Duration::from_secs(12);

impl<E: Exec> Iptables<E> {
    /// A backend for programs that were probed or are assumed.
    pub fn new(exec: E, tools: Tools, chain: ChainName) -> Self {
        Iptables::with_kernel(exec, LiveKernel::default(), tools, chain)
    }
}

impl<E: Exec, K: Kernel> Iptables<E, K> {
    /// The same on a kernel of the caller's choice.
    pub fn with_kernel(exec: E, kernel: K, tools: Tools, chain: ChainName) -> Self {
        Iptables { exec, kernel, tools, chain, last: BTreeMap::new() }
    }

    fn context<'a>(&'a self, sets: Option<&'a [SetHeader]>) -> Context<'a> {
        Context { chain: &self.chain, random_fully: self.tools.random_fully, sets }
    }

    fn compare(
        &mut self,
        family: Family,
        desired: Option<&Ruleset>,
        notes: &mut Vec<String>,
    ) -> Result<Comparison, Error> {
        let listing = self.listing(family, desired.is_some(), notes)?;
        let wants_sets = desired.is_some_and(|ruleset| ruleset.groups().any(|group| group.prefixes.len() > THRESHOLD));
        let headers = self.headers(wants_sets)?;
        if wants_sets && headers.is_none() {
            notes.push(format!(
                "no ipset on this host: lists of more than {THRESHOLD} prefixes are rules, and every new flow is \
                 compared with one after the other"
            ));
        }
        if desired.is_some_and(|ruleset| ruleset.masquerade.random_fully) && !self.tools.random_fully {
            notes.push("this iptables is older than 1.6.2 and can't choose source ports at random".to_owned());
        }
        let rendered = desired.map(|ruleset| render(ruleset, self.context(headers.as_deref())));
        let sets = self.observe_sets(family, headers.unwrap_or_default(), rendered.as_ref())?;
        let observed = Observed { table: Table::parse(&listing), sets };
        let comparison = plan::compare(&self.chain, family, rendered.as_ref(), &observed)
            .map_err(|foreign| self.refusal(family, &foreign))?;
        let sets = rendered.map(|rendered| rendered.sets.into_iter().map(|set| set.name).collect());
        self.last.entry(family).or_default().sets = sets.unwrap_or_default();
        Ok(comparison)
    }

    /// The listing of a family; empty where nothing of ours can be.
    fn listing(&mut self, family: Family, is_desired: bool, notes: &mut Vec<String>) -> Result<String, Error> {
        if is_desired {
            return self.save(family, false);
        }
        // Listing a legacy table makes it.
        if self.tools.variant == Variant::Legacy && !self.kernel.has_legacy_nat(family) {
            return Ok(String::new());
        }
        match self.save(family, false) {
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(String::new()),
            Err(error) if error.kind == ErrorKind::MissingTool => {
                notes.push(format!("whether {family} holds leftovers is not known: {error}"));
                Ok(String::new())
            }
            // What the program can't list is another's table, unless our chain is in it.
            Err(error) if error.kind == ErrorKind::Refused && !self.has_chain(family) => Ok(String::new()),
            listing => listing,
        }
    }

    /// Also true when the kernel does not say.
    fn has_chain(&mut self, family: Family) -> bool {
        self.tools.variant == Variant::Legacy || self.kernel.has_nft_chain(family, self.chain.as_str()).unwrap_or(true)
    }

    fn save(&mut self, family: Family, counters: bool) -> Result<String, Error> {
        list(&mut self.exec, &self.tools, family, counters)
    }

    /// The sets of the host; `None` where there are none to be had, or none that could be changed.
    fn headers(&mut self, wanted: bool) -> Result<Option<Vec<SetHeader>>, Error> {
        let headers = self.kernel.sets(wanted).map_err(|error| reading("cannot list ip sets", &error))?;
        let Some(headers) = headers else { return Ok(None) };
        let needs_program =
            wanted || Family::ALL.iter().any(|family| headers.iter().any(|header| is_our_name(&header.name, *family)));
        Ok(if needs_program && !self.has_ipset() { None } else { Some(headers) })
    }

    fn has_ipset(&mut self) -> bool {
        let asked = run(&mut self.exec, &Invocation::new("ipset", &["--version"]));
        asked.is_ok_and(|output| output.status.success())
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
            let members = members.map_err(|error| reading(&format!("cannot read ip set '{}'", header.name), &error))?;
            observed.push(ObservedSet { header, members });
        }
        Ok(observed)
    }

    fn refusal(&self, family: Family, foreign: &Foreign) -> Error {
        let Foreign { message, chain } = foreign;
        let program = self.tools.program(family, "");
        let hint = format!("'{program} -t nat -S {chain}' lists it; take it out, or set another masqChain");
        Error::new(ErrorKind::Foreign, format!("{message}; {hint}"))
    }

    /// A live Go agent would write its own rules over ours a minute later, and we ours over its.
    fn refuse_go_agents(&mut self) -> Result<(), Error> {
        match self.kernel.go_agents().first() {
            None => Ok(()),
            Some(agent) => Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "another ip-masq-agent runs here: process {} ('{}'); stop it first, nothing was written",
                    agent.pid, agent.command
                ),
            )),
        }
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
        let superfluous = if sent.is_ok() { &steps.discarded } else { &steps.created };
        superfluous.iter().for_each(|set| self.destroy(set));
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

fn reading(what: &str, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ if is_passing(error) => ErrorKind::Busy,
        _ => ErrorKind::Other,
    };
    Error::new(kind, format!("{what}: {error}"))
}

impl<E: Exec, K: Kernel> Backend for Iptables<E, K> {
    fn name(&self) -> BackendName {
        self.tools.variant.backend()
    }

    fn render(&self, desired: &Ruleset) -> String {
        render(desired, self.context(Some(&[]))).to_string()
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        let mut notes = Vec::new();
        let comparison = self.compare(family, desired, &mut notes)?;
        notes.extend(comparison.notes);
        let transaction = self.shown(family, &comparison.steps);
        if !transaction.is_empty() {
            self.refuse_go_agents()?;
        }
        let last = self.last.entry(family).or_default();
        last.notes = notes;
        last.planned = Some((transaction.clone(), comparison.steps));
        Ok(Plan {
            family,
            desired: comparison.desired.into(),
            observed: comparison.observed.into(),
            drift: comparison.drift,
            transaction,
        })
    }

    fn commit(&mut self, plan: &Plan) -> Result<(), Error> {
        let planned = self.last.get_mut(&plan.family).and_then(|last| last.planned.take());
        match planned.filter(|(shown, _)| *shown == plan.transaction) {
            Some((_, steps)) => self.send(plan.family, &steps),
            None => Err(Error::new(ErrorKind::Other, format!("the plan for {} is not the last one", plan.family))),
        }
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.rules_fingerprint()
    }

    fn content_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.rules_and_contents_fingerprint()
    }

    fn notes(&self) -> Vec<String> {
        self.last.values().flat_map(|last| last.notes.iter().cloned()).collect()
    }

    fn counters(&mut self, family: Family) -> Result<Counters, Error> {
        let listing = self.save(family, true)?;
        Ok(count(&Table::parse(&listing), &self.chain))
    }
}

/// Where a flow's verdict was given it was counted once; a rule that only leads on gives none.
fn count(table: &Table<'_>, own: &ChainName) -> Counters {
    let mut counters = Counters::default();
    for (_, listed) in table.rules().filter(|(chain, _)| own.has_part(chain)) {
        match listed.rule.as_ref().map(|rule| &rule.target) {
            Some(Target::Return) => counters.kept += listed.packets,
            Some(Target::Masquerade { .. }) => counters.masqueraded += listed.packets,
            _ => {}
        }
    }
    counters
}
