//! What is in force, for those who have read the same files: the service has parsed them, and knows that the kernel agrees.

use super::report::State;
use super::{Action, Agent, Client};
use crate::backend::BackendName;
use crate::config::{Config, SourceText};
use crate::policy::{Hairpin, Policy};
use crate::ruleset::NetworkFacts;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// For more destinations, and with more ranges and forwards beside the lists of destinations, it is no sooner told than parsed.
pub const MOST_DESTINATIONS: usize = 64;
const MOST_ELSE: usize = 4096;

/// Which policy is wanted, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuestion {
    /// The [`digest`] of the texts that it is made of, without any flags.
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

/// The same, to be told if the kernel still has the rules of the configuration that it is a part of.
#[derive(Debug)]
pub struct InForce {
    pub told: Box<PolicyInForce>,
    pub config: Arc<Config>,
    /// Where the flows go that it is asked for.
    pub destinations: Vec<IpAddr>,
}

/// Equal for the same texts, in the same version of the program.
pub fn digest(sources: &[SourceText]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), sources).hash(&mut hasher);
    hasher.finish()
}

impl Agent {
    /// Only while nothing is wrong: whoever gets no answer looks for himself.
    pub(super) fn policy_requested(&mut self, client: Client, question: &PolicyQuestion) {
        let in_force = self.in_force_as_asked(question);
        self.act(Action::AnswerPolicy(client, in_force));
    }

    fn in_force_as_asked(&self, question: &PolicyQuestion) -> Option<InForce> {
        let active = self.desired.active.as_ref().filter(|_| self.state() == State::Ready)?;
        let (policy, backend) = (&active.config.policy, self.backend.as_ref()?.name);
        // What rules follow the network, follow it a moment later.
        if NetworkFacts::matter_to(policy)
            || question.destinations.len() > MOST_DESTINATIONS
            || everything_else(policy) > MOST_ELSE
            || !self.setup.flags.is_empty()
            || digest(&active.sources) != question.digest
        {
            return None;
        }
        let destinations = question.destinations.clone();
        let policy = policy.about(&destinations);
        Some(InForce { told: Box::new(PolicyInForce { policy, backend }), config: active.config.clone(), destinations })
    }
}

/// How many ranges and forwards a policy has that [`Policy::about`] leaves.
fn everything_else(policy: &Policy) -> usize {
    let of_entries = policy.egress.iter().flat_map(|entry| [&entry.sources, &entry.excluded_sources]);
    let of_forwards = policy.forwards.iter().flat_map(|forward| {
        let hairpin = if let Hairpin::From(ranges) = &forward.hairpin { Some(ranges) } else { None };
        [&forward.sources, &forward.excluded_sources].into_iter().chain(hairpin)
    });
    let lists = [&policy.sources, &policy.excluded_sources].into_iter().chain(of_entries).chain(of_forwards);
    policy.forwards.len() + lists.map(|list| list.entries().len()).sum::<usize>()
}
