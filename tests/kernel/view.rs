//! What the service reads of its host.

use crate::lab::{self, Namespace};
use ip_masq_agent::service::view;

#[test]
fn addresses_are_read_with_their_networks_and_default_routes_with_their_interfaces() {
    if !lab::possible() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    host.ip("link add wan0 type veth peer name far0\nlink set wan0 up\nlink set far0 up\n\
         addr add 192.0.2.1/24 dev wan0 label wan0:1\naddr add 2001:db8::1/64 dev wan0 nodad\n\
         route add default via 192.0.2.2\nlink add wan1 type veth peer name far1\n\
         link set wan1 up\nlink set far1 up\naddr add 198.51.100.1/24 dev wan1\n\
         route add default via 198.51.100.2 table 100\n");
    let view = host.enter(view::view);
    let mut found: Vec<_> =
        view.addresses.iter().map(|own| format!("{} {} {}", own.interface, own.address, own.network)).collect();
    found.retain(|own| !own.contains("fe80"));
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "lo 127.0.0.1 127.0.0.0/8",
            "lo ::1 ::1/128",
            "wan0 192.0.2.1 192.0.2.0/24",
            "wan0 2001:db8::1 2001:db8::/64",
            "wan1 198.51.100.1 198.51.100.0/24",
        ]
    );
    assert_eq!(view.default_route_interfaces, ["wan0".to_owned()].into());
    assert_eq!(view.gateways.any, ["wan0".to_owned(), "wan1".to_owned()].into());
    assert_eq!(view.gateways.by_policy, ["wan1".to_owned()].into());
}
