//! Our table as a value: what the kernel holds, or what it should hold.

use super::content::Content;
use super::name::{ChainName, SetName, TableName};
use super::rule::Rule;
use super::stranger::Stranger;
use std::collections::HashMap;
use std::fmt;

/// The comment by which the table is known as ours. It survives `nft list ruleset` and `nft -f`.
pub const TABLE_COMMENT: &str = "managed by ip-masq-agent";

/// How the table is built, as a number beside the comment: objects of our names that bear another number may mean what
/// this version can't see.
pub const FORMAT: u32 = FIRST_FORMAT;
/// The format of tables that bear no number.
pub const FIRST_FORMAT: u32 = 1;

/// What the kernel holds under our names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Under the name that stays.
    pub main: Slot,
    /// What does its work while it is replaced. It is still there when a replacement was not brought to its end.
    pub stand_in: Slot,
}

impl Tables {
    /// Our table, where it is there.
    pub fn table(&self) -> Option<&Table> {
        self.main.table()
    }

    /// What there is under a name.
    pub fn slot(&self, name: TableName) -> &Slot {
        match name {
            TableName::Main => &self.main,
            TableName::StandIn => &self.stand_in,
        }
    }

    /// The same, to be changed.
    pub fn slot_mut(&mut self, name: TableName) -> &mut Slot {
        match name {
            TableName::Main => &mut self.main,
            TableName::StandIn => &mut self.stand_in,
        }
    }

    /// The stand-in, where it alone translates: our table is not made yet, or asleep. One that another version wrote may.
    pub fn stand_in_at_work(&self) -> Option<&Table> {
        let is_idle = |slot: &Slot| !slot.table().is_some_and(Table::translates);
        let may_translate = |table: &&Table| table.translates() || !table.is_understood();
        self.stand_in.table().filter(may_translate).filter(|_| is_idle(&self.main))
    }

    /// Each of the two that is there.
    pub fn both(&self) -> impl Iterator<Item = &Table> {
        [&self.main, &self.stand_in].into_iter().filter_map(Slot::table)
    }

    /// True when both hold the same, in whatever order it was made.
    pub fn agrees(&self, other: &Tables) -> bool {
        let sorted = |tables: &Tables| {
            let mut tables = tables.clone();
            for slot in [&mut tables.main, &mut tables.stand_in] {
                if let Slot::Ours(table) = slot {
                    table.chains.sort_by_key(|chain| chain.name);
                    table.sets.sort_by_key(|set| set.name);
                    table.strangers.sort();
                }
            }
            tables
        };
        sorted(self) == sorted(other)
    }
}

/// What there is under one of our names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Slot {
    /// Nothing.
    #[default]
    Absent,
    /// A table without our comment and with nothing in it: nobody misses it.
    Blank,
    /// Our table: it bears our comment, whichever version wrote what is in it.
    Ours(Table),
}

impl Slot {
    /// Our table.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Slot::Ours(table) => Some(table),
            Slot::Absent | Slot::Blank => None,
        }
    }
}

/// Our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What NFTA_TABLE_FLAGS says.
    pub flags: TableFlags,
    /// The format that it was made in; the kernel can't change it.
    pub format: u32,
    /// The chains; the base chain first.
    pub chains: Vec<Chain>,
    /// The sets.
    pub sets: Vec<Set>,
    /// What another version put into it, or another program.
    pub strangers: Vec<Stranger>,
}

impl Table {
    /// A table with nothing in it.
    pub fn empty(flags: TableFlags) -> Self {
        Table { flags, format: FORMAT, chains: Vec::new(), sets: Vec::new(), strangers: Vec::new() }
    }

    /// The chain of a name.
    pub fn chain(&self, name: ChainName) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// Where each of the chains is among them: with port forwards there can be ten thousands.
    pub fn places(&self) -> HashMap<ChainName, usize> {
        self.chains.iter().enumerate().map(|(place, chain)| (chain.name, place)).collect()
    }

    /// The set of a name.
    pub fn set(&self, name: SetName) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// Gives a set another name, in the rules as well.
    pub fn rename(&mut self, from: SetName, to: SetName) {
        self.sets.iter_mut().filter(|set| set.name == from).for_each(|set| set.name = to);
        self.chains.iter_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.rename(from, to));
    }

    /// True when packets may come through it.
    pub fn is_in_force(&self) -> bool {
        let chain = |one: &Stranger| matches!(one, Stranger::Chain(_));
        let has_base = self.chains.iter().any(|chain| chain.hook.is_some()) || self.strangers.iter().any(chain);
        has_base && !self.flags.has(TableFlags::DORMANT)
    }

    /// How many elements its sets are known to have together.
    pub fn elements(&self) -> usize {
        self.sets.iter().filter_map(|set| set.elements.as_ref()).map(Content::len).sum()
    }

    /// True when a rule of it gives flows another address.
    pub fn translates(&self) -> bool {
        !self.flags.has(TableFlags::DORMANT)
            && self.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.translates())
    }

    /// True when none of its chains holds a rule.
    pub fn has_no_rules(&self) -> bool {
        self.chains.iter().all(|chain| chain.rules.is_empty())
    }

    /// True when a rule that we understand looks into the set.
    pub fn uses(&self, name: SetName) -> bool {
        self.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.looks_into(name))
    }

    /// True when everything in it is in our words, so that no reference is unseen.
    pub fn is_understood(&self) -> bool {
        self.strangers.is_empty() && self.chains.iter().all(|chain| chain.rules.iter().all(Rule::is_ours))
    }
}

/// The flags of a table that we know (`enum nft_table_flags`; libc has none of them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableFlags(pub u32);

impl TableFlags {
    /// Its chains are not in the packet path.
    pub const DORMANT: u32 = 1;
    /// Only the socket that made it may change it (Linux 5.12).
    pub const OWNER: u32 = 2;
    /// It outlives its owner (Linux 6.9).
    pub const PERSIST: u32 = 4;

    /// Owned while its owner lives, then there for the next one.
    pub const PERSISTENT: TableFlags = TableFlags(Self::OWNER | Self::PERSIST);

    /// True when a flag is set.
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

impl fmt::Display for TableFlags {
    /// As nft writes them behind the word `flags`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::DORMANT, "dormant"), (Self::OWNER, "owner"), (Self::PERSIST, "persist")];
        let set: Vec<_> = names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name).collect();
        f.write_str(&set.join(", "))
    }
}

/// A chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// Its place in the packet path; base chains have one.
    pub hook: Option<HookSpec>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The place of a base chain in its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookSpec {
    /// Lower runs first.
    pub priority: i32,
    /// The policy is accept, not drop.
    pub accepts: bool,
}

/// A set or a map, and its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: SetName,
    /// Its elements; `None` when there are some that we never write.
    pub elements: Option<Content>,
}
