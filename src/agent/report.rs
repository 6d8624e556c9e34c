//! What `status` and `reload` are told: the agent's answers, as they travel over the control socket.

use crate::backend::Counters;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::time::Duration;

/// The answer to a reload request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// What to tell the administrator: why not, or what is in force now.
    pub message: String,
}

/// How a reload ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// The configuration is in the kernel.
    Applied,
    /// The kernel or its tool refused it.
    Refused,
    /// It is wrong.
    Configuration,
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One line of truth.
    pub summary: String,
    /// `starting`, `ready`, `degraded` or `stopping`.
    pub state: State,
    /// The process of the service.
    pub pid: u32,
    /// The version of the service.
    pub version: String,
    /// What is enforced.
    pub configuration: Configuration,
    /// Which backend, once one is chosen.
    pub backend: Option<Backend>,
    /// When a configuration was last put into the kernel.
    pub last_apply: Option<Done>,
    /// When somebody's change was last repaired.
    pub last_repair: Option<Done>,
    /// Per family.
    pub families: Vec<FamilyReport>,
    /// What is wrong, in words; empty when nothing is.
    pub degraded: Vec<String>,
    /// What the administrator should know although nothing is wrong.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The states that a service can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The rules are not in the kernel yet.
    Starting,
    /// All is as it should be.
    Ready,
    /// It works, but not as the configuration asks.
    Degraded,
    /// It is going away.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Stopping => "stopping",
        })
    }
}

/// What is enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// `files`, `last-good` or `defaults`.
    pub origin: Origin,
    /// The files, in the order in which they were merged.
    pub files: Vec<String>,
    /// How many configurations were put into the kernel since the service began.
    pub generation: u64,
}

/// Where the enforced configuration came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The configuration files, as they are.
    Files,
    /// The state directory.
    LastGood,
    /// There are no files.
    #[default]
    Defaults,
}

/// The backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Why it was chosen.
    pub reason: String,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// How many seconds ago.
    pub seconds_ago: f64,
    /// How many milliseconds it took.
    pub milliseconds: f64,
    /// Who made it necessary, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyReport {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// True when our rules are in the kernel as they should be.
    pub in_sync: bool,
    /// True when somebody stirred during a fight: how the rules are is looked at when the next repair may be made.
    #[serde(default)]
    pub held: bool,
    /// New flows as our rules counted them, where they could be read.
    pub counters: Option<Counters>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "{:>14}: {} (pid {}, version {})", "state", self.state, self.pid, self.version)?;
        writeln!(f, "{:>14}: {}", "configuration", self.configuration)?;
        if let Some(backend) = &self.backend {
            writeln!(f, "{:>14}: {} ({})", "backend", backend.name, backend.reason)?;
        }
        for (label, done) in [("last apply", &self.last_apply), ("last repair", &self.last_repair)] {
            if let Some(done) = done {
                writeln!(f, "{label:>14}: {done}")?;
            }
        }
        for family in &self.families {
            writeln!(f, "{:>14}: {family}", family.family)?;
        }
        for (label, texts) in [("degraded", &self.degraded), ("warning", &self.warnings)] {
            for text in texts {
                writeln!(f, "{label:>14}: {}", text.trim_end().replace('\n', "\n                "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Files => f.write_str(&self.files.join(", "))?,
            Origin::LastGood => write!(f, "the last good one of {}", self.files.join(", "))?,
            Origin::Defaults => f.write_str("built-in defaults, there is no file")?,
        }
        write!(f, " (generation {})", self.generation)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = Duration::from_secs(self.seconds_ago.max(0.0) as u64);
        write!(f, "{} ago, took {:.1} ms", humantime::format_duration(ago), self.milliseconds)?;
        self.by.iter().try_for_each(|by| write!(f, ", changed by {by}"))
    }
}

impl fmt::Display for FamilyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.in_sync, self.held) {
            (true, _) => "in the kernel",
            (false, true) => "stirred by others, looked at again within 30 s",
            (false, false) => "not as it should be",
        })?;
        match self.counters {
            Some(counters) => {
                write!(f, "; new flows: {} kept their source, {} masqueraded", counters.kept, counters.masqueraded)
            }
            None => Ok(()),
        }
    }
}

/// A text as one line without control characters, as STATUS= and a terminal need it.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
        let _ = write!(line, "{}{word}", if line.is_empty() { "" } else { " " });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_can_smuggle_nothing() {
        assert_eq!(one_line(" bad\nREADY=1\r\n\u{1b}[31m  file "), "bad READY=1 [31m file");
    }

    #[test]
    fn times_are_for_people() {
        let done = Done { seconds_ago: 125.7, milliseconds: 3.04, by: Some("firewalld[812]".into()) };
        assert_eq!(done.to_string(), "2m 5s ago, took 3.0 ms, changed by firewalld[812]");
    }
}
