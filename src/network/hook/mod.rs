//! Rules of other programs at the hooks that our flows pass, and what they would do with a packet. Pure: chains are read
//! by `service::foreign_nat`, in words.
//!
//! What the words don't say is not guessed: a [`Fit`] has two answers between yes and no.

mod packet;
mod walk;
mod words;

pub use packet::Packet;
pub use walk::{
    DOUBTFUL, Hit, HitEffect, Passage, Translations, doubts, is_before_tracking, pass, tracked, translations,
    untracking,
};

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where in the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Of an interface, before everything else.
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// Of an interface, after everything else.
    Egress,
}

/// A base chain, with all that its rules lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseChain {
    /// `ip`, `ip6`, `inet` or `netdev`.
    pub family: &'static str,
    pub table: String,
    pub name: String,
    pub hook: Option<Hook>,
    /// The interfaces whose packets pass it, at a hook of interfaces.
    pub devices: Vec<String>,
    pub priority: i32,
    pub is_nat: bool,
    /// Its policy is drop.
    pub drops: bool,
    /// It is of our own table: its rules are not looked at.
    pub is_ours: bool,
    pub rules: Vec<Rule>,
    /// The chains that rules jump to, by name. Those that could not be read are missing.
    pub chains: BTreeMap<String, Vec<Rule>>,
}

/// One rule in words: those of nft, those of iptables-save, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub text: String,
    pub comment: Option<String>,
    /// It is the jump to our own rules.
    pub is_ours: bool,
}

/// Whether a packet fits. The order is that of certainty: what must all be so is as certain as the least of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    No,
    /// The rule has something that is not understood.
    NotUnderstood,
    /// It depends on what is not said of the packet.
    Unsaid,
    Yes,
}

impl Fit {
    fn of(answer: Option<bool>) -> Self {
        answer.map_or(Fit::Unsaid, |is| if is { Fit::Yes } else { Fit::No })
    }

    fn unless(self, negated: bool) -> Self {
        match (negated, self) {
            (true, Fit::Yes) => Fit::No,
            (true, Fit::No) => Fit::Yes,
            (_, fit) => fit,
        }
    }
}

/// What a rule does in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleVerdict {
    /// It goes on with the next one.
    Continue,
    /// The same, and the packet has another mark from here on.
    SetMark,
    /// The same, and connection tracking leaves the packet alone.
    Untrack,
    Accept,
    /// Dropped, or refused with an answer.
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Something is rewritten: the statement, and the address that takes the place where there is exactly one.
    Translate(String, Option<IpAddr>),
    NotUnderstood,
}

/// True when rules of ours are in a nat chain at a hook.
pub fn has_ours(chains: &[BaseChain], hook: Hook) -> bool {
    let at_hook = chains.iter().filter(|chain| chain.is_nat && chain.hook == Some(hook));
    at_hook.into_iter().any(|chain| chain.is_ours || chain.rules.iter().any(|rule| rule.is_ours))
}
