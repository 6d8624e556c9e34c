//! `explain`: what happens to one address, and which line of which file says so.

use super::crossing::{self, Crossing, Incoming, Ours, Stage, Wire};
use super::flows::{self, OpenFlows};
use super::forwarding::{self, ForwardRefusal, Forwarding, Told};
use super::host::Host;
use super::{About, Context, comparison, eprint_line, exit, print_diagnostics, print_text};
use crate::agent::advice::HostView;
use crate::cli::ExplainArgs;
use crate::network::hook::{Hit, HitEffect, Hook, Packet, Translations};
use crate::policy::{
    Egress, Family, Flow, Policy, PortRange, PreferredSource, Prefix, Protocol, Provenance, Snat, Step, Verdict,
};
use crate::ruleset::{RuleId, RuleStep, SectionId};
use crate::service::host::HostReader;
use crate::text::one_line;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

/// What happens to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub address: IpAddr,
    /// `masquerade` or `keep source`; unset for an address of the host itself, which never gets as far as our rules.
    pub verdict: Option<String>,
    /// The step that decided, by its stable name.
    pub step: Option<&'static str>,
    /// What the rules of that step are known by; `status` counts their flows under it.
    pub rule: Option<String>,
    pub reason: String,
    /// The prefix or interface pattern that matched.
    pub matched: Option<String>,
    /// Where it was written: `file:line`, `flag --name` or `built-in default`.
    pub origin: Option<String>,
    /// The entry of `egress` whose scope holds the flow, by its name.
    pub entry: Option<String>,
    /// Where the entry was written.
    pub entry_origin: Option<String>,
    /// What the source becomes, as `snat` says it.
    pub snat: Option<String>,
    /// Where that was written.
    pub snat_origin: Option<String>,
    /// For `route-source`: the route that says which source it prefers.
    pub route: Option<String>,
    /// For a port of this host: where it leads.
    pub forward: Option<Forwarding>,
    /// For a port of this host: forwards that do not let the packet pass.
    pub refused: Vec<ForwardRefusal>,
    /// What was taken for granted because it was not said.
    pub assumptions: Vec<String>,
    /// How the flow crosses this host, as its routing says.
    pub crossing: Option<Crossing>,
    /// What the far end sees, the rules of other programs included.
    pub wire: Option<Wire>,
    /// Connections to the address that go on with another source.
    pub open: Option<OpenFlows>,
    /// The files are not valid: this is what is in force.
    pub last_good: bool,
    /// What the kernel says, when we may ask it.
    pub kernel: Option<comparison::KernelReport>,
}

impl Answer {
    /// With the reason alone.
    fn because(address: IpAddr, reason: &str, assumptions: Vec<String>) -> Self {
        Answer {
            address,
            verdict: None,
            step: None,
            rule: None,
            reason: reason.to_owned(),
            matched: None,
            origin: None,
            entry: None,
            entry_origin: None,
            snat: None,
            snat_origin: None,
            route: None,
            forward: None,
            refused: Vec::new(),
            assumptions,
            crossing: None,
            wire: None,
            open: None,
            last_good: false,
            kernel: None,
        }
    }
}

/// [`crate::policy::Origin::Default`] in words.
const BUILT_IN: &str = "built-in default";
const NOT_AFFECTED: &str = "not affected";
const STAYS_HERE: &str = "stays here";
const OWN_ADDRESS: &str = "an address of this host: such packets never leave it";
const NO_PORT: &str = "no port in particular; --port says where one leads";
/// RFC 3828.
const UDP_LITE: Protocol = Protocol::Other(136);
/// What is invalid to connection tracking passes no nat rule. Of every protocol that can be, of this one it is the rule
/// (Linux 6.18: its checksums are taken for wrong).
const VALID_UDP_LITE: &str = "that connection tracking takes UDP-Lite for valid, which it may not do while \
                              net.netfilter.nf_conntrack_checksum is 1; an invalid packet keeps its source";

pub fn run(context: &Context, question: &ExplainArgs) -> u8 {
    let (mut question, mut wrong) = question.clone().read();
    let of_other_family = |address: &IpAddr| question.from.is_some_and(|from| Family::of(from) != Family::of(*address));
    let (others, asked): (Vec<IpAddr>, Vec<IpAddr>) = question.addresses.iter().partition(|one| of_other_family(one));
    let from = question.from.map(|from| from.to_string()).unwrap_or_default();
    wrong.extend(others.iter().map(|other| format!("--from {from} and {other} are of different address families")));
    question.addresses = asked;
    wrong.iter().for_each(|wrong| eprint_line(format_args!("error: {wrong}")));
    if question.addresses.is_empty() {
        return exit::USAGE;
    }
    let loaded = if question.offline {
        context.load().map(|config| About::All(config.into()))
    } else {
        context.load_about(&question.addresses)
    };
    let about = match loaded {
        Ok(loaded) => loaded,
        Err(diagnostics) => return print_diagnostics(&diagnostics),
    };
    let policy = about.policy();
    let view = if question.offline { HostView::default() } else { HostReader::with_every_filter().read() };
    let mut host = if question.offline {
        Host::default()
    } else {
        Host::among(question.addresses.iter().chain(&question.from), &view)
    };
    if let Some(problem) = forwarding::contradiction(&question, &host) {
        eprint_line(format_args!("ip-masq-agent: {problem}"));
        return exit::USAGE;
    }
    if !question.offline {
        look_around(&mut host, policy, &question, &view);
    }
    let mut answers: Vec<Answer> =
        question.addresses.iter().map(|address| answer(policy, &host, &question, *address)).collect();
    if !question.offline {
        ask_kernel(&about, &view, &mut answers);
        answers.iter_mut().for_each(|answer| what_happens(answer, policy, &host, &question, &view));
    }
    answers.iter_mut().for_each(|answer| answer.last_good = about.is_last_good());
    match print(&answers, question.json) {
        Ok(text) => match print_text(text) {
            exit::OK if !wrong.is_empty() => exit::USAGE,
            status => status,
        },
        Err(error) => {
            eprint_line(format_args!("ip-masq-agent: the answer can't be written as JSON: {error}"));
            exit::FAILED
        }
    }
}

/// Asks the kernel's routing about all that the question is about.
fn look_around(host: &mut Host, policy: &Policy, question: &ExplainArgs, view: &HostView) {
    let from_is_local = question.from.is_some_and(|from| host.is_local(from));
    host.incoming = Incoming::of(question, from_is_local);
    let targets = forwarding::targets(policy, host, question);
    host.own.extend(Host::among(targets.iter(), view).own);
    if let Some(network) = view.network.as_deref().filter(|_| !targets.is_empty()) {
        host.find_targets(targets, network);
    }
    let others = question.addresses.iter().filter(|address| !host.is_local(**address));
    let is_forwarded = question.from.is_some() && !from_is_local;
    let crossings = others.filter_map(|address| {
        let crossing = Crossing::of(question, from_is_local, *address)?;
        let family = Family::of(*address);
        Some((*address, if is_forwarded { crossing.where_forwarding_is(view, family) } else { crossing }))
    });
    host.crossings = crossings.collect();
    if let Some(network) = view.network.as_deref().filter(|_| policy.follows_routes()) {
        let out = |address: IpAddr| Some((address, out_interface(host, question, address)?));
        let wanted: Vec<(IpAddr, String)> = question.addresses.iter().filter_map(|address| out(*address)).collect();
        host.find_preferred(wanted, network);
    }
}

/// Where a packet begins its way through the hooks, and how the question is answered from there.
struct Start<'a> {
    policy: &'a Policy,
    host: &'a Host,
    question: &'a ExplainArgs,
    view: &'a HostView,
    ours: Ours,
    arriving: Packet,
    is_from_host: bool,
    /// Rules of others that may keep the packet from connection tracking.
    may_untrack: Vec<String>,
}

/// What the wire shows, with what other programs do.
fn what_happens(answer: &mut Answer, policy: &Policy, host: &Host, question: &ExplainArgs, view: &HostView) {
    let address = answer.address;
    let crossing = host.crossings.get(&address);
    let is_local = |address| host.is_local(address);
    let mut arriving = Packet { out_interface: None, ..crossing::packet(question, is_local, crossing, address) };
    let mut is_from_host = question.from.is_some_and(is_local);
    if let Some(arrival) = forwarding::arrival(host, question, address).filter(|_| host.is_local(address)) {
        is_from_host = arrival.from_host;
        arriving.in_interface = if is_from_host { Some(String::new()) } else { arrival.in_interface };
    } else if host.is_local(address) && !is_from_host {
        arriving.in_interface = arriving.in_interface.or_else(|| host.incoming.interface.clone());
    }
    let ours = Ours::of(answer.kernel.as_ref());
    let first = if is_from_host { Hook::Output } else { Hook::Prerouting };
    let met = crossing::met(view, first, &arriving);
    let is_forwarded = answer.forward.is_some() && ours != Ours::Absent;
    let sent = Packet { out_interface: crossing.and_then(|crossing| crossing.interface.clone()), ..arriving.clone() };
    let way = match is_from_host {
        true => &[(Hook::Output, &sent)][..],
        false => &[(Hook::Ingress, &arriving), (Hook::Prerouting, &arriving)],
    };
    let (untracked, may_untrack) = crossing::untracked(view, question, way);
    let start = Start { policy, host, question, view, ours, arriving, is_from_host, may_untrack };
    if let Some(by) = untracked {
        start.untracked(answer, crossing, &by);
    } else if let Some((hit, is_before)) = crossing::redirected(&met, is_forwarded) {
        let order = match (is_forwarded, is_before) {
            // None of ours is asked for it.
            (false, _) => "of another program",
            (true, true) => "before ours",
            (true, false) => "after ours",
        };
        // It leaves as the routing says of another destination.
        answer.crossing = None;
        answer.wire = Some(start.redirected(first, hit, order, address));
    } else if is_forwarded {
        let may = crossing::doubts(&met.before).chain(crossing::beside(&met.after)).collect();
        start.behind_forward(answer, may);
    } else if host.is_local(address) {
        answer.wire = Some(start.staying(answer)).filter(Wire::says_more);
    } else if let Some(crossing) = crossing {
        start.leaving(answer, crossing);
    }
}

impl Start<'_> {
    /// Of a packet that another program's rule keeps from connection tracking: it is translated nowhere.
    fn untracked(mut self, answer: &mut Answer, crossing: Option<&Crossing>, by: &str) {
        let Start { host, question, view, is_from_host, .. } = self;
        let address = answer.address;
        self.arriving.is_untracked = true;
        let (wire, way) = if host.is_local(address) {
            let wire = match &answer.forward {
                Some(_) => Wire::untracked(STAYS_HERE, None, by),
                None => Wire::plain(NOT_AFFECTED),
            };
            (wire, to_host(&self.arriving, &self.arriving, is_from_host))
        } else if let Some(crossing) = crossing.filter(|crossing| crossing.refused.is_none()) {
            let leaving = crossing::packet(question, |address| host.is_local(address), Some(crossing), address);
            let leaving = Packet { is_untracked: true, ..leaving };
            (Wire::untracked("keep source", question.from, by), self.way_out(leaving.clone(), leaving))
        } else {
            return;
        };
        answer.wire = Some(wire.after(crossing::filtered(view, question, &way))).filter(Wire::says_more);
    }

    /// Of a packet that another program's rule gives another destination.
    fn redirected(self, hook: Hook, hit: &Hit, order: &str, address: IpAddr) -> Wire {
        let (action, to) = match &hit.effect {
            HitEffect::Translate(statement, to) => (statement.clone(), *to),
            HitEffect::Accept => (STAYS_HERE.to_owned(), Some(address)),
            _ => ("drop".to_owned(), None),
        };
        let by = Some(format!("by a rule {order}: {}", hit.place));
        let may = self.may_untrack;
        let arriving = self.arriving;
        let after = Packet {
            destination: to.map(Prefix::of),
            destination_port: None,
            destination_is_local: None,
            is_dnated: true,
            ..arriving.clone()
        };
        let way = [stage(Hook::Ingress, &arriving), (hook, arriving, after)];
        Wire { by, may, ..Wire::plain(&action) }.after(crossing::filtered(self.view, self.question, &way))
    }

    /// Of a packet for this host itself.
    fn staying(&self, answer: &Answer) -> Wire {
        let Start { question, view, ours, arriving, is_from_host, .. } = self;
        let filtered = crossing::filtered(view, question, &to_host(arriving, arriving, *is_from_host));
        let with = answer.forward.as_ref().map(|forward| Wire::plain(&forwarded(forward, answer)));
        let now = || Wire::plain(if answer.forward.is_some() { STAYS_HERE } else { NOT_AFFECTED });
        with.map_or_else(now, |with| with.where_rules_are(*ours, false, now)).after(filtered)
    }

    /// Of a packet that leaves by an interface.
    fn leaving(self, answer: &mut Answer, crossing: &Crossing) {
        let Start { policy, host, question, view, ours, .. } = self;
        let address = answer.address;
        let (verdict, _) = policy.verdict(&flow(host, question, address));
        let leaving = crossing::packet(question, |address| host.is_local(address), Some(crossing), address);
        let met = crossing::met(view, Hook::Postrouting, &leaving);
        if let Some(kernel) = &mut answer.kernel {
            let lines = |hits: &[Hit]| hits.iter().map(|hit| hit.line.clone()).collect();
            (kernel.before, kernel.after) = (lines(&met.before), lines(&met.after));
        }
        if crossing.refused.is_some() {
            return;
        }
        let wire = match ours {
            // What comes before ours is not said of rules that are not there.
            Ours::Absent => crossing::wire(verdict, question, crossing, &Translations::default()),
            Ours::InForce | Ours::Others => crossing::wire(verdict, question, crossing, &met),
        };
        let mut wire = wire.where_rules_are(ours, met.first_before().is_some(), || {
            crossing::wire(Verdict::Return, question, crossing, &met)
        });
        if wire.action != "keep source" {
            wire.may.extend(self.may_untrack.iter().cloned());
        }
        let is_by_policy = wire.by.is_none() && ours != Ours::Absent;
        let other = wire.source.as_ref().filter(|_| !is_by_policy).and_then(|source| source.parse().ok());
        let preferred = host.preferred_source(address);
        let open = || flows::open(policy, question, view, crossing, address, preferred, other);
        answer.open = (is_by_policy || other.is_some()).then(open).flatten();
        let left = Packet { source: rewritten(&wire), ..leaving.clone() };
        let way = self.way_out(leaving, left);
        answer.wire = Some(wire.after(crossing::filtered(view, question, &way)));
    }

    /// The hooks that a packet passes that leaves, and what it is after its source was rewritten.
    fn way_out(&self, leaving: Packet, left: Packet) -> Vec<Stage> {
        let arriving = &self.arriving;
        let mut way = if self.is_from_host {
            vec![stage(Hook::Output, &leaving)]
        } else {
            vec![stage(Hook::Ingress, arriving), stage(Hook::Prerouting, arriving), stage(Hook::Forward, &leaving)]
        };
        way.extend([(Hook::Postrouting, leaving, left.clone()), stage(Hook::Egress, &left)]);
        way
    }

    /// Of a packet that our forward takes: what the target sees. `may` has rules of others that may take it before.
    fn behind_forward(self, answer: &mut Answer, may: Vec<String>) {
        let Some(mut forward) = answer.forward.take() else { return };
        let Start { policy, view, ours, is_from_host, .. } = self;
        let is_marked_by_others = forward.mark.as_ref().is_some_and(|mark| mark.chain.is_some());
        let may = may.into_iter().chain(self.may_untrack.iter().cloned()).collect();
        let mut wire = Wire { may, ..Wire::plain(&forwarded(&forward, answer)) };
        let target = forward.destination.ip();
        let bit = policy.forward_mark.as_ref().filter(|_| forward.mark.is_some()).and_then(|mark| mark.value.bit());
        let redirected = Packet {
            destination: Some(Prefix::of(target)),
            destination_port: Some(PortRange::one(forward.destination.port())),
            mark: self.arriving.mark.map(|mark| bit.map_or(mark, |bit| mark | bit.value)),
            destination_is_local: Some(forward.local),
            is_dnated: true,
            ..self.arriving.clone()
        };
        let mut leaving = Packet { out_interface: forward.interface.clone(), ..redirected.clone() };
        let mut source = forward.source.map(Prefix::of);
        // What came in and stays here passes no hook where sources are rewritten.
        if (!forward.local || is_from_host) && !is_marked_by_others {
            let crossing = self.to_target(answer.address, target, leaving.mark);
            if crossing.refused.is_some() && !forward.local {
                answer.crossing = Some(crossing);
                answer.forward = Some(Forwarding { source: None, ..forward });
                return;
            }
            // A rule of policy routing may lead this client another way than the host itself.
            if let Some(interface) = crossing.interface.clone().filter(|_| !forward.local) {
                forward.network.take_if(|_| forward.interface.as_ref() != Some(&interface));
                leaving.out_interface = Some(interface.clone());
                forward.interface = Some(interface);
            }
            let met = crossing::met(view, Hook::Postrouting, &leaving);
            let verdict = if forward.hairpin { Verdict::Masquerade } else { Verdict::Return };
            let seen = crossing::wire(verdict, self.question, &crossing, &met);
            wire.may.extend(seen.may.iter().cloned());
            if let Some(by) = &seen.by {
                let action = Wire { by: None, ..seen.clone() }.headline();
                wire = Wire { action: format!("forward to {}, {action}", forward.destination), ..wire };
                wire.by = Some(by.clone());
                wire.source.clone_from(&seen.source);
                forward.source = seen.source.as_ref().and_then(|source| source.parse().ok());
                forward.source_by = Some(by.clone());
                source = rewritten(&seen);
            }
        }
        let left = Packet { source, ..leaving.clone() };
        let way = self.way_to_target(forward.local, redirected, leaving, left);
        answer.forward = Some(forward);
        let now = || Wire::plain(STAYS_HERE);
        let wire = wire.where_rules_are(ours, false, now).after(crossing::filtered(view, self.question, &way));
        answer.wire = Some(wire).filter(Wire::says_more);
    }

    /// How a packet with a mark, sent to an address of the host, gets to the target of a forward.
    fn to_target(&self, address: IpAddr, target: IpAddr, mark: Option<u32>) -> Crossing {
        let Start { question, view, arriving, is_from_host, .. } = self;
        let question = ExplainArgs {
            from: question.from.or(Some(address).filter(|address| *is_from_host && address.is_loopback())),
            incoming: arriving.in_interface.clone().filter(|_| !is_from_host),
            out: None,
            mark,
            ..(*question).clone()
        };
        let crossing = Crossing::of(&question, *is_from_host, target).unwrap_or_default();
        if *is_from_host { crossing } else { crossing.where_forwarding_is(view, Family::of(target)) }
    }

    /// The hooks that a packet passes on its way to the target of a forward, which may be this host itself.
    fn way_to_target(&self, stays: bool, redirected: Packet, leaving: Packet, left: Packet) -> Vec<Stage> {
        let arriving = &self.arriving;
        match (stays, self.is_from_host) {
            (true, is_from_host) => to_host(arriving, &redirected, is_from_host),
            (false, true) => vec![
                (Hook::Output, arriving.clone(), leaving.clone()),
                (Hook::Postrouting, leaving, left.clone()),
                stage(Hook::Egress, &left),
            ],
            (false, false) => vec![
                stage(Hook::Ingress, arriving),
                (Hook::Prerouting, arriving.clone(), redirected),
                stage(Hook::Forward, &leaving),
                (Hook::Postrouting, leaving, left.clone()),
                stage(Hook::Egress, &left),
            ],
        }
    }
}

/// The source that filters see after it was rewritten, where it is known.
fn rewritten(wire: &Wire) -> Option<Prefix> {
    wire.source.as_ref()?.parse().ok().map(Prefix::of)
}

/// A hook that rewrites nothing.
fn stage(hook: Hook, packet: &Packet) -> Stage {
    (hook, packet.clone(), packet.clone())
}

/// The way of a packet that stays here, and what it is after its destination was rewritten.
fn to_host(arriving: &Packet, rewritten: &Packet, is_from_host: bool) -> Vec<Stage> {
    if !is_from_host {
        return vec![
            stage(Hook::Ingress, arriving),
            (Hook::Prerouting, arriving.clone(), rewritten.clone()),
            stage(Hook::Input, rewritten),
        ];
    }
    let on_loopback = |incoming: &str, outgoing: &str, packet: &Packet| Packet {
        in_interface: Some(incoming.to_owned()),
        out_interface: Some(outgoing.to_owned()),
        ..packet.clone()
    };
    let received = on_loopback("lo", "", rewritten);
    vec![
        (Hook::Output, on_loopback("", "lo", arriving), on_loopback("", "lo", rewritten)),
        stage(Hook::Postrouting, &on_loopback("", "lo", rewritten)),
        stage(Hook::Prerouting, &received),
        stage(Hook::Input, &received),
    ]
}

/// Asks the kernel once per family and gives each answer its family's report.
fn ask_kernel(about: &About, view: &HostView, answers: &mut [Answer]) {
    let mut concerned: Vec<&mut Answer> = answers.iter_mut().filter(|answer| answer.verdict.is_some()).collect();
    let families: BTreeSet<Family> = concerned.iter().map(|answer| Family::of(answer.address)).collect();
    let reports = comparison::reports(about, families, view);
    for answer in &mut concerned {
        answer.kernel = reports.get(&Family::of(answer.address)).cloned();
    }
}

/// Answers for one destination. Pure.
pub fn answer(policy: &Policy, host: &Host, question: &ExplainArgs, address: IpAddr) -> Answer {
    if host.is_local(address) {
        return answer_of_own(policy, host, question, address);
    }
    let (verdict, provenance) = policy.verdict(&flow(host, question, address));
    let mut assumptions = assumptions(policy, host, question, address);
    if verdict != Verdict::Return && question.proto == Some(UDP_LITE) {
        assumptions.push(VALID_UDP_LITE);
    }
    let route = is_of_route(&provenance).then(|| match host.preferred.get(&address) {
        Some(PreferredSource { interface, destination, source: Some(source) }) => {
            format!("{destination} of the main table through {interface} prefers {source}")
        }
        _ => {
            let out = out_interface(host, question, address);
            let out = out.as_deref().unwrap_or("the outgoing interface");
            format!("none of the main table through {out} prefers a source")
        }
    });
    let crossing = host.crossings.get(&address).cloned();
    let assumed = crossing.iter().flat_map(|crossing| crossing.assumed.clone());
    let assumptions = assumptions.into_iter().map(str::to_owned).chain(assumed).collect();
    Answer { route, crossing, ..explained(address, verdict, &provenance, rule(policy, &provenance), assumptions) }
}

/// True when the source becomes what the route prefers.
fn is_of_route(by: &Provenance) -> bool {
    by.snat.as_ref().is_some_and(|snat| snat.value == Snat::RouteSource)
}

/// `None` where we make no rules.
fn rule(policy: &Policy, by: &Provenance) -> Option<RuleId> {
    let named = |entry: &&Egress| by.entry.as_ref().is_some_and(|by| by.origin == entry.origin);
    let section = SectionId::of(policy.egress.iter().find(named));
    (by.step != Step::FamilyDisabled).then_some(RuleId { section, step: RuleStep::Decide(by.step) })
}

/// Answers for an address of the host.
fn answer_of_own(policy: &Policy, host: &Host, question: &ExplainArgs, address: IpAddr) -> Answer {
    let answer = |reason, assumptions| Answer::because(address, reason, assumptions);
    let Some(arrival) = forwarding::arrival(host, question, address) else {
        let assumptions = if policy.forwards.is_empty() { Vec::new() } else { vec![NO_PORT.to_owned()] };
        return answer(OWN_ADDRESS, assumptions);
    };
    let incoming = host.incoming.assumed.clone();
    let assumptions = forwarding::assumptions(policy, question, &arrival).into_iter().map(str::to_owned);
    let assumptions = assumptions.chain(incoming.clone()).collect();
    match forwarding::told(policy, host, &arrival, question.mark.unwrap_or_default()) {
        Told::Forwarded(forward, verdict, step) => Answer {
            verdict: Some(verdict.to_string()),
            step: Some(step.name()),
            forward: Some(*forward),
            ..answer(step.reason(), assumptions)
        },
        Told::Refused(refused) => {
            let reason = "an address of this host, and no forward of the port lets the packet pass: it stays here";
            Answer { refused, ..answer(reason, assumptions) }
        }
        Told::Kept(refused) if refused.is_empty() => {
            answer("an address of this host, and no forward is for the port: the packet stays here", incoming)
        }
        Told::Kept(refused) => {
            let reason = "an address of this host, and no forward of the port is for the packet: it stays here";
            Answer { refused, ..answer(reason, incoming) }
        }
    }
}

fn flow(own: &Host, question: &ExplainArgs, destination: IpAddr) -> Flow {
    let out = out_interface(own, question, destination);
    let on_out = |from: IpAddr| out.as_deref().is_some_and(|out| own.is_on(from, out));
    Flow {
        source: question.from,
        source_is_local: question.from.is_some_and(|from| own.is_local(from)),
        source_on_out_interface: question.from.is_some_and(on_out),
        out_interface: out,
        protocol: question.proto.unwrap_or(Protocol::Tcp),
        mark: question.mark.unwrap_or_default(),
        preferred_source: own.preferred_source(destination),
        ..Flow::forwarded_to(destination)
    }
}

/// The one that was named, or that the routing says.
fn out_interface(own: &Host, question: &ExplainArgs, destination: IpAddr) -> Option<String> {
    let routed = || own.crossings.get(&destination).and_then(|crossing| crossing.interface.clone());
    question.out.clone().or_else(routed)
}

fn assumptions(policy: &Policy, own: &Host, question: &ExplainArgs, destination: IpAddr) -> Vec<&'static str> {
    let has_out = out_interface(own, question, destination).is_some();
    let mut assumptions = Vec::new();
    let scopes = || policy.sections();
    if question.from.is_none() {
        let any_source = scopes().all(|scope| scope.sources.is_empty() && scope.excluded_sources.is_empty());
        let in_entries = policy.egress.iter().any(|entry| !entry.sources.is_empty());
        assumptions.push(match (any_source, in_entries) {
            (true, _) => "a forwarded flow; name its source with --from",
            (false, true) => "a forwarded flow from a source that no entry of egress names; name it with --from",
            (false, false) => "a forwarded flow from a source in scope; name it with --from",
        });
    }
    if !has_out && scopes().any(|scope| !scope.out_interfaces.is_empty()) {
        assumptions.push("an outgoing interface in scope; name it with --out");
    }
    if !has_out && policy.follows_routes() {
        assumptions.push("an interface whose routes prefer no source; name it with --out");
    }
    let asks_mark = !policy.exempt_marks.is_empty() || policy.forward_mark.is_some();
    if question.mark.is_none() && asks_mark {
        assumptions.push("a packet without a mark; name it with --mark");
    }
    if question.offline && question.port.is_some() && !policy.forwards.is_empty() {
        assumptions
            .push("that it is no address of this host; without --offline that is known, and where its ports lead");
    }
    if policy.exempt_ipsec.value {
        assumptions.push("that no IPsec policy will encrypt it");
    }
    let from_here = question.from.is_some_and(|from| own.is_local(from));
    if !has_out && from_here && !policy.masq_local_source {
        assumptions.push("an outgoing interface that has another address; name it with --out");
    }
    assumptions
}

fn explained(
    address: IpAddr,
    verdict: Verdict,
    by: &Provenance,
    rule: Option<RuleId>,
    assumptions: Vec<String>,
) -> Answer {
    let prefix = by.prefix.map(|prefix| prefix.to_string());
    let interface = by.interface.as_ref().map(ToString::to_string);
    let mark = by.mark.map(|mark| mark.to_string());
    let key = match by.step {
        Step::OutInterface => Some("outInterfaces".to_owned()),
        Step::Source => Some("sourceCIDRs".to_owned()),
        _ => None,
    };
    let (entry, snat) = (by.entry.as_ref(), by.snat.as_ref());
    let assumptions = if matches!(by.step, Step::FamilyDisabled | Step::ForwardMark | Step::ExemptMark) {
        Vec::new()
    } else {
        assumptions
    };
    Answer {
        verdict: Some(verdict.to_string()),
        step: Some(by.step.name()),
        rule: rule.map(|rule| rule.to_string()),
        matched: prefix.or(interface).or(mark).or(key.filter(|_| by.origin.is_some())),
        origin: by.origin.as_ref().map(ToString::to_string),
        entry: entry.map(|entry| entry.value.clone()),
        entry_origin: entry.map(|entry| entry.origin.to_string()),
        snat: snat.map(|snat| snat.value.to_string()),
        snat_origin: snat.map(|snat| snat.origin.to_string()),
        ..Answer::because(address, by.step.reason(), assumptions)
    }
}

fn print(answers: &[Answer], json: bool) -> Result<String, serde_json::Error> {
    if json {
        return serde_json::to_string_pretty(answers).map(|text| text + "\n");
    }
    let mut text = String::new();
    for answer in answers {
        // Writing into a String can't fail.
        let _ = write_answer(&mut text, answer);
    }
    Ok(text)
}

/// What our rules do, for the first line.
fn forwarded(forward: &Forwarding, answer: &Answer) -> String {
    format!("forward to {}, {}", forward.destination, answer.verdict.as_deref().unwrap_or(NOT_AFFECTED))
}

fn write_answer(text: &mut String, answer: &Answer) -> std::fmt::Result {
    let verdict = answer.verdict.as_deref().unwrap_or(NOT_AFFECTED);
    let refused = answer.crossing.as_ref().and_then(|crossing| crossing.refused);
    let headline = match (&answer.forward, &answer.wire, refused) {
        (_, _, Some(why)) => format!("leaves nowhere: {why}"),
        (Some(_), Some(wire), _) => wire.headline(),
        (Some(forward), None, _) => forwarded(forward, answer),
        (None, Some(wire), _) => wire.headline(),
        (None, None, _) => verdict.to_owned(),
    };
    writeln!(text, "{}: {}", answer.address, one_line(&headline))?;
    if let Some(leaves) = answer.crossing.as_ref().and_then(Crossing::leaves) {
        writeln!(text, "  {}", one_line(&leaves))?;
    }
    if answer.verdict.is_some() && answer.wire.as_ref().is_some_and(|wire| wire.by.is_some()) {
        let ours = answer.forward.as_ref().map_or(verdict.to_owned(), |forward| forwarded(forward, answer));
        writeln!(text, "  {:<8} {ours}", "ours")?;
    }
    let step = answer.step.map(|step| format!(" [{step}]")).unwrap_or_default();
    let mut row = |label: &str, what: &str| writeln!(text, "  {label:<8} {}", one_line(what));
    row("because", &format!("{}{step}", answer.reason))?;
    match (&answer.matched, &answer.origin) {
        (Some(matched), Some(origin)) => row("by", &format!("{matched}, {origin}"))?,
        (None, Some(origin)) => row("by", origin)?,
        _ => {}
    }
    if let (Some(entry), Some(origin)) = (&answer.entry, &answer.entry_origin) {
        row("entry", &format!("{entry}, {origin}"))?;
    }
    if let (Some(snat), Some(origin)) =
        (&answer.snat, answer.snat_origin.as_deref().filter(|origin| *origin != BUILT_IN))
    {
        row("snat", &format!("{snat}, {origin}"))?;
    }
    answer.route.iter().try_for_each(|route| row("route", route))?;
    if let Some(forward) = &answer.forward {
        forwarding::write_rows(text, forward, refused.is_none())?;
    }
    answer.refused.iter().try_for_each(|refusal| forwarding::write_refusal(text, refusal))?;
    let mut row = |label: &str, what: &str| writeln!(text, "  {label:<8} {}", one_line(what));
    answer.assumptions.iter().try_for_each(|assumption| row("assuming", assumption))?;
    if answer.last_good {
        row("files", "not valid; this is the last good configuration, which is in force")?;
    }
    if let Some(wire) = &answer.wire {
        wire.may.iter().try_for_each(|line| row("unless", line))?;
    }
    if let Some(OpenFlows { count, source, example, command }) = &answer.open {
        let flows = if *count == 1 { "open flow still uses" } else { "open flows still use another source, the first" };
        row("open", &format!("{count} {flows} {source}: {example} ({command})"))?;
    }
    if let Some(report) = &answer.kernel {
        row("kernel", &report.to_string())?;
        report.before.iter().try_for_each(|rule| row("before", rule))?;
        let after = if report.present { "after" } else { "others" };
        report.after.iter().try_for_each(|rule| row(after, rule))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::host::ReachedTarget;
    use super::*;
    use crate::policy::{Origin, PRIVATE_RANGES, PrefixSet};

    fn own() -> Host {
        let on = |address: &str, interface: &str| (address.parse().unwrap(), [interface.to_owned()].into());
        let networks = vec![("10.88.0.0/16".parse().unwrap(), "10.88.0.1".parse().ok())];
        let way = ReachedTarget { interface: "cni0".to_owned(), networks };
        Host {
            own: [on("198.51.100.2", "wan0"), on("192.168.1.1", "lan0"), on("127.0.0.1", "lo")].into(),
            targets: [("10.88.0.5".parse().unwrap(), way)].into(),
            ..Host::default()
        }
    }

    fn forwards(text: &str) -> Policy {
        let source = crate::config::SourceText { path: std::path::Path::new("f.yaml").into(), text: text.to_owned() };
        crate::config::parse(&[source], &crate::config::Flags::default()).unwrap().policy
    }

    const FORWARDS: &str = "portForwards:\n- {hostPort: 8080, address: 10.88.0.5, port: 80, localhost: true}\n\
        - {hostPort: 443, address: 10.88.0.5, inInterfaces: [wan0], excludeSourceCIDRs: [203.0.113.0/24]}\n";

    fn told(address: &str, from: Option<&str>, incoming: Option<&str>, port: Option<u16>) -> String {
        told_of(FORWARDS, address, from, incoming, port)
    }

    fn told_of(text: &str, address: &str, from: Option<&str>, incoming: Option<&str>, port: Option<u16>) -> String {
        let question = ExplainArgs {
            from: from.map(|from| from.parse().unwrap()),
            incoming: incoming.map(str::to_owned),
            port,
            ..ExplainArgs::default()
        };
        print(&[answer(&forwards(text), &own(), &question, address.parse().unwrap())], false).unwrap()
    }

    #[test]
    fn what_marks_a_forward_is_told() {
        let told =
            |key: &str, from| told_of(&format!("{FORWARDS}{key}\n"), "198.51.100.2", Some(from), None, Some(8080));
        assert_eq!(
            told("markMasqBit: 13", "10.88.0.6"),
            "198.51.100.2: forward to 10.88.0.5:80, masquerade\n  \
             because  the packet mark has the bit of markMasqBit [forward-mark]\n  \
             forward  1, f.yaml:2:3\n  route    cni0, network 10.88.0.0/16\n  \
             hairpin  yes: 10.88.0.6 is in 10.88.0.0/16\n  \
             mark     0x2000/0x2000 is set before routing (markMasqBit, f.yaml:4:14)\n  \
             source   the target sees 10.88.0.1\n"
        );
        assert!(!told("markMasqBit: 13", "203.0.113.9").contains("mark "));
        let external = told("externalSetMarkChain: KUBE-MARK-MASQ", "10.88.0.6");
        assert!(external.contains("  mark     set by the chain KUBE-MARK-MASQ (externalSetMarkChain, f.yaml:4:23)\n"));
        assert!(external.contains("  source   the target sees what the program behind that chain makes of it\n"));
        let question = ExplainArgs { mark: Some(0x2001), ..ExplainArgs::default() };
        let policy = forwards(&format!("{FORWARDS}markMasqBit: 13\n"));
        let answer = answer(&policy, &own(), &question, "203.0.113.77".parse().unwrap());
        assert_eq!((answer.step, answer.matched.as_deref()), (Some("forward-mark"), Some("0x2000/0x2000")));
    }

    #[test]
    fn a_port_of_the_host_is_told_with_its_target_and_what_that_sees() {
        assert_eq!(
            told("198.51.100.2", Some("203.0.113.9"), None, Some(8080)),
            "198.51.100.2: forward to 10.88.0.5:80, keep source\n  \
             because  a forward of portForwards: the target sees the client [forwarded]\n  \
             forward  1, f.yaml:2:3\n  route    cni0, network 10.88.0.0/16\n  \
             hairpin  no: 203.0.113.9 is not in 10.88.0.0/16, the target's network\n  \
             source   the target sees 203.0.113.9\n"
        );
        let neighbour = told("198.51.100.2", Some("10.88.0.6"), None, Some(8080));
        assert!(neighbour.contains("10.88.0.5:80, masquerade\n"), "{neighbour}");
        assert!(neighbour.contains("  hairpin  yes: 10.88.0.6 is in 10.88.0.0/16\n"), "{neighbour}");
        assert!(neighbour.contains("  source   the target sees 10.88.0.1\n"), "{neighbour}");
        let local = told("127.0.0.1", None, None, Some(8080));
        assert!(local.contains("  hairpin  yes: 127.0.0.1 can't leave this host\n"), "{local}");
        assert!(local.contains("assuming a process of this host"), "{local}");
        let crafted = told("127.0.0.1", None, Some("wan0"), Some(8080));
        assert!(crafted.starts_with("127.0.0.1: not affected\n"), "{crafted}");
    }

    #[test]
    fn the_gate_that_refuses_is_named_and_what_was_not_said() {
        assert_eq!(
            told("198.51.100.2", Some("203.0.113.9"), Some("wan0"), Some(443)),
            "198.51.100.2: not affected\n  \
             because  an address of this host, and no forward of the port lets the packet pass: it stays here\n  \
             refused  by forward 2, f.yaml:3:3: the source is in its excludeSourceCIDRs: 203.0.113.0/24, f.yaml:3:82\n"
        );
        let unsaid = told("198.51.100.2", None, None, Some(443));
        assert!(unsaid.contains("--from\n") && unsaid.contains("--in\n"), "{unsaid}");
        assert!(told("198.51.100.2", None, None, Some(25)).contains("no forward is for the port"));
        assert!(told("198.51.100.2", None, None, None).contains("--port says where one leads"));
    }

    #[test]
    fn without_in_a_packet_comes_in_where_its_source_is() {
        let assumed = "that it comes in through lan0, which leads to 192.168.1.7; --in says another one";
        let incoming = Incoming { interface: Some("lan0".to_owned()), assumed: vec![assumed.to_owned()] };
        let host = Host { incoming, ..own() };
        let question = ExplainArgs { from: "192.168.1.7".parse().ok(), port: Some(443), ..ExplainArgs::default() };
        let answer = answer(&forwards(FORWARDS), &host, &question, "198.51.100.2".parse().unwrap());
        assert_eq!(answer.refused[0].reason, "the incoming interface is not in its inInterfaces");
        assert_eq!(answer.assumptions, [assumed]);
    }

    #[test]
    fn a_target_that_is_the_host_itself_sees_the_client() {
        let text = "portForwards: [{hostPort: 82, address: 192.168.1.1, port: 80, hairpin: always}]\n";
        let told = told_of(text, "198.51.100.2", Some("192.168.1.7"), None, Some(82));
        assert_eq!(
            told,
            "198.51.100.2: forward to 192.168.1.1:80, keep source\n  \
             because  a forward of portForwards: the target sees the client [forwarded]\n  \
             forward  1, f.yaml:1:16\n  route    this host itself\n  \
             hairpin  no: the target is this host itself\n  source   the target sees 192.168.1.7\n"
        );
    }

    #[test]
    fn another_forward_of_the_target_that_asks_for_masquerading_is_named() {
        let to = |port: u16, keys: &str| format!("- {{hostPort: {port}, address: 10.88.0.5, port: 80, {keys}}}\n");
        for (first, second, from) in [
            ("hairpin: always", "hairpin: never", "203.0.113.9"),
            ("localhost: true", "hairpin: auto", "127.0.0.1"),
            ("hairpin: auto", "hairpin: never", "10.88.0.6"),
        ] {
            let text = format!("portForwards:\n{}{}", to(8080, first), to(8081, second));
            let told = told_of(&text, "198.51.100.2", Some(from), None, Some(8081));
            let expected = "  hairpin  yes: forward 1 of the same target asks for it\n";
            assert!(told.contains(expected) && told.contains("forward  2, "), "{told}");
        }
    }

    #[test]
    fn a_forward_of_the_port_that_is_not_for_the_packet_is_named_with_the_reason() {
        let text = "portForwards:\n- {hostPort: 80, address: 10.88.0.5, hostIP: 203.0.113.1}\n\
            - {hostPort: 81, address: 10.88.0.5}\n- {hostPort: 82, address: 10.88.0.5, protocol: udp}\n\
            - {hostPort: 83, address: 'fd88::5'}\n\
            - {hostPort: 84, address: 10.88.0.5, localhost: true}\nenableIPv6: true\n";
        let none = "no forward of the port is for the packet: it stays here\n";
        for (address, incoming, port, expected) in [
            ("198.51.100.2", None, 80, "  refused  by forward 1, f.yaml:2:3: it is for 203.0.113.1 only\n"),
            (
                "127.0.0.1",
                None,
                81,
                "  refused  by forward 2, f.yaml:3:3: loopback addresses only with localhost: true\n",
            ),
            ("198.51.100.2", None, 82, "  refused  by forward 3, f.yaml:4:3: it is for udp only\n"),
            ("198.51.100.2", None, 83, "  refused  by forward 4, f.yaml:5:3: it is not for IPv4\n"),
            (
                "127.0.0.1",
                Some("wan0"),
                84,
                "  refused  by forward 5, f.yaml:6:3: loopback addresses are for local processes only\n",
            ),
        ] {
            let told = told_of(text, address, None, incoming, Some(port));
            assert!(told.contains(none) && told.contains(expected), "{told}");
        }
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        let refused = |question: ExplainArgs| forwarding::contradiction(&question, &own()).unwrap_or_default();
        let address = |text: &str| vec![text.parse().unwrap()];
        let own_address =
            || ExplainArgs { addresses: address("198.51.100.2"), port: Some(80), ..ExplainArgs::default() };
        assert_eq!(refused(own_address()), "");
        assert_eq!(
            refused(ExplainArgs { proto: Some(Protocol::Icmp), ..own_address() }),
            "--port 80 with --proto icmp: only tcp, udp and sctp have ports"
        );
        assert_eq!(
            refused(ExplainArgs {
                incoming: Some("wan0".to_owned()),
                from: "192.168.1.1".parse().ok(),
                ..own_address()
            }),
            "--in wan0 with --from 192.168.1.1: what this host sends comes in through no interface"
        );
        assert_eq!(refused(ExplainArgs { addresses: address("203.0.113.9"), ..own_address() }), "");
    }

    fn asked(from: Option<&str>, out: Option<&str>, address: &str) -> Answer {
        asked_of(Protocol::Tcp, from, out, address)
    }

    fn asked_of(protocol: Protocol, from: Option<&str>, out: Option<&str>, address: &str) -> Answer {
        let policy = Policy { exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default), ..Policy::default() };
        let question = ExplainArgs {
            from: from.map(|from| from.parse().unwrap()),
            out: out.map(str::to_owned),
            proto: Some(protocol),
            ..ExplainArgs::default()
        };
        answer(&policy, &own(), &question, address.parse().unwrap())
    }

    #[test]
    fn the_answer_names_step_range_and_place() {
        let answer = asked(None, None, "10.1.2.3");
        assert_eq!(
            print(&[answer], false).unwrap(),
            "10.1.2.3: keep source\n  because  the destination is in nonMasqueradeCIDRs [exempt]\n  \
             by       10.0.0.0/8, built-in default\n  assuming a forwarded flow; name its source with --from\n"
        );
    }

    #[test]
    fn without_the_host_an_address_with_a_port_is_taken_for_somebody_elses() {
        let question = ExplainArgs { offline: true, port: Some(80), ..ExplainArgs::default() };
        let asked = |policy: &Policy| {
            answer(policy, &Host::default(), &question, "203.0.113.9".parse().unwrap()).assumptions.concat()
        };
        assert!(asked(&forwards(FORWARDS)).contains("no address of this host"));
        assert!(!asked(&Policy::default()).contains("this host"));
    }

    #[test]
    fn the_answer_names_entry_and_source_with_their_places() {
        let text = "exemptMarks: [0x100/0xff00]\negress:\n- name: guests\n  sourceCIDRs: [192.168.60.0/24]\n  snat: 203.0.113.9\n";
        let source = crate::config::SourceText { path: std::path::Path::new("f.yaml").into(), text: text.to_owned() };
        let policy = crate::config::parse(&[source], &crate::config::Flags::default()).unwrap().policy;
        let asked = |mark: Option<u32>| {
            let question = ExplainArgs {
                from: "192.168.60.7".parse().ok(),
                out: Some("wan0".to_owned()),
                mark,
                ..ExplainArgs::default()
            };
            print(&[answer(&policy, &Host::default(), &question, "198.51.100.7".parse().unwrap())], false).unwrap()
        };
        assert_eq!(
            asked(Some(0)),
            "198.51.100.7: snat to 203.0.113.9\n  because  no exemption applies [otherwise]\n  \
             entry    guests, f.yaml:3:3\n  snat     203.0.113.9, f.yaml:5:9\n"
        );
        assert_eq!(
            asked(Some(0x1ff)),
            "198.51.100.7: keep source\n  because  the packet mark is in exemptMarks [exempt-mark]\n  \
             by       0x100/0xff00, f.yaml:1:15\n"
        );
        assert!(asked(None).contains("  assuming a packet without a mark; name it with --mark\n"));
    }

    #[test]
    fn that_udp_lite_may_be_invalid_is_said_where_it_matters() {
        let (from, out) = (Some("192.168.1.2"), Some("wan0"));
        assert_eq!(asked_of(UDP_LITE, from, out, "203.0.113.9").assumptions, [VALID_UDP_LITE]);
        assert!(asked_of(UDP_LITE, from, out, "10.1.2.3").assumptions.is_empty());
        assert!(asked_of(Protocol::Udp, from, out, "203.0.113.9").assumptions.is_empty());
    }

    #[test]
    fn nobody_is_after_rules_that_are_not_there() {
        let report = comparison::KernelReport {
            backend: Some("nftables".to_owned()),
            agrees: Some(false),
            problem: None,
            present: false,
            before: Vec::new(),
            after: vec!["masquerade".to_owned()],
        };
        let text = |present| {
            let kernel = Some(comparison::KernelReport { present, ..report.clone() });
            print(&[Answer { kernel, ..asked(None, None, "10.1.2.3") }], false).unwrap()
        };
        let (absent, present) = (text(false), text(true));
        assert!(
            absent
                .ends_with("  kernel   has none of ip-masq-agent's rules in force (nftables)\n  others   masquerade\n"),
            "{absent}"
        );
        assert!(present.ends_with("the difference\n  after    masquerade\n"), "{present}");
    }

    #[test]
    fn what_the_host_is_decides_what_a_source_means() {
        assert_eq!(
            asked(Some("198.51.100.2"), Some("wan0"), "203.0.113.9").step,
            Some("local-source-on-out-interface")
        );
        assert_eq!(asked(Some("192.168.1.1"), Some("wan0"), "203.0.113.9").step, Some("otherwise"));
        // Whether wan0 or another one is meant makes the difference.
        assert_eq!(asked(Some("198.51.100.2"), None, "203.0.113.9").assumptions.len(), 1);
        assert_eq!(asked(None, None, "192.168.1.1").verdict, None);
        assert_eq!(asked(None, None, "2001:db8::1").step, Some("family-disabled"));
    }
}
