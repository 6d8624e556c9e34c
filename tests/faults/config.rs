//! A configuration as a file says it, and what it means for a flow by the plainest reading of the manual.
//!
//! Nothing of the product is used to decide here: this is the expectation that the kernel is held to.

use crate::forwards::Forward;
use crate::lab::address;
use crate::random::Random;
use ip_masq_agent::backend::BackendName;
use ip_masq_agent::policy::{AddressRange, Flow, Protocol, Verdict};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: u128,
    pub v6: bool,
    length: u8,
}

impl Cidr {
    /// Reads one that is known to be right.
    pub fn of(text: &str) -> Self {
        let (address, length) = text.split_once('/').expect("ADDRESS/LENGTH");
        let address: IpAddr = address.parse().expect("an address");
        Cidr { address: number(address), v6: address.is_ipv6(), length: length.parse().expect("a length") }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let unused = if self.v6 { 128 - self.length } else { 32 - self.length };
        self.v6 == address.is_ipv6()
            && number(address).checked_shr(unused.into()).unwrap_or(0)
                == self.address.checked_shr(unused.into()).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.v6 {
            true => write!(f, "{}/{}", std::net::Ipv6Addr::from(self.address), self.length),
            false => write!(f, "{}/{}", std::net::Ipv4Addr::from(self.address as u32), self.length),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// A long list of exempt networks: so many /28 of 100.64.0.0/10, every second one, so that nothing can be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ladder {
    /// How many are left out at the beginning.
    pub from: u32,
    /// How many there are.
    pub count: u32,
}

impl Ladder {
    const BASE: u32 = 0x6440_0000;
    const STEP: u32 = 32;

    pub fn cidrs(self) -> impl Iterator<Item = Cidr> {
        let address = |number: u32| u128::from(Self::BASE + number * Self::STEP);
        (self.from..self.from + self.count).map(move |number| Cidr { address: address(number), v6: false, length: 28 })
    }

    /// The same in IPv6: every second /64 of fd64::/32.
    fn cidrs_v6(self) -> impl Iterator<Item = Cidr> {
        let network =
            |number: u32| Cidr { address: u128::from(Self::rung_v6(number, true)) << 64, v6: true, length: 64 };
        (self.from..self.from + self.count).map(network)
    }

    const fn rung_v6(number: u32, inside: bool) -> u64 {
        (0xfd64 << 48) + 2 * number as u64 + !inside as u64
    }

    fn contains_v6(self, address: IpAddr) -> bool {
        let IpAddr::V6(v6) = address else { return false };
        let offset = ((u128::from(v6) >> 64) as u64).checked_sub(Self::rung_v6(0, true));
        let rungs = u64::from(self.from)..u64::from(self.from + self.count);
        offset.is_some_and(|offset| offset % 2 == 0 && rungs.contains(&(offset / 2)))
    }

    /// An address in the IPv6 network of a number, or between that and the next one.
    pub fn address_v6(number: u32, inside: bool, host: u64) -> IpAddr {
        std::net::Ipv6Addr::from(u128::from(Self::rung_v6(number, inside)) << 64 | u128::from(host)).into()
    }

    /// True for what lies in one of its networks.
    fn contains(self, address: IpAddr) -> bool {
        let IpAddr::V4(v4) = address else { return false };
        let Some(offset) = u32::from(v4).checked_sub(Self::BASE).filter(|offset| *offset < 1 << 22) else {
            return false;
        };
        let number = offset / Self::STEP;
        offset % Self::STEP < Self::STEP / 2 && (self.from..self.from + self.count).contains(&number)
    }

    /// An address in the network of a number, or between that and the next one.
    pub fn address(number: u32, inside: bool, host: u32) -> IpAddr {
        let half = Self::STEP / 2;
        std::net::Ipv4Addr::from(Self::BASE + number * Self::STEP + if inside { 0 } else { half } + host % half).into()
    }
}

/// What a configuration file says. Two things are in all of them: 10.20.0.0/16 is exempt, and a flow from the LAN to
/// 198.18.0.0/15 is masqueraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub backend: BackendName,
    pub ipv6: bool,
    /// `tableOwner: persist`.
    pub owner: bool,
    /// `jumpPosition: first`.
    pub first: bool,
    /// `ruleWatch: poll`.
    pub poll: bool,
    /// `resyncInterval`, in seconds.
    pub resync: u32,
    pub exempt: Vec<Cidr>,
    pub ladder: Ladder,
    pub ladder_v6: Ladder,
    pub exceptions: Vec<Cidr>,
    pub sources: Vec<Cidr>,
    pub excluded: Vec<Cidr>,
    pub out: Vec<&'static str>,
    pub link_local: bool,
    pub random_fully: bool,
    /// `snat`: the addresses of the uplink instead of `masquerade`, which is the same to the far end.
    pub fixed: bool,
    /// `exemptMarks`: one that no packet here bears.
    pub marks: bool,
    /// `onRepair: forget`.
    pub forget: bool,
    pub egress: Egress,
    pub forwards: Vec<Forward>,
}

/// What `egress` says of the LAN's second network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    Nothing,
    /// Its flows keep their source.
    Keeps,
    /// It has a short list of its own.
    OwnList,
}

/// The LAN's second network.
const SECOND: &str = "192.168.78.0/24";

/// Exempt whatever a configuration says.
pub const ALWAYS_EXEMPT: &str = "10.20.0.0/16";
/// The IPv6 range that is exempt while IPv6 is on.
const EXEMPT_V6: &str = "fd20::/16";
/// An exception in the middle of what is exempt.
pub const EXCEPTION: &str = "10.20.99.0/24";
/// Exempt in some.
const SOMETIMES: [&str; 4] = ["192.168.0.0/16", "198.51.100.0/24", "100.127.0.0/16", "11.0.0.0/8"];

impl Config {
    /// The least one.
    pub fn plain(backend: BackendName) -> Self {
        Config {
            backend,
            ipv6: true,
            owner: false,
            first: false,
            poll: false,
            resync: 3600,
            exempt: vec![Cidr::of(ALWAYS_EXEMPT), Cidr::of(EXEMPT_V6)],
            ladder: Ladder::default(),
            ladder_v6: Ladder::default(),
            exceptions: Vec::new(),
            sources: Vec::new(),
            excluded: Vec::new(),
            out: Vec::new(),
            link_local: false,
            random_fully: true,
            fixed: false,
            marks: false,
            forget: false,
            egress: Egress::Nothing,
            forwards: Vec::new(),
        }
    }

    /// Any one for a backend.
    pub fn draw(random: &mut Random, backend: BackendName) -> Self {
        // From choices of their own: the seeds that are kept mean what they meant before there were forwards.
        let mut of_forwards = Random::new(random.clone().next());
        let ipv6 = !random.once_in(3);
        let forwards = if of_forwards.once_in(2) { Forward::draw(&mut of_forwards, ipv6) } else { Vec::new() };
        let mut exempt = vec![Cidr::of(ALWAYS_EXEMPT)];
        exempt.extend(ipv6.then(|| Cidr::of(EXEMPT_V6)));
        exempt.extend(SOMETIMES.into_iter().filter(|_| random.once_in(3)).map(Cidr::of));
        let count = random.pick(&[0, 0, 5, 200, 200, 1_000, 5_000]);
        let mut chosen = |times, cidr| if random.once_in(times) { vec![Cidr::of(cidr)] } else { Vec::new() };
        let (exceptions, mut sources) = (chosen(3, EXCEPTION), chosen(3, "192.168.77.0/24"));
        let excluded = chosen(4, "192.168.78.0/24");
        if ipv6 && !sources.is_empty() {
            sources.push(Cidr::of("fd00:77::/64"));
        }
        Config {
            backend,
            ipv6,
            owner: backend == BackendName::Nftables && random.once_in(4),
            first: random.once_in(4),
            poll: random.once_in(4),
            resync: random.pick(&[1, 2, 3600, 3600]),
            exempt,
            ladder: Ladder { from: random.below(4) as u32, count },
            ladder_v6: Ladder::default(),
            exceptions,
            sources,
            excluded,
            out: random.pick(&[&[][..], &[], &["wan0"], &["wan+"], &["!eth9"], &["wan0", "eth9"]]).to_vec(),
            link_local: random.once_in(4),
            random_fully: !random.once_in(6),
            fixed: random.once_in(4),
            marks: random.once_in(4),
            forget: random.once_in(3),
            egress: random.pick(&[Egress::Nothing, Egress::Nothing, Egress::Keeps, Egress::OwnList]),
            forwards,
        }
    }

    /// The file. `fragment` is what a file of `config.d` adds to it.
    pub fn yaml(&self) -> String {
        let mut text = format!(
            "backend: {}\nenableIPv6: {}\njumpPosition: {}\nruleWatch: {}\nresyncInterval: {}s\nrandomFully: {}\nmasqLinkLocal: {}\n",
            self.backend,
            self.ipv6,
            if self.first { "first" } else { "last" },
            if self.poll { "poll" } else { "events" },
            self.resync,
            self.random_fully,
            self.link_local,
        );
        if self.backend == BackendName::Nftables {
            let _ = writeln!(text, "tableOwner: {}", if self.owner { "persist" } else { "never" });
        }
        if self.fixed {
            let [v4, v6] = address::WAN0;
            let _ = if self.ipv6 { writeln!(text, "snat: ['{v4}', '{v6}']") } else { writeln!(text, "snat: {v4}") };
        }
        let _ = writeln!(text, "onRepair: {}", if self.forget { "forget" } else { "report" });
        text += if self.marks { "exemptMarks: [0x4000/0x4000]\n" } else { "" };
        match self.egress {
            Egress::Nothing => {}
            Egress::Keeps => _ = writeln!(text, "egress: [{{name: second, sourceCIDRs: ['{SECOND}'], snat: none}}]"),
            Egress::OwnList => {
                let own = format!("nonMasqueradeCIDRs: ['{ALWAYS_EXEMPT}']");
                let _ = writeln!(text, "egress: [{{name: second, sourceCIDRs: ['{SECOND}'], {own}}}]");
            }
        }
        if !self.forwards.is_empty() {
            text += "portForwards:\n";
            text.extend(self.forwards.iter().map(Forward::yaml));
        }
        let out: Vec<String> = self.out.iter().map(|name| format!("'{name}'")).collect();
        let _ = writeln!(text, "outInterfaces: [{}]", out.join(", "));
        let lists = [
            ("masqueradeExceptionCIDRs", &self.exceptions),
            ("sourceCIDRs", &self.sources),
            ("excludeSourceCIDRs", &self.excluded),
        ];
        for (key, list) in lists {
            let list: Vec<String> = list.iter().map(|cidr| format!("'{cidr}'")).collect();
            let _ = writeln!(text, "{key}: [{}]", list.join(", "));
        }
        text += "nonMasqueradeCIDRs:\n";
        for cidr in self.exempt.iter().copied().chain(self.ladder.cidrs()).chain(self.ladder_v6.cidrs_v6()) {
            let _ = writeln!(text, "  - '{cidr}'");
        }
        text
    }

    /// True when the policy masquerades a flow: the order of the manual, first match wins.
    pub fn masquerades(&self, flow: &Flow) -> bool {
        let within = |list: &[Cidr], address: Option<IpAddr>| {
            address.is_some_and(|address| list.iter().any(|cidr| cidr.contains(address)))
        };
        let destination = Some(flow.destination);
        if flow.destination.is_ipv6() && !self.ipv6 {
            return false;
        }
        let is_second = within(&[Cidr::of(SECOND)], flow.source);
        let entry = if is_second { self.egress } else { Egress::Nothing };
        if entry == Egress::Keeps {
            return false;
        }
        if entry == Egress::Nothing && !self.is_in_scope(flow) {
            return false;
        }
        let goes_on = flow.protocol == Protocol::Tcp && !flow.opens_connection;
        if flow.source_on_out_interface || flow.source_is_local && goes_on {
            return false;
        }
        if within(&self.exceptions, destination) {
            return true;
        }
        let link_local = ["169.254.0.0/16", "fe80::/10"].map(Cidr::of);
        let multicast = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"].map(Cidr::of);
        let is_link_local = within(&link_local, destination) && (flow.destination.is_ipv6() || !self.link_local);
        let is_exempt = match entry {
            Egress::OwnList => within(&[Cidr::of(ALWAYS_EXEMPT)], destination),
            _ => {
                within(&self.exempt, destination)
                    || self.ladder.contains(flow.destination)
                    || self.ladder_v6.contains_v6(flow.destination)
            }
        };
        !(is_link_local || within(&multicast, destination) || is_exempt)
    }

    /// True when the top level is about a flow.
    fn is_in_scope(&self, flow: &Flow) -> bool {
        let within = |list: &[Cidr]| flow.source.is_some_and(|source| list.iter().any(|cidr| cidr.contains(source)));
        self.leaves_in_scope(flow.out_interface.as_deref().unwrap_or_default())
            && (self.sources.is_empty() || within(&self.sources))
            && !within(&self.excluded)
    }

    /// What the rules should make of a flow.
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        match self.masquerades(flow) {
            false => Verdict::Return,
            true if !self.fixed => Verdict::Masquerade,
            true => {
                let address = address::WAN0[usize::from(flow.destination.is_ipv6())];
                Verdict::Snat(address.parse::<AddressRange>().expect("an address"))
            }
        }
    }

    fn leaves_in_scope(&self, interface: &str) -> bool {
        let is = |pattern: &str| match pattern.strip_suffix('+') {
            Some(prefix) => interface.starts_with(prefix),
            None => interface == pattern,
        };
        let (but, only): (Vec<&str>, Vec<&str>) = self.out.iter().partition(|pattern| pattern.starts_with('!'));
        !but.iter().any(|pattern| is(&pattern[1..])) && (only.is_empty() || only.iter().any(|pattern| is(pattern)))
    }

    /// Flows that between them go through every statement of it.
    pub fn probes(&self) -> Vec<Flow> {
        let mut destinations: Vec<IpAddr> = [
            "10.20.0.0",
            "10.20.255.255",
            "10.21.0.0",
            "10.20.99.1",
            "198.18.0.1",
            "169.254.7.7",
            "192.168.200.1",
            "198.51.100.7",
            "100.127.0.1",
            "11.1.1.1",
            "8.8.8.8",
            "224.0.0.18",
            "255.255.255.255",
            "fd20::1",
            "fd21::1",
            "2001:db8:5::5",
            "fe80::7",
            "ff02::12",
        ]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect();
        let Ladder { from, count } = self.ladder;
        let last = (from + count).saturating_sub(1);
        for number in [from.saturating_sub(1), from, from + count / 2, last, last + 1] {
            destinations.extend([Ladder::address(number, true, 0), Ladder::address(number, true, 15)]);
            destinations.push(Ladder::address(number, false, 0));
        }
        let Ladder { from, count } = self.ladder_v6;
        for number in [from, from + count / 2, (from + count).saturating_sub(1), from + count] {
            destinations.extend([true, false].map(|inside| Ladder::address_v6(number, inside, 7)));
        }
        let mut flows = Vec::new();
        for destination in destinations {
            let family = usize::from(destination.is_ipv6());
            for source in [address::LAN[family], address::LAN_SECOND[family]] {
                flows.push(flow(source.parse().expect("an address"), destination));
            }
        }
        // And of the gateway itself: from the interface that it leaves by, from another one, a new and an old connection.
        for destination in ["198.18.0.1", "2001:db8:5::5"].map(|text| text.parse::<IpAddr>().expect("an address")) {
            let family = usize::from(destination.is_ipv6());
            let of =
                |source: &str| Flow { source_is_local: true, ..flow(source.parse().expect("an address"), destination) };
            flows.push(Flow { source_on_out_interface: true, ..of(address::LAN[family]) });
            let inside = Flow { protocol: Protocol::Tcp, ..of(address::LAN[family]) };
            flows.push(Flow { opens_connection: true, ..inside.clone() });
            flows.push(inside);
        }
        flows
    }
}

/// A forwarded datagram that leaves by the default route.
pub fn flow(source: IpAddr, destination: IpAddr) -> Flow {
    Flow {
        source: Some(source),
        source_is_local: false,
        source_on_out_interface: false,
        out_interface: Some("wan0".to_owned()),
        destination,
        protocol: Protocol::Udp,
        opens_connection: false,
        ..Flow::forwarded_to(destination)
    }
}
