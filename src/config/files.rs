//! The configuration files as files: which there are, whether they can be trusted, what is in them.

use super::chase::{self, Directory, Suspicion, Target};
use super::trust::{self, Doubt, Trust};
use super::{Diagnostic, Diagnostics, Flags, SourceText, parse, wrong_in_part};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most that all configuration files together may have, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 128 << 20;

/// Where the main files are looked for.
const MAIN_DIRECTORY: &str = "/etc/ip-masq-agent";
const MAIN_FILES: [&str; 2] = ["config.yaml", "config.toml"];
/// The directory of further files, beside the main file.
const DIRECTORY: &str = "config.d";

/// Stands for standard input where a file is named, and its path in messages.
pub const STANDARD_INPUT: &str = "-";
const STANDARD_INPUT_PATH: &str = "<stdin>";

/// Where the configuration lies, and who may have written it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations {
    /// `--config FILE`, or [`STANDARD_INPUT`]; unset means `config.yaml` or `config.toml` in `/etc/ip-masq-agent`, and
    /// that neither is there is no error.
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

    /// The main file that would be made where there is none.
    pub fn new_main_file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| Path::new(MAIN_DIRECTORY).join(MAIN_FILES[0]))
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

    /// The main file, or those that could be, that are there.
    fn main_files(&self) -> impl Iterator<Item = PathBuf> {
        let named = self.file.iter().cloned();
        let usual = MAIN_FILES.iter().filter(|_| self.file.is_none()).map(|name| Path::new(MAIN_DIRECTORY).join(name));
        named.chain(usual)
    }

    /// The files that are read, whatever is in them.
    ///
    /// # Errors
    /// The directory that can't be listed, and why.
    pub fn present(&self) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut present: Vec<PathBuf> = self.main_files().filter(|path| fs::symlink_metadata(path).is_ok()).collect();
        let Some(directory) = self.fragment_directory() else { return Ok(present) };
        let entries = match fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(present),
            Err(error) => return Err((directory, error)),
        };
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        names.sort();
        present.extend(names.iter().filter(|name| is_read(name)).map(|name| directory.join(name)));
        Ok(present)
    }

    /// The same from the root directory, as the service names them.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn absolute(&self) -> io::Result<Self> {
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
        let file = if self.is_standard_input() { self.file.clone() } else { absolute(&self.file)? };
        Ok(Locations { file, directory: absolute(&self.directory)?, trust: self.trust })
    }

    /// True of a path from which the configuration may be read.
    pub fn reach(&self, path: &Path) -> bool {
        let is_fragment = || self.fragment_directory().is_some_and(|directory| path.parent() == Some(&*directory));
        self.main_files().any(|main| main == path) || is_fragment()
    }

    /// True when it can be read only once.
    pub fn is_standard_input(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.as_os_str() == STANDARD_INPUT)
    }

    /// True of a directory that is there for the configuration and for nothing else, so that its mode may be changed.
    fn is_ours(&self, directory: &Path) -> bool {
        let named = self.directory.iter().filter_map(|named| fs::canonicalize(named).ok());
        directory.starts_with(MAIN_DIRECTORY) || named.into_iter().any(|named| named == directory)
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
/// Files that exist but must not or can't be used, and named ones that do not exist; then also all that is wrong in the
/// others and in the flags.
pub fn read(locations: &Locations, flags: &Flags) -> Result<Reading, Diagnostics> {
    let mut reader = Reader {
        locations,
        total: 0,
        suspicions: Vec::new(),
        reading: Reading::default(),
        distrusted: Vec::new(),
        errors: Vec::new(),
    };
    if locations.is_standard_input() {
        reader.add_standard_input();
    } else if let Some(path) = reader.main_file() {
        let target = reader.follow(&path);
        reader.add(&path, target);
    }
    reader.add_fragments();
    reader.finish(flags)
}

struct Reader<'l> {
    locations: &'l Locations,
    total: u64,
    suspicions: Vec<Suspicion>,
    reading: Reading,
    /// What was found out about files that others can write.
    distrusted: Vec<Diagnostic>,
    /// What is wrong with files as files, each with how many texts were read before it.
    errors: Vec<(usize, Diagnostic)>,
}

impl Reader<'_> {
    fn refuse(&mut self, path: &Path, message: impl Into<String>) {
        self.wrong(Diagnostic::of_file(path, message));
    }

    fn wrong(&mut self, diagnostic: Diagnostic) {
        self.errors.push((self.reading.sources.len(), diagnostic));
    }

    /// What was read, or all that is wrong; directories first, since they explain the rest.
    fn finish(mut self, flags: &Flags) -> Result<Reading, Diagnostics> {
        // What somebody else may have led us to is not shown.
        let may_show = self.suspicions.is_empty() || self.locations.trust == Trust::Warn;
        let mut distrusted = Vec::new();
        for Suspicion { directory, doubt } in self.suspicions.into_iter().collect::<BTreeSet<_>>() {
            let consequence = match doubt {
                Doubt::Mode(_) if !self.locations.is_ours(&directory) => ", who could replace what is in it",
                doubt => doubt.advice(),
            };
            distrusted.push(Diagnostic::of_file(&directory, format!("the directory {doubt}{consequence}")));
        }
        distrusted.append(&mut self.distrusted);
        if self.locations.trust == Trust::Warn {
            for warning in &mut distrusted {
                warning.message += "; the service will refuse it";
            }
            self.reading.warnings.append(&mut distrusted);
        }
        if distrusted.is_empty() && self.errors.is_empty() {
            return Ok(self.reading);
        }
        let sources = &self.reading.sources;
        let inside = match self.errors.is_empty() {
            _ if !may_show => None,
            true => parse(sources, flags).err(),
            false => wrong_in_part(sources, flags),
        };
        let number = |one: &Diagnostic| sources.iter().position(|source| Some(&source.path) == one.path.as_ref());
        // What is said of flags has no file, and is last.
        let inside = inside.into_iter().flat_map(|Diagnostics(all)| all);
        let inside = inside.map(|one| ((number(&one).unwrap_or(usize::MAX), true), one));
        let mut errors: Vec<_> = self.errors.into_iter().map(|(before, one)| ((before, false), one)).collect();
        errors.extend(inside);
        errors.sort_by_key(|(place, _)| *place);
        distrusted.extend(errors.into_iter().map(|(_, error)| error));
        Err(Diagnostics(distrusted))
    }

    /// The main file, when there is one.
    fn main_file(&mut self) -> Option<PathBuf> {
        if let Some(file) = &self.locations.file {
            return Some(file.clone());
        }
        let mut present = Vec::new();
        for path in MAIN_FILES.map(|name| Path::new(MAIN_DIRECTORY).join(name)) {
            // The link itself counts: one that leads nowhere is an error, not an absent file.
            match fs::symlink_metadata(&path) {
                Ok(_) => present.push(path),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self.refuse(&path, format!("can't be examined: {error}")),
            }
        }
        if let [first, second] = &present[..] {
            self.refuse(second, format!("{} exists too; keep only one of them", first.display()));
        }
        present.into_iter().next()
    }

    /// Follows a path from the root directory, whatever the directory is that we run in.
    fn follow(&mut self, path: &Path) -> io::Result<Target> {
        chase::follow(&Directory::root()?, &std::path::absolute(path)?, &mut self.suspicions)
    }

    /// Adds the further files, in their order.
    fn add_fragments(&mut self) {
        let Some(path) = self.locations.fragment_directory() else { return };
        let listed = self.follow(&path).and_then(|target| match target {
            Target::Directory(directory) => directory.names().map(|names| (directory, names)),
            Target::File(..) | Target::Other(_) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        });
        let (directory, mut names) = match listed {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound && self.locations.directory.is_none() => return,
            Err(error) => return self.refuse(&path, format!("can't list the directory: {error}")),
        };
        // Also when it is empty today: tomorrow's file would come through it.
        self.suspicions.extend(directory.suspicion());
        names.sort();
        for name in names.iter().filter(|name| !name.as_bytes().starts_with(b".")) {
            let path = path.join(name);
            match path.extension().map(OsStrExt::as_bytes) {
                Some(b"yaml" | b"json" | b"toml") => {
                    let target = chase::follow(&directory, Path::new(name), &mut self.suspicions);
                    self.add(&path, target);
                }
                Some(other) if is_meant_to_be_read(other) => self.reading.warnings.push(Diagnostic::of_file(
                    &path,
                    "ignored; a file in this directory must end in .yaml, .json or .toml",
                )),
                _ => {}
            }
        }
    }

    fn add(&mut self, path: &Path, target: io::Result<Target>) {
        let text = match target {
            Ok(Target::File(file, metadata)) => {
                let reason = trust::writable_by_others(&metadata);
                self.distrusted.extend(reason.map(|reason| Diagnostic::of_file(path, reason)));
                self.text(file, metadata.len())
            }
            Ok(Target::Directory(_)) => Err("is a directory, not a regular file".to_owned().into()),
            Ok(Target::Other(metadata)) => Err(format!("is {}, not a regular file", kind(&metadata)).into()),
            Err(error) => Err(cant_open(path, &error).into()),
        };
        self.add_text(path, text);
    }

    fn add_standard_input(&mut self) {
        let text = self.text(io::stdin().lock(), 0);
        self.add_text(Path::new(STANDARD_INPUT_PATH), text);
    }

    fn add_text(&mut self, path: &Path, text: Result<String, Refusal>) {
        match text {
            Ok(text) => self.reading.sources.push(SourceText { path: path.into(), text }),
            Err(Refusal { place, message }) => {
                self.wrong(Diagnostic { place, ..Diagnostic::of_file(path, message) });
            }
        }
    }

    /// What is to be read, as text. The length is what it was said to be.
    fn text(&mut self, file: impl Read, length: u64) -> Result<String, Refusal> {
        if length > MAX_FILE_BYTES {
            return Err(format!("has {length} bytes, more than the limit of 64 MiB").into());
        }
        let mut bytes = Vec::with_capacity(length as usize);
        // The file may have grown since, and files of /proc have no length at all.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err("has more bytes than the limit of 64 MiB".to_owned().into());
        }
        self.total += bytes.len() as u64;
        if self.total > MAX_TOTAL_BYTES {
            return Err("makes the configuration longer than the limit of 128 MiB".to_owned().into());
        }
        decode(bytes)
    }
}

/// True of a file in a directory of further files, also where there is no main file.
pub fn is_fragment(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == DIRECTORY)
}

/// True of the name of a file in the directory of further files that is one.
fn is_read(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().map(OsStrExt::as_bytes);
    !name.as_bytes().starts_with(b".") && matches!(extension, Some(b"yaml" | b"json" | b"toml"))
}

/// True of the ending of a file that somebody took for one of the directory, and no editor or package manager made.
fn is_meant_to_be_read(extension: &[u8]) -> bool {
    ["yaml", "yml", "json", "toml", "conf"].iter().any(|one| extension.eq_ignore_ascii_case(one.as_bytes()))
}

fn cant_open(path: &Path, error: &io::Error) -> String {
    let dangling = error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok();
    match dangling {
        // What the kernel makes of pipes there are links without a target.
        true if path.starts_with("/dev") || path.starts_with("/proc") => {
            format!("can't be opened by this name; --config {STANDARD_INPUT} reads standard input")
        }
        true => "is a dangling symbolic link".to_owned(),
        false => format!("can't be opened: {error}"),
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The text of the bytes, without a byte order mark.
fn decode(bytes: Vec<u8>) -> Result<String, Refusal> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("UTF-16 text; save it as UTF-8".to_owned().into());
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let (before, rest) = error.as_bytes().split_at(offset);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        Refusal {
            place: Some((line as u32, column as u32)),
            message: format!("the byte {:#04x} is not UTF-8 text; is this a binary file?", rest[0]),
        }
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Why there is no text, and where, if there is a place.
struct Refusal {
    place: Option<(u32, u32)>,
    message: String,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { place: None, message }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
