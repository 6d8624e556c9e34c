//! What besides our rules keeps connection tracking and address translation on.
//!
//! The kernel tells nobody who its users of connection tracking are, so the rules of the network namespace are read for
//! those that make one. Not seen are users that are no rules: Open vSwitch, IPVS, `nf_conntrack.enable_hooks=1`.

use super::{INET, IPTABLES_TABLE, NfChain, chains, family_name, is_our_table};
use crate::agent::{AfterStop, Cause, Keepers};
use crate::backend::BackendName;
use crate::backend::nftables::fast_path;
use crate::policy::Family;
use crate::ruleset::ChainName;
use crate::service::view;
use crate::sys::listing::tracking::{self, User};
use crate::sys::nfnetlink::{Nfnetlink, Request, kept, nfproto};
use crate::sys::xtables;
use std::io;
use std::sync::Arc;

const UNSPECIFIED: u8 = libc::NFPROTO_UNSPEC as u8;
/// Where one of its rules needs connection tracking, the kernel turns it on for IPv4 and IPv6.
const BRIDGE: u8 = libc::NFPROTO_BRIDGE as u8;

/// Which rules go at a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours<'a> {
    /// The backend that holds them.
    pub backend: BackendName,
    /// The name of their chains in the nat table of iptables.
    pub chain: &'a ChainName,
}

/// What keeps the connections of each family translated when our rules are gone.
pub fn read(netlink: &mut Option<Nfnetlink>, ours: Ours<'_>, families: &[Family]) -> AfterStop {
    let nf_tables = NfTables::read(netlink, ours).map_err(|error| Arc::new(error) as Cause);
    let of_family = |family: Family| {
        let keepers = nf_tables.as_ref().map_err(Arc::clone)?.keepers(family);
        with_legacy(keepers, ours, family).map_err(|error| Arc::new(error) as Cause)
    };
    AfterStop(families.iter().map(|family| (*family, of_family(*family))).collect())
}

/// What nf_tables has besides our rules.
#[derive(Debug, Default)]
struct NfTables {
    chains: Vec<NfChain>,
    /// Of each family of tables the first rule that needs connection tracking.
    users: Vec<User>,
}

impl NfTables {
    fn read(netlink: &mut Option<Nfnetlink>, ours: Ours<'_>) -> io::Result<Self> {
        let netlink = kept(netlink, Nfnetlink::open)?;
        let mut chains = match chains(netlink, UNSPECIFIED) {
            // The kernel has no nf_tables.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(NfTables::default()),
            result => result?,
        };
        chains.retain(|chain| chain.is_nat() && !ours.has(chain.family, &chain.table, &chain.name));
        let mut users: Vec<User> = Vec::new();
        netlink.dump(
            Request { message: libc::NFT_MSG_GETRULE, family: UNSPECIFIED },
            |_| {},
            |message| {
                let is_known = message.payload.first().is_some_and(|of| users.iter().any(|user| user.family == *of));
                if !is_known {
                    let user = tracking::user(message)?;
                    users.extend(user.filter(|user| !ours.has(user.family, &user.table, &user.chain)));
                }
                Ok(())
            },
        )?;
        Ok(NfTables { chains, users })
    }

    fn keepers(&self, family: Family) -> Keepers {
        let concerns = |of: u8| of == INET || of == nfproto(family);
        let place = |of: u8, table: &str, chain: &str| format!("{} {table} {chain}", family_name(of));
        let user = self.users.iter().find(|user| concerns(user.family) || user.family == BRIDGE);
        let chain = self.chains.iter().find(|chain| concerns(chain.family));
        Keepers {
            tracking: user.map(|user| place(user.family, &user.table, &user.chain)),
            translation: chain.map(|chain| place(chain.family, &chain.table, &chain.name)),
        }
    }
}

impl Ours<'_> {
    fn has(&self, family: u8, table: &str, chain: &str) -> bool {
        match self.backend {
            _ if family == INET && table == fast_path::TABLE => true,
            BackendName::Nftables => is_our_table(family, table),
            BackendName::IptablesNft => {
                let is_ip = Family::ALL.into_iter().any(|of| family == nfproto(of));
                is_ip && table == IPTABLES_TABLE && self.chain.has_part(chain)
            }
            BackendName::IptablesLegacy => false,
        }
    }
}

fn with_legacy(mut keepers: Keepers, ours: Ours<'_>, family: Family) -> io::Result<Keepers> {
    if keepers.tracking.is_none() {
        keepers.tracking = legacy_user(ours, family)?;
    }
    if keepers.translation.is_none() && view::legacy_nat().contains(&family) {
        keepers.translation = Some(format!("iptables-legacy {IPTABLES_TABLE}"));
    }
    Ok(keepers)
}

/// A rule of iptables-legacy that needs connection tracking, by its table.
fn legacy_user(ours: Ours<'_>, family: Family) -> io::Result<Option<String>> {
    for table in view::legacy_tables(family) {
        let goes = |chain: Option<&str>| {
            let is_ours = chain.is_some_and(|chain| ours.chain.has_part(chain));
            ours.backend == BackendName::IptablesLegacy && table == IPTABLES_TABLE && is_ours
        };
        let mut found = false;
        xtables::extensions(family, &table, |chain, name, info| {
            found |= tracking::extension(name, info) && !goes(chain);
        })?;
        if found {
            return Ok(Some(format!("iptables-legacy {table}")));
        }
    }
    Ok(None)
}
