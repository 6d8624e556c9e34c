//! What the contract promises, in time.

use crate::gateway::CampaignGateway;
use ip_masq_agent::backend::BackendName;
use std::time::Duration;

/// An edit is read at the latest so long after the first stir, however often the file stirs.
pub const EDIT: Duration = Duration::from_secs(2);
/// A repair after an event, also while others commit.
const EVENT: Duration = Duration::from_millis(50);
/// A repair where the kernel is asked once a second.
const POLL: Duration = Duration::from_millis(1500);
/// However often others change the rules, they are repaired once a second at the least; where the kernel has to be
/// asked, that takes as long once more.
pub const FIGHT: Duration = Duration::from_secs(2);
/// The longest doubt about the contents of a long set.
const CONTENTS: Duration = Duration::from_secs(30);
/// What waits for a child process that hangs waits for its deadline, and may have to wait for a second try.
pub const AFTER_TOOLS: Duration = Duration::from_secs(15);

/// How a change of the rules shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// A commit to nf_tables, or another number of entries of an x_tables table.
    AtOnce,
    /// The number of members of a set, or of entries of a table, is what it was: what they are is another thing.
    InContents,
    /// Not before everything is looked at again.
    AtResync,
}

/// How long a repair may take.
pub fn repair(gateway: &CampaignGateway<'_>, shows: Shows) -> Duration {
    let config = &gateway.config;
    let resync = Duration::from_secs(config.resync.into());
    let legacy = config.backend == BackendName::IptablesLegacy;
    match shows {
        Shows::AtOnce if legacy || config.poll => POLL,
        Shows::AtOnce => EVENT,
        Shows::InContents if config.backend == BackendName::Nftables => CONTENTS,
        Shows::InContents | Shows::AtResync => resync,
    }
}

/// The time in which something is noticed at the latest by the resync, and put right by tools that work again.
pub fn after_tools(gateway: &CampaignGateway<'_>) -> Duration {
    Duration::from_secs(gateway.config.resync.into()) + AFTER_TOOLS
}
