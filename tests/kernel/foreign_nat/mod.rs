//! Foreign nat rules are read as they are, in the order in which the kernel asks them.

mod iptables;
mod keepers;
mod malformed;
mod nft;

use crate::namespace;
use ip_masq_agent::policy::Family;
use ip_masq_agent::service::foreign_nat;
use ip_masq_agent::sys::nfnetlink::Nfnetlink;

#[test]
fn rules_of_nft_and_of_iptables_are_put_into_words() {
    namespace::enter!();
    namespace::nft(
        "table ip early {\n chain post {\n type nat hook postrouting priority 90;\n \
         ip saddr 192.168.0.0/16 oifname \"ppp*\" masquerade comment \"dial-up\"\n \
         ip daddr != 203.0.113.0/24 tcp dport 25 snat to 198.51.100.2\n }\n \
         chain filter {\n type filter hook postrouting priority 0;\n drop\n }\n}\n",
    );
    namespace::run(
        "iptables-nft-restore",
        &["--noflush"],
        "*nat\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n:IP-MASQ-AGENT - [0:0]\n\
         -A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL \
         destination traffic to our custom IP-MASQ-AGENT chain\" -j IP-MASQ-AGENT\n\
         -A POSTROUTING -m mark --mark 7 -j ACCEPT\nCOMMIT\n",
    );
    let found = foreign_nat::read(&mut Nfnetlink::open().unwrap(), Family::V4).unwrap();
    assert!(found.ours_found, "{found:?}");
    assert_eq!(
        found.before[..2],
        [
            "ip early post (priority 90): ip saddr 192.168.0.0/16 oifname \"ppp*\" masquerade comment \"dial-up\"",
            "ip early post (priority 90): ip daddr != 203.0.113.0/24 tcp dport 25 snat to 198.51.100.2",
        ]
    );
    // iptables 1.8.9 writes the interface first, 1.8.11 the address.
    let docker = found.before[2].strip_prefix("ip nat POSTROUTING (priority 100): ").unwrap();
    let docker = docker.strip_suffix(" MASQUERADE").unwrap();
    let (address, interface) = ("ip saddr 172.17.0.0/16", "oifname != \"docker0\"");
    assert!(
        [format!("{address} {interface}"), format!("{interface} {address}")].contains(&docker.to_owned()),
        "{docker}"
    );
    assert_eq!(found.before.len(), 3);
    assert_eq!(found.after.len(), 1, "{:?}", found.after);
    assert!(foreign_nat::read(&mut Nfnetlink::open().unwrap(), Family::V6).unwrap().before.is_empty());
}

#[test]
fn rules_of_iptables_legacy_are_among_them_and_asking_makes_no_table() {
    namespace::enter!();
    let read = || foreign_nat::read(&mut Nfnetlink::open().unwrap(), Family::V4).unwrap();
    assert_eq!(read(), foreign_nat::ForeignRules::default());
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    assert!(!names.contains("nat"), "{names}");
    namespace::nft("table ip early {\n chain post {\n type nat hook postrouting priority 90;\n masquerade\n }\n}\n");
    namespace::run(
        "iptables-legacy-restore",
        &["--noflush"],
        "*nat\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -m comment --comment \"a b\" -j MASQUERADE\n\
         :IP-MASQ-AGENT - [0:0]\n\
         -A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL \
         destination traffic to our custom IP-MASQ-AGENT chain\" -j IP-MASQ-AGENT\n\
         -A POSTROUTING -d 192.0.2.1/32 -j ACCEPT\nCOMMIT\n",
    );
    let legacy = "ip nat POSTROUTING of iptables-legacy (priority 100)";
    let docker = format!("{legacy}: -s 172.17.0.0/16 ! -o docker0 -m comment --comment \"a b\" -j MASQUERADE");
    let found = read();
    assert!(found.ours_found, "{found:?}");
    assert_eq!(found.before, ["ip early post (priority 90): masquerade".to_owned(), docker]);
    assert_eq!(found.after, [format!("{legacy}: -d 192.0.2.1/32 -j ACCEPT")]);
}
