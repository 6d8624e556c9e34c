//! A tolerant decoder for rules that others wrote: what it knows it says in nft's words, what it does not know it names.
//!
//! Layouts: `linux/netfilter/nf_tables.h`. Nothing here is ever written back.

use crate::host::nfnetlink::message::{Attribute, Attributes, Malformed, Message};
use std::collections::HashMap;
use std::net::IpAddr;

/// The parts of a chain that say where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `nfgen_family`: 1 inet, 2 ip, 10 ip6.
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub name: String,
    /// The priority, for a nat chain at the postrouting hook; `None` for every other chain.
    pub nat_postrouting_priority: Option<i32>,
}

/// One rule in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The rule in nft's words; `…` for what is not understood.
    pub text: String,
    /// The comment, where it has one.
    pub comment: Option<String>,
}

const NAT_POSTROUTING: u32 = 4;

/// Reads an NFT_MSG_NEWCHAIN.
///
/// # Errors
/// When it is malformed.
pub fn chain(message: &Message<'_>) -> Result<Chain, Malformed> {
    let family = message.payload.first().copied().ok_or(Malformed("a chain without its family"))?;
    let (mut table, mut name, mut kind, mut hook) = (String::new(), String::new(), String::new(), None);
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            1 => table = attribute.text(),
            3 => name = attribute.text(),
            4 => hook = Some(attribute.nested()),
            7 => kind = attribute.text(),
            _ => {}
        }
    }
    let mut priority = None;
    if let Some(hook) = hook
        && kind == "nat"
        && number(hook.clone(), 1)? == Some(NAT_POSTROUTING)
    {
        priority = number(hook, 2)?.map(u32::cast_signed);
    }
    Ok(Chain { family, table, name, nat_postrouting_priority: priority })
}

fn number(attributes: Attributes<'_>, kind: u16) -> Result<Option<u32>, Malformed> {
    attributes.find(kind)?.map(|attribute| attribute.be32()).transpose()
}

/// Reads an NFT_MSG_NEWRULE.
///
/// # Errors
/// When it is malformed; an expression that is not known is no error.
pub fn rule(message: &Message<'_>) -> Result<Rule, Malformed> {
    let mut words = Words::default();
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
    Ok(Rule { text: words.said.join(" "), comment: comment.or(words.comment) })
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

/// What a register holds, as far as later expressions are put into words with it.
#[derive(Debug, Clone)]
struct Loaded {
    word: &'static str,
    mask: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Words {
    said: Vec<String>,
    comment: Option<String>,
    registers: HashMap<u32, Loaded>,
}

impl Words {
    fn expression(&mut self, expression: Attributes<'_>) -> Result<(), Malformed> {
        let name = expression.clone().find(1)?.map(|name| name.text()).unwrap_or_default();
        let data = expression.find(2)?.map(|data| data.nested()).unwrap_or(Attributes(&[]));
        match name.as_str() {
            "counter" => {}
            "meta" => self.load(&data, 1, meta_word(number(data.clone(), 2)?))?,
            "payload" => self.load(&data, 1, payload_word(&data)?)?,
            "fib" => self.load(&data, 1, "fib")?,
            "ct" => self.load(&data, 1, "ct")?,
            "bitwise" => self.bitwise(&data)?,
            "cmp" => self.compare(&data)?,
            "lookup" => self.lookup(&data)?,
            "immediate" => self.verdict(&data)?,
            "match" => self.xt_match(&data)?,
            "target" => self.said.push(data.find(1)?.map(|name| name.text()).unwrap_or_default()),
            "masq" => self.said.push("masquerade".to_owned()),
            "nat" => self.said.push(if number(data, 1)? == Some(0) { "snat" } else { "dnat" }.to_owned()),
            "" => return Err(Malformed("an expression without a name")),
            other => self.said.push(format!("{other} …")),
        }
        Ok(())
    }

    fn load(&mut self, data: &Attributes<'_>, register: u16, word: &'static str) -> Result<(), Malformed> {
        if let Some(register) = number(data.clone(), register)? {
            self.registers.insert(register, Loaded { word, mask: None });
        }
        Ok(())
    }

    fn bitwise(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let (Some(from), Some(to)) = (number(data.clone(), 1)?, number(data.clone(), 2)?) else { return Ok(()) };
        let mask = data.clone().find(4)?.map(value).transpose()?.map(<[u8]>::to_vec);
        if let Some(loaded) = self.registers.get(&from).cloned() {
            self.registers.insert(to, Loaded { mask, ..loaded });
        }
        Ok(())
    }

    fn compare(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let loaded = number(data.clone(), 1)?.and_then(|register| self.registers.get(&register));
        let value = data.clone().find(3)?.map(value).transpose()?.unwrap_or_default();
        let operator = match number(data.clone(), 2)? {
            Some(0) | None => "",
            Some(1) => "!= ",
            Some(_) => "… ",
        };
        let said = match loaded {
            Some(loaded) => format!("{} {operator}{}", loaded.word, shown(loaded, value)),
            None => "…".to_owned(),
        };
        self.said.push(said);
        Ok(())
    }

    fn lookup(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let word =
            number(data.clone(), 2)?.and_then(|register| self.registers.get(&register)).map(|loaded| loaded.word);
        let not = if number(data.clone(), 5)?.is_some_and(|flags| flags & 1 == 1) { "!= " } else { "" };
        let set = data.clone().find(1)?.map(|set| set.text()).unwrap_or_default();
        self.said.push(format!("{} {not}@{set}", word.unwrap_or("…")));
        Ok(())
    }

    fn verdict(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let Some(verdict) = data.clone().find(2)?.map(|data| data.nested().find(2)).transpose()?.flatten() else {
            return Ok(());
        };
        let chain = verdict.nested().find(2)?.map(|chain| chain.text()).unwrap_or_default();
        self.said.push(match number(verdict.nested(), 1)?.map(u32::cast_signed) {
            Some(0) => "drop".to_owned(),
            Some(1) => "accept".to_owned(),
            Some(-3) => format!("jump {chain}"),
            Some(-4) => format!("goto {chain}"),
            Some(-5) => "return".to_owned(),
            _ => "…".to_owned(),
        });
        Ok(())
    }

    fn xt_match(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let name = data.clone().find(1)?.map(|name| name.text()).unwrap_or_default();
        if name == "comment" {
            self.comment = data.clone().find(3)?.map(|info| until_nul(info.value));
        } else {
            self.said.push(format!("{name} …"));
        }
        Ok(())
    }
}

/// The bytes of NFTA_DATA_VALUE.
fn value(data: Attribute<'_>) -> Result<&[u8], Malformed> {
    Ok(data.nested().find(1)?.map(|value| value.value).unwrap_or_default())
}

/// `enum nft_meta_keys`.
fn meta_word(key: Option<u32>) -> &'static str {
    match key {
        Some(3) => "mark",
        Some(4) => "iif",
        Some(5) => "oif",
        Some(6) => "iifname",
        Some(7) => "oifname",
        Some(15) => "nfproto",
        Some(16) => "l4proto",
        _ => "meta",
    }
}

fn payload_word(data: &Attributes<'_>) -> Result<&'static str, Malformed> {
    let field = (number(data.clone(), 2)?, number(data.clone(), 3)?, number(data.clone(), 4)?);
    Ok(match field {
        (Some(1), Some(12), Some(1..=4)) => "ip saddr",
        (Some(1), Some(16), Some(1..=4)) => "ip daddr",
        (Some(1), Some(8), Some(1..=16)) => "ip6 saddr",
        (Some(1), Some(24), Some(1..=16)) => "ip6 daddr",
        (Some(2), Some(0), Some(2)) => "sport",
        (Some(2), Some(2), Some(2)) => "dport",
        _ => "payload",
    })
}

fn shown(loaded: &Loaded, value: &[u8]) -> String {
    match loaded.word {
        "iifname" | "oifname" => match value.contains(&0) {
            true => format!("\"{}\"", until_nul(value)),
            false => format!("\"{}*\"", until_nul(value)),
        },
        "ip saddr" | "ip daddr" => address::<4>(loaded, value),
        "ip6 saddr" | "ip6 daddr" => address::<16>(loaded, value),
        "sport" | "dport" => match value {
            [high, low] => u16::from_be_bytes([*high, *low]).to_string(),
            _ => hexadecimal(value),
        },
        "l4proto" => match value.first() {
            Some(6) => "tcp".to_owned(),
            Some(17) => "udp".to_owned(),
            other => other.map(u8::to_string).unwrap_or_default(),
        },
        _ => hexadecimal(value),
    }
}

/// A prefix: what nft compares is as long as the prefix in whole bytes, or masked.
fn address<const N: usize>(loaded: &Loaded, value: &[u8]) -> String
where
    IpAddr: From<[u8; N]>,
{
    let mut bytes = [0; N];
    if value.len() > N {
        return hexadecimal(value);
    }
    bytes[..value.len()].copy_from_slice(value);
    let length = match &loaded.mask {
        Some(mask) => mask.iter().map(|byte| byte.count_ones()).sum(),
        None => 8 * value.len() as u32,
    };
    format!("{}/{length}", IpAddr::from(bytes))
}

fn hexadecimal(value: &[u8]) -> String {
    value.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
