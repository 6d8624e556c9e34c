//! The same content in YAML, JSON and TOML means the same.

use super::{placeless, shown, source, yaml};
use ip_masq_agent::config::{Config, Diagnostics, Flags, SourceText, parse};
use proptest::prelude::*;
use std::fmt::Write;

/// What a key can be set to, as text for each language.
#[derive(Debug, Clone)]
enum Content {
    Plain(String),
    Text(String),
    List(Vec<String>),
}

type Document = Vec<(&'static str, Content)>;

fn text(word: impl Into<String>) -> Content {
    Content::Text(word.into())
}

fn cidr() -> impl Strategy<Value = String> {
    let v4 = (any::<u32>(), 0u32..=32).prop_map(|(bits, length)| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        format!("{}/{length}", std::net::Ipv4Addr::from(bits & mask))
    });
    // Inside 2000::/3, so that none is IPv4-mapped.
    let v6 = (any::<u128>(), 3u32..=128).prop_map(|(bits, length)| {
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        format!("{}/{length}", std::net::Ipv6Addr::from((bits >> 3 | 1 << 125) & mask))
    });
    prop_oneof![v4, v6]
}

fn words(words: &'static [&'static str]) -> impl Strategy<Value = Content> {
    prop::sample::select(words).prop_map(text)
}

fn document() -> impl Strategy<Value = Document> {
    let switch = || any::<bool>().prop_map(|value| Content::Plain(value.to_string()));
    let cidrs = || prop::collection::vec(cidr(), 0..6).prop_map(Content::List);
    let interfaces = prop::collection::vec("!?[a-z][a-z0-9.-]{0,12}[+]?", 0..4).prop_map(Content::List);
    let ports = prop::collection::btree_set(1u16..=65535, 1..6).prop_map(|ports| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        text(ports.chunks(2).map(|pair| pair.join("-")).collect::<Vec<_>>().join(","))
    });
    let durations = words(&["1s", "60s", "1.5h", "1h15m30.918273645s", "+5s", "1500ms", "2000000µs", "24h"]);
    let chain = "[A-Z][A-Z0-9_.-]{0,20}[0-9]".prop_map(text);
    let first = (cidrs(), cidrs(), cidrs(), cidrs(), interfaces, switch(), switch(), switch(), switch());
    let second = (switch(), switch(), ports, 100u32..1000, durations, chain);
    let third = (
        words(&["auto", "nftables", "iptables", "iptables-nft", "iptables-legacy"]),
        words(&["last", "first"]),
        words(&["events", "poll"]),
        words(&["never", "persist"]),
        words(&["cleanup", "keep"]),
    );
    (first, second, third, any::<u32>()).prop_map(|(a, b, c, present)| {
        let all = [
            ("nonMasqueradeCIDRs", a.0),
            ("masqueradeExceptionCIDRs", a.1),
            ("sourceCIDRs", a.2),
            ("excludeSourceCIDRs", a.3),
            ("outInterfaces", a.4),
            ("masqLinkLocal", a.5),
            ("masqLinkLocalIPv6", a.6),
            ("masqMulticast", a.7),
            ("masqLocalSource", a.8),
            ("nomasqAllReservedRanges", b.0),
            ("randomFully", b.1),
            ("toPorts", b.2),
            ("cidrLimit", Content::Plain(b.3.to_string())),
            ("resyncInterval", b.4),
            ("masqChain", b.5),
            ("backend", c.0),
            ("jumpPosition", c.1),
            ("ruleWatch", c.2),
            ("tableOwner", c.3),
            ("onStop", c.4),
        ];
        let chosen = all.into_iter().enumerate().filter(|(bit, _)| present >> bit & 1 == 1).map(|(_, entry)| entry);
        std::iter::once(("enableIPv6", Content::Plain("true".into()))).chain(chosen).collect()
    })
}

fn quoted_list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", "))
}

fn as_yaml(document: &Document) -> String {
    let mut out = String::from("# a comment\n");
    for (key, content) in document {
        match content {
            Content::Plain(plain) => writeln!(out, "{key}: {plain}").unwrap(),
            Content::Text(text) => writeln!(out, "{key}: '{text}'  # why").unwrap(),
            Content::List(items) if items.len() < 2 => writeln!(out, "{key}: {}", quoted_list(items)).unwrap(),
            Content::List(items) => {
                writeln!(out, "{key}:").unwrap();
                items.iter().for_each(|item| writeln!(out, "  - \"{item}\"").unwrap());
            }
        }
    }
    out
}

fn as_json(document: &Document) -> String {
    let entry = |(key, content): &(&str, Content)| match content {
        Content::Plain(plain) => format!("\t{key:?}: {plain}"),
        Content::Text(text) => format!("\t{key:?}: {}", serde_json::to_string(text).unwrap()),
        Content::List(items) => format!("\t{key:?}: {}", quoted_list(items)),
    };
    format!("{{\n{}\n}}\n", document.iter().map(entry).collect::<Vec<_>>().join(",\n"))
}

fn as_toml(document: &Document) -> String {
    let entry = |(key, content): &(&str, Content)| match content {
        Content::Plain(plain) => format!("{key} = {plain}\n"),
        Content::Text(text) => format!("{key} = '{text}'\n"),
        Content::List(items) => format!("{key} = {}\n", quoted_list(items)),
    };
    document.iter().map(entry).collect()
}

fn read(name: &str, text: &str) -> Result<Config, Diagnostics> {
    parse(&[SourceText { ..source(name, text) }], &Flags::default())
}

proptest! {
    #[test]
    fn any_valid_document_means_the_same_in_every_language(document in document()) {
        let (yaml, json, toml) = (as_yaml(&document), as_json(&document), as_toml(&document));
        let from_yaml = placeless(read("a.yaml", &yaml).unwrap());
        // JSON is YAML too, and a file of another name is known by its text.
        for (name, text) in [("a.json", &json), ("a.yaml", &json), ("a", &json), ("a.toml", &toml), ("a", &toml), ("a", &yaml)] {
            let other = placeless(read(name, text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?);
            prop_assert_eq!(&other, &from_yaml, "{} {}", name, text);
        }
        for (key, content) in &document {
            if let (&"nonMasqueradeCIDRs", Content::List(items)) = (key, content) {
                prop_assert_eq!(&shown(&from_yaml.policy.exempt), items);
            }
        }
    }

    /// A text that is no configuration is refused; it is never a panic, and the places are inside the text.
    #[test]
    fn no_text_is_too_strange(
        document in document(),
        at in any::<prop::sample::Index>(),
        strange in "[ \\t\\n\\[\\]{}:,#&*!|>'\"%@`~?=.0-9a-zé\u{1}\u{feff}\u{2028}-]{0,8}",
        name in prop::sample::select(&["a.yaml", "a.json", "a.toml"][..]),
    ) {
        let mut text = match name {
            "a.yaml" => as_yaml(&document),
            "a.json" => as_json(&document),
            _ => as_toml(&document),
        };
        let mut at = at.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &strange);
        if let Err(diagnostics) = read(name, &text) {
            prop_assert!(!diagnostics.0.is_empty());
            for diagnostic in &diagnostics.0 {
                let (line, column) = diagnostic.place.unwrap();
                let line = text.split('\n').nth(line as usize - 1).unwrap();
                prop_assert!(column as usize <= line.chars().count() + 1, "{}", diagnostic);
            }
        }
    }
}

#[test]
fn a_text_without_keys_is_the_defaults() {
    let defaults = placeless(parse(&[], &Flags::default()).unwrap());
    let cases = [
        ("a.yaml", ""),
        ("a.yaml", "\n# only a comment\n"),
        ("a.yaml", "---\n"),
        ("a.yaml", "---\n...\n"),
        ("a.yaml", "null"),
        ("a.yaml", "~"),
        ("a.yaml", "{}"),
        ("a.json", ""),
        ("a.json", "null"),
        ("a.json", " {} \n"),
        ("a.toml", ""),
        ("a.toml", "# only a comment\n"),
    ];
    for (name, text) in cases {
        assert_eq!(
            placeless(read(name, text).unwrap_or_else(|e| panic!("{text:?}: {e}"))),
            defaults,
            "{name} {text:?}"
        );
    }
    assert_eq!(shown(&defaults.policy.exempt), ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
    assert!(defaults.policy.random_fully);
    assert!(!defaults.policy.enable_ipv6);
}

#[test]
fn line_ends_of_other_systems_are_read() {
    let config = yaml("nonMasqueradeCIDRs:\r\n  - 10.0.0.0/8\r\nmasqChain: X\r\n").unwrap();
    assert_eq!(shown(&config.policy.exempt), ["10.0.0.0/8"]);
    assert_eq!(config.settings.masq_chain.as_str(), "X");
}

#[test]
fn prefixes_need_no_quotes_in_yaml() {
    let text = "enableIPv6: true\nnonMasqueradeCIDRs:\n- ::/0\n- 2001:db8::/32\n- ::1/128\n- 0.0.0.0/0\n";
    let config = yaml(text).unwrap();
    assert_eq!(shown(&config.policy.exempt), ["::/0", "2001:db8::/32", "::1/128", "0.0.0.0/0"]);
    let config = yaml("{enableIPv6: true, nonMasqueradeCIDRs: [::/0, 2001:db8::/32]}").unwrap();
    assert_eq!(shown(&config.policy.exempt), ["::/0", "2001:db8::/32"]);
}
