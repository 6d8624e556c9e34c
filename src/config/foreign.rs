//! Files that are not ours: a link that leads astray, a wrong `--config`. Whatever is in them, `/etc/shadow` or a private
//! key, has no business in the journal or in an answer, so none of their lines is quoted. Of what `import` takes it is said
//! how.

use super::diagnostic::{Place, Problems};
use super::document::{Entry, Node, SyntaxError, Value};
use super::keys::{KEYS, Key};
use super::nearest::nearest;

/// How many keys or words are compared with ours, which takes milliseconds. A file of ours has one of them before that.
const COMPARED: usize = 2000;

/// How many lines are looked at for rules of another program; a script has others before them.
const LOOKED_AT: usize = 100;

/// How many bytes of a text are looked at for words and lines: what a file is, it says soon.
const BEGINNING: usize = 1 << 20;

/// True when no key of a text is one of ours, nor nearly one, nor such a key of a map in it; of a text without keys,
/// when no word is; and of what `import` takes.
pub fn is_foreign(root: Option<&Node<'_>>, text: &str) -> bool {
    match root.map(|root| &root.value) {
        _ if importable(root, text).is_some() => true,
        Some(Value::Null) => false,
        Some(Value::Map(entries)) => !entries.is_empty() && !entries.iter().take(COMPARED).any(is_ours),
        _ => {
            let lines = beginning(text).lines().filter(|line| !line.trim_start().starts_with('#'));
            let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
            !words.filter(|word| word.len() > 3).take(COMPARED).any(is_key)
        }
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=text.len().min(BEGINNING)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// What `import` takes: where it says what it is, the key that says so, and the error.
fn importable(root: Option<&Node<'_>>, text: &str) -> Option<(u32, &'static str, &'static str)> {
    if let Some(Value::Map(entries)) = root.map(|root| &root.value) {
        let named = |key: &str| entries.iter().find(|entry| entry.key == key);
        if let Some(kind) = named("kind") {
            let message = of_kubernetes(&kind.value.value, named("items").map(|items| &items.value.value));
            return message.map(|message| (kind.offset, "kind", message));
        }
        if let Some(rules) = named("nftables").filter(|rules| matches!(rules.value.value, Value::List(_))) {
            return Some((rules.offset, "nftables", OF_NFT));
        }
        let plugins = named("plugins").filter(|plugins| {
            matches!(&plugins.value.value, Value::List(list) if list.iter().any(|one| is(one, "type", &["portmap"])))
        });
        if let Some(plugin) = plugins.or_else(|| named("type").filter(|kind| is_text(&kind.value.value, &["portmap"])))
        {
            return Some((plugin.offset, "", OF_PORTMAP));
        }
        // Of a text with an error, as much as was read.
        if !entries.is_empty() {
            return None;
        }
    }
    let lines = beginning(text).split_inclusive('\n').scan(0, |end, line| {
        let begin = *end;
        *end += line.len();
        Some((begin, line.trim()))
    });
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', '\u{feff}'])).take(LOOKED_AT);
    let (first, line) = lines.next()?;
    let begin = u32::try_from(first).ok();
    if is_of_save(line) || is_of_script(line) {
        return begin.map(|begin| (begin, "", OF_IPTABLES));
    }
    std::iter::once((first, line)).chain(lines).find_map(|(offset, line)| {
        let is_table = line.starts_with("table ") && line.ends_with('{');
        let is_listing = line.starts_with("Chain ") && line.contains("(policy ");
        let message = match line {
            "kind: ConfigMap" => OF_CONFIG_MAP,
            _ if is_listing => OF_LISTING,
            line if is_of_script(line) => OF_IPTABLES,
            _ if is_table => OF_NFT_TEXT,
            _ => return None,
        };
        Some((u32::try_from(offset).ok()?, "", message))
    })
}

const OF_CONFIG_MAP: &str =
    "this is a ConfigMap of Kubernetes; 'ip-masq-agent import FILE' prints the configuration in it";
const OF_LIST: &str =
    "this is a list of Kubernetes with a ConfigMap in it; 'ip-masq-agent import FILE' prints the configuration in it";
const OF_IPTABLES: &str =
    "these are rules of iptables; 'ip-masq-agent import FILE' prints a configuration that says the same";
const OF_LISTING: &str = "this is what 'iptables -L' prints; 'iptables-save | ip-masq-agent import' prints a configuration \
                          that says the same";
const OF_NFT: &str =
    "this is what 'nft -j list ruleset' prints; 'ip-masq-agent import FILE' prints a configuration that says the same";
const OF_NFT_TEXT: &str = "these are rules of nft as text; once they are loaded, 'nft -j list ruleset | ip-masq-agent import' \
                           prints a configuration that says the same";
const OF_PORTMAP: &str =
    "this is a configuration of CNI's portmap; 'ip-masq-agent import FILE' prints one that says the same";

/// A manifest with a ConfigMap in it.
fn of_kubernetes(kind: &Value<'_>, items: Option<&Value<'_>>) -> Option<&'static str> {
    if is_text(kind, &["ConfigMap", "ConfigMapList"]) {
        return Some(OF_CONFIG_MAP);
    }
    let Some(Value::List(items)) = items else { return None };
    let has_one = is_text(kind, &["List"]) && items.iter().any(|item| is(item, "kind", &["ConfigMap"]));
    has_one.then_some(OF_LIST)
}

/// True of a map with such a text under a key.
fn is(node: &Node<'_>, key: &str, texts: &[&str]) -> bool {
    let Value::Map(entries) = &node.value else { return false };
    entries.iter().any(|entry| entry.key == key && is_text(&entry.value.value, texts))
}

fn is_text(value: &Value<'_>, texts: &[&str]) -> bool {
    matches!(value, Value::Text(text) if texts.contains(&&**text))
}

/// A line of iptables-save, also with counters, or of `ipset save`.
fn is_of_save(line: &str) -> bool {
    ["*nat", "*filter", "*mangle", "*raw", "*security"].contains(&line)
        || ["-A ", "-I ", "-N ", "-P "].iter().any(|start| line.starts_with(start))
        || line.starts_with(':') && line.ends_with(']')
        || line.starts_with('[') && line.contains("] -A ")
        || line.starts_with("create ") && line.contains(" hash:")
}

fn is_of_script(line: &str) -> bool {
    let program = line.split_whitespace().next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let rest = program.strip_prefix("iptables").or_else(|| program.strip_prefix("ip6tables"));
    rest.is_some_and(|rest| ["", "-nft", "-legacy"].contains(&rest)) && line.contains(" -")
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
pub fn report(root: Option<&Node<'_>>, text: &str, errors: &[SyntaxError], source: u32, problems: &mut Problems) {
    problems.quote_no_line_of(source);
    if let Some((offset, subject, message)) = importable(root, text) {
        return problems.report(Place::File { source, offset }, subject, message);
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
