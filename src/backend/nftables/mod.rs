//! nf_tables over netlink: the table `inet ip-masq-agent`, written and read in process, with no `nft` binary.
//!
//! ```text
//! Ruleset ─compile─▶ Table (wanted) ─┐
//!                                    ├─change─▶ Changes ─batch─▶ kernel
//! kernel ─observe─▶ Table (there) ───┘             └─▶ text of Plan
//! ```
//!
//! The table has one base chain, which sends each family to a chain of its own, so that a family is planned and
//! committed alone. What the last reading or our own last commit left is remembered together with the generation of
//! the rule set: while that stands still nobody else can have moved anything, and a plan costs no reading.

mod batch;
mod change;
mod compile;
mod expression;
mod interval;
mod observe;
mod rule;
mod table;
mod text;
mod translate;
mod userdata;

use super::{Backend, BackendName, Counters, Error, ErrorKind, Fingerprint, Plan};
use crate::config::TableOwner;
use crate::host::nfnetlink::Nfnetlink;
use crate::policy::Family;
use crate::ruleset::Ruleset;
use batch::Prepared;
use change::Change;
use compile::{Elements, Part};
use observe::{Expected, Observation, Probe};
use rule::Action;
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use table::{Chain, ChainName, Hook, SetName, Table, TableFlags};

/// A commit that changes at most so many elements of a set is confirmed element by element, a larger one by reading
/// the set.
const PROBES: usize = 64;

/// The nftables backend.
///
/// With [`TableOwner::Persist`] the table is owned by this value's socket: other programs can't change it while the
/// value lives.
#[derive(Debug)]
pub struct Nftables {
    netlink: Nfnetlink,
    flags: TableFlags,
    elements: Elements,
    known: Known,
    pending: HashMap<Family, Pending>,
}

/// What we know of the kernel's state without looking.
#[derive(Debug)]
enum Known {
    /// Nothing.
    Nothing,
    /// What was read at a generation.
    Read(Observation),
    /// What our commit made of it; to be confirmed.
    Committed {
        /// What must be there if nobody came between.
        observation: Observation,
        /// The elements that the commit put in or took out.
        probes: Vec<(SetName, Option<Vec<Probe>>)>,
    },
}

/// What the last plan would send.
#[derive(Debug)]
struct Pending {
    /// Of the plan's transaction: enough to know the plan again, and no second copy of a long text.
    hash: u64,
    generation: u32,
    changes: Vec<Change>,
    target: Option<Table>,
}

impl Nftables {
    /// Opens the socket, which takes no privileges; whether the kernel does as it is asked shows at the first plan.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the kernel has no nfnetlink.
    pub fn new(owner: TableOwner) -> Result<Self, Error> {
        let netlink = Nfnetlink::open().map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("opening a netlink socket to nf_tables: {error}"))
        })?;
        Ok(Nftables {
            netlink,
            flags: flags(owner),
            elements: Elements::default(),
            known: Known::Nothing,
            pending: HashMap::new(),
        })
    }

    /// Our table as it is now, read only when it may have moved.
    fn observe(&mut self) -> Result<&Observation, Error> {
        let generation = observe::generation(&mut self.netlink)?;
        let fresh = match &self.known {
            Known::Read(observation) if observation.generation == generation => None,
            Known::Committed { observation, probes } if observation.generation == generation => {
                let expected = observation.table.as_ref().map(|table| Expected { table, probes });
                Some(observe::observe(&mut self.netlink, expected))
            }
            _ => Some(observe::observe(&mut self.netlink, None)),
        };
        if let Some(fresh) = fresh {
            self.known = Known::Nothing;
            self.known = Known::Read(fresh?);
        }
        match &self.known {
            Known::Read(observation) => Ok(observation),
            _ => Err(Error::new(ErrorKind::Other, "the table was read and is not known")),
        }
    }
}

fn flags(owner: TableOwner) -> TableFlags {
    match owner {
        TableOwner::Never => TableFlags::default(),
        TableOwner::Persist => TableFlags::PERSISTENT,
    }
}

/// The text of a ruleset as [`Backend::render`] gives it, for those who have no socket: no privileges, no IO.
pub fn render(desired: &Ruleset, owner: TableOwner) -> String {
    text::table(&compile::compile(desired, &mut Elements::default()).alone(flags(owner)), desired.family)
}

impl Backend for Nftables {
    fn name(&self) -> BackendName {
        BackendName::Nftables
    }

    fn render(&self, desired: &Ruleset) -> String {
        let part = compile::compile(desired, &mut Elements::default());
        text::table(&part.alone(self.flags), desired.family)
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        let part = desired.map(|desired| compile::compile(desired, &mut self.elements));
        let flags = self.flags;
        let Observation { generation, table: observed, owner } = self.observe()?;
        let observed = observed.as_ref();
        let target = target(observed, family, part, flags);
        // A table that another live process owns is not taken over; a change in it is refused by the kernel.
        let is_owned = observed.is_some_and(|table| table.flags.has(TableFlags::OWNER));
        let orphaned = is_owned && owner.is_none();
        let changes = change::between(observed, target.as_ref(), orphaned);
        let mut transaction = String::new();
        for change in &changes {
            // Writing to a String can't fail.
            let _ = write!(transaction, "{change}");
        }
        let text = |table: Option<&Table>| table.map_or_else(String::new, |table| text::table(table, family));
        let plan = Plan {
            family,
            desired: text(target.as_ref()),
            observed: text(observed),
            drift: change::words(&changes, observed, target.as_ref()),
            transaction,
        };
        let generation = *generation;
        self.pending.insert(family, Pending { hash: hash(&plan), generation, changes, target });
        Ok(plan)
    }

    fn commit(&mut self, plan: &Plan) -> Result<(), Error> {
        let pending = self.pending.remove(&plan.family).filter(|pending| pending.hash == hash(plan));
        let Some(Pending { generation, changes, target, .. }) = pending else {
            return Err(Error::new(ErrorKind::Other, "a plan was to be committed that is not the last one made"));
        };
        if changes.is_empty() {
            return Ok(());
        }
        let (batch, owners) = Prepared::new(&changes, generation).into_parts();
        self.known = Known::Nothing;
        self.netlink.commit(batch).map_err(|refusal| batch::explain(&refusal, &changes, &owners))?;
        let owner = self.netlink.port().ok().filter(|_| self.flags.has(TableFlags::OWNER));
        let observation = Observation { generation: next(generation), table: target, owner };
        self.known = Known::Committed { observation, probes: probes(&changes) };
        Ok(())
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint(vec![u64::from(observe::generation(&mut self.netlink)?)]))
    }

    fn counters(&mut self, family: Family) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        for (chain, rule, packets) in observe::counted_rules(&mut self.netlink)? {
            if chain.family() != Some(family) {
                continue;
            }
            match rule.action() {
                Some(Action::Return) => counters.kept += packets,
                Some(Action::Masquerade { .. }) => counters.masqueraded += packets,
                Some(Action::Goto(_)) | None => {}
            }
        }
        Ok(counters)
    }
}

fn hash(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.transaction.hash(&mut hasher);
    hasher.finish()
}

/// The generation after a commit; zero is left out (nf_tables_api.c).
fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// The table that we want: the part of one family as desired, that of the other one as it is.
fn target(observed: Option<&Table>, family: Family, part: Option<Part>, flags: TableFlags) -> Option<Table> {
    let other = |found: Option<Family>| found.is_some_and(|found| found != family);
    let kept_chains: Vec<Chain> =
        observed.iter().flat_map(|table| &table.chains).filter(|chain| other(chain.name.family())).cloned().collect();
    let kept_sets = observed.iter().flat_map(|table| &table.sets).filter(|set| other(Some(set.name.family))).cloned();
    let base = observed.and_then(|table| table.chain(ChainName::Postrouting));
    let priority = match (&part, base.and_then(|base| base.hook)) {
        (Some(part), _) => part.priority,
        (None, Some(hook)) => hook.priority,
        (None, None) => return None,
    };
    if part.is_none() && kept_chains.is_empty() {
        return None;
    }
    // The dispatches stay in the order in which they are there, which is that of their making.
    let mut rules = Vec::new();
    let wanted: Vec<_> = kept_chains
        .iter()
        .filter_map(|chain| chain.name.family())
        .chain(part.as_ref().map(|part| part.family))
        .map(compile::dispatch)
        .collect();
    for rule in base.iter().flat_map(|base| &base.rules).chain(&wanted) {
        if wanted.contains(rule) && !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    let base = Chain { name: ChainName::Postrouting, hook: Some(Hook { priority, accepts: true }), rules };
    let (chains, sets) = part.map_or((Vec::new(), Vec::new()), |part| (part.chains, part.sets));
    Some(Table {
        flags,
        chains: std::iter::once(base).chain(kept_chains).chain(chains).collect(),
        sets: kept_sets.chain(sets).collect(),
    })
}

/// The elements by which a commit can be confirmed.
fn probes(changes: &[Change]) -> Vec<(SetName, Option<Vec<Probe>>)> {
    let mut found: Vec<(SetName, Option<Vec<Probe>>)> = Vec::new();
    for change in changes {
        let (name, elements, present) = match change {
            Change::DeleteElements(name, elements) => (*name, Some(elements), false),
            Change::AddElements(name, elements) => (*name, Some(elements), true),
            Change::FlushSet(name) => (*name, None, false),
            _ => continue,
        };
        let new = elements.filter(|elements| elements.len() <= PROBES).map(|elements| {
            let bounds = elements.iter().flat_map(|element| interval::bounds(*element, name.family));
            bounds.map(|(address, bound)| Probe { address, bound, present }).collect::<Vec<_>>()
        });
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = known.take().zip(new).map(|(old, new)| superseded(old, new)),
            None => found.push((name, new)),
        }
    }
    found
}

/// Elements that were taken out and put in again are there.
fn superseded(old: Vec<Probe>, new: Vec<Probe>) -> Vec<Probe> {
    let again = |probe: &Probe| new.iter().any(|new| (new.address, new.bound) == (probe.address, probe.bound));
    let kept: Vec<_> = old.into_iter().filter(|probe| !again(probe)).collect();
    [kept, new].concat()
}
