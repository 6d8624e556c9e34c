//! Values that only entries of `portForwards` have.

use super::document::{Node, Value as Found};
use super::nearest::nearest;
use super::value::{Item, Kind, Located, Reader, Value, keep, ports_hint};
use crate::policy::address::is_link_local;
use crate::policy::{AddressRange, AddressRangeError, Family, HostAddress, PortRange, PortRanges, Prefix, Protocol};
use std::net::{IpAddr, SocketAddr};

/// A list that may be written as its only item.
#[derive(Debug, Clone, PartialEq)]
pub struct OneOrMore<T>(pub Vec<Located<T>>);

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        OneOrMore(Vec::new())
    }
}

impl<T: Item> Value for OneOrMore<T> {
    const KIND: Kind = T::KIND;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        let nodes = match &node.value {
            Found::List(items) if items.is_empty() => {
                reader.report(node.offset, "an empty list");
                return false;
            }
            Found::List(items) => items,
            _ => std::slice::from_ref(node),
        };
        let placed = |node: &Node<'_>, reader: &mut Reader<'_>| {
            let place = reader.place(node.offset);
            T::read(node, reader).map(|value| Located { value, place })
        };
        let items: Vec<_> = nodes.iter().filter_map(|node| placed(node, reader)).collect();
        keep(slot, (items.len() == nodes.len()).then_some(OneOrMore(items)))
    }
}

/// `hairpin` as it is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum HairpinKey {
    /// `auto`.
    #[default]
    Auto,
    /// `always`.
    Always,
    /// `never`.
    Never,
    /// A list of CIDRs.
    From(Vec<Located<Prefix>>),
}

impl Value for HairpinKey {
    const KIND: Kind = Kind::Text;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        keep(slot, hairpin(reader, node))
    }
}

fn hairpin(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<HairpinKey> {
    let expected = "auto, always, never or a list of CIDRs";
    match &node.value {
        Found::Text(text) => match &**text {
            "auto" => Some(HairpinKey::Auto),
            "always" => Some(HairpinKey::Always),
            "never" => Some(HairpinKey::Never),
            _ if text.parse::<Prefix>().is_ok() => reader.expected(node, expected, &format!("; write [\"{text}\"]")),
            _ => {
                let hint = nearest(text, ["auto", "always", "never"]).map(|word| format!("; did you mean {word}?"));
                reader.expected(node, expected, &hint.unwrap_or_default())
            }
        },
        Found::List(items) if items.is_empty() => reader.wrong(node, "an empty list; write never"),
        Found::List(_) => {
            let mut prefixes: Option<Vec<Located<Prefix>>> = None;
            Value::merge(&mut prefixes, node, reader);
            prefixes.map(HairpinKey::From)
        }
        Found::Bool(true) => reader.expected(node, expected, "; write auto"),
        Found::Bool(false) => reader.expected(node, expected, "; write never"),
        Found::Null => reader.expected(node, expected, "; leave the key out for its default"),
        _ => reader.expected(node, expected, ""),
    }
}

impl Value for Option<Located<PortRange>> {
    const KIND: Kind = Kind::Ports;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        keep(slot, reader.located(node, host_ports))
    }
}

fn host_ports(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<PortRange> {
    let expected = "a port or a range such as 8000-8010";
    let (Found::Text(text) | Found::Number(text)) = &node.value else {
        return reader.expected(node, expected, if lists(node) { "; write an entry for each" } else { "" });
    };
    let ranges: PortRanges = reader.parsed(node, text, |error| ports_hint(text, error))?;
    match ranges.ranges() {
        [range] => Some(*range),
        _ => reader.expected(node, expected, "; write an entry for each"),
    }
}

fn lists(node: &Node<'_>) -> bool {
    matches!(node.value, Found::List(_))
}

/// A single port.
impl Value for Option<Located<u16>> {
    const KIND: Kind = Kind::Count;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        keep(slot, reader.located(node, port))
    }
}

fn port(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<u16> {
    let expected = "a port";
    let (Found::Text(text) | Found::Number(text)) = &node.value else {
        return reader.expected(node, expected, "");
    };
    let ranges: PortRanges = reader.parsed(node, text, |error| ports_hint(text, error))?;
    match ranges.ranges() {
        [range] if range.first == range.last => Some(range.first),
        [range] => reader.expected(node, expected, &format!("; write {}: the others follow it", range.first)),
        _ => reader.expected(node, expected, ""),
    }
}

impl Item for Protocol {
    const KIND: Kind = Kind::Text;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = "tcp, udp or sctp";
        let (Found::Text(text) | Found::Number(text)) = &node.value else {
            return reader.expected(node, expected, "");
        };
        match &**text {
            "tcp" => return Some(Protocol::Tcp),
            "udp" => return Some(Protocol::Udp),
            "sctp" => return Some(Protocol::Sctp),
            _ => {}
        }
        let hint = match &*text.to_ascii_lowercase() {
            "tcp" | "6" => "; write tcp",
            "udp" | "17" => "; write udp",
            "sctp" | "132" => "; write sctp",
            "all" | "any" | "both" | "tcp+udp" | "tcp/udp" | "tcp,udp" | "tcpudp" | "tcp_udp" => "; write [tcp, udp]",
            _ => "",
        };
        reader.expected(node, expected, hint)
    }
}

/// Where a forward leads.
impl Item for IpAddr {
    const KIND: Kind = Kind::Text;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "an address")?;
        let address = one_address(reader, node, text)?;
        match is_link_local(address) {
            true => reader.wrong(node, format!("{address} is a link-local address, to which nothing can be forwarded")),
            false => Some(address),
        }
    }
}

impl Value for Option<Located<HostAddress>> {
    const KIND: Kind = Kind::Text;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        keep(slot, reader.located(node, host_address))
    }
}

fn host_address(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<HostAddress> {
    let text = reader.text(node, "an address of the host")?;
    match text.parse() {
        Ok(IpAddr::V4(address)) if address.is_loopback() => Some(HostAddress::One(IpAddr::V4(address))),
        Ok(address) if address.is_unspecified() => Some(HostAddress::AnyOf(Family::of(address))),
        Ok(IpAddr::V6(address)) if address.is_loopback() => {
            reader.wrong(node, format!("{address} can't be forwarded: {NO_LOCALHOST_IPV6}"))
        }
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            reader.wrong(node, format!("{address} is a link-local address: what comes to it can't be forwarded"))
        }
        _ => one_address(reader, node, text).map(HostAddress::One),
    }
}

/// Why IPv6 has no forward from the loopback address.
pub const NO_LOCALHOST_IPV6: &str = "packets from ::1 can't leave the host, IPv6 has no route_localnet";

fn one_address(reader: &mut Reader<'_>, node: &Node<'_>, text: &str) -> Option<IpAddr> {
    let range: AddressRange = match text.parse::<SocketAddr>() {
        Ok(both) => {
            let hint = format!("; write {}, and the port {} as port", both.ip(), both.port());
            return reader.expected(node, "an address", &hint);
        }
        Err(_) => reader.parsed(node, text, address_hint)?,
    };
    match range.is_one() {
        true => Some(range.first()),
        false => reader.wrong(node, format!("{range} is a range, one address is expected")),
    }
}

fn address_hint(error: &AddressRangeError) -> String {
    let meant = error.suggestion().filter(|range| range.is_one());
    meant.map(|range| format!("; did you mean {range}?")).unwrap_or_default()
}
