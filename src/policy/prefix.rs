//! Address prefixes: strict to read, impossible to misalign, aggregated before the kernel sees them.

use super::address::number;
use super::{Family, Origin, WithOrigin};
use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::OnceLock;

/// A network prefix whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Prefix(IpNet);

/// Why a text is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixError {
    Empty,
    /// White space in or around it.
    Space,
    /// `10.0.0.0` where `10.0.0.0/8` was wanted; carries the single-address prefix.
    NoLength(Prefix),
    /// `10.0.0.0/255.0.0.0`; carries the same as a prefix when the mask is one.
    Netmask(Option<Prefix>),
    /// `010.0.0.0/8` or `10.0.0.0/08`: octal to some readers, decimal to others.
    LeadingZero,
    /// The length is no number, or too large for the family.
    Length {
        text: String,
        /// The largest length of the family, in bits.
        max: u8,
    },
    /// `fe80::1%eth0/64`.
    Zone,
    /// `::ffff:10.0.0.0/104`; carries the IPv4 prefix that was probably meant.
    Mapped(Option<Prefix>),
    /// Bits right of the prefix length are set; carries the network that was probably meant.
    HostBits(Prefix),
    /// Not an address at all.
    Address,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::Empty => f.write_str("empty text is not a CIDR"),
            PrefixError::Space => f.write_str("white space in a CIDR"),
            PrefixError::NoLength(_) => f.write_str("no prefix length"),
            PrefixError::Netmask(_) => f.write_str("a netmask where a prefix length belongs"),
            PrefixError::LeadingZero => f.write_str("leading zeros in a CIDR"),
            PrefixError::Length { text, max } => write!(f, "prefix length '{text}' is not between 0 and {max}"),
            PrefixError::Zone => f.write_str("a zone id in a CIDR"),
            PrefixError::Mapped(_) => f.write_str("an IPv4-mapped IPv6 prefix"),
            PrefixError::HostBits(_) => f.write_str("host bits are set"),
            PrefixError::Address => f.write_str("not an IPv4 or IPv6 prefix"),
        }
    }
}

impl std::error::Error for PrefixError {}

impl PrefixError {
    /// The prefix that was probably meant.
    pub fn suggestion(&self) -> Option<Prefix> {
        match self {
            PrefixError::NoLength(prefix) | PrefixError::HostBits(prefix) => Some(*prefix),
            PrefixError::Netmask(prefix) | PrefixError::Mapped(prefix) => *prefix,
            _ => None,
        }
    }
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` when the length is too large for the family.
    pub fn containing(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Prefix(net.trunc()))
    }

    /// The prefix of one address.
    pub fn of(address: IpAddr) -> Self {
        Prefix(address.into())
    }

    pub fn family(self) -> Family {
        Family::of(self.0.addr())
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        self.0.broadcast()
    }

    /// The first and the last address as numbers.
    pub fn numbers(self) -> (u128, u128) {
        (number(self.address()), number(self.last()))
    }

    /// The fewest prefixes that hold the addresses of a family from one number to another and no others.
    pub fn between(first: u128, last: u128, family: Family) -> Vec<Self> {
        let v4 = |number: u128| Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX));
        match family {
            Family::V4 => Ipv4Subnets::new(v4(first), v4(last), 0).map(|net| Prefix(IpNet::V4(net))).collect(),
            Family::V6 => {
                let nets = Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0);
                nets.map(|net| Prefix(IpNet::V6(net))).collect()
            }
        }
    }

    /// True when some address is in both.
    pub fn touches(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// True when the address lies in it; false for an address of the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `a.b.c.d/len` or `x::y/len`, and nothing that two programs could read differently.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        if text.is_empty() {
            return Err(PrefixError::Empty);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(PrefixError::Space);
        }
        let (address_text, length_text) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        if address_text.contains('%') {
            return Err(PrefixError::Zone);
        }
        let address = parse_address(address_text)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let Some(length_text) = length_text else {
            return Err(Prefix::containing(address, max).map_or(PrefixError::Address, PrefixError::NoLength));
        };
        let length = parse_length(length_text, max).map_err(|error| match length_text.parse::<IpAddr>() {
            Ok(mask) => {
                let length = ipnet::ip_mask_to_prefix(mask).ok();
                PrefixError::Netmask(length.and_then(|length| Prefix::containing(address, length)))
            }
            Err(_) => error,
        })?;
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            let prefix = length.checked_sub(96).and_then(|length| Prefix::containing(v4.into(), length));
            return Err(PrefixError::Mapped(prefix));
        }
        let net = IpNet::new(address, length).map_err(|_| PrefixError::Address)?;
        match net.trunc() {
            trunc if trunc == net => Ok(Prefix(net)),
            trunc => Err(PrefixError::HostBits(Prefix(trunc))),
        }
    }
}

fn parse_address(text: &str) -> Result<IpAddr, PrefixError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let dotted = text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok());
    Err(if dotted { PrefixError::LeadingZero } else { PrefixError::Address })
}

fn parse_length(text: &str, max: u8) -> Result<u8, PrefixError> {
    let wrong = || PrefixError::Length { text: text.to_owned(), max };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(PrefixError::LeadingZero);
    }
    text.parse::<u8>().ok().filter(|length| *length <= max).ok_or_else(wrong)
}

/// A list of prefixes as it was written, and the same addresses in as few prefixes as possible, per family.
///
/// Aggregation changes no address's membership. An aggregated prefix stands where the first of the written
/// prefixes that it covers stood, so a short list renders in the order of the file, as the Go agent's does.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<WithOrigin<Prefix>>", into = "Vec<WithOrigin<Prefix>>")]
pub struct PrefixSet {
    entries: Vec<WithOrigin<Prefix>>,
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
    /// Made when it is first needed.
    index: OnceLock<Index>,
}

/// Where the entries are, by prefix.
#[derive(Debug, Clone)]
struct Index {
    /// Their places, in the order of their prefixes; equals in the order of the file.
    places: Vec<u32>,
    /// The lengths that occur, the longest first.
    lengths: Vec<(Family, u8)>,
}

impl Index {
    fn of(entries: &[WithOrigin<Prefix>]) -> Self {
        let mut places: Vec<u32> = (0..entries.len() as u32).collect();
        places.sort_by_key(|place| entries[*place as usize].value);
        let lengths: BTreeSet<_> = entries.iter().map(|entry| (entry.value.family(), entry.value.length())).collect();
        Index { places, lengths: lengths.into_iter().rev().collect() }
    }
}

impl PartialEq for PrefixSet {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl From<Vec<WithOrigin<Prefix>>> for PrefixSet {
    fn from(entries: Vec<WithOrigin<Prefix>>) -> Self {
        PrefixSet::new(entries)
    }
}

impl From<PrefixSet> for Vec<WithOrigin<Prefix>> {
    fn from(set: PrefixSet) -> Self {
        set.entries
    }
}

impl PrefixSet {
    /// Keeps the list and aggregates it.
    pub fn new(entries: Vec<WithOrigin<Prefix>>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for entry in &entries {
            match entry.value.0 {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        PrefixSet { entries, v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6), index: OnceLock::new() }
    }

    /// The same, from bare prefixes that all came from one place.
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = Prefix>, origin: &Origin) -> Self {
        PrefixSet::new(prefixes.into_iter().map(|value| WithOrigin { value, origin: origin.clone() }).collect())
    }

    /// True when nothing was listed, in either family.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was written, in its order.
    pub fn entries(&self) -> &[WithOrigin<Prefix>] {
        &self.entries
    }

    /// How many prefixes a family's aggregated list has.
    pub fn len(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.len(),
            Family::V6 => self.v6.len(),
        }
    }

    /// The aggregated list of a family, sorted by address, no two touching.
    pub fn sorted(&self, family: Family) -> Vec<Prefix> {
        match family {
            Family::V4 => self.v4.iter().map(|net| Prefix(IpNet::V4(*net))).collect(),
            Family::V6 => self.v6.iter().map(|net| Prefix(IpNet::V6(*net))).collect(),
        }
    }

    /// The aggregated list of a family, each prefix where the first it covers was written.
    pub fn written_order(&self, family: Family) -> Vec<Prefix> {
        let written = self.entries.iter().map(|entry| entry.value).filter(|prefix| prefix.family() == family);
        if written.clone().count() == self.len(family) {
            // As many as were written: none was joined with another one. Most long lists are so, and 100,000 take
            // 5 ms the other way.
            return written.collect();
        }
        let sorted = self.sorted(family);
        let mut first = vec![usize::MAX; sorted.len()];
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.value.family() != family {
                continue;
            }
            let place = sorted.partition_point(|prefix| prefix.address() <= entry.value.address()) - 1;
            first[place] = first[place].min(index);
        }
        let mut order: Vec<usize> = (0..sorted.len()).collect();
        order.sort_by_key(|place| first[*place]);
        order.into_iter().map(|place| sorted[place]).collect()
    }

    /// The listed prefixes that hold one of the addresses.
    #[must_use]
    pub fn holding(&self, addresses: &[IpAddr]) -> PrefixSet {
        let listed: Vec<IpAddr> = addresses.iter().copied().filter(|address| self.contains(*address)).collect();
        if listed.is_empty() {
            return PrefixSet::default();
        }
        let holds = |entry: &&WithOrigin<Prefix>| listed.iter().any(|address| entry.value.contains(*address));
        PrefixSet::new(self.entries.iter().filter(holds).cloned().collect())
    }

    /// True when some listed prefix holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => holds(&self.v4, |net| net.network() <= address, |net| net.contains(&address)),
            IpAddr::V6(address) => holds(&self.v6, |net| net.network() <= address, |net| net.contains(&address)),
        }
    }

    /// True when every address of the prefix is in some listed prefix.
    pub fn covers(&self, prefix: Prefix) -> bool {
        match prefix.0 {
            IpNet::V4(inner) => holds(&self.v4, |net| net.network() <= inner.network(), |net| net.contains(&inner)),
            IpNet::V6(inner) => holds(&self.v6, |net| net.network() <= inner.network(), |net| net.contains(&inner)),
        }
    }

    /// The most specific listed prefix that holds the address; of equals, the first.
    pub fn find(&self, address: IpAddr) -> Option<&WithOrigin<Prefix>> {
        if !self.contains(address) {
            return None;
        }
        let index = self.index.get_or_init(|| Index::of(&self.entries));
        let entry = |place: &u32| &self.entries[*place as usize];
        let lengths = index.lengths.iter().filter(|(family, _)| *family == Family::of(address));
        lengths.filter_map(|(_, length)| Prefix::containing(address, *length)).find_map(|prefix| {
            let at = index.places.partition_point(|place| entry(place).value < prefix);
            index.places.get(at).map(entry).filter(|entry| entry.value == prefix)
        })
    }
}

/// Looks in a sorted list without overlaps for the one net that may hold the address.
fn holds<N>(sorted: &[N], starts_before: impl Fn(&N) -> bool, contains: impl Fn(&N) -> bool) -> bool {
    let after = sorted.partition_point(starts_before);
    after > 0 && contains(&sorted[after - 1])
}

/// The three private ranges of RFC 1918, exempt unless a file says otherwise.
pub const PRIVATE_RANGES: [Prefix; 3] = [v4(10, 0, 0, 0, 8), v4(172, 16, 0, 0, 12), v4(192, 168, 0, 0, 16)];

/// The eleven ranges of `nomasqAllReservedRanges`: RFC 1918, 6598, 6890, 5737, 7526, 2544 and 1112.
pub const RESERVED_RANGES: [Prefix; 11] = [
    PRIVATE_RANGES[0],
    PRIVATE_RANGES[1],
    PRIVATE_RANGES[2],
    v4(100, 64, 0, 0, 10),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(240, 0, 0, 0, 4),
];

/// Every IPv4 address.
pub const WHOLE_V4: Prefix = v4(0, 0, 0, 0, 0);
/// Every IPv6 address.
pub const WHOLE_V6: Prefix = v6(0, 0);
/// 127.0.0.0/8, RFC 1122.
pub const LOOPBACK_V4: Prefix = v4(127, 0, 0, 0, 8);
/// ::1/128, RFC 4291.
pub const LOOPBACK_V6: Prefix = Prefix(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)));
/// 169.254.0.0/16, RFC 3927.
pub const LINK_LOCAL_V4: Prefix = v4(169, 254, 0, 0, 16);
/// fe80::/10, RFC 4291.
pub const LINK_LOCAL_V6: Prefix = v6(0xfe80, 10);
/// 224.0.0.0/4, RFC 5771.
pub const MULTICAST_V4: Prefix = v4(224, 0, 0, 0, 4);
/// 255.255.255.255/32, RFC 919.
pub const LIMITED_BROADCAST: Prefix = v4(255, 255, 255, 255, 32);
/// ff00::/8, RFC 4291.
pub const MULTICAST_V6: Prefix = v6(0xff00, 8);

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Prefix {
    Prefix(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)))
}

const fn v6(first: u16, length: u8) -> Prefix {
    Prefix(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> PrefixSet {
        PrefixSet::from_prefixes(prefixes.iter().map(|text| text.parse().unwrap()), &Origin::Default)
    }

    #[test]
    fn strict_reading_refuses_what_two_programs_read_differently() {
        let cases = [
            ("", PrefixError::Empty),
            (" 10.0.0.0/8", PrefixError::Space),
            ("10.0.0.0", PrefixError::NoLength("10.0.0.0/32".parse().unwrap())),
            ("10.0.0.0/255.0.0.0", PrefixError::Netmask("10.0.0.0/8".parse().ok())),
            ("10.0.0.0/255.0.255.0", PrefixError::Netmask(None)),
            ("010.0.0.0/8", PrefixError::LeadingZero),
            ("10.0.0.0/08", PrefixError::LeadingZero),
            ("10.0.0.0/33", PrefixError::Length { text: "33".into(), max: 32 }),
            ("10.0.0.0/-1", PrefixError::Length { text: "-1".into(), max: 32 }),
            ("10.0.0.0/+8", PrefixError::Length { text: "+8".into(), max: 32 }),
            ("10.0.0.0/", PrefixError::Length { text: String::new(), max: 32 }),
            ("fe80::1%eth0/64", PrefixError::Zone),
            ("::ffff:10.0.0.0/104", PrefixError::Mapped("10.0.0.0/8".parse().ok())),
            ("10.0.0.1/8", PrefixError::HostBits("10.0.0.0/8".parse().unwrap())),
            ("10/8", PrefixError::Address),
            ("example/8", PrefixError::Address),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "10.1.2.3/32", "2001:db8::/32", "2001:DB8::/32"] {
            assert!(text.parse::<Prefix>().is_ok(), "{text}");
        }
    }

    #[test]
    fn aggregation_keeps_the_written_order_of_what_it_keeps() {
        let set = set(&["192.168.0.0/16", "10.128.0.0/9", "10.0.0.0/9", "192.168.4.0/24", "192.168.0.0/16"]);
        let shown: Vec<String> = set.written_order(Family::V4).iter().map(Prefix::to_string).collect();
        assert_eq!(shown, ["192.168.0.0/16", "10.0.0.0/8"]);
        let apart = ["192.168.0.0/24", "10.2.0.0/15", "10.1.0.0/16", "192.168.2.0/24"];
        let mixed = self::set(&[apart.as_slice(), &["2001:db8::/32"]].concat());
        let shown: Vec<String> = mixed.written_order(Family::V4).iter().map(Prefix::to_string).collect();
        assert_eq!(shown, apart);
    }

    #[test]
    fn the_most_specific_line_is_named() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16"]);
        assert_eq!(set.find("10.1.2.3".parse().unwrap()).map(|e| e.value.to_string()), Some("10.1.0.0/16".into()));
        assert!(set.find("11.0.0.0".parse().unwrap()).is_none());
        let twice = self::set(&["fd00::/8", "10.3.0.0/16", "10.1.0.0/16", "10.0.0.0/8", "10.1.0.0/16"]);
        let found = twice.find("10.1.2.3".parse().unwrap()).unwrap();
        assert!(std::ptr::eq(found, &twice.entries()[2]), "of equals the first");
        assert_eq!(twice.find("10.2.0.1".parse().unwrap()).map(|e| e.value.to_string()), Some("10.0.0.0/8".into()));
        assert!(!set.contains("::1".parse().unwrap()));
        assert!(set.covers("10.2.0.0/15".parse().unwrap()) && !set.covers("10.0.0.0/7".parse().unwrap()));
    }
}
