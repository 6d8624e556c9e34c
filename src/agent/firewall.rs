//! Firewalls that drop what the policy is for: flows from a network to the uplinks, and what port forwards lead on. Pure.

use super::foreign_forwards::{behind, gates};
use super::foreign_rule::EACH;
use super::host_view::{HostView, is_public, placed};
use crate::network::hook::{BaseChain, DOUBTFUL, Hook, Packet, Passage, pass};
use crate::policy::{AddressSet, Family, Forward, Policy, Prefix, Protocol, Section, Snat};
use std::collections::BTreeSet;
use std::fmt;

/// Of more forwards not each is tried.
const MOST_FORWARDS: usize = 64;

/// New connections that a firewall drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
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

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocked { forward, family, from, to, by, is_certain, more } = self;
        let forward = forward.as_deref().unwrap_or_default();
        write!(f, "{forward}new {family} connections from {} to {}", from.join(", "), to.join(", "))?;
        match more {
            0 => {}
            1 => f.write_str(" and those of one more forward")?,
            more => write!(f, " and those of {more} more forwards")?,
        }
        match is_certain {
            true => write!(f, " are dropped: {by}"),
            false => write!(f, " may be dropped, {DOUBTFUL}: {by}"),
        }
    }
}

/// Interfaces from which nothing new gets through to any uplink in the scope of the policy, and forwards from which
/// nothing gets through to the target.
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
        let packet = |out: &String| Packet {
            source: Some(own.network),
            in_interface: Some(own.interface.clone()),
            out_interface: Some(out.clone()),
            protocol: Some(Protocol::Tcp),
            source_is_local: Some(false),
            destination_is_local: Some(false),
            ..Packet::any(family)
        };
        if let Some((by, is_certain)) = closed(uplinks.iter().map(|out| pass(chains, &packet(out)))) {
            let from = vec![own.interface.clone()];
            found.push(Blocked { forward: None, family, from, to: uplinks, by, is_certain, more: 0 });
        }
    }
    found
}

fn blocked_forwards(policy: &Policy, view: &HostView, family: Family, chains: &[&BaseChain]) -> Vec<Blocked> {
    let mut found: Vec<Blocked> = Vec::new();
    for forward in policy.forwards.iter().filter(|forward| forward.serves(family)).take(MOST_FORWARDS) {
        let Some(blocked) = blocked_forward(policy, view, family, chains, forward) else { continue };
        let is_alike = |known: &&mut Blocked| {
            (&known.from, &known.by, known.is_certain) == (&blocked.from, &blocked.by, blocked.is_certain)
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
    family: Family,
    chains: &[&BaseChain],
    forward: &Forward,
) -> Option<Blocked> {
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
    let (by, is_certain) = closed(from.iter().flat_map(coming_in).map(|packet| pass(chains, &packet)))?;
    let forward = placed(&forward.origin, &forward.key());
    Some(Blocked { forward: Some(forward), family, from, to: vec![target.to_string()], by, is_certain, more: 0 })
}

/// The first reason, and whether all are certain; `None` where any of the ways is open.
fn closed(passages: impl Iterator<Item = Passage>) -> Option<(String, bool)> {
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
