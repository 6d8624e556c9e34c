//! What of the host shapes the rules.

use crate::policy::{Family, Prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What the host says that changes which rules are safe to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// `net.bridge.bridge-nf-call-iptables` is 1: bridged IPv4 frames reach our rules.
    pub bridged_ipv4: bool,
    /// `net.bridge.bridge-nf-call-ip6tables` is 1: bridged IPv6 frames reach our rules.
    pub bridged_ipv6: bool,
    /// How the targets of `portForwards` are reached that have a route.
    pub targets: Arc<BTreeMap<IpAddr, Reached>>,
}

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The interface.
    pub interface: String,
    /// The connected networks there through which it is reached: whoever is in one of them is answered without us.
    pub networks: Vec<Prefix>,
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
