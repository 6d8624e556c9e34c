//! The backend at work: what the agent wants of the kernel is done here, one family at a time.
//!
//! [`Enforcer::reconcile`] makes the kernel right, [`Enforcer::check`] sees whether that is still so, and
//! [`Enforcer::read_events`] is told of commits by others.

use super::foreign_nat::keepers::{self, Ours};
use super::sysctl::{Setting, SysctlError, Sysctls};
use super::{notify, process, stale_rules, view, written};
use crate::agent::{AfterStop, ChangedBy, Checked, Chosen, Depth, Outcome, Search};
use crate::backend::nftables::fast_path::{self, FastPath};
use crate::backend::select::{self, Choice};
use crate::backend::{Backend, BackendName, Counters, Drift, Error, ErrorKind, Fingerprint, Plan, Removal};
use crate::config::{Config, Settings};
use crate::policy::Family;
use crate::ruleset::{HostFacts, NetworkFacts, Ruleset};
use crate::sys::child::BoundedChildren;
use crate::sys::nfnetlink::{Nfnetlink, RuleEvent, RuleEvents};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of so many programs that committed since the last time the callers are looked up.
const MOST_NAMED: usize = 8;
/// A plan of very many transactions is sent for so long before whoever can't wait is served.
const UNTIL_SERVED: Duration = Duration::from_millis(250);

/// The backend that was chosen, and the listener for what others do to its rules.
#[derive(Default)]
pub struct Enforcer {
    /// With the settings it was made for: another chain name or owner needs another one.
    backend: Option<(Settings, Box<dyn Backend>)>,
    /// Runs the programs of every backend, those of one piece of work to one end.
    children: BoundedChildren,
    events: Option<RuleEvents>,
    /// Why the listener was lost, until somebody asks what it heard.
    lost: Option<EventsError>,
    /// Families whose first rules were written and have not been seen to be right yet.
    begun: BTreeSet<Family>,
    /// The kernel as each family was last seen to, whatever came of it.
    seen: BTreeMap<Family, Seen>,
    sysctls: Sysctls,
    /// Whether they were in place when the rules were last seen to, as far as they can be.
    sysctls_stood: bool,
    fast_path: FastPath,
    /// Asks about rules that are not the backend's.
    netlink: Option<Nfnetlink>,
    /// Our rules as they were when `route_localnet` was last guarded by them.
    guarded: Option<Fingerprint>,
    /// What of the network the rules of each family were last made for.
    made_for: BTreeMap<Family, Arc<NetworkFacts>>,
    /// Nobody had changed our rules when the last work on IPv4 began.
    untouched: bool,
    /// What goes on the next time.
    unfinished: Option<Work>,
}

/// One family on its way to what is wanted.
#[derive(Debug)]
struct Work {
    family: Family,
    begun: Instant,
    facts: HostFacts,
    desired: Option<Ruleset>,
    sysctls: BTreeSet<Setting>,
    notes: Vec<String>,
    /// As [`Outcome::by`] and [`Outcome::follows`].
    by: Vec<ChangedBy>,
    follows: Option<&'static str>,
    /// What was to be changed, in words, and what is left to be sent of it.
    change: Option<(Vec<Drift>, Plan)>,
}

/// What moves when something changes, as it was. `None` where the kernel could not be asked: equal to nothing.
#[derive(Debug, Default)]
struct Seen {
    /// With anybody's rules, and facts of the host that shape ours.
    rules: Option<Fingerprint>,
    /// With our own rules, and those facts.
    own: Option<Fingerprint>,
    /// With what the first is blind to, but for members of sets.
    contents: Option<Fingerprint>,
    /// With these.
    members: Option<Fingerprint>,
}

impl Seen {
    fn is(known: &Option<Fingerprint>, now: &Option<Fingerprint>) -> bool {
        known.is_some() && known == now
    }
}

impl fmt::Debug for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.backend.as_ref().map(|(_, backend)| backend.name());
        f.debug_struct("Enforcer").field("backend", &name).field("events", &self.events).finish()
    }
}

impl Enforcer {
    /// The same, and the service manager is told while programs have much to do.
    pub fn of_the_service() -> Self {
        Enforcer { children: BoundedChildren::telling(notify::still_working), ..Enforcer::default() }
    }

    /// A piece of work begins: the programs that it runs have ended, or are killed, by then.
    pub fn end_by(&self, end: Instant) {
        self.children.end_by(end);
    }

    /// When the service manager was last told that programs have much to do.
    pub fn told_of_progress(&self) -> Option<Instant> {
        self.children.told()
    }

    /// Chooses a backend for these settings; with an error another one in the place of iptables, which `auto` had chosen
    /// and which failed like this.
    ///
    /// # Errors
    /// When there is none that works.
    pub fn choose(&mut self, settings: &Settings, unusable: Option<&Error>) -> Result<Chosen, Error> {
        let Choice { backend, reason } = match unusable {
            Some(failure) => select::instead_of_iptables(settings, failure)?,
            None => select::choose(settings, self.children.clone())?,
        };
        let name = backend.name();
        self.backend = Some((settings.clone(), recalling(backend)));
        Ok(Chosen { name, setting: settings.backend, reason })
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
            let choice = select::choose(&pinned, self.children.clone())?;
            // The old one goes before the new one writes: its table may have one owner only.
            self.backend = Some((pinned, recalling(choice.backend)));
        }
        self.chosen()
    }

    /// Makes one family what the configuration says on a host with this network, and reads it again to see that it is.
    /// `None` where that takes longer than others can wait: the next time, for the same family, it goes on.
    ///
    /// # Errors
    /// What the backend said; [`ErrorKind::Busy`] when somebody changed the rules again while they were verified.
    pub fn reconcile(
        &mut self,
        family: Family,
        config: &Config,
        network: &Arc<NetworkFacts>,
    ) -> Result<Option<Outcome>, Error> {
        let result = match self.enforce(family, config, network) {
            Err(error) if self.is_no_matter(family, config, &error) => Ok(Some(Outcome::nothing())),
            result => result,
        };
        match &result {
            Ok(None) => return result,
            Ok(_) if family == Family::V4 => self.guard_stands(),
            Err(_) if family == Family::V4 => self.put_back_unguarded(),
            Ok(Some(Outcome { written: Some(_), .. })) => self.see_again(Family::V4, config, network),
            _ => {}
        }
        self.sysctls_stood = self.sysctls.is_in_place();
        result
    }

    fn enforce(
        &mut self,
        family: Family,
        config: &Config,
        network: &Arc<NetworkFacts>,
    ) -> Result<Option<Outcome>, Error> {
        let work = match self.unfinished.take_if(|work| work.family == family) {
            Some(work) => work,
            None => {
                self.abandon();
                self.begin(family, config, network)?
            }
        };
        self.go_on(work, config, network)
    }

    /// A family in which the configuration wants no rules, on a host that can't have any, and has none.
    fn is_no_matter(&mut self, family: Family, config: &Config, error: &Error) -> bool {
        let Some(name) = self.backend.as_ref().map(|(_, backend)| backend.name()) else { return false };
        error.is_the_hosts()
            && !config.policy.enables(family)
            && !self.shows_ours(config, name, family).unwrap_or(false)
    }

    fn begin(&mut self, family: Family, config: &Config, network: &Arc<NetworkFacts>) -> Result<Work, Error> {
        let begun = Instant::now();
        let facts = view::facts(network.clone());
        let desired = desired(config, family, &facts);
        self.backend(&config.settings)?;
        let (sysctls, missing) = self.wanted_sysctls(config, &facts);
        let mut notes = in_words(&missing);
        if family == Family::V4 {
            // While the guard that they need is still there.
            notes.extend(in_words(&self.sysctls.put_back_except(&sysctls)));
            self.keep_guard(config, &notes)?;
        }
        let follows = self.follows_network(family, network);
        // Before the rules are read: what moves them later moves it too.
        self.see(family);
        let plan = self.chosen()?.plan(family, desired.as_ref())?;
        if family == Family::V4 && !plan.is_in_sync() {
            self.put_back_unguarded();
        }
        if !plan.is_in_sync() && plan.begins && desired.is_some() {
            self.begun.insert(family);
        }
        // Whoever committed while the family before was made right may have changed this one.
        let by = if family == Family::V4 || plan.is_in_sync() { Vec::new() } else { self.heard() };
        let follows = plan.follows.or(follows);
        let change = (!plan.is_in_sync()).then(|| (plan.drift.clone(), plan));
        Ok(Work { family, begun, facts, desired, sysctls, notes, by, follows, change })
    }

    /// The host's network, where it alone can have made rules wrong: they are as they were left. Those of IPv6 are as IPv4
    /// was left, which comes before.
    fn follows_network(&mut self, family: Family, network: &Arc<NetworkFacts>) -> Option<&'static str> {
        if !self.seen.contains_key(&family) {
            self.untouched = false;
            return None;
        }
        let own = self.own_fingerprint();
        let stands = self.seen.get(&Family::V4).is_some_and(|seen| Seen::is(&seen.own, &own));
        self.untouched = stands && (family == Family::V4 || self.untouched);
        let is_new = self.made_for.get(&family).is_some_and(|made_for| made_for != network);
        (is_new && self.untouched).then_some("the host's addresses and routes")
    }

    fn go_on(
        &mut self,
        mut work: Work,
        config: &Config,
        network: &Arc<NetworkFacts>,
    ) -> Result<Option<Outcome>, Error> {
        let mut written = None;
        if let Some((drift, plan)) = work.change.take() {
            if let Some(rest) = self.commit(plan)? {
                notify::still_working();
                work.change = Some((drift, rest));
                self.unfinished = Some(work);
                return Ok(None);
            }
            written = Some(drift);
        }
        let Work { family, begun, facts, desired, sysctls, mut notes, by, follows, .. } = work;
        if family == Family::V4 {
            match self.make_fast_path(config, network) {
                Ok(words) if words.is_empty() => {}
                Ok(words) => written.get_or_insert_default().extend(words.into_iter().map(Drift::Own)),
                // What can't be looked for where nobody wants it is no news.
                Err(_) if config.policy.fast_path.is_empty() => {}
                Err(error) => notes.push(format!("fastPath has no effect: {error}")),
            }
        }
        if written.is_some() {
            self.see(family);
            let verified = self.chosen()?.plan(family, desired.as_ref())?;
            if !verified.is_in_sync() {
                let drift = Drift::join(&verified.drift);
                let message = format!("the {family} rules are not what was just written: {drift}");
                return Err(Error::new(ErrorKind::Busy, message));
            }
        }
        let off = self.sysctls.switched_off();
        notes.extend(in_words(&self.sysctls.set(family, &sysctls)));
        let still_off = self.sysctls.switched_off();
        let again = off.iter().filter(|setting| sysctls.contains(setting) && !still_off.contains(setting));
        let again = again.map(|setting| self.sysctls.name(*setting)).collect();
        // Where nothing is wanted and nothing was found, a missing program is no news.
        if desired.is_some() || written.is_some() {
            notes.extend(self.chosen()?.notes(family));
        }
        self.chosen()?.memory().iter().for_each(|text| written::write(text));
        self.made_for.insert(family, network.clone());
        let took = begun.elapsed();
        let began_tracking = self.begun.remove(&family) && self.tracks_for_us_alone(family);
        let bridged = facts.bridged(family);
        Ok(Some(Outcome { written, notes, by, follows, sysctls: again, bridged, began_tracking, took }))
    }

    /// Takes back what is unfinished.
    pub fn abandon(&mut self) {
        if let Some(Work { change: Some((_, rest)), .. }) = self.unfinished.take() {
            self.without_events(|enforcer| enforcer.chosen().map(|backend| backend.abandon(rest))).ok();
        }
    }

    /// One table for both families. The policy holds without it: a failure is told and nothing else.
    fn make_fast_path(&mut self, config: &Config, network: &NetworkFacts) -> Result<Vec<String>, Error> {
        let wanted = fast_path::Wanted::of(&config.policy, &network.interfaces);
        let differences = self.fast_path.differences(wanted.as_ref());
        if differences.as_ref().is_ok_and(Vec::is_empty) {
            return differences;
        }
        self.without_events(|enforcer| enforcer.fast_path.enforce(wanted.as_ref()))
    }

    /// What of the fast path is not as a configuration wants it.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn wrong_fast_path(&mut self, config: &Config, network: &NetworkFacts) -> Result<Vec<String>, Error> {
        self.fast_path.differences(fast_path::Wanted::of(&config.policy, &network.interfaces).as_ref())
    }

    /// Why the kernel would not take the fast path of a configuration; nothing is written.
    pub fn no_fast_path(&mut self, config: &Config, network: &NetworkFacts) -> Option<Error> {
        self.fast_path.probe(&fast_path::Wanted::of(&config.policy, &network.interfaces)?).err()
    }

    /// The interfaces of the fast path, while it is there.
    pub fn fast_interfaces(&self) -> Option<BTreeSet<String>> {
        self.fast_path.interfaces()
    }

    /// True when no rule but ours makes the kernel track a family's connections.
    fn tracks_for_us_alone(&mut self, family: Family) -> bool {
        let after = self.after_stop(&[family]).unwrap_or_default();
        after.0.iter().any(|(_, keepers)| keepers.as_ref().is_ok_and(|keepers| keepers.tracking.is_none()))
    }

    /// The sysctls that a configuration wants set, and why not all of them can be.
    fn wanted_sysctls(&self, config: &Config, facts: &HostFacts) -> (BTreeSet<Setting>, Vec<SysctlError>) {
        let interfaces = loopback_leaves(config, facts);
        // Through one that has just gone nothing leaves, and the network is about to say so.
        let there = interfaces.iter().filter(|interface| view::interface_index(interface).is_some());
        let found = there.map(|interface| self.sysctls.route_localnet(interface));
        let (found, missing): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
        let mut wanted: BTreeSet<Setting> = found.into_iter().flatten().collect();
        if config.settings.manage_sysctl {
            let served = Family::ALL.into_iter().filter(|family| config.policy.enables(*family));
            wanted.extend(served.map(Setting::Forwarding));
        }
        (wanted, missing.into_iter().filter_map(Result::err).collect())
    }

    /// Fails where the configuration wants no guard any more and what it guards could not be put back.
    fn keep_guard(&self, config: &Config, failures: &[String]) -> Result<(), Error> {
        let is_needed = config.policy.forwards.iter().any(|forward| forward.localhost);
        if is_needed || !self.sysctls.exposes_loopback() {
            return Ok(());
        }
        let failures = failures.join("; ");
        let message = format!("the rules stay, and with them what guards loopback addresses: {failures}");
        Err(Error::new(ErrorKind::Other, message))
    }

    /// Where our rules are not what they were when they were last right, the guard may be gone: nothing that needs it
    /// outlasts that, however long it takes to write it again.
    fn put_back_unguarded(&mut self) {
        if !self.sysctls.exposes_loopback() {
            return;
        }
        let own = self.own_fingerprint();
        if own.is_none() || own != self.guarded {
            // Where that fails, the rules are what can still be made right.
            let _ = self.sysctls.put_back_route_localnet();
        }
    }

    /// What of the host's sysctls is not as a configuration wants it.
    pub fn wrong_sysctls(&mut self, config: &Config, network: &Arc<NetworkFacts>) -> Vec<String> {
        let (wanted, missing) = self.wanted_sysctls(config, &view::facts(network.clone()));
        let mut found = in_words(&missing);
        found.extend(self.sysctls.differences(&wanted));
        found
    }

    /// What of the sysctls that were set somebody has switched off since.
    pub fn sysctls_off(&self) -> Vec<String> {
        self.sysctls.switched_off().into_iter().map(|setting| self.sysctls.missing(setting)).collect()
    }

    /// The sysctls that are set by us.
    pub fn set_sysctls(&self) -> Vec<String> {
        self.sysctls.told()
    }

    /// Our own commit for another family moved what this one is known by. Where its rules are what they should be, that is
    /// no news.
    fn see_again(&mut self, family: Family, config: &Config, network: &Arc<NetworkFacts>) {
        let Some(before) = self.seen.remove(&family) else { return };
        self.see(family);
        match self.plan(family, config, network) {
            Ok(plan) if plan.is_in_sync() => self.guard_stands(),
            _ => drop(self.seen.insert(family, before)),
        }
    }

    /// The IPv4 rules are right as they were last seen, and with them the guard.
    fn guard_stands(&mut self) {
        self.guarded = self.seen.get(&Family::V4).and_then(|seen| seen.own.clone());
    }

    fn see(&mut self, family: Family) {
        let (rules, own) = (self.fingerprint(), self.own_fingerprint());
        let (contents, members) = (self.contents(), self.members());
        self.seen.insert(family, Seen { rules, own, contents, members });
    }

    /// Sees whether anything of ours moved since the families were last seen to.
    pub fn check(&mut self, depth: Depth, config: &Config) -> Checked {
        let begun = cpu_time();
        self.seen.retain(|family, _| config.policy.enables(*family));
        let sysctls_moved = self.sysctls_stood != self.sysctls.is_in_place();
        let fast_path_moved = !self.fast_path.stands(depth == Depth::Contents);
        let rules = self.fingerprint();
        let stands = self.seen.values().all(|seen| Seen::is(&seen.rules, &rules));
        let moved = match depth {
            _ if sysctls_moved || fast_path_moved => true,
            Depth::Rules if stands => false,
            Depth::Rules => {
                let own = self.own_fingerprint();
                let moved = !self.seen.values().all(|seen| Seen::is(&seen.own, &own));
                if !moved {
                    // Somebody else's rules: not to be looked at again for the same commit.
                    self.seen.values_mut().for_each(|seen| seen.rules.clone_from(&rules));
                }
                moved
            }
            Depth::Contents => {
                let (contents, members) = (self.contents(), self.members());
                let is_seen = |seen: &Seen| Seen::is(&seen.contents, &contents) && Seen::is(&seen.members, &members);
                !self.seen.values().all(is_seen)
            }
        };
        let strays = (depth == Depth::Contents || !stands) && !self.strays(config).is_empty();
        let by = if moved || strays { self.heard() } else { Vec::new() };
        let doubted_until = self.chosen().ok().and_then(|backend| backend.doubted_until());
        Checked { moved, strays, by, doubted_until, cost: cpu_time().saturating_sub(begun) }
    }

    /// True when the kernel has what a configuration that follows no network wants, as far as it concerns flows to some
    /// destinations, and nothing else of ours: as it was seen to, with what sets hold asked again where that moves without
    /// the rules. What can't be asked is no yes.
    pub fn stands(&mut self, config: &Config, destinations: &[IpAddr]) -> bool {
        let wanted = || Family::ALL.into_iter().filter(|family| config.policy.enables(*family));
        let is_seen = |seen: &BTreeMap<Family, Seen>, is: &dyn Fn(&Seen) -> bool| {
            wanted().all(|family| seen.get(&family).is_some_and(is))
        };
        let contents = self.contents();
        let stands = is_seen(&self.seen, &|seen| Seen::is(&seen.contents, &contents))
            // What others committed may have moved nothing else.
            || contents == self.fingerprint() && is_seen(&self.seen, &|seen| Seen::is(&seen.rules, &contents));
        stands
            && wanted().all(|family| self.sets_hold(config, family, destinations))
            && self.chosen().is_ok_and(|backend| backend.doubted_until().is_none())
            && self.unwanted_each(config).all(|(name, of)| matches!(self.shows_ours(config, name, of), Ok(false)))
    }

    fn sets_hold(&mut self, config: &Config, family: Family, destinations: &[IpAddr]) -> bool {
        let there = self.seen.get(&family).and_then(|seen| seen.members.as_ref());
        if there.is_some_and(|members| members.0.is_empty()) {
            return true;
        }
        let Some(ruleset) = desired(config, family, &HostFacts::default()) else { return false };
        self.chosen().and_then(|backend| backend.sets_hold(&ruleset, destinations)).unwrap_or(false)
    }

    /// The families of each backend in which the configuration wants no rules.
    fn unwanted(&self, config: &Config) -> Vec<(BackendName, Vec<Family>)> {
        let Some((_, chosen)) = &self.backend else { return Vec::new() };
        let chosen = chosen.name();
        let unwanted = |name: BackendName| -> Vec<Family> {
            Family::ALL.into_iter().filter(|family| name != chosen || !config.policy.enables(*family)).collect()
        };
        BackendName::ALL.into_iter().map(|name| (name, unwanted(name))).collect()
    }

    fn unwanted_each(&self, config: &Config) -> impl Iterator<Item = (BackendName, Family)> + use<> {
        let each = self.unwanted(config).into_iter();
        each.flat_map(|(name, families)| families.into_iter().map(move |family| (name, family)))
    }

    /// Where rules that carry our mark show although the configuration wants none there.
    pub fn strays(&mut self, config: &Config) -> Vec<(BackendName, Family)> {
        let each = self.unwanted_each(config);
        each.filter(|(name, family)| self.shows_ours(config, *name, *family).unwrap_or(false)).collect()
    }

    fn shows_ours(&mut self, config: &Config, name: BackendName, family: Family) -> io::Result<bool> {
        stale_rules::shows_ours(&mut self.netlink, &config.settings, name, family)
    }

    /// Takes rules away that carry our mark where the configuration wants none.
    pub fn remove_strays(&mut self, config: &Config, search: Search) -> Vec<Removal> {
        // What others do meanwhile is heard unless there is something to be removed.
        if self.strays(config).is_empty() {
            return self.clear_unwanted(config, search);
        }
        self.without_events(|enforcer| enforcer.clear_unwanted(config, search))
    }

    fn clear_unwanted(&mut self, config: &Config, search: Search) -> Vec<Removal> {
        let mut cleared = Vec::new();
        let children = self.children.clone();
        for (name, families) in self.unwanted(config) {
            let Ok(chosen) = self.chosen() else { break };
            if chosen.name() != name {
                cleared.extend(stale_rules::clear_unused(&mut self.netlink, &config.settings, name, &children));
                continue;
            }
            for family in families {
                if search == Search::Thorough || self.shows_ours(config, name, family).unwrap_or(false) {
                    let Ok(chosen) = self.chosen() else { break };
                    let done = stale_rules::clear_family(chosen, family);
                    // What shows no rule does no harm, whatever is in the way of taking it away.
                    let mut shows = || self.shows_ours(config, name, family).unwrap_or(false);
                    let is_worth_a_line = done.result.is_ok() || shows();
                    cleared.extend(is_worth_a_line.then_some(done));
                }
            }
        }
        cleared
    }

    /// The kernel need not tell us what we do ourselves; a listener slows large commits.
    fn commit(&mut self, plan: Plan) -> Result<Option<Plan>, Error> {
        let until = Instant::now() + UNTIL_SERVED;
        self.without_events(|enforcer| enforcer.chosen().and_then(|backend| backend.commit_until(plan, until)))
    }

    fn without_events<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let left = self.events.as_mut().is_some_and(|events| events.leave().is_ok());
        let result = work(self);
        if left && let Some(Err(error)) = self.events.as_mut().map(RuleEvents::join) {
            self.events = None;
            self.lost = Some(EventsError::JoinAgain(error));
        }
        result
    }

    /// What [`Enforcer::reconcile`] would send, without sending it.
    ///
    /// # Errors
    /// What the backend said.
    pub fn plan(&mut self, family: Family, config: &Config, network: &Arc<NetworkFacts>) -> Result<Plan, Error> {
        let desired = desired(config, family, &view::facts(network.clone()));
        self.backend(&config.settings)?.plan(family, desired.as_ref())
    }

    fn fingerprint(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.fingerprint().ok().map(Self::with_facts)
    }

    fn own_fingerprint(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.own_fingerprint().ok().map(Self::with_facts)
    }

    fn contents(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.content_fingerprint().ok().map(Self::with_facts)
    }

    fn members(&mut self) -> Option<Fingerprint> {
        self.chosen().ok()?.member_fingerprint().ok()
    }

    fn with_facts(mut fingerprint: Fingerprint) -> Fingerprint {
        let [ipv4, ipv6] = Family::ALL.map(|family| u64::from(view::is_bridged(family)));
        fingerprint.0.push(ipv4 | ipv6 << 1);
        fingerprint
    }

    /// New flows as our rules counted them.
    pub fn counters(&mut self, family: Family) -> Option<Counters> {
        self.chosen().ok()?.counters(family).ok()
    }

    /// What becomes of the masqueraded connections of these families when our rules go; `None` when there are none.
    pub fn after_stop(&mut self, families: &[Family]) -> Option<AfterStop> {
        let (settings, backend) = self.backend.as_ref()?;
        let ours = Ours { backend: backend.name(), chain: &settings.masq_chain };
        Some(keepers::read(&mut self.netlink, ours, families))
    }

    /// Takes everything of ours out of the kernel: of the chosen backend, and of another one where rules of ours show. What
    /// a live Go agent keeps there is its own.
    pub fn flush(&mut self) -> Vec<Removal> {
        self.abandon();
        let cleared = self.clear();
        let left_something = cleared.iter().any(|one| !one.notes.is_empty());
        if left_something && cleared.iter().all(|one| one.result.is_ok()) {
            // What one backend left for the sake of another one's rules goes now.
            return self.clear();
        }
        cleared
    }

    fn clear(&mut self) -> Vec<Removal> {
        let children = self.children.clone();
        let Some((settings, backend)) = &mut self.backend else { return Vec::new() };
        let chosen = backend.name();
        let failures = self.sysctls.put_back_except(&BTreeSet::new());
        let result = Err(Error::new(ErrorKind::Other, in_words(&failures).join("; ")));
        let failed = Removal { backend: chosen, family: Family::V4, result, notes: Vec::new() };
        // Without the guard, others would reach what listens on 127.0.0.1.
        if self.sysctls.exposes_loopback() {
            return vec![failed];
        }
        let mut cleared: Vec<Removal> =
            Family::ALL.map(|family| stale_rules::clear_family(backend.as_mut(), family)).into();
        cleared.extend((!failures.is_empty()).then_some(failed));
        cleared.extend(stale_rules::clear_fast_path(&mut self.fast_path));
        cleared.retain(|one| stale_rules::counts(&mut self.netlink, settings, one));
        for other in BackendName::ALL.into_iter().filter(|name| *name != chosen) {
            let others = stale_rules::clear_unused(&mut self.netlink, settings, other, &children).into_iter();
            let is_foreign = |one: &Removal| matches!(&one.result, Err(error) if error.kind == ErrorKind::Foreign);
            cleared.extend(others.filter(|one| !is_foreign(one)));
        }
        cleared
    }

    /// Listens to what others do to the rules, or stops listening.
    ///
    /// # Errors
    /// Why events are unavailable.
    pub fn watch(&mut self, wanted: bool) -> Result<(), EventsError> {
        (self.events, self.lost) = (None, None);
        if wanted {
            self.events = Some(RuleEvents::open().map_err(EventsError::Join)?);
        }
        Ok(())
    }

    /// What to poll for, while events are listened to.
    pub fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// True when there is a loss to be told by [`Enforcer::read_events`], for which nothing polls.
    pub fn has_lost_events(&self) -> bool {
        self.lost.is_some()
    }

    /// [`Enforcer::read_events`] for somebody who has no use for a loss: it is told the next time.
    fn heard(&mut self) -> Vec<ChangedBy> {
        self.read_events()
            .unwrap_or_else(|why| {
                self.lost = Some(why);
                None
            })
            .unwrap_or_default()
    }

    /// Who committed to the rules of the host since the last time, the last one first; `None` when nobody did.
    ///
    /// # Errors
    /// When the listener is broken; it is gone then.
    pub fn read_events(&mut self) -> Result<Option<Vec<ChangedBy>>, EventsError> {
        if let Some(why) = self.lost.take() {
            return Err(why);
        }
        let Some(events) = &mut self.events else { return Ok(None) };
        match events.read() {
            Ok(events) if events.is_empty() => Ok(None),
            Ok(events) => Ok(Some(programs(events))),
            Err(error) => {
                self.events = None;
                Err(EventsError::Read(error))
            }
        }
    }
}

/// Why rule events are unavailable.
#[derive(Debug)]
pub enum EventsError {
    Join(io::Error),
    /// After it was left for a commit of our own.
    JoinAgain(io::Error),
    Read(io::Error),
}

impl fmt::Display for EventsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventsError::Join(error) => write!(f, "can't join the nf_tables group: {error}"),
            EventsError::JoinAgain(error) => write!(f, "can't join the nf_tables group again: {error}"),
            EventsError::Read(error) => write!(f, "reading rule events failed: {error}"),
        }
    }
}

impl std::error::Error for EventsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let (EventsError::Join(error) | EventsError::JoinAgain(error) | EventsError::Read(error)) = self;
        Some(error)
    }
}

fn in_words(failures: &[SysctlError]) -> Vec<String> {
    failures.iter().map(ToString::to_string).collect()
}

/// A backend with what an earlier process wrote down for it.
fn recalling(mut backend: Box<dyn Backend>) -> Box<dyn Backend> {
    written::read().iter().for_each(|text| backend.remember(text));
    backend
}

/// What one family of the kernel should hold; `None` where that is nothing.
pub fn desired(config: &Config, family: Family, facts: &HostFacts) -> Option<Ruleset> {
    Ruleset::new(&config.policy, family, config.settings.jump_position, facts)
}

/// The interfaces through which packets from 127.0.0.0/8 leave for targets of forwards.
fn loopback_leaves(config: &Config, facts: &HostFacts) -> BTreeSet<String> {
    let forwards = config.policy.forwards.iter().filter(|forward| forward.localhost && forward.serves(Family::V4));
    let targets = forwards.filter_map(|forward| facts.network.targets.get(&forward.target(Family::V4)?));
    targets.map(|reached| reached.interface.clone()).filter(|interface| interface != "lo").collect()
}

/// The processor time that this process and the children that it waited for have used.
pub fn cpu_time() -> Duration {
    let used = |who| {
        let usage = getrusage(who).ok()?;
        let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
        u64::try_from(micros.iter().sum::<i64>()).ok()
    };
    let micros = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(used);
    Duration::from_micros(micros.sum())
}

fn none_chosen() -> Error {
    Error::new(ErrorKind::Other, "no backend is chosen")
}

/// The programs that committed, the last one first; of each name the last two processes at most.
fn programs(events: Vec<RuleEvent>) -> Vec<ChangedBy> {
    let mut last: Vec<RuleEvent> = Vec::new();
    for event in events.into_iter().rev() {
        let same = last.iter().filter(|known| known.program == event.program);
        if last.len() < MOST_NAMED && same.clone().count() < 2 && same.clone().all(|known| known.pid != event.pid) {
            last.push(event);
        }
    }
    last.iter().filter_map(changed_by).collect()
}

/// The program that committed. A caller hides behind iptables and nft, which are gone in a moment: where they are
/// still there, it is their parent that says more.
fn changed_by(event: &RuleEvent) -> Option<ChangedBy> {
    let program = event.program.clone()?;
    let pid = event.pid.filter(|_| processes_are_numbered_as_in_the_kernel());
    let is_tool = ["iptables", "ip6tables", "xtables", "nft", "ebtables", "arptables"]
        .iter()
        .any(|tool| program.starts_with(tool));
    // Its number may be another program's already.
    let there = pid.filter(|pid| process::name(*pid).is_some_and(|name| name == program));
    let caller = there.filter(|_| is_tool).and_then(process::parent);
    Some(ChangedBy { origin: there.and_then(process::origin), program, pid, caller })
}

/// Not in a container: rule events number processes as the first namespace does, PROC_PID_INIT_INO of linux/proc_ns.h.
fn processes_are_numbered_as_in_the_kernel() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == "pid:[4026531836]")
}
