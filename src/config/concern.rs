//! What keys are about.

/// What a key has an effect on. Commands that need none of it refuse the key as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// What the rules are.
    Rules,
    /// What the rules are called, by which they are found to be removed, too.
    Names,
    /// Sysctls that are set beside the rules.
    Sysctls,
    /// What the service does and warns of, and nothing in the kernel.
    Service,
}
