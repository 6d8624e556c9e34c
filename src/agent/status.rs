//! How the agent describes itself.

use super::configuration::not_used;
use super::question::Loaded;
use super::reconcile::milliseconds;
use super::report::{
    BackendReport, ConfigOrigin, Configuration, EgressReport, EventRecord, FamilyReport, ForwardReport, Moment, Report,
    State, one_line,
};
use super::state::{FamilyState, Phase, Refusal, Reported};
use super::{Action, Agent, AtStop, Entry, InUse, Notification, option};
use crate::backend::Error;
use crate::config::{OnStop, SourceText};
use crate::policy::{Egress, Policy};
use std::time::{Duration, Instant};

impl Agent {
    /// Tells the service manager when the line of truth has changed.
    pub(super) fn tell_status(&mut self) {
        let line = one_line(&self.summary());
        for line in self.reported.status.update([line]).begun {
            // First, because the other actions may have results that change it again.
            self.actions.insert(0, Action::Notify(Notification::Status(line)));
        }
    }

    pub(super) fn applied_message(&self, took: Duration) -> String {
        let mut right = self.wanted();
        right.retain(|state| state.failure.is_empty());
        format!(
            "configuration {} is in the kernel: {}, {} ms{}",
            self.history.generation,
            self.in_force(&right),
            milliseconds(took),
            self.exceptions()
        )
    }

    /// The families of which what is said of the configuration is not true, and why.
    pub(super) fn exceptions(&self) -> String {
        let said = |state: &FamilyState| {
            let what = if self.desired.wants(state.family) { "is not" } else { "rules are still there" };
            let why = |failure: &Error| format!("; {} {what}: {}", state.family, failure.message);
            state.failure.iter().map(why).collect::<String>()
        };
        self.families.iter().map(said).collect()
    }

    /// What is in force, in words, of these families.
    fn in_force(&self, families: &[&FamilyState]) -> String {
        let Some(active) = &self.desired.active else { return "nothing".to_owned() };
        let backend = self.backend.as_ref().map_or(String::new(), |chosen| format!(" through {}", chosen.name));
        let families: Vec<String> = families.iter().map(|state| state.family.to_string()).collect();
        let origin = match active.sources.as_ref() {
            _ if active.origin == ConfigOrigin::LastGood || self.is_another_than_files(active) => {
                "the last good configuration".to_owned()
            }
            [] => "the built-in defaults".to_owned(),
            [source] => source.path.display().to_string(),
            [first, rest @ ..] => format!("{} and {} more", first.path.display(), rest.len()),
        };
        format!("{}{backend}, from {origin}", families.join(" and "))
    }

    fn is_another_than_files(&self, active: &Loaded) -> bool {
        !self.desired.refusal.is_empty() && active.origin != ConfigOrigin::Trial
    }

    fn wanted(&self) -> Vec<&FamilyState> {
        self.families.iter().filter(|state| self.desired.wants(state.family)).collect()
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Starting(_) => State::Starting,
            Phase::Stopping { .. } | Phase::Ended(_) => State::Stopping,
            Phase::Running if self.degraded().is_empty() => State::Ready,
            Phase::Running => State::Degraded,
        }
    }

    /// What is wrong, a line each.
    fn degraded(&self) -> Vec<String> {
        let refusal = self.desired.refusal.iter().map(Refusal::line);
        let failures = self.families.iter().flat_map(|state| {
            let said = |failure: &Error| {
                format!("{} rules are not in sync with the configuration: {}", state.family, failure.message)
            };
            state.failure.iter().map(said)
        });
        let fights = self
            .families
            .iter()
            .filter(|state| state.fight.is_on())
            .map(|state| format!("another program keeps changing the {} rules", state.family));
        let sysctl_fight = self.watch.sysctl_fight.is_on();
        let sysctl_fight = sysctl_fight.then(|| "another program keeps switching sysctls off that are set".to_owned());
        let sysctls = self.watch.sysctls_off.iter().cloned().chain(sysctl_fight);
        let strays = self.reported.strays.iter().map(|entry| entry.message.clone());
        // Until the repair is verified nobody knows what they do.
        let moved =
            self.watch.moved.then(|| "the rules are not as they were written, and are being repaired".to_owned());
        let of_rules = refusal.chain(failures).chain(fights).chain(moved).chain(strays);
        of_rules.chain(sysctls).map(|reason| one_line(&reason)).collect()
    }

    fn summary(&self) -> String {
        let waiting =
            |reason: &Option<String>| reason.as_ref().map_or(String::new(), |why| format!(", waiting: {why}"));
        match &self.phase {
            Phase::Starting(start) => format!("starting{}", waiting(&start.waiting_for)),
            Phase::Stopping { waiting_for, .. } => format!("stopping{}", waiting(waiting_for)),
            Phase::Ended(message) => message.clone(),
            Phase::Running => self.running_summary(),
        }
    }

    fn running_summary(&self) -> String {
        let reasons = self.degraded().join("; ");
        let action = self.desired.active.as_ref().map_or("masquerading", |active| active.config.policy.action());
        let action = match &self.host.nothing_translated {
            Some(why) if reasons.is_empty() => format!("no source is rewritten: {why}; rules of"),
            Some(_) => "no source is rewritten; rules of".to_owned(),
            None => action.to_owned(),
        };
        let mut right = self.wanted();
        right.retain(|state| state.failure.is_empty() && !state.fight.is_on() && !self.watch.moved);
        right.retain(|state| !self.host.untranslated.contains(&state.family));
        let truth = match right.as_slice() {
            right if reasons.is_empty() => format!("{action} {}", self.in_force(right)),
            [] => format!("degraded: {reasons}"),
            right => format!("degraded: {reasons}; {action} {}", self.in_force(right)),
        };
        let trial = self.desired.trial.as_ref().map(|trial| trial.summary() + "; ").unwrap_or_default();
        let differing = self.reported.differing.first().map(|entry| format!("; {}", entry.message)).unwrap_or_default();
        format!("{trial}{truth}{differing}")
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let moment = |at: Instant| Moment { seconds_ago: now.saturating_duration_since(at).as_secs_f64(), at: 0.0 };
        let record = |at: Instant, took: Duration, by: Option<&str>| EventRecord {
            when: moment(at),
            milliseconds: took.as_secs_f64() * 1000.0,
            by: by.map(one_line),
        };
        let deferred = self.defers_events(now);
        let active = self.desired.active.as_ref();
        let path = |source: &SourceText| one_line(&source.path.display().to_string());
        let files = |active: &Loaded| active.sources.iter().map(path).collect();
        let keeps = |active: &Loaded| active.config.settings.on_stop == OnStop::Keep;
        let backend = self.backend.as_ref();
        let family = |state: &FamilyState| FamilyReport {
            family: state.family,
            in_sync: active.is_some() && state.failure.is_empty() && !self.watch.moved,
            repairs: state.repairs,
            held: state.failure.is_empty() && deferred,
            counters: None,
        };
        let policy = active.map(|active| &active.config.policy);
        let in_use = &self.host.in_use;
        Report {
            policy: policy.map(Policy::summary),
            ranges: policy.map(Policy::ranges).unwrap_or_default(),
            addresses: policy.and_then(|policy| in_use.get(policy.egress.len())).cloned().unwrap_or_default(),
            egress: policy.map(|policy| egress(policy, in_use)).unwrap_or_default(),
            forwards: policy.into_iter().flat_map(forwards).collect(),
            summary: one_line(&self.summary()),
            state: self.state(),
            pid: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: Configuration {
                options: self.setup.flags.iter().map(|(key, values)| option(&key.info().flag, values)).collect(),
                origin: active.map_or(ConfigOrigin::Defaults, |active| active.origin),
                files: active.map(files).unwrap_or_default(),
                generation: self.history.generation,
                differs: self.reported.differing.first().map(|entry| entry.message.clone()),
            },
            trial: self.desired.trial.as_ref().map(|trial| trial.report(now)),
            backend: backend.map(|chosen| BackendReport { name: chosen.name, reason: one_line(&chosen.reason) }),
            last_apply: self.history.apply.map(|(at, took)| record(at, took, None)),
            last_repair: self.history.repair.as_ref().map(|(at, took, by)| record(*at, *took, by.as_deref())),
            last_saved: self.history.saved.map(moment),
            reloads: self.history.reloads,
            families: self.wanted().into_iter().map(family).collect(),
            connections: self.connections_report(now),
            conntrack: None,
            fast_path: None,
            sysctls: Vec::new(),
            at_stop: active.is_some_and(keeps).then(AtStop::keeping),
            degraded: self.degraded(),
            warnings: self.warnings(),
        }
    }

    /// One each; diagnostics have lines of their own.
    fn warnings(&self) -> Vec<String> {
        let said = |entry: &Entry| entry.message.clone();
        let host = self.host.advice.iter().map(|advice| one_line(&advice.to_string()));
        let Reported { files, notes, unsaved, network, connections, .. } = &self.reported;
        let unusable = self.desired.last_good.as_ref().err().map(|why| one_line(&not_used(why)));
        let waits = self.waits_for_restart().map(|text| one_line(&text));
        let before = files.iter().map(said).chain(waits);
        before
            .chain(host)
            .chain(notes.iter().map(said))
            .chain(unusable)
            .chain(unsaved.iter().chain(network.iter()).chain(connections.iter()).map(said))
            .collect()
    }
}

fn egress(policy: &Policy, in_use: &[Vec<InUse>]) -> Vec<EgressReport> {
    let report = |(number, entry): (usize, &Egress)| EgressReport {
        name: entry.name.clone(),
        snat: policy.section(entry).snat.value.to_string(),
        addresses: in_use.get(number).cloned().unwrap_or_default(),
    };
    policy.egress.iter().enumerate().map(report).collect()
}

fn forwards(policy: &Policy) -> impl Iterator<Item = ForwardReport> {
    policy.forwards.iter().map(|forward| ForwardReport { number: forward.number, what: forward.summary() })
}
