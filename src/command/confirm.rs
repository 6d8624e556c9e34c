//! `confirm`: keeps what is being tried.

use super::install::{self, InstallError};
use super::{Context, eprint_line, exit};
use crate::agent::{Install, ReloadAnswer, ReloadOutcome, TrialDetails};
use crate::service::control::{self, Request};
use crate::service::directories;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// As long as a reload may take: the service may be in the middle of one.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    let kept = match trial() {
        Ok(Some(trial)) => keep(&trial),
        Ok(None) => {
            eprint_line("nothing is being tried");
            return exit::FAILED;
        }
        Err(error) => Err(error),
    };
    match kept {
        Ok(answer) => {
            eprint_line(&answer.message);
            status(answer.outcome)
        }
        Err(error) => {
            eprint_line(&error);
            error.status()
        }
    }
}

/// The exit status for what the service answered.
pub fn status(outcome: ReloadOutcome) -> u8 {
    match outcome {
        ReloadOutcome::Applied => exit::OK,
        ReloadOutcome::Refused => exit::FAILED,
        ReloadOutcome::Configuration => exit::CONFIG,
    }
}

/// What is being tried.
///
/// # Errors
/// When the service does not say.
pub fn trial() -> Result<Option<TrialDetails>, AskError> {
    asked(&Request::Trial, TIMEOUT)
}

/// Installs what is tried, where it is not the files themselves, and tells the service to stay with it. In this order: a
/// service that ends in between starts with the earlier configuration, and what was tried is in the file.
///
/// # Errors
/// When the file can't be written, or the service does not answer; then it goes back at its time.
pub fn keep(trial: &TrialDetails) -> Result<ReloadAnswer, AskError> {
    if let Some(Install { path, text }) = &trial.install {
        install::put(path, text).map_err(AskError::Install)?;
    }
    asked(&Request::Confirm(trial.report.number), TIMEOUT)
}

/// Asks the service something that has to do with a trial.
///
/// # Errors
/// When it does not answer.
pub fn asked<T: DeserializeOwned>(request: &Request, patience: Duration) -> Result<T, AskError> {
    let answer = control::ask(&directories::runtime(), request, patience).map_err(AskError::Io)?;
    serde_json::from_slice(&answer.ok_or(AskError::NotRunning)?).map_err(AskError::Answer)
}

/// Why it could not be confirmed.
#[derive(Debug)]
pub enum AskError {
    NotRunning,
    Io(io::Error),
    Answer(serde_json::Error),
    Install(InstallError),
}

impl AskError {
    /// The exit status for it.
    pub fn status(&self) -> u8 {
        if matches!(self, AskError::Install(_)) { exit::FAILED } else { exit::UNKNOWN }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::NotRunning => f.write_str("the service is not running"),
            AskError::Io(error) => write!(f, "the service did not answer: {error}"),
            AskError::Answer(error) => write!(f, "the service's answer can't be understood: {error}"),
            AskError::Install(error) => write!(f, "nothing is confirmed, the service goes back at its time: {error}"),
        }
    }
}

impl Error for AskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AskError::NotRunning => None,
            AskError::Io(error) => Some(error),
            AskError::Answer(error) => Some(error),
            AskError::Install(error) => Some(error),
        }
    }
}
