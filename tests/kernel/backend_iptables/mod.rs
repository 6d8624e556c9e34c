//! The iptables backend against the real kernel, on both variants.

mod drift;
mod failure;
mod foreign;
mod forwards;
mod gateway;
mod leftovers;
mod sets;
mod shape;
