//! What the configuration files say, and what follows from it.

use super::state::{Phase, Refusal};
use super::{Action, Agent, Cause, ConfigOrigin, Depth, Entry, Kind, Loaded, ReloadOutcome, Search, Why};
use crate::config::{self, Diagnostics, Reading, SourceText};
use crate::policy::Family;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// EX_CONFIG of sysexits.h.
const CONFIGURATION_ERROR: u8 = 78;

enum Assessment {
    /// As enforced already.
    Same,
    New(Loaded),
    Refused(Refusal),
}

impl Agent {
    pub(super) fn last_good_read(&mut self, result: Result<Option<Vec<SourceText>>, Cause>) {
        if let Err(why) = &result {
            self.log(Entry::new(Kind::Warning, not_used(why)));
        }
        self.desired.last_good = result.map(|sources| sources.map(Arc::from));
    }

    pub(super) fn config_read(&mut self, why: Why, result: Result<Reading, Diagnostics>) {
        match why {
            Why::Candidate(attempt) => return self.candidate_read(attempt, result),
            Why::Look => return self.look(result),
            _ => {}
        }
        if let Ok(files) = &result
            && self.holds_back(&files.sources, &why)
        {
            return match why {
                Why::Start => self.fall_back(),
                Why::Periodic => self.check(Depth::Contents),
                _ => {}
            };
        }
        if why == Why::Start && self.desired.unconfirmed.is_some() {
            let message = "a configuration that was being tried was not confirmed; the earlier one is in force again";
            self.log(Entry::new(Kind::WentBack, message));
        }
        let assessment = match result {
            Ok(files) => {
                let warnings = files.warnings.iter().map(|warning| Entry::lines(Kind::Warning, warning.to_string()));
                self.log_standing(|reported| &mut reported.files, warnings);
                self.assess(files.sources)
            }
            Err(diagnostics) => Assessment::Refused(Refusal::Wrong(diagnostics)),
        };
        match assessment {
            Assessment::New(candidate) => self.enforce(candidate, why),
            Assessment::Same => self.same(why),
            Assessment::Refused(refusal) => {
                self.refuse(refusal, &why);
                match why {
                    Why::Start => self.fall_back(),
                    Why::Periodic => self.check(Depth::Contents),
                    _ => {}
                }
            }
        }
    }

    fn assess(&self, sources: Vec<SourceText>) -> Assessment {
        if let Some(active) = self.desired.active.as_ref().filter(|active| *active.sources == *sources) {
            // The kernel may have refused these texts once; they are the active ones only where it did not.
            return match active.origin {
                ConfigOrigin::LastGood => Assessment::New(Loaded { origin: ConfigOrigin::Files, ..active.clone() }),
                ConfigOrigin::Files | ConfigOrigin::Defaults | ConfigOrigin::Trial => Assessment::Same,
            };
        }
        if let Some(gone) = self.vanished(&sources) {
            return Assessment::Refused(Refusal::Gone(gone));
        }
        match config::parse(&sources, &self.setup.flags) {
            Ok(config) => {
                let origin = if sources.is_empty() { ConfigOrigin::Defaults } else { ConfigOrigin::Files };
                Assessment::New(Loaded { config: Arc::new(config), sources: sources.into(), origin })
            }
            Err(diagnostics) => Assessment::Refused(Refusal::Wrong(diagnostics)),
        }
    }

    /// The main file that was there when all was well and is not there now.
    fn vanished(&self, sources: &[SourceText]) -> Option<Arc<Path>> {
        let known = self.desired.active.as_ref().map(|active| &active.sources).or(self.desired.last_good())?;
        let main = |sources: &[SourceText]| self.main_of(sources).map(|place| sources[place].path.clone());
        if main(sources).is_some() { None } else { main(known) }
    }

    fn same(&mut self, why: Why) {
        self.accept();
        match why {
            Why::Reload => {
                self.remove_strays(Search::Shown, None);
                self.reconcile(Why::Reload, None);
            }
            Why::Periodic => self.check(Depth::Contents),
            _ => {}
        }
    }

    /// The files are what is enforced.
    pub(super) fn accept(&mut self) {
        self.timers.reread.succeeded();
        self.forget_unconfirmed();
        self.log_standing(|reported| &mut reported.differing, None);
        for refusal in self.desired.refusal.update(None).ended {
            let message = match refusal {
                Refusal::Kernel(_) => "the configuration files are in force now",
                Refusal::Wrong(_) | Refusal::Gone(_) => "the configuration files are valid again, and in force",
            };
            self.log(Entry::new(Kind::Recovered, message));
        }
    }

    /// Says why the files are not enforced: once, and to everybody who asks for a reload.
    pub(super) fn refuse(&mut self, refusal: Refusal, why: &Why) {
        self.log_standing(|reported| &mut reported.differing, None);
        let is_new = !self.desired.refusal.update([refusal.clone()]).begun.is_empty();
        if *why == Why::Reload || (is_new && *why != Why::Start) {
            self.count_reload(true);
        }
        if is_new || *why == Why::Reload {
            let entry = self.refusal_entry(&refusal);
            self.log(entry);
        }
        if *why == Why::Reload {
            let is_the_kernels = matches!(refusal, Refusal::Kernel(_));
            let outcome = if is_the_kernels { ReloadOutcome::Refused } else { ReloadOutcome::Configuration };
            self.reload_done(outcome, &refusal.to_string());
        }
    }

    /// Once for each reading of the files that was asked for or had something new in it.
    pub(super) fn count_reload(&mut self, failed: bool) {
        self.history.reloads.total += 1;
        self.history.reloads.failed += u64::from(failed);
    }

    fn refusal_entry(&self, refusal: &Refusal) -> Entry {
        // What becomes of a start is said by what follows.
        let is_up = self.desired.active.is_some();
        let stays = if is_up { "; the last good configuration stays in force" } else { "" };
        let message = match refusal {
            Refusal::Wrong(_) => format!("the configuration is refused{stays}:\n{refusal}"),
            Refusal::Gone(_) | Refusal::Kernel(_) => format!("{refusal}{stays}"),
        };
        match refusal {
            Refusal::Kernel(_) => Entry::new(refusal.kind(), message).by(self.backend_name()).of(Family::V4),
            Refusal::Wrong(_) | Refusal::Gone(_) => Entry::lines(refusal.kind(), message),
        }
    }

    /// At the start there may be a last good configuration; without one there is nothing to enforce.
    fn fall_back(&mut self) {
        let message = match &self.desired.last_good {
            Ok(Some(sources)) => {
                let sources = sources.clone();
                match config::parse(&sources, &self.setup.flags) {
                    Ok(config) => {
                        let candidate = Loaded { config: Arc::new(config), sources, origin: ConfigOrigin::LastGood };
                        return self.enforce(candidate, Why::Start);
                    }
                    Err(diagnostics) => {
                        self.log_unusable(diagnostics);
                        "the last good configuration is not usable either".to_owned()
                    }
                }
            }
            Ok(None) => "there is no last good configuration to fall back on".to_owned(),
            Err(why) => format!("the last good configuration can't be used either: {why}"),
        };
        self.give_up(message, CONFIGURATION_ERROR);
    }

    /// What was said of the files and is true of the last good configuration as well is the fault of flags.
    fn log_unusable(&mut self, Diagnostics(mut all): Diagnostics) {
        let is_said = |one: &_| {
            self.desired.refusal.iter().any(|refusal| matches!(refusal, Refusal::Wrong(said) if said.0.contains(one)))
        };
        all.retain(|one| !is_said(one));
        if !all.is_empty() {
            let all = Diagnostics(all);
            let message = format!("the last good configuration is not usable either:\n{all}");
            self.log(Entry::lines(Kind::ConfigRefused, message));
        }
    }

    /// Puts a configuration into the kernel, choosing a backend for it when there is none yet.
    pub(super) fn enforce(&mut self, candidate: Loaded, why: Why) {
        if let Phase::Starting(start) = &mut self.phase {
            start.candidate = Some(candidate.clone());
        }
        if self.backend.is_none() {
            self.act(Action::ChooseBackend(candidate, None));
        } else {
            self.reconcile(why, Some(candidate));
        }
    }

    pub(super) fn resync_at(&self, now: Instant) -> Option<Instant> {
        self.desired.active.as_ref().map(|active| now + active.config.settings.resync_interval)
    }

    /// Keeps what the kernel agreed to, unless it is kept already.
    pub(super) fn save(&mut self) {
        let Some(Loaded { sources, origin, .. }) = &self.desired.active else { return };
        let last_good = self.desired.last_good();
        let is_worth_it = match origin {
            ConfigOrigin::Files => true,
            ConfigOrigin::Defaults => last_good.is_some(),
            ConfigOrigin::LastGood | ConfigOrigin::Trial => false,
        };
        if is_worth_it && (last_good != Some(sources) || !self.reported.unsaved.is_empty()) {
            self.act(Action::SaveLastGood(sources.clone()));
        }
    }

    pub(super) fn last_good_saved(&mut self, sources: Arc<[SourceText]>, result: Result<(), Cause>, now: Instant) {
        let entry = match result {
            Ok(()) => {
                self.history.saved = Some(now);
                self.desired.last_good = Ok(Some(sources));
                None
            }
            Err(why) => {
                let message = format!("the last good configuration could not be saved: {why}");
                Some(Entry::new(Kind::StateNotSaved, message))
            }
        };
        if self.log_standing(|reported| &mut reported.unsaved, entry) {
            self.log(Entry::new(Kind::Recovered, "the last good configuration is saved again"));
        }
    }
}

/// What is said of a last good configuration that an earlier run saved.
pub fn not_used(why: &Cause) -> String {
    format!("the saved last good configuration is not used: {why}")
}
