//! SCTP through forwards and masqueraded: what opens an association arrives whole, and so does the answer.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Kind, Lab, Namespace, Observer, Probe, Seen, parse, sctp};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

const FORWARDS: &str = "nonMasqueradeCIDRs: [10.0.0.0/8]
portForwards:
- {hostPort: 7000-7010, protocol: [tcp, sctp], address: [192.168.77.2, 'fd00:77::2'], localhost: true}
- {hostPort: 8100-8102, protocol: sctp, address: [192.168.77.2, 'fd00:77::2'], port: 7001}
- {hostPort: 8100, protocol: udp, address: 192.168.77.2, port: 9}
- {hostPort: 2905, protocol: sctp, address: [192.168.77.2, 'fd00:77::2'], hairpin: always}
- {hostPort: 36412, protocol: sctp, address: [192.168.77.2, 'fd00:77::2'], inInterfaces: [wan1]}
- {hostPort: 36422, protocol: sctp, address: [192.168.77.2, 'fd00:77::2'], sourceCIDRs: [203.0.113.200/32, '2001:db8:5::5/128']}
- {hostPort: 9899, protocol: [tcp, udp], address: [192.168.77.2, 'fd00:77::2']}
";

/// Sender, source, and where it goes; then the port and the source that the LAN host sees, or `host` where the gateway
/// keeps the packet.
const FLOWS: &str = "
    outside  203.0.113.9      203.0.113.1 7003          7003   203.0.113.9
    outside  203.0.113.9      203.0.113.77 7010         7010   203.0.113.9
    outside  2001:db8:113::9  2001:db8:113::1 7003      7003   2001:db8:113::9
    outside  203.0.113.9      203.0.113.1 8100          7001   203.0.113.9
    outside  203.0.113.9      203.0.113.1 8102          7003   203.0.113.9
    outside  2001:db8:113::9  2001:db8:113::1 8102      7003   2001:db8:113::9
    outside  203.0.113.9      203.0.113.1 2905          2905   192.168.77.1
    outside  2001:db8:113::9  2001:db8:113::1 2905      2905   fd00:77::1
    outside  203.0.113.9      203.0.113.1 36412         host
    outside  198.51.100.9     198.51.100.1 36412        36412  198.51.100.9
    outside  2001:db8:113::9  2001:db8:113::1 36412     host
    outside  2001:db8:100::9  2001:db8:100::1 36412     36412  2001:db8:100::9
    outside  203.0.113.9      203.0.113.1 36422         host
    outside  203.0.113.200    203.0.113.1 36422         36422  203.0.113.200
    outside  2001:db8:113::9  2001:db8:113::1 36422     host
    outside  2001:db8:5::5    2001:db8:113::1 36422     36422  2001:db8:5::5
    outside  203.0.113.9      203.0.113.1 9899          host
    outside  2001:db8:113::9  2001:db8:113::1 9899      host
    lan      192.168.77.3     203.0.113.1 7003          7003   192.168.77.1
    lan      192.168.77.3     192.168.77.1 8101         7002   192.168.77.1
    lan      fd00:77::3       2001:db8:113::1 7003      7003   fd00:77::1
    lan      fd00:77::3       fd00:77::1 8101           7002   fd00:77::1
    gateway  203.0.113.1      203.0.113.1 7003          7003   203.0.113.1
    gateway  127.0.0.1        127.0.0.1 7003            7003   192.168.77.1
    gateway  127.0.0.1        127.0.0.1 8101            host
    gateway  fd00:77::1       fd00:77::1 8101           7002   fd00:77::1";

/// The protocol of a node whose kernel need not have it.
struct Peer<'lab> {
    node: &'lab Namespace,
    sockets: [Socket; 2],
}

impl<'lab> Peer<'lab> {
    fn new(node: &'lab Namespace) -> Self {
        let open = |domain| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(132))).expect("a raw socket");
            socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            socket
        };
        Peer { node, sockets: node.enter(|| [open(Domain::IPV4), open(Domain::IPV6)]) }
    }

    /// The source of the first packet that the node gets, and that `wanted` accepts.
    fn source_of(&self, is_ipv4: bool, wanted: impl Fn(&[u8]) -> bool) -> Option<IpAddr> {
        let socket = &self.sockets[usize::from(!is_ipv4)];
        loop {
            let mut buffer = [MaybeUninit::uninit(); 512];
            let (length, from) = socket.recv_from(&mut buffer).ok()?;
            // SAFETY: so many bytes were written.
            let packet: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            // raw(7): with the header, of IPv4.
            let header = if is_ipv4 { usize::from(packet[0] & 15) * 4 } else { 0 };
            if wanted(&packet[header..]) {
                return from.as_socket().map(|from| from.ip());
            }
        }
    }

    /// Answers what has arrived.
    fn answer(&self, seen: &Seen) {
        let send = || {
            let domain = if seen.destination.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(132)))?;
            socket.bind(&SocketAddr::new(seen.destination, 0).into())?;
            socket.send_to(&sctp::init_ack(&seen.payload), &SocketAddr::new(seen.source, 0).into())
        };
        self.node.enter(send).expect("it is sent");
    }
}

/// The nodes of a lab, each with the protocol.
struct Peers<'lab> {
    lan: Peer<'lab>,
    gateway: Peer<'lab>,
    outside: Peer<'lab>,
}

impl<'lab> Peers<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let [lan, gateway, outside] = [&lab.lan, &lab.gateway, &lab.outside].map(Peer::new);
        Peers { lan, gateway, outside }
    }

    fn named(&self, name: &str) -> &Peer<'lab> {
        match name {
            "lan" => &self.lan,
            "gateway" => &self.gateway,
            _ => &self.outside,
        }
    }
}

/// Sends what a line says; what became of it, in the words of the line.
fn became(peers: &Peers<'_>, arrived: &Observer, sender: &str, probe: &Probe, stays: bool) -> String {
    let (sender, is_ipv4) = (peers.named(sender), probe.destination.is_ipv4());
    probe.send(sender.node);
    if stays {
        return peers
            .gateway
            .source_of(is_ipv4, |packet| probe.is_payload(packet))
            .map_or("lost".to_owned(), |_| "host".to_owned());
    }
    let at_target =
        |seen: &Seen| [parse("192.168.77.2"), parse("fd00:77::2")].contains(&seen.destination) && probe.is_in(seen);
    let Some(seen) = arrived.wait(at_target) else { return "lost".to_owned() };
    peers.lan.answer(&seen);
    let answer = sender.source_of(is_ipv4, |packet| probe.is_answered_by(packet));
    assert_eq!(answer, Some(probe.destination), "{probe:?}: who answered");
    format!("{} {}", seen.destination_port(), seen.source)
}

/// The same as `explain` says it.
fn explained(gateway: &Gateway<'_>, from: &str, to: &str, port: &str) -> String {
    let said = gateway.agent.must("explain", &[to, "--from", from, "--port", port, "--proto", "sctp", "--json"]);
    let forward = serde_json::from_str::<Value>(&said).unwrap()[0]["forward"].clone();
    if forward.is_null() {
        return "host".to_owned();
    }
    let destination: SocketAddr = forward["destination"].as_str().expect("a target").parse().expect("an address");
    format!("{} {}", destination.port(), forward["source"].as_str().unwrap_or_default())
}

#[test]
fn an_association_is_opened_through_a_forward_of_each_kind_and_the_answer_comes_back() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        lab.lan.ip("addr add 192.168.77.3/32 dev lan0\naddr add fd00:77::3/128 dev lan0 nodad\n");
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.apply(FORWARDS);
        let (peers, arrived) = (Peers::new(&lab), Observer::new(&lab.lan));
        for line in FLOWS.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [sender, from, to, port, expected @ ..] = &words[..] else { panic!("{line}") };
            let probe = Probe::new(Kind::Sctp, parse(to)).from(parse(from)).with_port(port.parse().expect("a port"));
            let expected = expected.join(" ");
            assert_eq!(became(&peers, &arrived, sender, &probe, expected == "host"), expected, "{backend}: {line}");
            assert_eq!(explained(&gateway, from, to, port), expected, "{backend}: explain of {line}");
        }
    }
}

#[test]
fn an_association_is_masqueraded_as_the_policy_says_and_the_answer_comes_back() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        lab.add_route_back();
        let peers = Peers::new(&lab);
        for (keys, ports) in [
            ("", None),
            ("toPorts: 61000-61001,62000-62003\n", Some([61000..=61001, 62000..=62003])),
            ("toPorts: 61000-61001,62000-62003\nrandomFully: false\n", Some([61000..=61001, 62000..=62003])),
        ] {
            gateway.apply(keys);
            for (from, to, expected) in [
                ("192.168.77.2", "203.0.113.200", "203.0.113.1"),
                ("192.168.77.2", "192.0.2.5", "198.51.100.1"),
                ("192.168.77.2", "10.20.0.5", "192.168.77.2"),
                ("fd00:77::2", "2001:db8:5::5", "2001:db8:113::1"),
            ] {
                let probe = Probe::new(Kind::Sctp, parse(to)).from(parse(from));
                let seen = probe.seen(&lab.lan, &lab.observer).expect("it arrives");
                assert_eq!(seen.source, parse(expected), "{backend}: {keys}{from} to {to}");
                let is_kept = from == expected;
                if let Some(ports) = ports.as_ref().filter(|_| !is_kept) {
                    let port = seen.source_port();
                    assert!(ports.iter().any(|range| range.contains(&port)), "{backend}: {keys}{to}: {port}");
                }
                peers.outside.answer(&seen);
                let answer = peers.lan.source_of(seen.source.is_ipv4(), |packet| probe.is_answered_by(packet));
                assert_eq!(answer, Some(parse(to)), "{backend}: {keys}{from} to {to}");
            }
        }
    }
}
