//! YAML 1.2 with its core schema, less what makes YAML surprising: no tags, no aliases, one document.

use super::{Entry, MAX_DEPTH, MAX_NODES, Node, SyntaxError, Value, too_deep};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, options};
use std::borrow::Cow;

/// After how many errors reading ends.
const MAX_ERRORS: usize = 1000;

/// Reads a text; a text without a document gives no tree.
pub fn parse(text: &str) -> (Option<Node<'_>>, Vec<SyntaxError>) {
    let options = options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_unresolved_aliases: true,
        simple_key_max_lookahead: usize::MAX,
    };
    let events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { text, events, depth: 0, nodes: 0, errors: Vec::new() };
    match reader.document() {
        Ok(root) => (root, reader.errors),
        Err(error) => {
            reader.errors.push(error);
            (None, reader.errors)
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// Kept here too, because the parser does not count the maps without braces of `[a: b: c: …`.
    depth: usize,
    nodes: usize,
    errors: Vec<SyntaxError>,
}

impl<'t> Reader<'t> {
    /// Reads the only document.
    fn document(&mut self) -> Result<Option<Node<'t>>, SyntaxError> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    let message = "a second YAML document; a file holds one";
                    return Err(SyntaxError::new(self.offset(&span), message));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, &span)?),
            }
        }
        Ok(root)
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => {
                let offset = error.marker().byte_offset().unwrap_or(self.text.len());
                Err(SyntaxError::new(offset, message(&error)))
            }
        }
    }

    /// Notes an error that reading can go on behind, unless there are absurdly many.
    fn wrong(&mut self, offset: usize, message: impl Into<String>) -> Result<Value<'t>, SyntaxError> {
        let error = SyntaxError::new(offset, message);
        if self.errors.len() >= MAX_ERRORS {
            return Err(error);
        }
        self.errors.push(error);
        Ok(Value::Broken)
    }

    fn offset(&self, span: &Span) -> usize {
        span.start.byte_offset().unwrap_or(self.text.len())
    }

    /// Reads the node that begins with an event.
    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node<'t>, SyntaxError> {
        self.nodes += 1;
        let offset = self.offset(span);
        if self.nodes > MAX_NODES {
            return Err(SyntaxError::new(offset, format!("more than {MAX_NODES} values in one file")));
        }
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::new(offset, too_deep()));
        }
        let tag = span.tag_span();
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceStart(..) => self.nested(Self::list)?,
            Event::MappingStart(..) => self.nested(Self::map)?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let written = span.slice(self.text).unwrap_or("*");
                let message = format!("{written} is a YAML alias, which is not allowed here; quote it if it is text");
                self.wrong(offset, message)?
            }
            _ => Value::Broken,
        };
        let Some(tag) = tag else {
            return Ok(Node { offset: offset as u32, value });
        };
        let offset = self.offset(&tag);
        let written = tag.slice(self.text).unwrap_or("!");
        let message = format!("unquoted, {written} is a YAML tag; write \"{written}\" if it is text");
        let value = self.wrong(offset, message)?;
        Ok(Node { offset: offset as u32, value })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value<'t>, SyntaxError>) -> Result<Value<'t>, SyntaxError> {
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Value<'t>, SyntaxError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, &span)?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self) -> Result<Value<'t>, SyntaxError> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let offset = self.offset(&span);
            // A key is its text, also where the text would be a number or a bool as a value.
            let key = match &event {
                Event::Scalar(text, ..) => Some(text.clone()),
                _ => None,
            };
            let key_node = self.node(event, &span)?;
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span)?;
            match key {
                _ if key_node.value == Value::Broken => {}
                Some(key) => entries.push(Entry { key, offset: offset as u32, value }),
                None => drop(self.wrong(offset, "a key must be text")?),
            }
        }
        Ok(Value::Map(entries))
    }
}

/// The value of a scalar by the core schema of YAML 1.2.2, section 10.3.2.
fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    if style != ScalarStyle::Plain {
        return Value::Text(text);
    }
    plain(text)
}

/// The value of unquoted text.
pub fn plain(text: Cow<'_, str>) -> Value<'_> {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        other if is_number(other) => Value::Number(text),
        _ => Value::Text(text),
    }
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, is: fn(&u8) -> bool| !digits.is_empty() && digits.bytes().all(|byte| is(&byte));
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| matches!(byte, b'0'..=b'7'));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| all(exponent, u8::is_ascii_digit))
}

/// What the parser found wrong, for somebody who does not know its words.
fn message(error: &ScanError) -> String {
    let text = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(),
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "a tab in the indentation; YAML wants spaces"
        }
        ErrorKind::MappingValueNotAllowed => {
            "a ':' where no key can stand; wrong indentation, no ':' in the line before, or missing quotes?"
        }
        ErrorKind::ExpectedBlockMappingKey => "neither a key of this map nor its end; is the indentation wrong?",
        ErrorKind::ExpectedBlockSequenceEntry => "neither an item of this list nor its end; is the indentation wrong?",
        ErrorKind::BlockSequenceEntryNotAllowed => "a list item can't stand here; is the indentation wrong?",
        ErrorKind::SimpleKeyExpected => "a key without a ':' behind it",
        ErrorKind::InvalidIndentation => "wrong indentation",
        ErrorKind::InvalidColonPlacement => "a ':' inside a list in brackets; is a ']' missing before it?",
        ErrorKind::UnclosedFlowCollection { open: '[' } => "the list is not closed; a ']' is missing",
        ErrorKind::UnclosedFlowCollection { .. } => "the map is not closed; a '}' is missing",
        ErrorKind::ExpectedFlowSequenceSeparator => "a ',' or ']' is missing before this",
        ErrorKind::ExpectedFlowMappingSeparator => "a ',' or '}' is missing before this",
        ErrorKind::MisplacedFlowCollectionEnd => "a closing bracket without its opening one",
        ErrorKind::UnknownQuotedScalarEscape => "an unknown escape in double quotes; single quotes know no escapes",
        ErrorKind::UnclosedQuotedScalar => "the quoted text is not closed",
        ErrorKind::InvalidQuotedScalarIndent => {
            "quoted text that goes on without indentation; is its closing quote missing?"
        }
        ErrorKind::UnexpectedCharacter { character } if character.is_control() => {
            return format!("a control character, {character:?}; is this a binary file?");
        }
        ErrorKind::UnexpectedCharacter { character } => {
            return format!("unquoted text can't begin with '{character}'; put it in quotes");
        }
        kind => return kind.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        for text in
            ["0", "-1", "+1", "010", "0o17", "0xFF", "1.5", ".5", "5.", "1e3", "1.5E-3", ".inf", "-.Inf", ".nan"]
        {
            assert!(matches!(plain(text.into()), Value::Number(_)), "{text}");
        }
        for text in ["yes", "on", "1.2.3", "1_000", "60s", "1:30", ".", "-", "+", "e3", "0x", "0o8", "1e", "-.nan"] {
            assert!(matches!(plain(text.into()), Value::Text(_)), "{text}");
        }
        assert_eq!(plain("~".into()), Value::Null);
        assert_eq!(plain("TRUE".into()), Value::Bool(true));
        assert_eq!(plain("fAlse".into()), Value::Text("fAlse".into()));
    }
}
