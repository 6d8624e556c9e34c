//! `flush`: takes everything of ours out of every backend that can be asked.

use super::{Context, exit, say, tell};
use crate::backend::{BackendName, Cleared};
use crate::config::Settings;
use crate::host::directories;
use crate::host::leftovers::clear;
use crate::host::lock::{Lock, LockError};
use std::collections::BTreeSet;

/// Runs the command; returns its exit status.
pub fn run(context: &Context) -> u8 {
    let _lock = match Lock::take(&directories::runtime()) {
        Ok(lock) => lock,
        Err(error @ LockError::Held(_)) => {
            tell(format_args!(
                "{error}, and would put the rules back; 'systemctl stop ip-masq-agent' stops it and removes them"
            ));
            return exit::FAILED;
        }
        Err(error) => {
            tell(error);
            return exit::FAILED;
        }
    };
    // A wrong configuration is no reason to leave rules behind; only the chain's name is taken from it.
    let settings = context.load().map(|config| config.settings).unwrap_or_default();
    let mut outcome = Outcome::default();
    outcome.clear(&settings);
    if !outcome.notes.is_empty() && !outcome.failed {
        // What one backend left for the sake of another one's rules goes now.
        outcome.clear(&settings);
    }
    let Outcome { removed, failed, notes } = outcome;
    notes.iter().for_each(tell);
    if !removed && !failed && notes.is_empty() {
        say("nothing of ours was there\n");
    }
    if failed { exit::FAILED } else { exit::OK }
}

#[derive(Default)]
struct Outcome {
    removed: bool,
    failed: bool,
    /// What stays, and why.
    notes: BTreeSet<String>,
}

impl Outcome {
    fn clear(&mut self, settings: &Settings) {
        self.notes.clear();
        for cleared in BackendName::ALL.into_iter().flat_map(|name| clear(settings, name)) {
            let Cleared { backend, family, result, notes } = cleared;
            self.notes.extend(notes);
            match result {
                Ok(names) => {
                    self.removed |= !names.is_empty();
                    names.iter().for_each(|name| say(format_args!("{backend}, {family}: removed {name}\n")));
                }
                Err(error) => {
                    self.failed = true;
                    tell(format_args!("{backend}, {family}: {error}"));
                }
            }
        }
    }
}
