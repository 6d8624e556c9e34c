//! What a set or a map holds, sorted.

use super::interval::{Difference, Interval};
use super::name::SetName;
use super::ports::PortElement;
use super::shared::Shared;

/// The elements of a set or a map. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// Of a list.
    Intervals(Shared<Interval>),
    /// Of port forwards.
    Ports(Shared<PortElement>),
}

impl Content {
    /// Nothing, as a set of a name holds it.
    pub fn empty(name: SetName) -> Self {
        match name.ports() {
            None => Content::Intervals(Shared::default()),
            Some(_) => Content::Ports(Shared::default()),
        }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        match self {
            Content::Intervals(elements) => elements.len(),
            Content::Ports(elements) => elements.len(),
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when both are one list in memory.
    pub fn is(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Intervals(one), Content::Intervals(other)) => one.is(other),
            (Content::Ports(one), Content::Ports(other)) => one.is(other),
            _ => false,
        }
    }

    /// What must go and what must come to make this another one.
    pub fn difference(&self, to: &Content) -> [Content; 2] {
        match (self, to) {
            _ if self.is(to) => [self, to].map(|content| content.split_at(0)[0].clone()),
            (Content::Intervals(from), Content::Intervals(to)) => {
                let Difference { removed, added } = Difference::between(from, to);
                [removed, added].map(|elements| Content::Intervals(elements.into()))
            }
            (Content::Ports(from), Content::Ports(to)) => {
                let Difference { removed, added } = Difference::between(from, to);
                [removed, added].map(|elements| Content::Ports(elements.into()))
            }
            // Sets of one name hold the same kind.
            _ => [self.clone(), to.clone()],
        }
    }

    /// The elements of both, sorted.
    pub fn joined(&self, more: &Content) -> Self {
        match (self, more) {
            (Content::Intervals(elements), Content::Intervals(more)) => Content::Intervals(elements.joined(more)),
            (Content::Ports(elements), Content::Ports(more)) => Content::Ports(elements.joined(more)),
            _ => self.clone(),
        }
    }

    /// The first elements, and the others.
    pub fn split_at(&self, count: usize) -> [Content; 2] {
        match self {
            Content::Intervals(elements) => elements.cut(count).map(Content::Intervals),
            Content::Ports(elements) => elements.cut(count).map(Content::Ports),
        }
    }
}
