//! What others name and say (programs, interfaces, files, rules, tools) comes out as text and as nothing else.

use super::*;
use service::Service;

/// A name of 14 bytes that begins a line, claims a priority, colours a terminal and turns its direction.
const NAME: &str = "x\n<0>\u{1b}[31my\u{202e}";
/// The same without what an interface's name can't have.
const INTERFACE: &str = "\u{1b}[31mif\u{202e}";

/// Panics when a terminal would do more with the text than show it.
fn assert_shown(what: &str, text: &str) {
    let acts =
        |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    assert!(!text.contains(acts), "{what}: {text:?}");
    let forged = text.lines().find(|line| line.starts_with("<0>"));
    assert_eq!(forged, None, "{what}: {text:?}");
}

/// Panics when a line of the log was begun by somebody else.
fn assert_log(service: &mut Service) {
    service.stop();
    for line in &service.log {
        let (priority, text) = line.split_at_checked(3).unwrap_or_default();
        assert!(["<3>", "<4>", "<5>", "<6>"].contains(&priority), "{line:?}");
        assert_shown("log", text);
    }
    service.unread().iter().for_each(|notification| assert_shown("notification", notification));
}

/// A program of the host under another name.
fn copy(host: &Host, program: &str, name: &str) -> String {
    let path = format!("/run/test/{name}");
    host.node.must("install", &["-m", "755", program, &path]);
    path
}

#[test]
fn the_name_of_a_program_that_changes_our_rules_begins_no_line_and_no_colour() {
    for backend in ["nftables", "iptables-nft"] {
        let host = host!(&format!("{GOOD}backend: {backend}\n"));
        let mut service = host.ready();
        let nft = copy(&host, "/usr/sbin/nft", NAME);
        host.node.must(&nft, &["flush", "ruleset"]);
        let line = service.wait_for_log("changed by x ");
        assert!(line.contains("<0>\u{fffd}[31my\u{fffd}["), "{line:?}");
        let status = host.command(&["status"]);
        assert!(status.stdout.contains("changed by x <0>"), "{status:?}");
        assert_shown("status", &status.stdout);
        let json = host.command(&["status", "--json"]).stdout;
        assert_shown("status --json", &json);
        assert_log(&mut service);
    }
}

#[test]
fn the_name_of_who_called_the_program_is_no_better_than_its_own() {
    let host = host!(&format!("{GOOD}backend: nftables\n"));
    let mut service = host.ready();
    let shell = copy(&host, "/bin/sh", NAME);
    // It stays at its prompt, so that its parent can still be looked up, until its standard input ends.
    let mut nft = Command::new(shell);
    nft.args(["-c", "nft -i; :"]).env("PATH", ip_masq_agent::sys::child::PATH);
    nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut nft = host.node.enter(|| nft.spawn()).unwrap();
    let mut prompt = nft.stdin.take().unwrap();
    prompt.write_all(b"flush ruleset\n").unwrap();
    let line = service.wait_for_log("changed by nft");
    let in_a_container = fs::read_link("/proc/self/ns/pid").unwrap().as_os_str() != "pid:[4026531836]";
    assert!(in_a_container || line.contains("called by x <0>"), "{line:?}");
    drop(prompt);
    nft.wait().unwrap();
    assert_shown("status", &host.command(&["status"]).stdout);
    assert_log(&mut service);
}

#[test]
fn names_of_files_and_interfaces_are_shown_and_not_obeyed() {
    let host = host!("resyncInterval: 1s\n");
    host.node.ip("link add wan0 type veth peer name wan-peer\naddr add 198.51.100.2/24 dev wan0\n\
                  link set wan0 up\nlink set wan-peer up\nroute add default via 198.51.100.1\n");
    let public = |arguments: &[&str]| _ = host.node.must("ip", arguments);
    public(&["link", "add", "name", INTERFACE, "type", "veth", "peer", "name", "if-peer"]);
    public(&["addr", "add", "203.0.113.1/28", "dev", INTERFACE]);
    public(&["link", "set", INTERFACE, "up"]);
    let fragments = "/run/test/config.d";
    let fragment = format!("{fragments}/{NAME}.yaml");
    host.node.enter(|| fs::create_dir(fragments)).unwrap();
    let write = |text: &str| host.node.enter(|| fs::write(&fragment, text)).unwrap();
    write("nonMasqueradeCIDRs: [203.0.113.128/25]\n");
    let ask = |arguments: &[&str]| {
        let more: &[&str] = if service::takes_files(arguments) { &["--config-dir", fragments] } else { &[] };
        let finished = host.command(&[arguments, more].concat());
        assert_shown(arguments[0], &(finished.stdout.clone() + &finished.stderr));
        finished.stdout + &finished.stderr
    };
    let mut service = host.start_as(host.prepare(&["run", "--config-dir", fragments]));
    service.wait_for("READY=1");
    let line = service.wait_for_log("has the public network");
    assert!(line.contains("\u{fffd}[31mif\u{fffd}"), "{line:?}");
    assert!(ask(&["status"]).contains("/x <0>"));
    ask(&["status", "--json"]);
    assert!(ask(&["check", "--host"]).contains("\u{fffd}[31mif\u{fffd}"));
    assert!(ask(&["explain", "203.0.113.200"]).contains("/x <0>"));
    ask(&["explain", "--json", "203.0.113.200"]);
    write("nonMasqueradeCIDRs: [203.0.113.128/33]\n");
    assert!(ask(&["reload"]).contains("203.0.113.128/33"));
    assert!(ask(&["status"]).starts_with("degraded: "));
    ask(&["check"]);
    assert_log(&mut service);
}

#[test]
fn rules_of_others_are_shown_and_not_obeyed() {
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("{GOOD}resyncInterval: 1s\nbackend: {backend}\n"));
        let script = format!(
            "table ip other {{ chain post {{ type nat hook postrouting priority 10; \
             counter masquerade comment \"{NAME}\"; }}; }}"
        );
        host.node.nft(&script);
        let check = host.command(&["check", "--host"]);
        assert!(check.stdout.contains("comment"), "{check:?}");
        assert_shown("check --host", &(check.stdout + &check.stderr));
        let mut service = host.ready();
        let explain = host.command(&["explain", "192.0.2.1"]);
        assert!(explain.stdout.contains("[31my"), "{explain:?}");
        assert_shown("explain", &(explain.stdout + &explain.stderr));
        let explain = host.command(&["explain", "--json", "192.0.2.1"]);
        assert_shown("explain --json", &explain.stdout);
        if backend != "nftables" {
            // Nobody takes it out meanwhile.
            service.signal(Signal::STOP);
            let rule = ["-t", "nat", "-A", "IP-MASQ-AGENT", "-m", "comment", "--comment", NAME, "-j", "ACCEPT"];
            host.node.must(backend, &rule);
            let diff = host.command(&["diff"]);
            let said = diff.stdout + &diff.stderr;
            assert!(said.contains("[31my"), "{said:?}");
            assert_shown("diff", &said);
            service.signal(Signal::CONT);
            service.wait_for_log("[31my");
        }
        assert_log(&mut service);
    }
}

#[test]
fn a_comment_with_line_breaks_forges_no_rule_of_ours() {
    let forged = "x\n-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT\nCOMMIT\n*nat\n:IP-MASQ-AGENT - [0:0]";
    for backend in ["iptables-nft", "iptables-legacy"] {
        let host = host!(&format!("{GOOD}backend: {backend}\n"));
        let _service = host.ready();
        let rule = ["-t", "nat", "-A", "POSTROUTING", "-m", "comment", "--comment", forged, "-j", "ACCEPT"];
        host.node.must(backend, &rule);
        assert_eq!(host.command(&["diff"]).code, Some(0), "{backend}");
        assert_eq!(host.command(&["reload"]).code, Some(0), "{backend}");
    }
}

#[test]
fn what_a_tool_says_begins_no_line_of_the_log() {
    let host = host!(&format!("{GOOD}backend: iptables-nft\n"));
    let mut service = host.ready();
    let says = format!("cat >/dev/null\nprintf '%s' '{NAME}' >&2\nexit 4");
    host.node.replace("iptables-nft-restore", &says);
    host.configure(&format!("{OTHER}backend: iptables-nft\n"));
    let refused = host.command(&["reload"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("[31my"), "{refused:?}");
    assert_shown("reload", &refused.stderr);
    let status = host.command(&["status"]);
    assert!(status.stdout.contains("[31my"), "{status:?}");
    assert_shown("status", &status.stdout);
    host.node.give_back("iptables-nft-restore");
    assert_log(&mut service);
}
