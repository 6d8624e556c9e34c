//! Pages of the program and its libraries that this process has mapped.

use std::fs;
use std::ptr;

/// Lets go of the pages of code that ran so far: a start takes most of the program, what follows takes little of it. What
/// runs again is mapped again from the page cache, without a look at the disk.
pub fn unmap_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (first, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is one mapping of a file that can be run and not written, hence not relocated (proc_pid_maps(5)):
        // what is read there next is what is read there now.
        unsafe { libc::madvise(ptr::without_provenance_mut(first), length, libc::MADV_DONTNEED) };
    }
}

/// Address and length of a mapping of a file's code.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (first, last) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && fields.nth(3).is_some_and(|file| file.starts_with('/'));
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (first, last) = (number(first)?, number(last)?);
    is_code.then(|| Some((first, last.checked_sub(first)?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn code_of_files_is_told_from_data_and_from_what_has_no_file() {
        let line = |permissions, file| format!("7f00-9f00 {permissions} 00001000 fe:00 42 {file}");
        assert_eq!(code(&line("r-xp", "/usr/bin/ip-masq-agent")), Some((0x7f00, 0x2000)));
        for other in ["r--p", "rw-p", "rwxp", "r-xs"] {
            assert_eq!(code(&line(other, "/usr/bin/ip-masq-agent")), None, "{other}");
        }
        assert_eq!(code(&line("r-xp", "[vdso]")), None);
        assert_eq!(code(&line("r-xp", "")), None);
    }

    #[test]
    fn code_that_ran_is_let_go_of_and_can_be_read_again() {
        // A mapping of the test's own that nobody else reads.
        let program = fs::File::open("/proc/self/exe").unwrap();
        let (allowed, kind) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
        // SAFETY: a new mapping of a file that is not written while it runs.
        let address = unsafe { libc::mmap(ptr::null_mut(), 4096, allowed, kind, program.as_raw_fd(), 0) };
        assert_ne!(address, libc::MAP_FAILED);
        // SAFETY: the mapping is never taken away.
        let magic = || unsafe { ptr::read_volatile(address.cast::<[u8; 4]>()) };
        let first = format!("{:x}-", address.addr());
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let (_, ours) = smaps.split_once(&first).unwrap();
            ours.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap().trim().to_owned()
        };
        assert_eq!(&magic(), b"\x7fELF");
        assert_ne!(resident(), "0 kB");
        unmap_code();
        assert_eq!(resident(), "0 kB");
        assert_eq!(&magic(), b"\x7fELF");
    }
}
