//! The sources that routes prefer (`snat: route-source`).

use super::{Family, Prefix, most_specific};
use std::net::IpAddr;
use std::sync::Arc;

/// What a route says of the source of packets that leave through an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreferredSource {
    pub interface: String,
    /// Where the route leads.
    pub destination: Prefix,
    /// The address; `None` where the route names none, inside of another one that does.
    pub source: Option<IpAddr>,
}

/// The sources that the routes of a host prefer, by outgoing interface and destination. Of the rows of an interface that
/// hold a destination the longest prefix counts, which is the first one. A row that says what the row around it says is
/// left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSources(Arc<[PreferredSource]>);

impl RouteSources {
    /// Of rows with equal interfaces and destinations the first one counts.
    pub fn new(mut rows: Vec<PreferredSource>) -> Self {
        // A prefix is in front of those inside of it.
        let place = |row: &PreferredSource| (row.destination.address(), row.destination.length());
        rows.sort_by(|one, other| (&one.interface, place(one)).cmp(&(&other.interface, place(other))));
        rows.dedup_by(|one, first| (&one.interface, one.destination) == (&first.interface, first.destination));
        let mut around: Vec<PreferredSource> = Vec::new();
        let mut kept = Vec::new();
        for row in rows {
            let holds = |outer: &PreferredSource| {
                outer.interface == row.interface && outer.destination.contains(row.destination.address())
            };
            while around.last().is_some_and(|outer| !holds(outer)) {
                around.pop();
            }
            if row.source != around.last().and_then(|outer| outer.source) {
                kept.push(row.clone());
            }
            around.push(row);
        }
        kept.sort_by(|one, other| {
            let key = |row: &PreferredSource| (u8::MAX - row.destination.length(), row.destination);
            (&one.interface, key(one)).cmp(&(&other.interface, key(other)))
        });
        RouteSources(kept.into())
    }

    /// Those of a family, by interface, the longest prefix first.
    pub fn rows(&self, family: Family) -> impl Iterator<Item = &PreferredSource> {
        self.0.iter().filter(move |row| row.destination.family() == family)
    }

    /// The row that says what packets to a destination are to have that leave through an interface.
    pub fn find(&self, interface: &str, destination: IpAddr) -> Option<&PreferredSource> {
        let row = self.0.iter().find(|row| row.interface == interface && row.destination.contains(destination))?;
        row.source.map(|_| row)
    }

    /// The same as rows of a family that have no address in common, each with a source.
    pub fn disjoint(&self, family: Family) -> Vec<(&str, Prefix, IpAddr)> {
        let rows: Vec<&PreferredSource> = self.rows(family).collect();
        let of_interface = |rows: &[&'_ PreferredSource]| {
            let listed = rows.iter().map(|row| (row.destination, row.source)).collect();
            most_specific(listed, family)
        };
        let by_interface = rows.chunk_by(|one, other| one.interface == other.interface);
        let named = by_interface.flat_map(|rows| of_interface(rows).into_iter().map(|row| (rows[0], row)));
        named.filter_map(|(first, (prefix, source))| Some((first.interface.as_str(), prefix, source?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(text: &str) -> PreferredSource {
        let words: Vec<&str> = text.split(' ').collect();
        PreferredSource {
            interface: words[0].to_owned(),
            destination: words[1].parse().unwrap(),
            source: words.get(2).map(|source| source.parse().unwrap()),
        }
    }

    fn sources(rows: &[&str]) -> RouteSources {
        RouteSources::new(rows.iter().map(|text| row(text)).collect())
    }

    #[test]
    fn the_longest_prefix_counts_and_what_says_nothing_new_is_left_out() {
        let sources = sources(&[
            "wan0 0.0.0.0/0 203.0.113.1",
            "wan0 0.0.0.0/0 203.0.113.2",
            "wan0 203.0.113.0/24 203.0.113.1",
            "wan0 10.0.0.0/8",
            "wan0 10.1.0.0/16",
            "wan0 10.1.1.0/24 203.0.113.1",
            "lan0 192.168.0.0/16",
            "wan1 198.51.100.0/24 198.51.100.1",
        ]);
        let rows: Vec<_> = sources.rows(Family::V4).cloned().collect();
        let expected = [
            "wan0 10.1.1.0/24 203.0.113.1",
            "wan0 10.0.0.0/8",
            "wan0 0.0.0.0/0 203.0.113.1",
            "wan1 198.51.100.0/24 198.51.100.1",
        ];
        assert_eq!(rows, expected.map(row));
        let at =
            |interface, address: &str| sources.find(interface, address.parse().unwrap()).and_then(|row| row.source);
        assert_eq!(at("wan0", "10.1.1.9"), "203.0.113.1".parse().ok());
        assert_eq!([at("wan0", "10.1.2.9"), at("wan1", "8.8.8.8"), at("lan0", "8.8.8.8")], [None; 3]);
        assert_eq!(sources.rows(Family::V6).count(), 0);
    }

    proptest! {
        #[test]
        fn rows_that_have_no_address_in_common_say_the_same(
            listed in proptest::collection::vec((0_u8..=6, 0_u32..64, proptest::option::of(0_u8..3), any::<bool>()), 0..12),
        ) {
            let rows: Vec<_> = listed.into_iter().map(|(length, bits, source, other)| PreferredSource {
                interface: if other { "wan1" } else { "wan0" }.to_owned(),
                destination: Prefix::containing(IpAddr::from((bits << 26).to_be_bytes()), length).unwrap(),
                source: source.map(|last| IpAddr::from([203, 0, 113, last])),
            }).collect();
            let sources = RouteSources::new(rows.clone());
            let disjoint = sources.disjoint(Family::V4);
            for (bits, interface) in (0_u32..64).flat_map(|bits| ["wan0", "wan1"].map(|name| (bits, name))) {
                let address = IpAddr::from((bits << 26).to_be_bytes());
                let holds = |row: &&PreferredSource| row.interface == interface && row.destination.contains(address);
                // Of equals the first one.
                let longest = rows.iter().filter(holds).rev().max_by_key(|row| row.destination.length());
                let expected = longest.and_then(|row| row.source);
                prop_assert_eq!(sources.find(interface, address).and_then(|row| row.source), expected);
                let found: Vec<_> = disjoint.iter().filter(|(name, prefix, _)| *name == interface && prefix.contains(address)).collect();
                prop_assert!(found.len() <= 1);
                prop_assert_eq!(found.first().map(|(.., source)| *source), expected);
            }
        }
    }
}
