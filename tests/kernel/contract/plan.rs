//! Plan, commit, in sync.

use super::host::{Host, every_backend, gateway_policy};
use crate::policies::{default_policy_of_both, full_policy};
use ip_masq_agent::backend::{BackendName, Counters, ErrorKind};
use ip_masq_agent::policy::Family;

/// Rules of others, for iptables and for nft.
const OTHERS: [&str; 2] = [
    "-A POSTROUTING -s 198.51.100.0/24 -o docker+ -m comment --comment \"somebody \\\"else\\\"\" -j MASQUERADE\n\
     :THEIRS - [0:0]\n-A THEIRS -p udp -m udp --dport 53 -j ACCEPT\n-A POSTROUTING -j THEIRS",
    "add table ip theirs\nadd chain ip theirs out { type nat hook postrouting priority 150; }\n\
     add rule ip theirs out ip saddr 198.51.100.0/24 counter masquerade comment \"somebody else\"",
];

every_backend! {
    fn what_was_committed_is_in_sync_also_for_a_service_that_remembers_nothing(host: Host) {
        for policy in [default_policy_of_both(), full_policy(), gateway_policy()] {
            host.facts = crate::random::facts();
            host.policy = policy;
            assert_ne!(host.apply_all(), [""; 0]);
            let (listing, fingerprints) = (host.listing(), host.fingerprints());
            host.restart();
            assert_eq!(host.apply_all(), [""; 0]);
            assert_eq!(host.listing(), listing);
            assert_eq!(host.fingerprints(), fingerprints, "nothing was written");
        }
    }

    fn a_change_says_what_it_sends_and_no_change_says_nothing(host: Host) {
        let plan = host.plan(Family::V4).unwrap();
        assert!(!plan.is_in_sync() && !plan.drift.is_empty());
        assert!(plan.transaction().contains(host.either("COMMIT\n", "add table inet ip-masq-agent")));
        assert_eq!((&*plan.observed, &*plan.desired), ("", &*host.render(Family::V4)));
        host.commit(plan).unwrap();
        let plan = host.plan(Family::V4).unwrap();
        assert_eq!((plan.is_in_sync(), plan.transaction(), plan.drift.len()), (true, String::new(), 0));
        assert_eq!(plan.observed.to_owned(), plan.desired.to_owned());
        host.commit(plan).unwrap();
    }

    fn what_render_says_can_be_loaded_and_is_what_we_write_ourselves(host: Host) {
        for policy in [default_policy_of_both(), full_policy(), gateway_policy()] {
            host.facts = crate::random::facts();
            host.policy = policy;
            for family in Family::ALL {
                host.load_text(family);
            }
            let loaded = host.listing();
            for family in Family::ALL {
                let plan = host.plan(family).unwrap();
                assert!(plan.is_in_sync(), "{}", plan.transaction());
                host.flush(family);
            }
            host.apply_all();
            assert_eq!(host.listing(), loaded);
            host.flush_all();
        }
    }

    fn a_family_is_removed_alone_and_the_last_one_leaves_what_others_have(host: Host) {
        host.apply_all();
        host.flush_all();
        host.load(host.either(OTHERS[0], OTHERS[1]));
        let others = host.listing();
        host.policy = full_policy();
        host.apply_all();
        host.load(host.either("-F IP-MASQ-AGENT-2", "flush chain inet ip-masq-agent ipv4-2"));
        host.apply_all();
        let gone = host.flush(Family::V4);
        let chain = host.either("chain 'IP-MASQ-AGENT-2'", "chain ipv4-2");
        assert!(gone.iter().any(|gone| gone == chain), "{gone:?}");
        assert_eq!(host.apply(Family::V6), [""; 0], "IPv6 is as it was");
        assert_ne!(host.flush(Family::V6), [""; 0]);
        assert_eq!(host.listing(), others);
        assert_eq!(host.flush_all(), [""; 0]);
        let counters = host.ask(|backend| backend.counters(Family::V4).unwrap());
        assert_eq!(counters, Counters::default());
    }

    fn rules_of_a_family_that_is_switched_off_go(host: Host) {
        host.apply_all();
        host.policy.enable_ipv6 = false;
        assert_ne!(host.apply(Family::V6), [""; 0]);
        assert_eq!(host.apply_all(), [""; 0]);
    }

    fn what_a_larger_policy_needed_goes_with_it(host: Host) {
        host.apply_all();
        host.restart();
        let small = host.listing();
        host.policy = full_policy();
        host.exempt(100);
        host.apply_all();
        assert_ne!(host.listing(), small);
        host.policy = default_policy_of_both();
        host.restart();
        host.apply_all();
        // Of the two names of a set the other one may be in use now.
        assert_eq!(host.listing().replace("exempt4-2", "exempt4"), small);
    }

    /// A change belongs to the backend that planned it.
    fn the_plan_of_another_backend_is_refused(host: Host) {
        let other = host.either(BackendName::Nftables, BackendName::IptablesNft);
        let plan = Host::new(other).plan(Family::V4).unwrap();
        let before = host.listing();
        assert_eq!(host.commit(plan).unwrap_err().kind, ErrorKind::Other);
        assert_eq!(host.listing(), before);
    }
}
