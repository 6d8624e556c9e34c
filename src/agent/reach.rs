//! What in a policy has nothing on the host to be about, and whether anything is left that it translates. Pure.

use super::host_view::{HostView, placed};
use crate::config::nearest;
use crate::network::Network;
use crate::policy::{
    AddressSet, Family, InterfacePattern, Origin, Policy, Prefix, PrefixSet, Section, Snat, WithOrigin,
};
use std::fmt;

/// Of longer lists not each source is looked for.
const EACH: usize = 64;

/// Something that the host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    pub origin: Origin,
    /// The key, with the entry that has it.
    pub key: String,
    pub what: What,
    /// Nothing at all is translated because of it.
    pub is_all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// No interface matches the pattern; this name is near.
    Interface(InterfacePattern, Option<String>),
    /// No interface or route leads to the source.
    Source(Prefix),
    /// None does to any source of the list.
    Sources,
    /// Every destination of the family is exempt.
    EverythingExempt(Family),
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&placed(&self.origin, &self.key))?;
        match &self.what {
            What::Interface(InterfacePattern { name, prefix: true, .. }, _) => {
                write!(f, "no interface on this host begins with '{name}'")
            }
            What::Interface(InterfacePattern { name, .. }, _) => write!(f, "no interface '{name}' on this host"),
            What::Source(source) => write!(f, "no interface or route of this host leads to {source}"),
            What::Sources => f.write_str("no interface or route of this host leads to any of these sources"),
            What::EverythingExempt(family) => write!(f, "every {family} destination is exempt"),
        }?;
        let mut glue = ";";
        if let What::Interface(_, Some(near)) = &self.what {
            write!(f, "; did you mean {near}?")?;
            glue = "";
        }
        if self.is_all { write!(f, "{glue} nothing is masqueraded") } else { Ok(()) }
    }
}

/// All that the policy says of what is not there.
pub fn unmatched(policy: &Policy, view: &HostView) -> Vec<Unmatched> {
    let Some(network) = view.network.as_deref() else { return Vec::new() };
    let has_sources = policy.sections().any(|section| !section.sources.is_empty());
    let reached = if has_sources { reached(network) } else { AddressSet::default() };
    let is_all = !translates_anything(policy, network, &reached);
    let mut found = Vec::new();
    for section in policy.sections() {
        let translates = section.snat.value != Snat::Nothing;
        let key = |key: &str| section.entry.map_or(key.to_owned(), |entry| format!("egress[{}].{key}", entry.number));
        let is_dead = !is_alive(&section, network, &reached);
        let new = |origin: &Origin, of: &str, what| {
            let is_all = is_all && translates;
            Unmatched { origin: origin.clone(), key: key(of), what, is_all }
        };
        let interfaces = absent(section.out_interfaces, network);
        found.extend(interfaces.map(|(entry, what)| new(&entry.origin, "outInterfaces", what)));
        let sources = sources(section.sources, &reached);
        found.extend(sources.into_iter().map(|(origin, what)| new(&origin, "sourceCIDRs", what)));
        let families = Family::ALL.into_iter().filter(|family| policy.enables(*family) && !is_dead);
        let exempt = families.filter_map(|family| Some((family, everything_exempt(&section, family)?)));
        // Of an entry that inherits the list, the top level is told.
        let is_told = translates && section.entry.is_none_or(|entry| entry.exempt.is_some());
        found.extend(
            exempt
                .filter(|_| is_told)
                .map(|(family, origin)| new(&origin, "nonMasqueradeCIDRs", What::EverythingExempt(family))),
        );
    }
    for forward in &policy.forwards {
        let key = format!("portForwards[{}].inInterfaces", forward.number);
        let gates = absent(&forward.in_interfaces, network);
        found.extend(gates.map(|(entry, what)| Unmatched {
            origin: entry.origin.clone(),
            key: key.clone(),
            what,
            is_all: false,
        }));
    }
    let fast = absent(&policy.fast_path, network);
    found.extend(fast.map(|(entry, what)| Unmatched {
        origin: entry.origin.clone(),
        key: "fastPath".to_owned(),
        what,
        is_all: false,
    }));
    found.sort_by_key(|one| !one.is_all);
    found
}

/// Patterns that no interface matches. Of one that keeps interfaces out that is told where another name is near.
fn absent<'p>(
    patterns: &'p [WithOrigin<InterfacePattern>],
    network: &'p Network,
) -> impl Iterator<Item = (&'p WithOrigin<InterfacePattern>, What)> {
    let is_absent =
        |pattern: &InterfacePattern| !network.interfaces().any(|interface| pattern.matches(&interface.name));
    patterns.iter().filter(move |entry| is_absent(&entry.value)).filter_map(move |entry| {
        let names = network.interfaces().map(|interface| interface.name.as_str()).filter(|name| *name != "lo");
        let near = nearest(&entry.value.name, names).map(str::to_owned);
        let is_told = !entry.value.negated || near.is_some();
        is_told.then(|| (entry, What::Interface(entry.value.clone(), near)))
    })
}

/// Sources that nothing leads to.
fn sources(set: &PrefixSet, reached: &AddressSet) -> Vec<(Origin, What)> {
    let Some(first) = set.entries().first() else { return Vec::new() };
    let is_reached = |prefix: Prefix| AddressSet::of([prefix]).touches(reached);
    if set.entries().len() > EACH {
        let all = AddressSet::of(set.entries().iter().map(|entry| entry.value));
        return if all.touches(reached) { Vec::new() } else { vec![(first.origin.clone(), What::Sources)] };
    }
    let missing = set.entries().iter().filter(|entry| !is_reached(entry.value));
    missing.map(|entry| (entry.origin.clone(), What::Source(entry.value))).collect()
}

/// All that interfaces and routes lead to. A default route leads everywhere, and says nothing about a source: unless the
/// host has one interface only, and everything comes through that.
fn reached(network: &Network) -> AddressSet {
    let has_one = network.interfaces().filter(|interface| interface.name != "lo" && interface.is_up).count() == 1;
    let routes = network.routes().iter().filter(|route| !route.hops.is_empty()).map(|route| route.destination);
    let routes = routes.filter(|destination| has_one || destination.length() > 0);
    AddressSet::of(routes.chain(network.addresses().iter().map(|own| own.network)))
}

/// True when a flow can be in the scope.
fn is_alive(section: &Section<'_>, network: &Network, reached: &AddressSet) -> bool {
    let interface = network.interfaces().any(|interface| interface.name != "lo" && section.takes(&interface.name));
    let sources = section.sources.entries().iter().map(|entry| entry.value);
    interface && (section.sources.is_empty() || AddressSet::of(sources).touches(reached))
}

fn translates_anything(policy: &Policy, network: &Network, reached: &AddressSet) -> bool {
    let families = || Family::ALL.into_iter().filter(|family| policy.enables(*family));
    policy.sections().any(|section| {
        section.snat.value != Snat::Nothing
            && is_alive(&section, network, reached)
            && families().any(|family| everything_exempt(&section, family).is_none())
    })
}

/// Where it was written that every destination of a family is exempt.
fn everything_exempt(section: &Section<'_>, family: Family) -> Option<Origin> {
    let whole = family.whole();
    let halves = [(whole.address(), 1), (whole.last(), 1)].map(|(address, length)| Prefix::containing(address, length));
    let is_whole = section.exempt.covers(whole) || halves.into_iter().flatten().all(|half| section.exempt.covers(half));
    let excepted = section.exceptions.len(family) > 0;
    // The longest prefix that holds an address says where: of the first one that is not special.
    (is_whole && !excepted).then(|| {
        let widest = section.exempt.entries().iter().filter(|entry| entry.value.family() == family);
        widest.min_by_key(|entry| entry.value.length()).map(|entry| entry.origin.clone()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, SourceText, parse};
    use crate::network::{Address, Hop, Interface, Route, RouteKind};
    use std::sync::Arc;

    fn view() -> HostView {
        let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned(), is_up: true };
        let interfaces = [(1, "lo"), (2, "lan0"), (3, "wan0"), (4, "wan1")].map(interface).to_vec();
        let address = |interface, address: &str, network: &str| Address {
            interface,
            address: address.parse().unwrap(),
            network: network.parse().unwrap(),
            is_secondary: false,
        };
        let addresses =
            vec![address(2, "192.168.10.1", "192.168.10.0/24"), address(3, "198.51.100.2", "198.51.100.0/24")];
        let route = |destination: &str, interface, gateway: Option<&str>| Route {
            destination: destination.parse().unwrap(),
            metric: 0,
            kind: RouteKind::Unicast,
            hops: vec![Hop { interface, gateway: gateway.map(|gateway| gateway.parse().unwrap()) }],
            source: None,
        };
        let routes = vec![route("0.0.0.0/0", 3, Some("198.51.100.1")), route("10.7.0.0/16", 2, Some("192.168.10.2"))];
        HostView { network: Some(Arc::new(Network::new(interfaces, addresses, routes))), ..HostView::default() }
    }

    fn said(text: &str) -> Vec<String> {
        let source = SourceText { path: std::path::Path::new("config.yaml").into(), text: text.to_owned() };
        let policy = parse(&[source], &Flags::default()).unwrap().policy;
        unmatched(&policy, &view()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_the_nearest_one() {
        assert_eq!(
            said("outInterfaces: [wna0]\n"),
            [
                "config.yaml:1:17: outInterfaces: no interface 'wna0' on this host; did you mean wan0? nothing is masqueraded"
            ]
        );
        assert_eq!(
            said("outInterfaces: [wan0, tun+]\n"),
            ["config.yaml:1:23: outInterfaces: no interface on this host begins with 'tun'"]
        );
        assert_eq!(
            said(
                "egress: [{outInterfaces: [ppp0], snat: 203.0.113.9}]\nportForwards: [{hostPort: 80, address: 192.168.10.5, inInterfaces: [wan2]}]\n"
            ),
            [
                "config.yaml:1:27: egress[1].outInterfaces: no interface 'ppp0' on this host",
                "config.yaml:2:69: portForwards[1].inInterfaces: no interface 'wan2' on this host; did you mean wan0?",
            ]
        );
        // What an entry that is not there exempts is translated.
        assert_eq!(
            said("egress: [{outInterfaces: [wg0], sourceCIDRs: [192.168.99.0/24], snat: none}]\n"),
            [
                "config.yaml:1:27: egress[1].outInterfaces: no interface 'wg0' on this host",
                "config.yaml:1:47: egress[1].sourceCIDRs: no interface or route of this host leads to 192.168.99.0/24",
            ]
        );
        // What is kept out and not there does no harm, unless another name was meant.
        assert_eq!(said("outInterfaces: ['!wg0', '!lan1']\n").len(), 1);
        assert_eq!(said("outInterfaces: [wan+]\n"), [""; 0]);
    }

    #[test]
    fn sources_that_nothing_leads_to_are_named() {
        assert_eq!(
            said("sourceCIDRs: [192.168.11.0/24]\n"),
            [
                "config.yaml:1:15: sourceCIDRs: no interface or route of this host leads to 192.168.11.0/24; nothing is masqueraded"
            ]
        );
        assert_eq!(said("sourceCIDRs: [192.168.0.0/16, 10.7.9.0/24]\n"), [""; 0]);
        assert_eq!(
            said("sourceCIDRs: [192.168.10.0/24, 192.168.11.0/24]\n"),
            ["config.yaml:1:32: sourceCIDRs: no interface or route of this host leads to 192.168.11.0/24"]
        );
    }

    #[test]
    fn on_a_host_of_one_interface_everything_comes_through_that() {
        let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned(), is_up: true };
        let route = Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            metric: 0,
            kind: RouteKind::Unicast,
            hops: vec![Hop { interface: 2, gateway: "10.0.1.1".parse().ok() }],
            source: None,
        };
        let network = Network::new([(1, "lo"), (2, "eth0")].map(interface).to_vec(), Vec::new(), vec![route]);
        let sources = PrefixSet::from_prefixes(["10.0.2.0/24".parse().unwrap()], &Origin::Default);
        let policy = Policy { sources, ..Policy::default() };
        assert_eq!(unmatched(&policy, &HostView { network: Some(Arc::new(network)), ..HostView::default() }), []);
    }

    #[test]
    fn a_policy_that_exempts_everything_is_named_unless_an_exception_is_left() {
        assert_eq!(
            said("nonMasqueradeCIDRs: [10.0.0.0/8, 0.0.0.0/0]\n"),
            ["config.yaml:1:34: nonMasqueradeCIDRs: every IPv4 destination is exempt; nothing is masqueraded"]
        );
        assert_eq!(said("nonMasqueradeCIDRs: [0.0.0.0/1, 128.0.0.0/1]\n").len(), 1);
        assert_eq!(said("nonMasqueradeCIDRs: [0.0.0.0/0]\nmasqueradeExceptionCIDRs: [203.0.113.0/24]\n"), [""; 0]);
        assert_eq!(said("nonMasqueradeCIDRs: [0.0.0.0/1]\n"), [""; 0]);
        // Sources are to stay.
        assert_eq!(said("nonMasqueradeCIDRs: [0.0.0.0/0]\nsnat: none\n"), [""; 0]);
    }

    #[test]
    fn a_host_of_which_nothing_is_known_lacks_nothing() {
        let wan = WithOrigin { value: "wna0".parse().unwrap(), origin: Origin::Default };
        let policy = Policy { out_interfaces: vec![wan], ..Policy::default() };
        assert_eq!(unmatched(&policy, &HostView::default()), []);
    }
}
