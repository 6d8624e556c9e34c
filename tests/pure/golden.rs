//! A configuration file in, the rules out: `tests/golden/NAME.yaml` renders to `NAME.iptables` and `NAME.nftables`.
//!
//! `UPDATE=1 cargo test --test pure golden` writes the files anew; read the difference before you commit it.

use ip_masq_agent::command::render::text;
use ip_masq_agent::config::{self, Flags, Key, Locations, Trust};
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "the cases are gone");
    cases
}

/// As `render --config CASE --backend BACKEND` prints it on a host that bridges nothing.
fn render(config: &Path, backend: &str) -> String {
    let locations = Locations { file: Some(config.to_owned()), trust: Trust::Warn, ..Locations::default() };
    let mut flags = Flags::default();
    flags.add(key("backend"), [backend.to_owned()]);
    let sources = config::read(&locations, &flags).unwrap_or_else(|error| panic!("{error}")).sources;
    let config = config::parse(&sources, &flags).unwrap_or_else(|error| panic!("{error}"));
    // Only a policy with route-source asks for them.
    text(&config, &crate::random::facts())
}

fn compare(backend: &str, extension: &str) {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let rendered = render(&case, backend);
        let golden = case.with_extension(extension);
        if update {
            fs::write(&golden, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if rendered != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}--- rendered\n{rendered}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_renders_to_its_iptables_rules() {
    compare("iptables-nft", "iptables");
}

#[test]
fn every_case_renders_to_its_nftables_rules() {
    compare("nftables", "nftables");
}

fn key(name: &str) -> Key {
    Key::named(name).unwrap()
}
