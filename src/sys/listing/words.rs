//! One rule, expression by expression: what is loaded into which register, and what is said of it.

use super::field::{Field, Kind, Order, raw};
use super::fields::{self, Place};
use super::held::{Held, Mapped, slot, slots};
use super::{INET, Malformed, NETDEV, References, data_value, extension, nat, number, text, until_nul, value, verdict};
use crate::sys::nfnetlink::message::Attributes;
use std::collections::HashMap;

/// A protocol that an earlier comparison fixed, and where that was said.
#[derive(Debug, Clone, Copy, Default)]
struct Fixed {
    number: Option<u64>,
    said_at: Option<usize>,
}

/// The words for one rule, as far as it was read.
pub struct Words<'a> {
    references: &'a mut dyn References,
    /// Empty ones are left out at the end.
    said: Vec<String>,
    comment: Option<String>,
    registers: HashMap<u32, Held>,
    family: u8,
    network: Fixed,
    transport: Fixed,
    /// The lower end of a range, said already, whose upper end may come next.
    lower: Option<(u32, Vec<u8>)>,
}

/// The family of an EtherType.
fn network_of(ether_type: u64) -> Option<u64> {
    match ether_type {
        0x0800 => Some(libc::NFPROTO_IPV4 as u64),
        0x86dd => Some(libc::NFPROTO_IPV6 as u64),
        _ => None,
    }
}

impl<'a> Words<'a> {
    pub fn new(family: u8, references: &'a mut dyn References) -> Self {
        let network = Fixed { number: (![INET, NETDEV].contains(&family)).then_some(family.into()), said_at: None };
        Words {
            references,
            said: Vec::new(),
            comment: None,
            registers: HashMap::new(),
            family,
            network,
            transport: Fixed::default(),
            lower: None,
        }
    }

    /// The text and the comment.
    pub fn finish(self) -> (String, Option<String>) {
        let said: Vec<String> = self.said.into_iter().filter(|word| !word.is_empty()).collect();
        (if said.is_empty() { "counter".to_owned() } else { said.join(" ") }, self.comment)
    }

    pub fn expression(&mut self, expression: Attributes<'_>) -> Result<(), Malformed> {
        let name = text(&expression, 1)?;
        let data = expression.find(2)?.map(|data| data.nested()).unwrap_or(Attributes(&[]));
        let lower = self.lower.take();
        match name.as_str() {
            "counter" | "last" => {}
            "meta" => self.meta(&data)?,
            "ct" => self.ct(&data)?,
            "payload" => self.payload(&data)?,
            "fib" => self.load(&data, 1, fields::fib(&data)?)?,
            "rt" => self.load(&data, 1, fields::rt(number(&data, 2)?))?,
            "xfrm" => self.load(&data, 1, fields::ipsec(&data)?)?,
            "numgen" => self.numgen(&data)?,
            "hash" => self.hash(&data)?,
            "exthdr" | "osf" => self.load(&data, 1, Field::unknown(&name, 4))?,
            "socket" | "tunnel" => self.load(&data, 2, Field::unknown(&name, 4))?,
            "bitwise" => self.bitwise(&data)?,
            "byteorder" => self.byteorder(&data)?,
            "cmp" => self.compare(&data, lower)?,
            "range" => self.range(&data)?,
            "lookup" => self.lookup(&data)?,
            "immediate" => self.immediate(&data)?,
            "limit" => self.said.push(limit(&data)?),
            "quota" => self.said.push(quota(&data)?),
            "connlimit" => {
                let over = if number(&data, 2)? == Some(1) { "over " } else { "" };
                self.said.push(format!("ct count {over}{}", number(&data, 1)?.unwrap_or_default()));
            }
            "log" => self.said.push(log(&data)?),
            "notrack" => self.said.push("notrack".to_owned()),
            "match" => self.xt_match(&data)?,
            "target" => {
                let (name, revision) = (text(&data, 1)?, number(&data, 2)?.unwrap_or_default());
                let info = data.clone().find(3)?.map_or(&[][..], |info| info.value);
                self.said.push(extension::target(&name, revision, info, self.family));
            }
            "masq" | "redir" | "nat" => {
                let words = nat::statement(&name, &data, self.family, &self.registers, self.references)?;
                self.said.push(words);
            }
            "" => return Err(Malformed("an expression without a name")),
            other => self.said.push(format!("{other} …")),
        }
        Ok(())
    }

    /// Notes what an expression loads, where it loads anything.
    fn load(&mut self, data: &Attributes<'_>, register: u16, field: Field) -> Result<(), Malformed> {
        if let Some(register) = number(data, register)? {
            self.registers.insert(slot(register), Held::Field(field));
        }
        Ok(())
    }

    fn meta(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let field = fields::meta(number(data, 2)?);
        match number(data, 3)? {
            Some(source) => self.set(field, source),
            None => self.load(data, 1, field)?,
        }
        Ok(())
    }

    fn ct(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let field = fields::ct(data)?;
        match number(data, 4)? {
            Some(source) => self.set(field, source),
            None => self.load(data, 1, field)?,
        }
        Ok(())
    }

    fn set(&mut self, field: Field, source: u32) {
        let value = match self.registers.get(&slot(source)) {
            Some(Held::Value(bytes)) => field.value(bytes, self.references),
            Some(Held::Field(from)) => from.source(self.references),
            Some(Held::Mapped(mapped)) => {
                mapped.words(&|bytes, references| field.value(bytes, references), self.references)
            }
            None => "…".to_owned(),
        };
        self.said.push(format!("{} set {value}", field.name));
    }

    fn payload(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let (Some(base), Some(offset), Some(length)) = (number(data, 2)?, number(data, 3)?, number(data, 4)?) else {
            self.said.push("payload …".to_owned());
            return Ok(());
        };
        let place = Place { base, offset: offset as usize, length: length as usize };
        let field = fields::payload(place, self.network.number, self.transport.number);
        match number(data, 5)? {
            Some(source) => self.set(field, source),
            None => {
                // What has no name, only a place, implies nothing.
                if !field.name.starts_with('@') {
                    self.imply(base);
                }
                self.load(data, 1, field)?;
            }
        }
        Ok(())
    }

    /// A field of a protocol says by its name which protocol that is: what was said of it before is not repeated.
    fn imply(&mut self, base: u32) {
        let is_icmp = base == 2 && matches!(self.transport.number, Some(1 | 58));
        let mut unsay = |fixed: &mut Fixed| {
            if let Some(said) = fixed.said_at.take().and_then(|at| self.said.get_mut(at)) {
                said.clear();
            }
        };
        if base == 2 {
            unsay(&mut self.transport);
        }
        if base == 1 || is_icmp {
            unsay(&mut self.network);
        }
    }

    fn numgen(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let kind = if number(data, 3)? == Some(0) { "inc" } else { "random" };
        let name = format!("numgen {kind} mod {}{}", number(data, 2)?.unwrap_or_default(), offset(number(data, 4)?));
        self.load(data, 1, Field::new(name, 4, Kind::Number, Order::Host))
    }

    fn hash(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let modulus = number(data, 4)?.unwrap_or_default();
        let name = match (number(data, 7)?, number(data, 1)?) {
            (Some(1), _) => format!("symhash mod {modulus}"),
            (_, Some(source)) => {
                let length = number(data, 3)?.unwrap_or_default() as usize;
                let seed = number(data, 5)?.map(|seed| format!(" seed {seed:#x}")).unwrap_or_default();
                format!("jhash {} mod {modulus}{seed}", names(&self.fields(slot(source), length)))
            }
            _ => "hash …".to_owned(),
        };
        let name = name + &offset(number(data, 6)?);
        self.load(data, 2, Field::new(name, 4, Kind::Number, Order::Host))
    }

    fn bitwise(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let (Some(from), Some(to)) = (number(data, 1)?, number(data, 2)?) else { return Ok(()) };
        let is_mask = matches!(number(data, 6)?, None | Some(0));
        let Some(Held::Field(field)) = self.registers.get(&slot(from)) else { return Ok(()) };
        let mask = (value(data, 4)?.to_vec(), value(data, 5)?.to_vec());
        let changed = match (is_mask, &field.mask) {
            (true, None) => Field { mask: Some(mask), ..field.clone() },
            _ => Field::unknown(&field.name, field.length),
        };
        self.registers.insert(slot(to), Held::Field(changed));
        Ok(())
    }

    fn byteorder(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let (Some(from), Some(to)) = (number(data, 1)?, number(data, 2)?) else { return Ok(()) };
        let order = if number(data, 3)? == Some(1) { Order::Network } else { Order::Host };
        if let Some(Held::Field(field)) = self.registers.get(&slot(from)) {
            let field = Field { order, ..field.clone() };
            self.registers.insert(slot(to), Held::Field(field));
        }
        Ok(())
    }

    fn compare(&mut self, data: &Attributes<'_>, lower: Option<(u32, Vec<u8>)>) -> Result<(), Malformed> {
        let register = slot(number(data, 1)?.unwrap_or_default());
        let Some(Held::Field(field)) = self.registers.get(&register) else {
            self.said.push("…".to_owned());
            return Ok(());
        };
        let value = value(data, 3)?;
        let operator = ["", "!=", "<", "<=", ">", ">="].get(number(data, 2)?.unwrap_or_default() as usize);
        match (operator, lower) {
            (None, _) => self.said.push(format!("{} …", field.name)),
            (Some(&"<="), Some((same, from))) if same == register => {
                let range = field.range(&from, value, self.references);
                self.said.pop();
                self.said.push(format!("{} {range}", field.source(self.references)));
            }
            (Some(operator), _) => {
                self.said.push(field.compared(operator, value, self.references));
                match *operator {
                    ">=" => self.lower = Some((register, value.to_vec())),
                    "" => self.fix(register, value),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Remembers which protocol the packet must have from here on.
    fn fix(&mut self, register: u32, value: &[u8]) {
        let Some(Held::Field(field)) = self.registers.get(&register) else { return };
        if field.mask.is_some() {
            return;
        }
        let number = field.number(value);
        let said_at = self.said.len().checked_sub(1);
        match field.name.as_str() {
            "meta nfproto" => self.network = Fixed { number, said_at },
            "meta protocol" => self.network = Fixed { number: number.and_then(network_of), said_at },
            "meta l4proto" => self.transport = Fixed { number, said_at },
            "ip protocol" | "ip6 nexthdr" => {
                // It says the family, too, where the table does not.
                let said_at = said_at.filter(|_| ![INET, NETDEV].contains(&self.family));
                self.transport = Fixed { number, said_at };
            }
            _ => {}
        }
    }

    fn range(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let not = if number(data, 2)? == Some(1) { "!= " } else { "" };
        let Some(Held::Field(field)) = self.registers.get(&slot(number(data, 1)?.unwrap_or_default())) else {
            self.said.push("…".to_owned());
            return Ok(());
        };
        let range = field.range(value(data, 3)?, value(data, 4)?, self.references);
        self.said.push(format!("{} {not}{range}", field.source(self.references)));
        Ok(())
    }

    fn lookup(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let map = text(data, 1)?;
        let length = self.references.set(&map).map_or(0, |set| set.key_length);
        let key = self.fields(slot(number(data, 2)?.unwrap_or_default()), length);
        if key.is_empty() {
            self.said.push("…".to_owned());
            return Ok(());
        }
        let not = if number(data, 5)?.is_some_and(|flags| flags & 1 == 1) { "!= " } else { "" };
        match number(data, 3)? {
            None => {
                let members = self.references.set(&map).and_then(|set| set.shown()).cloned();
                let members = members.map_or(format!("@{map}"), |set| set.members(&key, self.references));
                self.said.push(format!("{} {not}{members}", names(&key)));
            }
            // NFT_REG_VERDICT: the map decides by itself.
            Some(0) => {
                let elements = self.references.set(&map).and_then(|set| set.shown()).cloned();
                let elements = elements.map_or(format!("@{map}"), |set| set.verdicts(&key, self.references));
                self.said.push(format!("{} vmap {elements}", names(&key)));
            }
            Some(register) => {
                let mapped = Mapped { slot: slot(register), key, map };
                self.registers.insert(mapped.slot, Held::Mapped(mapped));
            }
        }
        Ok(())
    }

    /// The fields that lie one after the other from a register on, in so many bytes; at least the first one.
    fn fields(&self, first: u32, length: usize) -> Vec<Field> {
        let (mut found, mut next) = (Vec::new(), Some(first));
        while let Some(slot) = next
            && let Some(Held::Field(field)) = self.registers.get(&slot)
        {
            found.push(field.clone());
            let behind = slot.checked_add(slots(field.length));
            next = behind.filter(|behind| ((behind - first) as usize) < length.div_ceil(4));
        }
        found
    }

    fn immediate(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let Some(constant) = data.clone().find(2)? else { return Ok(()) };
        match (verdict(&constant.nested())?, number(data, 1)?) {
            (Some(verdict), _) => self.said.push(verdict),
            (None, Some(register)) => {
                self.registers.insert(slot(register), Held::Value(data_value(constant)?.to_vec()));
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn xt_match(&mut self, data: &Attributes<'_>) -> Result<(), Malformed> {
        let name = text(data, 1)?;
        let info = data.clone().find(3)?.map_or(&[][..], |info| info.value);
        if name == "comment" {
            self.comment = Some(until_nul(info));
        } else {
            let revision = number(data, 2)?.unwrap_or_default();
            self.said.push(extension::matching(&name, revision, info, self.family, self.references));
        }
        Ok(())
    }
}

impl Mapped {
    /// The look-up in words, every value of the map through `data`.
    pub fn words(
        &self,
        data: &dyn Fn(&[u8], &mut dyn References) -> String,
        references: &mut dyn References,
    ) -> String {
        let elements = references.set(&self.map).and_then(|set| set.shown()).cloned();
        let elements = elements.map_or(format!("@{}", self.map), |set| set.values(&self.key, data, references));
        format!("{} map {elements}", names(&self.key))
    }
}

/// Fields of a concatenation.
fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(" . ")
}

fn offset(offset: Option<u32>) -> String {
    offset.filter(|offset| *offset > 0).map(|offset| format!(" offset {offset}")).unwrap_or_default()
}

fn number64(data: &Attributes<'_>, kind: u16) -> Result<u64, Malformed> {
    data.clone().find(kind)?.map_or(Ok(0), |attribute| attribute.be64())
}

fn limit(data: &Attributes<'_>) -> Result<String, Malformed> {
    let over = if number(data, 5)?.is_some_and(|flags| flags & 1 == 1) { "over " } else { "" };
    let unit = match number64(data, 2)? {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        86400 => "day",
        604_800 => "week",
        _ => "…",
    };
    let (rate, burst) = (number64(data, 1)?, number(data, 3)?.unwrap_or_default());
    Ok(match (number(data, 4)?, burst) {
        (Some(1), 0) => format!("limit rate {over}{rate} bytes/{unit}"),
        (Some(1), burst) => format!("limit rate {over}{rate} bytes/{unit} burst {burst} bytes"),
        (_, burst) => format!("limit rate {over}{rate}/{unit} burst {burst} packets"),
    })
}

fn quota(data: &Attributes<'_>) -> Result<String, Malformed> {
    let over = if number(data, 2)?.is_some_and(|flags| flags & 1 == 1) { "over " } else { "" };
    Ok(format!("quota {over}{} bytes", number64(data, 1)?))
}

/// Its level and its flags say nothing of what becomes of the packet.
fn log(data: &Attributes<'_>) -> Result<String, Malformed> {
    let prefix = text(data, 2)?;
    let prefix = if prefix.is_empty() { prefix } else { format!(" prefix \"{prefix}\"") };
    let group = match data.clone().find(1)?.map(|group| group.value) {
        Some([high, low]) => format!(" group {}", u16::from_be_bytes([*high, *low])),
        Some(other) => format!(" group {}", raw(other)),
        None => String::new(),
    };
    Ok(format!("log{prefix}{group}"))
}
