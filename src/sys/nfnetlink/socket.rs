//! A netlink socket that talks to the kernel and to nobody else.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockFilter, Type};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The kernel's own address.
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

/// A netlink socket: non-blocking, close-on-exec, bound to an address that the kernel chose.
#[derive(Debug)]
pub struct Socket(socket2::Socket);

impl Socket {
    /// Opens and binds it; `protocol` is NETLINK_NETFILTER or NETLINK_ROUTE.
    pub fn open(protocol: libc::c_int) -> io::Result<Self> {
        let kind = Type::RAW.cloexec().nonblocking();
        let socket = socket2::Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(Protocol::from(protocol)))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket(socket))
    }

    /// Sets a number at level SOL_NETLINK (netlink(7)).
    pub fn set(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the descriptor is open, and the pointer and length describe a live c_int.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Drops what a classic BPF program does not accept, before it is queued.
    pub(super) fn attach_filter(&self, program: &[SockFilter]) -> io::Result<()> {
        self.0.attach_filter(program)
    }

    /// Asks for a receive buffer of so many bytes; CAP_NET_ADMIN lifts the limit of net.core.rmem_max.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.0, bytes)
            .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&self.0, bytes))?;
        Ok(())
    }

    /// Makes room for a datagram of so many bytes; CAP_NET_ADMIN lifts the limit of net.core.wmem_max.
    pub(super) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        if rustix::net::sockopt::socket_send_buffer_size(&self.0)? < bytes {
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.0, bytes)
                .or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&self.0, bytes))?;
        }
        Ok(())
    }

    /// Sends one datagram to the kernel, which has worked through it when this returns.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = rustix::io::retry_on_intr(|| rustix::net::sendto(&self.0, datagram, SendFlags::empty(), &KERNEL))?;
        if sent == datagram.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next datagram from the kernel, `None` when none is queued. What others sent is thrown away.
    ///
    /// # Errors
    /// ENOBUFS after an overrun; [`io::ErrorKind::InvalidData`] when the buffer was too small.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            let received = rustix::io::retry_on_intr(|| rustix::net::recvfrom(&self.0, &mut *buffer, RecvFlags::TRUNC));
            let (length, sender) = match received {
                Ok((_, length, sender)) => (length, sender),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            if length > buffer.len() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a netlink datagram of {length} bytes does not fit into {}", buffer.len()),
                ));
            }
            return Ok(Some(&buffer[..length]));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
