//! The service on hosts that lack something, have too much, or belong to somebody else too.

use crate::lab::{BACKENDS, DEADLINE};
use crate::service::{Host, Service, host};
use ip_masq_agent::agent::Depth;
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, Plan};
use ip_masq_agent::config::{self, Flags, SourceText, TableOwner};
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition, Ruleset};
use ip_masq_agent::service::enforcer::Enforcer;
use ip_masq_agent::sys::child::PATH;
use rustix::process::Signal;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

fn table(host: &Host) -> String {
    host.node.must("nft", &["-a", "list", "table", "inet", "ip-masq-agent"])
}

fn status(host: &Host) -> serde_json::Value {
    serde_json::from_str(&host.command(&["status", "--json"]).stdout).unwrap()
}

/// The lines that tell of a change that somebody else made.
fn blamed(service: &mut Service) -> Vec<String> {
    service.stop();
    service.log.iter().filter(|line| line.contains("changed by") || line.contains("keeps changing")).cloned().collect()
}

#[test]
fn without_any_iptables_auto_takes_nftables_and_says_why() {
    let host = host!("nonMasqueradeCIDRs: [10.0.0.0/8]\nenableIPv6: true\n");
    host.node.hide("iptables* ip6tables* xtables* ebtables* arptables* ipset nft");
    let listing = || host.node.must("/run/real/nft", &["list", "ruleset"]);
    let mut service = host.ready();
    let why = format!("auto: no usable iptables (no program 'iptables' in {PATH})");
    service.wait_for_log(&format!("backend nftables ({why}"));
    let backend = &status(&host)["backend"];
    assert_eq!((backend["name"].as_str(), backend["reason"].as_str()), (Some("nftables"), Some(why.as_str())));
    assert!(listing().contains("table inet ip-masq-agent"), "{}", listing());
    assert_eq!(host.command(&["diff"]).code, Some(0));
    host.configure(&long_list(10_000, None));
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(listing().contains("11.1.0.0/24"));
    service.signal(Signal::KILL);
    service.wait();
    let flushed = host.command(&["flush"]);
    assert_eq!((flushed.code, &*flushed.stdout), (Some(0), "nftables, IPv4: removed table inet ip-masq-agent\n"));
    assert_eq!(listing(), "");
}

/// As on a kernel without nft_compat, or without xt_addrtype: tables can be listed, and none takes our rules.
const LACKS: &str =
    "echo 'iptables-restore: line 5: RULE_APPEND failed (No such file or directory): rule in chain A' >&2
exit 4";

#[test]
fn where_the_kernel_lacks_what_rules_of_iptables_need_auto_takes_nftables_before_it_is_ready() {
    let host = host!("nonMasqueradeCIDRs: [10.0.0.0/8]\n");
    for program in ["iptables-nft-restore", "iptables-legacy-restore"] {
        host.node.replace(program, LACKS);
    }
    let why = "auto: no usable iptables (iptables-";
    let mut service = host.ready();
    service.wait_for_log(&format!("backend nftables ({why}"));
    let backend = &status(&host)["backend"];
    let reason = backend["reason"].as_str().unwrap_or_default();
    assert!(backend["name"] == "nftables" && reason.starts_with(why) && reason.contains("RULE_APPEND"), "{backend}");
    assert_eq!(host.command(&["diff"]).code, Some(0));
    assert_eq!(host.command(&["reload"]).code, Some(0));
    service.stop();
    let once = host.command(&["run", "--once"]);
    assert!(once.code == Some(0) && once.stderr.contains(&format!("backend nftables ({why}")), "{once:?}");
    assert_eq!(host.command(&["flush"]).code, Some(0));
    // Who names a backend gets that one or none.
    host.configure("backend: iptables\n");
    let mut named = host.start();
    assert_eq!(named.wait().code(), Some(1), "{:#?}", named.log);
    assert!(named.log_has("the IPv4 rules can't be installed: iptables-"), "{:#?}", named.log);
}

#[test]
fn rules_of_an_iptables_that_was_uninstalled_are_told_and_go_when_it_is_back() {
    for variant in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {variant}\nonStop: keep\n"));
        host.ready().stop();
        host.node.hide("iptables* ip6tables* xtables* ipset");
        host.configure("resyncInterval: 1s\n");
        let mut service = host.ready();
        let warning = format!(
            "IPv4 rules of an earlier run or of Kubernetes' ip-masq-agent are still in {variant} and act in addition to the configured ones"
        );
        service.wait_for_log(&format!("{warning}: no program"));
        let status = host.command(&["status"]);
        assert!(status.code == Some(1) && status.stdout.contains(&warning), "{status:?}");
        let checked = host.command(&["check", "--host"]);
        assert!(checked.code == Some(1) && checked.stdout.contains(&warning), "{checked:?}");
        host.node.must("umount", &["/usr/sbin"]);
        let removed = format!("IPv4 rules of an earlier run were removed from {variant}");
        service.wait_for_log(&removed);
        assert_eq!(service.log.iter().filter(|line| line.contains(&warning)).count(), 1, "{:#?}", service.log);
        let status = host.command(&["status"]);
        assert!(status.code == Some(0) && !status.stdout.contains(&warning), "{status:?}");
        assert!(!host.command(&["check", "--host"]).stdout.contains(&warning));
    }
}

#[test]
fn rules_of_a_family_that_is_not_enabled_are_named_by_the_check_of_the_host_and_by_diff() {
    for backend in ["iptables-nft", "nftables"] {
        let host = host!(&format!("backend: {backend}\nenableIPv6: true\n"));
        assert_eq!(host.command(&["run", "--once"]).code, Some(0));
        host.configure(&format!("backend: {backend}\n"));
        let warning = format!("IPv6 rules of an earlier run or of Kubernetes' ip-masq-agent are still in {backend} ");
        for command in [&["check", "--host"][..], &["diff"]] {
            let said = host.command(command);
            assert!(said.code == Some(1) && said.stdout.contains(&warning), "{said:?}");
        }
        // Beside a service whose rules they are.
        host.configure(&format!("backend: {backend}\nenableIPv6: true\nconfigWatch: off\n"));
        let _service = host.ready();
        host.configure(&format!("backend: {backend}\n"));
        let told = format!("IPv6 rules of the running service are in {backend}: its own configuration enables IPv6, ");
        for command in [&["check", "--host"][..], &["diff"]] {
            let said = host.command(command);
            let is_told = said.stdout.contains(&told) && !said.stdout.contains("of an earlier run");
            assert!(said.code == Some(1) && is_told, "{said:?}");
        }
    }
}

#[test]
fn flush_without_the_programs_that_it_needs_does_not_call_the_kernel_clean() {
    for variant in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {variant}\n"));
        assert_eq!(host.command(&["run", "--once"]).code, Some(0));
        host.node.hide("iptables* ip6tables* xtables* ipset");
        let flushed = host.command(&["flush"]);
        let said = format!("{variant}, IPv4: no program ");
        assert!(flushed.code == Some(1) && flushed.stderr.starts_with(&said), "{flushed:?}");
        assert_eq!(flushed.stderr.lines().count(), 1, "IPv6 is no concern: {flushed:?}");
        host.node.must("umount", &["/usr/sbin"]);
        assert_eq!(host.command(&["flush"]).code, Some(0));
        assert_eq!(host.command(&["flush"]).stdout, "nothing to remove\n");
    }
}

#[test]
fn with_both_variants_auto_takes_the_one_that_is_called_iptables() {
    let host = host!("");
    let mut service = host.ready();
    let version = host.node.must("iptables", &["--version"]);
    let variant = if version.contains("nf_tables") { "iptables-nft" } else { "iptables-legacy" };
    let why = format!("auto: iptables is installed, variant {variant}");
    service.wait_for_log(&format!("backend {variant} ({why}"));
    assert_eq!(status(&host)["backend"]["reason"].as_str(), Some(why.as_str()));
    assert_eq!(host.node.must("nft", &["list", "tables", "inet"]), "");
}

#[test]
fn nat_rules_in_a_second_variant_are_warned_about() {
    for backend in ["iptables-nft", "nftables", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\n"));
        host.node.must("iptables-legacy", &["-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.99", "-j", "ACCEPT"]);
        // A table without rules acts beside nothing.
        host.node.must("ip6tables-legacy", &["-t", "nat", "-S"]);
        let mut service = host.ready();
        let advised = host.command(&["check", "--host"]);
        let said = advised.stdout + &advised.stderr;
        let status = host.command(&["status"]).stdout;
        service.stop();
        let warning = "iptables-legacy has IPv4 nat rules too";
        let warned = service.log.iter().any(|line| line.contains(warning));
        assert_eq!(warned, backend != "iptables-legacy", "{backend}: {:#?}", service.log);
        assert_eq!(said.contains(warning), warned, "{backend}: {said}");
        assert_eq!(status.contains(warning), warned, "{backend}: {status}");
        assert!(!status.contains("IPv6 nat rules"), "{backend}: {status}");
    }
}

#[test]
fn an_owned_table_is_passed_by_outlives_a_crash_and_is_given_up_by_a_reload() {
    const PERSIST: &str = "backend: nftables\nenableIPv6: true\ntableOwner: persist\n";
    const NEVER: &str = "backend: nftables\nenableIPv6: true\n";
    let host = host!(PERSIST);
    let mut service = host.ready();
    let owned = table(&host);
    host.node.must("nft", &["flush", "ruleset"]);
    assert_eq!(table(&host), owned);
    assert!(blamed_while_killed(&mut service).is_empty(), "{:#?}", service.log);
    let orphan = table(&host);
    assert_eq!(handles(&orphan), handles(&owned), "a crash leaves the rules");
    let mut service = host.ready();
    assert_eq!(table(&host), owned, "the next start adopts them");
    host.node.must("nft", &["flush", "ruleset"]);
    assert_eq!(table(&host), owned);
    for (config, flagged) in [(NEVER, false), (PERSIST, true), (NEVER, false)] {
        host.configure(config);
        assert_eq!(host.command(&["reload"]).code, Some(0));
        assert_eq!(host.node.must("nft", &["list", "tables"]), "table inet ip-masq-agent\n");
        assert_eq!(table(&host).contains("flags owner"), flagged, "{}", table(&host));
        assert_eq!(status(&host)["state"], "ready");
    }
    assert_eq!(blamed(&mut service), Vec::<String>::new());
    assert_eq!(host.node.must("nft", &["list", "ruleset"]), "");
}

fn blamed_while_killed(service: &mut Service) -> Vec<String> {
    service.signal(Signal::KILL);
    service.wait();
    service.log.iter().filter(|line| line.contains("changed by")).cloned().collect()
}

/// What can't stay when something is made anew.
fn handles(listing: &str) -> Vec<&str> {
    listing.lines().filter_map(|line| line.split("# handle ").nth(1)?.split(' ').next()).collect()
}

#[test]
fn a_table_of_our_name_that_is_not_ours_is_refused_and_the_loop_lives() {
    const THEIRS: &str = "flush ruleset\nadd table inet ip-masq-agent\nadd chain inet ip-masq-agent postrouting\n\
        add rule inet ip-masq-agent postrouting counter accept\n";
    let host = host!("backend: nftables\n");
    host.node.nft(THEIRS);
    let theirs = table(&host);
    let mut service = host.start();
    assert_eq!(service.wait().code(), Some(1), "{:#?}", service.log);
    assert!(
        service.log.iter().any(|line| line.contains("table inet ip-masq-agent is not ip-masq-agent's")),
        "{:#?}",
        service.log
    );
    assert_eq!(table(&host), theirs);

    host.node.nft("flush ruleset\n");
    let mut service = host.ready();
    host.node.nft(THEIRS);
    service.wait_for_log("table inet ip-masq-agent is not ip-masq-agent's");
    let degraded = host.command(&["status"]);
    assert!(degraded.code == Some(1) && degraded.stdout.contains("is not ip-masq-agent's"), "{degraded:?}");
    let refused = host.command(&["reload"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is not ip-masq-agent's"), "{refused:?}");
    assert!(table(&host).contains("counter packets 0 bytes 0 accept"), "{}", table(&host));
    host.node.nft("delete table inet ip-masq-agent\n");
    service.wait_for_log("the IPv4 rules are in sync with the configuration again");
    assert_eq!(host.command(&["status"]).code, Some(0));
}

/// The table in the hands of another process: what a kernel says that refuses half of a batch.
#[test]
fn a_batch_that_the_kernel_refuses_leaves_the_old_rules_and_a_live_loop() {
    let host = host!("backend: nftables\nresyncInterval: 1s\n");
    let mut service = host.ready();
    let owner = host.node.enter(|| {
        let mut owner = Nftables::new(TableOwner::Persist).unwrap();
        let ruleset = Ruleset::new(&Policy::default(), Family::V4, JumpPosition::First, &HostFacts::default());
        // The service repairs what it can while its table is replaced.
        let end = Instant::now() + DEADLINE;
        loop {
            let plan: Plan = owner.plan(Family::V4, ruleset.as_ref()).unwrap();
            match owner.commit(plan) {
                Ok(()) => break owner,
                Err(error) => assert!(error.is_transient() && Instant::now() < end, "{error}"),
            }
        }
    });
    service.wait_for_log("the table is owned by another live process; nothing was changed");
    let owned = table(&host);
    let degraded = host.command(&["status"]);
    assert!(degraded.code == Some(1) && degraded.stdout.contains("another live process"), "{degraded:?}");
    host.configure("backend: nftables\nresyncInterval: 1s\nnonMasqueradeCIDRs: [192.0.2.0/24]\n");
    assert_eq!(host.command(&["reload"]).code, Some(1));
    assert_eq!(table(&host), owned);
    drop(owner);
    service.wait_for_log("in force now");
    assert!(table(&host).contains("192.0.2.0/24"), "{}", table(&host));
    assert_eq!(host.command(&["status"]).code, Some(0));
}

#[test]
fn somebody_who_flushes_nftables_all_the_time_does_not_win_against_a_reload() {
    let config = |exempt| format!("backend: nftables\nenableIPv6: true\nnonMasqueradeCIDRs: [{exempt}]\n");
    let host = host!(&config("10.0.0.0/8"));
    let _service = host.ready();
    std::thread::scope(|scope| {
        let meddle = scope.spawn(|| (0..60).for_each(|_| _ = host.node.run("nft", &["flush", "ruleset"])));
        for exempt in ["192.0.2.0/24", "10.0.0.0/8"].iter().cycle() {
            if meddle.is_finished() {
                break;
            }
            host.configure(&config(exempt));
            // It may be refused while the ground moves; what it must not do is die or lie.
            host.command(&["reload"]);
        }
    });
    host.configure(&config("192.0.2.0/24"));
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(table(&host).contains("192.0.2.0/24"), "{}", table(&host));
}

fn long_list(count: u32, without: Option<u32>) -> String {
    let mut list = "nonMasqueradeCIDRs:\n".to_owned();
    for number in (0..count).filter(|number| Some(*number) != without) {
        let network = std::net::Ipv4Addr::from((11 << 24) + (number << 9));
        writeln!(list, "- {network}/24").unwrap();
    }
    list
}

#[test]
fn one_more_among_ten_thousand_is_one_commit_that_nobody_is_blamed_for() {
    for backend in ["nftables", "iptables-nft"] {
        let config = |without| format!("backend: {backend}\n{}", long_list(10_000, without));
        let host = host!(&config(Some(777)));
        let mut service = host.ready();
        for (without, member) in [(None, true), (Some(777), false), (None, true)] {
            assert_eq!(host.command(&["status"]).code, Some(0));
            let before = host.generation();
            host.configure(&config(without));
            assert_eq!(host.command(&["reload"]).code, Some(0));
            assert_eq!(host.generation(), before + 1, "{backend}");
            assert_eq!(members(&host, backend).contains("11.6.18.0/24"), member, "{backend}");
        }
        if backend == "nftables" {
            host.node.must("nft", &["delete", "element", "inet", "ip-masq-agent", "exempt4", "{ 11.6.18.0/24 }"]);
            let line = service.wait_for_log("repaired in");
            assert!(line.contains("changed by nft") && line.contains("set exempt4 lacks 1 element"), "{line}");
            service.log.clear();
            assert!(members(&host, backend).contains("11.6.18.0/24"));
        }
        assert_eq!(blamed(&mut service), Vec::<String>::new(), "{backend}");
    }
}

#[test]
fn a_check_that_comes_before_the_event_of_a_commit_knows_who_made_it_all_the_same() {
    let host = host!("backend: nftables\n");
    let source = SourceText { path: Path::new("config.yaml").into(), text: "backend: nftables\n".into() };
    let config = config::parse(&[source], &Flags::default()).unwrap();
    host.node.enter(|| {
        let mut enforcer = Enforcer::default();
        enforcer.end_by(Instant::now() + DEADLINE);
        enforcer.choose(&config.settings, None).unwrap();
        enforcer.reconcile(Family::V4, &config, &Default::default()).unwrap();
        enforcer.watch(true).unwrap();
        let flushed = std::process::Command::new("nft").args(["flush", "ruleset"]).env("PATH", PATH).status().unwrap();
        assert!(flushed.success());
        let checked = enforcer.check(Depth::Rules, &config);
        let by: Vec<&str> = checked.by.iter().map(|changed_by| &*changed_by.program).collect();
        assert_eq!((checked.moved, by), (true, vec!["nft"]));
        assert!(matches!(enforcer.read_events(), Ok(None)), "and it is told once");
    });
}

/// Else the first look after a start finds rules that need a repair, and says so until it has looked again.
#[test]
fn what_one_family_writes_is_no_news_for_the_other() {
    for backend in BACKENDS {
        let text = format!("backend: {backend}\nenableIPv6: true\n");
        let host = host!(&text);
        let source = SourceText { path: Path::new("config.yaml").into(), text };
        let config = config::parse(&[source], &Flags::default()).unwrap();
        host.node.enter(|| {
            let mut enforcer = Enforcer::default();
            enforcer.end_by(Instant::now() + DEADLINE);
            enforcer.choose(&config.settings, None).unwrap();
            for family in Family::ALL {
                enforcer.reconcile(family, &config, &Default::default()).unwrap();
            }
            let moved = [Depth::Rules, Depth::Contents].map(|depth| enforcer.check(depth, &config).moved);
            assert_eq!(moved, [false, false], "{backend}");
        });
    }
}

fn members(host: &Host, backend: &str) -> String {
    match backend {
        "nftables" => host.node.must("nft", &["list", "set", "inet", "ip-masq-agent", "exempt4"]),
        _ => host.node.must("ipset", &["save"]),
    }
}
