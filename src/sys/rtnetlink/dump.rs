//! All of the host's interfaces, addresses and routes.

use super::super::nfnetlink::message::{Malformed, Message};
use super::super::nfnetlink::socket::Socket;
use super::super::nfnetlink::{Answer, Consistency};
use super::read::{ADDRESS_HEADER, GET_NEXT_HOP, LINK_HEADER, NEXT_HOP_HEADER, NextHop, RULE_HEADER};
use super::{Question, ROUTE_HEADER, Read, Router, read_any, request};
use crate::network::{Hop, Network, Route, RouteKind};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

/// How often a dump is repeated that something changed under. What changed is also told by an event.
const TRIES: u32 = 4;
/// A dump comes in datagrams of at most 32 KiB.
const BUFFER: usize = 1 << 16;

/// Reads the network of this namespace.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn network() -> io::Result<Network> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let (mut interfaces, mut addresses, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut by_object, mut of_policy) = (Vec::new(), BTreeSet::new());
    let kinds =
        [(libc::RTM_GETLINK, LINK_HEADER), (libc::RTM_GETADDR, ADDRESS_HEADER), (libc::RTM_GETROUTE, ROUTE_HEADER)];
    for (kind, header) in kinds {
        for read in dump(&socket, kind, &vec![0; header], any)? {
            match read {
                Read::Interface(interface) => interfaces.push(interface),
                Read::Address(address) => addresses.push(address),
                Read::Route(route) => routes.push(route),
                Read::RouteBy(id, route) => by_object.push((id, route)),
                Read::RouteOfPolicy(interfaces) => of_policy.extend(interfaces),
                Read::NextHop(_) | Read::OtherTable | Read::Nothing => {}
            }
        }
    }
    if !by_object.is_empty() {
        let objects = next_hops(&socket)?;
        routes.extend(by_object.into_iter().map(|(id, route)| resolved(route, id, &objects)));
    }
    Ok(Network::new(interfaces, addresses, routes).with_uplinks_of_policy(of_policy))
}

/// Reads the network of this namespace; where there is policy routing, the kernel is asked how it reaches some addresses.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn network_towards(addresses: &BTreeSet<IpAddr>) -> io::Result<Network> {
    let network = network()?;
    let rules = match dump(&Socket::open(libc::NETLINK_ROUTE)?, libc::RTM_GETRULE, &[0; RULE_HEADER], any) {
        // A kernel without policy routing.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        rules => rules?,
    };
    if !rules.contains(&Read::OtherTable) {
        return Ok(network);
    }
    let mut router = Router::open()?;
    let answers =
        addresses.iter().map(|address| Ok((*address, router.ask(&Question::from_this_host(*address))?.hop())));
    Ok(network.with_answers(answers.collect::<io::Result<_>>()?))
}

fn next_hops(socket: &Socket) -> io::Result<BTreeMap<u32, NextHop>> {
    let read = dump(socket, GET_NEXT_HOP, &[0; NEXT_HOP_HEADER], any)?.into_iter();
    let objects = read.filter_map(|read| if let Read::NextHop(object) = read { Some(object) } else { None });
    Ok(objects.map(|object| (object.id, object)).collect())
}

/// The route with the hops of its nexthop object, or of those that the object is a group of: a group has no groups in it.
fn resolved(route: Route, id: u32, objects: &BTreeMap<u32, NextHop>) -> Route {
    let Some(object) = objects.get(&id) else { return route };
    let members = object.group.iter().filter_map(|id| objects.get(id));
    let hops: Vec<Hop> = std::iter::once(object).chain(members).filter_map(|object| object.hop).collect();
    let kind = if object.refuses { RouteKind::Refusing } else { route.kind };
    Route { kind, hops, ..route }
}

fn any(message: &Message<'_>) -> Result<Option<Read>, Malformed> {
    read_any(message).map(Some)
}

/// Asks for all that a kind of request gives; `header` is the structure that the kind has, of a route's zeros: all there is.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn dump<T>(
    socket: &Socket,
    kind: u16,
    header: &[u8],
    read: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
) -> io::Result<Vec<T>> {
    let mut buffer = vec![0; BUFFER];
    let mut sequence = u32::from(kind) << 8;
    loop {
        sequence += 1;
        let mut found = Vec::new();
        socket.send(&request(kind, libc::NLM_F_DUMP, sequence, header, &[]))?;
        let consistency = Answer::with_end(sequence).receive(socket, &mut buffer, &mut |message| {
            found.extend(read(message)?);
            Ok(())
        })?;
        if consistency == Consistency::Whole || sequence & 0xff >= TRIES {
            return Ok(found);
        }
    }
}
