//! Taking a change back.

use super::*;
use crate::lab::DEADLINE;
use ip_masq_agent::agent::{ReloadAnswer, ReloadOutcome, TrialDetails};
use ip_masq_agent::service::control::{self, Asked, Request};
use std::sync::mpsc::channel;

const FRAGMENTS: &str = "/run/test/config.d";

fn read(host: &Host, path: &str) -> String {
    host.node.enter(|| fs::read_to_string(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_last_good_configuration_is_printed_and_written_back_and_nothing_is_lost() {
    let host = host!(GOOD);
    let none = host.command(&["last-good"]);
    assert_eq!((none.code, &*none.stderr), (Some(1), "no configuration has been saved as good yet\n"));
    let fragment = format!("{FRAGMENTS}/10-vpn.yaml");
    host.node.enter(|| {
        fs::create_dir(FRAGMENTS).unwrap();
        fs::write(&fragment, "masqMulticast: true").unwrap();
    });
    let with_fragments = ["--config-dir", FRAGMENTS];
    let mut service = host.start_as(host.prepare(&["run", "--config-dir", FRAGMENTS]));
    service.wait_for("READY=1");
    // Ready is said before it is saved, and this is answered after it.
    assert_eq!(host.command(&["status"]).code, Some(0));
    let last_good = |more: &[&str]| host.command(&[&["last-good"][..], more, &with_fragments].concat());
    let printed = last_good(&[]);
    let expected = format!("# {CONFIG}\n{GOOD}# {fragment}\nmasqMulticast: true\n");
    assert_eq!((printed.code, printed.stdout), (Some(0), expected), "{}", printed.stderr);
    assert_eq!(last_good(&["--restore"]).stdout, "the files are as they were\n");
    let relative = ["last-good", "--restore", "--config-dir", "config.d", "--config", "config.yaml"];
    let mut from_there = Command::new(service::BINARY);
    from_there.args(relative).current_dir("/run/test");
    environment(&mut from_there);
    let from_there = host.node.enter(|| from_there.output()).unwrap();
    assert_eq!(String::from_utf8_lossy(&from_there.stdout), "the files are as they were\n", "{from_there:?}");

    let other = format!("{FRAGMENTS}/20-new.yaml");
    host.configure(BAD);
    host.node.enter(|| {
        fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(&fragment).unwrap();
        fs::write(&other, "masqLinkLocal: true\n").unwrap();
    });
    let elsewhere = host.command(&["last-good", "--restore"]);
    assert_eq!(elsewhere.code, Some(2), "without the directory that the service was given: {elsewhere:?}");
    let restored = last_good(&["--restore"]);
    let said = format!(
        "{CONFIG}: restored; what was there is now {CONFIG}.before-restore\n{fragment}: restored\n\
         {other}: removed, it was not part of it; what was there is now {other}.before-restore\n"
    );
    assert_eq!((restored.code, restored.stdout), (Some(0), said), "{}", restored.stderr);
    assert_eq!((read(&host, CONFIG), read(&host, &fragment)), (GOOD.to_owned(), "masqMulticast: true".to_owned()));
    assert_eq!(read(&host, &format!("{CONFIG}.before-restore")), BAD);
    assert_eq!(read(&host, &format!("{other}.before-restore")), "masqLinkLocal: true\n");
    let mode = host.node.enter(|| fs::metadata(CONFIG)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640, "its mode is kept");
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert_eq!(host.command(&["status"]).code, Some(0));
}

#[test]
fn a_restore_that_can_not_write_leaves_everything_as_it_was() {
    let host = host!(GOOD);
    let _service = host.ready();
    assert_eq!(host.command(&["status"]).code, Some(0));
    host.configure(BAD);
    // Stands for a full disk.
    host.node.enter(|| fs::create_dir(format!("{CONFIG}.new"))).unwrap();
    let refused = host.command(&["last-good", "--restore"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("can't write"), "{refused:?}");
    let kept = format!("{CONFIG}.before-restore");
    assert!(read(&host, CONFIG) == BAD && !host.node.enter(|| fs::exists(&kept)).unwrap());
    host.node.enter(|| fs::remove_dir(format!("{CONFIG}.new"))).unwrap();
    assert_eq!(host.command(&["last-good", "--restore"]).code, Some(0));
    assert_eq!((read(&host, CONFIG), read(&host, &kept)), (GOOD.to_owned(), BAD.to_owned()));
}

#[test]
fn a_service_that_was_given_a_relative_path_names_its_files_from_the_root_directory() {
    let host = host!(GOOD);
    let mut command = Command::new(service::BINARY);
    command.args(["run", "--config", "config.yaml"]).current_dir("/run/test");
    environment(&mut command);
    let mut service = host.start_as(command);
    service.wait_for("READY=1");
    assert!(host.command(&["status"]).stdout.contains(&format!(" configuration: {CONFIG} (generation 1)\n")));
    assert_eq!(host.command(&["last-good", "--restore"]).stdout, "the files are as they were\n");
}

#[test]
fn what_is_in_force_while_the_file_is_broken_is_told_with_what_the_answer_leaves_out() {
    let host = host!(GOOD);
    let mut service = host.start_as(host.prepare(&["run", "--masq-multicast"]));
    service.wait_for("READY=1");
    assert_eq!(host.command(&["status"]).code, Some(0), "it is saved");
    host.configure(BAD);
    let mut command = Command::new(service::BINARY);
    command.args(["explain", "10.1.2.3", "--config", "config.yaml"]).current_dir("/run/test");
    environment(&mut command);
    let told: service::Finished = host.node.enter(|| command.output()).unwrap().into();
    assert!(told.stdout.contains("  by       10.0.0.0/8, /run/test/config.yaml:1:22\n"), "{told:?}");
    let end = "this is the last good configuration, which is in force\n\
               without the options of the service: --masq-multicast=true\n";
    assert!(told.stderr.ends_with(end), "{told:?}");
}

fn in_kernel(host: &Host, range: &str) -> bool {
    host.node.must("nft", &["list", "table", "inet", "ip-masq-agent"]).contains(range)
}

const EARLIER: &str = "backend: nftables\nnonMasqueradeCIDRs: [10.0.0.0/8]\n";
const CANDIDATE: &str = "backend: nftables\nnonMasqueradeCIDRs: [192.0.2.0/24]\n";
const CANDIDATE_FILE: &str = "/run/test/candidate.yaml";

fn candidate(host: &Host, text: &str) {
    host.node.enter(|| fs::write(CANDIDATE_FILE, text)).unwrap();
}

#[test]
fn what_nobody_confirms_is_taken_back_by_the_service_itself() {
    let host = host!(EARLIER);
    let mut service = host.ready();
    candidate(&host, CANDIDATE);
    let tried = host.command(&["try", "--timeout", "2s", CANDIDATE_FILE]);
    assert_eq!(tried.code, Some(0), "{tried:?}");
    assert!(tried.stderr.starts_with(&format!("trying {CANDIDATE_FILE}, goes back at ")), "{tried:?}");
    assert!(in_kernel(&host, "192.0.2.0/24"));
    service.wait_for(&format!("STATUS=trying {CANDIDATE_FILE}, goes back at "));
    let status = host.command(&["status"]);
    assert!(status.code == Some(0) && status.stdout.contains("goes back at "), "{status:?}");
    let again = host.command(&["try", CANDIDATE_FILE]);
    assert!(again.code == Some(1) && again.stderr.contains("is being tried (by "), "{again:?}");
    let reload = host.command(&["reload"]);
    assert!(reload.code == Some(1) && reload.stderr.contains("'ip-masq-agent confirm' keeps it"), "{reload:?}");
    service.wait_for_log("was not confirmed in time; the earlier configuration is in force again");
    assert!(in_kernel(&host, "10.0.0.0/8") && !in_kernel(&host, "192.0.2.0/24"));
    service.wait_for("STATUS=masquerading");
    assert_eq!(read(&host, CONFIG), EARLIER);
    let late = host.command(&["confirm"]);
    assert_eq!((late.code, &*late.stderr), (Some(1), "nothing is being tried\n"));
    assert_eq!(host.command(&["diff"]).code, Some(0));
}

#[test]
fn what_is_confirmed_is_installed_with_owner_and_mode_and_a_full_disk_loses_nothing() {
    let host = host!(EARLIER);
    let mut service = host.ready();
    candidate(&host, CANDIDATE);
    host.node.enter(|| fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o640))).unwrap();
    assert_eq!(host.command(&["try", "--timeout", "1h", CANDIDATE_FILE]).code, Some(0));
    // What is written first can't be.
    let new = format!("{CONFIG}.new");
    host.node.enter(|| fs::create_dir(&new)).unwrap();
    let full = host.command(&["confirm"]);
    let said = format!("nothing is confirmed, the service goes back at its time: can't write '{new}': ");
    assert!(full.code == Some(1) && full.stderr.starts_with(&said), "{full:?}");
    assert_eq!(read(&host, CONFIG), EARLIER);
    assert!(in_kernel(&host, "192.0.2.0/24"), "it is still tried");
    let explained = host.command(&["explain", "192.0.2.9"]);
    assert!(explained.stdout.contains("  by       192.0.2.0/24, /run/test/config.yaml:2:22\n"), "{explained:?}");
    assert!(explained.stderr.starts_with("/run/test/candidate.yaml is being tried, goes back at "), "{explained:?}");
    host.node.enter(|| fs::remove_dir(&new)).unwrap();
    let confirmed = host.command(&["confirm"]);
    let said = format!("{CANDIDATE_FILE} is confirmed and stays in force; it is now {CONFIG}");
    assert_eq!((confirmed.code, &*confirmed.stderr), (Some(0), &*format!("{said}\n")));
    service.wait_for_log(&said);
    assert_eq!(read(&host, CONFIG), CANDIDATE);
    assert_eq!(host.node.enter(|| fs::metadata(CONFIG)).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(host.command(&["last-good"]).stdout, format!("# {CONFIG}\n{CANDIDATE}"));
    let status = host.command(&["status"]);
    assert!(status.code == Some(0) && !status.stdout.contains("goes back"), "{status:?}");
    service.signal(Signal::KILL);
    service.wait();
    let _service = host.ready();
    assert!(in_kernel(&host, "192.0.2.0/24"));
}

#[test]
fn a_service_that_dies_while_something_is_tried_comes_back_with_the_earlier_configuration() {
    let host = host!("configWatch: off\nbackend: nftables\nnonMasqueradeCIDRs: [10.0.0.0/8]\n");
    for end in [Signal::KILL, Signal::TERM] {
        let mut service = host.ready();
        // The files themselves.
        host.configure(&format!("configWatch: off\n{CANDIDATE}"));
        assert_eq!(host.command(&["try", "--timeout", "1h"]).code, Some(0));
        assert!(in_kernel(&host, "192.0.2.0/24"));
        service.signal(end);
        service.wait();
        let mut service = host.ready();
        assert!(in_kernel(&host, "10.0.0.0/8") && !in_kernel(&host, "192.0.2.0/24"), "{end:?}");
        let held = "was tried and not confirmed; the earlier configuration is in force until a reload or an edit";
        service.wait_for_log(held);
        let status = host.command(&["status"]);
        assert!(status.code == Some(0) && status.stdout.contains(held), "{status:?}");
        host.configure("configWatch: off\nbackend: nftables\nnonMasqueradeCIDRs: [10.0.0.0/8]\n");
        assert_eq!(host.command(&["reload"]).code, Some(0));
        service.stop();
    }
    // Another file in the place of the main one.
    let mut service = host.ready();
    candidate(&host, CANDIDATE);
    assert_eq!(host.command(&["try", "--timeout", "1h", CANDIDATE_FILE]).code, Some(0));
    service.signal(Signal::KILL);
    service.wait();
    let mut service = host.ready();
    service.wait_for_log("a configuration that was being tried was not confirmed; the earlier one is in force again");
    assert!(in_kernel(&host, "10.0.0.0/8"));
    assert_eq!(host.command(&["status"]).code, Some(0));
}

#[test]
fn a_candidate_that_is_wrong_is_refused_by_its_own_name_and_changes_nothing() {
    let host = host!(EARLIER);
    let none = host.command(&["try", CANDIDATE_FILE]);
    assert_eq!(none.code, Some(78), "{none:?}");
    candidate(&host, BAD);
    assert_eq!(host.command(&["try", CANDIDATE_FILE]).code, Some(3), "nobody is there");
    let _service = host.ready();
    let wrong = host.command(&["try", CANDIDATE_FILE]);
    assert!(wrong.code == Some(78) && wrong.stderr.starts_with(&format!("{CANDIDATE_FILE}:1:22: ")), "{wrong:?}");
    candidate(&host, EARLIER);
    let same = host.command(&["try", CANDIDATE_FILE]);
    assert!(same.code == Some(1) && same.stderr.starts_with("nothing to try"), "{same:?}");
    for timeout in ["0s", "25h", "60", "soon"] {
        assert_eq!(host.command(&["try", "--timeout", timeout, CANDIDATE_FILE]).code, Some(2), "{timeout}");
    }
    assert!(in_kernel(&host, "10.0.0.0/8"));
    // As long as a file may be, and as often.
    let long = format!("{CANDIDATE}#{}\n", "x".repeat(20 << 20));
    candidate(&host, &long);
    assert_eq!(host.command(&["try", "--timeout", "1h", CANDIDATE_FILE]).code, Some(0));
    assert_eq!(host.command(&["confirm"]).code, Some(0));
    assert_eq!(read(&host, CONFIG), long);
}

#[test]
fn with_the_watch_off_an_edit_waits_for_a_reload_and_is_shown() {
    let off = |range: &str| {
        format!("configWatch: off\nbackend: nftables\nresyncInterval: 1s\nnonMasqueradeCIDRs: [{range}]\n")
    };
    let host = host!(&off("10.0.0.0/8"));
    let mut service = host.ready();
    host.configure(&off("192.0.2.0/24"));
    let differs = format!("{CONFIG} differs from what is applied; 'systemctl reload ip-masq-agent' applies it");
    service.wait_for_log(&differs);
    let generation = host.generation();
    host.node.must("nft", &["flush", "ruleset"]);
    service.wait_for_log("repaired in");
    assert!(in_kernel(&host, "10.0.0.0/8") && host.generation() > generation);
    let status = host.command(&["status", "--json"]);
    assert!(status.code == Some(0) && status.stdout.contains(&differs), "{status:?}");
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert!(in_kernel(&host, "192.0.2.0/24"));
    assert!(!host.command(&["status"]).stdout.contains("differs"));
}

/// `try` on a terminal of its own; what is typed there is what the test writes. Ends with the exit status of `try`.
fn on_a_terminal(host: &Host) -> Child {
    let mut script = Command::new("script");
    environment(&mut script);
    let tried = format!("exec {} try --timeout 1h {CANDIDATE_FILE}", service::BINARY);
    script.args(["--quiet", "--return", "--command", &tried, "/dev/null"]);
    host.node.enter(|| script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()).unwrap()
}

/// Reads what it says up to the request for a key.
fn wait_for_the_question(child: &mut Child) {
    let stdout = child.stdout.as_mut().unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 256]);
    while !said.contains("press Enter to keep it") {
        let count = stdout.read(&mut buffer).unwrap();
        assert!(count > 0, "{said}");
        said += &String::from_utf8_lossy(&buffer[..count]);
    }
}

fn ask(host: &Host, request: &Request) -> Asked {
    host.node.enter(|| control::begin(Path::new(RUNTIME), request, DEADLINE)).unwrap().unwrap()
}

fn trial(host: &Host) -> TrialDetails {
    serde_json::from_slice(&ask(host, &Request::Trial).answer(DEADLINE).unwrap()).unwrap()
}

/// Waits until it ends by itself; its exit status, and what it said since the question.
fn wait_for_the_end(mut tried: Child) -> (Option<i32>, String) {
    let (sender, ended) = channel();
    let mut stdout = tried.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| sender.send(said))
    });
    let Ok(said) = ended.recv_timeout(DEADLINE) else {
        tried.kill().unwrap();
        panic!("it still waits");
    };
    (tried.wait().unwrap().code(), said)
}

#[test]
fn a_trial_on_a_terminal_ends_with_no_key_when_somebody_else_ends_it_and_says_how() {
    let host = host!(EARLIER);
    let mut service = host.ready();
    candidate(&host, CANDIDATE);
    let begun = || {
        let mut tried = on_a_terminal(&host);
        wait_for_the_question(&mut tried);
        // It is answered after what `try` has asked.
        trial(&host);
        tried
    };
    let tried = begun();
    assert_eq!(host.command(&["confirm"]).code, Some(0));
    let (code, said) = wait_for_the_end(tried);
    assert!(code == Some(0) && said.contains("is confirmed and stays in force; it is now "), "{code:?} {said}");

    candidate(&host, EARLIER);
    let tried = begun();
    assert_eq!(service.stop().code(), Some(0));
    let (code, said) = wait_for_the_end(tried);
    let stopping = "the service is stopping; it starts again with the earlier configuration";
    assert!(code == Some(1) && said.contains(stopping), "{code:?} {said}");

    let mut service = host.ready();
    let tried = begun();
    service.signal(Signal::KILL);
    service.wait();
    let (code, said) = wait_for_the_end(tried);
    assert!(code == Some(3) && said.contains("the service is not running"), "{code:?} {said}");
    assert_eq!(read(&host, CONFIG), CANDIDATE);
}

#[test]
fn a_key_on_a_terminal_that_comes_after_the_end_overwrites_no_later_edit_and_says_how_it_ended() {
    const LATER: &str = "nonMasqueradeCIDRs: [198.51.100.0/24]\n";
    let host = host!(EARLIER);
    let service = host.ready();
    for (key, code) in [(b"\r", 0), (b"\x03", 1)] {
        host.configure(EARLIER);
        assert_eq!(host.command(&["reload"]).code, Some(0));
        candidate(&host, CANDIDATE);
        let mut tried = on_a_terminal(&host);
        wait_for_the_question(&mut tried);
        let number = trial(&host).report.number;
        // The key is there before the service has told of the end.
        service.signal(Signal::STOP);
        let confirmed = ask(&host, &Request::Confirm(number));
        host.configure(LATER);
        let before = sockets_of_child(&tried);
        tried.stdin.as_mut().unwrap().write_all(key).unwrap();
        host.wait_for("another question", || sockets_of_child(&tried) > before);
        service.signal(Signal::CONT);
        let answer: ReloadAnswer = serde_json::from_slice(&confirmed.answer(DEADLINE).unwrap()).unwrap();
        assert_eq!(answer.outcome, ReloadOutcome::Applied, "{}", answer.message);
        let (ended, said) = wait_for_the_end(tried);
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains("is confirmed and stays in force"), "{said}");
        assert_eq!(read(&host, CONFIG), LATER);
    }
}

/// How many sockets the program on a terminal has open.
fn sockets_of_child(terminal: &Child) -> usize {
    let id = terminal.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let files = fs::read_dir(format!("/proc/{}/fd", children.trim())).unwrap();
    let is_socket = |path: &Path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    files.filter(|file| file.as_ref().is_ok_and(|file| is_socket(&file.path()))).count()
}

#[test]
fn on_a_terminal_enter_keeps_it_and_control_c_takes_it_back_and_its_end_does_neither() {
    let host = host!(EARLIER);
    let mut service = host.ready();
    candidate(&host, CANDIDATE);
    let mut tried = on_a_terminal(&host);
    wait_for_the_question(&mut tried);
    assert!(in_kernel(&host, "192.0.2.0/24"));
    tried.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(tried.wait().unwrap().code(), Some(0));
    service.wait_for_log("was taken back; the earlier configuration is in force again");
    assert!(in_kernel(&host, "10.0.0.0/8"));

    let mut cut_off = on_a_terminal(&host);
    wait_for_the_question(&mut cut_off);
    cut_off.kill().unwrap();
    cut_off.wait().unwrap();
    assert!(in_kernel(&host, "192.0.2.0/24"), "only the service's own time ends it");
    assert_eq!(host.command(&["confirm"]).code, Some(0));

    candidate(&host, EARLIER);
    let mut tried = on_a_terminal(&host);
    wait_for_the_question(&mut tried);
    tried.stdin.as_mut().unwrap().write_all(b"\r").unwrap();
    assert_eq!(tried.wait().unwrap().code(), Some(0));
    assert_eq!(read(&host, CONFIG), EARLIER);
    let status = host.command(&["status"]);
    assert!(status.code == Some(0) && !status.stdout.contains("goes back"), "{status:?}");
}
