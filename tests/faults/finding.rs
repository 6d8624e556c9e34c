//! Something that is not as it was promised.

use std::fmt;

/// The check that every flow has the source that a policy in force gives it.
pub const WRONG_SOURCE: &str = "flows";

/// What was found wrong, and by which check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// One word for the promise that was broken. The shrinker looks for the same one again.
    pub check: &'static str,
    pub text: String,
}

impl Finding {
    /// Whether it counts where chance does not: what came of a machine that was busy with other work is not seen again. A
    /// wrong source comes of no such thing, and nobody is asked.
    pub fn is_no_chance(&self, is_seen_again: impl FnOnce() -> bool) -> bool {
        self.check == WRONG_SOURCE || is_seen_again()
    }
}

/// A finding.
pub fn finding(check: &'static str, text: impl Into<String>) -> Finding {
    Finding { check, text: text.into() }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.text)
    }
}

#[test]
fn a_wrong_source_counts_though_it_is_not_seen_again() {
    assert!(finding(WRONG_SOURCE, "one flow").is_no_chance(|| false));
    assert!(!finding("missing", "a hundred flows").is_no_chance(|| false));
    assert!(finding("missing", "a hundred flows").is_no_chance(|| true));
}
