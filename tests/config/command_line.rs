//! The command line: every key is a flag of the commands on which it has an effect.

use super::{source, yaml};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use ip_masq_agent::cli::{Cli, Options, Subcommands};
use ip_masq_agent::config::{Flags, KEYS, Key, Locations, parse};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Those that use the configuration, and those that don't.
const COMMANDS: [&str; 6] = ["run", "check", "render", "diff", "explain", "flush"];
const OTHERS: [&str; 6] = ["reload", "try", "confirm", "last-good", "import", "status"];

fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"ip-masq-agent").chain(arguments))?.options()
}

fn given(arguments: &[&str]) -> Flags {
    options(arguments).unwrap_or_else(|error| panic!("{error}")).keys.flags
}

fn values(flags: &Flags, key: Key) -> Vec<String> {
    flags.iter().find(|(given, _)| *given == key).map(|(_, values)| values.to_vec()).unwrap_or_default()
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ip-masq-agent")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
    let render = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ip-masq-agent"));
        command.args(["render", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/etc/ip-masq-agent/config.yaml")]);
        command
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = render().stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = render().stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("standard output can't be written: "), "{}", text(&output.stderr));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let check = Command::new(env!("CARGO_BIN_EXE_ip-masq-agent"))
        .args(["check", "--config", "/dev/null"])
        .stderr(writer)
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(78));
}

#[test]
fn a_switch_may_stand_alone_or_have_a_value() {
    assert_eq!(values(&given(&["--enable-ipv6"]), key("enableIPv6")), ["true"]);
    assert_eq!(values(&given(&["--enable-ipv6=false"]), key("enableIPv6")), ["false"]);
    assert_eq!(values(&given(&["--enable-ipv6", "check"]), key("enableIPv6")), ["true"]);
}

#[test]
fn lists_repeat() {
    let flags = given(&["--out-interfaces", "eth0,eth1", "check", "--out-interfaces=eth2"]);
    // Behind the command they count, and before it they are the weaker ones.
    assert_eq!(values(&flags, key("outInterfaces")), ["eth2"]);
    let flags = given(&["check", "--out-interfaces", "eth0,eth1", "--out-interfaces=eth2"]);
    assert_eq!(values(&flags, key("outInterfaces")), ["eth0,eth1", "eth2"]);
}

/// The keys without an effect on a command; `None` where no key has one.
fn without_effect(command: &str) -> Option<Vec<&'static str>> {
    let service =
        ["expectForeign", "resyncInterval", "configWatch", "ruleWatch", "flushConntrack", "onRepair", "onStop"];
    match command {
        "run" | "check" => Some(Vec::new()),
        "diff" => Some(service.to_vec()),
        "render" | "explain" => Some([&service[..], &["manageSysctl"]].concat()),
        "flush" => Some(KEYS.iter().map(|info| info.name).filter(|name| *name != "masqChain").collect()),
        _ => None,
    }
}

/// Each command as it may be typed, with the keys that have an effect on it.
#[test]
fn a_command_takes_and_shows_the_keys_that_have_an_effect_on_it_and_refuses_the_others() {
    let mut cli = Cli::command();
    cli.build();
    let names: Vec<String> = cli.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for command in names.iter().filter(|name| *name != "help") {
        let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        let address: &[&str] = if command == "explain" { &["192.0.2.1"] } else { &[] };
        let without = without_effect(command);
        for info in KEYS.iter() {
            let has_effect = without.as_ref().is_some_and(|names| !names.contains(&info.name));
            let flag = format!("--{}=x", info.flag);
            let before = options(&[&[flag.as_str(), command], address].concat());
            let behind = options(&[&[command, flag.as_str()], address].concat());
            for taken in [before, behind] {
                match taken {
                    Ok(taken) => {
                        assert!(has_effect, "{command} takes {flag}");
                        assert_eq!(values(&taken.keys.flags, info.key), ["x"], "{command}");
                    }
                    Err(error) => {
                        assert!(!has_effect, "{command}: {error}");
                        assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{command} {flag}");
                    }
                }
            }
            let is_shown = help.contains(&format!("--{} ", info.flag)) || help.contains(&format!("--{}[", info.flag));
            assert_eq!(is_shown, has_effect, "{command} --help and --{}", info.flag);
        }
    }
    // Without a command it is the service.
    for info in KEYS.iter() {
        assert_eq!(values(&given(&[&format!("--{}=x", info.flag)]), info.key), ["x"]);
    }
}

#[test]
fn options_that_do_nothing_for_a_command_are_refused_by_it() {
    for command in OTHERS {
        for arguments in [[command, "--enable-ipv6"], ["--enable-ipv6", command]] {
            assert_eq!(program(&arguments).status.code(), Some(2), "{arguments:?}");
        }
    }
    for arguments in [["status", "--config=x"], ["--config=x", "reload"], ["--config-dir=x", "import"]] {
        assert_eq!(program(&arguments).status.code(), Some(2), "{arguments:?}");
    }
    let said = program(&["--masq-chain=X", "status"]).stderr;
    assert!(text(&said).starts_with("error: '--masq-chain' does nothing for 'status'"), "{}", text(&said));
    let said = program(&["--on-stop=keep", "explain", "192.0.2.1"]).stderr;
    assert!(text(&said).starts_with("error: '--on-stop' does nothing for 'explain'"), "{}", text(&said));
    for arguments in [
        &["explain", "192.0.2.1", "--on-stop", "keep"][..],
        &["render", "--resync-interval", "5s"],
        &["flush", "--out-interfaces", "wan9"],
        &["flush", "--backend", "nftables"],
        &["diff", "--expect-foreign", "*"],
    ] {
        let output = program(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: unexpected argument '--"), "{arguments:?}");
    }
    assert!(options(&["--config=x", "last-good"]).is_ok());
}

#[test]
fn the_help_of_a_command_has_its_own_options_only() {
    let mut cli = Cli::command();
    cli.build();
    for command in OTHERS {
        let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        assert!(help.contains("Example: "), "{command}: {help}");
        assert!(!help.contains("--masq-chain"), "{command}: {help}");
        assert!(help.lines().count() < 25, "{command}: {help}");
    }
    assert!(text(&program(&["status", "--help"]).stdout).lines().count() < 20);
    assert!(text(&program(&["flush", "--help"]).stdout).lines().count() < 30);
}

#[test]
fn every_help_shows_an_example_and_that_of_the_program_every_flag() {
    let mut cli = Cli::command();
    cli.build();
    for command in COMMANDS {
        let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        assert!(help.contains("Example: "), "{command}: {help}");
    }
    let help = cli.render_long_help().to_string();
    for word in COMMANDS
        .iter()
        .chain(&OTHERS)
        .copied()
        .chain(KEYS.iter().map(|info| &*info.flag))
        .chain(["--config <FILE>", "--config-dir <DIR>"])
    {
        assert!(help.contains(word), "--help lacks {word}");
    }
}

#[test]
fn no_command_means_run() {
    assert!(Cli::try_parse_from(["ip-masq-agent"]).unwrap().command.is_none());
    let cli = Cli::try_parse_from(["ip-masq-agent", "run", "--once", "--dry-run"]).unwrap();
    assert!(matches!(cli.command, Some(Subcommands::Run(with)) if with.args.once && with.args.dry_run));
}

#[test]
fn the_places_are_understood_before_and_behind_the_command() {
    for arguments in [["--config", "x.yaml", "check"], ["check", "--config", "x.yaml"]] {
        let locations = Locations::from(options(&arguments).unwrap().places);
        assert_eq!(locations.file, Some(PathBuf::from("x.yaml")));
        assert_eq!(locations.fragment_directory(), None);
    }
}

#[test]
fn wrong_usage_is_2_and_says_so_on_stderr() {
    let wrong: [&[&str]; 11] = [
        &["no-such-command"],
        &["check", "--no-such-flag"],
        &["explain"],
        &["explain", "not-an-address"],
        &["explain", "192.0.2.1", "--proto", "nope"],
        &["explain", "192.0.2.1", "--out", "wan+"],
        &["explain", "::ffff:192.0.2.1"],
        &["explain", "192.0.2.1", "--from", "::ffff:192.0.2.9"],
        &["explain", "192.0.2.1", "--out", "averyverylongname"],
        &["check", "--masq-chain", "A", "--masq-chain", "B"],
        &["check", "--masq-chain"],
    ];
    for arguments in wrong {
        let output = program(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    let version = program(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), format!("ip-masq-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_likely_to_be_typed_in_a_hurry_is_refused_with_what_to_type_instead() {
    let cases: [(&[&str], &str); 5] = [
        (&["check", "new.yaml"], "ip-masq-agent check --config new.yaml"),
        (&["--enable-ipv6", "render", "new.yaml"], "ip-masq-agent render --config new.yaml"),
        (&["start"], "systemctl start ip-masq-agent"),
        (&["restart"], "systemctl restart ip-masq-agent"),
        (&["disable"], "systemctl disable ip-masq-agent"),
    ];
    for (arguments, expected) in cases {
        let output = program(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.contains(&format!("tip: '{expected}'")) && said.matches("tip: ").count() == 1, "{said}");
    }
    let said = text(&program(&["try", "a.yaml", "b.yaml"]).stderr);
    assert!(!said.contains("--config"), "{said}");
}

#[test]
fn check_is_quiet_when_good_and_78_with_diagnostics_when_not() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/ip-masq-agent/config.yaml");
    let good = program(&["check", "--config", shipped, "--masq-chain=A"]);
    assert_eq!((good.status.code(), text(&good.stdout), text(&good.stderr)), (Some(0), String::new(), String::new()));
    let bad = program(&["check", "--config", shipped, "--masq-chain=-A", "--enable-ipv6=yes"]);
    assert_eq!((bad.status.code(), text(&bad.stdout)), (Some(78), String::new()));
    assert_eq!(
        text(&bad.stderr),
        "--enable-ipv6: expected true or false, found the text 'yes'; write true\n\
         --masq-chain: '-A': a chain name can't begin with '-'\n"
    );
}

#[test]
fn what_is_given_wrongly_is_told_in_words_of_its_own() {
    let cases: [(&[&str], i32, &str); 13] = [
        (&["explain", "10.0.0.1/8"], 2, "expected an address, not a network; write '10.0.0.1'"),
        (&["explain", "010.0.0.1"], 2, "not an IPv4 or IPv6 address"),
        (&["explain", "167772161"], 2, "not an IPv4 or IPv6 address"),
        (&["explain", "fe80::1%eth0"], 2, "not an IPv4 or IPv6 address"),
        (&["explain", "::ffff:10.0.0.1"], 2, "write '10.0.0.1'"),
        (&["explain", "192.0.2.1", "--from", "::1"], 2, "different address families"),
        (&["explain", "192.0.2.1", "--out", "\x1b[2J"], 2, "'\\u{1b}' can't be part of an interface name"),
        (&["check", "--cidr-limit", "-1"], 78, "--cidr-limit: expected a whole number such as 64, found the number -1"),
        (&["check", "--resync-interval", "-5"], 78, "--resync-interval: expected a duration such as 60s"),
        (&["check", "--masq-chain", "\nCOMMIT"], 78, "'\\n' can't be part of a chain name"),
        (&["check", "--config", "\x1b[31m.yaml"], 78, "\u{fffd}[31m.yaml: can't be opened"),
        (&["check", "--config", "/dev/zero"], 78, "/dev/zero: is a device, not a regular file"),
        (&["check", "--config", "/proc/self/mem"], 78, "/proc/self/mem: can't be read"),
    ];
    for (arguments, status, expected) in cases {
        let config: &[&str] =
            if arguments.contains(&"--config") { &[] } else { &["--config", "etc/ip-masq-agent/config.yaml"] };
        let output = program(&[arguments, config].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(expected) && !said.contains('\x1b'), "{arguments:?}: {said}");
    }
}

#[test]
fn a_flag_as_long_as_a_command_line_may_be_is_not_repeated() {
    for (flag, value) in [("masq-chain", "x"), ("to-ports", "y"), ("non-masquerade-cidrs", "1"), ("cidr-limit", "1")] {
        let output = program(&["check", &format!("--{flag}={}", value.repeat(100_000))]);
        assert_eq!(output.status.code(), Some(78));
        assert!(output.stderr.len() < 2000, "{flag}: {}", output.stderr.len());
    }
}

/// What a gateway needs beyond masquerading.
const GATEWAY: [&str; 6] = [
    "--snat=203.0.113.9,2001:db8::9",
    "--enable-ipv6",
    "--exempt-marks=0x100/0xff00,1",
    "--exempt-ipsec",
    "--evaluation=longest-prefix",
    "--egress={name: vpn, outInterfaces: [wg0], snat: none}",
];

#[test]
fn the_flags_of_a_gateway_say_what_the_keys_say() {
    let config = parse(&[], &given(&GATEWAY)).unwrap();
    let text = "snat: [203.0.113.9, '2001:db8::9']\nenableIPv6: true\nexemptMarks: [0x100/0xff00, 1]\n\
                exemptIpsec: true\nevaluation: longest-prefix\negress:\n- {name: vpn, outInterfaces: [wg0], snat: none}";
    let policies = [config.policy, yaml(text).unwrap().policy];
    let [flags, file] = policies.each_ref().map(|policy| {
        let marks: Vec<_> = policy.exempt_marks.iter().map(|mark| mark.value).collect();
        let entry = &policy.egress[0];
        let entry =
            (&*entry.name, entry.out_interfaces[0].value.to_string(), entry.snat.as_ref().map(|snat| snat.value));
        (policy.snat.value, marks, policy.exempt_ipsec.value, policy.evaluation, entry)
    });
    assert_eq!(flags, file);
    let [policy, _] = policies;
    let origins = [
        policy.snat.origin,
        policy.exempt_marks[1].origin.clone(),
        policy.exempt_ipsec.origin,
        policy.egress[0].origin.clone(),
    ];
    assert_eq!(
        origins.map(|origin| origin.to_string()),
        ["snat", "exempt-marks", "exempt-ipsec", "egress"].map(|name| format!("flag --{name}"))
    );
}

#[test]
fn entries_are_given_in_one_flag_or_several_and_an_empty_one_leaves_none() {
    let names = |flags: &[&str]| -> Vec<String> {
        let files = [source("c.yaml", "egress: [{name: file, outInterfaces: [x], snat: none}]")];
        let policy = parse(&files, &given(flags)).unwrap().policy;
        policy.egress.iter().map(|entry| entry.name.clone()).collect()
    };
    let [a, b] = ["{name: a, outInterfaces: [x]}", "{name: b, outInterfaces: [y]}"];
    assert_eq!(names(&[]), ["file"]);
    assert_eq!(names(&["--egress="]), [""; 0]);
    assert_eq!(names(&[&format!("--egress={a}"), &format!("--egress={b}")]), ["a", "b"]);
    assert_eq!(names(&[&format!("--egress={a}, {b}")]), ["a", "b"]);
    assert_eq!(names(&[&format!("--egress=[{a}, {b}]")]), ["a", "b"]);
    assert_eq!(names(&["--egress=name: a\noutInterfaces: [x]"]), ["a"]);
}

#[test]
fn a_bad_value_of_a_flag_of_a_gateway_is_refused_under_its_name() {
    let cases = [
        ("--snat=203.0.113.9,masquerade", "--snat: 'masquerade' can't be in a list with addresses"),
        (
            "--snat=rout-source",
            "--snat: expected masquerade, none, route-source, an address or a range FIRST-LAST, found the text 'rout-source'; did you mean route-source?",
        ),
        ("--snat=2001:db8::9", "--snat: '2001:db8::9' is IPv6, which is not enabled"),
        ("--snat=", "--snat: expected masquerade"),
        ("--exempt-marks=1,0x3/0x1", "--exempt-marks: '0x3/0x1': the value has bits outside its mask"),
        ("--mark-masq-bit=32", "--mark-masq-bit: expected a bit of the packet mark, from 0 to 31, found the number 32"),
        (
            "--external-set-mark-chain=MASQUERADE",
            "--external-set-mark-chain: 'MASQUERADE' is a built-in chain or a target",
        ),
        ("--exempt-ipsec=maybe", "--exempt-ipsec: expected true or false"),
        (
            "--evaluation=longest",
            "--evaluation: expected one of ordered, longest-prefix, found the text 'longest'; did you mean longest-prefix?",
        ),
        (
            "--egress={outInterfaces: [wan0], name: 7}",
            "--egress: egress[1].name: '7': entries without a name are called by their number",
        ),
        ("--egress={snat: none}", "--egress: egress[1]: has no scope"),
        ("--egress=wan0", "--egress: egress[1]: expected a map of keys and values, found the text 'wan0'"),
        ("--egress={outInterfaces: [wan0]", "--egress: the map is not closed; a '}' is missing"),
        // What is wrong with the text is never left out of what is put in force.
        ("--egress={outInterfaces: [!wg0], snat: none}", "--egress: unquoted, !wg0 is a YAML tag; write \"!wg0\""),
        ("--egress={outInterfaces: [wg0], snat: !none}", "--egress: unquoted, !none is a YAML tag"),
        ("--egress={outInterfaces: [wg0], snat: *none}", "--egress: *none is a YAML alias"),
        (
            "--port-forwards={hostPort: 22, address: 192.168.1.7, inInterfaces: [!wan0]}",
            "--port-forwards: unquoted, !wan0 is a YAML tag",
        ),
    ];
    for (flag, expected) in cases {
        let message = parse(&[], &given(&[flag])).expect_err(flag).to_string();
        assert!(message.starts_with(expected), "{flag}: {message}");
    }
}

#[test]
fn check_says_of_a_good_configuration_what_may_not_be_meant() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/ip-masq-agent/config.yaml");
    let check = |flags: &[&str]| {
        let output = program(&[&["check", "--config", shipped], flags].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let local = check(&["--enable-ipv6"]);
    assert!(local.0 == Some(0) && local.2.starts_with("enableIPv6: no IPv6 range is exempt: "), "{local:?}");
    let directory = tempfile::tempdir().unwrap();
    let fragment = directory.path().join("50-vpn.yaml");
    std::fs::write(&fragment, "nonMasqueradeCIDRs: [100.64.0.0/10]\n").unwrap();
    let replaced = check(&["--config-dir", directory.path().to_str().unwrap()]);
    let warning = format!(
        "{}:1:21: nonMasqueradeCIDRs replaces the built-in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16; \
         repeat them, or write extraNonMasqueradeCIDRs\n",
        fragment.display()
    );
    assert_eq!(replaced, (Some(0), String::new(), warning.clone()));
    std::fs::write(&fragment, "nonMasqueradeCIDRs: []\n").unwrap();
    assert_eq!(check(&["--config-dir", directory.path().to_str().unwrap()]).2, warning, "an empty list replaces, too");
    let one_family = check(&["--snat=203.0.113.9", "--enable-ipv6", "--extra-non-masquerade-cidrs=fc00::/7"]);
    assert_eq!(
        one_family,
        (Some(0), String::new(), "snat (flag --snat) has no IPv6 address: IPv6 sources are masqueraded\n".to_owned())
    );
    assert_eq!(check(&["--snat=203.0.113.9"]), (Some(0), String::new(), String::new()));
    let keeps = check(&["--egress={outInterfaces: [wg0], snat: none, randomFully: true}"]);
    assert_eq!(keeps.2, "randomFully of the egress entry '1' (flag --egress) has no effect: its snat is none\n");
}

fn key(name: &str) -> Key {
    Key::named(name).unwrap()
}
