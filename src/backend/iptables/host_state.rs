//! What the backend asks of the kernel without running a program.

use super::rules::render::{Table, built_in};
use super::tools::Variant;
use crate::policy::Family;
use crate::ruleset::{ChainName, Hook};
use crate::sys::go_agent::{self, GoAgent};
use crate::sys::nfnetlink::ipset::{Ipset, Member, SetHeader};
use crate::sys::nfnetlink::message::Writer;
use crate::sys::nfnetlink::{Consistency, Nfnetlink, Request, digest, kept, nfproto};
use crate::sys::xtables::{self, NatTable};
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Attributes of linux/netfilter/nf_tables.h.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;

/// The questions. A seam: unit tests answer them with values.
pub trait HostState {
    /// True when a table of the family exists. Listing a legacy one would create it.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn has_table(&mut self, variant: Variant, family: Family, table: Table) -> io::Result<bool>;

    /// How often a text stands in the rules of those built-in chains of a table that ours can be in; in the legacy variant
    /// in those of the whole table. Makes no table.
    ///
    /// # Errors
    /// When the kernel does not say, or somebody moved the rules meanwhile.
    fn count(&mut self, variant: Variant, family: Family, table: Table, text: &str) -> io::Result<usize>;

    /// Every set of this network namespace; `None` when the kernel has no sets. `wanted` says whether the kernel may
    /// load them for us.
    ///
    /// # Errors
    /// When the kernel has sets but does not list them.
    fn sets(&mut self, wanted: bool) -> io::Result<Option<Vec<SetHeader>>>;

    /// True when the kernel has sets, and may load them for us.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn has_sets(&mut self) -> io::Result<bool>;

    /// How many members a set has; `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn set_size(&mut self, set: &str) -> io::Result<Option<u32>>;

    /// The members of a `hash:net` set, none when it is not there.
    ///
    /// # Errors
    /// When the kernel does not list it.
    fn members(&mut self, set: &str) -> io::Result<Vec<Member>>;

    /// True when rules that look into a `hash:net` set find the address there.
    ///
    /// # Errors
    /// When the kernel does not say, ENOENT when there is no such set.
    fn is_member(&mut self, set: &str, address: IpAddr) -> io::Result<bool>;

    /// Go agents that run in this network namespace.
    fn go_agents(&mut self) -> Vec<GoAgent>;

    /// The generation of the nf_tables rule set.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn nft_generation(&mut self) -> io::Result<u32>;

    /// What moves when a rule of our chains in an nf_tables table of the family moves, or anything of its built-in chains at
    /// the hooks.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn nft_rules_digest(&mut self, family: Family, table: Table, hooks: &[Hook], chain: &ChainName) -> io::Result<u64>;

    /// True when the nf_tables nat table of the family has a chain of the name.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn has_nft_chain(&mut self, family: Family, chain: &str) -> io::Result<bool>;

    /// What moves when the size or a chain of a legacy table moves.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn legacy_info(&mut self, family: Family, table: Table) -> io::Result<Vec<u64>>;

    /// What moves when any rule of a legacy table is replaced.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn legacy_digest(&mut self, family: Family, table: Table) -> io::Result<u64>;
}

/// The kernel that we run on. Sockets are opened when first needed and then kept.
#[derive(Debug, Default)]
pub struct LiveHost {
    ipset: Option<Ipset>,
    nft: Option<Nfnetlink>,
}

impl LiveHost {
    fn ipset(&mut self) -> io::Result<&mut Ipset> {
        kept(&mut self.ipset, Ipset::open)
    }

    fn nft(&mut self) -> io::Result<&mut Nfnetlink> {
        kept(&mut self.nft, Nfnetlink::open)
    }

    /// True when there is an object that `body` names.
    fn nft_has(&mut self, message: i32, family: Family, body: impl FnOnce(&mut Writer)) -> io::Result<bool> {
        let request = Request { message, family: nfproto(family) };
        match self.nft()?.get(request, body, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn nft_count(&mut self, family: Family, table: Table, chain: &str, text: &str) -> io::Result<usize> {
        let request = Request { message: libc::NFT_MSG_GETRULE, family: nfproto(family) };
        let body = |writer: &mut Writer| {
            writer.text(NFTA_RULE_TABLE, table.name());
            writer.text(NFTA_RULE_CHAIN, chain);
        };
        let mut count = 0;
        let consistency = self.nft()?.dump(request, body, |rule| {
            count += rule.payload.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
            Ok(())
        });
        match consistency {
            Ok(Consistency::Whole) => Ok(count),
            Ok(Consistency::Interrupted) => Err(io::Error::from_raw_os_error(libc::EINTR)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl HostState for LiveHost {
    fn has_table(&mut self, variant: Variant, family: Family, table: Table) -> io::Result<bool> {
        match variant {
            Variant::Nft => {
                self.nft_has(libc::NFT_MSG_GETTABLE, family, |body| body.text(NFTA_TABLE_NAME, table.name()))
            }
            Variant::Legacy => Ok(xtables::table_names(family)?.iter().any(|name| name == table.name())),
        }
    }

    fn count(&mut self, variant: Variant, family: Family, table: Table, text: &str) -> io::Result<usize> {
        match variant {
            Variant::Nft => {
                let hooks = Hook::ALL.into_iter().filter(|hook| Table::of(*hook) == table);
                hooks.map(|hook| self.nft_count(family, table, built_in(hook), text)).sum()
            }
            Variant::Legacy if !self.has_table(variant, family, table)? => Ok(0),
            Variant::Legacy => NatTable::named(family, table.name())?.count(text),
        }
    }

    fn sets(&mut self, wanted: bool) -> io::Result<Option<Vec<SetHeader>>> {
        // The first question to ip_set loads the module.
        if !wanted && !Path::new("/sys/module/ip_set").exists() {
            return Ok(None);
        }
        match self.ipset().and_then(|ipset| ipset.headers(None)) {
            Ok(headers) => Ok(Some(headers)),
            Err(error) if is_without_sets(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has_sets(&mut self) -> io::Result<bool> {
        // There is none without a name, and no other is counted.
        match self.ipset().and_then(|ipset| ipset.headers(Some(""))) {
            Err(error) if is_without_sets(&error) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            answer => answer.map(|_| true),
        }
    }

    fn set_size(&mut self, set: &str) -> io::Result<Option<u32>> {
        match self.ipset().and_then(|ipset| ipset.headers(Some(set))) {
            Ok(headers) => Ok(headers.first().map(|header| header.elements)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn members(&mut self, set: &str) -> io::Result<Vec<Member>> {
        match self.ipset().and_then(|ipset| ipset.members(set)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            members => members,
        }
    }

    fn is_member(&mut self, set: &str, address: IpAddr) -> io::Result<bool> {
        self.ipset()?.has(set, address)
    }

    fn go_agents(&mut self) -> Vec<GoAgent> {
        go_agent::running()
    }

    fn nft_generation(&mut self) -> io::Result<u32> {
        self.nft()?.generation()
    }

    fn nft_rules_digest(&mut self, family: Family, table: Table, hooks: &[Hook], chain: &ChainName) -> io::Result<u64> {
        let netlink = self.nft()?;
        digest::rules(netlink, nfproto(family), table.name(), |name| {
            hooks.iter().any(|hook| built_in(*hook) == name) || chain.has_part(name)
        })
    }

    fn has_nft_chain(&mut self, family: Family, chain: &str) -> io::Result<bool> {
        self.nft_has(libc::NFT_MSG_GETCHAIN, family, |body| {
            body.text(NFTA_CHAIN_TABLE, Table::Nat.name());
            body.text(NFTA_CHAIN_NAME, chain);
        })
    }

    fn legacy_info(&mut self, family: Family, table: Table) -> io::Result<Vec<u64>> {
        NatTable::named(family, table.name())?.info()
    }

    fn legacy_digest(&mut self, family: Family, table: Table) -> io::Result<u64> {
        NatTable::named(family, table.name())?.digest()
    }
}

/// What the kernel says when it has no sets.
fn is_without_sets(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}
