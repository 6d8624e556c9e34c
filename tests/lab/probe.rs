//! The first packet of a flow, sent for real and recognized when it arrives.

use super::{Namespace, Observer, Seen, sctp};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// What kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP SYN.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An INIT of SCTP.
    Sctp,
    /// An echo request, ICMP or ICMPv6.
    Ping,
    /// A datagram of another protocol, by its IANA number.
    Raw(u8),
}

/// One packet that opens a flow of its own: its number is in the destination port of TCP and in the payload of others.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What kind of packet.
    pub kind: Kind,
    /// The source to bind to; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// The destination.
    pub destination: IpAddr,
    /// The interface to send from; needed for multicast and broadcast.
    pub interface: Option<&'static str>,
    /// For TCP: the flags of a segment that is of no connection; `None` opens one.
    flags: Option<u8>,
    number: u16,
    /// The destination port, where it is not the number.
    port: Option<u16>,
    /// The differentiated services code point (RFC 2474).
    dscp: u8,
}

impl Probe {
    /// A probe of a kind to a destination.
    pub fn new(kind: Kind, destination: IpAddr) -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = 20_000 + COUNT.fetch_add(1, Ordering::Relaxed) % 32_768;
        Probe { kind, source: None, destination, interface: None, flags: None, number, port: None, dscp: 0 }
    }

    /// The same from a source.
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same, TCP and with a source, as a segment with these flags that is of no connection.
    pub fn with_flags(mut self, flags: u8) -> Self {
        self.flags = Some(flags);
        self
    }

    /// The same through an interface, whatever the routes say.
    pub fn through(mut self, interface: &'static str) -> Self {
        self.interface = Some(interface);
        self
    }

    /// The same, UDP or SCTP, with a port that it goes to.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same with a differentiated services code point.
    pub fn with_dscp(mut self, dscp: u8) -> Self {
        self.dscp = dscp;
        self
    }

    /// True when a datagram has its payload, wherever it was led. One of SCTP is whole.
    pub fn is_in(&self, seen: &Seen) -> bool {
        self.is_payload(&seen.payload)
    }

    /// The same of what follows the IP header.
    pub fn is_payload(&self, payload: &[u8]) -> bool {
        payload.ends_with(&self.mark()) && (self.kind != Kind::Sctp || sctp::is_whole(payload))
    }

    /// True when this is the answer to it, SCTP.
    pub fn is_answered_by(&self, payload: &[u8]) -> bool {
        sctp::answers(payload, self.mark())
    }

    /// Sends it from a node.
    pub fn send(&self, node: &Namespace) {
        node.enter(|| self.transmit()).unwrap_or_else(|error| panic!("{}: {self:?}: {error}", node.name));
    }

    /// True when a packet that arrived is this one.
    pub fn is(&self, seen: &Seen) -> bool {
        seen.destination == self.destination
            && seen.protocol == self.protocol()
            && match self.kind {
                Kind::Tcp => seen.destination_port() == self.number,
                _ => self.is_in(seen),
            }
    }

    /// Sends it from a node and says which source arrived; `None` when nothing did.
    pub fn source_seen(&self, node: &Namespace, observer: &Observer) -> Option<IpAddr> {
        self.seen(node, observer).map(|seen| seen.source)
    }

    /// Sends it from a node and returns it as it arrived; `None` when it did not.
    pub fn seen(&self, node: &Namespace, observer: &Observer) -> Option<Seen> {
        self.send(node);
        observer.wait(|seen| self.is(seen))
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp => 6,
            Kind::Udp => 17,
            Kind::Sctp => 132,
            Kind::Ping if self.destination.is_ipv4() => 1,
            Kind::Ping => 58,
            Kind::Raw(protocol) => protocol,
        }
    }

    fn mark(&self) -> [u8; 4] {
        let [high, low] = self.number.to_be_bytes();
        [b'#', high, low, b'#']
    }

    /// Sends it from the node of this thread.
    ///
    /// # Errors
    /// Where the kernel has no way for it.
    pub fn transmit(&self) -> io::Result<()> {
        let domain = if self.destination.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let kind = match self.kind {
            Kind::Tcp if self.flags.is_some() => Type::RAW,
            Kind::Tcp => Type::STREAM,
            Kind::Udp => Type::DGRAM,
            Kind::Sctp | Kind::Ping | Kind::Raw(_) => Type::RAW,
        };
        let socket = Socket::new(domain, kind, Some(Protocol::from(i32::from(self.protocol()))))?;
        let class = u32::from(self.dscp) * 4;
        if self.destination.is_ipv4() {
            socket.set_tos_v4(class)?;
        } else {
            socket.set_tclass_v6(class)?;
        }
        if let Some(interface) = self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        // A raw IPv6 socket takes no port in its address.
        let port = if kind == Type::RAW { 0 } else { self.port.unwrap_or(self.number) };
        let to = SockAddr::from(SocketAddr::new(self.destination, port));
        if kind == Type::STREAM {
            socket.set_nonblocking(true)?;
            return match socket.connect(&to) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok(()),
                result => result,
            };
        }
        socket.set_broadcast(true)?;
        socket.send_to(&self.datagram(), &to).map(|_| ())
    }

    /// A TCP header, RFC 9293, with the checksum over the pseudo header, RFC 793 and RFC 8200.
    fn segment(&self, flags: u8) -> Vec<u8> {
        let [high, low] = self.number.to_be_bytes();
        let mut segment = vec![0x30, 0x39, high, low, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 4, 0, 0, 0, 0, 0];
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let source = self.source.expect("a segment with a source");
        let length = segment.len() as u8;
        let pseudo = [octets(source), octets(self.destination), vec![0, 6, 0, length], segment.clone()].concat();
        segment[16..18].copy_from_slice(&internet_checksum(&pseudo).to_be_bytes());
        segment
    }

    fn datagram(&self) -> Vec<u8> {
        if let Some(flags) = self.flags {
            return self.segment(flags);
        }
        match self.kind {
            Kind::Sctp => return sctp::init(self.number, self.port.unwrap_or(self.number), self.mark()),
            Kind::Tcp | Kind::Udp | Kind::Raw(_) => return self.mark().to_vec(),
            Kind::Ping => {}
        }
        // Echo request, RFC 792 and RFC 4443; the kernel fills in the checksum of ICMPv6 only.
        let [high, low] = self.number.to_be_bytes();
        let mut packet = vec![if self.destination.is_ipv4() { 8 } else { 128 }, 0, 0, 0, high, low, 0, 1];
        packet.extend(self.mark());
        let checksum = internet_checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&checksum);
        packet
    }
}

/// RFC 1071, for an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
