//! Lists that are too long to be read from the kernel.

use super::gaps::{list, policy};
use super::{apply, backend, default_policy, listing, ruleset};
use crate::namespace::{self, nft};
use ip_masq_agent::backend::Backend;
use ip_masq_agent::policy::{Family, Policy};

const COUNT: u32 = 140_000;

#[test]
fn a_list_that_is_too_long_to_be_read_is_taken_over_while_nobody_committed_and_else_written_anew() {
    namespace::enter!();
    let desired = ruleset(&policy(COUNT), Family::V4);
    let mut first = backend();
    apply(&mut first, Family::V4, desired.as_ref());
    let memory = first.memory().unwrap();

    let remembering = |memory: &str, desired| {
        let mut next = backend();
        next.remember(memory);
        next.plan(Family::V4, desired).unwrap()
    };
    let adopted = remembering(&memory, desired.as_ref());
    assert!(adopted.is_in_sync(), "{:?}", adopted.drift);
    let other = Policy { exempt: list(COUNT, 0x2000_0200), ..default_policy() };
    let unknown = "the elements of set exempt4 are not known";
    let other = ruleset(&other, Family::V4);
    let anew = remembering(&memory, other.as_ref()).drift;
    assert!(anew.iter().any(|word| word == unknown), "{anew:?}");
    assert_eq!(remembering(&memory.replace("exempt4", "exempt6"), desired.as_ref()).drift[0], unknown);

    nft("add table ip other\n");
    assert_eq!(remembering(&memory, desired.as_ref()).drift[0], unknown);
    let mut next = backend();
    let written = apply(&mut next, Family::V4, desired.as_ref());
    assert_eq!(written.drift[0], unknown);
    assert!(listing().contains("set exempt4-2 {") && !listing().contains("set exempt4 {"));
    assert!(remembering(&next.memory().unwrap(), desired.as_ref()).is_in_sync());
}

#[test]
fn what_others_commit_makes_nobody_read_a_list_that_is_too_long() {
    namespace::enter!();
    let desired = ruleset(&policy(COUNT), Family::V4);
    let mut agent = backend();
    apply(&mut agent, Family::V4, desired.as_ref());
    nft("add table ip other\n");
    assert!(agent.plan(Family::V4, desired.as_ref()).unwrap().is_in_sync());
    assert_eq!(agent.memory(), None, "nothing is known for sure");
    assert!(agent.doubted_until().is_some());
}
