//! The backend at work: what the agent wants of the kernel is done here, one family at a time.

use super::child::Children;
use super::nfnetlink::{RuleEvent, RuleEvents};
use super::{leftovers, view};
use crate::agent::{Chosen, Culprit, Outcome};
use crate::backend::select::{self, Choice};
use crate::backend::{Backend, BackendName, Cleared, Counters, Error, ErrorKind, Fingerprint, Plan};
use crate::config::{Config, Settings};
use crate::policy::Family;
use crate::ruleset::Ruleset;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// The backend that was chosen, and the listener for what others do to its rules.
#[derive(Default)]
pub struct Kernel {
    /// With the settings it was made for: another chain name or owner needs another one.
    backend: Option<(Settings, Box<dyn Backend>)>,
    events: Option<RuleEvents>,
    /// Why the listener was lost, until somebody asks what it heard.
    lost: Option<String>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.backend.as_ref().map(|(_, backend)| backend.name());
        f.debug_struct("Kernel").field("backend", &name).field("events", &self.events).finish()
    }
}

impl Kernel {
    /// Chooses a backend for these settings.
    ///
    /// # Errors
    /// When there is none that works.
    pub fn choose(&mut self, settings: &Settings) -> Result<Chosen, Error> {
        let Choice { backend, reason } = select::choose(settings, Children)?;
        let name = backend.name();
        self.backend = Some((settings.clone(), backend));
        Ok(Chosen { name, reason })
    }

    fn chosen(&mut self) -> Result<&mut dyn Backend, Error> {
        match &mut self.backend {
            Some((_, backend)) => Ok(backend.as_mut()),
            None => Err(none_chosen()),
        }
    }

    /// The backend for these settings: the one that was chosen, made anew where it was made for other settings.
    fn backend(&mut self, settings: &Settings) -> Result<&mut dyn Backend, Error> {
        let (made_for, backend) = self.backend.as_ref().ok_or_else(none_chosen)?;
        if made_for.masq_chain != settings.masq_chain || made_for.table_owner != settings.table_owner {
            let pinned = Settings { backend: backend.name().into(), ..settings.clone() };
            let choice = select::choose(&pinned, Children)?;
            // The old one goes before the new one writes: its table may have one owner only.
            self.backend = Some((pinned, choice.backend));
        }
        self.chosen()
    }

    /// Makes one family what the configuration says, and reads it again to see that it is.
    ///
    /// # Errors
    /// What the backend said; [`ErrorKind::Busy`] when somebody changed the rules again while they were verified.
    pub fn reconcile(&mut self, family: Family, config: &Config) -> Result<Outcome, Error> {
        let begun = Instant::now();
        let facts = view::facts();
        let desired = Ruleset::new(&config.policy, family, config.settings.jump_position, facts);
        self.backend(&config.settings)?;
        // Read before the rules are: what moves them later moves it too.
        let (mut fingerprint, mut contents) = (self.fingerprint(), self.contents());
        let plan = self.chosen()?.plan(family, desired.as_ref())?;
        let in_sync = plan.is_in_sync();
        if !in_sync {
            self.commit(&plan)?;
            (fingerprint, contents) = (self.fingerprint(), self.contents());
            let verified = self.chosen()?.plan(family, desired.as_ref())?;
            if !verified.is_in_sync() {
                let drift = verified.drift.join(", ");
                let message = format!("the {family} rules are not what was just written: {drift}");
                return Err(Error::new(ErrorKind::Busy, message));
            }
        }
        Ok(Outcome {
            written: (!in_sync).then_some(plan.drift),
            fingerprint,
            contents,
            notes: self.chosen()?.notes(),
            bridged: facts.bridged(family),
            took: begun.elapsed(),
        })
    }

    /// The kernel need not tell us what we do ourselves; a listener slows large commits.
    fn commit(&mut self, plan: &Plan) -> Result<(), Error> {
        let left = self.events.as_mut().is_some_and(|events| events.leave().is_ok());
        let committed = self.chosen().and_then(|backend| backend.commit(plan));
        if left && let Some(Err(error)) = self.events.as_mut().map(RuleEvents::join) {
            self.events = None;
            self.lost = Some(format!("can't join the nf_tables group again: {error}"));
        }
        committed
    }

    /// What [`Kernel::reconcile`] would send, without sending it.
    ///
    /// # Errors
    /// What the backend said.
    pub fn plan(&mut self, family: Family, config: &Config) -> Result<Plan, Error> {
        let desired = Ruleset::new(&config.policy, family, config.settings.jump_position, view::facts());
        self.backend(&config.settings)?.plan(family, desired.as_ref())
    }

    /// What moves when rules, or facts of the host that shape them, move; `None` when the kernel can't be asked.
    pub fn fingerprint(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.fingerprint().ok().map(with_facts)
    }

    /// The same with what the fingerprint is blind to.
    pub fn contents(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.content_fingerprint().ok().map(with_facts)
    }

    /// New flows as our rules counted them.
    pub fn counters(&mut self, family: Family) -> Option<Counters> {
        self.chosen().ok()?.counters(family).ok()
    }

    /// Takes everything of ours out of the chosen backend.
    pub fn flush(&mut self) -> Vec<Cleared> {
        let Ok(backend) = self.chosen() else { return Vec::new() };
        Family::ALL.map(|family| leftovers::clear_family(backend, family)).into()
    }

    /// Takes everything of ours out of the backends that are not the chosen one.
    pub fn clear_others(&self) -> Vec<Cleared> {
        let Some((settings, backend)) = &self.backend else { return Vec::new() };
        let others = BackendName::ALL.into_iter().filter(|name| *name != backend.name());
        others.flat_map(|name| leftovers::clear_unused(settings, name)).collect()
    }

    /// Listens to what others do to the rules, or stops listening.
    ///
    /// # Errors
    /// Why that is not to be had.
    pub fn watch(&mut self, wanted: bool) -> Result<(), String> {
        (self.events, self.lost) = (None, None);
        if wanted {
            let events = RuleEvents::open().map_err(|error| format!("can't join the nf_tables group: {error}"))?;
            self.events = Some(events);
        }
        Ok(())
    }

    /// What to poll for, while events are listened to.
    pub fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// True when there is a loss to be told by [`Kernel::moved`], for which nothing polls.
    pub fn has_lost_events(&self) -> bool {
        self.lost.is_some()
    }

    /// Who moved the rules since the last time, the last one first to blame; the outer `None` when nobody did.
    ///
    /// # Errors
    /// When the listener is broken; it is gone then.
    pub fn moved(&mut self) -> Result<Option<Option<Culprit>>, String> {
        if let Some(why) = self.lost.take() {
            return Err(why);
        }
        let Some(events) = &mut self.events else { return Ok(None) };
        match events.read() {
            Ok(events) if events.is_empty() => Ok(None),
            Ok(events) => Ok(Some(events.iter().rev().find_map(culprit))),
            Err(error) => {
                self.events = None;
                Err(format!("reading rule events failed: {error}"))
            }
        }
    }
}

fn with_facts(mut fingerprint: Fingerprint) -> Fingerprint {
    let facts = view::facts();
    fingerprint.0.push(u64::from(facts.bridged_ipv4) | u64::from(facts.bridged_ipv6) << 1);
    fingerprint
}

fn none_chosen() -> Error {
    Error::new(ErrorKind::Other, "no backend is chosen")
}

/// The program that committed. A caller hides behind iptables and nft, which are gone in a moment: where they are
/// still there, it is their parent that says more.
fn culprit(event: &RuleEvent) -> Option<Culprit> {
    let program = event.program.clone()?;
    let pid = event.pid.filter(|_| processes_are_numbered_as_in_the_kernel());
    let is_tool = ["iptables", "ip6tables", "xtables", "nft", "ebtables", "arptables"]
        .iter()
        .any(|tool| program.starts_with(tool));
    let caller = if is_tool { pid.and_then(|pid| parent(pid, &program)) } else { None };
    Some(Culprit { program, pid, caller })
}

/// Not in a container: rule events number processes as the first namespace does, PROC_PID_INIT_INO of linux/proc_ns.h.
fn processes_are_numbered_as_in_the_kernel() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == "pid:[4026531836]")
}

/// `NAME[PID]` of the parent of a process, unless its number is another program's already.
fn parent(pid: u32, program: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let name = status.lines().find_map(|line| line.strip_prefix("Name:"))?.trim();
    if name != program {
        return None;
    }
    let parent: u32 = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    Some(format!("{}[{parent}]", name.trim()))
}
