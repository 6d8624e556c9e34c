//! Configuration from files and flags to policy and settings.

mod command_line;
mod files;
mod languages;
mod limits;
mod memory;
mod merge;
mod shipped;

use ip_masq_agent::config::{Config, Diagnostics, Flags, Key, SourceText, parse};
use ip_masq_agent::policy::{Origin, Policy, PrefixSet, WithOrigin};
use std::path::Path;

fn source(name: &str, text: &str) -> SourceText {
    SourceText { path: Path::new(name).into(), text: text.to_owned() }
}

fn yaml(text: &str) -> Result<Config, Diagnostics> {
    parse(&[source("config.yaml", text)], &Flags::default())
}

fn flags(given: &[(Key, &str)]) -> Flags {
    let mut flags = Flags::default();
    for (key, value) in given {
        flags.add(*key, [(*value).to_owned()]);
    }
    flags
}

/// The same configuration without the places where it was written.
fn placeless(config: Config) -> Config {
    let set = |set: &PrefixSet| PrefixSet::from_prefixes(set.entries().iter().map(|e| e.value), &Origin::Default);
    let policy = &config.policy;
    let exempt_ipsec = WithOrigin { origin: Origin::Default, ..policy.exempt_ipsec };
    let snat = WithOrigin { origin: Origin::Default, ..policy.snat };
    let out_interfaces =
        policy.out_interfaces.iter().map(|entry| WithOrigin { origin: Origin::Default, ..entry.clone() });
    Config {
        policy: Policy {
            out_interfaces: out_interfaces.collect(),
            sources: set(&policy.sources),
            excluded_sources: set(&policy.excluded_sources),
            exceptions: set(&policy.exceptions),
            exempt: set(&policy.exempt),
            snat,
            exempt_ipsec,
            ..policy.clone()
        },
        settings: config.settings,
        expected_rules: config.expected_rules,
        replaced_ranges: config.replaced_ranges,
        without_effect: Vec::new(),
    }
}

fn shown(set: &PrefixSet) -> Vec<String> {
    set.entries().iter().map(|entry| entry.value.to_string()).collect()
}

/// Says why a test did not run; with `CI` set that is a failure.
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
    assert!(std::env::var_os("CI").is_none(), "a required test was skipped: {why}");
}
