//! What moves when the rules of one table are changed and does not when another table is: cheap enough to be asked each
//! time that anybody commits.

use super::message::{Attribute, Malformed, Message, Writer};
use super::{Consistency, Nfnetlink, Request, is_passing};
use std::hash::{DefaultHasher, Hasher};
use std::io;

/// How often a reading that a commit spoiled is tried again.
const ATTEMPTS: usize = 4;
/// `enum nft_*_attributes` of linux/netfilter/nf_tables.h.
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;
const CHAIN_TABLE: u16 = 1;
const CHAIN_HANDLE: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_USE: u16 = 6;
const CHAIN_COUNTERS: u16 = 8;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const SET_TABLE: u16 = 1;

/// A digest of a table of the inet family: its flags, chains, sets with their sizes, and rules; 0 when it is not there.
///
/// # Errors
/// When the kernel can't be asked.
pub fn table(netlink: &mut Nfnetlink, name: &str) -> io::Result<u64> {
    let inet = libc::NFPROTO_INET as u8;
    let mut digest = DefaultHasher::new();
    let request = Request { message: libc::NFT_MSG_GETTABLE, family: inet };
    let answer = netlink.get(
        request,
        |writer| writer.text(TABLE_NAME, name),
        |message| add(message, &mut digest, |kind| matches!(kind, TABLE_FLAGS | TABLE_USE)),
    );
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(0),
        other => other?,
    }
    let sets = Request { message: libc::NFT_MSG_GETSET, family: inet };
    netlink.dump(sets, |writer| writer.text(SET_TABLE, name), |message| add(message, &mut digest, |_| true))?;
    let chain = Request { message: libc::NFT_MSG_GETCHAIN, family: inet };
    let mut named = Vec::new();
    digest.write_u64(rules(netlink, inet, name, |chain| {
        if named.last().is_none_or(|last| last != chain) {
            named.push(chain.to_owned());
        }
        true
    })?);
    // A chain without rules is none of ours, and shows in the number of things in the table.
    for one in named {
        let body = |writer: &mut Writer| {
            writer.text(CHAIN_TABLE, name);
            writer.text(CHAIN_NAME, &one);
        };
        let counts = |kind| !matches!(kind, CHAIN_HANDLE | CHAIN_USE | CHAIN_COUNTERS);
        netlink.get(chain, body, |message| add(message, &mut digest, counts))?;
    }
    Ok(digest.finish())
}

/// A digest of the rules in some chains of a table: what they say and their order, not what they counted. A reading that
/// a commit disturbed counts when the next one is the same.
///
/// # Errors
/// When the kernel can't be asked.
pub fn rules(
    netlink: &mut Nfnetlink,
    family: u8,
    table: &str,
    mut is_wanted: impl FnMut(&str) -> bool,
) -> io::Result<u64> {
    let mut earlier = None;
    for _ in 0..ATTEMPTS {
        let mut digest = DefaultHasher::new();
        let answer = netlink.dump(
            Request { message: libc::NFT_MSG_GETRULE, family },
            |writer| writer.text(RULE_TABLE, table),
            |message| {
                let chain = message.attributes()?.find(RULE_CHAIN)?.map(|chain| chain.text()).unwrap_or_default();
                if is_wanted(&chain) { add_rule(message, &mut digest) } else { Ok(()) }
            },
        );
        match answer {
            Ok(consistency) => {
                let found = digest.finish();
                if consistency == Consistency::Whole || earlier == Some(found) {
                    return Ok(found);
                }
                earlier = Some(found);
            }
            // The table is not there.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(0),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "others kept changing the rules while they were read"))
}

fn add(message: &Message<'_>, digest: &mut DefaultHasher, counts: impl Fn(u16) -> bool) -> Result<(), Malformed> {
    for attribute in message.attributes()? {
        let attribute = attribute?;
        if counts(attribute.kind) {
            add_attribute(&attribute, digest);
        }
    }
    Ok(())
}

fn add_rule(message: &Message<'_>, digest: &mut DefaultHasher) -> Result<(), Malformed> {
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            RULE_CHAIN | RULE_USERDATA => add_attribute(&attribute, digest),
            RULE_EXPRESSIONS => {
                for expression in attribute.nested() {
                    let expression = expression?;
                    let name = expression.nested().find(EXPRESSION_NAME)?;
                    if name.is_none_or(|name| name.text() != "counter") {
                        add_attribute(&expression, digest);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn add_attribute(attribute: &Attribute<'_>, digest: &mut DefaultHasher) {
    digest.write_u16(attribute.kind);
    digest.write_usize(attribute.value.len());
    digest.write(attribute.value);
}
