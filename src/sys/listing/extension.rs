//! Matches and targets of iptables, which nf_tables carries as they are, in the words of `iptables-save`.
//!
//! Layouts: `linux/netfilter/xt_*.h`, as a 64-bit kernel has them, in host byte order unless noted. What is longer or
//! shorter than it should be is only named, as are those that are not known here.

use super::field::{address, prefix_length};
use super::nat::{FULLY_RANDOM, PERSISTENT, RANDOM, addresses, bracketed, ports};
use super::{References, until_nul};

const IPV4: u8 = libc::NFPROTO_IPV4 as u8;

/// A match in words.
pub fn matching(name: &str, revision: u32, info: &[u8], family: u8, references: &mut dyn References) -> String {
    let info = Info(info);
    let words = match (name, revision) {
        ("mark" | "connmark", 1) => mark(info),
        ("conntrack", 2 | 3) => conntrack(info, revision, family),
        ("state", 0) => info.u32(0).map(|bits| format!("--state {}", listed(STATES, bits))),
        ("addrtype", 1) => addrtype(info),
        ("multiport", 1) => multiport(info),
        ("set", 1..=4) => set(info, references),
        ("policy", 0) => policy(info),
        ("iprange", 1) => iprange(info, family),
        ("owner", 1) => owner(info),
        ("physdev", 0) => physdev(info),
        ("statistic", 0) => statistic(info),
        ("pkttype", 0) => pkttype(info),
        ("tcp", 0) => tcp(info),
        ("udp", 0) => udp(info),
        ("icmp", 0) => icmp(info, "icmp"),
        ("icmp6", 0) => icmp(info, "icmpv6"),
        _ => None,
    };
    let words = words.as_deref().unwrap_or("…");
    format!("-m {name} {words}").trim_end().to_owned()
}

/// A target in words, as after `-j`.
pub fn target(name: &str, revision: u32, info: &[u8], family: u8) -> String {
    let known = Info(info);
    let words = match (name, revision) {
        ("MASQUERADE" | "REDIRECT", 0) => translated(known, "--to-ports", family),
        ("SNAT", 0..=2) => translated(known, "--to-source", family),
        ("DNAT", 0..=2) => translated(known, "--to-destination", family),
        ("NETMAP", 0) => translated(known, "--to", family),
        ("MARK", 2) => mark_set(known),
        ("CONNMARK", 1 | 2) => connmark_set(known, revision),
        // `struct xt_ct_target_info` begins with its flags; the other ones are for what is tracked.
        ("CT", 0..=2) => known.u8(0).filter(|flags| flags & 1 != 0).map(|_| "--notrack".to_owned()),
        _ if info.is_empty() => Some(String::new()),
        _ => None,
    };
    match words.as_deref() {
        Some("") => name.to_owned(),
        Some(words) => format!("{name} {words}"),
        None => format!("{name} …"),
    }
}

/// The bytes of a match or target, read at their places.
#[derive(Clone, Copy)]
struct Info<'a>(&'a [u8]);

impl<'a> Info<'a> {
    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    /// `union nf_inet_addr`: sixteen bytes, of which IPv4 has the first four.
    fn address(self, at: usize, family: u8) -> Option<&'a [u8]> {
        self.0.get(at..at + 16).map(|bytes| if family == IPV4 { &bytes[..4] } else { bytes })
    }
}

fn not(inverted: bool) -> &'static str {
    if inverted { "! " } else { "" }
}

fn listed(names: &[(u32, &str)], bits: u32) -> String {
    let known = names.iter().fold(0, |all, (bit, _)| all | bit);
    let unknown = (bits & !known != 0 || bits == 0).then_some("…");
    let set = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    set.chain(unknown).collect::<Vec<_>>().join(",")
}

/// `struct xt_mark_mtinfo1`, which `xt_connmark_mtinfo1` equals.
fn mark(info: Info<'_>) -> Option<String> {
    let (mark, mask, invert) = (info.u32(0)?, info.u32(4)?, info.u8(8)? != 0);
    Some(format!("{}--mark {}", not(invert), masked(mark, mask)))
}

fn masked(value: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{value:#x}") } else { format!("{value:#x}/{mask:#x}") }
}

const STATES: &[(u32, &str)] = &[
    (1 << 0, "INVALID"),
    (1 << 3, "NEW"),
    (1 << 2, "RELATED"),
    (1 << 1, "ESTABLISHED"),
    (1 << 8, "UNTRACKED"),
    (1 << 6, "SNAT"),
    (1 << 7, "DNAT"),
];
const STATUS: &[(u32, &str)] = &[(1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED")];

/// `struct xt_conntrack_mtinfo3`. Revision 2 has the ports in network byte order and no ranges of them.
fn conntrack(info: Info<'_>, revision: u32, family: u8) -> Option<String> {
    const DIRECTION: u16 = 1 << 12;
    const EXPIRES: u16 = 1 << 7;
    let (matched, inverted) = (info.u16(146)?, info.u16(148)?);
    let mut words = Vec::new();
    let mut say = |flag: u16, option: &str, value: &dyn Fn() -> Option<String>| {
        if matched & flag != 0 {
            words.push(format!("{}--{option} {}", not(inverted & flag != 0), value()?));
        }
        Some(())
    };
    say(1 << 0, "ctstate", &|| Some(listed(STATES, info.u16(150)?.into())))?;
    say(1 << 1, "ctproto", &|| Some(info.u16(136)?.to_string()))?;
    for (flag, option, at) in
        [(1 << 2, "ctorigsrc", 0), (1 << 3, "ctorigdst", 32), (1 << 4, "ctreplsrc", 64), (1 << 5, "ctrepldst", 96)]
    {
        say(flag, option, &|| network(info.address(at, family)?, info.address(at + 16, family)?))?;
    }
    for (flag, option, at) in [
        (1 << 8, "ctorigsrcport", 0),
        (1 << 9, "ctorigdstport", 2),
        (1 << 10, "ctreplsrcport", 4),
        (1 << 11, "ctrepldstport", 6),
    ] {
        say(flag, option, &|| {
            if revision == 2 {
                return info.bytes(138 + at).map(|port| u16::from_be_bytes(port).to_string());
            }
            let (first, last) = (info.u16(138 + at)?, info.u16(154 + at)?);
            Some(if first == last { first.to_string() } else { format!("{first}:{last}") })
        })?;
    }
    say(1 << 6, "ctstatus", &|| Some(listed(STATUS, info.u16(152)?.into())))?;
    say(EXPIRES, "ctexpire", &|| Some("…".to_owned()))?;
    if matched & DIRECTION != 0 {
        let direction = if inverted & DIRECTION != 0 { "REPLY" } else { "ORIGINAL" };
        words.push(format!("--ctdir {direction}"));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

fn network(network: &[u8], mask: &[u8]) -> Option<String> {
    let (network, length) = (address(network)?, prefix_length(mask));
    Some(match length {
        Some(length) if length == 8 * mask.len() => network,
        Some(length) => format!("{network}/{length}"),
        None => format!("{network}/{}", address(mask)?),
    })
}

const ADDRESS_TYPES: &[(u32, &str)] = &[
    (1 << 0, "UNSPEC"),
    (1 << 1, "UNICAST"),
    (1 << 2, "LOCAL"),
    (1 << 3, "BROADCAST"),
    (1 << 4, "ANYCAST"),
    (1 << 5, "MULTICAST"),
    (1 << 6, "BLACKHOLE"),
    (1 << 7, "UNREACHABLE"),
    (1 << 8, "PROHIBIT"),
    (1 << 9, "THROW"),
    (1 << 10, "NAT"),
    (1 << 11, "XRESOLVE"),
];

/// `struct xt_addrtype_info_v1`.
fn addrtype(info: Info<'_>) -> Option<String> {
    let (source, destination, flags) = (info.u16(0)?, info.u16(2)?, info.u32(4)?);
    let mut words = Vec::new();
    if source != 0 {
        words.push(format!("{}--src-type {}", not(flags & 1 != 0), listed(ADDRESS_TYPES, source.into())));
    }
    if destination != 0 {
        words.push(format!("{}--dst-type {}", not(flags & 2 != 0), listed(ADDRESS_TYPES, destination.into())));
    }
    words.extend((flags & 4 != 0).then(|| "--limit-iface-in".to_owned()));
    words.extend((flags & 8 != 0).then(|| "--limit-iface-out".to_owned()));
    Some(words.join(" "))
}

/// `struct xt_multiport_v1`.
fn multiport(info: Info<'_>) -> Option<String> {
    let (count, invert) = (usize::from(info.u8(1)?).min(15), info.u8(47)? != 0);
    let option = ["--sports", "--dports", "--ports"].get(usize::from(info.u8(0)?))?;
    let mut text = String::new();
    for place in 0..count {
        let begins_range = info.u8(32 + place)? != 0;
        text += &info.u16(2 + 2 * place)?.to_string();
        text += if begins_range { ":" } else { "," };
    }
    Some(format!("{}{option} {}", not(invert), text.trim_end_matches(',')))
}

/// `struct xt_set_info`: bit 0 of the flags inverts, each further one is a dimension's direction.
fn set(info: Info<'_>, references: &mut dyn References) -> Option<String> {
    let (index, dimensions, flags) = (info.u16(0)?, info.u8(2)?, info.u8(3)?);
    let directions: Vec<&str> =
        (1..=dimensions.min(6)).map(|dimension| if flags & 1 << dimension == 0 { "dst" } else { "src" }).collect();
    let name = references.ipset(index).unwrap_or_else(|| "…".to_owned());
    Some(format!("{}--match-set {name} {}", not(flags & 1 != 0), directions.join(",")))
}

/// `struct xt_policy_info`: four elements of 76 bytes, then the flags and how many elements there are.
fn policy(info: Info<'_>) -> Option<String> {
    let (flags, count) = (info.u16(304)?, info.u16(306)?);
    let direction = if flags & 1 != 0 { "in" } else { "out" };
    let kind = if flags & 4 != 0 { "none" } else { "ipsec" };
    let strict = if flags & 8 != 0 { " --strict" } else { "" };
    // What the elements ask for, `struct xt_policy_spec`, is five bits and more of each.
    let asked = (0..usize::from(count).min(4)).any(|element| info.u8(76 * element + 74).is_none_or(|bits| bits != 0));
    let more = if asked { " …" } else { "" };
    Some(format!("--dir {direction} --pol {kind}{strict}{more}"))
}

/// `struct xt_iprange_mtinfo`.
fn iprange(info: Info<'_>, family: u8) -> Option<String> {
    let flags = info.u8(64)?;
    let mut words = Vec::new();
    for (flag, inverted, option, at) in [(1, 16, "--src-range", 0), (2, 32, "--dst-range", 32)] {
        if flags & flag != 0 {
            let (first, last) = (address(info.address(at, family)?)?, address(info.address(at + 16, family)?)?);
            words.push(format!("{}{option} {first}-{last}", not(flags & inverted != 0)));
        }
    }
    Some(words.join(" "))
}

/// `struct xt_owner_match_info`.
fn owner(info: Info<'_>) -> Option<String> {
    let (matched, inverted) = (info.u8(16)?, info.u8(17)?);
    let mut words = Vec::new();
    if matched & 4 != 0 {
        words.push(format!("{}--socket-exists", not(inverted & 4 != 0)));
    }
    for (flag, option, at) in [(1, "--uid-owner", 0), (2, "--gid-owner", 8)] {
        if matched & flag != 0 {
            let (first, last) = (info.u32(at)?, info.u32(at + 4)?);
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            words.push(format!("{}{option} {range}", not(inverted & flag != 0)));
        }
    }
    words.extend((matched & 8 != 0).then(|| "--suppl-groups".to_owned()));
    Some(words.join(" "))
}

/// `struct xt_physdev_info`: two names with masks, what is inverted, what is matched.
fn physdev(info: Info<'_>) -> Option<String> {
    let (inverted, matched) = (info.u8(64)?, info.u8(65)?);
    let mut words = Vec::new();
    let mut say = |flag: u8, option: String| {
        if matched & flag != 0 {
            words.push(format!("{}{option}", not(inverted & flag != 0)));
        }
    };
    // A mask that ends with the name means all names that begin so.
    let device = |at: usize| {
        let [name, mask] = [info.0.get(at..at + 16)?, info.0.get(at + 16..at + 32)?];
        let [length, masked] = [name, mask].map(|bytes| bytes.iter().take_while(|byte| **byte != 0).count());
        let any = if masked == length && length < 15 { "+" } else { "" };
        Some(format!("{}{any}", until_nul(name)))
    };
    say(1, format!("--physdev-in {}", device(0)?));
    say(8, "--physdev-is-in".to_owned());
    say(2, format!("--physdev-out {}", device(32)?));
    say(16, "--physdev-is-out".to_owned());
    say(4, "--physdev-is-bridged".to_owned());
    Some(words.join(" "))
}

/// `struct xt_statistic_info`: the nth of every so many, of which the kernel keeps one less, or a part of 2^31.
fn statistic(info: Info<'_>) -> Option<String> {
    let not = not(info.u16(2)? & 1 != 0);
    Some(match info.u16(0)? {
        0 => format!("--mode random {not}--probability {:.11}", f64::from(info.u32(4)?) / f64::from(1_u32 << 31)),
        1 => format!("--mode nth {not}--every {} --packet {}", u64::from(info.u32(4)?) + 1, info.u32(8)?),
        _ => return None,
    })
}

/// `struct xt_pkttype_info`.
fn pkttype(info: Info<'_>) -> Option<String> {
    let kind = ["unicast", "broadcast", "multicast"].get(info.u32(0)? as usize)?;
    Some(format!("{}--pkt-type {kind}", not(info.u32(4)? != 0)))
}

fn port_option(option: &str, first: u16, last: u16, inverted: bool) -> Option<String> {
    let range = if first == last { first.to_string() } else { format!("{first}:{last}") };
    let is_any = (first, last) == (0, u16::MAX) && !inverted;
    (!is_any).then(|| format!("{}{option} {range}", not(inverted)))
}

/// What `struct xt_tcp` and `struct xt_udp` begin with.
fn transport_ports(info: Info<'_>, inverted: u8) -> Option<Vec<String>> {
    let source = port_option("--sport", info.u16(0)?, info.u16(2)?, inverted & 1 != 0);
    let destination = port_option("--dport", info.u16(4)?, info.u16(6)?, inverted & 2 != 0);
    Some(source.into_iter().chain(destination).collect())
}

/// `struct xt_tcp`: iptables before 1.8.8 wrote it where newer ones write expressions of nf_tables.
fn tcp(info: Info<'_>) -> Option<String> {
    const FLAGS: &[(u32, &str)] = &[(1, "FIN"), (2, "SYN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG")];
    let (option, mask, compared, inverted) = (info.u8(8)?, info.u8(9)?, info.u8(10)?, info.u8(11)?);
    let mut words = transport_ports(info, inverted)?;
    if mask != 0 || inverted & 4 != 0 {
        let named = |bits: u8| if bits == 0 { "NONE".to_owned() } else { listed(FLAGS, bits.into()) };
        words.push(format!("{}--tcp-flags {} {}", not(inverted & 4 != 0), named(mask), named(compared)));
    }
    if option != 0 || inverted & 8 != 0 {
        words.push(format!("{}--tcp-option {option}", not(inverted & 8 != 0)));
    }
    Some(words.join(" "))
}

/// `struct xt_udp`.
fn udp(info: Info<'_>) -> Option<String> {
    Some(transport_ports(info, info.u8(8)?)?.join(" "))
}

/// `struct ipt_icmp` and `struct ip6t_icmp`: a type, a range of codes, inverted.
fn icmp(info: Info<'_>, option: &str) -> Option<String> {
    let (kind, first, last, not) = (info.u8(0)?, info.u8(1)?, info.u8(2)?, not(info.u8(3)? != 0));
    Some(match (kind, first, last) {
        (0xff, ..) => format!("{not}--{option}-type any"),
        (_, 0, 0xff) => format!("{not}--{option}-type {kind}"),
        (_, first, last) if first == last => format!("{not}--{option}-type {kind}/{first}"),
        (_, first, last) => format!("{not}--{option}-type {kind}/{first}-{last}"),
    })
}

/// `struct nf_nat_ipv4_multi_range_compat` (with its one range), or the longer `struct nf_nat_range` and
/// `struct nf_nat_range2`.
fn translated(info: Info<'_>, option: &str, family: u8) -> Option<String> {
    let (flags, first, last, port) = if info.0.len() < 40 {
        (info.u32(4)?, info.0.get(8..12)?, info.0.get(12..16)?, 16)
    } else {
        (info.u32(0)?, info.address(4, family)?, info.address(20, family)?, 36)
    };
    let is_netmap = option == "--to";
    let has_addresses = flags & 1 != 0 || is_netmap;
    let hosts = if has_addresses { addresses(first, last, is_netmap) } else { String::new() };
    let target = if flags & 2 == 0 {
        hosts
    } else {
        let ports = ports(info.0.get(port..port + 2)?, info.0.get(port + 2..port + 4)?);
        match option {
            "--to-ports" => ports,
            _ if has_addresses && family != IPV4 => format!("{}:{ports}", bracketed(&hosts)),
            _ => format!("{hosts}:{ports}"),
        }
    };
    let mut words = if target.is_empty() { Vec::new() } else { vec![format!("{option} {target}")] };
    for (flag, word) in [(RANDOM, "--random"), (FULLY_RANDOM, "--random-fully"), (PERSISTENT, "--persistent")] {
        words.extend((flags & flag != 0).then(|| word.to_owned()));
    }
    Some(words.join(" "))
}

/// `struct xt_mark_tginfo2`.
fn mark_set(info: Info<'_>) -> Option<String> {
    Some(format!("--set-xmark {:#x}/{:#x}", info.u32(0)?, info.u32(4)?))
}

/// `struct xt_connmark_tginfo1`; `xt_connmark_tginfo2` may shift as well.
fn connmark_set(info: Info<'_>, revision: u32) -> Option<String> {
    let (mark, mask, packet_mask) = (info.u32(0)?, info.u32(4)?, info.u32(8)?);
    let mode = match revision {
        1 => info.u8(12)?,
        _ if info.u8(13)? != 0 => return None,
        _ => info.u8(14)?,
    };
    Some(match mode {
        0 => format!("--set-xmark {mark:#x}/{mask:#x}"),
        1 => format!("--save-mark --nfmask {packet_mask:#x} --ctmask {mask:#x}"),
        2 => format!("--restore-mark --nfmask {packet_mask:#x} --ctmask {mask:#x}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ports: [u16; 4], rest: &[u8]) -> Vec<u8> {
        ports.into_iter().flat_map(u16::to_ne_bytes).chain(rest.iter().copied()).collect()
    }

    #[test]
    fn the_ports_of_an_older_iptables_are_read_too() {
        let words = |name, info: &[u8]| matching(name, 0, info, IPV4, &mut ());
        let any = [0, u16::MAX];
        assert_eq!(
            words("tcp", &bytes([any[0], any[1], 25, 30], &[0, 0x17, 2, 0])),
            "-m tcp --dport 25:30 --tcp-flags FIN,SYN,RST,ACK SYN"
        );
        assert_eq!(words("tcp", &bytes([25, 25, any[0], any[1]], &[0, 0, 0, 1])), "-m tcp ! --sport 25");
        assert_eq!(words("udp", &bytes([any[0], any[1], 53, 53], &[2, 0])), "-m udp ! --dport 53");
        assert_eq!(words("state", &8_u32.to_ne_bytes()), "-m state --state NEW");
    }

    #[test]
    fn what_is_too_short_or_of_another_revision_is_only_named() {
        for name in ["mark", "conntrack", "addrtype", "multiport", "set", "policy", "iprange", "owner", "statistic"] {
            for revision in 0..5 {
                assert_eq!(matching(name, revision, &[1], IPV4, &mut ()), format!("-m {name} …"));
            }
        }
        for name in ["MASQUERADE", "SNAT", "NETMAP", "MARK", "CONNMARK", "OTHER"] {
            assert_eq!(target(name, 1, &[0; 3], IPV4), format!("{name} …"));
        }
        assert_eq!(target("TRACE", 0, &[], IPV4), "TRACE");
    }
}
