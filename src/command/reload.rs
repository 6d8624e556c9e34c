//! `reload`: asks the running service, waits for the outcome, and fails with it.

use super::{Context, confirm, eprint_line, eprint_lines, exit};
use crate::agent::ReloadAnswer;
use crate::service::control::{self, Request};
use crate::service::{directories, journal};
use std::time::Duration;

/// Longer than the service takes to put 100,000 ranges into a busy kernel; systemd has a limit of its own.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    let answer = match control::ask(&directories::runtime(), &Request::Reload, RELOAD_TIMEOUT) {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            eprint_line("the service is not running");
            return exit::UNKNOWN;
        }
        Err(error) => {
            eprint_line(format_args!("the service did not answer: {error}"));
            return exit::UNKNOWN;
        }
    };
    match serde_json::from_slice::<ReloadAnswer>(&answer) {
        Ok(ReloadAnswer { outcome, message }) => {
            // As ExecReload our lines go to the journal, where the service has said the same.
            if !journal::is_stderr() {
                eprint_lines(message.trim_end());
            }
            confirm::status(outcome)
        }
        Err(error) => {
            eprint_line(format_args!("the service's answer can't be understood: {error}"));
            exit::UNKNOWN
        }
    }
}
