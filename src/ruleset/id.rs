//! What rules, chains and lists are known by, whichever backend they are in.

use super::forward_chain::ForwardChain;
use crate::policy::{Egress, Family, Step};
use std::fmt;

/// A part of the policy with lists and a source rewrite of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionId {
    /// The keys of the top level.
    Top,
    /// An entry of `egress`, from 1.
    Egress(u8),
    /// `portForwards`.
    Forwards,
    /// One of them, from 1: lists that it is the first to have.
    Forward(u32),
}

/// What a rule is known by: who decided, and the group that its counter belongs to. Its comment is made of it. A rule that
/// is planned carries it; one in the kernel has that of the planned rule that it equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The part of the policy.
    pub section: SectionId,
    /// Its step there.
    pub step: RuleStep,
}

/// What a rule is there for: a step of the policy, or a part of how it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleStep {
    /// The step decides.
    Decide(Step),
    /// The last step decides at once, far from whatever could decide before it.
    Far,
    /// A forward sends to its target; by its number, from 1.
    Forward(u32),
    /// What such a forward takes and its target must see as the host is marked.
    Mark,
    /// What forwards do not take is the host's own.
    LeftToHost(NotForwarded),
    /// What comes to loopback addresses through another interface is dropped.
    Guard,
    /// What a gate lets through goes on.
    Pass(Step),
    /// What is in the scope of the section goes there, or where its maps say.
    Enter,
    /// What a route says of the source (`snat: route-source`).
    RouteSource,
    /// The same where the route prefers none.
    NoRouteSource,
    /// A share of the ports of `toPorts`.
    Ports,
    /// A protocol without ports, beside those.
    Portless,
}

/// Why a flow to this host stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotForwarded {
    /// It is to a loopback address.
    Loopback(Family),
    /// It is to a link-local address.
    LinkLocal,
    /// No forward of loopback addresses is for it.
    NoLocalhost,
    /// The gates of the forwards refuse it.
    Refused,
}

/// A chain of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The part of the policy.
    pub section: SectionId,
    /// Its place there.
    pub place: Place,
}

/// The chains of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The first one is 1, and behind each gate that takes a chain of its own begins the next.
    Part(u8),
    /// The ways to translate, where there are several.
    Masquerade,
    /// What leads flows on by their source that leave through some interfaces; from 1.
    Branch(u16),
    /// A part of the tree of port forwards.
    Forward(ForwardChain),
}

/// A list of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId {
    /// The part of the policy.
    pub section: SectionId,
    /// The list.
    pub key: ListKey,
}

/// The lists that a section can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListKey {
    /// `sourceCIDRs`.
    Sources,
    /// `excludeSourceCIDRs`.
    ExcludedSources,
    /// `masqueradeExceptionCIDRs`.
    Exceptions,
    /// `nonMasqueradeCIDRs`.
    Exempt,
    /// The blocks of addresses in which those are, and every other range that keeps the source.
    Near,
}

impl ListKey {
    /// Every list, in the order in which they are asked.
    pub const ALL: [ListKey; 5] =
        [ListKey::Sources, ListKey::ExcludedSources, ListKey::Exceptions, ListKey::Exempt, ListKey::Near];

    /// The word for it in set names.
    pub fn name(self) -> &'static str {
        match self {
            ListKey::Sources => "sources",
            ListKey::ExcludedSources => "excluded-sources",
            ListKey::Exceptions => "exceptions",
            ListKey::Exempt => "exempt",
            ListKey::Near => "near",
        }
    }

    /// What it is made of: a key of the configuration, or more than one.
    pub fn key(self) -> &'static str {
        match self {
            ListKey::Sources => "sourceCIDRs",
            ListKey::ExcludedSources => "excludeSourceCIDRs",
            ListKey::Exceptions => "masqueradeExceptionCIDRs",
            ListKey::Exempt => "nonMasqueradeCIDRs",
            ListKey::Near => "where ranges are that keep the source",
        }
    }
}

impl SectionId {
    /// That of an entry of `egress`, or the top level.
    pub fn of(entry: Option<&Egress>) -> Self {
        entry.map_or(SectionId::Top, |entry| SectionId::Egress(entry.number))
    }

    /// What is in front of names of the section: nothing at the top level.
    pub fn prefix(self) -> String {
        match self {
            SectionId::Top => String::new(),
            SectionId::Egress(number) => format!("egress{number}-"),
            SectionId::Forwards => "forwards-".to_owned(),
            SectionId::Forward(number) => format!("forward{number}-"),
        }
    }

    /// The section that a name belongs to, and the rest of the name.
    pub fn of_name(name: &str) -> (Self, &str) {
        let egress = || {
            let (number, rest) = name.strip_prefix("egress")?.split_once('-')?;
            let section = SectionId::Egress(number.parse().ok()?);
            name.starts_with(&section.prefix()).then_some((section, rest))
        };
        let forward = || {
            let (number, rest) = name.strip_prefix("forward")?.split_once('-')?;
            let section = SectionId::Forward(number.parse().ok()?);
            name.starts_with(&section.prefix()).then_some((section, rest))
        };
        egress().or_else(forward).unwrap_or((SectionId::Top, name))
    }
}

impl NotForwarded {
    fn name(self) -> &'static str {
        match self {
            NotForwarded::Loopback(_) => "loopback",
            NotForwarded::LinkLocal => "link-local",
            NotForwarded::NoLocalhost => "no-localhost",
            NotForwarded::Refused => "refused",
        }
    }
}

impl fmt::Display for RuleId {
    /// A stable text: `exempt`, `egress2-out-interface/in-scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.section.prefix())?;
        match self.step {
            RuleStep::Decide(step) => f.write_str(step.name()),
            RuleStep::Far => f.write_str(Step::Otherwise.name()),
            RuleStep::Pass(step) => write!(f, "{}/in-scope", step.name()),
            RuleStep::Forward(number) => write!(f, "{number}"),
            RuleStep::Mark => f.write_str("mark"),
            RuleStep::LeftToHost(why) => write!(f, "left-to-host/{}", why.name()),
            RuleStep::Guard => f.write_str("guard"),
            RuleStep::Enter => f.write_str("enter"),
            RuleStep::RouteSource => f.write_str("route-source"),
            RuleStep::NoRouteSource => f.write_str("route-source/none"),
            RuleStep::Ports => f.write_str("to-ports"),
            RuleStep::Portless => f.write_str("to-ports/no-ports"),
        }
    }
}
