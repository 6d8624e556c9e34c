//! The iptables backend, for both variants.
//!
//! One `iptables-save` observes a family, one `iptables-restore --noflush` changes chain and jump together. What to
//! send is decided by pure code in [`rules`]; the programs are in [`tools`], what is asked without one in [`host_state`].
//!
//! ```text
//! Ruleset ─render─▶ Rendered ────────────────┐
//!                                            ├─plan::compare─▶ Steps ─send─▶ ipset restore, iptables-restore
//! iptables-save ─parse─▶ ListedTable, sets ──┘                   └─▶ text of Plan
//! ```

#[cfg(test)]
mod fake;
mod fingerprint;
pub mod host_state;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod tools;

use super::{
    Backend, BackendName, Change, Counters, Error, ErrorKind, Fingerprint, Listing, Plan, identified,
    limit_route_sources,
};
use crate::policy::{Family, ForwardMark, WithOrigin};
use crate::ruleset::{ChainName, Hook, RuleId, Ruleset};
use crate::sys::child::{Exec, Invocation};
use crate::sys::go_agent::GoAgent;
use crate::sys::listing::tracking;
use crate::sys::nfnetlink::ipset::SetHeader;
use crate::sys::nfnetlink::is_passing;
use host_state::{HostState, LiveHost};
use rules::ownership::Refusal;
use rules::parse::{ListedRule, ListedTable};
use rules::plan;
use rules::plan::{Comparison, Observed, Steps};
use rules::render::{BUILT_IN_COMMENT, Context, GUARD_COMMENT, Rendered, Table, built_in, render};
use rules::rule::RuleSpec;
use rules::sets::{ObservedSet, THRESHOLD, is_our_name};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tools::{Tools, Variant, list_or_nothing, run};

/// Of the sources that routes prefer each is a rule that new flows are asked one after the other.
const MOST_ROUTE_SOURCES: usize = 256;

/// Keeps a ruleset in the nat table of one iptables variant.
#[derive(Debug)]
pub struct Iptables<E, K = LiveHost> {
    exec: E,
    kernel: K,
    tools: Tools,
    chain: ChainName,
    /// What was seen and decided last, per family.
    last: BTreeMap<Family, Last>,
}

/// A rule in eight bytes, to be told from the others of its chain: without sets a long list is tens of thousands of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    fn of(rule: &RuleSpec) -> Self {
        let mut hasher = DefaultHasher::new();
        rule.hash(&mut hasher);
        Digest(hasher.finish())
    }
}

#[derive(Debug, Default)]
struct Last {
    /// The sets that the desired rules refer to.
    sets: Vec<String>,
    /// Sets would be used if they were to be had.
    wants_sets: bool,
    /// Whether they were, where they would be, when the kernel was last as it should be.
    used_sets: Option<bool>,
    /// Where rules of built-in chains are ours.
    hooks: Vec<Hook>,
    /// What the desired rules are known by, per chain.
    rules: Vec<(String, Vec<(RuleId, Digest)>)>,
    notes: Vec<String>,
}

/// What a plan sends.
#[derive(Debug)]
pub struct Sending {
    /// At least one.
    steps: Steps,
    /// The program that takes the rules, as a person would type it.
    restore: String,
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Steps { fill, restore, discarded, .. } = &self.steps;
        if !fill.is_empty() {
            write!(f, "# ipset restore -exist\n{fill}")?;
        }
        if !restore.is_empty() {
            write!(f, "# {}\n{restore}", self.restore)?;
        }
        discarded.iter().try_for_each(|set| writeln!(f, "# ipset destroy {set}"))
    }
}

/// The program that writes sets.
const IPSET: &str = "ipset";
/// So many prefixes become rules where there is no ipset: of more, iptables-nft needs longer than in proportion, and of
/// 50,000 longer than a program may run.
const MOST_RULES: usize = 10_000;

/// For each of the two programs of a commit: the lock may take five seconds, a very long list two. What they may take
/// together is for whoever runs the work to say ([`crate::sys::child::BoundedChildren`]).
const COMMIT_DEADLINE: Duration = Duration::from_secs(12);
/// So many lines of a restore are within that. Of port forwards there may be a hundred thousand.
const FREE_LINES: u32 = 1000;
/// For each line more: ten times what one takes where no other program wants the processor, for iptables asks the resolver
/// of the host for each port.
const FOR_A_LINE: Duration = Duration::from_millis(1);
/// The same for each member of a set: a million of them are 3.6 s of processor time.
const FOR_A_MEMBER: Duration = Duration::from_micros(36);

/// Gives a program the time that what it reads needs.
fn in_time_for(mut writer: Invocation, text: &str, for_a_line: Duration) -> Invocation {
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    writer.deadline = COMMIT_DEADLINE;
    writer.allowance = for_a_line * lines.saturating_sub(FREE_LINES);
    writer
}

impl<E: Exec> Iptables<E> {
    /// A backend for programs that were probed or are assumed.
    pub fn new(exec: E, tools: Tools, chain: ChainName) -> Self {
        Iptables::with_host_state(exec, LiveHost::default(), tools, chain)
    }
}

impl<E: Exec, K: HostState> Iptables<E, K> {
    /// The same on what the caller takes for the kernel.
    pub fn with_host_state(exec: E, kernel: K, tools: Tools, chain: ChainName) -> Self {
        Iptables { exec, kernel, tools, chain, last: BTreeMap::new() }
    }

    fn context<'a>(&'a self, sets: Option<&'a [SetHeader]>) -> Context<'a> {
        Context { chain: &self.chain, random_fully: self.tools.random_fully, sets }
    }

    fn compare(&mut self, family: Family, desired: Option<&Ruleset>, notes: &mut Vec<String>) -> Result<Plan, Error> {
        let sources = desired.and_then(Ruleset::route_sources).map_or(0, |sources| sources.rows(family).count());
        limit_route_sources(family, sources, MOST_ROUTE_SOURCES, " as rules; nftables takes 10,000")?;
        let listing = self.listing(family, desired.is_some(), notes)?;
        let wants_sets = desired.is_some_and(|ruleset| {
            !ruleset.forwards.lists.is_empty() || ruleset.lists().any(|list| list.prefixes.len() > THRESHOLD)
        });
        if !self.tools.random_fully && desired.is_some_and(Ruleset::chooses_ports_at_random) {
            notes.push("this iptables is older than 1.6.2 and can't choose source ports at random".to_owned());
        }
        let (rendered, sets) = self.rendered_with_sets(family, desired, wants_sets, notes)?;
        let guard = self.guard_listing(family, rendered.as_ref())?;
        let observed = Observed { table: ListedTable::parse(&listing), raw: ListedTable::parse(&guard), sets };
        self.refuse_half_truth(family, &observed.table)?;
        self.refuse_absent_mark_chain(family, desired, &observed.table)?;
        let rules = observed.table.chains.iter().flat_map(|chain| &chain.rules);
        let begins = !rules.flat_map(|rule| &rule.target).any(|target| tracking::extension(target, &[]));
        let (comparison, kept) = self.compare_observed(family, rendered.as_ref(), &observed, notes)?;
        notes.extend(comparison.notes);
        let discarded = comparison.steps.discarded.clone();
        let change = self.sending(family, comparison.steps).map(Change::Iptables);
        let last = self.last.entry(family).or_default();
        last.sets = rendered.iter().flat_map(|rendered| &rendered.sets).map(|set| set.name.clone()).collect();
        last.wants_sets = wants_sets;
        let uses_sets = wants_sets.then_some(!last.sets.is_empty());
        let follows = match (last.used_sets, uses_sets) {
            (Some(false), Some(true)) => Some("ipset, which is there now"),
            (Some(true), Some(false)) => Some("ipset, which is gone"),
            (Some(true), Some(true)) | (Some(false), Some(false)) | (None, _) | (_, None) => None,
        };
        if change.is_none() {
            last.used_sets = uses_sets;
        }
        last.hooks = rendered.iter().flat_map(|rendered| &rendered.jumps).map(|jump| jump.hook).collect();
        let chains = rendered.iter().flat_map(|rendered| &rendered.chains);
        let known_by = |(id, rule): &(RuleId, RuleSpec)| (*id, Digest::of(rule));
        last.rules = chains.map(|chain| (chain.name.clone(), chain.rules.iter().map(known_by).collect())).collect();
        let Observed { sets, .. } = observed;
        let own = self.chain.clone();
        let desired = rendered.map(Arc::new);
        let wanted = desired.clone();
        Ok(Plan {
            family,
            desired: Listing::new(move || wanted.map(|wanted| wanted.to_string()).unwrap_or_default()),
            observed: Listing::new(move || {
                let observed = Observed { table: ListedTable::parse(&listing), raw: ListedTable::parse(&guard), sets };
                plan::describe(&own, desired.as_deref(), &observed, &kept, &discarded)
            }),
            drift: comparison.drift,
            follows,
            begins,
            change,
        })
    }

    fn sending(&self, family: Family, steps: Steps) -> Option<Sending> {
        (steps != Steps::default()).then(|| Sending { steps, restore: self.tools.restore(family, "").to_string() })
    }

    /// The comparison, and the chains of Go agents that live: one would write its own rules over ours a minute later, and
    /// we ours over its.
    fn compare_observed(
        &mut self,
        family: Family,
        desired: Option<&Rendered>,
        observed: &Observed<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(Comparison, Vec<String>), Error> {
        let compare = |kept: &[String]| plan::compare(&self.chain, family, desired, observed, kept);
        let comparison = compare(&[]).map_err(|refusal| self.refused(family, &refusal, &[]))?;
        if comparison.go_shaped.is_empty() {
            return Ok((comparison, Vec::new()));
        }
        let mut agents = self.kernel.go_agents();
        agents.retain(|agent| comparison.go_shaped.contains(&agent.chain));
        let kept: Vec<String> = agents.iter().map(|agent| agent.chain.clone()).collect();
        let Some(first) = kept.first() else { return Ok((comparison, kept)) };
        let comparison = plan::compare(&self.chain, family, desired, observed, &kept)
            .map_err(|refusal| self.refused(family, &refusal, &agents))?;
        if desired.is_none() && comparison.steps == Steps::default() {
            return Err(self.refused(family, &Refusal::Kept(first.clone()), &agents));
        }
        let stays = |agent: &GoAgent| format!("chain '{}' stays: {}", agent.chain, runs_here(agent));
        notes.extend(agents.iter().map(stays));
        Ok((comparison, kept))
    }

    /// The desired rules, and the sets of ours that are there. Long lists are sets where the kernel has them and they can
    /// be written, or are right as they are. A program that is there and fails is a failure, and no reason for rules: they
    /// would be thousands, and stay.
    fn rendered_with_sets(
        &mut self,
        family: Family,
        desired: Option<&Ruleset>,
        wants_sets: bool,
        notes: &mut Vec<String>,
    ) -> Result<(Option<Rendered>, Vec<ObservedSet>), Error> {
        let headers = self.kernel.sets(wants_sets).map_err(|error| reading("cannot list ip sets", error))?;
        let writable = self.exec.has(IPSET);
        let in_kernel = headers.is_some();
        let mut rendered = desired.map(|ruleset| render(ruleset, self.context(headers.as_deref())));
        let mut sets = self.observe_sets(family, headers.unwrap_or_default(), rendered.as_ref())?;
        let desired_sets = rendered.as_ref().map_or(&[][..], |rendered| &rendered.sets);
        if wants_sets && (!in_kernel || !(writable || desired_sets.iter().all(|set| set.is_whole_in(&sets)))) {
            limit_rules(family, desired)?;
            rendered = desired.map(|ruleset| render(ruleset, self.context(None)));
            notes.push(format!(
                "no ipset on this host: lists of more than {THRESHOLD} prefixes are rules, and every new flow is \
                 compared with one after the other"
            ));
        }
        if !writable {
            let is_desired = |set: &ObservedSet| {
                rendered.iter().flat_map(|rendered| &rendered.sets).any(|wanted| wanted.name == set.header.name)
            };
            let (kept, stuck): (Vec<_>, Vec<_>) = sets.into_iter().partition(is_desired);
            sets = kept;
            let name =
                |set: &ObservedSet| format!("set '{}' stays: no program '{IPSET}' to remove it", set.header.name);
            notes.extend(stuck.iter().map(name));
        }
        Ok((rendered, sets))
    }

    /// The listing of a family; empty where nothing of ours can be.
    fn listing(&mut self, family: Family, is_desired: bool, notes: &mut Vec<String>) -> Result<String, Error> {
        if is_desired {
            return self.save(family, Table::Nat, false);
        }
        // Listing a legacy table makes it.
        if self.tools.variant == Variant::Legacy && !self.has_table(family, Table::Nat)? {
            return Ok(String::new());
        }
        match self.save(family, Table::Nat, false) {
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(String::new()),
            Err(error) if error.kind == ErrorKind::MissingTool && !self.holds_jump(family) => {
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

    fn has_table(&mut self, family: Family, table: Table) -> Result<bool, Error> {
        let has = self.kernel.has_table(self.tools.variant, family, table);
        has.map_err(|error| reading(&format!("cannot ask whether there is a {family} {} table", table.name()), error))
    }

    fn save(&mut self, family: Family, table: Table, counters: bool) -> Result<String, Error> {
        match list_or_nothing(&mut self.exec, &self.tools, family, table, counters)? {
            Some(listing) => Ok(listing),
            None if !self.has_table(family, table)? => Ok(String::new()),
            None => {
                let (save, table) = (self.tools.save(family, table, counters), table.name());
                Err(Error::new(ErrorKind::Busy, format!("'{save}' printed nothing, and there is a {table} table")))
            }
        }
    }

    /// The listing of the raw table; empty where nothing of ours is there or is to be. Listing a legacy table makes it, and
    /// one that is there slows every packet down.
    fn guard_listing(&mut self, family: Family, desired: Option<&Rendered>) -> Result<String, Error> {
        let is_desired =
            desired.is_some_and(|desired| desired.jumps.iter().any(|jump| jump.hook == Hook::RawPrerouting));
        let what = || format!("cannot ask for the guard of loopback addresses in the {family} raw table");
        let count = self.kernel.count(self.tools.variant, family, Table::Raw, GUARD_COMMENT);
        let count = count.map_err(|error| reading(&what(), error))?;
        if count == 0 && (!is_desired || !self.has_table(family, Table::Raw)?) {
            return Ok(String::new());
        }
        let listing = self.save(family, Table::Raw, false)?;
        let listed = listing.matches(GUARD_COMMENT).count();
        if listed < count {
            let message =
                format!("'{}' did not list a rule that is in the kernel", self.tools.save(family, Table::Raw, false));
            return Err(Error::new(ErrorKind::Busy, message));
        }
        Ok(listing)
    }

    /// False also when the kernel does not say.
    fn holds_jump(&mut self, family: Family) -> bool {
        self.kernel.count(self.tools.variant, family, Table::Nat, BUILT_IN_COMMENT).is_ok_and(|count| count > 0)
    }

    /// Whoever believed a listing without the jump that the kernel has would add one each time, or call the table clean.
    fn refuse_half_truth(&mut self, family: Family, table: &ListedTable<'_>) -> Result<(), Error> {
        let is_built_in = |chain: &str| Hook::ALL.into_iter().any(|hook| built_in(hook) == chain);
        let counted =
            |(chain, _): &(&str, &ListedRule<'_>)| self.tools.variant == Variant::Legacy || is_built_in(chain);
        let listed: usize =
            table.rules().filter(counted).map(|(_, rule)| rule.spec.matches(BUILT_IN_COMMENT).count()).sum();
        // A kernel that does not say contradicts nobody.
        match self.kernel.count(self.tools.variant, family, Table::Nat, BUILT_IN_COMMENT) {
            Ok(held) if held > listed => {
                let message = format!(
                    "'{}' did not list {} of the {held} jumps of ip-masq-agent that are in the kernel",
                    self.tools.save(family, Table::Nat, false),
                    held - listed
                );
                Err(Error::new(ErrorKind::Busy, message))
            }
            _ => Ok(()),
        }
    }

    /// The chain that marks is another program's: it is not made, and nothing is written that would lead nowhere.
    fn refuse_absent_mark_chain(
        &self,
        family: Family,
        desired: Option<&Ruleset>,
        table: &ListedTable<'_>,
    ) -> Result<(), Error> {
        let mark = desired.and_then(|desired| desired.forwards.mark.as_ref());
        let Some(WithOrigin { value: ForwardMark::Chain(chain), origin }) = mark else { return Ok(()) };
        if table.chain(chain).is_some() {
            return Ok(());
        }
        let program = self.tools.program(family, "");
        let message = format!(
            "{origin}: externalSetMarkChain: no chain '{chain}' in the {family} nat table ('{program} -t nat -S' lists \
             them); it has to be there before port forwards can use it"
        );
        Err(Error::new(ErrorKind::Refused, message))
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
            let members = members.map_err(|error| reading(&format!("cannot read ip set '{}'", header.name), error))?;
            observed.push(ObservedSet { header, members });
        }
        Ok(observed)
    }

    fn refused(&self, family: Family, refusal: &Refusal, agents: &[GoAgent]) -> Error {
        let message = match refusal {
            Refusal::Foreign { message, chain } => {
                let program = self.tools.program(family, "");
                format!("{message}; '{program} -t nat -S {chain}' lists it; take it out, or set another masqChain")
            }
            Refusal::Kept(chain) => {
                let agent = agents.iter().find(|agent| agent.chain == *chain).map(runs_here).unwrap_or_default();
                format!("{agent}; stop it first, nothing was written")
            }
        };
        Error::new(ErrorKind::Foreign, message)
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
        let writer = Invocation::new(IPSET, &["restore", "-exist"]).with_input(steps.fill.as_str());
        let invocation = in_time_for(writer, &steps.fill, FOR_A_MEMBER);
        match run(&mut self.exec, &invocation) {
            Ok(_) => Ok(()),
            // It was there when this was planned.
            Err(error) if error.kind == ErrorKind::MissingTool => Err(Error { kind: ErrorKind::Busy, ..error }),
            Err(error) => Err(error),
        }
    }

    fn restore(&mut self, family: Family, steps: &Steps) -> Result<(), Error> {
        if steps.restore.is_empty() {
            return Ok(());
        }
        let invocation = in_time_for(self.tools.restore(family, &steps.restore), &steps.restore, FOR_A_LINE);
        run(&mut self.exec, &invocation).map(|_| ())
    }

    /// A set that can't go now is found and destroyed by the next plan.
    fn destroy(&mut self, set: &str) {
        let _ = run(&mut self.exec, &Invocation::new(IPSET, &["destroy", set]));
    }
}

fn runs_here(agent: &GoAgent) -> String {
    let GoAgent { pid, command, chain } = agent;
    format!("another ip-masq-agent runs here, process {pid} ('{command}'), and keeps chain '{chain}'")
}

/// Refuses lists as rules that are so many that the host would be busy with them.
fn limit_rules(family: Family, desired: Option<&Ruleset>) -> Result<(), Error> {
    let count: usize = desired.map_or(0, |ruleset| ruleset.lists().map(|list| list.prefixes.len()).sum());
    if count <= MOST_RULES {
        return Ok(());
    }
    let message = format!(
        "no ipset on this host: the {family} lists would be {count} rules, more than {MOST_RULES}, which new flows are \
         compared with one after the other; install ipset, or set backend: nftables"
    );
    Err(Error::new(ErrorKind::Refused, message))
}

fn reading(what: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ if is_passing(&error) => ErrorKind::Busy,
        _ => ErrorKind::Other,
    };
    Error::new(kind, format!("{what}: {error}")).with_source(error)
}

impl<E: Exec, K: HostState> Backend for Iptables<E, K> {
    fn name(&self) -> BackendName {
        self.tools.variant.backend()
    }

    fn render(&self, desired: &Ruleset) -> String {
        render(desired, self.context(Some(&[]))).to_string()
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        let mut notes = Vec::new();
        let plan = self.compare(family, desired, &mut notes);
        self.last.entry(family).or_default().notes = notes;
        plan
    }

    fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        match plan.change {
            None => Ok(()),
            Some(Change::Iptables(Sending { steps, .. })) => self.send(plan.family, &steps),
            Some(Change::Nftables(_)) => Err(Error::of_another_backend()),
        }
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.rules_fingerprint()
    }

    fn own_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.own_rules_fingerprint()
    }

    fn content_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.rules_and_contents_fingerprint()
    }

    fn member_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.members().map(Fingerprint).map_err(|error| reading("cannot read what sets hold", error))
    }

    fn sets_hold(&mut self, ruleset: &Ruleset, destinations: &[IpAddr]) -> Result<bool, Error> {
        self.hold(ruleset, destinations).map_err(|error| reading("cannot ask what sets hold", error))
    }

    fn notes(&self, family: Family) -> Vec<String> {
        self.last.get(&family).map_or_else(Vec::new, |last| last.notes.clone())
    }

    fn counters(&mut self, family: Family) -> Result<Counters, Error> {
        let listing = self.save(family, Table::Nat, true)?;
        let planned = self.last.get(&family).map_or(&[][..], |last| &last.rules);
        Ok(count(&ListedTable::parse(&listing), planned))
    }
}

fn count(table: &ListedTable<'_>, planned: &[(String, Vec<(RuleId, Digest)>)]) -> Counters {
    let mut counters = Counters::default();
    for (chain, planned) in planned {
        let listed = table.chain(chain).into_iter().flat_map(|chain| &chain.rules);
        let ours = listed.filter_map(|listed| Some((listed.rule.as_ref()?, listed.packets)));
        let ours = ours.map(|(rule, packets)| (Digest::of(rule), (&rule.then, packets)));
        for (id, _, (then, packets)) in identified(planned, ours) {
            counters.add(id, then, packets);
        }
    }
    counters
}
