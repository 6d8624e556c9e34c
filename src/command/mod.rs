//! One subcommand each.

#![forbid(unsafe_code)]

pub mod ask;
pub mod check;
pub mod comparison;
pub mod confirm;
pub mod crossing;
pub mod diff;
pub mod explain;
pub mod flows;
pub mod flush;
pub mod forwarding;
pub mod host;
pub mod import;
mod install;
pub mod last_good;
pub mod nagios;
pub mod prometheus;
pub mod reload;
pub mod render;
pub mod run;
pub mod status;
pub mod try_out;

use crate::agent::{self, CommandLine, MOST_DESTINATIONS, PolicyInForce, PolicyQuestion, TrialDetails};
use crate::config::{self, Config, Diagnostic, Diagnostics, Flags, Locations, SourceText};
use crate::policy::Policy;
use crate::service::control::Request;
use crate::service::state::StateError;
use crate::text::{self, one_line};
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every command is told: where the configuration lies, and the flags that beat it.
#[derive(Debug, Clone)]
pub struct Context {
    pub locations: Locations,
    /// The keys given as flags.
    pub flags: Flags,
}

impl Context {
    /// With the files and options of the running service where no file is named, which is said on stderr if they are not
    /// the usual ones.
    pub fn of_the_service(self) -> Self {
        let Locations { file: None, directory: None, trust } = self.locations else { return self };
        let Some(service) = command_line().filter(|service| *service != CommandLine::default()) else { return self };
        eprint_line(format_args!("the service runs with {service}, and so does this; --config names another file"));
        let mut flags = service.flags();
        flags.replace(self.flags.iter());
        let locations = Locations { file: service.config, directory: service.config_dir, trust };
        Context { locations, flags }
    }

    /// Reads and validates the configuration. What is suspicious but no error is said on stderr.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Config, Diagnostics> {
        config::parse(&self.read()?, &self.flags)
    }

    fn read(&self) -> Result<Vec<SourceText>, Diagnostics> {
        let reading = config::read(&self.locations, &self.flags)?;
        for warning in &reading.warnings {
            eprint_lines(format_args!("warning: {warning}"));
        }
        Ok(reading.sources)
    }
}

/// A configuration to answer by.
#[derive(Debug)]
pub struct ConfigInForce {
    pub config: Config,
    /// The files are not valid, and this is the last good one.
    pub is_last_good: bool,
}

/// What is to be known for some destinations.
#[derive(Debug)]
pub enum About {
    /// All of the configuration.
    All(ConfigInForce),
    /// What the service says of it. The kernel holds it.
    Told(PolicyInForce),
}

impl About {
    pub fn policy(&self) -> &Policy {
        match self {
            About::All(in_force) => &in_force.config.policy,
            About::Told(told) => &told.policy,
        }
    }

    /// The files are not valid, and this is the last good configuration.
    pub fn is_last_good(&self) -> bool {
        matches!(self, About::All(ConfigInForce { is_last_good: true, .. }))
    }
}

impl From<Config> for ConfigInForce {
    fn from(config: Config) -> Self {
        ConfigInForce { config, is_last_good: false }
    }
}

impl Context {
    /// The configuration of the files, or while they are not valid the last good one of the same main file, which the
    /// service enforces then.
    ///
    /// # Errors
    /// All that is wrong with the files, where nothing else is known.
    pub fn load_or_in_force(&self) -> Result<ConfigInForce, Diagnostics> {
        self.or_in_force(self.load())
    }

    /// The same for these destinations. Texts that take long to parse are not parsed where the service has done so: of
    /// its answer only the policy for these destinations counts.
    ///
    /// # Errors
    /// As [`Context::load_or_in_force`].
    pub fn load_about(&self, destinations: &[IpAddr]) -> Result<About, Diagnostics> {
        let sources = match self.read() {
            Ok(sources) => with_what_is_tried(sources),
            Err(diagnostics) => return self.or_in_force(Err(diagnostics)).map(About::All),
        };
        let length: usize = sources.iter().map(|source| source.text.len()).sum();
        let asks = length >= LONG && destinations.len() <= MOST_DESTINATIONS && self.flags.is_empty();
        match asks.then(|| told(&sources, destinations)).flatten() {
            Some(told) => Ok(About::Told(told)),
            None => self.or_in_force(config::parse(&sources, &self.flags)).map(About::All),
        }
    }

    fn or_in_force(&self, loaded: Result<Config, Diagnostics>) -> Result<ConfigInForce, Diagnostics> {
        let diagnostics = match (loaded, self.vanished()) {
            (Ok(_), Some(gone)) => Diagnostics(vec![Diagnostic::of_file(&gone, GONE)]),
            (Ok(config), None) => return Ok(config.into()),
            (Err(diagnostics), _) => diagnostics,
        };
        let kept = last_good::in_force();
        if kept.as_ref().is_err_and(StateError::is_denied) {
            eprint_line("root is told what is in force while the files are not valid");
        }
        // Those of another configuration are nobody's answer.
        let locations = self.locations.absolute().unwrap_or_else(|_| self.locations.clone());
        let is_ours = |kept: &Vec<SourceText>| !kept.is_empty() && kept.iter().all(|one| locations.reach(&one.path));
        let kept = kept.ok().flatten().filter(is_ours);
        let Some(config) = kept.and_then(|kept| config::parse(&kept, &self.flags).ok()) else {
            return Err(diagnostics);
        };
        if let Some(first) = diagnostics.0.first() {
            let first = first.headline();
            eprint_line(format_args!("{first}; this is the last good configuration, which is in force"));
            let options: Vec<_> =
                command_line().filter(|_| self.flags.is_empty()).iter().flat_map(CommandLine::options).collect();
            if !options.is_empty() {
                eprint_line(format_args!("without the options of the service: {}", options.join(" ")));
            }
        }
        Ok(ConfigInForce { config, is_last_good: true })
    }
}

/// Texts of so many bytes take longer to parse than the service takes to answer: 3 ms.
const LONG: usize = 64 << 10;
/// A service that is busy for longer is not waited for.
const PROMPT: Duration = Duration::from_millis(200);

/// What the service says of a configuration, if that is what it enforces.
fn told(sources: &[SourceText], destinations: &[IpAddr]) -> Option<PolicyInForce> {
    let question = PolicyQuestion { digest: agent::digest(sources), destinations: destinations.to_vec() };
    ask::ask(&Request::Policy(question), PROMPT).ok()?
}

/// How the running service was started; `None` where it does not tell.
fn command_line() -> Option<CommandLine> {
    ask::ask(&Request::CommandLine, PROMPT).ok()
}

/// The texts as the service has them while it tries a candidate in the place of one of them, which is said on stderr.
fn with_what_is_tried(mut sources: Vec<SourceText>) -> Vec<SourceText> {
    let Ok(Some(TrialDetails { report, install: Some(install) })) = ask::ask(&Request::Trial, PROMPT) else {
        return sources;
    };
    let is_that = |source: &&mut SourceText| std::path::absolute(&source.path).is_ok_and(|path| path == install.path);
    if let Some(source) = sources.iter_mut().find(is_that) {
        source.text = install.text;
        eprint_line(format_args!(
            "{} is being tried, goes back at {}: this is what it says in the place of {}",
            report.what,
            report.goes_back_at,
            install.path.display()
        ));
    }
    sources
}

/// What is said of a main file that is not there any more.
pub const GONE: &str = "the file is gone; the service enforces the last good configuration";

impl Context {
    /// The main file of the texts that are in force, where no main file is there any more: the service takes that for an
    /// accident.
    pub fn vanished(&self) -> Option<PathBuf> {
        let locations = self.locations.absolute().ok()?;
        let is_main = |path: &Path| path.parent() == Some(locations.main_directory());
        let present = locations.present().ok()?;
        if locations.is_standard_input() || present.iter().any(|path| is_main(path)) {
            return None;
        }
        let kept = last_good::in_force().ok()??;
        kept.first().map(|first| first.path.to_path_buf()).filter(|path| is_main(path))
    }
}

/// Prints lines of ours on stdout; gives the exit status for it. A reader that has seen enough (`status | head -1`) is
/// no failure.
pub fn print_text(text: impl fmt::Display) -> u8 {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text::lines(&text.to_string()).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprint_line(format_args!("standard output can't be written: {error}"));
            exit::FAILED
        }
        _ => exit::OK,
    }
}

/// Prints a line on stdout, whatever is named in it.
pub fn print_line(line: impl fmt::Display) {
    let _ = print_text(one_line(&line.to_string()) + "\n");
}

/// Prints a line on stderr, whatever is named in it. When that fails there is nowhere left to say so.
pub fn eprint_line(line: impl fmt::Display) {
    eprint_lines(one_line(&line.to_string()));
}

/// Prints lines of ours on stderr.
pub fn eprint_lines(text: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("{}\n", text::lines(&text.to_string())).as_bytes());
}

/// Says on stderr what is wrong with the configuration; gives the exit status for it.
pub fn print_diagnostics(diagnostics: &Diagnostics) -> u8 {
    eprint_lines(diagnostics);
    exit::CONFIG
}

/// Exit statuses that mean the same for every command (sysexits.h for 78).
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// Usage error.
    pub const USAGE: u8 = 2;
    /// Can't tell.
    pub const UNKNOWN: u8 = 3;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}
