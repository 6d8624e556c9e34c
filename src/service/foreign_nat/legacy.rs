//! The rules of iptables-legacy, which nf_tables does not list: the kernel asks them at the same hooks.

use super::{Filters, is_in_our_chain};
use crate::backend::Error;
use crate::backend::iptables::rules::parse::{ListedRule, ListedTable};
use crate::backend::iptables::rules::render::BUILT_IN_COMMENT;
use crate::backend::iptables::tools::{Tools, Variant, list, list_any};
use crate::network::hook::{BaseChain, Hook, Rule};
use crate::policy::Family;
use crate::service::view;
use crate::sys::child::Children;
use crate::sys::xtables::NatTable;

/// The name of a built-in chain, its hook and its priority.
type Place = (&'static str, Hook, i32);

/// The tables that are read, and their chains: the hook and the priority at which x_tables registers them, NF_IP_PRI_* of
/// linux/netfilter_ipv4.h.
const TABLES: [(&str, &[Place]); 5] = [
    (
        "nat",
        &[
            ("PREROUTING", Hook::Prerouting, -100),
            ("OUTPUT", Hook::Output, -100),
            ("POSTROUTING", Hook::Postrouting, 100),
        ],
    ),
    ("filter", &[("INPUT", Hook::Input, 0), ("FORWARD", Hook::Forward, 0), ("OUTPUT", Hook::Output, 0)]),
    ("raw", &[("PREROUTING", Hook::Prerouting, -300), ("OUTPUT", Hook::Output, -300)]),
    (
        "mangle",
        &[
            ("PREROUTING", Hook::Prerouting, -150),
            ("INPUT", Hook::Input, -150),
            ("FORWARD", Hook::Forward, -150),
            ("OUTPUT", Hook::Output, -150),
            ("POSTROUTING", Hook::Postrouting, -150),
        ],
    ),
    ("security", &[("INPUT", Hook::Input, 50), ("FORWARD", Hook::Forward, 50), ("OUTPUT", Hook::Output, 50)]),
];

/// Those that are asked for, and of their chains.
fn tables(filters: Filters) -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static Place>)> {
    let is_wanted = move |table: &str, hook: Hook| match filters {
        Filters::All => true,
        Filters::Forward => {
            table == "nat" || matches!((table, hook), ("filter", Hook::Forward) | ("raw", Hook::Prerouting))
        }
    };
    let tables = TABLES.into_iter().filter(move |(table, places)| places.iter().any(|place| is_wanted(table, place.1)));
    tables.map(move |(table, places)| (table, places.iter().filter(move |place| is_wanted(table, place.1))))
}

/// What moves when somebody changes one of the tables; `None` for one that is not there, which asking would make.
pub fn digests(family: Family, filters: Filters) -> Vec<Option<u64>> {
    let there = view::legacy_tables(family);
    let digest = |table: &str| NatTable::named(family, table).ok()?.digest().ok();
    tables(filters).map(|(table, _)| there.iter().any(|name| name == table).then(|| digest(table))?).collect()
}

/// The chains in which rules of ours are, without any rule: for who runs no program.
pub fn ours(family: Family) -> Vec<BaseChain> {
    let holds = |table: &str| NatTable::named(family, table).and_then(|table| table.holds(BUILT_IN_COMMENT));
    let there = view::legacy_tables(family).into_iter().any(|table| table == "nat");
    if !there || !holds("nat").unwrap_or(false) {
        return Vec::new();
    }
    let chain = |(name, hook, priority): &Place| BaseChain {
        table: "nat".to_owned(),
        name: (*name).to_owned(),
        hook: Some(*hook),
        priority: *priority,
        is_nat: true,
        is_ours: true,
        ..BaseChain::default()
    };
    TABLES[0].1.iter().map(chain).collect()
}

/// The base chains of the tables that are there and have rules.
///
/// # Errors
/// When iptables-legacy is not there or can't list one.
pub fn chains(family: Family, filters: Filters) -> Result<Vec<BaseChain>, Error> {
    let there = view::legacy_tables(family);
    let mut found = Vec::new();
    for (table, places) in tables(filters) {
        let is_empty = || NatTable::named(family, table).and_then(|table| table.is_empty()).unwrap_or(false);
        // An empty table of filters may have a policy.
        if !there.iter().any(|name| name == table) || (table == "nat" && is_empty()) {
            continue;
        }
        let tools = Tools::probe(&mut Children, Variant::Legacy)?;
        let listing = match table {
            "nat" => list(&mut Children, &tools, family, false)?,
            table => list_any(&mut Children, &tools, family, table)?,
        };
        found.extend(places.filter_map(|place| base_chain(family, table, *place, &listing)));
    }
    Ok(found)
}

fn base_chain(
    family: Family,
    table: &str,
    (name, hook, priority): (&str, Hook, i32),
    listing: &str,
) -> Option<BaseChain> {
    let listed = ListedTable::parse(listing);
    let rules = |chain: &str| -> Option<Vec<Rule>> {
        // The comment is part of the words.
        let rule = |rule: &ListedRule<'_>| Rule {
            text: rule.spec.to_owned(),
            comment: None,
            is_ours: rule.comment.as_ref().is_some_and(|comment| comment.starts_with(BUILT_IN_COMMENT)),
        };
        let is_others = |rule: &&ListedRule<'_>| !is_in_our_chain(rule.comment.as_deref());
        listed.chain(chain).map(|chain| chain.rules.iter().filter(is_others).map(rule).collect())
    };
    let own = listed.chains.iter().filter(|chain| !chain.built_in);
    let chains = own.filter_map(|chain| Some((chain.name.to_owned(), rules(chain.name)?))).collect();
    Some(BaseChain {
        family: match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        },
        table: table.to_owned(),
        name: format!("{name} of iptables-legacy"),
        hook: Some(hook),
        devices: Vec::new(),
        priority,
        is_nat: table == "nat",
        drops: listing.lines().any(|line| line.starts_with(&format!(":{name} DROP"))),
        is_ours: false,
        rules: rules(name)?,
        chains,
    })
}
