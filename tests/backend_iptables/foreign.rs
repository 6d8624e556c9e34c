//! What is somebody else's is refused and stays byte for byte.

use crate::gateway::{Gateway, both_variants};
use ip_masq_agent::backend::iptables::tools::Variant;
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::Family;

fn refused(host: &mut Gateway, foreign: &str, words: &[&str]) {
    host.restore(Family::V4, foreign);
    let before = host.save(Family::V4);
    let error = host.try_plan(Family::V4).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Foreign, "{error}");
    for word in words {
        assert!(error.message.contains(word), "'{word}' in '{error}'");
    }
    assert_eq!(host.save(Family::V4), before);
}

/// Such a table is listed as if it were empty, with exit status 0.
#[test]
fn a_table_that_only_nft_understands_is_neither_written_to_nor_called_clean() {
    crate::gateway::with(Variant::Nft, |mut host| {
        host.apply();
        let native =
            "add map ip nat m { type ipv4_addr : ipv4_addr; }\nadd rule ip nat POSTROUTING snat to ip saddr map @m\n";
        host.namespace.must("sh", &["-c", &format!("printf '{native}' | nft -f -")]);
        let before = host.namespace.must("nft", &["list", "table", "ip", "nat"]);
        let error = host.try_plan(Family::V4).unwrap_err();
        assert!(error.kind == ErrorKind::Refused && error.message.contains("only 'nft' understands"), "{error}");
        let backend = &mut host.backend;
        assert!(host.namespace.enter(|| backend.plan(Family::V4, None)).is_err(), "our chain is still in it");
        assert_eq!(host.namespace.must("nft", &["list", "table", "ip", "nat"]), before);

        host.namespace.must("nft", &["flush", "chain", "ip", "nat", "POSTROUTING"]);
        host.flush(Family::V4);
        host.namespace.must("nft", &["add", "rule", "ip", "nat", "POSTROUTING", "snat to ip saddr map @m"]);
        let backend = &mut host.backend;
        assert!(host.namespace.enter(|| backend.plan(Family::V4, None)).unwrap().is_in_sync());
    });
}

both_variants! {
    fn a_rule_of_others_in_our_chain_is_refused(host: Gateway) {
        refused(&mut host, ":IP-MASQ-AGENT - [0:0]\n-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT", &["'IP-MASQ-AGENT'", "-d 192.0.2.0/24 -j ACCEPT", "masqChain"]);
    }

    fn a_rule_of_others_among_ours_is_refused_and_flush_leaves_only_that(host: Gateway) {
        host.apply();
        refused(&mut host, "-I IP-MASQ-AGENT 4 -d 192.0.2.0/24 -j ACCEPT", &["-d 192.0.2.0/24 -j ACCEPT"]);
        host.flush(Family::V4);
        let listing = host.save(Family::V4);
        let rules: Vec<_> = listing.lines().filter(|line| line.starts_with("-A")).collect();
        assert_eq!(rules, ["-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT"]);
    }

    fn a_jump_of_others_to_our_chain_is_refused(host: Gateway) {
        refused(&mut host, ":IP-MASQ-AGENT - [0:0]\n-A OUTPUT -d 192.0.2.0/24 -j IP-MASQ-AGENT", &["-A OUTPUT -d 192.0.2.0/24 -j IP-MASQ-AGENT"]);
    }

    fn a_chain_behind_a_gate_is_ours_by_the_same_rule(host: Gateway) {
        use ip_masq_agent::policy::{Listed, Origin};
        host.policy.out_interfaces = ["a0", "b0"].iter().map(|name| Listed { value: name.parse().unwrap(), origin: Origin::Default }).collect();
        refused(&mut host, ":IP-MASQ-AGENT-2 - [0:0]\n-A IP-MASQ-AGENT-2 -j RETURN", &["'IP-MASQ-AGENT-2'"]);
    }

    fn an_empty_chain_of_our_name_is_taken(host: Gateway) {
        host.iptables("-N IP-MASQ-AGENT");
        host.apply();
    }

    fn a_live_go_agent_is_refused(host: Gateway) {
        let before = host.save(Family::V4);
        // A sleeping program with the name and the mark of a Go program.
        let script = "cp /bin/sleep /run/ip-masq-agent && printf '\\377 Go buildinf:' >> /run/ip-masq-agent && exec /run/ip-masq-agent 600";
        let mut agent = host.namespace.enter(|| {
            std::process::Command::new("sh").args(["-c", script]).spawn().unwrap()
        });
        let name = format!("/proc/{}/comm", agent.id());
        let start = std::time::Instant::now();
        while std::fs::read_to_string(&name).unwrap().trim() != "ip-masq-agent" {
            assert!(start.elapsed() < crate::lab::DEADLINE, "the agent does not start");
            std::thread::yield_now();
        }
        let result = host.try_plan(Family::V4);
        agent.kill().unwrap();
        agent.wait().unwrap();
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Foreign);
        assert!(error.message.contains(&format!("process {}", agent.id())), "{error}");
        assert!(error.message.contains("/run/ip-masq-agent"), "{error}");
        assert_eq!(host.save(Family::V4), before);
        host.apply();
    }
}
