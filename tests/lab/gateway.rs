//! A lab with the service in its gateway, and flows written as a table.

use super::{Agent, Kind, Lab, Probe, parse};
use ip_masq_agent::backend::BackendName;
use std::net::IpAddr;

/// Flags of TCP, RFC 9293.
pub const SYN_ACK: u8 = 0x12;
pub const RST: u8 = 0x04;

/// One backend on trial: its lab, and the service that applies a configuration once and leaves.
pub struct Gateway<'lab> {
    /// The nodes.
    pub lab: &'lab Lab,
    /// The service.
    pub agent: Agent<'lab>,
    backend: BackendName,
}

impl<'lab> Gateway<'lab> {
    /// A gateway whose service uses this backend; no rules yet.
    pub fn new(lab: &'lab Lab, binary: &str, backend: BackendName) -> Self {
        Gateway { lab, agent: Agent::new(&lab.gateway, binary, ""), backend }
    }

    /// The configuration file: the backend, IPv6, and what the test adds.
    pub fn config(&self, keys: &str) -> String {
        format!("backend: {}\nenableIPv6: true\n{keys}", self.backend)
    }

    /// Puts a configuration into the kernel.
    pub fn apply(&self, keys: &str) {
        self.agent.apply(&self.config(keys));
    }

    /// Sends one flow per line and looks which source the far end sees; every wrong line is reported.
    ///
    /// A line is `SENDER SOURCE PROTOCOL DESTINATION SEEN`, SENDER being `lan` or `gateway`, or `gateway@wan0` to
    /// name the interface, and SEEN an address or `same`.
    pub fn check(&self, what: &str, table: &str) {
        let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let wrong: Vec<String> = lines.filter_map(|line| self.check_line(line).err()).collect();
        assert!(wrong.is_empty(), "{}, {what}:\n{}", self.backend, wrong.join("\n"));
    }

    fn check_line(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [sender, source, protocol, destination, expected] = words[..] else { panic!("five words: '{line}'") };
        let mut probe = match protocol {
            "syn-ack" => Probe::new(Kind::Tcp, parse(destination)).with_flags(SYN_ACK),
            "rst" => Probe::new(Kind::Tcp, parse(destination)).with_flags(RST),
            _ => Probe::new(kind(protocol), parse(destination)),
        };
        probe = probe.from(parse(source));
        let node = match sender.split_once('@') {
            Some(("gateway", "wan0")) => {
                probe = probe.through("wan0");
                &self.lab.gateway
            }
            None if sender == "gateway" => &self.lab.gateway,
            None if sender == "lan" => &self.lab.lan,
            _ => panic!("no such sender: '{sender}'"),
        };
        let expected: IpAddr = parse(if expected == "same" { source } else { expected });
        match probe.source_seen(node, &self.lab.observer) {
            Some(seen) if seen == expected => Ok(()),
            Some(seen) => Err(format!("{line}: the far end saw {seen}")),
            None => Err(format!("{line}: nothing arrived")),
        }
    }
}

fn kind(protocol: &str) -> Kind {
    match protocol {
        "tcp" => Kind::Tcp,
        "udp" => Kind::Udp,
        "sctp" => Kind::Sctp,
        "icmp" => Kind::Ping,
        number => Kind::Raw(number.parse().unwrap_or_else(|_| panic!("no such protocol: '{number}'"))),
    }
}
