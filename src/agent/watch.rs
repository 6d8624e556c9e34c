//! Noticing that the rules moved, and whether that is any business of ours.

use super::round::Cause;
use super::{Action, Agent, ChangedBy, Checked, Depth, Entry, Kind, Phase, Search};
use crate::backend::BackendName;
use crate::config::RuleWatch;
use std::time::{Duration, Instant};

/// How often the kernel is asked whether rules moved where it does not tell by itself.
const POLL: Duration = Duration::from_secs(1);
/// Of so many programs that committed before a change of our rules was seen, each is named.
const MOST_NAMED: usize = 4;

impl Agent {
    pub(super) fn watch_answered(&mut self, result: Result<(), String>, now: Instant) {
        self.watching = result.is_ok();
        let deaf = result.err();
        match &deaf {
            // Nobody told us what happened before we listened.
            None => self.check(Depth::Rules),
            Some(why) => {
                self.timers.check = Some(now + POLL);
                if self.deaf.as_ref() != Some(why) {
                    let message = format!("rule change events are unavailable, polling once a second instead: {why}");
                    self.log(Entry::new(Kind::WatchLost, message));
                }
            }
        }
        self.deaf = deaf;
    }

    /// Listens where the settings and the backend allow it, else polls.
    pub(super) fn watch(&mut self, setting: RuleWatch, now: Instant) {
        // x_tables commits raise no nf_tables event (seen on Linux 6.18).
        let legacy = self.backend_name() == Some(BackendName::IptablesLegacy);
        let wanted = if legacy { RuleWatch::Poll } else { setting };
        match wanted {
            RuleWatch::Events if !self.watching => self.act(Action::Watch(RuleWatch::Events)),
            RuleWatch::Events => {}
            RuleWatch::Poll => {
                if std::mem::replace(&mut self.watching, false) {
                    self.act(Action::Watch(RuleWatch::Poll));
                }
                self.timers.check = Some(now + POLL);
            }
        }
    }

    /// Commits by others are told as they come; the kernel is looked at as often as the budget allows.
    pub(super) fn rules_moved(&mut self, commits: Vec<ChangedBy>, now: Instant) {
        if self.phase != Phase::Running {
            return;
        }
        commits.into_iter().for_each(|program| self.suspect(program));
        match self.budget.free_at(now) {
            None => self.check(Depth::Rules),
            Some(at) => self.timers.check = Some(at),
        }
    }

    /// Of several processes of one name no number is told: it could be any of them.
    fn suspect(&mut self, program: ChangedBy) {
        let room = self.changed_by.len() < MOST_NAMED;
        match self.changed_by.iter_mut().find(|known| known.program == program.program) {
            Some(known) if *known == program => {}
            Some(known) => (known.pid, known.caller) = (None, None),
            None if room => self.changed_by.push(program),
            None => {}
        }
    }

    /// True while rule events need not be read: the next look at the kernel has to wait, and sees what they would tell.
    pub fn defers_events(&self, now: Instant) -> bool {
        self.watching && self.timers.check.is_some_and(|at| at > now)
    }

    pub(super) fn check(&mut self, depth: Depth) {
        if let Some(active) = &self.active {
            self.timers.check = None;
            self.act(Action::Check(depth, active.config.clone()));
        }
    }

    pub(super) fn checked(&mut self, depth: Depth, checked: Checked, now: Instant) {
        let Checked { moved, strays, by, doubted_until, cost } = checked;
        self.budget.spend(cost, now);
        by.into_iter().for_each(|program| self.suspect(program));
        // A thorough look that finds it expired has the elements read now; where that fails, it is for the retry.
        self.timers.doubt = doubted_until.filter(|at| depth == Depth::Rules || *at > now);
        if !self.watching {
            self.timers.check = Some(now + POLL);
        }
        let changed_by = std::mem::take(&mut self.changed_by);
        let failing = self.families.iter().any(|family| family.failure.is_some());
        match depth {
            Depth::Rules if moved => self.begin(Cause::Drift(changed_by.clone()), None),
            // At a resync nothing is taken on trust, and what failed is tried again.
            Depth::Contents if moved || failing => self.begin(Cause::Resync, None),
            _ => {}
        }
        // Those that could not be removed are tried again at the resync only; then they may be gone by themselves.
        let known = !self.strays_left.is_empty();
        if (strays && !known) || (known && depth == Depth::Contents) {
            self.strays_by = (!known).then_some(changed_by);
            self.remove_strays(Search::Shown);
        }
    }

    pub(super) fn remove_strays(&mut self, search: Search) {
        if let Some(active) = &self.active {
            self.act(Action::RemoveStrays(active.config.clone(), search));
        }
    }
}
