//! What in a policy has nothing on the host to be about, and whether anything is left that it translates. Pure.

use super::host_view::{HostView, placed};
use crate::config::nearest;
use crate::network::Network;
use crate::policy::{
    AddressSet, Egress, Family, InterfacePattern, Origin, Policy, Prefix, PrefixSet, Section, Snat, WithOrigin,
};
use std::collections::BTreeSet;
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
    /// Each interface is kept out, or lo.
    NoInterface,
    /// No source is left.
    EverySourceExcluded,
    /// What others would translate is in the scope of entries before them.
    TakenBefore,
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
            What::NoInterface => f.write_str("no interface on this host but lo is in scope"),
            What::EverySourceExcluded => f.write_str("every source in scope is excluded"),
            What::TakenBefore => f.write_str("entries with snat none take every flow that others would translate"),
        }?;
        let mut glue = ";";
        if let What::Interface(_, Some(near)) = &self.what {
            write!(f, "; did you mean {near}?")?;
            glue = "";
        }
        if self.is_all { write!(f, "{glue} nothing is masqueraded") } else { Ok(()) }
    }
}

/// What of a policy comes to anything on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// All that the policy says of what is not there.
    pub unmatched: Vec<Unmatched>,
    /// The families of which nothing is translated although something is of the other one.
    pub untranslated: BTreeSet<Family>,
}

impl Reach {
    pub fn of(policy: &Policy, view: &HostView) -> Self {
        let Some(network) = view.network.as_deref() else { return Reach::default() };
        let reached = reached_by_sources(policy, network);
        let alive = alive(policy, network, &reached);
        let translated = translated(policy, &alive);
        let lacks = |family: &Family| policy.enable_ipv6 && !translated.is_empty() && !translated.contains(family);
        let untranslated = Family::ALL.into_iter().filter(lacks).collect();
        Reach { unmatched: unmatched(policy, network, &reached, &alive, translated.is_empty()), untranslated }
    }
}

fn unmatched(
    policy: &Policy,
    network: &Network,
    reached: &AddressSet,
    alive: &[BTreeSet<Family>],
    is_all: bool,
) -> Vec<Unmatched> {
    let mut found = Vec::new();
    for (section, alive) in policy.sections().zip(alive) {
        let translates = section.snat.value != Snat::Nothing;
        let key = |key: &str| section.entry.map_or(key.to_owned(), |entry| format!("{}.{key}", entry.key()));
        let is_cause = is_all && translates;
        let new =
            |origin: &Origin, of: &str, what, is_all| Unmatched { origin: origin.clone(), key: key(of), what, is_all };
        // Names that are kept out and not there take nothing away.
        let has_no_interface = is_cause && !outside(network).any(|name| section.takes(name));
        found.extend(
            absent(section.out_interfaces, network).map(|(entry, what)| {
                new(&entry.origin, "outInterfaces", what, has_no_interface && !entry.value.negated)
            }),
        );
        let has_no_source = is_cause && has_no_source(&section, policy, reached);
        let sources = sources(section.sources, reached);
        found.extend(sources.into_iter().map(|(origin, what)| new(&origin, "sourceCIDRs", what, has_no_source)));
        let exempt = alive.iter().filter_map(|family| Some((family, everything_exempt(&section, *family)?)));
        for (family, origin) in exempt.filter(|_| translates) {
            let one = new(&origin, "nonMasqueradeCIDRs", What::EverythingExempt(*family), is_all);
            // Entries that inherit the list tell the same.
            let is_own = section.entry.is_none_or(|entry| entry.exempt.is_some());
            let one = if is_own { one } else { Unmatched { key: "nonMasqueradeCIDRs".to_owned(), ..one } };
            if !found.contains(&one) {
                found.push(one);
            }
        }
        // A host may be without interfaces while it starts.
        let is_told = found.iter().any(|one| one.is_all) || outside(network).next().is_none();
        let first = section.out_interfaces.first().filter(|_| has_no_interface && !is_told);
        found.extend(first.map(|entry| new(&entry.origin, "outInterfaces", What::NoInterface, true)));
        let first = section.excluded_sources.entries().first().filter(|_| has_no_source && !is_told);
        found.extend(first.map(|entry| new(&entry.origin, "excludeSourceCIDRs", What::EverySourceExcluded, true)));
    }
    let is_told = !is_all || found.iter().any(|one| one.is_all);
    found.extend(taken_before(policy, alive).filter(|_| !is_told));
    found.extend(absent_elsewhere(policy, network));
    found.sort_by_key(|one| !one.is_all);
    found
}

/// Interfaces that are not there of keys that are in no scope.
fn absent_elsewhere(policy: &Policy, network: &Network) -> Vec<Unmatched> {
    let mut found = Vec::new();
    for forward in &policy.forwards {
        let key = format!("{}.inInterfaces", forward.key());
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

/// What leads to sources, where a section names any.
fn reached_by_sources(policy: &Policy, network: &Network) -> AddressSet {
    let has_sources = policy.sections().any(|section| !section.sources.is_empty());
    if has_sources { reached(network) } else { AddressSet::default() }
}

/// All that interfaces and routes lead to. A default route leads everywhere, and says nothing about a source: unless the
/// host has one interface only, and everything comes through that.
fn reached(network: &Network) -> AddressSet {
    let has_one = network.interfaces().filter(|interface| interface.name != "lo" && interface.is_up).count() == 1;
    let routes = network.routes().iter().filter(|route| !route.hops.is_empty()).map(|route| route.destination);
    let routes = routes.filter(|destination| has_one || destination.length() > 0);
    AddressSet::of(routes.chain(network.addresses().iter().map(|own| own.network)))
}

/// Of each section the families of which a flow can come to it: through an interface that is there, from a source that is
/// in no section before it.
fn alive(policy: &Policy, network: &Network, reached: &AddressSet) -> Vec<BTreeSet<Family>> {
    let sections: Vec<Section<'_>> = policy.sections().collect();
    let scopes: Vec<AddressSet> = sections.iter().map(Section::scope).collect();
    let takers = |name: &str| -> Vec<bool> { sections.iter().map(|section| section.takes(name)).collect() };
    // Interfaces that the same sections take are alike.
    let alike: BTreeSet<Vec<bool>> = outside(network).map(takers).collect();
    let mut alive = vec![BTreeSet::new(); sections.len()];
    for takers in alike {
        let families = Family::ALL.into_iter().filter(|family| policy.enables(*family));
        let mut left = AddressSet::of(families.clone().map(Family::whole));
        for (number, section) in sections.iter().enumerate().filter(|(number, _)| takers[*number]) {
            let own = left.common(&scopes[number]);
            let own = if section.sources.is_empty() { own } else { own.common(reached) };
            let of_family = |family: &Family| own.touches(&AddressSet::of([family.whole()]));
            alive[number].extend(families.clone().filter(of_family));
            left = left.without(&scopes[number]);
        }
    }
    alive
}

fn outside(network: &Network) -> impl Iterator<Item = &str> {
    network.interfaces().map(|interface| interface.name.as_str()).filter(|name| *name != "lo")
}

/// The families of which flows come to a section that translates some.
fn translated(policy: &Policy, alive: &[BTreeSet<Family>]) -> BTreeSet<Family> {
    let translating = policy.sections().zip(alive).filter(|(section, _)| section.snat.value != Snat::Nothing);
    let families = translating.flat_map(|(section, alive)| {
        alive.iter().copied().filter(move |family| everything_exempt(&section, *family).is_none())
    });
    families.collect()
}

/// True when nothing leads to a source that `excludeSourceCIDRs` leaves in the scope.
fn has_no_source(section: &Section<'_>, policy: &Policy, reached: &AddressSet) -> bool {
    let families = Family::ALL.into_iter().filter(|family| policy.enables(*family));
    let all = AddressSet::of(families.map(Family::whole));
    !section.scope().touches(if section.sources.is_empty() { &all } else { reached })
}

/// The first entry that flows come to and that keeps their sources, where others were to translate any.
fn taken_before(policy: &Policy, alive: &[BTreeSet<Family>]) -> Option<Unmatched> {
    let keeps = |entry: &&Egress| policy.section(entry).snat.value == Snat::Nothing;
    let first = policy.egress.iter().zip(alive).find(|(entry, alive)| keeps(entry) && !alive.is_empty());
    let translates = policy.sections().any(|section| section.snat.value != Snat::Nothing);
    first.filter(|_| translates).map(|(entry, _)| Unmatched {
        origin: entry.origin.clone(),
        key: entry.key(),
        what: What::TakenBefore,
        is_all: true,
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
        Reach::of(&policy, &view()).unmatched.iter().map(ToString::to_string).collect()
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
        let view = HostView { network: Some(Arc::new(network)), ..HostView::default() };
        assert_eq!(Reach::of(&policy, &view), Reach::default());
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
        assert_eq!(
            said("nonMasqueradeCIDRs: [0.0.0.0/0]\nsnat: none\negress: [{outInterfaces: [wan0], snat: masquerade}]\n"),
            ["config.yaml:1:22: nonMasqueradeCIDRs: every IPv4 destination is exempt; nothing is masqueraded"]
        );
    }

    #[test]
    fn a_scope_that_leaves_nothing_is_named_although_all_that_it_names_is_there() {
        let no_interface = "outInterfaces: no interface on this host but lo is in scope; nothing is masqueraded";
        let no_source = "excludeSourceCIDRs: every source in scope is excluded; nothing is masqueraded";
        let taken = "entries with snat none take every flow that others would translate; nothing is masqueraded";
        for (text, place, expected) in [
            ("outInterfaces: [lo]\n", "1:17", no_interface),
            ("outInterfaces: ['!wan+', '!lan0']\n", "1:17", no_interface),
            ("outInterfaces: [wan0, '!wan+']\n", "1:17", no_interface),
            ("excludeSourceCIDRs: [0.0.0.0/0]\n", "1:22", no_source),
            ("excludeSourceCIDRs: [0.0.0.0/1, 128.0.0.0/1]\n", "1:22", no_source),
            ("sourceCIDRs: [192.168.10.0/24]\nexcludeSourceCIDRs: [192.168.0.0/16]\n", "2:22", no_source),
            // What is left of the sources is nowhere.
            ("sourceCIDRs: [192.168.10.0/23]\nexcludeSourceCIDRs: [192.168.10.0/24]\n", "2:22", no_source),
            ("egress: [{outInterfaces: ['!nix9'], snat: none}]\n", "1:10", &format!("egress[1]: {taken}")),
            (
                "egress: [{outInterfaces: [wan+], snat: none}, {sourceCIDRs: [0.0.0.0/0], snat: none}]\n",
                "1:10",
                &format!("egress[1]: {taken}"),
            ),
            (
                "snat: none\negress: [{sourceCIDRs: [192.168.10.0/24], snat: none}, {sourceCIDRs: [192.168.10.0/23], snat: masquerade}]\n",
                "2:10",
                &format!("egress[1]: {taken}"),
            ),
        ] {
            assert_eq!(said(text), [format!("config.yaml:{place}: {expected}")], "{text}");
        }
        for text in [
            "outInterfaces: [lo, wan0]\n",
            "outInterfaces: ['!wan+']\n",
            "excludeSourceCIDRs: [0.0.0.0/1]\n",
            "enableIPv6: true\nexcludeSourceCIDRs: [0.0.0.0/0]\n",
            "sourceCIDRs: [192.168.10.0/24]\nexcludeSourceCIDRs: [192.168.10.0/25]\n",
            "egress: [{outInterfaces: ['!wan0'], snat: none}]\n",
            "egress: [{sourceCIDRs: [192.168.10.0/24], snat: none}]\n",
            "egress: [{outInterfaces: [wan0], snat: none}]\nsnat: none\n",
        ] {
            assert_eq!(said(text), [""; 0], "{text}");
        }
        // What is not there and what is kept out are told as before, with the reason that it is.
        assert_eq!(
            said("outInterfaces: [wan0, tun+]\nexcludeSourceCIDRs: [0.0.0.0/0]\n"),
            [
                "config.yaml:2:22: excludeSourceCIDRs: every source in scope is excluded; nothing is masqueraded",
                "config.yaml:1:23: outInterfaces: no interface on this host begins with 'tun'",
            ]
        );
        assert_eq!(
            said("outInterfaces: [ppp0, '!wan+']\n"),
            ["config.yaml:1:17: outInterfaces: no interface 'ppp0' on this host; nothing is masqueraded"]
        );
    }

    #[test]
    fn a_family_of_which_nothing_is_translated_beside_another_one_is_known() {
        let of = |text: &str| {
            let source = SourceText { path: std::path::Path::new("config.yaml").into(), text: text.to_owned() };
            let policy = parse(&[source], &Flags::default()).unwrap().policy;
            Reach::of(&policy, &view()).untranslated.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of("enableIPv6: true\nnonMasqueradeCIDRs: [0.0.0.0/0, fc00::/7]\n"), [Family::V4]);
        assert_eq!(of("enableIPv6: true\nsourceCIDRs: [192.168.10.0/24]\n"), [Family::V6]);
        assert_eq!(of("enableIPv6: true\nexcludeSourceCIDRs: ['::/0']\n"), [Family::V6]);
        for text in ["", "enableIPv6: true\n", "enableIPv6: true\nsnat: none\n", "outInterfaces: [ppp0]\n"] {
            assert_eq!(of(text), [], "{text}");
        }
    }

    #[test]
    fn while_a_host_has_no_interface_but_lo_a_scope_is_not_called_empty() {
        let lo = Interface { index: 1, name: "lo".to_owned(), is_up: true };
        let network = Some(Arc::new(Network::new(vec![lo], Vec::new(), Vec::new())));
        let view = HostView { network, ..HostView::default() };
        let out = |name: &str| WithOrigin { value: name.parse().unwrap(), origin: Origin::Default };
        for name in ["lo", "!wg0"] {
            let policy = Policy { out_interfaces: vec![out(name)], ..Policy::default() };
            assert_eq!(Reach::of(&policy, &view).unmatched, []);
        }
        let policy = Policy { out_interfaces: vec![out("ppp0")], ..Policy::default() };
        assert!(Reach::of(&policy, &view).unmatched[0].is_all);
    }

    #[test]
    fn a_host_of_which_nothing_is_known_lacks_nothing() {
        let wan = WithOrigin { value: "wna0".parse().unwrap(), origin: Origin::Default };
        let policy = Policy { out_interfaces: vec![wan], ..Policy::default() };
        assert_eq!(Reach::of(&policy, &HostView::default()), Reach::default());
    }
}
