//! A value and where it begins, and how many of them a file may have.

use crate::config::diagnostic::{quoted, short};
use std::borrow::Cow;
use std::fmt;

/// How deep lists and maps may be nested. Nothing that we read needs more than two levels.
pub const MAX_DEPTH: usize = 32;
/// How many values a file may have: more than the Internet has routes, and a bound on the memory of a useless file.
pub const MAX_VALUES: usize = 2_000_000;
/// How many of them may be more than an item of a list: keys, maps, lists, anchors. A list of CIDRs has none of them,
/// and each costs several times what an item does.
pub const MAX_KEYS: usize = 200_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'t> {
    /// The byte of the text at which it begins.
    pub offset: u32,
    /// The value.
    pub value: Value<'t>,
}

/// What a file can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'t> {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number, as it was written.
    Number(Cow<'t, str>),
    /// Text, quoted or not.
    Text(Cow<'t, str>),
    /// A date or time, which only TOML has.
    Date(String),
    /// A list.
    List(Vec<Node<'t>>),
    /// A map, in the order of the file, duplicates included.
    Map(Vec<Entry<'t>>),
    /// Something that was already reported.
    Broken,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'t> {
    /// The key.
    pub key: Cow<'t, str>,
    /// The byte of the text at which the key begins.
    pub offset: u32,
    /// The value.
    pub value: Node<'t>,
}

impl Value<'_> {
    /// The value in a message: what was found.
    pub fn describe(&self) -> String {
        match self {
            Value::Null | Value::Broken => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => format!("the number {}", short(text)),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::Date(text) => format!("the date {text}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Something wrong with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The byte of the text.
    pub offset: usize,
    /// The key that it is about, where that is known.
    pub key: String,
    /// What is wrong; what was probably meant.
    pub message: String,
    /// For a key that is there twice: where it was first.
    pub first: Option<usize>,
}

impl SyntaxError {
    pub fn new(offset: usize, message: impl Into<String>) -> Self {
        SyntaxError { offset, key: String::new(), message: message.into(), first: None }
    }

    /// What begins here is more than a file may have.
    pub fn too_much(offset: usize, excess: TooMuch) -> Self {
        SyntaxError::new(offset, excess.to_string())
    }

    /// A key that is there twice.
    pub fn duplicate(offset: usize, key: &str, first: Option<usize>) -> Self {
        SyntaxError { offset, key: key.to_owned(), message: "written twice".to_owned(), first }
    }
}

/// Counts what a file is made of while it is read, before anything is made of it.
#[derive(Debug, Default)]
pub struct Budget {
    values: usize,
    keys: usize,
}

impl Budget {
    /// One more value.
    pub fn value(&mut self) -> Result<(), TooMuch> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(TooMuch::Values) } else { Ok(()) }
    }

    /// One more key, map, list or anchor.
    pub fn key(&mut self) -> Result<(), TooMuch> {
        self.keys += 1;
        if self.keys > MAX_KEYS { Err(TooMuch::Keys) } else { Ok(()) }
    }
}

/// What one file has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMuch {
    Values,
    /// Keys, maps, lists or anchors.
    Keys,
    /// Lists and maps within each other.
    Depth,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooMuch::Values => write!(f, "more than {MAX_VALUES} values in one file"),
            TooMuch::Keys => write!(f, "more than {MAX_KEYS} keys, maps and lists in one file"),
            TooMuch::Depth => write!(f, "nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

impl std::error::Error for TooMuch {}
