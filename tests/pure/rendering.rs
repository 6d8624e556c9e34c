//! Aggregation and rendering never change a verdict: the rules that we write, read by an interpreter that knows
//! iptables and not us, say what the policy says.

use crate::interpreter::iptables::Rules;
use ip_masq_agent::backend::iptables::rules::render::{Context, render};
use ip_masq_agent::policy::{Family, Flow, Policy};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};
use proptest::prelude::*;

fn agree(policy: &Policy, family: Family, position: JumpPosition, flows: &[Flow], has_ipset: bool) {
    let bridged = HostFacts { bridged_ipv4: true, bridged_ipv6: true, ..HostFacts::default() };
    let ruleset = Ruleset::new(policy, family, position, &bridged).unwrap();
    let context = Context { chain: &ChainName::default(), random_fully: true, sets: has_ipset.then_some(&[]) };
    let text = render(&ruleset, context).to_string();
    let rules = Rules::read(&text).unwrap();
    for flow in flows {
        let (verdict, provenance) = policy.verdict(flow);
        assert_eq!(rules.verdict(flow), Ok(verdict), "{flow:?} by {provenance:?}\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rendered_ipv4_rules_agree_with_the_policy(
        policy in crate::random::policy(Family::V4),
        flows in proptest::collection::vec(crate::random::flow(Family::V4), 60),
        has_ipset: bool,
    ) {
        agree(&policy, Family::V4, JumpPosition::Last, &flows, has_ipset);
    }

    #[test]
    fn rendered_ipv6_rules_agree_with_the_policy(
        policy in crate::random::policy(Family::V6),
        flows in proptest::collection::vec(crate::random::flow(Family::V6), 60),
        has_ipset: bool,
    ) {
        agree(&policy, Family::V6, JumpPosition::First, &flows, has_ipset);
    }
}
