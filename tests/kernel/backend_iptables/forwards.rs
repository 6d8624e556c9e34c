//! Port forwards in the tables: written whole, read back, repaired, changed in few chains, taken away without a trace.

use super::gateway::{IptablesGateway, both_variants};
use crate::policies::default_policy;
use ip_masq_agent::policy::{
    Family, Forward, Hairpin, HostAddress, Origin, Policy, PortRange, Prefix, PrefixSet, Protocol, WithOrigin,
};
use ip_masq_agent::ruleset::JumpPosition;

/// A forward of TCP to an address of either family, at any address of the host.
pub fn forward(number: u32, ports: (u16, u16), to: &str, port: u16) -> Forward {
    Forward {
        number,
        origin: Origin::Default,
        host_ports: PortRange { first: ports.0, last: ports.1 },
        protocols: vec![Protocol::Tcp],
        host: HostAddress::Any,
        v4: to.parse().ok(),
        v6: to.parse().ok(),
        port,
        in_interfaces: Vec::new(),
        sources: PrefixSet::default(),
        excluded_sources: PrefixSet::default(),
        hairpin: Hairpin::Never,
        localhost: false,
    }
}

pub fn sources(prefixes: &[&str]) -> PrefixSet {
    let prefixes: Vec<Prefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    PrefixSet::from_prefixes(prefixes, &Origin::Default)
}

fn interfaces(names: &[&str]) -> Vec<WithOrigin<ip_masq_agent::policy::InterfacePattern>> {
    names.iter().map(|name| WithOrigin { value: name.parse().unwrap(), origin: Origin::Default }).collect()
}

/// One of each kind.
pub fn of_every_kind() -> Policy {
    let mut forwards = vec![
        Forward { localhost: true, hairpin: Hairpin::Always, ..forward(1, (8080, 8080), "10.88.0.5", 80) },
        Forward {
            protocols: vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
            ..forward(2, (7000, 7010), "10.88.0.5", 7000)
        },
        forward(3, (8100, 8102), "10.88.0.5", 7001),
        Forward {
            host: HostAddress::One("198.51.100.7".parse().unwrap()),
            in_interfaces: interfaces(&["wan0", "ppp+"]),
            sources: sources(&["203.0.113.0/24", "198.51.100.0/24"]),
            excluded_sources: sources(&["203.0.113.7/32"]),
            ..forward(4, (8080, 8080), "10.88.0.6", 80)
        },
        Forward { in_interfaces: interfaces(&["!lan0"]), ..forward(5, (9443, 9443), "10.88.0.5", 9443) },
        Forward {
            host: HostAddress::One("127.0.0.5".parse().unwrap()),
            localhost: true,
            hairpin: Hairpin::From(sources(&["10.88.0.0/16"])),
            ..forward(6, (25, 25), "10.88.0.5", 2525)
        },
        forward(7, (8080, 8080), "fd88::5", 80),
        Forward { hairpin: Hairpin::From(sources(&["fd88::/64"])), ..forward(8, (8100, 8102), "fd88::5", 7001) },
        Forward { host: HostAddress::One("2001:db8::7".parse().unwrap()), ..forward(9, (443, 443), "fd88::6", 443) },
    ];
    forwards[0].protocols.push(Protocol::Udp);
    Policy { forwards, enable_ipv6: true, ..default_policy() }
}

/// So many forwards of single ports, evenly over all of them.
pub fn many(count: u32) -> Policy {
    let port = |number: u32| (number * 65_521 / count + 7) as u16;
    let one = |number: u32| forward(number + 1, (port(number), port(number)), "10.88.0.5", 80);
    Policy { forwards: (0..count).map(one).collect(), ..default_policy() }
}

/// The guard is the only rule of the raw table that we know of.
fn raw(host: &IptablesGateway) -> String {
    host.namespace.must("sh", &["-c", &format!("{}-save -t raw", program(host))])
}

fn program(host: &IptablesGateway) -> &'static str {
    match host.variant {
        ip_masq_agent::backend::iptables::tools::Variant::Nft => "iptables-nft",
        ip_masq_agent::backend::iptables::tools::Variant::Legacy => "iptables-legacy",
    }
}

fn has_raw(host: &IptablesGateway) -> bool {
    let ask = match host.variant {
        ip_masq_agent::backend::iptables::tools::Variant::Nft => "nft list tables | grep -c 'ip raw'",
        ip_masq_agent::backend::iptables::tools::Variant::Legacy => "grep -c raw /proc/thread-self/net/ip_tables_names",
    };
    host.namespace.run("sh", &["-c", ask]).status.success()
}

both_variants! {
    fn forwards_of_every_kind_are_written_read_back_and_taken_away(host: IptablesGateway) {
        host.policy = of_every_kind();
        for position in [JumpPosition::Last, JumpPosition::First] {
            host.position = position;
            for family in Family::ALL {
                host.apply_to(family);
            }
            host.restart("OTHER");
            for family in Family::ALL {
                host.apply_to(family);
                assert!(!host.save(family).contains("IP-MASQ-AGENT"), "{}", host.save(family));
            }
            host.restart("IP-MASQ-AGENT");
            assert_eq!(raw(&host).matches("-A PREROUTING").count(), 1, "{}", raw(&host));
            for family in Family::ALL {
                host.flush(family);
                assert!(!host.save(family).contains("-A"), "{}", host.save(family));
            }
            assert!(!raw(&host).contains("-A"), "{}", raw(&host));
        }
    }

    fn a_raw_table_is_made_only_for_the_guard(host: IptablesGateway) {
        host.policy = many(3);
        host.apply();
        host.flush(Family::V4);
        assert!(!has_raw(&host));
        host.policy.forwards[0].localhost = true;
        host.apply();
        assert!(has_raw(&host));
        host.policy.forwards[0].localhost = false;
        let written = host.apply();
        assert!(written.drift.iter().any(|line| line.contains("guard of loopback")), "{:?}", written.drift);
        assert!(!raw(&host).contains("-A"), "{}", raw(&host));
    }

    fn whatever_is_taken_away_or_put_in_front_is_seen_named_and_repaired(host: IptablesGateway) {
        host.policy = of_every_kind();
        host.position = JumpPosition::First;
        host.apply();
        let whole = (host.save(Family::V4), raw(&host).matches("-A").count());
        let sabotages = [
            ("*nat\n-F PREROUTING", "the jump in PREROUTING to 'IP-MASQ-AGENT-fp' is missing"),
            ("*nat\n-F OUTPUT", "the jump in OUTPUT to 'IP-MASQ-AGENT-fo' is missing"),
            ("*nat\n-F POSTROUTING", "the jump to 'IP-MASQ-AGENT' is missing"),
            ("*nat\n-F IP-MASQ-AGENT-fc", "chain 'IP-MASQ-AGENT-fc' is empty"),
            ("*nat\n-F IP-MASQ-AGENT-fd", "chain 'IP-MASQ-AGENT-fd' is empty"),
            ("*nat\n-I IP-MASQ-AGENT-fp 1 -j ACCEPT", "-j ACCEPT"),
            ("*nat\n-I PREROUTING 1 -j ACCEPT", "the jump in PREROUTING is not the first rule of PREROUTING"),
            ("*nat\n-I OUTPUT 1 -j ACCEPT", "the jump in OUTPUT is not the first rule of OUTPUT"),
            (
                "*nat\n-R IP-MASQ-AGENT-fl 1 -p tcp -m tcp --dport 26 -m comment --comment \"ip-masq-agent: forwarded (portForwards)\" -j DNAT --to-destination 10.88.0.5:2525",
                "rule 1 of chain 'IP-MASQ-AGENT-fl' is not what it should be",
            ),
            ("*raw\n-F PREROUTING", "the guard of loopback addresses in raw PREROUTING is missing"),
            ("*raw\n-I PREROUTING 1 -j ACCEPT", "the guard of loopback addresses in raw PREROUTING is not the first rule"),
        ];
        for (sabotage, expected) in sabotages {
            let before = (host.fingerprint(), host.content_fingerprints());
            let output = host.namespace.run_with_input(
                &format!("{}-restore", program(&host)), &["--noflush"], &format!("{sabotage}\nCOMMIT\n"));
            assert!(output.status.success(), "{sabotage}: {output:?}");
            assert_ne!((host.fingerprint(), host.content_fingerprints()), before, "{sabotage}");
            let written = host.apply();
            assert!(written.drift.iter().any(|line| line.contains(expected)), "{sabotage}: {:?}", written.drift);
            let undo = sabotage.replace("-I PREROUTING 1", "-D PREROUTING").replace("-I OUTPUT 1", "-D OUTPUT");
            if undo != sabotage {
                host.namespace.run_with_input(
                    &format!("{}-restore", program(&host)), &["--noflush"], &format!("{undo}\nCOMMIT\n"));
            }
            assert_eq!((host.save(Family::V4), raw(&host).matches("-A").count()), whole, "{sabotage}");
        }
    }

    fn a_change_of_one_forward_among_many_rewrites_few_chains(host: IptablesGateway) {
        host.policy = many(2000);
        host.apply();
        let mut changes: Vec<fn(&mut Policy)> = Vec::new();
        changes.push(|policy| _ = policy.forwards.remove(1000));
        changes.push(|policy| policy.forwards.push(forward(2001, (22, 22), "10.88.0.5", 22)));
        changes.push(|policy| policy.forwards[7].v4 = "10.88.0.9".parse().ok());
        changes.push(|policy| policy.forwards.insert(0, forward(1, (40_000, 40_020), "10.88.0.5", 80)));
        for change in changes {
            change(&mut host.policy);
            for (number, forward) in (1..).zip(&mut host.policy.forwards) {
                forward.number = number;
            }
            let written = host.apply();
            let lines = written.transaction().lines().count();
            assert!(lines < 150, "{lines} lines:\n{}", written.transaction());
        }
    }

    fn ten_thousand_forwards_load_and_one_of_them_changes_in_a_few_lines(host: IptablesGateway) {
        host.policy = many(10_000);
        host.apply();
        host.policy.forwards[5000].v4 = "10.88.0.9".parse().ok();
        let written = host.apply();
        assert!(written.transaction().lines().count() < 50, "{}", written.transaction());
        host.flush(Family::V4);
        assert!(!host.save(Family::V4).contains("-A"));
    }
}
