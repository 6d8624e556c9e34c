//! The text of a file as a small tree in which every node knows its place, whatever the language of the file.
//!
//! Deserializing straight into a struct would stop at the first error, so the tree comes first and is checked as a
//! whole (`draft`).

mod json;
mod node;
mod toml;
mod yaml;

pub use node::{Entry, Node, SyntaxError, Value};

use std::path::Path;

/// The languages of configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// YAML 1.2, of which JSON is a part.
    Yaml,
    /// JSON and nothing more.
    Json,
    Toml,
}

impl Language {
    /// By the extension; where that says nothing, by the first line that does.
    pub fn of(path: &Path, text: &str) -> Self {
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

/// A value outside of any file, written as in YAML.
pub fn value(text: &str) -> (Node<'_>, Vec<SyntaxError>) {
    let (node, errors) = yaml::parse(text);
    (node.unwrap_or(Node { offset: 0, value: Value::Null }), errors)
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
