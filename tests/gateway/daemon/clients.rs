//! Who may ask over the control socket, and who can do harm there.

use super::*;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::os::unix::process::CommandExt;

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

/// A command of the program as an ordinary user; `None` where there is none, as in a user namespace.
pub fn as_nobody(host: &Host, arguments: &[&str]) -> Option<service::Finished> {
    let output = host.node.enter(|| {
        // Where it was built an ordinary user may not look.
        if !fs::exists("/run/test/binary").unwrap() {
            host.node.must("cp", &[service::BINARY, "/run/test/binary"]);
        }
        let mut asking = Command::new("/run/test/binary");
        environment(&mut asking);
        asking.args(arguments).uid(65534).gid(65534).stdin(Stdio::null()).output()
    });
    output.ok().map(Into::into)
}

#[test]
fn an_ordinary_user_is_told_the_status_and_that_only_root_may_do_more() {
    let host = host!(GOOD);
    let _service = host.ready();
    let Some(status) = as_nobody(&host, &["status"]) else { return lab::skip("there is no ordinary user here") };
    assert!(status.code == Some(0) && status.stdout.starts_with("masquerading IPv4"), "{status:?}");
    host.configure("nonMasqueradeCIDRs: [10.0.0.0/33] # the key is 1234\n");
    assert_eq!(host.command(&["reload"]).code, Some(78));
    let status = as_nobody(&host, &["status", "--json"]).unwrap();
    assert!(status.code == Some(1) && !status.stdout.contains("1234"), "{status:?}");
    let explained = as_nobody(&host, &["explain", "10.1.2.3", "--config", CONFIG]).unwrap();
    let root_is = "root is told what is in force while the files are not valid\n";
    assert!(explained.code == Some(78) && explained.stderr.starts_with(root_is), "{explained:?}");
    host.node.enter(|| fs::write("/run/test/good.yaml", GOOD).unwrap());
    let checked = as_nobody(&host, &["check", "--host", "--config", "/run/test/good.yaml"]).unwrap();
    let needs = "the nat rules of other programs can't be read: it needs root with CAP_NET_ADMIN and CAP_NET_RAW\n";
    assert!(checked.code == Some(1) && checked.stdout.ends_with(needs), "{checked:?}");
    for (arguments, code, said) in [
        (&["reload"][..], 1, "reload needs root\n"),
        (&["try"], 1, "try needs root\n"),
        (&["confirm"], 1, "confirm needs root\n"),
        (
            &["run", "--once"],
            1,
            "the lock '/run/test/runtime/lock' can't be taken: Permission denied (os error 13); this needs root\n",
        ),
        (&["last-good"], 1, "last-good needs root\n"),
        (&["flush"], 1, "flush needs root\n"),
    ] {
        let asked = as_nobody(&host, arguments).unwrap();
        assert_eq!((asked.code, &*asked.stderr), (Some(code), said), "{arguments:?}");
    }
    let refused = host.node.enter(|| {
        let mut stream = UnixStream::connect(format!("{RUNTIME}/status.sock"))?;
        stream.write_all(b"reload\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    });
    assert_eq!(refused.unwrap(), b"", "at everybody's socket root is like everybody");
}

#[test]
fn an_ordinary_user_who_hangs_on_keeps_neither_root_nor_others_out() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let connect = |name: &str| host.node.enter(|| UnixStream::connect(format!("{RUNTIME}/{name}"))).unwrap();
    let mut hanging = Vec::new();
    for number in 0..200 {
        let mut stream = connect("status.sock");
        // Some never speak, some never read.
        if number % 2 == 0 {
            let _ = stream.write_all(b"status\n");
        }
        hanging.push(stream);
    }
    host.configure(OTHER);
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(host.rules().contains("-d 192.168.0.0/16"));
    let Some(status) = as_nobody(&host, &["status"]) else { return lab::skip("there is no ordinary user here") };
    assert!(status.code == Some(0) && status.stdout.starts_with("masquerading IPv4"), "{status:?}");
    drop(hanging);
    assert!(service.stop().success());
}

#[test]
fn who_asks_for_the_status_all_the_time_delays_no_repair() {
    let host = host!("backend: nftables\n");
    let mut service = host.ready();
    let ask = || {
        let mut stream = host.node.enter(|| UnixStream::connect(format!("{RUNTIME}/status.sock"))).unwrap();
        stream.write_all(b"status\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    let before = ticks(service.pid());
    // Two seconds' worth of a hundred clients a second.
    for _ in 0..200 {
        assert!(ask().starts_with(b"{\"summary\":\"masquerading"));
    }
    let spent = ticks(service.pid()) - before;
    assert!(spent < 30, "{spent} ticks for 200 clients");
    // One more and it would be called a fight.
    for _ in 0..4 {
        host.node.must("nft", &["flush", "ruleset"]);
        (0..20).for_each(|_| drop(ask()));
        let line = service.wait_for_log("repaired in");
        assert!(line.contains("changed by nft"), "{line}");
    }
    host.wait_for("the truth again", || ask().starts_with(b"{\"summary\":\"masquerading"));
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

/// utime and stime of proc_pid_stat(5), in ticks of which a second has a hundred.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    behind_name[11].parse::<u64>().unwrap() + behind_name[12].parse::<u64>().unwrap()
}

#[test]
fn a_service_that_has_no_descriptor_left_waits_for_one_and_does_not_spin() {
    let host = host!(GOOD);
    let mut command = host.prepare(&["run"]);
    command.env("WATCHDOG_USEC", "1000000");
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    assert_eq!(host.command(&["status"]).code, Some(0));
    let pid = service.child.id();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 3), maximum: Some(open + 3) };
    prlimit(Some(Pid::from_child(&service.child)), Resource::Nofile, limit).unwrap();
    let connect = || host.node.enter(|| UnixStream::connect(format!("{RUNTIME}/control.sock"))).unwrap();
    let silent: Vec<UnixStream> = (0..40).map(|_| connect()).collect();
    // The service's own clock: two a second.
    (0..2).for_each(|_| _ = service.wait_for("WATCHDOG=1"));
    let before = ticks(pid);
    (0..6).for_each(|_| _ = service.wait_for("WATCHDOG=1"));
    let spent = ticks(pid) - before;
    assert!(spent < 60, "{spent} ticks in 3 s");
    drop(silent);
    assert_eq!(host.command(&["status"]).code, Some(0), "who asks now is answered");
}
