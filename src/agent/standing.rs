//! "Say it once while it lasts".

use std::ops::Deref;

/// What holds at present, each thing once.
#[derive(Debug)]
pub struct Standing<K>(Vec<K>);

/// What is to be said of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<K> {
    /// What holds now and did not before.
    pub begun: Vec<K>,
    /// What held before and does not now.
    pub ended: Vec<K>,
}

impl<K> Default for Standing<K> {
    fn default() -> Self {
        Standing(Vec::new())
    }
}

impl<K: Clone + PartialEq> Standing<K> {
    /// Takes what holds now in place of what held before.
    pub fn update(&mut self, now: impl IntoIterator<Item = K>) -> Changes<K> {
        let before = std::mem::take(&mut self.0);
        for one in now {
            if !self.0.contains(&one) {
                self.0.push(one);
            }
        }
        Changes {
            begun: self.0.iter().filter(|one| !before.contains(one)).cloned().collect(),
            ended: before.into_iter().filter(|one| !self.0.contains(one)).collect(),
        }
    }
}

/// In the order in which it was found.
impl<K> Deref for Standing<K> {
    type Target = [K];

    fn deref(&self) -> &[K] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_neither_begun_nor_ended_and_what_comes_back_is_begun_again() {
        let mut standing = Standing::default();
        assert_eq!(standing.update(["a", "b", "a"]), Changes { begun: vec!["a", "b"], ended: vec![] });
        assert_eq!(standing.update(["b", "c"]), Changes { begun: vec!["c"], ended: vec!["a"] });
        assert_eq!(standing.update([]), Changes { begun: vec![], ended: vec!["b", "c"] });
        assert!(standing.is_empty());
        assert_eq!(standing.update(Some("a")).begun, ["a"]);
    }
}
