//! The edge: what touches the host and is no backend.

pub mod child;
pub mod control;
pub mod directories;
pub mod go_agent;
pub mod inotify;
pub mod instance;
pub mod journal;
pub mod kernel;
pub mod leftovers;
pub mod lock;
pub mod nat_hooks;
pub mod nfnetlink;
pub mod notify;
pub mod poll;
pub mod rtnetlink;
pub mod signals;
pub mod state;
pub mod unit;
pub mod view;
pub mod xtables;
