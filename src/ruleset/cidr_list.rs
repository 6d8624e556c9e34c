//! The prefixes of one list.

use super::id::ListId;
use crate::policy::Prefix;
use std::sync::Arc;

/// The prefixes of one list in one family, aggregated. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidrList {
    /// Which list it is.
    pub id: ListId,
    /// The prefixes in the order in which they were written; none touches another.
    pub prefixes: Arc<[Prefix]>,
}
