//! Files and flags → [`Policy`] and [`Settings`].
//!
//! Two steps: [`read`] does the IO and judges the files as files; [`parse`] is pure and judges what they say.

mod settings;

pub use settings::{BackendChoice, OnStop, RuleWatch, Settings, TableOwner};

use crate::policy::{Origin, PRIVATE_RANGES, Policy, PrefixSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that was decided from the files and the flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which flows are masqueraded.
    pub policy: Policy,
    /// How the service behaves.
    pub settings: Settings,
}

/// Where the configuration lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// `--config FILE`; unset means `config.yaml` or `config.toml` in `/etc/ip-masq-agent`.
    pub file: Option<PathBuf>,
    /// `--config-dir DIR`; unset means `config.d` beside the main file.
    pub directory: Option<PathBuf>,
}

/// One configuration file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The path, as it was opened.
    pub path: Arc<Path>,
    /// The whole text.
    pub text: String,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file; `None` for a flag.
    pub path: Option<Arc<Path>>,
    /// Line and column, from 1, where there is a place.
    pub place: Option<(u32, u32)>,
    /// What is wrong and what was probably meant: `key: what; what was meant`.
    pub message: String,
    /// The source line, shown with a caret under the column.
    pub source_line: Option<String>,
}

/// All that is wrong, in the order of the files and lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{}", diagnostic.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The keys as flags: raw text, judged by [`parse`] with the same words as the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {}

/// Reads the configuration files that exist, in the order in which they are merged.
///
/// # Errors
/// Files that exist but must not or can't be used.
pub fn read(_locations: &Locations) -> Result<Vec<SourceText>, Diagnostics> {
    Ok(Vec::new())
}

/// Judges the texts and the flags, all errors at once.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn parse(_sources: &[SourceText], _flags: &Flags) -> Result<Config, Diagnostics> {
    let policy = Policy {
        exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default),
        random_fully: true,
        ..Policy::default()
    };
    Ok(Config { policy, settings: Settings::default() })
}
