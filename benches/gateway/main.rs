//! `make bench`: what the service costs, beside what the Go agent's rules cost, in one run on one machine.
//!
//! Each section measures one thing in labs of its own and returns figures. Ratios are within the run; absolute figures
//! drift with the machine.

#[path = "../../tests/lab/mod.rs"]
mod lab;

mod figure;
mod first_packet;
mod lists;
mod service;

use figure::Figure;
use std::process::ExitCode;

/// The service, built as it is released.
const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");

/// A title, and what measures it.
type Section = (&'static str, fn() -> Vec<Figure>);

const SECTIONS: [Section; 5] = [
    ("first packet of a new flow", first_packet::measure),
    ("memory at rest", service::memory),
    ("start to READY", service::start),
    ("resync with nothing changed", service::resync),
    ("repair after 'iptables -t nat -F'", service::repair),
];

fn main() -> ExitCode {
    if !lab::possible() {
        return ExitCode::FAILURE;
    }
    // `cargo bench` hands over `--bench`; anything else selects sections by a part of their name.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut all = Vec::new();
    println!("{}", figure::HEAD);
    for (title, section) in SECTIONS {
        if !wanted.is_empty() && !wanted.iter().any(|part| title.contains(part.as_str())) {
            continue;
        }
        println!("\n{title}");
        let figures = section();
        figures.iter().for_each(|figure| println!("{figure}"));
        all.push((title, figures));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json");
    if let Err(error) = std::fs::write(path, figure::json(&all)) {
        eprintln!("{path}: {error}");
        return ExitCode::FAILURE;
    }
    println!("\nwritten to {path}");
    ExitCode::SUCCESS
}
