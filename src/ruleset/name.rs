//! The name of our chain.

use std::fmt;
use std::str::FromStr;

/// A chain name that netfilter accepts and that is nobody else's word (`masqChain`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainName(String);

/// Why a text is no [`ChainName`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainNameError {
    /// Not 1 to 28 characters (XT_FUNCTION_MAXNAMELEN less the terminator, linux/netfilter/x_tables.h).
    Length(usize),
    /// A character outside `A-Z a-z 0-9 _ . -`.
    Character(char),
    /// A leading `-` would read as an option.
    LeadingDash,
    /// A built-in chain or a target's name.
    Reserved(String),
}

impl fmt::Display for ChainNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainNameError::Length(length) => {
                write!(f, "a chain name has 1 to 28 characters, this one has {length}")
            }
            ChainNameError::Character(c) => write!(f, "{c:?} can't be part of a chain name"),
            ChainNameError::LeadingDash => f.write_str("a chain name can't begin with '-'"),
            ChainNameError::Reserved(name) => write!(f, "'{name}' is a built-in chain or a target"),
        }
    }
}

impl std::error::Error for ChainNameError {}

/// Built-in chains, built-in verdicts, and the targets that the nat table knows.
const RESERVED: [&str; 20] = [
    "PREROUTING",
    "INPUT",
    "FORWARD",
    "OUTPUT",
    "POSTROUTING",
    "ACCEPT",
    "DROP",
    "RETURN",
    "QUEUE",
    "REJECT",
    "MASQUERADE",
    "SNAT",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "LOG",
    "NFLOG",
    "MARK",
    "CONNMARK",
    "ERROR",
];

impl ChainName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The chain that follows the `n`th gate: the name itself for 1, `NAME-2` and so on behind it. Made to fit
    /// into 28 characters by shortening the name.
    pub fn part(&self, n: usize) -> String {
        if n <= 1 {
            return self.0.clone();
        }
        let suffix = format!("-{n}");
        let kept = self.0.len().min(28 - suffix.len());
        format!("{}{suffix}", &self.0[..kept])
    }

    /// True for the name of a [`part`](Self::part) that a policy can need: it has at most two gates, and one chain of
    /// masquerade rules.
    pub fn has_part(&self, chain: &str) -> bool {
        (1..=4).any(|n| self.part(n) == chain)
    }
}

impl Default for ChainName {
    fn default() -> Self {
        ChainName("IP-MASQ-AGENT".to_owned())
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChainName {
    type Err = ChainNameError;

    fn from_str(text: &str) -> Result<Self, ChainNameError> {
        if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
            return Err(ChainNameError::Character(c));
        }
        if text.is_empty() || text.len() > 28 {
            return Err(ChainNameError::Length(text.len()));
        }
        if text.starts_with('-') {
            return Err(ChainNameError::LeadingDash);
        }
        if RESERVED.contains(&text) {
            return Err(ChainNameError::Reserved(text.to_owned()));
        }
        Ok(ChainName(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_iptables_would_refuse_later_are_refused_now() {
        use ChainNameError::*;
        let cases = [
            ("", Length(0)),
            ("a2345678901234567890123456789", Length(29)),
            ("-x", LeadingDash),
            ("a b", Character(' ')),
            ("é", Character('é')),
            ("MASQUERADE", Reserved("MASQUERADE".into())),
            ("POSTROUTING", Reserved("POSTROUTING".into())),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<ChainName>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_chain_behind_a_gate_fits_too() {
        let long: ChainName = "a234567890123456789012345678".parse().unwrap();
        assert_eq!(long.part(1).len(), 28);
        assert_eq!(long.part(2), "a2345678901234567890123456-2");
    }
}
