//! What both backends call what they find, so that they say it alike.

/// Words of [`super::Plan::drift`] for a rule of another program in a chain of ours. It goes; both backends say so alike.
pub fn foreign_rule(chain: &str, rule: &str) -> String {
    format!("chain '{chain}' holds {FOREIGN_RULE}: '{rule}'")
}

/// The same where the chain goes too, as [`super::Plan::drift`] says it of what is removed.
pub fn removed_foreign_rule(chain: &str, rule: &str) -> String {
    format!("rule '{rule}' of chain '{chain}', which is not ip-masq-agent's")
}

/// True for the words for a rule of another program in a chain of ours.
pub fn is_foreign_rule(words: &str) -> bool {
    words.contains(FOREIGN_RULE)
}

const FOREIGN_RULE: &str = "a rule that is not ip-masq-agent's";
