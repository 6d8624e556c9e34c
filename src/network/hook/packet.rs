//! A packet that opens a flow, as far as it is said what it is like.

use super::Fit;
use crate::policy::{Family, PortRange, Prefix, Protocol};
use std::net::IpAddr;
use std::sync::Arc;

/// `None` stands for what is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub family: Family,
    /// One address, or any of a network.
    pub source: Option<Prefix>,
    pub destination: Option<Prefix>,
    /// Where that is not said: it is in one of these, and in which is not said either. Empty where nothing is.
    pub among: Arc<[Prefix]>,
    /// Empty for a packet of this host.
    pub in_interface: Option<String>,
    pub out_interface: Option<String>,
    pub protocol: Option<Protocol>,
    /// One port, or any of several.
    pub destination_port: Option<PortRange>,
    pub mark: Option<u32>,
    pub source_is_local: Option<bool>,
    pub destination_is_local: Option<bool>,
    pub is_dnated: bool,
    /// Connection tracking was kept from it.
    pub is_untracked: bool,
}

impl Packet {
    /// A packet of which nothing else is said.
    pub fn any(family: Family) -> Self {
        Packet {
            family,
            source: None,
            destination: None,
            among: Arc::default(),
            in_interface: None,
            out_interface: None,
            protocol: None,
            destination_port: None,
            mark: None,
            source_is_local: None,
            destination_is_local: None,
            is_dnated: false,
            is_untracked: false,
        }
    }

    /// What can be said of both packets: a rule that either of them may fit, this one may fit.
    #[must_use]
    pub fn or(mut self, other: &Packet) -> Self {
        fn agree<T: PartialEq>(one: &mut Option<T>, other: &Option<T>) {
            one.take_if(|one| Some(&*one) != other.as_ref());
        }
        if (self.destination, &self.among) != (other.destination, &other.among) {
            (self.destination, self.among) = (None, Arc::default());
        }
        self.destination_port = self
            .destination_port
            .zip(other.destination_port)
            .map(|(one, other)| PortRange { first: one.first.min(other.first), last: one.last.max(other.last) });
        agree(&mut self.source, &other.source);
        agree(&mut self.in_interface, &other.in_interface);
        agree(&mut self.out_interface, &other.out_interface);
        agree(&mut self.protocol, &other.protocol);
        agree(&mut self.mark, &other.mark);
        agree(&mut self.source_is_local, &other.source_is_local);
        agree(&mut self.destination_is_local, &other.destination_is_local);
        self
    }

    /// Whether its destination is in what is written like that.
    pub(super) fn goes_to(&self, written: &str) -> Fit {
        if self.destination.is_some() {
            return self.is_in(self.destination, written);
        }
        let mut fits = self.among.iter().map(|one| self.is_in(Some(*one), written));
        let Some(first) = fits.next() else { return self.is_in(None, written) };
        if fits.all(|fit| fit == first) { first } else { Fit::Unsaid }
    }

    /// Whether an address is in what is written as `192.0.2.0/24`, `192.0.2.1` or `192.0.2.1-192.0.2.9`.
    pub(super) fn is_in(&self, address: Option<Prefix>, written: &str) -> Fit {
        let Some((first, last)) = range(written) else { return Fit::NotUnderstood };
        if Family::of(first) != self.family {
            return Fit::No;
        }
        let Some(address) = address else {
            return Fit::of(
                (Prefix::containing(first, 0) == Some(self.family.whole()) && is_all(first, last)).then_some(true),
            );
        };
        let (from, to) = (address.address(), address.last());
        match () {
            () if to < first || last < from => Fit::No,
            () if first <= from && to <= last => Fit::Yes,
            () => Fit::Unsaid,
        }
    }

    /// The number of its protocol.
    pub(super) fn protocol_number(&self) -> Option<u8> {
        self.protocol.map(|protocol| match (protocol, self.family) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Sctp, _) => 132,
            (Protocol::Icmp, Family::V4) => 1,
            (Protocol::Icmp, Family::V6) => 58,
            (Protocol::Other(number), _) => number,
        })
    }
}

fn is_all(first: IpAddr, last: IpAddr) -> bool {
    let whole = Family::of(first).whole();
    (first, last) == (whole.address(), whole.last())
}

/// The ends of a prefix or a range, or the same address twice.
fn range(written: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, last)) = written.split_once('-') {
        return Some((first.parse().ok()?, last.parse().ok()?));
    }
    let (address, length) = match written.split_once('/') {
        Some((address, length)) => (address.parse().ok()?, length.parse().ok()?),
        None => {
            let address: IpAddr = written.parse().ok()?;
            (address, if address.is_ipv4() { 32 } else { 128 })
        }
    };
    let prefix = Prefix::containing(address, length)?;
    Some((prefix.address(), prefix.last()))
}
