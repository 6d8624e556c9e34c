//! What the agent remembers.

use super::report::Origin;
use super::schedule::RepairLimit;
use crate::backend::Error;
use crate::config::{Config, SourceText};
use crate::policy::Family;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The configuration that is enforced.
#[derive(Debug, Clone)]
pub struct Active {
    pub config: Arc<Config>,
    pub sources: Arc<[SourceText]>,
    pub origin: Origin,
}

impl Active {
    pub fn wants(&self, family: Family) -> bool {
        self.config.policy.enables(family)
    }
}

/// One family.
#[derive(Debug)]
pub struct FamilyState {
    pub family: Family,
    /// Why it is not as it should be.
    pub failure: Option<Error>,
    pub limit: RepairLimit,
    /// Somebody moved the rules, and they may not be looked at yet.
    pub held: bool,
    /// [`super::Outcome::bridged`] of the last success.
    pub bridged: Option<bool>,
}

impl FamilyState {
    pub fn new(family: Family) -> Self {
        FamilyState { family, failure: None, limit: RepairLimit::default(), held: false, bridged: None }
    }
}

/// The next deadlines.
#[derive(Debug, Default)]
pub struct Timers {
    pub watchdog: Option<Instant>,
    pub resync: Option<Instant>,
    /// An edit has settled.
    pub settle: Option<Instant>,
    /// The kernel is to be looked at.
    pub look: Option<Instant>,
    /// What failed is to be tried again.
    pub retry: Option<Instant>,
}

impl Timers {
    pub fn all(&self) -> [Option<Instant>; 5] {
        [self.watchdog, self.resync, self.settle, self.look, self.retry]
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Past {
    /// How many configurations were put into the kernel.
    pub generation: u64,
    pub apply: Option<(Instant, Duration)>,
    pub repair: Option<(Instant, Duration, Option<String>)>,
    /// Why the last good configuration could not be saved.
    pub unsaved: Option<String>,
}
