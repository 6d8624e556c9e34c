//! What every backend promises, asked of each in a namespace of its own: the same words, whatever is behind them.
//!
//! What only one of them does stands in `backend_iptables` and `backend_nftables`.

mod drift;
pub(crate) mod host;
mod ownership;
mod plan;
mod refusal;
mod walk;
