//! The file of the last good configuration, whatever somebody wrote into it.
#![no_main]

use ip_masq_agent::config::{self, Flags};
use ip_masq_agent::service::state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(sources) = state::decode(text) {
        assert!(sources.iter().map(|source| source.text.len()).sum::<usize>() < text.len());
        let _ = config::parse(&sources, &Flags::default());
    }
});
