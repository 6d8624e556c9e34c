//! What the kernel refuses: a clear error, and the old state whole.

use super::{apply, apply_policy, backend, full_policy, listing, long_list, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::backend::{Backend, ErrorKind};
use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::nfnetlink::message::{Message, Writer};
use ip_masq_agent::sys::nfnetlink::{Batch, Nfnetlink, Request};

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
    // Before Linux 6.17 the kernel does not count, and they were read at once.
    assert_eq!(plan.transaction().contains("11.6.18.0/24"), kernel_counts_elements());
    if kernel_counts_elements() {
        let error = backend.commit(plan).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains("elements overlap; nothing was changed"), "{error}");
        assert_eq!(listing(), deceived);
    }
    let plan = apply(&mut backend, Family::V4, desired.as_ref());
    assert_eq!(plan.transaction(), format!("add {set} {{\n\t11.0.0.0/24,\n}}\n"));
}

/// Whether the kernel says how many elements a set has.
fn kernel_counts_elements() -> bool {
    /// NFTA_SET_TABLE and NFTA_SET_NAME; NFTA_SET_COUNT, Linux 6.17.
    const TABLE: u16 = 1;
    const NAME: u16 = 2;
    const COUNT: u16 = 20;
    let mut found = false;
    let request = Request { message: libc::NFT_MSG_GETSET, family: libc::NFPROTO_INET as u8 };
    let body = |writer: &mut Writer| {
        writer.text(TABLE, "ip-masq-agent");
        writer.text(NAME, "exempt4");
    };
    let each = |message: &Message<'_>| {
        found = message.attributes()?.find(COUNT)?.is_some();
        Ok(())
    };
    Nfnetlink::open().unwrap().get(request, body, each).unwrap();
    found
}
