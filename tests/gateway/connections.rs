//! Connections that keep what their first packet was given, while addresses, routes, rules and the configuration change.

use crate::lab::{BACKENDS, DEADLINE, Gateway, Lab, Service, parse};
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::network::Connection;
use ip_masq_agent::policy::{Family, Protocol};
use ip_masq_agent::sys::conntrack::{Conntrack, Entry, Filter};
use rustix::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;

pub const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");
/// Reached by the default route, whichever uplink that takes.
pub const FAR: &str = "100.64.9.9";

/// A lab whose outside answers for [`FAR`] on both uplinks.
pub fn lab() -> Option<Lab> {
    let lab = Lab::build()?;
    lab.outside.ip("addr add 100.64.9.9/32 dev lo\n");
    // Answers of translated connections of the gateway itself, over either uplink.
    lab.outside.sysctl("net/ipv4/conf/all/rp_filter", "0");
    Some(lab)
}

/// A UDP socket of the LAN that keeps sending to one of the outside.
pub struct Udp {
    client: UdpSocket,
    server: UdpSocket,
}

impl Udp {
    pub fn new(lab: &Lab, source: &str, destination: &str) -> Self {
        let bind = |address: &str| UdpSocket::bind((parse(address), 0)).expect("a socket");
        let (client, server) = (lab.lan.enter(|| bind(source)), lab.outside.enter(|| bind(destination)));
        server.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        client.connect(server.local_addr().expect("an address")).expect("a destination");
        Udp { client, server }
    }

    /// Sends a packet; the source that arrives.
    pub fn seen(&self) -> IpAddr {
        self.client.send(b"x").expect("to send");
        self.server.recv_from(&mut [0]).expect("a packet").1.ip()
    }

    fn destination(&self) -> SocketAddr {
        self.server.local_addr().expect("an address")
    }
}

/// The gateway's connection of a protocol to a port of a destination.
fn tracked(lab: &Lab, protocol: Protocol, to: SocketAddr) -> Option<Connection> {
    let mut found = None;
    lab.gateway.enter(|| {
        let each = |entries: Vec<Entry>| {
            for entry in entries {
                let connection = entry.connection;
                let original = connection.original;
                let is_it = original.protocol == protocol
                    && original.destination == to.ip()
                    && original.ports.is_some_and(|(_, port)| port == to.port());
                found = found.or(is_it.then_some(connection));
            }
            Ok(ControlFlow::Continue(()))
        };
        Conntrack::open()
            .and_then(|mut conntrack| conntrack.dump(Family::V4, &Filter::default(), each))
            .expect("entries")
    });
    found
}

/// The LAN's first network leaves `wan0` as its VIP, the second one as another address; what is left is masqueraded.
const FIXED: &str = "\
egress:
- {name: first, outInterfaces: [wan0], sourceCIDRs: [192.168.77.0/24], snat: 203.0.113.77}
- {name: second, outInterfaces: [wan0], sourceCIDRs: [192.168.78.0/24], snat: 203.0.113.78}
";

pub fn forgotten(running: &mut Service, count: usize) {
    running.wait_for_log(&format!("tracked connections forgotten: {count}; their fixed source address has left"));
}

#[test]
fn a_flow_with_a_fixed_source_is_forgotten_with_its_address_and_the_next_packet_gets_it_right() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(FIXED));
        let mut running = gateway.agent.start();
        let fixed = Udp::new(&lab, "192.168.77.2", FAR);
        assert_eq!(fixed.seen(), parse("203.0.113.77"), "{backend}");
        lab.gateway.ip("addr del 203.0.113.77/32 dev wan0\nroute replace default via 198.51.100.9\n");
        forgotten(&mut running, 1);
        assert_eq!(fixed.seen(), parse("198.51.100.1"), "{backend}");
        let status = gateway.agent.must("status", &[]);
        assert!(status.contains("   connections: 1 forgotten since the start; the last 1 "), "{status}");
        let json: serde_json::Value = serde_json::from_str(&gateway.agent.must("status", &["--json"])).expect("JSON");
        assert_eq!(json["connections"]["forgotten"], 1);
    }
}

#[test]
fn a_flow_with_a_fixed_ipv6_source_is_forgotten_with_its_address() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config("egress: [{outInterfaces: [wan0], snat: \"2001:db8:113::77\"}]\n"));
        let mut running = gateway.agent.start();
        // Answered once all that belongs to the start is done.
        gateway.agent.must("status", &[]);
        let fixed = Udp::new(&lab, "fd00:77::2", "2001:db8:5::5");
        assert_eq!(fixed.seen(), parse("2001:db8:113::77"), "{backend}");
        lab.gateway.ip("addr del 2001:db8:113::77/128 dev wan0\n");
        forgotten(&mut running, 1);
        gateway.agent.configure(&gateway.config("egress: [{outInterfaces: [wan0], snat: \"2001:db8:113::1\"}]\n"));
        gateway.agent.must("reload", &[]);
        assert_eq!(fixed.seen(), parse("2001:db8:113::1"), "{backend}");
    }
}

#[test]
fn a_flow_whose_port_leads_it_through_the_interface_of_its_entry_is_kept_when_routes_change() {
    let Some(lab) = lab() else { return };
    lab.gateway.ip(&format!(
        "rule add from 192.168.78.2 ipproto udp dport 1024-65534 lookup 100\n\
         route add default via 198.51.100.9 table 100\nroute add {FAR}/32 via 198.51.100.9\n"
    ));
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config("egress: [{outInterfaces: [wan1], snat: 198.51.100.1}]\n"));
    let mut running = gateway.agent.start();
    let (by_port, by_route) = (Udp::new(&lab, "192.168.78.2", FAR), Udp::new(&lab, "192.168.77.2", FAR));
    assert_eq!([&by_port, &by_route].map(Udp::seen), [parse("198.51.100.1"); 2]);
    let begun = tracked(&lab, Protocol::Udp, by_port.destination()).map(|connection| connection.id);
    lab.gateway.ip(&format!("route del {FAR}/32\n"));
    forgotten(&mut running, 1);
    assert_eq!(tracked(&lab, Protocol::Udp, by_port.destination()).map(|connection| connection.id), begun);
    assert_eq!([&by_port, &by_route].map(Udp::seen), [parse("198.51.100.1"), parse("203.0.113.1")]);
}

#[test]
fn a_flow_that_leaves_through_another_interface_than_its_entrys_is_forgotten_and_no_other() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config(FIXED));
    let mut running = gateway.agent.start();
    // To a host on the link of wan0: its way stays.
    let (moves, stays) = (Udp::new(&lab, "192.168.77.2", FAR), Udp::new(&lab, "192.168.77.2", "203.0.113.200"));
    let masqueraded = Udp::new(&lab, "192.168.77.2", "192.0.2.5");
    let ours = lab.outside.enter(|| TcpListener::bind((parse(FAR), 0))).expect("a listener");
    let to = ours.local_addr().expect("its address");
    assert_eq!((moves.seen(), stays.seen()), (parse("203.0.113.77"), parse("203.0.113.77")));
    assert_eq!(masqueraded.seen(), parse("198.51.100.1"));
    // The gateway's own TCP, from its LAN address, is translated as well, and is never touched.
    let local = lab.gateway.enter(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(parse("192.168.77.1"), 0).into()).expect("its address");
        socket.connect(&to.into()).expect("a connection");
        socket
    });
    let before =
        [stays.destination(), masqueraded.destination()].map(|to| tracked(&lab, Protocol::Udp, to).expect("it"));
    let session = tracked(&lab, Protocol::Tcp, to).expect("it");
    assert_eq!(session.seen_source(), parse("203.0.113.77"));
    lab.gateway.ip("route replace default via 198.51.100.9\n");
    forgotten(&mut running, 1);
    assert_eq!((moves.seen(), stays.seen()), (parse("198.51.100.1"), parse("203.0.113.77")));
    let after =
        [stays.destination(), masqueraded.destination()].map(|to| tracked(&lab, Protocol::Udp, to).expect("it"));
    assert_eq!(before.map(|one| one.id), after.map(|one| one.id));
    assert_eq!(tracked(&lab, Protocol::Tcp, to).expect("it").id, session.id);
    drop(local);
}

#[test]
fn a_route_that_flaps_forgets_nothing_and_writes_nothing() {
    let Some(lab) = lab() else { return };
    lab.gateway.ip("addr add 203.0.113.78/32 dev wan0\n");
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config(FIXED));
    let mut running = gateway.agent.start();
    let (stays, marker) = (Udp::new(&lab, "192.168.77.2", FAR), Udp::new(&lab, "192.168.78.2", FAR));
    assert_eq!((stays.seen(), marker.seen()), (parse("203.0.113.77"), parse("203.0.113.78")));
    let before = tracked(&lab, Protocol::Udp, stays.destination()).expect("it");
    let generation =
        || lab.gateway.enter(|| ip_masq_agent::sys::nfnetlink::Nfnetlink::open()?.generation()).expect("it");
    let rules = generation();
    for _ in 0..5 {
        lab.gateway.ip("route del default via 203.0.113.9\nroute add default via 203.0.113.9\n");
        lab.gateway.ip("addr add 10.99.0.1/24 dev wan1\naddr del 10.99.0.1/24 dev wan1\n");
    }
    // What is told after the flaps shows that they have been dealt with.
    lab.gateway.ip("addr del 203.0.113.78/32 dev wan0\n");
    forgotten(&mut running, 1);
    assert_eq!(tracked(&lab, Protocol::Udp, stays.destination()).expect("it").id, before.id);
    assert_eq!(generation(), rules);
}

#[test]
fn of_more_than_ten_thousand_flows_ten_thousand_at_most_are_forgotten_and_it_is_said() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config(FIXED));
    let mut running = gateway.agent.start();
    let client = lab.lan.enter(|| UdpSocket::bind((parse("192.168.77.2"), 0))).expect("a socket");
    for port in 20_000..32_000_u16 {
        // The outside may say meanwhile that nobody listens there.
        while client.send_to(b"x", (parse(FAR), port)).is_err() {}
    }
    // The last one is tracked once the gateway has had its turn; those before it are, too.
    let last = Udp::new(&lab, "192.168.77.2", FAR);
    assert_eq!(last.seen(), parse("203.0.113.77"));
    lab.gateway.ip("addr del 203.0.113.77/32 dev wan0\n");
    // An earlier change of the network may have had all of them looked through, in vain and not to the end.
    let (line, count) = loop {
        let line = running.wait_for_log("tracked connections forgotten: ");
        let (_, rest) = line.split_once("forgotten: ").expect("the number");
        let count: usize = rest.split_once(';').expect("its end").0.parse().expect("a number");
        if count > 0 {
            break (line, count);
        }
    };
    assert!((1..=10_000).contains(&count), "{line}");
    assert!(line.contains("stopped there, at 10,000 connections or 200 ms"), "{line}");
}

#[test]
fn a_reload_forgets_what_the_new_policy_treats_in_another_way_where_that_is_wanted() {
    for (flush, seen) in [("affected", "192.168.77.2"), ("off", "203.0.113.1")] {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
        let config =
            |exempt: &str| gateway.config(&format!("flushConntrack: {flush}\nnonMasqueradeCIDRs: [{exempt}]\n"));
        gateway.agent.configure(&config("10.0.0.0/8"));
        let mut running = gateway.agent.start();
        let (changes, stays) = (Udp::new(&lab, "192.168.77.2", FAR), Udp::new(&lab, "192.168.77.2", "203.0.113.200"));
        assert_eq!((changes.seen(), stays.seen()), (parse("203.0.113.1"), parse("203.0.113.1")));
        let before = tracked(&lab, Protocol::Udp, stays.destination()).expect("it");
        gateway.agent.configure(&config("100.64.0.0/10"));
        gateway.agent.must("reload", &[]);
        if flush == "affected" {
            running.wait_for_log("tracked connections forgotten: 1; the new configuration treats them in another way");
        }
        assert_eq!((changes.seen(), stays.seen()), (parse(seen), parse("203.0.113.1")), "{flush}");
        assert_eq!(tracked(&lab, Protocol::Udp, stays.destination()).expect("it").id, before.id);
    }
}

/// Connection tracking stays on while our rules are away.
const FIREWALL: &str = "add table inet fw\n\
    add chain inet fw forward { type filter hook forward priority 0; }\n\
    add rule inet fw forward ct state established accept\n";

#[test]
fn flows_that_began_while_the_rules_were_away_are_counted_or_forgotten() {
    for on_repair in ["report", "forget"] {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
        gateway.agent.configure(&gateway.config(&format!("onRepair: {on_repair}\n")));
        let mut running = gateway.agent.start();
        lab.gateway.nft(FIREWALL);
        let (before, during) = (Udp::new(&lab, "192.168.77.2", FAR), Udp::new(&lab, "192.168.77.2", FAR));
        assert_eq!(before.seen(), parse("203.0.113.1"));
        running.signal(Signal::STOP);
        lab.gateway.must("nft", &["delete", "table", "inet", "ip-masq-agent"]);
        assert_eq!(during.seen(), parse("192.168.77.2"));
        running.signal(Signal::CONT);
        let forget = on_repair == "forget";
        let said = match forget {
            true => "tracked connections forgotten: 1; they began while rules were missing",
            false => {
                "tracked connections that are not translated as the policy says: 1; they began while rules were missing"
            }
        };
        running.wait_for_log(said);
        assert_eq!(during.seen(), parse(if forget { "203.0.113.1" } else { "192.168.77.2" }));
        assert_eq!(before.seen(), parse("203.0.113.1"));
        let status = gateway.agent.must("status", &[]);
        let counted = "   connections: 1 began while rules were missing and are not translated\n";
        assert_eq!(status.contains(counted), !forget, "{status}");
    }
}

#[test]
fn a_flow_tracked_with_its_own_source_before_the_rules_is_forgotten_where_only_they_keep_tracking_on() {
    for backend in BACKENDS {
        for stays in [false, true] {
            let Some(lab) = lab() else { return };
            let gateway = Gateway::new(&lab, BINARY, *backend);
            // An entry such as the kernel makes when it tracks already, and the rules don't count yet.
            lab.gateway.nft(FIREWALL);
            let flow = Udp::new(&lab, "192.168.77.2", FAR);
            assert_eq!(flow.seen(), parse("192.168.77.2"));
            assert!(tracked(&lab, Protocol::Udp, flow.destination()).is_some());
            if !stays {
                lab.gateway.must("nft", &["delete", "table", "inet", "fw"]);
            }
            gateway.agent.configure(&gateway.config("onStop: keep\n"));
            let running = gateway.agent.start();
            // Ready: it is right from now on.
            let expected = if stays { "192.168.77.2" } else { "203.0.113.1" };
            assert_eq!(flow.seen(), parse(expected), "{backend}, a firewall that stays: {stays}");
            drop(running);
            let mut again = gateway.agent.start();
            gateway.agent.must("status", &[]);
            assert!(!again.log_has("forgotten"), "{backend}: the rules were there");
        }
    }
}

/// A port of the gateway's address on `wan0`, and sockets that are told of what comes there and further on.
struct Forwarded {
    client: UdpSocket,
    host: UdpSocket,
    target: UdpSocket,
    other_target: UdpSocket,
}

impl Forwarded {
    fn new(lab: &Lab) -> Self {
        let bind = |address: &str, port| {
            let socket = UdpSocket::bind((parse(address), port)).expect("a socket");
            socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            socket
        };
        let client = lab.outside.enter(|| bind("203.0.113.9", 0));
        client.connect((parse("203.0.113.1"), 5300)).expect("a destination");
        let host = lab.gateway.enter(|| bind("203.0.113.1", 5300));
        let (target, other_target) = lab.lan.enter(|| (bind("192.168.77.2", 53), bind("192.168.77.2", 54)));
        Forwarded { client, host, target, other_target }
    }

    /// The client sends from its port, and is answered by this one.
    fn is_answered_by(&self, server: &UdpSocket) {
        self.client.send(b"x").expect("to send");
        let (_, from) = server.recv_from(&mut [0]).expect("a packet");
        assert_eq!(from, self.client.local_addr().expect("an address"));
        server.send_to(b"y", from).expect("to answer");
        self.client.recv(&mut [0]).expect("an answer");
    }
}

fn forward(port: u16) -> String {
    format!("portForwards: [{{hostPort: 5300, protocol: [tcp, udp], address: 192.168.77.2, port: {port}}}]\n")
}

#[test]
fn a_udp_client_that_keeps_its_port_follows_a_forward_that_comes_changes_and_goes() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(""));
        let mut running = gateway.agent.start();
        let flow = Forwarded::new(&lab);
        flow.is_answered_by(&flow.host);
        // The same port of another host, and TCP of a local socket: both stay.
        let transit = lab.lan.enter(|| UdpSocket::bind((parse("192.168.77.2"), 0))).expect("a socket");
        let elsewhere = SocketAddr::new(parse("203.0.113.200"), 5300);
        let server = lab.outside.enter(|| UdpSocket::bind(elsewhere)).expect("a socket");
        transit.send_to(b"x", elsewhere).expect("to send");
        server.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        server.recv_from(&mut [0]).expect("a packet");
        let here = SocketAddr::new(parse("203.0.113.1"), 5300);
        let listener = lab.gateway.enter(|| TcpListener::bind(here)).expect("a listener");
        let session = lab.outside.enter(|| TcpStream::connect(here)).expect("a connection");
        let others = || {
            [(Protocol::Udp, elsewhere), (Protocol::Tcp, here)]
                .map(|(protocol, to)| tracked(&lab, protocol, to).expect("it").id)
        };
        let before = others();
        let steps = [(forward(53), &flow.target), (forward(54), &flow.other_target), (String::new(), &flow.host)];
        for (forwards, server) in steps {
            gateway.agent.configure(&gateway.config(&forwards));
            gateway.agent.must("reload", &[]);
            running.wait_for_log(
                "tracked connections forgotten: 1; UDP flows of port forwards that are new, changed or gone",
            );
            flow.is_answered_by(server);
            assert_eq!(others(), before, "{backend}: {forwards}");
        }
        drop((listener, session));
    }
}

#[test]
fn a_forward_that_stays_keeps_its_flows_when_others_change() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config(&forward(53)));
    let mut running = gateway.agent.start();
    let flow = Forwarded::new(&lab);
    flow.is_answered_by(&flow.target);
    let marker = lab.outside.enter(|| UdpSocket::bind((parse("203.0.113.9"), 0))).expect("a socket");
    marker.send_to(b"x", (parse("203.0.113.1"), 5301)).expect("to send");
    let here = SocketAddr::new(parse("203.0.113.1"), 5300);
    let before = tracked(&lab, Protocol::Udp, here).expect("it").id;
    // The first one is written in another line now.
    let more = "- {hostPort: 5301, protocol: udp, address: 192.168.77.2}\n";
    let kept = "- {hostPort: 5300, protocol: [tcp, udp], address: 192.168.77.2, port: 53}\n";
    gateway.agent.configure(&gateway.config(&format!("portForwards:\n{more}{kept}")));
    gateway.agent.must("reload", &[]);
    running.wait_for_log("tracked connections forgotten: 1; UDP flows of port forwards that are new, changed or gone");
    assert_eq!(tracked(&lab, Protocol::Udp, here).expect("it").id, before);
    flow.is_answered_by(&flow.target);
}

#[test]
fn a_udp_client_that_spoke_before_the_service_began_reaches_the_target_and_goes_on_over_a_restart() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        lab.gateway.nft(FIREWALL);
        let flow = Forwarded::new(&lab);
        flow.is_answered_by(&flow.host);
        gateway.agent.configure(&gateway.config(&format!("onStop: keep\n{}", forward(53))));
        let mut running = gateway.agent.start();
        running.wait_for_log("tracked connections forgotten: 1; UDP flows that began before their port was forwarded");
        flow.is_answered_by(&flow.target);
        let here = SocketAddr::new(parse("203.0.113.1"), 5300);
        let before = tracked(&lab, Protocol::Udp, here).expect("it").id;
        drop(running);
        let mut again = gateway.agent.start();
        // Answered after what a start has to do.
        gateway.agent.must("status", &[]);
        flow.is_answered_by(&flow.target);
        assert_eq!(tracked(&lab, Protocol::Udp, here).expect("it").id, before, "{backend}");
        assert!(!again.log_has("forgotten"), "{backend}");
    }
}

#[test]
fn a_udp_client_of_a_trial_that_a_crash_ended_is_answered_by_the_host_again() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    lab.gateway.run_with_input("nft", &["-f", "-"], FIREWALL);
    let earlier = gateway.config("configWatch: off\n");
    gateway.agent.configure(&earlier);
    let mut running = gateway.agent.start();
    gateway.agent.configure(&gateway.config(&format!("configWatch: off\n{}", forward(53))));
    gateway.agent.must("try", &["--timeout", "60s"]);
    let flow = Forwarded::new(&lab);
    flow.is_answered_by(&flow.target);
    gateway.agent.configure(&earlier);
    running.signal(Signal::KILL);
    running.wait();
    let mut again = gateway.agent.start();
    again.wait_for_log("tracked connections forgotten: 1; UDP flows of port forwards that are new, changed or gone");
    flow.is_answered_by(&flow.host);
}

#[test]
fn a_udp_client_that_spoke_while_the_rules_were_away_reaches_the_target_once_they_are_back() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    gateway.agent.configure(&gateway.config(&forward(53)));
    let mut running = gateway.agent.start();
    lab.gateway.nft(FIREWALL);
    let flow = Forwarded::new(&lab);
    running.signal(Signal::STOP);
    lab.gateway.must("nft", &["delete", "table", "inet", "ip-masq-agent"]);
    flow.is_answered_by(&flow.host);
    running.signal(Signal::CONT);
    running.wait_for_log("IPv4 rules changed by nft");
    // What a start puts off may have come to it before the repair.
    let forgotten = "tracked connections forgotten: 1; UDP flows that began before their port was forwarded";
    if !running.log.iter().any(|line| line.contains(forgotten)) {
        running.wait_for_log(forgotten);
    }
    flow.is_answered_by(&flow.target);
}

#[test]
fn the_conntrack_command_of_the_guide_makes_open_flows_heed_an_edit_and_breaks_those_whose_address_changes() {
    let guide = include_str!("../../docs/operations.md");
    let command = guide.split('`').find(|span| span.starts_with("conntrack -D ")).expect("the command");
    let network = command.rsplit(' ').next().unwrap();
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        lab.outside.ip("addr add 10.4.0.5/32 dev wan0\n");
        // A connection that the far end does not know is refused by it, not left alone.
        lab.add_route_back();
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config("nonMasqueradeCIDRs: [192.168.0.0/16]\n"));
        let _service = gateway.agent.start();
        let (udp, elsewhere) = (Udp::new(&lab, "192.168.77.2", "10.4.0.5"), Udp::new(&lab, "192.168.77.2", FAR));
        assert_eq!([&udp, &elsewhere].map(Udp::seen), [parse("203.0.113.1"); 2], "{backend}");
        let other = tracked(&lab, Protocol::Udp, elsewhere.destination()).expect("it").id;
        let server = lab.outside.enter(|| TcpListener::bind((parse("10.4.0.5"), 0))).expect("a listener");
        let to = server.local_addr().expect("its address");
        let mut client = lab.lan.enter(|| TcpStream::connect(to)).expect("a connection");
        client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let (_served, peer) = server.accept().expect("it");
        assert_eq!(peer.ip(), parse("203.0.113.1"), "{backend}");

        gateway.agent.configure(&gateway.config(&format!("nonMasqueradeCIDRs: [192.168.0.0/16, {network}]\n")));
        gateway.agent.must("reload", &[]);
        assert_eq!(udp.seen(), parse("203.0.113.1"), "{backend}: an open flow keeps what it was given");
        let words: Vec<&str> = command.split(' ').collect();
        lab.gateway.must(words[0], &words[1..]);
        assert_eq!(udp.seen(), parse("192.168.77.2"), "{backend}");
        client.write_all(b"x").expect("to send");
        let ended = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{backend}");
        assert_eq!(tracked(&lab, Protocol::Udp, elsewhere.destination()).expect("it").id, other, "{backend}");
    }
}

#[test]
fn a_udp_client_that_a_gate_leaves_to_the_host_is_not_forgotten_when_an_address_arrives() {
    let Some(lab) = lab() else { return };
    let gateway = Gateway::new(&lab, BINARY, BackendName::Nftables);
    let gated = |interface: &str, port: u16| {
        format!(
            "- {{hostPort: 5300, protocol: udp, address: 192.168.77.2, port: {port}, inInterfaces: [{interface}]}}\n"
        )
    };
    let late = "- {hostPort: 5301, protocol: udp, address: 192.168.77.2, hostIP: 203.0.113.66}\n";
    gateway.agent.configure(&gateway.config(&format!("portForwards:\n{}{late}", gated("wan1", 54))));
    let mut running = gateway.agent.start();
    gateway.agent.must("status", &[]);
    let flow = Forwarded::new(&lab);
    flow.is_answered_by(&flow.host);
    let here = SocketAddr::new(parse("203.0.113.1"), 5300);
    let before = tracked(&lab, Protocol::Udp, here).expect("it").id;
    // Away through the gateway until the address is its own.
    lab.gateway.ip("route add 203.0.113.66/32 via 198.51.100.9\n");
    let marker = lab.outside.enter(|| UdpSocket::bind((parse("203.0.113.9"), 0))).expect("a socket");
    lab.outside.ip("route add 203.0.113.66/32 via 203.0.113.1\n");
    marker.send_to(b"x", (parse("203.0.113.66"), 5301)).expect("to send");
    lab.gateway.ip("addr add 203.0.113.66/32 dev wan0\n");
    running.wait_for_log("tracked connections forgotten: 1; UDP flows that began before their port was forwarded");
    assert_eq!(tracked(&lab, Protocol::Udp, here).expect("it").id, before);
    flow.is_answered_by(&flow.host);
    // One gate after the other, of which the second one lets it in.
    gateway.agent.configure(&gateway.config(&format!("portForwards:\n{}{}", gated("wan1", 54), gated("wan0", 53))));
    gateway.agent.must("reload", &[]);
    running.wait_for_log("UDP flows of port forwards that are new, changed or gone");
    flow.is_answered_by(&flow.target);
}
