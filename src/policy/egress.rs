//! Entries of `egress`, and the top level, which is the entry after the last.

use super::interface::keeps_out;
use super::{
    AddressSet, Family, Flow, InterfacePattern, Origin, Policy, PortRanges, PrefixSet, Provenance, Snat, Step,
    WithOrigin,
};

/// The most entries that a policy can have.
pub const MAX_ENTRIES: usize = 64;
/// The most interface names that all entries together can have.
pub const MAX_INTERFACES: usize = 256;

/// How flows of a scope are treated; what is unset is the top level's.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Egress {
    /// Its number, from 1.
    pub number: u8,
    /// Its name; its number where it has none.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// Outgoing interfaces in scope; empty means all (`outInterfaces`).
    pub out_interfaces: Vec<WithOrigin<InterfacePattern>>,
    /// Sources in scope; unset means all (`sourceCIDRs`).
    pub sources: PrefixSet,
    /// Sources out of scope (`excludeSourceCIDRs`).
    pub excluded_sources: PrefixSet,
    /// What sources become (`snat`).
    pub snat: Option<WithOrigin<Snat>>,
    /// Destinations translated whatever the ranges say (`masqueradeExceptionCIDRs`).
    pub exceptions: Option<PrefixSet>,
    /// Destinations that keep their source (`nonMasqueradeCIDRs`).
    pub exempt: Option<PrefixSet>,
    /// Let the kernel choose source ports at random (`randomFully`).
    pub random_fully: Option<bool>,
    /// Source ports to use for TCP, UDP and SCTP (`toPorts`).
    pub to_ports: Option<PortRanges>,
}

/// A scope and how its flows are treated: an entry of `egress` with all that it inherits, or the top level.
#[derive(Debug, Clone, Copy)]
pub struct Section<'p> {
    /// The entry; `None` for the top level.
    pub entry: Option<&'p Egress>,
    /// Outgoing interfaces in scope; empty means all.
    pub out_interfaces: &'p [WithOrigin<InterfacePattern>],
    /// Sources in scope; unset means all.
    pub sources: &'p PrefixSet,
    /// Sources out of scope.
    pub excluded_sources: &'p PrefixSet,
    /// What sources become.
    pub snat: &'p WithOrigin<Snat>,
    /// Destinations translated whatever the ranges say.
    pub exceptions: &'p PrefixSet,
    /// Destinations that keep their source.
    pub exempt: &'p PrefixSet,
    /// Let the kernel choose source ports at random.
    pub random_fully: bool,
    /// Source ports to use for TCP, UDP and SCTP.
    pub to_ports: Option<&'p PortRanges>,
}

impl Policy {
    /// The entries of `egress` in their order, then the top level.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        self.egress.iter().map(|entry| self.section(entry)).chain([self.top()])
    }

    /// The top level.
    pub fn top(&self) -> Section<'_> {
        Section {
            entry: None,
            out_interfaces: &self.out_interfaces,
            sources: &self.sources,
            excluded_sources: &self.excluded_sources,
            snat: &self.snat,
            exceptions: &self.exceptions,
            exempt: &self.exempt,
            random_fully: self.random_fully,
            to_ports: self.to_ports.as_ref(),
        }
    }

    /// An entry with all that it inherits.
    pub fn section<'p>(&'p self, entry: &'p Egress) -> Section<'p> {
        let top = self.top();
        Section {
            entry: Some(entry),
            out_interfaces: &entry.out_interfaces,
            sources: &entry.sources,
            excluded_sources: &entry.excluded_sources,
            snat: entry.snat.as_ref().unwrap_or(top.snat),
            exceptions: entry.exceptions.as_ref().unwrap_or(top.exceptions),
            exempt: entry.exempt.as_ref().unwrap_or(top.exempt),
            random_fully: entry.random_fully.unwrap_or(top.random_fully),
            to_ports: entry.to_ports.as_ref().or(top.to_ports),
        }
    }
}

impl Policy {
    /// True when flows that leave through the interface can come to the section: none before it takes all of them.
    pub fn reaches(&self, section: &Section<'_>, interface: &str) -> bool {
        let number = |section: &Section<'_>| section.entry.map_or(u8::MAX, |entry| entry.number);
        let takes_all = |before: &Section<'_>| {
            before.sources.is_empty() && before.excluded_sources.is_empty() && before.takes(interface)
        };
        let mut before = self.sections().filter(|before| number(before) < number(section));
        section.takes(interface) && !before.any(|before| takes_all(&before))
    }

    /// True when sources become what routes prefer.
    pub fn follows_routes(&self) -> bool {
        self.sections().any(|section| section.snat.value == Snat::RouteSource)
    }
}

impl Egress {
    /// What the configuration calls it.
    pub fn key(&self) -> String {
        format!("egress[{}]", self.number)
    }

    /// The keys of its own that say how sources are translated.
    pub fn translation_keys(&self) -> Vec<&'static str> {
        let keys = [
            (self.exempt.is_some(), "nonMasqueradeCIDRs"),
            (self.exceptions.is_some(), "masqueradeExceptionCIDRs"),
            (self.to_ports.is_some(), "toPorts"),
            (self.random_fully.is_some(), "randomFully"),
        ];
        keys.into_iter().filter_map(|(is_set, key)| is_set.then_some(key)).collect()
    }
}

impl Section<'_> {
    /// True when flows that leave through the interface can be in the scope.
    pub fn takes(&self, interface: &str) -> bool {
        keeps_out(self.out_interfaces, interface).is_none()
    }

    /// True when `sourceCIDRs` leaves room for sources of the family.
    pub fn has_sources_of(&self, family: Family) -> bool {
        self.sources.is_empty() || self.sources.len(family) > 0
    }

    /// The sources in the scope.
    pub fn scope(&self) -> AddressSet {
        let of = |set: &PrefixSet| AddressSet::of(set.entries().iter().map(|entry| entry.value));
        let all = || AddressSet::of(Family::ALL.map(Family::whole));
        let named = if self.sources.is_empty() { all() } else { of(self.sources) };
        named.without(&of(self.excluded_sources))
    }

    /// True when a flow is in the scope. One whose source is not known is in that of no entry that names some.
    pub fn holds(&self, flow: &Flow) -> bool {
        let is_named = flow.source.is_some() || self.entry.is_none() || self.sources.is_empty();
        is_named && self.out_of_scope(flow).is_none()
    }

    /// The step that says that a flow is not in the scope; `None` when it is.
    pub fn out_of_scope(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(out) = &flow.out_interface
            && let Some(by) = keeps_out(self.out_interfaces, out)
        {
            return Some(Provenance {
                interface: by.map(|entry| entry.value.clone()),
                // Where none of the listed names matches, the list says so.
                origin: by.or(self.out_interfaces.first()).map(|entry| entry.origin.clone()),
                ..Provenance::step(Step::OutInterface)
            });
        }
        let source = flow.source?;
        if !self.sources.is_empty() && !self.sources.contains(source) {
            let origin = self.sources.entries().first().map(|entry| entry.origin.clone());
            return Some(Provenance { origin, ..Provenance::step(Step::Source) });
        }
        self.excluded_sources.find(source).map(|entry| Provenance::prefix(Step::ExcludedSource, entry))
    }
}
