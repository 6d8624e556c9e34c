//! What is logged of a change that was undone: each repair, until another program keeps at it; that is said once, and its
//! end. When a fight begins and ends is counted in `schedule.rs`.

use super::{Agent, Entry, Kind};
use crate::policy::Family;
use std::time::Instant;

impl Agent {
    /// Logs that another program's change was undone: each time, unless it is a fight, which is said once.
    pub(super) fn log_undone(&mut self, entry: Entry, family: Family, who: &str, now: Instant) {
        let fight = &mut self.families[family as usize].fight;
        let entry = if fight.repaired(now) {
            let message = format!(
                "{who} keeps changing the {family} rules; they are repaired each time, which is not logged again until \
                 they were left alone for a minute"
            );
            Entry::new(Kind::Fight, message).by(self.backend_name())
        } else if fight.is_on() {
            return;
        } else {
            entry
        };
        self.log(entry.of(family).with("CHANGED_BY", who));
    }

    /// Ends the fights that nobody continues.
    pub(super) fn end_fights(&mut self, now: Instant) {
        for family in Family::ALL {
            if let Some(repairs) = self.families[family as usize].fight.end_if_quiet(now) {
                let message =
                    format!("no program has changed the {family} rules for a minute; repairs until then: {repairs}");
                self.log(Entry::new(Kind::FightOver, message).of(family).with("REPAIRS", repairs));
            }
        }
    }
}
