//! One rule of our chains, as a value: what iptables is told, and what a listing of it is compared with.
//!
//! Two listings of one rule may differ in the order of matches, in how a number is written, and between iptables
//! versions and variants. As values they are equal.

use crate::policy::{Family, ForwardMark, MaskedMark, PortRange};
use crate::ruleset::{Address, Effect, Fact, Match, Side, Test};
use std::fmt;
use std::net::SocketAddr;

/// Every rule of ours, and of the Go agents, has a comment that begins with this.
pub const COMMENT_PREFIX: &str = "ip-masq-agent: ";
/// What Kubernetes' ip-masq-agent was called in its first days, as it stands in the comments of then.
pub const FIRST_COMMENT_PREFIX: &str = "non-masquerade-daemon: ";
/// The kernel keeps a probability in so many parts (libxt_statistic).
pub const CERTAIN: u32 = 1 << 31;
/// The flags that `--syn` looks at, and the one of them that is set.
pub const SYN_ONLY: (&str, &str) = ("FIN,SYN,RST,ACK", "SYN");

/// What is behind the name of a chain in `-A CHAIN`: iptables(8) calls it a rule-specification.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleSpec {
    /// What it looks at, in the order of a listing.
    pub when: Vec<Match<String>>,
    /// Its comment, prefix and all.
    pub comment: Option<String>,
    /// What it does.
    pub then: Effect<String>,
}

impl RuleSpec {
    /// A rule with a comment, prefix and all; lists are named as their sets. A jump may lead to a chain or to a target
    /// that we don't know.
    pub fn new(mut when: Vec<Match<String>>, comment: Option<String>, then: Effect<String>) -> Self {
        for one in &mut when {
            if let Match::Holds(Fact::Share { part, of }) = one {
                (*part, *of) = (fraction(f64::from(*part) / f64::from(*of)), CERTAIN);
            }
        }
        when.sort_by_key(place);
        RuleSpec { when, comment, then }
    }
}

/// A probability in the units of the kernel, rounded as libxt_statistic does.
pub fn fraction(probability: f64) -> u32 {
    (probability * f64::from(CERTAIN)).round() as u32
}

/// The order in which iptables-save lists matches; the comment is behind those of which it says so.
fn place(one: &Match<String>) -> u8 {
    let test = match one {
        Match::Is(test) | Match::IsNot(test) => test,
        Match::Holds(Fact::Bridged) => return 8,
        Match::Holds(Fact::Ipsec) => return 10,
        Match::Holds(Fact::Share { .. }) => return 11,
        Match::Holds(Fact::Dnated) => return 12,
    };
    match test {
        Test::Family(_) => 0,
        Test::In(Side::Saddr, _) => 1,
        Test::In(Side::Daddr, _) => 2,
        Test::InInterface { .. } | Test::OutInterface { .. } => 3,
        Test::Protocol(_) => 4,
        Test::OnlySyn | Test::DestinationPort(_) => 5,
        Test::InList(..) => BEFORE_COMMENT,
        Test::Local(_) => 7,
        Test::Mark(_) => 9,
    }
}

const BEFORE_COMMENT: u8 = 6;

impl fmt::Display for RuleSpec {
    /// In the order in which iptables-save lists the Go agent's rules.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (front, back) = self.when.split_at(self.when.partition_point(|one| place(one) <= BEFORE_COMMENT));
        front.iter().try_for_each(|one| write_match(one, f))?;
        if let Some(comment) = &self.comment {
            write!(f, "-m comment --comment {} ", Quoted(comment))?;
        }
        back.iter().try_for_each(|one| write_match(one, f))?;
        write_effect(&self.then, f)
    }
}

fn write_match(one: &Match<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (test, not) = match one {
        Match::Is(test) => (test, ""),
        Match::IsNot(test) => (test, "! "),
        Match::Holds(fact) => return write_fact(*fact, f),
    };
    match test {
        Test::Family(Family::V4) => write!(f, "{not}-4 "),
        Test::Family(Family::V6) => write!(f, "{not}-6 "),
        Test::In(Side::Saddr, prefix) => write!(f, "{not}-s {prefix} "),
        Test::In(Side::Daddr, prefix) => write!(f, "{not}-d {prefix} "),
        Test::OutInterface { name, prefix } => write!(f, "{not}-o {name}{} ", if *prefix { "+" } else { "" }),
        Test::InInterface { name, prefix } => write!(f, "{not}-i {name}{} ", if *prefix { "+" } else { "" }),
        Test::Protocol(protocol) => write!(f, "{not}-p {protocol} "),
        // Behind the protocol, which sorts before it; iptables-save has it with the name of the protocol's match.
        Test::DestinationPort(PortRange { first, last }) if first == last => write!(f, "{not}--dport {first} "),
        Test::DestinationPort(PortRange { first, last }) => write!(f, "{not}--dport {first}:{last} "),
        Test::OnlySyn => write!(f, "-m tcp {not}--tcp-flags {} {} ", SYN_ONLY.0, SYN_ONLY.1),
        Test::InList(Side::Saddr, set) => write!(f, "-m set {not}--match-set {set} src "),
        Test::InList(Side::Daddr, set) => write!(f, "-m set {not}--match-set {set} dst "),
        Test::Local(Address::Saddr) => write!(f, "-m addrtype {not}--src-type LOCAL "),
        Test::Local(Address::SaddrOnOutInterface) => {
            write!(f, "-m addrtype {not}--src-type LOCAL --limit-iface-out ")
        }
        Test::Local(Address::Daddr) => write!(f, "-m addrtype {not}--dst-type LOCAL "),
        Test::Mark(mark) => write!(f, "-m mark {not}--mark {mark} "),
    }
}

fn write_fact(fact: Fact, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match fact {
        Fact::Dnated => f.write_str("-m conntrack --ctstate DNAT "),
        Fact::Bridged => f.write_str("-m physdev --physdev-is-bridged "),
        Fact::Ipsec => f.write_str("-m policy --dir out --pol ipsec "),
        Fact::Share { part, of } => {
            let probability = f64::from(part) / f64::from(of);
            write!(f, "-m statistic --mode random --probability {probability:.11} ")
        }
    }
}

fn write_effect(then: &Effect<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match then {
        Effect::Return => f.write_str("-j RETURN"),
        Effect::SnatByRoute(none) => match *none {},
        Effect::Goto(chain) => write!(f, "-g {chain}"),
        Effect::Jump(chain) => write!(f, "-j {chain}"),
        Effect::Mark(ForwardMark::Bit(bit)) => write!(f, "-j MARK --set-xmark {}", MaskedMark::of_bit(*bit)),
        Effect::Mark(ForwardMark::Chain(chain)) => write!(f, "-j {chain}"),
        Effect::Drop => f.write_str("-j DROP"),
        Effect::Dnat { to, port: None } => write!(f, "-j DNAT --to-destination {to}"),
        Effect::Dnat { to, port: Some(port) } => {
            let (first, last) = (port.to, port.to + (port.from.last - port.from.first));
            write!(f, "-j DNAT --to-destination {}", SocketAddr::new(*to, first))?;
            // The base is what the first of them was: else the kernel would take any of them.
            if first == last { Ok(()) } else { write!(f, "-{last}/{}", port.from.first) }
        }
        Effect::Masquerade { random_fully, ports } => {
            f.write_str("-j MASQUERADE")?;
            if let Some(ports) = ports {
                write!(f, " --to-ports {ports}")?;
            }
            f.write_str(if *random_fully { " --random-fully" } else { "" })
        }
        Effect::Snat { to, random_fully, ports } => {
            match (to.family(), ports) {
                (_, None) => write!(f, "-j SNAT --to-source {to}")?,
                (Family::V4, Some(ports)) => write!(f, "-j SNAT --to-source {to}:{ports}")?,
                (Family::V6, Some(ports)) => write!(f, "-j SNAT --to-source [{to}]:{ports}")?,
            }
            f.write_str(if *random_fully { " --random-fully" } else { "" })?;
            f.write_str(if to.is_one() { "" } else { " --persistent" })
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
        let when = vec![Match::Is(Test::In(Side::Daddr, "10.0.0.0/8".parse().unwrap()))];
        let comment = format!("{COMMENT_PREFIX}local traffic is not subject to MASQUERADE");
        assert_eq!(
            RuleSpec::new(when, Some(comment), Effect::Return).to_string(),
            "-d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN"
        );
    }

    #[test]
    fn quotes_in_a_comment_are_escaped() {
        let rule = RuleSpec::new(Vec::new(), Some("\"a\\b\"".into()), Effect::Jump("X".into()));
        assert_eq!(rule.to_string(), r#"-m comment --comment "\"a\\b\"" -j X"#);
    }
}
