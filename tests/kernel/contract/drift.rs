//! Whatever others do to our rules is seen, named and repaired.

use super::host::{Host, every_backend};
use crate::policies::full_policy;
use ip_masq_agent::backend::BackendName;

/// Does something to applied rules, expects it to be seen in process and in words, and repairs it.
fn repaired(host: &mut Host, words: &str, damage: impl FnOnce(&Host)) {
    host.apply_all();
    let (good, before) = (host.listing(), host.fingerprints());
    damage(host);
    let after = host.fingerprints();
    assert!(before[0] != after[0] && before[1] != after[1], "{words}: not seen in process");
    let drift = host.apply_all();
    assert!(drift.iter().any(|drift| drift.contains(words)), "{words}: {drift:?}");
    assert_eq!(host.listing(), good, "{words}");
    assert_eq!(host.apply_all(), [""; 0]);
}

every_backend! {
    fn an_emptied_chain_is_filled(host: Host) {
        let words = host.either("chain 'IP-MASQ-AGENT' is empty", "chain ipv4 lacks");
        repaired(&mut host, words, |host| host.load(host.either("-F IP-MASQ-AGENT", "flush chain inet ip-masq-agent ipv4")));
    }

    fn the_way_to_our_chain_comes_back(host: Host) {
        let words = host.either("the jump to 'IP-MASQ-AGENT' is missing", "chain postrouting lacks");
        repaired(&mut host, words, |host| host.load(host.either("-F POSTROUTING", "flush chain inet ip-masq-agent postrouting")));
    }

    fn a_rule_too_many_goes(host: Host) {
        let words = host.either("has 10 rules instead of 9", "chain ipv4 holds a rule too many: 'counter return");
        repaired(&mut host, words, |host| host.load(host.either(
            "-A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: one more\" -j RETURN",
            "add rule inet ip-masq-agent ipv4 counter return comment \"keep source: one more\"",
        )));
    }

    fn what_is_gone_whole_is_made_again(host: Host) {
        repaired(&mut host, "is missing", |host| host.load(host.either("-F\n-X", "delete table inet ip-masq-agent")));
    }

    fn the_chains_behind_gates_are_repaired_like_the_first(host: Host) {
        host.policy = full_policy();
        let words = host.either("chain 'IP-MASQ-AGENT-2' is empty", "chain ipv4-2 lacks");
        repaired(&mut host, words, |host| host.load(host.either("-F IP-MASQ-AGENT-2", "flush chain inet ip-masq-agent ipv4-2")));
    }

    fn a_member_that_is_missing_in_a_long_list_comes_back(host: Host) {
        host.exempt(100);
        let words = host.either("has 1 wrong or missing members", "set exempt4 lacks 1 element");
        repaired(&mut host, words, |host| match host.name {
            BackendName::Nftables => host.load("delete element inet ip-masq-agent exempt4 { 11.0.2.0/24 }"),
            _ => {
                let sets = host.namespace.must("ipset", &["list", "-n"]);
                let set = sets.lines().find(|name| name.starts_with("ima4-")).unwrap();
                host.namespace.must("ipset", &["del", set, "11.0.2.0/24"]);
            }
        });
    }

    fn a_rule_of_others_in_a_chain_of_ours_is_removed_and_named(host: Host) {
        let add = host.either("-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT", "add rule inet ip-masq-agent ipv4 ip daddr 192.0.2.0/24 accept");
        let chain = host.either("IP-MASQ-AGENT", "ipv4");
        let words = format!("chain '{chain}' holds a rule that is not ip-masq-agent's: '");
        repaired(&mut host, &words, |host| host.load(add));
        // It keeps nobody from taking our rules away either.
        host.load(add);
        let gone = host.flush_all();
        let words = format!("of chain '{chain}', which is not ip-masq-agent's");
        assert!(gone.iter().any(|gone| gone.contains("192.0.2.0/24") && gone.ends_with(&words)), "{gone:?}");
    }
}
