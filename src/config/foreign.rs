//! Files that are not ours: a link that leads astray, a wrong `--config`. Whatever is in them, `/etc/shadow` or a private
//! key, has no business in the journal or in an answer, so none of their lines is quoted.

use super::diagnostic::{Place, Problems};
use super::document::{Entry, Node, SyntaxError, Value};
use super::keys::{KEYS, Key};
use super::nearest::nearest;

/// How many keys or words are compared with ours, which takes milliseconds. A file of ours has one of them before that.
const COMPARED: usize = 2000;

/// True when no key of a text is one of ours, nor nearly one, nor such a key of a map in it; of a text without keys,
/// when no word is; and of a ConfigMap.
pub fn is_foreign(root: Option<&Node<'_>>, text: &str) -> bool {
    match root.map(|root| &root.value) {
        Some(Value::Null) => false,
        Some(Value::Map(entries)) if config_map(entries).is_some() => true,
        Some(Value::Map(entries)) => !entries.is_empty() && !entries.iter().take(COMPARED).any(is_ours),
        _ => {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
            !words.filter(|word| word.len() > 3).take(COMPARED).any(is_key)
        }
    }
}

/// Where a manifest of Kubernetes says that it is a ConfigMap.
fn config_map(entries: &[Entry<'_>]) -> Option<u32> {
    let kinds = ["ConfigMap", "ConfigMapList"];
    let is_map = |value: &Value<'_>| matches!(value, Value::Text(kind) if kinds.contains(&&**kind));
    entries.iter().find(|entry| entry.key == "kind" && is_map(&entry.value.value)).map(|entry| entry.offset)
}

fn is_ours(entry: &Entry<'_>) -> bool {
    let Value::Map(inside) = &entry.value.value else { return is_key(&entry.key) };
    is_key(&entry.key) || inside.iter().take(KEYS.len()).any(|entry| is_key(&entry.key))
}

fn is_key(word: &str) -> bool {
    // Half of 'configWatch', and in files of many programs.
    let is_everybodys = word.eq_ignore_ascii_case("config");
    Key::named(word).is_some() || !is_everybodys && nearest(word, KEYS.iter().map(|info| info.name)).is_some()
}

/// Says what is wrong with such a text in words that hold nothing of it but what could be names of keys.
pub fn report(root: Option<&Node<'_>>, errors: &[SyntaxError], source: u32, problems: &mut Problems) {
    problems.quote_no_line_of(source);
    if let Some(Value::Map(entries)) = root.map(|root| &root.value)
        && let Some(offset) = config_map(entries)
    {
        let message = "this is a ConfigMap of Kubernetes; 'ip-masq-agent import FILE' prints the configuration in it";
        return problems.report(Place::File { source, offset }, "kind", message);
    }
    let mut hint = "; no key in this file is one of ip-masq-agent's, so its lines are not shown";
    let mut report = |offset: u32, subject: &str, message: &str| {
        let message = format!("{message}{}", std::mem::take(&mut hint));
        problems.report(Place::File { source, offset }, subject, message);
    };
    match (root.map(|root| (root, &root.value)), errors.last()) {
        (Some((_, Value::Map(entries))), _) => {
            for entry in entries {
                let name = if is_name(&entry.key) { &*entry.key } else { "" };
                report(entry.offset, name, "unknown key");
            }
        }
        (Some((root, Value::List(_))), _) => report(root.offset, "", "expected keys with values, found a list"),
        (Some((root, Value::Number(_))), _) => report(root.offset, "", "expected keys with values, found a number"),
        (Some((root, _)), _) => report(root.offset, "", "expected keys with values, found text"),
        // The error that ended the reading is about the form of the text, and has no word of it.
        (None, Some(error)) => report(error.offset as u32, "", &error.message),
        (None, None) => {}
    }
}

/// True of what somebody would call a key.
fn is_name(key: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    key.len() <= 40 && key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_part)
}
