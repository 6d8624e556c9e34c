//! The end of the service, and what becomes of the rules.

use super::report::one_line;
use super::schedule::Fight;
use super::state::{Phase, Timers};
use super::{Action, AfterStop, Agent, AtStop, ConnectionsAtStop, Entry, Job, Kind, Notification, ReloadOutcome};
use crate::backend::{Error, ErrorKind, Removal};
use crate::config::OnStop;
use crate::policy::Family;
use std::collections::BTreeSet;
use std::time::Instant;

impl Agent {
    pub(super) fn stop(&mut self, until: Instant) {
        let config = match &self.phase {
            Phase::Starting(start) => start.candidate.as_ref(),
            _ => self.desired.active.as_ref(),
        };
        let on_stop = config.map(|loaded| loaded.config.settings.on_stop);
        let was_ready = !matches!(self.phase, Phase::Starting(_));
        self.phase = Phase::Stopping { until, was_ready, waiting_for: None };
        // Nothing else is due any more.
        self.timers = Timers { watchdog: self.timers.watchdog, ..Timers::default() };
        self.families.iter_mut().for_each(|state| state.fight = Fight::default());
        self.act(Action::Notify(Notification::Stopping));
        // In the middle of a reload.
        self.answer(ReloadOutcome::Refused, "the service is stopping");
        self.trial_cut_short();
        match on_stop {
            // What an earlier run left is ours as well, even if this one never got so far.
            Some(OnStop::Cleanup) if self.backend.is_some() => self.act(Action::ReadJob),
            Some(OnStop::Keep) => self.stopped_keeping("onStop is 'keep'"),
            _ => self.stopped_keeping("no backend was found for them"),
        }
    }

    pub(super) fn job_read(&mut self, job: Job) {
        match job {
            Job::Stop | Job::NoSystemd => {
                let families = Family::ALL.into_iter().filter(|family| self.desired.wants(*family));
                self.act(Action::ReadAfterStop(families.collect()));
            }
            Job::Restart => self.stopped_keeping("the unit is being restarted"),
            Job::Unknown => {
                self.stopped_keeping("systemd did not say whether this is a stop; 'ip-masq-agent flush' removes them");
            }
        }
    }

    /// Said before the rules go: afterwards the connection by which somebody reads it may be gone.
    pub(super) fn after_stop_read(&mut self, after: &AfterStop) {
        let at_stop = AtStop::removing(after);
        let connections = match at_stop.connections() {
            ConnectionsAtStop::GoOn => "go-on",
            ConnectionsAtStop::End => "end",
            ConnectionsAtStop::Unknown => "unknown",
        };
        self.log(Entry::new(Kind::Removing, format!("stopping: {at_stop}")).with("CONNECTIONS", connections));
        self.act(Action::Flush);
    }

    /// Before the service is ready there may be none, some, or those of an earlier run.
    fn stopped_keeping(&mut self, why: &str) {
        let message = match self.phase {
            Phase::Stopping { was_ready: false, .. } => {
                format!("stopped before the rules were in place; those that are in the kernel stay: {why}")
            }
            _ => format!("stopped; the rules stay: {why}"),
        };
        self.stopped(message, "kept", 0);
    }

    fn stopped(&mut self, message: String, rules: &str, status: u8) {
        self.log(Entry::new(Kind::Stopped, &message).with("RULES", rules));
        self.phase = Phase::Ended(message);
        self.act(Action::Exit(status));
    }

    /// What is in the way only for a moment is waited for: nobody comes back for rules that a stop left.
    pub(super) fn flushed(&mut self, cleared: Vec<Removal>, now: Instant) {
        let Phase::Stopping { until, waiting_for, .. } = &mut self.phase else { return };
        let mut notes = BTreeSet::new();
        let mut failures = Vec::new();
        for Removal { family, result, notes: left, .. } in cleared {
            // Where nothing was wanted and nothing found, what could not be looked at is no matter of a stop.
            if self.desired.wants(family) || result.as_ref().is_ok_and(|removed| !removed.is_empty()) {
                notes.extend(left);
            }
            failures.extend(result.err().map(|error| (family, error)));
        }
        if let Some((_, error)) = failures.iter().find(|(_, error)| error.is_transient())
            && self.timers.retry.failed(now) <= *until
        {
            *waiting_for = Some(one_line(&error.message));
            return;
        }
        for (family, error) in &failures {
            let message = format!("the {family} rules could not be removed: {error}");
            self.log(Entry::new(Kind::Failed, message).of(*family));
        }
        for note in &notes {
            self.log(Entry::new(Kind::Warning, note).by(self.backend_name()));
        }
        let (rules, status) = if failures.is_empty() { ("removed", 0) } else { ("not all removed", 1) };
        let what_follows = if failures.iter().any(|(_, error)| flush_may_do_better(error)) {
            "; 'ip-masq-agent flush' removes what is left".to_owned()
        } else if failures.is_empty() && !notes.is_empty() {
            format!(", but: {}", Vec::from_iter(notes).join("; "))
        } else {
            String::new()
        };
        self.stopped(format!("stopped; the rules are {rules}{what_follows}"), rules, status);
    }
}

/// Not without the programs that it lacks as well, and not against another program's names.
fn flush_may_do_better(error: &Error) -> bool {
    !error.is_the_hosts() && error.kind != ErrorKind::Foreign
}
