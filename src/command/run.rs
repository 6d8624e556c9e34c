//! `run`.

use super::{Context, exit};
use crate::cli::RunArgs;

/// Not built yet.
pub fn run(_context: &Context, _args: &RunArgs) -> u8 {
    eprintln!("run: not built yet");
    exit::FAILED
}
