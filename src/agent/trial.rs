//! A candidate that is in force until somebody confirms it, and from which the service goes back by its own timer.
//!
//! Meanwhile the files are not read, whatever happens to them; afterwards they are, as after any edit. What they would be
//! with the candidate is kept in the state directory until it is confirmed: texts that nobody has confirmed are not
//! applied by a start either, only by a reload, or once they are edited.

use super::attempt::{Attempt, Tried};
use super::question::Loaded;
use super::report::{Install, TrialDetails, one_line};
use super::state::{Ended, Phase, Trial};
use super::{Action, Agent, Cause, Client, ConfigOrigin, Entry, Kind, ReloadAnswer, ReloadOutcome, Why};
use crate::config::{self, ConfigWatch, Diagnostics, Reading, SourceText};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Why nothing is tried.
type Refused = (ReloadOutcome, String);

impl Agent {
    /// How edits come into force.
    pub(super) fn config_watch(&self) -> ConfigWatch {
        self.desired.active.as_ref().map(|active| active.config.settings.config_watch).unwrap_or_default()
    }

    /// Reads the files as after an edit.
    fn read_files(&mut self) {
        self.act(Action::ReadConfig(if self.config_watch() == ConfigWatch::Off { Why::Look } else { Why::Edit }));
    }

    pub(super) fn try_requested(&mut self, attempt: Attempt, now: Instant) {
        let refused = match (&self.phase, &self.desired.trial) {
            (Phase::Starting(_), _) => "the service is starting".to_owned(),
            (Phase::Stopping { .. } | Phase::Ended(_), _) => "the service is stopping".to_owned(),
            (Phase::Running, Some(trial)) => trial.refusal(now),
            (Phase::Running, None) => return self.act(Action::ReadConfig(Why::Candidate(attempt))),
        };
        self.tell(attempt.client, ReloadOutcome::Refused, &refused);
    }

    fn tell(&mut self, client: Client, outcome: ReloadOutcome, message: &str) {
        self.act(Action::AnswerReload(client, ReloadAnswer::new(outcome, message)));
    }

    pub(super) fn candidate_read(&mut self, attempt: Attempt, result: Result<Reading, Diagnostics>) {
        let wrong = |diagnostics: Diagnostics| (ReloadOutcome::Configuration, diagnostics.to_string());
        match result.map_err(wrong).and_then(|files| self.candidate(&attempt, files.sources)) {
            Ok((candidate, files)) => {
                // To go back there after a crash, whatever could not be saved until now.
                let active = self.desired.active.as_ref().map(|active| active.sources.clone());
                let before = active.filter(|sources| self.desired.last_good() != Some(sources));
                self.act(Action::SaveTrial { before, tried: Box::new(Tried { attempt, files }), candidate });
            }
            Err((outcome, message)) => self.tell(attempt.client, outcome, &message),
        }
    }

    /// The candidate, and what the files are once it is confirmed.
    fn candidate(&self, attempt: &Attempt, sources: Vec<SourceText>) -> Result<(Loaded, Arc<[SourceText]>), Refused> {
        let wrong = |diagnostics: Diagnostics| (ReloadOutcome::Configuration, diagnostics.to_string());
        let refused = |message: &str| Err((ReloadOutcome::Refused, message.to_owned()));
        let (mut files, mut shown) = (sources.clone(), sources);
        if let Some(file) = &attempt.file {
            if self.is_unconfirmed(&files) {
                return refused(
                    "the files hold what was tried before and not confirmed; first 'ip-masq-agent last-good --restore', \
                     or 'ip-masq-agent reload' to apply it",
                );
            }
            let main = self.main_of(&files);
            let path = main.map_or_else(|| self.setup.main.as_path().into(), |place| files[place].path.clone());
            put(&mut files, main, SourceText { path, text: file.text.clone() });
            put(&mut shown, main, file.clone());
        }
        let config = config::parse(&shown, &self.setup.flags).map_err(wrong)?;
        if let Some(file) = &attempt.file {
            // The name says the language.
            config::parse(&files, &self.setup.flags).map_err(|diagnostics| {
                let (own, main) = (file.path.display(), self.main_of(&files).map(|place| files[place].path.clone()));
                let main = main.unwrap_or_else(|| self.setup.main.as_path().into());
                let message = format!("{own} is valid by its name, but not as {}:\n{diagnostics}", main.display());
                (ReloadOutcome::Configuration, message)
            })?;
        }
        if self.desired.active.as_ref().is_some_and(|active| *active.sources == *files) {
            return refused("nothing to try: this configuration is in force already");
        }
        Ok((Loaded { config: Arc::new(config), sources: shown.into(), origin: ConfigOrigin::Trial }, files.into()))
    }

    /// Which of the texts is the main file.
    pub(super) fn main_of(&self, sources: &[SourceText]) -> Option<usize> {
        sources.iter().position(|source| source.path.parent() != self.setup.fragments.as_deref())
    }

    pub(super) fn is_unconfirmed(&self, sources: &[SourceText]) -> bool {
        self.desired.unconfirmed.as_deref() == Some(sources)
    }

    pub(super) fn trial_saved(&mut self, tried: Box<Tried>, candidate: Loaded, result: Result<(), Cause>) {
        match result {
            Ok(()) => {
                self.desired.last_good = Ok(self.desired.active.as_ref().map(|active| active.sources.clone()));
                self.desired.unconfirmed = Some(tried.files.clone());
                self.reconcile(Why::Try(tried), Some(candidate));
            }
            Err(why) => {
                let message = format!("nothing is tried: after a restart there would be no way back: {why}");
                self.tell(tried.attempt.client, ReloadOutcome::Refused, &message);
            }
        }
    }

    /// The kernel did not take the candidate.
    pub(super) fn trial_failed(&mut self, tried: &Tried, message: &str) {
        self.forget_unconfirmed();
        let message = format!("{} could not be applied: {message}", tried.attempt.what());
        self.tell(tried.attempt.client, ReloadOutcome::Refused, &message);
    }

    /// The candidate is in the kernel.
    pub(super) fn trial_begins(&mut self, tried: &Tried, before: Loaded, message: &str, now: Instant) {
        let Tried { attempt, files } = tried;
        let until = now + attempt.timeout;
        let main = self.main_of(files).map(|place| files[place].clone());
        let trial = Trial {
            number: self.history.generation,
            until,
            goes_back_at: attempt.clock.time(until),
            what: attempt.what(),
            by: one_line(&attempt.by),
            before,
            files: files.clone(),
            install: main.filter(|_| attempt.file.is_some()),
            waiting: Vec::new(),
        };
        self.log_standing(|reported| &mut reported.differing, None);
        let said = format!("{} (by {}): {message}", trial.summary(), trial.by);
        self.log(Entry::new(Kind::Trying, &said).by(self.backend_name()).with("GOES_BACK_AT", &trial.goes_back_at));
        self.tell(attempt.client, ReloadOutcome::Applied, &said);
        self.desired.trial = Some(trial);
    }

    /// What a client needs that wants to confirm.
    pub(super) fn trial_asked(&mut self, client: Client, now: Instant) {
        let details = self.desired.trial.as_ref().map(|trial| TrialDetails {
            report: trial.report(now),
            install: trial
                .install
                .as_ref()
                .map(|source| Install { path: source.path.to_path_buf(), text: source.text.clone() }),
        });
        self.act(Action::AnswerTrial(client, details.map(Box::new)));
    }

    fn is_tried(&self, number: u64) -> bool {
        self.desired.trial.as_ref().is_some_and(|trial| trial.number == number)
    }

    pub(super) fn trial_awaited(&mut self, client: Client, number: u64) {
        match self.desired.trial.as_mut().filter(|trial| trial.number == number) {
            Some(trial) => trial.waiting.push(client),
            None => self.tell_late(client, number, true),
        }
    }

    pub(super) fn confirm(&mut self, client: Client, number: u64) {
        let Some(trial) = self.desired.trial.take_if(|trial| trial.number == number) else {
            return self.tell_late(client, number, true);
        };
        if let Some(active) = &mut self.desired.active {
            // By the names of the files, which the messages name from now on.
            if let Ok(config) = config::parse(&trial.files, &self.setup.flags) {
                active.config = Arc::new(config);
            }
            active.sources = trial.files.clone();
            active.origin = if trial.files.is_empty() { ConfigOrigin::Defaults } else { ConfigOrigin::Files };
        }
        self.save();
        // After that: it is what a start would go back to.
        self.forget_unconfirmed();
        let installed = trial.install.iter().map(|source| format!("; it is now {}", source.path.display()));
        let message = format!("{} is confirmed and stays in force{}", trial.what, installed.collect::<String>());
        self.log(Entry::new(Kind::Confirmed, &message).by(self.backend_name()));
        for client in trial.waiting.into_iter().chain([client]) {
            self.tell(client, ReloadOutcome::Applied, &message);
        }
        self.desired.ended = Some(Ended { number, confirmed: true, message });
        self.read_files();
    }

    /// Somebody does not want to wait.
    pub(super) fn back_requested(&mut self, client: Client, number: u64, now: Instant) {
        if self.is_tried(number) {
            self.go_back("was taken back", now);
        }
        self.tell_late(client, number, false);
    }

    /// How a trial ended, and whether as somebody wanted who comes too late to change that.
    fn tell_late(&mut self, client: Client, number: u64, wants_it: bool) {
        let (outcome, message) = match self.desired.ended.as_ref().filter(|ended| ended.number == number) {
            Some(ended) if ended.confirmed == wants_it => (ReloadOutcome::Applied, ended.message.clone()),
            Some(ended) => (ReloadOutcome::Refused, ended.message.clone()),
            None => {
                let message = "that trial is over; 'ip-masq-agent status' says what is in force";
                (ReloadOutcome::Refused, message.to_owned())
            }
        };
        self.tell(client, outcome, &message);
    }

    /// What was in force is in force again. When the kernel does not take it now, it is tried again as any other is.
    pub(super) fn go_back(&mut self, why: &str, now: Instant) {
        let Some(trial) = self.desired.trial.take() else { return };
        let candidate = self.desired.active.replace(trial.before).map(|candidate| candidate.config);
        self.history.generation += 1;
        self.host.in_use.clear();
        self.timers.resync = self.resync_at(now);
        // Until they are back, the status does not say that all is well.
        self.watch.moved = true;
        self.renew_facts();
        self.reconcile(Why::GoBack, None);
        let message = format!("{} {why}; the earlier configuration is in force again", trial.what);
        self.log(Entry::new(Kind::WentBack, &message).by(self.backend_name()));
        for client in trial.waiting {
            self.tell(client, ReloadOutcome::Refused, &message);
        }
        self.desired.ended = Some(Ended { number: trial.number, confirmed: false, message });
        self.act(Action::ReadHost);
        self.connections.tried = candidate;
        self.follow_network();
        self.read_files();
    }

    /// Those who wait for the end of a trial that the service does not live to see.
    pub(super) fn trial_cut_short(&mut self) {
        let Some(trial) = &mut self.desired.trial else { return };
        for client in std::mem::take(&mut trial.waiting) {
            let message = "the service is stopping; it starts again with the earlier configuration";
            self.tell(client, ReloadOutcome::Refused, message);
        }
    }

    pub(super) fn unconfirmed_read(&mut self, result: Result<Option<Vec<SourceText>>, Cause>) {
        match result {
            Ok(sources) => self.desired.unconfirmed = sources.map(Arc::from),
            Err(why) => {
                let message = format!("whether a configuration was being tried is not known: {why}");
                self.log(Entry::new(Kind::Warning, message));
            }
        }
    }

    /// The files may be applied as they are.
    pub(super) fn forget_unconfirmed(&mut self) {
        if self.desired.unconfirmed.take().is_some() {
            self.act(Action::ForgetUnconfirmed);
        }
    }

    /// The files were tried and not confirmed. False where there is nothing that could be enforced in their place.
    pub(super) fn holds_back(&mut self, sources: &[SourceText], why: &Why) -> bool {
        let has_another = self.desired.active.is_some() || self.desired.last_good().is_some();
        if *why == Why::Reload || !has_another || !self.is_unconfirmed(sources) {
            return false;
        }
        let main = self.main_of(sources).or((!sources.is_empty()).then_some(0));
        let name = main.map_or("the configuration".into(), |place| sources[place].path.display().to_string());
        let message = format!(
            "{name} was tried and not confirmed; the earlier configuration is in force until a reload or an edit"
        );
        self.differ(message);
        true
    }

    /// What the files are is only looked at: somebody has to ask for it to be applied.
    pub(super) fn look(&mut self, result: Result<Reading, Diagnostics>) {
        let Some(active) = &mut self.desired.active else { return };
        let differing = match &result {
            Ok(files) if *active.sources == *files.sources => {
                active.origin = if files.sources.is_empty() { ConfigOrigin::Defaults } else { ConfigOrigin::Files };
                return self.accept();
            }
            Ok(files) => differing(&active.sources, &files.sources),
            Err(Diagnostics(all)) => {
                let mut paths: Vec<_> = all.iter().filter_map(|one| one.path.clone()).collect();
                paths.dedup();
                paths
            }
        };
        if result.is_ok_and(|files| self.holds_back(&files.sources, &Why::Look)) {
            return;
        }
        let more = match differing.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let name = differing.first().map_or("the configuration".into(), |path| path.display().to_string());
        let verb = if differing.len() > 1 { "differ" } else { "differs" };
        self.differ(format!("{name}{more} {verb} from what is applied; 'systemctl reload ip-masq-agent' applies it"));
    }

    fn differ(&mut self, message: String) {
        self.log_standing(|reported| &mut reported.differing, [Entry::new(Kind::FilesDiffer, message)]);
    }
}

fn put(sources: &mut Vec<SourceText>, place: Option<usize>, source: SourceText) {
    match place {
        Some(place) => sources[place] = source,
        None => sources.insert(0, source),
    }
}

/// The files that are not as they were, are new or are gone.
fn differing(before: &[SourceText], now: &[SourceText]) -> Vec<Arc<Path>> {
    let changed = now.iter().filter(|source| !before.contains(source)).map(|source| source.path.clone());
    let gone = |source: &&SourceText| now.iter().all(|other| other.path != source.path);
    changed.chain(before.iter().filter(gone).map(|source| source.path.clone())).collect()
}
