//! What iptables-save prints, compared with what we want and with nothing.
#![no_main]

use ip_masq_agent::backend::iptables::rules::parse::ListedTable;
use ip_masq_agent::backend::iptables::rules::plan::{Observed, compare};
use ip_masq_agent::backend::iptables::rules::render::{Context, Rendered, render};
use ip_masq_agent::policy::{Family, Origin, PRIVATE_RANGES, Policy, PrefixSet};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static DESIRED: LazyLock<Vec<Rendered>> = LazyLock::new(|| {
    let exempt = PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default);
    let to_ports = "1024-2047,4000".parse().ok();
    let default = Policy { exempt, random_fully: true, ..Policy::default() };
    let ported = Policy { to_ports, masq_local_source: true, ..default.clone() };
    let context = Context { chain: &ChainName::default(), random_fully: true, sets: None };
    [(default, JumpPosition::Last), (ported, JumpPosition::First)]
        .into_iter()
        .filter_map(|(policy, position)| Ruleset::new(&policy, Family::V4, position, &HostFacts::default()))
        .map(|ruleset| render(&ruleset, context))
        .collect()
});

fuzz_target!(|listing: &str| {
    for desired in DESIRED.iter().map(Some).chain([None]) {
        let (table, raw) = (ListedTable::parse(listing), ListedTable::parse(listing));
        let observed = Observed { table, raw, sets: Vec::new() };
        if let Ok(comparison) = compare(&ChainName::default(), Family::V4, desired, &observed, &[]) {
            let silent = comparison.drift.is_empty();
            assert!(!silent || comparison.steps.restore.is_empty(), "{comparison:?}");
        }
    }
});
