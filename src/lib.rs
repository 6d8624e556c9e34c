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
//! | room | what is in it | imports | may it do IO? |
//! |---|---|---|---|
//! | [`text`] | what others named, as it may be shown | | no |
//! | [`policy`] | what happens to a flow, and which line of which file says so | | no |
//! | [`ruleset`] | the policy of one family as rules, no backend's words in it | policy | no |
//! | [`sys`] | what backends stand on: netlink, x_tables, child processes, inotify, signals | policy | yes |
//! | [`config`] | files and flags → policy and settings, with errors as `file:line:column` | policy, ruleset, text | reads files |
//! | [`backend`] | a ruleset rendered, planned against what the kernel holds, committed | config, policy, ruleset, sys | yes |
//! | [`agent`] | what to do when something happens, and when to do the next thing | backend, config, policy, ruleset, text | no |
//! | [`service`] | what carries the agent out: poll loop, enforcer, systemd, journal, control socket, state files | all above | yes |
//! | [`command`], [`cli`] | one subcommand each, and how it is typed | all above | yes |
//!
//! The arrows point one way; `tests/pure/layering.rs` holds them there.

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
