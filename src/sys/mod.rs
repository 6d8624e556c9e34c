//! What the backends and the service stand on: the kernel's interfaces, child processes, signals. Nothing in here knows a
//! policy's rules or the agent.

pub mod child;
pub mod clock;
pub mod conntrack;
pub mod go_agent;
pub mod inotify;
pub mod listing;
pub mod nfnetlink;
pub mod pages;
pub mod rtnetlink;
pub mod signals;
pub mod xtables;
