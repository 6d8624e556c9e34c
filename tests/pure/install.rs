//! `make install`, the one list of installed files.

use ip_masq_agent::config::{self, Flags, SourceText};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
    assert_eq!(fs::read(&config).unwrap(), fs::read("packaging/config.yaml").unwrap());
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

#[test]
fn the_configuration_of_a_new_host_is_three_comments_that_name_the_reference_and_it_is_there() {
    let tree = tempfile::tempdir().unwrap();
    install(tree.path(), "/usr");
    let text = fs::read_to_string(tree.path().join("etc/ip-masq-agent/config.yaml")).unwrap();
    assert!(text.lines().count() == 3 && text.lines().all(|line| line.starts_with("# ")), "{text}");
    let reference = "usr/share/doc/ip-masq-agent/config.yaml";
    assert!(text.contains(&format!("/{reference}.")), "{text}");
    let installed = fs::read(tree.path().join(reference)).unwrap();
    assert_eq!(installed, fs::read("etc/ip-masq-agent/config.yaml").unwrap());
    let parse = |texts: &[&str]| {
        let source = |text: &&str| SourceText { path: Path::new("config.yaml").into(), text: (*text).to_owned() };
        config::parse(&texts.iter().map(source).collect::<Vec<_>>(), &Flags::default()).unwrap()
    };
    assert_eq!(parse(&[&text]), parse(&[]));
}

#[test]
fn every_link_of_the_installed_documentation_leads_to_something_installed() {
    let tree = tempfile::tempdir().unwrap();
    install(tree.path(), "/usr");
    let (mut pages, mut links, mut dead) = (0, 0, Vec::new());
    let mut places = vec![tree.path().join("usr/share/doc/ip-masq-agent")];
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        } else if place.extension().is_some_and(|extension| extension == "md") {
            pages += 1;
            for link in links_of(&fs::read_to_string(&place).unwrap()) {
                links += 1;
                if !leads_somewhere(&place, &link) {
                    dead.push(format!("{}: {link}", place.strip_prefix(tree.path()).unwrap().display()));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(pages > 20 && links > 20, "{pages} pages, {links} links");
}

/// Those that stay in this tree.
fn links_of(page: &str) -> Vec<String> {
    let behind = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    behind.filter(|link| !link.contains("://") && !link.contains(char::is_whitespace)).map(str::to_owned).collect()
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { PathBuf::from(page) } else { page.parent().unwrap().join(file) };
    match anchor {
        None => target.exists(),
        Some(anchor) => fs::read_to_string(target).is_ok_and(|text| {
            text.lines().filter(|line| line.starts_with('#')).any(|heading| anchor_of(heading) == anchor)
        }),
    }
}

/// As the places that show Markdown make it of a heading.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}
