//! Rules of ours to expressions, and back.
//!
//! The expressions are those that nft 1.0.6 makes of the same text, so that `nft list` shows our text again and a
//! table that was saved and loaded by nft is still the table that we wrote.

use super::expression::{Base, Comparison, Expression, Register};
use crate::backend::nftables::rules::interval::{self, Interval};
use crate::backend::nftables::rules::name::{ChainName, SetName};
use crate::backend::nftables::rules::rule::{Action, Body, FibAddress, Match, Rule, Side};
use crate::policy::{Family, PortRange, Prefix, Protocol};
use crate::sys::nfnetlink::nfproto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// NFTA_FIB_F_* of linux/netfilter/nf_tables.h.
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_OIF: u32 = 16;
/// NFT_META_OIFKIND, Linux 5.1; not in libc.
const META_OIFKIND: u32 = 27;
/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// NF_NAT_RANGE_PROTO_SPECIFIED and NF_NAT_RANGE_PROTO_RANDOM_FULLY of linux/netfilter/nf_nat.h.
const RANGE_PORTS: u32 = 1 << 1;
const RANGE_RANDOM_FULLY: u32 = 1 << 4;
/// FIN, SYN, RST and ACK in byte 13 of a TCP header (RFC 9293 §3.1), and SYN alone.
/// ETH_ALEN: with the destination the header of a frame begins.
const MAC_ADDRESS: usize = 6;
const TCP_FLAGS: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const TCP_FLAGS_OFFSET: u32 = 13;
/// Length of an interface name or kind in a register (IFNAMSIZ).
const NAME_LENGTH: usize = 16;

/// The expressions of a rule; none for a rule that we never write.
pub fn to_expressions(rule: &Rule) -> Vec<Expression> {
    let Body::Known(matches, action) = &rule.body else { return Vec::new() };
    let mut out = Vec::new();
    matches.iter().for_each(|one| write_match(one, &mut out));
    out.push(Expression::Counter(0));
    write_action(action, &mut out);
    out
}

/// The rule that expressions stand for; [`Body::Unknown`] when they are not exactly what one of our rules becomes.
pub fn to_body(expressions: &[Expression]) -> Body {
    read_rule(expressions)
        .unwrap_or_else(|| Body::Unknown(expressions.iter().map(Expression::name).collect::<Vec<_>>().join(" ")))
}

fn write_match(one: &Match, out: &mut Vec<Expression>) {
    match one {
        Match::Family(family) => write_family(*family, out),
        Match::Local(address, local) => {
            let comparison = if *local { Comparison::Equal } else { Comparison::Unequal };
            out.push(Expression::FibType(fib_flags(*address)));
            out.push(Expression::Compare(comparison, LOCAL.to_ne_bytes().to_vec()));
        }
        Match::OutInterface { name, prefix, negated } => {
            let comparison = if *negated { Comparison::Unequal } else { Comparison::Equal };
            let value = if *prefix { name.as_bytes().to_vec() } else { padded(name) };
            out.push(Expression::Meta(libc::NFT_META_OIFNAME as u32));
            out.push(Expression::Compare(comparison, value));
        }
        Match::InSet(side, set, inside) => {
            write_family(set.family, out);
            out.push(load_address(*side, set.family, interval::width(set.family)));
            out.push(Expression::Lookup(set.to_string(), !inside));
        }
        Match::InPrefix(side, prefix) => write_prefix(*side, *prefix, out),
        Match::Protocol(protocol) => write_protocol(*protocol, out),
        Match::NotOpening => {
            write_protocol(Protocol::Tcp, out);
            out.push(Expression::Payload { base: Base::Transport, offset: TCP_FLAGS_OFFSET, length: 1 });
            out.push(Expression::Mask(vec![TCP_FLAGS]));
            out.push(Expression::Compare(Comparison::Unequal, vec![TCP_SYN]));
        }
        Match::ToBridge => {
            out.push(Expression::Meta(libc::NFT_META_IIF as u32));
            out.push(Expression::Compare(Comparison::Equal, vec![0; 4]));
            out.push(Expression::Meta(META_OIFKIND));
            out.push(Expression::Compare(Comparison::Equal, padded("bridge")));
        }
        Match::InFrame => {
            out.push(Expression::Payload { base: Base::Link, offset: 0, length: MAC_ADDRESS as u32 });
            out.push(Expression::Compare(Comparison::Unequal, vec![0; MAC_ADDRESS]));
        }
        Match::Chance { of, below } => {
            out.push(Expression::Random(*of));
            out.push(Expression::HostToNetwork);
            out.push(Expression::Compare(Comparison::Less, below.to_be_bytes().to_vec()));
        }
    }
}

fn write_family(family: Family, out: &mut Vec<Expression>) {
    out.push(Expression::Meta(libc::NFT_META_NFPROTO as u32));
    out.push(Expression::Compare(Comparison::Equal, vec![nfproto(family)]));
}

fn write_protocol(protocol: Protocol, out: &mut Vec<Expression>) {
    out.push(Expression::Meta(libc::NFT_META_L4PROTO as u32));
    out.push(Expression::Compare(Comparison::Equal, vec![protocol_number(protocol)]));
}

/// A prefix of whole bytes is so many bytes; another one is the whole address under a mask.
fn write_prefix(side: Side, prefix: Prefix, out: &mut Vec<Expression>) {
    let (family, length) = (prefix.family(), usize::from(prefix.length()));
    let width = interval::width(family);
    let interval = Interval::of(prefix);
    let first = &interval.first.to_be_bytes()[16 - width..];
    write_family(family, out);
    if length > 0 && length.is_multiple_of(8) {
        out.push(load_address(side, family, length / 8));
        out.push(Expression::Compare(Comparison::Equal, first[..length / 8].to_vec()));
    } else {
        let mask = !(interval.first ^ interval.last);
        out.push(load_address(side, family, width));
        out.push(Expression::Mask(mask.to_be_bytes()[16 - width..].to_vec()));
        out.push(Expression::Compare(Comparison::Equal, first.to_vec()));
    }
}

fn write_action(action: &Action, out: &mut Vec<Expression>) {
    match action {
        Action::Return => out.push(Expression::Verdict(libc::NFT_RETURN, None)),
        Action::Goto(chain) => out.push(Expression::Verdict(libc::NFT_GOTO, Some(chain.to_string()))),
        Action::Masquerade { random_fully, ports } => {
            let random = if *random_fully { RANGE_RANDOM_FULLY } else { 0 };
            let Some(range) = ports else {
                out.push(Expression::Masquerade { flags: random, first: None, last: None });
                return;
            };
            out.push(Expression::Load(Register::One, range.first.to_be_bytes().to_vec()));
            let several = range.first != range.last;
            if several {
                out.push(Expression::Load(Register::Two, range.last.to_be_bytes().to_vec()));
            }
            let last = several.then_some(Register::Two);
            out.push(Expression::Masquerade { flags: random | RANGE_PORTS, first: Some(Register::One), last });
        }
    }
}

fn read_rule(expressions: &[Expression]) -> Option<Body> {
    let (mut matches, mut rest) = (Vec::new(), expressions);
    loop {
        if let [Expression::Counter(_), action @ ..] = rest {
            return read_action(action).map(|action| Body::Known(matches, action));
        }
        let (one, behind) = read_match(rest)?;
        matches.push(one);
        rest = behind;
    }
}

/// The match in front, and the expressions behind it.
fn read_match(expressions: &[Expression]) -> Option<(Match, &[Expression])> {
    use Comparison::{Equal, Less, Unequal};
    use Expression::{Compare, FibType, HostToNetwork, Mask, Meta, Payload, Random};
    Some(match expressions {
        [Meta(key), Compare(Equal, value), rest @ ..] if *key == libc::NFT_META_NFPROTO as u32 => {
            let family = read_family(value)?;
            match read_address(family, rest) {
                Some(found) => found,
                None => (Match::Family(family), rest),
            }
        }
        [Meta(key), Compare(comparison, value), rest @ ..] if *key == libc::NFT_META_OIFNAME as u32 => {
            (read_interface(*comparison, value)?, rest)
        }
        [Meta(iif), Compare(Equal, none), Meta(META_OIFKIND), Compare(Equal, kind), rest @ ..]
            if *iif == libc::NFT_META_IIF as u32 && none == &[0; 4] && *kind == padded("bridge") =>
        {
            (Match::ToBridge, rest)
        }
        [Payload { base: Base::Link, offset: 0, length }, Compare(Unequal, none), rest @ ..]
            if *length == MAC_ADDRESS as u32 && none == &[0; MAC_ADDRESS] =>
        {
            (Match::InFrame, rest)
        }
        [Meta(key), Compare(Equal, value), rest @ ..] if *key == libc::NFT_META_L4PROTO as u32 => {
            let &[number] = value.as_slice() else { return None };
            let protocol = read_protocol(number);
            match rest {
                [
                    Payload { base: Base::Transport, offset: TCP_FLAGS_OFFSET, length: 1 },
                    Mask(mask),
                    Compare(Unequal, flags),
                    rest @ ..,
                ] if protocol == Protocol::Tcp && mask == &[TCP_FLAGS] && flags == &[TCP_SYN] => {
                    (Match::NotOpening, rest)
                }
                _ => (Match::Protocol(protocol), rest),
            }
        }
        [FibType(flags), Compare(comparison @ (Equal | Unequal), value), rest @ ..]
            if *value == LOCAL.to_ne_bytes() =>
        {
            let known = [FibAddress::Destination, FibAddress::Source, FibAddress::SourceOnOutInterface];
            let address = known.into_iter().find(|address| fib_flags(*address) == *flags)?;
            (Match::Local(address, *comparison == Equal), rest)
        }
        [Random(of), HostToNetwork, Compare(Less, below), rest @ ..] => {
            let below = u32::from_be_bytes(below.as_slice().try_into().ok()?);
            (Match::Chance { of: *of, below }, rest)
        }
        _ => return None,
    })
}

/// What looks at an address, behind the match of the family.
fn read_address(family: Family, expressions: &[Expression]) -> Option<(Match, &[Expression])> {
    use Expression::{Compare, Lookup, Mask, Payload};
    let [Payload { base: Base::Network, offset, length }, rest @ ..] = expressions else { return None };
    let side = [Side::Source, Side::Destination].into_iter().find(|side| address_offset(*side, family) == *offset)?;
    let width = interval::width(family);
    let length = *length as usize;
    Some(match rest {
        [Lookup(set, inverted), rest @ ..] if length == width => {
            let set = SetName::parse(set).filter(|set| set.family == family)?;
            (Match::InSet(side, set, !inverted), rest)
        }
        [Mask(mask), Compare(Comparison::Equal, value), rest @ ..] if length == width => {
            let mask = interval::from_bytes(mask, family)?;
            let host = !mask & interval::largest(family);
            let whole = host.checked_add(1).is_none_or(u128::is_power_of_two);
            let prefix = read_prefix(value, width * 8 - host.count_ones() as usize, family).filter(|_| whole)?;
            (Match::InPrefix(side, prefix), rest)
        }
        [Compare(Comparison::Equal, value), rest @ ..] if length == value.len() && length <= width => {
            (Match::InPrefix(side, read_prefix(value, length * 8, family)?), rest)
        }
        _ => return None,
    })
}

/// The prefix of a length whose first bytes these are; `None` when bits behind the length are set.
fn read_prefix(first: &[u8], length: usize, family: Family) -> Option<Prefix> {
    let mut bytes = [0; 16];
    bytes[..first.len().min(16)].copy_from_slice(first.get(..first.len().min(16))?);
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    Prefix::containing(address, u8::try_from(length).ok()?).filter(|prefix| prefix.address() == address)
}

fn read_interface(comparison: Comparison, value: &[u8]) -> Option<Match> {
    let negated = match comparison {
        Comparison::Equal => false,
        Comparison::Unequal => true,
        Comparison::Less => return None,
    };
    let prefix = value.len() < NAME_LENGTH;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let name = std::str::from_utf8(&value[..end]).ok()?.to_owned();
    let nothing_behind = value[end..].iter().all(|byte| *byte == 0) && (!prefix || end == value.len());
    (!name.is_empty() && nothing_behind).then_some(Match::OutInterface { name, prefix, negated })
}

fn read_action(expressions: &[Expression]) -> Option<Action> {
    use Expression::{Load, Masquerade, Verdict};
    let ports = |first: &[u8], last: &[u8]| {
        let (first, last) = (first.try_into().ok()?, last.try_into().ok()?);
        Some(PortRange { first: u16::from_be_bytes(first), last: u16::from_be_bytes(last) })
    };
    let (flags, ports) = match expressions {
        [Verdict(libc::NFT_RETURN, None)] => return Some(Action::Return),
        [Verdict(libc::NFT_GOTO, Some(chain))] => return ChainName::parse(chain).map(Action::Goto),
        [Masquerade { flags, first: None, last: None }] => (*flags, None),
        [Load(Register::One, port), Masquerade { flags, first: Some(Register::One), last: None }] => {
            (*flags, Some(ports(port, port)?))
        }
        [
            Load(Register::One, first),
            Load(Register::Two, last),
            Masquerade { flags, first: Some(Register::One), last: Some(Register::Two) },
        ] => (*flags, Some(ports(first, last)?)),
        _ => return None,
    };
    let random_fully = flags & RANGE_RANDOM_FULLY != 0;
    let expected = if ports.is_some() { RANGE_PORTS } else { 0 };
    (flags & !RANGE_RANDOM_FULLY == expected).then_some(Action::Masquerade { random_fully, ports })
}

fn fib_flags(address: FibAddress) -> u32 {
    match address {
        FibAddress::Destination => FIB_DADDR,
        FibAddress::Source => FIB_SADDR,
        FibAddress::SourceOnOutInterface => FIB_SADDR | FIB_OIF,
    }
}

/// `saddr` and `daddr` of the IPv4 and IPv6 headers (RFC 791, RFC 8200).
fn address_offset(side: Side, family: Family) -> u32 {
    match (family, side) {
        (Family::V4, Side::Source) => 12,
        (Family::V4, Side::Destination) => 16,
        (Family::V6, Side::Source) => 8,
        (Family::V6, Side::Destination) => 24,
    }
}

fn load_address(side: Side, family: Family, length: usize) -> Expression {
    Expression::Payload { base: Base::Network, offset: address_offset(side, family), length: length as u32 }
}

/// A name of at most 15 bytes as the kernel compares it: with zeros up to the length of a name.
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_LENGTH, 0);
    bytes
}

fn read_family(value: &[u8]) -> Option<Family> {
    Family::ALL.into_iter().find(|family| value == [nfproto(*family)])
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
        Protocol::Sctp => libc::IPPROTO_SCTP as u8,
        Protocol::Icmp => libc::IPPROTO_ICMP as u8,
        Protocol::Other(number) => number,
    }
}

fn read_protocol(number: u8) -> Protocol {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    known.into_iter().find(|known| protocol_number(*known) == number).unwrap_or(Protocol::Other(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::GroupKind;
    use proptest::prelude::*;

    fn any_family() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::V4), Just(Family::V6)]
    }

    fn any_match() -> impl Strategy<Value = Match> {
        let side = || prop_oneof![Just(Side::Source), Just(Side::Destination)];
        let address = prop_oneof![
            Just(FibAddress::Destination),
            Just(FibAddress::Source),
            Just(FibAddress::SourceOnOutInterface)
        ];
        let protocol =
            prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp), Just(Protocol::Other(47))];
        let prefix = (any::<u128>(), any_family(), 0_u8..=128).prop_map(|(bits, family, length)| match family {
            Family::V4 => Prefix::containing(Ipv4Addr::from_bits(bits as u32).into(), length % 33).unwrap(),
            Family::V6 => Prefix::containing(Ipv6Addr::from_bits(bits).into(), length).unwrap(),
        });
        prop_oneof![
            any_family().prop_map(Match::Family),
            (address, any::<bool>()).prop_map(|(address, local)| Match::Local(address, local)),
            ("[a-z0-9.@-]{1,15}", any::<bool>(), any::<bool>())
                .prop_map(|(name, prefix, negated)| Match::OutInterface { name, prefix, negated }),
            (side(), proptest::sample::select(GroupKind::ALL.to_vec()), any_family(), any::<[bool; 2]>()).prop_map(
                |(side, kind, family, [second, inside])| Match::InSet(side, SetName { kind, family, second }, inside)
            ),
            (side(), prefix).prop_map(|(side, prefix)| Match::InPrefix(side, prefix)),
            protocol.prop_map(Match::Protocol),
            Just(Match::NotOpening),
            Just(Match::ToBridge),
            Just(Match::InFrame),
            (1_u32..=65535, any::<u32>()).prop_map(|(of, below)| Match::Chance { of, below }),
        ]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        let ports =
            proptest::option::of((any::<u16>(), any::<u16>()).prop_map(|(first, last)| PortRange { first, last }));
        prop_oneof![
            Just(Action::Return),
            (any_family(), 1_u8..9).prop_map(|(family, part)| Action::Goto(ChainName::Part(family, part))),
            any_family().prop_map(|family| Action::Goto(ChainName::Masquerade(family))),
            (any::<bool>(), ports).prop_map(|(random_fully, ports)| Action::Masquerade { random_fully, ports }),
        ]
    }

    proptest! {
        #[test]
        fn a_rule_survives_its_expressions(
            matches in proptest::collection::vec(any_match(), 0..4), action in any_action(),
        ) {
            let rule = Rule::new(matches, action, "reason");
            prop_assert_eq!(to_body(&to_expressions(&rule)), rule.body);
        }

        #[test]
        fn a_row_of_expressions_with_one_left_out_is_another_rule(
            matches in proptest::collection::vec(any_match(), 1..4),
            action in any_action(),
            place in any::<prop::sample::Index>(),
        ) {
            let rule = Rule::new(matches, action, "reason");
            let mut expressions = to_expressions(&rule);
            expressions.remove(place.index(expressions.len()));
            prop_assert_ne!(to_body(&expressions), rule.body);
        }
    }

    #[test]
    fn what_we_never_write_is_unknown() {
        use Expression::{Compare, Counter, Meta, Verdict};
        let returned = || Verdict(libc::NFT_RETURN, None);
        let cases = [
            vec![],
            vec![Counter(0)],
            vec![returned()],
            vec![Counter(0), returned(), returned()],
            vec![Counter(0), Verdict(libc::NFT_JUMP, Some("ipv4".into()))],
            vec![Counter(0), Verdict(libc::NFT_GOTO, Some("elsewhere".into()))],
            vec![Meta(libc::NFT_META_MARK as u32), Compare(Comparison::Equal, vec![0; 4]), Counter(0), returned()],
            vec![
                Meta(libc::NFT_META_NFPROTO as u32),
                Compare(Comparison::Unequal, vec![libc::NFPROTO_IPV4 as u8]),
                Counter(0),
                returned(),
            ],
        ];
        for case in cases {
            assert!(matches!(to_body(&case), Body::Unknown(_)), "{case:?}");
        }
    }
}
