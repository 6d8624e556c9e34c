//! One instance per host: a record lock (fcntl(2)) on a file in the runtime directory that names its holder, and
//! [`Instance`], which nobody can remove.
//!
//! Not flock(2): a child between fork and exec would go on holding that for a service that was just killed.

use super::directories;
use super::instance::{Another, Instance};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock of a runtime directory, held until dropped; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    file: File,
}

/// Why the lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// Another instance has it; its process where the file says so.
    Held(Option<u32>),
    /// Another instance has another one, in the same network namespace.
    Elsewhere(Another),
    /// Others could have made what is there.
    Distrusted(PathBuf, String),
    /// The file can't be used.
    Io(PathBuf, io::Error),
}

impl LockError {
    /// True when another instance is the reason.
    pub fn is_held(&self) -> bool {
        matches!(self, LockError::Held(_) | LockError::Elsewhere(_))
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = |f: &mut fmt::Formatter<'_>, process: &Option<u32>| {
            process.iter().try_for_each(|process| write!(f, ", as process {process}"))
        };
        match self {
            LockError::Held(holder) => f.write_str("the service is running already").and_then(|()| process(f, holder)),
            LockError::Elsewhere(Another(holder)) => {
                f.write_str("the service is running already in this network namespace")?;
                process(f, holder)
            }
            LockError::Distrusted(path, why) => write!(f, "the runtime directory '{}' {why}", path.display()),
            LockError::Io(path, error) => {
                let hint = if error.kind() == ErrorKind::PermissionDenied { "; this needs root" } else { "" };
                write!(f, "the lock '{}' can't be taken: {error}{hint}", path.display())
            }
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Io(_, error) => Some(error),
            LockError::Held(_) | LockError::Elsewhere(_) | LockError::Distrusted(..) => None,
        }
    }
}

/// Takes the lock of a runtime directory, and sees to it that no instance runs in this network namespace that has
/// another one.
///
/// # Errors
/// When there is another instance, or the file can't be used.
pub fn exclusive(directory: &Path) -> Result<(Lock, Instance), LockError> {
    let lock = Lock::take(directory)?;
    let instance = Instance::claim().map_err(LockError::Elsewhere)?;
    Ok((lock, instance))
}

impl Lock {
    /// Takes the lock of a runtime directory, which is made when it is not there.
    ///
    /// # Errors
    /// When somebody has it or the file can't be used.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        Ok(Lock { directory: directory.to_owned(), file: locked_file(directory)? })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// True while the file at its path is the one that is locked.
    pub fn is_in_place(&self) -> bool {
        let inode = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let at_path = fs::symlink_metadata(path(&self.directory)).map(inode);
        matches!((at_path, self.file.metadata().map(inode)), (Ok(found), Ok(ours)) if found == ours)
    }

    /// Takes it again at its path, where it was removed or replaced.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn stay(&mut self) -> Result<(), LockError> {
        if !self.is_in_place() {
            self.file = locked_file(&self.directory)?;
        }
        Ok(())
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("lock")
}

fn locked_file(directory: &Path) -> Result<File, LockError> {
    let path = path(directory);
    let failed = |error| LockError::Io(path.clone(), error);
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    let metadata = fs::metadata(directory).map_err(failed)?;
    if let Some(why) = directories::distrusted(&metadata) {
        return Err(LockError::Distrusted(directory.to_owned(), why));
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Err(LockError::Held(holder(&mut file))),
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    // That a second process is refused is seen in tests/gateway/daemon/life.rs: within one process a record lock is no bar.
    #[test]
    fn the_file_names_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("not/there/yet");
        let mut lock = Lock::take(&runtime).unwrap();
        let named = || holder(&mut File::open(runtime.join("lock")).unwrap());
        assert_eq!(named(), Some(std::process::id()));
        fs::remove_dir_all(&runtime).unwrap();
        assert!(!lock.is_in_place());
        lock.stay().unwrap();
        assert_eq!(named(), Some(std::process::id()));
    }

    #[test]
    fn a_directory_that_others_can_write_holds_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let refused = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("can be written by its group (mode 0770)"), "{refused}");
    }
}
