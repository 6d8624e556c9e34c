//! The statements that a policy makes for one family.

use super::cidr_list::CidrList;
use super::facts::HostFacts;
use super::forward::ForwardRules;
use super::id::{ListId, ListKey, SectionId};
use super::matches::{Address, Fact, Match, Side, Test};
use super::near::Near;
use crate::policy::{
    self, AddressRange, Egress, Evaluation, Family, InterfaceClass, InterfacePattern, LongestPrefix, Policy,
    PortRanges, Prefix, PrefixSet, Protocol, RouteSources, Snat, Step, WithOrigin,
};

/// Where our chain sits among the other nat postrouting chains or rules of the host (`jumpPosition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JumpPosition {
    /// Kept in front of every other rule.
    First,
    /// Appended when created, then left where it is.
    #[default]
    Last,
}

/// A place in the packet path where our rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before connection tracking and all else.
    RawPrerouting,
    /// The nat table before routing: whose destination is rewritten.
    Prerouting,
    /// The same for packets of the host itself.
    Output,
    /// The nat table behind routing: whose source is rewritten.
    Postrouting,
}

impl Hook {
    /// Every place, in the order of the path.
    pub const ALL: [Hook; 4] = [Hook::RawPrerouting, Hook::Prerouting, Hook::Output, Hook::Postrouting];

    /// The packets for which the rules are asked.
    pub fn when<List>(self) -> Vec<Match<List>> {
        match self {
            Hook::RawPrerouting => Vec::new(),
            Hook::Prerouting | Hook::Output => vec![Match::Is(Test::Local(Address::Daddr))],
            Hook::Postrouting => vec![Match::IsNot(Test::Local(Address::Daddr))],
        }
    }
}

/// When a statement holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// An address is in the list.
    List(Side, CidrList),
    /// The destination is far from every range that keeps the source.
    Far(Near),
    /// All matches of one of the rows hold.
    AnyOf(Vec<Vec<Match>>),
}

/// What follows from a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Where the condition holds, keep the source; else ask on.
    Return,
    /// Where the condition does *not* hold, keep the source; else ask on. A gate.
    ReturnUnless,
    /// Where the condition holds, the source becomes what the section says; else ask on.
    Translate,
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

/// The address that a source becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewSource {
    /// That of the outgoing interface.
    Interface,
    /// One of these.
    Range(AddressRange),
    /// The one that the route prefers; where it prefers none, that of the outgoing interface.
    Route(RouteSources),
}

/// What sources become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The address.
    pub to: NewSource,
    /// Let the kernel choose source ports at random.
    pub random_fully: bool,
    /// Source ports to use for TCP, UDP and SCTP.
    pub to_ports: Option<PortRanges>,
}

/// The statements of one part of the policy, and how it rewrites sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionRules {
    /// The part.
    pub section: SectionId,
    /// What is asked before all else.
    pub first: Vec<Statement>,
    /// What leads to other parts; what none of them leads away is this part's. Empty where there are no others.
    pub branches: Vec<Branch>,
    /// The statements, in order; the last one decides always.
    pub statements: Vec<Statement>,
    /// What sources become.
    pub translation: Translation,
}

/// Where flows go that leave through some interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The interfaces; `None` for those of no branch before it.
    pub out: Option<Match>,
    /// The ways, of which the first one that is open is taken.
    pub ways: Vec<Way>,
}

/// A way to another part of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Which sources it is open to; `None` for all.
    pub sources: Option<CidrList>,
    /// To which of them it is closed; `None` for none, and never all of them.
    pub excluded: Option<CidrList>,
    /// The part.
    pub to: SectionId,
}

impl Way {
    /// The lists that are looked into.
    pub fn lists(&self) -> impl Iterator<Item = &CidrList> {
        self.sources.iter().chain(&self.excluded)
    }
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
    /// The port forwards.
    pub forwards: ForwardRules,
}

impl Ruleset {
    /// What a policy asks of one family; `None` when it asks nothing of it (IPv6 not enabled).
    pub fn new(policy: &Policy, family: Family, position: JumpPosition, host: &HostFacts) -> Option<Self> {
        if !policy.enables(family) {
            return None;
        }
        let build = Build { policy, family, host };
        let sections = build.sections();
        let hooks = vec![HookRules { hook: Hook::Postrouting, position, sections }];
        Some(Ruleset { family, hooks, forwards: ForwardRules::of(policy, family, host) })
    }

    fn sections(&self) -> impl Iterator<Item = &SectionRules> {
        self.hooks.iter().flat_map(|hook| &hook.sections)
    }

    /// The lists that the rules look into, in their order; not what is made of them.
    pub fn lists(&self) -> impl Iterator<Item = &CidrList> {
        self.sections().flat_map(|section| {
            let ways = section.branches.iter().flat_map(|branch| &branch.ways).flat_map(Way::lists);
            ways.chain(section.statements.iter().filter_map(|statement| match &statement.condition {
                Condition::List(_, list) => Some(list),
                Condition::Far(_) | Condition::AnyOf(_) => None,
            }))
        })
    }

    /// The sources that routes prefer, where sources become those.
    pub fn route_sources(&self) -> Option<&RouteSources> {
        self.sections().find_map(|section| match &section.translation.to {
            NewSource::Route(sources) => Some(sources),
            NewSource::Interface | NewSource::Range(_) => None,
        })
    }

    /// True when the kernel is to choose source ports at random.
    pub fn chooses_ports_at_random(&self) -> bool {
        self.sections().any(|section| section.translation.random_fully)
    }
}

/// A policy on its way to statements of one family.
struct Build<'p> {
    policy: &'p Policy,
    family: Family,
    host: &'p HostFacts,
}

impl<'p> Build<'p> {
    /// The top level, and the entries of `egress` that flows of the family can get to.
    fn sections(&self) -> Vec<SectionRules> {
        let branches = self.branches();
        let is_used = |entry: &&Egress| {
            let to = SectionId::Egress(entry.number);
            branches.iter().flat_map(|branch| &branch.ways).any(|way| way.to == to)
        };
        let entries: Vec<_> = self.policy.egress.iter().filter(is_used).collect();
        let top = self.policy.top();
        let inherited = self.ranges(&top, &Ranges::default());
        let rules = |section: policy::Section<'_>, first, branches, statements: Vec<Statement>| SectionRules {
            section: SectionId::of(section.entry),
            first,
            branches,
            statements: statements.into_iter().chain(self.treatment(&section, &inherited)).collect(),
            translation: self.translation(&section),
        };
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| rules(self.policy.section(entry), Vec::new(), Vec::new(), Vec::new()))
            .collect();
        let top = rules(top, self.exempt_from_all(), branches, self.scope());
        std::iter::once(top).chain(entries).collect()
    }

    fn exempt_from_all(&self) -> Vec<Statement> {
        let marks = self.policy.exempt_marks.iter().map(|mark| vec![Match::Is(Test::Mark(mark.value))]);
        let marks: Vec<_> = marks.collect();
        let marks = (!marks.is_empty()).then(|| return_when(Step::ExemptMark, Condition::AnyOf(marks)));
        let ipsec = Match::Holds(Fact::Ipsec);
        let ipsec = self.policy.exempt_ipsec.value.then(|| return_when(Step::ExemptIpsec, all(vec![ipsec])));
        marks.into_iter().chain(ipsec).collect()
    }

    /// By interface, then by source: a chain that is gone to can't come back to ask the next entry, and the kernel
    /// refuses more than 15 that lead on from one to the next.
    fn branches(&self) -> Vec<Branch> {
        if self.policy.egress.is_empty() {
            return Vec::new();
        }
        let patterns = |entry: &'p Egress| entry.out_interfaces.iter().map(|pattern| &pattern.value);
        let ways: Vec<_> = self.policy.egress.iter().map(|entry| self.way(entry)).collect();
        let classes = InterfaceClass::all(self.policy.egress.iter().flat_map(patterns));
        let branch = |class: InterfaceClass<'p>| {
            let in_class = self.policy.egress.iter().zip(&ways).filter(|(entry, _)| class.is_in(patterns(entry)));
            let ways = in_class.filter_map(|(_, way)| way.clone());
            Branch { out: out_interface(class), ways: ways.collect() }
        };
        classes.into_iter().map(branch).collect()
    }

    /// The way to an entry; `None` when no source of the family is in its scope.
    fn way(&self, entry: &Egress) -> Option<Way> {
        let to = SectionId::Egress(entry.number);
        let whole = [self.family.whole()];
        let written = entry.sources.sorted(self.family);
        let sources = if entry.sources.is_empty() { &whole } else { written.as_slice() };
        if sources.iter().all(|prefix| entry.excluded_sources.covers(*prefix)) {
            return None;
        }
        let list = |key, prefixes: &[Prefix]| CidrList { id: ListId { section: to, key }, prefixes: prefixes.into() };
        let excluded = entry.excluded_sources.sorted(self.family);
        Some(Way {
            sources: (sources != whole).then(|| list(ListKey::Sources, sources)),
            excluded: (!excluded.is_empty()).then(|| list(ListKey::ExcludedSources, &excluded)),
            to,
        })
    }

    /// The scope of the top level.
    fn scope(&self) -> Vec<Statement> {
        let top = self.policy.top();
        let mut statements = Vec::new();
        let (negated, positive): (Vec<_>, Vec<_>) = top.out_interfaces.iter().partition(|entry| entry.value.negated);
        if !negated.is_empty() {
            statements.push(return_when(Step::OutInterface, out_interfaces(&negated)));
        }
        if !positive.is_empty() {
            statements.push(return_unless(Step::OutInterface, out_interfaces(&positive)));
        }
        if !top.sources.is_empty() {
            let sources = self.list(SectionId::Top, ListKey::Sources, top.sources);
            statements.push(return_unless(Step::Source, Condition::List(Side::Saddr, sources)));
        }
        if top.excluded_sources.len(self.family) > 0 {
            let excluded = self.list(SectionId::Top, ListKey::ExcludedSources, top.excluded_sources);
            statements.push(return_when(Step::ExcludedSource, Condition::List(Side::Saddr, excluded)));
        }
        statements
    }

    /// What is asked of flows in scope.
    fn treatment(&self, section: &policy::Section<'_>, inherited: &Ranges) -> Vec<Statement> {
        if section.snat.value == Snat::Nothing {
            return vec![return_when(Step::NoSnat, all(Vec::new()))];
        }
        let mut statements = self.guards();
        let ranges = if section.entry.is_none() { inherited.clone() } else { self.ranges(section, inherited) };
        self.destinations(ranges, &mut statements);
        statements
    }

    fn translation(&self, section: &policy::Section<'_>) -> Translation {
        let to = match section.snat.value {
            Snat::To(addresses) => addresses.of(self.family).map_or(NewSource::Interface, NewSource::Range),
            Snat::RouteSource => NewSource::Route(self.host.network.sources.clone()),
            Snat::Masquerade | Snat::Nothing => NewSource::Interface,
        };
        Translation { to, random_fully: section.random_fully, to_ports: section.to_ports.cloned() }
    }

    fn guards(&self) -> Vec<Statement> {
        if self.policy.masq_local_source {
            return Vec::new();
        }
        let on_out_interface = Match::Is(Test::Local(Address::SaddrOnOutInterface));
        let tcp = Match::Is(Test::Protocol(Protocol::Tcp));
        let local = Match::Is(Test::Local(Address::Saddr));
        let mut statements = vec![
            return_when(Step::LocalSourceOnOutInterface, all(vec![on_out_interface])),
            return_when(Step::MidStream, all(vec![tcp, Match::IsNot(Test::OnlySyn), local])),
        ];
        if self.host.bridged(self.family) {
            statements.push(return_when(Step::Bridged, all(vec![Match::Holds(Fact::Bridged)])));
        }
        statements
    }

    fn destinations(&self, Ranges { exceptions, exempt, near }: Ranges, statements: &mut Vec<Statement>) {
        // What is near to nothing that keeps its source is translated whether it is an exception or not.
        statements.extend(near.map(|near| translate_when(Step::Otherwise, Condition::Far(near))));
        if let Some(list) = exceptions {
            statements.push(translate_when(Step::Exception, Condition::List(Side::Daddr, list)));
        }
        let range = |(step, range)| return_when(step, all(vec![Match::Is(Test::In(Side::Daddr, range))]));
        statements.extend(self.fixed_ranges().map(range));
        if let Some(list) = exempt {
            statements.push(return_when(Step::Exempt, Condition::List(Side::Daddr, list)));
        }
        statements.push(translate_when(Step::Otherwise, all(Vec::new())));
    }

    fn fixed_ranges(&self) -> impl Iterator<Item = (Step, Prefix)> {
        let link_local = self.policy.link_local(self.family).map(|range| (Step::LinkLocal, range));
        let multicast = self.policy.multicast(self.family).iter().map(|range| (Step::Multicast, *range));
        link_local.into_iter().chain(multicast)
    }

    /// The exceptions and the exemptions of a section. What an entry inherits is the very list of the top level.
    fn ranges(&self, section: &policy::Section<'_>, inherited: &Ranges) -> Ranges {
        let own = SectionId::of(section.entry);
        // The top level has all of its own.
        let has_own = |has: fn(&Egress) -> bool| section.entry.is_none_or(has);
        let has_own = (has_own(|entry| entry.exceptions.is_some()), has_own(|entry| entry.exempt.is_some()));
        match (self.policy.evaluation, has_own) {
            (_, (false, false)) => inherited.clone(),
            (Evaluation::Ordered, (own_exceptions, own_exempt)) => {
                let list = |is_own: bool, key, set: &PrefixSet, inherited: &Option<CidrList>| match is_own {
                    true => (set.len(self.family) > 0).then(|| self.list(own, key, set)),
                    false => inherited.clone(),
                };
                let exempt = list(own_exempt, ListKey::Exempt, section.exempt, &inherited.exempt);
                Ranges {
                    exceptions: list(own_exceptions, ListKey::Exceptions, section.exceptions, &inherited.exceptions),
                    near: if own_exempt { self.near(exempt.as_ref()) } else { inherited.near.clone() },
                    exempt,
                }
            }
            (Evaluation::LongestPrefix, _) => {
                let LongestPrefix { mut exceptions, exempt } =
                    LongestPrefix::of(section.exceptions, section.exempt, self.family);
                // Elsewhere they get the verdict of what is in no range: one look-up is left.
                exceptions.retain(|prefix| self.fixed_ranges().any(|(_, range)| range.touches(*prefix)));
                let list = |key, prefixes: Vec<Prefix>| {
                    let id = ListId { section: own, key };
                    (!prefixes.is_empty()).then(|| CidrList { id, prefixes: prefixes.into() })
                };
                let (exceptions, exempt) = (list(ListKey::Exceptions, exceptions), list(ListKey::Exempt, exempt));
                Ranges { exceptions, near: self.near(exempt.as_ref()), exempt }
            }
        }
    }

    fn near(&self, exempt: Option<&CidrList>) -> Option<Near> {
        Near::of(exempt?, self.fixed_ranges().map(|(_, range)| range))
    }

    fn list(&self, section: SectionId, key: ListKey, set: &PrefixSet) -> CidrList {
        CidrList { id: ListId { section, key }, prefixes: set.written_order(self.family).into() }
    }
}

/// The ranges of one part of the policy.
#[derive(Debug, Clone, Default)]
struct Ranges {
    exceptions: Option<CidrList>,
    exempt: Option<CidrList>,
    near: Option<Near>,
}

fn out_interface(class: InterfaceClass<'_>) -> Option<Match> {
    let (name, prefix) = match class {
        InterfaceClass::Named(name) => (name, false),
        InterfaceClass::Beginning(name) => (name, true),
        InterfaceClass::Other => return None,
    };
    Some(Match::Is(Test::OutInterface { name: name.to_owned(), prefix }))
}

/// The patterns are positive, whatever their `negated` says.
fn out_interfaces(patterns: &[&WithOrigin<InterfacePattern>]) -> Condition {
    let row = |entry: &&WithOrigin<InterfacePattern>| {
        let InterfacePattern { name, prefix, negated: _ } = entry.value.clone();
        vec![Match::Is(Test::OutInterface { name, prefix })]
    };
    Condition::AnyOf(patterns.iter().map(row).collect())
}

fn all(matches: Vec<Match>) -> Condition {
    Condition::AnyOf(vec![matches])
}

fn return_when(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::Return }
}

fn return_unless(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::ReturnUnless }
}

fn translate_when(step: Step, condition: Condition) -> Statement {
    Statement { step, condition, outcome: Outcome::Translate }
}
