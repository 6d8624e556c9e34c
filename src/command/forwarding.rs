//! `explain` for an address of the host: where one of its ports leads, and as whom the client is seen there.

use super::host::Host;
use crate::cli::ExplainArgs;
use crate::policy::{
    Arrival, Family, Flow, Forward, ForwardMark, ForwardVerdict, Gate, Hairpin, HostAddress, Origin, Policy, Prefix,
    Protocol, Step, Verdict, WithOrigin,
};
use serde::Serialize;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Where a port of the host leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forwarding {
    /// The number of the entry in `portForwards`, from 1.
    pub number: u32,
    /// Where it was written.
    pub origin: String,
    /// The target.
    pub destination: SocketAddr,
    /// The target is an address of this host.
    pub local: bool,
    /// The interface towards the target, where the target has a route.
    pub interface: Option<String>,
    /// The connected network through which the target is reached.
    pub network: Option<String>,
    /// Whether the target sees an address of this host instead of the client.
    pub hairpin: bool,
    /// Why, or why not.
    pub hairpin_reason: String,
    /// What marks the packet before it is routed, and where that was written.
    pub mark: Option<Marking>,
    /// The source that the target sees, where it is known.
    pub source: Option<IpAddr>,
    /// The rule of another program that decides about it.
    pub source_by: Option<String>,
}

/// What marks a packet on its way to the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Marking {
    /// The bit that is set, as a mark under its mask.
    pub bit: Option<String>,
    /// The chain of another program that marks as it likes, and whose program translates the source.
    pub chain: Option<String>,
    /// Where that was written.
    pub origin: String,
}

/// A forward that is for the packet and does not let it pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForwardRefusal {
    /// The number of the entry in `portForwards`, from 1.
    pub number: u32,
    /// Where it was written.
    pub origin: String,
    /// The gate, in words.
    pub reason: String,
    /// The prefix or pattern that refused.
    pub matched: Option<String>,
    /// Where that was written.
    pub matched_origin: Option<String>,
}

/// What is said of a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is forwarded; what becomes of the source, and who says so.
    Forwarded(Box<Forwarding>, Verdict, Step),
    /// It is the host's own, because of these.
    Refused(Vec<ForwardRefusal>),
    /// It is the host's own: no forward is for it, and these of the port are not for these reasons.
    Kept(Vec<ForwardRefusal>),
}

/// The packet that a question is about; `None` when it names no port of a protocol that has some.
pub fn arrival(host: &Host, question: &ExplainArgs, address: IpAddr) -> Option<Arrival> {
    let protocol = question.proto.unwrap_or(Protocol::Tcp);
    let from_host =
        question.from.map_or(address.is_loopback() && question.incoming.is_none(), |from| host.is_local(from));
    let source = question.from.or_else(|| (from_host && address.is_loopback()).then_some(address));
    Some(Arrival {
        source,
        in_interface: question.incoming.clone().or_else(|| host.incoming.interface.clone()),
        from_host,
        destination: address,
        destination_is_local: host.is_local(address),
        protocol,
        port: question.port?,
    })
}

/// Where the packets of a question are forwarded to.
pub fn targets(policy: &Policy, host: &Host, question: &ExplainArgs) -> Vec<IpAddr> {
    let arrivals = question.addresses.iter().filter_map(|address| arrival(host, question, *address));
    let target = |arrival: Arrival| match policy.forward(&arrival) {
        ForwardVerdict::To { address, .. } => Some(address),
        ForwardVerdict::Keep | ForwardVerdict::Refused(_) => None,
    };
    arrivals.filter_map(target).collect()
}

/// What the policy says of the packet, which arrives with a mark, on a host.
pub fn told(policy: &Policy, host: &Host, arrival: &Arrival, mark: u32) -> Told {
    match policy.forward(arrival) {
        ForwardVerdict::Keep => Told::Kept(of_the_port(policy, arrival)),
        ForwardVerdict::Refused(all) => Told::Refused(all.into_iter().map(refusal).collect()),
        ForwardVerdict::To { forward, address, port } => {
            let way = host.target(address);
            let connected = way.and_then(|way| way.network(arrival.source));
            let arrived = Flow {
                source: arrival.source,
                source_is_local: arrival.from_host,
                out_interface: way.map(|way| way.interface.clone()),
                protocol: arrival.protocol,
                mark,
                dnated: true,
                destination_port: Some(port),
                network: connected.map(|(network, _)| network),
                ..Flow::forwarded_to(address)
            };
            let flow = Flow { mark: policy.mark_behind(forward, &arrived), ..arrived };
            let local = host.is_local(address);
            let (verdict, step) = match policy.verdict(&flow) {
                // Our rules for sources are asked about what leaves the host.
                _ if local => (Verdict::Return, Step::Forwarded),
                (verdict, by) => (verdict, by.step),
            };
            let hides = forward.hides(&flow);
            let hidden = hides.filter(|_| !local);
            let hairpin = hidden.is_some() || verdict != Verdict::Return;
            let forwarding = Forwarding {
                number: forward.number,
                origin: forward.origin.to_string(),
                destination: SocketAddr::new(address, port),
                local,
                interface: flow.out_interface.clone(),
                network: flow.network.map(|network| network.to_string()),
                hairpin,
                hairpin_reason: match step {
                    Step::ForwardMark if hidden.is_none() => "the packet came with the mark".to_owned(),
                    _ if local => "the target is this host itself".to_owned(),
                    _ if hidden.is_none() && hairpin => asked_by_another(policy, &flow, port),
                    _ => why(forward, &flow, hidden),
                },
                mark: hides.and(marking(policy)),
                source: match step {
                    Step::ForwardExternalMark => None,
                    _ if hairpin => connected.and_then(|(_, own)| own),
                    _ => arrival.source,
                },
                source_by: None,
            };
            Told::Forwarded(Box::new(forwarding), verdict, step)
        }
    }
}

fn refusal((forward, gate): (&Forward, Gate<'_>)) -> ForwardRefusal {
    let said = |what: String, origin: &Origin| (Some(what), Some(origin.to_string()));
    let (matched, matched_origin) = match gate {
        Gate::InInterface(Some(entry)) => said(entry.value.to_string(), &entry.origin),
        Gate::ExcludedSource(entry) => said(entry.value.to_string(), &entry.origin),
        Gate::InInterface(None) | Gate::FromHost | Gate::Source => (None, None),
    };
    ForwardRefusal {
        number: forward.number,
        origin: forward.origin.to_string(),
        reason: gate.reason().to_owned(),
        matched,
        matched_origin,
    }
}

/// Forwards of the port that are not for the packet.
fn of_the_port(policy: &Policy, arrival: &Arrival) -> Vec<ForwardRefusal> {
    let of_port = policy.forwards.iter().filter(|forward| forward.host_ports.contains(arrival.port));
    let refusal = |forward: &Forward| ForwardRefusal {
        number: forward.number,
        origin: forward.origin.to_string(),
        reason: why_not(policy, forward, arrival),
        matched: None,
        matched_origin: None,
    };
    of_port.map(refusal).collect()
}

/// Why a forward of the port is not for the packet.
fn why_not(policy: &Policy, forward: &Forward, arrival: &Arrival) -> String {
    let family = Family::of(arrival.destination);
    match forward.host {
        _ if !forward.protocols.contains(&arrival.protocol) => {
            let protocols: Vec<String> = forward.protocols.iter().map(ToString::to_string).collect();
            format!("it is for {} only", protocols.join(" and "))
        }
        HostAddress::One(address) if address != arrival.destination => format!("it is for {address} only"),
        _ if !forward.serves(family) => format!("it is not for {family}"),
        _ if !policy.enables(family) => Step::FamilyDisabled.reason().to_owned(),
        _ if arrival.destination.is_ipv6() => "loopback and link-local addresses lead nowhere in IPv6".to_owned(),
        _ if !arrival.from_host => "loopback addresses are for local processes only".to_owned(),
        _ => "loopback addresses only with localhost: true".to_owned(),
    }
}

/// What marks those whose source is to be translated.
fn marking(policy: &Policy) -> Option<Marking> {
    let WithOrigin { value, origin } = policy.forward_mark.as_ref()?;
    let (bit, origin) = (value.bit().map(|bit| bit.to_string()), origin.to_string());
    let chain = if let ForwardMark::Chain(chain) = value { Some(chain.clone()) } else { None };
    Some(Marking { bit, chain, origin })
}

fn why(forward: &Forward, flow: &Flow, hidden: Option<(Step, Option<Prefix>)>) -> String {
    let source = flow.source.map_or("the client".to_owned(), |source| source.to_string());
    match (hidden, &forward.hairpin, flow.network) {
        (Some((Step::ForwardLocalhost, _)), ..) => format!("{source} can't leave this host"),
        (_, Hairpin::Always, _) => "hairpin is always".to_owned(),
        (Some((_, Some(prefix))), ..) => format!("{source} is in {prefix}"),
        (_, Hairpin::Never, _) => "hairpin is never".to_owned(),
        (_, Hairpin::From(_), _) => format!("{source} is in no range of hairpin"),
        (_, Hairpin::Auto, Some(network)) => format!("{source} is not in {network}, the target's network"),
        (_, Hairpin::Auto, None) => "no connected network leads to the target".to_owned(),
    }
}

/// Connection tracking does not say which forward led a flow to its target: what any of them asks for is done.
fn asked_by_another(policy: &Policy, flow: &Flow, port: u16) -> String {
    let leads_there = |forward: &&Forward| {
        forward.target(Family::of(flow.destination)) == Some(flow.destination)
            && forward.protocols.contains(&flow.protocol)
            && forward.target_ports().contains(port)
    };
    let other = policy.forwards.iter().filter(leads_there).find(|forward| forward.hides(flow).is_some());
    other.map_or_else(String::new, |other| format!("forward {} of the same target asks for it", other.number))
}

/// What was taken for granted of the packet because it was not said.
pub fn assumptions(policy: &Policy, question: &ExplainArgs, arrival: &Arrival) -> Vec<&'static str> {
    let family = Family::of(arrival.destination);
    let asked = || {
        policy.forwards.iter().filter(|forward| {
            forward.protocols.contains(&arrival.protocol)
                && forward.host_ports.contains(arrival.port)
                && forward.serves(family)
        })
    };
    let mut assumptions = Vec::new();
    if question.from.is_none() && asked().next().is_some() {
        let gated = asked().any(|forward| !forward.sources.is_empty() || !forward.excluded_sources.is_empty());
        assumptions.push(match (arrival.from_host, gated) {
            (true, _) => "a process of this host; name its source with --from",
            (false, true) => "a client in sourceCIDRs and outside of the target's network; name it with --from",
            (false, false) => "a client outside of the target's network; name it with --from",
        });
    }
    let by_interface = asked().any(|forward| !forward.in_interfaces.is_empty());
    if by_interface && !arrival.from_host && arrival.in_interface.is_none() {
        assumptions.push("an incoming interface in inInterfaces; name it with --in");
    }
    assumptions
}

/// What makes no sense in a question; `own` says which of its addresses are the host's.
pub fn contradiction(question: &ExplainArgs, host: &Host) -> Option<String> {
    let protocol = question.proto.unwrap_or(Protocol::Tcp);
    if let Some(port) = question.port
        && !matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
    {
        return Some(format!("--port {port} with --proto {protocol}: only tcp, udp and sctp have ports"));
    }
    if let (Some(interface), Some(from)) = (&question.incoming, question.from)
        && host.is_local(from)
    {
        return Some(format!(
            "--in {interface} with --from {from}: what this host sends comes in through no interface"
        ));
    }
    None
}

/// The rows of the text; without what the target sees where the packet does not get there.
pub fn write_rows(text: &mut String, forwarding: &Forwarding, gets_there: bool) -> std::fmt::Result {
    let Forwarding { number, origin, local, interface, network, hairpin, hairpin_reason, mark, source, .. } =
        forwarding;
    writeln!(text, "  forward  {number}, {origin}")?;
    match (interface, network) {
        _ if *local => writeln!(text, "  route    this host itself")?,
        (Some(interface), Some(network)) => writeln!(text, "  route    {interface}, network {network}")?,
        (Some(interface), None) => writeln!(text, "  route    {interface}")?,
        (None, _) => writeln!(text, "  route    none: the target can't be reached")?,
    }
    writeln!(text, "  hairpin  {}: {hairpin_reason}", if *hairpin { "yes" } else { "no" })?;
    match mark {
        Some(Marking { bit: Some(bit), origin, .. }) => {
            writeln!(text, "  mark     {bit} is set before routing (markMasqBit, {origin})")?;
        }
        Some(Marking { chain: Some(chain), origin, .. }) => {
            writeln!(text, "  mark     set by the chain {chain} (externalSetMarkChain, {origin})")?;
        }
        _ => {}
    }
    if !gets_there {
        return Ok(());
    }
    if let Some(by) = &forwarding.source_by {
        let source = source.map_or("what it makes of the client".to_owned(), |source| source.to_string());
        return writeln!(text, "  source   the target sees {source} ({by})");
    }
    match (source, hairpin) {
        (None, true) if mark.as_ref().is_some_and(|mark| mark.chain.is_some()) => {
            writeln!(text, "  source   the target sees what the program behind that chain makes of it")
        }
        (Some(source), _) => writeln!(text, "  source   the target sees {source}"),
        (None, true) => writeln!(text, "  source   the target sees an address of this host"),
        (None, false) => writeln!(text, "  source   the target sees the client's own"),
    }
}

/// The row of a forward that did not let the packet pass.
pub fn write_refusal(text: &mut String, refusal: &ForwardRefusal) -> std::fmt::Result {
    let ForwardRefusal { number, origin, reason, matched, matched_origin } = refusal;
    write!(text, "  refused  by forward {number}, {origin}: {reason}")?;
    if let (Some(matched), Some(origin)) = (matched, matched_origin) {
        write!(text, ": {matched}, {origin}")?;
    }
    writeln!(text)
}
