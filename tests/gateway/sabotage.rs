//! Rules of ours that somebody took away, emptied, replaced or got in front of: `diff` and `check --host` say so, also where
//! nobody repairs them.

use crate::lab::{Agent, DEADLINE, Gateway, Lab, text};
use crate::on_each_backend;
use ip_masq_agent::backend::BackendName;
use rustix::process::Signal;
use std::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");

/// Of IPv6 there is no built-in range, which is noted where none is exempt.
const KEYS: &str = "jumpPosition: first
resyncInterval: 24h
extraNonMasqueradeCIDRs: ['fc00::/7']
portForwards: [{hostPort: 8080, address: 192.168.77.2, port: 80}]
";

/// What is done, and the commands for it of nft and of iptables-restore in the nat table. `HANDLE` is the last rule's.
const SABOTAGES: &[(&str, &str, &str)] = &[
    ("the jump of what comes in is deleted", "flush chain inet ip-masq-agent prerouting", "-F PREROUTING"),
    ("the jump to what is masqueraded is deleted", "flush chain inet ip-masq-agent postrouting", "-F POSTROUTING"),
    ("a chain is emptied", "flush chain inet ip-masq-agent forwards-ipv4", "-F IP-MASQ-AGENT-fc"),
    (
        "a rule is replaced",
        "replace rule inet ip-masq-agent forwards-ipv4 handle HANDLE tcp dport 8080 dnat ip to 192.168.77.3:80",
        "-R IP-MASQ-AGENT-fc 1 -p tcp -m tcp --dport 8080 -m comment --comment \"ip-masq-agent: forwarded \
         (portForwards)\" -j DNAT --to-destination 192.168.77.3:80",
    ),
    (
        "rules are in another order",
        "delete rule inet ip-masq-agent forwards-ipv4 handle HANDLE\ninsert rule inet ip-masq-agent forwards-ipv4 \
         dnat ip to meta l4proto . th dport map @forwards-ports4 comment \"dnat: portForwards\"",
        "-D IP-MASQ-AGENT-fp 1\n-A IP-MASQ-AGENT-fp -d 127.0.0.0/8 -m comment --comment \"ip-masq-agent: left to this \
         host (portForwards)\" -j RETURN",
    ),
    (
        "another rule is in front",
        "insert rule inet ip-masq-agent prerouting ip daddr 192.0.2.77 tcp dport 9 accept",
        "-I PREROUTING 1 -d 192.0.2.77/32 -p tcp -m tcp --dport 9 -j ACCEPT",
    ),
];

/// Exit status, standard output and standard error.
fn said(agent: &Agent<'_>, command: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = agent.command(command, arguments);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn check_host(agent: &Agent<'_>) -> (Option<i32>, String, String) {
    said(agent, "check", &["--host"])
}

fn nothing() -> (Option<i32>, String, String) {
    (Some(0), String::new(), String::new())
}

/// What is said of rules that are not those of the configuration.
fn differ(backend: BackendName) -> String {
    format!("IPv4 rules in {backend} are not what the configuration says; 'ip-masq-agent diff' shows how")
}

/// Waits until what is in force is saved.
fn wait_until_saved(agent: &Agent<'_>) {
    let end = Instant::now() + DEADLINE;
    while agent.attempt("last-good", &[]).is_err() {
        assert!(Instant::now() < end, "no last good configuration");
    }
}

fn load(lab: &Lab, backend: BackendName, nft: &str, iptables: &str) {
    let (program, arguments, input): (_, &[&str], _) = match backend {
        BackendName::Nftables => {
            let listing = lab.gateway.must("nft", &["-a", "list", "chain", "inet", "ip-masq-agent", "forwards-ipv4"]);
            let handle = listing.rsplit_once("dnat ip to").and_then(|(_, rest)| rest.split_once("# handle "));
            let handle = handle.and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default();
            ("nft", &["-f", "-"], nft.replace("HANDLE", handle))
        }
        BackendName::IptablesNft => ("iptables-nft-restore", &["--noflush"], format!("*nat\n{iptables}\nCOMMIT\n")),
        BackendName::IptablesLegacy => {
            ("iptables-legacy-restore", &["--noflush"], format!("*nat\n{iptables}\nCOMMIT\n"))
        }
    };
    let output = lab.gateway.run_with_input(program, arguments, &input);
    assert!(output.status.success(), "{input}: {output:?}");
}

#[test]
fn rules_that_nobody_repairs_are_told_by_diff_and_by_check() {
    on_each_backend(|lab, gateway, backend| {
        let agent = &gateway.agent;
        agent.configure(&gateway.config(KEYS));
        let mut service = agent.start();
        wait_until_saved(agent);
        assert_eq!(check_host(agent), nothing(), "{backend}: it runs");
        service.signal(Signal::KILL);
        service.wait();
        assert_eq!(check_host(agent), nothing(), "{backend}: it is dead, and nothing is wrong");
        let end = ", and no service answers that repairs them";
        let finding = format!("{}{end}\n", differ(backend));
        for (what, nft, iptables) in SABOTAGES {
            load(lab, backend, nft, iptables);
            let (code, shown, complaint) = said(agent, "diff", &[]);
            assert!(code == Some(1) && !shown.is_empty() && complaint.is_empty(), "{backend}: {what}: {shown}");
            let (code, found, complaint) = check_host(agent);
            // The chains at the hooks are those of IPv6, too, on nftables.
            let is_all = found.starts_with(&finding) && found.lines().all(|line| line.ends_with(end));
            assert!(code == Some(1) && is_all && complaint.is_empty(), "{backend}: {what}: {found}{complaint}");
            agent.must("run", &["--once"]);
            assert_eq!(said(agent, "diff", &[]), nothing(), "{backend}: {what}");
            assert_eq!(check_host(agent), nothing(), "{backend}: {what}");
        }
        agent.must("flush", &[]);
        assert_eq!(check_host(agent), nothing(), "{backend}: there are none");
    });
}

#[test]
fn rules_of_an_earlier_configuration_that_a_start_replaces_are_a_note() {
    on_each_backend(|_, gateway, backend| {
        let agent = &gateway.agent;
        agent.configure(&gateway.config(&format!("onStop: keep\nconfigWatch: off\n{KEYS}")));
        let mut service = agent.start();
        wait_until_saved(agent);
        agent.configure(&gateway.config(&format!("onStop: keep\nconfigWatch: off\n{}", KEYS.replace("8080", "8081"))));
        assert_eq!(check_host(agent), nothing(), "{backend}: the service enforces the other one");
        service.stop();
        let note = format!("note: {}, and the service replaces them when it starts\n", differ(backend));
        assert_eq!(check_host(agent), (Some(0), String::new(), note), "{backend}");
        let mut service = agent.start();
        assert_eq!(said(agent, "diff", &[]), nothing(), "{backend}");
        service.stop();
        agent.must("flush", &[]);
    });
}

#[test]
fn rules_that_no_service_of_ours_has_written_are_a_note() {
    for backend in [BackendName::IptablesNft, BackendName::IptablesLegacy] {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, BINARY, backend);
        // What Kubernetes' ip-masq-agent leaves behind.
        load(
            &lab,
            backend,
            "",
            ":IP-MASQ-AGENT - [0:0]\n-A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs \
             all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL \
             -j IP-MASQ-AGENT\n-A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: outbound traffic is subject to \
             MASQUERADE (must be last in chain)\" -j MASQUERADE",
        );
        gateway.agent.configure(&gateway.config(KEYS));
        let note = format!("note: {}, and the service replaces them when it starts\n", differ(backend));
        assert_eq!(check_host(&gateway.agent), (Some(0), String::new(), note), "{backend}");
    }
}

#[test]
fn rules_that_the_service_does_not_know_to_be_wrong_are_told_while_it_runs() {
    for backend in [BackendName::IptablesNft, BackendName::IptablesLegacy] {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, BINARY, backend);
        let agent = &gateway.agent;
        let many: Vec<String> = (0..100).map(|third| format!("10.{}.0.0/16", 2 * third)).collect();
        agent.configure(&gateway.config(&format!("{KEYS}nonMasqueradeCIDRs: [{}]\n", many.join(", "))));
        let mut service = agent.start();
        wait_until_saved(agent);
        assert_eq!(check_host(agent), nothing(), "{backend}");
        // As many members, and one is another one: no rule moves, and no number, until the next resync.
        let sets = lab.gateway.must("ipset", &["list", "-n"]);
        let set = sets.lines().next().expect("a set");
        lab.gateway.must("ipset", &["del", set, "10.16.0.0/16"]);
        lab.gateway.must("ipset", &["add", set, "10.17.0.0/16"]);
        assert_eq!(check_host(agent), (Some(1), format!("{}\n", differ(backend)), String::new()), "{backend}");
        assert_eq!(said(agent, "diff", &[]).0, Some(1), "{backend}");
        agent.must("reload", &[]);
        assert_eq!(check_host(agent), nothing(), "{backend}");
        service.stop();
    }
}
