//! `flush`.

use super::{Context, exit};

/// Not built yet.
pub fn run(_context: &Context) -> u8 {
    eprintln!("flush: not built yet");
    exit::FAILED
}
