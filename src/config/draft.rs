//! What the files and flags say together, before it is known whether that makes a configuration.

use super::diagnostic::{Lines, Place, Problems};
use super::document::{self, Value};
use super::egress::{self, Lists, listed, listed_one, not_enabled, prefixes};
use super::files;
use super::foreign;
use super::forward;
use super::forward_mark::{BIT, Beside, CHAIN as MARK_CHAIN, MarkKeys};
use super::keys::{EgressKeys, KEYS, Key, PolicyDraft, PolicyKeys, SettingsDraft};
use super::record::{Record, each_entry, similar};
use super::value::{FAST_PATH, Located, Reader, Source};
use super::{Config, Flags, Settings};
use crate::policy::{Evaluation, PRIVATE_RANGES, Policy, Prefix, RESERVED_RANGES, Section, Snat, WithOrigin};
use crate::ruleset::ChainName;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

const BACKEND: &str = "backend";
const CHAIN: &str = "masqChain";
const ENABLE_IPV6: &str = "enableIPv6";
const EVALUATION: &str = "evaluation";
const LIMIT: &str = "cidrLimit";
/// Keys that decide whether what other files say is right.
const DECISIVE: [&str; 8] = [BACKEND, BIT, CHAIN, ENABLE_IPV6, EVALUATION, FAST_PATH, LIMIT, MARK_CHAIN];
/// So many interfaces can be named there: a packet that the flowtable does not carry is compared with each.
const MOST_FAST: usize = 64;
const EXEMPT: &str = "nonMasqueradeCIDRs";
const EXTRA: &str = "extraNonMasqueradeCIDRs";
const RANDOM_FULLY: &str = "randomFully";
/// Keys that say how, and nothing of what is translated.
const TRANSLATION: [&str; 2] = ["toPorts", RANDOM_FULLY];
/// The lists of CIDRs that each part of the policy can have.
const LISTS: [&str; 4] = [EXEMPT, "masqueradeExceptionCIDRs", "sourceCIDRs", "excludeSourceCIDRs"];

/// What was said of each key.
#[derive(Debug, Default)]
pub struct Draft {
    policy: PolicyDraft,
    settings: SettingsDraft,
    /// Keys with a value that was refused: they were meant to be something.
    refused: BTreeSet<Key>,
    /// Where the list begins that stands for the built-in ranges.
    exempt_at: Option<Place>,
    /// Where the keys of [`TRANSLATION`] have their values.
    translation_at: BTreeMap<&'static str, Place>,
    /// Those of [`DECISIVE`] that a file may have which can't be read, or is not what its language allows.
    unsure: BTreeSet<&'static str>,
}

impl Draft {
    /// Of files and flags to which others belong that can't be read.
    pub fn of_part() -> Self {
        Draft { unsure: DECISIVE.into(), ..Draft::default() }
    }

    /// Adds what one file says.
    pub fn add_file(&mut self, source: u32, lines: &Lines<'_>, problems: &mut Problems) {
        let (root, errors) = document::parse(lines.path(), lines.text());
        if root.is_none() && errors.is_empty() {
            return;
        }
        if root.is_none() {
            self.unsure.extend(DECISIVE.into_iter().filter(|key| lines.text().contains(key)));
        }
        if foreign::is_foreign(root.as_ref(), lines.text()) {
            return foreign::report(root.as_ref(), lines.text(), &errors, source, problems);
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
        let meant = |key: &str| similar(key, KEYS.iter().map(|info| info.name));
        each_entry(&entries, &mut reader, known, meant, |key, entry, reader| self.set(Key(key), &entry.value, reader));
    }

    /// Adds what the flags say, over the files.
    pub fn add_flags(&mut self, flags: &Flags, problems: &mut Problems) {
        for (key, values) in flags.iter() {
            let mut reader =
                Reader { name: key.info().name.into(), source: Source::Flag(key.0, &key.info().flag), problems };
            let texts = key.info().kind.flag_texts(values);
            let (node, errors) = key.info().kind.flag_node(&texts);
            if errors.is_empty() {
                self.set(key, &node, &mut reader);
                continue;
            }
            errors.iter().for_each(|error| reader.report_syntax(error));
            self.refused.insert(key);
        }
    }

    fn set(&mut self, key: Key, node: &document::Node<'_>, reader: &mut Reader<'_>) {
        let policy = PolicyDraft::FIELDS.len();
        let read = match key.0.checked_sub(policy) {
            None => self.policy.set(key.0, node, reader),
            Some(field) => self.settings.set(field, node, reader),
        };
        let name = key.info().name;
        if !read {
            self.refused.insert(key);
        } else if TRANSLATION.contains(&name) {
            self.translation_at.insert(name, reader.place(node.offset));
        } else if name == EXEMPT && self.policy.non_masquerade_cidrs.is_some() {
            let place = reader.place(node.offset);
            match place {
                Place::File { .. } => self.exempt_at = self.exempt_at.or(Some(place)),
                Place::Flag(..) | Place::Default => self.exempt_at = Some(place),
            }
        }
    }

    /// Judges what only all files and flags together can tell.
    pub fn validate_whole(&self, sources: &[Lines<'_>], problems: &mut Problems) {
        let known = |keys: &[&str]| !keys.iter().any(|key| self.unsure.contains(key));
        if known(&[LIMIT]) {
            self.validate_limit(problems);
        }
        // Where the switch itself was refused or is not known, what needs it is not to blame.
        let refused = Key::named(ENABLE_IPV6).is_some_and(|key| self.refused.contains(&key));
        let enables_ipv6 = self.policy.enable_ipv6 == Some(true) || refused || !known(&[ENABLE_IPV6]);
        if !enables_ipv6 {
            self.report_ipv6(sources, problems);
        }
        egress::validate(self.entries(), enables_ipv6, sources, problems);
        let forwards = self.policy.port_forwards.as_deref().unwrap_or_default();
        forward::validate(forwards, enables_ipv6, sources, problems);
        if known(&[CHAIN]) {
            self.validate_chain(problems);
        }
        if known(&[FAST_PATH]) {
            self.validate_fast_path(problems);
        }
        let default = Settings::default();
        let beside = Beside {
            exempt_marks: self.policy.exempt_marks.as_deref().unwrap_or_default(),
            masq_chain: self.settings.masq_chain.as_ref().unwrap_or(&default.masq_chain),
            backend: self.settings.backend.unwrap_or_default(),
        };
        let (bit, chain) = (self.policy.mark_masq_bit.flatten(), self.policy.external_set_mark_chain.as_ref());
        if known(&[BIT, MARK_CHAIN, BACKEND, CHAIN]) {
            MarkKeys { bit, chain: chain.and_then(Option::as_ref) }.validate(beside, sources, problems);
        }
        if known(&[EVALUATION]) && self.policy.evaluation == Some(Evaluation::LongestPrefix) {
            self.validate_both(sources, problems);
        }
    }

    fn validate_limit(&self, problems: &mut Problems) {
        let Some(Some(limit)) = self.policy.cidr_limit else { return };
        let of_entries = self.entries().iter().filter_map(|entry| entry.value.non_masquerade_cidrs.as_ref());
        let of_entries: usize = of_entries.map(Vec::len).sum();
        let all = self.policy.non_masquerade_cidrs.as_ref().map_or(0, Vec::len) + self.extra().len() + of_entries;
        if all as u64 > limit.value {
            let those =
                if of_entries > 0 { format!(", {of_entries} of them in entries of egress") } else { String::new() };
            let message = format!("{EXEMPT} has {all} CIDRs{those}, more than the limit of {}", limit.value);
            problems.report(limit.place, "cidrLimit", message);
        }
    }

    /// Each entry has chains of its own, whose names begin with that of the chain.
    fn validate_chain(&self, problems: &mut Problems) {
        if let (Some(chain), Some(entry)) = (&self.settings.masq_chain, self.entries().first())
            && !chain.leaves_room_for_egress()
        {
            let most = ChainName::MAX_WITH_EGRESS;
            let message =
                format!("masqChain '{chain}' is longer than {most} characters, the most with entries of egress");
            problems.report(entry.place, "egress", message);
        }
    }

    /// A flowtable has interfaces and no patterns, and a connection has two of them.
    fn validate_fast_path(&self, problems: &mut Problems) {
        let entries = self.policy.fast_path.as_deref().unwrap_or_default();
        for Located { value, place } in entries.iter().filter(|entry| entry.value.negated || entry.value.prefix) {
            problems.report(*place, FAST_PATH, format!("'{value}' is a pattern; name each interface"));
        }
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.value.name.as_str()).collect();
        match (entries.first(), names.len()) {
            (Some(only), 1) => {
                let message = format!("'{}' is one interface; a connection is carried between two", only.value.name);
                problems.report(only.place, FAST_PATH, message);
            }
            (Some(first), count) if count > MOST_FAST => {
                problems.report(first.place, FAST_PATH, format!("{count} interfaces are more than {MOST_FAST}"));
            }
            _ => {}
        }
    }

    fn entries(&self) -> &[Located<EgressKeys>] {
        self.policy.egress.as_deref().unwrap_or_default()
    }

    /// Reports what is in both lists, of the top level and of entries that have one of their own.
    fn validate_both(&self, sources: &[Lines<'_>], problems: &mut Problems) {
        let exempt = self.exempt();
        let exceptions = self.policy.masquerade_exception_cidrs.as_deref().unwrap_or_default();
        egress::validate_both(Lists { exceptions, exempt: &exempt }, "", sources, problems);
        for (number, entry) in self.entries().iter().enumerate() {
            let keys = &entry.value;
            let own = (keys.masquerade_exception_cidrs.as_deref(), keys.non_masquerade_cidrs.as_deref());
            if own != (None, None) {
                let lists = Lists { exceptions: own.0.unwrap_or(exceptions), exempt: own.1.unwrap_or(&exempt) };
                egress::validate_both(lists, &format!("{}.", egress::label(number)), sources, problems);
            }
        }
    }

    /// `nonMasqueradeCIDRs`, or what stands for it, with what is added to it.
    fn exempt(&self) -> Cow<'_, [Located<Prefix>]> {
        let said = self.policy.non_masquerade_cidrs.as_deref().unwrap_or_default();
        self.combined_exempt().map_or(Cow::Borrowed(said), Cow::Owned)
    }

    /// The same where it is not just what `nonMasqueradeCIDRs` says.
    fn combined_exempt(&self) -> Option<Vec<Located<Prefix>>> {
        let placed = |value: &Prefix| Located { value: *value, place: Place::Default };
        match (&self.policy.non_masquerade_cidrs, self.extra()) {
            (Some(_), []) => None,
            (Some(list), extra) => Some([list.as_slice(), extra].concat()),
            (None, extra) => Some(self.built_in().iter().map(placed).chain(extra.iter().cloned()).collect()),
        }
    }

    fn built_in(&self) -> &'static [Prefix] {
        if self.policy.nomasq_all_reserved_ranges == Some(true) { &RESERVED_RANGES } else { &PRIVATE_RANGES }
    }

    /// Where a list that stands for the built-in ranges begins in a further file, which is there to add something.
    fn replacing(&self, sources: &[Lines<'_>]) -> Option<Place> {
        let is_further = |place: &Place| match *place {
            Place::File { source, .. } => source > 0 || files::is_fragment(sources[source as usize].path()),
            Place::Flag(..) | Place::Default => false,
        };
        self.exempt_at.filter(is_further)
    }

    fn extra(&self) -> &[Located<Prefix>] {
        self.policy.extra_non_masquerade_cidrs.as_deref().unwrap_or_default()
    }

    fn report_ipv6(&self, sources: &[Lines<'_>], problems: &mut Problems) {
        let PolicyDraft {
            non_masquerade_cidrs, masquerade_exception_cidrs, source_cidrs, exclude_source_cidrs, ..
        } = &self.policy;
        let lists = [non_masquerade_cidrs, masquerade_exception_cidrs, source_cidrs, exclude_source_cidrs];
        let lists = lists.map(|list| list.as_deref().unwrap_or_default());
        report_ipv6("", lists, self.policy.snat.flatten(), sources, problems);
        if let Some((place, what)) = egress::first_ipv6(self.extra()) {
            problems.report(place, EXTRA, not_enabled(&what, place, sources));
        }
        for (number, Located { value: keys, .. }) in self.entries().iter().enumerate() {
            let lists = [
                keys.non_masquerade_cidrs.as_deref().unwrap_or_default(),
                keys.masquerade_exception_cidrs.as_deref().unwrap_or_default(),
                &keys.source_cidrs,
                &keys.exclude_source_cidrs,
            ];
            report_ipv6(&format!("{}.", egress::label(number)), lists, keys.snat, sources, problems);
        }
    }

    /// The configuration, with the defaults where nothing was said.
    pub fn into_config(mut self, sources: &[Lines<'_>]) -> Config {
        let (replacing, built_in) = (self.replacing(sources), self.built_in());
        if let Some(exempt) = self.combined_exempt() {
            self.policy.non_masquerade_cidrs = Some(exempt);
        }
        let mut keys = self.policy.finish();
        let expected_rules = listed(std::mem::take(&mut keys.expect_foreign), sources);
        let policy = policy(keys, sources);
        let left_out = || built_in.iter().filter(|range| !policy.exempt.covers(**range)).copied().collect();
        let replaced_ranges = replacing
            .map(|place| WithOrigin { value: left_out(), origin: place.origin(sources) })
            .filter(|replaced: &WithOrigin<Vec<Prefix>>| !replaced.value.is_empty());
        let mut idle: Vec<(&'static str, Place)> = self.translation_at.into_iter().collect();
        idle.retain(|(key, _)| !is_used(key, &policy));
        idle.sort_by_key(|(_, place)| *place);
        let placed = |(value, place): (&'static str, Place)| WithOrigin { value, origin: place.origin(sources) };
        let without_effect = idle.into_iter().map(placed).collect();
        Config { policy, settings: self.settings.finish(), expected_rules, replaced_ranges, without_effect }
    }
}

/// True when something is translated as a key of the top level says.
fn is_used(key: &str, policy: &Policy) -> bool {
    let has_its_own =
        |section: &Section<'_>| section.entry.is_some_and(|entry| entry.translation_keys().contains(&key));
    let mut uses = policy.sections().filter(|section| section.snat.value != Snat::Nothing && !has_its_own(section));
    // Forwards translate as well, and to any port.
    uses.next().is_some() || key == RANDOM_FULLY && !policy.forwards.is_empty()
}

fn policy(keys: PolicyKeys, sources: &[Lines<'_>]) -> Policy {
    Policy {
        out_interfaces: listed(keys.out_interfaces, sources),
        sources: prefixes(keys.source_cidrs, sources),
        excluded_sources: prefixes(keys.exclude_source_cidrs, sources),
        exceptions: prefixes(keys.masquerade_exception_cidrs, sources),
        exempt: prefixes(keys.non_masquerade_cidrs, sources),
        masq_link_local: keys.masq_link_local,
        masq_link_local_ipv6: keys.masq_link_local_ipv6,
        masq_multicast: keys.masq_multicast,
        masq_local_source: keys.masq_local_source,
        enable_ipv6: keys.enable_ipv6,
        random_fully: keys.random_fully,
        to_ports: keys.to_ports,
        snat: keys.snat.map(|snat| listed_one(snat, sources)).unwrap_or_default(),
        exempt_marks: listed(keys.exempt_marks, sources),
        exempt_ipsec: keys.exempt_ipsec.map(|switch| listed_one(switch, sources)).unwrap_or_default(),
        evaluation: keys.evaluation,
        forward_mark: MarkKeys { bit: keys.mark_masq_bit, chain: keys.external_set_mark_chain.as_ref() }.mark(sources),
        egress: egress::entries(keys.egress, sources),
        fast_path: listed(keys.fast_path, sources),
        forwards: forward::entries(keys.port_forwards, sources),
    }
}

/// The lists of [`LISTS`] and the addresses of one part of the policy.
fn report_ipv6(
    path: &str,
    lists: [&[Located<Prefix>]; 4],
    snat: Option<Located<Snat>>,
    sources: &[Lines<'_>],
    problems: &mut Problems,
) {
    let mut report = |place, key, what: String| {
        problems.report(place, &format!("{path}{key}"), not_enabled(&what, place, sources));
    };
    for (key, list) in LISTS.into_iter().zip(lists) {
        egress::first_ipv6(list).into_iter().for_each(|(place, what)| report(place, key, what));
    }
    if let Some(Located { value: Snat::To(addresses), place }) = snat
        && let Some(range) = addresses.v6
    {
        report(place, "snat", format!("'{range}'"));
    }
}
