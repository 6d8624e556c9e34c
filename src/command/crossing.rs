//! `explain`: how a flow crosses this host, as the kernel's routing says, and what the wire shows behind it.

use super::comparison;
use crate::agent::advice::{self, HostView};
use crate::cli::ExplainArgs;
use crate::network::hook::{
    self, BaseChain, DOUBTFUL, Fit, Hit, HitEffect, Hook, Packet, Passage, Translations, translations,
};
use crate::policy::{Family, PortRange, Prefix, Protocol, Verdict};
use crate::service::view;
use crate::sys::rtnetlink::{self, Path, Question, Refusal, Routed, Router};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Where the packets of a question come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Unset for those of this host, and where nothing is known.
    pub interface: Option<String>,
    /// What was taken for granted.
    pub assumed: Vec<String>,
}

impl Incoming {
    /// The interface that was named, or else the one that leads to the source.
    pub fn of(question: &ExplainArgs, from_is_local: bool) -> Self {
        let asked = Router::open().and_then(|mut router| Incoming::ask(&mut router, question, from_is_local));
        asked.unwrap_or_else(|_| Incoming { interface: question.incoming.clone(), assumed: Vec::new() })
    }

    fn ask(router: &mut Router, question: &ExplainArgs, from_is_local: bool) -> io::Result<Self> {
        if let Some(name) = &question.incoming {
            return Ok(Incoming { interface: Some(name.clone()), assumed: absent(name).into_iter().collect() });
        }
        let Some(from) = question.from.filter(|_| !from_is_local) else { return Ok(Incoming::default()) };
        let interface = match router.look_up(&Question::from_this_host(from), None)? {
            Routed::Through(path) => path.interface.and_then(view::interface_name),
            Routed::Local(_) | Routed::Refused(_) => None,
        };
        let assumed = interface
            .as_ref()
            .map(|name| format!("that it comes in through {name}, which leads to {from}; --in says another one"));
        Ok(Incoming { interface, assumed: assumed.into_iter().collect() })
    }
}

/// That an interface is taken to be there which is not.
fn absent(name: &str) -> Option<String> {
    let is_absent = view::interface_index(name).is_none();
    is_absent.then(|| format!("that there is an interface {name}; this host has none"))
}

/// The way of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Crossing {
    /// The interface through which it comes in; unset for a flow of this host.
    pub incoming: Option<String>,
    /// The interface through which it leaves.
    pub interface: Option<String>,
    /// The next hop, where the destination is not on the link.
    pub gateway: Option<IpAddr>,
    /// The destination of the route.
    pub route: Option<String>,
    /// Why it does not leave.
    pub refused: Option<&'static str>,
    /// The source that masquerading gives.
    pub masquerade: Option<IpAddr>,
    /// What was taken for granted.
    #[serde(skip)]
    pub assumed: Vec<String>,
}

impl Crossing {
    /// Asks the kernel for the way of a flow to an address that is not the host's own; `None` where it does not say.
    pub fn of(question: &ExplainArgs, from_is_local: bool, destination: IpAddr) -> Option<Self> {
        Crossing::ask(question, from_is_local, destination).ok()
    }

    fn ask(question: &ExplainArgs, from_is_local: bool, destination: IpAddr) -> io::Result<Self> {
        let mut router = Router::open()?;
        let forwarded = question.from.filter(|_| !from_is_local);
        let Incoming { interface, assumed } = Incoming::ask(&mut router, question, from_is_local)?;
        let mut crossing = Crossing { incoming: interface, assumed, ..Crossing::default() };
        crossing.assumed.extend(question.out.as_deref().and_then(absent));
        let index = |name: &Option<String>| name.as_deref().and_then(view::interface_index);
        let out = index(&question.out);
        if question.out.is_some() && out.is_none() {
            crossing.interface.clone_from(&question.out);
            return Ok(crossing);
        }
        let mark = question.mark.unwrap_or_default();
        let from = index(&crossing.incoming).filter(|_| forwarded.is_some() && out.is_none());
        // Of a source that is not the host's own, the kernel answers with its way in only.
        let source = question.from.filter(|_| from.is_some() || forwarded.is_none());
        let protocol = Some(question.proto.unwrap_or(Protocol::Tcp));
        let asked = Question { destination, source, from, mark, protocol, port: question.port };
        let routed = match router.look_up(&asked, out) {
            Ok(Routed::Refused(_)) | Err(_) if forwarded.is_some() && destination.is_multicast() => {
                Routed::Refused(Refusal::Multicast)
            }
            routed => routed?,
        };
        match routed {
            Routed::Local(_) => crossing.refused = Some("the routing sends it to this host itself"),
            Routed::Through(path) => crossing.take(&mut router, &path, &asked),
            Routed::Refused(_) if question.out.is_some() => {
                // No route leads out there; what leaves all the same has the interface's address.
                let path = Path { interface: out, gateway: None, route: None, source: None, preferred: None };
                crossing.take(&mut router, &path, &asked);
            }
            Routed::Refused(refusal) => crossing.refused = Some(refused(refusal, question)),
        }
        if question.out.is_some() {
            crossing.interface.clone_from(&question.out);
        }
        Ok(crossing)
    }

    /// With the sysctl that keeps it from being forwarded: the kernel does not say which, and of IPv6 nothing.
    pub fn where_forwarding_is(self, view: &HostView, family: Family) -> Self {
        if self.refused.is_some_and(|why| why != Refusal::Unreachable.reason()) {
            return self;
        }
        let comes_in = |names: &BTreeSet<String>| self.incoming.as_ref().is_some_and(|name| names.contains(name));
        let why = match family {
            _ if view.forwarding(family) == Some(false) => advice::forwarding_is_off(family),
            Family::V4 if comes_in(&view.not_forwarding) => {
                "IPv4 forwarding is off on the interface it comes in through"
            }
            Family::V4 | Family::V6 => return self,
        };
        let Crossing { incoming, assumed, .. } = self;
        Crossing { incoming, assumed, refused: Some(why), ..Crossing::default() }
    }

    fn take(&mut self, router: &mut Router, path: &Path, asked: &Question) {
        let destination = asked.destination;
        self.interface = path.interface.and_then(view::interface_name);
        self.gateway = path.gateway;
        self.route = path.route.map(|route| match (route.length(), Family::of(destination)) {
            (0, _) => "default".to_owned(),
            (32, Family::V4) | (128, Family::V6) => route.address().to_string(),
            _ => route.to_string(),
        });
        self.masquerade = match (destination, path.gateway.unwrap_or(destination)) {
            (IpAddr::V4(to), next) => {
                let next = if let IpAddr::V4(next) = next { next } else { to };
                path.interface.and_then(|interface| rtnetlink::primary_address(interface, next).ok().flatten())
            }
            (IpAddr::V6(_), _) => {
                let asked = Question { source: None, from: None, ..asked.clone() };
                match router.look_up(&asked, path.interface) {
                    // What the route prefers the kernel says in the place of what masquerading would take, which does
                    // not ask for it.
                    Ok(Routed::Through(Path { source, preferred: None, .. })) => source,
                    _ => None,
                }
            }
        };
    }

    /// `leaves by wan1 (route 203.0.113.77 via 192.0.2.1)`.
    pub fn leaves(&self) -> Option<String> {
        let interface = self.interface.as_ref()?;
        let via = self.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let route = self.route.as_ref().map(|route| format!(" (route {route}{via})")).unwrap_or_default();
        Some(format!("leaves by {interface}{route}"))
    }
}

fn refused(refusal: Refusal, question: &ExplainArgs) -> &'static str {
    let is_loopback = |from: IpAddr| from.is_ipv4() && from.is_loopback();
    match refusal {
        Refusal::Invalid if question.from.is_some_and(is_loopback) => {
            "a source in 127.0.0.0/8 leaves only by an interface with route_localnet"
        }
        // What is asked for this host's own packets: a source that is nowhere.
        Refusal::Invalid if question.from.is_none() => Refusal::Blackhole.reason(),
        refusal => refusal.reason(),
    }
}

/// What the far end sees of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// `masquerade`, `keep source`, or the statement of another program's rule.
    pub action: String,
    /// The source, where it is known.
    pub source: Option<String>,
    /// The rule of another program that decides.
    pub by: Option<String>,
    /// Rules that may decide instead: something in them is not understood, or depends on what was not said.
    pub may: Vec<String>,
    /// What it will be once the kernel has our rules as they are to be, where it does not.
    pub with_ours: Option<String>,
}

/// Whether the kernel has our rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// As far as it is known.
    InForce,
    /// None of them.
    Absent,
    /// Not as they are to be.
    Others,
}

impl Ours {
    pub fn of(kernel: Option<&comparison::KernelReport>) -> Self {
        match kernel {
            Some(report) if report.agrees == Some(false) && !report.present => Ours::Absent,
            Some(report) if report.agrees == Some(false) => Ours::Others,
            _ => Ours::InForce,
        }
    }
}

/// What happens to a flow while the kernel has other rules of ours.
const NOT_KNOWN: &str = "not known";

/// The packet that a question is about, at the hook where sources are rewritten.
pub fn packet(
    question: &ExplainArgs,
    is_own: impl Fn(IpAddr) -> bool,
    crossing: Option<&Crossing>,
    destination: IpAddr,
) -> Packet {
    let is_local = question.from.map(&is_own);
    let incoming = crossing.and_then(|crossing| crossing.incoming.clone()).or_else(|| question.incoming.clone());
    Packet {
        family: Family::of(destination),
        source: question.from.map(Prefix::of),
        destination: Some(Prefix::of(destination)),
        among: Arc::default(),
        in_interface: if is_local == Some(true) { Some(String::new()) } else { incoming },
        out_interface: crossing.and_then(|crossing| crossing.interface.clone()).or_else(|| question.out.clone()),
        protocol: Some(question.proto.unwrap_or(Protocol::Tcp)),
        destination_port: question.port.map(PortRange::one),
        mark: Some(question.mark.unwrap_or_default()),
        source_is_local: is_local.or(Some(false)),
        destination_is_local: Some(is_own(destination)),
        is_dnated: false,
        is_untracked: false,
    }
}

/// The nat rules that a packet meets at a hook.
pub fn met(view: &HostView, hook: Hook, packet: &Packet) -> Translations {
    translations(&view.at_hook(packet.family, hook), packet)
}

/// A packet at a hook, and what it is there after its addresses were rewritten.
pub type Stage = (Hook, Packet, Packet);

/// The rules of other programs that keep a packet from connection tracking, on its way up to there: the first that
/// certainly does, and those that may.
pub fn untracked(view: &HostView, question: &ExplainArgs, way: &[(Hook, &Packet)]) -> (Option<String>, Vec<String>) {
    let mut may = Vec::new();
    for (hook, packet) in way {
        let packet = Packet { mark: question.mark, ..(*packet).clone() };
        for hit in hook::untracking(&view.passed(*hook, &packet), &packet) {
            if hit.fit == Fit::Yes {
                return (Some(hit.line), may);
            }
            may.push(hit.line);
        }
    }
    (None, may)
}

/// What firewalls make of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filtered {
    /// What drops it.
    closed: Option<String>,
    /// What may drop it.
    may: Vec<String>,
}

/// Sends a packet through the filters on its way. A mark that was not asked for may be set there.
pub fn filtered(view: &HostView, question: &ExplainArgs, way: &[Stage]) -> Filtered {
    let mut found = Filtered::default();
    for (hook, before, after) in way {
        let chains = view.passed(*hook, before).into_iter();
        let is_after = |chain: &&BaseChain| rewritten_at(*hook).is_some_and(|priority| chain.priority > priority);
        let (late, early): (Vec<&BaseChain>, Vec<&BaseChain>) = chains.partition(is_after);
        for (chains, packet) in [(early, before), (late, after)] {
            let packet = Packet { mark: question.mark, ..packet.clone() };
            match hook::pass(&chains, &packet) {
                Passage::Open => {}
                Passage::Closed(by) => {
                    found.closed = Some(format!("{}: {by}", place(*hook)));
                    return found;
                }
                Passage::Doubtful(by) => found.may.push(format!("{by}, {DOUBTFUL}")),
            }
            found.may.extend(hook::doubts(&chains, &packet));
        }
    }
    found
}

/// The priority at which the kernel rewrites addresses, whatever those of the nat chains are: NF_IP_PRI_NAT_*.
fn rewritten_at(hook: Hook) -> Option<i32> {
    match hook {
        Hook::Prerouting | Hook::Output => Some(-100),
        Hook::Input | Hook::Postrouting => Some(100),
        Hook::Ingress | Hook::Forward | Hook::Egress => None,
    }
}

fn place(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress | Hook::Prerouting => "where it comes in",
        Hook::Input => "where this host takes it",
        Hook::Forward => "where it is forwarded",
        Hook::Output => "where this host sends it",
        Hook::Postrouting | Hook::Egress => "where it leaves",
    }
}

/// Translations that are asked before ours or after: their chain has the priority of ours.
pub fn beside(hits: &[Hit]) -> impl Iterator<Item = String> {
    let translates = |hit: &&Hit| hit.is_unordered && matches!(hit.effect, HitEffect::Translate(..) | HitEffect::Drop);
    hits.iter().filter(translates).map(|hit| hit.line.clone())
}

/// Rules that may decide, or may not: something in them is not understood, depends on what was not said, or they are in a
/// chain of the priority of ours.
pub fn doubts(hits: &[Hit]) -> impl Iterator<Item = String> {
    hits.iter().filter(|hit| hit.is_unordered || hit.fit != Fit::Yes).map(|hit| hit.line.clone())
}

/// What becomes of the source when our rules say `verdict` and the rules of others are what they are.
pub fn wire(verdict: Verdict, question: &ExplainArgs, crossing: &Crossing, met: &Translations) -> Wire {
    let own = question.from.map(|from| from.to_string());
    let by = |hit: &Hit, order: &str, may| {
        let order = if met.has_ours { format!("{order} ours") } else { "of another program".to_owned() };
        let (action, source) = match &hit.effect {
            HitEffect::Translate(statement, address) => {
                let masquerades = statement.to_lowercase().starts_with("masquerade");
                let source = address.or(crossing.masquerade.filter(|_| masquerades));
                (
                    if masquerades { "masquerade".to_owned() } else { statement.clone() },
                    source.map(|source| source.to_string()),
                )
            }
            HitEffect::Drop => ("drop".to_owned(), None),
            _ => ("keep source".to_owned(), own.clone()),
        };
        Wire { action, source, by: Some(format!("by a rule {order}: {}", hit.place)), may, with_ours: None }
    };
    let ours = |may| {
        let source = match verdict {
            Verdict::Return => own.clone(),
            Verdict::Masquerade => crossing.masquerade.map(|source| source.to_string()),
            Verdict::Snat(range) => Some(range.to_string()),
        };
        Wire { action: verdict.to_string(), source, by: None, may, with_ours: None }
    };
    let mut may: Vec<String> = doubts(&met.before).collect();
    match (met.first_before(), verdict) {
        (Some(hit), _) if hit.effect == HitEffect::Accept => match met.first_after() {
            Some(after) => by(after, "after", may),
            None => by(hit, "before", may),
        },
        (Some(hit), _) => by(hit, "before", may),
        (None, Verdict::Return) => {
            may.extend(doubts(&met.after));
            match met.first_after() {
                Some(hit) => by(hit, "after", may),
                None => ours(may),
            }
        }
        (None, _) => {
            may.extend(beside(&met.after));
            ours(may)
        }
    }
}

impl Wire {
    /// Of a flow that is not tracked: no nat rule is asked.
    pub fn untracked(action: &str, source: Option<IpAddr>, by: &str) -> Self {
        let by = Some(format!("not tracked, so no nat rule sees it: {by}"));
        Wire { source: source.map(|source| source.to_string()), by, ..Wire::plain(action) }
    }

    /// One of which nothing else is known.
    pub fn plain(action: &str) -> Self {
        Wire { action: action.to_owned(), source: None, by: None, may: Vec::new(), with_ours: None }
    }

    /// With what firewalls make of it.
    pub fn after(self, Filtered { closed, may }: Filtered) -> Self {
        match closed {
            Some(by) => Wire { by: Some(by), ..Wire::plain("drop") },
            None => Wire { may: self.may.into_iter().chain(may).collect(), ..self },
        }
    }

    /// What it is with our rules, where the kernel does not have them as they are to be. `is_decided` says that none of
    /// ours is asked, whichever they are.
    pub fn where_rules_are(self, ours: Ours, is_decided: bool, now: impl FnOnce() -> Wire) -> Self {
        let with_ours = self.headline();
        match ours {
            Ours::InForce => self,
            Ours::Absent => {
                let now = now();
                // Which of the two would be asked first is not known before ours are there.
                let changes = now.by.is_none() && now.headline() != with_ours;
                Wire { with_ours: changes.then_some(with_ours), ..now }
            }
            Ours::Others if is_decided => self,
            Ours::Others => Wire { may: self.may, with_ours: Some(with_ours), ..Wire::plain(NOT_KNOWN) },
        }
    }

    /// True where there is more to say than what our rules do.
    pub fn says_more(&self) -> bool {
        self.by.is_some() || !self.may.is_empty() || self.with_ours.is_some()
    }

    /// For the first line.
    pub fn headline(&self) -> String {
        let action = match (self.action.as_str(), &self.source) {
            ("masquerade", Some(source)) => format!("masquerade as {source}"),
            ("keep source", Some(source)) => format!("keep source {source}"),
            (action, _) => action.to_owned(),
        };
        match (&self.by, &self.with_ours) {
            (None, Some(with)) if action == NOT_KNOWN => format!("{with} (with these rules; the kernel holds others)"),
            (None, Some(with)) => format!("{action} (none of our rules are in the kernel; with them: {with})"),
            (Some(by), _) => format!("{action} ({by})"),
            (None, None) => action,
        }
    }
}

/// The first rule of another program that certainly gives the flow another destination, and whether it is asked before
/// ours. Of a flow that our forward would take also one that keeps it from our rules.
pub fn redirected(met: &Translations, is_forwarded: bool) -> Option<(&Hit, bool)> {
    let translates = |hit: &&Hit| matches!(hit.effect, HitEffect::Translate(..) | HitEffect::Drop);
    let after = || met.first_after().filter(translates).map(|hit| (hit, false));
    match (met.first_before(), is_forwarded) {
        (Some(hit), _) if hit.effect != HitEffect::Accept => Some((hit, true)),
        (Some(hit), true) => after().or(Some((hit, true))),
        (None, true) => None,
        (_, false) => after(),
    }
}
