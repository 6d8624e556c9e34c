//! What a file costs: memory and time by its size, whatever is in it. The real program, with a limit on its memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

/// Kibibytes of address space that `check` has for a file of [`SIZE`]; it needs a quarter of them to begin with.
const LIMIT: usize = 128 << 10;
/// Of TOML the parser holds every token, whatever the text: a byte can be one.
const TOML_LIMIT: usize = 640 << 10;
const SIZE: usize = 5 << 20;
/// Processor seconds: what is quadratic takes hours.
const SECONDS: usize = 120;

fn check(path: &Path, limit: usize) -> Output {
    let script = format!("ulimit -c 0; ulimit -t {SECONDS}; ulimit -v {limit}; exec \"$@\"");
    let program = env!("CARGO_BIN_EXE_ip-masq-agent");
    Command::new("sh").args(["-c", &script, "sh", program, "check", "--config"]).arg(path).output().unwrap()
}

fn limit_of(name: &str) -> usize {
    if name.ends_with(".toml") { TOML_LIMIT } else { LIMIT }
}

fn filled(opening: &str, piece: &str, closing: &str) -> String {
    let mut text = String::with_capacity(SIZE);
    text.push_str(opening);
    text.push_str(&piece.repeat((SIZE - opening.len() - closing.len()) / piece.len()));
    text.push_str(closing);
    text
}

fn numbered(opening: &str, piece: impl Fn(usize) -> String, closing: &str) -> String {
    let mut text = String::from(opening);
    for number in 0.. {
        if text.len() > SIZE - 64 {
            break;
        }
        text.push_str(&piece(number));
    }
    text + closing
}

/// Every one of these took more than twenty times its size once, or could.
fn hostile_yaml() -> Vec<(&'static str, String, &'static str)> {
    let keys = "more than 200000 keys, maps and lists in one file";
    let values = "more than 2000000 values in one file";
    vec![
        ("pairs.yaml", filled("[", "a: b, ", "a]"), keys),
        ("pairs-of-key.yaml", filled("nonMasqueradeCIDRs: [", "a: b, ", "a]"), keys),
        ("pairs-unclosed.yaml", filled("nonMasqueradeCIDRs: [", "a: b, ", ""), keys),
        ("map.yaml", filled("{", "a: b, ", "a: b}"), keys),
        ("keys-in-braces.yaml", numbered("{", |n| format!("k{n}: 1, "), "}"), keys),
        ("keys-in-lines.yaml", numbered("", |n| format!("k{n}: 1\n"), ""), keys),
        ("one-key.yaml", filled("", "a: 1\n", ""), keys),
        ("questions.yaml", filled("", "? a\n", ""), keys),
        ("lists.yaml", filled("a: [", "[], ", "[]]"), keys),
        ("lists-of-one.yaml", filled("a: [", "[a], ", "[]]"), keys),
        ("anchors.yaml", numbered("a: [", |n| format!("&a{n} x, "), "x]"), keys),
        ("commas.yaml", filled("[", ",", "]"), "a ',' with nothing before it"),
        ("values.yaml", filled("nonMasqueradeCIDRs: [", "a,", "a]"), values),
        ("dashes.yaml", filled("nonMasqueradeCIDRs:\n", "-\n", ""), values),
        ("tags.yaml", filled("nonMasqueradeCIDRs: [", "!a b, ", "c]"), "is a YAML tag"),
        ("aliases.yaml", filled("nonMasqueradeCIDRs: [", "*a , ", "c]"), "is a YAML alias"),
        ("directives.yaml", numbered("", |n| format!("%TAG !a{n}! x\n"), "---\n"), "more than 16 YAML directives"),
        ("key.yaml", filled("", "x", ": 1"), "a key of more than 1024 characters"),
        ("question.yaml", filled("? ", "x", "\n: 1"), "unknown key"),
        ("number.yaml", filled("resyncInterval: ", "1", ""), "expected a duration"),
        ("unit.yaml", filled("resyncInterval: 1", "x", ""), "unknown unit"),
        ("ports.yaml", filled("toPorts: ", "y", ""), "toPorts: "),
        ("length.yaml", filled("nonMasqueradeCIDRs: [10.0.0.0/", "1", "]"), "is not between 0 and 32"),
        ("text.yaml", filled("nonMasqueradeCIDRs: '", "a,", "'"), "expected a list"),
        ("literal.yaml", filled("masqChain: |\n", " x\n", ""), "masqChain: "),
        ("quoted.yaml", filled("masqChain: \"", "\\x41", "\""), "masqChain: "),
        ("unclosed.yaml", filled("masqChain: '", "x\n ", ""), "the quoted text is not closed"),
        ("documents.yaml", filled("", "---\n", ""), "a second YAML document"),
    ]
}

fn hostile_json_and_toml() -> Vec<(&'static str, String, &'static str)> {
    let keys = "more than 200000 keys, maps and lists in one file";
    let values = "more than 2000000 values in one file";
    vec![
        ("keys.json", numbered("{\"a\":1", |n| format!(",\"k{n}\":1"), "}"), keys),
        ("maps.json", filled("{\"a\":[", "{\"a\":1},", "1]}"), keys),
        ("lists.json", filled("{\"a\":[", "[1],", "1]}"), keys),
        ("numbers.json", filled("{\"nonMasqueradeCIDRs\":[", "1,", "1]}"), values),
        ("key.json", filled("{\"", "x", "\":1}"), "a key of more than 1024 characters"),
        ("keys.toml", numbered("", |n| format!("k{n}=1\n"), ""), keys),
        ("tables.toml", numbered("", |n| format!("[k{n}]\n"), ""), keys),
        ("dotted.toml", numbered("", |n| format!("a{n}.b=1\n"), ""), keys),
        ("inline.toml", numbered("a={b=1", |n| format!(",k{n}=1"), "}"), keys),
        ("maps.toml", filled("a=[", "{a=1},", "1]"), keys),
        ("dots.toml", filled("a", ".a", "=1"), "recursion limit"),
        ("signs.toml", filled("", "=", ""), keys),
        ("values.toml", filled("nonMasqueradeCIDRs=[", "1,", "1]"), "expected a CIDR, found the number 1"),
        ("commas.toml", filled("nonMasqueradeCIDRs=[", ",", "]"), "extra comma in array"),
        ("words.toml", filled("", "a ", ""), "a key without a '=' after it"),
        ("key.toml", filled("", "x", "=1"), "unknown key"),
    ]
}

#[test]
fn hostile_yaml_is_refused_with_its_place_in_little_memory() {
    refused_in_little_memory(hostile_yaml());
}

#[test]
fn hostile_json_and_toml_is_refused_with_its_place_in_little_memory() {
    refused_in_little_memory(hostile_json_and_toml());
}

fn refused_in_little_memory(cases: Vec<(&str, String, &str)>) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut wrong = Vec::new();
    for (name, text, expected) in cases {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let output = check(&path, limit_of(name));
        fs::remove_file(&path).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let placed = said.starts_with(&format!("{}:", path.display())) && said.contains(expected);
        if output.status.code() != Some(78) || !placed || said.len() > 32 << 10 {
            let (code, signal) = (output.status.code(), output.status.signal());
            wrong.push(format!("{name}: {code:?} {signal:?} {}", said.chars().take(300).collect::<String>()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_nothing_but_long_is_read_in_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("comments.yaml", filled("", "# c\n", "")),
        ("comment.yaml", filled("# ", "x", "")),
        ("lines.yaml", filled("", "\n", "")),
        ("lines.json", filled("{", "\n", "}")),
        ("lines.toml", filled("", "\n", "")),
        ("comments.toml", filled("", "# c\n", "")),
        ("blanks.yaml", filled("", " ", "")),
        ("ends.yaml", filled("", "...\n", "")),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let output = check(&path, limit_of(name));
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
    }
}

/// 20 MB, or 5; the list itself, its places and the aggregated list are what costs.
#[test]
fn a_million_cidrs_are_read_in_six_times_their_size() {
    let directory = tempfile::tempdir().unwrap();
    let cidr = |n: usize| format!("{}.{}.{}.{}/32", 1 + n * 7 % 200, n >> 16 & 255, n >> 8 & 255, n & 255);
    let list = |count, between: &str| (0..count).map(cidr).collect::<Vec<_>>().join(between);
    for (name, text) in [
        ("lines.yaml", format!("nonMasqueradeCIDRs:\n  - {}\n", list(1_000_000, "\n  - "))),
        ("line.yaml", format!("nonMasqueradeCIDRs: [{}]\n", list(250_000, ", "))),
        ("lines.json", format!("{{\"nonMasqueradeCIDRs\": [\n  \"{}\"]}}\n", list(250_000, "\",\n  \""))),
        ("lines.toml", format!("nonMasqueradeCIDRs = [\n  \"{}\"]\n", list(250_000, "\",\n  \""))),
    ] {
        let path = directory.path().join(name);
        let limit = (limit_of(name) >> 1) + 6 * text.len() / 1024;
        fs::write(&path, text).unwrap();
        let output = check(&path, limit);
        assert_eq!(output.status.code(), Some(0), "{name} in {limit} KiB: {output:?}");
    }
}
