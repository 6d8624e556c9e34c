//! Whose a chain is: ours, that of a Go agent that lives, or another program's. Pure.
//!
//! A chain is told by its rules. Ours, and those of Kubernetes' ip-masq-agent (the Go agent), have a comment that says so;
//! what else stands in a chain of ours goes with the next repair.

use super::parse::{ListedChain, ListedRule, ListedTable};
use super::render::{BUILT_IN_COMMENT, KEEP_COMMENT, MARK_COMMENT, MASQUERADE_COMMENT, RenderedChain};
use super::rule::COMMENT_PREFIX;
use crate::ruleset::{ChainName, Effect, Fact, Match, Side, Test};
use std::collections::{BTreeMap, BTreeSet};

/// Why nothing may be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A chain of the name that is wanted, or what leads to it, is another program's.
    Foreign {
        /// What it is, in words.
        message: String,
        /// The chain that it stands in.
        chain: String,
    },
    /// A Go agent that lives keeps the chain of this name.
    Kept(String),
}

fn leads_to(rule: &ListedRule<'_>, chain: &str) -> bool {
    rule.target.as_deref() == Some(chain)
}

/// True for a rule of ours that marks, be it by another program's chain.
fn marks(rule: &ListedRule<'_>) -> bool {
    rule.comment.as_deref().and_then(|comment| comment.strip_prefix(COMMENT_PREFIX)) == Some(MARK_COMMENT)
}

/// The chains of a table, sorted by whose they are.
#[derive(Debug)]
pub struct Ownership<'a> {
    /// Every chain that is ours, or a Go agent's that is gone.
    ours: BTreeSet<&'a str>,
    /// Those of our name.
    named: BTreeSet<&'a str>,
    /// Chains that a Go agent may have written as they are.
    go_shaped: BTreeSet<&'a str>,
    /// Those of them that one keeps that lives.
    kept: BTreeSet<&'a str>,
    /// What rules of other programs lead to, with the first that does: its chain and itself. One in a chain of ours goes
    /// anyway.
    users: BTreeMap<String, (&'a str, &'a str)>,
}

impl<'a> Ownership<'a> {
    /// Sorts the chains of a table. `own` is the configured name of our chain, `kept` the chains of Go agents that live.
    pub fn new(own: &ChainName, desired: &[RenderedChain], table: &ListedTable<'a>, kept: &[String]) -> Self {
        let chains = || table.chains.iter().filter(|chain| !chain.built_in);
        let names = |wanted: &dyn Fn(&ListedChain<'a>) -> bool| {
            chains().filter(|chain| wanted(chain)).map(|chain| chain.name).collect::<BTreeSet<&'a str>>()
        };
        let desired: BTreeSet<&str> = desired.iter().map(|chain| chain.name.as_str()).collect();
        let named = names(&|chain| own.has_part(chain.name));
        let go_shaped = names(&is_go_shaped);
        let kept: BTreeSet<_> =
            go_shaped.iter().copied().filter(|name| kept.iter().any(|chain| chain == name)).collect();
        let ours = names(&|chain| {
            !kept.contains(chain.name)
                && (desired.contains(chain.name) && !is_foreign(chain) || is_ours(own, chain, table))
        });
        let mut users = BTreeMap::new();
        let others = table.rules().filter(|(from, rule)| !rule.has_our_comment() && !ours.contains(from));
        for (from, rule) in others {
            let Some(chain) = rule.target.as_deref() else { continue };
            users.entry(chain.to_owned()).or_insert((from, rule.spec));
        }
        Ownership { ours, named, go_shaped, kept, users }
    }

    /// True for a chain that is ours.
    pub fn is_ours(&self, chain: &str) -> bool {
        self.ours.contains(chain)
    }

    /// True for a chain of ours that has to stay and need not keep its rules: by its name it is known without them, or they
    /// lead to others of ours, which go.
    fn is_emptied(&self, chain: &ListedChain<'_>) -> bool {
        let leads_on = |rule: &ListedRule<'_>| rule.target.as_deref().is_some_and(|to| self.ours.contains(to));
        self.named.contains(chain.name) || chain.rules.iter().any(leads_on)
    }

    /// True for a chain of a Go agent that lives.
    pub fn is_kept(&self, chain: &str) -> bool {
        self.kept.contains(chain)
    }

    /// True for a rule of a built-in chain that is ours: it leads to a chain of ours, or did, whatever its name, or is the
    /// guard of loopback addresses. Only its comment says so.
    pub fn has_jump(&self, rule: &ListedRule<'_>) -> bool {
        rule.comment.as_deref().is_some_and(|comment| comment.starts_with(BUILT_IN_COMMENT))
            && !rule.target.as_deref().is_some_and(|chain| self.is_kept(chain))
    }

    /// Chains of a Go agent that lives, if one of that chain's name does.
    pub fn go_shaped(&self) -> Vec<String> {
        self.go_shaped.iter().map(|name| (*name).to_owned()).collect()
    }

    /// # Errors
    /// When a desired chain is there and another program's, or used by one, or a Go agent's that lives.
    pub fn refuse(&self, desired: &[RenderedChain], table: &ListedTable<'a>) -> Result<(), Refusal> {
        for RenderedChain { name, .. } in desired {
            if self.is_kept(name) {
                return Err(Refusal::Kept(name.clone()));
            }
            let first = table.chain(name).filter(|chain| is_foreign(chain)).and_then(|chain| chain.rules.first());
            let message = match (first, self.users.get(name)) {
                (Some(rule), _) => {
                    format!("chain '{name}' is not ip-masq-agent's: none of its rules is, as '-A {name} {}'", rule.spec)
                }
                (None, Some((from, rule))) => {
                    let message = format!("chain '{name}' is used by a rule that is not ip-masq-agent's");
                    let message = format!("{message}: '-A {from} {rule}'");
                    return Err(Refusal::Foreign { message, chain: (*from).to_owned() });
                }
                (None, None) => continue,
            };
            return Err(Refusal::Foreign { message, chain: name.clone() });
        }
        Ok(())
    }
}

/// True for a chain with rules of which none is ours.
fn is_foreign(chain: &ListedChain<'_>) -> bool {
    !chain.rules.is_empty() && chain.rules.iter().all(|rule| !rule.has_our_comment())
}

/// True for a chain with nothing but rules of ours, or some of them and our name. An empty chain can't tell by its rules
/// whose it is, so its name does, or a rule of ours that leads to it.
fn is_ours(own: &ChainName, chain: &ListedChain<'_>, table: &ListedTable<'_>) -> bool {
    let count = chain.rules.iter().filter(|rule| rule.has_our_comment()).count();
    let bears_our_name = || {
        // A rule that only marks leads to another program's chain.
        let leads_there = |rule: &ListedRule<'_>| rule.has_our_comment() && !marks(rule) && leads_to(rule, chain.name);
        own.has_part(chain.name) || table.rules().any(|(_, rule)| leads_there(rule))
    };
    match count {
        0 => chain.rules.is_empty() && bears_our_name(),
        _ => count == chain.rules.len() || bears_our_name(),
    }
}

/// True for a chain that a Go agent may have written as it is: prefixes that return and a last rule that masquerades, each
/// with the comment that it gives. Ours has others besides, unless it is configured to be the same.
fn is_go_shaped(chain: &ListedChain<'_>) -> bool {
    let says = |rule: &ListedRule<'_>, comment: &str| {
        rule.comment.as_deref().and_then(|text| text.strip_prefix(COMMENT_PREFIX)) == Some(comment)
    };
    let is_the_agents = |rule: &ListedRule<'_>| {
        let Some(value) = &rule.rule else { return false };
        let is_the_agents = |one: &Match<String>| match one {
            Match::Is(test) | Match::IsNot(test) => matches!(test, Test::In(Side::Daddr, _) | Test::Protocol(_)),
            Match::Holds(fact) => matches!(fact, Fact::Share { .. }),
        };
        value.when.iter().all(is_the_agents)
            && match &value.then {
                Effect::Return => says(rule, KEEP_COMMENT),
                Effect::Masquerade { .. } => says(rule, MASQUERADE_COMMENT),
                Effect::Snat { .. }
                | Effect::SnatByRoute(_)
                | Effect::Dnat { .. }
                | Effect::Mark(_)
                | Effect::Drop
                | Effect::Jump(_)
                | Effect::Goto(_) => false,
            }
    };
    chain.rules.last().is_some_and(|rule| says(rule, MASQUERADE_COMMENT)) && chain.rules.iter().all(is_the_agents)
}

/// Chains of ours that are not desired: another name, a chain behind a gate that is gone, that of a Go agent that is gone.
#[derive(Debug, Default)]
pub struct StaleRules {
    /// To be emptied and removed.
    pub whole: Vec<String>,
    /// To be emptied, because rules of others lead to them.
    pub emptied: Vec<String>,
    /// Another program's with rules of ours in it: those go. Name and verbatim rules.
    pub mixed: Vec<(String, Vec<String>)>,
    /// What stays, and why.
    pub notes: Vec<String>,
}

impl StaleRules {
    /// Finds them.
    pub fn find(ownership: &Ownership<'_>, desired: &[RenderedChain], table: &ListedTable<'_>) -> Self {
        let mut found = StaleRules::default();
        let candidates = table.chains.iter().filter(|chain| !chain.built_in && !ownership.is_kept(chain.name));
        let desired: BTreeSet<&str> = desired.iter().map(|chain| chain.name.as_str()).collect();
        for chain in candidates.filter(|chain| !desired.contains(chain.name)) {
            if ownership.is_ours(chain.name) {
                match ownership.users.get(chain.name) {
                    None => found.whole.push(chain.name.to_owned()),
                    Some((from, rule)) => {
                        let empties = ownership.is_emptied(chain);
                        found.emptied.extend((empties && !chain.rules.is_empty()).then(|| chain.name.to_owned()));
                        let how = if empties { ", without rules" } else { "" };
                        found.notes.push(format!(
                            "chain '{}' of an agent stays{how}: a rule that is not ip-masq-agent's leads to it: '-A {from} {rule}'",
                            chain.name
                        ));
                    }
                }
                continue;
            }
            let ours = chain.rules.iter().filter(|rule| rule.has_our_comment());
            let ours: Vec<_> = ours.map(|rule| rule.spec.to_owned()).collect();
            if !ours.is_empty() {
                found.mixed.push((chain.name.to_owned(), ours));
                found.notes.push(format!("chain '{}' stays: it holds rules that are not ip-masq-agent's", chain.name));
            }
        }
        found
    }

    /// True for one of them.
    pub fn hold(&self, chain: &str) -> bool {
        self.whole.iter().chain(&self.emptied).any(|name| name == chain)
            || self.mixed.iter().any(|(name, _)| name == chain)
    }
}
