//! Our table in nft's language, as far as one family is concerned.

use super::interval::Interval;
use super::name::TABLE;
use super::rule::Rule;
use super::table::{Chain, Set, TABLE_COMMENT, Table};
use crate::policy::Family;
use crate::ruleset::Effect;
use std::fmt::Write;

/// What the table holds for a family, as `nft -f` reads it; empty when it holds nothing for it.
pub fn table(table: &Table, family: Family) -> String {
    let mut chains: Vec<_> = table.chains.iter().filter(|chain| chain.name.family() == Some(family)).collect();
    let mut sets: Vec<_> = table.sets.iter().filter(|set| set.name.family == family).collect();
    // The kernel keeps them in the order of their making, which does not matter.
    chains.sort_by_key(|chain| chain.name);
    sets.sort_by_key(|set| set.name);
    let bases = || table.chains.iter().filter(|chain| chain.name.family().is_none());
    if chains.is_empty() && sets.is_empty() && bases().all(|base| dispatches(base, family).is_empty()) {
        return String::new();
    }
    let mut text = format!("table inet {TABLE} {{\n\tcomment \"{TABLE_COMMENT}\"\n");
    if table.flags.0 != 0 {
        let _ = writeln!(text, "\tflags {};", table.flags);
    }
    sets.iter().for_each(|set| write_set(set, &mut text));
    for stranger in &table.strangers {
        let _ = writeln!(text, "\n\t# {stranger}: not of this version");
    }
    for base in bases() {
        write_chain(base, &dispatches(base, family), &mut text);
    }
    for chain in chains {
        write_chain(chain, &chain.rules.iter().collect::<Vec<_>>(), &mut text);
    }
    text.push_str("}\n");
    text
}

fn dispatches(base: &Chain, family: Family) -> Vec<&Rule> {
    base.rules.iter().filter(|rule| concerns(rule, family)).collect()
}

/// True unless the rule sends flows of the other family on.
fn concerns(rule: &Rule, family: Family) -> bool {
    match rule.effect() {
        Some(Effect::Goto(chain)) => chain.family() == Some(family),
        _ => true,
    }
}

fn write_set(set: &Set, text: &mut String) {
    let name = set.name;
    // Writing to a String can't fail, here and below.
    let _ = write!(
        text,
        "\n\tset {name} {{\n\t\ttype {}\n\t\tflags interval\n\t\tcomment \"{}\"\n",
        name.key_type(),
        name.comment()
    );
    match set.elements.as_deref() {
        Some([]) => {}
        Some(elements) => {
            text.push_str("\t\telements = {\n");
            write_elements(elements, name.family, "\t\t\t", text);
            text.push_str("\t\t}\n");
        }
        None => text.push_str("\t\t# elements that are no row of intervals\n"),
    }
    text.push_str("\t}\n");
}

/// One element to a line, each with a comma.
pub fn write_elements(elements: &[Interval], family: Family, indent: &str, text: &mut String) {
    text.reserve(elements.len() * 24);
    for element in elements {
        text.push_str(indent);
        element.write(family, text);
        text.push_str(",\n");
    }
}

fn write_chain(chain: &Chain, rules: &[&Rule], text: &mut String) {
    let _ = writeln!(text, "\n\tchain {} {{\n\t\tcomment \"{}\"", chain.name, chain.name.comment());
    if let Some(hook) = chain.hook {
        let policy = if hook.accepts { "accept" } else { "drop" };
        let _ = writeln!(text, "\t\ttype nat hook postrouting priority {}; policy {policy};", hook.priority);
    }
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}
