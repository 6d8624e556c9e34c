//! A host of strings that can refuse: a transaction works on a copy, which takes the place of the original only when
//! every line was good, every target exists and no jump leads to an empty chain.

use super::host_state::HostState;
use super::rules::parse::ListedTable;
use super::rules::render::Table;
use super::tools::Variant;
use crate::policy::Family;
use crate::ruleset::{ChainName, Hook};
use crate::sys::child::{ChildError, Exec, Invocation, Output};
use crate::sys::go_agent::GoAgent;
use crate::sys::nfnetlink::ipset::{Member, SetHeader};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

/// What the fake kernel holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Chains with the specs of their rules.
    pub(super) chains: Vec<(String, Vec<String>)>,
    /// Sets of IPv4 with their members.
    pub(super) sets: BTreeMap<String, Vec<String>>,
}

/// The host; clones are handles to the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeHost {
    pub(super) state: Rc<RefCell<State>>,
    /// The programs that ran since the log was last taken.
    pub(super) log: Rc<RefCell<Vec<String>>>,
    /// How much longer than usual the last `ipset restore` may take.
    pub(super) allowance: Rc<RefCell<Duration>>,
    /// A program that fails with this on standard error.
    pub(super) broken: Rc<RefCell<Option<(&'static str, &'static str)>>>,
    /// Programs that are not installed.
    pub(super) missing: Rc<RefCell<Vec<&'static str>>>,
}

impl FakeHost {
    pub(super) fn new() -> Self {
        let host = FakeHost::default();
        host.state.borrow_mut().chains.push(("POSTROUTING".into(), Vec::new()));
        host
    }
}

impl State {
    fn listing(&self) -> String {
        let mut text = "*nat\n".to_owned();
        for (name, _) in &self.chains {
            let policy = if name == "POSTROUTING" { "ACCEPT" } else { "-" };
            text += &format!(":{name} {policy} [0:0]\n");
        }
        for (name, rules) in &self.chains {
            rules.iter().for_each(|rule| text += &format!("-A {name} {rule}\n"));
        }
        text + "COMMIT\n"
    }

    fn chain(&mut self, name: &str) -> Option<&mut Vec<String>> {
        self.chains.iter_mut().find(|(chain, _)| chain == name).map(|(_, rules)| rules)
    }

    /// One line of iptables-restore.
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next()?;
            match self.chain(name) {
                Some(rules) => rules.clear(),
                None => self.chains.push((name.to_owned(), Vec::new())),
            }
            return Some(());
        }
        let mut parts = line.splitn(3, ' ');
        let (command, chain, spec) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        let rules = self.chain(chain)?;
        match command {
            "-A" => rules.push(spec.to_owned()),
            "-I" => rules.insert(0, spec.strip_prefix("1 ")?.to_owned()),
            "-D" => {
                rules.remove(rules.iter().position(|rule| rule == spec)?);
            }
            "-F" => rules.clear(),
            "-X" if rules.is_empty() => self.chains.retain(|(name, _)| name != chain),
            _ => return None,
        }
        Some(())
    }

    fn restore(&mut self, text: &str) -> Result<(), String> {
        let mut copy = self.clone();
        for (number, line) in text.lines().enumerate() {
            let good = matches!(line, "*nat") || (line == "COMMIT" && copy.is_sound()) || copy.line(line).is_some();
            if !good {
                return Err(format!("iptables-restore: line {} failed\n", number + 1));
            }
        }
        *self = copy;
        Ok(())
    }

    fn is_sound(&self) -> bool {
        let listing = self.listing();
        let table = ListedTable::parse(&listing);
        let leads_somewhere = |target: &str| {
            matches!(target, "RETURN" | "MASQUERADE" | "ACCEPT")
                || table.chain(target).is_some_and(|chain| !chain.rules.is_empty())
        };
        let sets_exist = |rule: &str| match rule.split("--match-set ").nth(1).and_then(|rest| rest.split(' ').next()) {
            Some(set) => self.sets.contains_key(set),
            None => true,
        };
        table.rules().all(|(_, rule)| rule.target.as_deref().is_some_and(leads_somewhere) && sets_exist(rule.spec))
    }

    fn references(&self, set: &str) -> u32 {
        let rules = self.chains.iter().flat_map(|(_, rules)| rules);
        rules.filter(|rule| rule.contains(&format!("--match-set {set} "))).count() as u32
    }

    /// One line of ipset restore, or the arguments of ipset.
    fn set_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let (command, name) = (words.next()?, words.next()?);
        match command {
            "create" => {
                self.sets.entry(name.to_owned()).or_default();
            }
            "add" => self.sets.get_mut(name)?.push(words.next()?.to_owned()),
            "del" => {
                let member = words.next()?;
                self.sets.get_mut(name)?.retain(|found| found != member);
            }
            "destroy" if self.references(name) == 0 => {
                self.sets.remove(name)?;
            }
            _ => return None,
        }
        Some(())
    }
}

impl Exec for FakeHost {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError> {
        let command = invocation.to_string();
        if self.missing.borrow().contains(&invocation.program.as_str()) {
            return Err(ChildError::NotFound(invocation.program.clone()));
        }
        self.log.borrow_mut().push(command.clone());
        let said =
            self.broken.borrow().filter(|(program, _)| *program == invocation.program).map(|(_, said)| said.to_owned());
        let input = String::from_utf8_lossy(&invocation.input);
        let mut state = self.state.borrow_mut();
        let mut stdout = String::new();
        let result = if let Some(said) = said {
            Err(said)
        } else if invocation.program.ends_with("-save") {
            stdout = state.listing();
            Ok(())
        } else if invocation.program.ends_with("-restore") {
            state.restore(&input)
        } else if command.starts_with("ipset restore") {
            *self.allowance.borrow_mut() = invocation.allowance;
            input.lines().try_for_each(|line| state.set_line(line).ok_or_else(|| format!("ipset: {line}")))
        } else if command.starts_with("ipset destroy") {
            state.set_line(&command["ipset ".len()..]).ok_or_else(|| "ipset: in use".to_owned())
        } else {
            Ok(())
        };
        let status = ExitStatus::from_raw(if result.is_ok() { 0 } else { 1 << 8 });
        Ok(Output { status, stdout: stdout.into_bytes(), stderr: result.err().unwrap_or_default() })
    }

    fn has(&self, program: &str) -> bool {
        !self.missing.borrow().contains(&program)
    }
}

impl HostState for FakeHost {
    fn has_table(&mut self, _variant: Variant, _family: Family, table: Table) -> io::Result<bool> {
        Ok(table == Table::Nat)
    }

    fn count(&mut self, _variant: Variant, _family: Family, table: Table, text: &str) -> io::Result<usize> {
        if table == Table::Raw {
            return Ok(0);
        }
        Ok(self
            .state
            .borrow_mut()
            .chain("POSTROUTING")
            .into_iter()
            .flatten()
            .filter(|rule| rule.contains(text))
            .count())
    }

    fn sets(&mut self, _wanted: bool) -> io::Result<Option<Vec<SetHeader>>> {
        let state = self.state.borrow();
        let header = |(name, members): (&String, &Vec<String>)| SetHeader {
            name: name.clone(),
            type_name: "hash:net".into(),
            family: Some(Family::V4),
            max_elements: 1 << 20,
            elements: members.len() as u32,
            references: state.references(name),
            has_timeout: false,
        };
        Ok(Some(state.sets.iter().map(header).collect()))
    }

    fn has_sets(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn set_size(&mut self, set: &str) -> io::Result<Option<u32>> {
        Ok(self.state.borrow().sets.get(set).map(|members| members.len() as u32))
    }

    fn members(&mut self, set: &str) -> io::Result<Vec<Member>> {
        let member = |text: &String| Member { prefix: text.parse().unwrap(), is_exception: false };
        Ok(self.state.borrow().sets.get(set).into_iter().flatten().map(member).collect())
    }

    fn is_member(&mut self, set: &str, address: IpAddr) -> io::Result<bool> {
        Ok(self.members(set)?.iter().any(|member| member.prefix.contains(address)))
    }

    fn go_agents(&mut self) -> Vec<GoAgent> {
        Vec::new()
    }

    fn nft_generation(&mut self) -> io::Result<u32> {
        Ok(0)
    }

    fn nft_rules_digest(&mut self, _: Family, _: Table, _: &[Hook], _: &ChainName) -> io::Result<u64> {
        Ok(0)
    }

    fn has_nft_chain(&mut self, _family: Family, _chain: &str) -> io::Result<bool> {
        Ok(true)
    }

    fn legacy_info(&mut self, _family: Family, _table: Table) -> io::Result<Vec<u64>> {
        Ok(Vec::new())
    }

    fn legacy_digest(&mut self, _family: Family, _table: Table) -> io::Result<u64> {
        Ok(0)
    }
}
