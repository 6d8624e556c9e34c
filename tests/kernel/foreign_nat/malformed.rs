//! What the kernel sends is trusted in nothing.

use ip_masq_agent::sys::listing;
use ip_masq_agent::sys::nfnetlink::message::Messages;
use proptest::prelude::*;
use std::path::Path;

/// Rules and sets of others as a real kernel dumped them.
fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/netlink");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let foreign = files.filter(|file| file.file_name().to_string_lossy().starts_with("foreign-"));
    foreign.map(|file| std::fs::read(file.path()).unwrap()).collect()
}

fn read(datagram: &[u8]) {
    for message in Messages(datagram).flatten() {
        let _ = (listing::rule(&message, &mut ()), listing::tracking::user(&message));
        let _ = (listing::set::header(&message), listing::set::elements(&message));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn rules_and_sets_with_changed_bytes_end_without_a_panic(
        seed in proptest::sample::select(seeds()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = seed;
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        read(&bytes);
    }
}
