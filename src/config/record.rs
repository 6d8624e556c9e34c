//! A map with known keys, each key one row: the file as a whole is one, and so is each map in a list of them.

use super::diagnostic::{Problems, SHOWN};
use super::document::{self, Entry, Language, Node, SyntaxError, Value};
use super::nearest::nearest;
use super::portmap;
use super::value::{Kind, Reader, Source};
use std::collections::BTreeMap;

/// One row: all that is said about a key. Those of the file as a whole have a concern, the rest of them none of their own.
#[derive(Debug, Clone, Copy)]
pub struct Field<C> {
    /// Its name in files.
    pub name: &'static str,
    /// Its name in the program.
    pub field: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// The default, written as in YAML; empty when there is none.
    pub default: &'static str,
    /// What it concerns.
    pub concern: C,
    /// What it does, in a line.
    pub help: &'static str,
}

/// What was said of the keys of a map so far.
pub trait Record: Default {
    /// The map with its defaults.
    type Values;
    /// What each key concerns.
    type Concern: 'static;
    /// The keys, in the order in which they are documented.
    const FIELDS: &'static [Field<Self::Concern>];
    /// True of a key of the file as a whole, for a map that is an item of a list there.
    const IS_TOP_LEVEL: fn(&str) -> bool = |_| false;

    /// Adds what a file or flag says of the field with this number. False when that makes no sense, which was reported.
    fn set(&mut self, field: usize, node: &Node<'_>, reader: &mut Reader<'_>) -> bool;

    /// True while nothing was said of the field with this number.
    fn lacks(&self, field: usize) -> bool;

    /// The values. Keys of which nothing was said have their defaults.
    fn finish(self) -> Self::Values;

    /// Says what the defaults are of all that was left out.
    fn fill(&mut self) {
        let mut problems = Problems::default();
        for (number, field) in Self::FIELDS.iter().enumerate() {
            if self.lacks(number) && !field.default.is_empty() {
                let mut reader = Reader { name: field.name.into(), source: Source::Default, problems: &mut problems };
                self.set(number, &document::value(field.default).0, &mut reader);
            }
        }
    }
}

/// Makes a record: the struct of its values, the struct of what was said of them, and the table of its keys. A row is
/// `field: Type, "nameInFiles" = "default as in YAML", "help";`, the default left out where there is none, with its concern
/// before the help where the record is `of` concerns.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident, $draft:ident $(, below $is_top_level:path)? $(, of $concern:ident)? {
        $($field:ident: $type:ty, $key:literal $(= $default:literal)?, $($of:ident,)? $help:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(#[doc = $help] pub $field: $type,)*
        }

        /// What was said of the keys of a map so far.
        #[derive(Debug, Default)]
        pub struct $draft {
            $(#[doc = $help] pub $field: Option<$type>,)*
        }

        impl $crate::config::value::Item for $name {
            const KIND: $crate::config::value::Kind = $crate::config::value::Kind::Maps;

            fn read(
                node: &$crate::config::document::Node<'_>,
                reader: &mut $crate::config::value::Reader<'_>,
            ) -> Option<Self> {
                $crate::config::record::read::<$draft>(node, reader)
            }
        }

        #[allow(unused_parens, reason = "where there is no concern it is the empty tuple")]
        impl $crate::config::record::Record for $draft {
            type Values = $name;
            type Concern = ($($concern)?);
            const FIELDS: &'static [$crate::config::record::Field<Self::Concern>] = &[$($crate::config::record::Field {
                name: $key,
                field: stringify!($field),
                kind: <$type as $crate::config::value::Value>::KIND,
                default: concat!($($default)?),
                concern: ($($crate::config::Concern::$of)?),
                help: $help,
            },)*];

            $(const IS_TOP_LEVEL: fn(&str) -> bool = $is_top_level;)?

            fn set(
                &mut self,
                field: usize,
                node: &$crate::config::document::Node<'_>,
                reader: &mut $crate::config::value::Reader<'_>,
            ) -> bool {
                let mut numbers = 0..;
                $(if numbers.next() == Some(field) {
                    return $crate::config::value::Value::merge(&mut self.$field, node, reader);
                })*
                false
            }

            fn lacks(&self, field: usize) -> bool {
                [$(self.$field.is_none(),)*].get(field).copied().unwrap_or_default()
            }

            fn finish(mut self) -> $name {
                self.fill();
                // Every default is read by a test; what has none has an empty value.
                $name { $($field: self.$field.unwrap_or_default(),)* }
            }
        }
    };
}
pub(super) use record;

/// Adds the entries of a map to a record. Each of its keys is named behind `reader.name`.
pub fn add_entries<R: Record>(record: &mut R, entries: &[Entry<'_>], reader: &mut Reader<'_>) {
    let known = |name: &str| R::FIELDS.iter().position(|field| field.name == name);
    let source = reader.source;
    let meant = |key: &str| {
        if (R::IS_TOP_LEVEL)(key) {
            top_level(key, source)
        } else {
            similar(key, R::FIELDS.iter().map(|field| field.name))
        }
    };
    each_entry(entries, reader, known, meant, |field, entry, reader| _ = record.set(field, &entry.value, reader));
}

/// What was probably meant by an unknown key: the nearest of those that there are.
pub fn similar(key: &str, names: impl Iterator<Item = &'static str>) -> String {
    nearest(key, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The same of one that is known elsewhere.
fn top_level(key: &str, source: Source<'_>) -> String {
    // It is not the indentation that ends an entry there.
    let is_toml =
        matches!(source, Source::File(_, lines) if Language::of(lines.path(), lines.text()) == Language::Toml);
    let place = if is_toml { ": write it above every [[…]]" } else { "" };
    format!("; {key} is a key of the top level{place}")
}

/// Visits each entry of a map whose key is known, and reports the others with what was probably meant.
pub fn each_entry(
    entries: &[Entry<'_>],
    reader: &mut Reader<'_>,
    known: impl Fn(&str) -> Option<usize>,
    meant: impl Fn(&str) -> String,
    mut visit: impl FnMut(usize, &Entry<'_>, &mut Reader<'_>),
) {
    let (mut seen, mut unknown) = (BTreeMap::new(), 0);
    for entry in entries {
        let mut reader = reader.of_key(&entry.key);
        let first = *seen.entry(&*entry.key).or_insert(entry.offset);
        if first != entry.offset {
            let error = SyntaxError::duplicate(entry.offset as usize, &entry.key, Some(first as usize));
            reader.report_syntax(&error);
            continue;
        }
        match known(&entry.key) {
            Some(field) => visit(field, entry, &mut reader),
            None => {
                unknown += 1;
                if let Some(refusal) = portmap::refusal(&entry.key) {
                    reader.report(entry.offset, refusal);
                    continue;
                }
                // To look for what was meant takes time, and those behind are not shown.
                let hint = if unknown > SHOWN { String::new() } else { meant(&entry.key) };
                reader.report(entry.offset, format!("unknown key{hint}"));
            }
        }
    }
}

/// Reads a map that is an item of a list.
pub fn read<R: Record>(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<R::Values> {
    let Value::Map(entries) = &node.value else {
        return reader.expected(node, "a map of keys and values", "");
    };
    let mut record = R::default();
    add_entries(&mut record, entries, reader);
    Some(record.finish())
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::Lines;
    use super::super::value::Located;
    use super::*;
    use crate::policy::Prefix;
    use std::path::Path;

    record! {
        /// A record in a list.
        Door, DoorDraft {
            name: String, "name", "What it is called";
            open: bool, "open" = "true", "Whether it is open";
            guests: Vec<Located<Prefix>>, "guests" = "[]", "Who may pass";
        }
    }

    record! {
        /// A file with such a list.
        House, HouseDraft {
            doors: Vec<Located<Door>>, "doors" = "[]", "Its doors";
        }
    }

    fn read(text: &str) -> (House, Vec<String>) {
        let lines = Lines::new(Path::new("f.yaml").into(), text);
        let (node, _) = document::parse(lines.path(), text);
        let mut problems = Problems::default();
        let mut draft = HouseDraft::default();
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!("no map") };
        let mut reader = Reader::of_file(0, &lines, &mut problems);
        add_entries(&mut draft, &entries, &mut reader);
        let said = problems.finish(&[lines]).map_or(Vec::new(), |all| all.0);
        (draft.finish(), said.iter().map(|one| one.headline()).collect())
    }

    #[test]
    fn a_list_of_maps_has_a_row_for_each_key_and_defaults_for_what_is_left_out() {
        let (house, said) = read("doors:\n- {name: front, guests: [10.0.0.0/8]}\n- {name: back, open: false}\n");
        assert_eq!(said, Vec::<String>::new());
        let doors: Vec<_> =
            house.doors.iter().map(|door| (&*door.value.name, door.value.open, door.value.guests.len())).collect();
        assert_eq!(doors, [("front", true, 1), ("back", false, 0)]);
    }

    #[test]
    fn what_is_wrong_in_a_list_of_maps_is_named_with_its_path_and_place() {
        let text =
            "doors:\n- {name: front, opne: true}\n- {name: 7, open: maybe, name: x}\n- shut\n- guests: [10.0.0.1/8]\n";
        assert_eq!(
            read(text).1,
            [
                "f.yaml:2:17: doors[1].opne: unknown key; did you mean open?",
                "f.yaml:3:10: doors[2].name: expected text, found the number 7; write \"7\" if it is meant as text",
                "f.yaml:3:19: doors[2].open: expected true or false, found the text 'maybe'",
                "f.yaml:3:26: doors[2].name: written twice, first in line 3",
                "f.yaml:4:3: doors[3]: expected a map of keys and values, found the text 'shut'",
                "f.yaml:5:12: doors[4].guests: '10.0.0.1/8': host bits are set; did you mean 10.0.0.0/8?",
            ]
        );
    }
}
