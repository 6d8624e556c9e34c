//! New flows through the gateway, thousands a second, each judged by the source that the far end sees.
//!
//! A flow is one datagram to a destination and port that no flow of the last seconds had. It carries the number of the
//! epoch in which it was sent, and an epoch says what may happen to its flows. Some lasting flows send all the while: one
//! that was first tracked under the wrong rules would keep the wrong source for as long as it lives.

use crate::config::{Config, Ladder, flow};
use crate::inbound::{self, Counts, FOLLOWS};
use crate::lab::{DEADLINE, Lab, Namespace, address, parse};
use crate::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What may happen to the flows of an epoch.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// What messages call it.
    pub name: String,
    /// A flow is right when one of these policies would do that to it; `None` is a gateway without our rules.
    pub right: Vec<Option<Arc<Config>>>,
    /// What another program's change excuses. Such a flow is counted as part of a hole.
    pub excused: Excused,
}

/// What another program's change may do to flows until it is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Excused {
    #[default]
    Nothing,
    /// Our rules are gone: every flow may keep its source, none may be masqueraded that should not be.
    Kept,
    /// Our rules say something else.
    Anything,
}

/// The flows that another program's change cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hole {
    pub flows: u64,
    first: u64,
    last: u64,
}

impl Hole {
    /// From the first flow with the wrong source to the last.
    pub fn lasted(self) -> Duration {
        Duration::from_nanos(self.last - self.first)
    }

    fn add(&mut self, at: u64) {
        self.first = if self.flows == 0 { at } else { self.first.min(at) };
        self.last = self.last.max(at);
        self.flows += 1;
    }
}

/// What came of all flows so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Datagrams, those of the lasting flows included.
    pub sent: u64,
    pub arrived: u64,
    /// Flows that arrived.
    pub flows: u64,
    pub wrong: u64,
    pub in_holes: u64,
    /// Flows from elsewhere to the gateway itself, and answers to them that came back.
    pub inbound: u64,
    pub answers: u64,
}

#[derive(Debug)]
pub struct Shared {
    epochs: Mutex<Vec<Epoch>>,
    /// The epoch that the sender shall use, and the one that it uses.
    wanted: AtomicU32,
    used: AtomicU32,
    /// A socket of new lasting flows, for the sender to take.
    fresh: Mutex<Option<UdpSocket>>,
    /// Among so many rungs of the ladder new flows go.
    span: AtomicU32,
    /// And of that of IPv6; 0 for none.
    span_v6: AtomicU32,
    sent: AtomicU64,
    arrived: AtomicU64,
    flows: AtomicU64,
    /// How each lasting flow that every policy masquerades arrived the last time: [`UNSEEN`], [`MASQUERADED`] or [`KEPT`].
    lasting: [AtomicU8; LASTING],
    latest: AtomicU64,
    pub inbound: Counts,
    pub done: AtomicBool,
    judged: Mutex<Judged>,
}

#[derive(Debug, Default)]
struct Judged {
    wrong: u64,
    samples: Vec<String>,
    hole: Hole,
    in_holes: u64,
}

impl Shared {
    fn new() -> Self {
        Shared {
            epochs: Mutex::default(),
            wanted: AtomicU32::default(),
            used: AtomicU32::default(),
            fresh: Mutex::default(),
            lasting: [const { AtomicU8::new(UNSEEN) }; LASTING],
            span: AtomicU32::default(),
            span_v6: AtomicU32::default(),
            sent: AtomicU64::default(),
            arrived: AtomicU64::default(),
            flows: AtomicU64::default(),
            latest: AtomicU64::default(),
            inbound: Counts::default(),
            done: AtomicBool::default(),
            judged: Mutex::default(),
        }
    }

    pub fn epoch(&self, number: u32) -> Epoch {
        lock(&self.epochs)[number as usize].clone()
    }

    pub fn in_hole(&self, at: u64) {
        let mut judged = lock(&self.judged);
        judged.in_holes += 1;
        judged.hole.add(at);
    }

    /// Counts a flow that got what it should not get, sent at that time.
    pub fn wrong(&self, at: u64, what: &str) {
        let mut judged = lock(&self.judged);
        judged.wrong += 1;
        if judged.samples.len() < MOST_SAMPLES {
            judged.samples.push(format!("{what}, {:.3?}", Duration::from_nanos(at)));
        }
    }
}

/// The stream. Dropping it ends it.
pub struct Stream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    lost_at_first: u64,
}

/// What a datagram of ours begins with.
const MAGIC: [u8; 4] = *b"flow";
const TICK: Duration = Duration::from_millis(1);
/// More than so many ticks behind, the rest is given up: a starved sender must not send a flood afterwards.
const MOST_BEHIND: u32 = 20;
const SOURCES: [&str; 3] = [address::LAN[0], address::LAN_SECOND[0], address::LAN[1]];
/// The length of a datagram. It ends with the number of its source and that of its lasting flow.
const DATAGRAM: usize = 26;
/// The number of a new flow, and of the lasting flow that is always exempt; others are always masqueraded.
const NEW: u8 = u8::MAX;
const EXEMPT: u8 = u8::MAX - 1;
const MOST_SAMPLES: usize = 5;
const EXEMPT_DESTINATION: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 1, 1));
const DESTINATION: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 1));
const LASTING: usize = 48;
/// So many of them send at each tick, in turn: it is the packets that meet a gap.
const LASTING_PER_TICK: usize = 3;
/// The port of the first of them; no new flow has it at these destinations.
const FIRST_PORT: u16 = 7;
const UNSEEN: u8 = 0;
const MASQUERADED: u8 = 1;
const KEPT: u8 = 2;

impl Stream {
    /// Begins to send, through a gateway that has no rules.
    pub fn start(lab: &Lab, per_second: u32) -> Self {
        // Nobody answers, not even with ICMP errors.
        lab.outside.ip("route add blackhole 0.0.0.0/0\nroute add blackhole ::/0\n");
        // The tuples come round again after some seconds.
        lab.gateway.sysctl("net/netfilter/nf_conntrack_udp_timeout", "1");
        let shared = Arc::new(Shared::new());
        lock(&shared.epochs).push(Epoch { right: vec![None], ..Epoch::default() });
        let begun = Instant::now();
        let receiver = Receiver::new(&lab.outside, shared.clone());
        let at_lan = inbound::Receiver::new(lab, shared.clone());
        shared.span.store(16, Ordering::Relaxed);
        let sender = Sender {
            shared: shared.clone(),
            per_tick: per_second / 1000,
            begun,
            sockets: sockets(&lab.lan, SOURCES),
            lasting: lasting(lab),
            inbound: inbound::Sender::new(lab, begun),
            turn: 0,
            random: Random::new(1),
            sequence: 0,
        };
        let threads = vec![
            std::thread::spawn(move || receiver.run()),
            std::thread::spawn(move || at_lan.run()),
            std::thread::spawn(move || sender.run()),
        ];
        let mut stream = Stream { shared, threads, lost_at_first: 0 };
        if per_second > 0 {
            // A link that has just come up carries nothing for a moment.
            stream.wait(DEADLINE, || stream.shared.arrived.load(Ordering::SeqCst) > 0);
            stream.begin(Epoch { right: vec![None], ..Epoch::default() });
            let totals = stream.totals();
            stream.lost_at_first = totals.sent.saturating_sub(totals.arrived);
        }
        stream
    }

    /// From when this returns on, every flow is sent in this epoch, and those of the one before have arrived.
    pub fn begin(&self, epoch: Epoch) {
        let number = {
            let mut epochs = lock(&self.shared.epochs);
            for config in epoch.right.iter().flatten() {
                self.shared.span.store(config.ladder.from + config.ladder.count + 2, Ordering::Relaxed);
                if let Ladder { from, count: count @ 1.. } = config.ladder_v6 {
                    self.shared.span_v6.store(from + count + 2, Ordering::Relaxed);
                }
                if !config.forwards.is_empty() {
                    self.shared.inbound.wanted.store(true, Ordering::SeqCst);
                }
            }
            epochs.push(epoch);
            epochs.len() as u32 - 1
        };
        self.shared.wanted.store(number, Ordering::SeqCst);
        // On a machine that is busy both take their time, and a flow must not be judged by another epoch than its own.
        self.wait(DEADLINE, || self.shared.used.load(Ordering::SeqCst) == number);
        assert_eq!(self.shared.used.load(Ordering::SeqCst), number, "the sender stands still");
        let sent = self.shared.sent.load(Ordering::SeqCst);
        let sent_in = self.shared.inbound.sent.load(Ordering::SeqCst);
        self.wait(DEADLINE, || {
            self.shared.latest.load(Ordering::SeqCst) >= sent && self.shared.inbound.is_at_rest(sent_in)
        });
    }

    /// Lasting flows from elsewhere that do not get to where a configuration leads them; they are given time to follow.
    pub fn astray(&self, config: &Config) -> Vec<String> {
        let inbound = &self.shared.inbound;
        if !inbound.wanted.load(Ordering::SeqCst) {
            return Vec::new();
        }
        inbound.forget_lasting();
        self.wait(FOLLOWS, || inbound.astray(config).is_empty());
        inbound.astray(config)
    }

    /// The lasting flows are new ones from now on.
    pub fn renew(&self, lab: &Lab) {
        *lock(&self.shared.fresh) = Some(lasting(lab));
    }

    /// How many of the lasting flows that every policy here masquerades go on with their own source, once each has been
    /// seen again; they are given time to stop that.
    pub fn stuck(&self, patience: Duration) -> usize {
        let all = &self.shared.lasting;
        let count = |state| all.iter().filter(|flow| flow.load(Ordering::SeqCst) == state).count();
        all.iter().for_each(|flow| flow.store(UNSEEN, Ordering::SeqCst));
        self.wait(patience, || count(MASQUERADED) == all.len());
        count(KEPT)
    }

    pub fn wait(&self, patience: Duration, arrived: impl Fn() -> bool) {
        let end = Instant::now() + patience;
        while !arrived() && Instant::now() < end {
            std::thread::park_timeout(TICK / 4);
        }
    }

    /// The hole of the epochs since this was last asked.
    pub fn take_hole(&self) -> Option<Hole> {
        let mut judged = lock(&self.shared.judged);
        Some(std::mem::take(&mut judged.hole)).filter(|hole| hole.flows > 0)
    }

    /// Flows with a wrong source since this was last asked: how many there are in all, and some of them.
    pub fn take_wrong(&self) -> Option<String> {
        let mut judged = lock(&self.shared.judged);
        let samples = std::mem::take(&mut judged.samples);
        (!samples.is_empty()).then(|| format!("{} so far, such as\n    {}", judged.wrong, samples.join("\n    ")))
    }

    /// How many of those that were sent until now do not arrive. On a machine that is busy they take their time.
    pub fn missing(&self) -> u64 {
        let sent = self.totals().sent;
        self.wait(DEADLINE / 5, || self.totals().arrived >= sent);
        sent.saturating_sub(self.totals().arrived)
    }

    pub fn totals(&self) -> Totals {
        let judged = lock(&self.shared.judged);
        let inbound = &self.shared.inbound;
        let arrived_in = inbound.arrived.load(Ordering::SeqCst);
        let sent = self.shared.sent.load(Ordering::SeqCst).saturating_sub(self.lost_at_first);
        Totals {
            sent: sent + inbound.sent.load(Ordering::SeqCst),
            arrived: self.shared.arrived.load(Ordering::SeqCst) + arrived_in,
            flows: self.shared.flows.load(Ordering::SeqCst),
            inbound: arrived_in,
            answers: inbound.answers.load(Ordering::SeqCst),
            wrong: judged.wrong,
            in_holes: judged.in_holes,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The source of the lasting flows.
fn lasting(lab: &Lab) -> UdpSocket {
    let [socket] = sockets(&lab.lan, [address::LAN[0]]);
    socket
}

fn sockets<const N: usize>(lan: &Namespace, sources: [&str; N]) -> [UdpSocket; N] {
    lan.enter(|| sources.map(|source| UdpSocket::bind(SocketAddr::new(parse(source), 0)).expect("a socket")))
}

struct Sender {
    shared: Arc<Shared>,
    per_tick: u32,
    begun: Instant,
    sockets: [UdpSocket; 3],
    lasting: UdpSocket,
    inbound: inbound::Sender,
    /// Whose turn it is among the lasting flows.
    turn: usize,
    random: Random,
    sequence: u64,
}

impl Sender {
    fn run(mut self) {
        // On their way through the gateway packets of one processor don't overtake each other: where one of an epoch has
        // arrived, those before it have met the rules.
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).expect("a processor");
        let mut ticks = 0;
        while !self.shared.done.load(Ordering::SeqCst) {
            let epoch = self.shared.wanted.load(Ordering::SeqCst);
            // After the epoch, before which they are put there: no flow of the one before goes on in it.
            if let Some(lasting) = lock(&self.shared.fresh).take() {
                self.lasting = lasting;
            }
            self.shared.used.store(epoch, Ordering::SeqCst);
            (0..self.per_tick).for_each(|_| self.send_new(epoch));
            if self.per_tick > 0 {
                self.send_lasting(epoch);
                self.inbound.tick(ticks, epoch, &self.shared);
            }
            ticks += 1;
            let now = self.begun.elapsed();
            if now > TICK * (ticks + MOST_BEHIND) {
                ticks = (now.as_nanos() / TICK.as_nanos()) as u32;
            }
            std::thread::park_timeout((TICK * ticks).saturating_sub(now));
        }
    }

    fn send_lasting(&mut self, epoch: u32) {
        let first = self.turn;
        self.turn = (first + LASTING_PER_TICK) % LASTING;
        for number in (first..first + LASTING_PER_TICK).map(|turn| (turn % LASTING) as u8).chain([EXEMPT]) {
            let to = match number {
                EXEMPT => SocketAddr::new(EXEMPT_DESTINATION, FIRST_PORT),
                _ => SocketAddr::new(DESTINATION, FIRST_PORT + u16::from(number)),
            };
            let datagram = self.datagram(epoch, 0, number);
            let _ = self.lasting.send_to(&datagram, to);
            self.shared.sent.store(self.sequence, Ordering::SeqCst);
        }
    }

    fn send_new(&mut self, epoch: u32) {
        let host = self.random.next();
        let [.., a, b] = host.to_be_bytes();
        let v4 = |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes));
        let v6 = |first, second| IpAddr::V6(Ipv6Addr::new(first, second, 5, 0, 0, 0, a.into(), b.into()));
        let (source, destination) = match self.sequence % 16 {
            0..5 => (0, v4([10, 20, a, b])),
            5..9 => (0, v4([198, 18 + (host >> 32) as u8 % 2, a, b])),
            number @ (10 | 12) if self.shared.span_v6.load(Ordering::Relaxed) > 0 => {
                let span = self.shared.span_v6.load(Ordering::Relaxed);
                (2, Ladder::address_v6(host as u32 % span, number == 10, host >> 32))
            }
            number @ 9..13 => {
                let span = self.shared.span.load(Ordering::Relaxed);
                (0, Ladder::address(host as u32 % span, number != 12, (host >> 32) as u32))
            }
            13 => (1, v4([198, 18, a, b])),
            14 => (2, v6(0x2001, 0xdb8)),
            _ => (2, v6(0xfd20, 0)),
        };
        let port = 1024 + (self.sequence % 60_000) as u16;
        let datagram = self.datagram(epoch, source as u8, NEW);
        // What the gateway does not forward is missing at the far end, and is counted there.
        let _ = self.sockets[source].send_to(&datagram, SocketAddr::new(destination, port));
        self.shared.sent.store(self.sequence, Ordering::SeqCst);
    }

    fn datagram(&mut self, epoch: u32, source: u8, number: u8) -> [u8; DATAGRAM] {
        let mut datagram = [0; DATAGRAM];
        self.sequence += 1;
        datagram[..4].copy_from_slice(&MAGIC);
        datagram[4..8].copy_from_slice(&epoch.to_be_bytes());
        datagram[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        datagram[16..24].copy_from_slice(&(self.begun.elapsed().as_nanos() as u64).to_be_bytes());
        datagram[24..].copy_from_slice(&[source, number]);
        datagram
    }
}

struct Receiver {
    shared: Arc<Shared>,
    sockets: [Socket; 2],
}

impl Receiver {
    fn new(outside: &Namespace, shared: Arc<Shared>) -> Self {
        let open = |ether_type: u16| {
            let protocol = Protocol::from(i32::from(ether_type.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).expect("a packet socket");
            // More than the host allows everybody: what is lost here would count as lost on the way.
            set_socket_recv_buffer_size_force(&socket, 16 << 20).expect("a receive buffer");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            socket
        };
        // EtherTypes, linux/if_ether.h.
        Receiver { shared, sockets: outside.enter(|| [open(0x0800), open(0x86dd)]) }
    }

    fn run(self) {
        let mut buffer = [0; 2048];
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !self.shared.done.load(Ordering::SeqCst) {
            let mut fds = self.sockets.each_ref().map(|socket| PollFd::new(socket, PollFlags::IN));
            let _ = poll(&mut fds, Some(&timeout));
            for mut socket in &self.sockets {
                loop {
                    match socket.read(&mut buffer) {
                        Ok(length) => drop(self.judge(&buffer[..length])),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("packet socket: {error}"),
                    }
                }
            }
        }
    }

    /// `None` for what is no packet of the stream.
    fn judge(&self, packet: &[u8]) -> Option<()> {
        let datagram = packet.get(packet.len().checked_sub(DATAGRAM)?..)?;
        let field = |from: usize| datagram[from..from + 8].try_into().map(u64::from_be_bytes).ok();
        if datagram[..4] != MAGIC {
            return self.shared.judge_answer(packet);
        }
        let (seen, destination) = addresses(packet)?;
        let epoch = u32::from_be_bytes(datagram[4..8].try_into().ok()?);
        let (sequence, at) = (field(8)?, field(16)?);
        let [source, number] = [datagram[24], datagram[25]];
        let source: IpAddr = parse(SOURCES[usize::from(source)]);
        self.shared.arrived.fetch_add(1, Ordering::SeqCst);
        self.shared.flows.fetch_add(u64::from(number == NEW), Ordering::SeqCst);
        let gateway: IpAddr = parse(address::WAN0[usize::from(seen.is_ipv6())]);
        let masqueraded = match seen {
            _ if seen == source => Some(false),
            _ if seen == gateway => Some(true),
            _ => None,
        };
        if let Some(flow) = self.shared.lasting.get(usize::from(number)) {
            flow.store(if masqueraded == Some(true) { MASQUERADED } else { KEPT }, Ordering::SeqCst);
        }
        self.conclude(epoch, at, (source, destination), seen, masqueraded);
        self.shared.latest.fetch_max(sequence, Ordering::SeqCst);
        Some(())
    }

    fn conclude(&self, epoch: u32, at: u64, flow_: (IpAddr, IpAddr), seen: IpAddr, masqueraded: Option<bool>) {
        let epochs = lock(&self.shared.epochs);
        let epoch = &epochs[epoch as usize];
        let (source, destination) = flow_;
        let flow = flow(source, destination);
        let may = |config: &Option<Arc<Config>>| {
            Some(config.as_ref().is_some_and(|config| config.masquerades(&flow))) == masqueraded
        };
        if epoch.right.iter().any(may) {
            return;
        }
        let excused = match epoch.excused {
            Excused::Nothing => false,
            Excused::Kept => masqueraded == Some(false),
            Excused::Anything => masqueraded.is_some(),
        };
        if excused {
            return self.shared.in_hole(at);
        }
        self.shared.wrong(at, &format!("{}: {source} -> {destination}: the far end saw {seen}", epoch.name));
    }
}

/// Source and destination of an IPv4 packet (RFC 791) or an IPv6 packet without extension headers (RFC 8200).
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 =
        |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
    let v6 = |at: usize| {
        <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok().map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)))
    };
    match packet.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?)),
        6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn every_flow_arrives_and_one_with_the_wrong_source_is_seen() {
    let Some(lab) = Lab::build() else { return };
    let stream = Stream::start(&lab, 3000);
    let without_rules = |name: &str| Epoch { name: name.to_owned(), right: vec![None], excused: Excused::Nothing };
    let sent_so_far = stream.totals().sent;
    stream.begin(without_rules("before"));
    stream.wait(DEADLINE, || stream.totals().arrived > sent_so_far + 3000);
    stream.begin(without_rules("a rule of the test's own"));
    let totals = stream.totals();
    assert_eq!((totals.wrong, stream.take_hole().is_none()), (0, true));
    assert!(totals.arrived > 3000 && totals.sent < totals.arrived + 100, "{totals:?}");
    let rules =
        "table ip t {\n chain c {\n type nat hook postrouting priority 100;\n ip daddr 10.0.0.0/8 masquerade\n }\n}\n";
    lab.gateway.run_with_input("nft", &["-f", "-"], rules);
    stream.wait(DEADLINE, || stream.totals().wrong > 100);
    let wrong = stream.take_wrong().expect("flows with the wrong source");
    assert!(wrong.contains("a rule of the test's own: 192.168.77.2 -> 10.20."), "{wrong}");
    // The same, excused: a hole, with a beginning and an end.
    stream.begin(Epoch { excused: Excused::Anything, ..without_rules("excused") });
    stream.take_wrong();
    stream.wait(DEADLINE, || stream.totals().in_holes > 100);
    stream.begin(without_rules("after"));
    let hole = stream.take_hole().expect("a hole");
    assert!(hole.flows > 100 && hole.lasted() > Duration::ZERO, "{hole:?}");
}
