//! Long lists live in sets, and the chain is never without them.

use super::gateway::{IptablesGateway, both_variants, networks};
use ip_masq_agent::backend::Backend;
use ip_masq_agent::policy::{Family, Origin, PrefixSet};

both_variants! {
    fn sixty_four_prefixes_are_rules_and_one_more_makes_a_set(host: IptablesGateway) {
        host.exempt(64);
        host.apply();
        assert_eq!(host.sets(), [""; 0]);
        host.exempt(65);
        host.apply();
        let sets = host.sets();
        assert!(sets.len() == 1 && sets[0].starts_with("ima4-exempt-"), "{sets:?}");
        assert!(host.save(Family::V4).contains(&format!("-A IP-MASQ-AGENT -m set --match-set {} dst ", sets[0])));
        host.exempt(64);
        host.apply();
        assert_eq!(host.sets(), [""; 0]);
    }

    fn a_change_is_a_new_set_and_the_old_one_goes(host: IptablesGateway) {
        host.exempt(100);
        host.apply();
        let old = host.sets();
        host.exempt(101);
        let plan = host.apply();
        assert_ne!(host.sets(), old);
        assert_eq!(host.sets().len(), 1);
        let (filled, restored) = plan.transaction().split_once("-restore --noflush").unwrap();
        assert!(filled.contains("create ima4-exempt-") && restored.contains("COMMIT\n# ipset destroy"), "{}", plan.transaction());
    }

    fn every_list_of_both_families_can_be_a_set(host: IptablesGateway) {
        let v6 = |count: u32| (0..count).map(|number| format!("2001:db8:{:x}::/48", number * 2).parse().unwrap());
        let both = || PrefixSet::from_prefixes(networks(70).into_iter().chain(v6(70)), &Origin::Default);
        host.policy.enable_ipv6 = true;
        host.policy.exempt = both();
        host.policy.exceptions = both();
        host.policy.sources = both();
        host.policy.excluded_sources = both();
        host.policy.to_ports = Some("1024-2047,4000-4100".parse().unwrap());
        host.apply();
        host.apply_to(Family::V6);
        assert_eq!(host.sets().len(), 8);
        let listing = host.save(Family::V4);
        assert!(listing.contains("-A IP-MASQ-AGENT -m set ! --match-set ima4-sources-"), "{listing}");
        host.flush(Family::V4);
        assert_eq!(host.sets().len(), 4);
        host.flush(Family::V6);
        assert_eq!(host.sets().len(), 0);
    }

    fn a_flushed_set_is_seen_and_filled_in_its_place(host: IptablesGateway) {
        host.exempt(200);
        host.apply();
        let set = host.sets().remove(0);
        let before = host.fingerprint();
        host.ipset(&format!("flush {set}"));
        assert_ne!(host.fingerprint(), before);
        let plan = host.apply();
        assert!(!plan.transaction().contains("restore --noflush"), "{}", plan.transaction());
        assert_eq!(host.fingerprint(), before);
        assert_eq!(host.ipset(&format!("list {set}")).matches("/24").count(), 200);
    }

    fn a_member_replaced_by_another_is_seen_in_the_contents(host: IptablesGateway) {
        host.exempt(200);
        host.apply();
        let set = host.sets().remove(0);
        let (count, contents) = (host.fingerprint(), host.content_fingerprints());
        host.ipset(&format!("del {set} 11.0.0.0/24"));
        host.ipset(&format!("add {set} 203.0.113.0/24"));
        assert_eq!(host.fingerprint(), count, "the number of members has not changed");
        assert_ne!(host.content_fingerprints(), contents);
        assert!(!host.sets_hold(Family::V4, &["192.0.2.1"]), "a short set is read whole");
        let plan = host.apply();
        assert!(plan.transaction().contains(&format!("del {set} 203.0.113.0/24\nadd {set} 11.0.0.0/24\n")), "{}", plan.transaction());
        assert_eq!(host.content_fingerprints(), contents);
    }

    fn an_exception_inside_of_a_set_is_repaired(host: IptablesGateway) {
        host.exempt(200);
        host.apply();
        let set = host.sets().remove(0);
        host.ipset(&format!("del {set} 11.0.0.0/24"));
        host.ipset(&format!("add {set} 11.0.0.0/24 nomatch"));
        assert!(!host.plan(Family::V4).is_in_sync());
        host.apply();
        assert!(!host.ipset(&format!("list {set}")).contains("nomatch"));
    }

    fn ten_thousand_prefixes_and_a_change_of_one(host: IptablesGateway) {
        host.exempt(10_000);
        host.apply();
        host.exempt(10_001);
        host.apply();
        assert_eq!(host.ipset("list -t").matches("Number of entries: 10001").count(), 1);
    }

    fn more_members_than_the_kernels_default_fit(host: IptablesGateway) {
        host.exempt(70_000);
        host.apply();
        assert!(host.ipset("list -t").contains("maxelem 70000"));
    }

    fn what_a_crash_left_half_way_is_used_or_cleared_away(host: IptablesGateway) {
        host.exempt(100);
        host.apply();
        host.exempt(150);
        let plan = host.plan(Family::V4);
        let fill: String = plan.transaction().lines().filter(|line| line.starts_with("create") || line.starts_with("add")).take(50).map(|line| line.to_owned() + "\n").collect();
        let output = host.namespace.run_with_input("ipset", &["restore"], &fill);
        assert!(output.status.success());
        host.restart("IP-MASQ-AGENT");
        host.apply();
        assert_eq!(host.sets().len(), 1);
        host.exempt(151);
        let plan = host.plan(Family::V4);
        let fill: String = plan.transaction().lines().filter(|line| line.starts_with("create")).map(|line| line.to_owned() + "\n").collect();
        assert!(host.namespace.run_with_input("ipset", &["restore"], &fill).status.success());
        host.restart("IP-MASQ-AGENT");
        host.exempt(150);
        assert_eq!(host.sets().len(), 2);
        host.apply();
        assert_eq!(host.sets().len(), 1);
    }

    fn a_set_that_somebody_elses_rule_needs_is_left_to_them(host: IptablesGateway) {
        host.exempt(100);
        host.apply();
        let set = host.sets().remove(0);
        host.iptables(&format!("-A OUTPUT -m set --match-set {set} dst -j ACCEPT"));
        host.exempt(101);
        host.apply();
        assert!(host.sets().contains(&set));
        let notes = host.backend.notes(Family::V4);
        assert_eq!(notes, [format!("set '{set}' stays: rules that are not ours refer to it")]);
    }

    fn a_set_of_another_type_under_our_name_is_stepped_around(host: IptablesGateway) {
        host.exempt(100);
        let plan = host.plan(Family::V4);
        let script = plan.transaction();
        let name = script.lines().find_map(|line| line.strip_prefix("create ")?.split(' ').next()).unwrap();
        host.ipset(&format!("create {name} hash:ip"));
        host.apply();
        assert!(host.sets().iter().all(|set| set != name), "an unused set under our kind of name goes");
    }

    fn an_ipset_that_fails_is_a_failure_that_passes_and_leaves_the_rules_as_they_were(host: IptablesGateway) {
        host.exempt(5_000);
        host.apply();
        let before = (host.save(Family::V4), host.ipset("save"));
        host.exempt(5_001);
        for script in ["exit 1", "kill -9 $$", "echo 'ipset v7.17: Cannot open session to kernel.' >&2; exit 1"] {
            host.namespace.replace("ipset", script);
            let plan = host.plan(Family::V4);
            let error = host.commit(plan).expect_err(script);
            assert!(error.message.contains("ipset"), "{script}: {error}");
            host.namespace.give_back("ipset");
            assert!((host.save(Family::V4), host.ipset("save")) == before, "{script}: rules or sets have changed");
        }
        host.apply();
        assert_eq!(host.sets().len(), 1);
    }

    fn the_first_rules_do_not_become_linear_because_ipset_fails_once(host: IptablesGateway) {
        host.exempt(5_000);
        host.namespace.replace("ipset", "exit 1");
        let plan = host.plan(Family::V4);
        let error = host.commit(plan).unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(!host.save(Family::V4).contains("IP-MASQ-AGENT"));
        host.namespace.give_back("ipset");
        host.apply();
        assert!(host.save(Family::V4).contains("--match-set"));
    }

    fn sets_that_are_right_stay_in_use_without_the_program(host: IptablesGateway) {
        host.exempt(200);
        host.apply();
        let set = host.sets().remove(0);
        host.namespace.hide("ipset");
        host.restart("IP-MASQ-AGENT");
        assert!(host.plan(Family::V4).is_in_sync());
        host.iptables("-F IP-MASQ-AGENT");
        host.apply();
        assert!(host.save(Family::V4).contains(&format!("--match-set {set} dst")));
        // What the program would be needed for is said, and the rules go all the same.
        let backend = &mut host.backend;
        let (plan, notes) = host.namespace.enter(|| {
            let plan = backend.plan(Family::V4, None).unwrap();
            backend.commit(plan).unwrap();
            (backend.plan(Family::V4, None).unwrap(), backend.notes(Family::V4))
        });
        assert!(plan.is_in_sync() && !host.save(Family::V4).contains("IP-MASQ-AGENT"), "{}", plan.transaction());
        assert!(notes.len() == 1 && notes[0].contains(&set) && notes[0].contains("'ipset'"), "{notes:?}");
        host.namespace.give_back("ipset");
        host.flush(Family::V4);
        assert!(host.sets().is_empty());
    }

    fn a_long_set_is_asked_for_the_destinations_in_question(host: IptablesGateway) {
        let ipv6 = (0..5000).map(|number| format!("2001:db8:{:x}::/48", 2 * number).parse().unwrap());
        host.policy.exempt = PrefixSet::from_prefixes(networks(5000).into_iter().chain(ipv6), &Origin::Default);
        host.policy.enable_ipv6 = true;
        let changes = [
            (Family::V4, ["del 11.0.0.0/24", "add 203.0.113.0/24", "add 11.0.2.9/32 nomatch"]),
            (Family::V6, ["del 2001:db8::/48", "add 2001:db9::/32", "add 2001:db8:2::9/128 nomatch"]),
        ];
        let asked = [
            ["11.0.0.9", "203.0.113.9", "11.0.2.9", "11.0.4.9", "192.0.2.1"],
            ["2001:db8::9", "2001:db9::9", "2001:db8:2::9", "2001:db8:4::9", "2001:db8:1::9"],
        ];
        for family in Family::ALL {
            host.apply_to(family);
        }
        let sets = host.sets();
        for ((family, lines), asked) in changes.into_iter().zip(asked) {
            assert!(host.sets_hold(family, &asked), "{family}");
            let name = sets.iter().find(|set| set.starts_with(if family == Family::V4 { "ima4" } else { "ima6" }));
            for (action, rest) in lines.map(|line| line.split_once(' ').unwrap()) {
                host.ipset(&format!("{action} {} {rest}", name.unwrap()));
            }
            let is_right = asked.map(|destination| host.sets_hold(family, &[asked[4], destination]));
            assert_eq!(is_right, [false, false, false, true, true], "{family}");
        }
        assert!(host.sets_hold(Family::V6, &["11.0.0.9"]), "none of its family is asked for");
        for family in Family::ALL {
            host.apply_to(family);
        }
        assert!(host.sets_hold(Family::V4, &asked[0]) && host.sets_hold(Family::V6, &asked[1]));
    }

    fn when_ipset_comes_it_is_seen_and_the_rules_become_a_set(host: IptablesGateway) {
        host.namespace.hide("ipset");
        host.exempt(100);
        host.apply();
        let without = host.content_fingerprints();
        assert_eq!(host.content_fingerprints(), without);
        host.namespace.give_back("ipset");
        assert_ne!(host.content_fingerprints(), without);
        host.apply();
        assert!(host.sets().len() == 1 && host.backend.notes(Family::V4).is_empty(), "{:?}", host.backend.notes(Family::V4));
        assert!(host.save(Family::V4).lines().count() < 30);
    }

    fn without_ipset_long_lists_are_rules_and_it_is_said(host: IptablesGateway) {
        host.namespace.hide("ipset");
        host.exempt(100);
        host.apply();
        assert_eq!(host.save(Family::V4).matches("/24 ").count(), 100);
        let notes = host.backend.notes(Family::V4);
        assert!(notes.len() == 1 && notes[0].contains("no ipset on this host"), "{notes:?}");
    }
}
