//! Reads all of the host that can stop a policy from working. Nothing is written, nothing is loaded.

use super::enforcer::cpu_time;
use super::foreign_nat::{ChainReader, Chains};
use super::view;
use crate::agent::ConntrackReport;
use crate::agent::advice::{ConntrackTable, HostView};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Of more interfaces with addresses not each is looked at.
const MOST_INTERFACES: usize = 64;
/// Where reading takes more of a processor, for a full routing table, it is too dear for those who only ask how things
/// are: a repair would wait for it. What they cost is a twentieth of the time at most.
const CHEAP: Duration = Duration::from_millis(30);
const SHARE: u32 = 20;

/// Reads the host as far as advice needs it, and what is dear no more often than it changes.
#[derive(Debug, Default)]
pub struct HostReader {
    chains: ChainReader,
    /// When it was last read, and the processor time that it took.
    last: Option<(Instant, Duration)>,
}

impl HostReader {
    /// For the service, which waits for no program because of this.
    pub fn of_the_service() -> Self {
        HostReader { chains: ChainReader::without_programs(), last: None }
    }

    /// With the filters of every hook.
    pub fn with_every_filter() -> Self {
        HostReader { chains: ChainReader::of_every_filter(), last: None }
    }

    /// Reads it again where that is cheap; never for the first time.
    pub fn read_again(&mut self) -> Option<HostView> {
        let (at, took) = self.last?;
        (took <= CHEAP && at.elapsed() >= SHARE * took).then(|| self.read())
    }

    /// What can't be read is left out.
    pub fn read(&mut self) -> HostView {
        let begun = cpu_time();
        let view = self.look();
        self.last = Some((Instant::now(), cpu_time().saturating_sub(begun)));
        view
    }

    fn look(&mut self) -> HostView {
        let (chains, unread) = match self.chains.read() {
            Ok(Chains(chains)) => (chains.clone(), None),
            Err(error) => (BTreeMap::new(), Some(unread(&error))),
        };
        let view = view::view();
        let not_forwarding = if view.forwarding_ipv4 == Some(true) { not_forwarding(&view) } else { BTreeSet::new() };
        HostView { chains, unread, not_forwarding, conntrack: conntrack(), ..view }
    }
}

/// Why the rules of others can't be read. The kernel says it to root, too, who lacks the capability.
fn unread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "it needs root with CAP_NET_ADMIN and CAP_NET_RAW".to_owned(),
        _ => error.to_string(),
    }
}

/// Interfaces with an IPv4 address that keep what comes in there.
fn not_forwarding(view: &HostView) -> BTreeSet<String> {
    let own = view.addresses.iter().filter(|own| own.address.is_ipv4() && own.interface != "lo");
    let names: BTreeSet<&String> = own.map(|own| &own.interface).take(MOST_INTERFACES).collect();
    let is_off = |name: &&String| view::flag(&format!("/proc/sys/net/ipv4/conf/{name}/forwarding")) == Some(false);
    names.into_iter().filter(is_off).cloned().collect()
}

/// The kernel's table of connections with what it refused; `None` where that can't be read.
pub fn conntrack_report() -> Option<ConntrackReport> {
    let text = fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").ok()?;
    let ConntrackTable { count, max, .. } = conntrack()?;
    Some(ConntrackReport { connections: count, max, ..refused(&text)? })
}

/// The sums over the rows, of which each processor has one, in hexadecimal; the first line has the names.
fn refused(text: &str) -> Option<ConntrackReport> {
    let (names, rows) = text.split_once('\n')?;
    let sum = |wanted: &str| {
        let column = names.split_whitespace().position(|name| name == wanted)?;
        // The kernel's are 32 bits wide; of wider ones the sum could be too large.
        let number = |row: &str| u32::from_str_radix(row.split_whitespace().nth(column)?, 16).ok().map(u64::from);
        rows.lines().map(number).sum::<Option<u64>>()
    };
    let (insert_failed, drop, early_drop) = (sum("insert_failed")?, sum("drop")?, sum("early_drop")?);
    Some(ConntrackReport { insert_failed, drop, early_drop, ..ConntrackReport::default() })
}

/// Reads a text as that file, for `tests/fuzz`.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> Option<ConntrackReport> {
    refused(text)
}

fn conntrack() -> Option<ConntrackTable> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?;
        text.trim().parse().ok()
    };
    let (count, max) = (number("count")?, number("max")?);
    Some(ConntrackTable { count, max, buckets: number("buckets").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_tracking_refused_is_summed_over_the_processors() {
        let text = "entries  clashres found insert insert_failed drop early_drop icmp_error\n\
                    00000000 00000000 00000000 00000000 0000000a 00000001 00000000 00000000\n\
                    00000000 00000000 00000000 00000000 00000006 00000002 000000ff 00000000\n";
        let expected = ConntrackReport { insert_failed: 16, drop: 3, early_drop: 255, ..ConntrackReport::default() };
        assert_eq!(refused(text), Some(expected));
        assert_eq!(refused("entries found\n00000000 00000000\n"), None);
        assert_eq!(refused("insert_failed drop early_drop\n0 nonsense 0\n"), None);
        assert_eq!(refused(""), None);
        let largest = "insert_failed drop early_drop\n0 ffffffffffffffff 0\n0 1 0\n";
        assert_eq!(refused(largest), None);
    }
}
