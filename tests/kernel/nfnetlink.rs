//! The generation of the rule set and the commits of others, on the real kernel.

use crate::namespace::{self, nft, run};
use ip_masq_agent::sys::nfnetlink::{Nfnetlink, RuleEvent, RuleEvents};

#[test]
fn the_generation_moves_once_per_commit_and_not_for_reads() {
    namespace::enter!();
    let mut netlink = Nfnetlink::open().unwrap();
    let first = netlink.generation().unwrap();
    nft("add table inet a\nadd chain inet a b\nadd rule inet a b counter\n");
    assert_eq!(netlink.generation().unwrap(), first + 1);
    run("nft", &["list", "ruleset"], "");
    assert_eq!(netlink.generation().unwrap(), first + 1);
    run("iptables-nft", &["-t", "nat", "-N", "A"], "");
    let before = netlink.generation().unwrap();
    run("iptables-nft-restore", &["--noflush"], "*nat\n-A A -j RETURN\n-A POSTROUTING -j A\nCOMMIT\n");
    assert_eq!(netlink.generation().unwrap(), before + 1);
    run("iptables-nft-save", &[], "");
    assert_eq!(netlink.generation().unwrap(), before + 1);
}

#[test]
fn an_event_names_the_process_that_committed() {
    namespace::enter!();
    let mut netlink = Nfnetlink::open().unwrap();
    let mut events = RuleEvents::open().unwrap();
    let pid = nft("add table inet a\nadd set inet a b { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }\n");
    let heard = events.read().unwrap();
    // In a container the kernel's number is another.
    let first_namespace = std::fs::read_link("/proc/self/ns/pid").unwrap().as_os_str() == "pid:[4026531836]";
    let pid = if first_namespace { Some(pid) } else { heard[0].pid };
    assert!(pid.is_some());
    let expected = RuleEvent { generation: Some(netlink.generation().unwrap()), pid, program: Some("nft".into()) };
    assert_eq!(heard, [expected]);
    assert_eq!(events.read().unwrap(), []);
}

#[test]
fn a_listener_that_left_hears_nothing_until_it_joins_again() {
    namespace::enter!();
    let mut events = RuleEvents::open().unwrap();
    events.leave().unwrap();
    nft("add table inet a\n");
    assert_eq!(events.read().unwrap(), []);
    events.join().unwrap();
    nft("add table inet b\n");
    assert_eq!(events.read().unwrap().len(), 1);
}

#[test]
fn an_overrun_is_an_event_with_nothing_known() {
    namespace::enter!();
    let mut events = RuleEvents::open().unwrap();
    events.set_queue(0).unwrap();
    for number in 0..40 {
        nft(&format!("add table inet a{number}\n"));
    }
    let unknown = RuleEvent { generation: None, pid: None, program: None };
    assert!(events.read().unwrap().contains(&unknown));
    nft("add table inet b\n");
    assert_eq!(events.read().unwrap().len(), 1, "the listener is alive after the overrun");
}
