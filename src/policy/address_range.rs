//! Addresses from one to another, as sources are rewritten to them.

use super::Family;
use super::address::number;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The most addresses that a range can have.
const MAX_ADDRESSES: u128 = 65_536;

/// Addresses of one family from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no [`AddressRange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressRangeError {
    /// Not an address, or not two with a dash between them.
    Address(String),
    /// A prefix; carries its addresses, where they can be a range.
    Prefix(Option<AddressRange>),
    /// An address that no packet on a wire has as its source; says what it is.
    NotUnicast(IpAddr, &'static str),
    /// `::ffff:192.0.2.1`; carries the IPv4 address that was probably meant.
    Mapped(Ipv4Addr),
    /// From one family to the other.
    Families,
    /// From a higher address to a lower one; carries the range that was probably meant.
    Backwards(AddressRange),
    /// More than 65,536.
    TooMany(u128),
}

impl fmt::Display for AddressRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressRangeError::Address(text) => write!(f, "'{text}' is not an IPv4 or IPv6 address"),
            AddressRangeError::Prefix(_) => f.write_str("a prefix where addresses belong"),
            AddressRangeError::NotUnicast(address, what) => write!(f, "{address} is {what}"),
            AddressRangeError::Mapped(_) => f.write_str("an IPv4 address written as IPv6"),
            AddressRangeError::Families => f.write_str("a range from one address family to the other"),
            AddressRangeError::Backwards(_) => f.write_str("a range that runs backwards"),
            AddressRangeError::TooMany(count) => {
                write!(f, "a range of {count} addresses, more than {MAX_ADDRESSES}")
            }
        }
    }
}

impl std::error::Error for AddressRangeError {}

impl AddressRangeError {
    /// What was probably meant.
    pub fn suggestion(&self) -> Option<AddressRange> {
        match self {
            AddressRangeError::Prefix(range) => *range,
            AddressRangeError::Backwards(range) => Some(*range),
            AddressRangeError::Mapped(address) => {
                Some(AddressRange { first: IpAddr::V4(*address), last: IpAddr::V4(*address) })
            }
            _ => None,
        }
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        AddressRange { first: address, last: address }
    }
}

impl AddressRange {
    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// The family.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// True when there is only one address to choose.
    pub fn is_one(self) -> bool {
        self.first == self.last
    }

    /// True when the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && self.first <= address && address <= self.last
    }

    /// All of them, one after the other.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let behind = |address: IpAddr| match address {
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) + 1).into()),
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) + 1).into()),
        };
        std::iter::successors(Some(self.first), move |address| (*address != self.last).then(|| behind(*address)))
    }

    /// From one address to another.
    ///
    /// # Errors
    /// When that is no range.
    pub fn between(first: IpAddr, last: IpAddr) -> Result<Self, AddressRangeError> {
        let range = AddressRange { first, last };
        if Family::of(first) != Family::of(last) {
            return Err(AddressRangeError::Families);
        }
        if last < first {
            return Err(AddressRangeError::Backwards(AddressRange { first: last, last: first }));
        }
        let more = number(last) - number(first);
        if more >= MAX_ADDRESSES {
            return Err(AddressRangeError::TooMany(more.saturating_add(1)));
        }
        Ok(range)
    }
}

fn parse_address(text: &str) -> Result<IpAddr, AddressRangeError> {
    let address: IpAddr = text.parse().map_err(|_| AddressRangeError::Address(text.to_owned()))?;
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(AddressRangeError::Mapped(v4));
    }
    match not_unicast(address) {
        Some(what) => Err(AddressRangeError::NotUnicast(address, what)),
        None => Ok(address),
    }
}

fn not_unicast(address: IpAddr) -> Option<&'static str> {
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_this_network = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0);
    match address {
        _ if is_this_network || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some("no address of a host"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if is_broadcast => Some("the broadcast address"),
        _ => None,
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one() {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    /// Reads `ADDRESS` or `FIRST-LAST`.
    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        if let Ok(prefix) = text.parse::<super::Prefix>() {
            return Err(AddressRangeError::Prefix(AddressRange::between(prefix.address(), prefix.last()).ok()));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if first.is_empty() || last.is_empty() {
            return Err(AddressRangeError::Address(text.to_owned()));
        }
        AddressRange::between(parse_address(first)?, parse_address(last)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_and_a_range_are_read_and_written_back() {
        for text in ["203.0.113.9", "203.0.113.9-203.0.113.12", "2001:db8::1", "2001:db8::1-2001:db8::ffff"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
        assert!("10.0.0.0-10.0.255.255".parse::<AddressRange>().is_ok());
        assert_eq!("203.0.113.9-203.0.113.9".parse::<AddressRange>().unwrap().to_string(), "203.0.113.9");
    }

    #[test]
    fn what_no_source_can_be_rewritten_to_is_refused() {
        use AddressRangeError::*;
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        let cases = [
            ("", Address(String::new())),
            ("wan0", Address("wan0".into())),
            ("203.0.113.09", Address("203.0.113.09".into())),
            ("203.0.113.9-12", Address("12".into())),
            ("fe80::1%eth0", Address("fe80::1%eth0".into())),
            ("203.0.113.8/30", Prefix(Some(range("203.0.113.8-203.0.113.11")))),
            ("10.0.0.0/8", Prefix(None)),
            ("0.0.0.0", NotUnicast("0.0.0.0".parse().unwrap(), "no address of a host")),
            ("127.0.0.1", NotUnicast("127.0.0.1".parse().unwrap(), "a loopback address")),
            ("ff02::1", NotUnicast("ff02::1".parse().unwrap(), "a multicast address")),
            ("255.255.255.255", NotUnicast("255.255.255.255".parse().unwrap(), "the broadcast address")),
            ("::ffff:203.0.113.9", Mapped("203.0.113.9".parse().unwrap())),
            ("203.0.113.9-2001:db8::1", Families),
            ("203.0.113.12-203.0.113.9", Backwards(range("203.0.113.9-203.0.113.12"))),
            ("10.0.0.0-10.1.0.0", TooMany(65_537)),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }
}
