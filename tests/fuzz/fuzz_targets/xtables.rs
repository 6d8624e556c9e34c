//! The entries of a table of x_tables, as the kernel copies them out.
#![no_main]

use ip_masq_agent::policy::Family;
use ip_masq_agent::sys::xtables::NatTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for family in Family::ALL {
        let mut entries = bytes.to_vec();
        let digest = NatTable::read_any(family, &mut entries);
        // The counters are gone now, and they did not count before.
        assert_eq!(NatTable::read_any(family, &mut entries), digest);
    }
});
