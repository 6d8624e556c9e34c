//! What the configuration files say, and what follows from it.

use super::report::{Origin, ReloadOutcome, one_line};
use super::round::Cause;
use super::state::Active;
use super::{Action, Agent, Depth, Entry, Kind, Reading, Search};
use crate::config::{self, Config, Diagnostic, Diagnostics, Reading as Files, SourceText};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// EX_CONFIG of sysexits.h.
const CONFIGURATION_ERROR: u8 = 78;

/// A configuration that is to be enforced.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub config: Arc<Config>,
    pub sources: Arc<[SourceText]>,
    pub origin: Origin,
}

/// Why the files are not what is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// All of it, for the journal.
    pub text: String,
    /// The first of it, for one line.
    pub line: String,
}

enum Judgement {
    /// As enforced already.
    Same,
    New(Candidate),
    Refused(Refusal),
}

impl Agent {
    pub(super) fn config_read(&mut self, result: Result<Files, Diagnostics>) {
        let judgement = match result {
            Ok(files) => {
                self.warn(&files.warnings);
                self.judge(files.sources)
            }
            Err(diagnostics) => Judgement::Refused(refused(&diagnostics)),
        };
        match (judgement, self.reading) {
            (Judgement::New(candidate), reading) => {
                let cause = if reading == Reading::Reload { Cause::Reload } else { Cause::Edit };
                self.put(candidate, cause);
            }
            (Judgement::Same, reading) => self.same(reading),
            (Judgement::Refused(refusal), Reading::Start) => self.start_without_files(refusal),
            (Judgement::Refused(refusal), reading) => self.refuse(refusal, reading),
        }
    }

    fn judge(&self, sources: Vec<SourceText>) -> Judgement {
        if let Some(active) = self.active.as_ref().filter(|active| *active.sources == *sources) {
            // The kernel may have refused these texts once; they are the active ones only where it did not.
            return if active.origin == Origin::LastGood {
                Judgement::New(Candidate {
                    config: active.config.clone(),
                    sources: sources.into(),
                    origin: Origin::Files,
                })
            } else {
                Judgement::Same
            };
        }
        if let Some(gone) = self.vanished(&sources) {
            let line = format!("configuration file '{}' is gone", gone.display());
            return Judgement::Refused(Refusal { kind: Kind::ConfigMissing, text: line.clone(), line });
        }
        match config::parse(&sources, &self.setup.flags) {
            Ok(config) => {
                let origin = if sources.is_empty() { Origin::Defaults } else { Origin::Files };
                Judgement::New(Candidate { config: Arc::new(config), sources: sources.into(), origin })
            }
            Err(diagnostics) => Judgement::Refused(refused(&diagnostics)),
        }
    }

    /// Says what is suspicious, once.
    fn warn(&mut self, warnings: &[Diagnostic]) {
        if self.warned != warnings {
            for warning in warnings {
                self.log(Entry::lines(Kind::Warning, warning.to_string()));
            }
            self.warned = warnings.to_vec();
        }
    }

    /// The main file that was there when all was well and is not there now.
    fn vanished(&self, sources: &[SourceText]) -> Option<Arc<Path>> {
        let known = match &self.active {
            Some(active) => &active.sources,
            None => self.last_good.as_ref()?,
        };
        let main = |sources: &[SourceText]| {
            sources
                .iter()
                .find(|source| source.path.parent() != self.setup.fragments.as_deref())
                .map(|source| source.path.clone())
        };
        if main(sources).is_some() {
            return None;
        }
        main(known)
    }

    fn same(&mut self, reading: Reading) {
        self.accept();
        match reading {
            Reading::Reload => {
                self.remove_strays(Search::Shown);
                self.begin(Cause::Reload, None);
            }
            Reading::Look { resync: true } => self.check(Depth::Contents),
            Reading::Start | Reading::Look { resync: false } => {}
        }
    }

    /// The files are what is enforced.
    pub(super) fn accept(&mut self) {
        self.reread.succeeded();
        if let Some(refusal) = self.refusal.take() {
            // Files that the kernel refused were good all the time.
            let message = match refusal.kind {
                Kind::Degraded | Kind::ForeignRefused => "the configuration files are in force now",
                _ => "the configuration files are valid again, and in force",
            };
            self.log(Entry::new(Kind::Recovered, message));
        }
    }

    /// At the start there may be a last good configuration; without one there is nothing to enforce.
    fn start_without_files(&mut self, refusal: Refusal) {
        self.log_refusal(&refusal);
        self.refusal = Some(refusal);
        let last_good = self.last_good.clone();
        let parsed = last_good.as_ref().map(|sources| config::parse(sources, &self.setup.flags));
        match (last_good, parsed) {
            (Some(sources), Some(Ok(config))) => {
                let candidate = Candidate { config: Arc::new(config), sources, origin: Origin::LastGood };
                self.put(candidate, Cause::Edit);
            }
            (_, Some(Err(diagnostics))) => {
                let message = format!("the last good configuration is not usable either:\n{diagnostics}");
                self.log(Entry::lines(Kind::ConfigRefused, message));
                self.give_up("the last good configuration is not usable either".to_owned(), CONFIGURATION_ERROR);
            }
            _ => {
                let message = match &self.past.unusable {
                    Some(why) => format!("the last good configuration can't be used either: {why}"),
                    None => "there is no last good configuration to fall back on".to_owned(),
                };
                self.give_up(message, CONFIGURATION_ERROR);
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, reading: Reading) {
        let asked = reading == Reading::Reload;
        if asked || self.refusal.as_ref() != Some(&refusal) {
            self.log_refusal(&refusal);
        }
        let text = refusal.text.clone();
        self.refusal = Some(refusal);
        match reading {
            Reading::Reload => self.reload_done(ReloadOutcome::Configuration, text),
            Reading::Look { resync: true } => self.check(Depth::Contents),
            Reading::Start | Reading::Look { resync: false } => {}
        }
    }

    fn log_refusal(&mut self, refusal: &Refusal) {
        let stays = if self.active.is_some() || self.last_good.is_some() {
            "the last good configuration stays in force:\n"
        } else {
            ""
        };
        let message = match refusal.kind {
            Kind::ConfigMissing => format!("{}; the last good configuration stays in force", refusal.line),
            _ => format!("the configuration is refused; {stays}{}", refusal.text),
        };
        self.log(Entry::lines(refusal.kind, message));
    }

    /// Puts a configuration into the kernel, choosing a backend for it when there is none yet.
    fn put(&mut self, candidate: Candidate, cause: Cause) {
        if self.backend.is_none() {
            self.act(Action::ChooseBackend(candidate.config.clone()));
            self.pending = Some(candidate);
        } else {
            // An older one that still waits for a held lock is not to come after this one.
            self.pending = None;
            self.begin(cause, Some(candidate));
        }
    }

    pub(super) fn resync_at(&self, now: Instant) -> Option<Instant> {
        self.active.as_ref().map(|active| now + active.config.settings.resync_interval)
    }
}

impl From<Candidate> for Active {
    fn from(candidate: Candidate) -> Self {
        Active { config: candidate.config, sources: candidate.sources, origin: candidate.origin }
    }
}

fn refused(diagnostics: &Diagnostics) -> Refusal {
    let line = match diagnostics.0.as_slice() {
        [] => "the configuration is invalid".to_owned(),
        [first] => first.headline(),
        [first, rest @ ..] => format!("{} (and {} more)", first.headline(), rest.len()),
    };
    Refusal { kind: Kind::ConfigRefused, text: diagnostics.to_string(), line: one_line(&line) }
}
