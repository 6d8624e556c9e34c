//! Packet marks as netfilter matches them (`exemptMarks`).

use std::fmt;
use std::str::FromStr;

/// Every packet whose mark has this value in the bits of the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct MaskedMark {
    /// The value; no bit of it is outside the mask.
    pub value: u32,
    /// The bits that are looked at, at least one.
    pub mask: u32,
}

/// Why a text is no [`MaskedMark`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskedMarkError {
    /// Not a number of 32 bits, decimal or with `0x`.
    Number(String),
    /// No bit is looked at: every packet would match.
    NoMask,
    /// Bits of the value are outside the mask: no packet would match. Carries the mark with those bits in its mask.
    Outside(MaskedMark),
}

impl fmt::Display for MaskedMarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskedMarkError::Number(text) => write!(f, "'{text}' is not a number from 0 to 0xffffffff"),
            MaskedMarkError::NoMask => f.write_str("a mask of 0 matches every packet"),
            MaskedMarkError::Outside(_) => f.write_str("the value has bits outside its mask, so no packet matches"),
        }
    }
}

impl std::error::Error for MaskedMarkError {}

impl MaskedMark {
    /// Every packet that bears one bit, from 0 to 31.
    pub fn of_bit(bit: u8) -> Self {
        let value = 1_u32.checked_shl(bit.into()).unwrap_or_default();
        MaskedMark { value, mask: value }
    }

    /// True when a packet with that mark matches.
    pub fn matches(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

impl fmt::Display for MaskedMark {
    /// As iptables writes it: the mask only where it leaves bits out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            u32::MAX => write!(f, "{:#x}", self.value),
            mask => write!(f, "{:#x}/{mask:#x}", self.value),
        }
    }
}

impl FromStr for MaskedMark {
    type Err = MaskedMarkError;

    /// Reads `VALUE/MASK` or `VALUE`, which stands for all bits.
    fn from_str(text: &str) -> Result<Self, MaskedMarkError> {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (parse_number(value)?, parse_number(mask)?),
            None => (parse_number(text)?, u32::MAX),
        };
        match mask {
            0 => Err(MaskedMarkError::NoMask),
            _ if value & !mask != 0 => Err(MaskedMarkError::Outside(MaskedMark { value, mask: value | mask })),
            _ => Ok(MaskedMark { value, mask }),
        }
    }
}

fn parse_number(text: &str) -> Result<u32, MaskedMarkError> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Octal to some readers, decimal to others.
    let octal = radix == 10 && digits.len() > 1 && digits.starts_with('0');
    let number = (plain && !octal).then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    number.ok_or_else(|| MaskedMarkError::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_value_within_its_mask() {
        for (text, shown) in [("0x100/0xff00", "0x100/0xff00"), ("256", "0x100"), ("0/1", "0x0/0x1")] {
            assert_eq!(text.parse::<MaskedMark>().unwrap().to_string(), shown);
        }
        let mark: MaskedMark = "0x100/0xff00".parse().unwrap();
        assert!(mark.matches(0x1_0100) && mark.matches(0x1ff) && !mark.matches(0x300));
        use MaskedMarkError::*;
        let cases = [
            ("", Number(String::new())),
            ("0x", Number("0x".into())),
            ("0x1g", Number("0x1g".into())),
            ("-1", Number("-1".into())),
            ("+1", Number("+1".into())),
            ("010", Number("010".into())),
            ("4294967296", Number("4294967296".into())),
            ("1/", Number(String::new())),
            ("1/0", NoMask),
            ("0x3/0x1", Outside(MaskedMark { value: 3, mask: 3 })),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<MaskedMark>(), Err(error), "{text}");
        }
    }
}
