//! Reads what the host says of itself: sysctls, its network. Nothing is written, nothing is loaded.

use crate::agent::advice::HostView;
use crate::network::Network;
use crate::policy::{Family, Policy};
use crate::ruleset::{HostFacts, NetworkFacts};
use crate::sys::xtables::{self, NatTable};
use crate::sys::{self, rtnetlink};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
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
/// Why it can't be read; never where it does not matter.
pub fn network_facts(policy: &Policy) -> Result<Arc<NetworkFacts>, NetworkError> {
    let targets: BTreeSet<IpAddr> = policy.targets_in_question().collect();
    let network = if NetworkFacts::matter_to(policy) { network(&targets)? } else { Network::default() };
    Ok(Arc::new(NetworkFacts::of(policy, &network)))
}

/// Reads the host's network, with how these addresses are reached: for a command.
///
/// # Errors
/// Why it can't be read.
pub fn network(addresses: &BTreeSet<IpAddr>) -> Result<Network, NetworkError> {
    rtnetlink::network_towards(addresses).map_err(|error| NetworkError(RtnetlinkError(error)))
}

/// Why the host's network can't be read.
#[derive(Debug)]
pub struct NetworkError(RtnetlinkError);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host's addresses and routes can't be read: {}", self.0)
    }
}

impl Error for NetworkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// What was asked of rtnetlink and not answered.
#[derive(Debug)]
pub struct RtnetlinkError(pub io::Error);

impl fmt::Display for RtnetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtnetlink: {}", self.0)
    }
}

impl Error for RtnetlinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
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
        legacy_nat: legacy_nat().into_iter().filter(|family| !is_empty(*family)).collect(),
        ..HostView::of(rtnetlink::network().ok().map(Arc::new))
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

pub(super) fn flag(path: &str) -> Option<bool> {
    fs::read_to_string(path).ok().map(|text| text.trim() != "0")
}

/// True of a bridge with a port that never gets back a frame that came from it.
pub fn is_one_way_bridge(interface: &str) -> bool {
    let Ok(ports) = fs::read_dir(Path::new("/sys/class/net").join(interface).join("brif")) else { return false };
    ports.flatten().any(|port| flag(&port.path().join("hairpin_mode").display().to_string()) == Some(false))
}

/// The bridge that an interface is a port of.
pub fn bridge_of(interface: &str) -> Option<String> {
    let bridge = fs::read_link(Path::new("/sys/class/net").join(interface).join("brport/bridge")).ok()?;
    Some(bridge.file_name()?.to_string_lossy().into_owned())
}

/// The index of an interface.
pub fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// The name of an interface that rules and routes have by its index.
pub fn interface_name(index: u32) -> Option<String> {
    sys::interface_name(index).ok()
}
