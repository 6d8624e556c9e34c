//! What moves when the rules or sets of the host move, asked in process.

use super::host_state::HostState;
use super::rules::render::Table;
use super::rules::sets::DesiredSet;
use super::tools::Variant;
use super::{IPSET, Iptables, reading};
use crate::backend::error::Error;
use crate::backend::fingerprint::Fingerprint;
use crate::policy::Family;
use crate::ruleset::{Hook, ListKey, Ruleset};
use crate::sys::child::Exec;
use crate::sys::nfnetlink::ipset::Member;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;

/// Sets with no more members are sooner read than asked.
const READ_WHOLE: usize = 4096;

/// In the place of a set's size: the set is not there.
const NO_SET: u64 = u64::MAX;

impl<E: Exec, K: HostState> Iptables<E, K> {
    pub(super) fn rules_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let mut numbers = self.rules().map_err(|error| reading("cannot ask whether the rules moved", error))?;
        numbers.extend(self.set_sizes()?);
        Ok(Fingerprint(numbers))
    }

    /// The legacy table is asked whole: its numbers move with anybody's rules, and seldom do.
    pub(super) fn own_rules_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let mut numbers = match self.tools.variant {
            Variant::Nft => self.own_nft_rules(),
            Variant::Legacy => self.rules(),
        }
        .map_err(|error| reading("cannot ask whether our rules moved", error))?;
        numbers.extend(self.set_sizes()?);
        Ok(Fingerprint(numbers))
    }

    fn own_nft_rules(&mut self) -> io::Result<Vec<u64>> {
        let mut digests = Vec::new();
        for family in Family::ALL {
            let hooks = self.hooks(family);
            for table in tables(&hooks) {
                let hooks: Vec<Hook> = hooks.iter().copied().filter(|hook| Table::of(*hook) == table).collect();
                digests.push(self.kernel.nft_rules_digest(family, table, &hooks, &self.chain)?);
            }
        }
        Ok(digests)
    }

    /// Where rules of built-in chains are ours; in POSTROUTING whatever is there can be in front of ours.
    fn hooks(&self, family: Family) -> Vec<Hook> {
        let mut hooks = self.last.get(&family).map(|last| last.hooks.clone()).unwrap_or_default();
        if !hooks.contains(&Hook::Postrouting) {
            hooks.push(Hook::Postrouting);
        }
        hooks
    }

    /// The legacy tables of both families that can hold rules of ours, and whether they are there.
    fn legacy_tables(&mut self) -> io::Result<Vec<(Family, Table, bool)>> {
        let mut found = Vec::new();
        for family in Family::ALL {
            for table in tables(&self.hooks(family)) {
                found.push((family, table, self.kernel.has_table(Variant::Legacy, family, table)?));
            }
        }
        Ok(found)
    }

    fn set_sizes(&mut self) -> Result<Vec<u64>, Error> {
        let size = |kernel: &mut K, set: &String| {
            let size = kernel.set_size(set).map_err(|error| reading("cannot ask for the size of a set", error))?;
            Ok(size.map_or(NO_SET, u64::from))
        };
        self.desired_sets().iter().map(|set| size(&mut self.kernel, set)).collect()
    }

    pub(super) fn rules_and_contents_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let Fingerprint(mut numbers) = self.rules_fingerprint()?;
        let contents = self.contents().map_err(|error| reading("cannot read the rules", error))?;
        numbers.extend(contents);
        Ok(Fingerprint(numbers))
    }

    fn rules(&mut self) -> io::Result<Vec<u64>> {
        if self.tools.variant == Variant::Nft {
            return Ok(vec![self.kernel.nft_generation()?.into()]);
        }
        let mut numbers = Vec::new();
        for (family, table, exists) in self.legacy_tables()? {
            numbers.push(exists.into());
            if exists {
                numbers.extend(self.kernel.legacy_info(family, table)?);
            }
        }
        Ok(numbers)
    }

    fn contents(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if self.tools.variant == Variant::Legacy {
            for (family, table, _) in self.legacy_tables()?.into_iter().filter(|(.., exists)| *exists) {
                numbers.push(self.kernel.legacy_digest(family, table)?);
            }
        }
        if self.last.values().any(|last| last.wants_sets) {
            // They may come, or go, without any rule being moved.
            numbers.push(u64::from(self.exec.has(IPSET) && self.kernel.has_sets()?));
        }
        Ok(numbers)
    }

    pub(super) fn members(&mut self) -> io::Result<Vec<u64>> {
        // A sum, because a hash set lists its members in no order.
        let sum = |members: Vec<Member>| members.iter().fold(0, |sum: u64, member| sum.wrapping_add(digest(member)));
        self.desired_sets().iter().map(|set| self.kernel.members(set).map(sum)).collect()
    }

    /// Of a long set of destinations only these are asked for.
    pub(super) fn hold(&mut self, ruleset: &Ruleset, destinations: &[IpAddr]) -> io::Result<bool> {
        let Some(last) = self.last.get(&ruleset.family) else { return Ok(false) };
        let mut unseen: BTreeSet<&String> = last.sets.iter().collect();
        for list in ruleset.lists().chain(&*ruleset.forwards.lists) {
            let Some(set) = DesiredSet::among(&last.sets, &self.chain, list, ruleset.family) else { continue };
            unseen.remove(&set.name);
            let of_destinations = matches!(list.id.key, ListKey::Exempt | ListKey::Exceptions);
            if !of_destinations || set.members.len() <= READ_WHOLE {
                if !set.member_lines(&self.kernel.members(&set.name)?).is_empty() {
                    return Ok(false);
                }
                continue;
            }
            for address in destinations.iter().filter(|address| Family::of(**address) == ruleset.family) {
                let is_wanted = set.members.iter().any(|member| member.contains(*address));
                if self.kernel.is_member(&set.name, *address)? != is_wanted {
                    return Ok(false);
                }
            }
        }
        Ok(unseen.is_empty())
    }

    fn desired_sets(&self) -> Vec<String> {
        self.last.values().flat_map(|last| last.sets.iter().cloned()).collect()
    }
}

/// Nat, and raw only where something of ours is there.
fn tables(hooks: &[Hook]) -> impl Iterator<Item = Table> + use<> {
    let has_guard = hooks.contains(&Hook::RawPrerouting);
    std::iter::once(Table::Nat).chain(has_guard.then_some(Table::Raw))
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
