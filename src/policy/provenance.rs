//! Who decided: the steps of the policy, in their order, and where it says so.

use super::{InterfacePattern, MaskedMark, Origin, Prefix, Snat, WithOrigin};

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

    pub(super) fn range(step: Step, prefix: Prefix) -> Self {
        Provenance { prefix: Some(prefix), origin: Some(Origin::Default), ..Provenance::step(step) }
    }
}
