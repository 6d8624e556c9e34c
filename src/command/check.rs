//! `check`: is the configuration right, and does this host let it work?

use super::comparison::Comparison;
use super::{Context, GONE, eprint_line, exit, last_good, print_diagnostics, print_line};
use crate::agent::advice::{Advice, HostView, advice, remarks};
use crate::agent::forward_advice::{self, ForwardView, Place};
use crate::backend::{BackendName, ErrorKind, Plan};
use crate::config::{self, Config, Diagnostic, Diagnostics, SourceText};
use crate::policy::{Family, Forward, ForwardMark, Policy, Protocol};
use crate::service::host::HostReader;
use crate::service::listeners::listeners;
use crate::service::view;
use crate::sys::rtnetlink::{self, Routed};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Validates the configuration: prints every error on stderr, and of a valid one what may not be meant. With `host` also
/// prints problems on this host that would stop the policy from working.
pub fn run(context: &Context, host: bool) -> u8 {
    let loaded = context.read().and_then(|sources| Ok((config::parse(&sources, &context.flags)?, sources)));
    match (loaded, context.vanished()) {
        (Err(diagnostics), _) => print_diagnostics(&diagnostics),
        (Ok(_), Some(gone)) => print_diagnostics(&Diagnostics(vec![Diagnostic::of_file(&gone, GONE)])),
        (Ok((config, sources)), None) if host => check_host(context, &config, &sources),
        (Ok((config, _)), None) => {
            remarks(&config).iter().for_each(eprint_line);
            exit::OK
        }
    }
}

fn check_host(context: &Context, config: &Config, sources: &[SourceText]) -> u8 {
    let mut comparison = Comparison::new(config);
    let view = HostReader::default().read();
    let mut advice = advice(config, &view, comparison.as_ref().ok().map(Comparison::backend));
    advice.extend(comparison.iter_mut().flat_map(Comparison::strays));
    let (notes, advice): (Vec<Advice>, Vec<Advice>) = advice.into_iter().partition(Advice::is_note);
    let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let mut findings: Vec<String> = comparison.as_ref().err().iter().map(ToString::to_string).collect();
    if let Ok(comparison) = &mut comparison {
        let wrong = comparison.wrong_sysctls();
        if comparison.is_running() {
            findings.extend(wrong);
        } else {
            // What somebody sets before would be what a stop puts back.
            notes.extend(wrong.iter().map(|wrong| format!("{wrong}; the service sets it when it starts")));
        }
        match whose(context, sources, comparison) {
            Whose::InForce => findings.extend(of_rules(config, &view, comparison, "")),
            Whose::Left => {
                findings.extend(of_rules(config, &view, comparison, ", and no service answers that repairs them"))
            }
            Whose::Earlier => {
                notes.extend(of_rules(config, &view, comparison, ", and the service replaces them when it starts"))
            }
            Whose::Other => {}
        }
    }
    findings.extend(comparison.iter_mut().flat_map(|comparison| of_mark_chain(&config.policy, comparison)));
    findings.extend(of_forwards(config, &view));
    findings.extend(of_fast_path(config, comparison.as_mut().ok()));
    findings.extend(advice.iter().map(ToString::to_string));
    findings.iter().for_each(print_line);
    notes.iter().for_each(|note| eprint_line(format_args!("note: {note}")));
    if findings.is_empty() { exit::OK } else { exit::FAILED }
}

/// Of which configuration the rules in the kernel are to be.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Of this one, which the service enforces.
    InForce,
    /// Of this one; no service answers.
    Left,
    /// Of an earlier one, of 'run --once' or of another version's; no service answers.
    Earlier,
    /// Of another one, which the service enforces.
    Other,
}

/// What is in force is what the service has saved, of the same files.
fn whose(context: &Context, sources: &[SourceText], comparison: &Comparison<'_>) -> Whose {
    let place = |source: &SourceText| (std::path::absolute(&source.path).ok(), source.text.clone());
    let saved = last_good::in_force().ok().flatten();
    let is_saved = |saved: &[SourceText]| saved.iter().map(place).eq(sources.iter().map(place));
    if comparison.is_running() {
        let is_in_force = is_saved(saved.as_deref().unwrap_or_default()) && comparison.runs_with(&context.flags);
        return if is_in_force { Whose::InForce } else { Whose::Other };
    }
    if saved.is_some_and(|saved| is_saved(&saved)) { Whose::Left } else { Whose::Earlier }
}

/// The families whose rules are not as the configuration says. Of what nobody keeps, only what is there.
fn of_rules(config: &Config, view: &HostView, comparison: &mut Comparison<'_>, who: &str) -> Vec<String> {
    let (backend, is_kept) = (comparison.backend(), comparison.is_running());
    // To list the table of iptables-legacy is to make it.
    let is_there = |family: &Family| backend != BackendName::IptablesLegacy || view.legacy_nat.contains(family);
    let asked = Family::ALL.into_iter().filter(|family| config.policy.enables(*family));
    let mut differs = |family: &Family| {
        let differs = |plan: Plan| !plan.is_in_sync() && (is_kept || !plan.observed.is_empty());
        comparison.plan(*family).is_ok_and(differs)
    };
    let wrong = asked.filter(|family| (is_kept || is_there(family)) && differs(family));
    let said = |family| {
        format!("{family} rules in {backend} are not what the configuration says; 'ip-masq-agent diff' shows how{who}")
    };
    wrong.map(said).collect()
}

/// What keeps connections between the interfaces of `fastPath` from the flowtable.
fn of_fast_path(config: &Config, comparison: Option<&mut Comparison<'_>>) -> Vec<String> {
    let ports = config.policy.fast_path.iter().filter_map(|entry| {
        let bridge = view::bridge_of(&entry.value.name)?;
        Some(Advice::BridgePort { port: entry.value.name.clone(), bridge, origin: entry.origin.clone() })
    });
    let mut found: Vec<Advice> = ports.collect();
    // Who may not ask is told that by what is said of the rules.
    let refused = comparison.and_then(Comparison::no_fast_path).filter(|error| error.kind != ErrorKind::Permission);
    if let (Some(error), Some(first)) = (refused, config.policy.fast_path.first()) {
        found.push(Advice::NoFastPath(first.origin.clone(), error.message));
    }
    found.iter().map(ToString::to_string).collect()
}

/// Why forwards can't use the chain of another program that marks.
fn of_mark_chain(policy: &Policy, comparison: &mut Comparison<'_>) -> Vec<String> {
    let marks = policy.forward_mark.as_ref().map(|mark| &mark.value);
    let asked = Family::ALL.into_iter().filter(|_| matches!(marks, Some(ForwardMark::Chain(_))));
    let mut refused: Vec<String> =
        asked.filter_map(|family| comparison.plan(family).err()).map(|error| error.message).collect();
    refused.dedup();
    refused
}

/// What keeps port forwards from working, or what they take away from this host.
fn of_forwards(config: &Config, view: &HostView) -> Vec<String> {
    let policy = &config.policy;
    if policy.forwards.is_empty() {
        return Vec::new();
    }
    let is_forwarded = |protocol: Protocol, port: u16| {
        policy.forwards.iter().any(|one| one.protocols.contains(&protocol) && one.host_ports.contains(port))
    };
    let place = |address: IpAddr| match rtnetlink::entry(address) {
        Ok(Routed::Local(_)) => Some(Place::Here),
        Ok(Routed::Through(path)) => {
            let interface = path.interface.and_then(view::interface_name)?;
            let one_way_bridge = view::is_bridged(Family::of(address)) && view::is_one_way_bridge(&interface);
            Some(Place::Through { interface, one_way_bridge })
        }
        Ok(Routed::Refused(_)) => Some(Place::Nowhere),
        Err(_) => None,
    };
    let addresses: BTreeSet<IpAddr> = policy.forwards.iter().flat_map(Forward::addresses).collect();
    let is_off = |family: &Family| view.forwarding(*family) == Some(false) && !config.settings.manage_sysctl;
    let forward_view = ForwardView {
        listeners: listeners(is_forwarded),
        places: addresses.into_iter().filter_map(|address| Some((address, place(address)?))).collect(),
        forwarding_off: Family::ALL.into_iter().filter(is_off).collect(),
    };
    forward_advice::advice(policy, &forward_view).iter().map(ToString::to_string).collect()
}
