//! What the kernel would do with a packet, its rules of policy routing and all of its tables asked: the route with its next
//! hop, or why there is none.

use super::super::nfnetlink::message::{Malformed, Message, Messages};
use super::super::nfnetlink::socket::Socket;
use super::super::nfnetlink::{lost, read_error};
use super::read::{attributed, family, split};
use super::{ROUTE_HEADER, request};
use crate::network::Hop;
use crate::policy::address::octets;
use crate::policy::{Family, Prefix, Protocol};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// The answer is the entry of the table that was found, not the route that was made of it (Linux 4.13).
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// RTA_MARK of linux/rtnetlink.h.
const RTA_MARK: u16 = 16;
/// RTA_IP_PROTO and RTA_DPORT of linux/rtnetlink.h (Linux 4.19; those before leave them out).
const RTA_IP_PROTO: u16 = 27;
const RTA_DPORT: u16 = 29;
/// The index of `lo` (LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;

/// What is asked of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub destination: IpAddr,
    /// Where it comes from; without it the kernel chooses.
    pub source: Option<IpAddr>,
    /// The index of the interface through which it came; `None` for a packet of this host.
    pub from: Option<u32>,
    /// The packet mark.
    pub mark: u32,
    /// Rules may ask for it.
    pub protocol: Option<Protocol>,
    /// The destination port.
    pub port: Option<u16>,
}

impl Question {
    /// A packet of this host.
    pub fn from_this_host(destination: IpAddr) -> Self {
        Question { destination, source: None, from: None, mark: 0, protocol: None, port: None }
    }

    /// Of those that the kernel takes in a question (`rtm_getroute_parse_ip_proto`); without one it asks as for UDP.
    fn protocol_number(&self) -> Option<u8> {
        let number = match (self.protocol?, Family::of(self.destination)) {
            (Protocol::Tcp, _) => libc::IPPROTO_TCP,
            (Protocol::Udp, _) => libc::IPPROTO_UDP,
            (Protocol::Icmp, Family::V4) => libc::IPPROTO_ICMP,
            (Protocol::Icmp, Family::V6) => libc::IPPROTO_ICMPV6,
            (Protocol::Sctp | Protocol::Other(_), _) => return None,
        };
        u8::try_from(number).ok()
    }

    fn request(&self, out: Option<u32>, flags: u32) -> Vec<u8> {
        let family = if self.destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let destination = octets(self.destination);
        let source = self.source.map(octets).unwrap_or_default();
        let bits = |octets: &[u8]| 8 * octets.len() as u8;
        let mut header = vec![family, bits(&destination), bits(&source), 0, 0, 0, 0, 0];
        header.extend(flags.to_ne_bytes());
        let (from, mark) = (self.from.unwrap_or(0).to_ne_bytes(), self.mark.to_ne_bytes());
        let mut attributes: Vec<(u16, &[u8])> = vec![(libc::RTA_DST, &destination)];
        attributes.extend(self.source.is_some().then_some((libc::RTA_SRC, source.as_slice())));
        attributes.extend(self.from.is_some().then_some((libc::RTA_IIF, from.as_slice())));
        let out_bytes = out.unwrap_or(0).to_ne_bytes();
        attributes.extend(out.is_some().then_some((libc::RTA_OIF, out_bytes.as_slice())));
        attributes.extend((self.mark != 0).then_some((RTA_MARK, mark.as_slice())));
        let protocol = self.protocol_number().map(|number| [number]);
        attributes.extend(protocol.iter().map(|number| (RTA_IP_PROTO, number.as_slice())));
        let port = self.port.filter(|_| protocol.is_some()).map(u16::to_be_bytes);
        attributes.extend(port.iter().map(|port| (RTA_DPORT, port.as_slice())));
        request(libc::RTM_GETROUTE, 0, 0, &header, &attributes)
    }
}

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// To this host. The interface is the loopback, or of an entry of the table the one that has the address.
    Local(Option<u32>),
    Through(Path),
    Refused(Refusal),
}

/// The way through an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The index of the interface. A route with several hops names none when its entry is asked for.
    pub interface: Option<u32>,
    /// The next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The destination of the route, where the kernel says it.
    pub route: Option<Prefix>,
    /// The source that a packet of this host gets.
    pub source: Option<IpAddr>,
    /// The source that the route names, where the kernel says it.
    pub preferred: Option<IpAddr>,
}

impl Routed {
    /// The next hop; `None` of what is for this host, or goes nowhere.
    pub fn hop(&self) -> Option<Hop> {
        match self {
            Routed::Through(path) => Some(Hop { interface: path.interface?, gateway: path.gateway }),
            Routed::Local(_) | Routed::Refused(_) => None,
        }
    }
}

/// Why a packet goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoRoute,
    Unreachable,
    Prohibited,
    Blackhole,
    /// The way back leads through another interface (rp_filter).
    ReversePath,
    /// A broadcast that came in, which the host takes and does not forward.
    Broadcast,
    /// A multicast that came in, and no daemon that would forward it.
    Multicast,
    /// The kernel takes no such packet: a source that can't be, or a blackhole.
    Invalid,
}

impl Refusal {
    /// In words of ip-route(8).
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::NoRoute => "no route leads there",
            Refusal::Unreachable => "the route is unreachable, or the interface does not forward",
            Refusal::Prohibited => "the route is prohibit",
            Refusal::Blackhole => "the route is blackhole",
            Refusal::ReversePath => "answers would leave through another interface than it came in (rp_filter)",
            Refusal::Broadcast => "a broadcast is not forwarded",
            Refusal::Multicast => "a multicast is forwarded by a multicast routing daemon alone",
            Refusal::Invalid => {
                "the kernel takes no such packet: a route of type blackhole, or a source that can't come from there"
            }
        }
    }
}

/// A socket that asks, and what it was told: many connections go the same way.
#[derive(Debug)]
pub struct Router {
    socket: Socket,
    buffer: Vec<u8>,
    told: BTreeMap<Question, Routed>,
}

impl Router {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        // One message, with the attributes of one route.
        Ok(Router { socket: Socket::open(libc::NETLINK_ROUTE)?, buffer: vec![0; 1 << 15], told: BTreeMap::new() })
    }

    /// Where a packet goes. Of a route with several hops it is one of them.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn ask(&mut self, question: &Question) -> io::Result<Routed> {
        if let Some(routed) = self.told.get(question) {
            return Ok(routed.clone());
        }
        let routed = self.send(question, None, 0)?;
        self.told.insert(question.clone(), routed.clone());
        Ok(routed)
    }

    /// Where a packet goes, and by which route; `out` is the interface through which it is to leave.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn look_up(&mut self, question: &Question, out: Option<u32>) -> io::Result<Routed> {
        let mut routed = self.send(question, out, 0)?;
        if let Routed::Through(path) = &mut routed
            && let Ok(Routed::Through(found)) = self.send(question, out, RTM_F_FIB_MATCH)
        {
            (path.route, path.preferred) = (found.route, found.source);
        }
        Ok(routed)
    }

    /// The entry of the table that a packet takes.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn entry(&mut self, question: &Question) -> io::Result<Routed> {
        self.send(question, None, RTM_F_FIB_MATCH)
    }

    fn send(&mut self, question: &Question, out: Option<u32>, flags: u32) -> io::Result<Routed> {
        self.socket.send(&question.request(out, flags))?;
        let datagram = self.socket.receive(&mut self.buffer)?.ok_or_else(|| lost("to a question for a route"))?;
        let message = Messages(datagram).next().ok_or_else(|| lost("to a question for a route"))??;
        if i32::from(message.kind) != libc::NLMSG_ERROR {
            return Ok(read(&message)?);
        }
        let error = read_error(&message)?.unwrap_or_else(|| lost("to a question for a route"));
        let refusal = match error.raw_os_error() {
            Some(libc::ENETUNREACH) => Refusal::NoRoute,
            Some(libc::EHOSTUNREACH) => Refusal::Unreachable,
            Some(libc::EACCES) => Refusal::Prohibited,
            Some(libc::EXDEV) => Refusal::ReversePath,
            Some(libc::EINVAL) => Refusal::Invalid,
            _ => return Err(error),
        };
        Ok(Routed::Refused(refusal))
    }
}

fn read(message: &Message<'_>) -> Result<Routed, Malformed> {
    let (header, attributes) = split(message, ROUTE_HEADER)?;
    let found = attributed(attributes)?;
    Ok(match header[7] {
        libc::RTN_LOCAL => Routed::Local(found.interface),
        libc::RTN_UNREACHABLE => Routed::Refused(Refusal::Unreachable),
        libc::RTN_PROHIBIT => Routed::Refused(Refusal::Prohibited),
        libc::RTN_BLACKHOLE => Routed::Refused(Refusal::Blackhole),
        // What is forwarded all the same (bc_forwarding) leaves by another interface.
        libc::RTN_BROADCAST if found.interface == Some(LOOPBACK) => Routed::Refused(Refusal::Broadcast),
        _ => Routed::Through(Path {
            interface: found.interface,
            gateway: found.gateway,
            route: match found.destination {
                Some(address) => Prefix::containing(address, header[1]),
                None => family(header[0]).map(Family::whole),
            },
            source: found.source,
            preferred: None,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loopback_is_this_host() {
        let routed = Router::open().unwrap().entry(&Question::from_this_host("127.0.0.1".parse().unwrap())).unwrap();
        // A namespace whose loopback is down has no routes at all.
        assert!(matches!(routed, Routed::Local(Some(_)) | Routed::Refused(_)), "{routed:?}");
    }

    #[test]
    fn a_route_cut_short_is_malformed() {
        let message = Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, payload: &[0; 11] };
        assert!(read(&message).is_err());
    }

    proptest! {
        #[test]
        fn random_routes_end_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read(&Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
