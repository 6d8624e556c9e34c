//! Where the service keeps what is not configuration.

use crate::config::trust;
use std::fs::Metadata;
use std::path::PathBuf;

/// `$RUNTIME_DIRECTORY`, where lock and control socket are; `/run/ip-masq-agent` when systemd did not say.
pub fn runtime() -> PathBuf {
    from("RUNTIME_DIRECTORY", "/run/ip-masq-agent")
}

/// `$STATE_DIRECTORY`, where the last good configuration is; `/var/lib/ip-masq-agent` when systemd did not say.
pub fn state() -> PathBuf {
    from("STATE_DIRECTORY", "/var/lib/ip-masq-agent")
}

/// Why others could have made or written what is there: it is judged as a file of the configuration is.
pub fn distrusted(metadata: &Metadata) -> Option<String> {
    trust::writable_by_others(metadata)
}

/// systemd lists several directories with colons between them (systemd.exec(5)); ours is the first.
fn from(variable: &str, otherwise: &str) -> PathBuf {
    let listed = std::env::var(variable).unwrap_or_default();
    match listed.split(':').next() {
        Some(first) if !first.is_empty() => first.into(),
        _ => otherwise.into(),
    }
}
