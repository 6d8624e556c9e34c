//! Foreign nat rules are read as they are, in the order in which the kernel asks them.

mod iptables;
mod keepers;
mod malformed;
mod nft;

use crate::namespace;
use ip_masq_agent::network::hook::{BaseChain, Fit, Hook, Packet, translations};
use ip_masq_agent::policy::Family;
use ip_masq_agent::service::foreign_nat::{ChainReader, Chains};

/// The chains of a family that are asked for the source.
fn chains(family: Family) -> Vec<BaseChain> {
    let mut reader = ChainReader::default();
    let Chains(mut chains) = reader.read().unwrap().clone();
    let mut chains = chains.remove(&family).unwrap();
    chains.retain(|chain| chain.is_nat && chain.hook == Some(Hook::Postrouting));
    chains
}

/// Every rule of them, in words.
fn lines(family: Family) -> Vec<String> {
    let comment =
        |comment: &Option<String>| comment.as_ref().map(|text| format!(" comment \"{text}\"")).unwrap_or_default();
    let chains = chains(family);
    let lines = chains.iter().flat_map(|chain| {
        chain.rules.iter().map(move |rule| {
            let BaseChain { family, table, name, priority, .. } = chain;
            format!("{family} {table} {name} (priority {priority}): {}{}", rule.text, comment(&rule.comment))
        })
    });
    lines.collect()
}

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
    let chains = chains(Family::V4);
    let found = translations(&chains.iter().collect::<Vec<_>>(), &Packet::any(Family::V4));
    assert!(found.has_ours, "{found:?}");
    let before: Vec<&str> = found.before.iter().map(|hit| hit.line.as_str()).collect();
    assert_eq!(
        before[..2],
        [
            "ip early post (priority 90): ip saddr 192.168.0.0/16 oifname \"ppp*\" masquerade comment \"dial-up\"",
            "ip early post (priority 90): ip daddr != 203.0.113.0/24 tcp dport 25 snat to 198.51.100.2",
        ]
    );
    // iptables 1.8.9 writes the interface first, 1.8.11 the address.
    let docker = before[2].strip_prefix("ip nat POSTROUTING (priority 100): ").unwrap();
    let docker = docker.strip_suffix(" MASQUERADE").unwrap();
    let (address, interface) = ("ip saddr 172.17.0.0/16", "oifname != \"docker0\"");
    assert!(
        [format!("{address} {interface}"), format!("{interface} {address}")].contains(&docker.to_owned()),
        "{docker}"
    );
    assert_eq!(before.len(), 3);
    assert_eq!(found.after, [], "an accept after ours changes nothing");
    assert!(self::chains(Family::V6).is_empty());
}

#[test]
fn jumps_are_followed_and_a_chain_that_is_gone_the_next_time_is_read_again() {
    namespace::enter!();
    namespace::run(
        "iptables-nft-restore",
        &["--noflush"],
        "*nat\n:A - [0:0]\n:B - [0:0]\n-A POSTROUTING -o wan0 -j A\n-A A -s 10.0.0.0/8 -g B\n\
         -A B -m mark --mark 0x1 -j SNAT --to-source 198.51.100.2\nCOMMIT\n",
    );
    let mut reader = ChainReader::default();
    let wins = |reader: &mut ChainReader, mark| {
        let Chains(chains) = reader.read().unwrap();
        let packet = Packet {
            source: "10.1.2.3/32".parse().ok(),
            out_interface: Some("wan0".to_owned()),
            mark: Some(mark),
            ..Packet::any(Family::V4)
        };
        let found = translations(&chains[&Family::V4].iter().collect::<Vec<_>>(), &packet);
        found.after.first().map(|hit| (hit.fit, hit.line.clone()))
    };
    let line = "ip nat B (from POSTROUTING, priority 100): meta mark 0x1 SNAT --to-source 198.51.100.2";
    assert_eq!(wins(&mut reader, 1), Some((Fit::Yes, line.to_owned())));
    assert_eq!(wins(&mut reader, 2), None);
    namespace::run("iptables-nft", &["-t", "nat", "-F", "B"], "");
    assert_eq!(wins(&mut reader, 1), None);
}

#[test]
fn rules_of_iptables_legacy_are_among_them_and_asking_makes_no_table() {
    namespace::enter!();
    assert_eq!(chains(Family::V4), []);
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    assert!(!names.contains("nat") && !names.contains("filter"), "{names}");
    namespace::nft(
        "table ip early {\n chain post {\n type nat hook postrouting priority 90;\n ip daddr 10.0.0.0/8 masquerade\n }\n}\n",
    );
    namespace::run(
        "iptables-legacy-restore",
        &["--noflush"],
        "*nat\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -m comment --comment \"a b\" -j MASQUERADE\n\
         :IP-MASQ-AGENT - [0:0]\n\
         -A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL \
         destination traffic to our custom IP-MASQ-AGENT chain\" -j IP-MASQ-AGENT\n\
         -A POSTROUTING -d 192.0.2.1/32 -j MASQUERADE\nCOMMIT\n",
    );
    let legacy = "ip nat POSTROUTING of iptables-legacy (priority 100)";
    let docker = format!("{legacy}: -s 172.17.0.0/16 ! -o docker0 -m comment --comment \"a b\" -j MASQUERADE");
    let chains = chains(Family::V4);
    let found = translations(&chains.iter().collect::<Vec<_>>(), &Packet::any(Family::V4));
    assert!(found.has_ours, "{found:?}");
    let lines =
        |hits: &[ip_masq_agent::network::hook::Hit]| hits.iter().map(|hit| hit.line.clone()).collect::<Vec<_>>();
    assert_eq!(
        lines(&found.before),
        ["ip early post (priority 90): ip daddr 10.0.0.0/8 masquerade".to_owned(), docker]
    );
    assert_eq!(lines(&found.after), [format!("{legacy}: -d 192.0.2.1/32 -j MASQUERADE")]);
}
