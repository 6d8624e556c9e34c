//! The lab: a gateway between a LAN and an outside, each a network namespace of its own.
//!
//! ```text
//!  lan ── lan0 ── gateway ── wan0 ── outside     203.0.113.0/24, 2001:db8:113::/64, default route
//!                         └─ wan1 ── outside     198.51.100.0/24, 2001:db8:100::/64
//! ```
//!
//! Nothing outside is touched and nothing is left behind, however the test ends: a namespace lives as long as the
//! file descriptors that hold it, and every file the lab writes lies on a tmpfs inside the gateway's own mount
//! namespace. The outside has no route back to the LAN unless a test adds one.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of the lab")]

mod agent;
pub mod foreign;
mod gateway;
mod namespace;
mod observer;
mod probe;
pub mod sctp;
mod service;
mod topology;

pub use agent::Agent;
pub use gateway::{Gateway, RST, SYN_ACK};
pub use namespace::{Namespace, REAL, SHADOW, text};
pub use observer::{Observer, Seen};
pub use probe::{Kind, Probe};
pub use service::Service;
pub use topology::{Lab, Uplink, address, parse};

use ip_masq_agent::backend::BackendName;
use std::io::Write as _;
use std::time::Duration;

/// How long anything in the lab may take; a wait ends at its event, this is only for what never comes.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long to look for a packet that must not come.
pub const SILENCE: Duration = Duration::from_millis(300);

/// The backends that every test of the kernel's behaviour runs on.
pub const BACKENDS: &[BackendName] = &[BackendName::IptablesNft, BackendName::IptablesLegacy, BackendName::Nftables];

/// The programs that a lab with these backends needs.
const TOOLS: &[&str] = &["ip", "iptables-nft-restore", "iptables-legacy-restore", "ipset", "nft", "conntrack"];

/// Says why a test can't run here. With `CI` set that is a failure, so that a skipped test never looks green there.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "a test that CI requires can't run: {why}");
    // Not `eprintln!`, which the test harness keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
}

/// True when namespaces can be made and the programs are there; says why not otherwise.
pub fn possible() -> bool {
    let missing: Vec<_> = TOOLS.iter().filter(|tool| !is_installed(tool)).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}; `make test` installs them"));
        return false;
    }
    if let Err(error) = Namespace::new("probe") {
        skip(&format!("no network namespace can be made here ({error}); run it as root or through `make test`"));
        return false;
    }
    true
}

/// True when the program is in one of the directories in which the service looks.
pub fn is_installed(program: &str) -> bool {
    ip_masq_agent::sys::child::PATH.split(':').any(|directory| std::path::Path::new(directory).join(program).exists())
}
