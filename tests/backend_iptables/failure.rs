//! What goes wrong is named, and the old state stays whole.

use crate::gateway::{Gateway, both_variants};
use ip_masq_agent::backend::iptables::Iptables;
use ip_masq_agent::backend::iptables::tools::{Tools, Variant};
use ip_masq_agent::backend::{Backend, Error, ErrorKind};
use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::child::Children;
use rustix::fs::{FlockOperation, flock};

both_variants! {
    fn a_set_in_the_way_between_plan_and_commit_leaves_the_rules_as_they_were(host: Gateway) {
        host.exempt(100);
        host.apply();
        host.exempt(101);
        let plan = host.plan(Family::V4);
        // The set that the rules will ask for is of the other family when they come.
        let name = plan.transaction.lines().find_map(|line| line.strip_prefix("create ")?.split(' ').next()).unwrap();
        host.ipset(&format!("create {name} hash:net family inet6"));
        let rules = host.save(Family::V4);
        let error = host.commit(&plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert_eq!(host.save(Family::V4), rules);
        host.apply();
    }

    fn a_refused_transaction_leaves_rules_and_sets_byte_for_byte(host: Gateway) {
        host.exempt(100);
        host.apply();
        let before = (host.save(Family::V4), host.ipset("save"));
        host.exempt(101);
        let plan = host.plan(Family::V4);
        host.namespace.replace(&format!("iptables-{}-restore", infix(host.variant)), "cat >/dev/null\necho 'iptables-restore: line 3 failed' >&2\nexit 1");
        let error = host.commit(&plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains("line 3 failed, at '"), "{error}");
        assert_eq!((host.save(Family::V4), host.ipset("save")), before);
    }

    fn what_moved_between_plan_and_commit_is_named_and_worth_another_try(host: Gateway) {
        host.apply();
        host.restart("OTHER");
        let plan = host.plan(Family::V4);
        // The old jump, which the plan takes away, is gone before it.
        host.iptables("-F POSTROUTING");
        let moved = host.save(Family::V4);
        let error = host.commit(&plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert!(error.message.contains("at '-D POSTROUTING "), "{error}");
        assert_eq!(host.save(Family::V4), moved);
        host.apply();
    }

    fn somebody_who_flushes_all_the_time_is_survived(host: Gateway) {
        host.exempt(100);
        let program = format!("iptables-{}-restore", infix(host.variant));
        let script = format!("for i in $(seq 30); do printf '*nat\n-F\n-X\nCOMMIT\n' | {program} --noflush; done");
        let mut flusher = host.namespace.enter(|| std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap());
        while flusher.try_wait().unwrap().is_none() {
            let plan = host.plan(Family::V4);
            if let Err(error) = host.commit(&plan) {
                assert!(matches!(error.kind, ErrorKind::Busy | ErrorKind::Refused), "{error}");
            }
        }
        host.apply();
        assert_eq!(host.sets().len(), 1);
    }

    fn a_flush_among_others_at_work_fails_only_in_passing(host: Gateway) {
        let restore = format!("iptables-{}-restore --noflush", infix(host.variant));
        let tool = format!("iptables-{} -t nat", infix(host.variant));
        let script = format!(
            "for i in $(seq 60); do printf '*nat\n-F\n-X\nCOMMIT\n' | {restore}; {tool} -A OUTPUT -j IP-MASQ-AGENT; \
             {tool} -F OUTPUT; printf '*nat\n-F POSTROUTING\nCOMMIT\n' | {restore}; done 2>/dev/null"
        );
        let mut others = host.namespace.enter(|| std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap());
        while others.try_wait().unwrap().is_none() {
            let ruleset = host.ruleset(Family::V4);
            let backend = &mut host.backend;
            let flushed = host.namespace.enter(|| {
                let _ = backend.plan(Family::V4, ruleset.as_ref()).and_then(|plan| backend.commit(&plan));
                backend.plan(Family::V4, None).and_then(|plan| backend.commit(&plan))
            });
            assert!(flushed.as_ref().map_or_else(Error::is_transient, |()| true), "{flushed:?}");
        }
        host.apply();
        host.flush(Family::V4);
        assert!(!host.save(Family::V4).contains("IP-MASQ-AGENT"));
    }

    fn a_plan_is_committed_once(host: Gateway) {
        let plan = host.plan(Family::V4);
        host.commit(&plan).unwrap();
        assert_eq!(host.commit(&plan).unwrap_err().kind, ErrorKind::Other);
    }

    fn half_a_listing_is_an_error_that_passes_and_not_an_empty_table(host: Gateway) {
        host.apply();
        let before = host.save(Family::V4);
        let program = format!("iptables-{}-save", infix(host.variant));
        let whole_but_empty = "printf '*nat\\n:PREROUTING ACCEPT [0:0]\\n:POSTROUTING ACCEPT [0:0]\\nCOMMIT\\n'";
        let half = format!("/run/real/{program} \"$@\" | grep -v COMMIT");
        for script in ["exit 0", "echo '# Generated by nobody'", "head -c 3000 /dev/urandom", &half, whole_but_empty] {
            host.namespace.replace(&program, script);
            let error = host.try_plan(Family::V4).expect_err(script);
            assert!(error.is_transient() && error.message.contains(&program), "{script}: {error}");
            let backend = &mut host.backend;
            let error = host.namespace.enter(|| backend.plan(Family::V4, None)).expect_err(script);
            assert!(error.is_transient(), "{script}: {error}");
            if script != whole_but_empty {
                assert!(host.namespace.enter(|| backend.counters(Family::V4)).is_err(), "{script}");
            }
        }
        host.namespace.give_back(&program);
        assert_eq!(host.save(Family::V4), before);
        assert!(host.plan(Family::V4).is_in_sync());
    }

    fn a_program_that_dies_or_fails_without_a_word_is_tried_again(host: Gateway) {
        let program = format!("iptables-{}-restore", infix(host.variant));
        for script in ["kill -9 $$", "exit 1"] {
            let plan = host.plan(Family::V4);
            host.namespace.replace(&program, script);
            let error = host.commit(&plan).unwrap_err();
            assert!(error.is_transient() && error.message.contains(&program), "{script}: {error}");
        }
        host.namespace.give_back(&program);
        host.apply();
    }

    fn a_missing_program_is_named_and_no_reason_to_call_the_table_clean(host: Gateway) {
        let program = format!("iptables-{}-save", infix(host.variant));
        host.namespace.hide(&program);
        let backend = &mut host.backend;
        let (clean, notes) = host.namespace.enter(|| (backend.plan(Family::V4, None), backend.notes()));
        assert!(clean.unwrap().is_in_sync());
        if host.variant == Variant::Nft {
            assert!(notes[0].contains("is not known"), "{notes:?}");
        }
        host.namespace.give_back(&program);
        host.apply();
        host.namespace.hide(&program);
        let backend = &mut host.backend;
        let flush = host.namespace.enter(|| backend.plan(Family::V4, None)).unwrap_err();
        for error in [host.try_plan(Family::V4).unwrap_err(), flush] {
            assert_eq!(error.kind, ErrorKind::MissingTool, "{error}");
            assert!(error.message.contains(&program), "{error}");
        }
    }

    fn without_the_capability_the_error_says_so(host: Gateway) {
        let variant = host.variant;
        let ruleset = host.ruleset(Family::V4);
        let error: Error = host.namespace.enter(move || {
            drop_net_admin();
            let mut backend = Iptables::new(Children, Tools::probe(&mut Children, variant).unwrap(), "IP-MASQ-AGENT".parse().unwrap());
            backend.plan(Family::V4, ruleset.as_ref()).unwrap_err()
        });
        assert_eq!(error.kind, ErrorKind::Permission, "{error}");
        assert!(error.message.contains("Permission denied"), "{error}");
    }
}

/// Only the legacy variant has a lock.
#[test]
fn a_held_lock_is_busy() {
    crate::gateway::with(Variant::Legacy, |mut host| {
        let plan = host.plan(Family::V4);
        let lock = host.namespace.enter(|| std::fs::File::create("/run/xtables.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let before = host.save(Family::V4);
        let error = host.commit(&plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert!(error.is_transient());
        assert_eq!(host.save(Family::V4), before);
        drop(lock);
        host.apply();
    });
}

#[test]
fn a_lock_file_that_can_t_be_opened_is_named() {
    crate::gateway::with(Variant::Legacy, |mut host| {
        let plan = host.plan(Family::V4);
        host.namespace.must("mount", &["-t", "tmpfs", "-o", "ro", "tmpfs", "/run"]);
        let error = host.commit(&plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Permission, "{error}");
        assert!(error.message.contains("/run/xtables.lock"), "{error}");
    });
}

fn infix(variant: Variant) -> &'static str {
    match variant {
        Variant::Nft => "nft",
        Variant::Legacy => "legacy",
    }
}

/// Takes CAP_NET_ADMIN from the calling thread and the programs it will start.
fn drop_net_admin() {
    use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};
    remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::NET_ADMIN;
    sets.permitted -= CapabilitySet::NET_ADMIN;
    sets.inheritable -= CapabilitySet::NET_ADMIN;
    set_capabilities(None, sets).unwrap();
}
