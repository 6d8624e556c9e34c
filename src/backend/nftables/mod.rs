//! nf_tables over netlink: the table `inet ip-masq-agent`, written and read in process, with no `nft` binary.
//!
//! ```text
//! Ruleset ─compile─▶ FamilyTable ─target─▶ Table (wanted) ─┐
//!                                                          ├─plan─▶ Transactions ─batch─▶ kernel
//! kernel ─observe─▶ Tables (there) ────────────────────────┘             └─▶ text of Plan
//! ```
//!
//! Pure are `rules`, what a table holds, and `wire`, the same as messages; `wire/translate.rs` makes expressions of a rule,
//! and a rule of expressions. The table has one base chain, and with port forwards one more for each of their hooks; each
//! sends each family to a chain of its own, so that a family is planned and committed alone. What the last reading or our
//! own last commit left is remembered together with the generation of the rule set: while that stands still nobody else
//! can have moved anything, and a plan costs no reading.

mod ask;
mod commit;
mod elements;
#[cfg(test)]
mod fake;
pub mod fast_path;
mod held;
mod memory;
mod observe;
mod rules;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(fuzzing)]
pub use memory::read_any as read_memory;
#[cfg(fuzzing)]
pub use observe::read_any;

use super::{
    Backend, BackendName, Change, Counters, Error, ErrorKind, Fingerprint, Listing, Plan, identified,
    limit_route_sources,
};
use crate::config::TableOwner;
use crate::policy::{Family, ForwardMark, WithOrigin};
use crate::ruleset::{ForwardRules, Ruleset};
use crate::sys::nfnetlink::{Nfnetlink, digest};
use commit::Progress;
use elements::{Expected, Probe};
use held::Held;
use memory::Memory;
use observe::Observation;
pub use observe::has_stand_in;
use rules::change::Transaction;
use rules::compile::CompileCache;
use rules::content::Content;
use rules::forwards;
use rules::name::{ChainName, SetName, SetOf};
pub use rules::name::{STAND_IN, TABLE};
use rules::planned::PlannedChain;
use rules::rule::Rule;
use rules::table::{Set, Slot, Table, TableFlags, Tables};
use rules::{change, compile, drift, plan, target, text};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Instant;

/// So many sources that routes prefer are one transaction; each is copied whenever one of them changes.
const MOST_ROUTE_SOURCES: usize = target::PIECE;

/// The nftables backend.
///
/// With [`TableOwner::Persist`] the table is owned by this value's socket: other programs can't change it while the
/// value lives.
#[derive(Debug)]
pub struct Nftables<K = Nfnetlink> {
    netlink: K,
    flags: TableFlags,
    compiled: CompileCache,
    /// Those that the last plans of each family were made for.
    forwards: HashMap<Family, ForwardRules>,
    known: Known,
    /// The chains that the last plan of each family wanted.
    planned: BTreeMap<Family, Vec<PlannedChain>>,
    /// The kernel has not refused a guard.
    may_guard: bool,
    /// What an earlier process wrote, until something was read.
    remembered: Option<Memory>,
    /// The generation at which [`Backend::memory`] was asked for last.
    noted: Option<u32>,
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
        /// Since when elements have only been counted after another program's commit.
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

/// What a plan sends.
#[derive(Debug)]
pub struct Sending {
    /// What it was made for.
    observed: Observation,
    /// At least one.
    transactions: Vec<Transaction>,
    progress: Progress,
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        change::Script(&self.transactions).fmt(f)
    }
}

impl Nftables {
    /// Opens the socket, which takes no privileges; whether the kernel does as it is asked shows at the first plan.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the kernel has no nfnetlink.
    pub fn new(owner: TableOwner) -> Result<Self, Error> {
        let netlink = Nfnetlink::open().map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("opening a netlink socket to nf_tables: {error}"))
                .with_source(error)
        })?;
        Ok(Nftables::on(netlink, owner))
    }
}

impl<K: Held> Nftables<K> {
    /// A backend for tables that are held by somebody.
    fn on(netlink: K, owner: TableOwner) -> Self {
        let (compiled, forwards, known) = (CompileCache::default(), HashMap::new(), Known::Nothing);
        let planned = BTreeMap::new();
        let (remembered, noted) = (None, None);
        Nftables {
            netlink,
            flags: flags(owner),
            compiled,
            forwards,
            known,
            planned,
            may_guard: true,
            remembered,
            noted,
        }
    }

    /// What is ours as it is now, read only as far as it may have moved. Elements that nobody wants are not read again.
    fn observe(&mut self, counted: bool) -> Result<&Observation, Error> {
        let generation = self.netlink.generation()?;
        let known = std::mem::replace(&mut self.known, Known::Nothing);
        self.known = match known {
            Known::Read { observation, doubted }
                if observation.generation == generation && !expired(doubted, &observation) =>
            {
                Known::Read { observation, doubted }
            }
            Known::Committed { observation, probes, doubted } if observation.generation == generation => {
                self.read(&observation, &probes, false, doubted)?
            }
            Known::Read { observation, doubted } | Known::Committed { observation, doubted, .. }
                if observation.is_large() && !(counted && expired(doubted, &observation)) =>
            {
                let since = doubted.unwrap_or_else(Instant::now);
                self.read(&observation, &[], counted, Some(since))?
            }
            _ => self.read_whole()?,
        };
        match &self.known {
            Known::Read { observation, .. } => Ok(observation),
            _ => Err(Error::new(ErrorKind::Other, "the table was read and is not known")),
        }
    }

    fn read_whole(&mut self) -> Result<Known, Error> {
        let (observation, _) = self.netlink.observe(None)?;
        Ok(Known::Read { observation, doubted: None })
    }

    /// Takes what an earlier process wrote for what is there, as far as it is wanted and nobody has committed since.
    fn recall(&mut self, wanted: &[Set]) -> Result<(), Error> {
        let Some(memory) = self.remembered.take() else { return Ok(()) };
        if matches!(self.known, Known::Nothing) && self.netlink.generation()? == memory.generation {
            let tables = Tables { main: Slot::Ours(memory.known(wanted)), stand_in: Slot::Absent };
            let expected = Expected { tables: &tables, probes: &[], counted: false };
            let (observation, _) = self.netlink.observe(Some(expected))?;
            if observation.generation == memory.generation {
                self.known = Known::Read { observation, doubted: None };
            }
        }
        Ok(())
    }

    /// Reads the tables; elements of a known table are confirmed and not read, and in doubt when another program has
    /// committed since they were known.
    fn read(
        &mut self,
        known: &Observation,
        probes: &[(SetName, Probe)],
        counted: bool,
        doubted: Option<Instant>,
    ) -> Result<Known, Error> {
        let expected = Expected { tables: &known.tables, probes, counted };
        let (observation, confirmed) = self.netlink.observe(Some(expected))?;
        let has_moved = observation.generation != known.generation;
        let doubted = doubted.or_else(|| has_moved.then(Instant::now));
        Ok(Known::Read { observation, doubted: doubted.filter(|_| confirmed) })
    }

    fn plan_for(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        desired.map_or(Ok(()), |desired| refuse_mark_chain(&desired.forwards))?;
        let part = desired.map(|desired| compile::compile(desired, &mut self.compiled));
        let sets = part.iter().flat_map(|part| &part.sets).filter(|set| set.name.gives_route_sources().is_some());
        let sources = sets.filter_map(|set| set.elements.as_ref()).map(Content::len).max().unwrap_or_default();
        limit_route_sources(family, sources, MOST_ROUTE_SOURCES, "")?;
        self.forwards.insert(family, desired.map(|desired| desired.forwards.clone()).unwrap_or_default());
        let flags = self.flags;
        self.recall(part.as_ref().map_or(&[], |part| &part.sets))?;
        let observed = self.observe(desired.is_some())?.clone();
        self.planned.insert(family, part.as_ref().map(|part| part.chains.clone()).unwrap_or_default());
        let table = observed.tables.table();
        let target = target::target(&observed.tables, family, part, flags);
        let transactions =
            plan::transactions(&observed.tables, &target, self.may_guard && self.netlink.tracks_nothing());
        let unwanted = table.filter(|_| desired.is_none());
        let mut drift = unwanted.map_or(Vec::new(), |there| drift::surplus(there, target.table.as_ref()));
        if desired.is_none() && observed.tables.stand_in.table().is_some() {
            drift.push(format!("table inet {STAND_IN}").into());
        }
        if drift.is_empty() {
            drift = drift::words(&transactions, &observed.tables, &target);
        }
        let listing = |table: Option<&Table>| {
            let table = table.cloned();
            Listing::new(move || table.map_or_else(String::new, |table| text::table(&table, family)))
        };
        let (there, wanted) = (listing(table), listing(target.table.as_ref()));
        let begins = observed.tables.stand_in.table().is_none() && table.is_none_or(Table::has_no_rules);
        let progress = Progress::at(observed.generation);
        let change = (!transactions.is_empty()).then_some(Sending { observed, transactions, progress });
        let change = change.map(Change::Nftables);
        Ok(Plan { family, observed: there, desired: wanted, drift, follows: None, begins, change })
    }

    /// Sends all of a plan, or until a moment; what is left of it.
    fn commit_plan(&mut self, plan: Plan, until: Option<Instant>) -> Result<Option<Plan>, Error> {
        let rest = match plan.change {
            None => None,
            Some(Change::Nftables(sending)) => self.send(sending, until)?,
            Some(Change::Iptables(_)) => return Err(Error::of_another_backend()),
        };
        Ok(rest.map(|rest| Plan { change: Some(Change::Nftables(rest)), ..plan }))
    }
}

/// Another program's chain of iptables can't be asked from a table of nftables.
fn refuse_mark_chain(forwards: &ForwardRules) -> Result<(), Error> {
    let Some(WithOrigin { value: ForwardMark::Chain(chain), origin }) = &forwards.mark else { return Ok(()) };
    let message = format!(
        "{origin}: externalSetMarkChain: backend nftables has no way into the chain '{chain}' of iptables; set \
         markMasqBit instead, or backend: iptables"
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// True when elements have been counted for so long that they must be read.
fn expired(doubted: Option<Instant>, observation: &Observation) -> bool {
    doubted.is_some_and(|since| since.elapsed() >= observation.patience())
}

fn flags(owner: TableOwner) -> TableFlags {
    match owner {
        TableOwner::Never => TableFlags::default(),
        TableOwner::Persist => TableFlags::PERSISTENT,
    }
}

/// The text of a ruleset as [`Backend::render`] gives it, for those who have no socket: no privileges, no IO.
pub fn render(desired: &Ruleset, owner: TableOwner) -> String {
    standalone(desired, flags(owner))
}

fn standalone(desired: &Ruleset, flags: TableFlags) -> String {
    text::table(&compile::compile(desired, &mut CompileCache::default()).standalone(flags), desired.family)
}

impl Backend for Nftables {
    fn name(&self) -> BackendName {
        BackendName::Nftables
    }

    fn render(&self, desired: &Ruleset) -> String {
        standalone(desired, self.flags)
    }

    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error> {
        self.plan_for(family, desired)
    }

    fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        self.commit_plan(plan, None).map(|_| ())
    }

    fn commit_until(&mut self, plan: Plan, until: Instant) -> Result<Option<Plan>, Error> {
        self.commit_plan(plan, Some(until))
    }

    fn abandon(&mut self, plan: Plan) {
        if let Some(Change::Nftables(sending)) = plan.change {
            self.take_back(sending);
        }
    }

    fn memory(&mut self) -> Option<String> {
        let Known::Read { observation, doubted: None } = &self.known else { return None };
        let is_news = self.noted.replace(observation.generation) != Some(observation.generation);
        is_news.then(|| Memory::of(observation)).flatten().map(|memory| memory.to_string())
    }

    fn remember(&mut self, text: &str) {
        self.remembered = Memory::parse(text);
    }

    fn doubted_until(&self) -> Option<Instant> {
        let (Known::Read { doubted, observation } | Known::Committed { doubted, observation, .. }) = &self.known else {
            return None;
        };
        doubted.map(|since| since + observation.patience())
    }

    fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint(vec![u64::from(observe::generation(&mut self.netlink)?)]))
    }

    fn own_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let mut numbers = Vec::new();
        for name in [TABLE, STAND_IN] {
            numbers.push(digest::table(&mut self.netlink, name).map_err(|error| {
                Error::new(ErrorKind::Other, format!("reading table inet {name} for changes: {error}"))
                    .with_source(error)
            })?);
        }
        let generation = observe::generation(&mut self.netlink)?;
        if let Known::Read { observation, doubted } | Known::Committed { observation, doubted, .. } = &mut self.known {
            let is_large = observation.is_large();
            if is_large && observation.generation != generation {
                doubted.get_or_insert_with(Instant::now);
            }
            let sets = observation.tables.table().map_or(&[][..], |table| &table.sets);
            for set in sets {
                // A few elements of a long set stand for all until there was time to read them.
                numbers.push(match is_large {
                    true => elements::sample(&mut self.netlink, set, sets.len())?,
                    false => elements::digest(&mut self.netlink, set)?,
                });
            }
        }
        Ok(Fingerprint(numbers))
    }

    fn content_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        if let Known::Read { doubted, observation } | Known::Committed { doubted, observation, .. } = &self.known
            && expired(*doubted, observation)
        {
            let message = "the elements of a long set were only counted since another program committed";
            return Err(Error::new(ErrorKind::Other, message));
        }
        self.fingerprint()
    }

    fn counters(&mut self, family: Family) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        let mut there: HashMap<ChainName, Vec<(Rule, u64)>> = HashMap::new();
        for (chain, rule, packets) in observe::counted_rules(&mut self.netlink)? {
            there.entry(chain).or_default().push((rule.with_usual_names(), packets));
        }
        for chain in self.planned.get(&family).into_iter().flatten() {
            let rules = there.remove(&chain.name).unwrap_or_default();
            for (id, rule, packets) in identified(&chain.rules, rules.into_iter()) {
                rule.effect().into_iter().for_each(|then| counters.add(id, then, packets));
            }
        }
        let (Known::Read { observation, .. } | Known::Committed { observation, .. }) = &self.known else {
            return Ok(counters);
        };
        let nothing = ForwardRules::default();
        let asked = self.forwards.get(&family).unwrap_or(&nothing);
        let sets = observation.tables.table().into_iter().flat_map(|table| &table.sets).map(|set| set.name);
        let counting = sets.filter(|name| name.family == family);
        let maps = counting.filter_map(|name| Some((name, name.ports().filter(|ports| ports.counts())?)));
        for (name, map) in maps {
            for (element, packets) in observe::counted_elements(&mut self.netlink, name)? {
                match name.of {
                    SetOf::RouteSources(section) => counters.add_by_route(section, packets),
                    SetOf::Shifted(number) => counters.add_forwarded(number, packets),
                    SetOf::Ports(_) | SetOf::List(_) | SetOf::Part(..) => {
                        let owner = forwards::owner(asked, map, &element, family);
                        owner.into_iter().for_each(|number| counters.add_forwarded(number, packets));
                    }
                }
            }
        }
        Ok(counters)
    }
}
