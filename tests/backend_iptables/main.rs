//! The iptables backend against the real kernel, on both variants.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../lab/mod.rs"]
mod lab;

mod drift;
mod failure;
mod foreign;
mod gateway;
mod leftovers;
mod sets;
mod shape;
