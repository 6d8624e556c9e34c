//! What is in our table and is not of this version: another one wrote it, or another program.

use super::rule::shown;
use std::fmt;

/// An object that this version never makes, or one with a name of ours that is of another shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stranger {
    /// A chain.
    Chain(String),
    /// A set or, with `true`, a map.
    Set(String, bool),
    /// A named object of a kind (NFT_OBJECT_*): a counter, a quota and so on.
    Object(u32, String),
    /// A flowtable.
    Flowtable(String),
}

impl Stranger {
    /// Its name, as the kernel knows it.
    pub fn name(&self) -> &str {
        match self {
            Stranger::Chain(name) | Stranger::Set(name, _) | Stranger::Object(_, name) | Stranger::Flowtable(name) => {
                name
            }
        }
    }

    /// True when its name is no text: it can't be called by that.
    pub fn is_nameless(&self) -> bool {
        self.name().contains(char::REPLACEMENT_CHARACTER)
    }

    /// What it is, in nft's words.
    pub fn kind(&self) -> &'static str {
        match self {
            Stranger::Chain(_) => "chain",
            Stranger::Set(_, false) => "set",
            Stranger::Set(_, true) => "map",
            Stranger::Object(kind, _) => object_word(*kind),
            Stranger::Flowtable(_) => "flowtable",
        }
    }
}

/// `NFT_OBJECT_*` of linux/netfilter/nf_tables.h.
fn object_word(kind: u32) -> &'static str {
    match kind {
        1 => "counter",
        2 => "quota",
        3 => "ct helper",
        4 => "limit",
        6 => "tunnel",
        7 => "ct timeout",
        8 => "secmark",
        9 => "ct expectation",
        10 => "synproxy",
        _ => "object",
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind(), shown(self.name()))
    }
}
