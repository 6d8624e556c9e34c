//! Every example of `tests/migration`: the rules of the other program, ours, and the same packets through both.
//!
//! An example is prose and sections that begin with `== NAME`: `iptables`, `ip6tables` and `nft` are the old rules, `yaml`
//! is our configuration and `config.d/NAME` a file beside it, `both` are flows that both treat alike, `theirs` and `ours`
//! those that they don't (the prose says why). Old rules are imported, too, and what that gives has to do what they did;
//! `not imported` is what is said where some can't be, `imported` are flows in place of `theirs` where a comment in it says
//! what is not the same. `import` is another file to import. `ipset` are sets of the old rules, `sysctl` switches that
//! their program turns on, `routes` more routes of the gateway, `kept` rules of a third program, behind the old ones, that
//! stay. With `left in place` the old rules are there when ours come. Lines of `refused` are commands that are wrong usage.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Namespace, Observer, Probe, SILENCE, parse, text};
use clap::Parser;
use ip_masq_agent::cli::Cli;
use ip_masq_agent::import::import;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migration");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

struct Example {
    name: String,
    sections: BTreeMap<String, String>,
}

impl Example {
    fn read(path: &Path) -> Self {
        let content = std::fs::read_to_string(path).unwrap();
        let mut sections = BTreeMap::new();
        for section in content.split("\n== ").skip(1) {
            let (name, body) = section.split_once('\n').unwrap_or((section, ""));
            sections.insert(name.to_owned(), format!("{}\n", body.trim_end()));
        }
        Example { name: path.file_stem().unwrap().to_string_lossy().into_owned(), sections }
    }

    fn section(&self, name: &str) -> Option<&str> {
        self.sections.get(name).map(String::as_str)
    }

    fn flows(&self, own: &str) -> String {
        ["both", own].iter().filter_map(|name| self.section(name)).collect()
    }

    /// What a program is to read from its standard input, where there is such a section.
    fn put(&self, node: &Namespace, section: &str, program: &str, arguments: &[&str]) {
        if let Some(rules) = self.section(section) {
            let output = node.run_with_input(program, arguments, rules);
            assert!(output.status.success(), "{}, {section}: {}", self.name, text(&output.stderr));
        }
    }

    /// The rules of the third program.
    fn put_kept(&self, node: &Namespace) {
        self.put(node, "kept", "iptables-restore", &["--noflush"]);
    }

    /// The lines of `routes`, each for `ip route`.
    fn route(&self, node: &Namespace, command: &str) {
        let routes = self.section("routes").unwrap_or_default();
        node.ip(&routes.lines().map(|route| format!("route {command} {route}\n")).collect::<String>());
    }

    /// The switches of the old program.
    fn switch(&self, node: &Namespace, value: &str) {
        self.section("sysctl").into_iter().flat_map(str::lines).for_each(|name| node.sysctl(name, value));
    }

    /// Files beside the configuration.
    fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sections.iter().filter_map(|(name, body)| Some((name.strip_prefix("config.d/")?, body.as_str())))
    }

    /// The old rules, put into the kernel; what their own program lists of them.
    fn load(&self, node: &Namespace) -> Option<Vec<String>> {
        let mut listings = Vec::new();
        self.put(node, "ipset", "ipset", &["restore"]);
        for (section, restore, save) in
            [("iptables", "iptables-restore", "iptables-save"), ("ip6tables", "ip6tables-restore", "ip6tables-save")]
        {
            if self.section(section).is_some() {
                self.put(node, section, restore, &[]);
                listings.push(node.must(save, &["-t", "nat"]));
            }
        }
        if !listings.is_empty() {
            return Some(vec![listings.concat()]);
        }
        self.section("nft")?;
        self.put(node, "nft", "nft", &["-f", "-"]);
        Some(vec![node.must("nft", &["-j", "list", "ruleset"])])
    }

    /// The configurations that `import` makes of it.
    fn imported(&self, listings: &[String]) -> Vec<String> {
        let mut configurations = Vec::new();
        for listing in listings {
            let found = import(listing).unwrap_or_else(|error| panic!("{}: {error}\n{listing}", self.name));
            match self.section("not imported") {
                Some(words) => {
                    assert!(found.refused > 0 && found.text.contains(words.trim()), "{}:\n{}", self.name, found.text)
                }
                None => {
                    assert_eq!(found.refused, 0, "{}:\n{}", self.name, found.text);
                    configurations.push(found.text);
                }
            }
        }
        if let Some(file) = self.section("import") {
            let found = import(file).unwrap_or_else(|error| panic!("{}: {error}", self.name));
            assert_eq!(found.refused, 0, "{}:\n{}", self.name, found.text);
            configurations.push(found.text);
        }
        configurations
    }
}

/// Sends the flows of a table; lines that begin with `forward` are `SENDER SOURCE DESTINATION:PORT TARGET:PORT SEEN`, UDP,
/// and are looked for at the LAN host; with `range`, `SOURCE FIRST-LAST DESTINATION…`, UDP from the LAN, of which all see
/// the same address of the range.
fn check(gateway: &Gateway<'_>, what: &str, table: &str) {
    let (forwards, others): (Vec<&str>, Vec<&str>) = table.lines().partition(|line| line.starts_with("forward "));
    let (ranges, others): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|line| line.starts_with("range "));
    gateway.check(what, &others.join("\n"));
    for line in forwards {
        check_forward(gateway.lab, what, line);
    }
    for line in ranges {
        check_range(gateway.lab, what, line);
    }
}

fn check_range(lab: &Lab, what: &str, line: &str) {
    let [_, source, range, ref destinations @ ..] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("'{line}'") };
    let (first, last) = range.split_once('-').unwrap();
    let seen = |to: &&str| Probe::new(Kind::Udp, parse(to)).from(parse(source)).source_seen(&lab.lan, &lab.observer);
    let seen: BTreeSet<Option<IpAddr>> = destinations.iter().map(seen).collect();
    let is_one = seen.len() == 1 && seen.iter().flatten().all(|one| (parse(first)..=parse(last)).contains(one));
    assert!(is_one, "{what}: {line}: {seen:?}");
}

fn check_forward(lab: &Lab, what: &str, line: &str) {
    let [_, sender, source, to, target, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("'{line}'") };
    let node = match sender {
        "lan" => &lab.lan,
        "gateway" => &lab.gateway,
        "outside" => &lab.outside,
        other => panic!("no such sender: '{other}'"),
    };
    let observer = Observer::new(&lab.lan);
    let target: SocketAddr = target.parse().unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let probe = Probe::new(Kind::Udp, to.ip()).from(parse(source)).with_port(to.port());
    probe.send(node);
    let wait = if expected == "nothing" { SILENCE } else { DEADLINE };
    let seen = observer.wait_for(wait, |seen| {
        seen.destination == target.ip() && seen.destination_port() == target.port() && probe.is_in(seen)
    });
    let seen = seen.map_or("nothing".to_owned(), |seen| seen.source.to_string());
    assert_eq!(seen, expected, "{what}: {line}");
}

fn forget(node: &Namespace) {
    for family in ["ipv4", "ipv6"] {
        node.must("conntrack", &["-F", "-f", family]);
    }
}

fn remove_theirs(node: &Namespace) {
    for (program, table) in [("iptables", "nat"), ("iptables", "mangle"), ("ip6tables", "nat")] {
        node.must(program, &["-t", table, "-F"]);
        node.must(program, &["-t", table, "-X"]);
    }
    node.must("nft", &["flush", "ruleset"]);
    forget(node);
}

#[test]
fn what_other_programs_rules_did_our_configuration_does() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    for path in examples() {
        let example = Example::read(&path);
        let Some(ours) = example.section("yaml") else { continue };
        let name = &example.name;
        example.route(&lab.gateway, "add");
        example.switch(&lab.gateway, "1");
        let listings = example.load(&lab.gateway).unwrap_or_default();
        example.put_kept(&lab.gateway);
        if !listings.is_empty() {
            check(&gateway, &format!("{name}, theirs"), &example.flows("theirs"));
        }
        example.switch(&lab.gateway, "0");
        if example.section("left in place").is_none() {
            remove_theirs(&lab.gateway);
            example.put_kept(&lab.gateway);
        }
        let apply = |what: &str, keys: &str, flows: &str| {
            gateway.agent.apply(&format!("backend: {}\n{keys}", BACKENDS[0]));
            forget(&lab.gateway);
            check(&gateway, &format!("{name}, {what}"), flows);
            gateway.agent.must("flush", &[]);
        };
        example.files().for_each(|(name, keys)| gateway.agent.add_file(name, keys));
        apply("ours", ours, &example.flows("ours"));
        example.files().for_each(|(name, _)| gateway.agent.remove_file(name));
        let left = lab.gateway.must("iptables-save", &["-t", "nat"]);
        let is_kept = |line: &str| example.section("kept").is_some_and(|kept| kept.lines().any(|other| other == line));
        let mut left = left.lines().filter(|line| line.starts_with("-A POSTROUTING") && !is_kept(line));
        assert_eq!(left.next(), None, "{name}");
        let exact = if example.section("imported").is_some() { "imported" } else { "theirs" };
        for configuration in example.imported(&listings) {
            apply("imported", &configuration, &example.flows(exact));
        }
        remove_theirs(&lab.gateway);
        example.route(&lab.gateway, "del");
    }
}

#[test]
fn commands_that_other_programs_take_and_ours_does_not_are_wrong_usage() {
    let mut tried = 0;
    for example in examples().iter().map(|path| Example::read(path)) {
        for line in example.section("refused").into_iter().flat_map(str::lines) {
            let error = Cli::try_parse_from(line.split_whitespace()).map(drop).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            tried += 1;
        }
    }
    assert!(tried > 0);
}
