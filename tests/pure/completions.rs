//! The shell completions in the tree are those of the command line as it is.
//!
//! They are kept in the tree, so that the program does not carry their generator. After a change of the command line:
//! `BLESS=1 cargo test --test pure completions` writes them anew.

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, ValueHint};
use clap_complete::{Shell, generate};
use ip_masq_agent::cli::Cli;
use ip_masq_agent::config::{KEYS, Kind};
use std::process::Command;

#[test]
fn bash() {
    compare(Shell::Bash, "ip-masq-agent.bash");
}

#[test]
fn zsh() {
    compare(Shell::Zsh, "_ip-masq-agent");
}

#[test]
fn fish() {
    compare(Shell::Fish, "ip-masq-agent.fish");
}

/// What is typed before the tabulator key, and the only word that is offered; none where no file is meant.
const ONE_WORD: [(&str, &str); 11] = [
    ("ip-masq-agent st", "status"),
    ("ip-masq-agent --backend nf", "nftables"),
    ("ip-masq-agent render --back", "--backend"),
    ("ip-masq-agent render --backend nf", "nftables"),
    ("ip-masq-agent run --on-stop k", "keep"),
    ("ip-masq-agent explain --out l", "lo"),
    ("ip-masq-agent explain --in l", "lo"),
    ("ip-masq-agent run --out-interfaces l", "lo"),
    ("ip-masq-agent --out-interfaces l", "lo"),
    ("ip-masq-agent check --config Cargo.to", "Cargo.toml"),
    ("ip-masq-agent render --source-cidrs Cargo.to", ""),
];

#[test]
fn bash_completes_commands_flags_interfaces_and_values() {
    for (line, wanted) in ONE_WORD {
        // It leaves what was typed as it is by offering just that.
        let typed = line.rsplit(' ').next().unwrap();
        let offered: Vec<String> = offered_by_bash(line).into_iter().filter(|word| word != typed).collect();
        assert_eq!(offered.join(" "), wanted, "{line}");
    }
    let offered = offered_by_bash("ip-masq-agent ''");
    assert_eq!(offered[..3], ["run", "check", "reload"], "commands before options: {offered:?}");
}

#[test]
fn zsh_completes_commands_flags_interfaces_and_values() {
    let Some(zsh) = Zsh::new() else { return };
    for (line, wanted) in ONE_WORD {
        assert_eq!(zsh.offers(line).join(" "), wanted, "{line}");
    }
    let offered = zsh.offers("ip-masq-agent ");
    assert_eq!(offered[..3], ["run", "check", "reload"], "commands before options: {offered:?}");
    assert!(offered.iter().all(|word| !word.starts_with('-')), "{offered:?}");
}

#[test]
fn fish_completes_commands_flags_interfaces_and_values() {
    if !has("fish") {
        return;
    }
    for (line, wanted) in ONE_WORD {
        assert_eq!(offered_by_fish(line).join(" "), wanted, "{line}");
    }
    let offered = offered_by_fish("ip-masq-agent ");
    // In its own order, the alphabet's.
    assert!(offered.contains(&"run".to_owned()) && offered.contains(&"try".to_owned()), "{offered:?}");
    assert!(offered.iter().all(|word| !word.starts_with('-')), "{offered:?}");
}

/// Whether a shell is there; with `CI` set it has to be.
fn has(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{shell} is missing and CI is set");
    if !found {
        eprintln!("SKIP: no {shell}");
    }
    found
}

fn words(output: &std::process::Output) -> Vec<String> {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn offered_by_fish(line: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let script = r"source packaging/completions/ip-masq-agent.fish
        complete -C $argv[1] | string split -f 1 \t";
    words(&Command::new("fish").args(["--no-config", "-c", script, line]).env("HOME", home.path()).output().unwrap())
}

/// An interactive zsh on a terminal of its own: its completion works in its line editor alone.
struct Zsh {
    home: tempfile::TempDir,
}

/// What is added as a match goes to descriptor 3, too.
const ZSHRC: &str = r#"
fpath=($PWD/packaging/completions $fpath)
autoload -Uz compinit && compinit -u -d $ZDOTDIR/known
compadd() {
    local -a offered
    builtin compadd -O offered "$@"
    print -rl -- $offered >&3
    builtin compadd "$@"
}
offer() { _main_complete; print -r -- END >&3; compstate[insert]= compstate[list]= }
zle -C offer complete-word offer
bindkey '^I' offer
"#;

/// Types the second argument into it, and prints what is offered. The first one is where it finds its `.zshrc`.
const TYPE: &str = r#"
zmodload zsh/zpty && mkfifo $1/offered || exit
zpty shell "exec 3>${(q)1}/offered; ZDOTDIR=${(q)1} exec zsh -d -i"
zpty -w -n shell "$2"$'\t'
while IFS= read -r word && [[ $word != END ]]; do print -r -- $word; done <$1/offered
zpty -d shell
rm $1/offered
"#;

impl Zsh {
    fn new() -> Option<Zsh> {
        if !has("zsh") {
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".zshrc"), ZSHRC).unwrap();
        Some(Zsh { home })
    }

    /// In the order in which they are offered, each once.
    fn offers(&self, line: &str) -> Vec<String> {
        let mut shell = Command::new("timeout");
        shell.args(["60", "zsh", "-f", "-c", TYPE, "zsh"]).arg(self.home.path()).arg(line);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {}", output.status);
        let mut offered = Vec::new();
        for word in words(&output) {
            if !offered.contains(&word) {
                offered.push(word);
            }
        }
        offered
    }
}

/// What bash offers when the tabulator key is pressed at the end of the line.
fn offered_by_bash(line: &str) -> Vec<String> {
    let script = format!(
        "source packaging/completions/ip-masq-agent.bash
        eval \"COMP_WORDS=({line})\"
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        spec=$(complete -p ip-masq-agent)
        [[ $spec =~ -F\\ ([^\\ ]+) ]]
        compopt() {{ :; }}
        ${{BASH_REMATCH[1]}} ip-masq-agent \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"
        echo \"${{COMPREPLY[*]}}\""
    );
    words(&Command::new("bash").args(["--norc", "-c", &script]).output().unwrap())
}

/// Options that take interfaces. clap_complete has no word for them; where it can, it completes names of hosts instead.
const INTERFACES: [&str; 3] = ["out", "in", "out-interfaces"];

const BASH_INTERFACES: &str = r#"COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))"#;

/// Commands before options, interfaces where they belong, and one branch for all options that complete alike.
fn bash_as_wanted(script: &str) -> String {
    let mut wanted = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.trim().strip_prefix("opts=\"").and_then(|words| words.strip_suffix('"')) {
            let (options, commands): (Vec<&str>, Vec<&str>) = words.split(' ').partition(|word| word.starts_with('-'));
            wanted += &format!("            opts=\"{}\"\n", [commands, options].concat().join(" "));
        } else if line.trim() == "case \"${prev}\" in" {
            wanted += &format!("{line}\n{}", branches(&mut lines));
        } else {
            wanted += &format!("{line}\n");
        }
    }
    wanted
}

/// The branches up to `esac`, those with the same body as one.
fn branches<'s>(lines: &mut impl Iterator<Item = &'s str>) -> String {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = String::new();
    let mut open: Option<(String, String)> = None;
    for line in lines {
        match (&mut open, line.trim()) {
            (None, "esac") => {
                rest = format!("{line}\n");
                break;
            }
            (None, pattern) => open = Some((pattern.trim_end_matches(')').to_owned(), String::new())),
            (Some(_), ";;") => {
                let (pattern, mut body) = open.take().unwrap();
                if INTERFACES.iter().any(|option| pattern == format!("--{option}")) {
                    body = format!("                    {BASH_INTERFACES}\n                    return 0\n");
                }
                match found.iter_mut().find(|(other, _)| *other == body) {
                    Some((_, patterns)) => patterns.push(pattern),
                    None => found.push((body, vec![pattern])),
                }
            }
            (Some((_, body)), _) => *body += &format!("{line}\n"),
        }
    }
    // What matches everything comes last.
    found.sort_by_key(|(_, patterns)| patterns == &["*"]);
    let branch = |(body, patterns): &(String, Vec<String>)| {
        format!("                {})\n{body}                    ;;\n", patterns.join("|"))
    };
    found.iter().map(branch).chain([rest]).collect()
}

fn compare(shell: Shell, file: &str) {
    let path = std::path::Path::new("packaging/completions").join(file);
    let mut wanted = Vec::new();
    generate(shell, &mut command(), "ip-masq-agent", &mut wanted);
    let mut wanted = String::from_utf8(wanted).unwrap();
    wanted = match shell {
        // clap_complete 4.6.11 calls the subcommands of a program with a hyphen in its name by two different names.
        Shell::Bash => bash_as_wanted(&wanted.replace("ip__subcmd__masq__subcmd__agent", "ip__masq__agent")),
        Shell::Zsh => wanted.replace(":_hosts'", ":_net_interfaces'"),
        _ => wanted
            .replace("(__fish_print_hostnames)", "(__fish_print_interfaces)")
            // Where an option still lacks its value there is no command before it.
            .replace("-- $cmd 2>/dev/null\n    or return\n", "-- $cmd 2>/dev/null\n    or return 0\n"),
    };
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all("packaging/completions").unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not up to date: BLESS=1 cargo test --test pure completions", path.display());
}

/// The command line with what the program judges by itself, in the words of the files: the values of the keys.
fn command() -> clap::Command {
    let mut command = with_values(Cli::command());
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, with_values);
    }
    command
}

fn with_values(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let Some(flag) = arg.get_long().map(str::to_owned) else { return arg };
        match KEYS.iter().find(|key| key.flag == flag).map(|key| key.kind) {
            _ if INTERFACES.contains(&&*flag) => arg.value_hint(ValueHint::Hostname),
            Some(Kind::Choice(words)) => arg.value_parser(PossibleValuesParser::new(words())),
            Some(Kind::Switch) => arg.value_parser(PossibleValuesParser::new(["true", "false"])),
            Some(_) => arg.value_hint(ValueHint::Other),
            None if flag == "config" => arg.value_hint(ValueHint::FilePath),
            None if flag == "config-dir" => arg.value_hint(ValueHint::DirPath),
            None => arg,
        }
    })
}
