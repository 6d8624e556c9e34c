//! TOML, with every error that the parser can recover from.

use super::{Entry, MAX_DEPTH, MAX_NODES, Node, SyntaxError, Value, too_deep};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Error};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Reads a text.
pub fn parse(text: &str) -> (Option<Node<'_>>, Vec<SyntaxError>) {
    if let Some(error) = oversized(text) {
        return (None, vec![error]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = errors.iter().any(|error| error.message() != DUPLICATE);
    let errors = errors.iter().map(|error| syntax_error(text, table.get_ref(), error)).collect();
    if broken {
        return (None, errors);
    }
    let offset = table.span().start as u32;
    (Some(Node { offset, value: map(table.into_inner()) }), errors)
}

/// The parser holds all tokens of a text in memory before it looks at them, so texts that are nothing but
/// brackets or commas are refused here.
fn oversized(text: &str) -> Option<SyntaxError> {
    let mut depth = 0usize;
    for (count, token) in Source::new(text).lex().enumerate() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        let offset = token.span().start();
        if depth > MAX_DEPTH {
            return Some(SyntaxError::new(offset, too_deep()));
        }
        // A value in a list is four tokens: itself, its comma, a line break and the indentation.
        if count > 4 * MAX_NODES {
            return Some(SyntaxError::new(offset, format!("more than {MAX_NODES} values in one file")));
        }
    }
    None
}

fn map(table: DeTable<'_>) -> Value<'_> {
    let entries = table.into_iter().map(|(key, value)| Entry {
        offset: key.span().start as u32,
        key: key.into_inner(),
        value: node(value),
    });
    Value::Map(entries.collect())
}

fn node(value: Spanned<DeValue<'_>>) -> Node<'_> {
    let offset = value.span().start as u32;
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) if number.radix() == 10 => Value::Number(number.as_str().to_owned().into()),
        DeValue::Integer(number) => Value::Number(format!("{} of base {}", number.as_str(), number.radix()).into()),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned().into()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(node).collect()),
        DeValue::Table(table) => map(table),
    };
    Node { offset, value }
}

/// The parser's whole message for a key that is there already.
const DUPLICATE: &str = "duplicate key";

fn syntax_error(text: &str, table: &DeTable<'_>, error: &Error) -> SyntaxError {
    let span = error.span().unwrap_or(text.len()..text.len());
    let written = text.get(span.clone()).unwrap_or_default();
    if error.message() == DUPLICATE {
        let name = written.trim_matches(['"', '\'']);
        let first = table.get_key_value(name).map(|(key, _)| key.span().start).filter(|first| *first < span.start);
        return SyntaxError::duplicate(span.start, name, first);
    }
    let message = match error.message() {
        "string values must be quoted, expected literal string" if written.is_empty() => "a value is missing",
        "string values must be quoted, expected literal string" => {
            "neither true, false, a number nor quoted text; put text in quotes"
        }
        "key with no value, expected `=`" => "a key without a '=' behind it",
        "unclosed array, expected `]`" => "the list is not closed; a ']' is missing",
        "cannot recurse further; max recursion depth met" => return SyntaxError::new(span.start, too_deep()),
        other => other,
    };
    SyntaxError::new(span.start, message.replace('`', "'"))
}
