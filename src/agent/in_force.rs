//! What is in force, for those who have read the same files: the service has parsed them, and knows that the kernel agrees.

use super::report::State;
use super::{Action, Agent, Client};
use crate::backend::BackendName;
use crate::config::{Config, Flags, SourceText};
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// With more ranges or forwards it is no sooner told than parsed.
const MOST: usize = 4096;

/// Which policy is wanted, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuestion {
    /// The [`digest`] of what it is made of.
    pub digest: u64,
    /// Where the flows go.
    pub destinations: Vec<IpAddr>,
}

/// The policy that is in force, as far as the question goes. The kernel has it, in all families, and nothing else of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyInForce {
    pub policy: Policy,
    /// The backend that holds it.
    pub backend: BackendName,
}

/// Equal for the same texts and flags, in the same version of the program.
pub fn digest(sources: &[SourceText], flags: &Flags) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), sources, flags).hash(&mut hasher);
    hasher.finish()
}

impl Agent {
    /// Only while nothing is wrong: whoever gets no answer looks for himself.
    pub(super) fn policy_requested(&mut self, client: Client, question: &PolicyQuestion) {
        let in_force = self.in_force_as_asked(question);
        self.act(Action::AnswerPolicy(client, in_force));
    }

    fn in_force_as_asked(&self, question: &PolicyQuestion) -> Option<(Box<PolicyInForce>, Arc<Config>)> {
        let active = self.desired.active.as_ref().filter(|_| self.state() == State::Ready)?;
        let backend = self.backend.as_ref()?.name;
        if digest(&active.sources, &self.setup.flags) != question.digest {
            return None;
        }
        let policy = active.config.policy.about(&question.destinations);
        let ranges = policy.ranges();
        let length = ranges.exempt + ranges.exceptions + ranges.sources + ranges.excluded_sources;
        let is_short = length + policy.forwards.len() <= MOST;
        is_short.then(|| (Box::new(PolicyInForce { policy, backend }), active.config.clone()))
    }
}
