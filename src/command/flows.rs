//! `explain`: open connections that go on as they began, whatever the rules say now.

use super::crossing::Crossing;
use crate::agent::advice::HostView;
use crate::cli::ExplainArgs;
use crate::network::Connection;
use crate::policy::{Family, Flow, Policy, Verdict};
use crate::sys::conntrack::{self, Conntrack, Filter};
use serde::Serialize;
use std::net::IpAddr;
use std::ops::ControlFlow;

/// So many are looked at.
const MOST: usize = 10_000;

/// Connections that use another source than a new one would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenFlows {
    pub count: usize,
    /// The source that the first one uses.
    pub source: IpAddr,
    /// The first one: protocol, source and destination.
    pub example: String,
    /// What deletes them.
    pub command: String,
}

/// Finds those to an address. `foreign` is the source that rules of others give, where these decide and it is known; the
/// policy says what it is otherwise. Nothing is found where connections can't be read.
pub fn open(
    policy: &Policy,
    question: &ExplainArgs,
    view: &HostView,
    crossing: &Crossing,
    destination: IpAddr,
    foreign: Option<IpAddr>,
) -> Option<OpenFlows> {
    if conntrack::is_empty() {
        return None;
    }
    let filter = Filter { destination: Some(destination), ..Filter::default() };
    let (mut seen, mut found) = (0, Vec::new());
    let result = Conntrack::open().and_then(|mut conntrack| {
        conntrack.dump(Family::of(destination), &filter, |entries| {
            seen += entries.len();
            let connections = entries.into_iter().map(|entry| entry.connection);
            found.extend(connections.filter(|one| differs(policy, question, view, crossing, one, foreign)));
            Ok(if seen > MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    });
    result.ok()?;
    let first = found.first()?;
    let (from, to, protocol) = (first.original.source, first.original.destination, first.original.protocol);
    let example = match first.original.ports {
        Some((source, port)) => format!("{protocol} {from} port {source} to {to} port {port}"),
        None => format!("{protocol} {from} to {to}"),
    };
    let source = question.from.map(|from| format!(" -s {from}")).unwrap_or_default();
    let command = format!("conntrack -D{source} -d {to}");
    Some(OpenFlows { count: found.len(), source: first.seen_source(), example, command })
}

/// True for a connection that was asked for and does not look like a new one.
fn differs(
    policy: &Policy,
    question: &ExplainArgs,
    view: &HostView,
    crossing: &Crossing,
    connection: &Connection,
    foreign: Option<IpAddr>,
) -> bool {
    let original = &connection.original;
    let is_asked = question.from.is_none_or(|from| original.source == from)
        && question.proto.is_none_or(|protocol| original.protocol == protocol)
        && question.port.is_none_or(|port| original.ports.is_some_and(|(_, to)| to == port))
        && connection.target() == original.destination;
    if !is_asked {
        return false;
    }
    let seen = connection.seen_source();
    if let Some(source) = foreign {
        return seen != source;
    }
    let on_out = crossing.interface.as_ref().is_some_and(|out| view.interfaces_with(original.source).contains(out));
    let flow = Flow {
        source: Some(original.source),
        source_is_local: view.is_local(original.source),
        source_on_out_interface: on_out,
        out_interface: crossing.interface.clone(),
        protocol: original.protocol,
        mark: question.mark.unwrap_or_default(),
        ..Flow::forwarded_to(original.destination)
    };
    match policy.verdict(&flow).0 {
        Verdict::Return => seen != original.source,
        Verdict::Masquerade => crossing.masquerade.is_some_and(|source| seen != source),
        Verdict::Snat(range) => !range.contains(seen),
    }
}
