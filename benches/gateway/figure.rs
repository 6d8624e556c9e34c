//! A figure: the median of several measurements, what it stands beside, and what it should reach.

use serde_json::{Value, json};

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figure {
    what: String,
    unit: &'static str,
    /// One per round, in the order of the rounds.
    samples: Vec<f64>,
    limit: Option<f64>,
    beside: Vec<Beside>,
}

/// A figure compared with another one of the same run.
#[derive(Debug, Clone)]
struct Beside {
    ratio: f64,
    /// What follows the ratio in words: `× a lone masquerade rule`, `× less than nft -f`.
    words: String,
    /// The same for a ratio below 1 turned over, where that is said otherwise: `× more than nft -f`.
    turned: Option<String>,
    goal: Option<Goal>,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// A goal, and what was reached.
#[derive(Debug, Clone)]
pub struct Reached {
    /// What was measured.
    pub what: String,
    /// What should be.
    pub goal: String,
    /// What is.
    pub measured: String,
    /// Whether that is good enough.
    pub met: bool,
}

impl Figure {
    /// A figure from at least one sample.
    pub fn new(what: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure needs samples");
        Figure { what: what.into(), unit, samples, limit: None, beside: Vec::new() }
    }

    /// The middle sample.
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    /// What the samples are in.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The same with the most that the median should be.
    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How many times as much as another figure, and the most that this should be.
    pub fn times(mut self, other: &Figure, name: &str, goal: Option<f64>) -> Self {
        let words = format!("× {name}");
        self.beside.push(Beside { ratio: ratio(&self, other), words, turned: None, goal: goal.map(Goal::AtMost) });
        self
    }

    /// How many times less than another figure, and the least that this should be.
    pub fn less_than(mut self, other: &Figure, name: &str, goal: Option<f64>) -> Self {
        let words = format!("× less than {name}");
        let turned = Some(format!("× more than {name}"));
        self.beside.push(Beside { ratio: ratio(other, &self), words, turned, goal: goal.map(Goal::AtLeast) });
        self
    }

    /// The columns of a table, as in [`Figure::HEAD`].
    pub fn row(&self) -> [String; 6] {
        let low = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let beside: Vec<String> = self.beside.iter().map(Beside::text).collect();
        let goals: Vec<String> = self.reached().iter().map(|goal| format!("{}{}", goal.goal, outcome(goal))).collect();
        [
            self.what.clone(),
            self.with_unit(self.median()),
            format!("{} – {}", number(low), number(high)),
            self.samples.len().to_string(),
            beside.join("; "),
            goals.join("; "),
        ]
    }

    /// The names of the columns.
    pub const HEAD: [&str; 6] = ["", "median", "from – to", "n", "beside", "goal"];

    /// Each goal of it, and what was reached.
    pub fn reached(&self) -> Vec<Reached> {
        let median = self.median();
        let limit = self.limit.map(|limit| Reached {
            what: self.what.clone(),
            goal: format!("≤ {limit} {}", self.unit).trim_end().to_owned(),
            measured: self.with_unit(median),
            met: median <= limit,
        });
        let ratios = self.beside.iter().filter_map(|beside| {
            let (goal, met) = match beside.goal? {
                Goal::AtMost(most) => (format!("≤ {most} {}", beside.words), beside.ratio <= most),
                Goal::AtLeast(least) => (format!("≥ {least} {}", beside.words), beside.ratio >= least),
            };
            let measured = format!("{} × ({})", number(beside.ratio), self.with_unit(median));
            Some(Reached { what: self.what.clone(), goal, measured, met })
        });
        limit.into_iter().chain(ratios).collect()
    }

    /// Everything about it.
    pub fn json(&self) -> Value {
        let beside = self.beside.iter().map(|beside| json!({ "ratio": beside.ratio, "to": beside.words }));
        let goals = self.reached().into_iter().map(|goal| json!({ "goal": goal.goal, "met": goal.met }));
        json!({
            "what": self.what, "unit": self.unit, "median": self.median(), "samples": self.samples,
            "beside": beside.collect::<Vec<_>>(), "goals": goals.collect::<Vec<_>>(),
        })
    }

    fn with_unit(&self, value: f64) -> String {
        format!("{} {}", number(value), self.unit).trim_end().to_owned()
    }
}

impl Beside {
    fn text(&self) -> String {
        match &self.turned {
            Some(turned) if self.ratio < 1.0 => format!("{} {turned}", number(1.0 / self.ratio)),
            _ => format!("{} {}", number(self.ratio), self.words),
        }
    }
}

/// What a goal's outcome is called.
pub fn outcome(goal: &Reached) -> &'static str {
    if goal.met { ": met" } else { ": **missed**" }
}

/// The middle of the quotients, round by round: what disturbs a round disturbs both of its halves.
fn ratio(above: &Figure, below: &Figure) -> f64 {
    assert_eq!(above.samples.len(), below.samples.len(), "{} and {}: the same rounds", above.what, below.what);
    let quotients: Vec<f64> = above.samples.iter().zip(&below.samples).map(|(a, b)| a / b).collect();
    median(&quotients)
}

/// The middle one; of an even number, the lower of the two.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// Three significant digits, and none behind the point from 100 on.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 0.01 => format!("{value:.4}"),
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
