//! The shell completions in the tree are those of the command line as it is.
//!
//! They are kept in the tree, so that the program does not carry their generator. After a change of the command line:
//! `BLESS=1 cargo test --test completions` writes them anew.

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use ip_masq_agent::cli::Cli;

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

fn compare(shell: Shell, file: &str) {
    let path = std::path::Path::new("packaging/completions").join(file);
    let mut wanted = Vec::new();
    generate(shell, &mut Cli::command(), "ip-masq-agent", &mut wanted);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all("packaging/completions").unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not up to date: BLESS=1 cargo test --test completions", path.display());
}
