//! The end of the service, and what becomes of the rules.

use super::{Action, Agent, Entry, Job, Kind, Notification, Phase};
use crate::backend::Cleared;
use crate::config::OnStop;

impl Agent {
    pub(super) fn stop(&mut self) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.phase = Phase::Stopping;
        self.act(Action::Notify(Notification::Stopping));
        let config = self.active.as_ref().map(|active| &active.config);
        let config = config.or(self.pending.as_ref().map(|candidate| &candidate.config));
        match config.map(|config| config.settings.on_stop) {
            // What an earlier run left is ours as well, even if this one never got so far.
            Some(OnStop::Cleanup) if self.backend.is_some() => self.act(Action::ReadJob),
            Some(OnStop::Keep) => self.stopped_keeping("onStop is 'keep'"),
            _ => self.stopped_keeping("no backend was found for them"),
        }
    }

    pub(super) fn job_read(&mut self, job: Job) {
        match job {
            Job::Stop | Job::NoSystemd => self.act(Action::Flush),
            Job::Restart => self.stopped_keeping("the unit is being restarted"),
            Job::Unknown => {
                self.stopped_keeping("systemd did not say whether this is a stop; 'ip-masq-agent flush' removes them");
            }
        }
    }

    fn stopped_keeping(&mut self, why: &str) {
        self.log(Entry::new(Kind::Stopped, format!("stopped; the rules stay: {why}")).with("RULES", "kept"));
        self.act(Action::Exit(0));
    }

    pub(super) fn flushed(&mut self, cleared: Vec<Cleared>) {
        let mut status = 0;
        for Cleared { family, result, .. } in cleared {
            if let Err(error) = result
                && self.wants(family)
            {
                status = 1;
                self.log(
                    Entry::new(Kind::Failed, format!("the {family} rules could not be removed: {error}")).of(family),
                );
            }
        }
        let rules = if status == 0 { "removed" } else { "not all removed" };
        self.log(Entry::new(Kind::Stopped, format!("stopped; the rules are {rules}")).with("RULES", rules));
        self.act(Action::Exit(status));
    }
}
