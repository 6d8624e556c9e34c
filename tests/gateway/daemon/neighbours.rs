//! What programs of other network namespaces, and forgers in our own, can do to the service: nothing.

use super::*;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use service::Service;

/// How often the service was woken: voluntary_ctxt_switches of proc_pid_status(5).
fn awakenings(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn transactions_in_another_network_namespace_wake_nobody() {
    for backend in ["nftables", "iptables-nft"] {
        let host = host!(&format!("{GOOD}backend: {backend}\n"));
        let service = host.ready();
        // Answered once all that belongs to the start is done.
        assert_eq!(host.command(&["status"]).code, Some(0));
        let neighbour = lab::Namespace::new("neighbour").unwrap();
        let commit = || _ = neighbour.must("nft", &["add table inet ip-masq-agent; delete table inet ip-masq-agent"]);
        let before = awakenings(&service);
        (0..100).for_each(|_| commit());
        let woken = awakenings(&service) - before;
        assert!(woken < 20, "{backend}: woken {woken} times by 100 transactions");
    }
}

/// An NFT_MSG_NEWGEN as the kernel sends it, in which a program of this name made the generation 7.
fn newgen(program: &str) -> Vec<u8> {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut body = vec![0, 0, 0, 0];
    body.extend(attribute(1, &7u32.to_be_bytes()));
    body.extend(attribute(2, &1u32.to_be_bytes()));
    body.extend(attribute(3, format!("{program}\0").as_bytes()));
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN) as u16;
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message
}

#[test]
fn a_forged_rule_event_is_thrown_away() {
    let host = host!(&format!("{GOOD}backend: nftables\n"));
    let mut service = host.ready();
    // Answered once all that belongs to the start is done.
    assert_eq!(host.command(&["status"]).code, Some(0));
    // The forged one is the later one, and would be blamed.
    service.signal(Signal::STOP);
    host.node.must("nft", &["flush", "ruleset"]);
    let reached = host.node.enter(|| {
        let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let netfilter = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ports = netfilter.filter(|fields| fields[1] == "12").filter_map(|fields| fields[2].parse::<u32>().ok());
        let forger =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER)).unwrap();
        let send = |port| sendto(&forger, &newgen("forged"), SendFlags::empty(), &SocketAddrNetlink::new(port, 0));
        ports.filter(|port| *port != 0).filter(|port| send(*port).is_ok()).count()
    });
    assert!(reached > 0, "no socket of the service was found");
    service.signal(Signal::CONT);
    service.wait_for_log("rules changed by nft[");
    service.stop();
    assert!(!service.log.iter().any(|line| line.contains("forged")), "{:?}", service.log);
}
