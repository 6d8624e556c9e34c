//! What the kernel holds of ours. Reads the table of our name and looks into no other.

use super::batch::attribute::*;
use super::batch::{INET, POSTROUTING, element, key_type};
use super::expression::{DATA_VALUE, Expression};
use super::interval::{self, Bound, Interval};
use super::rule::{self, Rule};
use super::table::{Chain, ChainName, Hook, Set, SetName, TABLE, TABLE_COMMENT, Table, TableFlags};
use super::{translate, userdata};
use crate::backend::{Error, ErrorKind};
use crate::host::nfnetlink::message::{Attribute, Malformed, Message, Writer};
use crate::host::nfnetlink::{Consistency, Nfnetlink, Request, is_passing, lost};
use std::io;
use std::sync::Arc;

/// How often a reading that somebody's commit spoiled is tried again.
const ATTEMPTS: usize = 16;
/// With more elements than this the sets are not read whole each time that somebody commits.
const LARGE: usize = 4096;
/// NFT_MSG_GETFLOWTABLE, Linux 4.16; not in libc.
const GETFLOWTABLE: i32 = 23;
/// NFTA_OBJ_TABLE and NFTA_FLOWTABLE_TABLE.
const OBJECT_TABLE: u16 = 1;
/// NFTA_SET_COUNT, Linux 6.17: half of the elements, which come in pairs (nft_set_rbtree.c).
const SET_COUNT: u16 = 20;
/// NFT_SET_ELEM_CATCHALL, Linux 5.13; not in libc.
const CATCHALL: u32 = 2;

/// Our table at one generation of the rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The generation.
    pub generation: u32,
    /// The table.
    pub table: Option<Table>,
}

impl Observation {
    /// True when reading every element takes noticeably long.
    pub fn is_large(&self) -> bool {
        let sets = self.table.iter().flat_map(|table| &table.sets);
        sets.filter_map(|set| set.elements.as_deref()).map(<[Interval]>::len).sum::<usize>() > LARGE
    }
}

/// Elements that are not all read because they are known: from the last reading, or because our own commit made
/// them. Reading 100,000 of them takes a quarter of a second and more: the kernel walks over the set again for each 32 KiB
/// of answer.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// What should be there.
    pub table: &'a Table,
    /// Elements to ask for one by one.
    pub probes: &'a [(SetName, Probe)],
    /// A set whose number of elements the kernel does not tell is read whole.
    pub counted: bool,
}

/// An element that must be there, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The address of the element.
    pub address: u128,
    /// Whether an interval begins or ends there.
    pub bound: Bound,
    /// Whether it must be there.
    pub present: bool,
}

/// Why an attempt to read the table ended.
enum Failure {
    /// Somebody committed meanwhile, or what was expected was not there: look again, at everything.
    Again,
    /// The error for the caller.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// Reads the table; says whether the elements were known and not all read.
///
/// # Errors
/// [`ErrorKind::Foreign`] when it is not ours, [`ErrorKind::Busy`] when others commit all the time, and what the
/// kernel says.
pub fn observe(netlink: &mut Nfnetlink, expected: Option<Expected<'_>>) -> Result<(Observation, bool), Error> {
    for attempt in 0..ATTEMPTS {
        let expected = expected.filter(|_| attempt == 0);
        match read_table(netlink, expected) {
            Ok(observation) => return Ok((observation, expected.is_some())),
            Err(Failure::Again) => {}
            Err(Failure::Error(error)) => return Err(error),
        }
    }
    let message = format!("reading table inet {TABLE}: others changed the rule set {ATTEMPTS} times meanwhile");
    Err(Error::new(ErrorKind::Busy, message))
}

/// The generation of the rule set.
///
/// # Errors
/// What the kernel says.
pub fn generation(netlink: &mut Nfnetlink) -> Result<u32, Error> {
    netlink.generation().map_err(|error| failed("the generation of the rule set", &error))
}

/// Reads the table at one generation. What does not fit together may be the mark of a commit between two questions,
/// so it counts only when there was none.
fn read_table(netlink: &mut Nfnetlink, expected: Option<Expected<'_>>) -> Result<Observation, Failure> {
    let before = generation(netlink)?;
    let table = read_objects(netlink, expected);
    if generation(netlink)? != before {
        return Err(Failure::Again);
    }
    Ok(Observation { generation: before, table: table? })
}

fn read_objects(netlink: &mut Nfnetlink, expected: Option<Expected<'_>>) -> Result<Option<Table>, Failure> {
    let Some(flags) = table_flags(netlink)? else { return Ok(None) };
    let mut chains = chains(netlink)?;
    let counted_sets = sets(netlink)?;
    refuse_other_objects(netlink)?;
    for (chain, rule, _) in rules(netlink)? {
        if !rule.comment.as_deref().is_some_and(rule::is_our_comment) {
            return Err(foreign(&format!("chain {chain} holds a rule that is not ours: '{rule}'")).into());
        }
        if let Some(chain) = chains.iter_mut().find(|known| known.name == chain) {
            chain.rules.push(rule);
        }
    }
    let mut sets = Vec::with_capacity(counted_sets.len());
    for (name, count) in counted_sets {
        let elements = match expected.and_then(|expected| known_elements(name, count, expected)) {
            Some((elements, probes)) => confirm(netlink, name, &probes).map(|()| Some(elements))?,
            None => read_elements(netlink, name)?,
        };
        sets.push(Set { name, elements });
    }
    Ok(Some(Table { flags, chains, sets }))
}

fn table_flags(netlink: &mut Nfnetlink) -> Result<Option<TableFlags>, Error> {
    let (mut answered, mut flags, mut comment) = (false, TableFlags::default(), None);
    let request = Request { message: libc::NFT_MSG_GETTABLE, family: INET };
    let answer = netlink.get(
        request,
        |writer| writer.text(TABLE_NAME, TABLE),
        |message| {
            answered = true;
            for attribute in message.attributes()? {
                let attribute = attribute?;
                match attribute.kind {
                    TABLE_FLAGS => flags = TableFlags(attribute.be32()?),
                    TABLE_USERDATA => comment = userdata::read_comment(userdata::TABLE_COMMENT, attribute.value),
                    _ => {}
                }
            }
            Ok(())
        },
    );
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(failed(&format!("table inet {TABLE}"), &error)),
        // Nobody is to be told to delete a table because its answer was lost.
        Ok(()) if !answered => Err(failed(&format!("table inet {TABLE}"), &lost("to a question for it"))),
        Ok(()) if comment.as_deref() != Some(TABLE_COMMENT) => {
            Err(foreign(&format!("it has no comment '{TABLE_COMMENT}'")))
        }
        Ok(()) => Ok(Some(flags)),
    }
}

/// Counters, maps of limits, flow tables and so on: we make none. The number of objects that the kernel gives for a
/// table (NFTA_TABLE_USE) is no help, it counts those of transactions that are not committed yet.
fn refuse_other_objects(netlink: &mut Nfnetlink) -> Result<(), Failure> {
    let mut found = false;
    for message in [libc::NFT_MSG_GETOBJ, GETFLOWTABLE] {
        let body = |writer: &mut Writer| writer.text(OBJECT_TABLE, TABLE);
        dump(netlink, message, "the other objects", body, |message| {
            found |= find_text(message, OBJECT_TABLE)?.as_deref() == Some(TABLE);
            Ok(())
        })?;
    }
    if found { Err(foreign("it holds objects of other kinds than chains and sets").into()) } else { Ok(()) }
}

/// The chains of our table; the kernel has no way to leave out those of others.
fn chains(netlink: &mut Nfnetlink) -> Result<Vec<Chain>, Failure> {
    let mut found = Vec::new();
    dump(
        netlink,
        libc::NFT_MSG_GETCHAIN,
        "the chains",
        |_| {},
        |message| {
            if find_text(message, CHAIN_TABLE)?.as_deref() == Some(TABLE) {
                found.push(read_chain(message)?);
            }
            Ok(())
        },
    )?;
    found.into_iter().map(|chain| chain.map_err(|why| foreign(&why).into())).collect()
}

/// A chain of ours without its rules, or why it is none.
fn read_chain(message: &Message<'_>) -> Result<Result<Chain, String>, Malformed> {
    let text = find_text(message, CHAIN_NAME)?.unwrap_or_default();
    let Some(name) = ChainName::parse(&text) else { return Ok(Err(format!("chain '{text}' is not ours"))) };
    let nested = message.attributes()?.find(CHAIN_HOOK)?;
    let strange = Ok(Err(format!("chain '{text}' is not in the place of ours in the packet path")));
    let hook = match nested {
        None => None,
        Some(hook) => {
            let number = hook.nested().find(HOOK_NUMBER)?.map(|found| found.be32()).transpose()?;
            let priority = hook.nested().find(HOOK_PRIORITY)?.map(|found| found.be32()).transpose()?;
            let policy = message.attributes()?.find(CHAIN_POLICY)?.map(|found| found.be32()).transpose()?;
            if number != Some(POSTROUTING) || find_text(message, CHAIN_TYPE)?.as_deref() != Some("nat") {
                return strange;
            }
            let accepts = policy == Some(libc::NF_ACCEPT as u32);
            Some(Hook { priority: priority.unwrap_or_default() as i32, accepts })
        }
    };
    if hook.is_some() != (name == ChainName::Postrouting) {
        return strange;
    }
    Ok(Ok(Chain { name, hook, rules: Vec::new() }))
}

/// The rules of our table with their chains and the packets that they counted, in order.
///
/// # Errors
/// As [`observe`].
pub fn counted_rules(netlink: &mut Nfnetlink) -> Result<Vec<(ChainName, Rule, u64)>, Error> {
    for _ in 0..ATTEMPTS {
        match rules(netlink) {
            Ok(rules) => return Ok(rules),
            Err(Failure::Again) => {}
            Err(Failure::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Busy, format!("reading the rules of table inet {TABLE}: others kept changing rules")))
}

fn rules(netlink: &mut Nfnetlink) -> Result<Vec<(ChainName, Rule, u64)>, Failure> {
    let mut found = Vec::new();
    dump(
        netlink,
        libc::NFT_MSG_GETRULE,
        "the rules",
        |writer| writer.text(RULE_TABLE, TABLE),
        |message| {
            let chain = find_text(message, RULE_CHAIN)?.unwrap_or_default();
            // A rule of a chain that is not ours: the chain has been refused before.
            if let Some(chain) =
                ChainName::parse(&chain).filter(|_| find_text(message, RULE_TABLE) == Ok(Some(TABLE.into())))
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
    Ok((Rule { body: translate::to_body(&expressions), comment }, packets.unwrap_or(0)))
}

/// The names of our table's sets, and how many elements they have where the kernel tells.
fn sets(netlink: &mut Nfnetlink) -> Result<Vec<(SetName, Option<u32>)>, Failure> {
    let mut found = Vec::new();
    dump(
        netlink,
        libc::NFT_MSG_GETSET,
        "the sets",
        |writer| writer.text(SET_TABLE, TABLE),
        |message| {
            found.push(read_set(message)?);
            Ok(())
        },
    )?;
    found.into_iter().map(|set| set.map_err(|why| foreign(&why).into())).collect()
}

/// The name of a set of ours, or why it is none.
fn read_set(message: &Message<'_>) -> Result<Result<(SetName, Option<u32>), String>, Malformed> {
    let text = find_text(message, SET_NAME)?.unwrap_or_default();
    let Some(name) = SetName::parse(&text) else { return Ok(Err(format!("set '{text}' is not ours"))) };
    let number = |kind| message.attributes()?.find(kind)?.map(|found| found.be32()).transpose();
    let is_ours = number(SET_FLAGS)? == Some(libc::NFT_SET_INTERVAL as u32)
        && number(SET_KEY_TYPE)? == Some(key_type(name))
        && number(SET_KEY_LENGTH)? == Some(interval::width(name.family) as u32);
    let count = number(SET_COUNT)?;
    Ok(if is_ours { Ok((name, count)) } else { Err(format!("set '{text}' is not of the type of ours")) })
}

/// The elements that a set is known to have, and what to ask of it; `None` when it must be read.
fn known_elements(name: SetName, count: Option<u32>, expected: Expected<'_>) -> Option<(Arc<[Interval]>, Vec<Probe>)> {
    let elements = expected.table.set(name)?.elements.clone()?;
    let told = match count {
        Some(count) => is_count_of(count as usize, &elements, name),
        None => !expected.counted,
    };
    let probes = expected.probes.iter().filter(|(set, _)| *set == name).map(|(_, probe)| *probe);
    told.then(|| (elements, probes.collect()))
}

/// An interval up to the largest address has no second element, and nft adds one at address zero.
fn is_count_of(count: usize, elements: &[Interval], name: SetName) -> bool {
    let open = elements.last().is_some_and(|element| element.last == interval::largest(name.family));
    count == elements.len() || open && count + 1 == elements.len()
}

fn confirm(netlink: &mut Nfnetlink, name: SetName, probes: &[Probe]) -> Result<(), Failure> {
    for probe in probes {
        if has_element(netlink, name, (probe.address, probe.bound))? != probe.present {
            return Err(Failure::Again);
        }
    }
    Ok(())
}

fn read_elements(netlink: &mut Nfnetlink, name: SetName) -> Result<Option<Arc<[Interval]>>, Failure> {
    let mut bounds = Vec::new();
    let mut strange = false;
    let body = |writer: &mut Writer| {
        writer.text(ELEMENTS_TABLE, TABLE);
        writer.text(ELEMENTS_SET, &name.to_string());
    };
    dump(netlink, libc::NFT_MSG_GETSETELEM, &format!("the elements of set {name}"), body, |message| {
        let Some(list) = message.attributes()?.find(ELEMENTS_LIST)? else { return Ok(()) };
        for element in list.nested() {
            match read_element(element?, name)? {
                Some(bound) => bounds.push(bound),
                None => strange = true,
            }
        }
        Ok(())
    })?;
    if strange {
        return Ok(None);
    }
    Ok(interval::assemble(bounds, name.family).map(Arc::from))
}

/// An element of an interval set; `None` when it is something else, the catch-all element for one.
fn read_element(element: Attribute<'_>, name: SetName) -> Result<Option<(u128, Bound)>, Malformed> {
    let (mut address, mut bound) = (None, Bound::Start);
    for attribute in element.nested() {
        let attribute = attribute?;
        match attribute.kind {
            ELEMENT_KEY => {
                let value = attribute.nested().find(DATA_VALUE)?;
                address = value.and_then(|value| interval::from_bytes(value.value, name.family));
            }
            ELEMENT_FLAGS => {
                let flags = attribute.be32()?;
                if flags & CATCHALL != 0 {
                    return Ok(None);
                }
                if flags & libc::NFT_SET_ELEM_INTERVAL_END as u32 != 0 {
                    bound = Bound::End;
                }
            }
            _ => {}
        }
    }
    Ok(address.map(|address| (address, bound)))
}

/// Whether an element is in the set.
fn has_element(netlink: &mut Nfnetlink, name: SetName, wanted: (u128, Bound)) -> Result<bool, Failure> {
    let mut found = false;
    let request = Request { message: libc::NFT_MSG_GETSETELEM, family: INET };
    let body = |writer: &mut Writer| {
        writer.text(ELEMENTS_TABLE, TABLE);
        writer.text(ELEMENTS_SET, &name.to_string());
        writer.nest(ELEMENTS_LIST, |writer| element(writer, name, wanted.0, wanted.1));
    };
    let answer = netlink.get(request, body, |message| {
        // The kernel answers with the nearest element of the interval that holds the address.
        for element in message.attributes()?.find(ELEMENTS_LIST)?.iter().flat_map(Attribute::nested) {
            found |= read_element(element?, name)? == Some(wanted);
        }
        Ok(())
    });
    match answer {
        Ok(()) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(failed(&format!("an element of set {name}"), &error).into()),
    }
}

/// Reads a message as each kind of answer, for `tests/fuzz`. A rule that is understood must survive being written.
#[cfg(fuzzing)]
pub fn read_any(message: &Message<'_>) {
    use crate::host::nfnetlink::message::{Attributes, MessageHead, Messages};
    let _ = (read_chain(message), read_set(message));
    for name in ["exempt4", "exempt6"].into_iter().filter_map(SetName::parse) {
        let list = message.attributes().and_then(|found| found.find(ELEMENTS_LIST)).ok().flatten();
        let elements = list.map_or(Attributes(&[]), |list| list.nested()).flatten();
        let bounds = elements.filter_map(|element| read_element(element, name).ok().flatten()).collect();
        for interval in interval::assemble(bounds, name.family).unwrap_or_default() {
            let (mut text, bounds) = (String::new(), interval::bounds(interval, name.family).collect());
            interval.write(name.family, &mut text);
            assert_eq!(interval::assemble(bounds, name.family), Some(vec![interval]), "{text}");
        }
    }
    let Ok((rule, _)) = read_rule(message) else { return };
    let _ = rule.to_string();
    if rule.action().is_some() {
        let expressions = translate::to_expressions(&rule);
        let mut writer = Writer::new();
        writer.message(MessageHead::default(), |writer| {
            writer.nest(RULE_EXPRESSIONS, |writer| expressions.iter().for_each(|one| one.write(writer)));
        });
        let again = Messages(writer.bytes()).flatten().find_map(|message| read_rule(&message).ok());
        assert_eq!(again.map(|(again, _)| again.body), Some(rule.body));
    }
}

fn find_text(message: &Message<'_>, kind: u16) -> Result<Option<String>, Malformed> {
    Ok(message.attributes()?.find(kind)?.map(|attribute| attribute.text()))
}

fn dump(
    netlink: &mut Nfnetlink,
    message: i32,
    what: &str,
    body: impl FnOnce(&mut Writer),
    each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
) -> Result<(), Failure> {
    match netlink.dump(Request { message, family: INET }, body, each) {
        Ok(Consistency::Whole) => Ok(()),
        Ok(Consistency::Interrupted) => Err(Failure::Again),
        // The table or the set went away since its name was read.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(Failure::Again),
        Err(error) => Err(failed(&format!("{what} of table inet {TABLE}"), &error).into()),
    }
}

fn foreign(why: &str) -> Error {
    let message =
        format!("table inet {TABLE} is not ours: {why}; 'nft delete table inet {TABLE}' makes room for the agent's");
    Error::new(ErrorKind::Foreign, message)
}

/// An error of reading, sorted.
fn failed(what: &str, error: &io::Error) -> Error {
    let (kind, why) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => (ErrorKind::Permission, ": CAP_NET_ADMIN is missing"),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
            (ErrorKind::Unsupported, ": this kernel has no nf_tables")
        }
        _ if is_passing(error) => (ErrorKind::Busy, ""),
        _ => (ErrorKind::Other, ""),
    };
    Error::new(kind, format!("reading {what}: {error}{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_to_a_question_is_sorted() {
        let cases = [
            (libc::EPERM, ErrorKind::Permission, "CAP_NET_ADMIN is missing"),
            (libc::EINVAL, ErrorKind::Unsupported, "this kernel has no nf_tables"),
            (libc::EOPNOTSUPP, ErrorKind::Unsupported, "this kernel has no nf_tables"),
            (libc::EBUSY, ErrorKind::Busy, "reading the sets"),
            (libc::ENOBUFS, ErrorKind::Busy, "reading the sets"),
            (libc::ENOMEM, ErrorKind::Other, "reading the sets"),
        ];
        for (errno, kind, words) in cases {
            let error = failed("the sets", &io::Error::from_raw_os_error(errno));
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    /// A start waits for what may come, and ends at once, with the reason, where waiting is in vain.
    #[test]
    fn an_answer_that_is_missing_may_come_and_one_without_sense_will_not() {
        let missing = failed("the sets", &lost("to a dump"));
        assert_eq!(missing.message, "reading the sets: the kernel's answer to a dump is missing");
        let malformed = failed("the sets", &Malformed("an attribute is cut short").into());
        assert_eq!(malformed.message, "reading the sets: malformed netlink message: an attribute is cut short");
        assert_eq!([missing.is_transient(), malformed.is_transient()], [true, false]);
    }
}
