//! The configuration files as files: which there are, whether they can be trusted, what is in them.

use super::{Diagnostic, Diagnostics, SourceText};
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most that all configuration files together may have, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 128 << 20;

/// Where the main files are looked for.
const MAIN_DIRECTORY: &str = "/etc/ip-masq-agent";
const MAIN_FILES: [&str; 2] = ["config.yaml", "config.toml"];
/// The directory of further files, beside the main file.
const DIRECTORY: &str = "config.d";

/// What happens when a file or its directory could have been written by somebody other than root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It is refused.
    #[default]
    Enforce,
    /// It is used, with a warning.
    Warn,
}

/// Where the configuration lies, and who may have written it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations {
    /// `--config FILE`; unset means `config.yaml` or `config.toml` in `/etc/ip-masq-agent`, and that neither is
    /// there is no error.
    pub file: Option<PathBuf>,
    /// `--config-dir DIR`; unset means `/etc/ip-masq-agent/config.d` when it is there, and no directory at all when
    /// `file` names another main file than those of `/etc/ip-masq-agent`: who tries a file out wants that file.
    pub directory: Option<PathBuf>,
    /// What happens to files that others can write.
    pub trust: Trust,
}

impl Locations {
    /// The directory in which the main file is looked for.
    pub fn main_directory(&self) -> &Path {
        match &self.file {
            Some(file) => parent(file),
            None => Path::new(MAIN_DIRECTORY),
        }
    }

    /// The directory of the further files, whether it is there or not.
    pub fn fragment_directory(&self) -> Option<PathBuf> {
        if let Some(directory) = &self.directory {
            return Some(directory.clone());
        }
        let main = Path::new(MAIN_DIRECTORY);
        let usual = self.file.as_ref().is_none_or(|file| MAIN_FILES.iter().any(|name| main.join(name) == *file));
        usual.then(|| main.join(DIRECTORY))
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The texts, in the order in which they are merged.
    pub sources: Vec<SourceText>,
    /// What is suspicious but no error.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the configuration files that exist, in the order in which they are merged: the main file, then the
/// `*.yaml`, `*.json` and `*.toml` of the directory by the bytes of their names. Hidden files are left out.
///
/// # Errors
/// Files that exist but must not or can't be used, and named ones that do not exist.
pub fn read(locations: &Locations) -> Result<Reading, Diagnostics> {
    let mut reader = Reader { trust: locations.trust, total: 0, reading: Reading::default(), errors: Vec::new() };
    let main = reader.main_file(locations);
    let fragments = reader.fragments(locations);
    // A directory that is empty today is judged too: tomorrow's file would come through it.
    let fragment_directory = locations.fragment_directory();
    for directory in directories(main.iter().chain(&fragments), fragment_directory) {
        reader.judge_directory(&directory);
    }
    for path in main.iter().chain(&fragments) {
        reader.add(path);
    }
    if reader.errors.is_empty() { Ok(reader.reading) } else { Err(Diagnostics(reader.errors)) }
}

struct Reader {
    trust: Trust,
    total: u64,
    reading: Reading,
    errors: Vec<Diagnostic>,
}

impl Reader {
    fn refuse(&mut self, path: &Path, message: impl Into<String>) {
        self.errors.push(Diagnostic::of_file(path, message));
    }

    fn distrust(&mut self, path: &Path, message: String) {
        match self.trust {
            Trust::Enforce => self.refuse(path, message),
            Trust::Warn => {
                let message = format!("{message}; the service will refuse it");
                self.reading.warnings.push(Diagnostic::of_file(path, message));
            }
        }
    }

    /// The main file, when there is one.
    fn main_file(&mut self, locations: &Locations) -> Option<PathBuf> {
        if let Some(file) = &locations.file {
            return Some(file.clone());
        }
        let mut present = Vec::new();
        for path in MAIN_FILES.map(|name| Path::new(MAIN_DIRECTORY).join(name)) {
            // The link itself counts: one that leads nowhere is an error, not an absent file.
            match fs::symlink_metadata(&path) {
                Ok(_) => present.push(path),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self.refuse(&path, format!("can't be looked at: {error}")),
            }
        }
        if let [first, second] = &present[..] {
            self.refuse(second, format!("{} is there too; keep one of them", first.display()));
        }
        present.into_iter().next()
    }

    /// The further files, in their order.
    fn fragments(&mut self, locations: &Locations) -> Vec<PathBuf> {
        let Some(directory) = locations.fragment_directory() else { return Vec::new() };
        let entries = match fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && locations.directory.is_none() => return Vec::new(),
            Err(error) => {
                self.refuse(&directory, format!("can't list the directory: {error}"));
                return Vec::new();
            }
        };
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        let mut paths = Vec::new();
        for name in names.iter().filter(|name| !name.as_bytes().starts_with(b".")) {
            let path = directory.join(name);
            match path.extension().map(OsStrExt::as_bytes) {
                Some(b"yaml" | b"json" | b"toml") => paths.push(path),
                Some(b"yml") => self
                    .reading
                    .warnings
                    .push(Diagnostic::of_file(&path, "not read; its name would have to end in .yaml")),
                _ => {}
            }
        }
        paths
    }

    fn judge_directory(&mut self, directory: &Path) {
        match fs::metadata(directory) {
            Ok(metadata) => {
                if let Some(reason) = writable_by_others(&metadata) {
                    self.distrust(directory, format!("the directory {reason}"));
                }
            }
            // The files in it will say why they can't be opened.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.refuse(directory, format!("can't be looked at: {error}")),
        }
    }

    fn add(&mut self, path: &Path) {
        match self.text(path) {
            Ok(text) => self.reading.sources.push(SourceText { path: Arc::from(path), text }),
            Err(message) => self.refuse(path, message),
        }
    }

    /// The text of a file, or why it is none.
    fn text(&mut self, path: &Path) -> Result<String, String> {
        let (file, metadata) = open_regular(path)?;
        if let Some(reason) = writable_by_others(&metadata) {
            self.distrust(path, reason);
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(format!("has {} bytes, more than the limit of 64 MiB", metadata.len()));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        // The file may have grown since, and files of /proc have no length at all.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err("has more bytes than the limit of 64 MiB".to_owned());
        }
        self.total += bytes.len() as u64;
        if self.total > MAX_TOTAL_BYTES {
            return Err("makes the configuration longer than the limit of 128 MiB".to_owned());
        }
        decode(bytes)
    }
}

/// Opens what must be a regular file once links are followed, without waiting for anything.
fn open_regular(path: &Path) -> Result<(File, Metadata), String> {
    let metadata = fs::metadata(path).map_err(|error| cant_open(path, &error))?;
    refuse_kind(&metadata)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| cant_open(path, &error))?;
    // The name may stand for something else by now.
    let metadata = file.metadata().map_err(|error| cant_open(path, &error))?;
    refuse_kind(&metadata)?;
    Ok((file, metadata))
}

fn cant_open(path: &Path, error: &io::Error) -> String {
    let dangling = error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok();
    if dangling { "is a link to nothing".to_owned() } else { format!("can't be opened: {error}") }
}

fn refuse_kind(metadata: &Metadata) -> Result<(), String> {
    let kind = metadata.file_type();
    let name = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(format!("is {name}, not a regular file"))
}

/// Why somebody other than root, or than the user who runs us, could have written it.
fn writable_by_others(metadata: &Metadata) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != us {
        return Some(format!("belongs to user {}, not to root", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    let who = match (mode & 0o020 != 0, mode & 0o002 != 0) {
        (false, false) => return None,
        (true, false) => "its group",
        (false, true) => "everybody",
        (true, true) => "its group and everybody",
    };
    Some(format!("can be written by {who} (mode {mode:04o}); chmod go-w"))
}

/// The text of the bytes, without a byte order mark.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = error.as_bytes()[offset];
        format!("not UTF-8 text: byte {byte:#04x} at offset {offset}, in line {line}; is this a binary file?")
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// The directory of further files, the directories that hold the files, and those that hold what links among them
/// lead to.
fn directories<'a>(files: impl Iterator<Item = &'a PathBuf>, fragments: Option<PathBuf>) -> BTreeSet<PathBuf> {
    let holding = files.flat_map(|file| {
        let target = fs::canonicalize(file).ok();
        [Some(parent(file).to_owned()), target.as_deref().map(parent).map(Path::to_owned)]
    });
    let real = |directory: PathBuf| fs::canonicalize(&directory).unwrap_or(directory);
    holding.flatten().chain(fragments).map(real).collect()
}
