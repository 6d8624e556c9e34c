//! Rules of other programs that are meant to be there.

use super::document::{Node, Value as Found};
use super::value::{Item, Kind, Reader};
use std::fmt;

/// A rule as `check --host` prints it; `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedRule(String);

impl ExpectedRule {
    /// True when a text is what is expected, from its beginning to its end.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for ExpectedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Item for ExpectedRule {
    const KIND: Kind = Kind::Rules;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = "a rule as 'check --host' prints it";
        let text = match &node.value {
            Found::Null => return reader.expected(node, expected, "; remove the empty item"),
            Found::Map(_) => return reader.expected(node, expected, "; put the rule in quotes"),
            _ => reader.text(node, expected)?,
        };
        match text.trim() {
            "" => reader.wrong(node, format!("expected {expected}, found an empty text; remove it")),
            text if text.chars().all(|c| c == '*') => {
                reader.wrong(node, format!("'{text}' expects every rule there is; name the table and the chain"))
            }
            text => Some(ExpectedRule(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let matches = |pattern: &str, text: &str| ExpectedRule(pattern.to_owned()).matches(text);
        let rule = "ip nat POSTROUTING (priority 100): ip saddr 172.17.0.0/16 oifname != \"docker0\" MASQUERADE";
        for pattern in [rule, "ip nat POSTROUTING (priority 100): ip saddr 172.*docker0*", "*MASQUERADE", "ip nat**"] {
            assert!(matches(pattern, rule), "{pattern}");
        }
        for pattern in ["ip nat", "*SNAT*", "ip nat*docker0", "MASQUERADE*", "ip nat POSTROUTING*172.18.*"] {
            assert!(!matches(pattern, rule), "{pattern}");
        }
        assert!(!matches("ab*ba", "aba"), "no character counts twice");
    }
}
