//! What the kernel says of the way of one packet: the route with its next hop, or why there is none.

use super::super::nfnetlink::message::{Attributes, Malformed, Message, Messages};
use super::super::nfnetlink::{lost, read_error};
use super::ROUTE_HEADER;
use super::read::address_of;
use super::router::{Question, RTM_F_FIB_MATCH, Router};
use crate::policy::Prefix;
use std::io;
use std::net::IpAddr;

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// To this host.
    Local,
    Through(Path),
    Refused(Refusal),
}

/// The way through an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The index of the interface.
    pub interface: u32,
    /// The next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The destination of the route, where the kernel says it.
    pub route: Option<Prefix>,
    /// The source that a packet of this host gets.
    pub source: Option<IpAddr>,
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
            Refusal::Invalid => {
                "the kernel takes no such packet: a route of type blackhole, or a source that can't come from there"
            }
        }
    }
}

impl Router {
    /// The way of a packet; `out` is the interface through which it is to leave.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn look_up(&mut self, question: &Question, out: Option<u32>) -> io::Result<Routed> {
        let mut routed = self.question(question, out, 0)?;
        if let Routed::Through(path) = &mut routed
            && let Ok(Routed::Through(found)) = self.question(question, out, RTM_F_FIB_MATCH)
        {
            path.route = found.route;
        }
        Ok(routed)
    }

    fn question(&mut self, question: &Question, out: Option<u32>, flags: u32) -> io::Result<Routed> {
        let datagram = self.send(question, out, flags)?;
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
    let (header, attributes) =
        message.payload.split_at_checked(ROUTE_HEADER).ok_or(Malformed("a route without its header"))?;
    match header[7] {
        libc::RTN_LOCAL => return Ok(Routed::Local),
        libc::RTN_UNREACHABLE => return Ok(Routed::Refused(Refusal::Unreachable)),
        libc::RTN_PROHIBIT => return Ok(Routed::Refused(Refusal::Prohibited)),
        libc::RTN_BLACKHOLE => return Ok(Routed::Refused(Refusal::Blackhole)),
        _ => {}
    }
    let attribute = |kind| Attributes(attributes).find(kind);
    let address = |kind| -> Result<Option<IpAddr>, Malformed> {
        attribute(kind)?.map(|found| address_of(found.value)).transpose()
    };
    let index = attribute(libc::RTA_OIF)?.and_then(|index| index.value.try_into().ok()).map(u32::from_ne_bytes);
    // `struct rtvia` is the family, then the address.
    let via = attribute(RTA_VIA)?.map(|found| address_of(found.value.get(2..).unwrap_or_default())).transpose()?;
    let whole = match i32::from(header[0]) {
        libc::AF_INET6 => crate::policy::Family::V6.whole(),
        _ => crate::policy::Family::V4.whole(),
    };
    let destination = address(libc::RTA_DST)?;
    Ok(Routed::Through(Path {
        // A route with several hops names none when its entry is asked for.
        interface: index.unwrap_or_default(),
        gateway: address(libc::RTA_GATEWAY)?.or(via),
        route: destination.map_or(Some(whole), |address| Prefix::containing(address, header[1])),
        source: address(libc::RTA_PREFSRC)?,
    }))
}

const RTA_VIA: u16 = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loopback_is_this_host() {
        let routed =
            Router::open().unwrap().look_up(&Question::from_this_host("127.0.0.1".parse().unwrap()), None).unwrap();
        // A namespace whose loopback is down has no routes at all.
        assert!(matches!(routed, Routed::Local | Routed::Refused(_)), "{routed:?}");
    }

    proptest! {
        #[test]
        fn random_routes_end_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read(&Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
