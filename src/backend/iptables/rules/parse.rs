//! What `iptables-save -t` printed of a table, as a value.
//!
//! Tolerant: rules of others stay text, and a rule of ours that is not understood differs from every rule that we
//! could want.

use super::rule::{CERTAIN, COMMENT_PREFIX, FIRST_COMMENT_PREFIX, RuleSpec, SYN_ONLY, fraction};
use crate::policy::{AddressRange, Family, ForwardMark, InterfacePattern, MaskedMark, PortRange};
use crate::ruleset::{Address, Effect, Fact, Match, ShiftedPort, Side, Test};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

/// A table of one family.
#[derive(Debug, Default)]
pub struct ListedTable<'a> {
    /// The chains, in the order of the listing.
    pub chains: Vec<ListedChain<'a>>,
    /// Where each is among them: there may be thousands.
    places: HashMap<&'a str, usize>,
}

/// One chain.
#[derive(Debug)]
pub struct ListedChain<'a> {
    /// Its name.
    pub name: &'a str,
    /// True for PREROUTING, INPUT, OUTPUT and POSTROUTING.
    pub built_in: bool,
    /// Its rules, in order.
    pub rules: Vec<ListedRule<'a>>,
}

/// One rule as it was listed.
#[derive(Debug)]
pub struct ListedRule<'a> {
    /// What stands behind `-A CHAIN`, verbatim: the same program reads it back after `-D CHAIN`.
    pub spec: &'a str,
    /// The comment, without the quotes that some Go agents put into it, and with the name that they have now.
    pub comment: Option<String>,
    /// What stands behind `-j` or `-g`.
    pub target: Option<Cow<'a, str>>,
    /// The rule as a value, where it has our comment and is understood.
    pub rule: Option<RuleSpec>,
    /// Packets counted, where the listing has counters.
    pub packets: u64,
}

impl ListedRule<'_> {
    /// True when the comment is ours or a Go agent's.
    pub fn has_our_comment(&self) -> bool {
        self.comment.as_deref().is_some_and(|comment| comment.starts_with(COMMENT_PREFIX))
    }
}

impl<'a> ListedTable<'a> {
    /// Reads a listing, with or without counters. Lines that say nothing of chains and rules are passed over.
    pub fn parse(listing: &'a str) -> Self {
        let mut table = ListedTable::default();
        for line in lines(listing) {
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split(' ');
                if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                    table.places.insert(name, table.chains.len());
                    table.chains.push(ListedChain { name, built_in: policy != "-", rules: Vec::new() });
                }
            } else if let Some((name, rule)) = parse_line(line)
                && let Some(place) = table.places.get(name)
            {
                table.chains[*place].rules.push(rule);
            }
        }
        table
    }

    /// The chain of a name.
    pub fn chain(&self, name: &str) -> Option<&ListedChain<'a>> {
        self.places.get(name).and_then(|place| self.chains.get(*place))
    }

    /// Every rule with the name of its chain.
    pub fn rules(&self) -> impl Iterator<Item = (&'a str, &ListedRule<'a>)> {
        self.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| (chain.name, rule)))
    }
}

/// The lines of a listing. A line break in a comment is printed as it is and ends none: what follows it was written by
/// whoever wrote the comment.
fn lines(listing: &str) -> impl Iterator<Item = &str> {
    let mut rest = listing;
    std::iter::from_fn(move || {
        let end = (!rest.is_empty()).then(|| end_of_line(rest))?;
        let (line, behind) = rest.split_at(end);
        rest = behind.strip_prefix('\n').unwrap_or(behind);
        Some(line)
    })
}

/// Where the first line ends: before the first line break outside of quotes. A quote opens at the beginning of a word,
/// unless the word is a name: a chain may be called `"x`.
fn end_of_line(text: &str) -> usize {
    let first = text.find('\n').unwrap_or(text.len());
    if text.starts_with(':') || !text[..first].contains('"') {
        return first;
    }
    let (mut quoted, mut escaped, mut before) = (false, false, b' ');
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' if !quoted => return at,
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            b'"' if before == b' ' => quoted = !["-A ", "-j ", "-g "].iter().any(|name| text[..at].ends_with(name)),
            _ => {}
        }
        before = byte;
    }
    text.len()
}

/// `[12:3456] -A CHAIN rule`, the counters optional.
fn parse_line(line: &str) -> Option<(&str, ListedRule<'_>)> {
    let (packets, rest) = match line.strip_prefix('[') {
        Some(counted) => {
            let (counters, rest) = counted.split_once("] ")?;
            (counters.split_once(':')?.0.parse().ok()?, rest)
        }
        None => (0, line),
    };
    let (chain, spec) = rest.strip_prefix("-A ")?.split_once(' ')?;
    let words = words(spec);
    let behind = |names: &[&str]| {
        words.iter().position(|word| !word.quoted && names.contains(&&*word.text)).and_then(|i| words.get(i + 1))
    };
    let comment = behind(&["--comment"]).map(|word| {
        let comment = word.text.trim_matches('"');
        let renamed = comment.strip_prefix(FIRST_COMMENT_PREFIX).map(|rest| format!("{COMMENT_PREFIX}{rest}"));
        renamed.unwrap_or_else(|| comment.to_owned())
    });
    let target = behind(&["-j", "-g"]).map(|word| word.text.clone());
    let mut listed = ListedRule { spec, comment, target, rule: None, packets };
    if listed.has_our_comment() {
        listed.rule = parse_rule(&words);
    }
    Some((chain, listed))
}

struct Word<'a> {
    text: Cow<'a, str>,
    quoted: bool,
}

/// Splits as iptables-restore does: at spaces outside of double quotes, a backslash escapes inside of them.
fn words(spec: &str) -> Vec<Word<'_>> {
    let mut out = Vec::new();
    let mut rest = spec.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(inside) => quoted_word(inside),
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (Word { text: Cow::Borrowed(&rest[..end]), quoted: false }, &rest[end..])
            }
        };
        out.push(word);
        rest = behind.trim_start();
    }
    out
}

fn quoted_word(inside: &str) -> (Word<'_>, &str) {
    let mut text = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (Word { text: Cow::Owned(text), quoted: true }, &inside[at + 1..]),
            '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => text.push(c),
        }
    }
    (Word { text: Cow::Owned(text), quoted: true }, "")
}

/// `None` for anything that is not understood.
fn parse_rule(words: &[Word<'_>]) -> Option<RuleSpec> {
    let (mut when, mut comment, mut then) = (Vec::new(), None, None);
    let (mut negated, mut persistent) = (false, false);
    let mut words = words.iter().map(|word| &*word.text);
    while let Some(option) = words.next() {
        if option == "!" {
            negated = true;
            continue;
        }
        let not = std::mem::take(&mut negated);
        let mut argument = || words.next();
        let test = match option {
            "-m" if !not => match argument()? {
                "addrtype" | "comment" | "conntrack" | "mark" | "physdev" | "policy" | "sctp" | "set" | "statistic"
                | "tcp" | "udp" => continue,
                _ => return None,
            },
            "--dir" if !not && argument()? == "out" => continue,
            "--mode" if !not && argument()? == "random" => continue,
            "--comment" => {
                comment = Some(argument()?.to_owned());
                continue;
            }
            "-j" | "-g" | "--to-ports" | "--random-fully" => {
                effect(option, &mut then, argument)?;
                continue;
            }
            "--persistent" if !not => {
                persistent = true;
                continue;
            }
            "--limit-iface-out" if !not => {
                let (Match::Is(test) | Match::IsNot(test)) = when.last_mut()? else { return None };
                let Test::Local(address @ Address::Saddr) = test else { return None };
                *address = Address::SaddrOnOutInterface;
                continue;
            }
            "-4" => Test::Family(Family::V4),
            "-6" => Test::Family(Family::V6),
            "-s" | "-d" => match prefix(option, argument()?)? {
                // The same as none; negated it would match nothing, which no rule of ours says.
                Test::In(_, prefix) if prefix.length() == 0 && !not => continue,
                Test::In(_, prefix) if prefix.length() == 0 => return None,
                test => test,
            },
            "-o" | "-i" => {
                let InterfacePattern { name, prefix, .. } = argument()?.parse().ok()?;
                if option == "-o" { Test::OutInterface { name, prefix } } else { Test::InInterface { name, prefix } }
            }
            "--dport" => Test::DestinationPort(ports(argument()?, ':')?),
            "--ctstate" | "--physdev-is-bridged" | "--pol" | "--probability" if !not => {
                when.push(Match::Holds(fact(option, argument)?));
                continue;
            }
            "-p" => Test::Protocol(argument()?.parse().ok()?),
            "--src-type" if argument()? == "LOCAL" => Test::Local(Address::Saddr),
            "--dst-type" if argument()? == "LOCAL" => Test::Local(Address::Daddr),
            "--tcp-flags" if same_flags(argument()?, SYN_ONLY.0) && argument()? == SYN_ONLY.1 => Test::OnlySyn,
            "--syn" => Test::OnlySyn,
            "--match-set" => {
                let set = argument()?.to_owned();
                Test::InList(side(argument()?)?, set)
            }
            "--mark" => Test::Mark(argument()?.parse().ok()?),
            _ => return None,
        };
        when.push(if not { Match::IsNot(test) } else { Match::Is(test) });
    }
    let when_ports: Vec<PortRange> = when.iter().filter_map(destination_ports).collect();
    let is_range = matches!(then, Some(Effect::Snat { to, .. }) if !to.is_one());
    if persistent != is_range {
        return None;
    }
    Some(RuleSpec::new(when, comment, with_ports_of(then?, &when_ports)?))
}

fn fact<'a>(option: &str, mut argument: impl FnMut() -> Option<&'a str>) -> Option<Fact> {
    match option {
        "--ctstate" => (argument()? == "DNAT").then_some(Fact::Dnated),
        "--physdev-is-bridged" => Some(Fact::Bridged),
        "--pol" => (argument()? == "ipsec").then_some(Fact::Ipsec),
        _ => Some(Fact::Share { part: probability(argument()?)?, of: CERTAIN }),
    }
}

/// What `-j` and what is behind it say; the target comes first, and once.
fn effect<'a>(
    option: &str,
    then: &mut Option<Effect<String>>,
    mut argument: impl FnMut() -> Option<&'a str>,
) -> Option<()> {
    match (option, then) {
        ("--to-ports", Some(Effect::Masquerade { ports: to_ports, .. })) => *to_ports = Some(ports(argument()?, '-')?),
        ("--random-fully", Some(Effect::Masquerade { random_fully, .. } | Effect::Snat { random_fully, .. })) => {
            *random_fully = true;
        }
        ("-g", then @ None) => *then = Some(Effect::Goto(argument()?.to_owned())),
        ("-j", then @ None) => {
            *then = Some(match argument()? {
                "RETURN" => Effect::Return,
                "MASQUERADE" => Effect::Masquerade { random_fully: false, ports: None },
                "SNAT" if argument()? == "--to-source" => {
                    let (to, ports) = to_source(argument()?)?;
                    Effect::Snat { to, random_fully: false, ports }
                }
                "DNAT" if argument()? == "--to-destination" => to_destination(argument()?)?,
                "SNAT" | "DNAT" => return None,
                "MARK" if argument()? == "--set-xmark" => Effect::Mark(bit(argument()?.parse().ok()?)?),
                "MARK" => return None,
                "DROP" => Effect::Drop,
                other => Effect::Jump(other.to_owned()),
            });
        }
        _ => return None,
    }
    Some(())
}

/// The bit that is set while all others stay.
fn bit(mark: MaskedMark) -> Option<ForwardMark> {
    (0..32).map(ForwardMark::Bit).find(|bit| bit.bit() == Some(mark))
}

fn prefix(option: &str, text: &str) -> Option<Test<String>> {
    let side = if option == "-s" { Side::Saddr } else { Side::Daddr };
    Some(Test::In(side, text.parse().ok()?))
}

fn same_flags(text: &str, wanted: &str) -> bool {
    let sorted = |text: &str| {
        let mut flags: Vec<_> = text.split(',').map(str::to_owned).collect();
        flags.sort_unstable();
        flags
    };
    sorted(text) == sorted(wanted)
}

fn side(text: &str) -> Option<Side> {
    match text {
        "src" => Some(Side::Saddr),
        "dst" => Some(Side::Daddr),
        _ => None,
    }
}

fn probability(text: &str) -> Option<u32> {
    let probability: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&probability).then(|| fraction(probability))
}

/// `192.0.2.1-192.0.2.9:1024-2047`, `[2001:db8::1-2001:db8::9]:1024-2047`, each part but the first address left out.
fn to_source(text: &str) -> Option<(AddressRange, Option<PortRange>)> {
    let (addresses, behind) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once("]:").map(|(addresses, ports)| (addresses, Some(ports)))?,
        None if text.matches(':').count() == 1 => text.split_once(':').map(|(first, ports)| (first, Some(ports)))?,
        None => (text, None),
    };
    let ports = match behind {
        Some(text) => Some(ports(text, '-')?),
        None => None,
    };
    Some((addresses.parse().ok()?, ports))
}

fn ports(text: &str, to: char) -> Option<PortRange> {
    let (first, last) = text.split_once(to).unwrap_or((text, text));
    Some(PortRange { first: first.parse().ok()?, last: last.parse().ok()? })
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:7001-7003/8100`. What one port was is for the matches to say.
fn to_destination(text: &str) -> Option<Effect<String>> {
    if let Ok(to) = text.parse() {
        return Some(Effect::Dnat { to, port: None });
    }
    let (address, behind) = text.rsplit_once(':')?;
    let to = match address.strip_prefix('[') {
        Some(inside) => IpAddr::V6(inside.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    let (targets, base) = match behind.split_once('/') {
        Some((targets, base)) => (ports(targets, '-')?, base.parse().ok()?),
        None => (ports(behind, '-')?, UNKNOWN),
    };
    let last = targets.last.checked_sub(targets.first).and_then(|width| width.checked_add(base))?;
    let from = PortRange { first: base, last };
    Some(Effect::Dnat { to, port: Some(ShiftedPort { from, to: targets.first }) })
}

/// No port: that of a DNAT that names only the new one.
const UNKNOWN: u16 = 0;

fn destination_ports(one: &Match<String>) -> Option<PortRange> {
    match one {
        Match::Is(Test::DestinationPort(ports)) => Some(*ports),
        _ => None,
    }
}

/// A DNAT to another port is understood where the ports that it says, or the one that it does not say, are those of the
/// packets.
fn with_ports_of(then: Effect<String>, when: &[PortRange]) -> Option<Effect<String>> {
    let Effect::Dnat { to, port: Some(ShiftedPort { from, to: target }) } = then else { return Some(then) };
    let [ports] = when else { return None };
    let is_theirs = *ports == from || from.first == UNKNOWN && from.last == UNKNOWN && ports.first == ports.last;
    is_theirs.then_some(Effect::Dnat { to, port: Some(ShiftedPort { from: *ports, to: target }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Protocol;
    use crate::ruleset::each;

    fn only_rule(line: &str) -> Option<RuleSpec> {
        let listing = format!("*nat\n:A - [0:0]\n{line}\nCOMMIT\n");
        ListedTable::parse(&listing).chains.remove(0).rules.remove(0).rule
    }

    /// What versions and variants write differently for one rule.
    #[test]
    fn listings_of_one_rule_are_one_value() {
        let comment = "-m comment --comment \"ip-masq-agent: x\"";
        let alike: [&[String]; 5] = [
            &[
                format!("-A A -d 10.0.0.0/8 {comment} -j RETURN"),
                format!("[12:3456] -A A -d 10.0.0.0/8 {comment} -j RETURN "),
                format!("-A A {comment} -d 10.0.0.0/8 -j RETURN"),
            ],
            &[
                format!(
                    "-A A -p tcp {comment} -m statistic --mode random --probability 0.46929256199 -j MASQUERADE --to-ports 1024-2000 --random-fully"
                ),
                format!(
                    "-A A -p tcp {comment} -m statistic --mode random --probability 0.46929256202 -j MASQUERADE --to-ports 1024-2000 --random-fully"
                ),
                format!(
                    "-A A -p 6 -m statistic --mode random --probability 0.46929256199 {comment} -j MASQUERADE --random-fully --to-ports 1024-2000"
                ),
            ],
            &[
                format!("-A A -p udp {comment} -j MASQUERADE --to-ports 4000"),
                format!("-A A -p udp {comment} -j MASQUERADE --to-ports 4000-4000"),
            ],
            &[
                format!(
                    "-A A -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN {comment} -m addrtype --src-type LOCAL -j RETURN"
                ),
                format!(
                    "-A A -p tcp {comment} -m addrtype --src-type LOCAL -m tcp ! --tcp-flags SYN,RST,ACK,FIN SYN -j RETURN"
                ),
                format!("-A A -p tcp -m tcp ! --syn {comment} -m addrtype --src-type LOCAL -j RETURN"),
            ],
            &[format!("-A A {comment} -j RETURN"), format!("-A A -s 0.0.0.0/0 -d 0.0.0.0/0 {comment} -j RETURN")],
        ];
        for lines in alike {
            let rules: Vec<_> = lines.iter().map(|line| only_rule(line)).collect();
            assert!(rules[0].is_some(), "{}", lines[0]);
            assert!(rules.iter().all(|rule| *rule == rules[0]), "{rules:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_rule_of_ours() {
        let comment = "-m comment --comment \"ip-masq-agent: x\"";
        for line in [
            format!("-A A -m mark --mark 0x3/0x1 {comment} -j RETURN"),
            format!("-A A {comment} -j SNAT --to-source 192.0.2.1-192.0.2.2"),
            format!("-A A {comment} -j SNAT --persistent"),
            format!("-A A -m policy --dir in --pol ipsec {comment} -j RETURN"),
            format!("-A A ! -d 0.0.0.0/0 {comment} -j RETURN"),
            format!("-A A -d 10.0.0.0/255.0.255.0 {comment} -j RETURN"),
            format!("-A A {comment} -j RETURN --to-ports 1"),
            format!("-A A {comment} -m set --match-set x dst --return-nomatch -j RETURN"),
            format!("-A A {comment}"),
            "-A A -j RETURN".into(),
        ] {
            assert_eq!(only_rule(&line), None, "{line}");
        }
    }

    #[test]
    fn a_listing_keeps_what_is_foreign_as_text() {
        let listing = "# Generated by iptables-nft-save\n*nat\n:POSTROUTING ACCEPT [7:420]\n:A - [0:0]\n\
            [3:180] -A POSTROUTING -m comment --comment \"\\\"ip-masq-agent: q\\\"\" -m addrtype ! --dst-type LOCAL -j A\n\
            [0:0] -A A -m comment --comment \"a -j B\" -m foo --bar \"x y\" -g C\nCOMMIT\n";
        let table = ListedTable::parse(listing);
        assert!(table.chains[0].built_in && !table.chains[1].built_in);
        let jump = &table.chains[0].rules[0];
        assert_eq!((jump.packets, jump.comment.as_deref()), (3, Some("ip-masq-agent: q")));
        assert!(jump.has_our_comment() && jump.spec.starts_with("-m comment --comment \"\\\"ip-masq"));
        let foreign = &table.chains[1].rules[0];
        assert_eq!((foreign.target.as_deref(), foreign.has_our_comment()), (Some("C"), false));
        assert_eq!(foreign.spec, "-m comment --comment \"a -j B\" -m foo --bar \"x y\" -g C");
    }

    /// Seen with iptables 1.8.9, which takes a line break in a comment and prints it as it is.
    #[test]
    fn a_line_break_in_a_comment_begins_no_rule_and_no_chain() {
        let comment = "x\n-A A -j FORGED\n:A - [0:0]\nCOMMIT \\\" \\\\";
        let listing = format!(
            "*nat\n:POSTROUTING ACCEPT [0:0]\n:\"x - [0:0]\n:A - [0:0]\n-A POSTROUTING -m comment --comment \"{comment}\" -j \"x\n\
             -A \"x -g \"x\n-A A -j RETURN\nCOMMIT\n"
        );
        let table = ListedTable::parse(&listing);
        assert_eq!(table.chains.iter().map(|chain| chain.name).collect::<Vec<_>>(), ["POSTROUTING", "\"x", "A"]);
        let specs: Vec<_> = table.rules().map(|(chain, rule)| (chain, rule.spec)).collect();
        let foreign = format!("-m comment --comment \"{comment}\" -j \"x");
        assert_eq!(specs, [("POSTROUTING", &*foreign), ("\"x", "-g \"x"), ("A", "-j RETURN")]);
    }

    #[test]
    fn each_match_and_each_effect_is_read_as_it_is_written() {
        let (set, chain) = ("ima4-sources-00000000".to_owned(), "A".to_owned());
        let rules = each::one(&set).map(|one| (vec![one], Effect::Return));
        for (when, then) in rules.chain(each::effect(&chain).map(|then| (vec![], then))) {
            let rule = RuleSpec::new(when, Some(format!("{COMMENT_PREFIX}x")), then);
            assert_eq!(only_rule(&format!("-A A {rule}")), Some(rule));
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        let negated = [
            Test::In(Side::Saddr, "10.0.0.0/8".parse().unwrap()),
            Test::OutInterface { name: "eth".into(), prefix: true },
            Test::OnlySyn,
            Test::InList(Side::Saddr, "ima4-sources-00000000".into()),
            Test::Local(Address::Daddr),
            Test::Mark("0x100/0xff00".parse().unwrap()),
        ];
        let positive = [
            Test::In(Side::Daddr, "192.0.2.0/24".parse().unwrap()),
            Test::Protocol(Protocol::Tcp),
            Test::Local(Address::SaddrOnOutInterface),
        ];
        let facts = [Fact::Bridged, Fact::Ipsec, Fact::Share { part: 3079, of: 6561 }];
        let facts = facts.map(Match::Holds).into_iter();
        let when: Vec<Match<String>> = facts.chain(negated.map(Match::IsNot)).chain(positive.map(Match::Is)).collect();
        let (random_fully, range) = (true, PortRange { first: 1, last: 9 });
        let mut effects = vec![Effect::Masquerade { ports: Some(range), random_fully }];
        for to in ["192.0.2.1", "192.0.2.1-192.0.2.9", "2001:db8::1", "2001:db8::1-2001:db8::9"] {
            let to = to.parse().unwrap();
            effects.extend([None, Some(range)].map(|ports| Effect::Snat { to, random_fully, ports }));
        }
        for then in effects {
            let when: Vec<_> = Vec::clone(&when);
            let rule = RuleSpec::new(when, Some(format!("{COMMENT_PREFIX}with \"quotes\" and \\")), then);
            assert_eq!(only_rule(&format!("-A A {rule}")), Some(rule));
        }
    }
}
