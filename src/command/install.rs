//! Configuration files that are written: each whole or not at all, and what was there is kept where that is asked for.

use crate::service::replace::{FileError, beside, create, failed, replace};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The mode of a file that was not there before.
const MODE: u32 = 0o644;

/// Puts a text in the place of a file, with its owner and mode; of a link, in the place of what it leads to. It is on the
/// disk when this returns. Until then it has a name that is not read as configuration.
///
/// # Errors
/// When it can't be; then nothing has changed.
pub fn put(path: &Path, text: &str) -> Result<(), FileError> {
    let path = &target(path)?;
    let known = match fs::metadata(path) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed("examine", path)(error)),
    };
    replace(path, text.as_bytes(), |file| finish(file, known.as_ref()))?;
    let directory = directory(path);
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed("sync", directory))
}

/// Keeps a file under another name that is free; it is still there, too, until something is put in its place.
///
/// # Errors
/// When it can't be kept.
pub fn keep(path: &Path, suffix: &str) -> Result<PathBuf, FileError> {
    let path = &target(path)?;
    keep_as(path, suffix, |copy| match fs::hard_link(path, copy) {
        // A file system without links.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
            let known = fs::metadata(path)?;
            create(copy, &fs::read(path)?, |file| finish(file, Some(&known)))
        }
        linked => linked,
    })
}

/// Moves a file, or a link, to another name that is free.
///
/// # Errors
/// When it can't be moved.
pub fn set_aside(path: &Path, suffix: &str) -> Result<PathBuf, FileError> {
    keep_as(path, suffix, |aside| {
        // Whoever makes a file of that name meanwhile is root, and asked for it.
        if fs::symlink_metadata(aside).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        fs::rename(path, aside)
    })
}

fn keep_as(path: &Path, suffix: &str, keep: impl Fn(&Path) -> io::Result<()>) -> Result<PathBuf, FileError> {
    let mut name = beside(path, suffix);
    let mut number = 1;
    loop {
        match keep(&name) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
                name = beside(path, &format!("{suffix}-{number}"));
            }
            Err(error) => return Err(failed("keep a copy of", path)(error)),
        }
    }
}

/// Like another file, and on the disk.
fn finish(file: &File, like: Option<&Metadata>) -> io::Result<()> {
    if let Some(like) = like {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    let mode = like.map_or(MODE, |like| like.mode() & 0o7777);
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Where a link leads; a path of which nothing is there yet is its own target.
fn target(path: &Path) -> Result<PathBuf, FileError> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(path.to_owned()),
        Err(error) => Err(failed("follow", path)(error)),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_a_file_with_its_mode_and_of_what_a_link_leads_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("real"), "old").unwrap();
        fs::set_permissions(path("real"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", path("config.yaml")).unwrap();
        put(&path("config.yaml"), "new").unwrap();
        assert!(fs::symlink_metadata(path("config.yaml")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(path("real")).unwrap(), "new");
        assert_eq!(fs::metadata(path("real")).unwrap().mode() & 0o7777, 0o640);
        put(&path("fresh.yaml"), "x").unwrap();
        assert_eq!(fs::metadata(path("fresh.yaml")).unwrap().mode() & 0o7777, MODE);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "nothing is left beside them: {names:?}");
    }

    #[test]
    fn what_is_kept_never_takes_the_place_of_what_was_kept_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (text, kept) in [("first", "config.yaml.before-restore"), ("second", "config.yaml.before-restore-2")] {
            fs::write(path("config.yaml"), text).unwrap();
            assert_eq!(keep(&path("config.yaml"), ".before-restore").unwrap().file_name().unwrap(), kept);
            put(&path("config.yaml"), "new").unwrap();
            assert_eq!(fs::read_to_string(path(kept)).unwrap(), text);
        }
        let aside = set_aside(&path("config.yaml"), ".before-restore").unwrap();
        assert!(aside.ends_with("config.yaml.before-restore-3") && !path("config.yaml").exists());
    }

    #[test]
    fn what_can_not_be_written_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, "old").unwrap();
        // Stands for a full disk: the file cannot be made.
        fs::create_dir(directory.path().join("config.yaml.new")).unwrap();
        let error = put(&path, "new").unwrap_err().to_string();
        assert!(error.starts_with(&format!("can't write '{}.new': ", path.display())), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
