//! What a campaign does: one row for each kind of step.

pub mod breaks;
mod edits;
mod kernel;
pub mod lives;
mod shortages;
mod trouble;

use crate::finding::Finding;
use crate::gateway::CampaignGateway;
use crate::random::Random;
use ip_masq_agent::backend::BackendName;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Performs a step and says within which time all has to be well again.
type Perform = fn(&mut CampaignGateway<'_>, &mut Random) -> Result<Duration, Finding>;

/// A kind of step.
pub struct Kind {
    pub name: &'static str,
    /// How often it is drawn, beside the others.
    weight: u64,
    needs: Needs,
    perform: Perform,
}

/// On which backends a step means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Nftables,
    Iptables,
}

impl Needs {
    fn met(self, backend: BackendName) -> bool {
        match self {
            Needs::Nothing => true,
            Needs::Nftables => backend == BackendName::Nftables,
            Needs::Iptables => backend != BackendName::Nftables,
        }
    }
}

const fn kind(name: &'static str, weight: u64, needs: Needs, perform: Perform) -> Kind {
    Kind { name, weight, needs, perform }
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    // What an administrator does.
    kind("edit",                10, Needs::Nothing,  edits::in_place),
    kind("edit-by-rename",       4, Needs::Nothing,  edits::by_rename),
    kind("edit-by-link",         3, Needs::Nothing,  edits::by_link),
    kind("edit-behind-link",     2, Needs::Nothing,  edits::behind_link),
    kind("edit-fragment",        4, Needs::Nothing,  edits::fragment),
    kind("edit-half-written",    4, Needs::Nothing,  edits::half_written),
    kind("edit-bad",             6, Needs::Nothing,  edits::bad),
    kind("edit-huge",            1, Needs::Nothing,  edits::huge),
    kind("edit-huge-and-bad",    1, Needs::Nothing,  edits::huge_and_bad),
    kind("edit-forwards",        8, Needs::Nothing,  edits::forwards),
    kind("reload",               5, Needs::Nothing,  edits::reload),
    kind("reload-by-signal",     3, Needs::Nothing,  edits::reload_by_signal),
    kind("reload-by-fifty",      2, Needs::Nothing,  edits::reload_by_fifty),
    kind("tableOwner",           3, Needs::Nftables, edits::table_owner),
    kind("stop-and-start",       4, Needs::Nothing,  lives::stop_and_start),
    kind("restart",              4, Needs::Nothing,  lives::restart),
    kind("restart-under-load",   2, Needs::Nothing,  lives::restart_under_load),
    kind("switch-backend",       3, Needs::Nothing,  lives::switch_there_and_back),
    kind("start-twice",          1, Needs::Nothing,  lives::start_twice),
    kind("kill",                 4, Needs::Nothing,  lives::kill),
    // What other programs do to our rules.
    kind("flush-everything",     4, Needs::Nothing,  breaks::flush_everything),
    kind("flush-ours",           4, Needs::Nothing,  breaks::flush_ours),
    kind("fight",                2, Needs::Nothing,  breaks::fight),
    kind("delete-ours",          4, Needs::Nothing,  breaks::delete_ours),
    kind("delete-a-rule",        3, Needs::Nothing,  breaks::delete_a_rule),
    kind("duplicate-a-rule",     3, Needs::Nothing,  breaks::duplicate_a_rule),
    kind("move-a-rule",          3, Needs::Nothing,  breaks::move_a_rule),
    kind("insert-a-rule",        3, Needs::Nothing,  breaks::insert_a_rule),
    kind("rename-the-chain",     3, Needs::Nothing,  breaks::rename_the_chain),
    kind("restore-old-rules",    4, Needs::Nothing,  breaks::restore_old_rules),
    kind("other-family",         2, Needs::Nothing,  breaks::other_family),
    kind("other-backend",        2, Needs::Nothing,  breaks::other_backend),
    kind("flush-a-set",          3, Needs::Nothing,  breaks::flush_a_set),
    kind("swap-a-member",        1, Needs::Nothing,  breaks::swap_a_member),
    kind("break-forwards",       6, Needs::Nothing,  breaks::break_forwards),
    // What goes on all the while.
    kind("commits-begin",        4, Needs::Nothing,  trouble::commits_begin),
    kind("commits-end",          2, Needs::Nothing,  trouble::commits_end),
    kind("stir-begins",          2, Needs::Nothing,  trouble::stir_begins),
    kind("stir-ends",            1, Needs::Nothing,  trouble::stir_ends),
    // What goes wrong on a host.
    kind("tool-trouble",         6, Needs::Iptables, trouble::tools),
    kind("tool-hangs",           1, Needs::Iptables, trouble::tool_hangs),
    kind("lock-held",            3, Needs::Iptables, trouble::lock_held),
    kind("table-owned",          3, Needs::Nftables, kernel::owned_by_another),
    kind("events-lost",          2, Needs::Nothing,  kernel::events_are_lost),
    kind("flood-elsewhere",      2, Needs::Nothing,  kernel::flood_elsewhere),
    kind("paused",               3, Needs::Nothing,  trouble::paused),
    kind("other-clock",          2, Needs::Nothing,  trouble::other_clock),
    kind("silent-clients",       2, Needs::Nothing,  trouble::silent_clients),
    kind("state-disk",           3, Needs::Nothing,  shortages::state_disk),
    kind("few-descriptors",      2, Needs::Nothing,  shortages::few_descriptors),
    kind("little-memory",        2, Needs::Nothing,  shortages::little_memory),
];

/// A step of a campaign: what it does in particular follows from its seed, whatever other steps there are.
#[derive(Clone, Copy)]
pub struct Step {
    pub kind: &'static Kind,
    seed: u32,
}

impl Step {
    /// Draws one that means something on a backend, of those whose name `wanted` likes.
    pub fn draw(random: &mut Random, backend: BackendName, wanted: impl Fn(&str) -> bool) -> Self {
        let rows: Vec<&Kind> = KINDS.iter().filter(|kind| kind.needs.met(backend) && wanted(kind.name)).collect();
        let mut left = random.below(rows.iter().map(|kind| kind.weight).sum());
        let drawn = rows.iter().find(|kind| {
            let found = left < kind.weight;
            left = left.saturating_sub(kind.weight);
            found
        });
        Step { kind: drawn.expect("weights that add up"), seed: random.seed() }
    }

    /// Performs it; returns within which time all has to be well again.
    pub fn perform(self, gateway: &mut CampaignGateway<'_>) -> Result<Duration, Finding> {
        (self.kind.perform)(gateway, &mut Random::new(self.seed.into()))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:x}", self.kind.name, self.seed)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, seed) = text.split_once(':').ok_or_else(|| format!("'{text}' is not NAME:SEED"))?;
        let kind = KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| format!("'{name}' is no kind of step"))?;
        let seed = u32::from_str_radix(seed, 16).map_err(|_| format!("'{seed}' is no hexadecimal seed"))?;
        Ok(Step { kind, seed })
    }
}

/// Waits: what is being tried is what happens meanwhile.
fn pass(time: Duration) {
    let end = std::time::Instant::now() + time;
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left);
    }
}
