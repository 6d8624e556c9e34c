//! Every configuration key, once: a row is its type, name, default, concern and line of help.
//!
//! The command line, the merging of files and flags, the defaults and the errors follow from the rows; the shipped
//! configuration and the manual pages are checked against them. From here a key of the policy goes to `policy()` in
//! `draft.rs`, one of an entry to `egress.rs` beside it.

use super::Concern;
use super::expected::ExpectedRule;
use super::forward_value::{HairpinKey, OneOrMore};
use super::record::{Field, Record, record};
use super::settings::{BackendChoice, ConfigWatch, FlushConntrack, OnRepair, OnStop, RuleWatch, TableOwner};
use super::value::{Kind, Located};
use crate::policy::{
    Evaluation, HostAddress, InterfacePattern, MaskedMark, PortRange, PortRanges, Prefix, Protocol, Snat,
};
use crate::ruleset::{ChainName, JumpPosition};
use std::fmt;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

record! {
    /// What an entry of `egress` says. What it leaves unset is the top level's.
    EgressKeys, EgressDraft, below Key::is_named {
        name: Option<Located<String>>, "name",
            "What explain and status call the entry";
        out_interfaces: Vec<Located<InterfacePattern>>, "outInterfaces" = "[]",
            "The entry is for what leaves through these interfaces";
        source_cidrs: Vec<Located<Prefix>>, "sourceCIDRs" = "[]",
            "The entry is for what comes from these sources";
        exclude_source_cidrs: Vec<Located<Prefix>>, "excludeSourceCIDRs" = "[]",
            "The entry is not for what comes from these sources";
        snat: Option<Located<Snat>>, "snat",
            "What sources become";
        non_masquerade_cidrs: Option<Vec<Located<Prefix>>>, "nonMasqueradeCIDRs",
            "Destinations that see the original source address";
        masquerade_exception_cidrs: Option<Vec<Located<Prefix>>>, "masqueradeExceptionCIDRs",
            "Destinations that are translated although another range exempts them";
        to_ports: Option<PortRanges>, "toPorts",
            "Source ports to use for TCP, UDP and SCTP";
        random_fully: Option<bool>, "randomFully",
            "Let the kernel choose source ports at random";
    }
}

record! {
    /// What an entry of `portForwards` says.
    ForwardKeys, ForwardDraft, below Key::is_named {
        host_port: Option<Located<PortRange>>, "hostPort",
            "The port of the host, or a range";
        protocol: OneOrMore<Protocol>, "protocol",
            "tcp (default), udp, sctp or a list of them";
        host_ip: Option<Located<HostAddress>>, "hostIP",
            "The address of the host; 0.0.0.0 or :: for every one of a family";
        address: OneOrMore<IpAddr>, "address",
            "Where it leads: an address, or one of each family";
        port: Option<Located<u16>>, "port",
            "The port there; the first one of a range";
        in_interfaces: Vec<Located<InterfacePattern>>, "inInterfaces",
            "Only for what comes in through these interfaces";
        source_cidrs: Vec<Located<Prefix>>, "sourceCIDRs",
            "Only for what comes from these sources";
        exclude_source_cidrs: Vec<Located<Prefix>>, "excludeSourceCIDRs",
            "Not for what comes from these sources";
        hairpin: HairpinKey, "hairpin",
            "Whose source is translated: auto, always, never or CIDRs";
        localhost: Option<Located<bool>>, "localhost",
            "Also for local processes that use 127.0.0.0/8";
    }
}

record! {
    /// What the keys say about the policy.
    PolicyKeys, PolicyDraft, of Concern {
        non_masquerade_cidrs: Vec<Located<Prefix>>, "nonMasqueradeCIDRs"
            = "[10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]", Rules,
            "Destinations that see the original source address";
        extra_non_masquerade_cidrs: Vec<Located<Prefix>>, "extraNonMasqueradeCIDRs" = "[]", Rules,
            "More of them, beside nonMasqueradeCIDRs or the built-in ranges";
        masquerade_exception_cidrs: Vec<Located<Prefix>>, "masqueradeExceptionCIDRs" = "[]", Rules,
            "Destinations that are masqueraded although another range exempts them";
        out_interfaces: Vec<Located<InterfacePattern>>, "outInterfaces" = "[]", Rules,
            "Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)";
        source_cidrs: Vec<Located<Prefix>>, "sourceCIDRs" = "[]", Rules,
            "Masquerade only what comes from these sources";
        exclude_source_cidrs: Vec<Located<Prefix>>, "excludeSourceCIDRs" = "[]", Rules,
            "Never masquerade what comes from these sources";
        masq_link_local: bool, "masqLinkLocal" = "false", Rules,
            "Masquerade traffic to 169.254.0.0/16 too";
        masq_link_local_ipv6: bool, "masqLinkLocalIPv6" = "false", Rules,
            "Masquerade traffic to fe80::/10 too";
        masq_multicast: bool, "masqMulticast" = "false", Rules,
            "Masquerade multicast and limited broadcast too";
        masq_local_source: bool, "masqLocalSource" = "false", Rules,
            "Masquerade the host's own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes' ip-masq-agent does";
        nomasq_all_reserved_ranges: bool, "nomasqAllReservedRanges" = "false", Rules,
            "Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones";
        enable_ipv6: bool, "enableIPv6" = "false", Rules,
            "Masquerade IPv6 too";
        random_fully: bool, "randomFully" = "true", Rules,
            "Let the kernel choose source ports at random";
        to_ports: Option<PortRanges>, "toPorts", Rules,
            "Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order";
        snat: Option<Located<Snat>>, "snat" = "masquerade", Rules,
            "What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family";
        egress: Vec<Located<EgressKeys>>, "egress" = "[]", Rules,
            "Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides";
        port_forwards: Vec<Located<ForwardKeys>>, "portForwards" = "[]", Rules,
            "Ports of the host that lead to another one";
        mark_masq_bit: Option<Located<u8>>, "markMasqBit", Rules,
            "The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated";
        external_set_mark_chain: Option<Located<ChainName>>, "externalSetMarkChain", Rules,
            "The chain of another program that marks such forwards and translates their sources (iptables backends)";
        exempt_marks: Vec<Located<MaskedMark>>, "exemptMarks" = "[]", Rules,
            "Packets with these marks, as 0x100/0xff00, keep their source";
        exempt_ipsec: Option<Located<bool>>, "exemptIpsec" = "false", Rules,
            "What an IPsec policy will encrypt keeps its source";
        evaluation: Evaluation, "evaluation" = "ordered", Rules,
            "Exceptions before exemptions, or the longest prefix of both";
        fast_path: Vec<Located<InterfacePattern>>, "fastPath" = "[]", Rules,
            "Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)";
        cidr_limit: Option<Located<u64>>, "cidrLimit", Rules,
            "Maximum number of nonMasqueradeCIDRs; more are an error";
        expect_foreign: Vec<Located<ExpectedRule>>, "expectForeign" = "[]", Service,
            "Nat rules of other programs that are meant to be there, as 'check --host' prints them; '*' matches anything";
    }
}

record! {
    /// How the service behaves, as opposed to what the policy is.
    Settings, SettingsDraft, of Concern {
        resync_interval: Duration, "resyncInterval" = "60s", Service,
            "How often to re-read the configuration and verify the rules when nothing has changed (1s to 24h)";
        config_watch: ConfigWatch, "configWatch" = "events", Service,
            "When an edited file is applied: as soon as it is saved, at the next resync, or only by a reload";
        backend: BackendChoice, "backend" = "auto", Rules,
            "What writes the rules; auto is iptables if it works, otherwise nftables";
        masq_chain: ChainName, "masqChain" = "IP-MASQ-AGENT", Names,
            "Name of the chain (iptables backends)";
        jump_position: JumpPosition, "jumpPosition" = "last", Rules,
            "Position of the rules among the host's other nat rules";
        rule_watch: RuleWatch, "ruleWatch" = "events", Service,
            "How changes by other programs are detected";
        table_owner: TableOwner, "tableOwner" = "never", Rules,
            "Own the nftables table, so that other programs can't flush it (kernel 6.9 or later)";
        flush_conntrack: FlushConntrack, "flushConntrack" = "off", Service,
            "Whether a changed configuration also applies to open connections that it treats in another way";
        manage_sysctl: bool, "manageSysctl" = "false", Sysctls,
            "Turn forwarding on while the service runs, and back to what it was when it stops";
        on_repair: OnRepair, "onRepair" = "report", Service,
            "What happens to connections that began while rules were missing and don't fit the policy";
        on_stop: OnStop, "onStop" = "cleanup", Service,
            "What happens to the rules when the service stops";
    }
}

impl Default for Settings {
    fn default() -> Self {
        SettingsDraft::default().finish()
    }
}

/// All that is said about a key.
#[derive(Debug)]
pub struct KeyInfo {
    pub key: Key,
    /// Its name in files.
    pub name: &'static str,
    /// Its name as a flag, without the dashes.
    pub flag: String,
    /// What kind of value it has.
    pub kind: Kind,
    /// The default, written as in YAML; empty when there is none.
    pub default: &'static str,
    pub concern: Concern,
    /// What it does, in a line.
    pub help: &'static str,
}

/// Every key, in the order in which it is documented.
pub static KEYS: LazyLock<Vec<KeyInfo>> = LazyLock::new(|| {
    let info = |(number, field): (usize, &Field<Concern>)| KeyInfo {
        key: Key(number),
        name: field.name,
        flag: field.field.replace('_', "-"),
        kind: field.kind,
        default: field.default,
        concern: field.concern,
        help: field.help,
    };
    PolicyDraft::FIELDS.iter().chain(SettingsDraft::FIELDS).enumerate().map(info).collect()
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) usize);

impl Key {
    /// All that is said about the key.
    pub fn info(self) -> &'static KeyInfo {
        &KEYS[self.0]
    }

    /// The key of that name; keys are case-sensitive.
    pub fn named(name: &str) -> Option<Key> {
        KEYS.iter().find(|info| info.name == name).map(|info| info.key)
    }

    fn is_named(name: &str) -> bool {
        Key::named(name).is_some()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nearest::nearest;
    use super::*;

    #[test]
    fn every_default_is_what_its_key_takes() {
        let (mut policy, mut settings) = (PolicyDraft::default(), SettingsDraft::default());
        policy.fill();
        settings.fill();
        for info in KEYS.iter() {
            let count = PolicyDraft::FIELDS.len();
            let lacks = if info.key.0 < count { policy.lacks(info.key.0) } else { settings.lacks(info.key.0 - count) };
            assert_eq!(lacks, info.default.is_empty(), "{}", info.name);
        }
    }

    #[test]
    fn a_flag_is_the_key_in_kebab_case() {
        for info in KEYS.iter() {
            let letters = |text: &str| text.replace('-', "").to_lowercase();
            assert_eq!(letters(&info.flag), letters(info.name));
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
