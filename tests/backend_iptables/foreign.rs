//! What is somebody else's is refused and stays byte for byte.

use crate::gateway::{Gateway, both_variants};
use ip_masq_agent::backend::iptables::tools::Variant;
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::host::go_agent;
use ip_masq_agent::policy::Family;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

fn refused(host: &mut Gateway, foreign: &str, words: &[&str]) {
    refused_in(host, Family::V4, foreign, words);
}

fn refused_in(host: &mut Gateway, family: Family, foreign: &str, words: &[&str]) {
    host.restore(family, foreign);
    let before = host.save(family);
    let error = host.try_plan(family).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Foreign, "{error}");
    for word in words {
        assert!(error.message.contains(word), "'{word}' in '{error}'");
    }
    assert_eq!(host.save(family), before);
    // What is named can be typed.
    let command = error.message.split('\'').find(|words| words.starts_with("ip") && words.contains(" -S ")).unwrap();
    let command: Vec<&str> = command.split(' ').collect();
    assert!(host.namespace.must(command[0], &command[1..]).contains(words[0]), "{command:?}");
}

const PLAYS: &str = "PLAYS_ANOTHER_AGENT";

/// Not a test by itself: what the program of another make does, with the threads of a test program.
#[test]
fn lives_until_it_is_killed() {
    while std::env::var_os(PLAYS).is_some() {
        std::thread::park();
    }
}

/// A process of root with the agent's name and several threads: this program again.
fn start_of_another_make(host: &Gateway) -> Child {
    let (program, name) = (std::env::current_exe().unwrap(), "/run/ip-masq-agent");
    let arguments = ["--exact", "foreign::lives_until_it_is_killed", "--test-threads=2"];
    let agent = host.namespace.enter(|| {
        symlink(program, name).unwrap();
        Command::new(name).args(arguments).env(PLAYS, "yes").stdout(Stdio::null()).spawn().unwrap()
    });
    let status = format!("/proc/{}/status", agent.id());
    let start = std::time::Instant::now();
    while std::fs::read_to_string(&status).unwrap().contains("Threads:\t1\n") {
        assert!(start.elapsed() < crate::lab::DEADLINE, "the other agent does not start");
        std::thread::yield_now();
    }
    agent
}

#[test]
fn a_live_go_agent_is_found_with_the_capabilities_of_the_unit() {
    crate::gateway::with(Variant::Nft, |host| {
        let mut agent = start_of_another_make(&host);
        let find = |capabilities: Option<CapabilitySet>| {
            host.namespace.enter(|| {
                if let Some(effective) = capabilities {
                    let held = rustix::thread::capabilities(None).unwrap();
                    rustix::thread::set_capabilities(None, CapabilitySets { effective, ..held }).unwrap();
                }
                go_agent::running()
            })
        };
        let found = find(Some(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW));
        let with_all = find(None);
        let elsewhere = go_agent::running();
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert_eq!(found.iter().map(|agent| agent.pid).collect::<Vec<_>>(), [agent.id()]);
        assert_eq!(found, with_all);
        assert!(elsewhere.iter().all(|other| other.pid != agent.id()), "it is in another network namespace");
    });
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
        refused(&mut host, ":IP-MASQ-AGENT - [0:0]\n-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT", &["-d 192.0.2.0/24 -j ACCEPT", "'IP-MASQ-AGENT'", "masqChain"]);
    }

    fn a_refusal_names_the_program_of_its_family_and_variant(host: Gateway) {
        host.policy.enable_ipv6 = true;
        let command = match host.variant {
            Variant::Nft => "'ip6tables-nft -t nat -S OUTPUT'",
            Variant::Legacy => "'ip6tables-legacy -t nat -S OUTPUT'",
        };
        let foreign = ":IP-MASQ-AGENT - [0:0]\n-A OUTPUT -d 2001:db8::/32 -j IP-MASQ-AGENT";
        refused_in(&mut host, Family::V6, foreign, &["-A OUTPUT -d 2001:db8::/32 -j IP-MASQ-AGENT", command]);
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
        refused(&mut host, ":IP-MASQ-AGENT-2 - [0:0]\n-A IP-MASQ-AGENT-2 -j RETURN", &["-A IP-MASQ-AGENT-2 -j RETURN"]);
    }

    fn an_empty_chain_of_our_name_is_taken(host: Gateway) {
        host.iptables("-N IP-MASQ-AGENT");
        host.apply();
    }

    fn a_live_go_agent_is_refused(host: Gateway) {
        let before = host.save(Family::V4);
        let mut agent = start_of_another_make(&host);
        let result = host.try_plan(Family::V4);
        agent.kill().unwrap();
        agent.wait().unwrap();
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Foreign);
        assert!(error.message.contains(&format!("process {}", agent.id())), "{error}");
        assert!(error.message.contains("'/run/ip-masq-agent --exact"), "{error}");
        assert_eq!(host.save(Family::V4), before);
        host.apply();
    }
}
