//! When to do the next thing. Pure: the clock is an argument.

use std::time::{Duration, Instant};

/// The waits between tries of something that keeps failing: 100 ms, doubled each time, 5 s at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Counts a failure and says how long to wait before the next try.
    pub fn failed(&mut self) -> Duration {
        let wait = doubled(Self::FIRST, self.failures, Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Begins from the shortest wait again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// How often one family may be repaired. Five repairs are free; each further one waits 1 s, 2 s, … 30 s behind the
/// last; a minute without a repair forgives all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairLimit {
    repairs: u32,
    last: Option<Instant>,
}

impl RepairLimit {
    const FREE: u32 = 5;
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);
    const QUIET: Duration = Duration::from_secs(60);

    /// Counts a repair. True when it is the one that turns a series of repairs into a fight.
    pub fn repaired(&mut self, now: Instant) -> bool {
        self.calm(now);
        self.repairs = self.repairs.saturating_add(1);
        self.last = Some(now);
        self.repairs == Self::FREE
    }

    /// When the next repair may be made; `None` means at once.
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        let last = self.last.filter(|_| self.repairs >= Self::FREE)?;
        let wait = doubled(Self::FIRST, self.repairs - Self::FREE, Self::LONGEST);
        Some(last + wait).filter(|at| *at > now)
    }

    /// When the present fight is forgotten if nobody touches the rules until then; `None` when there is none.
    pub fn calm_at(&self) -> Option<Instant> {
        self.last.filter(|_| self.repairs >= Self::FREE).map(|last| last + Self::QUIET)
    }

    /// Forgets what is older than the quiet minute. True when that ended a fight.
    pub fn calm(&mut self, now: Instant) -> bool {
        let quiet = self.last.is_some_and(|last| now >= last + Self::QUIET);
        let fight = quiet && self.repairs >= Self::FREE;
        if quiet {
            *self = RepairLimit::default();
        }
        fight
    }

    /// True while repairs are being held back.
    pub fn is_fight(&self) -> bool {
        self.repairs >= Self::FREE
    }
}

/// How often the kernel's rules may be read because somebody moved them: ten times at once, then once a second.
/// A program that commits to its own tables a hundred times a second must not make us read ours as often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    left: u32,
    refilled: Instant,
}

impl Pace {
    const FULL: u32 = 10;
    const REFILL: Duration = Duration::from_secs(1);

    /// A full one.
    pub fn new(now: Instant) -> Self {
        Pace { left: Self::FULL, refilled: now }
    }

    /// Takes one turn.
    ///
    /// # Errors
    /// When none is left: the time of the next one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let earned = now.saturating_duration_since(self.refilled).as_secs();
        if earned > 0 {
            self.left = Self::FULL.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(Self::FULL)));
            self.refilled = now;
        }
        if self.left == 0 {
            return Err(self.refilled + Self::REFILL);
        }
        self.left -= 1;
        Ok(())
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    2u32.checked_pow(times).and_then(|factor| first.checked_mul(factor)).map_or(longest, |wait| wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_failing_thing_is_tried_less_and_less_often() {
        let mut retry = Retry::default();
        let waits: Vec<u128> = (0..8).map(|_| retry.failed().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retry.succeeded();
        assert_eq!(retry.failed().as_millis(), 100);
    }

    #[test]
    fn five_repairs_are_free_and_the_sixth_waits() {
        let now = Instant::now();
        let mut limit = RepairLimit::default();
        let fights: Vec<bool> = (0..5).map(|_| limit.repaired(now)).collect();
        assert_eq!(fights, [false, false, false, false, true]);
        assert_eq!(limit.free_at(now), Some(now + seconds(1)));
        assert_eq!(limit.free_at(now + seconds(1)), None);
    }

    #[test]
    fn a_long_fight_waits_half_a_minute_and_is_reported_once() {
        let mut now = Instant::now();
        let mut limit = RepairLimit::default();
        let mut reports = 0;
        for _ in 0..50 {
            now = limit.free_at(now).unwrap_or(now);
            reports += u32::from(limit.repaired(now));
        }
        assert_eq!((reports, limit.free_at(now)), (1, Some(now + seconds(30))));
    }

    #[test]
    fn a_quiet_minute_ends_a_fight() {
        let now = Instant::now();
        let mut limit = RepairLimit::default();
        (0..7).for_each(|_| _ = limit.repaired(now));
        assert!(!limit.calm(now + seconds(59)) && limit.is_fight());
        assert!(limit.calm(now + seconds(60)) && !limit.is_fight());
        assert_eq!(limit.free_at(now + seconds(60)), None);
    }

    #[test]
    fn single_repairs_far_apart_are_no_fight() {
        let mut now = Instant::now();
        let mut limit = RepairLimit::default();
        for _ in 0..20 {
            assert!(!limit.repaired(now));
            now += seconds(61);
        }
    }

    #[test]
    fn a_busy_neighbour_is_looked_at_once_a_second() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!((0..10).all(|_| pace.take(now).is_ok()));
        assert_eq!(pace.take(now), Err(now + seconds(1)));
        assert!(pace.take(now + seconds(1)).is_ok());
        assert!(pace.take(now + seconds(1)).is_err());
    }
}
