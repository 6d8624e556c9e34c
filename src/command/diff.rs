//! `diff`: the rules of the configuration against the kernel's.

use super::{Context, comparison::Comparison, deliver, exit, refuse, say, tell};
use crate::agent::advice::Advice;
use crate::backend::{Error, Plan};
use crate::config::Config;
use crate::policy::Family;
use crate::text::one_line;
use similar::TextDiff;

/// Prints a unified diff from what the kernel holds to what the configuration asks.
pub fn run(context: &Context) -> u8 {
    let config = match context.load() {
        Ok(config) => config,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    match compare(&config) {
        Ok((plans, strays)) => {
            plans.iter().for_each(|plan| _ = deliver(unified(plan)));
            strays.iter().for_each(|stray| say(format_args!("# {stray}")));
            if plans.iter().all(Plan::is_in_sync) && strays.is_empty() { exit::OK } else { exit::FAILED }
        }
        Err(error) => {
            tell(format_args!("ip-masq-agent: {error}"));
            exit::UNKNOWN
        }
    }
}

fn compare(config: &Config) -> Result<(Vec<Plan>, Vec<Advice>), Error> {
    let mut comparison = Comparison::new(config)?;
    let plans = Family::ALL.into_iter().map(|family| comparison.plan(family)).collect::<Result<_, _>>()?;
    Ok((plans, comparison.strays()))
}

/// Empty when nothing would be sent. What would be sent without changing a line of ours (a leftover set, the jump of
/// an old version) is listed behind the diff.
fn unified(plan: &Plan) -> String {
    if plan.is_in_sync() {
        return String::new();
    }
    let header = (format!("{} kernel", plan.family), format!("{} configuration", plan.family));
    let diff = TextDiff::from_lines(&*plan.observed, &*plan.desired)
        .unified_diff()
        .context_radius(3)
        .header(&header.0, &header.1)
        .to_string();
    if !diff.is_empty() {
        return diff;
    }
    plan.drift.iter().map(|drift| format!("# {}: {}\n", plan.family, one_line(drift))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(observed: &str, desired: &str, drift: &[&str], transaction: &str) -> Plan {
        Plan {
            family: Family::V4,
            desired: desired.to_owned().into(),
            observed: observed.to_owned().into(),
            drift: drift.iter().map(|text| (*text).to_owned()).collect(),
            transaction: transaction.into(),
        }
    }

    #[test]
    fn what_is_missing_in_the_kernel_is_a_plus_line() {
        let text = unified(&plan("a\nc\n", "a\nb\nc\n", &["a rule is missing"], "x"));
        assert_eq!(text, "--- IPv4 kernel\n+++ IPv4 configuration\n@@ -1,2 +1,3 @@\n a\n+b\n c\n");
    }

    #[test]
    fn a_difference_outside_our_rules_is_said_in_words() {
        assert_eq!(unified(&plan("a\n", "a\n", &["an old set"], "x")), "# IPv4: an old set\n");
        assert_eq!(unified(&plan("a\n", "a\n", &[], "")), "");
    }
}
