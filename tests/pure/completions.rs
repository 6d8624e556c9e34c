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

#[test]
fn bash_completes_commands_flags_and_values() {
    for (line, wanted) in [
        ("ip-masq-agent st", "status"),
        ("ip-masq-agent render --back", "--backend"),
        ("ip-masq-agent render --backend nf", "nftables"),
        ("ip-masq-agent run --on-stop k", "keep"),
        ("ip-masq-agent explain --out l", "lo"),
        ("ip-masq-agent explain --in l", "lo"),
        ("ip-masq-agent run --out-interfaces l", "lo"),
        ("ip-masq-agent check --config Cargo.to", "Cargo.toml"),
        // No file is a list of networks: what was typed stays as it is.
        ("ip-masq-agent render --source-cidrs Cargo.to", "Cargo.to"),
    ] {
        assert_eq!(completed_by_bash(line), wanted, "{line}");
    }
}

#[test]
fn bash_offers_commands_before_options() {
    let offered = completed_by_bash("ip-masq-agent ''");
    assert!(offered.starts_with("run check reload "), "{offered}");
}

#[test]
fn zsh_and_fish_complete_interfaces_where_they_belong() {
    let read = |file: &str| std::fs::read_to_string(format!("packaging/completions/{file}")).unwrap();
    let (zsh, fish) = (read("_ip-masq-agent"), read("ip-masq-agent.fish"));
    for option in INTERFACES {
        for (text, start, wanted) in [
            (&zsh, format!("--{option}=["), "_net_interfaces"),
            (&fish, format!("-l {option} "), "__fish_print_interfaces"),
        ] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(&start)).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(wanted)), "{lines:#?}");
        }
    }
}

/// What bash offers when the tabulator key is pressed at the end of the line.
fn completed_by_bash(line: &str) -> String {
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
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
        _ => wanted.replace("(__fish_print_hostnames)", "(__fish_print_interfaces)"),
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
