//! What the kernel would do with a packet: its rules of policy routing and all of its tables asked.

use super::super::nfnetlink::message::{Attributes, Malformed, Message, Messages};
use super::super::nfnetlink::socket::Socket;
use super::super::nfnetlink::{lost, read_error};
use super::read::gateway;
use super::{ROUTE_HEADER, octets, request};
use crate::network::Hop;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// The answer is the entry of the table that was found, not the route that was made of it (Linux 4.13).
pub(super) const RTM_F_FIB_MATCH: u32 = 0x2000;
/// RTA_MARK of linux/rtnetlink.h.
const RTA_MARK: u16 = 16;

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
}

impl Question {
    /// A packet of this host.
    pub fn from_this_host(destination: IpAddr) -> Self {
        Question { destination, source: None, from: None, mark: 0 }
    }

    fn request(&self, out: Option<u32>, flags: u32) -> Vec<u8> {
        let (family, destination) = octets(self.destination);
        let source = self.source.map(|source| octets(source).1).unwrap_or_default();
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
        request(libc::RTM_GETROUTE, 0, 0, &header, &attributes)
    }
}

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To this host.
    Local,
    /// Out through the interface of this index.
    Through(u32),
    /// Nowhere: there is no route, or one that refuses.
    Nowhere,
}

/// What the kernel answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub is_local: bool,
    pub interface: Option<u32>,
    pub gateway: Option<IpAddr>,
}

/// A socket that asks, and what it was told: many connections go the same way.
#[derive(Debug)]
pub struct Router {
    socket: Socket,
    buffer: Vec<u8>,
    told: BTreeMap<Question, Way>,
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

    /// The way of a packet. Of a route with several hops it is one of them.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn way(&mut self, question: &Question) -> io::Result<Way> {
        if let Some(way) = self.told.get(question) {
            return Ok(*way);
        }
        let way = match self.resolve(question, 0)? {
            Some(Found { is_local: true, .. }) => Way::Local,
            Some(Found { interface: Some(interface), .. }) => Way::Through(interface),
            Some(Found { interface: None, .. }) | None => Way::Nowhere,
        };
        self.told.insert(question.clone(), way);
        Ok(way)
    }

    /// The next hop of a packet; `None` of one that is for this host, or goes nowhere.
    ///
    /// # Errors
    /// When the kernel can't be asked, or its answer makes no sense.
    pub fn hop(&mut self, question: &Question) -> io::Result<Option<Hop>> {
        let found = self.resolve(question, 0)?.filter(|found| !found.is_local);
        Ok(found.and_then(|found| Some(Hop { interface: found.interface?, gateway: found.gateway })))
    }

    pub(super) fn ask(&mut self, question: &Question) -> io::Result<Option<Found>> {
        self.resolve(question, RTM_F_FIB_MATCH)
    }

    /// Sends a question, and returns the answer as it came.
    pub(super) fn send(&mut self, question: &Question, out: Option<u32>, flags: u32) -> io::Result<&[u8]> {
        self.socket.send(&question.request(out, flags))?;
        self.socket.receive(&mut self.buffer)?.ok_or_else(|| lost("to a question for a route"))
    }

    fn resolve(&mut self, question: &Question, flags: u32) -> io::Result<Option<Found>> {
        let message =
            Messages(self.send(question, None, flags)?).next().ok_or_else(|| lost("to a question for a route"))??;
        if i32::from(message.kind) != libc::NLMSG_ERROR {
            return Ok(Some(read(&message)?));
        }
        match read_error(&message)? {
            // What the routes of the types unreachable, prohibit and blackhole are answered with, too.
            Some(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                Ok(None)
            }
            error => Err(error.unwrap_or_else(|| lost("to a question for a route"))),
        }
    }
}

fn read(message: &Message<'_>) -> Result<Found, Malformed> {
    let (header, attributes) =
        message.payload.split_at_checked(ROUTE_HEADER).ok_or(Malformed("a route without its header"))?;
    let interface = Attributes(attributes).find(libc::RTA_OIF)?.and_then(|index| index.value.try_into().ok());
    let mut next = None;
    for attribute in Attributes(attributes) {
        next = next.or(gateway(&attribute?)?);
    }
    let is_local = header[7] == libc::RTN_LOCAL;
    Ok(Found { is_local, interface: interface.map(u32::from_ne_bytes), gateway: next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_route_cut_short_is_malformed() {
        let message = Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, payload: &[0; 11] };
        assert!(read(&message).is_err());
    }

    proptest! {
        #[test]
        fn random_routes_end_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
