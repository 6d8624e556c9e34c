//! The rules of other programs that our flows pass, in words: who else translates addresses, and who keeps flows from being
//! forwarded. Read only; what follows from them is judged in `network::hook`.

pub mod keepers;
mod legacy;
mod references;

use crate::backend::iptables::rules::render::BUILT_IN_COMMENT;
use crate::backend::iptables::rules::rule::COMMENT_PREFIX;
use crate::backend::nftables::{STAND_IN, TABLE, fast_path, has_stand_in};
use crate::network::hook::{self, BaseChain, Hook};
use crate::policy::Family;
use crate::sys::listing::{self, INET, NETDEV, NfChain, NfRule};
use crate::sys::nfnetlink::message::Message;
use crate::sys::nfnetlink::{Nfnetlink, Request, kept, nfproto};
use references::Asked;
use std::collections::BTreeMap;
use std::io;

/// The table of iptables-nft.
const IPTABLES_TABLE: &str = "nat";
/// How often everything is read again that somebody changed meanwhile.
const TRIES: u32 = 8;
/// So many chains are followed from one base chain; what is behind more of them counts as not understood.
const MOST_CHAINS: usize = 256;
/// By number, `enum nf_inet_hooks`.
const HOOKS: [(u32, Hook); 6] = [
    (0, Hook::Prerouting),
    (1, Hook::Input),
    (2, Hook::Forward),
    (3, Hook::Output),
    (4, Hook::Postrouting),
    (5, Hook::Ingress),
];
/// By number, `enum nf_dev_hooks`.
const HOOKS_OF_INTERFACES: [(u32, Hook); 2] = [(0, Hook::Ingress), (1, Hook::Egress)];

/// Which filters are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Filters {
    /// Those of what is forwarded, and of what comes in those before connection tracking.
    #[default]
    Forward,
    /// Those of every hook.
    All,
}

/// The base chains that the flows of a family pass: nat at every hook, and filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chains(pub BTreeMap<Family, Vec<BaseChain>>);

/// Reads chains, and remembers them for as long as nobody changes any.
#[derive(Debug, Default)]
pub struct ChainReader {
    /// No program is run: of iptables-legacy it is only known whether rules of ours are there.
    without_programs: bool,
    filters: Filters,
    known: Option<(Moves, Chains)>,
    netlink: Option<Nfnetlink>,
}

/// What moves when somebody changes chains or rules: the generation of nf_tables, and digests of the legacy tables.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moves {
    generation: Option<u32>,
    legacy: Vec<Option<u64>>,
}

impl ChainReader {
    /// One that runs no program.
    pub fn without_programs() -> Self {
        ChainReader { without_programs: true, ..ChainReader::default() }
    }

    /// One that reads the filters of every hook.
    pub fn of_every_filter() -> Self {
        ChainReader { filters: Filters::All, ..ChainReader::default() }
    }

    /// Reads the chains of both families.
    ///
    /// # Errors
    /// When the kernel can't be asked, or others keep changing the rules.
    pub fn read(&mut self) -> io::Result<&Chains> {
        let netlink = kept(&mut self.netlink, Nfnetlink::open)?;
        let (filters, without_programs) = (self.filters, self.without_programs);
        for _ in 0..TRIES {
            let before = moves(netlink, filters)?;
            if self.known.as_ref().is_none_or(|(moves, _)| *moves != before) {
                let read = |family| {
                    let has_nf_tables = before.generation.is_some();
                    Ok((family, chains_of(netlink, family, has_nf_tables, without_programs, filters)?))
                };
                // What went away while it was asked for has moved something.
                let chains = Family::ALL.into_iter().map(read).collect::<io::Result<_>>();
                if moves(netlink, filters)? != before {
                    continue;
                }
                self.known = Some((before, Chains(chains?)));
            }
            break;
        }
        match &self.known {
            Some((_, chains)) => Ok(chains),
            None => Err(io::Error::new(io::ErrorKind::WouldBlock, "other programs keep changing them")),
        }
    }
}

fn moves(netlink: &mut Nfnetlink, filters: Filters) -> io::Result<Moves> {
    let generation = match netlink.generation() {
        Ok(generation) => Some(generation),
        // The kernel has no nf_tables.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        Err(error) => return Err(error),
    };
    Ok(Moves {
        generation,
        legacy: Family::ALL.into_iter().flat_map(|family| legacy::digests(family, filters)).collect(),
    })
}

fn chains_of(
    netlink: &mut Nfnetlink,
    family: Family,
    has_nf_tables: bool,
    without_programs: bool,
    filters: Filters,
) -> io::Result<Vec<BaseChain>> {
    let mut found = Vec::new();
    for protocol in [INET, nfproto(family), NETDEV].into_iter().filter(|_| has_nf_tables) {
        let all = chains(netlink, protocol)?;
        let hooks = if protocol == NETDEV { &HOOKS_OF_INTERFACES[..] } else { &HOOKS };
        for chain in &all {
            let hook = hooks.iter().find(|(number, _)| chain.hook == Some(*number)).map(|(_, hook)| *hook);
            let is_filter = match filters {
                Filters::Forward => chain.kind == "filter" && concerns_forwarded(hook, chain.priority),
                Filters::All => !chain.is_nat(),
            };
            if hook.is_some() && (chain.is_nat() || is_filter) {
                found.push(base_chain(netlink, chain, hook, &all)?);
            }
        }
    }
    found.extend(match without_programs {
        true => legacy::ours(family),
        false => legacy::chains(family, filters).map_err(io::Error::other)?,
    });
    Ok(found)
}

fn concerns_forwarded(hook: Option<Hook>, priority: i32) -> bool {
    match hook {
        Some(Hook::Forward) => true,
        Some(Hook::Output) => false,
        hook => hook::is_before_tracking(hook, priority),
    }
}

fn base_chain(netlink: &mut Nfnetlink, chain: &NfChain, hook: Option<Hook>, all: &[NfChain]) -> io::Result<BaseChain> {
    let is_ours = is_our_table(chain.family, &chain.table);
    let mut base = BaseChain {
        family: family_name(chain.family),
        table: chain.table.clone(),
        name: chain.name.clone(),
        hook,
        devices: chain.devices.clone(),
        priority: chain.priority,
        is_nat: chain.is_nat(),
        drops: chain.drops,
        is_ours,
        ..BaseChain::default()
    };
    if is_ours {
        return Ok(base);
    }
    base.rules = rules(netlink, chain)?.into_iter().map(hook_rule).collect();
    let mut wanted: Vec<String> = base.rules.iter().flat_map(named_chains).collect();
    while let Some(name) = wanted.pop() {
        let known = base.chains.contains_key(&name) || base.chains.len() == MOST_CHAINS;
        if let Some(chain) = all.iter().find(|one| one.table == chain.table && one.name == name).filter(|_| !known) {
            let rules = rules(netlink, chain)?.into_iter().filter(|rule| !is_in_our_chain(rule.comment.as_deref()));
            let rules: Vec<hook::Rule> = rules.map(hook_rule).collect();
            wanted.extend(rules.iter().flat_map(named_chains));
            base.chains.insert(name, rules);
        }
    }
    Ok(base)
}

fn hook_rule(rule: NfRule) -> hook::Rule {
    hook::Rule { is_ours: is_our_jump(&rule), text: rule.text, comment: rule.comment }
}

/// The chains that a rule may lead to. Our own are not looked at.
fn named_chains(rule: &hook::Rule) -> Vec<String> {
    let words: Vec<&str> = if rule.is_ours { Vec::new() } else { rule.text.split_whitespace().collect() };
    let jumps = words.windows(2).filter(|pair| matches!(pair[0], "jump" | "goto"));
    jumps.map(|pair| pair[1].trim_end_matches(',').to_owned()).collect()
}

/// True when the nat table of iptables-nft has a jump of ours, or a chain of this name.
///
/// # Errors
/// When the kernel can't be asked.
pub fn iptables_shows_ours(netlink: &mut Nfnetlink, family: Family, chain: &str) -> io::Result<bool> {
    let mut found = false;
    for one in chains(netlink, nfproto(family))?.into_iter().filter(|one| one.table == IPTABLES_TABLE) {
        let is_postrouting = one.is_nat_postrouting();
        found |= one.name == chain || (is_postrouting && rules(netlink, &one)?.iter().any(is_our_jump));
    }
    Ok(found)
}

/// True when our own table, or the one that stood in for it, has chains of the family.
///
/// # Errors
/// When the kernel can't be asked.
pub fn nftables_shows_ours(netlink: &mut Nfnetlink, family: Family) -> io::Result<bool> {
    let prefix = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let chains = chains(netlink, INET)?;
    let has_family = |table| chains.iter().any(|chain| chain.table == table && chain.name.starts_with(prefix));
    Ok(has_family(TABLE) || has_family(STAND_IN) && has_stand_in(netlink).map_err(io::Error::other)?)
}

fn chains(netlink: &mut Nfnetlink, family: u8) -> io::Result<Vec<NfChain>> {
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

fn rules(netlink: &mut Nfnetlink, chain: &NfChain) -> io::Result<Vec<NfRule>> {
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

fn is_our_table(family: u8, table: &str) -> bool {
    family == INET && [TABLE, STAND_IN, fast_path::TABLE].contains(&table)
}

fn is_our_jump(rule: &NfRule) -> bool {
    rule.comment.as_deref().is_some_and(|comment| is_of_jump(unquoted(comment)))
}

fn is_of_jump(comment: &str) -> bool {
    comment.starts_with(BUILT_IN_COMMENT)
}

/// True for the rules of our own chains, whatever leads there.
fn is_in_our_chain(comment: Option<&str>) -> bool {
    comment.map(unquoted).is_some_and(|comment| comment.starts_with(COMMENT_PREFIX) && !is_of_jump(comment))
}

fn unquoted(comment: &str) -> &str {
    comment.trim_start_matches('"')
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
