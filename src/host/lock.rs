//! One instance per host: a record lock (fcntl(2)) on a file in the runtime directory that names its holder.
//!
//! Not flock(2): a child between fork and exec would go on holding that for a service that was just killed.

use rustix::fs::{FlockOperation, fcntl_lock};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held until dropped; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// Another instance has it; its process where the file says so.
    Held(Option<u32>),
    /// The file can't be used.
    Io(PathBuf, io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held(Some(pid)) => write!(f, "the service is running already, as process {pid}"),
            LockError::Held(None) => f.write_str("the service is running already"),
            LockError::Io(path, error) => write!(f, "the lock '{}' can't be taken: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

impl Lock {
    /// Takes the lock of a runtime directory, which is made when it is not there.
    ///
    /// # Errors
    /// When somebody has it or the file can't be used.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |error| LockError::Io(path.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
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
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                return Err(LockError::Held(holder(&mut file)));
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Lock { _file: file })
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // That a second process is refused is seen in tests/daemon/life.rs: within one process a record lock is no bar.
    #[test]
    fn the_file_names_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("not/there/yet");
        let _lock = Lock::take(&runtime).unwrap();
        let mut file = File::open(runtime.join("lock")).unwrap();
        assert_eq!(holder(&mut file), Some(std::process::id()));
    }
}
