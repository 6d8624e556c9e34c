//! `reload`: asks the running service, waits for the outcome, and fails with it.

use super::{Context, eprint_line, eprint_lines, exit};
use crate::agent::{ReloadAnswer, ReloadOutcome};
use crate::service::control::{self, Request};
use crate::service::{directories, journal};
use std::time::Duration;

/// Longer than the service takes to put 100,000 ranges into a busy kernel; systemd has a limit of its own.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context) -> u8 {
    let answer = match control::ask(&directories::runtime(), Request::Reload, RELOAD_TIMEOUT) {
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
            eprint_lines(what_to_say(&message, journal::is_stderr()));
            match outcome {
                ReloadOutcome::Applied => exit::OK,
                ReloadOutcome::Refused => exit::FAILED,
                ReloadOutcome::Configuration => exit::CONFIG,
            }
        }
        Err(error) => {
            eprint_line(format_args!("the service's answer can't be understood: {error}"));
            exit::UNKNOWN
        }
    }
}

/// As ExecReload the whole text would be in the journal twice: the service itself has put it there.
fn what_to_say(message: &str, in_journal: bool) -> &str {
    let message = message.trim_end();
    if in_journal { message.lines().next().unwrap_or_default() } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_hears_one_line_and_a_terminal_everything() {
        let message = "config.yaml:1:22: what is wrong\n  | the line\n  | ^^^\n";
        assert_eq!(what_to_say(message, true), "config.yaml:1:22: what is wrong");
        assert_eq!(what_to_say(message, false), message.trim_end());
        assert_eq!(what_to_say("", true), "");
    }
}
