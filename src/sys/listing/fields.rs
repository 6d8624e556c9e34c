//! Which field of a packet, or of what the kernel knows of it, an expression loads.

use super::field::{Field, Kind, Names, Order};
use super::{Malformed, number};
use crate::sys::nfnetlink::message::Attributes;

const PROTOCOLS: Names = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (112, "vrrp"),
    (132, "sctp"),
    (136, "udplite"),
];
const FAMILIES: Names = &[(2, "ipv4"), (10, "ipv6")];
const ETHER_TYPES: Names = &[(0x0800, "ip"), (0x0806, "arp"), (0x8100, "8021q"), (0x86dd, "ip6")];
const LINK_TYPES: Names = &[(1, "ether")];
const PACKET_TYPES: Names = &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];
/// RTN_* of linux/rtnetlink.h.
const ADDRESS_TYPES: Names = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const PRESENCE: Names = &[(0, "missing"), (1, "exists")];
const DIRECTIONS: Names = &[(0, "original"), (1, "reply")];
/// NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h.
const CT_STATES: Names = &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
/// IPS_* of the same.
const CT_STATUS: Names =
    &[(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat"), (512, "dying")];
const TCP_FLAGS: Names =
    &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];
const ICMP_TYPES: Names =
    &[(0, "echo-reply"), (3, "destination-unreachable"), (5, "redirect"), (8, "echo-request"), (11, "time-exceeded")];
const ICMPV6_TYPES: Names = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (128, "echo-request"),
    (129, "echo-reply"),
];

const IFNAMSIZ: usize = 16;

/// A protocol's name, where it has one here.
pub fn protocol(number: u64) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(value, _)| *value == number).map(|(_, name)| *name)
}

/// `enum nft_meta_keys`. `meta` is written before those that mean nothing by themselves.
pub fn meta(key: Option<u32>) -> Field {
    let host = |name: &str, length, kind| Field::new(name, length, kind, Order::Host);
    let network = |name: &str, length, kind| Field::new(name, length, kind, Order::Network);
    match key {
        Some(0) => host("meta length", 4, Kind::Number),
        Some(1) => network("meta protocol", 2, Kind::One(ETHER_TYPES)),
        Some(2) => host("meta priority", 4, Kind::Handle),
        Some(3) => host("meta mark", 4, Kind::Hexadecimal),
        Some(4) => host("iif", 4, Kind::Interface),
        Some(5) => host("oif", 4, Kind::Interface),
        Some(6) => host("iifname", IFNAMSIZ, Kind::InterfaceName),
        Some(7) => host("oifname", IFNAMSIZ, Kind::InterfaceName),
        Some(8) => host("meta iiftype", 2, Kind::One(LINK_TYPES)),
        Some(9) => host("meta oiftype", 2, Kind::One(LINK_TYPES)),
        Some(10) => host("meta skuid", 4, Kind::Number),
        Some(11) => host("meta skgid", 4, Kind::Number),
        Some(12) => host("meta nftrace", 1, Kind::Number),
        Some(13) => host("meta rtclassid", 4, Kind::Number),
        Some(15) => host("meta nfproto", 1, Kind::One(FAMILIES)),
        Some(16) => host("meta l4proto", 1, Kind::One(PROTOCOLS)),
        Some(19) => host("meta pkttype", 1, Kind::One(PACKET_TYPES)),
        Some(20) => host("meta cpu", 4, Kind::Number),
        Some(21) => host("iifgroup", 4, Kind::Number),
        Some(22) => host("oifgroup", 4, Kind::Number),
        Some(23) => host("meta cgroup", 4, Kind::Number),
        Some(26) => host("meta iifkind", IFNAMSIZ, Kind::Text),
        Some(27) => host("meta oifkind", IFNAMSIZ, Kind::Text),
        _ => Field::unknown("meta", 4),
    }
}

/// `enum nft_ct_keys`, with the direction where one is named.
pub fn ct(data: &Attributes<'_>) -> Result<Field, Malformed> {
    let direction = match data.clone().find(3)?.map(|direction| direction.value) {
        Some([0]) => "original ",
        Some([1]) => "reply ",
        _ => "",
    };
    let field = |name: &str, length, kind, order| Field::new(format!("ct {direction}{name}"), length, kind, order);
    Ok(match number(data, 2)? {
        Some(0) => field("state", 4, Kind::Bits(CT_STATES), Order::Host),
        Some(1) => field("direction", 1, Kind::One(DIRECTIONS), Order::Host),
        Some(2) => field("status", 4, Kind::Bits(CT_STATUS), Order::Host),
        Some(3) => field("mark", 4, Kind::Hexadecimal, Order::Host),
        Some(6) => field("helper", IFNAMSIZ, Kind::Text, Order::Host),
        Some(7) => field("l3proto", 1, Kind::One(FAMILIES), Order::Host),
        // As long as the family's addresses are, and never a part of one.
        Some(8) => field("saddr", 4, Kind::Address, Order::Network),
        Some(9) => field("daddr", 4, Kind::Address, Order::Network),
        Some(10) => field("protocol", 1, Kind::One(PROTOCOLS), Order::Host),
        Some(11) => field("proto-src", 2, Kind::Number, Order::Network),
        Some(12) => field("proto-dst", 2, Kind::Number, Order::Network),
        Some(14) => field("packets", 8, Kind::Number, Order::Host),
        Some(15) => field("bytes", 8, Kind::Number, Order::Host),
        Some(17) => field("zone", 2, Kind::Number, Order::Host),
        Some(19) => field("ip saddr", 4, Kind::Address, Order::Network),
        Some(20) => field("ip daddr", 4, Kind::Address, Order::Network),
        Some(21) => field("ip6 saddr", 16, Kind::Address, Order::Network),
        Some(22) => field("ip6 daddr", 16, Kind::Address, Order::Network),
        _ => Field::unknown("ct", 4),
    })
}

/// `enum nft_fib_result` of what the flags name.
pub fn fib(data: &Attributes<'_>) -> Result<Field, Malformed> {
    let flags = number(data, 3)?.unwrap_or_default();
    let asked = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif")];
    let asked: Vec<&str> = asked.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
    let asked = asked.join(" . ");
    let is_presence = flags & 32 != 0;
    Ok(match number(data, 2)? {
        Some(1) if is_presence => Field::new(format!("fib {asked} oif"), 1, Kind::One(PRESENCE), Order::Host),
        Some(1) => Field::new(format!("fib {asked} oif"), 4, Kind::Interface, Order::Host),
        Some(2) => Field::new(format!("fib {asked} oifname"), IFNAMSIZ, Kind::InterfaceName, Order::Host),
        Some(3) => Field::new(format!("fib {asked} type"), 4, Kind::One(ADDRESS_TYPES), Order::Host),
        _ => Field::unknown("fib", 4),
    })
}

/// `enum nft_rt_keys`.
pub fn rt(key: Option<u32>) -> Field {
    match key {
        Some(1) => Field::new("rt ip nexthop", 4, Kind::Address, Order::Network),
        Some(2) => Field::new("rt ip6 nexthop", 16, Kind::Address, Order::Network),
        Some(3) => Field::new("rt mtu", 2, Kind::Number, Order::Host),
        Some(4) => Field::new("rt ipsec", 1, Kind::One(PRESENCE), Order::Host),
        _ => Field::unknown("rt", 4),
    }
}

/// `enum nft_xfrm_keys`.
pub fn ipsec(data: &Attributes<'_>) -> Result<Field, Malformed> {
    let direction = match data.clone().find(3)?.map(|direction| direction.value) {
        Some([0]) => "in",
        Some([1]) => "out",
        _ => return Ok(Field::unknown("ipsec", 4)),
    };
    let nested = number(data, 4)?.filter(|nested| *nested > 0).map(|nested| format!("spnum {nested} "));
    let nested = nested.unwrap_or_default();
    let field =
        |name: &str, length, kind, order| Field::new(format!("ipsec {direction} {nested}{name}"), length, kind, order);
    Ok(match number(data, 2)? {
        Some(1) => field("ip daddr", 4, Kind::Address, Order::Network),
        Some(2) => field("ip6 daddr", 16, Kind::Address, Order::Network),
        Some(3) => field("ip saddr", 4, Kind::Address, Order::Network),
        Some(4) => field("ip6 saddr", 16, Kind::Address, Order::Network),
        Some(5) => field("reqid", 4, Kind::Number, Order::Host),
        Some(6) => field("spi", 4, Kind::Number, Order::Network),
        _ => Field::unknown("ipsec", 4),
    })
}

/// Where in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `enum nft_payload_bases`.
    pub base: u32,
    /// In bytes.
    pub offset: usize,
    /// In bytes.
    pub length: usize,
}

/// What a header has at a place, when the protocols are known. An address may be loaded in part, for a prefix.
pub fn payload(place: Place, network: Option<u64>, transport: Option<u64>) -> Field {
    let Place { base, offset, length } = place;
    let field = |name: &str, length, kind| Field::new(name, length, kind, Order::Network);
    match (base, network, offset, length) {
        (0, _, 0, 6) => field("ether daddr", 6, Kind::Ether),
        (0, _, 6, 6) => field("ether saddr", 6, Kind::Ether),
        (0, _, 12, 2) => field("ether type", 2, Kind::One(ETHER_TYPES)),
        (1, Some(2), 2, 2) => field("ip length", 2, Kind::Number),
        (1, Some(2), 4, 2) => field("ip id", 2, Kind::Number),
        (1, Some(2), 6, 2) => field("ip frag-off", 2, Kind::Hexadecimal),
        (1, Some(2), 8, 1) => field("ip ttl", 1, Kind::Number),
        (1, Some(2), 9, 1) => field("ip protocol", 1, Kind::One(PROTOCOLS)),
        (1, Some(2), 12, 1..=4) => field("ip saddr", 4, Kind::Address),
        (1, Some(2), 16, 1..=4) => field("ip daddr", 4, Kind::Address),
        (1, Some(10), 4, 2) => field("ip6 length", 2, Kind::Number),
        (1, Some(10), 6, 1) => field("ip6 nexthdr", 1, Kind::One(PROTOCOLS)),
        (1, Some(10), 7, 1) => field("ip6 hoplimit", 1, Kind::Number),
        (1, Some(10), 8, 1..=16) => field("ip6 saddr", 16, Kind::Address),
        (1, Some(10), 24, 1..=16) => field("ip6 daddr", 16, Kind::Address),
        (2, ..) => transport_field(transport, offset, length),
        _ => bits(base, offset, length),
    }
}

fn transport_field(transport: Option<u64>, offset: usize, length: usize) -> Field {
    let field = |name: String, kind| Field::new(name, length, kind, Order::Network);
    let with_ports = match transport {
        None => Some("th"),
        Some(6 | 17 | 33 | 132 | 136) => transport.and_then(protocol),
        Some(_) => None,
    };
    match (with_ports, transport, offset, length) {
        (Some(name), _, 0, 2) => field(format!("{name} sport"), Kind::Number),
        (Some(name), _, 2, 2) => field(format!("{name} dport"), Kind::Number),
        (_, Some(6), 13, 1) => field("tcp flags".to_owned(), Kind::Bits(TCP_FLAGS)),
        (_, Some(1), 0, 1) => field("icmp type".to_owned(), Kind::One(ICMP_TYPES)),
        (_, Some(1), 1, 1) => field("icmp code".to_owned(), Kind::Number),
        (_, Some(58), 0, 1) => field("icmpv6 type".to_owned(), Kind::One(ICMPV6_TYPES)),
        (_, Some(58), 1, 1) => field("icmpv6 code".to_owned(), Kind::Number),
        (_, Some(50), 0, 4) => field("esp spi".to_owned(), Kind::Number),
        (_, Some(51), 4, 4) => field("ah spi".to_owned(), Kind::Number),
        _ => bits(2, offset, length),
    }
}

/// A place by its number of bits, as nft writes what has no name.
fn bits(base: u32, offset: usize, length: usize) -> Field {
    let base = match base {
        0 => "ll",
        1 => "nh",
        2 => "th",
        _ => return Field::unknown("payload", length),
    };
    let in_bits = |bytes: usize| 8 * bytes as u64;
    Field::new(format!("@{base},{},{}", in_bits(offset), in_bits(length)), length, Kind::Hexadecimal, Order::Network)
}
