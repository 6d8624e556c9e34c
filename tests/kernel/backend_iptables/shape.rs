//! What the rules look like in the kernel, and that nothing is written when nothing changed.

use super::gateway::{IptablesGateway, both_variants};
use crate::policies::prefixes;
use ip_masq_agent::policy::{Family, Origin, WithOrigin};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition};
use std::net::{SocketAddr, UdpSocket};

both_variants! {
    fn the_default_policy_is_listed_as_the_go_agents_with_guards_and_multicast(host: IptablesGateway) {
        host.apply();
        let expected = r#"
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: an address of the outgoing interface is not subject to MASQUERADE" -m addrtype --src-type LOCAL --limit-iface-out -j RETURN
-A IP-MASQ-AGENT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m comment --comment "ip-masq-agent: open connections of this host are not subject to MASQUERADE" -m addrtype --src-type LOCAL -j RETURN
-A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 224.0.0.0/4 -m comment --comment "ip-masq-agent: multicast and broadcast are not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 255.255.255.255/32 -m comment --comment "ip-masq-agent: multicast and broadcast are not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 172.16.0.0/12 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 192.168.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
"#;
        let listed: Vec<_> = host.save(Family::V4).lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect();
        assert_eq!(listed.join("\n"), expected.trim());
    }

    fn with_masq_local_source_and_multicast_it_is_the_go_agents_chain(host: IptablesGateway) {
        host.policy.masq_local_source = true;
        host.policy.masq_multicast = true;
        host.apply();
        let chain: Vec<_> = host.save(Family::V4).lines().filter_map(|line| line.strip_prefix("-A IP-MASQ-AGENT ")).map(str::to_owned).collect();
        let keep = "-m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN";
        assert_eq!(chain, [
            format!("-d 169.254.0.0/16 {keep}"),
            format!("-d 10.0.0.0/8 {keep}"),
            format!("-d 172.16.0.0/12 {keep}"),
            format!("-d 192.168.0.0/16 {keep}"),
            "-m comment --comment \"ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)\" -j MASQUERADE --random-fully".into(),
        ]);
    }

    fn every_kind_of_statement_is_read_back_as_it_was_written(host: IptablesGateway) {
        let patterns = ["eth0", "wan+", "!wg0", "!lo", "et$0"];
        host.policy.out_interfaces = patterns.iter().map(|text| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default }).collect();
        host.policy.sources = prefixes(&["10.0.0.0/8", "192.168.0.0/24"]);
        host.policy.excluded_sources = prefixes(&["10.9.0.0/16"]);
        host.policy.exceptions = prefixes(&["10.1.2.3/32", "172.16.9.0/24"]);
        host.policy.to_ports = Some("1024-2047,4000,60000-65535".parse().unwrap());
        host.facts = HostFacts::default();
        host.apply();
        host.policy.random_fully = false;
        host.apply();
        host.policy.to_ports = Some("4000".parse().unwrap());
        host.apply();
    }

    fn a_gate_with_one_way_through_is_one_negated_rule(host: IptablesGateway) {
        host.policy.out_interfaces = vec![WithOrigin { value: "wan+".parse().unwrap(), origin: Origin::Default }];
        host.policy.sources = prefixes(&["10.0.0.0/8"]);
        host.apply();
        let listing = host.save(Family::V4);
        assert!(listing.contains("-A IP-MASQ-AGENT ! -o wan+ "), "{listing}");
        assert!(listing.contains("-A IP-MASQ-AGENT ! -s 10.0.0.0/8 "), "{listing}");
        assert!(!listing.contains("IP-MASQ-AGENT-2"), "{listing}");
    }

    fn a_gate_without_a_way_through_keeps_every_source(host: IptablesGateway) {
        host.policy.enable_ipv6 = true;
        host.policy.sources = prefixes(&["2001:db8::/32"]);
        host.apply();
        let listing = host.save(Family::V4);
        assert_eq!(listing.matches("-A IP-MASQ-AGENT ").count(), 1, "{listing}");
        assert!(listing.contains("\"ip-masq-agent: source out of scope (sourceCIDRs)\" -j RETURN"), "{listing}");
        host.apply_to(Family::V6);
    }

    fn a_gate_that_lets_everything_through_is_no_rule(host: IptablesGateway) {
        host.policy.sources = prefixes(&["0.0.0.0/0"]);
        host.apply();
        assert!(!host.save(Family::V4).contains("sourceCIDRs"));
    }

    fn a_prefix_of_length_0_keeps_every_source(host: IptablesGateway) {
        host.policy.exempt = prefixes(&["0.0.0.0/0"]);
        host.apply();
        assert!(host.save(Family::V4).contains("-A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: local traffic"));
    }

    fn bridged_frames_are_let_through_where_they_come_by(host: IptablesGateway) {
        host.facts.bridged_ipv4 = true;
        host.apply();
        let listing = host.save(Family::V4);
        assert!(listing.contains("-m physdev --physdev-is-bridged -j RETURN"), "{listing}");
    }

    fn ipv6_gets_a_chain_of_its_own(host: IptablesGateway) {
        host.policy.enable_ipv6 = true;
        host.policy.exempt = prefixes(&["10.0.0.0/8", "fc00::/7", "2001:db8:1::/48"]);
        host.apply();
        host.apply_to(Family::V6);
        let listing = host.save(Family::V6);
        for prefix in ["fe80::/10", "ff00::/8", "fc00::/7", "2001:db8:1::/48"] {
            assert!(listing.contains(&format!("-A IP-MASQ-AGENT -d {prefix} ")), "{prefix}: {listing}");
        }
        assert!(!listing.contains("10.0.0.0"));
    }

    fn counters_count_flows_and_survive_a_repair_of_the_jump(host: IptablesGateway) {
        host.namespace.ip("link add wan0 type veth peer name far0\nlink set wan0 up\nlink set far0 up\n\
            addr add 192.0.2.1/24 dev wan0\naddr add 10.0.0.1/32 dev lo\nroute add default via 192.0.2.2\n\
            neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev wan0\n");
        host.apply();
        let send = |from: &str, to: &str| {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            host.namespace.enter(|| UdpSocket::bind(from)?.send_to(b"x", to)).unwrap();
        };
        send("192.0.2.1:0", "203.0.113.9:9");
        send("10.0.0.1:0", "203.0.113.9:9");
        send("10.0.0.1:0", "203.0.113.10:9");
        let counted = host.counters();
        assert_eq!((counted.kept, counted.masqueraded), (1, 2));
        assert_eq!(counted.rules["local-source-on-out-interface"], 1, "{counted:?}");
        assert_eq!(counted.rules["otherwise"], 2, "{counted:?}");
        host.iptables("-F POSTROUTING");
        host.apply();
        assert_eq!(host.counters(), counted);
    }

    fn last_is_appended_once_and_then_left_alone(host: IptablesGateway) {
        host.iptables("-A POSTROUTING -s 198.51.100.1/32 -j RETURN");
        host.apply();
        host.iptables("-A POSTROUTING -s 198.51.100.2/32 -j RETURN");
        let before = host.postrouting();
        assert!(before[1].ends_with("-j IP-MASQ-AGENT"), "{before:?}");
        assert!(host.plan(Family::V4).is_in_sync());
    }

    fn first_is_kept_first_in_one_transaction(host: IptablesGateway) {
        host.iptables("-A POSTROUTING -s 198.51.100.1/32 -j RETURN");
        host.position = JumpPosition::First;
        host.apply();
        assert!(host.postrouting()[0].ends_with("-j IP-MASQ-AGENT"));
        host.iptables("-I POSTROUTING 1 -s 198.51.100.2/32 -j RETURN");
        let plan = host.apply();
        assert_eq!(plan.drift, ["the jump is not the first rule of POSTROUTING"]);
        assert!(host.postrouting()[0].ends_with("-j IP-MASQ-AGENT"));
        host.position = JumpPosition::Last;
        assert!(host.plan(Family::V4).is_in_sync());
    }
}
