//! What carries the agent out on a host: the poll loop, the enforcer, systemd, the journal, the control socket, files.

#![forbid(unsafe_code)]

pub mod connections;
pub mod control;
pub mod directories;
pub mod enforcer;
pub mod foreign_nat;
pub mod host;
pub mod instance;
pub mod journal;
pub mod listeners;
pub mod lock;
pub mod notify;
pub mod poll;
pub mod process;
pub mod replace;
pub mod stale_rules;
pub mod state;
pub mod sysctl;
pub mod unit;
pub mod view;
mod written;
