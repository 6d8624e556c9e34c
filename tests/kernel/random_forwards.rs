//! Random port forwards, random flows: who is reached, at which port and from which source is what [`Policy::forward`] and
//! [`Policy::verdict`] say, on every backend, also while one configuration follows the other.
//!
//! Every node listens wherever a flow may get to, so that a wrong way ends somewhere too and is seen at once.

use crate::contract::host::Host;
use crate::forwards::Net;
use crate::lab::{self, DEADLINE, Namespace};
use crate::random::{self, forwards};
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::policy::{Arrival, Flow, ForwardVerdict, Policy, Prefix, Protocol, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// Configurations for each backend, and flows for each of them.
const CONFIGURATIONS: usize = 6;
const FLOWS: usize = 40;
/// How often one configuration follows another.
const STEPS: usize = 5;

/// A neighbour of the host, who it is in both families, and where it is.
struct Node {
    name: &'static str,
    interface: &'static str,
    addresses: [&'static str; 2],
    /// The host there: what masquerading makes of a source.
    host: [&'static str; 2],
    networks: [&'static str; 2],
}

const fn behind_bridge(name: &'static str, addresses: [&'static str; 2]) -> Node {
    let (host, networks) = (["10.88.0.1", "fd88::1"], ["10.88.0.0/16", "fd88::/64"]);
    Node { name, interface: "cni0", addresses, host, networks }
}

const NODES: [Node; 4] = [
    Node {
        name: "wan",
        interface: "up0",
        addresses: ["198.51.100.2", "2001:db8:100::2"],
        host: ["198.51.100.1", "2001:db8:100::1"],
        networks: ["198.51.100.0/24", "2001:db8:100::/64"],
    },
    Node {
        name: "lan",
        interface: "lan0",
        addresses: ["192.168.50.2", "fd50::2"],
        host: ["192.168.50.1", "fd50::1"],
        networks: ["192.168.50.0/24", "fd50::/64"],
    },
    behind_bridge("c1", ["10.88.0.5", "fd88::5"]),
    behind_bridge("c2", ["10.88.0.6", "fd88::6"]),
];
const OWN: [[&str; 4]; 2] = [
    ["198.51.100.1", "198.51.100.7", "192.168.50.1", "10.88.0.1"],
    ["2001:db8:100::1", "2001:db8:100::7", "fd50::1", "fd88::1"],
];
const LOOPBACK: [[&str; 2]; 2] = [["127.0.0.1", "127.0.0.5"], ["::1", "::1"]];

/// What packets are marked with when they come to the host or begin there, by their DSCP.
const MARKS: [u32; 5] = [0, 0x41, 0x2000, 0x2041, 0x100];

#[derive(Debug, Clone)]
struct Sent {
    /// One of the nodes, or else the host.
    node: Option<usize>,
    source: IpAddr,
    to: SocketAddr,
    protocol: Protocol,
    dscp: usize,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let node = prop_oneof![5 => (0..NODES.len()).prop_map(Some), 2 => Just(None)];
    let to = (prop_oneof![6 => Just(0), 1 => Just(1), 1 => Just(2)], 0..2_usize, 0..4_usize);
    let port = select(forwards::ports().collect::<Vec<_>>());
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    let dscp = prop_oneof![3 => Just(0), 1 => 0..MARKS.len()];
    (node, to, port, protocol, dscp, 0..4_usize).prop_filter_map(
        "it does not come by the host",
        |(node, (kind, family, number), port, protocol, dscp, own)| {
            let to = match kind {
                0 => OWN[family][number],
                1 => LOOPBACK[family][number % 2],
                _ => NODES[number].addresses[family],
            };
            let source = match node {
                Some(node) => NODES[node].addresses[family],
                None if kind == 1 => LOOPBACK[family][own % 2],
                // As a process sends that binds to nothing.
                None if kind == 0 && own % 2 == 0 => to,
                None => OWN[family][own],
            };
            let passes_by = kind == 2 && node.is_some_and(|node| NODES[node].interface == NODES[number].interface);
            // Which of its two addresses there the host takes is the kernel's affair.
            let is_ambiguous = kind == 2 && family == 1 && NODES[number].name == "wan";
            let foreign_loopback = kind == 1 && node.is_some();
            let sent = Sent {
                node,
                source: source.parse().unwrap(),
                to: SocketAddr::new(to.parse().unwrap(), port),
                protocol,
                dscp,
            };
            (!passes_by && !is_ambiguous && !foreign_loopback).then_some(sent)
        },
    )
}

/// Who is reached from which source at which port.
type Reached = (&'static str, IpAddr, u16);

impl Sent {
    fn arrival(&self) -> Arrival {
        Arrival {
            source: Some(self.source),
            in_interface: self.node.map(|node| NODES[node].interface.to_owned()),
            from_host: self.node.is_none(),
            destination: self.to.ip(),
            destination_is_local: node_at(self.to.ip()).is_none(),
            protocol: self.protocol,
            port: self.to.port(),
        }
    }

    /// What a policy says, and whether the answer comes back through the host; `None` for what no socket can tell.
    fn expected(&self, policy: &Policy) -> Option<(Reached, bool)> {
        let arrival = self.arrival();
        let (by, address, port) = match policy.forward(&arrival) {
            ForwardVerdict::To { forward, address, port } => (Some(forward), address, port),
            ForwardVerdict::Keep | ForwardVerdict::Refused(_) => (None, self.to.ip(), self.to.port()),
        };
        let Some((node, family)) = node_at(address) else { return Some((("host", self.source, port), true)) };
        let network: Prefix = node.networks[family].parse().unwrap();
        let from_host = self.node.is_none();
        let flow = Flow {
            source: Some(self.source),
            source_is_local: from_host,
            source_on_out_interface: from_host && network.contains(self.source),
            out_interface: Some(node.interface.to_owned()),
            protocol: self.protocol,
            mark: MARKS[self.dscp],
            dnated: by.is_some(),
            destination_port: Some(port),
            network: Some(network),
            ..Flow::forwarded_to(address)
        };
        let mark = by.map_or(flow.mark, |by| policy.mark_behind(by, &flow));
        let source = match policy.verdict(&Flow { mark, ..flow }).0 {
            Verdict::Masquerade => node.host[family].parse().unwrap(),
            Verdict::Return => self.source,
            Verdict::Snat(to) => panic!("no policy of these translates to {to}"),
        };
        // The target knows the client as a neighbour, and answers it itself.
        let past_the_host = !from_host && source == self.source && network.contains(source);
        let is_seen = !past_the_host || (self.protocol == Protocol::Udp && address != self.source);
        is_seen.then_some(((node.name, source, port), !past_the_host))
    }
}

fn node_at(address: IpAddr) -> Option<(&'static Node, usize)> {
    let family = usize::from(address.is_ipv6());
    let node = NODES.iter().find(|node| node.addresses[family].parse() == Ok(address))?;
    Some((node, family))
}

/// The nodes and the host, with a socket wherever a flow may get to.
struct Nodes {
    /// As [`NODES`], then the host.
    nodes: [Namespace; NODES.len() + 1],
    sockets: Vec<(&'static str, u16, Protocol, Socket)>,
    /// Each flow has a port of its own: none is taken for one that was before.
    next_port: AtomicU16,
}

impl Nodes {
    fn new(nodes: [Namespace; NODES.len() + 1]) -> Self {
        let mut sockets = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let neighbour = NODES.get(number);
            // A hint to send to the target itself would be believed for the address of the host.
            for interface in neighbour.iter().flat_map(|_| ["ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/eth0"]) {
                node.sysctl(&format!("net/{interface}/accept_redirects"), "0");
            }
            let name = neighbour.map_or("host", |node| node.name);
            let ends = forwards::ports().flat_map(|port| [(port, Protocol::Tcp), (port, Protocol::Udp)]);
            sockets
                .extend(node.enter(|| ends.map(|(port, by)| (name, port, by, listen(port, by))).collect::<Vec<_>>()));
        }
        let nodes = Nodes { nodes, sockets, next_port: AtomicU16::new(20_000) };
        nodes.greet();
        nodes
    }

    /// Waits until every node can reach the host. While the kernel has not yet seen that a link is up, it drops what it is
    /// given; TCP sends it again, UDP does not.
    fn greet(&self) {
        for (number, node) in NODES.iter().enumerate() {
            for (source, host) in node.addresses.into_iter().zip(node.host) {
                let source: IpAddr = source.parse().unwrap();
                let to = SocketAddr::new(host.parse().unwrap(), 8080);
                let sent = Sent { node: Some(number), source, to, protocol: Protocol::Tcp, dscp: 0 };
                assert_eq!(self.ask(&sent, true), Ok(("host", source, 8080)), "{}", node.name);
            }
        }
    }

    /// Sends the first packet of a flow; who was reached, or why nobody was.
    fn ask(&self, sent: &Sent, is_answered: bool) -> Result<Reached, String> {
        let client = self.nodes[sent.node.unwrap_or(NODES.len())].enter(|| self.send(sent));
        let client = client.map_err(|error| format!("nothing: {error}"))?;
        let mut fds: Vec<_> = self.sockets.iter().map(|(.., socket)| PollFd::new(socket, PollFlags::IN)).collect();
        poll(&mut fds, Some(&DEADLINE.try_into().unwrap())).map_err(|error| error.to_string())?;
        let at = fds.iter().position(|fd| fd.revents().contains(PollFlags::IN)).ok_or("nowhere")?;
        let (name, port, protocol, socket) = &self.sockets[at];
        let from = if *protocol == Protocol::Tcp {
            socket.accept().map_err(|error| error.to_string())?.1
        } else {
            let (_, from) = socket.recv_from(&mut []).map_err(|error| error.to_string())?;
            // The host's would come from the address that it likes best.
            if is_answered && *name != "host" {
                socket.send_to(b"y", &from).map_err(|error| format!("{name}, which can't answer: {error}"))?;
                client.recv(&mut []).map_err(|error| format!("{name}, which answers in vain: {error}"))?;
            }
            from
        };
        Ok((name, from.as_socket().unwrap().ip().to_canonical(), *port))
    }

    fn send(&self, sent: &Sent) -> std::io::Result<Socket> {
        let client = socket(sent.protocol, Domain::for_address(sent.to));
        let class = sent.dscp as u32 * 4;
        if sent.to.is_ipv4() {
            client.set_tos_v4(class)?
        } else {
            client.set_tclass_v6(class)?
        }
        client.bind(&SocketAddr::new(sent.source, self.next_port.fetch_add(1, Ordering::Relaxed)).into())?;
        client.set_read_timeout(Some(DEADLINE))?;
        client.connect_timeout(&sent.to.into(), DEADLINE)?;
        if sent.protocol == Protocol::Udp {
            client.send(b"x")?;
        }
        Ok(client)
    }
}

fn socket(protocol: Protocol, domain: Domain) -> Socket {
    Socket::new(domain, if protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM }, None).unwrap()
}

/// A socket for all addresses of both families.
fn listen(port: u16, protocol: Protocol) -> Socket {
    let socket = socket(protocol, Domain::IPV6);
    socket.set_only_v6(false).unwrap();
    socket.bind(&SocketAddr::new("::".parse().unwrap(), port).into()).unwrap();
    if protocol == Protocol::Tcp {
        socket.listen(64).unwrap();
    }
    socket
}

/// A backend, and who sends flows to its host.
struct Lab {
    host: Host,
    nodes: Nodes,
}

impl Lab {
    fn new(backend: BackendName) -> Self {
        let Net { host, wan, lan, c1, c2, .. } = Net::wired(backend);
        host.namespace.sysctl("net/ipv4/conf/lan0/route_localnet", "1");
        let mark =
            |(dscp, mark)| format!("ip dscp {dscp} meta mark set {mark}\nip6 dscp {dscp} meta mark set {mark}\n");
        let marks: String = MARKS.iter().enumerate().map(mark).collect();
        let chain = |hook| format!("chain {hook} {{\ntype filter hook {hook} priority -250\n{marks}}}\n");
        let table = format!("table inet marks {{\n{}{}}}\n", chain("prerouting"), chain("output"));
        host.namespace.nft(&table);
        let here = host.namespace.with_mounts_of_its_own("host").unwrap();
        Lab { host, nodes: Nodes::new([wan, lan, c1, c2, here]) }
    }

    fn on_every_backend() -> impl Iterator<Item = Self> {
        lab::BACKENDS.iter().filter(|_| lab::possible()).map(|backend| Lab::new(*backend))
    }

    fn apply(&mut self, policy: &Policy) {
        self.host.policy = policy.clone();
        self.host.facts = forwards::facts();
        self.host.apply_all();
    }

    /// Puts a policy into force while flows are sent, each of them once at least; what was wrong.
    fn apply_under(&mut self, flows: &[(Sent, (Reached, bool))], policy: &Policy) -> Vec<String> {
        let (done, nodes) = (AtomicBool::new(false), &self.nodes);
        let (host, facts) = (&mut self.host, forwards::facts());
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut wrong = Vec::new();
                loop {
                    let was_done = done.load(Ordering::Relaxed);
                    for (sent, (expected, is_answered)) in flows {
                        let found = nodes.ask(sent, *is_answered);
                        if found.as_ref() != Ok(expected) {
                            wrong.push(format!("{sent:?} gets {found:?} and not {expected:?}"));
                        }
                    }
                    if was_done || !wrong.is_empty() {
                        return wrong;
                    }
                }
            });
            (host.policy, host.facts) = (policy.clone(), facts);
            host.apply_all();
            done.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        })
    }
}

#[test]
fn every_flow_gets_where_the_policy_says() {
    let (seed, mut runner) = random::runner();
    for mut lab in Lab::on_every_backend() {
        let (backend, mut led) = (lab.host.name, 0);
        for number in 0..CONFIGURATIONS {
            let (text, policy) = forwards::draw(&mut runner, number % 3 == 0);
            lab.apply(&policy);
            for _ in 0..FLOWS {
                let sent = any_sent().new_tree(&mut runner).unwrap().current();
                let Some((expected, is_answered)) = sent.expected(&policy) else { continue };
                let (found, said) = (lab.nodes.ask(&sent, is_answered), policy.forward(&sent.arrival()));
                led += usize::from(matches!(said, ForwardVerdict::To { .. }));
                assert!(
                    found.as_ref() == Ok(&expected),
                    "{}\n{text}\nSEED={seed}, {backend}, configuration {number}: {sent:?} gets {found:?} and not \
                     {expected:?}: {said:?}",
                    lab.host.listing()
                );
            }
        }
        assert!(led > 0, "SEED={seed}: {backend}: no flow was forwarded");
    }
}

#[test]
fn no_flow_is_wrong_while_one_configuration_follows_the_other() {
    let (seed, mut runner) = random::runner();
    for (number, mut lab) in (seed..).zip(Lab::on_every_backend()) {
        // A packet may be marked by the rules of one configuration and translated by those of the next one, which have to
        // ask for the mark then.
        let marked = number % 3 == 0;
        let mut before = forwards::draw(&mut runner, marked);
        lab.apply(&before.1);
        let mut alike = 0;
        for step in 0..STEPS {
            let after = forwards::draw(&mut runner, marked);
            let flows = (0..FLOWS).map(|_| any_sent().new_tree(&mut runner).unwrap().current());
            let is_same =
                |sent: &Sent| sent.expected(&before.1).filter(|it| sent.expected(&after.1).as_ref() == Some(it));
            let flows: Vec<_> = flows.filter_map(|sent| is_same(&sent).map(|expected| (sent, expected))).collect();
            alike += flows.len();
            let wrong = lab.apply_under(&flows, &after.1);
            let (backend, texts) = (lab.host.name, [&before.0, &after.0]);
            assert!(
                wrong.is_empty(),
                "{}\nthen\n{}\nSEED={seed}, {backend}, step {step}: {wrong:#?}",
                texts[0],
                texts[1]
            );
            before = after;
        }
        assert!(alike > 0, "SEED={seed}: no flow that two configurations treat alike");
    }
}
