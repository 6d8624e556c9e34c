//! One value of one key: is it what the key wants, and if not, what was probably meant.

use super::diagnostic::{Place, Problems, quoted, visible};
use super::document::{Node, Value};
use super::duration::{DurationError, parse_go_duration};
use super::keys::{Key, nearest};
use super::settings::Choice;
use crate::policy::{InterfacePattern, InterfacePatternError, PortRanges, PortRangesError, Prefix, PrefixError};
use crate::ruleset::ChainName;
use std::fmt::Display;
use std::time::Duration;

/// The shortest and the longest `resyncInterval`.
const RESYNC: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

/// Judges the values of one key in one file, or in its flag.
#[derive(Debug)]
pub struct Judge<'p> {
    /// The key.
    pub key: Key,
    /// The file by its number; `None` for the flag.
    pub source: Option<u32>,
    /// What is wrong so far.
    pub problems: &'p mut Problems,
}

impl Judge<'_> {
    /// Where a node is written.
    pub fn place(&self, node: &Node) -> Place {
        match self.source {
            Some(source) => Place::File { source, offset: node.offset },
            None => Place::Flag(self.key),
        }
    }

    fn wrong<T>(&mut self, node: &Node, message: impl Display) -> Option<T> {
        self.problems.report(self.place(node), self.key.info().name, message);
        None
    }

    /// Says what was expected and what was found instead. Nodes that are broken were reported already.
    fn expected<T>(&mut self, node: &Node, expected: &str, hint: &str) -> Option<T> {
        match &node.value {
            Value::Broken => None,
            Value::Null => self.wrong(node, format!("expected {expected}, found nothing{hint}")),
            found => self.wrong(node, format!("expected {expected}, found {}{hint}", found.describe())),
        }
    }

    /// The items of a list.
    pub fn items<'n, 't>(&mut self, node: &'n Node<'t>) -> Option<&'n [Node<'t>]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Null => self.expected(node, "a list", "; write [] for an empty list, or leave the key out"),
            Value::Text(text) => {
                let words: Vec<&str> = text.split([',', ' ']).filter(|word| !word.is_empty()).collect();
                let hint = match words[..] {
                    [] => "; write [] for an empty list".to_owned(),
                    // Longer than what a message shows of a text.
                    _ if text.len() > 60 => "; write [\"…\", \"…\"]".to_owned(),
                    _ => format!("; write [\"{}\"]", words.join("\", \"")),
                };
                self.expected(node, "a list", &hint)
            }
            _ => self.expected(node, "a list", ""),
        }
    }

    /// Text that is meant as text.
    fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Number(text) => self.expected(node, expected, &format!("; write \"{text}\" if it is meant as text")),
            Value::Null => self.expected(node, expected, "; leave the key out for its default"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// `true` or `false`.
    pub fn switch(&mut self, node: &Node) -> Option<bool> {
        let expected = "true or false";
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) | Value::Number(text) => match meant_switch(text) {
                Some(value) if text.eq_ignore_ascii_case(value) => {
                    self.expected(node, expected, &format!("; write {value} without quotes"))
                }
                Some(value) => self.expected(node, expected, &format!("; write {value}")),
                None => self.expected(node, expected, ""),
            },
            Value::Null => self.expected(node, expected, "; leave the key out for its default"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// A CIDR.
    pub fn prefix(&mut self, node: &Node) -> Option<Prefix> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Null => return self.expected(node, "a CIDR", "; remove the empty item"),
            Value::Map(_) => return self.expected(node, "a CIDR", "; put the CIDR in quotes if it ends in ':'"),
            _ => return self.expected(node, "a CIDR", ""),
        };
        match text.parse() {
            Ok(prefix) => Some(prefix),
            Err(error) => self.wrong(node, refusal(text, &error, &prefix_hint(text, &error))),
        }
    }

    /// An interface pattern.
    pub fn interface(&mut self, node: &Node) -> Option<InterfacePattern> {
        let text = match &node.value {
            Value::Null => return self.expected(node, "an interface name", "; remove the empty item"),
            _ => self.text(node, "an interface name")?,
        };
        match text.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => self.wrong(node, refusal(text, &error, &interface_hint(text, &error))),
        }
    }

    /// A duration from 1 s to 24 h.
    pub fn duration(&mut self, node: &Node) -> Option<Duration> {
        let expected = "a duration such as 60s";
        if let Value::Number(text) = &node.value {
            let seconds = text.parse().is_ok_and(|seconds| RESYNC.contains(&Duration::from_secs(seconds)));
            let meant = if seconds { text } else { "60" };
            return self.expected(node, expected, &format!(" without a unit; write {meant}s"));
        }
        let text = self.text(node, expected)?;
        let nanoseconds = match parse_go_duration(text) {
            Ok(nanoseconds) => nanoseconds,
            Err(error) => return self.wrong(node, refusal(text, &error, &duration_hint(text, &error))),
        };
        let value = u64::try_from(nanoseconds).map(Duration::from_nanos).ok();
        match value {
            Some(value) if RESYNC.contains(&value) => Some(value),
            Some(value) => {
                let plainly = humantime::format_duration(value).to_string();
                let plainly = if plainly == *text { String::new() } else { format!(" ({plainly})") };
                self.wrong(node, format!("{}{plainly} is not between 1s and 24h", quoted(text)))
            }
            None => self.wrong(node, format!("{} is negative, not between 1s and 24h", quoted(text))),
        }
    }

    /// A whole number from 0, in decimal.
    pub fn count(&mut self, node: &Node) -> Option<u64> {
        let expected = "a whole number such as 64";
        match &node.value {
            Value::Number(text) if text.len() > 1 && text.starts_with('0') && is_digits(text) => {
                self.expected(node, expected, "; leave out the leading zeros")
            }
            Value::Number(text) => match text.parse() {
                Ok(number) if is_digits(text) => Some(number),
                _ => self.expected(node, expected, ""),
            },
            Value::Text(text) if is_digits(text) => {
                self.expected(node, expected, &format!("; write {} without quotes", quoted(text).trim_matches('\'')))
            }
            Value::Null => self.expected(node, expected, "; leave the key out for no limit"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// The name of a chain.
    pub fn chain(&mut self, node: &Node) -> Option<ChainName> {
        let text = self.text(node, "the name of a chain")?;
        text.parse().map_or_else(|error| self.wrong(node, refusal(text, &error, "")), Some)
    }

    /// Port ranges.
    pub fn ports(&mut self, node: &Node) -> Option<PortRanges> {
        let text = self.text(node, "port ranges such as \"1024-65535\"")?;
        match text.parse() {
            Ok(ranges) => Some(ranges),
            Err(error) => self.wrong(node, refusal(text, &error, &ports_hint(text, &error))),
        }
    }

    /// One of a few words.
    pub fn choice<C: Choice>(&mut self, node: &Node) -> Option<C> {
        let words: Vec<&str> = C::ALL.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", words.join(", "));
        let Value::Text(text) = &node.value else {
            return self.expected(node, &expected, "");
        };
        if let Some((_, value)) = C::ALL.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let hint = nearest(text, words).map(|word| format!("; did you mean {word}?")).unwrap_or_default();
        self.expected(node, &expected, &hint)
    }
}

/// What is wrong with a text, which is named once.
fn refusal(text: &str, error: &impl Display, hint: &str) -> String {
    let error = error.to_string();
    let named = !text.is_empty() && error.contains(text);
    let subject = if named { String::new() } else { format!("{}: ", quoted(text)) };
    format!("{subject}{}{hint}", visible(&error))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn meant_switch(text: &str) -> Option<&'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" | "1" | "enable" | "enabled" => Some("true"),
        "false" | "no" | "off" | "n" | "f" | "0" | "disable" | "disabled" => Some("false"),
        _ => None,
    }
}

fn prefix_hint(text: &str, error: &PrefixError) -> String {
    if let Some(prefix) = error.suggestion() {
        return format!("; did you mean {prefix}?");
    }
    match error {
        PrefixError::LeadingZero => "; octal to some readers, decimal to others".to_owned(),
        _ if text.contains(',') => "; write one CIDR per item".to_owned(),
        PrefixError::Space => match text.trim().parse::<Prefix>() {
            Ok(prefix) => format!("; did you mean {prefix}?"),
            Err(_) => String::new(),
        },
        _ => String::new(),
    }
}

fn interface_hint(text: &str, error: &InterfacePatternError) -> String {
    match error {
        InterfacePatternError::Character('*') if text.ends_with('*') => {
            format!("; did you mean {}?", visible(&text.replace('*', "+")))
        }
        InterfacePatternError::Character(',' | ' ') => "; write one name per item".to_owned(),
        InterfacePatternError::Empty if text == "+" => "; leave the list empty for all interfaces".to_owned(),
        _ => String::new(),
    }
}

fn duration_hint(text: &str, error: &DurationError) -> String {
    match error {
        DurationError::MissingUnit if is_digits(text) => format!("; did you mean {text}s?"),
        DurationError::UnknownUnit(unit) if unit.trim() != unit => "; leave out the space".to_owned(),
        DurationError::Invalid => "; write 60s or 1h30m".to_owned(),
        _ => String::new(),
    }
}

fn ports_hint(text: &str, error: &PortRangesError) -> String {
    match error {
        PortRangesError::Backwards(range) => format!("; did you mean {range}?"),
        PortRangesError::Order(_) => "; sort the ranges and join those that overlap".to_owned(),
        PortRangesError::Port(_) if text.contains(' ') => "; leave out the spaces".to_owned(),
        PortRangesError::Port(_) if text.contains(':') => "; write a range as 1024-65535".to_owned(),
        _ => String::new(),
    }
}
