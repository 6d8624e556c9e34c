//! A policy in a line.

use super::{Egress, Evaluation, Family, Policy, PrefixSet, Snat};
use std::fmt::Write as _;

/// How many ranges a policy has, by what they do; those of its entries included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RangeCounts {
    /// `nonMasqueradeCIDRs`.
    pub exempt: usize,
    /// `masqueradeExceptionCIDRs`.
    pub exceptions: usize,
    /// `sourceCIDRs`.
    pub sources: usize,
    /// `excludeSourceCIDRs`.
    pub excluded_sources: usize,
}

impl Policy {
    pub fn ranges(&self) -> RangeCounts {
        let all = |top: &PrefixSet, own: fn(&Egress) -> Option<&PrefixSet>| {
            count(top) + self.egress.iter().filter_map(own).map(count).sum::<usize>()
        };
        RangeCounts {
            exempt: all(&self.exempt, |entry| entry.exempt.as_ref()),
            exceptions: all(&self.exceptions, |entry| entry.exceptions.as_ref()),
            sources: all(&self.sources, |entry| Some(&entry.sources)),
            excluded_sources: all(&self.excluded_sources, |entry| Some(&entry.excluded_sources)),
        }
    }

    /// What is done to sources that nothing exempts.
    pub fn action(&self) -> &'static str {
        let is = |snat: Snat| self.sections().all(|section| section.snat.value == snat);
        match () {
            () if is(Snat::Masquerade) => "masquerading",
            () if is(Snat::Nothing) => "keeping sources of",
            () => "translating",
        }
    }

    /// What becomes of sources, which flows are in scope, and how many ranges and entries there are.
    pub fn summary(&self) -> String {
        let mut text = format!("snat {}", self.snat.value);
        if !self.out_interfaces.is_empty() {
            let names: Vec<_> = self.out_interfaces.iter().map(|entry| entry.value.to_string()).collect();
            let shown = if names.len() > NAMED { format!("{} interfaces", names.len()) } else { names.join(", ") };
            // Writing into a String can't fail.
            let _ = write!(text, " on {shown}");
        }
        let longest = self.evaluation == Evaluation::LongestPrefix;
        let parts = [
            (count(&self.sources), "source range"),
            (count(&self.excluded_sources), "excluded source range"),
            (count(&self.exempt), "exempt range"),
            (count(&self.exceptions), "exception"),
            (self.exempt_marks.len(), "exempt mark"),
            (self.egress.len(), "egress entry"),
            (self.forwards.len(), "port forward"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let _ = match (count, what) {
                (1, _) => write!(text, ", 1 {what}"),
                (_, "egress entry") => write!(text, ", {count} egress entries"),
                _ => write!(text, ", {count} {what}s"),
            };
        }
        text + if longest { ", longest prefix decides" } else { "" }
    }
}

/// So many interfaces are named.
const NAMED: usize = 4;

fn count(set: &PrefixSet) -> usize {
    Family::ALL.into_iter().map(|family| set.len(family)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, PRIVATE_RANGES, SnatAddresses, WithOrigin};
    use super::*;

    #[test]
    fn nobody_says_masquerading_of_sources_that_stay_or_become_an_address() {
        let policy = |snat| Policy { snat: WithOrigin { value: snat, origin: Origin::Default }, ..Policy::default() };
        let to = Snat::To(SnatAddresses { v4: "203.0.113.9".parse().ok(), v6: None });
        let actions = [Snat::Masquerade, Snat::Nothing, to].map(|snat| policy(snat).action());
        assert_eq!(actions, ["masquerading", "keeping sources of", "translating"]);
    }

    #[test]
    fn a_policy_is_told_in_a_line() {
        let exempt = PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default);
        let policy = Policy { exempt, ..Policy::default() };
        assert_eq!(policy.summary(), "snat masquerade, 3 exempt ranges");
        let wan = WithOrigin { value: "wan+".parse().unwrap(), origin: Origin::Default };
        let scoped = Policy { out_interfaces: vec![wan], evaluation: Evaluation::LongestPrefix, ..Policy::default() };
        assert_eq!(scoped.summary(), "snat masquerade on wan+, longest prefix decides");
    }
}
