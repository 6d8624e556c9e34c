//! A table with our comment is ours, whatever another version or another program put into it; one without it is not.

use super::stream::{Kind, Street};
use super::{apply, apply_policy, backend, default_policy, full_policy, listing, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink};

/// What others may have put into our table, and how it is named when it goes; `…` stands for any words. IPv4 is what the
/// default policy has.
const STRANGERS: [(&str, &str); 13] = [
    ("add chain inet T extra", "chain 'extra' is not of this version"),
    ("add chain inet T extra { type filter hook forward priority 7; }", "chain 'extra' is not of this version"),
    (
        "add chain inet T one\nadd chain inet T two\nadd rule inet T one jump two\nadd rule inet T ipv4 jump one",
        "chain 'ipv4' holds a rule that is not ip-masq-agent's: 'jump one'",
    ),
    ("add chain inet T ipv6 { type nat hook postrouting priority 1; }", "chain 'ipv6' is not of this version"),
    ("add set inet T around4 { type ipv4_addr; elements = { 192.0.2.1 }; }", "set 'around4' is not of this version"),
    ("add set inet T exempt6 { type ipv6_addr; }", "set 'exempt6' is not of this version"),
    (
        "add chain inet T to\nadd map inet T ways { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump to }; }\n\
         insert rule inet T postrouting ip saddr vmap @ways",
        "map 'ways' is not of this version",
    ),
    (
        "add counter inet T seen\ninsert rule inet T ipv4 counter name seen comment \"mine\"",
        "counter 'seen' is not of this version",
    ),
    ("add quota inet T much { over 10 mbytes }", "quota 'much' is not of this version"),
    ("add rule inet T ipv4 accept", "chain 'ipv4' holds a rule that is not ip-masq-agent's: 'accept'"),
    (
        "add rule inet T ipv4 counter return comment \"mine\"",
        "chain 'ipv4' holds a rule that is not ip-masq-agent's: 'counter return comment \"mine\"'",
    ),
    (
        "insert rule inet T ipv4 tcp dport { 22, 80 } counter accept comment \"keep source: ports\"",
        "chain 'ipv4' holds a rule that is not ip-masq-agent's: … accept comment \"keep source: ports\"'",
    ),
    (
        "add set inet T around4 { type ipv4_addr; }\ninsert rule inet T ipv4 ip daddr @around4 return",
        "chain 'ipv4' holds a rule that is not ip-masq-agent's: … @around4 return'",
    ),
];

fn in_our_table(script: &str) -> String {
    format!("{}\n", script.replace(" inet T ", " inet ip-masq-agent "))
}

#[test]
fn what_is_unknown_in_our_table_goes_and_is_named() {
    namespace::enter!();
    let desired = ruleset(&default_policy(), Family::V4);
    let mut first = backend();
    apply(&mut first, Family::V4, desired.as_ref());
    let whole = listing();
    for (script, word) in STRANGERS {
        nft(&in_our_table(script));
        assert_ne!(listing(), whole, "{script}");
        let plan = apply(&mut first, Family::V4, desired.as_ref());
        let (beginning, end) = word.split_once('…').unwrap_or((word, ""));
        let is_it = |said: &String| said.starts_with(beginning) && said.ends_with(end);
        assert!(plan.drift.iter().any(is_it), "{script}: {:?}", plan.drift);
        assert!(!plan.transaction().contains("transaction 2"), "{script}: {}", plan.transaction());
        assert_eq!(listing(), whole, "{script}");
    }
}

#[test]
fn nothing_of_it_is_left_behind() {
    namespace::enter!();
    for (script, _) in STRANGERS {
        apply(&mut backend(), Family::V4, ruleset(&default_policy(), Family::V4).as_ref());
        nft(&in_our_table(script));
        for family in Family::ALL {
            apply(&mut backend(), family, None);
        }
        assert_eq!(listing(), "", "{script}");
    }
}

/// The kernel takes names that are no text; what can't be called by its name goes with the table.
#[test]
fn what_can_not_be_named_goes_with_the_table() {
    /// NFTA_CHAIN_TABLE and NFTA_CHAIN_NAME.
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    namespace::enter!();
    let desired = ruleset(&default_policy(), Family::V4);
    let mut agent = backend();
    apply(&mut agent, Family::V4, desired.as_ref());
    let whole = listing();
    let mut netlink = Nfnetlink::open().unwrap();
    let mut batch = Batch::new(netlink.generation().unwrap());
    batch.push(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, libc::NFPROTO_INET as u8, |writer| {
        writer.text(TABLE, "ip-masq-agent");
        writer.raw(NAME, b"\xff\xfe\n\0");
    });
    netlink.commit(batch).unwrap();
    let plan = apply(&mut agent, Family::V4, desired.as_ref());
    assert_eq!(plan.drift, ["chain '\u{fffd}\u{fffd}\u{fffd}' is not as this version makes it"]);
    assert_eq!(listing(), whole);
}

/// An IPv6 part that another version wrote stays whole until its own plan replaces it, and so does all that it may
/// refer to.
#[test]
fn what_rules_of_the_other_family_may_refer_to_waits_for_the_plan_of_that_family() {
    namespace::enter!();
    let policy = full_policy();
    let mut agent = backend();
    apply_policy(&mut agent, &policy);
    let whole = listing();
    nft(&in_our_table(
        "add set inet T near6 { type ipv6_addr; }\nadd chain inet T egress6\n\
         insert rule inet T ipv6-2 ip6 daddr @near6 counter goto egress6 comment \"masquerade: near\"",
    ));
    nft(&in_our_table("add rule inet T ipv4 accept"));
    let plan = apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref());
    assert_eq!(plan.drift, ["chain 'ipv4' holds a rule that is not ip-masq-agent's: 'accept'"]);
    assert!(listing().contains("@near6 counter"), "{}", listing());
    let plan = apply(&mut agent, Family::V6, ruleset(&policy, Family::V6).as_ref());
    assert_eq!(plan.drift.len(), 3, "{:?}", plan.drift);
    assert_eq!(listing(), whole);
}

#[test]
fn a_chain_of_our_name_in_another_place_is_replaced_while_flows_pass() {
    namespace::enter!();
    let street = Street::new();
    let policy = default_policy();
    let mut agent = backend();
    apply_policy(&mut agent, &policy);
    let whole = listing();
    let flows = street.under_flows(|| {
        // Another version whose chain of that name stands elsewhere.
        nft(&in_our_table(
            "add chain inet T masquerading { type nat hook postrouting priority 150; }\n\
             add rule inet T masquerading ip daddr 11.200.0.0/16 masquerade\n\
             flush chain inet T postrouting\ndelete chain inet T postrouting\n\
             add chain inet T postrouting { type filter hook postrouting priority 1; }",
        ));
        let plan = apply(&mut agent, Family::V4, ruleset(&policy, Family::V4).as_ref());
        assert!(
            plan.drift.contains(&"chain 'postrouting' is not as this version makes it".to_owned()),
            "{:?}",
            plan.drift
        );
    });
    assert_eq!(flows.kept_again(), 0);
    assert!(flows.lasting_is_masqueraded(Kind::Other));
    assert_eq!(listing(), whole);
}

#[test]
fn a_table_of_our_name_without_our_comment_is_refused_unless_it_is_empty() {
    namespace::enter!();
    let desired = ruleset(&default_policy(), Family::V4);
    for comment in ["", "comment \"mine\";"] {
        let foreign = format!("add table inet ip-masq-agent {{ {comment} }}\n");
        for object in ["chain 'own'", "set 'own'", "counter 'own'"] {
            let (kind, _) = object.split_once(' ').unwrap();
            let body = if kind == "set" { "{ type ipv4_addr; }" } else { "" };
            nft(&format!("{foreign}add {kind} inet ip-masq-agent own {body}\n"));
            let before = listing();
            for desired in [desired.as_ref(), None] {
                let error = backend().plan(Family::V4, desired).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Foreign, "{error}");
                assert!(error.message.contains(&format!("and holds {object}")), "{error}");
            }
            assert_eq!(listing(), before);
            nft("flush ruleset\n");
        }
        nft(&foreign);
        let before = listing();
        assert!(backend().plan(Family::V4, None).unwrap().is_in_sync(), "nothing of ours to remove");
        assert_eq!(listing(), before);
        apply(&mut backend(), Family::V4, desired.as_ref());
        assert!(listing().contains("managed by ip-masq-agent"), "{}", listing());
        nft("flush ruleset\n");
    }
}
