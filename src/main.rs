//! Command line → command → exit status.

use clap::Parser;
use ip_masq_agent::cli::{Cli, RunArgs, Subcommands};
use ip_masq_agent::command::{self, Context};
use ip_masq_agent::config::{Locations, Trust};
use ip_masq_agent::sys::child;
use std::process::ExitCode;

fn main() -> ExitCode {
    child::keep_descriptors_from_children();
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Subcommands::Run(RunArgs::default()));
    let locations = Locations { trust: trust(&command), ..cli.places.into() };
    let context = Context { locations, flags: cli.keys.0 };
    ExitCode::from(dispatch(&context, &command))
}

/// Who only looks is warned about files that others can write, whoever it is: configuration managers have a candidate
/// checked in a directory of their own.
fn trust(command: &Subcommands) -> Trust {
    match command {
        Subcommands::Check(_) | Subcommands::Render | Subcommands::Diff | Subcommands::Explain(_) => Trust::Warn,
        _ => Trust::Enforce,
    }
}

fn dispatch(context: &Context, command: &Subcommands) -> u8 {
    match command {
        Subcommands::Run(args) => command::run::run(context, args),
        Subcommands::Check(args) => command::check::run(context, args.host),
        Subcommands::Reload => command::reload::run(context),
        Subcommands::Try(args) => command::try_out::run(context, args),
        Subcommands::Confirm => command::confirm::run(context),
        Subcommands::LastGood(args) => command::last_good::run(context, args),
        Subcommands::Render => command::render::run(context),
        Subcommands::Diff => command::diff::run(context),
        Subcommands::Explain(args) => command::explain::run(context, args),
        Subcommands::Import(args) => command::import::run(args.file.as_deref()),
        Subcommands::Status(args) => command::status::run(context, args),
        Subcommands::Flush => command::flush::run(context),
    }
}
