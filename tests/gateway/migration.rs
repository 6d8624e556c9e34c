//! Every example of `tests/migration`: the rules of the other program, ours, and the same packets through both.
//!
//! An example is prose and sections that begin with `== NAME`: `iptables`, `ip6tables` and `nft` are the old rules, `yaml`
//! is our configuration, `both` are flows that both treat alike, `theirs` and `ours` those that they don't (the prose says
//! why). Old rules are imported, too, and what that gives has to do what they did; `not imported` is what is said where
//! some can't be. `import` is another file to import, `kept` are rules of a third program that stay. With `left in place` the old rules are there when ours come. Lines
//! of `refused` are commands that are wrong usage.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Namespace, Observer, Probe, SILENCE, parse, text};
use clap::Parser;
use ip_masq_agent::cli::Cli;
use ip_masq_agent::import::import;
use std::collections::BTreeMap;
use std::net::SocketAddr;
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

    /// The old rules, put into the kernel; what their own program lists of them.
    fn load(&self, node: &Namespace) -> Option<Vec<String>> {
        let mut listings = Vec::new();
        for (section, restore, save) in
            [("iptables", "iptables-restore", "iptables-save"), ("ip6tables", "ip6tables-restore", "ip6tables-save")]
        {
            if let Some(rules) = self.section(section) {
                let output = node.run_with_input(restore, &[], rules);
                assert!(output.status.success(), "{}: {}", self.name, text(&output.stderr));
                listings.push(node.must(save, &["-t", "nat"]));
            }
        }
        if !listings.is_empty() {
            return Some(vec![listings.concat()]);
        }
        let rules = self.section("nft")?;
        let output = node.run_with_input("nft", &["-f", "-"], rules);
        assert!(output.status.success(), "{}: {}", self.name, text(&output.stderr));
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
/// and are looked for at the LAN host.
fn check(gateway: &Gateway<'_>, what: &str, table: &str) {
    let (forwards, others): (Vec<&str>, Vec<&str>) = table.lines().partition(|line| line.starts_with("forward "));
    gateway.check(what, &others.join("\n"));
    for line in forwards {
        check_forward(gateway.lab, what, line);
    }
}

fn check_forward(lab: &Lab, what: &str, line: &str) {
    let [_, sender, source, to, target, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("'{line}'") };
    let node = match sender {
        "lan" => &lab.lan,
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
    for program in ["iptables", "ip6tables"] {
        node.must(program, &["-t", "nat", "-F"]);
        node.must(program, &["-t", "nat", "-X"]);
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
        let listings = example.load(&lab.gateway).unwrap_or_default();
        if !listings.is_empty() {
            check(&gateway, &format!("{name}, theirs"), &example.flows("theirs"));
        }
        if example.section("left in place").is_none() {
            remove_theirs(&lab.gateway);
        }
        let kept = example.section("kept");
        if let Some(rules) = kept {
            let output = lab.gateway.run_with_input("iptables-restore", &[], rules);
            assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        }
        let apply = |what: &str, keys: &str, flows: &str| {
            gateway.agent.apply(&format!("backend: {}\n{keys}", BACKENDS[0]));
            forget(&lab.gateway);
            check(&gateway, &format!("{name}, {what}"), flows);
            gateway.agent.must("flush", &[]);
        };
        apply("ours", ours, &example.flows("ours"));
        let left = lab.gateway.must("iptables-save", &["-t", "nat"]);
        let is_kept = |line: &str| kept.is_some_and(|kept| kept.lines().any(|other| other == line));
        let mut left = left.lines().filter(|line| line.starts_with("-A POSTROUTING") && !is_kept(line));
        assert_eq!(left.next(), None, "{name}");
        for configuration in example.imported(&listings) {
            // What is imported is exact.
            apply("imported", &configuration, &example.flows("theirs"));
        }
        remove_theirs(&lab.gateway);
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
