//! What a packet's address is translated to: `snat`, `dnat`, `masquerade` and `redirect` with all that belongs to them.

use super::field::{address, prefix, prefix_between, raw};
use super::held::{Held, Mapped, slot};
use super::{INET, Malformed, References, number};
use crate::sys::nfnetlink::message::Attributes;
use std::collections::HashMap;

/// NF_NAT_RANGE_* of linux/netfilter/nf_nat.h.
pub const RANDOM: u32 = 1 << 2;
pub const PERSISTENT: u32 = 1 << 3;
pub const FULLY_RANDOM: u32 = 1 << 4;
pub const NETMAP: u32 = 1 << 6;

/// The registers that hold the ends of the ranges of addresses and ports.
#[derive(Debug, Clone, Copy, Default)]
struct Registers {
    address: Option<(u32, u32)>,
    port: Option<(u32, u32)>,
}

/// The expressions `nat`, `masq` and `redir` in words.
///
/// # Errors
/// When it is malformed.
pub fn statement(
    name: &str,
    data: &Attributes<'_>,
    family: u8,
    held: &HashMap<u32, Held>,
    references: &mut dyn References,
) -> Result<String, Malformed> {
    // Where each expression has the registers of its ports, and its flags.
    let (verb, minimum, maximum, flags) = match name {
        "masq" => ("masquerade".to_owned(), 2, 3, 1),
        "redir" => ("redirect".to_owned(), 1, 2, 3),
        _ => (translation(data, family)?, 5, 6, 7),
    };
    let registers = |minimum, maximum| -> Result<Option<(u32, u32)>, Malformed> {
        let Some(first) = number(data, minimum)?.map(slot) else { return Ok(None) };
        Ok(Some((first, number(data, maximum)?.map_or(first, slot))))
    };
    let address = if name == "nat" { registers(3, 4)? } else { None };
    let registers = Registers { address, port: registers(minimum, maximum)? };
    let flags = number(data, flags)?.unwrap_or_default();
    let is_netmap = flags & NETMAP != 0;
    let mut words = verb;
    if registers.address.is_some() || registers.port.is_some() {
        let to = if is_netmap { " prefix to " } else { " to " };
        words = words + to + &target(registers, is_netmap, held, references);
    }
    let flags = [(RANDOM, "random"), (FULLY_RANDOM, "fully-random"), (PERSISTENT, "persistent")]
        .into_iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| name);
    let flags = flags.collect::<Vec<_>>().join(",");
    Ok(if flags.is_empty() { words } else { format!("{words} {flags}") })
}

/// In a table of both families the family has to be said.
fn translation(data: &Attributes<'_>, table: u8) -> Result<String, Malformed> {
    let verb = if number(data, 1)? == Some(0) { "snat" } else { "dnat" };
    let family = match number(data, 2)? {
        _ if table != INET => "",
        Some(2) => " ip",
        Some(10) => " ip6",
        _ => "",
    };
    Ok(format!("{verb}{family}"))
}

fn target(registers: Registers, is_netmap: bool, held: &HashMap<u32, Held>, references: &mut dyn References) -> String {
    let first = registers.address.or(registers.port).map_or(0, |(first, _)| first);
    if let Some(Held::Mapped(mapped)) = held.get(&first) {
        let words = mapped.words(&|bytes, _| of_map(bytes, mapped, registers, is_netmap), references);
        return if registers.address.is_none() { format!(":{words}") } else { words };
    }
    let constant = |slot| match held.get(&slot) {
        Some(Held::Value(bytes)) => Some(bytes.as_slice()),
        _ => None,
    };
    let ends = |pair: Option<(u32, u32)>| pair.map(|(first, last)| (constant(first), constant(last)));
    let addresses = match ends(registers.address) {
        Some((Some(first), Some(last))) => addresses(first, last, is_netmap),
        // Taken from the packet, or something else that is not understood.
        Some(_) => "…".to_owned(),
        None => String::new(),
    };
    match ends(registers.port) {
        Some((Some(first), Some(last))) => {
            let brackets = addresses.contains("::") || addresses.matches(':').count() > 1;
            let addresses = if brackets { bracketed(&addresses) } else { addresses };
            format!("{addresses}:{}", ports(first, last))
        }
        Some(_) => format!("{addresses}:…"),
        None => addresses,
    }
}

/// What one value of a map translates to: an address, a range of them, ports after them.
fn of_map(bytes: &[u8], mapped: &Mapped, registers: Registers, is_netmap: bool) -> String {
    let at = |slot: u32| 4 * slot.saturating_sub(mapped.slot) as usize;
    // The address is as long as there is room for before whatever comes next.
    let end_of = |start: usize| {
        let others = [registers.address, registers.port].into_iter().flatten().flat_map(|(first, last)| [first, last]);
        others.map(at).filter(|other| *other > start).min().unwrap_or(bytes.len())
    };
    let part = |slot| bytes.get(at(slot)..end_of(at(slot)));
    let mut words = Vec::new();
    if let Some((first, last)) = registers.address {
        words.push(match (part(first), part(last)) {
            (Some(first), Some(last)) => addresses(first, last, is_netmap),
            _ => "…".to_owned(),
        });
    }
    if let Some((first, last)) = registers.port {
        words.push(match (part(first), part(last)) {
            (Some(first), Some(last)) => ports(first, last),
            _ => "…".to_owned(),
        });
    }
    words.join(" . ")
}

/// Addresses from the first to the last; for NETMAP the network that they are.
pub fn addresses(first: &[u8], last: &[u8], is_netmap: bool) -> String {
    let word = |bytes: &[u8]| address(bytes).unwrap_or_else(|| raw(bytes));
    match prefix_between(first, last).filter(|_| is_netmap) {
        Some(length) => prefix(first, first.len(), length),
        None if first == last => word(first),
        None => format!("{}-{}", word(first), word(last)),
    }
}

/// Ports in network byte order; a register may have more bytes than they need.
pub fn ports(first: &[u8], last: &[u8]) -> String {
    let port = |bytes: &[u8]| match bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]).to_string(),
        _ => "…".to_owned(),
    };
    if first == last { port(first) } else { format!("{}-{}", port(first), port(last)) }
}

/// IPv6 addresses before a port are in brackets.
pub fn bracketed(addresses: &str) -> String {
    addresses.split('-').map(|address| format!("[{address}]")).collect::<Vec<_>>().join("-")
}
