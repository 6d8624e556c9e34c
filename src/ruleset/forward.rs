//! The port forwards of one family, as the kernel is asked.

use super::cidr_list::CidrList;
use super::facts::HostFacts;
use super::id::{ListId, ListKey, NotForwarded, RuleStep, SectionId};
use super::matches::{Match, Side, Test, within};
use crate::policy::{
    AddressSet, Family, Forward, ForwardMark, Hairpin, HostAddress, InterfacePattern, LINK_LOCAL_V6, LOOPBACK_V4,
    LOOPBACK_V6, Policy, PortRange, Prefix, Protocol, Step, WithOrigin,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Clients are told apart by so many rows at most for each interface; beyond that a gate looks into lists.
const MOST_ROWS: usize = 64;

/// All forwards of a family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardRules {
    /// Those of one address of the host before those of any, each by protocol and port. No two of the same host address
    /// want the same packet.
    pub rules: Arc<[ForwardRule]>,
    /// The lists of clients that gates look into, each once.
    pub lists: Arc<[CidrList]>,
    /// How those are marked whose source is to be translated; without, connection tracking tells which were forwarded.
    pub mark: Option<WithOrigin<ForwardMark>>,
}

/// One protocol of one forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRule {
    /// The number of the forward in the policy, from 1.
    pub number: u32,
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host; `None` for every one but those of loopback.
    pub host: Option<IpAddr>,
    /// The ports of the host.
    pub ports: PortRange,
    /// A packet must pass one of the rows, all matches of it; an empty row is passed always. What passes none is left
    /// to the host. The rows look at the incoming interface and the source.
    pub gates: Vec<Vec<Match>>,
    /// The target.
    pub to: IpAddr,
    /// What the first port becomes; the others follow it.
    pub port: u16,
    /// Local processes are forwarded as well (which have no incoming interface).
    pub from_host: bool,
    /// And through 127.0.0.0/8; `host` is then `None` or of that range.
    pub localhost: bool,
    /// The clients that are masqueraded on their way to the target.
    pub hairpin: Vec<Prefix>,
}

impl ForwardRule {
    /// Its place among the others.
    fn place(&self) -> (bool, Option<IpAddr>, Protocol, u16) {
        (self.host.is_none(), self.host, self.protocol, self.ports.first)
    }

    /// The ports that the target sees.
    pub fn target_ports(&self) -> PortRange {
        PortRange { first: self.port, last: self.port + (self.ports.last - self.ports.first) }
    }

    /// The clients that its target must see as the host, and why.
    pub fn hidden(&self) -> impl Iterator<Item = (Step, Prefix)> {
        let localhost = self.localhost.then_some((Step::ForwardLocalhost, LOOPBACK_V4));
        localhost.into_iter().chain(self.hairpin.iter().map(|from| (Step::ForwardHairpin, *from)))
    }

    /// True where packets of the host itself would pass a row of its gates and are not meant: they have no incoming
    /// interface, and where interfaces are only left out it is none of these.
    pub fn only_arriving(&self, gate: &[Match]) -> bool {
        let names_one = |one: &Match| matches!(one, Match::Is(Test::InInterface { .. }));
        !self.from_host && !gate.iter().any(names_one)
    }

    /// What its gates become: see [`Self::through`].
    pub fn gate_rules<'a>(&self, mark: Option<&'a ForwardMark>) -> impl Iterator<Item = GateRule<'a>> {
        self.gates.iter().flat_map(move |gate| self.through(gate, mark))
    }

    /// What a row of its gates becomes: a rule that sends flows to the target, behind one for each client that is marked.
    pub fn through<'a>(&self, gate: &[Match], mark: Option<&'a ForwardMark>) -> Vec<GateRule<'a>> {
        let only_arriving = self.only_arriving(gate);
        let rule = |when, mark| GateRule { number: self.number, when, only_arriving, mark };
        let asks_source = |one: &&Match| matches!(one.test(), Some(Test::In(Side::Saddr, _)));
        let hidden = mark.map(|mark| (self.hidden_behind(gate), mark));
        let marked = hidden
            .into_iter()
            .flat_map(|(hidden, mark)| hidden.into_iter().map(move |client| (within(Side::Saddr, client), mark)));
        let others = || gate.iter().filter(|one| !asks_source(one)).cloned();
        let marks = marked.map(|(client, mark)| rule(others().chain(client).collect(), Some(mark)));
        marks.chain([rule(gate.to_vec(), None)]).collect()
    }

    /// Those of the clients that its target must see as the host that pass a row of its gates.
    pub fn hidden_behind(&self, gate: &[Match]) -> Vec<Prefix> {
        let mut hidden = AddressSet::of(self.hidden().map(|(_, from)| from));
        let whole = Match::Is(Test::In(Side::Saddr, Family::of(self.to).whole()));
        for one in [&whole].into_iter().chain(gate) {
            match one {
                Match::Is(Test::In(Side::Saddr, prefix)) => {
                    hidden = hidden.without(&hidden.without(&AddressSet::of([*prefix])));
                }
                Match::IsNot(Test::In(Side::Saddr, prefix)) => hidden = hidden.without(&AddressSet::of([*prefix])),
                Match::Is(_) | Match::IsNot(_) | Match::Holds(_) => {}
            }
        }
        hidden.prefixes()
    }

    /// True when it has no gate.
    pub fn is_open(&self) -> bool {
        self.gates.iter().any(Vec::is_empty)
    }

    /// True when a port stays what it is.
    pub fn keeps_ports(&self) -> bool {
        self.port == self.ports.first
    }
}

/// A rule that a gate becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRule<'a> {
    /// The number of the forward.
    pub number: u32,
    /// What must hold.
    pub when: Vec<Match>,
    /// Packets of the host itself are not meant.
    pub only_arriving: bool,
    /// It marks and leads no further; without, it sends flows to the target.
    pub mark: Option<&'a ForwardMark>,
}

impl GateRule<'_> {
    /// What the rule is there for.
    pub fn step(&self) -> RuleStep {
        if self.mark.is_some() { RuleStep::Mark } else { RuleStep::Forward(self.number) }
    }
}

/// The destinations that no forward is for. Loopback addresses can be let through ([`ForwardRule::localhost`]).
pub fn not_forwarded(family: Family) -> Vec<(Prefix, NotForwarded)> {
    let loopback = NotForwarded::Loopback(family);
    match family {
        Family::V4 => vec![(LOOPBACK_V4, loopback)],
        Family::V6 => vec![(LOOPBACK_V6, loopback), (LINK_LOCAL_V6, NotForwarded::LinkLocal)],
    }
}

/// What is dropped where loopback addresses are let through: what comes to them from elsewhere.
pub fn guarded<List>() -> Vec<Match<List>> {
    let lo = Test::InInterface { name: "lo".to_owned(), prefix: false };
    vec![Match::IsNot(lo), Match::Is(Test::In(Side::Daddr, LOOPBACK_V4))]
}

impl ForwardRules {
    /// True where loopback addresses are let through, and have to be guarded.
    pub fn has_localhost(&self) -> bool {
        self.rules.iter().any(|rule| rule.localhost)
    }

    /// What bears the mark is masqueraded, whoever marked it. Of another program's mark nothing is known.
    pub fn is_marked<List>(&self) -> Option<Match<List>> {
        self.mark()?.bit().map(|bit| Match::Is(Test::Mark(bit)))
    }

    /// How those are marked whose source is to be translated.
    pub fn mark(&self) -> Option<&ForwardMark> {
        self.mark.as_ref().map(|mark| &mark.value)
    }

    /// The one without gates that takes a port of an address of the host, or of any; what has gates overlaps none of these.
    pub fn open(&self, host: Option<IpAddr>, protocol: Protocol, port: u16) -> Option<&ForwardRule> {
        let behind = self.rules.partition_point(|rule| rule.place() <= (host.is_none(), host, protocol, port));
        let found = self.rules[..behind].last()?;
        let is_it = found.is_open() && (found.host, found.protocol) == (host, protocol) && port <= found.ports.last;
        is_it.then_some(found)
    }

    /// What the forwards of a policy ask of one family.
    pub fn of(policy: &Policy, family: Family, host: &HostFacts) -> Self {
        let serving = policy.forwards.iter().filter(|forward| forward.serves(family));
        let mut lists = Lists::default();
        let mut rules: Vec<ForwardRule> =
            serving.flat_map(|forward| rules_of(forward, family, host, &mut lists)).collect();
        rules.sort_by_key(ForwardRule::place);
        let mark = policy.forward_mark.clone().filter(|_| !rules.is_empty());
        ForwardRules { rules: rules.into(), lists: lists.all.into(), mark }
    }

    /// The same with a row for each prefix of the lists, for a backend without sets.
    pub fn spelled_out(&self) -> Self {
        let spell_out = |rule: &ForwardRule| {
            let gates = rule.gates.iter().flat_map(|row| self.rows(row, Family::of(rule.to))).collect();
            ForwardRule { gates, ..rule.clone() }
        };
        ForwardRules {
            rules: self.rules.iter().map(spell_out).collect(),
            lists: Arc::default(),
            mark: self.mark.clone(),
        }
    }

    fn rows(&self, row: &[Match], family: Family) -> Vec<Vec<Match>> {
        let (lists, other): (Vec<_>, Vec<_>) = row.iter().cloned().partition(|one| one.list().is_some());
        if lists.is_empty() {
            return vec![other];
        }
        let mut clients = AddressSet::of([family.whole()]);
        for one in &lists {
            let list = self.lists.iter().find(|list| one.list() == Some(&list.id));
            let listed = AddressSet::of(list.iter().flat_map(|list| list.prefixes.iter().copied()));
            // What may not is asked behind what may.
            clients = if matches!(one, Match::IsNot(_)) { clients.without(&listed) } else { listed };
        }
        clients.prefixes().into_iter().map(|prefix| [&other[..], &[from(prefix)]].concat()).collect()
    }
}

/// Lists of clients on their way to sets.
#[derive(Default)]
struct Lists {
    known: BTreeMap<(ListKey, Vec<Prefix>), ListId>,
    all: Vec<CidrList>,
}

impl Lists {
    /// What a list is known by: the number of the first forward that has it.
    fn of(&mut self, number: u32, key: ListKey, prefixes: Vec<Prefix>) -> Test {
        let new = ListId { section: SectionId::Forward(number), key };
        let id = *self.known.entry((key, prefixes.clone())).or_insert(new);
        if id == new {
            self.all.push(CidrList { id, prefixes: prefixes.into() });
        }
        Test::InList(Side::Saddr, id)
    }

    /// The clients of a forward, in lists.
    fn row(&mut self, forward: &Forward, family: Family) -> Vec<Match> {
        let mut row = Vec::new();
        let whole = [family.whole()];
        let sources = forward.sources.sorted(family);
        if !sources.is_empty() && sources != whole {
            row.push(Match::Is(self.of(forward.number, ListKey::Sources, sources)));
        }
        let excluded = forward.excluded_sources.sorted(family);
        if !excluded.is_empty() {
            row.push(Match::IsNot(self.of(forward.number, ListKey::ExcludedSources, excluded)));
        }
        row
    }
}

fn from(prefix: Prefix) -> Match {
    Match::Is(Test::In(Side::Saddr, prefix))
}

fn rules_of(forward: &Forward, family: Family, host: &HostFacts, lists: &mut Lists) -> Vec<ForwardRule> {
    let Some(to) = forward.target(family) else { return Vec::new() };
    let gates = gates(forward, family, lists);
    let rule = |protocol: &Protocol| ForwardRule {
        number: forward.number,
        protocol: *protocol,
        host: match forward.host {
            HostAddress::One(address) => Some(address),
            HostAddress::Any | HostAddress::AnyOf(_) => None,
        },
        ports: forward.host_ports,
        gates: gates.clone(),
        to,
        port: forward.port,
        from_host: forward.in_interfaces.is_empty(),
        localhost: forward.localhost && family == Family::V4,
        hairpin: hairpin(forward, family, host),
    };
    forward.protocols.iter().map(rule).collect()
}

/// One row for each pair of an incoming interface and a source that may, or lists of those.
fn gates(forward: &Forward, family: Family, lists: &mut Lists) -> Vec<Vec<Match>> {
    let (negated, positive): (Vec<_>, Vec<_>) =
        forward.in_interfaces.iter().map(|one| &one.value).partition(|one| one.negated);
    let interface = |one: &InterfacePattern| Test::InInterface { name: one.name.clone(), prefix: one.prefix };
    let never: Vec<Match> = negated.into_iter().map(|one| Match::IsNot(interface(one))).collect();
    let mut interfaces: Vec<Vec<Match>> =
        positive.into_iter().map(|one| [&[Match::Is(interface(one))][..], &never].concat()).collect();
    if interfaces.is_empty() {
        interfaces.push(never);
    }
    let whole = [family.whole()];
    let all = if forward.sources.is_empty() { whole.to_vec() } else { forward.sources.sorted(family) };
    let sources = AddressSet::of(all).without(&AddressSet::of(forward.excluded_sources.sorted(family))).prefixes();
    let source = |prefix: Prefix| if prefix.length() > 0 { vec![from(prefix)] } else { Vec::new() };
    let sources: Vec<_> = match sources.len() > MOST_ROWS {
        true => vec![lists.row(forward, family)],
        false => sources.into_iter().map(source).collect(),
    };
    let with =
        |row: &Vec<Match>| -> Vec<Vec<Match>> { sources.iter().map(|source| [&row[..], source].concat()).collect() };
    interfaces.iter().flat_map(with).collect()
}

fn hairpin(forward: &Forward, family: Family, host: &HostFacts) -> Vec<Prefix> {
    match &forward.hairpin {
        Hairpin::Always => vec![family.whole()],
        Hairpin::Never => Vec::new(),
        Hairpin::From(sources) => sources.written_order(family),
        Hairpin::Auto => {
            let reached = forward.target(family).and_then(|target| host.network.targets.get(&target));
            reached.map(|reached| reached.networks.clone()).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Origin, PrefixSet};
    use proptest::prelude::*;

    fn list(prefixes: Vec<Prefix>) -> PrefixSet {
        PrefixSet::from_prefixes(prefixes, &Origin::Default)
    }

    fn forward(number: u32, sources: Vec<Prefix>, excluded: Vec<Prefix>) -> Forward {
        Forward {
            number,
            origin: Origin::Default,
            host_ports: PortRange { first: 80, last: 80 },
            protocols: vec![Protocol::Tcp],
            host: HostAddress::Any,
            v4: "192.0.2.1".parse().ok(),
            v6: None,
            port: 80,
            in_interfaces: Vec::new(),
            sources: list(sources),
            excluded_sources: list(excluded),
            hairpin: Hairpin::Never,
            localhost: false,
        }
    }

    fn rules(forwards: Vec<Forward>) -> ForwardRules {
        ForwardRules::of(&Policy { forwards, ..Policy::default() }, Family::V4, &HostFacts::default())
    }

    /// Nothing to aggregate.
    fn clients(count: u32) -> Vec<Prefix> {
        (0..count).map(|n| format!("10.{}.{}.0/24", n / 128, n % 128 * 2).parse().unwrap()).collect()
    }

    #[test]
    fn clients_are_a_row_each_up_to_a_number_and_then_a_list_that_others_share() {
        let few = rules(vec![forward(1, clients(64), Vec::new())]);
        assert!(few.rules[0].gates.len() == 64 && few.lists.is_empty());
        let many: Vec<_> = (1..=9).map(|number| forward(number, clients(5_000), clients(number / 5))).collect();
        let many = rules(many);
        assert!(many.rules.iter().all(|rule| rule.gates.len() == 1));
        let lists: Vec<_> = many.lists.iter().map(|list| (list.id, list.prefixes.len())).collect();
        let id = |number, key| ListId { section: SectionId::Forward(number), key };
        assert_eq!(lists, [(id(1, ListKey::Sources), 5_000), (id(5, ListKey::ExcludedSources), 1)]);
    }

    #[test]
    fn an_open_port_is_of_the_forward_that_takes_it_at_that_address() {
        let at = |number, host: Option<&str>, first, last| Forward {
            host: host.map_or(HostAddress::Any, |host| HostAddress::One(host.parse().unwrap())),
            host_ports: PortRange { first, last },
            ..forward(number, Vec::new(), Vec::new())
        };
        let gated = Forward { sources: list(clients(1)), ..at(4, None, 7011, 7020) };
        let own = Some("198.51.100.7");
        let rules = rules(vec![at(1, None, 8080, 8080), at(2, own, 8080, 8081), at(3, None, 7000, 7010), gated]);
        for (host, port, number) in [
            (None, 8080, Some(1)),
            (own, 8080, Some(2)),
            (own, 8081, Some(2)),
            (None, 8081, None),
            (None, 7005, Some(3)),
            (None, 7015, None),
            (own, 7005, None),
        ] {
            let host = host.map(|host| host.parse().unwrap());
            let found = rules.open(host, Protocol::Tcp, port).map(|rule| rule.number);
            assert_eq!(found, number, "{host:?} {port}");
        }
        assert_eq!(rules.open(None, Protocol::Udp, 8080), None);
    }

    #[test]
    fn who_is_marked_behind_a_gate_is_who_passes_it_whether_it_names_sources_or_leaves_them_out() {
        let from_10 = Hairpin::From(list(vec!["10.0.0.0/8".parse().unwrap()]));
        let rules = rules(vec![Forward { hairpin: from_10, ..forward(1, Vec::new(), Vec::new()) }]);
        let source = |text: &str| Test::In(Side::Saddr, text.parse().unwrap());
        let wan = Match::IsNot(Test::InInterface { name: "wan0".to_owned(), prefix: false });
        let mark = ForwardMark::Bit(14);
        for (gate, marked) in [
            (Match::Is(source("10.128.0.0/9")), "10.128.0.0/9"),
            (Match::IsNot(source("10.0.0.0/9")), "10.128.0.0/9"),
            (Match::IsNot(source("192.168.0.0/16")), "10.0.0.0/8"),
        ] {
            let row = [wan.clone(), gate];
            let found = rules.rules[0].through(&row, Some(&mark));
            let found: Vec<_> = found.iter().map(|rule| (rule.step(), rule.when.as_slice())).collect();
            let marked = [wan.clone(), Match::Is(source(marked))];
            assert_eq!(found, [(RuleStep::Mark, &marked[..]), (RuleStep::Forward(1), &row[..])]);
        }
    }

    proptest! {
        #[test]
        fn lists_that_are_spelled_out_are_the_clients_that_may(
            may in 0_u32..150,
            may_not in proptest::collection::vec((0_u32..40_000, 14_u8..=32), 0..12),
            asked in proptest::collection::vec(0_u32..80_000, 50),
        ) {
            let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            let may_not: Vec<_> = may_not.into_iter().map(|(n, length)| Prefix::containing(address(n), length).unwrap()).collect();
            let one = forward(1, clients(may), may_not);
            let rules = rules(vec![one.clone()]);
            let spelled_out = rules.spelled_out();
            prop_assert!(spelled_out.lists.is_empty());
            prop_assert!(rules.lists.is_empty() || spelled_out.rules[0].gates.len() > MOST_ROWS);
            for address in asked.into_iter().map(address) {
                let is_in = |row: &Vec<Match>| row.iter().all(|gate| match gate {
                    Match::Is(Test::In(Side::Saddr, prefix)) => prefix.contains(address),
                    other => panic!("{other:?}"),
                });
                let passes = spelled_out.rules[0].gates.iter().any(is_in);
                let may = one.sources.is_empty() || one.sources.contains(address);
                prop_assert_eq!(passes, may && !one.excluded_sources.contains(address), "{}", address);
            }
        }
    }
}
