//! rtnetlink as far as we need it: what the kernel's forwarding table says of an address.
//!
//! Layouts: `linux/rtnetlink.h`.

use super::nfnetlink::message::{Attributes, HEADER, Malformed, Message, Messages};
use super::nfnetlink::{lost, read_error, socket::Socket};
use std::io;
use std::net::IpAddr;

/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// The answer is the entry of the table that was found, not the route that was made of it (Linux 4.13).
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// An entry of the forwarding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// True when packets to the address are for this host.
    pub is_local: bool,
    /// The interface, by its index, where it has one.
    pub interface: Option<u32>,
}

/// Asks for the entry that packets of this host to an address take; `None` when there is none.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn entry(address: IpAddr) -> io::Result<Option<Entry>> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    socket.send(&request(address))?;
    // One message, with the attributes of one route.
    let mut buffer = vec![0; 1 << 15];
    let datagram = socket.receive(&mut buffer)?.ok_or_else(|| lost("to a question for a route"))?;
    let message = Messages(datagram).next().ok_or_else(|| lost("to a question for a route"))??;
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

fn request(address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    };
    let attribute = 4 + octets.len();
    let length = (HEADER + ROUTE_HEADER + attribute) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(libc::RTM_GETROUTE.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 8 * octets.len() as u8, 0, 0, 0, 0, 0, 0]);
    bytes.extend(RTM_F_FIB_MATCH.to_ne_bytes());
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(libc::RTA_DST.to_ne_bytes());
    bytes.extend(octets);
    bytes
}

fn read(message: &Message<'_>) -> Result<Entry, Malformed> {
    let (header, attributes) =
        message.payload.split_at_checked(ROUTE_HEADER).ok_or(Malformed("a route without its header"))?;
    let interface = Attributes(attributes).find(libc::RTA_OIF)?.and_then(|index| index.value.try_into().ok());
    Ok(Entry { is_local: header[7] == libc::RTN_LOCAL, interface: interface.map(u32::from_ne_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loopback_is_local_and_a_route_cut_short_is_malformed() {
        let loopback = entry("127.0.0.1".parse().unwrap()).unwrap();
        // A namespace whose loopback is down has no routes at all.
        assert!(loopback.is_none_or(|entry| entry.is_local));
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
