//! `diff`: the rules of the configuration against the kernel's.

use super::{Context, comparison::Comparison, eprint_line, exit, print_diagnostics, print_line, print_text};
use crate::agent::advice::Advice;
use crate::backend::{Drift, Error, Plan};
use crate::config::Config;
use crate::policy::Family;
use crate::text::one_line;
use similar::TextDiff;

/// Prints a unified diff from what the kernel holds to what the configuration asks.
pub fn run(context: &Context) -> u8 {
    let config = match context.load_or_in_force() {
        Ok(loaded) => loaded.config,
        Err(diagnostics) => return print_diagnostics(&diagnostics),
    };
    match compare(&config) {
        Ok(Differences { plans, fast_path, sysctls, strays }) => {
            for plan in plans.iter().filter(|plan| !plan.is_in_sync()) {
                let _ = print_text(unified(plan.family, &plan.observed, &plan.desired, &plan.drift));
            }
            fast_path.iter().for_each(|words| print_line(format_args!("# {words}")));
            sysctls.iter().for_each(|sysctl| print_line(format_args!("# {sysctl}")));
            strays.iter().for_each(|stray| print_line(format_args!("# {stray}")));
            let none = plans.iter().all(Plan::is_in_sync)
                && [&fast_path, &sysctls].iter().all(|words| words.is_empty())
                && strays.is_empty();
            if none { exit::OK } else { exit::FAILED }
        }
        Err(error) => {
            eprint_line(format_args!("ip-masq-agent: {error}"));
            exit::UNKNOWN
        }
    }
}

struct Differences {
    plans: Vec<Plan>,
    fast_path: Vec<String>,
    sysctls: Vec<String>,
    strays: Vec<Advice>,
}

fn compare(config: &Config) -> Result<Differences, Error> {
    let mut comparison = Comparison::new(config)?;
    let plans = Family::ALL.into_iter().map(|family| comparison.plan(family)).collect::<Result<_, _>>()?;
    let fast_path = comparison.wrong_fast_path()?;
    Ok(Differences { plans, fast_path, sysctls: comparison.wrong_sysctls(), strays: comparison.strays() })
}

/// What would be sent without changing a line of ours (a leftover set, the jump of an old version) is listed behind the
/// diff.
fn unified(family: Family, observed: &str, desired: &str, drift: &[Drift]) -> String {
    let diff = TextDiff::from_lines(observed, desired)
        .unified_diff()
        .context_radius(3)
        .header(&format!("{family} kernel"), &format!("{family} configuration"))
        .to_string();
    if !diff.is_empty() {
        return diff;
    }
    drift.iter().map(|drift| format!("# {family}: {}\n", one_line(&drift.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_in_the_kernel_is_a_plus_line() {
        let text = unified(Family::V4, "a\nc\n", "a\nb\nc\n", &["a rule is missing".to_owned().into()]);
        assert_eq!(text, "--- IPv4 kernel\n+++ IPv4 configuration\n@@ -1,2 +1,3 @@\n a\n+b\n c\n");
    }

    #[test]
    fn a_difference_outside_our_rules_is_said_in_words() {
        assert_eq!(unified(Family::V4, "a\n", "a\n", &["an old set".to_owned().into()]), "# IPv4: an old set\n");
    }
}
