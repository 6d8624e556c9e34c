//! What the registers of nf_tables hold while a rule is read.

use super::field::Field;

/// What a register of 32 bits begins to hold.
#[derive(Debug, Clone)]
pub enum Held {
    /// Something of the packet.
    Field(Field),
    /// A constant.
    Value(Vec<u8>),
    /// What a map has for a key.
    Mapped(Mapped),
}

/// A map that was asked.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// The first of the registers it was put into.
    pub slot: u32,
    /// What it was asked for.
    pub key: Vec<Field>,
    /// Its name.
    pub map: String,
}

/// The kernel names the first register of 32 bits of each 128 by the old number, 1 to 4 (nft_dump_register).
pub fn slot(register: u32) -> u32 {
    match register {
        0..=4 => register.saturating_sub(1) * 4,
        _ => register.saturating_sub(8),
    }
}

/// How many registers of 32 bits so many bytes take.
pub fn slots(bytes: usize) -> u32 {
    bytes.div_ceil(4).max(1) as u32
}
