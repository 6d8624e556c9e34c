//! The edge: what touches the host and is no backend.

pub mod child;
pub mod nfnetlink;
pub mod view;
