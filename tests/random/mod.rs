//! Random policies, and random flows that hit them: both are drawn from one small pool of addresses.

#![allow(dead_code, reason = "each test uses its own part of it")]

pub mod forwards;

use ip_masq_agent::policy::{
    AddressRange, Egress, Evaluation, Family, Flow, InterfacePattern, MaskedMark, Origin, Policy, PortRanges,
    PreferredSource, Prefix, PrefixSet, Protocol, RouteSources, Snat, SnatAddresses, WithOrigin,
};
use ip_masq_agent::ruleset::{HostFacts, NetworkFacts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// Interfaces that flows leave through.
pub const INTERFACES: [&str; 4] = ["wan0", "wan1", "lan0", "wg0"];

/// The random numbers of `SEED`, else fresh ones; a test that fails names the seed that it is given with them.
pub fn runner() -> (u64, TestRunner) {
    let fresh = || RandomState::new().hash_one(()) >> 32;
    let given = std::env::var("SEED").ok().filter(|text| !text.is_empty());
    let seed = given.map_or_else(fresh, |text| text.parse().unwrap_or_else(|_| panic!("SEED: '{text}' is no number")));
    eprintln!("SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    (seed, TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)))
}

/// A prefix out of the pool: nested, adjacent and disjoint ones, and the whole address space.
fn prefix(family: Family) -> BoxedStrategy<Prefix> {
    match family {
        Family::V4 => (select(vec![0u8, 8, 12, 15, 16, 17, 23, 24, 25, 31, 32]), address(family))
            .prop_map(|(length, address)| Prefix::containing(address, length).unwrap())
            .boxed(),
        Family::V6 => (select(vec![0u8, 3, 10, 16, 32, 48, 63, 64, 65, 127, 128]), address(family))
            .prop_map(|(length, address)| Prefix::containing(address, length).unwrap())
            .boxed(),
    }
}

/// An address out of the pool.
pub fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => {
            let first = select(vec![
                [10, 0],
                [10, 1],
                [172, 16],
                [192, 168],
                [169, 254],
                [224, 0],
                [239, 1],
                [255, 255],
                [203, 0],
                [198, 51],
            ]);
            (first, select(vec![0u8, 1, 2, 3, 113, 255]), select(vec![0u8, 1, 18, 127, 128, 255]))
                .prop_map(|([a, b], c, d)| IpAddr::from([a, b, c, d]))
                .boxed()
        }
        Family::V6 => {
            let first = select(vec![0x2001u16, 0x2002, 0xfd00, 0xfe80, 0xfebf, 0xff02, 0x0064]);
            (first, select(vec![0u16, 1, 0xdb8]), select(vec![0u16, 1, 2, 0xffff]))
                .prop_map(|(a, b, h)| IpAddr::from([a, b, 0, 0, 0, 0, 0, h]))
                .boxed()
        }
    }
}

/// A list in both families: mostly short, sometimes long enough for a set.
fn prefixes(family: Family) -> BoxedStrategy<PrefixSet> {
    let short = vec(prefix(family), 0..5);
    let long = (vec(prefix(family), 0..3), 100usize..130).prop_map(move |(mut list, count)| {
        // Every second /24 or /64: nothing to aggregate.
        list.extend((0..count).map(|n| every_second(family, n)));
        list
    });
    prop_oneof![4 => short, 1 => long].prop_map(|list| PrefixSet::from_prefixes(list, &Origin::Default)).boxed()
}

fn every_second(family: Family, n: usize) -> Prefix {
    let n = u16::try_from(2 * n).unwrap();
    let (address, length) = match family {
        Family::V4 => (IpAddr::from([10, 1, n.to_be_bytes()[1], 0]), 24),
        Family::V6 => (IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 0]), 64),
    };
    Prefix::containing(address, length).unwrap()
}

fn interfaces() -> impl Strategy<Value = Vec<WithOrigin<InterfacePattern>>> {
    let pattern = select(vec!["wan0", "wan1", "wan+", "lan0", "!wg0", "!wan1", "!wan+"])
        .prop_map(|text| text.parse::<InterfacePattern>().unwrap());
    prop_oneof![3 => Just(Vec::new()), 2 => vec(pattern, 1..4)]
        .prop_map(|patterns| patterns.into_iter().map(|value| WithOrigin { value, origin: Origin::Default }).collect())
}

/// A policy that speaks of one family.
pub fn policy(family: Family) -> impl Strategy<Value = Policy> {
    let none = || Just(PrefixSet::default());
    let lists = (
        prefixes(family),
        prefixes(family),
        prop_oneof![2 => none().boxed(), 1 => prefixes(family)],
        prop_oneof![2 => none().boxed(), 1 => prefixes(family)],
        interfaces(),
    );
    let gateway = (snat(), vec(marks(), 0..3), egress(family), any::<[bool; 2]>());
    (lists, any::<[bool; 5]>(), ports(), gateway).prop_map(move |(lists, bools, to_ports, gateway)| {
        let (snat, exempt_marks, egress, [exempt_ipsec, longest_prefix]) = gateway;
        let (exempt, exceptions, sources, excluded_sources, out_interfaces) = lists;
        Policy {
            out_interfaces,
            sources,
            excluded_sources,
            exceptions,
            exempt,
            masq_link_local: bools[0],
            masq_link_local_ipv6: bools[1],
            masq_multicast: bools[2],
            masq_local_source: bools[3],
            enable_ipv6: true,
            random_fully: bools[4],
            to_ports,
            snat: listed(snat),
            exempt_marks: exempt_marks.into_iter().map(listed).collect(),
            exempt_ipsec: listed(exempt_ipsec),
            evaluation: if longest_prefix { Evaluation::LongestPrefix } else { Evaluation::Ordered },
            egress,
            fast_path: Vec::new(),
            forwards: Vec::new(),
            forward_mark: None,
        }
    })
}

fn listed<T>(value: T) -> WithOrigin<T> {
    WithOrigin { value, origin: Origin::Default }
}

fn ports() -> impl Strategy<Value = Option<PortRanges>> {
    let ports = prop_oneof![3 => Just(None), 1 => Just(Some("1024-2047,4000,60000-61000"))];
    ports.prop_map(|text| text.map(|text| text.parse().unwrap()))
}

fn snat() -> impl Strategy<Value = Snat> {
    let v4 = select(vec![None, Some("203.0.113.9"), Some("203.0.113.9-203.0.113.12")]);
    let v6 = select(vec![None, Some("2001:db8::9"), Some("2001:db8::9-2001:db8::ff")]);
    let range = |text: Option<&str>| text.map(|text| text.parse::<AddressRange>().unwrap());
    let to = (v4, v6).prop_map(move |(v4, v6)| Snat::To(SnatAddresses { v4: range(v4), v6: range(v6) }));
    prop_oneof![2 => Just(Snat::Masquerade), 1 => Just(Snat::Nothing), 2 => Just(Snat::RouteSource), 3 => to]
}

/// Bits and values of which flows have some.
fn marks() -> impl Strategy<Value = MaskedMark> {
    select(vec!["0x100/0xff00", "0x1/0x1", "0x2/0x3", "0x0/0xff0000", "0x4000"]).prop_map(|text| text.parse().unwrap())
}

/// Entries that may take each other's scope, have none, or none in the family.
fn egress(family: Family) -> impl Strategy<Value = Vec<Egress>> {
    let list = move || prop_oneof![3 => Just(None), 1 => prefixes(family).prop_map(Some)];
    let scope = (interfaces(), list(), list());
    let own = (list(), list(), proptest::option::of(snat()), proptest::option::of(any::<bool>()), ports());
    let entry = (scope, own).prop_map(|((out_interfaces, sources, excluded_sources), own)| {
        let (exceptions, exempt, snat, random_fully, to_ports) = own;
        Egress {
            number: 0,
            name: String::new(),
            origin: Origin::Default,
            out_interfaces,
            sources: sources.unwrap_or_default(),
            excluded_sources: excluded_sources.unwrap_or_default(),
            snat: snat.map(listed),
            exceptions,
            exempt,
            random_fully,
            to_ports,
        }
    });
    let numbered = |entries: Vec<Egress>| {
        let entries = (1..).zip(entries);
        entries.map(|(number, entry)| Egress { number, name: number.to_string(), ..entry }).collect()
    };
    prop_oneof![1 => Just(Vec::new()).boxed(), 2 => vec(entry, 1..5).prop_map(numbered).boxed()]
}

/// What the routes of the host prefer: inside of each other, with holes, and nothing at all through some interfaces.
pub fn sources() -> RouteSources {
    let rows = [
        ("wan0", "0.0.0.0/0", Some("203.0.113.1")),
        ("wan0", "10.0.0.0/8", None),
        ("wan0", "10.1.0.0/16", Some("203.0.113.77")),
        ("wan0", "10.1.1.0/24", Some("203.0.113.77")),
        ("wan1", "192.168.0.0/16", Some("198.51.100.1")),
        ("wan1", "192.168.1.128/25", Some("198.51.100.2")),
        ("wan0", "::/0", Some("2001:db8::1")),
        ("wan0", "2001:db8::/32", None),
        ("wan0", "fe80::/64", None),
        ("wg0", "fd00::/8", Some("fd00::9")),
    ];
    let row = |(interface, destination, source): (&str, &str, Option<&str>)| PreferredSource {
        interface: interface.to_owned(),
        destination: destination.parse().unwrap(),
        source: source.map(|source| source.parse().unwrap()),
    };
    RouteSources::new(rows.into_iter().map(row).collect())
}

/// The same as what shapes rules.
pub fn facts() -> HostFacts {
    let network = NetworkFacts { sources: sources(), ..NetworkFacts::default() };
    HostFacts { network: Arc::new(network), ..HostFacts::default() }
}

/// A flow of a family. An address on the outgoing interface is local too, as on a real host.
pub fn flow(family: Family) -> impl Strategy<Value = Flow> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp, Protocol::Other(112)]);
    let mark = select(vec![0u32, 0x1, 0x2, 0x3, 0x100, 0x1ff, 0x4000, 0x1_0000]);
    (address(family), address(family), select(INTERFACES.to_vec()), protocol, 0u8..3, any::<[bool; 3]>(), mark)
        .prop_map(|(source, destination, out, protocol, local, [opens_connection, bridged, ipsec], mark)| Flow {
            source: Some(source),
            source_is_local: local > 0,
            source_on_out_interface: local > 1,
            out_interface: Some(out.to_owned()),
            destination,
            protocol,
            opens_connection,
            bridged,
            mark,
            ipsec,
            preferred_source: sources().find(out, destination).and_then(|row| row.source),
            ..Flow::forwarded_to(destination)
        })
}
