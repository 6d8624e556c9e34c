//! nfnetlink as far as we need it: requests to nf_tables, the generation of the rule set, and who moved it.

mod events;
pub mod ipset;
pub mod message;
mod socket;

pub use events::{RuleEvent, RuleEvents};

use message::{Malformed, Message, MessageHead, Messages, Writer};
use socket::Socket;
use std::io;

/// `nlmsg_type` of an nf_tables message.
const fn nft(message: i32) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | message) as u16
}

const NEWGEN: u16 = nft(libc::NFT_MSG_NEWGEN);
const GETGEN: u16 = nft(libc::NFT_MSG_GETGEN);

/// `enum nft_gen_attributes` of linux/netfilter/nf_tables.h.
const GEN_ID: u16 = 1;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;

/// A request socket.
#[derive(Debug)]
pub struct Nfnetlink {
    socket: Socket,
    sequence: u32,
}

impl Nfnetlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open()?;
        // Refusals then quote the header of the refused message and not all of it (netlink(7), Linux 4.3).
        socket.set(libc::NETLINK_CAP_ACK, 1)?;
        Ok(Nfnetlink { socket, sequence: 0 })
    }

    /// The generation of the nf_tables rule set of this network namespace: it moves once per commit.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, EINVAL when the kernel has no nf_tables, [`io::ErrorKind::InvalidData`] for an
    /// answer that makes no sense.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Writer::new();
        let flags = libc::NLM_F_REQUEST as u16;
        request.message(MessageHead { kind: GETGEN, flags, sequence: self.sequence, ..Default::default() }, |_| {});
        self.socket.send(request.bytes())?;
        let mut buffer = [0; 4096];
        while let Some(datagram) = self.socket.receive(&mut buffer)? {
            for message in Messages(datagram) {
                let message = message?;
                if message.sequence == self.sequence {
                    return read_generation(&message);
                }
            }
        }
        Err(Malformed("no answer to a request for the generation").into())
    }
}

fn read_generation(message: &Message<'_>) -> io::Result<u32> {
    match message.kind {
        NEWGEN => match message.attributes()?.find(GEN_ID)? {
            Some(attribute) => Ok(attribute.be32()?),
            None => Err(Malformed("a generation without its number").into()),
        },
        kind if i32::from(kind) == libc::NLMSG_ERROR => Err(read_error(message)?),
        _ => Err(Malformed("an answer of another kind").into()),
    }
}

/// The errno of an NLMSG_ERROR message.
fn read_error(message: &Message<'_>) -> Result<io::Error, Malformed> {
    let code = message.payload.first_chunk::<4>().ok_or(Malformed("an error without its number"))?;
    Ok(io::Error::from_raw_os_error(i32::from_ne_bytes(*code).saturating_neg()))
}
