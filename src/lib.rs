//! `ip-masq-agent` decides which traffic leaving a Linux host is masqueraded, and keeps that decision true in the kernel.
//!
//! One idea carries the design: text in, text out.
//!
//! ```text
//! config files ─▶ Document ─▶ Policy ─▶ Ruleset ─▶ transaction ─▶ kernel
//!    text          serde       value     value      text/bytes      │
//!      check stops here ─┘   render, explain stop here ─┘           ▼
//!         Agent: is the kernel what we want?  ◀──────────────  observed state
//! ```
//!
//! | room | what is in it | may it do IO? |
//! |---|---|---|
//! | [`policy`] | what happens to a flow, and which line of which file says so | no |
//! | [`ruleset`] | the policy of one family as an ordered list of statements, no backend's words in it | no |
//! | [`config`] | files and flags → policy and settings, with errors as `file:line:column` | reads files |
//! | [`backend`] | a ruleset rendered, planned against what the kernel holds, committed | yes |
//! | [`agent`] | what to do when something happens, and when to do the next thing | no |
//! | [`sys`] | what backends stand on: child processes, netlink, inotify, signals | yes |
//! | [`service`] | what stands on the agent: poll loop, systemd, journal, control socket, state files | yes |
//! | [`command`] | one subcommand each | yes |
//! | [`text`] | what others named, as it may be shown | no |
//!
//! The arrows point one way; `tests/layering.rs` holds them there.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod agent;
pub mod backend;
pub mod cli;
pub mod command;
pub mod config;
pub mod policy;
pub mod ruleset;
pub mod service;
pub mod sys;
pub mod text;
