//! The edge: what touches the host and is no backend.

pub mod child;
pub mod go_agent;
pub mod nfnetlink;
pub mod view;
pub mod xtables;
