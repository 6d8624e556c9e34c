//! The figures of a run as tables, and as JSON.

use super::figure::{Figure, outcome};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

/// Figures under a title.
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// What one should know to read them; may be empty.
    pub note: &'static str,
    /// They.
    pub figures: Vec<Figure>,
}

impl Section {
    /// As a table in Markdown, with aligned columns, so that it can be read on a terminal too.
    pub fn table(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!("{}\n\n", self.note) };
        let rows: Vec<Vec<String>> = self.figures.iter().map(|figure| figure.row().to_vec()).collect();
        format!("### {}\n\n{note}{}", self.title, table(&Figure::HEAD, &rows))
    }
}

/// Every goal, what was reached, and whether that is good enough.
pub fn goals(sections: &[Section]) -> String {
    let rows: Vec<Vec<String>> = sections
        .iter()
        .flat_map(|section| section.figures.iter().map(move |figure| (section.title, figure)))
        .flat_map(|(title, figure)| figure.reached().into_iter().map(move |goal| (title, goal)))
        .map(|(title, goal)| {
            let result = outcome(&goal).trim_start_matches(": ").to_owned();
            vec![format!("{title}: {}", goal.what), goal.goal, goal.measured, result]
        })
        .collect();
    format!("### goals\n\n{}", table(&["what", "goal", "measured", ""], &rows))
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default().max(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut text = String::new();
    for row in [&head, &rule].into_iter().chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        // Writing to a String can't fail.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// What the run was made on: a name and a value each.
pub fn machine() -> Vec<(&'static str, String)> {
    vec![
        ("date", said_by("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])),
        ("processor", cpu_model()),
        ("cores", said_by("nproc", &[])),
        ("kernel", said_by("uname", &["-rm"])),
        ("iptables", said_by("iptables", &["--version"])),
        ("nft", said_by("nft", &["--version"])),
        ("ipset", said_by("ipset", &["--version"]).lines().next().unwrap_or_default().to_owned()),
        ("load before the run", load()),
        ("others listening to nf_tables", listeners().to_string()),
    ]
}

/// Everything as JSON.
pub fn json(machine: &[(&str, String)], sections: &[Section]) -> String {
    let machine: serde_json::Map<String, Value> =
        machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let sections: Vec<Value> = sections
        .iter()
        .map(|section| {
            json!({ "title": section.title, "figures": section.figures.iter().map(Figure::json).collect::<Vec<_>>() })
        })
        .collect();
    format!("{:#}\n", json!({ "machine": machine, "sections": sections }))
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown".to_owned(), |(_, model)| model.trim().to_owned())
}

/// The mean number of runnable tasks in the last minute, proc(5).
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// How many sockets on this machine listen to the changes of nf_tables, as far as they can be seen.
///
/// The kernel keeps one mask of listeners for all network namespaces (`netlink_has_listeners`, af_netlink.c): one
/// socket anywhere, and every commit everywhere makes a message of each of its elements, which takes most of its time.
fn listeners() -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let tables = processes.filter_map(|process| std::fs::read_to_string(process.path().join("net/netlink")).ok());
    let sockets: BTreeSet<String> = tables.flat_map(|table| listening(&table)).collect();
    sockets.len()
}

/// The inodes of the sockets of a /proc/PID/net/netlink that are in the group NFNLGRP_NFTABLES of NETLINK_NETFILTER.
fn listening(table: &str) -> Vec<String> {
    let is_in = |groups: &str| u32::from_str_radix(groups, 16).is_ok_and(|groups| groups & 1 << 6 != 0);
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() == 10 && row[1] == "12" && is_in(row[3]));
    rows.map(|row| row[9].to_owned()).collect()
}
