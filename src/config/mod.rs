//! Files and flags → [`Policy`] and [`Settings`].
//!
//! Two steps: [`read`] does the IO and checks the files as files; [`parse`] is pure and checks what they say. Where the
//! first refuses a file, it asks the second what is wrong in the others.

#![forbid(unsafe_code)]

mod chase;
mod concern;
mod diagnostic;
pub mod document;
mod draft;
mod duration;
mod egress;
mod expected;
mod files;
mod foreign;
mod forward;
mod forward_mark;
mod forward_value;
mod keys;
mod nearest;
mod portmap;
mod record;
mod settings;
pub mod trust;
mod value;

pub use concern::Concern;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use duration::{DurationError, SECOND_TO_DAY, parse_go_duration};
pub use expected::ExpectedRule;
pub use files::{Locations, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Reading, STANDARD_INPUT, read};
pub use keys::{KEYS, Key, KeyInfo, Settings};
pub use nearest::nearest;
pub use settings::{BackendChoice, Choice, ConfigWatch, FlushConntrack, OnRepair, OnStop, RuleWatch, TableOwner};
pub use trust::Trust;
pub use value::Kind;

use crate::policy::{Policy, Prefix, WithOrigin};
use diagnostic::{Lines, Problems};
use draft::Draft;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Everything that was decided from the files and the flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub policy: Policy,
    pub settings: Settings,
    /// Nat rules of other programs that are meant to be there.
    pub expected_rules: Vec<WithOrigin<ExpectedRule>>,
    /// The built-in ranges that a further file leaves out of the `nonMasqueradeCIDRs` that it begins.
    pub replaced_ranges: Option<WithOrigin<Vec<Prefix>>>,
    /// Keys of the top level that say how to translate where neither it nor an entry of `egress` that has none of its
    /// own translates anything.
    pub without_effect: Vec<WithOrigin<&'static str>>,
}

/// One configuration file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceText {
    /// The path, as it was opened.
    pub path: Arc<Path>,
    pub text: String,
}

/// The keys as flags: raw text, checked by [`parse`] with the same words as the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<Key, Vec<String>>);

impl Flags {
    /// Adds values to a flag. A list takes them all, each of them one item or more separated by commas; of
    /// anything else the last one counts.
    pub fn add(&mut self, key: Key, values: impl IntoIterator<Item = String>) {
        self.0.entry(key).or_default().extend(values);
    }

    /// Takes other values of some flags in the place of those that were there.
    pub fn replace<'v>(&mut self, others: impl IntoIterator<Item = (Key, &'v [String])>) {
        self.0.extend(others.into_iter().map(|(key, values)| (key, values.to_vec())));
    }

    /// True when none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The flags that were given, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &[String])> {
        self.0.iter().map(|(key, values)| (*key, values.as_slice()))
    }
}

/// Judges the texts and the flags, all errors at once. Pure: the texts may come from files or from a saved state.
///
/// Lists of several files are joined, of anything else the last file's value counts, and flags beat the files. The
/// first file that has `nonMasqueradeCIDRs` replaces the built-in list.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn parse(sources: &[SourceText], flags: &Flags) -> Result<Config, Diagnostics> {
    let lines = lines_of(sources);
    let mut draft = Draft::default();
    match validate(&mut draft, &lines, flags) {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(draft.into_config(&lines)),
    }
}

/// What is wrong with texts and flags, whatever is said in other files that belong to them and can't be read.
fn wrong_in_part(sources: &[SourceText], flags: &Flags) -> Option<Diagnostics> {
    validate(&mut Draft::of_part(), &lines_of(sources), flags)
}

fn lines_of(sources: &[SourceText]) -> Vec<Lines<'_>> {
    sources.iter().map(|source| Lines::new(Arc::clone(&source.path), &source.text)).collect()
}

fn validate(draft: &mut Draft, lines: &[Lines<'_>], flags: &Flags) -> Option<Diagnostics> {
    let mut problems = Problems::default();
    for (source, lines) in lines.iter().enumerate() {
        draft.add_file(source as u32, lines, &mut problems);
    }
    draft.add_flags(flags, &mut problems);
    draft.validate_whole(lines, &mut problems);
    problems.finish(lines)
}
