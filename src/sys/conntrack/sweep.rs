//! A walk over the connections that stops in time.

use super::{Conntrack, Filter};
use crate::network::Connection;
use crate::policy::Family;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How much a walk may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many connections are deleted, or counted, at most.
    pub most: usize,
    /// It ends after this time.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { most: 10_000, time: Duration::from_millis(200) }
    }
}

/// What a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many were chosen.
    pub found: usize,
    /// How many of them were deleted; the others had ended.
    pub deleted: usize,
    /// There may be more: a bound was reached.
    pub stopped: bool,
}

/// Walks over the connections of families, each with what is asked of the kernel, and takes those that `choose` names;
/// deletes them if that is wanted.
///
/// # Errors
/// Why connections can't be read or deleted. Those before may be gone.
pub fn sweep(
    wanted: &[(Family, Filter)],
    bounds: Bounds,
    delete: bool,
    mut choose: impl FnMut(&Connection) -> bool,
) -> io::Result<Swept> {
    // From when the kernel has begun to answer: a machine that is busy is no reason to have looked at nothing.
    let mut end = None;
    let (mut reader, mut deleter) = (Conntrack::open()?, Conntrack::open()?);
    let mut swept = Swept::default();
    for (family, filter) in wanted {
        reader.dump(*family, filter, |mut entries| {
            let end = *end.get_or_insert_with(|| Instant::now() + bounds.time);
            entries.retain(|entry| choose(&entry.connection));
            if swept.found + entries.len() > bounds.most {
                entries.truncate(bounds.most - swept.found);
                swept.stopped = true;
            }
            swept.found += entries.len();
            if delete {
                swept.deleted += deleter.delete(&entries)?;
            }
            swept.stopped |= Instant::now() >= end;
            Ok(if swept.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if swept.stopped {
            break;
        }
    }
    Ok(swept)
}
