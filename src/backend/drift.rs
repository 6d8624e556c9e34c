//! What both backends call what they find, so that they say it alike.

use std::fmt;

/// Something that differs, in words for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// A rule of another program in a chain of ours. It goes.
    ForeignRule(String),
    /// Something of ours.
    Own(String),
}

impl Drift {
    pub fn foreign_rule(chain: &str, rule: &str) -> Self {
        Drift::ForeignRule(format!("chain '{chain}' holds a rule that is not ip-masq-agent's: '{rule}'"))
    }

    /// A rule of another program where the chain goes too, as part of what is removed.
    pub fn removed_foreign_rule(chain: &str, rule: &str) -> Self {
        Drift::Own(format!("rule '{rule}' of chain '{chain}', which is not ip-masq-agent's"))
    }

    /// All of it in one line.
    pub fn join(drift: &[Drift]) -> String {
        drift.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl From<String> for Drift {
    fn from(words: String) -> Self {
        Drift::Own(words)
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Drift::ForeignRule(words) | Drift::Own(words)) = self;
        f.write_str(words)
    }
}
