//! `flush`: takes everything of ours out of every backend that can be asked.

use super::{Context, exit, say, tell};
use crate::backend::{BackendName, Cleared};
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
    let settings = context.load().map(|(config, _)| config.settings).unwrap_or_default();
    let (mut is_clean, mut status) = (true, exit::OK);
    let mut notes = BTreeSet::new();
    for cleared in BackendName::ALL.into_iter().flat_map(|name| clear(&settings, name)) {
        let Cleared { backend, family, result, notes: noted } = cleared;
        notes.extend(noted);
        match result {
            Ok(removed) => {
                is_clean &= removed.is_empty();
                removed.iter().for_each(|name| say(format_args!("{backend}, {family}: removed {name}\n")));
            }
            Err(error) => {
                status = exit::FAILED;
                tell(format_args!("{backend}, {family}: {error}"));
            }
        }
    }
    notes.iter().for_each(tell);
    if is_clean && notes.is_empty() && status == exit::OK {
        tell("nothing of ours was there");
    }
    status
}
