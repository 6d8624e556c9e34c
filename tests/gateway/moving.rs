//! Addresses and links that go and come back: a virtual address that another router takes over, and a point-to-point link
//! that gets another address with every session.

use crate::connections::{BINARY, FAR, Udp, forgotten, lab};
use crate::lab::{BACKENDS, DEADLINE, Gateway, Lab, parse};
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

/// What the LAN sends has the virtual address, and what is sent to that reaches the LAN.
const VIRTUAL: &str = "\
egress: [{name: vip, outInterfaces: [wan0], snat: 203.0.113.77}]
portForwards:
- {hostPort: 5300, protocol: udp, hostIP: 203.0.113.77, address: 192.168.77.2, port: 53}
";

/// A line of the status, as soon as the service has seen the host like that.
fn await_status(gateway: &Gateway<'_>, begin: &str, is_right: impl Fn(&str) -> bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let status = gateway.agent.must("status", &[]);
        let line = status.lines().map(str::trim_start).find(|line| line.starts_with(begin));
        if line.is_some_and(&is_right) {
            return;
        }
        assert!(Instant::now() < until, "{begin}: {status}");
    }
}

#[test]
fn a_virtual_address_that_goes_and_comes_back_has_its_flows_and_its_forwards_again() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        // The outside goes on sending here while the address is away, and no redirect tells it otherwise.
        lab.outside.ip("route add 203.0.113.77/32 via 203.0.113.1\n");
        lab.gateway.sysctl("net/ipv4/conf/all/send_redirects", "0");
        lab.gateway.sysctl("net/ipv4/conf/wan0/send_redirects", "0");
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(VIRTUAL));
        let mut running = gateway.agent.start();
        let leaving = Udp::new(&lab, "192.168.77.2", FAR);
        let bind = |address, port| UdpSocket::bind((parse(address), port)).expect("a socket");
        let target = lab.lan.enter(|| bind("192.168.77.2", 53));
        target.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let [old, new] = [(); 2].map(|()| lab.outside.enter(|| bind("203.0.113.9", 0)));
        let to = SocketAddr::new(parse("203.0.113.77"), 5300);
        let reaches = |client: &UdpSocket| {
            client.send_to(b"x", to).expect("to send");
            let (_, from) = target.recv_from(&mut [0]).unwrap_or_else(|error| panic!("{backend}: {error}"));
            assert_eq!(from, client.local_addr().expect("an address"), "{backend}");
        };
        reaches(&old);
        assert_eq!(leaving.seen(), parse("203.0.113.77"), "{backend}");
        await_status(&gateway, "egress: vip", |line| line.contains("; in use: 203.0.113.77 (wan0);"));

        lab.gateway.ip("addr del 203.0.113.77/32 dev wan0\n");
        forgotten(&mut running, 1);
        await_status(&gateway, "egress: vip", |line| !line.contains("in use"));
        let check = gateway.agent.command("check", &["--host"]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains("hostIP 203.0.113.77 is on no interface; it is forwarded as soon as it is"), "{said}");
        // The policy says it all the same.
        assert_eq!(leaving.seen(), parse("203.0.113.77"), "{backend}");
        // Somebody who has not heard yet that the address is gone.
        new.send_to(b"x", to).expect("to send");
        let port = new.local_addr().expect("an address").port().to_string();
        let until = Instant::now() + DEADLINE;
        while !lab.gateway.must("conntrack", &["-L", "-p", "udp", "--sport", &port]).contains("dst=203.0.113.77") {
            assert!(Instant::now() < until, "{backend}: it did not come by");
        }

        lab.gateway.ip("addr add 203.0.113.77/32 dev wan0\n");
        running.wait_for_log("tracked connections forgotten: 1; UDP flows that began before their port was forwarded");
        [&old, &new].into_iter().for_each(reaches);
        assert_eq!(leaving.seen(), parse("203.0.113.77"), "{backend}");
        await_status(&gateway, "egress: vip", |line| line.contains("; in use: 203.0.113.77 (wan0);"));
        assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}");
    }
}

/// The provider gives the gateway an address of its own with every session, and one that stays.
fn dial(lab: &Lab, address: &str, before: &str) {
    lab.outside.ip("route flush 203.0.113.128/25\n");
    lab.gateway.ip(&format!(
        "{before}link add ppp0 type veth peer name ppp0 netns {}\nlink set ppp0 up\n\
         addr add {address} peer 198.18.0.1 dev ppp0\naddr add 203.0.113.130/32 dev ppp0\n\
         route add default dev ppp0 src {address}\n",
        lab.outside.path()
    ));
    lab.outside.ip("link set ppp0 up\naddr add 198.18.0.1/32 dev ppp0\nroute add 203.0.113.128/25 dev ppp0\n");
}

const SESSIONS: &str = "\
outInterfaces: ['ppp+']
egress:
- {name: fixed, outInterfaces: [ppp0], sourceCIDRs: [192.168.78.0/24], snat: 203.0.113.130}
- {name: routed, outInterfaces: [ppp0], sourceCIDRs: [192.168.79.0/24], snat: route-source}
";

/// A flow of each network of the LAN.
fn flows(lab: &Lab) -> [Udp; 3] {
    ["192.168.77.2", "192.168.78.2", "192.168.79.2"].map(|source| Udp::new(lab, source, FAR))
}

/// Once the service has seen what changed, new flows have these sources, and open ones too. Returns new ones.
fn followed(lab: &Lab, gateway: &Gateway<'_>, open: &[Udp; 3], expected: [&str; 3]) -> [Udp; 3] {
    let until = Instant::now() + DEADLINE;
    loop {
        let new = flows(lab);
        let found = [open, &new].map(|flows| flows.each_ref().map(|flow| flow.seen().to_string()));
        let differs = gateway.agent.attempt("diff", &[]);
        if found == [expected; 2] && differs.as_deref() == Ok("") {
            return new;
        }
        assert!(Instant::now() < until, "{found:?} and not {expected:?}: {differs:?}");
    }
}

#[test]
fn a_link_that_comes_again_under_its_name_with_another_address_is_followed() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        lab.lan.ip("addr add 192.168.79.2/32 dev lan0\n");
        lab.gateway.ip("route add 192.168.79.0/24 via 192.168.77.2\nroute del default via 203.0.113.9\n");
        dial(&lab, "203.0.113.131", "");
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(SESSIONS));
        let mut running = gateway.agent.start();
        let follow = |open: &[Udp; 3], address| followed(&lab, &gateway, open, [address, "203.0.113.130", address]);
        let await_use = |is_used: bool| {
            let is_right = |line: &str| line.contains("; in use: 203.0.113.130 (ppp0)") == is_used;
            await_status(&gateway, "egress: fixed", is_right);
        };
        let open = follow(&flows(&lab), "203.0.113.131");
        await_use(true);
        lab.gateway.ip("link del ppp0\n");
        running.wait_for_log("; their fixed source address has left the host, or they leave through another interface");
        await_use(false);
        dial(&lab, "203.0.113.132", "");
        let open = follow(&open, "203.0.113.132");
        // Both are seen as one change.
        dial(&lab, "203.0.113.133", "link del ppp0\n");
        follow(&open, "203.0.113.133");
        await_use(true);
    }
}
