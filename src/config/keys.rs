//! Every configuration key, once: name, flag, kind, default and a line of help.
//!
//! The typed extraction, the command line, the shipped configuration and the manual pages are checked against this
//! table. A new key needs a row here, a variant of [`Key`], a field of the draft, and whatever then fails to compile.

use super::settings::{BackendChoice, Choice, OnStop, RuleWatch, TableOwner};
use crate::ruleset::JumpPosition;
use std::fmt;

/// A configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is explained by its row in KEYS")]
pub enum Key {
    NonMasqueradeCidrs,
    MasqueradeExceptionCidrs,
    OutInterfaces,
    SourceCidrs,
    ExcludeSourceCidrs,
    MasqLinkLocal,
    MasqLinkLocalIpv6,
    MasqMulticast,
    MasqLocalSource,
    NomasqAllReservedRanges,
    EnableIpv6,
    RandomFully,
    ToPorts,
    CidrLimit,
    ResyncInterval,
    Backend,
    MasqChain,
    JumpPosition,
    RuleWatch,
    TableOwner,
    OnStop,
}

/// What kind of value a key has.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A list of CIDRs.
    Cidrs,
    /// A list of interface patterns.
    Interfaces,
    /// `true` or `false`.
    Switch,
    /// A duration as Go writes it.
    Duration,
    /// A whole number from 0.
    Count,
    /// The name of a chain.
    Chain,
    /// Port ranges, `a-b,c`.
    Ports,
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>),
}

impl Kind {
    /// True for lists: files join them, a flag replaces them.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Cidrs | Kind::Interfaces)
    }

    /// The placeholder of the value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Cidrs => "CIDR",
            Kind::Interfaces => "NAME",
            Kind::Switch => "true|false",
            Kind::Duration => "DURATION",
            Kind::Count => "N",
            Kind::Chain => "CHAIN",
            Kind::Ports => "A-B,C",
            Kind::Choice(_) => "WORD",
        }
    }
}

/// One row: all that is said about a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyInfo {
    /// The key.
    pub key: Key,
    /// Its name in files.
    pub name: &'static str,
    /// Its name as a flag, without the dashes.
    pub flag: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// The default, written as in YAML; empty when there is none.
    pub default: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
}

const fn row(
    key: Key,
    name: &'static str,
    flag: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> KeyInfo {
    KeyInfo { key, name, flag, kind, default, help }
}

/// Every key, in the order in which it is documented.
pub static KEYS: [KeyInfo; 21] = [
    row(
        Key::NonMasqueradeCidrs,
        "nonMasqueradeCIDRs",
        "non-masquerade-cidrs",
        Kind::Cidrs,
        "[10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]",
        "Destinations that see the original source address",
    ),
    row(
        Key::MasqueradeExceptionCidrs,
        "masqueradeExceptionCIDRs",
        "masquerade-exception-cidrs",
        Kind::Cidrs,
        "[]",
        "Destinations that are masqueraded although another range exempts them",
    ),
    row(
        Key::OutInterfaces,
        "outInterfaces",
        "out-interfaces",
        Kind::Interfaces,
        "[]",
        "Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but)",
    ),
    row(
        Key::SourceCidrs,
        "sourceCIDRs",
        "source-cidrs",
        Kind::Cidrs,
        "[]",
        "Masquerade only what comes from these sources",
    ),
    row(
        Key::ExcludeSourceCidrs,
        "excludeSourceCIDRs",
        "exclude-source-cidrs",
        Kind::Cidrs,
        "[]",
        "Never masquerade what comes from these sources",
    ),
    row(
        Key::MasqLinkLocal,
        "masqLinkLocal",
        "masq-link-local",
        Kind::Switch,
        "false",
        "Masquerade traffic to 169.254.0.0/16 too",
    ),
    row(
        Key::MasqLinkLocalIpv6,
        "masqLinkLocalIPv6",
        "masq-link-local-ipv6",
        Kind::Switch,
        "false",
        "Masquerade traffic to fe80::/10 too",
    ),
    row(
        Key::MasqMulticast,
        "masqMulticast",
        "masq-multicast",
        Kind::Switch,
        "false",
        "Masquerade multicast and limited broadcast too",
    ),
    row(
        Key::MasqLocalSource,
        "masqLocalSource",
        "masq-local-source",
        Kind::Switch,
        "false",
        "Masquerade the host's own addresses even where that can only harm, as the Go agent does",
    ),
    row(
        Key::NomasqAllReservedRanges,
        "nomasqAllReservedRanges",
        "nomasq-all-reserved-ranges",
        Kind::Switch,
        "false",
        "Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones",
    ),
    row(Key::EnableIpv6, "enableIPv6", "enable-ipv6", Kind::Switch, "false", "Masquerade IPv6 too"),
    row(
        Key::RandomFully,
        "randomFully",
        "random-fully",
        Kind::Switch,
        "true",
        "Let the kernel choose source ports at random",
    ),
    row(
        Key::ToPorts,
        "toPorts",
        "to-ports",
        Kind::Ports,
        "",
        "Source ports to use for masqueraded TCP, UDP and SCTP, ascending",
    ),
    row(Key::CidrLimit, "cidrLimit", "cidr-limit", Kind::Count, "", "Refuse more nonMasqueradeCIDRs than this"),
    row(
        Key::ResyncInterval,
        "resyncInterval",
        "resync-interval",
        Kind::Duration,
        "60s",
        "How often configuration and kernel are compared without a reason, 1s to 24h",
    ),
    row(
        Key::Backend,
        "backend",
        "backend",
        Kind::Choice(names::<BackendChoice>),
        "auto",
        "What keeps the rules; auto is iptables where it works, else nftables",
    ),
    row(Key::MasqChain, "masqChain", "masq-chain", Kind::Chain, "IP-MASQ-AGENT", "The name of the chain (iptables)"),
    row(
        Key::JumpPosition,
        "jumpPosition",
        "jump-position",
        Kind::Choice(names::<JumpPosition>),
        "last",
        "Where the rules stand among the host's other nat rules",
    ),
    row(
        Key::RuleWatch,
        "ruleWatch",
        "rule-watch",
        Kind::Choice(names::<RuleWatch>),
        "events",
        "How changes made by other programs are noticed",
    ),
    row(
        Key::TableOwner,
        "tableOwner",
        "table-owner",
        Kind::Choice(names::<TableOwner>),
        "never",
        "Own the nftables table, so that other programs can't flush it (kernel 6.9 or later)",
    ),
    row(
        Key::OnStop,
        "onStop",
        "on-stop",
        Kind::Choice(names::<OnStop>),
        "cleanup",
        "What becomes of the rules when the service stops",
    ),
];

fn names<C: Choice>() -> Vec<&'static str> {
    C::ALL.iter().map(|(name, _)| *name).collect()
}

impl Key {
    /// All that is said about the key.
    pub fn info(self) -> &'static KeyInfo {
        &KEYS[self as usize]
    }

    /// The key of that name; keys are case-sensitive.
    pub fn named(name: &str) -> Option<Key> {
        KEYS.iter().find(|info| info.name == name).map(|info| info.key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// The known word that was probably meant, if any is near: at most a third of its letters apart, case aside, or
/// with the same beginning.
pub fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    // No known word is long; comparing with a very long one would only cost time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let apart = strsim::damerau_levenshtein(&word, &name);
        let same_beginning = name.starts_with(&word) || word.starts_with(&name);
        if same_beginning && word.len() * 2 >= name.len() { apart.min(2) } else { apart }
    };
    let (apart, name) = known.into_iter().map(|name| (distance(name), name)).min_by_key(|(apart, _)| *apart)?;
    (apart * 3 <= name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for info in &KEYS {
            assert_eq!(info.key.info().name, info.name);
        }
    }

    #[test]
    fn a_flag_is_the_key_in_kebab_case() {
        for info in &KEYS {
            let letters = |text: &str| text.replace('-', "").to_lowercase();
            assert_eq!(letters(info.flag), letters(info.name));
        }
    }

    #[test]
    fn near_misses_find_their_key() {
        let cases = [
            ("nonMasqueradeCIDR", Some("nonMasqueradeCIDRs")),
            ("nonmasqueradecidrs", Some("nonMasqueradeCIDRs")),
            ("maskLinkLocal", Some("masqLinkLocal")),
            ("resyncinterval", Some("resyncInterval")),
            ("enableIpv6", Some("enableIPv6")),
            ("backends", Some("backend")),
            ("backendToUse", Some("backend")),
            ("masq", None),
            ("something", None),
            ("x", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, KEYS.iter().map(|info| info.name)), meant, "{word}");
        }
    }
}
