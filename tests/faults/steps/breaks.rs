//! What other programs do to our rules.

use crate::config::{Config, Ladder};
use crate::finding::{Finding, finding};
use crate::forwards::Forward;
use crate::gateway::{BINARY, CampaignGateway};
use crate::lab::{Namespace, foreign};
use crate::promise::{self, Shows};
use crate::random::Random;
use crate::stream::Excused;
use ip_masq_agent::backend::BackendName;
use std::time::{Duration, Instant};

type Done = Result<Duration, Finding>;

const CHAIN: &str = "IP-MASQ-AGENT";
pub const TABLE: &str = "inet ip-masq-agent";

impl CampaignGateway<'_> {
    fn is_nftables(&self) -> bool {
        self.config.backend == BackendName::Nftables
    }

    /// A program of the backend's variant of iptables, for one family.
    fn program(&self, family: &str, suffix: &str) -> String {
        match self.config.backend {
            BackendName::IptablesLegacy => format!("{family}-legacy{suffix}"),
            _ => format!("{family}-nft{suffix}"),
        }
    }

    /// What somebody types. It may be refused: a table that is owned can't be changed by others.
    fn nft(&self, script: &str) {
        self.lab.gateway.run_with_input("nft", &["-f", "-"], script);
    }

    fn iptables(&self, arguments: &str) {
        let arguments: Vec<&str> = ["-w", "-t", "nat"].into_iter().chain(arguments.split(' ')).collect();
        self.lab.gateway.run(&self.program("iptables", ""), &arguments);
    }

    /// The chain's rules as `-A` lines, in order.
    fn chain(&self) -> Vec<String> {
        let listing = self.lab.gateway.must(&self.program("iptables", "-save"), &["-t", "nat"]);
        let ours = listing.lines().filter(|line| line.starts_with(&format!("-A {CHAIN} ")));
        ours.map(str::to_owned).collect()
    }

    fn restore(&self, lines: &str) {
        let program = self.program("iptables", "-restore");
        self.lab.gateway.run_with_input(&program, &["-w", "--noflush"], &format!("*nat\n{lines}\nCOMMIT\n"));
    }

    /// Handle and text of each rule of the IPv4 chain; none where there is no such chain.
    fn rules(&self) -> Vec<(String, String)> {
        let listing = self.nft_lists(&["-sa", "list", "chain", "inet", "ip-masq-agent", "ipv4"]);
        let rules = listing.lines().filter(|line| !line.contains('{')).filter_map(|line| line.split_once(" # handle "));
        rules.map(|(text, handle)| (handle.trim().to_owned(), text.trim().to_owned())).collect()
    }
}

/// True where IPv4 has rules of ours. One program is asked; [`CampaignGateway::listing`] asks seven.
pub fn has_rules(gateway: &CampaignGateway<'_>) -> bool {
    if gateway.is_nftables() { !gateway.rules().is_empty() } else { !gateway.chain().is_empty() }
}

/// What changes a rule in the place of which a packet counts: on legacy, where the number of entries stays, only the
/// resync sees it.
fn shows_at_once_unless_legacy(gateway: &CampaignGateway<'_>) -> Shows {
    if gateway.config.backend == BackendName::IptablesLegacy { Shows::InContents } else { Shows::AtOnce }
}

/// `nft flush ruleset`, or `iptables -t nat -F` for both families. Who does that puts its own rules back.
pub fn flush_everything(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.excuse("everything is flushed", Excused::Kept);
    let node = &gateway.lab.gateway;
    if gateway.is_nftables() {
        gateway.nft(&format!("flush ruleset\n{}", foreign::TABLE));
        ["iptables-nft", "ip6tables-nft"].iter().for_each(|program| foreign::add_to(node, program));
    } else {
        for family in ["iptables", "ip6tables"] {
            node.must(&gateway.program(family, ""), &["-w", "-t", "nat", "-F"]);
            foreign::add_to(node, &gateway.program(family, ""));
        }
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

/// The rules of our chains go, the chains stay.
pub fn flush_ours(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.excuse("our chains are flushed", Excused::Kept);
    match (gateway.is_nftables(), random.once_in(2)) {
        (true, true) => gateway.nft(&format!("flush table {TABLE}\n")),
        (true, false) => gateway.nft(&format!("flush chain {TABLE} ipv4\n")),
        (false, _) => gateway.iptables(&format!("-F {CHAIN}")),
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

/// Each time that they are there again, as a program does that thinks the rules are its own. However long that goes on,
/// a repair comes once a second at the least.
pub fn fight(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let most = promise::FIGHT + gateway.patience;
    for time in 1..=12 {
        flush_ours(gateway, random)?;
        let begun = Instant::now();
        while let Some(problem) = gateway.listing().problems(Some(&gateway.config)).first() {
            if begun.elapsed() > most {
                let status = gateway.life().status();
                return Err(finding(
                    "fight",
                    format!("not repaired within {most:?}, time {time}: {problem}\n    STATUS={status}"),
                ));
            }
        }
        super::pass(Duration::from_millis(random.below(100)));
    }
    Ok(promise::FIGHT)
}

/// All that is ours goes.
pub fn delete_ours(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.excuse("our rules are deleted", Excused::Kept);
    if gateway.is_nftables() {
        gateway.nft(&format!("delete table {TABLE}\n"));
    } else {
        let listing = gateway.lab.gateway.must(&gateway.program("iptables", "-save"), &["-t", "nat"]);
        let is_jump = |line: &&str| line.starts_with("-A ") && !line.starts_with(&format!("-A {CHAIN}"));
        let jumps = listing.lines().filter(is_jump).filter(|line| line.contains(CHAIN));
        let jumps: String = jumps.map(|line| format!("{}\n", line.replacen("-A", "-D", 1))).collect();
        let chains = listing.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next());
        let chains: Vec<&str> = chains.filter(|chain| chain.starts_with(CHAIN)).collect();
        let each = |option: &str| chains.iter().map(|chain| format!("{option} {chain}\n")).collect::<String>();
        gateway.restore(&format!("{jumps}{}{}", each("-F"), each("-X")));
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

pub fn delete_a_rule(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.excuse("a rule is deleted", Excused::Anything);
    if gateway.is_nftables() {
        let rules = gateway.rules();
        let (handle, _) = &rules[random.below(rules.len() as u64) as usize];
        gateway.nft(&format!("delete rule {TABLE} ipv4 handle {handle}\n"));
    } else {
        let number = 1 + random.below(gateway.chain().len() as u64);
        gateway.iptables(&format!("-D {CHAIN} {number}"));
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

/// A rule, or the jump to all of them, is there twice.
pub fn duplicate_a_rule(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.excuse("a rule is duplicated", Excused::Anything);
    if gateway.is_nftables() {
        let rules = gateway.rules();
        let (handle, text) = &rules[random.below(rules.len() as u64) as usize];
        gateway.nft(&format!("add rule {TABLE} ipv4 position {handle} {text}\n"));
    } else if random.once_in(2) {
        let chain = gateway.chain();
        gateway.restore(&chain[random.below(chain.len() as u64) as usize]);
    } else {
        let listing = gateway.lab.gateway.must(&gateway.program("iptables", "-save"), &["-t", "nat"]);
        let jump = listing.lines().find(|line| line.starts_with("-A POSTROUTING") && line.contains(CHAIN));
        gateway.restore(jump.unwrap_or_default());
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

/// The last rule comes first.
pub fn move_a_rule(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    if gateway.config.backend == BackendName::IptablesLegacy {
        gateway.need_short_resync()?;
    }
    gateway.excuse("a rule is moved", Excused::Anything);
    if gateway.is_nftables() {
        if let Some((handle, text)) = gateway.rules().last() {
            gateway.nft(&format!("delete rule {TABLE} ipv4 handle {handle}\ninsert rule {TABLE} ipv4 {text}\n"));
        }
    } else if let Some(last) = gateway.chain().last() {
        let body = &last[format!("-A {CHAIN} ").len()..];
        gateway.restore(&format!("-D {CHAIN} {body}\n-I {CHAIN} 1 {body}"));
    }
    Ok(promise::repair(gateway, shows_at_once_unless_legacy(gateway)))
}

pub fn insert_a_rule(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.excuse("a rule is inserted", Excused::Anything);
    let masquerade = random.once_in(2);
    if gateway.is_nftables() {
        let rule = if masquerade { "ip daddr 10.0.0.0/8 masquerade" } else { "counter return" };
        gateway.nft(&format!("insert rule {TABLE} ipv4 {rule}\n"));
    } else {
        let rule = if masquerade { "-d 10.0.0.0/8 -j MASQUERADE" } else { "-j RETURN" };
        gateway.iptables(&format!("-I {CHAIN} 1 {rule}"));
    }
    Ok(promise::repair(gateway, Shows::AtOnce))
}

pub fn rename_the_chain(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    if gateway.config.backend == BackendName::IptablesLegacy {
        gateway.need_short_resync()?;
    }
    gateway.excuse("the chain is renamed", Excused::Kept);
    if gateway.is_nftables() {
        gateway.nft(&format!("rename chain {TABLE} ipv4 renamed\n"));
    } else {
        gateway.iptables(&format!("-E {CHAIN} RENAMED"));
    }
    Ok(promise::repair(gateway, shows_at_once_unless_legacy(gateway)))
}

/// Something happens to the rules of forwards: to the chains at the hooks, to what they lead to, to the maps.
pub fn break_forwards(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    if gateway.config.forwards.is_empty() {
        let forwards = some_forwards(random, gateway.config.ipv6);
        gateway.change("forwards", |config| config.forwards = forwards)?;
    }
    let way = random.below(8);
    let shows = if gateway.is_nftables() { Shows::AtOnce } else { shows_at_once_unless_legacy(gateway) };
    if shows == Shows::InContents {
        gateway.need_short_resync()?;
    }
    gateway.excuse("the rules of forwards are broken", Excused::Anything);
    match gateway.is_nftables() {
        true => break_maps(gateway, random, way),
        false => break_chains(gateway, random, way),
    }
    Ok(promise::repair(gateway, shows))
}

fn some_forwards(random: &mut Random, ipv6: bool) -> Vec<Forward> {
    loop {
        let forwards = Forward::draw(random, ipv6);
        if !forwards.is_empty() {
            return forwards;
        }
    }
}

fn break_maps(gateway: &CampaignGateway<'_>, random: &mut Random, way: u64) {
    let hook = random.pick(&["prerouting", "output"]);
    let listing = gateway.nft_lists(&["-s", "list", "table", "inet", "ip-masq-agent"]);
    let elements = map_elements(&listing);
    let (map, element) = &elements[random.below(elements.len() as u64) as usize];
    let key = element.split(" : ").next().unwrap_or_default();
    match way {
        0 => gateway.nft(&format!("flush chain {TABLE} {hook}\n")),
        1 => gateway.nft(&format!("flush chain {TABLE} forwards-ipv4\n")),
        2 => gateway.nft(&format!("flush chain {TABLE} {hook}\ndelete chain {TABLE} {hook}\n")),
        3 => gateway.nft(&format!("rename chain {TABLE} forwards-ipv4 renamed\n")),
        4 => gateway.nft(&format!("delete element {TABLE} {map} {{ {key} }}\n")),
        5 => {
            let other = if element.contains("192.168.77.2") {
                element.replace("77.2", "78.2")
            } else {
                element.replace("78.2", "77.2")
            };
            gateway
                .nft(&format!("delete element {TABLE} {map} {{ {key} }}\nadd element {TABLE} {map} {{ {other} }}\n"));
        }
        6 => gateway.nft(&format!("flush map {TABLE} {map}\n")),
        _ => gateway.nft(&format!("insert rule {TABLE} forwards-ipv4 udp dport 7000-7999 dnat ip to 192.168.77.2\n")),
    }
}

/// Each element of the maps of IPv4 forwards, after the name of its map.
fn map_elements(listing: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in listing.split("\tmap ").skip(1) {
        let name = block.split(' ').next().unwrap_or_default();
        let Some(elements) = block.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}')) else {
            continue;
        };
        if name.starts_with("forwards-") && name.ends_with('4') {
            let plain = elements.0.replace(" counter", "");
            let each = plain.split(',').map(|element| element.split_whitespace().collect::<Vec<_>>().join(" "));
            found.extend(each.filter(|element| !element.is_empty()).map(|element| (name.to_owned(), element)));
        }
    }
    found
}

fn break_chains(gateway: &CampaignGateway<'_>, random: &mut Random, way: u64) {
    let listing = gateway.lab.gateway.must(&gateway.program("iptables", "-save"), &["-t", "nat"]);
    let hook = random.pick(&["PREROUTING", "OUTPUT"]);
    let jump = listing.lines().find(|line| line.starts_with(&format!("-A {hook} ")) && line.contains(CHAIN));
    let jump = jump.unwrap_or_default();
    let translations: Vec<&str> = listing.lines().filter(|line| line.contains(" -j DNAT ")).collect();
    let translation = translations[random.below(translations.len() as u64) as usize];
    let chains: Vec<&str> = listing.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next()).collect();
    let chains: Vec<&str> = chains.into_iter().filter(|chain| chain.starts_with(&format!("{CHAIN}-f"))).collect();
    let chain = random.pick(&chains);
    let other = if translation.contains("77.2") {
        translation.replace("77.2", "78.2")
    } else {
        translation.replace("78.2", "77.2")
    };
    match way {
        0 => gateway.restore(&jump.replacen("-A", "-D", 1)),
        1 => gateway.iptables(&format!("-F {chain}")),
        2 => gateway.restore(jump),
        3 => gateway.iptables(&format!("-E {chain} RENAMED")),
        4 => gateway.restore(&translation.replacen("-A", "-D", 1)),
        5 => gateway.restore(&format!("{}\n{other}", translation.replacen("-A", "-D", 1))),
        6 => gateway.iptables(&format!("-F {hook}")),
        _ => gateway.iptables(&format!("-I {chain} 1 -p udp --dport 7000:7999 -j DNAT --to-destination 192.168.77.2")),
    }
}

/// A listing that was saved under an earlier configuration, or another backend, is loaded again.
fn load(gateway: &CampaignGateway<'_>, backend: BackendName, listing: &Rules) {
    let node = &gateway.lab.gateway;
    if backend == BackendName::Nftables {
        // As a saved file begins. A table that is not there can't be deleted.
        node.run_with_input("nft", &["-f", "-"], &format!("table {TABLE}\ndelete table {TABLE}\n{}", listing.v4));
        return;
    }
    let variant = if backend == BackendName::IptablesLegacy { "legacy" } else { "nft" };
    node.run_with_input("ipset", &["restore", "-exist"], &listing.sets);
    for (family, text) in [("iptables", &listing.v4), ("ip6tables", &listing.v6)] {
        node.run_with_input(&format!("{family}-{variant}-restore"), &["-w", "--noflush"], text);
    }
}

/// Our rules for a configuration, saved by the programs that list them.
struct Rules {
    sets: String,
    v4: String,
    v6: String,
}

/// Puts a configuration into a host of its own and lists that.
fn rules_for(config: &Config) -> Rules {
    let node = Namespace::new("scratch").expect("a namespace");
    let write =
        || std::fs::create_dir_all("/run/lab/none").and_then(|()| std::fs::write("/run/lab/c.yaml", config.yaml()));
    node.enter(write).expect("a file");
    let once = node.run(BINARY, &["run", "--once", "--config", "/run/lab/c.yaml", "--config-dir", "/run/lab/none"]);
    assert!(once.status.success(), "{once:?}");
    let variant = match config.backend {
        BackendName::Nftables => {
            let v4 = node.must("nft", &["list", "table", "inet", "ip-masq-agent"]);
            return Rules { sets: String::new(), v4, v6: String::new() };
        }
        BackendName::IptablesNft => "nft",
        BackendName::IptablesLegacy => "legacy",
    };
    let save = |family: &str| node.must(&format!("{family}-{variant}-save"), &["-t", "nat"]);
    Rules { sets: node.must("ipset", &["save"]), v4: save("iptables"), v6: save("ip6tables") }
}

/// Of the same backend, under another configuration.
pub fn restore_old_rules(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let mut config = Config::draw(random, gateway.config.backend);
    config.owner = false;
    config.ladder.count = config.ladder.count.min(1000);
    let rules = rules_for(&config);
    gateway.excuse("old rules of ours are restored", Excused::Anything);
    load(gateway, config.backend, &rules);
    // Into a chain that is there, the rules of an iptables listing are added: their number differs.
    Ok(promise::repair(gateway, Shows::AtOnce))
}

/// IPv6 rules of ours while IPv6 is off.
pub fn other_family(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    if gateway.config.ipv6 || gateway.config.resync > 2 {
        gateway.change("IPv6 is turned off", |config| {
            *config =
                Config { ipv6: false, resync: 1, exempt: config.exempt[..1].to_vec(), ..Config::plain(config.backend) };
        })?;
    }
    let mut config = (*gateway.config).clone();
    config.ipv6 = true;
    let rules = rules_for(&config);
    gateway.excuse("IPv6 rules of ours are restored", Excused::Anything);
    load(gateway, config.backend, &rules);
    Ok(promise::repair(gateway, Shows::AtResync))
}

/// Rules of ours in a backend that is not in use.
pub fn other_backend(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let here = gateway.config.backend;
    let others: Vec<BackendName> = crate::lab::BACKENDS.iter().copied().filter(|other| *other != here).collect();
    let mut config = Config::draw(random, random.clone().pick(&others));
    config.owner = false;
    config.ladder.count = config.ladder.count.min(1000);
    let rules = rules_for(&config);
    gateway.excuse("rules of ours are restored into another backend", Excused::Anything);
    load(gateway, config.backend, &rules);
    Ok(promise::repair(gateway, Shows::AtResync))
}

/// Makes the list of exempt networks one that is kept in a set, with so many members; returns the set's name.
fn need_a_set(gateway: &mut CampaignGateway<'_>, least: u32) -> Result<String, Finding> {
    // What happens to an ipset raises no event.
    if !gateway.is_nftables() {
        gateway.need_short_resync()?;
    }
    if gateway.config.ladder.count < least {
        gateway.change("a long list", |config| config.ladder = Ladder { from: 0, count: least })?;
    }
    if gateway.is_nftables() {
        return Ok("exempt4".to_owned());
    }
    let names = gateway.lab.gateway.must("ipset", &["list", "-n"]);
    Ok(names.lines().find(|name| name.contains("exempt") && name.contains('4')).unwrap_or_default().to_owned())
}

pub fn flush_a_set(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    let set = need_a_set(gateway, 200)?;
    gateway.excuse("a set is flushed", Excused::Anything);
    if gateway.is_nftables() {
        gateway.nft(&format!("flush set {TABLE} {set}\n"));
        return Ok(promise::repair(gateway, Shows::AtOnce));
    }
    gateway.lab.gateway.must("ipset", &["flush", &set]);
    Ok(promise::repair(gateway, Shows::AtResync))
}

/// One member of a set is another one: their number stays.
pub fn swap_a_member(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let set = need_a_set(gateway, random.clone().pick(&[200, 5_000]))?;
    gateway.excuse("a member of a set is swapped", Excused::Anything);
    let ladder = gateway.config.ladder;
    let number = random.below(ladder.count.into()) as usize;
    let Some(gone) = ladder.cidrs().nth(number) else { return Ok(Duration::ZERO) };
    if gateway.is_nftables() {
        let element = |verb, cidr: &str| format!("{verb} element {TABLE} {set} {{ {cidr} }}\n");
        gateway.nft(&(element("delete", &gone.to_string()) + &element("add", "198.19.0.0/28")));
    } else {
        gateway.lab.gateway.must("ipset", &["del", &set, &gone.to_string()]);
        gateway.lab.gateway.must("ipset", &["add", &set, "198.19.0.0/28"]);
    }
    Ok(promise::repair(gateway, Shows::InContents))
}
