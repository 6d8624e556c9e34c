//! Who could have written a file, or put it where it is.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

/// What happens when a file, or the way to it, could have been written by somebody other than root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It is refused.
    #[default]
    Enforce,
    /// It is used, with a warning.
    Warn,
}

/// Why somebody other than root, or than the user who runs us, has a hand in something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It belongs to this user.
    Owner(u32),
    /// Its mode lets others write.
    Mode(u32),
}

impl Doubt {
    /// What mends it, where it is about something that is there for us and for nothing else.
    pub fn advice(self) -> &'static str {
        match self {
            Doubt::Owner(_) => "",
            Doubt::Mode(_) => "; chmod go-w",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Owner(uid) => write!(f, "belongs to user {uid}, not to root"),
            Doubt::Mode(mode) => {
                let who = match (mode & GROUP != 0, mode & EVERYBODY != 0) {
                    (true, true) => "its group and everybody",
                    (true, false) => "its group",
                    (false, _) => "everybody",
                };
                write!(f, "can be written by {who} (mode {mode:04o})")
            }
        }
    }
}

const GROUP: u32 = 0o020;
const EVERYBODY: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Why somebody other than root, or than the user who runs us, could have written a file, and what mends it.
pub fn writable_by_others(metadata: &Metadata) -> Option<String> {
    let doubt = owner(metadata).or_else(|| mode(metadata))?;
    Some(format!("{doubt}{}", doubt.advice()))
}

/// Whether somebody else decides what is in a directory of which every name is taken.
pub fn listed_directory(metadata: &Metadata) -> Option<Doubt> {
    known_owner(metadata).or_else(|| mode(metadata))
}

/// Whether somebody else decides what a name in a directory stands for.
///
/// In a sticky one such as `/tmp` nobody but its owner removes what is there (inode(7)): a directory of root's stays
/// what it is. Of a link or a file that is not enough where everybody may write: its name may be a second one of a file
/// of root's, made by link(2), which the kernel allows when `fs.protected_hardlinks` is off.
pub fn passed_directory(metadata: &Metadata, entry: &Metadata) -> Option<Doubt> {
    if let Some(doubt) = known_owner(metadata) {
        return Some(doubt);
    }
    let doubt = mode(metadata)?;
    let is_sticky = metadata.mode() & STICKY != 0;
    let is_kept = match entry.is_dir() {
        true => known_owner(entry).is_none(),
        false => owner(entry).is_none() && metadata.mode() & EVERYBODY == 0,
    };
    if is_sticky && is_kept { None } else { Some(doubt) }
}

fn owner(metadata: &Metadata) -> Option<Doubt> {
    (!is_trusted(metadata.uid())).then(|| Doubt::Owner(metadata.uid()))
}

fn known_owner(metadata: &Metadata) -> Option<Doubt> {
    owner(metadata).filter(|_| !is_unknown(metadata.uid()))
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn mode(metadata: &Metadata) -> Option<Doubt> {
    let mode = metadata.mode() & 0o7777;
    (mode & (GROUP | EVERYBODY) != 0).then_some(Doubt::Mode(mode))
}

/// True of an owner who has no number here: in a user namespace that an ordinary user has made, `/` belongs to such a
/// one, and so does all that is not the user's own (user_namespaces(7)).
fn is_unknown(uid: u32) -> bool {
    let has_all = |map: &str| map.split_whitespace().eq(["0", "0", "4294967295"]);
    let is_ordinary = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !has_all(&map));
    is_ordinary && fs::read_to_string("/proc/sys/kernel/overflowuid").is_ok_and(|text| text.trim().parse() == Ok(uid))
}
