//! Where the tables of our names are held: in the kernel, or in a test.

use super::elements::Expected;
use super::observe::{self, Observation};
use super::rules::change::Transaction;
use crate::backend::error::Error;
use crate::sys::conntrack;
use crate::sys::nfnetlink::{Batch, BatchRefusal, Nfnetlink};

/// What a plan and its commit need of nf_tables.
pub trait Held {
    /// The generation of the rule set.
    ///
    /// # Errors
    /// What the kernel says.
    fn generation(&mut self) -> Result<u32, Error>;

    /// As [`observe::observe`].
    ///
    /// # Errors
    /// As that.
    fn observe(&mut self, expected: Option<Expected<'_>>) -> Result<(Observation, bool), Error>;

    /// Sends the batch that a transaction was written as.
    ///
    /// # Errors
    /// Why nothing of it was made, or why that is not known.
    fn send(&mut self, batch: Batch, transaction: &Transaction) -> Result<(), BatchRefusal>;

    /// True when connection tracking has no flow in this network namespace: nobody needs it, or nothing has been sent yet.
    fn tracks_nothing(&self) -> bool;
}

impl Held for Nfnetlink {
    fn generation(&mut self) -> Result<u32, Error> {
        observe::generation(self)
    }

    fn observe(&mut self, expected: Option<Expected<'_>>) -> Result<(Observation, bool), Error> {
        observe::observe(self, expected)
    }

    fn send(&mut self, batch: Batch, _: &Transaction) -> Result<(), BatchRefusal> {
        self.commit(batch)
    }

    fn tracks_nothing(&self) -> bool {
        conntrack::is_empty()
    }
}
