//! What becomes of statements in chains of rules: decided here, once, for both backends.

use super::build::{CidrList, Condition, Hook, JumpPosition, Masquerade, Outcome, Ruleset, SectionRules, Statement};
use super::id::{ChainId, Place, RuleId, RuleStep};
use super::matches::{Effect, Match, Side, Test};
use crate::policy::{Family, Prefix, Protocol, Step, Verdict};
use std::ops::ControlFlow;

/// What differs between the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Lists of at most so many prefixes are a rule for each; without a number every list stays one.
    pub inline: Option<usize>,
    /// What masquerades in several rules is always a chain, and not only where more than one statement leads to it.
    pub masquerade_chain: bool,
    /// Ports can be chosen at random.
    pub random_fully: bool,
}

/// All that one family should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chains {
    /// The family.
    pub family: Family,
    /// What leads to the chains.
    pub entries: Vec<Entry>,
    /// The chains, those of an entry behind each other.
    pub chains: Vec<Chain>,
    /// The lists that rules look into.
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
pub struct Chain {
    /// What it is known by.
    pub id: ChainId,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule: where all of the matches hold, the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is known by.
    pub id: RuleId,
    /// What it looks at.
    pub when: Vec<Match>,
    /// What it does.
    pub then: Effect,
}

/// Says a ruleset in chains of rules.
pub fn lower(ruleset: &Ruleset, dialect: Dialect) -> Chains {
    let mut all = Chains { family: ruleset.family, entries: Vec::new(), chains: Vec::new(), lists: Vec::new() };
    for hook in &ruleset.hooks {
        if let Some(first) = hook.sections.first() {
            let to = ChainId { section: first.section, place: Place::Part(1) };
            all.entries.push(Entry { hook: hook.hook, position: hook.position, to });
        }
        for section in &hook.sections {
            Lowering { section, dialect, chains: Vec::new(), lists: &mut all.lists }.add_to(&mut all.chains);
        }
    }
    all
}

/// The chains of one section in the making.
struct Lowering<'a> {
    section: &'a SectionRules,
    dialect: Dialect,
    /// Those of its statements; the last one is being filled.
    chains: Vec<Chain>,
    lists: &'a mut Vec<CidrList>,
}

impl Lowering<'_> {
    fn add_to(mut self, chains: &mut Vec<Chain>) {
        self.open(self.next());
        let mut statements = self.section.statements.iter();
        let _ = statements.try_for_each(|statement| self.add(statement));
        let masquerade = self.id(Place::Masquerade);
        let leads_there = |rule: &Rule| rule.then == Effect::Goto(masquerade);
        if self.chains.iter().flat_map(|chain| &chain.rules).any(leads_there) {
            let rules = self.masquerades();
            self.chains.push(Chain { id: masquerade, rules });
        }
        chains.append(&mut self.chains);
    }

    fn id(&self, place: Place) -> ChainId {
        ChainId { section: self.section.section, place }
    }

    fn next(&self) -> ChainId {
        self.id(Place::Part(self.chains.len() as u8 + 1))
    }

    fn open(&mut self, id: ChainId) {
        self.chains.push(Chain { id, rules: Vec::new() });
    }

    fn rule(&self, step: RuleStep, when: Vec<Match>, then: Effect) -> Rule {
        Rule { id: RuleId { section: self.section.section, step }, when, then }
    }

    fn push(&mut self, rule: Rule) {
        self.chains.last_mut().into_iter().for_each(|chain| chain.rules.push(rule.clone()));
    }

    /// Breaks where nothing behind the statement is ever asked.
    fn add(&mut self, statement: &Statement) -> ControlFlow<()> {
        let rows = self.rows(&statement.condition);
        let then = match statement.outcome {
            Outcome::ReturnUnless => return self.gate(rows, statement.step),
            Outcome::When(Verdict::KeepSource) => Effect::Return,
            Outcome::When(Verdict::Masquerade) => match self.masquerades().as_slice() {
                [only] => only.then.clone(),
                several if statement.step == Step::Otherwise && !self.dialect.masquerade_chain => {
                    several.iter().for_each(|rule| self.push(rule.clone()));
                    return ControlFlow::Break(());
                }
                _ => Effect::Goto(self.id(Place::Masquerade)),
            },
        };
        for when in rows {
            self.push(self.rule(RuleStep::Decide(statement.step), when, then.clone()));
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
        let (side, list) = match condition {
            Condition::AnyOf(rows) => return rows.clone(),
            Condition::List(side, list) => (*side, list),
        };
        if self.dialect.inline.is_some_and(|most| list.prefixes.len() <= most) {
            return list.prefixes.iter().map(|prefix| within(side, *prefix)).collect();
        }
        if self.lists.iter().all(|known| known.id != list.id) {
            self.lists.push(list.clone());
        }
        vec![vec![Match::is(Test::InList(side, list.id))]]
    }

    /// What masquerades whatever reaches it: one rule, or with `toPorts` one per protocol with ports and range, chosen
    /// so that every port is equally likely.
    fn masquerades(&self) -> Vec<Rule> {
        let Masquerade { random_fully, to_ports } = &self.section.masquerade;
        let random_fully = *random_fully && self.dialect.random_fully;
        let ranges = to_ports.as_ref().map(|ports| ports.with_remaining()).unwrap_or_default();
        let mut rules = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            for (range, left) in &ranges {
                let mut when = vec![Match::is(Test::Protocol(protocol))];
                if range.size() < *left {
                    when.push(Match::is(Test::Share { part: range.size(), of: *left }));
                }
                let then = Effect::Masquerade { random_fully, ports: Some(*range) };
                rules.push(self.rule(RuleStep::Ports, when, then));
            }
        }
        rules.push(self.rule(RuleStep::Portless, Vec::new(), Effect::Masquerade { random_fully, ports: None }));
        rules
    }
}

/// A prefix of length 0 holds every address.
fn within(side: Side, prefix: Prefix) -> Vec<Match> {
    let test = (prefix.length() > 0).then_some(Test::In(side, prefix));
    test.into_iter().map(Match::is).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{HookRules, ListId, ListKey, Section};

    const IPTABLES: Dialect = Dialect { inline: Some(2), masquerade_chain: false, random_fully: true };
    const NFTABLES: Dialect = Dialect { inline: None, masquerade_chain: true, random_fully: true };

    fn list(key: ListKey, prefixes: &[&str]) -> Condition {
        let side = if matches!(key, ListKey::Sources | ListKey::ExcludedSources) { Side::Saddr } else { Side::Daddr };
        let id = ListId { section: Section::Egress(2), key };
        Condition::List(side, CidrList { id, prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect() })
    }

    fn gate(step: Step, condition: Condition) -> Statement {
        Statement { step, condition, outcome: Outcome::ReturnUnless }
    }

    fn masquerade(step: Step, condition: Condition) -> Statement {
        Statement { step, condition, outcome: Outcome::When(Verdict::Masquerade) }
    }

    fn always() -> Statement {
        masquerade(Step::Otherwise, Condition::AnyOf(vec![Vec::new()]))
    }

    fn chains(statements: Vec<Statement>, ports: Option<&str>, dialect: Dialect) -> Chains {
        let masquerade = Masquerade { random_fully: true, to_ports: ports.map(|text| text.parse().unwrap()) };
        let sections = vec![SectionRules { section: Section::Egress(2), statements, masquerade }];
        let hooks = vec![HookRules { hook: Hook::Postrouting, position: JumpPosition::Last, sections }];
        lower(&Ruleset { family: Family::V4, hooks }, dialect)
    }

    /// Each rule as its chain, its name, how many matches it has, and where it leads.
    fn lines(statements: Vec<Statement>, ports: Option<&str>, dialect: Dialect) -> Vec<String> {
        let lowered = chains(statements, ports, dialect);
        let place = |id: ChainId| match id.place {
            Place::Part(part) => part.to_string(),
            Place::Masquerade => "m".to_owned(),
        };
        let line = |chain: ChainId, rule: &Rule| {
            let matches: String = rule.when.iter().map(|one| if one.negated { '!' } else { '+' }).collect();
            let effect = match &rule.then {
                Effect::Return => "return".to_owned(),
                Effect::Goto(chain) | Effect::Jump(chain) => place(*chain),
                Effect::Masquerade { .. } => "masquerade".to_owned(),
            };
            format!("{} {} [{matches}] {effect}", place(chain), rule.id)
        };
        lowered.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| line(chain.id, rule))).collect()
    }

    #[test]
    fn a_gate_is_one_rule_where_one_match_can_say_the_opposite() {
        let source = || gate(Step::Source, list(ListKey::Sources, &["10.0.0.0/8"]));
        let expected = ["1 egress2-source [!] return", "1 egress2-otherwise [] masquerade"];
        assert_eq!(lines(vec![source(), always()], None, IPTABLES), expected);
        assert_eq!(lines(vec![source(), always()], None, NFTABLES), expected);
        let bridged = gate(Step::Bridged, Condition::AnyOf(vec![vec![Match::is(Test::Bridged)]]));
        let expected =
            ["1 egress2-bridged/in-scope [+] 2", "1 egress2-bridged [] return", "2 egress2-otherwise [] masquerade"];
        assert_eq!(lines(vec![bridged, always()], None, NFTABLES), expected);
    }

    #[test]
    fn a_gate_with_several_ways_through_leads_to_a_chain_of_its_own() {
        let wan = |name: &str| vec![Match::is(Test::OutInterface { name: name.into(), prefix: false })];
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
        let shares = |place: &str| {
            let ports = format!("{place} egress2-to-ports [+] masquerade");
            [ports.clone(), ports.clone(), ports, format!("{place} egress2-to-ports/no-ports [] masquerade")]
        };
        let to_chain = "1 egress2-exception [+] m".to_owned();
        let iptables = lines(vec![exception(), always()], Some("1-9"), IPTABLES);
        assert_eq!(iptables, [&[to_chain.clone()][..], &shares("1"), &shares("m")].concat());
        assert_eq!(lines(vec![always()], Some("1-9"), IPTABLES), shares("1"));
        let nftables = lines(vec![exception(), always()], Some("1-9"), NFTABLES);
        assert_eq!(nftables, [&[to_chain, "1 egress2-otherwise [] m".to_owned()][..], &shares("m")].concat());
    }

    #[test]
    fn a_list_that_is_longer_than_what_may_be_rules_stays_a_list() {
        let exempt = |prefixes: &[&str]| {
            let outcome = Outcome::When(Verdict::KeepSource);
            vec![Statement { step: Step::Exempt, condition: list(ListKey::Exempt, prefixes), outcome }, always()]
        };
        let short = chains(exempt(&["10.0.0.0/8", "172.16.0.0/12"]), None, IPTABLES);
        assert_eq!((short.chains[0].rules.len(), short.lists.len()), (3, 0));
        let long = chains(exempt(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), None, IPTABLES);
        assert_eq!((long.chains[0].rules.len(), long.lists.len()), (2, 1));
    }
}
