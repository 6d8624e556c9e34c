//! `status`: how the running service is.

use super::{Context, exit, print_line, print_text};
use crate::agent::{Report, State};
use crate::cli::StatusArgs;
use crate::service::control::{self, Request};
use crate::service::directories;
use std::time::Duration;

const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context, args: &StatusArgs) -> u8 {
    let json = args.json;
    let answer = match control::ask(&directories::runtime(), &Request::Status, STATUS_TIMEOUT) {
        Ok(Some(answer)) => answer,
        Ok(None) => return unknown(json, "not running"),
        Err(error) => return unknown(json, &format!("the service did not answer: {error}")),
    };
    match serde_json::from_slice::<Report>(&answer) {
        Ok(report) => {
            if json {
                let _ = print_text(String::from_utf8_lossy(&answer));
            } else {
                let _ = print_text(&report);
            }
            match report.state {
                State::Ready => exit::OK,
                State::Starting | State::Degraded | State::Stopping => exit::FAILED,
            }
        }
        Err(error) => unknown(json, &format!("the service's answer can't be understood: {error}")),
    }
}

fn unknown(json: bool, summary: &str) -> u8 {
    if json {
        print_line(serde_json::json!({ "summary": summary, "state": "unknown" }));
    } else {
        print_line(summary);
    }
    exit::UNKNOWN
}
