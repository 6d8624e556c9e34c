//! What sets and maps with keys of several fields hold: elements, and what each leads to.

use super::interval::{self, Interval};
use super::name::ChainName;
use super::port_set::{Data, Field, PortSet, protocol};
use super::rule::shown;
use crate::policy::Family;
use std::fmt::Write;

/// An element. What the keys of its set don't have is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortElement {
    /// The destination; where the key has an interface instead, the bytes of its name.
    pub host: u128,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The first destination port.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The sources; where the key has destinations instead, those.
    pub sources: Interval,
    /// What it leads to.
    pub then: Then,
}

/// What an element leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// It is one of a set.
    Nothing,
    /// An address, and a port unless that stays.
    To(u128, Option<u16>),
    /// A chain.
    Goto(ChainName),
}

/// IFNAMSIZ.
const INTERFACE_NAME: usize = 16;

/// The bytes of an interface's name as a number, with zeros behind it.
pub fn interface_number(name: &str) -> u128 {
    let mut bytes = [0; INTERFACE_NAME];
    let length = name.len().min(INTERFACE_NAME - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}

fn interface_text(number: u128) -> String {
    let bytes = number.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    shown(&String::from_utf8_lossy(&bytes[..end]))
}

/// No sources are asked.
pub const ANY_SOURCE: Interval = Interval { first: 0, last: 0 };

impl PortElement {
    /// True when a packet may be of both.
    pub fn overlaps(&self, other: &PortElement) -> bool {
        (self.host, self.protocol) == (other.host, other.protocol)
            && self.first <= other.last
            && other.first <= self.last
            && self.sources.first <= other.sources.last
            && other.sources.first <= self.sources.last
    }

    /// The bytes of its key: where it begins, and where it ends.
    pub fn key_bytes(&self, set: PortSet, family: Family) -> [Vec<u8>; 2] {
        let width = interval::width(family);
        let address = |number: u128| number.to_be_bytes()[16 - width..].to_vec();
        let side = |port: u16, source: u128| {
            let field = |field: &Field| match field {
                Field::Saddr | Field::Daddrs => address(source),
                Field::Daddr => address(self.host),
                Field::OutInterface => self.host.to_be_bytes().to_vec(),
                Field::Protocol => vec![self.protocol, 0, 0, 0],
                Field::Port => [&port.to_be_bytes()[..], &[0, 0]].concat(),
            };
            set.key().iter().flat_map(field).collect()
        };
        [side(self.first, self.sources.first), side(self.last, self.sources.last)]
    }

    /// The element of a set that has such a key, leading nowhere; `None` when none of ours has.
    pub fn of_key(set: PortSet, family: Family, first: &[u8], last: &[u8]) -> Option<Self> {
        let mut found =
            PortElement { host: 0, protocol: 0, first: 0, last: 0, sources: ANY_SOURCE, then: Then::Nothing };
        let (mut first, mut last) = (first, last);
        for field in set.key() {
            let width = match field {
                Field::Saddr | Field::Daddr | Field::Daddrs => interval::width(family),
                Field::OutInterface => INTERFACE_NAME,
                Field::Protocol | Field::Port => 4,
            };
            let (begin, end) = (first.get(..width)?, last.get(..width)?);
            (first, last) = (&first[width..], &last[width..]);
            match field {
                Field::OutInterface => {
                    found.host = u128::from_be_bytes(begin.try_into().ok().filter(|_| begin == end)?);
                }
                Field::Saddr | Field::Daddrs => {
                    let (first, last) = (interval::from_bytes(begin, family)?, interval::from_bytes(end, family)?);
                    found.sources = Interval { first, last };
                }
                Field::Daddr => found.host = interval::from_bytes(begin, family)?,
                Field::Protocol => found.protocol = begin[0],
                Field::Port => {
                    (found.first, found.last) =
                        (u16::from_be_bytes([begin[0], begin[1]]), u16::from_be_bytes([end[0], end[1]]));
                }
            }
        }
        (first.is_empty() && last.is_empty()).then_some(found)
    }

    /// The bytes of the address and the port that it leads to; none for a chain.
    pub fn data_bytes(&self, family: Family) -> Vec<u8> {
        match self.then {
            Then::To(address, port) => {
                let port = port.map(|port| [&port.to_be_bytes()[..], &[0, 0]].concat()).unwrap_or_default();
                [&address.to_be_bytes()[16 - interval::width(family)..], &port].concat()
            }
            Then::Nothing | Then::Goto(_) => Vec::new(),
        }
    }

    /// What such bytes lead to in a map.
    pub fn then_of(set: PortSet, family: Family, bytes: &[u8]) -> Option<Then> {
        let width = interval::width(family);
        let address = interval::from_bytes(bytes.get(..width)?, family)?;
        match (set.data(), &bytes[width..]) {
            (Data::Address, []) => Some(Then::To(address, None)),
            (Data::AddressAndPort, [high, low, 0, 0]) => {
                Some(Then::To(address, Some(u16::from_be_bytes([*high, *low]))))
            }
            _ => None,
        }
    }

    /// Writes it as nft does.
    pub fn write(&self, set: PortSet, family: Family, text: &mut String) {
        for (place, field) in set.key().iter().enumerate() {
            if place > 0 {
                text.push_str(" . ");
            }
            // Writing to a String can't fail, here and below.
            let _ = match field {
                Field::OutInterface => write!(text, "\"{}\"", interface_text(self.host)),
                Field::Saddr | Field::Daddrs => {
                    self.sources.write(family, text);
                    Ok(())
                }
                Field::Daddr => write!(text, "{}", interval::address(self.host, family)),
                Field::Protocol => write!(text, "{}", protocol(self.protocol)),
                Field::Port if self.first == self.last => write!(text, "{}", self.first),
                Field::Port => write!(text, "{}-{}", self.first, self.last),
            };
        }
        let _ = match self.then {
            Then::Nothing => Ok(()),
            Then::To(address, None) => write!(text, " : {}", interval::address(address, family)),
            Then::To(address, Some(port)) => write!(text, " : {} . {port}", interval::address(address, family)),
            Then::Goto(chain) => write!(text, " : goto {chain}"),
        };
    }
}
