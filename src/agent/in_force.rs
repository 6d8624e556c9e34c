//! What is in force, for those who have read the same files: the service has parsed them, and knows that the kernel agrees.

use super::report::State;
use super::{Action, Agent, Client, InForce, PolicyInForce, PolicyQuestion};
use crate::config::SourceText;
use crate::policy::{Hairpin, Policy};
use crate::ruleset::NetworkFacts;
use std::hash::{DefaultHasher, Hash, Hasher};

/// For more destinations, and with more ranges and forwards beside the lists of destinations, it is no sooner told than parsed.
pub const MOST_DESTINATIONS: usize = 64;
const MOST_ELSE: usize = 4096;

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
