//! Rules that carry our mark where the configuration wants none: of an earlier run, or put back by somebody.

use super::*;

/// Each pair of backends: one runs, a ruleset of the other one is restored.
const PAIRS: [(&str, &str); 6] = [
    ("nftables", "iptables-nft"),
    ("nftables", "iptables-legacy"),
    ("iptables-nft", "nftables"),
    ("iptables-nft", "iptables-legacy"),
    ("iptables-legacy", "nftables"),
    ("iptables-legacy", "iptables-nft"),
];

/// What the listing programs show of ours, all backends together.
fn ours(host: &Host) -> String {
    let mut text = host.node.must("nft", &["list", "ruleset"]);
    for family in ["iptables-legacy", "ip6tables-legacy"] {
        let exists = if family.starts_with("ip6") { "ip6_tables_names" } else { "ip_tables_names" };
        if host.node.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{exists}"))).unwrap().contains("nat") {
            text += &host.node.must(family, &["-t", "nat", "-S"]);
        }
    }
    text
}

/// Saves the rules of a service with this configuration as an administrator would.
fn saved(host: &Host, backend: &str, config: &str) -> Saved {
    host.configure(&format!("backend: {backend}\n{config}"));
    let mut service = host.ready();
    let saved = match backend {
        "nftables" => vec![("nft", "-f -", host.node.must("nft", &["list", "ruleset"]))],
        "iptables-nft" => vec![
            ("iptables-nft-restore", "", host.node.must("iptables-nft-save", &["-t", "nat"])),
            ("ip6tables-nft-restore", "", host.node.must("ip6tables-nft-save", &["-t", "nat"])),
        ],
        _ => vec![
            ("iptables-legacy-restore", "", host.node.must("iptables-legacy-save", &["-t", "nat"])),
            ("ip6tables-legacy-restore", "", host.node.must("ip6tables-legacy-save", &["-t", "nat"])),
        ],
    };
    service.stop();
    Saved(saved)
}

struct Saved(Vec<(&'static str, &'static str, String)>);

impl Saved {
    fn restore(&self, host: &Host) {
        for (program, arguments, text) in &self.0 {
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            let output = host.node.run_with_input(program, &arguments, text);
            assert!(output.status.success(), "{program}: {}", lab::text(&output.stderr));
        }
    }
}

/// Finding A3: with IPv6 off, a ruleset from when it was on came back and stayed.
#[test]
fn ipv6_rules_that_come_back_while_ipv6_is_off_are_removed() {
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let host = host!("");
        let saved = saved(&host, backend, "enableIPv6: true\nonStop: cleanup\n");
        // Nothing tells of a change to the legacy table of a family that is not in use: the resync finds it.
        host.configure(&format!(
            "backend: {backend}\nresyncInterval: {}\n",
            if backend == "iptables-legacy" { "1s" } else { "1h" }
        ));
        let mut service = host.ready();
        let rules = ours(&host);
        saved.restore(&host);
        let line = service.wait_for_log("IPv6 is not enabled; rules ");
        assert!(line.starts_with("<5>"), "{line}");
        host.wait_for(&format!("{backend}: only IPv4 rules"), || {
            without_empty_tables(&ours(&host)) == without_empty_tables(&rules)
        });
        assert_eq!(host.command(&["diff"]).code, Some(0), "{backend}");
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        service.stop();
    }
}

/// What a restored ruleset leaves of tables and built-in chains without rules is nobody's matter.
fn without_empty_tables(listing: &str) -> Vec<String> {
    let ours = |line: &&str| line.contains("ip-masq-agent") || line.contains("IP-MASQ-AGENT");
    listing
        .lines()
        .filter(ours)
        .map(|line| line.split(" counter packets").next().unwrap_or(line).trim().to_owned())
        .collect()
}

/// The exit status of a command to which the service does not answer.
fn without_service(host: &Host, command: &str) -> Option<i32> {
    let mut command = host.prepare(&[command]);
    command.env("RUNTIME_DIRECTORY", "/run/test/nowhere").stdout(Stdio::null());
    host.node.enter(|| command.status()).unwrap().code()
}

/// Finding A4: a ruleset that was saved when another backend was used came back and stayed.
#[test]
fn rules_of_another_backend_that_come_back_are_removed() {
    for (runs, other) in PAIRS {
        let host = host!("");
        let saved = saved(&host, other, GOOD);
        // Nothing tells of a change to a legacy table while another backend runs.
        let interval = if other == "iptables-legacy" || runs == "iptables-legacy" { "1s" } else { "1h" };
        host.configure(&format!("backend: {runs}\nresyncInterval: {interval}\n{OTHER}"));
        let mut service = host.ready();
        let rules = without_empty_tables(&ours(&host));
        service.signal(Signal::STOP);
        saved.restore(&host);
        assert_eq!(without_service(&host, "diff"), Some(1), "{runs}, {other}");
        let mut explain = host.prepare(&["explain", "203.0.113.1"]);
        explain.env("RUNTIME_DIRECTORY", "/run/test/nowhere");
        let said = String::from_utf8(host.node.enter(|| explain.output()).unwrap().stdout).unwrap();
        assert!(said.contains(&format!("are still in {other}")), "{runs}, {other}: {said}");
        assert!(!said.contains("holds exactly these rules"), "{runs}, {other}: {said}");
        service.signal(Signal::CONT);
        service.wait_for_log(&format!("were removed from {other}: "));
        host.wait_for(&format!("{runs}: no rules in {other}"), || without_empty_tables(&ours(&host)) == rules);
        assert_eq!(host.command(&["status"]).code, Some(0), "{runs}, {other}");
        service.signal(Signal::STOP);
        saved.restore(&host);
        service.signal(Signal::TERM);
        service.signal(Signal::CONT);
        service.wait();
        assert_eq!(without_empty_tables(&ours(&host)), Vec::<String>::new());
    }
}

/// While `fastPath` is off nobody asked whether its table is there: flows of open connections went past the rules for
/// what is forwarded.
#[test]
fn a_table_of_the_fast_path_that_comes_back_while_none_is_wanted_is_removed() {
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\nresyncInterval: 1h\n"));
        let mut service = host.ready();
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        let rules = without_empty_tables(&ours(&host));
        for _ in 0..2 {
            let restored = "table inet ip-masq-agent-fastpath {\n comment \"managed by ip-masq-agent\"\n \
                            chain forward {\n type filter hook forward priority filter\n }\n}\n";
            load(&host, restored);
            let line = service.wait_for_log("repaired in");
            assert!(line.ends_with(": table inet ip-masq-agent-fastpath is not wanted"), "{backend}: {line}");
            host.wait_for(&format!("{backend}: no fast path"), || without_empty_tables(&ours(&host)) == rules);
            assert_eq!(host.command(&["diff"]).code, Some(0), "{backend}");
        }
        service.stop();
    }
}

fn load(host: &Host, ruleset: &str) {
    host.node.nft(ruleset);
}

/// What stood in for our table of nftables, with the rules of both families, was nobody's while an iptables backend ran.
#[test]
fn a_table_that_stood_in_for_ours_is_removed_by_a_service_on_iptables() {
    for backend in ["iptables-nft", "iptables-legacy"] {
        let host = host!("backend: nftables\nenableIPv6: true\n");
        let mut service = host.ready();
        let table = host.node.must("nft", &["list", "table", "inet", "ip-masq-agent"]);
        let stand_in = table.replacen("table inet ip-masq-agent {", "table inet ip-masq-agent-standin {", 1);
        service.stop();
        load(&host, &stand_in);
        assert_eq!(ours(&host), stand_in);
        let is_there = || ours(&host).contains("ip-masq-agent-standin");

        // Left by an earlier run.
        host.configure(&format!("backend: {backend}\nresyncInterval: 1s\n"));
        let mut service = host.ready();
        service.wait_for_log("IPv6 rules of an earlier run were removed from nftables: ");
        host.wait_for(&format!("{backend}: none from before"), || !is_there());
        // Restored while it runs.
        let rules = without_empty_tables(&ours(&host));
        load(&host, &stand_in);
        let line = service.wait_for_log("were removed from nftables: ");
        assert!(line.ends_with(": table inet ip-masq-agent-standin"), "{backend}: {line}");
        host.wait_for(&format!("{backend}: none that was restored"), || !is_there());
        assert_eq!(without_empty_tables(&ours(&host)), rules, "{backend}");
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        // Restored right before it stops.
        service.signal(Signal::STOP);
        load(&host, &stand_in);
        service.signal(Signal::TERM);
        service.signal(Signal::CONT);
        service.wait();
        assert_eq!(without_empty_tables(&ours(&host)), Vec::<String>::new(), "{backend}");

        // Of another program, by its comment.
        let theirs = stand_in.replacen("managed by ip-masq-agent", "theirs", 1);
        load(&host, &theirs);
        let mut service = host.ready();
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        assert_eq!(service.stop().code(), Some(0), "{backend}");
        assert!(is_there(), "{backend}");
    }
}

/// Those of an earlier run act, whoever took the program away that would remove them.
#[test]
fn ipv6_rules_of_an_earlier_run_that_cannot_be_removed_are_told_until_they_are() {
    for backend in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\nenableIPv6: true\n"));
        let mut service = host.ready();
        service.signal(Signal::KILL);
        service.wait();
        let restore = format!("ip6t{}-restore", &backend[3..]);
        host.node.hide(&restore);
        host.configure(&format!("backend: {backend}\nresyncInterval: 1s\n"));
        let mut service = host.ready();
        let why = format!("IPv6 rules of an earlier run or of Kubernetes' ip-masq-agent are still in {backend} ");
        assert!(service.wait_for_log(&why).contains(&restore), "{backend}");
        let status = host.command(&["status"]);
        assert!(status.code == Some(1) && status.stdout.starts_with(&format!("degraded: {why}")), "{status:?}");
        host.node.give_back(&restore);
        service.wait_for_log("IPv6 is not enabled; rules of an earlier run were removed");
        host.wait_for("ready again", || host.command(&["status"]).code == Some(0));

        host.configure(&format!("backend: {backend}\nenableIPv6: true\n"));
        assert_eq!(host.command(&["reload"]).code, Some(0));
        host.node.hide(&restore);
        host.configure(&format!("backend: {backend}\n"));
        let reload = host.command(&["reload"]);
        let why = "the IPv6 rules are not in sync with the configuration: ";
        assert!(reload.code == Some(1) && reload.stderr.contains(why), "{backend}: {reload:?}");
        assert_eq!(host.command(&["status"]).code, Some(1), "{backend}");
        assert_eq!(service.stop().code(), Some(1), "{backend}: {:#?}", service.log);
        assert!(
            service.log.iter().any(|line| line.ends_with("stopped; the rules are not all removed")),
            "{:#?}",
            service.log
        );
        host.node.give_back(&restore);
        assert_eq!(host.command(&["flush"]).code, Some(0));
    }
}

#[test]
fn a_host_without_programs_and_rules_for_ipv6_hears_nothing_of_that() {
    for backend in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\n"));
        host.node.hide("ip6tables*");
        let mut service = host.ready();
        host.configure(&format!("backend: {backend}\n{OTHER}"));
        assert_eq!(host.command(&["reload"]).code, Some(0), "{backend}");
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        assert_eq!(service.stop().code(), Some(0), "{backend}: {:#?}", service.log);
        assert!(service.log.iter().any(|line| line.ends_with("stopped; the rules are removed")), "{:#?}", service.log);
        assert!(!service.log.iter().any(|line| line.contains("IPv6")), "{:#?}", service.log);
    }
}

#[test]
fn ipv6_rules_in_iptables_that_is_not_there_any_more_are_told_by_a_service_on_nftables() {
    let host = host!("backend: iptables-nft\nenableIPv6: true\n");
    let mut service = host.ready();
    service.signal(Signal::KILL);
    service.wait();
    host.node.must("iptables-nft", &["-t", "nat", "-F"]);
    host.node.must("iptables-nft", &["-t", "nat", "-X"]);
    host.node.hide("iptables* ip6tables* xtables*");
    host.configure("");
    let mut service = host.ready();
    service.wait_for_log("IPv6 rules of an earlier run or of Kubernetes' ip-masq-agent are still in iptables-nft ");
    assert!(service.log_has("backend nftables (auto: "), "{:#?}", service.log);
    assert_eq!(host.command(&["status"]).code, Some(1));
    assert_eq!(service.stop().code(), Some(1), "{:#?}", service.log);
    assert!(
        service.log.iter().any(|line| line.ends_with("stopped; the rules are not all removed")),
        "{:#?}",
        service.log
    );
}
