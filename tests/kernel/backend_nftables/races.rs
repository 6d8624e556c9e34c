//! Other programs commit to their own tables, or to ours, while we write.

use super::gaps::list;
use super::stream::Ends;
use super::{apply, backend, default_policy, listing, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::ruleset::Ruleset;
use ip_masq_agent::sys::nfnetlink::message::Writer;
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink, Request};
use rustix::event::{Timespec, poll};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// NFTA_TABLE_NAME, NFTA_SET_TABLE, NFTA_CHAIN_TABLE.
const TABLE: u16 = 1;
const INET: u8 = libc::NFPROTO_INET as u8;

/// Does `work` while another program makes and deletes a table of its own, about 2,000 commits a second, for half a
/// minute at most: on a machine that is busy with other things too it may always be the faster one.
fn under_commits<T>(work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let noise = scope.spawn(|| {
            let mut netlink = Nfnetlink::open().unwrap();
            let mut commits = 0;
            let end = Instant::now() + Duration::from_secs(30);
            while !done.load(Ordering::Relaxed) && Instant::now() < end {
                let message = if commits % 2 == 0 { libc::NFT_MSG_NEWTABLE } else { libc::NFT_MSG_DELTABLE };
                let mut batch = Batch::new(netlink.generation().unwrap());
                batch.push(message, libc::NLM_F_CREATE, INET, |writer: &mut Writer| writer.text(TABLE, "noise"));
                // Late where we were faster.
                commits += u32::from(netlink.commit(batch).is_ok());
                poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 400_000 })).unwrap();
            }
            commits
        });
        let end = Ends(&done);
        let result = work();
        drop(end);
        assert!(noise.join().unwrap() > 10, "nobody committed meanwhile");
        result
    })
}

/// As the service does: where nothing but others' commits is in the way, again, and at last it is done.
fn insist(agent: &mut Nftables, family: Family, desired: Option<&Ruleset>) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let done = agent.plan(family, desired).and_then(|plan| agent.commit(plan));
        let done = done.and_then(|()| Ok(agent.plan(family, desired)?.is_in_sync()));
        match done {
            Ok(in_sync) => return assert!(in_sync),
            Err(error) => assert!(error.kind == ErrorKind::Busy && Instant::now() < end, "{error}"),
        }
    }
}

#[test]
fn a_plan_is_sent_whatever_others_commit_to_their_own_tables() {
    namespace::enter!();
    let policies = [list(5000, 0x2000_0000), list(5001, 0x2000_0000), list(16_000, 0x4000_0000)];
    for _ in 0..4 {
        let mut agent = backend();
        under_commits(|| {
            for exempt in &policies {
                let desired = ruleset(&Policy { exempt: exempt.clone(), ..default_policy() }, Family::V4);
                insist(&mut agent, Family::V4, desired.as_ref());
            }
            for family in Family::ALL {
                insist(&mut agent, family, None);
            }
        });
        assert!(!listing().contains("ip-masq-agent"));
    }
}

/// Reading so many elements takes longer than others let pass between two commits.
#[test]
fn a_long_list_is_read_beside_a_program_that_commits_all_the_time() {
    namespace::enter!();
    let desired = ruleset(&Policy { exempt: list(60_000, 0x2000_0000), ..default_policy() }, Family::V4);
    apply(&mut backend(), Family::V4, desired.as_ref());
    under_commits(|| {
        let plan = backend().plan(Family::V4, desired.as_ref()).unwrap();
        assert!(plan.is_in_sync(), "{:?}", plan.drift);
    });
}

#[test]
fn a_table_that_others_change_half_way_keeps_its_rules_and_loses_what_was_made() {
    namespace::enter!();
    let policy = |far_away| Policy { exempt: list(60_000, far_away), ..default_policy() };
    let (before, after) = (ruleset(&policy(0x2000_0000), Family::V4), ruleset(&policy(0x4000_0000), Family::V4));
    let mut agent = backend();
    apply(&mut agent, Family::V4, before.as_ref());
    let rules = || namespace::run("nft", &["--terse", "list", "table", "inet", "ip-masq-agent"], "");
    let whole = rules();
    let plan = agent.plan(Family::V4, after.as_ref()).unwrap();
    let error = thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            let mut netlink = Nfnetlink::open().unwrap();
            let end = Instant::now() + Duration::from_secs(30);
            while !has_set(&mut netlink, "exempt4-2") {
                assert!(Instant::now() < end, "no second set");
            }
            nft("add chain inet ip-masq-agent extra\n");
        });
        let error = agent.commit(plan).unwrap_err();
        stranger.join().unwrap();
        error
    });
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    assert!(error.message.ends_with("nothing was changed"), "{error}");
    nft("delete chain inet ip-masq-agent extra\n");
    assert_eq!(rules(), whole);
    apply(&mut agent, Family::V4, after.as_ref());
    assert!(rules().contains("ip daddr @exempt4-2 "), "{}", rules());
    apply(&mut agent, Family::V4, before.as_ref());
    let unnamed = |rules: String| {
        let rules = rules.replace(|one: char| one.is_ascii_digit(), "");
        let mut lines: Vec<_> = rules.lines().map(str::to_owned).collect();
        // The kernel lists sets in the order of their making.
        lines.sort();
        lines
    };
    assert_eq!(unnamed(rules()), unnamed(whole));
}

fn has_set(netlink: &mut Nfnetlink, name: &str) -> bool {
    /// NFTA_SET_NAME.
    const NAME: u16 = 2;
    let request = Request { message: libc::NFT_MSG_GETSET, family: INET };
    let mut found = false;
    let body = |writer: &mut Writer| {
        writer.text(TABLE, "ip-masq-agent");
        writer.text(NAME, name);
    };
    let answer = netlink.get(request, body, |_| {
        found = true;
        Ok(())
    });
    answer.is_ok() && found
}

#[test]
fn a_leftover_of_a_crash_half_way_is_removed_by_the_next_plan() {
    namespace::enter!();
    let desired = ruleset(&default_policy(), Family::V4);
    let set = |name| {
        format!(
            "add set inet ip-masq-agent {name} {{ type ipv4_addr; flags interval; comment \"nonMasqueradeCIDRs\"; }}\n"
        )
    };
    let leftovers = [
        // A start, before and after its set was filled.
        "add table inet ip-masq-agent { comment \"managed by ip-masq-agent\"; }\n".to_owned(),
        format!("add table inet ip-masq-agent {{ comment \"managed by ip-masq-agent\"; }}\n{}", set("exempt4")),
        // A change of a list.
        format!("{}add element inet ip-masq-agent exempt4-2 {{ 10.0.0.0/8 }}\n", set("exempt4-2")),
        // The moment in which a start keeps connection tracking away.
        "add chain inet ip-masq-agent untracked-in { type filter hook prerouting priority -300; }\n\
         add rule inet ip-masq-agent untracked-in notrack\n"
            .to_owned(),
        // A change of the owner.
        "add table inet ip-masq-agent-standin { comment \"managed by ip-masq-agent\"; }\n".to_owned(),
    ];
    apply(&mut backend(), Family::V4, desired.as_ref());
    let whole = listing();
    for (number, leftover) in leftovers.iter().enumerate() {
        if number < 2 {
            nft("flush ruleset\n");
        }
        nft(leftover);
        apply(&mut backend(), Family::V4, desired.as_ref());
        assert_eq!(listing(), whole, "{leftover}");
    }
    nft(leftovers.last().unwrap());
    for family in Family::ALL {
        apply(&mut backend(), family, None);
    }
    assert_eq!(listing(), "");
}

#[test]
fn a_table_of_another_program_in_the_place_of_the_stand_in_is_left_alone() {
    namespace::enter!();
    let desired = ruleset(&default_policy(), Family::V4);
    apply(&mut backend(), Family::V4, desired.as_ref());
    nft("add table inet ip-masq-agent-standin\n");
    let before = listing();
    let mut owner = Nftables::new(ip_masq_agent::config::TableOwner::Persist).unwrap();
    let plan = owner.plan(Family::V4, desired.as_ref()).unwrap();
    let error = owner.commit(plan).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Foreign, "{error}");
    assert!(error.message.contains("another program has a table of that name; nothing was changed"), "{error}");
    assert_eq!(listing(), before);
}
