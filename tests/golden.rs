//! A configuration file in, the rules out: `tests/golden/NAME.yaml` renders to `NAME.iptables` and `NAME.nftables`.
//!
//! `UPDATE=1 cargo test --test golden` writes the files anew; read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

fn render(config: &Path, backend: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ip-masq-agent"))
        .args(["render", "--backend", backend, "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{} with {backend}: {}",
        config.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
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
