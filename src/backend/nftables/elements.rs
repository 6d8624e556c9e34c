//! The elements of our sets: read, or where they are known only counted and tried by sample.

use super::ask::{Failure, dump_until, failed};
use super::rules::content::Content;
use super::rules::interval::{self, Bound};
use super::rules::name::{ChainName, SetName, TableName};
use super::rules::port_set::{Data, PortSet};
use super::rules::ports::{PortElement, Then};
use super::rules::table::{Set, Tables};
use super::wire::batch::attribute::*;
use super::wire::batch::{self, INET, element, port_element};
use super::wire::expression::{DATA_VALUE, Expression, read_goto};
use crate::backend::error::Error;
use crate::policy::Family;
use crate::sys::nfnetlink::message::{Attribute, Malformed, Writer};
use crate::sys::nfnetlink::{Nfnetlink, Request};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// NFT_SET_ELEM_CATCHALL, Linux 5.13; not in libc.
const CATCHALL: u32 = 2;
/// So many elements stand for those of all sets where they are long; one of each at least.
const SAMPLE: usize = 16;

/// A longer set is never read: the kernel walks over the set again for each 32 KiB of its answer, so that a million takes
/// a minute and more. Where it is not known what the set holds, another one is written.
pub const MOST_READ: usize = 131_072;
/// One of port forwards: every port of each protocol may be an element.
const MOST_PORTS_READ: usize = 262_144;

/// Elements that are not all read because they are known: from the last reading, or because our own commit made
/// them. Reading 100,000 of them takes a quarter of a second and more: the kernel walks over the set again for each 32 KiB
/// of answer.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// What should be there.
    pub tables: &'a Tables,
    /// Elements to ask for one by one.
    pub probes: &'a [(SetName, Probe)],
    /// A set whose number of elements the kernel does not tell is read whole, unless there are very many.
    pub counted: bool,
}

/// An element that must be there, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The element.
    pub element: Element,
    /// Whether it must be there.
    pub present: bool,
}

/// An element, as the kernel keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// An interval of a list begins or ends at an address.
    Bound(u128, Bound),
    /// One of port forwards.
    Port(PortElement),
}

/// The elements that the kernel keeps for so many at each end of a content.
pub fn ends(name: SetName, content: &Content, count: usize) -> Vec<Element> {
    fn of<T>(list: &[T], count: usize) -> impl Iterator<Item = &T> {
        let (first, last) = list.split_at(list.len().min(count));
        first.iter().chain(&last[last.len().saturating_sub(count)..])
    }
    let bound = |(address, bound)| Element::Bound(address, bound);
    match content {
        Content::Intervals(list) => of(list, count).flat_map(|one| batch::bounds(*one, name)).map(bound).collect(),
        Content::Ports(list) => of(list, count).copied().map(Element::Port).collect(),
    }
}

/// The elements of a set; `None` when they are no row of intervals or too many to be read. `count` is what the kernel told of their number.
pub fn of_set(
    netlink: &mut Nfnetlink,
    table: TableName,
    name: SetName,
    count: Option<u32>,
    expected: Option<Expected<'_>>,
) -> Result<Option<Content>, Failure> {
    match expected.and_then(|expected| known_elements(table, name, count, expected)) {
        Some((elements, probes)) => confirm(netlink, table, name, &probes).map(|()| Some(elements)),
        None if count.is_some_and(|count| count as usize > most_read(name)) => Ok(None),
        None => read_elements(netlink, table, name),
    }
}

fn most_read(name: SetName) -> usize {
    if name.ports().is_some() { MOST_PORTS_READ } else { MOST_READ }
}

/// The elements that a set is known to have, and what to ask of it; `None` when it must be read.
fn known_elements(
    table: TableName,
    name: SetName,
    count: Option<u32>,
    expected: Expected<'_>,
) -> Option<(Content, Vec<Probe>)> {
    let table = expected.tables.slot(table).table()?;
    let elements = table.set(name)?.elements.clone()?;
    let told = match count {
        Some(count) => is_count_of(count as usize, &elements, name),
        None => !expected.counted || table.elements() > MOST_READ,
    };
    let probes = expected.probes.iter().filter(|(set, _)| *set == name).map(|(_, probe)| *probe);
    told.then(|| (elements, probes.collect()))
}

/// An interval up to the largest address has no second element, and nft adds one at address zero.
fn is_count_of(count: usize, elements: &Content, name: SetName) -> bool {
    let open = match elements {
        Content::Intervals(list) => {
            !name.has_blocks() && list.last().is_some_and(|one| one.last == interval::largest(name.family))
        }
        Content::Ports(_) => false,
    };
    count == elements.len() || open && count + 1 == elements.len()
}

fn confirm(netlink: &mut Nfnetlink, table: TableName, name: SetName, probes: &[Probe]) -> Result<(), Failure> {
    for probe in probes {
        if has_element(netlink, table, name, probe.element)? != probe.present {
            return Err(Failure::Unexpected);
        }
    }
    Ok(())
}

fn read_elements(netlink: &mut Nfnetlink, table: TableName, name: SetName) -> Result<Option<Content>, Failure> {
    match name.ports() {
        None => {
            let mut bounds = Vec::new();
            let whole = each_element(netlink, table, name, |element| {
                let bound = read_element(element, name)?;
                bounds.extend(bound);
                Ok(bound.is_some() && bounds.len() <= 2 * MOST_READ + 1)
            })?;
            let assemble = || match name.has_blocks() {
                true => interval::singles(bounds),
                false => interval::assemble(bounds, name.family),
            };
            let assembled = whole.then(assemble).flatten();
            Ok(assembled.map(|intervals| Content::Intervals(intervals.into())))
        }
        Some(ports) => {
            let mut list = Vec::new();
            let whole = each_element(netlink, table, name, |element| {
                let (found, _) = read_port(element, ports, name.family)?;
                list.extend(found);
                Ok(found.is_some())
            })?;
            list.sort_unstable();
            Ok(whole.then(|| Content::Ports(list.into())))
        }
    }
}

/// Reads the elements of a set until `each` does not want one; says whether it wanted them all.
fn each_element(
    netlink: &mut Nfnetlink,
    table: TableName,
    name: SetName,
    mut each: impl FnMut(Attribute<'_>) -> Result<bool, Malformed>,
) -> Result<bool, Failure> {
    let body = |writer: &mut Writer| {
        writer.text(ELEMENTS_TABLE, &table.to_string());
        writer.text(ELEMENTS_SET, &name.to_string());
    };
    dump_until(netlink, libc::NFT_MSG_GETSETELEM, &format!("the elements of {} {name}", name.kind()), body, |message| {
        let Some(list) = message.attributes()?.find(ELEMENTS_LIST)? else { return Ok(true) };
        for element in list.nested() {
            if !each(element?)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// The elements of a map of port forwards with the flows that each counted.
///
/// # Errors
/// What the kernel says, or that others commit all the time.
pub fn counted(netlink: &mut Nfnetlink, name: SetName) -> Result<Vec<(PortElement, u64)>, Failure> {
    let Some(ports) = name.ports() else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    each_element(netlink, TableName::Main, name, |element| {
        let (found, packets) = read_port(element, ports, name.family)?;
        list.extend(found.map(|found| (found, packets)));
        Ok(true)
    })?;
    Ok(list)
}

/// An element of port forwards and what it counted; `None` when it is none that we write.
fn read_port(element: Attribute<'_>, ports: PortSet, family: Family) -> Result<(Option<PortElement>, u64), Malformed> {
    let (mut first, mut last, mut then, mut packets, mut strange) = (None, None, Some(Then::Nothing), 0, false);
    for attribute in element.nested() {
        let attribute = attribute?;
        match attribute.kind {
            ELEMENT_KEY => first = attribute.nested().find(DATA_VALUE)?.map(|value| value.value),
            ELEMENT_KEY_END => last = attribute.nested().find(DATA_VALUE)?.map(|value| value.value),
            ELEMENT_DATA if ports.data() == Data::Chain => {
                let chain = read_goto(attribute)?.and_then(|chain| ChainName::parse(&chain));
                then = chain.map(Then::Goto);
            }
            ELEMENT_DATA => {
                let value = attribute.nested().find(DATA_VALUE)?;
                then = value.and_then(|value| PortElement::then_of(ports, family, value.value));
            }
            ELEMENT_FLAGS => strange |= attribute.be32()? != 0,
            ELEMENT_EXPRESSION => {
                if let Expression::Counter(counted) = Expression::read(attribute)? {
                    packets = counted;
                }
            }
            _ => {}
        }
    }
    let found = first.and_then(|first| PortElement::of_key(ports, family, first, last.unwrap_or(first)));
    let found = found.zip(then).map(|(found, then)| PortElement { then, ..found });
    Ok((found.filter(|_| !strange), packets))
}

/// An element of an interval set; `None` when it is something else, the catch-all element for one.
pub fn read_element(element: Attribute<'_>, name: SetName) -> Result<Option<(u128, Bound)>, Malformed> {
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

/// What moves when a small set has other elements.
pub fn digest(netlink: &mut Nfnetlink, set: &Set) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    match read_elements(netlink, TableName::Main, set.name) {
        Ok(elements) => elements.hash(&mut hasher),
        Err(Failure::Error(error)) => return Err(error),
        // It went away, or another program committed meanwhile: other than it was, for sure.
        Err(_) => Instant::now().hash(&mut hasher),
    }
    Ok(hasher.finish())
}

/// How many of some elements of a long set are there; the set is one of so many.
pub fn sample(netlink: &mut Nfnetlink, set: &Set, sets: usize) -> Result<u64, Error> {
    fn of<T: Copy>(list: &[T], sample: usize, element: impl Fn(T) -> Element) -> Vec<Element> {
        list.iter().step_by((list.len() / sample).max(1)).map(|one| element(*one)).collect()
    }
    let count = SAMPLE.div_ceil(sets.max(1));
    let elements = match &set.elements {
        Some(Content::Intervals(list)) => of(list, count, |one| Element::Bound(one.first, Bound::Start)),
        Some(Content::Ports(list)) => of(list, count, Element::Port),
        None => Vec::new(),
    };
    let mut there = 0;
    for element in elements {
        match has_element(netlink, TableName::Main, set.name, element) {
            Ok(found) => there += u64::from(found),
            Err(Failure::Error(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(there)
}

/// Whether an element is in the set.
fn has_element(netlink: &mut Nfnetlink, table: TableName, name: SetName, wanted: Element) -> Result<bool, Failure> {
    let mut found = false;
    let request = Request { message: libc::NFT_MSG_GETSETELEM, family: INET };
    let body = |writer: &mut Writer| {
        writer.text(ELEMENTS_TABLE, &table.to_string());
        writer.text(ELEMENTS_SET, &name.to_string());
        writer.nest(ELEMENTS_LIST, |writer| match (wanted, name.ports()) {
            (Element::Bound(address, bound), _) => element(writer, name, address, bound),
            (Element::Port(one), Some(ports)) => {
                port_element(writer, ports, name.family, &PortElement { then: Then::Nothing, ..one });
            }
            (Element::Port(_), None) => {}
        });
    };
    let answer = netlink.get(request, body, |message| {
        // The kernel answers with the nearest element of the interval that holds the address.
        for element in message.attributes()?.find(ELEMENTS_LIST)?.iter().flat_map(Attribute::nested) {
            found |= match (wanted, name.ports()) {
                (Element::Bound(address, bound), _) => read_element(element?, name)? == Some((address, bound)),
                (Element::Port(one), Some(ports)) => read_port(element?, ports, name.family)?.0 == Some(one),
                (Element::Port(_), None) => false,
            };
        }
        Ok(())
    });
    match answer {
        Ok(()) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(failed(&format!("an element of {} {name}", name.kind()), error).into()),
    }
}
