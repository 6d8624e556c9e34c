//! `ip-masq-agent` decides which traffic leaving a Linux host is masqueraded, and keeps that decision true in the kernel.
//!
//! One idea carries the design: text in, text out.
//!
//! ```text
//! config files ─▶ Config: Policy, Settings ─▶ Ruleset ─▶ Chains ─▶ Plan ────▶ kernel
//!    text                 values               value     value     text/bytes  │
//!      check, explain stop here ─┘      render stops here ─┘                   ▼
//!         Agent: is the kernel what we want?  ◀─────────────────────────  observed state
//! ```
//!
//! Three walks, file by file. A key of the policy to the kernel:
//!
//! ```text
//! config/keys.rs, its row ─▶ config/draft.rs, `policy()`; of an entry egress.rs, `entries` ─▶ policy/mod.rs or egress.rs
//!   ─▶ ruleset/build.rs, a statement or a translation ─▶ ruleset/lower.rs, rules in chains ─▶ backend/*/mod.rs, a plan
//!     iptables: rules/render.rs ─▶ rules/rule.rs, as text (read by parse.rs) ─▶ rules/plan.rs ─▶ mod.rs, `send`
//!     nftables: rules/compile.rs ─▶ rules/plan.rs ─▶ wire/batch.rs, wire/translate.rs (which also reads) ─▶ commit.rs
//! ```
//!
//! A port forward to the kernel; what there is of it beyond that:
//!
//! ```text
//! config/forward.rs, an entry ─▶ policy/forward.rs ─▶ ruleset/forward.rs: its gates, who is marked or masqueraded, what stays
//!     iptables: ruleset/forward_tree.rs, chains of rules ─▶ rules/render.rs
//!     nftables: rules/forwards.rs, maps, sets and the chains of gates ─▶ rules/compile.rs
//! ```
//!
//! Another program's commit to the journal:
//!
//! ```text
//! sys/nfnetlink/events.rs ─▶ service/enforcer.rs, `read_events` ─▶ service/poll.rs ─▶ agent/watch.rs, `rules_moved`
//!   ─▶ service/enforcer.rs, `check` ─▶ agent/watch.rs, `checked` ─▶ agent/reconcile.rs, `reconcile`
//!   ─▶ agent/connections.rs, `with_network` ─▶ service/enforcer.rs, `reconcile`
//!   ─▶ agent/reconcile.rs, `reconciled`, `finish`, `verified` ─▶ agent/fight.rs, `log_undone` ─▶ service/journal.rs
//! ```
//!
//! From `agent` to `service` and back means: an action, and the event with its result (`agent/drive.rs`).
//!
//! | room | what is in it | imports | may it do IO? |
//! |---|---|---|---|
//! | [`text`] | what others named, as it may be shown | | no |
//! | [`policy`] | what happens to a flow, and which line of which file says so | | no |
//! | [`network`] | what the kernel says of the host's interfaces, routes and connections, and what a policy makes of it | policy | no |
//! | [`ruleset`] | the policy of one family as rules, no backend's words in it | network, policy | no |
//! | [`sys`] | what backends stand on: netlink, x_tables, child processes, inotify, signals | network, policy | yes |
//! | [`config`] | files and flags → policy and settings, with errors as `file:line:column` | policy, ruleset, text | reads files |
//! | [`backend`] | a ruleset rendered, planned against what the kernel holds, committed | config, policy, ruleset, sys | yes |
//! | [`agent`] | what to do when something happens, and when to do the next thing | backend, config, network, policy, ruleset, text | no |
//! | [`service`] | what carries the agent out: poll loop, enforcer, systemd, journal, control socket, state files | all above | yes |
//! | [`import`] | rules and files of other programs → a configuration, as text | config, policy, text | no |
//! | [`cli`] | how each subcommand is typed | config, policy | no |
//! | [`command`] | one subcommand each | agent, backend, cli, config, import, network, policy, ruleset, service, sys, text | yes |
//!
//! The arrows point one way; `tests/pure/layering.rs` holds them there.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod agent;
pub mod backend;
pub mod cli;
pub mod command;
pub mod config;
pub mod import;
pub mod network;
pub mod policy;
pub mod ruleset;
pub mod service;
pub mod sys;
pub mod text;
