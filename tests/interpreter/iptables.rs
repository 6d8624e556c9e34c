//! Reads rules as `iptables-restore` and `ipset restore` would and says what they do to a packet.
//!
//! Written from iptables(8), iptables-extensions(8) and ipset(8), not from the renderer: it is the second opinion.

use super::{Arrival, Ranges};
use ip_masq_agent::policy::{AddressRange, Flow, InterfacePattern, Protocol, Verdict};
use std::collections::HashMap;
use std::net::IpAddr;

/// The rules of one family.
#[derive(Debug, Default)]
pub struct Rules {
    chains: HashMap<String, Vec<Vec<String>>>,
    sets: HashMap<String, Ranges>,
}

/// Where a rule leaves a packet.
enum End {
    Verdict(Verdict),
    Return,
    /// Ask the next rule.
    On,
}

impl Rules {
    /// Takes `-A` and `-I` lines of chains and `add` lines of sets out of a text; everything else is passed over.
    ///
    /// # Errors
    /// When a member of a set is no network.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut rules = Rules::default();
        for line in text.lines() {
            let words = words(line);
            match words.first().map(String::as_str) {
                Some("-A") | Some("-I") => {
                    let chain = rules.chains.entry(words[1].clone()).or_default();
                    let body = if words.get(2).is_some_and(|word| word == "1") { 3 } else { 2 };
                    chain.push(words[body..].to_vec());
                }
                Some("create") => drop(rules.sets.entry(words[1].clone()).or_default()),
                Some("add") => rules.sets.entry(words[1].clone()).or_default().add_network(&words[2])?,
                Some(chain) if chain.starts_with(':') => drop(rules.chains.entry(chain[1..].to_owned()).or_default()),
                _ => {}
            }
        }
        rules.sets.values_mut().for_each(Ranges::sort);
        Ok(rules)
    }

    /// What happens to the source of a flow whose destination is not local.
    ///
    /// # Errors
    /// When the rules say something that is not understood here, or refer to what is not there.
    pub fn verdict(&self, flow: &Flow) -> Result<Verdict, String> {
        match self.walk("POSTROUTING", flow)? {
            End::Verdict(verdict) => Ok(verdict),
            End::Return | End::On => Ok(Verdict::Return),
        }
    }

    fn walk(&self, chain: &str, flow: &Flow) -> Result<End, String> {
        let rules = self.chains.get(chain).ok_or_else(|| format!("a jump to '{chain}', which is not there"))?;
        for rule in rules {
            match self.rule(rule, flow)? {
                End::On => {}
                end => return Ok(end),
            }
        }
        Ok(End::Return)
    }

    fn rule(&self, rule: &[String], flow: &Flow) -> Result<End, String> {
        let mut rest = rule.iter().map(String::as_str);
        let mut negated = false;
        let (mut source_local, mut limit_out) = (None, false);
        let (mut target, mut to_source) = (None, None);
        while let Some(word) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("'{word}' needs a value in {rule:?}"));
            let matched = match word {
                "!" => {
                    negated = true;
                    continue;
                }
                "-m" | "--comment" | "--to-ports" | "--mode" | "--probability" => {
                    value()?;
                    true
                }
                "--random-fully" | "--persistent" => true,
                "--to-source" => {
                    to_source = Some(addresses(value()?)?);
                    true
                }
                // The flows that are asked about were sent where they go to.
                "--ctstate" if value()? == "DNAT" => false,
                "--mark" => marked(value()?, flow.mark)?,
                "--dir" => value()? == "out",
                "--pol" => (value()? == "ipsec") == flow.ipsec,
                "-s" => within(value()?, flow.source)?,
                "-d" => within(value()?, Some(flow.destination))?,
                "-o" => {
                    let pattern: InterfacePattern = value()?.parse().map_err(|error| format!("{rule:?}: {error}"))?;
                    pattern.matches(flow.out_interface.as_deref().unwrap_or_default())
                }
                "-p" => value()?.parse() == Ok(flow.protocol),
                "--tcp-flags" if (value()?, value()?) == ("FIN,SYN,RST,ACK", "SYN") => {
                    // Asked behind -p tcp only.
                    flow.protocol == Protocol::Tcp && flow.opens_connection
                }
                "--src-type" if value()? == "LOCAL" => {
                    source_local = Some(!negated);
                    true ^ negated
                }
                "--dst-type" if value()? == "LOCAL" => false,
                "--limit-iface-out" => {
                    limit_out = true;
                    true
                }
                "--match-set" => {
                    let set = value()?;
                    let address = if value()? == "src" { flow.source } else { Some(flow.destination) };
                    let members = self.sets.get(set).ok_or_else(|| format!("no set '{set}'"))?;
                    address.is_some_and(|address| members.contain(address))
                }
                "--physdev-is-bridged" => flow.bridged,
                "-j" | "-g" => {
                    target = Some((word, value()?));
                    true
                }
                _ => return Err(format!("'{word}' is not understood in {rule:?}")),
            };
            if matched == negated {
                return Ok(End::On);
            }
            negated = false;
        }
        let local = if limit_out { flow.source_on_out_interface } else { flow.source_is_local };
        if source_local.is_some_and(|wanted| wanted != local) {
            return Ok(End::On);
        }
        match target {
            Some(("-j", "RETURN")) => Ok(End::Return),
            Some(("-j", "MASQUERADE")) => Ok(End::Verdict(Verdict::Masquerade)),
            Some(("-j", "SNAT")) => {
                let to = to_source.ok_or_else(|| format!("SNAT to nothing in {rule:?}"))?;
                Ok(End::Verdict(Verdict::Snat(to)))
            }
            Some(("-j", "ACCEPT")) => Ok(End::Verdict(Verdict::Return)),
            // A return out of a chain that was jumped to goes on behind the jump.
            Some(("-j", chain)) => match self.walk(chain, flow)? {
                End::Return => Ok(End::On),
                end => Ok(end),
            },
            // A return out of a chain that was gone to returns from this one too.
            Some((_, chain)) => self.walk(chain, flow),
            None => Ok(End::On),
        }
    }
}

// What happens to the destination of what is for the host itself.
impl Rules {
    /// Where a flow is sent on to; none when it stays at the host.
    ///
    /// # Errors
    /// As [`Self::verdict`].
    pub fn destination(&self, arrival: &Arrival) -> Result<Option<(IpAddr, u16)>, String> {
        match self.chains.contains_key("PREROUTING") {
            true => self.arrive("PREROUTING", arrival).map(|end| end.flatten()),
            false => Ok(None),
        }
    }

    /// What a chain does; outer `None` when it was walked to its end.
    fn arrive(&self, chain: &str, arrival: &Arrival) -> Result<Option<Option<(IpAddr, u16)>>, String> {
        let rules = self.chains.get(chain).ok_or_else(|| format!("a jump to '{chain}', which is not there"))?;
        for rule in rules {
            let Some((word, target)) = arrives(rule, arrival)? else { continue };
            match (word, target) {
                (_, "RETURN") => return Ok(None),
                (_, "ACCEPT") => return Ok(Some(None)),
                (_, "DNAT") => {
                    let to = rule.windows(2).find(|pair| pair[0] == "--to-destination");
                    let to = to.ok_or_else(|| format!("DNAT to nothing in {rule:?}"))?;
                    return Ok(Some(Some(sent_on(&to[1], arrival.port)?)));
                }
                ("-g", chain) => return self.arrive(chain, arrival),
                (_, chain) => {
                    if let Some(end) = self.arrive(chain, arrival)? {
                        return Ok(Some(end));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// How a rule that matches goes on: `-j` or `-g`, and where to.
fn arrives<'rule>(rule: &'rule [String], arrival: &Arrival) -> Result<Option<(&'rule str, &'rule str)>, String> {
    let mut words = rule.iter().map(String::as_str);
    let (mut negated, mut found) = (false, None);
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("'{word}' needs a value in {rule:?}"))?;
        let matches = match word {
            "-m" | "--comment" | "--to-destination" => true,
            "-p" => value == arrival.protocol,
            "--dport" => {
                let (first, last) = value.split_once(':').unwrap_or((value, value));
                (port(first)?..=port(last)?).contains(&arrival.port)
            }
            "-s" => within(value, Some(arrival.source))?,
            "-d" => within(value, Some(arrival.destination))?,
            "-i" => {
                let pattern: InterfacePattern = value.parse().map_err(|error| format!("{rule:?}: {error}"))?;
                pattern.matches(arrival.interface)
            }
            "--dst-type" if value == "LOCAL" => true,
            "-j" | "-g" => {
                found = Some((word, value));
                true
            }
            _ => return Err(format!("'{word}' is not understood in {rule:?}")),
        };
        if matches == negated {
            return Ok(None);
        }
        negated = false;
    }
    Ok(found)
}

/// `ADDRESS`, `ADDRESS:PORT` or `ADDRESS:FIRST-LAST/BASE`, where the port as many behind the first is taken as that of
/// the packet is behind the base.
fn sent_on(text: &str, came_to: u16) -> Result<(IpAddr, u16), String> {
    let bad = || format!("'{text}' is no destination");
    if let Ok(address) = text.parse() {
        return Ok((address, came_to));
    }
    let (address, ports) = text.rsplit_once(':').ok_or_else(bad)?;
    let address = address.trim_matches(['[', ']']).parse().map_err(|_| bad())?;
    match ports.split_once('/') {
        None => Ok((address, port(ports)?)),
        Some((range, base)) => {
            let (first, _) = range.split_once('-').ok_or_else(bad)?;
            Ok((address, port(first)? + came_to.checked_sub(port(base)?).ok_or_else(bad)?))
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("'{text}' is no port"))
}

/// The addresses of `--to-source`, without the ports.
fn addresses(text: &str) -> Result<AddressRange, String> {
    let addresses = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').map_or(inside, |(addresses, _)| addresses),
        None if text.contains('.') => text.split_once(':').map_or(text, |(addresses, _)| addresses),
        None => text,
    };
    addresses.parse().map_err(|error| format!("'{text}': {error}"))
}

/// `VALUE/MASK`.
fn marked(text: &str, mark: u32) -> Result<bool, String> {
    let number = |text: &str| {
        let digits = text.strip_prefix("0x").ok_or_else(|| format!("'{text}' is not hexadecimal"))?;
        u32::from_str_radix(digits, 16).map_err(|error| format!("'{text}': {error}"))
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Ok(mark & number(mask)? == number(value)?)
}

fn within(cidr: &str, address: Option<IpAddr>) -> Result<bool, String> {
    let mut range = Ranges::default();
    range.add_network(cidr)?;
    Ok(address.is_some_and(|address| range.contain(address)))
}

/// Splits a line into words as iptables-restore does: blanks part, double quotes hold together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut started) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            ' ' if !quoted => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            c => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}
