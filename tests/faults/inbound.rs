//! New flows from elsewhere to the gateway's own addresses, each judged by where it gets to and by the source that the
//! LAN sees; its answer by the source that the client sees.
//!
//! Made by hand, because each has a port of its own: a UDP datagram, or a TCP segment that opens a connection. Some
//! lasting ones send all the while: they have to follow when a forward comes, changes or goes.

use crate::config::Config;
use crate::forwards::{INBOUND, Inbound, Landing, is_target, landing};
use crate::lab::{Lab, Namespace};
use crate::stream::{Epoch, Excused, Shared};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a datagram on its way in begins with, and its answer.
const IN: [u8; 4] = *b"into";
const BACK: [u8; 4] = *b"back";
/// Magic, epoch, sequence, time, kind, whether it is a lasting one.
const LENGTH: usize = 26;
const KINDS: u16 = INBOUND.len() as u16;
/// The ports of clients of new flows; the kind is the remainder.
const FIRST_PORT: u16 = 20_000;
/// So many flows of a kind until a port comes again, which takes a minute.
const PORTS: u64 = 2_000;
/// The port of clients of lasting flows, one each.
const LASTING_PORT: u16 = 19_000;
/// A new flow every so many ticks, and a datagram of a lasting one.
const NEW_EVERY: u32 = 2;
const LASTING_EVERY: u32 = 4;
const UDP: u8 = 17;
const TCP: u8 = 6;
const SYN: u8 = 2;
const RST: u8 = 4;

/// What is known of all of them.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sent from when a policy first had forwards.
    pub wanted: AtomicBool,
    pub sent: AtomicU64,
    pub arrived: AtomicU64,
    latest: AtomicU64,
    /// Answers that came back.
    pub answers: AtomicU64,
    /// Where each lasting flow was last seen.
    lasting: Mutex<[Option<Landing>; INBOUND.len()]>,
}

impl Counts {
    /// True when what was sent until now has arrived.
    pub fn is_at_rest(&self, sent: u64) -> bool {
        self.latest.load(Ordering::SeqCst) >= sent
    }

    fn lasting(&self) -> MutexGuard<'_, [Option<Landing>; INBOUND.len()]> {
        self.lasting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The lasting flows are looked at anew.
    pub fn forget_lasting(&self) {
        *self.lasting() = [None; INBOUND.len()];
    }

    /// Lasting flows that are not where a configuration leads them.
    pub fn astray(&self, config: &Config) -> Vec<String> {
        let seen = *self.lasting();
        let kinds = INBOUND.iter().zip(seen).filter(|(flow, _)| is_lasting(**flow));
        let wrong = kinds.filter_map(|(flow, seen)| {
            let right = landing(&config.forwards, *flow);
            (seen != Some(right)).then(|| format!("{}: {seen:?}, not {right:?}", name(*flow)))
        });
        wrong.collect()
    }
}

fn is_lasting(flow: Inbound) -> bool {
    !flow.tcp && flow.is_from_outside()
}

fn name(flow: Inbound) -> String {
    let protocol = if flow.tcp { "tcp" } else { "udp" };
    format!("{protocol} {} -> {}:{}", flow.client, flow.host, flow.port)
}

/// Sends them; a part of the stream's sender.
pub struct Sender {
    outside: Socket,
    lan: Socket,
    begun: Instant,
    sequence: u64,
    lasting_turn: usize,
}

impl Sender {
    pub fn new(lab: &Lab, begun: Instant) -> Self {
        Sender { outside: raw(&lab.outside), lan: raw(&lab.lan), begun, sequence: 0, lasting_turn: 0 }
    }

    /// What is due at a tick.
    pub fn tick(&mut self, tick: u32, epoch: u32, shared: &Shared) {
        if !shared.inbound.wanted.load(Ordering::SeqCst) {
            return;
        }
        if tick.is_multiple_of(NEW_EVERY) {
            let kind = (self.sequence % u64::from(KINDS)) as usize;
            let port = FIRST_PORT + ((self.sequence / u64::from(KINDS)) % PORTS) as u16 * KINDS + kind as u16;
            self.send(kind, port, epoch, false, shared);
        }
        if tick.is_multiple_of(LASTING_EVERY) {
            let kinds: Vec<usize> = (0..INBOUND.len()).filter(|kind| is_lasting(INBOUND[*kind])).collect();
            let kind = kinds[self.lasting_turn % kinds.len()];
            self.lasting_turn += 1;
            self.send(kind, LASTING_PORT + kind as u16, epoch, true, shared);
        }
    }

    fn send(&mut self, kind: usize, port: u16, epoch: u32, lasting: bool, shared: &Shared) {
        let flow = INBOUND[kind];
        self.sequence += u64::from(!lasting);
        let mut payload = [0; LENGTH];
        payload[..4].copy_from_slice(&IN);
        payload[4..8].copy_from_slice(&epoch.to_be_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        payload[16..24].copy_from_slice(&(self.begun.elapsed().as_nanos() as u64).to_be_bytes());
        payload[24..].copy_from_slice(&[kind as u8, u8::from(lasting)]);
        let packet = packet(flow.tcp, (flow.client, port), (flow.host, flow.port), &payload);
        let socket = if flow.is_from_outside() { &self.outside } else { &self.lan };
        let _ = socket.send_to(&packet, &to(flow.host));
        if !lasting {
            shared.inbound.sent.store(self.sequence, Ordering::SeqCst);
        }
    }
}

/// Sees where they get to, and lets the LAN answer.
pub struct Receiver {
    shared: Arc<Shared>,
    /// What reaches the LAN.
    lan: Socket,
    /// What the gateway takes for itself, by protocol.
    local: [Socket; 2],
    answers: Socket,
}

impl Receiver {
    pub fn new(lab: &Lab, shared: Arc<Shared>) -> Self {
        let local = |protocol: u8| open(Domain::IPV4, Type::RAW, i32::from(protocol));
        Receiver {
            shared,
            lan: lab.lan.enter(|| open(Domain::PACKET, Type::DGRAM, i32::from(0x0800_u16.to_be()))),
            local: lab.gateway.enter(|| [local(UDP), local(TCP)]),
            answers: raw(&lab.lan),
        }
    }

    pub fn run(self) {
        let mut buffer = [0; 2048];
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !self.shared.done.load(Ordering::SeqCst) {
            let sockets = [&self.lan, &self.local[0], &self.local[1]];
            let mut fds = sockets.map(|socket| PollFd::new(socket, PollFlags::IN));
            let _ = poll(&mut fds, Some(&timeout));
            for (index, mut socket) in sockets.into_iter().enumerate() {
                loop {
                    match socket.read(&mut buffer) {
                        Ok(length) => drop(self.see(&buffer[..length], index == 0)),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("a socket of the inbound flows: {error}"),
                    }
                }
            }
        }
    }

    /// `None` for what is none of them.
    fn see(&self, bytes: &[u8], at_lan: bool) -> Option<()> {
        let packet = Packet::read(bytes)?;
        let payload = packet.payload.filter(|payload| payload[..4] == IN)?;
        let kind = usize::from(payload[24]);
        let field = |from: usize| payload[from..from + 8].try_into().map(u64::from_be_bytes).ok();
        let (epoch, sequence, at) = (u32::from_be_bytes(payload[4..8].try_into().ok()?), field(8)?, field(16)?);
        let seen = match at_lan {
            true => Landing::At { target: packet.to, source: packet.from.0 },
            false => Landing::Local,
        };
        let flow = *INBOUND.get(kind)?;
        let lasting = payload[25] != 0;
        if at_lan && !flow.tcp && flow.is_from_outside() && is_target(IpAddr::V4(packet.to.0)) {
            self.answer(&packet, payload);
        }
        if lasting {
            self.shared.inbound.lasting()[kind] = Some(seen);
            return Some(());
        }
        self.shared.judge_inbound(epoch, at, flow, seen);
        self.shared.inbound.arrived.fetch_add(1, Ordering::SeqCst);
        self.shared.inbound.latest.fetch_max(sequence, Ordering::SeqCst);
        Some(())
    }

    fn answer(&self, packet: &Packet<'_>, payload: &[u8; LENGTH]) {
        let mut answer = *payload;
        answer[..4].copy_from_slice(&BACK);
        let answer = self::packet(false, packet.to, packet.from, &answer);
        let _ = self.answers.send_to(&answer, &to(packet.from.0));
    }
}

impl Shared {
    fn judge_inbound(&self, epoch: u32, at: u64, flow: Inbound, seen: Landing) {
        let epoch = self.epoch(epoch);
        if is_right(&epoch, flow, seen) {
            return;
        }
        if is_excused(&epoch, flow, seen) {
            return self.in_hole(at);
        }
        let right: Vec<Landing> = epoch.right.iter().map(|config| led(config, flow)).collect();
        self.wrong(at, &format!("{}: {} got to {seen:?}, not {right:?}", epoch.name, name(flow)));
    }

    /// What the outside sees of answers: `None` for what is none of them.
    pub fn judge_answer(&self, bytes: &[u8]) -> Option<()> {
        let packet = Packet::read(bytes)?;
        let answer = packet.payload.filter(|payload| payload[..4] == BACK);
        // The LAN host itself refuses a connection; its segment carries nothing.
        let is_refusal =
            packet.flags & RST != 0 && (FIRST_PORT..FIRST_PORT + PORTS as u16 * KINDS).contains(&packet.to.1);
        let kind = match answer {
            Some(answer) => usize::from(answer[24]),
            None if is_refusal => usize::from((packet.to.1 - FIRST_PORT) % KINDS),
            None => return None,
        };
        let flow = *INBOUND.get(kind)?;
        self.inbound.answers.fetch_add(1, Ordering::SeqCst);
        if packet.from == (flow.host, flow.port) {
            return Some(());
        }
        let at = answer.and_then(|answer| answer[16..24].try_into().map(u64::from_be_bytes).ok()).unwrap_or_default();
        if let Some(answer) = answer {
            let epoch = self.epoch(u32::from_be_bytes(answer[4..8].try_into().ok()?));
            // What the kernel is made to forget between a datagram and its answer makes a new flow of the answer.
            if answer[25] != 0 || epoch.excused != Excused::Nothing || epoch.right.len() > 1 {
                return Some(());
            }
        }
        self.wrong(at, &format!("the answer to {} came from {:?}", name(flow), packet.from));
        Some(())
    }
}

fn led(config: &Option<Arc<Config>>, flow: Inbound) -> Landing {
    config.as_ref().map_or(Landing::Local, |config| landing(&config.forwards, flow))
}

fn is_right(epoch: &Epoch, flow: Inbound, seen: Landing) -> bool {
    epoch.right.iter().any(|config| {
        let right = led(config, flow);
        // A packet that is on its way while one policy follows the other meets one at the first hook and the other at
        // the last: where it goes is right by one of them.
        let between = epoch.right.len() > 1 && target(right).is_some() && target(right) == target(seen);
        right == seen || between
    })
}

fn is_excused(epoch: &Epoch, flow: Inbound, seen: Landing) -> bool {
    let kept = |config| match (led(config, flow), seen) {
        (_, Landing::Local) => true,
        (right, Landing::At { source, .. }) => target(right) == target(seen) && source == flow.client,
    };
    match epoch.excused {
        Excused::Nothing => false,
        Excused::Kept => epoch.right.iter().any(kept),
        Excused::Anything => true,
    }
}

fn target(landing: Landing) -> Option<(Ipv4Addr, u16)> {
    match landing {
        Landing::Local => None,
        Landing::At { target, .. } => Some(target),
    }
}

/// An IPv4 packet (RFC 791) with UDP (RFC 768) or TCP (RFC 9293) in it.
struct Packet<'packet> {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    /// Those of TCP, 0 of UDP.
    flags: u8,
    /// The last bytes, which are all of it in ours.
    payload: Option<&'packet [u8; LENGTH]>,
}

impl<'packet> Packet<'packet> {
    fn read(bytes: &'packet [u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 15) * 4;
        let protocol = *bytes.get(9)?;
        if bytes[0] >> 4 != 4 || ![UDP, TCP].contains(&protocol) {
            return None;
        }
        let segment = bytes.get(header..)?;
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
        Some(Packet {
            from: (address(12)?, port(0)?),
            to: (address(16)?, port(2)?),
            flags: if protocol == TCP { *segment.get(13)? } else { 0 },
            payload: segment.len().checked_sub(LENGTH).and_then(|at| segment[at..].try_into().ok()),
        })
    }
}

/// The same to be sent; the kernel fills in what a raw socket leaves to it (raw(7)).
fn packet(tcp: bool, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    if tcp {
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let sum = checksum(from.0, to.0, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
    } else {
        // Without a checksum, which IPv4 allows.
        segment.extend((8 + payload.len() as u16).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(payload);
    }
    let length = (20 + segment.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, if tcp { TCP } else { UDP }, 0, 0];
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    packet.extend(segment);
    packet
}

/// That of TCP over IPv4 (RFC 9293, 3.1).
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let mut bytes = [&from.octets()[..], &to.octets(), &[0, TCP], &(segment.len() as u16).to_be_bytes()].concat();
    bytes.extend(segment);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn to(address: Ipv4Addr) -> SockAddr {
    SocketAddr::new(IpAddr::V4(address), 0).into()
}

fn raw(node: &Namespace) -> Socket {
    // IPPROTO_RAW: what is sent begins with its own header.
    node.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("a raw socket"))
}

fn open(domain: Domain, kind: Type, protocol: i32) -> Socket {
    let socket = Socket::new(domain, kind, Some(Protocol::from(protocol))).expect("a socket");
    set_socket_recv_buffer_size_force(&socket, 16 << 20).expect("a receive buffer");
    socket.set_nonblocking(true).expect("a non-blocking socket");
    socket
}

/// For how long a lasting flow may need to follow.
pub const FOLLOWS: Duration = Duration::from_secs(5);

#[test]
fn inbound_flows_that_get_elsewhere_are_seen_new_ones_and_lasting_ones() {
    use crate::forwards::Forward;
    use crate::lab::DEADLINE;
    use crate::stream::Stream;
    use ip_masq_agent::backend::BackendName;
    let Some(lab) = Lab::build() else { return };
    let stream = Stream::start(&lab, 1000);
    let forwards = vec![Forward::of_port(7100), Forward::of_port(7130)];
    let config = Arc::new(Config { forwards, ..Config::plain(BackendName::Nftables) });
    let begin = |name: &str, right: &[Option<Arc<Config>>], excused| {
        stream.begin(Epoch { name: name.to_owned(), right: right.to_vec(), excused });
    };
    let both = [None, Some(config.clone())];
    // The stream's own flows are not masqueraded here, and are excused: it is the inbound ones that are looked for.
    begin("no rules", &both, Excused::Nothing);
    stream.wait(DEADLINE, || stream.totals().inbound > 100);
    assert_eq!(stream.take_wrong(), None);
    assert!(stream.astray(&config).iter().any(|flow| flow.contains(":7100: Some(Local)")));
    let rules = "table ip t {\n chain c {\n type nat hook prerouting priority -100;\n udp dport 7100 dnat to 192.168.77.2\n \
                 udp dport 7110 dnat to 192.168.78.2\n }\n}\n";
    lab.gateway.run_with_input("nft", &["-f", "-"], rules);
    stream.wait(DEADLINE, || stream.totals().wrong > 10 && stream.totals().answers > 10);
    let wrong = stream.take_wrong().expect("flows that got elsewhere");
    assert!(wrong.contains("203.0.113.1:7110 got to At { target: (192.168.78.2, 7110)"), "{wrong}");
    assert!(!wrong.contains("the answer to"), "{wrong}");
}
