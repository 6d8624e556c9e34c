//! `flush`: takes everything of ours out of every backend that can be asked.

use super::{Context, exit, say, tell};
use crate::backend::{BackendName, Cleared};
use crate::host::directories;
use crate::host::leftovers::clear;
use crate::host::lock::{Lock, LockError};

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
    let (mut removed, mut failed) = (0, false);
    for Cleared { backend, family, result } in BackendName::ALL.into_iter().flat_map(|name| clear(&settings, name)) {
        match result {
            Ok(parts) => {
                removed += parts.len();
                parts.iter().for_each(|part| say(format_args!("{backend}, {family}: {part}\n")));
            }
            Err(error) => {
                failed = true;
                tell(format_args!("{backend}, {family}: {error}"));
            }
        }
    }
    if removed == 0 && !failed {
        say("nothing of ours was there\n");
    }
    if failed { exit::FAILED } else { exit::OK }
}
