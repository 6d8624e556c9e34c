//! What the journal is told: one entry per edge, each kind with a MESSAGE_ID of its own that never changes.
//!
//! `packaging/catalog/ip-masq-agent.catalog` explains every kind to `journalctl -x`.

use crate::backend::BackendName;
use crate::policy::Family;
use crate::text;

/// syslog(3) priorities, as far as we use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// LOG_ERR
    Error = 3,
    /// LOG_WARNING
    Warning = 4,
    /// LOG_NOTICE
    Notice = 5,
    /// LOG_INFO
    Info = 6,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $priority:ident;)*) => {
        /// The kinds of entries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The MESSAGE_ID: 128 random bits in lower-case hexadecimal (systemd.journal-fields(7)).
            pub fn message_id(self) -> &'static str {
                match self {
                    $(Kind::$name => $id,)*
                }
            }

            /// How much it matters.
            pub fn priority(self) -> Priority {
                match self {
                    $(Kind::$name => Priority::$priority,)*
                }
            }
        }
    };
}

kinds! {
    /// Which backend was chosen, and why.
    BackendChosen = "ec6f146596944eec955100acf9924b34", Info;
    /// A configuration is in the kernel for the first time.
    Applied = "e68f5c0d89cb492899d30f9c697d3537", Info;
    /// Rules of ours in a backend that is not in use any more were removed.
    OthersRemoved = "0960051e1bbfa88bfc48670c624bb055", Info;
    /// A changed configuration replaced another.
    Reloaded = "802dd323472d4903a4506149eec7aff6", Info;
    /// A candidate is in force until it is confirmed or its time is up.
    Trying = "91006b4839654d6aa4d25426311437a8", Notice;
    /// What was tried is confirmed.
    Confirmed = "89fcd564c23c4aa286d6a5432c47cd0e", Notice;
    /// What was tried was not confirmed; the earlier configuration is in force.
    WentBack = "14b5b73861564e0ba99ec29452e12c06", Warning;
    /// The files hold something else than what is in force, and wait for a reload.
    FilesDiffer = "6f680296109443c7ac5b9f92793ab6bd", Notice;
    /// The configuration is wrong; the last good one stays.
    ConfigRefused = "680f1ca559394933a72ec755122c0391", Error;
    /// The configuration file is gone; the last good one stays.
    ConfigMissing = "e68f3c7fc03c41a49da78b783e0493b2", Error;
    /// There is no configuration; the built-in defaults are in force.
    Defaults = "6b6463739824451ab9b65e483bad4815", Notice;
    /// A setting has to wait for a restart, or something on the host stops the policy from working.
    Warning = "3b6933aeaea148f2851175f624bafb38", Warning;
    /// The host forwards for public addresses and no scope is set.
    Unscoped = "605b0651ad3d436faf4c2543f7befd6e", Warning;
    /// Another program changed our rules; they are as they were.
    Repaired = "e9a7ca51863d47eb8f0062aa0ad68f02", Notice;
    /// Somebody switched a sysctl off that the service has set; it is on again.
    SysctlRepaired = "29b473ff590b5d02c12507793067af1d", Notice;
    /// The host changed what the rules have to be.
    Adapted = "1905c6ba2eb47736bcf0b65492f81afc", Notice;
    /// Rules of an earlier run in a family that is not enabled were removed.
    StrayRulesRemoved = "762767368f1241ebabd1da3527f1f31e", Notice;
    /// Another program keeps changing our rules.
    Fight = "d8b697d025a6412b828f5d627e895c54", Warning;
    /// Nobody has changed our rules for a minute.
    FightOver = "dd01bb30b1dd4cb8956ae99761a02541", Info;
    /// One family is not what it should be.
    Degraded = "1e0651b026de485b852133235bc012bf", Error;
    /// A name of ours is another program's in the kernel.
    ForeignRefused = "a3a409eca62747a3baa08032077b6ae0", Error;
    /// A degraded family is in sync again.
    Recovered = "dd11690bcc214ccaa86d970e5d525b42", Info;
    /// The last good configuration could not be kept in the state directory.
    StateNotSaved = "a375d0ad18a1445fa887c3a90b57dc08", Warning;
    /// Rule change events are unavailable; the rules are polled.
    WatchLost = "cc7adbf63151495888f908c1953baf38", Warning;
    /// Entries were lost because the journal did not read.
    Dropped = "786df45fbfdc463cba982dd7df552147", Warning;
    /// Tracked connections were deleted because they would be treated in another way now.
    ConnectionsForgotten = "ba68c20d57c923b35f0e5654ca8223af", Notice;
    /// Tracked connections don't fit the policy after a repair.
    ConnectionsUnfit = "ece88fa195db6e1bbfce330daeab883f", Notice;
    /// The service can't begin, or can't go on.
    Failed = "259a58c1d31f4c8cb8b70b0f8a9dddb2", Error;
    /// A stop is about to remove the rules, and what becomes of masqueraded connections then.
    Removing = "1301c49d80e640a0aaaef297322ae65b", Notice;
    /// The service stopped, and what became of the rules.
    Stopped = "54ef17bf8183411b98f102720feaf02f", Info;
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What kind it is.
    pub kind: Kind,
    /// The text; it has several lines only where they are ours, see [`Entry::lines`].
    pub message: String,
    /// Further fields, names without the `IP_MASQ_` that is put before them.
    pub fields: Vec<(&'static str, String)>,
}

impl Entry {
    /// An entry of one line, without further fields. Whatever is named in it, nobody else begins a line.
    pub fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Entry { kind, message: text::one_line(message.as_ref()), fields: Vec::new() }
    }

    /// An entry whose lines are ours, as those of diagnostics are.
    pub fn lines(kind: Kind, message: impl AsRef<str>) -> Self {
        Entry { kind, message: text::lines(message.as_ref()).into_owned(), fields: Vec::new() }
    }

    /// The same with one more field.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, text::one_line(&value.to_string())));
        self
    }

    /// The same with the family it is about.
    pub fn of(self, family: Family) -> Self {
        self.with("FAMILY", family)
    }

    /// The same with the backend, where one is chosen.
    pub fn by(self, backend: Option<BackendName>) -> Self {
        match backend {
            Some(name) => self.with("BACKEND", name),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn message_ids_are_128_bits_in_hexadecimal_and_never_shared() {
        let ids: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        for id in ids {
            assert!(id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{id}");
        }
    }

    #[test]
    fn the_catalog_explains_every_kind_and_no_other() {
        let catalog = include_str!("../../packaging/catalog/ip-masq-agent.catalog");
        let explained: BTreeSet<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let kinds: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!(explained, kinds);
    }
}
