//! The rule in front of a long list: it changes no verdict, and stays behind no change of the list.

use super::{apply, backend, facts, listing};
use crate::interpreter::nftables::Table;
use crate::namespace::{self, nft, run};
use crate::random;
use ip_masq_agent::policy::{Family, Flow, Origin, Policy, Prefix, PrefixSet};
use ip_masq_agent::ruleset::{HostFacts, JumpPosition, Ruleset};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use std::net::IpAddr;

/// A list with so many more networks, in eleven /16s or /32s around the addresses that flows go to.
fn longer(list: &PrefixSet, family: Family, count: u16) -> PrefixSet {
    let network = |number: u16| {
        let (block, [high, low]) = (number % 11, (number / 11 * 2).to_be_bytes());
        match family {
            Family::V4 => Prefix::containing(IpAddr::from([10, block as u8, low, high]), 24),
            Family::V6 => Prefix::containing(IpAddr::from([0x2001, block, 0x7000 + number, 0, 0, 0, 0, 0]), 64),
        }
    };
    let more = (0..count).filter_map(network);
    PrefixSet::from_prefixes(list.sorted(family).into_iter().chain(more), &Origin::Default)
}

fn read() -> Table {
    Table::read(&run("nft", &["-j", "list", "table", "inet", "ip-masq-agent"], "")).unwrap()
}

/// The rule that asks for blocks is taken out.
fn without_blocks(chain: &str) {
    let rules = run("nft", &["-a", "list", "chain", "inet", "ip-masq-agent", chain], "");
    let line = rules.lines().find(|line| line.contains("no exemption is near")).unwrap();
    let handle = line.rsplit(' ').next().unwrap();
    nft(&format!("delete rule inet ip-masq-agent {chain} handle {handle}\n"));
}

#[test]
fn what_is_far_from_every_range_gets_the_verdict_that_the_ranges_would_give_it() {
    namespace::enter!();
    let (seed, mut runner) = random::runner();
    let host = HostFacts { network: random::facts().network, ..facts() };
    for number in 0..24_u16 {
        let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
        let policy = random::policy(family).new_tree(&mut runner).unwrap().current();
        let exempt = longer(&policy.exempt, family, 1500 + 11 * number);
        let mut policy = Policy { exempt, ..policy };
        // Several ranges of ports are chosen from by chance.
        let of_entries = policy.egress.iter_mut().filter_map(|entry| entry.to_ports.as_mut());
        let all = policy.to_ports.iter_mut().chain(of_entries);
        all.for_each(|ports| *ports = "1024-2047".parse().unwrap());
        let mut flows: Vec<Flow> = vec(random::flow(family), 200).new_tree(&mut runner).unwrap().current();
        // A frame of the host's own is not one that it bridges.
        flows.iter_mut().for_each(|flow| flow.bridged &= !flow.source_is_local && facts().bridged(family));
        let mut agent = backend();
        apply(&mut agent, family, Ruleset::new(&policy, family, JumpPosition::Last, &host).as_ref());
        let check = || {
            let wrong = || {
                let table = read();
                flows.iter().find(|flow| table.verdict(flow) != Ok(policy.verdict(flow).0)).cloned()
            };
            // On a busy machine a listing of nft lacked members of a set that the next one had, with the same rules.
            if let Some(flow) = wrong() {
                eprintln!("SEED={seed} {number}: the first listing says otherwise for {flow:?}");
                let (verdict, by) = policy.verdict(&flow);
                assert_eq!(wrong(), None, "SEED={seed} {number}: {verdict:?} by {by:?}\n{}", listing());
            }
        };
        check();
        let rules = listing();
        let chains = rules.split("\tchain ").filter(|chain| chain.contains("no exemption is near"));
        let chains: Vec<_> = chains.filter_map(|chain| chain.split_whitespace().next()).collect();
        chains.into_iter().for_each(without_blocks);
        check();
        apply(&mut agent, family, None);
    }
}
