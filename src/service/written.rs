//! What the backend knows of the kernel, in the runtime directory: the next process reads it, and the next boot has none.

use super::directories;
use super::replace::replace;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

const NAME: &str = "written";
/// A line for each set: there are not so many.
const LONGEST: u64 = 64 << 10;

/// Reads it; nothing that others could have written.
pub fn read() -> Option<String> {
    let path = directories::runtime().join(NAME);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || directories::distrusted(&metadata).is_some() {
        return None;
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes it, whole or not at all. Without it the next start reads long sets, or writes them anew: nobody has to be told.
pub fn write(text: &str) {
    let path = directories::runtime().join(NAME);
    let _ = replace(&path, text.as_bytes(), |_| Ok(()));
}
