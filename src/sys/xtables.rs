//! The legacy x_tables tables, asked in process: nat for what moves when rules move, all for what their rules are made of.
//!
//! Layouts: `linux/netfilter_ipv4/ip_tables.h` and `linux/netfilter_ipv6/ip6_tables.h`. Asking creates a table that is
//! not there: ask for [`table_names`] first.

use crate::policy::Family;
use socket2::{Domain, Socket, Type};
use std::borrow::Cow;
use std::fs;
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
const ENTRIES_HEADER: usize = (NAME + size_of::<u32>()).next_multiple_of(align_of::<u64>());
/// Somebody who replaces the table all the time does not keep us here.
const ATTEMPTS: usize = 8;

/// Where the fields of `struct ipt_entry` or `struct ip6t_entry` lie, in bytes.
struct Layout {
    target_offset: usize,
    next_offset: usize,
    counters: std::ops::Range<usize>,
}

impl Layout {
    /// After what a packet is asked (`struct ipt_ip` or `struct ip6t_ip6`) and a word: two short numbers, a word, and two
    /// counters, which lie where a u64 may: at a multiple of 4 on i386, of 8 elsewhere.
    const fn after(asked: usize) -> Self {
        let target_offset = asked + 4;
        let counters = (target_offset + 8).next_multiple_of(align_of::<u64>());
        Layout { target_offset, next_offset: target_offset + 2, counters: counters..counters + 16 }
    }
}

const IPV4: Layout = Layout::after(84);
const IPV6: Layout = Layout::after(136);
/// `struct xt_entry_match` and `struct xt_entry_target` before their own data: a size, a name, a revision.
const EXTENSION_HEADER: usize = 32;
/// The target that begins a chain; its data are the name (XT_ERROR_TARGET).
const CHAIN_HEAD: &str = "ERROR";

fn layout(family: Family) -> Layout {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

/// The legacy tables of this network namespace that exist; asking for this creates none.
///
/// # Errors
/// When procfs can't be read.
pub fn table_names(family: Family) -> io::Result<Vec<String>> {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(path) {
        Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
        // The kernel has no tables of the family yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A socket at which a table of a family can be asked for: nat, where no other is named.
#[derive(Debug)]
pub struct NatTable {
    family: Family,
    name: [u8; NAME],
    socket: Socket,
}

impl NatTable {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel does not have the family.
    pub fn open(family: Family) -> io::Result<Self> {
        Self::named(family, "nat")
    }

    /// Opens the socket for another table.
    ///
    /// # Errors
    /// As [`NatTable::open`].
    pub fn named(family: Family, table: &str) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let mut name = [0; NAME];
        let room = name[..NAME - 1].get_mut(..table.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(table.as_bytes());
        Ok(NatTable { family, name, socket: Socket::new(domain, Type::DGRAM.cloexec(), None)? })
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
        for (word, bytes) in words.iter_mut().zip(self.name.as_chunks().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
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
        Ok(self.count(text)? > 0)
    }

    /// How often a text stands in the entries.
    ///
    /// # Errors
    /// As [`NatTable::digest`].
    pub fn count(&self, text: &str) -> io::Result<usize> {
        let text = text.as_bytes();
        let entries = self.entries()?;
        // The first byte first: a table may have tens of megabytes.
        Ok(entries.windows(text.len()).filter(|window| window[0] == text[0] && *window == text).count())
    }

    /// Reads bytes as entries, for `tests/fuzz`.
    #[cfg(fuzzing)]
    pub fn read_any(family: Family, entries: &mut [u8]) -> u64 {
        digest(family, entries)
    }

    fn entries(&self) -> io::Result<Vec<u8>> {
        let mut last = io::Error::from_raw_os_error(libc::EAGAIN);
        for _ in 0..ATTEMPTS {
            let size = self.info_words()?[INFO_WORDS - 1];
            let mut buffer = vec![0; ENTRIES_HEADER + size as usize];
            buffer[..NAME].copy_from_slice(&self.name);
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

/// Shows each match and target of a table that is there: the user-defined chain it is in, its name, its own data.
///
/// # Errors
/// As [`NatTable::digest`].
pub fn extensions(family: Family, table: &str, each: impl FnMut(Option<&str>, &str, &[u8])) -> io::Result<()> {
    walk(family, &NatTable::named(family, table)?.entries()?, each);
    Ok(())
}

/// Ends at what is malformed.
fn walk(family: Family, entries: &[u8], mut each: impl FnMut(Option<&str>, &str, &[u8])) {
    let layout = layout(family);
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 2).and_then(<[u8]>::first_chunk).map(|number| usize::from(u16::from_ne_bytes(*number)))
    };
    let (mut rest, mut chain) = (entries, None);
    while let Some(next) = number(rest, layout.next_offset)
        && let Some((entry, behind)) = rest.split_at_checked(next)
        && let Some(mut extensions) = entry.get(layout.counters.end..)
        && !entry.is_empty()
    {
        let target = number(entry, layout.target_offset).and_then(|at| at.checked_sub(layout.counters.end));
        while let Some((extension, following)) =
            number(extensions, 0).and_then(|size| extensions.split_at_checked(size))
            && let Some((header, data)) = extension.split_at_checked(EXTENSION_HEADER)
        {
            let name = until_nul(&header[2..EXTENSION_HEADER - 1]);
            match name == CHAIN_HEAD && target == Some(0) {
                true => chain = Some(until_nul(data).into_owned()),
                false => each(chain.as_deref(), &name, data),
            }
            extensions = following;
        }
        rest = behind;
    }
}

fn until_nul(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// Stable for as long as a process lives, which is as long as it is compared.
fn digest(family: Family, entries: &mut [u8]) -> u64 {
    let layout = layout(family);
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
            entry[90..92].copy_from_slice(&112_u16.to_ne_bytes());
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
        for length in [0_u16, 111, 255] {
            let mut bytes = table(1, 1);
            bytes[90..92].copy_from_slice(&length.to_ne_bytes());
            digest(Family::V4, &mut bytes);
            walk(Family::V4, &bytes, |_, _, _| panic!("there is no extension"));
        }
    }

    /// An entry with extensions: name and data of each, the last one being the target.
    fn entry(extensions: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 112];
        for (name, data) in extensions {
            let target = bytes.len() as u16;
            bytes[88..90].copy_from_slice(&target.to_ne_bytes());
            bytes.extend((EXTENSION_HEADER as u16 + data.len() as u16).to_ne_bytes());
            bytes.extend(name.bytes().chain(std::iter::repeat_n(0, 30 - name.len())));
            bytes.extend(*data);
        }
        let next = bytes.len() as u16;
        bytes[90..92].copy_from_slice(&next.to_ne_bytes());
        bytes
    }

    #[test]
    fn matches_and_targets_are_found_with_the_chain_they_are_in() {
        let table = [
            entry(&[("conntrack", b"12345678"), ("", b"12345678")]),
            entry(&[("ERROR", b"OURS\0\0\0\0")]),
            entry(&[("MASQUERADE", b"")]),
        ];
        let mut found = Vec::new();
        walk(Family::V4, &table.concat(), |chain, name, data| {
            found.push((chain.map(str::to_owned), name.to_owned(), data.len()));
        });
        let ours = Some("OURS".to_owned());
        let expected =
            [(None, "conntrack".to_owned(), 8), (None, String::new(), 8), (ours, "MASQUERADE".to_owned(), 0)];
        assert_eq!(found, expected);
    }

    proptest::proptest! {
        #[test]
        fn random_entries_end_without_a_panic(
            mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512), next in 0_u8..255, size in 0_u8..64
        ) {
            // So that the walk gets somewhere.
            for (at, value) in [(90, next), (112, size)] {
                let place = bytes.get_mut(at..at + 2).into_iter();
                place.for_each(|place| place.copy_from_slice(&u16::from(value).to_ne_bytes()));
            }
            for family in Family::ALL {
                walk(family, &bytes, |_, _, _| ());
            }
        }
    }
}
