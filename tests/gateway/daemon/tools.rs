//! Tools that hang, are slow, fail once, or print half an answer.

use super::*;

/// The unit's TimeoutStopSec is 30 s, and its WatchdogSec twice that.
const STOP: Duration = Duration::from_secs(28);
/// How long the loop may say nothing, and a client may wait for its status.
const SILENCE: Duration = Duration::from_secs(20);
/// What a test waits for that takes a service with broken tools its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts it with a watchdog that is so short that every pass of the loop is heard.
fn watched(host: &Host) -> Service {
    let mut command = host.prepare(&["run"]);
    command.env("WATCHDOG_USEC", "200000");
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    service
}

/// The longest time between two signs of life while `work` is done.
fn longest_silence(service: &Service, work: impl FnOnce() + Send) -> Duration {
    service.notify.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        while !work.is_finished() {
            let notification = service.notification().expect("a sign of life");
            if notification == "WATCHDOG=1" {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        longest.max(last.elapsed())
    })
}

/// Its listings hang from now on.
fn hang(host: &Host) {
    for program in ["iptables-nft-save", "ip6tables-nft-save"] {
        host.node.replace(program, "exec sleep 600");
    }
}

#[test]
fn listings_that_hang_keep_neither_the_watchdog_nor_a_client_waiting() {
    let host = host!("backend: iptables-nft\nenableIPv6: true\n");
    let service = watched(&host);
    hang(&host);
    let mut waited = Duration::ZERO;
    let silence = longest_silence(&service, || {
        std::thread::scope(|scope| {
            let reload = scope.spawn(|| host.command(&["reload"]));
            // One while each family hangs.
            for _ in 0..2 {
                let begun = Instant::now();
                let status = host.command(&["status"]);
                assert!(matches!(status.code, Some(0 | 1)), "{status:?}");
                waited = waited.max(begun.elapsed());
            }
            let refused = reload.join().unwrap();
            assert!(refused.code == Some(1) && refused.stderr.contains("did not end within"), "{refused:?}");
        });
    });
    assert!(silence < SILENCE && waited < SILENCE, "silent for {silence:?}, a client waited for {waited:?}");
}

#[test]
fn a_stop_in_the_middle_of_listings_that_hang_ends_before_systemd_kills() {
    let host = host!("backend: iptables-nft\nenableIPv6: true\n");
    let mut service = watched(&host);
    hang(&host);
    // It may be in the middle of a listing already.
    service.notify.set_read_timeout(Some(PATIENCE)).unwrap();
    service.signal(Signal::HUP);
    service.wait_for("RELOADING=1");
    let begun = Instant::now();
    service.signal(Signal::TERM);
    service.wait_for("STOPPING=1");
    assert_eq!(service.child.wait().unwrap().code(), Some(1), "the rules can't be removed");
    assert!(begun.elapsed() < STOP, "{:?}", begun.elapsed());
}

#[test]
fn an_iptables_that_hangs_is_none_for_auto_and_the_policy_is_in_force_all_the_same() {
    let host = host!(GOOD);
    host.node.replace("iptables", "exec sleep 600");
    let mut service = host.start();
    service.notify.set_read_timeout(Some(PATIENCE)).unwrap();
    service.wait_for("READY=1");
    service.wait_for_log("backend nftables (auto: no usable iptables ('iptables --version' did not end within");
    assert!(host.node.must("nft", &["list", "table", "inet", "ip-masq-agent"]).contains("10.0.0.0/8"));
}

#[test]
fn slow_tools_make_a_slow_reload_with_signs_of_life_in_between() {
    let host = host!("backend: iptables-nft\nenableIPv6: true\n");
    let service = watched(&host);
    for program in ["iptables-nft-save", "ip6tables-nft-save", "iptables-nft-restore", "ip6tables-nft-restore"] {
        host.node.replace(program, &format!("sleep 3; exec /run/real/{program} \"$@\""));
    }
    host.configure("backend: iptables-nft\nenableIPv6: true\nrandomFully: false\n");
    let silence = longest_silence(&service, || {
        let reload = host.command(&["reload"]);
        assert_eq!(reload.code, Some(0), "{reload:?}");
    });
    assert!(silence < SILENCE, "silent for {silence:?}");
}

#[test]
fn a_listing_that_prints_nothing_adds_no_jump() {
    for backend in ["iptables-nft", "iptables-legacy"] {
        let config = |more: &str| format!("backend: {backend}\n{more}");
        let host = host!(&config(""));
        let mut service = host.ready();
        let program = format!("{backend}-save");
        host.node.replace(&program, "exit 0");
        for list in ["[10.0.0.0/8]", "[192.168.0.0/16]", "[172.16.0.0/12]"] {
            host.configure(&config(&format!("nonMasqueradeCIDRs: {list}\n")));
            let reload = host.command(&["reload"]);
            assert!(reload.code == Some(1) && reload.stderr.contains("printed nothing"), "{backend}: {reload:?}");
        }
        host.node.give_back(&program);
        service.wait_for("STATUS=masquerading");
        let rules = host.node.must(backend, &["-t", "nat", "-S"]);
        assert_eq!(rules.matches("-j IP-MASQ-AGENT").count(), 1, "{rules}");
        assert!(rules.contains("-d 172.16.0.0/12"), "{rules}");
        assert_eq!(host.command(&["diff"]).code, Some(0));
    }
}

#[test]
fn an_ipset_that_comes_later_is_used_from_the_next_resync_on() {
    let list: String = (0..200).map(|number| format!("  - 10.{number}.0.0/24\n")).collect();
    let host = host!(&format!("backend: iptables-nft\nresyncInterval: 1s\nnonMasqueradeCIDRs:\n{list}"));
    host.node.hide("ipset");
    let mut service = host.ready();
    service.wait_for_log("no ipset on this host");
    assert!(host.rules().lines().count() > 200);
    host.node.give_back("ipset");
    let line = service.wait_for_log("written in");
    assert!(line.starts_with("<5>IPv4 rules follow ipset, which is there now; written in "), "{line}");
    assert!(host.rules().lines().count() < 30, "{}", host.rules());
    assert_eq!(host.command(&["diff"]).code, Some(0));
    let status = host.command(&["status"]).stdout;
    assert!(!status.contains("ipset") && !status.contains("last repair"), "{status}");
    assert!(!service.log_has("changed by"), "{:#?}", service.log);
}
