//! The last good configuration, in the state directory.
//!
//! The file holds the texts as they were read, and no flags: those are on the command line of the next start. Its first
//! line names the version of the format; each text follows a line `LENGTH PATH`, the path as JSON.

use crate::config::SourceText;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const VERSION: &str = "ip-masq-agent last good 1\n";
const NAME: &str = "last-good";
/// A configuration file may have 64 MiB; nothing that is longer than a few of them was written by us.
const LONGEST: u64 = 256 << 20;
const MOST_FILES: usize = 4096;

/// Reads it; `None` when there is none, or none that can be trusted to be whole.
pub fn read(directory: &Path) -> Option<Vec<SourceText>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(directory.join(NAME))
        .ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    decode(&text)
}

/// Writes it: whole or not at all, and on the disk when this returns.
///
/// # Errors
/// What was tried, and why it failed.
pub fn write(directory: &Path, sources: &[SourceText]) -> Result<(), String> {
    let failed = |what: &str, path: &Path, error: io::Error| format!("can't {what} '{}': {error}", path.display());
    let text = encode(sources);
    if text.len() as u64 > LONGEST || sources.len() > MOST_FILES {
        return Err(format!("{} files with {} bytes are too many", sources.len(), text.len()));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed("make the directory", directory, error))?;
    let (new, path) = (directory.join(format!("{NAME}.new")), directory.join(NAME));
    let written = write_synced(&new, text.as_bytes())
        .map_err(|error| failed("write", &new, error))
        .and_then(|()| fs::rename(&new, &path).map_err(|error| failed("put in place", &path, error)));
    if written.is_err() {
        // Half a file on a full disk helps nobody; when it can't be removed either, it is overwritten next time.
        let _ = fs::remove_file(&new);
        return written;
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed("sync", directory, error))
}

fn write_synced(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn encode(sources: &[SourceText]) -> String {
    let mut text = VERSION.to_owned();
    for source in sources {
        let path = serde_json::Value::from(source.path.to_string_lossy());
        text.push_str(&format!("{} {path}\n{}", source.text.len(), source.text));
    }
    text
}

/// The texts in a state file; `None` when it is not whole.
pub fn decode(text: &str) -> Option<Vec<SourceText>> {
    let mut rest = text.strip_prefix(VERSION)?;
    let mut sources = Vec::new();
    while !rest.is_empty() {
        let (head, body) = rest.split_once('\n')?;
        let (length, path) = head.split_once(' ')?;
        let (text, behind) = body.split_at_checked(length.parse().ok()?)?;
        let path: PathBuf = serde_json::from_str(path).ok()?;
        sources.push(SourceText { path: path.into(), text: text.to_owned() });
        rest = behind;
        if sources.len() > MOST_FILES {
            return None;
        }
    }
    Some(sources)
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
        assert_eq!(read(&state), None);
        write(&state, &sources()).unwrap();
        assert_eq!(read(&state), Some(sources()));
        write(&state, &[]).unwrap();
        assert_eq!(read(&state), Some(Vec::new()));
    }

    #[test]
    fn a_file_that_is_not_whole_is_no_last_good_configuration() {
        let text = encode(&sources());
        for end in 0..text.len() {
            if let Some(cut) = text.get(..end).and_then(decode) {
                assert!(cut.len() < sources().len(), "{end}");
            }
        }
        for text in [
            "",
            "ip-masq-agent last good 2\n",
            "ip-masq-agent last good 1\n-1 \"/x\"\nx",
            "ip-masq-agent last good 1\n99999999999999999999 \"/x\"\nx",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_fifo_in_its_place_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.path().join(NAME),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        );
        assert!(made.is_ok() && read(directory.path()).is_none());
    }
}
