//! Whether something moved.

/// Something that moves when the rules of the host move. Equal fingerprints mean: nothing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(pub Vec<u64>);
