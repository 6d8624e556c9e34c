//! A round makes the families right, one after the other, and draws the consequences once all have answered.

use super::judge::{Candidate, Refusal};
use super::report::{Origin, ReloadOutcome, one_line};
use super::state::Active;
use super::{Action, Agent, Culprit, Entry, Kind, Notification, Outcome, Phase};
use crate::backend::{Error, ErrorKind};
use crate::config::{BackendChoice, Choice, Config};
use crate::policy::Family;
use crate::ruleset::HostFacts;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a round is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The start, or an edit that was noticed without being asked to look.
    Edit,
    /// Somebody waits for it.
    Reload,
    /// The resync interval is over, or what failed is tried again.
    Resync,
    /// The rules moved.
    Drift(Option<Culprit>),
    /// IPv6 is not enabled: what an earlier run left of it has to go, and READY need not wait for that.
    Leftovers,
}

/// A round under way.
#[derive(Debug)]
pub struct Round {
    cause: Cause,
    /// The configuration that becomes the active one when the kernel takes it.
    candidate: Option<Candidate>,
    config: Arc<Config>,
    left: VecDeque<Family>,
    results: Vec<(Family, Result<Outcome, Error>)>,
    /// A family was left out because it is being fought over.
    partial: bool,
}

impl Agent {
    pub(super) fn backend_chosen(&mut self, result: Result<super::Chosen, Error>, now: Instant) {
        let Some(candidate) = self.pending.take() else { return };
        match result {
            Ok(chosen) => {
                let message = format!("using {}: {}", chosen.name, chosen.reason);
                self.log(Entry::new(Kind::BackendChosen, message).by(Some(chosen.name)));
                self.backend = Some(chosen);
                self.choice = candidate.config.settings.backend;
                // Before READY: whoever acts on that must not go unnoticed.
                self.watch(candidate.config.settings.rule_watch, now);
                self.begin(Cause::Edit, Some(candidate), now);
            }
            Err(error) => self.start_failed(candidate, error, now),
        }
    }

    /// Begins a round: for a candidate, or for what is enforced already.
    pub(super) fn begin(&mut self, cause: Cause, candidate: Option<Candidate>, now: Instant) {
        let config = match (&candidate, &self.active) {
            (Some(candidate), _) => candidate.config.clone(),
            (None, Some(active)) => active.config.clone(),
            (None, None) => return,
        };
        // A reload that turns IPv6 off waits until its rules are gone.
        let changes = candidate.is_some() && self.active.is_some();
        let wanted = |family: &Family| match family {
            Family::V4 => cause != Cause::Leftovers,
            Family::V6 => {
                let enabled = config.policy.enables(Family::V6);
                enabled || changes || cause == Cause::Leftovers || self.failure(Family::V6).is_some()
            }
        };
        let mut left: VecDeque<Family> = Family::ALL.into_iter().filter(wanted).collect();
        let mut partial = false;
        if matches!(cause, Cause::Resync | Cause::Drift(_)) {
            let held: Vec<(Family, Instant)> =
                self.families.iter().filter_map(|state| Some((state.family, state.limit.free_at(now)?))).collect();
            left.retain(|family| held.iter().all(|(other, _)| other != family));
            held.iter().for_each(|(family, _)| self.families[index(*family)].held = true);
            if let Some(at) = held.iter().map(|(_, at)| *at).min() {
                partial = true;
                self.timers.look = Some(at);
            }
        }
        let Some(first) = left.pop_front() else {
            // Who it was is still to be said when they are repaired.
            if let Cause::Drift(culprit) = cause {
                self.culprit = culprit;
            }
            return;
        };
        self.round = Some(Round { cause, candidate, config: config.clone(), left, results: Vec::new(), partial });
        self.act(Action::Reconcile(first, config));
    }

    pub(super) fn reconciled(&mut self, family: Family, result: Result<Outcome, Error>, now: Instant) {
        let Some(mut round) = self.round.take() else { return };
        let hopeless = round.candidate.is_some() && result.is_err() && family == Family::V4;
        round.results.push((family, result));
        match round.left.pop_front().filter(|_| !hopeless) {
            Some(next) => {
                self.act(Action::Reconcile(next, round.config.clone()));
                self.round = Some(round);
            }
            None => self.finish(round, now),
        }
    }

    fn finish(&mut self, round: Round, now: Instant) {
        let Round { cause, candidate, results, partial, .. } = round;
        let took = results.iter().filter_map(|(_, result)| Some(result.as_ref().ok()?.took)).sum();
        if cause != Cause::Leftovers {
            // The oldest one: whoever moved the rules after it will be noticed.
            (self.settled, self.settled_contents) = match results.first() {
                Some((_, Ok(outcome))) if !partial => (outcome.fingerprint.clone(), outcome.contents.clone()),
                _ => (None, None),
            };
        }
        self.note(&results);
        // The listener is left while a family is written; the first one was verified before that.
        let unheard = results
            .iter()
            .skip(usize::from(cause != Cause::Leftovers))
            .any(|(_, result)| result.as_ref().is_ok_and(|outcome| outcome.written.is_some()));
        match candidate {
            Some(candidate) => match v4_failure(&results) {
                Some(failure) if self.active.is_none() => return self.start_failed(candidate, failure, now),
                Some(failure) => {
                    self.refused_by_kernel(&cause, failure, now);
                    // What stays in force is looked after all the same.
                    self.begin(Cause::Resync, None, now);
                }
                None => self.adopt(candidate, &cause, results, took, now),
            },
            None => self.verified(cause, results, now),
        }
        self.timers.resync = self.resync_at(now);
        if let Some(active) = &self.active {
            self.watch(active.config.settings.rule_watch, now);
        }
        if unheard && self.watching {
            self.act(Action::ReadFingerprint);
        }
    }

    /// Says what the backend notes, once for as long as it does. Where every family failed it noted nothing.
    fn note(&mut self, results: &[(Family, Result<Outcome, Error>)]) {
        if results.iter().all(|(_, result)| result.is_err()) {
            return;
        }
        let notes: BTreeSet<String> = results
            .iter()
            .filter_map(|(_, result)| result.as_ref().ok())
            .flat_map(|outcome| outcome.notes.clone())
            .collect();
        for note in notes.difference(&self.noted) {
            self.actions.push(Action::Log(Entry::new(Kind::Warning, note.clone())));
        }
        self.noted = notes;
    }

    /// The kernel did not take the first configuration of this service.
    fn start_failed(&mut self, candidate: Candidate, failure: Error, now: Instant) {
        let Phase::Starting { until } = self.phase else { return };
        let wait = self.retry.failed();
        if !failure.is_transient() || now + wait > until {
            let message = format!("the IPv4 rules can't be put into the kernel: {}", failure.message);
            return self.give_up(message, 1);
        }
        self.waiting_for = Some(one_line(&failure.message));
        self.pending = Some(candidate);
        self.timers.retry = Some(now + wait);
        self.act(Action::Notify(Notification::ExtendTimeout(super::EXTENSION)));
    }

    pub(super) fn try_again(&mut self, now: Instant) {
        match self.pending.take() {
            Some(candidate) if self.backend.is_none() => {
                self.act(Action::ChooseBackend(candidate.config.clone()));
                self.pending = Some(candidate);
            }
            Some(candidate) => self.begin(Cause::Edit, Some(candidate), now),
            None => self.begin(Cause::Resync, None, now),
        }
    }

    /// A later configuration was refused; the old one is still there, whole.
    fn refused_by_kernel(&mut self, cause: &Cause, failure: Error, now: Instant) {
        if failure.is_transient() {
            // As if the file had been edited again: a held lock is no reason to wait for the next resync.
            self.timers.settle = Some(now + self.retry.failed());
        }
        let kind = kind(&failure);
        let text = format!("the new configuration could not be put into the kernel: {}", failure.message);
        let refusal = Refusal { kind, line: one_line(&text), text: text.clone() };
        if *cause == Cause::Reload || self.refusal.as_ref() != Some(&refusal) {
            let message = format!("{text}; the last good configuration stays");
            self.log(Entry::new(kind, message).by(self.backend_name()).of(Family::V4));
        }
        self.refusal = Some(refusal);
        if *cause == Cause::Reload {
            self.reload_done(ReloadOutcome::Refused, text);
        }
    }

    fn adopt(
        &mut self,
        candidate: Candidate,
        cause: &Cause,
        results: Vec<(Family, Result<Outcome, Error>)>,
        took: Duration,
        now: Instant,
    ) {
        let first = self.active.is_none();
        self.past.generation += 1;
        self.past.apply = Some((now, took));
        self.waiting_for = None;
        self.retry.succeeded();
        if candidate.origin != Origin::LastGood {
            self.accept();
        }
        self.active = Some(Active::from(candidate));
        let refused = self.record(results, now);
        let mut message = self.applied_message(took);
        if let Some(waits) = self.waits_for_restart() {
            message += &format!("; {waits}");
        }
        let kind = if first { Kind::Applied } else { Kind::Reloaded };
        self.log(Entry::new(kind, message.clone()).by(self.backend_name()));
        match refused {
            _ if first => self.up(now),
            Some(why) if *cause == Cause::Reload => self.reload_done(ReloadOutcome::Refused, why),
            None if *cause == Cause::Reload => self.reload_done(ReloadOutcome::Applied, message),
            _ => {}
        }
        self.save();
        self.act(Action::ReadHost);
    }

    /// The first configuration is in the kernel.
    fn up(&mut self, now: Instant) {
        self.phase = Phase::Running;
        self.act(Action::Notify(Notification::Ready));
        // Only now, so that there is no moment without rules.
        self.act(Action::ClearOthers);
        let Some(active) = &self.active else { return };
        let ipv6 = active.wants(Family::V6);
        if active.origin == Origin::Defaults {
            self.log(Entry::new(Kind::Defaults, "there is no configuration file; the defaults are enforced"));
        }
        if !ipv6 {
            self.begin(Cause::Leftovers, None, now);
        }
    }

    /// Keeps what the kernel agreed to; the disk may take its time, so this comes after READY.
    pub(super) fn save(&mut self) {
        let Some(Active { sources, origin, .. }) = &self.active else { return };
        let worth = match origin {
            Origin::Files => true,
            Origin::Defaults => self.last_good.is_some(),
            Origin::LastGood => false,
        };
        if worth && (self.last_good.as_ref() != Some(sources) || self.past.unsaved.is_some()) {
            let sources = sources.clone();
            self.last_good = Some(sources.clone());
            self.act(Action::SaveLastGood(sources));
        }
    }

    /// The backend is never switched while running.
    pub(super) fn waits_for_restart(&self) -> Option<String> {
        let wanted = self.active.as_ref()?.config.settings.backend;
        let runs = self.backend_name().map(BackendChoice::from) == Some(wanted);
        (wanted != self.choice && wanted != BackendChoice::Auto && !runs)
            .then(|| format!("the key 'backend' is '{}' now, which takes effect at the next restart", wanted.word()))
    }

    /// Nothing new was to be applied; what moved was repaired.
    fn verified(&mut self, cause: Cause, results: Vec<(Family, Result<Outcome, Error>)>, now: Instant) {
        let by = match &cause {
            Cause::Drift(culprit) => culprit.clone(),
            _ => None,
        };
        for (family, result) in &results {
            let Ok(Outcome { written: Some(drift), took, bridged, .. }) = result else { continue };
            if cause == Cause::Leftovers {
                let message = format!("{family} is not enabled; removed what was left of it: {}", drift.join(", "));
                self.log(Entry::new(Kind::LeftoversRemoved, message).of(*family).by(self.backend_name()));
            } else if self.families[index(*family)].bridged.is_some_and(|before| before != *bridged) {
                self.adapted(*family, *bridged, drift, *took);
            } else if self.failure(*family).is_none() {
                // A failure that ends is a recovery, not a repair of somebody's change.
                self.repaired(*family, drift, *took, by.as_ref(), now);
            }
        }
        let refused = self.record(results, now);
        if cause == Cause::Reload {
            match refused {
                Some(why) => self.reload_done(ReloadOutcome::Refused, why),
                None => self
                    .reload_done(ReloadOutcome::Applied, "nothing has changed; the rules are in the kernel".to_owned()),
            }
        }
    }

    /// Nobody changed our rules; it is the host that wants other ones now.
    fn adapted(&mut self, family: Family, bridged: bool, drift: &[String], took: Duration) {
        let (sysctl, value, took) = (HostFacts::sysctl(family), u8::from(bridged), milliseconds(took));
        let message =
            format!("{family} rules follow {sysctl}, which is {value} now; written in {took} ms: {}", drift.join(", "));
        let entry = Entry::new(Kind::Adapted, message).with("DURATION_MS", took);
        self.log(entry.of(family).by(self.backend_name()));
    }

    fn repaired(&mut self, family: Family, drift: &[String], took: Duration, by: Option<&Culprit>, now: Instant) {
        let who = by.map_or_else(|| "somebody".to_owned(), Culprit::to_string);
        self.past.repair = Some((now, took, by.map(Culprit::to_string)));
        let limit = &mut self.families[index(family)].limit;
        let begins = limit.repaired(now);
        let entry = if begins {
            let message =
                format!("{who} keeps changing our {family} rules; each further repair waits longer, up to 30 s");
            Entry::new(Kind::Fight, message)
        } else if limit.is_fight() {
            return;
        } else {
            let took = milliseconds(took);
            Entry::new(
                Kind::Repaired,
                format!("{family} rules changed by {who}; repaired in {took} ms: {}", drift.join(", ")),
            )
            .with("DURATION_MS", took)
        };
        self.log(entry.of(family).by(self.backend_name()).with("CHANGED_BY", who));
    }

    /// Writes down how the families are and logs what changed in that. Returns why a reload must be called refused.
    fn record(&mut self, results: Vec<(Family, Result<Outcome, Error>)>, now: Instant) -> Option<String> {
        let mut refused = None;
        for (family, result) in results {
            if let Ok(outcome) = &result {
                self.families[index(family)].bridged = Some(outcome.bridged);
            }
            let wanted = self.wants(family);
            let failure = result.err().filter(|failure| wanted || !failure.is_the_hosts());
            // A host without IPv6 is degraded at most; without IPv4 nothing works.
            let counts = |failure: &&Error| family == Family::V4 || !failure.is_the_hosts();
            if let Some(failure) = failure.as_ref().filter(counts) {
                refused = Some(format!("the {family} rules are not in the kernel: {}", failure.message));
            }
            self.families[index(family)].held = false;
            self.set_failure(family, failure);
        }
        if self.families.iter().any(|state| state.failure.as_ref().is_some_and(|failure| failure.is_transient())) {
            self.timers.retry = Some(now + self.retry.failed());
        } else {
            self.retry.succeeded();
        }
        refused
    }

    fn failure(&self, family: Family) -> Option<&Error> {
        self.families[index(family)].failure.as_ref()
    }

    fn set_failure(&mut self, family: Family, failure: Option<Error>) {
        let before = std::mem::replace(&mut self.families[index(family)].failure, failure.clone());
        let entry = match (before, failure) {
            (None, None) => return,
            (before, after) if before == after => return,
            (_, Some(failure)) => {
                let kind = kind(&failure);
                Entry::new(kind, format!("the {family} rules are not as they should be: {}", failure.message))
            }
            (Some(_), None) => Entry::new(Kind::Recovered, format!("the {family} rules are as they should be again")),
        };
        self.log(entry.of(family).by(self.backend_name()));
    }
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// How the journal calls a failure.
fn kind(failure: &Error) -> Kind {
    if failure.kind == ErrorKind::Foreign { Kind::ForeignRefused } else { Kind::Degraded }
}

fn v4_failure(results: &[(Family, Result<Outcome, Error>)]) -> Option<Error> {
    results.iter().find(|(family, _)| *family == Family::V4).and_then(|(_, result)| result.as_ref().err().cloned())
}

/// Milliseconds with one decimal.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}
