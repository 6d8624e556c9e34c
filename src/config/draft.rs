//! What the files and flags say together, before it is known whether that makes a configuration.

use super::diagnostic::{Lines, Place, Problems, SHOWN};
use super::document::{self, Node, SyntaxError, Value};
use super::judge::{Judge, Placed};
use super::keys::{KEYS, Key, Kind, nearest};
use super::settings::{BackendChoice, OnStop, RuleWatch, Settings, TableOwner};
use super::{Config, Flags};
use crate::policy::{
    Family, InterfacePattern, Listed, Origin, PRIVATE_RANGES, Policy, PortRanges, Prefix, PrefixSet, RESERVED_RANGES,
};
use crate::ruleset::{ChainName, JumpPosition};
use std::collections::BTreeMap;
use std::time::Duration;

type List<T> = Option<Vec<Placed<T>>>;

/// One field per key. Lists are joined by files and replaced by flags; of anything else the last one stays.
#[derive(Debug, Default)]
pub struct Draft {
    exempt: List<Prefix>,
    exceptions: List<Prefix>,
    out_interfaces: List<InterfacePattern>,
    sources: List<Prefix>,
    excluded_sources: List<Prefix>,
    masq_link_local: Option<bool>,
    masq_link_local_ipv6: Option<bool>,
    masq_multicast: Option<bool>,
    masq_local_source: Option<bool>,
    nomasq_all_reserved_ranges: Option<bool>,
    enable_ipv6: Option<bool>,
    random_fully: Option<bool>,
    to_ports: Option<PortRanges>,
    cidr_limit: Option<Placed<u64>>,
    resync_interval: Option<Duration>,
    backend: Option<BackendChoice>,
    masq_chain: Option<ChainName>,
    jump_position: Option<JumpPosition>,
    rule_watch: Option<RuleWatch>,
    table_owner: Option<TableOwner>,
    on_stop: Option<OnStop>,
}

impl Draft {
    /// Adds what one file says.
    pub fn add_file(&mut self, source: u32, lines: &Lines<'_>, problems: &mut Problems) {
        let (root, errors) = document::parse(lines.path(), lines.text());
        for error in errors {
            report_syntax(&error, source, lines, problems);
        }
        let Some(root) = root else { return };
        let entries = match root.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Broken => return,
            found => {
                let hint = if matches!(found, Value::Text(_)) { "; a key needs ': ' behind it" } else { "" };
                let message = format!("expected keys with values, found {}{hint}", found.describe());
                problems.report(Place::File { source, offset: root.offset }, "", message);
                return;
            }
        };
        let (mut seen, mut unknown) = (BTreeMap::new(), 0);
        for entry in &entries {
            let first = *seen.entry(&*entry.key).or_insert(entry.offset);
            if first != entry.offset {
                let error = SyntaxError::duplicate(entry.offset as usize, &entry.key, Some(first as usize));
                report_syntax(&error, source, lines, problems);
                continue;
            }
            match Key::named(&entry.key) {
                Some(key) => self.set(&entry.value, &mut Judge { key, source: Some(source), problems }),
                None => {
                    unknown += 1;
                    // To look for what was meant takes time, and those behind are not shown.
                    let message = if unknown > SHOWN { "unknown key".to_owned() } else { unknown_key(&entry.key) };
                    problems.report(Place::File { source, offset: entry.offset }, &entry.key, message);
                }
            }
        }
    }

    /// Adds what the flags say, over the files.
    pub fn add_flags(&mut self, flags: &Flags, problems: &mut Problems) {
        for (key, values) in flags.iter() {
            self.set(&flag_node(key.info().kind, values), &mut Judge { key, source: None, problems });
        }
    }

    fn set(&mut self, node: &Node<'_>, judge: &mut Judge<'_>) {
        match judge.key {
            Key::NonMasqueradeCidrs => list(&mut self.exempt, node, judge, Judge::prefix),
            Key::MasqueradeExceptionCidrs => list(&mut self.exceptions, node, judge, Judge::prefix),
            Key::OutInterfaces => list(&mut self.out_interfaces, node, judge, Judge::interface),
            Key::SourceCidrs => list(&mut self.sources, node, judge, Judge::prefix),
            Key::ExcludeSourceCidrs => list(&mut self.excluded_sources, node, judge, Judge::prefix),
            Key::MasqLinkLocal => replace(&mut self.masq_link_local, judge.switch(node)),
            Key::MasqLinkLocalIpv6 => replace(&mut self.masq_link_local_ipv6, judge.switch(node)),
            Key::MasqMulticast => replace(&mut self.masq_multicast, judge.switch(node)),
            Key::MasqLocalSource => replace(&mut self.masq_local_source, judge.switch(node)),
            Key::NomasqAllReservedRanges => replace(&mut self.nomasq_all_reserved_ranges, judge.switch(node)),
            // A value that is refused was meant to be something: taken as true, it costs no second error for each
            // list with IPv6 in it.
            Key::EnableIpv6 => self.enable_ipv6 = Some(judge.switch(node).unwrap_or(true)),
            Key::RandomFully => replace(&mut self.random_fully, judge.switch(node)),
            Key::ToPorts => replace(&mut self.to_ports, judge.ports(node)),
            Key::CidrLimit => {
                let place = judge.place(node);
                replace(&mut self.cidr_limit, judge.count(node).map(|value| Placed { value, place }));
            }
            Key::ResyncInterval => replace(&mut self.resync_interval, judge.duration(node)),
            Key::Backend => replace(&mut self.backend, judge.choice(node)),
            Key::MasqChain => replace(&mut self.masq_chain, judge.chain(node)),
            Key::JumpPosition => replace(&mut self.jump_position, judge.choice(node)),
            Key::RuleWatch => replace(&mut self.rule_watch, judge.choice(node)),
            Key::TableOwner => replace(&mut self.table_owner, judge.choice(node)),
            Key::OnStop => replace(&mut self.on_stop, judge.choice(node)),
        }
    }

    /// Judges what only all files and flags together can tell.
    pub fn judge_whole(&self, problems: &mut Problems) {
        if let (Some(limit), Some(exempt)) = (self.cidr_limit, &self.exempt)
            && exempt.len() as u64 > limit.value
        {
            let key = Key::NonMasqueradeCidrs;
            let message = format!("{key} has {} CIDRs, more than the limit of {}", exempt.len(), limit.value);
            problems.report(limit.place, Key::CidrLimit.info().name, message);
        }
        if self.enable_ipv6 != Some(true) {
            for (key, list) in self.prefix_lists() {
                report_ipv6(key, list, problems);
            }
        }
    }

    fn prefix_lists(&self) -> [(Key, &List<Prefix>); 4] {
        [
            (Key::NonMasqueradeCidrs, &self.exempt),
            (Key::MasqueradeExceptionCidrs, &self.exceptions),
            (Key::SourceCidrs, &self.sources),
            (Key::ExcludeSourceCidrs, &self.excluded_sources),
        ]
    }

    /// The configuration, with the defaults where nothing was said.
    pub fn into_config(self, sources: &[Lines<'_>]) -> Config {
        let prefixes = |list: List<Prefix>| PrefixSet::new(listed(list.unwrap_or_default(), sources));
        let reserved = self.nomasq_all_reserved_ranges.unwrap_or_default();
        let exempt = match self.exempt {
            Some(list) => prefixes(Some(list)),
            None if reserved => PrefixSet::from_prefixes(RESERVED_RANGES, &Origin::Default),
            None => PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default),
        };
        let policy = Policy {
            out_interfaces: listed(self.out_interfaces.unwrap_or_default(), sources),
            sources: prefixes(self.sources),
            excluded_sources: prefixes(self.excluded_sources),
            exceptions: prefixes(self.exceptions),
            exempt,
            masq_link_local: self.masq_link_local.unwrap_or_default(),
            masq_link_local_ipv6: self.masq_link_local_ipv6.unwrap_or_default(),
            masq_multicast: self.masq_multicast.unwrap_or_default(),
            masq_local_source: self.masq_local_source.unwrap_or_default(),
            enable_ipv6: self.enable_ipv6.unwrap_or_default(),
            random_fully: self.random_fully.unwrap_or(true),
            to_ports: self.to_ports,
        };
        let default = Settings::default();
        let settings = Settings {
            resync_interval: self.resync_interval.unwrap_or(default.resync_interval),
            masq_chain: self.masq_chain.unwrap_or(default.masq_chain),
            backend: self.backend.unwrap_or(default.backend),
            jump_position: self.jump_position.unwrap_or(default.jump_position),
            rule_watch: self.rule_watch.unwrap_or(default.rule_watch),
            table_owner: self.table_owner.unwrap_or(default.table_owner),
            on_stop: self.on_stop.unwrap_or(default.on_stop),
        };
        Config { policy, settings }
    }
}

fn listed<T>(list: Vec<Placed<T>>, sources: &[Lines<'_>]) -> Vec<Listed<T>> {
    list.into_iter().map(|item| Listed { value: item.value, origin: item.place.origin(sources) }).collect()
}

fn replace<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

fn list<'p, T>(
    slot: &mut List<T>,
    node: &Node<'_>,
    judge: &mut Judge<'p>,
    item: fn(&mut Judge<'p>, &Node<'_>) -> Option<T>,
) {
    let Some(items) = judge.items(node) else { return };
    if judge.source.is_none() {
        *slot = None;
    }
    let joined = slot.get_or_insert_default();
    joined.reserve(items.len());
    for node in items {
        if let Some(value) = item(judge, node) {
            joined.push(Placed { value, place: judge.place(node) });
        }
    }
}

/// The values of a flag as a file would have said them.
fn flag_node(kind: Kind, values: &[String]) -> Node<'_> {
    let node = |value| Node { offset: 0, value };
    let last = values.last().map(String::as_str).unwrap_or_default();
    node(match kind {
        Kind::Cidrs | Kind::Interfaces => {
            let items = values.iter().filter(|text| !text.is_empty()).flat_map(|text| text.split(','));
            Value::List(items.map(|text| node(Value::Text(text.into()))).collect())
        }
        Kind::Switch | Kind::Count | Kind::Duration => document::plain(last),
        Kind::Chain | Kind::Ports | Kind::Choice(_) => Value::Text(last.into()),
    })
}

fn unknown_key(written: &str) -> String {
    match nearest(written, KEYS.iter().map(|info| info.name)) {
        Some(name) => format!("unknown key; did you mean {name}?"),
        None => "unknown key".to_owned(),
    }
}

fn report_syntax(error: &SyntaxError, source: u32, lines: &Lines<'_>, problems: &mut Problems) {
    let place = Place::File { source, offset: error.offset as u32 };
    let message = match error.first {
        Some(first) => format!("{}, first in line {}", error.message, lines.line(first as u32)),
        None => error.message.clone(),
    };
    problems.report(place, &error.key, message);
}

/// One line for all IPv6 CIDRs of a list: one key mends them all.
fn report_ipv6(key: Key, list: &List<Prefix>, problems: &mut Problems) {
    let is_v6 = |item: &&Placed<Prefix>| item.value.family() == Family::V6;
    let mut items = list.iter().flatten().filter(is_v6);
    let Some(first) = items.next() else { return };
    let more = match items.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("'{}'{more} is IPv6, which is not enabled; set {}: true", first.value, Key::EnableIpv6);
    problems.report(first.place, key.info().name, message);
}
