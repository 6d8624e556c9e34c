//! nfnetlink as far as we need it: the generation of the rule set, and who moved it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A request socket.
#[derive(Debug)]
pub struct Nfnetlink {}

impl Nfnetlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The generation of the nf_tables rule set of this network namespace: it moves once per commit.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or does not answer.
    pub fn generation(&mut self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A commit to the nf_tables rule set, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleEvent {
    /// The generation after the commit; `None` when notifications were lost.
    pub generation: Option<u32>,
    /// The process that committed, where the kernel says it.
    pub pid: Option<u32>,
    /// The name of its program (at most 15 bytes), where the kernel says it.
    pub program: Option<String>,
}

/// A listener to commits by anybody.
#[derive(Debug)]
pub struct RuleEvents {}

impl RuleEvents {
    /// Joins the nf_tables group, with a filter that lets only NFT_MSG_NEWGEN through.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or refuses.
    pub fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Leaves the group, so that a large commit of our own does not fill the queue.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Joins the group again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What is queued, without waiting; an overrun is an event with nothing known.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn read(&mut self) -> io::Result<Vec<RuleEvent>> {
        Ok(Vec::new())
    }
}

impl AsFd for RuleEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!("the socket")
    }
}
