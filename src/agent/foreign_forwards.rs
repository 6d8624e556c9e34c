//! Nat rules of other programs that take what a port forward is for, or translate the source of what it sends on. Pure.

use super::foreign_rule::{About, EACH, Foreign, Order, ordered};
use super::host_view::{HostView, placed, strangers};
use crate::network::Reached;
use crate::network::hook::{BaseChain, Hit, HitEffect, Hook, Packet, translations};
use crate::policy::{AddressSet, Family, Flow, Forward, ForwardMark, HostAddress, Policy, Prefix, PrefixSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The addresses from which local processes reach a forward with `localhost`.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0));

/// A packet of a forward, where the rules that it meets are to be told.
pub(super) struct Asked<'p> {
    forward: &'p Forward,
    about: fn(String) -> About,
    pub packet: Packet,
    /// Which rules change something for it.
    matters: Matters,
}

/// Which rules change something for a packet.
#[derive(Clone, Copy)]
enum Matters {
    /// Those that give it a destination before ours do, and those that keep it from ours.
    Destination,
    /// Those that translate a source which ours keep.
    KeptSource,
    /// Those that keep it from ours, or translate its source before.
    HiddenSource,
}

impl Matters {
    fn is_told(self, order: Order, hit: &Hit) -> bool {
        match (self, order) {
            (Matters::Destination, Order::After) => false,
            (Matters::Destination, Order::Before | Order::Hides | Order::Beside | Order::Alone) => true,
            // What is not understood is told where it may take the packet itself.
            (Matters::KeptSource | Matters::HiddenSource, _) if hit.effect == HitEffect::NotUnderstood => false,
            (Matters::KeptSource, Order::Hides) | (Matters::HiddenSource, Order::After) => false,
            (Matters::KeptSource, Order::Before | Order::Beside | Order::After | Order::Alone) => true,
            (Matters::HiddenSource, Order::Before | Order::Hides | Order::Beside | Order::Alone) => true,
        }
    }
}

/// Adds the rules of a family that forwards meet.
pub(super) fn of_forwards(policy: &Policy, view: &HostView, family: Family, found: &mut Vec<Foreign>) {
    let own = OwnAddresses::of(view, family);
    let forwards = || policy.forwards.iter().filter(|forward| forward.serves(family));
    let search = |hook: Hook, mut asked: Vec<Asked<'_>>, found: &mut Vec<Foreign>| {
        // Neighbours have much in common.
        asked.sort_by_key(|asked| (asked.packet.protocol, asked.packet.destination_port.map(|ports| ports.first)));
        search(family, &view.at_hook(family, hook), &asked, found);
    };
    search(Hook::Prerouting, forwards().flat_map(|forward| arriving(forward, view, family, &own)).collect(), found);
    search(Hook::Output, forwards().flat_map(|forward| from_host(forward, family, &own)).collect(), found);
    search(Hook::Postrouting, forwards().flat_map(|forward| behind(policy, forward, view, family)).collect(), found);
}

/// Tells of the rules that packets meet: of all at once whether there are any, and of fewer and fewer until it is one.
fn search(family: Family, chains: &[&BaseChain], asked: &[Asked<'_>], found: &mut Vec<Foreign>) {
    let Some((first, rest)) = asked.split_first() else { return };
    let any = rest.iter().fold(first.packet.clone(), |any, asked| any.or(&asked.packet));
    let met = translations(chains, &any);
    let is_new =
        |hit: &Hit, found: &[Foreign]| !found.iter().any(|known| known.line == hit.line || known.rule == hit.place);
    let new = ordered(&met)
        .filter(|(order, hit)| asked.iter().any(|asked| asked.matters.is_told(*order, hit)) && is_new(hit, found));
    let new: Vec<(Order, Hit)> = new.map(|(order, hit)| (order, hit.clone())).collect();
    if new.is_empty() {
        return;
    }
    if !rest.is_empty() {
        let (one, other) = asked.split_at(asked.len() / 2);
        search(family, chains, one, found);
        return search(family, chains, other, found);
    }
    for (order, hit) in new {
        if is_new(&hit, found) {
            let forward = placed(&first.forward.origin, &first.forward.key());
            found.push(Foreign { family, about: (first.about)(forward), order, line: hit.line, rule: hit.place });
        }
    }
}

/// The host's own addresses of a family that forwards can be for.
pub(super) struct OwnAddresses {
    pub family: Family,
    outside: Arc<[Prefix]>,
    /// With those that only local processes reach.
    all: Arc<[Prefix]>,
}

impl OwnAddresses {
    pub fn of(view: &HostView, family: Family) -> Self {
        let is_link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let own = view
            .addresses
            .iter()
            .map(|own| own.address)
            .filter(|address| Family::of(*address) == family && !address.is_loopback() && !is_link_local(*address));
        let outside: Vec<Prefix> = own.map(Prefix::of).collect();
        let loopback = Prefix::containing(LOOPBACK, 8).filter(|_| family == Family::V4 && !outside.is_empty());
        OwnAddresses { family, all: outside.iter().copied().chain(loopback).collect(), outside: outside.into() }
    }
}

/// A packet for a forward, wherever it comes from.
fn towards(forward: &Forward, family: Family, own: &Arc<[Prefix]>) -> Packet {
    let one = if let HostAddress::One(address) = forward.host { Some(Prefix::of(address)) } else { None };
    Packet {
        destination: one,
        among: if one.is_some() { Arc::default() } else { Arc::clone(own) },
        destination_port: Some(forward.host_ports),
        destination_is_local: Some(true),
        ..Packet::any(family)
    }
}

fn of_protocols<'p>(
    forward: &'p Forward,
    about: fn(String) -> About,
    matters: Matters,
    packets: Vec<Packet>,
) -> Vec<Asked<'p>> {
    let of = |packet: &Packet| {
        let packet = packet.clone();
        forward.protocols.iter().map(move |protocol| Asked {
            forward,
            about,
            packet: Packet { protocol: Some(*protocol), ..packet.clone() },
            matters,
        })
    };
    packets.iter().flat_map(of).collect()
}

/// What comes in for a forward.
pub(super) fn arriving<'p>(
    forward: &'p Forward,
    view: &HostView,
    family: Family,
    own: &OwnAddresses,
) -> Vec<Asked<'p>> {
    if matches!(forward.host, HostAddress::One(address) if address.is_loopback()) {
        return Vec::new();
    }
    let packet = Packet { source_is_local: Some(false), ..towards(forward, family, &own.outside) };
    let mut packets = Vec::new();
    for in_interface in gates(forward, view) {
        for source in sources(forward, family) {
            packets.push(Packet { in_interface: in_interface.clone(), source, ..packet.clone() });
        }
    }
    of_protocols(forward, About::Arriving, Matters::Destination, packets)
}

/// What processes of this host send to a forward, from the addresses that they have.
fn from_host<'p>(forward: &'p Forward, family: Family, own: &OwnAddresses) -> Vec<Asked<'p>> {
    if !forward.in_interfaces.is_empty() {
        return Vec::new();
    }
    let packet = Packet {
        in_interface: Some(String::new()),
        out_interface: Some("lo".to_owned()),
        source_is_local: Some(true),
        ..towards(forward, family, if forward.localhost { &own.all } else { &own.outside })
    };
    let clients = clients(forward, family).common(&AddressSet::of(own.all.iter().copied()));
    let sources = if own.all.is_empty() { vec![None] } else { each(&clients) };
    let packets = sources.into_iter().map(|source| Packet { source, ..packet.clone() }).collect();
    of_protocols(forward, About::FromHost, Matters::Destination, packets)
}

/// What a forward sends on: from anybody, from those who share a network with the target, from local processes.
pub(super) fn behind<'p>(policy: &Policy, forward: &'p Forward, view: &HostView, family: Family) -> Vec<Asked<'p>> {
    let Some(target) = forward.target(family).filter(|target| !view.is_local(*target)) else { return Vec::new() };
    let Some(reached) = view.network.as_deref().and_then(|network| network.reached(target)) else { return Vec::new() };
    let anybody = || strangers(family).iter().find(|stranger| !view.is_near(**stranger)).copied().map(Prefix::of);
    let far = if forward.sources.is_empty() { vec![None] } else { sources(forward, family) };
    let clients = clients(forward, family);
    let near = reached.networks.iter().copied().filter(|network| clients.touches(&AddressSet::of([*network])));
    let local = Prefix::containing(LOOPBACK, 8).filter(|_| forward.localhost && family == Family::V4);
    let mut all: Vec<Prefix> = far.into_iter().filter_map(|one| one.or_else(anybody)).collect();
    all.extend(near.chain(local).filter(|one| !all.contains(one)).collect::<Vec<_>>());
    all.into_iter().flat_map(|source| sent_on(policy, forward, &reached, target, source)).collect()
}

/// What a client sends behind a forward; nothing where another program's chain decides about its source.
fn sent_on<'p>(
    policy: &Policy,
    forward: &'p Forward,
    reached: &Reached,
    target: IpAddr,
    source: Prefix,
) -> Vec<Asked<'p>> {
    let is_local = source.address().is_loopback();
    let ports = forward.target_ports();
    let asked = forward.protocols.iter().filter_map(|protocol| {
        let holds_client = |network: &&Prefix| network.contains(source.address());
        let arrived = Flow {
            source: Some(source.address()),
            source_is_local: is_local,
            out_interface: Some(reached.interface.clone()),
            protocol: *protocol,
            dnated: true,
            destination_port: Some(ports.first),
            network: reached.networks.iter().find(holds_client).or(reached.networks.first()).copied(),
            ..Flow::forwarded_to(target)
        };
        let is_hidden = forward.hides(&arrived).is_some();
        let is_marked_by_others =
            policy.forward_mark.as_ref().is_some_and(|mark| matches!(mark.value, ForwardMark::Chain(_)));
        let packet = Packet {
            source: Some(source),
            destination: Some(Prefix::of(target)),
            in_interface: is_local.then(String::new),
            out_interface: arrived.out_interface.clone(),
            protocol: Some(*protocol),
            destination_port: Some(ports),
            mark: Some(policy.mark_behind(forward, &arrived)),
            source_is_local: Some(is_local),
            destination_is_local: Some(false),
            is_dnated: true,
            ..Packet::any(Family::of(target))
        };
        let matters = if is_hidden { Matters::HiddenSource } else { Matters::KeptSource };
        (!(is_hidden && is_marked_by_others)).then_some(Asked { forward, about: About::Behind, packet, matters })
    });
    asked.collect()
}

/// The interfaces that the gate of a forward lets in; one of which nothing is said where it has none, or they are too many.
pub(super) fn gates(forward: &Forward, view: &HostView) -> Vec<Option<String>> {
    let Some(network) = view.network.as_deref().filter(|_| !forward.in_interfaces.is_empty()) else {
        return vec![None];
    };
    let names = network.names().filter(|name| *name != "lo" && forward.lets_in(name));
    let names: Vec<Option<String>> = names.map(|name| Some(name.to_owned())).take(EACH + 1).collect();
    if names.len() > EACH { vec![None] } else { names }
}

/// The clients that the gates of a forward let in.
fn clients(forward: &Forward, family: Family) -> AddressSet {
    let of = |set: &PrefixSet| AddressSet::of(set.entries().iter().map(|entry| entry.value));
    let all = AddressSet::of([family.whole()]);
    let listed = if forward.sources.is_empty() { all } else { of(&forward.sources).common(&all) };
    listed.without(&of(&forward.excluded_sources))
}

/// The same as prefixes; one of which nothing is said where they are all, or too many.
fn sources(forward: &Forward, family: Family) -> Vec<Option<Prefix>> {
    if forward.sources.is_empty() && forward.excluded_sources.is_empty() {
        return vec![None];
    }
    each(&clients(forward, family))
}

fn each(addresses: &AddressSet) -> Vec<Option<Prefix>> {
    let prefixes = addresses.prefixes();
    if prefixes.len() > EACH { vec![None] } else { prefixes.into_iter().map(Some).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::host_view::InterfaceAddress;
    use super::*;
    use crate::config::{Flags, SourceText, parse};
    use crate::network::hook::Rule;
    use std::fmt::Write;

    fn told(text: &str, rules: &[&str]) -> Vec<String> {
        let source = SourceText { path: std::path::Path::new("c.yaml").into(), text: text.to_owned() };
        let policy = parse(&[source], &Flags::default()).unwrap().policy;
        let own = |interface: &str, address: &str| InterfaceAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            network: Prefix::containing(address.parse().unwrap(), 24).unwrap(),
        };
        let rule = |text: &&str| Rule { text: (*text).to_owned(), comment: None, is_ours: *text == "OURS" };
        let chain = |hook: Hook| BaseChain {
            family: "ip",
            table: "nat".to_owned(),
            name: format!("{hook:?}"),
            hook: Some(hook),
            is_nat: true,
            rules: rules.iter().map(rule).collect(),
            ..BaseChain::default()
        };
        let view = HostView {
            addresses: vec![own("wan0", "198.51.100.2"), own("lo", "127.0.0.1")],
            chains: [(Family::V4, vec![chain(Hook::Prerouting), chain(Hook::Output)])].into(),
            ..HostView::default()
        };
        let mut found = Vec::new();
        of_forwards(&policy, &view, Family::V4, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn of_many_forwards_those_are_named_that_a_rule_takes() {
        let mut text = "portForwards:\n".to_owned();
        (1..=10_000).for_each(|port| writeln!(text, "- {{hostPort: {port}, address: 10.0.0.5}}").unwrap());
        let rules = [
            "tcp dport 7777 redirect",
            "udp dport 7778 redirect",
            "ip daddr 192.0.2.1 redirect",
            "iif x redirect",
            "OURS",
        ];
        let wins = "runs before our IPv4 forwards and wins";
        assert_eq!(
            told(&text, &rules),
            [
                format!("c.yaml:2:3: portForwards[1]: {wins}: ip nat Prerouting (priority 0): iif x redirect"),
                format!(
                    "c.yaml:7778:3: portForwards[7777]: {wins}: ip nat Prerouting (priority 0): tcp dport 7777 redirect"
                ),
                format!(
                    "c.yaml:7778:3: portForwards[7777]: {wins} for processes of this host: ip nat Output (priority 0): \
                     tcp dport 7777 redirect"
                ),
            ]
        );
    }

    #[test]
    fn what_the_gates_of_a_forward_keep_out_is_not_asked_about() {
        let forward = |gates: &str| format!("portForwards: [{{hostPort: 80, address: 10.0.0.5, {gates}}}]\n");
        let count = |gates: &str, rule: &str| told(&forward(gates), &[rule, "OURS"]).len();
        assert_eq!(count("sourceCIDRs: [192.0.2.0/24]", "ip saddr 203.0.113.0/24 redirect"), 0);
        assert_eq!(count("sourceCIDRs: [192.0.2.0/24]", "ip saddr 192.0.2.9 redirect"), 1, "no client of the host's");
        assert_eq!(count("excludeSourceCIDRs: [0.0.0.0/1]", "ip saddr 10.0.0.0/8 redirect"), 0);
        assert_eq!(count("inInterfaces: [wan0]", "redirect"), 1, "no processes of the host");
        assert_eq!(count("hostIP: 127.0.0.1, localhost: true", "redirect"), 1, "no others");
        assert_eq!(count("hostIP: 203.0.113.7", "ip daddr 198.51.100.2 redirect"), 0);
        assert_eq!(count("localhost: true", "ip daddr 127.0.0.1 redirect"), 1);
        assert_eq!(count("localhost: false", "ip daddr 127.0.0.1 redirect"), 0);
    }
}
