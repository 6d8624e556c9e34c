//! One instance per network namespace, and a way to reach it, whatever becomes of its files.

use super::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use service::Service;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

const AGAIN: &str = "both are there again";

/// Panics unless every way to a second instance is barred, and every question is answered by the first.
fn assert_alone(host: &Host, service: &Service) {
    let first = format!("as process {}", service.child.id());
    for second in [&["run"][..], &["run", "--once"], &["flush"]] {
        let refused = host.command(second);
        assert!(refused.code == Some(1) && refused.stderr.contains(&first), "{second:?}: {refused:?}");
    }
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert_eq!(host.command(&["status"]).code, Some(0));
}

/// Runs on a thread that is an ordinary user; `None` where there is none, in a user namespace.
fn as_stranger<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> Option<T> {
    host.node.enter(|| {
        // SAFETY: the bare call changes this thread alone, and it ends with this closure.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        (changed == 0).then(work)
    })
}

/// The same name as a socket of the service's, as anybody can bind it.
fn squat(name: &str) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    socket
}

#[test]
fn a_runtime_directory_that_is_removed_comes_back_and_admits_no_second_instance() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let lost: [(&str, &[&str]); 4] = [
        ("rm", &["-r", RUNTIME]),
        ("rm", &["/run/test/runtime/control.sock"]),
        ("rm", &["/run/test/runtime/lock"]),
        ("mv", &[RUNTIME, "/run/test/elsewhere"]),
    ];
    for (program, arguments) in lost {
        // Otherwise 'rm -r' finds the socket there again before it has come to the directory.
        service.signal(Signal::STOP);
        host.node.must(program, arguments);
        service.signal(Signal::CONT);
        service.wait_for_log(AGAIN);
        assert_alone(&host, &service);
        let mode = host.node.enter(|| fs::metadata(RUNTIME)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755, "everybody may ask for the status");
    }
    assert_eq!(service.stop().code(), Some(0));
    assert!(!host.node.enter(|| fs::exists(format!("{RUNTIME}/control.sock"))).unwrap());
    host.ready();
}

#[test]
fn a_file_system_that_is_mounted_over_it_is_noticed_at_the_next_resync() {
    let host = host!(&format!("{GOOD}resyncInterval: 1s\n"));
    let mut service = host.ready();
    host.node.must("mount", &["-t", "tmpfs", "-o", "mode=700", "tmpfs", RUNTIME]);
    service.wait_for_log(AGAIN);
    assert_alone(&host, &service);
}

#[test]
fn another_runtime_directory_and_another_mount_namespace_admit_no_second_instance_either() {
    let host = host!(GOOD);
    let service = host.ready();
    let first = format!("already in this network namespace, as process {}", service.child.id());
    let mut elsewhere = host.prepare(&["run", "--once"]);
    elsewhere.env("RUNTIME_DIRECTORY", "/run/test/elsewhere");
    let refused = host.node.enter(|| elsewhere.output()).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(&first), "{said}");

    let mut container = Command::new("unshare");
    container.args(["--mount", "sh", "-c", "mount -t tmpfs -o mode=700 tmpfs /run/test/runtime && exec \"$@\"", "sh"]);
    container.args([service::BINARY, "run", "--once", "--config", CONFIG]);
    environment(&mut container);
    let refused = host.node.enter(|| container.output()).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(&first), "{said}");
    // As the guide finds it.
    let shown = host.node.must("sh", &["-c", "ss --unix --all | grep ip-masq-agent/instance"]);
    assert_eq!(shown.lines().count(), 1, "{shown}");
}

#[test]
fn an_ordinary_user_who_binds_our_names_stops_nobody() {
    let host = host!(GOOD);
    let mut service = host.ready();
    let sockets = host.node.enter(|| fs::read_to_string("/proc/thread-self/net/unix")).unwrap();
    let name = sockets.lines().find_map(|line| line.split_once(" @ip-masq-agent/")).unwrap().1;
    let name = format!("ip-masq-agent/{name}");
    service.stop();
    let names = [&name, "ip-masq-agent/instance/1/", "ip-masq-agent/instance/1"];
    let Some(squatted) = as_stranger(&host, || names.map(squat)) else {
        return lab::skip("there is no ordinary user here");
    };
    let mut service = host.ready();
    assert_alone(&host, &service);
    drop(squatted);
    assert_alone(&host, &service);
    service.stop();
    // Bound by root the same name is an instance.
    let root = host.node.enter(|| squat(&name));
    let mut refused = host.start();
    assert_eq!(refused.wait().code(), Some(1), "{:?}", refused.log);
    drop(root);
    host.ready();
}

#[test]
fn a_runtime_directory_of_an_ordinary_user_is_not_used_and_what_listens_there_not_asked() {
    let host = host!(GOOD);
    let path = format!("{RUNTIME}/control.sock");
    host.node.enter(|| fs::create_dir(RUNTIME)).unwrap();
    // Not in a user namespace.
    host.node.run("chown", &["65534", RUNTIME]);
    let Some(listener) = as_stranger(&host, || UnixListener::bind(&path).unwrap()) else {
        return lab::skip("there is no ordinary user here");
    };
    for command in ["status", "reload"] {
        let refused = host.command(&[command]);
        let said = refused.stdout + &refused.stderr;
        assert_eq!(
            (refused.code, &*said),
            (Some(3), "the service did not answer: its control socket belongs to another user\n")
        );
    }
    let mut service = host.start();
    assert_eq!(service.wait().code(), Some(1), "{:?}", service.log);
    let said = format!("the runtime directory '{RUNTIME}' belongs to user 65534, not to root");
    assert!(service.log.iter().any(|line| line.contains(&said)), "{:?}", service.log);
    drop(listener);
}
