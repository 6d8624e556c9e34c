//! `flush`: takes everything of ours out of every backend that can be asked.

use super::{Context, eprint_line, eprint_lines, exit, print_diagnostics, print_line};
use crate::backend::nftables::fast_path::FastPath;
use crate::backend::{BackendName, Removal};
use crate::config::{self, Diagnostics, Flags, Settings};
use crate::service::directories;
use crate::service::lock::{self, LockError};
use crate::service::stale_rules::{clear, clear_fast_path};
use crate::service::sysctl::Sysctls;
use crate::sys::child::Children;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long rules that can't be removed because another program is at work are tried again.
const RETRY_FOR: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the command; returns its exit status.
pub fn run(context: &Context) -> u8 {
    let _exclusive = match lock::exclusive(&directories::runtime()) {
        Ok(exclusive) => exclusive,
        Err(error) if error.is_held() => {
            eprint_line(format_args!(
                "{error}, and would put the rules back; 'systemctl stop ip-masq-agent' stops it and removes them"
            ));
            return exit::FAILED;
        }
        Err(LockError::Io(_, error)) if error.kind() == ErrorKind::PermissionDenied => {
            eprint_line("flush needs root");
            return exit::FAILED;
        }
        Err(error) => {
            eprint_line(error);
            return exit::FAILED;
        }
    };
    let settings = match settings(context) {
        Ok(settings) => settings,
        Err(diagnostics) => return print_diagnostics(&diagnostics),
    };
    let mut sysctls = Sysctls::default();
    let not_put_back = sysctls.put_back_except(&BTreeSet::new());
    not_put_back.iter().for_each(eprint_line);
    // Without the guard, others would reach what listens on 127.0.0.1.
    if sysctls.exposes_loopback() {
        return exit::FAILED;
    }
    let mut outcome = Outcome::default();
    outcome.clear_patiently(&settings);
    if !outcome.notes.is_empty() && outcome.failures.is_empty() {
        // What one backend left for the sake of another one's rules goes now.
        outcome.clear(&settings);
    }
    outcome.failures.iter().chain(&outcome.notes).for_each(eprint_line);
    if !outcome.removed && outcome.failures.is_empty() && outcome.notes.is_empty() {
        print_line("nothing to remove");
    }
    if outcome.failures.is_empty() && not_put_back.is_empty() { exit::OK } else { exit::FAILED }
}

/// Only the chain's name is taken from it, so wrong files are no reason to leave rules behind; they are told.
///
/// # Errors
/// What is wrong with the flags: whoever gave them can leave them out.
fn settings(context: &Context) -> Result<Settings, Diagnostics> {
    let wrong = match context.read() {
        Ok(sources) => match config::parse(&sources, &context.flags) {
            Ok(config) => return Ok(config.settings),
            Err(wrong) if config::parse(&sources, &Flags::default()).is_ok() => return Err(wrong),
            Err(wrong) => wrong,
        },
        Err(unreadable) => unreadable,
    };
    let settings = config::parse(&[], &context.flags)?.settings;
    wrong.0.iter().for_each(|one| eprint_lines(format_args!("warning: {one}")));
    Ok(settings)
}

#[derive(Default)]
struct Outcome {
    removed: bool,
    /// What the last try could not remove, and why.
    failures: Vec<String>,
    /// Trying that again may well work.
    passing: bool,
    /// What stays, and why.
    notes: BTreeSet<String>,
}

impl Outcome {
    /// Waits for what is in the way for a moment, as a stop of the service does; no event tells of its end.
    fn clear_patiently(&mut self, settings: &Settings) {
        let end = Instant::now() + RETRY_FOR;
        self.clear(settings);
        while self.passing && Instant::now() < end {
            std::thread::sleep(PAUSE);
            self.clear(settings);
        }
    }

    fn clear(&mut self, settings: &Settings) {
        self.notes.clear();
        self.failures.clear();
        self.passing = false;
        let of_backends = BackendName::ALL.into_iter().flat_map(|name| clear(settings, name, &Children));
        for cleared in of_backends.chain(clear_fast_path(&mut FastPath::default())) {
            let Removal { backend, family, result, notes } = cleared;
            self.notes.extend(notes);
            match result {
                Ok(names) => {
                    self.removed |= !names.is_empty();
                    names.iter().for_each(|name| print_line(format_args!("{backend}, {family}: removed {name}")));
                }
                Err(error) => {
                    self.passing |= error.is_transient();
                    self.failures.push(format!("{backend}, {family}: {error}"));
                }
            }
        }
    }
}
