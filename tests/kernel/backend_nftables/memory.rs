//! What a large change costs the kernel while a program in another network namespace listens to nf_tables.

use super::gaps::list;
use super::stream::{Ends, inside};
use super::{apply, backend, default_policy, ruleset};
use crate::namespace::{self, Host};
use ip_masq_agent::policy::{Family, Policy};
use ip_masq_agent::sys::nfnetlink::RuleEvents;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The kernel's own memory in KiB (proc(5)).
fn slab() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// By how many KiB the kernel's memory rose at most while `work` was done.
fn rise(work: impl FnOnce()) -> u64 {
    let (before, done) = (slab(), AtomicBool::new(false));
    let most = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(slab());
            }
            most
        });
        let end = Ends(&done);
        work();
        drop(end);
        sampler.join().unwrap()
    });
    most.saturating_sub(before)
}

/// One notification of 8 KiB per element is kept until a transaction ends: 1.6 GB when all of the list is in one, 170 MB
/// for a piece. Other programs on this machine need kernel memory as well, so one quiet moment for each step is enough.
#[test]
fn a_long_list_takes_little_of_the_kernels_memory_although_somebody_listens() {
    /// 200 MB (10⁶ bytes).
    const BOUND: u64 = 200_000_000 >> 10;
    namespace::enter!();
    let elsewhere = Host::new();
    let _listener = inside(&elsewhere, || RuleEvents::open().unwrap());
    let desired = |far_away| {
        let policy = Policy { exempt: list(100_000, far_away), ..default_policy() };
        ruleset(&policy, Family::V4)
    };
    let steps = [desired(0x2000_0000), desired(0x4000_0000), None];
    let mut agent = backend();
    let mut rises = || steps.each_ref().map(|desired| rise(|| _ = apply(&mut agent, Family::V4, desired.as_ref())));
    let mut tries: Vec<[u64; 3]> = Vec::new();
    while tries.len() < 8 {
        tries.push(rises());
        let least = |step: usize| tries.iter().map(|rises| rises[step]).min();
        if (0..3).all(|step| least(step).is_some_and(|rise| rise < BOUND)) {
            return;
        }
    }
    panic!("by so many KiB at a start, another list and a stop: {tries:?}");
}
