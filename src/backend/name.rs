//! What the backends are called.

use crate::config::BackendChoice;
use std::fmt;

/// A backend that really exists on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendName {
    /// nf_tables over netlink, own table.
    Nftables,
    /// `iptables-nft-restore` and its IPv6 twin.
    IptablesNft,
    /// `iptables-legacy-restore` and its IPv6 twin.
    IptablesLegacy,
}

impl BackendName {
    /// Every one there is.
    pub const ALL: [BackendName; 3] = [BackendName::IptablesNft, BackendName::IptablesLegacy, BackendName::Nftables];
}

impl From<BackendName> for BackendChoice {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Nftables => BackendChoice::Nftables,
            BackendName::IptablesNft => BackendChoice::IptablesNft,
            BackendName::IptablesLegacy => BackendChoice::IptablesLegacy,
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendName::Nftables => "nftables",
            BackendName::IptablesNft => "iptables-nft",
            BackendName::IptablesLegacy => "iptables-legacy",
        })
    }
}
