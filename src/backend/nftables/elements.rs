//! The elements of our sets: read, or where they are known only counted and tried by sample.

use super::ask::{Failure, dump, failed};
use super::rules::interval::{self, Bound, Interval};
use super::rules::name::{SetName, TABLE};
use super::rules::table::{Set, Table};
use super::wire::batch::attribute::*;
use super::wire::batch::{INET, element};
use super::wire::expression::DATA_VALUE;
use crate::backend::error::Error;
use crate::sys::nfnetlink::message::{Attribute, Malformed, Writer};
use crate::sys::nfnetlink::{Nfnetlink, Request};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

/// NFT_SET_ELEM_CATCHALL, Linux 5.13; not in libc.
const CATCHALL: u32 = 2;
/// So many elements stand for those of a long set.
const SAMPLE: usize = 16;

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

/// The elements of a set; `None` when they are no row of intervals. `count` is what the kernel told of their number.
pub fn of_set(
    netlink: &mut Nfnetlink,
    name: SetName,
    count: Option<u32>,
    expected: Option<Expected<'_>>,
) -> Result<Option<Arc<[Interval]>>, Failure> {
    match expected.and_then(|expected| known_elements(name, count, expected)) {
        Some((elements, probes)) => confirm(netlink, name, &probes).map(|()| Some(elements)),
        None => read_elements(netlink, name),
    }
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
            return Err(Failure::Unexpected);
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
    match read_elements(netlink, set.name) {
        Ok(elements) => elements.hash(&mut hasher),
        Err(Failure::Error(error)) => return Err(error),
        // It went away, or another program committed meanwhile: other than it was, for sure.
        Err(_) => Instant::now().hash(&mut hasher),
    }
    Ok(hasher.finish())
}

/// How many of some elements of a long set are there.
pub fn sample(netlink: &mut Nfnetlink, set: &Set) -> Result<u64, Error> {
    let elements = set.elements.as_deref().unwrap_or_default();
    let mut there = 0;
    for element in elements.iter().step_by((elements.len() / SAMPLE).max(1)) {
        match has_element(netlink, set.name, (element.first, Bound::Start)) {
            Ok(found) => there += u64::from(found),
            Err(Failure::Error(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(there)
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
        Err(error) => Err(failed(&format!("an element of set {name}"), error).into()),
    }
}
