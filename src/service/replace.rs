//! A file takes the place of another one whole or not at all: it is written beside it first.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What was tried, on what, and why it failed.
#[derive(Debug)]
pub struct FileError {
    pub tried: &'static str,
    pub path: PathBuf,
    pub error: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {} '{}': {}", self.tried, self.path.display(), self.error)
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// What was tried on a path, for `map_err`.
pub fn failed(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |error| FileError { tried, path, error }
}

/// Puts bytes in the place of a file. The new one is its owner's alone; `finish` may change that before it has the name,
/// and see that it is on the disk by then.
///
/// # Errors
/// When it can't be; then nothing has changed.
pub fn replace(path: &Path, bytes: &[u8], finish: impl FnOnce(&File) -> io::Result<()>) -> Result<(), FileError> {
    let new = beside(path, ".new");
    let replaced = create(&new, bytes, finish)
        .map_err(failed("write", &new))
        .and_then(|()| fs::rename(&new, path).map_err(failed("replace", path)));
    if replaced.is_err() {
        // Half a file on a full disk helps nobody; when it can't be removed either, it is overwritten next time.
        let _ = fs::remove_file(&new);
    }
    replaced
}

/// Writes a file of this name anew, as [`replace`] does.
///
/// # Errors
/// When it can't be made, written or finished; a part of it may be there then.
pub fn create(path: &Path, bytes: &[u8], finish: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    // What an earlier try left may be another user's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    finish(&file)
}

/// A path in the same directory.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_an_earlier_try_left_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("elsewhere"), "kept").unwrap();
        symlink("elsewhere", path("note.new")).unwrap();
        replace(&path("note"), b"new", |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(path("elsewhere")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(path("note")).unwrap(), "new");
        assert_eq!(fs::symlink_metadata(path("note")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!path("note.new").exists());
    }

    #[test]
    fn what_can_not_be_finished_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note");
        fs::write(&path, "old").unwrap();
        let full = |_: &File| Err(io::Error::from(ErrorKind::StorageFull));
        let why = replace(&path, b"new", full).unwrap_err().to_string();
        assert!(why.starts_with(&format!("can't write '{}.new': ", path.display())), "{why}");
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((names, fs::read_to_string(&path).unwrap()), (vec!["note".into()], "old".to_owned()));
    }
}
