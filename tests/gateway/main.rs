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
