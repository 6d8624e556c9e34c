//! Text that others had a part in (names of programs, files, interfaces and rules, what a tool says) as it may be shown.
//! Pure.
//!
//! A program may be named `x␊<0>` and an interface may have an escape code in its name. Whatever leaves for a person
//! passes here: an entry of the journal in [`crate::agent::Entry`], what `status` and `reload` are told in
//! [`crate::agent::Report`] and [`crate::agent::ReloadAnswer`], STATUS= in [`crate::service::notify`], standard output and
//! standard error in [`crate::command`]. All of them take one line, and lines only from what is made of lines by us.

#![forbid(unsafe_code)]

use std::borrow::Cow;

/// A character that is seen where it stands. What moves the cursor, changes a terminal's colour or the direction of
/// writing, or came invisibly with a text copied from a web page, becomes U+FFFD.
pub fn shown(c: char) -> char {
    if is_shown(c) { c } else { '\u{fffd}' }
}

fn is_shown(c: char) -> bool {
    // Soft hyphen, zero width and direction marks, embeddings and isolates, byte order mark, annotations, tags
    // (Unicode, category Cf).
    let unseen = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    let white = c.is_whitespace() && c != ' ';
    !(c.is_control() || white || unseen)
}

/// A text as one line: white space of any kind is one space, every other character is seen.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(shown));
    }
    line
}

/// A text whose lines are ours: they and their tabs stay, every other character is seen.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\t') || is_shown(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if stays(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = " bad\nREADY=1\r\n\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\u{2066}\u{61c}  \u{2028}\u{85}file\u{ad} ";

    #[test]
    fn one_line_can_smuggle_nothing() {
        assert_eq!(
            one_line(HOSTILE),
            "bad READY=1 \u{fffd}[31m\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}\u{fffd} file\u{fffd}"
        );
        assert_eq!(one_line("\n \t"), "");
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_moves_the_cursor() {
        let kept = "file:1:2: ü\n\tkey: ['x']\n\t^\n";
        assert!(matches!(lines(kept), Cow::Borrowed(text) if text == kept));
        let shown = lines(HOSTILE);
        assert_eq!(shown.matches('\n').count(), 2);
        assert!(!shown.contains(['\r', '\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{85}']));
    }
}
