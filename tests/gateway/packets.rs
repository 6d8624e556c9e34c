//! Which source does the far end see? Real packets through a real gateway, on every backend.

use crate::lab::{
    self, BACKENDS, DEADLINE, Gateway, Kind, Lab, Namespace, Observer, Probe, RST, SILENCE, SYN_ACK, parse,
};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Runs a test in a fresh lab for each backend.
fn on_every_backend(test: impl Fn(&Gateway<'_>)) {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        test(&Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend));
    }
}

#[test]
fn without_rules_every_source_stays_itself() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BACKENDS[0]);
    gateway.check(
        "no rules",
        "lan      192.168.77.2  tcp   203.0.113.200    same
         lan      192.168.77.2  udp   10.20.0.5        same
         lan      192.168.77.2  icmp  192.0.2.5        same
         lan      192.168.78.2  112   203.0.113.200    same
         gateway  192.168.77.1  udp   203.0.113.200    same
         lan      fd00:77::2    tcp   2001:db8:5::5    same
         lan      fd00:77::2    udp   fd20::5          same
         lan      fd00:77::2    icmp  2001:db8:2::5    same
         lan      fd00:78::2    112   2001:db8:5::5    same",
    );
}

#[test]
fn by_default_public_destinations_are_masqueraded_and_private_ones_are_not() {
    on_every_backend(|gateway| {
        gateway.apply("");
        gateway.check(
            "default policy",
            "lan  192.168.77.2  tcp   203.0.113.200    203.0.113.1
             lan  192.168.77.2  udp   203.0.113.200    203.0.113.1
             lan  192.168.77.2  icmp  203.0.113.200    203.0.113.1
             lan  192.168.77.2  50    203.0.113.200    203.0.113.1
             lan  192.168.77.2  tcp   192.0.2.5        198.51.100.1
             lan  192.168.77.2  tcp   10.20.0.5        same
             lan  192.168.77.2  udp   10.255.255.255   same
             lan  192.168.77.2  icmp  172.31.255.1     same
             lan  192.168.77.2  udp   192.168.255.1    same
             lan  192.168.77.2  udp   169.254.7.7      same
             lan  192.168.77.2  udp   11.0.0.1         203.0.113.1
             lan  192.168.77.2  udp   172.32.0.1       203.0.113.1
             lan  192.168.77.2  udp   100.64.0.1       203.0.113.1
             lan  fd00:77::2    tcp   2001:db8:5::5    2001:db8:113::1
             lan  fd00:77::2    udp   2001:db8:5::5    2001:db8:113::1
             lan  fd00:77::2    icmp  2001:db8:5::5    2001:db8:113::1
             lan  fd00:77::2    udp   2001:db8:2::5    2001:db8:100::1
             lan  fd00:77::2    udp   fd20::5          2001:db8:113::1",
        );
    });
}

#[test]
fn a_connection_works_in_both_directions_under_the_source_it_was_given() {
    // (destination, what the application at the far end takes for its client)
    let connections = [
        ("203.0.113.200", "203.0.113.1"),
        ("192.0.2.5", "198.51.100.1"),
        ("10.20.0.5", "192.168.77.2"),
        ("2001:db8:5::5", "2001:db8:113::1"),
    ];
    on_every_backend(|gateway| {
        gateway.apply("");
        gateway.lab.add_route_back();
        for (destination, expected) in connections {
            let to = SocketAddr::new(parse(destination), 0);
            let listener = gateway.lab.outside.enter(|| TcpListener::bind(to)).expect("a listener");
            let to = listener.local_addr().expect("its address");
            let mut client = gateway.lab.lan.enter(|| TcpStream::connect_timeout(&to, DEADLINE)).expect("a connection");
            let (mut server, peer) = listener.accept().expect("the same connection");
            assert_eq!(peer.ip(), parse(expected), "{destination}");
            server.write_all(b"hello").expect("it is sent");
            client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            client.read_exact(&mut [0; 5]).expect("it arrives");
        }
    });
}

#[test]
fn the_first_entry_whose_scope_holds_a_flow_decides_and_the_top_level_is_the_last() {
    on_every_backend(|gateway| {
        gateway.apply(
            "nonMasqueradeCIDRs: [10.0.0.0/8, 'fd20::/16']
masqueradeExceptionCIDRs: [10.20.0.0/24]
egress:
- {name: guests, outInterfaces: [wan0], sourceCIDRs: [192.168.78.0/24, 'fd00:78::/64'], snat: [203.0.113.66, '2001:db8:113::66'], randomFully: false}
- {name: pool, outInterfaces: ['wan+', '!wan1'], sourceCIDRs: [192.168.0.0/16], snat: 203.0.113.40-203.0.113.43, nonMasqueradeCIDRs: []}
- {name: second, outInterfaces: [wan1], excludeSourceCIDRs: [192.168.78.0/24], snat: 198.51.100.88, toPorts: '2000-2100'}
- {name: rest, sourceCIDRs: [192.168.78.0/24], snat: none}",
        );
        gateway.check(
            "egress",
            "lan      192.168.78.2  tcp   203.0.113.200  203.0.113.66
             lan      192.168.78.2  udp   203.0.113.200  203.0.113.66
             lan      192.168.78.2  icmp  203.0.113.200  203.0.113.66
             lan      192.168.78.2  udp   10.21.0.5      same
             lan      192.168.78.2  udp   10.20.0.5      203.0.113.66
             lan      fd00:78::2    tcp   2001:db8:5::5  2001:db8:113::66
             lan      fd00:78::2    udp   fd20::5        same
             lan      192.168.78.2  tcp   192.0.2.5      same
             lan      192.168.77.2  tcp   192.0.2.5      198.51.100.88
             lan      192.168.77.2  udp   172.16.0.5     198.51.100.88
             lan      192.168.77.2  icmp  192.0.2.5      198.51.100.88
             lan      fd00:77::2    tcp   2001:db8:2::5  2001:db8:100::1
             lan      fd00:77::2    tcp   2001:db8:5::5  2001:db8:113::1
             gateway  192.168.77.1  udp   192.0.2.5      198.51.100.88
             gateway  203.0.113.1   udp   203.0.113.200  same",
        );
        // Which of its addresses it is the kernel says; for one client it is always the same.
        let seen = |destination: &str| {
            let probe = Probe::new(Kind::Udp, parse(destination)).from(parse("192.168.77.2"));
            probe.source_seen(&gateway.lab.lan, &gateway.lab.observer).expect("it arrives")
        };
        let first = seen("203.0.113.200");
        assert!((parse("203.0.113.40")..=parse("203.0.113.43")).contains(&first), "{first}");
        for destination in ["10.21.0.5", "11.0.0.1", "100.64.0.1", "100.64.0.2", "100.64.0.3"] {
            assert_eq!(seen(destination), first, "{destination}");
        }
    });
}

#[test]
fn a_marked_packet_keeps_its_source_whatever_its_entry_says() {
    on_every_backend(|gateway| {
        gateway.lab.gateway.must(
            "nft",
            &["add table inet marks; add chain inet marks marked { type filter hook forward priority 0; }; \
               add rule inet marks marked udp dport 1-65535 meta mark set 0x1ff"],
        );
        gateway.apply("exemptMarks: [0x4000, 0x100/0xff00]\nexemptIpsec: true\negress: [{outInterfaces: [wan0], snat: 203.0.113.66}]");
        gateway.check(
            "exemptMarks",
            "lan  192.168.77.2  udp  203.0.113.200  same
             lan  192.168.77.2  tcp  203.0.113.200  203.0.113.66
             lan  fd00:77::2    udp  2001:db8:5::5  same
             lan  fd00:77::2    tcp  2001:db8:5::5  2001:db8:113::1",
        );
        gateway.apply("exemptMarks: [0x100/0xffff]");
        gateway.check("another mark", "lan  192.168.77.2  udp  11.0.0.1  203.0.113.1");
    });
}

#[test]
fn the_longest_prefix_decides_at_any_depth() {
    on_every_backend(|gateway| {
        gateway.apply(
            "evaluation: longest-prefix
nonMasqueradeCIDRs: [10.0.0.0/8, 10.20.0.0/24, 'fd20::/16']
masqueradeExceptionCIDRs: [10.20.0.0/16, 10.20.0.5/32, 169.254.7.0/24, 'fd20:1::/32']",
        );
        gateway.check(
            "longest-prefix",
            "lan  192.168.77.2  udp  10.20.0.5      203.0.113.1
             lan  192.168.77.2  udp  10.20.0.6      same
             lan  192.168.77.2  udp  10.20.128.5    203.0.113.1
             lan  192.168.77.2  udp  10.21.0.5      same
             lan  192.168.77.2  udp  169.254.7.7    203.0.113.1
             lan  192.168.77.2  udp  169.254.8.7    same
             lan  fd00:77::2    udp  fd20::5        same
             lan  fd00:77::2    udp  fd20:1::5      2001:db8:113::1",
        );
    });
}

#[test]
fn without_enable_ipv6_its_sources_stay_themselves() {
    on_every_backend(|gateway| {
        gateway.apply("");
        gateway.agent.apply(&gateway.config("").replace("enableIPv6: true", "enableIPv6: false"));
        gateway.check(
            "enableIPv6: false",
            "lan  fd00:77::2    udp  2001:db8:5::5  same
             lan  192.168.77.2  udp  203.0.113.200  203.0.113.1",
        );
    });
}

#[test]
fn an_exception_inside_an_exempt_range_is_masqueraded() {
    on_every_backend(|gateway| {
        gateway.apply(
            "nonMasqueradeCIDRs: [10.0.0.0/8, 203.0.113.0/24, 'fd20::/16', 169.254.0.0/16]
masqueradeExceptionCIDRs: [10.20.0.0/16, 'fd20:1::/32', 169.254.7.0/24]",
        );
        gateway.check(
            "exceptions",
            "lan  192.168.77.2  udp   10.20.0.5      203.0.113.1
             lan  192.168.77.2  tcp   10.20.0.5      203.0.113.1
             lan  192.168.77.2  udp   10.21.0.5      same
             lan  192.168.77.2  tcp   203.0.113.200  same
             lan  192.168.77.2  udp   172.16.0.5     198.51.100.1
             lan  192.168.77.2  icmp  169.254.7.7    203.0.113.1
             lan  192.168.77.2  icmp  169.254.8.7    same
             lan  fd00:77::2    udp   fd20::5        same
             lan  fd00:77::2    udp   fd20:1::5      2001:db8:113::1",
        );
    });
}

#[test]
fn an_empty_list_exempts_nothing_but_link_local_and_multicast() {
    on_every_backend(|gateway| {
        gateway.apply("nonMasqueradeCIDRs: []");
        gateway.check(
            "nonMasqueradeCIDRs: []",
            "lan  192.168.77.2  udp  10.20.0.5    203.0.113.1
             lan  192.168.77.2  udp  169.254.7.7  same",
        );
        gateway.apply("nonMasqueradeCIDRs: []\nmasqLinkLocal: true");
        gateway.check("masqLinkLocal: true", "lan  192.168.77.2  udp  169.254.7.7  203.0.113.1");
    });
}

#[test]
fn out_interfaces_in_each_form_bound_what_is_masqueraded() {
    // (the key's value, masqueraded on wan0, masqueraded on wan1)
    let forms = [
        ("[wan0]", true, false),
        ("[wan1]", false, true),
        ("[wan+]", true, true),
        ("['!wan0']", false, true),
        ("['!wan+']", false, false),
        ("[wan0, wan1]", true, true),
        ("[absent0, wan1]", false, true),
        ("['!lan0', '!wan1']", true, false),
        ("[wan+, '!wan1']", true, false),
        ("[absent0]", false, false),
    ];
    on_every_backend(|gateway| {
        for (value, wan0, wan1) in forms {
            gateway.apply(&format!("outInterfaces: {value}"));
            let seen = |masqueraded, address| if masqueraded { address } else { "same" };
            let table = format!(
                "lan  192.168.77.2  udp  203.0.113.200  {}
                 lan  192.168.77.2  tcp  192.0.2.5      {}
                 lan  192.168.77.2  udp  10.20.0.5      same
                 lan  fd00:77::2    udp  2001:db8:5::5  {}
                 lan  fd00:77::2    tcp  2001:db8:2::5  {}",
                seen(wan0, "203.0.113.1"),
                seen(wan1, "198.51.100.1"),
                seen(wan0, "2001:db8:113::1"),
                seen(wan1, "2001:db8:100::1"),
            );
            gateway.check(&format!("outInterfaces: {value}"), &table);
        }
    });
}

#[test]
fn sources_bound_what_is_masqueraded() {
    on_every_backend(|gateway| {
        gateway.apply("sourceCIDRs: [192.168.77.0/24, 'fd00:77::/64']");
        gateway.check(
            "sourceCIDRs",
            "lan  192.168.77.2  udp  203.0.113.200  203.0.113.1
             lan  192.168.78.2  udp  203.0.113.200  same
             lan  fd00:77::2    udp  2001:db8:5::5  2001:db8:113::1
             lan  fd00:78::2    udp  2001:db8:5::5  same",
        );
        gateway.apply("sourceCIDRs: [192.168.0.0/16]\nexcludeSourceCIDRs: [192.168.77.2/32]");
        gateway.check(
            "sourceCIDRs and excludeSourceCIDRs",
            "lan      192.168.77.2  udp  203.0.113.200  same
             lan      192.168.78.2  udp  203.0.113.200  203.0.113.1
             gateway  192.168.77.1  tcp  203.0.113.200  203.0.113.1
             lan      fd00:77::2    udp  2001:db8:5::5  same",
        );
        gateway.apply("excludeSourceCIDRs: ['fd00:78::/64']");
        gateway.check(
            "excludeSourceCIDRs",
            "lan  192.168.78.2  udp  203.0.113.200  203.0.113.1
             lan  fd00:77::2    udp  2001:db8:5::5  2001:db8:113::1
             lan  fd00:78::2    udp  2001:db8:5::5  same",
        );
    });
}

#[test]
fn the_gateways_own_addresses_stay_themselves_where_they_belong() {
    on_every_backend(|gateway| {
        gateway.apply("");
        gateway.check(
            "a VIP stays a VIP, a process bound to the LAN address is masqueraded",
            "gateway  203.0.113.1          tcp   203.0.113.200  same
             gateway  203.0.113.77         tcp   203.0.113.200  same
             gateway  203.0.113.77         udp   203.0.113.200  same
             gateway  203.0.113.77         icmp  203.0.113.200  same
             gateway  203.0.113.77         udp   192.0.2.5      198.51.100.1
             gateway  192.168.77.1         tcp   203.0.113.200  203.0.113.1
             gateway  192.168.77.1         udp   203.0.113.200  203.0.113.1
             gateway  192.168.77.1         udp   10.20.0.5      same
             gateway  2001:db8:113::77     udp   2001:db8:5::5  same
             gateway  2001:db8:113::77     tcp   2001:db8:5::5  same
             gateway  fd00:77::1           tcp   2001:db8:5::5  2001:db8:113::1",
        );
        gateway.apply("masqLocalSource: true");
        gateway.check(
            "masqLocalSource: true, as the Go agent",
            "gateway  203.0.113.77         tcp   203.0.113.200  203.0.113.1
             gateway  203.0.113.77         udp   203.0.113.200  203.0.113.1
             gateway  192.168.77.1         udp   203.0.113.200  203.0.113.1
             gateway  203.0.113.77         udp   10.20.0.5      same
             gateway  2001:db8:113::77     udp   2001:db8:5::5  2001:db8:113::1",
        );
    });
}

#[test]
fn multicast_and_broadcast_keep_their_source() {
    // 224.0.0.18 with protocol 112 is VRRP, RFC 9568.
    on_every_backend(|gateway| {
        for guards in ["", "masqLocalSource: true"] {
            gateway.apply(guards);
            gateway.check(
                &format!("multicast '{guards}'"),
                "gateway@wan0  203.0.113.1   112  224.0.0.18       same
                 gateway@wan0  203.0.113.77  112  224.0.0.18       same
                 gateway@wan0  192.168.77.1  112  224.0.0.18       same
                 gateway@wan0  192.168.77.1  udp  239.1.2.3        same
                 gateway@wan0  203.0.113.77  udp  255.255.255.255  same
                 gateway@wan0  192.168.77.1  udp  255.255.255.255  same
                 gateway@wan0  fd00:77::1    112  ff02::12         same",
            );
        }
        gateway.apply("masqLocalSource: true\nmasqMulticast: true");
        // Destinations of their own: VRRP has no ports, so the flows above are still known to conntrack.
        gateway.check(
            "masqMulticast: true, as the Go agent",
            "gateway@wan0  203.0.113.77  112  224.0.0.19       203.0.113.1
             gateway@wan0  192.168.77.1  udp  255.255.255.255  203.0.113.1",
        );
    });
}

#[test]
fn to_ports_are_the_ports_that_leave() {
    on_every_backend(|gateway| {
        gateway.apply("toPorts: 61000-61001,62000-62003");
        let mut seen_ports = std::collections::BTreeSet::new();
        for (kind, destination) in
            [(Kind::Tcp, "203.0.113.200"), (Kind::Udp, "203.0.113.200"), (Kind::Udp, "2001:db8:5::5")]
        {
            for _ in 0..16 {
                let probe = Probe::new(kind, parse(destination));
                let seen = probe.seen(&gateway.lab.lan, &gateway.lab.observer).expect("it arrives");
                assert!(matches!(seen.source_port(), 61000..=61001 | 62000..=62003), "{seen:?}");
                seen_ports.insert(seen.source_port() / 1000);
            }
        }
        assert_eq!(seen_ports.len(), 2, "both ranges are used");
        gateway.check("a protocol without ports", "lan  192.168.77.2  icmp  203.0.113.200  203.0.113.1");
    });
}

#[test]
fn more_prefixes_than_rules_should_hold_live_in_sets() {
    on_every_backend(|gateway| {
        // Every second /24, so that nothing can be joined.
        let exempt: String = (0..300).map(|i| format!("- 100.{}.{}.0/24\n", 64 + i / 128, i % 128 * 2)).collect();
        let exempt_v6: String = (0..100).map(|i| format!("- 2001:db8:{:x}::/48\n", 0x1000 + 2 * i)).collect();
        let exceptions: String = (0..100).map(|i| format!("- 100.64.0.{}/32\n", 2 * i)).collect();
        gateway.apply(&format!("nonMasqueradeCIDRs:\n{exempt}{exempt_v6}masqueradeExceptionCIDRs:\n{exceptions}"));
        gateway.check(
            "sets",
            "lan  192.168.77.2  udp  100.64.2.9          same
             lan  192.168.77.2  tcp  100.66.86.255       same
             lan  192.168.77.2  udp  100.64.3.9          203.0.113.1
             lan  192.168.77.2  udp  100.66.88.1         203.0.113.1
             lan  192.168.77.2  udp  100.64.0.7          same
             lan  192.168.77.2  udp  100.64.0.8          203.0.113.1
             lan  192.168.77.2  udp  10.20.0.5           203.0.113.1
             lan  fd00:77::2    udp  2001:db8:1002::1    same
             lan  fd00:77::2    udp  2001:db8:1003::1    2001:db8:113::1",
        );
        gateway.apply("");
        gateway.check("and back to rules", "lan  192.168.77.2  udp  100.64.2.9  203.0.113.1");
        assert_eq!(gateway.lab.gateway.must("ipset", &["list", "-n"]), "", "no set is left behind");
    });
}

/// Two hosts behind a bridge of the gateway, 198.18.0.2 and 198.18.0.3; the bridge is 198.18.0.1. `None` where the
/// kernel has no br_netfilter.
fn bridged(gateway: &Gateway<'_>) -> Option<(Namespace, Namespace)> {
    let node = &gateway.lab.gateway;
    if !node.enter(|| std::path::Path::new("/proc/sys/net/bridge").exists()) {
        lab::skip("no br_netfilter in this kernel");
        return None;
    }
    let host = |name| Namespace::new(name).expect("a namespace");
    let (left, right) = (host("left"), host("right"));
    node.ip("link add br0 type bridge\nlink set br0 up\naddr add 198.18.0.1/24 dev br0\n");
    for (port, peer, address) in [("p0", &left, "198.18.0.2/24"), ("p1", &right, "198.18.0.3/24")] {
        node.ip(&format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} master br0 up\n",
            peer.path()
        ));
        peer.ip(&format!("link set eth0 up\naddr add {address} dev eth0\n"));
    }
    node.sysctl("net/bridge/bridge-nf-call-iptables", "1");
    Some((left, right))
}

#[test]
fn a_neighbour_behind_a_bridge_keeps_its_source() {
    on_every_backend(|gateway| {
        let Some((left, right)) = bridged(gateway) else { return };
        let observer = Observer::new(&right);
        let seen = || {
            let probe = Probe::new(Kind::Udp, parse("198.18.0.3"));
            probe.source_seen(&left, &observer).expect("it arrives").to_string()
        };
        gateway.apply("masqLocalSource: true");
        assert_eq!(seen(), "198.18.0.1", "without the guard br_netfilter brings the frame to our rules");
        gateway.apply("");
        assert_eq!(seen(), "198.18.0.2");
        gateway.lab.gateway.sysctl("net/bridge/bridge-nf-call-iptables", "0");
        gateway.apply("");
        assert_eq!(seen(), "198.18.0.2");
    });
}

#[test]
fn a_transparent_proxys_own_packet_out_of_a_bridge_is_no_bridged_frame() {
    on_every_backend(|gateway| {
        let Some((left, right)) = bridged(gateway) else { return };
        let observer = Observer::new(&right);
        // The neighbour's address, used by a process of the gateway (IP_TRANSPARENT of ip(7)).
        let proxy = || -> std::io::Result<()> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            socket.set_ip_transparent_v4(true)?;
            socket.bind(&SocketAddr::new(parse("198.18.0.2"), 0).into())?;
            socket.send_to(b"proxied", &SocketAddr::new(parse("198.18.0.3"), 9).into()).map(drop)
        };
        gateway.apply("");
        gateway.lab.gateway.enter(proxy).expect("it is sent");
        let seen = observer.wait(|seen| seen.payload.ends_with(b"proxied")).expect("it arrives");
        assert_eq!(seen.source, parse("198.18.0.1"));
        let neighbour = Probe::new(Kind::Udp, parse("198.18.0.3"));
        assert_eq!(neighbour.source_seen(&left, &observer), Some(parse("198.18.0.2")));
    });
}

/// The rules of docs/operations.md, in the words it has them.
const DROP_INVALID_NFT: &str = "\
table inet drop-invalid {
    chain forward {
        type filter hook forward priority filter
        ct state invalid drop
    }
}
";
const DROP_INVALID_IPTABLES: &str = "iptables -I FORWARD -m conntrack --ctstate INVALID -j DROP";

#[test]
fn what_connection_tracking_calls_invalid_keeps_its_source_until_a_filter_rule_drops_it() {
    on_every_backend(|gateway| {
        gateway.apply("nonMasqueradeCIDRs: []");
        gateway.check(
            "invalid",
            "lan  192.168.77.2  tcp      203.0.113.200  203.0.113.1
             lan  192.168.77.2  syn-ack  203.0.113.200  same
             lan  192.168.77.2  rst      203.0.113.200  same
             lan  fd00:77::2    syn-ack  2001:db8:5::5  same",
        );
        let gone = |source: &str, destination: &str| {
            for flags in [SYN_ACK, RST] {
                let probe = Probe::new(Kind::Tcp, parse(destination)).from(parse(source)).with_flags(flags);
                probe.send(&gateway.lab.lan);
                let seen = gateway.lab.observer.wait_for(SILENCE, |seen| probe.is(seen));
                assert_eq!(seen, None, "flags {flags:#x} to {destination}");
            }
        };
        let node = &gateway.lab.gateway;
        for command in ["iptables-nft", "iptables-legacy"] {
            let rule = DROP_INVALID_IPTABLES.split(' ').skip(1).collect::<Vec<_>>();
            node.must(command, &rule);
            gone("192.168.77.2", "203.0.113.200");
            node.must(command, &["-F", "FORWARD"]);
        }
        node.nft(DROP_INVALID_NFT);
        gone("192.168.77.2", "203.0.113.200");
        gone("fd00:77::2", "2001:db8:5::5");
        gateway.check("valid packets pass", "lan  192.168.77.2  tcp  203.0.113.200  203.0.113.1");
    });
    let manual = include_str!("../../docs/operations.md");
    assert!(manual.contains(DROP_INVALID_NFT) && manual.contains(DROP_INVALID_IPTABLES));
}
