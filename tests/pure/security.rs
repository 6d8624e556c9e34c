//! SECURITY.md: every promise names a test that is there, and what no other test tries to break is tried here.

use ip_masq_agent::backend::iptables::Iptables;
use ip_masq_agent::backend::iptables::tools::{Tools, Variant};
use ip_masq_agent::backend::{Backend, nftables};
use ip_masq_agent::config::{self, Config, Flags, Settings, SourceText};
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::ruleset::{HostFacts, Ruleset};
use ip_masq_agent::sys::child::Children;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_a_test_that_is_there() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let named: Vec<(&str, &str)> = text.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 30, "{named:?}");
    for (file, name) in named {
        let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            source.contains(&format!("fn {name}(")) || source.contains(&format!("\n{name}() {{")),
            "{file}: no {name}"
        );
    }
    let promises = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let promises = promises.take_while(|line| !line.starts_with("| setting"));
    promises.for_each(|line| assert!(line.contains("::"), "a promise without a test: {line}"));
}

fn hostile() -> impl Strategy<Value = String> {
    const PIECES: [&str; 20] = [
        "eth0",
        "!",
        "+",
        " ",
        "\n",
        "\"",
        "'",
        "\\",
        "-j ACCEPT",
        "COMMIT",
        ";",
        "}",
        "#",
        "$x",
        "*",
        "%",
        "\0",
        "ü",
        "-",
        "a",
    ];
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 1..6).prop_map(|pieces| pieces.concat())
}

/// The rules of both kinds, line by line and word by word.
fn rules(policy: &Policy, settings: &Settings) -> Vec<Vec<String>> {
    let ruleset = Ruleset::new(policy, Family::V4, settings.jump_position, &HostFacts::default()).unwrap();
    let iptables = Iptables::new(Children, Tools::assumed(Variant::Nft), settings.masq_chain.clone());
    let text = iptables.render(&ruleset) + &nftables::render(&ruleset, settings.table_owner);
    text.split('\n').map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is refused does no harm; with what is accepted the rules are those of an ordinary name, but for the name.
    #[test]
    fn no_value_of_a_key_is_more_than_that_value_in_the_rules(chain in hostile(), interface in hostile(), named in any::<bool>()) {
        let chain = if named { format!("masqChain: {}\n", serde_json::Value::from(chain)) } else { String::new() };
        let text = format!("{chain}outInterfaces: [{}]\n", serde_json::Value::from(interface));
        let source = SourceText { path: Path::new("x.yaml").into(), text };
        if let Ok(Config { policy, settings, .. }) = config::parse(&[source], &Flags::default()) {
            let mut ordinary = policy.clone();
            let name = std::mem::replace(&mut ordinary.out_interfaces[0].value.name, "ordinary".to_owned());
            let expected = rules(&ordinary, &settings);
            let expected: Vec<Vec<String>> = expected
                .into_iter()
                .map(|line| line.into_iter().map(|word| word.replace("ordinary", &name)).collect())
                .collect();
            prop_assert_eq!(rules(&policy, &settings), expected);
        }
    }
}
