//! The files that the service keeps for the next one, whatever somebody wrote into them: the last good configuration, what
//! long sets hold, what sysctls were before. Each text as each of them.
#![no_main]

use ip_masq_agent::backend::nftables;
use ip_masq_agent::config::{self, Flags};
use ip_masq_agent::service::{state, sysctl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(sources) = state::decode(text) {
        assert!(sources.iter().map(|source| source.text.len()).sum::<usize>() < text.len());
        let _ = config::parse(&sources, &Flags::default());
    }
    let (sets, before) = (nftables::read_memory(text), sysctl::read_any(text));
    // At the end of a line it is a part of that.
    if !text.contains('\r') {
        assert!(sets.is_none() || sets.as_deref().and_then(nftables::read_memory) == sets, "{sets:?}");
        assert_eq!(sysctl::read_any(&before), before);
    }
});
