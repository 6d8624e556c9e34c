//! What `iptables-save` and `ip6tables-save` print, and lines of scripts: the rules of the nat table.

use super::rule::{Action, Condition, Destination, Hook, Line, Rule, Rules, Taken, Translation, but};
use super::words;
use crate::policy::{AddressRange, AddressSet, Family, Prefix, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// How many rules that differ in more than an address are looked at.
const MAX_RULES: usize = 20_000;
/// How deep chains may lead on to each other.
const MAX_DEPTH: usize = 16;
/// The longest line that is shown.
const SHOWN: usize = 300;

/// The modules of iptables whose options are read here; another one may have options of the same names.
const MATCHES: [&str; 11] =
    ["addrtype", "comment", "conntrack", "iprange", "mark", "multiport", "policy", "sctp", "set", "tcp", "udp"];

/// Chains that another program keeps, and puts back.
const KEPT_BY: [(&str, &str); 12] = [
    ("DOCKER", "Docker"),
    ("KUBE-", "kube-proxy"),
    ("CNI-", "a CNI plugin"),
    ("LIBVIRT_", "libvirt"),
    ("CILIUM_", "Cilium"),
    ("OLD_CILIUM_", "Cilium"),
    ("cali-", "Calico"),
    ("FLANNEL-", "flannel"),
    ("NETAVARK", "netavark"),
    ("ts-", "Tailscale"),
    ("POSTROUTING_", "firewalld"),
    ("PREROUTING_", "firewalld"),
];

/// The program that keeps a chain or table.
pub fn keeper(chain: &str) -> Option<&'static str> {
    KEPT_BY.iter().find(|(start, _)| chain.starts_with(start)).map(|(_, keeper)| *keeper)
}

/// A rule as it was written.
struct Written {
    lines: Vec<Line>,
    condition: Condition,
    target: Target,
}

#[derive(Debug, Clone, PartialEq)]
enum Target {
    Return,
    Accept,
    Translate(Translation),
    Forward(Destination),
    Chain(String),
    Other(String),
}

/// The nat table of one family.
#[derive(Default)]
struct Table {
    chains: BTreeMap<String, Vec<Written>>,
}

impl Table {
    fn has(&self, chain: &str, declared: &BTreeSet<String>) -> bool {
        self.chains.contains_key(chain) || declared.contains(chain)
    }

    /// Rules of chains that no rule here leads to, the first of each.
    fn unreached(&self) -> impl Iterator<Item = (&str, &Line)> {
        let targets = self.chains.values().flatten().filter_map(|rule| match &rule.target {
            Target::Chain(chain) => Some(chain.as_str()),
            _ => None,
        });
        let reached: BTreeSet<&str> = targets.chain(BUILT_IN).collect();
        let others = self.chains.iter().filter(move |(chain, _)| !reached.contains(chain.as_str()));
        others.filter_map(|(chain, rules)| Some((chain.as_str(), rules.first()?.lines.first()?)))
    }
}

const BUILT_IN: [&str; 4] = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"];

/// The members of a set, or why they can't be a list.
type Set = Taken<Vec<Prefix>>;

/// What `ipset save` prints of a member, as far as it says more than its address: that it is none, or for how long.
fn member(words: &[String]) -> Set {
    let network = words.first().and_then(|word| words::network(word)).ok_or("has members that are no networks")?;
    if words.iter().any(|word| word == "nomatch") {
        return Err("has members that are left out (nomatch)".to_owned());
    }
    if words.windows(2).any(|pair| pair[0] == "timeout" && pair[1] != "0") {
        return Err("has members that come and go".to_owned());
    }
    Ok(vec![network])
}

/// Reads the rules of every nat table in a text.
pub fn read(text: &str) -> Rules {
    let mut reader = Reader { tables: [Table::default(), Table::default()], ..Reader::default() };
    for (number, line) in (1..).zip(text.lines()) {
        reader.line(number, line.trim());
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    /// IPv4 and IPv6.
    tables: [Table; 2],
    found: Rules,
    sets: BTreeMap<String, Set>,
    /// Chains of the nat table that were named without a rule.
    declared: BTreeSet<String>,
    /// By the comment of the program that printed the table.
    family: Option<Family>,
    /// The table that is being read, and whether it is the nat table.
    table: Option<(String, usize)>,
    skipped: usize,
    distinct: usize,
    open: bool,
    /// The last rule, to which its neighbours may be added, and their addresses.
    pending: Option<Pending>,
}

/// A rule, and neighbours of it that differ in one address.
struct Pending {
    family: Family,
    chain: String,
    rule: Written,
    more: usize,
    sources: Vec<Prefix>,
    destinations: Vec<Prefix>,
}

/// How many lines of neighbours are remembered.
const MAX_NEIGHBOURS: usize = 100;

impl Pending {
    /// Takes a rule that differs in its sources or in its destinations only.
    fn take(&mut self, family: Family, chain: &str, rule: &Written) -> bool {
        let (ours, theirs) = (&self.rule.condition, &rule.condition);
        let is_plain = matches!(rule.target, Target::Return | Target::Accept | Target::Translate(_));
        if !is_plain || self.family != family || self.chain != chain || self.rule.target != rule.target {
            return false;
        }
        let rest = |condition: &Condition| Condition { sources: None, destinations: None, ..condition.clone() };
        let (list, set) = match (&theirs.sources, &theirs.destinations) {
            (sources, Some(set))
                if *sources == ours.sources && ours.destinations.is_some() && self.sources.is_empty() =>
            {
                (&mut self.destinations, set)
            }
            (Some(set), destinations)
                if *destinations == ours.destinations && ours.sources.is_some() && self.destinations.is_empty() =>
            {
                (&mut self.sources, set)
            }
            _ => return false,
        };
        if rest(ours) != rest(theirs) {
            return false;
        }
        list.extend(set.prefixes());
        match self.rule.lines.len() {
            MAX_NEIGHBOURS.. => self.more += 1,
            _ => self.rule.lines.extend(rule.lines.iter().cloned()),
        }
        true
    }

    fn finish(mut self) -> (Family, String, Written) {
        let join = |slot: &mut Option<AddressSet>, more: Vec<Prefix>| {
            if let Some(set) = slot.as_mut().filter(|_| !more.is_empty()) {
                *set = AddressSet::of(set.prefixes().into_iter().chain(more));
            }
        };
        join(&mut self.rule.condition.sources, self.sources);
        join(&mut self.rule.condition.destinations, self.destinations);
        if self.more > 0 {
            let number = self.rule.lines.last().map_or(0, |line| line.number + 1);
            self.rule.lines.push(Line { number, text: format!("(and {} lines like these)", self.more) });
        }
        (self.family, self.chain, self.rule)
    }
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            if comment.contains("ip6tables-save") {
                self.family = Some(Family::V6);
            } else if comment.contains("iptables-save") {
                self.family = Some(Family::V4);
            }
        } else if let Some(table) = line.strip_prefix('*') {
            self.end_table();
            self.open = true;
            self.table = (table != "nat").then(|| (table.to_owned(), number));
        } else if line == "COMMIT" {
            self.end_table();
            self.open = false;
        } else if let Some(declaration) = line.strip_prefix(':') {
            let mut words = declaration.split_whitespace();
            if let (None, Some(chain)) = (&self.table, words.next()) {
                self.declare(Line { number, text: shortened(line) }, chain, words.next().unwrap_or("-"));
            }
        } else if !line.is_empty() {
            self.command(Line { number, text: shortened(line) }, line);
        }
    }

    fn declare(&mut self, line: Line, chain: &str, policy: &str) {
        if !matches!(policy, "ACCEPT" | "-") {
            self.found
                .refuse(line, format!("the policy {policy} has no key: what no rule of {chain} takes does not pass"));
        }
        self.declared.insert(chain.to_owned());
    }

    fn end_table(&mut self) {
        if let Some((table, number)) = self.table.take() {
            let rules = self.skipped;
            self.found
                .note(format!("line {number}: table {table} is not nat: its rules ({rules}) stay where they are"));
        }
        self.skipped = 0;
    }

    fn command(&mut self, line: Line, text: &str) {
        if self.table.is_some() {
            self.skipped += usize::from(text.contains("-A ") || text.contains("-I "));
            return;
        }
        let Some(words) = split(text) else {
            return self.found.refuse(line, "a quote is not closed; is this cut off?");
        };
        let mut words = words.as_slice();
        // `iptables-save -c` puts counters before the rule.
        if words.first().is_some_and(|word| word.starts_with('[') && word.ends_with(']')) {
            words = &words[1..];
        }
        // A line of a script is for the filter table unless it says otherwise (iptables(8)).
        let (mut family, mut table) = (self.family, "nat");
        if let Some(program) = words.first().and_then(|word| word.rsplit('/').next()) {
            if program.starts_with("ip6tables") {
                (family, table, words) = (Some(Family::V6), "filter", &words[1..]);
            } else if program.starts_with("iptables") {
                (family, table, words) = (Some(Family::V4), "filter", &words[1..]);
            }
        }
        match words {
            [create, name, options @ ..] if create == "create" => {
                let comes_and_goes = options.windows(2).any(|pair| pair[0] == "timeout" && pair[1] != "0");
                let set = if comes_and_goes { Err("has members that come and go".to_owned()) } else { Ok(Vec::new()) };
                self.sets.insert(name.clone(), set);
            }
            [add, name, rest @ ..] if add == "add" => {
                let set = self.sets.entry(name.clone()).or_insert_with(|| Ok(Vec::new()));
                match (set, member(rest)) {
                    (Ok(members), Ok(one)) => members.extend(one),
                    (set @ Ok(_), Err(reason)) => {
                        self.found.refuse(line, format!("the set '{name}' {reason}"));
                        *set = Err(reason);
                    }
                    (Err(_), _) => {}
                }
            }
            _ => self.rule(line, words, family, table),
        }
    }

    fn rule<'w>(&mut self, line: Line, words: &'w [String], family: Option<Family>, mut table: &'w str) {
        let mut rest = words;
        // What comes before the command: `-w`, `-t nat`.
        loop {
            match rest {
                [option, value, behind @ ..] if option == "-t" || option == "--table" => {
                    (table, rest) = (value, behind)
                }
                [option, behind @ ..] if option == "-w" || option == "--wait" => rest = behind,
                _ => break,
            }
        }
        let (first, chain, mut body) = match rest {
            [command, chain, body @ ..] if command == "-A" || command == "--append" => (false, chain, body),
            [command, chain, body @ ..] if command == "-I" || command == "--insert" => (true, chain, body),
            [command, ..] if table == "nat" && (command == "-D" || command == "--delete") => {
                return self.found.refuse(line, "takes a rule away again; import what iptables-save prints");
            }
            [command, ..] if table == "nat" && (command == "-F" || command == "--flush") && self.distinct > 0 => {
                return self.found.refuse(line, "takes rules before it away; import what iptables-save prints");
            }
            [command, chain, policy] if table == "nat" && (command == "-P" || command == "--policy") => {
                return self.declare(line, chain, policy);
            }
            [command, chain] if table == "nat" && (command == "-N" || command == "--new-chain") => {
                return self.declare(line, chain, "-");
            }
            [command, ..] if ["-N", "-P", "-F", "-X", "-Z", "-D", "-C"].contains(&command.as_str()) => return,
            _ => return self.found.refuse(line, "not understood: neither a rule nor anything else of iptables-save"),
        };
        if first
            && let [position, behind @ ..] = body
            && position.bytes().all(|byte| byte.is_ascii_digit())
        {
            body = behind;
            if position != "1" {
                return self.found.refuse(line, "inserted in the middle of a chain; import what iptables-save prints");
            }
        }
        let mut body = body.to_vec();
        while let Some(at) = body.iter().position(|word| word == "-t" || word == "--table") {
            table = if body.get(at + 1).is_some_and(|name| name == "nat") { "nat" } else { "other" };
            body.drain(at..body.len().min(at + 2));
        }
        if table != "nat" {
            return self.found.note(format!("line {}: not in the nat table: it stays where it is", line.number));
        }
        let mut condition = Condition::default();
        let mut parser = Parser { sets: &self.sets, condition: &mut condition, family };
        let target = parser.parse(&body);
        let family = parser.family.unwrap_or(Family::V4);
        let written = Written { lines: vec![line], condition, target };
        self.add(family, chain, written, first);
    }

    /// Neighbours that differ in one address are one rule, so that a list of a million is one.
    fn add(&mut self, family: Family, chain: &str, rule: Written, first: bool) {
        if !first && self.pending.as_mut().is_some_and(|pending| pending.take(family, chain, &rule)) {
            return;
        }
        self.flush();
        if self.distinct >= MAX_RULES {
            let reason = format!("more than {MAX_RULES} rules that differ in more than an address");
            return rule.lines.into_iter().for_each(|line| self.found.refuse(line, reason.clone()));
        }
        self.distinct += 1;
        if first {
            self.chain(family, chain).insert(0, rule);
        } else {
            let (sources, destinations) = (Vec::new(), Vec::new());
            self.pending = Some(Pending { family, chain: chain.to_owned(), rule, more: 0, sources, destinations });
        }
    }

    fn flush(&mut self) {
        if let Some((family, chain, rule)) = self.pending.take().map(Pending::finish) {
            self.chain(family, &chain).push(rule);
        }
    }

    fn chain(&mut self, family: Family, chain: &str) -> &mut Vec<Written> {
        self.tables[usize::from(family == Family::V6)].chains.entry(chain.to_owned()).or_default()
    }

    fn finish(mut self) -> Rules {
        if self.open {
            let number = usize::MAX;
            let line = Line { number, text: "(the end of the text)".to_owned() };
            self.found.refuse(line, "the table has no COMMIT; is the text cut off?");
        }
        self.end_table();
        self.flush();
        for (family, table) in Family::ALL.into_iter().zip(&self.tables) {
            for (chain, hook) in
                [("PREROUTING", Hook::Prerouting), ("OUTPUT", Hook::Output), ("POSTROUTING", Hook::Postrouting)]
            {
                let declared = &self.declared;
                let mut walk = Walk { table, declared, family, hook, found: &mut self.found, visited: 0 };
                walk.chain(chain, &Condition::default(), true, 0);
            }
            for (chain, line) in table.unreached() {
                self.found.note(format!("line {}: no rule here leads to the chain {chain}", line.number));
            }
            for (line, _) in table.chains.get("INPUT").into_iter().flatten().flat_map(|rule| &rule.lines).zip(0..100) {
                self.found.refuse(line.clone(), "rules of the INPUT chain have no key");
            }
        }
        self.found
    }
}

/// Follows the jumps of a chain.
struct Walk<'t> {
    table: &'t Table,
    declared: &'t BTreeSet<String>,
    family: Family,
    hook: Hook,
    found: &'t mut Rules,
    visited: usize,
}

impl Walk<'_> {
    /// `last`: nothing is asked after the chain, so that to return from it is to end.
    fn chain(&mut self, name: &str, before: &Condition, last: bool, depth: usize) {
        let table = self.table;
        let Some(rules) = table.chains.get(name) else { return };
        for (number, rule) in rules.iter().enumerate() {
            self.visited += 1;
            let is_last = last && number + 1 == rules.len();
            let condition = if depth == 0 { rule.condition.clone() } else { before.and(&rule.condition) };
            let refuse = |found: &mut Rules, reason: String| {
                rule.lines.iter().for_each(|line| found.refuse(line.clone(), reason.clone()));
            };
            let action = match &rule.target {
                _ if self.visited > MAX_RULES => {
                    refuse(self.found, "too many chains that lead to each other".to_owned());
                    continue;
                }
                Target::Chain(chain) => {
                    if let Some(keeper) = keeper(chain) {
                        refuse(self.found, format!("the chain {chain} is kept by {keeper}, which puts it back"));
                    } else if !table.has(chain, self.declared) {
                        refuse(self.found, format!("'-j {chain}' has no key, nor is there a chain of this name"));
                    } else if depth + 1 >= MAX_DEPTH {
                        refuse(self.found, "chains that lead on to each other too often".to_owned());
                    } else if let Some(unsaid) = &condition.unsaid {
                        refuse(self.found, unsaid.clone());
                    } else {
                        self.chain(chain, &condition, is_last, depth + 1);
                    }
                    continue;
                }
                Target::Other(reason) => {
                    refuse(self.found, reason.clone());
                    continue;
                }
                Target::Return if depth > 0 && !last => {
                    refuse(self.found, format!("returns from {name}, and other rules are asked after it"));
                    continue;
                }
                Target::Return | Target::Accept => Action::Keep,
                Target::Translate(translation) => Action::Translate(*translation),
                Target::Forward(destination) => Action::Forward(*destination),
            };
            if let Some(unsaid) = &condition.unsaid {
                refuse(self.found, unsaid.clone());
                continue;
            }
            let (hook, family) = (self.hook, self.family);
            self.found.rules.push(Rule { lines: rule.lines.clone(), hook, family, condition, action });
        }
    }
}

/// Reads the words behind the name of a chain.
struct Parser<'p> {
    sets: &'p BTreeMap<String, Set>,
    condition: &'p mut Condition,
    family: Option<Family>,
}

impl Parser<'_> {
    fn parse(&mut self, words: &[String]) -> Target {
        let mut target = None;
        let mut options = Options::default();
        let mut rest = words.iter().map(String::as_str).peekable();
        let mut negated = false;
        while let Some(word) = rest.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            if matches!(word, "-m" | "--match") {
                let module = rest.next().unwrap_or_default();
                if !MATCHES.contains(&module) {
                    self.unsaid(&format!("-m {} has no key", shortened(module)));
                }
            } else if word == "--comment" {
                rest.next();
            } else if matches!(word, "-c" | "--set-counters") {
                rest.nth(1);
            } else if matches!(word, "-j" | "--jump" | "-g" | "--goto") {
                if !matches!(word, "-j" | "--jump") {
                    self.unsaid("'-g' has no key");
                } else if target.is_some() {
                    self.unsaid("more than one target");
                }
                target = rest.next();
            } else if options.flag(word) {
            } else if !word.starts_with('-') {
                self.unsaid(&format!("'{}' is not understood", shortened(word)));
            } else {
                let value = match word {
                    "--limit-iface-out" | "--limit-iface-in" | "--strict" | "--syn" => "",
                    _ => rest.next_if(|value| !value.starts_with('-') && *value != "!").unwrap_or_default(),
                };
                if options.take(word, value) {
                } else if word == "--match-set" {
                    let side = rest.next().unwrap_or_default();
                    self.set(value, side, negated);
                } else if self.condition(word, value, negated).is_none() {
                    let not = if negated { "! " } else { "" };
                    self.unsaid(&format!("'{}' has no key", shortened(format!("{not}{word} {value}").trim_end())));
                }
            }
            negated = false;
        }
        options.target(target, self)
    }

    fn unsaid(&mut self, reason: &str) {
        self.condition.unsaid.get_or_insert_with(|| reason.to_owned());
    }

    /// `None` where there is no key for it.
    fn condition(&mut self, option: &str, value: &str, negated: bool) -> Option<()> {
        match option {
            "-s" | "--source" | "--src" => self.addresses(value, negated, true),
            "-d" | "--destination" | "--dst" => self.addresses(value, negated, false),
            "--src-range" | "--dst-range" => {
                let set = words::span(value)?;
                self.limit(set, negated, option == "--src-range")
            }
            "-o" | "--out-interface" => {
                self.condition.out.push(words::interface(value, negated)?);
                (self.condition.out.len() == 1).then_some(())
            }
            "-i" | "--in-interface" => {
                self.condition.incoming.push(words::interface(value, negated)?);
                (self.condition.incoming.len() == 1).then_some(())
            }
            "-p" | "--protocol" if !negated && value != "all" && self.condition.protocols.is_empty() => {
                self.condition.protocols.push(value.parse::<Protocol>().ok()?);
                Some(())
            }
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" if !negated => {
                if !self.condition.ports.is_empty() {
                    self.unsaid("two conditions on the port");
                }
                for range in value.split(',') {
                    self.condition.ports.push(words::ports(range)?);
                }
                Some(())
            }
            "--mark" => {
                let mark = mark(value)?;
                match negated {
                    true => self.condition.without_marks.push(mark),
                    false if self.condition.mark.is_some() => self.unsaid("two conditions on the mark"),
                    false => self.condition.mark = Some(mark),
                }
                Some(())
            }
            "--dir" if value == "out" && !negated => Some(()),
            "--pol" if !negated && matches!(value, "ipsec" | "none") => {
                self.condition.ipsec = Some(value == "ipsec");
                Some(())
            }
            "--dst-type" if value == "LOCAL" => {
                self.condition.to_local = Some(!negated);
                Some(())
            }
            "--ctstate" if value == "DNAT" && !negated => {
                self.condition.dnated = true;
                Some(())
            }
            _ => None,
        }
    }

    fn addresses(&mut self, value: &str, negated: bool, source: bool) -> Option<()> {
        let networks: Vec<Prefix> = value.split(',').map(words::network).collect::<Option<_>>()?;
        let families: BTreeSet<Family> = networks.iter().map(|network| network.family()).collect();
        if negated && networks.len() > 1 || families.len() > 1 {
            return None;
        }
        self.limit(AddressSet::of(networks), negated, source)
    }

    fn limit(&mut self, set: AddressSet, negated: bool, source: bool) -> Option<()> {
        let family = set.prefixes().first().map(|prefix| prefix.family());
        if let (Some(found), Some(told)) = (family, self.family)
            && found != told
        {
            self.unsaid(&format!("an {found} address among {told} rules"));
        }
        self.family = self.family.or(family);
        let set = if negated { but(self.family.unwrap_or(Family::V4), &set) } else { set };
        let slot = if source { &mut self.condition.sources } else { &mut self.condition.destinations };
        let free = slot.is_none();
        *slot = Some(set);
        free.then_some(())
    }

    fn set(&mut self, name: &str, side: &str, negated: bool) {
        let Some(members) = self.sets.get(name) else {
            return self
                .unsaid(&format!("the members of the set '{name}' are not here; put 'ipset save' before the rules"));
        };
        let members = match members {
            Ok(members) => members,
            Err(reason) => return self.unsaid(&format!("the set '{name}' {reason}")),
        };
        if !matches!(side, "src" | "dst") {
            return self.unsaid(&format!("a set that is asked for '{side}' has no key"));
        }
        let set = AddressSet::of(members.iter().copied());
        if self.limit(set, negated, side == "src").is_none() {
            self.unsaid("two conditions on one address");
        }
    }
}

/// `VALUE/MASK` as iptables writes it.
pub fn mark(text: &str) -> Option<crate::policy::MaskedMark> {
    text.parse().ok()
}

/// What a target is told.
#[derive(Default)]
struct Options {
    to: Option<String>,
    ports: Option<String>,
    random: bool,
    random_fully: bool,
    /// More than one address or range was given.
    several: bool,
}

impl Options {
    /// Takes an option without a value.
    fn flag(&mut self, word: &str) -> bool {
        match word {
            "--random" => self.random = true,
            "--random-fully" => self.random_fully = true,
            "--persistent" => {}
            _ => return false,
        }
        true
    }

    fn take(&mut self, word: &str, value: &str) -> bool {
        match word {
            "--to-source" | "--to-destination" | "--to" => self.several |= self.to.replace(value.to_owned()).is_some(),
            "--to-ports" => self.ports = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    fn target(self, name: Option<&str>, parser: &mut Parser<'_>) -> Target {
        let other = |reason: &str| Target::Other(reason.to_owned());
        let random_fully = self.random_fully;
        match name {
            None => other("a rule without a target"),
            Some("RETURN") => Target::Return,
            Some("ACCEPT") => Target::Accept,
            Some("MASQUERADE" | "SNAT") if self.random => other("'--random' has no key, --random-fully has"),
            Some("MASQUERADE" | "SNAT") if self.ports.is_some() => {
                other("source ports of one protocol have no key; see toPorts, which is for TCP, UDP and SCTP at once")
            }
            Some("SNAT" | "DNAT") if self.several => other("more than one address or range has no key"),
            Some("MASQUERADE") => Target::Translate(Translation { to: None, random_fully }),
            Some("SNAT") => match self.to.as_deref().map(|to| (words::addresses(to), to)) {
                Some((Some(to), _)) => {
                    self.to_family(to, parser, Target::Translate(Translation { to: Some(to), random_fully }))
                }
                Some((None, to)) => match to.parse::<AddressRange>() {
                    Err(error) if !to.contains(':') || to.parse::<std::net::Ipv6Addr>().is_ok() => {
                        Target::Other(format!("--to-source {to}: {error}"))
                    }
                    _ => other(
                        "source ports of one protocol have no key; see toPorts, which is for TCP, UDP and SCTP at once",
                    ),
                },
                None => other("SNAT without --to-source"),
            },
            Some("DNAT") if self.random || random_fully => other("a forward at random has no key"),
            Some("DNAT") => match self.to.as_deref().and_then(destination) {
                Some(to) => match to.address {
                    Some(range) => self.to_family(range, parser, Target::Forward(to)),
                    None => Target::Forward(to),
                },
                None => other("--to-destination is not an address with or without ports"),
            },
            Some("REDIRECT") => {
                other("leads to a port of this host itself; an entry of portForwards leads to another one")
            }
            Some("NETMAP") => other("NETMAP has no key: no whole network is mapped to another one"),
            Some(
                chain @ ("LOG" | "MARK" | "CONNMARK" | "DROP" | "QUEUE" | "NFQUEUE" | "NFLOG" | "TPROXY" | "CT"
                | "NOTRACK" | "REJECT" | "SET"),
            ) => Target::Other(format!("'-j {chain}' has no key")),
            Some(chain) => Target::Chain(chain.to_owned()),
        }
    }

    fn to_family(&self, range: AddressRange, parser: &mut Parser<'_>, target: Target) -> Target {
        match parser.family {
            Some(family) if family != range.family() => {
                Target::Other(format!("an {} address among {family} rules", range.family()))
            }
            _ => {
                parser.family = Some(range.family());
                target
            }
        }
    }
}

/// `ADDRESS[-LAST][:PORT[-LAST[/BASE]]]`, an IPv6 address in brackets when a port follows.
fn destination(text: &str) -> Option<Destination> {
    if let Some(address) = words::addresses(text) {
        return Some(Destination { address: Some(address), ports: None, base: None });
    }
    let (address, ports) = match text.strip_prefix('[') {
        Some(inside) => {
            let (address, behind) = inside.split_once(']')?;
            (address, behind.strip_prefix(':'))
        }
        None => text.split_once(':').map(|(address, ports)| (address, Some(ports)))?,
    };
    let address = if address.is_empty() { None } else { Some(words::addresses(address)?) };
    let (ports, base) = match ports.map(|ports| ports.split_once('/').unwrap_or((ports, ""))) {
        Some((ports, base)) => (Some(words::ports(ports)?), base),
        None => (None, ""),
    };
    let base = if base.is_empty() { None } else { Some(words::port(base)?) };
    Some(Destination { address, ports, base })
}

/// The words of a line as a shell or iptables-restore has them; `None` when a quote is open.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote, mut started) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match (c, quote) {
            ('\\', Some('"') | None) => {
                word.extend(letters.next());
                started = true;
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, started) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if std::mem::take(&mut started) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

/// A line as it is shown.
pub fn shortened(text: &str) -> String {
    let text = crate::text::one_line(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
