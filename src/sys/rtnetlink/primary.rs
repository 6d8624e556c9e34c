//! The address that masquerading gives, as the kernel selects it.

use super::super::nfnetlink::socket::Socket;
use super::dump::dump;
use super::read::{ADDRESS_HEADER, primary};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// `inet_select_addr`: of the primary addresses of an interface that are not of the host or link alone, in their order,
/// the one in whose network the next hop is; else the first.
///
/// # Errors
/// When the kernel can't be asked, or its answer makes no sense.
pub fn primary_address(interface: u32, next_hop: Ipv4Addr) -> io::Result<Option<IpAddr>> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let mut own = dump(&socket, libc::RTM_GETADDR, &[0; ADDRESS_HEADER], primary)?;
    own.retain(|one| one.interface == interface);
    let on_link = own.iter().find(|one| one.network.contains(next_hop.into()));
    Ok(on_link.or(own.first()).map(|one| one.address))
}
