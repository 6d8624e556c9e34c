//! A ruleset in the words of iptables. Pure.

use super::rule::{AddressType, Direction, Match, Rule, Target, TcpFlags};
use super::sets::{DesiredSet, THRESHOLD};
use crate::policy::{PortRange, Step, Verdict};
use crate::ruleset::{ChainName, Condition, Group, JumpPosition, Masquerade, Outcome, Ruleset, Statement};
use crate::sys::nfnetlink::ipset::SetHeader;
use std::fmt::{self, Write};

/// What a rendering depends on besides the ruleset.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The name of our chain.
    pub chain: &'a ChainName,
    /// Whether this iptables knows `--random-fully` (1.6.2).
    pub random_fully: bool,
    /// The sets that the kernel has; `None` where long lists must be rules.
    pub sets: Option<&'a [SetHeader]>,
}

/// All that one family should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Our chains, the one that is jumped to first.
    pub chains: Vec<RenderedChain>,
    /// The rule of POSTROUTING that leads to the first of them.
    pub jump: Rule,
    /// Where the jump belongs.
    pub position: JumpPosition,
    /// The sets that the chains refer to.
    pub sets: Vec<DesiredSet>,
}

/// One chain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedChain {
    /// Its name.
    pub name: String,
    /// Its rules, never none.
    pub rules: Vec<Rule>,
}

/// The comment of a jump to a chain, in front of the chain's name; the Go agents write the same.
pub const JUMP_COMMENT: &str =
    "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom ";
/// What is behind the prefix in the comment of a rule that returns; the Go agents write the same.
pub const KEEP_COMMENT: &str = "local traffic is not subject to MASQUERADE";
/// The same for a rule that masquerades.
pub const MASQUERADE_COMMENT: &str = "outbound traffic is subject to MASQUERADE (must be last in chain)";

/// Says a ruleset in rules, chains and sets.
pub fn render(ruleset: &Ruleset, context: Context<'_>) -> Rendered {
    let mut builder = Builder { ruleset, context, chains: Vec::new(), masquerade_chain: None, sets: Vec::new() };
    builder.open_chain();
    for statement in &ruleset.statements {
        if builder.add(statement) == Flow::Ends {
            break;
        }
    }
    let Builder { mut chains, masquerade_chain, sets, .. } = builder;
    chains.extend(masquerade_chain);
    Rendered { chains, jump: jump(context.chain), position: ruleset.position, sets }
}

/// The rule of POSTROUTING that leads to a chain.
fn jump(chain: &ChainName) -> Rule {
    let mut rule = Rule::new(Target::Jump(chain.to_string()));
    rule.comment = Some(format!("{JUMP_COMMENT}{chain} chain"));
    let destination = Some(Match::is_not("LOCAL".to_owned()));
    rule.address_type = Some(AddressType { destination, ..AddressType::default() });
    rule
}

/// Whether anything behind a statement can still be reached.
#[derive(PartialEq, Eq)]
enum Flow {
    GoesOn,
    Ends,
}

struct Builder<'a> {
    ruleset: &'a Ruleset,
    context: Context<'a>,
    chains: Vec<RenderedChain>,
    /// Where several rules make up a masquerade that more than one rule leads to.
    masquerade_chain: Option<RenderedChain>,
    sets: Vec<DesiredSet>,
}

impl Builder<'_> {
    fn open_chain(&mut self) {
        let name = self.next_name();
        self.chains.push(RenderedChain { name, rules: Vec::new() });
    }

    fn next_name(&self) -> String {
        let made = self.chains.len() + usize::from(self.masquerade_chain.is_some());
        self.context.chain.part(made + 1)
    }

    fn push(&mut self, rule: Rule) {
        if let Some(chain) = self.chains.last_mut() {
            chain.rules.push(rule);
        }
    }

    fn add(&mut self, statement: &Statement) -> Flow {
        let matching = self.matching(&statement.condition);
        match statement.outcome {
            Outcome::KeepUnless => self.gate(matching, comment(statement)),
            Outcome::When(Verdict::KeepSource) => {
                for rule in matching {
                    self.push(Rule { target: Target::Return, ..rule }.commented(comment(statement)));
                }
                Flow::GoesOn
            }
            Outcome::When(Verdict::Masquerade) if statement.condition == Condition::Always => {
                for rule in masquerades(&self.ruleset.masquerade, self.context.random_fully) {
                    self.push(rule.commented(comment(statement)));
                }
                Flow::Ends
            }
            Outcome::When(Verdict::Masquerade) => {
                let target = self.masquerade_target();
                for rule in matching {
                    self.push(Rule { target: target.clone(), ..rule }.commented(comment(statement)));
                }
                Flow::GoesOn
            }
        }
    }

    /// Lets on only what one of the rules matches. What falls through keeps its source.
    fn gate(&mut self, mut matching: Vec<Rule>, comment: &str) -> Flow {
        if matching.iter().any(matches_everything) {
            return Flow::GoesOn;
        }
        if matching.is_empty() {
            self.push(Rule::new(Target::Return).commented(comment));
            return Flow::Ends;
        }
        if matching.len() == 1
            && let Some(rule) = matching.pop()
        {
            self.push(inverted(rule).commented(comment));
            return Flow::GoesOn;
        }
        let next = self.next_name();
        for rule in matching {
            self.push(Rule { target: Target::Goto(next.clone()), ..rule }.commented(IN_SCOPE_COMMENT));
        }
        self.push(Rule::new(Target::Return).commented(comment));
        self.open_chain();
        Flow::GoesOn
    }

    /// What masquerades at once: one rule's target, or a chain of several rules.
    fn masquerade_target(&mut self) -> Target {
        let mut rules = masquerades(&self.ruleset.masquerade, self.context.random_fully);
        if rules.len() == 1
            && let Some(rule) = rules.pop()
        {
            return rule.target;
        }
        if self.masquerade_chain.is_none() {
            let rules = rules.into_iter().map(|rule| rule.commented(MASQUERADE_COMMENT)).collect();
            self.masquerade_chain = Some(RenderedChain { name: self.next_name(), rules });
        }
        Target::Goto(self.masquerade_chain.as_ref().map_or_else(String::new, |chain| chain.name.clone()))
    }

    /// Rules that together match what the condition says; their targets are still to be set.
    fn matching(&mut self, condition: &Condition) -> Vec<Rule> {
        let rule = Rule::new(Target::Return);
        let local = || Some(Match::is("LOCAL".to_owned()));
        match condition {
            Condition::OutInterface(patterns) => patterns
                .iter()
                .map(|pattern| Rule { out_interface: Some(Match::is(pattern.positive())), ..rule.clone() })
                .collect(),
            Condition::Source(group) => self.group(group, Direction::Source),
            Condition::Destination(group) => self.group(group, Direction::Destination),
            Condition::Range(prefix) => vec![Rule { destination: Some(Match::is(*prefix)), ..rule }],
            Condition::LocalSourceOnOutInterface => {
                let types = AddressType { source: local(), destination: None, limit_iface_out: true };
                vec![Rule { address_type: Some(types), ..rule }]
            }
            Condition::LocalSourceNotOpening => vec![Rule {
                protocol: Some("tcp".to_owned()),
                tcp_flags: Some(Match::is_not(TcpFlags::OPENING)),
                address_type: Some(AddressType { source: local(), ..AddressType::default() }),
                ..rule
            }],
            Condition::Bridged => vec![Rule { bridged: true, ..rule }],
            Condition::Always => vec![rule],
        }
    }

    fn group(&mut self, group: &Group, direction: Direction) -> Vec<Rule> {
        let rule = Rule::new(Target::Return);
        if let Some(existing) = self.context.sets.filter(|_| group.prefixes.len() > THRESHOLD) {
            let set = DesiredSet::new(self.context.chain, group, self.ruleset.family, existing);
            let set_match = Some(Match::is((set.name.clone(), direction)));
            self.sets.push(set);
            return vec![Rule { set: set_match, ..rule }];
        }
        let prefixes = group.prefixes.iter();
        let matches = prefixes.map(|prefix| (prefix.length() > 0).then(|| Match::is(*prefix)));
        match direction {
            Direction::Source => matches.map(|source| Rule { source, ..rule.clone() }).collect(),
            Direction::Destination => matches.map(|destination| Rule { destination, ..rule.clone() }).collect(),
        }
    }
}

const IN_SCOPE_COMMENT: &str = "in scope, the next chain decides";

fn comment(statement: &Statement) -> &'static str {
    match statement.step {
        Step::OutInterface => "outgoing interface out of scope (outInterfaces)",
        Step::Source => "source out of scope (sourceCIDRs)",
        Step::ExcludedSource => "source out of scope (excludeSourceCIDRs)",
        Step::LocalSourceOnOutInterface => "an address of the outgoing interface is not subject to MASQUERADE",
        Step::LocalSourceNotOpening => "open connections of this host are not subject to MASQUERADE",
        Step::Bridged => "bridged frames are not subject to MASQUERADE",
        Step::Exception => "exceptions are subject to MASQUERADE whatever follows",
        Step::Multicast => "multicast and broadcast are not subject to MASQUERADE",
        Step::FamilyDisabled | Step::LinkLocal | Step::Exempt => KEEP_COMMENT,
        Step::Otherwise => MASQUERADE_COMMENT,
    }
}

fn matches_everything(rule: &Rule) -> bool {
    rule.source.is_none() && rule.out_interface.is_none() && rule.set.is_none()
}

/// The rule that matches what the other, with its one match, does not.
fn inverted(rule: Rule) -> Rule {
    Rule {
        source: rule.source.map(Match::inverse),
        out_interface: rule.out_interface.map(Match::inverse),
        set: rule.set.map(Match::inverse),
        ..rule
    }
}

/// The rules that masquerade whatever reaches them: the Go agent's scheme, every port of `toPorts` equally likely.
fn masquerades(masquerade: &Masquerade, random_fully_known: bool) -> Vec<Rule> {
    let random_fully = masquerade.random_fully && random_fully_known;
    let target = |to_ports: Option<PortRange>| Target::Masquerade { to_ports, random_fully };
    let mut rules = Vec::new();
    let ranges = masquerade.to_ports.as_ref().map(|ports| ports.with_remaining()).unwrap_or_default();
    for protocol in ["tcp", "udp", "sctp"] {
        rules.extend(ranges.iter().map(|(range, left)| Rule {
            protocol: Some(protocol.to_owned()),
            probability: (range.size() < *left).then(|| share(range.size(), *left)),
            ..Rule::new(target(Some(*range)))
        }));
    }
    rules.push(Rule::new(target(None)));
    rules
}

/// `part / whole` in units of 2^-31, rounded as libxt_statistic does.
fn share(part: u32, whole: u32) -> u32 {
    (f64::from(part) / f64::from(whole) * f64::from(1u32 << 31)).round() as u32
}

impl fmt::Display for Rendered {
    /// As two programs would read it on an empty kernel: the lines of `ipset restore`, then those of
    /// `iptables-restore`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for set in &self.sets {
            writeln!(f, "{}", set.create_line())?;
            let mut members = set.members.to_vec();
            members.sort();
            members.iter().try_for_each(|member| writeln!(f, "add {} {member}", set.name))?;
        }
        f.write_str("*nat\n")?;
        self.chains.iter().try_for_each(|chain| writeln!(f, ":{} - [0:0]", chain.name))?;
        writeln!(f, "{} {}", jump_command(self.position, true), self.jump)?;
        for chain in &self.chains {
            f.write_str(&chain.rule_lines())?;
        }
        f.write_str("COMMIT\n")
    }
}

impl RenderedChain {
    /// The lines that fill it.
    pub fn rule_lines(&self) -> String {
        let mut lines = String::new();
        for rule in &self.rules {
            let _ = writeln!(lines, "-A {} {rule}", self.name);
        }
        lines
    }
}

/// How a jump is written that is to be at its position, or is seen not to be there.
pub fn jump_command(position: JumpPosition, is_first: bool) -> &'static str {
    match (position, is_first) {
        (JumpPosition::First, true) => "-I POSTROUTING 1",
        _ => "-A POSTROUTING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Family, InterfacePattern, Prefix};
    use crate::ruleset::GroupKind;

    fn masquerade(ports: Option<&str>) -> Masquerade {
        Masquerade { random_fully: true, to_ports: ports.map(|text| text.parse().unwrap()) }
    }

    fn otherwise() -> Statement {
        Statement { step: Step::Otherwise, condition: Condition::Always, outcome: Outcome::When(Verdict::Masquerade) }
    }

    fn group(kind: GroupKind, prefixes: &[&str]) -> Group {
        Group { kind, prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn interfaces(names: &[&str]) -> Condition {
        Condition::OutInterface(names.iter().map(|name| name.parse::<InterfacePattern>().unwrap()).collect())
    }

    /// The chains as lines, comments left out.
    fn lines(statements: Vec<Statement>, masquerade: Masquerade, random_fully: bool) -> Vec<String> {
        let ruleset = Ruleset { family: Family::V4, position: JumpPosition::Last, statements, masquerade };
        let chain: ChainName = "M".parse().unwrap();
        let rendered = render(&ruleset, Context { chain: &chain, random_fully, sets: Some(&[]) });
        let line = |chain: &RenderedChain, rule: &Rule| {
            let rule = Rule { comment: None, ..rule.clone() };
            format!("{} {rule}", chain.name)
        };
        rendered.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| line(chain, rule))).collect()
    }

    #[test]
    fn a_gate_with_several_ways_through_leads_to_a_chain_of_its_own() {
        let statements = vec![
            Statement { step: Step::OutInterface, condition: interfaces(&["a0", "b+"]), outcome: Outcome::KeepUnless },
            Statement {
                step: Step::Source,
                condition: Condition::Source(group(GroupKind::Sources, &["10.0.0.0/8", "192.168.0.0/16"])),
                outcome: Outcome::KeepUnless,
            },
            otherwise(),
        ];
        let expected = [
            "M -o a0 -g M-2",
            "M -o b+ -g M-2",
            "M -j RETURN",
            "M-2 -s 10.0.0.0/8 -g M-3",
            "M-2 -s 192.168.0.0/16 -g M-3",
            "M-2 -j RETURN",
            "M-3 -j MASQUERADE --random-fully",
        ];
        assert_eq!(lines(statements, masquerade(None), true), expected);
    }

    #[test]
    fn ports_are_spread_over_the_ranges_for_each_protocol() {
        let expected = [
            "M -p tcp -m statistic --mode random --probability 0.25000000000 -j MASQUERADE --to-ports 1-100",
            "M -p tcp -j MASQUERADE --to-ports 301-600",
            "M -p udp -m statistic --mode random --probability 0.25000000000 -j MASQUERADE --to-ports 1-100",
            "M -p udp -j MASQUERADE --to-ports 301-600",
            "M -p sctp -m statistic --mode random --probability 0.25000000000 -j MASQUERADE --to-ports 1-100",
            "M -p sctp -j MASQUERADE --to-ports 301-600",
            "M -j MASQUERADE",
        ];
        assert_eq!(lines(vec![otherwise()], masquerade(Some("1-100,301-600")), false), expected);
    }

    #[test]
    fn exceptions_share_one_chain_where_a_masquerade_is_several_rules() {
        let exceptions = Statement {
            step: Step::Exception,
            condition: Condition::Destination(group(GroupKind::Exceptions, &["10.1.0.0/16", "10.3.0.0/16"])),
            outcome: Outcome::When(Verdict::Masquerade),
        };
        let single = lines(vec![exceptions.clone(), otherwise()], masquerade(None), true);
        assert_eq!(single[0], "M -d 10.1.0.0/16 -j MASQUERADE --random-fully");
        let several = lines(vec![exceptions, otherwise()], masquerade(Some("1-9")), true);
        assert_eq!(several[..2], ["M -d 10.1.0.0/16 -g M-2", "M -d 10.3.0.0/16 -g M-2"]);
        assert_eq!(several.iter().filter(|line| line.starts_with("M-2 ")).count(), 4);
    }

    #[test]
    fn one_prefix_more_than_the_threshold_is_a_set() {
        let prefixes: Vec<Prefix> = (0..65).map(|n| format!("10.{n}.0.0/24").parse().unwrap()).collect();
        let exempt = |count: usize| Statement {
            step: Step::Exempt,
            condition: Condition::Destination(Group { kind: GroupKind::Exempt, prefixes: prefixes[..count].into() }),
            outcome: Outcome::When(Verdict::KeepSource),
        };
        assert_eq!(lines(vec![exempt(64), otherwise()], masquerade(None), true).len(), 65);
        let one = lines(vec![exempt(65), otherwise()], masquerade(None), true);
        assert!(one.len() == 2 && one[0].starts_with("M -m set --match-set ima4-exempt-"), "{one:?}");
    }
}
