//! Follows a path as the kernel would, and checks every directory on the way.
//!
//! That root alone can write a file helps nothing when somebody else decides which file it is: through a directory of
//! theirs the name may come to stand for any file that root may read. Each step is taken from a descriptor of the one
//! before, so that what was checked is what is used.

use super::trust::{self, Doubt};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// How many links are followed in one path, as the kernel counts (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How often a name is looked at that stands for something else each time.
const MAX_REPLACEMENTS: usize = 16;

/// A directory on the way through which somebody else has a hand in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspicion {
    /// The directory, all links followed.
    pub directory: PathBuf,
    pub doubt: Doubt,
}

/// A directory that is held open, under the name that it has when all links are followed.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
    metadata: Metadata,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Target {
    Directory(Directory),
    /// A regular file, open for reading, as it was when it was opened.
    File(File, Metadata),
    /// Anything else. It was not opened: that may wait for somebody, or do something.
    Other(Metadata),
}

/// Follows a path from a directory, and adds to the suspicions what it meets on the way.
///
/// # Errors
/// As open(2) and readlink(2).
pub fn follow(start: &Directory, path: &Path, suspicions: &mut Vec<Suspicion>) -> io::Result<Target> {
    let here = Directory::open(&start.file, ".", start.path.clone())?;
    let ahead = path.components().map(|step| step.as_os_str().to_owned()).collect();
    let mut chase = Chase { here, ahead, links: 0, replacements: 0, suspicions };
    while let Some(name) = chase.ahead.pop_front() {
        if let Some(target) = chase.step(&name)? {
            return Ok(target);
        }
    }
    Ok(Target::Directory(chase.here))
}

impl Directory {
    /// Where every absolute path begins.
    ///
    /// # Errors
    /// As open(2).
    pub fn root() -> io::Result<Self> {
        Self::open(CWD, "/", "/".into())
    }

    fn open(start: impl AsFd, name: impl AsRef<OsStr>, path: PathBuf) -> io::Result<Self> {
        // With DIRECTORY the kernel mounts what automount(8) keeps for it, with PATH alone it would not.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(start, name.as_ref(), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        Ok(Directory { file, path, metadata })
    }

    /// The names in it.
    ///
    /// # Errors
    /// As open(2) and getdents64(2).
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::new(openat(&self.file, ".", flags, Mode::empty())?)? {
            names.push(OsString::from_vec(entry?.file_name().to_bytes().to_vec()));
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    /// Why others decide what is in it, if they do.
    pub fn suspicion(&self) -> Option<Suspicion> {
        let doubt = trust::listed_directory(&self.metadata)?;
        Some(Suspicion { directory: self.path.clone(), doubt })
    }
}

struct Chase<'s> {
    here: Directory,
    ahead: VecDeque<OsString>,
    links: usize,
    replacements: usize,
    suspicions: &'s mut Vec<Suspicion>,
}

impl Chase<'_> {
    /// One component further: what the path leads to, when it is known.
    fn step(&mut self, name: &OsStr) -> io::Result<Option<Target>> {
        match Path::new(name).components().next() {
            Some(Component::RootDir) => self.here = Directory::root()?,
            Some(Component::ParentDir) => {
                let path = self.here.path.parent().unwrap_or(Path::new("/")).to_owned();
                self.here = Directory::open(&self.here.file, "..", path)?;
            }
            Some(Component::Normal(name)) => return self.named(name),
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
        Ok(None)
    }

    fn named(&mut self, name: &OsStr) -> io::Result<Option<Target>> {
        match Directory::open(&self.here.file, name, self.here.path.join(name)) {
            Ok(directory) => {
                self.suspect(&directory.metadata);
                self.here = directory;
                return Ok(None);
            }
            // No directory; a link is one of the two, by the version of the kernel.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = File::from(openat(&self.here.file, name, flags, Mode::empty())?);
        let metadata = entry.metadata()?;
        self.suspect(&metadata);
        if metadata.is_symlink() {
            self.expand(&entry)?;
            return Ok(None);
        }
        if !self.ahead.is_empty() {
            return Err(Errno::NOTDIR.into());
        }
        if !metadata.is_file() {
            return Ok(Some(Target::Other(metadata)));
        }
        self.open(name, &metadata)
    }

    fn suspect(&mut self, entry: &Metadata) {
        let directory = self.here.path.clone();
        let doubt = trust::passed_directory(&self.here.metadata, entry);
        self.suspicions.extend(doubt.map(|doubt| Suspicion { directory, doubt }));
    }

    fn expand(&mut self, link: &File) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(link, "", Vec::new())?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        target.components().rev().for_each(|step| self.ahead.push_front(step.as_os_str().to_owned()));
        Ok(())
    }

    /// Opens what was checked. Where the name stands for something else by now, as while an editor saves, that is checked.
    fn open(&mut self, name: &OsStr, checked: &Metadata) -> io::Result<Option<Target>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&self.here.file, name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                let metadata = file.metadata()?;
                if (metadata.dev(), metadata.ino()) == (checked.dev(), checked.ino()) {
                    return Ok(Some(Target::File(file, metadata)));
                }
            }
            // A link, a socket.
            Err(Errno::LOOP | Errno::NXIO) => {}
            Err(error) => return Err(error.into()),
        }
        self.replacements += 1;
        if self.replacements > MAX_REPLACEMENTS {
            return Err(Errno::AGAIN.into());
        }
        self.ahead.push_front(name.to_owned());
        Ok(None)
    }
}
