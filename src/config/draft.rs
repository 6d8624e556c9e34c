//! What the files and flags say together, before it is known whether that makes a configuration.

use super::diagnostic::{Lines, Place, Problems};
use super::document::{self, Value};
use super::foreign;
use super::keys::{KEYS, Key, PolicyDraft, PolicyKeys, SettingsDraft};
use super::record::{Record, each_entry};
use super::value::{Placed, Reader, Source};
use super::{Config, Flags};
use crate::policy::{Family, Listed, Policy, Prefix, PrefixSet, RESERVED_RANGES};
use std::collections::BTreeSet;

const ENABLE_IPV6: &str = "enableIPv6";
const EXEMPT: &str = "nonMasqueradeCIDRs";

/// What was said of each key.
#[derive(Debug, Default)]
pub struct Draft {
    policy: PolicyDraft,
    settings: SettingsDraft,
    /// Keys with a value that was refused: they were meant to be something.
    refused: BTreeSet<Key>,
}

impl Draft {
    /// Adds what one file says.
    pub fn add_file(&mut self, source: u32, lines: &Lines<'_>, problems: &mut Problems) {
        let (root, errors) = document::parse(lines.path(), lines.text());
        if root.is_none() && errors.is_empty() {
            return;
        }
        if foreign::is_foreign(root.as_ref(), lines.text()) {
            return foreign::report(root.as_ref(), &errors, source, problems);
        }
        let mut reader = Reader::of_file(source, lines, problems);
        for error in errors {
            reader.of_key(&error.key).report_syntax(&error);
        }
        let Some(root) = root else { return };
        let entries = match root.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Broken => return,
            found => {
                let hint = if matches!(found, Value::Text(_)) { "; a key needs ': ' after it" } else { "" };
                reader.report(root.offset, format!("expected keys with values, found {}{hint}", found.describe()));
                return;
            }
        };
        let known = |name: &str| Key::named(name).map(|key| key.0);
        let names = || KEYS.iter().map(|info| info.name);
        each_entry(&entries, &mut reader, known, names, |key, entry, reader| self.set(Key(key), &entry.value, reader));
    }

    /// Adds what the flags say, over the files.
    pub fn add_flags(&mut self, flags: &Flags, problems: &mut Problems) {
        for (key, values) in flags.iter() {
            let mut reader =
                Reader { name: key.info().name.into(), source: Source::Flag(key.0, &key.info().flag), problems };
            self.set(key, &key.info().kind.flag_node(values), &mut reader);
        }
    }

    fn set(&mut self, key: Key, node: &document::Node<'_>, reader: &mut Reader<'_>) {
        let policy = PolicyDraft::FIELDS.len();
        let read = match key.0.checked_sub(policy) {
            None => self.policy.set(key.0, node, reader),
            Some(field) => self.settings.set(field, node, reader),
        };
        if !read {
            self.refused.insert(key);
        }
    }

    /// Judges what only all files and flags together can tell.
    pub fn judge_whole(&self, problems: &mut Problems) {
        if let (Some(Some(limit)), Some(exempt)) = (self.policy.cidr_limit, &self.policy.non_masquerade_cidrs)
            && exempt.len() as u64 > limit.value
        {
            let message = format!("{EXEMPT} has {} CIDRs, more than the limit of {}", exempt.len(), limit.value);
            problems.report(limit.place, "cidrLimit", message);
        }
        // Where the switch itself was refused, the lists are not to blame.
        let refused = Key::named(ENABLE_IPV6).is_some_and(|key| self.refused.contains(&key));
        if self.policy.enable_ipv6 != Some(true) && !refused {
            for (key, list) in self.prefix_lists() {
                report_ipv6(key, list, problems);
            }
        }
    }

    fn prefix_lists(&self) -> [(&'static str, &Option<Vec<Placed<Prefix>>>); 4] {
        [
            (EXEMPT, &self.policy.non_masquerade_cidrs),
            ("masqueradeExceptionCIDRs", &self.policy.masquerade_exception_cidrs),
            ("sourceCIDRs", &self.policy.source_cidrs),
            ("excludeSourceCIDRs", &self.policy.exclude_source_cidrs),
        ]
    }

    /// The configuration, with the defaults where nothing was said.
    pub fn into_config(mut self, sources: &[Lines<'_>]) -> Config {
        if self.policy.nomasq_all_reserved_ranges == Some(true) {
            let placed = |value| Placed { value, place: Place::Default };
            self.policy.non_masquerade_cidrs.get_or_insert_with(|| RESERVED_RANGES.map(placed).into());
        }
        Config { policy: policy(self.policy.finish(), sources), settings: self.settings.finish() }
    }
}

fn policy(keys: PolicyKeys, sources: &[Lines<'_>]) -> Policy {
    let prefixes = |list| PrefixSet::new(listed(list, sources));
    Policy {
        out_interfaces: listed(keys.out_interfaces, sources),
        sources: prefixes(keys.source_cidrs),
        excluded_sources: prefixes(keys.exclude_source_cidrs),
        exceptions: prefixes(keys.masquerade_exception_cidrs),
        exempt: prefixes(keys.non_masquerade_cidrs),
        masq_link_local: keys.masq_link_local,
        masq_link_local_ipv6: keys.masq_link_local_ipv6,
        masq_multicast: keys.masq_multicast,
        masq_local_source: keys.masq_local_source,
        enable_ipv6: keys.enable_ipv6,
        random_fully: keys.random_fully,
        to_ports: keys.to_ports,
    }
}

fn listed<T>(list: Vec<Placed<T>>, sources: &[Lines<'_>]) -> Vec<Listed<T>> {
    list.into_iter().map(|item| Listed { value: item.value, origin: item.place.origin(sources) }).collect()
}

/// One line for all IPv6 CIDRs of a list: one key mends them all.
fn report_ipv6(key: &str, list: &Option<Vec<Placed<Prefix>>>, problems: &mut Problems) {
    let is_v6 = |item: &&Placed<Prefix>| item.value.family() == Family::V6;
    let mut items = list.iter().flatten().filter(is_v6);
    let Some(first) = items.next() else { return };
    let more = match items.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("'{}'{more} is IPv6, which is not enabled; set {ENABLE_IPV6}: true", first.value);
    problems.report(first.place, key, message);
}
