//! Every command that the documentation tells somebody to type, and the test that runs it.

use std::collections::BTreeSet;
use std::fs;

const PAGES: [&str; 2] = ["packaging/man/ip-masq-agent.8", "packaging/man/ip-masq-agent.yaml.5"];
/// For whom runs a gateway. What CONTRIBUTING and docs/testing.md tell to type are the tests themselves.
const GUIDES: [&str; 7] = [
    "README.md",
    "docs/fleet.md",
    "docs/install.md",
    "docs/migration.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/recipes.md",
];

const APT: &str = "tests/machine/scenarios/10-life.bash";
const DNF: &str = "tests/machine/scenarios/60-rpm.bash";
const DPKG: &str = "tests/machine/scenarios/15-dpkg.bash";
const FIREWALLD: &str = "tests/machine/scenarios/40-firewalld.bash";
const FLEET: &str = "tests/machine/scenarios/67-ansible.bash";
const LIFE: &str = "tests/gateway/daemon/life.rs";
const METRICS: &str = "tests/machine/scenarios/65-monitoring.bash";
const RECIPES: &str = "tests/gateway/recipes.rs";
const SOURCE: &str = "tests/machine/scenarios/12-source.bash";
const TRUTH: &str = "tests/gateway/truth.rs";
const UNDO: &str = "tests/gateway/daemon/undo.rs";

/// How a command begins, the file of the test that runs it, and what is to be found there. The longest beginning counts.
const RUN: &[(&str, &str, &str)] = &[
    ("ansible-doc -t role", FLEET, "ansible-doc -t role -r roles ip_masq_agent"),
    ("ansible-playbook rollout.yml", FLEET, "play_on rollout.yml"),
    ("ansible-playbook site.yml --check --diff", FLEET, "play_on site.yml --limit gateway --check --diff"),
    ("apt install --allow-downgrades", APT, "unattended apt-get install -y --allow-downgrades"),
    (
        "apt install ./ip-masq-agent_",
        "tests/vagrant/Vagrantfile",
        "apt-get install -y -qq --no-install-recommends /tmp/",
    ),
    ("apt purge", APT, "apt purge ip-masq-agent"),
    ("apt remove", APT, "apt remove ip-masq-agent"),
    ("apt update && apt install ip-masq-agent", "tests/machine/lib/asserts.bash", "apt install ip-masq-agent"),
    ("apt-get install -y --allow-downgrades", APT, "unattended apt-get install -y --allow-downgrades"),
    (
        "apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold ./",
        DPKG,
        "apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /srv/repository/earlier/*.deb",
    ),
    ("conntrack -D", TRUTH, "conntrack -D -s"),
    ("conntrack -D --orig-dst", "tests/gateway/connections.rs", "span.starts_with(\"conntrack -D \")"),
    ("conntrack -L", "tests/vm/fast-path/inside", "conntrack -L"),
    ("dnf downgrade", DNF, "dnf first downgrade ip-masq-agent"),
    ("dnf install ./ip-masq-agent-", "tests/vagrant/Vagrantfile", "dnf install -y -q"),
    ("dnf install ip-masq-agent", DNF, "dnf first install ip-masq-agent"),
    ("dnf remove", DNF, "dnf second remove ip-masq-agent"),
    ("firewall-cmd", FIREWALLD, "grep '^firewall-cmd ' \"$TOP/docs/recipes.md\""),
    ("ip-masq-agent check", "tests/config/command_line.rs", "&[\"check\""),
    ("ip-masq-agent check --host", TRUTH, "agent.command(\"check\", &[\"--host\"])"),
    ("ip-masq-agent confirm", UNDO, "\"confirm\""),
    ("ip-masq-agent diff", TRUTH, "agent.must(\"diff\", &[])"),
    ("ip-masq-agent explain", TRUTH, "agent.must(\"explain\""),
    ("ip-masq-agent flush", LIFE, "&[\"flush\"]"),
    ("ip-masq-agent import", RECIPES, "\"import\" =>"),
    ("ip-masq-agent last-good", UNDO, "&[\"last-good\""),
    ("ip-masq-agent render", "tests/gateway/daemon/configuration.rs", "&[\"render\"]"),
    ("ip-masq-agent run", LIFE, "&[\"run\""),
    ("ip-masq-agent run --dry-run", LIFE, "&[\"run\", \"--dry-run\"]"),
    ("ip-masq-agent status", TRUTH, "agent.must(\"status\", &[])"),
    ("ip-masq-agent status --json", TRUTH, "&[\"--json\"]"),
    ("ip-masq-agent status --nagios", "tests/gateway/metrics.rs", "\"--nagios\""),
    ("ip-masq-agent status --prometheus", "tests/gateway/metrics.rs", "\"--prometheus\""),
    ("ip-masq-agent try", UNDO, "\"try\""),
    ("ipset save", "tests/gateway/daemon/drift.rs", "must(\"ipset\", &[\"save\"])"),
    ("iptables -I DOCKER-USER", RECIPES, "commands_of(\"iptables\")"),
    ("iptables -I FORWARD", "tests/gateway/packets.rs", "iptables -I FORWARD -m conntrack --ctstate INVALID -j DROP"),
    ("iptables -t nat -S", "tests/gateway/daemon/strays.rs", "&[\"-t\", \"nat\", \"-S\"]"),
    ("iptables-save | ip-masq-agent import", "tests/gateway/migration.rs", "\"iptables-save\""),
    ("journalctl --update-catalog", SOURCE, "inside journalctl --update-catalog"),
    ("journalctl -u ip-masq-agent", "tests/vagrant/checks.bash", "journalctl -b -u ip-masq-agent"),
    ("journalctl -x", SOURCE, "journal -x"),
    ("lslocks", LIFE, "must(\"lslocks\""),
    ("make build", ".ci/run", "make dist"),
    ("make deb", ".ci/run", "make dist"),
    ("make demo", ".ci/run", "step make demo"),
    ("make dist", ".ci/run", "make dist"),
    ("make install", SOURCE, "-f packaging/install.mk install"),
    ("make install DESTDIR=", "tests/pure/install.rs", "packaging/install.mk install"),
    ("make repo", "tests/machine/lib/packages.bash", "packaging/repository"),
    ("make rpm", ".ci/run", "make dist"),
    ("make test", ".ci/run", "step make test"),
    ("make test-machine", ".ci/run", "make test-machine"),
    ("man ip-masq-agent", SOURCE, "inside man ip-masq-agent)"),
    ("man ip-masq-agent.yaml", SOURCE, "inside man ip-masq-agent.yaml"),
    ("nft -f", RECIPES, "[\"-c\", \"-f\", \"-\"]"),
    ("nft -j list ruleset", RECIPES, "&[\"-j\", \"list\", \"ruleset\"]"),
    ("nft list ruleset", "tests/gateway/daemon/drift.rs", "\"list\", \"ruleset\""),
    ("promtool test rules", "tests/gateway/metrics.rs", "the_alert_rules_do_what_they_say"),
    ("ss --unix --all", "tests/gateway/daemon/instance.rs", "ss --unix --all | grep ip-masq-agent/instance"),
    ("systemctl daemon-reload", SOURCE, "inside systemctl daemon-reload"),
    ("systemctl disable --now ip-masq-agent", DNF, "systemctl disable --now ip-masq-agent"),
    ("systemctl enable --now ip-masq-agent", APT, "inside systemctl enable --now ip-masq-agent"),
    (
        "systemctl enable --now ip-masq-agent-metrics.timer",
        METRICS,
        "systemctl enable --now ip-masq-agent-metrics.timer",
    ),
    ("systemctl is-active", "tests/vagrant/checks.bash", "systemctl is-active ip-masq-agent"),
    ("systemctl reload", "tests/machine/scenarios/37-undo.bash", "systemctl reload ip-masq-agent"),
    ("systemctl restart", "tests/machine/scenarios/37-undo.bash", "systemctl restart ip-masq-agent"),
    ("systemctl start", "tests/machine/lib/asserts.bash", "inside systemctl start ip-masq-agent"),
    ("systemctl status", APT, "inside systemctl status ip-masq-agent"),
    (
        "systemctl status ip-masq-agent-metrics.service",
        METRICS,
        "inside systemctl status ip-masq-agent-metrics.service",
    ),
    ("systemctl stop", APT, "inside systemctl stop ip-masq-agent"),
    ("systemd-analyze security", APT, "systemd-analyze security"),
];

/// Commands that no test runs, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("apt install prometheus-node-exporter", "Debian's own package, which the containers of the tests have"),
    ("curl -fsSo", "a web server of a site; the tests put the files where it would"),
    ("install -d /etc/apt/keyrings", "makes a directory, as the tests do by mkdir"),
    ("ip -s route", "named for what it shows"),
    ("make reproducible", "builds everything twice: for a release"),
    ("make test-vm", "a test itself"),
    ("make vagrant-test", "a test itself"),
    ("systemctl edit ip-masq-agent-metrics.service", "wants a terminal; what is entered there is tried"),
    ("ufw reload", "ufw's own; the rules that it loads are imported"),
    ("ufw route allow", "ufw's own"),
];

/// Programs whose commands stand in sentences. In a block of commands every line is one, whatever it begins with.
const PROGRAMS: &[&str] = &[
    "ansible-doc",
    "ansible-playbook",
    "apt",
    "apt-get",
    "bridge",
    "cargo",
    "conntrack",
    "curl",
    "dnf",
    "docker",
    "dpkg",
    "firewall-cmd",
    "install",
    "ip",
    "ip-masq-agent",
    "ip6tables",
    "ipset",
    "iptables",
    "iptables-restore",
    "iptables-save",
    "journalctl",
    "kubectl",
    "lsmod",
    "lslocks",
    "make",
    "man",
    "modprobe",
    "nft",
    "promtool",
    "rpm",
    "ss",
    "sudo",
    "sysctl",
    "systemctl",
    "systemd-analyze",
    "tcpdump",
    "ufw",
    "wg",
];

/// Languages of blocks that are no commands.
const TEXTS: [&str; 7] = ["cloud-config", "ini", "iptables", "nft", "text", "yaml", "yml"];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The commands of a guide, whole.
fn of_guide(path: &str) -> Vec<String> {
    let (mut found, mut sentences, mut language) = (Vec::new(), String::new(), None);
    for line in read(path).lines() {
        match (line.trim().strip_prefix("```"), language.take()) {
            (Some(begun), None) => {
                let is_known = ["sh", "console"].contains(&begun) || TEXTS.contains(&begun);
                assert!(is_known, "{path}: a block in the language '{begun}': is it commands or text?");
                language = Some(begun.to_owned());
            }
            (Some(_), Some(_)) => {}
            (None, Some(inside)) => {
                let command = match inside.as_str() {
                    "sh" => Some(line),
                    "console" => line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")),
                    _ => None,
                };
                found.extend(command.map(plain).filter(|command| !command.is_empty()));
                language = Some(inside);
            }
            (None, None) => sentences += &format!("{line}\n"),
        }
    }
    found.extend(sentences.split('`').skip(1).step_by(2).map(plain).filter(|span| is_command(span)));
    found
}

/// Those of a page, which are a macro each.
fn of_page(path: &str) -> Vec<String> {
    let text = read(path);
    let literal = |line: &str| {
        ["Dl", "Ic", "Ql"].iter().find_map(|name| Some(line.strip_prefix(&format!(".{name} "))?.to_owned()))
    };
    text.lines()
        .filter_map(literal)
        .map(|line| plain(line.trim_end_matches([' ', '.', ',', ';'])))
        .filter(|line| is_command(line))
        .collect()
}

/// On one line, without prompt, comment and `sudo`.
fn plain(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\|", "|");
    let line = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).unwrap_or(&line);
    let line = line.split(" # ").next().unwrap_or_default();
    line.strip_prefix("sudo ").unwrap_or(line).trim().to_owned()
}

fn is_command(span: &str) -> bool {
    let mut words = span.split(' ');
    let program = words.next().unwrap_or_default();
    // A statement of nft begins as a program does.
    let is_statement = program == "ip" && ["saddr", "daddr"].contains(&words.clone().next().unwrap_or_default());
    PROGRAMS.contains(&program) && !is_statement && (words.next().is_some() || program == "lslocks")
}

#[test]
fn every_command_in_the_documentation_is_run_by_a_test() {
    let commands: Vec<(&str, String)> = GUIDES
        .into_iter()
        .flat_map(|path| of_guide(path).into_iter().map(move |command| (path, command)))
        .chain(PAGES.into_iter().flat_map(|path| of_page(path).into_iter().map(move |command| (path, command))))
        .collect();
    assert!(commands.len() > 120, "{commands:#?}");
    let beginnings = RUN.iter().map(|(begin, ..)| *begin).chain(NOT_RUN.iter().map(|(begin, _)| *begin));
    let (mut used, mut wrong) = (BTreeSet::new(), Vec::new());
    for (path, command) in &commands {
        let begins = |begin: &&str| {
            let rest = command.strip_prefix(begin);
            // Of a word that is not whole, a beginning that says so.
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' ') || begin.ends_with(['_', '-', '/', '=']))
        };
        match beginnings.clone().filter(begins).max_by_key(|begin| begin.len()) {
            Some(begin) => _ = used.insert(begin),
            None => wrong.push(format!("{path}: no test runs '{command}'")),
        }
    }
    wrong.extend(
        beginnings.filter(|begin| !used.contains(begin)).map(|begin| format!("'{begin}' is nowhere documented")),
    );
    let is_missing = |(_, file, words): &&(&str, &str, &str)| !read(file).contains(words);
    wrong.extend(RUN.iter().filter(is_missing).map(|(begin, file, words)| format!("{begin}: {file} has no '{words}'")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
