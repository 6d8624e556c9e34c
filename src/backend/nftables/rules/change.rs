//! A transaction: changes of one table that the kernel makes together or not at all. Pure.

use super::content::Content;
use super::name::{ChainName, SetName, TableName};
use super::rule::{Rule, shown};
use super::stranger::Stranger;
use super::table::{HookSpec, TABLE_COMMENT, TableFlags};
use super::text;
use std::fmt;

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the table, or takes an existing one over: sets its flags and its owner.
    AddTable(TableFlags),
    /// Takes the table and all that is in it away.
    DeleteTable,
    /// Makes an empty set.
    AddSet(SetName),
    /// Takes all elements out of a set.
    FlushSet(SetName),
    /// Takes a set away.
    DeleteSet(SetName),
    /// Puts elements into a set.
    AddElements(SetName, Content),
    /// Takes elements out of a set.
    DeleteElements(SetName, Content),
    /// Makes an empty chain, or gives an existing one back its policy.
    AddChain(ChainName, Option<HookSpec>),
    /// Takes all rules out of a chain.
    FlushChain(ChainName),
    /// Takes a chain away.
    DeleteChain(ChainName),
    /// Puts a rule at the end of a chain.
    AddRule(ChainName, Rule),
    /// Takes all rules out of a chain that is not of this version.
    FlushStranger(String),
    /// Takes an object away that is not of this version.
    DeleteStranger(Stranger),
    /// Lets every packet pass connection tracking by.
    PutGuard,
    /// Ends that.
    DeleteGuard,
}

/// The chains of a guard: name, hook in nft's word and by its number (`enum nf_inet_hooks`).
pub const GUARD: [(&str, &str, u32); 2] = [("untracked-in", "prerouting", 0), ("untracked-out", "output", 3)];
/// Before connection tracking: NF_IP_PRI_RAW of linux/netfilter_ipv4.h.
pub const RAW: i32 = -300;

/// Changes of one table that the kernel makes together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The table.
    pub table: TableName,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

impl fmt::Display for Transaction {
    /// As commands of nft, a line or more each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| write(change, self.table, f))
    }
}

fn write(change: &Change, table: TableName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let elements = |f: &mut fmt::Formatter<'_>, verb: &str, name: &SetName, elements: &Content| {
        let mut lines = String::new();
        text::write_elements(elements, *name, "\t", &mut lines);
        writeln!(f, "{verb} element inet {table} {name} {{\n{lines}}}")
    };
    match change {
        Change::AddTable(flags) => {
            let flags = if flags.0 == 0 { String::new() } else { format!("flags {flags}; ") };
            writeln!(f, "add table inet {table} {{ {flags}comment \"{TABLE_COMMENT}\"; }}")
        }
        Change::DeleteTable => writeln!(f, "delete table inet {table}"),
        Change::AddSet(name) => writeln!(
            f,
            "add {} inet {table} {name} {{ {}comment \"{}\"; }}",
            name.kind(),
            name.declaration("; "),
            name.comment()
        ),
        Change::FlushSet(name) => writeln!(f, "flush {} inet {table} {name}", name.kind()),
        Change::DeleteSet(name) => writeln!(f, "delete {} inet {table} {name}", name.kind()),
        Change::AddElements(name, list) => elements(f, "add", name, list),
        Change::DeleteElements(name, list) => elements(f, "delete", name, list),
        Change::AddChain(name, hook) => {
            let hook = hook
                .map_or(String::new(), |hook| format!("{}priority {}; policy accept; ", name.place(), hook.priority));
            writeln!(f, "add chain inet {table} {name} {{ {hook}comment \"{}\"; }}", name.comment())
        }
        Change::FlushChain(name) => writeln!(f, "flush chain inet {table} {name}"),
        Change::DeleteChain(name) => writeln!(f, "delete chain inet {table} {name}"),
        Change::AddRule(chain, rule) => writeln!(f, "add rule inet {table} {chain} {rule}"),
        Change::FlushStranger(chain) => writeln!(f, "flush chain inet {table} {}", shown(chain)),
        Change::PutGuard => GUARD.iter().try_for_each(|(name, hook, _)| {
            writeln!(f, "add chain inet {table} {name} {{ type filter hook {hook} priority {RAW}; policy accept; }}")?;
            writeln!(f, "add rule inet {table} {name} notrack")
        }),
        Change::DeleteGuard => GUARD.iter().try_for_each(|(name, ..)| writeln!(f, "delete chain inet {table} {name}")),
        Change::DeleteStranger(one) => writeln!(f, "delete {} inet {table} {}", one.kind(), shown(one.name())),
    }
}

/// Transactions as a person reads them: where there are several, each has a number.
pub struct Script<'a>(pub &'a [Transaction]);

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        self.0.iter().enumerate().try_for_each(|(number, transaction)| match count {
            1 => transaction.fmt(f),
            _ => write!(f, "# transaction {} of {count}\n{transaction}", number + 1),
        })
    }
}
