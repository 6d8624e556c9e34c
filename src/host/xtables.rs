//! The legacy x_tables nat table, asked in process for what moves when rules move.
//!
//! Layouts: `linux/netfilter_ipv4/ip_tables.h` and `linux/netfilter_ipv6/ip6_tables.h`. Asking creates a table that is
//! not there: look into `/proc/net/ip_tables_names` first.

use crate::policy::Family;
use socket2::{Domain, Socket, Type};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::AsRawFd;

/// IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const GET_INFO: libc::c_int = 64;
/// IPT_SO_GET_ENTRIES and IP6T_SO_GET_ENTRIES.
const GET_ENTRIES: libc::c_int = 65;
/// XT_TABLE_MAXNAMELEN.
const NAME: usize = 32;
/// `struct ipt_getinfo` in words of 32 bits: the name, valid_hooks, five hook entries, five underflows, num_entries, size.
const INFO_WORDS: usize = NAME / 4 + 13;
/// `struct ipt_get_entries` without its entries: the name, the size, and padding to the alignment of a counter.
const ENTRIES_HEADER: usize = 40;
/// Somebody who replaces the table all the time does not keep us here.
const ATTEMPTS: usize = 8;

/// Where the fields of `struct ipt_entry` or `struct ip6t_entry` lie, in bytes.
struct Layout {
    next_offset: usize,
    counters: std::ops::Range<usize>,
}

const IPV4: Layout = Layout { next_offset: 90, counters: 96..112 };
const IPV6: Layout = Layout { next_offset: 142, counters: 152..168 };

/// A socket at which the nat table of a family can be asked for.
#[derive(Debug)]
pub struct NatTable {
    family: Family,
    socket: Socket,
}

impl NatTable {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel does not have the family.
    pub fn open(family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        Ok(NatTable { family, socket: Socket::new(domain, Type::DGRAM.cloexec(), None)? })
    }

    /// Number and size of the entries and where each hook begins. About two microseconds.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, ENOENT or ENOPROTOOPT when the kernel has no such table.
    pub fn info(&self) -> io::Result<Vec<u64>> {
        let words = self.info_words()?;
        Ok(words[NAME / 4..].iter().map(|word| u64::from(*word)).collect())
    }

    fn info_words(&self) -> io::Result<[u32; INFO_WORDS]> {
        let mut words = [0_u32; INFO_WORDS];
        words[0] = u32::from_ne_bytes(*b"nat\0");
        let bytes: &mut [u8] = {
            // SAFETY: an array of u32 has no padding, every byte pattern is a u32, and the borrow ends with the call.
            unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of::<[u32; INFO_WORDS]>()) }
        };
        self.ask(GET_INFO, bytes)?;
        Ok(words)
    }

    /// True when there are no rules and no chains but the built-in ones: one entry for the policy of each, and one that
    /// ends the table (`xt_repldata.h` of Linux).
    ///
    /// # Errors
    /// As [`NatTable::info`].
    pub fn is_empty(&self) -> io::Result<bool> {
        let words = self.info_words()?;
        let (hooks, entries) = (words[NAME / 4].count_ones(), words[INFO_WORDS - 2]);
        Ok(entries <= hooks + 1)
    }

    /// A digest of all entries, their counters left out: rules that were replaced by others of the same size show.
    ///
    /// # Errors
    /// As [`NatTable::info`]; EAGAIN when the table is replaced faster than it can be read.
    pub fn digest(&self) -> io::Result<u64> {
        Ok(digest(self.family, &mut self.entries()?))
    }

    /// True when a text stands somewhere in the entries, as that of a comment does.
    ///
    /// # Errors
    /// As [`NatTable::digest`].
    pub fn holds(&self, text: &str) -> io::Result<bool> {
        Ok(self.entries()?.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    fn entries(&self) -> io::Result<Vec<u8>> {
        let mut last = io::Error::from_raw_os_error(libc::EAGAIN);
        for _ in 0..ATTEMPTS {
            let size = self.info_words()?[INFO_WORDS - 1];
            let mut buffer = vec![0; ENTRIES_HEADER + size as usize];
            buffer[..3].copy_from_slice(b"nat");
            buffer[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
            match self.ask(GET_ENTRIES, &mut buffer) {
                Ok(()) => return Ok(buffer.split_off(ENTRIES_HEADER)),
                // The size changed between the two questions.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn ask(&self, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
        let level = match self.family {
            Family::V4 => libc::IPPROTO_IP,
            Family::V6 => libc::IPPROTO_IPV6,
        };
        let mut length = buffer.len() as libc::socklen_t;
        // SAFETY: the descriptor is open; pointer and length describe the whole of a live, writable buffer.
        let result = unsafe {
            libc::getsockopt(self.socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Stable for as long as a process lives, which is as long as it is compared.
fn digest(family: Family, entries: &mut [u8]) -> u64 {
    let layout = match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    let mut hasher = DefaultHasher::new();
    let mut rest = entries;
    while rest.len() >= layout.counters.end {
        rest[layout.counters.clone()].fill(0);
        let next = usize::from(u16::from_ne_bytes([rest[layout.next_offset], rest[layout.next_offset + 1]]));
        if next < layout.counters.end || next > rest.len() {
            break;
        }
        let (entry, behind) = rest.split_at_mut(next);
        hasher.write(entry);
        rest = behind;
    }
    hasher.write(rest);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two IPv4 entries of 112 bytes, nothing in them but their length and a counter.
    fn table(first: u8, counter: u8) -> Vec<u8> {
        let mut bytes = vec![0; 224];
        bytes[0] = first;
        for entry in bytes.chunks_mut(112) {
            entry[90] = 112;
            entry[100] = counter;
        }
        bytes
    }

    #[test]
    fn counters_do_not_count() {
        assert_eq!(digest(Family::V4, &mut table(1, 1)), digest(Family::V4, &mut table(1, 9)));
        assert_ne!(digest(Family::V4, &mut table(1, 1)), digest(Family::V4, &mut table(2, 1)));
    }

    #[test]
    fn lengths_that_lead_nowhere_end_the_walk() {
        for length in [0, 111, 255] {
            let mut bytes = table(1, 1);
            bytes[90] = length;
            digest(Family::V4, &mut bytes);
        }
    }
}
