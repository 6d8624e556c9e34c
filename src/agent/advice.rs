//! Settings of this host that defeat the policy or make it dangerous. Pure.

use super::firewall::{self, Blocked};
use super::foreign_rule::Foreign;
use super::foreign_sources;
pub use super::host_view::{ConntrackTable, Gateways, HostView, InterfaceAddress};
use super::host_view::{is_public, placed, strangers};
use super::reach::{Reach, Unmatched};
use crate::backend::BackendName;
use crate::config::{Config, ExpectedRule};
use crate::policy::{
    AddressRange, Egress, Family, Flow, Forward, HostAddress, Origin, Policy, Prefix, Section, Snat, Verdict,
    WithOrigin,
};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// So many nat rules of other programs of each family are named by `status`.
const FOREIGN_SHOWN: usize = 8;

/// One thing that the administrator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// The host does not forward this family.
    ForwardingOff(Family),
    /// A public network behind an interface that is not the default route's, and no scope: clients from outside
    /// that are forwarded into it would be rewritten.
    PublicNetwork {
        /// The interface.
        interface: String,
        /// The network.
        network: Prefix,
    },
    /// The nat table of iptables-legacy holds rules although another backend keeps ours.
    LegacyNat(Family),
    /// No address of these is on an interface: replies come back only where they are routed to this host.
    UnownedAddress(AddressRange, Origin),
    /// Some of these are not: the first of them, and how many more.
    PartlyOwned(AddressRange, Origin, IpAddr, usize),
    /// `snat` has addresses of the other family alone.
    NoAddressOf(Family, Origin),
    /// `snat` or a target is an address that no host of a connected network has.
    Broadcast(&'static str, Origin, InterfaceAddress),
    /// A key of the top level that says how to translate what is not translated.
    NoEffectAtTop(WithOrigin<&'static str>),
    /// Keys of an entry of `egress` whose sources stay.
    NoEffect(WithOrigin<String>, Vec<&'static str>),
    /// A forward to an address of the family whose `sourceCIDRs` has none of it.
    NoClients(Origin, IpAddr),
    /// A fragment's list stands for built-in ranges that it does not have.
    Replaced(WithOrigin<Vec<Prefix>>),
    /// IPv6 is translated, and no range of it is exempt; the list that has none, where an entry has its own.
    UniqueLocal(Option<WithOrigin<String>>),
    /// An earlier run kept its rules in a backend that is not in use now, and they are still there.
    StrayRules(BackendName, Family),
    /// The running service keeps rules that another configuration, which is asked about, does not want.
    RulesOfTheService(BackendName, Family),
    /// An interface does not forward IPv4.
    NotForwarding(String),
    /// What is forwarded through an interface is dropped by a firewall.
    Blocked(Blocked),
    /// Something in the policy has nothing on this host to be about.
    Unmatched(Unmatched),
    /// A nat rule of another program.
    Foreign(Foreign),
    /// So many more nat rules of other programs.
    MoreForeign(Family, usize),
    /// A rule that is expected is not there.
    NotThere(WithOrigin<ExpectedRule>),
    /// The rules of other programs can't be read.
    Unread(String),
    /// The table of tracked connections is nearly full, or much larger than its hash table.
    Conntrack(ConntrackTable),
    /// Flows that leave through the interface get an address of another uplink.
    WrongUplink { range: AddressRange, origin: Origin, owner: String, other: String },
    /// A forward from an uplink that answers don't leave through, and the key that names that uplink or its address.
    NoPolicyRouting { interface: String, key: &'static str, origin: Origin },
    /// A forward leads to an address of the host.
    OwnTarget(Origin, IpAddr),
    /// An interface of `fastPath` through which nothing is routed.
    BridgePort { port: String, bridge: String, origin: Origin },
    /// The kernel does not take the flowtable.
    NoFastPath(Origin, String),
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((origin, key)) = self.place() {
            f.write_str(&placed(origin, key))?;
        }
        match self {
            Advice::ForwardingOff(family) => {
                write!(f, "{}: nothing but the host's own traffic is masqueraded", forwarding_is_off(*family))
            }
            Advice::PublicNetwork { interface, network } => write!(
                f,
                "'{interface}' has the public network {network} and no scope is set: inbound connections forwarded \
                 to it will lose their real source address; set outInterfaces or sourceCIDRs, or add {network} to nonMasqueradeCIDRs"
            ),
            Advice::LegacyNat(family) => write!(
                f,
                "iptables-legacy has {family} nat rules too: they and ip-masq-agent's rules act in an undefined order, \
                 and no program lists both; move all rules to one variant"
            ),
            Advice::UnownedAddress(range, origin) => write!(
                f,
                "snat {range} ({origin}) is on no interface: replies are lost unless they are routed to this host"
            ),
            Advice::PartlyOwned(range, origin, first, more) => {
                write!(f, "snat {range} ({origin}): {first} ")?;
                if *more > 0 {
                    write!(f, "and {more} more are")?;
                } else {
                    f.write_str("is")?;
                }
                f.write_str(" on no interface: replies to those are lost unless they are routed to this host")
            }
            Advice::NoAddressOf(family, origin) => {
                write!(f, "snat ({origin}) has no {family} address: {family} sources are masqueraded")
            }
            Advice::Broadcast(_, _, InterfaceAddress { address, network, interface }) => {
                write!(f, "{address} is the broadcast address of {network} on {interface}, which no host has")
            }
            Advice::NoEffectAtTop(_) => f.write_str("no effect: snat is none, and no entry of egress uses it"),
            Advice::NoEffect(WithOrigin { value: name, origin }, keys) => {
                let (keys, have) = (keys.join(", "), if keys.len() == 1 { "has" } else { "have" });
                write!(f, "{keys} of the egress entry '{name}' ({origin}) {have} no effect: its snat is none")
            }
            Advice::NoClients(_, target) => {
                write!(f, "nobody reaches {target}: sourceCIDRs has no {} range", Family::of(*target))
            }
            Advice::Replaced(WithOrigin { value: ranges, origin }) => {
                let ranges = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(f, "{origin}: nonMasqueradeCIDRs replaces the built-in {ranges}; repeat them, or write extraNonMasqueradeCIDRs")
            }
            Advice::UniqueLocal(None) => f.write_str(
                "enableIPv6: no IPv6 range is exempt: what goes to fc00::/7 is masqueraded, too; nonMasqueradeCIDRs or extraNonMasqueradeCIDRs can name it",
            ),
            Advice::UniqueLocal(Some(_)) => {
                f.write_str("no IPv6 range is exempt: what goes to fc00::/7 is masqueraded, too")
            }
            Advice::StrayRules(backend, family) => {
                write!(f, "{family} rules of an earlier run or of Kubernetes' ip-masq-agent are still in {backend} and act in addition to the configured ones")
            }
            Advice::RulesOfTheService(backend, family) => {
                write!(f, "{family} rules of the running service are in {backend}: its own configuration enables {family}, and this one does not")
            }
            Advice::NotForwarding(interface) => write!(
                f,
                "IPv4 forwarding is off on {interface} (net.ipv4.conf.{interface}.forwarding = 0): what comes in there is not forwarded"
            ),
            Advice::Blocked(blocked) => blocked.fmt(f),
            Advice::Unmatched(unmatched) => unmatched.fmt(f),
            Advice::Foreign(foreign) => foreign.fmt(f),
            Advice::MoreForeign(family, more) => {
                write!(f, "{more} more {family} nat rules of other programs; 'ip-masq-agent check --host' lists them")
            }
            Advice::NotThere(WithOrigin { value, .. }) => write!(f, "no rule on this host is '{value}'"),
            Advice::Unread(why) => write!(f, "the nat rules of other programs can't be read: {why}"),
            Advice::Conntrack(conntrack) => conntrack.fmt(f),
            Advice::WrongUplink { range, owner, other, .. } => write!(
                f,
                "{range} is an address of {owner}, and what leaves through {other} gets it too: answers don't come \
                 back there; set outInterfaces, or an entry of egress for each uplink"
            ),
            Advice::NoPolicyRouting { interface, .. } => write!(
                f,
                "answers to what comes in through {interface} leave through another uplink: it needs policy routing \
                 (ip rule, and a table with a default route through {interface})"
            ),
            Advice::BridgePort { port, bridge, .. } => {
                write!(
                    f,
                    "'{port}' is a port of the bridge '{bridge}': packets are routed through the bridge; name that"
                )
            }
            Advice::NoFastPath(_, why) => write!(f, "connections are carried as without it: {why}"),
            Advice::OwnTarget(_, target) => write!(f, "the target {target} is an address of this host itself"),
        }
    }
}

impl Advice {
    /// Where it was written, and the key: with that the line begins.
    fn place(&self) -> Option<(&Origin, &str)> {
        match self {
            Advice::Broadcast(key, origin, _)
            | Advice::NoEffectAtTop(WithOrigin { value: key, origin })
            | Advice::NoPolicyRouting { key, origin, .. } => Some((origin, key)),
            Advice::UniqueLocal(list) => list.as_ref().map(|list| (&list.origin, list.value.as_str())),
            Advice::NoClients(origin, _) | Advice::OwnTarget(origin, _) => Some((origin, "portForwards")),
            Advice::NotThere(WithOrigin { origin, .. }) => Some((origin, "expectForeign")),
            Advice::WrongUplink { origin, .. } => Some((origin, "snat")),
            Advice::BridgePort { origin, .. } | Advice::NoFastPath(origin, _) => Some((origin, "fastPath")),
            // About the host; or the words say where, as they are about an entry or a list.
            Advice::ForwardingOff(_)
            | Advice::PublicNetwork { .. }
            | Advice::LegacyNat(_)
            | Advice::UnownedAddress(..)
            | Advice::PartlyOwned(..)
            | Advice::NoAddressOf(..)
            | Advice::NoEffect(..)
            | Advice::Replaced(_)
            | Advice::StrayRules(..)
            | Advice::RulesOfTheService(..)
            | Advice::NotForwarding(_)
            | Advice::Blocked(_)
            | Advice::Unmatched(_)
            | Advice::Foreign(_)
            | Advice::MoreForeign(..)
            | Advice::Unread(_)
            | Advice::Conntrack(_) => None,
        }
    }

    /// False for what may come by itself while a host starts: an interface, a firewall, a switch of the kernel.
    pub fn is_settled(&self) -> bool {
        match self {
            Advice::PublicNetwork { .. }
            | Advice::LegacyNat(_)
            | Advice::NoEffect(..)
            | Advice::NoEffectAtTop(_)
            | Advice::NoClients(..)
            | Advice::Replaced(_)
            | Advice::StrayRules(..)
            | Advice::RulesOfTheService(..) => true,
            Advice::ForwardingOff(_)
            | Advice::UnownedAddress(..)
            | Advice::PartlyOwned(..)
            | Advice::NoAddressOf(..)
            | Advice::Broadcast(..)
            | Advice::UniqueLocal(_)
            | Advice::NotForwarding(_)
            | Advice::Blocked(_)
            | Advice::Unmatched(_)
            | Advice::Foreign(_)
            | Advice::MoreForeign(..)
            | Advice::NotThere(_)
            | Advice::Unread(_)
            | Advice::Conntrack(_)
            | Advice::WrongUplink { .. }
            | Advice::NoPolicyRouting { .. }
            | Advice::OwnTarget(..)
            | Advice::BridgePort { .. }
            | Advice::NoFastPath(..) => false,
        }
    }

    /// True for what is only told, and makes nothing wrong.
    pub fn is_note(&self) -> bool {
        matches!(self, Advice::NotThere(_) | Advice::UniqueLocal(_))
    }
}

/// That a family is not forwarded, with the sysctl.
pub fn forwarding_is_off(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4 forwarding is off (net.ipv4.ip_forward = 0)",
        Family::V6 => "IPv6 forwarding is off (net.ipv6.conf.all.forwarding = 0)",
    }
}

/// The part of [`advice`] that `status` shows; of the rules of other programs no more than a few.
pub fn service_advice(config: &Config, view: &HostView, reach: &Reach, backend: Option<BackendName>) -> Vec<Advice> {
    // Addresses may come and go (VRRP): of them the service does not speak.
    let mut advice = advise(config, view, reach, backend, Vec::new());
    advice.retain(|advice| !advice.is_note());
    advice.extend(own_targets(&config.policy, view));
    for family in Family::ALL {
        let is_of_family = |one: &Advice| matches!(one, Advice::Foreign(foreign) if foreign.family == family);
        let more = advice.iter().filter(|one| is_of_family(one)).count().saturating_sub(FOREIGN_SHOWN);
        let mut seen = 0;
        advice.retain(|one| {
            seen += usize::from(is_of_family(one));
            !is_of_family(one) || seen <= FOREIGN_SHOWN
        });
        advice.extend((more > 0).then_some(Advice::MoreForeign(family, more)));
    }
    advice
}

/// The first reason why nothing is translated; `None` where anything is, or nothing is to be.
pub fn nothing_translated(advice: &[Advice]) -> Option<String> {
    let is_reason = |one: &&Advice| matches!(one, Advice::Unmatched(unmatched) if unmatched.is_all);
    advice.iter().find(is_reason).map(ToString::to_string)
}

/// Judges a configuration on a host whose rules of ours are in `backend`.
pub fn advice(config: &Config, view: &HostView, backend: Option<BackendName>) -> Vec<Advice> {
    let broadcasts = view.broadcasts();
    let mut of_addresses = addresses(&config.policy, |family, to, origin| {
        let Some(range) = to else { return Some(Advice::NoAddressOf(family, origin)) };
        match broadcasts.iter().find(|one| range.contains(one.address)) {
            Some(one) => Some(Advice::Broadcast("snat", origin, one.clone())),
            None => unowned(range, view, origin),
        }
    });
    of_addresses.extend(targets(&config.policy).filter_map(|(forward, target)| {
        let broadcast = broadcasts.iter().find(|one| one.address == target)?;
        Some(Advice::Broadcast("portForwards", forward.origin.clone(), broadcast.clone()))
    }));
    advise(config, view, &Reach::of(&config.policy, view), backend, of_addresses)
}

fn advise(
    config: &Config,
    view: &HostView,
    reach: &Reach,
    backend: Option<BackendName>,
    of_addresses: Vec<Advice>,
) -> Vec<Advice> {
    let policy = &config.policy;
    let mut advice: Vec<Advice> = reach.unmatched.iter().cloned().map(Advice::Unmatched).collect();
    // With `manageSysctl` the service switches it on, and says where it can't.
    let is_off = |family: &Family| {
        policy.enables(*family) && view.forwarding(*family) == Some(false) && !config.settings.manage_sysctl
    };
    advice.extend(Family::ALL.into_iter().filter(is_off).map(Advice::ForwardingOff));
    advice.extend(of_addresses);
    advice.extend(warnings(config, view, backend));
    advice.extend(view.not_forwarding.iter().cloned().map(Advice::NotForwarding));
    advice.extend(firewall::blocked(policy, view).into_iter().map(Advice::Blocked));
    let (foreign, missing) = foreign_sources::foreign(config, view);
    advice.extend(view.unread.iter().cloned().map(Advice::Unread));
    advice.extend(foreign.into_iter().map(Advice::Foreign));
    advice.extend(missing.into_iter().map(Advice::NotThere));
    advice.extend(uplinks(policy, view));
    advice.extend(unique_local(policy));
    advice.extend(view.conntrack.filter(ConntrackTable::is_short).map(Advice::Conntrack));
    advice
}

/// What of a range is on no interface. Where some of it is, the rest may be routed to this host, unless a neighbour would
/// ask for it.
fn unowned(range: AddressRange, view: &HostView, origin: Origin) -> Option<Advice> {
    let owned: BTreeSet<IpAddr> =
        view.addresses.iter().map(|own| own.address).filter(|own| range.contains(*own)).collect();
    if owned.is_empty() {
        return Some(Advice::UnownedAddress(range, origin));
    }
    let networks: BTreeSet<Prefix> = view.addresses.iter().map(|own| own.network).collect();
    let is_asked_for = |address: &IpAddr| networks.iter().any(|network| network.contains(*address));
    let mut missing = range.addresses().filter(|address| !owned.contains(address) && is_asked_for(address));
    Some(Advice::PartlyOwned(range, origin, missing.next()?, missing.count()))
}

impl ConntrackTable {
    /// Nine tenths full, or eight connections in each bucket.
    fn is_short(&self) -> bool {
        self.is_nearly_full() || (self.buckets > 0 && self.count > self.buckets.saturating_mul(8))
    }

    fn is_nearly_full(&self) -> bool {
        self.max > 0 && self.count.saturating_mul(10) >= self.max.saturating_mul(9)
    }
}

/// What it is short of. Without the number of the moment, which `status` has elsewhere: it is the same warning until it
/// is over.
impl fmt::Display for ConntrackTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConntrackTable { max, buckets, .. } = self;
        match self.is_nearly_full() {
            true => write!(
                f,
                "connection tracking is nearly full, nine tenths of {max} or more: new connections are dropped when it is; \
                 raise net.netfilter.nf_conntrack_max"
            ),
            false => write!(
                f,
                "more than eight connections are tracked for each of {buckets} hash buckets: each packet searches a \
                 long list; raise net.netfilter.nf_conntrack_buckets"
            ),
        }
    }
}

/// Addresses of one uplink that flows of another one get, and forwards from uplinks that answers don't leave through.
fn uplinks(policy: &Policy, view: &HostView) -> Vec<Advice> {
    let uplinks = view.uplinks();
    let mut found = Vec::new();
    for section in policy.sections() {
        let Snat::To(addresses) = section.snat.value else { continue };
        for range in Family::ALL.into_iter().filter_map(|family| addresses.of(family)) {
            let owner = view.addresses.iter().find(|own| range.contains(own.address)).map(|own| &own.interface);
            let Some(owner) = owner.filter(|owner| uplinks.contains(owner)) else { continue };
            let other = uplinks.iter().find(|other| **other != owner && policy.reaches(&section, other));
            found.extend(other.map(|other| Advice::WrongUplink {
                range,
                origin: section.snat.origin.clone(),
                owner: owner.clone(),
                other: (*other).clone(),
            }));
        }
    }
    let leaves_by_itself = |interface: &str| {
        view.default_route_interfaces.iter().any(|other| other == interface)
            || view.gateways.by_policy.contains(interface)
    };
    // One uplink needs it once, however many forwards begin there.
    let mut told = BTreeSet::new();
    for forward in &policy.forwards {
        let gates = forward.in_interfaces.iter().filter(|gate| !gate.value.negated && !gate.value.prefix);
        let named = gates.map(|gate| (gate.value.name.clone(), "inInterfaces", gate.origin.clone()));
        let owned = owners(forward, view).into_iter().map(|name| (name, "portForwards", forward.origin.clone()));
        for (interface, key, origin) in named.chain(owned) {
            let needs_it = view.gateways.any.contains(&interface) && !leaves_by_itself(&interface);
            if needs_it && told.insert(interface.clone()) {
                found.push(Advice::NoPolicyRouting { interface, key, origin });
            }
        }
    }
    found
}

/// The interfaces that have the `hostIP` of a forward, if packets may come in there. Behind one with a private address
/// may be a router of the site: who knocks there is near, and answers find the way.
fn owners(forward: &Forward, view: &HostView) -> BTreeSet<String> {
    let HostAddress::One(host) = forward.host else { return BTreeSet::new() };
    if !is_public(host) {
        return BTreeSet::new();
    }
    let mut owners = view.interfaces_with(host);
    owners.retain(|name| forward.lets_in(name));
    owners
}

/// What `check --host` says of each forward, with all that it reads for that.
fn own_targets(policy: &Policy, view: &HostView) -> Vec<Advice> {
    let own = targets(policy).filter(|(_, target)| view.is_local(*target));
    own.map(|(forward, target)| Advice::OwnTarget(forward.origin.clone(), target)).collect()
}

/// Where the forwards lead.
fn targets(policy: &Policy) -> impl Iterator<Item = (&Forward, IpAddr)> {
    policy.forwards.iter().flat_map(|forward| {
        let served = Family::ALL.into_iter().filter(|family| policy.enables(*family) && forward.serves(*family));
        served.filter_map(move |family| Some((forward, forward.target(family)?)))
    })
}

/// The part of [`advice`] that holds on every host.
pub fn remarks(config: &Config) -> Vec<Advice> {
    let policy = &config.policy;
    let mut remarks =
        addresses(policy, |family, to, origin| to.is_none().then_some(Advice::NoAddressOf(family, origin)));
    remarks.extend(of_the_files(config));
    remarks.extend(unique_local(policy));
    remarks
}

/// There is no built-in range of IPv6, as there is of IPv4. Of several sections without one the first is told.
pub fn unique_local(policy: &Policy) -> Option<Advice> {
    let translates = |section: &Section<'_>| {
        policy.enable_ipv6 && section.snat.value != Snat::Nothing && section.has_sources_of(Family::V6)
    };
    let section = policy.sections().filter(translates).find(|section| section.exempt.len(Family::V6) == 0)?;
    let entry = section.entry.filter(|entry| entry.exempt.is_some());
    let list = |entry: &Egress| WithOrigin {
        value: format!("{}.nonMasqueradeCIDRs", entry.key()),
        origin: entry.origin.clone(),
    };
    Some(Advice::UniqueLocal(entry.map(list)))
}

/// What is to be known of the addresses of `snat`. The service does not warn of it: one may come later (VRRP).
fn addresses(policy: &Policy, judge: impl Fn(Family, Option<AddressRange>, Origin) -> Option<Advice>) -> Vec<Advice> {
    let mut found: Vec<Advice> = Vec::new();
    for section in policy.sections() {
        let Snat::To(addresses) = section.snat.value else { continue };
        let is_asked = |family: &Family| policy.enables(*family) && section.has_sources_of(*family);
        for family in Family::ALL.into_iter().filter(is_asked) {
            let advice = judge(family, addresses.of(family), section.snat.origin.clone());
            found.extend(advice.filter(|advice| !found.contains(advice)));
        }
    }
    found
}

/// What the files alone tell, on every host: keys that say how to translate what is not translated, targets that nobody
/// reaches, and what a fragment replaces.
fn of_the_files(config: &Config) -> impl Iterator<Item = Advice> {
    let policy = &config.policy;
    let keeps = |entry: &&Egress| policy.section(entry).snat.value == Snat::Nothing;
    let without_effect =
        policy.egress.iter().filter(keeps).filter(|entry| !entry.translation_keys().is_empty()).map(|entry| {
            let name = WithOrigin { value: entry.name.clone(), origin: entry.origin.clone() };
            Advice::NoEffect(name, entry.translation_keys())
        });
    let has_none = |(forward, target): &(&Forward, IpAddr)| {
        !forward.sources.is_empty() && forward.sources.len(Family::of(*target)) == 0
    };
    let no_clients = targets(policy).filter(has_none);
    let no_clients = no_clients.map(|(forward, target)| Advice::NoClients(forward.origin.clone(), target));
    let at_top = config.without_effect.iter().cloned().map(Advice::NoEffectAtTop);
    without_effect.chain(at_top).chain(no_clients).chain(config.replaced_ranges.clone().map(Advice::Replaced))
}

/// The part of [`advice`] that the service warns of. Whether the host forwards is not: at boot that may still come.
pub fn warnings(config: &Config, view: &HostView, backend: Option<BackendName>) -> Vec<Advice> {
    let policy = &config.policy;
    let mut warnings = public_networks(policy, view);
    warnings.extend(of_the_files(config));
    if backend != Some(BackendName::IptablesLegacy) {
        warnings.extend(view.legacy_nat.iter().copied().map(Advice::LegacyNat));
    }
    warnings
}

/// The public networks whose visitors the policy would rewrite.
fn public_networks(policy: &Policy, view: &HostView) -> Vec<Advice> {
    if view.default_route_interfaces.is_empty() {
        return Vec::new();
    }
    let uplinks = view.uplinks();
    let harmed = |own: &&InterfaceAddress| {
        policy.enables(own.network.family())
            && !uplinks.contains(&own.interface)
            && own.interface != "lo"
            && !is_named(policy, &own.interface)
            && is_public(own.address)
            && rewrites_visitors(policy, view, own)
    };
    let mut found: Vec<Advice> = Vec::new();
    for own in view.addresses.iter().filter(harmed) {
        let advice = Advice::PublicNetwork { interface: own.interface.clone(), network: own.network };
        if !found.contains(&advice) {
            found.push(advice);
        }
    }
    found
}

/// True when a scope is for the interface by its name: that it is an uplink was said, also while no route leads through it.
fn is_named(policy: &Policy, interface: &str) -> bool {
    let mut patterns = policy.sections().flat_map(|section| section.out_interfaces);
    patterns.any(|pattern| !pattern.value.negated && pattern.value.matches(interface))
}

/// True when what a stranger sends to a network is not left alone, in all of it.
fn rewrites_visitors(policy: &Policy, view: &HostView, own: &InterfaceAddress) -> bool {
    let strangers = strangers(own.network.family());
    let source = strangers.iter().find(|address| !view.is_near(**address)).copied();
    let source = source.or_else(|| strangers.iter().copied().find(|address| !own.network.contains(*address)));
    [own.network.address(), own.address, own.network.last()].into_iter().any(|destination| {
        let flow = Flow { source, out_interface: Some(own.interface.clone()), ..Flow::forwarded_to(destination) };
        policy.verdict(&flow).0 != Verdict::Return
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PRIVATE_RANGES, PrefixSet, SnatAddresses};

    fn view(addresses: &[(&str, &str)]) -> HostView {
        let addresses = addresses
            .iter()
            .map(|(interface, cidr)| {
                let (address, length) = cidr.split_once('/').unwrap();
                let address = address.parse().unwrap();
                let network = Prefix::containing(address, length.parse().unwrap()).unwrap();
                InterfaceAddress { interface: (*interface).to_owned(), address, network }
            })
            .collect();
        HostView { addresses, default_route_interfaces: ["wan0".to_owned()].into(), ..HostView::default() }
    }

    fn config(policy: &Policy) -> Config {
        Config {
            policy: policy.clone(),
            settings: crate::config::Settings::default(),
            expected_rules: Vec::new(),
            replaced_ranges: None,
            without_effect: Vec::new(),
        }
    }

    fn parsed(text: &str) -> Config {
        let source = crate::config::SourceText { path: std::path::Path::new("c.yaml").into(), text: text.to_owned() };
        crate::config::parse(&[source], &crate::config::Flags::default()).unwrap()
    }

    fn policy() -> Policy {
        Policy { exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default), ..Policy::default() }
    }

    #[test]
    fn the_service_tells_of_a_forward_to_the_host_itself() {
        let text = "portForwards: [{hostPort: 80, address: 192.168.1.1}, {hostPort: 81, address: 192.168.1.2}]\n";
        let config = parsed(text);
        let view = view(&[("lan0", "192.168.1.1/24")]);
        let told: Vec<String> =
            service_advice(&config, &view, &Reach::default(), None).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["c.yaml:1:16: portForwards: the target 192.168.1.1 is an address of this host itself"]);
    }

    #[test]
    fn a_public_network_behind_the_gateway_is_noticed_unless_a_scope_or_an_exemption_covers_it() {
        let view = view(&[("wan0", "198.51.100.2/24"), ("lan0", "192.168.1.1/24"), ("dmz0", "203.0.113.1/28")]);
        let expected = Advice::PublicNetwork { interface: "dmz0".into(), network: "203.0.113.0/28".parse().unwrap() };
        assert_eq!(public_networks(&policy(), &view), [expected]);
        let gateways = Gateways { any: ["dmz0".to_owned()].into(), ..Gateways::default() };
        let uplink = HostView { gateways, ..view.clone() };
        assert_eq!(public_networks(&policy(), &uplink), [], "an interface with a gateway is an uplink");
        let mut exempt = policy();
        exempt.exempt = PrefixSet::from_prefixes(["203.0.113.0/24".parse().unwrap()], &Origin::Default);
        assert_eq!(public_networks(&exempt, &view), []);
        let mut scoped = policy();
        scoped.sources = PrefixSet::from_prefixes(["192.168.0.0/16".parse().unwrap()], &Origin::Default);
        assert_eq!(public_networks(&scoped, &view), []);
    }

    #[test]
    fn ipv6_is_not_spoken_of_while_it_is_not_enabled() {
        let mut view = view(&[("lan0", "2001:db8::1/64")]);
        view.forwarding_ipv6 = Some(false);
        assert_eq!(advice(&config(&policy()), &view, None), []);
        let enabled = Policy { enable_ipv6: true, ..policy() };
        let enabled = advice(&config(&enabled), &view, None);
        assert_eq!(enabled.len(), 3);
        assert!(enabled.contains(&Advice::UniqueLocal(None)));
    }

    #[test]
    fn visitors_of_a_public_network_are_judged_as_the_policy_treats_them() {
        let view = view(&[("wan0", "203.0.113.2/24"), ("lan0", "192.168.1.1/24"), ("dmz0", "198.51.100.1/28")]);
        let told = |text: &str| public_networks(&parsed(text).policy, &view).len();
        for text in [
            "egress: [{outInterfaces: [dmz0], snat: none}]\n",
            "egress: [{outInterfaces: [dmz0], nonMasqueradeCIDRs: [198.51.100.0/24]}]\n",
            "outInterfaces: [wan0]\n",
            "outInterfaces: ['!dmz0']\n",
            "sourceCIDRs: [192.168.1.0/24, 198.51.100.0/28]\n",
            "snat: none\negress: [{outInterfaces: [wan0], snat: masquerade}]\n",
            "snat: none\n",
            // An uplink without a route for the moment.
            "outInterfaces: [wan0, dmz0]\n",
            "egress: [{outInterfaces: [dmz+], snat: 198.51.100.1}]\n",
        ] {
            assert_eq!(told(text), 0, "{text}");
        }
        for text in [
            "excludeSourceCIDRs: [10.9.9.9/32]\n",
            "sourceCIDRs: [0.0.0.0/0]\n",
            "outInterfaces: ['!wg0']\n",
            "snat: none\negress: [{outInterfaces: ['!wg0'], snat: masquerade}]\n",
            "snat: 203.0.113.2\n",
            "nonMasqueradeCIDRs: [198.51.100.0/29]\n",
            "egress: [{outInterfaces: [lan0], snat: none}]\n",
        ] {
            assert_eq!(told(text), 1, "{text}");
        }
    }

    #[test]
    fn a_family_of_which_the_scope_has_no_source_lacks_no_address() {
        let told =
            |text: &str| remarks(&parsed(text)).iter().filter(|one| matches!(one, Advice::NoAddressOf(..))).count();
        let text = "enableIPv6: true\nsnat: 198.51.100.2\nextraNonMasqueradeCIDRs: [fc00::/7]\n";
        assert_eq!(told(&format!("{text}sourceCIDRs: [192.168.1.0/24]\n")), 0);
        assert_eq!(told(&format!("{text}sourceCIDRs: [192.168.1.0/24, fd00:1::/64]\n")), 1);
        assert_eq!(told(text), 1);
    }

    #[test]
    fn unique_local_destinations_are_told_of_where_ipv6_is_translated_and_nowhere_else() {
        let told = |text: &str| {
            unique_local(&parsed(&format!("enableIPv6: true\n{text}")).policy).map(|advice| advice.to_string())
        };
        for text in [
            "sourceCIDRs: [192.168.1.0/24]\n",
            "snat: none\n",
            "snat: none\negress: [{sourceCIDRs: [192.168.1.0/24], snat: masquerade}]\n",
            "extraNonMasqueradeCIDRs: [fc00::/7]\negress: [{outInterfaces: [wan0], snat: masquerade}]\n",
            "extraNonMasqueradeCIDRs: [fc00::/7]\negress: [{outInterfaces: [wan0], nonMasqueradeCIDRs: [10.0.0.0/8], snat: none}]\n",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
        let everywhere = Advice::UniqueLocal(None).to_string();
        assert_eq!(told("").as_ref(), Some(&everywhere));
        assert_eq!(told("snat: none\negress: [{outInterfaces: [wan0], snat: masquerade}]\n"), Some(everywhere));
        let of_an_entry = "extraNonMasqueradeCIDRs: [fc00::/7]\negress: [{outInterfaces: [wan0], nonMasqueradeCIDRs: [10.0.0.0/8]}]\n";
        assert_eq!(
            told(of_an_entry).as_deref(),
            Some(
                "c.yaml:3:10: egress[1].nonMasqueradeCIDRs: no IPv6 range is exempt: what goes to fc00::/7 is masqueraded, too"
            )
        );
    }

    #[test]
    fn an_address_on_no_interface_is_named_and_a_family_without_one() {
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        let to = |v4: &str| Snat::To(SnatAddresses { v4: Some(range(v4)), v6: None });
        let snat = |v4| WithOrigin { value: to(v4), origin: Origin::Flag("snat") };
        let view = view(&[("wan0", "198.51.100.2/24")]);
        let found = |policy: &Policy| advice(&config(policy), &view, None);
        let owned = Policy { snat: snat("198.51.100.1-198.51.100.9"), ..policy() };
        let told = |policy| found(policy).iter().map(ToString::to_string).collect::<String>();
        let end = "on no interface: replies to those are lost unless they are routed to this host";
        assert_eq!(
            told(&owned),
            format!("snat 198.51.100.1-198.51.100.9 (flag --snat): 198.51.100.1 and 7 more are {end}")
        );
        let nearly = Policy { snat: snat("198.51.100.2-198.51.100.3"), ..policy() };
        assert_eq!(told(&nearly), format!("snat 198.51.100.2-198.51.100.3 (flag --snat): 198.51.100.3 is {end}"));
        let exempt = PrefixSet::from_prefixes(["fc00::/7".parse().unwrap()], &Origin::Default);
        let unowned = Policy { snat: snat("198.51.100.9"), enable_ipv6: true, exempt, ..policy() };
        assert_eq!(
            found(&unowned).iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "snat 198.51.100.9 (flag --snat) is on no interface: replies are lost unless they are routed to this host",
                "snat (flag --snat) has no IPv6 address: IPv6 sources are masqueraded"
            ]
        );
    }

    #[test]
    fn keys_of_an_entry_that_keeps_sources_are_noticed_on_every_host() {
        let entry = |snat, random_fully, exempt: Option<PrefixSet>| Egress {
            number: 1,
            name: "vpn".to_owned(),
            origin: Origin::Flag("egress"),
            out_interfaces: Vec::new(),
            sources: PrefixSet::default(),
            excluded_sources: PrefixSet::default(),
            snat: Some(WithOrigin { value: snat, origin: Origin::Default }),
            exceptions: None,
            exempt,
            random_fully,
            to_ports: None,
        };
        let said = |entry| {
            let policy = Policy { egress: vec![entry], ..policy() };
            assert_eq!(warnings(&config(&policy), &HostView::default(), None), remarks(&config(&policy)));
            remarks(&config(&policy)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(entry(Snat::Masquerade, Some(true), None)), [""; 0]);
        assert_eq!(said(entry(Snat::Nothing, None, None)), [""; 0]);
        assert_eq!(
            said(entry(Snat::Nothing, Some(false), None)),
            ["randomFully of the egress entry 'vpn' (flag --egress) has no effect: its snat is none"]
        );
        assert_eq!(
            said(entry(Snat::Nothing, Some(false), Some(PrefixSet::default()))),
            [
                "nonMasqueradeCIDRs, randomFully of the egress entry 'vpn' (flag --egress) have no effect: its snat is none"
            ]
        );
    }

    #[test]
    fn keys_of_the_top_level_that_say_how_to_translate_nothing_are_noticed_at_their_place() {
        let said = |text: &str| remarks(&parsed(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
        let both = "snat: none\ntoPorts: 1024-2047\nrandomFully: false\n";
        let (ports, random) = (
            "c.yaml:2:10: toPorts: no effect: snat is none, and no entry of egress uses it".to_owned(),
            "c.yaml:3:14: randomFully: no effect: snat is none, and no entry of egress uses it".to_owned(),
        );
        assert_eq!(said(both), [ports.clone(), random.clone()]);
        assert_eq!(said(&format!("{both}egress: [{{outInterfaces: [wan0], snat: none}}]\n")), [ports, random.clone()]);
        let entry = "egress: [{outInterfaces: [wan0], snat: masquerade, toPorts: 1024-2047";
        assert_eq!(said(&format!("{both}{entry}}}]\n")).len(), 1);
        assert_eq!(said(&format!("{both}{entry}, randomFully: true}}]\n")).len(), 2);
        // What is translated on the way to a target uses it.
        let forward = "portForwards: [{hostPort: 80, address: 10.0.0.5}]\n";
        assert_eq!(said(&format!("{both}{forward}")).len(), 1);
        assert_eq!(said("snat: route-source\ntoPorts: 1024-2047\nrandomFully: false\n"), [""; 0]);
    }

    #[test]
    fn a_target_of_a_family_without_clients_is_noticed() {
        let said = |sources: &str| {
            let text = format!(
                "enableIPv6: true\nnonMasqueradeCIDRs: [\"fd00::/8\"]\n\
                 portForwards: [{{hostPort: 80, address: [10.0.0.5, \"fd00::5\"]{sources}}}]\n"
            );
            remarks(&parsed(&text)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let nobody = "c.yaml:3:16: portForwards: nobody reaches fd00::5: sourceCIDRs has no IPv6 range";
        assert_eq!(said(", sourceCIDRs: [192.0.2.0/24]"), [nobody]);
        for sources in ["", ", sourceCIDRs: [192.0.2.0/24, \"2001:db8::/32\"]", ", excludeSourceCIDRs: [192.0.2.0/24]"]
        {
            assert_eq!(said(sources), [""; 0], "{sources}");
        }
    }

    #[test]
    fn a_broadcast_address_is_no_target_and_no_source() {
        let said = |text: &str, addresses: &[(&str, &str)]| {
            let found = advice(&parsed(text), &view(addresses), None);
            let found = found.iter().filter(|one| matches!(one, Advice::Broadcast(..)));
            found.map(ToString::to_string).collect::<Vec<_>>()
        };
        let text = "snat: 192.168.50.250-192.168.51.1\nportForwards:\n- {hostPort: 80, address: 192.168.50.255}\n\
                    - {hostPort: 81, address: 192.168.50.0}\n- {hostPort: 82, address: 192.168.50.254}\n";
        assert_eq!(
            said(text, &[("lan0", "192.168.50.1/24")]),
            [
                "c.yaml:1:7: snat: 192.168.50.255 is the broadcast address of 192.168.50.0/24 on lan0, which no host has",
                "c.yaml:3:3: portForwards: 192.168.50.255 is the broadcast address of 192.168.50.0/24 on lan0, which no host has",
            ]
        );
        for address in ["192.168.50.255/31", "192.168.50.255/32", "192.168.0.1/16"] {
            assert_eq!(said(text, &[("lan0", address)]), [""; 0], "{address}");
        }
    }

    #[test]
    fn an_address_of_one_uplink_that_flows_of_another_get_is_noticed() {
        let two = || HostView {
            gateways: Gateways { any: ["wan0".to_owned(), "wan1".to_owned()].into(), ..Gateways::default() },
            ..view(&[("wan0", "198.51.100.2/24"), ("wan1", "203.0.113.2/24")])
        };
        let to = Snat::To(SnatAddresses { v4: "198.51.100.2".parse().ok(), v6: None });
        let snat = WithOrigin { value: to, origin: Origin::Flag("snat") };
        let wan0 = WithOrigin { value: "wan0".parse().unwrap(), origin: Origin::Default };
        let everywhere =
            Policy { snat, sources: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default), ..policy() };
        let said = |policy: &Policy| uplinks(policy, &two()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(&everywhere),
            [
                "--snat: 198.51.100.2 is an address of wan0, and what leaves through wan1 gets it too: answers don't come \
              back there; set outInterfaces, or an entry of egress for each uplink"
            ]
        );
        assert_eq!(said(&Policy { out_interfaces: vec![wan0], ..everywhere }), [""; 0]);
    }

    #[test]
    fn a_forward_from_an_uplink_that_answers_do_not_leave_through_is_noticed() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let said = |forwards: &str, by_policy: &[&str], default_routes: &[&str]| {
            let view = HostView {
                gateways: Gateways { any: of(&["wan0", "wan1", "lan0"]), by_policy: of(by_policy) },
                default_route_interfaces: of(default_routes),
                ..view(&[("wan0", "198.51.100.2/24"), ("wan1", "203.0.113.2/24"), ("lan0", "192.168.1.1/24")])
            };
            let policy = parsed(&format!("portForwards: [{forwards}]\n")).policy;
            uplinks(&policy, &view).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let expected = |place: &str| {
            format!(
                "c.yaml:1:{place}: answers to what comes in through wan1 leave through another uplink: it needs policy \
                 routing (ip rule, and a table with a default route through wan1)"
            )
        };
        let gate = "{hostPort: 80, address: 192.168.1.5, inInterfaces: [wan1]}";
        let address = "{hostPort: 80, address: 192.168.1.5, hostIP: 203.0.113.2}";
        assert_eq!(said(gate, &[], &["wan0"]), [expected("68: inInterfaces")]);
        assert_eq!(said(address, &[], &["wan0"]), [expected("16: portForwards")]);
        let open = address.replace('}', ", inInterfaces: ['wan+']}");
        assert_eq!(said(&open, &[], &["wan0"]), [expected("16: portForwards")]);
        let two = format!("{address}, {}", address.replace("80", "81"));
        assert_eq!(said(&two, &[], &["wan0"]), [expected("16: portForwards")], "an uplink is told once");
        for forward in [gate.to_owned(), address.to_owned()] {
            assert_eq!(said(&forward, &["wan1"], &["wan0"]), [""; 0], "{forward}");
            assert_eq!(said(&forward, &[], &["wan0", "wan1"]), [""; 0], "{forward}");
        }
        for forward in [
            address.replace("203.0.113.2", "198.51.100.2"),
            address.replace("203.0.113.2", "192.168.1.1"),
            address.replace("203.0.113.2", "203.0.113.7"),
            // Another uplink's packets for the address of this one.
            address.replace('}', ", inInterfaces: [wan0]}"),
            address.replace('}', ", inInterfaces: ['!wan1']}"),
            gate.replace("wan1", "'!lan0'"),
        ] {
            assert_eq!(said(&forward, &[], &["wan0"]), [""; 0], "{forward}");
        }
    }

    #[test]
    fn connection_tracking_that_runs_short_is_noticed() {
        let short = |count, max, buckets| ConntrackTable { count, max, buckets }.is_short();
        assert!(!short(100, 1000, 1000) && !short(0, 0, 0) && !short(8000, 100_000, 1000));
        assert!(short(900, 1000, 1000) && short(8001, 100_000, 1000));
        let said = |count, max| Advice::Conntrack(ConntrackTable { count, max, buckets: 1000 }).to_string();
        assert!(said(900, 1000).starts_with("connection tracking is nearly full, nine tenths of 1000 or more: "));
        assert!(
            said(8001, 100_000).starts_with("more than eight connections are tracked for each of 1000 hash buckets: ")
        );
        // The kernel takes it as no limit.
        let unlimited = ConntrackTable { count: 8001, max: 0, buckets: 1000 };
        assert!(unlimited.is_short() && Advice::Conntrack(unlimited).to_string().starts_with("more than eight "));
        // What is said again at each resync would be news each time.
        assert_eq!((said(900, 1000), said(8001, 100_000)), (said(950, 1000), said(9000, 100_000)));
    }

    #[test]
    fn forwarding_and_mixed_tables_are_noticed() {
        let view = HostView { forwarding_ipv4: Some(false), legacy_nat: [Family::V4].into(), ..HostView::default() };
        for backend in [BackendName::Nftables, BackendName::IptablesNft] {
            let expected = [Advice::ForwardingOff(Family::V4), Advice::LegacyNat(Family::V4)];
            assert_eq!(advice(&config(&policy()), &view, Some(backend)), expected);
        }
        let legacy = Some(BackendName::IptablesLegacy);
        assert_eq!(advice(&config(&policy()), &view, legacy), [Advice::ForwardingOff(Family::V4)]);
        assert_eq!(warnings(&config(&policy()), &view, legacy), []);
    }
}
