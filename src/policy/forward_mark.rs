//! How forwarded connections are marked whose source is to be translated (`markMasqBit`, `externalSetMarkChain`).

use super::{Family, Flow, Forward, MaskedMark, Policy, Prefix, Provenance, Step};
use std::net::IpAddr;

/// What marks them, before they are routed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ForwardMark {
    /// Our own rules set this bit, from 0 to 31, and leave the others; what bears it is masqueraded.
    Bit(u8),
    /// A chain of this name in the nat table of iptables, which another program keeps and which marks as it likes: that
    /// program translates what bears its mark.
    Chain(String),
}

impl ForwardMark {
    /// The bit as a mark; `None` where only another program knows it.
    pub fn bit(&self) -> Option<MaskedMark> {
        match self {
            ForwardMark::Bit(bit) => Some(MaskedMark::of_bit(*bit)),
            ForwardMark::Chain(_) => None,
        }
    }
}

impl Forward {
    /// Why the target must not see the client of a flow that came this way: the step, and of `hairpin` the range.
    pub fn hides(&self, flow: &Flow) -> Option<(Step, Option<Prefix>)> {
        let is_loopback = matches!(flow.source, Some(IpAddr::V4(source)) if source.is_loopback());
        if is_loopback && self.localhost {
            return Some((Step::ForwardLocalhost, None));
        }
        self.hairpin_of(flow).map(|prefix| (Step::ForwardHairpin, Some(prefix)))
    }
}

impl Policy {
    /// The mark that a flow bears behind routing when this forward took it.
    pub fn mark_behind(&self, forward: &Forward, flow: &Flow) -> u32 {
        let bit = self.forward_mark.as_ref().and_then(|mark| mark.value.bit());
        bit.filter(|_| forward.hides(flow).is_some()).map_or(flow.mark, |bit| flow.mark | bit.value)
    }

    /// The mark that a flow bears behind routing which a forward has led to where it goes. Which of them it was is not
    /// known: what any of them asks for is done.
    pub fn mark_behind_forwards(&self, flow: &Flow) -> u32 {
        let port = flow.destination_port.filter(|_| flow.dnated);
        let led = port.into_iter().flat_map(|port| self.forwards_to(flow.destination, flow.protocol, port));
        led.fold(flow.mark, |mark, forward| mark | self.mark_behind(forward, flow))
    }

    /// What the mark of a flow says, whoever set it.
    pub(super) fn marked(&self, flow: &Flow) -> Option<Provenance> {
        let listed = self.forward_mark.as_ref()?;
        let mark = listed.value.bit().filter(|mark| mark.matches(flow.mark))?;
        let family = Family::of(flow.destination);
        let is_asked = self.forwards.iter().any(|forward| forward.serves(family));
        let origin = Some(listed.origin.clone());
        is_asked.then(|| Provenance { mark: Some(mark), origin, ..Provenance::step(Step::ForwardMark) })
    }
}
