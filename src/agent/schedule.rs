//! When to do the next thing. Pure: the clock is an argument.

use std::time::{Duration, Instant};

/// When something that keeps failing is tried again: after 100 ms, doubled each time, 5 s at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Counts a failure and says when the next try is.
    pub fn failed(&mut self, now: Instant) -> Instant {
        let factor = 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        *self.at.insert(now + Self::FIRST.saturating_mul(factor).min(Self::LONGEST))
    }

    /// When the next try is.
    pub fn due_at(&self) -> Option<Instant> {
        self.at
    }

    /// True when it is to be tried now; it counts as tried then.
    pub fn take(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// Nothing is to be tried; the next failure waits shortest again.
    pub fn succeeded(&mut self) {
        *self = Retry::default();
    }
}

/// Whether another program keeps changing the rules of a family: the fifth repair without a quiet minute in between says
/// so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fight {
    repairs: u32,
    last: Option<Instant>,
}

impl Fight {
    const BEGINS: u32 = 5;
    const QUIET: Duration = Duration::from_secs(60);

    /// Counts a repair. True when it is the one that turns a series of repairs into a fight.
    pub fn repaired(&mut self, now: Instant) -> bool {
        self.end_if_quiet(now);
        self.repairs = self.repairs.saturating_add(1);
        self.last = Some(now);
        self.repairs == Self::BEGINS
    }

    /// When the present fight is over if nobody touches the rules until then; `None` when there is none.
    pub fn over_at(&self) -> Option<Instant> {
        self.last.filter(|_| self.is_on()).map(|last| last + Self::QUIET)
    }

    /// Forgets what is older than the quiet minute. When that ended a fight: how many repairs it took.
    pub fn end_if_quiet(&mut self, now: Instant) -> Option<u32> {
        self.last.filter(|last| now >= *last + Self::QUIET)?;
        let ended = std::mem::take(self);
        ended.is_on().then_some(ended.repairs)
    }

    /// True while there is one.
    pub fn is_on(&self) -> bool {
        self.repairs >= Self::BEGINS
    }
}

/// How much work other programs' commits may cost us: a fiftieth of a core on average, and a tenth of a second of it at
/// once. It never makes anything wait longer than a second: rules that are missing do more harm than work does. And a
/// moment of rest after each piece of it: looking after every one of a program's thousand commits slows that program
/// down, because each of them waits for the processors that are busy (synchronize_rcu).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    debt: Duration,
    since: Instant,
}

impl Budget {
    const SHARE: u32 = 50;
    const CREDIT: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);
    const REST: Duration = Duration::from_millis(20);

    /// One of which nothing is spent.
    pub fn new(now: Instant) -> Self {
        Budget { debt: Duration::ZERO, since: now - Self::REST }
    }

    /// Counts work that was just done.
    pub fn spend(&mut self, work: Duration, now: Instant) {
        let most = Self::CREDIT + Self::LONGEST / Self::SHARE;
        self.debt = (self.debt_at(now) + work).min(most);
        self.since = now;
    }

    /// When more may be done; `None` means at once.
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        let excess = self.debt_at(now).saturating_sub(Self::CREDIT);
        let free = (now + excess * Self::SHARE).max(self.since + Self::REST);
        (free > now).then_some(free)
    }

    fn debt_at(&self, now: Instant) -> Duration {
        self.debt.saturating_sub(now.saturating_duration_since(self.since) / Self::SHARE)
    }
}

/// When an edit is read: once the files have been left alone for a moment, so that one in the middle of being written
/// is not, and at the latest two seconds after the first change, however often they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debounce {
    /// Of the first change that has not been read, and of the last one.
    changes: Option<(Instant, Instant)>,
}

impl Debounce {
    const QUIET: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        let first = self.changes.map_or(now, |(first, _)| first);
        self.changes = Some((first, now));
    }

    /// A file is being written. What changed before may be that one.
    pub fn being_written(&mut self, now: Instant) {
        self.changes = self.changes.map(|(first, _)| (first, now));
    }

    /// When it is to be read.
    pub fn due_at(&self) -> Option<Instant> {
        self.changes.map(|(first, last)| (last + Self::QUIET).min(first + Self::LONGEST))
    }

    /// True when it is to be read now; it counts as read then.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due_at().is_some_and(|at| at <= now);
        if due {
            self.changes = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_failing_thing_is_tried_less_and_less_often() {
        let now = Instant::now();
        let mut retry = Retry::default();
        let waits: Vec<u128> = (0..40).map(|_| (retry.failed(now) - now).as_millis()).collect();
        assert_eq!(waits[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!((waits[39], retry.take(now + seconds(4)), retry.take(now + seconds(5))), (5000, false, true));
        assert_eq!(retry.due_at(), None, "and once");
        retry.failed(now);
        retry.succeeded();
        assert_eq!((retry.due_at(), retry.failed(now)), (None, now + Duration::from_millis(100)));
    }

    #[test]
    fn the_fifth_repair_in_a_row_is_a_fight_and_it_is_said_once() {
        let mut now = Instant::now();
        let mut fight = Fight::default();
        let mut reports = 0;
        for _ in 0..50 {
            now += seconds(59);
            reports += u32::from(fight.repaired(now));
        }
        assert_eq!((reports, fight.is_on(), fight.over_at()), (1, true, Some(now + seconds(60))));
    }

    #[test]
    fn a_quiet_minute_ends_a_fight() {
        let now = Instant::now();
        let mut fight = Fight::default();
        (0..7).for_each(|_| _ = fight.repaired(now));
        assert_eq!(fight.end_if_quiet(now + seconds(59)), None);
        assert!(fight.is_on());
        assert_eq!(fight.end_if_quiet(now + seconds(60)), Some(7));
        assert!(!fight.is_on());
    }

    #[test]
    fn single_repairs_far_apart_are_no_fight() {
        let mut now = Instant::now();
        let mut fight = Fight::default();
        for _ in 0..20 {
            assert!(!fight.repaired(now));
            now += seconds(61);
        }
    }

    #[test]
    fn work_is_free_up_to_a_tenth_of_a_second_and_then_a_fiftieth_of_the_time() {
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(budget.free_at(now), None);
        budget.spend(Duration::from_millis(100), now);
        assert_eq!(budget.free_at(now), Some(now + Duration::from_millis(20)), "a moment of rest");
        now += Duration::from_millis(20);
        assert_eq!(budget.free_at(now), None);
        let repair = Duration::from_millis(5);
        budget.spend(repair, now);
        let wait = 50 * repair - Duration::from_millis(20);
        assert_eq!(budget.free_at(now), Some(now + wait));
        now += wait;
        assert_eq!(budget.free_at(now), None);
        // One of these every five seconds is no matter.
        for _ in 0..100 {
            now += seconds(5);
            assert_eq!(budget.free_at(now), None);
            budget.spend(Duration::from_millis(17), now);
        }
    }

    #[test]
    fn nothing_waits_longer_than_a_second_whatever_was_spent() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        (0..10).for_each(|_| budget.spend(seconds(20), now));
        assert_eq!(budget.free_at(now), Some(now + seconds(1)));
        assert_eq!(budget.free_at(now + seconds(1)), None);
    }

    #[test]
    fn an_edit_is_read_when_it_has_settled_and_at_the_latest_after_two_seconds() {
        let begun = Instant::now();
        let mut edit = Debounce::default();
        assert_eq!((edit.due_at(), edit.take(begun)), (None, false));
        edit.changed(begun);
        assert_eq!(edit.due_at(), Some(begun + Duration::from_millis(200)));
        for tenths in 1..=19 {
            edit.changed(begun + Duration::from_millis(100) * tenths);
            assert!(!edit.take(begun + Duration::from_millis(100) * tenths));
        }
        assert_eq!(edit.due_at(), Some(begun + seconds(2)));
        assert!(edit.take(begun + seconds(2)));
        assert_eq!(edit.due_at(), None, "and once");
    }

    #[test]
    fn a_file_that_is_being_written_puts_the_reading_off_and_is_no_reason_for_it() {
        let begun = Instant::now();
        let tenth = |tenths| begun + Duration::from_millis(100) * tenths;
        let mut edit = Debounce::default();
        edit.being_written(begun);
        assert_eq!(edit.due_at(), None);
        edit.changed(begun);
        edit.being_written(tenth(1));
        assert!(!edit.take(tenth(2)), "it may be empty");
        edit.changed(tenth(2));
        assert_eq!(edit.due_at(), Some(tenth(4)));
        for tenths in 3..=19 {
            edit.being_written(tenth(tenths));
        }
        assert!(edit.take(tenth(20)), "not for ever");
    }
}
