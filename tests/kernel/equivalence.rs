//! Random policies, random flows: what the far end sees is what [`Policy::verdict`] says, on every backend.

use crate::lab::{BACKENDS, Gateway, Kind, Lab, Probe, Uplink, address, parse};
use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::policy::{Flow, Policy, PortRanges, Protocol, RouteSources, Verdict};
use ip_masq_agent::sys::rtnetlink;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use std::net::IpAddr;
use std::path::Path;

/// Policies per backend, and flows per policy.
const POLICIES: u32 = 12;
const FLOWS: usize = 12;

/// Destinations that the gateway can send to, in and around each other's ranges.
const DESTINATIONS: [&str; 16] = [
    "203.0.113.200",
    "203.0.113.9",
    "192.0.2.5",
    "192.0.2.130",
    "198.18.1.1",
    "100.64.0.1",
    "10.20.0.5",
    "10.20.128.5",
    "10.128.0.1",
    "172.16.0.5",
    "172.31.255.254",
    "169.254.7.7",
    "2001:db8:5::5",
    "2001:db8:2::5",
    "fd20::5",
    "fd20:8000::5",
];

/// Routes that prefer a source, with others inside of them that don't.
const ROUTES: &str = "\
route replace default via 203.0.113.9 src 203.0.113.77
route add 10.0.0.0/8 via 203.0.113.9
route add 10.20.0.0/16 via 203.0.113.9 src 203.0.113.1
route replace 192.0.2.0/25 via 198.51.100.9 src 198.51.100.1
route replace default via 2001:db8:113::9 src 2001:db8:113::77
route add fd20::/32 via 2001:db8:113::9
";

/// What packets are marked with when they come to the gateway or begin there, by their DSCP.
const MARKS: [u32; 5] = [0, 0x41, 0x100, 0x1ff, 0x4000];

/// Senders: the node, and the addresses it may bind to.
const LAN_SOURCES: [[&str; 2]; 2] = [address::LAN, address::LAN_SECOND];
const GATEWAY_SOURCES: [[&str; 2]; 4] = [address::GATEWAY_LAN, address::WAN0, address::VIP, address::WAN1];

#[derive(Debug, Clone)]
struct Sent {
    by_gateway: bool,
    source: IpAddr,
    destination: IpAddr,
    kind: Kind,
    dscp: usize,
}

impl Sent {
    /// The flow as the policy sees it.
    fn flow(&self, routes: &RouteSources) -> Flow {
        let out = Uplink::towards(self.destination);
        let on_out: &[[&str; 2]] = match out {
            Uplink::Wan0 => &[address::WAN0, address::VIP],
            Uplink::Wan1 => &[address::WAN1],
        };
        Flow {
            source: Some(self.source),
            source_is_local: self.by_gateway,
            source_on_out_interface: on_out.iter().flatten().any(|own| parse(own) == self.source),
            out_interface: Some(out.name().to_owned()),
            destination: self.destination,
            protocol: match self.kind {
                Kind::Tcp => Protocol::Tcp,
                Kind::Udp => Protocol::Udp,
                Kind::Sctp => Protocol::Sctp,
                Kind::Ping => Protocol::Icmp,
                Kind::Raw(number) => Protocol::Other(number),
            },
            opens_connection: true,
            mark: MARKS[self.dscp],
            preferred_source: routes.find(out.name(), self.destination).and_then(|row| row.source),
            ..Flow::forwarded_to(self.destination)
        }
    }

    /// The source that the far end must see under a policy.
    fn expected(&self, policy: &Policy, routes: &RouteSources) -> IpAddr {
        match policy.verdict(&self.flow(routes)).0 {
            Verdict::Return => self.source,
            Verdict::Snat(to) if to.is_one() => to.first(),
            Verdict::Snat(to) => panic!("no policy of these has several addresses: {to}"),
            Verdict::Masquerade => Uplink::towards(self.destination).masquerade_address(self.destination),
        }
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let sender = prop_oneof![
        3 => select(LAN_SOURCES.to_vec()).prop_map(|sources| (false, sources)),
        2 => select(GATEWAY_SOURCES.to_vec()).prop_map(|sources| (true, sources)),
    ];
    let kind = select(vec![Kind::Tcp, Kind::Udp, Kind::Sctp, Kind::Ping]);
    let dscp = prop_oneof![1 => Just(0), 1 => 0..MARKS.len()];
    (sender, select(DESTINATIONS.to_vec()), kind, dscp).prop_map(|((by_gateway, sources), destination, kind, dscp)| {
        let destination = parse(destination);
        Sent { by_gateway, source: parse(sources[usize::from(destination.is_ipv6())]), destination, kind, dscp }
    })
}

/// A list of prefixes of any length around the addresses, as YAML.
fn any_cidrs(around: &'static [&'static str]) -> impl Strategy<Value = String> {
    let cidr = (select(around), 0..=128u8).prop_map(|(address, length)| {
        let address = parse(address);
        let length = if address.is_ipv4() { length / 4 } else { length };
        let prefix = ip_masq_agent::policy::Prefix::containing(address, length).expect("a length that fits");
        format!("'{prefix}'")
    });
    let short = prop::collection::vec(cidr, 0..6);
    // Long enough to be an ipset, with nothing to aggregate and some of the addresses in it.
    let long = (short.clone(), 70..120_u16).prop_map(|(mut cidrs, count)| {
        cidrs.extend((0..count).flat_map(every_second));
        cidrs
    });
    prop_oneof![3 => short, 1 => long].prop_map(|cidrs| format!("[{}]", cidrs.join(", ")))
}

fn every_second(number: u16) -> [String; 4] {
    let even = 2 * number;
    [
        format!("10.20.{even}.0/24"),
        format!("192.168.{even}.0/24"),
        format!("'fd20:{:x}::/32'", 0x8000 + even),
        format!("'fd00:{even:x}::/32'"),
    ]
}

const SOURCES: &[&str] = &["192.168.77.2", "192.168.78.2", "203.0.113.77", "fd00:77::2", "fd00:78::2"];

fn any_snat() -> impl Strategy<Value = String> {
    let words = vec!["masquerade", "none", "route-source", "203.0.113.66", "['2001:db8:113::66', 198.51.100.66]"];
    select(words).prop_map(str::to_owned)
}

/// Entries that leave something to each other: by interface, by source, and by both.
fn any_egress() -> impl Strategy<Value = String> {
    let scopes = vec![
        "outInterfaces: [wan1], sourceCIDRs: [192.168.78.0/24, 'fd00:78::/64']",
        "sourceCIDRs: [203.0.113.77/32, 192.168.77.2/31]",
        "outInterfaces: ['!wan1'], excludeSourceCIDRs: [192.168.77.0/24, 'fd00:77::/64']",
        "outInterfaces: ['wan+']",
        "excludeSourceCIDRs: [192.168.77.1/32]",
    ];
    let entry = (any_snat(), proptest::option::of(any_cidrs(&DESTINATIONS)));
    (subsequence(scopes, 0..=5), prop::collection::vec(entry, 5)).prop_map(|(scopes, entries)| {
        let entry = |(scope, (snat, exempt)): (&str, (String, Option<String>))| {
            let exempt = exempt.map_or(String::new(), |list| format!(", nonMasqueradeCIDRs: {list}"));
            format!("{{{scope}, snat: {snat}{exempt}}}")
        };
        let entries: Vec<_> = scopes.into_iter().zip(entries).map(entry).collect();
        format!("egress: [{}]", entries.join(", "))
    })
}

/// Some keys of a configuration file, each in a line of its own.
fn any_keys() -> impl Strategy<Value = String> {
    let interfaces = vec!["wan0", "wan1", "wan+", "'!wan0'", "'!wan1'", "absent+"];
    let keys = (
        any_cidrs(&DESTINATIONS).prop_map(|list| format!("nonMasqueradeCIDRs: {list}")),
        any_cidrs(&DESTINATIONS).prop_map(|list| format!("masqueradeExceptionCIDRs: {list}")),
        any_cidrs(SOURCES).prop_map(|list| format!("sourceCIDRs: {list}")),
        any_cidrs(SOURCES).prop_map(|list| format!("excludeSourceCIDRs: {list}")),
        subsequence(interfaces, 0..3).prop_map(|list| format!("outInterfaces: [{}]", list.join(", "))),
        any::<bool>().prop_map(|on| format!("masqLinkLocal: {on}")),
        any::<bool>().prop_map(|on| format!("masqLocalSource: {on}")),
        any::<bool>().prop_map(|on| format!("randomFully: {on}")),
        any_snat().prop_map(|snat| format!("snat: {snat}")),
        any_egress(),
    );
    let marks = subsequence(vec!["0x100/0xff00", "0x1/0x1", "0x4000", "0x0/0xffff"], 1..3);
    let more = (
        select(vec!["longest-prefix", "longest-prefix", "ordered"]).prop_map(|word| format!("evaluation: {word}")),
        marks.prop_map(|list| format!("exemptMarks: [{}]", list.join(", "))),
        select(vec!["1024-2047,4000,60000-61000", "2000"]).prop_map(|ports| format!("toPorts: '{ports}'")),
    );
    let text = (keys, more).prop_flat_map(|(keys, more)| {
        let all = vec![keys.0, keys.1, keys.2, keys.3, keys.4, keys.5, keys.6, keys.7, keys.8, keys.9];
        let all = [all, vec![more.0, more.1, more.2]].concat();
        subsequence(all, 0..=13).prop_map(|some| some.join("\n"))
    });
    // Which of two lists decides can't be said of a range that is in both.
    text.prop_filter("a range in both lists", |text| {
        let source = SourceText { path: Path::new("random.yaml").into(), text: format!("enableIPv6: true\n{text}") };
        let parsed = config::parse(&[source], &Flags::default());
        !parsed
            .is_err_and(|error| error.to_string().contains("with evaluation: longest-prefix it can be in one of them"))
    })
}

/// Marks packets by their DSCP before they are routed, and those of the gateway itself.
fn mark(lab: &Lab) {
    let rule = |(dscp, mark)| format!("ip dscp {dscp} meta mark set {mark}\nip6 dscp {dscp} meta mark set {mark}\n");
    let rules: String = MARKS.iter().enumerate().map(rule).collect();
    let chain = |hook| format!("chain {hook} {{\ntype filter hook {hook} priority -250\n{rules}}}\n");
    let table = format!("table inet marks {{\n{}{}}}\n", chain("prerouting"), chain("output"));
    lab.gateway.nft(&table);
}

/// The ports that a policy without entries gives what it translates.
fn ports(policy: &Policy, sent: &Sent) -> Option<PortRanges> {
    let has_ports = matches!(sent.kind, Kind::Tcp | Kind::Udp | Kind::Sctp) && policy.egress.is_empty();
    policy.to_ports.clone().filter(|_| has_ports)
}

#[test]
fn the_far_end_sees_what_the_policy_says() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        lab.gateway.ip(ROUTES);
        mark(&lab);
        let routes = lab.gateway.enter(|| rtnetlink::network().expect("routes").route_sources());
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let mut runner = TestRunner::new(Config {
            cases: POLICIES,
            failure_persistence: None,
            max_shrink_iters: 64,
            ..Config::default()
        });
        let cases = (any_keys(), prop::collection::vec(any_sent(), FLOWS));
        let result = runner.run(&cases, |(keys, flows)| {
            let text = gateway.config(&keys);
            gateway.agent.configure(&text);
            gateway.agent.attempt("run", &["--once"]).map_err(TestCaseError::fail)?;
            let path = Path::new(gateway.agent.config_path()).into();
            let policy = config::parse(&[SourceText { path, text }], &Flags::default()).expect("a good file").policy;
            for sent in flows {
                let node = if sent.by_gateway { &lab.gateway } else { &lab.lan };
                let probe = Probe::new(sent.kind, sent.destination).from(sent.source).with_dscp(sent.dscp as u8);
                let seen = probe.seen(node, &lab.observer);
                let (verdict, by) = policy.verdict(&sent.flow(&routes));
                let source = seen.as_ref().map(|seen| seen.source);
                prop_assert_eq!(source, Some(sent.expected(&policy, &routes)), "{:?}: {:?} {:?}", sent, verdict, by);
                let port = seen.map_or(0, |seen| seen.source_port());
                let ports = ports(&policy, &sent).filter(|_| verdict != Verdict::Return);
                let is_one_of = |ports: PortRanges| ports.ranges().iter().any(|range| range.contains(port));
                prop_assert!(ports.is_none_or(is_one_of), "{:?}: {:?} {:?} from port {}", sent, verdict, by, port);
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{backend}: {error}");
        }
    }
}
