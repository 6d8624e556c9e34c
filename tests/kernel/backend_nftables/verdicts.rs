//! What the kernel holds of random policies, as nft lists it and an interpreter that does not know us reads it, says what the
//! policy says.

use super::*;
use crate::interpreter::nftables;
use crate::random;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};

const POLICIES: usize = 40;
const FLOWS: usize = 60;

#[test]
fn what_nft_lists_agrees_with_the_policy() {
    namespace::enter!();
    let (seed, mut runner) = random::runner();
    let facts = HostFacts { bridged_ipv4: true, bridged_ipv6: true, ..random::facts() };
    let mut backend = backend();
    for number in 0..POLICIES {
        let family = Family::ALL[number % 2];
        let policy = random::policy(family).new_tree(&mut runner).unwrap().current();
        for family in Family::ALL {
            let desired = Ruleset::new(&policy, family, JumpPosition::Last, &facts);
            apply(&mut backend, family, desired.as_ref());
        }
        let listing = run("nft", &["-j", "list", "table", "inet", "ip-masq-agent"], "");
        let table = nftables::Table::read(&listing).unwrap();
        let flows = vec(random::flow(family), FLOWS).new_tree(&mut runner).unwrap().current();
        // A frame that is bridged has no local source: what has one is the host's own.
        for flow in flows.into_iter().filter(|flow| !(flow.bridged && flow.source_is_local)) {
            let (verdict, by) = policy.verdict(&flow);
            assert_eq!(table.verdict(&flow), Ok(verdict), "SEED={seed}, policy {number}: {flow:?} by {by:?}");
        }
    }
}
