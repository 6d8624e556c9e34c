//! What a backend holds of ours although it is not the chosen one: an earlier run used it, or a Go agent.

use super::child::Children;
use super::nfnetlink::Nfnetlink;
use super::{nat_hooks, view};
use crate::backend::{Backend, BackendName, Cleared, Error, ErrorKind, select};
use crate::config::Settings;
use crate::policy::Family;

/// As [`clear`], for a backend that is not in use: where nothing of ours shows, no program is run.
pub fn clear_unused(settings: &Settings, name: BackendName) -> Vec<Cleared> {
    let shows = |family| {
        let netlink = Nfnetlink::open();
        let chain = settings.masq_chain.as_str();
        netlink.and_then(|mut netlink| nat_hooks::iptables_shows_ours(&mut netlink, family, chain)).unwrap_or(true)
    };
    if name == BackendName::IptablesNft && ![Family::V4, Family::V6].into_iter().any(shows) {
        return Vec::new();
    }
    clear(settings, name)
}

/// Takes everything of ours out of both families of a backend. A backend that this host does not have holds nothing.
pub fn clear(settings: &Settings, name: BackendName) -> Vec<Cleared> {
    let legacy = name == BackendName::IptablesLegacy;
    let tables = view::legacy_nat();
    // Listing with iptables-legacy would make the tables.
    if legacy && tables.is_empty() {
        return Vec::new();
    }
    let settings = Settings { backend: name.into(), ..settings.clone() };
    let cleared = match select::choose(&settings, Children) {
        Ok(mut choice) => [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| !legacy || tables.contains(family))
            .map(|family| clear_family(choice.backend.as_mut(), family))
            .collect(),
        Err(error) => vec![Cleared { backend: name, family: Family::V4, result: Err(error), notes: Vec::new() }],
    };
    cleared.into_iter().filter(|one| one.result.as_ref().err().is_none_or(|error| !error.is_the_hosts())).collect()
}

/// Takes everything of ours out of one family of a backend, and reads it again to see that it is gone.
pub fn clear_family(backend: &mut dyn Backend, family: Family) -> Cleared {
    let result = remove(backend, family);
    Cleared { backend: backend.name(), family, result, notes: backend.notes() }
}

fn remove(backend: &mut dyn Backend, family: Family) -> Result<Vec<String>, Error> {
    let plan = backend.plan(family, None)?;
    if plan.is_in_sync() {
        return Ok(Vec::new());
    }
    backend.commit(&plan)?;
    let verified = backend.plan(family, None)?;
    if !verified.is_in_sync() {
        let message = format!("the {family} rules are still there: {}", verified.drift.join(", "));
        return Err(Error::new(ErrorKind::Busy, message));
    }
    Ok(plan.drift)
}
