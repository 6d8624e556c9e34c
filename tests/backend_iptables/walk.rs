//! The state of the kernel is a matter of the last policy, whatever was there before.

use crate::gateway::{Gateway, both_variants};
use crate::random;
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const STEPS: usize = 20;

/// The lists are of one family; the other one gets rules too.
fn step(runner: &mut TestRunner, number: usize) -> Policy {
    let family = if number.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let policy = random::policy(family).new_tree(runner).unwrap().current();
    Policy { enable_ipv6: !number.is_multiple_of(5), ..policy }
}

fn apply(host: &mut Gateway, policy: Policy) {
    host.policy = policy;
    host.apply_to(Family::V4);
    host.apply_to(Family::V6);
}

/// Chains in the order of their names: that of their creation means nothing.
fn held(host: &Gateway) -> (String, String, Vec<String>) {
    let sorted = |family| {
        let listing = host.save(family);
        let (mut lines, rules): (Vec<&str>, Vec<&str>) = listing.lines().partition(|line| line.starts_with(':'));
        lines.sort_unstable();
        let mut chains = rules;
        // Stable: the rules of a chain keep their order.
        chains.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
        lines.extend(chains);
        lines.join("\n")
    };
    let mut sets = host.sets();
    sets.sort_unstable();
    (sorted(Family::V4), sorted(Family::V6), sets)
}

both_variants! {
    fn a_random_walk_ends_where_the_last_step_alone_would(host: Gateway) {
        let mut runner = TestRunner::deterministic();
        for number in 0..STEPS {
            let policy = step(&mut runner, number);
            host.facts = HostFacts { bridged_ipv4: number % 3 == 0, bridged_ipv6: number % 4 == 0 };
            host.position = if number % 7 == 0 { JumpPosition::First } else { JumpPosition::Last };
            apply(&mut host, policy.clone());
            let mut alone = Gateway::new(host.variant);
            (alone.facts, alone.position) = (host.facts, host.position);
            apply(&mut alone, policy);
            assert_eq!(held(&host), held(&alone), "step {number}: {:?}", host.policy);
        }
    }
}
