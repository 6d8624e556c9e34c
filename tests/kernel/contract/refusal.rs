//! What is refused is said, and leaves the old state whole.

use super::host::{self, every_backend};
use crate::policies::full_policy;
use ip_masq_agent::backend::{BackendName, ErrorKind};
use ip_masq_agent::policy::{Family, Origin, PreferredSource, RouteSources, Snat, WithOrigin};
use ip_masq_agent::ruleset::NetworkFacts;
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};
use std::sync::Arc;

/// Takes CAP_NET_ADMIN from the calling thread and the programs that it will start.
fn drop_net_admin() {
    remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::NET_ADMIN;
    sets.permitted -= CapabilitySet::NET_ADMIN;
    sets.inheritable -= CapabilitySet::NET_ADMIN;
    set_capabilities(None, sets).unwrap();
}

/// So many routes that prefer a source, of which no two can be one.
fn routes(count: usize) -> Arc<NetworkFacts> {
    let row = |n: usize| PreferredSource {
        interface: "wan0".to_owned(),
        destination: format!("10.{}.{}.0/24", n / 128, n % 128 * 2).parse().unwrap(),
        source: "203.0.113.77".parse().ok(),
    };
    let sources = RouteSources::new((0..count).map(row).collect());
    Arc::new(NetworkFacts { sources, ..NetworkFacts::default() })
}

every_backend! {
    fn as_many_sources_of_routes_as_there_is_room_for_are_taken_and_one_more_is_refused_and_loses_nothing(host: Host) {
        let most = if host.name == BackendName::Nftables { 10_000 } else { 256 };
        host.policy.snat = WithOrigin { value: Snat::RouteSource, origin: Origin::Default };
        host.facts.network = routes(most);
        host.apply_all();
        let before = host.listing();
        host.facts.network = routes(most + 1);
        let error = host.plan(Family::V4).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        let words = format!("for {} interfaces and destinations, more than {most}", most + 1);
        assert!(error.message.contains(&words) && error.message.contains("name the address in snat"), "{error}");
        // The other family goes on by itself.
        host.apply(Family::V6);
        assert_eq!(host.listing(), before);
        host.facts.network = routes(most);
        assert_eq!(host.apply_all(), Vec::<String>::new());
        host.facts.network = routes(most - 1);
        assert!(!host.apply(Family::V4).is_empty(), "and it goes on");
    }

    fn a_commit_without_the_capability_changes_nothing(host: Host) {
        host.exempt(100);
        host.apply_all();
        let before = host.listing();
        host.policy = full_policy();
        for family in Family::ALL {
            let plan = host.plan(family).unwrap();
            let error = host.ask(|backend| {
                drop_net_admin();
                backend.commit(plan).unwrap_err()
            });
            // iptables-legacy-restore does not say why it can't.
            assert!(error.kind == ErrorKind::Permission || error.kind == ErrorKind::Unsupported, "{error}");
        }
        assert_eq!(host.listing(), before);
        host.apply_all();
    }

    /// nfnetlink asks the credentials of the socket's opener as well as the sender's (netlink_net_capable).
    fn a_plan_without_the_capability_says_so(host: Host) {
        host.apply_all();
        let desired = host.desired(Family::V4);
        let name = host.name;
        let error = host.namespace.enter(|| {
            drop_net_admin();
            host::backend_here(name).plan(Family::V4, desired.as_ref()).unwrap_err()
        });
        assert_eq!(error.kind, ErrorKind::Permission, "{error}");
    }
}
