//! rtnetlink as far as we need it: the interfaces, addresses and routes of the host, that they changed, and what the
//! kernel would do with a packet.
//!
//! Layouts: `linux/rtnetlink.h`, `linux/if_addr.h`.

mod dump;
mod events;
mod primary;
mod read;
mod router;

pub use dump::{dump, network, network_towards};
pub use events::NetworkEvents;
pub use primary::primary_address;
pub use read::{NextHop, Read, read_any};
pub use router::{Path, Question, Refusal, Routed, Router};

use super::nfnetlink::message::{MessageHead, Writer};
use std::io;
use std::net::IpAddr;

/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

/// A request: its header, the structure that its kind has, and attributes. `sequence` is what answers carry.
fn request(kind: u16, flags: i32, sequence: u32, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new();
    let head = MessageHead { kind, flags: (libc::NLM_F_REQUEST | flags) as u16, sequence, ..MessageHead::default() };
    writer.message_of(head, header, |writer| attributes.iter().for_each(|(kind, value)| writer.raw(*kind, value)));
    writer.into_bytes()
}

/// Asks for the entry that packets of this host to an address take.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn entry(address: IpAddr) -> io::Result<Routed> {
    Router::open()?.entry(&Question::from_this_host(address))
}
