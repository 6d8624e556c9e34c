//! One subcommand each.

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
    /// Reads and judges the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<(Config, Vec<SourceText>), Diagnostics> {
        let sources = config::read(&self.locations)?;
        let config = config::parse(&sources, &self.flags)?;
        Ok((config, sources))
    }
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
