//! Firewalls that drop what the policy is for, or keep it from being tracked: flows from a network to the uplinks, and what
//! port forwards lead on. Pure.

use super::foreign_forwards::{OwnAddresses, arriving, behind, gates};
use super::foreign_rule::EACH;
use super::host_view::{HostView, InterfaceAddress, is_public, placed};
use crate::network::hook::{BaseChain, DOUBTFUL, Hook, Packet, Passage, pass, tracked};
use crate::policy::{AddressSet, Family, Forward, Policy, Prefix, Protocol, Section, Snat};
use std::collections::BTreeSet;
use std::fmt;

/// Of more forwards not each is tried.
const MOST_FORWARDS: usize = 64;

/// New connections for which the policy is, and which never get to its rules or past them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    pub fate: Fate,
    /// The forward that is for them, and where it was written.
    pub forward: Option<String>,
    pub family: Family,
    /// Interfaces.
    pub from: Vec<String>,
    /// Interfaces, or the target of the forward.
    pub to: Vec<String>,
    /// The rule or the policy.
    pub by: String,
    /// False where a rule is not understood that may accept some.
    pub is_certain: bool,
    /// Forwards of which the same is to be said.
    pub more: usize,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Dropped,
    /// Connection tracking leaves them alone, and with it every nat rule.
    Untracked,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocked { fate, forward, family, from, to, by, is_certain, more } = self;
        let untracked = if forward.is_some() { "stay here" } else { "keep their source" };
        let forward = forward.as_deref().unwrap_or_default();
        write!(f, "{forward}new {family} connections from {} to {}", from.join(", "), to.join(", "))?;
        match more {
            0 => {}
            1 => f.write_str(" and those of one more forward")?,
            more => write!(f, " and those of {more} more forwards")?,
        }
        match (fate, is_certain) {
            (Fate::Dropped, true) => f.write_str(" are dropped")?,
            (Fate::Dropped, false) => write!(f, " may be dropped, {DOUBTFUL}")?,
            (Fate::Untracked, true) => write!(f, " are not tracked and {untracked}")?,
            (Fate::Untracked, false) => write!(f, " may be untracked and {untracked}, {DOUBTFUL}")?,
        }
        write!(f, ": {by}")
    }
}

/// Interfaces from which nothing new gets through to any uplink in the scope of the policy, or nothing is tracked, and
/// forwards from which nothing gets through to the target, or whose clients' connections are not tracked.
pub fn blocked(policy: &Policy, view: &HostView) -> Vec<Blocked> {
    let is_asked = |family: &Family| policy.enables(*family) && view.forwarding(*family) != Some(false);
    let of_family = |family| {
        let chains = view.at_hook(family, Hook::Forward);
        let mut found = blocked_interfaces(policy, view, family, &chains);
        found.extend(blocked_forwards(policy, view, family, &chains));
        found
    };
    Family::ALL.into_iter().filter(is_asked).flat_map(of_family).collect()
}

fn blocked_interfaces(policy: &Policy, view: &HostView, family: Family, chains: &[&BaseChain]) -> Vec<Blocked> {
    let mut found = Vec::new();
    let leading_away = view.uplinks();
    let scopes: Vec<(Section<'_>, AddressSet)> = policy.sections().map(|section| (section, section.scope())).collect();
    let own = view.addresses.iter().filter(|own| {
        own.network.family() == family
            && own.interface != "lo"
            && !view.default_route_interfaces.contains(&own.interface)
            && !(leading_away.contains(&own.interface) && is_public(own.address))
            && !matches!(own.address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local())
    });
    let mut done = BTreeSet::new();
    for own in own {
        if done.len() == EACH || done.contains(&own.interface) {
            continue;
        }
        let leads = |out: &&&String| **out != &own.interface && translates(&scopes, out, own.network);
        let uplinks: Vec<String> = leading_away.iter().filter(leads).take(EACH).map(|out| (*out).clone()).collect();
        if uplinks.is_empty() {
            continue;
        }
        done.insert(&own.interface);
        for (fate, (by, is_certain)) in fates(view, family, chains, own, &uplinks) {
            let (from, to) = (vec![own.interface.clone()], uplinks.clone());
            found.push(Blocked { fate, forward: None, family, from, to, by, is_certain, more: 0 });
        }
    }
    found
}

/// What becomes of connections of a network to the uplinks, why, and whether that is certain.
fn fates(
    view: &HostView,
    family: Family,
    chains: &[&BaseChain],
    own: &InterfaceAddress,
    uplinks: &[String],
) -> Vec<(Fate, (String, bool))> {
    let arriving = |protocol| Packet {
        source: Some(own.network),
        in_interface: Some(own.interface.clone()),
        protocol: Some(protocol),
        source_is_local: Some(false),
        destination_is_local: Some(false),
        ..Packet::any(family)
    };
    let untracked = closed([Protocol::Tcp, Protocol::Udp].map(|protocol| track(view, &arriving(protocol))));
    let drop = |is_untracked| {
        let arriving = Packet { is_untracked, ..arriving(Protocol::Tcp) };
        let leaving = |out: &String| Packet { out_interface: Some(out.clone()), ..arriving.clone() };
        closed(uplinks.iter().map(|out| pass(chains, &leaving(out))))
    };
    let dropped = match &untracked {
        Some((rule, true)) if drop(false).is_none() => {
            drop(true).map(|(by, is_certain)| (format!("{by}; what it sees is not tracked: {rule}"), is_certain))
        }
        untracked => drop(matches!(untracked, Some((_, true)))),
    };
    let untracked = untracked.filter(|_| !matches!(dropped, Some((_, true))));
    dropped.map(|why| (Fate::Dropped, why)).into_iter().chain(untracked.map(|why| (Fate::Untracked, why))).collect()
}

/// Whether a packet that comes in gets to connection tracking.
fn track(view: &HostView, packet: &Packet) -> Passage {
    let chains: Vec<&BaseChain> =
        [Hook::Ingress, Hook::Prerouting].into_iter().flat_map(|hook| view.passed(hook, packet)).collect();
    tracked(&chains, packet)
}

fn blocked_forwards(policy: &Policy, view: &HostView, family: Family, chains: &[&BaseChain]) -> Vec<Blocked> {
    let mut found: Vec<Blocked> = Vec::new();
    let own = OwnAddresses::of(view, family);
    for forward in policy.forwards.iter().filter(|forward| forward.serves(family)).take(MOST_FORWARDS) {
        let Some(blocked) = blocked_forward(policy, view, &own, chains, forward) else { continue };
        let is_alike = |known: &&mut Blocked| {
            (known.fate, &known.from, &known.by, known.is_certain)
                == (blocked.fate, &blocked.from, &blocked.by, blocked.is_certain)
        };
        match found.iter_mut().find(is_alike) {
            Some(known) => known.more += 1,
            None => found.push(blocked),
        }
    }
    found
}

/// What strangers send to a forward, from each interface that leads to other networks or that its gate names.
fn blocked_forward(
    policy: &Policy,
    view: &HostView,
    own: &OwnAddresses,
    chains: &[&BaseChain],
    forward: &Forward,
) -> Option<Blocked> {
    let family = own.family;
    let target = forward.target(family)?;
    let mut sent_on: Vec<Packet> =
        behind(policy, forward, view, family).into_iter().map(|asked| asked.packet).collect();
    sent_on.retain(|packet| {
        packet.source_is_local == Some(false) && packet.source.is_some_and(|source| !view.is_near(source.address()))
    });
    let towards = &sent_on.first()?.out_interface;
    let named: Option<Vec<String>> = gates(forward, view).into_iter().collect();
    let mut from = named.unwrap_or_else(|| view.uplinks().into_iter().take(EACH).cloned().collect());
    from.retain(|name| towards.as_ref() != Some(name) && forward.lets_in(name));
    let coming_in = |name: &String| {
        let from = |packet: &Packet| Packet { in_interface: Some(name.clone()), ..packet.clone() };
        sent_on.iter().map(from).collect::<Vec<_>>()
    };
    let dropped = closed(from.iter().flat_map(coming_in).map(|packet| pass(chains, &packet)));
    let (fate, (by, is_certain)) = match (dropped, untracked_clients(view, own, forward, &from)) {
        // They do not get as far as to where others would be dropped.
        (_, Some((by, true))) => (Fate::Untracked, (by, true)),
        (Some(why), _) => (Fate::Dropped, why),
        (None, untracked) => (Fate::Untracked, untracked?),
    };
    let forward = Some(placed(&forward.origin, &forward.key()));
    Some(Blocked { fate, forward, family, from, to: vec![target.to_string()], by, is_certain, more: 0 })
}

/// Why what clients send to a forward, from each of these interfaces, is not tracked.
fn untracked_clients(
    view: &HostView,
    own: &OwnAddresses,
    forward: &Forward,
    from: &[String],
) -> Option<(String, bool)> {
    let arrived = arriving(forward, view, own.family, own);
    let coming_in = |name: &String| {
        let is_let_in = |packet: &&Packet| packet.in_interface.as_ref().is_none_or(|gate| gate == name);
        let packets = arrived.iter().map(|asked| &asked.packet).filter(is_let_in);
        packets.map(|packet| Packet { in_interface: Some(name.clone()), ..packet.clone() }).collect::<Vec<_>>()
    };
    closed(from.iter().flat_map(coming_in).map(|packet| track(view, &packet)))
}

/// The first reason, and whether all are certain; `None` where any of the ways is open.
fn closed(passages: impl IntoIterator<Item = Passage>) -> Option<(String, bool)> {
    let (mut reason, mut is_certain) = (None, true);
    for passage in passages {
        let by = match passage {
            Passage::Open => return None,
            Passage::Closed(by) => by,
            Passage::Doubtful(by) => {
                is_certain = false;
                by
            }
        };
        reason.get_or_insert(by);
    }
    reason.map(|reason| (reason, is_certain))
}

/// True when the first section that takes flows of a network through an interface translates them, or those of a part of
/// the network.
fn translates(scopes: &[(Section<'_>, AddressSet)], out: &str, network: Prefix) -> bool {
    let mut left = AddressSet::of([network]);
    for (section, scope) in scopes.iter().filter(|(section, _)| section.takes(out)) {
        if section.snat.value != Snat::Nothing && left.touches(scope) {
            return true;
        }
        left = left.without(scope);
    }
    false
}
