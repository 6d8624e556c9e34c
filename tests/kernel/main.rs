//! The backends, and what reads rules of others, on the real kernel: each test in namespaces of its own.

#[path = "../interpreter/mod.rs"]
mod interpreter;
#[path = "../lab/mod.rs"]
mod lab;
mod namespace;
mod policies;
#[path = "../random/mod.rs"]
mod random;
mod written;

mod backend_iptables;
mod backend_nftables;
mod contract;
mod equivalence;
mod foreign_nat;
mod forwards;
mod network;
mod nfnetlink;
mod random_forwards;
mod view;
