//! `markMasqBit` and `externalSetMarkChain`: what no value tells alone, and what they are in the policy.

use super::diagnostic::{Lines, Problems};
use super::egress::listed_one;
use super::settings::BackendChoice;
use super::value::Located;
use crate::policy::{ForwardMark, MaskedMark, WithOrigin};
use crate::ruleset::ChainName;

pub const BIT: &str = "markMasqBit";
pub const CHAIN: &str = "externalSetMarkChain";

/// The two keys.
#[derive(Debug, Clone, Copy)]
pub struct MarkKeys<'k> {
    pub bit: Option<Located<u8>>,
    pub chain: Option<&'k Located<ChainName>>,
}

/// What they have to agree with.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'k> {
    pub exempt_marks: &'k [Located<MaskedMark>],
    pub masq_chain: &'k ChainName,
    pub backend: BackendChoice,
}

impl MarkKeys<'_> {
    /// Reports what can't be.
    pub fn validate(self, beside: Beside<'_>, sources: &[Lines<'_>], problems: &mut Problems) {
        if let (Some(bit), Some(chain)) = (self.bit, self.chain) {
            let place = bit.place.origin(sources);
            let message = format!("{BIT} is set, too ({place}); marks are set by one of them, leave the other out");
            problems.report(chain.place, CHAIN, message);
        }
        if let Some(bit) = self.bit {
            let mark = MaskedMark::of_bit(bit.value);
            let clash = beside.exempt_marks.iter().find(|exempt| exempt.value.value & mark.value != 0);
            if let Some(Located { value, place }) = clash {
                let message = format!(
                    "bit {} is {:#x}, which every packet bears that exemptMarks exempts with {value} ({}); set another bit",
                    bit.value,
                    mark.value,
                    place.origin(sources)
                );
                problems.report(bit.place, BIT, message);
            }
        }
        let Some(Located { value: chain, place }) = self.chain else { return };
        if beside.masq_chain.has_part(chain.as_str()) {
            let message =
                format!("'{chain}' is a chain of ip-masq-agent's own; name that of the program that sets marks");
            problems.report(*place, CHAIN, message);
        }
        if beside.backend == BackendChoice::Nftables {
            let message = format!(
                "backend nftables has no way into a chain of iptables; set {BIT} instead, or backend: iptables"
            );
            problems.report(*place, CHAIN, message);
        }
    }

    /// What the policy has of them.
    pub fn mark(self, sources: &[Lines<'_>]) -> Option<WithOrigin<ForwardMark>> {
        let bit = self.bit.map(|bit| Located { value: ForwardMark::Bit(bit.value), place: bit.place });
        let chain = |chain: &Located<ChainName>| {
            let value = ForwardMark::Chain(chain.value.as_str().to_owned());
            Located { value, place: chain.place }
        };
        bit.or(self.chain.map(chain)).map(|mark| listed_one(mark, sources))
    }
}
