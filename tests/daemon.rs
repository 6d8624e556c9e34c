//! The real binary as a service: what it tells systemd, what it survives, what it leaves behind.

mod lab;

#[path = "daemon/service.rs"]
mod service;

use rustix::process::Signal;
use service::{CONFIG, Host, RUNTIME, STATE, environment};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const GOOD: &str = "nonMasqueradeCIDRs: [10.0.0.0/8]\n";
const OTHER: &str = "nonMasqueradeCIDRs: [192.168.0.0/16]\n";
const JOURNAL: &str = "/run/systemd/journal/socket";
const BAD: &str = "nonMasqueradeCIDRs: [10.0.0.0/33]\n";

macro_rules! host {
    ($config:expr) => {
        match Host::new($config) {
            Some(host) => host,
            None => return,
        }
    };
}

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

#[test]
fn a_stop_keeps_the_rules_when_told_to_and_flush_removes_them() {
    let host = host!("onStop: keep\n");
    let mut service = host.ready();
    let refused = host.command(&["flush"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("systemctl stop ip-masq-agent"), "{refused:?}");
    assert_eq!(service.stop().code(), Some(0));
    assert!(host.rules().contains("IP-MASQ-AGENT"));
    host.configure(BAD);
    let flushed = host.command(&["flush"]);
    assert!(flushed.code == Some(0) && flushed.stdout.contains("iptables-nft, IPv4"), "{flushed:?}");
    assert!(!host.rules().contains("IP-MASQ-AGENT"));
    assert_eq!(host.command(&["flush"]).stdout, "nothing of ours was there\n");
}

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
fn a_fight_is_reported_once_and_repairs_are_held_back() {
    let host = host!(GOOD);
    let mut service = host.ready();
    for _ in 0..4 {
        host.node.must("iptables-nft", &["-t", "nat", "-F", "IP-MASQ-AGENT"]);
        service.wait_for_log("repaired in");
    }
    let begun = Instant::now();
    host.node.must("iptables-nft", &["-t", "nat", "-F", "IP-MASQ-AGENT"]);
    let line = service.wait_for_log("keeps changing our IPv4 rules");
    assert!(line.starts_with("<4>"), "{line}");
    let repaired = host.generation();
    host.node.must("iptables-nft", &["-t", "nat", "-F", "IP-MASQ-AGENT"]);
    while host.generation() < repaired + 2 {
        assert!(begun.elapsed() < lab::DEADLINE, "a repair has to wait, but not forever");
        std::thread::yield_now();
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let status = host.command(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("another program keeps changing"), "{status:?}");
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
    service.wait_for_log("good again");
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
fn nobody_at_the_control_socket_can_hurt_the_service() {
    let host = host!(GOOD);
    let _service = host.ready();
    let connect = || host.node.enter(|| UnixStream::connect(format!("{RUNTIME}/control.sock"))).unwrap();
    for garbage in [&b"\xff\xfe\0\n"[..], b"reload", b"status --json\n", &[b'x'; 100_000]] {
        let mut stream = connect();
        // The service may hang up in the middle of it.
        let _ = stream.write_all(garbage);
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{garbage:?}");
    }
    let half: Vec<UnixStream> = (0..100)
        .map(|_| {
            let mut stream = connect();
            let _ = stream.write_all(b"rel");
            stream
        })
        .collect();
    drop(half);
    let mut gone = connect();
    gone.write_all(b"reload\n").unwrap();
    drop(gone);
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert_eq!(host.command(&["status"]).code, Some(0));
}

#[test]
fn an_ordinary_user_is_told_that_only_root_may_ask() {
    let host = host!(GOOD);
    let _service = host.ready();
    let asked = host.node.enter(|| {
        // Where it was built an ordinary user may not look.
        fs::copy(service::BINARY, "/run/test/binary").unwrap();
        let mut status = Command::new("/run/test/binary");
        environment(&mut status);
        status.args(["status"]).uid(65534).gid(65534).output()
    });
    // In a user namespace there may be no other user.
    let Ok(asked) = asked else { return lab::skip("there is no ordinary user here") };
    let said = String::from_utf8_lossy(&asked.stdout);
    assert_eq!((asked.status.code(), &*said), (Some(3), "the service did not answer: only root may ask it\n"));
}

#[test]
fn clients_that_say_nothing_are_dropped_and_make_room() {
    let host = host!(GOOD);
    let _service = host.ready();
    let connect = || host.node.enter(|| UnixStream::connect(format!("{RUNTIME}/control.sock"))).unwrap();
    let silent: Vec<UnixStream> = (0..16).map(|_| connect()).collect();
    for mut stream in silent {
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(lab::DEADLINE)).unwrap();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"");
    }
    assert_eq!(host.command(&["reload"]).code, Some(0));
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
    drop(lock);
    service.wait_for("READY=1");
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
fn somebody_who_flushes_all_the_time_does_not_win_against_a_reload() {
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

#[test]
fn a_wrong_flag_is_exit_78_even_with_a_last_good_configuration() {
    let host = host!(GOOD);
    host.ready().stop();
    let mut service = host.start_as(host.prepare(&["run", "--masq-chain", "POSTROUTING"]));
    assert_eq!(service.wait().code(), Some(78), "{:?}", service.log);
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
fn a_public_network_behind_a_gateway_without_a_scope_is_warned_about_everywhere() {
    let host = host!("resyncInterval: 1s\n");
    host.node.ip("link add wan0 type veth peer name wan-peer\n\
                  link add dmz0 type veth peer name dmz-peer\n\
                  addr add 198.51.100.2/24 dev wan0\naddr add 203.0.113.1/28 dev dmz0\n\
                  link set wan0 up\nlink set wan-peer up\nlink set dmz0 up\nlink set dmz-peer up\n\
                  route add default via 198.51.100.1\n");
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

#[test]
fn children_inherit_no_descriptor_no_signal_mask_and_no_environment() {
    let host = host!(GOOD);
    let wrapper = "#!/bin/sh\n\
        { ls /proc/$$/fd | tr '\\n' ' '; echo; grep -E '^Sig(Blk|Ign)' /proc/$$/status; env | sort; } > /run/test/seen\n\
        exec /usr/sbin/xtables-nft-multi iptables-restore \"$@\"\n";
    host.node.enter(|| fs::write("/run/test/wrapper", wrapper)).unwrap();
    host.node.must(
        "sh",
        &[
            "-c",
            "cp -dR --preserve=mode /usr/sbin /run/sbin && rm /run/sbin/iptables-nft-restore && \
                 install -m 755 /run/test/wrapper /run/sbin/iptables-nft-restore && mount --bind /run/sbin /usr/sbin",
        ],
    );
    // Who starts us may have left a descriptor open.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9</proc/self/status; exec \"$@\"", "sh", service::BINARY, "run", "--config", CONFIG]);
    environment(&mut shell);
    shell.env("SECRET", "1");
    let mut service = host.start_as(shell);
    service.wait_for("READY=1");
    let seen = host.node.enter(|| fs::read_to_string("/run/test/seen")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    // From 10 on they are the shell's own.
    let inherited = lines[0].split_whitespace().filter(|fd| fd.parse::<u32>().unwrap() < 10);
    assert_eq!(inherited.collect::<Vec<_>>(), ["0", "1", "2"], "{seen}");
    for line in &lines[1..3] {
        let signals = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // The C library's own two, 32 and 33, are whatever they were when the test began.
        assert_eq!(signals & 0x7fff_ffff, 0, "{seen}");
    }
    let ours = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
    let environment: Vec<&&str> =
        lines[3..].iter().filter(|line| !ours.iter().any(|own| line.starts_with(own))).collect();
    assert_eq!(environment, [&"LC_ALL=C", &format!("PATH={}", ip_masq_agent::host::child::PATH).as_str()], "{seen}");
}
