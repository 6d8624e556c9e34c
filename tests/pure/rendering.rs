//! Aggregation and rendering never change a verdict: the rules that we write, read by an interpreter that knows
//! iptables and not us, say what the policy says.

use crate::interpreter::iptables::Rules;
use ip_masq_agent::backend::iptables::rules::render::{Context, render};
use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::policy::{Family, Flow, Policy};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, ListKey, Ruleset, SectionId};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn agree(policy: &Policy, family: Family, position: JumpPosition, flows: &[Flow], has_ipset: bool) {
    let facts = HostFacts { bridged_ipv4: true, bridged_ipv6: true, ..crate::random::facts() };
    let ruleset = Ruleset::new(policy, family, position, &facts).unwrap();
    let context = Context { chain: &ChainName::default(), random_fully: true, sets: has_ipset.then_some(&[]) };
    let text = render(&ruleset, context).to_string();
    let rules = Rules::read(&text).unwrap();
    for flow in flows {
        let (verdict, provenance) = policy.verdict(flow);
        assert_eq!(rules.verdict(flow), Ok(verdict), "{flow:?} by {provenance:?}\n{text}");
    }
}

fn ruleset(yaml: &str, family: Family) -> Ruleset {
    let source = SourceText { path: Path::new("config.yaml").into(), text: yaml.to_owned() };
    let config = config::parse(&[source], &Flags::default()).unwrap();
    Ruleset::new(&config.policy, family, JumpPosition::Last, &HostFacts::default()).unwrap()
}

#[test]
fn as_many_sources_as_an_entry_excludes_are_in_lists_or_rules_and_not_all_those_around_them() {
    let excluded: Vec<String> = (0..3000).map(|number| format!("'2001:db8:{number:x}::1/128'")).collect();
    let yaml = format!("enableIPv6: true\negress: [{{snat: none, excludeSourceCIDRs: [{}]}}]", excluded.join(", "));
    let ruleset = ruleset(&yaml, Family::V6);
    let lists: Vec<_> = ruleset.lists().map(|list| (list.id.section, list.id.key, list.prefixes.len())).collect();
    assert_eq!(lists, [(SectionId::Egress(1), ListKey::ExcludedSources, 3000)]);
    for (sets, rules, elements) in [(Some(&[][..]), 0..20, 3000), (None, 3000..3020, 0)] {
        let context = Context { chain: &ChainName::default(), random_fully: true, sets };
        let text = render(&ruleset, context).to_string();
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert!(rules.contains(&count("-A ")), "{}", count("-A "));
        assert_eq!(count("add "), elements);
    }
}

#[test]
fn what_entries_inherit_is_the_one_list_of_the_top_level() {
    for evaluation in ["ordered", "longest-prefix"] {
        let yaml = format!(
            "evaluation: {evaluation}\nmasqueradeExceptionCIDRs: [169.254.1.0/24]\n\
             egress: [{{outInterfaces: [a0]}}, {{outInterfaces: [b0]}}, {{outInterfaces: [c0], nonMasqueradeCIDRs: []}}]"
        );
        let ruleset = ruleset(&yaml, Family::V4);
        for key in [ListKey::Exceptions, ListKey::Exempt] {
            let of_top = || ruleset.lists().filter(|list| list.id.section == SectionId::Top && list.id.key == key);
            let first = of_top().next().unwrap();
            assert!(of_top().count() >= 3 && of_top().all(|list| Arc::ptr_eq(&list.prefixes, &first.prefixes)));
        }
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
