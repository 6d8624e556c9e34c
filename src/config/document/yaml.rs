//! YAML 1.2 with its core schema, less what makes YAML surprising: no tags, no aliases, one document.

use super::node::{Budget, Entry, MAX_DEPTH, Node, SyntaxError, TooMuch, Value};
use crate::config::diagnostic::short;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, options};
use std::borrow::Cow;

/// After how many errors reading ends.
const MAX_ERRORS: usize = 1000;
/// The longest key on one line, in characters (YAML 1.2.2, section 7.4.2): how far the parser looks for the ':' that makes
/// a key of what it has read. All that it reads until then is in memory as tokens of two hundred bytes each.
const MAX_KEY: usize = 1024;
/// How many directives are read; nothing here needs any. The parser keeps those that name tags.
const MAX_DIRECTIVES: usize = 16;

/// Reads a text; a text without a document gives no tree.
pub fn parse(text: &str) -> (Option<Node<'_>>, Vec<SyntaxError>) {
    if let Some(offset) = directives(text).nth(MAX_DIRECTIVES) {
        return (None, vec![SyntaxError::new(offset, format!("more than {MAX_DIRECTIVES} YAML directives"))]);
    }
    let options = options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_unresolved_aliases: true,
        simple_key_max_lookahead: MAX_KEY,
    };
    let events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { text, events, depth: 0, budget: Budget::default(), last: 0, errors: Vec::new() };
    match reader.document() {
        Ok(root) => (root, reader.errors),
        Err(error) => {
            reader.errors.push(error);
            (None, reader.errors)
        }
    }
}

/// Where lines begin with '%', which is what a directive does and nothing else in an ordinary file.
fn directives(text: &str) -> impl Iterator<Item = usize> {
    let begins_line = |offset: usize| offset == 0 || matches!(text.as_bytes()[offset - 1], b'\n' | b'\r');
    text.match_indices('%').map(|(offset, _)| offset).filter(move |offset| begins_line(*offset))
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// Kept here too, because the parser does not count the maps without braces of `[a: b: c: …`.
    depth: usize,
    budget: Budget,
    /// Where the last event began that has any text.
    last: usize,
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
                    let message = "a second YAML document; a file may hold only one";
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
            Some(Ok(next)) => {
                if next.1.start.byte_offset() != next.1.end.byte_offset() {
                    self.last = self.offset(&next.1);
                }
                Ok(Some(next))
            }
            Some(Err(error)) => {
                let offset = error.marker().byte_offset().unwrap_or(self.text.len());
                let rest = self.text.get(offset..).unwrap_or_default();
                Err(match self.long_key(&error, offset, rest) {
                    Some(start) => SyntaxError::new(start, format!("a key of more than {MAX_KEY} characters")),
                    None => match self.tab(&error, offset) {
                        Some(tab) => SyntaxError::new(tab, TAB),
                        None => SyntaxError::new(offset, message(&error, rest)),
                    },
                })
            }
        }
    }

    /// Where the tab is in an indentation with which the parser could do nothing. It is seldom the tab that it names: to
    /// the eye, the line is indented well.
    fn tab(&self, error: &ScanError, offset: usize) -> Option<usize> {
        let line = self.text.get(..offset)?.rfind('\n').map_or(0, |end| end + 1);
        let line = match error.kind() {
            // Unquoted text ran into it: the line before it is named.
            ErrorKind::TabInPlainScalar => offset + self.text.get(offset..)?.find('\n')? + 1,
            // The first line is a text of its own.
            ErrorKind::ExpectedDocumentStart => {
                let ends = std::iter::once(0).chain(self.text[..line].match_indices('\n').map(|(end, _)| end + 1));
                let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
                ends.into_iter().find(|start| !self.text[*start..].lines().next().is_none_or(is_blank))?
            }
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::ExpectedBlockSequenceEntry
            | ErrorKind::BlockSequenceEntryNotAllowed
            | ErrorKind::MappingValueNotAllowed
            | ErrorKind::SimpleKeyExpected
            | ErrorKind::InvalidIndentation => line,
            _ => return None,
        };
        let at = line + self.text[line..].find(|c| c != ' ')?;
        self.text[at..].starts_with('\t').then_some(at)
    }

    /// Where the key begins that the parser gave up before it came to its ':'.
    fn long_key(&self, error: &ScanError, offset: usize, rest: &str) -> Option<usize> {
        match error.kind() {
            ErrorKind::SimpleKeyExpected => {
                let line = rest.lines().next().unwrap_or_default();
                (line.len() > MAX_KEY && line.contains(':')).then_some(offset)
            }
            _ => (rest.starts_with(':') && offset - self.last.min(offset) > MAX_KEY).then_some(self.last),
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
        let offset = self.offset(span);
        let costly = !matches!(event, Event::Scalar(..)) || event.anchor_id().is_some();
        self.spend(offset, costly)?;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::too_much(offset, TooMuch::Depth));
        }
        let tag = span.tag_span();
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceStart(..) => self.nested(Self::list)?,
            Event::MappingStart(..) => self.nested(Self::map)?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let written = span.slice(self.text).unwrap_or("*");
                let message =
                    format!("{} is a YAML alias, which is not allowed here; quote it if it is text", short(written));
                self.wrong(offset, message)?
            }
            _ => Value::Broken,
        };
        let Some(tag) = tag else {
            return Ok(Node { offset: offset as u32, value });
        };
        let offset = self.offset(&tag);
        let written = short(tag.slice(self.text).unwrap_or("!"));
        let message = format!("unquoted, {written} is a YAML tag; write \"{written}\" if it is text");
        let value = self.wrong(offset, message)?;
        Ok(Node { offset: offset as u32, value })
    }

    /// Refuses what would be too much, before it is there.
    fn spend(&mut self, offset: usize, costly: bool) -> Result<(), SyntaxError> {
        let spent = if costly { self.budget.key() } else { self.budget.value() };
        spent.map_err(|excess| SyntaxError::too_much(offset, excess))
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
        items.shrink_to_fit();
        Ok(Value::List(items))
    }

    fn map(&mut self) -> Result<Value<'t>, SyntaxError> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let offset = self.offset(&span);
            self.spend(offset, true)?;
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
        entries.shrink_to_fit();
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

const TAB: &str = "a tab in the indentation; YAML requires spaces";

/// What the parser found wrong, for somebody who does not know its words; `rest` begins where it found it.
fn message(error: &ScanError, rest: &str) -> String {
    let text = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return TooMuch::Depth.to_string(),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar => TAB,
        ErrorKind::MappingValueNotAllowed => {
            "a ':' where a key is not allowed; wrong indentation, no ':' in the line before, or missing quotes?"
        }
        ErrorKind::ExpectedBlockMappingKey => "neither a key of this map nor its end; is the indentation wrong?",
        ErrorKind::ExpectedBlockSequenceEntry => "neither an item of this list nor its end; is the indentation wrong?",
        ErrorKind::BlockSequenceEntryNotAllowed => "a list item is not allowed here; is the indentation wrong?",
        ErrorKind::SimpleKeyExpected => "a key without a ':' after it",
        ErrorKind::InvalidIndentation => "wrong indentation",
        ErrorKind::InvalidColonPlacement => "a ':' inside a list in brackets; is a ']' missing before it?",
        ErrorKind::UnclosedFlowCollection { open: '[' } => "the list is not closed; a ']' is missing",
        ErrorKind::UnclosedFlowCollection { .. } => "the map is not closed; a '}' is missing",
        ErrorKind::ExpectedFlowSequenceSeparator => "a ',' or ']' is missing before this",
        ErrorKind::ExpectedFlowMappingSeparator => "a ',' or '}' is missing before this",
        // Its own message for two commas in a row is about the end of the text.
        ErrorKind::UnexpectedEofImplicitFlowMapping | ErrorKind::UnexpectedEofFlowMapping if rest.starts_with(',') => {
            "a ',' with nothing before it"
        }
        ErrorKind::MisplacedFlowCollectionEnd => "a closing bracket without its opening one",
        ErrorKind::UnknownQuotedScalarEscape => "an unknown escape in double quotes; single quotes have no escapes",
        ErrorKind::MissingLowSurrogate | ErrorKind::UnpairedLowSurrogate | ErrorKind::InvalidLowSurrogate => {
            "half of a surrogate pair is not a character"
        }
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
