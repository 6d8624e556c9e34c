//! The nat rules of iptables-legacy, which nf_tables does not list: the kernel asks them at the same hook.

use super::IPTABLES_TABLE;
use crate::backend::Error;
use crate::backend::iptables::rules::parse::{ListedRule, ListedTable};
use crate::backend::iptables::rules::render::JUMP_COMMENT;
use crate::backend::iptables::tools::{Tools, Variant, list};
use crate::policy::Family;
use crate::service::view;
use crate::sys::child::Children;
use crate::sys::listing::{Chain, Rule};
use crate::sys::nfnetlink::nfproto;

/// NF_IP_PRI_NAT_SRC and NF_IP6_PRI_NAT_SRC, linux/netfilter_ipv4.h: where x_tables registers POSTROUTING of nat.
const PRIORITY: i32 = 100;

/// POSTROUTING of the legacy nat table; `None` where there is no such table, which listing would make.
///
/// # Errors
/// When iptables-legacy is not there or can't list it.
pub fn postrouting(family: Family) -> Result<Option<(Chain, Vec<Rule>)>, Error> {
    if !view::legacy_nat().contains(&family) {
        return Ok(None);
    }
    let tools = Tools::probe(&mut Children, Variant::Legacy)?;
    let listing = list(&mut Children, &tools, family, false)?;
    let table = ListedTable::parse(&listing);
    let chain = Chain {
        family: nfproto(family),
        table: IPTABLES_TABLE.to_owned(),
        name: "POSTROUTING of iptables-legacy".to_owned(),
        is_nat: true,
        nat_postrouting_priority: Some(PRIORITY),
    };
    let rules = table.chain("POSTROUTING").map(|chain| chain.rules.iter().map(in_words).collect());
    Ok(Some((chain, rules.unwrap_or_default())))
}

/// The comment is part of the words already; that of our jump tells it from the others.
fn in_words(rule: &ListedRule<'_>) -> Rule {
    let comment = rule.comment.clone().filter(|comment| comment.starts_with(JUMP_COMMENT));
    Rule { text: rule.spec.to_owned(), comment }
}
