//! The port forwards of one family, as the kernel is asked.

use super::facts::HostFacts;
use super::matches::{Match, Side, Test};
use crate::policy::{
    AddressSet, Family, Forward, ForwardMark, Hairpin, HostAddress, InterfacePattern, LOOPBACK_V4, Policy, PortRange,
    Prefix, Protocol, WithOrigin,
};
use std::net::IpAddr;
use std::sync::Arc;

/// All forwards of a family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardRules {
    /// Those of one address of the host before those of any, each by protocol and port. No two of the same host address
    /// want the same packet.
    pub rules: Arc<[ForwardRule]>,
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
    /// The ports that the target sees.
    pub fn target_ports(&self) -> PortRange {
        PortRange { first: self.port, last: self.port + (self.ports.last - self.ports.first) }
    }

    /// The clients that its target must see as the host.
    pub fn hidden(&self) -> impl Iterator<Item = Prefix> {
        self.localhost.then_some(LOOPBACK_V4).into_iter().chain(self.hairpin.iter().copied())
    }

    /// Those of them that pass a gate.
    pub fn hidden_behind(&self, gate: &[Match]) -> Vec<Prefix> {
        let source = |one: &Match| if let Test::In(Side::Saddr, prefix) = one.test { Some(prefix) } else { None };
        let hidden = AddressSet::of(self.hidden());
        let within = AddressSet::of(gate.iter().find_map(source).or(Some(Family::of(self.to).whole())));
        hidden.without(&hidden.without(&within)).prefixes()
    }

    /// True when a port stays what it is.
    pub fn keeps_ports(&self) -> bool {
        self.port == self.ports.first
    }
}

impl ForwardRules {
    /// How those are marked whose source is to be translated.
    pub fn mark(&self) -> Option<&ForwardMark> {
        self.mark.as_ref().map(|mark| &mark.value)
    }

    /// What the forwards of a policy ask of one family.
    pub fn of(policy: &Policy, family: Family, host: &HostFacts) -> Self {
        let serving = policy.forwards.iter().filter(|forward| forward.serves(family));
        let mut rules: Vec<ForwardRule> = serving.flat_map(|forward| rules_of(forward, family, host)).collect();
        rules.sort_by_key(|rule| (rule.host.is_none(), rule.host, rule.protocol, rule.ports.first));
        let mark = policy.forward_mark.clone().filter(|_| !rules.is_empty());
        ForwardRules { rules: rules.into(), mark }
    }
}

fn rules_of(forward: &Forward, family: Family, host: &HostFacts) -> Vec<ForwardRule> {
    let Some(to) = forward.target(family) else { return Vec::new() };
    let rule = |protocol: &Protocol| ForwardRule {
        number: forward.number,
        protocol: *protocol,
        host: match forward.host {
            HostAddress::One(address) => Some(address),
            HostAddress::Any | HostAddress::AnyOf(_) => None,
        },
        ports: forward.host_ports,
        gates: gates(forward, family),
        to,
        port: forward.port,
        from_host: forward.in_interfaces.is_empty(),
        localhost: forward.localhost && family == Family::V4,
        hairpin: hairpin(forward, family, host),
    };
    forward.protocols.iter().map(rule).collect()
}

/// One row for each pair of an incoming interface and a source that may.
fn gates(forward: &Forward, family: Family) -> Vec<Vec<Match>> {
    let (negated, positive): (Vec<_>, Vec<_>) =
        forward.in_interfaces.iter().map(|one| &one.value).partition(|one| one.negated);
    let interface = |one: &InterfacePattern| Test::InInterface { name: one.name.clone(), prefix: one.prefix };
    let never: Vec<Match> = negated.into_iter().map(|one| Match::is_not(interface(one))).collect();
    let mut interfaces: Vec<Vec<Match>> =
        positive.into_iter().map(|one| [&[Match::is(interface(one))][..], &never].concat()).collect();
    if interfaces.is_empty() {
        interfaces.push(never);
    }
    let whole = [family.whole()];
    let all = if forward.sources.is_empty() { whole.to_vec() } else { forward.sources.sorted(family) };
    let sources = AddressSet::of(all).without(&AddressSet::of(forward.excluded_sources.sorted(family))).prefixes();
    let source = |prefix: &Prefix| (prefix.length() > 0).then(|| Match::is(Test::In(Side::Saddr, *prefix)));
    let with = |row: &Vec<Match>| -> Vec<Vec<Match>> {
        sources.iter().map(|prefix| row.iter().cloned().chain(source(prefix)).collect()).collect()
    };
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
