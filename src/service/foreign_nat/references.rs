//! What the rules of a table refer to, asked of the kernel when the first of them does.

use crate::service::view;
use crate::sys::listing::set::{self, NfSet};
use crate::sys::listing::{NfChain, References};
use crate::sys::nfnetlink::ipset::Ipset;
use crate::sys::nfnetlink::{Nfnetlink, Request};
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Answers from the kernel. What it does not say is not known: a rule is shown all the same.
pub struct Asked<'a> {
    netlink: &'a mut Nfnetlink,
    chain: &'a NfChain,
    sets: Option<HashMap<String, NfSet>>,
    ipsets: Option<BTreeMap<u16, String>>,
}

impl<'a> Asked<'a> {
    pub fn new(netlink: &'a mut Nfnetlink, chain: &'a NfChain) -> Self {
        Asked { netlink, chain, sets: None, ipsets: None }
    }

    /// Every set of the table; the anonymous ones with their elements.
    fn read_sets(&mut self) -> io::Result<HashMap<String, NfSet>> {
        let (table, family) = (&self.chain.table, self.chain.family);
        let mut sets = HashMap::new();
        self.netlink.dump(
            Request { message: libc::NFT_MSG_GETSET, family },
            |body| body.text(1, table),
            |message| {
                let set = set::header(message)?;
                sets.insert(set.name.clone(), set);
                Ok(())
            },
        )?;
        for set in sets.values_mut().filter(|set| set.is_anonymous) {
            let mut elements = Vec::new();
            self.netlink.dump(
                Request { message: libc::NFT_MSG_GETSETELEM, family },
                |body| {
                    body.text(1, table);
                    body.text(2, &set.name);
                },
                |message| {
                    elements.extend(set::elements(message)?);
                    Ok(())
                },
            )?;
            set.elements = elements;
        }
        Ok(sets)
    }
}

impl References for Asked<'_> {
    fn interface(&mut self, index: u32) -> Option<String> {
        view::interface_name(index)
    }

    fn ipset(&mut self, index: u16) -> Option<String> {
        let names = || Ipset::open().and_then(|mut ipset| ipset.names()).unwrap_or_default();
        self.ipsets.get_or_insert_with(names).get(&index).cloned()
    }

    fn set(&mut self, name: &str) -> Option<&NfSet> {
        if self.sets.is_none() {
            let sets = self.read_sets().unwrap_or_default();
            self.sets = Some(sets);
        }
        self.sets.as_ref()?.get(name)
    }
}
