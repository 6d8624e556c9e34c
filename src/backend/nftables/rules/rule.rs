//! A rule of ours, in as many words as our rules need.

use super::interval;
use super::name::{self, ChainName, SetName};
use super::port_set::{Data, PortSet};
use crate::policy::{Family, MaskedMark, PortRange, Protocol};
use crate::ruleset::{Address, Effect, Fact, Match, Side, Test, block_length};
use std::fmt;
use std::net::IpAddr;

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
    /// A rule in our words: all of the matches, then the effect.
    Known(Vec<Match<SetName>>, Effect<ChainName>),
    /// What a map says of the packet.
    LookUp(LookUp),
    /// A rule that we never write; as much of it as could be put into words.
    Unknown(String),
}

/// A rule that does what a map says: another destination, a chain that goes on, or another source. Its elements count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// What must hold besides.
    pub when: Vec<Match<SetName>>,
    /// The map.
    pub map: SetName,
    /// Of another source: the kernel chooses ports at random.
    pub random_fully: bool,
    /// Of another source: the ports to choose from.
    pub ports: Option<PortRange>,
}

/// How the comments of our rules begin, which they keep in every version: by that they are known as ours.
const COMMENTS: [&str; 8] =
    ["keep source: ", "masquerade: ", "go on: ", "snat: ", "dnat: ", "drop: ", "not forwarded: ", "mark: "];

/// True for a comment of one of our rules, of this version or another one.
pub fn is_our_comment(comment: &str) -> bool {
    COMMENTS.iter().any(|beginning| comment.starts_with(beginning))
}

impl Rule {
    /// A rule in our words. The comment is the effect in words, and the reason.
    pub fn new(when: Vec<Match<SetName>>, then: Effect<ChainName>, reason: &str) -> Self {
        let beginning = match then {
            Effect::Return => COMMENTS[0],
            Effect::Masquerade { .. } => COMMENTS[1],
            Effect::Goto(_) | Effect::Jump(_) => COMMENTS[2],
            Effect::Snat { .. } | Effect::SnatByRoute(_) => COMMENTS[3],
            Effect::Dnat { .. } => COMMENTS[4],
            Effect::Drop => COMMENTS[5],
            Effect::Mark(_) => COMMENTS[7],
        };
        Rule { body: Body::Known(when, then), comment: Some(format!("{beginning}{reason}")) }
    }

    /// A rule that leaves a flow to the host.
    pub fn leave(when: Vec<Match<SetName>>, reason: &str) -> Self {
        Rule { body: Body::Known(when, Effect::Return), comment: Some(format!("{}{reason}", COMMENTS[6])) }
    }

    /// The rule that looks into a map of port forwards.
    pub fn look_up(map: SetName) -> Self {
        let beginning = if map.ports().is_some_and(|ports| ports.data() == Data::Chain) { 2 } else { 4 };
        let comment = format!("{}{}", COMMENTS[beginning], map.comment());
        let look_up = LookUp { when: Vec::new(), map, random_fully: false, ports: None };
        Rule { body: Body::LookUp(look_up), comment: Some(comment) }
    }

    /// The rule that looks what a port becomes behind a gate.
    pub fn shifted(when: Vec<Match<SetName>>, map: SetName, reason: &str) -> Self {
        let look_up = LookUp { when, map, random_fully: false, ports: None };
        Rule { body: Body::LookUp(look_up), comment: Some(format!("{}{reason}", COMMENTS[4])) }
    }

    /// The rule that looks into a map of the sources that routes prefer.
    pub fn snat_by_route(look_up: LookUp, reason: &str) -> Self {
        Rule { body: Body::LookUp(look_up), comment: Some(format!("{}{reason}", COMMENTS[3])) }
    }

    /// True when this version may have written it.
    pub fn is_ours(&self) -> bool {
        self.is_known() && self.comment.as_deref().is_some_and(is_our_comment)
    }

    /// As much of it as there are words for, on one line: what is not understood is not said to be a comment of nft's.
    pub fn words(&self) -> String {
        let comment = self.comment.as_ref().map_or(String::new(), |comment| format!(" comment \"{}\"", shown(comment)));
        match &self.body {
            Body::Known(..) | Body::LookUp(_) => self.to_string(),
            Body::Unknown(words) => shown(words) + &comment,
        }
    }

    /// True when it looks into a set.
    pub fn looks_into(&self, name: SetName) -> bool {
        match &self.body {
            Body::Known(when, _) => when.iter().any(|one| one.list() == Some(&name)),
            Body::LookUp(LookUp { when, map, .. }) => *map == name || when.iter().any(|one| one.list() == Some(&name)),
            Body::Unknown(_) => false,
        }
    }

    /// Makes it look into another set than one.
    pub fn rename(&mut self, from: SetName, to: SetName) {
        if self.looks_into(from) {
            self.rename_all(|set| if set == from { to } else { set });
        }
    }

    /// The same with the usual names of all sets.
    pub fn with_usual_names(mut self) -> Self {
        self.rename_all(SetName::usual);
        self
    }

    fn rename_all(&mut self, other: impl Fn(SetName) -> SetName) {
        let when = match &mut self.body {
            Body::Known(when, _) => when,
            Body::LookUp(LookUp { when, map, .. }) => {
                *map = other(*map);
                when
            }
            Body::Unknown(_) => return,
        };
        *when = std::mem::take(when).into_iter().map(|one| one.rename(&other)).collect();
    }

    /// True when it rewrites addresses, or looks whether they were: it needs connection tracking.
    pub fn translates(&self) -> bool {
        match &self.body {
            Body::Known(when, then) => {
                let asks = when.contains(&Match::Holds(Fact::Dnated));
                then.translates() || matches!(then, Effect::Dnat { .. }) || asks
            }
            Body::LookUp(look_up) => look_up.map.ports().is_some_and(|ports| ports.data() != Data::Chain),
            Body::Unknown(_) => false,
        }
    }

    /// True for a rule that we may write.
    pub fn is_known(&self) -> bool {
        !matches!(self.body, Body::Unknown(_))
    }

    /// What it does; `None` where a map says so, and for a rule that we never write.
    pub fn effect(&self) -> Option<&Effect<ChainName>> {
        match &self.body {
            Body::Known(_, then) => Some(then),
            Body::LookUp(_) | Body::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Rule {
    /// As a line of nft's language; a rule that we never write becomes a comment of that language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Known(when, then) => {
                write_matches(when, f)?;
                f.write_str("counter ")?;
                write_effect(then, f)?;
            }
            Body::LookUp(look_up) => write_look_up(look_up, f)?,
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

/// What nft leaves out because the match behind it says it, too.
fn is_implied(one: &Match<SetName>, next: Option<&Match<SetName>>) -> bool {
    *one == Match::Is(Test::Protocol(Protocol::Tcp)) && next.and_then(Match::test) == Some(&Test::OnlySyn)
}

fn write_matches(when: &[Match<SetName>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, one) in when.iter().enumerate() {
        if !is_implied(one, when.get(place + 1)) {
            write_match(one, f)?;
            f.write_str(" ")?;
        }
    }
    Ok(())
}

fn write_match(one: &Match<SetName>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (test, negated) = match one {
        Match::Is(test) => (test, false),
        Match::IsNot(test) => (test, true),
        Match::Holds(fact) => return write_fact(*fact, f),
    };
    let not = if negated { "!= " } else { "" };
    match test {
        Test::Family(family) => write!(f, "meta nfproto {not}{}", name::family_word(*family)),
        Test::Local(Address::Daddr) => write!(f, "fib daddr type {not}local"),
        Test::Local(Address::Saddr) => write!(f, "fib saddr type {not}local"),
        Test::Local(Address::SaddrOnOutInterface) => write!(f, "fib saddr . oif type {not}local"),
        Test::InInterface { name, prefix: true } if name.is_empty() => {
            f.write_str(if negated { "iif 0" } else { "iif != 0" })
        }
        Test::OutInterface { name, prefix } => {
            write!(f, "oifname {not}\"{name}{}\"", if *prefix { "*" } else { "" })
        }
        Test::InInterface { name, prefix } => {
            write!(f, "iifname {not}\"{name}{}\"", if *prefix { "*" } else { "" })
        }
        Test::DestinationPort(PortRange { first, last }) if first == last => write!(f, "th dport {not}{first}"),
        Test::DestinationPort(ports) => write!(f, "th dport {not}{ports}"),
        Test::InList(side, set) => match set.ports() {
            None if set.has_blocks() => {
                write!(f, "{} & {} {not}@{set}", address_word(*side, set.family), block_mask(set.family))
            }
            None => write!(f, "{} {not}@{set}", address_word(*side, set.family)),
            Some(ports) => write!(f, "{} {not}@{set}", ports.selector(set.family)),
        },
        Test::In(side, prefix) => write!(f, "{} {not}{prefix}", address_word(*side, prefix.family())),
        Test::Protocol(protocol) => write!(f, "meta l4proto {not}{protocol}"),
        Test::OnlySyn => {
            write!(f, "tcp flags & (fin | syn | rst | ack) {} syn", if negated { "!=" } else { "==" })
        }
        Test::Mark(MaskedMark { value, mask: u32::MAX }) => write!(f, "meta mark {not}{value:#010x}"),
        Test::Mark(MaskedMark { value, mask }) => {
            write!(f, "meta mark & {mask:#010x} {} {value:#010x}", if negated { "!=" } else { "==" })
        }
    }
}

fn write_fact(fact: Fact, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match fact {
        Fact::Dnated => f.write_str("ct status dnat"),
        Fact::Bridged => f.write_str("iif 0 meta oifkind \"bridge\" @ll,0,48 != 0x0 fib saddr type != local"),
        Fact::Ipsec => f.write_str("rt ipsec exists"),
        Fact::Share { part, of } => write!(f, "numgen random mod {of} < {part}"),
    }
}

/// What the addresses of a block have in common.
fn block_mask(family: Family) -> IpAddr {
    interval::address(interval::mask(block_length(family), family), family)
}

fn port_words(range: PortRange) -> String {
    if range.first == range.last { format!(":{}", range.first) } else { format!(":{range}") }
}

fn write_look_up(look_up: &LookUp, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let LookUp { when, map, random_fully, ports } = look_up;
    let Some(shape) = map.ports() else { return Ok(()) };
    let (selector, family) = (shape.selector(map.family), interval::ip_word(map.family));
    write_matches(when, f)?;
    match (shape, shape.data()) {
        (PortSet::RouteSources, _) => {
            write!(f, "snat {family} to {selector} map @{map}")?;
            if let Some(range) = ports {
                f.write_str(&port_words(*range))?;
            }
            f.write_str(if *random_fully { " fully-random" } else { "" })
        }
        (_, Data::Chain) => write!(f, "{selector} vmap @{map}"),
        _ => write!(f, "dnat {family} to {selector} map @{map}"),
    }
}

fn address_word(side: Side, family: Family) -> &'static str {
    match (family, side) {
        (Family::V4, Side::Saddr) => "ip saddr",
        (Family::V4, Side::Daddr) => "ip daddr",
        (Family::V6, Side::Saddr) => "ip6 saddr",
        (Family::V6, Side::Daddr) => "ip6 daddr",
    }
}

fn write_effect(then: &Effect<ChainName>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match then {
        Effect::Return => f.write_str("return"),
        Effect::SnatByRoute(none) => match *none {},
        Effect::Goto(chain) => write!(f, "goto {chain}"),
        Effect::Jump(chain) => write!(f, "jump {chain}"),
        // Of another program's chain only iptables knows.
        Effect::Mark(mark) => match mark.bit() {
            Some(bit) => write!(f, "meta mark set meta mark | {:#010x}", bit.value),
            None => Ok(()),
        },
        Effect::Drop => f.write_str("drop"),
        Effect::Dnat { to: to @ IpAddr::V4(_), port: Some(port) } => write!(f, "dnat ip to {to}:{}", port.to),
        Effect::Dnat { to: to @ IpAddr::V6(_), port: Some(port) } => write!(f, "dnat ip6 to [{to}]:{}", port.to),
        Effect::Dnat { to, port: None } => write!(f, "dnat {} to {to}", interval::ip_word(Family::of(*to))),
        Effect::Masquerade { random_fully, ports } => {
            f.write_str("masquerade")?;
            if let Some(range) = ports {
                write!(f, " to {}", port_words(*range))?;
            }
            f.write_str(if *random_fully { " fully-random" } else { "" })
        }
        Effect::Snat { to, random_fully, ports } => {
            let in_brackets = ports.is_some() && to.family() == Family::V6;
            let address = |address: IpAddr| if in_brackets { format!("[{address}]") } else { address.to_string() };
            write!(f, "snat {} to {}", interval::ip_word(to.family()), address(to.first()))?;
            if !to.is_one() {
                write!(f, "-{}", address(to.last()))?;
            }
            if let Some(range) = ports {
                f.write_str(&port_words(*range))?;
            }
            f.write_str(match (random_fully, to.is_one()) {
                (true, true) => " fully-random",
                (true, false) => " fully-random,persistent",
                (false, true) => "",
                (false, false) => " persistent",
            })
        }
    }
}
