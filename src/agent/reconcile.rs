//! Making the families right, one after the other, and what follows once all have answered.

use super::question::{Loaded, Results};
use super::report::one_line;
use super::standing::Changes;
use super::state::{Phase, Refusal, Start, kind, suspect};
use super::{
    Action, Agent, ChangedBy, Chosen, ConfigOrigin, Depth, Entry, Kind, Notification, Outcome, Reconciliation,
    ReloadOutcome, Search, Why,
};
use crate::backend::{Drift, Error};
use crate::config::{BackendChoice, Choice};
use crate::policy::Family;
use crate::ruleset::HostFacts;
use std::time::{Duration, Instant};

/// How much time each try of a start is given by the service manager.
const START_EXTENSION: Duration = Duration::from_secs(30);

impl Agent {
    pub(super) fn backend_chosen(&mut self, candidate: Loaded, result: Result<Chosen, Error>, now: Instant) {
        match result {
            Ok(chosen) => {
                let message = format!("backend {} ({})", chosen.name, chosen.reason);
                self.log(Entry::new(Kind::BackendChosen, message).by(Some(chosen.name)));
                self.backend = Some(chosen);
                // Before READY: whoever acts on that must not go unnoticed.
                self.watch(candidate.config.settings.rule_watch, now);
                self.reconcile(Why::Start, Some(candidate));
            }
            Err(error) => self.start_failed(error, now),
        }
    }

    /// Makes the kernel right: for a candidate, or for what is enforced already.
    pub(super) fn reconcile(&mut self, why: Why, candidate: Option<Loaded>) {
        let Some(Loaded { config, .. }) = candidate.as_ref().or(self.desired.active.as_ref()) else { return };
        let config = config.clone();
        // A reload that turns IPv6 off waits until its rules are gone.
        let changes = (candidate.is_some() && self.desired.active.is_some()) || why == Why::GoBack;
        let failed = !self.families[Family::V6 as usize].failure.is_empty();
        let also_ipv6 = config.policy.enables(Family::V6) || changes || failed;
        let then = also_ipv6.then_some(Family::V6);
        let (network, results) = Default::default();
        self.with_network(Reconciliation { config, network, why, candidate, then, results });
    }

    pub(super) fn reconciled(
        &mut self,
        family: Family,
        mut reconciliation: Reconciliation,
        result: Result<Outcome, Error>,
        cost: Duration,
        now: Instant,
    ) {
        match reconciliation.why {
            Why::Drift(_) => self.watch.budget.spend(cost, now),
            Why::Network => self.connections.budget.spend(cost, now),
            _ => {}
        }
        let give_up_early = reconciliation.candidate.is_some() && result.is_err() && family == Family::V4;
        reconciliation.results.push((family, result));
        match reconciliation.then.take().filter(|_| !give_up_early) {
            Some(next) => self.act(Action::Reconcile(next, reconciliation)),
            None => self.finish(reconciliation, now),
        }
    }

    fn finish(&mut self, reconciliation: Reconciliation, now: Instant) {
        let Reconciliation { why, network, candidate, results, .. } = reconciliation;
        self.note(&results);
        // From here on a family's failure says what is not right, and of sysctls a note.
        self.watch.moved = false;
        self.watch.sysctls_off.clear();
        self.log_sysctls(&results, now);
        // The listener is left while a family is written; the first one was verified before that.
        let wrote = |result: &Result<Outcome, Error>| result.as_ref().is_ok_and(|outcome| outcome.written.is_some());
        let missed = results.iter().skip(1).any(|(_, result)| wrote(result));
        match (candidate, v4_failure(&results)) {
            (None, _) => self.verified(why, results, now),
            (Some(candidate), None) => {
                self.connections.facts = network;
                self.activate(candidate, &why, results, now);
            }
            (Some(candidate), Some(failure)) if self.desired.active.is_none() => {
                if self.backend.as_ref().is_some_and(|chosen| chosen.is_of_no_use(&failure)) {
                    self.act(Action::ChooseBackend(candidate, Some(failure)));
                } else {
                    self.start_failed(failure, now);
                }
            }
            (Some(_), Some(failure)) => {
                self.not_applied(&why, failure, now);
                // What stays in force is looked after all the same.
                self.reconcile(Why::Periodic, None);
            }
        }
        if let Some(active) = &self.desired.active {
            self.watch(active.config.settings.rule_watch, now);
        }
        if missed && self.watch.listening {
            self.check(Depth::Rules);
        }
    }

    fn not_applied(&mut self, why: &Why, failure: Error, now: Instant) {
        if let Why::Try(tried) = why {
            return self.trial_failed(tried, &failure.message);
        }
        if self.families[Family::V4 as usize].may_pass(&failure) {
            // A held lock is no reason to wait for the next resync.
            self.timers.reread.failed(now);
        }
        self.refuse(Refusal::Kernel(failure), why);
    }

    /// Says what the backend notes, once for as long as it does. Where every family failed it noted nothing.
    fn note(&mut self, results: &Results) {
        let outcomes: Vec<&Outcome> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
        if !outcomes.is_empty() {
            let notes = outcomes.into_iter().flat_map(|outcome| &outcome.notes);
            self.log_standing(|reported| &mut reported.notes, notes.map(|note| Entry::new(Kind::Warning, note)));
        }
    }

    /// The kernel did not take the first configuration of this service.
    fn start_failed(&mut self, failure: Error, now: Instant) {
        let Phase::Starting(start) = &mut self.phase else { return };
        let again = self.timers.retry.failed(now);
        if !failure.is_transient() || again > start.until {
            let message = format!("the IPv4 rules can't be installed: {}", failure.message);
            return self.give_up(message, 1);
        }
        start.waiting_for = Some(one_line(&failure.message));
        self.act(Action::Notify(Notification::ExtendTimeout(START_EXTENSION)));
    }

    pub(super) fn try_again(&mut self) {
        match &self.phase {
            Phase::Starting(start) => {
                if let Some(candidate) = start.candidate.clone() {
                    self.enforce(candidate, Why::Start);
                }
            }
            _ => self.reconcile(Why::Periodic, None),
        }
    }

    fn activate(&mut self, candidate: Loaded, why: &Why, results: Results, now: Instant) {
        let took = results.iter().filter_map(|(_, result)| Some(result.as_ref().ok()?.took)).sum();
        self.history.generation += 1;
        self.history.apply = Some((now, took));
        let is_first = self.desired.active.is_none();
        let earlier = is_first.then(|| self.before_this_process(&candidate.sources)).flatten();
        if matches!(candidate.origin, ConfigOrigin::Files | ConfigOrigin::Defaults) {
            self.accept();
        }
        let interval = |active: &Loaded| active.config.settings.resync_interval;
        let replaced = self.desired.active.clone();
        let before = replaced.as_ref().map(interval);
        self.host.in_use.clear();
        let active = self.desired.active.insert(candidate);
        if before != Some(interval(active)) {
            self.timers.resync = self.resync_at(now);
        }
        for (family, result) in &results {
            let drift = result.as_ref().ok().and_then(|outcome| outcome.written.as_deref());
            self.log_foreign_rules(*family, drift.unwrap_or_default());
        }
        // Before READY: from then on no flow goes on under what it got while the rules came in.
        self.tracking_began(&results);
        let refused = self.record(results, now);
        let mut message = self.applied_message(took);
        if let Some(waits) = self.waits_for_restart() {
            message += &format!("; {waits}");
        }
        match (why, &replaced) {
            (Why::Try(tried), Some(replaced)) => self.trial_begins(tried, replaced.clone(), &message, now),
            (_, None) => self.log(Entry::new(Kind::Applied, &message).by(self.backend_name())),
            (_, Some(_)) => self.log(Entry::new(Kind::Reloaded, &message).by(self.backend_name())),
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Running);
        match &phase {
            Phase::Starting(_) => self.up(),
            _ => {
                self.count_reload(refused.is_some());
                self.reconciled_for(why, refused, &message);
            }
        }
        self.save();
        self.act(Action::ReadHost);
        self.policy_changed(replaced.map(|replaced| replaced.config), earlier);
        self.follow_network();
        if matches!(phase, Phase::Starting(Start { reload: true, .. })) {
            self.reload(None, now);
        }
    }

    /// The first configuration is in the kernel.
    fn up(&mut self) {
        self.act(Action::Notify(Notification::Ready));
        // Only now: READY need not wait for it, and there is no moment without rules.
        self.remove_strays(Search::Thorough, None);
        if self.desired.active.as_ref().is_some_and(|active| active.origin == ConfigOrigin::Defaults) {
            self.log(Entry::new(Kind::Defaults, "there is no configuration file; the built-in defaults are in force"));
        }
    }

    /// Answers a reload, if that is what it was for.
    fn reconciled_for(&mut self, why: &Why, refused: Option<String>, message: &str) {
        match refused {
            _ if *why != Why::Reload => {}
            Some(refused) => self.reload_done(ReloadOutcome::Refused, &refused),
            None => self.reload_done(ReloadOutcome::Applied, message),
        }
    }

    /// The backend is never switched while running.
    pub(super) fn waits_for_restart(&self) -> Option<String> {
        let wanted = self.desired.active.as_ref()?.config.settings.backend;
        let chosen = self.backend.as_ref()?;
        let in_use = [BackendChoice::Auto, chosen.setting, chosen.name.into()];
        (!in_use.contains(&wanted))
            .then(|| format!("'backend' is now '{}'; this takes effect at the next restart", wanted.word()))
    }

    /// Nothing new was to be applied; what moved was repaired.
    fn verified(&mut self, why: Why, results: Results, now: Instant) {
        // Whoever committed while one family was made right may have changed the next one.
        let mut programs = if let Why::Drift(programs) = &why { programs.clone() } else { Vec::new() };
        for (family, result) in &results {
            let Ok(outcome) = result else { continue };
            suspect(&mut programs, outcome.by.iter().cloned());
            let Outcome { written: Some(drift), took, bridged, follows, .. } = outcome else { continue };
            let by = ChangedBy::names(&programs).filter(|_| matches!(why, Why::Drift(_)));
            let state = &self.families[*family as usize];
            if state.bridged.is_some_and(|before| before != *bridged) {
                let follow = format!("{}, which is {} now", HostFacts::sysctl(*family), u8::from(*bridged));
                self.adapted(*family, &follow, drift, *took);
            } else if why == Why::GoBack {
                self.history.apply = Some((now, *took));
            } else if let Some(follow) = follows {
                self.adapted(*family, follow, drift, *took);
            } else if why == Why::Network {
                self.adapted(*family, "the host's addresses and routes", drift, *took);
            } else if state.failure.is_empty() {
                // A failure that ends is a recovery, not a repair of somebody's change.
                self.repaired(*family, drift, *took, by.as_deref(), now);
            } else {
                self.log_foreign_rules(*family, drift);
            }
        }
        let was_repaired = |result: &Result<Outcome, Error>| {
            result.as_ref().is_ok_and(|outcome| outcome.written.is_some() && outcome.follows.is_none())
        };
        let repaired =
            !matches!(why, Why::Network | Why::GoBack) && results.iter().any(|(_, result)| was_repaired(result));
        self.tracking_began(&results);
        let refused = self.record(results, now);
        if repaired {
            self.rules_were_away(now);
        }
        // Only now: what is forgotten earlier begins again under the rules of the trial.
        if refused.is_none()
            && let Some(tried) = self.connections.tried.take()
        {
            self.policy_changed(Some(tried), None);
        }
        if why == Why::Reload {
            self.count_reload(refused.is_some());
        }
        let message = format!("nothing has changed; the rules are in the kernel{}", self.exceptions());
        self.reconciled_for(&why, refused, &message);
    }

    /// Where no repair is logged, with all that was found.
    fn log_foreign_rules(&mut self, family: Family, drift: &[Drift]) {
        for words in drift.iter().filter(|one| matches!(one, Drift::ForeignRule(_))) {
            let entry = Entry::new(Kind::Warning, format!("{words}; it is removed"));
            self.log(entry.of(family).by(self.backend_name()));
        }
    }

    /// Nobody changed our rules; it is the host that wants other ones now.
    fn adapted(&mut self, family: Family, follow: &str, drift: &[Drift], took: Duration) {
        let took = milliseconds(took);
        let message = format!("{family} rules follow {follow}; written in {took} ms: {}", Drift::join(drift));
        let entry = Entry::new(Kind::Adapted, message).with("DURATION_MS", took);
        self.log(entry.of(family).by(self.backend_name()));
    }

    fn repaired(&mut self, family: Family, drift: &[Drift], took: Duration, by: Option<&str>, now: Instant) {
        let who = by.unwrap_or("another program");
        self.history.repair = Some((now, took, by.map(str::to_owned)));
        self.families[family as usize].repairs += 1;
        let took = milliseconds(took);
        let message = format!("{family} rules changed by {who}; repaired in {took} ms: {}", Drift::join(drift));
        let entry = Entry::new(Kind::Repaired, message).with("DURATION_MS", took).by(self.backend_name());
        self.log_undone(entry, family, who, now);
    }

    /// Writes down how the families are and logs what changed in that. Returns why a reload must be called refused.
    fn record(&mut self, results: Results, now: Instant) -> Option<String> {
        let mut refused = Vec::new();
        for (family, result) in results {
            let wanted = self.desired.wants(family);
            if let Ok(outcome) = &result {
                self.families[family as usize].bridged = wanted.then_some(outcome.bridged);
            }
            let failure = result.err();
            // A host without IPv6 is degraded at most; without IPv4 nothing works. Rules that are to go are there, too.
            let counts = |failure: &&Error| family == Family::V4 || !wanted || !failure.is_the_hosts();
            if let Some(failure) = failure.as_ref().filter(counts) {
                refused.push(not_in_sync(family, failure));
            }
            self.log_failure(family, failure);
        }
        if self.families.iter().any(|state| state.failure.iter().any(|failure| state.may_pass(failure))) {
            self.timers.retry.failed(now);
        } else {
            self.timers.retry.succeeded();
        }
        (!refused.is_empty()).then(|| refused.join("; "))
    }

    fn log_failure(&mut self, family: Family, failure: Option<Error>) {
        let is_well = failure.is_none();
        let Changes { begun, ended } = self.families[family as usize].failure.update(failure);
        let failed = begun.iter().map(|failure| Entry::new(kind(failure), not_in_sync(family, failure)));
        let well =
            || Entry::new(Kind::Recovered, format!("the {family} rules are in sync with the configuration again"));
        for entry in failed.chain((is_well && !ended.is_empty()).then(well)) {
            self.log(entry.of(family).by(self.backend_name()));
        }
    }
}

fn v4_failure(results: &Results) -> Option<Error> {
    results.iter().find(|(family, _)| *family == Family::V4).and_then(|(_, result)| result.as_ref().err().cloned())
}

fn not_in_sync(family: Family, failure: &Error) -> String {
    format!("the {family} rules are not in sync with the configuration: {}", failure.message)
}

/// Milliseconds with one decimal.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}
