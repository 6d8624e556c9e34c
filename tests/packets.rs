//! Which source does the far end see? Real packets through a real gateway, on every backend.

mod lab;

use lab::{Kind, Lab, Probe, address};
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    lab::parse(text)
}

#[test]
fn without_any_rules_every_source_stays_itself() {
    let Some(lab) = Lab::build() else { return };
    for family in 0..2 {
        for kind in [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Raw(112)] {
            for destination in [address::PUBLIC, address::PRIVATE, address::BEHIND_WAN1] {
                let probe = Probe::new(kind, ip(destination[family]));
                assert_eq!(probe.source_seen(&lab.lan, &lab.observer), Some(ip(address::LAN[family])), "{probe:?}");
            }
        }
    }
}
