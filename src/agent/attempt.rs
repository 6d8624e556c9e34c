//! What somebody wants to be tried.

use super::client::Client;
use super::report::one_line;
use crate::config::SourceText;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time of day at a moment, in seconds since midnight: the agent has no clock that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub at: Instant,
    pub second: u32,
}

impl Clock {
    /// The time of day at a later moment.
    pub fn time(self, later: Instant) -> String {
        const DAY: u64 = 24 * 60 * 60;
        let passed = (later.saturating_duration_since(self.at) + Duration::from_millis(500)).as_secs();
        let second = (u64::from(self.second) + passed) % DAY;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// What somebody asks to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub client: Client,
    /// What takes the place of the main file; `None` means the files as they are.
    pub file: Option<SourceText>,
    pub timeout: Duration,
    /// Who asks, in words.
    pub by: String,
    pub clock: Clock,
}

impl Attempt {
    pub fn what(&self) -> String {
        let named = |file: &SourceText| one_line(&file.path.display().to_string());
        self.file.as_ref().map_or_else(|| "the edited configuration".to_owned(), named)
    }
}

/// An attempt, and what the files are once it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub attempt: Attempt,
    pub files: Arc<[SourceText]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_goes_on_after_midnight() {
        let at = Instant::now();
        let clock = Clock { at, second: 86_399 };
        assert_eq!(clock.time(at), "23:59:59");
        assert_eq!(clock.time(at + Duration::from_secs(61)), "00:01:00");
    }
}
