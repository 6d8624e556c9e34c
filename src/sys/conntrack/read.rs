//! Entries, as the kernel's messages tell of them.

use super::super::nfnetlink::message::{Attributes, Malformed, Message, Writer};
use crate::network::{Connection, Status, Tuple};
use crate::policy::address::of_octets;
use crate::policy::{Family, Protocol};
use std::net::IpAddr;

/// CTA_*
pub mod attribute {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const ID: u16 = 12;
    pub const ZONE: u16 = 18;
    pub const FILTER: u16 = 25;
    pub const STATUS_MASK: u16 = 26;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const V4_SOURCE: u16 = 1;
    pub const V4_DESTINATION: u16 = 2;
    pub const V6_SOURCE: u16 = 3;
    pub const V6_DESTINATION: u16 = 4;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
}

/// IPCTNL_MSG_CT_NEW, what entries are told with.
const NEW: u16 = (libc::NFNL_SUBSYS_CTNETLINK << 8) as u16;

/// A connection, and what it takes to delete it and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub connection: Connection,
    /// The attributes of CTA_TUPLE_ORIG as the kernel wrote them, of whatever protocol.
    original: Vec<u8>,
}

impl Entry {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nested(attribute::TUPLE_ORIG, &self.original);
        writer.be32(attribute::ID, self.connection.id);
        if self.connection.zone != 0 {
            writer.raw(attribute::ZONE, &self.connection.zone.to_be_bytes());
        }
    }
}

/// Reads an entry; `None` of a message of another kind or family.
///
/// # Errors
/// When it makes no sense.
pub fn read_any(message: &Message<'_>) -> Result<Option<Entry>, Malformed> {
    if message.kind != NEW {
        return Ok(None);
    }
    let (mut original, mut reply, mut bytes) = (None, None, Vec::new());
    let (mut status, mut id, mut mark, mut zone, mut timeout) = (0, None, 0, 0, None);
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            attribute::TUPLE_ORIG => {
                original = Some(tuple(attribute.nested())?);
                bytes = attribute.value.to_vec();
            }
            attribute::TUPLE_REPLY => reply = Some(tuple(attribute.nested())?),
            attribute::STATUS => status = attribute.be32()?,
            attribute::ID => id = Some(attribute.be32()?),
            attribute::MARK => mark = attribute.be32()?,
            attribute::ZONE => zone = attribute.be16()?,
            attribute::TIMEOUT => timeout = Some(attribute.be32()?),
            _ => {}
        }
    }
    let (Some(original), Some(reply), Some(id)) = (original, reply, id) else {
        return Err(Malformed("a connection without its tuples or its number"));
    };
    if Family::of(original.source) != Family::of(reply.source) {
        return Err(Malformed("a connection of two families"));
    }
    let connection = Connection { original, reply, status: Status(status), id, mark, zone, timeout };
    Ok(Some(Entry { connection, original: bytes }))
}

fn tuple(attributes: Attributes<'_>) -> Result<Tuple, Malformed> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut from, mut to) = (None, None, None);
    for part in attributes {
        let part = part?;
        for attribute in part.nested() {
            let attribute = attribute?;
            match (part.kind, attribute.kind) {
                (attribute::TUPLE_IP, attribute::V4_SOURCE | attribute::V6_SOURCE) => {
                    source = Some(ip(attribute.kind == attribute::V4_SOURCE, attribute.value)?);
                }
                (attribute::TUPLE_IP, attribute::V4_DESTINATION | attribute::V6_DESTINATION) => {
                    destination = Some(ip(attribute.kind == attribute::V4_DESTINATION, attribute.value)?);
                }
                (attribute::TUPLE_PROTO, attribute::PROTO_NUM) => protocol = attribute.value.first().copied(),
                (attribute::TUPLE_PROTO, attribute::PROTO_SRC_PORT) => from = Some(attribute.be16()?),
                (attribute::TUPLE_PROTO, attribute::PROTO_DST_PORT) => to = Some(attribute.be16()?),
                _ => {}
            }
        }
    }
    let (Some(source), Some(destination), Some(protocol)) = (source, destination, protocol) else {
        return Err(Malformed("a tuple without its addresses or its protocol"));
    };
    if Family::of(source) != Family::of(destination) {
        return Err(Malformed("a tuple of two families"));
    }
    Ok(Tuple { source, destination, protocol: named(protocol), ports: from.zip(to) })
}

fn ip(is_v4: bool, octets: &[u8]) -> Result<IpAddr, Malformed> {
    let read = of_octets(octets).filter(|address| address.is_ipv4() == is_v4);
    read.ok_or(Malformed("an address of another size"))
}

fn named(number: u8) -> Protocol {
    match i32::from(number) {
        libc::IPPROTO_TCP => Protocol::Tcp,
        libc::IPPROTO_UDP => Protocol::Udp,
        libc::IPPROTO_SCTP => Protocol::Sctp,
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => Protocol::Icmp,
        _ => Protocol::Other(number),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::nfnetlink::message::{MessageHead, Messages};
    use super::*;
    use proptest::prelude::*;

    fn write_tuple(writer: &mut Writer, kind: u16, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) {
        writer.nest(kind, |writer| {
            writer.nest(attribute::TUPLE_IP, |writer| {
                writer.raw(attribute::V4_SOURCE, &source);
                writer.raw(attribute::V4_DESTINATION, &destination);
            });
            writer.nest(attribute::TUPLE_PROTO, |writer| {
                writer.raw(attribute::PROTO_NUM, &[17]);
                writer.raw(attribute::PROTO_SRC_PORT, &ports[0].to_be_bytes());
                writer.raw(attribute::PROTO_DST_PORT, &ports[1].to_be_bytes());
            });
        });
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new();
        let head = MessageHead { kind: NEW, family: libc::NFPROTO_IPV4 as u8, ..MessageHead::default() };
        writer.message(head, |writer| {
            write_tuple(writer, attribute::TUPLE_ORIG, [192, 168, 77, 2], [203, 0, 113, 9], [4000, 53]);
            write_tuple(writer, attribute::TUPLE_REPLY, [203, 0, 113, 9], [203, 0, 113, 1], [53, 4000]);
            writer.be32(attribute::STATUS, Status::SRC_NAT | Status::SRC_NAT_DONE);
            writer.be32(attribute::TIMEOUT, 30);
            writer.be32(attribute::MARK, 0x200);
            writer.be32(attribute::ID, 77);
            writer.raw(attribute::ZONE, &5_u16.to_be_bytes());
        });
        writer.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Option<Entry>, Malformed> {
        read_any(&Messages(bytes).next().unwrap()?)
    }

    #[test]
    fn an_entry_is_read_and_deleted_by_what_the_kernel_wrote() {
        let bytes = sample();
        let entry = read(&bytes).unwrap().unwrap();
        let connection = entry.connection;
        assert_eq!(connection.original.ports, Some((4000, 53)));
        assert_eq!(connection.seen_source().to_string(), "203.0.113.1");
        assert_eq!(connection.target().to_string(), "203.0.113.9");
        assert_eq!((connection.id, connection.mark, connection.zone, connection.timeout), (77, 0x200, 5, Some(30)));
        assert!(connection.is_source_translated() && !connection.status.has(Status::DST_NAT));
        let mut deletion = Writer::new();
        deletion.message(MessageHead::default(), |writer| entry.write(writer));
        let message = Messages(deletion.bytes()).next().unwrap().unwrap();
        let attributes = message.attributes().unwrap();
        assert_eq!(
            tuple(attributes.clone().find(attribute::TUPLE_ORIG).unwrap().unwrap().nested()),
            Ok(connection.original)
        );
        assert_eq!(attributes.clone().find(attribute::ID).unwrap().unwrap().be32(), Ok(77));
        assert_eq!(attributes.find(attribute::ZONE).unwrap().unwrap().be16(), Ok(5));
    }

    #[test]
    fn an_entry_without_its_number_or_a_tuple_is_malformed() {
        for missing in [attribute::TUPLE_ORIG, attribute::TUPLE_REPLY, attribute::ID] {
            let bytes = sample();
            let message = Messages(&bytes).next().unwrap().unwrap();
            let mut writer = Writer::new();
            writer.message(MessageHead { kind: NEW, ..MessageHead::default() }, |writer| {
                for attribute in message.attributes().unwrap().flatten().filter(|one| one.kind != missing) {
                    writer.raw(attribute.kind, attribute.value);
                }
            });
            assert!(read(writer.bytes()).is_err(), "{missing}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_cut_or_changed_ends_without_a_panic(cut in 0_usize..400, place in 0_usize..400, value: u8) {
            let mut bytes = sample();
            let length = bytes.len();
            bytes[place % length] = value;
            bytes.truncate(cut % (length + 1));
            for message in Messages(&bytes).flatten() {
                let _ = read_any(&message);
            }
        }

        #[test]
        fn random_entries_end_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = read_any(&Message { kind: NEW, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
