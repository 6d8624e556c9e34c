//! What the backend asks of the kernel without running a program.

use super::sets::{Member, SetHeader};
use crate::host::go_agent::{self, GoAgent};
use crate::host::nfnetlink::ipset::Ipset;
use crate::host::nfnetlink::message::Writer;
use crate::host::nfnetlink::{Nfnetlink, Request, nfproto};
use crate::host::view;
use crate::host::xtables::NatTable;
use crate::policy::Family;
use std::io;
use std::path::Path;

/// `enum nft_chain_attributes` of linux/netfilter/nf_tables.h.
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;

/// The questions. A seam: unit tests answer them with values.
pub trait Kernel {
    /// True when the legacy nat table of the family exists. Listing it with iptables-legacy would create it.
    fn has_legacy_nat(&mut self, family: Family) -> bool;

    /// Every set of this network namespace; `None` when the kernel has no sets. `wanted` says whether the kernel may
    /// load them for us.
    ///
    /// # Errors
    /// When the kernel has sets but does not list them.
    fn sets(&mut self, wanted: bool) -> io::Result<Option<Vec<SetHeader>>>;

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

    /// Go agents that run in this network namespace.
    fn go_agents(&mut self) -> Vec<GoAgent>;

    /// The generation of the nf_tables rule set.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn nft_generation(&mut self) -> io::Result<u32>;

    /// True when the nf_tables nat table of the family has a chain of the name.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn has_nft_chain(&mut self, family: Family, chain: &str) -> io::Result<bool>;

    /// What moves when the size or a chain of the legacy nat table moves.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn legacy_info(&mut self, family: Family) -> io::Result<Vec<u64>>;

    /// What moves when any rule of the legacy nat table is replaced.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn legacy_digest(&mut self, family: Family) -> io::Result<u64>;
}

/// The kernel that we run on. Sockets are opened when first needed and then kept.
#[derive(Debug, Default)]
pub struct LiveKernel {
    ipset: Option<Ipset>,
    nft: Option<Nfnetlink>,
}

impl LiveKernel {
    fn ipset(&mut self) -> io::Result<&mut Ipset> {
        kept(&mut self.ipset, Ipset::open)
    }
}

/// What is there, or what was just made to be there.
fn kept<T>(place: &mut Option<T>, open: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    let there = match place.take() {
        Some(there) => there,
        None => open()?,
    };
    Ok(place.insert(there))
}

impl Kernel for LiveKernel {
    fn has_legacy_nat(&mut self, family: Family) -> bool {
        view::legacy_nat().contains(&family)
    }

    fn sets(&mut self, wanted: bool) -> io::Result<Option<Vec<SetHeader>>> {
        // The first question to ip_set loads the module.
        if !wanted && !Path::new("/sys/module/ip_set").exists() {
            return Ok(None);
        }
        match self.ipset()?.headers(None) {
            Ok(headers) => Ok(Some(headers)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_size(&mut self, set: &str) -> io::Result<Option<u32>> {
        match self.ipset()?.headers(Some(set)) {
            Ok(headers) => Ok(headers.first().map(|header| header.elements)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn members(&mut self, set: &str) -> io::Result<Vec<Member>> {
        match self.ipset()?.members(set) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            members => members,
        }
    }

    fn go_agents(&mut self) -> Vec<GoAgent> {
        go_agent::running()
    }

    fn nft_generation(&mut self) -> io::Result<u32> {
        kept(&mut self.nft, Nfnetlink::open)?.generation()
    }

    fn has_nft_chain(&mut self, family: Family, chain: &str) -> io::Result<bool> {
        let request = Request { message: libc::NFT_MSG_GETCHAIN, family: nfproto(family) };
        let body = |writer: &mut Writer| {
            writer.text(NFTA_CHAIN_TABLE, "nat");
            writer.text(NFTA_CHAIN_NAME, chain);
        };
        match kept(&mut self.nft, Nfnetlink::open)?.get(request, body, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn legacy_info(&mut self, family: Family) -> io::Result<Vec<u64>> {
        NatTable::open(family)?.info()
    }

    fn legacy_digest(&mut self, family: Family) -> io::Result<u64> {
        NatTable::open(family)?.digest()
    }
}
