//! The iptables backend against the real kernel, on both variants.

#[path = "../lab/mod.rs"]
mod lab;

mod gateway;

use gateway::{Gateway, both_variants};
use ip_masq_agent::policy::Family;

both_variants! {
    fn the_default_policy_is_in_the_kernel_after_one_commit_and_in_sync_after_it(host: Gateway) {
        let mut host = host;
        let plan = host.apply();
        assert!(!plan.is_in_sync());
        let again = host.plan(Family::V4);
        assert_eq!(again.transaction, "", "{:?}", again.drift);
        assert_eq!(again.observed, again.desired);
    }
}
