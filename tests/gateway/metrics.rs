//! `status --prometheus` and `status --nagios` of a service that works, is meddled with, is told nonsense, and is gone.

use crate::lab::{self, BACKENDS, Gateway, Kind, Lab, Observer, Probe, Seen, parse, text};
use ip_masq_agent::backend::BackendName;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

const KEYS: &str = r#"
nonMasqueradeCIDRs: [10.0.0.0/8, "fd00:99::/32"]
egress: [{name: guests, sourceCIDRs: [192.168.60.0/24], snat: none}]
portForwards: [{hostPort: 8080, address: 192.168.77.2, port: 80}]
"#;

/// Prometheus' own checker: of the system, or where `make test` puts it.
fn promtool() -> Option<PathBuf> {
    let put = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool");
    let found = [put, PathBuf::from("/usr/bin/promtool")].into_iter().find(|path| path.exists());
    if found.is_none() {
        lab::skip("not installed: promtool; `make test` puts it into target/tools");
    }
    found
}

/// Linted by Prometheus' own checker.
fn checked(promtool: &Path, metrics: &str) {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool");
    child.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}\n{metrics}", text(&output.stderr));
}

/// The value of a sample.
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}")).parse().expect("a number")
}

/// Waits until a sample has this value: the log is written before the answer to the next question is.
fn reaches(gateway: &Gateway<'_>, sample: &str, expected: f64) -> String {
    let end = Instant::now() + lab::DEADLINE;
    loop {
        let metrics = gateway.agent.must("status", &["--prometheus"]);
        if value(&metrics, sample) == expected {
            return metrics;
        }
        assert!(Instant::now() < end, "{sample} does not become {expected}:\n{metrics}");
    }
}

fn flush(lab: &Lab, backend: BackendName) {
    let (program, arguments): (_, &[&str]) = match backend {
        BackendName::Nftables => ("nft", &["flush", "ruleset"]),
        BackendName::IptablesNft => ("iptables-nft", &["-t", "nat", "-F"]),
        BackendName::IptablesLegacy => ("iptables-legacy", &["-t", "nat", "-F"]),
    };
    lab.gateway.must(program, arguments);
}

fn nagios(gateway: &Gateway<'_>) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = gateway.agent.command("status", &["--nagios"]);
    (status.code(), text(&stdout))
}

#[test]
fn metrics_and_plugin_tell_repairs_refused_reloads_flows_and_that_nobody_is_there() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let Some(promtool) = promtool() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&gateway.config(KEYS));
        let mut service = gateway.agent.start();
        gateway.check(
            "before the metrics",
            "lan 192.168.77.2 udp 203.0.113.200 203.0.113.1
             lan 192.168.77.2 tcp 203.0.113.200 203.0.113.1
             lan 192.168.77.2 udp 10.9.9.9 same",
        );

        let metrics = gateway.agent.must("status", &["--prometheus"]);
        checked(&promtool, &metrics);
        for (sample, expected) in [
            ("up", 1.0),
            ("state{state=\"ready\"}", 1.0),
            ("state{state=\"degraded\"}", 0.0),
            ("in_sync{family=\"IPv6\"}", 1.0),
            ("flows_total{family=\"IPv4\",verdict=\"kept\"}", 1.0),
            ("flows_total{family=\"IPv4\",verdict=\"masqueraded\"}", 2.0),
            ("rule_flows_total{family=\"IPv4\",rule=\"exempt\"}", 1.0),
            ("egress_flows_total{family=\"IPv4\",egress=\"guests\"}", 0.0),
            ("forwarded_flows_total{family=\"IPv4\"}", 0.0),
            ("ranges{list=\"exempt\"}", 2.0),
            ("ranges{list=\"sources\"}", 1.0),
            ("egress_entries", 1.0),
            ("port_forwards", 1.0),
            ("applies_total", 1.0),
            ("repairs_total{family=\"IPv4\"}", 0.0),
            ("reloads_total", 0.0),
        ] {
            assert_eq!(value(&metrics, &format!("ip_masq_agent_{sample}")), expected, "{backend}: {sample}\n{metrics}");
        }
        let applied = "ip_masq_agent_last_apply_timestamp_seconds";
        let (at, said) = (value(&metrics, applied), gateway.agent.must("status", &["--json"]));
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert!((json["last_apply"]["at"].as_f64().expect("a time") - at).abs() < 0.01, "{at}: {json}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert!((0.0..60.0).contains(&(now.as_secs_f64() - at)), "{at}");

        flush(&lab, *backend);
        service.wait_for_log("IPv4 rules changed by");
        let metrics = reaches(&gateway, "ip_masq_agent_repairs_total{family=\"IPv4\"}", 1.0);
        checked(&promtool, &metrics);
        assert!(value(&metrics, "ip_masq_agent_last_repair_timestamp_seconds") >= at, "{metrics}");
        let (code, said) = nagios(&gateway);
        assert!(code == Some(0) || said.contains("\nwarning: "), "{backend}: {said}");
        assert!(said.starts_with("IP-MASQ-AGENT ") && said.contains(" repairs="), "{backend}: {said}");

        gateway.agent.configure("nonMasqueradeCIDRs: [10.0.0.0/33]");
        assert_eq!(gateway.agent.command("reload", &[]).status.code(), Some(78));
        let metrics = gateway.agent.must("status", &["--prometheus"]);
        assert!(value(&metrics, "ip_masq_agent_reload_failures_total") >= 1.0, "{metrics}");
        assert_eq!(value(&metrics, "ip_masq_agent_state{state=\"degraded\"}"), 1.0);
        let (code, said) = nagios(&gateway);
        assert!(code == Some(1) && said.starts_with("IP-MASQ-AGENT WARNING - degraded: "), "{backend}: {said}");
        gateway.agent.configure(&gateway.config(KEYS));
        gateway.agent.must("reload", &[]);
        let reloads = |metrics: &str| value(metrics, "ip_masq_agent_reloads_total");
        let failures = |metrics: &str| value(metrics, "ip_masq_agent_reload_failures_total");
        let metrics = gateway.agent.must("status", &["--prometheus"]);
        assert!(reloads(&metrics) > failures(&metrics), "{metrics}");

        service.stop();
        let metrics = gateway.agent.must("status", &["--prometheus"]);
        checked(&promtool, &metrics);
        assert_eq!(metrics.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["ip_masq_agent_up 0"]);
        assert_eq!(nagios(&gateway), (Some(2), "IP-MASQ-AGENT CRITICAL - the service is not running\n".to_owned()));
        assert_eq!(gateway.agent.command("status", &[]).status.code(), Some(3));
    }
}

const ENTRIES: &str = "
outInterfaces: [wan0]
egress: [{name: office, sourceCIDRs: [192.168.78.0/24], snat: 203.0.113.77}]
portForwards:
- {hostPort: 8080, protocol: udp, address: 192.168.77.2, port: 80}
- {hostPort: 8081, protocol: udp, address: 192.168.77.2, port: 81}
";

#[test]
fn metrics_tell_the_flows_of_entries_and_the_addresses_that_sources_become() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        // With IPv6 the kernel chooses between two addresses.
        gateway.agent.configure(&gateway.config(ENTRIES).replace("enableIPv6: true\n", ""));
        let _service = gateway.agent.start();
        gateway.check(
            "before the metrics",
            "lan 192.168.78.2 udp 203.0.113.200 203.0.113.77
             lan 192.168.78.2 tcp 203.0.113.200 203.0.113.77
             lan 192.168.77.2 udp 203.0.113.200 203.0.113.1",
        );
        let arrived = Observer::new(&lab.lan);
        for port in [8080, 8081, 8081, 8081] {
            let probe = Probe::new(Kind::Udp, parse("203.0.113.1")).from(parse("203.0.113.9")).with_port(port);
            probe.send(&lab.outside);
            let at_target = |seen: &Seen| seen.destination == parse("192.168.77.2") && probe.is_in(seen);
            assert!(arrived.wait(at_target).is_some(), "{backend}: {port}");
        }
        let in_use = |egress: &str, address: &str| {
            format!("ip_masq_agent_address_in_use{{egress=\"{egress}\",address=\"{address}\",interface=\"wan0\"}}")
        };
        let addresses = [in_use("office", "203.0.113.77"), in_use("", "203.0.113.1")];
        let end = Instant::now() + lab::DEADLINE;
        let metrics = loop {
            let metrics = gateway.agent.must("status", &["--prometheus"]);
            if addresses.iter().all(|sample| metrics.contains(&format!("\n{sample} 1\n"))) {
                break metrics;
            }
            assert!(Instant::now() < end, "{backend}: no {addresses:?} in\n{metrics}");
        };
        assert_eq!(metrics.matches("\nip_masq_agent_address_in_use{").count(), 2, "{backend}: {metrics}");
        if let Some(promtool) = promtool() {
            checked(&promtool, &metrics);
        }
        for (sample, expected) in [
            ("egress_flows_total{family=\"IPv4\",egress=\"office\"}", 2.0),
            ("forwarded_flows_total{family=\"IPv4\"}", 4.0),
        ] {
            assert_eq!(value(&metrics, &format!("ip_masq_agent_{sample}")), expected, "{backend}: {sample}\n{metrics}");
        }
        let start = "ip_masq_agent_forward_flows_total{family=\"IPv4\",";
        let each = metrics.lines().filter_map(|line| line.strip_prefix(start)?.split_once("} "));
        let each: Vec<_> = each.map(|(labels, flows)| (labels.split(',').next(), flows)).collect();
        assert_eq!(each, [(Some("number=\"1\""), "1"), (Some("number=\"2\""), "3")], "{backend}: {metrics}");
    }
}

#[test]
fn an_answer_that_nobody_understands_makes_no_metrics_that_say_the_service_is_down() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BackendName::Nftables);
    // A service of another version, say.
    let listener = lab.gateway.enter(|| {
        let listener = std::os::unix::net::UnixListener::bind("/run/lab/runtime/control.sock").expect("a socket");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 7]).expect("a question");
            stream.write_all(b"{\"summary\": 7}\n").expect("an answer");
        })
    });
    let output = gateway.agent.command("status", &["--prometheus"]);
    listener.join().expect("the service");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    let said = text(&output.stderr);
    assert!(said.starts_with("the service's answer can't be understood: "), "{said}");
}

#[test]
fn metrics_that_could_not_be_written_whole_are_a_failure() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BackendName::Nftables);
    let full = || {
        let full = std::fs::File::create("/dev/full")?;
        gateway.agent.prepare("status", &["--prometheus"]).stdout(full).stderr(Stdio::piped()).output()
    };
    let output = lab.gateway.enter(full).expect("the program");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with("standard output can't be written: No space left on device"), "{said}");
}

#[test]
fn the_alert_rules_do_what_they_say() {
    let Some(promtool) = promtool() else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/monitoring");
        let output = Command::new(&promtool).args(arguments).current_dir(directory).output().expect("promtool");
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn a_scrape_leaves_nothing_in_memory() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), BackendName::Nftables);
    gateway.agent.configure(&gateway.config(KEYS));
    let service = gateway.agent.start();
    // In KiB, proc_pid_status(5): what is no file's, which other processes share.
    let of_its_own = || -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let before = of_its_own();
    (0..100).for_each(|_| drop(gateway.agent.must("status", &["--prometheus"])));
    let grown = of_its_own() - before;
    assert!(grown <= 256, "{grown} KiB more after 100 scrapes");
}
