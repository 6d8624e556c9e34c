//! What the backend asks of the kernel without running a program.

use super::sets::{Member, SetHeader};
use crate::policy::Family;
use std::fs;
use std::io;

/// The questions. A seam: tests answer them with values.
pub trait Kernel {
    /// True when the legacy nat table of the family exists. Listing it with iptables-legacy would create it.
    fn has_legacy_nat(&mut self, family: Family) -> bool;

    /// Every set of this network namespace.
    ///
    /// # Errors
    /// When the kernel has sets but does not list them.
    fn sets(&mut self) -> io::Result<Vec<SetHeader>>;

    /// The members of a `hash:net` set.
    ///
    /// # Errors
    /// When it is not there or the kernel does not list it.
    fn members(&mut self, set: &str) -> io::Result<Vec<Member>>;

    /// Go agents that run in this network namespace.
    fn go_agents(&mut self) -> Vec<GoAgent>;
}

/// A Go agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAgent {
    /// Its process.
    pub pid: u32,
    /// Its executable, as the kernel names it.
    pub executable: String,
}

/// The kernel that we run on.
#[derive(Debug, Default)]
pub struct LiveKernel {}

impl Kernel for LiveKernel {
    fn has_legacy_nat(&mut self, family: Family) -> bool {
        let path = match family {
            Family::V4 => "/proc/net/ip_tables_names",
            Family::V6 => "/proc/net/ip6_tables_names",
        };
        fs::read_to_string(path).is_ok_and(|tables| tables.lines().any(|table| table == "nat"))
    }

    fn sets(&mut self) -> io::Result<Vec<SetHeader>> {
        Ok(Vec::new())
    }

    fn members(&mut self, _set: &str) -> io::Result<Vec<Member>> {
        Ok(Vec::new())
    }

    fn go_agents(&mut self) -> Vec<GoAgent> {
        Vec::new()
    }
}
