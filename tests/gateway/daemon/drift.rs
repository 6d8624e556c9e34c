//! Somebody changes the rules.

use super::*;

#[test]
fn a_flushed_table_is_repaired_at_once_and_the_log_names_who_did_it() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let rules = host.rules();
    host.node.must("iptables-nft", &["-t", "nat", "-F"]);
    let line = service.wait_for_log("repaired in");
    assert!(line.starts_with("<5>IPv4 rules changed by iptables"), "{line}");
    assert_eq!(host.rules(), rules);
    let status = host.command(&["status"]);
    assert!(status.stdout.contains("changed by iptables"), "{status:?}");
}

#[test]
fn who_changes_one_family_while_the_other_is_repaired_is_named_for_that_one() {
    let host = host!("backend: iptables-nft\nenableIPv6: true\nresyncInterval: 1h\n");
    let mut service = host.ready();
    assert_eq!(host.command(&["status"]).code, Some(0));
    host.node.replace(
        "iptables-nft-save",
        "[ -e /run/second ] || { : > /run/second; /run/real/ip6tables-nft -w -t nat -F; }; \
         exec /run/real/iptables-nft-save \"$@\"",
    );
    host.node.must("iptables-nft", &["-t", "nat", "-F"]);
    let first = service.wait_for_log("IPv4 rules changed by ");
    assert!(first.contains(" by iptables") && !first.contains("ip6tables"), "{first}");
    let second = service.wait_for_log("IPv6 rules changed by ");
    assert!(second.contains("ip6tables"), "{second}");
}

#[test]
fn a_rule_of_others_in_our_chain_goes_and_is_said_once_with_its_text() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let rules = host.rules();
    let meddle =
        || host.node.must("iptables-nft", &["-t", "nat", "-I", "IP-MASQ-AGENT", "-d", "192.0.2.7", "-j", "ACCEPT"]);
    let words = "chain 'IP-MASQ-AGENT' holds a rule that is not ip-masq-agent's: '-d 192.0.2.7/32 -j ACCEPT'";
    meddle();
    let line = service.wait_for_log(words);
    assert!(line.contains("changed by iptables") && line.contains("repaired in"), "{line}");
    assert_eq!(host.rules(), rules);
    // One that came while nobody looked goes at the start.
    service.signal(Signal::KILL);
    service.wait();
    meddle();
    let mut service = host.ready();
    service.wait_for_log("is in the kernel");
    assert_eq!(service.log.iter().filter(|line| line.contains(words)).count(), 1, "{:#?}", service.log);
    assert_eq!(host.rules(), rules);
}

#[test]
fn polling_notices_as_well_on_both_variants() {
    for backend in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\nruleWatch: poll\n"));
        let mut service = host.ready();
        let rules = host.node.must(backend, &["-t", "nat", "-S"]);
        let begun = Instant::now();
        host.node.must(backend, &["-t", "nat", "-F"]);
        service.wait_for_log("repaired in");
        assert!(begun.elapsed() < Duration::from_secs(3), "{backend}: {:?}", begun.elapsed());
        assert_eq!(host.node.must(backend, &["-t", "nat", "-S"]), rules);
    }
}

#[test]
fn a_fight_is_reported_once_and_the_rules_are_repaired_each_time() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let rules = host.rules();
    let flush = || host.node.must("iptables-nft", &["-t", "nat", "-F", "IP-MASQ-AGENT"]);
    for _ in 0..4 {
        flush();
        service.wait_for_log("repaired in");
    }
    flush();
    let line = service.wait_for_log("keeps changing the IPv4 rules");
    assert!(line.starts_with("<4>"), "{line}");
    for _ in 0..5 {
        flush();
        host.wait_for("the repair", || host.rules() == rules);
    }
    let status = host.command(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("another program keeps changing"), "{status:?}");
    assert!(!status.stdout.lines().next().unwrap().contains("masquerading"), "{status:?}");
    service.stop();
    let said = service.log.iter().filter(|line| line.contains("repaired in") || line.contains("keeps changing"));
    assert_eq!(said.count(), 5, "{:#?}", service.log);
}

/// Finding B3: two commits a second to other tables delayed a repair by a second, and were blamed for it.
#[test]
fn a_program_that_commits_to_its_own_table_delays_no_repair_and_is_not_blamed_for_it() {
    for backend in ["iptables-nft", "nftables"] {
        let host = host!(&format!("backend: {backend}\nresyncInterval: 1h\n"));
        let mut service = host.ready();
        let rules = host.node.must("nft", &["list", "ruleset"]);
        let mut noise = Noise::start(&host, Duration::from_millis(20));
        (0..5).for_each(|_| noise.wait_for_commit());
        host.node.must("nft", &["flush", "ruleset"]);
        let line = service.wait_for_log("repaired in");
        // Who made the first commit after it may be named, too.
        assert!(line.contains(" nft["), "{backend}: {line}");
        drop(noise);
        host.node.run("nft", &["delete", "table", "ip", "mangle"]);
        assert_eq!(host.node.must("nft", &["list", "ruleset"]), rules, "{backend}");
        assert!(line.split(" or ").count() <= 2, "{backend}: {line}");
    }
}

/// What a storm may cost: a repair is not put off for it, and a processor is not kept busy by it.
#[test]
fn in_a_storm_among_thousands_of_chains_the_rules_are_repaired_and_a_processor_is_left_to_others() {
    for backend in ["iptables-nft", "nftables", "iptables-legacy"] {
        let host = host!(&format!("backend: {backend}\nresyncInterval: 1h\n"));
        let chains = noise::foreign_chains(3000);
        host.node.nft(&chains);
        let service = host.ready();
        assert_eq!(host.command(&["status"]).code, Some(0), "{backend}");
        let (program, list, flush): (_, &[_], &[_]) = match backend {
            "nftables" => ("nft", &["list table inet ip-masq-agent"], &["delete table inet ip-masq-agent"]),
            _ => (backend, &["-t", "nat", "-S"], &["-t", "nat", "-F"]),
        };
        let rules = || lab::text(&host.node.run(program, list).stdout);
        let before = rules();
        let mut noise = Noise::start(&host, Duration::ZERO);
        (0..20).for_each(|_| noise.wait_for_commit());
        let (begun, used) = (Instant::now(), processor_time(service.pid()));
        while begun.elapsed() < Duration::from_secs(6) {
            host.node.must(program, flush);
            host.wait_for(&format!("{backend}: the rules are back"), || rules() == before);
            (0..100).for_each(|_| noise.wait_for_commit());
        }
        let share = (processor_time(service.pid()) - used).as_secs_f64() / begun.elapsed().as_secs_f64();
        assert!(share <= 0.15, "{backend}: {share:.3} of a processor");
    }
}

/// The processor time of a process and the children that it waited for: `utime`, `stime`, `cutime` and `cstime` of
/// proc_pid_stat(5).
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit(") ").next().unwrap();
    let ticks: u64 = behind_name.split(' ').skip(11).take(4).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Finding B1 and B2, as an administrator sees it.
#[test]
fn an_edit_is_read_while_another_program_commits_and_other_files_change() {
    let host = host!(GOOD);
    host.node.enter(|| {
        fs::create_dir_all("/run/elsewhere").unwrap();
        fs::rename(CONFIG, "/run/elsewhere/config.yaml").unwrap();
        std::os::unix::fs::symlink("/run/elsewhere/config.yaml", CONFIG).unwrap();
        fs::write("/run/elsewhere/config.yaml", format!("{GOOD}resyncInterval: 1s\n")).unwrap();
    });
    let mut service = host.ready();
    let mut noise = Noise::start(&host, Duration::from_millis(300));
    noise.wait_for_commit();
    host.node.enter(|| fs::write("/run/elsewhere/config.yaml", format!("{OTHER}resyncInterval: 1h\n"))).unwrap();
    service.wait_for_log("configuration 2 ");
    let neighbour = Path::new(CONFIG).with_file_name("neighbour");
    host.node.enter(|| {
        fs::remove_file(CONFIG).unwrap();
        fs::write(CONFIG, GOOD).unwrap();
        let end = Instant::now() + lab::DEADLINE;
        while !service.log_has("configuration 3 ") {
            assert!(Instant::now() < end, "the edit is never read");
            fs::write(&neighbour, "x").unwrap();
        }
    });
}

#[test]
fn nftables_is_kept_true_like_iptables() {
    let host = host!("backend: nftables\nenableIPv6: true\n");
    let ours = || host.node.must("nft", &["list", "table", "inet", "ip-masq-agent"]);
    let mut service = host.ready();
    let (table, generation) = (ours(), host.generation());
    service.signal(Signal::KILL);
    service.wait();
    let mut service = host.ready();
    assert_eq!((ours(), host.generation()), (table.clone(), generation));
    host.node.must("nft", &["flush", "ruleset"]);
    let line = service.wait_for_log("repaired in");
    assert!(line.contains("changed by nft"), "{line}");
    assert_eq!(ours(), table);
    assert_eq!(service.stop().code(), Some(0));
    assert_eq!(host.node.must("nft", &["list", "ruleset"]), "");
}

#[test]
fn a_resync_with_nothing_changed_starts_no_process_and_writes_nothing() {
    for backend in ["iptables-nft", "nftables"] {
        let host = host!(&format!("resyncInterval: 1s\nbackend: {backend}\n"));
        let mut command = host.prepare(&["run"]);
        command.env("WATCHDOG_USEC", "2000000");
        let mut service = host.start_as(command);
        service.wait_for("READY=1");
        // Answered once all that belongs to the start is done.
        assert_eq!(host.command(&["status"]).code, Some(0));
        let (generation, children) = (host.generation(), page_faults_of_children(service.child.id()));
        (0..4).for_each(|_| _ = service.wait_for("WATCHDOG=1"));
        assert_eq!(host.generation(), generation, "{backend}");
        assert_eq!(page_faults_of_children(service.child.id()), children, "{backend}: a child process");
    }
}

/// `cminflt` of proc_pid_stat(5): it moves with every child that was waited for.
fn page_faults_of_children(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit(") ").next().unwrap();
    behind_name.split(' ').nth(8).unwrap().parse().unwrap()
}

#[test]
fn a_flushed_set_is_filled_again_at_the_resync() {
    let list: String = (0..200).map(|number| format!("  - 10.{number}.0.0/24\n")).collect();
    let host = host!(&format!("backend: iptables-nft\nresyncInterval: 1s\nnonMasqueradeCIDRs:\n{list}"));
    let mut service = host.ready();
    let names = host.node.must("ipset", &["list", "-n"]);
    let name = names.lines().next().unwrap();
    let entries = || host.node.must("ipset", &["list", name]).lines().filter(|line| line.starts_with("10.")).count();
    assert_eq!(entries(), 200);
    host.node.must("ipset", &["flush", name]);
    service.wait_for_log("repaired in");
    assert!(host.node.must("ipset", &["save"]).matches("add ").count() == 200);
    service.stop();
    assert_eq!(host.node.must("ipset", &["list", "-n"]), "");
}

#[test]
fn somebody_who_flushes_iptables_all_the_time_does_not_win_against_a_reload() {
    let host = host!(GOOD);
    let _service = host.ready();
    std::thread::scope(|scope| {
        let meddle = scope.spawn(|| (0..40).for_each(|_| _ = host.node.run("iptables-nft", &["-t", "nat", "-F"])));
        let mut other = false;
        while !meddle.is_finished() {
            host.configure(if other { GOOD } else { OTHER });
            // It may be refused while the ground moves; what it must not do is die or lie.
            host.command(&["reload"]);
            other = !other;
        }
    });
    host.configure(OTHER);
    assert_eq!(host.command(&["reload"]).code, Some(0));
    let rules = host.rules();
    assert!(rules.contains("-d 192.168.0.0/16") && !rules.contains("-d 10.0.0.0/8"), "{rules}");
}

/// Finding A5: between a change of the sysctl and the next resync bridged frames were masqueraded.
#[test]
fn rules_that_follow_a_sysctl_do_so_at_once_and_are_called_nobodys_change() {
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("resyncInterval: 1h\nbackend: {backend}\n"));
        if !host.node.enter(|| fs::exists("/proc/sys/net/bridge")).unwrap() {
            return lab::skip("no br_netfilter in this kernel");
        }
        let bridged = |value| host.node.sysctl("net/bridge/bridge-nf-call-iptables", value);
        bridged("0");
        let mut service = host.ready();
        for value in ["1", "0"] {
            bridged(value);
            let line = service.wait_for_log("IPv4 rules ");
            let expected = format!("<5>IPv4 rules follow net.bridge.bridge-nf-call-iptables, which is {value} now; ");
            assert!(line.starts_with(&expected), "{backend}: {line}");
        }
        assert_eq!(host.command(&["diff"]).code, Some(0));
    }
}
