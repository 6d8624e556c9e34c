//! Connections that are not what the policy would make of them: what makes them so, and what is done about it.

use super::question::Results;
use super::report::{ConnectionsReport, Forgot};
use super::{Action, Agent, Cause, Depth, Doubt, Entry, Forgotten, Kind, Reconciliation, Why};
use crate::config::{self, Config, FlushConntrack, OnRepair, SourceText};
use crate::network::{Address, Network, stale};
use crate::policy::address::is_link_local;
use crate::policy::{Family, Forward, Policy, Protocol};
use crate::ruleset::NetworkFacts;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So often the kernel's table is gone through where more connections are in doubt than may be forgotten at once.
const MOST_WALKS: u8 = 20;
/// As much time as a walk may take is for everything else before the next one.
const BETWEEN_WALKS: Duration = Duration::from_millis(200);

impl Agent {
    /// Makes the kernel right, with what the network means for the rules: it is read first where it matters and is not
    /// followed yet.
    pub(super) fn with_network(&mut self, reconciliation: Reconciliation) {
        let policy = &reconciliation.config.policy;
        let known = self.connections.network.as_ref();
        let tells_all =
            known.is_some_and(|network| policy.targets_in_question().all(|target| network.tells_of(target)));
        if NetworkFacts::matter_to(policy) && !tells_all {
            self.read_network(Some(Box::new(reconciliation)));
        } else {
            self.with_known_network(reconciliation);
        }
    }

    pub(super) fn read_network(&mut self, waiting: Option<Box<Reconciliation>>) {
        let active = self.desired.active.as_ref().map(|active| &active.config);
        let configs = active.into_iter().chain(waiting.as_ref().map(|waiting| &waiting.config));
        let targets = configs.flat_map(|config| config.policy.targets_in_question()).collect();
        self.act(Action::ReadNetwork(targets, waiting));
    }

    fn with_known_network(&mut self, mut reconciliation: Reconciliation) {
        reconciliation.network = match (&reconciliation.candidate, &self.connections.network) {
            (Some(candidate), Some(network)) => Arc::new(NetworkFacts::of(&candidate.config.policy, network)),
            (Some(_), None) => Arc::default(),
            (None, _) => self.connections.facts.clone(),
        };
        self.act(Action::Reconcile(Family::V4, reconciliation));
    }

    /// Follows the host's addresses and routes for as long as a configuration has anything to do with them.
    pub(super) fn follow_network(&mut self) {
        let Some(active) = &self.desired.active else { return };
        let state = &mut self.connections;
        if !depends_on_network(&active.config.policy) {
            if std::mem::take(&mut state.follows) {
                (state.network, self.timers.network) = (None, None);
                state.departed.clear();
                self.act(Action::IgnoreNetwork);
            }
        } else if let Some(network) = &state.network {
            state.owned = stale::fixed_addresses(&active.config.policy, network);
        } else if self.timers.network.is_none() {
            self.read_network(None);
        }
    }

    /// The kernel tells of each change; it is read as often as the budget allows.
    pub(super) fn network_moved(&mut self, now: Instant) {
        if self.connections.follows {
            match self.connections.budget.free_at(now) {
                None => self.read_network(None),
                Some(at) => self.timers.network = Some(at),
            }
        }
    }

    /// True while changes of the network need not be read: what they tell is seen later.
    pub fn defers_network(&self, now: Instant) -> bool {
        self.timers.network.is_some_and(|at| at > now)
    }

    pub(super) fn network_read(
        &mut self,
        waiting: Option<Box<Reconciliation>>,
        result: Result<Arc<Network>, Cause>,
        cost: Duration,
        now: Instant,
    ) {
        self.connections.budget.spend(cost, now);
        self.connections.follows = true;
        let known = if self.connections.network.is_some() { "; what was known of them is still acted on" } else { "" };
        let failure = result.as_ref().err().map(|why| {
            let message = format!("the host's addresses and routes can't be followed: {why}{known}");
            Entry::new(Kind::Warning, message)
        });
        self.log_standing(|reported| &mut reported.network, failure);
        let (reread, timer) = (&mut self.connections.reread, &mut self.timers.network);
        let (changed, has_arrivals) = match result {
            Ok(network) => {
                reread.succeeded();
                *timer = None;
                let before = self.connections.network.replace(network.clone());
                let has_arrivals = before.as_ref().is_some_and(|before| has_arrivals(before, &network));
                (before.as_ref() != Some(&network), has_arrivals)
            }
            // Not told of changes any more.
            Err(_) => {
                *timer = Some(reread.failed(now));
                (false, false)
            }
        };
        let shapes_rules = changed && self.renew_facts();
        // Before open connections are judged: new ones must be right.
        match waiting {
            Some(reconciliation) => self.with_known_network(*reconciliation),
            None if shapes_rules => {
                // Whoever changed the rules at the same time is not passed over: what the network asks for comes after.
                self.check(Depth::Rules);
                self.reconcile(Why::Network, None);
            }
            None => {}
        }
        if changed {
            self.doubt_sources();
        }
        if has_arrivals {
            self.doubt_what_is_not_forwarded();
        }
    }

    /// What the network means for the rules of the configuration in force. True when other rules follow from it than before.
    pub(super) fn renew_facts(&mut self) -> bool {
        let state = &mut self.connections;
        let (Some(active), Some(network)) = (&self.desired.active, &state.network) else { return false };
        let facts = NetworkFacts::of(&active.config.policy, network);
        let others = facts != *state.facts;
        state.facts = Arc::new(facts);
        others
    }

    fn doubt_sources(&mut self) {
        let state = &mut self.connections;
        let (Some(active), Some(network)) = (&self.desired.active, &state.network) else { return };
        let config = active.config.clone();
        state.departed.append(&mut state.owned);
        state.departed.retain(|address| !network.owns(*address));
        state.owned = stale::fixed_addresses(&config.policy, network);
        // Where no source is fixed, none can have left.
        if !state.departed.is_empty() || stale::gives_addresses(&config.policy) {
            let departed = state.departed.clone();
            self.forget(Doubt::Source { config, departed });
        }
    }

    /// UDP for a port of this host may have gone on its way while the port was not forwarded, or the address not here.
    fn doubt_what_is_not_forwarded(&mut self) {
        let Some(active) = &self.desired.active else { return };
        if active.config.policy.forwards.iter().any(is_udp) {
            let config = active.config.clone();
            self.forget(Doubt::Unforwarded { config });
        }
    }

    /// Another configuration is in the kernel, or the first one of this service: then what was in force when an earlier
    /// process ended can be known.
    pub(super) fn policy_changed(&mut self, before: Option<Arc<Config>>, earlier: Option<Arc<Config>>) {
        let Some(active) = &self.desired.active else { return };
        let now = active.config.clone();
        let is_first = before.is_none();
        if is_first {
            self.doubt_what_is_not_forwarded();
        }
        let Some(before) = before.or(earlier) else { return };
        if before.policy == now.policy {
            return;
        }
        // It was counted by what the policy was.
        self.connections.unfit = None;
        let mut forwards = before.policy.forwards_that_differ(&now.policy);
        forwards.retain(is_udp);
        if !forwards.is_empty() {
            self.forget(Doubt::Forwards { forwards, now: now.clone() });
        }
        if !is_first && now.settings.flush_conntrack == FlushConntrack::Affected {
            self.forget(Doubt::Policy { before, now });
        }
    }

    /// What was in force when an earlier process ended, be it a trial, where it was something else than these files and its
    /// forwards may have led what goes on. It is known until a first configuration is accepted.
    pub(super) fn before_this_process(&self, files: &Arc<[SourceText]>) -> Option<Arc<Config>> {
        let sources = self.desired.unconfirmed.as_ref().or(self.desired.last_good())?;
        let has_forwards = sources.iter().any(|source| source.text.contains("portForwards"));
        let config = (has_forwards && sources != files).then(|| config::parse(sources, &self.setup.flags));
        config?.ok().map(Arc::new)
    }

    fn forget(&mut self, doubt: Doubt) {
        self.act(Action::Forget(doubt, Forgotten::default()));
    }

    /// The kernel tracks connections from the moment that it is given a rule which needs that, and lets the rule count a
    /// moment later: what was tracked in between keeps its source for as long as it lives.
    pub(super) fn tracking_began(&mut self, results: &Results) {
        let Some(active) = &self.desired.active else { return };
        let outcomes = results.iter().filter_map(|(family, result)| Some((*family, result.as_ref().ok()?)));
        // A rule of nftables begins it for both.
        let for_both = outcomes.clone().any(|(family, outcome)| family == Family::V4 && outcome.began_tracking);
        let began = outcomes.filter(|(_, one)| one.began_tracking || (for_both && one.written.is_some()));
        let families: Vec<Family> = began.map(|(family, _)| family).collect();
        if !families.is_empty() {
            self.forget(Doubt::Start { config: active.config.clone(), families });
        }
    }

    /// Our rules were away, and are back. While another program takes them away again and again, connections are looked
    /// through as often as the budget allows.
    pub(super) fn rules_were_away(&mut self, now: Instant) {
        self.connections.unfit = None;
        match self.connections.budget.free_at(now) {
            None => self.sweep(),
            Some(at) => _ = self.timers.sweep.get_or_insert(at),
        }
    }

    /// Looks for what began while our rules were away.
    pub(super) fn sweep(&mut self) {
        let Some(active) = &self.desired.active else { return };
        let config = active.config.clone();
        self.timers.sweep = None;
        self.doubt_what_is_not_forwarded();
        self.forget(Doubt::Repair { config });
    }

    /// What does not fit ends by itself: for as long as some of it is known, it is counted again.
    pub(super) fn count_unfit(&mut self) {
        let Some(active) = &self.desired.active else { return };
        let config = active.config.clone();
        if matches!(self.connections.unfit, Some((1.., _))) {
            self.forget(Doubt::Repair { config });
        }
    }

    pub(super) fn forgotten(
        &mut self,
        doubt: Doubt,
        so_far: Forgotten,
        result: Result<Forgotten, Cause>,
        cost: Duration,
        now: Instant,
    ) {
        self.connections.budget.spend(cost, now);
        let failure = result.as_ref().err().map(|why| {
            Entry::new(Kind::Warning, format!("connections that no longer fit the policy can't be looked for: {why}"))
        });
        self.log_standing(|reported| &mut reported.connections, failure);
        let walk = match result {
            Ok(walk) => walk,
            Err(_) if so_far.walks == 0 => return,
            Err(_) => Forgotten { stopped: true, walks: MOST_WALKS, ..Forgotten::default() },
        };
        let forgotten = so_far.and(walk);
        // The first walk has less time than one behind a walk that found nothing.
        let gets_on = walk.deleted > 0 || forgotten.walks == 1;
        if doubt.is_gone_on_with() && walk.stopped && gets_on && forgotten.walks < MOST_WALKS {
            return self.go_on(doubt, forgotten, now);
        }
        let doubt = &doubt;
        let deletes = doubt.deletes();
        if deletes && forgotten.deleted > 0 {
            self.connections.forgotten += forgotten.deleted as u64;
            self.connections.last = Some((now, forgotten.deleted, doubt.why()));
        }
        let known = self.connections.unfit.map_or(0, |(known, _)| known);
        if matches!(doubt, Doubt::Repair { .. }) {
            self.connections.unfit = (!deletes).then_some((forgotten.found, forgotten.stopped));
        }
        let is_news = forgotten.found > 0 || forgotten.stopped;
        if is_news && (deletes || known == 0 || forgotten.found > known) {
            let count = if deletes { forgotten.deleted } else { forgotten.found };
            let kind = if deletes { Kind::ConnectionsForgotten } else { Kind::ConnectionsUnfit };
            self.log(Entry::new(kind, message(doubt, forgotten)).with("CONNECTIONS", count));
        }
    }

    /// Goes on at once at a start, for which everybody waits; else the rules have their turn before.
    fn go_on(&mut self, doubt: Doubt, so_far: Forgotten, now: Instant) {
        if matches!(doubt, Doubt::Start { .. }) {
            return self.act(Action::Forget(doubt, so_far));
        }
        self.connections.unfinished.push_back((doubt, so_far));
        self.timers.walk.get_or_insert(now + BETWEEN_WALKS);
    }

    /// One more walk of those that are unfinished.
    pub(super) fn walk_on(&mut self, now: Instant) {
        let next = self.connections.unfinished.pop_front();
        self.timers.walk = (!self.connections.unfinished.is_empty()).then_some(now + BETWEEN_WALKS);
        if let Some((doubt, so_far)) = next {
            self.act(Action::Forget(doubt, so_far));
        }
    }

    pub(super) fn connections_report(&self, now: Instant) -> ConnectionsReport {
        let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        let state = &self.connections;
        ConnectionsReport {
            forgotten: state.forgotten,
            last: state.last.map(|(at, count, why)| Forgot { seconds_ago: ago(at), count, why: why.to_owned() }),
            unfit: state.unfit.map(|(count, _)| count),
            unfit_is_minimum: state.unfit.is_some_and(|(_, stopped)| stopped),
        }
    }
}

fn is_udp(forward: &Forward) -> bool {
    forward.protocols.contains(&Protocol::Udp)
}

/// True when what the policy does depends on the host's addresses or routes: to open connections, or by rules.
fn depends_on_network(policy: &Policy) -> bool {
    stale::gives_addresses(policy) || NetworkFacts::matter_to(policy) || policy.forwards.iter().any(is_udp)
}

/// True when an address is the host's that was not, and that ports may be forwarded at.
fn has_arrivals(before: &Network, now: &Network) -> bool {
    let is_new = |own: &&Address| before.addresses().binary_search(own).is_err();
    now.addresses().iter().filter(is_new).any(|own| !is_link_local(own.address))
}

fn message(doubt: &Doubt, forgotten: Forgotten) -> String {
    let Forgotten { found, deleted, stopped, .. } = forgotten;
    let rest = match stopped {
        true if doubt.is_gone_on_with() => "; stopped there: there may be more",
        true => "; stopped there, at 10,000 connections or 200 ms: there may be more",
        false => "",
    };
    match doubt.deletes() {
        true => format!("tracked connections forgotten: {deleted}; {}{rest}", doubt.why()),
        false => format!(
            "tracked connections that are not translated as the policy says: {found}; {} ('onRepair: forget' deletes \
             them){rest}",
            doubt.why()
        ),
    }
}

impl Doubt {
    /// Why the connections are in doubt, for a line.
    pub fn why(&self) -> &'static str {
        match self {
            Doubt::Source { .. } => {
                "their fixed source address has left the host, or they leave through another interface"
            }
            Doubt::Policy { .. } => "the new configuration treats them in another way",
            Doubt::Start { .. } => "the kernel began to track them before the new rules counted",
            Doubt::Repair { .. } => "they began while rules were missing",
            Doubt::Forwards { .. } => "UDP flows of port forwards that are new, changed or gone",
            Doubt::Unforwarded { .. } => "UDP flows that began before their port was forwarded",
        }
    }

    /// True when all of them are wanted, however many they are: nobody asked for it, so nobody asks again.
    pub fn is_gone_on_with(&self) -> bool {
        match self {
            Doubt::Start { .. } | Doubt::Forwards { .. } | Doubt::Unforwarded { .. } => true,
            // What is forgotten of these can begin again as it was.
            Doubt::Source { .. } | Doubt::Policy { .. } | Doubt::Repair { .. } => false,
        }
    }

    /// True when they are deleted, not only counted.
    pub fn deletes(&self) -> bool {
        match self {
            Doubt::Repair { config } => config.settings.on_repair == OnRepair::Forget,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Phase, Trial};
    use super::super::{ConfigOrigin, Event, Loaded, Outcome, Setup};
    use super::*;
    use crate::backend::{Error, ErrorKind};
    use crate::config::{Flags, SourceText};
    use crate::network::{Hop, Interface, Route, RouteKind};
    use std::path::Path;

    const FIXED: &str = "egress: [{outInterfaces: [wan0], snat: 203.0.113.77}]\n";

    fn loaded(text: &str) -> Loaded {
        let sources = vec![SourceText { path: Path::new("config.yaml").into(), text: text.to_owned() }];
        let config = Arc::new(config::parse(&sources, &Flags::default()).unwrap());
        Loaded { config, sources: sources.into(), origin: ConfigOrigin::Files }
    }

    fn no(why: &'static str) -> Cause {
        Arc::new(std::io::Error::other(why))
    }

    fn network(addresses: &[&str]) -> Arc<Network> {
        with_routes(addresses, &[])
    }

    fn with_routes(addresses: &[&str], on_link: &[&str]) -> Arc<Network> {
        let address = |text: &&str| {
            let address = text.parse().unwrap();
            let network = crate::policy::Prefix::containing(address, 24).unwrap();
            Address { interface: 1, address, network, is_secondary: false }
        };
        let interface = Interface { index: 1, name: "wan0".into(), is_up: true };
        let route = |destination: &&str| Route {
            destination: destination.parse().unwrap(),
            metric: 0,
            kind: RouteKind::Unicast,
            hops: vec![Hop { interface: 1, gateway: None }],
            source: None,
        };
        let routes = on_link.iter().map(route).collect();
        Arc::new(Network::new(vec![interface], addresses.iter().map(address).collect(), routes))
    }

    /// An agent that enforces a configuration, with nothing left to do.
    fn running(text: &str, now: Instant) -> Agent {
        let mut agent = Agent::new(Setup::default(), now);
        agent.phase = Phase::Running;
        agent.desired.active = Some(loaded(text));
        agent
    }

    fn happens(agent: &mut Agent, event: Event, now: Instant) -> Vec<String> {
        let told = |action: Action| match action {
            Action::Forget(doubt @ Doubt::Source { .. }, _) => {
                let Doubt::Source { departed, .. } = &doubt else { return String::new() };
                format!("forget {departed:?}")
            }
            Action::Forget(doubt, _) => format!("forget: {}", doubt.why()),
            Action::Log(entry) => format!("{:?}: {}", entry.kind, entry.message),
            other => format!("{other:?}"),
        };
        let actions = agent.handle(event, now).into_iter().filter(|action| !matches!(action, Action::Notify(_)));
        actions.map(told).collect()
    }

    fn read(addresses: &[&str]) -> Event {
        Event::NetworkRead(None, Ok(network(addresses)), Duration::ZERO)
    }

    #[test]
    fn rules_of_forwards_follow_the_network_and_nobody_is_blamed_for_it() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n", now);
        agent.follow_network();
        let there = || with_routes(&["203.0.113.77"], &["203.0.113.0/24"]);
        let actions = agent.handle(Event::NetworkRead(None, Ok(there()), Duration::ZERO), now);
        let looks = |action: &Action| matches!(action, Action::Forget(Doubt::Source { .. }, _));
        assert!(!actions.iter().any(looks), "no source is fixed: {actions:?}");
        let asked = actions.into_iter().find_map(|action| match action {
            Action::Reconcile(family, reconciliation) => Some((family, reconciliation)),
            _ => None,
        });
        let (family, reconciliation) = asked.expect("the rules are looked at");
        let outcome = Outcome {
            written: Some(vec!["set forwards-hairpin4 lacks 1 element".to_owned().into()]),
            took: Duration::from_millis(1),
            ..Outcome::nothing()
        };
        let told = happens(&mut agent, Event::Reconciled(family, reconciliation, Ok(outcome), Duration::ZERO), now);
        let follows = |line: &String| line.starts_with("Adapted: IPv4 rules follow the host's addresses and routes");
        assert!(told.iter().any(follows) && !told.iter().any(|line| line.contains("Repaired")), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("missing")), "no connection is in doubt: {told:?}");
    }

    fn reconciles(actions: &[Action]) -> Vec<Vec<String>> {
        let networks = |reconciliation: &Reconciliation| {
            let networks = reconciliation.network.targets.values().flat_map(|reached| &reached.networks);
            networks.map(ToString::to_string).collect()
        };
        let found = actions.iter().filter_map(|action| match action {
            Action::Reconcile(_, reconciliation) => Some(networks(reconciliation)),
            _ => None,
        });
        found.collect()
    }

    #[test]
    fn rules_are_looked_at_when_what_shapes_them_has_changed_and_not_when_something_else_of_the_network_has() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n", now);
        let mut read = |result| reconciles(&agent.handle(Event::NetworkRead(None, result, Duration::ZERO), now));
        let net = |routes: &[&str]| Ok(with_routes(&[], routes));
        assert_eq!(read(net(&["203.0.113.0/24"])), [["203.0.113.0/24"]]);
        assert!(read(net(&["203.0.113.0/24", "198.51.100.0/24"])).is_empty(), "a route to somewhere else");
        assert!(read(Err(no("rtnetlink: no"))).is_empty(), "what was known stays");
        assert_eq!(read(net(&["203.0.113.0/25"])), [["203.0.113.0/25"]]);
        assert_eq!(read(net(&[])), [[""; 0]]);
    }

    #[test]
    fn an_address_that_arrives_puts_udp_in_doubt_that_went_on_its_way_before() {
        let now = Instant::now();
        let mut agent =
            running("portForwards: [{hostPort: 53, protocol: udp, address: 10.8.0.5, hairpin: never}]", now);
        agent.follow_network();
        assert!(matches!(agent.actions.pop(), Some(Action::ReadNetwork(..))), "it is followed");
        for (addresses, puts) in [
            (&["203.0.113.1"][..], false),
            (&["203.0.113.1", "fe80::1"], false),
            (&["203.0.113.1", "203.0.113.77"], true),
            (&["203.0.113.1"], false),
            (&["203.0.113.1", "203.0.113.77"], true),
        ] {
            let told = happens(&mut agent, read(addresses), now);
            let said = "forget: UDP flows that began before their port was forwarded";
            assert_eq!(told.iter().any(|line| line == said), puts, "{addresses:?}: {told:?}");
        }
    }

    #[test]
    fn an_interface_that_goes_and_comes_under_its_name_is_another_one() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 80, address: 203.0.113.2}]", now);
        let there = with_routes(&[], &["203.0.113.0/24"]);
        let mut read = |network| reconciles(&agent.handle(Event::NetworkRead(None, Ok(network), Duration::ZERO), now));
        assert_eq!(read(there.clone()).len(), 1);
        let hops = |route: &Route| route.hops.iter().map(|hop| Hop { interface: 2, ..*hop }).collect();
        let routes = there.routes().iter().map(|route| Route { hops: hops(route), ..route.clone() }).collect();
        let interface = Interface { index: 2, name: "wan0".into(), is_up: true };
        assert_eq!(read(Arc::new(Network::new(vec![interface], Vec::new(), routes))).len(), 1);
    }

    #[test]
    fn while_the_network_can_not_be_read_the_rules_stay_what_was_last_known_of_it() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n", now);
        let read = |result| Event::NetworkRead(None, result, Duration::ZERO);
        agent.handle(read(Ok(with_routes(&[], &["203.0.113.0/24"]))), now);
        let told = happens(&mut agent, read(Err(no("rtnetlink: no"))), now);
        let said = "Warning: the host's addresses and routes can't be followed: rtnetlink: no; what was known of them \
                    is still acted on";
        assert_eq!(told, [said]);
        agent.reconcile(Why::Periodic, None);
        assert_eq!(reconciles(&agent.actions), [["203.0.113.0/24"]]);
    }

    #[test]
    fn the_first_rules_that_the_network_shapes_wait_until_it_was_read() {
        let now = Instant::now();
        let mut agent = running("", now);
        agent.reconcile(Why::Edit, Some(loaded("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n")));
        let Some(Action::ReadNetwork(_, waiting @ Some(_))) = agent.actions.pop() else {
            panic!("{:?}", agent.actions)
        };
        let read = Event::NetworkRead(waiting, Ok(with_routes(&[], &["203.0.113.0/24"])), Duration::ZERO);
        assert_eq!(reconciles(&agent.handle(read, now)), [["203.0.113.0/24"]]);
        agent.reconcile(Why::Edit, Some(loaded("portForwards: [{hostPort: 80, address: 203.0.113.9}]\n")));
        assert_eq!(reconciles(&agent.actions), [["203.0.113.0/24"]], "read once");
        let mut by_route = running("", now);
        by_route.reconcile(Why::Edit, Some(loaded("snat: route-source\n")));
        assert!(matches!(by_route.actions[..], [Action::ReadNetwork(_, Some(_))]), "{:?}", by_route.actions);
    }

    #[test]
    fn rules_are_made_without_the_network_when_it_can_not_be_read() {
        let now = Instant::now();
        let mut agent = running("", now);
        agent.reconcile(Why::Edit, Some(loaded("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n")));
        let Some(Action::ReadNetwork(_, waiting)) = agent.actions.pop() else { panic!("{:?}", agent.actions) };
        let actions = agent.handle(Event::NetworkRead(waiting, Err(no("rtnetlink: no")), Duration::ZERO), now);
        assert_eq!(reconciles(&actions), [[""; 0]]);
        let is_said = |action: &Action| matches!(action, Action::Log(entry) if entry.message.contains("rtnetlink: no"));
        assert!(actions.iter().any(is_said), "{actions:?}");
        assert!(agent.timers.network.is_some_and(|at| at <= now + Duration::from_secs(1)), "and read again soon");
    }

    #[test]
    fn the_network_is_followed_while_a_source_is_fixed_and_not_otherwise() {
        let now = Instant::now();
        let mut plain = running("", now);
        plain.follow_network();
        assert!(plain.actions.is_empty());
        assert!(happens(&mut plain, Event::NetworkMoved, now).is_empty());
        let mut fixed = running(FIXED, now);
        fixed.follow_network();
        assert_eq!(happens(&mut fixed, read(&["203.0.113.77"]), now), ["ReadNetwork({}, None)", "forget {}"]);
        assert_eq!(happens(&mut fixed, Event::NetworkMoved, now + Duration::from_secs(1)), ["ReadNetwork({}, None)"]);
        fixed.desired.active = Some(loaded(""));
        fixed.follow_network();
        assert_eq!(happens(&mut fixed, Event::Tick, now), ["IgnoreNetwork"]);
    }

    #[test]
    fn a_network_that_is_as_it_was_asks_for_nothing_and_an_address_that_left_stays_in_doubt_until_it_is_back() {
        let now = Instant::now();
        let mut agent = running(FIXED, now);
        let mut told = |addresses: &[&str]| happens(&mut agent, read(addresses), now);
        assert_eq!(told(&["203.0.113.1", "203.0.113.77"]), ["forget {}"]);
        assert!(told(&["203.0.113.77", "203.0.113.1"]).is_empty(), "the same in another order");
        assert_eq!(told(&["203.0.113.1"]), ["forget {203.0.113.77}"]);
        assert_eq!(told(&["203.0.113.1", "203.0.113.2"]), ["forget {203.0.113.77}"]);
        assert_eq!(told(&["203.0.113.77"]), ["forget {}"]);
    }

    #[test]
    fn changes_that_come_too_fast_wait_and_what_cannot_be_read_is_said_once_and_tried_again() {
        let now = Instant::now();
        let mut agent = running(FIXED, now);
        happens(&mut agent, Event::NetworkRead(None, Ok(network(&[])), Duration::from_millis(150)), now);
        assert!(happens(&mut agent, Event::NetworkMoved, now).is_empty());
        let at = agent.timers.network.unwrap();
        assert!(at > now && at <= now + Duration::from_secs(1) && agent.defers_network(now));
        assert_eq!(happens(&mut agent, Event::Tick, at), ["ReadNetwork({}, None)"]);
        let failed = || Event::NetworkRead(None, Err(no("rtnetlink: no")), Duration::ZERO);
        let said = "Warning: the host's addresses and routes can't be followed: rtnetlink: no; what was known of them \
                    is still acted on";
        assert_eq!(happens(&mut agent, failed(), at), [said]);
        assert!(happens(&mut agent, failed(), at).is_empty());
        let later = agent.timers.network.unwrap();
        assert_eq!(happens(&mut agent, Event::Tick, later), ["ReadNetwork({}, None)"]);
    }

    #[test]
    fn what_began_while_rules_were_away_is_looked_for_as_soon_as_the_budget_allows_and_not_left() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 53, protocol: udp, address: 10.0.0.5}]\n", now);
        agent.rules_were_away(now);
        let looked = [
            "forget: UDP flows that began before their port was forwarded",
            "forget: they began while rules were missing",
        ];
        assert_eq!(happens(&mut agent, Event::Tick, now), looked);
        agent.connections.budget.spend(Duration::from_millis(150), now);
        agent.rules_were_away(now);
        let later = agent.deadline().unwrap();
        agent.rules_were_away(later - Duration::from_millis(1));
        assert!(happens(&mut agent, Event::Tick, now).is_empty() && later <= now + Duration::from_secs(1));
        assert_eq!(happens(&mut agent, Event::Tick, later), looked);
        assert!(happens(&mut agent, Event::Tick, later).is_empty(), "and once");
    }

    #[test]
    fn what_does_not_fit_is_counted_again_until_none_is_left_and_told_once() {
        let now = Instant::now();
        let mut agent = running("", now);
        let found = |found| {
            let doubt = Doubt::Repair { config: loaded("").config };
            Event::Forgotten(
                doubt,
                Forgotten::default(),
                Ok(Forgotten { found, deleted: 0, stopped: false, walks: 1 }),
                Duration::ZERO,
            )
        };
        assert_eq!(happens(&mut agent, found(3), now).len(), 1);
        agent.count_unfit();
        assert_eq!(happens(&mut agent, Event::Tick, now), ["forget: they began while rules were missing"]);
        assert!(happens(&mut agent, found(2), now).is_empty());
        assert_eq!(agent.connections_report(now).unfit, Some(2));
        assert!(happens(&mut agent, found(0), now).is_empty());
        agent.count_unfit();
        assert!(happens(&mut agent, Event::Tick, now).is_empty());
        happens(&mut agent, found(1), now);
        agent.policy_changed(Some(loaded("sourceCIDRs: [10.0.0.0/8]\n").config), None);
        assert_eq!(agent.connections_report(now).unfit, None, "the policy is another one");
    }

    #[test]
    fn a_walk_that_stopped_is_gone_on_with_after_a_pause_and_what_all_of_them_did_is_told_once() {
        let now = Instant::now();
        let mut agent = running("", now);
        let walk = |found, stopped| Forgotten { found, deleted: found, stopped, walks: 1 };
        let mut walked = |so_far, result| {
            let doubt = Doubt::Forwards { forwards: Vec::new(), now: loaded("").config };
            let told = happens(&mut agent, Event::Forgotten(doubt, so_far, result, Duration::ZERO), now);
            assert!(happens(&mut agent, Event::Tick, now).is_empty());
            [told, happens(&mut agent, Event::Tick, now + BETWEEN_WALKS)].concat()
        };
        let again = ["forget: UDP flows of port forwards that are new, changed or gone"];
        assert_eq!(walked(Forgotten::default(), Ok(walk(0, true))), again);
        assert_eq!(walked(walk(0, true), Ok(walk(10_000, true))), again);
        let so_far = walk(0, true).and(walk(10_000, true));
        let told = |count: u32, rest: &str| {
            let why = "UDP flows of port forwards that are new, changed or gone";
            vec![format!("ConnectionsForgotten: tracked connections forgotten: {count}; {why}{rest}")]
        };
        assert_eq!(walked(so_far, Ok(walk(7, false))), told(10_007, ""));
        assert_eq!(walked(so_far, Ok(walk(0, true))), told(10_000, "; stopped there: there may be more"));
        let failed = walked(so_far, Err(no("no")));
        assert_eq!(failed[1..], told(10_000, "; stopped there: there may be more"), "{failed:?}");
    }

    #[test]
    fn after_a_trial_the_network_means_for_the_rules_what_it_did_before() {
        let now = Instant::now();
        let before = "portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n";
        let mut agent = running(before, now);
        agent.handle(Event::NetworkRead(None, Ok(with_routes(&[], &["203.0.113.0/24"])), Duration::ZERO), now);
        let tried = loaded("portForwards: [{hostPort: 8080, address: 198.51.100.2}]\n");
        let network = agent.connections.network.clone().unwrap();
        agent.connections.facts = Arc::new(NetworkFacts::of(&tried.config.policy, &network));
        agent.desired.trial = Some(Trial {
            number: 1,
            until: now,
            goes_back_at: String::new(),
            what: String::new(),
            by: String::new(),
            before: loaded(before),
            files: [].into(),
            install: None,
            waiting: Vec::new(),
        });
        agent.desired.active = Some(tried);
        agent.actions.clear();
        agent.go_back("was not confirmed", now);
        assert_eq!(reconciles(&agent.actions), [["203.0.113.0/24"]]);
    }

    #[test]
    fn the_flows_of_a_trial_are_forgotten_when_the_rules_of_before_are_back() {
        let now = Instant::now();
        let mut agent = running("", now);
        let forwards = "portForwards: [{hostPort: 53, protocol: udp, address: 10.0.0.5}]\n";
        agent.connections.tried = Some(loaded(forwards).config);
        let mut ends = |result: Result<Outcome, Error>| {
            agent.reconcile(Why::GoBack, None);
            let mut told = Vec::new();
            while let Some(action) = agent.actions.pop() {
                match action {
                    Action::Reconcile(family, reconciliation) => {
                        let event = Event::Reconciled(family, reconciliation, result.clone(), Duration::ZERO);
                        agent.actions = agent.handle(event, now);
                    }
                    Action::Forget(doubt, _) => told.push(doubt.why()),
                    _ => {}
                }
            }
            told
        };
        assert_eq!(ends(Err(Error::new(ErrorKind::Busy, "later"))), [""; 0]);
        let written = Some(vec!["other rules".to_owned().into()]);
        let back = Outcome { written, ..Outcome::nothing() };
        assert_eq!(ends(Ok(back.clone())), ["UDP flows of port forwards that are new, changed or gone"]);
        assert_eq!(ends(Ok(back)), [""; 0], "once");
    }

    #[test]
    fn a_start_looks_for_udp_flows_of_the_forwards_that_were_in_force_before_it() {
        let now = Instant::now();
        let forwards = "portForwards: [{hostPort: 53, protocol: udp, address: 10.0.0.5}]\n";
        let gone = "forget: UDP flows of port forwards that are new, changed or gone";
        for (before, text, expected) in [
            (forwards, "", vec![gone]),
            (forwards, forwards, vec!["forget: UDP flows that began before their port was forwarded"]),
            ("sourceCIDRs: [10.0.0.0/8]\n", "", vec![]),
            ("portForwards: [nonsense]\n", "", vec![]),
        ] {
            let mut agent = running(text, now);
            let source = SourceText { path: Path::new("config.yaml").into(), text: before.to_owned() };
            agent.desired.last_good = Ok(Some([source].into()));
            let earlier = agent.before_this_process(&agent.desired.active.as_ref().unwrap().sources);
            agent.policy_changed(None, earlier);
            assert_eq!(happens(&mut agent, Event::Tick, now), expected, "{before}, then {text}");
        }
    }

    #[test]
    fn what_was_forgotten_is_logged_with_its_bound_and_counted() {
        let now = Instant::now();
        let mut agent = running(FIXED, now);
        let doubt = |text| Doubt::Repair { config: loaded(text).config };
        let many = Forgotten { found: 10_000, deleted: 9_999, stopped: true, walks: 1 };
        let done = |doubt, result| Event::Forgotten(doubt, Forgotten::default(), result, Duration::ZERO);
        let logged = happens(&mut agent, done(doubt("onRepair: forget"), Ok(many)), now);
        let expected = "ConnectionsForgotten: tracked connections forgotten: 9999; they began while rules were missing; \
                        stopped there, at 10,000 connections or 200 ms: there may be more";
        assert_eq!(logged, [expected]);
        let few = Forgotten { found: 3, deleted: 0, stopped: false, walks: 1 };
        assert_eq!(happens(&mut agent, done(doubt(""), Ok(few)), now).len(), 1);
        let report = agent.connections_report(now);
        assert_eq!((report.forgotten, report.unfit, report.unfit_is_minimum), (9_999, Some(3), false));
        let none = Forgotten { found: 0, deleted: 0, stopped: false, walks: 1 };
        assert!(happens(&mut agent, done(doubt(""), Ok(none)), now).is_empty());
        assert_eq!(agent.connections_report(now).unfit, Some(0));
        let failed = happens(&mut agent, done(doubt(""), Err(no("no"))), now);
        assert_eq!(failed, ["Warning: connections that no longer fit the policy can't be looked for: no"]);
    }

    #[test]
    fn flows_are_forgotten_that_the_kernel_tracked_before_the_first_rules_counted_until_there_are_no_more() {
        let now = Instant::now();
        let mut agent = running("", now);
        let outcome = |began_tracking| Outcome {
            written: Some(vec!["the table is missing".to_owned().into()]),
            began_tracking,
            ..Outcome::nothing()
        };
        let families = |agent: &mut Agent| -> Vec<Family> {
            let actions = std::mem::take(&mut agent.actions);
            let of = |action| match action {
                Action::Forget(Doubt::Start { families, .. }, _) => families,
                _ => Vec::new(),
            };
            actions.into_iter().flat_map(of).collect()
        };
        for (v4, v6, expected) in
            [(false, false, vec![]), (true, false, vec![Family::V4, Family::V6]), (false, true, vec![Family::V6])]
        {
            agent.tracking_began(&vec![(Family::V4, Ok(outcome(v4))), (Family::V6, Ok(outcome(v6)))]);
            assert_eq!(families(&mut agent), expected);
        }
        let many = Forgotten { found: 10_000, deleted: 10_000, stopped: true, walks: 1 };
        let none = Forgotten { found: 0, deleted: 0, ..many };
        for (walks, walk, expected) in [
            (0, many, vec![Family::V4]),
            (0, none, vec![Family::V4]),
            (1, many, vec![Family::V4]),
            (1, none, vec![]),
            (0, Forgotten { stopped: false, ..many }, vec![]),
            (MOST_WALKS - 1, many, vec![]),
        ] {
            let doubt = Doubt::Start { config: loaded("").config, families: vec![Family::V4] };
            agent.forgotten(doubt, Forgotten { walks, ..none }, Ok(walk), Duration::ZERO, now);
            assert_eq!(families(&mut agent), expected, "{walks} and {walk:?}");
        }
    }

    #[test]
    fn a_changed_policy_puts_connections_in_doubt_only_where_that_is_wanted() {
        let now = Instant::now();
        for (flush, expected) in
            [("affected", vec!["forget: the new configuration treats them in another way"]), ("off", vec![])]
        {
            let mut agent = running(&format!("flushConntrack: {flush}\nsourceCIDRs: [10.0.0.0/8]\n"), now);
            agent.policy_changed(Some(loaded("").config), None);
            assert_eq!(happens(&mut agent, Event::Tick, now), expected);
            let same = agent.desired.active.as_ref().unwrap().config.clone();
            agent.policy_changed(Some(same), None);
            assert!(happens(&mut agent, Event::Tick, now).is_empty());
        }
    }

    #[test]
    fn udp_flows_are_in_doubt_after_a_start_with_forwards_and_after_forwards_change_whatever_flush_conntrack_says() {
        let now = Instant::now();
        let forwards =
            |protocol| format!("portForwards: [{{hostPort: 53, protocol: {protocol}, address: 10.0.0.5}}]\n");
        let (udp, tcp) = (forwards("[udp, tcp]"), forwards("tcp"));
        let began = "forget: UDP flows that began before their port was forwarded";
        let changed = "forget: UDP flows of port forwards that are new, changed or gone";
        let moved = format!("# A comment\nsourceCIDRs: [10.0.0.0/8]\n{udp}");
        let cases: &[(Option<&str>, &str, &[&str])] = &[
            (None, &udp, &[began]),
            (None, &tcp, &[]),
            (Some(""), &udp, &[changed]),
            (Some(&udp), "", &[changed]),
            (Some(&udp), &tcp, &[changed]),
            (Some(&tcp), "", &[]),
            (Some(&udp), &moved, &[]),
        ];
        for (before, text, expected) in cases {
            let mut agent = running(text, now);
            agent.policy_changed(before.map(|before| loaded(before).config), None);
            assert_eq!(happens(&mut agent, Event::Tick, now), *expected, "{before:?}, then {text}");
        }
    }
}
