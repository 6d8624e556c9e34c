//! What becomes of good, bad and missing configurations.

use super::*;

#[test]
fn a_hangup_with_a_good_file_reloads_and_with_a_bad_one_changes_nothing() {
    let host = host!(GOOD);
    let mut service = host.ready();
    host.configure(OTHER);
    service.signal(Signal::HUP);
    let reload = service.wait_for("READY=1");
    let usec = reload[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(usec.parse::<u64>().unwrap() > 0, "{reload:?}");
    let rules = host.rules();
    assert!(rules.contains("-d 192.168.0.0/16") && !rules.contains("-d 10.0.0.0/8"), "{rules}");

    let generation = host.generation();
    host.configure(BAD);
    service.signal(Signal::HUP);
    let reload = service.wait_for("READY=1").join("\n");
    assert!(reload.starts_with("RELOADING=1") || reload.starts_with("STATUS=degraded"), "{reload}");
    assert!(reload.contains(&format!("STATUS=degraded: {CONFIG}:1:22: nonMasqueradeCIDRs")), "{reload}");
    assert_eq!((host.rules(), host.generation()), (rules, generation));
    assert_eq!(host.command(&["status"]).code, Some(1));
}

#[test]
fn the_reload_command_fails_with_what_the_service_found() {
    let host = host!(GOOD);
    let reload = || host.command(&["reload"]);
    assert_eq!(reload().code, Some(3), "nobody is there");
    let mut service = host.ready();
    host.configure(OTHER);
    let applied = reload();
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(host.rules().contains("-d 192.168.0.0/16"));

    host.configure(BAD);
    let bad = reload();
    assert_eq!(bad.code, Some(78), "{bad:?}");
    assert!(bad.stderr.starts_with(&format!("{CONFIG}:1:22: nonMasqueradeCIDRs: ")), "{bad:?}");

    host.node.must("iptables-nft", &["-t", "nat", "-N", "SOMEBODY"]);
    host.node.must("iptables-nft", &["-t", "nat", "-A", "SOMEBODY", "-d", "192.0.2.1", "-j", "ACCEPT"]);
    let before = host.rules();
    host.configure(&format!("{OTHER}masqChain: SOMEBODY\n"));
    let refused = reload();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("SOMEBODY"), "{refused:?}");
    assert_eq!(host.rules(), before);
    service.wait_for_log("the last good configuration stays");
}

#[test]
fn a_reload_names_what_is_wrong_in_every_file_although_one_can_not_be_read_and_changes_nothing() {
    let host = host!(GOOD);
    let fragments = "/run/test/config.d";
    host.node.enter(|| fs::create_dir(fragments)).unwrap();
    let mut service = host.start_as(host.prepare(&["run", "--config-dir", fragments]));
    service.wait_for("READY=1");
    let before = host.rules();
    let (fifo, further) = (format!("{fragments}/10.yaml"), format!("{fragments}/20.yaml"));
    host.node.enter(|| {
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        fs::write(&further, "onStop: x\n").unwrap();
    });
    host.configure(BAD);
    let bad = host.command(&["reload"]);
    assert_eq!(bad.code, Some(78), "{bad:?}");
    let places = [format!("{CONFIG}:1:22: "), format!("{fifo}: is a FIFO"), format!("{further}:1:9: onStop: ")];
    let found = places.map(|place| bad.stderr.find(&place));
    assert!(found.is_sorted() && found[0].is_some(), "{bad:?}");
    assert_eq!(host.rules(), before);
}

#[test]
fn a_bad_file_without_a_last_good_one_is_exit_78_and_touches_nothing() {
    let host = host!(BAD);
    let before = host.rules();
    let mut service = host.start();
    assert_eq!(service.wait().code(), Some(78), "{:?}", service.log);
    assert!(service.log.iter().any(|line| line.contains("config.yaml:1:22")), "{:?}", service.log);
    assert!(!service.unread().iter().any(|notification| notification == "READY=1"));
    assert_eq!(host.rules(), before);
}

#[test]
fn a_bad_file_at_the_start_falls_back_to_the_last_good_one_and_is_healed_by_an_edit() {
    let host = host!(GOOD);
    host.ready().stop();
    assert!(!host.rules().contains("IP-MASQ-AGENT"));
    host.configure(BAD);
    let mut service = host.start();
    let notifications = service.wait_for("READY=1").join("\n");
    assert!(notifications.contains("STATUS=degraded: "), "{notifications}");
    assert!(host.rules().contains("-d 10.0.0.0/8"));
    host.node.must("iptables-nft", &["-t", "nat", "-F"]);
    service.wait_for_log("repaired in");
    host.configure(OTHER);
    service.wait_for_log("valid again");
    service.wait_for("STATUS=masquerading");
    assert!(host.rules().contains("-d 192.168.0.0/16"));
}

#[test]
fn a_vanished_file_leaves_the_last_good_policy_in_force() {
    let host = host!(GOOD);
    let mut service = host.ready();
    host.node.enter(|| fs::remove_file(CONFIG)).unwrap();
    service.wait_for("STATUS=degraded");
    assert!(host.rules().contains("-d 10.0.0.0/8"));
    let reload = host.command(&["reload"]);
    assert_eq!(reload.code, Some(78), "{reload:?}");
    host.configure(GOOD);
    service.wait_for("STATUS=masquerading");
}

#[test]
fn an_edit_is_noticed_and_writing_the_same_again_is_not_one() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let generation = host.generation();
    host.configure(GOOD);
    host.configure("# the same, said differently\nnonMasqueradeCIDRs:\n  - 10.0.0.0/8\n");
    service.wait_for_log("configuration 2 is in the kernel");
    assert_eq!(host.generation(), generation, "the kernel has nothing to write");
    host.configure(OTHER);
    service.wait_for_log("configuration 3 is in the kernel");
    assert!(host.rules().contains("-d 192.168.0.0/16"));
}

#[test]
fn without_any_file_the_defaults_are_enforced() {
    let host = host!(GOOD);
    if fs::exists("/etc/ip-masq-agent").unwrap() {
        host.node.must("mount", &["-t", "tmpfs", "tmpfs", "/etc/ip-masq-agent"]);
    }
    let mut command = Command::new(service::BINARY);
    environment(&mut command);
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    service.wait_for_log("there is no configuration file");
    assert!(host.rules().contains("-d 172.16.0.0/12"));
}

#[test]
fn a_wrong_flag_is_exit_78_even_with_a_last_good_configuration() {
    let host = host!(GOOD);
    host.ready().stop();
    let mut service = host.start_as(host.prepare(&["run", "--masq-chain", "POSTROUTING"]));
    assert_eq!(service.wait().code(), Some(78), "{:?}", service.log);
    assert!(!service.log_has("in force") && !service.log_has("not usable either:"), "{:#?}", service.log);
    let mut service = host.start_as(host.prepare(&["run", "--no-such-flag"]));
    assert_eq!(service.wait().code(), Some(2), "{:?}", service.log);
}

#[test]
fn another_chain_name_replaces_the_chain_and_another_backend_waits_for_a_restart() {
    let host = host!(GOOD);
    let mut service = host.ready();
    host.configure(&format!("{GOOD}masqChain: OURS\n"));
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(host.rules().contains("-N OURS") && !host.rules().contains("IP-MASQ-AGENT"), "{}", host.rules());
    host.configure(&format!("{GOOD}masqChain: OURS\nbackend: nftables\n"));
    assert_eq!(host.command(&["reload"]).code, Some(0));
    service.wait_for_log("takes effect at the next restart");
    assert!(host.rules().contains("-N OURS"), "{}", host.rules());
    assert_eq!(service.stop().code(), Some(0));
    assert!(!host.rules().contains("OURS"));
}

#[test]
fn a_public_network_behind_a_gateway_without_a_scope_is_warned_about_everywhere() {
    let host = host!("resyncInterval: 1s\n");
    host.node.ip("link add wan0 type veth peer name wan-peer\n\
                  link add dmz0 type veth peer name dmz-peer\n\
                  addr add 198.51.100.2/24 dev wan0\naddr add 203.0.113.1/28 dev dmz0\n\
                  link set wan0 up\nlink set wan-peer up\nlink set dmz0 up\nlink set dmz-peer up\n\
                  route add default via 198.51.100.1\n");
    host.node.sysctl("net/ipv4/ip_forward", "1");
    let mut service = host.ready();
    let warning = "'dmz0' has the public network 203.0.113.0/28 and no scope is set";
    assert!(service.wait_for_log(warning).contains("outInterfaces"));
    let status = host.command(&["status"]);
    assert!(status.code == Some(0) && status.stdout.contains(&format!("warning: {warning}")), "{status:?}");
    let check = host.command(&["check", "--host"]);
    assert!(check.code == Some(1) && check.stdout.contains(warning), "{check:?}");

    host.configure("resyncInterval: 1s\noutInterfaces: [wan0]\n");
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(!host.command(&["status"]).stdout.contains("warning"));

    // An address that comes later, as all of them do at boot, is noticed at a resync.
    host.configure("resyncInterval: 1s\nnonMasqueradeCIDRs: [203.0.113.0/28]\n");
    assert_eq!(host.command(&["reload"]).code, Some(0));
    host.node.ip("addr add 203.0.113.129/28 dev dmz0\n");
    service.wait_for_log("'dmz0' has the public network 203.0.113.128/28");
}

/// It took a hundred times its size once: a service that memory is short for aborted, at every start again.
#[test]
fn a_hostile_file_at_the_start_leaves_the_last_good_configuration_in_force() {
    let host = host!(GOOD);
    host.ready().stop();
    assert!(!host.rules().contains("IP-MASQ-AGENT"));
    host.configure(&format!("[{}a]", "a: b, ".repeat(700_000)));
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -c 0; ulimit -v 262144; exec \"$0\" run --config \"$1\"", service::BINARY, CONFIG]);
    environment(&mut limited);
    let mut service = host.start_as(limited);
    let notifications = service.wait_for("READY=1").join("\n");
    assert!(notifications.contains(&format!("STATUS=degraded: {CONFIG}:1:")), "{notifications}");
    assert!(notifications.contains("more than 200000 keys, maps and lists"), "{notifications}");
    assert!(host.rules().contains("-d 10.0.0.0/8"));
}

#[test]
fn a_link_through_a_directory_of_somebody_else_is_refused_and_no_line_behind_it_is_said() {
    if !rustix::process::geteuid().is_root() {
        return lab::skip("giving a directory away needs root");
    }
    let host = host!(GOOD);
    let mut service = host.ready();
    host.node
        .enter(|| -> std::io::Result<()> {
            fs::create_dir("/run/test/stranger")?;
            // An own key in it: otherwise no line would be shown in any case.
            fs::write("/run/test/secret", "onStop: secret\nbackend: secret\n")?;
            std::os::unix::fs::symlink("/run/test/secret", "/run/test/stranger/config.yaml")?;
            std::os::unix::fs::chown("/run/test/stranger", Some(65534), None)?;
            fs::remove_file(CONFIG)?;
            std::os::unix::fs::symlink("/run/test/stranger/config.yaml", CONFIG)
        })
        .unwrap();
    let reload = host.command(&["reload"]);
    assert_eq!(reload.code, Some(78), "{reload:?}");
    assert!(
        reload.stderr.contains("/run/test/stranger: the directory belongs to user 65534, not to root"),
        "{reload:?}"
    );
    service.wait_for("STATUS=degraded");
    let status = host.command(&["status"]);
    assert!(host.rules().contains("-d 10.0.0.0/8"));
    service.stop();
    let said = format!("{reload:?} {status:?} {:?}", service.log);
    assert!(said.contains("belongs to user 65534") && !said.contains("secret"), "{said}");
}

#[test]
fn a_chain_that_marks_has_to_be_there_before_anything_is_written() {
    const FORWARD: &str =
        "backend: iptables-nft\nportForwards: [{hostPort: 8080, address: 192.168.77.2, hairpin: always}]\n";
    const WRONG: &str = "config.yaml:3:23: externalSetMarkChain: no chain 'SET-MARK' in the IPv4 nat table";
    let host = host!(FORWARD);
    let mut service = host.ready();
    let rules = host.rules();
    host.configure(&format!("{FORWARD}externalSetMarkChain: SET-MARK\nconfigWatch: off\n"));
    let refused = host.command(&["reload"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(WRONG), "{refused:?}");
    assert_eq!(host.rules(), rules, "nothing is half applied");
    service.wait_for_log("the last good configuration stays");
    let check = host.command(&["check", "--host"]);
    assert!(check.code == Some(1) && check.stdout.contains(WRONG), "{check:?}");

    host.node.must("iptables-nft", &["-t", "nat", "-N", "SET-MARK"]);
    let applied = host.command(&["reload"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(host.rules().contains("-j SET-MARK"), "{}", host.rules());
    assert!(!host.command(&["check", "--host"]).stdout.contains("SET-MARK"));

    // Another program takes all of the table away.
    let flushed = host.node.run_with_input("iptables-nft-restore", &[], "*nat\nCOMMIT\n");
    assert!(flushed.status.success(), "{flushed:?}");
    service.wait_for_log(WRONG);
    assert!(!host.rules().contains("IP-MASQ-AGENT"), "{}", host.rules());
    host.node.must("iptables-nft", &["-t", "nat", "-N", "SET-MARK"]);
    let applied = host.command(&["reload"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(host.rules().contains("-j SET-MARK"), "{}", host.rules());
}

/// A command to which nobody says where the configuration lies.
fn without_a_file(host: &Host, arguments: &[&str]) -> service::Finished {
    let mut command = Command::new(service::BINARY);
    command.args(arguments);
    environment(&mut command);
    host.node.enter(|| command.output()).unwrap().into()
}

#[test]
fn who_names_no_file_asks_about_those_that_the_service_reads_and_about_its_options() {
    let host = host!(GOOD);
    let mut service = host.start_as(host.prepare(&["run", "--masq-multicast"]));
    service.wait_for("READY=1");
    let told = format!(
        "the service runs with --config={CONFIG} --masq-multicast=true, and so does this; --config names another file\n"
    );
    for command in [&["check"][..], &["diff"], &["render"], &["explain", "10.1.2.3"]] {
        let asked = without_a_file(&host, command);
        assert!(asked.code == Some(0) && asked.stderr.starts_with(&told), "{command:?}: {asked:?}");
        let named = host.command(command);
        assert!(!named.stderr.contains("the service runs with"), "{command:?}: {named:?}");
    }
    let explained = without_a_file(&host, &["explain", "10.1.2.3"]).stdout;
    assert!(explained.contains(&format!("  by       10.0.0.0/8, {CONFIG}:1:22\n")), "{explained}");
    assert!(explained.contains("  kernel   holds exactly these rules "), "{explained}");
    let other = without_a_file(&host, &["diff", "--masq-multicast=false"]);
    assert_eq!(other.code, Some(1), "what is said here counts more: {other:?}");
    let offline = without_a_file(&host, &["explain", "10.1.2.3", "--offline"]);
    assert!(offline.stdout.contains("built-in default") && offline.stderr.is_empty(), "{offline:?}");
    if let Some(nobody) = clients::as_nobody(&host, &["check"]) {
        assert_eq!((nobody.code, &*nobody.stderr), (Some(0), &*told));
    }
    host.configure(BAD);
    assert_eq!(without_a_file(&host, &["check"]).code, Some(78));
    service.stop();
    let alone = without_a_file(&host, &["check"]);
    assert_eq!((alone.code, &*alone.stderr), (Some(0), ""));
}
