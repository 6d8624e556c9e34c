//! What `import` makes of other programs' rules: the text, what it refuses, and that both treat every flow alike.

use crate::interpreter;
use crate::random;
use ip_masq_agent::config::{self, Config, Flags, SourceText};
use ip_masq_agent::import::{ImportError, Imported, import};
use ip_masq_agent::policy::{Family, Flow, Protocol, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

fn parse(text: &str) -> Config {
    let source = SourceText { path: Path::new("imported.yaml").into(), text: text.to_owned() };
    config::parse(&[source], &Flags::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn imported(text: &str) -> Imported {
    let imported = import(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    parse(&imported.text);
    imported
}

/// The keys that were printed, without comments.
fn keys(text: &str) -> String {
    let lines = imported(text).text;
    lines.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// Why a line was refused.
fn refusal(line: &str) -> String {
    let Imported { text, refused } = imported(line);
    assert_eq!(refused, 1, "{text}");
    text.lines().last().unwrap_or_default().trim_start_matches('#').trim().to_owned()
}

#[test]
fn the_seven_lines_of_a_hand_written_script_are_said_or_refused_with_the_reason() {
    let script = "\
iptables -t nat -A PREROUTING -i wan0 -p tcp --dport 8080 -j DNAT --to-destination 192.168.50.2:80
iptables -t nat -A POSTROUTING -s 192.168.50.0/24 -d 192.168.50.2 -p tcp --dport 80 -j MASQUERADE
iptables -t nat -A POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT
iptables -t nat -A POSTROUTING -m mark --mark 0x100/0xff00 -j RETURN
iptables -t nat -A POSTROUTING -s 192.168.60.0/24 -o wan0 -j SNAT --to-source 203.0.113.9-203.0.113.12 --persistent
iptables -t nat -A POSTROUTING -o wan0 -p tcp --dport 25 -j SNAT --to-source 203.0.113.25
iptables -t nat -A POSTROUTING -o wan0 ! -d 10.0.0.0/8 -j MASQUERADE
";
    let found = imported(script);
    assert_eq!(found.refused, 1, "{}", found.text);
    assert!(
        found.text.contains("# line 6: iptables -t nat -A POSTROUTING -o wan0 -p tcp --dport 25"),
        "{}",
        found.text
    );
    assert_eq!(
        keys(script),
        "\
exemptMarks: [0x100/0xff00]
exemptIpsec: true
snat: none
randomFully: false
masqLocalSource: true
masqMulticast: true
masqLinkLocal: true
egress:
  - outInterfaces: [wan0]
    sourceCIDRs: [192.168.60.0/24]
    snat: 203.0.113.9-203.0.113.12
    nonMasqueradeCIDRs: []
  - outInterfaces: [wan0]
    snat: masquerade
    nonMasqueradeCIDRs: [10.0.0.0/8]
portForwards:
  - hostPort: 8080
    address: 192.168.50.2
    port: 80
    inInterfaces: [wan0]
    hairpin: [192.168.50.0/24]
"
    );
}

#[test]
fn lines_without_a_key_are_refused_with_the_reason() {
    let rule = |rest: &str| format!("*nat\n{rest}\nCOMMIT\n");
    for (line, reason) in [
        ("-A POSTROUTING -o wan0 -p udp -j MASQUERADE", "protocols and ports have no key where sources are rewritten"),
        ("-A POSTROUTING -s 10.0.0.0/8 -j NETMAP --to 192.0.2.0/24", "NETMAP has no key"),
        ("-A POSTROUTING -o wan0 -j MASQUERADE --random", "'--random' has no key"),
        ("-A POSTROUTING -m mark --mark 0x1 -j MASQUERADE", "what has a mark can be left alone (exemptMarks)"),
        ("-A POSTROUTING -o wan0 -m set --match-set gone dst -j RETURN", "the members of the set 'gone' are not here"),
        (
            "-A POSTROUTING -o wan0 -m statistic --mode random --probability 0.5 -j MASQUERADE",
            "-m statistic has no key",
        ),
        ("-A POSTROUTING -o wan0 -m comment --comment \"open", "a quote is not closed"),
        ("-A POSTROUTING -s 10.0.0.0/33 -j MASQUERADE", "'-s 10.0.0.0/33' has no key"),
        ("-A POSTROUTING -d 127.0.0.1 -j DOCKER_POSTROUTING", "the chain DOCKER_POSTROUTING is kept by Docker"),
        ("-A PREROUTING -p tcp --dport 22 -j REDIRECT --to-ports 2222", "leads to a port of this host itself"),
        ("-A PREROUTING -i wan0 -j DNAT --to-destination 192.0.2.2", "forwards every protocol"),
        ("-A PREROUTING -p tcp --dport 80:90 -j DNAT --to-destination 192.0.2.2:80", "several ports lead to one"),
        ("-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.0.2.2-192.0.2.4", "leads to several addresses"),
        ("-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:80", "--to-destination is not an address"),
        (
            "-A OUTPUT -p tcp -d 192.0.2.1 --dport 80 -j DNAT --to-destination 192.0.2.2",
            "without the same rule for those of others (PREROUTING)",
        ),
        ("frobnicate", "not understood"),
    ] {
        let said = refusal(&rule(line));
        assert!(said.contains(reason), "{line}\n{said}");
    }
    // What a script undoes, or the shell fills in.
    let script =
        |rest: &str| format!("iptables -t nat -F\niptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE\n{rest}\n");
    for (line, reason) in [
        ("iptables -t nat -D POSTROUTING -o wan0 -j MASQUERADE", "takes a rule away again"),
        ("iptables -t nat -F", "takes rules before it away"),
        ("iptables -t nat -A POSTROUTING -o $WAN -j MASQUERADE", "'-o $WAN' has no key"),
    ] {
        let said = refusal(&script(line));
        assert!(said.contains(reason), "{line}\n{said}");
    }
    let late = "-A POSTROUTING -o wan0 -j MASQUERADE\n-A POSTROUTING -m mark --mark 1 -j RETURN";
    assert!(refusal(&rule(late)).contains("asked after line 2"));
    let two =
        "-A POSTROUTING -o wan0 -d 192.0.2.0/24 -j SNAT --to-source 203.0.113.9\n-A POSTROUTING -o wan0 -j MASQUERADE";
    assert!(refusal(&rule(two)).contains("an entry of egress has one snat"));
    let shadowed = "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.0.2.2\n\
                    -A PREROUTING -d 203.0.113.9 -p tcp --dport 80 -j DNAT --to-destination 192.0.2.3";
    assert!(refusal(&rule(shadowed)).contains("line 2 is asked before it"));
}

#[test]
fn what_is_no_set_of_rules_is_an_error_that_says_so() {
    let error = |text: &str| import(text).map(|found| found.text).unwrap_err();
    assert!(matches!(error(" \n"), ImportError::Empty));
    assert!(matches!(error("\u{7f}ELF\0\0"), ImportError::Binary));
    assert!(matches!(error("{\"nftables\": [{\"metainfo\": "), ImportError::Json(_)));
    assert!(matches!(error("{\"a\": 1}"), ImportError::Unknown));
    assert!(matches!(error("[Network]\nDHCP=yes\n"), ImportError::Unknown));
    let conf = "#!/usr/sbin/nft -f\nflush ruleset\ntable ip nat {\n\tchain post {\n\t}\n}\n";
    assert!(matches!(error(conf), ImportError::NftText));
    let listing = "Chain POSTROUTING (policy ACCEPT)\ntarget     prot opt source               destination\n\
                   MASQUERADE  all  --  anywhere             anywhere\n";
    assert!(error(listing).to_string().starts_with("this is what 'iptables -L' prints, "));
    let filter = error("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n").to_string();
    assert_eq!(
        filter,
        "there is no nat rule in it; line 1: table filter is not nat: its rules (1) stay where they are"
    );
    let cut = imported("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o wan0 -j MASQUERADE\n");
    assert!(cut.refused == 1 && cut.text.contains("no COMMIT; is the text cut off?"), "{}", cut.text);
}

#[test]
fn of_a_list_of_kubernetes_only_config_maps_are_read_and_what_is_in_no_text_is_told() {
    let list = "kind: List\nitems:\n- kind: Secret\n  data: {password: cGFzc3dvcmQ=}\n- kind: ConfigMap\n  data:\n    \
                config: |\n      nonMasqueradeCIDRs: [192.0.2.0/24]\n";
    let found = imported(list);
    assert_eq!(found.refused, 0, "{}", found.text);
    assert!(!found.text.contains("cGFzc3dvcmQ") && found.text.contains("192.0.2.0/24"), "{}", found.text);
    assert!(found.text.contains("line 3: a Secret is passed over"), "{}", found.text);
    let found = imported("kind: ConfigMap\nbinaryData:\n  config: bWFzcUxpbmtMb2NhbDogdHJ1ZQo=\n");
    assert!(found.refused == 1 && found.text.contains("binaryData"), "{}", found.text);
}

#[test]
fn a_long_list_of_exemptions_is_one_list() {
    let lines: String =
        (0..20_000).map(|n| format!("-A POSTROUTING -d 10.{}.{}.0/25 -j RETURN\n", n >> 8, n & 255)).collect();
    let text = format!("*nat\n{lines}-A POSTROUTING -o wan0 -j MASQUERADE\nCOMMIT\n");
    let found = imported(&text);
    assert_eq!(found.refused, 0);
    assert_eq!(parse(&found.text).policy.exempt.len(Family::V4), 20_000);
}

#[test]
fn a_million_lines_are_read_as_a_few() {
    let mut lines = String::new();
    for n in 0..1_000_000_u32 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 | n);
        lines += &format!("-A POSTROUTING -d {address}/32 -j RETURN\n");
    }
    let found = imported(&format!("*nat\n{lines}-A POSTROUTING -o wan0 -j MASQUERADE\nCOMMIT\n"));
    assert_eq!(found.refused, 0);
    // 1,000,000 is the sum of seven powers of two.
    assert_eq!(parse(&found.text).policy.exempt.len(Family::V4), 7);
}

#[test]
fn sets_chains_and_both_families_are_followed() {
    let text = "\
create private hash:net family inet hashsize 1024 maxelem 65536
add private 10.0.0.0/8
# Generated by iptables-save v1.8.9 (nf_tables) on Sat Nov 21 21:00:00 2026
*nat
:POSTROUTING ACCEPT [0:0]
:mine - [0:0]
[7:420] -A POSTROUTING -o wan0 -m comment --comment \"to the \\\"world\\\"\" -j mine
-A mine -m set --match-set private dst -j RETURN
-A mine -j MASQUERADE --random-fully
COMMIT
# Generated by ip6tables-save v1.8.9 (nf_tables) on Sat Nov 21 21:00:00 2026
*nat
-A POSTROUTING -o wan0 -j MASQUERADE --random-fully
COMMIT
";
    assert_eq!(
        keys(text),
        "enableIPv6: true\noutInterfaces: [wan0]\nnonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLocalSource: true\n\
         masqMulticast: true\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\n"
    );
}

#[test]
fn forwards_of_both_hooks_lists_and_shifted_ranges_are_entries() {
    let text = "\
*nat
-A PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.2:8080
-A PREROUTING -i wan+ -s 203.0.113.0/24 -p udp -m multiport --dports 500,4500 -j DNAT --to-destination 192.168.50.3
-A PREROUTING -d 198.51.100.7 -p tcp --dport 8000:8010 -j DNAT --to-destination 192.168.50.4:9000-9010/8000
-A OUTPUT -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.2:8080
-A POSTROUTING -m conntrack --ctstate DNAT -s 192.168.50.0/24 -j MASQUERADE
COMMIT
";
    assert_eq!(
        keys(text),
        "\
snat: none
portForwards:
  - hostPort: 80
    address: 192.168.50.2
    port: 8080
    hairpin: [192.168.50.0/24]
  - hostPort: 500
    protocol: udp
    address: 192.168.50.3
    inInterfaces: [wan+]
    sourceCIDRs: [203.0.113.0/24]
    hairpin: [192.168.50.0/24]
  - hostPort: 4500
    protocol: udp
    address: 192.168.50.3
    inInterfaces: [wan+]
    sourceCIDRs: [203.0.113.0/24]
    hairpin: [192.168.50.0/24]
  - hostPort: 8000-8010
    hostIP: 198.51.100.7
    address: 192.168.50.4
    port: 9000
    inInterfaces: ['!lo']
    hairpin: [192.168.50.0/24]
"
    );
}

#[test]
fn what_one_nat_chain_of_nft_leaves_alone_the_next_one_translates() {
    let chain = |name: &str, priority: u32| {
        format!(
            r#"{{"chain": {{"family": "ip", "table": "t", "name": "{name}", "type": "nat", "hook": "postrouting", "prio": {priority}}}}}"#
        )
    };
    let rule = |name: &str, statements: &str| {
        format!(r#"{{"rule": {{"family": "ip", "table": "t", "chain": "{name}", "expr": [{statements}]}}}}"#)
    };
    let wan0 = r#"{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "wan0"}}"#;
    let listing = |first: &str, second: &str| {
        format!(
            r#"{{"nftables": [{}, {}, {}, {}]}}"#,
            chain("a", 100),
            chain("b", 105),
            rule("a", &format!("{wan0}, {first}")),
            rule("b", &format!("{wan0}, {second}"))
        )
    };
    let found = refusal(&listing(r#"{"return": null}"#, r#"{"masquerade": null}"#));
    assert!(found.contains("another nat chain is asked after it"), "{found}");
    assert_eq!(imported(&listing(r#"{"masquerade": null}"#, r#"{"return": null}"#)).refused, 0);
}

#[test]
fn a_config_map_becomes_the_file_that_it_holds() {
    let text = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: ip-masq-agent, namespace: kube-system}
data:
  config: |
    nonMasqueradeCIDRs:
      - 10.0.0.0/8
    MasqLinkLocal: true
    resyncInterval: 30s
    other: 1
";
    assert_eq!(
        keys(text),
        "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\nmasqLinkLocal: true\nresyncInterval: 30s\nmasqLocalSource: true\nmasqMulticast: true\n"
    );
    assert!(refusal(text).contains("passes over it"));
    let json = r#"{"kind": "ConfigMap", "data": {"config": "{\"nonMasqueradeCIDRs\": null, \"cidrLimit\": 64}"}}"#;
    assert_eq!(keys(json), "nonMasqueradeCIDRs: []\ncidrLimit: 64\nmasqLocalSource: true\nmasqMulticast: true\n");
    assert!(refusal("nonMasqueradeCIDRs: [10.0.0.1/8]").contains("10.0.0.0/8"));
}

#[test]
fn portmaps_mappings_become_entries() {
    let text = r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "bridge"},
        {"type": "portmap", "snat": true, "conditionsV4": ["-s", "203.0.113.0/24"],
         "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                                            {"hostPort": 0, "containerPort": 80, "protocol": "tcp"}]},
         "prevResult": {"ips": [{"address": "10.88.0.5/16"}]}}]}"#;
    assert_eq!(
        keys(text),
        "snat: none\nportForwards:\n  - hostPort: 8080\n    address: 10.88.0.5\n    port: 80\n    \
         sourceCIDRs: [203.0.113.0/24]\n    localhost: true\n"
    );
    assert!(refusal(text).contains("hostPort is not a port from 1 to 65535"));
    let none = r#"{"plugins": [{"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
    assert!(refusal(none).contains("the container runtime passes them"));
}

#[test]
fn what_portmap_marks_is_a_key_or_refused_with_the_reason() {
    let plugin = |options: &str| {
        format!(
            r#"{{"type": "portmap", "snat": false, {options}, "prevResult": {{"ips": [{{"address": "10.88.0.5/16"}}]}},
                "runtimeConfig": {{"portMappings": [{{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}}]}}}}"#
        )
    };
    let said = |options: &str| keys(&plugin(options)).lines().nth(1).unwrap().to_owned();
    assert_eq!(said(r#""markMasqBit": 31"#), "markMasqBit: 31");
    assert_eq!(said(r#""externalSetMarkChain": "KUBE-MARK-MASQ""#), "externalSetMarkChain: KUBE-MARK-MASQ");
    assert_eq!(said(r#""externalSetMarkChain": """#), "portForwards:");
    for (options, reason) in [
        (r#""markMasqBit": 32"#, "not a bit from 0 to 31"),
        (r#""markMasqBit": -1"#, "not a bit from 0 to 31"),
        (r#""markMasqBit": 5, "externalSetMarkChain": "X""#, "the plugin refuses both"),
        (r#""externalSetMarkChain": "MASQUERADE""#, "not a chain of another program"),
        (r#""externalSetMarkChain": "IP-MASQ-AGENT-2""#, "not a chain of another program"),
    ] {
        assert!(refusal(&plugin(options)).contains(reason), "{options}");
    }
}

#[test]
fn another_address_of_a_hairpin_is_told_as_a_comment() {
    let told = |target: &str| {
        let forward = "-A PREROUTING -i wan0 -p tcp --dport 80 -j DNAT --to-destination 192.168.50.2";
        let hairpin = format!("-A POSTROUTING -s 192.168.50.0/24 -d 192.168.50.2 -j {target}");
        imported(&format!("*nat\n{forward}\n{hairpin}\nCOMMIT\n")).text
    };
    let note = "# line 3 is the hairpin of a port forward: the entry of portForwards does it";
    let other = ", with the address of this host towards the target, where the rule had 203.0.113.1";
    let (masquerade, snat) = (told("MASQUERADE"), told("SNAT --to-source 203.0.113.1"));
    assert!(masquerade.contains(&format!("{note}\n")), "{masquerade}");
    assert!(snat.contains(&format!("{note}{other}\n")), "{snat}");
}

#[test]
fn portmaps_backend_is_told_as_a_comment() {
    let said = |backend: &str| {
        imported(&format!(
            r#"{{"type": "portmap", {backend} "prevResult": {{"ips": [{{"address": "10.88.0.5/16"}}]}},
                "runtimeConfig": {{"portMappings": [{{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}}]}}}}"#
        ))
    };
    let (with, without) = (said(r#""backend": "nftables","#), said(""));
    let note =
        "# The backend of the plugin was \"nftables\"; here 'backend' is of the whole service, and auto by default\n";
    assert_eq!(with.text.replace(note, ""), without.text);
    assert_ne!(with.text, without.text);
    assert_eq!((with.refused, without.refused), (0, 0));
}

/// Rules of POSTROUTING, most of which can be said.
fn rule(family: Family) -> impl Strategy<Value = String> {
    let network = random::address(family).prop_flat_map(move |address| {
        let lengths = if family == Family::V4 { vec![0u8, 8, 16, 24, 32] } else { vec![0, 10, 16, 32, 64, 128] };
        select(lengths)
            .prop_map(move |length| ip_masq_agent::policy::Prefix::containing(address, length).unwrap().to_string())
    });
    let side = move |option: &'static str| {
        let network = network.clone();
        prop_oneof![
            3 => Just(String::new()).boxed(),
            2 => (any::<bool>(), network).prop_map(move |(not, network)| {
                format!(" {}{option} {network}", if not { "! " } else { "" })
            }).boxed(),
        ]
    };
    let out = select(vec!["", "", " -o wan0", " -o wan1", " -o wan+", " ! -o wan0", " ! -o wg0"]);
    let more = select(vec![
        "",
        "",
        "",
        "",
        "",
        " -m mark --mark 0x1",
        " -m mark ! --mark 0x1",
        " -m policy --dir out --pol ipsec",
        " -m policy --dir out --pol none",
        " -p tcp",
    ]);
    let (one, other) = match family {
        Family::V4 => ("203.0.113.9", "203.0.113.10-203.0.113.12"),
        Family::V6 => ("2001:db8::9", "2001:db8::10-2001:db8::12"),
    };
    let target = select(vec![
        "RETURN".to_owned(),
        "ACCEPT".to_owned(),
        "MASQUERADE".to_owned(),
        "MASQUERADE".to_owned(),
        "MASQUERADE --random-fully".to_owned(),
        format!("SNAT --to-source {one}"),
        format!("SNAT --to-source {other} --persistent"),
    ]);
    (side("-s"), side("-d"), out, more, target).prop_map(|(source, destination, out, more, target)| {
        format!("-A POSTROUTING{source}{destination}{out}{more} -j {target}")
    })
}

fn flow(family: Family) -> impl Strategy<Value = Flow> {
    let mark = select(vec![0u32, 0, 0, 1, 2]);
    (random::address(family), random::address(family), select(random::INTERFACES.to_vec()), any::<[bool; 4]>(), mark)
        .prop_map(|(source, destination, out, [local, on_out, ipsec, opens], mark): (IpAddr, IpAddr, &str, _, _)| {
            Flow {
                source: Some(source),
                source_is_local: local || on_out,
                source_on_out_interface: on_out,
                out_interface: Some(out.to_owned()),
                protocol: if opens { Protocol::Tcp } else { Protocol::Udp },
                opens_connection: opens,
                mark,
                ipsec: ipsec && opens,
                ..Flow::forwarded_to(destination)
            }
        })
}

#[test]
fn what_was_taken_treats_every_flow_as_the_rules_did() {
    let (seed, mut runner) = random::runner();
    let cases = select(Family::ALL.to_vec()).prop_flat_map(|family| {
        (Just(family), prop::collection::vec(rule(family), 1..7), prop::collection::vec(flow(family), 40))
    });
    runner
        .run(&cases, |(family, rules, flows)| {
            let program = if family == Family::V4 { "iptables-save" } else { "ip6tables-save" };
            let text = format!("# Generated by {program} v1.8.9\n*nat\n{}\nCOMMIT\n", rules.join("\n"));
            let found = import(&text).map_err(|error| TestCaseError::fail(format!("SEED={seed}: {error}\n{text}")))?;
            let config = parse(&found.text);
            let refused: BTreeSet<usize> = found.text.lines().filter_map(refused_line).collect();
            let taken: Vec<&String> =
                (3..).zip(&rules).filter(|(number, _)| !refused.contains(number)).map(|(_, rule)| rule).collect();
            let taken = format!(":POSTROUTING\n{}", taken.iter().map(|rule| format!("{rule}\n")).collect::<String>());
            let theirs = interpreter::iptables::Rules::read(&taken).unwrap();
            for flow in flows {
                let expected = theirs.verdict(&flow).unwrap();
                let ours: Verdict = config.policy.verdict(&flow).0;
                prop_assert_eq!(ours, expected, "SEED={}: {:?}\n{}\n{}", seed, flow, text, found.text);
            }
            Ok(())
        })
        .unwrap();
}

/// The number of a line that is among the refused ones.
fn refused_line(line: &str) -> Option<usize> {
    line.strip_prefix("# line ")?.split_once(": -A")?.0.parse().ok()
}

/// `N: TEXT` of each line that was refused, and the notes before the configuration.
fn lines_named(text: &str) -> Vec<String> {
    let said = imported(text).text;
    let named = said.lines().filter_map(|line| line.strip_prefix("# line "));
    named.map(str::to_owned).collect()
}

#[test]
fn lines_of_a_config_map_are_those_of_its_file() {
    let literal = "\
apiVersion: v1
kind: Service
---
kind: ConfigMap
data:
  config: |
    nonMasqueradeCIDRs:
      - 10.0.0.1/8
    frobnicate: 1

    masqLinkLocal: 7
";
    assert_eq!(
        lines_named(literal),
        ["2: a Service is passed over", "7: nonMasqueradeCIDRs", "9: frobnicate", "11: masqLinkLocal"]
    );
    let cut = "kind: ConfigMap\ndata:\n  a: |-\n\n    # as it was\n    nonMasqueradeCIDRs: [10.0.0.0/8\n    masqLinkLocal: true\n";
    assert_eq!(lines_named(cut), ["7: masqLinkLocal: true"]);
    let broken = import("kind: ConfigMap\ndata:\n  config: |\n    masqLinkLocal: true\n   bad\n").unwrap_err();
    assert!(matches!(&broken, ImportError::Yaml(5, _)), "{broken}");
    let second = "kind: ConfigMap\ndata: {config: \"\", more: {a: b}}\n---\nkind: ConfigMap\ndata: [\n";
    assert_eq!(lines_named(second), ["2: more", "5: data: ["]);
    // Of these the lines are not lines of the file, but where the text begins is one.
    let json = "{\"kind\": \"ConfigMap\", \"data\":\n{\"config\": \"masqLinkLocal: 7\\nfrobnicate: 1\\n\"}}\n";
    assert_eq!(lines_named(json), ["2: masqLinkLocal", "2: frobnicate"]);
    let folded =
        "kind: ConfigMap\ndata:\n  a: >\n    masqLinkLocal: 7\n\n    frobnicate: 1\n  b: \"bar: 1\\n\\\n    foo: 1\"\n";
    assert_eq!(lines_named(folded), ["3: masqLinkLocal", "3: frobnicate", "7: bar", "7: foo"]);
    assert_eq!(lines_named("# A file.\n---\nnonMasqueradeCIDRs: []\nfrobnicate: 1\n"), ["4: frobnicate"]);
    assert_eq!(
        lines_named("kind: List\nitems:\n- kind: ConfigMap\n  data:\n    config: |\n      frobnicate: 1\n"),
        ["6: frobnicate"]
    );
}

#[test]
fn a_policy_that_does_not_let_pass_is_refused() {
    let rules = "-A POSTROUTING -o wan0 -j MASQUERADE\n";
    let saved = |policies: &str| format!("*nat\n{policies}{rules}COMMIT\n");
    assert!(refusal(&saved(":POSTROUTING DROP [0:0]\n")).contains("what no rule of POSTROUTING takes does not pass"));
    assert!(refusal(&saved(":INPUT DROP [0:0]\n")).contains("the policy DROP has no key"));
    assert_eq!(imported(&saved(":POSTROUTING ACCEPT [0:0]\n:lan - [0:0]\n")).refused, 0);
    let script = |policy: &str| format!("{policy}\niptables -t nat {rules}");
    assert!(refusal(&script("iptables -t nat -P POSTROUTING DROP")).contains("the policy DROP has no key"));
    for other in ["iptables -P FORWARD DROP", "iptables -t nat -P POSTROUTING ACCEPT", "iptables -A INPUT -j DROP"] {
        assert_eq!(imported(&script(other)).refused, 0, "{other}");
    }
    let chain = |policy: &str| {
        format!(
            "{{\"nftables\": [{{\"chain\": {{\"family\": \"ip\", \"table\": \"nat\", \"name\": \"post\", \"type\": \"nat\", \
             \"hook\": \"postrouting\", \"prio\": 100, \"policy\": \"{policy}\"}}}}, {}]}}",
            nft_rule("post", "[{\"masquerade\": null}]")
        )
    };
    assert!(refusal(&chain("drop")).contains("what no rule of the chain takes does not pass"));
    assert_eq!(imported(&chain("accept")).refused, 0);
}

fn nft_rule(chain: &str, expr: &str) -> String {
    format!("{{\"rule\": {{\"family\": \"ip\", \"table\": \"nat\", \"chain\": \"{chain}\", \"expr\": {expr}}}}}")
}

/// A rule of a chain of the hook, as `nft -j list ruleset` prints it, with objects before it.
fn nft(hook: &str, before: &str, expr: &str) -> String {
    format!(
        "{{\"nftables\": [{{\"chain\": {{\"family\": \"ip\", \"table\": \"nat\", \"name\": \"c\", \"type\": \"nat\", \
         \"hook\": \"{hook}\", \"prio\": 100, \"policy\": \"accept\"}}}}, {before}{}]}}",
        nft_rule("c", expr)
    )
}

fn matching(left: &str, op: &str, right: &str) -> String {
    format!("{{\"match\": {{\"op\": \"{op}\", \"left\": {left}, \"right\": {right}}}}}")
}

#[test]
fn a_rule_of_which_a_part_is_not_read_is_refused_whole() {
    let rule = |rest: &str| format!("*nat\n{rest}\nCOMMIT\n");
    for (line, reason) in [
        ("-A POSTROUTING -m mark --mark 0x1/0x1 -m mark --mark 0x2/0x2 -j RETURN", "two conditions on the mark"),
        ("-A POSTROUTING -m connmark --mark 0x4 -j RETURN", "-m connmark has no key"),
        ("-A POSTROUTING -o wan0 -j SNAT --to-source 203.0.113.1 --to-source 203.0.113.2", "more than one address"),
        ("-A POSTROUTING -o wan0 -m policy --dir out --pol none --next -j MASQUERADE", "'--next' has no key"),
        ("-A POSTROUTING -o wan0 -m policy --dir out --pol none --mode tunnel -j MASQUERADE", "'--mode tunnel' has no"),
        ("-A POSTROUTING -o wan0 -j MASQUERADE -j RETURN", "more than one target"),
        ("-A POSTROUTING -s 10.0.0.0/8,fd00::/8 -j MASQUERADE", "'-s 10.0.0.0/8,fd00::/8' has no key"),
        ("-A POSTROUTING -s 10.1.0.0/16 -j CLASSIFY", "'-j CLASSIFY' has no key, nor is there a chain of this name"),
        (
            "-A PREROUTING -p tcp --dport 80:90 -m multiport --dports 85,100 -j DNAT --to-destination 192.0.2.2",
            "two conditions on the port",
        ),
    ] {
        let said = refusal(&rule(line));
        assert!(said.contains(reason), "{line}\n{said}");
    }
    for (members, reason) in [
        ("add x 10.1.0.0/16 nomatch", "has members that are left out (nomatch)"),
        ("add x 10.1.0.0/16 timeout 5", "has members that come and go"),
        ("add x 10.1.0.1,tcp:80", "has members that are no networks"),
        ("create x hash:net timeout 300", "has members that come and go"),
    ] {
        let text = format!(
            "create x hash:net family inet\nadd x 10.0.0.0/8 comment \"lan\"\n{members}\n*nat\n\
             -A POSTROUTING -o wan0 -m set --match-set x src -j MASQUERADE\nCOMMIT\n"
        );
        let said = imported(&text).text;
        assert!(said.contains(&format!("#     the set 'x' {reason}")) && said.contains("snat: none"), "{said}");
    }
    let out = |op, name| matching("{\"meta\": {\"key\": \"oifname\"}}", op, name);
    let mark = |bit| matching(&format!("{{\"&\": [{{\"meta\": {{\"key\": \"mark\"}}}}, {bit}]}}"), "==", bit);
    let port = |range| matching("{\"payload\": {\"protocol\": \"tcp\", \"field\": \"dport\"}}", "==", range);
    let (masquerade, to) = ("{\"masquerade\": null}", "{\"dnat\": {\"addr\": \"192.0.2.2\"}}");
    for (hook, expr, reason) in [
        (
            "postrouting",
            format!("[{}, {}, {masquerade}]", out("==", "\"a\""), out("==", "\"b\"")),
            "outgoing interface",
        ),
        (
            "postrouting",
            format!("[{}, {}, {masquerade}]", out("==", "\"a\""), out("!=", "\"b\"")),
            "outgoing interface",
        ),
        ("postrouting", format!("[{}, {}, {{\"return\": null}}]", mark("1"), mark("2")), "the mark"),
        (
            "prerouting",
            format!("[{}, {}, {to}]", port("{\"range\": [80, 90]}"), port("{\"range\": [85, 99]}")),
            "the port",
        ),
    ] {
        let said = refusal(&nft(hook, "", &expr));
        assert!(said.contains("two conditions on") && said.contains(reason), "{expr}\n{said}");
    }
    let said = refusal(&nft("input", "", "[{\"snat\": {\"addr\": \"192.0.2.2\"}}]"));
    assert_eq!(said, "rules of the hook input have no key");
    // All but both is one list.
    let both = format!("[{}, {}, {masquerade}]", out("!=", "\"lo\""), out("!=", "\"wg0\""));
    assert!(keys(&nft("postrouting", "", &both)).contains("outInterfaces: ['!lo', '!wg0']"));
}

#[test]
fn conditions_of_portmap_of_which_a_part_is_not_read_refuse_the_mapping() {
    let mapping = |conditions: &str| {
        format!(
            "{{\"type\": \"portmap\", \"conditionsV4\": {conditions}, \"prevResult\": {{\"ips\": [{{\"address\": \
             \"10.88.0.5/16\"}}]}}, \"runtimeConfig\": {{\"portMappings\": [{{\"hostPort\": 80, \"containerPort\": 80, \
             \"protocol\": \"tcp\"}}]}}}}"
        )
    };
    assert!(keys(&mapping("[\"-s\", \"192.0.2.0/24\"]")).contains("sourceCIDRs: [192.0.2.0/24]"));
    for (conditions, reason) in [
        ("[7]", "conditionsV4 is not a list of words"),
        ("[\"-m\", \"mark\", \"--mark\", \"0x1\"]", "conditionsV4: marks and IPsec policies have no key"),
        ("[\"--dport\", \"90\"]", "conditionsV4: two conditions on the port"),
        ("[\"-p\", \"udp\"]", "conditionsV4: '-p tcp' has no key"),
        ("[\"ip\", \"saddr\", \"192.0.2.0/24\", \"ip\", \"saddr\", \"192.0.2.0/25\"]", "two conditions on one address"),
        ("[\"iifname\", \"wan0\", \"iifname\", \"wan1\"]", "two conditions on the incoming interface"),
        ("[\"ip\", \"daddr\", \"!=\", \"192.0.2.1\"]", "more than one address of the host"),
        ("[\"ip6\", \"saddr\", \"fd00::/8\"]", "conditionsV4: 'ip6' has no key"),
        ("[\"ip\", \"saddr\", \"fd00::/8\"]", "'fd00::/8' is not a network of IPv4"),
        ("[\"ip\", \"saddr\", \"!=\"]", "'saddr' is compared with nothing"),
        ("[\"ip\", \"ttl\", \"1\"]", "'ttl' has no key"),
        ("[\"tcp\", \"dport\", \"80\"]", "'tcp' has no key"),
    ] {
        let said = refusal(&mapping(conditions));
        assert!(said.contains(reason), "{conditions}\n{said}");
    }
}

#[test]
fn conditions_of_portmap_in_the_words_of_nft_and_names_in_any_case_are_read() {
    let mapping = |conditions: &str| {
        format!(
            "{{\"type\": \"portmap\", \"masqall\": true, \"conditionsv4\": {conditions}, \"prevResult\": {{\"ips\": \
             [{{\"address\": \"10.88.0.5/16\"}}]}}, \"runtimeConfig\": {{\"portMappings\": [{{\"HostPort\": 8080, \
             \"containerport\": 80, \"Protocol\": \"17\"}}]}}}}"
        )
    };
    for (conditions, said) in [
        (r#"["ip", "saddr", "!=", "192.0.2.0/24"]"#, "    excludeSourceCIDRs: [192.0.2.0/24]\n"),
        (
            r#"["iifname", "wan0", "ip", "saddr", "192.0.2.0/24"]"#,
            "    inInterfaces: [wan0]\n    sourceCIDRs: [192.0.2.0/24]\n",
        ),
        (r#"["meta iifname != { \"wan0\", \"wan1\" }"]"#, "    inInterfaces: ['!wan0', '!wan1']\n"),
        (r#"["ip saddr {192.0.2.0/24,198.51.100.9}"]"#, "    sourceCIDRs: [192.0.2.0/24, 198.51.100.9/32]\n"),
        (r#"["ip", "daddr", "==", "198.51.100.7"]"#, "    hostIP: 198.51.100.7\n"),
    ] {
        let keys = keys(&mapping(conditions));
        assert!(
            keys.contains(said) && keys.contains("  - hostPort: 8080\n") && keys.contains("    port: 80\n"),
            "{keys}"
        );
    }
}

#[test]
fn chains_that_nothing_leads_to_are_told_and_those_without_rules_are_no_fault() {
    let saved = "*nat\n:lan - [0:0]\n-A POSTROUTING -s 10.1.0.0/16 -j lan\n-A POSTROUTING -o wan0 -j MASQUERADE\n\
                 -A other -j MASQUERADE\nCOMMIT\n";
    assert_eq!(imported(saved).refused, 0);
    assert_eq!(lines_named(saved), ["5: no rule here leads to the chain other"]);
}

#[test]
fn a_map_of_forwards_is_said_or_refused_for_what_it_is() {
    let dnat = |key: &str, data: &str| {
        format!("[{{\"dnat\": {{\"addr\": {{\"map\": {{\"key\": {key}, \"data\": {data}}}}}}}}}]")
    };
    let port = "{\"payload\": {\"protocol\": \"tcp\", \"field\": \"dport\"}}";
    let map = |to: &str, elements: &str| {
        format!(
            "{{\"map\": {{\"family\": \"ip\", \"name\": \"m\", \"table\": \"nat\", \"type\": \"inet_service\", \"map\": {to}, \
             \"elem\": [{elements}]}}}}, "
        )
    };
    // As nft writes the type of what is looked up until 1.0.6, and later.
    let element = "[{\"elem\": {\"val\": 80, \"comment\": \"web\"}}, {\"concat\": [\"192.0.2.2\", 8080]}]";
    for to in ["\"ipv4_addr . inet_service\"", "[\"ipv4_addr\", \"inet_service\"]"] {
        let said = keys(&nft("prerouting", &map(to, element), &dnat(port, "\"@m\"")));
        assert!(said.contains("  - hostPort: 80\n    address: 192.0.2.2\n    port: 8080\n"), "{said}");
    }
    let addresses = "\"ipv4_addr\"";
    let expiring = "[{\"elem\": {\"val\": 80, \"expires\": 7}}, \"192.0.2.2\"]";
    let added = format!(
        "{}{}, ",
        map(addresses, "[80, \"192.0.2.2\"]"),
        nft_rule("other", "[{\"map\": {\"op\": \"add\", \"elem\": 80, \"data\": \"192.0.2.2\", \"map\": \"@m\"}}]")
    );
    for (before, key, data, reason) in [
        (map(addresses, ""), port, "\"@m\"", "the map is empty"),
        (String::new(), port, "\"@m\"", "the set 'm' is not in this text"),
        (map(addresses, expiring), port, "\"@m\"", "comes and goes"),
        (added, port, "\"@m\"", "come and go"),
        (
            String::new(),
            "{\"numgen\": {\"mode\": \"inc\", \"mod\": 2, \"offset\": 0}}",
            "{\"set\": [[0, \"192.0.2.2\"], [1, \"192.0.2.3\"]]}",
            "has no key",
        ),
    ] {
        let said = refusal(&nft("prerouting", &before, &dnat(key, data)));
        assert!(said.contains(reason), "{said}");
    }
}
