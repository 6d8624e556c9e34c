//! `explain`: open connections that go on as they began, whatever the rules say now.

use super::crossing::Crossing;
use crate::agent::advice::HostView;
use crate::cli::ExplainArgs;
use crate::network::Connection;
use crate::policy::{Family, Flow, Policy, Step, Verdict};
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
/// policy says what it is otherwise, with what the route there prefers. Nothing is found where connections can't be read.
pub fn open(
    policy: &Policy,
    question: &ExplainArgs,
    view: &HostView,
    crossing: &Crossing,
    destination: IpAddr,
    preferred: Option<IpAddr>,
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
            found.extend(connections.filter(|one| differs(policy, question, view, crossing, one, preferred, foreign)));
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
    preferred: Option<IpAddr>,
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
        preferred_source: preferred,
        ..Flow::forwarded_to(original.destination)
    };
    let (verdict, by) = policy.verdict(&flow);
    // What can't be known of a connection (packet marks, IPsec) speaks for leaving it alone.
    let may_be_exempt = !policy.exempt_marks.is_empty() || policy.exempt_ipsec.value;
    if matches!(by.step, Step::ExemptMark | Step::ForwardMark) || (may_be_exempt && seen == original.source) {
        return false;
    }
    match verdict {
        Verdict::Return => seen != original.source,
        Verdict::Masquerade => crossing.masquerade.is_some_and(|source| seen != source),
        Verdict::Snat(range) => !range.contains(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Status, Tuple};
    use crate::policy::Protocol;

    const FAR: &str = "9.9.9.9";

    /// True when a flow of a client that the far end sees so is told as one with another source than the policy gives.
    fn is_told(keys: &str, seen: &str, mark: Option<u32>, preferred: Option<&str>) -> bool {
        let text = format!("nonMasqueradeCIDRs: [10.0.0.0/8]\n{keys}\n");
        let source = crate::config::SourceText { path: std::path::Path::new("f.yaml").into(), text };
        let policy = crate::config::parse(&[source], &crate::config::Flags::default()).unwrap().policy;
        let ip = |text: &str| text.parse().unwrap();
        let tuple = |source, destination, ports| Tuple { source, destination, protocol: Protocol::Udp, ports };
        let connection = Connection {
            original: tuple(ip("192.168.50.2"), ip(FAR), Some((4000, 53))),
            reply: tuple(ip(FAR), ip(seen), Some((53, 4000))),
            status: Status(if seen == "192.168.50.2" { 0 } else { Status::SRC_NAT }),
            id: 1,
            mark: 0,
            zone: 0,
            timeout: None,
        };
        let interface = Some("up0".to_owned());
        let crossing = Crossing { interface, masquerade: Some(ip("198.51.100.1")), ..Crossing::default() };
        let question = ExplainArgs { mark, ..ExplainArgs::default() };
        differs(&policy, &question, &HostView::default(), &crossing, &connection, preferred.map(ip), None)
    }

    #[test]
    fn what_the_route_prefers_is_what_a_flow_should_have() {
        let told = |seen| is_told("snat: route-source", seen, None, Some("198.51.100.8"));
        assert!(!told("198.51.100.8"));
        assert!(told("198.51.100.1") && told("192.168.50.2"));
        assert!(!is_told("snat: route-source", "198.51.100.1", None, None), "the route prefers none");
    }

    #[test]
    fn what_a_mark_or_ipsec_may_exempt_is_left_alone() {
        let marks = "exemptMarks: [0x100/0xff00]";
        for keys in [marks, "exemptIpsec: true"] {
            assert!(!is_told(keys, "192.168.50.2", None, None), "{keys}");
            assert!(is_told(keys, "198.51.100.7", None, None), "{keys}: it is not exempt");
        }
        assert!(is_told("", "192.168.50.2", None, None));
        assert!(!is_told(marks, "198.51.100.1", Some(0x1ff), None), "it may have another mark");
    }
}
