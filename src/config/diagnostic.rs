//! What is wrong and where, in the form `path:line:column: key: what is wrong; what was probably meant`.

use super::keys::Key;
use crate::policy::Origin;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How many diagnostics are shown; the rest is only counted.
pub const SHOWN: usize = 50;
/// How many are kept to be sorted. A list of a million bad lines must not cost a gigabyte.
const KEPT: usize = 10_000;
/// The longest piece of a source line that is shown, in characters.
const EXCERPT_WIDTH: usize = 100;

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
        line + &self.message
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
    File {
        /// Which text.
        source: u32,
        /// Which byte of it.
        offset: u32,
    },
    /// The flag of a key.
    Flag(Key),
}

/// A text with the starts of its lines.
#[derive(Debug)]
pub struct Lines<'t> {
    path: Arc<Path>,
    text: &'t str,
    starts: Vec<u32>,
}

impl<'t> Lines<'t> {
    /// Finds the lines of a text of less than 4 GiB.
    pub fn new(path: Arc<Path>, text: &'t str) -> Self {
        let breaks = text.bytes().zip(1..).filter(|(byte, _)| *byte == b'\n').map(|(_, next)| next);
        Lines { path, text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The line of a byte, from 1.
    pub fn line(&self, offset: u32) -> u32 {
        self.starts.partition_point(|start| *start <= offset) as u32
    }

    /// The text of a line and the part of it in front of a byte, line break not included.
    fn split(&self, offset: u32) -> (&'t str, &'t str) {
        let start = self.starts[self.line(offset) as usize - 1] as usize;
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut end = (offset as usize - start).min(line.len());
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        (line, &line[..end])
    }

    fn diagnostic(&self, offset: u32, message: String) -> Diagnostic {
        let (line, before) = self.split(offset);
        let column = before.chars().count();
        Diagnostic {
            path: Some(Arc::clone(&self.path)),
            place: Some((self.line(offset), column as u32 + 1)),
            message,
            excerpt: excerpt(line, column),
        }
    }
}

/// The line and a caret below the column (from 0); `None` when there is nothing to see.
fn excerpt(line: &str, column: usize) -> Option<String> {
    if line.trim().is_empty() {
        return None;
    }
    let first = if column < EXCERPT_WIDTH * 3 / 4 { 0 } else { column - EXCERPT_WIDTH / 2 };
    let mut window: Vec<char> = line.chars().skip(first).take(EXCERPT_WIDTH + 1).map(plain).collect();
    if window.len() > EXCERPT_WIDTH {
        window.truncate(EXCERPT_WIDTH);
        window.push('…');
    }
    let mut caret: String = window.iter().take(column - first).map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    caret.push('^');
    let cut = if first > 0 { ("…", " ") } else { ("", "") };
    Some(format!("    {}{}\n    {}{caret}", cut.0, window.into_iter().collect::<String>(), cut.1))
}

/// A character of a source line as it may be shown: tabs stay, for the caret below to line up.
fn plain(c: char) -> char {
    if c == '\t' { c } else { shown(c) }
}

/// A character that is seen where it stands. What moves the cursor, changes a terminal's colour or the direction of
/// writing, or came invisibly with a text copied from a web page, becomes U+FFFD.
fn shown(c: char) -> char {
    let white = c.is_whitespace() && c != ' ';
    // Soft hyphen, zero width and direction marks, embeddings and isolates, byte order mark (Unicode, category Cf).
    let unseen = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if c.is_control() || white || unseen { '\u{fffd}' } else { c }
}

/// A text as it may be shown in a message: every character is seen.
pub fn visible(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// A text in quotes as it may be shown in a message: every character is seen, not too long.
pub fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("'{}'", visible(&shown))
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<(Place, String)>,
    dropped: usize,
}

impl Problems {
    /// Notes what is wrong at a place, about a key or whatever else was written there.
    pub fn report(&mut self, place: Place, subject: &str, message: impl fmt::Display) {
        if self.found.len() >= KEPT {
            self.dropped += 1;
            return;
        }
        let message = match place {
            Place::Flag(key) => format!("--{}: {message}", key.info().flag),
            Place::File { .. } if subject.is_empty() => message.to_string(),
            Place::File { .. } => format!("{subject}: {message}"),
        };
        self.found.push((place, visible(&message)));
    }

    /// Everything in the order of files and lines, flags last; `None` when nothing is wrong.
    pub fn finish(mut self, sources: &[Lines<'_>]) -> Option<Diagnostics> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|(place, _)| *place);
        let more = self.found.len().saturating_sub(SHOWN) + self.dropped;
        self.found.truncate(SHOWN);
        let mut all: Vec<Diagnostic> =
            self.found.into_iter().map(|(place, text)| locate(place, text, sources)).collect();
        if more > 0 {
            all.push(Diagnostic { path: None, place: None, message: format!("… and {more} more"), excerpt: None });
        }
        Some(Diagnostics(all))
    }
}

fn locate(place: Place, message: String, sources: &[Lines<'_>]) -> Diagnostic {
    match place {
        Place::File { source, offset } => sources[source as usize].diagnostic(offset, message),
        Place::Flag(_) => Diagnostic { path: None, place: None, message, excerpt: None },
    }
}

impl Place {
    /// The same place as the policy remembers it.
    pub fn origin(self, sources: &[Lines<'_>]) -> Origin {
        match self {
            Place::Flag(key) => Origin::Flag(key.info().flag),
            Place::File { source, offset } => {
                let lines = &sources[source as usize];
                Origin::File { path: Arc::clone(&lines.path), line: lines.line(offset) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_column_whatever_is_before_it() {
        assert_eq!(excerpt("\tkey: yes", 6).unwrap(), "    \tkey: yes\n    \t     ^");
        assert_eq!(excerpt("é: yes", 3).unwrap(), "    é: yes\n       ^");
        assert_eq!(excerpt("a\u{1b}[31m: x", 0).unwrap(), "    a\u{fffd}[31m: x\n    ^");
        assert_eq!(excerpt("a\u{a0}\u{200b}\u{202e}: x", 4).unwrap(), "    a\u{fffd}\u{fffd}\u{fffd}: x\n        ^");
        assert_eq!(excerpt("  ", 1), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_column() {
        let line = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let shown = excerpt(&line, 5000).unwrap();
        let (source, caret) = shown.split_once('\n').unwrap();
        assert!(source.chars().count() < 120, "{source}");
        assert_eq!(source.chars().nth(caret.chars().count() - 1), Some('X'));
    }

    #[test]
    fn the_end_of_the_text_is_a_place() {
        let lines = Lines::new(Path::new("f").into(), "a: [\r\n");
        assert_eq!(lines.diagnostic(6, String::new()).place, Some((2, 1)));
        assert_eq!(lines.diagnostic(5, String::new()).place, Some((1, 5)));
    }
}
