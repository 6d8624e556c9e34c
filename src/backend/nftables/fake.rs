//! The tables of our names in memory: makes what a transaction says, and can refuse.

use super::elements::Expected;
use super::held::Held;
use super::observe::Observation;
use super::rules::change::{Change, Transaction};
use super::rules::table::Tables;
use super::wire::batch;
use crate::backend::error::Error;
use crate::sys::nfnetlink::{Batch, BatchRefusal};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Made,
    /// The kernel refuses its first change.
    Refused(i32),
    /// As [`Fate::Refused`], of the change that keeps connection tracking away.
    NoGuard,
    /// Another program committed to a table of its own a moment before.
    Late,
    /// It is made, and the answer is lost.
    Silent,
}

/// A kernel that several backends can be given, one after the other.
#[derive(Debug, Clone, Default)]
pub struct FakeTables(pub Rc<RefCell<State>>);

#[derive(Debug, Default)]
pub struct State {
    pub tables: Tables,
    pub generation: u32,
    /// What happens to the next transactions; those after them are made.
    pub fates: VecDeque<Fate>,
    /// Connection tracking has flows.
    pub tracks: bool,
}

impl Held for FakeTables {
    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.0.borrow().generation)
    }

    fn observe(&mut self, expected: Option<Expected<'_>>) -> Result<(Observation, bool), Error> {
        let state = self.0.borrow();
        let observation = Observation { generation: state.generation, tables: state.tables.clone() };
        Ok((observation, expected.is_some()))
    }

    fn send(&mut self, _: Batch, transaction: &Transaction) -> Result<(), BatchRefusal> {
        let mut state = self.0.borrow_mut();
        let fate = state.fates.pop_front().unwrap_or(Fate::Made);
        let mut tables = state.tables.clone();
        tables.apply(transaction);
        let busy = |change: &Change| match change {
            Change::DeleteSet(name) => tables.table().is_some_and(|table| table.uses(*name)),
            _ => false,
        };
        if transaction.changes.iter().any(busy) {
            return Err(BatchRefusal {
                message: Some(1),
                error: io::Error::from_raw_os_error(libc::EBUSY),
                bytes: None,
            });
        }
        if matches!(fate, Fate::Made | Fate::Silent) {
            state.tables = tables;
        }
        state.generation += u32::from(!matches!(fate, Fate::Refused(_) | Fate::NoGuard));
        let refusal = |message, error| Err(BatchRefusal { message, error, bytes: None });
        match fate {
            Fate::Made => Ok(()),
            Fate::Refused(errno) => refusal(Some(1), io::Error::from_raw_os_error(errno)),
            Fate::NoGuard => {
                let guard = transaction.changes.iter().position(|change| *change == Change::PutGuard);
                let (_, owners) = batch::write(transaction, 0);
                let message = owners.iter().position(|owner| Some(*owner) == guard).map(|number| number + 1);
                refusal(message, io::Error::from_raw_os_error(libc::EOPNOTSUPP))
            }
            // ERESTART.
            Fate::Late => refusal(None, io::Error::from_raw_os_error(85)),
            Fate::Silent => refusal(None, io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn tracks_nothing(&self) -> bool {
        !self.0.borrow().tracks
    }
}
