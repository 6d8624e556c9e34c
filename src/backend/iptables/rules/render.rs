//! A ruleset in the words of iptables. Pure.

use super::rule::{COMMENT_PREFIX, RuleSpec};
use super::sets::{DesiredSet, THRESHOLD};
use crate::policy::{ForwardMark, Step};
use crate::ruleset::{
    ChainId, ChainName, Dialect, Effect, Entry, Hook, JumpPosition, ListId, LoweredChain, LoweredRule, Place, RuleId,
    RuleStep, Ruleset, add_forwards, guarded, lower,
};
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
    /// The rules of built-in chains that lead to them.
    pub jumps: Vec<Jump>,
    /// The sets that the chains refer to.
    pub sets: Vec<DesiredSet>,
}

/// A rule of a built-in chain that leads to a chain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// The built-in chain is that of this hook.
    pub hook: Hook,
    /// Its place among the rules there.
    pub position: JumpPosition,
    /// The chain of ours; `DROP` for the guard of loopback addresses, which has none.
    pub to: String,
    /// The rule.
    pub rule: RuleSpec,
}

/// One chain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedChain {
    /// Its name.
    pub name: String,
    /// Its rules, never none, and what each of them is known by.
    pub rules: Vec<(RuleId, RuleSpec)>,
}

/// The comment of a jump to a chain, in front of the chain's name; the Go agents write the same.
pub const JUMP_COMMENT: &str =
    "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom ";
/// What the comments of all rules of built-in chains begin with.
pub const BUILT_IN_COMMENT: &str = "ip-masq-agent: ensure ";
/// The comment of the rule that guards loopback addresses.
pub const GUARD_COMMENT: &str =
    "ip-masq-agent: ensure raw PREROUTING drops what others send to loopback addresses (localhost of portForwards)";
/// What is behind the prefix in the comment of a rule that returns; the Go agents write the same.
pub const KEEP_COMMENT: &str = "local traffic is not subject to MASQUERADE";
/// The same for a rule that masquerades.
pub const MASQUERADE_COMMENT: &str = "outbound traffic is subject to MASQUERADE (must be last in chain)";

/// The same for a rule that marks: what it leads to is never a chain of ours.
pub const MARK_COMMENT: &str =
    "a forward whose source is to be translated is marked (markMasqBit, externalSetMarkChain)";

/// Says a ruleset in rules, chains and sets.
pub fn render(ruleset: &Ruleset, context: Context<'_>) -> Rendered {
    let inline = context.sets.map_or(usize::MAX, |_| THRESHOLD);
    let dialect = Dialect { inline: Some(inline), random_fully: context.random_fully, maps: None };
    let mut lowered = lower(ruleset, dialect);
    add_forwards(ruleset, dialect, &mut lowered);
    let existing = context.sets.unwrap_or_default();
    let set = |list| DesiredSet::new(context.chain, list, ruleset.family, existing);
    let named: Vec<(ListId, DesiredSet)> = lowered.lists.iter().map(|list| (list.id, set(list))).collect();
    let set_name = |id: ListId| {
        let named = named.iter().find(|(list, _)| *list == id);
        named.map_or_else(String::new, |(_, set)| set.name.clone())
    };
    let parts = |section| {
        let is_part = |chain: &&LoweredChain| chain.id.section == section && matches!(chain.id.place, Place::Part(_));
        lowered.chains.iter().filter(is_part).count()
    };
    let chain_name = |id: ChainId| {
        // Counted for the few that are named by it: there may be thousands of chains.
        let other = if id.place == Place::Masquerade { parts(id.section) + 1 } else { 0 };
        context.chain.of(id, other)
    };
    let spec = |LoweredRule { id, when, then }: &LoweredRule| {
        let when = when.iter().cloned().map(|one| one.rename(set_name)).collect();
        let then = match then.clone().rename(chain_name) {
            // So it is listed.
            Effect::Mark(ForwardMark::Chain(chain)) => Effect::Jump(chain),
            other => other,
        };
        (*id, RuleSpec::new(when, Some(comment_of(*id)), then))
    };
    let chain = |chain: &LoweredChain| RenderedChain {
        name: chain_name(chain.id),
        rules: chain.rules.iter().map(spec).collect(),
    };
    let guard = ruleset.forwards.has_localhost().then(guard);
    let jumps = lowered.entries.iter().map(|entry| jump(entry, chain_name(entry.to)));
    let mut jumps: Vec<Jump> = guard.into_iter().chain(jumps).collect();
    jumps.sort_by_key(|jump| jump.hook);
    Rendered {
        chains: lowered.chains.iter().map(chain).collect(),
        jumps,
        sets: distinct(named.into_iter().map(|(_, set)| set)),
    }
}

/// Lists of one kind with the same prefixes share a set: its name is made of what is in it.
fn distinct(sets: impl Iterator<Item = DesiredSet>) -> Vec<DesiredSet> {
    let mut distinct: Vec<DesiredSet> = Vec::new();
    for set in sets {
        if distinct.iter().all(|known| known.name != set.name) {
            distinct.push(set);
        }
    }
    distinct
}

/// The rule that leads to a chain.
fn jump(&Entry { hook, position, .. }: &Entry, chain: String) -> Jump {
    let comment = match hook {
        Hook::Postrouting => format!("{JUMP_COMMENT}{chain} chain"),
        _ => format!("{BUILT_IN_COMMENT}nat {} directs LOCAL destination traffic to our {chain} chain", built_in(hook)),
    };
    let rule = RuleSpec::new(hook.when(), Some(comment), Effect::Jump(chain.clone()));
    Jump { hook, position, to: chain, rule }
}

/// The comment of a rule. Its section is that of its chain.
fn comment_of(id: RuleId) -> String {
    format!("{COMMENT_PREFIX}{}", comment(id.step))
}

/// What comes to loopback addresses from elsewhere goes no further. In front of all else, whatever `jumpPosition` says: a
/// rule that lets it through would open every service of this host that trusts in being reached by the host alone.
fn guard() -> Jump {
    let rule = RuleSpec::new(guarded(), Some(GUARD_COMMENT.to_owned()), Effect::Drop);
    Jump { hook: Hook::RawPrerouting, position: JumpPosition::First, to: "DROP".to_owned(), rule }
}

/// The comment of a rule behind the prefix; some are those that the Go agents write.
fn comment(step: RuleStep) -> &'static str {
    let step = match step {
        RuleStep::Decide(step) => step,
        RuleStep::Far => Step::Otherwise,
        RuleStep::Pass(_) | RuleStep::Enter => return "in scope, the next chain decides",
        RuleStep::Ports | RuleStep::Portless => return MASQUERADE_COMMENT,
        RuleStep::Forward(_) => return "forwarded (portForwards)",
        RuleStep::Mark => return MARK_COMMENT,
        RuleStep::LeftToHost(_) => return "left to this host (portForwards)",
        RuleStep::RouteSource => return "outbound traffic is subject to SNAT to what its route prefers (route-source)",
        RuleStep::NoRouteSource => return "outbound traffic whose route prefers no source is subject to MASQUERADE",
        RuleStep::Guard => return "loopback addresses are for this host alone (localhost of portForwards)",
    };
    match step {
        Step::ForwardMark => "what bears the mark of forwards is subject to MASQUERADE (markMasqBit)",
        Step::ForwardLocalhost => "a forward from loopback is subject to MASQUERADE (portForwards)",
        Step::ForwardHairpin => "a forward whose target would answer past this host is subject to MASQUERADE (hairpin)",
        Step::Forwarded | Step::ForwardExternalMark => "forwards are not subject to MASQUERADE (portForwards)",
        Step::ExemptMark => "marked packets are not subject to SNAT (exemptMarks)",
        Step::ExemptIpsec => "what an IPsec policy will encrypt is not subject to SNAT (exemptIpsec)",
        Step::NoSnat => "sources stay (snat: none)",
        Step::OutInterface => "outgoing interface out of scope (outInterfaces)",
        Step::Source => "source out of scope (sourceCIDRs)",
        Step::ExcludedSource => "source out of scope (excludeSourceCIDRs)",
        Step::LocalSourceOnOutInterface => "an address of the outgoing interface is not subject to MASQUERADE",
        Step::MidStream => "open connections of this host are not subject to MASQUERADE",
        Step::Bridged => "bridged frames are not subject to MASQUERADE",
        Step::Exception => "exceptions are subject to MASQUERADE whatever follows",
        Step::Multicast => "multicast and broadcast are not subject to MASQUERADE",
        Step::FamilyDisabled | Step::LinkLocal | Step::Exempt => KEEP_COMMENT,
        Step::Otherwise => MASQUERADE_COMMENT,
    }
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
        let jumps = |table: Table| {
            let of_table = self.jumps.iter().filter(move |jump| Table::of(jump.hook) == table);
            of_table.map(|jump| format!("{} {}\n", jump_command(jump.hook, jump.position, true), jump.rule))
        };
        let mut guards = jumps(Table::Raw).peekable();
        if guards.peek().is_some() {
            f.write_str("*raw\n")?;
            guards.try_for_each(|line| f.write_str(&line))?;
            f.write_str("COMMIT\n")?;
        }
        f.write_str("*nat\n")?;
        self.chains.iter().try_for_each(|chain| writeln!(f, ":{} - [0:0]", chain.name))?;
        jumps(Table::Nat).try_for_each(|line| f.write_str(&line))?;
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
        for (_, rule) in &self.rules {
            let _ = writeln!(lines, "-A {} {rule}", self.name);
        }
        lines
    }
}

/// How a jump is written that is to be at its position, or is seen not to be there.
pub fn jump_command(hook: Hook, position: JumpPosition, is_first: bool) -> String {
    let chain = built_in(hook);
    match (position, is_first) {
        (JumpPosition::First, true) => format!("-I {chain} 1"),
        _ => format!("-A {chain}"),
    }
}

/// A table that holds rules of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// All but what is in the other one.
    Nat,
    /// The guard of loopback addresses.
    Raw,
}

impl Table {
    /// The table whose built-in chain is at a hook.
    pub fn of(hook: Hook) -> Self {
        match hook {
            Hook::RawPrerouting => Table::Raw,
            Hook::Prerouting | Hook::Output | Hook::Postrouting => Table::Nat,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Nat => "nat",
            Table::Raw => "raw",
        }
    }
}

/// The built-in chain at a hook.
pub fn built_in(hook: Hook) -> &'static str {
    match hook {
        Hook::RawPrerouting | Hook::Prerouting => "PREROUTING",
        Hook::Output => "OUTPUT",
        Hook::Postrouting => "POSTROUTING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Family, Origin, Policy, Prefix, PrefixSet};
    use crate::ruleset::HostFacts;

    /// The rules of our chains, comments left out.
    fn lines(policy: &Policy, random_fully: bool) -> Vec<String> {
        let ruleset = Ruleset::new(policy, Family::V4, JumpPosition::Last, &HostFacts::default()).unwrap();
        let chain: ChainName = "M".parse().unwrap();
        let text = render(&ruleset, Context { chain: &chain, random_fully, sets: Some(&[]) }).to_string();
        let rule = |line: &str| {
            let (front, comment) = line.strip_prefix("-A M")?.split_once("-m comment --comment \"")?;
            Some(format!("M{front}{}", comment.split_once("\" ")?.1))
        };
        text.lines().filter_map(rule).collect()
    }

    fn plain() -> Policy {
        Policy {
            random_fully: true,
            masq_local_source: true,
            masq_link_local: true,
            masq_multicast: true,
            ..Policy::default()
        }
    }

    fn list(prefixes: impl IntoIterator<Item = Prefix>) -> PrefixSet {
        PrefixSet::from_prefixes(prefixes, &Origin::Default)
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
        assert_eq!(lines(&Policy { to_ports: "1-100,301-600".parse().ok(), ..plain() }, false), expected);
    }

    #[test]
    fn one_prefix_more_than_the_threshold_is_a_set() {
        let exempt = |count: usize| {
            let prefixes = (0..count).map(|n| format!("10.{}.0.0/24", n).parse().unwrap());
            lines(&Policy { exempt: list(prefixes), ..plain() }, true)
        };
        assert_eq!(exempt(64).len(), 65);
        let one = exempt(65);
        assert!(one.len() == 2 && one[0].starts_with("M -m set --match-set ima4-exempt-"), "{one:?}");
    }
}
