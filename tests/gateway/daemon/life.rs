//! Start, stop, crash, and what the service needs of its host.

use super::*;

/// What a test waits for that has the kernel take a very long list.
const LOADING: Duration = Duration::from_secs(120);

#[test]
fn ready_comes_after_the_rules_and_the_status_is_true() {
    let host = host!(GOOD);
    let mut service = host.start();
    let notifications = service.wait_for("READY=1");
    assert!(host.rules().contains("-d 10.0.0.0/8"), "{}", host.rules());
    assert_eq!(notifications[0], "STATUS=starting");
    let status = &notifications[notifications.len() - 2];
    assert!(status.starts_with("STATUS=masquerading IPv4 through iptables-nft"), "{notifications:?}");
    let status = host.command(&["status"]);
    assert!(status.code == Some(0) && status.stdout.starts_with("masquerading IPv4"), "{status:?}");
    let json: serde_json::Value = serde_json::from_str(&host.command(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["state"], "ready");
    assert_eq!(json["pid"], service.child.id());
    assert_eq!(json["configuration"]["files"], serde_json::json!([CONFIG]));
}

#[test]
fn rules_outlive_a_crash_and_the_next_start_writes_nothing() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let (rules, generation) = (host.rules(), host.generation());
    service.signal(Signal::KILL);
    service.wait();
    assert_eq!(host.rules(), rules);
    let _next = host.ready();
    assert_eq!((host.rules(), host.generation()), (rules, generation));
}

#[test]
fn a_stop_leaves_no_trace_in_either_family() {
    let host = host!("enableIPv6: true\n");
    let before = (host.rules(), host.node.must("ip6tables-nft", &["-t", "nat", "-S"]));
    let mut service = host.ready();
    assert!(host.node.must("ip6tables-nft", &["-t", "nat", "-S"]).contains("IP-MASQ-AGENT"));
    assert_eq!(service.stop().code(), Some(0));
    assert_eq!((host.rules(), host.node.must("ip6tables-nft", &["-t", "nat", "-S"])), before);
    assert!(service.unread().contains(&"STOPPING=1".to_owned()));
    assert!(!host.node.enter(|| fs::exists(format!("{RUNTIME}/control.sock"))).unwrap());
    assert_eq!(host.command(&["status"]).code, Some(3));
}

/// 300,000 single addresses, of which no two are one range: the kernel takes them in pieces, and takes a while.
fn very_long_list() -> String {
    let address = |number: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + 2 * number);
    let list: String = (0..300_000).map(|number| format!("- {}/32\n", address(number))).collect();
    format!("nonMasqueradeCIDRs:\n{list}")
}

/// While a list goes into the kernel the status is answered and the watchdog is fed; then the service is told to stop.
fn is_alive_and_stops_while_it_loads(host: &Host, service: &mut Service, state: &str) {
    service.notify.set_read_timeout(Some(LOADING)).unwrap();
    // More time is asked for once a piece of the list is in the kernel and another one is not.
    service.wait_for("EXTEND_TIMEOUT_USEC=");
    let status = host.command(&["status"]);
    assert!(status.stdout.contains(state), "{status:?}");
    let mut told = service.unread();
    service.notify.set_nonblocking(false).unwrap();
    told.extend(service.wait_for("WATCHDOG=1"));
    service.signal(Signal::TERM);
    told.extend(service.wait_for("STOPPING=1"));
    assert!(!told.contains(&"READY=1".to_owned()), "it has ended before: {told:?}");
    assert_eq!(service.child.wait().unwrap().code(), Some(0), "{:#?}", service.whole_log());
}

#[test]
fn a_stop_while_a_very_long_list_is_loaded_comes_at_once_and_leaves_nothing_half_made() {
    for on_stop in ["cleanup", "keep"] {
        let host = host!(&format!("backend: nftables\nonStop: {on_stop}\n{}", very_long_list()));
        let mut command = host.prepare(&["run"]);
        command.env("WATCHDOG_USEC", "200000");
        let mut service = host.start_as(command);
        is_alive_and_stops_while_it_loads(&host, &mut service, "starting");
        assert_eq!(host.node.must("nft", &["--terse", "list", "ruleset"]), "", "{on_stop}");
    }
    let short = format!("backend: nftables\nonStop: keep\n{GOOD}");
    let host = host!(&short);
    let mut command = host.prepare(&["run"]);
    command.env("WATCHDOG_USEC", "200000");
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    let rules = host.node.must("nft", &["list", "ruleset"]);
    host.configure(&short.replace(GOOD, &very_long_list()));
    service.signal(Signal::HUP);
    service.wait_for("RELOADING=1");
    is_alive_and_stops_while_it_loads(&host, &mut service, "state: ready");
    let left = host.node.must("nft", &["list", "ruleset"]);
    assert!(
        left == rules,
        "not those from before the reload: {}",
        host.node.must("nft", &["--terse", "list", "ruleset"])
    );
}

#[test]
fn a_stop_keeps_the_rules_when_told_to_and_flush_removes_them() {
    let host = host!("onStop: keep\n");
    let mut service = host.ready();
    let refused = host.command(&["flush"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("systemctl stop ip-masq-agent"), "{refused:?}");
    assert_eq!(service.stop().code(), Some(0));
    assert!(host.rules().contains("IP-MASQ-AGENT"));
    for (flag, code, said) in [("--masq-chain=A B", 78, "--masq-chain: "), ("--cidr-limit=1", 2, "error: unexpected")] {
        let refused = host.command(&["flush", flag]);
        assert_eq!((refused.code, &*refused.stdout), (Some(code), ""), "{refused:?}");
        assert!(refused.stderr.starts_with(said), "{refused:?}");
    }
    assert!(host.rules().contains("IP-MASQ-AGENT"), "nothing is touched");
    host.configure(BAD);
    let flushed = host.command(&["flush"]);
    assert!(flushed.stderr.starts_with(&format!("warning: {CONFIG}:")), "{flushed:?}");
    let removed = "iptables-nft, IPv4: removed jump to 'IP-MASQ-AGENT'\n\
                   iptables-nft, IPv4: removed chain 'IP-MASQ-AGENT'\n";
    assert_eq!((flushed.code, &*flushed.stdout), (Some(0), removed));
    assert!(!host.rules().contains("IP-MASQ-AGENT"));
    host.node.enter(|| fs::remove_file(CONFIG)).unwrap();
    let again = host.command(&["flush"]);
    assert_eq!((again.code, &*again.stdout), (Some(0), "nothing to remove\n"));
    assert!(again.stderr.starts_with(&format!("warning: {CONFIG}: can't be opened: ")), "{again:?}");
}

#[test]
fn a_second_instance_is_refused_and_told_who_the_first_is() {
    let host = host!(GOOD);
    let service = host.ready();
    let second = host.command(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&format!("process {}", service.child.id())), "{second:?}");
    assert_eq!(host.command(&["status"]).code, Some(0), "the first one goes on");
}

#[test]
fn a_state_directory_that_is_read_only_or_full_is_said_once_and_not_fatal() {
    for options in ["ro", "size=4k,nr_inodes=2"] {
        let long = format!("nonMasqueradeCIDRs: [10.0.0.0/8]\n# {}\n", "x".repeat(20_000));
        let host = host!(&long);
        host.node.must("mount", &["-t", "tmpfs", "-o", options, "tmpfs", STATE]);
        let mut service = host.ready();
        service.wait_for_log("could not be saved");
        host.configure(&format!("{long}# again\n"));
        service.wait_for_log("configuration 2 is in the kernel");
        service.stop();
        assert_eq!(service.log.iter().filter(|line| line.contains("could not be saved")).count(), 1, "{options}");
    }
}

#[test]
fn a_journal_that_does_not_read_stops_nobody() {
    let host = host!(GOOD);
    let (socket, stderr) = host.node.enter(|| {
        fs::create_dir_all("/run/systemd/journal").unwrap();
        (UnixDatagram::bind(JOURNAL).unwrap(), fs::File::create("/run/test/stderr").unwrap())
    });
    let metadata = stderr.metadata().unwrap();
    let mut command = host.prepare(&["run"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino())).stderr(stderr);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = host.node.enter(|| command.spawn()).unwrap();
    let mut buffer = [0; 65536];
    let mut receive = || {
        socket.set_read_timeout(Some(lab::DEADLINE)).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let chosen = receive();
    assert!(chosen.contains("MESSAGE_ID=ec6f146596944eec955100acf9924b34\n"), "{chosen}");
    assert!(chosen.contains("IP_MASQ_BACKEND=iptables-nft\n") && chosen.contains("PRIORITY=6\n"), "{chosen}");
    assert!(receive().contains("configuration 1 is in the kernel"));
    host.configure(BAD);
    while !is_full(&host) {
        assert_eq!(host.command(&["reload"]).code, Some(78));
    }
    assert_eq!(host.command(&["reload"]).code, Some(78), "the journal is full");
    // Once it reads again, it is told how many it missed.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 16]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    host.configure(GOOD);
    assert_eq!(host.command(&["reload"]).code, Some(0));
    let lost = receive();
    assert!(lost.contains("IP_MASQ_LOST="), "{lost}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// True when a further datagram to the socket would have to wait; else there is one more in it.
fn is_full(host: &Host) -> bool {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    host.node.enter(|| sender.send_to(b"x", JOURNAL)).is_err()
}

#[test]
fn without_the_capability_it_is_never_ready() {
    let host = host!(GOOD);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.args([service::BINARY, "run", "--config", CONFIG]);
    environment(&mut command);
    let mut service = host.start_as(command);
    assert_eq!(service.wait().code(), Some(1), "{:?}", service.log);
    assert!(service.log.iter().any(|line| line.starts_with("<3>")), "{:?}", service.log);
    assert!(!service.unread().iter().any(|notification| notification == "READY=1"));
}

#[test]
fn the_watchdog_is_fed_by_the_loop() {
    let host = host!(GOOD);
    let mut command = host.prepare(&["run"]);
    command.env("WATCHDOG_USEC", "100000");
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    let begun = Instant::now();
    (0..4).for_each(|_| _ = service.wait_for("WATCHDOG=1"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn once_applies_and_a_dry_run_only_says_so() {
    let host = host!(GOOD);
    let before = host.rules();
    let dry = host.command(&["run", "--dry-run"]);
    assert!(dry.code == Some(0) && dry.stdout.contains("-d 10.0.0.0/8"), "{dry:?}");
    assert_eq!(host.rules(), before);
    let once = host.command(&["run", "--once"]);
    assert_eq!((once.code, once.stdout.as_str()), (Some(0), "IPv4: written and verified\n"), "{once:?}");
    assert!(host.rules().contains("-d 10.0.0.0/8"));
    assert_eq!(host.command(&["run", "--once"]).stdout, "IPv4: in place already\n");
    assert_eq!(host.command(&["run", "--dry-run"]).stdout, "# IPv4: nothing to send\n");
}

#[test]
fn a_held_xtables_lock_is_waited_for_with_more_time_from_systemd() {
    let host = host!("backend: iptables-legacy\n");
    let lock = host.node.enter(|| fs::File::create("/run/xtables.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut service = host.start();
    service.wait_for("EXTEND_TIMEOUT_USEC=");
    // As the guide finds who holds it.
    assert!(host.node.must("lslocks", &[]).contains("/run/xtables.lock"));
    drop(lock);
    service.wait_for("READY=1");
}

/// Finding C3: a stop gave up after five seconds and left the rules, and nobody came back for them.
#[test]
fn a_stop_and_a_flush_wait_for_a_held_xtables_lock() {
    let host = host!("backend: iptables-legacy\n");
    let rules = || host.node.must("iptables-legacy-save", &["-t", "nat"]);
    for command in ["stop", "flush"] {
        host.configure(&format!(
            "backend: iptables-legacy\nonStop: {}\n",
            if command == "stop" { "cleanup" } else { "keep" }
        ));
        let mut service = host.ready();
        if command == "flush" {
            service.stop();
        }
        assert!(rules().contains("IP-MASQ-AGENT"));
        let lock = host.node.enter(|| fs::File::create("/run/xtables.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        if command == "stop" {
            service.signal(Signal::TERM);
            service.wait_for("STATUS=stopping, waiting: ");
            drop(lock);
            assert_eq!(service.wait().code(), Some(0), "{:#?}", service.log);
        } else {
            std::thread::scope(|scope| {
                let flush = scope.spawn(|| host.command(&["flush"]));
                // Its first try has to fail: five seconds for the lock, as iptables is told.
                let end = Instant::now() + Duration::from_secs(6);
                while Instant::now() < end && !flush.is_finished() {
                    std::thread::yield_now();
                }
                drop(lock);
                let flushed = flush.join().unwrap();
                assert_eq!(flushed.code, Some(0), "{flushed:?}");
            });
        }
        assert!(!rules().contains("IP-MASQ-AGENT"), "{command}");
    }
}

/// Finding C3: one of eight stops left its rules while another program committed twenty times a second.
#[test]
fn stops_remove_the_rules_while_another_program_commits() {
    let list: String = (0..5000).map(|n| format!("  - 10.{}.{}.0/24\n", n / 250, n % 250)).collect();
    for backend in ["nftables", "iptables-nft"] {
        let host = host!(&format!("backend: {backend}\nnonMasqueradeCIDRs:\n{list}"));
        let mut noise = Noise::start(&host, Duration::ZERO);
        for _ in 0..4 {
            let mut service = host.ready();
            noise.wait_for_commit();
            assert_eq!(service.stop().code(), Some(0), "{backend}: {:#?}", service.log);
            let left = host.node.must("nft", &["list", "ruleset"]);
            assert!(!left.contains("ip-masq-agent") && !left.contains("IP-MASQ-AGENT"), "{backend}: {left}");
        }
    }
}

#[test]
fn another_backend_at_a_restart_takes_over_and_leaves_nothing_of_the_old_one() {
    let config = |backend| format!("{GOOD}enableIPv6: true\nonStop: keep\nbackend: {backend}\n");
    let host = host!(&config("iptables-nft"));
    let held = |backend| match backend {
        "nftables" => host.node.must("nft", &["list", "tables"]).contains("inet ip-masq-agent"),
        tool => ["", "6"].iter().any(|six| {
            let tool = tool.replacen("ip", &format!("ip{six}"), 1);
            host.node.must(&format!("{tool}-save"), &["-t", "nat"]).contains("IP-MASQ-AGENT")
        }),
    };
    host.ready().stop();
    let all = ["nftables", "iptables-legacy", "iptables-nft"];
    for (before, now) in [(2, 0), (0, 1), (1, 2)].map(|(before, now)| (all[before], all[now])) {
        host.configure(&config(now));
        let mut service = host.ready();
        service.wait_for_log(&format!("rules of an earlier run were removed from {before}"));
        service.stop();
        let holders: Vec<&str> = all.into_iter().filter(|backend| held(backend)).collect();
        assert_eq!(holders, [now]);
    }
    host.configure(&config("nftables"));
    assert_eq!(host.command(&["run", "--once"]).code, Some(0));
    assert!(held("nftables") && !held("iptables-nft"));
}

#[test]
fn children_inherit_no_descriptor_no_signal_mask_and_no_environment() {
    let host = host!(GOOD);
    // Nothing but words of the shell itself: it opens pipes and blocks signals when it starts a program.
    let wrapper = "\
        { for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && printf '%s ' $n; done; echo; while read -r l; do case $l in SigBlk*|SigIgn*) echo \"$l\";; esac; done </proc/$$/status; env | sort; } > /run/test/seen\n\
        exec /usr/sbin/xtables-nft-multi iptables-restore \"$@\"";
    host.node.replace("iptables-nft-restore", wrapper);
    // Who starts us may have left a descriptor open.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9</proc/self/status; exec \"$@\"", "sh", service::BINARY, "run", "--config", CONFIG]);
    environment(&mut shell);
    shell.env("SECRET", "1");
    let mut service = host.start_as(shell);
    service.wait_for("READY=1");
    let seen = host.node.enter(|| fs::read_to_string("/run/test/seen")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "0 1 2 ", "{seen}");
    for line in &lines[1..3] {
        let signals = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // The C library's own two, 32 and 33, are whatever they were when the test began.
        assert_eq!(signals & 0x7fff_ffff, 0, "{seen}");
    }
    let ours = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
    let environment: Vec<&&str> =
        lines[3..].iter().filter(|line| !ours.iter().any(|own| line.starts_with(own))).collect();
    assert_eq!(environment, [&"LC_ALL=C", &format!("PATH={}", ip_masq_agent::sys::child::PATH).as_str()], "{seen}");
}
