//! The text of a file as a small tree in which every node knows its place, whatever the language of the file.
//!
//! Deserializing straight into a struct would stop at the first error, so the tree comes first and is judged as a
//! whole ([`super::draft`]).

mod json;
mod toml;
mod yaml;

use super::diagnostic::{quoted, short};
use std::borrow::Cow;
use std::path::Path;

/// How deep lists and maps may be nested. Nothing that we read needs more than two levels.
const MAX_DEPTH: usize = 32;
/// How many values a file may have: more than the Internet has routes, and a bound on the memory of a useless file.
const MAX_VALUES: usize = 2_000_000;
/// How many of them may be more than an item of a list: keys, maps, lists, anchors. A list of CIDRs has none of them,
/// and each costs several times what an item does.
const MAX_KEYS: usize = 200_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'t> {
    /// The byte of the text at which it begins.
    pub offset: u32,
    pub value: Value<'t>,
}

/// What a file can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'t> {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number, as it was written.
    Number(Cow<'t, str>),
    /// Text, quoted or not.
    Text(Cow<'t, str>),
    /// A date or time, which only TOML has.
    Date(String),
    List(Vec<Node<'t>>),
    /// A map, in the order of the file, duplicates included.
    Map(Vec<Entry<'t>>),
    /// Something that was already reported.
    Broken,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'t> {
    pub key: Cow<'t, str>,
    /// The byte of the text at which the key begins.
    pub offset: u32,
    pub value: Node<'t>,
}

impl Value<'_> {
    /// The value in a message: what was found.
    pub fn describe(&self) -> String {
        match self {
            Value::Null | Value::Broken => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => format!("the number {}", short(text)),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::Date(text) => format!("the date {text}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Something wrong with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The byte of the text.
    pub offset: usize,
    /// The key that it is about, where that is known.
    pub key: String,
    /// What is wrong; what was probably meant.
    pub message: String,
    /// For a key that is there twice: where it was first.
    pub first: Option<usize>,
}

impl SyntaxError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        SyntaxError { offset, key: String::new(), message: message.into(), first: None }
    }

    /// A key that is there twice.
    pub fn duplicate(offset: usize, key: &str, first: Option<usize>) -> Self {
        SyntaxError { offset, key: key.to_owned(), message: "written twice".to_owned(), first }
    }
}

/// The languages of configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    /// YAML 1.2, of which JSON is a part.
    Yaml,
    /// JSON and nothing more.
    Json,
    Toml,
}

impl Language {
    /// By the extension; where that says nothing, by the first line that does.
    fn of(path: &Path, text: &str) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => Language::Yaml,
            Some("json") => Language::Json,
            Some("toml") => Language::Toml,
            _ => {
                let telling = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
                let toml = telling.is_some_and(|line| match (line.find('='), line.find(':')) {
                    (Some(equals), Some(colon)) => equals < colon,
                    (equals, _) => equals.is_some(),
                });
                if toml { Language::Toml } else { Language::Yaml }
            }
        }
    }
}

/// Reads a text. Both a tree and errors come back when the rest of the text could still be read.
pub fn parse<'t>(path: &Path, text: &'t str) -> (Option<Node<'t>>, Vec<SyntaxError>) {
    if let Some(offset) = text.find('\0') {
        return (None, vec![SyntaxError::new(offset, "a NUL byte; is this a binary file?")]);
    }
    match Language::of(path, text) {
        Language::Yaml => yaml::parse(text),
        Language::Json => json::parse(text),
        Language::Toml => toml::parse(text),
    }
}

/// The value of a flag's text, which is what unquoted YAML would make of it.
pub fn plain(text: &str) -> Value<'_> {
    yaml::plain(text.into())
}

/// A value of our own, written as in YAML.
pub fn value(text: &str) -> Node<'_> {
    yaml::parse(text).0.unwrap_or(Node { offset: 0, value: Value::Null })
}

/// Counts what a file is made of while it is read, before anything is made of it.
#[derive(Debug, Default)]
struct Budget {
    values: usize,
    keys: usize,
}

impl Budget {
    /// One more value.
    fn value(&mut self) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(format!("more than {MAX_VALUES} values in one file")) } else { Ok(()) }
    }

    /// One more key, map, list or anchor.
    fn key(&mut self) -> Result<(), String> {
        self.keys += 1;
        let message = || format!("more than {MAX_KEYS} keys, maps and lists in one file");
        if self.keys > MAX_KEYS { Err(message()) } else { Ok(()) }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_language_and_else_the_text_does() {
        let cases = [
            ("a.yaml", "x = 1", Language::Yaml),
            ("a.toml", "x: 1", Language::Toml),
            ("a.json", "x: 1", Language::Json),
            ("a.conf", "# b = c\nx: 'a=b'", Language::Yaml),
            ("a", "# b: c\nx = 'a:b'", Language::Toml),
            ("a", "{\"x\": 1}", Language::Yaml),
            ("a", "", Language::Yaml),
        ];
        for (path, text, language) in cases {
            assert_eq!(Language::of(Path::new(path), text), language, "{path} {text}");
        }
    }
}
