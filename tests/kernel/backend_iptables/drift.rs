//! Whatever others do to our rules is seen and repaired, and their own rules stay as they are.

use super::gateway::{IptablesGateway, both_variants};
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::JumpPosition;

const FOREIGN: &str = "-A POSTROUTING -s 198.51.100.0/24 -o docker+ -m comment --comment \"somebody \\\"else\\\"\" -j MASQUERADE\n\
    :THEIRS - [0:0]\n-A THEIRS -p udp -m udp --dport 53 -j ACCEPT\n-A POSTROUTING -j THEIRS";

/// Does something to applied rules, expects it to be seen in process and in words, and repairs it.
fn repaired(host: &mut IptablesGateway, words: &str, damage: impl FnOnce(&IptablesGateway)) {
    host.apply();
    let good = host.save(Family::V4);
    let before = host.content_fingerprints();
    damage(host);
    assert_ne!(host.content_fingerprints(), before, "{words}: not seen in process");
    let plan = host.apply();
    assert!(plan.drift.iter().any(|drift| drift.contains(words)), "{words}: {:?}", plan.drift);
    assert_eq!(host.save(Family::V4), good, "{words}");
}

both_variants! {
    fn a_deleted_rule_comes_back(host: IptablesGateway) {
        repaired(&mut host, "rule 3 of chain 'IP-MASQ-AGENT'", |host| host.iptables("-D IP-MASQ-AGENT 3"));
    }

    fn a_deleted_last_rule_comes_back(host: IptablesGateway) {
        repaired(&mut host, "has 8 rules instead of 9", |host| host.iptables("-D IP-MASQ-AGENT 9"));
    }

    fn rules_in_another_order_are_put_in_order(host: IptablesGateway) {
        repaired(&mut host, "rule 6 of chain", |host| {
            host.restore(Family::V4, "-D IP-MASQ-AGENT 6\n-I IP-MASQ-AGENT 7 -d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN");
        });
    }

    fn a_rule_replaced_by_one_of_the_same_size_is_seen(host: IptablesGateway) {
        repaired(&mut host, "rule 6 of chain", |host| {
            host.restore(Family::V4, "-R IP-MASQ-AGENT 6 -d 11.0.0.0/8 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN");
        });
    }

    fn a_rule_that_is_not_understood_goes(host: IptablesGateway) {
        repaired(&mut host, "rule 1 of chain", |host| {
            host.restore(Family::V4, "-I IP-MASQ-AGENT -m mark --mark 0x1 -m comment --comment \"ip-masq-agent: marked\" -j RETURN");
        });
    }

    fn a_doubled_jump_goes(host: IptablesGateway) {
        repaired(&mut host, "the jump is there 3 times", |host| {
            let jump = host.postrouting().remove(0);
            host.restore(Family::V4, &format!("-A POSTROUTING {jump}\n-I POSTROUTING {jump}"));
        });
    }

    fn a_jump_for_all_destinations_is_replaced(host: IptablesGateway) {
        repaired(&mut host, "left-over jump", |host| {
            let jump = host.postrouting().remove(0).replace("! --dst-type LOCAL", "! --dst-type UNICAST");
            host.restore(Family::V4, &format!("-R POSTROUTING 1 {jump}"));
        });
    }

    fn a_moved_jump_that_belongs_first_is_moved_back(host: IptablesGateway) {
        host.position = JumpPosition::First;
        host.restore(Family::V4, FOREIGN);
        repaired(&mut host, "the jump is not the first rule of POSTROUTING", |host| {
            let jump = host.postrouting().remove(0);
            host.restore(Family::V4, &format!("-D POSTROUTING {jump}\n-A POSTROUTING {jump}"));
        });
    }

    fn a_doubled_jump_that_belongs_first_is_first_once(host: IptablesGateway) {
        host.position = JumpPosition::First;
        host.restore(Family::V4, FOREIGN);
        repaired(&mut host, "the jump is there 2 times", |host| {
            let jump = host.postrouting().remove(0);
            host.restore(Family::V4, &format!("-A POSTROUTING {jump}"));
        });
    }
}

/// `nft flush ruleset` takes the table away with everything in it.
#[test]
fn a_ruleset_flushed_by_nft_is_made_again() {
    super::gateway::with(ip_masq_agent::backend::iptables::tools::Variant::Nft, |mut host| {
        repaired(&mut host, "is missing", |host| {
            host.namespace.must("nft", &["flush", "ruleset"]);
        });
    });
}
