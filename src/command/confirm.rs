//! `confirm`: keeps what is being tried.

use super::ask::{ANSWER_TIMEOUT, Silence, ask, unanswered};
use super::install;
use super::{Context, eprint_line, exit};
use crate::agent::{Install, ReloadAnswer, ReloadOutcome, TrialDetails};
use crate::service::control::Request;
use crate::service::replace::FileError;
use std::error::Error;
use std::fmt;

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    let kept = match trial() {
        Ok(Some(trial)) => keep(&trial),
        Ok(None) => {
            eprint_line("nothing is being tried");
            return exit::FAILED;
        }
        Err(silence) => return unanswered("confirm", &silence),
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
pub fn trial() -> Result<Option<TrialDetails>, Silence> {
    ask(&Request::Trial, ANSWER_TIMEOUT)
}

/// The same of one that was tried a while ago: since then somebody else may have ended it, and edited the file.
///
/// # Errors
/// As of [`keep`], and when another one is tried now.
pub fn keep_if_on(trial: &TrialDetails) -> Result<ReloadAnswer, NotKept> {
    let is_same = |now: &TrialDetails| {
        // A service that was started again counts anew.
        let of =
            |trial: &TrialDetails| (trial.report.number, trial.report.by.clone(), trial.report.goes_back_at.clone());
        of(now) == of(trial) && now.install == trial.install
    };
    match self::trial()? {
        Some(now) if is_same(&now) => keep(&now),
        Some(_) => Err(NotKept::Other),
        None => Ok(ask(&Request::Confirm(trial.report.number), ANSWER_TIMEOUT)?),
    }
}

/// Installs what is tried, where it is not the files themselves, and tells the service to stay with it. In this order: a
/// service that ends in between starts with the earlier configuration, and what was tried is in the file.
///
/// # Errors
/// When the file can't be written, or the service does not answer; then it goes back at its time.
pub fn keep(trial: &TrialDetails) -> Result<ReloadAnswer, NotKept> {
    if let Some(Install { path, text }) = &trial.install {
        install::put(path, text).map_err(NotKept::Install)?;
    }
    Ok(ask(&Request::Confirm(trial.report.number), ANSWER_TIMEOUT)?)
}

/// Why it could not be confirmed.
#[derive(Debug)]
pub enum NotKept {
    Silence(Silence),
    Install(FileError),
    /// Something else is being tried.
    Other,
}

impl NotKept {
    /// The exit status for it.
    pub fn status(&self) -> u8 {
        match self {
            NotKept::Silence(_) => exit::UNKNOWN,
            NotKept::Install(_) | NotKept::Other => exit::FAILED,
        }
    }
}

impl From<Silence> for NotKept {
    fn from(silence: Silence) -> Self {
        NotKept::Silence(silence)
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotKept::Silence(silence) => silence.fmt(f),
            NotKept::Install(error) => write!(f, "nothing is confirmed, the service goes back at its time: {error}"),
            NotKept::Other => f.write_str("that trial is over, and another one has begun; nothing is confirmed"),
        }
    }
}

impl Error for NotKept {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NotKept::Silence(silence) => silence.source(),
            NotKept::Install(error) => Some(error),
            NotKept::Other => None,
        }
    }
}
