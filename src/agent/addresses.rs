//! Which of the host's addresses sources become. Pure.

use super::advice::{HostView, InterfaceAddress};
use crate::policy::{Family, Policy, Section, Snat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// The addresses that the sources of a section become, as far as the host has them now: those of `snat`, and for what is
/// masqueraded the first one of each interface that leads on, or of IPv6 the only one: among several the kernel
/// chooses by rules of its own (RFC 6724). Which one a route prefers is not looked up.
pub fn in_use(policy: &Policy, section: Section<'_>, view: &HostView) -> Vec<InUse> {
    let sources = section.sources.entries();
    let has_sources = |family: Family| sources.is_empty() || sources.iter().any(|one| one.value.family() == family);
    let families = Family::ALL.into_iter().filter(|family| policy.enables(*family) && has_sources(*family));
    families.flat_map(|family| of_family(section, family, view)).take(MOST).collect()
}

fn of_family(section: Section<'_>, family: Family, view: &HostView) -> Vec<InUse> {
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
    let uplinks = view.uplinks();
    let is_named = section.out_interfaces.iter().any(|pattern| !pattern.value.negated);
    let leads_on = |name: &String| name != "lo" && section.takes(name) && (is_named || uplinks.contains(name));
    let is_link_local = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let mut by_interface: BTreeMap<&str, Vec<&InterfaceAddress>> = BTreeMap::new();
    for own in own.filter(|own| leads_on(&own.interface) && !is_link_local(own.address)) {
        by_interface.entry(&own.interface).or_default().push(own);
    }
    let chosen = |own: Vec<&InterfaceAddress>| match (family, own.as_slice()) {
        (Family::V4, [first, ..]) | (Family::V6, [first]) => Some(told(first)),
        _ => None,
    };
    by_interface.into_values().filter_map(chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags, SourceText};
    use crate::policy::Prefix;
    use std::path::Path;

    fn host() -> HostView {
        let own = |interface: &str, address: &str| {
            let address = address.parse().unwrap();
            InterfaceAddress {
                interface: interface.to_owned(),
                address,
                network: Prefix::containing(address, 24).unwrap(),
            }
        };
        HostView {
            addresses: vec![
                own("lo", "127.0.0.1"),
                own("wan0", "203.0.113.1"),
                own("wan0", "203.0.113.77"),
                own("wan1", "198.51.100.1"),
                own("lan0", "192.168.77.1"),
                own("wan0", "fe80::1"),
                own("wan0", "2001:db8::1"),
                own("wan1", "2001:db8:1::1"),
                own("wan1", "2001:db8:1::2"),
            ],
            default_route_interfaces: ["wan0".to_owned()].into(),
            ..HostView::default()
        }
    }

    /// Of each entry, then of the top level.
    fn told(text: &str) -> Vec<String> {
        let source = SourceText { path: Path::new("config.yaml").into(), text: text.to_owned() };
        let policy = config::parse(&[source], &Flags::default()).unwrap().policy;
        let join =
            |section| in_use(&policy, section, &host()).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        policy.sections().map(join).collect()
    }

    #[test]
    fn what_is_masqueraded_gets_the_first_address_of_each_interface_that_leads_on() {
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
        let of_one_family = "enableIPv6: true\negress: [{sourceCIDRs: [10.0.0.0/8], outInterfaces: [wan0], snat: masquerade}]\nsnat: none\n";
        assert_eq!(told(of_one_family), ["203.0.113.1 (wan0)", ""]);
    }
}
