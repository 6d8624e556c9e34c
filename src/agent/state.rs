//! What the agent remembers.

use super::report::Origin;
use super::schedule::{Debounce, Fight};
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
    pub fight: Fight,
    /// [`super::Outcome::bridged`] of the last success.
    pub bridged: Option<bool>,
}

impl FamilyState {
    pub fn new(family: Family) -> Self {
        FamilyState { family, failure: None, fight: Fight::default(), bridged: None }
    }
}

/// The next deadlines.
#[derive(Debug, Default)]
pub struct Timers {
    pub watchdog: Option<Instant>,
    pub resync: Option<Instant>,
    /// The files were edited.
    pub edit: Debounce,
    /// The files are to be read again although nobody edited them: the kernel was busy when they were last.
    pub reread: Option<Instant>,
    /// The kernel is to be looked at.
    pub check: Option<Instant>,
    /// Elements that were only counted are to be read.
    pub doubt: Option<Instant>,
    /// What failed is to be tried again.
    pub retry: Option<Instant>,
    /// Rules that could not be removed where none are wanted are to be tried again.
    pub strays: Option<Instant>,
}

impl Timers {
    pub fn all(&self) -> [Option<Instant>; 8] {
        [self.watchdog, self.resync, self.edit.due_at(), self.reread, self.check, self.doubt, self.retry, self.strays]
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Past {
    /// How many configurations were put into the kernel.
    pub generation: u64,
    pub apply: Option<(Instant, Duration)>,
    pub repair: Option<(Instant, Duration, Option<String>)>,
    /// Why the last good configuration that an earlier run saved is not used.
    pub unusable: Option<String>,
    /// Why the last good configuration could not be saved.
    pub unsaved: Option<String>,
}
