//! What of the host shapes the rules.

use crate::network::{Network, Reached};
use crate::policy::{Family, Policy, RouteSources};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the host says that changes which rules are safe to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// `net.bridge.bridge-nf-call-iptables` is 1: bridged IPv4 frames reach our rules.
    pub bridged_ipv4: bool,
    /// `net.bridge.bridge-nf-call-ip6tables` is 1: bridged IPv6 frames reach our rules.
    pub bridged_ipv6: bool,
    /// What its interfaces and routes say.
    pub network: Arc<NetworkFacts>,
}

/// What of the host's network shapes the rules of a policy: everything, and nothing that does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkFacts {
    /// How the targets of `portForwards` are reached that have a route, where that matters.
    pub targets: BTreeMap<IpAddr, Reached>,
    /// The sources that routes prefer, where sources become those.
    pub sources: RouteSources,
    /// The interfaces of `fastPath` that exist, with their indexes: one that goes and comes is another one.
    pub interfaces: BTreeMap<String, u32>,
}

impl NetworkFacts {
    /// True when the network shapes the rules of a policy at all.
    pub fn matter_to(policy: &Policy) -> bool {
        !policy.fast_path.is_empty() || policy.follows_routes() || policy.targets_in_question().next().is_some()
    }

    /// What a network means for a policy.
    pub fn of(policy: &Policy, network: &Network) -> Self {
        let targets: BTreeSet<IpAddr> = policy.targets_in_question().collect();
        let reached = targets.into_iter().filter_map(|target| Some((target, network.reached(target)?)));
        let sources = if policy.follows_routes() { network.route_sources() } else { RouteSources::default() };
        let is_named = |name: &str| policy.fast_path.iter().any(|entry| entry.value.name == name);
        let interfaces = network.interfaces().filter(|interface| is_named(&interface.name));
        let interfaces = interfaces.map(|interface| (interface.name.clone(), interface.index)).collect();
        NetworkFacts { targets: reached.collect(), sources, interfaces }
    }
}

impl HostFacts {
    /// The sysctl that decides it.
    pub fn sysctl(family: Family) -> &'static str {
        match family {
            Family::V4 => "net.bridge.bridge-nf-call-iptables",
            Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
        }
    }

    /// Whether bridged frames of the family reach our rules.
    pub fn bridged(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.bridged_ipv4,
            Family::V6 => self.bridged_ipv6,
        }
    }
}
