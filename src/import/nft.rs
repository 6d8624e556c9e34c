//! What `nft -j list ruleset` prints: the rules of its nat chains.

use super::iptables::{keeper, shortened};
use super::rule::{Action, Condition, Destination, Hook, Line, Rule, Rules, Taken, Translation, but};
use super::words;
use crate::policy::{AddressRange, AddressSet, Family, InterfacePattern, MaskedMark, PortRange, Prefix, Protocol};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MAX_DEPTH: usize = 16;
/// How many rules are looked at, those of chains that several rules jump to counted as often.
const MAX_RULES: usize = 20_000;

/// True of a document that nft wrote.
pub fn is_listing(document: &Value) -> bool {
    document.get("nftables").is_some_and(Value::is_array)
}

/// Reads the nat chains of every table.
pub fn read(document: &Value) -> Rules {
    let mut ruleset = Ruleset::default();
    for object in document["nftables"].as_array().into_iter().flatten() {
        ruleset.add(object);
    }
    ruleset.rules()
}

/// A table by its family and name.
type TableName = (String, String);

#[derive(Default)]
struct Ruleset<'d> {
    /// Priority, then place in the listing.
    bases: Vec<(i64, TableName, String, Hook)>,
    /// Chains of the hook input.
    inputs: Vec<(TableName, String)>,
    /// Chains whose policy is not to accept, and what it is.
    policies: Vec<(TableName, String, String)>,
    /// Sets to which rules add.
    growing: BTreeSet<(TableName, String)>,
    rules: BTreeMap<(TableName, String), Vec<(usize, &'d Value)>>,
    sets: BTreeMap<(TableName, String), &'d Value>,
    others: BTreeMap<TableName, usize>,
    count: usize,
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

impl<'d> Ruleset<'d> {
    fn add(&mut self, object: &'d Value) {
        let table = |value: &Value| (text(value, "family"), text(value, "table"));
        if let Some(chain) = object.get("chain") {
            let is_nat = chain["type"] == "nat";
            if let Some(policy) = chain["policy"].as_str().filter(|policy| is_nat && *policy != "accept") {
                self.policies.push((table(chain), text(chain, "name"), policy.to_owned()));
            }
            if is_nat && chain["hook"] == "input" {
                return self.inputs.push((table(chain), text(chain, "name")));
            }
            let hook = match (chain["type"].as_str(), chain["hook"].as_str()) {
                (Some("nat"), Some("postrouting")) => Hook::Postrouting,
                (Some("nat"), Some("prerouting")) => Hook::Prerouting,
                (Some("nat"), Some("output")) => Hook::Output,
                (Some(_), Some(_)) => {
                    self.others.insert((table(chain), text(chain, "name")).0, 0);
                    return;
                }
                _ => return,
            };
            self.bases.push((chain["prio"].as_i64().unwrap_or_default(), table(chain), text(chain, "name"), hook));
        } else if let Some(rule) = object.get("rule") {
            self.count += 1;
            for statement in rule["expr"].as_array().into_iter().flatten() {
                let name = [&statement["set"]["set"], &statement["map"]["map"]].into_iter().find_map(Value::as_str);
                let name = name.and_then(|name| name.strip_prefix('@'));
                self.growing.extend(name.map(|name| (table(rule), name.to_owned())));
            }
            let key = (table(rule), text(rule, "chain"));
            self.rules.entry(key).or_default().push((self.count, rule));
        } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            self.sets.insert((table(set), text(set, "name")), set);
        }
    }

    fn rules(mut self) -> Rules {
        let mut found = Rules::default();
        self.bases.sort_by_key(|(priority, ..)| *priority);
        let nat: Vec<TableName> = self.bases.iter().map(|(_, table, ..)| table.clone()).collect();
        for (family, name) in self.others.keys().filter(|table| !nat.contains(table)) {
            found.note(format!("table {family} {name} has no nat chain: it stays where it is"));
        }
        let (mut visited, mut ends) = (0, Vec::new());
        for (_, table, chain, hook) in &self.bases {
            if table.1 == "ip-masq-agent" {
                found.note("table ip-masq-agent is the service's own: its configuration says what it holds");
                continue;
            }
            let mut walk = Walk { ruleset: &self, table, hook: *hook, found: &mut found, visited: &mut visited };
            walk.chain(chain, &Condition::default(), true, 0);
            ends.push(found.rules.len());
        }
        refuse_early_ends(&mut found, &ends);
        for (table, chain) in &self.inputs {
            for (number, rule) in self.rules.get(&(table.clone(), chain.clone())).into_iter().flatten() {
                found.refuse(line(table, chain, *number, rule), "rules of the hook input have no key");
            }
        }
        for ((family, table), chain, policy) in &self.policies {
            let line =
                Line { number: usize::MAX, text: shortened(&format!("{family} {table} {chain}: policy {policy}")) };
            found.refuse(line, "a policy has no key: what no rule of the chain takes does not pass");
        }
        found
    }
}

/// A rule as it is shown.
fn line((family, table): &TableName, chain: &str, number: usize, rule: &Value) -> Line {
    Line { number, text: shortened(&format!("{family} {table} {chain}: {}", rule["expr"])) }
}

/// What one base chain leaves alone, the next one may still translate: there a RETURN is not the end. `ends`: how many rules
/// there were after each chain.
fn refuse_early_ends(found: &mut Rules, ends: &[usize]) {
    let rules = std::mem::take(&mut found.rules);
    let chain = |at: usize| ends.iter().position(|end| at < *end);
    let mut last = [None, None];
    let family = |rule: &Rule| usize::from(rule.family == Family::V6);
    for (at, rule) in rules.iter().enumerate() {
        if rule.hook == Hook::Postrouting && matches!(rule.action, Action::Translate(_)) {
            last[family(rule)] = chain(at);
        }
    }
    for (at, rule) in rules.into_iter().enumerate() {
        let is_early = rule.hook == Hook::Postrouting && rule.action == Action::Keep && chain(at) < last[family(&rule)];
        match is_early {
            true => found.refuse_rule(rule, "ends its own chain only: another nat chain is asked after it"),
            false => found.rules.push(rule),
        }
    }
}

struct Walk<'w, 'd> {
    ruleset: &'w Ruleset<'d>,
    table: &'w TableName,
    hook: Hook,
    found: &'w mut Rules,
    visited: &'w mut usize,
}

/// What a rule says, as far as it was read.
#[derive(Clone)]
struct Draft {
    condition: Condition,
    family: Option<Family>,
    end: Option<End>,
}

#[derive(Clone)]
enum End {
    Action(Action),
    Return,
    Jump(String),
}

impl Walk<'_, '_> {
    fn chain(&mut self, name: &str, before: &Condition, last: bool, depth: usize) {
        let Some(rules) = self.ruleset.rules.get(&(self.table.clone(), name.to_owned())) else { return };
        for (place, (number, rule)) in rules.iter().enumerate() {
            *self.visited += 1;
            let line = line(self.table, name, *number, rule);
            let is_last = last && place + 1 == rules.len();
            if let Err(reason) = self.rule(&line, rule, (before, name), (last, is_last), depth) {
                self.found.refuse(line, reason);
            }
        }
    }

    fn rule(
        &mut self,
        line: &Line,
        rule: &Value,
        (before, chain): (&Condition, &str),
        (last, is_last): (bool, bool),
        depth: usize,
    ) -> Taken<()> {
        if *self.visited > MAX_RULES {
            return Err("too many rules".to_owned());
        }
        let families = match self.table.0.as_str() {
            "ip" => vec![Family::V4],
            "ip6" => vec![Family::V6],
            "inet" => Family::ALL.to_vec(),
            other => return Err(format!("rules of the family {other} have no key")),
        };
        let mut taken = Vec::new();
        for draft in self.drafts(rule)? {
            let condition = if depth == 0 { draft.condition.clone() } else { before.and(&draft.condition) };
            if let Some(unsaid) = condition.unsaid {
                return Err(unsaid);
            }
            let action = match draft.end {
                None => return Err("translates nothing and ends nothing".to_owned()),
                Some(End::Return) if depth > 0 && !last => {
                    return Err(format!("returns from {chain}, and other rules are asked after it"));
                }
                Some(End::Return) => Action::Keep,
                Some(End::Action(action)) => action,
                Some(End::Jump(_)) if depth + 1 >= MAX_DEPTH => return Err("chains that lead on too often".to_owned()),
                Some(End::Jump(to)) => {
                    if let Some(keeper) = keeper(&to) {
                        return Err(format!("the chain {to} is kept by {keeper}, which puts it back"));
                    }
                    self.chain(&to, &condition, is_last, depth + 1);
                    continue;
                }
            };
            for family in families.iter().filter(|family| draft.family.is_none_or(|told| told == **family)) {
                let (hook, action) = (self.hook, action.clone());
                let lines = vec![line.clone()];
                taken.push(Rule { lines, hook, family: *family, condition: condition.clone(), action });
            }
        }
        self.found.rules.extend(taken);
        Ok(())
    }

    /// A rule with a map is a rule for each of its entries.
    fn drafts(&self, rule: &Value) -> Taken<Vec<Draft>> {
        let mut drafts = vec![Draft { condition: Condition::default(), family: None, end: None }];
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let Some((kind, body)) = statement.as_object().and_then(|object| object.iter().next()) else {
                return Err("an empty statement".to_owned());
            };
            if drafts.iter().any(|draft| draft.end.is_some()) {
                return Err(format!("'{kind}' behind what ends the rule"));
            }
            match kind.as_str() {
                "counter" => {}
                "match" => drafts.iter_mut().try_for_each(|draft| self.matches(body, draft))?,
                "masquerade" => {
                    let to = translation(body, None)?;
                    drafts.iter_mut().for_each(|draft| draft.end = Some(End::Action(Action::Translate(to))));
                }
                "snat" | "dnat" => drafts = self.rewritten(kind == "snat", body, &drafts)?,
                "redirect" => {
                    return Err(
                        "leads to a port of this host itself; an entry of portForwards leads to another one".into()
                    );
                }
                "return" => drafts.iter_mut().for_each(|draft| draft.end = Some(End::Return)),
                "accept" => drafts.iter_mut().for_each(|draft| draft.end = Some(End::Action(Action::Keep))),
                "jump" => {
                    let to = text(body, "target");
                    drafts.iter_mut().for_each(|draft| draft.end = Some(End::Jump(to.clone())));
                }
                "xt" => return Err("a rule of iptables-nft: import what iptables-save prints".to_owned()),
                other => return Err(format!("'{other}' has no key")),
            }
        }
        Ok(drafts)
    }

    fn rewritten(&self, source: bool, body: &Value, drafts: &[Draft]) -> Taken<Vec<Draft>> {
        let Some(map) = body["addr"].get("map") else {
            let end = end(source, &body["addr"], &body["port"], body)?;
            let with = |draft: &Draft| Draft { end: Some(end.clone()), ..draft.clone() };
            return drafts.iter().map(|draft| of_family(with(draft))).collect();
        };
        let data = self.elements(&map["data"])?;
        if data.is_empty() {
            return Err("the map is empty".to_owned());
        }
        let mut all = Vec::new();
        for draft in drafts {
            for entry in data.iter().take(MAX_RULES) {
                let [key, value] = entry.as_array().map(Vec::as_slice).unwrap_or_default() else {
                    return Err("a map whose entries are not understood".to_owned());
                };
                let (address, port) = match value.get("concat").and_then(Value::as_array).map(Vec::as_slice) {
                    Some([address, port]) => (address, port),
                    Some(_) => return Err("a concatenation has no key".to_owned()),
                    None => (value, &body["port"]),
                };
                let mut one = Draft { end: Some(end(source, address, port, body)?), ..draft.clone() };
                self.matched(&map["key"], key, false, &mut one)?;
                all.push(of_family(one)?);
            }
        }
        Ok(all)
    }

    /// The elements of a set or map, or of one that is named.
    fn elements(&self, value: &Value) -> Taken<Vec<Value>> {
        if let Some(list) = value.get("set") {
            return list.as_array().map_or_else(|| Ok(vec![list.clone()]), |list| list.iter().map(member).collect());
        }
        let Some(name) = value.as_str().and_then(|name| name.strip_prefix('@')) else { return Ok(vec![value.clone()]) };
        let key = (self.table.clone(), name.to_owned());
        let set = self.ruleset.sets.get(&key).ok_or_else(|| format!("the set '{name}' is not in this text"))?;
        let flags = &set["flags"];
        let has =
            |flag: &str| *flags == *flag || flags.as_array().is_some_and(|list| list.iter().any(|one| one == flag));
        // Not every version of nft prints that a set is dynamic.
        if has("dynamic") || has("timeout") || self.ruleset.growing.contains(&key) {
            return Err(format!("the members of '{name}' come and go; a list of the configuration stays"));
        }
        if set["type"].is_array() {
            return Err(format!("'{name}' is a concatenation, which has no key"));
        }
        set["elem"].as_array().into_iter().flatten().map(member).collect()
    }

    fn matches(&self, body: &Value, draft: &mut Draft) -> Taken<()> {
        let negated = body["op"] == "!=";
        if !matches!(body["op"].as_str(), Some("==" | "!=" | "in")) {
            return Err(format!("'{}' has no key", body["op"]));
        }
        self.matched(&body["left"], &body["right"], negated, draft)
    }

    fn matched(&self, left: &Value, right: &Value, negated: bool, draft: &mut Draft) -> Taken<()> {
        let no_key = || Err(format!("{}{} has no key", if negated { "! " } else { "" }, shortened(&left.to_string())));
        if left.get("concat").is_some() {
            return Err("a concatenation has no key".to_owned());
        }
        let condition = &mut draft.condition;
        if let Some(payload) = left.get("payload") {
            let field = text(payload, "field");
            return match (text(payload, "protocol").as_str(), field.as_str()) {
                (ip @ ("ip" | "ip6"), "saddr" | "daddr") => {
                    let family = if ip == "ip" { Family::V4 } else { Family::V6 };
                    set_family(&mut draft.family, family)?;
                    let set = self.addresses(right, family)?;
                    let set = if negated { but(family, &set) } else { set };
                    let slot = if field == "saddr" { &mut condition.sources } else { &mut condition.destinations };
                    match slot.replace(set) {
                        None => Ok(()),
                        Some(_) => Err("two conditions on one address".to_owned()),
                    }
                }
                (protocol @ ("tcp" | "udp" | "sctp" | "th"), "dport") if !negated => {
                    if protocol != "th" {
                        let protocol = protocol.parse().map_err(|_| "a protocol".to_owned())?;
                        // `meta l4proto { tcp, udp } tcp dport 80` is for one of them.
                        if !condition.protocols.is_empty() && !condition.protocols.contains(&protocol) {
                            return Err("two conditions on the protocol".to_owned());
                        }
                        condition.protocols = vec![protocol];
                    }
                    once(&mut condition.ports, self.ports(right)?, "the port")
                }
                ("ip", "protocol") | ("ip6", "nexthdr") if !negated => self.protocols(right, condition),
                _ => no_key(),
            };
        }
        match left["meta"]["key"].as_str() {
            Some("oifname" | "oif") => {
                interfaces(&mut condition.out, self.interfaces(right, negated)?, "the outgoing interface")
            }
            Some("iifname" | "iif") => {
                interfaces(&mut condition.incoming, self.interfaces(right, negated)?, "the incoming interface")
            }
            Some("l4proto") if !negated => self.protocols(right, condition),
            Some("nfproto") if !negated => match right.as_str() {
                Some("ipv4") => set_family(&mut draft.family, Family::V4),
                Some("ipv6") => set_family(&mut draft.family, Family::V6),
                _ => no_key(),
            },
            Some("mark") => set_mark(condition, number(right), Some(u32::MAX), negated),
            _ if left.get("&").is_some() => match left["&"].as_array().map(Vec::as_slice) {
                Some([meta, mask]) if meta["meta"]["key"] == "mark" => {
                    set_mark(condition, number(right), number(mask), negated)
                }
                _ => no_key(),
            },
            _ if left["rt"]["key"] == "ipsec" => agreed(&mut condition.ipsec, (*right == Value::Bool(true)) != negated),
            _ if left["fib"]["result"] == "type"
                && right == "local"
                && left["fib"]["flags"] == serde_json::json!(["daddr"]) =>
            {
                agreed(&mut condition.to_local, !negated)
            }
            _ if left["fib"]["result"] == "type" && right == "local" && left["fib"]["flags"] == "daddr" => {
                agreed(&mut condition.to_local, !negated)
            }
            _ if left["ct"]["key"] == "status" && right == "dnat" && !negated => {
                condition.dnated = true;
                Ok(())
            }
            _ => no_key(),
        }
    }

    fn addresses(&self, value: &Value, family: Family) -> Taken<AddressSet> {
        let mut prefixes = Vec::new();
        for element in self.elements(value)? {
            let element = &element;
            let wrong = || format!("{} is not an {family} address", shortened(&element.to_string()));
            if element.get("concat").is_some() {
                return Err("a concatenation has no key".to_owned());
            }
            let set = one_or_more(element).ok_or_else(wrong)?;
            prefixes.extend(
                set.prefixes()
                    .into_iter()
                    .map(|one| (one.family() == family).then_some(one))
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(wrong)?,
            );
        }
        Ok(AddressSet::of(prefixes))
    }

    fn interfaces(&self, value: &Value, negated: bool) -> Taken<Vec<InterfacePattern>> {
        let elements = self.elements(value)?;
        if elements.is_empty() {
            return Err("an empty set of interfaces".to_owned());
        }
        let pattern = |name: &Value| name.as_str().and_then(|name| words::interface(name, negated));
        let list: Option<Vec<_>> = elements.iter().map(pattern).collect();
        list.ok_or_else(|| format!("{} is not a name of interfaces", shortened(&value.to_string())))
    }

    fn protocols(&self, value: &Value, condition: &mut Condition) -> Taken<()> {
        let name = |protocol: &Value| protocol.as_str().map_or_else(|| protocol.to_string(), str::to_owned);
        let elements = self.elements(value)?;
        let protocols = elements.iter().map(|one| name(one).parse::<Protocol>().map_err(|error| error.to_string()));
        once(&mut condition.protocols, protocols.collect::<Taken<_>>()?, "the protocol")
    }

    fn ports(&self, value: &Value) -> Taken<Vec<PortRange>> {
        let elements = self.elements(value)?;
        let ports: Option<Vec<_>> = elements.iter().map(port_range).collect();
        ports.ok_or_else(|| format!("{} is not a list of ports", shortened(&value.to_string())))
    }
}

/// A member of a set, or an entry of a map, without its comment and counter.
fn member(element: &Value) -> Taken<Value> {
    if let Some([key, value]) = element.as_array().map(Vec::as_slice) {
        return Ok(Value::Array(vec![member(key)?, value.clone()]));
    }
    match element.get("elem") {
        Some(inner) if !inner["timeout"].is_null() || !inner["expires"].is_null() => {
            Err("a member comes and goes; a list of the configuration stays".to_owned())
        }
        Some(inner) => Ok(inner.get("val").unwrap_or(inner).clone()),
        None => Ok(element.clone()),
    }
}

/// Both conditions of a rule count, and a list holds one of them.
fn once<T>(slot: &mut Vec<T>, list: Vec<T>, what: &str) -> Taken<()> {
    if !slot.is_empty() {
        return Err(format!("two conditions on {what}"));
    }
    *slot = list;
    Ok(())
}

fn agreed(slot: &mut Option<bool>, value: bool) -> Taken<()> {
    match slot.replace(value) {
        Some(other) if other != value => Err("two conditions that exclude each other".to_owned()),
        _ => Ok(()),
    }
}

/// All but these and all but those are all but both.
fn interfaces(slot: &mut Vec<InterfacePattern>, list: Vec<InterfacePattern>, what: &str) -> Taken<()> {
    match slot.iter().chain(&list).all(|pattern| pattern.negated) {
        true => slot.extend(list),
        false => once(slot, list, what)?,
    }
    Ok(())
}

fn set_mark(condition: &mut Condition, value: Option<u32>, mask: Option<u32>, negated: bool) -> Taken<()> {
    let (Some(value), Some(mask)) = (value, mask) else { return Err("a set of marks has no key".to_owned()) };
    let mark = MaskedMark { value, mask };
    match negated {
        // `mark & 0xff00 != 0` is no exemption of one mark.
        true if value & !mask == 0 && mask != 0 => condition.without_marks.push(mark),
        false if condition.mark.is_some() => return Err("two conditions on the mark".to_owned()),
        false if value & !mask == 0 && mask != 0 => condition.mark = Some(mark),
        _ => return Err("a mark outside its mask".to_owned()),
    }
    Ok(())
}

fn set_family(slot: &mut Option<Family>, family: Family) -> Taken<()> {
    match slot.replace(family) {
        Some(other) if other != family => Err("both address families at once".to_owned()),
        _ => Ok(()),
    }
}

/// The family of the addresses that a rule rewrites to.
fn of_family(mut draft: Draft) -> Taken<Draft> {
    let range = match &draft.end {
        Some(End::Action(Action::Translate(Translation { to, .. }))) => *to,
        Some(End::Action(Action::Forward(to))) => to.address,
        _ => None,
    };
    if let Some(range) = range {
        set_family(&mut draft.family, range.family())?;
    }
    Ok(draft)
}

fn end(source: bool, address: &Value, port: &Value, body: &Value) -> Taken<End> {
    let range = match address {
        Value::Null => None,
        address => {
            Some(range(address).ok_or_else(|| format!("{} is not an address", shortened(&address.to_string())))?)
        }
    };
    if source {
        let range = range.ok_or("snat to a port only has no key")?;
        return Ok(End::Action(Action::Translate(translation(body, Some(range))?)));
    }
    if !body["flags"].is_null() {
        return Err("a forward at random has no key".to_owned());
    }
    let ports = match port {
        Value::Null => None,
        port => Some(port_range(port).ok_or("a port that is not understood")?),
    };
    Ok(End::Action(Action::Forward(Destination { address: range, ports, base: None })))
}

fn translation(body: &Value, to: Option<AddressRange>) -> Taken<Translation> {
    if !body["port"].is_null() {
        return Err(
            "source ports of some protocols have no key; see toPorts, which is for TCP, UDP and SCTP at once".into()
        );
    }
    let mut random_fully = false;
    let flags = body["flags"].as_array().cloned().unwrap_or_else(|| vec![body["flags"].clone()]);
    for flag in flags.iter().filter(|flag| !flag.is_null()) {
        match flag.as_str() {
            Some("fully-random") => random_fully = true,
            Some("persistent") => {}
            _ => return Err(format!("'{flag}' has no key, fully-random has")),
        }
    }
    Ok(Translation { to, random_fully })
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn port_range(value: &Value) -> Option<PortRange> {
    let port = |value: &Value| match value {
        Value::String(text) => words::port(text),
        value => value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
    };
    match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => {
            Some(PortRange { first: port(first)?, last: port(last)? }).filter(|one| one.first <= one.last)
        }
        Some(_) => None,
        None => port(value).map(|port| PortRange { first: port, last: port }),
    }
}

/// An address, a prefix or a range of addresses.
fn one_or_more(value: &Value) -> Option<AddressSet> {
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
        return Some(AddressSet::of([Prefix::containing(prefix["addr"].as_str()?.parse().ok()?, length)?]));
    }
    match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => words::between(first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?),
        _ => value.as_str().and_then(words::network).map(|one| AddressSet::of([one])),
    }
}

fn range(value: &Value) -> Option<AddressRange> {
    match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => words::addresses(&format!("{}-{}", first.as_str()?, last.as_str()?)),
        _ => value.as_str().and_then(words::addresses),
    }
}
