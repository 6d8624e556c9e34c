//! What on this host keeps port forwards from working, or what they take away from it. Pure.

use crate::policy::{Family, Forward, Hairpin, HostAddress, Policy, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The port of ssh: who loses it may lose the host.
const SSH: (Protocol, u16) = (Protocol::Tcp, 22);

/// A socket of a local process that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
    /// The address that it is bound to; the unspecified one for all.
    pub address: IpAddr,
    /// The port that it is bound to.
    pub port: u16,
    /// The program and its process, as `sshd[812]`, where they are known.
    pub program: Option<String>,
}

/// What the host's forwarding table says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is the host's own.
    Here,
    /// There is no route to it.
    Nowhere,
    /// It is reached through an interface.
    Through {
        /// The name of the interface.
        interface: String,
        /// A bridge that hands frames to our rules and sends none back to the port from which they came.
        one_way_bridge: bool,
    },
}

/// The host as far as advice of port forwards needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardView {
    /// Sockets on ports that are forwarded.
    pub listeners: Vec<Listener>,
    /// Where the targets and the addresses of `hostIP` are.
    pub places: BTreeMap<IpAddr, Place>,
    /// Families that the host does not forward.
    pub forwarding_off: BTreeSet<Family>,
}

/// One thing that the administrator should know of a forward.
#[derive(Debug, Clone, PartialEq)]
pub enum ForwardAdvice<'p> {
    /// A local process listens on a port that leads elsewhere.
    Listener(&'p Forward, Listener),
    /// Forwards of the family lead nowhere.
    ForwardingOff(Family),
    /// A target is an address of the host.
    OwnTarget(&'p Forward, IpAddr),
    /// A target has no route.
    NoRoute(&'p Forward, IpAddr),
    /// An address of `hostIP` is not the host's.
    NotHere(&'p Forward, IpAddr),
    /// What a target sends to its own forward is lost in the bridge.
    OneWayBridge(&'p Forward, IpAddr, String),
}

impl fmt::Display for ForwardAdvice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |forward: &Forward| format!("{} ({})", forward.key(), forward.origin);
        match self {
            ForwardAdvice::Listener(forward, Listener { protocol, address, port, program }) => {
                let program = program.as_deref().unwrap_or("a local process");
                let address = if address.is_unspecified() { String::new() } else { format!(" of {address}") };
                write!(f, "{program} listens on {protocol} port {port}{address}, which {} forwards", entry(forward))?;
                let those = if has_gates(forward) { " that it lets in" } else { "" };
                match (*protocol, *port) == SSH {
                    true => write!(
                        f,
                        ": new ssh connections to this host{those} go to the target, and you may lose access to it"
                    ),
                    false => write!(f, ": new connections{those} go to the target"),
                }
            }
            ForwardAdvice::ForwardingOff(family) => {
                write!(f, "{family} forwarding is off: port forwards lead nowhere but for processes of this host")
            }
            ForwardAdvice::OwnTarget(forward, target) => {
                write!(f, "{}: the target {target} is an address of this host itself", entry(forward))
            }
            ForwardAdvice::NoRoute(forward, target) => {
                write!(f, "{}: the target {target} has no route", entry(forward))
            }
            ForwardAdvice::NotHere(forward, address) => {
                write!(f, "{}: hostIP {address} is on no interface; it is forwarded as soon as it is", entry(forward))
            }
            ForwardAdvice::OneWayBridge(forward, target, bridge) => {
                let sysctl = if target.is_ipv4() { "bridge-nf-call-iptables" } else { "bridge-nf-call-ip6tables" };
                write!(
                    f,
                    "{}: net.bridge.{sysctl} is 1, and a connection of {target} to its own forward is lost in {bridge} \
                     unless its port has hairpin mode: bridge link set dev PORT hairpin on",
                    entry(forward)
                )
            }
        }
    }
}

/// True when others than those that it lets in still reach the host's own port.
fn has_gates(forward: &Forward) -> bool {
    !forward.in_interfaces.is_empty() || !forward.sources.is_empty() || !forward.excluded_sources.is_empty()
}

/// Judges the forwards of a policy on a host; what concerns ssh comes first.
pub fn advice<'p>(policy: &'p Policy, view: &ForwardView) -> Vec<ForwardAdvice<'p>> {
    let mut listeners = listeners(policy, view);
    listeners.sort_by_key(|one| match one {
        ForwardAdvice::Listener(_, listener) => ((listener.protocol, listener.port) != SSH, listener.port),
        _ => (true, 0),
    });
    // A program that listens in both families is one.
    listeners.dedup_by_key(|one| one.to_string());
    let served = Family::ALL.into_iter().filter(|family| policy.enables(*family));
    let off = served.filter(|family| {
        view.forwarding_off.contains(family) && policy.forwards.iter().any(|forward| forward.serves(*family))
    });
    let mut found: Vec<ForwardAdvice<'p>> = listeners;
    found.extend(off.map(ForwardAdvice::ForwardingOff));
    found.extend(addresses(policy, view));
    found
}

fn listeners<'p>(policy: &'p Policy, view: &ForwardView) -> Vec<ForwardAdvice<'p>> {
    let takes = |forward: &&Forward, listener: &Listener| {
        forward.protocols.contains(&listener.protocol)
            && forward.host_ports.contains(listener.port)
            && takes_address(forward, listener.address)
    };
    let found = view.listeners.iter().filter_map(|listener| {
        let forward = policy.forwards.iter().find(|forward| takes(forward, listener))?;
        Some(ForwardAdvice::Listener(forward, listener.clone()))
    });
    found.collect()
}

/// Whether packets for a socket of an address are forwarded. A socket of `::` may serve IPv4 as well.
fn takes_address(forward: &Forward, address: IpAddr) -> bool {
    let family = Family::of(address);
    if address.is_unspecified() {
        return forward.serves(family) || family == Family::V6;
    }
    let any = match forward.host {
        HostAddress::One(host) => return host == address,
        HostAddress::AnyOf(_) | HostAddress::Any => forward.serves(family),
    };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    any && !link_local && (!address.is_loopback() || (forward.localhost && address.is_ipv4()))
}

/// Each address is named once, with the first forward that has it.
fn addresses<'p>(policy: &'p Policy, view: &ForwardView) -> Vec<ForwardAdvice<'p>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for forward in &policy.forwards {
        let families = Family::ALL.into_iter().filter(|family| policy.enables(*family) && forward.serves(*family));
        for target in families.filter_map(|family| forward.target(family)) {
            let said = match view.places.get(&target) {
                Some(Place::Here) => ForwardAdvice::OwnTarget(forward, target),
                Some(Place::Nowhere) => ForwardAdvice::NoRoute(forward, target),
                Some(Place::Through { interface, one_way_bridge: true }) if forward.hairpin != Hairpin::Never => {
                    ForwardAdvice::OneWayBridge(forward, target, interface.clone())
                }
                Some(Place::Through { .. }) | None => continue,
            };
            // One bridge, one line.
            let about = match &said {
                ForwardAdvice::OneWayBridge(_, target, bridge) => format!("{} {bridge}", Family::of(*target)),
                _ => target.to_string(),
            };
            found.extend(seen.insert(about).then_some(said));
        }
        if let HostAddress::One(host) = forward.host
            && !host.is_loopback()
            && view.places.get(&host).is_some_and(|place| *place != Place::Here)
            && seen.insert(format!("hostIP {host}"))
        {
            found.push(ForwardAdvice::NotHere(forward, host));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Origin, PortRange, PrefixSet};

    fn forward(number: u32, port: u16, host: HostAddress) -> Forward {
        Forward {
            number,
            origin: Origin::Flag("port-forwards"),
            host_ports: PortRange { first: port, last: port },
            protocols: vec![Protocol::Tcp],
            host,
            v4: "10.88.0.5".parse().ok(),
            v6: None,
            port,
            in_interfaces: Vec::new(),
            sources: PrefixSet::default(),
            excluded_sources: PrefixSet::default(),
            hairpin: Hairpin::Auto,
            localhost: false,
        }
    }

    fn listener(address: &str, port: u16, program: Option<&str>) -> Listener {
        let address = address.parse().unwrap();
        Listener { protocol: Protocol::Tcp, address, port, program: program.map(str::to_owned) }
    }

    fn said(policy: &Policy, view: &ForwardView) -> Vec<String> {
        advice(policy, view).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_listener_on_a_forwarded_port_is_named_and_that_of_ssh_first() {
        let vip = HostAddress::One("198.51.100.7".parse().unwrap());
        let sources = PrefixSet::from_prefixes(["192.0.2.0/24".parse().unwrap()], &Origin::Default);
        let gated = Forward { sources, ..forward(3, 443, vip) };
        let forwards = vec![forward(1, 21, HostAddress::Any), forward(2, 22, HostAddress::Any), gated];
        let policy = Policy { forwards, ..Policy::default() };
        let listeners = vec![
            listener("0.0.0.0", 21, Some("vsftpd[7]")),
            listener("::", 22, Some("sshd[812]")),
            listener("198.51.100.1", 443, None),
            listener("198.51.100.7", 443, None),
            listener("127.0.0.1", 21, None),
            listener("0.0.0.0", 80, None),
        ];
        let view = ForwardView { listeners, ..ForwardView::default() };
        assert_eq!(
            said(&policy, &view),
            [
                "sshd[812] listens on tcp port 22, which portForwards[2] (flag --port-forwards) forwards: new ssh \
                 connections to this host go to the target, and you may lose access to it",
                "vsftpd[7] listens on tcp port 21, which portForwards[1] (flag --port-forwards) forwards: new \
                 connections go to the target",
                "a local process listens on tcp port 443 of 198.51.100.7, which portForwards[3] (flag \
                 --port-forwards) forwards: new connections that it lets in go to the target",
            ]
        );
    }

    #[test]
    fn targets_that_are_not_reached_and_absent_addresses_are_named_once() {
        let vip = HostAddress::One("198.51.100.7".parse().unwrap());
        let forwards = vec![forward(1, 80, HostAddress::Any), forward(2, 81, vip)];
        let policy = Policy { forwards, ..Policy::default() };
        let found = |target: Place, host: Place| {
            let places = [("10.88.0.5".parse().unwrap(), target), ("198.51.100.7".parse().unwrap(), host)].into();
            let view = ForwardView { places, forwarding_off: [Family::V6].into(), ..ForwardView::default() };
            advice(&policy, &view).len()
        };
        let through = |one_way_bridge| Place::Through { interface: "cni0".to_owned(), one_way_bridge };
        assert_eq!(found(through(false), Place::Here), 0);
        assert_eq!(found(through(true), Place::Here), 1);
        assert_eq!(found(Place::Nowhere, Place::Here), 1);
        assert_eq!(found(Place::Here, Place::Nowhere), 2);
        let off = ForwardView { forwarding_off: Family::ALL.into(), ..ForwardView::default() };
        assert_eq!(advice(&policy, &off), [ForwardAdvice::ForwardingOff(Family::V4)]);
    }
}
