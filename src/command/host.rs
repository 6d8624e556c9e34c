//! What the kernel says of the addresses that a command is asked about.

use super::crossing::{Crossing, Incoming};
use crate::agent::advice::HostView;
use crate::network::{Network, Reached};
use crate::policy::{PreferredSource, Prefix};
use crate::service::view;
use crate::sys::rtnetlink::{self, Routed};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The host as far as a question is about it.
#[derive(Debug, Default)]
pub struct Host {
    /// The addresses of the question, and targets of forwards, that are the host's own, with the interfaces that have them.
    pub own: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Where packets come in for addresses of the host.
    pub incoming: Incoming,
    /// How the targets are reached of the forwards that it is about.
    pub targets: BTreeMap<IpAddr, ReachedTarget>,
    /// How flows cross it to the other addresses of the question.
    pub crossings: BTreeMap<IpAddr, Crossing>,
    /// What the routes prefer by which packets to the addresses of the question leave; not of the host's own.
    pub preferred: BTreeMap<IpAddr, PreferredSource>,
}

/// How the target of a forward is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedTarget {
    /// The interface.
    pub interface: String,
    /// The connected networks through which that is, each with the host's own address in it.
    pub networks: Vec<(Prefix, Option<IpAddr>)>,
}

impl ReachedTarget {
    /// The network that a source is in, or else any.
    pub fn network(&self, source: Option<IpAddr>) -> Option<(Prefix, Option<IpAddr>)> {
        let holds = |network: &Prefix| source.is_some_and(|source| network.contains(source));
        self.networks.iter().find(|(network, _)| holds(network)).or(self.networks.first()).copied()
    }
}

impl Host {
    /// Asks the kernel's forwarding table, as our rules do (`fib`, `addrtype`): an address can be local by a route for
    /// a whole network. The view says which interface has an IPv6 address, and answers where the kernel does not.
    pub fn among<'a>(addresses: impl Iterator<Item = &'a IpAddr>, view: &HostView) -> Self {
        let interfaces = |address: IpAddr, interface: Option<u32>| match address {
            IpAddr::V4(_) => interface.and_then(view::interface_name).into_iter().collect(),
            IpAddr::V6(_) => view.interfaces_with(address),
        };
        let own = addresses.filter_map(|address| match rtnetlink::entry(*address) {
            Ok(Routed::Local(interface)) => Some((*address, interfaces(*address, interface))),
            Ok(Routed::Through(_) | Routed::Refused(_)) => None,
            Err(_) => view.is_local(*address).then(|| (*address, view.interfaces_with(*address))),
        });
        Host { own: own.collect(), ..Host::default() }
    }

    /// True when an address of the question is the host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.own.contains_key(&address)
    }

    /// True when the interface has the address.
    pub fn is_on(&self, address: IpAddr, interface: &str) -> bool {
        self.own.get(&address).is_some_and(|interfaces| interfaces.contains(interface))
    }

    /// Finds how targets are reached.
    pub fn find_targets(&mut self, targets: Vec<IpAddr>, network: &Network) {
        self.targets = targets.into_iter().filter_map(|target| Some((target, reached(target, network)?))).collect();
    }

    /// Finds what routes prefer for packets to some addresses that leave through an interface.
    pub fn find_preferred(&mut self, wanted: Vec<(IpAddr, String)>, network: &Network) {
        let sources = network.route_sources();
        let preferred = |(address, out): (IpAddr, String)| Some((address, sources.find(&out, address).cloned()?));
        self.preferred = wanted.into_iter().filter_map(preferred).collect();
    }

    /// The source that the route to an address of the question prefers.
    pub fn preferred_source(&self, destination: IpAddr) -> Option<IpAddr> {
        self.preferred.get(&destination)?.source
    }

    /// How the target of a forward is reached; `None` when it is not.
    pub fn target(&self, target: IpAddr) -> Option<&ReachedTarget> {
        self.targets.get(&target)
    }
}

/// How an address is reached, as the rules have it.
fn reached(target: IpAddr, network: &Network) -> Option<ReachedTarget> {
    let Reached { interface, networks, .. } = network.reached(target)?;
    let own = |prefix: Prefix| network.addresses().iter().find(|own| own.network == prefix).map(|own| own.address);
    Some(ReachedTarget { interface, networks: networks.into_iter().map(|prefix| (prefix, own(prefix))).collect() })
}
