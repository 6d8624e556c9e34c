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

#[cfg(fuzzing)]
pub use observe::read_any;

use super::{Backend, BackendName, Counters, Error, ErrorKind, Fingerprint, Listing, Plan};
use crate::config::TableOwner;
use crate::host::nfnetlink::Nfnetlink;
use crate::policy::Family;
use crate::ruleset::Ruleset;
use change::Change;
use compile::{Elements, Part};
use observe::{Expected, Observation, Probe};
use rule::Action;
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};
pub use table::TABLE;
use table::{Chain, ChainName, Hook, SetName, Table, TableFlags};

/// How many elements at each end of a change are asked for after its commit.
const PROBES: usize = 16;
/// How long a number of elements may stand for the elements.
const DOUBT: Duration = Duration::from_secs(30);

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
    Read {
        /// It.
        observation: Observation,
        /// Since when elements have only been counted after somebody else's commit.
        doubted: Option<Instant>,
    },
    /// What our commit made of it; to be confirmed.
    Committed {
        /// What must be there if nobody came between.
        observation: Observation,
        /// Elements by which to confirm it.
        probes: Vec<(SetName, Probe)>,
        /// As before the commit.
        doubted: Option<Instant>,
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

    /// Our table as it is now, read only as far as it may have moved.
    fn observe(&mut self) -> Result<&Observation, Error> {
        let generation = observe::generation(&mut self.netlink)?;
        let known = std::mem::replace(&mut self.known, Known::Nothing);
        self.known = match known {
            Known::Read { observation, doubted } if observation.generation == generation && !expired(doubted) => {
                Known::Read { observation, doubted }
            }
            Known::Committed { observation, probes, doubted } if observation.generation == generation => {
                self.read(observation.table.as_ref(), &probes, false, doubted)?
            }
            Known::Read { observation, doubted } | Known::Committed { observation, doubted, .. }
                if observation.is_large() && !expired(doubted) =>
            {
                let since = doubted.unwrap_or_else(Instant::now);
                self.read(observation.table.as_ref(), &[], true, Some(since))?
            }
            _ => self.read(None, &[], true, None)?,
        };
        match &self.known {
            Known::Read { observation, .. } => Ok(observation),
            _ => Err(Error::new(ErrorKind::Other, "the table was read and is not known")),
        }
    }

    /// Reads the table; elements of a known table are confirmed and not read.
    fn read(
        &mut self,
        known: Option<&Table>,
        probes: &[(SetName, Probe)],
        counted: bool,
        doubted: Option<Instant>,
    ) -> Result<Known, Error> {
        let expected = known.map(|table| Expected { table, probes, counted });
        let (observation, confirmed) = observe::observe(&mut self.netlink, expected)?;
        Ok(Known::Read { observation, doubted: doubted.filter(|_| confirmed) })
    }
}

/// True when elements have been counted for so long that they must be read.
fn expired(doubted: Option<Instant>) -> bool {
    doubted.is_some_and(|since| since.elapsed() >= DOUBT)
}

fn flags(owner: TableOwner) -> TableFlags {
    match owner {
        TableOwner::Never => TableFlags::default(),
        TableOwner::Persist => TableFlags::PERSISTENT,
    }
}

/// The text of a ruleset as [`Backend::render`] gives it, for those who have no socket: no privileges, no IO.
pub fn render(desired: &Ruleset, owner: TableOwner) -> String {
    alone(desired, flags(owner))
}

fn alone(desired: &Ruleset, flags: TableFlags) -> String {
    text::table(&compile::compile(desired, &mut Elements::default()).alone(flags), desired.family)
}

impl Backend for Nftables {
    fn name(&self) -> BackendName {
        BackendName::Nftables
    }

    fn render(&self, desired: &Ruleset) -> String {
        alone(desired, self.flags)
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        let part = desired.map(|desired| compile::compile(desired, &mut self.elements));
        let flags = self.flags;
        let Observation { generation, table: observed } = self.observe()?;
        let observed = observed.as_ref();
        let target = target(observed, family, part, flags);
        let changes = change::between(observed, target.as_ref());
        let mut transaction = String::new();
        for change in &changes {
            // Writing to a String can't fail.
            let _ = write!(transaction, "{change}");
        }
        let unwanted = observed.filter(|_| desired.is_none());
        let mut drift = unwanted.map_or(Vec::new(), |observed| change::surplus(observed, target.as_ref()));
        if drift.is_empty() {
            drift = change::words(&changes, observed, target.as_ref());
        }
        let listing = |table: Option<&Table>| {
            let table = table.cloned();
            Listing::new(move || table.map_or_else(String::new, |table| text::table(&table, family)))
        };
        let plan = Plan { family, observed: listing(observed), desired: listing(target.as_ref()), drift, transaction };
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
        let (batch, owners) = batch::write(&changes, generation);
        let doubted = match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::Read { doubted, .. } => doubted,
            _ => None,
        };
        self.netlink.commit(batch).map_err(|refusal| batch::explain(&refusal, &changes, &owners))?;
        let observation = Observation { generation: next(generation), table: target };
        self.known = Known::Committed { observation, probes: probes(&changes), doubted };
        Ok(())
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint(vec![u64::from(observe::generation(&mut self.netlink)?)]))
    }

    fn content_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        if let Known::Read { doubted, .. } | Known::Committed { doubted, .. } = &self.known
            && expired(*doubted)
        {
            let message = "the elements of a long set were only counted since somebody else committed";
            return Err(Error::new(ErrorKind::Other, message));
        }
        self.fingerprint()
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
    let wanted: Vec<_> = Family::ALL
        .into_iter()
        .filter(|other| match &part {
            Some(part) if part.family == *other => true,
            _ => kept_chains.iter().any(|chain| chain.name == ChainName::Part(*other, 1)),
        })
        .map(compile::dispatch)
        .collect();
    // Dispatches that are there stay in their order: no flow sees both.
    let mut rules = Vec::new();
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

/// The elements by which a commit is confirmed: those that it put in or took out, or of a large change its first and
/// last ones. The kernel commits all of a batch or nothing.
fn probes(changes: &[Change]) -> Vec<(SetName, Probe)> {
    let mut probes: Vec<(SetName, Probe)> = Vec::new();
    for change in changes {
        let (name, elements, present) = match change {
            Change::DeleteElements(name, elements) => (*name, elements, false),
            Change::AddElements(name, elements) => (*name, elements, true),
            _ => continue,
        };
        let (first, last) = elements.split_at(elements.len().min(PROBES));
        let sample = first.iter().chain(&last[last.len().saturating_sub(PROBES)..]);
        for (address, bound) in sample.flat_map(|element| interval::bounds(*element, name.family)) {
            // What was taken out and is put in again is there.
            probes.retain(|(set, old)| (*set, old.address, old.bound) != (name, address, bound));
            probes.push((name, Probe { address, bound, present }));
        }
    }
    probes
}
