//! What the kernel says of the host: interfaces, addresses, routes, and the connections that it tracks. And what follows
//! from that for a policy. Pure: the values are read by `sys::rtnetlink` and `sys::conntrack`.

#![forbid(unsafe_code)]

mod address;
mod connection;
pub mod hook;
mod route;
pub mod stale;

pub use address::{Address, Interface};
pub use connection::{Connection, Status, Tuple};
pub use route::{Hop, Route, RouteKind};

use crate::policy::{AddressRange, Family, PreferredSource, Prefix, RouteSources};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Interfaces, addresses and the routes of the main table, as they are at one moment.
///
/// Rules of policy routing are not in it, and of other tables only where they lead: what another table says of a flow, only
/// the kernel can be asked (`sys::rtnetlink::Router`). Of some addresses it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    interfaces: BTreeMap<u32, Interface>,
    addresses: Vec<Address>,
    /// By destination, then metric.
    routes: Vec<Route>,
    /// The lengths of the destinations of each family that has any, for look-ups.
    lengths: BTreeSet<(Family, u8)>,
    /// The networks on the link of each interface, sorted.
    on_link: Vec<(u32, Prefix)>,
    /// How the kernel reaches the addresses that it was asked for; `None` where the main table says it all.
    asked: Option<BTreeMap<IpAddr, Option<Hop>>>,
    /// The interfaces at which routes of other tables have gateways, or that they lead everything through.
    uplinks_of_policy: BTreeSet<u32>,
}

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The interface.
    pub interface: String,
    /// Its index: one that goes and comes under the same name is another one.
    pub index: u32,
    /// The connected networks through which it is reached: whoever is in one of them is answered without us.
    pub networks: Vec<Prefix>,
}

impl Network {
    pub fn new(interfaces: Vec<Interface>, mut addresses: Vec<Address>, mut routes: Vec<Route>) -> Self {
        addresses.sort();
        addresses.dedup();
        routes.sort();
        routes.dedup();
        let lengths = routes.iter().map(|route| (route.destination.family(), route.destination.length())).collect();
        let interfaces = interfaces.into_iter().map(|interface| (interface.index, interface)).collect();
        let on_link = on_link(&routes);
        Network { interfaces, addresses, routes, lengths, on_link, ..Network::default() }
    }

    /// With what the kernel said of addresses: there are rules of policy routing.
    pub fn with_answers(self, answers: BTreeMap<IpAddr, Option<Hop>>) -> Self {
        Network { asked: Some(answers), ..self }
    }

    /// With the interfaces that routes of other tables lead away through.
    pub fn with_uplinks_of_policy(self, uplinks_of_policy: BTreeSet<u32>) -> Self {
        Network { uplinks_of_policy, ..self }
    }

    /// Their names.
    pub fn uplinks_of_policy(&self) -> BTreeSet<String> {
        self.names_of(&self.uplinks_of_policy)
    }

    /// The names of the interfaces that hops of such routes lead through.
    pub fn interfaces_of(&self, is_meant: impl Fn(&Route, &Hop) -> bool) -> BTreeSet<String> {
        let hops = self.routes.iter().flat_map(|route| route.hops.iter().map(move |hop| (route, hop)));
        self.names_of(&hops.filter(|(route, hop)| is_meant(route, hop)).map(|(_, hop)| hop.interface).collect())
    }

    fn names_of(&self, indexes: &BTreeSet<u32>) -> BTreeSet<String> {
        indexes.iter().filter_map(|index| self.name(*index)).map(str::to_owned).collect()
    }

    /// False where the kernel has to be asked how the address is reached, and was not.
    pub fn tells_of(&self, address: IpAddr) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.contains_key(&address))
    }

    /// The name of an interface.
    pub fn name(&self, index: u32) -> Option<&str> {
        self.interfaces.get(&index).map(|interface| interface.name.as_str())
    }

    /// Those of all interfaces.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.interfaces().map(|interface| interface.name.as_str())
    }

    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// True when the address is one of the host's own.
    pub fn owns(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|own| own.address == address)
    }

    /// The addresses of a range that the host owns.
    pub fn owned(&self, range: AddressRange) -> BTreeSet<IpAddr> {
        self.addresses.iter().map(|own| own.address).filter(|address| range.contains(*address)).collect()
    }

    /// The names of the interfaces that have the address.
    pub fn interfaces_with(&self, address: IpAddr) -> BTreeSet<&str> {
        let with = self.addresses.iter().filter(|own| own.address == address);
        with.filter_map(|own| self.name(own.interface)).collect()
    }

    /// True when the interface has the address.
    pub fn has(&self, interface: &str, address: IpAddr) -> bool {
        self.interfaces_with(address).contains(interface)
    }

    /// The route of the main table that leads to an address: the longest prefix, then the smallest metric. One that
    /// refuses counts like any other; one of type throw says nothing.
    pub fn route_to(&self, address: IpAddr) -> Option<&Route> {
        self.prefixes_of(address).find_map(|prefix| {
            let at = self.routes.partition_point(|route| route.destination < prefix);
            self.routes[at..]
                .iter()
                .take_while(|route| route.destination == prefix)
                .find(|route| route.kind != RouteKind::Throw && (route.kind.refuses() || !route.hops.is_empty()))
        })
    }

    /// The interfaces through which packets to an address leave, each with the next hop where there is one; several of
    /// a route with several hops, none when no route leads there.
    pub fn hops_to(&self, address: IpAddr) -> Vec<(&str, Option<IpAddr>)> {
        let hops = self.route_to(address).into_iter().flat_map(|route| &route.hops);
        hops.filter_map(|hop| Some((self.name(hop.interface)?, hop.gateway))).collect()
    }

    /// The interface that leads to an address: that of the first hop.
    pub fn interface_to(&self, address: IpAddr) -> Option<&str> {
        self.hops_to(address).first().map(|(name, _)| *name)
    }

    /// How an address is reached; `None` when no route leads there.
    pub fn reached(&self, address: IpAddr) -> Option<Reached> {
        if let Some(answer) = self.asked.as_ref().and_then(|asked| asked.get(&address)) {
            let hop = (*answer)?;
            let mut networks = self.networks_by(&hop, address);
            if networks.is_empty() {
                networks = self.network_of_address(&hop, address).into_iter().collect();
            }
            let index = hop.interface;
            return Some(Reached { interface: self.name(index)?.to_owned(), index, networks });
        }
        let named = |hop: &Hop| Some((hop.interface, self.name(hop.interface)?.to_owned()));
        let (index, interface) = self.route_to(address)?.hops.iter().find_map(named)?;
        let networks = self.connected_networks_to(address).into_iter().map(|(_, prefix)| prefix).collect();
        Some(Reached { interface, index, networks })
    }

    /// The connected networks through which an address is reached: what is on the link of the outgoing interface and
    /// holds the address or its next hop. Whoever is in one of them is answered without us.
    ///
    /// An IPv6 next hop is known by its link-local address: then it is every network on that link.
    pub fn connected_networks_to(&self, address: IpAddr) -> Vec<(&str, Prefix)> {
        let mut found = BTreeSet::new();
        for hop in self.route_to(address).into_iter().flat_map(|route| &route.hops) {
            let Some(name) = self.name(hop.interface) else { continue };
            found.extend(self.networks_by(hop, address).into_iter().map(|prefix| (name, prefix)));
        }
        found.into_iter().collect()
    }

    fn networks_by(&self, hop: &Hop, address: IpAddr) -> Vec<Prefix> {
        let family = Family::of(address);
        let neighbour = hop.gateway.unwrap_or(address);
        if is_link_local(neighbour) || Family::of(neighbour) != family {
            let on_link = self.on_link(hop.interface, family);
            return on_link.filter(|prefix| !is_link_local(prefix.address())).collect();
        }
        let is_on_link = |prefix: &Prefix| self.on_link.binary_search(&(hop.interface, *prefix)).is_ok();
        self.prefixes_of(neighbour).find(is_on_link).into_iter().collect()
    }

    /// The network of an address of the interface in which the hop is: that of a table other than the main one.
    fn network_of_address(&self, hop: &Hop, address: IpAddr) -> Option<Prefix> {
        let neighbour = hop.gateway.unwrap_or(address);
        let there = self.addresses.iter().filter(|own| own.interface == hop.interface);
        let holds = there.map(|own| own.network).filter(|network| network.contains(neighbour));
        holds.max_by_key(|network| network.length())
    }

    /// The prefixes that hold an address, of the lengths that some route has, the longest first.
    fn prefixes_of(&self, address: IpAddr) -> impl Iterator<Item = Prefix> {
        let family = Family::of(address);
        let lengths = self.lengths.range((family, 0)..=(family, u8::MAX)).rev();
        lengths.filter_map(move |(_, length)| Prefix::containing(address, *length))
    }

    /// The networks on the link of an interface.
    fn on_link(&self, interface: u32, family: Family) -> impl Iterator<Item = Prefix> {
        let from = self.on_link.partition_point(|(of, _)| *of < interface);
        let there = self.on_link[from..].iter().take_while(move |(of, _)| *of == interface).map(|(_, prefix)| *prefix);
        there.filter(move |prefix| prefix.family() == family)
    }

    /// The source that the route prefers by which packets to an address leave through an interface.
    pub fn preferred_source(&self, interface: &str, address: IpAddr) -> Option<IpAddr> {
        let uses = |route: &&Route| route.hops.iter().any(|hop| self.name(hop.interface) == Some(interface));
        let lengths = self.lengths.range((Family::of(address), 0)..=(Family::of(address), u8::MAX)).rev();
        let route = lengths.filter_map(|(_, length)| Prefix::containing(address, *length)).find_map(|prefix| {
            let at = self.routes.partition_point(|route| route.destination < prefix);
            self.routes[at..].iter().take_while(|route| route.destination == prefix).find(uses)
        });
        route?.source
    }

    /// What sources the routes prefer, by outgoing interface and destination.
    pub fn route_sources(&self) -> RouteSources {
        // Of one destination that of the smallest metric is the first.
        let rows = self.routes.iter().flat_map(|route| {
            let names = route.hops.iter().filter_map(|hop| self.name(hop.interface));
            names.map(|name| PreferredSource {
                interface: name.to_owned(),
                destination: route.destination,
                source: route.source,
            })
        });
        RouteSources::new(rows.collect())
    }
}

/// The networks on the link of each interface. A default route without a gateway makes nobody a neighbour.
fn on_link(routes: &[Route]) -> Vec<(u32, Prefix)> {
    let lead = |route: &Route| {
        let direct = route.hops.iter().filter(|hop| hop.gateway.is_none() && route.destination.length() > 0);
        direct.map(|hop| (hop.interface, route.destination)).collect::<Vec<_>>()
    };
    let mut found: Vec<(u32, Prefix)> = routes.iter().flat_map(lead).collect();
    found.sort();
    found.dedup();
    found
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
