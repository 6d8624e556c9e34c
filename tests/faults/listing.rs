//! What the gateway's rules are, as the host's own programs list them, and what is wrong about that.

use crate::config::Config;
use crate::forwards::{INBOUND, Inbound, Landing, landing};
use crate::interpreter::{Arrival, iptables, nftables};
use crate::lab::Namespace;
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::policy::{Flow, Verdict};
use std::net::{IpAddr, Ipv4Addr};

/// Names of our sets begin like this.
const SET: &str = "ima";
pub const VARIANTS: [(BackendName, &str, &str); 2] = [
    (BackendName::IptablesNft, "iptables-nft-save", "ip6tables-nft-save"),
    (BackendName::IptablesLegacy, "iptables-legacy-save", "ip6tables-legacy-save"),
];

/// All of it.
pub struct Listing {
    /// Per variant of iptables, IPv4 and IPv6.
    iptables: Vec<(BackendName, [String; 2])>,
    sets: String,
    /// Our table as JSON and as text without counters.
    table: Option<(String, String)>,
}

impl Listing {
    /// Asks every program.
    pub fn take(node: &Namespace) -> Self {
        let save = |program: &str| node.must(program, &["-t", "nat"]);
        let nft = |options: &[&str]| {
            let arguments = [options, &["list", "table", "inet", "ip-masq-agent"]].concat();
            let output = node.run("nft", &arguments);
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        Listing {
            iptables: VARIANTS.iter().map(|(name, v4, v6)| (*name, [save(v4), save(v6)])).collect(),
            sets: node.must("ipset", &["save"]),
            table: nft(&["-j"]).zip(nft(&["-s"])),
        }
    }

    /// Our own rules as text, without what counts packets. The kernel lists sets and their members in no order that
    /// matters: the lines are sorted.
    pub fn ours(&self) -> String {
        let mut lines = Vec::new();
        for (name, families) in &self.iptables {
            let ours = families.iter().flat_map(|listing| listing.lines()).filter(|line| is_ours(line));
            lines.extend(ours.map(|line| format!("{name}: {}\n", line.split(" [").next().unwrap_or_default())));
        }
        // The first and the last member of a set share their lines with its braces.
        let member = |line| str::trim(line).trim_start_matches("elements = { ").trim_end_matches([' ', '}', ',']);
        // A set of nftables has two names: what can't be changed in place is filled under the other one.
        let usual = |line: &str| line.replace("4-2 ", "4 ").replace("6-2 ", "6 ");
        let table = self.table.iter().flat_map(|(_, text)| text.lines()).map(member).map(usual);
        // How large a hash is, and what it begins with, is its own affair.
        let sets =
            self.sets.lines().filter(|line| is_ours(line)).map(|line| line.split(" hashsize").next().unwrap_or(line));
        lines.extend(sets.map(str::to_owned).chain(table).map(|line| format!("{line}\n")));
        lines.sort();
        lines.concat()
    }

    /// What is not as a configuration says, none for a gateway without our rules; empty when all is.
    pub fn problems(&self, config: Option<&Config>) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, families) in &self.iptables {
            let config = config.filter(|config| config.backend == *name);
            for (listing, v6) in families.iter().zip([false, true]) {
                let family = if v6 { "IPv6" } else { "IPv4" };
                let found = chain_problems(listing, config.filter(|config| config.ipv6 || !v6));
                problems.extend(found.into_iter().map(|problem| format!("{name}, {family}: {problem}")));
                if let Some(config) = config {
                    let rules = iptables::Rules::read(&format!("{}{listing}", self.sets));
                    let verdicts = rules.and_then(|rules| {
                        compare(config, v6, |flow| rules.verdict(flow))?;
                        compare_forwards(config, v6, |arrival| rules.destination(arrival))
                    });
                    problems.extend(verdicts.err().map(|problem| format!("{name}, {family}: {problem}")));
                }
            }
        }
        problems.extend(self.idle_sets().map(|name| format!("set '{name}' is used by no rule")));
        let config = config.filter(|config| config.backend == BackendName::Nftables);
        problems.extend(self.table_problems(config).into_iter().map(|problem| format!("nftables: {problem}")));
        problems
    }

    /// Of all the chains of iptables that the kernel asks: how many of our jumps are in the one that has most.
    pub fn most_jumps(&self) -> usize {
        let families = self.iptables.iter().flat_map(|(_, families)| families);
        let jumps = |listing: &String| {
            listing.lines().filter(|line| line.starts_with("-A POSTROUTING") && is_ours(line)).count()
        };
        families.map(jumps).max().unwrap_or(0)
    }

    /// Sets of ours that no rule uses.
    fn idle_sets(&self) -> impl Iterator<Item = &str> {
        let created = self.sets.lines().filter_map(|line| line.strip_prefix("create ")?.split(' ').next());
        created.filter(|name| name.starts_with(SET)).filter(|name| {
            let used = format!("--match-set {name} ");
            !self.iptables.iter().flat_map(|(_, families)| families).any(|listing| listing.contains(&used))
        })
    }

    fn table_problems(&self, config: Option<&Config>) -> Vec<String> {
        let (config, json) = match (config, &self.table) {
            (None, None) => return Vec::new(),
            (None, Some(_)) => return vec!["the table was left behind".to_owned()],
            (Some(_), None) => return vec!["the table is not there".to_owned()],
            (Some(config), Some((json, _))) => (config, json),
        };
        let table = match nftables::Table::read(json) {
            Ok(table) => table,
            Err(problem) => return vec![problem],
        };
        let mut problems: Vec<String> =
            table.duplicates().into_iter().map(|rule| format!("there twice: {rule}")).collect();
        let arrivals = usize::from(!config.forwards.is_empty());
        if (table.bases(), table.arrivals()) != (1, arrivals) {
            problems.push(format!("{} and {} chains at the hooks", table.bases(), table.arrivals()));
        }
        let wanted = if config.first { 50 } else { 150 };
        if table.priorities().any(|priority| priority != wanted) {
            problems.push(format!("the chain's priority is not {wanted}"));
        }
        for v6 in [false, true] {
            problems.extend(compare(config, v6, |flow| table.verdict(flow)).err());
            problems.extend(compare_forwards(config, v6, |arrival| table.destination(arrival)).err());
        }
        problems
    }
}

fn chain_problems(listing: &str, config: Option<&Config>) -> Vec<String> {
    let ours: Vec<&str> = listing.lines().filter(|line| is_ours(line)).collect();
    let Some(config) = config else {
        return ours.iter().map(|line| format!("left behind: {line}")).collect();
    };
    let mut problems = Vec::new();
    // An IPv6 forward is the twin of one of those that IPv4 has.
    let forwards = || listing.lines().filter(|line| line.starts_with("-A ") && line.contains(" -j DNAT "));
    // Packets of the host itself come in by no interface.
    let [any, of_host] = [forwards().count() > 0, forwards().any(|line| !line.contains(" -i "))];
    for (chain, wanted) in [("POSTROUTING", true), ("PREROUTING", any), ("OUTPUT", of_host)] {
        let rules: Vec<&str> = listing.lines().filter(|line| line.starts_with(&format!("-A {chain} "))).collect();
        let jumps: Vec<usize> = (0..rules.len()).filter(|index| is_ours(rules[*index])).collect();
        if jumps.len() != usize::from(wanted) || (config.first && jumps.first().is_some_and(|first| *first != 0)) {
            problems.push(format!("{chain}: jumps at {jumps:?} of {} rules", rules.len()));
        }
    }
    let mut rules: Vec<&&str> = ours.iter().filter(|line| line.starts_with("-A ")).collect();
    let count = rules.len();
    rules.sort();
    rules.dedup();
    if rules.len() != count {
        problems.push(format!("{} rules are there twice", count - rules.len()));
    }
    problems
}

/// The first flow that the rules treat otherwise than the configuration.
fn compare(config: &Config, v6: bool, verdict: impl Fn(&Flow) -> Result<Verdict, String>) -> Result<(), String> {
    for flow in config.probes().iter().filter(|flow| flow.destination.is_ipv6() == v6) {
        let expected = config.verdict(flow);
        let found = verdict(flow)?;
        if found != expected {
            let source = flow.source.map_or_else(String::new, |source| source.to_string());
            return Err(format!("{source} -> {}: {found:?} by the rules, {expected:?} by the file", flow.destination));
        }
    }
    Ok(())
}

/// The first flow to the host itself that the rules lead elsewhere than the configuration. IPv6 forwards are left to
/// `diff`.
fn compare_forwards(
    config: &Config,
    v6: bool,
    destination: impl Fn(&Arrival) -> Result<Option<(IpAddr, u16)>, String>,
) -> Result<(), String> {
    for flow in INBOUND.iter().filter(|_| !v6) {
        let found = destination(&arrival(*flow))?;
        let expected = match landing(&config.forwards, *flow) {
            Landing::Local => None,
            Landing::At { target: (address, port), .. } => Some((IpAddr::V4(address), port)),
        };
        if found != expected {
            return Err(format!("{flow:?}: {found:?} by the rules, {expected:?} by the file"));
        }
    }
    Ok(())
}

fn arrival(flow: Inbound) -> Arrival {
    let of = |address: Ipv4Addr| IpAddr::V4(address);
    Arrival {
        source: of(flow.client),
        destination: of(flow.host),
        interface: if flow.is_from_outside() { "wan0" } else { "lan0" },
        protocol: if flow.tcp { "tcp" } else { "udp" },
        port: flow.port,
    }
}

fn is_ours(line: &str) -> bool {
    let line = line.to_lowercase();
    line.contains("ip-masq-agent") || line.contains(" ima4-") || line.contains(" ima6-")
}

/// What the campaign looks for it has to find: rules of ours with one of them missing, there twice, or elsewhere.
#[test]
fn a_rule_that_is_missing_or_twice_or_in_the_wrong_place_is_seen() {
    use crate::config::{Cidr, Ladder};
    for backend in crate::lab::BACKENDS {
        let Some(lab) = crate::lab::Lab::build() else { return };
        let mut config = Config::plain(*backend);
        config.ladder = Ladder { from: 0, count: 100 };
        config.exceptions = vec![Cidr::of("10.20.99.0/24")];
        config.sources = vec![Cidr::of("192.168.77.0/24"), Cidr::of("fd00:77::/64")];
        // Without it the rules for bridged frames are none.
        lab.gateway.sysctl("net/bridge/bridge-nf-call-iptables", "0");
        lab.gateway.sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
        crate::lab::Agent::new(&lab.gateway, crate::gateway::BINARY, "").apply(&config.yaml());
        let listing = Listing::take(&lab.gateway);
        assert_eq!(listing.problems(Some(&config)), Vec::<String>::new(), "{backend}");
        assert_ne!(listing.problems(None), Vec::<String>::new(), "{backend}: they are there");
        let changes = listing.changed();
        assert!(changes.len() > 20, "{backend}: {}", changes.len());
        for (what, changed) in changes {
            assert_ne!(changed.problems(Some(&config)), Vec::<String>::new(), "{backend}: {what}");
        }
    }
}

#[cfg(test)]
impl Listing {
    /// The same with one rule changed, in every way.
    fn changed(&self) -> Vec<(String, Listing)> {
        let mut all = Vec::new();
        for (index, (_, families)) in self.iptables.iter().enumerate() {
            for (family, text) in families.iter().enumerate() {
                for (what, changed) in changed_lines(text, |line| line.starts_with("-A") && is_ours(line)) {
                    let mut listing = self.copy();
                    listing.iptables[index].1[family] = changed;
                    all.push((what, listing));
                }
            }
        }
        if let Some((json, text)) = &self.table {
            // An object a line, to be treated as lines are.
            let lines = json.replace("}, {\"", "},\n{\"");
            for (what, changed) in changed_lines(&lines, |line| line.starts_with("{\"rule\"")) {
                let changed = changed.replace(",\n]}", "]}").replace("},\n]", "}]");
                all.push((what, Listing { table: Some((changed, text.clone())), ..self.copy() }));
            }
        }
        all
    }

    fn copy(&self) -> Self {
        Listing { iptables: self.iptables.clone(), sets: self.sets.clone(), table: self.table.clone() }
    }
}

/// A text with each line that is a rule missing, and there twice, and with the last one at the beginning.
#[cfg(test)]
fn changed_lines(text: &str, is_rule: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_rule(line)) {
        let (before, after) = (lines[..index].join("\n"), lines[index + 1..].join("\n"));
        all.push((format!("without {line}"), format!("{before}\n{after}\n")));
        all.push((format!("twice {line}"), format!("{before}\n{line}\n{line}\n{after}\n")));
    }
    // What is last, and masquerades the rest, comes first.
    let rules: Vec<usize> = (0..lines.len()).filter(|index| is_rule(lines[*index])).collect();
    if let (Some(first), Some(last)) = (rules.iter().find(|index| !lines[**index].contains("ostrouting")), rules.last())
    {
        let mut moved = lines.clone();
        let line = moved.remove(*last);
        moved.insert(*first, line);
        all.push((format!("first {line}"), moved.join("\n") + "\n"));
    }
    all
}
