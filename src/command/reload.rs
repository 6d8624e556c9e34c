//! `reload`: asks the running service, waits for the outcome, and fails with it.

use super::ask::{ANSWER_TIMEOUT, ask, unanswered};
use super::{Context, confirm, eprint_lines};
use crate::agent::ReloadAnswer;
use crate::service::control::Request;
use crate::service::journal;

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    match ask(&Request::Reload, ANSWER_TIMEOUT) {
        Ok(ReloadAnswer { outcome, message }) => {
            // As ExecReload our lines go to the journal, where the service has said the same.
            if !journal::is_stderr() {
                eprint_lines(message.trim_end());
            }
            confirm::status(outcome)
        }
        Err(silence) => unanswered("reload", &silence),
    }
}
