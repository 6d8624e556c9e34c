//! Bad configuration in, exact message out.
//!
//! A case is a file of `tests/diagnostics`, or one of a subdirectory. A subdirectory with a `flags` file is one case
//! of several files and flags. `UPDATE=1` writes the `.expected` files anew: read the difference before you commit it.

use ip_masq_agent::config::{Flags, KEYS, SourceText, parse};
use std::fs;
use std::path::{Path, PathBuf};

struct Case {
    expected: PathBuf,
    sources: Vec<SourceText>,
    flags: Flags,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn is_source(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "json" | "toml"))
}

fn source(path: &Path) -> SourceText {
    let name = path.file_name().unwrap();
    SourceText { path: Path::new(name).into(), text: fs::read_to_string(path).unwrap() }
}

fn flags(path: &Path) -> Flags {
    let mut flags = Flags::default();
    for line in fs::read_to_string(path).unwrap().lines() {
        let (name, value) = line.split_once('=').unwrap();
        let info = KEYS.iter().find(|info| info.flag == name).unwrap_or_else(|| panic!("no flag '{name}'"));
        flags.add(info.key, [value.to_owned()]);
    }
    flags
}

fn single(path: &Path) -> Case {
    Case { expected: path.with_extension("expected"), sources: vec![source(path)], flags: Flags::default() }
}

/// The main file stands first, then the others by name.
fn several(directory: &Path) -> Case {
    let mut paths: Vec<PathBuf> = sorted(directory).into_iter().filter(|path| is_source(path)).collect();
    paths.sort_by_key(|path| !path.to_string_lossy().contains("/config.yaml"));
    Case {
        expected: directory.join("expected"),
        sources: paths.iter().map(|path| source(path)).collect(),
        flags: flags(&directory.join("flags")),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in sorted(&root()) {
        if path.is_dir() && path.join("flags").exists() {
            cases.push(several(&path));
        } else if path.is_dir() {
            cases.extend(sorted(&path).iter().filter(|path| is_source(path)).map(|path| single(path)));
        } else if is_source(&path) {
            cases.push(single(&path));
        }
    }
    cases
}

#[test]
fn every_bad_configuration_is_refused_with_the_exact_message() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let found = match parse(&case.sources, &case.flags) {
            Ok(_) => panic!("{} was accepted", case.expected.display()),
            Err(diagnostics) => format!("{diagnostics}\n"),
        };
        if update {
            fs::write(&case.expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&case.expected).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}:\nexpected\n{expected}\nfound\n{found}", case.expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_has_a_case_as_a_file_key_and_as_a_flag() {
    let texts: String = cases().iter().map(|case| fs::read_to_string(&case.expected).unwrap()).collect();
    for info in KEYS.iter() {
        assert!(texts.contains(&format!(": {}: ", info.name)), "no case for {}", info.name);
        assert!(texts.contains(&format!("\n--{}: ", info.flag)), "no case for --{}", info.flag);
    }
}
