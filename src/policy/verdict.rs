//! The steps of the policy, in their order.

use super::prefix::{LIMITED_BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6};
use super::{Family, Flow, InterfacePattern, Listed, Origin, Policy, Prefix, Protocol};
use std::fmt;

/// What happens to the source address of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Our rules leave it alone; later rules of the host may still act.
    KeepSource,
    /// It becomes the address of the outgoing interface.
    Masquerade,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::KeepSource => "keep source",
            Verdict::Masquerade => "masquerade",
        })
    }
}

/// The step of the policy that decided. The order here is the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// IPv6 without `enableIPv6`: we make no rules for it.
    FamilyDisabled,
    /// The outgoing interface is not in `outInterfaces`.
    OutInterface,
    /// The source is not in `sourceCIDRs`.
    Source,
    /// The source is in `excludeSourceCIDRs`.
    ExcludedSource,
    /// The source is an address of the outgoing interface itself.
    LocalSourceOnOutInterface,
    /// A local address on a TCP packet that opens no connection.
    MidStream,
    Bridged,
    /// The destination is in `masqueradeExceptionCIDRs`.
    Exception,
    LinkLocal,
    /// The destination is multicast or limited broadcast.
    Multicast,
    /// The destination is in `nonMasqueradeCIDRs`.
    Exempt,
    /// No step before this one applied.
    Otherwise,
}

impl Step {
    /// The verdict that the step gives.
    pub fn verdict(self) -> Verdict {
        match self {
            Step::Exception | Step::Otherwise => Verdict::Masquerade,
            _ => Verdict::KeepSource,
        }
    }

    /// A stable name, for logs and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Step::FamilyDisabled => "family-disabled",
            Step::OutInterface => "out-interface",
            Step::Source => "source",
            Step::ExcludedSource => "excluded-source",
            Step::LocalSourceOnOutInterface => "local-source-on-out-interface",
            Step::MidStream => "local-source-not-opening",
            Step::Bridged => "bridged",
            Step::Exception => "exception",
            Step::LinkLocal => "link-local",
            Step::Multicast => "multicast",
            Step::Exempt => "exempt",
            Step::Otherwise => "otherwise",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Step::FamilyDisabled => "IPv6 is not enabled (enableIPv6)",
            Step::OutInterface => "the outgoing interface is not in outInterfaces",
            Step::Source => "the source is not in sourceCIDRs",
            Step::ExcludedSource => "the source is in excludeSourceCIDRs",
            Step::LocalSourceOnOutInterface => "the source is an address of the outgoing interface itself",
            Step::MidStream => "a TCP packet of the host's own that opens no connection",
            Step::Bridged => "a bridged frame",
            Step::Exception => "the destination is in masqueradeExceptionCIDRs",
            Step::LinkLocal => "the destination is link-local",
            Step::Multicast => "the destination is multicast or limited broadcast",
            Step::Exempt => "the destination is in nonMasqueradeCIDRs",
            Step::Otherwise => "no exemption applies",
        }
    }
}

/// Who decided: the step, and where a list decided, the entry and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub step: Step,
    /// The prefix that matched, for steps that look in a range.
    pub prefix: Option<Prefix>,
    /// The interface pattern that matched, for `!name`.
    pub interface: Option<InterfacePattern>,
    /// Where the prefix or pattern was written; `None` for steps that no list decides.
    pub origin: Option<Origin>,
}

impl Provenance {
    fn step(step: Step) -> Self {
        Provenance { step, prefix: None, interface: None, origin: None }
    }

    fn prefix(step: Step, entry: &Listed<Prefix>) -> Self {
        Provenance { prefix: Some(entry.value), origin: Some(entry.origin.clone()), ..Provenance::step(step) }
    }

    fn range(step: Step, prefix: Prefix) -> Self {
        Provenance { prefix: Some(prefix), origin: Some(Origin::Default), ..Provenance::step(step) }
    }
}

impl Policy {
    /// What happens to a flow, and who said so. First match wins.
    pub fn verdict(&self, flow: &Flow) -> (Verdict, Provenance) {
        let provenance = self.decide(flow);
        (provenance.step.verdict(), provenance)
    }

    fn decide(&self, flow: &Flow) -> Provenance {
        if !self.enables(Family::of(flow.destination)) {
            return Provenance::step(Step::FamilyDisabled);
        }
        self.out_of_scope(flow)
            .or_else(|| self.guarded(flow))
            .or_else(|| self.exceptions.find(flow.destination).map(|e| Provenance::prefix(Step::Exception, e)))
            .or_else(|| self.range(flow))
            .or_else(|| self.exempt.find(flow.destination).map(|e| Provenance::prefix(Step::Exempt, e)))
            .unwrap_or(Provenance::step(Step::Otherwise))
    }

    fn out_of_scope(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(out) = &flow.out_interface {
            let refused = |entry: &&Listed<InterfacePattern>| entry.value.negated && entry.value.matches(out);
            if let Some(entry) = self.out_interfaces.iter().find(refused) {
                return Some(Provenance {
                    interface: Some(entry.value.clone()),
                    origin: Some(entry.origin.clone()),
                    ..Provenance::step(Step::OutInterface)
                });
            }
            let mut wanted = self.out_interfaces.iter().filter(|entry| !entry.value.negated).peekable();
            if wanted.peek().is_some() && !wanted.any(|entry| entry.value.matches(out)) {
                return Some(Provenance::step(Step::OutInterface));
            }
        }
        let source = flow.source?;
        if !self.sources.is_empty() && !self.sources.contains(source) {
            return Some(Provenance::step(Step::Source));
        }
        self.excluded_sources.find(source).map(|entry| Provenance::prefix(Step::ExcludedSource, entry))
    }

    fn guarded(&self, flow: &Flow) -> Option<Provenance> {
        if self.masq_local_source {
            return None;
        }
        let step = if flow.source_on_out_interface {
            Step::LocalSourceOnOutInterface
        } else if flow.source_is_local && flow.protocol == Protocol::Tcp && !flow.opens_connection {
            Step::MidStream
        } else if flow.bridged {
            Step::Bridged
        } else {
            return None;
        };
        Some(Provenance::step(step))
    }

    fn range(&self, flow: &Flow) -> Option<Provenance> {
        let link_local = self.link_local(Family::of(flow.destination)).map(|prefix| (Step::LinkLocal, prefix));
        let multicast = self.multicast(Family::of(flow.destination)).iter().map(|prefix| (Step::Multicast, *prefix));
        link_local
            .into_iter()
            .chain(multicast)
            .find(|(_, prefix)| prefix.contains(flow.destination))
            .map(|(step, prefix)| Provenance::range(step, prefix))
    }

    /// The link-local range of a family that keeps its source under this policy.
    pub fn link_local(&self, family: Family) -> Option<Prefix> {
        match family {
            Family::V4 => (!self.masq_link_local).then_some(LINK_LOCAL_V4),
            Family::V6 => (!self.masq_link_local_ipv6).then_some(LINK_LOCAL_V6),
        }
    }

    /// The multicast and broadcast ranges of a family that keep their source under this policy.
    pub fn multicast(&self, family: Family) -> &'static [Prefix] {
        match family {
            _ if self.masq_multicast => &[],
            Family::V4 => &[MULTICAST_V4, LIMITED_BROADCAST],
            Family::V6 => &[MULTICAST_V6],
        }
    }
}
