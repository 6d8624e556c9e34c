//! The part of a policy that some destinations can meet: of very long lists little is left.

use super::{Egress, Policy, PrefixSet};
use std::net::IpAddr;

impl Policy {
    /// A policy that decides the same of flows to these destinations, for the same reasons. Its lists of destinations are
    /// shorter; nothing else differs.
    #[must_use]
    pub fn about(&self, destinations: &[IpAddr]) -> Policy {
        let about = |list: &PrefixSet| list.holding(destinations);
        let of_entry = |entry: &Egress| Egress {
            name: entry.name.clone(),
            origin: entry.origin.clone(),
            out_interfaces: entry.out_interfaces.clone(),
            sources: entry.sources.clone(),
            excluded_sources: entry.excluded_sources.clone(),
            snat: entry.snat.clone(),
            exceptions: entry.exceptions.as_ref().map(about),
            exempt: entry.exempt.as_ref().map(about),
            to_ports: entry.to_ports.clone(),
            ..*entry
        };
        Policy {
            out_interfaces: self.out_interfaces.clone(),
            sources: self.sources.clone(),
            excluded_sources: self.excluded_sources.clone(),
            exceptions: about(&self.exceptions),
            exempt: about(&self.exempt),
            to_ports: self.to_ports.clone(),
            snat: self.snat.clone(),
            exempt_marks: self.exempt_marks.clone(),
            exempt_ipsec: self.exempt_ipsec.clone(),
            egress: self.egress.iter().map(of_entry).collect(),
            fast_path: self.fast_path.clone(),
            forwards: self.forwards.clone(),
            forward_mark: self.forward_mark.clone(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluation, Flow, Origin, Prefix, WithOrigin};
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::path::Path;

    /// Few addresses, so that prefixes hold each other and the destinations.
    fn address() -> impl Strategy<Value = IpAddr> {
        (0..64u32).prop_map(|last| Ipv4Addr::from_bits(0xcb00_7100 | last).into())
    }

    fn list() -> impl Strategy<Value = PrefixSet> {
        let prefix = (address(), 24..=32u8).prop_map(|(address, length)| Prefix::containing(address, length).unwrap());
        proptest::collection::vec(prefix, 0..8).prop_map(|prefixes| {
            let origin = |line| Origin::File { path: Path::new("config.yaml").into(), line, column: 3 };
            let entries = prefixes.into_iter().zip(1..);
            PrefixSet::new(entries.map(|(value, line)| WithOrigin { value, origin: origin(line) }).collect())
        })
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let entry = (list(), proptest::option::of(list()), proptest::option::of(list()));
        let entries = proptest::collection::vec(entry, 0..3);
        (list(), list(), list(), any::<bool>(), entries).prop_map(|(sources, exceptions, exempt, longest, entries)| {
            let entry = |(number, (sources, exceptions, exempt))| Egress {
                number,
                name: number.to_string(),
                origin: Origin::Default,
                out_interfaces: Vec::new(),
                sources,
                excluded_sources: PrefixSet::default(),
                snat: None,
                exceptions,
                exempt,
                random_fully: None,
                to_ports: None,
            };
            let evaluation = if longest { Evaluation::LongestPrefix } else { Evaluation::Ordered };
            let egress = (1..).zip(entries).map(entry).collect();
            Policy { sources, exceptions, exempt, evaluation, egress, ..Policy::default() }
        })
    }

    proptest! {
        #[test]
        fn it_decides_the_same_for_the_same_reasons_also_after_a_way_as_text(
            policy in policy(),
            destinations in proptest::collection::vec(address(), 1..3),
            sources in proptest::collection::vec(proptest::option::of(address()), 1..4),
        ) {
            let about = policy.about(&destinations);
            let text = serde_json::to_string(&about).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Policy>(&text).unwrap(), &about);
            for destination in destinations {
                for source in &sources {
                    let flow = Flow { source: *source, ..Flow::forwarded_to(destination) };
                    prop_assert_eq!(about.verdict(&flow), policy.verdict(&flow));
                }
            }
            prop_assert!(about.exempt.entries().len() <= policy.exempt.entries().len());
        }
    }

    #[test]
    fn of_a_long_list_little_is_left() {
        let prefixes = (0..50_000u32).map(|number| Prefix::containing(Ipv4Addr::from_bits(number << 8).into(), 24));
        let exempt = PrefixSet::from_prefixes(prefixes.flatten(), &Origin::Default);
        let policy = Policy { exempt, ..Policy::default() };
        let about = policy.about(&["0.1.2.3".parse().unwrap(), "203.0.113.9".parse().unwrap()]);
        assert_eq!(about.ranges().exempt, 1);
    }
}
