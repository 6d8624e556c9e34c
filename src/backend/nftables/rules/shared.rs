//! A part of a row that several hold: a million elements go to the kernel in a hundred pieces, none of which is a copy.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of a row. Cheap to clone and to cut.
#[derive(Debug, Clone)]
pub struct Shared<T> {
    row: Arc<[T]>,
    range: Range<usize>,
}

impl<T> Shared<T> {
    /// True when both are the same part of one row in memory.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.row, &other.row) && self.range == other.range
    }

    /// The first ones, and the others.
    pub fn cut(&self, count: usize) -> [Self; 2] {
        let middle = (self.range.start + count).min(self.range.end);
        [self.range.start..middle, middle..self.range.end].map(|range| Shared { row: self.row.clone(), range })
    }

    /// Both as one part, where the second is the next one of the same row.
    fn with_next(&self, next: &Self) -> Option<Self> {
        let follows = Arc::ptr_eq(&self.row, &next.row) && self.range.end == next.range.start;
        follows.then(|| Shared { row: self.row.clone(), range: self.range.start..next.range.end })
    }
}

impl<T: Ord + Copy> Shared<T> {
    /// The elements of both, sorted.
    pub fn joined(&self, more: &Self) -> Self {
        if self.is_empty() {
            return more.clone();
        }
        self.with_next(more).unwrap_or_else(|| {
            let mut all = [&self[..], &more[..]].concat();
            // Two sorted runs, which this sort finds and merges.
            all.sort();
            all.into()
        })
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.row[self.range.clone()]
    }
}

impl<T> From<Arc<[T]>> for Shared<T> {
    fn from(row: Arc<[T]>) -> Self {
        Shared { range: 0..row.len(), row }
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(row: Vec<T>) -> Self {
        Arc::<[T]>::from(row).into()
    }
}

impl<T, const N: usize> From<[T; N]> for Shared<T> {
    fn from(row: [T; N]) -> Self {
        Arc::<[T]>::from(row).into()
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self[..] == other[..]
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_row_are_no_copies_and_become_the_row_again() {
        let row: Shared<u32> = (0..25).collect::<Vec<_>>().into();
        let (mut left, mut again) = (row.clone(), Shared::default());
        while !left.is_empty() {
            let [piece, rest] = left.cut(10);
            again = again.joined(&piece);
            left = rest;
        }
        assert!(again.is(&row));
        let [front, back] = row.cut(7);
        assert_eq!((back.joined(&front), front.len()), (row, 7));
    }
}
