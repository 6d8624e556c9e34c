//! Noticing that the rules moved, and whether that is any business of ours.

use super::round::Cause;
use super::{Action, Agent, Culprit, Entry, Kind, Phase};
use crate::backend::{BackendName, Fingerprint};
use crate::config::RuleWatch;
use std::time::{Duration, Instant};

/// How often the kernel is asked whether rules moved where it does not tell by itself.
const POLL: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn watch_answered(&mut self, result: Result<(), String>, now: Instant) {
        self.watching = result.is_ok();
        let deaf = result.err();
        match &deaf {
            // Nobody told us what happened before we listened.
            None if self.active.is_some() => self.act(Action::ReadFingerprint),
            None => {}
            Some(why) => {
                self.timers.look = Some(now + POLL);
                if self.deaf.as_ref() != Some(why) {
                    let message = format!("rule events are not to be had, asking once a second instead: {why}");
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
                self.timers.look = Some(now + POLL);
            }
        }
    }

    pub(super) fn rules_moved(&mut self, culprit: Option<Culprit>) {
        if self.phase == Phase::Running {
            self.culprit = culprit;
            self.act(Action::ReadFingerprint);
        }
    }

    pub(super) fn fingerprint_read(&mut self, fingerprint: Option<Fingerprint>, now: Instant) {
        if !self.watching {
            self.timers.look = Some(now + POLL);
        }
        let failing = self.families.iter().any(|family| family.failure.is_some());
        // What fails on the same rules will fail again; the resync tries.
        let known = fingerprint == self.settled || (failing && fingerprint == self.looked_at);
        if fingerprint.is_some() && known {
            self.culprit = None;
            return;
        }
        match self.pace.take(now) {
            Ok(()) => {
                let culprit = self.culprit.take();
                self.looked_at = fingerprint;
                self.begin(Cause::Drift(culprit), None, now);
            }
            Err(later) => self.timers.look = Some(later),
        }
    }

    /// At a resync nothing is taken on trust: what the fingerprint is blind to counts, and what failed is tried again.
    pub(super) fn contents_read(&mut self, contents: Option<Fingerprint>, now: Instant) {
        let moved = contents.is_none() || contents != self.settled_contents;
        if moved || self.families.iter().any(|family| family.failure.is_some()) {
            self.begin(Cause::Resync, None, now);
        }
    }
}
