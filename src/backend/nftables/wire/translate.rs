//! Rules of ours to expressions, and back.
//!
//! The expressions are those that nft 1.0.6 makes of the same text, so that `nft list` shows our text again and a
//! table that was saved and loaded by nft is still the table that we wrote.

use super::expression::{Base, Comparison, Expression, Register, register_at};
use crate::backend::nftables::rules::interval::{self, Interval};
use crate::backend::nftables::rules::name::{ChainName, SetName};
use crate::backend::nftables::rules::port_set::{self, Data, Field, PortSet};
use crate::backend::nftables::rules::rule::{Body, LookUp, Rule};
use crate::policy::address::{octets, of_octets};
use crate::policy::{AddressRange, Family, ForwardMark, MaskedMark, PortRange, Prefix};
use crate::ruleset::{Address, Effect, Fact, Match, ShiftedPort, Side, Test, block_length};
use crate::sys::nfnetlink::nfproto;

/// NFTA_FIB_F_* of linux/netfilter/nf_tables.h.
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_OIF: u32 = 16;
/// NFT_META_MARK.
const MARK: u32 = libc::NFT_META_MARK as u32;
/// NFT_META_OIFKIND, Linux 5.1; not in libc.
const META_OIFKIND: u32 = 27;
/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// NFT_RT_XFRM, Linux 4.20; not in libc.
const RT_IPSEC: u32 = 4;
/// NF_NAT_RANGE_* of linux/netfilter/nf_nat.h: MAP_IPS, PROTO_SPECIFIED, PERSISTENT, PROTO_RANDOM_FULLY.
const RANGE_ADDRESSES: u32 = 1;
const RANGE_PERSISTENT: u32 = 1 << 3;
const RANGE_PORTS: u32 = 1 << 1;
const RANGE_RANDOM_FULLY: u32 = 1 << 4;
/// NFT_CT_STATUS, and IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const CT_STATUS: u32 = 2;
const DESTINATION_NAT: u32 = 1 << 5;
/// The destination port in the headers of TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).
const PORT_OFFSET: u32 = 2;
/// ETH_ALEN: with the destination the header of a frame begins.
const MAC_ADDRESS: usize = 6;
/// FIN, SYN, RST and ACK in byte 13 of a TCP header (RFC 9293 §3.1), and SYN alone.
const TCP_FLAGS: u8 = 0x17;
const SYN_ONLY: u8 = 0x02;
const TCP_FLAGS_OFFSET: u32 = 13;
/// Length of an interface name or kind in a register (IFNAMSIZ).
const NAME_LENGTH: usize = 16;

/// The expressions of a rule; none for a rule that we never write.
pub fn to_expressions(rule: &Rule) -> Vec<Expression> {
    let mut out = Vec::new();
    match &rule.body {
        Body::Known(when, then) => {
            when.iter().for_each(|one| write_match(one, &mut out));
            out.push(Expression::Counter(0));
            write_effect(then, &mut out);
        }
        Body::LookUp(look_up) => write_look_up(look_up, &mut out),
        Body::Unknown(_) => {}
    }
    out
}

/// What counts are the elements, or the rules of the chains that they lead to.
fn write_look_up(look_up: &LookUp, out: &mut Vec<Expression>) {
    let map = look_up.map;
    let Some(shape) = map.ports() else { return };
    look_up.when.iter().for_each(|one| write_match(one, out));
    write_key(shape, map.family, out);
    let (words, family) = (interval::width(map.family) as u32 / 4, nfproto(map.family));
    out.push(Expression::Map(map.to_string(), shape.data() == Data::Chain));
    match shape.data() {
        Data::Chain | Data::Nothing => {}
        Data::Address if shape == PortSet::RouteSources => {
            let mut load = |register, port: u16| {
                out.push(Expression::Load(register, port.to_be_bytes().to_vec()));
                register
            };
            let first = look_up.ports.map(|range| load(Register::Two, range.first));
            let several = look_up.ports.filter(|range| range.first != range.last);
            let ports = (first, several.map(|range| load(Register::Three, range.last)));
            let flags = RANGE_ADDRESSES
                | if ports.0.is_some() { RANGE_PORTS } else { 0 }
                | if look_up.random_fully { RANGE_RANDOM_FULLY } else { 0 };
            out.push(Expression::Snat { family, flags, addresses: (Some(Register::One), None), ports });
        }
        Data::Address => out.push(Expression::Dnat { family, flags: RANGE_ADDRESSES, port: None }),
        Data::AddressAndPort => {
            let flags = RANGE_ADDRESSES | RANGE_PORTS;
            out.push(Expression::Dnat { family, flags, port: Some(register_at(words)) });
        }
    }
}

/// Loads the fields of a key, one behind the other.
fn write_key(ports: PortSet, family: Family, out: &mut Vec<Expression>) {
    let width = interval::width(family);
    let has_address = |field: &Field| matches!(field, Field::Saddr | Field::Daddr | Field::Daddrs);
    if ports.key().iter().any(has_address) {
        out.extend(of_family(family, Comparison::Equal));
    }
    let mut word = 0;
    for field in ports.key() {
        let (load, words) = match field {
            Field::Saddr => (load_address(Side::Saddr, family, width), width as u32 / 4),
            Field::Daddr | Field::Daddrs => (load_address(Side::Daddr, family, width), width as u32 / 4),
            Field::OutInterface => (Expression::Meta(libc::NFT_META_OIFNAME as u32), NAME_LENGTH as u32 / 4),
            Field::Protocol => (Expression::Meta(libc::NFT_META_L4PROTO as u32), 1),
            Field::Port => (load_port(), 1),
        };
        out.push(if word == 0 { load } else { Expression::At(register_at(word), Box::new(load)) });
        word += words;
    }
}

fn load_port() -> Expression {
    Expression::Payload { base: Base::Transport, offset: PORT_OFFSET, length: 2 }
}

/// The rule that expressions stand for; [`Body::Unknown`] when they are not exactly what one of our rules becomes.
pub fn to_body(expressions: &[Expression]) -> Body {
    read_rule(expressions)
        .unwrap_or_else(|| Body::Unknown(expressions.iter().map(Expression::name).collect::<Vec<_>>().join(" ")))
}

fn write_match(one: &Match<SetName>, out: &mut Vec<Expression>) {
    use Expression::{Compare, FibType, Lookup, Mask, Meta, Outside, Payload};
    let (test, negated) = match one {
        Match::Is(test) => (test, false),
        Match::IsNot(test) => (test, true),
        Match::Holds(fact) => return write_fact(*fact, out),
    };
    let comparison = if negated { Comparison::NotEqual } else { Comparison::Equal };
    match test {
        Test::Family(family) => out.extend(of_family(*family, comparison)),
        Test::Local(address) => {
            out.extend([FibType(fib_flags(*address)), Compare(comparison, LOCAL.to_ne_bytes().to_vec())]);
        }
        Test::OutInterface { name, prefix } => {
            let value = if *prefix { name.as_bytes().to_vec() } else { padded(name) };
            out.extend([Meta(libc::NFT_META_OIFNAME as u32), Compare(comparison, value)]);
        }
        Test::InInterface { name, prefix: true } if name.is_empty() => {
            // None has the number 0, which packets of the host itself show.
            let comparison = if negated { Comparison::Equal } else { Comparison::NotEqual };
            out.extend([Meta(libc::NFT_META_IIF as u32), Compare(comparison, vec![0; 4])]);
        }
        Test::InInterface { name, prefix } => {
            let value = if *prefix { name.as_bytes().to_vec() } else { padded(name) };
            out.extend([Meta(libc::NFT_META_IIFNAME as u32), Compare(comparison, value)]);
        }
        Test::DestinationPort(PortRange { first, last }) => {
            let [first, last] = [first, last].map(|port| port.to_be_bytes().to_vec());
            out.push(load_port());
            match (first == last, negated) {
                (true, _) => out.push(Compare(comparison, first)),
                (false, true) => out.push(Outside(first, last)),
                (false, false) => {
                    out.extend([Compare(Comparison::AtLeast, first), Compare(Comparison::AtMost, last)]);
                }
            }
        }
        Test::InList(_, set) if set.ports().is_some() => {
            set.ports().into_iter().for_each(|ports| write_key(ports, set.family, out));
            out.push(Lookup(set.to_string(), negated));
        }
        Test::InList(side, set) => {
            out.extend(of_family(set.family, Comparison::Equal));
            let width = interval::width(set.family);
            out.push(load_address(*side, set.family, width));
            if set.has_blocks() {
                let mask = interval::mask(block_length(set.family), set.family);
                out.push(Mask(mask.to_be_bytes()[16 - width..].to_vec()));
            }
            out.push(Lookup(set.to_string(), negated));
        }
        Test::In(side, prefix) => write_prefix(*side, *prefix, comparison, out),
        Test::Protocol(protocol) => {
            out.extend([Meta(libc::NFT_META_L4PROTO as u32), Compare(comparison, vec![port_set::number(*protocol)])]);
        }
        Test::OnlySyn => out.extend([
            Payload { base: Base::Transport, offset: TCP_FLAGS_OFFSET, length: 1 },
            Mask(vec![TCP_FLAGS]),
            Compare(comparison, vec![SYN_ONLY]),
        ]),
        Test::Mark(MaskedMark { value, mask }) => {
            out.push(Meta(MARK));
            if *mask != u32::MAX {
                out.push(Mask(mask.to_ne_bytes().to_vec()));
            }
            out.push(Compare(comparison, value.to_ne_bytes().to_vec()));
        }
    }
}

fn write_fact(fact: Fact, out: &mut Vec<Expression>) {
    use Expression::{Compare, Connection, HostToNetwork, Mask, Random, Route};
    match fact {
        Fact::Dnated => {
            let bit = DESTINATION_NAT.to_ne_bytes().to_vec();
            out.extend([Connection(CT_STATUS), Mask(bit), Compare(Comparison::NotEqual, vec![0; 4])]);
        }
        Fact::Bridged => out.extend(bridged()),
        Fact::Ipsec => out.extend([Route(RT_IPSEC), Compare(Comparison::Equal, vec![1])]),
        Fact::Share { part, of } => {
            let below = Compare(Comparison::Less, part.to_be_bytes().to_vec());
            out.extend([Random(of), HostToNetwork, below]);
        }
    }
}

/// A frame that is bridged.
///
/// It came in through no interface and leaves through a bridge: br_netfilter runs POSTROUTING without an input device
/// (br_nf_post_routing); a routed packet has one (Linux 5.5). It has the header that it arrived with, and a destination
/// in it: a packet of the host's own gets one only after POSTROUTING, and an expression that looks at what is not there
/// ends its rule (nft_payload_eval). A packet of the host's own that left through a tunnel has had the header of a
/// frame, too; its source is local.
fn bridged() -> [Expression; 8] {
    use Comparison::{Equal, NotEqual};
    use Expression::{Compare, FibType, Meta, Payload};
    [
        Meta(libc::NFT_META_IIF as u32),
        Compare(Equal, vec![0; 4]),
        Meta(META_OIFKIND),
        Compare(Equal, padded("bridge")),
        Payload { base: Base::Link, offset: 0, length: MAC_ADDRESS as u32 },
        Compare(NotEqual, vec![0; MAC_ADDRESS]),
        FibType(fib_flags(Address::Saddr)),
        Compare(NotEqual, LOCAL.to_ne_bytes().to_vec()),
    ]
}

fn of_family(family: Family, comparison: Comparison) -> [Expression; 2] {
    let number = vec![nfproto(family)];
    [Expression::Meta(libc::NFT_META_NFPROTO as u32), Expression::Compare(comparison, number)]
}

/// A prefix of whole bytes is so many bytes; another one is the whole address under a mask.
fn write_prefix(side: Side, prefix: Prefix, comparison: Comparison, out: &mut Vec<Expression>) {
    let (family, length) = (prefix.family(), usize::from(prefix.length()));
    let width = interval::width(family);
    let interval = Interval::of(prefix);
    let first = &interval.first.to_be_bytes()[16 - width..];
    out.extend(of_family(family, Comparison::Equal));
    if length > 0 && length.is_multiple_of(8) {
        out.push(load_address(side, family, length / 8));
        out.push(Expression::Compare(comparison, first[..length / 8].to_vec()));
    } else {
        let mask = !(interval.first ^ interval.last);
        out.push(load_address(side, family, width));
        out.push(Expression::Mask(mask.to_be_bytes()[16 - width..].to_vec()));
        out.push(Expression::Compare(comparison, first.to_vec()));
    }
}

fn write_effect(then: &Effect<ChainName>, out: &mut Vec<Expression>) {
    match then {
        Effect::Return => out.push(Expression::Verdict(libc::NFT_RETURN, None)),
        Effect::Goto(chain) => out.push(Expression::Verdict(libc::NFT_GOTO, Some(chain.to_string()))),
        Effect::Jump(chain) => out.push(Expression::Verdict(libc::NFT_JUMP, Some(chain.to_string()))),
        Effect::Drop => out.push(Expression::Verdict(libc::NF_DROP, None)),
        Effect::SnatByRoute(none) => match *none {},
        Effect::Mark(mark) => {
            let bits = mark.bit().map(|bit| Expression::SetBits(bit.value.to_ne_bytes().to_vec()));
            let set = |bits| [Expression::Meta(MARK), bits, Expression::SetMeta(MARK)];
            out.extend(bits.into_iter().flat_map(set));
        }
        Effect::Dnat { to, port } => {
            let family = nfproto(Family::of(*to));
            out.push(Expression::Load(Register::One, octets(*to)));
            out.extend(port.map(|port| Expression::Load(Register::Two, port.to.to_be_bytes().to_vec())));
            let flags = RANGE_ADDRESSES | if port.is_some() { RANGE_PORTS } else { 0 };
            out.push(Expression::Dnat { family, flags, port: port.map(|_| libc::NFT_REG_2 as u32) });
        }
        Effect::Snat { to, random_fully, ports } => write_snat(*to, *random_fully, *ports, out),
        Effect::Masquerade { random_fully, ports } => {
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

/// The addresses, then the ports, each in the next register.
fn write_snat(to: AddressRange, random_fully: bool, ports: Option<PortRange>, out: &mut Vec<Expression>) {
    let mut free = Register::ALL.into_iter();
    let mut load = |bytes: Vec<u8>| {
        let register = free.next();
        out.extend(register.map(|register| Expression::Load(register, bytes)));
        register
    };
    let addresses = (load(octets(to.first())), (!to.is_one()).then(|| load(octets(to.last()))).flatten());
    let ports = match ports {
        Some(range) => {
            let first = load(range.first.to_be_bytes().to_vec());
            (first, (range.first != range.last).then(|| load(range.last.to_be_bytes().to_vec())).flatten())
        }
        None => (None, None),
    };
    let flags = [
        (true, RANGE_ADDRESSES),
        (ports.0.is_some(), RANGE_PORTS),
        (!to.is_one(), RANGE_PERSISTENT),
        (random_fully, RANGE_RANDOM_FULLY),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
    out.push(Expression::Snat { family: nfproto(to.family()), flags, addresses, ports });
}

fn read_rule(expressions: &[Expression]) -> Option<Body> {
    if let Some(map) = map_of(expressions) {
        return read_look_up(map, expressions).map(Body::LookUp);
    }
    let (mut when, mut rest) = (Vec::new(), expressions);
    loop {
        if let [Expression::Counter(_), effect @ ..] = rest {
            return read_effect(effect).map(|then| Body::Known(when, then));
        }
        let (one, behind) = read_match(rest)?;
        when.push(one);
        rest = behind;
    }
}

/// The map of ours that is looked into.
fn map_of(expressions: &[Expression]) -> Option<SetName> {
    expressions.iter().find_map(|one| match one {
        Expression::Map(map, _) => SetName::parse(map).filter(|map| map.ports().is_some_and(PortSet::is_map)),
        _ => None,
    })
}

/// The look-up that would be written so.
fn read_look_up(map: SetName, expressions: &[Expression]) -> Option<LookUp> {
    let (random_fully, ports) = match expressions {
        [.., Expression::Load(_, first), Expression::Load(_, last), Expression::Snat { flags, .. }] => {
            (flags & RANGE_RANDOM_FULLY != 0, Some(PortRange { first: read_port(first)?, last: read_port(last)? }))
        }
        [.., Expression::Load(_, only), Expression::Snat { flags, .. }] => {
            (flags & RANGE_RANDOM_FULLY != 0, Some(PortRange { first: read_port(only)?, last: read_port(only)? }))
        }
        [.., Expression::Snat { flags, .. }] => (flags & RANGE_RANDOM_FULLY != 0, None),
        _ => (false, None),
    };
    let mut found = LookUp { when: Vec::new(), map, random_fully, ports };
    let mut written = Vec::new();
    write_look_up(&found, &mut written);
    let mut rest = expressions;
    while rest != written {
        let (one, behind) = read_match(rest)?;
        found.when.push(one);
        rest = behind;
    }
    Some(found)
}

fn read_port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

/// The match in front, and the expressions behind it: the one that would be written so.
fn read_match(expressions: &[Expression]) -> Option<(Match<SetName>, &[Expression])> {
    // Behind what looks at an address, the family says nothing more: that comes last. A bridged frame has no incoming
    // interface, and more.
    let fixed = [Address::Daddr, Address::Saddr, Address::SaddrOnOutInterface].map(Test::Local);
    let arrived = Test::InInterface { name: String::new(), prefix: true };
    let fixed = fixed.into_iter().chain([Test::OnlySyn, arrived]).chain(Family::ALL.map(Test::Family));
    let facts = read_share(expressions).into_iter().chain([Fact::Bridged, Fact::Ipsec, Fact::Dnated]);
    let both = |test: Test<SetName>| [Match::Is(test.clone()), Match::IsNot(test)];
    let values = read_values(expressions).into_iter().flat_map(both);
    values.chain(facts.map(Match::Holds)).chain(fixed.flat_map(both)).find_map(|one| {
        let mut written = Vec::new();
        write_match(&one, &mut written);
        expressions.strip_prefix(written.as_slice()).map(|rest| (one, rest))
    })
}

/// What a test with the values of these expressions may be.
fn read_values(expressions: &[Expression]) -> Vec<Test<SetName>> {
    use Expression::{Compare, Lookup, Mask, Meta, Outside, Payload};
    let port = |first: &[u8], last: &[u8]| {
        let ports = read_port(first).zip(read_port(last)).map(|(first, last)| PortRange { first, last });
        ports.map(Test::DestinationPort).into_iter().collect()
    };
    let either_side = |test: &dyn Fn(Side) -> Test<SetName>| vec![test(Side::Saddr), test(Side::Daddr)];
    let within = |family: &[u8], value: &[u8], length: usize| {
        let prefix = read_prefix(family, value, length);
        prefix.map_or_else(Vec::new, |prefix| either_side(&|side| Test::In(side, prefix)))
    };
    let mut tests = match expressions {
        [Meta(_), Compare(_, _), Payload { .. }, Lookup(set, _), ..]
        | [Meta(_), Compare(_, _), Payload { .. }, Mask(_), Lookup(set, _), ..] => {
            SetName::parse(set).map_or_else(Vec::new, |set| either_side(&|side| Test::InList(side, set)))
        }
        [Meta(_), Compare(_, family), Payload { .. }, Compare(_, value), ..] => within(family, value, value.len() * 8),
        [Meta(_), Compare(_, family), Payload { .. }, Mask(mask), Compare(_, value), ..] => {
            within(family, value, mask.iter().map(|byte| byte.count_ones() as usize).sum())
        }
        [Meta(_), Mask(mask), Compare(_, value), ..] => read_mark(value, mask).into_iter().collect(),
        [Payload { .. }, Compare(Comparison::AtLeast, first), Compare(_, last), ..]
        | [Payload { .. }, Outside(first, last), ..] => port(first, last),
        [Payload { .. }, Compare(_, only), ..] => port(only, only),
        _ => Vec::new(),
    };
    if let [Meta(_), Compare(_, value), ..] = expressions {
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        let name = str::from_utf8(&value[..end]).ok().filter(|name| !name.is_empty()).map(str::to_owned);
        let prefix = value.len() < NAME_LENGTH;
        tests.extend(name.clone().map(|name| Test::InInterface { name, prefix }));
        tests.extend(name.map(|name| Test::OutInterface { name, prefix }));
        tests.extend(value.first().map(|number| Test::Protocol(port_set::protocol(*number))));
        tests.extend(read_mark(value, &[u8::MAX; 4]));
    }
    let set = expressions.iter().find_map(|one| match one {
        Lookup(set, _) => SetName::parse(set).filter(|set| set.ports().is_some()),
        _ => None,
    });
    tests.extend(set.map(|set| Test::InList(Side::Daddr, set)));
    tests
}

fn read_share(expressions: &[Expression]) -> Option<Fact> {
    let [Expression::Random(of), _, Expression::Compare(_, part), ..] = expressions else { return None };
    Some(Fact::Share { part: u32::from_be_bytes(part.as_slice().try_into().ok()?), of: *of })
}

fn read_mark(value: &[u8], mask: &[u8]) -> Option<Test<SetName>> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    Some(Test::Mark(MaskedMark { value: number(value)?, mask: number(mask)? }))
}

/// The prefix of a length that begins with these bytes.
fn read_prefix(family: &[u8], first: &[u8], length: usize) -> Option<Prefix> {
    let family = Family::ALL.into_iter().find(|known| family == [nfproto(*known)])?;
    let mut bytes = first.to_vec();
    bytes.resize(interval::width(family), 0);
    Prefix::containing(of_octets(&bytes)?, u8::try_from(length).ok()?)
}

/// The effect that would be written so.
fn read_effect(expressions: &[Expression]) -> Option<Effect<ChainName>> {
    use Expression::{Load, Masquerade, Snat, Verdict};
    let port = read_port;
    let then = match expressions {
        [Verdict(libc::NFT_GOTO, Some(chain))] => Effect::Goto(ChainName::parse(chain)?),
        [Verdict(libc::NFT_JUMP, Some(chain))] => Effect::Jump(ChainName::parse(chain)?),
        [Verdict(libc::NF_DROP, None)] => Effect::Drop,
        [Verdict(..)] => Effect::Return,
        [_, Expression::SetBits(bits), _] => Effect::Mark(read_bit(bits)?),
        [Load(_, to), loads @ .., Expression::Dnat { .. }] => {
            let shifted = |to| ShiftedPort { from: PortRange { first: to, last: to }, to };
            let port = match loads {
                [] => None,
                [Load(_, bytes)] => Some(shifted(port(bytes)?)),
                _ => return None,
            };
            Effect::Dnat { to: of_octets(to)?, port }
        }
        [loads @ .., Masquerade { flags, .. }] => {
            let ports = match loads {
                [] => None,
                [Load(_, first), .., Load(_, last)] => Some(PortRange { first: port(first)?, last: port(last)? }),
                [Load(_, only), ..] => Some(PortRange { first: port(only)?, last: port(only)? }),
                _ => return None,
            };
            Effect::Masquerade { random_fully: flags & RANGE_RANDOM_FULLY != 0, ports }
        }
        [loads @ .., Snat { flags, addresses, ports, .. }] => {
            let loaded = |register: Option<Register>| {
                loads.iter().find_map(|load| match load {
                    Load(into, bytes) if Some(*into) == register => Some(bytes),
                    _ => None,
                })
            };
            let first = of_octets(loaded(addresses.0)?)?;
            let last = loaded(addresses.1).map_or(Some(first), |bytes| of_octets(bytes))?;
            let ports = match loaded(ports.0) {
                Some(bytes) => Some(PortRange { first: port(bytes)?, last: port(loaded(ports.1).unwrap_or(bytes))? }),
                None => None,
            };
            let to = AddressRange::between(first, last).ok()?;
            Effect::Snat { to, random_fully: flags & RANGE_RANDOM_FULLY != 0, ports }
        }
        _ => return None,
    };
    let mut written = Vec::new();
    write_effect(&then, &mut written);
    (written == expressions).then_some(then)
}

fn read_bit(bytes: &[u8]) -> Option<ForwardMark> {
    let bits = bytes.try_into().ok().map(u32::from_ne_bytes)?;
    let bit = u8::try_from(bits.trailing_zeros()).ok()?;
    (bits.count_ones() == 1).then_some(ForwardMark::Bit(bit))
}

fn fib_flags(address: Address) -> u32 {
    match address {
        Address::Daddr => FIB_DADDR,
        Address::Saddr => FIB_SADDR,
        Address::SaddrOnOutInterface => FIB_SADDR | FIB_OIF,
    }
}

/// `saddr` and `daddr` of the IPv4 and IPv6 headers (RFC 791, RFC 8200).
fn address_offset(side: Side, family: Family) -> u32 {
    match (family, side) {
        (Family::V4, Side::Saddr) => 12,
        (Family::V4, Side::Daddr) => 16,
        (Family::V6, Side::Saddr) => 8,
        (Family::V6, Side::Daddr) => 24,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Protocol;
    use crate::ruleset::{ChainId, ListId, ListKey, Place, SectionId, each};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn any_family() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::V4), Just(Family::V6)]
    }

    fn any_section() -> impl Strategy<Value = SectionId> {
        prop_oneof![Just(SectionId::Top), (1_u8..=64).prop_map(SectionId::Egress)]
    }

    fn any_test() -> impl Strategy<Value = Test<SetName>> {
        let side = || prop_oneof![Just(Side::Saddr), Just(Side::Daddr)];
        let address = prop_oneof![Just(Address::Daddr), Just(Address::Saddr), Just(Address::SaddrOnOutInterface)];
        let protocol =
            prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp), Just(Protocol::Other(47))];
        let prefix = (any::<u128>(), any_family(), 0_u8..=128).prop_map(|(bits, family, length)| match family {
            Family::V4 => Prefix::containing(Ipv4Addr::from_bits(bits as u32).into(), length % 33).unwrap(),
            Family::V6 => Prefix::containing(Ipv6Addr::from_bits(bits).into(), length).unwrap(),
        });
        let list = (any_section(), proptest::sample::select(ListKey::ALL.to_vec()))
            .prop_map(|(section, key)| ListId { section, key });
        let set = (list, any_family(), any::<bool>())
            .prop_map(|(list, family, second)| SetName { second, ..SetName::new(list, family) });
        let ports = (proptest::sample::select(PortSet::ALL.to_vec()), any_family(), any::<bool>())
            .prop_map(|(ports, family, second)| SetName { second, ..SetName::of_ports(ports, family) });
        prop_oneof![
            any_family().prop_map(Test::Family),
            address.prop_map(Test::Local),
            ("[a-z0-9.@-]{1,15}", any::<bool>()).prop_map(|(name, prefix)| Test::OutInterface { name, prefix }),
            (side(), set).prop_map(|(side, set)| Test::InList(side, set)),
            ports.prop_map(|set| Test::InList(Side::Daddr, set)),
            ("[a-z0-9.@-]{1,15}", any::<bool>()).prop_map(|(name, prefix)| Test::InInterface { name, prefix }),
            Just(Test::InInterface { name: String::new(), prefix: true }),
            (any::<u16>(), any::<u16>()).prop_map(|(first, last)| Test::DestinationPort(PortRange { first, last })),
            (side(), prefix).prop_map(|(side, prefix)| Test::In(side, prefix)),
            protocol.prop_map(Test::Protocol),
            Just(Test::OnlySyn),
            (any::<u32>(), any::<u32>()).prop_map(|(value, mask)| Test::Mark(MaskedMark { value, mask })),
        ]
    }

    fn any_fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            Just(Fact::Bridged),
            Just(Fact::Ipsec),
            Just(Fact::Dnated),
            (1_u32..=65535, any::<u32>()).prop_map(|(of, part)| Fact::Share { part, of }),
        ]
    }

    fn any_match() -> impl Strategy<Value = Match<SetName>> {
        prop_oneof![
            4 => any_test().prop_map(Match::Is),
            4 => any_test().prop_map(Match::IsNot),
            4 => any_fact().prop_map(Match::Holds),
        ]
    }

    fn any_effect() -> impl Strategy<Value = Effect<ChainName>> {
        let ports =
            proptest::option::of((any::<u16>(), any::<u16>()).prop_map(|(first, last)| PortRange { first, last }));
        let place = || {
            prop_oneof![(1_u8..9).prop_map(Place::Part), Just(Place::Masquerade), (1_u16..300).prop_map(Place::Branch)]
        };
        let range = |first: u128, more: u16, family| match family {
            Family::V4 => {
                let first = first as u32 & 0x7fff_ffff;
                AddressRange::between(
                    Ipv4Addr::from_bits(first).into(),
                    Ipv4Addr::from_bits(first + u32::from(more)).into(),
                )
            }
            Family::V6 => {
                let first = first >> 1;
                AddressRange::between(
                    Ipv6Addr::from_bits(first).into(),
                    Ipv6Addr::from_bits(first + u128::from(more)).into(),
                )
            }
        };
        let range = (any::<u128>(), prop_oneof![Just(0), any::<u16>()], any_family())
            .prop_map(move |(first, more, family)| range(first, more, family).unwrap());
        let chain = || {
            (any_family(), any_section(), place())
                .prop_map(|(family, section, place)| ChainName::Of(family, ChainId { section, place }))
        };
        prop_oneof![
            Just(Effect::Return),
            Just(Effect::Drop),
            (0..32_u8).prop_map(|bit| Effect::Mark(ForwardMark::Bit(bit))),
            (any::<u128>(), any_family(), proptest::option::of(any::<u16>())).prop_map(|(to, family, port)| {
                let port = port.map(|to| ShiftedPort { from: PortRange { first: to, last: to }, to });
                Effect::Dnat { to: interval::address(to, family), port }
            }),
            chain().prop_map(Effect::Goto),
            chain().prop_map(Effect::Jump),
            (any::<bool>(), ports.clone()).prop_map(|(random_fully, ports)| Effect::Masquerade { random_fully, ports }),
            (range, any::<bool>(), ports).prop_map(|(to, random_fully, ports)| Effect::Snat {
                to,
                random_fully,
                ports
            }),
        ]
    }

    fn any_look_up() -> impl Strategy<Value = LookUp> {
        let ports = proptest::option::of((any::<u16>(), any::<u16>()));
        let ports =
            ports.prop_map(|ports| ports.map(|(one, other)| PortRange { first: one.min(other), last: one.max(other) }));
        let map = (any_section(), any_family(), any::<bool>())
            .prop_map(|(section, family, second)| SetName { second, ..SetName::of_route_sources(section, family) });
        (proptest::collection::vec(any_match(), 0..3), map, any::<bool>(), ports)
            .prop_map(|(when, map, random_fully, ports)| LookUp { when, map, random_fully, ports })
    }

    proptest! {
        #[test]
        fn a_source_by_route_survives_its_expressions(look_up in any_look_up()) {
            let rule = Rule::snat_by_route(look_up, "reason");
            prop_assert_eq!(to_body(&to_expressions(&rule)), rule.body);
        }

        #[test]
        fn a_rule_survives_its_expressions(
            matches in proptest::collection::vec(any_match(), 0..4), then in any_effect(),
        ) {
            let rule = Rule::new(matches, then, "reason");
            prop_assert_eq!(to_body(&to_expressions(&rule)), rule.body);
        }

        #[test]
        fn a_row_of_expressions_with_one_left_out_is_another_rule(
            matches in proptest::collection::vec(any_match(), 1..4),
            then in any_effect(),
            place in any::<prop::sample::Index>(),
        ) {
            let rule = Rule::new(matches, then, "reason");
            let mut expressions = to_expressions(&rule);
            expressions.remove(place.index(expressions.len()));
            prop_assert_ne!(to_body(&expressions), rule.body);
        }
    }

    #[test]
    fn each_match_and_each_effect_is_read_as_it_is_written() {
        let set = SetName::new(ListId { section: SectionId::Top, key: ListKey::Sources }, Family::V4);
        let chain = ChainName::Of(Family::V4, ChainId { section: SectionId::Top, place: Place::Masquerade });
        let rules = each::one(&set).map(|one| (vec![one], Effect::Return));
        for (when, then) in rules.chain(each::effect(&chain).map(|then| (vec![], then))) {
            let rule = Rule::new(when, then, "reason");
            assert_eq!(to_body(&to_expressions(&rule)), rule.body);
        }
    }

    #[test]
    fn a_look_up_survives_its_expressions() {
        for family in Family::ALL {
            for map in PortSet::ALL.into_iter().filter(|ports| ports.is_map()) {
                let rule = Rule::look_up(SetName::of_ports(map, family));
                let expressions = to_expressions(&rule);
                assert_eq!(to_body(&expressions), rule.body);
                assert!(matches!(to_body(&expressions[1..]), Body::Unknown(_)), "{map:?}");
            }
            let from = Match::Is(Test::InInterface { name: "wan".to_owned(), prefix: true });
            let list = ListId { section: SectionId::Forward(7), key: ListKey::Sources };
            let clients = Match::Is(Test::InList(Side::Saddr, SetName::new(list, family)));
            let rule = Rule::shifted(vec![from, clients], SetName::of_shifted(7, family), "reason");
            assert_eq!(to_body(&to_expressions(&rule)), rule.body);
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
            vec![Counter(0), Verdict(libc::NFT_JUMP, Some("elsewhere".into()))],
            vec![Counter(0), Verdict(libc::NFT_GOTO, Some("elsewhere".into()))],
            vec![Meta(libc::NFT_META_PRIORITY as u32), Compare(Comparison::Equal, vec![0; 4]), Counter(0), returned()],
            vec![
                Meta(libc::NFT_META_NFPROTO as u32),
                Compare(Comparison::Less, vec![libc::NFPROTO_IPV4 as u8]),
                Counter(0),
                returned(),
            ],
        ];
        for case in cases {
            assert!(matches!(to_body(&case), Body::Unknown(_)), "{case:?}");
        }
    }
}
