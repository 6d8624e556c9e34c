//! `reload`: asks the running service, waits for the outcome, and fails with it.

use super::{Context, exit, tell};
use crate::agent::{ReloadAnswer, ReloadOutcome};
use crate::host::control::{self, Request};
use crate::host::directories;
use std::time::Duration;

/// Longer than the service takes to put 100,000 ranges into a busy kernel; systemd has a limit of its own.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    let answer = match control::ask(&directories::runtime(), Request::Reload, PATIENCE) {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            tell("the service is not running");
            return exit::UNKNOWN;
        }
        Err(error) => {
            tell(format_args!("the service did not answer: {error}"));
            return exit::UNKNOWN;
        }
    };
    match serde_json::from_slice::<ReloadAnswer>(&answer) {
        Ok(ReloadAnswer { outcome, message }) => {
            tell(message.trim_end());
            match outcome {
                ReloadOutcome::Applied => exit::OK,
                ReloadOutcome::Refused => exit::FAILED,
                ReloadOutcome::Configuration => exit::CONFIG,
            }
        }
        Err(error) => {
            tell(format_args!("the service's answer can't be understood: {error}"));
            exit::UNKNOWN
        }
    }
}
