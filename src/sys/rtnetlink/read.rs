//! Links, addresses and routes, as the kernel's messages tell of them.

use super::super::nfnetlink::message::{Attribute, Attributes, Malformed, Message};
use super::ROUTE_HEADER;
use crate::network::{Address, Hop, Interface, Route, RouteKind};
use crate::policy::address::of_octets;
use crate::policy::{Family, Prefix};
use std::net::IpAddr;

/// Length of `struct ifinfomsg`.
pub(super) const LINK_HEADER: usize = 16;
/// Length of `struct ifaddrmsg`.
pub(super) const ADDRESS_HEADER: usize = 8;
/// Length of `struct rtnexthop`.
const HOP_HEADER: usize = 8;
/// `struct rtvia` is the family, then the address.
const RTA_VIA: u16 = 18;
/// Length of `struct fib_rule_hdr` of linux/fib_rules.h, and two numbers from there.
pub(super) const RULE_HEADER: usize = 12;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;
/// Length of `struct nhmsg`.
pub(super) const NEXT_HOP_HEADER: usize = 8;
/// Length of `struct nexthop_grp`.
const MEMBER: usize = 8;
/// RTM_NEWNEXTHOP and RTM_GETNEXTHOP of linux/rtnetlink.h, and NHA_* of linux/nexthop.h.
const NEW_NEXT_HOP: u16 = 104;
pub(super) const GET_NEXT_HOP: u16 = 106;
const RTA_NH_ID: u16 = 30;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// RTNH_F_DEAD and RTNH_F_UNRESOLVED: the kernel does not use these hops. RTNH_F_LINKDOWN depends on a sysctl.
const UNUSED_HOP: u8 = 1 | 32;

/// What a message tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Interface(Interface),
    Address(Address),
    /// Of the main table.
    Route(Route),
    /// Of the main table; its hops are those of the nexthop object of this number.
    RouteBy(u32, Route),
    /// Of another table, or for some packets only: the interfaces at which it has a gateway, or that it leads everything
    /// through.
    RouteOfPolicy(Vec<u32>),
    NextHop(NextHop),
    /// A rule of policy routing that leads elsewhere than to the tables that every host has.
    OtherTable,
    /// Of nothing that we keep: another family, an address that is still being tried.
    Nothing,
}

/// A nexthop object (ip-nexthop(8)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    pub id: u32,
    /// `None` of one that is not used, and of a group.
    pub hop: Option<Hop>,
    /// The numbers of those that a group is made of.
    pub group: Vec<u32>,
    /// It drops everything.
    pub refuses: bool,
}

/// Reads a message of RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE or RTM_GETNEXTHOP.
///
/// # Errors
/// When it makes no sense.
pub fn read_any(message: &Message<'_>) -> Result<Read, Malformed> {
    match message.kind {
        libc::RTM_NEWLINK => link(message),
        libc::RTM_NEWADDR => address(message),
        libc::RTM_NEWROUTE => route(message),
        NEW_NEXT_HOP => next_hop(message),
        libc::RTM_NEWRULE => rule(message),
        _ => Ok(Read::Nothing),
    }
}

pub(super) fn split<'a>(message: &Message<'a>, length: usize) -> Result<(&'a [u8], Attributes<'a>), Malformed> {
    let (header, rest) = message.payload.split_at_checked(length).ok_or(Malformed("a header cut short"))?;
    Ok((header, Attributes(rest)))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

fn number(attribute: &Attribute<'_>) -> Result<u32, Malformed> {
    let bytes = attribute.value.try_into().map_err(|_| Malformed("a 32-bit number of another size"))?;
    Ok(u32::from_ne_bytes(bytes))
}

pub(super) fn family(number: u8) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(octets: &[u8]) -> Result<IpAddr, Malformed> {
    of_octets(octets).ok_or(Malformed("an address of another size"))
}

fn prefix(address: IpAddr, length: u8) -> Result<Prefix, Malformed> {
    Prefix::containing(address, length).ok_or(Malformed("a prefix longer than its family"))
}

fn link(message: &Message<'_>) -> Result<Read, Malformed> {
    let (header, attributes) = split(message, LINK_HEADER)?;
    let Some(name) = attributes.find(libc::IFLA_IFNAME)? else { return Err(Malformed("an interface without a name")) };
    let is_up = word(header, 8) & libc::IFF_UP as u32 != 0;
    Ok(Read::Interface(Interface { index: word(header, 4), name: name.text(), is_up }))
}

fn address(message: &Message<'_>) -> Result<Read, Malformed> {
    let (header, attributes) = split(message, ADDRESS_HEADER)?;
    let mut flags = u32::from(header[2]);
    let (mut own, mut peer) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            libc::IFA_LOCAL => own = Some(ip(attribute.value)?),
            libc::IFA_ADDRESS => peer = Some(ip(attribute.value)?),
            libc::IFA_FLAGS => flags = number(&attribute)?,
            _ => {}
        }
    }
    // One that another host may turn out to have: nothing can come from it.
    let not_yet = flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0 && flags & libc::IFA_F_OPTIMISTIC == 0;
    let (Some(peer), Some(_), false) = (peer.or(own), family(header[0]), not_yet) else { return Ok(Read::Nothing) };
    // Of IPv6 there is IFA_LOCAL on point-to-point links only.
    let own = own.unwrap_or(peer);
    let is_secondary = own.is_ipv4() && flags & libc::IFA_F_SECONDARY != 0;
    Ok(Read::Address(Address {
        interface: word(header, 4),
        address: own,
        network: prefix(peer, header[1])?,
        is_secondary,
    }))
}

/// An IPv4 address that masquerading may give.
pub(super) struct Primary {
    pub interface: u32,
    pub address: IpAddr,
    pub network: Prefix,
}

/// Reads a message of RTM_GETADDR; `None` for addresses that masquerading never gives: those of IPv6, where the kernel
/// chooses in another way, those that are secondary in their network, and those of the link or the host alone.
///
/// # Errors
/// When the message makes no sense.
pub(super) fn primary(message: &Message<'_>) -> Result<Option<Primary>, Malformed> {
    if message.kind != libc::RTM_NEWADDR {
        return Ok(None);
    }
    let (header, _) = split(message, ADDRESS_HEADER)?;
    let is_for_others = header[3] == libc::RT_SCOPE_UNIVERSE;
    match address(message)? {
        Read::Address(own) if is_for_others && !own.is_secondary && own.address.is_ipv4() => {
            Ok(Some(Primary { interface: own.interface, address: own.address, network: own.network }))
        }
        _ => Ok(None),
    }
}

/// What the attributes of a route say.
#[derive(Default)]
pub(super) struct Attributed<'a> {
    pub destination: Option<IpAddr>,
    table: Option<u32>,
    metric: u32,
    pub source: Option<IpAddr>,
    pub interface: Option<u32>,
    pub gateway: Option<IpAddr>,
    several: Option<&'a [u8]>,
    next_hop: Option<u32>,
}

fn route(message: &Message<'_>) -> Result<Read, Malformed> {
    let (header, attributes) = split(message, ROUTE_HEADER)?;
    let Some(family) = family(header[0]) else { return Ok(Read::Nothing) };
    let found = attributed(attributes)?;
    let kind = match header[7] {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_UNREACHABLE | libc::RTN_BLACKHOLE | libc::RTN_PROHIBIT => RouteKind::Refusing,
        libc::RTN_THROW => RouteKind::Throw,
        _ => return Ok(Read::Nothing),
    };
    let table = found.table.unwrap_or(u32::from(header[4]));
    let word_of_flags = word(header, 8);
    // A copy of one that was used.
    if word_of_flags & libc::RTM_F_CLONED != 0 {
        return Ok(Read::Nothing);
    }
    let destination = match found.destination {
        Some(address) if Family::of(address) != family => return Err(Malformed("an address of another family")),
        Some(address) => prefix(address, header[1])?,
        None => family.whole(),
    };
    let mut hops = found.several.map_or(Ok(Vec::new()), hops)?;
    // RTNH_F_* of a route with one hop are in the lowest byte of the flags.
    let is_used = word_of_flags as u8 & UNUSED_HOP == 0;
    let single = found.interface.filter(|_| is_used && kind == RouteKind::Unicast);
    hops.extend(single.map(|interface| Hop { interface, gateway: found.gateway }));
    // Of a type of service, of a source (IPv6).
    let is_special = header[3] != 0 || header[2] != 0;
    if table != u32::from(libc::RT_TABLE_MAIN) || is_special {
        let leads_away = |hop: &&Hop| hop.gateway.is_some() || destination.length() == 0;
        return Ok(Read::RouteOfPolicy(hops.iter().filter(leads_away).map(|hop| hop.interface).collect()));
    }
    // Beside the number there are the hops themselves, unless net.ipv4.nexthop_compat_mode is 0.
    let object = found.next_hop.filter(|_| found.interface.is_none() && found.several.is_none());
    let route = Route { destination, metric: found.metric, kind, hops, source: found.source };
    Ok(if let Some(id) = object { Read::RouteBy(id, route) } else { Read::Route(route) })
}

fn rule(message: &Message<'_>) -> Result<Read, Malformed> {
    let (header, attributes) = split(message, RULE_HEADER)?;
    let table = match attributes.find(FRA_TABLE)? {
        Some(attribute) => number(&attribute)?,
        None => u32::from(header[4]),
    };
    let usual = [libc::RT_TABLE_LOCAL, libc::RT_TABLE_MAIN, libc::RT_TABLE_DEFAULT].map(u32::from);
    let is_usual = header[7] == FR_ACT_TO_TBL && usual.contains(&table);
    Ok(if family(header[0]).is_none() || is_usual { Read::Nothing } else { Read::OtherTable })
}

fn next_hop(message: &Message<'_>) -> Result<Read, Malformed> {
    let (header, attributes) = split(message, NEXT_HOP_HEADER)?;
    let (mut id, mut interface, mut gateway, mut group, mut refuses) = (None, None, None, Vec::new(), false);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            NHA_ID => id = Some(number(&attribute)?),
            NHA_OIF => interface = Some(number(&attribute)?),
            NHA_GATEWAY => gateway = Some(ip(attribute.value)?),
            NHA_GROUP => group = attribute.value.chunks_exact(MEMBER).map(|member| word(member, 0)).collect(),
            NHA_BLACKHOLE => refuses = true,
            _ => {}
        }
    }
    let is_used = header[4] & UNUSED_HOP == 0;
    let hop = interface.filter(|_| is_used).map(|interface| Hop { interface, gateway });
    let id = id.ok_or(Malformed("a nexthop object without its number"))?;
    Ok(Read::NextHop(NextHop { id, hop, group, refuses }))
}

pub(super) fn attributed(attributes: Attributes<'_>) -> Result<Attributed<'_>, Malformed> {
    let mut found = Attributed::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            libc::RTA_DST => found.destination = Some(ip(attribute.value)?),
            libc::RTA_TABLE => found.table = Some(number(&attribute)?),
            libc::RTA_PRIORITY => found.metric = number(&attribute)?,
            libc::RTA_PREFSRC => found.source = Some(ip(attribute.value)?),
            libc::RTA_OIF => found.interface = Some(number(&attribute)?),
            libc::RTA_MULTIPATH => found.several = Some(attribute.value),
            RTA_NH_ID => found.next_hop = Some(number(&attribute)?),
            _ => found.gateway = found.gateway.or(gateway(&attribute)?),
        }
    }
    Ok(found)
}

/// The next hop, where the attribute is one.
fn gateway(attribute: &Attribute<'_>) -> Result<Option<IpAddr>, Malformed> {
    match attribute.kind {
        libc::RTA_GATEWAY => ip(attribute.value).map(Some),
        RTA_VIA => ip(attribute.value.get(2..).unwrap_or_default()).map(Some),
        _ => Ok(None),
    }
}

/// The hops of RTA_MULTIPATH that the kernel uses: `struct rtnexthop`, each with attributes of its own.
fn hops(mut rest: &[u8]) -> Result<Vec<Hop>, Malformed> {
    let mut hops = Vec::new();
    while !rest.is_empty() {
        let header = rest.get(..HOP_HEADER).ok_or(Malformed("a next hop cut short"))?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let attributes = rest.get(HOP_HEADER..length).ok_or(Malformed("a next hop longer than its route"))?;
        let mut next = None;
        for attribute in Attributes(attributes) {
            next = next.or(gateway(&attribute?)?);
        }
        if header[2] & UNUSED_HOP == 0 {
            hops.push(Hop { interface: word(header, 4), gateway: next });
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use super::super::super::nfnetlink::message::Messages;
    use super::super::request;
    use super::*;
    use proptest::prelude::*;

    fn one(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Result<Read, Malformed> {
        let bytes = request(kind, 0, 0, header, attributes);
        read_any(&Messages(&bytes).next().unwrap().unwrap())
    }

    /// `10.0.0.0/8 via 192.0.2.1 dev 7 src 192.0.2.9 metric 50`, then the same with two hops, the first one dead.
    fn route_header(kind: u8, table: u8) -> [u8; 12] {
        [libc::AF_INET as u8, 8, 0, 0, table, 0, 0, kind, 0, 0, 0, 0]
    }

    /// Of an address on interface 3.
    fn address_header(family: libc::c_int, length: u8, flags: u8) -> [u8; 8] {
        let mut header = [family as u8, length, flags, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&3_u32.to_ne_bytes());
        header
    }

    const MAIN: u8 = libc::RT_TABLE_MAIN;

    fn sample() -> Vec<u8> {
        let short = |number: u16| number.to_ne_bytes().to_vec();
        let dead = [short(16), vec![1, 0], 7_u32.to_ne_bytes().into(), short(8), short(5), vec![192, 0, 2, 1]];
        let alive = [short(8), vec![0, 0], 9_u32.to_ne_bytes().into()];
        let several = [dead.concat(), alive.concat()].concat();
        let attributes: &[(u16, &[u8])] = &[
            (libc::RTA_DST, &[10, 0, 0, 0]),
            (libc::RTA_TABLE, &254_u32.to_ne_bytes()),
            (libc::RTA_PRIORITY, &50_u32.to_ne_bytes()),
            (libc::RTA_PREFSRC, &[192, 0, 2, 9]),
            (libc::RTA_MULTIPATH, &several),
        ];
        request(libc::RTM_NEWROUTE, 0, 0, &route_header(libc::RTN_UNICAST, MAIN), attributes)
    }

    #[test]
    fn a_route_is_read_with_its_hops_that_work() {
        let bytes = sample();
        let read = read_any(&Messages(&bytes).next().unwrap().unwrap()).unwrap();
        let expected = Route {
            destination: "10.0.0.0/8".parse().unwrap(),
            metric: 50,
            kind: RouteKind::Unicast,
            hops: vec![Hop { interface: 9, gateway: None }],
            source: Some("192.0.2.9".parse().unwrap()),
        };
        assert_eq!(read, Read::Route(expected));
    }

    #[test]
    fn routes_of_other_tables_and_of_the_host_itself_are_not_kept() {
        let destination: (u16, &[u8]) = (libc::RTA_DST, &[10, 0, 0, 0]);
        for kind in [libc::RTN_LOCAL, libc::RTN_BROADCAST] {
            assert_eq!(one(libc::RTM_NEWROUTE, &route_header(kind, MAIN), &[destination]), Ok(Read::Nothing));
        }
        let interface = 7_u32.to_ne_bytes();
        let hop: [(u16, &[u8]); 3] = [destination, (libc::RTA_OIF, &interface), (libc::RTA_GATEWAY, &[192, 0, 2, 1])];
        let of_policy = |attributes| one(libc::RTM_NEWROUTE, &route_header(libc::RTN_UNICAST, 100), attributes);
        assert_eq!(of_policy(&hop), Ok(Read::RouteOfPolicy(vec![7])));
        assert_eq!(of_policy(&hop[..2]), Ok(Read::RouteOfPolicy(vec![])), "on the link");
        let Ok(Read::Route(refusing)) =
            one(libc::RTM_NEWROUTE, &route_header(libc::RTN_BLACKHOLE, MAIN), &[destination])
        else {
            panic!("a route that refuses is one");
        };
        assert_eq!((refusing.kind, refusing.hops), (RouteKind::Refusing, vec![]));
        let wrong = [(libc::RTA_DST, [0_u8; 16].as_slice())];
        assert!(one(libc::RTM_NEWROUTE, &route_header(libc::RTN_UNICAST, MAIN), &wrong).is_err());
    }

    #[test]
    fn a_tentative_address_is_not_ours_yet() {
        let header = |flags| address_header(libc::AF_INET6, 64, flags);
        let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let read = |flags| one(libc::RTM_NEWADDR, &header(flags), &[(libc::IFA_ADDRESS, &address)]).unwrap();
        let network = "2001:db8::/64".parse().unwrap();
        let expected = Address { interface: 3, address: address.into(), network, is_secondary: false };
        assert_eq!(read(0), Read::Address(expected));
        assert_eq!(read(libc::IFA_F_TENTATIVE as u8), Read::Nothing);
    }

    #[test]
    fn of_a_point_to_point_address_the_network_is_the_other_end() {
        let header = address_header(libc::AF_INET, 32, 0);
        let attributes: &[(u16, &[u8])] = &[(libc::IFA_ADDRESS, &[10, 0, 0, 2]), (libc::IFA_LOCAL, &[10, 0, 0, 1])];
        let expected = Address {
            interface: 3,
            address: "10.0.0.1".parse().unwrap(),
            network: "10.0.0.2/32".parse().unwrap(),
            is_secondary: false,
        };
        assert_eq!(one(libc::RTM_NEWADDR, &header, attributes), Ok(Read::Address(expected)));
    }

    proptest! {
        #[test]
        fn a_message_cut_or_changed_ends_without_a_panic(cut in 0_usize..200, place in 0_usize..200, value: u8) {
            let mut bytes = sample();
            let length = bytes.len();
            bytes[place % length] = value;
            bytes.truncate(cut % (length + 1));
            for message in Messages(&bytes).flatten() {
                let _ = read_any(&message);
            }
        }

        #[test]
        fn random_messages_end_without_a_panic(
            kind in prop::sample::select(vec![libc::RTM_NEWLINK, libc::RTM_NEWADDR, libc::RTM_NEWROUTE, libc::RTM_NEWRULE, NEW_NEXT_HOP]),
            payload in proptest::collection::vec(any::<u8>(), 0..96),
        ) {
            let _ = read_any(&Message { kind, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
