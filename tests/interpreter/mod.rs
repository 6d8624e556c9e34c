//! Reads rules as `iptables-restore` and `ipset restore` would and says what they do to a packet.
//!
//! Written from iptables(8), iptables-extensions(8) and ipset(8), not from the renderer: it is the second opinion.

use ip_masq_agent::policy::{Flow, InterfacePattern, Prefix, Protocol, Verdict};
use std::collections::HashMap;
use std::net::IpAddr;

/// The rules of one family.
#[derive(Debug, Default)]
pub struct Rules {
    chains: HashMap<String, Vec<Vec<String>>>,
    sets: HashMap<String, Vec<Prefix>>,
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
    pub fn read(text: &str) -> Self {
        let mut rules = Rules::default();
        for line in text.lines() {
            let words = words(line);
            match words.first().map(String::as_str) {
                Some("-A") | Some("-I") => {
                    let chain = rules.chains.entry(words[1].clone()).or_default();
                    let body = if words.get(2).is_some_and(|word| word == "1") { 3 } else { 2 };
                    chain.push(words[body..].to_vec());
                }
                Some("add") => {
                    let prefix = words[2].parse().unwrap_or_else(|_| {
                        let address: IpAddr = words[2].parse().expect("an address or a prefix");
                        Prefix::containing(address, if address.is_ipv4() { 32 } else { 128 }).unwrap()
                    });
                    rules.sets.entry(words[1].clone()).or_default().push(prefix);
                }
                _ => {}
            }
        }
        rules
    }

    /// What happens to the source of a flow whose destination is not local.
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        match self.walk("POSTROUTING", flow) {
            End::Verdict(verdict) => verdict,
            End::Return | End::On => Verdict::KeepSource,
        }
    }

    fn walk(&self, chain: &str, flow: &Flow) -> End {
        let rules = self.chains.get(chain).unwrap_or_else(|| panic!("a jump to '{chain}', which has no rules"));
        for rule in rules {
            match self.rule(rule, flow) {
                End::On => {}
                end => return end,
            }
        }
        End::Return
    }

    fn rule(&self, rule: &[String], flow: &Flow) -> End {
        let mut rest = rule.iter().map(String::as_str);
        let mut negated = false;
        let (mut source_local, mut limit_out) = (None, false);
        let mut target = None;
        while let Some(word) = rest.next() {
            let mut value = || rest.next().unwrap_or_else(|| panic!("'{word}' needs a value in {rule:?}"));
            let matched = match word {
                "!" => {
                    negated = true;
                    continue;
                }
                "-m" | "--comment" | "--to-ports" | "--mode" | "--probability" => {
                    value();
                    true
                }
                "--random-fully" => true,
                "-s" => within(value(), flow.source),
                "-d" => within(value(), Some(flow.destination)),
                "-o" => {
                    let pattern: InterfacePattern = value().parse().unwrap();
                    pattern.matches(flow.out_interface.as_deref().unwrap_or_default())
                }
                "-p" => value().parse() == Ok(flow.protocol),
                "--tcp-flags" => {
                    assert_eq!((value(), value()), ("FIN,SYN,RST,ACK", "SYN"));
                    assert_eq!(flow.protocol, Protocol::Tcp, "asked behind -p tcp only");
                    flow.opens_connection
                }
                "--src-type" => {
                    assert_eq!(value(), "LOCAL");
                    source_local = Some(!negated);
                    true ^ negated
                }
                "--dst-type" => {
                    assert_eq!((value(), negated), ("LOCAL", true));
                    false
                }
                "--limit-iface-out" => {
                    limit_out = true;
                    true
                }
                "--match-set" => {
                    let set = value();
                    let address = if value() == "src" { flow.source } else { Some(flow.destination) };
                    let members = self.sets.get(set).unwrap_or_else(|| panic!("no set '{set}'"));
                    members.iter().any(|prefix| address.is_some_and(|address| prefix.contains(address)))
                }
                "--physdev-is-bridged" => flow.bridged,
                "-j" | "-g" => {
                    target = Some((word, value()));
                    true
                }
                _ => panic!("an unknown word '{word}' in {rule:?}"),
            };
            if matched == negated {
                return End::On;
            }
            negated = false;
        }
        let local = if limit_out { flow.source_on_out_interface } else { flow.source_is_local };
        if source_local.is_some_and(|wanted| wanted != local) {
            return End::On;
        }
        match target {
            Some(("-j", "RETURN")) => End::Return,
            Some(("-j", "MASQUERADE")) => End::Verdict(Verdict::Masquerade),
            // A return out of a chain that was jumped to goes on behind the jump.
            Some(("-j", chain)) => match self.walk(chain, flow) {
                End::Return => End::On,
                end => end,
            },
            // A return out of a chain that was gone to returns from this one too.
            Some((_, chain)) => self.walk(chain, flow),
            None => End::On,
        }
    }
}

fn within(cidr: &str, address: Option<IpAddr>) -> bool {
    let prefix: Prefix = cidr.parse().unwrap_or_else(|error| panic!("'{cidr}': {error}"));
    address.is_some_and(|address| prefix.contains(address))
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
