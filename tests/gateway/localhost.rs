//! `localhost` of portForwards: local processes go through it, nobody else gets at 127.0.0.1, and the sysctl that it needs
//! is what it was once nobody needs it.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Observer, Probe, Seen, parse};
use ip_masq_agent::backend::BackendName;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

const FORWARD: &str = "portForwards:\n- {hostPort: 8080, address: 192.168.77.2, port: 80, localhost: true}\n";

/// Every route_localnet of the gateway that is not 0.
fn set(lab: &Lab) -> Vec<String> {
    let read = || {
        let entries = fs::read_dir("/proc/sys/net/ipv4/conf").unwrap().flatten();
        let set =
            entries.filter(|entry| fs::read_to_string(entry.path().join("route_localnet")).unwrap().trim() != "0");
        set.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    lab.gateway.enter(read)
}

/// What the LAN host says to a local process of the gateway: the source that it sees.
fn asked(lab: &Lab, server: &TcpListener, from: &str, to: &str) -> Result<String, String> {
    let addresses: [SocketAddr; 2] = [format!("{from}:0"), to.to_owned()].map(|text| text.parse().unwrap());
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&addresses[0].into())?;
        socket.connect_timeout(&addresses[1].into(), DEADLINE)?;
        Ok(TcpStream::from(socket))
    };
    let mut stream = lab.gateway.enter(connect).map_err(|error: std::io::Error| format!("{from} to {to}: {error}"))?;
    let (mut accepted, peer) = server.accept().unwrap();
    accepted.write_all(peer.ip().to_string().as_bytes()).unwrap();
    drop(accepted);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(|error| format!("{from} to {to}: {error}"))?;
    Ok(said)
}

fn works(lab: &Lab, server: &TcpListener, what: &str) {
    for from in ["127.0.0.1", "127.0.0.2"] {
        for to in ["127.0.0.1:8080", "127.0.0.2:8080"] {
            assert_eq!(asked(lab, server, from, to).as_deref(), Ok("192.168.77.1"), "{what}: {from} to {to}");
        }
    }
}

#[test]
fn local_processes_reach_a_forward_through_loopback_and_the_sysctl_is_put_back() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let server = lab.lan.enter(|| TcpListener::bind("192.168.77.2:80")).unwrap();
        let (nothing, lan0): (&[&str], &[&str]) = (&[], &["lan0"]);
        let what = backend.to_string();
        gateway.agent.configure(&gateway.config(FORWARD));

        let mut service = gateway.agent.start();
        assert_eq!(set(&lab), lan0, "{what}: started");
        works(&lab, &server, &what);
        assert!(service.stop().success(), "{what}: {:#?}", service.log);
        assert_eq!(set(&lab), nothing, "{what}: stopped");

        let mut service = gateway.agent.start();
        service.signal(Signal::KILL);
        service.wait();
        assert_eq!(set(&lab), lan0, "{what}: killed");
        let mut service = gateway.agent.start();
        works(&lab, &server, &what);
        service.stop();
        assert_eq!(set(&lab), nothing, "{what}: stopped after a crash");

        let mut service = gateway.agent.start();
        gateway.agent.configure(&gateway.config(""));
        gateway.agent.must("reload", &[]);
        assert_eq!(set(&lab), nothing, "{what}: without the forward");
        gateway.agent.configure(&gateway.config(&format!("{FORWARD}onStop: keep\n")));
        gateway.agent.must("reload", &[]);
        works(&lab, &server, &what);
        service.stop();
        assert_eq!(set(&lab), lan0, "{what}: kept");
        works(&lab, &server, &what);
        gateway.agent.must("flush", &[]);
        assert_eq!(set(&lab), nothing, "{what}: flushed");
    }
}

#[test]
fn the_sysctl_follows_the_route_to_the_target_and_what_was_set_before_stays() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    lab.gateway.sysctl("net/ipv4/conf/wan1/route_localnet", "1");
    gateway.agent.configure(
        &gateway.config(&format!("{}resyncInterval: 1s\n", FORWARD.replace("192.168.77.2", "192.168.78.2"))),
    );
    let mut service = gateway.agent.start();
    let wait = |expected: &[&str]| {
        let end = Instant::now() + DEADLINE;
        let expected: std::collections::BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        while std::collections::BTreeSet::from_iter(set(&lab)) != expected {
            assert!(Instant::now() < end, "{:?} instead of {expected:?}", set(&lab));
            std::thread::yield_now();
        }
    };
    wait(&["lan0", "wan1"]);
    lab.gateway.sysctl("net/ipv4/conf/lan0/route_localnet", "0");
    wait(&["lan0", "wan1"]);
    lab.gateway.ip("route replace 192.168.78.0/24 via 203.0.113.9\n");
    wait(&["wan0", "wan1"]);
    lab.gateway.ip("route replace 192.168.78.0/24 via 198.51.100.9\n");
    wait(&["wan1"]);
    service.stop();
    assert_eq!(set(&lab), ["wan1"]);
}

#[test]
fn a_target_whose_route_vanishes_gives_the_sysctl_back_until_there_is_one_again() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let server = lab.lan.enter(|| TcpListener::bind("192.168.78.2:80")).unwrap();
        let forward = FORWARD.replace("192.168.77.2", "192.168.78.2");
        gateway.agent.configure(&gateway.config(&format!("{forward}extraNonMasqueradeCIDRs: ['fc00::/7']\n")));
        let mut service = gateway.agent.start();
        assert_eq!(set(&lab), ["lan0"], "{backend}");
        works(&lab, &server, &backend.to_string());
        for (gone, back) in [
            ("route replace unreachable 192.168.78.0/24\n", "route replace 192.168.78.0/24 via 192.168.77.2\n"),
            (
                "route del 192.168.78.0/24\nroute del default via 203.0.113.9\n",
                "route add 192.168.78.0/24 via 192.168.77.2\nroute add default via 203.0.113.9\n",
            ),
        ] {
            lab.gateway.ip(gone);
            wait_until_set(&lab, &[]);
            // What is asked for is nowhere, which is no fault of the service.
            gateway.agent.must("reload", &[]);
            gateway.agent.must("status", &[]);
            assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}: {gone}");
            lab.gateway.ip(back);
            wait_until_set(&lab, &["lan0"]);
            gateway.agent.must("reload", &[]);
            works(&lab, &server, &format!("{backend}: {back}"));
            assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}: {back}");
        }
        service.stop();
        assert_eq!(set(&lab), [""; 0], "{backend}: stopped");
        assert!(
            !service.log.iter().any(|line| line.starts_with("<3>") || line.starts_with("<4>")),
            "{:#?}",
            service.log
        );
    }
}

#[test]
fn an_interface_that_comes_again_under_its_name_gets_the_sysctl_again_and_hairpin_its_network() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let neighbours = "- {hostPort: 5300, protocol: udp, address: 192.168.77.2, localhost: true}\n";
        gateway.agent.configure(&gateway.config(&format!("{FORWARD}{neighbours}")));
        let mut service = gateway.agent.start();
        lab.lan.ip("addr add 192.168.99.2/32 dev lo\n");
        for (own, length, seen) in [("192.168.77.1", 24, "192.168.99.2"), ("192.168.0.1", 16, "192.168.0.1")] {
            // At once, so that the two changes are seen as one.
            lab.gateway.ip(&format!(
                "link del lan0\nlink add lan0 type veth peer name lan0 netns {}\nlink set lan0 up\n\
                 addr add {own}/{length} dev lan0\n",
                lab.lan.path()
            ));
            lab.lan.ip(&format!(
                "link set lan0 up\naddr add 192.168.77.2/16 dev lan0\nroute add default via {own} dev lan0\n"
            ));
            let end = Instant::now() + DEADLINE;
            while set(&lab) != ["lan0"] {
                assert!(Instant::now() < end, "{backend}: {:?}", set(&lab));
                std::thread::yield_now();
            }
            let server = lab.lan.enter(|| TcpListener::bind("192.168.77.2:80")).unwrap();
            assert_eq!(asked(&lab, &server, "127.0.0.1", "127.0.0.1:8080").as_deref(), Ok(own), "{backend}");
            let arrived = Observer::new(&lab.lan);
            let by_gateway = |seen: &Seen| seen.destination == parse("192.168.77.2");
            let hairpin = || {
                let probe = Probe::new(Kind::Udp, parse("203.0.113.1")).from(parse("192.168.99.2")).with_port(5300);
                probe.send(&lab.lan);
                arrived.wait(|seen| by_gateway(seen) && probe.is_in(seen)).map(|seen| seen.source)
            };
            while hairpin() != Some(parse(seen)) {
                assert!(Instant::now() < end, "{backend}: {:?} and not {seen}", hairpin());
            }
        }
        assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}");
        service.stop();
        assert_eq!(set(&lab), [""; 0], "{backend}: stopped");
    }
}

#[test]
fn an_interface_that_goes_for_good_leaves_nothing_to_put_back_and_nobody_is_blamed_for_it() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&gateway.config(&format!("{FORWARD}extraNonMasqueradeCIDRs: ['fc00::/7']\n")));
        let mut service = gateway.agent.start();
        assert_eq!(set(&lab), ["lan0"], "{backend}");
        lab.gateway.ip("link del lan0\n");
        service.wait_for_log("IPv4 rules follow the host's addresses and routes");
        gateway.agent.must("status", &[]);
        wait_until_set(&lab, &["wan0"]);
        assert!(service.stop().success(), "{backend}");
        assert_eq!(set(&lab), [""; 0], "{backend}: stopped");
        let is_wrong =
            |line: &&String| line.starts_with("<3>") || line.starts_with("<4>") || line.contains("another program");
        assert_eq!(service.whole_log().iter().find(is_wrong), None, "{backend}");
        let notes = lab.gateway.must("ls", &[&gateway.agent.runtime().display().to_string()]);
        assert!(!notes.contains("sysctls"), "{backend}: {notes}");
    }
}

#[test]
fn a_neighbour_does_not_reach_what_listens_on_loopback() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let bind = |address| {
            let socket = lab.gateway.enter(|| UdpSocket::bind(address)).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            socket
        };
        let (inner, fence) = (bind("127.0.0.1:9090"), bind("192.168.77.1:9090"));
        lab.lan.ip("addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.0/8 via 192.168.77.1 dev lan0\n");
        let neighbour = lab.lan.enter(|| UdpSocket::bind("192.168.77.2:0")).unwrap();
        let mut buffer = [0; 8];

        // What the sysctl alone would let in.
        lab.gateway.sysctl("net/ipv4/conf/lan0/route_localnet", "1");
        neighbour.send_to(b"first", "127.0.0.1:9090").unwrap();
        assert_eq!(inner.recv(&mut buffer).unwrap(), 5, "{backend}: without a guard");
        lab.gateway.sysctl("net/ipv4/conf/lan0/route_localnet", "0");

        gateway.agent.configure(&gateway.config(FORWARD));
        let mut service = gateway.agent.start();
        assert_eq!(set(&lab), ["lan0"], "{backend}");
        neighbour.send_to(b"second", "127.0.0.1:9090").unwrap();
        neighbour.send_to(b"fence", "192.168.77.1:9090").unwrap();
        assert_eq!(fence.recv(&mut buffer).unwrap(), 5, "{backend}");
        inner.set_nonblocking(true).unwrap();
        assert_eq!(inner.recv(&mut buffer).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "{backend}");
        service.stop();
    }
}

#[test]
fn a_host_whose_sysctls_are_read_only_is_started_on_and_the_reason_told() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
    lab.gateway.must("sh", &["-c", script]);
    gateway.agent.configure(&gateway.config(FORWARD));
    let mut service = gateway.agent.start();
    let said = "net.ipv4.conf.lan0.route_localnet can't be set to 1, and localhost of portForwards needs it: ";
    let status = gateway.agent.command("status", &[]);
    assert!(String::from_utf8_lossy(&status.stdout).contains(said), "{status:?}");
    service.stop();
    assert!(service.log_has(said), "{:#?}", service.log);
    assert!(service.log_has("stopped; the rules are removed"), "{:#?}", service.log);
}

#[test]
fn the_guard_stays_for_as_long_as_the_old_value_can_not_be_put_back() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&gateway.config(FORWARD));
        let mut service = gateway.agent.start();
        let has_guard = || {
            let listing =
                lab.gateway.must("sh", &["-c", "nft list ruleset; iptables-legacy-save -t raw"]).to_lowercase();
            listing.lines().any(|line| line.contains("127.0.0.0/8") && line.contains("drop"))
        };
        assert!(has_guard(), "{backend}");

        lab.gateway.must("sh", &["-c", "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"]);
        gateway.agent.configure(&gateway.config(""));
        let reload = gateway.agent.command("reload", &[]);
        assert!(String::from_utf8_lossy(&reload.stderr).contains("can't be put back to 0"), "{backend}: {reload:?}");
        assert_ne!(reload.status.code(), Some(0), "{backend}");
        assert!(has_guard() && set(&lab) == ["lan0"], "{backend}");

        lab.gateway.must("umount", &["/proc/sys"]);
        let reload = gateway.agent.command("reload", &[]);
        assert_eq!(reload.status.code(), Some(0), "{backend}: {reload:?}");
        assert!(!has_guard() && set(&lab).is_empty(), "{backend}");
        service.stop();
    }
}

/// Waits until `route_localnet` is set on these interfaces and no others.
fn wait_until_set(lab: &Lab, expected: &[&str]) {
    let end = Instant::now() + DEADLINE;
    while set(lab) != expected {
        assert!(Instant::now() < end, "{:?} instead of {expected:?}", set(lab));
        std::thread::yield_now();
    }
}

#[test]
fn an_interface_that_gets_another_name_keeps_the_sysctl_while_it_is_needed_and_no_longer() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    let server = lab.lan.enter(|| TcpListener::bind("192.168.77.2:80")).unwrap();
    gateway.agent.configure(&gateway.config(FORWARD));
    let mut service = gateway.agent.start();
    lab.gateway.ip("link set lan0 down\nlink set lan0 name lan9\nlink set lan9 up\n");
    wait_until_set(&lab, &["lan9"]);
    works(&lab, &server, "renamed");
    service.signal(Signal::KILL);
    service.wait();
    lab.gateway.ip("link set lan9 down\nlink set lan9 name lan7\n");
    gateway.agent.must("flush", &[]);
    assert_eq!(set(&lab), [""; 0]);
}

#[test]
fn when_the_guard_is_gone_and_can_not_be_written_again_the_sysctl_is_off() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BackendName::Nftables);
    let server = lab.lan.enter(|| TcpListener::bind("192.168.77.2:80")).unwrap();
    gateway.agent.configure(&gateway.config(FORWARD));
    let mut service = gateway.agent.start();
    assert_eq!(set(&lab), ["lan0"]);
    // A table of somebody else's in the place of ours: it is not touched.
    let table = "delete table inet ip-masq-agent\nadd table inet ip-masq-agent\nadd chain inet ip-masq-agent theirs\n";
    lab.gateway.nft(table);
    wait_until_set(&lab, &[]);
    let diff = gateway.agent.command("diff", &[]);
    assert_ne!(diff.status.code(), Some(0), "{diff:?}");
    lab.gateway.must("nft", &["delete table inet ip-masq-agent"]);
    gateway.agent.must("reload", &[]);
    works(&lab, &server, "repaired");
    service.stop();
    assert_eq!(set(&lab), [""; 0]);
}

#[test]
fn diff_and_status_know_the_sysctl() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    gateway.agent.configure(&gateway.config(FORWARD));
    let mut service = gateway.agent.start();
    assert!(gateway.agent.must("status", &[]).contains("sysctl: net.ipv4.conf.lan0.route_localnet=1 (was 0)"));
    assert_eq!(gateway.agent.must("diff", &[]), "");
    lab.gateway.sysctl("net/ipv4/conf/lan0/route_localnet", "0");
    let said = "net.ipv4.conf.lan0.route_localnet is not 1, and localhost of portForwards needs it";
    let diff = gateway.agent.command("diff", &[]);
    assert_eq!((diff.status.code(), String::from_utf8_lossy(&diff.stdout)), (Some(1), format!("# {said}\n").into()));
    let check = gateway.agent.command("check", &["--host"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains(said), "{check:?}");
    service.signal(Signal::KILL);
    service.wait();
    let check = gateway.agent.command("check", &["--host"]);
    let note = format!("note: {said}; the service sets it when it starts\n");
    assert!(check.status.success() && String::from_utf8_lossy(&check.stderr).ends_with(&note), "{check:?}");
    gateway.agent.must("flush", &[]);
}

#[test]
fn a_sysctl_that_somebody_switches_off_is_told_while_it_is_off_and_when_it_is_on_again() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&gateway.config(&format!("manageSysctl: true\nresyncInterval: 24h\n{FORWARD}")));
        let mut service = gateway.agent.start();
        // Answered once all that belongs to the start is done.
        gateway.agent.must("status", &[]);
        let (forwarding, localnet) = ("net/ipv4/ip_forward", "net/ipv4/conf/lan0/route_localnet");
        for (sysctl, why) in
            [(forwarding, "manageSysctl asks for it"), (localnet, "localhost of portForwards needs it")]
        {
            let name = sysctl.replace('/', ".");
            lab.gateway.sysctl(sysctl, "0");
            // Polling, it is on again within a second.
            if *backend != BackendName::IptablesLegacy {
                let said = format!("{name} is not 1, and {why}");
                let status = gateway.agent.command("status", &[]);
                let text = String::from_utf8_lossy(&status.stdout);
                let first = text.lines().next().unwrap_or_default();
                assert_eq!((status.status.code(), first.contains(&said)), (Some(1), true), "{backend}: {text}");
                service.wait_for(&format!("STATUS=degraded: {said}"));
                let check = gateway.agent.command("check", &["--host"]);
                assert!(String::from_utf8_lossy(&check.stdout).contains(&said), "{backend}: {check:?}");
                gateway.agent.must("reload", &[]);
            }
            let line = service.wait_for_log("switched ");
            assert_eq!(line, format!("<5>another program switched {name} off; set to 1 again"), "{backend}");
            assert!(gateway.agent.command("status", &[]).status.success(), "{backend}");
        }
        for _ in 0..5 {
            lab.gateway.sysctl(forwarding, "0");
            gateway.agent.must("reload", &[]);
            assert_eq!(self::forwarding(&lab), "11", "{backend}");
        }
        assert!(gateway.agent.command("status", &[]).status.code() == Some(1), "{backend}: somebody keeps at it");
        service.stop();
        let said = |part: &str| service.log.iter().filter(|line| line.contains(part)).count();
        assert_eq!(
            (said("set to 1 again"), said("another program keeps switching")),
            (4, 1),
            "{backend}: {:#?}",
            service.log
        );
    }
}

#[test]
fn applied_once_what_could_not_be_set_is_told() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    lab.gateway.must("sh", &["-c", "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"]);
    gateway.agent.configure(&gateway.config(FORWARD));
    let once = gateway.agent.command("run", &["--once"]);
    let said = "net.ipv4.conf.lan0.route_localnet can't be set to 1, and localhost of portForwards needs it: ";
    assert!(String::from_utf8_lossy(&once.stderr).contains(said), "{once:?}");
}

/// Whether IPv4 and IPv6 are forwarded.
fn forwarding(lab: &Lab) -> String {
    let read = |path| fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned();
    lab.gateway.enter(|| read("ipv4/ip_forward") + &read("ipv6/conf/all/forwarding"))
}

#[test]
fn forwarding_is_on_while_the_service_runs_where_that_is_wanted_and_what_it_was_before_when_it_stops() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        lab.gateway.sysctl("net/ipv4/ip_forward", "0");
        lab.gateway.sysctl("net/ipv6/conf/all/forwarding", "0");
        gateway.agent.configure(&gateway.config(""));
        let mut service = gateway.agent.start();
        assert_eq!(forwarding(&lab), "00", "{backend}: nobody asked for it");
        gateway.agent.configure(&gateway.config("manageSysctl: true\n"));
        gateway.agent.must("reload", &[]);
        assert_eq!(forwarding(&lab), "11", "{backend}");
        gateway.agent.configure(&gateway.config("manageSysctl: true\n").replace("enableIPv6: true\n", ""));
        gateway.agent.must("reload", &[]);
        assert_eq!(forwarding(&lab), "10", "{backend}: IPv6 is off");
        gateway.agent.configure(&gateway.config("manageSysctl: true\n"));
        gateway.agent.must("reload", &[]);
        assert!(service.stop().success(), "{backend}");
        assert_eq!(forwarding(&lab), "00", "{backend}: stopped");

        let mut service = gateway.agent.start();
        service.signal(Signal::KILL);
        service.wait();
        assert_eq!(forwarding(&lab), "11", "{backend}: killed");
        lab.gateway.sysctl("net/ipv4/ip_forward", "0");
        let diff = gateway.agent.command("diff", &[]);
        let shown = String::from_utf8_lossy(&diff.stdout).contains("# net.ipv4.ip_forward is not 1");
        assert!(shown, "{backend}: {diff:?}");
        let mut service = gateway.agent.start();
        lab.gateway.sysctl("net/ipv4/ip_forward", "0");
        gateway.agent.must("reload", &[]);
        assert_eq!(forwarding(&lab), "11", "{backend}: set again");
        service.stop();
        assert_eq!(forwarding(&lab), "00", "{backend}: stopped after a crash");

        lab.gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
        gateway.agent.configure(&gateway.config("manageSysctl: true\nonStop: keep\n"));
        let mut service = gateway.agent.start();
        service.stop();
        assert_eq!(forwarding(&lab), "11", "{backend}: kept");
        gateway.agent.must("flush", &[]);
        assert_eq!(forwarding(&lab), "01", "{backend}: flushed, and what was on stays on");
    }
}

#[test]
fn what_the_kernel_sets_with_forwarding_is_what_it_was_before_when_the_service_stops() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    let settings = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv4/conf/lan0/forwarding", "1"),
        ("net/ipv4/conf/wan0/forwarding", "0"),
        ("net/ipv6/conf/lan0/forwarding", "1"),
        ("net/ipv6/conf/wan0/forwarding", "0"),
    ];
    settings.iter().for_each(|(setting, value)| lab.gateway.sysctl(setting, value));
    gateway.agent.configure(&gateway.config("manageSysctl: true\n"));
    let mut service = gateway.agent.start();
    assert_eq!(forwarding(&lab), "11");
    service.signal(Signal::KILL);
    service.wait();
    let mut service = gateway.agent.start();
    assert!(service.stop().success());
    for (setting, value) in settings {
        let now = lab.gateway.enter(|| fs::read_to_string(format!("/proc/sys/{setting}")).unwrap());
        assert_eq!(now.trim(), value, "{setting}");
    }
}
