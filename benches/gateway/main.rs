//! `make bench`: what the service costs, beside what the Go agent's rules cost, in one run on one machine.
//!
//! Each section measures one thing in labs of its own and returns figures. Ratios are within the run; absolute figures
//! drift with the machine.

#[path = "../../tests/lab/mod.rs"]
mod lab;

mod asking;
mod change;
mod figure;
mod first_packet;
mod flows;
mod lists;
mod load;
mod plot;
mod process;
mod repair;
mod report;
mod service;

use report::Section;
use std::process::ExitCode;
use std::time::Instant;

/// The service, built as it is released.
const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");
/// Where the results go.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == process::FLAG) {
        return process::measure(&arguments[1..]);
    }
    if !lab::possible() {
        return ExitCode::FAILURE;
    }
    // `cargo bench` hands over `--bench`; anything else selects sections by a part of their name.
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |title: &str| wanted.is_empty() || wanted.iter().any(|part| title.contains(part.as_str()));
    match run(is_wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the results can't be written into {TARGET}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_wanted: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let start = Instant::now();
    let machine = report::machine();
    let mut text: String = machine.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect();
    println!("{text}");
    let mut sections = Vec::new();
    let mut plot = None;
    for (title, note, measure) in SECTIONS {
        if !is_wanted(title) {
            continue;
        }
        let figures = match measure {
            Measure::Plotted(measure) => {
                let (figures, drawn) = measure();
                plot = Some(drawn);
                figures
            }
            Measure::Plain(measure) => measure(),
        };
        let section = Section { title, note, figures };
        println!("{}", section.table());
        text += &format!("\n{}", section.table());
        sections.push(section);
    }
    let goals = report::goals(&sections);
    println!("{goals}\n{:.0} s; bench.json, bench.md and bench.svg are in {TARGET}", start.elapsed().as_secs_f64());
    text += &format!("\n{goals}");
    std::fs::write(format!("{TARGET}/bench.json"), report::json(&machine, &sections))?;
    std::fs::write(format!("{TARGET}/bench.md"), text)?;
    plot.map_or(Ok(()), |plot| std::fs::write(format!("{TARGET}/bench.svg"), plot.svg()))
}

/// What measures a section.
#[derive(Clone, Copy)]
enum Measure {
    Plain(fn() -> Vec<figure::Figure>),
    Plotted(fn() -> (Vec<figure::Figure>, plot::Plot)),
}

/// A title, what one should know, and what measures it.
const SECTIONS: [(&str, &str, Measure); 17] = [
    (
        "first packet of a new flow",
        "Masqueraded behind a list that does not contain its destination: the whole list is asked. 'Linear' are the Go \
         agent's rules, one per prefix.",
        Measure::Plotted(first_packet::measure),
    ),
    (
        "first packet by destination",
        "The same, one lone rule beside all. A list is so many /24, every second one from 10.0.0.0 upwards.",
        Measure::Plain(flows::destinations),
    ),
    (
        "first packet by destination, IPv6",
        "The same with so many /48, every second one from fd00:: upwards.",
        Measure::Plain(flows::destinations_v6),
    ),
    (
        "first packet and egress",
        "Entries by source; the last one's scope holds the flow, and it masquerades.",
        Measure::Plain(flows::entries),
    ),
    (
        "first packet and port forwards",
        "One forward is a range of as many ports as there are forwards otherwise.",
        Measure::Plain(flows::forwards),
    ),
    (
        "packets of an open flow",
        "Each packet of a flow behind its first one, forwarded, with a firewall that tracks connections.",
        Measure::Plain(flows::open),
    ),
    (
        "first packet and connection tracking",
        "A new flow is looked for among all that are tracked; 'check --host' speaks up from 8 in each bucket on.",
        Measure::Plain(flows::tracked),
    ),
    (
        "load from file to kernel",
        "The whole process: reading its file, the kernel's commit and, ours, asking the kernel afterwards.",
        Measure::Plain(load::measure),
    ),
    (
        "load while somebody listens",
        "As above, with a program in another network namespace that listens to nf_tables, and without one.",
        Measure::Plain(load::beside_a_listener),
    ),
    (
        "change one of 100,000 CIDRs",
        "Plan, commit and a look whether it is there; 'reload' also reads and parses the file.",
        Measure::Plain(change::measure),
    ),
    (
        "resync with nothing changed",
        "One each second. A process that starts has page faults: none of children means that there was no child.",
        Measure::Plain(service::resync),
    ),
    ("idle", "Default policy and interval, after the first resync.", Measure::Plain(service::idle)),
    ("start to READY", "Default policy.", Measure::Plain(service::start)),
    (
        "questions beside 100,000 CIDRs",
        "The whole process that asks, from its start to its end.",
        Measure::Plain(asking::commands),
    ),
    (
        "a hundred questions each second",
        "By ordinary users, of a service with 100,000 CIDRs, and with the default policy where it repairs.",
        Measure::Plain(asking::crowd),
    ),
    ("repair after 'nft flush ruleset' or 'iptables -t nat -F'", "", Measure::Plain(repair::measure)),
    (
        "repair while others commit",
        "After 'nft flush chain' of our rules ('iptables-nft -t nat -F'), while another program commits ten times a \
         second, or all the time.",
        Measure::Plain(repair::beside_commits),
    ),
];
