//! What is logged of a change that was undone, of rules or of sysctls: each repair, until another program keeps at it; that
//! is said once, and its end. When a fight begins and ends is counted in `schedule.rs`.

use super::question::Results;
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

    /// Logs that sysctls are on again which another program had switched off, as [`Agent::log_undone`] does of rules.
    /// Which one it was the kernel does not say.
    pub(super) fn log_sysctls(&mut self, results: &Results, now: Instant) {
        let outcomes = results.iter().filter_map(|(_, result)| result.as_ref().ok());
        let names: Vec<&str> = outcomes.flat_map(|outcome| outcome.sysctls.iter().map(String::as_str)).collect();
        if names.is_empty() {
            return;
        }
        let names = names.join(", ");
        let fight = &mut self.watch.sysctl_fight;
        let message = match (fight.repaired(now), fight.is_on()) {
            (true, _) => format!(
                "another program keeps switching {names} off; set to 1 each time, which is not logged again until it \
                 was left alone for a minute"
            ),
            (false, true) => return,
            (false, false) => format!("another program switched {names} off; set to 1 again"),
        };
        self.log(Entry::new(Kind::SysctlRepaired, message));
    }

    /// Ends the fights that nobody continues.
    pub(super) fn end_fights(&mut self, now: Instant) {
        if let Some(repairs) = self.watch.sysctl_fight.end_if_quiet(now) {
            let message =
                format!("nobody has switched a sysctl of ours off for a minute; repairs until then: {repairs}");
            self.log(Entry::new(Kind::SysctlRepaired, message).with("REPAIRS", repairs));
        }
        for family in Family::ALL {
            if let Some(repairs) = self.families[family as usize].fight.end_if_quiet(now) {
                let message =
                    format!("no program has changed the {family} rules for a minute; repairs until then: {repairs}");
                self.log(Entry::new(Kind::FightOver, message).of(family).with("REPAIRS", repairs));
            }
        }
    }
}
