//! The host as it is judged. Pure: it is read by `service::host`.

use crate::network::Network;
use crate::network::hook::{BaseChain, Hook, Packet};
use crate::policy::{Family, Origin, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// For anybody on the Internet: addresses that no host there has (RFC 5737).
const STRANGERS_V4: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
];
/// The same (RFC 9637, RFC 3849).
const STRANGERS_V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The host as far as advice needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// `net.ipv4.ip_forward`; `None` where it can't be read.
    pub forwarding_ipv4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; `None` where it can't be read.
    pub forwarding_ipv6: Option<bool>,
    /// Addresses with the prefix of their network, and the interface that has them.
    pub addresses: Vec<InterfaceAddress>,
    /// The interfaces that default routes leave through.
    pub default_route_interfaces: BTreeSet<String>,
    /// Families whose nat table in iptables-legacy is there and not empty.
    pub legacy_nat: BTreeSet<Family>,
    /// The names of all interfaces, and what is routed where; `None` where the kernel does not say.
    pub network: Option<Arc<Network>>,
    /// The interfaces with a gateway in any routing table, and those with one in a table of policy routing.
    pub gateways: Gateways,
    /// Interfaces that don't forward IPv4 although the host does.
    pub not_forwarding: BTreeSet<String>,
    /// How many connections are tracked.
    pub conntrack: Option<ConntrackTable>,
    /// The rules of all programs that flows pass, by family.
    pub chains: BTreeMap<Family, Vec<BaseChain>>,
    /// Why those can't be read.
    pub unread: Option<String>,
}

/// Interfaces that lead to other networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    /// A route of any table has a next hop there, or one of another table than main leads everything through it.
    pub any: BTreeSet<String>,
    /// Those of other tables than main, and of routes for some packets only.
    pub by_policy: BTreeSet<String>,
}

/// The table of tracked connections, net.netfilter.nf_conntrack_*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConntrackTable {
    pub count: u64,
    pub max: u64,
    pub buckets: u64,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// The network it is in.
    pub network: Prefix,
}

impl HostView {
    /// What the network says, where it is known.
    pub fn of(network: Option<Arc<Network>>) -> Self {
        let Some(known) = network.as_deref() else { return HostView::default() };
        let own = known.addresses().iter().filter_map(|own| {
            let interface = known.name(own.interface)?.to_owned();
            Some(InterfaceAddress { interface, address: own.address, network: own.network })
        });
        let by_policy = known.uplinks_of_policy();
        let mut any = known.interfaces_of(|_, hop| hop.gateway.is_some());
        any.extend(by_policy.iter().cloned());
        HostView {
            addresses: own.collect(),
            default_route_interfaces: known.interfaces_of(|route, _| route.destination.length() == 0),
            gateways: Gateways { any, by_policy },
            network,
            ..HostView::default()
        }
    }

    /// Whether a family is forwarded; `None` where that can't be read.
    pub fn forwarding(&self, family: Family) -> Option<bool> {
        match family {
            Family::V4 => self.forwarding_ipv4,
            Family::V6 => self.forwarding_ipv6,
        }
    }

    /// The base chains that flows of a family pass.
    pub fn chains(&self, family: Family) -> &[BaseChain] {
        self.chains.get(&family).map_or(&[], Vec::as_slice)
    }

    /// Those at a hook.
    pub fn at_hook(&self, family: Family, hook: Hook) -> Vec<&BaseChain> {
        self.chains(family).iter().filter(|chain| chain.hook == Some(hook)).collect()
    }

    /// Those at a hook that a packet passes.
    pub fn passed(&self, hook: Hook, packet: &Packet) -> Vec<&BaseChain> {
        let mut chains = self.at_hook(packet.family, hook);
        let interface = match hook {
            Hook::Ingress => &packet.in_interface,
            Hook::Egress => &packet.out_interface,
            Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output | Hook::Postrouting => return chains,
        };
        chains.retain(|chain| interface.as_ref().is_some_and(|name| chain.devices.contains(name)));
        chains
    }

    /// The interfaces behind which other networks are: routes lead to a gateway there, or everything.
    pub fn uplinks(&self) -> BTreeSet<&String> {
        self.default_route_interfaces.iter().chain(&self.gateways.any).collect()
    }

    /// True when the address is one of the host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|own| own.address == address)
    }

    /// The broadcast address of each IPv4 network that has one (RFC 3021).
    pub fn broadcasts(&self) -> Vec<InterfaceAddress> {
        let is_wide = |own: &&InterfaceAddress| own.network.family() == Family::V4 && own.network.length() < 31;
        let all = self.addresses.iter().filter(is_wide).cloned();
        let all = all.map(|own| InterfaceAddress { address: own.network.last(), ..own });
        all.filter(|one| !self.is_local(one.address)).collect()
    }

    /// True when the address is in a network of the host's.
    pub(super) fn is_near(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|near| near.network.contains(address))
    }

    /// The interfaces that have the address.
    pub fn interfaces_with(&self, address: IpAddr) -> BTreeSet<String> {
        self.addresses.iter().filter(|own| own.address == address).map(|own| own.interface.clone()).collect()
    }
}

/// How a finding begins whose cause was written somewhere.
pub(super) fn placed(origin: &Origin, key: &str) -> String {
    match origin {
        Origin::File { .. } => format!("{origin}: {key}: "),
        Origin::Flag(name) => format!("--{name}: "),
        Origin::Default => format!("{key}: "),
    }
}

/// Addresses for anybody on the Internet.
pub(super) fn strangers(family: Family) -> &'static [IpAddr] {
    match family {
        Family::V4 => &STRANGERS_V4,
        Family::V6 => &STRANGERS_V6,
    }
}

/// True for addresses that the rest of the Internet could reach: not private (RFC 1918, RFC 4193), shared
/// (RFC 6598), loopback, link-local or multicast.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || shared || v4.is_loopback() || v4.is_link_local() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast())
        }
    }
}
