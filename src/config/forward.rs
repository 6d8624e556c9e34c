//! Entries of `portForwards`: what no value tells alone, which of them want the same packet, and what they are in the
//! policy.

use super::diagnostic::{Lines, Place, Problems};
use super::egress::{first_ipv6, listed, not_enabled, prefixes};
use super::forward_value::{HairpinKey, NO_LOCALHOST_IPV6};
use super::keys::ForwardKeys;
use super::value::Located;
use crate::policy::{
    AddressSet, Family, Forward, Hairpin, HostAddress, InterfaceClass, InterfacePattern, PortRange, Prefix, Protocol,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const KEY: &str = "portForwards";
/// How many entries can have one port of one address, told apart by interfaces and sources. Each is compared with all.
const MAX_SHARING: usize = 64;
/// How many ports of ranges can become others: on nftables each is an element, for every protocol and family. So many are
/// every port of two protocols and both families.
const MAX_SHIFTED: u64 = 262_144;

/// What messages call an entry, by its number from 0.
fn label(number: usize) -> String {
    format!("{KEY}[{}]", number + 1)
}

/// Reports entries that can't be, beside others or at all.
pub fn validate(entries: &[Located<ForwardKeys>], enables_ipv6: bool, sources: &[Lines<'_>], problems: &mut Problems) {
    // Where a value could not be read, it is not missing.
    let any_wrong = problems.concern_entries_of(KEY);
    let mut needs_ipv6 = BTreeSet::new();
    if !enables_ipv6 {
        let entries = entries.iter().enumerate();
        let needs = entries.filter(|(number, entry)| report_ipv6(*number, &entry.value, sources, problems));
        needs_ipv6 = needs.map(|one| one.0).collect();
    }
    if any_wrong {
        return;
    }
    let mut wrong = needs_ipv6.clone();
    for (number, entry) in entries.iter().enumerate().filter(|(number, _)| !needs_ipv6.contains(number)) {
        for (place, key, message) in faults(entry) {
            let path = if key.is_empty() { label(number) } else { format!("{}.{key}", label(number)) };
            problems.report(place, &path, message);
            wrong.insert(number);
        }
    }
    conflicts(entries, &wrong, sources, problems);
    too_many_shifted(entries, &wrong, problems);
}

type Fault = (Place, &'static str, String);

/// What is wrong with an entry by itself.
fn faults(entry: &Located<ForwardKeys>) -> Vec<Fault> {
    let keys = &entry.value;
    let mut faults = Vec::new();
    if keys.host_port.is_none() {
        faults.push((entry.place, "", "hostPort is missing".to_owned()));
    }
    if keys.address.0.is_empty() {
        faults.push((entry.place, "", "address is missing, where the forward leads".to_owned()));
    }
    faults.extend(twice(keys));
    faults.extend(beyond_the_last_port(keys));
    if faults.is_empty() {
        faults.extend(no_address_of_the_family(keys));
        faults.extend(hairpin_of_nobody(keys));
        faults.extend(localhost(keys));
    }
    if faults.is_empty() {
        faults.extend(unreachable(entry));
    }
    faults
}

fn twice(keys: &ForwardKeys) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut families = BTreeSet::new();
    for address in &keys.address.0 {
        let family = Family::of(address.value);
        if !families.insert(family) {
            let message = format!("'{}' is the second one of {family}; there can be one of each", address.value);
            faults.push((address.place, "address", message));
        }
    }
    for (number, protocol) in keys.protocol.0.iter().enumerate() {
        if keys.protocol.0[..number].iter().any(|before| before.value == protocol.value) {
            faults.push((protocol.place, "protocol", format!("'{}' is in the list twice", protocol.value)));
        }
    }
    faults
}

fn beyond_the_last_port(keys: &ForwardKeys) -> Option<Fault> {
    let (Some(from), Some(to)) = (keys.host_port, keys.port) else { return None };
    let last = u32::from(to.value) + from.value.size() - 1;
    (last > u32::from(u16::MAX)).then(|| {
        let message = format!("the {} ports of hostPort would end at {last}, past 65535", from.value.size());
        (to.place, "port", message)
    })
}

fn no_address_of_the_family(keys: &ForwardKeys) -> Option<Fault> {
    let host = keys.host_ip?;
    let (family, written) = match host.value {
        HostAddress::Any => return None,
        HostAddress::AnyOf(family) => (family, family.whole().address()),
        HostAddress::One(address) => (Family::of(address), address),
    };
    target(keys, family).is_none().then(|| {
        let message = format!("'{written}' is {family}, and address has no {family} address");
        (host.place, "hostIP", message)
    })
}

/// A list for all entries may well have networks of the other family, too.
fn hairpin_of_nobody(keys: &ForwardKeys) -> Option<Fault> {
    let HairpinKey::From(list) = &keys.hairpin else { return None };
    let served = served(keys);
    let first = list.first().filter(|_| !list.iter().any(|one| served.contains(&one.value.family())))?;
    let families = served.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let message = format!(
        "'{}' is {}, and what is forwarded is {families}: nobody would be translated; write never",
        first.value,
        first.value.family()
    );
    (!served.is_empty()).then_some((first.place, "hairpin", message))
}

fn localhost(keys: &ForwardKeys) -> Vec<Fault> {
    let mut faults = Vec::new();
    let host = keys.host_ip.map(|host| (host.value, host.place));
    let loopback = matches!(host, Some((HostAddress::One(address), _)) if address.is_loopback());
    let switch = keys.localhost.filter(|switch| switch.value);
    if let (true, None, Some((_, place))) = (loopback, switch, host) {
        faults.push((place, "hostIP", "127.0.0.0/8 is only for local processes; set localhost: true".to_owned()));
    }
    let Some(switch) = switch else { return faults };
    let mut refuse = |message: &str| faults.push((switch.place, "localhost", message.to_owned()));
    match host {
        Some((HostAddress::AnyOf(Family::V6) | HostAddress::One(IpAddr::V6(_)), _)) => {
            refuse(&format!("not for IPv6: {NO_LOCALHOST_IPV6}"));
        }
        Some((HostAddress::One(address), _)) if !address.is_loopback() => {
            refuse(&format!("hostIP is {address}; leave hostIP out, or write an entry for 127.0.0.1 beside this one"));
        }
        _ if target(keys, Family::V4).is_none() => {
            refuse(&format!("address has no IPv4 address, and not for IPv6: {NO_LOCALHOST_IPV6}"));
        }
        _ => {}
    }
    if !keys.in_interfaces.is_empty() {
        refuse("what local processes send comes in through no interface; leave inInterfaces out");
    }
    faults
}

/// An entry that lets nobody in.
fn unreachable(entry: &Located<ForwardKeys>) -> Option<Fault> {
    let gates = Gates::of(&entry.value);
    let message = if !gates.interfaces_pass() {
        "can never match: inInterfaces leaves no interface"
    } else if !served(&entry.value).iter().any(|family| gates.sources_pass(*family)) {
        "can never match: sourceCIDRs and excludeSourceCIDRs leave no source"
    } else {
        return None;
    };
    Some((entry.place, "", message.to_owned()))
}

fn target(keys: &ForwardKeys, family: Family) -> Option<IpAddr> {
    keys.address.0.iter().map(|address| address.value).find(|address| Family::of(*address) == family)
}

/// The families that an entry forwards.
fn served(keys: &ForwardKeys) -> Vec<Family> {
    let host = keys.host_ip.map_or(HostAddress::Any, |host| host.value);
    let is_served = |family: &Family| host.may_be_of(*family) && target(keys, *family).is_some();
    Family::ALL.into_iter().filter(is_served).collect()
}

fn protocols(keys: &ForwardKeys) -> Vec<Protocol> {
    match keys.protocol.0.as_slice() {
        [] => vec![Protocol::Tcp],
        list => list.iter().map(|protocol| protocol.value).collect(),
    }
}

/// Reports what an entry needs IPv6 for; true when it does.
fn report_ipv6(number: usize, keys: &ForwardKeys, sources: &[Lines<'_>], problems: &mut Problems) -> bool {
    let mut needs = false;
    let mut report = |place, key: &str, what: String| {
        problems.report(place, &format!("{}.{key}", label(number)), not_enabled(&what, place, sources));
        needs = true;
    };
    match keys.host_ip {
        Some(Located { value: HostAddress::AnyOf(Family::V6), place }) => report(place, "hostIP", "'::'".to_owned()),
        Some(Located { value: HostAddress::One(address @ IpAddr::V6(_)), place }) => {
            report(place, "hostIP", format!("'{address}'"));
        }
        _ => {}
    }
    for address in keys.address.0.iter().filter(|address| address.value.is_ipv6()) {
        report(address.place, "address", format!("'{}'", address.value));
    }
    let hairpin = match &keys.hairpin {
        HairpinKey::From(list) => list.as_slice(),
        HairpinKey::Auto | HairpinKey::Always | HairpinKey::Never => &[],
    };
    let lists = [("sourceCIDRs", &*keys.source_cidrs), ("excludeSourceCIDRs", &keys.exclude_source_cidrs)];
    for (key, list) in lists.into_iter().chain([("hairpin", hairpin)]) {
        first_ipv6(list).into_iter().for_each(|(place, what)| report(place, key, what));
    }
    needs
}

/// Who may use a forward.
struct Gates<'k> {
    interfaces: &'k [Located<InterfacePattern>],
    /// `None` for all.
    sources: Option<[AddressSet; 2]>,
}

impl<'k> Gates<'k> {
    fn of(keys: &'k ForwardKeys) -> Self {
        let (wanted, excluded) = (&keys.source_cidrs, &keys.exclude_source_cidrs);
        let left = |family: Family| {
            let of = |list: &[Located<Prefix>]| {
                AddressSet::of(list.iter().map(|item| item.value).filter(|prefix| prefix.family() == family))
            };
            let all = if wanted.is_empty() { AddressSet::of([family.whole()]) } else { of(wanted) };
            all.without(&of(excluded))
        };
        let sources = (!wanted.is_empty() || !excluded.is_empty()).then(|| Family::ALL.map(left));
        Gates { interfaces: &keys.in_interfaces, sources }
    }

    fn patterns(&self) -> impl Iterator<Item = &'k InterfacePattern> + use<'k> {
        self.interfaces.iter().map(|pattern| &pattern.value)
    }

    /// The sources of a family; `None` for all.
    fn sources(&self, family: Family) -> Option<&AddressSet> {
        let [v4, v6] = self.sources.as_ref()?;
        Some(if family == Family::V4 { v4 } else { v6 })
    }

    fn interfaces_pass(&self) -> bool {
        InterfaceClass::all(self.patterns()).into_iter().any(|class| class.is_in(self.patterns()))
    }

    fn sources_pass(&self, family: Family) -> bool {
        self.sources(family).is_none_or(|sources| !sources.is_empty())
    }

    /// True when no packet of the family passes both.
    fn are_disjoint(&self, other: &Self, family: Family) -> bool {
        self.share_no_source(other, family) || self.share_no_interface(other)
    }

    fn share_no_source(&self, other: &Self, family: Family) -> bool {
        matches!((self.sources(family), other.sources(family)), (Some(ours), Some(theirs)) if !ours.touches(theirs))
    }

    fn share_no_interface(&self, other: &Self) -> bool {
        if self.interfaces.is_empty() || other.interfaces.is_empty() {
            return false;
        }
        let classes = InterfaceClass::all(self.patterns().chain(other.patterns()));
        !classes.into_iter().any(|class| class.is_in(self.patterns()) && class.is_in(other.patterns()))
    }
}

/// Ports that an entry wants.
#[derive(Clone, Copy)]
struct Claim<'k> {
    number: usize,
    ports: Located<PortRange>,
    gates: &'k Gates<'k>,
}

/// A protocol, a family, and the address of the host, `None` for any.
type Owner = (&'static str, Family, Option<IpAddr>);

/// Reports entries that want packets which another one wants, too; not those that are wrong by themselves, whose meaning is
/// not known.
fn conflicts(
    entries: &[Located<ForwardKeys>],
    wrong: &BTreeSet<usize>,
    sources: &[Lines<'_>],
    problems: &mut Problems,
) {
    let gates: Vec<Gates<'_>> = entries.iter().map(|entry| Gates::of(&entry.value)).collect();
    let mut claims: BTreeMap<Owner, Vec<Claim<'_>>> = BTreeMap::new();
    for ((number, entry), gates) in entries.iter().enumerate().zip(&gates).filter(|((one, _), _)| !wrong.contains(one))
    {
        let Some(ports) = entry.value.host_port else { continue };
        let host = match entry.value.host_ip.map(|host| host.value) {
            Some(HostAddress::One(address)) => Some(address),
            _ => None,
        };
        for (protocol, family) in owners(&entry.value) {
            claims.entry((protocol, family, host)).or_default().push(Claim { number, ports, gates });
        }
    }
    let mut found = Conflicts::default();
    for (owner, mut claims) in claims {
        claims.sort_by_key(|claim| (claim.ports.value.first, claim.number));
        found.among(owner, &claims);
    }
    for (later, (earlier, owner, port)) in found.pairs {
        let place = |number: usize| entries[number].place.origin(sources);
        let message = format!(
            "{} is forwarded by {}, too ({}); set another hostIP, or inInterfaces or sourceCIDRs that exclude each other",
            describe(owner, port),
            label(earlier),
            place(earlier),
        );
        problems.report(
            entries[later].value.host_port.map_or(Place::Default, |ports| ports.place),
            &label(later),
            message,
        );
    }
    for (number, (owner, port)) in found.crowded {
        let message = format!("more than {MAX_SHARING} entries for {}; this is one too many", describe(owner, port));
        problems.report(entries[number].place, &label(number), message);
    }
}

fn owners(keys: &ForwardKeys) -> Vec<(&'static str, Family)> {
    let name = |protocol| match protocol {
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
        _ => "tcp",
    };
    let families = served(keys);
    protocols(keys).into_iter().flat_map(|one| families.iter().map(move |family| (name(one), *family))).collect()
}

fn describe((protocol, family, host): Owner, port: u16) -> String {
    match host {
        Some(address) => format!("{protocol} port {port} of {address}"),
        None => format!("{protocol} port {port} of every {family} address"),
    }
}

#[derive(Default)]
struct Conflicts {
    /// By the later entry: an earlier one, and a port that both want.
    pairs: BTreeMap<usize, (usize, Owner, u16)>,
    /// Entries that are too many for one port.
    crowded: BTreeMap<usize, (Owner, u16)>,
}

impl Conflicts {
    /// Goes through claims in the order of their first ports, beside those that reach as far. One that is in conflict is
    /// compared no further, so that as many equal ones as a file can have cost no more than their number.
    fn among(&mut self, owner: Owner, claims: &[Claim<'_>]) {
        let mut open: Vec<Claim<'_>> = Vec::new();
        for claim in claims {
            let first = claim.ports.value.first;
            open.retain(|before| before.ports.value.last >= first);
            let rival = open.iter().position(|before| !before.gates.are_disjoint(claim.gates, owner.1));
            if let Some(rival) = rival {
                let before = open[rival];
                let (earlier, later) = (before.number.min(claim.number), before.number.max(claim.number));
                self.pairs.entry(later).or_insert((earlier, owner, first));
                if before.ports.value.last < claim.ports.value.last {
                    open[rival] = *claim;
                }
            } else if open.len() == MAX_SHARING {
                self.crowded.entry(claim.number).or_insert((owner, first));
            } else {
                open.push(*claim);
            }
        }
    }
}

/// Reports the entry whose ports are too many beside those before it; ranges that keep their ports cost nothing.
fn too_many_shifted(entries: &[Located<ForwardKeys>], wrong: &BTreeSet<usize>, problems: &mut Problems) {
    let mut all = 0;
    for (number, entry) in entries.iter().enumerate().filter(|(number, _)| !wrong.contains(number)) {
        all += shifted(&entry.value);
        if all > MAX_SHIFTED {
            let message = format!(
                "with this entry {all} ports of ranges become other ports, counted for each protocol and family, \
                 more than {MAX_SHIFTED}"
            );
            return problems.report(entry.place, &label(number), message);
        }
    }
}

/// How many ports of a range become others.
fn shifted(keys: &ForwardKeys) -> u64 {
    match (keys.host_port, keys.port) {
        (Some(from), Some(to)) if from.value.size() > 1 && to.value != from.value.first => {
            u64::from(from.value.size()) * owners(keys).len() as u64
        }
        _ => 0,
    }
}

/// The entries as the policy has them.
pub fn entries(list: Vec<Located<ForwardKeys>>, sources: &[Lines<'_>]) -> Vec<Forward> {
    let entry = |(number, Located { value: keys, place }): (u32, Located<ForwardKeys>)| {
        let host_ports = keys.host_port?.value;
        let address = |family| target(&keys, family);
        let v4 = address(Family::V4).and_then(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None });
        let v6 = address(Family::V6).and_then(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None });
        Some(Forward {
            number,
            origin: place.origin(sources),
            host_ports,
            protocols: protocols(&keys),
            host: keys.host_ip.map_or(HostAddress::Any, |host| host.value),
            v4,
            v6,
            port: keys.port.map_or(host_ports.first, |port| port.value),
            in_interfaces: listed(keys.in_interfaces, sources),
            sources: prefixes(keys.source_cidrs, sources),
            excluded_sources: prefixes(keys.exclude_source_cidrs, sources),
            hairpin: match keys.hairpin {
                HairpinKey::Auto => Hairpin::Auto,
                HairpinKey::Always => Hairpin::Always,
                HairpinKey::Never => Hairpin::Never,
                HairpinKey::From(list) => Hairpin::From(prefixes(list, sources)),
            },
            localhost: keys.localhost.is_some_and(|switch| switch.value),
        })
    };
    (1..).zip(list).filter_map(entry).collect()
}
