//! LAN, gateway and outside, wired together.

use super::{Namespace, Observer, possible};
use std::net::IpAddr;

/// The addresses of the lab. Everything outside is from the documentation ranges (RFC 5737, RFC 3849).
pub mod address {
    /// The LAN host.
    pub const LAN: [&str; 2] = ["192.168.77.2", "fd00:77::2"];
    /// A second LAN host's addresses, kept by the same namespace.
    pub const LAN_SECOND: [&str; 2] = ["192.168.78.2", "fd00:78::2"];
    /// The gateway on its LAN interface.
    pub const GATEWAY_LAN: [&str; 2] = ["192.168.77.1", "fd00:77::1"];
    /// The gateway on `wan0`: what masquerading makes of a source there.
    pub const WAN0: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];
    /// A second address of `wan0`, a VIP.
    pub const VIP: [&str; 2] = ["203.0.113.77", "2001:db8:113::77"];
    /// The gateway on `wan1`.
    pub const WAN1: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
    /// The outside's own address on `wan0`.
    pub const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8:113::9"];
    /// A public address that the outside answers for.
    pub const PUBLIC: [&str; 2] = ["203.0.113.200", "2001:db8:5::5"];
    /// A private address that the outside answers for.
    pub const PRIVATE: [&str; 2] = ["10.20.0.5", "fd20::5"];
    /// An address behind `wan1`.
    pub const BEHIND_WAN1: [&str; 2] = ["192.0.2.5", "2001:db8:2::5"];
}

/// An uplink of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// The default route.
    Wan0,
    /// The way to 192.0.2.0/24, 172.16.0.0/12 and 2001:db8:2::/48.
    Wan1,
}

impl Uplink {
    /// The interface's name in the gateway.
    pub fn name(self) -> &'static str {
        match self {
            Uplink::Wan0 => "wan0",
            Uplink::Wan1 => "wan1",
        }
    }

    /// The way the gateway sends a packet for this destination.
    pub fn towards(destination: IpAddr) -> Self {
        let behind_wan1 = match destination {
            IpAddr::V4(v4) => {
                v4.octets()[..3] == [192, 0, 2]
                    || v4.octets()[..3] == [198, 51, 100]
                    || matches!(v4.octets(), [172, 16..=31, ..])
            }
            IpAddr::V6(v6) => matches!(v6.segments(), [0x2001, 0xdb8, 2 | 0x100, ..]),
        };
        if behind_wan1 { Uplink::Wan1 } else { Uplink::Wan0 }
    }

    /// What masquerading makes of a source that leaves here for this destination.
    pub fn masquerade_address(self, destination: IpAddr) -> IpAddr {
        let [v4, v6] = match self {
            Uplink::Wan0 => address::WAN0,
            Uplink::Wan1 => address::WAN1,
        };
        parse(if destination.is_ipv4() { v4 } else { v6 })
    }
}

/// Reads an address of the lab.
pub fn parse(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no address"))
}

/// The three nodes.
pub struct Lab {
    /// A host behind the gateway.
    pub lan: Namespace,
    /// The gateway.
    pub gateway: Namespace,
    /// Everything beyond it.
    pub outside: Namespace,
    /// What arrives at the outside, as it arrives.
    pub observer: Observer,
}

impl Lab {
    /// Builds it, or says why it can't be built here.
    pub fn build() -> Option<Self> {
        if !possible() {
            return None;
        }
        let node = |name| Namespace::new(name).unwrap_or_else(|error| panic!("namespace for {name}: {error}"));
        let (lan, gateway, outside) = (node("lan"), node("gateway"), node("outside"));
        for link in ["lan0", "wan0", "wan1"] {
            let peer = if link == "lan0" { &lan } else { &outside };
            gateway.ip(&format!("link add {link} type veth peer name {link} netns {}\n", peer.path()));
        }
        lan.ip(LAN);
        outside.ip(OUTSIDE);
        gateway.ip(GATEWAY);
        gateway.sysctl("net/ipv4/ip_forward", "1");
        gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
        let observer = Observer::new(&outside);
        Some(Lab { lan, gateway, outside, observer })
    }

    /// Lets the outside answer unmasqueraded sources.
    pub fn add_route_back(&self) {
        self.outside.ip("route add 192.168.64.0/18 via 203.0.113.1\nroute add fd00:77::/32 via 2001:db8:113::1\n");
    }
}

// A deprecated address is used by those who bind to it, and never chosen by the kernel, neither for a socket nor for
// masquerading (RFC 6724 rule 3).
// 'nodad': without it an address is tentative until a kernel worker has had its turn, and can't be bound to.
const LAN: &str = "\
link set lan0 up
addr add 192.168.77.2/24 dev lan0
addr add 192.168.78.2/32 dev lan0
addr add fd00:77::2/64 dev lan0 nodad
addr add fd00:78::2/128 dev lan0 nodad preferred_lft 0
route add default via 192.168.77.1
route add default via fd00:77::1
";

const GATEWAY: &str = "\
link set lan0 up
link set wan0 up
link set wan1 up
addr add 192.168.77.1/24 dev lan0
addr add fd00:77::1/64 dev lan0 nodad
addr add 203.0.113.1/24 dev wan0
addr add 203.0.113.77/32 dev wan0
addr add 2001:db8:113::1/64 dev wan0 nodad
addr add 2001:db8:113::77/128 dev wan0 nodad preferred_lft 0
addr add 198.51.100.1/24 dev wan1
addr add 2001:db8:100::1/64 dev wan1 nodad
route add 192.168.78.0/24 via 192.168.77.2
route add fd00:78::/64 via fd00:77::2
route add default via 203.0.113.9
route add default via 2001:db8:113::9
route add 192.0.2.0/24 via 198.51.100.9
route add 172.16.0.0/12 via 198.51.100.9
route add 2001:db8:2::/48 via 2001:db8:100::9
";

const OUTSIDE: &str = "\
link set wan0 up
link set wan1 up
addr add 203.0.113.9/24 dev wan0
addr add 2001:db8:113::9/64 dev wan0 nodad
addr add 198.51.100.9/24 dev wan1
addr add 2001:db8:100::9/64 dev wan1 nodad
addr add 203.0.113.200/32 dev wan0
addr add 2001:db8:5::5/128 dev wan0 nodad
addr add 10.20.0.5/32 dev wan0
addr add fd20::5/128 dev wan0 nodad
addr add 192.0.2.5/32 dev wan1
addr add 2001:db8:2::5/128 dev wan1 nodad
";
