//! rtnetlink as far as we need it: the interfaces, addresses and routes of the host, that they changed, and what the
//! kernel would do with a packet.
//!
//! Layouts: `linux/rtnetlink.h`, `linux/if_addr.h`.

mod dump;
mod events;
mod primary;
mod read;
mod router;

pub use dump::{network, network_towards};
pub use events::NetworkEvents;
pub use primary::primary_address;
pub use read::{NextHop, Read, read_any};
pub use router::{Path, Question, Refusal, Routed, Router};

use super::nfnetlink::message::HEADER;
use std::io;
use std::net::IpAddr;

/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

/// A request: its header, the structure that its kind has, and attributes. `sequence` is what answers carry.
fn request(kind: u16, flags: i32, sequence: u32, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(header);
    for (kind, value) in attributes {
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// The family's number and the address's bytes.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// Asks for the entry that packets of this host to an address take.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn entry(address: IpAddr) -> io::Result<Routed> {
    Router::open()?.entry(&Question::from_this_host(address))
}
