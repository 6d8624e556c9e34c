//! Aggregation and rendering never change a verdict: the rules that we write, read by an interpreter that knows
//! iptables and not us, say what the policy says.

mod interpreter;
mod random;

use interpreter::Rules;
use ip_masq_agent::backend::iptables::render::render;
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};
use proptest::prelude::*;

const BRIDGED: HostFacts = HostFacts { bridged_ipv4: true, bridged_ipv6: true };

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rendered_ipv4_rules_agree_with_the_policy(
        policy in random::policy(Family::V4),
        flows in proptest::collection::vec(random::flow(Family::V4), 60),
    ) {
        let ruleset = Ruleset::new(&policy, Family::V4, JumpPosition::Last, BRIDGED).unwrap();
        let text = render(&ruleset, &ChainName::default());
        let rules = Rules::read(&text);
        for flow in flows {
            let (verdict, provenance) = policy.verdict(&flow);
            prop_assert_eq!(rules.verdict(&flow), verdict, "{:?} by {:?}\n{}", flow, provenance, text);
        }
    }

    #[test]
    fn rendered_ipv6_rules_agree_with_the_policy(
        policy in random::policy(Family::V6),
        flows in proptest::collection::vec(random::flow(Family::V6), 60),
    ) {
        let ruleset = Ruleset::new(&policy, Family::V6, JumpPosition::First, BRIDGED).unwrap();
        let text = render(&ruleset, &ChainName::default());
        let rules = Rules::read(&text);
        for flow in flows {
            let (verdict, provenance) = policy.verdict(&flow);
            prop_assert_eq!(rules.verdict(&flow), verdict, "{:?} by {:?}\n{}", flow, provenance, text);
        }
    }
}
