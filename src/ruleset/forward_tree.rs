//! Port forwards in chains of rules, for a backend without maps: what a packet costs does not grow with their number.
//!
//! Up to [`FLAT`] rules are one chain. More are a tree, which chooses by address, then by protocol, then by the
//! hexadecimal digits of the port, each from at most 16. The place of a rule depends on what it is for and on how many
//! others are near it, so that a forward that comes or goes changes few chains. Every way through a tree is short: the
//! kernel refuses more than 16 chains that lead on from one to the next.

use super::build::{Hook, Ruleset};
use super::forward::{ForwardRule, ForwardRules, GateRule, not_forwarded};
use super::forward_chain::{Digits, ForwardChain, Host, Node, Tree};
use super::id::{ChainId, NotForwarded, Place, RuleId, RuleStep, SectionId};
use super::lower::{Chains, Dialect, Entry, LoweredChain, LoweredRule};
use super::matches::{Address, Effect, Fact, Match, ShiftedPort, Side, Test, within};
use crate::policy::{Family, ForwardMark, LOOPBACK_V4, LOOPBACK_V6, PortRange, Prefix, Protocol, Step};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// So many rules are asked one after the other.
const FLAT: usize = 16;
/// Bits of an address, or of a port, that one chain chooses by.
const BITS: u8 = 4;
/// The last digit of a port is not chosen by: of 16 ports the rules are asked one after the other.
const MOST_DIGITS: u8 = 3;
/// So many chains in a row at most choose by protocol and port, behind that of an address.
const LEVELS_OF_PORTS: usize = 1 + MOST_DIGITS as usize;

/// Adds the forwards of a ruleset to its chains.
pub fn add_forwards(ruleset: &Ruleset, dialect: Dialect, chains: &mut Chains) {
    let spelled_out =
        (!dialect.has_sets() && !ruleset.forwards.lists.is_empty()).then(|| ruleset.forwards.spelled_out());
    let forwards = spelled_out.as_ref().unwrap_or(&ruleset.forwards);
    chains.lists.extend(forwards.lists.iter().cloned());
    let Some(postrouting) = ruleset.hooks.iter().find(|hook| hook.hook == Hook::Postrouting) else { return };
    if forwards.rules.is_empty() {
        return;
    }
    let random_fully = postrouting.sections.first().is_some_and(|top| top.translation.random_fully);
    let masquerade = Effect::Masquerade { random_fully: random_fully && dialect.random_fully, ports: None };
    let decided = RuleStep::Decide(Step::ForwardMark);
    let marked = forwards.is_marked().map(|mark| rule(decided, vec![mark], masquerade.clone()));
    let rest = lead_targets_away(marked, chains);
    let mut targets = targets(forwards, &masquerade);
    if targets.len() > FLAT {
        targets = joined(targets);
    }
    Growth::new(Tree::Targets, chains).root(targets, Some(rest));
    let common = common(forwards);
    let loopback = loopback(forwards);
    let begin = |chains: &mut Chains, hook, chain, rules| {
        let to = id(chain);
        chains.entries.push(Entry { hook, position: postrouting.position, to });
        chains.chains.push(LoweredChain { id: to, rules });
    };
    let go_on = || enter(Vec::new(), root(Tree::Common));
    if !common.is_empty() {
        let mut rules = leave(ruleset.family, Hook::Prerouting);
        rules.push(go_on());
        begin(chains, Hook::Prerouting, ForwardChain::Prerouting, rules);
    }
    let is_from_host = |rule: &ForwardRule| rule.from_host && !is_loopback(rule);
    // None where all are for clients of the other family.
    let is_common_from_host = !common.is_empty() && forwards.rules.iter().any(is_from_host);
    if is_common_from_host || !loopback.is_empty() {
        let mut rules = match loopback.is_empty() {
            true => leave(ruleset.family, Hook::Output),
            false => vec![enter(within(Side::Daddr, LOOPBACK_V4), root(Tree::Loopback))],
        };
        rules.extend(is_common_from_host.then(go_on));
        begin(chains, Hook::Output, ForwardChain::Output, rules);
    }
    Growth::new(Tree::Common, chains).root(common, None);
    Growth::new(Tree::Loopback, chains).root(loopback, None);
    chains.chains.extend(forwards.rules.iter().filter_map(|forward| gate_chain(forward, forwards.mark())));
}

/// Makes room for a first chain in postrouting, and returns what was the first one.
fn lead_targets_away(marked: Option<LoweredRule>, chains: &mut Chains) -> ChainId {
    let behind = |id: ChainId| match id {
        ChainId { section: SectionId::Top, place: Place::Part(part) } => ChainId { place: Place::Part(part + 1), ..id },
        other => other,
    };
    for chain in &mut chains.chains {
        chain.id = behind(chain.id);
        for rule in &mut chain.rules {
            rule.then = rule.then.clone().rename(behind);
        }
    }
    let first = ChainId { section: SectionId::Top, place: Place::Part(1) };
    let lead = [enter(vec![Match::Holds(Fact::Dnated)], root(Tree::Targets)), enter(Vec::new(), behind(first))];
    let rules = marked.into_iter().chain(lead).collect();
    chains.chains.insert(0, LoweredChain { id: first, rules });
    behind(first)
}

/// A rule on its way to its place in a tree.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    /// The address that it is for; of those of all addresses only what those of one address do not decide.
    host: Option<IpAddr>,
    protocol: Protocol,
    ports: PortRange,
    /// It is asked behind those that are not.
    is_last: bool,
    step: RuleStep,
    when: Vec<Match>,
    then: Effect,
}

fn common(forwards: &ForwardRules) -> Vec<Item> {
    let asked = forwards.rules.iter().filter(|rule| !is_loopback(rule));
    asked.flat_map(|forward| translations(forward, forwards.mark())).collect()
}

fn loopback(forwards: &ForwardRules) -> Vec<Item> {
    let asked = forwards.rules.iter().filter(|rule| rule.localhost);
    asked.flat_map(|forward| translations(forward, forwards.mark())).collect()
}

fn is_loopback(rule: &ForwardRule) -> bool {
    rule.host.is_some_and(|host| host.is_loopback())
}

/// What the gates become; what none of them lets through is left to the host where others are for any address.
fn translations(forward: &ForwardRule, mark: Option<&ForwardMark>) -> Vec<Item> {
    let ForwardRule { number, protocol, host, ports, .. } = *forward;
    let item = |is_last, step, when, then| Item { host, protocol, ports, is_last, step, when, then };
    let to = |gate: &Vec<Match>| -> Vec<Item> {
        if asks_interfaces(gate) {
            let asked = gate.iter().filter(|one| !is_other_interface(one)).cloned();
            let when = asked.chain(not_of_the_host(forward.only_arriving(gate))).collect();
            let then = Effect::Jump(id(ForwardChain::Gate(number, protocol)));
            return vec![item(false, RuleStep::Enter, when, then)];
        }
        let own = |rule: GateRule<'_>| {
            let (step, then) = (rule.step(), effect(forward, &rule));
            item(false, step, rule.when.into_iter().chain(not_of_the_host(rule.only_arriving)).collect(), then)
        };
        forward.through(gate, mark).into_iter().map(own).collect()
    };
    let refused = host.is_some() && !forward.is_open();
    let step = RuleStep::LeftToHost(NotForwarded::Refused);
    let refused = refused.then(|| item(true, step, Vec::new(), Effect::Return));
    forward.gates.iter().flat_map(to).chain(refused).collect()
}

/// A rule of iptables asks for one incoming interface.
fn asks_interfaces(gate: &[Match]) -> bool {
    gate.iter().filter(|one| matches!(one.test(), Some(Test::InInterface { .. }))).count() > 1
}

fn is_other_interface(one: &Match) -> bool {
    matches!(one, Match::IsNot(Test::InInterface { .. }))
}

/// Where a forward leads that leaves out interfaces besides another one: the same in each way through its gates. What
/// comes in through one of them goes back, to the forwards that follow.
fn gate_chain(forward: &ForwardRule, mark: Option<&ForwardMark>) -> Option<LoweredChain> {
    let gate = forward.gates.iter().find(|gate| asks_interfaces(gate))?;
    let left_out = gate.iter().filter(|one| is_other_interface(one)).filter_map(Match::inverse);
    let refused = RuleStep::LeftToHost(NotForwarded::Refused);
    let mut rules: Vec<_> = left_out.map(|one| rule(refused, vec![one], Effect::Return)).collect();
    let ports = [Test::Protocol(forward.protocol), Test::DestinationPort(forward.ports)].map(Match::Is);
    let whole = |one: GateRule<'_>| rule(one.step(), [&one.when[..], &ports].concat(), effect(forward, &one));
    rules.extend(forward.through(&[], mark).into_iter().map(whole));
    Some(LoweredChain { id: id(ForwardChain::Gate(forward.number, forward.protocol)), rules })
}

/// Packets of the host have no incoming interface: none is that of a gate, but every one is another than that.
fn not_of_the_host(only_arriving: bool) -> Option<Match> {
    only_arriving.then_some(Match::IsNot(Test::Local(Address::Saddr)))
}

fn effect(forward: &ForwardRule, rule: &GateRule<'_>) -> Effect {
    let port = (!forward.keeps_ports()).then_some(ShiftedPort { from: forward.ports, to: forward.port });
    rule.mark.map_or(Effect::Dnat { to: forward.to, port }, |mark| Effect::Mark(mark.clone()))
}

/// What becomes of sources, by target: several forwards may share one. Where a mark says which are translated, the others
/// are left.
fn targets(forwards: &ForwardRules, masquerade: &Effect) -> Vec<Item> {
    let by_target = forwards.mark.is_none();
    let of = |forward: &ForwardRule| -> Vec<Item> {
        let (host, protocol, ports) = (Some(forward.to), forward.protocol, forward.target_ports());
        let item = |is_last, step, when, then| {
            let step = RuleStep::Decide(step);
            Item { host, protocol, ports, is_last, step, when, then }
        };
        let hidden = forward.hidden().filter(|_| by_target);
        let hidden = hidden.map(|(step, from)| item(false, step, within(Side::Saddr, from), masquerade.clone()));
        hidden.chain([item(true, Step::Forwarded, Vec::new(), Effect::Return)]).collect()
    };
    let key = |item: &Item| (item.host, item.protocol, item.ports.first, item.ports.last);
    let mut items: Vec<Item> = forwards.rules.iter().flat_map(of).collect();
    items.sort_by_key(key);
    let mut distinct: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        if !distinct.iter().rev().take_while(|known| key(known) == key(&item)).any(|known| *known == item) {
            distinct.push(item);
        }
    }
    distinct
}

/// Items of ports that follow each other are one where nothing else tells them apart. They are in the order of ports.
fn joined(items: Vec<Item>) -> Vec<Item> {
    let mut joined: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        let is_near = |known: &&mut Item| {
            (known.host, known.protocol) == (item.host, item.protocol) && known.ports.last >= item.ports.first - 1
        };
        let continued = |known: &&mut Item| {
            let as_known = Item { ports: known.ports, ..item.clone() };
            known.ports.last == item.ports.first - 1 && **known == as_known
        };
        match joined.iter_mut().rev().take_while(is_near).find(continued) {
            Some(known) => known.ports.last = item.ports.last,
            None => joined.push(item),
        }
    }
    joined
}

/// A tree that grows.
struct Growth<'a> {
    tree: Tree,
    /// The words for the addresses so far.
    hosts: BTreeMap<Host, IpAddr>,
    chains: &'a mut Vec<LoweredChain>,
}

impl<'a> Growth<'a> {
    fn new(tree: Tree, chains: &'a mut Chains) -> Self {
        Growth { tree, hosts: BTreeMap::new(), chains: &mut chains.chains }
    }

    /// `miss` is where goes what no rule is for.
    fn root(mut self, items: Vec<Item>, miss: Option<ChainId>) {
        if items.is_empty() {
            return;
        }
        if items.len() <= FLAT {
            return self.flat(Node::Root, &items, false, miss);
        }
        let (any, own): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.host.is_none());
        if own.is_empty() {
            return self.host(Node::Root, None, any, miss);
        }
        let rest = if any.is_empty() { miss } else { Some(self.id(Node::Host(None))) };
        // A rule that returns must not come back to what is for any address: only then the way on is told to each chain,
        // which the kernel follows from all of them before it takes them.
        let returns = own.iter().any(|item| item.is_last);
        let place = self.open(Node::Root);
        let mut rules = self.hosts(own, 1, rest.filter(|_| returns));
        if !returns {
            rules.iter_mut().for_each(|rule| rule.then = jump(&rule.then));
        }
        self.fill(place, rules, rest);
        if !any.is_empty() {
            self.host(Node::Host(None), None, any, miss);
        }
    }

    /// The rules that lead to each address, and the chains there. Where few rules are, they are asked here.
    fn hosts(&mut self, items: Vec<Item>, level: usize, miss: Option<ChainId>) -> Vec<LoweredRule> {
        if items.len() <= FLAT {
            return one_by_one(&items, false);
        }
        let mut by_host: BTreeMap<IpAddr, Vec<Item>> = BTreeMap::new();
        for item in items {
            by_host.entry(item.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))).or_default().push(item);
        }
        if by_host.len() > FLAT && level < self.tree.most_levels() {
            return self.prefixes(by_host, level, miss);
        }
        let (many_ports, mut few): (BTreeMap<_, _>, _) = by_host.into_iter().partition(|(_, items)| items.len() > FLAT);
        let mut rules = Vec::new();
        for (address, items) in many_ports {
            rules.push(self.lead_to(address, items, miss));
        }
        if few.len() > FLAT && level < self.tree.most_levels() + LEVELS_OF_PORTS {
            rules.extend(self.prefixes(std::mem::take(&mut few), level, miss));
        }
        for (address, items) in few {
            match items.as_slice() {
                [only] => rules.push(only.rule(false)),
                _ => rules.push(self.lead_to(address, items, miss)),
            }
        }
        rules
    }

    fn lead_to(&mut self, address: IpAddr, items: Vec<Item>, miss: Option<ChainId>) -> LoweredRule {
        let host = self.word(address);
        let node = Node::Host(Some(host));
        self.host(node, Some(host), items, miss);
        enter(vec![to(address)], self.id(node))
    }

    /// The same for many addresses, by their first bits that differ.
    fn prefixes(
        &mut self,
        by_host: BTreeMap<IpAddr, Vec<Item>>,
        level: usize,
        miss: Option<ChainId>,
    ) -> Vec<LoweredRule> {
        let length = length_of_groups(by_host.keys().copied());
        let mut by_prefix: BTreeMap<Prefix, Vec<Item>> = BTreeMap::new();
        for (address, items) in by_host {
            let prefix = Prefix::containing(address, length);
            by_prefix.entry(prefix.unwrap_or(Family::of(address).whole())).or_default().extend(items);
        }
        let mut rules = Vec::new();
        for (prefix, items) in by_prefix {
            if let [only] = items.as_slice() {
                rules.push(only.rule(false));
                continue;
            }
            let node = Node::Hosts(self.word(prefix.address()), prefix.length());
            rules.push(enter(within(Side::Daddr, prefix), self.id(node)));
            let place = self.open(node);
            let inner = self.hosts(items, level + 1, miss);
            self.fill(place, inner, miss);
        }
        rules
    }

    /// All of one address, or of any.
    fn host(&mut self, node: Node, host: Option<Host>, items: Vec<Item>, miss: Option<ChainId>) {
        if items.len() <= FLAT {
            return self.flat(node, &items, true, miss);
        }
        let mut by_protocol: BTreeMap<Protocol, Vec<Item>> = BTreeMap::new();
        for item in items {
            by_protocol.entry(item.protocol).or_default().push(item);
        }
        let ports = |protocol| Node::Ports(host, protocol, Digits::NONE);
        let lead = |protocol: &Protocol| enter(vec![Match::Is(Test::Protocol(*protocol))], self.id(ports(*protocol)));
        let rules = by_protocol.keys().map(lead).collect();
        let place = self.open(node);
        self.fill(place, rules, miss);
        for (protocol, items) in by_protocol {
            self.ports((host, protocol), Digits::NONE, items, miss);
        }
    }

    /// The ports that begin with the digits.
    fn ports(
        &mut self,
        (host, protocol): (Option<Host>, Protocol),
        digits: Digits,
        items: Vec<Item>,
        miss: Option<ChainId>,
    ) {
        let node = |digits| Node::Ports(host, protocol, digits);
        let children = if items.len() > FLAT { digits.children(&items) } else { Vec::new() };
        let copies: usize = children.iter().map(|(_, items)| items.len()).sum();
        // Ranges that are wider than what a chain chooses by would be copied into each that follows.
        if children.len() < 2 || copies > 2 * items.len() {
            return self.flat(node(digits), &items, true, miss);
        }
        let place = self.open(node(digits));
        let mut rules = Vec::new();
        for (digits, items) in children {
            match items.as_slice() {
                [only] if digits.range().covers(only.ports) => rules.push(only.rule(true)),
                _ => {
                    let when = vec![Test::Protocol(protocol), Test::DestinationPort(digits.range())];
                    rules.push(enter(when.into_iter().map(Match::Is).collect(), self.id(node(digits))));
                    self.ports((host, protocol), digits, items, miss);
                }
            }
        }
        self.fill(place, rules, miss);
    }

    fn flat(&mut self, node: Node, items: &[Item], is_host_known: bool, miss: Option<ChainId>) {
        let place = self.open(node);
        self.fill(place, one_by_one(items, is_host_known), miss);
    }

    fn id(&self, node: Node) -> ChainId {
        id(ForwardChain::In(self.tree, node))
    }

    /// A chain has its place before those that it leads to.
    fn open(&mut self, node: Node) -> usize {
        self.chains.push(LoweredChain { id: self.id(node), rules: Vec::new() });
        self.chains.len() - 1
    }

    fn fill(&mut self, place: usize, mut rules: Vec<LoweredRule>, miss: Option<ChainId>) {
        rules.extend(miss.map(|miss| enter(Vec::new(), miss)));
        self.chains[place].rules = rules;
    }

    /// The word for an address: the same for as long as no other one has it.
    fn word(&mut self, address: IpAddr) -> Host {
        let mut word = match address {
            IpAddr::V4(address) => u32::from(address),
            IpAddr::V6(address) => digest(address),
        };
        while self.hosts.get(&Host(word)).is_some_and(|known| *known != address) {
            word = word.wrapping_add(1);
        }
        self.hosts.insert(Host(word), address);
        Host(word)
    }
}

/// FNV-1a, 32 bits: the same in every build, so that a later build finds the chains of this one.
fn digest(address: Ipv6Addr) -> u32 {
    address.octets().iter().fold(0x811c_9dc5, |digest, byte| (digest ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// One rule after the other: those of an address before those of any, and of each those that are last behind.
fn one_by_one(items: &[Item], is_host_known: bool) -> Vec<LoweredRule> {
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort_by_key(|item| (item.host.is_none(), item.is_last));
    items.into_iter().map(|item| item.rule(is_host_known)).collect()
}

/// The longest prefixes of which no more than one chain asks for hold all of these addresses, which are in order.
fn length_of_groups(addresses: impl Iterator<Item = IpAddr> + Clone) -> u8 {
    let mut alike: Vec<u8> = addresses.clone().zip(addresses.skip(1)).map(|(one, next)| alike(one, next)).collect();
    alike.sort_unstable();
    // Each pair that a length tells apart begins a group.
    alike.get(FLAT - 1).or(alike.last()).copied().unwrap_or(0)
}

/// How many first bits two addresses of a family have in common.
fn alike(one: IpAddr, other: IpAddr) -> u8 {
    let zeros = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u32::from(one) ^ u32::from(other)).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one) ^ u128::from(other)).leading_zeros(),
        _ => 0,
    };
    zeros as u8
}

impl Tree {
    /// How many chains in a row may choose by addresses where ports are chosen by as well; behind the targets follow the
    /// other rules of postrouting.
    fn most_levels(self) -> usize {
        match self {
            Tree::Common | Tree::Loopback => 3,
            Tree::Targets => 2,
        }
    }
}

impl Digits {
    const NONE: Digits = Digits { value: 0, count: 0 };

    fn bits_behind(count: u8) -> u8 {
        u16::BITS as u8 - count * BITS
    }

    /// The ports that begin with the digits.
    fn range(self) -> PortRange {
        let bits = Digits::bits_behind(self.count);
        let first = u32::from(self.value) << bits;
        PortRange { first: first as u16, last: (first + (1 << bits) - 1) as u16 }
    }

    /// The rules by what follows the digits; digits that all of them have in common are passed over.
    fn children(self, items: &[Item]) -> Vec<(Digits, Vec<Item>)> {
        let own = self.range();
        let first = items.iter().map(|item| item.ports.first.max(own.first)).min().unwrap_or(own.first);
        let last = items.iter().map(|item| item.ports.last.min(own.last)).max().unwrap_or(own.last);
        let count = (first ^ last).leading_zeros() as u8 / BITS + 1;
        if count > MOST_DIGITS {
            return Vec::new();
        }
        let value = |port: u16| port >> Digits::bits_behind(count);
        let child = |value| {
            let digits = Digits { value, count };
            let inside: Vec<Item> = items.iter().filter(|item| item.ports.overlaps(digits.range())).cloned().collect();
            (!inside.is_empty()).then_some((digits, inside))
        };
        (value(first)..=value(last)).filter_map(child).collect()
    }
}

impl Item {
    fn rule(&self, is_host_known: bool) -> LoweredRule {
        let host = self.host.filter(|_| !is_host_known).map(to);
        let ports = [Test::Protocol(self.protocol), Test::DestinationPort(self.ports)].map(Match::Is);
        rule(self.step, host.into_iter().chain(ports).chain(self.when.iter().cloned()).collect(), self.then.clone())
    }
}

fn id(chain: ForwardChain) -> ChainId {
    ChainId { section: SectionId::Forwards, place: Place::Forward(chain) }
}

fn root(tree: Tree) -> ChainId {
    id(ForwardChain::In(tree, Node::Root))
}

/// What decides of a source is a step of the policy like others.
fn rule(step: RuleStep, when: Vec<Match>, then: Effect) -> LoweredRule {
    let section = if matches!(step, RuleStep::Decide(_)) { SectionId::Top } else { SectionId::Forwards };
    LoweredRule { id: RuleId { section, step }, when, then }
}

fn enter(when: Vec<Match>, chain: ChainId) -> LoweredRule {
    rule(RuleStep::Enter, when, Effect::Goto(chain))
}

fn jump(then: &Effect) -> Effect {
    match then {
        Effect::Goto(chain) => Effect::Jump(*chain),
        other => other.clone(),
    }
}

/// What no forward is for. Nothing arrives for the loopback address of IPv6.
fn leave(family: Family, hook: Hook) -> Vec<LoweredRule> {
    let comes = |(range, _): &(Prefix, NotForwarded)| hook != Hook::Prerouting || *range != LOOPBACK_V6;
    let leave = |(range, why)| rule(RuleStep::LeftToHost(why), within(Side::Daddr, range), Effect::Return);
    not_forwarded(family).into_iter().filter(comes).map(leave).collect()
}

fn to(address: IpAddr) -> Match {
    Match::Is(Test::In(Side::Daddr, Prefix::of(address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::ruleset::{HostFacts, JumpPosition, lower};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::sync::Arc;

    const DIALECT: Dialect = Dialect { inline: Some(64), random_fully: true, maps: None };

    fn chains(rules: Vec<ForwardRule>) -> BTreeMap<ChainId, Vec<LoweredRule>> {
        let mut ruleset =
            Ruleset::new(&Policy::default(), Family::V4, JumpPosition::Last, &HostFacts::default()).unwrap();
        let mut rules = rules;
        rules.sort_by_key(|rule| (rule.host.is_none(), rule.host, rule.protocol, rule.ports.first));
        ruleset.forwards = ForwardRules { rules: Arc::from(rules), ..ForwardRules::default() };
        let mut chains = lower(&ruleset, DIALECT);
        add_forwards(&ruleset, DIALECT, &mut chains);
        let count = chains.chains.len();
        let by_id: BTreeMap<_, _> = chains.chains.into_iter().map(|chain| (chain.id, chain.rules)).collect();
        assert_eq!(by_id.len(), count, "two chains of one name");
        assert!(by_id.values().all(|rules| !rules.is_empty()));
        let leads_to = |rule: &LoweredRule| match rule.then {
            Effect::Goto(chain) | Effect::Jump(chain) => Some(chain),
            _ => None,
        };
        let led_to = by_id.values().flatten().filter_map(leads_to);
        assert_eq!(led_to.filter(|chain| !by_id.contains_key(chain)).collect::<Vec<_>>(), [], "not there");
        by_id
    }

    #[derive(Debug, Clone, Copy)]
    struct Packet {
        from: IpAddr,
        to: IpAddr,
        protocol: Protocol,
        port: u16,
    }

    fn holds(one: &Match, packet: Packet) -> bool {
        let holds = match one.test() {
            Some(Test::In(Side::Saddr, prefix)) => prefix.contains(packet.from),
            Some(Test::In(Side::Daddr, prefix)) => prefix.contains(packet.to),
            Some(Test::Protocol(protocol)) => *protocol == packet.protocol,
            Some(Test::DestinationPort(ports)) => (ports.first..=ports.last).contains(&packet.port),
            Some(_) | None => panic!("{one:?}"),
        };
        holds == matches!(one, Match::Is(_))
    }

    /// What becomes of a packet from a chain on, how many rules were asked, and how many chains led on from one to the
    /// next at most.
    struct Walk<'a> {
        chains: &'a BTreeMap<ChainId, Vec<LoweredRule>>,
        asked: usize,
        deepest: usize,
    }

    impl Walk<'_> {
        /// `None` where nothing was decided.
        fn chain(&mut self, id: ChainId, packet: Packet, depth: usize) -> Option<LoweredRule> {
            self.deepest = self.deepest.max(depth);
            for rule in &self.chains[&id] {
                self.asked += 1;
                if !rule.when.iter().all(|one| holds(one, packet)) {
                    continue;
                }
                match &rule.then {
                    // All that leads away from postrouting's targets.
                    Effect::Goto(ChainId { section: SectionId::Top, .. }) => return Some(rule.clone()),
                    Effect::Goto(to) => return self.chain(*to, packet, depth + 1),
                    Effect::Jump(to) => {
                        if let Some(found) = self.chain(*to, packet, depth + 1) {
                            return Some(found);
                        }
                    }
                    Effect::Return => return None,
                    _ => return Some(rule.clone()),
                }
            }
            None
        }
    }

    fn forward(number: u32, host: Option<&str>, ports: (u16, u16)) -> ForwardRule {
        ForwardRule {
            number,
            protocol: Protocol::Tcp,
            host: host.map(|text| text.parse().unwrap()),
            ports: PortRange { first: ports.0, last: ports.1 },
            gates: vec![Vec::new()],
            to: "192.0.2.1".parse().unwrap(),
            port: ports.0,
            from_host: true,
            localhost: false,
            hairpin: Vec::new(),
        }
    }

    fn packet(to: &str, port: u16) -> Packet {
        Packet { from: "203.0.113.9".parse().unwrap(), to: to.parse().unwrap(), protocol: Protocol::Tcp, port }
    }

    #[test]
    fn what_a_packet_is_asked_does_not_grow_with_the_number_of_forwards() {
        let spread = |number: u32, count: u32| (number * 65_521 / count + 7) as u16;
        for count in [20, 300, 1000, 10_000, 60_000] {
            let rules = (0..count).map(|n| forward(n + 1, None, (spread(n, count), spread(n, count)))).collect();
            let chains = chains(rules);
            for number in (0..count).step_by(7) {
                let mut walk = Walk { chains: &chains, asked: 0, deepest: 0 };
                let found = walk.chain(root(Tree::Common), packet("198.51.100.1", spread(number, count)), 0);
                assert_eq!(found.map(|rule| rule.id.step), Some(RuleStep::Forward(number + 1)));
                assert!(walk.asked <= 4 * FLAT + 1, "{} of {count}", walk.asked);
            }
        }
    }

    #[test]
    fn nor_with_that_of_addresses_or_targets() {
        let host = |number: u32| format!("10.{}.{}.{}", number % 5, number / 256 % 256, number % 256);
        let rules = (0..4000_u32).map(|n| ForwardRule {
            to: format!("172.{}.{}.{}", 16 + n % 3, n / 256, n % 256).parse().unwrap(),
            ..forward(n + 1, Some(&host(n)), (443, 443))
        });
        let chains = chains(rules.collect());
        for number in (0..4000).step_by(3) {
            let mut walk = Walk { chains: &chains, asked: 0, deepest: 0 };
            let found = walk.chain(root(Tree::Common), packet(&host(number), 443), 0);
            assert_eq!(found.map(|rule| rule.id.step), Some(RuleStep::Forward(number + 1)));
            assert!(walk.asked <= 5 * FLAT && walk.deepest < 14, "{} {}", walk.asked, walk.deepest);
        }
    }

    #[test]
    fn as_many_targets_are_found_as_fast_as_one_and_take_few_chains() {
        let rules = (0..10_000_u32).map(|n| ForwardRule {
            to: format!("172.16.{}.{}", n / 250, n % 250).parse().unwrap(),
            hairpin: vec!["172.16.0.0/16".parse().unwrap()],
            port: 80,
            ..forward(n + 1, None, (10_000 + n as u16, 10_000 + n as u16))
        });
        let chains = chains(rules.collect());
        assert!(chains.len() < 3500, "{}", chains.len());
        for number in (0..10_000_u32).step_by(11) {
            let mut walk = Walk { chains: &chains, asked: 0, deepest: 0 };
            let to = format!("172.16.{}.{}", number / 250, number % 250);
            let found =
                walk.chain(root(Tree::Targets), Packet { from: "172.16.9.9".parse().unwrap(), ..packet(&to, 80) }, 0);
            assert_eq!(found.map(|rule| rule.id.step), Some(RuleStep::Decide(Step::ForwardHairpin)));
            assert!(walk.asked <= 5 * FLAT && walk.deepest < 8, "{} {}", walk.asked, walk.deepest);
        }
    }

    #[test]
    fn ports_of_a_target_that_follow_each_other_are_one_rule() {
        let rules = (0..10_000).map(|n| forward(n + 1, None, (10_000 + n as u16, 10_000 + n as u16))).collect();
        let chains = chains(rules);
        let rules = &chains[&root(Tree::Targets)];
        let ports = Match::Is(Test::DestinationPort(PortRange { first: 10_000, last: 19_999 }));
        assert!(rules.len() == 2 && rules[0].when.contains(&ports), "{rules:?}");
    }

    /// Those who may use it are all of the other family.
    #[test]
    fn a_forward_that_nobody_may_use_leads_nowhere() {
        let nobody = |host| ForwardRule { gates: Vec::new(), ..forward(1, host, (80, 80)) };
        assert!(!chains(vec![nobody(None)]).contains_key(&root(Tree::Common)));
        assert!(chains(vec![nobody(Some("198.51.100.1"))]).contains_key(&root(Tree::Common)));
    }

    #[test]
    fn wide_ranges_are_not_copied_into_every_chain() {
        let gate = |n: u32| vec![vec![Match::Is(Test::In(Side::Saddr, format!("10.{n}.0.0/16").parse().unwrap()))]];
        let rules = (0..40).map(|n| ForwardRule { gates: gate(n), ..forward(n + 1, None, (1, 65_535)) }).collect();
        let count: usize = chains(rules).values().map(Vec::len).sum();
        assert!(count < 200, "{count}");
    }

    /// The first whose gates pass, of those of the address if there is one for the port, else of those of any.
    fn expected(rules: &[ForwardRule], packet: Packet) -> Option<u32> {
        let is_for = |rule: &&ForwardRule| {
            rule.protocol == packet.protocol && (rule.ports.first..=rule.ports.last).contains(&packet.port)
        };
        let is_own = |rule: &&ForwardRule| rule.host == Some(packet.to);
        let has_own = rules.iter().filter(is_for).any(|rule| is_own(&rule));
        let asked = rules.iter().filter(is_for).filter(|rule| if has_own { is_own(rule) } else { rule.host.is_none() });
        let passes = |rule: &&ForwardRule| rule.gates.iter().any(|row| row.iter().all(|one| holds(one, packet)));
        asked.clone().find(passes).map(|rule| rule.number)
    }

    fn any_rule() -> impl Strategy<Value = ForwardRule> {
        let host = prop_oneof![Just(None), (0_u8..30).prop_map(|last| Some(format!("198.51.100.{last}")))];
        (host, 1_u16..400, 0_u16..3, any::<bool>(), any::<bool>()).prop_map(|(host, at, width, gated, udp)| {
            let gate = Match::Is(Test::In(Side::Saddr, "203.0.113.0/25".parse().unwrap()));
            let first = at * 160;
            ForwardRule {
                gates: vec![if gated { vec![gate] } else { Vec::new() }],
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                ..forward(0, host.as_deref(), (first, first + width * 50))
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_tree_finds_what_a_list_would(
            drawn in vec(any_rule(), 0..150),
            packets in vec((0_u8..32, select(vec![9_u8, 200]), 0_u16..400, 0_u16..120, any::<bool>()), 1..60),
        ) {
            // What the configuration refuses is left out: two of one address for one port.
            let mut rules: Vec<ForwardRule> = Vec::new();
            for mut rule in drawn {
                let clashes = |other: &ForwardRule| {
                    other.host == rule.host && other.protocol == rule.protocol && other.ports.overlaps(rule.ports)
                };
                if !rules.iter().any(clashes) {
                    rule.number = rules.len() as u32 + 1;
                    rules.push(rule);
                }
            }
            prop_assume!(!rules.is_empty());
            let chains = chains(rules.clone());
            for (to, from, at, off, udp) in packets {
                let packet = Packet {
                    from: format!("203.0.113.{from}").parse().unwrap(),
                    to: format!("198.51.100.{to}").parse().unwrap(),
                    protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                    port: at * 160 + off,
                };
                let mut walk = Walk { chains: &chains, asked: 0, deepest: 0 };
                let found = walk.chain(root(Tree::Common), packet, 0).map(|rule| rule.id.step);
                prop_assert_eq!(found, expected(&rules, packet).map(RuleStep::Forward), "{:?}", packet);
                prop_assert!(walk.deepest < 14);
            }
        }
    }
}
