//! Sources that become what routes prefer, while routes and addresses change.

use crate::connections::Udp;
use crate::lab::{BACKENDS, DEADLINE, Gateway, Lab, Service, address, parse};
use ip_masq_agent::backend::BackendName;
use std::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");
/// Reached by the default routes, whichever uplink those take.
const FAR: [&str; 2] = ["100.64.9.9", "2001:db8:9::9"];
const BY_ROUTE: &str = "snat: route-source\nnonMasqueradeCIDRs: []\n";

/// A lab whose default routes prefer the VIP.
fn lab() -> Option<Lab> {
    let lab = Lab::build()?;
    lab.outside.ip("addr add 100.64.9.9/32 dev lo\naddr add 2001:db8:9::9/128 dev lo nodad\n");
    lab.outside.sysctl("net/ipv4/conf/all/rp_filter", "0");
    default_routes(&lab, address::VIP);
    Some(lab)
}

/// The default routes through `wan0`, with a preferred source.
fn default_routes(lab: &Lab, [v4, v6]: [&str; 2]) {
    lab.gateway.ip(&format!(
        "route replace default via 203.0.113.9 src {v4}\nroute replace default via 2001:db8:113::9 src {v6}\n"
    ));
}

/// A flow of the LAN in each family, to one destination each.
fn flows(lab: &Lab, to: [&str; 2]) -> [Udp; 2] {
    [0, 1].map(|family| Udp::new(lab, address::LAN[family], to[family]))
}

fn seen(flows: &[Udp; 2]) -> [String; 2] {
    flows.each_ref().map(|flow| flow.seen().to_string())
}

/// New flows get these sources, now or once the service has seen what changed.
fn new_flows_get(lab: &Lab, to: [&str; 2], expected: [&str; 2], backend: BackendName) {
    let until = Instant::now() + DEADLINE;
    loop {
        let found = seen(&flows(lab, to));
        if found == expected {
            return;
        }
        assert!(Instant::now() < until, "{backend}: {found:?} and not {expected:?}");
    }
}

fn forgotten(running: &mut Service) {
    running.wait_for_log("tracked connections forgotten: ");
}

#[test]
fn a_flow_gets_what_its_route_prefers_and_new_ones_follow_the_route() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(BY_ROUTE));
        let _running = gateway.agent.start();
        let open = flows(&lab, FAR);
        assert_eq!(seen(&open), address::VIP, "{backend}");
        // The routes through wan1 name no source, and that to the link of wan0 names another one.
        assert_eq!(seen(&flows(&lab, address::BEHIND_WAN1)), address::WAN1, "{backend}");
        assert_eq!(flows(&lab, address::PUBLIC)[0].seen(), parse(address::WAN0[0]), "{backend}");
        let explained = gateway.agent.must("explain", &[FAR[0], "--from", address::LAN[0], "--out", "wan0"]);
        assert!(explained.contains("snat to 203.0.113.77"), "{explained}");
        assert!(
            explained.contains("  route    0.0.0.0/0 of the main table through wan0 prefers 203.0.113.77\n"),
            "{explained}"
        );
        default_routes(&lab, address::WAN0);
        new_flows_get(&lab, FAR, address::WAN0, *backend);
        assert_eq!(seen(&open), address::VIP, "{backend}: the address is still there");
        // A longer prefix wins.
        lab.gateway.ip(&format!("route add {}/32 via 203.0.113.9 src {}\n", FAR[0], address::VIP[0]));
        lab.gateway.ip(&format!("route add {}/128 via 2001:db8:113::9 src {}\n", FAR[1], address::VIP[1]));
        new_flows_get(&lab, FAR, address::VIP, *backend);
        assert_eq!(gateway.agent.must("diff", &[]), "", "{backend}");
        let status: serde_json::Value = serde_json::from_str(&gateway.agent.must("status", &["--json"])).expect("JSON");
        for family in status["families"].as_array().expect("both") {
            assert!(family["counters"]["masqueraded"].as_u64() > Some(0), "{backend}: {family}");
        }
    }
}

#[test]
fn a_flow_whose_source_does_not_belong_to_its_new_way_is_forgotten() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(BY_ROUTE));
        let mut running = gateway.agent.start();
        let open = flows(&lab, FAR);
        assert_eq!(seen(&open), address::VIP, "{backend}");
        lab.gateway.ip("route replace default via 198.51.100.9\nroute replace default via 2001:db8:100::9\n");
        forgotten(&mut running);
        new_flows_get(&lab, FAR, address::WAN1, *backend);
        // Both families are looked through when either changes.
        let until = Instant::now() + DEADLINE;
        while seen(&open) != address::WAN1 {
            assert!(Instant::now() < until, "{backend}: {:?}", seen(&open));
        }
    }
}

#[test]
fn a_flow_is_forgotten_with_the_address_that_its_route_preferred() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        let gateway = Gateway::new(&lab, BINARY, *backend);
        gateway.agent.configure(&gateway.config(BY_ROUTE));
        let mut running = gateway.agent.start();
        let open = Udp::new(&lab, address::LAN[0], FAR[0]);
        assert_eq!(open.seen(), parse(address::VIP[0]), "{backend}");
        // The kernel takes the route away with it.
        lab.gateway.ip("addr del 203.0.113.77/32 dev wan0\nroute replace default via 203.0.113.9\n");
        forgotten(&mut running);
        assert_eq!(open.seen(), parse(address::WAN0[0]), "{backend}");
    }
}

#[test]
fn of_a_flow_that_leaves_by_another_table_the_main_one_says_what_its_source_becomes_and_explain_says_so() {
    for backend in BACKENDS {
        let Some(lab) = lab() else { return };
        lab.gateway.ip("addr add 198.51.100.88/32 dev wan1\nrule add from 192.168.78.2 lookup 100\n\
            route add default via 198.51.100.9 src 198.51.100.88 table 100\n");
        let gateway = Gateway::new(&lab, BINARY, *backend);
        for (route, source, told) in [
            ("", "198.51.100.1", "none of the main table through wan1 prefers a source"),
            (
                "route add default via 198.51.100.9 src 198.51.100.88 metric 500\n",
                "198.51.100.88",
                "0.0.0.0/0 of the main table through wan1 prefers 198.51.100.88",
            ),
        ] {
            lab.gateway.ip(route);
            gateway.apply(BY_ROUTE);
            let said = gateway.agent.must("explain", &[FAR[0], "--from", "192.168.78.2"]);
            assert!(said.contains(&format!("  route    {told}\n")), "{backend}: {said}");
            assert!(
                said.lines().next().is_some_and(|first| first.ends_with(&format!(" {source}"))),
                "{backend}: {said}"
            );
            assert_eq!(Udp::new(&lab, "192.168.78.2", FAR[0]).seen(), parse(source), "{backend}: {told}");
        }
    }
}
