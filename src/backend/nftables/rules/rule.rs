//! A rule of ours, in as many words as our rules need.

use super::name::{self, ChainName, SetName};
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
    /// A rule that we never write; as much of it as could be put into words.
    Unknown(String),
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
    /// routed packet has one (Linux 5.5).
    ToBridge,
    /// The packet has the header of a frame, and a destination in it.
    ///
    /// A frame that is bridged has the one it arrived with. A packet of the host's own gets one only after POSTROUTING:
    /// an expression that looks at what is not there ends its rule (nft_payload_eval).
    InFrame,
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

    /// True when this version may have written it.
    pub fn is_ours(&self) -> bool {
        self.action().is_some() && self.comment.as_deref().is_some_and(is_our_comment)
    }

    /// As much of it as there are words for, on one line: what is not understood is not said to be a comment of nft's.
    pub fn words(&self) -> String {
        let comment = self.comment.as_ref().map_or(String::new(), |comment| format!(" comment \"{}\"", shown(comment)));
        match &self.body {
            Body::Known(..) => self.to_string(),
            Body::Unknown(words) => shown(words) + &comment,
        }
    }

    /// True when it looks into a set.
    pub fn looks_into(&self, name: SetName) -> bool {
        match &self.body {
            Body::Known(matches, _) => matches.iter().any(|one| matches!(one, Match::InSet(_, set, _) if *set == name)),
            Body::Unknown(_) => false,
        }
    }

    /// Makes it look into another set than one.
    pub fn rename(&mut self, from: SetName, to: SetName) {
        let Body::Known(matches, _) = &mut self.body else { return };
        for one in matches {
            match one {
                Match::InSet(_, set, _) if *set == from => *set = to,
                _ => {}
            }
        }
    }

    /// True when it rewrites sources.
    pub fn masquerades(&self) -> bool {
        matches!(self.action(), Some(Action::Masquerade { .. }))
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
            Body::Unknown(words) => write!(f, "# a rule that ip-masq-agent never writes: {}", shown(words))?,
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{}\"", shown(comment)),
            None => Ok(()),
        }
    }
}

/// A text of another program's as one line.
pub fn shown(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { char::REPLACEMENT_CHARACTER } else { one }).collect()
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Family(family) => write!(f, "meta nfproto {}", name::family_word(*family)),
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
            Match::InFrame => f.write_str("@ll,0,48 != 0x0"),
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
