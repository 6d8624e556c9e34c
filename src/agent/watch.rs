//! Noticing that the rules moved, and whether that is any business of ours.

use super::state::{Phase, suspect};
use super::{Action, Agent, Cause, ChangedBy, Checked, Depth, Entry, Kind, Search, Why};
use crate::backend::BackendName;
use crate::config::RuleWatch;
use std::time::{Duration, Instant};

/// How often the kernel is asked whether rules moved where it does not tell by itself.
const POLL: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn watch_answered(&mut self, result: Result<(), Cause>, now: Instant) {
        self.watch.listening = result.is_ok();
        match &result {
            // Nobody told us what happened before we listened.
            Ok(()) => self.check(Depth::Rules),
            Err(_) => self.timers.check = Some(now + POLL),
        }
        let lost = result.err().map(|why| {
            Entry::new(
                Kind::WatchLost,
                format!("rule change events are unavailable, polling once a second instead: {why}"),
            )
        });
        self.log_standing(|reported| &mut reported.events_unavailable, lost);
    }

    /// Listens where the settings and the backend allow it, else polls.
    pub(super) fn watch(&mut self, setting: RuleWatch, now: Instant) {
        // x_tables commits raise no nf_tables event (seen on Linux 6.18).
        let legacy = self.backend_name() == Some(BackendName::IptablesLegacy);
        let wanted = if legacy { RuleWatch::Poll } else { setting };
        match wanted {
            RuleWatch::Events if !self.watch.listening => self.act(Action::Watch(RuleWatch::Events)),
            RuleWatch::Events => {}
            RuleWatch::Poll => {
                if std::mem::replace(&mut self.watch.listening, false) {
                    self.act(Action::Watch(RuleWatch::Poll));
                }
                self.timers.check = Some(now + POLL);
            }
        }
    }

    /// Commits by others are told as they come; the kernel is looked at as often as the budget allows.
    pub(super) fn rules_moved(&mut self, commits: Vec<ChangedBy>, now: Instant) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        suspect(&mut self.watch.changed_by, commits);
        match self.watch.budget.free_at(now) {
            None => self.check(Depth::Rules),
            Some(at) => self.timers.check = Some(at),
        }
    }

    /// True while rule events need not be read: the next look at the kernel has to wait, and sees what they would tell.
    pub fn defers_events(&self, now: Instant) -> bool {
        self.watch.listening && self.timers.check.is_some_and(|at| at > now)
    }

    pub(super) fn check(&mut self, depth: Depth) {
        if let Some(active) = &self.desired.active {
            self.timers.check = None;
            self.act(Action::Check(depth, active.config.clone()));
        }
    }

    pub(super) fn checked(&mut self, depth: Depth, checked: Checked, now: Instant) {
        let Checked { moved, strays, by, doubted_until, cost } = checked;
        self.watch.budget.spend(cost, now);
        suspect(&mut self.watch.changed_by, by);
        self.watch.moved |= moved;
        // A thorough look that finds it expired has the elements read now; where that fails, it is for the retry.
        self.timers.doubt = doubted_until.filter(|at| depth == Depth::Rules || *at > now);
        if !self.watch.listening {
            self.timers.check = Some(now + POLL);
        }
        let changed_by = std::mem::take(&mut self.watch.changed_by);
        let failing = self.families.iter().any(|family| !family.failure.is_empty());
        match depth {
            Depth::Rules if moved => self.reconcile(Why::Drift(changed_by.clone()), None),
            // At a resync nothing is taken on trust, and what failed is tried again.
            Depth::Contents if moved || failing => self.reconcile(Why::Periodic, None),
            _ => {}
        }
        // Beside those that could not be removed there may be new ones. At the resync the old ones may be gone by themselves.
        let known = !self.reported.strays.is_empty();
        if strays || (known && depth == Depth::Contents) {
            match self.watch.strays.free_at(now) {
                None => self.remove_strays(Search::Shown, (!known || depth == Depth::Rules).then_some(changed_by)),
                Some(at) => self.timers.new_strays = Some(at),
            }
        }
    }
}
