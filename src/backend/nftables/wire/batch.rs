//! A transaction as the messages of a batch, and what a refusal of one means.

use super::expression::{DATA_VALUE, LIST_ELEMENT, write_goto};
use super::{translate, userdata};
use crate::backend::error::{Error, ErrorKind};
use crate::backend::nftables::rules::change::{Change, GUARD, RAW, Transaction};
use crate::backend::nftables::rules::content::Content;
use crate::backend::nftables::rules::interval::{self, Bound, Interval};
use crate::backend::nftables::rules::name::{ChainName, SetName, TableName};
use crate::backend::nftables::rules::port_set::{Data, Field, PortSet};
use crate::backend::nftables::rules::ports::{PortElement, Then};
use crate::backend::nftables::rules::rule::{Rule, shown};
use crate::backend::nftables::rules::stranger::Stranger;
use crate::backend::nftables::rules::table::{FORMAT, HookSpec, TABLE_COMMENT, TableFlags};
use crate::policy::Family;
use crate::ruleset::Hook;
use crate::sys::nfnetlink::message::Writer;
use crate::sys::nfnetlink::{Batch, BatchRefusal};

/// NFPROTO_INET, the family of our table.
pub const INET: u8 = libc::NFPROTO_INET as u8;
/// How many intervals go into one message. An attribute holds 64 KiB (its length has 16 bits), and the two elements
/// of an IPv6 interval take 64 bytes.
const INTERVALS_PER_MESSAGE: usize = 900;
/// How many elements of port forwards: two keys of 40 bytes and a target at most.
const PORTS_PER_MESSAGE: usize = 400;

/// The type of a base chain, and the number of its hook (`enum nf_inet_hooks` of linux/netfilter.h).
pub fn place(hook: Hook) -> (&'static str, u32) {
    match hook {
        Hook::RawPrerouting => ("filter", 0),
        Hook::Prerouting => ("nat", 0),
        Hook::Output => ("nat", 3),
        Hook::Postrouting => ("nat", 4),
    }
}

/// `enum nft_*_attributes` of linux/netfilter/nf_tables.h, as far as we use them.
pub mod attribute {
    pub const TABLE_NAME: u16 = 1;
    pub const TABLE_FLAGS: u16 = 2;
    pub const TABLE_USERDATA: u16 = 6;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_POLICY: u16 = 5;
    pub const CHAIN_TYPE: u16 = 7;
    pub const CHAIN_FLAGS: u16 = 10;
    pub const CHAIN_USERDATA: u16 = 12;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const RULE_USERDATA: u16 = 7;
    pub const EXPRESSION_NAME: u16 = 1;
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_KEY_LENGTH: u16 = 5;
    pub const SET_DATA_TYPE: u16 = 6;
    pub const SET_DATA_LENGTH: u16 = 7;
    pub const SET_DESCRIPTION: u16 = 9;
    pub const SET_ID: u16 = 10;
    pub const SET_USERDATA: u16 = 13;
    pub const ELEMENTS_TABLE: u16 = 1;
    pub const ELEMENTS_SET: u16 = 2;
    pub const ELEMENTS_LIST: u16 = 3;
    pub const OBJECT_TABLE: u16 = 1;
    pub const OBJECT_NAME: u16 = 2;
    pub const OBJECT_TYPE: u16 = 3;
    pub const FLOWTABLE_NAME: u16 = 2;
    pub const ELEMENT_KEY: u16 = 1;
    pub const ELEMENT_DATA: u16 = 2;
    pub const ELEMENT_FLAGS: u16 = 3;
    /// NFTA_SET_ELEM_EXPR.
    pub const ELEMENT_EXPRESSION: u16 = 7;
    /// NFTA_SET_ELEM_KEY_END, Linux 5.6.
    pub const ELEMENT_KEY_END: u16 = 10;
}
use attribute::*;

/// linux/errno.h; not for programs, so not in libc.
const ERESTART: i32 = 85;
/// NFT_MSG_DELFLOWTABLE, Linux 4.16; not in libc.
const DELFLOWTABLE: i32 = 24;

/// A transaction as a batch, and the change that each of its messages belongs to: the first number is that of message
/// 1, for message 0 is the frame of the batch.
pub fn write(transaction: &Transaction, generation: u32) -> (Batch, Vec<usize>) {
    let mut batch = Batch::new(generation);
    let mut owners = Vec::new();
    for (number, change) in transaction.changes.iter().enumerate() {
        let messages = write_change(transaction.table, change, number, &mut batch);
        owners.extend(std::iter::repeat_n(number, messages));
    }
    (batch, owners)
}

/// Writes a change; returns how many messages it took.
fn write_change(table: TableName, change: &Change, number: usize, batch: &mut Batch) -> usize {
    let create = libc::NLM_F_CREATE;
    let mut push = |message, flags, body: &dyn Fn(&mut Writer)| {
        batch.push(message, flags, INET, |writer| {
            // NFTA_*_TABLE; of the table itself it is NFTA_TABLE_NAME, which has the same number.
            writer.text(TABLE_NAME, &table.to_string());
            body(writer);
        });
    };
    match change {
        Change::AddTable(flags) => {
            // A stand-in is made and never taken over.
            let exclusive = if table == TableName::StandIn { libc::NLM_F_EXCL } else { 0 };
            push(libc::NFT_MSG_NEWTABLE, create | exclusive, &|writer| table_body(writer, *flags));
        }
        Change::DeleteTable => push(libc::NFT_MSG_DELTABLE, 0, &|_| {}),
        Change::AddSet(name) => push(libc::NFT_MSG_NEWSET, create, &|writer| set(writer, *name, number as u32 + 1)),
        Change::FlushSet(name) => {
            push(libc::NFT_MSG_DELSETELEM, 0, &|writer| writer.text(ELEMENTS_SET, &name.to_string()))
        }
        Change::DeleteSet(name) => push(libc::NFT_MSG_DELSET, 0, &|writer| writer.text(SET_NAME, &name.to_string())),
        // NLM_F_EXCL: an element that is there already means that the plan was wrong.
        Change::AddElements(name, list) => {
            return elements(batch, libc::NFT_MSG_NEWSETELEM, create | libc::NLM_F_EXCL, table, *name, list);
        }
        Change::DeleteElements(name, list) => {
            return elements(batch, libc::NFT_MSG_DELSETELEM, 0, table, *name, list);
        }
        Change::AddChain(name, hook) => push(libc::NFT_MSG_NEWCHAIN, create, &|writer| chain(writer, *name, *hook)),
        Change::FlushChain(name) => {
            push(libc::NFT_MSG_DELRULE, 0, &|writer| writer.text(RULE_CHAIN, &name.to_string()))
        }
        Change::DeleteChain(name) => {
            push(libc::NFT_MSG_DELCHAIN, 0, &|writer| writer.text(CHAIN_NAME, &name.to_string()))
        }
        Change::AddRule(name, one) => push(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, &|writer| {
            writer.text(RULE_CHAIN, &name.to_string());
            rule(writer, one);
        }),
        Change::FlushStranger(name) => push(libc::NFT_MSG_DELRULE, 0, &|writer| writer.text(RULE_CHAIN, name)),
        Change::DeleteStranger(one) => match one {
            Stranger::Chain(name) => push(libc::NFT_MSG_DELCHAIN, 0, &|writer| writer.text(CHAIN_NAME, name)),
            Stranger::Set(name, _) => push(libc::NFT_MSG_DELSET, 0, &|writer| writer.text(SET_NAME, name)),
            Stranger::Object(kind, name) => push(libc::NFT_MSG_DELOBJ, 0, &|writer| {
                writer.text(OBJECT_NAME, name);
                writer.be32(OBJECT_TYPE, *kind);
            }),
            Stranger::Flowtable(name) => push(DELFLOWTABLE, 0, &|writer| writer.text(FLOWTABLE_NAME, name)),
        },
        Change::PutGuard => {
            for (name, _, hook) in GUARD {
                push(libc::NFT_MSG_NEWCHAIN, create, &|writer| {
                    writer.text(CHAIN_NAME, name);
                    base_chain(writer, "filter", hook, RAW);
                });
                push(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, &|writer| {
                    writer.text(RULE_CHAIN, name);
                    writer.nest(RULE_EXPRESSIONS, |writer| {
                        writer.nest(LIST_ELEMENT, |writer| writer.text(EXPRESSION_NAME, "notrack"));
                    });
                });
            }
            return 2 * GUARD.len();
        }
        Change::DeleteGuard => {
            for (name, ..) in GUARD {
                push(libc::NFT_MSG_DELCHAIN, 0, &|writer| writer.text(CHAIN_NAME, name));
            }
            return GUARD.len();
        }
    }
    1
}

fn table_body(writer: &mut Writer, flags: TableFlags) {
    writer.be32(TABLE_FLAGS, flags.0);
    writer.raw(TABLE_USERDATA, &userdata::table(TABLE_COMMENT, FORMAT));
}

fn rule(writer: &mut Writer, rule: &Rule) {
    writer.nest(RULE_EXPRESSIONS, |writer| {
        translate::to_expressions(rule).iter().for_each(|expression| expression.write(writer));
    });
    if let Some(comment) = &rule.comment {
        writer.raw(RULE_USERDATA, &userdata::comment(userdata::RULE_COMMENT, comment));
    }
}

fn chain(writer: &mut Writer, name: ChainName, hook: Option<HookSpec>) {
    writer.text(CHAIN_NAME, &name.to_string());
    if let (Some(spec), ChainName::Base(hook)) = (hook, name) {
        let (kind, number) = place(hook);
        base_chain(writer, kind, number, spec.priority);
    }
    writer.raw(CHAIN_USERDATA, &userdata::comment(userdata::CHAIN_COMMENT, name.comment()));
}

/// Its place in the packet path.
fn base_chain(writer: &mut Writer, kind: &str, hook: u32, priority: i32) {
    writer.text(CHAIN_TYPE, kind);
    writer.nest(CHAIN_HOOK, |writer| {
        writer.be32(HOOK_NUMBER, hook);
        writer.be32(HOOK_PRIORITY, priority as u32);
    });
    writer.be32(CHAIN_POLICY, libc::NF_ACCEPT as u32);
}

fn set(writer: &mut Writer, name: SetName, id: u32) {
    writer.text(SET_NAME, &name.to_string());
    let shape = Shape::of(name);
    writer.be32(SET_FLAGS, shape.flags);
    writer.be32(SET_KEY_TYPE, shape.key_type);
    writer.be32(SET_KEY_LENGTH, shape.key_length);
    if let Some((kind, length)) = shape.data {
        writer.be32(SET_DATA_TYPE, kind);
        if length > 0 {
            writer.be32(SET_DATA_LENGTH, length);
        }
    }
    if let Some(ports) = name.ports().filter(|ports| ports.has_ranges()) {
        writer.nest(SET_DESCRIPTION, |writer| describe_key(writer, ports, name.family));
    }
    writer.be32(SET_ID, id);
    writer.raw(SET_USERDATA, &userdata::set(name.comment(), name.ports().is_some_and(PortSet::is_map)));
    if shape.counts {
        writer.nest(SET_EXPRESSION, |writer| {
            writer.text(EXPRESSION_NAME, "counter");
            writer.nest(EXPRESSION_DATA, |_| {});
        });
    }
}

/// The fields of a key, which the kernel looks for one by one.
fn describe_key(writer: &mut Writer, ports: PortSet, family: Family) {
    writer.nest(DESCRIPTION_FIELDS, |writer| {
        for field in ports.key() {
            let length = match field {
                Field::Saddr | Field::Daddr | Field::Daddrs => interval::width(family) as u32,
                Field::OutInterface => IFNAMSIZ,
                Field::Protocol => 1,
                Field::Port => 2,
            };
            writer.nest(LIST_ELEMENT, |writer| writer.be32(FIELD_LENGTH, length));
        }
    });
}

/// NFTA_SET_DESC_CONCAT and NFTA_SET_FIELD_LEN, Linux 5.6.
const DESCRIPTION_FIELDS: u16 = 2;
const FIELD_LENGTH: u16 = 1;
/// NFTA_EXPR_DATA.
const EXPRESSION_DATA: u16 = 2;
/// NFTA_SET_EXPR and, Linux 5.11, NFTA_SET_EXPRESSIONS: what each element does besides, such as counting. Not in libc.
pub const SET_EXPRESSION: u16 = 17;
/// NFT_SET_CONCAT, Linux 5.6; not in libc.
const CONCATENATION: u32 = 0x80;
/// NFT_DATA_VERDICT.
const VERDICT: u32 = 0xffff_ff00;
/// nft's numbers for its types (datatype.h of nftables); the kernel only keeps them. Those of a concatenation follow each
/// other, six bits each.
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const IFNAME: u32 = 41;
/// The bytes of an interface's name.
const IFNAMSIZ: u32 = libc::IFNAMSIZ as u32;

/// What the kernel keeps of a set besides its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// NFT_SET_*.
    pub flags: u32,
    /// nft's number for the type of its keys.
    pub key_type: u32,
    /// The bytes of a key.
    pub key_length: u32,
    /// nft's number for the type of what keys lead to, and its bytes; none are told of a verdict.
    pub data: Option<(u32, u32)>,
    /// Each element counts.
    pub counts: bool,
}

impl Shape {
    /// That of a set of ours.
    pub fn of(name: SetName) -> Self {
        let address = match name.family {
            Family::V4 => (7, 4),
            Family::V6 => (8, 16),
        };
        let interval = libc::NFT_SET_INTERVAL as u32;
        let Some(ports) = name.ports() else {
            let flags = if name.has_blocks() { 0 } else { interval };
            return Shape { flags, key_type: address.0, key_length: address.1, data: None, counts: false };
        };
        let field = |field: &Field| match field {
            Field::Saddr | Field::Daddr | Field::Daddrs => address,
            Field::OutInterface => (IFNAME, IFNAMSIZ),
            Field::Protocol => (INET_PROTO, 4),
            Field::Port => (INET_SERVICE, 4),
        };
        let row = |row: &[(u32, u32)]| row.iter().fold((0, 0), |(kind, all), one| (kind << 6 | one.0, all + one.1));
        let (key_type, key_length) = row(&ports.key().iter().map(field).collect::<Vec<_>>());
        let data = match ports.data() {
            Data::Nothing => None,
            Data::Address => Some(address),
            Data::AddressAndPort => Some(row(&[address, (INET_SERVICE, 4)])),
            Data::Chain => Some((VERDICT, 0)),
        };
        let map = if ports.is_map() { libc::NFT_SET_MAP as u32 } else { 0 };
        let ranges = if ports.has_ranges() { interval | CONCATENATION } else { 0 };
        Shape { flags: map | ranges, key_type, key_length, data, counts: ports.counts() }
    }
}

fn elements(batch: &mut Batch, message: i32, flags: i32, table: TableName, name: SetName, list: &Content) -> usize {
    let mut count = 0;
    let mut push = |write: &dyn Fn(&mut Writer)| {
        count += 1;
        batch.push(message, flags, INET, |writer| {
            writer.text(ELEMENTS_TABLE, &table.to_string());
            writer.text(ELEMENTS_SET, &name.to_string());
            writer.nest(ELEMENTS_LIST, write);
        });
    };
    match (list, name.ports()) {
        (Content::Intervals(list), _) => list.chunks(INTERVALS_PER_MESSAGE).for_each(|chunk| {
            push(&|writer| {
                for (address, bound) in chunk.iter().flat_map(|one| bounds(*one, name)) {
                    element(writer, name, address, bound);
                }
            });
        }),
        (Content::Ports(list), Some(ports)) => list.chunks(PORTS_PER_MESSAGE).for_each(|chunk| {
            push(&|writer| chunk.iter().for_each(|one| port_element(writer, ports, name.family, one)));
        }),
        (Content::Ports(_), None) => {}
    }
    count
}

/// The elements that the kernel keeps for one of a list.
pub fn bounds(interval: Interval, name: SetName) -> impl Iterator<Item = (u128, Bound)> {
    let count = if name.has_blocks() { 1 } else { 2 };
    interval::bounds(interval, name.family).take(count)
}

/// Writes an element of port forwards into a list.
pub fn port_element(writer: &mut Writer, ports: PortSet, family: Family, one: &PortElement) {
    let [first, last] = one.key_bytes(ports, family);
    writer.nest(LIST_ELEMENT, |writer| {
        writer.nest(ELEMENT_KEY, |writer| writer.raw(DATA_VALUE, &first));
        if ports.has_ranges() {
            writer.nest(ELEMENT_KEY_END, |writer| writer.raw(DATA_VALUE, &last));
        }
        match one.then {
            Then::Nothing => {}
            Then::To(..) => {
                writer.nest(ELEMENT_DATA, |writer| writer.raw(DATA_VALUE, &one.data_bytes(family)));
            }
            Then::Goto(chain) => writer.nest(ELEMENT_DATA, |writer| write_goto(writer, &chain.to_string())),
        }
    });
}

/// Writes one element into a list.
pub fn element(writer: &mut Writer, name: SetName, address: u128, bound: Bound) {
    let width = interval::width(name.family);
    writer.nest(LIST_ELEMENT, |writer| {
        if bound == Bound::End {
            writer.be32(ELEMENT_FLAGS, libc::NFT_SET_ELEM_INTERVAL_END as u32);
        }
        writer.nest(ELEMENT_KEY, |writer| writer.raw(DATA_VALUE, &address.to_be_bytes()[16 - width..]));
    });
}

/// Says which change was refused, and sorts the reason. What became of the changes is for the caller to say.
pub fn explain(refusal: BatchRefusal, transaction: &Transaction, owners: &[usize]) -> Error {
    let table = transaction.table;
    if refusal.is_silence() {
        let message =
            format!("no answer to a change of table inet {table}: {refusal}; the next check shows whether it was made");
        return Error::new(ErrorKind::Busy, message).with_source(refusal);
    }
    let owner = refused(&refusal, transaction, owners);
    let errno = refusal.error.raw_os_error();
    let (kind, why) = sort(errno, owner);
    let what = owner.map_or("the batch".to_owned(), describe);
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    Error::new(kind, format!("the kernel refused {what} in table inet {table}: {refusal}{why}")).with_source(refusal)
}

/// The change that was refused; `None` when it was the transaction as a whole.
pub fn refused<'a>(refusal: &BatchRefusal, transaction: &'a Transaction, owners: &[usize]) -> Option<&'a Change> {
    let number = refusal.message.and_then(|number| owners.get(number - 1))?;
    transaction.changes.get(*number)
}

/// True when the rule set is of another generation than the batch was written for.
pub fn is_late(refusal: &BatchRefusal) -> bool {
    refusal.error.raw_os_error() == Some(ERESTART)
}

/// A change in few words, however many elements it has.
fn describe(change: &Change) -> String {
    match change {
        Change::AddTable(_) => "to make the table".to_owned(),
        Change::DeleteTable => "to delete the table".to_owned(),
        Change::AddSet(name) => format!("{} {name}", name.kind()),
        Change::FlushSet(name) => format!("to empty {} {name}", name.kind()),
        Change::DeleteSet(name) => format!("to delete {} {name}", name.kind()),
        Change::AddElements(name, list) => format!("{} new elements of {} {name}", list.len(), name.kind()),
        Change::DeleteElements(name, list) => format!("to delete {} elements of {} {name}", list.len(), name.kind()),
        Change::AddChain(name, _) => format!("chain {name}"),
        Change::FlushChain(name) => format!("to empty chain {name}"),
        Change::DeleteChain(name) => format!("to delete chain {name}"),
        Change::AddRule(name, rule) => format!("the rule '{rule}' of chain {name}"),
        Change::FlushStranger(name) => format!("to empty chain '{}'", shown(name)),
        Change::DeleteStranger(one) => format!("to delete {one}"),
        Change::PutGuard => "to pass connection tracking by".to_owned(),
        Change::DeleteGuard => "to end what passes connection tracking by".to_owned(),
    }
}

/// What an errno of a batch means, where it means more than its own words.
fn sort(errno: Option<i32>, change: Option<&Change>) -> (ErrorKind, Option<&'static str>) {
    match (errno, change) {
        (Some(ERESTART), _) => (ErrorKind::Busy, Some("another program changed the rule set meanwhile")),
        (Some(libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ENOBUFS), _) => (ErrorKind::Busy, None),
        (Some(libc::EPERM), None) => (ErrorKind::Permission, Some("CAP_NET_ADMIN is missing")),
        (Some(libc::EPERM), Some(_)) => (ErrorKind::Refused, Some("the table is owned by another live process")),
        (Some(libc::EOPNOTSUPP | libc::EINVAL), Some(Change::AddTable(flags))) if flags.0 != 0 => {
            (ErrorKind::Unsupported, Some("tableOwner: persist needs Linux 6.9"))
        }
        (Some(libc::ENOENT | libc::EOPNOTSUPP), Some(Change::AddChain(_, Some(_)))) => {
            (ErrorKind::Unsupported, Some("nat chains of the inet family need Linux 5.2 and the module nft_chain_nat"))
        }
        (Some(libc::ENOENT | libc::EOPNOTSUPP), Some(Change::AddRule(..))) => {
            (ErrorKind::Unsupported, Some("this kernel lacks an expression that the rule needs"))
        }
        (Some(libc::ENOENT | libc::EOPNOTSUPP), Some(Change::AddSet(_))) => {
            (ErrorKind::Unsupported, Some("this kernel has no such sets; those of portForwards need Linux 5.6"))
        }
        (Some(libc::EINVAL), None) => (ErrorKind::Unsupported, Some("this kernel has no nf_tables")),
        (Some(libc::EEXIST), Some(Change::AddTable(_))) => {
            (ErrorKind::Foreign, Some("another program has a table of that name"))
        }
        (Some(libc::EEXIST), Some(Change::AddElements(..))) => (ErrorKind::Refused, Some("elements overlap")),
        _ => (ErrorKind::Refused, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nftables::rules::interval::Interval;
    use crate::ruleset::{Effect, ListId, ListKey, SectionId};
    use std::io;

    const SET: SetName = SetName::new(ListId { section: SectionId::Top, key: ListKey::Exempt }, Family::V6);

    fn transaction(changes: Vec<Change>) -> Transaction {
        Transaction { table: TableName::Main, changes }
    }

    fn refusal(errno: i32, message: Option<usize>) -> BatchRefusal {
        BatchRefusal { message, error: io::Error::from_raw_os_error(errno), bytes: None }
    }

    #[test]
    fn a_large_set_takes_several_messages_of_one_change() {
        let list: Vec<_> = (0..2000).map(|first| Interval { first: first * 2, last: first * 2 }).collect();
        let changes =
            [Change::AddSet(SET), Change::AddElements(SET, Content::Intervals(list.into())), Change::FlushSet(SET)];
        let (_, owners) = write(&transaction(changes.into()), 1);
        assert_eq!(owners, [0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_refusal_names_the_object_and_its_kind() {
        let rule = Rule::new(Vec::new(), Effect::Return, "a reason");
        let hook = Some(HookSpec { priority: 150, accepts: true });
        let changes = [
            Change::AddTable(TableFlags::PERSISTENT),
            Change::AddChain(ChainName::POSTROUTING, hook),
            Change::AddRule(ChainName::first(Hook::Postrouting, Family::V4), rule),
            Change::AddElements(SET, Content::Intervals([Interval { first: 1, last: 2 }].into())),
            Change::AddSet(SET),
        ];
        let (transaction, owners) = (transaction(changes.into()), [0, 1, 2, 3, 4]);
        let cases = [
            (libc::EPERM, None, ErrorKind::Permission, "CAP_NET_ADMIN"),
            (libc::EPERM, Some(1), ErrorKind::Refused, "another live process"),
            (libc::EOPNOTSUPP, Some(1), ErrorKind::Unsupported, "Linux 6.9"),
            (libc::ENOENT, Some(2), ErrorKind::Unsupported, "nft_chain_nat"),
            (libc::ENOENT, Some(3), ErrorKind::Unsupported, "'counter return comment"),
            (libc::EEXIST, Some(4), ErrorKind::Refused, "1 new elements of set exempt6"),
            (libc::EOPNOTSUPP, Some(5), ErrorKind::Unsupported, "those of portForwards need Linux 5.6"),
            (libc::ENOENT, Some(5), ErrorKind::Unsupported, "refused set exempt6 in table"),
            (libc::EEXIST, Some(5), ErrorKind::Refused, "refused set exempt6 in table"),
            (libc::EINVAL, None, ErrorKind::Unsupported, "no nf_tables"),
            (libc::ENOBUFS, None, ErrorKind::Busy, "whether it was made"),
            (libc::ENOBUFS, Some(4), ErrorKind::Busy, "1 new elements"),
            (libc::EBUSY, Some(2), ErrorKind::Busy, "chain postrouting"),
            (85, None, ErrorKind::Busy, "another program changed"),
            (libc::ENOMEM, Some(99), ErrorKind::Refused, "the batch"),
        ];
        for (errno, message, kind, words) in cases {
            let error = explain(refusal(errno, message), &transaction, &owners);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}
