//! Which rules need connection tracking: those for which the kernel counts a user of it (`nf_ct_netns_get`).

use super::{Malformed, number, text};
use crate::sys::nfnetlink::message::{Attributes, Message};

/// A rule that needs connection tracking, by where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `nfgen_family` of its table.
    pub family: u8,
    pub table: String,
    pub chain: String,
}

/// Reads an NFT_MSG_NEWRULE; `None` when the rule does not need connection tracking.
///
/// # Errors
/// When it is malformed.
pub fn user(message: &Message<'_>) -> Result<Option<User>, Malformed> {
    let family = message.payload.first().copied().ok_or(Malformed("a rule without its family"))?;
    let attributes = message.attributes()?;
    let Some(expressions) = attributes.clone().find(4)? else { return Ok(None) };
    let needs = any(expressions.nested())?;
    Ok(needs.then_some(User { family, table: text(&attributes, 1)?, chain: text(&attributes, 2)? }))
}

fn any(expressions: Attributes<'_>) -> Result<bool, Malformed> {
    for expression in expressions {
        if needs(&expression?.nested())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn needs(expression: &Attributes<'_>) -> Result<bool, Malformed> {
    let data = expression.clone().find(2)?.map_or(Attributes(&[]), |data| data.nested());
    Ok(match text(expression, 1)?.as_str() {
        "ct" | "nat" | "masq" | "redir" | "connlimit" | "flow_offload" | "synproxy" => true,
        "match" | "target" => {
            let info = data.clone().find(3)?.map_or(&[][..], |info| info.value);
            extension(&text(&data, 1)?, info)
        }
        // NFT_OBJECT_*: ct helper, connection limit, ct timeout, ct expectation, synproxy.
        "objref" => matches!(number(&data, 1)?, Some(3 | 5 | 7 | 9 | 10)),
        // What each new element of a set gets: one expression, or since Linux 5.11 a list of them.
        "dynset" => {
            let one = data.clone().find(7)?.map_or(Ok(false), |one| needs(&one.nested()))?;
            one || data.find(10)?.map_or(Ok(false), |list| any(list.nested()))?
        }
        _ => false,
    })
}

/// The same of a match or target of iptables, whose own data are `info`.
pub fn extension(name: &str, info: &[u8]) -> bool {
    const NOTRACK: u16 = 1;
    match name {
        "conntrack" | "state" | "connmark" | "connbytes" | "connlabel" | "connlimit" | "helper" | "cluster" => true,
        "MASQUERADE" | "SNAT" | "DNAT" | "NETMAP" | "REDIRECT" => true,
        "CONNMARK" | "CONNSECMARK" | "SYNPROXY" => true,
        // `struct xt_ct_target_info` begins with its flags; without tracking a packet, none is needed.
        "CT" => info.first_chunk().is_some_and(|flags| u16::from_ne_bytes(*flags) & NOTRACK == 0),
        _ => false,
    }
}
