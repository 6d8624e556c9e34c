//! What arrives at a node, read from packet sockets: the source as the wire carried it, for any protocol.

use super::{DEADLINE, Namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// EtherTypes, linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// A packet that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its protocol, an IANA number.
    pub protocol: u8,
    /// What follows the IP header.
    pub payload: Vec<u8>,
}

impl Seen {
    /// The source port of TCP, UDP and SCTP.
    pub fn source_port(&self) -> u16 {
        self.port(0)
    }

    /// The destination port of TCP, UDP and SCTP.
    pub fn destination_port(&self) -> u16 {
        self.port(2)
    }

    fn port(&self, offset: usize) -> u16 {
        self.payload.get(offset..offset + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads an IPv4 packet (RFC 791) or an IPv6 packet without extension headers (RFC 8200).
    fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 15) * 4;
                let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(Ipv4Addr::from);
                let (source, destination) = (address(12)?.into(), address(16)?.into());
                Some(Seen { source, destination, protocol: *packet.get(9)?, payload: packet.get(header..)?.to_vec() })
            }
            6 => {
                let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok().map(Ipv6Addr::from);
                let (source, destination) = (address(8)?.into(), address(24)?.into());
                Some(Seen { source, destination, protocol: *packet.get(6)?, payload: packet.get(40..)?.to_vec() })
            }
            _ => None,
        }
    }
}

/// Reads every IP packet that arrives at a node, on whichever interface, before the node's own rules see it.
pub struct Observer {
    sockets: [Socket; 2],
}

impl Observer {
    /// Begins to listen. Packets that arrive from now on are kept until asked for.
    pub fn new(node: &Namespace) -> Self {
        // A packet socket for one EtherType sees arriving packets only, packet(7).
        let open = |ether_type: u16| {
            let protocol = Protocol::from(i32::from(ether_type.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).expect("a packet socket");
            socket.set_recv_buffer_size(4 << 20).expect("a receive buffer");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            socket
        };
        Observer { sockets: node.enter(|| [open(ETH_P_IP), open(ETH_P_IPV6)]) }
    }

    /// The first packet that `wanted` accepts; those before it are forgotten.
    pub fn wait(&self, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        self.wait_for(DEADLINE, wanted)
    }

    /// The same with a deadline of its own.
    pub fn wait_for(&self, deadline: Duration, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let end = Instant::now() + deadline;
        let mut buffer = vec![0; 65536];
        loop {
            for mut socket in &self.sockets {
                loop {
                    match socket.read(&mut buffer) {
                        Ok(length) => match Seen::parse(&buffer[..length]) {
                            Some(seen) if wanted(&seen) => return Some(seen),
                            _ => {}
                        },
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("packet socket: {error}"),
                    }
                }
            }
            let left = end.checked_duration_since(Instant::now())?;
            let mut fds = self.sockets.each_ref().map(|socket| PollFd::new(socket, PollFlags::IN));
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            poll(&mut fds, Some(&timeout)).expect("poll on packet sockets");
        }
    }
}
