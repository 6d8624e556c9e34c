//! Asking the running service, and why it has not answered.

use super::{eprint_line, exit};
use crate::service::control::{self, Asked, Request};
use crate::service::directories;
use crate::text::one_line;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::time::Duration;

/// Longer than the service takes to put 100,000 ranges into a busy kernel; systemd has a limit of its own.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The running service's answer.
///
/// # Errors
/// When there is none.
pub fn ask<T: DeserializeOwned>(request: &Request, timeout: Duration) -> Result<T, Silence> {
    read(&ask_text(request, timeout)?)
}

/// The running service's answer as it came.
///
/// # Errors
/// When there is none.
pub fn ask_text(request: &Request, timeout: Duration) -> Result<Vec<u8>, Silence> {
    control::ask(&directories::runtime(), request, timeout)?.ok_or(Silence::NotRunning)
}

/// Asks what the service may answer much later.
///
/// # Errors
/// When it can't be asked.
pub fn begin(request: &Request) -> Result<Asked, Silence> {
    control::begin(&directories::runtime(), request, ANSWER_TIMEOUT)?.ok_or(Silence::NotRunning)
}

/// What an answer says.
///
/// # Errors
/// When it can't be understood.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Silence> {
    serde_json::from_slice(text).map_err(Silence::Unintelligible)
}

/// Says on stderr why a command has no answer; gives the exit status for it.
pub fn unanswered(command: &str, silence: &Silence) -> u8 {
    if matches!(silence, Silence::NeedsRoot) {
        eprint_line(format_args!("{command} needs root"));
        return exit::FAILED;
    }
    eprint_line(silence);
    exit::UNKNOWN
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    NotRunning,
    /// Whether it runs or not.
    NeedsRoot,
    NoAnswer(io::Error),
    Unintelligible(serde_json::Error),
}

impl Silence {
    /// True when it does not even say that the service is down.
    pub fn tells_nothing(&self) -> bool {
        match self {
            Silence::NotRunning => false,
            Silence::NoAnswer(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Silence::NeedsRoot | Silence::Unintelligible(_) => true,
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "summary": self.to_string(), "state": "unknown" })
    }
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        // What the kernel says of the socket; one that is not the service's is told in words.
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_some();
        if is_denied { Silence::NeedsRoot } else { Silence::NoAnswer(error) }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::NotRunning => f.write_str("the service is not running"),
            Silence::NeedsRoot => f.write_str("to ask the service needs root"),
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
            Silence::NotRunning | Silence::NeedsRoot => None,
            Silence::NoAnswer(error) => Some(error),
            Silence::Unintelligible(error) => Some(error),
        }
    }
}
