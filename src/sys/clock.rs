//! The time of day, as people on this host read it.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since midnight, in the host's time zone.
pub fn second_of_day() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = now as libc::time_t;
    let mut local = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to values of the types that it takes, and what it was given is read only where it says
    // that it has filled it in. It reads TZ from the environment, which this program never changes.
    let local = unsafe {
        if libc::localtime_r(&now, local.as_mut_ptr()).is_null() {
            return 0;
        }
        local.assume_init()
    };
    let fields = [local.tm_hour, local.tm_min, local.tm_sec].map(|field| u32::try_from(field).unwrap_or(0));
    fields[0] * 3600 + fields[1] * 60 + fields[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_so_many_seconds() {
        // With a leap second.
        assert!(second_of_day() <= 86_400);
    }
}
