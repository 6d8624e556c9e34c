//! Connections that are not what the policy would make of them: what makes them so, and what is done about it.

use super::report::{ConnectionsReport, Forgot};
use super::{Action, Agent, Doubt, Entry, Forgotten, Kind, Why};
use crate::config::{Config, FlushConntrack, OnRepair};
use crate::network::{Network, stale};
use crate::policy::{Forward, Protocol};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Agent {
    /// Follows the host's addresses and routes for as long as a configuration has anything to do with them.
    pub(super) fn follow_network(&mut self) {
        let Some(active) = &self.desired.active else { return };
        if stale::depends_on_network(&active.config.policy) {
            self.act(Action::ReadNetwork);
        } else if std::mem::take(&mut self.connections.follows) {
            (self.connections.network, self.timers.network) = (None, None);
            self.connections.departed.clear();
            self.act(Action::IgnoreNetwork);
        }
    }

    /// The kernel tells of each change; it is read as often as the budget allows.
    pub(super) fn network_moved(&mut self, now: Instant) {
        if self.connections.follows {
            match self.connections.budget.free_at(now) {
                None => self.act(Action::ReadNetwork),
                Some(at) => self.timers.network = Some(at),
            }
        }
    }

    /// True while changes of the network need not be read: what they tell is seen later.
    pub fn defers_network(&self, now: Instant) -> bool {
        self.timers.network.is_some_and(|at| at > now)
    }

    pub(super) fn network_read(&mut self, result: Result<Arc<Network>, String>, cost: Duration, now: Instant) {
        self.connections.budget.spend(cost, now);
        self.timers.network = None;
        self.connections.follows = true;
        let failure = result
            .as_ref()
            .err()
            .map(|why| Entry::new(Kind::Warning, format!("the host's addresses and routes can't be followed: {why}")));
        self.log_standing(|reported| &mut reported.network, failure);
        let Some(active) = &self.desired.active else { return };
        let config = active.config.clone();
        let Ok(network) = result else {
            // Not told of changes any more.
            self.timers.network = Some(now + config.settings.resync_interval);
            return;
        };
        let state = &mut self.connections;
        let owned = stale::fixed_addresses(&config.policy, &network);
        state.departed.append(&mut state.owned);
        state.departed.retain(|address| !network.owns(*address));
        state.owned = owned;
        let changed = state.network.as_ref() != Some(&network);
        state.network = Some(network);
        if changed {
            let departed = state.departed.clone();
            // Before open connections are judged: new ones must be right.
            if config.policy.targets_in_question().next().is_some() {
                self.reconcile(Why::Network, None);
            }
            // Where no source is fixed, none can have left.
            if !departed.is_empty() || !stale::fixed_ranges(&config.policy).is_empty() {
                self.act(Action::Forget(Doubt::Source { config, departed }));
            }
        }
    }

    /// Another configuration is in the kernel, or the first one of this service.
    pub(super) fn policy_changed(&mut self, before: Option<Arc<Config>>) {
        let Some(active) = &self.desired.active else { return };
        let now = active.config.clone();
        let is_udp = |forward: &Forward| forward.protocols.contains(&Protocol::Udp);
        let Some(before) = before else {
            if now.policy.forwards.iter().any(is_udp) {
                self.act(Action::Forget(Doubt::Unforwarded { config: now }));
            }
            return;
        };
        if before.policy == now.policy {
            return;
        }
        let mut forwards = before.policy.forwards_that_differ(&now.policy);
        forwards.retain(is_udp);
        if !forwards.is_empty() {
            self.act(Action::Forget(Doubt::Forwards { forwards }));
        }
        if now.settings.flush_conntrack == FlushConntrack::Affected {
            self.act(Action::Forget(Doubt::Policy { before, now }));
        }
    }

    /// Our rules were away, and are back. While another program takes them away again and again, not each time.
    pub(super) fn rules_were_away(&mut self, now: Instant) {
        let Some(active) = &self.desired.active else { return };
        if self.connections.budget.free_at(now).is_none() {
            let config = active.config.clone();
            self.act(Action::Forget(Doubt::Repair { config }));
        }
    }

    pub(super) fn forgotten(&mut self, doubt: &Doubt, result: Result<Forgotten, String>, cost: Duration, now: Instant) {
        self.connections.budget.spend(cost, now);
        let failure = result.as_ref().err().map(|why| {
            Entry::new(Kind::Warning, format!("connections that no longer fit the policy can't be looked for: {why}"))
        });
        self.log_standing(|reported| &mut reported.connections, failure);
        let Ok(forgotten) = result else { return };
        let deletes = doubt.deletes();
        if deletes && forgotten.deleted > 0 {
            self.connections.forgotten += forgotten.deleted as u64;
            self.connections.last = Some((now, forgotten.deleted, doubt.why()));
        }
        if matches!(doubt, Doubt::Repair { .. }) {
            let left = forgotten.found - forgotten.deleted.min(forgotten.found);
            self.connections.unfit = (!deletes).then_some((left, forgotten.stopped));
        }
        if forgotten.found > 0 {
            let count = if deletes { forgotten.deleted } else { forgotten.found };
            let kind = if deletes { Kind::ConnectionsForgotten } else { Kind::ConnectionsUnfit };
            self.log(Entry::new(kind, message(doubt, forgotten)).with("CONNECTIONS", count));
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

fn message(doubt: &Doubt, forgotten: Forgotten) -> String {
    let Forgotten { found, deleted, stopped } = forgotten;
    let rest = match stopped {
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
            Doubt::Repair { .. } => "they began while rules were missing",
            Doubt::Forwards { .. } => "UDP flows of port forwards that are new, changed or gone",
            Doubt::Unforwarded { .. } => "UDP flows that began before their port was forwarded",
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
    use super::super::state::Phase;
    use super::super::{Event, Loaded, Origin, Outcome, Setup};
    use super::*;
    use crate::config::{self, Flags, SourceText};
    use crate::network::{Address, Interface};
    use std::path::Path;

    const FIXED: &str = "egress: [{outInterfaces: [wan0], snat: 203.0.113.77}]\n";

    fn loaded(text: &str) -> Loaded {
        let sources = vec![SourceText { path: Path::new("config.yaml").into(), text: text.to_owned() }];
        let config = Arc::new(config::parse(&sources, &Flags::default()).unwrap());
        Loaded { config, sources: sources.into(), origin: Origin::Files }
    }

    fn network(addresses: &[&str]) -> Arc<Network> {
        let address = |text: &&str| {
            let address = text.parse().unwrap();
            Address { interface: 1, address, network: crate::policy::Prefix::containing(address, 24).unwrap() }
        };
        let interface = Interface { index: 1, name: "wan0".into(), is_up: true };
        Arc::new(Network::new(vec![interface], addresses.iter().map(address).collect(), Vec::new()))
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
            Action::Forget(doubt @ Doubt::Source { .. }) => {
                let Doubt::Source { departed, .. } = &doubt else { return String::new() };
                format!("forget {departed:?}")
            }
            Action::Forget(doubt) => format!("forget: {}", doubt.why()),
            Action::Log(entry) => format!("{:?}: {}", entry.kind, entry.message),
            other => format!("{other:?}"),
        };
        let actions = agent.handle(event, now).into_iter().filter(|action| !matches!(action, Action::Notify(_)));
        actions.map(told).collect()
    }

    fn read(addresses: &[&str]) -> Event {
        Event::NetworkRead(Ok(network(addresses)), Duration::ZERO)
    }

    #[test]
    fn rules_of_forwards_follow_the_network_and_nobody_is_blamed_for_it() {
        let now = Instant::now();
        let mut agent = running("portForwards: [{hostPort: 8080, address: 203.0.113.2}]\n", now);
        agent.follow_network();
        let actions = agent.handle(read(&["203.0.113.77"]), now);
        let looks = |action: &Action| matches!(action, Action::Forget(Doubt::Source { .. }));
        assert!(!actions.iter().any(looks), "no source is fixed: {actions:?}");
        let asked = actions.into_iter().find_map(|action| match action {
            Action::Reconcile(family, reconciliation) => Some((family, reconciliation)),
            _ => None,
        });
        let (family, reconciliation) = asked.expect("the rules are looked at");
        let outcome = Outcome {
            written: Some(vec!["set forwards-hairpin4 lacks 1 element".to_owned()]),
            notes: Vec::new(),
            bridged: false,
            took: Duration::from_millis(1),
        };
        let told = happens(&mut agent, Event::Reconciled(family, reconciliation, Ok(outcome), Duration::ZERO), now);
        let follows = |line: &String| line.starts_with("Adapted: IPv4 rules follow the host's addresses and routes");
        assert!(told.iter().any(follows) && !told.iter().any(|line| line.contains("Repaired")), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("missing")), "no connection is in doubt: {told:?}");
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
        assert_eq!(happens(&mut fixed, read(&["203.0.113.77"]), now), ["ReadNetwork", "forget {}"]);
        assert_eq!(happens(&mut fixed, Event::NetworkMoved, now + Duration::from_secs(1)), ["ReadNetwork"]);
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
        happens(&mut agent, Event::NetworkRead(Ok(network(&[])), Duration::from_millis(150)), now);
        assert!(happens(&mut agent, Event::NetworkMoved, now).is_empty());
        let at = agent.timers.network.unwrap();
        assert!(at > now && at <= now + Duration::from_secs(1) && agent.defers_network(now));
        assert_eq!(happens(&mut agent, Event::Tick, at), ["ReadNetwork"]);
        let failed = || Event::NetworkRead(Err("rtnetlink: no".to_owned()), Duration::ZERO);
        let said = "Warning: the host's addresses and routes can't be followed: rtnetlink: no";
        assert_eq!(happens(&mut agent, failed(), at), [said]);
        assert!(happens(&mut agent, failed(), at).is_empty());
        let later = agent.timers.network.unwrap();
        assert_eq!(happens(&mut agent, Event::Tick, later), ["ReadNetwork"]);
    }

    #[test]
    fn what_was_forgotten_is_logged_with_its_bound_and_counted() {
        let now = Instant::now();
        let mut agent = running(FIXED, now);
        let doubt = |text| Doubt::Repair { config: loaded(text).config };
        let many = Forgotten { found: 10_000, deleted: 9_999, stopped: true };
        let done = |doubt, result| Event::Forgotten(doubt, result, Duration::ZERO);
        let logged = happens(&mut agent, done(doubt("onRepair: forget"), Ok(many)), now);
        let expected = "ConnectionsForgotten: tracked connections forgotten: 9999; they began while rules were missing; \
                        stopped there, at 10,000 connections or 200 ms: there may be more";
        assert_eq!(logged, [expected]);
        let few = Forgotten { found: 3, deleted: 0, stopped: false };
        assert_eq!(happens(&mut agent, done(doubt(""), Ok(few)), now).len(), 1);
        let report = agent.connections_report(now);
        assert_eq!((report.forgotten, report.unfit, report.unfit_is_minimum), (9_999, Some(3), false));
        let none = Forgotten { found: 0, deleted: 0, stopped: false };
        assert!(happens(&mut agent, done(doubt(""), Ok(none)), now).is_empty());
        assert_eq!(agent.connections_report(now).unfit, Some(0));
        let failed = happens(&mut agent, done(doubt(""), Err("no".to_owned())), now);
        assert_eq!(failed, ["Warning: connections that no longer fit the policy can't be looked for: no"]);
    }

    #[test]
    fn a_changed_policy_puts_connections_in_doubt_only_where_that_is_wanted() {
        let now = Instant::now();
        for (flush, expected) in
            [("affected", vec!["forget: the new configuration treats them in another way"]), ("off", vec![])]
        {
            let mut agent = running(&format!("flushConntrack: {flush}\nsourceCIDRs: [10.0.0.0/8]\n"), now);
            agent.policy_changed(Some(loaded("").config));
            assert_eq!(happens(&mut agent, Event::Tick, now), expected);
            let same = agent.desired.active.as_ref().unwrap().config.clone();
            agent.policy_changed(Some(same));
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
            agent.policy_changed(before.map(|before| loaded(before).config));
            assert_eq!(happens(&mut agent, Event::Tick, now), *expected, "{before:?}, then {text}");
        }
    }
}
