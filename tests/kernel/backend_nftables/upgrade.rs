//! From version to version: what a later one left is taken over while flows pass, and taken away.

use super::gaps::{assert_right, policy};
use super::stream::{Kind, Street};
use super::{apply, backend, listing, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::policy::{Family, Origin, Policy, PrefixSet};
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink};

/// What a later version may make of the same policy: chains of other hooks and names, maps, sets, a named counter, other
/// comments, and names of ours for what is built otherwise.
const LATER: &str = "table inet ip-masq-agent {
    comment \"managed by ip-masq-agent\"
    counter egress-1 { comment \"flows\" }
    set exempt4 { type ipv4_addr; flags interval; counter; elements = { EXEMPT } }
    set sources { type ipv4_addr; flags interval; elements = { 10.7.0.0/24 } }
    map forwards { type inet_service : ipv4_addr; elements = { 8080 : 10.7.0.2 } }
    map entries { type ipv4_addr : verdict; flags interval; elements = { 10.7.0.0/24 : goto egress-1 } }
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        dnat ip to tcp dport map @forwards comment \"forward-1/dnat\"
    }
    chain postrouting {
        comment \"where every entry begins\"
        type nat hook postrouting priority 150; policy accept;
        fib daddr type != local ip saddr vmap @entries comment \"egress\"
        meta nfproto ipv6 goto ipv6 comment \"go on: IPv6\"
    }
    chain egress-1 {
        ip daddr @exempt4 counter return comment \"egress-1/exempt\"
        ip saddr @sources counter name egress-1 masquerade fully-random comment \"egress-1/masquerade\"
    }
    chain ipv6 {
        meta mark 7 counter goto egress-6 comment \"egress-6/mark\"
    }
    chain egress-6 {
        counter masquerade comment \"egress-6/masquerade\"
    }
}
";

/// A table of that version, with the number beside its comment that says so, or as `nft -f` leaves it, without one.
fn put_later(policy: &Policy, format: Option<u32>) {
    if let Some(format) = format {
        /// NFTA_TABLE_NAME and NFTA_TABLE_USERDATA.
        const NAME: u16 = 1;
        const USERDATA: u16 = 6;
        let number = [&[128, 4][..], &format.to_be_bytes()].concat();
        let comment = b"managed by ip-masq-agent\0";
        let comment = [&[0, comment.len() as u8][..], comment].concat();
        let mut netlink = Nfnetlink::open().unwrap();
        let mut batch = Batch::new(netlink.generation().unwrap());
        batch.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, libc::NFPROTO_INET as u8, |writer| {
            writer.text(NAME, "ip-masq-agent");
            writer.raw(USERDATA, &[comment, number].concat());
        });
        netlink.commit(batch).unwrap();
    }
    let exempt: Vec<_> = policy.exempt.sorted(Family::V4).iter().map(ToString::to_string).collect();
    nft(&LATER.replace("EXEMPT", &exempt.join(", ")));
}

#[test]
fn the_table_of_a_later_version_is_taken_over_without_a_wrong_flow() {
    for format in [None, Some(2)] {
        namespace::enter!();
        let street = Street::new();
        let policy = Policy { enable_ipv6: true, ..policy(128) };
        for family in Family::ALL {
            apply(&mut backend(), family, ruleset(&policy, family).as_ref());
        }
        let ours = listing();
        nft("delete table inet ip-masq-agent\n");
        put_later(&policy, format);
        let mut told = Vec::new();
        let flows = street.under_flows(|| {
            let mut agent = backend();
            told.extend(apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref()).drift);
            assert!(listing().contains("goto egress-6"), "IPv6 is as it was: {}", listing());
            told.extend(apply(&mut agent, Family::V6, ruleset(&policy, Family::V6).as_ref()).drift);
            assert_eq!(apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref()).drift, [""; 0]);
        });
        assert_right(&flows);
        assert!(flows.lasting_is_masqueraded(Kind::Other));
        let left = listing();
        match format {
            // What nft put in bears no number: comments of the other version stay on what is right otherwise.
            None => assert!(!left.contains("egress") && !left.contains("24 counter"), "{left}"),
            Some(_) => assert_eq!(left.replace("exempt4-2", "exempt4"), ours),
        }
        let format = told.iter().any(|words| words == "table inet ip-masq-agent has format 2 of another version");
        let foreign = told.iter().any(|words| words.contains("not ip-masq-agent's"));
        assert_ne!(format, foreign, "rules of a version that says so are no other program's: {told:?}");
    }
}

#[test]
fn the_table_of_a_later_version_goes_whole() {
    namespace::enter!();
    for format in [None, Some(2)] {
        put_later(&policy(128), format);
        let mut agent = backend();
        let gone = apply(&mut agent, Family::V4, None).drift;
        assert!(gone.contains(&"chain 'egress-1'".to_owned()) || gone.contains(&"set exempt4".to_owned()), "{gone:?}");
        apply(&mut agent, Family::V6, None);
        assert_eq!(listing(), "");
    }
}

#[test]
fn a_set_of_another_shape_goes_with_the_plan_of_the_family_whose_rules_look_into_it() {
    namespace::enter!();
    let exempt = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
    let exempt = PrefixSet::from_prefixes(exempt, &Origin::Default);
    let policy = Policy { enable_ipv6: true, exempt, ..Policy::default() };
    let put = || Family::ALL.map(|family| apply(&mut backend(), family, ruleset(&policy, family).as_ref()));
    put();
    let ours = listing();
    let other = ours.replace("type ipv6_addr\n", "type ipv6_addr\ncounter\n");
    nft(&format!("delete table inet ip-masq-agent\n{other}"));
    put();
    assert_eq!(listing().replace("exempt6-2", "exempt6"), ours);
}
