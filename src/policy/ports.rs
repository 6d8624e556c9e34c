//! Source-port ranges for masquerade (`toPorts`).

use std::fmt;
use std::str::FromStr;

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PortRange {
    /// The first port, at least 1.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

impl PortRange {
    /// The range of one port.
    pub fn one(port: u16) -> Self {
        PortRange { first: port, last: port }
    }

    /// How many ports it has.
    pub fn size(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// True when the port is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// As a person writes it: one port alone without a dash.
    pub fn written(self) -> String {
        if self.first == self.last { self.first.to_string() } else { self.to_string() }
    }

    /// True when every port of the other one is in it.
    pub fn covers(self, other: PortRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// True when they have a port in common.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// One or more port ranges, ascending, without overlap.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortRanges(Vec<PortRange>);

/// Why a text is no [`PortRanges`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRangesError {
    /// Nothing between two commas, or nothing at all.
    Empty,
    /// Not a port number from 1 to 65535.
    Port(String),
    /// `b-a` with a smaller than b.
    Backwards(PortRange),
    /// A range that starts before the one in front of it has ended.
    Order(PortRange),
}

impl fmt::Display for PortRangesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRangesError::Empty => f.write_str("a port range is missing"),
            PortRangesError::Port(text) => write!(f, "'{text}' is not a port from 1 to 65535"),
            PortRangesError::Backwards(range) => {
                write!(f, "{}-{} runs backwards", range.last, range.first)
            }
            PortRangesError::Order(range) => write!(f, "{range} must start after the previous range"),
        }
    }
}

impl std::error::Error for PortRangesError {}

impl PortRanges {
    /// The ranges, ascending.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Each range with the ports that are left from it on, itself included: a range is chosen with
    /// probability `size / left` when the ones before it were not, which makes every port equally likely.
    pub fn with_remaining(&self) -> Vec<(PortRange, u32)> {
        let mut left: u32 = self.0.iter().map(|range| range.size()).sum();
        let mut out = Vec::with_capacity(self.0.len());
        for range in &self.0 {
            out.push((*range, left));
            left -= range.size();
        }
        out
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for PortRanges {
    type Err = PortRangesError;

    /// Reads `a-b,c,d-e`.
    fn from_str(text: &str) -> Result<Self, PortRangesError> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for part in text.split(',') {
            if part.is_empty() {
                return Err(PortRangesError::Empty);
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if first.is_empty() || last.is_empty() {
                return Err(PortRangesError::Port(part.to_owned()));
            }
            let (first, last) = (parse_port(first)?, parse_port(last)?);
            if first > last {
                return Err(PortRangesError::Backwards(PortRange { first: last, last: first }));
            }
            let range = PortRange { first, last };
            if ranges.last().is_some_and(|before| before.last >= first) {
                return Err(PortRangesError::Order(range));
            }
            ranges.push(range);
        }
        Ok(PortRanges(ranges))
    }
}

fn parse_port(text: &str) -> Result<u16, PortRangesError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let port = if digits { text.parse().ok() } else { None };
    port.ok_or_else(|| PortRangesError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_ascending_whole_and_inside_the_port_space() {
        let ranges: PortRanges = "1024-2047,4000,60000-65535".parse().unwrap();
        assert_eq!(ranges.to_string(), "1024-2047,4000-4000,60000-65535");
        assert_eq!(ranges.with_remaining().iter().map(|(_, left)| *left).collect::<Vec<_>>(), [6561, 5537, 5536]);
        use PortRangesError::*;
        let cases = [
            ("", Empty),
            ("1,,2", Empty),
            ("0-5", Port("0".into())),
            ("1-65536", Port("65536".into())),
            ("1-2-3", Port("2-3".into())),
            ("+1", Port("+1".into())),
            ("5-1", Backwards(PortRange { first: 1, last: 5 })),
            ("10-20,20-30", Order(PortRange { first: 20, last: 30 })),
            ("10-20,5", Order(PortRange { first: 5, last: 5 })),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PortRanges>(), Err(error), "{text}");
        }
    }
}
