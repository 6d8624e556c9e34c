//! The iptables backend against the real kernel, on both variants.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../lab/mod.rs"]
mod lab;

mod drift;
mod failure;
mod foreign;
mod gateway;
mod leftovers;
#[path = "../random/mod.rs"]
mod random;
mod sets;
mod shape;
mod walk;
