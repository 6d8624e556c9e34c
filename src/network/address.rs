//! Interfaces and what they are called on the network.

use crate::policy::Prefix;
use std::net::IpAddr;

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// IFF_UP: the administrator wants it to work.
    pub is_up: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The index of the interface.
    pub interface: u32,
    pub address: IpAddr,
    /// The network that it is in; of a point-to-point link, the other end.
    pub network: Prefix,
    /// Of IPv4: there is an earlier one of the interface in the same network, and masquerading never gives this one.
    pub is_secondary: bool,
}
