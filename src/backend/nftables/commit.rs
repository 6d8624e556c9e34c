//! A plan sent: its transactions one after the other, each at the generation that it was made for.

use super::elements::{self, Expected, Probe};
use super::held::Held;
use super::observe::Observation;
use super::rules::change::{Change, Transaction};
use super::rules::name::{SetName, TableName};
use super::rules::plan;
use super::rules::table::Tables;
use super::wire::batch;
use super::{Known, Nftables, Sending};
use crate::backend::error::{Error, ErrorKind};

use std::mem::discriminant;
use std::time::{Duration, Instant};

/// How often a transaction is sent again because another program committed a moment before, and for how long.
const ATTEMPTS: usize = 64;
const ATTEMPT_FOR: Duration = Duration::from_secs(2);
/// How many elements at each end of a change are asked for after its commit.
const PROBES: usize = 16;

/// Where a plan stands while it is sent.
#[derive(Debug)]
pub struct Progress {
    /// So many of its transactions are made.
    sent: usize,
    /// The generation that the kernel should have.
    generation: u32,
    /// Another program committed in between.
    disturbed: bool,
    /// As what the plan was made for.
    doubted: Option<Instant>,
}

impl Progress {
    /// Nothing is sent yet.
    pub fn at(generation: u32) -> Self {
        Progress { sent: 0, generation, disturbed: false, doubted: None }
    }
}

/// What must hold for a transaction to be sent again after another program's commit.
#[derive(Clone, Copy)]
enum Condition<'a> {
    /// What is ours is as these transactions left it.
    After(&'a [Transaction]),
    /// The table is ours.
    Ours,
}

/// Why a plan was not sent to its end.
struct Stop {
    error: Error,
    /// Whether the transaction was made is not known.
    silent: bool,
}

impl<K: Held> Nftables<K> {
    /// Sends a plan that was made for what was observed, all of it or until a moment: what is left is sent next, and only
    /// sets that nothing looks into wait for it. Where it can't be brought to its end, what the first transactions made goes
    /// again; the rules that were there are still there.
    pub(super) fn send(&mut self, mut plan: Sending, until: Option<Instant>) -> Result<Option<Sending>, Error> {
        if let Known::Read { doubted, .. } = std::mem::replace(&mut self.known, Known::Nothing) {
            plan.progress.doubted = doubted;
        }
        let fills = |transaction: &Transaction| {
            transaction.changes.iter().any(|change| matches!(change, Change::AddElements(..)))
        };
        while let Some(transaction) = plan.transactions.get(plan.progress.sent) {
            let condition = Condition::After(&plan.transactions[..plan.progress.sent]);
            if let Err(Stop { mut error, silent }) =
                self.send_one(&plan.observed.tables, condition, transaction, &mut plan.progress)
            {
                if !silent {
                    let end = self.take_back_after(plan, error.kind);
                    error.message.push_str("; ");
                    error.message.push_str(end);
                }
                return Err(error);
            }
            plan.progress.sent += 1;
            let waits = plan.transactions.get(plan.progress.sent).is_some_and(fills);
            if waits && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Some(plan));
            }
        }
        let Sending { observed, transactions, progress } = plan;
        let tables = after(&observed.tables, &transactions);
        let observation = Observation { generation: progress.generation, tables };
        self.known = if progress.disturbed {
            // No generation of the kernel's: the next look reads, and elements are only counted for a while.
            let earlier = Observation { generation: 0, ..observation };
            Known::Read { observation: earlier, doubted: Some(progress.doubted.unwrap_or_else(Instant::now)) }
        } else {
            Known::Committed { observation, probes: probes(&transactions), doubted: progress.doubted }
        };
        Ok(None)
    }

    /// Sends one transaction. Where another program committed in between and the condition holds, it is sent again.
    fn send_one(
        &mut self,
        observed: &Tables,
        condition: Condition<'_>,
        transaction: &Transaction,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut expected = None;
        let (batch, owners) = batch::write(transaction, progress.generation);
        let begun = Instant::now();
        let mut attempts = 0;
        while attempts < ATTEMPTS && begun.elapsed() < ATTEMPT_FOR {
            attempts += 1;
            let refusal = match self.netlink.send(batch.clone().at(progress.generation), transaction) {
                Ok(()) => {
                    progress.generation = next(progress.generation);
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            let (silent, is_late) = (refusal.is_silence(), batch::is_late(&refusal));
            let is_guard = batch::refused(&refusal, transaction, &owners) == Some(&Change::PutGuard);
            let mut stop = Stop { silent, error: batch::explain(refusal, transaction, &owners) };
            if is_guard {
                // It is more than the rules need: the next plan does without.
                self.may_guard = false;
                stop.error.kind = ErrorKind::Busy;
            }
            if !is_late {
                return Err(stop);
            }
            let expected = expected.get_or_insert_with(|| match condition {
                Condition::After(done) => after(observed, done),
                Condition::Ours => observed.clone(),
            });
            let seen = self.look_again(expected).map_err(|error| Stop { error, silent: false })?;
            let holds = match condition {
                Condition::After(_) => seen.tables.agrees(expected),
                Condition::Ours => seen.tables.table().is_some(),
            };
            if !holds {
                return Err(stop);
            }
            (progress.generation, progress.disturbed) = (seen.generation, true);
        }
        let message = format!("other programs changed the rule set {attempts} times in a row");
        Err(Stop { error: Error::new(ErrorKind::Busy, message), silent: false })
    }

    /// What is ours now; elements are counted where the kernel counts them.
    fn look_again(&mut self, expected: &Tables) -> Result<Observation, Error> {
        let expected = Expected { tables: expected, probes: &[], counted: false };
        self.netlink.observe(Some(expected)).map(|(observation, _)| observation)
    }

    /// Takes back what was made of a plan whose rules don't come.
    pub(super) fn take_back(&mut self, plan: Sending) {
        self.take_back_after(plan, ErrorKind::Busy);
    }

    /// The same after an error; says what became of it.
    fn take_back_after(&mut self, plan: Sending, kind: ErrorKind) -> &'static str {
        let Sending { observed: Observation { tables: observed, .. }, transactions, mut progress } = plan;
        let (done, rest) = transactions.split_at(progress.sent);
        let undo = plan::undo(&observed, done, rest);
        let mut left = after(&observed, done);
        undo.iter().for_each(|transaction| left.apply(transaction));
        let mut undo = undo.iter();
        let failed =
            undo.any(|transaction| self.send_one(&observed, Condition::Ours, transaction, &mut progress).is_err());
        let agrees = left.agrees(&observed);
        if !failed && kind == ErrorKind::Busy {
            // Others were faster, and what was known still holds. Beside programs that commit all the time a long list
            // could not be read whole again.
            let observation = Observation { generation: 0, tables: left };
            let doubted = Some(progress.doubted.unwrap_or_else(Instant::now));
            self.known = Known::Read { observation, doubted };
        }
        match failed {
            true => "what was made before it is removed at the next check",
            false if agrees => "nothing was changed",
            false => "the next check goes on from what was made before it",
        }
    }
}

/// What transactions make of what there was.
fn after(observed: &Tables, transactions: &[Transaction]) -> Tables {
    let mut tables = observed.clone();
    transactions.iter().for_each(|transaction| tables.apply(transaction));
    tables
}

/// The generation after a commit; zero is left out (nf_tables_api.c).
fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// The elements by which a commit is confirmed: those that it put in or took out, or of a large change its first and
/// last ones. The kernel commits all of a batch or nothing.
fn probes(transactions: &[Transaction]) -> Vec<(SetName, Probe)> {
    let main = transactions.iter().filter(|transaction| transaction.table == TableName::Main);
    let changes: Vec<_> = main.flat_map(|transaction| &transaction.changes).collect();
    let mut probes: Vec<(SetName, Probe)> = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        let (name, elements, present) = match change {
            Change::DeleteElements(name, elements) => (*name, elements, false),
            Change::AddElements(name, elements) => (*name, elements, true),
            Change::DeleteSet(name) => {
                probes.retain(|(set, _)| set != name);
                continue;
            }
            _ => continue,
        };
        let is_piece_of_it = |other: &&Change| {
            let name_of = |change: &Change| match change {
                Change::DeleteElements(name, _) | Change::AddElements(name, _) => Some(*name),
                _ => None,
            };
            name_of(other) == Some(name) && discriminant(*other) == discriminant(*change)
        };
        if changes[..number].iter().any(is_piece_of_it) && changes[number + 1..].iter().any(is_piece_of_it) {
            continue;
        }
        for element in elements::ends(name, elements, PROBES) {
            // What was taken out and is put in again is there.
            probes.retain(|(set, old)| (*set, old.element) != (name, element));
            probes.push((name, Probe { element, present }));
        }
    }
    probes
}
