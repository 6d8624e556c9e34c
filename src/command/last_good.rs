//! `last-good`: the configuration that was last in force, file by file; and the files as they were then.

use super::install;
use super::{Context, eprint_line, exit, print_line};
use crate::cli::LastGoodArgs;
use crate::config::{Locations, SourceText};
use crate::service::directories;
use crate::service::replace::FileError;
use crate::service::state::{self, Kept, StateError};
use crate::text;
use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What is added to the name of a file that is replaced or removed. The ending keeps it from being read.
const KEPT_SUFFIX: &str = ".before-restore";

/// The texts that are in force, or were when the service ended, as it saved them; `None` when it has saved none. While a
/// candidate is tried: those to which it goes back. For root.
///
/// # Errors
/// Why what is saved can't be used.
pub fn in_force() -> Result<Option<Vec<SourceText>>, StateError> {
    state::read(&directories::state(), Kept::LastGood)
}

/// Runs the command; returns its exit status.
pub fn run(context: &Context, args: &LastGoodArgs) -> u8 {
    let sources = match in_force() {
        Ok(Some(sources)) => sources,
        Ok(None) => {
            eprint_line("no configuration has been saved as good yet");
            return exit::FAILED;
        }
        Err(error) => {
            if error.is_denied() {
                eprint_line("last-good needs root");
            } else {
                eprint_line(format_args!("the last good configuration can't be used: {error}"));
            }
            return exit::FAILED;
        }
    };
    if args.restore { restore(&context.locations, &sources) } else { print(&sources) }
}

/// Byte for byte, but for a terminal, which others could otherwise command.
fn print(sources: &[SourceText]) -> u8 {
    if sources.is_empty() {
        eprint_line("the built-in defaults were in force, without any file");
        return exit::OK;
    }
    let mut stdout = io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let written = sources.iter().try_for_each(|source| {
        let shown = if is_terminal { text::lines(&source.text) } else { source.text.as_str().into() };
        let end = if shown.is_empty() || shown.ends_with('\n') { "" } else { "\n" };
        write!(stdout, "# {}\n{shown}{end}", text::one_line(&source.path.display().to_string()))
    });
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprint_line(format_args!("standard output can't be written: {error}"));
            exit::FAILED
        }
        _ => exit::OK,
    }
}

fn restore(locations: &Locations, sources: &[SourceText]) -> u8 {
    let locations = match locations.absolute() {
        Ok(locations) => locations,
        Err(error) => {
            eprint_line(format_args!("the working directory is gone: {error}"));
            return exit::FAILED;
        }
    };
    let present = match locations.present() {
        Ok(present) => present,
        Err((path, error)) => {
            eprint_line(format_args!("'{}' can't be read: {error}", path.display()));
            return exit::FAILED;
        }
    };
    if let Some(elsewhere) = sources.iter().find(|source| !locations.reach(&source.path)) {
        eprint_line(format_args!(
            "the service read '{}'; say so with --config and --config-dir, as it is told",
            elsewhere.path.display()
        ));
        return exit::USAGE;
    }
    match write_back(&present, sources) {
        Ok(0) => {
            print_line("the files are as they were");
            exit::OK
        }
        Ok(_) => exit::OK,
        Err(error) => {
            eprint_line(error);
            exit::FAILED
        }
    }
}

/// How many files were changed.
fn write_back(present: &[PathBuf], sources: &[SourceText]) -> Result<usize, FileError> {
    let mut changed = 0;
    for SourceText { path, text } in sources {
        if fs::read_to_string(path).is_ok_and(|now| now == *text) {
            continue;
        }
        let kept = fs::metadata(path).is_ok().then(|| install::keep(path, KEPT_SUFFIX)).transpose()?;
        install::put(path, text).inspect_err(|_| {
            // What it holds is still in its place, unless all but the last step was done.
            let is_there =
                |kept: &&PathBuf| fs::read(path).ok().is_some_and(|now| fs::read(kept).is_ok_and(|old| old == now));
            kept.iter().filter(is_there).for_each(|kept| _ = fs::remove_file(kept));
        })?;
        say("restored", path, kept.as_deref());
        changed += 1;
    }
    // After the others: in between there is more configuration than before, and never less.
    for path in present.iter().filter(|path| sources.iter().all(|source| *source.path != ***path)) {
        let kept = install::set_aside(path, KEPT_SUFFIX)?;
        say("removed, it was not part of it", path, Some(&kept));
        changed += 1;
    }
    Ok(changed)
}

fn say(what: &str, path: &Path, kept: Option<&Path>) {
    let kept = kept.map(|kept| format!("; what was there is now {}", kept.display())).unwrap_or_default();
    print_line(format_args!("{}: {what}{kept}", path.display()));
}
