//! Sets and maps of nf_tables, as far as rules are told by them: an anonymous one is written out where it is used.

use super::field::{Field, Kind};
use super::held::slots;
use super::{Malformed, References, data_value, number, text, verdict};
use crate::sys::nfnetlink::message::{Attributes, Message};

/// So many elements are written out; how many more there are is said.
const SHOWN: usize = 16;

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfSet {
    /// Its name in its table.
    pub name: String,
    /// Written out in a rule, with a name that says nothing.
    pub is_anonymous: bool,
    /// In bytes.
    pub key_length: usize,
    is_interval: bool,
    /// What was read of an anonymous one.
    pub elements: Vec<Element>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    key: Vec<u8>,
    /// Not an element but the first value behind an interval.
    is_end: bool,
    is_catch_all: bool,
    /// The last value of a range in a concatenation.
    key_end: Option<Vec<u8>>,
    data: Data,
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Data {
    None,
    Value(Vec<u8>),
    Verdict(String),
}

/// NFT_SET_* of linux/netfilter/nf_tables.h.
const ANONYMOUS: u32 = 1;
const INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;

/// Reads an NFT_MSG_NEWSET, without elements.
///
/// # Errors
/// When it is malformed.
pub fn header(message: &Message<'_>) -> Result<NfSet, Malformed> {
    let attributes = message.attributes()?;
    let flags = number(&attributes, 3)?.unwrap_or_default();
    Ok(NfSet {
        name: text(&attributes, 2)?,
        is_anonymous: flags & ANONYMOUS != 0,
        key_length: number(&attributes, 5)?.unwrap_or_default() as usize,
        is_interval: flags & INTERVAL != 0,
        elements: Vec::new(),
    })
}

/// Reads the elements of an NFT_MSG_NEWSETELEM.
///
/// # Errors
/// When it is malformed.
pub fn elements(message: &Message<'_>) -> Result<Vec<Element>, Malformed> {
    let Some(list) = message.attributes()?.find(3)? else { return Ok(Vec::new()) };
    list.nested().map(|element| self::element(&element?.nested())).collect()
}

fn element(attributes: &Attributes<'_>) -> Result<Element, Malformed> {
    let bytes =
        |kind| attributes.clone().find(kind)?.map(data_value).transpose().map(|value| value.map(<[u8]>::to_vec));
    let flags = number(attributes, 3)?.unwrap_or_default();
    let data = match attributes.clone().find(2)? {
        None => Data::None,
        Some(data) => match verdict(&data.nested())? {
            Some(verdict) => Data::Verdict(verdict),
            None => Data::Value(data_value(data)?.to_vec()),
        },
    };
    Ok(Element {
        key: bytes(1)?.unwrap_or_default(),
        is_end: flags & INTERVAL_END != 0,
        is_catch_all: flags & CATCH_ALL != 0,
        key_end: bytes(10)?,
        data,
    })
}

impl NfSet {
    /// Itself, when it has to be written out.
    pub fn shown(&self) -> Option<&Self> {
        self.is_anonymous.then_some(self)
    }

    /// A set in words.
    pub fn members(&self, key: &[Field], references: &mut dyn References) -> String {
        self.written(key, references, |_, _| String::new())
    }

    /// A verdict map in words.
    pub fn verdicts(&self, key: &[Field], references: &mut dyn References) -> String {
        self.written(key, references, |data, _| match data {
            Data::Verdict(verdict) => format!(" : {verdict}"),
            _ => " : …".to_owned(),
        })
    }

    /// A map in words.
    pub fn values(
        &self,
        key: &[Field],
        value: &dyn Fn(&[u8], &mut dyn References) -> String,
        references: &mut dyn References,
    ) -> String {
        self.written(key, references, |data, references| match data {
            Data::Value(bytes) => format!(" : {}", value(bytes, references)),
            _ => " : …".to_owned(),
        })
    }

    fn written(
        &self,
        key: &[Field],
        references: &mut dyn References,
        data: impl Fn(&Data, &mut dyn References) -> String,
    ) -> String {
        let ranges = self.ranges();
        let shown = ranges.iter().take(SHOWN).map(|range| {
            let value = data(range.data, references);
            format!("{}{value}", range.words(key, references))
        });
        let mut words: Vec<String> = shown.collect();
        if let Some(more) = ranges.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            words.push(format!("… ({more} more)"));
        }
        format!("{{ {} }}", words.join(", "))
    }

    /// The elements in order, an interval of two being one.
    fn ranges(&self) -> Vec<Range<'_>> {
        let mut sorted: Vec<&Element> = self.elements.iter().collect();
        // Where one interval ends another may begin: the end comes first.
        sorted.sort_by_key(|element| (element.is_catch_all, &element.key, !element.is_end));
        let mut ranges = Vec::new();
        for (at, element) in sorted.iter().enumerate().filter(|(_, element)| !element.is_end) {
            let next = sorted.get(at + 1).filter(|next| !next.is_catch_all);
            let last = match (&element.key_end, self.is_interval && !element.is_catch_all) {
                (Some(last), _) => Some(last.clone()),
                (None, true) => Some(next.map_or(vec![0xff; element.key.len()], |next| before(&next.key))),
                (None, false) => None,
            };
            ranges.push(Range { element, last, data: &element.data });
        }
        ranges
    }
}

struct Range<'a> {
    element: &'a Element,
    last: Option<Vec<u8>>,
    data: &'a Data,
}

impl Range<'_> {
    fn words(&self, key: &[Field], references: &mut dyn References) -> String {
        if self.element.is_catch_all {
            return "*".to_owned();
        }
        let (mut words, mut at) = (Vec::new(), 0);
        for field in key {
            let part = |bytes: &[u8]| {
                let end = if key.len() == 1 { bytes.len() } else { at + field.length };
                bytes.get(at..end).map(<[u8]>::to_vec)
            };
            words.push(match (part(&self.element.key), self.last.as_deref().map(part)) {
                (Some(first), None) => field.value(&first, references),
                (Some(first), Some(Some(last))) => interval(field, &first, &last, references),
                _ => "…".to_owned(),
            });
            at += 4 * slots(field.length) as usize;
        }
        words.join(" . ")
    }
}

/// Names of interfaces are turned around when they are kept in intervals, so that `eth*` is one.
fn interval(field: &Field, first: &[u8], last: &[u8], references: &mut dyn References) -> String {
    if field.kind != Kind::InterfaceName {
        return field.range(first, last, references);
    }
    let same = first.iter().zip(last).take_while(|(first, last)| first == last).count();
    match first.get(..same) {
        Some(name) if same < first.len() => field.value(name, references),
        _ => field.value(first, references),
    }
}

/// The value before one, in network byte order, as intervals are kept.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (lower, borrowed) = byte.overflowing_sub(1);
        *byte = lower;
        if !borrowed {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::super::field::Order;
    use super::*;

    #[test]
    fn intervals_are_prefixes_ranges_or_single_values() {
        let element = |key: [u8; 4], is_end| Element {
            key: key.to_vec(),
            is_end,
            is_catch_all: false,
            key_end: None,
            data: Data::None,
        };
        let set = NfSet {
            name: "__set0".to_owned(),
            is_anonymous: true,
            key_length: 4,
            is_interval: true,
            elements: vec![
                element([0, 0, 0, 0], true),
                element([10, 0, 1, 0], true),
                element([10, 0, 0, 0], false),
                element([10, 0, 1, 5], false),
                element([10, 0, 1, 6], true),
                element([10, 0, 1, 7], false),
                element([10, 0, 1, 10], true),
                element([255, 255, 255, 0], false),
            ],
        };
        let key = [Field::new("ip saddr", 4, Kind::Address, Order::Network)];
        assert_eq!(set.members(&key, &mut ()), "{ 10.0.0.0/24, 10.0.1.5, 10.0.1.7-10.0.1.9, 255.255.255.0/24 }");
    }

    #[test]
    fn of_a_long_set_the_first_elements_are_shown_and_the_others_counted() {
        let element = |last| Element {
            key: vec![10, 0, 0, last],
            is_end: false,
            is_catch_all: false,
            key_end: None,
            data: Data::None,
        };
        let set = NfSet {
            name: "__set0".to_owned(),
            is_anonymous: true,
            key_length: 4,
            is_interval: false,
            elements: (0..=SHOWN as u8 + 2).map(element).collect(),
        };
        let words = set.members(&[Field::new("ip saddr", 4, Kind::Address, Order::Network)], &mut ());
        assert!(words.starts_with("{ 10.0.0.0, 10.0.0.1, ") && words.ends_with("10.0.0.15, … (3 more) }"), "{words}");
    }
}
