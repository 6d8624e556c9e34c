//! Reads what the host says of itself: sysctls, addresses, default routes. Nothing is written, nothing is loaded.

use crate::agent::advice::{HostView, InterfaceAddress};
use crate::network::Network;
use crate::policy::{Family, Policy, Prefix};
use crate::ruleset::{HostFacts, NetworkFacts};
use crate::sys::rtnetlink;
use crate::sys::xtables::{self, NatTable};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of the host shapes rules, with what is known of its network. A sysctl that is not there counts as off.
pub fn facts(network: Arc<NetworkFacts>) -> HostFacts {
    HostFacts { bridged_ipv4: is_bridged(Family::V4), bridged_ipv6: is_bridged(Family::V6), network }
}

/// Reads what of the host's network shapes the rules of a policy: for a command. The service follows the network.
///
/// # Errors
/// Why it can't be read, in words; never where it does not matter.
pub fn network_facts(policy: &Policy) -> Result<Arc<NetworkFacts>, String> {
    let targets: BTreeSet<IpAddr> = policy.targets_in_question().collect();
    let network = if NetworkFacts::matter_to(policy) { network(&targets)? } else { Network::default() };
    Ok(Arc::new(NetworkFacts::of(policy, &network)))
}

/// Reads the host's network, with how these addresses are reached: for a command.
///
/// # Errors
/// Why it can't be read, in words.
pub fn network(addresses: &BTreeSet<IpAddr>) -> Result<Network, String> {
    rtnetlink::network_towards(addresses)
        .map_err(|error| format!("the host's addresses and routes can't be read: rtnetlink: {error}"))
}

/// Whether bridged frames of a family reach our rules.
pub fn is_bridged(family: Family) -> bool {
    flag(&sysctl(family)) == Some(true)
}

/// The directories in which the sysctls of [`facts`] are.
pub fn directories_of_facts() -> Vec<PathBuf> {
    let directories = Family::ALL.map(|family| Path::new(&sysctl(family)).parent().map(Path::to_owned));
    BTreeSet::from(directories).into_iter().flatten().collect()
}

fn sysctl(family: Family) -> String {
    format!("/proc/sys/{}", HostFacts::sysctl(family).replace('.', "/"))
}

/// The part of the host that needs no privileges and hardly any time.
pub fn view() -> HostView {
    HostView {
        forwarding_ipv4: flag("/proc/sys/net/ipv4/ip_forward"),
        forwarding_ipv6: flag("/proc/sys/net/ipv6/conf/all/forwarding"),
        addresses: addresses(),
        default_route_interfaces: default_route_interfaces(
            &text("/proc/thread-self/net/route"),
            &text("/proc/thread-self/net/ipv6_route"),
        ),
        legacy_nat: legacy_nat().into_iter().filter(|family| !is_empty(*family)).collect(),
        ..HostView::default()
    }
}

/// Families whose nat table exists in iptables-legacy. Asked of procfs only: listing with iptables-legacy would
/// create the table.
pub fn legacy_nat() -> BTreeSet<Family> {
    Family::ALL.into_iter().filter(|family| legacy_tables(*family).iter().any(|table| table == "nat")).collect()
}

/// The tables of iptables-legacy that exist; none where the kernel does not say.
pub fn legacy_tables(family: Family) -> Vec<String> {
    xtables::table_names(family).unwrap_or_default()
}

/// False also when the kernel does not say.
fn is_empty(family: Family) -> bool {
    NatTable::open(family).and_then(|table| table.is_empty()).unwrap_or(false)
}

pub(super) fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(super) fn flag(path: &str) -> Option<bool> {
    fs::read_to_string(path).ok().map(|text| text.trim() != "0")
}

fn addresses() -> Vec<InterfaceAddress> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|entry| {
            let address = address_of(entry.address.as_ref()?)?;
            let length = ipnet::ip_mask_to_prefix(address_of(entry.netmask.as_ref()?)?).ok()?;
            let network = Prefix::containing(address, length)?;
            Some(InterfaceAddress { interface: device(&entry.interface_name).to_owned(), address, network })
        })
        .collect()
}

/// True of a bridge with a port that never gets back a frame that came from it.
pub fn is_one_way_bridge(interface: &str) -> bool {
    let Ok(ports) = fs::read_dir(Path::new("/sys/class/net").join(interface).join("brif")) else { return false };
    ports.flatten().any(|port| flag(&port.path().join("hairpin_mode").display().to_string()) == Some(false))
}

/// The index of an interface.
pub fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// The name of an interface that rules and routes have by its index.
pub fn interface_name(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}

/// The interface of a name of getifaddrs(3), which gives the label for IPv4: `eth0:1` is an address of `eth0`.
fn device(label: &str) -> &str {
    label.split(':').next().unwrap_or(label)
}

fn address_of(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    storage.as_sockaddr_in6().map(|v6| v6.ip().into())
}

/// Reads `/proc/net/route` (interface, destination, gateway, flags, …, mask as the eighth field) and
/// `/proc/net/ipv6_route` (destination, length, …, interface as the last field); see proc(5).
pub fn default_route_interfaces(route: &str, ipv6_route: &str) -> BTreeSet<String> {
    let v4 = route.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        fields.first().filter(|interface| default && **interface != "*").map(|interface| (*interface).to_owned())
    });
    // Unreachable default routes are listed on * there, and on lo here.
    let v6 = ipv6_route.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let default = fields.first()?.bytes().all(|byte| byte == b'0') && fields.get(1) == Some(&"00");
        fields.last().filter(|interface| default && **interface != "lo").map(|interface| (*interface).to_owned())
    });
    v4.chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  wan0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  *\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n\
                  lan0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "00000000000000000000000000000000";
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 wan6\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
             20010db8000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 lan0\n"
        );
        assert_eq!(default_route_interfaces(v4, &v6), ["wan0".to_owned(), "wan6".to_owned()].into());
    }

    #[test]
    fn an_address_with_a_label_is_one_of_the_interface() {
        assert_eq!(device("wan0:1"), "wan0");
        assert_eq!(device("wan0.10"), "wan0.10");
    }
}
