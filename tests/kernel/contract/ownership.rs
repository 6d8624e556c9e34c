//! What bears our name and is another program's.

use super::host::every_backend;
use ip_masq_agent::backend::ErrorKind;
use ip_masq_agent::policy::Family;

every_backend! {
    fn what_has_our_name_and_nothing_of_ours_is_refused_and_stays(host: Host) {
        host.load(host.either(
            ":IP-MASQ-AGENT - [0:0]\n-A IP-MASQ-AGENT -d 192.0.2.0/24 -j ACCEPT",
            "add table inet ip-masq-agent\nadd chain inet ip-masq-agent own",
        ));
        let before = host.listing();
        let error = host.plan(Family::V4).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Foreign, "{error}");
        assert!(error.message.contains("is not ip-masq-agent's") && !error.is_transient(), "{error}");
        assert_eq!(host.listing(), before);
    }

    fn what_has_our_name_and_is_empty_is_taken(host: Host) {
        host.load(host.either(":IP-MASQ-AGENT - [0:0]", "add table inet ip-masq-agent"));
        host.apply_all();
    }
}
