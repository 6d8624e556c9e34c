//! What the kernel holds of ours. Reads the tables of our names and looks into no other.

use super::ask::{Failure, GETFLOWTABLE, dump, failed};
use super::elements::{self, Expected};
#[cfg(fuzzing)]
use super::rules::interval;
use super::rules::name::{ChainName, SetName, TABLE, TableName};
use super::rules::ports::PortElement;
use super::rules::rule::{Body, Rule};
use super::rules::stranger::Stranger;
use super::rules::table::{Chain, FIRST_FORMAT, HookSpec, Set, Slot, TABLE_COMMENT, Table, TableFlags, Tables};
use super::wire::batch::attribute::*;
use super::wire::batch::{INET, SET_EXPRESSION, Shape, place};
use super::wire::expression::Expression;
use super::wire::{translate, userdata};
use crate::backend::error::{Error, ErrorKind};
use crate::sys::listing;
use crate::sys::nfnetlink::message::{Malformed, Message, Writer};
use crate::sys::nfnetlink::{Nfnetlink, Request, lost};
use std::time::{Duration, Instant};

/// How often a reading during which another program committed is tried again at least, and for how long.
const ATTEMPTS: usize = 16;
const ATTEMPT_FOR: Duration = Duration::from_millis(500);
/// For so long a reading is hoped for during which nobody commits.
const UNDISTURBED_FOR: Duration = Duration::from_millis(250);
/// With more elements than this the sets are not read whole each time that somebody commits.
const LARGE: usize = 4096;
/// NFTA_SET_COUNT, Linux 6.17: half of the elements, which come in pairs (nft_set_rbtree.c).
const SET_COUNT: u16 = 20;
/// NFTA_SET_EXPRESSIONS, Linux 5.11: more than one of what an element can do besides. Not in libc.
const SET_EXPRESSIONS: u16 = 18;
/// NFT_CHAIN_BINDING, Linux 5.9; not in libc. Such a chain is part of a rule, as an anonymous set is.
const CHAIN_BINDING: u32 = 4;

/// What is ours at one generation of the rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The generation.
    pub generation: u32,
    /// What is there.
    pub tables: Tables,
}

impl Observation {
    /// True when reading every element takes noticeably long.
    pub fn is_large(&self) -> bool {
        self.elements() > LARGE
    }

    /// How long a number of elements may stand for the elements. To read a million takes two seconds and more, and what can't
    /// be read is written again: a fiftieth of the time, at most.
    pub fn patience(&self) -> Duration {
        const DOUBT: Duration = Duration::from_secs(30);
        const ELEMENT: Duration = Duration::from_micros(200);
        DOUBT.max(ELEMENT * u32::try_from(self.elements()).unwrap_or(u32::MAX))
    }

    fn elements(&self) -> usize {
        self.tables.both().map(Table::elements).sum()
    }
}

/// Reads what is ours; says whether the elements were known and not all read.
///
/// Beside a program that commits all the time no reading of a long list is undisturbed. Two in a row that are the same
/// tell what was there when the second one began: each part was seen before and after that, and had not changed.
///
/// # Errors
/// [`ErrorKind::Foreign`] when the table is not ours, [`ErrorKind::Busy`] when others change it all the time, and what
/// the kernel says.
pub fn observe(netlink: &mut Nfnetlink, mut expected: Option<Expected<'_>>) -> Result<(Observation, bool), Error> {
    let begun = Instant::now();
    let (mut attempts, mut earlier) = (0, None);
    while attempts < ATTEMPTS || begun.elapsed() < ATTEMPT_FOR {
        attempts += 1;
        let generation_before = generation(netlink)?;
        let tables = read_tables(netlink, expected);
        let undisturbed = generation(netlink)? == generation_before;
        match tables {
            Ok(tables) => {
                let same = begun.elapsed() >= UNDISTURBED_FOR && earlier.as_ref() == Some(&tables);
                if undisturbed || same {
                    return Ok((Observation { generation: generation_before, tables }, expected.is_some()));
                }
                earlier = Some(tables);
            }
            Err(Failure::Unexpected) => expected = None,
            // What does not fit together is the mark of a commit between two questions, unless there was none.
            Err(Failure::Error(error)) if undisturbed => return Err(error),
            Err(Failure::Error(_) | Failure::Moved) => earlier = None,
        }
    }
    let message = format!("reading table inet {TABLE}: other programs changed it {attempts} times meanwhile");
    Err(Error::new(ErrorKind::Busy, message))
}

/// The generation of the rule set.
///
/// # Errors
/// What the kernel says.
pub fn generation(netlink: &mut Nfnetlink) -> Result<u32, Error> {
    netlink.generation().map_err(|error| failed("the generation of the rule set", error))
}

/// True when a table of ours is there that stood in for the other one.
///
/// # Errors
/// What the kernel says.
pub fn has_stand_in(netlink: &mut Nfnetlink) -> Result<bool, Error> {
    Ok(head(netlink, TableName::StandIn)?.is_some_and(|head| head.is_ours))
}

fn read_tables(netlink: &mut Nfnetlink, expected: Option<Expected<'_>>) -> Result<Tables, Failure> {
    let stand_in = match head(netlink, TableName::StandIn)?.filter(|head| head.is_ours) {
        None => Slot::Absent,
        Some(head) => Slot::Ours(read_table(netlink, TableName::StandIn, &head, expected)?),
    };
    let main = match head(netlink, TableName::Main)? {
        None => Slot::Absent,
        Some(head) => {
            let table = read_table(netlink, TableName::Main, &head, expected)?;
            match (head.is_ours, inhabitant(&table)) {
                (true, _) => Slot::Ours(table),
                (false, None) => Slot::Blank,
                (false, Some(object)) => return Err(foreign(&object).into()),
            }
        }
    };
    Ok(Tables { main, stand_in })
}

/// The first of the objects of a table, by name.
fn inhabitant(table: &Table) -> Option<String> {
    let chain = table.chains.first().map(|chain| format!("chain {}", chain.name));
    let set = table.sets.first().map(|set| format!("set {}", set.name));
    chain.or(set).or_else(|| table.strangers.first().map(ToString::to_string))
}

fn read_table(
    netlink: &mut Nfnetlink,
    of: TableName,
    head: &Head,
    expected: Option<Expected<'_>>,
) -> Result<Table, Failure> {
    let mut table = Table { format: head.format, ..Table::empty(head.flags) };
    for found in chains(netlink, of)? {
        match found {
            Found::Ours(chain) => table.chains.push(chain),
            Found::Stranger(stranger) => table.strangers.push(stranger),
            Found::PartOfARule => {}
        }
    }
    for found in sets(netlink, of)? {
        match found {
            Found::Ours(SetHead { name, count }) => {
                let elements = elements::of_set(netlink, of, name, count, expected)?;
                table.sets.push(Set { name, elements });
            }
            Found::Stranger(stranger) => table.strangers.push(stranger),
            Found::PartOfARule => {}
        }
    }
    table.strangers.extend(other_objects(netlink, of)?);
    let places = table.places();
    for (name, rule, _) in rules(netlink, of)? {
        if let Some(chain) = places.get(&name).and_then(|place| table.chains.get_mut(*place)) {
            chain.rules.push(rule);
        }
    }
    Ok(table)
}

/// A table without what is in it.
struct Head {
    flags: TableFlags,
    format: u32,
    is_ours: bool,
}

fn head(netlink: &mut Nfnetlink, table: TableName) -> Result<Option<Head>, Error> {
    let (mut answered, mut flags, mut format, mut comment) = (false, TableFlags::default(), FIRST_FORMAT, None);
    let request = Request { message: libc::NFT_MSG_GETTABLE, family: INET };
    let answer = netlink.get(
        request,
        |writer| writer.text(TABLE_NAME, &table.to_string()),
        |message| {
            answered = true;
            for attribute in message.attributes()? {
                let attribute = attribute?;
                match attribute.kind {
                    TABLE_FLAGS => flags = TableFlags(attribute.be32()?),
                    TABLE_USERDATA => {
                        comment = userdata::read_comment(userdata::TABLE_COMMENT, attribute.value);
                        format = userdata::read_format(attribute.value).unwrap_or(FIRST_FORMAT);
                    }
                    _ => {}
                }
            }
            Ok(())
        },
    );
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(failed(&format!("table inet {table}"), error)),
        // Nobody is to be told to delete a table because its answer was lost.
        Ok(()) if !answered => Err(failed(&format!("table inet {table}"), lost("to a question for it"))),
        Ok(()) => Ok(Some(Head { flags, format, is_ours: comment.as_deref() == Some(TABLE_COMMENT) })),
    }
}

/// An object of our table.
enum Found<T> {
    /// One that this version makes.
    Ours(T),
    /// One that it does not.
    Stranger(Stranger),
    /// It comes and goes with a rule.
    PartOfARule,
}

/// Counters, maps of limits, flow tables and so on: we make none. The number of objects that the kernel gives for a
/// table (NFTA_TABLE_USE) is no help, it counts those of transactions that are not committed yet.
fn other_objects(netlink: &mut Nfnetlink, table: TableName) -> Result<Vec<Stranger>, Failure> {
    let (mut found, table) = (Vec::new(), table.to_string());
    for message in [libc::NFT_MSG_GETOBJ, GETFLOWTABLE] {
        let body = |writer: &mut Writer| writer.text(OBJECT_TABLE, &table);
        dump(netlink, message, "the other objects", body, |object| {
            if find_text(object, OBJECT_TABLE)?.as_ref() == Some(&table) {
                // NFTA_FLOWTABLE_NAME has the same number.
                let name = find_text(object, OBJECT_NAME)?.unwrap_or_default();
                found.push(match message {
                    GETFLOWTABLE => Stranger::Flowtable(name),
                    _ => Stranger::Object(find_number(object, OBJECT_TYPE)?.unwrap_or_default(), name),
                });
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// The chains of a table of ours; the kernel has no way to leave out those of others.
fn chains(netlink: &mut Nfnetlink, table: TableName) -> Result<Vec<Found<Chain>>, Failure> {
    let (mut found, table) = (Vec::new(), table.to_string());
    dump(
        netlink,
        libc::NFT_MSG_GETCHAIN,
        "the chains",
        |_| {},
        |message| {
            if find_text(message, CHAIN_TABLE)?.as_ref() == Some(&table) {
                found.push(read_chain(message)?);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// A chain without its rules.
fn read_chain(message: &Message<'_>) -> Result<Found<Chain>, Malformed> {
    if find_number(message, CHAIN_FLAGS)?.is_some_and(|flags| flags & CHAIN_BINDING != 0) {
        return Ok(Found::PartOfARule);
    }
    let text = find_text(message, CHAIN_NAME)?.unwrap_or_default();
    let hook = match message.attributes()?.find(CHAIN_HOOK)? {
        None => None,
        Some(hook) => {
            let number = hook.nested().find(HOOK_NUMBER)?.map(|found| found.be32()).transpose()?;
            let priority = hook.nested().find(HOOK_PRIORITY)?.map(|found| found.be32()).transpose()?;
            let policy = find_number(message, CHAIN_POLICY)?;
            let is_there = |hook| {
                let (kind, place) = place(hook);
                Ok(number == Some(place) && find_text(message, CHAIN_TYPE)?.as_deref() == Some(kind))
            };
            match ChainName::parse(&text) {
                Some(ChainName::Base(hook)) if is_there(hook)? => {}
                _ => return Ok(Found::Stranger(Stranger::Chain(text))),
            }
            let accepts = policy == Some(libc::NF_ACCEPT as u32);
            Some(HookSpec { priority: priority.unwrap_or_default() as i32, accepts })
        }
    };
    Ok(match ChainName::parse(&text) {
        Some(name) if hook.is_some() == matches!(name, ChainName::Base(_)) => {
            Found::Ours(Chain { name, hook, rules: Vec::new() })
        }
        _ => Found::Stranger(Stranger::Chain(text)),
    })
}

/// The rules of our table with their chains and the packets that they counted, in order.
///
/// # Errors
/// As [`observe`].
pub fn counted_rules(netlink: &mut Nfnetlink) -> Result<Vec<(ChainName, Rule, u64)>, Error> {
    there_or_none(rules(netlink, TableName::Main))
}

/// The elements of a map of port forwards with the flows that each counted; none of a map that went away.
///
/// # Errors
/// As [`observe`].
pub fn counted_elements(netlink: &mut Nfnetlink, map: SetName) -> Result<Vec<(PortElement, u64)>, Error> {
    there_or_none(elements::counted(netlink, map))
}

/// Of what went away there is nothing to count.
fn there_or_none<T>(counted: Result<Vec<T>, Failure>) -> Result<Vec<T>, Error> {
    match counted {
        Ok(counted) => Ok(counted),
        Err(Failure::Moved | Failure::Unexpected) => Ok(Vec::new()),
        Err(Failure::Error(error)) => Err(error),
    }
}

fn rules(netlink: &mut Nfnetlink, table: TableName) -> Result<Vec<(ChainName, Rule, u64)>, Failure> {
    let (mut found, table) = (Vec::new(), table.to_string());
    dump(
        netlink,
        libc::NFT_MSG_GETRULE,
        "the rules",
        |writer| writer.text(RULE_TABLE, &table),
        |message| {
            let chain = find_text(message, RULE_CHAIN)?.unwrap_or_default();
            // What is in a chain that is not of this version goes with it.
            if let Some(chain) = ChainName::parse(&chain)
                .filter(|_| matches!(find_text(message, RULE_TABLE), Ok(Some(of)) if of == table))
            {
                let (rule, packets) = read_rule(message)?;
                found.push((chain, rule, packets));
            }
            Ok(())
        },
    )?;
    Ok(found)
}

fn read_rule(message: &Message<'_>) -> Result<(Rule, u64), Malformed> {
    let (mut expressions, mut comment) = (Vec::new(), None);
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            RULE_EXPRESSIONS => {
                expressions =
                    attribute.nested().map(|element| Expression::read(element?)).collect::<Result<Vec<_>, _>>()?;
            }
            RULE_USERDATA => comment = userdata::read_comment(userdata::RULE_COMMENT, attribute.value),
            _ => {}
        }
    }
    let packets = expressions.iter().find_map(|expression| match expression {
        Expression::Counter(packets) => Some(*packets),
        _ => None,
    });
    let mut body = translate::to_body(&expressions);
    if let Body::Unknown(words) = &mut body {
        *words = listing::rule(message, &mut ())?.text;
    }
    Ok((Rule { body, comment }, packets.unwrap_or(0)))
}

/// A set without its elements.
struct SetHead {
    name: SetName,
    /// How many elements it has, where the kernel tells.
    count: Option<u32>,
}

fn sets(netlink: &mut Nfnetlink, table: TableName) -> Result<Vec<Found<SetHead>>, Failure> {
    let (mut found, table) = (Vec::new(), table.to_string());
    dump(
        netlink,
        libc::NFT_MSG_GETSET,
        "the sets",
        |writer| writer.text(SET_TABLE, &table),
        |message| {
            found.push(read_set(message)?);
            Ok(())
        },
    )?;
    Ok(found)
}

fn read_set(message: &Message<'_>) -> Result<Found<SetHead>, Malformed> {
    let text = find_text(message, SET_NAME)?.unwrap_or_default();
    let flags = find_number(message, SET_FLAGS)?.unwrap_or_default();
    if flags & libc::NFT_SET_ANONYMOUS as u32 != 0 {
        return Ok(Found::PartOfARule);
    }
    let is_as_ours = |name: SetName| -> Result<bool, Malformed> {
        let shape = Shape::of(name);
        let data = match shape.data {
            None => find_number(message, SET_DATA_TYPE)?.is_none(),
            Some((kind, length)) => {
                find_number(message, SET_DATA_TYPE)? == Some(kind)
                    && (length == 0 || find_number(message, SET_DATA_LENGTH)? == Some(length))
            }
        };
        let expression = message.attributes()?.find(SET_EXPRESSION)?;
        let expression = expression.map(Expression::read).transpose()?;
        Ok(flags == shape.flags
            && data
            && find_number(message, SET_KEY_TYPE)? == Some(shape.key_type)
            && find_number(message, SET_KEY_LENGTH)? == Some(shape.key_length)
            && matches!(expression, Some(Expression::Counter(_))) == shape.counts
            && (expression.is_none() || shape.counts)
            && message.attributes()?.find(SET_EXPRESSIONS)?.is_none())
    };
    Ok(match SetName::parse(&text) {
        Some(name) if is_as_ours(name)? => Found::Ours(SetHead { name, count: find_number(message, SET_COUNT)? }),
        _ => Found::Stranger(Stranger::Set(text, flags & libc::NFT_SET_MAP as u32 != 0)),
    })
}

/// Reads a message as each kind of answer, for `tests/fuzz`. A rule that is understood must survive being written.
#[cfg(fuzzing)]
pub fn read_any(message: &Message<'_>) {
    use crate::sys::nfnetlink::message::{Attributes, MessageHead, Messages};
    let _ = (read_chain(message), read_set(message));
    for name in ["exempt4", "exempt6"].into_iter().filter_map(SetName::parse) {
        let list = message.attributes().and_then(|found| found.find(ELEMENTS_LIST)).ok().flatten();
        let elements = list.map_or(Attributes(&[]), |list| list.nested()).flatten();
        let bounds = elements.filter_map(|element| elements::read_element(element, name).ok().flatten()).collect();
        for interval in interval::assemble(bounds, name.family).unwrap_or_default() {
            let (mut text, bounds) = (String::new(), interval::bounds(interval, name.family).collect());
            interval.write(name.family, &mut text);
            assert_eq!(interval::assemble(bounds, name.family), Some(vec![interval]), "{text}");
        }
    }
    let Ok((rule, _)) = read_rule(message) else { return };
    let _ = rule.to_string();
    if rule.effect().is_some() {
        let expressions = translate::to_expressions(&rule);
        let mut writer = Writer::new();
        writer.message(MessageHead::default(), |writer| {
            writer.nest(RULE_EXPRESSIONS, |writer| expressions.iter().for_each(|one| one.write(writer)));
        });
        let again = Messages(writer.bytes()).flatten().find_map(|message| read_rule(&message).ok());
        assert_eq!(again.map(|(again, _)| again.body), Some(rule.body));
    }
}

fn find_number(message: &Message<'_>, kind: u16) -> Result<Option<u32>, Malformed> {
    message.attributes()?.find(kind)?.map(|found| found.be32()).transpose()
}

fn find_text(message: &Message<'_>, kind: u16) -> Result<Option<String>, Malformed> {
    Ok(message.attributes()?.find(kind)?.map(|attribute| attribute.text()))
}

fn foreign(object: &str) -> Error {
    let message = format!(
        "table inet {TABLE} is not ip-masq-agent's: it has no comment '{TABLE_COMMENT}' and holds {object}; \
         'nft delete table inet {TABLE}' makes room"
    );
    Error::new(ErrorKind::Foreign, message)
}
