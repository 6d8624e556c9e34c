//! A round makes the families right, one after the other, and draws the consequences once all have answered.

use super::judge::{Candidate, Refusal};
use super::report::{Origin, ReloadOutcome, one_line};
use super::state::Active;
use super::{Action, Agent, ChangedBy, Depth, Entry, Kind, Notification, Outcome, Phase, Search, names};
use crate::backend::{Error, ErrorKind, is_foreign_rule};
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
    /// The rules moved; who may have done it.
    Drift(Vec<ChangedBy>),
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
}

impl Round {
    /// What the round makes the kernel agree to.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

impl Agent {
    pub(super) fn backend_chosen(&mut self, result: Result<super::Chosen, Error>, now: Instant) {
        let Some(candidate) = self.pending.take() else { return };
        match result {
            Ok(chosen) => {
                let message = format!("backend {} ({})", chosen.name, chosen.reason);
                self.log(Entry::new(Kind::BackendChosen, message).by(Some(chosen.name)));
                self.backend = Some(chosen);
                self.choice = candidate.config.settings.backend;
                // Before READY: whoever acts on that must not go unnoticed.
                self.watch(candidate.config.settings.rule_watch, now);
                self.begin(Cause::Edit, Some(candidate));
            }
            Err(error) => self.start_failed(candidate, error, now),
        }
    }

    /// Begins a round: for a candidate, or for what is enforced already.
    pub(super) fn begin(&mut self, cause: Cause, candidate: Option<Candidate>) {
        let config = match (&candidate, &self.active) {
            (Some(candidate), _) => candidate.config.clone(),
            (None, Some(active)) => active.config.clone(),
            (None, None) => return,
        };
        // A reload that turns IPv6 off waits until its rules are gone.
        let changes = candidate.is_some() && self.active.is_some();
        let also_ipv6 = config.policy.enables(Family::V6) || changes || self.failure(Family::V6).is_some();
        let left = if also_ipv6 { VecDeque::from([Family::V6]) } else { VecDeque::new() };
        self.round = Some(Round { cause, candidate, config: config.clone(), left, results: Vec::new() });
        self.act(Action::Reconcile(Family::V4, config));
    }

    pub(super) fn reconciled(&mut self, family: Family, result: Result<Outcome, Error>, cost: Duration, now: Instant) {
        let Some(mut round) = self.round.take() else { return };
        if matches!(round.cause, Cause::Drift(_)) {
            self.budget.spend(cost, now);
        }
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
        let Round { cause, candidate, results, .. } = round;
        let took = results.iter().filter_map(|(_, result)| Some(result.as_ref().ok()?.took)).sum();
        self.note(&results);
        // The listener is left while a family is written; the first one was verified before that.
        let wrote = |result: &Result<Outcome, Error>| result.as_ref().is_ok_and(|outcome| outcome.written.is_some());
        let unheard = results.iter().skip(1).any(|(_, result)| wrote(result));
        match candidate {
            Some(candidate) => match v4_failure(&results) {
                Some(failure) if self.active.is_none() => return self.start_failed(candidate, failure, now),
                Some(failure) => {
                    self.refused_by_kernel(&cause, failure, now);
                    // What stays in force is looked after all the same.
                    self.begin(Cause::Resync, None);
                }
                None => self.adopt(candidate, &cause, results, took, now),
            },
            None => self.verified(cause, results, now),
        }
        if let Some(active) = &self.active {
            self.watch(active.config.settings.rule_watch, now);
        }
        if unheard && self.watching {
            self.check(Depth::Rules);
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
            let message = format!("the IPv4 rules can't be installed: {}", failure.message);
            return self.give_up(message, 1);
        }
        self.waiting_for = Some(one_line(&failure.message));
        self.pending = Some(candidate);
        self.timers.retry = Some(now + wait);
        self.act(Action::Notify(Notification::ExtendTimeout(super::EXTENSION)));
    }

    pub(super) fn try_again(&mut self) {
        match self.pending.take() {
            Some(candidate) if self.backend.is_none() => {
                self.act(Action::ChooseBackend(candidate.config.clone()));
                self.pending = Some(candidate);
            }
            Some(candidate) => self.begin(Cause::Edit, Some(candidate)),
            None => self.begin(Cause::Resync, None),
        }
    }

    /// A later configuration was refused; the old one is still there, whole.
    fn refused_by_kernel(&mut self, cause: &Cause, failure: Error, now: Instant) {
        if failure.is_transient() {
            // A held lock is no reason to wait for the next resync.
            self.timers.reread = Some(now + self.reread.failed());
        }
        let kind = kind(&failure);
        let text = format!("the new configuration could not be applied: {}", failure.message);
        let refusal = Refusal { kind, line: one_line(&text), text: text.clone() };
        if *cause == Cause::Reload || self.refusal.as_ref() != Some(&refusal) {
            let message = format!("{text}; the last good configuration stays in force");
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
        let interval = |active: &Active| active.config.settings.resync_interval;
        let before = self.active.as_ref().map(interval);
        let active = self.active.insert(Active::from(candidate));
        if before != Some(interval(active)) {
            self.timers.resync = self.resync_at(now);
        }
        for (family, result) in &results {
            let drift = result.as_ref().ok().and_then(|outcome| outcome.written.as_deref());
            self.tell_of_foreign_rules(*family, drift.unwrap_or_default());
        }
        let refused = self.record(results, now);
        let mut message = self.applied_message(took);
        if let Some(waits) = self.waits_for_restart() {
            message += &format!("; {waits}");
        }
        let kind = if first { Kind::Applied } else { Kind::Reloaded };
        self.log(Entry::new(kind, message.clone()).by(self.backend_name()));
        match refused {
            _ if first => self.up(),
            Some(why) if *cause == Cause::Reload => self.reload_done(ReloadOutcome::Refused, why),
            None if *cause == Cause::Reload => self.reload_done(ReloadOutcome::Applied, message),
            _ => {}
        }
        self.save();
        self.act(Action::ReadHost);
    }

    /// The first configuration is in the kernel.
    fn up(&mut self) {
        self.phase = Phase::Running;
        self.act(Action::Notify(Notification::Ready));
        // Only now: READY need not wait for it, and there is no moment without rules.
        self.remove_strays(Search::Thorough);
        if self.active.as_ref().is_some_and(|active| active.origin == Origin::Defaults) {
            self.log(Entry::new(Kind::Defaults, "there is no configuration file; the built-in defaults are in force"));
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
            .then(|| format!("'backend' is now '{}'; this takes effect at the next restart", wanted.word()))
    }

    /// Nothing new was to be applied; what moved was repaired.
    fn verified(&mut self, cause: Cause, results: Vec<(Family, Result<Outcome, Error>)>, now: Instant) {
        let by = match &cause {
            Cause::Drift(programs) => names(programs),
            _ => None,
        };
        for (family, result) in &results {
            let Ok(Outcome { written: Some(drift), took, bridged, .. }) = result else { continue };
            if self.families[index(*family)].bridged.is_some_and(|before| before != *bridged) {
                self.adapted(*family, *bridged, drift, *took);
            } else if self.failure(*family).is_none() {
                // A failure that ends is a recovery, not a repair of somebody's change.
                self.repaired(*family, drift, *took, by.as_deref(), now);
            } else {
                self.tell_of_foreign_rules(*family, drift);
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

    /// Where no repair is logged, with all that was found.
    fn tell_of_foreign_rules(&mut self, family: Family, drift: &[String]) {
        for words in drift.iter().filter(|words| is_foreign_rule(words)) {
            let entry = Entry::new(Kind::Warning, format!("{words}; it is removed"));
            self.log(entry.of(family).by(self.backend_name()));
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

    fn repaired(&mut self, family: Family, drift: &[String], took: Duration, by: Option<&str>, now: Instant) {
        let who = by.unwrap_or("another program");
        self.past.repair = Some((now, took, by.map(str::to_owned)));
        let took = milliseconds(took);
        let message = format!("{family} rules changed by {who}; repaired in {took} ms: {}", drift.join(", "));
        let entry = Entry::new(Kind::Repaired, message).with("DURATION_MS", took).by(self.backend_name());
        self.log_undone(entry, family, who, now);
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
                Entry::new(
                    kind,
                    format!("the {family} rules are not in sync with the configuration: {}", failure.message),
                )
            }
            (Some(_), None) => {
                Entry::new(Kind::Recovered, format!("the {family} rules are in sync with the configuration again"))
            }
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
