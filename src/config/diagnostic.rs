//! What is wrong and where, in the form `path:line:column: key: what is wrong; what was probably meant`.

use crate::policy::Origin;
use crate::text::shown;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How many diagnostics are shown; the rest is only counted.
pub const SHOWN: usize = 50;
/// How many are kept to be sorted. A list of a million bad lines must not cost a gigabyte.
const KEPT: usize = 10_000;
/// The longest piece of a source line that is shown, in characters.
const EXCERPT_WIDTH: usize = 100;
/// How many bytes that is at most.
const LONGEST_EXCERPT: usize = 4 * (EXCERPT_WIDTH + 1);
/// The longest message, in characters. Whatever of it was written by somebody else, a key or a number, may be a file long.
const MESSAGE_WIDTH: usize = 500;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file; `None` for a flag.
    pub path: Option<Arc<Path>>,
    /// Line and column, from 1 and in characters, where there is a place.
    pub place: Option<(u32, u32)>,
    /// What is wrong and what was probably meant: `key: what; what was meant`.
    pub message: String,
    /// The source line and, below it, a caret under the column; a long line is shortened around the column.
    pub excerpt: Option<String>,
}

impl Diagnostic {
    /// Something that is wrong with a file as a whole.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Diagnostic { path: Some(path.into()), place: None, message: message.into(), excerpt: None }
    }

    /// The one line without the excerpt, for a journal field or a status line.
    pub fn headline(&self) -> String {
        let mut line = String::new();
        if let Some(path) = &self.path {
            line = format!("{}:", visible(&path.display().to_string()));
            if let Some((number, column)) = self.place {
                line += &format!("{number}:{column}:");
            }
            line.push(' ');
        }
        // It may quote what an error of the system quotes: the name of a file.
        line + &visible(&self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

/// All that is wrong, in the order of the files and lines; never empty. Where there is very much, the last one
/// says how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A byte of one of the texts.
    File { source: u32, offset: u32 },
    /// A flag, by its number and its name.
    Flag(usize, &'static str),
    /// Nowhere: it is the program's own.
    Default,
}

/// A text, and where in it the lines are.
#[derive(Debug)]
pub struct Lines<'t> {
    path: Arc<Path>,
    text: &'t str,
    /// How many line breaks are before each block of the text. The start of each line would take four times the memory
    /// of a text that is nothing but line breaks.
    breaks_before: Vec<u32>,
    /// How many characters of the line in which a block begins are before it: a line can be as long as a text.
    characters_before: Vec<u32>,
}

/// How many bytes of a text are gone through to find a line.
const BLOCK: usize = 64;

fn breaks(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u32
}

/// How many characters of the line in which some bytes end are before their end, when so many are before the bytes.
fn characters(before: u32, bytes: &[u8]) -> u32 {
    let line_start = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let here = &bytes[line_start.unwrap_or(0)..];
    // The first byte of each character of UTF-8.
    let here = here.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u32;
    if line_start.is_some() { here } else { before + here }
}

impl<'t> Lines<'t> {
    /// Finds the lines of a text of less than 4 GiB.
    pub fn new(path: Arc<Path>, text: &'t str) -> Self {
        let blocks = text.as_bytes().chunks(BLOCK).scan(0, |before, block| {
            let here = *before;
            *before += breaks(block);
            Some(here)
        });
        let breaks_before = blocks.collect();
        let characters = text.as_bytes().chunks(BLOCK).scan(0, |before, block| {
            let here = *before;
            *before = characters(here, block);
            Some(here)
        });
        Lines { path, text, breaks_before, characters_before: characters.collect() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The line of a byte, from 1.
    pub fn line(&self, offset: u32) -> u32 {
        let offset = (offset as usize).min(self.text.len());
        let block = (offset / BLOCK).min(self.breaks_before.len().saturating_sub(1));
        let before = self.breaks_before.get(block).copied().unwrap_or_default();
        before + breaks(&self.text.as_bytes()[block * BLOCK..offset]) + 1
    }

    /// The column of a byte, from 1 and in characters.
    pub fn column(&self, offset: u32) -> u32 {
        let offset = (offset as usize).min(self.text.len());
        let block = (offset / BLOCK).min(self.characters_before.len().saturating_sub(1));
        let before = self.characters_before.get(block).copied().unwrap_or_default();
        characters(before, &self.text.as_bytes()[block * BLOCK..offset]) + 1
    }

    /// The text of a line in front of a byte, and from there on, as far as it can be of use; line break not included.
    fn split(&self, offset: u32) -> (&'t str, &'t str) {
        let offset = boundary(self.text, offset as usize);
        let (before, behind) = self.text.split_at(offset);
        let before = before.rsplit('\n').next().unwrap_or_default();
        let behind = &behind[..boundary(behind, LONGEST_EXCERPT)];
        let behind = behind.split('\n').next().unwrap_or_default();
        // What stands between '\r' and '\n' stands at the end of the line.
        let before = if behind.is_empty() { before.strip_suffix('\r').unwrap_or(before) } else { before };
        (before, behind.strip_suffix('\r').unwrap_or(behind))
    }

    fn diagnostic(&self, offset: u32, message: String) -> Diagnostic {
        let (before, behind) = self.split(offset);
        let column = before.chars().count();
        Diagnostic {
            path: Some(Arc::clone(&self.path)),
            place: Some((self.line(offset), column as u32 + 1)),
            message,
            excerpt: excerpt(before, behind),
        }
    }
}

/// The last boundary of characters that is not behind a byte.
fn boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// A line and a caret below the place between its two parts; `None` when there is nothing to see. A line may have
/// millions of characters, so none but those around the place are looked at.
fn excerpt(before: &str, behind: &str) -> Option<String> {
    let start = |characters| before.char_indices().rev().nth(characters - 1).map(|(start, _)| start);
    // Short enough to be shown from its beginning, or half of what is shown.
    let (start, cut) = match start(EXCERPT_WIDTH * 3 / 4) {
        Some(_) => (start(EXCERPT_WIDTH / 2).unwrap_or_default(), ("…", " ")),
        None => (0, ("", "")),
    };
    let shown = &before[start..];
    if shown.trim().is_empty() && behind.trim().is_empty() {
        return None;
    }
    let mut caret: String = shown.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let mut window: Vec<char> = shown.chars().chain(behind.chars()).take(EXCERPT_WIDTH + 1).map(plain).collect();
    if window.len() > EXCERPT_WIDTH {
        window.truncate(EXCERPT_WIDTH);
        window.push('…');
    }
    caret.push('^');
    Some(format!("    {}{}\n    {}{caret}", cut.0, window.into_iter().collect::<String>(), cut.1))
}

/// A character of a source line as it may be shown: tabs stay, for the caret below to line up.
fn plain(c: char) -> char {
    if c == '\t' { c } else { shown(c) }
}

/// A text as it may be shown in a message: every character is seen.
pub fn visible(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The longest text that is shown whole in a message, in characters.
pub const TEXT_WIDTH: usize = 60;

/// The beginning of a text as it may be shown in a message: every character is seen, not too long.
pub fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(TEXT_WIDTH).map(shown).collect();
    if text.chars().nth(TEXT_WIDTH).is_some() {
        shown.push('…');
    }
    shown
}

/// The same in quotes.
pub fn quoted(text: &str) -> String {
    format!("'{}'", short(text))
}

/// A message without its middle where it is very long: what is wrong stands at its end.
pub fn bounded(message: String) -> String {
    let characters = message.char_indices();
    let half = MESSAGE_WIDTH / 2;
    let (Some((head, _)), Some((tail, _))) = (characters.clone().nth(half), characters.rev().nth(half - 1)) else {
        return message;
    };
    if tail <= head { message } else { format!("{}…{}", &message[..head], &message[tail..]) }
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<(Place, String)>,
    dropped: usize,
    unquoted: BTreeSet<u32>,
}

impl Problems {
    /// Notes what is wrong at a place, about a key or whatever else was written there.
    pub fn report(&mut self, place: Place, subject: &str, message: impl fmt::Display) {
        if self.found.len() >= KEPT {
            self.dropped += 1;
            return;
        }
        let message = match place {
            // The name of a flag is that of its key; the path to what is inside of its value is more.
            Place::Flag(_, name) if subject.contains('[') => format!("--{name}: {}: {message}", short(subject)),
            Place::Flag(_, name) => format!("--{name}: {message}"),
            Place::File { .. } | Place::Default if subject.is_empty() => message.to_string(),
            Place::File { .. } | Place::Default => format!("{}: {message}", short(subject)),
        };
        self.found.push((place, visible(&bounded(message))));
    }

    /// True when something was noted about what is inside of a list of maps.
    pub fn concern_entries_of(&self, key: &str) -> bool {
        let begin = format!("{key}[");
        self.found.iter().any(|(_, message)| message.contains(&begin))
    }

    /// Shows no line of a text, whatever is wrong in it.
    pub fn quote_no_line_of(&mut self, source: u32) {
        self.unquoted.insert(source);
    }

    /// Everything in the order of files and lines, flags last; `None` when nothing is wrong.
    pub fn finish(mut self, sources: &[Lines<'_>]) -> Option<Diagnostics> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|(place, _)| *place);
        let more = self.found.len().saturating_sub(SHOWN) + self.dropped;
        self.found.truncate(SHOWN);
        let located = self.found.into_iter().map(|(place, text)| match place {
            Place::File { source, offset } => {
                let mut diagnostic = sources[source as usize].diagnostic(offset, text);
                diagnostic.excerpt.take_if(|_| self.unquoted.contains(&source));
                diagnostic
            }
            Place::Flag(..) | Place::Default => Diagnostic { path: None, place: None, message: text, excerpt: None },
        });
        let mut all: Vec<Diagnostic> = located.collect();
        if more > 0 {
            all.push(Diagnostic { path: None, place: None, message: format!("… and {more} more"), excerpt: None });
        }
        Some(Diagnostics(all))
    }
}

impl Place {
    /// The same place as the policy remembers it.
    pub fn origin(self, sources: &[Lines<'_>]) -> Origin {
        match self {
            Place::Flag(_, name) => Origin::Flag(name),
            Place::Default => Origin::Default,
            Place::File { source, offset } => {
                let lines = &sources[source as usize];
                let (line, column) = (lines.line(offset), lines.column(offset));
                Origin::File { path: Arc::clone(&lines.path), line, column }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_column_whatever_is_before_it() {
        assert_eq!(excerpt("\tkey: ", "yes").unwrap(), "    \tkey: yes\n    \t     ^");
        assert_eq!(excerpt("é: ", "yes").unwrap(), "    é: yes\n       ^");
        assert_eq!(excerpt("", "a\u{1b}[31m: x").unwrap(), "    a\u{fffd}[31m: x\n    ^");
        assert_eq!(excerpt("a\u{a0}\u{200b}\u{202e}", ": x").unwrap(), "    a\u{fffd}\u{fffd}\u{fffd}: x\n        ^");
        assert_eq!(excerpt(" ", " "), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_column() {
        let shown = excerpt(&"a".repeat(5000), &format!("X{}", "b".repeat(5000))).unwrap();
        let (source, caret) = shown.split_once('\n').unwrap();
        assert!(source.chars().count() < 120, "{source}");
        assert_eq!(source.chars().nth(caret.chars().count() - 1), Some('X'));
    }

    #[test]
    fn a_long_message_loses_its_middle() {
        for length in [0, MESSAGE_WIDTH] {
            assert_eq!(bounded("é".repeat(length)), "é".repeat(length));
        }
        let shown = bounded(format!("first {} last", "é".repeat(10_000)));
        assert!(shown.starts_with("first é") && shown.ends_with("é last") && shown.contains('…'), "{shown}");
        assert_eq!(shown.chars().count(), MESSAGE_WIDTH + 1);
    }

    #[test]
    fn a_line_is_found_wherever_a_block_ends() {
        let text: String = (0..3000).map(|number| format!("{number}é\n")).collect();
        let lines = Lines::new(Path::new("f").into(), &text);
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset as u32 + 1));
        for (number, start) in (1..).zip(starts) {
            assert_eq!(lines.line(start), number);
            assert_eq!(lines.line(start.saturating_sub(1)), number.max(2) - 1);
        }
        assert_eq!(Lines::new(Path::new("f").into(), "").line(0), 1);
    }

    #[test]
    fn the_end_of_the_text_is_a_place() {
        let lines = Lines::new(Path::new("f").into(), "a: [\r\n");
        assert_eq!(lines.diagnostic(6, String::new()).place, Some((2, 1)));
        assert_eq!(lines.diagnostic(5, String::new()).place, Some((1, 5)));
    }
}
