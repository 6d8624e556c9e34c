//! Durations as Go writes them: a port of `time.ParseDuration`, whose text users of the Go agent already have.
//!
//! The grammar is `[-+]?([0-9]*(\.[0-9]*)?[a-z]+)+`, or a lone `0`. Accepted and refused texts, rounding and
//! overflow are those of Go 1.26.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What `resyncInterval` and the time of a trial may be.
pub const SECOND_TO_DAY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Why a text is no Go duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DurationError {
    /// Not of the grammar.
    Invalid,
    /// A number without a unit behind it.
    MissingUnit,
    /// A unit that Go does not know.
    UnknownUnit(String),
    /// More than an `int64` of nanoseconds holds, about 292 years.
    Overflow,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationError::Invalid => f.write_str("not a duration"),
            DurationError::MissingUnit => f.write_str("a number without a unit (h, m, s, ms, us, ns)"),
            DurationError::UnknownUnit(unit) => write!(f, "unknown unit '{unit}', not one of h, m, s, ms, us, ns"),
            DurationError::Overflow => f.write_str("the duration is too long"),
        }
    }
}

impl std::error::Error for DurationError {}

/// 2^63: one more than the largest positive, the absolute value of the smallest negative `int64`.
const LIMIT: u64 = 1 << 63;

/// Reads a duration; the result is in nanoseconds.
///
/// # Errors
/// Whatever Go would refuse.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (part, behind) = parse_part(rest)?;
        // Go adds without looking: two parts of exactly 2^63 make zero, here as there.
        total = total.wrapping_add(part);
        if total > LIMIT {
            return Err(DurationError::Overflow);
        }
        rest = behind;
    }
    if negative {
        return Ok(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| DurationError::Overflow)
}

/// Reads one number with its unit; gives nanoseconds, at most [`LIMIT`], and the text behind it.
fn parse_part(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole_digits, rest) = split_digits(text);
    let (fraction_digits, rest) = match rest.strip_prefix('.') {
        Some(behind_point) => split_digits(behind_point),
        None => ("", rest),
    };
    let whole = leading_int(whole_digits)?;
    if whole_digits.is_empty() && fraction_digits.is_empty() {
        return Err(DurationError::Invalid);
    }
    let unit_length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit_text, rest) = rest.split_at(unit_length);
    let unit = unit(unit_text)?;
    if whole > LIMIT / unit {
        return Err(DurationError::Overflow);
    }
    let (fraction, scale) = leading_fraction(fraction_digits);
    // At most an hour's nanoseconds, which an f64 holds exactly enough.
    let nanoseconds = whole * unit + (fraction as f64 * (unit as f64 / scale)) as u64;
    if nanoseconds > LIMIT {
        return Err(DurationError::Overflow);
    }
    Ok((nanoseconds, rest))
}

fn unit(text: &str) -> Result<u64, DurationError> {
    match text {
        "" => Err(DurationError::MissingUnit),
        "ns" => Ok(1),
        // U+00B5 micro sign and U+03BC Greek letter mu look alike; Go takes both.
        "us" | "\u{b5}s" | "\u{3bc}s" => Ok(1_000),
        "ms" => Ok(1_000_000),
        "s" => Ok(1_000_000_000),
        "m" => Ok(60 * 1_000_000_000),
        "h" => Ok(3600 * 1_000_000_000),
        _ => Err(DurationError::UnknownUnit(text.to_owned())),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn leading_int(digits: &str) -> Result<u64, DurationError> {
    let mut value: u64 = 0;
    for digit in digits.bytes().map(|byte| u64::from(byte - b'0')) {
        if value > LIMIT / 10 {
            return Err(DurationError::Overflow);
        }
        value = value * 10 + digit;
        if value > LIMIT {
            return Err(DurationError::Overflow);
        }
    }
    Ok(value)
}

/// The digits behind the point as an integer and the power of ten that it must be divided by. Digits that would
/// overflow are dropped.
fn leading_fraction(digits: &str) -> (u64, f64) {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes().map(|byte| u64::from(byte - b'0')) {
        if value > (LIMIT - 1) / 10 || value * 10 + digit > LIMIT {
            break;
        }
        value = value * 10 + digit;
        scale *= 10.0;
    }
    (value, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;

    #[test]
    fn every_text_that_go_reads_is_read_as_go_reads_it() {
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5s", 5 * SECOND),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5 * SECOND + 600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("1.0s", SECOND),
            ("1.00s", SECOND),
            ("1.004s", SECOND + 4_000_000),
            ("1.0040s", SECOND + 4_000_000),
            ("100.00100s", 100 * SECOND + 1_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECOND),
            ("15m", 15 * MINUTE),
            ("16h", 16 * HOUR),
            ("3h30m", 3 * HOUR + 30 * MINUTE),
            ("10.5s4m", 4 * MINUTE + 10 * SECOND + 500_000_000),
            ("-2m3.4s", -(2 * MINUTE + 3 * SECOND + 400_000_000)),
            ("-1.5h", -(HOUR + 30 * MINUTE)),
            ("1.5h", HOUR + 30 * MINUTE),
            ("1h15m30.918273645s", HOUR + 15 * MINUTE + 30 * SECOND + 918_273_645),
            ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14 * SECOND + 425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * MINUTE),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036854775.807us", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036854775.808us", i64::MIN),
            ("-9223372036s854ms775us808ns", i64::MIN),
            ("0.100000000000000000000h", 6 * MINUTE),
            ("0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 372_539_827),
            ("2562047h", 2_562_047 * HOUR),
            ("9223372036854775808ns9223372036854775808ns", 0),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse_go_duration(text), Ok(*nanoseconds), "{text}");
        }
    }

    #[test]
    fn every_text_that_go_refuses_is_refused() {
        use DurationError::*;
        let cases = [
            ("", Invalid),
            ("3", MissingUnit),
            ("60", MissingUnit),
            ("-", Invalid),
            ("+", Invalid),
            ("s", Invalid),
            (".", Invalid),
            ("-.", Invalid),
            (".s", Invalid),
            ("+.s", Invalid),
            (" 5s", Invalid),
            ("--5s", Invalid),
            ("5s ", UnknownUnit("s ".into())),
            ("1d", UnknownUnit("d".into())),
            ("1M", UnknownUnit("M".into())),
            ("1S", UnknownUnit("S".into())),
            ("1h 2m", UnknownUnit("h ".into())),
            ("1e3s", UnknownUnit("e".into())),
            ("3000000h", Overflow),
            ("100000000000000000000ns", Overflow),
            ("9223372036854775808ns", Overflow),
            ("9223372036854775809ns", Overflow),
            ("9223372036854775.808us", Overflow),
            ("9223372036854ms775us808ns", Overflow),
            ("-9223372036854775809ns", Overflow),
            ("1.5", MissingUnit),
            ("1h1", MissingUnit),
            ("\u{85}\u{85}", Invalid),
            ("\u{ffff}", Invalid),
            ("hello \u{ffff} world", Invalid),
        ];
        for (text, error) in cases {
            assert_eq!(parse_go_duration(text), Err(error), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[-+]?[0-9.hmsnuµμ]{0,40}") {
            let _ = parse_go_duration(&text);
        }
    }
}
