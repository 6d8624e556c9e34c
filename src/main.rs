//! Command line → command → exit status.

use clap::{CommandFactory, Parser};
use ip_masq_agent::cli::{self, Cli, Options, RunArgs, Subcommands};
use ip_masq_agent::command::{self, Context};
use ip_masq_agent::config::{Locations, Trust};
use ip_masq_agent::sys::child;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

fn main() -> ExitCode {
    child::keep_descriptors_from_children();
    if is_asked_for_help() {
        command::eprint_lines(Cli::command().render_help());
        return ExitCode::from(command::exit::USAGE);
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        cli::advised(error, &words).exit()
    });
    let Options { places, keys } = cli.options().unwrap_or_else(|error| error.exit());
    let locations = Locations { trust: trust(cli.command.as_ref()), ..places.into() };
    let context = Context { locations, flags: keys.flags };
    let context = if is_about_the_service(cli.command.as_ref()) { context.of_the_service() } else { context };
    ExitCode::from(dispatch(&context, cli.command.as_ref()))
}

/// Who types the bare name on a terminal wants to know what it does, not to run the service. Without a terminal it is the
/// service, as Kubernetes' ip-masq-agent is.
fn is_asked_for_help() -> bool {
    std::env::args_os().len() <= 1 && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Who only looks is warned about files that others can write, whoever it is: configuration managers have a candidate
/// checked in a directory of their own.
fn trust(command: Option<&Subcommands>) -> Trust {
    match command {
        Some(Subcommands::Check(_) | Subcommands::Render(_) | Subcommands::Diff(_) | Subcommands::Explain(_)) => {
            Trust::Warn
        }
        _ => Trust::Enforce,
    }
}

/// Who only looks wants to know of what is in force here, unless another file is named.
fn is_about_the_service(command: Option<&Subcommands>) -> bool {
    match command {
        Some(Subcommands::Check(_) | Subcommands::Render(_) | Subcommands::Diff(_)) => true,
        Some(Subcommands::Explain(with)) => !with.args.offline,
        _ => false,
    }
}

fn dispatch(context: &Context, command: Option<&Subcommands>) -> u8 {
    let Some(command) = command else { return command::run::run(context, &RunArgs::default()) };
    match command {
        Subcommands::Run(with) => command::run::run(context, &with.args),
        Subcommands::Check(with) => command::check::run(context, with.args.host),
        Subcommands::Reload => command::reload::run(context),
        Subcommands::Try(args) => command::try_out::run(context, args),
        Subcommands::Confirm => command::confirm::run(context),
        Subcommands::LastGood(with) => command::last_good::run(context, &with.args),
        Subcommands::Render(_) => command::render::run(context),
        Subcommands::Diff(_) => command::diff::run(context),
        Subcommands::Explain(with) => command::explain::run(context, &with.args),
        Subcommands::Import(args) => command::import::run(args.file.as_deref()),
        Subcommands::Status(args) => command::status::run(context, args),
        Subcommands::Flush(_) => command::flush::run(context),
    }
}
