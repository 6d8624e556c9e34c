//! ipset, read natively: which sets there are and what is in them. Sets are written with the `ipset` program.
//!
//! Layouts: `linux/netfilter/ipset/ip_set.h`.

use super::Answer;
use super::message::{Attribute, Attributes, Malformed, MessageHead, Writer};
use super::socket::Socket;
use crate::policy::address::{octets, of_octets};
use crate::policy::{Family, Prefix};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

const LIST: u16 = ((libc::NFNL_SUBSYS_IPSET << 8) | 7) as u16;
const TEST: u16 = ((libc::NFNL_SUBSYS_IPSET << 8) | 11) as u16;
/// IPSET_ERR_EXIST: what a test says of an address that is not in the set.
const NOT_THERE: i32 = 4103;
/// The oldest protocol that kernels of today still speak; the next (Linux 4.20) adds a set's index to a listing.
const PROTOCOL_VERSION: u8 = 6;
const PROTOCOL_WITH_INDEX: u8 = 7;
const FLAG_LIST_HEADER: u32 = 1 << 2;
const FLAG_NOMATCH: u32 = 1 << 2;
const NET_BYTEORDER: u16 = libc::NLA_F_NET_BYTEORDER as u16;

/// Attributes of a message.
mod command {
    pub const PROTOCOL: u16 = 1;
    pub const SETNAME: u16 = 2;
    pub const TYPENAME: u16 = 3;
    pub const FAMILY: u16 = 5;
    pub const FLAGS: u16 = 6;
    pub const DATA: u16 = 7;
    pub const ADT: u16 = 8;
    pub const INDEX: u16 = 11;
}

/// Attributes inside of DATA.
mod data {
    pub const IP: u16 = 1;
    pub const CIDR: u16 = 3;
    pub const TIMEOUT: u16 = 6;
    pub const CADT_FLAGS: u16 = 8;
    pub const MAXELEM: u16 = 19;
    pub const ELEMENTS: u16 = 24;
    pub const REFERENCES: u16 = 25;
    pub const IPADDR_IPV4: u16 = 1;
    pub const IPADDR_IPV6: u16 = 2;
}

/// What a set of the kernel is, without its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHeader {
    pub name: String,
    /// Its type, as `hash:net`.
    pub type_name: String,
    /// The family of its members; `None` for types that have none or both.
    pub family: Option<Family>,
    /// How many members it has room for; 0 where the type does not say.
    pub max_elements: u32,
    /// How many members it has.
    pub elements: u32,
    /// How many rules refer to it.
    pub references: u32,
    /// Members leave it after a time.
    pub has_timeout: bool,
}

/// A member of a `hash:net` set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    pub prefix: Prefix,
    /// `nomatch`: the set does not match it although a wider member would.
    pub is_exception: bool,
}

/// A socket that asks for listings.
#[derive(Debug)]
pub struct Ipset {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Ipset {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> io::Result<Self> {
        // A dump comes in datagrams of at most 32 KiB.
        Ok(Ipset { socket: Socket::open(libc::NETLINK_NETFILTER)?, sequence: 0, buffer: vec![0; 1 << 16] })
    }

    /// Every set, or the one of a name, without members.
    ///
    /// # Errors
    /// EINVAL when the kernel has no sets, ENOENT when it has none of the name, EPERM without CAP_NET_ADMIN.
    pub fn headers(&mut self, name: Option<&str>) -> io::Result<Vec<SetHeader>> {
        let mut headers = Vec::new();
        self.list(PROTOCOL_VERSION, name, FLAG_LIST_HEADER, |attributes| {
            headers.extend(read_header(attributes)?);
            Ok(())
        })?;
        Ok(headers)
    }

    /// The names of all sets by the number that rules have for them.
    ///
    /// # Errors
    /// As [`Ipset::headers`]; also when the kernel is older than Linux 4.20.
    pub fn names(&mut self) -> io::Result<BTreeMap<u16, String>> {
        let mut names = BTreeMap::new();
        self.list(PROTOCOL_WITH_INDEX, None, FLAG_LIST_HEADER, |attributes| {
            let name = attributes.clone().find(command::SETNAME)?.map(|name| name.text());
            if let (Some(name), Some(index)) = (name, attributes.find(command::INDEX)?)
                && let Ok(index) = index.value.try_into()
            {
                names.insert(u16::from_be_bytes(index), name);
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// The members of a `hash:net` set.
    ///
    /// # Errors
    /// As [`Ipset::headers`].
    pub fn members(&mut self, name: &str) -> io::Result<Vec<Member>> {
        let mut members = Vec::new();
        self.list(PROTOCOL_VERSION, Some(name), 0, |attributes| {
            let Some(rows) = attributes.find(command::ADT)? else { return Ok(()) };
            for row in rows.nested() {
                members.push(read_member(row?.nested())?);
            }
            Ok(())
        })?;
        Ok(members)
    }

    /// True when rules that look into a `hash:net` set find the address there.
    ///
    /// # Errors
    /// As [`Ipset::headers`].
    pub fn has(&mut self, name: &str, address: IpAddr) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let kind = if address.is_ipv4() { data::IPADDR_IPV4 } else { data::IPADDR_IPV6 };
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let head = MessageHead { kind: TEST, flags, sequence: self.sequence, ..Default::default() };
        let mut request = Writer::new();
        request.message(head, |writer| {
            writer.raw(command::PROTOCOL, &[PROTOCOL_VERSION]);
            writer.text(command::SETNAME, name);
            writer.nest(command::DATA, |writer| {
                writer.nest(data::IP, |writer| writer.raw(kind | NET_BYTEORDER, &octets(address)))
            });
        });
        self.socket.send(request.bytes())?;
        match Answer::with_end(self.sequence).receive(&self.socket, &mut self.buffer, &mut |_| Ok(())) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(NOT_THERE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(
        &mut self,
        protocol: u8,
        name: Option<&str>,
        list_flags: u32,
        mut each: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let head = MessageHead { kind: LIST, flags, sequence: self.sequence, ..Default::default() };
        let mut request = Writer::new();
        request.message(head, |writer| {
            writer.raw(command::PROTOCOL, &[protocol]);
            if let Some(name) = name {
                writer.text(command::SETNAME, name);
            }
            writer.be32(command::FLAGS, list_flags);
        });
        self.socket.send(request.bytes())?;
        Answer::with_end(self.sequence)
            .receive(&self.socket, &mut self.buffer, &mut |message| each(message.attributes()?))
            .map(drop)
    }
}

/// Reads a message as a header and as members, for `tests/fuzz`.
#[cfg(fuzzing)]
pub fn read_any(message: &super::message::Message<'_>) {
    if let Ok(attributes) = message.attributes() {
        let _ = read_header(attributes.clone());
        for row in attributes.find(command::ADT).into_iter().flatten().flat_map(|rows| rows.nested().flatten()) {
            let _ = read_member(row.nested());
        }
    }
}

/// `None` for the later messages of a long set, which have its name but not its type.
fn read_header(attributes: Attributes<'_>) -> Result<Option<SetHeader>, Malformed> {
    let text = |kind| attributes.clone().find(kind).map(|found| found.map(|attribute| attribute.text()));
    let (Some(name), Some(type_name)) = (text(command::SETNAME)?, text(command::TYPENAME)?) else { return Ok(None) };
    let family = match attributes.clone().find(command::FAMILY)?.map(|attribute| attribute.value) {
        Some([family]) if i32::from(*family) == libc::AF_INET => Some(Family::V4),
        Some([family]) if i32::from(*family) == libc::AF_INET6 => Some(Family::V6),
        _ => None,
    };
    let details = attributes.find(command::DATA)?.map_or(Attributes(&[]), |data| data.nested());
    let number = |kind| number(&details, kind);
    Ok(Some(SetHeader {
        name,
        type_name,
        family,
        max_elements: number(data::MAXELEM)?,
        elements: number(data::ELEMENTS)?,
        references: number(data::REFERENCES)?,
        has_timeout: details.clone().find(data::TIMEOUT)?.is_some(),
    }))
}

/// The number of a kind, 0 where there is none.
fn number(attributes: &Attributes<'_>, kind: u16) -> Result<u32, Malformed> {
    attributes.clone().find(kind)?.map_or(Ok(0), |attribute| attribute.be32())
}

fn read_member(attributes: Attributes<'_>) -> Result<Member, Malformed> {
    let address = attributes.clone().find(data::IP)?.ok_or(Malformed("a member without an address"))?;
    let address = read_address(address)?;
    let length = match attributes.clone().find(data::CIDR)?.map(|attribute| attribute.value) {
        Some([length]) => *length,
        _ if address.is_ipv4() => 32,
        _ => 128,
    };
    let prefix = Prefix::containing(address, length).ok_or(Malformed("a prefix longer than its address"))?;
    let is_exception = number(&attributes, data::CADT_FLAGS)? & FLAG_NOMATCH != 0;
    Ok(Member { prefix, is_exception })
}

fn read_address(attribute: Attribute<'_>) -> Result<IpAddr, Malformed> {
    let (v4, v6) = (attribute.nested().find(data::IPADDR_IPV4)?, attribute.nested().find(data::IPADDR_IPV6)?);
    let read = v4.or(v6).and_then(|address| of_octets(address.value));
    read.ok_or(Malformed("an address of no known family"))
}
