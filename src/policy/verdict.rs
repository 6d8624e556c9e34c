//! The steps of the policy, in their order.

use super::prefix::{LIMITED_BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6};
use super::{
    AddressRange, Evaluation, Family, Flow, Forward, ForwardMark, InterfacePattern, MaskedMark, Origin, Policy, Prefix,
    Protocol, Section, Snat, WithOrigin,
};
use std::fmt;

/// What happens to the source address of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Our rules leave it alone; later rules of the host may still act.
    Return,
    /// It becomes the address of the outgoing interface.
    Masquerade,
    /// It becomes an address of these; of several, always the same one for one source.
    Snat(AddressRange),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Return => f.write_str("keep source"),
            Verdict::Masquerade => f.write_str("masquerade"),
            Verdict::Snat(range) => write!(f, "snat to {range}"),
        }
    }
}

/// The step of the policy that decided. The order here is the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// IPv6 without `enableIPv6`: we make no rules for it.
    FamilyDisabled,
    /// The packet mark has the bit of `markMasqBit`.
    ForwardMark,
    /// A flow that a forward of `portForwards` sent to its target, and that the chain of `externalSetMarkChain` marks.
    ForwardExternalMark,
    /// A flow that a forward of `portForwards` sent to its target, from 127.0.0.0/8.
    ForwardLocalhost,
    /// The same, from a client that the target must see as the host (`hairpin`).
    ForwardHairpin,
    /// The same, from anywhere else.
    Forwarded,
    /// The packet mark is in `exemptMarks`.
    ExemptMark,
    /// The route carries an IPsec policy, and `exemptIpsec` is set.
    ExemptIpsec,
    /// The outgoing interface is not in `outInterfaces`.
    OutInterface,
    /// The source is not in `sourceCIDRs`.
    Source,
    /// The source is in `excludeSourceCIDRs`.
    ExcludedSource,
    /// Sources stay: `snat` is `none`.
    NoSnat,
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
    /// True when the source becomes what `snat` says; else it stays.
    pub fn translates(self) -> bool {
        matches!(
            self,
            Step::ForwardMark | Step::ForwardLocalhost | Step::ForwardHairpin | Step::Exception | Step::Otherwise
        )
    }

    /// A stable name, for logs and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Step::FamilyDisabled => "family-disabled",
            Step::ForwardMark => "forward-mark",
            Step::ForwardExternalMark => "forward-external-mark",
            Step::ForwardLocalhost => "forward-localhost",
            Step::ForwardHairpin => "forward-hairpin",
            Step::Forwarded => "forwarded",
            Step::ExemptMark => "exempt-mark",
            Step::ExemptIpsec => "exempt-ipsec",
            Step::OutInterface => "out-interface",
            Step::Source => "source",
            Step::ExcludedSource => "excluded-source",
            Step::NoSnat => "no-snat",
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
            Step::ForwardMark => "the packet mark has the bit of markMasqBit",
            Step::ForwardExternalMark => {
                "a forward of portForwards that another program marks and translates (externalSetMarkChain)"
            }
            Step::ForwardLocalhost => "a forward of portForwards, from 127.0.0.0/8",
            Step::ForwardHairpin => "a forward of portForwards whose target would answer past this host (hairpin)",
            Step::Forwarded => "a forward of portForwards: the target sees the client",
            Step::ExemptMark => "the packet mark is in exemptMarks",
            Step::ExemptIpsec => "an IPsec policy will encrypt it (exemptIpsec)",
            Step::OutInterface => "the outgoing interface is not in outInterfaces",
            Step::Source => "the source is not in sourceCIDRs",
            Step::ExcludedSource => "the source is in excludeSourceCIDRs",
            Step::NoSnat => "snat is none",
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
    /// The mark that matched.
    pub mark: Option<MaskedMark>,
    /// Where the prefix, the pattern or the mark was written; `None` for steps that no list decides.
    pub origin: Option<Origin>,
    /// The entry of `egress` whose scope holds the flow, and where it was written; `None` for the top level.
    pub entry: Option<WithOrigin<String>>,
    /// What `snat` says and where, for flows that are translated.
    pub snat: Option<WithOrigin<Snat>>,
}

impl Provenance {
    pub(super) fn step(step: Step) -> Self {
        Provenance { step, prefix: None, interface: None, mark: None, origin: None, entry: None, snat: None }
    }

    pub(super) fn prefix(step: Step, entry: &WithOrigin<Prefix>) -> Self {
        Provenance { prefix: Some(entry.value), origin: Some(entry.origin.clone()), ..Provenance::step(step) }
    }

    fn range(step: Step, prefix: Prefix) -> Self {
        Provenance { prefix: Some(prefix), origin: Some(Origin::Default), ..Provenance::step(step) }
    }
}

impl Policy {
    /// What happens to a flow, and who said so. First match wins.
    pub fn verdict(&self, flow: &Flow) -> (Verdict, Provenance) {
        let family = Family::of(flow.destination);
        if !self.enables(family) {
            return (Verdict::Return, Provenance::step(Step::FamilyDisabled));
        }
        if let Some(provenance) = self.forwarded(flow) {
            let translates = provenance.step.translates();
            return (if translates { Verdict::Masquerade } else { Verdict::Return }, provenance);
        }
        if let Some(provenance) = self.exempt_from_all(flow) {
            return (Verdict::Return, provenance);
        }
        let section = self.sections().find(|section| section.holds(flow)).unwrap_or(self.top());
        let decided = self.decide(&section, flow);
        let translates = decided.step.translates();
        let verdict =
            if translates { section.snat.value.verdict(family, flow.preferred_source) } else { Verdict::Return };
        let entry = section.entry.map(|entry| WithOrigin { value: entry.name.clone(), origin: entry.origin.clone() });
        (verdict, Provenance { entry, snat: translates.then(|| section.snat.clone()), ..decided })
    }

    /// What becomes of a flow that one of the forwards led to its target; `None` for all others.
    fn forwarded(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(marked) = self.marked(flow) {
            return Some(marked);
        }
        let port = flow.destination_port.filter(|_| flow.dnated)?;
        let forwards = || self.forwards_to(flow.destination, flow.protocol, port);
        let first = forwards().next()?;
        let by =
            |forward: &Forward, step| Provenance { origin: Some(forward.origin.clone()), ..Provenance::step(step) };
        let hidden = forwards().filter_map(|forward| Some((forward, forward.hides(flow)?)));
        // Where several lead to one target, what `localhost` says comes first.
        let hidden = hidden.min_by_key(|(_, (step, _))| *step);
        Some(match (hidden, self.forward_mark.as_ref().map(|mark| &mark.value)) {
            (Some((forward, (step, prefix))), None) => Provenance { prefix, ..by(forward, step) },
            (Some((forward, (_, prefix))), Some(ForwardMark::Chain(_))) => {
                Provenance { prefix, ..by(forward, Step::ForwardExternalMark) }
            }
            (None, _) | (_, Some(ForwardMark::Bit(_))) => by(first, Step::Forwarded),
        })
    }

    fn exempt_from_all(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(entry) = self.exempt_marks.iter().find(|entry| entry.value.matches(flow.mark)) {
            let mark = Some(entry.value);
            return Some(Provenance { mark, origin: Some(entry.origin.clone()), ..Provenance::step(Step::ExemptMark) });
        }
        let origin = Some(self.exempt_ipsec.origin.clone());
        (self.exempt_ipsec.value && flow.ipsec).then(|| Provenance { origin, ..Provenance::step(Step::ExemptIpsec) })
    }

    fn decide(&self, section: &Section<'_>, flow: &Flow) -> Provenance {
        let no_snat = || {
            let origin = Some(section.snat.origin.clone());
            (section.snat.value == Snat::Nothing).then(|| Provenance { origin, ..Provenance::step(Step::NoSnat) })
        };
        section
            .out_of_scope(flow)
            .or_else(no_snat)
            .or_else(|| self.guarded(flow))
            .or_else(|| self.destination(section, flow))
            .unwrap_or(Provenance::step(Step::Otherwise))
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

    fn destination(&self, section: &Section<'_>, flow: &Flow) -> Option<Provenance> {
        let exception = section.exceptions.find(flow.destination);
        let exempt = section.exempt.find(flow.destination);
        let longest = self.evaluation == Evaluation::LongestPrefix;
        let overruled = |exception: &WithOrigin<Prefix>, exempt: &WithOrigin<Prefix>| {
            longest && exempt.value.length() > exception.value.length()
        };
        match (exception, exempt) {
            (Some(exception), Some(exempt)) if overruled(exception, exempt) => self.range(flow),
            (Some(exception), _) => Some(Provenance::prefix(Step::Exception, exception)),
            (None, _) => self.range(flow),
        }
        .or_else(|| exempt.map(|entry| Provenance::prefix(Step::Exempt, entry)))
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

    /// The link-local range of a family that keeps its source under this policy. `fixed_ranges` in `ruleset/build.rs` makes
    /// rules of it.
    pub fn link_local(&self, family: Family) -> Option<Prefix> {
        match family {
            Family::V4 => (!self.masq_link_local).then_some(LINK_LOCAL_V4),
            Family::V6 => (!self.masq_link_local_ipv6).then_some(LINK_LOCAL_V6),
        }
    }

    /// The multicast and broadcast ranges of a family that keep their source under this policy. `fixed_ranges` in
    /// `ruleset/build.rs` makes rules of them.
    pub fn multicast(&self, family: Family) -> &'static [Prefix] {
        match family {
            _ if self.masq_multicast => &[],
            Family::V4 => &[MULTICAST_V4, LIMITED_BROADCAST],
            Family::V6 => &[MULTICAST_V6],
        }
    }
}
