//! The last good configuration, and one that was tried and not confirmed, in the state directory.
//!
//! A file holds the texts as they were read, and no flags: those are on the command line of the next start. Its first
//! line names the version of the format and the number of texts; each follows a line `LENGTH PATH`, the path as JSON.
//! It is trusted as a configuration file is: what others could have written is not read.

use super::directories;
use super::replace::{FileError, failed, replace};
use crate::config::SourceText;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const MAGIC: &str = "ip-masq-agent last good ";

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    LastGood,
    /// What the files are, or would be, with a candidate that nobody has confirmed: they are not to be applied.
    Unconfirmed,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Kept::LastGood => "last-good",
            Kept::Unconfirmed => "unconfirmed",
        }
    }
}

/// Twice what all configuration files together may have: room for the path of each, and for whatever is accepted.
const LONGEST: u64 = 2 * crate::config::MAX_TOTAL_BYTES;

/// Reads it; `None` when there is none.
///
/// # Errors
/// Why what is there can't be used.
pub fn read(directory: &Path, kept: Kept) -> Result<Option<Vec<SourceText>>, StateError> {
    let opened = match File::open(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| StateError::File(directory.to_owned(), Unusable::Open(error)))?,
    };
    must_be_trusted(&opened).map_err(|why| StateError::Directory(directory.to_owned(), why))?;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&opened, kept.name(), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => Err(Unusable::Link),
        Err(error) => Err(Unusable::Open(error.into())),
        Ok(file) => Ok(File::from(file)),
    };
    let sources = file.and_then(|file| {
        must_be_trusted(&file)?;
        decode(&text(file)?).map_err(Unusable::Content)
    });
    sources.map(Some).map_err(|why| StateError::File(directory.join(kept.name()), why))
}

fn must_be_trusted(file: &File) -> Result<(), Unusable> {
    let metadata = file.metadata().map_err(Unusable::Examine)?;
    directories::distrusted(&metadata).map_or(Ok(()), |doubt| Err(Unusable::Distrusted(doubt)))
}

fn text(file: File) -> Result<String, Unusable> {
    let metadata = file.metadata().map_err(Unusable::Examine)?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if metadata.len() > LONGEST {
        return Err(Unusable::Bytes(metadata.len()));
    }
    let mut text = String::new();
    match file.take(LONGEST).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(Unusable::Content(Damage::Damaged)),
        Err(error) => Err(Unusable::Read(error)),
    }
}

/// Writes it: whole or not at all, and on the disk when this returns.
///
/// # Errors
/// What was tried, and why it failed.
pub fn write(directory: &Path, kept: Kept, sources: &[SourceText]) -> Result<(), StateError> {
    let text = encode(sources);
    if text.len() as u64 > LONGEST {
        return Err(StateError::TooMuch { files: sources.len(), bytes: text.len() });
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("create the directory", directory))?;
    let opened = File::open(directory).map_err(failed("open", directory))?;
    // It would not be read again.
    must_be_trusted(&opened).map_err(|why| StateError::Directory(directory.to_owned(), why))?;
    replace(&directory.join(kept.name()), text.as_bytes(), File::sync_all)?;
    Ok(opened.sync_all().map_err(failed("sync", directory))?)
}

/// Forgets what is kept.
///
/// # Errors
/// What was tried, and why it failed.
pub fn remove(directory: &Path, kept: Kept) -> Result<(), StateError> {
    let path = directory.join(kept.name());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error).into()),
        _ => Ok(()),
    }
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

/// Why what is kept could not be read or written.
#[derive(Debug)]
pub enum StateError {
    /// What it would be in.
    Directory(PathBuf, Unusable),
    File(PathBuf, Unusable),
    Write(FileError),
    /// More than would be read again.
    TooMuch {
        files: usize,
        bytes: usize,
    },
}

impl StateError {
    /// True where it is there, and not for whoever asks.
    pub fn is_denied(&self) -> bool {
        let error = self.source().and_then(|source| source.downcast_ref::<io::Error>());
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Directory(path, why) => write!(f, "{}: the directory {why}", path.display()),
            StateError::File(path, why) => write!(f, "{}: {why}", path.display()),
            StateError::Write(error) => error.fmt(f),
            StateError::TooMuch { files, bytes } => {
                write!(f, "{files} files with {bytes} bytes, their names included, are too many")
            }
        }
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StateError::Directory(_, why) | StateError::File(_, why) => match why {
                Unusable::Open(error) | Unusable::Examine(error) | Unusable::Read(error) => Some(error),
                Unusable::Content(damage) => Some(damage),
                Unusable::Distrusted(_) | Unusable::Link | Unusable::NotAFile | Unusable::Bytes(_) => None,
            },
            StateError::Write(error) => error.source(),
            StateError::TooMuch { .. } => None,
        }
    }
}

impl From<FileError> for StateError {
    fn from(error: FileError) -> Self {
        StateError::Write(error)
    }
}

/// Why what is in the state directory can't be used.
#[derive(Debug)]
pub enum Unusable {
    Open(io::Error),
    Examine(io::Error),
    Read(io::Error),
    /// Who else has a hand in it.
    Distrusted(String),
    Link,
    NotAFile,
    /// Of which it has more than are ever saved.
    Bytes(u64),
    Content(Damage),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Open(error) => write!(f, "can't be opened: {error}"),
            Unusable::Examine(error) => write!(f, "can't be examined: {error}"),
            Unusable::Read(error) => write!(f, "can't be read: {error}"),
            Unusable::Distrusted(doubt) => f.write_str(doubt),
            Unusable::Link => f.write_str("is a link"),
            Unusable::NotAFile => f.write_str("is not a regular file"),
            Unusable::Bytes(bytes) => write!(f, "has {bytes} bytes, more than ip-masq-agent saves"),
            Unusable::Content(damage) => damage.fmt(f),
        }
    }
}

/// What is wrong with the text of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Empty,
    Foreign,
    OtherVersion,
    CutShort,
    Damaged,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Empty => "is empty",
            Damage::Foreign => "was not saved by ip-masq-agent",
            Damage::OtherVersion => "was saved by another version",
            Damage::CutShort => "is cut short",
            Damage::Damaged => "is damaged",
        })
    }
}

impl Error for Damage {}

/// The texts in a state file.
///
/// # Errors
/// What is wrong with it.
pub fn decode(text: &str) -> Result<Vec<SourceText>, Damage> {
    if text.is_empty() {
        return Err(Damage::Empty);
    }
    let version = text.strip_prefix(MAGIC).ok_or(Damage::Foreign)?;
    let (version, mut rest) = version.split_once('\n').ok_or(Damage::CutShort)?;
    // The first version, of 0.1, did not say how many there are.
    let count: Option<usize> = match version.split_once(' ') {
        None if version == "1" => None,
        Some(("2", count)) => Some(count.parse().map_err(|_| Damage::Damaged)?),
        _ => return Err(Damage::OtherVersion),
    };
    let mut sources = Vec::new();
    while !rest.is_empty() {
        let (source, behind) = next(rest)?;
        sources.push(source);
        rest = behind;
    }
    match count {
        Some(count) if sources.len() < count => Err(Damage::CutShort),
        Some(count) if sources.len() > count => Err(Damage::Damaged),
        _ => Ok(sources),
    }
}

fn next(text: &str) -> Result<(SourceText, &str), Damage> {
    let (head, body) = text.split_once('\n').ok_or(Damage::CutShort)?;
    let (length, path) = head.split_once(' ').ok_or(Damage::Damaged)?;
    let length: usize = length.parse().map_err(|_| Damage::Damaged)?;
    let path: PathBuf = serde_json::from_str(path).map_err(|_| Damage::Damaged)?;
    let (text, behind) =
        body.split_at_checked(length).ok_or(if length > body.len() { Damage::CutShort } else { Damage::Damaged })?;
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
        assert!(read(&state, Kept::LastGood).unwrap().is_none());
        write(&state, Kept::LastGood, &sources()).unwrap();
        assert_eq!(read(&state, Kept::LastGood).unwrap(), Some(sources()));
        write(&state, Kept::LastGood, &[]).unwrap();
        assert_eq!(read(&state, Kept::LastGood).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_file_that_is_not_whole_is_no_last_good_configuration() {
        let text = encode(&sources());
        for (end, _) in text.char_indices() {
            let why = decode(&text[..end]).unwrap_err();
            assert!(end < MAGIC.len() + 3 || why == Damage::CutShort, "{end}: {why}");
        }
        for (text, why) in [
            ("", Damage::Empty),
            ("ip-masq-agent last good 3 1\n", Damage::OtherVersion),
            ("ip-masq-agent last good 2 0\nx", Damage::CutShort),
            ("ip-masq-agent last good 2 0\n0 \"/x\"\n", Damage::Damaged),
            ("ip-masq-agent last good 1\n-1 \"/x\"\nx", Damage::Damaged),
            ("ip-masq-agent last good 1\n1 /x\nx", Damage::Damaged),
            ("ip-masq-agent last good 1\n1 \"/x\"\nü", Damage::Damaged),
            ("ip-masq-agent last good 1\n99999999999999999999 \"/x\"\nx", Damage::Damaged),
            ("ip-masq-agent last good 1\n99999999 \"/x\"\nx", Damage::CutShort),
        ] {
            assert_eq!(decode(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_fifo_in_its_place_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-good");
        let made = rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0);
        let why = read(directory.path(), Kept::LastGood).unwrap_err().to_string();
        assert!(made.is_ok() && why.ends_with("last-good: is not a regular file"), "{why}");
    }
}
