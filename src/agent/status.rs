//! How the agent describes itself.

use super::report::{Backend, Configuration, Done, FamilyReport, Origin, Report, State, one_line};
use super::round::milliseconds;
use super::state::{Active, FamilyState};
use super::{Action, Agent, AtStop, Notification, Phase};
use crate::config::{OnStop, SourceText};
use std::time::{Duration, Instant};

impl Agent {
    /// Tells the service manager when the line of truth has changed.
    pub(super) fn tell_status(&mut self) {
        let line = one_line(&self.summary());
        if line != self.status {
            self.status.clone_from(&line);
            // First, because the other actions may have results that change it again.
            self.actions.insert(0, Action::Notify(Notification::Status(line)));
        }
    }

    pub(super) fn applied_message(&self, took: Duration) -> String {
        format!(
            "configuration {} is in the kernel: {}, {} ms",
            self.past.generation,
            self.in_force(&self.wanted()),
            milliseconds(took)
        )
    }

    /// What is in force, in words, of these families.
    fn in_force(&self, families: &[&FamilyState]) -> String {
        let Some(active) = &self.active else { return "nothing".to_owned() };
        let backend = self.backend.as_ref().map_or(String::new(), |chosen| format!(" through {}", chosen.name));
        let families: Vec<String> = families.iter().map(|state| state.family.to_string()).collect();
        let origin = match active.sources.as_ref() {
            _ if self.refusal.is_some() => "the last good configuration".to_owned(),
            [] => "the built-in defaults".to_owned(),
            [source] => source.path.display().to_string(),
            [first, rest @ ..] => format!("{} and {} more", first.path.display(), rest.len()),
        };
        format!("{}{backend}, from {origin}", families.join(" and "))
    }

    fn wanted(&self) -> Vec<&FamilyState> {
        self.families.iter().filter(|state| self.wants(state.family)).collect()
    }

    fn state(&self) -> State {
        match self.phase {
            Phase::Starting { .. } => State::Starting,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Running if self.degraded().is_empty() => State::Ready,
            Phase::Running => State::Degraded,
        }
    }

    /// What is wrong, a line each.
    fn degraded(&self) -> Vec<String> {
        let refusal = self.refusal.iter().map(|refusal| refusal.line.clone());
        let failures = self.families.iter().filter_map(|state| {
            let failure = state.failure.as_ref()?;
            Some(format!("the {} rules are not in sync with the configuration: {}", state.family, failure.message))
        });
        let fights = self
            .families
            .iter()
            .filter(|state| state.fight.is_on())
            .map(|state| format!("another program keeps changing the {} rules", state.family));
        let strays = self.strays_left.iter().cloned();
        refusal.chain(failures).chain(fights).chain(strays).map(|reason| one_line(&reason)).collect()
    }

    fn summary(&self) -> String {
        if let Some(why) = &self.ended {
            return why.clone();
        }
        match self.state() {
            State::Starting => match &self.waiting_for {
                Some(reason) => format!("starting, waiting: {reason}"),
                None => "starting".to_owned(),
            },
            State::Ready => format!("masquerading {}", self.in_force(&self.wanted())),
            State::Degraded => {
                let mut right = self.wanted();
                right.retain(|state| state.failure.is_none() && !state.fight.is_on());
                let reasons = self.degraded().join("; ");
                match right.as_slice() {
                    [] => format!("degraded: {reasons}"),
                    right => format!("degraded: {reasons}; masquerading {}", self.in_force(right)),
                }
            }
            State::Stopping => match &self.waiting_for {
                Some(reason) => format!("stopping, waiting: {reason}"),
                None => "stopping".to_owned(),
            },
        }
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let done = |at: Instant, took: Duration, by: Option<String>| Done {
            seconds_ago: now.saturating_duration_since(at).as_secs_f64(),
            milliseconds: took.as_secs_f64() * 1000.0,
            by: by.as_deref().map(one_line),
        };
        let deferred = self.defers_events(now);
        let path = |source: &SourceText| one_line(&source.path.display().to_string());
        let files = |active: &Active| active.sources.iter().map(path).collect();
        Report {
            summary: one_line(&self.summary()),
            state: self.state(),
            pid: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: Configuration {
                origin: self.active.as_ref().map_or(Origin::Defaults, |active| active.origin),
                files: self.active.as_ref().map(files).unwrap_or_default(),
                generation: self.past.generation,
            },
            backend: self
                .backend
                .as_ref()
                .map(|chosen| Backend { name: chosen.name.to_string(), reason: one_line(&chosen.reason) }),
            last_apply: self.past.apply.map(|(at, took)| done(at, took, None)),
            last_repair: self.past.repair.clone().map(|(at, took, by)| done(at, took, by)),
            families: self
                .families
                .iter()
                .filter(|state| self.wants(state.family))
                .map(|state| FamilyReport {
                    family: state.family.to_string(),
                    in_sync: self.active.is_some() && state.failure.is_none(),
                    held: state.failure.is_none() && deferred,
                    counters: None,
                })
                .collect(),
            at_stop: self.keeps_rules().then(AtStop::keeping),
            degraded: self.degraded(),
            warnings: self.warnings(),
        }
    }

    fn keeps_rules(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.config.settings.on_stop == OnStop::Keep)
    }

    /// One each; diagnostics have lines of their own.
    fn warnings(&self) -> Vec<String> {
        let files = self.warned.iter().map(ToString::to_string);
        let host = self.advised.iter().map(ToString::to_string);
        let others = self.waits_for_restart().into_iter().chain(host);
        let others = others.chain(self.noted.iter().cloned());
        let unusable = self.past.unusable.iter();
        let unusable = unusable.map(|why| format!("the saved last good configuration is not used: {why}"));
        let others = others.chain(unusable).chain(self.past.unsaved.iter().cloned());
        files.chain(others.map(|text| one_line(&text))).collect()
    }
}
