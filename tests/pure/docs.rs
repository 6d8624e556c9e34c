//! What the program, its manual pages, its default configuration and its packages say about each other.

use clap::{Command, CommandFactory, Parser};
use ip_masq_agent::cli::Cli;
use ip_masq_agent::config::{self, Config, Flags, KEYS, Kind, SourceText};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const PROGRAM_PAGE: &str = "packaging/man/ip-masq-agent.8";
const CONFIG_PAGE: &str = "packaging/man/ip-masq-agent.yaml.5";
const DEFAULT_CONFIG: &str = "etc/ip-masq-agent/config.yaml";

#[test]
fn every_command_and_flag_is_in_the_manual_and_in_help() {
    let page = read(PROGRAM_PAGE);
    let mut command = Cli::command();
    command.build();
    let mut missing = Vec::new();
    check_flags(&command, &page, &mut missing);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        if !page.lines().any(|line| line == format!(".It Cm {}", sub.get_name())) {
            missing.push(format!("{PROGRAM_PAGE}: command {}", sub.get_name()));
        }
        check_flags(sub, &page, &mut missing);
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!words_follow("Fl -config-dir", "Fl", "-config"), "a flag is not in the manual because a longer one is");
}

/// In the manual, and with a word of what it does.
fn check_flags(command: &Command, page: &str, missing: &mut Vec<String>) {
    for argument in command.get_arguments() {
        let Some(flag) = argument.get_long() else { continue };
        // mdoc: '.Fl -name' is shown as '--name'.
        if !words_follow(page, "Fl", &format!("-{flag}")) {
            missing.push(format!("{PROGRAM_PAGE}: --{flag}"));
        }
        if argument.get_help().is_none_or(|help| help.to_string().len() < 10) {
            missing.push(format!("{}: what --{flag} does", command.get_name()));
        }
    }
}

fn words_follow(page: &str, first: &str, second: &str) -> bool {
    let words: Vec<&str> = page.split_whitespace().map(|word| word.trim_start_matches('.')).collect();
    words.windows(2).any(|pair| pair == [first, second])
}

#[test]
fn every_key_has_type_default_example_and_effect_in_the_manual() {
    let page = read(CONFIG_PAGE);
    for info in KEYS.iter() {
        let entry = entry(&page, info.name);
        let default = if info.default.is_empty() { "unset" } else { info.default };
        let (facts, effect) = entry.split_once(".Pp\n").unwrap_or_else(|| panic!("{}: no effect", info.name));
        let (kind, _) = facts.split_once("Default:").unwrap_or_else(|| panic!("{}: no default", info.name));
        let missing: Vec<_> = words_for(info.kind).into_iter().filter(|word| !flat(kind).contains(word)).collect();
        assert!(missing.is_empty(), "{}: the type is '{}', without {missing:?}", info.name, flat(kind));
        assert!(after(facts, "Default:").contains(default), "{}: not the default {default}:\n{facts}", info.name);
        assert!(after(facts, "Example:").contains(info.name), "{}: no example", info.name);
        assert!(flat(effect).len() > 20, "{}: no effect", info.name);
    }
}

/// How the manual says the type of a key.
fn words_for(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::Cidrs => vec!["List of CIDR."],
        Kind::Interfaces => vec!["List of interface names."],
        Kind::Maps => vec!["List of maps."],
        Kind::Marks => vec!["List of packet marks."],
        Kind::Rules => vec!["List of rules."],
        Kind::Snat => vec!["masquerade", "none", "address", "range"],
        Kind::Switch => vec!["Boolean."],
        Kind::Duration => vec!["Duration, as Go writes it."],
        Kind::Count => vec!["Number."],
        Kind::Chain => vec!["Name."],
        Kind::Ports => vec!["Port ranges."],
        Kind::Text => vec!["Text."],
        Kind::Choice(words) => words(),
    }
}

#[test]
fn every_example_of_the_manual_is_a_good_configuration() {
    let page = read(CONFIG_PAGE);
    for info in KEYS.iter() {
        let example = after(entry(&page, info.name), "Example:");
        let example = example.split(".Pp").next().unwrap_or_default().trim();
        let example = example.strip_prefix(".Li").unwrap_or(example).trim().trim_end_matches(" .");
        let example = example.strip_prefix('"').map_or(example, |rest| rest.trim_end_matches('"'));
        assert!(example.starts_with(&format!("{}: ", info.name)), "{example}");
        parse("example.yaml", example).unwrap_or_else(|error| panic!("{example}\n{error}"));
    }
}

#[test]
fn the_yaml_and_the_toml_example_of_the_manual_mean_the_same() {
    let page = read(CONFIG_PAGE);
    let examples: Vec<&str> = page
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|block| block.split(".Ed").next().unwrap_or_default())
        .collect();
    let [yaml, toml] = examples.try_into().unwrap();

    let (yaml, toml) = (parse("a.yaml", yaml).unwrap(), parse("a.toml", toml).unwrap());

    assert_eq!(yaml.settings, toml.settings);
    assert_eq!(yaml.policy.exempt.written_order(V4), toml.policy.exempt.written_order(V4));
    assert_eq!(yaml.policy.exceptions.written_order(V4), toml.policy.exceptions.written_order(V4));
    assert_eq!(yaml.policy.out_interfaces.len(), toml.policy.out_interfaces.len());
}

const V4: ip_masq_agent::policy::Family = ip_masq_agent::policy::Family::V4;

#[test]
fn the_default_configuration_shows_every_key_with_its_default_and_changes_nothing() {
    let text = read(DEFAULT_CONFIG);
    for info in KEYS.iter() {
        let line = text.lines().find_map(|line| line.strip_prefix('#')?.strip_prefix(info.name)?.strip_prefix(": "));
        let value = line.unwrap_or_else(|| panic!("no line '#{}: …'", info.name));
        assert!(info.default.is_empty() || value == info.default, "{}: {value}", info.name);
    }
    assert_eq!(parse("config.yaml", &text).unwrap(), parse("config.yaml", "").unwrap());
}

#[test]
fn mandoc_finds_nothing_to_improve() {
    let Ok(output) = std::process::Command::new("mandoc").args(["-Tlint", PROGRAM_PAGE, CONFIG_PAGE]).output() else {
        assert!(std::env::var_os("CI").is_none(), "mandoc is missing and CI is set");
        eprintln!("SKIP: no mandoc");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    // Which other pages are installed here says nothing about ours.
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("referenced manual not found")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_place_names_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    let changes = read("CHANGELOG.md");
    let released = |heading: &&str| !heading.ends_with("(unreleased)");
    let top = changes.lines().filter_map(|line| line.strip_prefix("## ")).find(released).unwrap_or_default();
    assert!(top.starts_with(&format!("{version} (")), "CHANGELOG.md: {top}");
    let debian = read("debian/changelog");
    assert!(debian.starts_with(&format!("ip-masq-agent ({version}-")), "debian/changelog");
    let spec = read("rpm/ip-masq-agent.spec");
    let found = spec.lines().find_map(|line| line.strip_prefix("Version:")).unwrap_or_default();
    assert_eq!(found.trim(), version, "rpm/ip-masq-agent.spec");
}

#[test]
fn every_file_of_the_install_list_is_in_the_tree() {
    let list = read("packaging/install.mk");
    let files: Vec<&str> =
        list.lines().filter_map(|line| line.trim().strip_prefix("$(call put,")?.split(',').next()).collect();
    assert!(files.len() > 10, "{files:?}");
    let missing: Vec<&&str> = files.iter().filter(|file| !Path::new(file).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Where users look.
const GUIDES: [&str; 8] = [
    "README.md",
    "docs/install.md",
    "docs/fleet.md",
    "docs/migration.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/recipes.md",
    "CONTRIBUTING.md",
];

/// The fenced blocks of a document, each with its language.
fn blocks(text: &str) -> Vec<(String, String)> {
    let (mut found, mut open) = (Vec::new(), None::<(String, String)>);
    for line in text.lines() {
        match (line.trim().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, body))) => *body += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_configuration_in_the_guides_is_a_good_one() {
    let mut seen = 0;
    for guide in GUIDES {
        for (_, body) in blocks(&read(guide)).iter().filter(|(language, _)| language == "yaml") {
            parse("config.yaml", body).unwrap_or_else(|error| panic!("{guide}:\n{body}\n{error}"));
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_command_in_the_guides_is_one_that_the_program_takes() {
    let mut seen = 0;
    for guide in GUIDES {
        let text = read(guide);
        let in_blocks = blocks(&text).into_iter().flat_map(|(_, body)| {
            body.lines().map(|line| line.trim_start_matches(['#', '$', ' ']).to_owned()).collect::<Vec<_>>()
        });
        let in_lines = text.split('`').skip(1).step_by(2).map(str::to_owned);
        for command in in_blocks.chain(in_lines) {
            let command = command.split(['#', '|', '>', '<', '…', '&']).next().unwrap_or_default().trim();
            let Some(words) = command.strip_prefix("ip-masq-agent ") else { continue };
            // Places to be filled in, as ADDRESS; and no sentence.
            let is_word = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-');
            // Of a command alone a sentence speaks, which need not say what else it takes.
            if !words.split(' ').next().is_some_and(is_word) || words == "explain" {
                continue;
            }
            let filled: Vec<String> = words.split_whitespace().map(filled).collect();
            let parsed = Cli::try_parse_from(std::iter::once("ip-masq-agent").chain(filled.iter().map(String::as_str)));
            parsed.and_then(|cli| cli.options()).unwrap_or_else(|error| panic!("{guide}: {command}\n{error}"));
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// A word of a command as somebody would type it.
fn filled(word: &str) -> String {
    match word {
        "ADDRESS" | "CLIENT" => "192.0.2.1".to_owned(),
        "INTERFACE" => "wan0".to_owned(),
        other => other.to_owned(),
    }
}

/// The rows of the migration guide: what the other program has, what is said of it here, and the examples.
fn migrations(text: &str) -> Vec<(&str, &str, Vec<&str>)> {
    let mut rows = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [theirs, ours, examples] = cells[..] else { panic!("three columns: {row}") };
        if examples != "example" {
            rows.push((theirs, ours, examples.split(", ").map(|name| name.trim_matches('`')).collect()));
        }
    }
    rows
}

fn example(name: &str) -> String {
    format!("tests/migration/{name}.txt")
}

#[test]
fn every_row_of_the_migration_guide_has_an_example_and_every_example_a_row() {
    let text = read("docs/migration.md");
    let mut named = std::collections::BTreeSet::new();
    for (row, _, examples) in migrations(&text) {
        for name in examples {
            assert!(Path::new(&example(name)).is_file(), "no example '{name}': {row}");
            named.insert(name);
        }
    }
    for entry in fs::read_dir("tests/migration").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(named.contains(name), "docs/migration.md has no row for the example '{name}'");
    }
}

#[test]
fn an_example_of_the_migration_guide_has_the_keys_that_its_row_names() {
    let text = read("docs/migration.md");
    let (mut missing, mut seen) = (Vec::new(), 0);
    for (theirs, ours, examples) in migrations(&text) {
        let texts: Vec<String> = examples.iter().map(|name| configuration_of(&read(&example(name)))).collect();
        // Of 'the same' the names are in the other column.
        let cells = if ours.starts_with("the same") { vec![theirs, ours] } else { vec![ours] };
        for key in cells.into_iter().flat_map(keys_in) {
            seen += 1;
            if !texts.iter().any(|text| has_key(text, &key)) {
                missing.push(format!("{}: {key}", examples.join(", ")));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 90, "{seen}");
}

/// What an example says in our words.
fn configuration_of(example: &str) -> String {
    let is_ours = |section: &&str| section.starts_with("yaml\n") || section.starts_with("config.d/");
    example.split("\n== ").filter(is_ours).collect()
}

fn has_key(configuration: &str, key: &str) -> bool {
    let key = if key.contains(':') { key.to_owned() } else { format!("{key}:") };
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    configuration.match_indices(&key).any(|(start, _)| {
        let (before, after) = (&configuration[..start], &configuration[start + key.len()..]);
        !before.ends_with(is_of_word) && !after.starts_with(is_of_word)
    })
}

/// The keys that a cell names, with a value that is a word. 'nothing' names none, a link leads to what else there is, and
/// what is called the default need not be written.
fn keys_in(cell: &str) -> Vec<String> {
    let names: Vec<(&str, &str)> = KEYS.iter().map(|info| (info.name, info.flag.as_str())).collect();
    let mut keys = Vec::new();
    let parts: Vec<&str> = cell.split('`').collect();
    for (number, span) in parts.iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        if cell.starts_with("nothing") || parts[number - 1].ends_with('[') || parts[number + 1].contains("default") {
            continue;
        }
        if let Some(flag) = span.strip_prefix("--") {
            keys.extend(names.iter().filter(|(_, known)| *known == flag).map(|(name, _)| (*name).to_owned()));
            continue;
        }
        let is_word = |value: &str| value.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        match span.split_once(": ").filter(|(_, value)| is_word(value)) {
            Some(_) => keys.push((*span).to_owned()),
            None => {
                let words = span.split(|c: char| !c.is_ascii_alphanumeric());
                keys.extend(words.filter(|word| is_key(word)).map(str::to_owned));
            }
        }
    }
    keys
}

/// True of a key of the file or of an entry of it.
fn is_key(word: &str) -> bool {
    let of_entries = ["hostPort", "hostIP", "protocol", "address", "port", "inInterfaces", "hairpin", "localhost"];
    KEYS.iter().any(|info| info.name == word) || of_entries.contains(&word)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn parse(path: &str, text: &str) -> Result<Config, config::Diagnostics> {
    let source = SourceText { path: Arc::from(Path::new(path)), text: text.to_owned() };
    config::parse(&[source], &Flags::default())
}

/// What the page says about a key: from its item to the next one.
fn entry<'a>(page: &'a str, key: &str) -> &'a str {
    let start = format!(".It Va {key}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("{CONFIG_PAGE}: no entry {key}"));
    rest.split("\n.It Va ").next().unwrap_or_default().split("\n.El").next().unwrap_or_default()
}

fn after(text: &str, word: &str) -> String {
    flat(text).split_once(word).map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

/// One line, single spaces.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
