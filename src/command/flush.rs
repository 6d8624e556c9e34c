//! `flush`: takes everything of ours out of every backend that can be asked.

use super::{Context, exit};
use crate::backend::{ErrorKind, select};
use crate::config::{BackendChoice, Settings};
use crate::host::child::Children;
use crate::host::lock::{Lock, LockError};
use crate::host::{directories, kernel, view};
use crate::policy::Family;

/// Runs the command; returns its exit status.
pub fn run(context: &Context) -> u8 {
    let _lock = match Lock::take(&directories::runtime()) {
        Ok(lock) => lock,
        Err(error @ LockError::Held(_)) => {
            eprintln!(
                "{error}, and would put the rules back; 'systemctl stop ip-masq-agent' stops it and removes them"
            );
            return exit::FAILED;
        }
        Err(error) => {
            eprintln!("{error}");
            return exit::FAILED;
        }
    };
    // A wrong configuration is no reason to leave rules behind; only the chain's name is taken from it.
    let settings = context.load().map(|(config, _)| config.settings).unwrap_or_default();
    let (mut removed, mut failed) = (0, false);
    for backend in [BackendChoice::IptablesNft, BackendChoice::IptablesLegacy, BackendChoice::Nftables] {
        let (count, ok) = flush(&Settings { backend, ..settings.clone() });
        removed += count;
        failed |= !ok;
    }
    if removed == 0 && !failed {
        println!("nothing of ours was there");
    }
    if failed { exit::FAILED } else { exit::OK }
}

/// How much was removed, and whether all of it was.
fn flush(settings: &Settings) -> (usize, bool) {
    let legacy = settings.backend == BackendChoice::IptablesLegacy;
    let tables = view::legacy_nat();
    // Listing with iptables-legacy would make the tables.
    if legacy && tables.is_empty() {
        return (0, true);
    }
    let mut choice = match select::choose(settings, Children) {
        Ok(choice) => choice,
        Err(error) if matches!(error.kind, ErrorKind::MissingTool | ErrorKind::Unsupported) => return (0, true),
        Err(error) => {
            eprintln!("{error}");
            return (0, false);
        }
    };
    let (mut count, mut ok) = (0, true);
    for family in [Family::V4, Family::V6].into_iter().filter(|family| !legacy || tables.contains(family)) {
        match kernel::flush(choice.backend.as_mut(), family) {
            Ok(removed) => {
                count += removed.len();
                removed.iter().for_each(|what| println!("{}, {family}: {what}", choice.name));
            }
            Err(error) if matches!(error.kind, ErrorKind::MissingTool | ErrorKind::Unsupported) => {}
            Err(error) => {
                ok = false;
                eprintln!("{}, {family}: {error}", choice.name);
            }
        }
    }
    (count, ok)
}
