//! Notices changes in directories and to the directories themselves: those of the configuration, and of sysctls.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Watches directories, and the directories above them, where they can be made or replaced.
#[derive(Debug)]
pub struct Watcher {
    queue: OwnedFd,
    directories: Vec<PathBuf>,
    /// Per watch: the names that matter, or every name.
    watches: HashMap<i32, Names>,
}

/// What happened in the directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileChange {
    /// A file is being written: it may be empty, or half of what it will be.
    Writing,
    /// There is something new to be read.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Every,
    Only(Vec<OsString>),
}

impl Watcher {
    /// Watches these directories, whether they are there or not.
    ///
    /// # Errors
    /// When the kernel gives no inotify instance.
    pub fn new(directories: Vec<PathBuf>) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watcher = Watcher { queue, directories, watches: HashMap::new() };
        watcher.watch_again();
        Ok(watcher)
    }

    /// What happened since the last time.
    pub fn take(&mut self) -> Option<FileChange> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let (mut change, mut replaced) = (None, false);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::IGNORED) {
                self.watches.remove(&event.wd());
                continue;
            }
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                (change, replaced) = (Some(FileChange::Done), true);
                continue;
            }
            let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
            // Also a link to a directory, of which the kernel does not say ISDIR.
            let is_ours = |name: &OsString| self.directories.iter().any(|ours| ours.file_name() == Some(name));
            replaced |= name.as_ref().is_some_and(is_ours);
            match (self.watches.get(&event.wd()), name) {
                (Some(Names::Only(names)), Some(name)) if !names.contains(&name) => {}
                (None, _) => {}
                (Some(Names::Every), _) if flags == ReadFlags::MODIFY => change = change.max(Some(FileChange::Writing)),
                (Some(Names::Every), _) => change = Some(FileChange::Done),
                (Some(Names::Only(_)), _) => (change, replaced) = (Some(FileChange::Done), true),
            }
            replaced |= flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::ISDIR);
        }
        if replaced {
            self.watch_again();
        }
        change
    }

    /// Adds what is there by now; a directory that is watched already keeps its watch (inotify_add_watch(2)).
    fn watch_again(&mut self) {
        let before: Vec<i32> = self.watches.drain().map(|(watch, _)| watch).collect();
        for directory in self.directories.clone() {
            self.add(&directory, Names::Every);
            if let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) {
                self.add(parent, Names::Only(vec![name.to_owned()]));
            }
        }
        for watch in before.into_iter().filter(|watch| !self.watches.contains_key(watch)) {
            // A directory that was moved away is still there, and no longer ours.
            let _ = inotify::remove_watch(&self.queue, watch);
        }
    }

    fn add(&mut self, directory: &Path, names: Names) {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // One that is not there is noticed when it is made, through the directory above it.
        let Ok(watch) = inotify::add_watch(&self.queue, directory, flags) else { return };
        let names = match (self.watches.remove(&watch), names) {
            (Some(Names::Only(mut known)), Names::Only(new)) => {
                known.extend(new);
                Names::Only(known)
            }
            (Some(Names::Every), _) | (_, Names::Every) => Names::Every,
            (None, names) => names,
        };
        self.watches.insert(watch, names);
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn changed(watcher: &mut Watcher) -> bool {
        watcher.take() == Some(FileChange::Done)
    }

    #[test]
    fn a_file_that_is_being_written_is_told_as_that() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, "old").unwrap();
        let mut watcher = Watcher::new(vec![directory.path().to_owned()]).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        assert_eq!(watcher.take(), Some(FileChange::Writing), "it was emptied");
        file.write_all(b"new").unwrap();
        assert_eq!(watcher.take(), Some(FileChange::Writing));
        drop(file);
        assert_eq!(watcher.take(), Some(FileChange::Done));
        assert_eq!(watcher.take(), None);
    }

    #[test]
    fn edits_and_replaced_directories_are_noticed_and_neighbours_are_not() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let mut watcher = Watcher::new(vec![path("conf"), path("conf/config.d")]).unwrap();
        fs::write(path("neighbour"), "x").unwrap();
        assert!(!changed(&mut watcher), "a neighbour");
        fs::create_dir(path("conf")).unwrap();
        assert!(changed(&mut watcher), "the directory is made");
        fs::write(path("conf/config.yaml"), "x").unwrap();
        assert!(changed(&mut watcher), "a file is written");
        assert!(!changed(&mut watcher), "and read once");
        fs::create_dir(path("conf/config.d")).unwrap();
        assert!(changed(&mut watcher), "the fragments' directory is made");
        fs::write(path("conf/config.d/10.yaml"), "x").unwrap();
        assert!(changed(&mut watcher), "a fragment is written");
        fs::rename(path("conf"), path("old")).unwrap();
        fs::create_dir(path("conf")).unwrap();
        assert!(changed(&mut watcher), "the directory is replaced");
        fs::write(path("conf/config.yaml"), "y").unwrap();
        assert!(changed(&mut watcher), "a file in the new one");
        fs::write(path("old/config.yaml"), "z").unwrap();
        assert!(!changed(&mut watcher), "a file in the old one");
    }

    #[test]
    fn a_directory_that_is_swapped_by_a_link_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let link = |to: &str| {
            std::os::unix::fs::symlink(to, path("new")).unwrap();
            fs::rename(path("new"), path("config.d")).unwrap();
        };
        fs::create_dir(path("v1")).unwrap();
        fs::create_dir(path("v2")).unwrap();
        link("v1");
        let mut watcher = Watcher::new(vec![root.path().to_owned(), path("config.d")]).unwrap();
        link("v2");
        assert!(changed(&mut watcher), "the link is replaced");
        fs::write(path("v2/10.yaml"), "x").unwrap();
        assert!(changed(&mut watcher), "a file behind the new link");
        fs::write(path("v1/10.yaml"), "x").unwrap();
        assert!(!changed(&mut watcher), "a file behind the old link");
    }

    #[test]
    fn reading_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("config.yaml"), "x").unwrap();
        let mut watcher = Watcher::new(vec![root.path().to_owned()]).unwrap();
        fs::read(root.path().join("config.yaml")).unwrap();
        assert!(!changed(&mut watcher));
    }
}
