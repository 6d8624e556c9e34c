//! Netlink messages and attributes, written and read.
//!
//! Layouts: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`. Reading never trusts a length.

use std::fmt;

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Length of `struct nfgenmsg`, which every nfnetlink message starts with.
pub const FAMILY_HEADER: usize = 4;
/// The kind without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = 1 << 15;

/// Bytes that are no netlink message or attribute: cut short, or with an impossible length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed netlink message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind `struct nfgenmsg`.
    ///
    /// # Errors
    /// When the payload is too short for that structure.
    pub fn attributes(&self) -> Result<Attributes<'a>, Malformed> {
        self.payload.get(FAMILY_HEADER..).map(Attributes).ok_or(Malformed("no room for the family header"))
    }
}

/// The messages of a datagram, in order; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let Some(header) = rest.first_chunk::<HEADER>() else {
            return Some(Err(Malformed("a header cut short")));
        };
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(payload) = rest.get(HEADER..length) else {
            return Some(Err(Malformed("a message longer than its datagram, or shorter than its header")));
        };
        self.0 = rest.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without its flags.
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// A number of 32 bits in network byte order, as nf_tables writes them.
    ///
    /// # Errors
    /// When the value has another size.
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.value.try_into().map(u32::from_be_bytes).map_err(|_| Malformed("a 32-bit number of another size"))
    }

    /// A number of 16 bits in network byte order.
    ///
    /// # Errors
    /// When the value has another size.
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.value.try_into().map(u16::from_be_bytes).map_err(|_| Malformed("a 16-bit number of another size"))
    }

    /// A number of 64 bits in network byte order.
    ///
    /// # Errors
    /// When the value has another size.
    pub fn be64(&self) -> Result<u64, Malformed> {
        self.value.try_into().map(u64::from_be_bytes).map_err(|_| Malformed("a 64-bit number of another size"))
    }

    /// A text, without its terminating NUL; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// A row of attributes; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    ///
    /// # Errors
    /// When a malformed one stands before it.
    pub fn find(self, kind: u16) -> Result<Option<Attribute<'a>>, Malformed> {
        for attribute in self {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let Some(header) = rest.first_chunk::<4>() else {
            return Some(Err(Malformed("an attribute cut short")));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = rest.get(4..length) else {
            return Some(Err(Malformed("an attribute longer than its message, or shorter than its header")));
        };
        self.0 = rest.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Attribute { kind: u16::from_ne_bytes([header[2], header[3]]) & KIND_MASK, value }))
    }
}

/// A writer of messages and attributes into one buffer.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Writer::default()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, as a buffer of the caller's.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes over what was written at a place; what is not there is left out.
    pub fn overwrite(&mut self, place: usize, value: &[u8]) {
        self.bytes.iter_mut().skip(place).zip(value).for_each(|(old, new)| *old = *new);
    }

    /// Writes a message with `struct nfgenmsg` (version 0) and what `body` adds; returns the place of its first byte.
    pub fn message(&mut self, head: MessageHead, body: impl FnOnce(&mut Writer)) -> usize {
        let [high, low] = head.resource.to_be_bytes();
        self.message_of(head, &[head.family, 0, high, low], body)
    }

    /// As [`Writer::message`], with another structure in front of the attributes.
    pub fn message_of(&mut self, head: MessageHead, structure: &[u8], body: impl FnOnce(&mut Writer)) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&head.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&head.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(structure);
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        start
    }

    /// An attribute with a value as it is; at most 65,531 bytes fit.
    pub fn raw(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend_from_slice(value));
    }

    /// A text with its terminating NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend_from_slice(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// A number of 32 bits in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.raw(kind, &value.to_be_bytes());
    }

    /// A number of 64 bits in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.raw(kind, &value.to_be_bytes());
    }

    /// An attribute that holds others, which were written before.
    pub fn nested(&mut self, kind: u16, attributes: &[u8]) {
        self.nest(kind, |writer| writer.bytes.extend_from_slice(attributes));
    }

    /// An attribute that holds others.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.resize(start + aligned(length), 0);
    }
}

/// What stands in front of a message's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageHead {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`; NLM_F_REQUEST is not added.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// `nfgen_family`.
    pub family: u8,
    /// `res_id`, in host byte order here.
    pub resource: u16,
}

/// Rounds up to NLMSG_ALIGNTO and NLA_ALIGNTO, which are both 4.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Writer {
        let mut writer = Writer::new();
        for sequence in [7, 8] {
            writer.message(MessageHead { kind: 0xa03, flags: 1, sequence, family: 1, resource: 10 }, |writer| {
                writer.text(1, "table");
                writer.nest(2, |writer| writer.be32(3, 150));
            });
        }
        writer
    }

    #[test]
    fn what_is_written_is_read_back() {
        let writer = sample();
        let messages: Vec<_> = Messages(writer.bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(messages.iter().map(|message| message.sequence).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(messages[0].payload[..4], [1, 0, 0, 10]);
        let attributes = messages[0].attributes().unwrap();
        assert_eq!(attributes.clone().find(1).unwrap().unwrap().text(), "table");
        let nest = attributes.find(2).unwrap().unwrap();
        assert_eq!(nest.nested().find(3).unwrap().unwrap().be32(), Ok(150));
    }

    #[test]
    fn a_datagram_cut_anywhere_is_malformed_or_whole() {
        let writer = sample();
        let first = writer.bytes().len() / 2;
        for cut in 1..writer.bytes().len() {
            let read = Messages(&writer.bytes()[..cut]).collect::<Result<Vec<_>, _>>();
            assert_eq!(read.is_ok(), cut == first, "{cut}");
        }
    }

    fn walk(attributes: Attributes<'_>, depth: u32) {
        for attribute in attributes.flatten() {
            let _ = (attribute.be32(), attribute.be64(), attribute.text());
            if depth > 0 {
                walk(attribute.nested(), depth - 1);
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for message in Messages(&bytes).flatten() {
                if let Ok(attributes) = message.attributes() {
                    walk(attributes, 4);
                }
            }
            walk(Attributes(&bytes), 4);
        }

        #[test]
        fn a_changed_byte_ends_without_a_panic(place in 0_usize..72, value: u8) {
            let mut bytes = sample().bytes().to_vec();
            let place = place % bytes.len();
            bytes[place] = value;
            for message in Messages(&bytes).flatten() {
                if let Ok(attributes) = message.attributes() {
                    walk(attributes, 4);
                }
            }
        }
    }
}
