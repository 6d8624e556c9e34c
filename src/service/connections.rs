//! Connections in doubt: found in the kernel's table, judged by the policy, deleted where that is wanted. And the host's
//! network, which both depend on.

use super::view::RtnetlinkError;
use crate::agent::{Doubt, FastPathReport, Forgotten};
use crate::network::{Connection, Network, Status, stale};
use crate::policy::{Family, Forward, Policy};
use crate::sys::conntrack::{self, Bounds, Filter};
use crate::sys::rtnetlink::{self, NetworkEvents, Question, Routed, Router};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Of more addresses than this not each is asked for by itself.
const MOST_ADDRESSES: usize = 8;

/// For a status: so many are counted at most, and for so long.
const COUNTED: Bounds = Bounds { most: 100_000, time: Duration::from_millis(100) };

/// The connections that a flowtable with these interfaces carries.
pub fn offloaded(interfaces: BTreeSet<String>) -> FastPathReport {
    let offloaded = Filter { with: Status::OFFLOAD, ..Filter::default() };
    let swept = conntrack::sweep(&Family::ALL.map(|family| (family, offloaded)), COUNTED, false, |_| true).ok();
    FastPathReport {
        interfaces: interfaces.into_iter().collect(),
        connections: swept.map(|swept| swept.found),
        connections_is_minimum: swept.is_some_and(|swept| swept.stopped),
    }
}

/// The host's network, and that it changed.
#[derive(Debug, Default)]
pub struct HostNetwork {
    events: Option<NetworkEvents>,
}

impl HostNetwork {
    /// Reads it, with how these addresses are reached. From before that on changes are told.
    ///
    /// # Errors
    /// Why it can't be read; changes are not told then.
    pub fn read(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Arc<Network>, RtnetlinkError> {
        let result = self.listen().and_then(|()| rtnetlink::network_towards(addresses));
        result.map(Arc::new).map_err(|error| {
            self.events = None;
            RtnetlinkError(error)
        })
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.events.is_none() {
            self.events = Some(NetworkEvents::open()?);
        }
        Ok(())
    }

    /// Stops listening.
    pub fn ignore(&mut self) {
        self.events = None;
    }

    /// What to poll for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// True when something changed since the last time, or may have: a broken listener is opened again by the next
    /// [`HostNetwork::read`].
    pub fn has_changed(&mut self) -> bool {
        match self.events.as_mut().map(NetworkEvents::read) {
            None => false,
            Some(Ok(changed)) => changed,
            Some(Err(_)) => {
                self.events = None;
                true
            }
        }
    }
}

/// Finds the connections in doubt that are not as they should be, and deletes them where that is wanted.
///
/// # Errors
/// Why connections can't be read.
pub fn forget(doubt: &Doubt, so_far: &Forgotten) -> io::Result<Forgotten> {
    let swept = sweep(doubt, so_far)?;
    Ok(Forgotten { found: swept.found, deleted: swept.deleted, stopped: swept.stopped, walks: 1 })
}

fn sweep(doubt: &Doubt, so_far: &Forgotten) -> io::Result<conntrack::Swept> {
    if conntrack::is_empty() {
        return Ok(conntrack::Swept::default());
    }
    let network = rtnetlink::network()?;
    let router = RefCell::new(Router::open()?);
    let interfaces = &mut |connection: &Connection| interfaces(&network, &mut router.borrow_mut(), connection);
    let routing = &mut Asked { network: &network, router: &router };
    let judge = |connection: &Connection| match doubt {
        Doubt::Source { config, departed } => {
            stale::has_lost_its_source(&config.policy, departed, &network, connection, interfaces)
        }
        Doubt::Policy { before, now } => {
            stale::is_affected(&before.policy, &now.policy, &network, connection, interfaces)
        }
        Doubt::Start { config, .. } => stale::kept_its_source(&config.policy, &network, connection, interfaces),
        Doubt::Repair { config } => stale::does_not_fit(&config.policy, &network, connection, interfaces),
        Doubt::Forwards { forwards, now } => {
            stale::is_of_forwards(forwards, &now.policy, &network, connection, routing)
        }
        Doubt::Unforwarded { config } => stale::is_not_forwarded(&config.policy, &network, connection, routing),
    };
    // At a start nobody is served before they are right. And where others are before those in doubt, these have to be
    // come to at some time.
    let bounds = match matches!(doubt, Doubt::Start { .. }) || (so_far.walks > 0 && so_far.found == 0) {
        true => Bounds { time: Duration::from_secs(1), ..Bounds::default() },
        false => Bounds::default(),
    };
    conntrack::sweep(&questions(doubt), bounds, doubt.deletes(), judge)
}

/// The kernel's routing tables, and what is known of them.
struct Asked<'a> {
    network: &'a Network,
    router: &'a RefCell<Router>,
}

impl stale::Routing for Asked<'_> {
    /// Also an address of a local route, which no interface has.
    fn is_local(&mut self, address: IpAddr) -> bool {
        let question = Question::from_this_host(address);
        self.network.owns(address) || matches!(self.router.borrow_mut().ask(&question), Ok(Routed::Local(_)))
    }

    /// With the connection's mark, which the packets have where each uplink has one.
    fn way_back(&mut self, connection: &Connection) -> Option<String> {
        let original = connection.original;
        let source = self.network.owns(original.destination).then_some(original.destination);
        let question = Question {
            source,
            mark: connection.mark,
            protocol: Some(original.protocol),
            port: original.ports.map(|(port, _)| port),
            ..Question::from_this_host(original.source)
        };
        let interface = self.router.borrow_mut().ask(&question).ok()?.hop()?.interface;
        self.network.name(interface).map(str::to_owned)
    }
}

/// What the kernel is asked for: no more than what may be in doubt.
fn questions(doubt: &Doubt) -> Vec<(Family, Filter)> {
    let of = |policy: &Policy| Family::ALL.into_iter().filter(|family| policy.enables(*family)).collect::<Vec<_>>();
    match doubt {
        Doubt::Source { config, departed } => given(&config.policy, departed),
        Doubt::Policy { before, now } => {
            let families: BTreeSet<Family> = of(&before.policy).into_iter().chain(of(&now.policy)).collect();
            families.into_iter().map(|family| (family, Filter::default())).collect()
        }
        Doubt::Start { families, .. } => {
            let kept = Filter { without: Status::SRC_NAT | Status::DST_NAT, ..Filter::default() };
            families.iter().map(|family| (*family, kept)).collect()
        }
        Doubt::Repair { config } => {
            let kept = Filter { without: Status::SRC_NAT, ..Filter::default() };
            let kept = of(&config.policy).into_iter().map(|family| (family, kept));
            kept.chain(given(&config.policy, &BTreeSet::new())).collect()
        }
        Doubt::Forwards { forwards, .. } => forwarded(forwards),
        Doubt::Unforwarded { config } => forwarded(&config.policy.forwards),
    }
}

/// UDP of the families that have forwards: what was led nowhere differs in nothing else.
fn forwarded(forwards: &[Forward]) -> Vec<(Family, Filter)> {
    let served = |family: &Family| forwards.iter().any(|forward| forward.serves(*family));
    let udp = Filter { udp: true, ..Filter::default() };
    Family::ALL.into_iter().filter(served).map(|family| (family, udp)).collect()
}

/// Connections whose source became an address that the policy gives, or gave.
fn given(policy: &Policy, departed: &BTreeSet<IpAddr>) -> Vec<(Family, Filter)> {
    if !policy.follows_routes() {
        return fixed(policy, departed);
    }
    // Which addresses routes preferred is only known of the present ones.
    let translated = Filter { with: Status::SRC_NAT, ..Filter::default() };
    let families = Family::ALL.into_iter().filter(|family| policy.enables(*family));
    families.map(|family| (family, translated)).collect()
}

/// Connections whose source became an address of the policy's, or one that it had.
fn fixed(policy: &Policy, departed: &BTreeSet<IpAddr>) -> Vec<(Family, Filter)> {
    let ranges = stale::fixed_ranges(policy);
    let singles = ranges.iter().filter(|range| range.is_one()).map(|range| range.first());
    let addresses: BTreeSet<IpAddr> = singles.chain(departed.iter().copied()).collect();
    let translated = Filter { with: Status::SRC_NAT, ..Filter::default() };
    if ranges.iter().all(|range| range.is_one()) && addresses.len() <= MOST_ADDRESSES {
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let v4 = v4.into_iter().map(|address| (Family::V4, Filter { seen_source: Some(address), ..translated }));
        // The kernel can't be asked for one of these: all of them in one walk.
        return v4.chain((!v6.is_empty()).then_some((Family::V6, translated))).collect();
    }
    let families: BTreeSet<Family> =
        ranges.iter().map(|range| range.family()).chain(addresses.iter().map(|address| Family::of(*address))).collect();
    families.into_iter().map(|family| (family, translated)).collect()
}

/// The interfaces through which the connection may leave; none where anything about that is not known.
fn interfaces(network: &Network, router: &mut Router, connection: &Connection) -> Vec<String> {
    let mut interface = |question| Some(router.ask(&question).ok()?.hop()?.interface);
    let source = connection.original.source;
    let from = match network.owns(source) {
        true => None,
        false => match interface(Question::from_this_host(source)) {
            None => return Vec::new(),
            from => from,
        },
    };
    let destination = connection.target();
    let mut found = BTreeSet::new();
    for mark in BTreeSet::from([0, connection.mark]) {
        let (protocol, port) = (Some(connection.original.protocol), connection.reply.ports.map(|(port, _)| port));
        match interface(Question { destination, source: Some(source), from, mark, protocol, port }) {
            Some(interface) => found.extend(network.name(interface).map(str::to_owned)),
            None => return Vec::new(),
        }
    }
    // Of several hops the kernel names one.
    let hops = network.hops_to(destination);
    if hops.len() > 1 {
        found.extend(hops.into_iter().map(|(name, _)| name.to_owned()));
    }
    found.into_iter().collect()
}
