//! Rules and files of other programs → a configuration, as text. Pure.
//!
//! What is printed says what the lines said that were taken, no more and no less; a line for which there is no key is
//! refused with the reason, never approximated.

#![forbid(unsafe_code)]

mod forwards;
mod go_agent;
mod iptables;
mod nft;
mod portmap;
mod rule;
mod sources;
mod words;
mod write;

use crate::config::{self, Diagnostics, Flags, SourceText};
use crate::policy::Family;
use rule::Rules;
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// The most that is read, in bytes; of JSON, which takes more memory than its text, half of it.
pub const MAX_BYTES: usize = 64 << 20;
const MAX_JSON_BYTES: usize = MAX_BYTES / 2;

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub text: String,
    /// How many lines it does not say.
    pub refused: usize,
}

/// Why a text gave no configuration.
#[derive(Debug)]
pub enum ImportError {
    Empty,
    TooLarge,
    Binary,
    Json(serde_json::Error),
    /// What nft reads and prints for people.
    NftText,
    /// What iptables prints for people.
    Listing,
    /// A ConfigMap with this line, from 1, that is wrong, and why.
    Yaml(usize, String),
    Unknown,
    /// Nothing of it is about nat; says what there was.
    NoNat(Vec<String>),
    /// What was made of it can't be together.
    Unsaid(Diagnostics),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Empty => f.write_str("the text is empty"),
            ImportError::TooLarge => write!(f, "more than {} MiB, or than half of it as JSON", MAX_BYTES >> 20),
            ImportError::Binary => f.write_str("this is not text"),
            ImportError::Json(error) => write!(f, "this begins as JSON and is none; is it cut off? {error}"),
            ImportError::NftText => {
                f.write_str("these are rules of nft as text; load them, and give what 'nft -j list ruleset' prints")
            }
            ImportError::Listing => f.write_str(
                "this is what 'iptables -L' prints, which leaves out much of the rules; give what iptables-save prints",
            ),
            ImportError::Yaml(line, why) => write!(f, "line {line}: {why}"),
            ImportError::Unknown => f.write_str(
                "this is neither what iptables-save or 'nft -j list ruleset' prints, nor a ConfigMap of Kubernetes' \
                 ip-masq-agent, nor a configuration of CNI's portmap",
            ),
            ImportError::NoNat(notes) if notes.is_empty() => f.write_str("there is no nat rule in it"),
            ImportError::NoNat(notes) => write!(f, "there is no nat rule in it; {}", notes.join("; ")),
            ImportError::Unsaid(diagnostics) => {
                write!(f, "these rules together are no configuration:\n{diagnostics}")
            }
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Json(error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a text, whichever program it is of, and says it as a configuration.
///
/// # Errors
/// When it is of none of them, or has nothing that could be said.
pub fn import(text: &str) -> Result<Imported, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let begin = text.trim_start();
    if begin.is_empty() {
        return Err(ImportError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(ImportError::TooLarge);
    }
    if text.contains('\0') {
        return Err(ImportError::Binary);
    }
    let imported = match begin.starts_with('{') {
        true => of_json(begin)?,
        false if is_rules(text) => of_rules("rules of iptables", iptables::read(text))?,
        false if is_text_of_nft(text) => return Err(ImportError::NftText),
        false if is_listing(begin) => return Err(ImportError::Listing),
        false => go_agent::of_yaml(text)?,
    };
    let source = SourceText { path: Path::new("imported.yaml").into(), text: imported.text.clone() };
    config::parse(&[source], &Flags::default()).map_err(ImportError::Unsaid)?;
    Ok(imported)
}

fn is_rules(text: &str) -> bool {
    let mut lines =
        text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')).take(100);
    let is_of_save = |line: &str| {
        ["*", ":", "-A ", "-I ", "-N ", "-P "].iter().any(|start| line.starts_with(start))
            || line.contains("] -A ")
            || line.starts_with("create ") && line.contains("hash:")
    };
    // In a script, other lines may come first.
    let is_of_script = |line: &str| {
        let program = line.split_whitespace().next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        program.starts_with("iptables") || program.starts_with("ip6tables")
    };
    lines.next().is_some_and(|line| is_of_save(line) || is_of_script(line)) || lines.any(is_of_script)
}

/// `nft list ruleset`, or a file like nftables.conf.
fn is_text_of_nft(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| line.starts_with("table ") && line.ends_with('{'))
}

/// `iptables -L`, with or without numbers.
fn is_listing(begin: &str) -> bool {
    begin
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("Chain ") && (line.contains("(policy ") || line.contains(" references)")))
}

fn of_json(text: &str) -> Result<Imported, ImportError> {
    if text.len() > MAX_JSON_BYTES {
        return Err(ImportError::TooLarge);
    }
    let document: Value = serde_json::from_str(text).map_err(ImportError::Json)?;
    if nft::is_listing(&document) {
        return of_rules("'nft -j list ruleset'", nft::read(&document));
    }
    match portmap::read(&document) {
        Some(imported) => Ok(imported),
        None => go_agent::of_yaml(text),
    }
}

fn of_rules(origin: &str, mut found: Rules) -> Result<Imported, ImportError> {
    if found.rules.is_empty() && found.refused.is_empty() {
        return Err(ImportError::NoNat(found.notes));
    }
    let mut forwards = forwards::read(&mut found);
    forwards::take_hairpins(&mut found, &mut forwards);
    let also_ipv6 = forwards.iter().any(|forward| forward.family() == Family::V6);
    let sources = sources::read(&mut found, also_ipv6);
    for forward in &mut forwards {
        let translated = sources.translated_towards(forward.address);
        forwards::add(forward, &translated);
    }
    found.refused.sort_by(|one, other| one.line.cmp(&other.line));
    let text = write::rules(origin, &found, &sources, &forwards);
    Ok(Imported { text, refused: found.refused.len() })
}
