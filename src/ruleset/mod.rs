//! The policy of one family as ordered statements, and what becomes of them in chains of rules.
//!
//! Pure. A statement is asked for the first packet of a flow; the first one that has an outcome for the packet ends it.
//! [`lower()`] makes of the statements what both backends hold; they only put it into their words.

#![forbid(unsafe_code)]

mod build;
mod cidr_list;
mod facts;
mod forward;
mod forward_chain;
mod forward_tree;
mod id;
mod lower;
mod matches;
mod name;
mod near;
mod way;

pub use build::{
    Branch, Condition, Hook, HookRules, JumpPosition, NewSource, Outcome, Ruleset, SectionRules, Statement,
    Translation, Way,
};
pub use cidr_list::CidrList;
pub use facts::{HostFacts, NetworkFacts};
pub use forward::{ForwardRule, ForwardRules, GateRule, guarded, not_forwarded};
pub use forward_chain::{Digits, ForwardChain, Host, Node, Tree};
pub use forward_tree::add_forwards;
pub use id::{ChainId, ListId, ListKey, NotForwarded, Place, RuleId, RuleStep, SectionId};
pub use lower::{Chains, Dialect, Entry, LoweredChain, LoweredRule, lower};
#[cfg(test)]
pub use matches::each;
pub use matches::{Address, ByRoute, Effect, Fact, Match, NoMap, ShiftedPort, Side, Test};
pub use name::{ChainName, ChainNameError};
pub use near::{Near, block_length};
