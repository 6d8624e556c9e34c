//! Interfaces, addresses, routes and connections, as the real kernel tells of them.

use crate::namespace::{self, nft, run};
use ip_masq_agent::network::{Network, Status};
use ip_masq_agent::policy::{Family, Protocol};
use ip_masq_agent::sys::conntrack::{Bounds, Conntrack, Entry, Filter, sweep};
use ip_masq_agent::sys::rtnetlink::{self, NetworkEvents, Question, Refusal, Routed, Router};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::net::{IpAddr, UdpSocket};
use std::ops::ControlFlow;
use std::time::Duration;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn batch(lines: &str) {
    run("ip", &["-batch", "-"], lines);
}

/// Two uplinks to nowhere, and a LAN.
fn gateway() {
    batch(
        "link set lo up\nlink add wan0 type veth peer name far0\nlink add wan1 type veth peer name far1\n\
         link add lan0 type veth peer name far2\nlink set wan0 up\nlink set wan1 up\nlink set lan0 up\n\
         link set far0 up\nlink set far1 up\nlink set far2 up\n\
         addr add 203.0.113.1/24 dev wan0\naddr add 198.51.100.1/24 dev wan1\naddr add 192.168.50.1/24 dev lan0\n\
         addr add 2001:db8:50::1/64 dev lan0 nodad\n",
    );
}

#[test]
fn addresses_and_routes_that_come_and_go_are_told_and_read() {
    namespace::enter!();
    gateway();
    let mut events = NetworkEvents::open().unwrap();
    let before = rtnetlink::network().unwrap();
    assert_eq!(before.interface_to(ip("192.0.2.1")), None);
    assert!(before.has("wan0", ip("203.0.113.1")) && before.owns(ip("2001:db8:50::1")));
    batch(
        "route add default via 203.0.113.9 src 203.0.113.1 metric 10\nroute add default via 198.51.100.9 metric 20\n",
    );
    batch("addr add 203.0.113.77/32 dev wan0\nroute add 10.88.0.0/16 via 192.168.50.7\n");
    batch(
        "route add fd88::/16 via 2001:db8:50::7\nroute add 10.9.0.0/16 nexthop via 203.0.113.8 nexthop via 198.51.100.8\n",
    );
    assert!(events.read().unwrap());
    let network = rtnetlink::network().unwrap();
    assert!(network.has("wan0", ip("203.0.113.77")));
    assert_eq!(network.interface_to(ip("192.0.2.1")), Some("wan0"));
    let names: Vec<&str> = network.hops_to(ip("10.9.1.1")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["wan0", "wan1"]);
    for (target, connected) in [("10.88.0.5", "192.168.50.0/24"), ("fd88::5", "2001:db8:50::/64")] {
        assert_eq!(network.connected_networks_to(ip(target)), [("lan0", connected.parse().unwrap())]);
    }
    let sources = network.route_sources();
    assert_eq!(sources.find("wan0", ip("192.0.2.1")).and_then(|row| row.source), Some(ip("203.0.113.1")));
    // A flap: what came back is what was there.
    batch("route del default via 203.0.113.9\n");
    assert_eq!(rtnetlink::network().unwrap().interface_to(ip("192.0.2.1")), Some("wan1"));
    batch("route add default via 203.0.113.9 src 203.0.113.1 metric 10\n");
    assert!(events.read().unwrap());
    assert_eq!(rtnetlink::network().unwrap(), network);
    assert!(!events.read().unwrap(), "nothing happened since");
}

#[test]
fn routes_of_an_interface_that_goes_down_are_gone() {
    namespace::enter!();
    gateway();
    batch("route add default via 203.0.113.9 metric 10\nroute add default via 198.51.100.9 metric 20\n");
    batch("link set wan0 down\n");
    let network = rtnetlink::network().unwrap();
    assert_eq!(network.interface_to(ip("192.0.2.1")), Some("wan1"));
    assert!(network.owns(ip("203.0.113.1")), "the address stays");
}

#[test]
fn routes_by_nexthop_objects_have_the_hops_of_the_objects_however_the_kernel_tells_of_them() {
    namespace::enter!();
    gateway();
    let mut events = NetworkEvents::open().unwrap();
    batch("nexthop add id 7 via 203.0.113.9 dev wan0\nnexthop add id 8 via 198.51.100.9 dev wan1\n");
    batch("nexthop add id 9 group 7/8\nnexthop add id 10 blackhole\nroute add 10.9.0.0/16 nhid 9\n");
    batch("route add 10.7.0.0/16 nhid 7\nroute add 10.10.0.0/16 nhid 10\nroute add 10.0.0.0/8 via 203.0.113.8\n");
    assert!(events.read().unwrap());
    for compatible in ["1", "0"] {
        run("sh", &["-c", &format!("echo {compatible} > /proc/sys/net/ipv4/nexthop_compat_mode")], "");
        let network = rtnetlink::network().unwrap();
        let ways = |target: &str| network.hops_to(ip(target)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(ways("10.7.1.1"), ["wan0"], "{compatible}");
        assert_eq!(ways("10.9.1.1"), ["wan0", "wan1"], "{compatible}");
        assert_eq!(ways("10.10.1.1"), [""; 0], "{compatible}");
    }
    batch("nexthop replace id 7 via 198.51.100.7 dev wan1\n");
    assert!(events.read().unwrap(), "the object changed, and the route with it");
    assert_eq!(rtnetlink::network().unwrap().interface_to(ip("10.7.1.1")), Some("wan1"));
}

#[test]
fn a_target_that_only_another_table_leads_to_is_reached_as_the_kernel_says() {
    namespace::enter!();
    gateway();
    let targets = ["10.88.0.5", "192.168.60.9", "192.0.2.1"].map(ip).into();
    let reached = |target: &str| {
        let network = rtnetlink::network_towards(&targets).unwrap();
        let reached = network.reached(ip(target));
        reached.map(|reached| format!("{} {:?}", reached.interface, reached.networks))
    };
    assert_eq!(reached("10.88.0.5"), None);
    let mut events = NetworkEvents::open().unwrap();
    batch("rule add to 10.88.0.0/16 lookup 100\nrule add to 192.168.60.0/24 lookup 100\n");
    assert!(events.read().unwrap());
    assert_eq!(reached("10.88.0.5"), None);
    batch("route add 10.88.0.0/16 via 192.168.50.7 table 100\naddr add 192.168.60.1/24 dev lan0 noprefixroute\n");
    batch("route add 192.168.60.0/24 dev lan0 table 100\nroute add default via 203.0.113.9\n");
    assert!(events.read().unwrap());
    let prefixes = |text: &str| format!("{:?}", [text.parse::<ip_masq_agent::policy::Prefix>().unwrap()]);
    assert_eq!(reached("10.88.0.5"), Some(format!("lan0 {}", prefixes("192.168.50.0/24"))));
    assert_eq!(
        reached("192.168.60.9"),
        Some(format!("lan0 {}", prefixes("192.168.60.0/24"))),
        "on no link of the main table"
    );
    assert_eq!(reached("192.0.2.1"), Some(format!("wan0 {}", prefixes("203.0.113.0/24"))));
}

#[test]
fn an_overrun_of_the_queue_means_that_everything_is_read_again() {
    namespace::enter!();
    gateway();
    let mut events = NetworkEvents::open().unwrap();
    events.set_queue(0).unwrap();
    let lines: String = (0..200).map(|number| format!("addr add 10.1.{number}.1/24 dev lan0\n")).collect();
    batch(&lines);
    assert!(events.read().unwrap());
    assert!(!events.read().unwrap(), "the listener is alive after the overrun, and quiet");
    batch("addr del 10.1.0.1/24 dev lan0\n");
    assert!(events.read().unwrap());
}

#[test]
fn the_kernel_is_asked_for_the_way_of_a_packet_with_its_rules_and_marks() {
    namespace::enter!();
    gateway();
    batch("route add default via 203.0.113.9\nroute add default via 198.51.100.9 table 102\n");
    batch("rule add fwmark 0x200/0xf00 lookup 102\nrule add from 192.168.50.99 lookup 102\n");
    run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], "");
    let network = rtnetlink::network().unwrap();
    let mut router = Router::open().unwrap();
    let lan = network.interfaces_with(ip("192.168.50.1")).into_iter().next().unwrap();
    let lan = index(&network, lan);
    let mut way = |source: &str, mark| {
        let towards = Question::from_this_host(ip("192.0.2.1"));
        let question = Question { source: Some(ip(source)), from: Some(lan), mark, ..towards };
        let routed = router.ask(&question).unwrap();
        routed.hop().map_or_else(|| format!("{routed:?}"), |hop| network.name(hop.interface).unwrap().to_owned())
    };
    assert_eq!(way("192.168.50.2", 0), "wan0");
    assert_eq!(way("192.168.50.2", 0x200), "wan1");
    assert_eq!(way("192.168.50.99", 0), "wan1");
    let local = Router::open().unwrap().ask(&Question::from_this_host(ip("203.0.113.1"))).unwrap();
    assert!(matches!(local, Routed::Local(_)), "{local:?}");
    let nowhere = Router::open().unwrap().ask(&Question::from_this_host(ip("2001:db8::9"))).unwrap();
    assert_eq!(nowhere, Routed::Refused(Refusal::NoRoute));
}

fn index(network: &Network, name: &str) -> u32 {
    (0..64).find(|index| network.name(*index) == Some(name)).unwrap()
}

/// Connections of a socket of 127.0.0.1 to so many ports of an address of the host.
fn flows(to: &str, count: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in 0..count {
        // Nobody is there: the answer to an earlier one may be an error.
        while socket.send_to(b"x", (to, 20_000 + port)).is_err() {}
    }
    socket
}

const TRANSLATE: &str = "add table ip a\nadd chain ip a b { type nat hook postrouting priority 100; }\n\
                         add rule ip a b ip daddr 127.0.0.2 snat to 127.0.0.9\n\
                         add rule ip a b ip daddr 127.0.0.3 snat to 127.0.0.10\n";

fn connections(family: Family, filter: &Filter) -> Vec<Entry> {
    let mut all = Vec::new();
    let collect = |entries| {
        all.extend(entries);
        Ok(ControlFlow::Continue(()))
    };
    Conntrack::open().unwrap().dump(family, filter, collect).unwrap();
    all
}

#[test]
fn connections_are_read_filtered_and_deleted_one_by_one() {
    namespace::enter!();
    batch("link set lo up\n");
    nft(TRANSLATE);
    let _sockets = (flows("127.0.0.2", 3), flows("127.0.0.3", 2), flows("127.0.0.4", 4));
    let count = |filter: Filter| connections(Family::V4, &filter).len();
    let translated = Filter { with: Status::SRC_NAT, ..Filter::default() };
    let from = |address: &str| Filter { seen_source: Some(ip(address)), ..Filter::default() };
    assert!(count(Filter::default()) >= 9);
    assert_eq!((count(translated), count(from("127.0.0.9")), count(from("127.0.0.10"))), (5, 3, 2));
    assert_eq!(count(Filter { with: Status::DST_NAT, ..Filter::default() }), 0);
    assert_eq!(connections(Family::V6, &Filter::default()), []);
    let listener = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let _session = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = connections(Family::V4, &Filter { udp: true, ..Filter::default() });
    assert!(udp.len() >= 9 && udp.iter().all(|entry| entry.connection.original.protocol == Protocol::Udp));
    assert!(count(Filter::default()) > udp.len(), "and one of TCP");
    assert_eq!(count(Filter { udp: true, ..from("127.0.0.9") }), 3);
    let entries = connections(Family::V4, &from("127.0.0.9"));
    let connection = entries[0].connection;
    assert_eq!((connection.original.protocol, connection.target()), (Protocol::Udp, ip("127.0.0.2")));
    assert!(connection.original.ports.is_some_and(|(_, to)| (20_000..20_003).contains(&to)));
    let mut conntrack = Conntrack::open().unwrap();
    assert_eq!(conntrack.delete(&entries[..1]).unwrap(), 1);
    assert_eq!(conntrack.delete(&entries).unwrap(), 2, "one of them had ended");
    assert_eq!((count(from("127.0.0.9")), count(from("127.0.0.10"))), (0, 2), "and no other");
}

#[test]
fn connections_of_ipv6_are_found_by_their_addresses_too() {
    namespace::enter!();
    let own = ["2001:db8::2", "2001:db8::3", "2001:db8::9"].map(|own| format!("addr add {own}/128 dev lo nodad\n"));
    batch(&format!("link set lo up\n{}", own.concat()));
    nft("add table ip6 a\nadd chain ip6 a b { type nat hook postrouting priority 100; }\n\
         add rule ip6 a b ip6 daddr 2001:db8::2 snat to 2001:db8::9\n");
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    for to in [("2001:db8::2", 20_000), ("2001:db8::2", 20_001), ("2001:db8::3", 20_000)] {
        // What nobody listens to is answered with an error, which the next one gets.
        while socket.send_to(b"x", to).is_err() {}
    }
    let count = |filter: Filter| connections(Family::V6, &filter).len();
    let to = |address: &str| Filter { destination: Some(ip(address)), ..Filter::default() };
    let translated = Filter { with: Status::SRC_NAT, seen_source: Some(ip("2001:db8::9")), ..Filter::default() };
    assert_eq!((count(Filter::default()), count(to("2001:db8::2")), count(to("2001:db8::3"))), (3, 2, 1));
    assert_eq!((count(translated), count(Filter { udp: true, ..to("2001:db8::2") })), (2, 2));
    let entries = connections(Family::V6, &translated);
    assert_eq!(Conntrack::open().unwrap().delete(&entries).unwrap(), 2);
    assert_eq!((count(translated), count(Filter::default())), (0, 1));
}

#[test]
fn a_connection_that_took_the_place_of_another_one_stays() {
    namespace::enter!();
    batch("link set lo up\n");
    nft(TRANSLATE);
    let socket = flows("127.0.0.2", 1);
    let before = connections(Family::V4, &Filter { with: Status::SRC_NAT, ..Filter::default() });
    let mut conntrack = Conntrack::open().unwrap();
    assert_eq!(conntrack.delete(&before).unwrap(), 1);
    while socket.send_to(b"x", ("127.0.0.2", 20_000)).is_err() {}
    let after = connections(Family::V4, &Filter { with: Status::SRC_NAT, ..Filter::default() });
    assert_eq!(after.len(), 1);
    // The kernel may give the memory, and with it the number, of the one to the other.
    if after[0].connection.id != before[0].connection.id {
        assert_eq!(conntrack.delete(&before).unwrap(), 0);
        assert_eq!(connections(Family::V4, &Filter { with: Status::SRC_NAT, ..Filter::default() }).len(), 1);
    }
}

#[test]
fn a_walk_stops_at_its_bound_and_says_so() {
    namespace::enter!();
    batch("link set lo up\n");
    nft(TRANSLATE);
    let _socket = flows("127.0.0.2", 12_000);
    let all = [(Family::V4, Filter { with: Status::SRC_NAT, ..Filter::default() })];
    let patient = Bounds { time: Duration::from_secs(60), ..Bounds::default() };
    let counted = sweep(&all, patient, false, |_| true).unwrap();
    assert_eq!((counted.found, counted.deleted, counted.stopped), (10_000, 0, true));
    let none = sweep(&all, Bounds { time: Duration::ZERO, ..Bounds::default() }, true, |_| false).unwrap();
    assert!(none.stopped && none.found == 0);
    // Also where the kernel tells of none that is wanted.
    let no_time = Bounds { time: Duration::ZERO, ..Bounds::default() };
    let nobody = [(Family::V4, Filter { with: Status::DST_NAT, ..Filter::default() }), all[0]];
    let walked = std::cell::Cell::new(0);
    let count = |_: &_| {
        walked.set(walked.get() + 1);
        true
    };
    let none = sweep(&nobody, no_time, true, count).unwrap();
    assert_eq!((none.stopped, none.found, walked.get()), (true, 0, 0));
    let first = sweep(&all, patient, true, |_| true).unwrap();
    assert_eq!((first.deleted, first.stopped), (10_000, true));
    let rest = sweep(&all, patient, true, |_| true).unwrap();
    assert_eq!((rest.deleted, rest.stopped), (2_000, false));
}

#[test]
fn without_the_permission_the_error_says_what_is_missing() {
    namespace::enter!();
    let asked = || {
        let mut allowed = capabilities(None).unwrap();
        allowed.effective.remove(CapabilitySet::NET_ADMIN);
        // Of this thread alone.
        set_capabilities(None, allowed).unwrap();
        Conntrack::open().unwrap().dump(Family::V4, &Filter::default(), |_| Ok(ControlFlow::Continue(())))
    };
    let result = std::thread::spawn(asked).join().unwrap();
    assert_eq!(result.unwrap_err().to_string(), "connection tracking can't be read without CAP_NET_ADMIN");
}
