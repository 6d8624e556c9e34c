//! `check`: is the configuration right, and does this host let it work?

use super::comparison::{self, Comparison};
use super::{Context, exit, refuse, say};
use crate::agent::advice::{Advice, advice};
use crate::backend::BackendName;
use crate::config::Config;
use crate::policy::Family;
use crate::service::foreign_nat::ForeignRules;
use crate::service::stale_rules::shows_ours;
use crate::service::view;

/// Judges the configuration: quiet when it is good, diagnostics on stderr when it is not. With `host` also says
/// what on this host would make the policy moot or harmful.
pub fn run(context: &Context, host: bool) -> u8 {
    match context.load() {
        Err(diagnostics) => refuse(&diagnostics),
        Ok(config) if host => judge_host(&config),
        Ok(_) => exit::OK,
    }
}

fn judge_host(config: &Config) -> u8 {
    let backend = Comparison::new(config).map(|comparison| comparison.backend());
    let mut advice = advice(&config.policy, &view::view(), backend.as_ref().ok().copied());
    if let Ok(used) = backend {
        advice.extend(leftovers(config, used));
    }
    let mut findings: Vec<String> = backend.err().iter().map(ToString::to_string).collect();
    findings.extend(advice.iter().map(ToString::to_string));
    let enabled = Family::ALL.into_iter().filter(|family| config.policy.enables(*family));
    findings.extend(enabled.flat_map(rules_before_ours));
    findings.iter().for_each(say);
    if findings.is_empty() { exit::OK } else { exit::FAILED }
}

/// What the service takes out when it can; what is still there masquerades by rules that nobody sees.
fn leftovers(config: &Config, used: BackendName) -> Vec<Advice> {
    let unused = BackendName::ALL.into_iter().filter(|name| *name != used);
    let held = unused.flat_map(|name| Family::ALL.map(|family| (name, family)));
    held.filter(|(name, family)| shows_ours(&config.settings, *name, *family).unwrap_or(false))
        .map(|(name, family)| Advice::Leftover(name, family))
        .collect()
}

/// Foreign nat rules that are asked first: what they map, our rules never see.
fn rules_before_ours(family: Family) -> Vec<String> {
    match comparison::neighbours(family) {
        Ok(found) => in_the_way(family, &found),
        Err(error) => vec![format!("the {family} nat rules of other programs can't be read: {error}")],
    }
}

/// Before the first start every foreign rule is named: who checks then wants to know what ours will meet.
fn in_the_way(family: Family, found: &ForeignRules) -> Vec<String> {
    let (rules, place) = if found.ours_found {
        (&found.before, format!("runs before our {family} rules and wins"))
    } else {
        (&found.after, format!("already there, our {family} rules are not"))
    };
    rules.iter().map(|rule| format!("{place}: {rule}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_start_every_foreign_rule_is_named_and_later_those_before_ours() {
        let found = ForeignRules { ours_found: false, before: Vec::new(), after: vec!["masquerade".into()] };
        assert_eq!(in_the_way(Family::V4, &found), ["already there, our IPv4 rules are not: masquerade"]);
        let found = ForeignRules { ours_found: true, before: vec!["snat".into()], after: vec!["masquerade".into()] };
        assert_eq!(in_the_way(Family::V4, &found), ["runs before our IPv4 rules and wins: snat"]);
    }
}
