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
        ("ip-masq-agent --on-stop k", "keep"),
        ("ip-masq-agent check --config Cargo.to", "Cargo.toml"),
        // No file is a list of networks: what was typed stays as it is.
        ("ip-masq-agent render --source-cidrs Cargo.to", "Cargo.to"),
    ] {
        assert_eq!(completed_by_bash(line), wanted, "{line}");
    }
}

/// What bash offers when the tabulator key is pressed at the end of the line.
fn completed_by_bash(line: &str) -> String {
    let script = format!(
        "source packaging/completions/ip-masq-agent.bash
        read -ra COMP_WORDS <<<'{line}'
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

fn compare(shell: Shell, file: &str) {
    let path = std::path::Path::new("packaging/completions").join(file);
    let mut wanted = Vec::new();
    generate(shell, &mut command(), "ip-masq-agent", &mut wanted);
    let mut wanted = String::from_utf8(wanted).unwrap();
    if shell == Shell::Bash {
        // clap_complete 4.6.11 calls the subcommands of a program with a hyphen in its name by two different names.
        wanted = wanted.replace("ip__subcmd__masq__subcmd__agent", "ip__masq__agent");
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all("packaging/completions").unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not up to date: BLESS=1 cargo test --test pure completions", path.display());
}

/// The command line with what the program judges by itself, in the words of the files: the values of the keys.
fn command() -> clap::Command {
    let mut command = Cli::command()
        .mut_arg("config", |arg| arg.value_hint(ValueHint::FilePath))
        .mut_arg("config_dir", |arg| arg.value_hint(ValueHint::DirPath));
    for key in KEYS.iter() {
        command = command.mut_arg(&*key.flag, |arg| match key.kind {
            Kind::Choice(words) => arg.value_parser(PossibleValuesParser::new(words())),
            Kind::Switch => arg.value_parser(PossibleValuesParser::new(["true", "false"])),
            _ => arg.value_hint(ValueHint::Other),
        });
    }
    command
}
