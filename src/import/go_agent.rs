//! The configuration of Kubernetes' ip-masq-agent: a ConfigMap, or the file itself.

use super::iptables::shortened;
use super::rule::{Line, Rules, Taken};
use super::{ImportError, Imported, write};
use crate::config::document::{self, Entry, Value};
use crate::config::{self, Flags, SourceText};
use std::fmt::Write;
use std::path::Path;

/// Its keys. It finds them whatever their case, and overlooks all others.
const KEYS: [&str; 5] = ["nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6", "resyncInterval", "cidrLimit"];

/// Reads a manifest, or the file itself.
///
/// # Errors
/// When the text is something else.
pub fn of_yaml(text: &str) -> Result<Imported, ImportError> {
    let mut found = Rules::default();
    let mut configurations: Vec<Part> = Vec::new();
    let mut is_map = false;
    for part in parts(text) {
        let (root, errors) = document::parse(Path::new("configmap"), &part.text);
        for error in errors.iter().take(1) {
            found.refuse(part.line_of(error.offset as u32), error.message.clone());
        }
        let Some(Value::Map(entries)) = root.map(|root| root.value).filter(|_| errors.is_empty()) else { continue };
        match text_of(&entries, "kind") {
            Some("ConfigMap") => {
                is_map = true;
                configurations.extend(data(&entries, &part, &mut found));
            }
            Some("ConfigMapList" | "List") => {
                is_map = true;
                let items = value_of(&entries, "items");
                let items = if let Some(Value::List(items)) = items { items.as_slice() } else { &[] };
                for item in items {
                    let Value::Map(entries) = &item.value else { continue };
                    match text_of(entries, "kind").filter(|kind| *kind != "ConfigMap") {
                        Some(kind) => pass_over(kind, entries, &part, &mut found),
                        None => configurations.extend(data(entries, &part, &mut found)),
                    }
                }
            }
            Some(kind) => pass_over(kind, &entries, &part, &mut found),
            None if entries.iter().any(|entry| known(&entry.key).is_some()) => configurations.push(part),
            None => {}
        }
    }
    if configurations.is_empty() && !is_map {
        let is_meant = text.contains("ConfigMap") || text.contains(KEYS[0]);
        let wrong = found.refused.into_iter().next().filter(|_| is_meant);
        return Err(wrong.map_or(ImportError::Unknown, |one| ImportError::Yaml(one.line.number, one.reason)));
    }
    Ok(written(&configurations, found))
}

/// A text inside of the one that is read.
struct Part {
    text: String,
    /// The line of the whole in which it begins, from 1.
    first: usize,
    /// Its lines are lines of the whole. Those of a text in quotes, or one that is folded, are not.
    has_lines: bool,
}

impl Part {
    fn breaks_before(&self, offset: u32) -> usize {
        self.text.as_bytes().iter().take(offset as usize).filter(|byte| **byte == b'\n').count()
    }

    /// The line of the whole in which a byte is.
    fn line(&self, offset: u32) -> usize {
        self.first + if self.has_lines { self.breaks_before(offset) } else { 0 }
    }

    /// The line in which a byte is, as it is written.
    fn line_of(&self, offset: u32) -> Line {
        let written = self.text.lines().nth(self.breaks_before(offset)).unwrap_or_default();
        self.at(offset, &shortened(written.trim()))
    }

    fn at(&self, offset: u32, text: &str) -> Line {
        Line { number: self.line(offset), text: text.to_owned() }
    }

    /// A value of it that is text, as a part of the whole.
    fn inside(&self, entry: &Entry<'_>, text: &str) -> Part {
        let before = self.text.get(entry.offset as usize..entry.value.offset as usize).unwrap_or_default();
        let header = before.split_once(':').map_or("", |(_, header)| header.trim_start_matches(' '));
        let is_literal = header.starts_with('|');
        let first = self.line(entry.offset) + usize::from(is_literal);
        Part { text: text.to_owned(), first, has_lines: is_literal && self.has_lines }
    }
}

/// The documents of a manifest.
fn parts(text: &str) -> Vec<Part> {
    let begin = |first| Part { text: String::new(), first, has_lines: true };
    let mut parts = vec![begin(1)];
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim_end() {
            "---" => parts.push(begin(number + 1)),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.text.push_str(line);
                    part.text.push('\n');
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

fn pass_over(kind: &str, entries: &[Entry<'_>], part: &Part, found: &mut Rules) {
    let line = entries.iter().find(|entry| entry.key == "kind").map_or(0, |entry| part.line(entry.offset));
    found.note(format!("line {line}: a {kind} is passed over"));
}

/// The files of a ConfigMap.
fn data(entries: &[Entry<'_>], part: &Part, found: &mut Rules) -> Vec<Part> {
    if let Some(binary) = entries.iter().find(|entry| entry.key == "binaryData") {
        found.refuse(part.at(binary.offset, &binary.key), "what is in it is not read; give the file itself");
    }
    let Some(Value::Map(files)) = value_of(entries, "data") else { return Vec::new() };
    let text = |entry: &Entry<'_>| match &entry.value.value {
        Value::Text(text) => Some(part.inside(entry, text)),
        other => {
            let reason = format!("expected the text of a file, found {}", other.describe());
            found.refuse(part.at(entry.offset, &entry.key), reason);
            None
        }
    };
    files.iter().filter_map(text).collect()
}

fn known(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key))
}

fn written(configurations: &[Part], mut found: Rules) -> Imported {
    let mut keys: Vec<(&'static str, Vec<String>, bool)> = Vec::new();
    for part in configurations {
        let (root, errors) = document::parse(Path::new("config"), &part.text);
        for error in errors {
            found.refuse(part.line_of(error.offset as u32), error.message);
        }
        let Some(root) = root else { continue };
        let entries = match root.value {
            Value::Map(entries) => entries,
            Value::Null => continue,
            other => {
                found.refuse(part.at(root.offset, &other.describe()), "not a configuration of ip-masq-agent");
                continue;
            }
        };
        for entry in &entries {
            let line = part.at(entry.offset, &entry.key);
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

/// A value as it will be written, when it is one.
fn taken(key: &str, value: &Value<'_>) -> Taken<(Vec<String>, bool)> {
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
