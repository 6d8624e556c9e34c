//! `run`: the service. `--once` and `--dry-run` take the same way, once.

use super::{Context, exit, refuse, say, tell};
use crate::agent::advice::harm;
use crate::agent::{Entry, Kind, Outcome, Setup};
use crate::backend::Cleared;
use crate::cli::RunArgs;
use crate::config::Config;
use crate::host::control::Control;
use crate::host::journal::Journal;
use crate::host::kernel::Kernel;
use crate::host::lock::{Lock, LockError};
use crate::host::poll::Service;
use crate::host::signals::Signals;
use crate::host::{directories, notify, view};
use crate::policy::Family;
use std::fmt;

/// Runs the command; returns its exit status.
pub fn run(context: &Context, args: &RunArgs) -> u8 {
    if args.dry_run {
        dry_run(context)
    } else if args.once {
        once(context)
    } else {
        service(context)
    }
}

fn service(context: &Context) -> u8 {
    match prepare(context) {
        Ok((service, _lock)) => {
            service.run().unwrap_or_else(|error| failed(&format!("waiting for events failed: {error}")))
        }
        Err(message) => failed(&message),
    }
}

fn prepare(context: &Context) -> Result<(Service, Lock), String> {
    let signals = Signals::install().map_err(|error| format!("signal handlers can't be installed: {error}"))?;
    let runtime = directories::runtime();
    let lock = Lock::take(&runtime).map_err(|error| error.to_string())?;
    let control = Control::listen(&runtime)
        .map_err(|error| format!("the control socket in '{}' can't be made: {error}", runtime.display()))?;
    let setup = Setup {
        flags: context.flags.clone(),
        fragments: context.locations.fragment_directory(),
        watchdog: notify::watchdog(),
    };
    Ok((Service::new(setup, context.locations.clone(), directories::state(), signals, control), lock))
}

fn failed(message: &str) -> u8 {
    Journal::open().write(&Entry::new(Kind::Failed, message));
    exit::FAILED
}

/// A family that is not enabled is looked at all the same: old rules of ours may be there.
fn once(context: &Context) -> u8 {
    let _lock = match Lock::take(&directories::runtime()) {
        Ok(lock) => lock,
        Err(error @ LockError::Held(_)) => return complain(&format!("{error}; use 'ip-masq-agent reload'")),
        Err(error) => return complain(&error),
    };
    with_backend(context, |kernel, config| {
        let mut status = exit::OK;
        for family in Family::ALL {
            match (kernel.reconcile(family, config), config.policy.enables(family)) {
                (Ok(Outcome { written: Some(_), .. }), true) => say(format_args!("{family}: written and verified\n")),
                (Ok(Outcome { written: None, .. }), true) => say(format_args!("{family}: in place already\n")),
                (Ok(Outcome { written: Some(_), .. }), false) => {
                    say(format_args!("{family}: not enabled, old rules removed\n"))
                }
                (Ok(_), false) => {}
                (Err(error), false) if error.is_the_hosts() => {}
                (Err(error), _) => status = complain(&format!("{family}: {error}")),
            }
        }
        if status == exit::OK {
            status = clear_others(kernel);
        }
        status
    })
}

/// Once ours are in, and only then: there is no moment without rules.
fn clear_others(kernel: &Kernel) -> u8 {
    let mut status = exit::OK;
    for Cleared { backend, family, result, .. } in kernel.clear_others() {
        match result {
            Ok(removed) if removed.is_empty() => {}
            Ok(_) => say(format_args!("{backend}, {family}: rules of an earlier run removed\n")),
            Err(error) => status = complain(&format!("{backend}, {family}: {error}")),
        }
    }
    status
}

fn dry_run(context: &Context) -> u8 {
    with_backend(context, |kernel, config| {
        let mut status = exit::OK;
        for family in Family::ALL {
            match kernel.plan(family, config) {
                Ok(plan) if !plan.is_in_sync() => say(format_args!("# {family}\n{}\n", plan.transaction.trim_end())),
                Ok(_) if config.policy.enables(family) => say(format_args!("# {family}: nothing to send\n")),
                Ok(_) => {}
                Err(error) if error.is_the_hosts() && !config.policy.enables(family) => {}
                Err(error) => status = complain(&format!("{family}: {error}")),
            }
        }
        status
    })
}

fn with_backend(context: &Context, work: impl FnOnce(&mut Kernel, &Config) -> u8) -> u8 {
    let config = match context.load() {
        Ok(config) => config,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    let mut kernel = Kernel::default();
    match kernel.choose(&config.settings) {
        Ok(chosen) => {
            tell(format_args!("using {}: {}", chosen.name, chosen.reason));
            harm(&config.policy, &view::view(), Some(chosen.name)).iter().for_each(tell);
            work(&mut kernel, &config)
        }
        Err(error) => complain(&error),
    }
}

fn complain(message: &impl fmt::Display) -> u8 {
    tell(message);
    exit::FAILED
}
