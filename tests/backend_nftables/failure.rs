//! What the kernel refuses: a clear error, and the old state whole.

use crate::namespace::{self, nft};
use crate::{apply, apply_policy, backend, default_policy, full_policy, listing, long_list, ruleset};
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::nfnetlink::message::Writer;
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Takes CAP_NET_ADMIN from the calling thread for as long as `work` takes.
fn without_net_admin<T>(work: impl FnOnce() -> T) -> T {
    let whole = capabilities(None).unwrap();
    let mut less = whole;
    less.effective -= CapabilitySet::NET_ADMIN;
    set_capabilities(None, less).unwrap();
    let result = work();
    set_capabilities(None, whole).unwrap();
    result
}

#[test]
fn without_the_capability_the_error_says_so_and_nothing_moves() {
    namespace::enter!();
    let mut held = backend();
    apply_policy(&mut held, &default_policy());
    let before = listing();
    let desired = ruleset(&full_policy(), Family::V4);
    // nfnetlink asks the credentials of the socket's opener as well as the sender's (netlink_net_capable).
    let error = without_net_admin(|| backend().plan(Family::V4, desired.as_ref()).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Permission, "{error}");
    assert!(error.message.contains("CAP_NET_ADMIN"), "{error}");
    let plan = held.plan(Family::V4, desired.as_ref()).unwrap();
    let error = without_net_admin(|| held.commit(plan).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Permission, "{error}");
    assert!(error.message.contains("CAP_NET_ADMIN"), "{error}");
    assert_eq!(listing(), before);
    apply_policy(&mut held, &full_policy());
}

#[test]
fn a_batch_refused_half_way_names_its_message_and_leaves_the_old_state_whole() {
    /// NFTA_TABLE_NAME.
    const TABLE_NAME: u16 = 1;
    namespace::enter!();
    let mut ours = backend();
    apply_policy(&mut ours, &full_policy());
    let before = listing();
    let mut netlink = Nfnetlink::open().unwrap();
    let mut batch = Batch::new(netlink.generation().unwrap());
    let inet = libc::NFPROTO_INET as u8;
    let table = |name: &'static str| move |writer: &mut Writer| writer.text(TABLE_NAME, name);
    batch.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, inet, table("other"));
    batch.push(libc::NFT_MSG_DELTABLE, 0, inet, table("ip-masq-agent"));
    let bad = batch.push(libc::NFT_MSG_DELTABLE, 0, inet, table("nobody's"));
    batch.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, inet, table("third"));
    let refusal = netlink.commit(batch).unwrap_err();
    assert_eq!((refusal.message, refusal.error.raw_os_error()), (Some(bad), Some(libc::ENOENT)));
    assert_eq!(listing(), before);
    assert!(ours.plan(Family::V4, ruleset(&full_policy(), Family::V4).as_ref()).unwrap().is_in_sync());
}

/// Elements of a long set are counted and not read after somebody else's commit. Where the count deceives, the kernel
/// refuses what is there already, and the set is read.
#[test]
fn elements_that_overlap_are_refused_whole_and_the_next_plan_knows_better() {
    namespace::enter!();
    let (fewer, all) = (long_list(777), long_list(u32::MAX));
    let mut backend = backend();
    apply_policy(&mut backend, &fewer);
    let set = "element inet ip-masq-agent exempt4";
    nft(&format!("delete {set} {{ 11.0.0.0/24 }}\nadd {set} {{ 11.6.18.0/24 }}\n"));
    let deceived = listing();
    let desired = ruleset(&all, Family::V4);
    let plan = backend.plan(Family::V4, desired.as_ref()).unwrap();
    if plan.transaction().contains("11.6.18.0/24") {
        let error = backend.commit(plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains("elements overlap; nothing was changed"), "{error}");
        assert_eq!(listing(), deceived);
    }
    let plan = apply(&mut backend, Family::V4, desired.as_ref());
    assert_eq!(plan.transaction(), format!("add {set} {{\n\t11.0.0.0/24,\n}}\n"));
}
