//! Values of keys that are one of a few words.

use crate::policy::Evaluation;
use crate::ruleset::JumpPosition;

/// A value that is written as one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words, and what each stands for.
    const ALL: &'static [(&'static str, Self)];

    /// The word for the value.
    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

impl Choice for BackendChoice {
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", BackendChoice::Auto),
        ("nftables", BackendChoice::Nftables),
        ("iptables", BackendChoice::Iptables),
        ("iptables-nft", BackendChoice::IptablesNft),
        ("iptables-legacy", BackendChoice::IptablesLegacy),
    ];
}

impl Choice for Evaluation {
    const ALL: &'static [(&'static str, Self)] =
        &[("ordered", Evaluation::Ordered), ("longest-prefix", Evaluation::LongestPrefix)];
}

impl Choice for JumpPosition {
    const ALL: &'static [(&'static str, Self)] = &[("last", JumpPosition::Last), ("first", JumpPosition::First)];
}

impl Choice for ConfigWatch {
    const ALL: &'static [(&'static str, Self)] =
        &[("events", ConfigWatch::Events), ("resync", ConfigWatch::Resync), ("off", ConfigWatch::Off)];
}

impl Choice for RuleWatch {
    const ALL: &'static [(&'static str, Self)] = &[("events", RuleWatch::Events), ("poll", RuleWatch::Poll)];
}

impl Choice for TableOwner {
    const ALL: &'static [(&'static str, Self)] = &[("never", TableOwner::Never), ("persist", TableOwner::Persist)];
}

impl Choice for FlushConntrack {
    const ALL: &'static [(&'static str, Self)] =
        &[("off", FlushConntrack::Off), ("affected", FlushConntrack::Affected)];
}

impl Choice for OnRepair {
    const ALL: &'static [(&'static str, Self)] = &[("report", OnRepair::Report), ("forget", OnRepair::Forget)];
}

impl Choice for OnStop {
    const ALL: &'static [(&'static str, Self)] = &[("cleanup", OnStop::Cleanup), ("keep", OnStop::Keep)];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// iptables when it works, else nftables.
    #[default]
    Auto,
    /// nf_tables over netlink.
    Nftables,
    /// Whichever iptables variant the host's alternatives select.
    Iptables,
    /// The nf_tables variant of iptables.
    IptablesNft,
    /// The x_tables variant of iptables.
    IptablesLegacy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigWatch {
    /// An edit is applied as soon as it is saved.
    #[default]
    Events,
    /// An edit is applied at the next resync.
    Resync,
    /// An edit is applied when somebody asks for a reload.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuleWatch {
    /// nf_tables notifications.
    #[default]
    Events,
    /// Ask for the generation about once a second.
    Poll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableOwner {
    /// The table is like any other.
    #[default]
    Never,
    /// The table is owned while we live and persists behind us (kernel ≥ 6.9).
    Persist,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushConntrack {
    /// Open connections keep what they were given.
    #[default]
    Off,
    /// Those that the new configuration treats in another way are forgotten.
    Affected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRepair {
    /// They are counted.
    #[default]
    Report,
    /// They are forgotten.
    Forget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStop {
    /// A stop takes our rules out.
    #[default]
    Cleanup,
    /// A stop leaves our rules in.
    Keep,
}
