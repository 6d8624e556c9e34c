//! `make demo`: a LAN, a gateway with the real service, an outside. Which source does the far end see?
//!
//! Everything happens in network namespaces of this process: they, and the files in them, are gone when it is gone.

#[path = "../tests/lab/mod.rs"]
mod lab;

use lab::{Agent, DEADLINE, Kind, Lab, Namespace, Observer, Probe, SILENCE, Uplink, parse};
use serde_json::Value;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the demo adds as `config.d/demo.yaml`: an exemption, an exception inside an exempt range, IPv6, a fixed address on
/// the second uplink, and a port forward.
const EDIT: &str = "\
enableIPv6: true
nonMasqueradeCIDRs: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 192.0.2.0/24]
masqueradeExceptionCIDRs: [10.20.0.0/16]
egress:
  - {name: second, outInterfaces: [wan1], snat: 198.51.100.77}
portForwards:
  - {hostPort: 5353, protocol: udp, address: 192.168.77.2, port: 53}
";

const DRAWING: &str = "
    192.168.77.2       192.168.77.1  203.0.113.1 ┌──────── 203.0.113.200, 10.20.0.5, 2001:db8:5::5, …
        LAN ───────────────── gateway ───────────┤  outside (no route back to the LAN)
                                    198.51.100.1 └──────── 192.0.2.5, 198.51.100.9, 172.16.0.5 (second uplink)
";

/// A datagram from outside to a port of the gateway: from where, to where, and where a forward leads it.
const FORWARD: (&str, &str, u16, (&str, u16)) = ("203.0.113.9", "203.0.113.1", 5353, ("192.168.77.2", 53));

/// The flows of the table: sent by the LAN or by the gateway itself, from where, what, to where.
const FLOWS: [(bool, &str, Kind, &str); 12] = [
    (false, "192.168.77.2", Kind::Tcp, "203.0.113.200"),
    (false, "192.168.77.2", Kind::Ping, "203.0.113.200"),
    (false, "192.168.77.2", Kind::Udp, "192.0.2.5"),
    (false, "192.168.77.2", Kind::Tcp, "198.51.100.9"),
    (false, "192.168.77.2", Kind::Tcp, "10.20.0.5"),
    (false, "192.168.77.2", Kind::Udp, "10.99.0.5"),
    (false, "192.168.77.2", Kind::Udp, "172.16.0.5"),
    (false, "192.168.77.2", Kind::Udp, "169.254.7.7"),
    (false, "fd00:77::2", Kind::Tcp, "2001:db8:5::5"),
    (true, "203.0.113.77", Kind::Tcp, "203.0.113.200"),
    (true, "192.168.77.1", Kind::Tcp, "203.0.113.200"),
    (true, "192.168.77.1", Kind::Raw(112), "224.0.0.18"),
];

/// One line of the table.
struct Row {
    flow: [String; 3],
    verdict: String,
    because: String,
    seen: String,
    ok: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, config] = &arguments[..] else {
        eprintln!("usage: demo BINARY CONFIGURATION");
        return ExitCode::from(2);
    };
    let (binary, config) =
        match std::fs::canonicalize(binary).and_then(|path| Ok((path, std::fs::read_to_string(config)?))) {
            Ok(both) => both,
            Err(error) => {
                eprintln!("{binary}, {config}: {error}");
                return ExitCode::FAILURE;
            }
        };
    let interrupted = match catch_signals() {
        Ok(interrupted) => interrupted,
        Err(error) => {
            eprintln!("signals can't be caught: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(lab) = Lab::build() else { return ExitCode::FAILURE };
    match demonstrate(&lab, &binary.to_string_lossy(), &config, &interrupted) {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// Becomes true when the demo should end. Ctrl-C reaches the service and its commands too, whose end is then no news.
fn catch_signals() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let told = Arc::clone(&interrupted);
    std::panic::set_hook(Box::new(move |panic| {
        if told.load(Ordering::Relaxed) {
            eprintln!("interrupted");
        } else {
            eprintln!("{panic}");
        }
    }));
    Ok(interrupted)
}

/// True when every line was as the policy says; `None` when interrupted.
fn demonstrate(lab: &Lab, binary: &str, config: &str, interrupted: &AtomicBool) -> Option<bool> {
    println!("{DRAWING}");
    heading("1. The service starts with etc/ip-masq-agent/config.yaml as shipped");
    let agent = Agent::new(&lab.gateway, binary, config);
    let mut service = agent.start();
    let before = table(lab, &agent, interrupted)?;
    print_head();
    before.iter().for_each(|row| print_row(row, false));

    heading("2. A file is added: config.d/demo.yaml; then 'ip-masq-agent reload'");
    print!("{}", EDIT.lines().map(|line| format!("    {line}\n")).collect::<String>());
    agent.add_file("demo.yaml", EDIT);
    show_command(&agent, "reload");
    println!();
    let after = table(lab, &agent, interrupted)?;
    print_head();
    after.iter().zip(&before).for_each(|(row, old)| print_row(row, is_changed(row, old)));
    println!("* changed by the reload");

    heading("3. What the service says of itself: 'ip-masq-agent status'");
    show_command(&agent, "status");

    heading("4. The service stops");
    let clean = service.stop().success() && leftovers(&lab.gateway).is_empty();
    println!("    {}", if clean { "nothing of it is left in the kernel" } else { "NOT OK: it left something behind" });

    let wrong = before.iter().chain(&after).filter(|row| !row.ok).count();
    let changed = after.iter().zip(&before).filter(|(row, old)| is_changed(row, old)).count();
    println!("\n{} flows, {wrong} not as the policy says; the reload changed {changed}", before.len() + after.len());
    Some(wrong == 0 && changed > 0 && clean)
}

/// Sends every flow and asks the service about it.
fn table(lab: &Lab, agent: &Agent<'_>, interrupted: &AtomicBool) -> Option<Vec<Row>> {
    let row = |flow| (!interrupted.load(Ordering::Relaxed)).then(|| row(lab, agent, flow));
    let mut rows: Vec<Row> = FLOWS.iter().map(row).collect::<Option<_>>()?;
    rows.push(forward_row(lab, agent));
    Some(rows)
}

/// The port of the gateway: whom does the host behind it see, if anybody?
fn forward_row(lab: &Lab, agent: &Agent<'_>) -> Row {
    let (source, to, port, (target, target_port)) = FORWARD;
    let question = ["--json", "--from", source, "--in", "wan0", "--proto", "udp", "--port", &port.to_string()];
    let answer = explain(agent, parse(to), &question);
    let forward = &answer["forward"];
    let observer = Observer::new(&lab.lan);
    let probe = Probe::new(Kind::Udp, parse(to)).from(parse(source)).with_port(port);
    probe.send(&lab.outside);
    let patience = if forward.is_null() { SILENCE } else { DEADLINE };
    let arrived = observer.wait_for(patience, |seen| {
        seen.destination == parse(target) && seen.destination_port() == target_port && probe.is_in(seen)
    });
    let seen = arrived.map_or("nothing".to_owned(), |seen| seen.source.to_string());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (verdict, because, expected) = match forward.is_null() {
        true => ("not forwarded".to_owned(), "no entry of portForwards".to_owned(), "nothing"),
        false => (format!("to {}", target), format!("portForwards: {}", word(&forward["origin"])), source),
    };
    let flow = [source.to_owned(), "udp".to_owned(), format!("{to}:{port}")];
    Row { flow, verdict, because, ok: seen == expected, seen }
}

fn row(lab: &Lab, agent: &Agent<'_>, (by_gateway, source, kind, destination): &(bool, &str, Kind, &str)) -> Row {
    let (source, destination) = (parse(source), parse(destination));
    let out = Uplink::towards(destination);
    let protocol = match kind {
        Kind::Tcp => "tcp".to_owned(),
        Kind::Udp => "udp".to_owned(),
        Kind::Sctp => "sctp".to_owned(),
        Kind::Ping => "icmp".to_owned(),
        Kind::Raw(number) => number.to_string(),
    };
    let question = ["--json", "--from", &source.to_string(), "--out", out.name(), "--proto", &protocol];
    let answer = explain(agent, destination, &question);
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let expected = match answer["verdict"].as_str() {
        Some("masquerade") => out.masquerade_address(destination),
        Some(verdict) => verdict.strip_prefix("snat to ").map_or(source, parse),
        None => source,
    };
    let probe = Probe::new(*kind, destination).from(source);
    let probe = if destination.is_multicast() { probe.through(out.name()) } else { probe };
    let seen = probe.source_seen(if *by_gateway { &lab.gateway } else { &lab.lan }, &lab.observer);
    let because = match (answer["matched"].as_str(), answer["origin"].as_str()) {
        (Some(matched), Some(origin)) => format!("{}: {matched}, {origin}", word("step")),
        _ => word("reason"),
    };
    Row {
        flow: [source.to_string(), protocol, destination.to_string()],
        verdict: word("verdict"),
        because,
        seen: seen.map_or("nothing".to_owned(), |seen| seen.to_string()),
        ok: seen == Some(expected),
    }
}

fn explain(agent: &Agent<'_>, destination: IpAddr, question: &[&str]) -> Value {
    let destination = destination.to_string();
    let text = agent.must("explain", &[&[destination.as_str()], question].concat());
    serde_json::from_str::<Value>(&text).map_or(Value::Null, |answers| answers[0].clone())
}

fn is_changed(row: &Row, old: &Row) -> bool {
    (&row.verdict, &row.seen) != (&old.verdict, &old.seen)
}

/// The lines of the kernel's rules that are still the service's.
fn leftovers(gateway: &Namespace) -> Vec<String> {
    let listings = [
        ("iptables-save", &[][..]),
        ("ip6tables-save", &[]),
        ("nft", &["list", "ruleset"]),
        ("ipset", &["list", "-n"]),
    ];
    let all = listings.iter().map(|(program, arguments)| gateway.must(program, arguments)).collect::<String>();
    all.lines().filter(|line| line.to_lowercase().contains("masq")).map(str::to_owned).collect()
}

fn show_command(agent: &Agent<'_>, command: &str) {
    agent.must(command, &[]).lines().for_each(|line| println!("    {line}"));
}

fn heading(text: &str) {
    println!("\n{}\n", paint("1", text));
}

fn print_head() {
    println!("  {:<14} {:<5} {:<16} {:<21} {:<16} {:<6} because", "from", "", "to", "policy says", "far end saw", "");
}

fn print_row(row: &Row, changed: bool) {
    let ok = if row.ok { paint("32", "ok    ") } else { paint("31", "NOT OK") };
    let mark = if changed { "*" } else { " " };
    let [from, protocol, to] = &row.flow;
    let because = &row.because;
    println!("{mark} {from:<14} {protocol:<5} {to:<16} {:<21} {:<16} {ok} {because}", row.verdict, row.seen);
}

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        return format!("\x1b[{code}m{text}\x1b[0m");
    }
    text.to_owned()
}
