//! TOML, with every error that the parser can recover from.

use super::node::{Budget, Entry, MAX_DEPTH, MAX_VALUES, Node, SyntaxError, TooMuch, Value};
use crate::config::diagnostic::SHOWN;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Error};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Up to how many bytes all errors of a text are wanted. Behind it the first one will do: each costs the parser more
/// than a hundred bytes, and every byte of a text can be one.
const ALL_ERRORS_UP_TO: usize = 1 << 20;

/// Reads a text.
pub fn parse(text: &str) -> (Option<Node<'_>>, Vec<SyntaxError>) {
    if let Some(error) = oversized(text) {
        return (None, vec![error]);
    }
    if text.len() > ALL_ERRORS_UP_TO {
        return match DeTable::parse(text) {
            Ok(table) => (Some(root(text, table)), Vec::new()),
            Err(error) => (None, vec![syntax_error(text, &error)]),
        };
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = errors.iter().any(|error| error.message() != DUPLICATE);
    let mut errors: Vec<_> = errors.iter().map(|error| syntax_error(text, error)).collect();
    errors.sort_by_key(|error| error.offset);
    keep_first_of_each_line(text, &mut errors);
    // To look through the text takes time, and those behind are not shown.
    for error in errors.iter_mut().filter(|error| !error.key.is_empty()).take(SHOWN) {
        if let Some((first, path)) = first_of(text, table.get_ref(), "", &error.key, error.offset) {
            (error.first, error.key) = (Some(first), path);
        }
    }
    if broken {
        return (None, errors);
    }
    (Some(root(text, table)), errors)
}

/// What follows an error in the same line mostly follows from it.
fn keep_first_of_each_line(text: &str, sorted: &mut Vec<SyntaxError>) {
    let mut next_line = 0;
    sorted.retain(|error| {
        let first = error.offset >= next_line;
        if first {
            let rest = &text.as_bytes()[error.offset..];
            next_line = error.offset + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()) + 1;
        }
        first
    });
}

/// The parser holds all tokens of a text in memory before it looks at them, and makes a tree of them whatever they are,
/// so texts that are nothing but brackets, commas or keys are refused here.
fn oversized(text: &str) -> Option<SyntaxError> {
    let mut depth = 0usize;
    let mut budget = Budget::default();
    for (count, token) in Source::new(text).lex().enumerate() {
        let costly = match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                depth += 1;
                true
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                depth = depth.saturating_sub(1);
                false
            }
            // Of the dots in front of it each makes a table; in a line of keys there is no other use for them.
            TokenKind::Equals => true,
            _ => false,
        };
        let offset = token.span().start();
        if depth > MAX_DEPTH {
            return Some(SyntaxError::too_much(offset, TooMuch::Depth));
        }
        if costly && let Err(excess) = budget.key() {
            return Some(SyntaxError::too_much(offset, excess));
        }
        // A value in a list is four tokens: itself, its comma, a line break and the indentation.
        if count > 4 * MAX_VALUES {
            return Some(SyntaxError::too_much(offset, TooMuch::Values));
        }
    }
    None
}

fn root<'t>(text: &'t str, table: Spanned<DeTable<'t>>) -> Node<'t> {
    Node { offset: table.span().start as u32, value: map(text, table.into_inner()) }
}

fn map<'t>(text: &'t str, table: DeTable<'t>) -> Value<'t> {
    let entries = table.into_iter().map(|(key, value)| Entry {
        offset: key.span().start as u32,
        key: key.into_inner(),
        value: node(text, value),
    });
    // The parser sorts by key.
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| entry.offset);
    Value::Map(entries)
}

fn node<'t>(text: &'t str, value: Spanned<DeValue<'t>>) -> Node<'t> {
    let span = value.span();
    let offset = span.start as u32;
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        // Without the underscores that TOML allows between digits.
        DeValue::Integer(number) if number.radix() == 10 => Value::Number(number.as_str().to_owned().into()),
        DeValue::Integer(_) | DeValue::Float(_) => Value::Number(text[span].into()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(text, item)).collect()),
        DeValue::Table(table) => map(text, table),
    };
    Node { offset, value }
}

/// Where a key that is written twice was first, and the path to it. The last one before the second is in the same table:
/// between them there is no other table, but those that end there.
fn first_of(text: &str, table: &DeTable<'_>, path: &str, name: &str, second: usize) -> Option<(usize, String)> {
    let path_to = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let own = table.get_key_value(name).map(|(key, _)| key.span().start).filter(|first| *first < second);
    let inner = table.iter().filter(|(key, _)| key.span().start < second);
    let inner = inner.filter_map(|(key, value)| first_in(text, value, &path_to(key.get_ref()), name, second));
    own.map(|first| (first, path_to(name))).into_iter().chain(inner).max_by_key(|(first, _)| *first)
}

fn first_in(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    path: &str,
    name: &str,
    second: usize,
) -> Option<(usize, String)> {
    let ends_before = value.span().end <= second && text[value.span()].starts_with('{');
    match value.get_ref() {
        DeValue::Table(table) if !ends_before => first_of(text, table, path, name, second),
        DeValue::Array(items) => (1..)
            .zip(items)
            .filter_map(|(number, item): (usize, _)| first_in(text, item, &format!("{path}[{number}]"), name, second))
            .max_by_key(|(first, _)| *first),
        _ => None,
    }
}

/// The parser's whole message for a key that is there already.
const DUPLICATE: &str = "duplicate key";

fn syntax_error(text: &str, error: &Error) -> SyntaxError {
    let span = error.span().unwrap_or(text.len()..text.len());
    let written = text.get(span.clone()).unwrap_or_default();
    if error.message() == DUPLICATE {
        let name = written.trim_matches(['"', '\'']);
        return SyntaxError::duplicate(span.start, name, None);
    }
    SyntaxError::new(span.start, message(error.message(), written))
}

/// What the parser found wrong with the piece that it names, for somebody who does not know its words.
fn message(message: &str, written: &str) -> String {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let reworded = match what {
        "string values must be quoted" if written.is_empty() => "a value is missing",
        "string values must be quoted" | "invalid float" => {
            "neither true, false, a number nor quoted text; put text in quotes"
        }
        "key with no value" => "a key without a '=' after it",
        "invalid unquoted key" if written.starts_with(':') => "a ':' where TOML requires '='",
        "unexpected key or value" => "unexpected text after the value; every key needs a line of its own",
        "unexpected leading zero" => "a number with a leading zero",
        "missing comma between array elements" => "a ',' is missing before this",
        "unclosed array" => "the list is not closed; a ']' is missing",
        "invalid basic string" if expected == "`\"`" => "the text is not closed; a '\"' is missing",
        "invalid literal string" if expected == "`'`" => "the text is not closed; a single quote is missing",
        "cannot recurse further; max recursion depth met" => return TooMuch::Depth.to_string(),
        _ => return message.replace('`', "'"),
    };
    reworded.to_owned()
}
