//! What the kernel should hold, compared with what it holds, and the difference committed.
//!
//! A backend works on one family at a time, so that a failure in one never stops the other.

#![forbid(unsafe_code)]

mod drift;
mod error;
mod fingerprint;
pub mod iptables;
mod name;
pub mod nftables;
pub mod select;

pub use drift::Drift;
pub use error::{Error, ErrorKind};
pub use fingerprint::Fingerprint;
pub use name::BackendName;

use crate::policy::Family;
use crate::ruleset::{Effect, RuleId, RuleStep, Ruleset, SectionId};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::LazyLock;
use std::time::Instant;

/// What must be done to make one family of the kernel what it should be.
///
/// It owns its change, and a commit takes it: what is sent is what was planned, once.
#[derive(Debug)]
pub struct Plan {
    /// The family.
    pub family: Family,
    /// What the kernel should hold of ours, as canonical text; empty for "nothing".
    pub desired: Listing,
    /// What it holds of ours, in the same canonical text.
    pub observed: Listing,
    /// What differs, in words, for the journal; empty when nothing does. Where nothing is desired: what goes, by name.
    pub drift: Vec<Drift>,
    /// What of this host changed what is desired since the kernel was last as it should be; `None` where nothing did.
    pub follows: Option<&'static str>,
    /// No rule of ours was there that needs connection tracking: unless another program's is, tracking begins with this.
    pub begins: bool,
    /// What a commit sends; `None` when the kernel holds what it should.
    pub change: Option<Change>,
}

/// What a commit sends, in the form of the backend that planned it. Its text is what a person would type; that of a long
/// list takes longer to write than to compare, and only `run --dry-run` reads it.
#[derive(Debug)]
pub enum Change {
    /// For the programs of either iptables variant.
    Iptables(iptables::Sending),
    /// For the kernel.
    Nftables(nftables::Sending),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Iptables(sending) => sending.fmt(f),
            Change::Nftables(sending) => sending.fmt(f),
        }
    }
}

/// A text that is written when somebody reads it: of a hundred thousand elements that takes longer than to compare them,
/// and only `diff` reads it.
pub struct Listing(LazyLock<String, Box<dyn FnOnce() -> String + Send>>);

impl Listing {
    /// The text that `write` will give.
    pub fn new(write: impl FnOnce() -> String + Send + 'static) -> Self {
        Listing(LazyLock::new(Box::new(write)))
    }
}

impl Deref for Listing {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Plan {
    /// True when the kernel holds what it should and nothing would be sent.
    pub fn is_in_sync(&self) -> bool {
        self.change.is_none()
    }

    /// What would be sent, as a person can read it; empty when nothing would be.
    pub fn transaction(&self) -> String {
        self.change.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// New flows counted by our rules since they were written (nat counters count flows, not packets).
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Flows that kept their source.
    pub kept: u64,
    /// Flows that were masqueraded, or got an address of `snat`.
    pub masqueraded: u64,
    /// How many of both are of an entry of `egress`, by its number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub egress: BTreeMap<u8, u64>,
    /// Flows that forwards of `portForwards` sent on, by their number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forwards: BTreeMap<u32, u64>,
    /// How many of both each rule decided, by its [`RuleId`] as text; rules of one id are one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, u64>,
}

impl Counters {
    /// Adds what a rule counted: a flow where its verdict was given, nothing where a rule only leads on.
    fn add<Chain>(&mut self, id: RuleId, then: &Effect<Chain>, packets: u64) {
        match then {
            Effect::Return if matches!(id.step, RuleStep::LeftToHost(_)) => return,
            Effect::Return => self.kept += packets,
            Effect::Masquerade { .. } | Effect::Snat { .. } => self.masqueraded += packets,
            Effect::Dnat { .. } => {
                if let RuleStep::Forward(number) = id.step {
                    self.add_forwarded(number, packets);
                }
                return;
            }
            Effect::Goto(_) | Effect::Jump(_) | Effect::Mark(_) | Effect::Drop => return,
            Effect::SnatByRoute(none) => match *none {},
        }
        self.add_decided(id, packets);
    }

    fn add_decided(&mut self, id: RuleId, packets: u64) {
        if let SectionId::Egress(number) = id.section {
            *self.egress.entry(number).or_default() += packets;
        }
        *self.rules.entry(id.to_string()).or_default() += packets;
    }

    /// Adds flows that a forward sent to its target.
    fn add_forwarded(&mut self, number: u32, packets: u64) {
        *self.forwards.entry(number).or_default() += packets;
    }

    /// Adds flows of a section that got the source that their route prefers.
    fn add_by_route(&mut self, section: SectionId, packets: u64) {
        self.masqueraded += packets;
        self.add_decided(RuleId { section, step: RuleStep::RouteSource }, packets);
    }
}

/// Refuses to ask for more sources that routes prefer than a backend can hold.
fn limit_route_sources(family: Family, count: usize, most: usize, hint: &str) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    let message = format!(
        "snat: route-source: the {family} routes prefer different sources for {count} interfaces and destinations, more \
         than {most}{hint}; name the address in snat"
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// The rules of a chain with what they are known by: each as the planned one that it is the same as, wherever it stands.
/// What is the same as none is another program's, or of another plan.
fn identified<Rule: PartialEq, Count>(
    planned: &[(RuleId, Rule)],
    there: impl Iterator<Item = (Rule, Count)>,
) -> impl Iterator<Item = (RuleId, &Rule, Count)> {
    // Most are in the order of the plan, of tens of thousands.
    let mut next = 0;
    there.filter_map(move |(rule, count)| {
        let (before, rest) = planned.split_at(next);
        let same = rest.iter().chain(before).position(|(_, one)| *one == rule)?;
        let place = (next + same) % planned.len();
        next = place + 1;
        planned.get(place).map(|(id, rule)| (*id, rule, count))
    })
}

/// What taking everything of ours out of one family of a backend came to.
#[derive(Debug)]
pub struct Removal {
    /// The backend.
    pub backend: BackendName,
    /// The family.
    pub family: Family,
    /// What was removed, by name.
    pub result: Result<Vec<String>, Error>,
    /// What stays although it carries our name, and why; as [`Backend::notes`].
    pub notes: Vec<String>,
}

/// A way to keep a [`Ruleset`] in the kernel.
///
/// The order of use is `plan`, then `commit` of that plan, then `plan` again to see that it is really there.
pub trait Backend {
    /// Which one it is.
    fn name(&self) -> BackendName;

    /// The desired rules as text, from an empty kernel. Pure: no privileges, no IO.
    fn render(&self, desired: &Ruleset) -> String;

    /// Compares the kernel with what is desired; `None` desires that nothing of ours is there, leftovers of other
    /// chain names and of the Go agents included. Reads only.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] when the names are somebody else's; others when the kernel can't be read.
    fn plan(&mut self, family: Family, desired: Option<&Ruleset>) -> Result<Plan, Error>;

    /// Sends what a plan of this backend said. A refused transaction leaves the old state whole.
    ///
    /// # Errors
    /// Whatever the tool or the kernel said, sorted into an [`ErrorKind`].
    fn commit(&mut self, plan: Plan) -> Result<(), Error>;

    /// As [`Backend::commit`], until a moment or a little longer: what is left of the plan is to be sent before anything
    /// else is asked of the backend, or to be abandoned.
    ///
    /// # Errors
    /// As that.
    fn commit_until(&mut self, plan: Plan, _: Instant) -> Result<Option<Plan>, Error> {
        self.commit(plan).map(|()| None)
    }

    /// Takes back what was sent of a plan of which this is left.
    fn abandon(&mut self, _: Plan) {}

    /// Reads what moves when rules move: microseconds, no child process.
    ///
    /// # Errors
    /// When the kernel can't be asked; the caller then has to plan.
    fn fingerprint(&mut self) -> Result<Fingerprint, Error>;

    /// Reads what moves when our own rules move and does not when others change theirs: to be asked once the
    /// fingerprint has moved. Microseconds, no child process.
    ///
    /// # Errors
    /// When the kernel can't be asked; the caller then has to plan.
    fn own_fingerprint(&mut self) -> Result<Fingerprint, Error>;

    /// As [`Backend::fingerprint`], and what that one is blind to: rules replaced by others of the same size. For a
    /// resync; no child process.
    ///
    /// # Errors
    /// As [`Backend::fingerprint`].
    fn content_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.fingerprint()
    }

    /// Reads what no other fingerprint tells of: members of sets replaced by others. Empty where none can be. For a resync;
    /// tens of milliseconds for very long lists, no child process.
    ///
    /// # Errors
    /// As [`Backend::fingerprint`].
    fn member_fingerprint(&mut self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint::default())
    }

    /// True when the sets that the last plan wanted hold what the ruleset wants: those of destinations, where they are
    /// long, of these alone. Milliseconds.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn sets_hold(&mut self, _ruleset: &Ruleset, _destinations: &[IpAddr]) -> Result<bool, Error> {
        Ok(true)
    }

    /// When what was taken on trust since the last plan has to be read: until then another program may have replaced
    /// members of a long set by as many others unseen. `None` while nothing is in doubt. From that moment on
    /// [`Backend::content_fingerprint`] is an error, and the next plan reads.
    fn doubted_until(&self) -> Option<Instant> {
        None
    }

    /// What the next process needs to take over at once what can't be read in reasonable time; `None` where everything
    /// can, where nothing is known for sure, or where nobody has committed since it was asked for last.
    fn memory(&mut self) -> Option<String> {
        None
    }

    /// Takes that of an earlier process.
    fn remember(&mut self, _: &str) {}

    /// What the administrator should know of the last plan of a family although nothing failed: a tool that is missing, a
    /// leftover that could not be taken away. Stable texts, so that each can be said once.
    fn notes(&self, _: Family) -> Vec<String> {
        Vec::new()
    }

    /// New flows kept and masqueraded, as the rules of the last plan counted them.
    ///
    /// # Errors
    /// When the kernel can't be read.
    fn counters(&mut self, family: Family) -> Result<Counters, Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_by_what_it_is_wherever_it_stands() {
        let id = |number| RuleId { section: SectionId::Forwards, step: RuleStep::Forward(number) };
        let planned = [(id(1), "one"), (id(2), "two"), (id(3), "three")];
        let found = |there: &[&'static str]| -> Vec<_> {
            let counted = there.iter().copied().zip(10..);
            identified(&planned, counted).map(|(id, _, count)| (id.to_string(), count)).collect()
        };
        let known = |number: u32, count| (format!("forwards-{number}"), count);
        assert_eq!(found(&["one", "two", "three"]), [known(1, 10), known(2, 11), known(3, 12)]);
        assert_eq!(found(&["other", "two", "other"]), [known(2, 11)]);
        assert_eq!(found(&["three", "one"]), [known(3, 10), known(1, 11)]);
        assert_eq!(identified(&[], ["one"].into_iter().zip(10..)).count(), 0);
    }
}
