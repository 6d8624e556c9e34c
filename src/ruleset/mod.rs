//! The policy of one family as an ordered list of statements that both backends can say in their own words.
//!
//! Pure. A statement is asked for the first packet of a flow whose destination is not local; the first one that
//! has an outcome for the packet ends it.

#![forbid(unsafe_code)]

mod name;

pub use name::{ChainName, ChainNameError};

use crate::policy::{Family, InterfacePattern, Policy, PortRanges, Prefix, PrefixSet, Step, Verdict};
use std::sync::Arc;

/// Where our chain sits among the other nat postrouting chains or rules of the host (`jumpPosition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JumpPosition {
    /// Kept in front of every other rule.
    First,
    /// Appended when created, then left where it is.
    #[default]
    Last,
}

/// What the host says that changes which rules are safe to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// `net.bridge.bridge-nf-call-iptables` is 1: bridged IPv4 frames reach our rules.
    pub bridged_ipv4: bool,
    /// `net.bridge.bridge-nf-call-ip6tables` is 1: bridged IPv6 frames reach our rules.
    pub bridged_ipv6: bool,
}

impl HostFacts {
    /// The sysctl that decides it.
    pub fn sysctl(family: Family) -> &'static str {
        match family {
            Family::V4 => "net.bridge.bridge-nf-call-iptables",
            Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
        }
    }

    /// Whether bridged frames of the family reach our rules.
    pub fn bridged(self, family: Family) -> bool {
        match family {
            Family::V4 => self.bridged_ipv4,
            Family::V6 => self.bridged_ipv6,
        }
    }
}

/// The prefixes of one list in one family, aggregated. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which list: becomes the name of a set.
    pub kind: GroupKind,
    /// The prefixes in the order in which they were written; none touches another.
    pub prefixes: Arc<[Prefix]>,
}

/// The lists that a policy can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// `sourceCIDRs`.
    Sources,
    /// `excludeSourceCIDRs`.
    ExcludedSources,
    /// `masqueradeExceptionCIDRs`.
    Exceptions,
    /// `nonMasqueradeCIDRs`.
    Exempt,
}

impl GroupKind {
    /// Every kind, in the order in which they are asked.
    pub const ALL: [GroupKind; 4] =
        [GroupKind::Sources, GroupKind::ExcludedSources, GroupKind::Exceptions, GroupKind::Exempt];

    /// The word for it in set names.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Sources => "sources",
            GroupKind::ExcludedSources => "excluded-sources",
            GroupKind::Exceptions => "exceptions",
            GroupKind::Exempt => "exempt",
        }
    }
}

/// What a statement looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The outgoing interface matches one of these; the patterns are positive, whatever their `negated` says.
    OutInterface(Vec<InterfacePattern>),
    /// The source address is in the group.
    Source(Group),
    /// The destination address is in the group.
    Destination(Group),
    /// The destination address is in a fixed range.
    Range(Prefix),
    /// The source is an address of the outgoing interface.
    LocalSourceOnOutInterface,
    /// The source is local and the packet is TCP without being a lone SYN.
    LocalSourceNotOpening,
    /// The frame was bridged.
    Bridged,
    /// Always.
    Always,
}

/// What follows from a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Where the condition holds, this verdict; else ask on.
    When(Verdict),
    /// Where the condition does *not* hold, keep the source; else ask on. A gate.
    KeepUnless,
}

/// One statement: a step of the policy in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The step that it implements.
    pub step: Step,
    /// What it looks at.
    pub condition: Condition,
    /// What follows.
    pub outcome: Outcome,
}

/// How to masquerade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// Let the kernel choose source ports at random.
    pub random_fully: bool,
    /// Source ports to use for TCP, UDP and SCTP.
    pub to_ports: Option<PortRanges>,
}

/// All that one family of the kernel should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The family.
    pub family: Family,
    /// Where our place is among others.
    pub position: JumpPosition,
    /// The statements, in order; the last one is `Always` and masquerades.
    pub statements: Vec<Statement>,
    /// How the masquerade verdict is carried out.
    pub masquerade: Masquerade,
}

impl Ruleset {
    /// What a policy asks of one family; `None` when it asks nothing of it (IPv6 not enabled).
    pub fn new(policy: &Policy, family: Family, position: JumpPosition, host: HostFacts) -> Option<Self> {
        if !policy.enables(family) {
            return None;
        }
        let mut statements = Vec::new();
        scope(policy, family, &mut statements);
        guards(policy, family, host, &mut statements);
        destinations(policy, family, &mut statements);
        let masquerade = Masquerade { random_fully: policy.random_fully, to_ports: policy.to_ports.clone() };
        Some(Ruleset { family, position, statements, masquerade })
    }

    /// The groups that the statements name, in their order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.statements.iter().filter_map(|statement| match &statement.condition {
            Condition::Source(group) | Condition::Destination(group) => Some(group),
            _ => None,
        })
    }
}

fn scope(policy: &Policy, family: Family, statements: &mut Vec<Statement>) {
    let (negated, positive): (Vec<_>, Vec<_>) =
        policy.out_interfaces.iter().map(|entry| entry.value.clone()).partition(|pattern| pattern.negated);
    if !negated.is_empty() {
        statements.push(keep_when(Step::OutInterface, Condition::OutInterface(negated)));
    }
    if !positive.is_empty() {
        statements.push(keep_unless(Step::OutInterface, Condition::OutInterface(positive)));
    }
    if !policy.sources.is_empty() {
        let group = group(GroupKind::Sources, &policy.sources, family);
        statements.push(keep_unless(Step::Source, Condition::Source(group)));
    }
    if policy.excluded_sources.len(family) > 0 {
        let group = group(GroupKind::ExcludedSources, &policy.excluded_sources, family);
        statements.push(keep_when(Step::ExcludedSource, Condition::Source(group)));
    }
}

fn guards(policy: &Policy, family: Family, host: HostFacts, statements: &mut Vec<Statement>) {
    if policy.masq_local_source {
        return;
    }
    statements.push(keep_when(Step::LocalSourceOnOutInterface, Condition::LocalSourceOnOutInterface));
    statements.push(keep_when(Step::LocalSourceNotOpening, Condition::LocalSourceNotOpening));
    if host.bridged(family) {
        statements.push(keep_when(Step::Bridged, Condition::Bridged));
    }
}

fn destinations(policy: &Policy, family: Family, statements: &mut Vec<Statement>) {
    if policy.exceptions.len(family) > 0 {
        let group = group(GroupKind::Exceptions, &policy.exceptions, family);
        statements.push(Statement {
            step: Step::Exception,
            condition: Condition::Destination(group),
            outcome: Outcome::When(Verdict::Masquerade),
        });
    }
    let link_local = policy.link_local(family).map(|range| (Step::LinkLocal, range));
    let multicast = policy.multicast(family).iter().map(|range| (Step::Multicast, *range));
    statements
        .extend(link_local.into_iter().chain(multicast).map(|(step, range)| keep_when(step, Condition::Range(range))));
    if policy.exempt.len(family) > 0 {
        let group = group(GroupKind::Exempt, &policy.exempt, family);
        statements.push(keep_when(Step::Exempt, Condition::Destination(group)));
    }
    statements.push(Statement {
        step: Step::Otherwise,
        condition: Condition::Always,
        outcome: Outcome::When(Verdict::Masquerade),
    });
}

fn group(kind: GroupKind, set: &PrefixSet, family: Family) -> Group {
    Group { kind, prefixes: set.written_order(family).into() }
}

fn keep_when(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::When(Verdict::KeepSource) }
}

fn keep_unless(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::KeepUnless }
}
