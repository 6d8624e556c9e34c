//! The configuration file that is installed.

use super::{placeless, source, yaml};
use ip_masq_agent::config::{Flags, KEYS, KeyInfo, parse};

const SHIPPED: &str = include_str!("../../etc/ip-masq-agent/config.yaml");

/// The line that shows a key, without its '#'.
fn line(info: &KeyInfo) -> &'static str {
    let begin = format!("#{}:", info.name);
    let mut lines = SHIPPED.lines().filter(|line| line.starts_with(&begin));
    let line = lines.next().unwrap_or_else(|| panic!("{} is not in the shipped file", info.name));
    assert_eq!(lines.next(), None, "{} is there twice", info.name);
    &line[1..]
}

#[test]
fn as_it_is_it_says_nothing() {
    assert_eq!(yaml(SHIPPED).unwrap(), parse(&[], &Flags::default()).unwrap());
}

#[test]
fn every_key_is_there_with_its_default() {
    for info in KEYS.iter() {
        if !info.default.is_empty() {
            assert_eq!(line(info), format!("{}: {}", info.name, info.default));
        }
    }
}

#[test]
fn with_every_default_written_out_it_says_the_same() {
    let defaults = KEYS.iter().filter(|info| !info.default.is_empty());
    let text: String = defaults.map(|info| format!("{}\n", line(info))).collect();
    assert_eq!(placeless(yaml(&text).unwrap()), placeless(yaml("").unwrap()));
}

#[test]
fn every_line_can_be_used_by_taking_its_mark_away() {
    let everything: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    for one_of_two in ["markMasqBit", "externalSetMarkChain"] {
        let others = everything.lines().filter(|line| !line.starts_with(one_of_two));
        let text: String = others.map(|line| format!("{line}\n")).collect();
        let config = parse(&[source("config.yaml", &text)], &Flags::default()).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.policy.to_ports.is_some());
    }
    assert_eq!(
        everything.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).count(),
        KEYS.len()
    );
}

/// The examples in the comments stand indented behind the '#'.
#[test]
fn every_example_is_right() {
    let examples: Vec<String> = SHIPPED
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(|l| l.contains(": "))
        .map(str::to_owned)
        .collect();
    assert!(examples.len() >= 18, "{examples:?}");
    for example in examples {
        yaml(&example).unwrap_or_else(|error| panic!("{error}"));
    }
}
