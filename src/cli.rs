//! The command line: types only. Values of configuration keys stay raw text here and are judged by
//! [`crate::config::parse`], with the same words as the files.

#![forbid(unsafe_code)]

use crate::config::{Concern, Flags, KEYS, KeyInfo, Kind, Locations};
use crate::policy::{InterfacePattern, InterfacePatternError, MaskedMark, MaskedMarkError, Protocol};
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt;
use std::marker::PhantomData;
use std::net::{AddrParseError, IpAddr};
use std::path::PathBuf;

/// Decides which traffic leaving this host is masqueraded, and keeps that decision true in the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "ip-masq-agent",
    version,
    after_help = "Without a command: run, unless there is no option either and it is a terminal that asks.\n\
        Example: ip-masq-agent check && systemctl reload ip-masq-agent\n\
        Every configuration key is also a flag of the commands on which it has an effect, see --help.",
    after_long_help = "Without a command: run, unless there is no option either and it is a terminal that asks.\n\
        Example: ip-masq-agent check && systemctl reload ip-masq-agent\n\
        See ip-masq-agent(8), and ip-masq-agent.yaml(5) for the configuration."
)]
pub struct Cli {
    /// What was given before the command.
    #[command(flatten)]
    options: Options,
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Subcommands>,
}

impl Cli {
    /// What is said of the configuration, before the command and behind it, where it counts more.
    ///
    /// # Errors
    /// An option before a command for which it does nothing.
    pub fn options(&self) -> Result<Options, clap::Error> {
        let mut options = self.options.clone();
        let Some(told) = self.command.as_ref().map(Subcommands::told) else { return Ok(options) };
        let has_place = options.places.config.is_some() || options.places.config_dir.is_some();
        let mut keys = self.options.keys.flags.iter().map(|(key, _)| key.info());
        let refused = match keys.find(|info| !(told.takes)(info.concern)) {
            _ if has_place && told.places.is_none() => Some("config"),
            refused => refused.map(|info| &*info.flag),
        };
        if let Some(refused) = refused {
            let message = format!("'--{refused}' does nothing for '{}'", told.name);
            return Err(Cli::command().error(ErrorKind::UnknownArgument, message));
        }
        if let Some(Places { config, config_dir }) = told.places.cloned() {
            options.places.config = config.or(options.places.config);
            options.places.config_dir = config_dir.or(options.places.config_dir);
        }
        options.keys.flags.replace(told.keys.iter().flat_map(|keys| keys.iter()));
        Ok(options)
    }
}

/// Commands that take a file behind --config and nothing else.
const OF_A_FILE: [&str; 4] = ["run", "check", "render", "diff"];
/// What systemd does.
const OF_THE_UNIT: [&str; 5] = ["start", "stop", "restart", "enable", "disable"];

/// The same error, with what was probably meant; `words` is the command line.
pub fn advised(mut error: clap::Error, words: &[String]) -> clap::Error {
    let wrong = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(wrong)) => wrong.clone(),
        _ => String::new(),
    };
    let tip = match error.kind() {
        ErrorKind::UnknownArgument => {
            let file = wrong(&error, ContextKind::InvalidArg);
            let command = words.iter().find(|word| Cli::command().find_subcommand(word).is_some());
            let command = command.filter(|command| OF_A_FILE.contains(&command.as_str()));
            let is_file = !file.is_empty() && !file.starts_with('-') && !file.contains(char::is_control);
            let command = command.filter(|_| is_file);
            command.map(|command| format!("'ip-masq-agent {command} --config {file}'"))
        }
        ErrorKind::InvalidSubcommand => {
            let verb = wrong(&error, ContextKind::InvalidSubcommand);
            OF_THE_UNIT.contains(&verb.as_str()).then(|| format!("'systemctl {verb} ip-masq-agent'"))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

/// What a command was told of the configuration.
struct Told<'o> {
    name: &'static str,
    /// `None` where it reads no files.
    places: Option<&'o Places>,
    keys: Option<&'o Flags>,
    /// Which keys have an effect on it.
    takes: fn(Concern) -> bool,
}

/// What of the configuration has an effect on a command.
pub trait Use: Clone + fmt::Debug + Send + Sync + 'static {
    fn takes(concern: Concern) -> bool;
}

/// All of it is put in force, or judged.
#[derive(Debug, Clone)]
pub struct Everything;

impl Use for Everything {
    fn takes(concern: Concern) -> bool {
        match concern {
            Concern::Rules | Concern::Names | Concern::Sysctls | Concern::Service => true,
        }
    }
}

/// What the kernel holds is compared with it.
#[derive(Debug, Clone)]
pub struct InKernel;

impl Use for InKernel {
    fn takes(concern: Concern) -> bool {
        match concern {
            Concern::Rules | Concern::Names | Concern::Sysctls => true,
            Concern::Service => false,
        }
    }
}

/// The rules are made from it.
#[derive(Debug, Clone)]
pub struct AsRules;

impl Use for AsRules {
    fn takes(concern: Concern) -> bool {
        match concern {
            Concern::Rules | Concern::Names => true,
            Concern::Sysctls | Concern::Service => false,
        }
    }
}

/// Rules are found by their names.
#[derive(Debug, Clone)]
pub struct ByName;

impl Use for ByName {
    fn takes(concern: Concern) -> bool {
        match concern {
            Concern::Names => true,
            Concern::Rules | Concern::Sysctls | Concern::Service => false,
        }
    }
}

/// What a command is told of the configuration.
#[derive(Debug, Clone, Args)]
pub struct Options<U: Use = Everything> {
    /// Where the configuration lies.
    #[command(flatten)]
    pub places: Places,
    /// The configuration keys that were given as flags.
    #[command(flatten)]
    pub keys: KeyFlags<U>,
}

/// A command with options of its own and `O`, what it is told of the configuration.
#[derive(Debug, Clone, Args)]
pub struct With<A: Args, O: Args = Options> {
    #[command(flatten)]
    pub args: A,
    #[command(flatten)]
    options: O,
}

#[derive(Debug, Clone, Args)]
pub struct Places {
    /// The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent].
    ///
    /// YAML, JSON or TOML, by its extension, or by its content if the extension says nothing. With a file named here, config.d is not read unless
    /// --config-dir is given or the file is one of the two default ones.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d].
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
}

impl From<Places> for Locations {
    fn from(places: Places) -> Self {
        Locations { file: places.config, directory: places.config_dir, ..Locations::default() }
    }
}

#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Run the service.
    #[command(after_help = "Example: ip-masq-agent run --once --config ./config.yaml")]
    Run(With<RunArgs>),
    /// Validate the configuration. Prints nothing and exits 0 if it is valid, otherwise prints every error and exits 78.
    #[command(after_help = "Example: ip-masq-agent check --host")]
    Check(With<CheckArgs>),
    /// Make the running service re-read its configuration, and wait until it is applied or refused.
    #[command(after_help = "Example: systemctl reload ip-masq-agent, which calls this")]
    Reload,
    /// Put a candidate in force. The service goes back by itself unless it is confirmed in time, also if it is restarted or this session is cut off.
    #[command(
        after_help = "Example: ip-masq-agent try --timeout 2m ./config.yaml, and when all is well: ip-masq-agent confirm"
    )]
    Try(TryArgs),
    /// Keep what is being tried. A file that was tried is installed as the main configuration file.
    #[command(after_help = "Example: ip-masq-agent confirm")]
    Confirm,
    /// Print the configuration that was last in force, file by file.
    #[command(after_help = "Example: ip-masq-agent last-good --restore")]
    LastGood(With<LastGoodArgs, Places>),
    /// Print the rules of the configuration as text. Needs no privileges.
    #[command(after_help = "Example: ip-masq-agent render --backend nftables")]
    Render(Options<AsRules>),
    /// Compare the rules in the kernel with the configuration. Exits 0 if they are equal, 1 if they differ, 3 if it can't tell.
    #[command(after_help = "Example: ip-masq-agent diff && echo in sync")]
    Diff(Options<InKernel>),
    /// Explain whether traffic to an address is masqueraded, which step decides, and which line of the configuration it comes from.
    #[command(after_help = "Example: ip-masq-agent explain 10.1.2.3 198.51.100.7 --from 192.168.1.20 --out eth0")]
    Explain(With<ExplainArgs, Options<AsRules>>),
    /// Print a configuration that says what rules or files of other programs say. Exits 1 if it can't say all of them.
    ///
    /// Reads what iptables-save, ip6tables-save or 'nft -j list ruleset' prints, a ConfigMap of Kubernetes' ip-masq-agent or
    /// a configuration of CNI's portmap. Lines that no key can say are comments, each with the reason.
    #[command(after_help = "Example: iptables-save | ip-masq-agent import")]
    Import(ImportArgs),
    /// Show the state of the running service. Exits 0 if it is healthy, 1 if degraded, 3 if it is not running.
    #[command(after_help = "Example: ip-masq-agent status --json")]
    Status(StatusArgs),
    /// Remove every rule of ip-masq-agent, also of Kubernetes' ip-masq-agent, from every backend. Refused while the service is running.
    #[command(after_help = "Example: systemctl stop ip-masq-agent && ip-masq-agent flush")]
    Flush(Options<ByName>),
}

impl Subcommands {
    /// What it was told of the configuration.
    fn told(&self) -> Told<'_> {
        fn all<'o, U: Use>(name: &'static str, options: &'o Options<U>) -> Told<'o> {
            Told { name, places: Some(&options.places), keys: Some(&options.keys.flags), takes: U::takes }
        }
        fn files<'o>(name: &'static str, places: Option<&'o Places>) -> Told<'o> {
            Told { name, places, keys: None, takes: |_| false }
        }
        match self {
            Subcommands::Run(With { options, .. }) => all("run", options),
            Subcommands::Check(With { options, .. }) => all("check", options),
            Subcommands::Render(options) => all("render", options),
            Subcommands::Diff(options) => all("diff", options),
            Subcommands::Explain(With { options, .. }) => all("explain", options),
            Subcommands::Flush(options) => all("flush", options),
            Subcommands::LastGood(With { options, .. }) => files("last-good", Some(options)),
            Subcommands::Reload => files("reload", None),
            Subcommands::Try(_) => files("try", None),
            Subcommands::Confirm => files("confirm", None),
            Subcommands::Import(_) => files("import", None),
            Subcommands::Status(_) => files("status", None),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Args)]
pub struct RunArgs {
    /// Apply the configuration, verify it, and exit.
    #[arg(long)]
    pub once: bool,
    /// Print what would be sent to the kernel now, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct CheckArgs {
    /// Also report problems on this host that would stop the policy from working.
    #[arg(long)]
    pub host: bool,
}

#[derive(Debug, Clone, Args)]
pub struct TryArgs {
    /// What takes the place of the main configuration file, - for standard input [default: the files as they are].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// When the service goes back unless it is confirmed: 1s to 24h.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub timeout: String,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct LastGoodArgs {
    /// Write it back over the files. What was there is kept, and its new name is printed.
    #[arg(long)]
    pub restore: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// Destination addresses.
    #[arg(value_name = "ADDRESS", required = true)]
    pub words: Vec<String>,
    /// Those of the words that are addresses.
    #[arg(skip)]
    pub addresses: Vec<IpAddr>,
    /// The source address; without it, one that sourceCIDRs of no entry of egress name.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub from: Option<IpAddr>,
    /// The outgoing interface; without it the kernel's routing is asked.
    #[arg(long, value_name = "INTERFACE", value_parser = interface)]
    pub out: Option<String>,
    /// The incoming interface; without it the one that leads to the source.
    #[arg(long = "in", value_name = "INTERFACE", value_parser = interface)]
    pub incoming: Option<String>,
    /// The destination port; for an address of this host: where does it lead?
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The protocol: tcp, udp, sctp, icmp or a number [default: tcp].
    #[arg(long, value_name = "PROTOCOL")]
    pub proto: Option<Protocol>,
    /// The packet mark behind routing, as 256 or 0x100 [default: 0].
    #[arg(long, value_name = "MARK", value_parser = mark)]
    pub mark: Option<u32>,
    /// Answer from the configuration alone: ask neither the kernel nor the service.
    #[arg(long)]
    pub offline: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

impl ExplainArgs {
    /// Reads the words. What is no address is told, and the others are asked all the same.
    pub fn read(mut self) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        for word in &self.words {
            match address(word) {
                Ok(address) => self.addresses.push(address),
                Err(error) => wrong.push(format!("invalid value '{word}' for '<ADDRESS>...': {error}")),
            }
        }
        (self, wrong)
    }
}

/// A mark, no mask.
fn mark(text: &str) -> Result<u32, ArgumentError> {
    let mark: MaskedMark = text.parse().map_err(ArgumentError::Mark)?;
    if text.contains('/') { Err(ArgumentError::Mask) } else { Ok(mark.value) }
}

/// An address as it stands in a packet.
fn address(text: &str) -> Result<IpAddr, ArgumentError> {
    let address: IpAddr = text.parse().map_err(|_: AddrParseError| match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => ArgumentError::Network(address.to_owned()),
        _ => ArgumentError::Address,
    })?;
    match address.to_canonical() {
        canonical if canonical == address => Ok(address),
        canonical => Err(ArgumentError::Mapped(canonical)),
    }
}

/// One interface, no pattern.
fn interface(text: &str) -> Result<String, ArgumentError> {
    let pattern: InterfacePattern = text.parse().map_err(ArgumentError::Interface)?;
    if pattern.negated || pattern.prefix { Err(ArgumentError::Pattern) } else { Ok(pattern.name) }
}

/// Why a word of the command line is not what it should be.
#[derive(Debug)]
enum ArgumentError {
    Mark(MaskedMarkError),
    /// A mark with a mask.
    Mask,
    Address,
    /// A network, by its address as it was written.
    Network(String),
    /// An IPv4 address that is written as IPv6.
    Mapped(IpAddr),
    Interface(InterfacePatternError),
    /// A pattern for more than one interface.
    Pattern,
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgumentError::Mark(error) => error.fmt(f),
            ArgumentError::Mask => f.write_str("a packet has one mark; leave out the mask"),
            ArgumentError::Address => f.write_str("not an IPv4 or IPv6 address"),
            ArgumentError::Network(address) => write!(f, "expected an address, not a network; write '{address}'"),
            ArgumentError::Mapped(address) => {
                write!(f, "this is an IPv4 address written as IPv6; write '{address}'")
            }
            ArgumentError::Interface(error) => error.fmt(f),
            ArgumentError::Pattern => f.write_str("expected the name of one interface, without '!' or '+'"),
        }
    }
}

impl std::error::Error for ArgumentError {}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The text of the other program; standard input without it, or if it is -.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
pub struct StatusArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Answer in metrics, for the textfile collector of Prometheus' node_exporter. Without a running service: ip_masq_agent_up 0.
    #[arg(long)]
    pub prometheus: bool,
    /// Answer and exit as a monitoring plugin: 0 OK, 1 warning, 2 critical (not running, or rules missing), 3 unknown.
    #[arg(long)]
    pub nagios: bool,
}

/// One flag for each configuration key that has an effect, made from the table of keys.
#[derive(Debug, Clone)]
pub struct KeyFlags<U: Use = Everything> {
    pub flags: Flags,
    used_for: PhantomData<U>,
}

impl<U: Use> KeyFlags<U> {
    fn taken() -> impl Iterator<Item = &'static KeyInfo> {
        KEYS.iter().filter(|info| U::takes(info.concern))
    }
}

impl<U: Use> Args for KeyFlags<U> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::taken().map(key_flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<U: Use> FromArgMatches for KeyFlags<U> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Flags::default();
        for info in Self::taken() {
            if let Some(values) = matches.get_many::<String>(&info.flag) {
                flags.add(info.key, values.cloned());
            }
        }
        Ok(KeyFlags { flags, used_for: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn key_flag(info: &'static KeyInfo) -> Arg {
    let words = match info.kind {
        Kind::Choice(words) => format!(" [one of: {}]", words().join(", ")),
        _ => String::new(),
    };
    let default = match info.default {
        "" | "[]" => String::new(),
        default => format!(" [default: {}]", default.trim_matches(['[', ']'])),
    };
    let arg = Arg::new(&*info.flag)
        .long(&*info.flag)
        .value_name(info.kind.placeholder())
        .help(format!("{}{words}{default}", info.help))
        .help_heading("Configuration keys (a flag overrides the files; repeat the flag of a list, or use commas)")
        .hide_short_help(true);
    match info.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        // Refused with the words of the key, not as a flag that nobody knows.
        Kind::Count | Kind::Duration => arg.allow_negative_numbers(true),
        kind if kind.is_list() => arg.action(ArgAction::Append),
        _ => arg,
    }
}
