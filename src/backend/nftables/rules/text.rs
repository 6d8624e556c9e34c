//! Our table in nft's language, as far as one family is concerned.

use super::content::Content;
use super::name::{SetName, TABLE};
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
    let mut bases: Vec<_> = table.chains.iter().filter(|chain| chain.name.family().is_none()).collect();
    bases.sort_by_key(|base| base.name);
    if chains.is_empty() && sets.is_empty() && bases.iter().all(|base| dispatches(base, family).is_empty()) {
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
    for base in bases {
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
        "\n\t{} {name} {{\n\t\t{}comment \"{}\"\n",
        name.kind(),
        name.declaration("\n\t\t"),
        name.comment()
    );
    match &set.elements {
        Some(elements) if elements.is_empty() => {}
        Some(elements) => {
            text.push_str("\t\telements = {\n");
            write_elements(elements, name, "\t\t\t", text);
            text.push_str("\t\t}\n");
        }
        None => text.push_str("\t\t# elements that are not known\n"),
    }
    text.push_str("\t}\n");
}

/// One element to a line, each with a comma.
pub fn write_elements(elements: &Content, name: SetName, indent: &str, text: &mut String) {
    text.reserve(elements.len() * 24);
    let mut line = |write: &dyn Fn(&mut String)| {
        text.push_str(indent);
        write(text);
        text.push_str(",\n");
    };
    match (elements, name.ports()) {
        (Content::Ports(elements), Some(set)) => {
            elements.iter().for_each(|element| line(&|text| element.write(set, name.family, text)));
        }
        (Content::Intervals(elements), _) => {
            elements.iter().for_each(|element| line(&|text| element.write(name.family, text)));
        }
        (Content::Ports(_), None) => {}
    }
}

fn write_chain(chain: &Chain, rules: &[&Rule], text: &mut String) {
    let _ = writeln!(text, "\n\tchain {} {{\n\t\tcomment \"{}\"", chain.name, chain.name.comment());
    if let Some(hook) = chain.hook {
        let policy = if hook.accepts { "accept" } else { "drop" };
        let _ = writeln!(text, "\t\t{}priority {}; policy {policy};", chain.name.place(), hook.priority);
    }
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}
