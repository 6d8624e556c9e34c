//! What the kernel says of the addresses that a command is asked about.

use crate::agent::advice::HostView;
use crate::policy::Prefix;
use crate::service::view;
use crate::sys::rtnetlink;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The host as far as a question is about it.
#[derive(Debug, Default)]
pub struct Host {
    /// The addresses of the question that are the host's own, with the interfaces that have them.
    pub own: BTreeMap<IpAddr, BTreeSet<String>>,
    /// How the targets are reached of the forwards that it is about.
    pub ways: BTreeMap<IpAddr, Way>,
}

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// The connected network there that holds the address or the next hop to it.
    pub network: Option<Prefix>,
    /// The host's own address in that network.
    pub own: Option<IpAddr>,
}

impl Host {
    /// Asks the kernel's forwarding table, as our rules do (`fib`, `addrtype`): an address can be local by a route for
    /// a whole network. The view says which interface has an IPv6 address, and answers where the kernel does not.
    pub fn among<'a>(addresses: impl Iterator<Item = &'a IpAddr>, view: &HostView) -> Self {
        let interfaces = |address: IpAddr, entry: rtnetlink::Entry| match address {
            IpAddr::V4(_) => entry.interface.and_then(view::interface_name).into_iter().collect(),
            IpAddr::V6(_) => view.interfaces_with(address),
        };
        let own = addresses.filter_map(|address| match rtnetlink::entry(*address) {
            Ok(Some(entry)) if entry.is_local => Some((*address, interfaces(*address, entry))),
            Ok(_) => None,
            Err(_) => view.is_local(*address).then(|| (*address, view.interfaces_with(*address))),
        });
        Host { own: own.collect(), ways: BTreeMap::new() }
    }

    /// True when an address of the question is the host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.own.contains_key(&address)
    }

    /// True when the interface has the address.
    pub fn is_on(&self, address: IpAddr, interface: &str) -> bool {
        self.own.get(&address).is_some_and(|interfaces| interfaces.contains(interface))
    }

    /// How the target of a forward is reached; `None` when it is not.
    pub fn way(&self, target: IpAddr) -> Option<&Way> {
        self.ways.get(&target)
    }
}

/// Asks the kernel how an address is reached that is not the host's own.
pub fn way(target: IpAddr, view: &HostView) -> Option<Way> {
    let entry = rtnetlink::entry(target).ok()??;
    let interface = entry.interface.filter(|_| !entry.is_local).and_then(view::interface_name)?;
    let own = view.connected(target, &interface);
    Some(Way { network: own.map(|own| own.network), own: own.map(|own| own.address), interface })
}
