//! A nat rule of another program that takes part in what happens to our flows. Pure.

use crate::network::hook::{Hit, HitEffect, Translations};
use crate::policy::Family;
use std::fmt;

/// Of more interfaces or sources not each is tried.
pub(super) const EACH: usize = 16;

/// A nat rule of another program that takes part in what happens to our flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub family: Family,
    pub about: About,
    pub order: Order,
    /// The rule, with its table and chain, and the base chain that leads to it.
    pub line: String,
    /// Which rule it is, whatever leads to it.
    pub rule: String,
}

/// What a rule takes part in; of a forward where that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The sources of flows that leave.
    Sources,
    /// Where a packet goes that comes in for a forward.
    Arriving(String),
    /// The same for processes of this host.
    FromHost(String),
    /// The source of what a forward sends on.
    Behind(String),
}

/// When it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It translates before our rules are asked.
    Before,
    /// It ends the chain before our rules are asked.
    Hides,
    /// Which is asked first is not defined.
    Beside,
    /// It translates what our rules leave.
    After,
    /// Ours are not there.
    Alone,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreign { family, about, order, line, .. } = self;
        let (forward, ours, whose) = match about {
            About::Sources => ("", "rules", ""),
            About::Arriving(forward) => (forward.as_str(), "forwards", ""),
            About::FromHost(forward) => (forward.as_str(), "forwards", " for processes of this host"),
            About::Behind(forward) => (forward.as_str(), "rules", ""),
        };
        write!(f, "{forward}")?;
        match order {
            Order::Before => write!(f, "runs before our {family} {ours} and "),
            Order::Hides => write!(f, "runs before our {family} {ours}, which never see what it accepts"),
            Order::Beside => write!(f, "has the priority of our {family} {ours}, which runs first is undefined"),
            Order::After => write!(f, "runs after our {family} {ours} and "),
            Order::Alone => write!(f, "already there, our {family} {ours} are not"),
        }?;
        f.write_str(match (order, about) {
            (Order::Hides | Order::Beside | Order::Alone, _) => "",
            (Order::Before | Order::After, About::Behind(_)) => "rewrites the source of what is forwarded",
            (Order::Before, About::Sources | About::Arriving(_) | About::FromHost(_)) => "wins",
            (Order::After, About::Sources) => "rewrites what they keep",
            (Order::After, About::Arriving(_) | About::FromHost(_)) => "takes what they leave",
        })?;
        write!(f, "{whose}: {line}")
    }
}

/// The rules that a packet meets, with when they are asked.
pub(super) fn ordered(translations: &Translations) -> impl Iterator<Item = (Order, &Hit)> {
    let Translations { has_ours, before, after } = translations;
    let of_before = |hit: &Hit| match &hit.effect {
        _ if hit.is_unordered => Order::Beside,
        HitEffect::Accept => Order::Hides,
        HitEffect::Translate(..)
        | HitEffect::Drop
        | HitEffect::Ours
        | HitEffect::Untrack
        | HitEffect::NotUnderstood => Order::Before,
    };
    let of_after = move |hit: &Hit| match hit.is_unordered {
        _ if !*has_ours => Order::Alone,
        true => Order::Beside,
        false => Order::After,
    };
    let before = before.iter().map(move |hit| (of_before(hit), hit));
    before.chain(after.iter().map(move |hit| (of_after(hit), hit)))
}
