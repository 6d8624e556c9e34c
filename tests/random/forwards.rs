//! Random port forwards of a gateway with two networks behind it, and what reaches their targets.

use super::{TestRunner, any, select, vec};
use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::network::Reached;
use ip_masq_agent::policy::Policy;
use ip_masq_agent::ruleset::{HostFacts, NetworkFacts};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::strategy::ValueTree;
use std::path::Path;
use std::sync::Arc;

/// Where a flow may be sent to, and where forwards may lead it.
pub fn ports() -> impl Iterator<Item = u16> {
    [81, 5353, 8443, 9090, 9443, 10_097].into_iter().chain(8079..=8083).chain(6999..=7020)
}

/// The interface and the network through which each target is reached.
const TARGETS: [(&str, &str, &str); 6] = [
    ("10.88.0.5", "cni0", "10.88.0.0/16"),
    ("10.88.0.6", "cni0", "10.88.0.0/16"),
    ("192.168.50.2", "lan0", "192.168.50.0/24"),
    ("fd88::5", "cni0", "fd88::/64"),
    ("fd88::6", "cni0", "fd88::/64"),
    ("fd50::2", "lan0", "fd50::/64"),
];

/// What routes say of them.
pub fn facts() -> HostFacts {
    let reached = |(target, interface, network): (&str, &str, &str)| {
        let networks = vec![network.parse().unwrap()];
        (target.parse().unwrap(), Reached { interface: interface.to_owned(), index: 1, networks })
    };
    let targets = TARGETS.into_iter().map(reached).collect();
    HostFacts { network: Arc::new(NetworkFacts { targets, ..NetworkFacts::default() }), ..HostFacts::default() }
}

/// Ranges by the addresses of who sends, sometimes among more than there should be rules for.
fn clients() -> impl Strategy<Value = String> {
    let near = vec![
        "198.51.100.0/24",
        "198.51.100.2/32",
        "192.168.50.0/24",
        "10.88.0.0/16",
        "10.88.0.4/31",
        "127.0.0.0/8",
        "2001:db8:100::/64",
        "fd50::/64",
        "fd88::5/128",
    ];
    (subsequence(near, 1..5), prop_oneof![3 => Just(0_u16), 1 => Just(90)]).prop_map(|(near, more)| {
        let far = (0..more).flat_map(|n| [format!("203.0.{}.0/24", 2 * n), format!("2001:db9:{:x}::/48", 2 * n)]);
        let all: Vec<_> = near.into_iter().map(str::to_owned).chain(far).map(|one| format!("'{one}'")).collect();
        format!("[{}]", all.join(", "))
    })
}

/// One entry of `portForwards`; many of them say what can't be said, alone or together.
fn forward() -> impl Strategy<Value = String> {
    let ports = select(vec!["8080", "8081", "8443", "9443", "5353", "8080-8082", "7000-7010", "7003-7005", "7000"]);
    // The first of as many as there are, all of which are in `ports()`.
    let port = prop_oneof![1 => Just(None), 1 => select(vec!["6999", "7004", "7009"]).prop_map(Some)];
    let addresses = select(vec![
        "10.88.0.5",
        "'fd88::5'",
        "[10.88.0.5, 'fd88::5']",
        "[10.88.0.6, 'fd88::6']",
        "[192.168.50.2, 'fd50::2']",
        "192.168.50.2",
    ]);
    let host = vec!["198.51.100.7", "198.51.100.1", "0.0.0.0", "'::'", "'2001:db8:100::7'", "127.0.0.5"];
    let host = prop_oneof![2 => Just(None), 1 => select(host).prop_map(Some)];
    let interfaces = vec!["up0", "up+", "lan0", "cni0", "'!up0'", "'!lan0'", "'!absent0'"];
    let interfaces = prop_oneof![2 => Just(None), 1 => subsequence(interfaces, 1..3).prop_map(Some)];
    let gate = || prop_oneof![2 => Just(None), 1 => clients().prop_map(Some)];
    let hairpin = prop_oneof![3 => select(vec!["auto", "always", "never"]).prop_map(str::to_owned), 1 => clients()];
    let protocol = select(vec!["tcp", "udp", "[tcp, udp]"]);
    let from = (host, interfaces, gate(), gate(), any::<bool>());
    ((ports, port, addresses, protocol), from, hairpin).prop_map(|((ports, port, address, protocol), from, hairpin)| {
        let (host, interfaces, sources, excluded, localhost) = from;
        let keys = [
            ("port", port.map(str::to_owned)),
            ("hostIP", host.map(str::to_owned)),
            ("inInterfaces", interfaces.map(|list| format!("[{}]", list.join(", ")))),
            ("sourceCIDRs", sources),
            ("excludeSourceCIDRs", excluded),
            ("localhost", localhost.then(|| "true".to_owned())),
        ];
        let keys = keys.into_iter().filter_map(|(key, value)| Some(format!(", {key}: {}", value?)));
        let keys: String = keys.collect();
        format!("- {{hostPort: {ports}, address: {address}, protocol: {protocol}, hairpin: {hairpin}{keys}}}\n")
    })
}

fn policy(top: &str, forwards: &[String]) -> Result<Policy, String> {
    let text = format!("enableIPv6: true\n{top}portForwards:\n{}", forwards.concat());
    let source = SourceText { path: Path::new("random.yaml").into(), text };
    config::parse(&[source], &Flags::default()).map(|config| config.policy).map_err(|error| error.to_string())
}

/// As many of some random forwards as can be there together, sometimes among hundreds of others; with them the text of
/// those. What is translated is marked, or not.
pub fn draw(runner: &mut TestRunner, marked: bool) -> (String, Policy) {
    let exempt = select(vec!["", "nonMasqueradeCIDRs: ['0.0.0.0/0', '::/0']\n", "exemptMarks: [0x100/0xff00]\n"]);
    let others = prop_oneof![3 => Just(0_u16), 1 => Just(300)];
    let drawn = (vec(forward(), 1..25), exempt, others).new_tree(runner).unwrap().current();
    let (candidates, exempt, others) = drawn;
    let top = format!("{exempt}{}", if marked { "markMasqBit: 13\n" } else { "" });
    let mut taken = Vec::new();
    for candidate in candidates {
        taken.push(candidate);
        if policy(&top, &taken).is_err() {
            taken.pop();
        }
    }
    let text = format!("{top}{}", taken.concat());
    taken.push("- {hostPort: 9999, address: 10.88.0.5}\n".to_owned());
    taken.extend((0..others).map(|n| format!("- {{hostPort: {}, address: 10.88.0.6, port: 81}}\n", 10_000 + n * 97)));
    (text, policy(&top, &taken).unwrap_or_else(|error| panic!("{error}")))
}
