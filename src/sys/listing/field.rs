//! What a register holds of a packet, and how the values that it is compared with are put into words.

use super::{References, until_nul};
use crate::policy::address::of_octets;

/// Numbers that have names.
pub type Names = &'static [(u64, &'static str)];

/// How a value is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Number,
    Hexadecimal,
    /// One of some numbers that have names.
    One(Names),
    /// Bits that have names.
    Bits(Names),
    /// An IPv4 or IPv6 address, by its length.
    Address,
    /// A MAC address.
    Ether,
    /// An interface by its index.
    Interface,
    /// An interface by its name, which may be the beginning of one.
    InterfaceName,
    /// Another text.
    Text,
    /// A handle of tc(8).
    Handle,
    /// Something that is not understood.
    Bytes,
}

/// The order of a number's bytes: marks and most other things that are no part of a packet are in that of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Host,
    Network,
}

/// What a register holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What `nft` calls it.
    pub name: String,
    /// How long it is, in bytes.
    pub length: usize,
    pub kind: Kind,
    pub order: Order,
    /// What it was masked with before it is compared, and then combined with by exclusive or.
    pub mask: Option<(Vec<u8>, Vec<u8>)>,
}

impl Field {
    pub fn new(name: impl Into<String>, length: usize, kind: Kind, order: Order) -> Self {
        Field { name: name.into(), length, kind, order, mask: None }
    }

    /// Something that is loaded in a way that is not understood.
    pub fn unknown(name: &str, length: usize) -> Self {
        Field::new(format!("{name} …"), length, Kind::Bytes, Order::Network)
    }

    /// One value in words.
    pub fn value(&self, bytes: &[u8], references: &mut dyn References) -> String {
        let number = self.number(bytes);
        match (self.kind, number) {
            (Kind::Number, Some(number)) => number.to_string(),
            (Kind::Hexadecimal, Some(number)) => format!("{number:#x}"),
            (Kind::One(names), Some(number)) => named(names, number).map_or(number.to_string(), str::to_owned),
            (Kind::Bits(names), Some(number)) => bits(names, number).unwrap_or(format!("{number:#x}")),
            (Kind::Address, _) => address(bytes).unwrap_or_else(|| raw(bytes)),
            (Kind::Ether, _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            (Kind::Interface, Some(index)) => {
                let name = u32::try_from(index).ok().and_then(|index| references.interface(index));
                name.map_or(index.to_string(), |name| format!("\"{name}\""))
            }
            (Kind::InterfaceName, _) => {
                let any = if bytes.contains(&0) { "" } else { "*" };
                format!("\"{}{any}\"", until_nul(bytes))
            }
            (Kind::Text, _) => format!("\"{}\"", until_nul(bytes)),
            (Kind::Handle, Some(number)) => format!("{:x}:{:x}", number >> 16, number & 0xffff),
            _ => raw(bytes),
        }
    }

    /// A comparison in words.
    pub fn compared(&self, operator: &str, bytes: &[u8], references: &mut dyn References) -> String {
        let Some((mask, xor)) = &self.mask else {
            let length = 8 * bytes.len();
            let shorter = self.kind == Kind::Address && bytes.len() < self.length;
            let value = match shorter.then(|| prefix(bytes, self.length, length)) {
                Some(prefix) => prefix,
                None => self.value(bytes, references),
            };
            return format!("{} {}{value}", self.name, spaced(operator));
        };
        if let Some(length) = prefix_length(mask)
            && self.kind == Kind::Address
            && matches!(operator, "" | "!=")
        {
            return format!("{} {}{}", self.name, spaced(operator), prefix(bytes, self.length, length));
        }
        let zero = bytes.iter().all(|byte| *byte == 0);
        if matches!(self.kind, Kind::Bits(_)) && zero && operator == "!=" {
            return format!("{} {}", self.name, self.value(mask, references));
        }
        let operator = if operator.is_empty() { "==" } else { operator };
        format!("{} {operator} {}", self.combined(mask, xor, references), self.operand(bytes, references))
    }

    /// The field as it is written where it is what another one is set to.
    pub fn source(&self, references: &mut dyn References) -> String {
        match &self.mask {
            Some((mask, xor)) => self.combined(mask, xor, references),
            None => self.name.clone(),
        }
    }

    fn combined(&self, mask: &[u8], xor: &[u8], references: &mut dyn References) -> String {
        let (name, is) = (&self.name, |bytes: &[u8], all: u8| bytes.iter().all(|byte| *byte == all));
        let is_or = mask.iter().zip(xor).all(|(mask, xor)| mask ^ xor == 0xff);
        let [kept, changed] = [mask, xor].map(|bytes| self.operand(bytes, references));
        match (is(mask, 0xff), is(xor, 0)) {
            (_, true) => format!("{name} & {kept}"),
            (true, false) => format!("{name} ^ {changed}"),
            (false, false) if is_or => format!("{name} | {changed}"),
            (false, false) => format!("{name} & {kept} ^ {changed}"),
        }
    }

    /// A value beside an operator: bits are joined by `|` there.
    fn operand(&self, bytes: &[u8], references: &mut dyn References) -> String {
        let value = self.value(bytes, references);
        match self.kind {
            Kind::Bits(_) if value.contains(',') => format!("({})", value.replace(',', " | ")),
            _ => value,
        }
    }

    /// A range in words: what lies between two values, both included, shorter where it is a prefix or one value.
    pub fn range(&self, from: &[u8], to: &[u8], references: &mut dyn References) -> String {
        if from == to {
            return self.value(from, references);
        }
        if self.kind == Kind::Address
            && from.len() == to.len()
            && let Some(length) = prefix_between(from, to)
        {
            return prefix(from, self.length, length);
        }
        format!("{}-{}", self.value(from, references), self.value(to, references))
    }

    pub fn number(&self, bytes: &[u8]) -> Option<u64> {
        let mut all = [0; 8];
        let room = all.len().checked_sub(bytes.len())?;
        let from_network = self.order == Order::Network || cfg!(target_endian = "big");
        if from_network {
            all[room..].copy_from_slice(bytes);
            Some(u64::from_be_bytes(all))
        } else {
            all[..bytes.len()].copy_from_slice(bytes);
            Some(u64::from_le_bytes(all))
        }
    }
}

fn named(names: Names, number: u64) -> Option<&'static str> {
    names.iter().find(|(value, _)| *value == number).map(|(_, name)| *name)
}

/// The names of all bits; `None` when one has none.
fn bits(names: Names, number: u64) -> Option<String> {
    let known = names.iter().fold(0, |all, (bit, _)| all | bit);
    if number == 0 || number & !known != 0 {
        return None;
    }
    let set = names.iter().filter(|(bit, _)| number & bit != 0).map(|(_, name)| *name);
    Some(set.collect::<Vec<_>>().join(","))
}

/// An operator before its value; equality is not written.
fn spaced(operator: &str) -> String {
    if operator.is_empty() { String::new() } else { format!("{operator} ") }
}

/// An address of four or sixteen bytes in words.
pub fn address(bytes: &[u8]) -> Option<String> {
    Some(of_octets(bytes)?.to_string())
}

/// A prefix, of whose network only the first bytes may be there.
pub fn prefix(bytes: &[u8], full: usize, length: usize) -> String {
    let mut network = bytes.to_vec();
    network.resize(full.max(bytes.len()), 0);
    match address(&network) {
        Some(address) if length == 8 * full => address,
        Some(address) => format!("{address}/{length}"),
        None => raw(bytes),
    }
}

/// The length of a mask that is one of a prefix.
pub fn prefix_length(mask: &[u8]) -> Option<usize> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask.iter().take_while(|byte| **byte == 0xff).count();
    let next = mask.get(leading).map_or(0, |byte| byte.leading_ones());
    (8 * leading as u32 + next == ones).then_some(ones as usize)
}

/// The length of the prefix that has these first and last addresses.
pub fn prefix_between(from: &[u8], to: &[u8]) -> Option<usize> {
    let mask: Vec<u8> = from.iter().zip(to).map(|(from, to)| !(from ^ to)).collect();
    let whole = from.iter().zip(&mask).all(|(from, mask)| from & !mask == 0);
    prefix_length(&mask).filter(|_| whole)
}

/// Bytes as they are.
pub fn raw(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
