//! A rule of ours, in as many words as our rules need.

use super::table::{ChainName, SetName};
use crate::policy::{Family, PortRange, Prefix, Protocol};
use std::fmt;

/// A rule. Every one counts what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it looks at, and what it does.
    pub body: Body,
    /// The comment behind it; only rules with one of ours ([`is_our_comment`]) are ours.
    pub comment: Option<String>,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A rule in our words: all of the matches, then the action.
    Known(Vec<Match>, Action),
    /// A rule that we never write; the names of its expressions.
    Unknown(Vec<String>),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet is of the family.
    Family(Family),
    /// What the routing table says about an address: local to the host, or with `false` not.
    Local(FibAddress, bool),
    /// The name of the outgoing interface.
    OutInterface {
        /// The name, or its beginning.
        name: String,
        /// Only the beginning was named.
        prefix: bool,
        /// It must not match.
        negated: bool,
    },
    /// An address is in a set, or with `false` not.
    InSet(Side, SetName, bool),
    /// An address is in a prefix.
    InPrefix(Side, Prefix),
    /// The transport protocol.
    Protocol(Protocol),
    /// TCP, and of SYN, RST, ACK and FIN not only SYN is set.
    NotOpening,
    /// The packet came in through no interface and leaves through a bridge.
    ///
    /// br_netfilter runs POSTROUTING without an input device for frames that it bridges (br_nf_post_routing); a
    /// routed packet has one (Linux 5.5), and a packet of the host's own has a local source.
    ToBridge,
    /// A random number below `of` is below `below`.
    Chance {
        /// How many numbers there are.
        of: u32,
        /// How many of them match.
        below: u32,
    },
}

/// Which address is asked for in the routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibAddress {
    /// The destination.
    Destination,
    /// The source.
    Source,
    /// The source, and only as an address of the outgoing interface.
    SourceOnOutInterface,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Leaves our chains; the source stays.
    Return,
    /// Goes on in another chain.
    Goto(ChainName),
    /// Rewrites the source.
    Masquerade {
        /// The kernel chooses ports at random.
        random_fully: bool,
        /// The ports to choose from.
        ports: Option<PortRange>,
    },
}

/// How the comments of our rules begin, which they keep in every version: by that they are known as ours.
const COMMENTS: [&str; 3] = ["keep source: ", "masquerade: ", "go on: "];

/// True for a comment of one of our rules, of this version or another one.
pub fn is_our_comment(comment: &str) -> bool {
    COMMENTS.iter().any(|beginning| comment.starts_with(beginning))
}

impl Rule {
    /// A rule in our words. The comment is the action in words, and the reason.
    pub fn new(matches: Vec<Match>, action: Action, reason: &str) -> Self {
        let beginning = match action {
            Action::Return => COMMENTS[0],
            Action::Masquerade { .. } => COMMENTS[1],
            Action::Goto(_) => COMMENTS[2],
        };
        Rule { body: Body::Known(matches, action), comment: Some(format!("{beginning}{reason}")) }
    }

    /// What it does; `None` for a rule that we never write.
    pub fn action(&self) -> Option<&Action> {
        match &self.body {
            Body::Known(_, action) => Some(action),
            Body::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Rule {
    /// As a line of nft's language; a rule that we never write becomes a comment of that language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Known(matches, action) => {
                matches.iter().try_for_each(|one| write!(f, "{one} "))?;
                write!(f, "counter {action}")?;
            }
            Body::Unknown(names) => write!(f, "# a rule that ip-masq-agent never writes: {}", names.join(" "))?,
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Family(family) => write!(f, "meta nfproto {}", super::table::family_word(*family)),
            Match::Local(address, local) => {
                let address = match address {
                    FibAddress::Destination => "daddr",
                    FibAddress::Source => "saddr",
                    FibAddress::SourceOnOutInterface => "saddr . oif",
                };
                write!(f, "fib {address} type {}local", unequal(!local))
            }
            Match::OutInterface { name, prefix, negated } => {
                write!(f, "oifname {}\"{name}{}\"", unequal(*negated), if *prefix { "*" } else { "" })
            }
            Match::InSet(side, set, inside) => {
                write!(f, "{} {}@{set}", address_word(*side, set.family), unequal(!inside))
            }
            Match::InPrefix(side, prefix) => write!(f, "{} {prefix}", address_word(*side, prefix.family())),
            Match::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Match::NotOpening => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
            Match::ToBridge => f.write_str("iif 0 meta oifkind \"bridge\""),
            Match::Chance { of, below } => write!(f, "numgen random mod {of} < {below}"),
        }
    }
}

fn unequal(negated: bool) -> &'static str {
    if negated { "!= " } else { "" }
}

fn address_word(side: Side, family: Family) -> &'static str {
    match (family, side) {
        (Family::V4, Side::Source) => "ip saddr",
        (Family::V4, Side::Destination) => "ip daddr",
        (Family::V6, Side::Source) => "ip6 saddr",
        (Family::V6, Side::Destination) => "ip6 daddr",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Return => f.write_str("return"),
            Action::Goto(chain) => write!(f, "goto {chain}"),
            Action::Masquerade { random_fully, ports } => {
                f.write_str("masquerade")?;
                match ports {
                    Some(range) if range.first == range.last => write!(f, " to :{}", range.first)?,
                    Some(range) => write!(f, " to :{range}")?,
                    None => {}
                }
                f.write_str(if *random_fully { " fully-random" } else { "" })
            }
        }
    }
}
