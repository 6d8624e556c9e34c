//! `check`: is the configuration right?

use super::{Context, exit, refuse};

/// Judges the configuration: quiet when it is good, diagnostics on stderr when it is not. With `host` also says
/// what on this host would make the policy moot or harmful.
pub fn run(context: &Context, host: bool) -> u8 {
    match context.load() {
        Err(diagnostics) => refuse(&diagnostics),
        Ok(_) if host => {
            eprintln!("check --host: not built yet");
            exit::FAILED
        }
        Ok(_) => exit::OK,
    }
}
