//! What a backend holds of ours although it is not the chosen one: an earlier run used it, or a Go agent.

use super::{foreign_nat, view};
use crate::backend::iptables::rules::render::{BUILT_IN_COMMENT, Table};
use crate::backend::nftables::fast_path::{FastPath, TABLE};
use crate::backend::{Backend, BackendName, Drift, Error, ErrorKind, Removal, select};
use crate::config::Settings;
use crate::policy::Family;
use crate::sys::child::Exec;
use crate::sys::nfnetlink::{Nfnetlink, kept};
use crate::sys::xtables::NatTable;
use std::io;

/// True when rules of an agent show in one family of a backend. The kernel is asked; no program is run.
///
/// # Errors
/// When the kernel does not say.
pub fn shows_ours(
    netlink: &mut Option<Nfnetlink>,
    settings: &Settings,
    name: BackendName,
    family: Family,
) -> io::Result<bool> {
    match name {
        BackendName::Nftables => foreign_nat::nftables_shows_ours(kept(netlink, Nfnetlink::open)?, family),
        BackendName::IptablesNft => {
            foreign_nat::iptables_shows_ours(kept(netlink, Nfnetlink::open)?, family, settings.masq_chain.as_str())
        }
        BackendName::IptablesLegacy => {
            // Asking for a table that is not there would make it.
            let there = view::legacy_tables(family);
            let mut tables = [Table::Nat, Table::Raw].map(Table::name).into_iter();
            tables.try_fold(false, |found, table| {
                let is_there = there.iter().any(|name| name == table);
                Ok(found || is_there && NatTable::named(family, table)?.holds(BUILT_IN_COMMENT)?)
            })
        }
    }
}

/// As [`clear`], for a backend that is not in use: where nothing of ours shows, no program is run.
pub fn clear_unused(
    netlink: &mut Option<Nfnetlink>,
    settings: &Settings,
    name: BackendName,
    exec: &(impl Exec + Clone + 'static),
) -> Vec<Removal> {
    let shows = Family::ALL.into_iter().any(|family| shows_ours(netlink, settings, name, family).unwrap_or(true));
    if shows { clear(settings, name, exec) } else { Vec::new() }
}

/// Takes everything of ours out of both families of a backend. One that this host does not have is passed over, unless
/// rules of ours show in it: its programs were taken away, its rules were not.
pub fn clear(settings: &Settings, name: BackendName, exec: &(impl Exec + Clone + 'static)) -> Vec<Removal> {
    let pinned = Settings { backend: name.into(), ..settings.clone() };
    let cleared = match select::choose(&pinned, exec.clone()) {
        Ok(mut choice) => Family::ALL.map(|family| clear_family(choice.backend.as_mut(), family)),
        Err(error) => Family::ALL.map(|family| {
            let result = Err(error.clone());
            Removal { backend: name, family, result, notes: Vec::new() }
        }),
    };
    let mut netlink = None;
    let counts = |one: &Removal| match &one.result {
        Err(error) if error.is_the_hosts() => shows_ours(&mut netlink, settings, name, one.family).unwrap_or(false),
        _ => true,
    };
    cleared.into_iter().filter(counts).collect()
}

/// False for a failure at a stop that leaves nothing of ours: the host has no such programs or rules, or what has our names
/// is another program's.
pub fn counts(netlink: &mut Option<Nfnetlink>, settings: &Settings, one: &Removal) -> bool {
    let mut shows = || shows_ours(netlink, settings, one.backend, one.family);
    match &one.result {
        Err(error) if error.is_the_hosts() => shows().unwrap_or(false),
        Err(error) if error.kind == ErrorKind::Foreign => shows().unwrap_or(true),
        _ => true,
    }
}

/// Takes everything of ours out of one family of a backend, and reads it again to see that it is gone.
pub fn clear_family(backend: &mut dyn Backend, family: Family) -> Removal {
    let result = remove(backend, family);
    Removal { backend: backend.name(), family, result, notes: backend.notes(family) }
}

/// Takes the table of the fast path out, whatever backend keeps the rules; `None` where there was none.
pub fn clear_fast_path(fast_path: &mut FastPath) -> Option<Removal> {
    let result = match fast_path.remove() {
        Ok(false) => return None,
        Ok(true) => Ok(vec![format!("table inet {TABLE}")]),
        Err(error) => Err(error),
    };
    Some(Removal { backend: BackendName::Nftables, family: Family::V4, result, notes: Vec::new() })
}

fn remove(backend: &mut dyn Backend, family: Family) -> Result<Vec<String>, Error> {
    let plan = backend.plan(family, None)?;
    if plan.is_in_sync() {
        return Ok(Vec::new());
    }
    let drift = plan.drift.iter().map(ToString::to_string).collect();
    backend.commit(plan)?;
    let verified = backend.plan(family, None)?;
    if !verified.is_in_sync() {
        let message = format!("the {family} rules are still there: {}", Drift::join(&verified.drift));
        return Err(Error::new(ErrorKind::Busy, message));
    }
    Ok(drift)
}
