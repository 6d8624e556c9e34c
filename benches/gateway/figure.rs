//! A figure: the median of several measurements, and what it is compared with.

use serde_json::{Value, json};
use std::fmt;
use std::process::Command;

/// The head of the table.
pub const HEAD: &str =
    "                                                    median     from – to            n  goal              ratio";

/// A goal that a figure should reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// The median is at most this.
    AtMost(f64),
    /// The ratio is at least this.
    RatioAtLeast(f64),
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figure {
    what: String,
    unit: &'static str,
    samples: Vec<f64>,
    ratio: Option<(f64, String)>,
    goal: Option<Goal>,
}

impl Figure {
    /// A figure from at least one sample.
    pub fn new(what: impl Into<String>, unit: &'static str, mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure needs samples");
        samples.sort_by(f64::total_cmp);
        Figure { what: what.into(), unit, samples, ratio: None, goal: None }
    }

    /// The middle sample; of an even number, the lower of the two.
    pub fn median(&self) -> f64 {
        self.samples[(self.samples.len() - 1) / 2]
    }

    /// How many times as much as another figure.
    pub fn times(mut self, other: &Figure) -> Self {
        self.ratio = Some((self.median() / other.median(), format!("× {}", other.what)));
        self
    }

    /// How many times cheaper than another figure.
    pub fn cheaper_than(mut self, other: &Figure) -> Self {
        self.ratio = Some((other.median() / self.median(), format!("× cheaper than {}", other.what)));
        self
    }

    /// What it should reach.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio.as_ref().map_or(f64::NAN, |(ratio, _)| *ratio);
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => self.median() <= most,
            Goal::RatioAtLeast(least) => ratio >= least,
        })
    }

    fn goal_text(&self) -> String {
        let goal = match self.goal {
            None => return String::new(),
            Some(Goal::AtMost(most)) => format!("≤ {most} {}", self.unit),
            Some(Goal::RatioAtLeast(least)) => format!("≥ {least} ×"),
        };
        format!("{goal}{}", if self.is_met() == Some(true) { "" } else { "  MISSED" })
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "median": self.median(), "samples": self.samples,
            "ratio": self.ratio.as_ref().map(|(ratio, _)| ratio),
            "ratio_to": self.ratio.as_ref().map(|(_, to)| to),
            "goal": self.goal.map(|_| self.goal_text()), "met": self.is_met(),
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.samples[0], self.samples[self.samples.len() - 1]);
        let range = format!("{least:.2} – {most:.2}");
        let (ratio, to) = match &self.ratio {
            Some((ratio, to)) => (format!("{ratio:.2}"), to.as_str()),
            None => (String::new(), ""),
        };
        let (what, median, unit, count) = (&self.what, self.median(), self.unit, self.samples.len());
        write!(
            f,
            "  {what:<46} {median:>9.2} {unit:<2}  {range:<19} {count:>2}  {:<16} {ratio:>6} {to}",
            self.goal_text()
        )
    }
}

/// Everything as JSON, with the machine it was measured on.
pub fn json(sections: &[(&str, Vec<Figure>)]) -> String {
    let figures: Vec<Value> = sections
        .iter()
        .map(|(title, figures)| json!({ "title": title, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() }))
        .collect();
    let document = json!({
        "machine": {
            "kernel": said_by("uname", &["-r"]), "cpus": said_by("nproc", &[]),
            "cpu": cpu_model(), "date": said_by("date", &["--iso-8601=seconds", "--utc"]),
            "iptables": said_by("iptables", &["--version"]),
        },
        "sections": figures,
    });
    format!("{document:#}\n")
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown".to_owned(), |(_, model)| model.trim().to_owned())
}
