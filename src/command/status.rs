//! `status`: how the running service is.

use super::ask::{self, Silence};
use super::{Context, eprint_line, exit, nagios, print_text, prometheus};
use crate::agent::{Report, State};
use crate::cli::StatusArgs;
use crate::service::control::Request;
use std::time::Duration;

const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context, args: &StatusArgs) -> u8 {
    let answer = report();
    let report = answer.as_ref().map(|(report, _)| report);
    if args.nagios {
        let verdict = nagios::verdict(report);
        let _ = print_text(&verdict);
        return verdict.level.exit_status();
    }
    if args.prometheus {
        if let Some(silence) = report.err().filter(|silence| silence.tells_nothing()) {
            eprint_line(silence);
            return exit::UNKNOWN;
        }
        // How the service is, they say themselves; the exit status, whether they are whole.
        return print_text(prometheus::text(report.ok()));
    }
    let text = match &answer {
        Ok((_, text)) if args.json => text.clone(),
        Ok((report, _)) => report.to_string(),
        Err(silence) if args.json => format!("{}\n", silence.json()),
        Err(silence) => format!("{silence}\n"),
    };
    let printed = print_text(text);
    match report.map(|report| report.state) {
        Ok(State::Ready) => printed,
        Ok(State::Starting | State::Degraded | State::Stopping) => exit::FAILED,
        Err(_) => exit::UNKNOWN,
    }
}

/// The service's report, and the text it came as.
fn report() -> Result<(Report, String), Silence> {
    let text = ask::ask_text(&Request::Status, STATUS_TIMEOUT)?;
    Ok((ask::read(&text)?, String::from_utf8_lossy(&text).into_owned()))
}
