//! What is in the table of the fast path, as text and as messages.

use crate::backend::nftables::rules::table::{FORMAT, TABLE_COMMENT};
use crate::backend::nftables::wire::batch::INET;
use crate::backend::nftables::wire::batch::attribute::*;
use crate::backend::nftables::wire::expression::{Comparison, Expression};
use crate::backend::nftables::wire::userdata;
use crate::sys::nfnetlink::Batch;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The name of the table, in the inet family.
pub const TABLE: &str = "ip-masq-agent-fastpath";
pub const FLOWTABLE: &str = "fastpath";
/// The base chain at the forward hook.
const FORWARD: &str = "forward";
/// Behind the chains of firewalls: what they drop does not come here.
const PRIORITY: i32 = 300;
/// NF_INET_FORWARD.
const FORWARD_HOOK: u32 = 2;

/// NFT_MSG_NEWFLOWTABLE, Linux 4.16; not in libc, as what follows.
const NEWFLOWTABLE: i32 = 22;
/// `enum nft_flowtable_attributes` and `enum nft_flowtable_hook_attributes`.
pub const FLOWTABLE_HOOK: u16 = 3;
pub const FLOWTABLE_FLAGS: u16 = 7;
const HOOK_NUM: u16 = 1;
const HOOK_LEVEL: u16 = 2;
pub const HOOK_DEVICES: u16 = 3;
const DEVICE_NAME: u16 = 1;
/// NFT_FLOWTABLE_COUNTER, Linux 5.7: connection tracking counts what the flowtable carries, where it counts at all.
pub const COUNTER: u32 = 2;
/// NF_CT_STATE_BIT(IP_CT_ESTABLISHED).
const ESTABLISHED: u32 = 1 << 1;
/// NFT_RT_XFRM, Linux 4.20.
const RT_IPSEC: u32 = 4;
/// NFT_META_SECPATH, Linux 4.15.
const META_IPSEC: u32 = 25;

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastPathChain {
    pub name: String,
    /// The hook, the priority and the policy of a base chain.
    pub hook: Option<(u32, i32, u32)>,
    pub rules: Vec<Vec<Expression>>,
}

/// What the table holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Of the flowtable; `None` where there is none, or not one as ours.
    pub devices: Option<BTreeSet<String>>,
    /// By name.
    pub chains: Vec<FastPathChain>,
}

/// A rule, and how nft writes it.
struct Rule(String, Vec<Expression>);

impl Contents {
    /// Those for flows between interfaces of these names, of which the flowtable has those that exist.
    pub fn wanted(names: &BTreeSet<String>, devices: BTreeSet<String>) -> Self {
        let chain = |(name, rules): (&str, Vec<Rule>)| FastPathChain {
            name: name.to_owned(),
            hook: (name == FORWARD).then_some((FORWARD_HOOK, PRIORITY, libc::NF_ACCEPT as u32)),
            rules: rules.into_iter().map(|Rule(_, expressions)| expressions).collect(),
        };
        let mut chains: Vec<FastPathChain> = chains(names).map(chain).into();
        chains.sort_by(|one, other| one.name.cmp(&other.name));
        Contents { devices: Some(devices), chains }
    }

    /// What differs from what is wanted, in words. An interface that went away leaves the flowtable by itself, or stays in
    /// it by name (Linux 6.16): both are right.
    pub fn differences(&self, wanted: &Contents, names: &BTreeSet<String>) -> Vec<String> {
        let mut words = Vec::new();
        match (&self.devices, &wanted.devices) {
            (Some(there), Some(present)) => {
                let lacking = present.difference(there).map(|name| format!("flowtable {FLOWTABLE} lacks {name}"));
                words.extend(lacking);
                let surplus = there.difference(names).map(|name| format!("flowtable {FLOWTABLE} has {name}"));
                words.extend(surplus);
            }
            _ => words.push(format!("flowtable {FLOWTABLE} is missing")),
        }
        if self.chains != wanted.chains {
            words.push(format!("the rules of table inet {TABLE} differ"));
        }
        words
    }
}

/// The chains in the order in which they can be made. Each rule leads only to chains before its own.
fn chains(names: &BTreeSet<String>) -> [(&'static str, Vec<Rule>); 4] {
    use Expression::{Compare, Connection, FlowAdd, Mask, Meta, Route, Verdict};
    let is = |value: Vec<u8>| Compare(Comparison::Equal, value);
    let goto = |chain: &str| Verdict(libc::NFT_GOTO, Some(chain.to_owned()));
    let back = || Verdict(libc::NFT_RETURN, None);
    let incoming = || Meta(libc::NFT_META_IIFNAME as u32);
    let outgoing = || Meta(libc::NFT_META_OIFNAME as u32);
    let offload = |protocol: libc::c_int, word: &str| {
        let expressions =
            vec![Meta(libc::NFT_META_L4PROTO as u32), is(vec![protocol as u8]), FlowAdd(FLOWTABLE.into())];
        Rule(format!("meta l4proto {word} flow add @{FLOWTABLE}"), expressions)
    };
    // What IPsec encrypts has to be looked up in its policies, and what it decrypted came in under one of them.
    let offloads = vec![
        Rule("rt ipsec exists return".into(), vec![Route(RT_IPSEC), is(vec![1]), back()]),
        Rule("meta ipsec exists return".into(), vec![Meta(META_IPSEC), is(vec![1]), back()]),
        offload(libc::IPPROTO_TCP, "tcp"),
        offload(libc::IPPROTO_UDP, "udp"),
    ];
    let leaves = names.iter().map(|name| {
        Rule(format!("oifname \"{name}\" goto offloads"), vec![outgoing(), is(padded(name)), goto("offloads")])
    });
    // A frame that a bridge forwards has the bridge on both sides: it is not routed, and must not become so.
    let enters = names.iter().map(|name| {
        let other = Compare(Comparison::NotEqual, padded(name));
        let expressions = vec![incoming(), is(padded(name)), outgoing(), other, goto("leaves")];
        Rule(format!("iifname \"{name}\" oifname != \"{name}\" goto leaves"), expressions)
    });
    let state = vec![
        Connection(libc::NFT_CT_STATE as u32),
        Mask(ESTABLISHED.to_ne_bytes().to_vec()),
        Compare(Comparison::NotEqual, vec![0; 4]),
        goto("enters"),
    ];
    [
        ("offloads", offloads),
        ("leaves", leaves.collect()),
        ("enters", enters.collect()),
        (FORWARD, vec![Rule("ct state established goto enters".into(), state)]),
    ]
}

/// The name of an interface as rules compare it.
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}

/// The table as nft writes it.
pub fn text(names: &BTreeSet<String>, devices: &BTreeSet<String>) -> String {
    let devices: Vec<String> = devices.iter().map(|name| format!("\"{name}\"")).collect();
    let mut text = format!(
        "table inet {TABLE} {{\n\tcomment \"{TABLE_COMMENT}\"\n\n\tflowtable {FLOWTABLE} {{\n\t\thook ingress priority 0\n\
         \t\tdevices = {{ {} }}\n\t\tcounter\n\t}}\n",
        devices.join(", ")
    );
    for (name, rules) in chains(names) {
        // Writing into a String can't fail.
        let _ = write!(text, "\n\tchain {name} {{\n");
        if name == FORWARD {
            let _ = writeln!(text, "\t\ttype filter hook forward priority {PRIORITY}; policy accept;");
        }
        for Rule(rule, _) in rules {
            let _ = writeln!(text, "\t\t{rule}");
        }
        text.push_str("\t}\n");
    }
    text + "}\n"
}

/// Where in a batch the messages are that need more of the kernel than nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub flowtable: usize,
}

/// Writes what makes the table anew, in the place of an old one.
pub fn write(names: &BTreeSet<String>, devices: &BTreeSet<String>, replaces: bool, batch: &mut Batch) -> Needs {
    let create = libc::NLM_F_CREATE;
    // NFTA_*_TABLE has the same number for each kind of object.
    if replaces {
        remove(batch);
    }
    batch.push(libc::NFT_MSG_NEWTABLE, create | libc::NLM_F_EXCL, INET, |writer| {
        writer.text(TABLE_NAME, TABLE);
        writer.raw(TABLE_USERDATA, &userdata::table(TABLE_COMMENT, FORMAT));
    });
    let flowtable = batch.push(NEWFLOWTABLE, create, INET, |writer| {
        writer.text(TABLE_NAME, TABLE);
        writer.text(FLOWTABLE_NAME, FLOWTABLE);
        writer.nest(FLOWTABLE_HOOK, |writer| {
            writer.be32(HOOK_NUM, 0);
            writer.be32(HOOK_LEVEL, 0);
            writer.nest(HOOK_DEVICES, |writer| devices.iter().for_each(|name| writer.text(DEVICE_NAME, name)));
        });
        writer.be32(FLOWTABLE_FLAGS, COUNTER);
    });
    let chains = chains(names);
    for (name, _) in &chains {
        batch.push(libc::NFT_MSG_NEWCHAIN, create, INET, |writer| {
            writer.text(CHAIN_TABLE, TABLE);
            writer.text(CHAIN_NAME, name);
            if *name == FORWARD {
                writer.text(CHAIN_TYPE, "filter");
                writer.nest(CHAIN_HOOK, |writer| {
                    writer.be32(HOOK_NUMBER, FORWARD_HOOK);
                    writer.be32(HOOK_PRIORITY, PRIORITY as u32);
                });
                writer.be32(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            }
        });
    }
    for (name, Rule(_, expressions)) in
        chains.iter().flat_map(|(name, rules)| rules.iter().map(move |rule| (name, rule)))
    {
        batch.push(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, INET, |writer| {
            writer.text(RULE_TABLE, TABLE);
            writer.text(RULE_CHAIN, name);
            writer.nest(RULE_EXPRESSIONS, |writer| expressions.iter().for_each(|one| one.write(writer)));
        });
    }
    Needs { flowtable }
}

/// Writes what removes the table.
pub fn remove(batch: &mut Batch) {
    batch.push(libc::NFT_MSG_DELTABLE, 0, INET, |writer| writer.text(TABLE_NAME, TABLE));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_interface_that_went_may_leave_the_flowtable_and_one_that_came_must_be_in_it() {
        let names = set(&["lan0", "wan0"]);
        let there = |devices: &[&str]| Contents::wanted(&names, set(devices));
        let differences = |held: &[&str], present: &[&str]| there(held).differences(&there(present), &names);
        assert_eq!(differences(&["lan0", "wan0"], &["lan0", "wan0"]), [""; 0]);
        assert_eq!(differences(&["lan0", "wan0"], &["lan0"]), [""; 0]);
        assert_eq!(differences(&["lan0"], &["lan0", "wan0"]), ["flowtable fastpath lacks wan0"]);
        assert_eq!(differences(&["lan0", "wan9"], &["lan0"]), ["flowtable fastpath has wan9"]);
        assert_eq!(Contents::default().differences(&there(&[]), &names).len(), 2);
    }

    #[test]
    fn rules_name_each_interface_on_either_side() {
        let text = text(&set(&["lan0", "wan0"]), &set(&["lan0"]));
        for line in [
            "devices = { \"lan0\" }",
            "type filter hook forward priority 300; policy accept;",
            "ct state established goto enters",
            "iifname \"lan0\" oifname != \"lan0\" goto leaves",
            "oifname \"wan0\" goto offloads",
            "rt ipsec exists return",
            "meta l4proto udp flow add @fastpath",
        ] {
            assert!(text.lines().any(|there| there.trim() == line), "{line}: {text}");
        }
    }
}
