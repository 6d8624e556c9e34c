//! The arrows between the rooms point one way.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // What stands in a test module may do as it likes.
            let product = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            found.push((path, product));
        }
    }
    assert!(!found.is_empty(), "no sources in {room}");
    found
}

fn forbid(room: &str, words: &[&str]) {
    for (path, text) in sources(room) {
        for word in words {
            let code = |line: &&str| !line.trim_start().starts_with("//") && line.contains(word);
            if let Some(line) = text.lines().find(code) {
                panic!("{}: '{word}' has no business here: {}", path.display(), line.trim());
            }
        }
    }
}

const IO: [&str; 11] = [
    "std::fs",
    "std::process",
    "std::os",
    "std::env",
    "Instant::now",
    "SystemTime",
    "rustix::",
    "libc::",
    "println!",
    "eprintln!",
    "std::thread",
];

#[test]
fn the_policy_imports_nothing_of_ours_and_does_no_io() {
    forbid("policy", &IO);
    forbid(
        "policy",
        &["crate::ruleset", "crate::config", "crate::backend", "crate::agent", "crate::host", "crate::command"],
    );
}

#[test]
fn the_ruleset_imports_the_policy_alone_and_does_no_io() {
    forbid("ruleset", &IO);
    forbid("ruleset", &["crate::config", "crate::backend", "crate::agent", "crate::host", "crate::command"]);
}

#[test]
fn the_renderers_do_no_io() {
    let iptables =
        ["render", "rule", "parse", "plan", "ownership", "sets"].map(|name| format!("backend/iptables/{name}.rs"));
    let nftables = [
        "apply", "change", "compile", "drift", "interval", "name", "plan", "rule", "stranger", "table", "target",
        "text",
    ]
    .map(|name| format!("backend/nftables/{name}.rs"));
    for renderer in iptables.iter().chain(&nftables) {
        forbid(renderer, &IO);
        forbid(renderer, &["crate::config", "crate::agent", "crate::host", "crate::command"]);
    }
}

#[test]
fn the_agent_decides_and_does_not_do() {
    forbid("agent", &IO);
    forbid("agent", &["crate::host", "crate::command"]);
}

#[test]
fn only_the_edge_knows_the_commands() {
    for room in ["config", "backend", "host"] {
        forbid(room, &["crate::command", "crate::cli"]);
    }
}

#[test]
fn nobody_panics_on_purpose() {
    for room in ["policy", "ruleset", "config", "backend", "agent", "host", "command"] {
        forbid(room, &["panic!(", "unimplemented!(", "todo!(", ".expect("]);
    }
}
