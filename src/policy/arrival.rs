//! What the forwards say of the first packet of a flow, before it is routed.

use super::interface::keeps_out;
use super::{Family, Forward, HostAddress, InterfacePattern, Policy, Prefix, Protocol, WithOrigin};
use std::net::IpAddr;

/// The first packet of a flow that came in, or that a process of the host sends.
///
/// `None` stands for "not known": the gate that would need it is passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The source address.
    pub source: Option<IpAddr>,
    /// Where it came in; meaningless when it is from the host.
    pub in_interface: Option<String>,
    /// A process of the host sends it.
    pub from_host: bool,
    /// The destination address.
    pub destination: IpAddr,
    /// The destination is one of the host's own addresses.
    pub destination_is_local: bool,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
}

/// What becomes of the destination of a flow.
#[derive(Debug, Clone, PartialEq)]
pub enum ForwardVerdict<'p> {
    /// It stays: no forward is for it.
    Keep,
    /// It stays: there are forwards for it, and a gate of each refused.
    Refused(Vec<(&'p Forward, Gate<'p>)>),
    /// It becomes a target.
    To {
        /// Whose.
        forward: &'p Forward,
        /// The address of the target.
        address: IpAddr,
        /// The port there.
        port: u16,
    },
}

/// What let a packet not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate<'p> {
    /// The interface is not in `inInterfaces`, or in it with a `!`.
    InInterface(Option<&'p WithOrigin<InterfacePattern>>),
    /// There are `inInterfaces`, and what the host itself sends comes in through none.
    FromHost,
    /// The source is not in `sourceCIDRs`.
    Source,
    /// The source is in `excludeSourceCIDRs`.
    ExcludedSource(&'p WithOrigin<Prefix>),
}

impl Gate<'_> {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Gate::InInterface(None) => "the incoming interface is not in its inInterfaces",
            Gate::InInterface(Some(_)) => "its inInterfaces excludes the incoming interface",
            Gate::FromHost => "it has inInterfaces, and the host's own packets come in through none",
            Gate::Source => "the source is not in its sourceCIDRs",
            Gate::ExcludedSource(_) => "the source is in its excludeSourceCIDRs",
        }
    }
}

impl Policy {
    /// What becomes of the destination of a flow. Forwards of its very address are asked before those of any; when there
    /// are some, the others are not asked.
    pub fn forward(&self, arrival: &Arrival) -> ForwardVerdict<'_> {
        let family = Family::of(arrival.destination);
        if !self.enables(family) {
            return ForwardVerdict::Keep;
        }
        let asked = self.forwards.iter().filter(|forward| forward.is_for(arrival));
        let (of_it, of_any): (Vec<_>, Vec<_>) = asked.partition(|forward| matches!(forward.host, HostAddress::One(_)));
        let mut refused = Vec::new();
        for forward in if of_it.is_empty() { of_any } else { of_it } {
            match (forward.refuses(arrival), forward.target(family)) {
                (Some(gate), _) => refused.push((forward, gate)),
                (None, Some(address)) => {
                    let port = forward.target_port(arrival.port);
                    return ForwardVerdict::To { forward, address, port };
                }
                (None, None) => {}
            }
        }
        if refused.is_empty() { ForwardVerdict::Keep } else { ForwardVerdict::Refused(refused) }
    }

    /// The forwards that lead to a port of an address. Connection tracking does not say which of them it was: what any of
    /// them asks for is done.
    pub(super) fn forwards_to(&self, address: IpAddr, protocol: Protocol, port: u16) -> impl Iterator<Item = &Forward> {
        self.forwards.iter().filter(move |forward| {
            let family = Family::of(address);
            forward.serves(family)
                && forward.target(family) == Some(address)
                && forward.protocols.contains(&protocol)
                && forward.target_ports().contains(port)
        })
    }
}

/// Addresses that the kernel routes nothing away from: no forward is asked.
fn is_left_alone(arrival: &Arrival) -> bool {
    match arrival.destination {
        IpAddr::V4(v4) => v4.is_loopback() && !arrival.from_host,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

impl Forward {
    /// True when it is for where a packet goes, whatever its gates and other forwards say.
    pub fn is_for(&self, arrival: &Arrival) -> bool {
        let is_its_address = match self.host {
            HostAddress::Any | HostAddress::AnyOf(_) => true,
            HostAddress::One(address) => address == arrival.destination,
        };
        is_its_address
            && arrival.destination_is_local
            && !is_left_alone(arrival)
            && self.protocols.contains(&arrival.protocol)
            && self.host_ports.contains(arrival.port)
            && self.serves(Family::of(arrival.destination))
            && (self.localhost || !arrival.destination.is_loopback())
    }

    /// What one of its ports becomes.
    pub fn target_port(&self, port: u16) -> u16 {
        self.port.saturating_add(port.saturating_sub(self.host_ports.first))
    }

    /// True when what comes in through the interface passes its `inInterfaces`.
    pub fn lets_in(&self, interface: &str) -> bool {
        keeps_out(&self.in_interfaces, interface).is_none()
    }

    /// The gate that a packet for it does not pass.
    fn refuses(&self, arrival: &Arrival) -> Option<Gate<'_>> {
        if arrival.from_host {
            if !self.in_interfaces.is_empty() {
                return Some(Gate::FromHost);
            }
        } else if let Some(interface) = &arrival.in_interface
            && let Some(by) = keeps_out(&self.in_interfaces, interface)
        {
            return Some(Gate::InInterface(by));
        }
        let source = arrival.source?;
        if !self.sources.is_empty() && !self.sources.contains(source) {
            return Some(Gate::Source);
        }
        self.excluded_sources.find(source).map(Gate::ExcludedSource)
    }
}
