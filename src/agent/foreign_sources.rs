//! Nat rules of other programs that act on the flows of a policy, before ours and after. Pure.

use super::foreign_forwards::of_forwards;
use super::foreign_rule::{About, EACH, Foreign, ordered};
use super::host_view::HostView;
use crate::config::{Config, ExpectedRule};
use crate::network::hook::{Hook, Packet, Translations, translations};
use crate::policy::{Family, Policy, Prefix, Section, WithOrigin};

/// The nat rules of other programs that flows in the scope of the policy can meet, without those that are expected; and
/// what is expected and not there.
pub fn foreign(config: &Config, view: &HostView) -> (Vec<Foreign>, Vec<WithOrigin<ExpectedRule>>) {
    if view.unread.is_some() {
        return Default::default();
    }
    let policy = &config.policy;
    let mut found: Vec<Foreign> = Vec::new();
    let is_asked = |family: &Family| policy.enables(*family) && !view.chains(*family).is_empty();
    for family in Family::ALL.into_iter().filter(is_asked) {
        let sources = view.at_hook(family, Hook::Postrouting);
        for packet in packets(policy, view, family) {
            of_sources(family, &translations(&sources, &packet), &mut found);
        }
        of_forwards(policy, view, family, &mut found);
    }
    let mut expected: Vec<bool> = vec![false; config.expected_rules.len()];
    found.retain(|foreign| {
        let mut is_expected = false;
        for (rule, seen) in config.expected_rules.iter().zip(&mut expected) {
            let matches = rule.value.matches(&foreign.line) || rule.value.matches(&foreign.to_string());
            (*seen, is_expected) = (*seen || matches, is_expected || matches);
        }
        !is_expected
    });
    let missing = config.expected_rules.iter().zip(expected).filter(|(_, seen)| !seen);
    (found, missing.map(|(rule, _)| rule.clone()).collect())
}

fn of_sources(family: Family, translations: &Translations, found: &mut Vec<Foreign>) {
    for (order, hit) in ordered(translations) {
        if !found.iter().any(|known| known.line == hit.line) {
            let (line, rule) = (hit.line.clone(), hit.place.clone());
            found.push(Foreign { family, about: About::Sources, order, line, rule });
        }
    }
}

/// One packet for each interface and source of the scopes; where a scope names none, or too many, one of which that is not
/// said.
fn packets(policy: &Policy, view: &HostView, family: Family) -> Vec<Packet> {
    let mut packets = Vec::new();
    for section in policy.sections() {
        for out in interfaces(&section, view) {
            for source in sources(&section, family) {
                let packet = Packet {
                    source,
                    out_interface: out.clone(),
                    destination_is_local: Some(false),
                    ..Packet::any(family)
                };
                if !packets.contains(&packet) {
                    packets.push(packet);
                }
            }
        }
    }
    packets
}

fn interfaces(section: &Section<'_>, view: &HostView) -> Vec<Option<String>> {
    let Some(network) = view.network.as_deref().filter(|_| !section.out_interfaces.is_empty()) else {
        return vec![None];
    };
    let names =
        network.interfaces().map(|interface| &interface.name).filter(|name| *name != "lo" && section.takes(name));
    let names: Vec<Option<String>> = names.map(|name| Some(name.clone())).take(EACH + 1).collect();
    if names.len() > EACH { vec![None] } else { names }
}

fn sources(section: &Section<'_>, family: Family) -> Vec<Option<Prefix>> {
    let entries = section.sources.entries();
    if entries.is_empty() || entries.len() > EACH {
        return vec![None];
    }
    let of_family = entries.iter().map(|entry| entry.value).filter(|prefix| prefix.family() == family);
    of_family.map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::super::advice::{InterfaceAddress, advice};
    use super::*;
    use crate::config::{Flags, SourceText, parse};
    use crate::network::hook::{BaseChain, Rule};

    fn rules(texts: &[&str]) -> Vec<Rule> {
        let rule = |text: &&str| Rule { text: (*text).to_owned(), comment: None, is_ours: *text == "OURS" };
        texts.iter().map(rule).collect()
    }

    fn chain(hook: Hook, texts: &[&str]) -> BaseChain {
        let (name, is_nat) = (format!("{hook:?}").to_uppercase(), hook != Hook::Forward);
        let priority = if hook == Hook::Postrouting { 100 } else { 0 };
        BaseChain {
            family: "ip",
            table: "t".to_owned(),
            name,
            hook: Some(hook),
            priority,
            is_nat,
            rules: rules(texts),
            ..BaseChain::default()
        }
    }

    fn said(text: &str, chains: Vec<BaseChain>) -> Vec<String> {
        let source = SourceText { path: std::path::Path::new("config.yaml").into(), text: text.to_owned() };
        let own = |interface: &str, address: &str, network: &str| InterfaceAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            network: network.parse().unwrap(),
        };
        let view = HostView {
            chains: [(Family::V4, chains)].into(),
            addresses: vec![
                own("lan0", "192.168.10.1", "192.168.10.0/24"),
                own("wan0", "198.51.100.2", "198.51.100.0/24"),
            ],
            default_route_interfaces: ["wan0".to_owned()].into(),
            ..HostView::default()
        };
        let config = parse(&[source], &Flags::default()).unwrap();
        advice(&config, &view, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_before_and_after_ours_are_told_with_what_they_do() {
        let nat = chain(
            Hook::Postrouting,
            &[
                "-s 10.9.0.0/16 -j ACCEPT",
                "oifname \"wan0\" snat to 198.51.100.7",
                "OURS",
                "-o wan1 -j MASQUERADE",
                "accept",
            ],
        );
        assert_eq!(
            said("", vec![nat.clone()]),
            [
                "runs before our IPv4 rules, which never see what it accepts: ip t POSTROUTING (priority 100): -s 10.9.0.0/16 -j ACCEPT",
                "runs before our IPv4 rules and wins: ip t POSTROUTING (priority 100): oifname \"wan0\" snat to 198.51.100.7",
                "runs after our IPv4 rules and rewrites what they keep: ip t POSTROUTING (priority 100): -o wan1 -j MASQUERADE",
            ]
        );
        // What can't meet a flow of the policy is not told.
        assert_eq!(
            said(
                "sourceCIDRs: [10.9.1.0/24]\n",
                vec![chain(Hook::Postrouting, &["-s 10.8.0.0/16 -j MASQUERADE", "OURS"])]
            ),
            [""; 0]
        );
        let bare = chain(Hook::Postrouting, &["masquerade"]);
        assert_eq!(
            said("", vec![bare]),
            ["already there, our IPv4 rules are not: ip t POSTROUTING (priority 100): masquerade"]
        );
    }

    #[test]
    fn what_is_expected_is_not_told_and_what_is_expected_and_missing_is() {
        let nat = || vec![chain(Hook::Postrouting, &["oifname \"wan0\" snat to 198.51.100.7", "OURS"])];
        for expected in ["ip t POSTROUTING * snat to 198.51.100.7", "runs before our IPv4 rules and wins: ip t*"] {
            assert_eq!(said(&format!("expectForeign: ['{expected}']\n"), nat()), [""; 0]);
        }
        let found = said("expectForeign:\n- '*snat to 198.51.100.7'\n- 'ip nat FOO*'\n", nat());
        assert_eq!(found, ["config.yaml:3:3: expectForeign: no rule on this host is 'ip nat FOO*'"]);
    }

    #[test]
    fn a_foreign_rule_that_takes_a_forwarded_port_first_is_told() {
        let forward = "portForwards: [{hostPort: 8080, address: 192.168.10.5}]\n";
        let dnat =
            chain(Hook::Prerouting, &["tcp dport 8080 dnat to 10.0.0.1", "tcp dport 80 dnat to 10.0.0.2", "OURS"]);
        assert_eq!(
            said(forward, vec![dnat]),
            [
                "config.yaml:1:16: portForwards[1]: runs before our IPv4 forwards and wins: ip t PREROUTING (priority 0): tcp dport 8080 dnat to 10.0.0.1"
            ]
        );
        // In a chain of its own: the one that was made last is asked first, and which that is is not told.
        let of_others = chain(Hook::Prerouting, &["tcp dport 8080 dnat to 10.0.0.1"]);
        let ours = chain(Hook::Prerouting, &["OURS"]);
        for chains in [vec![of_others.clone(), ours.clone()], vec![ours, of_others]] {
            assert_eq!(
                said(forward, chains),
                [
                    "config.yaml:1:16: portForwards[1]: has the priority of our IPv4 forwards, which runs first is undefined: ip t PREROUTING (priority 0): tcp dport 8080 dnat to 10.0.0.1"
                ]
            );
        }
    }

    #[test]
    fn a_firewall_that_lets_no_new_connection_out_is_told_with_the_interfaces() {
        let forward = |texts: &[&str]| vec![BaseChain { drops: true, ..chain(Hook::Forward, texts) }];
        let blocked =
            "new IPv4 connections from lan0 to wan0 are dropped: ip t FORWARD: policy drop, and no rule accepts it";
        assert_eq!(said("", forward(&["ct state established accept"])), [blocked]);
        assert_eq!(said("", forward(&["ip saddr 192.168.10.0/24 accept"])), [""; 0]);
        assert_eq!(said("outInterfaces: [wg0]\n", forward(&[])), [""; 0]);
        let networks_left_alone = [
            "excludeSourceCIDRs: [192.168.10.0/24]\n",
            "sourceCIDRs: [192.168.0.0/16]\nexcludeSourceCIDRs: [192.168.10.0/24]\n",
            "egress: [{sourceCIDRs: [192.168.10.0/24], snat: none}]\n",
            "egress: [{outInterfaces: [wan0], snat: none}]\n",
            "snat: none\n",
            "snat: none\negress: [{sourceCIDRs: [10.7.0.0/16], snat: masquerade}]\n",
        ];
        for text in networks_left_alone {
            assert_eq!(said(text, forward(&[])), [""; 0], "{text}");
        }
        let networks_of_which_a_part_is_translated = [
            "excludeSourceCIDRs: [192.168.10.0/25]\n",
            "egress: [{sourceCIDRs: [192.168.10.0/25], snat: none}]\n",
            "egress: [{outInterfaces: [wg+], sourceCIDRs: [192.168.10.0/24], snat: none}]\n",
            "snat: none\negress: [{outInterfaces: [wan0], snat: masquerade}]\n",
        ];
        for text in networks_of_which_a_part_is_translated {
            assert_eq!(said(text, forward(&[])), [blocked], "{text}");
        }
        let doubtful = said("", forward(&["-m set --match-set lan src -j ACCEPT"]));
        assert!(doubtful[0].contains(" may be dropped, "), "{doubtful:?}");
    }

    #[test]
    fn a_rule_that_keeps_every_new_connection_of_a_network_untracked_is_told_with_the_interfaces() {
        let raw = |texts: &[&str]| BaseChain { priority: -300, is_nat: false, ..chain(Hook::Prerouting, texts) };
        let by = |rule: &str| format!("ip t PREROUTING (priority -300): {rule}");
        let kept = |rule: &str| {
            format!("new IPv4 connections from lan0 to wan0 are not tracked and keep their source: {}", by(rule))
        };
        for rule in ["notrack", "-i lan0 -j CT --notrack", "meta l4proto { tcp, udp } NOTRACK"] {
            assert_eq!(said("", vec![raw(&[rule])]), [kept(rule)]);
        }
        let doubtful = said("", vec![raw(&["ip saddr @lan accept", "notrack"])]);
        let may = "new IPv4 connections from lan0 to wan0 may be untracked and keep their source, where no rule accepts that is not understood: ";
        assert_eq!(doubtful, [may.to_owned() + &by("notrack")]);
        // Not all of them, or not those that are translated.
        for rule in [
            "tcp dport 443 notrack",
            "tcp dport 0-65535 notrack",
            "meta l4proto tcp notrack",
            "iifname \"wan0\" notrack",
        ] {
            assert_eq!(said("", vec![raw(&[rule])]), [""; 0], "{rule}");
        }
        assert_eq!(said("excludeSourceCIDRs: [192.168.10.0/24]\n", vec![raw(&["notrack"])]), [""; 0]);
        let on = |device: &str| BaseChain {
            devices: vec![device.to_owned()],
            hook: Some(Hook::Ingress),
            is_nat: false,
            ..chain(Hook::Ingress, &["notrack"])
        };
        assert_eq!(said("", vec![on("wan0")]), [""; 0]);
        assert_eq!(
            said("", vec![on("lan0")]),
            [kept("notrack").replace("PREROUTING (priority -300)", "INGRESS (priority 0)")]
        );

        // A firewall sees that they are not tracked.
        let forward = |texts: &[&str]| BaseChain { drops: true, ..chain(Hook::Forward, texts) };
        let dropped =
            "new IPv4 connections from lan0 to wan0 are dropped: ip t FORWARD: policy drop, and no rule accepts it";
        let of_new = forward(&["ct state new,established accept"]);
        let why = format!("{dropped}; what it sees is not tracked: {}", by("notrack"));
        assert_eq!(said("", vec![raw(&["notrack"]), of_new]), [why]);
        assert_eq!(said("", vec![raw(&["notrack"]), forward(&[])]), [dropped]);
        assert_eq!(said("", vec![raw(&["notrack"]), forward(&["ct state untracked accept"])]), [kept("notrack")]);
    }
}
