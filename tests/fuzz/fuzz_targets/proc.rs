//! Text of `/proc`, in which names were chosen by others, and what systemctl prints, each as both.
#![no_main]

use ip_masq_agent::agent::Job;
use ip_masq_agent::policy::Protocol;
use ip_masq_agent::service::{host, listeners, process, unit};
use ip_masq_agent::sys::go_agent;
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|text: &str| {
    if let Some(name) = unit::unit(text) {
        assert!(name.ends_with(".service") && !name.contains(['/', '\n']), "{name:?}");
        let named = text.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(named || unit::job_of(name, text) == Job::Unknown);
    }
    unit::job_of("ip-masq-agent.service", text);
    let found = listeners::read_any(text);
    let digits = text.to_ascii_uppercase();
    let of_sctp = |(protocol, ..): &&(Protocol, IpAddr, u16)| *protocol == Protocol::Sctp;
    assert!(found.iter().filter(of_sctp).all(|(_, _, port)| text.contains(&port.to_string())), "{found:?}");
    let others: Vec<_> = found.iter().filter(|one| !of_sctp(one)).collect();
    // TCP and UDP, each as two files, of which no line has both states.
    assert!(others.len() <= 2 * text.lines().count().saturating_sub(1), "a line is one socket at most: {found:?}");
    assert!(others.iter().all(|(_, _, port)| digits.contains(&format!("{port:X}"))), "{found:?}");
    let (_, agent) = go_agent::read_any(text);
    assert!(!agent.command.is_empty() && !agent.command.contains(char::is_control), "{agent:?}");
    assert!(agent.command.chars().count() <= 200, "{agent:?}");
    assert!(agent.chain == "IP-MASQ-AGENT" || text.contains(&agent.chain), "{agent:?}");
    if let Some(refused) = host::read_any(text) {
        let most = u64::from(u32::MAX) * text.lines().count() as u64;
        assert!([refused.insert_failed, refused.drop, refused.early_drop].iter().all(|sum| *sum <= most), "{refused:?}");
    }
    let (innermost, parent) = process::read_any(text);
    assert!(innermost.is_none_or(|unit| unit.chars().count() <= 64 && text.contains(&unit)));
    assert!(parent.is_none_or(|parent| text.contains(&parent.to_string())));
});
