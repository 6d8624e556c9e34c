//! The last good configuration, in the state directory.
//!
//! The file holds the texts as they were read, and no flags: those are on the command line of the next start. Its first
//! line names the version of the format and the number of texts; each follows a line `LENGTH PATH`, the path as JSON.
//! It is trusted as a configuration file is: what others could have written is not read.

use super::directories;
use crate::config::SourceText;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &str = "ip-masq-agent last good ";
const NAME: &str = "last-good";
/// Twice what all configuration files together may have: room for the path of each, and for whatever is accepted.
const LONGEST: u64 = 2 * crate::config::MAX_TOTAL_BYTES;

/// Reads it; `None` when there is none.
///
/// # Errors
/// Why what is there can't be used: the path, and what is wrong with it.
pub fn read(directory: &Path) -> Result<Option<Vec<SourceText>>, String> {
    let opened = match File::open(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| format!("{}: can't be opened: {error}", directory.display()))?,
    };
    judge(&opened).map_err(|why| format!("{}: the directory {why}", directory.display()))?;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&opened, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => Err("is a link".to_owned()),
        Err(error) => Err(format!("can't be opened: {error}")),
        Ok(file) => Ok(File::from(file)),
    };
    let sources = file.and_then(|file| {
        judge(&file)?;
        decode(&text(file)?).map_err(str::to_owned)
    });
    sources.map(Some).map_err(|why| format!("{}: {why}", directory.join(NAME).display()))
}

fn judge(file: &File) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| format!("can't be examined: {error}"))?;
    directories::distrusted(&metadata).map_or(Ok(()), Err)
}

fn text(file: File) -> Result<String, String> {
    let metadata = file.metadata().map_err(|error| format!("can't be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if metadata.len() > LONGEST {
        return Err(format!("has {} bytes, more than ip-masq-agent saves", metadata.len()));
    }
    let mut text = String::new();
    match file.take(LONGEST).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(DAMAGED.to_owned()),
        Err(error) => Err(format!("can't be read: {error}")),
    }
}

/// Writes it: whole or not at all, and on the disk when this returns.
///
/// # Errors
/// What was tried, and why it failed.
pub fn write(directory: &Path, sources: &[SourceText]) -> Result<(), String> {
    let failed = |what: &str, path: &Path, error: io::Error| format!("can't {what} '{}': {error}", path.display());
    let text = encode(sources);
    if text.len() as u64 > LONGEST {
        return Err(format!("{} files with {} bytes, their names included, are too many", sources.len(), text.len()));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed("create the directory", directory, error))?;
    let opened = File::open(directory).map_err(|error| failed("open", directory, error))?;
    // It would not be read again.
    judge(&opened).map_err(|why| format!("{}: the directory {why}", directory.display()))?;
    let (new, path) = (directory.join(format!("{NAME}.new")), directory.join(NAME));
    let written = write_synced(&new, text.as_bytes())
        .map_err(|error| failed("write", &new, error))
        .and_then(|()| fs::rename(&new, &path).map_err(|error| failed("move into place", &path, error)));
    if written.is_err() {
        // Half a file on a full disk helps nobody; when it can't be removed either, it is overwritten next time.
        let _ = fs::remove_file(&new);
        return written;
    }
    opened.sync_all().map_err(|error| failed("sync", directory, error))
}

fn write_synced(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    // What an earlier try left may be another user's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn encode(sources: &[SourceText]) -> String {
    let mut text = format!("{MAGIC}2 {}\n", sources.len());
    for source in sources {
        let path = serde_json::Value::from(source.path.to_string_lossy());
        text.push_str(&format!("{} {path}\n", source.text.len()));
        text.push_str(&source.text);
    }
    text
}

const CUT_SHORT: &str = "is cut short";
const DAMAGED: &str = "is damaged";

/// The texts in a state file.
///
/// # Errors
/// What is wrong with it.
pub fn decode(text: &str) -> Result<Vec<SourceText>, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    let version = text.strip_prefix(MAGIC).ok_or("was not saved by ip-masq-agent")?;
    let (version, mut rest) = version.split_once('\n').ok_or(CUT_SHORT)?;
    // The first version, of 0.1, did not say how many there are.
    let count: Option<usize> = match version.split_once(' ') {
        None if version == "1" => None,
        Some(("2", count)) => Some(count.parse().map_err(|_| DAMAGED)?),
        _ => return Err("was saved by another version"),
    };
    let mut sources = Vec::new();
    while !rest.is_empty() {
        let (source, behind) = next(rest)?;
        sources.push(source);
        rest = behind;
    }
    match count {
        Some(count) if sources.len() < count => Err(CUT_SHORT),
        Some(count) if sources.len() > count => Err(DAMAGED),
        _ => Ok(sources),
    }
}

fn next(text: &str) -> Result<(SourceText, &str), &'static str> {
    let (head, body) = text.split_once('\n').ok_or(CUT_SHORT)?;
    let (length, path) = head.split_once(' ').ok_or(DAMAGED)?;
    let length: usize = length.parse().map_err(|_| DAMAGED)?;
    let path: PathBuf = serde_json::from_str(path).map_err(|_| DAMAGED)?;
    let (text, behind) = body.split_at_checked(length).ok_or(if length > body.len() { CUT_SHORT } else { DAMAGED })?;
    Ok((SourceText { path: path.into(), text: text.to_owned() }, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<SourceText> {
        let source = |path: &str, text: &str| SourceText { path: Path::new(path).into(), text: text.to_owned() };
        vec![
            source("/etc/a b\n\"c\".yaml", "x: 1\n12 \"/etc/fake\"\n"),
            source("/etc/empty", ""),
            source("/e/ü", "ü: ["),
        ]
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("made/when/needed");
        assert_eq!(read(&state), Ok(None));
        write(&state, &sources()).unwrap();
        assert_eq!(read(&state), Ok(Some(sources())));
        write(&state, &[]).unwrap();
        assert_eq!(read(&state), Ok(Some(Vec::new())));
    }

    #[test]
    fn a_file_that_is_not_whole_is_no_last_good_configuration() {
        let text = encode(&sources());
        for (end, _) in text.char_indices() {
            let why = decode(&text[..end]).unwrap_err();
            assert!(end < MAGIC.len() + 3 || why == CUT_SHORT, "{end}: {why}");
        }
        for (text, why) in [
            ("", "is empty"),
            ("ip-masq-agent last good 3 1\n", "was saved by another version"),
            ("ip-masq-agent last good 2 0\nx", CUT_SHORT),
            ("ip-masq-agent last good 2 0\n0 \"/x\"\n", DAMAGED),
            ("ip-masq-agent last good 1\n-1 \"/x\"\nx", DAMAGED),
            ("ip-masq-agent last good 1\n1 /x\nx", DAMAGED),
            ("ip-masq-agent last good 1\n1 \"/x\"\nü", DAMAGED),
            ("ip-masq-agent last good 1\n99999999999999999999 \"/x\"\nx", DAMAGED),
            ("ip-masq-agent last good 1\n99999999 \"/x\"\nx", CUT_SHORT),
        ] {
            assert_eq!(decode(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_fifo_in_its_place_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let made = rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0);
        let why = read(directory.path()).unwrap_err();
        assert!(made.is_ok() && why.ends_with("last-good: is not a regular file"), "{why}");
    }
}
