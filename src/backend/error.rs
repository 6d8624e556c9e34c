//! Why a backend could not do what it was asked.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Why a backend could not do what it was asked.
#[derive(Debug, Clone)]
pub struct Error {
    /// What was tried, on what, and why it failed; lower case, no full stop.
    pub message: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What the kernel, or the program that was run, said; the message has it in words.
    pub(super) source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Somebody holds a lock, or moved the rules while we wrote; worth trying again at once.
    Busy,
    /// A needed program is not there.
    MissingTool,
    /// CAP_NET_ADMIN or CAP_NET_RAW is missing.
    Permission,
    /// The kernel can't do it (no such family, table, expression or match).
    Unsupported,
    /// Rules under our name that are not ours, or a live Go agent; nothing was written.
    Foreign,
    /// The kernel or the tool refused the transaction; nothing was written.
    Refused,
    /// A deadline passed.
    Timeout,
    /// Anything else.
    Other,
}

impl Error {
    /// An error of a kind, in words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), source: None }
    }

    /// The same, with what it came from.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Error { source: Some(Arc::new(source)), ..self }
    }

    /// True when trying the same again soon may well work.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy | ErrorKind::Timeout)
    }

    /// A backend was given the plan of another one.
    pub(super) fn of_another_backend() -> Self {
        Error::new(ErrorKind::Other, "the plan to be committed was made by another backend")
    }

    /// True when the host lacks something: no fault of ours where nothing of ours is wanted there.
    pub fn is_the_hosts(&self) -> bool {
        matches!(self.kind, ErrorKind::Unsupported | ErrorKind::MissingTool)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The same failure in the same words is the same, whichever try it is of.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message) == (other.kind, &other.message)
    }
}

impl Eq for Error {}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.source.as_ref()?)
    }
}
