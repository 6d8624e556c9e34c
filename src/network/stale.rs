//! Which connections are not what the policy would make of them now.
//!
//! A connection keeps what its first packet was given. Where it matters that it does not, it has to be forgotten: the next
//! packet is asked again. What can't be known of a connection (packet marks, IPsec) speaks for leaving it alone, and a TCP
//! connection of a local socket is never named.

use super::{Connection, Network, Route, Status};
use crate::policy::{
    AddressRange, Arrival, Family, Flow, Forward, ForwardVerdict, Policy, Protocol, Section, Snat, Verdict,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The interfaces, by their names, through which the packets of a connection may leave now: several where the kernel
/// could choose or a mark is not known, none when no route is known.
pub type OutInterfaces<'a> = &'a mut dyn FnMut(&Connection) -> Vec<String>;

/// The addresses that a policy gives to sources, of the families that it is asked for; not those that routes prefer.
pub fn fixed_ranges(policy: &Policy) -> Vec<AddressRange> {
    let ranges = policy.sections().flat_map(|section| Family::ALL.map(|family| fixed_range(&section, family)));
    ranges.flatten().filter(|range| policy.enables(range.family())).collect()
}

fn fixed_range(section: &Section<'_>, family: Family) -> Option<AddressRange> {
    match section.snat.value.verdict(family, None) {
        Verdict::Snat(range) => Some(range),
        Verdict::Return | Verdict::Masquerade => None,
    }
}

/// True when sources become addresses that may leave the host.
pub fn gives_addresses(policy: &Policy) -> bool {
    policy.follows_routes() || !fixed_ranges(policy).is_empty()
}

/// The host's own addresses that a policy gives to sources.
pub fn fixed_addresses(policy: &Policy, network: &Network) -> BTreeSet<IpAddr> {
    let preferred = policy.follows_routes().then(|| preferred(network)).into_iter().flatten();
    fixed_ranges(policy).into_iter().flat_map(|range| network.owned(range)).chain(preferred).collect()
}

/// The addresses that routes prefer.
fn preferred(network: &Network) -> impl Iterator<Item = IpAddr> {
    network.routes().iter().filter_map(|route| route.source)
}

/// True when the connection was given an address that left the host, or one that no entry gives to what leaves through
/// its present interface. Masqueraded connections are the kernel's own business: it forgets them.
pub fn has_lost_its_source(
    policy: &Policy,
    departed: &BTreeSet<IpAddr>,
    network: &Network,
    connection: &Connection,
    interfaces: OutInterfaces<'_>,
) -> bool {
    if !connection.is_source_translated() || is_local_tcp(network, connection) {
        return false;
    }
    let source = connection.seen_source();
    if departed.contains(&source) {
        return true;
    }
    let family = connection.family();
    let may_be_preferred = || is_preferred(network, source);
    let gives = |section: &Section<'_>| match section.snat.value {
        Snat::RouteSource => may_be_preferred(),
        _ => fixed_range(section, family).is_some_and(|range| range.contains(source)),
    };
    let from = |section: &Section<'_>| {
        let any_interface = Flow { out_interface: None, ..flow(network, connection, None, 0) };
        section.out_of_scope(&any_interface).is_none()
    };
    let givers: Vec<Section<'_>> = policy.sections().filter(|section| gives(section) && from(section)).collect();
    let is_everywhere =
        |section: &Section<'_>| section.out_interfaces.is_empty() && section.snat.value != Snat::RouteSource;
    if givers.is_empty() || givers.iter().any(is_everywhere) {
        return false;
    }
    let interfaces = interfaces(connection);
    let leaves_scope = |out: &String| {
        let flow = flow(network, connection, Some(out), 0);
        givers.iter().all(|section| {
            let leaves_route = section.snat.value == Snat::RouteSource && !belongs_to(network, out, source);
            leaves_route || section.out_of_scope(&flow).is_some()
        })
    };
    !interfaces.is_empty() && interfaces.iter().all(leaves_scope)
}

/// True when a route may have preferred the address: an IPv6 route to a network of its own names none, so that an address
/// can go on being one of an interface that no route prefers any more.
fn is_preferred(network: &Network, address: IpAddr) -> bool {
    let is_of_a_link = || network.interfaces_with(address).iter().any(|name| *name != "lo");
    preferred(network).any(|source| source == address) || is_of_a_link()
}

/// True when packets with this source may leave through the interface: it has the address, or a route through it prefers
/// it.
fn belongs_to(network: &Network, interface: &str, source: IpAddr) -> bool {
    let leads_there = |route: &&Route| route.hops.iter().any(|hop| network.name(hop.interface) == Some(interface));
    network.has(interface, source)
        || network.routes().iter().filter(leads_there).any(|route| route.source == Some(source))
}

/// True when another policy treats the connection in another way, and it is not by chance what that one makes of it.
pub fn is_affected(
    before: &Policy,
    now: &Policy,
    network: &Network,
    connection: &Connection,
    interfaces: OutInterfaces<'_>,
) -> bool {
    let (exempted, exempts) = (before.exempt_ipsec.value, now.exempt_ipsec.value);
    // What was translated although IPsec was exempt is not of IPsec.
    let may_be_ipsec = match connection.is_source_translated() {
        true => exempts && !exempted,
        false => exempts || exempted,
    };
    all_judgements(network, connection, interfaces, |flow, out| {
        [false, may_be_ipsec].into_iter().all(|ipsec| {
            let flow = Flow { ipsec, ..flow.clone() };
            let (old, new) = (verdict(before, &flow), verdict(now, &flow));
            old != new && !fits(new, network, connection, out)
        })
    })
}

/// True when the connection keeps its source although the policy translates it, as far as can be known.
///
/// For those that may be forgotten without harm: what a packet mark or IPsec exempts is exempt again.
pub fn kept_its_source(
    policy: &Policy,
    network: &Network,
    connection: &Connection,
    interfaces: OutInterfaces<'_>,
) -> bool {
    let is_untouched = !connection.is_source_translated() && connection.original.destination == connection.target();
    let translates = |flow: &Flow| policy.verdict(flow).0 != Verdict::Return;
    // To ask for its routes takes longer than all of this, and most of those that keep their source are meant to.
    let may_be = |out| translates(&flow(network, connection, Some(out), 0));
    is_untouched
        && network.names().any(may_be)
        && all_judgements(network, connection, interfaces, |flow, _| translates(flow))
}

/// True when the connection is not what the policy makes of new ones, and that can be seen for certain: it keeps its source
/// although the policy translates it, or has an address of the policy's although it should not.
///
/// A forwarded port is another matter, and so is what leaves as it came, which may be bridged.
pub fn does_not_fit(
    policy: &Policy,
    network: &Network,
    connection: &Connection,
    interfaces: OutInterfaces<'_>,
) -> bool {
    let may_be_exempt = !policy.exempt_marks.is_empty() || policy.exempt_ipsec.value;
    let translated = connection.is_source_translated();
    if connection.original.destination != connection.target() || (!translated && may_be_exempt) {
        return false;
    }
    let is_given = || {
        let source = connection.seen_source();
        fixed_ranges(policy).iter().any(|range| range.contains(source))
            || policy.follows_routes() && preferred(network).any(|preferred| preferred == source)
    };
    if translated && !is_given() {
        return false;
    }
    let came = network.interface_to(connection.original.source);
    all_judgements(network, connection, interfaces, |flow, out| {
        let keeps = policy.verdict(flow).0 == Verdict::Return;
        keeps == translated && came != Some(out)
    })
}

/// What the kernel says of flows for this host, as it routes them now.
pub trait Routing {
    /// Whether an address is this host's.
    fn is_local(&mut self, address: IpAddr) -> bool;

    /// The interface by which the answers to a connection leave: it is taken for that through which it came.
    fn way_back(&mut self, connection: &Connection) -> Option<String>;
}

/// True when a UDP flow is one of the forwards', which are new, changed or gone, and not what it would be now: one of them
/// led it to its target, or it is for a port of this host that they are about. Flows to the same port of another host are
/// not.
///
/// UDP has no end that anybody could see: while a client goes on, its entry does, and with it what its first packet was
/// given. TCP is left alone.
pub fn is_of_forwards(
    forwards: &[Forward],
    now: &Policy,
    network: &Network,
    connection: &Connection,
    routing: &mut dyn Routing,
) -> bool {
    let Some(arrival) = arrival(now, network, connection, routing) else { return false };
    let led = |forward: &&Forward| {
        connection.status.has(Status::DST_NAT)
            && forward.protocols.contains(&arrival.protocol)
            && forward.host_ports.contains(arrival.port)
            && is_to(connection, forward.target(connection.family()), forward.target_port(arrival.port))
    };
    let led_by: Vec<&Forward> = forwards.iter().filter(led).collect();
    if led_by.is_empty() && !forwards.iter().any(|forward| forward.is_for(&arrival)) {
        return false;
    }
    match now.forward(&arrival) {
        // Another entry may have led it to the same target as somebody else (`hairpin`).
        ForwardVerdict::To { forward, address, port } if is_to(connection, Some(address), port) => {
            led_by.iter().any(|other| other.without_places() != forward.without_places())
        }
        ForwardVerdict::To { .. } => !led_by.is_empty() || routing.is_local(arrival.destination),
        ForwardVerdict::Keep | ForwardVerdict::Refused(_) => !led_by.is_empty(),
    }
}

/// True when a UDP flow for this host would be led to a target if it began now, and was not.
pub fn is_not_forwarded(
    policy: &Policy,
    network: &Network,
    connection: &Connection,
    routing: &mut dyn Routing,
) -> bool {
    let Some(arrival) = arrival(policy, network, connection, routing) else { return false };
    match policy.forward(&arrival) {
        ForwardVerdict::To { address, port, .. } => {
            !is_to(connection, Some(address), port) && routing.is_local(arrival.destination)
        }
        _ => false,
    }
}

fn is_to(connection: &Connection, address: Option<IpAddr>, port: u16) -> bool {
    address == Some(connection.target()) && connection.reply.ports.is_some_and(|(source, _)| source == port)
}

/// The first packet of a UDP flow, as if its destination were this host's. The kernel does not keep through which interface
/// it came: it is asked for it where a forward asks.
fn arrival(policy: &Policy, network: &Network, connection: &Connection, routing: &mut dyn Routing) -> Option<Arrival> {
    let original = connection.original;
    let (_, port) = original.ports.filter(|_| original.protocol == Protocol::Udp)?;
    let arrival = Arrival {
        source: Some(original.source),
        in_interface: None,
        from_host: network.owns(original.source),
        destination: original.destination,
        destination_is_local: true,
        protocol: original.protocol,
        port,
    };
    let asks = |forward: &Forward| !forward.in_interfaces.is_empty() && forward.is_for(&arrival);
    let is_asked = !arrival.from_host && policy.forwards.iter().any(asks);
    let in_interface = if is_asked { routing.way_back(connection) } else { None };
    Some(Arrival { in_interface, ..arrival })
}

/// True when a connection that leaves the host is judged so for every interface that it may leave through.
fn all_judgements(
    network: &Network,
    connection: &Connection,
    interfaces: OutInterfaces<'_>,
    judge: impl Fn(&Flow, &str) -> bool,
) -> bool {
    if network.owns(connection.target()) || is_local_tcp(network, connection) {
        return false;
    }
    let interfaces = interfaces(connection);
    let marks = [0, connection.mark];
    !interfaces.is_empty()
        && interfaces
            .iter()
            .all(|out| marks.iter().all(|mark| judge(&flow(network, connection, Some(out), *mark), out)))
}

fn is_local_tcp(network: &Network, connection: &Connection) -> bool {
    connection.original.protocol == Protocol::Tcp && connection.is_of_a_local_socket(|address| network.owns(address))
}

/// The first packet of the connection, as it would be asked now.
fn flow(network: &Network, connection: &Connection, out: Option<&str>, mark: u32) -> Flow {
    let source = connection.original.source;
    let destination = connection.target();
    let mut connected = network.connected_networks_to(destination);
    connected.retain(|(interface, _)| out.is_none_or(|out| out == *interface));
    let holds = connected.iter().find(|(_, network)| network.contains(source));
    let connected = holds.or(connected.first());
    Flow {
        source: Some(source),
        source_is_local: network.owns(source),
        source_on_out_interface: out.is_some_and(|out| network.has(out, source)),
        out_interface: out.map(str::to_owned),
        protocol: connection.original.protocol,
        mark,
        dnated: connection.original.destination != destination,
        destination_port: connection.reply.ports.map(|(port, _)| port),
        network: connected.map(|(_, network)| *network),
        preferred_source: out.and_then(|out| network.preferred_source(out, destination)),
        ..Flow::forwarded_to(destination)
    }
}

/// What becomes of the source of a flow. What a forward has led to its target bears the mark that the forward sets.
fn verdict(policy: &Policy, flow: &Flow) -> Verdict {
    policy.verdict(&Flow { mark: policy.mark_behind_forwards(flow), ..flow.clone() }).0
}

/// True when the connection is what the verdict would make of it.
fn fits(verdict: Verdict, network: &Network, connection: &Connection, out: &str) -> bool {
    let source = connection.seen_source();
    match verdict {
        Verdict::Return => source == connection.original.source,
        Verdict::Masquerade => connection.is_source_translated() && network.has(out, source),
        Verdict::Snat(range) => range.contains(source),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Interface, Status, Tuple};
    use super::*;
    use crate::policy::{
        Egress, Hairpin, HostAddress, InterfacePattern, MaskedMark, PortRange, Prefix, PrefixSet, SnatAddresses,
        WithOrigin,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefixes(list: &[&str]) -> PrefixSet {
        PrefixSet::from_prefixes(list.iter().map(|text| text.parse::<Prefix>().unwrap()), &Default::default())
    }

    fn listed<T>(value: T) -> WithOrigin<T> {
        WithOrigin { value, origin: Default::default() }
    }

    fn snat(text: &str) -> WithOrigin<Snat> {
        let mut addresses = SnatAddresses::default();
        addresses.add(text.parse().unwrap());
        listed(Snat::To(addresses))
    }

    fn entry(number: u8, interface: &str, source: &str, address: &str) -> Egress {
        Egress {
            number,
            name: number.to_string(),
            origin: Default::default(),
            out_interfaces: vec![listed(interface.parse::<InterfacePattern>().unwrap())],
            sources: prefixes(&[source]),
            excluded_sources: PrefixSet::default(),
            snat: Some(snat(address)),
            exceptions: None,
            exempt: None,
            random_fully: None,
            to_ports: None,
        }
    }

    /// Guests leave `wan0` as 203.0.113.77, everybody else is masqueraded.
    fn policy() -> Policy {
        Policy { egress: vec![entry(1, "wan0", "192.168.0.0/16", "203.0.113.77")], ..Policy::default() }
    }

    fn network() -> Network {
        let interfaces = [(1, "lo"), (2, "lan0"), (3, "wan0"), (4, "wan1")];
        let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned(), is_up: true };
        let addresses = [(2, "192.168.77.1"), (3, "203.0.113.1"), (3, "203.0.113.77"), (4, "198.51.100.1")];
        let address = |(interface, text): (u32, &str)| Address {
            interface,
            address: ip(text),
            network: Prefix::containing(ip(text), 24).unwrap(),
            is_secondary: false,
        };
        Network::new(interfaces.map(interface).to_vec(), addresses.map(address).to_vec(), Vec::new())
    }

    /// From a source to a destination, which sees another source.
    fn connection(protocol: Protocol, source: &str, destination: &str, seen: &str) -> Connection {
        let tuple = |source: &str, destination: &str| Tuple {
            source: ip(source),
            destination: ip(destination),
            protocol,
            ports: Some((4000, 53)),
        };
        let status = if source == seen { 0 } else { Status::SRC_NAT };
        Connection {
            original: tuple(source, destination),
            reply: tuple(destination, seen),
            status: Status(status),
            id: 1,
            mark: 0,
            zone: 0,
            timeout: None,
        }
    }

    fn through(interfaces: &[&str]) -> impl FnMut(&Connection) -> Vec<String> {
        let interfaces: Vec<String> = interfaces.iter().map(|out| (*out).to_owned()).collect();
        move |_| interfaces.clone()
    }

    const CLIENT: &str = "192.168.77.2";
    const FAR: &str = "8.8.8.8";

    #[test]
    fn a_fixed_source_is_lost_with_its_address_or_its_interface() {
        use Protocol::{Tcp, Udp};
        let gone: BTreeSet<IpAddr> = [ip("203.0.113.77")].into();
        let none = BTreeSet::new();
        let fixed = "203.0.113.77";
        let cases: &[(Connection, &BTreeSet<IpAddr>, &[&str], bool)] = &[
            (connection(Udp, CLIENT, FAR, fixed), &none, &["wan0"], false),
            (connection(Udp, CLIENT, FAR, fixed), &gone, &["wan0"], true),
            (connection(Tcp, CLIENT, FAR, fixed), &none, &["wan1"], true),
            // The kernel may choose the right one, or nothing leads there for the moment.
            (connection(Udp, CLIENT, FAR, fixed), &none, &["wan0", "wan1"], false),
            (connection(Udp, CLIENT, FAR, fixed), &none, &[], false),
            // Masqueraded, whatever becomes of it.
            (connection(Udp, CLIENT, FAR, "203.0.113.1"), &gone, &["wan1"], false),
            // Not of this entry: another program's translation.
            (connection(Udp, "10.1.1.1", FAR, fixed), &none, &["wan1"], false),
            (connection(Udp, CLIENT, FAR, CLIENT), &gone, &["wan1"], false),
            // TCP of the host itself, and UDP.
            (connection(Tcp, "192.168.77.1", FAR, fixed), &gone, &["wan1"], false),
            (connection(Udp, "192.168.77.1", FAR, fixed), &gone, &["wan1"], true),
        ];
        for (connection, departed, interfaces, expected) in cases {
            let lost = has_lost_its_source(&policy(), departed, &network(), connection, &mut through(interfaces));
            assert_eq!(lost, *expected, "{connection:?} through {interfaces:?}");
        }
    }

    #[test]
    fn an_address_of_an_entry_for_every_interface_is_lost_with_the_address_only() {
        let everywhere = Policy { snat: snat("203.0.113.77"), ..Policy::default() };
        let flow = connection(Protocol::Udp, CLIENT, FAR, "203.0.113.77");
        let lost = |departed: &BTreeSet<IpAddr>| {
            has_lost_its_source(&everywhere, departed, &network(), &flow, &mut through(&["wan1"]))
        };
        assert!(!lost(&BTreeSet::new()) && lost(&[ip("203.0.113.77")].into()));
        assert_eq!(fixed_addresses(&everywhere, &network()), [ip("203.0.113.77")].into());
        assert_eq!(fixed_ranges(&Policy::default()), []);
    }

    #[test]
    fn what_kept_its_source_at_a_start_is_what_every_way_would_translate() {
        use Protocol::{Icmp, Tcp, Udp};
        let exempt = Policy { exempt: prefixes(&["8.8.8.0/24"]), ..Policy::default() };
        let marks = Policy { exempt_marks: vec![listed("0x100/0x100".parse().unwrap())], ..Policy::default() };
        let uplink = Policy { out_interfaces: vec![listed("wan0".parse().unwrap())], ..Policy::default() };
        let plain = Policy::default();
        let cases: &[(&Policy, Connection, &[&str], bool)] = &[
            (&plain, connection(Udp, CLIENT, FAR, CLIENT), &["wan0"], true),
            (&plain, connection(Icmp, CLIENT, FAR, CLIENT), &["wan0"], true),
            (&plain, connection(Tcp, CLIENT, FAR, CLIENT), &["wan0"], true),
            // Where marks exempt, it is exempt again.
            (&marks, connection(Udp, CLIENT, FAR, CLIENT), &["wan0"], true),
            (&marks, Connection { mark: 0x100, ..connection(Udp, CLIENT, FAR, CLIENT) }, &["wan0"], false),
            (&exempt, connection(Udp, CLIENT, FAR, CLIENT), &["wan0"], false),
            (&plain, connection(Udp, CLIENT, FAR, "203.0.113.1"), &["wan0"], false),
            (&uplink, connection(Udp, CLIENT, FAR, CLIENT), &["wan0"], true),
            (&uplink, connection(Udp, CLIENT, FAR, CLIENT), &["wan1"], false),
            (&uplink, connection(Udp, CLIENT, FAR, CLIENT), &["wan0", "wan1"], false),
            (&plain, connection(Udp, CLIENT, FAR, CLIENT), &[], false),
            // Of the host itself: nothing to hide, and TCP is never touched.
            (&plain, connection(Udp, "203.0.113.1", FAR, "203.0.113.1"), &["wan0"], false),
            (&plain, connection(Tcp, "192.168.77.1", FAR, "192.168.77.1"), &["wan0"], false),
            (&plain, connection(Udp, "192.168.77.1", FAR, "192.168.77.1"), &["wan0"], true),
        ];
        for (policy, connection, interfaces, expected) in cases {
            let kept = kept_its_source(policy, &network(), connection, &mut through(interfaces));
            assert_eq!(kept, *expected, "{connection:?} through {interfaces:?}");
        }
    }

    #[test]
    fn a_changed_policy_affects_what_it_treats_in_another_way() {
        use Protocol::{Tcp, Udp};
        let exempt = Policy { exempt: prefixes(&["8.0.0.0/8"]), ..policy() };
        let plain = Policy::default();
        let judged = |before: &Policy, now: &Policy, connection: &Connection| {
            is_affected(before, now, &network(), connection, &mut through(&["wan0"]))
        };
        let fixed = connection(Udp, CLIENT, FAR, "203.0.113.77");
        let kept = connection(Tcp, CLIENT, FAR, CLIENT);
        assert!(judged(&policy(), &exempt, &fixed) && judged(&exempt, &policy(), &kept));
        assert!(!judged(&policy(), &exempt, &kept), "it keeps its source already");
        assert!(!judged(&exempt, &policy(), &fixed), "it has the address already");
        assert!(!judged(&policy(), &plain, &fixed), "masquerading may give it an address of wan0, and that is one");
        let elsewhere = connection(Udp, CLIENT, FAR, "198.51.100.1");
        assert!(judged(&policy(), &plain, &elsewhere), "no address of wan0");
        assert!(!judged(&policy(), &plain, &connection(Udp, CLIENT, FAR, "203.0.113.1")));
        assert!(!judged(&policy(), &policy(), &fixed));
        assert!(!judged(&exempt, &policy(), &connection(Tcp, "192.168.77.1", FAR, "192.168.77.1")), "a local socket");
        let to_us = connection(Udp, CLIENT, "203.0.113.1", CLIENT);
        assert!(!judged(&exempt, &policy(), &to_us), "it does not leave the host");
        let nowhere = is_affected(&exempt, &policy(), &network(), &kept, &mut through(&[]));
        assert!(!nowhere, "no route leads there");
    }

    #[test]
    fn what_the_connection_mark_may_exempt_is_not_affected() {
        let marks = vec![listed("0x100/0xff00".parse::<MaskedMark>().unwrap())];
        let exempt = Policy { exempt_marks: marks, ..Policy::default() };
        let marked = Connection { mark: 0x100, ..connection(Protocol::Udp, CLIENT, FAR, CLIENT) };
        assert!(!is_affected(&exempt, &Policy::default(), &network(), &marked, &mut through(&["wan0"])));
        assert!(!does_not_fit(&exempt, &network(), &marked, &mut through(&["wan0"])));
    }

    #[test]
    fn what_ipsec_may_exempt_is_not_affected() {
        let ipsec = |policy: Policy| Policy { exempt_ipsec: listed(true), ..policy };
        let judged = |before: &Policy, now: &Policy, seen: &str| {
            let flow = connection(Protocol::Udp, CLIENT, FAR, seen);
            is_affected(before, now, &network(), &flow, &mut through(&["wan0"]))
        };
        let exempt = || Policy { exempt: prefixes(&["8.0.0.0/8"]), ..policy() };
        assert!(!judged(&ipsec(exempt()), &ipsec(policy()), CLIENT), "it may be of IPsec");
        assert!(!judged(&ipsec(policy()), &policy(), CLIENT) && !judged(&policy(), &ipsec(policy()), "203.0.113.77"));
        assert!(judged(&ipsec(policy()), &ipsec(exempt()), "203.0.113.77"), "it is not: it was translated");
        assert!(judged(&exempt(), &policy(), CLIENT));
    }

    /// Answers leave by this interface, where one is known.
    struct By(Option<&'static str>);

    impl Routing for By {
        fn is_local(&mut self, address: IpAddr) -> bool {
            network().owns(address)
        }

        fn way_back(&mut self, _: &Connection) -> Option<String> {
            self.0.map(str::to_owned)
        }
    }

    fn forward(port: u16) -> Forward {
        Forward {
            number: 1,
            origin: Default::default(),
            host_ports: PortRange { first: 53, last: 54 },
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            host: HostAddress::Any,
            v4: "192.168.77.2".parse().ok(),
            v6: None,
            port,
            in_interfaces: Vec::new(),
            sources: PrefixSet::default(),
            excluded_sources: prefixes(&["100.64.0.0/10"]),
            hairpin: Hairpin::Auto,
            localhost: false,
        }
    }

    /// From a source to port 53 of a destination; it became a target.
    fn led(source: &str, destination: &str, to: (&str, u16)) -> Connection {
        let mut connection = connection(Protocol::Udp, source, destination, source);
        (connection.reply.source, connection.reply.ports) = (ip(to.0), Some((to.1, 4000)));
        connection.status = Status(Status::DST_NAT);
        connection
    }

    #[test]
    fn udp_flows_of_a_forward_are_those_for_its_ports_of_this_host_and_those_that_it_led() {
        let plain = |protocol, to: &str| connection(protocol, FAR, to, FAR);
        let bound = Forward { host: HostAddress::One(ip("203.0.113.77")), ..forward(53) };
        let local = Forward { localhost: true, ..forward(53) };
        let shifted = forward(1053);
        let (any, target, here) = (forward(53), "192.168.77.2", "203.0.113.1");
        let cases: &[(&Forward, Connection, bool)] = &[
            (&any, plain(Protocol::Udp, here), true),
            (&any, plain(Protocol::Tcp, here), false),
            (&any, plain(Protocol::Udp, "198.18.0.1"), false),
            (&any, plain(Protocol::Udp, target), false),
            (&any, connection(Protocol::Udp, "127.0.0.1", "127.0.0.53", "127.0.0.1"), false),
            (&local, connection(Protocol::Udp, "127.0.0.1", "127.0.0.53", "127.0.0.1"), true),
            (&bound, plain(Protocol::Udp, here), false),
            (&bound, plain(Protocol::Udp, "203.0.113.77"), true),
            // Its host's address is not there any more.
            (&any, led(FAR, "203.0.113.66", (target, 53)), true),
            (&shifted, led(FAR, "203.0.113.66", (target, 1053)), true),
            // Another program's.
            (&any, led(FAR, "203.0.113.66", (target, 1053)), false),
            (&any, led(FAR, "203.0.113.66", ("192.168.77.3", 53)), false),
        ];
        for (forward, flow, expected) in cases {
            let led = flow.status.has(Status::DST_NAT);
            for is_there in [true, false] {
                let forwards = vec![(*forward).clone()];
                let now = Policy { forwards: if is_there { forwards.clone() } else { vec![] }, ..Policy::default() };
                let is = is_of_forwards(&forwards, &now, &network(), flow, &mut By(None));
                // A new one did not lead what goes elsewhere; what a gone one did not lead is as it should be.
                assert_eq!(is, *expected && is_there != led, "{flow:?} of {forward:?}, {is_there}");
            }
        }
        // It leads elsewhere now.
        let now = Policy { forwards: vec![forward(1053)], ..Policy::default() };
        let both = [forward(53), forward(1053)];
        let is = |flow| is_of_forwards(&both, &now, &network(), &flow, &mut By(None));
        assert_eq!([led(FAR, here, (target, 53)), led(FAR, here, (target, 1053))].map(is), [true, false]);
        // To the same target, which saw somebody else before.
        let hairpin = Forward { hairpin: Hairpin::Always, ..forward(1053) };
        let is = |flow| is_of_forwards(&[forward(1053), hairpin.clone()], &now, &network(), &flow, &mut By(None));
        assert!(is(led(FAR, here, (target, 1053))));
    }

    #[test]
    fn udp_flows_that_no_forward_led_are_known_by_their_target() {
        let policy = Policy { forwards: vec![forward(1053)], ..Policy::default() };
        let is = |flow: &Connection| is_not_forwarded(&policy, &network(), flow, &mut By(None));
        let (target, here) = ("192.168.77.2", "203.0.113.1");
        assert!(is(&connection(Protocol::Udp, FAR, here, FAR)) && is(&led(FAR, here, (target, 53))));
        assert!(!is(&led(FAR, here, (target, 1053))), "as it should be");
        assert!(!is(&connection(Protocol::Tcp, FAR, here, FAR)));
        assert!(!is(&connection(Protocol::Udp, "100.64.0.9", here, "100.64.0.9")), "refused by a gate");
        assert!(!is(&connection(Protocol::Udp, FAR, "198.18.0.1", FAR)), "another host's port");
    }

    #[test]
    fn udp_flows_are_judged_by_the_forward_of_the_interface_through_which_they_came() {
        let through = |port, out: &str| Forward {
            in_interfaces: vec![listed(out.parse::<InterfacePattern>().unwrap())],
            ..forward(port)
        };
        let policy = Policy { forwards: vec![through(1053, "wan0"), through(2053, "wan1")], ..Policy::default() };
        let (target, here) = ("192.168.77.2", "203.0.113.1");
        let second = led(FAR, here, (target, 2053));
        let host = connection(Protocol::Udp, FAR, here, FAR);
        for (flow, by, left) in [
            (&second, Some("wan1"), true),
            (&second, Some("wan0"), false),
            (&host, Some("lan0"), true),
            (&host, Some("wan1"), false),
            (&host, None, false),
        ] {
            assert_eq!(!is_not_forwarded(&policy, &network(), flow, &mut By(by)), left, "{flow:?} by {by:?}");
        }
        // The first one changed: what the second one has led is none of its flows.
        let changed = [through(53, "wan0"), through(1053, "wan0")];
        let judged = |flow, by| is_of_forwards(&changed, &policy, &network(), flow, &mut By(by));
        assert!(!judged(&second, Some("wan1")) && judged(&host, Some("wan0")) && !judged(&host, Some("lan0")));
    }

    #[test]
    fn what_does_not_fit_after_a_repair() {
        use Protocol::{Tcp, Udp};
        let judged = |connection: &Connection, interfaces: &[&str]| {
            does_not_fit(&policy(), &network(), connection, &mut through(interfaces))
        };
        assert!(judged(&connection(Udp, CLIENT, FAR, CLIENT), &["wan0"]));
        assert!(judged(&connection(Tcp, CLIENT, FAR, CLIENT), &["wan0"]));
        assert!(!judged(&connection(Udp, CLIENT, FAR, "203.0.113.1"), &["wan0"]), "another program's may be first");
        assert!(!judged(&connection(Udp, CLIENT, FAR, CLIENT), &[]));
        assert!(!judged(&connection(Tcp, "192.168.77.1", FAR, "192.168.77.1"), &["wan0"]), "a local socket");
        assert!(!judged(&connection(Udp, CLIENT, "192.168.77.1", CLIENT), &["lo"]), "it is for us");
        let ours = connection(Udp, CLIENT, "8.8.4.4", "203.0.113.77");
        assert!(!judged(&ours, &["wan0"]));
        let exempt = Policy { exempt: prefixes(&["8.8.4.0/24"]), ..policy() };
        assert!(does_not_fit(&exempt, &network(), &ours, &mut through(&["wan0"])));
        let mut forwarded = connection(Udp, "8.8.8.8", "192.168.77.2", "8.8.8.8");
        forwarded.original.destination = ip("203.0.113.1");
        assert!(!judged(&forwarded, &["lan0"]), "a forwarded port keeps its client");
    }
}
