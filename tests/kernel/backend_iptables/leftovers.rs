//! What earlier configurations and the Go agents left is taken away, and nothing else.

use super::gateway::{IptablesGateway, both_variants};
use ip_masq_agent::policy::Family;
use ip_masq_agent::service::stale_rules::clear_family;

/// What the Go agents write, with the two spellings of the jump's comment (plain; in literal quotes: kubernetes-sigs
/// v2.10.0 to v2.12.1 and Azure v2).
fn go_agent(chain: &str, quote: &str) -> String {
    let keep = "-m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\"";
    format!(
        ":{chain} - [0:0]\n\
         -A {chain} {keep} -d 169.254.0.0/16 -j RETURN\n\
         -A {chain} {keep} -d 10.0.0.0/8 -j RETURN\n\
         -A {chain} -m comment --comment \"ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)\" -j MASQUERADE --random-fully\n\
         -A POSTROUTING -m comment --comment \"{quote}ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom {chain} chain{quote}\" -m addrtype ! --dst-type LOCAL -j {chain}"
    )
}

both_variants! {
    fn the_jump_of_a_go_agent_with_the_plain_spelling_is_adopted(host: IptablesGateway) {
        host.restore(Family::V4, &go_agent("IP-MASQ-AGENT", ""));
        host.iptables("-A POSTROUTING -s 198.51.100.1/32 -j RETURN");
        let before = host.postrouting();
        let plan = host.apply();
        assert_eq!(host.postrouting(), before);
        assert!(!plan.transaction().contains("POSTROUTING"), "{}", plan.transaction());
    }

    fn the_jump_of_a_go_agent_with_the_quoted_spelling_is_replaced(host: IptablesGateway) {
        host.restore(Family::V4, &go_agent("IP-MASQ-AGENT", "\\\""));
        host.apply();
        let jumps = host.postrouting();
        assert_eq!(jumps.len(), 1, "{jumps:?}");
        assert!(!jumps[0].contains("\\\""), "{jumps:?}");
    }

    fn chains_of_other_names_go_with_both_spellings(host: IptablesGateway) {
        host.restore(Family::V4, &go_agent("IP-MASQ", "\\\""));
        host.restore(Family::V4, &go_agent("OTHER", ""));
        host.apply();
        let listing = host.save(Family::V4);
        assert!(!listing.contains("IP-MASQ\n") && !listing.contains("OTHER"), "{listing}");
        assert_eq!(host.postrouting().len(), 1);
    }

    fn flush_leaves_an_empty_table(host: IptablesGateway) {
        let empty = host.save(Family::V4);
        host.restore(Family::V4, &go_agent("IP-MASQ", "\\\""));
        host.restore(Family::V4, &go_agent("IP-MASQ-AGENT", ""));
        let gone = host.flush(Family::V4).drift;
        assert_eq!(gone, ["jump to 'IP-MASQ'", "jump to 'IP-MASQ-AGENT'", "chain 'IP-MASQ'", "chain 'IP-MASQ-AGENT'"]);
        assert_eq!(host.save(Family::V4), empty);
    }

    fn what_flush_must_leave_it_names(host: IptablesGateway) {
        host.restore(Family::V4, &go_agent("OTHER", ""));
        host.iptables("-A POSTROUTING -s 198.51.100.1/32 -j OTHER");
        let backend = &mut host.backend;
        let cleared = host.namespace.enter(|| clear_family(backend, Family::V4));
        assert!(cleared.result.is_ok() && cleared.notes.iter().any(|note| note.contains("chain 'OTHER'")), "{cleared:?}");
    }

    fn a_renamed_chain_leaves_nothing_of_the_old_one(host: IptablesGateway) {
        host.exempt(100);
        host.apply();
        let old = host.sets();
        host.restart("NEW-NAME");
        host.apply();
        let listing = host.save(Family::V4);
        assert!(!listing.contains("IP-MASQ-AGENT") && listing.contains("-A NEW-NAME "), "{listing}");
        assert_eq!((host.sets().len(), old.len()), (1, 1));
        assert_ne!(host.sets(), old);
    }

    fn the_chains_behind_gates_go_with_the_gates(host: IptablesGateway) {
        use ip_masq_agent::policy::{WithOrigin, Origin, PrefixSet};
        host.policy.out_interfaces = ["a0", "b0"].iter().map(|name| WithOrigin { value: name.parse().unwrap(), origin: Origin::Default }).collect();
        host.policy.sources = crate::policies::prefixes(&["10.0.0.0/8", "172.16.0.0/12"]);
        host.apply();
        assert!(host.save(Family::V4).contains(":IP-MASQ-AGENT-3 "));
        host.iptables("-F IP-MASQ-AGENT-3");
        host.policy.out_interfaces.clear();
        host.policy.sources = PrefixSet::default();
        host.apply();
        assert!(!host.save(Family::V4).contains("IP-MASQ-AGENT-"));
    }

    fn a_chain_of_ours_that_others_use_stays_and_is_told(host: IptablesGateway) {
        use ip_masq_agent::backend::Backend;
        host.restore(Family::V4, &go_agent("OTHER", ""));
        host.iptables("-A POSTROUTING -s 198.51.100.1/32 -j OTHER");
        host.apply();
        assert!(host.save(Family::V4).contains("-A POSTROUTING -s 198.51.100.1/32 -j OTHER"));
        let notes = host.backend.notes(Family::V4);
        assert!(notes.iter().any(|note| note.contains("'OTHER'") && note.contains("-A POSTROUTING -s 198.51.100.1/32 -j OTHER")), "{notes:?}");
    }

    fn a_chain_of_ours_that_others_use_is_emptied_when_ours_go_and_those_behind_it_go(host: IptablesGateway) {
        use ip_masq_agent::policy::{WithOrigin, Origin};
        host.policy.out_interfaces = vec![WithOrigin { value: "a0".parse().unwrap(), origin: Origin::Default }];
        host.policy.sources = crate::policies::prefixes(&["10.0.0.0/8", "172.16.0.0/12"]);
        host.apply();
        let foreign = "-A POSTROUTING -s 198.51.100.1/32 -j IP-MASQ-AGENT";
        host.iptables(foreign);
        host.flush(Family::V4);
        let listing = host.save(Family::V4);
        let ours: Vec<&str> = listing.lines().filter(|line| line.contains("IP-MASQ-AGENT")).collect();
        assert!(ours.len() == 2 && ours[0].starts_with(":IP-MASQ-AGENT ") && ours[1] == foreign, "{listing}");
    }

    fn looking_for_leftovers_makes_no_table(host: IptablesGateway) {
        let family = Family::V6;
        assert!(host.plan(family).is_in_sync());
        let tables = host.namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/ip6_tables_names")).unwrap_or_default();
        assert_eq!(tables, "");
    }
}
