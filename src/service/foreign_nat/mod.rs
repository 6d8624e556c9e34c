//! Who else has nat rules at the postrouting hook, before and after ours. Read only.
//!
//! The first mapping that a chain sets wins, and a chain's `accept` or `return` does not stop a later nat chain:
//! so a question why an address is, or is not, rewritten takes these rules too.

pub mod keepers;
mod legacy;
mod references;

use crate::backend::iptables::rules::render::JUMP_COMMENT;
use crate::backend::nftables::TABLE;
use crate::policy::Family;
use crate::sys::listing::{self, Chain, INET, Rule};
use crate::sys::nfnetlink::message::Message;
use crate::sys::nfnetlink::{Nfnetlink, Request, nfproto};
use references::Asked;
use std::io;

/// The table of iptables-nft.
const IPTABLES_TABLE: &str = "nat";
/// Foreign rules around ours, in the order in which the kernel asks them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignRules {
    /// True when rules of ours were found at the hook.
    pub ours_found: bool,
    /// Asked before ours.
    pub before: Vec<String>,
    /// Asked after ours; everything foreign when nothing of ours is there.
    pub after: Vec<String>,
}

/// Reads the nat chains at the postrouting hook of a family.
///
/// # Errors
/// When the kernel can't be asked.
pub fn read(netlink: &mut Nfnetlink, family: Family) -> io::Result<ForeignRules> {
    let mut chains = Vec::new();
    for protocol in [INET, nfproto(family)] {
        for chain in nat_chains(netlink, protocol)? {
            let rules = rules(netlink, &chain)?;
            chains.push((chain, rules));
        }
    }
    chains.extend(legacy::postrouting(family).map_err(io::Error::other)?);
    Ok(around_ours(chains))
}

/// True when the nat table of iptables-nft has a jump of ours, or a chain of this name.
///
/// # Errors
/// When the kernel can't be asked.
pub fn iptables_shows_ours(netlink: &mut Nfnetlink, family: Family, chain: &str) -> io::Result<bool> {
    let mut found = false;
    for one in chains(netlink, nfproto(family))?.into_iter().filter(|one| one.table == IPTABLES_TABLE) {
        let is_postrouting = one.nat_postrouting_priority.is_some();
        found |= one.name == chain || (is_postrouting && rules(netlink, &one)?.iter().any(is_our_jump));
    }
    Ok(found)
}

/// True when our own table has chains of the family.
///
/// # Errors
/// When the kernel can't be asked.
pub fn nftables_shows_ours(netlink: &mut Nfnetlink, family: Family) -> io::Result<bool> {
    let prefix = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let chains = chains(netlink, INET)?;
    Ok(chains.iter().any(|chain| is_our_table(chain.family, &chain.table) && chain.name.starts_with(prefix)))
}

fn nat_chains(netlink: &mut Nfnetlink, family: u8) -> io::Result<Vec<Chain>> {
    let mut chains = chains(netlink, family)?;
    chains.retain(|chain| chain.nat_postrouting_priority.is_some());
    Ok(chains)
}

fn chains(netlink: &mut Nfnetlink, family: u8) -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    let request = Request { message: libc::NFT_MSG_GETCHAIN, family };
    netlink.dump(
        request,
        |_| {},
        |message| {
            chains.push(listing::chain(message)?);
            Ok(())
        },
    )?;
    Ok(chains)
}

fn rules(netlink: &mut Nfnetlink, chain: &Chain) -> io::Result<Vec<Rule>> {
    // They are put into words afterwards: for that the kernel may have to be asked again.
    let mut messages = Vec::new();
    let request = Request { message: libc::NFT_MSG_GETRULE, family: chain.family };
    netlink.dump(
        request,
        |body| {
            body.text(1, &chain.table);
            body.text(2, &chain.name);
        },
        |message| {
            messages.push(message.payload.to_vec());
            Ok(())
        },
    )?;
    let mut references = Asked::new(netlink, chain);
    let read = |payload: &Vec<u8>| {
        let message = Message { kind: 0, flags: 0, sequence: 0, payload };
        listing::rule(&message, &mut references).map_err(io::Error::from)
    };
    messages.iter().map(read).collect()
}

/// Sorts foreign rules into those before and those after ours. Pure.
pub fn around_ours(mut chains: Vec<(Chain, Vec<Rule>)>) -> ForeignRules {
    chains.sort_by_key(|(chain, _)| chain.nat_postrouting_priority);
    let priority_of_ours = chains
        .iter()
        .find(|(chain, rules)| is_our_table(chain.family, &chain.table) || rules.iter().any(is_our_jump))
        .and_then(|(chain, _)| chain.nat_postrouting_priority);
    let mut found = ForeignRules::default();
    for (chain, rules) in &chains {
        if is_our_table(chain.family, &chain.table) {
            found.ours_found = true;
            continue;
        }
        let unordered = chain.nat_postrouting_priority == priority_of_ours && !rules.iter().any(is_our_jump);
        for rule in rules {
            if is_our_jump(rule) {
                found.ours_found = true;
                continue;
            }
            let text = line(chain, rule, unordered);
            let place =
                if found.ours_found || priority_of_ours.is_none() { &mut found.after } else { &mut found.before };
            place.push(text);
        }
    }
    found
}

fn is_our_table(family: u8, table: &str) -> bool {
    family == INET && table == TABLE
}

fn is_our_jump(rule: &Rule) -> bool {
    rule.comment.as_ref().is_some_and(|comment| comment.trim_start_matches('"').starts_with(JUMP_COMMENT))
}

/// A table's family as nft writes it.
fn family_name(family: u8) -> &'static str {
    match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_NETDEV => "netdev",
        libc::NFPROTO_BRIDGE => "bridge",
        _ => "…",
    }
}

fn line(chain: &Chain, rule: &Rule, unordered: bool) -> String {
    let family = family_name(chain.family);
    let priority = chain.nat_postrouting_priority.unwrap_or_default();
    let comment = rule.comment.as_ref().map(|comment| format!(" comment \"{comment}\"")).unwrap_or_default();
    let order = if unordered { " (same priority as ip-masq-agent's: which runs first is undefined)" } else { "" };
    let line = format!("{family} {} {} (priority {priority}): {}{comment}{order}", chain.table, chain.name, rule.text);
    // Names and comments are whatever another program made of them.
    line.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: u8, table: &str, name: &str, priority: i32) -> Chain {
        let (table, name) = (table.into(), name.into());
        Chain { family, table, name, is_nat: true, nat_postrouting_priority: Some(priority) }
    }

    fn rule(text: &str, comment: Option<&str>) -> Rule {
        Rule { text: text.into(), comment: comment.map(str::to_owned) }
    }

    #[test]
    fn rules_of_our_own_chain_part_those_before_and_after_it() {
        let found = around_ours(vec![
            (
                chain(2, "nat", "POSTROUTING", 100),
                vec![
                    rule("oifname \"docker0\" masquerade", None),
                    rule("jump IP-MASQ-AGENT", Some(&format!("{JUMP_COMMENT}IP-MASQ-AGENT chain"))),
                    rule("accept", Some("last")),
                ],
            ),
            (chain(1, "early", "post", 90), vec![rule("accept", None)]),
        ]);
        assert!(found.ours_found);
        assert_eq!(
            found.before,
            [
                "inet early post (priority 90): accept",
                "ip nat POSTROUTING (priority 100): oifname \"docker0\" masquerade"
            ]
        );
        assert_eq!(found.after, ["ip nat POSTROUTING (priority 100): accept comment \"last\""]);
    }

    #[test]
    fn equal_priorities_are_said_to_be_unordered() {
        let found = around_ours(vec![
            (chain(1, TABLE, "postrouting", 150), Vec::new()),
            (chain(1, "other", "post", 150), vec![rule("masquerade", None)]),
        ]);
        assert!(
            found.ours_found
                && found.after[0].ends_with("(same priority as ip-masq-agent's: which runs first is undefined)")
        );
    }

    #[test]
    fn without_rules_of_ours_everything_is_listed_once() {
        let found = around_ours(vec![(chain(2, "nat", "POSTROUTING", 100), vec![rule("masquerade", None)])]);
        assert_eq!((found.ours_found, found.before.len(), found.after.len()), (false, 0, 1));
    }
}
