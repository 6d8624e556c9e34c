//! What is chosen from outside: the environment variables that `make soak` and its sisters pass on.

use crate::random::Random;
use crate::steps::Step;
use ip_masq_agent::backend::BackendName;
use std::str::FromStr;
use std::time::Duration;

/// How much longer than promised everything may take, unless `PATIENCE` says otherwise: other work goes on here.
const PATIENCE: f64 = 2.0;

/// The value of a variable; `None` when it is not set, or empty as `make` passes on what nobody gave.
pub fn read<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' can't be read")))
}

/// `SEED`, else a fresh one.
pub fn seed() -> u64 {
    read("SEED").unwrap_or_else(Random::fresh_seed)
}

/// `BACKEND`, else all of them.
pub fn backends() -> Vec<BackendName> {
    read::<String>("BACKEND").map_or_else(|| crate::lab::BACKENDS.to_vec(), |name| vec![backend(&name)])
}

fn backend(name: &str) -> BackendName {
    let known = crate::lab::BACKENDS.iter().copied().find(|backend| backend.to_string() == name);
    known.unwrap_or_else(|| panic!("'{name}' is none of {:?}", crate::lab::BACKENDS))
}

/// The sequences that once found something.
pub fn seeds() -> Vec<(BackendName, Vec<Step>)> {
    let lines = include_str!("seeds").lines().filter_map(|line| line.split('#').next());
    lines.filter_map(|line| line.split_once(' ')).map(|(name, sequence)| (backend(name), steps(sequence))).collect()
}

/// `PATIENCE`, in seconds.
pub fn patience() -> Duration {
    Duration::from_secs_f64(read("PATIENCE").unwrap_or(PATIENCE))
}

/// `REPLAY`: exactly these steps, as a campaign prints them.
pub fn replay() -> Option<Vec<Step>> {
    read::<String>("REPLAY").map(|text| steps(&text))
}

/// A sequence of steps as a campaign prints it.
pub fn steps(text: &str) -> Vec<Step> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// True for the names in `ONLY` and not in `WITHOUT`.
pub fn wanted(name: &str) -> bool {
    let listed = |variable| read::<String>(variable).map(|list| list.split([',', ' ']).any(|one| one == name));
    listed("ONLY").unwrap_or(true) && !listed("WITHOUT").unwrap_or(false)
}
