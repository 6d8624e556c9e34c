//! The statements that a policy makes for one family.

use super::id::{ListId, ListKey, Section};
use super::matches::{Address, Match, Side, Test};
use crate::policy::{Family, InterfacePattern, Listed, Policy, PortRanges, Prefix, PrefixSet, Protocol, Step, Verdict};
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

/// A place in the packet path where our rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// The nat table behind routing: whose source is rewritten.
    Postrouting,
}

impl Hook {
    /// Every place, in the order of the path.
    pub const ALL: [Hook; 1] = [Hook::Postrouting];

    /// The packets for which the rules are asked.
    pub fn when<List>(self) -> Vec<Match<List>> {
        match self {
            Hook::Postrouting => vec![Match::is_not(Test::Local(Address::Daddr))],
        }
    }
}

/// The prefixes of one list in one family, aggregated. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidrList {
    /// Which list it is.
    pub id: ListId,
    /// The prefixes in the order in which they were written; none touches another.
    pub prefixes: Arc<[Prefix]>,
}

/// When a statement holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// An address is in the list.
    List(Side, CidrList),
    /// All matches of one of the rows hold.
    AnyOf(Vec<Vec<Match>>),
}

/// What follows from a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Where the condition holds, this verdict; else ask on.
    When(Verdict),
    /// Where the condition does *not* hold, keep the source; else ask on. A gate.
    ReturnUnless,
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

/// The statements of one part of the policy, and how it rewrites sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionRules {
    /// The part.
    pub section: Section,
    /// The statements, in order; the last one masquerades always.
    pub statements: Vec<Statement>,
    /// How the masquerade verdict is carried out.
    pub masquerade: Masquerade,
}

/// What is asked at one place in the packet path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRules {
    /// The place.
    pub hook: Hook,
    /// Where ours is among those of others.
    pub position: JumpPosition,
    /// The parts of the policy that are asked there, in order.
    pub sections: Vec<SectionRules>,
}

/// All that one family of the kernel should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The family.
    pub family: Family,
    /// What is asked, by its place.
    pub hooks: Vec<HookRules>,
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
        let sections = vec![SectionRules { section: Section::Top, statements, masquerade }];
        Some(Ruleset { family, hooks: vec![HookRules { hook: Hook::Postrouting, position, sections }] })
    }

    fn sections(&self) -> impl Iterator<Item = &SectionRules> {
        self.hooks.iter().flat_map(|hook| &hook.sections)
    }

    /// The lists that the statements look into, in their order.
    pub fn lists(&self) -> impl Iterator<Item = &CidrList> {
        self.sections().flat_map(|section| &section.statements).filter_map(|statement| match &statement.condition {
            Condition::List(_, list) => Some(list),
            Condition::AnyOf(_) => None,
        })
    }

    /// True when the kernel is to choose source ports at random.
    pub fn chooses_ports_at_random(&self) -> bool {
        self.sections().any(|section| section.masquerade.random_fully)
    }
}

fn scope(policy: &Policy, family: Family, statements: &mut Vec<Statement>) {
    let (negated, positive): (Vec<_>, Vec<_>) = policy.out_interfaces.iter().partition(|entry| entry.value.negated);
    if !negated.is_empty() {
        statements.push(return_when(Step::OutInterface, out_interfaces(&negated)));
    }
    if !positive.is_empty() {
        statements.push(return_unless(Step::OutInterface, out_interfaces(&positive)));
    }
    if !policy.sources.is_empty() {
        let sources = list(Side::Saddr, ListKey::Sources, &policy.sources, family);
        statements.push(return_unless(Step::Source, sources));
    }
    if policy.excluded_sources.len(family) > 0 {
        let excluded = list(Side::Saddr, ListKey::ExcludedSources, &policy.excluded_sources, family);
        statements.push(return_when(Step::ExcludedSource, excluded));
    }
}

fn guards(policy: &Policy, family: Family, host: HostFacts, statements: &mut Vec<Statement>) {
    if policy.masq_local_source {
        return;
    }
    let on_out_interface = Match::is(Test::Local(Address::SaddrOnOutInterface));
    statements.push(return_when(Step::LocalSourceOnOutInterface, all(vec![on_out_interface])));
    let tcp = Match::is(Test::Protocol(Protocol::Tcp));
    let local = Match::is(Test::Local(Address::Saddr));
    statements.push(return_when(Step::MidStream, all(vec![tcp, Match::is_not(Test::OnlySyn), local])));
    if host.bridged(family) {
        statements.push(return_when(Step::Bridged, all(vec![Match::is(Test::Bridged)])));
    }
}

fn destinations(policy: &Policy, family: Family, statements: &mut Vec<Statement>) {
    if policy.exceptions.len(family) > 0 {
        let exceptions = list(Side::Daddr, ListKey::Exceptions, &policy.exceptions, family);
        statements.push(masquerade_when(Step::Exception, exceptions));
    }
    let link_local = policy.link_local(family).map(|range| (Step::LinkLocal, range));
    let multicast = policy.multicast(family).iter().map(|range| (Step::Multicast, *range));
    let range = |(step, range)| return_when(step, all(vec![Match::is(Test::In(Side::Daddr, range))]));
    statements.extend(link_local.into_iter().chain(multicast).map(range));
    if policy.exempt.len(family) > 0 {
        statements.push(return_when(Step::Exempt, list(Side::Daddr, ListKey::Exempt, &policy.exempt, family)));
    }
    statements.push(masquerade_when(Step::Otherwise, all(Vec::new())));
}

fn list(side: Side, key: ListKey, set: &PrefixSet, family: Family) -> Condition {
    let id = ListId { section: Section::Top, key };
    Condition::List(side, CidrList { id, prefixes: set.written_order(family).into() })
}

/// The patterns are positive, whatever their `negated` says.
fn out_interfaces(patterns: &[&Listed<InterfacePattern>]) -> Condition {
    let row = |entry: &&Listed<InterfacePattern>| {
        let InterfacePattern { name, prefix, negated: _ } = entry.value.clone();
        vec![Match::is(Test::OutInterface { name, prefix })]
    };
    Condition::AnyOf(patterns.iter().map(row).collect())
}

fn all(matches: Vec<Match>) -> Condition {
    Condition::AnyOf(vec![matches])
}

fn return_when(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::When(Verdict::KeepSource) }
}

fn return_unless(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::ReturnUnless }
}

fn masquerade_when(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::When(Verdict::Masquerade) }
}
