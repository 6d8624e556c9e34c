//! `make install`, the one list of installed files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn install(tree: &Path, prefix: &str) {
    let output = Command::new("sh")
        .args(["-c", "umask 077 && exec make --silent -f packaging/install.mk install \"$@\"", "sh"])
        .arg(format!("DESTDIR={}", tree.display()))
        .arg(format!("PREFIX={prefix}"))
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_ip-masq-agent")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_configuration_that_is_there_stays_what_it_is() {
    let tree = tempfile::tempdir().unwrap();
    let config = tree.path().join("etc/ip-masq-agent/config.yaml");
    install(tree.path(), "/usr");
    assert_eq!(fs::read(&config).unwrap(), fs::read("etc/ip-masq-agent/config.yaml").unwrap());
    fs::write(&config, "backend: nftables\n").unwrap();

    install(tree.path(), "/usr");

    assert_eq!(fs::read_to_string(&config).unwrap(), "backend: nftables\n");
}

#[test]
fn everybody_can_read_what_was_installed_with_a_strict_umask() {
    let tree = tempfile::tempdir().unwrap();
    install(tree.path(), "/usr/local");
    let mut places = vec![tree.path().join("etc"), tree.path().join("usr"), tree.path().join("var")];
    while let Some(place) = places.pop() {
        let mode = fs::metadata(&place).unwrap().permissions().mode() & 0o7777;
        let wanted = if place.is_dir() || place.ends_with("sbin/ip-masq-agent") { 0o755 } else { 0o644 };
        assert_eq!(mode, wanted, "{}", place.display());
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn the_unit_starts_the_program_that_was_installed_with_it() {
    let tree = tempfile::tempdir().unwrap();
    install(tree.path(), "/usr/local");
    let unit = fs::read_to_string(tree.path().join("usr/local/lib/systemd/system/ip-masq-agent.service")).unwrap();
    for line in ["ExecStart=/usr/local/sbin/ip-masq-agent run", "ExecReload=/usr/local/sbin/ip-masq-agent reload"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    assert!(tree.path().join("usr/local/sbin/ip-masq-agent").exists());
    assert!(tree.path().join("usr/local/share/zsh/site-functions/_ip-masq-agent").exists());
}
