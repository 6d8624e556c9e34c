//! That interfaces, addresses or routes changed.

use super::super::nfnetlink::is_loss;
use super::super::nfnetlink::message::Messages;
use super::super::nfnetlink::socket::Socket;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// RTNLGRP_* of linux/rtnetlink.h: links, and addresses, routes and rules of both families.
const GROUPS: [libc::c_uint; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];

/// A listener to changes by anybody in this network namespace. What changed is read again, whatever the event says: so a
/// lost one does no harm as long as it is known that there was one.
#[derive(Debug)]
pub struct NetworkEvents {
    socket: Socket,
}

impl NetworkEvents {
    /// Joins the groups.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(libc::NETLINK_ROUTE)?;
        for group in GROUPS {
            socket.set(libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)?;
        }
        // Before Linux 5.3 there are none to be told of.
        let _ = socket.set(libc::NETLINK_ADD_MEMBERSHIP, libc::RTNLGRP_NEXTHOP as libc::c_int);
        Ok(NetworkEvents { socket })
    }

    /// Asks for a queue of so many bytes; the kernel doubles the number and keeps to its own limits (socket(7)).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_queue(&mut self, bytes: usize) -> io::Result<()> {
        self.socket.set_receive_buffer(bytes)
    }

    /// Empties the queue. True when something changed, or may have: after an overrun, too.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn read(&mut self) -> io::Result<bool> {
        let mut changed = false;
        let mut buffer = [0; 1 << 15];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(None) => return Ok(changed),
                Ok(Some(datagram)) => changed |= Messages(datagram).next().is_some(),
                Err(error) if is_loss(&error) => changed = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for NetworkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
