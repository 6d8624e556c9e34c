//! The configuration of Kubernetes' ip-masq-agent: a ConfigMap, or the file itself.

use super::rule::{Line, Rules};
use super::{Imported, write};
use crate::config::document::{self, Entry, Value};
use crate::config::{self, Flags, SourceText};
use std::fmt::Write;
use std::path::Path;

/// Its keys. It finds them whatever their case, and overlooks all others.
const KEYS: [&str; 5] = ["nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6", "resyncInterval", "cidrLimit"];

/// `None` of a text that is something else.
pub fn of_yaml(text: &str) -> Option<Imported> {
    let mut found = Rules::default();
    let mut configurations: Vec<String> = Vec::new();
    let mut is_map = false;
    for part in parts(text) {
        let (root, errors) = document::parse(Path::new("configmap"), &part);
        let Some(Value::Map(entries)) = root.map(|root| root.value) else { continue };
        if !errors.is_empty() {
            return None;
        }
        match text_of(&entries, "kind") {
            Some("ConfigMap") => {
                is_map = true;
                configurations.extend(data(&entries));
            }
            Some("ConfigMapList" | "List") => {
                is_map = true;
                let items = value_of(&entries, "items");
                let items = if let Some(Value::List(items)) = items { items.as_slice() } else { &[] };
                for item in items {
                    if let Value::Map(entries) = &item.value {
                        configurations.extend(data(entries));
                    }
                }
            }
            Some(kind) => found.note(format!("a {kind} is passed over")),
            None if entries.iter().any(|entry| known(&entry.key).is_some()) => configurations.push(part),
            None => {}
        }
    }
    if configurations.is_empty() && !is_map {
        return None;
    }
    Some(written(&configurations, found))
}

/// The documents of a manifest.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match line.trim_end() {
            "---" => parts.push(String::new()),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push_str(line);
                    part.push('\n');
                }
            }
        }
    }
    parts
}

fn value_of<'e, 't>(entries: &'e [Entry<'t>], key: &str) -> Option<&'e Value<'t>> {
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value.value)
}

fn text_of<'e>(entries: &'e [Entry<'_>], key: &str) -> Option<&'e str> {
    match value_of(entries, key) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// The files of a ConfigMap.
fn data(entries: &[Entry<'_>]) -> Vec<String> {
    let Some(Value::Map(files)) = value_of(entries, "data") else { return Vec::new() };
    let text =
        |entry: &Entry<'_>| if let Value::Text(text) = &entry.value.value { Some(text.to_string()) } else { None };
    files.iter().filter_map(text).collect()
}

fn known(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key))
}

fn written(configurations: &[String], mut found: Rules) -> Imported {
    let mut keys: Vec<(&'static str, Vec<String>, bool)> = Vec::new();
    for (number, text) in (1..).zip(configurations) {
        let (root, errors) = document::parse(Path::new("config"), text);
        for error in errors {
            let line = Line { number: number_of_line(text, error.offset), text: String::new() };
            found.refuse(line, error.message);
        }
        let entries = match root.map(|root| root.value) {
            Some(Value::Map(entries)) => entries,
            Some(Value::Null) | None => continue,
            Some(other) => {
                found.refuse(Line { number, text: other.describe() }, "not a configuration of ip-masq-agent");
                continue;
            }
        };
        for entry in &entries {
            let line = Line { number: number_of_line(text, entry.offset as usize), text: entry.key.to_string() };
            let Some(key) = known(&entry.key) else {
                found.refuse(line, "not a key of Kubernetes' ip-masq-agent, which passes over it");
                continue;
            };
            match taken(key, &entry.value.value) {
                Err(reason) => found.refuse(line, reason),
                Ok((items, is_list)) => match keys.iter_mut().find(|(name, ..)| *name == key) {
                    Some((_, before, true)) => before.extend(items),
                    Some((_, before, false)) => *before = items,
                    None => keys.push((key, items, is_list)),
                },
            }
        }
    }
    Imported { text: text(&keys, &found), refused: found.refused.len() }
}

fn number_of_line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// A value as it will be written, when it is one.
fn taken(key: &str, value: &Value<'_>) -> Result<(Vec<String>, bool), String> {
    let scalar = |value: &Value<'_>| match value {
        Value::Text(text) => Ok(write::word(text)),
        Value::Number(text) => Ok(text.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("expected a value, found {}", other.describe())),
    };
    let is_list = key == KEYS[0];
    let items = match value {
        Value::Null if is_list => Vec::new(),
        Value::List(items) if is_list => items.iter().map(|item| scalar(&item.value)).collect::<Result<_, _>>()?,
        other => vec![scalar(other)?],
    };
    // Judged as it would be in a file of ours.
    let line = if is_list {
        format!("enableIPv6: true\n{key}: [{}]\n", items.join(", "))
    } else {
        format!("{key}: {}\n", items.join(""))
    };
    let source = SourceText { path: Path::new("import.yaml").into(), text: line };
    match config::parse(&[source], &Flags::default()) {
        Ok(_) => Ok((items, is_list)),
        Err(diagnostics) => Err(diagnostics.0.iter().map(|one| one.message.clone()).collect::<Vec<_>>().join("; ")),
    }
}

fn text(keys: &[(&str, Vec<String>, bool)], found: &Rules) -> String {
    let mut text = write::head("a configuration of Kubernetes' ip-masq-agent", &found.notes);
    if keys.iter().any(|(_, items, is_list)| *is_list && items.iter().any(|item| item.contains(':'))) {
        text.push_str("# It has IPv6 ranges, for which that program needs --enable-ipv6.\nenableIPv6: true\n");
    }
    for (key, items, is_list) in keys {
        let _ = match (is_list, items.len()) {
            (false, _) => writeln!(text, "{key}: {}", items.join("")),
            (true, 0) => writeln!(text, "{key}: []"),
            (true, _) => writeln!(
                text,
                "{key}:\n{}",
                items.iter().map(|item| format!("  - {item}")).collect::<Vec<_>>().join("\n")
            ),
        };
    }
    text.push_str(
        "# As that program does. Without the next two keys, packets with an address of the outgoing interface (virtual\n\
         # addresses) and those to multicast addresses keep their source:\n\
         masqLocalSource: true\nmasqMulticast: true\n",
    );
    text.push_str(&write::refusals(&found.refused));
    text
}
