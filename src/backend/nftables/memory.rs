//! What long sets hold, for the next process: it takes them over unread while nobody has committed.

use super::observe::Observation;
use super::rules::content::Content;
use super::rules::name::SetName;
use super::rules::table::{Set, Table, TableFlags};
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

const MAGIC: &str = "ip-masq-agent written 1";
/// A shorter set is read in no time.
const SHORTEST: usize = 4096;

/// The sets as they are known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Where: generations of another network namespace, or before a boot, are other ones.
    place: String,
    /// When they were.
    pub generation: u32,
    sets: Vec<Written>,
}

/// A set, and what tells its content from others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    name: SetName,
    count: usize,
    hash: u64,
}

impl Memory {
    /// Of what is known for sure; `None` where everything is read soon enough.
    pub fn of(observation: &Observation) -> Option<Self> {
        let table = observation.tables.table().filter(|_| observation.is_large())?;
        let sets: Vec<_> = table.sets.iter().filter_map(|set| Written::of(set.name, set.elements.as_ref()?)).collect();
        let place = place()?;
        (!sets.is_empty()).then_some(Memory { place, generation: observation.generation, sets })
    }

    /// What another process wrote down in this place.
    pub fn parse(text: &str) -> Option<Self> {
        Memory::parse_at(&place()?, text)
    }

    fn parse_at(here: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != MAGIC {
            return None;
        }
        let (place, generation) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?);
        if place != here {
            return None;
        }
        let written = |line: &str| {
            let mut words = line.split(' ');
            let name = SetName::parse(words.next()?)?;
            let (count, hash) = (words.next()?.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?);
            words.next().is_none().then_some(Written { name, count, hash })
        };
        let sets = lines.map(written).collect::<Option<Vec<_>>>()?;
        Some(Memory { place, generation, sets })
    }

    /// True when a set held exactly this.
    pub fn knows(&self, set: SetName, content: &Content) -> bool {
        let candidates = self.sets.iter().filter(|one| one.name == set && one.count == content.len());
        candidates.into_iter().any(|one| Written::of(set, content).as_ref() == Some(one))
    }

    /// The wanted sets that are there, as far as it is known that they hold just what is wanted.
    pub fn known(&self, wanted: &[Set]) -> Table {
        let names = wanted.iter().flat_map(|set| set.name.both().map(|name| (name, &set.elements)));
        let known = names.filter(|(name, elements)| elements.as_ref().is_some_and(|one| self.knows(*name, one)));
        let sets = known.map(|(name, elements)| Set { name, elements: elements.clone() }).collect();
        Table { sets, ..Table::empty(TableFlags::default()) }
    }
}

impl Written {
    /// `None` of a short set.
    fn of(name: SetName, content: &Content) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        (content.len() >= SHORTEST).then(|| {
            content.hash(&mut hasher);
            Written { name, count: content.len(), hash: hasher.finish() }
        })
    }
}

/// Reads a text as one that was written here, for `tests/fuzz`: what would be written again.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> Option<String> {
    Memory::parse_at(text.lines().nth(1)?, text).map(|memory| memory.to_string())
}

/// This network namespace since this boot; `None` where it has no name.
fn place() -> Option<String> {
    let namespace = fs::metadata("/proc/self/ns/net").ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {}:{}", boot.trim(), namespace.dev(), namespace.ino()))
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}\n{}\n{}", self.place, self.generation)?;
        self.sets.iter().try_for_each(|set| writeln!(f, "{} {} {:x}", set.name, set.count, set.hash))
    }
}
