//! A service that has not answered.

use crate::text::one_line;
use std::fmt;
use std::io;

/// Why there is no report.
#[derive(Debug)]
pub enum Silence {
    NotRunning,
    NoAnswer(io::Error),
    Unintelligible(serde_json::Error),
}

impl Silence {
    /// True when it does not even say that the service is down.
    pub fn tells_nothing(&self) -> bool {
        match self {
            Silence::NotRunning => false,
            Silence::NoAnswer(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Silence::Unintelligible(_) => true,
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "summary": self.to_string(), "state": "unknown" })
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::NotRunning => f.write_str("not running"),
            Silence::NoAnswer(error) => write!(f, "the service did not answer: {}", one_line(&error.to_string())),
            Silence::Unintelligible(error) => {
                write!(f, "the service's answer can't be understood: {}", one_line(&error.to_string()))
            }
        }
    }
}

impl std::error::Error for Silence {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Silence::NotRunning => None,
            Silence::NoAnswer(error) => Some(error),
            Silence::Unintelligible(error) => Some(error),
        }
    }
}
