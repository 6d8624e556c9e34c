//! JSON, strictly.

use super::node::{Node, SyntaxError, TooMuch};
use super::yaml;
use serde::de::IgnoredAny;

/// serde_json checks the text, and the YAML reader, which reads all JSON, finds the places that serde_json does
/// not tell.
pub fn parse(text: &str) -> (Option<Node<'_>>, Vec<SyntaxError>) {
    if text.trim_ascii().is_empty() {
        return (None, Vec::new());
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => yaml::parse(text),
        Err(error) => {
            let offset = offset(text, &error);
            (None, vec![SyntaxError::new(offset, message(&error, &text[offset..]))])
        }
    }
}

/// serde_json counts columns in bytes from 1, and names the last byte that it looked at.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut offset = (start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// What serde_json found wrong, in our words; `rest` begins where it found it.
fn message(error: &serde_json::Error, rest: &str) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let reworded = match what {
        "EOF while parsing a list" => "the list is not closed; a ']' is missing",
        "EOF while parsing an object" => "the map is not closed; a '}' is missing",
        "EOF while parsing a string" => "the text is not closed; a '\"' is missing",
        "EOF while parsing a value" => "a value is missing",
        "trailing comma" => TRAILING_COMMA,
        "key must be a string" if rest.starts_with('}') => TRAILING_COMMA,
        "trailing characters" => "unexpected text after the end of the JSON value",
        "key must be a string" => "a key must be text in double quotes",
        "expected value" | "expected ident" => "neither a number, true, false, null nor text in double quotes",
        "expected `,` or `}`" => "a ',' or '}' is missing before this",
        "expected `,` or `]`" => "a ',' or ']' is missing before this",
        "expected `:`" => "a ':' is missing before this",
        "recursion limit exceeded" => return TooMuch::Depth.to_string(),
        _ => what,
    };
    reworded.to_owned()
}

const TRAILING_COMMA: &str = "a ',' with nothing after it, which JSON does not allow";
