//! One subcommand each.

pub mod check;
pub mod comparison;
pub mod diff;
pub mod explain;
pub mod flush;
pub mod reload;
pub mod render;
pub mod run;
pub mod status;

use crate::config::{self, Config, Diagnostics, Flags, Locations, SourceText};

/// What every command is told: where the configuration lies, and the flags that beat it.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where the files are.
    pub locations: Locations,
    /// The keys given as flags.
    pub flags: Flags,
}

impl Context {
    /// Reads and judges the configuration. What is suspicious but no error is said on stderr.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<(Config, Vec<SourceText>), Diagnostics> {
        let reading = config::read(&self.locations)?;
        for warning in &reading.warnings {
            eprintln!("warning: {warning}");
        }
        let config = config::parse(&reading.sources, &self.flags)?;
        Ok((config, reading.sources))
    }
}

/// Says on stderr what is wrong with the configuration; gives the exit status for it.
pub fn refuse(diagnostics: &Diagnostics) -> u8 {
    eprintln!("{diagnostics}");
    exit::CONFIG
}

/// Exit statuses that mean the same for every command (sysexits.h for 78).
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// Used wrongly.
    pub const USAGE: u8 = 2;
    /// Can't tell.
    pub const UNKNOWN: u8 = 3;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}
