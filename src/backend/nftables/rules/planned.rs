//! Rules as they are wanted: each with what it is known by, of which its comment is made.

use super::name::{ChainName, SetName};
use super::rule::{LookUp, Rule};
use super::table::Chain;
use crate::policy::Family;
use crate::ruleset::{Effect, Match, NotForwarded, RuleId, RuleStep, SectionId};
use std::sync::Arc;

/// A rule and its name.
pub type Planned = (RuleId, Rule);

/// A chain of a family. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChain {
    /// Its name.
    pub name: ChainName,
    /// Its rules, with the usual names of sets.
    pub rules: Arc<Vec<Planned>>,
}

impl PlannedChain {
    /// A chain of these rules.
    pub fn new(name: ChainName, rules: Vec<Planned>) -> Self {
        PlannedChain { name, rules: rules.into() }
    }

    /// The same as the kernel should hold it.
    pub fn chain(&self) -> Chain {
        Chain { name: self.name, hook: None, rules: self.rules.iter().map(|(_, rule)| rule.clone()).collect() }
    }

    /// Makes its rules look into another set than one.
    pub fn rename(&mut self, from: SetName, to: SetName) {
        if self.rules.iter().any(|(_, rule)| rule.looks_into(from)) {
            Arc::make_mut(&mut self.rules).iter_mut().for_each(|(_, rule)| rule.rename(from, to));
        }
    }
}

/// A rule in our words.
pub fn planned(id: RuleId, when: Vec<Match<SetName>>, then: Effect<ChainName>) -> Planned {
    let rule = match id.step {
        RuleStep::LeftToHost(_) => Rule::leave(when, reason(id)),
        _ => Rule::new(when, then, reason(id)),
    };
    (id, rule)
}

/// A rule that gives the source that the route prefers.
pub fn snat_by_route(id: RuleId, look_up: LookUp) -> Planned {
    (id, Rule::snat_by_route(look_up, reason(id)))
}

/// A rule that looks what a port becomes behind a gate.
pub fn shifted(id: RuleId, when: Vec<Match<SetName>>, map: SetName) -> Planned {
    (id, Rule::shifted(when, map, reason(id)))
}

/// What is said of a rule behind its effect.
fn reason(id: RuleId) -> &'static str {
    match id.step {
        RuleStep::Decide(step) => step.reason(),
        RuleStep::Far => "no exemption is near",
        RuleStep::Pass(_) => "in scope",
        RuleStep::Enter if id.section == SectionId::Top => "in the scope of no entry of egress",
        RuleStep::Enter => "in the scope of an entry of egress",
        RuleStep::Forward(_) => "a forward of portForwards",
        RuleStep::Mark => "a forward whose source is to be translated (markMasqBit)",
        RuleStep::LeftToHost(NotForwarded::Loopback(Family::V4)) | RuleStep::Guard => {
            "loopback addresses are for this host alone"
        }
        RuleStep::LeftToHost(NotForwarded::Loopback(Family::V6)) => "a loopback address has no way to another host",
        RuleStep::LeftToHost(NotForwarded::LinkLocal) => "a link-local address has no way to another network",
        RuleStep::LeftToHost(NotForwarded::NoLocalhost) => "no forward with localhost",
        RuleStep::LeftToHost(NotForwarded::Refused) => "its gates refuse it",
        RuleStep::RouteSource => "the source that the route prefers",
        RuleStep::NoRouteSource => "the route prefers no source",
        RuleStep::Ports => "a source port of toPorts",
        RuleStep::Portless => "a protocol without ports",
    }
}
