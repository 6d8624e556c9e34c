//! Reads a table as `nft -j list table` prints it and says what it does to a packet.
//!
//! Written from nft(8) and libnftables-json(5), not from what compiles our rules: it is the second opinion.

use super::{Arrival, Ranges};
use ip_masq_agent::policy::{AddressRange, Flow, Protocol, Verdict};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// One table.
#[derive(Debug, Default)]
pub struct Table {
    /// The nat chains at the hook, in the order in which the kernel asks them.
    bases: Vec<(i64, String)>,
    /// Those where packets arrive.
    arrivals: Vec<(i64, String)>,
    chains: BTreeMap<String, Vec<Vec<Value>>>,
    sets: HashMap<String, Ranges>,
    /// Elements that are rows of fields, with what each leads to.
    maps: HashMap<String, Vec<(Vec<Value>, Value)>>,
}

/// Where a rule leaves a packet.
enum End {
    Verdict(Verdict),
    /// The end of the chain that it is in, by `return` or for want of rules.
    Return,
    On,
}

type Read<T> = Result<T, String>;

impl Table {
    /// Reads the listing.
    ///
    /// # Errors
    /// When there is something in it that is not understood here.
    pub fn read(json: &str) -> Read<Self> {
        let listing: Value = serde_json::from_str(json).map_err(|error| format!("nft printed no JSON: {error}"))?;
        let mut table = Table::default();
        for object in listing["nftables"].as_array().into_iter().flatten() {
            if let Some(chain) = object.get("chain") {
                table.add_chain(chain);
            } else if let Some(set) = object.get("set") {
                let mut ranges = Ranges::default();
                // Rows of fields are asked about translated flows only, of which there are none here.
                let members = if set["type"].is_array() { &Value::Null } else { &set["elem"] };
                members.as_array().into_iter().flatten().try_for_each(|element| add_element(&mut ranges, element))?;
                ranges.sort();
                table.sets.insert(name(set), ranges);
            } else if let Some(map) = object.get("map") {
                let pairs = map["elem"].as_array().into_iter().flatten();
                let row = |pair: &Value| (fields(&pair[0]), pair[1].clone());
                table.maps.insert(name(map), pairs.map(row).collect());
            } else if let Some(rule) = object.get("rule") {
                let statements = rule["expr"].as_array().cloned().unwrap_or_default();
                table.chains.entry(text(&rule["chain"])).or_default().push(statements);
            }
        }
        table.bases.sort();
        table.arrivals.sort();
        Ok(table)
    }

    fn add_chain(&mut self, chain: &Value) {
        let hook = (chain["prio"].as_i64().unwrap_or_default(), name(chain));
        match (chain["type"].as_str(), chain["hook"].as_str()) {
            (Some("nat"), Some("postrouting")) => self.bases.push(hook),
            (Some("nat"), Some("prerouting")) => self.arrivals.push(hook),
            _ => {}
        }
        self.chains.entry(name(chain)).or_default();
    }

    /// How many chains of it the kernel asks.
    pub fn bases(&self) -> usize {
        self.bases.len()
    }

    /// And of those where packets arrive.
    pub fn arrivals(&self) -> usize {
        self.arrivals.len()
    }

    /// Their priorities.
    pub fn priorities(&self) -> impl Iterator<Item = i64> {
        self.bases.iter().map(|(priority, _)| *priority)
    }

    /// Rules that are there twice in one chain.
    pub fn duplicates(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (chain, rules) in &self.chains {
            let mut texts: Vec<String> = rules.iter().map(|rule| uncounted(rule)).collect();
            texts.sort();
            found
                .extend(texts.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{chain}: {}", pair[0])));
        }
        found
    }

    /// What happens to the source of a flow whose destination is not local.
    ///
    /// # Errors
    /// When the rules say something that is not understood here, or refer to what is not there.
    pub fn verdict(&self, flow: &Flow) -> Read<Verdict> {
        for (_, base) in &self.bases {
            // What one nat chain returns from, the next one may still translate.
            match self.walk(base, flow)? {
                End::Verdict(verdict) if verdict != Verdict::Return => return Ok(verdict),
                _ => {}
            }
        }
        Ok(Verdict::Return)
    }

    fn walk(&self, chain: &str, flow: &Flow) -> Read<End> {
        for rule in self.chains.get(chain).ok_or_else(|| format!("a jump to '{chain}', which is not there"))? {
            match self.rule(rule, flow)? {
                End::On => {}
                end => return Ok(end),
            }
        }
        Ok(End::Return)
    }

    fn rule(&self, rule: &[Value], flow: &Flow) -> Read<End> {
        for statement in rule {
            let (kind, body) =
                statement.as_object().and_then(|object| object.iter().next()).ok_or("an empty statement")?;
            match kind.as_str() {
                "counter" => {}
                "match" if self.matches(body, flow)? => {}
                "match" => return Ok(End::On),
                "return" => return Ok(End::Return),
                "accept" => return Ok(End::Verdict(Verdict::Return)),
                "snat" => match body["addr"].get("map") {
                    Some(map) => match self.looked_up(map, flow)? {
                        Some(found) => return Ok(End::Verdict(Verdict::Snat(addresses(&found)?))),
                        // A key that is not in the map ends the rule.
                        None => return Ok(End::On),
                    },
                    None => return Ok(End::Verdict(Verdict::Snat(addresses(&body["addr"])?))),
                },
                "masquerade" => return Ok(End::Verdict(Verdict::Masquerade)),
                // A return out of a chain that was gone to returns from this one too.
                "goto" => return self.walk(&text(&body["target"]), flow),
                "jump" => match self.walk(&text(&body["target"]), flow)? {
                    End::Return => {}
                    end => return Ok(end),
                },
                _ => return Err(format!("'{kind}' is not understood in {statement}")),
            }
        }
        Ok(End::On)
    }

    /// What a map says of a flow.
    fn looked_up(&self, map: &Value, flow: &Flow) -> Read<Option<Value>> {
        let wanted = map["key"]["concat"].as_array().ok_or_else(|| format!("a key that is not understood in {map}"))?;
        let mut key = Vec::new();
        for field in wanted {
            let Some(field) = left(field, flow)? else { return Ok(None) };
            key.push(field);
        }
        let data = text(&map["data"]);
        let rows = data.strip_prefix('@').and_then(|name| self.maps.get(name));
        for (row, leads_to) in rows.ok_or_else(|| format!("no map '{data}'"))? {
            let is_field = |(wanted, there): (&Left, &Value)| self.found(wanted, there);
            if key.len() == row.len()
                && key.iter().zip(row).map(is_field).collect::<Read<Vec<_>>>()?.iter().all(|is| *is)
            {
                return Ok(Some(leads_to.clone()));
            }
        }
        Ok(None)
    }

    fn matches(&self, body: &Value, flow: &Flow) -> Read<bool> {
        // By chance: what is chosen is a port.
        if body["left"].get("numgen").is_some() && body["op"] == "<" {
            return Ok(true);
        }
        let Some(left) = left(&body["left"], flow)? else { return Ok(false) };
        let found = self.found(&left, &body["right"])?;
        match body["op"].as_str() {
            Some("==" | "in") => Ok(found),
            Some("!=") => Ok(!found),
            _ => Err(format!("an operator that is not understood in {body}")),
        }
    }

    fn found(&self, left: &Left, right: &Value) -> Read<bool> {
        if let Some(members) = right.get("set").and_then(Value::as_array) {
            return members.iter().try_fold(false, |found, member| Ok(found || self.found(left, member)?));
        }
        match (left, right) {
            (Left::Address(address), Value::String(set)) if set.starts_with('@') => {
                let set = self.sets.get(&set[1..]).ok_or_else(|| format!("no set '{set}'"))?;
                Ok(set.contain(*address))
            }
            (Left::Address(address), element) => {
                let mut range = Ranges::default();
                add_element(&mut range, element)?;
                Ok(range.contain(*address))
            }
            (Left::Word(word), Value::String(pattern)) => Ok(match pattern.strip_suffix('*') {
                Some(prefix) => word.starts_with(prefix),
                None => word == pattern,
            }),
            (Left::Word(word), Value::Bool(is)) => Ok(*word == is.to_string()),
            (Left::Word(word), other) => Ok(other.as_u64().map(|number| number.to_string()).as_ref() == Some(word)),
        }
    }
}

// What happens to the destination of what is for the host itself.
impl Table {
    /// Where a flow is sent on to; none when it stays at the host.
    ///
    /// # Errors
    /// As [`Self::verdict`].
    pub fn destination(&self, arrival: &Arrival) -> Read<Option<(IpAddr, u16)>> {
        for (_, chain) in &self.arrivals {
            if let Some(found) = self.arrive(chain, arrival)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn arrive(&self, chain: &str, arrival: &Arrival) -> Read<Option<(IpAddr, u16)>> {
        let rules = self.chains.get(chain).ok_or_else(|| format!("a jump to '{chain}', which is not there"))?;
        'rules: for rule in rules {
            for statement in rule {
                let (kind, body) =
                    statement.as_object().and_then(|object| object.iter().next()).ok_or("an empty statement")?;
                match kind.as_str() {
                    "counter" => {}
                    "match" => {
                        let is = is_there(&arriving(&body["left"], arrival)?, &body["right"])?;
                        if is == (body["op"] == "!=") {
                            continue 'rules;
                        }
                    }
                    "return" => return Ok(None),
                    "goto" => return self.arrive(&text(&body["target"]), arrival),
                    "dnat" => match body["addr"].get("map") {
                        None => return sent_on(&body["addr"], body.get("port"), arrival).map(Some),
                        Some(map) => match self.row(map, arrival)? {
                            None => continue 'rules,
                            Some(to) => return sent_on(&to, None, arrival).map(Some),
                        },
                    },
                    "vmap" => match self.row(body, arrival)? {
                        None => continue 'rules,
                        Some(to) => return self.arrive(&text(&to["goto"]["target"]), arrival),
                    },
                    _ => return Err(format!("'{kind}' is not understood in {statement}")),
                }
            }
        }
        Ok(None)
    }

    /// What a map leads to.
    fn row(&self, map: &Value, arrival: &Arrival) -> Read<Option<Value>> {
        let wanted = map["key"]["concat"].as_array().cloned().unwrap_or_else(|| vec![map["key"].clone()]);
        let key = wanted.iter().map(|field| arriving(field, arrival)).collect::<Read<Vec<_>>>()?;
        let data = text(&map["data"]);
        let rows = data.strip_prefix('@').and_then(|name| self.maps.get(name));
        for (row, leads_to) in rows.ok_or_else(|| format!("no map '{data}'"))? {
            let fields = key.iter().zip(row).map(|(have, field)| is_there(have, field)).collect::<Read<Vec<_>>>()?;
            if key.len() == row.len() && fields.iter().all(|is| *is) {
                return Ok(Some(leads_to.clone()));
            }
        }
        Ok(None)
    }
}

/// A field of a packet that arrives: an address, a word or a number, as text.
fn arriving(left: &Value, arrival: &Arrival) -> Read<String> {
    let family = if arrival.destination.is_ipv6() { "ip6" } else { "ip" };
    if let Some(meta) = left.get("meta") {
        return match meta["key"].as_str() {
            Some("nfproto") => Ok(if family == "ip6" { "ipv6" } else { "ipv4" }.to_owned()),
            Some("iifname") => Ok(arrival.interface.to_owned()),
            Some("l4proto") => Ok(arrival.protocol.to_owned()),
            _ => Err(format!("not understood: {left}")),
        };
    }
    let flags = left["fib"]["flags"].as_array().map(Vec::as_slice);
    if left["fib"]["result"] == "type" && flags.is_some_and(|flags| flags == ["daddr"]) {
        return Ok("local".to_owned());
    }
    match (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str()) {
        (Some("th" | "tcp" | "udp"), Some("dport")) => Ok(arrival.port.to_string()),
        (Some(of), Some("saddr")) if of == family => Ok(arrival.source.to_string()),
        (Some(of), Some("daddr")) if of == family => Ok(arrival.destination.to_string()),
        (Some("ip" | "ip6"), _) => Ok(String::new()),
        _ => Err(format!("not understood: {left}")),
    }
}

/// Whether a field is what an element says: itself, or within it.
fn is_there(have: &str, element: &Value) -> Read<bool> {
    if let Some(members) = element.get("set").and_then(Value::as_array) {
        return members.iter().try_fold(false, |found, member| Ok(found || is_there(have, member)?));
    }
    if let (Ok(port), Some(range)) = (have.parse::<u64>(), element["range"].as_array()) {
        return Ok((range[0].as_u64()..=range[1].as_u64()).contains(&Some(port)));
    }
    if let Ok(address) = have.parse::<IpAddr>() {
        let mut range = Ranges::default();
        add_element(&mut range, element)?;
        return Ok(range.contain(address));
    }
    let element = element.as_str().map_or_else(|| element.to_string(), str::to_owned);
    Ok(element.strip_suffix('*').map_or(have == element, |prefix| have.starts_with(prefix)))
}

/// The address that `dnat` leads to, and the port, which stays when none is named.
fn sent_on(to: &Value, port: Option<&Value>, arrival: &Arrival) -> Read<(IpAddr, u16)> {
    let (address, port) = match to["concat"].as_array() {
        Some(row) => (&row[0], row.get(1)),
        None => (to, port),
    };
    let address = text(address).parse().map_err(|_| format!("{to} is no destination"))?;
    let port = port.and_then(Value::as_u64).map_or(Ok(arrival.port), u16::try_from);
    Ok((address, port.map_err(|_| format!("{to} has no port"))?))
}

/// The fields of an element that is a row of them.
fn fields(element: &Value) -> Vec<Value> {
    let element = element.get("elem").map_or(element, |counted| &counted["val"]);
    element["concat"].as_array().cloned().unwrap_or_else(|| vec![element.clone()])
}

/// What a flow has on the left side of a comparison.
enum Left {
    Address(IpAddr),
    Word(String),
}

/// `None` where the packet has no such field, so that the rule does not match.
fn left(left: &Value, flow: &Flow) -> Read<Option<Left>> {
    let word = |word: &str| Ok(Some(Left::Word(word.to_owned())));
    let of_family = |address: Option<IpAddr>, protocol: &Value| {
        let wanted = if protocol == "ip6" { IpAddr::is_ipv6 } else { IpAddr::is_ipv4 };
        Ok(address.filter(wanted).map(Left::Address))
    };
    let is_tcp = flow.protocol == Protocol::Tcp;
    if let Some(meta) = left.get("meta") {
        return match meta["key"].as_str() {
            Some("nfproto") => word(if flow.destination.is_ipv6() { "ipv6" } else { "ipv4" }),
            Some("oifname") => word(flow.out_interface.as_deref().unwrap_or_default()),
            Some("mark") => word(&flow.mark.to_string()),
            Some("l4proto") => word(&flow.protocol.to_string()),
            // A frame that is bridged comes in through no interface, packets of the host's own as well.
            Some("iif") => word(if flow.bridged || flow.source_is_local { "0" } else { "1" }),
            Some("oifkind") => word(if flow.bridged { "bridge" } else { "veth" }),
            _ => Err(format!("not understood: {left}")),
        };
    }
    if left.get("ct").is_some_and(|ct| ct["key"] == "status") {
        // The flows that are asked about were sent where they go to.
        return word("confirmed");
    }
    if let Some(payload) = left.get("payload") {
        // The destination of a frame, which only one that arrived has.
        if payload["base"] == "ll" && payload["offset"] == 0 && payload["len"] == 48 {
            return word(if flow.bridged { "1" } else { "0" });
        }
        return match (&payload["protocol"], payload["field"].as_str()) {
            (protocol, Some("saddr")) => of_family(flow.source, protocol),
            (protocol, Some("daddr")) => of_family(Some(flow.destination), protocol),
            _ => Err(format!("not understood: {left}")),
        };
    }
    if let Some(fib) = left.get("fib").filter(|fib| fib["result"] == "type") {
        let flags: Vec<String> = fib["flags"].as_array().into_iter().flatten().map(text).collect();
        let local = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["daddr"] => false,
            ["saddr"] => flow.source_is_local,
            ["saddr", "oif"] => flow.source_on_out_interface,
            _ => return Err(format!("not understood: {left}")),
        };
        return word(if local { "local" } else { "unicast" });
    }
    if let Some(rt) = left.get("rt").filter(|rt| rt["key"] == "ipsec") {
        return if rt.get("family").is_none() {
            word(&flow.ipsec.to_string())
        } else {
            Err(format!("not understood: {left}"))
        };
    }
    if let Some(masked) = left.get("&").filter(|masked| masked[0]["meta"]["key"] == "mark") {
        let mask = masked[1].as_u64().and_then(|mask| u32::try_from(mask).ok());
        return word(&(flow.mark & mask.ok_or_else(|| format!("a mask that is not understood: {left}"))?).to_string());
    }
    if let Some(masked) = left.get("&").filter(|masked| masked[0]["payload"]["field"] == "daddr") {
        let mask = text(&masked[1]).parse().map_err(|_| format!("a mask that is not understood: {left}"))?;
        let address = match (flow.destination, mask) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => IpAddr::from(address & mask),
            (IpAddr::V6(address), IpAddr::V6(mask)) => IpAddr::from(address & mask),
            _ => return Ok(None),
        };
        return of_family(Some(address), &masked[0]["payload"]["protocol"]);
    }
    match left.get("&").and_then(|masked| masked.get(0)).map(|field| &field["payload"]) {
        Some(field) if field["protocol"] == "tcp" && field["field"] == "flags" => {
            Ok(is_tcp.then(|| Left::Word(if flow.opens_connection { "syn" } else { "ack" }.to_owned())))
        }
        _ => Err(format!("not understood: {left}")),
    }
}

/// What `snat` leads to: an address or a range.
fn addresses(value: &Value) -> Read<AddressRange> {
    let words = match value.get("range") {
        Some(range) => format!("{}-{}", text(&range[0]), text(&range[1])),
        None => text(value),
    };
    words.parse().map_err(|error| format!("'{words}': {error}"))
}

fn add_element(ranges: &mut Ranges, element: &Value) -> Read<()> {
    let address = |value: &Value| text(value).parse().map_err(|_| format!("{value} is no address"));
    if let Some(prefix) = element.get("prefix") {
        return ranges.add_network(&format!("{}/{}", text(&prefix["addr"]), prefix["len"]));
    }
    if let Some(range) = element.get("range") {
        ranges.add_between(address(&range[0])?, address(&range[1])?);
        return Ok(());
    }
    match element.get("elem") {
        Some(inner) => add_element(ranges, &inner["val"]),
        None => ranges.add_network(&text(element)),
    }
}

fn uncounted(rule: &[Value]) -> String {
    let statements = rule.iter().filter(|statement| statement.get("counter").is_none());
    statements.map(Value::to_string).collect()
}

fn name(object: &Value) -> String {
    text(&object["name"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
