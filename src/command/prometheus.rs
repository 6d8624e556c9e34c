//! `status --prometheus`: the report as metrics, for the textfile collector of node_exporter.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use crate::agent::{ConfigOrigin, EventRecord, FamilyReport, InUse, Moment, Report, State};
use crate::backend::Counters;
use crate::policy::Family;
use std::fmt::{self, Write as _};

/// Of so many forwards each has a counter of its own: every one is a series for as long as the metrics are kept.
const MOST_FORWARDS: usize = 100;

/// The metrics; without a report, that the service is down.
pub fn text(report: Option<&Report>) -> String {
    let mut page = Page::default();
    page.metric("up", Type::Gauge, "1 if the service answered, otherwise 0.").sample(&[], u8::from(report.is_some()));
    if let Some(report) = report {
        state(&mut page, report);
        policy(&mut page, report);
        events(&mut page, report);
        flows(&mut page, report);
    }
    page.text
}

fn state(page: &mut Page, report: &Report) {
    let backend = report.backend.as_ref().map_or(String::new(), |backend| backend.name.to_string());
    page.metric("info", Type::Gauge, "Version of the service, and the backend that writes the rules.")
        .sample(&[("version", &report.version), ("backend", &backend)], 1);
    let states = page.metric("state", Type::Gauge, "1 for the state that the service is in, 0 for the others.");
    for state in [State::Starting, State::Ready, State::Degraded, State::Stopping] {
        states.sample(&[("state", &state.to_string())], u8::from(state == report.state));
    }
    page.metric("degraded_reasons", Type::Gauge, "How many things are wrong; status says which.")
        .sample(&[], report.degraded.len());
    page.metric("warnings", Type::Gauge, "How many warnings there are; status says which.")
        .sample(&[], report.warnings.len());
    let families = page.metric("in_sync", Type::Gauge, "1 if the rules of a family are as the policy wants them.");
    for family in &report.families {
        families.sample(&[of(family)], u8::from(family.in_sync));
    }
}

fn policy(page: &mut Page, report: &Report) {
    let last_good = u8::from(report.configuration.origin == ConfigOrigin::LastGood);
    page.metric(
        "last_good_in_force",
        Type::Gauge,
        "1 if the files were refused at the start, so that the saved last good configuration is in force.",
    )
    .sample(&[], last_good);
    let ranges = page.metric("ranges", Type::Gauge, "Ranges of the policy in force, by what they do.");
    for (list, count) in [
        ("exempt", report.ranges.exempt),
        ("exceptions", report.ranges.exceptions),
        ("sources", report.ranges.sources),
        ("excluded_sources", report.ranges.excluded_sources),
    ] {
        ranges.sample(&[("list", list)], count);
    }
    page.metric("egress_entries", Type::Gauge, "Entries of egress in force.").sample(&[], report.egress.len());
    page.metric("port_forwards", Type::Gauge, "Entries of portForwards in force.").sample(&[], report.forwards.len());
    addresses(page, report);
}

fn addresses(page: &mut Page, report: &Report) {
    let entries = report.egress.iter().map(|entry| (&*entry.name, &entry.addresses));
    let sections = entries.chain([("", &report.addresses)]);
    let in_use: Vec<(&str, &InUse)> =
        sections.flat_map(|(egress, addresses)| addresses.iter().map(move |one| (egress, one))).collect();
    if in_use.is_empty() {
        return;
    }
    let metric = page.metric(
        "address_in_use",
        Type::Gauge,
        "1 for each address of the host that sources become, by entry of egress; without one where none decides.",
    );
    for (index, (egress, one)) in in_use.iter().enumerate() {
        // In two networks of one interface it is one sample.
        if !in_use[..index].contains(&(*egress, *one)) {
            let address = one.address.to_string();
            metric.sample(&[("egress", egress), ("address", &address), ("interface", &one.interface)], 1);
        }
    }
}

fn events(page: &mut Page, report: &Report) {
    page.metric("applies_total", Type::Counter, "Configurations put into the kernel since the service began.")
        .sample(&[], report.configuration.generation);
    page.metric(
        "reloads_total",
        Type::Counter,
        "Reloads since the service began: asked for, or because files changed.",
    )
    .sample(&[], report.reloads.total);
    page.metric("reload_failures_total", Type::Counter, "Reloads that were refused.")
        .sample(&[], report.reloads.failed);
    let repairs =
        page.metric("repairs_total", Type::Counter, "Changes of the rules by other programs that were repaired.");
    for family in &report.families {
        repairs.sample(&[of(family)], family.repairs);
    }
    page.event("apply", "a configuration was put into the kernel", report.last_apply.as_ref());
    page.event("repair", "rules were repaired", report.last_repair.as_ref());
    page.moment("saved", "the last good configuration was saved", report.last_saved.as_ref());
    page.metric("connections_deleted_total", Type::Counter, "Tracked connections deleted because they did not fit.")
        .sample(&[], report.connections.forgotten);
    if let Some(conntrack) = &report.conntrack {
        for (name, help, count) in [
            (
                "insert_failed",
                "Connections that connection tracking had no place or no port for.",
                conntrack.insert_failed,
            ),
            ("dropped", "Packets dropped because connection tracking had no room.", conntrack.drop),
            ("early_dropped", "Connections that made room for others before their time.", conntrack.early_drop),
        ] {
            page.metric(&format!("conntrack_{name}_total"), Type::Counter, help).sample(&[], count);
        }
    }
    if let Some(stale) = report.connections.unfit {
        page.metric(
            "stale_connections",
            Type::Gauge,
            "Tracked connections that did not fit the policy after the last repair and were left alone.",
        )
        .sample(&[], stale);
    }
}

fn flows(page: &mut Page, report: &Report) {
    let counted = || report.families.iter().filter_map(|family| Some((of(family), family.counters.as_ref()?)));
    let verdicts = page.metric(
        "flows_total",
        Type::Counter,
        "New flows by what became of their source, since the rules were written.",
    );
    for (family, counters) in counted() {
        verdicts.sample(&[family, ("verdict", "kept")], counters.kept);
        verdicts.sample(&[family, ("verdict", "masqueraded")], counters.masqueraded);
    }
    let rules = page.metric("rule_flows_total", Type::Counter, "New flows that a rule decided, since it was written.");
    for (family, counters) in counted() {
        for (rule, flows) in &counters.rules {
            rules.sample(&[family, ("rule", rule)], flows);
        }
    }
    if !report.egress.is_empty() {
        let entries = page.metric("egress_flows_total", Type::Counter, "New flows that an entry of egress decided.");
        for (family, counters) in counted() {
            for (number, entry) in (1..).zip(&report.egress) {
                entries.sample(&[family, ("egress", &entry.name)], counters.egress.get(&number).unwrap_or(&0));
            }
        }
    }
    if !report.forwards.is_empty() {
        forwarded(page, report, counted);
    }
}

fn forwarded<'r, Counted: Iterator<Item = (Label<'r>, &'r Counters)>>(
    page: &mut Page,
    report: &'r Report,
    counted: impl Fn() -> Counted,
) {
    let all = page.metric("forwarded_flows_total", Type::Counter, "New flows that portForwards sent on.");
    for (family, counters) in counted() {
        all.sample(&[family], counters.forwards.values().sum::<u64>());
    }
    if report.forwards.len() > MOST_FORWARDS {
        return;
    }
    let each = page.metric("forward_flows_total", Type::Counter, "New flows that an entry of portForwards sent on.");
    for (family, counters) in counted() {
        for forward in &report.forwards {
            // Two entries may read alike, two samples must not.
            let number = forward.number.to_string();
            let labels = [family, ("number", &*number), ("forward", &*forward.what)];
            each.sample(&labels, counters.forwards.get(&forward.number).unwrap_or(&0));
        }
    }
}

fn of(family: &FamilyReport) -> Label<'static> {
    let name = match family.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    ("family", name)
}

type Label<'l> = (&'l str, &'l str);

#[derive(Debug, Clone, Copy)]
enum Type {
    Counter,
    Gauge,
}

/// The text as far as it is written, and the metric that samples are for.
#[derive(Debug, Default)]
struct Page {
    text: String,
    name: String,
}

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: Type, help: &str) -> &mut Self {
        self.name = format!("ip_masq_agent_{name}");
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        // Writing into a String can't fail.
        let _ = writeln!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}", self.name);
        self
    }

    fn sample(&mut self, labels: &[Label<'_>], value: impl fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }

    /// When something was done last and how long it took, if it was done.
    fn event(&mut self, name: &str, what: &str, event: Option<&EventRecord>) {
        let Some(event) = event else { return };
        self.moment(name, what, Some(&event.when));
        let help = format!("How long it took when {what} last.");
        self.metric(&format!("last_{name}_duration_seconds"), Type::Gauge, &help)
            .sample(&[], event.milliseconds / 1000.0);
    }

    fn moment(&mut self, name: &str, what: &str, moment: Option<&Moment>) {
        let Some(moment) = moment else { return };
        let help = format!("When {what} last, in seconds since the epoch.");
        self.metric(&format!("last_{name}_timestamp_seconds"), Type::Gauge, &help).sample(&[], moment.at);
    }
}

/// As a label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{EgressReport, ForwardReport};

    /// As a service answers; of an earlier version, which has none of the newer fields.
    fn report() -> Report {
        serde_json::from_str(
            r#"{"summary": "", "state": "ready", "pid": 1, "version": "0.1.0",
                "configuration": {"origin": "files", "files": [], "generation": 3},
                "backend": {"name": "nftables", "reason": ""}, "last_apply": null,
                "last_repair": {"seconds_ago": 5.0, "at": 1700000000.5, "milliseconds": 2.5},
                "families": [{"family": "IPv4", "in_sync": true, "counters": {"kept": 1, "masqueraded": 2,
                    "forwards": {"2": 7}}}],
                "degraded": [], "warnings": ["one"]}"#,
        )
        .unwrap()
    }

    #[test]
    fn without_a_service_there_is_one_metric_and_it_says_so() {
        let text = "# HELP ip_masq_agent_up 1 if the service answered, otherwise 0.\n\
            # TYPE ip_masq_agent_up gauge\nip_masq_agent_up 0\n";
        assert_eq!(super::text(None), text);
    }

    #[test]
    fn every_sample_follows_help_and_type_of_its_metric_and_no_metric_is_there_twice() {
        let text = text(Some(&report()));
        let mut known = std::collections::BTreeSet::new();
        let mut current = "";
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["#", "HELP", name, _, ..] => assert!(known.insert(name), "{name} is there twice"),
                ["#", "TYPE", name, kind] => {
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                    current = name;
                }
                _ => assert_eq!(line.split(['{', ' ']).next(), Some(current), "{line}"),
            }
        }
        assert!(known.len() > 15, "{known:?}");
        assert!(text.contains("\nip_masq_agent_last_repair_timestamp_seconds 1700000000.5\n"), "{text}");
        assert!(text.contains("\nip_masq_agent_last_repair_duration_seconds 0.0025\n"), "{text}");
    }

    #[test]
    fn of_very_many_forwards_only_the_sum_is_told() {
        let told = |count| {
            let forward = |number| ForwardReport { number, what: "tcp 80 to 10.0.0.5:80".to_owned() };
            let text = text(Some(&Report { forwards: (1..=count).map(forward).collect(), ..report() }));
            assert!(text.contains("\nip_masq_agent_forwarded_flows_total{family=\"IPv4\"} 7\n"), "{text}");
            text.lines().filter(|line| line.starts_with("ip_masq_agent_forward_flows_total")).count()
        };
        assert_eq!((told(100), told(101)), (100, 0));
    }

    #[test]
    fn addresses_in_use_are_told_once_with_the_entry_that_gives_them() {
        let one = |address: &str| InUse { address: address.parse().unwrap(), interface: "wan0".to_owned() };
        let office = EgressReport {
            name: "office".to_owned(),
            snat: "203.0.113.77".to_owned(),
            addresses: vec![one("203.0.113.77"), one("203.0.113.77")],
        };
        let addresses = vec![one("203.0.113.1"), one("2001:db8::1")];
        let text = text(Some(&Report { addresses, egress: vec![office], ..report() }));
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("ip_masq_agent_address_in_use")).collect();
        assert_eq!(
            told,
            [
                "{egress=\"office\",address=\"203.0.113.77\",interface=\"wan0\"} 1",
                "{egress=\"\",address=\"203.0.113.1\",interface=\"wan0\"} 1",
                "{egress=\"\",address=\"2001:db8::1\",interface=\"wan0\"} 1",
            ]
        );
        assert!(!super::text(Some(&report())).contains("address_in_use"));
    }

    #[test]
    fn labels_can_say_anything() {
        let mut page = Page::default();
        page.metric("x", Type::Gauge, "X.").sample(&[("a", "\\ \" \n"), ("b", "")], 1);
        assert!(page.text.ends_with("ip_masq_agent_x{a=\"\\\\ \\\" \\n\",b=\"\"} 1\n"), "{}", page.text);
    }
}
