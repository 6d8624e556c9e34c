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

#[test]
fn an_ordinary_user_is_told_that_only_root_may_ask() {
    let host = host!(GOOD);
    let _service = host.ready();
    let ask = |command: &str| {
        host.node.enter(|| {
            // Where it was built an ordinary user may not look.
            fs::copy(service::BINARY, "/run/test/binary").unwrap();
            let mut asking = Command::new("/run/test/binary");
            environment(&mut asking);
            asking.arg(command).uid(65534).gid(65534).output()
        })
    };
    for (command, status, expected) in
        [("status", 3, "the service did not answer: this needs root\n"), ("flush", 1, "flush needs root\n")]
    {
        // In a user namespace there may be no other user.
        let Ok(asked) = ask(command) else { return lab::skip("there is no ordinary user here") };
        let said = String::from_utf8_lossy(if command == "flush" { &asked.stderr } else { &asked.stdout });
        assert_eq!((asked.status.code(), &*said), (Some(status), expected));
    }
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
