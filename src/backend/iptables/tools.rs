//! The programs of one iptables variant: their names, what their version can do, and what their failures mean.

use super::rules::render::Table;
use crate::backend::error::{Error, ErrorKind};
use crate::backend::name::BackendName;
use crate::policy::Family;
use crate::sys::child::{ChildError, Exec, Invocation, Output};
use std::fmt;

/// The two programs that call themselves iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Speaks nf_tables.
    Nft,
    /// Speaks x_tables.
    Legacy,
}

impl Variant {
    /// The backend that the variant makes.
    pub fn backend(self) -> BackendName {
        match self {
            Variant::Nft => BackendName::IptablesNft,
            Variant::Legacy => BackendName::IptablesLegacy,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend().fmt(f)
    }
}

/// `iptables 1.6.2`, the first with `--random-fully` for MASQUERADE and `-w` for iptables-restore.
const RANDOM_FULLY_SINCE: Version = Version(1, 6, 2);

/// `iptables 1.8`, the first that comes in two variants and says which it is.
const TWO_VARIANTS_SINCE: Version = Version(1, 8, 0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u16, u16, u16);

/// The programs of one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The variant.
    pub variant: Variant,
    /// What stands between `iptables` and `-restore`: `-nft`, `-legacy`, or nothing where only that name exists.
    infix: &'static str,
    /// Knows `--random-fully` and `iptables-restore -w`.
    pub random_fully: bool,
}

impl Tools {
    /// Programs of today, nobody asked whether they are there: for text that is never sent.
    pub fn assumed(variant: Variant) -> Self {
        let infix = match variant {
            Variant::Nft => "-nft",
            Variant::Legacy => "-legacy",
        };
        Tools { variant, infix, random_fully: true }
    }

    /// The programs behind the host's `iptables`, called by the names that name the variant where those are there:
    /// `ip6tables` may have another alternative than `iptables`.
    ///
    /// # Errors
    /// [`ErrorKind::MissingTool`] when there is no `iptables`.
    pub fn of_host(exec: &mut impl Exec) -> Result<Self, Error> {
        let (variant, version) = ask_version(exec, "iptables")?;
        let mut tools = Tools { random_fully: version >= RANDOM_FULLY_SINCE, ..Tools::assumed(variant) };
        if !exec.has(&tools.program(Family::V4, "-restore")) {
            tools.infix = "";
        }
        Ok(tools)
    }

    /// The programs of a variant: those that name it, else plain `iptables` if it is that variant.
    ///
    /// # Errors
    /// [`ErrorKind::MissingTool`] when neither is there, or only the other variant is.
    pub fn probe(exec: &mut impl Exec, variant: Variant) -> Result<Self, Error> {
        let mut tools = Tools::assumed(variant);
        match ask_version(exec, &format!("iptables{}", tools.infix)) {
            Ok((_, version)) => tools.random_fully = version >= RANDOM_FULLY_SINCE,
            Err(named) => {
                tools = Tools::of_host(exec).map_err(|_| named)?;
                if tools.variant != variant {
                    let message = format!("no {variant} on this host: 'iptables' is {}", tools.variant);
                    return Err(Error::new(ErrorKind::MissingTool, message));
                }
            }
        }
        Ok(tools)
    }

    /// The invocation that lists a table.
    pub fn save(&self, family: Family, table: Table, counters: bool) -> Invocation {
        let arguments: &[&str] = if counters { &["-c", "-t", table.name()] } else { &["-t", table.name()] };
        Invocation::new(self.program(family, "-save"), arguments)
    }

    /// The invocation that sends a transaction: it waits five seconds for the lock of the legacy variant.
    pub fn restore(&self, family: Family, transaction: &str) -> Invocation {
        let arguments: &[&str] = if self.random_fully { &["--noflush", "-w", "5"] } else { &["--noflush"] };
        Invocation::new(self.program(family, "-restore"), arguments).with_input(transaction)
    }

    /// `iptables` of this variant and family, with what stands behind its name: nothing, `-save` or `-restore`.
    pub fn program(&self, family: Family, suffix: &str) -> String {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{name}{}{suffix}", self.infix)
    }
}

fn ask_version(exec: &mut impl Exec, program: &str) -> Result<(Variant, Version), Error> {
    let output = run(exec, &Invocation::new(program, &["--version"]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| {
        let message = format!("'{program} --version' did not name a version: '{}'", text.trim());
        Error::new(ErrorKind::MissingTool, message)
    })
}

/// `iptables v1.8.9 (nf_tables)`; before 1.8 there was one variant and no word for it. A line that was cut short names
/// none.
fn parse_version(text: &str) -> Option<(Variant, Version)> {
    let mut words = text.split_whitespace();
    let version = words.find_map(|word| word.strip_prefix('v'))?;
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let version = Version(numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0));
    let variant = match words.next() {
        Some("(nf_tables)") => Variant::Nft,
        Some("(legacy)") => Variant::Legacy,
        None if version < TWO_VARIANTS_SINCE => Variant::Legacy,
        _ => return None,
    };
    Some((variant, version))
}

/// Runs a program that has to end with status 0.
///
/// # Errors
/// What it said, sorted.
pub fn run(exec: &mut impl Exec, invocation: &Invocation) -> Result<Output, Error> {
    let output = exec.run(invocation).map_err(|error| {
        let kind = match &error {
            ChildError::NotFound(_) => ErrorKind::MissingTool,
            ChildError::Io(..) if error.is_passing() => ErrorKind::Busy,
            ChildError::Io(..) => ErrorKind::Other,
            ChildError::Deadline(..) | ChildError::NoTimeLeft(_) => ErrorKind::Timeout,
        };
        Error::new(kind, error.to_string()).with_source(error)
    })?;
    if output.status.success() { Ok(output) } else { Err(sort(invocation, &output)) }
}

/// What iptables-nft-save prints, with status 0, instead of a table that it does not understand (1.8.7 to 1.8.11).
const INCOMPATIBLE: &str = "is incompatible, use 'nft' tool";

/// The nat table of a family as the tool lists it.
///
/// # Errors
/// As [`list_or_nothing`]; nothing at all is an error, too.
pub fn list(exec: &mut impl Exec, tools: &Tools, family: Family, counters: bool) -> Result<String, Error> {
    let nothing = || format!("'{}' printed nothing", tools.save(family, Table::Nat, counters));
    list_or_nothing(exec, tools, family, Table::Nat, counters)?.ok_or_else(|| Error::new(ErrorKind::Busy, nothing()))
}

/// Any table of a family, to be read only.
///
/// # Errors
/// What the tool said, sorted.
pub fn list_any(exec: &mut impl Exec, tools: &Tools, family: Family, table: &str) -> Result<String, Error> {
    let output = run(exec, &Invocation::new(tools.program(family, "-save"), &["-t", table]))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A table of a family as the tool lists it; `None` when it lists nothing. iptables 1.8.9 prints a table also where
/// the kernel has none, so silence is to be believed only by who has asked the kernel.
///
/// # Errors
/// What it said, sorted; [`ErrorKind::Refused`] for a table that it does not understand, [`ErrorKind::Busy`] for a part of
/// one. Both look emptier than they are, and whoever believed them would add a jump each time.
pub fn list_or_nothing(
    exec: &mut impl Exec,
    tools: &Tools,
    family: Family,
    table: Table,
    counters: bool,
) -> Result<Option<String>, Error> {
    let invocation = tools.save(family, table, counters);
    let output = run(exec, &invocation)?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    if listing.contains(INCOMPATIBLE) || output.stderr.contains(INCOMPATIBLE) {
        let message = format!(
            "{} can't list the {family} {} table, because it holds something that only 'nft' understands; move that \
             to a table of another name, or set 'backend: nftables'",
            invocation.program,
            table.name()
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let is_comment = |line: &&str| line.is_empty() || line.starts_with('#');
    let mut lines = listing.lines().filter(|line| !is_comment(line));
    match (lines.next(), lines.next_back()) {
        (Some(first), Some("COMMIT")) if first.strip_prefix('*') == Some(table.name()) => Ok(Some(listing)),
        (None, _) => Ok(None),
        _ => {
            let message = format!("'{invocation}' did not print a whole table, from '*{}' to 'COMMIT'", table.name());
            Err(Error::new(ErrorKind::Busy, message))
        }
    }
}

/// Phrases of iptables 1.8.7 to 1.8.11 and ipset 7 with what they mean. The first that is found decides.
const PHRASES: [(&str, ErrorKind); 23] = [
    ("Too many open files", ErrorKind::Busy),
    ("Cannot allocate memory", ErrorKind::Busy),
    ("No buffer space available", ErrorKind::Busy),
    ("Interrupted system call", ErrorKind::Busy),
    ("lock file", ErrorKind::Permission),
    ("holding the xtables lock", ErrorKind::Busy),
    ("Resource temporarily unavailable", ErrorKind::Busy),
    ("Device or resource busy", ErrorKind::Busy),
    // A set that was there when it was planned, or was made a moment ago: ipset, and the set match of iptables.
    ("The set with the given name does not exist", ErrorKind::Busy),
    (" doesn't exist.", ErrorKind::Busy),
    ("Permission denied", ErrorKind::Permission),
    ("Operation not permitted", ErrorKind::Permission),
    ("Table does not exist", ErrorKind::Unsupported),
    ("can't initialize", ErrorKind::Unsupported),
    ("unable to initialize table", ErrorKind::Unsupported),
    ("Could not fetch rule set generation id", ErrorKind::Unsupported),
    ("Protocol not supported", ErrorKind::Unsupported),
    ("Couldn't load", ErrorKind::Unsupported),
    // A match or target that the kernel does not have: both variants, iptables-nft without nft_compat, iptables-legacy.
    ("missing kernel module", ErrorKind::Unsupported),
    ("RULE_APPEND failed (No such file or directory)", ErrorKind::Unsupported),
    ("No chain/target/match by that name", ErrorKind::Unsupported),
    // ipset; it runs only where the kernel has sets.
    ("Cannot open session to kernel", ErrorKind::Busy),
    ("Set type not supported", ErrorKind::Unsupported),
];

fn sort(invocation: &Invocation, output: &Output) -> Error {
    let said = said(&output.stderr);
    let refused = refused_line(&output.stderr, &invocation.input);
    // What we had seen there a moment ago is gone, or somebody needs it now.
    let moved = refused.as_deref().is_some_and(takes_away) || misses_a_chain(&output.stderr);
    let kind = match PHRASES.iter().find(|(phrase, _)| output.stderr.contains(phrase)) {
        Some((_, ErrorKind::Unsupported)) | None if moved => ErrorKind::Busy,
        Some((_, kind)) => *kind,
        // It said nothing of the rules: it was killed, or is broken, as in the middle of an upgrade.
        None if said.is_empty() || output.status.code().is_none() => ErrorKind::Busy,
        None => ErrorKind::Refused,
    };
    let place = refused.map(|line| format!(", at '{line}'")).unwrap_or_default();
    let status = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    // It says so to root, too, who lacks a capability.
    let said = said.replace("you must be root", "it needs root with CAP_NET_ADMIN and CAP_NET_RAW");
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Error::new(kind, format!("{} failed ({status}){said}{place}", invocation.program))
}

/// True for a line of a transaction that takes something away.
fn takes_away(line: &str) -> bool {
    ["-D ", "-F ", "-X "].iter().any(|command| line.starts_with(command))
}

/// True when a chain is called missing: somebody took it away meanwhile. A target that the host does not have is called
/// missing in the same words; ours are five.
fn misses_a_chain(stderr: &str) -> bool {
    let missing = ["Couldn't load target `", "Chain '"].iter().find_map(|words| {
        let (name, rest) = stderr.split_once(words)?.1.split_once('\'')?;
        (rest.starts_with(" does not exist") || rest.starts_with(':')).then_some(name)
    });
    missing.is_some_and(|name| !matches!(name, "MASQUERADE" | "RETURN" | "SNAT" | "DNAT" | "DROP"))
}

/// What a program said, in one line, without the lines that only say where or how to ask for help.
fn said(stderr: &str) -> String {
    let noise = |line: &&str| line.is_empty() || line.starts_with("Error occurred at") || line.starts_with("Try `");
    stderr.lines().map(str::trim).filter(|line| !noise(line)).collect::<Vec<_>>().join("; ")
}

/// The line of the transaction that the program names by number.
fn refused_line(stderr: &str, input: &[u8]) -> Option<String> {
    let behind = stderr.find("line ").map(|at| &stderr[at + 5..]).or_else(|| stderr.split("line: ").nth(1))?;
    let behind = stderr.split("Error occurred at line: ").nth(1).unwrap_or(behind);
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    let line = input.split(|byte| *byte == b'\n').nth(number.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).into_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn failure(stderr: &str) -> Error {
        let invocation = Invocation::new("iptables-restore", &[])
            .with_input("*nat\n:A - [0:0]\n-D POSTROUTING -j A\n-A A -j RETURN\nCOMMIT\n");
        let output = Output { status: ExitStatus::from_raw(1 << 8), stdout: Vec::new(), stderr: stderr.into() };
        sort(&invocation, &output)
    }

    #[test]
    fn versions_and_variants_are_read() {
        let cases = [
            ("iptables v1.8.9 (nf_tables)\n", Some((Variant::Nft, Version(1, 8, 9)))),
            ("iptables v1.8.9 (legacy)\n", Some((Variant::Legacy, Version(1, 8, 9)))),
            ("iptables v1.6.1\n", Some((Variant::Legacy, Version(1, 6, 1)))),
            ("iptables v1.8.11 (nf_tables)\n", Some((Variant::Nft, Version(1, 8, 11)))),
            ("command not found", None),
            ("iptables v1.8.9 (nf_t", None),
            ("iptables v1.8.9", None),
            ("iptables v1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_refused_line_is_shown_as_text() {
        let cases = [
            ("iptables-restore: line 4 failed\n", "-A A -j RETURN"),
            (
                "iptables-nft-restore: line 5: RULE_APPEND failed (No such file or directory): rule in chain A\n",
                "COMMIT",
            ),
            (
                "iptables-restore v1.8.9 (legacy): Set nope doesn't exist.\n\nError occurred at line: 4\nTry `x -h'\n",
                "-A A -j RETURN",
            ),
        ];
        for (stderr, line) in cases {
            let error = failure(stderr);
            assert!(error.message.ends_with(&format!(", at '{line}'")), "{error}");
        }
    }

    #[test]
    fn what_root_lacks_is_named() {
        let error = failure("x: Could not fetch rule set generation id: Permission denied (you must be root)");
        let end = "Permission denied (it needs root with CAP_NET_ADMIN and CAP_NET_RAW)";
        assert!(error.message.ends_with(end), "{error}");
    }

    #[test]
    fn failures_are_sorted() {
        let cases = [
            ("Another app is currently holding the xtables lock. Stopped waiting after 5s.", ErrorKind::Busy),
            ("iptables-restore: line 3 failed: Bad rule (does a matching rule exist in that chain?).", ErrorKind::Busy),
            ("x: Could not fetch rule set generation id: Permission denied (you must be root)", ErrorKind::Permission),
            ("x: Could not fetch rule set generation id: Invalid argument", ErrorKind::Unsupported),
            ("Fatal: can't open lock file /run/xtables.lock: Read-only file system", ErrorKind::Permission),
            (
                "ip6tables-save: Cannot initialize: Table does not exist (do you need to insmod?)",
                ErrorKind::Unsupported,
            ),
            ("Fatal: can't open lock file /run/xtables.lock: Too many open files", ErrorKind::Busy),
            ("x: Could not fetch rule set generation id: No buffer space available", ErrorKind::Busy),
            (
                "x v1.8.9 (legacy): Couldn't load target `A':No such file or directory\n\nError occurred at line: 3",
                ErrorKind::Busy,
            ),
            ("x v1.8.9 (legacy): Couldn't load target `A':No such file or directory", ErrorKind::Busy),
            ("x v1.8.9 (legacy): Couldn't load target `MASQUERADE':No such file or directory", ErrorKind::Unsupported),
            ("x v1.8.9 (nf_tables): Chain 'A' does not exist\nError occurred at line: 5", ErrorKind::Busy),
            ("iptables-restore v1.8.9 (legacy): Set nope doesn't exist.\n\nError occurred at line: 4", ErrorKind::Busy),
            ("iptables-restore: line 4 failed", ErrorKind::Refused),
            (
                "Warning: Extension addrtype revision 0 not supported, missing kernel module?\n\
                 x v1.8.9 (nf_tables): Couldn't load match `addrtype':No such file or directory",
                ErrorKind::Unsupported,
            ),
            (
                "x v1.8.9 (nf_tables): \nline 5: RULE_APPEND failed (No such file or directory): rule in chain A",
                ErrorKind::Unsupported,
            ),
            ("iptables-restore: line 5 failed: No chain/target/match by that name.", ErrorKind::Unsupported),
            ("iptables-restore: line 3 failed: No chain/target/match by that name.", ErrorKind::Busy),
            ("", ErrorKind::Busy),
        ];
        for (stderr, kind) in cases {
            assert_eq!(failure(stderr).kind, kind, "{stderr}");
        }
    }
}
