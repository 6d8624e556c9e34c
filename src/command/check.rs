//! `check`: is the configuration right, and does this host let it work?

use super::comparison::{self, Comparison};
use super::{Context, eprint_line, exit, print_diagnostics, print_line};
use crate::agent::advice::{HostView, advice, remarks};
use crate::agent::forward_advice::{self, ForwardView, Place};
use crate::config::Config;
use crate::policy::{Family, Forward, Policy, Protocol};
use crate::service::foreign_nat::ForeignRules;
use crate::service::listeners::listeners;
use crate::service::view;
use crate::sys::rtnetlink;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Validates the configuration: prints every error on stderr, and of a valid one what may not be meant. With `host` also
/// prints problems on this host that would stop the policy from working.
pub fn run(context: &Context, host: bool) -> u8 {
    match context.load() {
        Err(diagnostics) => print_diagnostics(&diagnostics),
        Ok(config) if host => judge_host(&config),
        Ok(config) => {
            remarks(&config.policy).iter().for_each(eprint_line);
            exit::OK
        }
    }
}

fn judge_host(config: &Config) -> u8 {
    let mut comparison = Comparison::new(config);
    let view = view::view();
    let mut advice = advice(&config.policy, &view, comparison.as_ref().ok().map(Comparison::backend));
    advice.extend(comparison.iter().flat_map(Comparison::strays));
    let mut findings: Vec<String> = comparison.as_ref().err().iter().map(ToString::to_string).collect();
    findings.extend(comparison.iter_mut().flat_map(Comparison::wrong_sysctls));
    findings.extend(of_forwards(&config.policy, &view));
    findings.extend(advice.iter().map(ToString::to_string));
    let enabled = Family::ALL.into_iter().filter(|family| config.policy.enables(*family));
    findings.extend(enabled.flat_map(rules_before_ours));
    findings.iter().for_each(print_line);
    if findings.is_empty() { exit::OK } else { exit::FAILED }
}

/// What keeps port forwards from working, or what they take away from this host.
fn of_forwards(policy: &Policy, view: &HostView) -> Vec<String> {
    if policy.forwards.is_empty() {
        return Vec::new();
    }
    let is_forwarded = |protocol: Protocol, port: u16| {
        policy.forwards.iter().any(|one| one.protocols.contains(&protocol) && one.host_ports.contains(port))
    };
    let place = |address: IpAddr| match rtnetlink::entry(address) {
        Ok(Some(entry)) if entry.is_local => Some(Place::Here),
        Ok(Some(entry)) => {
            let interface = entry.interface.and_then(view::interface_name)?;
            let one_way_bridge = view::is_bridged(Family::of(address)) && view::is_one_way_bridge(&interface);
            Some(Place::Through { interface, one_way_bridge })
        }
        Ok(None) => Some(Place::Nowhere),
        Err(_) => None,
    };
    let addresses: BTreeSet<IpAddr> = policy.forwards.iter().flat_map(Forward::addresses).collect();
    let off = [(Family::V4, view.forwarding_ipv4), (Family::V6, view.forwarding_ipv6)];
    let forward_view = ForwardView {
        listeners: listeners(is_forwarded),
        places: addresses.into_iter().filter_map(|address| Some((address, place(address)?))).collect(),
        forwarding_off: off.into_iter().filter(|(_, on)| *on == Some(false)).map(|(family, _)| family).collect(),
    };
    forward_advice::advice(policy, &forward_view).iter().map(ToString::to_string).collect()
}

/// Foreign nat rules that are asked first: what they map, our rules never see.
fn rules_before_ours(family: Family) -> Vec<String> {
    match comparison::foreign_rules(family) {
        Ok(found) => in_the_way(family, &found),
        Err(error) => vec![format!("the {family} nat rules of other programs can't be read: {error}")],
    }
}

/// Before the first start every foreign rule is named: who checks then wants to know what ours will meet.
fn in_the_way(family: Family, found: &ForeignRules) -> Vec<String> {
    let (rules, place) = if found.ours_found {
        (&found.before, format!("runs before our {family} rules and wins"))
    } else {
        (&found.after, format!("already there, our {family} rules are not"))
    };
    rules.iter().map(|rule| format!("{place}: {rule}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_start_every_foreign_rule_is_named_and_later_those_before_ours() {
        let found = ForeignRules { ours_found: false, before: Vec::new(), after: vec!["masquerade".into()] };
        assert_eq!(in_the_way(Family::V4, &found), ["already there, our IPv4 rules are not: masquerade"]);
        let found = ForeignRules { ours_found: true, before: vec!["snat".into()], after: vec!["masquerade".into()] };
        assert_eq!(in_the_way(Family::V4, &found), ["runs before our IPv4 rules and wins: snat"]);
    }
}
