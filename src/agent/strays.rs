//! Rules that carry our mark where this configuration wants none, of an earlier run or put there by somebody since: they
//! act beside ours and follow no configuration.

use super::advice::Advice;
use super::{Action, Agent, ChangedBy, Depth, Entry, Kind, Search};
use crate::backend::{BackendName, Removal};
use crate::policy::Family;
use std::time::{Duration, Instant};

impl Agent {
    pub(super) fn remove_strays(&mut self, search: Search, by: Option<Vec<ChangedBy>>) {
        if let Some(active) = &self.desired.active {
            self.act(Action::RemoveStrays(active.config.clone(), search, by));
        }
    }

    /// Those that could not be removed are tried again at each resync.
    pub(super) fn strays_removed(
        &mut self,
        by: Option<Vec<ChangedBy>>,
        removals: Vec<Removal>,
        cost: Duration,
        now: Instant,
    ) {
        self.watch.strays.spend(cost, now);
        if removals.iter().any(|one| matches!(&one.result, Err(error) if error.is_transient())) {
            self.timers.strays.failed(now);
        } else {
            self.timers.strays.succeeded();
        }
        let who = by.map(|by| ChangedBy::names(&by).unwrap_or_else(|| "another program".to_owned()));
        let mut left = Vec::new();
        for Removal { backend, family, result, notes } in removals {
            match result {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    let entry = self.stray_entry(backend, family, &removed, who.as_deref());
                    match &who {
                        Some(who) => self.log_undone(entry, family, who, now),
                        None => self.log(entry.of(family)),
                    }
                    // One variant of iptables leaves the sets that rules of the other one, which are wanted, refer to.
                    let [chosen, other] = [self.backend_name(), Some(backend)];
                    let shares_sets = chosen != other && ![chosen, other].contains(&Some(BackendName::Nftables));
                    for note in notes.into_iter().filter(|_| !shares_sets) {
                        self.log(Entry::new(Kind::Warning, note).of(family).by(Some(backend)));
                    }
                }
                Err(error) => {
                    let message = format!("{}: {error}", Advice::StrayRules(backend, family));
                    left.push(Entry::new(Kind::Warning, message).of(family).by(Some(backend)));
                }
            }
        }
        if self.log_standing(|reported| &mut reported.strays, left) {
            self.log(Entry::new(Kind::Recovered, "no other rules act in addition to the configured ones any more"));
        }
        // The listener was left meanwhile.
        if self.watch.listening {
            self.check(Depth::Rules);
        }
    }

    fn stray_entry(&self, backend: BackendName, family: Family, removed: &[String], who: Option<&str>) -> Entry {
        let removed = removed.join(", ");
        let whose = who.map_or("of an earlier run".to_owned(), |who| format!("added by {who}"));
        let (kind, message) = if self.backend_name() == Some(backend) {
            (Kind::StrayRulesRemoved, format!("{family} is not enabled; rules {whose} were removed: {removed}"))
        } else {
            (Kind::OthersRemoved, format!("{family} rules {whose} were removed from {backend}: {removed}"))
        };
        Entry::new(kind, message).by(Some(backend))
    }
}
