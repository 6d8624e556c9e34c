//! One rule of our chains, as a value: what iptables is told, and what a listing of it is compared with.
//!
//! Two listings of one rule may differ in the order of matches, in how a number is written, and between iptables
//! versions and variants. As values they are equal.

use crate::policy::{PortRange, Prefix};
use std::fmt;

/// Every rule of ours, and of the Go agents, has a comment that begins with this.
pub const COMMENT_PREFIX: &str = "ip-masq-agent: ";

/// A value that must match, or must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match<T> {
    /// True for `!`.
    pub negated: bool,
    /// What is looked for.
    pub value: T,
}

impl<T> Match<T> {
    /// Must match.
    pub fn is(value: T) -> Self {
        Match { negated: false, value }
    }

    /// Must not match.
    pub fn is_not(value: T) -> Self {
        Match { negated: true, value }
    }

    /// The opposite.
    pub fn inverse(self) -> Self {
        Match { negated: !self.negated, value: self.value }
    }

    fn bang(&self) -> &'static str {
        if self.negated { "! " } else { "" }
    }
}

/// What we say of an `addrtype` match; iptables-extensions(8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressType {
    /// `--src-type`.
    pub source: Option<Match<String>>,
    /// `--dst-type`.
    pub destination: Option<Match<String>>,
    /// `--limit-iface-out`.
    pub limit_iface_out: bool,
}

/// `--tcp-flags`, as bits of the TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags {
    /// The flags that are looked at.
    pub mask: u8,
    /// Those of them that are set.
    pub set: u8,
}

impl TcpFlags {
    /// The flags with the names that iptables lists them by; RFC 9293, 3.1.
    pub const NAMES: [(&'static str, u8); 6] =
        [("FIN", 0x01), ("SYN", 0x02), ("RST", 0x04), ("PSH", 0x08), ("ACK", 0x10), ("URG", 0x20)];

    /// A packet that opens a connection.
    pub const OPENING: TcpFlags = TcpFlags { mask: 0x01 | 0x02 | 0x04 | 0x10, set: 0x02 };
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |bits: u8| {
            let names: Vec<_> =
                TcpFlags::NAMES.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name).collect();
            if names.is_empty() { "NONE".to_owned() } else { names.join(",") }
        };
        write!(f, "{} {}", names(self.mask), names(self.set))
    }
}

/// Which address is looked up in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Source => "src",
            Direction::Destination => "dst",
        })
    }
}

/// What happens to a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Leave the chain; the source is kept.
    Return,
    /// Masquerade.
    Masquerade {
        /// `--to-ports`.
        to_ports: Option<PortRange>,
        /// `--random-fully`.
        random_fully: bool,
    },
    /// `-j` to a chain, or to a verdict that is none of the above.
    Jump(String),
    /// `-g` to a chain.
    Goto(String),
}

/// A rule without its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `-s`; unset also for a prefix of length 0.
    pub source: Option<Match<Prefix>>,
    /// `-d`; unset also for a prefix of length 0.
    pub destination: Option<Match<Prefix>>,
    /// `-o`, with `+` at the end for a prefix.
    pub out_interface: Option<Match<String>>,
    /// `-p`, by name.
    pub protocol: Option<String>,
    /// `-m tcp --tcp-flags`.
    pub tcp_flags: Option<Match<TcpFlags>>,
    /// `-m comment --comment`.
    pub comment: Option<String>,
    /// `-m addrtype`.
    pub address_type: Option<AddressType>,
    /// `-m set --match-set`.
    pub set: Option<Match<(String, Direction)>>,
    /// `-m physdev --physdev-is-bridged`.
    pub bridged: bool,
    /// `-m statistic --mode random --probability`, in units of 2^-31 as the kernel keeps it.
    pub probability: Option<u32>,
    /// `-j` or `-g`.
    pub target: Target,
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(target: Target) -> Self {
        Rule {
            source: None,
            destination: None,
            out_interface: None,
            protocol: None,
            tcp_flags: None,
            comment: None,
            address_type: None,
            set: None,
            bridged: false,
            probability: None,
            target,
        }
    }

    /// The same with a comment; the prefix is put in front of it.
    pub fn commented(mut self, comment: &str) -> Self {
        self.comment = Some(format!("{COMMENT_PREFIX}{comment}"));
        self
    }
}

impl fmt::Display for Rule {
    /// Writes what stands behind `-A CHAIN`, in the order in which iptables-save lists the Go agent's rules.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{}-s {} ", source.bang(), source.value)?;
        }
        if let Some(destination) = &self.destination {
            write!(f, "{}-d {} ", destination.bang(), destination.value)?;
        }
        if let Some(interface) = &self.out_interface {
            write!(f, "{}-o {} ", interface.bang(), interface.value)?;
        }
        if let Some(protocol) = &self.protocol {
            write!(f, "-p {protocol} ")?;
        }
        if let Some(flags) = &self.tcp_flags {
            write!(f, "-m tcp {}--tcp-flags {} ", flags.bang(), flags.value)?;
        }
        if let Some(set) = &self.set {
            write!(f, "-m set {}--match-set {} {} ", set.bang(), set.value.0, set.value.1)?;
        }
        if let Some(comment) = &self.comment {
            write!(f, "-m comment --comment {} ", Quoted(comment))?;
        }
        if let Some(types) = &self.address_type {
            write!(f, "{types} ")?;
        }
        if self.bridged {
            f.write_str("-m physdev --physdev-is-bridged ")?;
        }
        if let Some(probability) = self.probability {
            let fraction = f64::from(probability) / f64::from(1u32 << 31);
            write!(f, "-m statistic --mode random --probability {fraction:.11} ")?;
        }
        self.target.fmt(f)
    }
}

impl fmt::Display for AddressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("-m addrtype")?;
        if let Some(source) = &self.source {
            write!(f, " {}--src-type {}", source.bang(), source.value)?;
        }
        if let Some(destination) = &self.destination {
            write!(f, " {}--dst-type {}", destination.bang(), destination.value)?;
        }
        if self.limit_iface_out {
            f.write_str(" --limit-iface-out")?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Return => f.write_str("-j RETURN"),
            Target::Masquerade { to_ports, random_fully } => {
                f.write_str("-j MASQUERADE")?;
                if let Some(ports) = to_ports {
                    write!(f, " --to-ports {ports}")?;
                }
                f.write_str(if *random_fully { " --random-fully" } else { "" })
            }
            Target::Jump(chain) => write!(f, "-j {chain}"),
            Target::Goto(chain) => write!(f, "-g {chain}"),
        }
    }
}

/// A text as iptables-restore reads it back: one word, in quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_iptables_lists_the_go_agents() {
        let mut rule = Rule::new(Target::Return).commented("local traffic is not subject to MASQUERADE");
        rule.destination = Some(Match::is("10.0.0.0/8".parse().unwrap()));
        assert_eq!(
            rule.to_string(),
            "-d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN"
        );
    }

    #[test]
    fn quotes_in_a_comment_are_escaped() {
        let mut rule = Rule::new(Target::Jump("X".into()));
        rule.comment = Some("\"a\\b\"".into());
        assert_eq!(rule.to_string(), r#"-m comment --comment "\"a\\b\"" -j X"#);
    }
}
