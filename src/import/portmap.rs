//! A configuration of CNI's portmap plugin, as a runtime hands it over or as it is cached (`/var/lib/cni/results`).

use super::Imported;
use super::forwards::{EntryHairpin, ForwardEntry};
use super::rule::{Condition, Hook, Line, Refusal, Rules, Taken, whole};
use super::sources::Sources;
use super::{iptables, words, write};
use crate::config::{self, Flags, SourceText};
use crate::policy::{AddressSet, Family, PortRange, Protocol};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

const PORTMAP: &str = "portmap";

/// What the plugin is told.
struct Options<'v> {
    plugin: &'v Value,
    addresses: Vec<IpAddr>,
    mappings: Vec<&'v Value>,
}

/// `None` of a document that is something else.
pub fn read(document: &Value) -> Option<Imported> {
    let listed = document["plugins"].as_array().and_then(|list| list.iter().find(|one| one["type"] == PORTMAP));
    let cached = document["kind"] == "cniCacheV1";
    let plugin = match listed {
        Some(plugin) => plugin,
        None if document["type"] == PORTMAP || cached => document,
        None => return None,
    };
    let places = [&plugin["runtimeConfig"], &document["runtimeConfig"], &document["capabilityArgs"], plugin];
    let mappings = places.iter().find_map(|place| place["portMappings"].as_array());
    let results = [&plugin["prevResult"], &document["prevResult"], &document["result"]];
    let ips = results.iter().find_map(|result| result["ips"].as_array());
    let address = |ip: &Value| words::network_address(ip["address"].as_str()?);
    let addresses = ips.into_iter().flatten().filter_map(address).collect();
    let options = Options { plugin, addresses, mappings: mappings.into_iter().flatten().collect() };
    Some(options.import())
}

fn line(number: usize, value: &Value) -> Line {
    Line { number, text: iptables::shortened(&value.to_string()) }
}

impl Options<'_> {
    fn import(&self) -> Imported {
        let mut found = Rules::default();
        let mut made: Vec<ForwardEntry> = Vec::new();
        let nothing = |reason: &str| Refusal {
            line: Line { number: usize::MAX, text: "portMappings".to_owned() },
            reason: reason.to_owned(),
        };
        if self.mappings.is_empty() {
            found.refused.push(nothing("there are none in it: the container runtime passes them for each container"));
        } else if self.addresses.is_empty() {
            found.refused.push(nothing("where they lead is not in it: the address of the container is in prevResult"));
        }
        match self.mark() {
            Ok(mark) => found.forward_mark = mark,
            Err((key, reason)) => found.refuse(line(usize::MAX, &json!({ key: field(self.plugin, key) })), reason),
        }
        if let Some(backend) = Some(field(self.plugin, "backend")).filter(|backend| !backend.is_null()) {
            let backend = iptables::shortened(&backend.to_string());
            found.note(format!(
                "The backend of the plugin was {backend}; here 'backend' is of the whole service, and auto by default"
            ));
        }
        let mappings = (1..).zip(&self.mappings).filter(|_| !self.addresses.is_empty());
        for (number, mapping) in mappings {
            for family in Family::ALL {
                match self.entry(number, mapping, family) {
                    Ok(Some(entry)) if made.iter().any(|before| is_same(before, &entry)) => {
                        found.refuse(entry.line, "the mapping before it has the same port");
                    }
                    Ok(entry) => made.extend(entry),
                    Err(reason) => found.refuse(line(number, mapping), reason),
                }
            }
        }
        let text = write::rules("a configuration of CNI's portmap", &found, &Sources::default(), &made);
        Imported { text, refused: found.refused.len() }
    }

    /// What marks the connections whose source is rewritten, where it is not the plugin's own default: that one nobody
    /// else needs to know.
    fn mark(&self) -> Result<Option<(&'static str, String)>, (&'static str, &'static str)> {
        const BIT: &str = "markMasqBit";
        const CHAIN: &str = "externalSetMarkChain";
        let chain = field(self.plugin, CHAIN).as_str().filter(|chain| !chain.is_empty());
        let bit = Some(field(self.plugin, BIT)).filter(|bit| !bit.is_null());
        match (bit, chain) {
            (Some(_), Some(_)) => Err((CHAIN, "markMasqBit is set, too: the plugin refuses both")),
            (Some(bit), None) => match bit.as_u64().filter(|bit| *bit < 32) {
                Some(bit) => Ok(Some((BIT, bit.to_string()))),
                None => Err((BIT, "not a bit from 0 to 31")),
            },
            (None, Some(chain)) => match write::word(chain) {
                word if is_configuration(&format!("{CHAIN}: {word}")) => Ok(Some((CHAIN, word))),
                _ => Err((CHAIN, "not a chain of another program")),
            },
            (None, None) => Ok(None),
        }
    }

    fn entry(&self, number: usize, mapping: &Value, family: Family) -> Taken<Option<ForwardEntry>> {
        let port = |key: &str| {
            let port = field(mapping, key).as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            port.ok_or_else(|| format!("{key} is not a port from 1 to 65535"))
        };
        let (host_port, port) = (port("hostPort")?, port("containerPort")?);
        let Some(address) = self.addresses.iter().copied().find(|one| Family::of(*one) == family) else {
            return Ok(None);
        };
        let name = field(mapping, "protocol").as_str().unwrap_or_default().to_ascii_lowercase();
        let protocol = match name.as_str() {
            "tcp" | "6" => Protocol::Tcp,
            "udp" | "17" => Protocol::Udp,
            "sctp" | "132" => Protocol::Sctp,
            _ => return Err("protocol is not tcp, udp or sctp".to_owned()),
        };
        let host = match field(mapping, "hostIP").as_str().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| "hostIP is not an address")?.to_canonical()),
        };
        if host.is_some_and(|host| Family::of(host) != family) {
            return Ok(None);
        }
        let host = host.filter(|host| !host.is_unspecified());
        if host.is_some_and(|host| host.is_loopback() && host.is_ipv6()) {
            return Err("packets from ::1 can't leave the host".to_owned());
        }
        let snat = field(self.plugin, "snat").as_bool().unwrap_or(true);
        let always = snat && field(self.plugin, "masqAll").as_bool().unwrap_or(false);
        let loopback = host.is_none_or(|host| host.is_loopback());
        let mut forward = ForwardEntry {
            line: line(number, mapping),
            protocols: vec![protocol],
            host_ports: PortRange { first: host_port, last: host_port },
            host,
            address,
            port,
            incoming: Vec::new(),
            sources: None,
            hairpin: match (snat, always) {
                (_, true) => EntryHairpin::Always,
                (true, _) => EntryHairpin::Auto,
                (false, _) => EntryHairpin::From(AddressSet::default()),
            },
            localhost: snat && loopback && family == Family::V4,
        };
        self.conditions(family, &mut forward)?;
        Ok(Some(forward))
    }

    /// The plugin's `conditionsV4` and `conditionsV6`, in the words of iptables or of nft.
    fn conditions(&self, family: Family, forward: &mut ForwardEntry) -> Taken<()> {
        let key = if family == Family::V4 { "conditionsV4" } else { "conditionsV6" };
        let words: Option<Vec<&str>> =
            field(self.plugin, key).as_array().into_iter().flatten().map(Value::as_str).collect();
        let words = words.ok_or_else(|| format!("{key} is not a list of words"))?;
        let is_nft = words.first().is_some_and(|first| !first.starts_with(['-', '!']));
        match is_nft {
            false => {
                let line = format!(
                    "-A PREROUTING {} -p tcp --dport 1 -j DNAT --to-destination {}",
                    words.join(" "),
                    bracketed(forward.address)
                );
                let mut read = iptables::read(&line);
                let (protocols, ports) = (vec![Protocol::Tcp], vec![PortRange { first: 1, last: 1 }]);
                let rule = read.rules.pop().filter(|rule| rule.hook == Hook::Prerouting);
                let Some(rule) = rule else {
                    let reason = read.refused.pop().map(|refusal| refusal.reason).unwrap_or_default();
                    return Err(format!("{key}: {reason}"));
                };
                let Condition { sources, incoming, destinations, .. } = rule.condition.clone();
                let said = Condition { sources, incoming, destinations, protocols, ports, ..Condition::default() };
                if said != rule.condition {
                    return Err(format!("{key}: marks and IPsec policies have no key in portForwards"));
                }
                forward.sources.clone_from(&rule.condition.sources);
                forward.incoming.clone_from(&rule.condition.incoming);
                if let Some(set) = &rule.condition.destinations {
                    match set.prefixes().as_slice() {
                        [one] if one.address() == one.last() && forward.host.is_none() => {
                            forward.host = Some(one.address())
                        }
                        _ => return Err(format!("{key}: more than one address of the host")),
                    }
                }
            }
            true => nft_conditions(&words.join(" "), family, forward).map_err(|reason| format!("{key}: {reason}"))?,
        }
        // Neither is for who comes from 127.0.0.0/8.
        if !forward.incoming.is_empty() || forward.host.is_some_and(|host| !host.is_loopback()) {
            forward.localhost = false;
        }
        Ok(())
    }
}

/// The plugin does not tell upper and lower case in names apart.
fn field<'v>(of: &'v Value, name: &str) -> &'v Value {
    let entries = of.as_object().into_iter().flatten();
    let mut found = entries.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    found.next().unwrap_or(&Value::Null)
}

fn is_configuration(text: &str) -> bool {
    let source = SourceText { path: Path::new(PORTMAP).into(), text: text.to_owned() };
    config::parse(&[source], &Flags::default()).is_ok()
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]:1") } else { format!("{address}:1") }
}

/// `ip saddr 192.0.2.0/24 iifname != { "wan0", "wan1" }`: as many conditions as there are.
fn nft_conditions(text: &str, family: Family, forward: &mut ForwardEntry) -> Taken<()> {
    let parted = ["{", "}", ","].iter().fold(text.to_owned(), |text, sign| text.replace(sign, &format!(" {sign} ")));
    let mut words = parted.split_whitespace().filter(|word| *word != "meta").peekable();
    let of_family = if family == Family::V4 { "ip" } else { "ip6" };
    while let Some(word) = words.next() {
        let field = match word {
            "iifname" => word,
            _ if word == of_family => words.next().unwrap_or_default(),
            _ => return Err(format!("'{word}' has no key")),
        };
        let negated = words.next_if(|word| matches!(*word, "!=" | "ne")).is_some();
        words.next_if(|word| matches!(*word, "==" | "eq"));
        let values: Vec<&str> = match words.next() {
            Some("{") => words.by_ref().take_while(|word| *word != "}").filter(|word| *word != ",").collect(),
            value => value.into_iter().collect(),
        };
        if values.is_empty() {
            return Err(format!("'{field}' is compared with nothing"));
        }
        nft_condition(field, &values, negated, family, forward)?;
    }
    Ok(())
}

fn nft_condition(field: &str, values: &[&str], negated: bool, family: Family, forward: &mut ForwardEntry) -> Taken<()> {
    let networks = || -> Taken<Vec<_>> {
        let read = |value: &&str| {
            let network = words::network(value).filter(|network| network.family() == family);
            network.ok_or_else(|| format!("'{value}' is not a network of {family}"))
        };
        values.iter().map(read).collect()
    };
    match field {
        "saddr" => {
            let set = AddressSet::of(networks()?);
            if forward.sources.is_some() {
                return Err("two conditions on one address".to_owned());
            }
            forward.sources = Some(if negated { whole(family).without(&set) } else { set });
        }
        "daddr" => match networks()?.as_slice() {
            [one] if one.address() == one.last() && forward.host.is_none() && !negated => {
                forward.host = Some(one.address());
            }
            _ => return Err("more than one address of the host".to_owned()),
        },
        "iifname" => {
            if !forward.incoming.is_empty() {
                return Err("two conditions on the incoming interface".to_owned());
            }
            let read = |value: &&str| {
                let name = value.trim_matches('"');
                words::interface(name, negated).ok_or_else(|| format!("'{name}' is not a name of interfaces"))
            };
            forward.incoming = values.iter().map(read).collect::<Result<_, _>>()?;
        }
        other => return Err(format!("'{other}' has no key")),
    }
    Ok(())
}

/// True when both want the same packets.
fn is_same(one: &ForwardEntry, other: &ForwardEntry) -> bool {
    one.protocols == other.protocols
        && one.host_ports == other.host_ports
        && one.family() == other.family()
        && (one.host == other.host || one.host.is_none())
}
