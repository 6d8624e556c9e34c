//! Routes of the main table.

use crate::policy::Prefix;
use std::net::IpAddr;

/// What becomes of packets that a route matches, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    Unicast,
    /// Unreachable, blackhole or prohibit.
    Refusing,
    /// The look-up goes on in another table.
    Throw,
}

impl RouteKind {
    pub fn refuses(self) -> bool {
        self == RouteKind::Refusing
    }
}

/// One of the next hops that a route has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The index of the outgoing interface.
    pub interface: u32,
    /// The next hop; `None` when destinations are on the link. Of an IPv4 route it may be an IPv6 address.
    pub gateway: Option<IpAddr>,
}

/// A route. The order is that in which the kernel prefers those of one destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: Prefix,
    pub metric: u32,
    pub kind: RouteKind,
    /// Those that work.
    pub hops: Vec<Hop>,
    /// The source address that the route prefers.
    pub source: Option<IpAddr>,
}
