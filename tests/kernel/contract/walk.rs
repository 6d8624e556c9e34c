//! The state of the kernel is a matter of the last policy, whatever was there before.

use super::host::{Host, every_backend};
use crate::random;
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const STEPS: usize = 15;

/// The lists are of one family; the other one gets rules too.
fn step(runner: &mut TestRunner, number: usize) -> Policy {
    let family = if number.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let policy = random::policy(family).new_tree(runner).unwrap().current();
    Policy { enable_ipv6: !number.is_multiple_of(5), ..policy }
}

/// What a service that remembers nothing finds of ours.
fn held(host: &mut Host) -> Vec<String> {
    host.restart();
    Family::ALL.map(|family| (*host.plan(family).unwrap().observed).to_owned()).into()
}

every_backend! {
    fn a_random_walk_ends_where_the_last_step_alone_would(host: Host) {
        let (seed, mut runner) = random::runner();
        for number in 0..STEPS {
            host.policy = step(&mut runner, number);
            host.facts = HostFacts { bridged_ipv4: number % 3 == 0, bridged_ipv6: number % 4 == 0, ..HostFacts::default() };
            if number % 5 > 1 {
                host.facts.network = random::facts().network;
            }
            if number % 4 > 1 {
                let (_, policy) = random::forwards::draw(&mut runner, number % 3 == 0);
                (host.policy.forwards, host.policy.forward_mark) = (policy.forwards, policy.forward_mark);
                host.facts.network = random::forwards::facts().network;
            }
            host.position = if number % 7 == 0 { JumpPosition::First } else { JumpPosition::Last };
            host.apply_all();
            let mut alone = Host::new(host.name);
            (alone.policy, alone.facts, alone.position) = (host.policy.clone(), host.facts.clone(), host.position);
            alone.apply_all();
            assert_eq!(held(&mut host), held(&mut alone), "SEED={seed}, step {number}: {:?}", host.policy);
        }
    }
}
