//! What `check --host`, `status` and `explain` say of this host is so, by real packets.

use crate::lab::{Agent, BACKENDS, DEADLINE, Gateway, Kind, Lab, Observer, Probe, SILENCE, Seen, parse};
use crate::on_each_backend;
use ip_masq_agent::agent::{PolicyInForce, PolicyQuestion, digest};
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::config::SourceText;
use ip_masq_agent::service::control::{self, Request};
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");

/// The iptables that a backend uses, or has beside it.
fn iptables_beside(backend: BackendName) -> &'static str {
    if backend == BackendName::IptablesLegacy { "iptables-legacy" } else { "iptables-nft" }
}

fn check_host(agent: &Agent<'_>) -> (Option<i32>, String) {
    let output = agent.command("check", &["--host"]);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn a_wrong_letter_in_an_interface_is_told_where_an_administrator_looks() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "outInterfaces: [wna0]\n");
    let finding = format!(
        "{}:1:17: outInterfaces: no interface 'wna0' on this host; did you mean wan0? nothing is masqueraded",
        agent.config_path()
    );
    assert_eq!(check_host(&agent), (Some(1), format!("{finding}\n")));
    let mut service = agent.start();
    let seen = service.wait_for("STATUS=no source is rewritten: ");
    let status = agent.must("status", &[]);
    let first = status.lines().next().unwrap_or_default();
    assert!(first.contains("did you mean wan0?") && !first.contains("masquerading"), "{seen:?} {status}");
    let warnings = || serde_json::from_str::<Value>(&agent.must("status", &["--json"])).unwrap()["warnings"].clone();
    assert_eq!(warnings(), serde_json::json!([finding]));
    agent.configure("outInterfaces: [wan0]\n");
    agent.must("reload", &[]);
    service.wait_for("STATUS=masquerading ");
    assert_eq!(warnings(), serde_json::json!([]));
    assert_eq!(check_host(&agent), (Some(0), String::new()));
}

#[test]
fn status_does_not_say_masquerading_of_a_scope_that_leaves_nothing() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "outInterfaces: ['!wan+', '!lan+']\n");
    let mut service = agent.start();
    service.wait_for("STATUS=no source is rewritten: ");
    for text in ["excludeSourceCIDRs: [0.0.0.0/0]\n", "egress: [{outInterfaces: ['!nix9'], snat: none}]\n"] {
        agent.configure(text);
        agent.must("reload", &[]);
        let status = agent.must("status", &[]);
        let first = status.lines().next().unwrap_or_default();
        assert!(first.contains("no source is rewritten: ") && !first.contains("masquerading"), "{text}{status}");
        let seen = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        assert_eq!(seen.source_seen(&lab.lan, &lab.observer), Some(parse("192.168.77.2")), "{text}");
    }
    for (text, families) in [
        ("enableIPv6: true\nsourceCIDRs: [192.168.77.0/24]\n", "IPv4"),
        ("enableIPv6: true\nnonMasqueradeCIDRs: [0.0.0.0/0, 'fc00::/7']\n", "IPv6"),
        ("enableIPv6: true\n", "IPv4 and IPv6"),
    ] {
        agent.configure(text);
        agent.must("reload", &[]);
        service.wait_for(&format!("STATUS=masquerading {families} through "));
    }
}

#[test]
fn an_interface_that_comes_and_goes_is_in_the_next_status_and_not_first_in_one_after_a_resync() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "outInterfaces: [ppp0]\nresyncInterval: 24h\n");
    let _service = agent.start();
    let is_told = |expected: &str| {
        let end = Instant::now() + DEADLINE;
        loop {
            let status = agent.must("status", &[]);
            if status.contains(expected) {
                break;
            }
            assert!(Instant::now() < end, "no '{expected}' in {status}");
        }
    };
    is_told("no source is rewritten: ");
    lab.gateway.ip("link add ppp0 type veth peer name ppp9\n");
    is_told("masquerading IPv4 through ");
    lab.gateway.ip("link del ppp0\n");
    is_told("no source is rewritten: ");
    lab.gateway.sysctl("net/ipv4/ip_forward", "0");
    is_told("IPv4 forwarding is off");
}

#[test]
fn sources_that_are_nowhere_and_exemptions_of_everything_are_told_with_their_places() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "");
    let cases = [
        (
            "sourceCIDRs: [192.168.11.0/24]\n",
            ":1:15: sourceCIDRs: no interface or route of this host leads to 192.168.11.0/24; nothing is masqueraded",
        ),
        (
            "nonMasqueradeCIDRs: [0.0.0.0/0]\n",
            ":1:22: nonMasqueradeCIDRs: every IPv4 destination is exempt; nothing is masqueraded",
        ),
        ("sourceCIDRs: [192.168.77.0/24, 192.168.78.2/32]\n", ""),
        ("excludeSourceCIDRs: [192.168.78.2/32]\n", ""),
        (
            "outInterfaces: ['!wan+', '!lan+']\n",
            ":1:17: outInterfaces: no interface on this host but lo is in scope; nothing is masqueraded",
        ),
        (
            "sourceCIDRs: [192.168.77.0/24]\nexcludeSourceCIDRs: [192.168.0.0/16]\n",
            ":2:22: excludeSourceCIDRs: every source in scope is excluded; nothing is masqueraded",
        ),
        (
            "egress: [{outInterfaces: ['!nix9'], snat: none}]\n",
            ":1:10: egress[1]: entries with snat none take every flow that others would translate; nothing is masqueraded",
        ),
    ];
    for (text, finding) in cases {
        agent.configure(text);
        let (code, said) = check_host(&agent);
        let expected = if finding.is_empty() { String::new() } else { format!("{}{finding}\n", agent.config_path()) };
        assert_eq!((code, said), (Some(i32::from(!finding.is_empty())), expected), "{text}");
    }
    lab.gateway.sysctl("net/ipv4/conf/lan0/forwarding", "0");
    let (code, said) = check_host(&agent);
    assert!(code == Some(1) && said.contains("IPv4 forwarding is off on lan0"), "{said}");
}

#[test]
fn explain_says_which_sysctl_keeps_a_flow_from_being_forwarded() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "enableIPv6: true\n");
    agent.must("run", &["--once"]);
    for (sysctl, off, from, to) in [
        (
            "net/ipv4/conf/lan0/forwarding",
            "IPv4 forwarding is off on the interface it comes in through",
            "192.168.77.2",
            "203.0.113.200",
        ),
        ("net/ipv4/ip_forward", "IPv4 forwarding is off (net.ipv4.ip_forward = 0)", "192.168.77.2", "203.0.113.200"),
        (
            "net/ipv6/conf/all/forwarding",
            "IPv6 forwarding is off (net.ipv6.conf.all.forwarding = 0)",
            "fd00:77::2",
            "2001:db8:5::5",
        ),
    ] {
        let explain = || agent.must("explain", &[to, "--from", from]);
        assert!(explain().starts_with(&format!("{to}: masquerade as ")), "{sysctl}: {}", explain());
        lab.gateway.sysctl(sysctl, "0");
        assert!(explain().starts_with(&format!("{to}: leaves nowhere: {off}\n")), "{sysctl}: {}", explain());
        lab.gateway.sysctl(sysctl, "1");
    }
}

#[test]
fn a_firewall_that_drops_what_a_forward_leads_on_is_told_once_with_the_forward() {
    let Some(lab) = Lab::build() else { return };
    let config = "portForwards:\n- {hostPort: 8080, address: 192.168.77.2, port: 80}\n\
                  - {hostPort: 8081, address: 192.168.77.2, protocol: [tcp, udp], inInterfaces: [wan0]}\n\
                  - {hostPort: 8082, address: 192.168.77.2, port: 81}\n\
                  - {hostPort: 8083, address: 192.168.77.2, sourceCIDRs: [192.168.77.0/24]}\n";
    let agent = Agent::new(&lab.gateway, BINARY, &format!("backend: nftables\n{config}"));
    agent.must("run", &["--once"]);
    let firewall = |rules: &str| {
        let text = format!(
            "table inet fw\ndelete table inet fw\ntable inet fw {{\n chain forward {{\n \
             type filter hook forward priority 0; policy drop;\n ct state established,related accept\n \
             iifname \"lan0\" accept\n{rules}\n }}\n}}\n"
        );
        lab.gateway.nft(&text);
    };
    let by = "are dropped: inet fw forward: policy drop, and no rule accepts it";
    let told = |number: usize, from: &str, others: &str| {
        format!(
            "{}:{}:3: portForwards[{number}]: new IPv4 connections from {from} to 192.168.77.2{others} {by}\n",
            agent.config_path(),
            number + 2
        )
    };
    let second = told(2, "wan0", "");
    for (rules, expected) in [
        ("", told(1, "wan0, wan1", " and those of one more forward") + &second),
        ("ct status dnat accept", String::new()),
        ("tcp dport 80 accept", second.clone() + &told(3, "wan0, wan1", "")),
        ("ip daddr 192.168.77.2 tcp dport { 80, 81 } accept", second.clone()),
        ("tcp dport { 80, 81, 8081 } accept", String::new()),
        ("iifname \"wan1\" ip daddr 192.168.77.2 accept", second.clone()),
    ] {
        firewall(rules);
        assert_eq!(check_host(&agent), (Some(i32::from(!expected.is_empty())), expected), "{rules}");
    }
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_told_and_the_packets_are_dropped() {
    let established = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    let by = |name: &str| {
        format!(
            "new IPv4 connections from lan0 to wan0, wan1 are dropped: {name}: policy drop, and no rule accepts it\n"
        )
    };
    let nft = "table inet fw {\n chain forward {\n type filter hook forward priority 0; policy drop;\n \
               ct state established,related accept\n jump user\n }\n chain user {\n }\n}\n";
    for (program, name) in [
        ("iptables-nft", "ip filter FORWARD"),
        ("iptables-legacy", "ip filter FORWARD of iptables-legacy"),
        ("nft", "inet fw forward"),
    ] {
        let Some(lab) = Lab::build() else { return };
        let agent = Agent::new(&lab.gateway, BINARY, "backend: nftables\n");
        agent.must("run", &["--once"]);
        let load = |text: &str| {
            let (program, arguments): (String, &[&str]) = match program {
                "nft" => ("nft".to_owned(), &["-f", "-"]),
                tool => (format!("{tool}-restore"), &["--noflush"]),
            };
            let output = lab.gateway.run_with_input(&program, arguments, text);
            assert!(output.status.success(), "{output:?}");
        };
        load(&if program == "nft" {
            nft.to_owned()
        } else {
            format!("*filter\n:FORWARD DROP [0:0]\n{established}COMMIT\n")
        });
        assert_eq!(check_host(&agent), (Some(1), by(name)), "{program}");
        let explain = |arguments: &str| agent.must("explain", &arguments.split(' ').collect::<Vec<_>>());
        let forwarded = "203.0.113.200 --from 192.168.77.2 --proto udp";
        let drop = format!("drop (where it is forwarded: {name}: policy drop, and no rule accepts it)\n");
        let said = explain(forwarded);
        assert!(
            said.starts_with(&format!("203.0.113.200: {drop}")) && said.contains("ours     masquerade\n"),
            "{said}"
        );
        let forward = ["--port-forwards", "{hostPort: 8080, address: 192.168.77.2}"];
        let to_port = ["203.0.113.1", "--port", "8080", "--from", "203.0.113.9", "--in", "wan0"];
        let said = agent.must("explain", &[&to_port[..], &forward].concat());
        assert!(said.starts_with(&format!("203.0.113.1: {drop}")), "{said}");
        let udp = || Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        udp().send(&lab.lan);
        load(match program {
            "nft" => "add rule inet fw user iifname \"lan0\" accept\n",
            _ => "*filter\n-A FORWARD -i lan0 -o wan0 -j ACCEPT\nCOMMIT\n",
        });
        assert_eq!(check_host(&agent), (Some(0), String::new()), "{program}");
        let said = explain(forwarded);
        assert!(said.starts_with("203.0.113.200: masquerade as 203.0.113.1\n"), "{said}");
        assert!(udp().source_seen(&lab.lan, &lab.observer).is_some(), "{program}");
    }
}

/// Table, chain, whether this host sends the packet, and what the answer says of the place.
const FILTERS: &[(&str, &str, bool, &str)] = &[
    ("raw", "PREROUTING", false, "where it comes in"),
    ("mangle", "PREROUTING", false, "where it comes in"),
    ("mangle", "FORWARD", false, "where it is forwarded"),
    ("filter", "FORWARD", false, "where it is forwarded"),
    ("mangle", "POSTROUTING", false, "where it leaves"),
    ("raw", "OUTPUT", true, "where this host sends it"),
    ("mangle", "OUTPUT", true, "where this host sends it"),
    ("filter", "OUTPUT", true, "where this host sends it"),
    ("mangle", "POSTROUTING", true, "where it leaves"),
];

#[test]
fn a_rule_that_drops_at_any_hook_is_told_and_the_packets_are_dropped() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("");
        for (table, chain, is_from_host, place) in FILTERS {
            let from = if *is_from_host { "203.0.113.1" } else { "192.168.77.2" };
            let told = || gateway.agent.must("explain", &["203.0.113.200", "--from", from, "--proto", "udp"]);
            let kept = if *is_from_host { "keep source" } else { "masquerade as" };
            let undo = filter(lab, backend, table, chain, false);
            let said = told();
            assert!(said.starts_with(&format!("203.0.113.200: drop ({place}: ")), "{backend} {table} {chain}: {said}");
            if *is_from_host {
                let send = || UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"x", "203.0.113.200:9"));
                let refused = lab.gateway.enter(send).map_err(|error| error.kind());
                assert_eq!(refused, Err(std::io::ErrorKind::PermissionDenied), "{backend} {table} {chain}");
            } else {
                let dropped = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse(from));
                let next = Probe::new(Kind::Udp, parse("10.20.0.5")).from(parse(from));
                dropped.send(&lab.lan);
                next.send(&lab.lan);
                let seen = lab.observer.wait(|seen| dropped.is(seen) || next.is(seen));
                assert!(seen.is_some_and(|seen| next.is(&seen)), "{backend} {table} {chain}");
            }
            undo(lab);
            let undo = filter(lab, backend, table, chain, true);
            let said = told();
            assert!(
                said.starts_with(&format!("203.0.113.200: {kept} 203.0.113.1\n")) && said.contains("\n  unless   i"),
                "{backend} {table} {chain}: {said}"
            );
            undo(lab);
            let said = told();
            assert!(
                said.starts_with(&format!("203.0.113.200: {kept} 203.0.113.1\n")) && !said.contains("unless"),
                "{backend} {table} {chain}: {said}"
            );
        }
    });
}

#[test]
fn a_rule_of_an_interface_that_drops_is_told_and_the_packets_are_dropped() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "");
    agent.must("run", &["--once"]);
    for (family, hook, device, place) in [
        ("netdev", "ingress", "lan0", Some("where it comes in")),
        ("inet", "ingress", "lan0", Some("where it comes in")),
        ("netdev", "egress", "wan0", Some("where it leaves")),
        ("netdev", "ingress", "wan0", None),
    ] {
        let text = format!(
            "table {family} theirs {{ chain fw {{ type filter hook {hook} device {device} priority 0;\n \
             ip daddr 203.0.113.200 drop\n }}\n}}\n"
        );
        lab.gateway.nft(&text);
        let said = agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2", "--proto", "udp"]);
        let expected = place.map_or("masquerade as 203.0.113.1\n".to_owned(), |place| {
            format!("drop ({place}: {family} theirs fw (priority 0): ip daddr 203.0.113.200 drop)\n")
        });
        assert!(said.starts_with(&format!("203.0.113.200: {expected}")), "{said}");
        let asked = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        let next = Probe::new(Kind::Udp, parse("10.20.0.5")).from(parse("192.168.77.2"));
        asked.send(&lab.lan);
        next.send(&lab.lan);
        let seen = lab.observer.wait(|seen| asked.is(seen) || next.is(seen)).unwrap();
        assert_eq!(asked.is(&seen), place.is_none(), "{family} {hook} {device}");
        lab.gateway.must("nft", &["delete", "table", family, "theirs"]);
    }
}

/// Drops what goes to 203.0.113.200, with a rule of which something is not understood or not; what takes it out again.
fn filter(lab: &Lab, backend: BackendName, table: &str, chain: &str, is_odd: bool) -> Box<dyn Fn(&Lab)> {
    let words = |action: &str| format!("-w -t {table} {action} {chain}");
    if backend == BackendName::Nftables {
        let priority = match table {
            "raw" => -300,
            "mangle" => -150,
            _ => 0,
        };
        let odd = if is_odd { "ip id 0-65535 " } else { "" };
        let hook = chain.to_lowercase();
        let text = format!(
            "table inet theirs {{ chain fw {{ type filter hook {hook} priority {priority};\n \
             {odd}ip daddr 203.0.113.200 drop\n }}\n}}\n"
        );
        lab.gateway.nft(&text);
        return Box::new(|lab| _ = lab.gateway.must("nft", &["delete", "table", "inet", "theirs"]));
    }
    let tool = iptables_beside(backend);
    let odd = if is_odd { "-m length --length 0:65535 " } else { "" };
    let rule = format!("{odd}-d 203.0.113.200 -j DROP");
    let (add, delete) = (format!("{} {rule}", words("-A")), format!("{} {rule}", words("-D")));
    let run = move |lab: &Lab, words: &str| {
        lab.gateway.must(tool, &words.split_whitespace().collect::<Vec<_>>());
    };
    run(lab, &add);
    Box::new(move |lab| run(lab, &delete))
}

#[test]
fn a_rule_that_keeps_a_flow_from_being_tracked_is_told_and_the_flow_keeps_its_source() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.apply("portForwards: [{hostPort: 8080, protocol: udp, address: 192.168.77.2}]\n");
        let explain = |arguments: &str| gateway.agent.must("explain", &arguments.split(' ').collect::<Vec<_>>());
        let forwarded = || explain("203.0.113.200 --from 192.168.77.2 --proto udp");
        let own = || explain("203.0.113.200 --from 192.168.77.1 --proto udp");
        let to_port = || explain("203.0.113.1 --port 8080 --proto udp --from 203.0.113.9 --in wan0");
        let probe = |from: &str| Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse(from));
        let seen = || probe("192.168.77.2").source_seen(&lab.lan, &lab.observer);
        let own_seen = || probe("192.168.77.1").source_seen(&lab.gateway, &lab.observer);
        let masqueraded = "203.0.113.200: masquerade as 203.0.113.1\n";
        let is_plain = |said: &str| said.starts_with(masqueraded) && !said.contains("unless");

        let targets: &[&str] =
            if *backend == BackendName::Nftables { &["notrack"] } else { &["-j CT --notrack", "-j NOTRACK"] };
        for target in targets {
            assert!(is_plain(&forwarded()) && is_plain(&own()), "{backend}: {}{}", forwarded(), own());
            assert!(to_port().starts_with("203.0.113.1: forward to 192.168.77.2:8080, "), "{}", to_port());
            assert_eq!([seen(), own_seen()], [Some(parse("203.0.113.1")); 2], "{backend}");

            let undo = raw(&lab, *backend, "PREROUTING", target);
            let said = forwarded();
            let told = "203.0.113.200: keep source 192.168.77.2 (not tracked, so no nat rule sees it: i";
            assert!(said.starts_with(told) && said.contains("\n  ours     masquerade\n"), "{backend} {target}: {said}");
            assert_eq!(seen(), Some(parse("192.168.77.2")), "{backend} {target}");
            let said = to_port();
            let told = "203.0.113.1: stays here (not tracked, so no nat rule sees it: i";
            assert!(said.starts_with(told), "{backend} {target}: {said}");
            let here = lab.gateway.enter(|| UdpSocket::bind("203.0.113.1:8080")).unwrap();
            here.set_read_timeout(Some(DEADLINE)).unwrap();
            Probe::new(Kind::Udp, parse("203.0.113.1")).with_port(8080).send(&lab.outside);
            here.recv(&mut [0; 16]).expect("the packet stays here");
            assert!(is_plain(&own()), "{backend} {target}: {}", own());
            undo(&lab);

            let undo = raw(&lab, *backend, "OUTPUT", target);
            let said = own();
            let told = "203.0.113.200: keep source 192.168.77.1 (not tracked, so no nat rule sees it: i";
            assert!(said.starts_with(told), "{backend} {target}: {said}");
            assert_eq!(own_seen(), Some(parse("192.168.77.1")), "{backend} {target}");
            assert!(is_plain(&forwarded()), "{backend} {target}: {}", forwarded());
            undo(&lab);
        }
        // It depends on what was not asked for.
        let undo = raw(
            &lab,
            *backend,
            "PREROUTING",
            match backend {
                BackendName::Nftables => "udp dport 53 notrack",
                BackendName::IptablesNft | BackendName::IptablesLegacy => "-p udp --dport 53 -j CT --notrack",
            },
        );
        let said = forwarded();
        assert!(said.starts_with(masqueraded) && said.contains("\n  unless   i"), "{backend}: {said}");
        let said = explain("203.0.113.200 --from 192.168.77.2 --proto tcp");
        assert!(is_plain(&said), "{backend}: {said}");
        undo(&lab);
    }
}

#[test]
fn a_rule_that_keeps_every_connection_of_a_network_untracked_is_told_and_one_for_a_port_is_not() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("portForwards: [{hostPort: 8080, protocol: udp, address: 192.168.77.2}]\n");
        let told = || {
            let output = gateway.agent.command("check", &["--host"]);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(i32::from(!said.is_empty())), "{backend}: {said}");
            said
        };
        let seen = || {
            let probe = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
            probe.source_seen(&lab.lan, &lab.observer)
        };
        let (masqueraded, own) = (Some(parse("203.0.113.1")), Some(parse("192.168.77.2")));
        let kept = "new IPv4 connections from lan0 to wan0, wan1 are not tracked and keep their source: i";
        let is_nft = backend == BackendName::Nftables;
        let target = |condition: &str| {
            let words = if is_nft {
                ["iifname ", "udp dport ", "notrack"]
            } else {
                ["-i ", "-p udp --dport ", "-j CT --notrack"]
            };
            format!("{} {}", condition.replace("IN ", words[0]).replace("PORT ", words[1]), words[2])
        };
        assert_eq!((told(), seen()), (String::new(), masqueraded), "{backend}");

        let undo = raw(lab, backend, "PREROUTING", &target("IN lan0"));
        let said = told();
        assert!(said.starts_with(kept) && said.lines().count() == 1, "{backend}: {said}");
        assert_eq!(seen(), own, "{backend}");
        undo(lab);

        let undo = raw(lab, backend, "PREROUTING", &target("PORT 53"));
        assert_eq!((told(), seen()), (String::new(), masqueraded), "{backend}");
        undo(lab);

        let undo = raw(lab, backend, "PREROUTING", &target("PORT 8080"));
        let said = told();
        let stay =
            ": portForwards[1]: new IPv4 connections from wan0, wan1 to 192.168.77.2 are not tracked and stay here: i";
        assert!(said.contains(stay) && said.lines().count() == 1, "{backend}: {said}");
        let here = lab.gateway.enter(|| UdpSocket::bind("203.0.113.1:8080")).unwrap();
        here.set_read_timeout(Some(DEADLINE)).unwrap();
        Probe::new(Kind::Udp, parse("203.0.113.1")).with_port(8080).send(&lab.outside);
        here.recv(&mut [0; 16]).expect("the packet stays here");
        drop(here);
        undo(lab);
        assert_eq!((told(), seen()), (String::new(), masqueraded), "{backend}");
    });
}

#[test]
fn the_service_warns_of_a_rule_that_keeps_a_network_untracked_for_as_long_as_it_is_there() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "backend: nftables\nenableIPv6: true\n");
    let _service = agent.start();
    let warnings = || serde_json::from_str::<Value>(&agent.must("status", &["--json"])).unwrap()["warnings"].clone();
    let are = |expected: &[String]| {
        let (expected, end) = (serde_json::json!(expected), Instant::now() + DEADLINE);
        while warnings() != expected {
            assert!(Instant::now() < end, "{} instead of {expected}", warnings());
        }
    };
    are(&[]);
    for (table, hook, condition, families) in [
        ("inet", "prerouting priority -300", "", &["IPv4", "IPv6"][..]),
        ("netdev", "ingress device lan0 priority 0", "", &["IPv4", "IPv6"]),
        ("ip6", "prerouting priority -300", "ip6 saddr fd00::/8 ", &["IPv6"]),
        ("inet", "prerouting priority -150", "", &[]),
    ] {
        let rules = format!("chain early {{ type filter hook {hook}; {condition}notrack; }}");
        lab.gateway.nft(&format!("table {table} theirs {{ {rules}\n}}\n"));
        let priority = hook.rsplit(' ').next().unwrap_or_default();
        let by = format!("{table} theirs early (priority {priority}): {condition}notrack");
        let told = |family: &&str| {
            format!("new {family} connections from lan0 to wan0, wan1 are not tracked and keep their source: {by}")
        };
        are(&families.iter().map(told).collect::<Vec<_>>());
        lab.gateway.must("nft", &["delete", "table", table, "theirs"]);
        are(&[]);
    }
}

#[test]
fn notrack_behind_connection_tracking_does_nothing_and_a_firewall_sees_its_effect_before() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "");
    agent.must("run", &["--once"]);
    let explain = || agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2", "--proto", "udp"]);
    let load = |priority: i32, forward: &str| {
        let text = format!(
            "table inet theirs\ndelete table inet theirs\ntable inet theirs {{\n \
             chain early {{ type filter hook prerouting priority {priority}; ip daddr 203.0.113.200 notrack; }}\n \
             chain fw {{ type filter hook forward priority 0; {forward} }}\n}}\n"
        );
        let output = lab.gateway.run_with_input("nft", &["-f", "-"], &text);
        assert!(output.status.success(), "{output:?}");
    };
    let accept = "policy drop; ct state new,established accept; ip daddr 10.20.0.5 accept;";
    load(-150, accept);
    assert!(explain().starts_with("203.0.113.200: masquerade as 203.0.113.1\n"), "{}", explain());
    let probe = |to: &str| Probe::new(Kind::Udp, parse(to)).from(parse("192.168.77.2"));
    assert_eq!(probe("203.0.113.200").source_seen(&lab.lan, &lab.observer), Some(parse("203.0.113.1")));
    load(-300, accept);
    let told = "203.0.113.200: drop (where it is forwarded: inet theirs fw: policy drop, and no rule accepts it)\n";
    assert!(explain().starts_with(told), "{}", explain());
    let (dropped, next) = (probe("203.0.113.200"), probe("10.20.0.5"));
    dropped.send(&lab.lan);
    next.send(&lab.lan);
    let seen = lab.observer.wait(|seen| dropped.is(seen) || next.is(seen));
    assert!(seen.is_some_and(|seen| next.is(&seen)));
    lab.gateway.must("nft", &["delete", "table", "inet", "theirs"]);
    let ingress =
        "table netdev theirs {\n chain early { type filter hook ingress device lan0 priority 0; notrack; }\n}\n";
    let output = lab.gateway.run_with_input("nft", &["-f", "-"], ingress);
    assert!(output.status.success(), "{output:?}");
    let told = "203.0.113.200: keep source 192.168.77.2 (not tracked, so no nat rule sees it: netdev theirs early";
    assert!(explain().starts_with(told), "{}", explain());
    assert_eq!(probe("203.0.113.200").source_seen(&lab.lan, &lab.observer), Some(parse("192.168.77.2")));
    lab.gateway.must("nft", &["delete", "table", "netdev", "theirs"]);
    load(-300, "policy drop; ct state untracked accept;");
    assert!(explain().starts_with("203.0.113.200: keep source 192.168.77.2 (not tracked, "), "{}", explain());
    assert_eq!(probe("203.0.113.200").source_seen(&lab.lan, &lab.observer), Some(parse("192.168.77.2")));
}

/// A rule of another program before connection tracking; what takes it out again.
fn raw(lab: &Lab, backend: BackendName, chain: &str, rule: &str) -> Box<dyn Fn(&Lab)> {
    if backend == BackendName::Nftables {
        let hook = chain.to_lowercase();
        let text = format!("table ip theirs {{ chain early {{ type filter hook {hook} priority raw; {rule}; }}\n}}\n");
        let output = lab.gateway.run_with_input("nft", &["-f", "-"], &text);
        assert!(output.status.success(), "{output:?}");
        return Box::new(|lab| _ = lab.gateway.must("nft", &["delete", "table", "ip", "theirs"]));
    }
    let tool = if backend == BackendName::IptablesLegacy { "iptables-legacy" } else { "iptables-nft" };
    let words = |action: &str| format!("-w -t raw {action} {chain} {rule}");
    let (add, delete) = (words("-A"), words("-D"));
    let run = move |lab: &Lab, words: &str| {
        lab.gateway.must(tool, &words.split_whitespace().collect::<Vec<_>>());
    };
    run(lab, &add);
    Box::new(move |lab| run(lab, &delete))
}

#[test]
fn a_policy_that_drops_what_this_host_sends_or_takes_is_told_and_the_packets_are_dropped() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("");
        let (program, text) = match backend {
            BackendName::Nftables => (
                "nft",
                "table inet theirs {\n \
                 chain in { type filter hook input priority 0; policy drop; udp dport 7002 accept; }\n \
                 chain out { type filter hook output priority 0; policy drop; ip daddr 10.20.0.5 accept; }\n}\n",
            ),
            BackendName::IptablesNft | BackendName::IptablesLegacy => (
                if backend == BackendName::IptablesNft { "iptables-nft-restore" } else { "iptables-legacy-restore" },
                "*filter\n:INPUT DROP [0:0]\n:OUTPUT DROP [0:0]\n-A INPUT -p udp --dport 7002 -j ACCEPT\n\
                 -A OUTPUT -d 10.20.0.5 -j ACCEPT\nCOMMIT\n",
            ),
        };
        let arguments: &[&str] = if program == "nft" { &["-f", "-"] } else { &[] };
        let output = lab.gateway.run_with_input(program, arguments, text);
        assert!(output.status.success(), "{output:?}");
        let explain = |arguments: &str| gateway.agent.must("explain", &arguments.split(' ').collect::<Vec<_>>());

        let said = explain("203.0.113.200 --from 203.0.113.1");
        assert!(
            said.starts_with("203.0.113.200: drop (where this host sends it: ") && said.contains(": policy drop, "),
            "{said}"
        );
        assert!(explain("10.20.0.5 --from 203.0.113.1").starts_with("10.20.0.5: keep source 203.0.113.1\n"));
        assert!(explain("203.0.113.200 --from 192.168.77.2").starts_with("203.0.113.200: masquerade as 203.0.113.1\n"));

        let to_host = |port: u16| explain(&format!("192.168.77.1 --from 192.168.77.2 --proto udp --port {port}"));
        let said = to_host(7001);
        assert!(said.starts_with("192.168.77.1: drop (where this host takes it: "), "{said}");
        let said = to_host(7002);
        assert!(said.starts_with("192.168.77.1: not affected\n") && !said.contains("unless"), "{said}");
        let said = explain("192.168.77.1 --from 192.168.77.2 --proto udp");
        assert!(said.starts_with("192.168.77.1: not affected\n") && said.contains("\n  unless   i"), "{said}");
        let bind = |port| lab.gateway.enter(|| UdpSocket::bind(("192.168.77.1", port)).unwrap());
        let (closed, open) = (bind(7001), bind(7002));
        let send = |port| Probe::new(Kind::Udp, parse("192.168.77.1")).with_port(port).send(&lab.lan);
        send(7001);
        send(7002);
        open.set_read_timeout(Some(DEADLINE)).unwrap();
        open.recv(&mut [0; 64]).unwrap();
        closed.set_nonblocking(true).unwrap();
        assert!(closed.recv(&mut [0; 64]).is_err(), "{backend}");
    });
}

/// The configuration, the rules of others, the destination, what the wire shows, and what it will show where that is
/// something else.
const WITHOUT_OURS: &[(&str, Foreign, &str, &str, &str)] = &[
    ("", Foreign::None, "203.0.113.200", "keep source 192.168.77.2", "masquerade as 203.0.113.1"),
    (
        "egress: [{sourceCIDRs: [192.168.77.0/24], snat: 203.0.113.77}]\n",
        Foreign::None,
        "203.0.113.200",
        "keep source 192.168.77.2",
        "snat to 203.0.113.77",
    ),
    ("", Foreign::None, "10.20.0.5", "keep source 192.168.77.2", ""),
    ("", Foreign::Early("oifname \"wan0\" masquerade"), "10.20.0.5", "masquerade as 203.0.113.1", ""),
    (
        "",
        Foreign::Early("ip saddr 192.168.77.2 snat ip to 203.0.113.77"),
        "203.0.113.200",
        "snat ip to 203.0.113.77",
        "",
    ),
    ("", Foreign::Appended(&["-o", "wan0", "-j", "MASQUERADE"]), "203.0.113.200", "masquerade as 203.0.113.1", ""),
];

#[test]
fn while_the_kernel_has_none_of_our_rules_the_headline_says_what_the_wire_shows_and_what_it_will() {
    let absent = "none of our rules are in the kernel; with them: ";
    on_each_backend(|lab, gateway, backend| {
        let tool = iptables_beside(backend);
        for (config, foreign, to, now, with) in WITHOUT_OURS {
            gateway.agent.configure(&gateway.config(config));
            let undo = put(lab, tool, foreign);
            let ask = |more: &[&str]| {
                gateway.agent.must("explain", &[&[*to, "--from", "192.168.77.2", "--proto", "udp"], more].concat())
            };
            let note = match (foreign, *with) {
                (Foreign::None, "") => String::new(),
                (Foreign::None, with) => format!(" ({absent}{with})"),
                _ => " (by a rule of another program: i".to_owned(),
            };
            let said = ask(&[]);
            assert!(said.starts_with(&format!("{to}: {now}{note}")), "{backend}: {said}");
            let answer = serde_json::from_str::<Value>(&ask(&["--json"])).unwrap()[0].clone();
            let expected = (!with.is_empty()).then_some(*with);
            assert_eq!(answer["wire"]["with_ours"].as_str(), expected, "{backend}: {answer}");
            let seen =
                Probe::new(Kind::Udp, parse(to)).from(parse("192.168.77.2")).source_seen(&lab.lan, &lab.observer);
            assert!(
                seen.is_some() && seen == answer["wire"]["source"].as_str().map(parse),
                "{backend}: {seen:?} {said}"
            );
            undo(lab);
        }
        let forward = "portForwards: [{hostPort: 8080, address: 192.168.77.2}]\n";
        gateway.agent.configure(&gateway.config(forward));
        let to_port = || gateway.agent.must("explain", &["203.0.113.1", "--port", "8080", "--from", "203.0.113.9"]);
        let forwarded = "forward to 192.168.77.2:8080, keep source";
        assert!(to_port().starts_with(&format!("203.0.113.1: stays here ({absent}{forwarded})\n")), "{}", to_port());
        gateway.apply("");
        let others = "(with these rules; the kernel holds others)";
        gateway.agent.configure(&gateway.config(forward));
        assert!(to_port().starts_with(&format!("203.0.113.1: {forwarded} {others}\n")), "{}", to_port());
        gateway.apply(forward);
        assert!(to_port().starts_with(&format!("203.0.113.1: {forwarded}\n")), "{}", to_port());
        gateway.agent.configure(&gateway.config("sourceCIDRs: [192.168.77.0/24]\n"));
        let said = gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2"]);
        assert!(said.starts_with(&format!("203.0.113.200: masquerade as 203.0.113.1 {others}\n")), "{said}");
        let said = gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2", "--json"]);
        let wire = &serde_json::from_str::<Value>(&said).unwrap()[0]["wire"];
        assert!(wire["action"] == "not known" && wire["source"].is_null(), "{wire}");
        gateway.agent.configure(&gateway.config("nonMasqueradeCIDRs: [203.0.113.0/24]\n"));
        let undo = put(lab, tool, &Foreign::Appended(&["-o", "wan0", "-j", "SNAT", "--to-source", "203.0.113.77"]));
        let said = gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2"]);
        let is_before = backend == BackendName::Nftables;
        assert!(said.lines().next().unwrap().ends_with(others) != is_before, "{said}");
        undo(lab);
    });
}

/// Another program's rules, in a table of their own and in the nat table of iptables.
enum Foreign {
    None,
    /// At a priority before all of ours.
    Early(&'static str),
    Appended(&'static [&'static str]),
    Inserted(&'static [&'static str]),
}

/// The configuration, the rules of others, source and destination.
type Situation = (&'static str, Foreign, &'static str, &'static str);

const SITUATIONS: &[Situation] = &[
    ("", Foreign::None, "192.168.77.2", "203.0.113.200"),
    ("", Foreign::None, "192.168.77.2", "10.20.0.5"),
    ("", Foreign::None, "192.168.77.2", "192.0.2.5"),
    ("", Foreign::None, "fd00:77::2", "2001:db8:5::5"),
    ("", Foreign::None, "fd00:77::2", "2001:db8:2::5"),
    ("outInterfaces: [wan0]\n", Foreign::None, "192.168.77.2", "192.0.2.5"),
    ("sourceCIDRs: [192.168.78.0/24]\n", Foreign::None, "192.168.77.2", "203.0.113.200"),
    // By a rule of policy routing.
    ("", Foreign::None, "192.168.78.2", "203.0.113.200"),
    (
        "egress: [{sourceCIDRs: [192.168.77.0/24], snat: 203.0.113.77}]\n",
        Foreign::None,
        "192.168.77.2",
        "203.0.113.200",
    ),
    ("", Foreign::Early("ip saddr 192.168.77.2 snat ip to 203.0.113.77"), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Early("ip saddr 192.168.76.0/24 snat ip to 203.0.113.77"), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Early("oifname \"wan1\" masquerade"), "192.168.77.2", "10.20.0.5"),
    ("", Foreign::Early("snat ip to ip saddr map { 192.168.77.2 : 203.0.113.77 }"), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Early("snat ip to ip saddr map { 192.168.76.2 : 203.0.113.77 }"), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Early("jump sub"), "192.168.77.2", "10.20.0.5"),
    ("", Foreign::Early("accept"), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Appended(&["-o", "wan0", "-j", "MASQUERADE"]), "192.168.77.2", "10.20.0.5"),
    (
        "",
        Foreign::Appended(&["-d", "10.20.0.0/16", "-j", "SNAT", "--to-source", "203.0.113.77"]),
        "192.168.77.2",
        "10.20.0.5",
    ),
    ("", Foreign::Appended(&["-o", "wan1", "-j", "MASQUERADE"]), "192.168.77.2", "10.20.0.5"),
    ("", Foreign::Inserted(&["-s", "192.168.77.0/24", "-j", "ACCEPT"]), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Inserted(&["-p", "tcp", "-j", "ACCEPT"]), "192.168.77.2", "203.0.113.200"),
    ("", Foreign::Inserted(&["-m", "mark", "--mark", "0x1", "-j", "ACCEPT"]), "192.168.77.2", "203.0.113.200"),
];

const EARLY: &str = "table inet theirs {\n chain sub {\n ip daddr 10.20.0.5 goto last\n }\n chain last {\n masquerade\n }\n \
    chain post {\n type nat hook postrouting priority 10;\n RULE\n }\n}\n";

#[test]
fn the_headline_of_explain_is_what_the_wire_shows() {
    on_each_backend(|lab, gateway, backend| {
        lab.gateway.ip("rule add from 192.168.78.2 lookup 100\nroute add default via 198.51.100.9 table 100\n");
        let tool = iptables_beside(backend);
        let mut wrong = Vec::new();
        for (number, (config, foreign, from, to)) in SITUATIONS.iter().enumerate() {
            gateway.apply(config);
            let undo = put(lab, tool, foreign);
            let said = gateway.agent.must("explain", &[to, "--from", from, "--proto", "udp", "--json"]);
            let answer = serde_json::from_str::<Value>(&said).unwrap()[0].clone();
            let expected = answer["wire"]["source"].as_str().map(parse);
            let seen = Probe::new(Kind::Udp, parse(to)).from(parse(from)).source_seen(&lab.lan, &lab.observer);
            if seen.is_none() || seen != expected {
                wrong.push(format!("{number}: {from} to {to}: the far end saw {seen:?}, explain said {said}"));
            }
            undo(lab);
        }
        assert!(wrong.is_empty(), "{backend}:\n{}", wrong.join("\n"));
    });
}

#[test]
fn a_chain_of_the_same_priority_may_decide_and_is_told_as_that() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("portForwards: [{hostPort: 8080, address: 192.168.77.2}]\n");
        let (post, pre) = if backend == BackendName::Nftables { (150, -50) } else { (100, -100) };
        let theirs = format!(
            "table ip theirs {{ chain post {{ type nat hook postrouting priority {post}; oifname wan0 snat to 203.0.113.77; }}
             chain pre {{ type nat hook prerouting priority {pre}; tcp dport 8080 dnat to 192.168.77.9:81; }}
             }}"
        );
        lab.gateway.nft(&theirs);
        let said = gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2"]);
        assert!(
            said.starts_with("203.0.113.200: masquerade as ") && said.contains("\n  unless   ip theirs post "),
            "{said}"
        );
        let port = ["203.0.113.1", "--port", "8080", "--in", "wan0", "--from", "203.0.113.200"];
        let said = gateway.agent.must("explain", &port);
        let forward = "203.0.113.1: forward to 192.168.77.2:8080, ";
        assert!(said.starts_with(forward) && said.contains("\n  unless   ip theirs pre "), "{said}");
        let (status, found) = check_host(&gateway.agent);
        assert!(status == Some(1) && found.contains("has the priority of our IPv4 forwards"), "{backend}: {found}");
    });
}

/// Puts rules of another program in; what takes them out again.
fn put(lab: &Lab, tool: &'static str, foreign: &'static Foreign) -> Box<dyn Fn(&Lab)> {
    let in_iptables = |command: &str, rest: &[&str]| -> Vec<String> {
        ["-w", "-t", "nat", command, "POSTROUTING"].iter().chain(rest).map(|word| (*word).to_owned()).collect()
    };
    let run = move |lab: &Lab, words: &[String]| {
        lab.gateway.must(tool, &words.iter().map(String::as_str).collect::<Vec<_>>());
    };
    match foreign {
        Foreign::None => Box::new(|_| {}),
        Foreign::Early(rule) => {
            lab.gateway.nft(&EARLY.replace("RULE", rule));
            Box::new(|lab| _ = lab.gateway.must("nft", &["delete", "table", "inet", "theirs"]))
        }
        Foreign::Appended(rule) | Foreign::Inserted(rule) => {
            let command = if matches!(foreign, Foreign::Appended(_)) { "-A" } else { "-I" };
            run(lab, &in_iptables(command, rule));
            let delete = in_iptables("-D", rule);
            Box::new(move |lab| run(lab, &delete))
        }
    }
}

#[test]
fn explain_says_by_which_route_a_flow_leaves_and_by_which_line_it_is_out_of_scope() {
    let Some(lab) = Lab::build() else { return };
    lab.gateway.ip("route add 203.0.113.88/32 via 198.51.100.9\nroute add unreachable 192.0.2.128/25\n");
    let agent = Agent::new(&lab.gateway, BINARY, "outInterfaces: [wan0]\nnonMasqueradeCIDRs: []\n");
    agent.must("run", &["--once"]);
    let said = agent.must("explain", &["203.0.113.88", "--from", "192.168.77.2"]);
    let first: Vec<&str> = said.lines().take(4).map(str::trim).collect();
    let by = format!("by       outInterfaces, {}:1:17", agent.config_path());
    assert_eq!(
        first,
        [
            "203.0.113.88: keep source 192.168.77.2",
            "leaves by wan1 (route 203.0.113.88 via 198.51.100.9)",
            "because  the outgoing interface is not in outInterfaces [out-interface]",
            &by,
        ],
        "{said}"
    );
    let offline = agent.must("explain", &["203.0.113.88", "--from", "192.168.77.2", "--offline"]);
    assert!(offline.starts_with("203.0.113.88: masquerade\n"), "{offline}");
    let nowhere = agent.must("explain", &["192.0.2.200", "--from", "192.168.77.2"]);
    assert!(nowhere.starts_with("192.0.2.200: leaves nowhere: "), "{nowhere}");
    // What is wrong with one does not keep the others from being answered.
    let some = agent.command("explain", &["10.1.1.1", "nonsense", "203.0.113.200"]);
    let out = String::from_utf8_lossy(&some.stdout).into_owned();
    assert_eq!(some.status.code(), Some(2));
    assert!(out.contains("10.1.1.1: ") && out.contains("203.0.113.200: "), "{out}");
}

#[test]
fn explain_says_what_is_not_forwarded_and_what_it_takes_for_granted() {
    let Some(lab) = Lab::build() else { return };
    let config = "enableIPv6: true\negress:\n- {name: cameras, sourceCIDRs: [192.168.77.64/26], snat: none}\n";
    let agent = Agent::new(&lab.gateway, BINARY, config);
    agent.must("run", &["--once"]);
    let explain = |arguments: &str| agent.must("explain", &arguments.split(' ').collect::<Vec<_>>());
    let broadcast = "leaves nowhere: a broadcast is not forwarded";
    let multicast = "leaves nowhere: a multicast is forwarded by a multicast routing daemon alone";
    for (destination, source, expected) in [
        ("203.0.113.255", "192.168.77.2", broadcast),
        ("192.168.77.255", "192.168.77.2", broadcast),
        ("255.255.255.255", "192.168.77.2", broadcast),
        ("224.0.0.251", "192.168.77.2", multicast),
        ("ff02::fb", "fd00:77::2", multicast),
        ("203.0.113.255", "203.0.113.1", "keep source 203.0.113.1"),
    ] {
        let said = explain(&format!("{destination} --from {source}"));
        assert!(said.starts_with(&format!("{destination}: {expected}\n")), "{said}");
    }
    let absent = explain("203.0.113.200 --from 192.168.77.2 --out wg9 --in wg8");
    assert!(absent.starts_with("203.0.113.200: masquerade\n  leaves by wg9\n"), "{absent}");
    for interface in ["wg8", "wg9"] {
        let assumed = format!("  assuming that there is an interface {interface}; this host has none\n");
        assert!(absent.contains(&assumed), "{absent}");
    }
    let of_anybody = explain("203.0.113.200");
    assert!(of_anybody.starts_with("203.0.113.200: masquerade as 203.0.113.1\n"), "{of_anybody}");
    assert!(of_anybody.contains("from a source that no entry of egress names; name it with --from\n"), "{of_anybody}");
}

#[test]
fn connections_that_go_on_with_another_source_are_counted_with_what_ends_them() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "nonMasqueradeCIDRs: []\n");
    agent.must("run", &["--once"]);
    let probe = Probe::new(Kind::Udp, parse("10.20.0.5")).from(parse("192.168.77.2"));
    assert_eq!(probe.source_seen(&lab.lan, &lab.observer), Some(parse("203.0.113.1")));
    let ask = || agent.must("explain", &["10.20.0.5", "--from", "192.168.77.2"]);
    assert!(!ask().contains("  open "), "{}", ask());
    agent.apply("nonMasqueradeCIDRs: [10.0.0.0/8]\n");
    let said = ask();
    let open = said.lines().find(|line| line.starts_with("  open ")).unwrap_or_default();
    assert!(open.starts_with("  open     1 open flow still uses 203.0.113.1: udp 192.168.77.2 port "), "{said}");
    let command = open.split_once('(').map(|(_, command)| command.trim_end_matches(')')).unwrap();
    assert_eq!(command, "conntrack -D -s 192.168.77.2 -d 10.20.0.5");
    let words: Vec<&str> = command.split(' ').collect();
    lab.gateway.must(words[0], &words[1..]);
    assert!(!ask().contains("  open "), "{}", ask());
}

const FORWARDS: &str = "portForwards:
- {hostPort: 8080, protocol: udp, address: 192.168.77.2, port: 80}
- {hostPort: 8081, protocol: udp, address: 192.168.77.1, port: 81}
- {hostPort: 8082, protocol: udp, address: 192.168.77.2, port: 80, inInterfaces: [wan0]}
";

/// Who sends from where to a port of the gateway, and the rule that another program has put first.
type Knock = (&'static str, &'static str, u16, &'static [&'static str]);

const KNOCKS: &[Knock] = &[
    ("outside", "203.0.113.9", 8080, &[]),
    ("outside", "203.0.113.9", 8080, &["PREROUTING", "-p", "udp", "--dport", "8080", "-j", "ACCEPT"]),
    ("outside", "203.0.113.9", 8080, &["PREROUTING", "-i", "lan0", "-j", "ACCEPT"]),
    ("gateway", "203.0.113.1", 8080, &["OUTPUT", "-p", "udp", "-j", "ACCEPT"]),
    ("outside", "203.0.113.9", 8080, &["POSTROUTING", "-j", "MASQUERADE"]),
    ("outside", "203.0.113.9", 8080, &["POSTROUTING", "-o", "wan0", "-j", "MASQUERADE"]),
    (
        "outside",
        "203.0.113.9",
        8080,
        &["POSTROUTING", "-d", "192.168.77.2", "-j", "SNAT", "--to-source", "203.0.113.77"],
    ),
    ("outside", "203.0.113.9", 8081, &[]),
    ("outside", "203.0.113.9", 8081, &["POSTROUTING", "-j", "MASQUERADE"]),
    // Of the network that leads to the target.
    ("lan", "192.168.77.2", 8081, &[]),
    ("gateway", "192.168.77.1", 8081, &[]),
    ("gateway", "203.0.113.1", 8081, &["POSTROUTING", "-j", "SNAT", "--to-source", "203.0.113.77"]),
    // In through lan0.
    ("lan", "192.168.77.2", 8082, &[]),
    ("outside", "203.0.113.9", 8082, &[]),
];

#[test]
fn who_gets_a_packet_for_a_forwarded_port_and_whom_it_sees_is_what_explain_says() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply(FORWARDS);
        let tool = iptables_beside(backend);
        let bind = |address: &str| {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let target = lab.lan.enter(|| bind("192.168.77.2:80"));
        let own = lab.gateway.enter(|| [81, 8080, 8081, 8082].map(|port| bind(&format!("0.0.0.0:{port}"))));
        let mut wrong = Vec::new();
        for (who, from, port, rule) in KNOCKS {
            let put = |command: &str| {
                if !rule.is_empty() {
                    lab.gateway.must(tool, &[&["-w", "-t", "nat", command][..], rule].concat());
                }
            };
            put("-I");
            let ports = ["--port", &port.to_string(), "--from", from, "--proto", "udp", "--json"].map(str::to_owned);
            let arguments: Vec<&str> = ["203.0.113.1"].into_iter().chain(ports.iter().map(String::as_str)).collect();
            let said = gateway.agent.must("explain", &arguments);
            let answer = serde_json::from_str::<Value>(&said).unwrap()[0].clone();
            let stays = answer["wire"]["action"].as_str().is_some_and(|action| action.starts_with("stays here"));
            let expected = match &answer["forward"] {
                forward if stays || forward.is_null() => format!("gateway sees {from}"),
                forward => {
                    let node = if forward["local"] == true { "gateway" } else { "lan" };
                    format!("{node} sees {}", forward["source"].as_str().unwrap_or_default())
                }
            };
            let node = [("lan", &lab.lan), ("gateway", &lab.gateway), ("outside", &lab.outside)]
                .into_iter()
                .find_map(|(name, node)| (name == *who).then_some(node));
            let client = node.unwrap().enter(|| UdpSocket::bind((*from, 0)).unwrap());
            client.send_to(b"knock", ("203.0.113.1", *port)).unwrap();
            let end = Instant::now() + DEADLINE;
            let seen = loop {
                let heard = |socket: &UdpSocket| socket.recv_from(&mut [0; 64]).ok().map(|(_, peer)| peer.ip());
                if let Some(peer) = heard(&target) {
                    break format!("lan sees {peer}");
                }
                if let Some(peer) = own.iter().find_map(heard) {
                    break format!("gateway sees {peer}");
                }
                if Instant::now() > end {
                    break "it is lost".to_owned();
                }
            };
            put("-D");
            if seen != expected {
                wrong.push(format!("{who} to {port} {rule:?}: {seen}, explain said {expected}: {said}"));
            }
        }
        assert!(wrong.is_empty(), "{backend}:\n{}", wrong.join("\n"));
        let ask = |incoming: &str| {
            let words = ["203.0.113.1", "--port", "8080", "--proto", "udp", "--from", "203.0.113.9"];
            gateway
                .agent
                .must("explain", &[&words[..], &["--in", incoming][..if incoming.is_empty() { 0 } else { 2 }]].concat())
        };
        assert!(
            ask("").contains(
                "  assuming that it comes in through wan0, which leads to 203.0.113.9; --in says another one\n"
            )
        );
        assert!(ask("nix9").contains("  assuming that there is an interface nix9; this host has none\n"));
    });
}

const FROM_LOOPBACK: &str = "portForwards:
- {hostPort: 8080, protocol: udp, address: 192.168.77.2, port: 80}
- {hostPort: 8081, protocol: udp, address: 192.168.77.1, port: 81}
- {hostPort: 8082, protocol: udp, address: 192.168.77.2, port: 82, hairpin: always}
";

#[test]
fn where_a_process_at_a_loopback_address_gets_through_a_forward_is_what_explain_says() {
    let with_localhost = FROM_LOOPBACK.replace("port: 80}", "port: 80, localhost: true}");
    on_each_backend(|lab, gateway, backend| {
        let arrived = Observer::new(&lab.lan);
        let own = lab.gateway.enter(|| [81, 8080].map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap()));
        own.iter().for_each(|socket| socket.set_read_timeout(Some(SILENCE)).unwrap());
        // Who asks for the link address of the target in the name of a loopback address gets no answer.
        let neighbour = Probe::new(Kind::Udp, parse("192.168.77.2")).from(parse("192.168.77.1"));
        assert!(neighbour.source_seen(&lab.gateway, &arrived).is_some());
        let mut wrong = Vec::new();
        for (config, route_localnet, to, port, expected) in [
            (FROM_LOOPBACK, "0", "203.0.113.1", 8080, "leaves nowhere"),
            (FROM_LOOPBACK, "0", "203.0.113.1", 8082, "leaves nowhere"),
            (FROM_LOOPBACK, "0", "203.0.113.1", 8081, "gateway sees 127.0.0.1"),
            (FROM_LOOPBACK, "0", "127.0.0.1", 8080, "gateway sees 127.0.0.1"),
            (FROM_LOOPBACK, "1", "203.0.113.1", 8080, "lan sees 127.0.0.1"),
            (FROM_LOOPBACK, "1", "203.0.113.1", 8082, "lan sees 192.168.77.1"),
            (&with_localhost, "0", "203.0.113.1", 8080, "lan sees 192.168.77.1"),
            (&with_localhost, "0", "127.0.0.1", 8080, "lan sees 192.168.77.1"),
        ] {
            lab.gateway.sysctl("net/ipv4/conf/lan0/route_localnet", route_localnet);
            gateway.apply(config);
            let ask = |from: &[&str]| {
                let port = port.to_string();
                let words = [to, "--port", &port, "--proto", "udp", "--json"];
                let said = gateway.agent.must("explain", &[&words[..], from].concat());
                let answer = serde_json::from_str::<Value>(&said).unwrap()[0].clone();
                let node = if answer["forward"]["local"] == false { "lan" } else { "gateway" };
                let source = answer["forward"]["source"].as_str().unwrap_or("127.0.0.1");
                if answer["crossing"]["refused"].is_null() {
                    format!("{node} sees {source}")
                } else {
                    "leaves nowhere".to_owned()
                }
            };
            let said = [ask(&["--from", "127.0.0.1"]), ask(&[])];
            let told = if to == "127.0.0.1" { &said[..] } else { &said[..1] };
            let probe = Probe::new(Kind::Udp, parse(to)).from(parse("127.0.0.1")).with_port(port);
            // Where there is no way, sendto(2) says so.
            let _ = lab.gateway.enter(|| probe.transmit());
            let at_target = |seen: &Seen| seen.destination == parse("192.168.77.2") && probe.is_in(seen);
            let seen = match arrived.wait_for(SILENCE, at_target) {
                Some(seen) => format!("lan sees {}", seen.source),
                None => match own.iter().find_map(|socket| socket.recv_from(&mut [0; 8]).ok()) {
                    Some((_, from)) => format!("gateway sees {}", from.ip()),
                    None => "leaves nowhere".to_owned(),
                },
            };
            if seen != expected || told.iter().any(|told| *told != seen) {
                wrong.push(format!(
                    "{config}{route_localnet} {to} {port}: {seen}, expected {expected}, explain said {said:?}"
                ));
            }
            gateway.agent.must("flush", &[]);
        }
        assert!(wrong.is_empty(), "{backend}:\n{}", wrong.join("\n"));
    });
}

#[test]
fn rules_of_policy_routing_that_ask_for_protocol_and_port_are_asked_of_the_flow() {
    on_each_backend(|lab, gateway, backend| {
        for family in ["-4", "-6"] {
            lab.gateway.must("ip", &[family, "rule", "add", "ipproto", "udp", "dport", "4500", "lookup", "100"]);
        }
        lab.gateway
            .ip("route add default via 198.51.100.9 table 100\nroute add default via 2001:db8:100::9 table 100\n");
        gateway.apply("");
        for (from, to, others) in
            [("192.168.77.2", "100.64.0.9", "203.0.113.1"), ("fd00:77::2", "2001:db8:5::5", "2001:db8:113::1")]
        {
            let said = |proto: &str, port: &str| {
                let words = [to, "--from", from, "--proto", proto, "--port", port];
                gateway.agent.must("explain", &words).lines().next().unwrap_or_default().to_owned()
            };
            for port in [4500, 4501] {
                let probe = Probe::new(Kind::Udp, parse(to)).from(parse(from)).with_port(port);
                let seen = probe.source_seen(&lab.lan, &lab.observer).expect("it arrives");
                assert_eq!(seen == parse(others), port != 4500, "{backend}: {seen}");
                assert_eq!(said("udp", &port.to_string()), format!("{to}: masquerade as {seen}"), "{backend}");
            }
            for protocol in ["tcp", "sctp"] {
                assert_eq!(said(protocol, "4500"), format!("{to}: masquerade as {others}"), "{backend}");
            }
        }
    });
}

#[test]
fn the_way_from_a_client_to_the_target_of_a_forward_is_that_of_its_own_rule_of_policy_routing() {
    on_each_backend(|lab, gateway, backend| {
        lab.gateway.ip("rule add from 203.0.113.9 lookup 100\nroute add 192.168.77.0/24 via 198.51.100.9 table 100\n\
             rule add from 203.0.113.200 lookup 101\nroute add unreachable 192.168.77.0/24 table 101\n");
        gateway.apply(FORWARDS);
        let arrived = Observer::new(&lab.lan);
        for (from, told) in [
            ("203.0.113.9", "route    wan1\n"),
            ("203.0.113.200", "203.0.113.1: leaves nowhere: the route is unreachable"),
            ("198.51.100.9", "route    lan0, network 192.168.77.0/24\n"),
        ] {
            let words = ["203.0.113.1", "--from", from, "--proto", "udp", "--port", "8080"];
            let said = gateway.agent.must("explain", &words);
            assert!(said.contains(told), "{backend}: {from}: {said}");
            let probe = Probe::new(Kind::Udp, parse("203.0.113.1")).from(parse(from)).with_port(8080);
            probe.send(&lab.outside);
            let at_target = |seen: &Seen| seen.destination == parse("192.168.77.2") && probe.is_in(seen);
            let [wan, lan] = [&lab.observer, &arrived].map(|observer| observer.wait_for(SILENCE, at_target).is_some());
            assert_eq!([wan, lan], [told.contains("wan1"), told.contains("lan0")], "{backend}: {from}");
        }
    });
}

#[test]
fn the_source_that_a_route_prefers_is_none_of_masquerading() {
    on_each_backend(|lab, gateway, backend| {
        lab.gateway.ip("route add 2001:db8:5::/48 via 2001:db8:113::9 src 2001:db8:113::77\n");
        gateway.apply("");
        let seen = Probe::new(Kind::Udp, parse("2001:db8:5::5")).source_seen(&lab.lan, &lab.observer);
        assert_eq!(seen, Some(parse("2001:db8:113::1")), "{backend}");
        let said = gateway.agent.must("explain", &["2001:db8:5::5", "--from", "fd00:77::2", "--proto", "udp"]);
        assert!(said.starts_with("2001:db8:5::5: masquerade\n"), "{backend}: {said}");
    });
}

#[test]
fn of_a_flow_that_another_program_leads_elsewhere_no_way_is_told_that_it_does_not_take() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("");
        let theirs = "table ip theirs {\n chain pre {\n type nat hook prerouting priority -110;\n \
                      ip daddr 100.64.0.9 dnat to 192.0.2.5\n }\n}\n";
        lab.gateway.nft(theirs);
        let said = gateway.agent.must("explain", &["100.64.0.9", "--from", "192.168.77.2", "--proto", "udp"]);
        let first = "100.64.0.9: dnat to 192.0.2.5 (by a rule of another program: ip theirs pre #1)\n";
        assert!(said.starts_with(first) && !said.contains("leaves by"), "{backend}: {said}");
        let probe = Probe::new(Kind::Udp, parse("100.64.0.9")).from(parse("192.168.77.2"));
        probe.send(&lab.lan);
        let seen = lab.observer.wait(|seen| probe.is_in(seen)).map(|seen| (seen.source, seen.destination));
        assert_eq!(seen, Some((parse("198.51.100.1"), parse("192.0.2.5"))), "{backend}");
    });
}

#[test]
fn flows_that_are_as_new_ones_would_be_or_may_be_exempt_are_no_flows_to_delete() {
    on_each_backend(|lab, gateway, backend| {
        lab.gateway.ip("route add 203.0.113.200/32 dev wan0 src 203.0.113.77\n");
        gateway.apply("snat: route-source\n");
        let seen = || {
            let probe = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
            probe.source_seen(&lab.lan, &lab.observer)
        };
        let ask = || gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2"]);
        assert_eq!(seen(), Some(parse("203.0.113.77")), "{backend}");
        assert!(!ask().contains("  open "), "{backend}: {}", ask());
        let exempt = "nonMasqueradeCIDRs: [203.0.113.0/24]\n";
        gateway.apply(exempt);
        assert_eq!(seen(), Some(parse("192.168.77.2")), "{backend}");
        // The first one, and the second one, which a mark may have exempted, too.
        for (keys, expected) in [
            (exempt, "  open     1 open flow still uses 203.0.113.77: "),
            ("exemptMarks: [0x100/0xff00]\n", "  open     1 open flow still uses 203.0.113.77: "),
            ("", "  open     2 open flows "),
        ] {
            gateway.apply(keys);
            assert!(ask().contains(expected), "{backend}: {keys}{}", ask());
        }
    });
}

/// A list that is longer than what `explain` parses itself while the service knows it, around one prefix that matters.
fn long_list(backend: BackendName, own: &str) -> String {
    let others = |third: usize| (0..250).map(move |fourth| format!("- 10.{third}.{fourth}.0/24\n"));
    let (before, after) = ((1..16).flat_map(others), (17..32).flat_map(others));
    let lines = before.chain([format!("- {own}\n")]).chain(after);
    format!("backend: {backend}\nconfigWatch: off\nruleWatch: poll\nnonMasqueradeCIDRs:\n{}", lines.collect::<String>())
}

#[test]
fn beside_a_long_list_the_service_says_what_is_in_force_while_the_kernel_has_it() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let text = long_list(*backend, "10.16.7.0/24");
        let agent = Agent::new(&lab.gateway, BINARY, &text);
        let _service = agent.start();
        let ask = |text: &str| -> Option<PolicyInForce> {
            let source = SourceText { path: Path::new(agent.config_path()).into(), text: text.to_owned() };
            let destinations = vec![parse("10.16.7.9")];
            let question = PolicyQuestion { digest: digest(&[source]), destinations };
            let asked = || control::ask(agent.runtime(), &Request::Policy(question.clone()), DEADLINE);
            serde_json::from_slice(&lab.gateway.enter(asked).unwrap().unwrap()).unwrap()
        };
        let told = ask(&text).expect("an answer");
        assert_eq!((told.backend, told.policy.ranges().exempt), (*backend, 1));
        let explain = || agent.must("explain", &["10.16.7.9", "--from", "192.168.77.2"]);
        let said = explain();
        assert!(said.contains(&format!("10.16.7.0/24, {}:3755:3", agent.config_path())), "{said}");
        assert!(said.contains(&format!("  kernel   holds exactly these rules ({backend})")), "{said}");
        // The rules go; the service looks once a second.
        let unsure = (0..10).any(|_| {
            match backend {
                BackendName::Nftables => lab.gateway.must("nft", &["flush", "ruleset"]),
                BackendName::IptablesNft => lab.gateway.must("iptables-nft", &["-t", "nat", "-F", "POSTROUTING"]),
                BackendName::IptablesLegacy => lab.gateway.must("iptables-legacy", &["-t", "nat", "-F", "POSTROUTING"]),
            };
            let told = ask(&text);
            agent.must("reload", &[]);
            assert!(ask(&text).is_some(), "{backend}: not repaired");
            told.is_none()
        });
        assert!(unsure, "{backend}: told although the rules were gone");
        if *backend != BackendName::Nftables {
            // As many members, and one is another one: no rule moves, and no number.
            let sets = lab.gateway.must("ipset", &["list", "-n"]);
            let set = sets.lines().next().expect("a set");
            lab.gateway.must("ipset", &["del", set, "10.16.7.0/24"]);
            lab.gateway.must("ipset", &["add", set, "10.99.7.0/24"]);
            assert_eq!(ask(&text), None, "{backend}");
            assert!(explain().contains("  kernel   holds other rules"), "{backend}: {}", explain());
            agent.must("reload", &[]);
            assert!(ask(&text).is_some(), "{backend}");
        }
        // The file says something else, which is not in force.
        let edited = long_list(*backend, "10.16.8.0/24");
        agent.configure(&edited);
        assert_eq!(ask(&edited), None);
        let said = explain();
        assert!(said.contains("[otherwise]") && said.contains("  kernel   holds other rules"), "{said}");
    }
}

#[test]
fn while_the_file_is_broken_the_answer_is_what_is_in_force() {
    let Some(lab) = Lab::build() else { return };
    let agent = Agent::new(&lab.gateway, BINARY, "nonMasqueradeCIDRs: [10.0.0.0/8]\n");
    let _service = agent.start();
    let end = Instant::now() + DEADLINE;
    while agent.attempt("last-good", &[]).is_err() {
        assert!(Instant::now() < end, "no last good configuration");
    }
    agent.configure("nonMasqueradeCIDRs: [10.0.0.0\n");
    let said = agent.must("explain", &["10.1.1.1"]);
    assert!(said.contains("[exempt]") && said.contains("  files    not valid; "), "{said}");
    agent.must("diff", &[]);
    assert!(agent.must("render", &[]).contains("10.0.0.0/8"));
    assert_eq!(agent.command("explain", &["10.1.1.1", "--offline"]).status.code(), Some(78));
    assert_eq!(agent.command("check", &[]).status.code(), Some(78));
}

#[test]
fn what_keeps_forwards_from_working_is_told_with_the_process_that_loses_its_port() {
    let Some(lab) = Lab::build() else { return };
    lab.gateway.ip("route add unreachable 192.0.2.128/25\n");
    let config = "portForwards:\n- {hostPort: 8022, address: 192.168.77.1, port: 22}\n\
                  - {hostPort: 21-23, address: 192.168.77.2}\n- {hostPort: 8080, address: 192.0.2.200}\n";
    let agent = Agent::new(&lab.gateway, BINARY, config);
    let sockets = lab.gateway.enter(|| {
        let listen = |port| TcpListener::bind(("0.0.0.0", port)).unwrap();
        // UDP is not forwarded.
        (listen(8022), listen(22), UdpSocket::bind(("0.0.0.0", 21)).unwrap())
    });
    let us = format!("{}[{}]", fs::read_to_string("/proc/self/comm").unwrap().trim_end(), std::process::id());
    let entry = |number| format!("portForwards[{number}] ({}:{}:3)", agent.config_path(), number + 1);
    let of_targets = format!(
        "{}: the target 192.168.77.1 is an address of this host itself\n{}: the target 192.0.2.200 has no route\n",
        entry(1),
        entry(3)
    );
    let of_sockets = format!(
        "{us} listens on tcp port 22, which {} forwards: new ssh connections to this host go to the target, and you may \
         lose access to it\n{us} listens on tcp port 8022, which {} forwards: new connections go to the target\n",
        entry(2),
        entry(1)
    );
    assert_eq!(check_host(&agent), (Some(1), format!("{of_sockets}{of_targets}")));
    drop(sockets);
    assert_eq!(check_host(&agent), (Some(1), of_targets));
    lab.gateway.ip("route del unreachable 192.0.2.128/25\n");
    agent.configure(&config.replace("192.168.77.1", "192.168.77.2"));
    assert_eq!(check_host(&agent), (Some(0), String::new()));
}

#[test]
fn an_uplink_that_a_forward_names_by_its_address_is_told_until_answers_leave_through_it() {
    let Some(lab) = Lab::build() else { return };
    let config = "portForwards: [{hostPort: 8080, address: 192.168.77.2, hostIP: 198.51.100.1}]\n";
    let agent = Agent::new(&lab.gateway, BINARY, config);
    let finding = format!(
        "{}:1:16: portForwards: answers to what comes in through wan1 leave through another uplink: it needs policy \
         routing (ip rule, and a table with a default route through wan1)\n",
        agent.config_path()
    );
    assert_eq!(check_host(&agent), (Some(1), finding));
    lab.gateway.ip("route add default via 198.51.100.9 table 100\nrule add from 198.51.100.1 lookup 100\n");
    assert_eq!(check_host(&agent), (Some(0), String::new()));
}

#[test]
fn a_mark_decides_as_explain_says_that_is_asked_with_it() {
    on_each_backend(|lab, gateway, backend| {
        gateway.apply("exemptMarks: [0x100/0xff00, 0x7]\n");
        let marks = [("0x141", 5001), ("0x241", 5002), ("7", 5003), ("0x17", 5004)];
        let rule = |(mark, port): &(&str, u16)| format!("udp dport {port} meta mark set {mark}\n");
        let rules: String = marks.iter().map(rule).collect();
        let table =
            format!("table inet marks {{ chain early {{ type filter hook prerouting priority -250\n{rules}}}\n}}\n");
        lab.gateway.nft(&table);
        for ((mark, port), by) in marks.into_iter().zip([Some("3:15"), None, Some("3:29"), None]) {
            let words = ["203.0.113.200", "--from", "192.168.77.2", "--proto", "udp", "--mark", mark];
            let said = gateway.agent.must("explain", &words);
            let probe = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2")).with_port(port);
            let seen = probe.source_seen(&lab.lan, &lab.observer).expect("it arrives");
            let expected = match by {
                Some(_) => format!("203.0.113.200: keep source {seen}\n"),
                None => format!("203.0.113.200: masquerade as {seen}\n"),
            };
            assert!(said.starts_with(&expected), "{backend}: {mark}: {seen}, {said}");
            let place = by.map(|by| format!("{}:{by}\n", gateway.agent.config_path()));
            assert_eq!(said.contains("[exempt-mark]"), by.is_some(), "{backend}: {mark}: {said}");
            assert!(place.is_none_or(|place| said.contains(&place)), "{backend}: {mark}: {said}");
            assert!(!said.contains("a packet without a mark"), "{said}");
        }
        let said = gateway.agent.must("explain", &["203.0.113.200", "--from", "192.168.77.2"]);
        assert!(said.contains("  assuming a packet without a mark; name it with --mark\n"), "{said}");
    });
}

#[test]
fn rules_that_an_administrator_expects_are_no_findings() {
    on_each_backend(|lab, gateway, backend| {
        // Of IPv6 there is no built-in range, which is noted where none is exempt.
        const LOCAL: &str = "extraNonMasqueradeCIDRs: ['fc00::/7']\n";
        gateway.apply(LOCAL);
        lab.gateway.nft(&EARLY.replace("RULE", "ip saddr 192.0.2.99 masquerade"));
        let line = "inet theirs post (priority 10): ip saddr 192.0.2.99 masquerade";
        let found = [4, 6].map(|family| format!("runs before our IPv{family} rules and wins: {line}\n"));
        let (code, said) = check_host(&gateway.agent);
        assert_eq!((code, said), (Some(1), found[0].clone()), "{backend}");
        gateway.agent.configure(&gateway.config(&format!("expectForeign: ['{line}']\n{LOCAL}")));
        assert_eq!(check_host(&gateway.agent), (Some(0), String::new()), "{backend}");
        gateway
            .agent
            .configure(&gateway.config(&format!("expectForeign: ['inet theirs *', 'ip nat DOCKER*']\n{LOCAL}")));
        let (code, said) = check_host(&gateway.agent);
        let note = format!(
            "note: {}:3:34: expectForeign: no rule on this host is 'ip nat DOCKER*'\n",
            gateway.agent.config_path()
        );
        assert_eq!((code, said), (Some(0), note), "{backend}");
    });
}

/// A rule of another program, the flow that it is about as `explain` is asked, and what `check --host` says before the rule.
type Meddling = (&'static [&'static str], &'static [&'static str], Option<&'static str>);

const FROM_OUTSIDE: &[&str] = &["203.0.113.1", "--from", "203.0.113.9", "--port", "8005"];
const FROM_HOST: &[&str] = &["203.0.113.1", "--from", "203.0.113.1", "--port", "8010"];
const FROM_NEIGHBOUR: &[&str] = &["203.0.113.1", "--from", "192.168.77.2", "--port", "8005"];

const MEDDLING: &[Meddling] = &[
    (
        &["-I", "PREROUTING", "-p", "tcp", "--dport", "8005", "-j", "DNAT", "--to-destination", "10.20.0.5"],
        FROM_OUTSIDE,
        Some("runs before our IPv4 forwards and wins: ip nat PREROUTING"),
    ),
    (
        &["-I", "OUTPUT", "-p", "tcp", "--dport", "8010", "-j", "DNAT", "--to-destination", "10.20.0.5"],
        FROM_HOST,
        Some("runs before our IPv4 forwards and wins for processes of this host: ip nat OUTPUT"),
    ),
    (
        &["-I", "POSTROUTING", "-o", "lan0", "-m", "conntrack", "--ctstate", "DNAT", "-j", "MASQUERADE"],
        FROM_OUTSIDE,
        Some("runs before our IPv4 rules and rewrites the source of what is forwarded: ip nat POSTROUTING"),
    ),
    (
        &["-I", "POSTROUTING", "-o", "lan0", "-s", "192.168.77.0/24", "-j", "SNAT", "--to-source", "203.0.113.77"],
        FROM_NEIGHBOUR,
        Some("runs before our IPv4 rules and rewrites the source of what is forwarded: ip nat POSTROUTING"),
    ),
    // By contract no drift while the jump is where it was put: named as another program's rule.
    (
        &["-I", "PREROUTING", "-j", "ACCEPT"],
        FROM_OUTSIDE,
        Some("runs before our IPv4 forwards, which never see what it accepts: ip nat PREROUTING"),
    ),
    // Other ports, protocols and addresses, and what another program does for networks of its own.
    (
        &["-I", "PREROUTING", "-p", "tcp", "--dport", "8011", "-j", "DNAT", "--to-destination", "10.20.0.5"],
        FROM_OUTSIDE,
        None,
    ),
    (
        &["-I", "PREROUTING", "-p", "udp", "--dport", "8005", "-j", "DNAT", "--to-destination", "10.20.0.5"],
        FROM_OUTSIDE,
        None,
    ),
    (
        &[
            "-I",
            "OUTPUT",
            "-d",
            "10.96.0.1",
            "-p",
            "tcp",
            "--dport",
            "8010",
            "-j",
            "DNAT",
            "--to-destination",
            "10.20.0.5",
        ],
        FROM_HOST,
        None,
    ),
    (&["-A", "POSTROUTING", "-s", "172.17.0.0/16", "-o", "lan0", "-j", "MASQUERADE"], FROM_OUTSIDE, None),
];

#[test]
fn rules_that_meet_what_a_forward_is_for_are_told_with_the_entry_as_explain_tells_them() {
    on_each_backend(|lab, gateway, backend| {
        let tool = iptables_beside(backend);
        let config = "extraNonMasqueradeCIDRs: ['fc00::/7']\noutInterfaces: [wan0]\n\
                      portForwards: [{hostPort: 8000-8010, address: 192.168.77.2}]\n";
        gateway.apply(config);
        assert_eq!(check_host(&gateway.agent), (Some(0), String::new()), "{backend}");
        for (rule, asked, expected) in MEDDLING {
            // What a chain of another table accepts comes to ours all the same.
            let is_final = backend != BackendName::Nftables || rule.last() != Some(&"ACCEPT");
            let expected = expected.filter(|_| is_final);
            lab.gateway.must(tool, &[&["-w", "-t", "nat"][..], rule].concat());
            assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}: {rule:?}");
            let (code, said) = check_host(&gateway.agent);
            let explained = gateway.agent.must("explain", asked);
            // Acknowledged by its own line.
            let line = said.split_once("ip nat ").map_or("nothing", |(_, line)| line.trim_end());
            let keys = format!("{config}expectForeign: ['ip nat {line}']\n");
            gateway.agent.configure(&gateway.config(&keys));
            let expected_then = if expected.is_some() { (Some(0), String::new()) } else { check_host(&gateway.agent) };
            assert_eq!(check_host(&gateway.agent), expected_then, "{backend}: {rule:?}");
            gateway.agent.configure(&gateway.config(config));
            let delete = [&["-w", "-t", "nat", "-D"][..], &rule[1..]].concat();
            lab.gateway.must(tool, &delete);
            let forward = format!("{}:5:16: portForwards[1]: ", gateway.agent.config_path());
            match expected {
                Some(expected) => {
                    assert!(said.starts_with(&format!("{forward}{expected}")), "{backend}: {rule:?}: {said}");
                    assert_eq!((code, said.lines().count()), (Some(1), 1), "{backend}: {rule:?}: {said}");
                }
                None => assert_eq!((code, &*said), (Some(0), ""), "{backend}: {rule:?}"),
            }
            assert_eq!(explained.contains("by a rule before ours"), expected.is_some(), "{backend}: {explained}");
        }
    });
}

#[test]
fn a_rule_that_leads_into_our_chain_makes_no_strangers_of_what_is_in_it() {
    for backend in [BackendName::IptablesNft, BackendName::IptablesLegacy] {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, BINARY, backend);
        gateway.apply(
            "extraNonMasqueradeCIDRs: ['fc00::/7']\negress: [{sourceCIDRs: [192.168.77.0/24], toPorts: 40000-50000}]\n",
        );
        let tool = iptables_beside(backend);
        lab.gateway.must(tool, &["-w", "-t", "nat", "-I", "POSTROUTING", "-o", "wan1", "-j", "IP-MASQ-AGENT"]);
        assert_eq!(check_host(&gateway.agent), (Some(0), String::new()), "{backend}");
    }
}

#[test]
fn status_tells_the_addresses_that_sources_become_as_the_host_has_them() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    let entry = "egress: [{name: office, sourceCIDRs: [192.168.77.0/24], snat: 203.0.113.77}]\n";
    gateway.agent.configure(&gateway.config(&format!("{entry}outInterfaces: [wan0]\n")));
    let _service = gateway.agent.start();
    let told = |line: &str| {
        let until = Instant::now() + DEADLINE;
        loop {
            let status = gateway.agent.must("status", &[]);
            if status.contains(line) {
                break;
            }
            assert!(Instant::now() < until, "{line} is not in\n{status}");
        }
    };
    let report = || serde_json::from_str::<Value>(&gateway.agent.must("status", &["--json"])).unwrap();
    // Of the two IPv6 addresses the kernel chooses one.
    told("        in use: 203.0.113.1 (wan0)\n");
    told("        egress: office: 203.0.113.77; in use: 203.0.113.77 (wan0); IPv4 new flows: 0");
    for (index, from) in ["192.168.77.2", "192.168.78.2"].into_iter().enumerate() {
        let seen = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse(from)).source_seen(&lab.lan, &lab.observer);
        let report = report();
        let said = [&report["egress"][0]["addresses"], &report["addresses"]][index][0]["address"].as_str().map(parse);
        assert_eq!(seen, said, "{from}: {report}");
    }
    lab.gateway.ip("addr del 203.0.113.77/32 dev wan0\n");
    told("        egress: office: 203.0.113.77; IPv4 new flows: ");
    let conntrack = &report()["conntrack"];
    assert!(conntrack["connections"].as_u64() > Some(0) && conntrack["insert_failed"] == 0, "{conntrack}");
}
