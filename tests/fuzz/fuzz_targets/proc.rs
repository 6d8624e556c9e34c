//! Text of `/proc`, in which names were chosen by others, and what systemctl prints, each as all of them.
#![no_main]

use ip_masq_agent::agent::Job;
use ip_masq_agent::service::{unit, view};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let half = text.char_indices().map(|(offset, _)| offset).nth(text.chars().count() / 2).unwrap_or_default();
    for (ipv4, ipv6) in [(text, ""), ("", text), text.split_at(half)] {
        for interface in view::default_route_interfaces(ipv4, ipv6) {
            assert!(!interface.is_empty() && !interface.contains(char::is_whitespace), "{interface:?}");
        }
    }
    if let Some(name) = unit::unit(text) {
        assert!(name.ends_with(".service") && !name.contains(['/', '\n']), "{name:?}");
        let named = text.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(named || unit::job_of(name, text) == Job::Unknown);
    }
    unit::job_of("ip-masq-agent.service", text);
});
