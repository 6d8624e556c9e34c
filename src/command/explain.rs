//! `explain`.

use super::{Context, exit};
use crate::cli::ExplainArgs;

/// Not built yet.
pub fn run(_context: &Context, _args: &ExplainArgs) -> u8 {
    eprintln!("explain: not built yet");
    exit::FAILED
}
