//! All of the host's interfaces, addresses and routes.

use super::super::nfnetlink::socket::Socket;
use super::super::nfnetlink::{Answer, Consistency};
use super::read::{ADDRESS_HEADER, LINK_HEADER};
use super::{ROUTE_HEADER, Read, read_any, request};
use crate::network::Network;
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
        for read in dump(&socket, kind, header)? {
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

fn dump(socket: &Socket, kind: u16, header: usize) -> io::Result<Vec<Read>> {
    let mut buffer = vec![0; BUFFER];
    let mut sequence = u32::from(kind) << 8;
    loop {
        sequence += 1;
        let mut found = Vec::new();
        // Zeros: of every family, all there is.
        socket.send(&request(kind, libc::NLM_F_DUMP, sequence, &vec![0; header], &[]))?;
        let consistency = Answer::to_dump(sequence).receive(socket, &mut buffer, &mut |message| {
            match read_any(message)? {
                Read::Nothing => {}
                read => found.push(read),
            }
            Ok(())
        })?;
        if consistency == Consistency::Whole || sequence & 0xff >= TRIES {
            return Ok(found);
        }
    }
}
