//! The policy of one family as ordered statements, and what becomes of them in chains of rules.
//!
//! Pure. A statement is asked for the first packet of a flow; the first one that has an outcome for the packet ends it.
//! [`lower()`] makes of the statements what both backends hold; they only put it into their words.

#![forbid(unsafe_code)]

mod build;
mod id;
mod lower;
mod matches;
mod name;

pub use build::{
    CidrList, Condition, Hook, HookRules, HostFacts, JumpPosition, Masquerade, Outcome, Ruleset, SectionRules,
    Statement,
};
pub use id::{ChainId, ListId, ListKey, Place, RuleId, RuleStep, Section};
pub use lower::{Chain, Chains, Dialect, Entry, Rule, lower};
pub use matches::{Address, Effect, Match, Side, Test};
pub use name::{ChainName, ChainNameError};
