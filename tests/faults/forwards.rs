//! Forwards as a file says them, and where a flow from elsewhere gets to by them: the plainest reading of the manual.

use crate::lab::address;
use crate::random::Random;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// An entry of `portForwards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    first: u16,
    last: u16,
    protocols: &'static [&'static str],
    /// `hostIP`.
    host: Option<Ipv4Addr>,
    target: Ipv4Addr,
    /// The port of the target that `first` becomes.
    port: u16,
    hairpin: &'static str,
    gate: Gate,
    /// Its IPv6 twin leads to the LAN host as well.
    v6: bool,
}

/// Who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// `inInterfaces: [wan0]`.
    Wan,
    /// `sourceCIDRs`: the outside's own address alone.
    OneClient,
}

/// A kind of flow to an address of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    pub client: Ipv4Addr,
    pub host: Ipv4Addr,
    pub port: u16,
    pub tcp: bool,
}

/// Where such a flow got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// At the gateway itself.
    Local,
    /// At a host of the LAN.
    At { target: (Ipv4Addr, u16), source: Ipv4Addr },
}

const WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
const LAN_SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 2);
/// What a client that is masqueraded looks like to the LAN.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

const BOTH: &[&str] = &["tcp", "udp"];
const UDP: &[&str] = &["udp"];
const TCP: &[&str] = &["tcp"];

const fn inbound(client: Ipv4Addr, host: Ipv4Addr, port: u16, tcp: bool) -> Inbound {
    Inbound { client, host, port, tcp }
}

/// Every kind of flow that comes in: from outside, and from the LAN back into it.
pub const INBOUND: [Inbound; 16] = [
    inbound(OUTSIDE, WAN, 7100, false),
    inbound(OUTSIDE, VIP, 7100, false),
    inbound(OUTSIDE, WAN, 7110, false),
    inbound(OTHER_CLIENT, WAN, 7115, false),
    inbound(OUTSIDE, WAN, 7119, true),
    inbound(OUTSIDE, WAN, 7120, false),
    inbound(OUTSIDE, VIP, 7120, false),
    inbound(OTHER_CLIENT, WAN, 7120, true),
    inbound(OUTSIDE, WAN, 7130, true),
    inbound(OUTSIDE, WAN, 7140, false),
    inbound(OTHER_CLIENT, WAN, 7140, false),
    inbound(OUTSIDE, WAN, 7150, false),
    inbound(LAN, WAN, 7100, false),
    inbound(LAN, WAN, 7110, false),
    inbound(LAN_SECOND, WAN, 7100, false),
    inbound(LAN_SECOND, VIP, 7120, false),
];

impl Inbound {
    fn protocol(self) -> &'static str {
        if self.tcp { "tcp" } else { "udp" }
    }

    /// From beyond the gateway, where its answers can be seen.
    pub fn is_from_outside(self) -> bool {
        self.client != LAN && self.client != LAN_SECOND
    }
}

impl Forward {
    /// Some, of every shape, none of which wants another's packets.
    pub fn draw(random: &mut Random, ipv6: bool) -> Vec<Self> {
        type Shape = (u16, u16, Option<Ipv4Addr>, &'static [&'static [&'static str]], &'static [Gate]);
        let shapes: [Shape; 6] = [
            (7100, 7100, None, &[UDP, BOTH], &[Gate::Open]),
            (7110, 7119, None, &[UDP, TCP, BOTH], &[Gate::Open, Gate::Open, Gate::Wan]),
            (7120, 7120, Some(WAN), &[UDP, BOTH], &[Gate::Open, Gate::OneClient]),
            (7120, 7120, None, &[UDP, BOTH], &[Gate::Open]),
            (7130, 7130, None, &[TCP, BOTH], &[Gate::Open, Gate::Wan]),
            (7140, 7140, None, &[UDP, BOTH], &[Gate::Open, Gate::Wan, Gate::OneClient]),
        ];
        let mut forwards = Vec::new();
        for (number, (first, last, host, protocols, gates)) in (1..).zip(shapes) {
            let forward = Forward {
                first,
                last,
                protocols: random.pick(protocols),
                host,
                target: random.pick(&[LAN, LAN_SECOND]),
                // Of its own: what is masqueraded on the way there must not depend on another entry.
                port: if random.once_in(2) && host.is_none() { first } else { 7200 + 20 * number },
                hairpin: random.pick(&["auto", "auto", "always", "never"]),
                gate: random.pick(gates),
                v6: ipv6 && host.is_none() && random.once_in(3),
            };
            forwards.extend(random.once_in(2).then_some(forward));
        }
        forwards
    }

    /// The least one: a UDP port of every address.
    pub fn of_port(port: u16) -> Self {
        Forward {
            first: port,
            last: port,
            protocols: UDP,
            host: None,
            target: LAN,
            port,
            hairpin: "never",
            gate: Gate::Open,
            v6: false,
        }
    }

    /// Another target for the same ports.
    pub fn change(&mut self, random: &mut Random) {
        self.target = if self.target == LAN { LAN_SECOND } else { LAN };
        self.hairpin = random.pick(&["auto", "always", "never"]);
    }

    /// What it does depends on how its target is reached, or flows on when its address came.
    pub fn follows_the_network(&self) -> bool {
        self.hairpin == "auto" || self.protocols.contains(&"udp")
    }

    pub fn yaml(&self) -> String {
        let ports =
            if self.first == self.last { self.first.to_string() } else { format!("{}-{}", self.first, self.last) };
        let mut text =
            format!("  - {{hostPort: {ports}, protocol: [{}], port: {}", self.protocols.join(", "), self.port);
        let _ = write!(text, ", hairpin: {}", self.hairpin);
        let _ = match self.v6 {
            true => write!(text, ", address: [{}, '{}']", self.target, address::LAN[1]),
            false => write!(text, ", address: {}", self.target),
        };
        if let Some(host) = self.host {
            let _ = write!(text, ", hostIP: {host}");
        }
        text += match self.gate {
            Gate::Open => "",
            Gate::Wan => ", inInterfaces: [wan0]",
            Gate::OneClient => ", sourceCIDRs: [203.0.113.9/32]",
        };
        text + "}\n"
    }

    fn is_for(&self, protocol: &str, port: u16) -> bool {
        self.protocols.contains(&protocol) && (self.first..=self.last).contains(&port)
    }

    fn lets(&self, flow: Inbound) -> bool {
        match self.gate {
            Gate::Open => true,
            Gate::Wan => flow.is_from_outside(),
            Gate::OneClient => flow.client == OUTSIDE,
        }
    }

    /// Whether its target sees the gateway instead of a client.
    fn hides(&self, client: Ipv4Addr) -> bool {
        match self.hairpin {
            "always" => true,
            // Both targets are reached through 192.168.77.0/24.
            "auto" => client.octets()[..3] == [192, 168, 77],
            _ => false,
        }
    }
}

/// Where entries lead a flow.
pub fn landing(forwards: &[Forward], flow: Inbound) -> Landing {
    let of = |host| {
        let those = forwards.iter().filter(|forward| forward.host == host);
        those.filter(|forward| forward.is_for(flow.protocol(), flow.port)).collect::<Vec<_>>()
    };
    // An entry with an address goes before one without.
    let asked = Some(of(Some(flow.host))).filter(|some| !some.is_empty()).unwrap_or_else(|| of(None));
    match asked.into_iter().find(|forward| forward.lets(flow)) {
        None => Landing::Local,
        Some(forward) => Landing::At {
            target: (forward.target, forward.port + (flow.port - forward.first)),
            source: if forward.hides(flow.client) { GATEWAY } else { flow.client },
        },
    }
}

/// Addresses of the LAN that a flow may be sent to.
pub fn is_target(address: IpAddr) -> bool {
    address == IpAddr::V4(LAN) || address == IpAddr::V4(LAN_SECOND)
}
