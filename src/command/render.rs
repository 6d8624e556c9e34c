//! `render`.

use super::{Context, exit};

/// Not built yet.
pub fn run(_context: &Context) -> u8 {
    eprintln!("render: not built yet");
    exit::FAILED
}
