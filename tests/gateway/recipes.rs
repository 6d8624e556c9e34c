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
            // The service does not run here, and the files of other programs are not there.
            if ["status", "try", "confirm", "last-good", "import"].contains(&words[0]) {
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
