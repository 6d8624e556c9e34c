//! A configuration file, in each language. A good one has rules, and the same ones whenever it is read again.
#![no_main]

use ip_masq_agent::backend::iptables::rules::render::{Context, render};
use ip_masq_agent::backend::nftables;
use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::{ChainName, HostFacts, Ruleset};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    for name in ["a.yaml", "a.json", "a.toml", "a"] {
        let sources = [SourceText { path: Path::new(name).into(), text: text.to_owned() }];
        let parsed = config::parse(&sources, &Flags::default());
        if let Err(diagnostics) = &parsed {
            assert!(!diagnostics.0.is_empty());
            // A message for each of the first things that are wrong, and the line of each.
            assert!(diagnostics.to_string().len() < 128 * 1024);
        }
        let Ok(parsed) = parsed else { continue };
        assert_eq!(config::parse(&sources, &Flags::default()).as_ref(), Ok(&parsed));
        for family in Family::ALL {
            let facts = HostFacts { bridged_ipv4: true, bridged_ipv6: true, ..HostFacts::default() };
            let position = parsed.settings.jump_position;
            let Some(ruleset) = Ruleset::new(&parsed.policy, family, position, &facts) else { continue };
            let context = Context { chain: &ChainName::default(), random_fully: true, sets: None };
            let _ = render(&ruleset, context).to_string();
            let _ = nftables::render(&ruleset, parsed.settings.table_owner);
        }
    }
});
