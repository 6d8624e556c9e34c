//! `status --nagios`: the report as a monitoring plugin tells it.
//! <https://www.monitoring-plugins.org/doc/guidelines.html>: a line, figures behind a `|`, then details.

use super::ask::Silence;
use crate::agent::{Report, State};
use std::fmt;

/// What a plugin says with its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Level {
    pub fn exit_status(self) -> u8 {
        self as u8
    }
}

/// What the plugin prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub level: Level,
    summary: String,
    figures: String,
    details: Vec<String>,
}

/// Traffic with a wrong source is critical, and so is a service that keeps nothing true; what it can do without is a
/// warning.
pub fn verdict(answer: Result<&Report, &Silence>) -> Verdict {
    match answer {
        Ok(report) => {
            let labelled =
                |label, texts: &[String]| texts.iter().map(|text| format!("{label}: {text}")).collect::<Vec<_>>();
            Verdict {
                level: level(report),
                summary: report.summary.clone(),
                figures: figures(report),
                details: [labelled("degraded", &report.degraded), labelled("warning", &report.warnings)].concat(),
            }
        }
        Err(silence) => {
            let level = if silence.tells_nothing() { Level::Unknown } else { Level::Critical };
            Verdict { level, summary: silence.to_string(), figures: String::new(), details: Vec::new() }
        }
    }
}

fn level(report: &Report) -> Level {
    match report.state {
        State::Degraded if report.families.iter().any(|family| !family.in_sync) => Level::Critical,
        State::Ready if report.warnings.is_empty() => Level::Ok,
        State::Ready | State::Starting | State::Degraded | State::Stopping => Level::Warning,
    }
}

/// Counters (`c`) begin anew with the service.
fn figures(report: &Report) -> String {
    let flows = || report.families.iter().filter_map(|family| family.counters.as_ref());
    let repairs: u64 = report.families.iter().map(|family| family.repairs).sum();
    let mut figures = vec![
        format!("masqueraded={}c", flows().map(|flows| flows.masqueraded).sum::<u64>()),
        format!("kept={}c", flows().map(|flows| flows.kept).sum::<u64>()),
        format!("repairs={repairs}c"),
        format!("reloads={}c", report.reloads.total),
        format!("reload_failures={}c", report.reloads.failed),
    ];
    let since = [("since_apply", &report.last_apply), ("since_repair", &report.last_repair)];
    let ages = since.into_iter().filter_map(|(name, event)| Some((name, event.as_ref()?.when.seconds_ago)));
    figures.extend(ages.map(|(name, seconds)| format!("{name}={seconds:.0}s")));
    figures.join(" ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        };
        // What follows a bar is taken for figures, wherever it is.
        write!(f, "IP-MASQ-AGENT {level} - {}", self.summary.replace('|', "/"))?;
        if !self.figures.is_empty() {
            write!(f, " | {}", self.figures)?;
        }
        writeln!(f)?;
        self.details.iter().try_for_each(|detail| writeln!(f, "{}", detail.trim_end().replace('|', "/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    fn report(state: &str, in_sync: bool, degraded: &[&str], warnings: &[&str]) -> Report {
        let json = serde_json::json!({
            "summary": "masquerading IPv4, from /etc/a|b", "state": state, "pid": 1, "version": "",
            "configuration": {"origin": "files", "files": [], "generation": 3}, "backend": null,
            "last_apply": {"seconds_ago": 5.4, "milliseconds": 2.5}, "last_repair": null,
            "reloads": {"total": 4, "failed": 1}, "degraded": degraded, "warnings": warnings,
            "families": [{"family": "IPv4", "in_sync": in_sync, "repairs": 2, "counters": {"kept": 1, "masqueraded": 2}}],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_wrong_decides_the_level() {
        let cases = [
            (report("ready", true, &[], &[]), Level::Ok),
            (report("ready", true, &[], &["forwarding is off"]), Level::Warning),
            (report("starting", false, &[], &[]), Level::Warning),
            (report("degraded", true, &["config.yaml:1:1: x"], &[]), Level::Warning),
            (report("degraded", false, &["IPv4 rules are not in sync"], &[]), Level::Critical),
        ];
        for (report, expected) in cases {
            assert_eq!(verdict(Ok(&report)).level, expected, "{report:?}");
        }
        let no_answer = |kind| Silence::NoAnswer(io::Error::new(kind, "why"));
        let unintelligible = || Silence::Unintelligible(serde_json::from_str::<u8>("{").unwrap_err());
        let silences = [
            (Silence::NotRunning, Level::Critical),
            (no_answer(ErrorKind::TimedOut), Level::Critical),
            (no_answer(ErrorKind::PermissionDenied), Level::Unknown),
            (unintelligible(), Level::Unknown),
        ];
        for (silence, expected) in silences {
            assert_eq!(verdict(Err(&silence)).level, expected, "{silence}");
        }
    }

    #[test]
    fn figures_stand_behind_the_only_bar() {
        let said = verdict(Ok(&report("degraded", true, &["a | b"], &["one\ntwo"]))).to_string();
        let expected = "IP-MASQ-AGENT WARNING - masquerading IPv4, from /etc/a/b | masqueraded=2c kept=1c repairs=2c \
            reloads=4c reload_failures=1c since_apply=5s\ndegraded: a / b\nwarning: one\ntwo\n";
        assert_eq!(said, expected);
    }
}
