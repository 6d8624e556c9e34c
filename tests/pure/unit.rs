//! The unit files, judged by systemd's own tools without a running systemd.

use clap::Parser;
use ip_masq_agent::cli::Cli;
use ip_masq_agent::config::Locations;
use ip_masq_agent::service::directories;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = "systemd/ip-masq-agent.service";

/// What SECURITY.md promises: 1.8, in tenths.
const EXPOSURE_LIMIT: &str = "18";

#[test]
fn systemd_verifies_the_unit_without_a_word() {
    let Some(tool) = systemd_analyze() else { return };
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("ip-masq-agent.service");
    // 'verify' insists that the program exists; the one just built stands in for the installed one.
    let text = std::fs::read_to_string(UNIT).unwrap();
    std::fs::write(&unit, text.replace("/usr/sbin/ip-masq-agent", env!("CARGO_BIN_EXE_ip-masq-agent"))).unwrap();

    let output = run(Command::new(tool).args(["verify", "--man=no"]).arg(&unit));

    assert_eq!(said(&output), "");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_directive_that_systemd_does_not_know_is_noticed() {
    let Some(tool) = systemd_analyze() else { return };
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("misspelt.service");
    std::fs::write(&unit, "[Service]\nExecStart=/bin/true\nProtectSytem=strict\n").unwrap();

    let output = run(Command::new(tool).args(["verify", "--man=no"]).arg(&unit));

    assert!(said(&output).contains("ProtectSytem"), "{output:?}");
}

#[test]
fn the_exposure_is_what_security_md_says() {
    let Some(tool) = systemd_analyze() else { return };
    let threshold = format!("--threshold={EXPOSURE_LIMIT}");

    let output = run(Command::new(tool).args(["security", "--offline=yes", "--no-pager", &threshold, UNIT]));

    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(": 1.8 "), "{}", said(&output));
}

/// Every tenth that is left has its line there, and no other has one.
#[test]
fn each_tenth_of_the_exposure_is_explained() {
    let Some(tool) = systemd_analyze() else { return };
    let output = run(Command::new(tool).args(["security", "--offline=yes", "--no-pager", "--json=short", UNIT]));
    let judged: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found = judged.iter().filter_map(|setting| {
        let exposure: f64 = setting["exposure"].as_str()?.parse().ok()?;
        let tenths = (exposure * 10.0).round() as u32;
        (tenths > 0).then(|| (setting["name"].as_str().unwrap().to_owned(), tenths))
    });
    let text = std::fs::read_to_string("SECURITY.md").unwrap().replace("\\|", "\u{0}");
    let (_, table) = text.split_once("| setting | tenths |").unwrap();
    let explained = table.lines().filter_map(|line| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((name, cells[2].parse().unwrap()))
    });
    assert_eq!(found.collect::<BTreeMap<_, u32>>(), explained.collect());
}

/// The commands, the exit status that no restart mends, and the directories: what the unit says the program does.
#[test]
fn what_the_unit_says_of_the_program_is_true() {
    for key in ["ExecStart", "ExecReload"] {
        let words = values(key);
        assert_eq!(words[0], "/usr/sbin/ip-masq-agent");
        Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), "nobody: knows this\n").unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_ip-masq-agent")).args(["check", "--config"]).arg(wrong.path()).output();
    assert_eq!(values("RestartPreventExitStatus"), [check.unwrap().status.code().unwrap().to_string()]);
    let fragments = Locations::default().fragment_directory().unwrap();
    for (key, root, directory) in [
        ("RuntimeDirectory", "/run", directories::runtime()),
        ("StateDirectory", "/var/lib", directories::state()),
        ("ConfigurationDirectory", "/etc", fragments.parent().unwrap().to_owned()),
    ] {
        let [name] = values(key).try_into().unwrap();
        assert_eq!(Path::new(root).join(name), directory, "{key}");
    }
}

#[test]
fn the_unit_is_ordered_after_every_firewall_and_before_the_network() {
    let before = values("Before");
    let after = values("After");
    assert!(before.contains(&"network-pre.target".to_owned()), "{before:?}");
    for firewall in ["nftables.service", "firewalld.service", "netfilter-persistent.service"] {
        assert!(after.contains(&firewall.to_owned()), "not after {firewall}: {after:?}");
    }
    // sysinit.target would close a circle with cloud-init.service, see the unit.
    assert!(!after.contains(&"sysinit.target".to_owned()) && values("DefaultDependencies") == ["no"]);
    assert!(before.contains(&"shutdown.target".to_owned()) && values("Conflicts") == ["shutdown.target"]);
}

#[test]
fn the_watchdog_leaves_at_least_thirty_seconds() {
    let [value] = values("WatchdogSec").try_into().unwrap();
    let seconds: u64 = value.strip_suffix('s').unwrap().parse().unwrap();
    assert!(seconds >= 30, "{seconds}");
}

#[test]
fn the_preset_leaves_the_service_and_its_metrics_disabled() {
    let text = std::fs::read_to_string("systemd/80-ip-masq-agent.preset").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["disable ip-masq-agent.service", "disable ip-masq-agent-metrics.timer"]);
}

/// All words of all lines `key=…`, in order.
fn values(key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(UNIT).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn systemd_analyze() -> Option<PathBuf> {
    let found = Path::new("/usr/bin/systemd-analyze");
    if found.exists() {
        return Some(found.to_owned());
    }
    assert!(std::env::var_os("CI").is_none(), "systemd-analyze is missing and CI is set");
    eprintln!("SKIP: no {}", found.display());
    None
}

fn run(command: &mut Command) -> Output {
    command.env("LC_ALL", "C").output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
