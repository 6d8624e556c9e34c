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
    /// True of what may have come of a machine that was busy with other work. A wrong source does not.
    pub fn may_be_chance(&self) -> bool {
        self.check != WRONG_SOURCE
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
