//! `status`.

use super::{Context, exit};
use crate::cli::StatusArgs;

/// Not built yet.
pub fn run(_context: &Context, _args: &StatusArgs) -> u8 {
    eprintln!("status: not built yet");
    exit::FAILED
}
