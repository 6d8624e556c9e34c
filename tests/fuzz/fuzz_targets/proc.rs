//! Text of `/proc`, in which names were chosen by others, and what systemctl prints, each as both.
#![no_main]

use ip_masq_agent::agent::Job;
use ip_masq_agent::service::unit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(name) = unit::unit(text) {
        assert!(name.ends_with(".service") && !name.contains(['/', '\n']), "{name:?}");
        let named = text.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(named || unit::job_of(name, text) == Job::Unknown);
    }
    unit::job_of("ip-masq-agent.service", text);
});
