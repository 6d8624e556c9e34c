//! What becomes of statements in chains of rules: decided here, once, for both backends.

use super::build::{Condition, Hook, JumpPosition, NewSource, Outcome, Ruleset, SectionRules, Statement, Way};
use super::cidr_list::CidrList;
use super::id::{ChainId, Place, RuleId, RuleStep, SectionId};
use super::matches::{ByRoute, Effect, Fact, Match, NoMap, Side, Test, within};
use super::near::Near;
use super::way::by_prefix;
use crate::policy::{AddressRange, Family, PortRange, PreferredSource, Prefix, Protocol, Step};
use std::ops::ControlFlow;

/// What differs between the backends.
#[derive(Debug, Clone, Copy)]
pub struct Dialect<Map = NoMap> {
    /// Lists of at most so many prefixes are a rule for each, `usize::MAX` where there are no sets; without a number every list
    /// stays one.
    pub inline: Option<usize>,
    /// Ports can be chosen at random.
    pub random_fully: bool,
    /// The kernel has maps, and so rules ask one. The sources that routes prefer are one then, and not a rule for each; what
    /// translates in several rules is always a chain, and not only where more than one statement leads to it; a block of
    /// addresses can be looked for, and behind routing whether a packet came in through an interface.
    pub maps: Option<fn(ByRoute) -> Map>,
}

impl<Map> Dialect<Map> {
    /// True where a list can be a set.
    pub fn has_sets(&self) -> bool {
        self.inline != Some(usize::MAX)
    }
}

/// All that one family should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chains<Map = NoMap> {
    /// The family.
    pub family: Family,
    /// What leads to the chains.
    pub entries: Vec<Entry>,
    /// The chains, those of an entry behind each other.
    pub chains: Vec<LoweredChain<Map>>,
    /// The lists that rules look into, in the order of their names.
    pub lists: Vec<CidrList>,
}

/// What leads packets from their path to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where in the packet path.
    pub hook: Hook,
    /// Where among those of others.
    pub position: JumpPosition,
    /// The chain.
    pub to: ChainId,
}

/// A chain and its rules, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredChain<Map = NoMap> {
    /// What it is known by.
    pub id: ChainId,
    /// Its rules, in order.
    pub rules: Vec<LoweredRule<Map>>,
}

/// A rule: where all of the matches hold, the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredRule<Map = NoMap> {
    /// What it is known by.
    pub id: RuleId,
    /// What it looks at.
    pub when: Vec<Match>,
    /// What it does.
    pub then: Effect<ChainId, Map>,
}

/// Says a ruleset in chains of rules.
pub fn lower<Map: Copy + PartialEq>(ruleset: &Ruleset, dialect: Dialect<Map>) -> Chains<Map> {
    let mut all = Chains { family: ruleset.family, entries: Vec::new(), chains: Vec::new(), lists: Vec::new() };
    for hook in &ruleset.hooks {
        if let Some(first) = hook.sections.first() {
            let to = ChainId { section: first.section, place: Place::Part(1) };
            all.entries.push(Entry { hook: hook.hook, position: hook.position, to });
        }
        for section in &hook.sections {
            let family = ruleset.family;
            Lowering { section, family, dialect, chains: Vec::new(), branches: Vec::new(), lists: &mut all.lists }
                .add_to(&mut all.chains);
        }
    }
    all.lists.sort_by_key(|list| list.id);
    all
}

/// The chains of one section in the making.
struct Lowering<'a, Map> {
    section: &'a SectionRules,
    family: Family,
    dialect: Dialect<Map>,
    /// Those of its statements; the last one is being filled.
    chains: Vec<LoweredChain<Map>>,
    /// Those that lead flows on by their source.
    branches: Vec<LoweredChain<Map>>,
    lists: &'a mut Vec<CidrList>,
}

impl<Map: Copy + PartialEq> Lowering<'_, Map> {
    fn add_to(mut self, chains: &mut Vec<LoweredChain<Map>>) {
        self.open(self.next());
        let section = self.section;
        let _ = section.first.iter().try_for_each(|statement| self.add(statement));
        if !section.branches.is_empty() {
            self.branch();
        }
        let _ = section.statements.iter().try_for_each(|statement| self.add(statement));
        let masquerade = self.id(Place::Masquerade);
        let leads_there = |rule: &LoweredRule<Map>| rule.then == Effect::Goto(masquerade);
        if self.chains.iter().flat_map(|chain| &chain.rules).any(leads_there) {
            let rules = self.translations();
            self.chains.push(LoweredChain { id: masquerade, rules });
        }
        chains.append(&mut self.chains);
        chains.append(&mut self.branches);
    }

    /// Leads to other sections what is theirs, and the rest to a chain of its own.
    fn branch(&mut self) {
        let own = self.next();
        for (number, branch) in (1..).zip(&self.section.branches) {
            let ways = self.ways(&branch.ways, own);
            match (branch.out.clone(), ways.as_slice()) {
                (None, _) => ways.into_iter().for_each(|rule| self.push(rule)),
                (Some(out), [only]) => self.push(LoweredRule { when: vec![out], ..only.clone() }),
                (Some(out), _) => {
                    let id = self.id(Place::Branch(number));
                    self.push(self.rule(RuleStep::Pass(Step::OutInterface), vec![out], Effect::Goto(id)));
                    self.branches.push(LoweredChain { id, rules: ways });
                }
            }
        }
        self.open(own);
    }

    /// A rule for each way, up to one that is open to all sources. One rule can ask for two lists where the second one is
    /// a set; where all are to be rules it is one for each prefix.
    fn ways(&mut self, ways: &[Way], own: ChainId) -> Vec<LoweredRule<Map>> {
        let top = self.section.section;
        let enter = |to: Option<SectionId>, when| {
            let (section, to) = to.map_or((top, own), |to| (to, ChainId { section: to, place: Place::Part(1) }));
            LoweredRule { id: RuleId { section, step: RuleStep::Enter }, when, then: Effect::Goto(to) }
        };
        let open = ways.iter().position(|way| way.lists().next().is_none());
        let ways = open.map_or(ways, |open| &ways[..=open]);
        let prefixes: usize = ways.iter().flat_map(Way::lists).map(|list| list.prefixes.len()).sum();
        if ways.iter().any(|way| way.excluded.is_some()) && self.dialect.inline.is_some_and(|most| prefixes <= most) {
            let when = |prefix: Option<Prefix>| prefix.map_or(Vec::new(), |prefix| within(Side::Saddr, prefix));
            return by_prefix(ways).into_iter().map(|(prefix, to)| enter(to, when(prefix))).collect();
        }
        let mut rules = Vec::new();
        for way in ways {
            let mut rows = way.sources.as_ref().map_or(vec![Vec::new()], |list| self.list_rows(Side::Saddr, list));
            if let Some(excluded) = &way.excluded {
                let is_not = Match::IsNot(self.in_set(Side::Saddr, excluded));
                rows.iter_mut().for_each(|row| row.push(is_not.clone()));
            }
            let is_open = rows.iter().any(Vec::is_empty);
            rules.extend(rows.into_iter().map(|when| enter(Some(way.to), when)));
            if is_open {
                return rules;
            }
        }
        rules.push(enter(None, Vec::new()));
        rules
    }

    fn id(&self, place: Place) -> ChainId {
        ChainId { section: self.section.section, place }
    }

    fn next(&self) -> ChainId {
        self.id(Place::Part(self.chains.len() as u8 + 1))
    }

    fn open(&mut self, id: ChainId) {
        self.chains.push(LoweredChain { id, rules: Vec::new() });
    }

    fn rule(&self, step: RuleStep, when: Vec<Match>, then: Effect<ChainId, Map>) -> LoweredRule<Map> {
        LoweredRule { id: RuleId { section: self.section.section, step }, when, then }
    }

    fn push(&mut self, rule: LoweredRule<Map>) {
        if let Some(chain) = self.chains.last_mut() {
            chain.rules.push(rule);
        }
    }

    /// Breaks where nothing behind the statement is ever asked.
    fn add(&mut self, statement: &Statement) -> ControlFlow<()> {
        let is_far = matches!(statement.condition, Condition::Far(_));
        if is_far && self.dialect.maps.is_none() {
            return ControlFlow::Continue(());
        }
        let mut rows = self.rows(&statement.condition);
        if self.dialect.maps.is_some() && matches!(statement.step, Step::LocalSourceOnOutInterface | Step::MidStream) {
            // What came in through an interface has no source of the host's: that is found faster than the source.
            let any = Test::InInterface { name: String::new(), prefix: true };
            rows.iter_mut().for_each(|row| row.insert(0, Match::IsNot(any.clone())));
        }
        let decide = if is_far { RuleStep::Far } else { RuleStep::Decide(statement.step) };
        let then = match statement.outcome {
            Outcome::ReturnUnless => return self.gate(rows, statement.step),
            Outcome::Return => Effect::Return,
            Outcome::Translate => match self.translations().as_slice() {
                [only] => only.then.clone(),
                several if statement.step == Step::Otherwise && self.dialect.maps.is_none() => {
                    several.iter().cloned().for_each(|rule| self.push(self.rule(decide, rule.when, rule.then)));
                    return ControlFlow::Break(());
                }
                _ => Effect::Goto(self.id(Place::Masquerade)),
            },
        };
        for when in rows {
            self.push(self.rule(decide, when, then.clone()));
        }
        ControlFlow::Continue(())
    }

    /// Lets on only what one of the rows matches. What falls through keeps its source.
    fn gate(&mut self, rows: Vec<Vec<Match>>, step: Step) -> ControlFlow<()> {
        if rows.iter().any(Vec::is_empty) {
            return ControlFlow::Continue(());
        }
        let decide = RuleStep::Decide(step);
        if let [row] = rows.as_slice()
            && let [one] = row.as_slice()
            && let Some(inverse) = one.inverse()
        {
            self.push(self.rule(decide, vec![inverse], Effect::Return));
            return ControlFlow::Continue(());
        }
        let next = self.next();
        let is_closed = rows.is_empty();
        for when in rows {
            self.push(self.rule(RuleStep::Pass(step), when, Effect::Goto(next)));
        }
        self.push(self.rule(decide, Vec::new(), Effect::Return));
        if is_closed {
            return ControlFlow::Break(());
        }
        self.open(next);
        ControlFlow::Continue(())
    }

    /// The ways in which a condition can hold; each is a row of matches that must hold together.
    fn rows(&mut self, condition: &Condition) -> Vec<Vec<Match>> {
        match condition {
            Condition::AnyOf(rows) => rows.clone(),
            Condition::List(side, list) => self.list_rows(*side, list),
            Condition::Far(Near { blocks, wide }) => {
                let outside = |prefix: &Prefix| Match::IsNot(Test::In(Side::Daddr, *prefix));
                let far = Match::IsNot(self.in_set(Side::Daddr, blocks));
                vec![wide.iter().map(outside).chain([far]).collect()]
            }
        }
    }

    fn list_rows(&mut self, side: Side, list: &CidrList) -> Vec<Vec<Match>> {
        if self.dialect.inline.is_some_and(|most| list.prefixes.len() <= most) {
            return list.prefixes.iter().map(|prefix| within(side, *prefix)).collect();
        }
        vec![vec![Match::Is(self.in_set(side, list))]]
    }

    fn in_set(&mut self, side: Side, list: &CidrList) -> Test {
        if self.lists.iter().all(|known| known.id != list.id) {
            self.lists.push(list.clone());
        }
        Test::InList(side, list.id)
    }

    /// What translates whatever reaches it: one rule, or with `toPorts` one per protocol with ports and range, chosen
    /// so that every port is equally likely.
    fn translations(&self) -> Vec<LoweredRule<Map>> {
        let random_fully = self.section.translation.random_fully && self.dialect.random_fully;
        let masquerade = |ports| Effect::Masquerade { random_fully, ports };
        let snat = |to| move |ports| Effect::Snat { to, random_fully, ports };
        match &self.section.translation.to {
            NewSource::Interface => self.spread(masquerade),
            NewSource::Range(to) => self.spread(snat(*to)),
            NewSource::Route(sources) => {
                let by_route = match self.dialect.maps {
                    Some(_) if sources.rows(self.family).next().is_none() => Vec::new(),
                    Some(map) => self.spread(|ports| Effect::SnatByRoute(map(ByRoute { random_fully, ports }))),
                    None => sources.rows(self.family).flat_map(|row| self.of_row(row, snat, masquerade)).collect(),
                };
                let named = |rules: Vec<LoweredRule<Map>>, step| {
                    let id = RuleId { section: self.section.section, step };
                    rules.into_iter().map(move |rule| LoweredRule { id, ..rule })
                };
                let by_route = named(by_route, RuleStep::RouteSource);
                by_route.chain(named(self.spread(masquerade), RuleStep::NoRouteSource)).collect()
            }
        }
    }

    /// What a route says, in rules; it may say that it prefers no source.
    fn of_row<S: Fn(Option<PortRange>) -> Effect<ChainId, Map>>(
        &self,
        row: &PreferredSource,
        snat: impl Fn(AddressRange) -> S,
        masquerade: impl Fn(Option<PortRange>) -> Effect<ChainId, Map>,
    ) -> Vec<LoweredRule<Map>> {
        let mut rules = match row.source {
            Some(source) => self.spread(snat(source.into())),
            None => self.spread(masquerade),
        };
        let out = Match::Is(Test::OutInterface { name: row.interface.clone(), prefix: false });
        let when = [vec![out], within(Side::Daddr, row.destination)].concat();
        rules.iter_mut().for_each(|rule| rule.when.splice(0..0, when.iter().cloned()).for_each(drop));
        rules
    }

    /// One rule, or with `toPorts` one per protocol with ports and range.
    fn spread(&self, effect: impl Fn(Option<PortRange>) -> Effect<ChainId, Map>) -> Vec<LoweredRule<Map>> {
        let to_ports = self.section.translation.to_ports.as_ref();
        let ranges = to_ports.map(|ports| ports.with_remaining()).unwrap_or_default();
        let mut rules = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            for (range, left) in &ranges {
                let mut when = vec![Match::Is(Test::Protocol(protocol))];
                if range.size() < *left {
                    when.push(Match::Holds(Fact::Share { part: range.size(), of: *left }));
                }
                rules.push(self.rule(RuleStep::Ports, when, effect(Some(*range))));
            }
        }
        rules.push(self.rule(RuleStep::Portless, Vec::new(), effect(None)));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RouteSources;
    use crate::ruleset::Translation;
    use crate::ruleset::{Branch, ForwardRules, HookRules, ListId, ListKey};

    const IPTABLES: Dialect<ByRoute> = Dialect { inline: Some(2), random_fully: true, maps: None };
    const NFTABLES: Dialect<ByRoute> = Dialect { inline: None, random_fully: true, maps: Some(|map| map) };

    fn list(key: ListKey, prefixes: &[&str]) -> Condition {
        let side = if matches!(key, ListKey::Sources | ListKey::ExcludedSources) { Side::Saddr } else { Side::Daddr };
        let id = ListId { section: SectionId::Egress(2), key };
        Condition::List(side, CidrList { id, prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect() })
    }

    fn gate(step: Step, condition: Condition) -> Statement {
        Statement { step, condition, outcome: Outcome::ReturnUnless }
    }

    fn masquerade(step: Step, condition: Condition) -> Statement {
        Statement { step, condition, outcome: Outcome::Translate }
    }

    fn always() -> Statement {
        masquerade(Step::Otherwise, Condition::AnyOf(vec![Vec::new()]))
    }

    fn chains(statements: Vec<Statement>, ports: Option<&str>, dialect: Dialect<ByRoute>) -> Chains<ByRoute> {
        let to_ports = ports.map(|text| text.parse().unwrap());
        chains_of(statements, Translation { to: NewSource::Interface, random_fully: true, to_ports }, dialect)
    }

    fn chains_of(statements: Vec<Statement>, translation: Translation, dialect: Dialect<ByRoute>) -> Chains<ByRoute> {
        let (section, first, branches) = (SectionId::Egress(2), Vec::new(), Vec::new());
        let sections = vec![SectionRules { section, first, branches, statements, translation }];
        let hooks = vec![HookRules { hook: Hook::Postrouting, position: JumpPosition::Last, sections }];
        lower(&Ruleset { family: Family::V4, hooks, forwards: ForwardRules::default() }, dialect)
    }

    /// Each rule as its chain, its name, how many matches it has, and where it leads.
    fn lines(statements: Vec<Statement>, ports: Option<&str>, dialect: Dialect<ByRoute>) -> Vec<String> {
        let to_ports = ports.map(|text| text.parse().unwrap());
        lines_of(statements, Translation { to: NewSource::Interface, random_fully: true, to_ports }, dialect)
    }

    fn lines_of(statements: Vec<Statement>, translation: Translation, dialect: Dialect<ByRoute>) -> Vec<String> {
        let lowered = chains_of(statements, translation, dialect);
        let place = |id: ChainId| match id.place {
            Place::Part(part) => part.to_string(),
            Place::Masquerade => "m".to_owned(),
            Place::Branch(number) => format!("o{number}"),
            Place::Forward(chain) => format!("f{chain}"),
        };
        let line = |chain: ChainId, rule: &LoweredRule<ByRoute>| {
            let matches: String =
                rule.when.iter().map(|one| if matches!(one, Match::IsNot(_)) { '!' } else { '+' }).collect();
            let effect = match &rule.then {
                Effect::Return => "return".to_owned(),
                Effect::Goto(chain) | Effect::Jump(chain) => place(*chain),
                Effect::Masquerade { .. } => "masquerade".to_owned(),
                Effect::SnatByRoute(_) => "by route".to_owned(),
                Effect::Snat { to, .. } => to.to_string(),
                Effect::Dnat { to, .. } => to.to_string(),
                Effect::Mark(_) => "mark".to_owned(),
                Effect::Drop => "drop".to_owned(),
            };
            format!("{} {} [{matches}] {effect}", place(chain), rule.id)
        };
        lowered.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| line(chain.id, rule))).collect()
    }

    #[test]
    fn what_routes_prefer_is_a_map_or_a_rule_for_each_and_then_masqueraded() {
        let row = |destination: &str, source: Option<&str>| PreferredSource {
            interface: "wan0".to_owned(),
            destination: destination.parse().unwrap(),
            source: source.map(|source| source.parse().unwrap()),
        };
        let rows =
            vec![row("0.0.0.0/0", Some("203.0.113.1")), row("10.0.0.0/8", None), row("::/0", Some("2001:db8::1"))];
        let lines = |sources: Vec<PreferredSource>, ports: Option<&str>, dialect| {
            let to = NewSource::Route(RouteSources::new(sources));
            let translation = Translation { to, random_fully: true, to_ports: ports.map(|text| text.parse().unwrap()) };
            lines_of(vec![always()], translation, dialect)
        };
        let otherwise = |rest: &str| format!("1 egress2-otherwise {rest}");
        assert_eq!(
            lines(rows.clone(), None, IPTABLES),
            ["[++] masquerade", "[+] 203.0.113.1", "[] masquerade"].map(otherwise)
        );
        let in_chain = |rest: &str| format!("m egress2-{rest}");
        let expected = ["route-source [] by route", "route-source/none [] masquerade"].map(in_chain);
        assert_eq!(lines(rows.clone(), None, NFTABLES)[1..], expected);
        let of_ports = |step: &str, then: &str| vec![format!("m egress2-{step} [+] {then}"); 3];
        let by_route = [of_ports("route-source", "by route"), vec![in_chain("route-source [] by route")]].concat();
        let rest =
            [of_ports("route-source/none", "masquerade"), vec![in_chain("route-source/none [] masquerade")]].concat();
        assert_eq!(lines(rows, Some("1-9"), NFTABLES)[1..], [by_route, rest].concat());
        for dialect in [IPTABLES, NFTABLES] {
            assert_eq!(lines(Vec::new(), None, dialect), [otherwise("[] masquerade")]);
        }
    }

    #[test]
    fn a_gate_is_one_rule_where_one_match_can_say_the_opposite() {
        let source = || gate(Step::Source, list(ListKey::Sources, &["10.0.0.0/8"]));
        let expected = ["1 egress2-source [!] return", "1 egress2-otherwise [] masquerade"];
        assert_eq!(lines(vec![source(), always()], None, IPTABLES), expected);
        assert_eq!(lines(vec![source(), always()], None, NFTABLES), expected);
        let bridged = gate(Step::Bridged, Condition::AnyOf(vec![vec![Match::Holds(Fact::Bridged)]]));
        let expected =
            ["1 egress2-bridged/in-scope [+] 2", "1 egress2-bridged [] return", "2 egress2-otherwise [] masquerade"];
        assert_eq!(lines(vec![bridged, always()], None, NFTABLES), expected);
    }

    #[test]
    fn a_gate_with_several_ways_through_leads_to_a_chain_of_its_own() {
        let wan = |name: &str| vec![Match::Is(Test::OutInterface { name: name.into(), prefix: false })];
        let statements = || {
            vec![
                gate(Step::OutInterface, Condition::AnyOf(vec![wan("a0"), wan("b0")])),
                gate(Step::Source, list(ListKey::Sources, &["10.0.0.0/8", "192.168.0.0/16"])),
                always(),
            ]
        };
        let both = [
            "1 egress2-out-interface/in-scope [+] 2",
            "1 egress2-out-interface/in-scope [+] 2",
            "1 egress2-out-interface [] return",
        ];
        let inline = [
            "2 egress2-source/in-scope [+] 3",
            "2 egress2-source/in-scope [+] 3",
            "2 egress2-source [] return",
            "3 egress2-otherwise [] masquerade",
        ];
        assert_eq!(lines(statements(), None, IPTABLES), [&both[..], &inline].concat());
        let set = ["2 egress2-source [!] return", "2 egress2-otherwise [] masquerade"];
        assert_eq!(lines(statements(), None, NFTABLES), [&both[..], &set].concat());
    }

    #[test]
    fn a_gate_that_everything_passes_is_none_and_behind_one_that_nothing_passes_is_nothing() {
        let source = |prefixes: &[&str]| vec![gate(Step::Source, list(ListKey::Sources, prefixes)), always()];
        assert_eq!(lines(source(&["0.0.0.0/0"]), None, IPTABLES), ["1 egress2-otherwise [] masquerade"]);
        assert_eq!(lines(source(&[]), None, IPTABLES), ["1 egress2-source [] return"]);
        assert_eq!(lines(source(&[]), None, NFTABLES).len(), 2);
        assert_eq!(chains(source(&[]), None, NFTABLES).lists.len(), 1);
    }

    #[test]
    fn what_masquerades_in_several_rules_is_a_chain_where_more_than_one_statement_leads_to_it() {
        let exception = || masquerade(Step::Exception, list(ListKey::Exceptions, &["10.1.0.0/16"]));
        let single = lines(vec![exception(), always()], None, IPTABLES);
        assert_eq!(single, ["1 egress2-exception [+] masquerade", "1 egress2-otherwise [] masquerade"]);
        let shares = |place: &str, step: [&str; 2]| {
            let ports = format!("{place} egress2-{} [+] masquerade", step[0]);
            [ports.clone(), ports.clone(), ports, format!("{place} egress2-{} [] masquerade", step[1])]
        };
        let inline = shares("1", ["otherwise"; 2]);
        let chain = shares("m", ["to-ports", "to-ports/no-ports"]);
        let to_chain = "1 egress2-exception [+] m".to_owned();
        let iptables = lines(vec![exception(), always()], Some("1-9"), IPTABLES);
        assert_eq!(iptables, [&[to_chain.clone()][..], &inline, &chain].concat());
        assert_eq!(lines(vec![always()], Some("1-9"), IPTABLES), inline);
        let nftables = lines(vec![exception(), always()], Some("1-9"), NFTABLES);
        assert_eq!(nftables, [&[to_chain, "1 egress2-otherwise [] m".to_owned()][..], &chain].concat());
    }

    #[test]
    fn a_flow_is_led_to_the_first_section_whose_scope_holds_it_in_as_many_steps_however_many_there_are() {
        let translation = Translation { to: NewSource::Interface, random_fully: true, to_ports: None };
        let section = |section, branches| SectionRules {
            section,
            first: Vec::new(),
            branches,
            statements: vec![always()],
            translation: translation.clone(),
        };
        let way = |sources: Option<&str>, number| {
            let id = ListId { section: SectionId::Egress(number), key: ListKey::Sources };
            let list = |text: &str| CidrList { id, prefixes: vec![text.parse().unwrap()].into() };
            Way { sources: sources.map(list), excluded: None, to: SectionId::Egress(number) }
        };
        let out = |name: &str| Some(Match::Is(Test::OutInterface { name: name.to_owned(), prefix: false }));
        let branches = vec![
            Branch { out: out("a0"), ways: vec![way(Some("10.0.0.0/8"), 1), way(None, 2), way(None, 3)] },
            Branch { out: out("b0"), ways: vec![way(None, 3)] },
            Branch { out: out("c0"), ways: Vec::new() },
            Branch { out: None, ways: vec![way(Some("10.0.0.0/8"), 1)] },
        ];
        let sections = vec![section(SectionId::Top, branches), section(SectionId::Egress(1), Vec::new())];
        let hooks = vec![HookRules { hook: Hook::Postrouting, position: JumpPosition::Last, sections }];
        let lowered = lower(&Ruleset { family: Family::V4, hooks, forwards: ForwardRules::default() }, NFTABLES);
        let chain = |place: usize| {
            let to = |rule: &LoweredRule<ByRoute>| match rule.then {
                Effect::Goto(ChainId { section: SectionId::Egress(number), .. }) => format!("e{number}"),
                Effect::Goto(ChainId { place: Place::Branch(number), .. }) => format!("o{number}"),
                Effect::Goto(ChainId { place: Place::Part(part), .. }) => part.to_string(),
                _ => "translate".to_owned(),
            };
            lowered.chains[place].rules.iter().map(|rule| (rule.when.len(), to(rule))).collect::<Vec<_>>()
        };
        let rules = |rules: &[(usize, &str)]| -> Vec<_> {
            rules.iter().map(|(matches, to)| (*matches, (*to).to_owned())).collect()
        };
        assert_eq!(chain(0), rules(&[(1, "o1"), (1, "e3"), (1, "2"), (1, "e1"), (0, "2")]));
        assert_eq!(chain(1), rules(&[(0, "translate")]));
        assert_eq!(chain(2), rules(&[(1, "e1"), (0, "e2")]));
        assert_eq!(chain(3), rules(&[(0, "translate")]));
        assert_eq!(lowered.lists.len(), 1);
    }

    #[test]
    fn a_source_that_one_way_is_closed_to_takes_the_next_one_that_is_open_to_it() {
        let list = |key, number, prefixes: &[&str]| {
            let prefixes: Vec<Prefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
            let id = ListId { section: SectionId::Egress(number), key };
            (!prefixes.is_empty()).then(|| CidrList { id, prefixes: prefixes.into() })
        };
        let way = |number, sources: &[&str], excluded: &[&str]| Way {
            sources: list(ListKey::Sources, number, sources),
            excluded: list(ListKey::ExcludedSources, number, excluded),
            to: SectionId::Egress(number),
        };
        let ways = vec![
            way(1, &["10.0.0.0/8"], &["10.1.0.0/16"]),
            way(2, &["10.1.2.0/24"], &[]),
            way(3, &[], &["10.1.2.3/32"]),
        ];
        let section = SectionRules {
            section: SectionId::Top,
            first: Vec::new(),
            branches: vec![Branch { out: None, ways }],
            statements: vec![always()],
            translation: Translation { to: NewSource::Interface, random_fully: true, to_ports: None },
        };
        let hooks = vec![HookRules { hook: Hook::Postrouting, position: JumpPosition::Last, sections: vec![section] }];
        let ruleset = Ruleset { family: Family::V4, hooks, forwards: ForwardRules::default() };
        let rules = |dialect| {
            let lowered = lower(&ruleset, dialect);
            let one = |one: &Match| match one {
                Match::Is(Test::In(_, prefix)) => prefix.to_string(),
                Match::Is(Test::InList(_, list)) => format!("@{}{}", list.section.prefix(), list.key.name()),
                Match::IsNot(Test::InList(_, list)) => format!("!@{}{}", list.section.prefix(), list.key.name()),
                other => panic!("{other:?}"),
            };
            let line = |rule: &LoweredRule<ByRoute>| {
                let when: Vec<_> = rule.when.iter().map(one).collect();
                format!("{}{}", rule.id.section.prefix(), when.join(" "))
            };
            (lowered.chains[0].rules.iter().map(line).collect::<Vec<_>>(), lowered.lists.len())
        };
        let sets = [
            "egress1-@egress1-sources !@egress1-excluded-sources",
            "egress2-@egress2-sources",
            "egress3-!@egress3-excluded-sources",
            "",
        ];
        assert_eq!(rules(NFTABLES), (sets.map(str::to_owned).to_vec(), 4));
        let short = ["egress1-10.0.0.0/8 !@egress1-excluded-sources", "egress2-10.1.2.0/24", sets[2], ""];
        assert_eq!(rules(IPTABLES), (short.map(str::to_owned).to_vec(), 2));
        let inline =
            ["egress2-10.1.2.3/32", "egress2-10.1.2.0/24", "egress3-10.1.0.0/16", "egress1-10.0.0.0/8", "egress3-"];
        let without_sets = Dialect { inline: Some(usize::MAX), ..IPTABLES };
        assert_eq!(rules(without_sets), (inline.map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn a_list_that_is_longer_than_what_may_be_rules_stays_a_list() {
        let exempt = |prefixes: &[&str]| {
            let outcome = Outcome::Return;
            vec![Statement { step: Step::Exempt, condition: list(ListKey::Exempt, prefixes), outcome }, always()]
        };
        let short = chains(exempt(&["10.0.0.0/8", "172.16.0.0/12"]), None, IPTABLES);
        assert_eq!((short.chains[0].rules.len(), short.lists.len()), (3, 0));
        let long = chains(exempt(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), None, IPTABLES);
        assert_eq!((long.chains[0].rules.len(), long.lists.len()), (2, 1));
    }
}
