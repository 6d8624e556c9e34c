//! Every configuration of `docs/recipes.md` in a kernel, every command beside it, every rule of other programs in it.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Probe, parse, text};
use std::net::UdpSocket;

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

/// What Docker puts into the table filter, without a container.
const DOCKER: &str = "*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-USER - [0:0]\n\
    -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
    -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -o docker0 -j DOCKER\n\
    -A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A FORWARD -i docker0 -o docker0 -j ACCEPT\n\
    -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n-A DOCKER-USER -j RETURN\nCOMMIT\n";

#[test]
fn beside_docker_the_lan_is_dropped_until_the_commands_of_the_recipe_let_it_through_and_its_answers_back() {
    let (_, section) = RECIPES.split_once("## Beside Docker\n").expect("the recipe");
    let [configuration] = &blocks("yaml", section.split("\n## ").next().unwrap())[..] else { panic!("{section}") };
    let [out, back] = &commands_of("iptables")[..] else { panic!("two commands in {section}") };
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        let output = lab.gateway.run_with_input("iptables-restore", &["--noflush"], DOCKER);
        assert!(output.status.success(), "{output:?}");
        gateway.apply(configuration);
        let dropped = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        let next = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("203.0.113.1"));
        dropped.send(&lab.lan);
        next.send(&lab.gateway);
        let seen = lab.observer.wait(|seen| dropped.is(seen) || next.is(seen));
        assert!(seen.is_some_and(|seen| next.is(&seen)), "{backend}");
        let said = text(&gateway.agent.command("check", &["--host"]).stdout);
        assert!(said.contains("new IPv4 connections from lan0 to wan0 are dropped: ip filter FORWARD"), "{said}");

        run(&lab, out);
        let udp = Probe::new(Kind::Udp, parse("203.0.113.200")).from(parse("192.168.77.2"));
        assert_eq!(udp.source_seen(&lab.lan, &lab.observer), Some(parse("203.0.113.1")), "{backend}");
        let said = text(&gateway.agent.command("check", &["--host"]).stdout);
        assert!(!said.contains("are dropped"), "{backend}: {said}");
        let bind = |address: &str| UdpSocket::bind((parse(address), 0)).expect("a socket");
        let (client, server) = (lab.lan.enter(|| bind("192.168.77.2")), lab.outside.enter(|| bind("203.0.113.200")));
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        }
        client.send_to(b"?", server.local_addr().unwrap()).expect("to send");
        let (_, asked) = server.recv_from(&mut [0]).expect("a question");
        server.send_to(b"1", asked).expect("to send");
        run(&lab, back);
        server.send_to(b"2", asked).expect("to send");
        let mut answer = [0];
        client.recv(&mut answer).expect("an answer");
        assert_eq!(&answer, b"2", "{backend}: the first one was let through before the second command");
    }
}

/// The commands of a program in the recipes.
fn commands_of(program: &str) -> Vec<String> {
    let blocks = blocks("sh", RECIPES);
    let lines = blocks.iter().flat_map(|block| block.lines());
    lines.filter(|line| line.split(' ').next() == Some(program)).map(str::to_owned).collect()
}

fn run(lab: &Lab, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    lab.gateway.must(words[0], &words[1..]);
}
