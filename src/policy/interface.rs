//! Interface names as netfilter matches them.

use super::WithOrigin;
use std::fmt;
use std::str::FromStr;

/// A pattern of `outInterfaces`: `eth0`, `eth+` (prefix), `!wg0` (all but).
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct InterfacePattern {
    /// True for `!name`: interfaces that match are out of scope.
    pub negated: bool,
    /// The name without `!` and `+`.
    pub name: String,
    /// True for `name+`: every interface whose name begins with it.
    pub prefix: bool,
}

/// Why a text is no [`InterfacePattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfacePatternError {
    Empty,
    /// More than 15 characters (IFNAMSIZ - 1, linux/if.h).
    TooLong(usize),
    /// A character the kernel or the rule language refuses.
    Character(char),
}

impl fmt::Display for InterfacePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfacePatternError::Empty => f.write_str("an interface name is missing"),
            InterfacePatternError::TooLong(length) => {
                write!(f, "an interface name has at most 15 characters, this one has {length}")
            }
            InterfacePatternError::Character(c) => write!(f, "{c:?} can't be part of an interface name"),
        }
    }
}

impl std::error::Error for InterfacePatternError {}

/// What keeps an interface out: the first pattern with `!` that matches it, or `Some(None)` where others are listed and none
/// matches; `None` lets it in.
pub fn keeps_out<'p>(
    patterns: &'p [WithOrigin<InterfacePattern>],
    interface: &str,
) -> Option<Option<&'p WithOrigin<InterfacePattern>>> {
    let refuses = |entry: &&WithOrigin<InterfacePattern>| entry.value.negated && entry.value.matches(interface);
    if let Some(entry) = patterns.iter().find(refuses) {
        return Some(Some(entry));
    }
    let mut wanted = patterns.iter().filter(|entry| !entry.value.negated).peekable();
    (wanted.peek().is_some() && !wanted.any(|entry| entry.value.matches(interface))).then_some(None)
}

impl InterfacePattern {
    /// True when the name fits, `!` not considered.
    pub fn matches(&self, interface: &str) -> bool {
        if self.prefix { interface.starts_with(&self.name) } else { interface == self.name }
    }

    /// The pattern without `!`, as iptables writes it: `eth0` or `eth+`.
    pub fn positive(&self) -> String {
        format!("{}{}", self.name, if self.prefix { "+" } else { "" })
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "!" } else { "" }, self.positive())
    }
}

impl FromStr for InterfacePattern {
    type Err = InterfacePatternError;

    fn from_str(text: &str) -> Result<Self, InterfacePatternError> {
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (name, prefix) = match rest.strip_suffix('+') {
            Some(name) => (name, true),
            None => (rest, false),
        };
        if name.is_empty() {
            return Err(InterfacePatternError::Empty);
        }
        if rest.len() > 15 {
            return Err(InterfacePatternError::TooLong(rest.len()));
        }
        let refused =
            |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '!' | '+' | '*' | ',' | '"' | '\'' | '\\' | ':');
        if let Some(c) = name.chars().find(|c| refused(*c)) {
            return Err(InterfacePatternError::Character(c));
        }
        if matches!(name, "." | "..") {
            return Err(InterfacePatternError::Character('.'));
        }
        Ok(InterfacePattern { negated, name: name.to_owned(), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read_and_written_back() {
        for text in ["eth0", "eth+", "!wg0", "!wg+", "enp3s0f1np1.1234"[..15].as_ref(), "br-lan.10"] {
            let pattern: InterfacePattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
        }
        assert!("eth+".parse::<InterfacePattern>().unwrap().matches("eth12"));
        assert!(!"eth".parse::<InterfacePattern>().unwrap().matches("eth12"));
    }

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        use InterfacePatternError::*;
        let cases = [
            ("", Empty),
            ("!", Empty),
            ("+", Empty),
            ("abcdefghijklmnop", TooLong(16)),
            ("eth 0", Character(' ')),
            ("a/b", Character('/')),
            ("eth0,eth1", Character(',')),
            ("eth*", Character('*')),
            ("..", Character('.')),
            ("é", Character('é')),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<InterfacePattern>(), Err(error), "{text}");
        }
    }
}
