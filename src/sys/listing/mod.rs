//! A tolerant decoder for rules that others wrote: what it knows it says, what it does not know it names.
//!
//! An expression of nf_tables is said in the words of `nft list ruleset`; an extension of iptables, which nf_tables
//! only carries, in those of `iptables-save`. `…` stands for what is not understood. Layouts:
//! `linux/netfilter/nf_tables.h`. Nothing here is ever written back.

#![forbid(unsafe_code)]

mod extension;
mod field;
mod fields;
mod held;
mod nat;
pub mod set;
pub mod tracking;
mod words;

use crate::sys::nfnetlink::message::{Attribute, Attributes, Malformed, Message};
use set::NfSet;

/// The parts of a chain that say where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfChain {
    /// `nfgen_family`: 1 inet, 2 ip, 5 netdev, 10 ip6.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// `nat`, `filter`, `route`; empty for a chain that is only jumped to.
    pub kind: String,
    /// NF_INET_*, of a base chain; NF_NETDEV_* of one of a netdev table.
    pub hook: Option<u32>,
    /// The interfaces of a base chain that is of interfaces.
    pub devices: Vec<String>,
    pub priority: i32,
    /// Its policy is drop.
    pub drops: bool,
}

impl NfChain {
    /// True for a nat chain at any hook.
    pub fn is_nat(&self) -> bool {
        self.kind == "nat" && self.hook.is_some()
    }

    /// True for a nat chain at the hook where sources are rewritten.
    pub fn is_nat_postrouting(&self) -> bool {
        self.is_nat() && self.hook == Some(NF_INET_POST_ROUTING)
    }
}

/// One rule in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfRule {
    /// The rule in words; `…` for what is not understood.
    pub text: String,
    /// The comment, where it has one.
    pub comment: Option<String>,
}

/// What rules name by number, or by a name that says nothing.
pub trait References {
    /// The name of an interface.
    fn interface(&mut self, index: u32) -> Option<String>;
    /// The name of an ipset.
    fn ipset(&mut self, index: u16) -> Option<String>;
    /// A set or map of the rule's table, with its elements if it is anonymous.
    fn set(&mut self, name: &str) -> Option<&NfSet>;
}

/// Nothing that is referred to is known.
impl References for () {
    fn interface(&mut self, _index: u32) -> Option<String> {
        None
    }

    fn ipset(&mut self, _index: u16) -> Option<String> {
        None
    }

    fn set(&mut self, _name: &str) -> Option<&NfSet> {
        None
    }
}

/// linux/netfilter.h.
const NF_INET_POST_ROUTING: u32 = 4;
const NF_DROP: u32 = 0;
/// The family of a table for IPv4 and IPv6.
pub const INET: u8 = libc::NFPROTO_INET as u8;
/// The family of a table for interfaces.
pub const NETDEV: u8 = libc::NFPROTO_NETDEV as u8;

/// Reads an NFT_MSG_NEWCHAIN.
///
/// # Errors
/// When it is malformed.
pub fn chain(message: &Message<'_>) -> Result<NfChain, Malformed> {
    let family = message.payload.first().copied().ok_or(Malformed("a chain without its family"))?;
    let mut chain = NfChain {
        family,
        table: String::new(),
        name: String::new(),
        kind: String::new(),
        hook: None,
        devices: Vec::new(),
        priority: 0,
        drops: false,
    };
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            1 => chain.table = attribute.text(),
            3 => chain.name = attribute.text(),
            4 => {
                chain.hook = number(&attribute.nested(), 1)?;
                chain.priority = number(&attribute.nested(), 2)?.unwrap_or_default().cast_signed();
                chain.devices = devices(&attribute.nested())?;
            }
            5 => chain.drops = attribute.be32()? == NF_DROP,
            7 => chain.kind = attribute.text(),
            _ => {}
        }
    }
    Ok(chain)
}

/// NFTA_HOOK_DEV and NFTA_HOOK_DEVS.
fn devices(hook: &Attributes<'_>) -> Result<Vec<String>, Malformed> {
    let mut devices = Vec::new();
    for attribute in hook.clone() {
        let attribute = attribute?;
        match attribute.kind {
            3 => devices.push(attribute.text()),
            4 => {
                for device in attribute.nested() {
                    devices.push(device?.text());
                }
            }
            _ => {}
        }
    }
    devices.sort();
    devices.dedup();
    Ok(devices)
}

/// Reads an NFT_MSG_NEWRULE.
///
/// # Errors
/// When it is malformed; an expression that is not known is no error.
pub fn rule(message: &Message<'_>, references: &mut dyn References) -> Result<NfRule, Malformed> {
    let family = message.payload.first().copied().ok_or(Malformed("a rule without its family"))?;
    let mut words = words::Words::new(family, references);
    let mut comment = None;
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            4 => {
                for element in attribute.nested() {
                    words.expression(element?.nested())?;
                }
            }
            7 => comment = userdata_comment(attribute.value),
            _ => {}
        }
    }
    let (text, words_comment) = words.finish();
    Ok(NfRule { text, comment: comment.or(words_comment) })
}

/// libnftnl's type-length-value userdata: type 0 is the comment.
fn userdata_comment(mut bytes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(until_nul(value));
        }
        bytes = &rest[usize::from(*length)..];
    }
    None
}

fn until_nul(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn number(attributes: &Attributes<'_>, kind: u16) -> Result<Option<u32>, Malformed> {
    attributes.clone().find(kind)?.map(|attribute| attribute.be32()).transpose()
}

fn text(attributes: &Attributes<'_>, kind: u16) -> Result<String, Malformed> {
    Ok(attributes.clone().find(kind)?.map(|attribute| attribute.text()).unwrap_or_default())
}

/// The bytes of NFTA_DATA_VALUE in the attribute of a kind.
fn value<'a>(attributes: &Attributes<'a>, kind: u16) -> Result<&'a [u8], Malformed> {
    attributes.clone().find(kind)?.map_or(Ok(&[][..]), data_value)
}

fn data_value(data: Attribute<'_>) -> Result<&[u8], Malformed> {
    Ok(data.nested().find(1)?.map(|value| value.value).unwrap_or_default())
}

/// NFTA_DATA_VERDICT in words.
fn verdict(data: &Attributes<'_>) -> Result<Option<String>, Malformed> {
    let Some(verdict) = data.clone().find(2)? else { return Ok(None) };
    let chain = text(&verdict.nested(), 2)?;
    Ok(Some(match number(&verdict.nested(), 1)?.map(u32::cast_signed) {
        Some(0) => "drop".to_owned(),
        Some(1) => "accept".to_owned(),
        Some(-1) => "continue".to_owned(),
        Some(-3) => format!("jump {chain}"),
        Some(-4) => format!("goto {chain}"),
        Some(-5) => "return".to_owned(),
        _ => "…".to_owned(),
    }))
}
