//! Every configuration of `docs/recipes.md` in a kernel, every command beside it, every rule of other programs in it.

use crate::lab::{BACKENDS, Gateway, Lab, text};

fn blocks(language: &str, document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(told) = line.strip_prefix("```") else { continue };
        let body: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        if told == language {
            found.push(body);
        }
    }
    found
}

const RECIPES: &str = include_str!("../../docs/recipes.md");
/// Commands that ask a running service, or for what it left.
const OF_THE_SERVICE: [&str; 4] = ["status", "try", "confirm", "last-good"];

#[test]
fn every_configuration_of_the_recipes_gets_into_the_kernel_and_every_command_answers() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    let blocks_of_commands = blocks("sh", RECIPES);
    let commands: Vec<&str> = blocks_of_commands.iter().flat_map(|block| block.lines()).collect();
    for configuration in blocks("yaml", RECIPES) {
        gateway.agent.apply(&configuration);
        for command in commands.iter().filter_map(|line| line.strip_prefix("ip-masq-agent ")) {
            let words: Vec<&str> = command.split(' ').collect();
            if OF_THE_SERVICE.contains(&words[0]) || words[0] == "import" {
                continue;
            }
            let output = gateway.agent.command(words[0], &words[1..]);
            let said = text(&output.stderr);
            assert!(
                matches!(output.status.code(), Some(0 | 1)),
                "{command}: {}\n{said}\n{configuration}",
                output.status
            );
        }
        gateway.agent.must("flush", &[]);
    }
}

#[test]
fn every_command_of_the_recipes_for_a_running_service_and_for_files_of_others_succeeds() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    let [first, candidate] = [0, 2].map(|number| blocks("yaml", RECIPES)[number].clone());
    lab.gateway
        .must("nft", &["add table ip theirs; add chain ip theirs post { type nat hook postrouting priority 90; }"]);
    lab.gateway.must("nft", &["add rule ip theirs post oifname wan1 masquerade"]);
    let files = [
        ("candidate.yaml", candidate),
        ("nat.json", lab.gateway.must("nft", &["-j", "list", "ruleset"])),
        ("/etc/ufw/before.rules", blocks("iptables", RECIPES).concat()),
    ];
    gateway.agent.configure(&first);
    let mut service = gateway.agent.start();
    let directory = tempfile::tempdir().unwrap();
    let place = |word: &str| match files.iter().find(|(name, _)| *name == word) {
        Some((name, text)) => {
            let path = directory.path().join(name.replace('/', "-"));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        }
        None => word.to_owned(),
    };
    let mut seen = Vec::new();
    for line in blocks("sh", RECIPES).iter().flat_map(|block| block.lines()) {
        let Some((command, rest)) =
            line.strip_prefix("ip-masq-agent ").map(|line| line.split_once(' ').unwrap_or((line, "")))
        else {
            continue;
        };
        let words: Vec<String> = rest.split_whitespace().map(place).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match command {
            "import" => {
                lab.gateway.must(env!("CARGO_BIN_EXE_ip-masq-agent"), &[&[command], &words[..]].concat());
            }
            command if OF_THE_SERVICE.contains(&command) => {
                gateway.agent.must(command, &words);
            }
            _ => continue,
        }
        seen.push(command.to_owned());
    }
    for command in OF_THE_SERVICE.iter().chain(&["import"]) {
        assert!(seen.iter().any(|one| one == command), "{command} is in no recipe: {seen:?}");
    }
    assert!(service.stop().success());
}

#[test]
fn every_rule_of_other_programs_in_the_recipes_is_taken_by_its_program() {
    let Some(lab) = Lab::build() else { return };
    for (language, program, arguments) in
        [("nft", "nft", ["-c", "-f", "-"].as_slice()), ("iptables", "iptables-restore", &["--test"])]
    {
        let found = blocks(language, RECIPES);
        assert!(!found.is_empty(), "{language}");
        for rules in found {
            let output = lab.gateway.run_with_input(program, arguments, &rules);
            assert!(output.status.success(), "{rules}{}", text(&output.stderr));
        }
    }
}

#[test]
fn the_rules_of_ufw_in_the_recipes_are_imported() {
    let [rules] = blocks("iptables", RECIPES).try_into().unwrap();
    assert_eq!(ip_masq_agent::import::import(&rules).unwrap().refused, 0);
}
