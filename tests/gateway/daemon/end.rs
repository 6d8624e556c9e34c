//! The last that systemd hears: why the service ended, and what became of the rules.

use super::*;
use service::Service;

/// The last STATUS= of a service that ended.
fn last_status(service: &mut Service, code: i32) -> String {
    assert_eq!(service.wait().code(), Some(code), "{:?}", service.log);
    let unread = service.unread();
    let last = unread.iter().rev().find_map(|notification| notification.strip_prefix("STATUS="));
    last.unwrap_or_else(|| panic!("no status: {unread:?}")).to_owned()
}

#[test]
fn a_start_that_fails_leaves_its_reason_in_the_status() {
    let host = host!(BAD);
    let wrong = format!("{CONFIG}:1:22: nonMasqueradeCIDRs: '10.0.0.0/33': prefix length '33' is not between 0 and 32");
    assert_eq!(
        last_status(&mut host.start(), 78),
        format!("failed: {wrong}; there is no last good configuration to fall back on")
    );
    host.node.enter(|| fs::write(format!("{STATE}/last-good"), "")).unwrap();
    assert_eq!(
        last_status(&mut host.start(), 78),
        format!("failed: {wrong}; the last good configuration can't be used either: {STATE}/last-good: is empty")
    );
    host.configure(GOOD);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.args([service::BINARY, "run", "--config", CONFIG]);
    environment(&mut command);
    let status = last_status(&mut host.start_as(command), 1);
    assert!(status.starts_with("failed: the IPv4 rules can't be installed: "), "{status}");

    let first = host.ready();
    let taken = format!("failed: the service is running already, as process {}", first.child.id());
    assert_eq!(last_status(&mut host.start(), 1), taken);
}

#[test]
fn a_file_that_is_not_there_or_not_to_be_trusted_leaves_that_in_the_status_too() {
    let host = host!(GOOD);
    let nothing = "there is no last good configuration to fall back on";
    host.node.must("chmod", &["0666", CONFIG]);
    let status = last_status(&mut host.start(), 78);
    assert!(status.starts_with(&format!("failed: {CONFIG}: can be written by ")), "{status}");
    assert!(status.ends_with(&format!("; {nothing}")), "{status}");
    host.node.enter(|| fs::remove_file(CONFIG)).unwrap();
    let status = last_status(&mut host.start(), 78);
    assert!(status.starts_with(&format!("failed: {CONFIG}: can't be opened: No such file")), "{status}");
    host.node.enter(|| fs::create_dir(CONFIG)).unwrap();
    let directory = format!("failed: {CONFIG}: is a directory, not a regular file; {nothing}");
    assert_eq!(last_status(&mut host.start(), 78), directory);

    const MAIN: &str = "/etc/ip-masq-agent/config.yaml";
    host.node.must("mkdir", &["/run/upper", "/run/work"]);
    let layers = "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work";
    host.node.must("mount", &["-t", "overlay", "overlay", "-o", layers, "/etc"]);
    host.node.enter(|| fs::create_dir_all("/etc/ip-masq-agent").and_then(|()| fs::write(MAIN, GOOD))).unwrap();
    let run = |flags: &[&str]| {
        let mut command = Command::new(service::BINARY);
        command.arg("run").args(flags);
        environment(&mut command);
        host.start_as(command)
    };
    let mut service = run(&[]);
    service.wait_for("READY=1");
    service.stop();
    host.node.enter(|| fs::remove_file(MAIN)).unwrap();
    // With this flag what was saved can't be in force either.
    let gone = format!("failed: configuration file '{MAIN}' is gone; the last good configuration is not usable either");
    assert_eq!(last_status(&mut run(&["--cidr-limit", "0"]), 78), gone);
}

#[test]
fn a_stop_beside_another_programs_table_of_our_name_leaves_nothing_of_ours_and_is_no_failure() {
    let host = host!("backend: nftables\n");
    let mut service = host.ready();
    host.node.must("nft", &["delete table inet ip-masq-agent; table inet ip-masq-agent { chain c { counter; }; }"]);
    service.wait_for("STATUS=degraded: ");
    service.signal(Signal::TERM);
    assert_eq!(last_status(&mut service, 0), "stopped; the rules are removed");
    assert!(host.node.must("nft", &["list", "table", "inet", "ip-masq-agent"]).contains("chain c"));
}

#[test]
fn a_stop_says_which_sets_and_chains_stay() {
    let list: String = (0..100).map(|number| format!("  - 10.{number}.0.0/24\n")).collect();
    let host = host!(&format!("backend: iptables-nft\nnonMasqueradeCIDRs:\n{list}"));
    let mut service = host.ready();
    let set = host.node.must("ipset", &["-n", "list"]).trim().to_owned();
    host.node.hide("ipset");
    service.signal(Signal::TERM);
    let stays = format!("set '{set}' stays: no program 'ipset' to remove it");
    assert_eq!(last_status(&mut service, 0), format!("stopped; the rules are removed, but: {stays}"));
    assert!(service.log_has(&format!("<4>{stays}")), "{:#?}", service.log);

    let host = host!("backend: iptables-nft\n");
    let mut service = host.ready();
    host.node.must("iptables-nft", &["-t", "nat", "-A", "POSTROUTING", "-s", "198.51.100.1", "-j", "IP-MASQ-AGENT"]);
    service.signal(Signal::TERM);
    let status = last_status(&mut service, 0);
    let stays = "stopped; the rules are removed, but: chain 'IP-MASQ-AGENT' of an agent stays, without rules: ";
    assert!(status.starts_with(stays), "{status}");
}

#[test]
fn a_stop_leaves_in_the_status_what_became_of_the_rules() {
    for (on_stop, said) in
        [("cleanup", "stopped; the rules are removed"), ("keep", "stopped; the rules stay: onStop is 'keep'")]
    {
        let host = host!(&format!("{GOOD}onStop: {on_stop}\n"));
        let mut service = host.ready();
        service.signal(Signal::TERM);
        assert_eq!(last_status(&mut service, 0), said);
    }
}

#[test]
fn a_set_that_rules_of_ours_in_another_backend_needed_goes_with_them_and_nothing_is_said_to_stay() {
    let list: String = (0..100).map(|number| format!("  - 10.{number}.0.0/24\n")).collect();
    let config = |backend: &str| format!("backend: {backend}\nnonMasqueradeCIDRs:\n{list}");
    let host = host!(&config("iptables-legacy"));
    let mut service = host.ready();
    let legacy = host.node.must("iptables-legacy-save", &["-t", "nat"]);
    service.stop();
    host.configure(&config("iptables-nft"));
    let mut service = host.ready();
    service.signal(Signal::STOP);
    assert!(host.node.run_with_input("iptables-legacy-restore", &[], &legacy).status.success());
    service.signal(Signal::TERM);
    service.signal(Signal::CONT);
    assert_eq!(last_status(&mut service, 0), "stopped; the rules are removed");
    assert!(!service.log.iter().any(|line| line.contains("stays")), "{:#?}", service.log);
    assert_eq!(host.node.must("ipset", &["-n", "list"]), "");
}
