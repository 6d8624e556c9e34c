//! What the backends and the service stand on: the kernel's interfaces, child processes, signals. Nothing in here knows a
//! policy's rules or the agent.

pub mod child;
pub mod clock;
pub mod conntrack;
pub mod go_agent;
pub mod inotify;
pub mod listing;
pub mod nfnetlink;
pub mod pages;
pub mod rtnetlink;
pub mod signals;
pub mod xtables;

use std::io;

/// The name of an interface.
///
/// # Errors
/// `ENXIO` when there is none of this index: nix 0.31 takes the null pointer for a success, and the name is empty.
pub fn interface_name(index: u32) -> io::Result<String> {
    let name = nix::net::if_::if_indextoname(index)?;
    if name.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENXIO));
    }
    name.into_string().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its name is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_no_interface_has_no_name() {
        let gone = interface_name(0x7fff_ffff).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENXIO), "{gone}");
    }
}
