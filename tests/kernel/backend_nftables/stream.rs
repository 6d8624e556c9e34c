//! A LAN, a gateway and an outside, and a stream of flows through them: what the far end saw of each.

use crate::namespace::Host;
use ip_masq_agent::sys::nfnetlink::RuleEvents;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const LAN: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// One packet of each lasting flow and two new flows of each kind: more than 6,000 new flows a second.
const TICK: Duration = Duration::from_micros(300);
const NEW_PER_TICK: u32 = 2;
/// ETH_P_IP.
const IPV4: u16 = 0x0800;

/// What kind of flow a packet belongs to; the second octet of its destination says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To a range that every list of these tests exempts.
    Exempt,
    /// To nowhere special.
    Other,
}

/// A packet as it arrived.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    kind: Kind,
    /// It belongs to the flow of its kind that lasts as long as the stream.
    lasting: bool,
    masqueraded: bool,
}

/// Everything that arrived, in order.
#[derive(Debug, Default)]
pub struct Flows(Vec<Arrival>);

impl Flows {
    /// How many flows of a kind began.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|arrival| arrival.kind == kind && !arrival.lasting).count()
    }

    /// How many packets of a kind did not keep their source.
    pub fn masqueraded(&self, kind: Kind) -> usize {
        self.0.iter().filter(|arrival| arrival.kind == kind && arrival.masqueraded).count()
    }

    /// How many packets of other new flows kept their source although such a flow before them did not.
    pub fn kept_again(&self) -> usize {
        let others = self.0.iter().filter(|arrival| arrival.kind == Kind::Other && !arrival.lasting);
        others.skip_while(|arrival| !arrival.masqueraded).filter(|arrival| !arrival.masqueraded).count()
    }

    /// Whether the last packet of the flow of a kind that lasts was masqueraded.
    pub fn lasting_is_masqueraded(&self, kind: Kind) -> bool {
        let found = self.0.iter().rev().find(|arrival| arrival.lasting && arrival.kind == kind);
        found.expect("a packet of a lasting flow").masqueraded
    }
}

/// The calling thread's namespace as a gateway between two hosts.
pub struct Street {
    lan: Host,
    outside: Host,
    /// Elsewhere somebody listens to nf_tables, as another agent does: the kernel's commits take longer then.
    _listener: RuleEvents,
}

impl Street {
    /// Builds it; call it from a thread that has entered a namespace.
    pub fn new() -> Self {
        let (lan, outside) = (Host::new(), Host::new());
        super::sh("ip link set lo up");
        super::link("lan", &lan, "10.7.0.2/24");
        super::link("wan", &outside, "198.51.100.2/24");
        super::sh("ip address add 10.7.0.1/24 dev lan");
        super::sh("ip address add 198.51.100.1/24 dev wan");
        lan.run("ip route add default via 10.7.0.1");
        super::sh("ip route add default via 198.51.100.2");
        super::sh("sysctl -qw net.ipv4.ip_forward=1");
        let listener = inside(&outside, || RuleEvents::open().unwrap());
        Street { lan, outside, _listener: listener }
    }

    /// Sends flows while `work` is done, and until the far end has seen some more after it.
    pub fn under_flows(&self, work: impl FnOnce()) -> Flows {
        let sender = inside(&self.lan, || UdpSocket::bind((LAN, 4000)).unwrap());
        let receiver = inside(&self.outside, || {
            let socket =
                Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV4.to_be())))).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let stream = scope.spawn(|| stream(&sender, receiver, &done));
            let end = Ends(&done);
            work();
            drop(end);
            stream.join().expect("the stream of flows")
        })
    }
}

/// Ends what goes on beside a test also when an assertion fails meanwhile.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens something in the namespace of a host.
pub fn inside<T: Send>(host: &Host, open: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/self/task/{}/ns/net", host.id())).unwrap();
    let work = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        open()
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn stream(sender: &UdpSocket, mut receiver: Socket, done: &AtomicBool) -> Flows {
    // The flows go on while others compute, where that may be asked for; this thread only.
    let _ = rustix::process::setpriority_process(None, -15);
    let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).unwrap();
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    let spec = Itimerspec { it_interval: tick, it_value: tick };
    timerfd_settime(&clock, TimerfdTimerFlags::empty(), &spec).unwrap();
    let (mut flows, mut number, mut left) = (Flows::default(), 0, 200);
    while left > 0 {
        if done.load(Ordering::Relaxed) {
            left -= 1;
        }
        for kind in [Kind::Exempt, Kind::Other] {
            send(sender, kind, None);
            for _ in 0..NEW_PER_TICK {
                number += 1;
                send(sender, kind, Some(number));
            }
        }
        rustix::io::read(&clock, &mut [0; 8]).unwrap();
        drain(&mut receiver, &mut flows);
    }
    let mut last = [PollFd::new(&receiver, PollFlags::IN)];
    poll(&mut last, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })).unwrap();
    drain(&mut receiver, &mut flows);
    flows
}

/// A packet of a flow; of the lasting one of its kind when it has no number.
fn send(sender: &UdpSocket, kind: Kind, number: Option<u32>) {
    let second = if kind == Kind::Exempt { 0 } else { 200 };
    let [_, high, middle, low] = number.unwrap_or(0).to_be_bytes();
    // The lists of these tests exempt the networks 11.0.0.0/24, 11.0.2.0/24, 11.0.4.0/24 and so on.
    let host = Ipv4Addr::new(11, second, middle & 0xfe, low);
    let port = 5000 + u16::from(high) * 2 + u16::from(middle & 1);
    sender.send_to(&[u8::from(number.is_none())], SocketAddr::from((host, port))).unwrap();
}

fn drain(receiver: &mut Socket, flows: &mut Flows) {
    let mut packet = [0; 256];
    while let Ok(length) = receiver.read(&mut packet) {
        // An IPv4 header without options and a UDP header.
        if length < 29 || packet[9] != 17 || packet[16] != 11 {
            continue;
        }
        let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
        assert!([LAN, WAN].contains(&source), "{source}");
        let kind = if packet[17] == 0 { Kind::Exempt } else { Kind::Other };
        flows.0.push(Arrival { kind, lasting: packet[28] == 1, masqueraded: source == WAN });
    }
}
