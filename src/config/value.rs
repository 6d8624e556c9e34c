//! One value of one key: is it what the key wants, and if not, what was probably meant. What a type of value is, is said
//! here once.

use super::diagnostic::{Lines, Place, Problems, TEXT_WIDTH, bounded, quoted, short, visible};
use super::document::{self, Node, SyntaxError, Value as Found};
use super::duration::{DurationError, SECOND_TO_DAY, parse_go_duration};
use super::nearest::nearest;
use super::settings::{BackendChoice, Choice, ConfigWatch, FlushConntrack, OnRepair, OnStop, RuleWatch, TableOwner};
use crate::policy::{
    AddressRange, AddressRangeError, Evaluation, InterfacePattern, InterfacePatternError, MaskedMark, MaskedMarkError,
    PortRanges, PortRangesError, Prefix, PrefixError, Snat, SnatAddresses,
};
use crate::ruleset::{ChainName, JumpPosition};
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// The words that say what sources become.
const SNAT_WORDS: [&str; 3] = ["masquerade", "none", "route-source"];
/// The list of interfaces that takes no patterns.
pub const FAST_PATH: &str = "fastPath";

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'p> {
    /// A file, by its number.
    File(u32, &'p Lines<'p>),
    /// A flag, by its number and its name.
    Flag(usize, &'static str),
    /// The program itself.
    Default,
}

/// Reads the values of one key, and reports what makes no sense.
#[derive(Debug)]
pub struct Reader<'p> {
    /// What messages call the value: a key, or the path of keys to it.
    pub name: Cow<'p, str>,
    /// Where it comes from.
    pub source: Source<'p>,
    /// What is wrong so far.
    pub problems: &'p mut Problems,
}

impl<'p> Reader<'p> {
    /// For a file as a whole.
    pub fn of_file(number: u32, lines: &'p Lines<'p>, problems: &'p mut Problems) -> Self {
        Reader { name: "".into(), source: Source::File(number, lines), problems }
    }

    /// The same for one key of a map.
    pub fn of_key(&mut self, key: &str) -> Reader<'_> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Reader { name: name.into(), source: self.source, problems: self.problems }
    }

    /// Where a byte of the source is.
    pub fn place(&self, offset: u32) -> Place {
        match self.source {
            Source::File(source, _) => Place::File { source, offset },
            Source::Flag(number, name) => Place::Flag(number, name),
            Source::Default => Place::Default,
        }
    }

    /// What `read` makes of a value, with its place.
    pub fn located<T>(&mut self, node: &Node, read: fn(&mut Self, &Node) -> Option<T>) -> Option<Option<Located<T>>> {
        let place = self.place(node.offset);
        read(self, node).map(|value| Some(Located { value, place }))
    }

    /// Reports what is wrong at a byte of the source.
    pub fn report(&mut self, offset: u32, message: impl Display) {
        self.problems.report(self.place(offset), &self.name, message);
    }

    /// Reports what is wrong with the text itself.
    pub fn report_syntax(&mut self, error: &SyntaxError) {
        let message = match (error.first, self.source) {
            (Some(first), Source::File(_, lines)) => {
                format!("{}, first in line {}", error.message, lines.line(first as u32))
            }
            _ => error.message.clone(),
        };
        self.report(error.offset as u32, message);
    }

    /// Reports what is wrong with a value.
    pub fn wrong<T>(&mut self, node: &Node, message: impl Display) -> Option<T> {
        self.report(node.offset, message);
        None
    }

    /// Says what was expected and what was found instead. Nodes that are broken were reported already.
    pub fn expected<T>(&mut self, node: &Node, expected: &str, hint: &str) -> Option<T> {
        match &node.value {
            Found::Broken => None,
            Found::Null => self.wrong(node, format!("expected {expected}, found nothing{hint}")),
            found => self.wrong(node, format!("expected {expected}, found {}{hint}", found.describe())),
        }
    }

    /// Reads a text; one that is refused is reported with why, and with what was probably meant.
    pub fn parsed<T>(&mut self, node: &Node, text: &str, hint: impl FnOnce(&T::Err) -> String) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        text.parse().map_or_else(|error| self.wrong(node, refusal(text, &error, &hint(&error))), Some)
    }

    /// The items of a list.
    pub fn items<'n, 't>(&mut self, node: &'n Node<'t>) -> Option<&'n [Node<'t>]> {
        match &node.value {
            Found::List(items) => Some(items),
            Found::Null => self.expected(node, "a list", "; write [] for an empty list, or leave the key out"),
            Found::Text(text) => {
                let words = || text.split([',', ' ']).filter(|word| !word.is_empty());
                let without_dash =
                    text.strip_prefix('-').filter(|item| item.starts_with(|c: char| c.is_ascii_alphanumeric()));
                let hint = match words().next() {
                    Some(_) if without_dash.is_some() && text.len() <= TEXT_WIDTH => {
                        format!(
                            "; an item of a list needs a space after '-': write - {}",
                            without_dash.unwrap_or_default()
                        )
                    }
                    None => "; write [] for an empty list".to_owned(),
                    // Longer than what a message shows of a text.
                    Some(_) if text.len() > TEXT_WIDTH => "; write [\"…\", \"…\"]".to_owned(),
                    Some(_) => format!("; write [\"{}\"]", words().collect::<Vec<_>>().join("\", \"")),
                };
                self.expected(node, "a list", &hint)
            }
            _ => self.expected(node, "a list", ""),
        }
    }

    /// Text that is meant as text.
    pub fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        match &node.value {
            Found::Text(text) => Some(text),
            Found::Number(text) => {
                self.expected(node, expected, &format!("; write \"{}\" if it is meant as text", short(text)))
            }
            Found::Null => self.expected(node, expected, "; leave the key out for its default"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// `true` or `false`.
    pub fn switch(&mut self, node: &Node) -> Option<bool> {
        let expected = "true or false";
        match &node.value {
            Found::Bool(value) => Some(*value),
            Found::Text(text) | Found::Number(text) => match meant_switch(text) {
                Some(value) if text.eq_ignore_ascii_case(value) => {
                    self.expected(node, expected, &format!("; write {value} without quotes"))
                }
                Some(value) => self.expected(node, expected, &format!("; write {value}")),
                None => self.expected(node, expected, ""),
            },
            Found::Null => self.expected(node, expected, "; leave the key out for its default"),
            _ => self.expected(node, expected, ""),
        }
    }

    pub fn prefix(&mut self, node: &Node) -> Option<Prefix> {
        let text = match &node.value {
            Found::Text(text) => text,
            Found::Null => return self.expected(node, "a CIDR", "; remove the empty item"),
            Found::Map(_) => return self.expected(node, "a CIDR", "; put the CIDR in quotes if it ends in ':'"),
            _ => return self.expected(node, "a CIDR", ""),
        };
        self.parsed(node, text, |error| prefix_hint(text, error))
    }

    pub fn interface(&mut self, node: &Node) -> Option<InterfacePattern> {
        let text = match &node.value {
            Found::Null => return self.expected(node, "an interface name", "; remove the empty item"),
            _ => self.text(node, "an interface name")?,
        };
        let hint = if self.name == FAST_PATH { lone_interface_hint } else { interface_hint };
        self.parsed(node, text, |error| hint(text, error))
    }

    /// A duration from 1 s to 24 h.
    pub fn duration(&mut self, node: &Node) -> Option<Duration> {
        let expected = "a duration such as 60s";
        if let Found::Number(text) = &node.value {
            let seconds = text.parse().is_ok_and(|seconds| SECOND_TO_DAY.contains(&Duration::from_secs(seconds)));
            let meant: &str = if seconds { text } else { "60" };
            return self.expected(node, expected, &format!(" without a unit; write {meant}s"));
        }
        let text = self.text(node, expected)?;
        let nanoseconds = match parse_go_duration(text) {
            Ok(nanoseconds) => nanoseconds,
            Err(error) => return self.wrong(node, refusal(text, &error, &duration_hint(text, &error))),
        };
        let value = u64::try_from(nanoseconds).map(Duration::from_nanos).ok();
        match value {
            Some(value) if SECOND_TO_DAY.contains(&value) => Some(value),
            Some(value) => {
                let plainly = humantime::format_duration(value).to_string();
                let plainly = if plainly == *text { String::new() } else { format!(" ({plainly})") };
                self.wrong(node, format!("{}{plainly} is not between 1s and 24h", quoted(text)))
            }
            None => self.wrong(node, format!("{} is negative, not between 1s and 24h", quoted(text))),
        }
    }

    /// A whole number from 0, in decimal.
    pub fn count(&mut self, node: &Node) -> Option<u64> {
        let expected = "a whole number such as 64";
        match &node.value {
            Found::Number(text) if text.len() > 1 && text.starts_with('0') && is_digits(text) => {
                self.expected(node, expected, "; leave out the leading zeros")
            }
            Found::Number(text) => match text.parse() {
                Ok(number) if is_digits(text) => Some(number),
                _ => self.expected(node, expected, ""),
            },
            Found::Text(text) if is_digits(text) => {
                self.expected(node, expected, &format!("; write {} without quotes", quoted(text).trim_matches('\'')))
            }
            Found::Null => self.expected(node, expected, "; leave the key out for no limit"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// A bit of a packet mark, by its number.
    pub fn bit(&mut self, node: &Node) -> Option<u8> {
        let expected = "a bit of the packet mark, from 0 to 31";
        let (Found::Number(text) | Found::Text(text)) = &node.value else {
            let hint = if matches!(node.value, Found::Null) { "; leave the key out for none" } else { "" };
            return self.expected(node, expected, hint);
        };
        let number = text.parse().ok().filter(|bit: &u8| *bit < u32::BITS as u8 && bit.to_string() == **text);
        if let (Found::Number(_), Some(bit)) = (&node.value, number) {
            return Some(bit);
        }
        let mark = text.parse().ok();
        let meant = mark.and_then(|mark: MaskedMark| (0..32).find(|bit| MaskedMark::of_bit(*bit).value == mark.value));
        let hint = match (number, meant) {
            (Some(bit), _) => format!("; write {bit} without quotes"),
            (None, Some(bit)) => format!("; the mark {} is bit {bit}", short(text)),
            (None, None) => String::new(),
        };
        self.expected(node, expected, &hint)
    }

    /// The name of a chain.
    pub fn chain(&mut self, node: &Node) -> Option<ChainName> {
        let text = self.text(node, "the name of a chain")?;
        self.parsed(node, text, |_| String::new())
    }

    pub fn ports(&mut self, node: &Node) -> Option<PortRanges> {
        let text = self.text(node, "port ranges such as \"1024-65535\"")?;
        self.parsed(node, text, |error| ports_hint(text, error))
    }

    /// What sources become: a word, or addresses of one family or both.
    pub fn snat(&mut self, node: &Node) -> Option<Snat> {
        let expected = "masquerade, none, route-source, an address or a range FIRST-LAST";
        let in_list = "an address or a range FIRST-LAST";
        match &node.value {
            Found::Text(text) => match &**text {
                "masquerade" => Some(Snat::Masquerade),
                "none" => Some(Snat::Nothing),
                "route-source" => Some(Snat::RouteSource),
                _ => self.address_ranges(std::slice::from_ref(node), expected, &SNAT_WORDS),
            },
            Found::List(items) if !items.is_empty() => self.address_ranges(items, in_list, &[]),
            Found::List(_) => self.wrong(node, format!("expected {expected}, found an empty list")),
            Found::Null => self.expected(node, expected, "; write none to keep sources"),
            Found::Bool(_) => self.expected(node, expected, "; portmap's snat is hairpin in an entry of portForwards"),
            _ => self.expected(node, expected, ""),
        }
    }

    /// All of them are read, whatever is wrong with one.
    fn address_ranges(&mut self, items: &[Node], expected: &str, words: &[&'static str]) -> Option<Snat> {
        let (mut addresses, mut all_read) = (SnatAddresses::default(), true);
        for node in items {
            let range = self.address_range(node, expected, words);
            all_read &= range.is_some_and(|range| {
                addresses.add(range) || {
                    let family = range.family();
                    self.report(
                        node.offset,
                        format!("'{range}' is the second one of {family}; there can be one of each"),
                    );
                    false
                }
            });
        }
        all_read.then_some(Snat::To(addresses))
    }

    /// `words` are those that could stand there, too.
    fn address_range(&mut self, node: &Node, expected: &str, words: &[&'static str]) -> Option<AddressRange> {
        let text = self.text(node, expected)?;
        match (text.parse(), nearest(text, words.iter().copied())) {
            (Ok(range), _) => Some(range),
            (Err(AddressRangeError::Address(_)), Some(word)) => {
                self.expected(node, expected, &format!("; did you mean {word}?"))
            }
            (Err(AddressRangeError::Address(_)), None) if SNAT_WORDS.contains(&text) => {
                self.wrong(node, listed_word(text))
            }
            (Err(AddressRangeError::Address(_)), None) if !text.contains(['.', ':', '-', '/']) => {
                self.expected(node, expected, "")
            }
            (Err(error), _) => self.wrong(node, refusal(text, &error, &address_range_hint(&error))),
        }
    }

    /// A packet mark.
    pub fn mark(&mut self, node: &Node) -> Option<MaskedMark> {
        let expected = "a packet mark such as 0x100/0xff00";
        let text = match &node.value {
            Found::Text(text) | Found::Number(text) => text,
            Found::Null => return self.expected(node, expected, "; remove the empty item"),
            _ => return self.expected(node, expected, ""),
        };
        self.parsed(node, text, |error| match error {
            MaskedMarkError::Outside(meant) => format!("; did you mean {meant}?"),
            _ => String::new(),
        })
    }

    /// The name of an entry.
    pub fn name(&mut self, node: &Node) -> Option<String> {
        let expected = "a name such as uplink-2";
        let text = match &node.value {
            Found::Number(text) if is_digits(text) => text,
            _ => self.text(node, expected)?,
        };
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        match text {
            _ if !letters || !(1..=32).contains(&text.len()) => {
                self.wrong(node, format!("{}: a name has 1 to 32 characters of A-Z a-z 0-9 _ . -", quoted(text)))
            }
            _ if is_digits(text) => {
                let meant = "; leave the key out, or write a name such as";
                let text = short(text);
                self.wrong(
                    node,
                    format!("'{text}': entries without a name are called by their number{meant} uplink-{text}"),
                )
            }
            _ => Some(text.to_owned()),
        }
    }

    /// One of a few words.
    pub fn choice<C: Choice>(&mut self, node: &Node) -> Option<C> {
        let words: Vec<&str> = C::ALL.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", words.join(", "));
        let Found::Text(text) = &node.value else {
            return self.expected(node, &expected, "");
        };
        if let Some((_, value)) = C::ALL.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let hint = nearest(text, words).map(|word| format!("; did you mean {word}?")).unwrap_or_default();
        self.expected(node, &expected, &hint)
    }
}

/// What kind of value a key has.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A list of CIDRs.
    Cidrs,
    /// A list of interface patterns.
    Interfaces,
    /// A list of maps.
    Maps,
    /// A list of packet marks.
    Marks,
    /// A list of rules of other programs.
    Rules,
    /// A word, or addresses.
    Snat,
    /// `true` or `false`.
    Switch,
    /// A duration as Go writes it.
    Duration,
    /// A whole number from 0.
    Count,
    /// The name of a chain.
    Chain,
    /// Port ranges, `a-b,c`.
    Ports,
    /// Any text.
    Text,
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>),
}

impl Kind {
    /// True for lists: files join them, a flag replaces them.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Cidrs | Kind::Interfaces | Kind::Maps | Kind::Marks | Kind::Rules)
    }

    /// The placeholder of the value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Cidrs => "CIDR",
            Kind::Interfaces => "NAME",
            Kind::Maps => "MAP",
            Kind::Marks => "VALUE/MASK",
            Kind::Rules => "RULE",
            Kind::Snat => "masquerade|none|route-source|ADDRESS|FIRST-LAST",
            Kind::Switch => "true|false",
            Kind::Duration => "DURATION",
            Kind::Count => "N",
            Kind::Chain => "CHAIN",
            Kind::Ports => "A-B,C",
            Kind::Text => "TEXT",
            Kind::Choice(_) => "WORD",
        }
    }

    /// The texts of a flag as YAML has them: several maps with commas between them are a list.
    pub fn flag_texts(self, values: &[String]) -> Vec<Cow<'_, str>> {
        let has_several = |value: &str| {
            let solid: String = value.split_whitespace().collect();
            matches!(self, Kind::Maps) && solid.starts_with('{') && solid.contains("},{")
        };
        let values = values.iter().map(String::as_str);
        values.map(|value| if has_several(value) { format!("[{value}]").into() } else { value.into() }).collect()
    }

    /// The values of a flag as a file would have said them, and what is wrong with their texts.
    pub fn flag_node<'t>(self, values: &'t [Cow<'_, str>]) -> (Node<'t>, Vec<SyntaxError>) {
        let node = |value| Node { offset: 0, value };
        let last = values.last().map(AsRef::as_ref).unwrap_or_default();
        let mut errors = Vec::new();
        let value = match self {
            Kind::Cidrs | Kind::Interfaces => {
                let items = values.iter().filter(|text| !text.is_empty()).flat_map(|text| text.split(','));
                Found::List(items.map(|text| node(Found::Text(text.into()))).collect())
            }
            Kind::Marks => {
                let items = values.iter().filter(|text| !text.is_empty()).flat_map(|text| text.split(','));
                Found::List(items.map(|text| node(document::plain(text))).collect())
            }
            // There are commas in rules.
            Kind::Rules => {
                let items = values.iter().filter(|text| !text.is_empty());
                Found::List(items.map(|text| node(Found::Text(text.as_ref().into()))).collect())
            }
            Kind::Snat if last.contains(',') => {
                Found::List(last.split(',').map(|text| node(Found::Text(text.into()))).collect())
            }
            Kind::Maps => {
                let mut items = Vec::new();
                for text in values.iter().filter(|text| !text.is_empty()) {
                    let (read, wrong) = document::value(text);
                    errors.extend(wrong);
                    match read.value {
                        Found::List(several) => items.extend(several),
                        _ => items.push(read),
                    }
                }
                Found::List(items)
            }
            Kind::Switch | Kind::Count | Kind::Duration => document::plain(last),
            Kind::Chain | Kind::Ports | Kind::Snat | Kind::Text | Kind::Choice(_) => Found::Text(last.into()),
        };
        (node(value), errors)
    }
}

/// A type of value that a key can have.
pub trait Value: Default {
    const KIND: Kind;

    /// Adds what a file or flag says to what was said before it. False when that makes no sense, which was reported.
    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool;
}

/// A type of item that a list can have.
pub trait Item: Sized {
    /// The kind of the list.
    const KIND: Kind;

    /// Reads one; `None` when it makes no sense, which was reported.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Lists are joined by files and replaced by flags.
impl<T: Item> Value for Vec<Located<T>> {
    const KIND: Kind = T::KIND;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        let Some(items) = reader.items(node) else { return false };
        if matches!(reader.source, Source::Flag(..)) {
            *slot = None;
        }
        let joined = slot.get_or_insert_default();
        joined.reserve(items.len());
        for (number, node) in items.iter().enumerate() {
            let value = match T::KIND {
                Kind::Maps => {
                    let name = format!("{}[{}]", reader.name, number + 1).into();
                    T::read(node, &mut Reader { name, source: reader.source, problems: reader.problems })
                }
                _ => T::read(node, reader),
            };
            joined.extend(value.map(|value| Located { value, place: reader.place(node.offset) }));
        }
        true
    }
}

/// A list that may be unset.
impl<T: Item> Value for Option<Vec<Located<T>>> {
    const KIND: Kind = T::KIND;

    fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        let mut list = slot.take().flatten();
        let read = Value::merge(&mut list, node, reader);
        *slot = list.map(Some);
        read
    }
}

/// Keeps the last value that made sense; false when this one did not.
pub fn keep<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let read = value.is_some();
    *slot = value.or(slot.take());
    read
}

/// Of anything else the last one stays.
macro_rules! scalar {
    ($($type:ty: $kind:expr, $read:expr;)*) => {$(
        impl Value for $type {
            const KIND: Kind = $kind;

            fn merge(slot: &mut Option<Self>, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
                let read: fn(&mut Reader<'_>, &Node<'_>) -> Option<$type> = $read;
                keep(slot, read(reader, node))
            }
        }
    )*};
}

scalar! {
    bool: Kind::Switch, |reader, node| reader.switch(node);
    Duration: Kind::Duration, |reader, node| reader.duration(node);
    ChainName: Kind::Chain, |reader, node| reader.chain(node);
    String: Kind::Text, |reader, node| reader.text(node, "text").map(str::to_owned);
    Option<PortRanges>: Kind::Ports, |reader, node| reader.ports(node).map(Some);
    Option<Located<u64>>: Kind::Count, |reader, node| reader.located(node, Reader::count);
    Option<Located<u8>>: Kind::Count, |reader, node| reader.located(node, Reader::bit);
    Option<Located<ChainName>>: Kind::Chain, |reader, node| reader.located(node, Reader::chain);
    Option<bool>: Kind::Switch, |reader, node| reader.switch(node).map(Some);
    Option<Located<bool>>: Kind::Switch, |reader, node| reader.located(node, Reader::switch);
    Option<Located<Snat>>: Kind::Snat, |reader, node| reader.located(node, Reader::snat);
    Option<Located<String>>: Kind::Text, |reader, node| reader.located(node, Reader::name);
    Evaluation: Kind::Choice(names::<Evaluation>), |reader, node| reader.choice(node);
    BackendChoice: Kind::Choice(names::<BackendChoice>), |reader, node| reader.choice(node);
    ConfigWatch: Kind::Choice(names::<ConfigWatch>), |reader, node| reader.choice(node);
    JumpPosition: Kind::Choice(names::<JumpPosition>), |reader, node| reader.choice(node);
    RuleWatch: Kind::Choice(names::<RuleWatch>), |reader, node| reader.choice(node);
    TableOwner: Kind::Choice(names::<TableOwner>), |reader, node| reader.choice(node);
    FlushConntrack: Kind::Choice(names::<FlushConntrack>), |reader, node| reader.choice(node);
    OnRepair: Kind::Choice(names::<OnRepair>), |reader, node| reader.choice(node);
    OnStop: Kind::Choice(names::<OnStop>), |reader, node| reader.choice(node);
}

fn names<C: Choice>() -> Vec<&'static str> {
    C::ALL.iter().map(|(name, _)| *name).collect()
}

impl Item for Prefix {
    const KIND: Kind = Kind::Cidrs;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.prefix(node)
    }
}

impl Item for InterfacePattern {
    const KIND: Kind = Kind::Interfaces;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.interface(node)
    }
}

impl Item for MaskedMark {
    const KIND: Kind = Kind::Marks;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.mark(node)
    }
}

/// What is wrong with a text, which is named once.
fn refusal(text: &str, error: &impl Display, hint: &str) -> String {
    let error = bounded(error.to_string());
    let named = if text.is_empty() { error.contains("''") } else { error.contains(text) };
    let subject = if named { String::new() } else { format!("{}: ", quoted(text)) };
    format!("{subject}{}{hint}", visible(&error))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn meant_switch(text: &str) -> Option<&'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" | "1" | "enable" | "enabled" => Some("true"),
        "false" | "no" | "off" | "n" | "f" | "0" | "disable" | "disabled" => Some("false"),
        _ => None,
    }
}

fn prefix_hint(text: &str, error: &PrefixError) -> String {
    if let Some(prefix) = error.suggestion() {
        return format!("; did you mean {prefix}?");
    }
    match error {
        PrefixError::LeadingZero => "; some programs read them as octal".to_owned(),
        _ if text.contains(',') => "; write one CIDR per item".to_owned(),
        PrefixError::Space => match text.trim().parse::<Prefix>() {
            Ok(prefix) => format!("; did you mean {prefix}?"),
            // What is indented further than the item before it goes on with that.
            Err(_) if text.contains(" - ") => "; each '-' of a list must be indented alike".to_owned(),
            Err(_) => String::new(),
        },
        _ if !text.is_ascii() => foreign_letter(text),
        _ => String::new(),
    }
}

/// What came with a text that was copied from a page looks like a digit, a quote or a dash, or like nothing.
fn foreign_letter(text: &str) -> String {
    let letter = text.chars().find(|letter| !letter.is_ascii()).map(u32::from).unwrap_or_default();
    format!("; it has the character U+{letter:04X}, which is not ASCII")
}

fn address_range_hint(error: &AddressRangeError) -> String {
    match (error, error.suggestion()) {
        (_, Some(meant)) => format!("; did you mean {meant}?"),
        (AddressRangeError::Prefix(None), None) => "; write a range FIRST-LAST of at most 65536".to_owned(),
        (AddressRangeError::Families, None) => "; write a list with one of each family".to_owned(),
        _ => String::new(),
    }
}

/// A list of addresses has one of the words.
fn listed_word(word: &str) -> String {
    let hint = match word {
        "masquerade" => {
            "; alone it needs no list, and beside an address it goes without saying: a family without one is masqueraded"
        }
        "none" => "; none is for both families: write an entry of egress for what keeps its source",
        _ => "",
    };
    format!("'{word}' can't be in a list with addresses{hint}")
}

fn interface_hint(text: &str, error: &InterfacePatternError) -> String {
    match error {
        InterfacePatternError::Character('*') if text.ends_with('*') => {
            format!("; did you mean {}?", short(&text.replace('*', "+")))
        }
        InterfacePatternError::Character(',' | ' ') => "; write one name per item".to_owned(),
        InterfacePatternError::Empty if text == "+" => "; leave the list empty for all interfaces".to_owned(),
        _ => String::new(),
    }
}

/// Where no pattern can be.
fn lone_interface_hint(text: &str, error: &InterfacePatternError) -> String {
    match error {
        InterfacePatternError::Character('*') => "; name each interface".to_owned(),
        InterfacePatternError::Empty if text == "+" => "; name each interface".to_owned(),
        _ => interface_hint(text, error),
    }
}

fn duration_hint(text: &str, error: &DurationError) -> String {
    match error {
        DurationError::MissingUnit if is_digits(text) => format!("; did you mean {}s?", short(text)),
        DurationError::UnknownUnit(unit) if unit.trim() != unit => "; leave out the space".to_owned(),
        DurationError::Invalid => "; write 60s or 1h30m".to_owned(),
        _ => String::new(),
    }
}

/// What was probably meant by port ranges.
pub fn ports_hint(text: &str, error: &PortRangesError) -> String {
    match error {
        PortRangesError::Backwards(range) => format!("; did you mean {range}?"),
        PortRangesError::Order(_) => "; sort the ranges and join those that overlap".to_owned(),
        PortRangesError::Port(_) if !text.is_ascii() => foreign_letter(text),
        PortRangesError::Port(_) if text.contains(' ') => "; leave out the spaces".to_owned(),
        PortRangesError::Port(_) if text.replace(':', "-").parse::<PortRanges>().is_ok() => {
            format!("; write a range as {}", text.replace(':', "-"))
        }
        PortRangesError::Port(_) if text.contains(':') => "; write a range as 1024-65535".to_owned(),
        _ => String::new(),
    }
}
