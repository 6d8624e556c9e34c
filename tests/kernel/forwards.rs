//! Port forwards with real packets: who answers, which source it sees, and at which of its addresses it was reached.
//!
//! The flows and the topology stand in `tests/data/forwards.json`.

use crate::contract::host::Host;
use crate::lab::{self, DEADLINE, Namespace};
use ip_masq_agent::backend::{BackendName, ErrorKind};
use ip_masq_agent::network::Reached;
use ip_masq_agent::policy::{
    Family, Forward, ForwardMark, Hairpin, HostAddress, Origin, PortRange, Prefix, PrefixSet, Protocol, WithOrigin,
};
use ip_masq_agent::ruleset::{HostFacts, NetworkFacts};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The nodes; everything that a server was sent is kept.
pub struct Net {
    pub host: Host,
    pub wan: Namespace,
    pub lan: Namespace,
    pub c1: Namespace,
    pub c2: Namespace,
    datagrams: Arc<Mutex<Vec<String>>>,
    /// When this is dropped, the other end is at its end, and so are the servers.
    _running: PipeWriter,
    ended: PipeReader,
}

const HOST: &str = "\
link set up0 up
link set lan0 up
link add cni0 type bridge
link set c1 master cni0
link set c2 master cni0
link set c1 up
link set c2 up
link set cni0 up
addr add 198.51.100.1/24 dev up0
addr add 198.51.100.7/24 dev up0
addr add 2001:db8:100::1/64 dev up0 nodad
addr add 2001:db8:100::7/64 dev up0 nodad
addr add 192.168.50.1/24 dev lan0
addr add fd50::1/64 dev lan0 nodad
addr add 10.88.0.1/16 dev cni0
addr add fd88::1/64 dev cni0 nodad
";

impl Net {
    /// Nobody listens yet.
    pub fn wired(backend: BackendName) -> Self {
        let host = Host::new(backend);
        let node = |name| Namespace::new(name).unwrap();
        let (wan, lan, c1, c2) = (node("wan"), node("lan"), node("c1"), node("c2"));
        for (link, peer) in [("up0", &wan), ("lan0", &lan), ("c1", &c1), ("c2", &c2)] {
            host.namespace.ip(&format!("link add {link} type veth peer name eth0 netns {}\n", peer.path()));
        }
        host.namespace.ip(HOST);
        let addresses = [
            (&wan, "198.51.100.2/24", "2001:db8:100::2/64", "198.51.100.1", "2001:db8:100::1"),
            (&lan, "192.168.50.2/24", "fd50::2/64", "192.168.50.1", "fd50::1"),
            (&c1, "10.88.0.5/16", "fd88::5/64", "10.88.0.1", "fd88::1"),
            (&c2, "10.88.0.6/16", "fd88::6/64", "10.88.0.1", "fd88::1"),
        ];
        for (node, v4, v6, gateway4, gateway6) in addresses {
            node.ip(&format!(
                "link set eth0 up\naddr add {v4} dev eth0\naddr add {v6} dev eth0 nodad\n\
                 route add default via {gateway4}\nroute add default via {gateway6}\n"
            ));
        }
        host.namespace.sysctl("net/ipv4/ip_forward", "1");
        host.namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
        // With it a frame for the bridge port that it came from is lost.
        for sysctl in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
            if std::path::Path::new("/proc/sys").join(sysctl).exists() {
                host.namespace.sysctl(sysctl, "0");
            }
        }
        // The agent's own part of `localhost`, which is not the backend's.
        host.namespace.sysctl("net/ipv4/conf/cni0/route_localnet", "1");
        let (ended, _running) = std::io::pipe().unwrap();
        Net { host, wan, lan, c1, c2, datagrams: Arc::default(), _running, ended }
    }

    fn new(backend: BackendName) -> Self {
        let net = Net::wired(backend);
        net.serve(&net.host.namespace, "host", &[8080, 9090, 5353, 8081, 8443, 9443], &["0.0.0.0", "::"]);
        net.serve(&net.lan, "lan", &[8080, 9090, 80], &["192.168.50.2", "fd50::2"]);
        let kept: Vec<u16> = [80, 53, 81, 8080, 9443].into_iter().chain(7000..7020).collect();
        net.serve(&net.c1, "c1", &kept, &["10.88.0.5", "fd88::5"]);
        net.serve(&net.c2, "c2", &[80], &["10.88.0.6", "fd88::6"]);
        net
    }

    /// Answers on ports of a node, in both protocols: who it is, the source that it sees, and where it was reached.
    fn serve(&self, node: &Namespace, name: &'static str, ports: &[u16], addresses: &[&str]) {
        let open = |(port, address): (&u16, &&str)| {
            let at = SocketAddr::new(address.parse().unwrap(), *port);
            let (listener, socket) = (listener(at), udp(at));
            listener.set_nonblocking(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            (at, listener, socket)
        };
        let at = ports.iter().flat_map(|port| addresses.iter().map(move |address| (port, address)));
        let sockets: Vec<_> = node.enter(|| at.map(open).collect());
        let (datagrams, ended) = (self.datagrams.clone(), self.ended.try_clone().unwrap());
        std::thread::spawn(move || {
            while wait_for(&ended, &sockets) {
                for (at, listener, socket) in &sockets {
                    while let Ok((mut stream, from)) = listener.accept() {
                        let at = stream.local_addr().unwrap();
                        let _ = write!(stream, "{name} {} {}:{}", from.ip(), at.ip(), at.port());
                    }
                    let mut buffer = [0; 64];
                    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        datagrams.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                        let answer = format!("{name} {} {}:{}", from.ip(), at.ip(), at.port());
                        let _ = socket.send_to(answer.as_bytes(), from);
                    }
                }
            }
        });
    }

    fn node(&self, name: &str) -> &Namespace {
        match name {
            "host" => &self.host.namespace,
            "wan" => &self.wan,
            "lan" => &self.lan,
            "c1" => &self.c1,
            _ => &self.c2,
        }
    }

    /// Asks as `NODE tcp|udp -> ADDRESS:PORT (bound to ADDRESS)` says; returns the answer.
    fn ask(&self, flow: &str) -> String {
        let words: Vec<_> = flow.split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
        let (address, port) = words[3].rsplit_once(':').unwrap();
        let to = SocketAddr::new(address.parse().unwrap(), port.parse().unwrap());
        let bound = words.get(6).map(|address| address.parse().unwrap());
        let ask = || if words[1] == "tcp" { ask_tcp(to, bound) } else { ask_udp(to, bound, "hello") };
        self.node(words[0]).enter(ask).unwrap_or_else(|error| error.to_string())
    }

    /// Sends a datagram that may be lost.
    fn send(&self, from: &str, to: &str, word: &str) {
        self.node(from).enter(|| udp("0.0.0.0:0".parse().unwrap()).send_to(word.as_bytes(), to).unwrap());
    }

    fn arrived(&self, word: &str) -> bool {
        self.datagrams.lock().unwrap().iter().any(|datagram| datagram == word)
    }

    /// Lets a neighbour send to the loopback addresses of the host.
    fn lead_loopback_to_the_host(&self, node: &str, gateway: &str) {
        self.node(node).sysctl("net/ipv4/conf/all/route_localnet", "1");
        self.node(node).ip(&format!("addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.1/32 via {gateway}\n"));
    }

    /// Those of the data file, and how many of them the forwards counted.
    fn sees_every_flow(&mut self) {
        let flows = flows();
        assert_eq!(flows.len(), 37);
        let wrong: Vec<_> = flows
            .into_iter()
            .map(|(flow, expected)| (self.ask(&flow), flow, expected))
            .filter(|(answer, _, expected)| answer != expected)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", self.host.listing());
        let counters = self.host.ask(|backend| backend.counters(Family::V4)).unwrap();
        let hits: Vec<_> = [3, 4, 5, 6].map(|number| counters.forwards.get(&number).copied()).into();
        assert_eq!(hits, [Some(3), Some(2), Some(2), Some(1)], "{counters:?}");
    }

    /// How many packets the guard of loopback addresses has dropped.
    fn dropped(&self) -> u64 {
        let (listing, front) = match self.host.name {
            BackendName::Nftables => (self.host.namespace.must("nft", &["list", "ruleset"]), "counter packets "),
            BackendName::IptablesNft => (self.raw_rules("iptables-nft"), ""),
            BackendName::IptablesLegacy => (self.raw_rules("iptables-legacy"), ""),
        };
        let guard = |line: &&str| line.contains("127.0.0.0/8") && line.to_lowercase().contains("drop");
        let rule = listing.lines().find(guard).and_then(|line| line.split_once(front)).expect("the guard");
        rule.1.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number of packets")
    }

    fn raw_rules(&self, program: &str) -> String {
        self.host.namespace.must(program, &["-t", "raw", "-nvxL", "PREROUTING"])
    }

    fn apply(&mut self, forwards: Vec<Forward>) {
        self.host.policy.forwards = forwards;
        // What is not forwarded keeps its source.
        self.host.policy.exempt = sources(&["0.0.0.0/0", "::/0"]);
        self.host.facts = facts();
        self.host.apply_all();
    }
}

/// Until there is something at one of the sockets; false when there will be nothing more.
fn wait_for(ended: &PipeReader, sockets: &[(SocketAddr, TcpListener, UdpSocket)]) -> bool {
    let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
    for (_, listener, socket) in sockets {
        fds.extend([PollFd::new(listener, PollFlags::IN), PollFd::new(socket, PollFlags::IN)]);
    }
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).unwrap();
    fds[0].revents().is_empty()
}

fn listener(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    let _ = socket.set_only_v6(at.is_ipv6());
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SockAddr::from(at)).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

fn udp(at: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).unwrap();
    let _ = socket.set_only_v6(at.is_ipv6());
    socket.set_broadcast(true).unwrap();
    socket.bind(&SockAddr::from(at)).unwrap();
    socket.into()
}

fn ask_tcp(to: SocketAddr, bound: Option<IpAddr>) -> std::io::Result<String> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(bound) = bound {
        socket.bind(&SocketAddr::new(bound, 0).into())?;
    }
    socket.connect_timeout(&to.into(), DEADLINE)?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_udp(to: SocketAddr, bound: Option<IpAddr>, word: &str) -> std::io::Result<String> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(bound.unwrap_or(any), 0))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.connect(to)?;
    socket.send(word.as_bytes())?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// How the targets are reached, as the agent would learn it from routes.
fn facts() -> HostFacts {
    let reached =
        |network: &str| Reached { interface: "cni0".into(), index: 1, networks: vec![network.parse().unwrap()] };
    let targets = [("10.88.0.5", "10.88.0.0/16"), ("10.88.0.6", "10.88.0.0/16"), ("fd88::5", "fd88::/64")];
    let targets: BTreeMap<_, _> =
        targets.into_iter().map(|(target, network)| (target.parse().unwrap(), reached(network))).collect();
    HostFacts { network: Arc::new(NetworkFacts { targets, ..NetworkFacts::default() }), ..HostFacts::default() }
}

/// `PROTOCOL HOST-PORTS ADDRESS PORT`, from every address and from the host's loopback addresses.
fn forward(number: u32, text: &str) -> Forward {
    let words: Vec<_> = text.split_whitespace().collect();
    let (first, last) = words[1].split_once('-').unwrap_or((words[1], words[1]));
    let to: IpAddr = words[2].parse().unwrap();
    Forward {
        number,
        origin: Origin::Default,
        host_ports: PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() },
        protocols: vec![if words[0] == "tcp" { Protocol::Tcp } else { Protocol::Udp }],
        host: HostAddress::Any,
        v4: if let IpAddr::V4(v4) = to { Some(v4) } else { None },
        v6: if let IpAddr::V6(v6) = to { Some(v6) } else { None },
        port: words[3].parse().unwrap(),
        in_interfaces: Vec::new(),
        sources: PrefixSet::default(),
        excluded_sources: PrefixSet::default(),
        hairpin: Hairpin::Auto,
        localhost: to.is_ipv4(),
    }
}

fn sources(texts: &[&str]) -> PrefixSet {
    PrefixSet::from_prefixes(texts.iter().map(|text| text.parse::<Prefix>().unwrap()), &Origin::Default)
}

fn at(host: &str, forward: Forward) -> Forward {
    Forward { host: HostAddress::One(host.parse().unwrap()), localhost: host.starts_with("127."), ..forward }
}

/// Those of the data file.
fn forwards() -> Vec<Forward> {
    vec![
        forward(1, "tcp 8080 10.88.0.5 80"),
        forward(2, "udp 5353 10.88.0.5 53"),
        at("198.51.100.7", forward(3, "tcp 8080 10.88.0.6 80")),
        forward(4, "tcp 7000-7010 10.88.0.5 7000"),
        forward(5, "tcp 8100-8102 10.88.0.5 7001"),
        Forward { sources: sources(&["198.51.100.0/24"]), ..forward(6, "tcp 9443 10.88.0.5 9443") },
        forward(7, "tcp 8080 fd88::5 80"),
        forward(8, "udp 5353 fd88::5 53"),
    ]
}

fn flows() -> Vec<(String, String)> {
    let data: Value = serde_json::from_str(include_str!("../data/forwards.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let flow = |flow: &Value| {
        let expected = &flow["expect"];
        let words = ["answered_by", "source_seen", "at"].map(|word| text(&expected[word]));
        (text(&flow["flow"]), words.join(" "))
    };
    data["flows"].as_array().unwrap().iter().map(flow).collect()
}

/// Runs a test on each backend that has port forwards.
fn on_every_backend(test: fn(Net)) {
    for backend in lab::BACKENDS.iter().copied() {
        if lab::possible() {
            test(Net::new(backend));
        }
    }
}

#[test]
fn every_flow_of_the_data_file_gets_where_it_should() {
    on_every_backend(|mut net| {
        net.apply(forwards());
        net.sees_every_flow();
    });
}

#[test]
fn every_flow_of_the_data_file_gets_where_it_should_among_hundreds_of_other_forwards() {
    on_every_backend(|mut net| {
        let other = |number: u32| {
            let port = 10_000 + number * 97;
            let other = forward(number, &format!("tcp {port} 10.88.0.6 81"));
            match (number % 5, number % 3) {
                (0, _) => other,
                (_, 0) => at(&format!("198.51.100.{}", number % 30 + 1), other),
                _ => Forward { localhost: false, ..other },
            }
        };
        net.apply(forwards().into_iter().chain((9..400).map(other)).collect());
        net.sees_every_flow();
    });
}

#[test]
fn without_forwards_again_everything_is_the_hosts() {
    on_every_backend(|mut net| {
        net.apply(forwards());
        net.apply(Vec::new());
        assert_eq!(net.ask("wan tcp -> 198.51.100.1:8080"), "host 198.51.100.2 198.51.100.1:8080");
        assert_eq!(net.ask("wan tcp -> 2001:db8:100::1:8080"), "host 2001:db8:100::2 2001:db8:100::1:8080");
    });
}

#[test]
fn gates_ask_the_interface_and_the_source_and_leave_the_others_to_the_host() {
    on_every_backend(|mut net| {
        let interfaces = |texts: &[&str]| -> Vec<_> {
            texts.iter().map(|text| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default }).collect()
        };
        net.apply(vec![
            Forward { in_interfaces: interfaces(&["up+"]), ..forward(1, "tcp 8080-8082 10.88.0.5 7000") },
            Forward { in_interfaces: interfaces(&["lan0"]), ..forward(2, "tcp 8081-8083 10.88.0.5 8081") },
            Forward { in_interfaces: interfaces(&["!up0"]), ..forward(3, "tcp 9090 10.88.0.5 80") },
            Forward { excluded_sources: sources(&["198.51.100.2/32"]), ..forward(4, "tcp 8443 10.88.0.5 81") },
            at(
                "198.51.100.7",
                Forward { sources: sources(&["192.168.50.0/24"]), ..forward(5, "tcp 8443 10.88.0.6 80") },
            ),
            Forward { in_interfaces: interfaces(&["!up0", "!lan0"]), ..forward(6, "tcp 9443 10.88.0.5 80") },
            Forward { in_interfaces: interfaces(&["up+", "!lan0"]), ..forward(7, "udp 5353 10.88.0.5 80") },
        ]);
        for (flow, expected) in [
            ("wan tcp -> 198.51.100.1:8080", "c1 198.51.100.2 10.88.0.5:7000"),
            ("wan tcp -> 198.51.100.1:8081", "c1 198.51.100.2 10.88.0.5:7001"),
            ("lan tcp -> 198.51.100.1:8080", "host 192.168.50.2 198.51.100.1:8080"),
            ("host tcp -> 198.51.100.1:8080", "host 198.51.100.1 198.51.100.1:8080"),
            ("host tcp -> 127.0.0.1:8080", "host 127.0.0.1 127.0.0.1:8080"),
            ("wan tcp -> 198.51.100.1:9090", "host 198.51.100.2 198.51.100.1:9090"),
            ("lan tcp -> 198.51.100.1:9090", "c1 192.168.50.2 10.88.0.5:80"),
            ("host tcp -> 198.51.100.1:9090", "host 198.51.100.1 198.51.100.1:9090"),
            ("wan tcp -> 198.51.100.1:8443", "host 198.51.100.2 198.51.100.1:8443"),
            ("lan tcp -> 198.51.100.1:8443", "c1 192.168.50.2 10.88.0.5:81"),
            ("host tcp -> 127.0.0.1:8443", "c1 10.88.0.1 10.88.0.5:81"),
            ("wan tcp -> 198.51.100.7:8443", "host 198.51.100.2 198.51.100.7:8443"),
            ("lan tcp -> 198.51.100.7:8443", "c2 192.168.50.2 10.88.0.6:80"),
            ("wan tcp -> 198.51.100.1:9443", "host 198.51.100.2 198.51.100.1:9443"),
            ("lan tcp -> 198.51.100.1:9443", "host 192.168.50.2 198.51.100.1:9443"),
            ("c2 tcp -> 10.88.0.1:9443", "c1 10.88.0.1 10.88.0.5:80"),
            ("wan udp -> 198.51.100.1:5353", "c1 198.51.100.2 10.88.0.5:80"),
            ("lan udp -> 192.168.50.1:5353", "host 192.168.50.2 0.0.0.0:5353"),
        ] {
            assert_eq!(net.ask(flow), expected, "{flow}\n{}", net.host.listing());
        }
    });
}

#[test]
fn a_hairpin_is_masqueraded_always_never_or_from_where_it_was_said() {
    on_every_backend(|mut net| {
        net.apply(vec![
            Forward { hairpin: Hairpin::Always, ..forward(1, "tcp 8080 10.88.0.5 80") },
            Forward { hairpin: Hairpin::From(sources(&["192.168.50.0/24"])), ..forward(2, "tcp 8081 10.88.0.5 81") },
            Forward { hairpin: Hairpin::Never, localhost: false, ..forward(3, "tcp 8443 10.88.0.5 8080") },
        ]);
        for (flow, expected) in [
            ("wan tcp -> 198.51.100.1:8080", "c1 10.88.0.1 10.88.0.5:80"),
            ("lan tcp -> 198.51.100.1:8081", "c1 10.88.0.1 10.88.0.5:81"),
            ("wan tcp -> 198.51.100.1:8081", "c1 198.51.100.2 10.88.0.5:81"),
            ("host tcp -> 127.0.0.1:8081", "c1 10.88.0.1 10.88.0.5:81"),
            ("lan tcp -> 198.51.100.1:8443", "c1 192.168.50.2 10.88.0.5:8080"),
            ("host tcp -> 127.0.0.1:8443", "host 127.0.0.1 127.0.0.1:8443"),
        ] {
            assert_eq!(net.ask(flow), expected, "{flow}\n{}", net.host.listing());
        }
    });
}

#[test]
fn neighbours_on_a_bridge_keep_their_source_and_reach_forwards_whether_its_frames_come_to_our_rules_or_not() {
    on_every_backend(|mut net| {
        if !std::path::Path::new("/proc/sys/net/bridge").exists() {
            return lab::skip("no br_netfilter in this kernel");
        }
        for frames_come in [true, false, true] {
            for sysctl in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
                net.host.namespace.sysctl(sysctl, if frames_come { "1" } else { "0" });
            }
            net.host.policy.forwards = forwards();
            // What is routed from one to the other would be masqueraded.
            net.host.policy.exempt = PrefixSet::default();
            net.host.facts = HostFacts { bridged_ipv4: frames_come, bridged_ipv6: frames_come, ..facts() };
            net.host.apply_all();
            for (flow, expected) in [
                ("c2 tcp -> 10.88.0.5:80", "c1 10.88.0.6 10.88.0.5:80"),
                ("c2 tcp -> 10.88.0.5:8080", "c1 10.88.0.6 10.88.0.5:8080"),
                ("c2 udp -> 10.88.0.5:53", "c1 10.88.0.6 10.88.0.5:53"),
                ("c2 tcp -> fd88::5:80", "c1 fd88::6 fd88::5:80"),
                ("c2 tcp -> 10.88.0.1:8080", "c1 10.88.0.1 10.88.0.5:80"),
                ("c2 udp -> 198.51.100.1:5353", "c1 10.88.0.1 10.88.0.5:53"),
                ("c2 tcp -> 2001:db8:100::1:8080", "c1 fd88::1 fd88::5:80"),
                ("wan tcp -> 198.51.100.1:8080", "c1 198.51.100.2 10.88.0.5:80"),
                ("wan tcp -> 2001:db8:100::1:8080", "c1 2001:db8:100::2 fd88::5:80"),
                ("host tcp -> 127.0.0.1:8080", "c1 10.88.0.1 10.88.0.5:80"),
            ] {
                assert_eq!(net.ask(flow), expected, "{frames_come}: {flow}\n{}", net.host.listing());
            }
        }
    });
}

#[test]
fn an_address_that_comes_later_is_forwarded_at_once() {
    on_every_backend(|mut net| {
        net.apply(vec![at("198.51.100.99", forward(1, "tcp 8080 10.88.0.5 80"))]);
        net.host.namespace.ip("addr add 198.51.100.99/24 dev up0\n");
        assert_eq!(net.ask("wan tcp -> 198.51.100.99:8080"), "c1 198.51.100.2 10.88.0.5:80");
        assert_eq!(net.ask("wan tcp -> 198.51.100.1:8080"), "host 198.51.100.2 198.51.100.1:8080");
    });
}

#[test]
fn a_loopback_address_of_its_own_is_forwarded_for_local_processes() {
    on_every_backend(|mut net| {
        net.apply(vec![at("127.0.0.5", forward(1, "tcp 8080 10.88.0.5 80"))]);
        assert_eq!(net.ask("host tcp -> 127.0.0.5:8080"), "c1 10.88.0.1 10.88.0.5:80");
        assert_eq!(net.ask("host tcp -> 127.0.0.1:8080"), "host 127.0.0.1 127.0.0.1:8080");
    });
}

#[test]
fn broadcasts_and_link_local_addresses_stay_with_the_host() {
    on_every_backend(|mut net| {
        net.apply(forwards());
        net.send("wan", "198.51.100.255:5353", "broadcast");
        assert!(net.ask("wan udp -> 198.51.100.1:5353").starts_with("c1 "));
        let sent = Instant::now();
        while !net.arrived("broadcast") {
            assert!(sent.elapsed() < DEADLINE, "the host's own listener has it");
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = net.host.namespace.must("ip", &["-6", "-o", "addr", "show", "dev", "up0", "scope", "link"]);
        let address: Ipv6Addr =
            output.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().parse().unwrap();
        let answer = net.wan.enter(|| {
            let index = rustix::net::netdevice::name_to_index(udp("0.0.0.0:0".parse().unwrap()), "eth0").unwrap();
            ask_tcp(std::net::SocketAddrV6::new(address, 8080, 0, index).into(), None)
        });
        assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("host fe80:")), "{answer:?}");
    });
}

#[test]
fn neighbours_reach_nothing_through_loopback_addresses() {
    on_every_backend(|mut net| {
        for (node, gateway) in [("wan", "198.51.100.1"), ("lan", "192.168.50.1"), ("c1", "10.88.0.1")] {
            net.lead_loopback_to_the_host(node, gateway);
        }
        // Without rules that address is within reach of the interface that routes it.
        net.send("c1", "127.0.0.1:9090", "open");
        assert!(net.ask("c1 udp -> 10.88.0.1:9090").starts_with("host "));
        assert!(net.arrived("open"), "the test can tell");
        let own = at("127.0.0.1", forward(1, "udp 5353 10.88.0.5 53"));
        for forwards in [forwards(), vec![own]] {
            net.apply(forwards);
            let before = net.dropped();
            for node in ["wan", "lan", "c1"] {
                net.send(node, "127.0.0.1:5353", "to a forward");
                net.send(node, "127.0.0.1:9090", "to the host");
                // What was sent before has arrived before.
                let host = match node {
                    "wan" => "198.51.100.1",
                    "lan" => "192.168.50.1",
                    _ => "10.88.0.1",
                };
                for port in [5353, 9090] {
                    let answer = net.ask(&format!("{node} udp -> {host}:{port}"));
                    assert!(answer.starts_with("host ") || answer.starts_with("c1 "), "{node}: {answer}");
                }
            }
            assert!(!net.arrived("to a forward") && !net.arrived("to the host"), "{}", net.host.listing());
            assert!(net.dropped() > before, "{}", net.host.listing());
        }
    });
}

fn marked(mark: ForwardMark) -> Option<WithOrigin<ForwardMark>> {
    let origin = Origin::File { path: std::path::Path::new("config.yaml").into(), line: 3, column: 1 };
    Some(WithOrigin { value: mark, origin })
}

/// Another program's chain that marks, in both families, and its rule for what bears the mark.
const SET_MARK: &str = "\
*nat
:SET-MARK - [0:0]
-A SET-MARK -j MARK --set-xmark 0x4000/0x4000
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
";

impl Net {
    /// Loads rules of another program into the nat tables of both families.
    fn load(&self, rules: &str) {
        for program in ["iptables", "ip6tables"] {
            let variant = if self.host.name == BackendName::IptablesLegacy { "legacy" } else { "nft" };
            let program = format!("{program}-{variant}-restore");
            let output = self.host.namespace.run_with_input(&program, &["--noflush"], rules);
            assert!(output.status.success(), "{}", lab::text(&output.stderr));
        }
    }

    /// The lines of the listing that are not ours.
    fn foreign(&self) -> Vec<String> {
        let listing = self.host.listing();
        let ours = |line: &&str| line.contains("ip-masq-agent") || line.contains("IP-MASQ-AGENT");
        listing.lines().filter(|line| !ours(line)).map(str::to_owned).collect()
    }

    /// How many packets with exactly this mark were about to leave.
    fn left_with(&self, mark: &str) -> u64 {
        let listing = self.host.namespace.must("nft", &["list", "table", "inet", "marks"]);
        let line = listing.lines().find(|line| line.contains(&format!("meta mark {mark} counter"))).unwrap();
        line.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn with_a_mark_every_flow_of_the_data_file_gets_where_it_should() {
    on_every_backend(|mut net| {
        for bit in [13, 31] {
            net.host.policy.forward_mark = marked(ForwardMark::Bit(bit));
            net.apply(forwards());
            let wrong: Vec<_> = flows().into_iter().filter(|(flow, expected)| net.ask(flow) != *expected).collect();
            assert!(wrong.is_empty(), "bit {bit}: {wrong:#?}\n{}", net.host.listing());
        }
        net.host.policy.forward_mark = None;
        net.apply(forwards());
        assert_eq!(net.ask("c1 tcp -> 10.88.0.1:8080"), "c1 10.88.0.1 10.88.0.5:80", "{}", net.host.listing());
    });
}

#[test]
fn with_a_mark_gates_are_asked_and_several_clients_hidden() {
    on_every_backend(|mut net| {
        let interfaces = |texts: &[&str]| -> Vec<_> {
            texts.iter().map(|text| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default }).collect()
        };
        let always = |forward| Forward { hairpin: Hairpin::Always, localhost: false, ..forward };
        let some = Hairpin::From(sources(&["192.168.50.0/25", "198.51.100.0/28", "10.0.0.0/8"]));
        net.host.policy.forward_mark = marked(ForwardMark::Bit(0));
        net.apply(vec![
            always(Forward { in_interfaces: interfaces(&["up+", "!up1"]), ..forward(1, "tcp 8080 10.88.0.5 80") }),
            always(Forward { in_interfaces: interfaces(&["!up0"]), ..forward(2, "tcp 9090 10.88.0.5 80") }),
            Forward {
                hairpin: some,
                sources: sources(&["192.168.0.0/16", "198.51.100.2/32"]),
                ..forward(3, "tcp 8443 10.88.0.5 81")
            },
            at("198.51.100.7", Forward { hairpin: Hairpin::Never, ..forward(4, "tcp 8443 10.88.0.6 80") }),
        ]);
        for (flow, expected) in [
            ("wan tcp -> 198.51.100.1:8080", "c1 10.88.0.1 10.88.0.5:80"),
            ("lan tcp -> 198.51.100.1:8080", "host 192.168.50.2 198.51.100.1:8080"),
            ("wan tcp -> 198.51.100.1:9090", "host 198.51.100.2 198.51.100.1:9090"),
            ("lan tcp -> 198.51.100.1:9090", "c1 10.88.0.1 10.88.0.5:80"),
            ("wan tcp -> 198.51.100.1:8443", "c1 10.88.0.1 10.88.0.5:81"),
            ("lan tcp -> 198.51.100.1:8443", "c1 10.88.0.1 10.88.0.5:81"),
            ("c2 tcp -> 10.88.0.1:8443", "host 10.88.0.6 10.88.0.1:8443"),
            ("wan tcp -> 198.51.100.7:8443", "c2 198.51.100.2 10.88.0.6:80"),
        ] {
            assert_eq!(net.ask(flow), expected, "{flow}\n{}", net.host.listing());
        }
    });
}

#[test]
fn clients_that_are_too_many_for_rules_are_in_sets_and_each_flow_gets_where_it_should_also_with_a_mark() {
    on_every_backend(|mut net| {
        let many = |near: &str| {
            let far = (0..100).flat_map(|n| [format!("203.0.{}.0/24", 2 * n), format!("2001:db9:{:x}::/48", 2 * n)]);
            let all: Vec<String> = far.chain([near.to_owned()]).collect();
            sources(&all.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let interfaces = |texts: &[&str]| -> Vec<_> {
            texts.iter().map(|text| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default }).collect()
        };
        let from_wan = |forward| Forward { sources: many("198.51.100.0/24"), localhost: false, ..forward };
        let from_lan = Forward { sources: many("192.168.50.0/24"), ..forward(3, "tcp 8080-8082 10.88.0.5 7000") };
        let from_v6 = Forward { sources: many("2001:db8:100::2/128"), ..forward(5, "tcp 8443 fd88::5 81") };
        for mark in [None, marked(ForwardMark::Bit(13))] {
            net.host.policy.forward_mark = mark;
            net.apply(vec![
                Forward { hairpin: Hairpin::Always, ..from_wan(forward(1, "tcp 8443 10.88.0.5 81")) },
                Forward { excluded_sources: many("198.51.100.2/32"), ..forward(2, "tcp 9443 10.88.0.5 9443") },
                Forward { in_interfaces: interfaces(&["lan0", "up0", "!up0"]), ..from_lan.clone() },
                at("198.51.100.7", from_wan(forward(4, "tcp 8443 10.88.0.6 80"))),
                from_v6.clone(),
            ]);
            let listing = net.host.listing();
            let is_set =
                |line: &&str| (line.starts_with("ima") || line.starts_with("set forward")) && line.contains("sources");
            let sets = listing.lines().map(str::trim_start).filter(is_set).count();
            let rules = ["-s 203.0.18.0", "saddr 203.0.18.0"].map(|words| listing.matches(words).count());
            assert_eq!((sets, rules), (4, [0, 0]), "one for each list\n{listing}");
            for (flow, expected) in [
                ("wan tcp -> 198.51.100.1:8443", "c1 10.88.0.1 10.88.0.5:81"),
                ("lan tcp -> 198.51.100.1:8443", "host 192.168.50.2 198.51.100.1:8443"),
                ("host tcp -> 127.0.0.1:8443", "host 127.0.0.1 127.0.0.1:8443"),
                ("wan tcp -> 198.51.100.7:8443", "c2 198.51.100.2 10.88.0.6:80"),
                ("lan tcp -> 198.51.100.7:8443", "host 192.168.50.2 198.51.100.7:8443"),
                ("wan tcp -> 198.51.100.1:9443", "host 198.51.100.2 198.51.100.1:9443"),
                ("lan tcp -> 198.51.100.1:9443", "c1 192.168.50.2 10.88.0.5:9443"),
                ("host tcp -> 127.0.0.1:9443", "c1 10.88.0.1 10.88.0.5:9443"),
                ("lan tcp -> 198.51.100.1:8081", "c1 192.168.50.2 10.88.0.5:7001"),
                ("wan tcp -> 198.51.100.1:8081", "host 198.51.100.2 198.51.100.1:8081"),
                ("wan tcp -> 2001:db8:100::1:8443", "c1 2001:db8:100::2 fd88::5:81"),
                ("lan tcp -> 2001:db8:100::1:8443", "host fd50::2 2001:db8:100::1:8443"),
            ] {
                assert_eq!(net.ask(flow), expected, "{flow}\n{}", net.host.listing());
            }
        }
    });
}

#[test]
fn of_a_mark_one_bit_is_set_and_what_bears_it_is_masqueraded_whoever_set_it() {
    on_every_backend(|mut net| {
        let watch = "table inet marks {\n\
             chain early {\n type filter hook prerouting priority -250\n meta mark set 0x41\n }\n\
             chain late {\n type filter hook postrouting priority -10\n\
             meta mark 0x2041 counter\n meta mark 0x41 counter\n }\n}\n";
        net.host.namespace.nft(watch);
        net.host.policy.forward_mark = marked(ForwardMark::Bit(13));
        net.apply(forwards());
        assert_eq!(net.ask("wan tcp -> 198.51.100.1:8080"), "c1 198.51.100.2 10.88.0.5:80");
        assert_eq!(net.left_with("0x00002041"), 0, "the client is seen");
        assert_eq!(net.ask("c2 tcp -> 10.88.0.1:8080"), "c1 10.88.0.1 10.88.0.5:80");
        assert_eq!(net.ask("c2 tcp -> fd88::1:8080"), "c1 fd88::1 fd88::5:80");
        assert!(net.left_with("0x00002041") >= 2 && net.left_with("0x00000041") > 0, "other bits stay");
        let by_others =
            "flush chain inet marks early\nadd rule inet marks early ip saddr 198.51.100.2 meta mark set 0x2001\n";
        net.host.namespace.nft(by_others);
        assert_eq!(net.ask("wan tcp -> 198.51.100.1:8080"), "c1 10.88.0.1 10.88.0.5:80");
    });
}

#[test]
fn a_mark_that_is_taken_out_is_noticed_and_set_again() {
    on_every_backend(|mut net| {
        net.host.policy.forward_mark = marked(ForwardMark::Bit(13));
        net.apply(vec![forward(1, "tcp 8080 10.88.0.5 80")]);
        let foreign = net.foreign();
        for sabotage in [
            net.host.either("-D IP-MASQ-AGENT 1", "flush chain inet ip-masq-agent ipv4"),
            net.host.either("-D IP-MASQ-AGENT-fc 1", "flush set inet ip-masq-agent forwards-marks4"),
        ] {
            net.host.load(sabotage);
            net.host.restart();
            let drift = net.host.apply(Family::V4);
            assert!(!drift.is_empty(), "{sabotage}");
            assert_eq!(net.ask("c2 tcp -> 10.88.0.1:8080"), "c1 10.88.0.1 10.88.0.5:80", "{}", net.host.listing());
        }
        assert_eq!(net.foreign(), foreign);
    });
}

#[test]
fn another_programs_chain_marks_and_is_never_touched() {
    on_every_backend(|mut net| {
        net.host.policy.forward_mark = marked(ForwardMark::Chain("SET-MARK".to_owned()));
        net.host.policy.forwards = forwards();
        net.host.facts = facts();
        let before = net.host.listing();
        for family in Family::ALL {
            let error = net.host.plan(family).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused);
            assert!(error.message.starts_with("config.yaml:3:1: externalSetMarkChain: "), "{error}");
            assert!(error.message.contains("'SET-MARK'"), "{error}");
        }
        assert_eq!(net.host.listing(), before);
        if net.host.name == BackendName::Nftables {
            return;
        }
        net.load(SET_MARK);
        let theirs = net.foreign();
        net.apply(forwards());
        let wrong: Vec<_> = flows().into_iter().filter(|(flow, expected)| net.ask(flow) != *expected).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", net.host.listing());
        assert_eq!(net.foreign(), theirs);
        // An empty chain that only a rule of ours leads to is another program's all the same.
        net.load("*nat\n-F SET-MARK\nCOMMIT\n");
        let theirs = net.foreign();
        net.apply(forwards());
        net.host.policy.forward_mark = None;
        net.apply(forwards());
        assert_eq!(net.foreign(), theirs);
        net.host.policy.forward_mark = marked(ForwardMark::Chain("SET-MARK".to_owned()));
        net.apply(forwards());
        net.host.flush_all();
        assert_eq!(net.foreign(), theirs);
    });
}

#[test]
fn each_rule_counts_also_the_second_of_its_kind_and_whatever_rules_others_put_between() {
    on_every_backend(|mut net| {
        let from_wan = |number, text: &str| Forward { sources: sources(&["198.51.100.0/24"]), ..forward(number, text) };
        let from_lan = |number, text: &str| Forward { sources: sources(&["192.168.50.0/24"]), ..forward(number, text) };
        net.apply(vec![
            forward(1, "tcp 8080 10.88.0.5 80"),
            forward(2, "tcp 7000-7010 10.88.0.5 7000"),
            from_wan(3, "tcp 8443 10.88.0.5 81"),
            from_lan(4, "tcp 8443 10.88.0.6 80"),
        ]);
        let gate = "insert rule inet ip-masq-agent forwards-ipv4-tcp-8443 meta mark 0x1234 counter";
        net.host.load(net.host.either("-I IP-MASQ-AGENT-fc 1 -m mark --mark 0x1234", gate));
        let flows = ["wan 198.51.100.1", "c2 10.88.0.1"].map(|flow| flow.split_once(' ').unwrap());
        for (from, to) in flows {
            for port in [8080, 7001, 7001] {
                let answer = net.ask(&format!("{from} tcp -> {to}:{port}"));
                assert!(answer.starts_with("c1 "), "{from} {port}: {answer}");
            }
        }
        for (from, by) in [("wan", "c1 "), ("lan", "c2 "), ("lan", "c2 ")] {
            let answer = net.ask(&format!("{from} tcp -> 198.51.100.1:8443"));
            assert!(answer.starts_with(by), "{from}: {answer}");
        }
        let counters = net.host.ask(|backend| backend.counters(Family::V4)).unwrap();
        let hits: Vec<_> = (1..=4).map(|number| counters.forwards.get(&number).copied()).collect();
        assert_eq!(hits, [Some(2), Some(4), Some(1), Some(2)], "{counters:?}\n{}", net.host.listing());
        let rules = ["forward-hairpin", "forwarded"].map(|id| counters.rules.get(id).copied());
        assert_eq!(rules, [Some(3), Some(6)], "{counters:?}\n{}", net.host.listing());
        // The gateway may say something itself: on a busy machine an ICMP error, and an IGMP report at a random moment.
        let own = counters.rules["local-source-on-out-interface"] + counters.rules["multicast"];
        assert_eq!((counters.masqueraded, counters.kept - own), (3, 6), "{counters:?}");
    });
}
