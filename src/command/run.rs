//! `run`: the service. `--once` and `--dry-run` take the same way, once.

use super::{Context, eprint_line, exit, print_diagnostics, print_line, print_text};
use crate::agent::advice::warnings;
use crate::agent::{Chosen, Doubt, Entry, Forgotten, Kind, Notification, Outcome, Search, Setup};
use crate::backend::nftables::fast_path::Wanted;
use crate::backend::{self, Removal};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::policy::Family;
use crate::ruleset::NetworkFacts;
use crate::service::connections;
use crate::service::control::Control;
use crate::service::enforcer::Enforcer;
use crate::service::instance::Instance;
use crate::service::journal::Journal;
use crate::service::lock::{self, LockError};
use crate::service::notify::Notifier;
use crate::service::poll::Service;
use crate::service::{directories, notify, view};
use crate::sys::signals::Signals;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Runs the command; returns its exit status.
pub fn run(context: &Context, args: &RunArgs) -> u8 {
    if args.dry_run {
        dry_run(context)
    } else if args.once {
        once(context)
    } else if context.locations.is_standard_input() {
        eprint_line("standard input can be read only once, and the service reads its configuration again; name a file");
        exit::USAGE
    } else {
        service(context)
    }
}

fn service(context: &Context) -> u8 {
    match prepare(context) {
        Ok((service, _instance)) => {
            service.run().unwrap_or_else(|error| failed(&format!("waiting for events failed: {error}")))
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn prepare(context: &Context) -> Result<(Service, Instance), StartError> {
    let signals = Signals::install().map_err(StartError::Signals)?;
    let runtime = directories::runtime();
    let (lock, instance) = lock::exclusive(&runtime).map_err(StartError::Lock)?;
    if let Some(doubt) = instance.doubt() {
        Journal::open().write(&Entry::new(Kind::Warning, doubt));
    }
    let control = Control::listen(lock).map_err(|error| StartError::Control(runtime, error))?;
    // What it says of its files, and keeps of them, others read in other directories.
    let locations = context.locations.absolute().map_err(StartError::Directory)?;
    let setup = Setup {
        flags: context.flags.clone(),
        fragments: locations.fragment_directory(),
        main: locations.new_main_file(),
        watchdog: notify::watchdog(),
    };
    Ok((Service::new(setup, locations, directories::state(), signals, control), instance))
}

/// Why the service did not begin.
#[derive(Debug)]
enum StartError {
    Signals(io::Error),
    Lock(LockError),
    /// With the directory of the socket.
    Control(PathBuf, io::Error),
    Directory(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Signals(error) => write!(f, "signal handlers can't be installed: {error}"),
            StartError::Lock(error) => error.fmt(f),
            StartError::Control(directory, error) => {
                write!(f, "the control socket in '{}' can't be created: {error}", directory.display())
            }
            StartError::Directory(error) => write!(f, "the working directory is gone: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Signals(error) | StartError::Control(_, error) | StartError::Directory(error) => Some(error),
            StartError::Lock(error) => error.source(),
        }
    }
}

fn failed(message: &str) -> u8 {
    Notifier::open().send(&Notification::Status(format!("failed: {message}")));
    Journal::open().write(&Entry::new(Kind::Failed, message));
    exit::FAILED
}

/// A family that is not enabled is looked at all the same: old rules of ours may be there.
fn once(context: &Context) -> u8 {
    let _exclusive = match lock::exclusive(&directories::runtime()) {
        Ok(exclusive) => exclusive,
        Err(error) if error.is_held() => return fail(&format!("{error}; use 'ip-masq-agent reload'")),
        Err(error) => return fail(&error),
    };
    with_backend(context, |kernel, chosen, config, network| {
        let mut status = exit::OK;
        let mut began = Vec::new();
        for family in Family::ALL {
            let mut result = reconcile(kernel, family, config, network);
            if let Some(failure) =
                result.as_ref().err().filter(|failure| family == Family::V4 && chosen.is_of_no_use(failure))
            {
                result = choose(kernel, config, Some(failure)).and_then(|_| reconcile(kernel, family, config, network));
            }
            began.extend(result.as_ref().is_ok_and(|outcome| outcome.began_tracking).then_some(family));
            result.iter().flat_map(|outcome| &outcome.notes).for_each(eprint_line);
            match (result, config.policy.enables(family)) {
                (Ok(Outcome { written: Some(_), .. }), true) => {
                    print_line(format_args!("{family}: written and verified"))
                }
                (Ok(Outcome { written: None, .. }), true) => print_line(format_args!("{family}: in place already")),
                (Ok(Outcome { written: Some(_), .. }), false) => {
                    print_line(format_args!("{family}: not enabled, old rules removed"))
                }
                (Ok(_), false) => {}
                (Err(error), false) if error.is_the_hosts() => {}
                (Err(error), _) => status = fail(&format!("{family}: {error}")),
            }
        }
        if !began.is_empty() {
            let doubt = Doubt::Start { config: Arc::new(config.clone()), families: began };
            if let Err(error) = connections::forget(&doubt, &Forgotten::default()) {
                status = fail(&format!("connections that began before the rules can't be looked for: {error}"));
            }
        }
        if status == exit::OK {
            status = remove_strays(kernel, config);
        }
        status
    })
}

fn reconcile(
    kernel: &mut Enforcer,
    family: Family,
    config: &Config,
    network: &Arc<NetworkFacts>,
) -> Result<Outcome, backend::Error> {
    loop {
        if let Some(result) = kernel.reconcile(family, config, network).transpose() {
            break result;
        }
    }
}

/// Once ours are in, and only then: there is no moment without rules.
fn remove_strays(kernel: &mut Enforcer, config: &Config) -> u8 {
    let mut status = exit::OK;
    for Removal { backend, family, result, .. } in kernel.remove_strays(config, Search::Shown) {
        match result {
            Ok(removed) if removed.is_empty() => {}
            Ok(_) => print_line(format_args!("{backend}, {family}: rules of an earlier run removed")),
            Err(error) => status = fail(&format!("{backend}, {family}: {error}")),
        }
    }
    status
}

fn dry_run(context: &Context) -> u8 {
    with_backend(context, |kernel, _, config, network| {
        let mut status = exit::OK;
        for family in Family::ALL {
            match kernel.plan(family, config, network) {
                Ok(plan) if !plan.is_in_sync() => {
                    let _ = print_text(format_args!("# {family}\n{}\n", plan.transaction().trim_end()));
                }
                Ok(_) if config.policy.enables(family) => print_line(format_args!("# {family}: nothing to send")),
                Ok(_) => {}
                Err(error) if error.is_the_hosts() && !config.policy.enables(family) => {}
                Err(error) => status = fail(&format!("{family}: {error}")),
            }
        }
        match kernel.wrong_fast_path(config, network) {
            Ok(words) if words.is_empty() => {}
            Ok(words) => {
                print_line(format_args!("# fastPath: {}", words.join(", ")));
                let _ = print_text(
                    Wanted::of(&config.policy, &network.interfaces).map_or_else(String::new, |one| one.text()),
                );
            }
            Err(error) => eprint_line(format_args!("fastPath: {error}")),
        }
        status
    })
}

fn with_backend(context: &Context, work: impl FnOnce(&mut Enforcer, &Chosen, &Config, &Arc<NetworkFacts>) -> u8) -> u8 {
    let config = match context.load() {
        Ok(config) => config,
        Err(diagnostics) => return print_diagnostics(&diagnostics),
    };
    let network = match view::network_facts(&config.policy) {
        Ok(network) => network,
        Err(why) => return fail(&why),
    };
    let mut kernel = Enforcer::default();
    match choose(&mut kernel, &config, None) {
        Ok(chosen) => {
            warnings(&config, &view::view(), Some(chosen.name)).iter().for_each(eprint_line);
            work(&mut kernel, &chosen, &config, &network)
        }
        Err(error) => fail(&error),
    }
}

fn choose(kernel: &mut Enforcer, config: &Config, unusable: Option<&backend::Error>) -> Result<Chosen, backend::Error> {
    let chosen = kernel.choose(&config.settings, unusable)?;
    eprint_line(format_args!("backend {} ({})", chosen.name, chosen.reason));
    Ok(chosen)
}

fn fail(message: &impl fmt::Display) -> u8 {
    eprint_line(message);
    exit::FAILED
}
