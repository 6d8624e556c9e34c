//! Which rules keep connection tracking on is held against the kernel: with the rule alone in a namespace, a packet is
//! tracked or it is not.

use crate::namespace;
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::ChainName;
use ip_masq_agent::service::foreign_nat::keepers::{self, Ours};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What is in a table of family inet.
const NFT: &[&str] = &[
    "chain c {\n ct state new\n }",
    "chain c {\n ct mark set 1\n }",
    "chain c {\n masquerade\n }",
    "chain c {\n tcp dport 80 snat ip to 192.0.2.1:80\n }",
    "chain c {\n redirect\n }",
    "chain c {\n ct count over 5 drop\n }",
    "ct helper ftp {\n type \"ftp\" protocol tcp\n }\n chain c {\n type filter hook prerouting priority 0\n ct helper set \"ftp\"\n }",
    "ct timeout t {\n protocol tcp\n l3proto ip\n policy = { established: 60 }\n }\n chain c {\n type filter hook prerouting priority 0\n ct timeout set \"t\"\n }",
    "ct expectation e {\n protocol tcp\n dport 9876\n timeout 1m\n size 12\n l3proto ip\n }\n chain c {\n ct expectation set \"e\"\n }",
    "set s {\n type ipv4_addr\n flags dynamic\n }\n chain c {\n type filter hook input priority 0\n add @s { ip saddr ct count over 5 }\n }",
    "synproxy p {\n mss 1460\n wscale 7\n }\n chain c {\n type filter hook input priority 0\n synproxy name \"p\"\n }",
    "chain c {\n type filter hook input priority 0\n synproxy mss 1460 wscale 7\n }",
    "chain c {\n type filter hook prerouting priority -300\n notrack\n }",
    "chain c {\n type nat hook postrouting priority 100\n accept\n }",
    "chain c {\n type filter hook input priority 0\n meta mark 1 fib saddr type local ip saddr 10.0.0.0/8 counter drop\n }",
    "chain c {\n type filter hook prerouting priority 0\n socket transparent 1 accept\n }",
    "chain c {\n type filter hook prerouting priority 0\n meta l4proto tcp tproxy ip to :50080\n }",
    "set s {\n type ipv4_addr\n flags dynamic\n }\n chain c {\n type filter hook input priority 0\n add @s { ip saddr limit rate 5/second }\n }",
];

/// A table of iptables, and a rule in it.
const IPTABLES: &[(&str, &str)] = &[
    ("filter", "-A INPUT -m conntrack --ctstate NEW"),
    ("filter", "-A INPUT -m state --state NEW"),
    ("filter", "-A INPUT -m connmark --mark 1"),
    ("filter", "-A INPUT -m connbytes --connbytes 5 --connbytes-dir both --connbytes-mode packets"),
    ("filter", "-A INPUT -p tcp -m connlimit --connlimit-above 5"),
    ("filter", "-A INPUT -m helper --helper ftp"),
    ("filter", "-A INPUT -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 1"),
    ("mangle", "-A PREROUTING -j CONNMARK --save-mark"),
    ("mangle", "-A PREROUTING -j CONNSECMARK --save"),
    ("raw", "-A PREROUTING -j CT --zone 1"),
    ("raw", "-A PREROUTING -j CT --notrack"),
    ("nat", "-A POSTROUTING -o ppp0 -j MASQUERADE"),
    ("nat", "-A POSTROUTING -o ppp0 -j SNAT --to-source 192.0.2.1"),
    ("nat", "-A PREROUTING -d 192.0.2.9/32 -j DNAT --to-destination 192.0.2.1"),
    ("nat", "-A PREROUTING -p tcp -j REDIRECT"),
    ("nat", "-A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 198.51.100.0/24"),
    ("nat", "-A POSTROUTING -j ACCEPT"),
    ("filter", "-A INPUT -p tcp -m tcp --dport 80 -j SYNPROXY --mss 1460"),
    ("filter", "-A INPUT -m mark --mark 1 -j DROP"),
    ("filter", "-A INPUT -p tcp -m multiport --dports 1,2 -m addrtype --src-type LOCAL"),
    ("filter", "-A INPUT -m recent --name x --set"),
    ("mangle", "-A PREROUTING -p tcp -m socket --transparent"),
    ("mangle", "-A PREROUTING -p tcp -j TPROXY --on-port 50080"),
    ("mangle", "-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff"),
];

const IP6TABLES: &[(&str, &str)] = &[
    ("filter", "-A INPUT -m conntrack --ctstate NEW"),
    ("nat", "-A POSTROUTING -o ppp0 -j MASQUERADE"),
    ("nat", "-A POSTROUTING -j ACCEPT"),
    ("filter", "-A INPUT -p tcp -m multiport --dports 1,2 -m mark --mark 1 -j DROP"),
];

/// True when the kernel tracks a packet of this namespace.
fn tracks(family: Family) -> bool {
    namespace::run("ip", &["link", "set", "lo", "up"], "");
    let (loopback, name) = match family {
        Family::V4 => (IpAddr::from(Ipv4Addr::LOCALHOST), "ipv4"),
        Family::V6 => (IpAddr::from(Ipv6Addr::LOCALHOST), "ipv6"),
    };
    let socket = UdpSocket::bind((loopback, 0)).unwrap();
    socket.send_to(b"x", (loopback, 9)).unwrap();
    !namespace::run("conntrack", &["-L", "-f", name, "-p", "udp"], "").is_empty()
}

/// What is said to keep connection tracking on when our rules in this backend are gone.
fn tracking_without(backend: BackendName, family: Family) -> Option<String> {
    let ours = Ours { backend, chain: &ChainName::default() };
    keepers::read(&mut None, ours, &[family]).0.remove(0).1.unwrap().tracking
}

/// Compares what is said with what is, in a fresh namespace with these rules.
fn difference(family: Family, rules: &str, load: impl Fn()) -> Option<String> {
    assert!(namespace::entered());
    load();
    let (said, is) = (tracking_without(BackendName::Nftables, family), tracks(family));
    (said.is_some() != is).then(|| format!("{rules}: the kernel tracks: {is}, but {said:?}"))
}

#[test]
fn a_rule_that_keeps_connection_tracking_on_is_known_and_no_other_is_taken_for_one() {
    namespace::enter!();
    let mut wrong = Vec::new();
    wrong.extend(difference(Family::V4, "nothing", || ()));
    for rules in NFT {
        let load = || {
            namespace::nft(&format!("table inet t {{\n{rules}\n}}\n"));
        };
        wrong.extend(difference(Family::V4, rules, load));
    }
    for (variant, family, rules) in [
        ("iptables-nft-restore", Family::V4, IPTABLES),
        ("iptables-legacy-restore", Family::V4, IPTABLES),
        ("ip6tables-nft-restore", Family::V6, IP6TABLES),
        ("ip6tables-legacy-restore", Family::V6, IP6TABLES),
    ] {
        for (table, rule) in rules {
            let input = format!("*{table}\n{rule}\nCOMMIT\n");
            let load = || drop(namespace::run(variant, &["--noflush"], &input));
            wrong.extend(difference(family, &format!("{variant} {rule}"), load));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// With two interfaces the rule that masquerades is in the second chain.
#[test]
fn every_chain_of_ours_goes_and_keeps_nothing_on() {
    for (restore, backend) in
        [("iptables-nft-restore", BackendName::IptablesNft), ("iptables-legacy-restore", BackendName::IptablesLegacy)]
    {
        namespace::enter!();
        let rules = "*nat\n:IP-MASQ-AGENT - [0:0]\n:IP-MASQ-AGENT-2 - [0:0]\n:OTHER - [0:0]\n-A POSTROUTING -j IP-MASQ-AGENT\n\
                     -A IP-MASQ-AGENT -o wan0 -g IP-MASQ-AGENT-2\n-A IP-MASQ-AGENT-2 -j MASQUERADE\nCOMMIT\n";
        namespace::run(restore, &["--noflush"], rules);
        assert_eq!(tracking_without(backend, Family::V4), None, "{restore}");
        namespace::run(restore, &["--noflush"], "*nat\n-A OTHER -j MASQUERADE\nCOMMIT\n");
        assert!(tracking_without(backend, Family::V4).is_some(), "{restore}");
    }
}
