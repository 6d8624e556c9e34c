//! The real binary on a gateway: what happens to packets, and what the service tells, survives and leaves behind.

#[path = "../lab/mod.rs"]
mod lab;

mod connections;
mod daemon;
mod explain;
mod fast_path;
mod host;
mod localhost;
mod metrics;
mod migration;
mod moving;
mod packets;
mod recipes;
mod route_source;
mod sabotage;
mod sctp;
mod service;
mod sessions;
mod switching;
mod terminal;
mod truth;

use ip_masq_agent::backend::BackendName;
use lab::{BACKENDS, Gateway, Lab};

/// Runs the body of a test on a gateway for each backend, each in a lab of its own.
fn on_each_backend(test: impl Fn(&Lab, &Gateway<'_>, BackendName)) {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        test(&lab, &Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend), *backend);
    }
}
