//! What moves when the rules or sets of the host move, asked in process.

use super::kernel::Kernel;
use super::tools::Variant;
use super::{Iptables, reading};
use crate::backend::{Error, Fingerprint};
use crate::host::child::Exec;
use crate::policy::Family;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

/// In the place of a set's size: the set is not there.
const NO_SET: u64 = u64::MAX;

impl<E: Exec, K: Kernel> Iptables<E, K> {
    pub(super) fn rules_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let mut numbers = self.rules().map_err(|error| reading("cannot ask whether the rules moved", &error))?;
        for set in self.desired_sets() {
            let size =
                self.kernel.set_size(&set).map_err(|error| reading("cannot ask for the size of a set", &error))?;
            numbers.push(size.map_or(NO_SET, u64::from));
        }
        Ok(Fingerprint(numbers))
    }

    pub(super) fn rules_and_contents_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let Fingerprint(mut numbers) = self.rules_fingerprint()?;
        let contents = self.contents().map_err(|error| reading("cannot read what rules or sets hold", &error))?;
        numbers.extend(contents);
        Ok(Fingerprint(numbers))
    }

    fn rules(&mut self) -> io::Result<Vec<u64>> {
        if self.tools.variant == Variant::Nft {
            return Ok(vec![self.kernel.nft_generation()?.into()]);
        }
        let mut numbers = Vec::new();
        for family in Family::ALL {
            let exists = self.kernel.has_legacy_nat(family);
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
                if self.kernel.has_legacy_nat(family) {
                    numbers.push(self.kernel.legacy_digest(family)?);
                }
            }
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
