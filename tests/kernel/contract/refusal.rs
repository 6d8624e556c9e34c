//! What is refused is said, and leaves the old state whole.

use super::host::{self, every_backend};
use crate::policies::full_policy;
use ip_masq_agent::backend::ErrorKind;
use ip_masq_agent::policy::Family;
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};

/// Takes CAP_NET_ADMIN from the calling thread and the programs that it will start.
fn drop_net_admin() {
    remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::NET_ADMIN;
    sets.permitted -= CapabilitySet::NET_ADMIN;
    sets.inheritable -= CapabilitySet::NET_ADMIN;
    set_capabilities(None, sets).unwrap();
}

every_backend! {
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
