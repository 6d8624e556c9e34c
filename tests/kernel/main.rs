//! The backends, and what reads rules of others, on the real kernel: each test in namespaces of its own.

#[path = "../lab/mod.rs"]
mod lab;
mod namespace;
#[path = "../random/mod.rs"]
mod random;

mod backend_iptables;
mod backend_nftables;
mod contract;
mod equivalence;
mod foreign_nat;
mod network;
mod nfnetlink;
