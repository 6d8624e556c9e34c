//! What moves when the rules or sets of the host move, asked in process.

use super::host_state::HostState;
use super::tools::Variant;
use super::{IPSET, Iptables, reading};
use crate::backend::error::Error;
use crate::backend::fingerprint::Fingerprint;
use crate::policy::Family;
use crate::sys::child::Exec;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

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
        Family::ALL.iter().map(|family| self.kernel.nft_rules_digest(*family, &self.chain)).collect()
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
        let contents = self.contents().map_err(|error| reading("cannot read what rules or sets hold", error))?;
        numbers.extend(contents);
        Ok(Fingerprint(numbers))
    }

    fn rules(&mut self) -> io::Result<Vec<u64>> {
        if self.tools.variant == Variant::Nft {
            return Ok(vec![self.kernel.nft_generation()?.into()]);
        }
        let mut numbers = Vec::new();
        for family in Family::ALL {
            let exists = self.kernel.has_nat(Variant::Legacy, family)?;
            numbers.push(exists.into());
            if exists {
                numbers.extend(self.kernel.legacy_info(family)?);
            }
        }
        Ok(numbers)
    }

    fn contents(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if self.tools.variant == Variant::Legacy {
            for family in Family::ALL {
                if self.kernel.has_nat(Variant::Legacy, family)? {
                    numbers.push(self.kernel.legacy_digest(family)?);
                }
            }
        }
        if self.last.values().any(|last| last.wants_sets) {
            // They may come, or go, without any rule being moved.
            numbers.push(u64::from(self.exec.has(IPSET) && self.kernel.sets(true)?.is_some()));
        }
        for set in self.desired_sets() {
            // A sum, because a hash set lists its members in no order.
            let members = self.kernel.members(&set)?;
            numbers.push(members.iter().fold(0, |sum: u64, member| sum.wrapping_add(digest(member))));
        }
        Ok(numbers)
    }

    fn desired_sets(&self) -> Vec<String> {
        self.last.values().flat_map(|last| last.sets.iter().cloned()).collect()
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
