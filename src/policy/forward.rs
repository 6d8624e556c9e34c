//! Port forwards: what comes to the host itself and goes on to another one (`portForwards`).

use super::{Family, Flow, InterfacePattern, Origin, Policy, PortRange, Prefix, PrefixSet, Protocol, WithOrigin};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The transport protocols that have ports to forward.
pub const FORWARD_PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Ports of the host that lead to another one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Forward {
    /// Its number, from 1.
    pub number: u32,
    /// Where it was written.
    pub origin: Origin,
    /// The ports of the host (`hostPort`).
    pub host_ports: PortRange,
    /// Of which protocols, each once (`protocol`).
    pub protocols: Vec<Protocol>,
    /// Which addresses of the host (`hostIP`).
    pub host: HostAddress,
    /// Where IPv4 goes; at least one of both families is set (`address`).
    pub v4: Option<Ipv4Addr>,
    /// Where IPv6 goes.
    pub v6: Option<Ipv6Addr>,
    /// What the first of `host_ports` becomes; the others follow it (`port`).
    pub port: u16,
    /// Incoming interfaces that may; empty means all, and the host itself (`inInterfaces`).
    pub in_interfaces: Vec<WithOrigin<InterfacePattern>>,
    /// Clients that may; empty means all (`sourceCIDRs`).
    pub sources: PrefixSet,
    /// Clients that may not (`excludeSourceCIDRs`).
    pub excluded_sources: PrefixSet,
    /// Which clients the target sees as the host (`hairpin`).
    pub hairpin: Hairpin,
    /// Local processes reach it through 127.0.0.0/8 (`localhost`).
    pub localhost: bool,
}

/// The addresses of the host at which a forward begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum HostAddress {
    /// Every one of the families that it has targets for.
    Any,
    /// Every one of a family.
    AnyOf(Family),
    /// This one, which need not be there yet; of 127.0.0.0/8 only with `localhost`.
    One(IpAddr),
}

impl HostAddress {
    /// True when it is an address of the family, or may be one.
    pub fn may_be_of(self, family: Family) -> bool {
        match self {
            HostAddress::Any => true,
            HostAddress::AnyOf(of) => of == family,
            HostAddress::One(address) => Family::of(address) == family,
        }
    }
}

/// Which clients of a forward are masqueraded, so that answers come back through the host.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Hairpin {
    /// Those in the connected network through which the target is reached.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
    /// Those in these ranges.
    From(PrefixSet),
}

impl Policy {
    /// The targets of forwards for which it matters how they are reached.
    pub fn targets_in_question(&self) -> impl Iterator<Item = IpAddr> {
        let matters = |forward: &&Forward| forward.hairpin == Hairpin::Auto || forward.localhost;
        let targets = |forward: &Forward| {
            Family::ALL
                .into_iter()
                .filter(|family| forward.serves(*family))
                .filter_map(|family| forward.target(family))
                .collect::<Vec<_>>()
        };
        self.forwards.iter().filter(matters).flat_map(targets)
    }

    /// The forwards that another policy has not, and those that only it has; one that changed is there as it was and as
    /// it is. Where they are written does not matter.
    pub fn forwards_that_differ(&self, other: &Policy) -> Vec<Forward> {
        if self.forwards == other.forwards {
            return Vec::new();
        }
        let meant = |policy: &Policy| policy.forwards.iter().map(Forward::without_places).collect::<Vec<_>>();
        let (ours, theirs) = (meant(self), meant(other));
        let only = |of: &[Forward], not: &[Forward]| {
            of.iter().filter(|forward| !not.contains(forward)).cloned().collect::<Vec<_>>()
        };
        [only(&ours, &theirs), only(&theirs, &ours)].concat()
    }
}

impl Forward {
    /// What it says, without where.
    pub fn without_places(&self) -> Self {
        let plain =
            |set: &PrefixSet| PrefixSet::from_prefixes(set.entries().iter().map(|entry| entry.value), &Origin::Default);
        let interface =
            |entry: &WithOrigin<InterfacePattern>| WithOrigin { value: entry.value.clone(), origin: Origin::Default };
        Forward {
            number: 0,
            origin: Origin::Default,
            in_interfaces: self.in_interfaces.iter().map(interface).collect(),
            sources: plain(&self.sources),
            excluded_sources: plain(&self.excluded_sources),
            hairpin: match &self.hairpin {
                Hairpin::From(sources) => Hairpin::From(plain(sources)),
                other => other.clone(),
            },
            ..self.clone()
        }
    }

    /// What the configuration calls it.
    pub fn key(&self) -> String {
        format!("portForwards[{}]", self.number)
    }

    /// Where a family goes.
    pub fn target(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether a family is forwarded at all.
    pub fn serves(&self, family: Family) -> bool {
        self.host.may_be_of(family) && self.target(family).is_some()
    }

    /// The addresses that it is about: its targets, and that of the host.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let host = if let HostAddress::One(address) = self.host { Some(address) } else { None };
        [self.target(Family::V4), self.target(Family::V6), host].into_iter().flatten()
    }

    /// The ports that the target sees.
    pub fn target_ports(&self) -> PortRange {
        let width = self.host_ports.last - self.host_ports.first;
        PortRange { first: self.port, last: self.port.saturating_add(width) }
    }

    /// The clients that its target sees as the host, of those the one that has sent a flow; the network of the target is
    /// the flow's.
    pub(super) fn hairpin_of(&self, flow: &Flow) -> Option<Prefix> {
        let family = Family::of(flow.destination);
        match &self.hairpin {
            Hairpin::Always => Some(family.whole()),
            Hairpin::Never => None,
            Hairpin::Auto => flow.network.filter(|network| flow.source.is_some_and(|source| network.contains(source))),
            Hairpin::From(sources) => Some(sources.find(flow.source?)?.value),
        }
    }

    /// What it leads from and to, as `tcp,udp 8000-8010 at 198.51.100.7 to 10.88.0.5:9000-9010`.
    pub fn summary(&self) -> String {
        let protocols: Vec<String> = self.protocols.iter().map(ToString::to_string).collect();
        let host = match self.host {
            HostAddress::Any => String::new(),
            HostAddress::AnyOf(family) => format!(" at {}", family.whole().address()),
            HostAddress::One(address) => format!(" at {address}"),
        };
        let port = self.target_ports().written();
        let served = Family::ALL.into_iter().filter(|family| self.serves(*family));
        let targets = served.filter_map(|family| self.target(family)).map(|target| match target {
            IpAddr::V4(v4) => format!("{v4}:{port}"),
            IpAddr::V6(v6) => format!("[{v6}]:{port}"),
        });
        let targets = targets.collect::<Vec<_>>().join(" and ");
        format!("{} {}{host} to {targets}", protocols.join(","), self.host_ports.written())
    }

    /// True when a port stays what it is.
    pub fn keeps_ports(&self) -> bool {
        self.port == self.host_ports.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward() -> Forward {
        Forward {
            number: 1,
            origin: Origin::Default,
            host_ports: PortRange { first: 8000, last: 8010 },
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            host: HostAddress::Any,
            v4: "10.88.0.5".parse().ok(),
            v6: "fd88::5".parse().ok(),
            port: 9000,
            in_interfaces: Vec::new(),
            sources: PrefixSet::default(),
            excluded_sources: PrefixSet::default(),
            hairpin: Hairpin::Auto,
            localhost: false,
        }
    }

    #[test]
    fn forwards_differ_in_what_they_say_and_not_in_where_they_say_it() {
        let placed = |line| Origin::File { path: std::path::Path::new("a.yaml").into(), line, column: 1 };
        let written = |number, line| {
            let sources = PrefixSet::from_prefixes(["10.0.0.0/8".parse().unwrap()], &placed(line));
            let wan = WithOrigin { value: "wan0".parse().unwrap(), origin: placed(line) };
            let hairpin = Hairpin::From(sources.clone());
            Forward { number, origin: placed(line), sources, in_interfaces: vec![wan], hairpin, ..forward() }
        };
        let policy = |forwards| Policy { forwards, ..Policy::default() };
        let first = policy(vec![written(1, 3)]);
        assert_eq!(first.forwards_that_differ(&policy(vec![written(2, 7)])), []);
        let changed = Forward { port: 9001, ..written(1, 3) };
        let ports = |one: &Policy, other| {
            one.forwards_that_differ(&other).iter().map(|forward| forward.port).collect::<Vec<_>>()
        };
        assert_eq!(ports(&first, policy(vec![changed.clone()])), [9000, 9001], "as it was, and as it is");
        assert_eq!(ports(&first, policy(vec![changed.clone(), written(2, 9)])), [9001], "added");
        assert_eq!(ports(&first, policy(Vec::new())), [9000], "removed");
        let gate = Forward { sources: PrefixSet::default(), ..written(1, 3) };
        assert_eq!(ports(&first, policy(vec![gate])).len(), 2);
    }

    #[test]
    fn a_forward_is_told_in_a_line() {
        let forward = forward();
        assert_eq!(forward.summary(), "tcp,udp 8000-8010 to 10.88.0.5:9000-9010 and [fd88::5]:9000-9010");
        let host = HostAddress::One("198.51.100.7".parse().unwrap());
        let host_ports = PortRange { first: 80, last: 80 };
        let one = Forward { host, host_ports, protocols: vec![Protocol::Tcp], port: 80, ..forward };
        assert_eq!(one.summary(), "tcp 80 at 198.51.100.7 to 10.88.0.5:80");
    }
}
