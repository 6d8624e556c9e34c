//! All of the host's interfaces, addresses and routes.

use super::super::nfnetlink::message::{Malformed, Message};
use super::super::nfnetlink::socket::Socket;
use super::super::nfnetlink::{Answer, Consistency};
use super::read::{self, ADDRESS_HEADER, LINK_HEADER};
use super::{ROUTE_HEADER, Read, read_any, request};
use crate::network::Network;
use std::collections::BTreeSet;
use std::io;

/// How often a dump is repeated that something changed under. What changed is also told by an event.
const TRIES: u32 = 4;
/// A dump comes in datagrams of at most 32 KiB.
const BUFFER: usize = 1 << 16;

/// Reads the network of this namespace.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn network() -> io::Result<Network> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let (mut interfaces, mut addresses, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    let kinds =
        [(libc::RTM_GETLINK, LINK_HEADER), (libc::RTM_GETADDR, ADDRESS_HEADER), (libc::RTM_GETROUTE, ROUTE_HEADER)];
    for (kind, header) in kinds {
        for read in dump(&socket, kind, header, |message| Ok(vec![read_any(message)?]))? {
            match read {
                Read::Interface(interface) => interfaces.push(interface),
                Read::Address(address) => addresses.push(address),
                Read::Route(route) => routes.push(route),
                Read::Nothing => {}
            }
        }
    }
    Ok(Network::new(interfaces, addresses, routes))
}

/// The interfaces at which routes have gateways, in the main table and in others.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn gateways() -> io::Result<Gateways> {
    let mut found = Gateways::default();
    for (interface, table) in
        dump(&Socket::open(libc::NETLINK_ROUTE)?, libc::RTM_GETROUTE, ROUTE_HEADER, read::gateways)?
    {
        let is_main = table == u32::from(libc::RT_TABLE_MAIN);
        if is_main { &mut found.main } else { &mut found.others }.insert(interface);
    }
    Ok(found)
}

/// Indexes of interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    pub main: BTreeSet<u32>,
    pub others: BTreeSet<u32>,
}

pub(super) fn dump<T>(
    socket: &Socket,
    kind: u16,
    header: usize,
    read: impl Fn(&Message<'_>) -> Result<Vec<T>, Malformed>,
) -> io::Result<Vec<T>> {
    let mut buffer = vec![0; BUFFER];
    let mut sequence = u32::from(kind) << 8;
    loop {
        sequence += 1;
        let mut found = Vec::new();
        // Zeros: of every family, all there is.
        socket.send(&request(kind, libc::NLM_F_DUMP, sequence, &vec![0; header], &[]))?;
        let consistency = Answer::to_dump(sequence).receive(socket, &mut buffer, &mut |message| {
            found.extend(read(message)?);
            Ok(())
        })?;
        if consistency == Consistency::Whole || sequence & 0xff >= TRIES {
            return Ok(found);
        }
    }
}
