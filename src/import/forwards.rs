//! Rules that rewrite destinations → `portForwards`, and those that rewrite sources for them → their `hairpin`.

use super::rule::{
    Action, Condition, Destination, Hook, Line, Rule, Rules, Taken, Translation, both, but, either, whole,
};
use crate::policy::{
    AddressSet, FORWARD_PROTOCOLS, Family, InterfaceClass, InterfacePattern, PortRange, Prefix, Protocol,
};
use std::net::IpAddr;

/// How many entries are made. Each is compared with all of its protocol before it.
const MAX_FORWARDS: usize = 4096;

#[derive(Debug, Clone)]
pub struct ForwardEntry {
    pub line: Line,
    pub protocols: Vec<Protocol>,
    pub host_ports: PortRange,
    pub host: Option<IpAddr>,
    pub address: IpAddr,
    pub port: u16,
    pub incoming: Vec<InterfacePattern>,
    /// Of all when unset.
    pub sources: Option<AddressSet>,
    /// Whose source becomes the host's.
    pub hairpin: EntryHairpin,
    pub localhost: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum EntryHairpin {
    Auto,
    Always,
    From(AddressSet),
}

impl ForwardEntry {
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The ports at the other end.
    fn targets(&self) -> PortRange {
        let last = u32::from(self.port) + self.host_ports.size() - 1;
        PortRange { first: self.port, last: u16::try_from(last).unwrap_or(u16::MAX) }
    }
}

/// Takes the rules before routing out of what was found.
pub fn read(found: &mut Rules) -> Vec<ForwardEntry> {
    let (rules, others): (Vec<Rule>, Vec<Rule>) =
        std::mem::take(&mut found.rules).into_iter().partition(|rule| rule.hook != Hook::Postrouting);
    found.rules = others;
    let (mut output, arriving): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(|rule| rule.hook == Hook::Output);
    let mut forwards: Vec<ForwardEntry> = Vec::new();
    for rule in arriving {
        let twin = output.iter().position(|other| is_twin(&rule, other));
        let made = match forwards.len() < MAX_FORWARDS {
            true => of_rule(&rule, twin.is_some()),
            false => Err("too many port forwards for one configuration".to_owned()),
        };
        match made.and_then(|made| apart(made, &forwards)) {
            Err(reason) => found.refuse_rule(rule, &reason),
            Ok(made) => {
                if rule.condition.destinations.is_none() && rule.condition.to_local.is_none() {
                    found.note(
                        "Packets to other hosts were forwarded, too, by rules without a destination; an entry of \
                         portForwards is for the addresses of this host",
                    );
                }
                forwards.extend(made);
                twin.map(|twin| output.remove(twin));
            }
        }
    }
    for rule in output {
        found.refuse_rule(
            rule,
            "for packets of this host itself without the same rule for those of others (PREROUTING)",
        );
    }
    forwards
}

/// All but what no forward is for anyway.
fn destinations(condition: &Condition, family: Family) -> Option<AddressSet> {
    let loopback = AddressSet::of([match family {
        Family::V4 => crate::policy::LOOPBACK_V4,
        Family::V6 => crate::policy::LOOPBACK_V6,
    }]);
    condition.destinations.clone().filter(|set| *set != but(family, &loopback))
}

/// True when a rule for packets of the host says the same.
fn is_twin(rule: &Rule, other: &Rule) -> bool {
    let bare = |rule: &Rule| Condition {
        destinations: destinations(&rule.condition, rule.family),
        to_local: None,
        ..rule.condition.clone()
    };
    rule.family == other.family
        && rule.action == other.action
        && rule.condition.incoming.is_empty()
        && bare(rule) == bare(other)
        && (other.condition.to_local == Some(true) || destinations(&other.condition, other.family).is_some())
}

fn of_rule(rule: &Rule, also_of_host: bool) -> Taken<Vec<ForwardEntry>> {
    let condition = &rule.condition;
    let Action::Forward(to) = &rule.action else {
        return Err("portForwards have no exemptions; sourceCIDRs, excludeSourceCIDRs and inInterfaces of an entry can leave packets out".into());
    };
    if condition.mark.is_some() || condition.ipsec.is_some() || !condition.without_marks.is_empty() || condition.dnated
    {
        return Err("marks and IPsec policies have no key in portForwards".to_owned());
    }
    if !condition.out.is_empty() {
        return Err("the outgoing interface has no key in portForwards".to_owned());
    }
    if condition.to_local == Some(false) {
        return Err("portForwards are for addresses of this host".to_owned());
    }
    let protocols = condition.protocols.clone();
    if protocols.is_empty() {
        return Err("forwards every protocol; portForwards are for TCP, UDP and SCTP".to_owned());
    }
    if let Some(other) = protocols.iter().find(|one| !FORWARD_PROTOCOLS.contains(one)) {
        return Err(format!("portForwards are for TCP, UDP and SCTP, not for {other}"));
    }
    let address = match to.address {
        Some(range) if range.is_one() => range.first(),
        Some(_) => return Err("leads to several addresses; portForwards has no balance between them".to_owned()),
        None => {
            return Err(
                "leads to a port of the same address; an entry of portForwards leads to another host".to_owned()
            );
        }
    };
    let host = host(destinations(condition, rule.family).as_ref())?;
    let unreachable = |address: IpAddr| match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    if let Some(one) = host.into_iter().chain([address]).find(|one| unreachable(*one)) {
        return Err(format!("{one} can't be forwarded from or to; localhost: true of an entry is for 127.0.0.0/8"));
    }
    let incoming = match condition.incoming.is_empty() && !also_of_host {
        // All but the host itself, which the rule is not asked for either.
        true => vec![InterfacePattern { negated: true, name: "lo".to_owned(), prefix: false }],
        false => condition.incoming.clone(),
    };
    let whole_range = [PortRange { first: 1, last: u16::MAX }];
    let ranges = if condition.ports.is_empty() { &whole_range } else { condition.ports.as_slice() };
    let line = rule.lines.first().cloned().unwrap_or(Line { number: 0, text: String::new() });
    let entry = |range: &PortRange| {
        Ok(ForwardEntry {
            line: line.clone(),
            protocols: protocols.clone(),
            host_ports: *range,
            host,
            address,
            port: target_port(*range, to)?,
            incoming: incoming.clone(),
            sources: condition.sources.clone(),
            hairpin: EntryHairpin::From(AddressSet::default()),
            localhost: false,
        })
    };
    ranges.iter().map(entry).collect()
}

fn host(destinations: Option<&AddressSet>) -> Taken<Option<IpAddr>> {
    let Some(set) = destinations else { return Ok(None) };
    match set.prefixes().as_slice() {
        [one] if one.address() == one.last() => Ok(Some(one.address())),
        _ => Err("hostIP is one address; write an entry for each".to_owned()),
    }
}

/// The first port at the other end.
fn target_port(from: PortRange, to: &Destination) -> Taken<u16> {
    let Some(ports) = to.ports else { return Ok(from.first) };
    let shifted = to.base.map(|base| i32::from(ports.first) + i32::from(from.first) - i32::from(base));
    let port = match shifted {
        Some(port) => u16::try_from(port).ok(),
        None if ports == from || ports.size() == 1 && from.size() == 1 => Some(ports.first),
        None => None,
    };
    let fits = |port: &u16| ports.first <= *port && u32::from(*port) + from.size() - 1 <= u32::from(ports.last);
    port.filter(fits).ok_or_else(|| "several ports lead to one, or one to several".to_owned())
}

/// Refuses entries that want packets of one before, where the order decides.
fn apart(made: Vec<ForwardEntry>, before: &[ForwardEntry]) -> Taken<Vec<ForwardEntry>> {
    for (at, one) in made.iter().enumerate() {
        let same = |other: &&ForwardEntry| {
            other.family() == one.family()
                && other.protocols.iter().any(|protocol| one.protocols.contains(protocol))
                && other.host_ports.overlaps(one.host_ports)
        };
        for other in before.iter().chain(&made[..at]).filter(same) {
            let gated = !other.incoming.is_empty() || other.sources.is_some();
            let wins = match (other.host, one.host) {
                (Some(first), Some(second)) if first != second => false,
                (Some(_), None) => gated,
                (None, Some(_)) => true,
                _ => !are_apart(other, one),
            };
            if wins {
                return Err(format!("line {} is asked before it for some of the same packets", other.line.number));
            }
        }
    }
    Ok(made)
}

/// True when no packet passes the gates of both.
fn are_apart(one: &ForwardEntry, other: &ForwardEntry) -> bool {
    if let (Some(ours), Some(theirs)) = (&one.sources, &other.sources)
        && !ours.touches(theirs)
    {
        return true;
    }
    if one.incoming.is_empty() || other.incoming.is_empty() {
        return false;
    }
    let classes = InterfaceClass::all(one.incoming.iter().chain(&other.incoming));
    !classes.into_iter().any(|class| class.is_in(&one.incoming) && class.is_in(&other.incoming))
}

/// Takes the rules that rewrite the source of forwarded connections: the entries do that themselves.
pub fn take_hairpins(found: &mut Rules, forwards: &mut [ForwardEntry]) {
    if forwards.is_empty() {
        return;
    }
    let mut left = Vec::new();
    for rule in std::mem::take(&mut found.rules) {
        let Some(served) = served(&rule, forwards) else {
            left.push(rule);
            continue;
        };
        let all = whole(rule.family);
        let sources = rule.condition.sources.as_ref().unwrap_or(&all);
        for number in served {
            add(&mut forwards[number], sources);
        }
        let line = rule.lines.first().map_or(0, |line| line.number);
        let to = match rule.action {
            Action::Translate(Translation { to: Some(to), .. }) => {
                format!(", with the address of this host towards the target, where the rule had {to}")
            }
            _ => String::new(),
        };
        found.note(format!("line {line} is the hairpin of a port forward: the entry of portForwards does it{to}"));
    }
    found.rules = left;
}

/// The forwards whose connections a rule is for, and for nothing else.
fn served(rule: &Rule, forwards: &[ForwardEntry]) -> Option<Vec<usize>> {
    let condition = &rule.condition;
    let plain = matches!(rule.action, Action::Translate(_)) && rule.hook == Hook::Postrouting;
    if !plain || condition.mark.is_some() || condition.ipsec.is_some() || !condition.without_marks.is_empty() {
        return None;
    }
    let destinations = match &condition.destinations {
        Some(set) => set.prefixes(),
        None if condition.dnated => Vec::new(),
        None => return None,
    };
    let one = |prefix: &Prefix| prefix.address() == prefix.last();
    let targets = |address: IpAddr| forwards.iter().any(|forward| forward.address == address);
    if !condition.dnated && !destinations.iter().all(|prefix| one(prefix) && targets(prefix.address())) {
        return None;
    }
    let is_served = |forward: &ForwardEntry| {
        forward.family() == rule.family
            && (destinations.is_empty() || destinations.iter().any(|prefix| prefix.contains(forward.address)))
            && (condition.protocols.is_empty() || forward.protocols.iter().all(|one| condition.protocols.contains(one)))
            && (condition.ports.is_empty() || condition.ports.iter().any(|range| range.covers(forward.targets())))
    };
    let numbers: Vec<usize> = (0..forwards.len()).filter(|number| is_served(&forwards[*number])).collect();
    (!numbers.is_empty()).then_some(numbers)
}

/// More clients whose source is rewritten.
pub fn add(forward: &mut ForwardEntry, sources: &AddressSet) {
    let all = whole(forward.family());
    if let EntryHairpin::From(before) = &forward.hairpin {
        let joined = both(&either(before, sources), &all);
        forward.hairpin = if joined == all { EntryHairpin::Always } else { EntryHairpin::From(joined) };
    }
}
