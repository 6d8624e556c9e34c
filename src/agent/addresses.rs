//! Which of the host's addresses sources become. Pure.

use super::advice::{HostView, InterfaceAddress};
use crate::policy::address::is_link_local;
use crate::policy::{Family, Policy, Section, Snat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// So many addresses of a section are told: a range may have a whole network of them.
const MOST: usize = 8;

/// An address of this host that sources become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// It.
    pub address: IpAddr,
    /// The interface that has it.
    pub interface: String,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.interface)
    }
}

/// The addresses that the sources of each section become, as far as the host has them now: those of `snat`, and for what
/// is masqueraded that of each interface that leads on: of several the one in whose network the gateway is, which the
/// kernel prefers for IPv4. Where that leaves more than one nothing is told: the kernel knows an order that we don't.
pub fn in_use(policy: &Policy, view: &HostView) -> Vec<Vec<InUse>> {
    let (uplinks, gateways) = (view.uplinks(), gateways(view));
    let of_section = |section: Section<'_>| {
        let is_asked = |family: &Family| policy.enables(*family) && section.has_sources_of(*family);
        let families = Family::ALL.into_iter().filter(is_asked);
        let is_named = section.out_interfaces.iter().any(|pattern| !pattern.value.negated);
        let leads_on =
            |name: &String| name != "lo" && policy.reaches(&section, name) && (is_named || uplinks.contains(name));
        families.flat_map(|family| of_family(section, family, view, &leads_on, &gateways)).take(MOST).collect()
    };
    policy.sections().map(of_section).collect()
}

fn of_family(
    section: Section<'_>,
    family: Family,
    view: &HostView,
    leads_on: &dyn Fn(&String) -> bool,
    gateways: &BTreeSet<(&str, IpAddr)>,
) -> Vec<InUse> {
    let own = view.addresses.iter().filter(|own| Family::of(own.address) == family);
    let told = |own: &InterfaceAddress| InUse { address: own.address, interface: own.interface.clone() };
    if let Snat::To(addresses) = section.snat.value
        && let Some(range) = addresses.of(family)
    {
        return own.filter(|own| range.contains(own.address)).map(told).collect();
    }
    if matches!(section.snat.value, Snat::Nothing | Snat::RouteSource) {
        return Vec::new();
    }
    let secondary: BTreeSet<IpAddr> = match &view.network {
        Some(network) => network.addresses().iter().filter(|own| own.is_secondary).map(|own| own.address).collect(),
        None => BTreeSet::new(),
    };
    let own = own.filter(|own| !secondary.contains(&own.address));
    let mut by_interface: BTreeMap<&str, Vec<&InterfaceAddress>> = BTreeMap::new();
    for own in own.filter(|own| leads_on(&own.interface) && !is_link_local(own.address)) {
        by_interface.entry(&own.interface).or_default().push(own);
    }
    let chosen = |(interface, mut own): (&str, Vec<&InterfaceAddress>)| {
        let is_near = |own: &&InterfaceAddress| {
            gateways.iter().any(|(of, gateway)| *of == interface && own.network.contains(*gateway))
        };
        if family == Family::V4 && own.iter().any(is_near) {
            own.retain(is_near);
        }
        <[_; 1]>::try_from(own).ok().map(|[own]| told(own))
    };
    by_interface.into_iter().filter_map(chosen).collect()
}

/// The gateways of all routes with the interfaces that they are behind.
fn gateways(view: &HostView) -> BTreeSet<(&str, IpAddr)> {
    let Some(network) = &view.network else { return BTreeSet::new() };
    let hops = network.routes().iter().flat_map(|route| &route.hops);
    hops.filter_map(|hop| Some((network.name(hop.interface)?, hop.gateway?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags, SourceText};
    use crate::network::{Address, Hop, Interface, Network, Route, RouteKind};
    use crate::policy::Prefix;
    use std::path::Path;
    use std::sync::Arc;

    fn host() -> HostView {
        let names = ["lo", "wan0", "wan1", "lan0"];
        let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned(), is_up: true };
        let own = |(interface, address): &(u32, &str)| {
            let (address, length) = address.split_once('/').unwrap();
            let address = address.parse().unwrap();
            let network = Prefix::containing(address, length.parse().unwrap()).unwrap();
            let is_secondary = address == "203.0.113.66".parse::<IpAddr>().unwrap();
            Address { interface: *interface, address, network, is_secondary }
        };
        let addresses = [
            (1, "127.0.0.1/8"),
            (2, "10.0.0.2/24"),
            (2, "203.0.113.1/24"),
            (2, "203.0.113.66/24"),
            (2, "203.0.113.77/32"),
            (2, "2001:db8::1/64"),
            (2, "fe80::1/64"),
            (3, "198.51.100.1/24"),
            (3, "2001:db8:1::1/64"),
            (3, "2001:db8:1::2/64"),
            (4, "192.168.77.1/24"),
        ];
        let default = |destination: &str, gateway: &str| Route {
            destination: destination.parse().unwrap(),
            metric: 0,
            kind: RouteKind::Unicast,
            hops: vec![Hop { interface: 2, gateway: Some(gateway.parse().unwrap()) }],
            source: None,
        };
        let routes = vec![default("0.0.0.0/0", "203.0.113.9"), default("::/0", "fe80::9")];
        let interfaces = (1..).zip(names).map(interface).collect();
        HostView::of(Some(Arc::new(Network::new(interfaces, addresses.iter().map(own).collect(), routes))))
    }

    /// Of each entry, then of the top level.
    fn told(text: &str) -> Vec<String> {
        let source = SourceText { path: Path::new("config.yaml").into(), text: text.to_owned() };
        let policy = config::parse(&[source], &Flags::default()).unwrap().policy;
        let join = |told: Vec<InUse>| told.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        in_use(&policy, &host()).into_iter().map(join).collect()
    }

    #[test]
    fn what_is_masqueraded_gets_the_address_in_the_network_of_the_gateway_or_the_only_one() {
        assert_eq!(told(""), ["203.0.113.1 (wan0)"]);
        assert_eq!(told("enableIPv6: true"), ["203.0.113.1 (wan0), 2001:db8::1 (wan0)"]);
        assert_eq!(told("outInterfaces: ['wan+']"), ["203.0.113.1 (wan0), 198.51.100.1 (wan1)"]);
        assert_eq!(told("enableIPv6: true\noutInterfaces: [wan1]"), ["198.51.100.1 (wan1)"]);
        assert_eq!(told("outInterfaces: ['!wan0']"), [""]);
        assert_eq!(told("snat: none"), [""]);
    }

    #[test]
    fn fixed_addresses_are_told_where_the_host_has_them() {
        let entry = |snat: &str| format!("egress: [{{outInterfaces: [wan0], snat: {snat}}}]\noutInterfaces: [wan1]\n");
        let top = "198.51.100.1 (wan1)";
        assert_eq!(told(&entry("203.0.113.77")), ["203.0.113.77 (wan0)", top]);
        assert_eq!(told(&entry("203.0.113.70-203.0.113.80")), ["203.0.113.77 (wan0)", top]);
        assert_eq!(told(&entry("203.0.113.9")), ["", top]);
        // What an entry takes whole comes to nobody behind it.
        let taken = "egress: [{outInterfaces: [wan1], snat: 198.51.100.1}]\noutInterfaces: ['wan+']\n";
        assert_eq!(told(taken), ["198.51.100.1 (wan1)", "203.0.113.1 (wan0)"]);
        let of_one_family = "enableIPv6: true\negress: [{sourceCIDRs: [10.0.0.0/8], outInterfaces: [wan0], snat: masquerade}]\nsnat: none\n";
        assert_eq!(told(of_one_family), ["203.0.113.1 (wan0)", ""]);
    }
}
