//! What a flow gets: the steps of the policy are asked in their order.

use super::prefix::{LIMITED_BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6};
use super::{
    Evaluation, Family, Flow, Forward, ForwardMark, Policy, Prefix, Protocol, Provenance, Section, Snat, Step, Verdict,
    WithOrigin,
};

impl Policy {
    /// What happens to a flow, and who said so. First match wins.
    pub fn verdict(&self, flow: &Flow) -> (Verdict, Provenance) {
        let family = Family::of(flow.destination);
        if !self.enables(family) {
            return (Verdict::Return, Provenance::step(Step::FamilyDisabled));
        }
        if let Some(provenance) = self.forwarded(flow) {
            let translates = provenance.step.translates();
            return (if translates { Verdict::Masquerade } else { Verdict::Return }, provenance);
        }
        if let Some(provenance) = self.exempt_from_all(flow) {
            return (Verdict::Return, provenance);
        }
        let section = self.sections().find(|section| section.holds(flow)).unwrap_or(self.top());
        let decided = self.decide(&section, flow);
        let translates = decided.step.translates();
        let verdict =
            if translates { section.snat.value.verdict(family, flow.preferred_source) } else { Verdict::Return };
        let entry = section.entry.map(|entry| WithOrigin { value: entry.name.clone(), origin: entry.origin.clone() });
        (verdict, Provenance { entry, snat: translates.then(|| section.snat.clone()), ..decided })
    }

    /// What becomes of a flow that one of the forwards led to its target; `None` for all others.
    fn forwarded(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(marked) = self.marked(flow) {
            return Some(marked);
        }
        let port = flow.destination_port.filter(|_| flow.dnated)?;
        let forwards = || self.forwards_to(flow.destination, flow.protocol, port);
        let first = forwards().next()?;
        let by =
            |forward: &Forward, step| Provenance { origin: Some(forward.origin.clone()), ..Provenance::step(step) };
        let hidden = forwards().filter_map(|forward| Some((forward, forward.hides(flow)?)));
        // Where several lead to one target, what `localhost` says comes first.
        let hidden = hidden.min_by_key(|(_, (step, _))| *step);
        Some(match (hidden, self.forward_mark.as_ref().map(|mark| &mark.value)) {
            (Some((forward, (step, prefix))), None) => Provenance { prefix, ..by(forward, step) },
            (Some((forward, (_, prefix))), Some(ForwardMark::Chain(_))) => {
                Provenance { prefix, ..by(forward, Step::ForwardExternalMark) }
            }
            (None, _) | (_, Some(ForwardMark::Bit(_))) => by(first, Step::Forwarded),
        })
    }

    fn exempt_from_all(&self, flow: &Flow) -> Option<Provenance> {
        if let Some(entry) = self.exempt_marks.iter().find(|entry| entry.value.matches(flow.mark)) {
            let mark = Some(entry.value);
            return Some(Provenance { mark, origin: Some(entry.origin.clone()), ..Provenance::step(Step::ExemptMark) });
        }
        let origin = Some(self.exempt_ipsec.origin.clone());
        (self.exempt_ipsec.value && flow.ipsec).then(|| Provenance { origin, ..Provenance::step(Step::ExemptIpsec) })
    }

    fn decide(&self, section: &Section<'_>, flow: &Flow) -> Provenance {
        let no_snat = || {
            let origin = Some(section.snat.origin.clone());
            (section.snat.value == Snat::Nothing).then(|| Provenance { origin, ..Provenance::step(Step::NoSnat) })
        };
        section
            .out_of_scope(flow)
            .or_else(no_snat)
            .or_else(|| self.guarded(flow))
            .or_else(|| self.destination(section, flow))
            .unwrap_or(Provenance::step(Step::Otherwise))
    }

    fn guarded(&self, flow: &Flow) -> Option<Provenance> {
        if self.masq_local_source {
            return None;
        }
        let step = if flow.source_on_out_interface {
            Step::LocalSourceOnOutInterface
        } else if flow.source_is_local && flow.protocol == Protocol::Tcp && !flow.opens_connection {
            Step::MidStream
        } else if flow.bridged {
            Step::Bridged
        } else {
            return None;
        };
        Some(Provenance::step(step))
    }

    fn destination(&self, section: &Section<'_>, flow: &Flow) -> Option<Provenance> {
        let exception = section.exceptions.find(flow.destination);
        let exempt = section.exempt.find(flow.destination);
        let longest = self.evaluation == Evaluation::LongestPrefix;
        let overruled = |exception: &WithOrigin<Prefix>, exempt: &WithOrigin<Prefix>| {
            longest && exempt.value.length() > exception.value.length()
        };
        match (exception, exempt) {
            (Some(exception), Some(exempt)) if overruled(exception, exempt) => self.range(flow),
            (Some(exception), _) => Some(Provenance::prefix(Step::Exception, exception)),
            (None, _) => self.range(flow),
        }
        .or_else(|| exempt.map(|entry| Provenance::prefix(Step::Exempt, entry)))
    }

    fn range(&self, flow: &Flow) -> Option<Provenance> {
        let link_local = self.link_local(Family::of(flow.destination)).map(|prefix| (Step::LinkLocal, prefix));
        let multicast = self.multicast(Family::of(flow.destination)).iter().map(|prefix| (Step::Multicast, *prefix));
        link_local
            .into_iter()
            .chain(multicast)
            .find(|(_, prefix)| prefix.contains(flow.destination))
            .map(|(step, prefix)| Provenance::range(step, prefix))
    }

    /// The link-local range of a family that keeps its source under this policy. `fixed_ranges` in `ruleset/build.rs` makes
    /// rules of it.
    pub fn link_local(&self, family: Family) -> Option<Prefix> {
        match family {
            Family::V4 => (!self.masq_link_local).then_some(LINK_LOCAL_V4),
            Family::V6 => (!self.masq_link_local_ipv6).then_some(LINK_LOCAL_V6),
        }
    }

    /// The multicast and broadcast ranges of a family that keep their source under this policy. `fixed_ranges` in
    /// `ruleset/build.rs` makes rules of them.
    pub fn multicast(&self, family: Family) -> &'static [Prefix] {
        match family {
            _ if self.masq_multicast => &[],
            Family::V4 => &[MULTICAST_V4, LIMITED_BROADCAST],
            Family::V6 => &[MULTICAST_V6],
        }
    }
}
