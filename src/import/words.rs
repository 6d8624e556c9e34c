//! Values as iptables and nft write them.

use crate::policy::{AddressRange, AddressSet, Family, InterfacePattern, PortRange, Prefix, address};
use std::net::IpAddr;

/// `ADDRESS`, `ADDRESS/LENGTH`, or `ADDRESS/NETMASK`.
pub fn network(text: &str) -> Option<Prefix> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match (length, address) {
        (None, _) => width,
        (Some(length), _) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
        (Some(mask), IpAddr::V4(_)) => {
            let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
            (mask.leading_ones() + mask.trailing_zeros() >= 32).then(|| mask.leading_ones())?
        }
        _ => return None,
    };
    Prefix::containing(address, u8::try_from(length).ok()?)
}

/// `FIRST-LAST` of any size.
pub fn span(text: &str) -> Option<AddressSet> {
    let (first, last) = text.split_once('-')?;
    between(first.parse().ok()?, last.parse().ok()?)
}

pub fn between(first: IpAddr, last: IpAddr) -> Option<AddressSet> {
    let (family, other) = (Family::of(first), Family::of(last));
    let (first, last) = (address::number(first), address::number(last));
    (family == other && first <= last).then(|| AddressSet::of(Prefix::between(first, last, family)))
}

/// An interface, as iptables writes it or nft (`wan*`).
pub fn interface(text: &str, negated: bool) -> Option<InterfacePattern> {
    // A variable of a script.
    if text.contains('$') {
        return None;
    }
    let text = text.strip_suffix('*').map_or(text.to_owned(), |name| format!("{name}+"));
    let pattern: InterfacePattern = text.parse().ok()?;
    (!pattern.negated).then_some(InterfacePattern { negated, ..pattern })
}

pub fn port(text: &str) -> Option<u16> {
    let port = match text {
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
        // What iptables(8) and people write by name.
        "ssh" => 22,
        "smtp" => 25,
        "domain" => 53,
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    (port > 0).then_some(port)
}

/// `80`, `80:90` or `80-90`.
pub fn ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once([':', '-']).unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(PortRange { first, last })
}

/// `ADDRESS` or `FIRST-LAST`.
pub fn addresses(text: &str) -> Option<AddressRange> {
    text.parse().ok()
}

/// The address of `ADDRESS/LENGTH`, whose host bits are set.
pub fn network_address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}
