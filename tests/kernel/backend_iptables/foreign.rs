//! What is somebody else's is refused and stays byte for byte.

use super::gateway::{IptablesGateway, both_variants};
use ip_masq_agent::backend::iptables::tools::Variant;
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::go_agent;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

fn refused(host: &mut IptablesGateway, foreign: &str, words: &[&str]) {
    refused_in(host, Family::V4, foreign, words);
}

fn refused_in(host: &mut IptablesGateway, family: Family, foreign: &str, words: &[&str]) {
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
fn start_of_another_make(host: &IptablesGateway) -> Child {
    start_named(host, "ip-masq-agent", Command::spawn).unwrap()
}

/// The same under a name, and started in a way.
fn start_named(
    host: &IptablesGateway,
    name: &str,
    start: impl FnOnce(&mut Command) -> std::io::Result<Child> + Send,
) -> std::io::Result<Child> {
    let (program, name) = (std::env::current_exe().unwrap(), format!("/run/{name}"));
    let arguments = ["--exact", "backend_iptables::foreign::lives_until_it_is_killed", "--test-threads=2"];
    let agent = host.namespace.enter(|| {
        symlink(program, &name).unwrap();
        start(Command::new(name).args(arguments).env(PLAYS, "yes").stdout(Stdio::null()))
    })?;
    let status = format!("/proc/{}/status", agent.id());
    let start = std::time::Instant::now();
    while std::fs::read_to_string(&status).unwrap().contains("Threads:\t1\n") {
        assert!(start.elapsed() < crate::lab::DEADLINE, "the other agent does not start");
        std::thread::yield_now();
    }
    Ok(agent)
}

/// What a Go agent writes.
const GO_RULES: &str = ":IP-MASQ-AGENT - [0:0]\n\
    -A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -d 169.254.0.0/16 -j RETURN\n\
    -A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -d 10.0.0.0/8 -j RETURN\n\
    -A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)\" -j MASQUERADE --random-fully";
const GO_JUMP: &str = "-A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT";

/// Under a name like the agent's, and as an ordinary user who has called a setuid program by the agent's own name.
#[test]
fn who_only_looks_like_a_go_agent_is_none() {
    super::gateway::with(Variant::Nft, |host| {
        let mut exporter = start_named(&host, "ip-masq-agent-exporter", Command::spawn).unwrap();
        let setuid = |command: &mut Command| {
            let become_setuid = || match unsafe { libc::setresuid(65534, 0, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            unsafe { command.pre_exec(become_setuid) }.spawn()
        };
        let user = start_named(&host, "ip-masq-agent", setuid);
        let found = host.namespace.enter(go_agent::running);
        exporter.kill().unwrap();
        exporter.wait().unwrap();
        match user {
            Ok(mut user) => {
                user.kill().unwrap();
                user.wait().unwrap();
            }
            // In a user namespace there may be no other user.
            Err(error) => crate::lab::skip(&format!("there is no ordinary user here: {error}")),
        }
        assert_eq!(found, []);
    });
}

#[test]
fn a_live_go_agent_is_found_with_the_capabilities_of_the_unit() {
    super::gateway::with(Variant::Nft, |host| {
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
    super::gateway::with(Variant::Nft, |mut host| {
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
    fn a_chain_of_our_name_without_a_rule_of_ours_is_refused(host: IptablesGateway) {
        refused(&mut host, ":IP-MASQ-AGENT - [0:0]\n-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT", &["-d 192.0.2.0/24 -j ACCEPT", "'IP-MASQ-AGENT'", "masqChain"]);
    }

    fn a_refusal_names_the_program_of_its_family_and_variant(host: IptablesGateway) {
        host.policy.enable_ipv6 = true;
        let command = match host.variant {
            Variant::Nft => "'ip6tables-nft -t nat -S OUTPUT'",
            Variant::Legacy => "'ip6tables-legacy -t nat -S OUTPUT'",
        };
        let foreign = ":IP-MASQ-AGENT - [0:0]\n-A OUTPUT -d 2001:db8::/32 -j IP-MASQ-AGENT";
        refused_in(&mut host, Family::V6, foreign, &["-A OUTPUT -d 2001:db8::/32 -j IP-MASQ-AGENT", command]);
    }

    fn rules_of_others_in_a_chain_of_ours_are_said_with_their_texts_and_of_very_many_some(host: IptablesGateway) {
        host.apply();
        let good = host.save(Family::V4);
        host.restore(Family::V4, "-I IP-MASQ-AGENT 4 -d 192.0.2.0/24 -j ACCEPT\n-A IP-MASQ-AGENT -s 198.51.100.7/32 -j RETURN");
        let plan = host.apply();
        let words = |rule: &str| format!("chain 'IP-MASQ-AGENT' holds a rule that is not ip-masq-agent's: '{rule}'");
        assert_eq!(plan.drift, [words("-d 192.0.2.0/24 -j ACCEPT"), words("-s 198.51.100.7/32 -j RETURN")]);
        assert_eq!(host.save(Family::V4), good);

        // With a rule of ours missing, both are said; of very many, some.
        host.iptables("-D IP-MASQ-AGENT 1");
        let many: String = (0..20).map(|number| format!("-A IP-MASQ-AGENT -d 192.0.2.{number}/32 -j ACCEPT\n")).collect();
        host.restore(Family::V4, &many);
        let drift = host.apply().drift;
        assert!(drift.len() == 10 && drift[8] == "12 more of them" && drift[9].starts_with("rule 1 of chain"), "{drift:?}");
        assert_eq!(host.save(Family::V4), good);
    }

    fn a_rule_of_ours_in_a_chain_of_others_goes_alone(host: IptablesGateway) {
        host.restore(Family::V4, ":THEIRS - [0:0]\n-A THEIRS -d 192.0.2.0/24 -j ACCEPT");
        let before = host.save(Family::V4);
        host.restore(Family::V4, "-A THEIRS -m comment --comment \"ip-masq-agent: x\" -j RETURN");
        host.flush(Family::V4);
        assert_eq!(host.save(Family::V4), before);
    }

    fn a_jump_of_others_to_our_chain_is_refused(host: IptablesGateway) {
        refused(&mut host, ":IP-MASQ-AGENT - [0:0]\n-A OUTPUT -d 192.0.2.0/24 -j IP-MASQ-AGENT", &["-A OUTPUT -d 192.0.2.0/24 -j IP-MASQ-AGENT"]);
    }

    fn a_chain_behind_a_gate_is_ours_by_the_same_rule(host: IptablesGateway) {
        use ip_masq_agent::policy::{WithOrigin, Origin};
        host.policy.out_interfaces = ["a0", "b0"].iter().map(|name| WithOrigin { value: name.parse().unwrap(), origin: Origin::Default }).collect();
        refused(&mut host, ":IP-MASQ-AGENT-2 - [0:0]\n-A IP-MASQ-AGENT-2 -j RETURN", &["-A IP-MASQ-AGENT-2 -j RETURN"]);
    }

    fn the_chain_of_a_live_go_agent_is_refused(host: IptablesGateway) {
        host.restore(Family::V4, &format!("{GO_RULES}\n{GO_JUMP}"));
        let before = host.save(Family::V4);
        let mut agent = start_of_another_make(&host);
        let backend = &mut host.backend;
        let flush = host.namespace.enter(|| backend.plan(Family::V4, None));
        let result = host.try_plan(Family::V4);
        agent.kill().unwrap();
        agent.wait().unwrap();
        for error in [result.unwrap_err(), flush.unwrap_err()] {
            assert_eq!(error.kind, ErrorKind::Foreign);
            assert!(error.message.contains(&format!("another ip-masq-agent runs here, process {}", agent.id())), "{error}");
            assert!(error.message.contains("'/run/ip-masq-agent --exact"), "{error}");
        }
        assert_eq!(host.save(Family::V4), before);
        host.apply();
    }

    fn a_live_go_agent_keeps_us_from_nothing_where_the_chain_is_ours(host: IptablesGateway) {
        let mut agent = start_of_another_make(&host);
        host.apply();
        let good = host.save(Family::V4);
        for damage in ["-F POSTROUTING", "-D IP-MASQ-AGENT 2", "-F IP-MASQ-AGENT"] {
            host.iptables(damage);
            host.apply();
            assert_eq!(host.save(Family::V4), good);
        }
        host.flush(Family::V4);
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn the_chain_of_another_name_that_a_live_go_agent_keeps_stays(host: IptablesGateway) {
        host.restart("OURS");
        host.restore(Family::V4, &format!("{GO_RULES}\n{GO_JUMP}"));
        let theirs = host.save(Family::V4);
        let mut agent = start_of_another_make(&host);
        host.apply();
        let notes = host.backend.notes(Family::V4);
        assert!(notes.len() == 1 && notes[0].contains("keeps chain 'IP-MASQ-AGENT'"), "{notes:?}");
        let with_ours = host.save(Family::V4);
        assert!(with_ours.contains("-j OURS") && with_ours.contains("-j IP-MASQ-AGENT"), "{with_ours}");
        let backend = &mut host.backend;
        let verified = host.namespace.enter(|| {
            let plan = backend.plan(Family::V4, None).unwrap();
            backend.commit(plan).unwrap();
            backend.plan(Family::V4, None)
        });
        assert_eq!(host.save(Family::V4), theirs);
        assert_eq!(verified.unwrap_err().kind, ErrorKind::Foreign, "what stays is said");
        agent.kill().unwrap();
        agent.wait().unwrap();
        host.flush(Family::V4);
        assert!(!host.save(Family::V4).contains("IP-MASQ-AGENT"));
    }
}
