//! nf_tables expressions, written to and read from netlink attributes.
//!
//! Numbers: `linux/netfilter/nf_tables.h`, whose enums libc has only in part. Reading keeps what we know and names
//! what we don't, so that a rule of somebody else's is seen as one.

use crate::sys::nfnetlink::message::{Attribute, Attributes, Malformed, Writer};

/// `enum nft_list_attributes`: an element of a list.
pub const LIST_ELEMENT: u16 = 1;
/// `enum nft_data_attributes`.
pub const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// The registers that our rules use. Each holds 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// NFT_REG_1.
    One,
    /// NFT_REG_2.
    Two,
    /// NFT_REG_3.
    Three,
    /// NFT_REG_4.
    Four,
}

impl Register {
    /// Every register, in its order.
    pub const ALL: [Register; 4] = [Register::One, Register::Two, Register::Three, Register::Four];

    fn number(self) -> u32 {
        match self {
            Register::One => libc::NFT_REG_1 as u32,
            Register::Two => libc::NFT_REG_2 as u32,
            Register::Three => libc::NFT_REG_3 as u32,
            Register::Four => libc::NFT_REG_4 as u32,
        }
    }

    fn of(number: u32) -> Option<Self> {
        Register::ALL.into_iter().find(|register| register.number() == number)
    }
}

/// `enum nft_cmp_ops` as far as we use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// NFT_CMP_EQ.
    Equal,
    /// NFT_CMP_NEQ.
    NotEqual,
    /// NFT_CMP_LT.
    Less,
    /// NFT_CMP_LTE.
    AtMost,
    /// NFT_CMP_GTE.
    AtLeast,
}

impl Comparison {
    const ALL: [Comparison; 5] =
        [Comparison::Equal, Comparison::NotEqual, Comparison::Less, Comparison::AtMost, Comparison::AtLeast];

    fn number(self) -> u32 {
        match self {
            Comparison::Equal => libc::NFT_CMP_EQ as u32,
            Comparison::NotEqual => libc::NFT_CMP_NEQ as u32,
            Comparison::Less => libc::NFT_CMP_LT as u32,
            Comparison::AtMost => libc::NFT_CMP_LTE as u32,
            Comparison::AtLeast => libc::NFT_CMP_GTE as u32,
        }
    }
}

/// `enum nft_payload_bases` as far as we use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The header of the frame.
    Link,
    /// The IP header.
    Network,
    /// The header behind it.
    Transport,
}

impl Base {
    fn number(self) -> u32 {
        match self {
            Base::Link => libc::NFT_PAYLOAD_LL_HEADER as u32,
            Base::Network => libc::NFT_PAYLOAD_NETWORK_HEADER as u32,
            Base::Transport => libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32,
        }
    }
}

/// The number of the register that begins so many words of 32 bits behind the first one, as the kernel tells it.
pub fn register_at(word: u32) -> u32 {
    const WORDS: u32 = 4;
    match word % WORDS {
        0 => libc::NFT_REG_1 as u32 + word / WORDS,
        _ => NFT_REG32_00 + word,
    }
}

/// Not in libc.
const NFT_REG32_00: u32 = 8;

/// One expression of a rule. All but immediates and [`Expression::At`] load into register 1 and look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads a property of the packet (NFT_META_*).
    Meta(u32),
    /// Loads bytes of a header.
    Payload {
        /// Which header.
        base: Base,
        /// Where in it.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// Loads into a register of this number, behind what is loaded already (meta and payload).
    At(u32, Box<Expression>),
    /// Loads a property of the connection (NFT_CT_*).
    Connection(u32),
    /// Loads the type of an address from the routing table (NFTA_FIB_F_*).
    FibType(u32),
    /// Loads a property of the route (NFT_RT_*).
    Route(u32),
    /// Loads a random number below this one, in host byte order.
    Random(u32),
    /// Turns a number of 32 bits into network byte order.
    HostToNetwork,
    /// Keeps the bits of a mask.
    Mask(Vec<u8>),
    /// Sets bits, and keeps the others.
    SetBits(Vec<u8>),
    /// Makes a property of the packet what was loaded (NFT_META_*).
    SetMeta(u32),
    /// Ends the rule unless the register compares so with the bytes.
    Compare(Comparison, Vec<u8>),
    /// Ends the rule if the register is between these bytes, both included.
    Outside(Vec<u8>, Vec<u8>),
    /// Ends the rule unless the register is in the set, or with `true` if it is.
    Lookup(String, bool),
    /// Ends the rule unless the register is in the map; loads what it leads to, or with `true` ends with that verdict.
    Map(String, bool),
    /// Loads bytes.
    Load(Register, Vec<u8>),
    /// Ends the rule with a verdict (NFT_RETURN and so on), and the chain that it names.
    Verdict(i32, Option<String>),
    /// Counts packets and bytes; here the packets.
    Counter(u64),
    /// Masquerades, with NF_NAT_RANGE_* flags and ports from the registers.
    Masquerade {
        /// NF_NAT_RANGE_*.
        flags: u32,
        /// The first port.
        first: Option<Register>,
        /// The last port.
        last: Option<Register>,
    },
    /// Rewrites the source to what the registers hold.
    Snat {
        /// NFPROTO_*.
        family: u8,
        /// NF_NAT_RANGE_*.
        flags: u32,
        /// The first address and the last one.
        addresses: (Option<Register>, Option<Register>),
        /// The first port and the last one.
        ports: (Option<Register>, Option<Register>),
    },
    /// Rewrites the destination to the address in register 1, and the port to that in a register of this number.
    Dnat {
        /// NFPROTO_*.
        family: u8,
        /// NF_NAT_RANGE_*.
        flags: u32,
        /// The port.
        port: Option<u32>,
    },
    /// Lets the flow of the packet go through the flowtable of this name from now on.
    FlowAdd(String),
    /// Any other, by its name.
    Unknown(String),
}

impl Expression {
    /// The kernel's name for it.
    pub fn name(&self) -> &str {
        match self {
            Expression::At(_, inner) => inner.name(),
            Expression::Connection(_) => "ct",
            Expression::Outside(..) => "range",
            Expression::Meta(_) | Expression::SetMeta(_) => "meta",
            Expression::Payload { .. } => "payload",
            Expression::FibType(_) => "fib",
            Expression::Random(_) => "numgen",
            Expression::HostToNetwork => "byteorder",
            Expression::Mask(_) | Expression::SetBits(_) => "bitwise",
            Expression::Compare(..) => "cmp",
            Expression::Lookup(..) | Expression::Map(..) => "lookup",
            Expression::Load(..) | Expression::Verdict(..) => "immediate",
            Expression::Counter(_) => "counter",
            Expression::Masquerade { .. } => "masq",
            Expression::Snat { .. } | Expression::Dnat { .. } => "nat",
            Expression::Route(_) => "rt",
            Expression::FlowAdd(_) => "flow_offload",
            Expression::Unknown(name) => name,
        }
    }

    /// Writes it as an element of a rule's expression list.
    pub fn write(&self, writer: &mut Writer) {
        writer.nest(LIST_ELEMENT, |writer| {
            writer.text(1, self.name());
            writer.nest(2, |writer| self.write_data(writer));
        });
    }

    /// Its attributes that are numbers: what is read must have them all.
    fn numbers(&self) -> Vec<(u16, u32)> {
        let register = Register::One.number();
        match self {
            Expression::Meta(key) => vec![(meta::KEY, *key), (meta::DREG, register)],
            Expression::Payload { base, offset, length } => vec![
                (payload::DREG, register),
                (payload::BASE, base.number()),
                (payload::OFFSET, *offset),
                (payload::LENGTH, *length),
            ],
            Expression::FibType(flags) => {
                vec![(fib::FLAGS, *flags), (fib::RESULT, fib::ADDRTYPE), (fib::DREG, register)]
            }
            Expression::At(into, inner) => {
                let destination = match **inner {
                    Expression::Payload { .. } => payload::DREG,
                    _ => meta::DREG,
                };
                let put = |(kind, number)| (kind, if kind == destination { *into } else { number });
                inner.numbers().into_iter().map(put).collect()
            }
            Expression::Connection(key) => vec![(ct::KEY, *key), (ct::DREG, register)],
            Expression::Outside(..) => vec![(range::SREG, register), (range::OPERATION, range::NOT_EQUAL)],
            Expression::Route(key) => vec![(rt::KEY, *key), (rt::DREG, register)],
            Expression::Random(below) => vec![
                (numgen::DREG, register),
                (numgen::MODULUS, *below),
                (numgen::TYPE, libc::NFT_NG_RANDOM as u32),
                (numgen::OFFSET, 0),
            ],
            Expression::HostToNetwork => vec![
                (byteorder::SREG, register),
                (byteorder::DREG, register),
                (byteorder::OPERATION, libc::NFT_BYTEORDER_HTON as u32),
                (byteorder::LENGTH, 4),
                (byteorder::SIZE, 4),
            ],
            Expression::SetMeta(key) => vec![(meta::KEY, *key), (meta::SREG, register)],
            Expression::Mask(mask) | Expression::SetBits(mask) => {
                vec![(bitwise::SREG, register), (bitwise::DREG, register), (bitwise::LENGTH, mask.len() as u32)]
            }
            Expression::Compare(comparison, _) => vec![(cmp::SREG, register), (cmp::OPERATION, comparison.number())],
            Expression::Lookup(..) => vec![(lookup::SREG, register)],
            Expression::Map(_, verdict) => {
                let into = if *verdict { libc::NFT_REG_VERDICT as u32 } else { register };
                vec![(lookup::SREG, register), (lookup::DREG, into)]
            }
            Expression::Load(into, _) => vec![(immediate::DREG, into.number())],
            Expression::Verdict(..) => vec![(immediate::DREG, libc::NFT_REG_VERDICT as u32)],
            Expression::Snat { family, flags, .. } => {
                vec![(nat::TYPE, libc::NFT_NAT_SNAT as u32), (nat::FAMILY, u32::from(*family)), (nat::FLAGS, *flags)]
            }
            Expression::Dnat { family, flags, port } => {
                let mut numbers = vec![
                    (nat::TYPE, libc::NFT_NAT_DNAT as u32),
                    (nat::FAMILY, u32::from(*family)),
                    (nat::FLAGS, *flags),
                    (nat::REG_ADDR_MIN, register),
                ];
                numbers.extend(port.map(|port| (nat::REG_PROTO_MIN, port)));
                numbers
            }
            Expression::Masquerade { .. }
            | Expression::Counter(_)
            | Expression::FlowAdd(_)
            | Expression::Unknown(_) => Vec::new(),
        }
    }

    fn write_data(&self, writer: &mut Writer) {
        self.numbers().into_iter().for_each(|(kind, number)| writer.be32(kind, number));
        match self {
            Expression::Mask(mask) => {
                write_value(writer, bitwise::MASK, mask);
                write_value(writer, bitwise::XOR, &vec![0; mask.len()]);
            }
            Expression::SetBits(bits) => {
                write_value(writer, bitwise::MASK, &inverted(bits));
                write_value(writer, bitwise::XOR, bits);
            }
            Expression::Compare(_, value) => write_value(writer, cmp::DATA, value),
            Expression::Outside(first, last) => {
                write_value(writer, range::FROM, first);
                write_value(writer, range::TO, last);
            }
            Expression::Map(map, _) => writer.text(lookup::SET, map),
            Expression::FlowAdd(table) => writer.text(flow::TABLE_NAME, table),
            Expression::Lookup(set, inverted) => {
                writer.text(lookup::SET, set);
                if *inverted {
                    writer.be32(lookup::FLAGS, libc::NFT_LOOKUP_F_INV as u32);
                }
            }
            Expression::Load(_, value) => write_value(writer, immediate::DATA, value),
            Expression::Verdict(code, chain) => {
                writer.nest(immediate::DATA, |writer| {
                    writer.nest(DATA_VERDICT, |writer| {
                        writer.be32(verdict::CODE, *code as u32);
                        if let Some(chain) = chain {
                            writer.text(verdict::CHAIN, chain);
                        }
                    });
                });
            }
            Expression::Masquerade { flags, first, last } => {
                let registers = [(masq::REG_PROTO_MIN, first), (masq::REG_PROTO_MAX, last)];
                if *flags != 0 {
                    writer.be32(masq::FLAGS, *flags);
                }
                for (kind, register) in registers {
                    if let Some(register) = register {
                        writer.be32(kind, register.number());
                    }
                }
            }
            Expression::Snat { addresses, ports, .. } => {
                let registers = [
                    (nat::REG_ADDR_MIN, addresses.0),
                    (nat::REG_ADDR_MAX, addresses.1),
                    (nat::REG_PROTO_MIN, ports.0),
                    (nat::REG_PROTO_MAX, ports.1),
                ];
                for (kind, register) in registers {
                    register.into_iter().for_each(|register| writer.be32(kind, register.number()));
                }
            }
            Expression::Meta(_)
            | Expression::SetMeta(_)
            | Expression::At(..)
            | Expression::Connection(_)
            | Expression::Dnat { .. }
            | Expression::Payload { .. }
            | Expression::FibType(_)
            | Expression::Route(_)
            | Expression::Random(_)
            | Expression::HostToNetwork
            | Expression::Counter(_)
            | Expression::Unknown(_) => {}
        }
    }

    /// Reads an element of a rule's expression list.
    ///
    /// # Errors
    /// When its attributes are malformed. An expression that we would not write is no error but
    /// [`Expression::Unknown`].
    pub fn read(element: Attribute<'_>) -> Result<Self, Malformed> {
        let name = element.nested().find(1)?.ok_or(Malformed("an expression without a name"))?.text();
        let data = match element.nested().find(2)? {
            Some(data) => Fields::read(data.nested())?,
            None => Fields::default(),
        };
        Ok(read_known(&name, &data)?.unwrap_or(Expression::Unknown(name)))
    }
}

/// Writes the verdict of going to a chain as the data of an element.
pub fn write_goto(writer: &mut Writer, chain: &str) {
    writer.nest(DATA_VERDICT, |writer| {
        writer.be32(verdict::CODE, libc::NFT_GOTO as u32);
        writer.text(verdict::CHAIN, chain);
    });
}

/// The chain that the data of an element says to go to.
///
/// # Errors
/// When its attributes are malformed.
pub fn read_goto(data: Attribute<'_>) -> Result<Option<String>, Malformed> {
    let Some(verdict) = data.nested().find(DATA_VERDICT)? else { return Ok(None) };
    let code = verdict.nested().find(verdict::CODE)?.map(|code| code.be32()).transpose()?;
    let chain = verdict.nested().find(verdict::CHAIN)?.map(|chain| chain.text());
    Ok(chain.filter(|_| code == Some(libc::NFT_GOTO as u32)))
}

fn write_value(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nest(kind, |writer| writer.raw(DATA_VALUE, value));
}

/// The attributes of an expression, by their kind.
#[derive(Default)]
struct Fields<'a>([Option<Attribute<'a>>; 12]);

impl<'a> Fields<'a> {
    fn read(attributes: Attributes<'a>) -> Result<Self, Malformed> {
        let mut fields = Fields::default();
        for attribute in attributes {
            let attribute = attribute?;
            if let Some(field) = fields.0.get_mut(usize::from(attribute.kind)) {
                *field = Some(attribute);
            }
        }
        Ok(fields)
    }

    fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    fn number(&self, kind: u16) -> Result<Option<u32>, Malformed> {
        self.get(kind).map(|attribute| attribute.be32()).transpose()
    }

    fn value(&self, kind: u16) -> Result<Option<Vec<u8>>, Malformed> {
        match self.get(kind) {
            Some(data) => Ok(data.nested().find(DATA_VALUE)?.map(|value| value.value.to_vec())),
            None => Ok(None),
        }
    }

    /// True when each of the attributes is there with this number.
    fn say(&self, numbers: &[(u16, u32)]) -> Result<bool, Malformed> {
        for (kind, number) in numbers {
            if self.number(*kind)? != Some(*number) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads an expression of a kind that we write; `None` when it is not as we would write it.
fn read_known(name: &str, data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let known = match name {
        "meta" if data.get(meta::SREG).is_some() => data.number(meta::KEY)?.map(Expression::SetMeta),
        "meta" => at(data.number(meta::DREG)?, data.number(meta::KEY)?.map(Expression::Meta)),
        "payload" => at(data.number(payload::DREG)?, read_payload(data)?),
        "ct" => data.number(ct::KEY)?.filter(|_| data.get(ct::DIRECTION).is_none()).map(Expression::Connection),
        "range" => {
            let both = data.value(range::FROM)?.zip(data.value(range::TO)?);
            both.map(|(first, last)| Expression::Outside(first, last))
        }
        "fib" => data.number(fib::FLAGS)?.map(Expression::FibType),
        "numgen" => data.number(numgen::MODULUS)?.map(Expression::Random),
        "byteorder" => Some(Expression::HostToNetwork),
        "bitwise" => read_mask(data)?,
        "cmp" => {
            let operation = data.number(cmp::OPERATION)?;
            let comparison = Comparison::ALL.into_iter().find(|known| Some(known.number()) == operation);
            comparison.zip(data.value(cmp::DATA)?).map(|(comparison, value)| Expression::Compare(comparison, value))
        }
        "lookup" => {
            let inverted = data.number(lookup::FLAGS)?.unwrap_or(0) == libc::NFT_LOOKUP_F_INV as u32;
            let set = data.get(lookup::SET).map(|set| set.text());
            match data.number(lookup::DREG)? {
                None => set.map(|set| Expression::Lookup(set, inverted)),
                Some(into) => set.map(|map| Expression::Map(map, into == libc::NFT_REG_VERDICT as u32)),
            }
        }
        "immediate" => read_immediate(data)?,
        "counter" => {
            let packets = data.get(counter::PACKETS).map(|packets| packets.be64()).transpose()?;
            Some(Expression::Counter(packets.unwrap_or(0)))
        }
        "masq" => read_masquerade(data)?,
        "nat" if data.number(nat::TYPE)? == Some(libc::NFT_NAT_DNAT as u32) => read_dnat(data)?,
        "nat" => read_snat(data)?,
        "rt" => data.number(rt::KEY)?.map(Expression::Route),
        "flow_offload" => data.get(flow::TABLE_NAME).map(|table| Expression::FlowAdd(table.text())),
        _ => None,
    };
    match known {
        Some(known) if data.say(&known.numbers())? => Ok(Some(known)),
        _ => Ok(None),
    }
}

fn read_payload(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let number = data.number(payload::BASE)?;
    let base = [Base::Link, Base::Network, Base::Transport].into_iter().find(|base| Some(base.number()) == number);
    let place = data.number(payload::OFFSET)?.zip(data.number(payload::LENGTH)?);
    Ok(base.zip(place).map(|(base, (offset, length))| Expression::Payload { base, offset, length }))
}

/// A bitwise expression that shifts nothing, and sets the bits that it does not keep.
fn read_mask(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let masks = data.number(bitwise::OPERATION)?.unwrap_or(0) == 0;
    let set = data.value(bitwise::XOR)?.unwrap_or_default();
    let sets = set.iter().any(|byte| *byte != 0);
    Ok(match data.value(bitwise::MASK)?.filter(|_| masks) {
        Some(kept) if !sets => Some(Expression::Mask(kept)),
        Some(kept) if kept == inverted(&set) => Some(Expression::SetBits(set)),
        _ => None,
    })
}

fn inverted(bits: &[u8]) -> Vec<u8> {
    bits.iter().map(|byte| !byte).collect()
}

fn read_immediate(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let (Some(number), Some(value)) = (data.number(immediate::DREG)?, data.get(immediate::DATA)) else {
        return Ok(None);
    };
    if number != libc::NFT_REG_VERDICT as u32 {
        return Ok(Register::of(number)
            .zip(data.value(immediate::DATA)?)
            .map(|(register, value)| Expression::Load(register, value)));
    }
    let Some(verdict) = value.nested().find(DATA_VERDICT)? else { return Ok(None) };
    let code = verdict.nested().find(verdict::CODE)?.ok_or(Malformed("a verdict without its code"))?.be32()?;
    let chain = verdict.nested().find(verdict::CHAIN)?.map(|chain| chain.text());
    Ok(Some(Expression::Verdict(code as i32, chain)))
}

fn read_masquerade(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let flags = data.number(masq::FLAGS)?.unwrap_or(0);
    let ports = read_registers(data, masq::REG_PROTO_MIN, masq::REG_PROTO_MAX)?;
    Ok(ports.map(|(first, last)| Expression::Masquerade { flags, first, last }))
}

/// What is loaded into another register than the first one.
fn at(register: Option<u32>, expression: Option<Expression>) -> Option<Expression> {
    match register {
        Some(number) if number != Register::One.number() => expression.map(|one| Expression::At(number, Box::new(one))),
        _ => expression,
    }
}

fn read_dnat(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let family = data.number(nat::FAMILY)?.and_then(|family| u8::try_from(family).ok());
    let flags = data.number(nat::FLAGS)?.unwrap_or(0);
    let port = data.number(nat::REG_PROTO_MIN)?;
    // The kernel fills the last ones in from the first ones.
    let ends = |first, last| Ok(data.number(last)?.is_none_or(|last| Some(last) == first));
    let is_one = ends(data.number(nat::REG_ADDR_MIN)?, nat::REG_ADDR_MAX)? && ends(port, nat::REG_PROTO_MAX)?;
    Ok(family.filter(|_| is_one).map(|family| Expression::Dnat { family, flags, port }))
}

fn read_snat(data: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let family = data.number(nat::FAMILY)?.and_then(|family| u8::try_from(family).ok());
    let flags = data.number(nat::FLAGS)?.unwrap_or(0);
    let addresses = read_registers(data, nat::REG_ADDR_MIN, nat::REG_ADDR_MAX)?;
    let ports = read_registers(data, nat::REG_PROTO_MIN, nat::REG_PROTO_MAX)?;
    Ok(family.zip(addresses.zip(ports)).map(|(family, (addresses, ports))| Expression::Snat {
        family,
        flags,
        addresses,
        ports,
    }))
}

type Registers = (Option<Register>, Option<Register>);

/// A first and a last register, where they are there; `None` when one of them is none that we use.
fn read_registers(data: &Fields<'_>, first: u16, last: u16) -> Result<Option<Registers>, Malformed> {
    let register = |number: Option<u32>| match number {
        Some(number) => Register::of(number).map(Some),
        None => Some(None),
    };
    let both = register(data.number(first)?).zip(register(data.number(last)?));
    // The kernel fills the last one in from the first one.
    Ok(both.map(|(first, last)| (first, last.filter(|last| Some(*last) != first))))
}

mod meta {
    pub(super) const DREG: u16 = 1;
    pub(super) const KEY: u16 = 2;
    pub(super) const SREG: u16 = 3;
}

mod payload {
    pub(super) const DREG: u16 = 1;
    pub(super) const BASE: u16 = 2;
    pub(super) const OFFSET: u16 = 3;
    pub(super) const LENGTH: u16 = 4;
}

mod fib {
    pub(super) const DREG: u16 = 1;
    pub(super) const RESULT: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    /// NFT_FIB_RESULT_ADDRTYPE.
    pub(super) const ADDRTYPE: u32 = 3;
}

mod numgen {
    pub(super) const DREG: u16 = 1;
    pub(super) const MODULUS: u16 = 2;
    pub(super) const TYPE: u16 = 3;
    pub(super) const OFFSET: u16 = 4;
}

mod byteorder {
    pub(super) const SREG: u16 = 1;
    pub(super) const DREG: u16 = 2;
    pub(super) const OPERATION: u16 = 3;
    pub(super) const LENGTH: u16 = 4;
    pub(super) const SIZE: u16 = 5;
}

mod bitwise {
    pub(super) const SREG: u16 = 1;
    pub(super) const DREG: u16 = 2;
    pub(super) const LENGTH: u16 = 3;
    pub(super) const MASK: u16 = 4;
    pub(super) const XOR: u16 = 5;
    pub(super) const OPERATION: u16 = 6;
}

mod cmp {
    pub(super) const SREG: u16 = 1;
    pub(super) const OPERATION: u16 = 2;
    pub(super) const DATA: u16 = 3;
}

mod ct {
    pub(super) const DREG: u16 = 1;
    pub(super) const KEY: u16 = 2;
    pub(super) const DIRECTION: u16 = 3;
}

mod range {
    pub(super) const SREG: u16 = 1;
    pub(super) const OPERATION: u16 = 2;
    pub(super) const FROM: u16 = 3;
    pub(super) const TO: u16 = 4;
    /// NFT_RANGE_NEQ.
    pub(super) const NOT_EQUAL: u32 = 1;
}

mod lookup {
    pub(super) const SET: u16 = 1;
    pub(super) const SREG: u16 = 2;
    pub(super) const DREG: u16 = 3;
    pub(super) const FLAGS: u16 = 5;
}

mod immediate {
    pub(super) const DREG: u16 = 1;
    pub(super) const DATA: u16 = 2;
}

mod verdict {
    pub(super) const CODE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
}

mod counter {
    pub(super) const PACKETS: u16 = 2;
}

mod masq {
    pub(super) const FLAGS: u16 = 1;
    pub(super) const REG_PROTO_MIN: u16 = 2;
    pub(super) const REG_PROTO_MAX: u16 = 3;
}

mod nat {
    pub(super) const TYPE: u16 = 1;
    pub(super) const FAMILY: u16 = 2;
    pub(super) const REG_ADDR_MIN: u16 = 3;
    pub(super) const REG_ADDR_MAX: u16 = 4;
    pub(super) const REG_PROTO_MIN: u16 = 5;
    pub(super) const REG_PROTO_MAX: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
}

mod flow {
    /// NFTA_FLOW_TABLE_NAME.
    pub(super) const TABLE_NAME: u16 = 1;
}

mod rt {
    pub(super) const DREG: u16 = 1;
    pub(super) const KEY: u16 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_expression() -> impl Strategy<Value = Expression> {
        let bytes = || vec(any::<u8>(), 1..=16);
        let register = || proptest::sample::select(Register::ALL.to_vec());
        let comparison = proptest::sample::select(Comparison::ALL.to_vec());
        prop_oneof![
            any::<u32>().prop_map(Expression::Meta),
            (proptest::sample::select(vec![Base::Link, Base::Network, Base::Transport]), any::<u32>(), any::<u32>())
                .prop_map(|(base, offset, length)| Expression::Payload { base, offset, length }),
            any::<u32>().prop_map(Expression::FibType),
            any::<u32>().prop_map(Expression::Route),
            any::<u32>().prop_map(Expression::Connection),
            (2_u32..24, any::<u32>()).prop_map(|(into, key)| Expression::At(into, Box::new(Expression::Meta(key)))),
            (bytes(), bytes()).prop_map(|(first, last)| Expression::Outside(first, last)),
            ("[a-z][a-z0-9-]{0,20}", any::<bool>()).prop_map(|(map, verdict)| Expression::Map(map, verdict)),
            (any::<u8>(), any::<u32>(), proptest::option::of(any::<u32>()))
                .prop_map(|(family, flags, port)| Expression::Dnat { family, flags, port }),
            any::<u32>().prop_map(Expression::Random),
            Just(Expression::HostToNetwork),
            bytes().prop_map(Expression::Mask),
            (0..32_u32).prop_map(|bit| Expression::SetBits((1_u32 << bit).to_ne_bytes().to_vec())),
            any::<u32>().prop_map(Expression::SetMeta),
            (comparison, bytes()).prop_map(|(comparison, value)| Expression::Compare(comparison, value)),
            ("[a-z][a-z0-9-]{0,20}", any::<bool>()).prop_map(|(set, inverted)| Expression::Lookup(set, inverted)),
            (register(), bytes()).prop_map(|(register, value)| Expression::Load(register, value)),
            (any::<i32>(), proptest::option::of("[a-z][a-z0-9-]{0,20}"))
                .prop_map(|(code, chain)| Expression::Verdict(code, chain)),
            Just(Expression::Counter(0)),
            "[a-z][a-z0-9-]{0,20}".prop_map(Expression::FlowAdd),
            (any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(flags, first, last)| Expression::Masquerade {
                flags,
                first: first.then_some(Register::One),
                last: last.then_some(Register::Two)
            }),
            (any::<u8>(), any::<u32>(), any::<[bool; 4]>()).prop_map(|(family, flags, there)| {
                let register = |at: usize| there[at].then_some(Register::ALL[at]);
                let (addresses, ports) = ((register(0), register(1)), (register(2), register(3)));
                Expression::Snat { family, flags, addresses, ports }
            }),
        ]
    }

    fn written(expression: &Expression) -> Vec<u8> {
        let mut writer = Writer::new();
        expression.write(&mut writer);
        writer.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Expression>, Malformed> {
        Attributes(bytes).map(|element| Expression::read(element?)).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(expression in any_expression()) {
            prop_assert_eq!(read(&written(&expression)), Ok(vec![expression]));
        }

        #[test]
        fn a_cut_is_an_error_and_a_changed_byte_no_panic(
            expression in any_expression(), place in any::<prop::sample::Index>(), value: u8,
        ) {
            let mut bytes = written(&expression);
            let cut = place.index(bytes.len() - 1) + 1;
            prop_assert!(cut == bytes.len() || read(&bytes[..cut]).is_err());
            bytes[place.index(cut)] = value;
            let _ = read(&bytes);
        }

        #[test]
        fn random_bytes_end_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn an_expression_of_others_keeps_its_name() {
        let mut writer = Writer::new();
        writer.nest(LIST_ELEMENT, |writer| writer.text(1, "log"));
        assert_eq!(read(writer.bytes()), Ok(vec![Expression::Unknown("log".into())]));
    }
}
